"""Maps of the places that a classifier decides by: their values, their place, and no traces."""

import pickle
import random
import re
import shutil
import sys
import warnings

import numpy as np
import pytest
import torch
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skimbal import CNN2DClassifier, CNN3DClassifier, Pretrained, SliceNet
from skimbal.displays import ExplanationDisplay
from skimbal.exceptions import InputWarning, NonFinitePredictionError, ParameterError
from skimbal.explanation import METHODS, explain, find_layer
from skimbal.images import ImageFiles
from tests.networks.pretrained_data import tiny_network
from tests.plain import plain

EACH_METHOD = pytest.mark.parametrize("method", METHODS)
#: The methods whose maps have units.
SIGNED = ["integrated_gradients", "occlusion"]


def lesions(n, shape, size, seed):
    """Noise with a darker block, in every second image a brighter block too, and its mask."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, *shape)).astype(np.float32), np.arange(n) % 2
    inside = np.zeros(X.shape, dtype=bool)
    for i in range(n):
        dark, bright = ([rng.integers(0, axis - size + 1) for axis in shape] for _ in range(2))
        X[(i, *(slice(first, first + size) for first in dark))] -= 3
        if y[i]:
            place = (i, *(slice(first, first + size) for first in bright))
            inside[place] = True
            X[place] = 3 + rng.normal(size=X[place].shape)
    return X, np.array(["healthy", "lesion"])[y], inside


def fitted(X, y, classifier=CNN2DClassifier, **params):
    return plain(classifier, **{"max_epochs": 3, "random_state": 0, **params}).fit(X, y)


@pytest.fixture(scope="module")
def plane():
    X, y, _ = lesions(24, (12, 12), 4, 0)
    return fitted(X, y, module="residual", net={"module__width": 4}), X


@pytest.fixture(scope="module")
def volume():
    X, y, _ = lesions(16, (6, 8, 8), 3, 0)
    params = {"module": "residual", "max_epochs": 2, "net": {"module__width": 4}}
    return fitted(X, y, CNN3DClassifier, **params), X


@EACH_METHOD
def test_a_map_has_the_size_of_its_image(plane, volume, method):
    for clf, X in (plane, volume):
        X = X[:3]
        maps = explain(clf, X, method=method)
        assert maps.shape == X.shape
        assert maps.dtype == np.float32
        assert maps.std() > 0
        if method == "gradcam":
            assert maps.min() >= 0
        one = explain(clf, X[2:], method=method)
        assert_array_equal(one, explain(clf, X[2:], method=method))
        assert_allclose(one[0], maps[2], atol=2e-3 * np.abs(maps[2]).max())


def log_odds(clf, X):
    """Compute the log-odds of each class, exactly where a probability is near 1."""
    log_proba = clf.predict_log_proba(X).astype(np.float64)
    others = [np.delete(log_proba, k, 1) for k in range(log_proba.shape[1])]
    return np.stack(
        [log_proba[:, k] - np.logaddexp.reduce(other, 1) for k, other in enumerate(others)], 1
    )


def three_classes(**params):
    rng = np.random.default_rng(1)
    X, y = rng.normal(50, 9, size=(30, 2, 10, 10)), np.repeat(["a", "b", "c"], [15, 10, 5])
    X[y == "b", 0, :5] += 20
    X[y == "c", 1, 5:] -= 20
    net = {"module__width": 4}
    return fitted(X, y, dtype="float64", net=net, **params), X


@pytest.mark.parametrize("baseline", [None, 40.0, [30.0, 60.0]])
def test_integrated_gradients_sum_to_the_difference_from_the_baseline(baseline):
    clf, X = three_classes(logit_adjustment=1.0)
    values = X.mean((0, 2, 3)) if baseline is None else np.broadcast_to(baseline, 2)
    constant = np.broadcast_to(values[:, None, None], X[:1].shape)
    for k, label in [(0, "a"), (2, "c")]:
        maps = explain(clf, X[::12], method="integrated_gradients", target=label, baseline=baseline)
        with pytest.warns(InputWarning, match="no contrast"):
            gained = (log_odds(clf, X[::12]) - log_odds(clf, constant))[:, k]
        assert (np.abs(maps.sum((1, 2)) - gained) <= 0.05 * np.maximum(np.abs(gained), 1)).all()
    assert maps.dtype == np.float64


def test_an_occlusion_loses_the_log_odds_of_the_windows(plane):
    clf, X = plane
    maps = explain(clf, X[1:2], method="occlusion", target="lesion", window=6, baseline=0.5)
    whole = log_odds(clf, X[1:2])[0, 1]
    total, count = np.zeros((12, 12)), np.zeros((12, 12))
    for top in (0, 3, 6):
        for left in (0, 3, 6):
            covered = X[1:2].copy()
            place = (slice(top, top + 6), slice(left, left + 6))
            covered[(0, *place)] = 0.5
            total[place] += whole - log_odds(clf, covered)[0, 1]
            count[place] += 1
    assert_allclose(maps[0], total / count, atol=1e-3)


class Strided(nn.Module):
    """Three steps by convolutions that add up their window, a mean over places, two logits."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        convs = [nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False) for _ in range(3)]
        self.convs = nn.Sequential(*convs)
        self.last = nn.Linear(1, n_classes)
        with torch.no_grad():
            for conv in convs:
                conv.weight.fill_(0.1)
                conv.weight[..., 1, 1] = 1
            self.last.weight.copy_(torch.tensor([[-1.0], [1.0]]))

    def forward(self, x):
        return self.last(self.convs(x).flatten(2).mean(2))


@pytest.mark.parametrize("place", [(0, 24), (16, 8), (8, 48)])
def test_a_coarse_map_has_its_maximum_where_the_layer_looks(place):
    """Interpolation as if voxels shared the image evenly would be off by half a step, 4 pixels."""
    X = np.zeros((4, 56, 56), dtype=np.float32)
    X[(slice(None), *place)] = 1
    clf = fitted(X, [0, 1, 0, 1], module=Strided, max_epochs=0, standardize=False, augment=None)
    clf.net_.module_.to(torch.float32)
    maps = explain(clf, X[:1], target=1, layer="convs")
    assert np.unravel_index(maps[0].argmax(), maps[0].shape) == place
    assert find_layer(clf) == "convs"


def test_gradcam_is_the_weighted_sum_of_the_channels():
    X, y, _ = lesions(12, (9, 8), 3, 0)

    def network(in_channels, n_classes):
        layers = [nn.Conv2d(in_channels, 5, 3, padding=1), nn.Tanh(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(5 * 72, n_classes))

    clf = fitted(X, y, module=network)
    maps = explain(clf, X[:2], target="healthy")
    net = clf.net_.module_
    features = net.network[:2](net.prepare(torch.from_numpy(X[:2, None]))).detach()
    logits = net.network[2:](features.requires_grad_())
    weights = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), features)[0].mean((2, 3))
    expected = torch.einsum("nc,nchw->nhw", weights, features).relu()
    assert_allclose(maps, expected.detach(), atol=1e-5)


def test_a_target_is_a_label_or_a_label_for_each_row(plane):
    clf, X = plane
    X = X[:4]
    lesion, healthy = (explain(clf, X, target=label) for label in ("lesion", "healthy"))
    assert not np.allclose(lesion, healthy)
    mixed = explain(clf, X, target=["lesion", "healthy", "lesion", "healthy"])
    assert_allclose(mixed, np.where(np.arange(4)[:, None, None] % 2, healthy, lesion), atol=1e-6)
    predicted = np.where((clf.predict(X) == "lesion")[:, None, None], lesion, healthy)
    assert_allclose(explain(clf, X), predicted, atol=1e-6)


def test_labels_are_not_positions():
    X, _, _ = lesions(12, (9, 8), 3, 0)
    clf = fitted(X, [7, 3] * 6, max_epochs=1)
    assert not np.allclose(explain(clf, X[:1], target=3), explain(clf, X[:1], target=7))
    with pytest.raises(
        ParameterError, match=re.escape("target must be among the classes 3, 7; got 0.")
    ):
        explain(clf, X[:1], target=0)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (
            {"target": "tumour"},
            "target must be among the classes 'healthy', 'lesion'; got 'tumour'",
        ),
        ({"target": ["lesion"] * 2}, "target must be a label, or 3 labels"),
        ({"method": "lime"}, "method must be one of 'gradcam', 'integrated_gradients'"),
        ({"layer": "stage"}, "layer must be the name of a layer whose output has 2 spatial axes"),
        ({"layer": "classifier"}, "The last ones are"),
        ({"method": "occlusion", "window": 13}, "window must be None, an integer or 2 integers"),
        ({"method": "occlusion", "window": (3, 3, 3)}, "window must be"),
        ({"method": "occlusion", "baseline": [0, 1]}, "baseline must be None, a number or 1 num"),
        ({"method": "occlusion", "baseline": np.nan}, "baseline must be"),
        (
            {"method": "integrated_gradients", "tolerance": 1},
            "tolerance must be a number in (0, 1)",
        ),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused(plane, params, text):
    clf, X = plane
    with pytest.raises(ParameterError, match=re.escape(text)):
        explain(clf, X[:3], **params)


def test_other_estimators_are_refused(plane):
    X = plane[1]
    search = GridSearchCV(CNN2DClassifier(), {"lr": [0.1]})
    for clf, text in (
        (LogisticRegression(), "got LogisticRegression."),
        (make_pipeline(LogisticRegression()).fit(X.reshape(24, -1), [0, 1] * 12), "got Logistic"),
        (search, "Pass its estimator."),
    ):
        with pytest.raises(TypeError, match=text):
            explain(clf, X)
    with pytest.raises(NotFittedError):
        explain(CNN2DClassifier(), X)


def test_a_missing_package_is_named(plane, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=re.escape('pip install "captum')):
        explain(*plane)


def state_of(clf):
    """Return all that an explanation must leave as it is."""
    layers = [
        (layer.training, getattr(layer, "inplace", None), *map(len, hooks_of(layer)))
        for layer in clf.net_.module_.modules()
    ]
    weights = [(p.requires_grad, p.grad is None) for p in clf.net_.module_.parameters()]
    generators = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002
    return layers, weights, generators, random.getstate(), torch.is_grad_enabled()


def hooks_of(layer):
    return [hooks for name, hooks in vars(layer).items() if name.endswith("_hooks")]


class Frozen(nn.Module):
    """A frozen convolution, changes in place, random numbers, and an error when asked for."""

    fails = False

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3).requires_grad_(False)
        self.relu, self.last = nn.ReLU(inplace=True), nn.Linear(4, n_classes)

    def forward(self, x):
        if Frozen.fails and torch.is_grad_enabled():
            raise RuntimeError("The network fails.")
        y = self.relu(self.conv(x)) + 0 * torch.rand(())
        return self.last(y.flatten(2).mean(2))


@EACH_METHOD
def test_an_explanation_leaves_no_traces(method, monkeypatch):
    X, y, _ = lesions(12, (12, 12), 4, 0)
    clf = fitted(X, y, module=Frozen)
    clf.net_.module_.train()
    clf.net_.module_.network.last.eval()
    for parameter in clf.net_.module_.parameters():
        parameter.grad = None
    before = state_of(clf)
    with torch.no_grad():
        maps = explain(clf, X[:2], method=method, target="lesion")
    assert maps.std() > 0
    assert state_of(clf) == before
    if method != "occlusion":
        monkeypatch.setattr(Frozen, "fails", True)
        with pytest.raises(RuntimeError, match="The network fails"):
            explain(clf, X[:2], method=method, target="lesion")
        assert state_of(clf) == before


@pytest.mark.parametrize("module", ["residual", Frozen])
@EACH_METHOD
def test_backward_hooks_of_other_packages_change_nothing(module, method):
    """As shap.DeepExplainer leaves them after an error."""
    X, y, _ = lesions(12, (12, 12), 4, 0)
    clf = fitted(X, y, module=module)
    X = X[:1]
    expected = explain(clf, X, method=method)
    for layer in clf.net_.module_.modules():
        layer.register_full_backward_hook(lambda layer, inputs, outputs: inputs and (inputs[0],))
        if isinstance(layer, nn.ReLU):
            layer.register_full_backward_hook(lambda layer, inputs, outputs: (0 * outputs[0],))
    before = state_of(clf)
    assert_allclose(explain(clf, X, method=method), expected, atol=1e-6)
    assert state_of(clf) == before


def test_a_map_is_zero_where_the_network_sees_nothing():
    X, y, _ = lesions(12, (15, 12), 4, 0)
    clf = fitted(X, y, crop_size=(8, 9), net={"module__width": 4})
    for method in METHODS:
        maps = explain(clf, X[1:2], method=method)
        inside = np.zeros((15, 12), dtype=bool)
        inside[3:11, 1:10] = True
        assert not maps[:, ~inside].any()
        assert maps[:, inside].any()
        moved = X[1:2].copy()
        moved[:, ~inside] = 9
        assert_array_equal(explain(clf, moved, method=method), maps)


def test_rows_and_pipelines_are_explained(plane):
    X, y, _ = lesions(12, (9, 8), 3, 0)
    rows = X.reshape(12, -1)
    clf = fitted(rows, y, input_shape=(9, 8))
    expected = explain(clf, rows[:3], target="lesion")
    assert expected.shape == (3, 9, 8)
    pipe = make_pipeline(FunctionTransformer(lambda X: X * 2), "passthrough", clf)
    pipe.steps[0][1].fit(rows)
    assert_array_equal(explain(pipe, rows[:3] / 2, target="lesion"), expected)
    sampler = make_imblearn_pipeline(
        RandomOverSampler(random_state=0), plain(CNN2DClassifier, max_epochs=1)
    )
    assert explain(sampler.fit(rows, y), rows[:1]).shape == (1, 1, 72)


@pytest.mark.parametrize(
    "method", ["gradcam", *(pytest.param(name, marks=pytest.mark.slow) for name in SIGNED)]
)
def test_files_are_explained_as_their_arrays_are(method, tmp_path):
    X, y, _ = lesions(12, (12, 10), 4, 0)
    pixels = np.clip(128 + 20 * X, 0, 255).astype(np.uint8)
    paths = [tmp_path / f"{i:02}.png" for i in range(12)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    clf = fitted(ImageFiles(paths), y, max_epochs=1, net={"module__width": 4}, crop_size=(8, 8))
    expected = explain(clf, pixels, target="lesion", method=method)
    for files in (paths, ImageFiles(paths), tmp_path):
        assert_array_equal(explain(clf, files, target="lesion", method=method), expected)
    assert explain(clf, paths[3], method=method).shape == (1, 12, 10)
    display = ExplanationDisplay.from_estimator(clf, paths[:2], y=y[:2], method=method)
    assert display.maps.shape == (2, 12, 10)
    assert_array_equal(display.images[:, 0], pixels[:2])


def layer_of(module, shape=(28, 28), **params):
    X, y, _ = lesions(4, shape, 3, 0)
    classifier = CNN2DClassifier if len(shape) == 2 else CNN3DClassifier
    clf = fitted(X, y, classifier, module=module, max_epochs=0, **params)
    name = find_layer(clf)
    assert explain(clf, X[:1], target="lesion", layer=name).shape == X[:1].shape
    return name


def tiny(in_channels, n_classes):
    return tiny_network(n_classes, in_channels)


@pytest.mark.parametrize(
    ("module", "params", "expected"),
    [
        ("residual", {}, "stem.0"),
        ("small", {}, "features.1"),
        ("residual", {"net": {"module__norm": "batch"}}, "stages.1"),
        ("resnet18", {"net": {"module__norm": "batch", "module__width": 4}}, "stages.1"),
        (tiny, {}, "block"),
        (
            Pretrained(tiny_network, freeze="backbone", mean=[0.5] * 3, std=[0.5] * 3),
            {},
            "backbone.block",
        ),
    ],
)
def test_the_layer_is_the_last_that_keeps_places_apart(module, params, expected):
    assert layer_of(module, **params) == expected


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_layer_of_slices_is_explained_slice_by_slice(axis):
    X, y, _ = lesions(8, (5, 9, 10), 3, 0)
    module = SliceNet(tiny, axis=axis, neighbours=1)
    clf = fitted(X, y, CNN3DClassifier, module=module, max_epochs=1)
    assert find_layer(clf) == "backbone.block"
    dark = X[:1].copy()
    dark[(slice(None), *[slice(None)] * axis, slice(0, 2))] = 0
    one, two = (
        explain(clf, images, target="lesion", layer="backbone.norm") for images in (X[:1], dark)
    )
    same = np.isclose(one, two, rtol=0.5, atol=0.5 * one.max()).all()
    assert one.shape == X[:1].shape
    assert one.std(axis=tuple({1, 2, 3} - {1 + axis})).all(), same


class Branched(nn.Module):
    """A branch that ends after the trunk, a layer that runs twice, and two heads."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), nn.Tanh())
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.branch = nn.Conv2d(4, 4, 1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(4, n_classes)

    def forward(self, x):
        x = self.trunk(x)
        y = self.twice(self.twice(x)) + self.branch(x)
        self.unused(y)
        return self.last(y.flatten(2).mean(2))


def test_branches_and_repeated_layers_are_not_chosen():
    assert layer_of(Branched) == "trunk"
    X, y, _ = lesions(4, (9, 9), 3, 0)
    clf = fitted(X, y, module=Branched, max_epochs=0)
    with pytest.raises(ParameterError, match="layer that runs once in a prediction; got 'twice'"):
        explain(clf, X, target="lesion", layer="twice")


def instance_normalised(in_channels, n_classes):
    layers = [nn.Conv2d(in_channels, 4, 3), nn.InstanceNorm2d(4), nn.ReLU(), nn.Flatten(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, n_classes))


@pytest.mark.parametrize(
    ("module", "layer", "text"),
    [
        ("residual", "stem.2", "'stem.2' are unreliable: it is behind GroupNorm"),
        ("resnet18", None, "'stem.0' are unreliable: it is before GroupNorm"),
        (instance_normalised, None, "'0' are unreliable: it is before InstanceNorm2d"),
        ("residual", None, None),
        ("small", None, None),
        (Branched, "branch", None),
    ],
)
def test_a_normalisation_over_places_near_the_layer_is_a_warning(module, layer, text):
    X, y, _ = lesions(4, (16, 16), 3, 0)
    net = {"module__width": 4} if isinstance(module, str) else None
    clf = fitted(X, y, module=module, max_epochs=0, net=net)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explain(clf, X[:1], target="lesion", layer=layer)
        n_by_gradcam = len(caught)
        explain(clf, X[:1], target="lesion", method="occlusion", window=8)
    assert len(caught) == n_by_gradcam == (text is not None)
    for warning in caught:
        assert warning.filename == __file__
        assert text in str(warning.message)
        assert "Use method='integrated_gradients' or method='occlusion'." in str(warning.message)


class Tokens(nn.Module):
    """A vision transformer of one layer."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.patches = nn.Conv2d(in_channels, 8, 4, stride=4)
        self.mixer, self.last = (
            nn.TransformerEncoderLayer(8, 2, 8, batch_first=True),
            nn.Linear(8, n_classes),
        )

    def forward(self, x):
        return self.last(self.mixer(self.patches(x).flatten(2).mT).mean(1))


def test_a_transformer_has_no_layer():
    with pytest.raises(ParameterError, match="Tokens has no layer that keeps the places"):
        layer_of(Tokens)


class Steps(nn.Module):
    """Logits that jump, so that no gradient tells of them."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.last = nn.Linear(1, n_classes)

    def forward(self, x):
        jump = (x.flatten(1).mean(1, keepdim=True) > 1).to(x) + 0 * x.flatten(1).mean(
            1, keepdim=True
        )
        return self.last(jump) * 50


def test_an_incomplete_map_is_a_warning():
    X, y, _ = lesions(8, (9, 9), 3, 0)
    clf = fitted(X, y, module=Steps, max_epochs=0, standardize=False)
    with pytest.warns(
        UserWarning, match="map of image 0 by 'integrated_gradients' misses"
    ) as caught:
        explain(clf, X[:2] + [[[9]], [[0]]], target="lesion", method="integrated_gradients")
    assert [warning.filename for warning in caught] == [__file__]


def test_a_map_that_is_not_finite_is_refused(plane):
    clf, X = plane
    X = X[:3].copy()
    X[1] = np.sign(X[1]) * 1e38
    with pytest.raises(NonFinitePredictionError) as caught:
        explain(clf, X, target="lesion")
    assert caught.value.rows == [1]


@pytest.mark.filterwarnings("ignore:.*no contrast")  # images of one value, on purpose
@EACH_METHOD
def test_a_constant_image_has_a_finite_map(plane, method):
    clf, X = plane
    maps = explain(clf, np.full_like(X[:1], X.mean()), target="lesion", method=method)
    assert np.isfinite(maps).all()
    if method in SIGNED:
        assert np.abs(maps.sum()) < 0.05


def test_low_precision_is_explained_in_float32(plane):
    clf, X = plane
    expected = explain(clf, X[:2], target="lesion")
    clf.net_.autocast = torch.bfloat16
    try:
        assert_array_equal(explain(clf, X[:2], target="lesion"), expected)
    finally:
        clf.net_.autocast = None


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler itself
@pytest.mark.parametrize(
    "params",
    [
        {"dtype": "bfloat16"},
        # The compiler itself takes minutes. This backend compiles all but the code of the kernels.
        pytest.param(
            {"compile": True, "net": {"compile__backend": "aot_eager"}},
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler"),
            ],
        ),
    ],
)
def test_a_fit_in_low_precision_or_compiled_is_explained_as_its_copy(params):
    X, y, _ = lesions(24, (12, 12), 4, 0)
    clf = fitted(X, y, module="small", max_epochs=1, **params)
    copy = pickle.loads(pickle.dumps(clf))  # which is not compiled
    for method in METHODS:
        one, two = (explain(each, X[:2], method=method, target="lesion") for each in (clf, copy))
        assert one.dtype == np.float32
        assert np.ptp(one) > 0
        assert_allclose(one, two, atol=1e-5 * np.abs(one).max())


# Where the truth is known --------------------------------------------------------------------


def redraw(clf, seed):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for layer in clf.net_.module_.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classifier", "shape", "size", "n", "n_test"),
    [(CNN2DClassifier, (28, 28), 6, 200, 40), (CNN3DClassifier, (14, 14, 14), 5, 100, 20)],
)
def test_maps_find_planted_lesions_and_maps_of_random_weights_do_not(
    classifier, shape, size, n, n_test
):
    clf = fitted(
        *lesions(n, shape, size, 0)[:2], classifier, module="residual", max_epochs=15, batch_size=20
    )
    X, y, inside = lesions(n_test, shape, size, 1)
    right = (y == "lesion") & (clf.predict(X) == y)
    assert right.sum() >= 0.4 * n_test
    X, inside = X[right], inside[right].reshape(right.sum(), -1)

    def hits(n_rows, method):
        maps = explain(clf, X[:n_rows], method=method, target="lesion").reshape(n_rows, -1)
        return inside[np.arange(n_rows), maps.argmax(1)].mean()

    for method in METHODS:
        assert hits(len(X), method) >= 0.95, method
    found = {method: [] for method in METHODS}
    for seed in range(3):
        redraw(clf, seed)
        for method, shares in found.items():
            shares.append(hits(4, method))
    for method, shares in found.items():
        assert np.mean(shares) < 0.8, method


@pytest.mark.slow
def test_maps_of_a_network_of_slices_find_planted_lesions():
    shape, size = (10, 16, 16), 5
    X, y, _ = lesions(240, shape, size, 0)
    params = {"module": SliceNet("small"), "max_epochs": 20, "batch_size": 20}
    clf = fitted(X, y, CNN3DClassifier, **params)
    X, y, inside = lesions(24, shape, size, 1)
    right = (y == "lesion") & (clf.predict(X) == y)
    assert right.sum() >= 9
    for method in ("gradcam", "integrated_gradients"):
        maps = explain(clf, X[right], method=method, target="lesion").reshape(right.sum(), -1)
        hits = inside[right].reshape(maps.shape)[np.arange(len(maps)), maps.argmax(1)]
        assert hits.mean() >= 0.85, method
