"""Classifiers come back from a file as they were: predictions, parameters, attributes."""

import functools
import shutil
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import sklearn
import torch
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import StratifiedKFold
from skorch.callbacks import EpochScoring
from torch import nn
from torch.utils.data import DataLoader

import skimbal
from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, Pretrained, SliceNet, augmentation
from skimbal.classifiers.parameters import NotKept
from skimbal.exceptions import ModelFileError, ParameterError
from skimbal.images import ImageFiles
from skimbal.losses import FocalLoss, SoftMCCLoss
from skimbal.model_file import read_model_file, write_model_file
from skimbal.networks import BUILT_IN, NetworkSpec
from skimbal.persistence import read_card
from tests.networks.pretrained_data import NAME, tiny_network, write_repository

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 200, (24, 8, 8), dtype=np.uint8)
VOLUMES = RNG.integers(0, 200, (12, 6, 8, 8), dtype=np.uint8)
METHODS = ("predict_proba", "predict_log_proba", "decision_function", "predict", "transform")

# Two epochs of a tiny network may end in one class.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fit(n_axes=2, X=None, y=None, **params):
    kind = CNN2DClassifier if n_axes == 2 else CNN3DClassifier
    X = (IMAGES if n_axes == 2 else VOLUMES) if X is None else X
    y = np.arange(len(X)) % 3 if y is None else y
    params = {"module": "small", "max_epochs": 1, "random_state": 0, "batch_size": 8, **params}
    return kind(**params).fit(X, y), X


@pytest.fixture(scope="module")
def fitted():
    """A fitted classifier, which tests leave as it is."""
    return fit()


def rest_slow(cases, n_quick):
    """Return cases of which all but the first are slow."""
    return [
        case if i < n_quick else pytest.param(case, marks=pytest.mark.slow)
        for i, case in enumerate(cases)
    ]


def saved(clf, tmp_path, **options):
    path = tmp_path / "model.skimbal"
    clf.save(path)
    return skimbal.load(path, **options)


def assert_equal_predictions(first, second, X, methods=METHODS):
    for method in methods:
        expected, found = getattr(first, method)(X), getattr(second, method)(X)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=method)


def assert_same_layout(first, second):
    for (name, weight), (other_name, other) in zip(
        first.net_.module_.state_dict(keep_vars=True).items(),
        second.net_.module_.state_dict(keep_vars=True).items(),
        strict=True,
    ):
        assert (name, weight.stride(), weight.dtype) == (other_name, other.stride(), other.dtype)
        assert weight.requires_grad == other.requires_grad


def check(clf, X, tmp_path, **options):
    loaded = saved(clf, tmp_path, **options)
    assert_equal_predictions(clf, loaded, X)
    assert_same_layout(clf, loaded)
    assert repr(loaded.get_params()) == repr(clf.get_params())
    return loaded


def test_everything_that_a_fit_leaves_comes_back(tmp_path):
    clf, X = fit(max_epochs=2, train_split=0.3, class_weight={0: 1.0, 1: 2.0, 2: 0.5})
    loaded = check(clf, X, tmp_path)
    for name in ("classes_", "input_shape_", "n_features_in_", "input_", "class_prior_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(clf, name))
    assert (loaded.n_epochs_, loaded.n_steps_) == (2, clf.n_steps_)
    assert (loaded.lr_, loaded.batch_size_) == (clf.lr_, clf.batch_size_)
    for name in ("train_loss", "valid_loss", "dur", "event_lr"):
        assert loaded.history_[:, name] == clf.history_[:, name]
    assert loaded.get_feature_names_out().tolist() == clf.get_feature_names_out().tolist()
    assert {*vars(clf)} - {*vars(loaded)} == set()


@pytest.mark.parametrize(
    ("n_axes", "module", "net"),
    [
        (2, "small", {}),
        (2, "residual", {"module__width": 4}),
        (3, "small", {}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (2, "resnet18", {"module__width": 4}),
                (2, "resnet34", {"module__width": 4, "module__norm": "batch"}),
                (2, "resnet18", {"module__width": 4, "module__norm": "batch"}),
                (3, "residual", {"module__width": 4}),
                (3, "resnet18", {"module__width": 4}),
                (3, "slices", {"module__pooling": "max"}),
            )
        ),
    ],
)
def test_built_in_networks(n_axes, module, net, tmp_path):
    clf, X = fit(n_axes, module=module, net=net)
    check(clf, X, tmp_path)


@pytest.mark.parametrize(
    "pooling",
    rest_slow(["attention", "max", "mean", "lstm"], 1),
)
def test_networks_of_slices(pooling, tmp_path):
    module = SliceNet(pooling=pooling, neighbours=1, options={"width": 4})
    clf, X = fit(3, module=module)
    loaded = check(clf, X, tmp_path)
    if pooling != "lstm":
        assert_equal_predictions(clf, loaded, X, ["slice_weights"])


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["benign", "Ä|\n", "malignant"]),
        np.array([1000, -1, 2**62]),
        np.array([True, False]),
        np.array([0.0, 1.0, 7.0]),
        np.array([3, 4], dtype=np.int8),
        np.array(["a", "b", "c"], dtype="<U20"),
        np.array(["a", "b", "c"], dtype=object),
    ],
    ids=["text", "ints", "bools", "floats", "int8", "wide", "objects"],
)
def test_labels_keep_their_dtype(labels, tmp_path):
    clf, X = fit(y=labels[np.arange(len(IMAGES)) % len(labels)])
    loaded = saved(clf, tmp_path)
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert loaded.predict(X).tolist() == clf.predict(X).tolist()


@pytest.mark.parametrize(
    "params",
    rest_slow(
        [
            {"augment": [augmentation.RandomFlip(axes=[-1]), "paper"], "crop_size": 6},
            {"crop_size": (6, 7), "n_tta": 2, "augment": None},
            {"logit_adjustment": 0.7, "sampler": "uniform"},
            {"dtype": "float16"},
            {"augment": "flip"},
            {"augment": "light", "n_tta": 3},
            {"dtype": "float64"},
            {"dtype": "bfloat16"},
            {"standardize": False},
            {"feature_layer": "0"},
            {"optimizer": "lbfgs", "augment": None},
            {"loss": LossMix(ce=1, mcc=0.5, statistics="moving")},
            {"loss": FocalLoss(3.0), "sampler": RandomOverSampler(random_state=1)},
            {
                "loss": SoftMCCLoss,
                "sampler": RandomUnderSampler(sampling_strategy={0: 3, 1: 3, 2: 3}),
            },
            {"loss": "ldam", "optimizer": torch.optim.SGD, "lr": 0.01, "lr_schedule": None},
            {"net": {"optimizer__weight_decay": 1e-3, "module__norm": "batch"}, "verbose": False},
            {"net": {"optimizer__param_groups": [("network.*", {"lr": 1e-3})]}},
            {"random_state": np.int64(3), "batch_size": np.int32(8), "lr": np.float32(1e-3)},
            {"max_epochs": 0},
        ],
        4,
    ),
    ids=lambda params: ",".join(params),
)
@pytest.mark.filterwarnings("ignore:loss=:skimbal.CollapseWarning")
@pytest.mark.filterwarnings("ignore:The classifier:UserWarning")
def test_parameters_come_back(params, tmp_path):
    if params.get("feature_layer"):
        params["feature_layer"] = "features.0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clf, X = fit(**params)
        check(clf, X, tmp_path)


# Values that a file cannot hold -------------------------------------------------------------------


class OwnLoss(nn.Module):
    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits, target)


def own_change(images):
    return images.flip(2)


@pytest.mark.parametrize(
    "case",
    rest_slow(
        [
            ("loss", OwnLoss(), "OwnLoss"),
            ("loss", nn.CrossEntropyLoss(label_smoothing=0.1), "CrossEntropyLoss"),
            ("callbacks", [EpochScoring("accuracy")], "EpochScoring"),
            ("augment", own_change, "own_change"),
            ("augment", [own_change, "flip"], "own_change"),
            ("train_split", StratifiedKFold(3), "StratifiedKFold"),
            ("random_state", np.random.RandomState(0), "RandomState"),
            ("net", {"iterator_train__num_workers": 0, "optimizer__own": own_change}, "own_change"),
            ("optimizer", type("OwnAdam", (torch.optim.Adam,), {}), "OwnAdam"),
        ],
        2,
    ),
)
def test_a_value_that_is_not_kept_is_named_and_asked_for(case, tmp_path):
    name, value, words = case
    if name == "net":
        clf, X = fit()
        clf.set_params(net=value)
    else:
        clf, X = fit(**{name: value})
    path = tmp_path / "model.skimbal"
    parameter = "net__optimizer__own" if name == "net" else name
    with pytest.warns(UserWarning, match=f"does not hold {parameter} .*{words}"):
        clf.save(path)
    loaded = skimbal.load(path)
    assert f"- {parameter} (" in read_card(path)
    assert_equal_predictions(clf, loaded, X)
    y = np.arange(len(X)) % 3
    before = loaded.predict_proba(X)
    for train in (loaded.fit, loaded.partial_fit):
        with pytest.raises(ParameterError, match=f"^{parameter} must be .*set anew.*{words}"):
            train(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), before)
    with pytest.warns(UserWarning, match=words):
        loaded.save(path)  # once more
    assert isinstance(skimbal.load(path).get_params().get(parameter), NotKept)
    loaded.set_params(**{name: CNN2DClassifier().get_params()[name]}).fit(X, y)


@pytest.mark.parametrize("name", ["sampler", "optimizer"])
def test_partial_fit_does_not_go_on_with_something_else(name, tmp_path):
    class OwnSampler(RandomOverSampler):
        pass

    value = {"sampler": OwnSampler(), "optimizer": type("Own", (torch.optim.Adam,), {})}[name]
    clf, X = fit(**{name: value})
    y = np.arange(len(X)) % 3
    path = tmp_path / "model.skimbal"
    with pytest.warns(UserWarning, match=name):
        clf.save(path)
    for loaded in (skimbal.load(path), skimbal.load(path)):
        loaded.set_params(**{name: value})
        with pytest.raises(ParameterError, match=f"^{name} must be .*in the file.*warm_start=True"):
            loaded.partial_fit(X, y)
        loaded.set_params(warm_start=True).fit(X, y).partial_fit(X, y)


@pytest.mark.slow
def test_passes_by_a_function_that_is_not_kept_are_refused(tmp_path):
    clf, X = fit(augment=["flip", own_change], n_tta=2)
    path = tmp_path / "model.skimbal"
    for classifier in (clf, None):
        with pytest.warns(UserWarning, match="augment.* Predictions need n_tta='auto' or 1 once"):
            (classifier or skimbal.load(path)).save(path)
        loaded = skimbal.load(path)
        words = "n_tta must be 'auto', 'flips' or 1 for this loaded.*recipes._Function"
        with pytest.raises(ParameterError, match=words):
            loaded.predict(X)
    assert_equal_predictions(clf.set_params(n_tta="flips"), loaded.set_params(n_tta="flips"), X)


@pytest.mark.slow
def test_an_option_of_the_network_that_is_not_kept_is_refused(tmp_path):
    def factory(in_channels, n_classes, act):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), act(), nn.Linear(4, n_classes))

    clf, X = fit(module=factory, net={"module__act": nn.Tanh})
    with pytest.raises(ParameterError, match=r"^net must be .*functools\.partial"):
        clf.save(tmp_path / "model.skimbal")
    made = functools.partial(factory, act=nn.Tanh)
    check(fit(module=made)[0], X, tmp_path, module=made)


# Networks ----------------------------------------------------------------------------------------


def own_network(in_channels, n_classes, width=4, act=nn.ReLU):
    conv = nn.Conv2d(in_channels, width, 3, padding=1)
    return nn.Sequential(conv, act(), nn.Flatten(), nn.Linear(width * 64, n_classes))


class OwnSpec(NetworkSpec):
    needs_pixel_range = True

    def __init__(self, width=4):
        self.width = width

    def build(self, in_channels, n_classes, spatial_shape, pixels=None):
        network = own_network(in_channels, n_classes, self.width)
        network.insert(0, Shift(pixels.high))
        return network


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x - self.by


@pytest.mark.parametrize("module", rest_slow([own_network, OwnSpec(3), SliceNet(own_network)], 2))
def test_a_network_of_the_user_is_passed_again(module, tmp_path):
    if isinstance(module, SliceNet):
        clf, X = fit(3, X=VOLUMES[:, :, :8, :8], module=module)
    else:
        clf, X = fit(module=module, standardize=False)
    loaded = check(clf, X, tmp_path, module=module)
    assert loaded.module is module
    path = tmp_path / "model.skimbal"
    name = "own_network" if module is own_network else type(module).__name__
    with pytest.raises(ParameterError, match=f"^module must be the network .*{name} of the fit"):
        skimbal.load(path)
    assert name in read_card(path)
    loaded.save(path)
    check(loaded, X, tmp_path, module=module)


def test_another_network_is_refused(tmp_path):
    clf, _ = fit(module=own_network)
    path = tmp_path / "model.skimbal"
    clf.save(path)
    wider = functools.partial(own_network, width=5)
    with pytest.raises(ParameterError, match=r"(?s)^module must be the network of the fit.*shape"):
        skimbal.load(path, module=wider)
    with pytest.raises(ParameterError, match=r"(?s)module.*missing \(network\.features"):
        skimbal.load(path, module="small")
    with pytest.raises(
        ParameterError, match=r"(?s)^module must be.*not be made: ZeroDivisionError"
    ):
        skimbal.load(path, module=lambda in_channels, n_classes: 1 / 0)
    # The same weights, and other logits.
    smooth = functools.partial(own_network, act=nn.Tanh)
    with pytest.raises(ParameterError, match=r"(?s)module.*weights fit, and .* other logits"):
        skimbal.load(path, module=smooth)


@pytest.mark.slow
def test_a_network_that_draws_random_numbers_has_no_trial(tmp_path):
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    def noisy(in_channels, n_classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, n_classes), Noise())

    clf, _ = fit(module=noisy)
    saved(clf, tmp_path, module=noisy)


def test_a_network_that_is_not_needed_is_refused(fitted, tmp_path):
    clf, _ = fitted
    clf.save(tmp_path / "model.skimbal")
    with pytest.raises(ParameterError, match=r"^module must be None for this file"):
        skimbal.load(tmp_path / "model.skimbal", module=own_network)


def test_a_row_of_the_table_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(BUILT_IN, "mine", BUILT_IN["small"])
    clf, X = fit(module="mine")
    check(clf, X, tmp_path)
    monkeypatch.delitem(BUILT_IN, "mine")
    with pytest.raises(ModelFileError, match="BUILT_IN has no network of the name 'mine'"):
        skimbal.load(tmp_path / "model.skimbal")


@pytest.mark.slow
def test_shared_weights_and_other_buffers(tmp_path):
    class Shared(nn.Module):
        def __init__(self, in_channels, n_classes):
            super().__init__()
            self.one = nn.Linear(64, 64)
            self.other = self.one
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf] * 32))
            self.register_buffer("hidden", torch.ones(64), persistent=False)
            self.last = nn.Linear(64, n_classes)

        def forward(self, x):
            x = self.one(x.flatten(1)) + self.mask.exp() * self.hidden
            return self.last(self.other(x))

    clf, X = fit(module=Shared)
    loaded = check(clf, X, tmp_path, module=Shared)
    network = loaded.net_.module_.network
    assert network.one is network.other


def test_layers_as_shap_leaves_them_are_no_weights(tmp_path):
    """shap.DeepExplainer leaves inputs and outputs of activations inside of blocks."""
    clf, X = fit(max_epochs=0)
    before = clf.predict_proba(X)
    modules = list(clf.net_.module_.modules())
    layers = [layer for layer in modules if type(layer).__module__.endswith(".activation")]
    assert layers
    for layer in layers:
        layer.x, layer.y = (nn.Parameter(torch.ones(2, 3)) for _ in range(2))
    np.testing.assert_array_equal(saved(clf, tmp_path).predict_proba(X), before)


def test_a_state_of_objects_is_refused(tmp_path):
    class Stateful(nn.Sequential):
        def get_extra_state(self):
            return {"a": object()}

        def set_extra_state(self, state):
            pass

    def factory(in_channels, n_classes):
        return Stateful(nn.Flatten(), nn.Linear(64, n_classes))

    clf, _ = fit(module=factory)
    with pytest.raises(TypeError, match="extra_state"):
        clf.save(tmp_path / "model.skimbal")


def refuse_to_download(*args, **kwargs):
    raise AssertionError("nothing is downloaded")


@pytest.mark.parametrize("n_axes", rest_slow([3, 2], 1))
def test_pretrained_networks_load_without_their_weights(n_axes, tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    network = timm.create_model(NAME, pretrained=False)
    folder = tmp_path / "repository"
    write_repository(folder, network, mean=[0.1, 0.2, 0.3])
    spec = Pretrained(folder, freeze="backbone", image_size=(9, 12))
    module = spec if n_axes == 2 else SliceNet(spec, adapter=2, neighbours=1)
    clf, X = fit(n_axes, module=module, augment=None)
    path = tmp_path / "model.skimbal"
    clf.save(path)
    # On another machine neither the folder nor a network is there.
    shutil.rmtree(folder)
    monkeypatch.setattr("socket.socket.connect", refuse_to_download)
    loaded = skimbal.load(path)
    assert_equal_predictions(clf, loaded, X)
    assert_same_layout(clf, loaded)
    with pytest.raises(ModelFileError, match="architecture must be a name of timm"):
        change_and_load(path, lambda m: m["network"]["facts"].update(architecture="hub:a/b"))
    found = loaded.module if n_axes == 2 else loaded.module.backbone
    assert (found.source, found.image_size, found.freeze) == (folder, (9, 12), "backbone")
    with pytest.raises(ParameterError, match="source must be"):
        loaded.fit(X, np.arange(len(X)) % 3)


@pytest.mark.slow
def test_a_folder_of_features_is_not_written_to_after_loading(tmp_path):
    timm = pytest.importorskip("timm")
    write_repository(tmp_path / "repository", timm.create_model(NAME, pretrained=False))
    cache = tmp_path / "features"
    spec = Pretrained(tmp_path / "repository", freeze="backbone", features_cache=cache)
    clf, X = fit(module=spec, augment=None)
    clf.save(tmp_path / "model.skimbal")
    shutil.rmtree(cache)
    loaded = skimbal.load(tmp_path / "model.skimbal")
    np.testing.assert_allclose(loaded.transform(X), clf.transform(X), rtol=1e-5, atol=1e-6)
    shutil.rmtree(cache)
    loaded.transform(X)
    assert not cache.exists()
    assert loaded.module.features_cache == cache


@pytest.mark.parametrize("name", rest_slow(["iterator_valid", "iterator_train"], 0))
def test_iterators(name, tmp_path):
    class OwnLoader(DataLoader):
        pass

    for loader in (DataLoader, OwnLoader):
        clf, X = fit(net={name: loader, f"{name}__batch_size": 5, f"{name}__num_workers": 0})
        path = tmp_path / "model.skimbal"
        is_kept = loader is DataLoader
        with nullcontext() if is_kept else pytest.warns(UserWarning, match=f"net__{name} .*Own"):
            clf.save(path)
        loaded = skimbal.load(path)
        np.testing.assert_allclose(loaded.predict_proba(X), clf.predict_proba(X), rtol=1e-5)
        assert is_kept == (loaded.net == clf.net)


@pytest.mark.slow
def test_weights_that_training_unfroze_stay_so(tmp_path):
    spec = Pretrained(tiny_network, freeze="backbone", unfreeze_at=1)
    clf, X = fit(module=spec, max_epochs=2, augment=None)
    assert all(weight.requires_grad for weight in clf.net_.module_.parameters())
    check(clf, X, tmp_path, module=spec)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "architecture"),
    [("weights.pt", f"timm/{NAME}"), (f"timm/{NAME}", None)],
)
def test_sources_of_pretrained_networks(source, architecture, tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    network = timm.create_model(NAME, pretrained=False)
    if architecture:
        source = tmp_path / source
        torch.save(network.state_dict(), source)
    else:
        made = timm.create_model
        monkeypatch.setattr(timm, "list_pretrained", lambda: [NAME])
        monkeypatch.setattr(
            timm, "create_model", lambda name, pretrained, **options: made(name, **options)
        )
    clf, X = fit(module=Pretrained(source, architecture=architecture, image_size=16), augment=None)
    clf.save(tmp_path / "model.skimbal")
    monkeypatch.undo()
    if architecture:
        source.unlink()
    assert_equal_predictions(clf, skimbal.load(tmp_path / "model.skimbal"), X)


# Refusals, devices, versions ---------------------------------------------------------------------


def test_what_cannot_be_saved_is_refused(tmp_path):
    path = tmp_path / "model.skimbal"
    with pytest.raises(NotFittedError, match="CNN2DClassifier"):
        CNN2DClassifier().save(path)
    clf, _ = fit()

    class Own(CNN2DClassifier):
        pass

    own = Own(**clf.get_params(deep=False)).fit(IMAGES, np.arange(len(IMAGES)) % 3)
    with pytest.raises(TypeError, match="got a Own, whose code is not in the file"):
        own.save(path)
    for options in (
        {"scores": [0.5]},
        {"scores": {"auc": None}},
        {"scores": {1: 0.5}},
        {"description": 3},
        {"license": b"MIT"},
    ):
        name = next(iter(options))
        with pytest.raises(ParameterError, match=f"^{name} must be"):
            clf.save(path, **options)
    with torch.no_grad():
        next(clf.net_.module_.parameters())[0] = torch.nan
    with pytest.raises(ValueError, match="weights that are finite"):
        clf.save(path)
    assert not path.exists()


def test_the_card_is_for_people(tmp_path):
    y = np.array(["a|b", "c\nd", "e"])[np.arange(24) % 3]
    clf, _ = fit(y=y, augment="flip", X=IMAGES)
    path = tmp_path / "model.skimbal"
    scores = {"balanced accuracy": 0.123456789, "AUC": "0.9 (0.8 to 1.0)", "none": float("nan")}
    clf.save(path, scores=scores, description="For tests.", license="MIT")
    card = read_card(path)
    assert {"# Model card: CNN2DClassifier", "For tests.", "License: MIT"} <= set(card.split("\n"))
    for line in (
        "| a\\|b | 8 |",
        "| c d | 8 |",
        "- balanced accuracy: 0.123457",
        "- AUC: 0.9 (0.8 to 1.0)",
        "- none: nan",
        "- loss: ce",
        "- sampler: balanced",
        "- random_state: 0",
        "- class shares that they refer to: a\\|b 33.3 %, c d 33.3 %, e 33.3 %",
        f"- torch: {torch.__version__}",
        "- shape of an image: (1, 8, 8) (c, h, w)",
    ):
        assert line in card.split("\n")
    assert "Not in the file" not in card


@pytest.mark.parametrize(
    ("saved_device", "n_cuda", "device", "expected"),
    [("cuda:1", 0, None, "cpu"), ("mps:9", 0, None, "cpu"), ("cuda:3", 0, "cpu", "cpu")],
)
def test_a_model_of_another_device_loads(saved_device, n_cuda, device, expected, fitted, tmp_path):
    clf, X = fitted
    path = tmp_path / "model.skimbal"
    clf.save(path)
    change(path, lambda model: model["net"].update(device=saved_device))
    change(path, lambda model: model["parameters"].update(device=saved_device))
    if device is None:
        with pytest.warns(UserWarning, match=f"device='{saved_device}'.* on '{expected}'"):
            loaded = skimbal.load(path)
    else:
        loaded = skimbal.load(path, device=device)
    assert (loaded.device, loaded.net_.device) == (expected, expected)
    assert_equal_predictions(clf, loaded, X)
    loaded.fit(X, np.arange(len(X)) % 3)
    with pytest.raises(ParameterError, match=r"^device must be"):
        skimbal.load(path, device="cuda:17")


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "auto"])
def test_a_model_goes_to_any_device(device, tmp_path):
    for n_axes in (2, 3):
        clf, X = fit(n_axes, device="cuda")
        loaded = saved(clf, tmp_path, device=device)
        assert (
            torch.device(loaded.net_.device).type
            == torch.device("cuda" if device == "auto" else device).type
        )
        np.testing.assert_allclose(loaded.predict_proba(X), clf.predict_proba(X), atol=1e-3)
        loaded.fit(X, np.arange(len(X)) % 3)


def change_and_load(path, function):
    change(path, function)
    return skimbal.load(path)


def change(path, function):
    """Write a file with another description, as another version would write it."""
    file = read_model_file(path)
    function(file.model)
    write_model_file(path, file)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda model: model.update({"class": "CNN4DClassifier"}), "holds a CNN4DClassifier"),
        (lambda model: model.update({"class": ["a"]}), "which this version"),
        (lambda model: model["parameters"].update(flux=1), "flux"),
        (lambda model: model["parameters"].update(module="cnn9000"), None),
        (
            lambda model: model["blueprint"].update(module="cnn9000"),
            "no network .*'cnn9000': 'small'",
        ),
        (lambda model: model["blueprint"].update(module=["small"]), "no network"),
        (lambda model: model["blueprint"].update(knob=1), "knob"),
        (lambda model: model["blueprint"].update(dtype="float7"), "float7"),
        (lambda model: model["parameters"].update(loss={"$other": ["object", "os", {}]}), "'os'"),
        (lambda model: model["parameters"].update(loss={"$other": ["call", "os"]}), "no call"),
        (lambda model: model["parameters"].update(loss={"$set": [1]}), "set"),
        (lambda model: model["parameters"].update(net={"module__width": 10**5}), "shape"),
        (lambda model: model["network"].update(trial=[9.0, 0.0, 0.0]), "other logits"),
        (lambda model: model.pop("blueprint"), "blueprint"),
        (lambda model: model["attributes"]["input"].pop("shape"), "shape"),
    ],
)
def test_contents_of_another_version_are_named(function, words, fitted, tmp_path):
    clf, _ = fitted
    path = tmp_path / "model.skimbal"
    clf.save(path)
    change(path, function)
    if words is None:  # the parameter of a later fit
        assert skimbal.load(path).module == "cnn9000"
        return
    with pytest.raises(ModelFileError, match=f"(?s){words}") as got:
        skimbal.load(path)
    assert "written by skimbal 0" in str(got.value)
    assert got.value.path == str(path)


def test_another_major_version_of_torch_is_a_warning(fitted, tmp_path):
    clf, X = fitted
    path = tmp_path / "model.skimbal"
    clf.save(path)
    change(path, lambda model: model["versions"].update(torch="1.13.1", numpy="1.0", skorch="0.1"))
    with pytest.warns(UserWarning, match=r"saved with torch 1\.13\.1 \(here 2"):
        loaded = skimbal.load(path)
    assert_equal_predictions(clf, loaded, X)


# After loading -----------------------------------------------------------------------------------


def test_a_warm_start_after_loading_is_the_warm_start_before(tmp_path):
    clf, X = fit(warm_start=True)
    y = np.arange(len(X)) % 3
    loaded = saved(clf, tmp_path)
    clf.fit(X, y)
    loaded.fit(X, y)
    assert_equal_predictions(clf, loaded, X)
    assert loaded.n_epochs_ == clf.n_epochs_


def test_partial_fit_goes_on_from_the_weights(tmp_path):
    clf = CNN2DClassifier(module="small", random_state=0)
    y = np.arange(len(IMAGES)) % 3
    clf.partial_fit(IMAGES, y, classes=[0, 1, 2, 3])
    loaded = saved(clf, tmp_path)
    loaded.partial_fit(IMAGES * 2, y)
    assert (loaded.n_epochs_, loaded.class_prior_.tolist()) == (2, clf.class_prior_.tolist())
    first = dict(clf.net_.module_.named_buffers())["mean"]
    assert torch.equal(dict(loaded.net_.module_.named_buffers())["mean"], first)
    with pytest.raises(ParameterError, match=r"^classes must be"):
        loaded.partial_fit(IMAGES, y, classes=[0, 1])


@pytest.mark.slow
def test_settings_of_scikit_learn_come_back(tmp_path):
    pd = pytest.importorskip("pandas")
    columns = [f"pixel{i}" for i in range(64)]
    frame = pd.DataFrame(IMAGES.reshape(-1, 64), columns=columns)
    clf, _ = fit(X=frame, input_shape=(8, 8))
    clf.set_output(transform="pandas")
    with sklearn.config_context(enable_metadata_routing=True):
        clf.set_fit_request(sample_weight=True, groups=False)
    loaded = saved(clf, tmp_path)
    assert loaded.feature_names_in_.tolist() == columns
    pd.testing.assert_frame_equal(loaded.transform(frame), clf.transform(frame))
    with sklearn.config_context(enable_metadata_routing=True):
        found, expected = loaded.get_metadata_routing(), clf.get_metadata_routing()
    assert found.fit.requests == expected.fit.requests == {"groups": False, "sample_weight": True}
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame.rename(columns={"pixel0": "a"}))


def test_files_are_read_as_in_the_fit(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    paths = []
    for i, pixels in enumerate(IMAGES):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).resize((12, 20)).save(paths[-1])
    clf, _ = fit(X=ImageFiles(paths, size=(9, 8), resize="crop"))
    loaded = saved(clf, tmp_path)
    assert loaded.input_ == clf.input_
    assert_equal_predictions(clf, loaded, paths[:5])


def test_an_interrupted_or_unfinished_history_comes_back(tmp_path):
    clf, _ = fit()
    clf.net_.history.record("mine", np.float32(0.1))
    clf.net_.history.record("tensor", torch.tensor([1.0, torch.nan]))
    clf.net_.history.record("object", own_change)
    clf.net_.history.record("nan", np.nan)
    loaded = saved(clf, tmp_path)
    row = loaded.history_[-1]
    assert row["mine"] == np.float32(0.1)
    assert np.array_equal(row["tensor"], [1.0, np.nan], equal_nan=True)
    assert "own_change" in row["object"]
    assert np.isnan(row["nan"])
    assert row["batches"] == []


def test_global_state_is_as_before(fitted, tmp_path):
    clf, _ = fitted
    path = tmp_path / "model.skimbal"
    state = np.random.get_state
    before = torch.get_rng_state(), state()[1].copy(), torch.is_grad_enabled()
    clf.save(path)
    with torch.inference_mode():
        loaded = skimbal.load(path)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(state()[1], before[1])
    assert torch.is_grad_enabled() == before[2]
    assert not any(weight.is_inference() for weight in loaded.net_.module_.parameters())
    loaded.partial_fit(IMAGES, np.arange(len(IMAGES)) % 3)
