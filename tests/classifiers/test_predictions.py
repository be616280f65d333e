"""The prediction of an image depends on this image alone, and logarithms do not underflow."""

import functools
import pickle

import numpy as np
import pytest
import torch
from imblearn.ensemble import BalancedBaggingClassifier, EasyEnsembleClassifier
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy.special import log_softmax
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import DataLoader

from skimbal import CNN2DClassifier, CNN3DClassifier, NDSampler
from skimbal.augmentation import PerSample, RandomFlip
from skimbal.images import ImageFiles
from tests.augmentation.data import OF_SINGLE_IMAGES
from tests.cases import quick_and_all
from tests.classifiers.data import BOTH, CLASSIFIERS, NDIdentity, images, noise, small, tiny

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:The network {words}:sklearn.exceptions.ConvergenceWarning")
    for words in ("predicted one class", "has learned nothing")
]


# Test-time augmentation ------------------------------------------------------------------------


def add_noise(images):
    return images + torch.randn_like(images)


def mix_with_neighbour(images):
    """A change that looks at the other images of its batch."""
    return (images + images.flip(0)) / 2 if len(images) > 1 else images


class NumpyNoise(nn.Module):
    """A module that draws from the generator of numpy."""

    def forward(self, images):
        draw = np.random.normal(size=len(images))  # noqa: NPY002
        return images + torch.from_numpy(draw).to(images)[(..., *[None] * (images.ndim - 1))]


class Dropped(nn.Module):
    """A module of torch that draws, within a sequence."""

    def __init__(self):
        super().__init__()
        self.steps = nn.Sequential(nn.Dropout(0.3), RandomFlip())

    def forward(self, images):
        return self.steps(images)


OWN = {
    "function": add_noise,
    "neighbours": mix_with_neighbour,
    "numpy": NumpyNoise(),
    "dropout": Dropped(),
    "per sample": PerSample(functools.partial(torch.add, other=1)),
    "sequence": nn.Sequential(RandomFlip(), nn.Dropout(0.3)),
    "list": ["light", add_noise, "flip"],
}
CHANGES = {
    **{name: {"augment": name} for name in OF_SINGLE_IMAGES},
    **{name: {"augment": step} for name, step in OWN.items()},
    "crop": {"augment": None, "crop_size": 5},
    "crop and more": {"augment": "strong", "crop_size": 5},
}
PASSES = [3, 8, "flips"]
DTYPES = ["float32", "float64", "float16", "bfloat16"]
ITERATORS = [None, DataLoader]


def possible(name, cls, passes, dtype, iterator):
    mirrors = {"flip", "symmetries", "paper", "sequence", "list"}
    return (passes != "flips" or name in mirrors) and (
        dtype != "bfloat16" or cls is CNN2DClassifier
    )


MATRIX = [
    case
    for name in CHANGES
    for cls in CLASSIFIERS
    for passes in PASSES
    for dtype in DTYPES
    for iterator in ITERATORS
    if possible(*(case := (name, cls, passes, dtype, iterator)))
]
QUICK = [
    case
    for case in MATRIX
    if case[1:] == (CNN2DClassifier, 3, "float32", None)
    or (case[0] == "flip" and case[1] is CNN2DClassifier and case[2] != 8)
    or (case[0] in ("flip", "strong", "crop") and case[3:] == ("float32", None))
]


@pytest.mark.parametrize(
    ("change", "cls", "passes", "dtype", "iterator"), quick_and_all(QUICK, MATRIX)
)
def test_neighbours_order_and_blocks_change_no_prediction(
    change, cls, passes, dtype, iterator, monkeypatch
):
    n = 23
    X, y = noise(cls, n=n, size=8), np.arange(n) % 3
    foreign = {"iterator_valid": iterator, "iterator_valid__batch_size": 7}
    net = {"module__width": 4, **({} if iterator is None else foreign)}
    clf = tiny(cls, n_tta=passes, dtype=dtype, net=net, **CHANGES[change]).fit(X, y)
    check_alone(clf, X, 1e-6 if dtype in ("float32", "float64") else 1e-2, monkeypatch)


def check_alone(clf, X, tolerance, monkeypatch):
    """Compare the predictions of all rows with predictions of other orders, subsets and blocks."""
    whole = clf.predict_proba(X)
    n = len(X)
    order = np.random.default_rng(1).permutation(n)
    near = functools.partial(assert_allclose, rtol=0, atol=tolerance)
    near(clf.predict_proba(X[order]), whole[order])
    near(np.concatenate([clf.predict_proba(X[i : i + 1]) for i in range(n)]), whole)
    near(clf.predict_proba(X[5:9]), whole[5:9])
    monkeypatch.setattr("skimbal.training.prediction.block_size", lambda net: 4)
    near(clf.predict_proba(X), whole)
    near(clf.predict_proba(X[order]), whole[order])


def test_draws_of_each_row_would_be_found(monkeypatch):
    X, y = images(n=23)
    clf = tiny(augment="flip", n_tta=3).fit(X, y)
    monkeypatch.setattr("skimbal.training.prediction.alike", lambda step, images: step(images))
    with pytest.raises(AssertionError):
        check_alone(clf, X, 1e-6, monkeypatch)


class PrivateNoise:
    """A callable with a generator of its own."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, images):
        return images + torch.randn(images.shape, generator=self.generator).to(images)


def test_draws_that_cannot_be_repeated_are_refused():
    X, y = images()
    clf = tiny(augment=PrivateNoise(), n_tta=2)
    words = "augment must make the same images? from the same state of the generators of torch"
    with pytest.raises(ValueError, match=f"{words}.* n_tta=2; .* set n_tta=1"):
        clf.fit(X, y)
    clf.set_params(n_tta=1).fit(X, y).set_params(n_tta=2)
    with pytest.raises(ValueError, match=f"{words}.* set n_tta=1"):
        clf.predict(X)


@pytest.mark.parametrize("passes", [4, "flips"])
def test_files_are_predicted_as_if_alone(passes, tmp_path, monkeypatch):
    X = np.random.default_rng(0).integers(0, 255, (20, 8, 8)).astype(np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    files = ImageFiles(paths)
    net = {"module__width": 4, "iterator_valid__num_workers": 3}
    clf = tiny(augment=["paper", add_noise], n_tta=passes, net=net).fit(files, np.arange(20) % 2)
    check_alone(clf, files, 1e-6, monkeypatch)
    assert_allclose(clf.predict_proba(X), clf.predict_proba(files), rtol=0, atol=1e-6)


def test_many_rows_in_one_call_are_predicted_as_in_several():
    # Many rows pay for folding the normalisation, few do not.
    X, y = images(n=40)
    net = {"module__width": 8, "module__norm": "batch"}
    clf = small(augment="paper", n_tta=4, net=net).fit(X, y)
    many = clf.predict_proba(np.tile(X, (200, 1, 1)))
    assert_allclose(many[:40], clf.predict_proba(X), rtol=0, atol=1e-5)


@BOTH
def test_passes_differ_among_themselves(classifier):
    X = noise(classifier, size=8)
    clf = tiny(classifier, augment="flip", n_tta=1, net=None).fit(X, np.arange(len(X)) % 2)
    once = clf.predict_proba(X)
    assert np.abs(clf.set_params(n_tta=6).predict_proba(X) - once).max() > 1e-4


# Logarithms ------------------------------------------------------------------------------------


class Sure(nn.Module):
    """A network whose logits are far apart."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("factor", 400.0 * torch.arange(n_classes))

    def forward(self, X):
        return X.flatten(1).mean(1, keepdim=True) * self.factor + 0 * self.weight


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("tau", [0, 1])
@pytest.mark.parametrize("passes", [1, 2])
def test_logarithms_are_exact_where_probabilities_are_zero(passes, tau, n_classes):
    X, y = images(n_classes=n_classes)
    params = {"augment": RandomFlip(p=1), "n_tta": passes, "standardize": False, "net": None}
    clf = small(module=Sure, logit_adjustment=tau, **params).fit(X, y)
    logits = X.mean((1, 2), keepdims=False)[:, None].astype(np.float64)
    logits = logits * 400 * np.arange(n_classes) - tau * np.log(clf.class_prior_)
    found = clf.predict_log_proba(X)
    assert_allclose(found, log_softmax(logits, 1), rtol=1e-4, atol=1e-4)
    assert np.isfinite(found).all()
    assert (clf.predict_proba(X) == 0).any()


@BOTH
@pytest.mark.parametrize("n_classes", [2, 3])
def test_outputs_agree(classifier, n_classes):
    X, y = images(ndim=len(classifier.spatial_axes), n_classes=n_classes)
    clf = small(classifier, augment="flip", n_tta=3, max_epochs=2).fit(X, y)
    log_proba, score = clf.predict_log_proba(X), clf.decision_function(X)
    assert log_proba.shape == (len(X), n_classes)
    assert_allclose(np.exp(log_proba), clf.predict_proba(X), rtol=1e-5)
    if n_classes == 2:
        assert_allclose(score, log_proba[:, 1] - log_proba[:, 0], rtol=1e-4, atol=1e-6)
    else:
        assert_allclose(log_softmax(score, 1), log_proba, rtol=1e-4, atol=1e-6)


def test_logarithms_through_clients():
    X, y = images(n=60)
    rows = X.reshape(60, -1)
    clf = small(input_shape=(6, 6), max_epochs=1)
    for client in (
        make_pipeline(NDIdentity(), clf),
        make_imblearn_pipeline(NDSampler(RandomOverSampler(random_state=0)), clf),
        FixedThresholdClassifier(clf),
        GridSearchCV(clf, {"lr": [1e-3, 1e-2]}, cv=2),
    ):
        client.fit(X, y)
        assert_allclose(np.exp(client.predict_log_proba(X)), client.predict_proba(X), rtol=1e-5)
    for ensemble in (BalancedBaggingClassifier, EasyEnsembleClassifier):
        client = ensemble(estimator=clf, n_estimators=2, random_state=0).fit(rows, y)
        found = client.predict_log_proba(rows)
        assert_allclose(np.exp(found), client.predict_proba(rows), rtol=1e-4)
    assert np.isfinite(cross_val_score(clf, X, y, scoring="neg_log_loss", cv=2)).all()


def is_prepared(clf):
    kept = clf.net_.kept_network_
    return kept is not None and kept.prepared is not clf.net_.module_.network


@pytest.mark.parametrize("make_clf", [CNN2DClassifier, CNN3DClassifier])
def test_a_prediction_uses_the_prepared_network_of_the_one_before(make_clf):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, *[12] * len(make_clf.spatial_axes))).astype(np.float32)
    y = np.arange(20) % 2
    clf = make_clf(module="small", max_epochs=1, random_state=0).fit(X, y)
    assert clf.net_.kept_network_ is None
    first = clf.predict_proba(X[:1])
    assert is_prepared(clf)
    kept = clf.net_.kept_network_
    clf.predict(X)
    assert clf.net_.kept_network_ is kept
    assert_array_equal(clf.predict_proba(X[:1]), first)
    # It follows the weights, and is no part of a pickle.
    changed = pickle.loads(pickle.dumps(clf))
    assert changed.net_.kept_network_ is None
    for one in (clf, changed):
        one.net_.module_.network.classifier.weight.data.mul_(-1)
    assert_array_equal(clf.predict_proba(X[:1]), changed.predict_proba(X[:1]))
    assert abs(clf.predict_proba(X[:1]) - first).max() > 1e-4
    clf.partial_fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    assert_array_equal(clf.predict_proba(X), again.predict_proba(X))
