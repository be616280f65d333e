"""Bad and unusual input of the classifiers: what is refused and in which words, what is not."""

import copy
import re
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import NearMiss
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_score
from skorch.callbacks import Checkpoint, EarlyStopping
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader, Subset

from skimbal import CNN2DClassifier, CNN3DClassifier, CollapseWarning, LossMix, NDSampler
from skimbal.losses import FocalLoss, SoftF1Loss, SoftMCCLoss

BOTH = [CNN2DClassifier, CNN3DClassifier]
N = 12
Y = np.arange(N) % 2
OUTPUTS = ["predict", "predict_proba", "decision_function", "transform"]


class Odd(nn.Module):
    """Losses that have no gradient by the logits alone."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.own = nn.Parameter(torch.ones(()))

    def forward(self, logits, target, sample_weight=None):
        if self.how == "needs more":
            raise TypeError("the images are missing")
        return {
            "counts": (logits.argmax(1) == target).double().mean(),
            "rows": (logits - 1).sum(1),
            "number": 1.0,
            "own": self.own * 2,
        }[self.how]


def make(cls=CNN2DClassifier, **params):
    params = {"max_epochs": 1, "random_state": 0, "net": {"module__width": 4}, **params}
    return cls(**params)


def images(cls=CNN2DClassifier, n=N, size=6, channels=None, dtype=np.float32, seed=0):
    axes = (size,) * (2 if cls is CNN2DClassifier else 3)
    shape = (n, *axes) if channels is None else (n, channels, *axes)
    return np.random.default_rng(seed).normal(0, 50, shape).astype(dtype)


def logits(X, y=Y, cls=CNN2DClassifier, X_test=None, **params):
    return make(cls, **params).fit(X, y).decision_function(X if X_test is None else X_test)


@pytest.fixture
def refused(monkeypatch):
    """Call something that has to fail before any training, in words that hold all fragments."""

    def train(*args, **kwargs):
        pytest.fail("training began")

    monkeypatch.setattr("skimbal.training.TrainingNet.train_epochs", train)

    def check(call, *fragments, error=ValueError):
        with pytest.raises(error) as caught:
            call()
        text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert [part for part in fragments if part not in text] == [], text
        return text

    return check


# Shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "shape", "accepted"),
    [
        (CNN2DClassifier, (N, 1, 6, 6, 6), "(n_samples, n_channels, h, w), (n_samples, h, w) or"),
        (CNN2DClassifier, (N, 1, 1, 1, 6, 6), "(n_samples, n_channels, h, w), (n_samples, h, w)"),
        (CNN2DClassifier, (N, 6, 6, 6, 0), "(n_samples, n_channels, h, w), (n_samples, h, w) or"),
        (CNN3DClassifier, (N, 6, 6), "(n_samples, n_channels, d, h, w), (n_samples, d, h, w) or"),
        (CNN3DClassifier, (N, 1, 1, 6, 6, 6), "(n_samples, d, h, w) or (n_samples, n_features)"),
    ],
)
def test_wrong_number_of_axes(refused, cls, shape, accepted):
    X = np.zeros(shape, dtype=np.uint8)
    got = f"got an array with {len(shape)} axes, of shape {shape}"
    refused(lambda: make(cls).fit(X, Y), f"{cls.__name__} takes X of shape", accepted, got)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("X", "got"),
    [
        (np.zeros(N), "got 1D array instead"),
        (np.float32(3), "got scalar array instead"),
        (None, "got scalar array instead"),
        ("brain.png", "got scalar array instead"),
        ({"image": 1}, "got scalar array instead"),
        ((row for row in range(N)), "got scalar array instead"),
    ],
    ids=["one axis", "scalar", "None", "file name", "dict", "generator"],
)
def test_no_array_of_samples(refused, cls, X, got):
    refused(lambda: make(cls).fit(X, Y), "Expected 2D array", got, "array.reshape(")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("cls", BOTH)
def test_channels_last_is_refused_with_both_ways_out(refused, monkeypatch, cls, channels):
    n_axes = 2 if cls is CNN2DClassifier else 3
    X = np.random.default_rng(0).integers(0, 255, (N, *[8] * n_axes, channels), dtype=np.uint8)
    way_out = {2: "X.transpose(0, 3, 1, 2)", 3: "X.transpose(0, 4, 1, 2, 3)"}[n_axes]
    text = refused(
        lambda: make(cls).fit(X, Y),
        f"X of shape {X.shape} looks as if its channels came last",
        f"{cls.__name__} takes them first",
        way_out,
        f"input_shape={X.shape[1:]}",
    )
    monkeypatch.undo()
    transposed = eval(re.search(r"X\.transpose\([\d, ]+\)", text)[0], {"X": X})
    assert_array_equal(transposed[:, -1], X[..., -1])
    assert make(cls).fit(transposed, Y).input_shape_ == (channels, *[8] * n_axes)
    as_they_are = make(cls, input_shape=X.shape[1:]).fit(X, Y)
    assert as_they_are.input_shape_ == X.shape[1:]
    assert as_they_are.predict(X).shape == (N,)


def test_bfloat16_of_volumes_on_the_cpu_is_refused(refused):
    X = np.zeros((N, 6, 6, 6), dtype=np.uint8)
    refused(
        lambda: make(CNN3DClassifier, dtype="bfloat16").fit(X, Y),
        "dtype='bfloat16' is not for volumes on the CPU",
        "use dtype='float32' or 'float16', or a GPU",
    )


def test_channels_last_without_a_channel_axis_for_the_class(refused, monkeypatch):
    # A stack of RGB images has as many axes as volumes without channels.
    X = np.zeros((N, 8, 8, 3), dtype=np.uint8)
    refused(
        lambda: make(CNN3DClassifier).fit(X, Y),
        "(12, 8, 8, 3) looks as if its channels came last; CNN3DClassifier takes them first",
        "X.transpose(0, 3, 1, 2) with the classifier for its spatial axes",
        "input_shape=(1, 8, 8, 3)",
    )
    small = np.zeros((N, 5, 5, 3), dtype=np.uint8)
    refused(lambda: make().fit(small, Y), "channels came last", "input_shape=(5, 5, 3)")
    line = np.zeros((N, 8, 3), dtype=np.uint8)
    refused(lambda: make().fit(line, Y), "channels came last", "input_shape=(1, 8, 3)")
    monkeypatch.undo()
    for shape in [(8, 8, 3), (1, 8, 8, 3), [8, 8, 3]]:
        clf = make(CNN3DClassifier, input_shape=shape).fit(X, Y)
        assert clf.input_shape_ == (1, 8, 8, 3)
    # After the advice: the 2D class, channels first.
    assert make().fit(X.transpose(0, 3, 1, 2), Y).input_shape_ == (3, 8, 8)


@pytest.mark.parametrize(
    ("cls", "shape"),
    [
        (CNN2DClassifier, (N, 3, 8, 8)),
        (CNN2DClassifier, (N, 3, 8, 3)),
        (CNN2DClassifier, (N, 4, 8, 3)),
        (CNN2DClassifier, (N, 8, 8, 2)),
        (CNN2DClassifier, (N, 8, 8, 8)),
        (CNN2DClassifier, (N, 1, 3)),
        (CNN3DClassifier, (N, 3, 8, 8, 8)),
        (CNN3DClassifier, (N, 3, 8, 8)),
        (CNN3DClassifier, (N, 1, 8, 8, 3)),
        (CNN3DClassifier, (N, 8, 8, 8, 5)),
    ],
)
def test_what_may_be_channels_first_is_taken_so(cls, shape):
    n_axes = 2 if cls is CNN2DClassifier else 3
    channels = shape[1:-n_axes] or (1,)
    clf = make(cls).fit(np.zeros(shape, dtype=np.uint8), Y)
    assert clf.input_shape_ == (*channels, *shape[-n_axes:])
    assert clf.n_features_in_ == np.prod(shape[1:])


@pytest.mark.parametrize(
    ("cls", "shape", "fragments"),
    [
        (CNN2DClassifier, (0, 6, 6), ["0 sample(s)", "minimum of 1"]),
        (CNN2DClassifier, (0, 3, 6, 6), ["0 sample(s)", "minimum of 1"]),
        (CNN2DClassifier, (0, 36), ["0 sample(s)", "minimum of 1"]),
        (CNN2DClassifier, (N, 0), ["0 feature(s)", "minimum of 1"]),
        (CNN2DClassifier, (N, 0, 6), ["size 0", "(12, 0, 6)", "at least 1"]),
        (CNN2DClassifier, (N, 0, 6, 6), ["size 0", "(12, 0, 6, 6)", "at least 1"]),
        (CNN2DClassifier, (N, 1, 6, 0), ["size 0", "(12, 1, 6, 0)", "at least 1"]),
        (CNN3DClassifier, (0, 6, 6, 6), ["0 sample(s)", "minimum of 1"]),
        (CNN3DClassifier, (N, 0), ["0 feature(s)", "minimum of 1"]),
        (CNN3DClassifier, (N, 6, 0, 6), ["size 0", "(12, 6, 0, 6)", "at least 1"]),
        (CNN3DClassifier, (N, 0, 6, 6, 6), ["size 0", "(12, 0, 6, 6, 6)", "at least 1"]),
    ],
)
def test_nothing_there(refused, cls, shape, fragments):
    X = np.zeros(shape, dtype=np.float32)
    refused(lambda: make(cls).fit(X, Y[: len(X)]), *fragments)


@pytest.mark.parametrize("as_rows", [False, True])
@pytest.mark.parametrize("cls", BOTH)
def test_different_numbers_of_samples(refused, cls, as_rows):
    X = images(cls)
    X = X.reshape(N, -1) if as_rows else X
    for y in (Y[:5], np.r_[Y, Y], []):
        refused(lambda y=y: make(cls).fit(X, y), "inconsistent", f"[{N}, {len(y)}]")


@pytest.mark.parametrize(
    ("cls", "axes", "given"),
    [
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", (36,)),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", (1, 1, 6, 6)),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", 36),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", "66"),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", (6.0, 6.0)),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", (-6, -6)),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", (0, 36)),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", (True, 36)),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", (np.nan, 6)),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", (None, 6)),
        (CNN2DClassifier, "(h, w) or (n_channels, h, w)", ()),
        (CNN3DClassifier, "(d, h, w) or (n_channels, d, h, w)", (6, 6)),
        (CNN3DClassifier, "(d, h, w) or (n_channels, d, h, w)", (1, 1, 6, 6, 6)),
        (CNN3DClassifier, "(d, h, w) or (n_channels, d, h, w)", ("6", 6, 6)),
    ],
    ids=str,
)
def test_malformed_input_shape(refused, cls, axes, given):
    X = images(cls)
    clf = make(cls, input_shape=given)
    for data in (X, X.reshape(N, -1)):
        refused(
            lambda data=data: clf.fit(data, Y),
            f"input_shape must be None, {axes} in positive integers; got {given!r}",
        )


@pytest.mark.parametrize(
    ("cls", "given", "full", "needs"),
    [
        (CNN2DClassifier, (5, 5), (1, 5, 5), 25),
        (CNN2DClassifier, [3, 6, 6], (3, 6, 6), 108),
        (CNN3DClassifier, (5, 5, 5), (1, 5, 5, 5), 125),
        (CNN3DClassifier, (2, 6, 6, 6), (2, 6, 6, 6), 432),
    ],
)
def test_input_shape_that_does_not_fit(refused, cls, given, full, needs):
    X = images(cls)
    clf = make(cls, input_shape=given)
    refused(
        lambda: clf.fit(X.reshape(N, -1), Y),
        f"X has {X[0].size} features, but input_shape={full} needs {needs}.",
    )
    refused(
        lambda: clf.fit(X, Y),
        f"X has sample shape {(1, *X.shape[1:])}",
        f"{cls.__name__} is expecting sample shape {full}",
    )


# Pixels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "g"])
@pytest.mark.parametrize("cls", BOTH)
def test_pixels_that_are_no_numbers(refused, cls, dtype, value):
    X = images(cls, dtype=dtype)
    X.flat[-1] = value
    what = "Input X contains NaN" if np.isnan(value) else "Input X contains infinity"
    for data in (X, X[:, None], X.reshape(N, -1)):
        refused(lambda data=data: make(cls).fit(data, Y), what)


@pytest.mark.parametrize("cls", BOTH)
def test_pixels_that_are_no_numbers_at_predict(cls):
    X = images(cls)
    clf = make(cls).fit(X, Y)
    X[-1, -1] = np.nan
    for method in OUTPUTS:
        for data in (X, X.reshape(N, -1)):
            with pytest.raises(ValueError, match="Input X contains NaN"):
                getattr(clf, method)(data)


def peak_of(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_uint8_is_checked_and_described_without_a_copy(monkeypatch):
    X = np.zeros((512, 256, 256), dtype=np.uint8)  # 32 MiB; as float32 128 MiB
    X[::2, ::3] = 200
    y = np.arange(len(X)) % 2
    monkeypatch.setattr("skimbal.training.TrainingNet.train_epochs", lambda net, *args: net)
    clf = make()
    assert peak_of(lambda: clf.fit(X, y)) < X.nbytes
    assert_allclose(clf.net_.module_.mean.numpy().ravel(), [X.mean()], rtol=1e-5)
    assert peak_of(lambda: make(standardize=False).fit(X, y)) < X.nbytes / 20
    assert peak_of(lambda: make(standardize=False).fit(X.reshape(512, -1), y)) < X.nbytes / 20


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["f4", ">f4", "f8"])
def test_bad_pixel_in_a_memory_map_is_found_without_a_copy(refused, tmp_path, dtype, value):
    file = np.memmap(tmp_path / "X", dtype=dtype, mode="w+", shape=(2048, 32, 32))
    file[:] = 1
    file[-1, -1, -1] = value
    file.flush()
    y = np.arange(len(file)) % 2
    X = np.memmap(tmp_path / "X", dtype=dtype, mode="r", shape=file.shape)
    what = "NaN" if np.isnan(value) else "infinity"
    peak = peak_of(lambda: refused(lambda: make().fit(X, y), f"Input X contains {what}"))
    assert peak < X.nbytes / 3
    if dtype != ">f4":
        rows = X.reshape(len(X), -1)
        peak = peak_of(lambda: refused(lambda: make().fit(rows, y), f"Input X contains {what}"))
        assert peak < X.nbytes / 3


@pytest.mark.parametrize("as_rows", [False, True])
@pytest.mark.parametrize("cls", BOTH)
def test_pixels_of_a_dtype_without_real_numbers(refused, cls, as_rows):
    def shaped(X):
        return X.reshape(N, -1) if as_rows else X

    X = images(cls)
    real, text = "X must hold real numbers, got dtype", "Convert your data to numeric values"
    for data, *fragments in [
        (X * 1j, "Complex data not supported"),
        (X.astype(str), text),
        (np.full(X.shape, b"1"), text),
        (np.full(X.shape, "a", dtype=object), "could not convert string to float: 'a'"),
        (X.astype("M8[s]"), f"{real} datetime64[s]", "X.astype('float32')"),
        (X.astype("m8[ms]"), f"{real} timedelta64[ms]", "X.astype('float32')"),
        (np.full(X.shape, None), "Input X contains NaN"),
    ]:
        refused(lambda data=data: make(cls).fit(shaped(data), Y), *fragments)
    refused(lambda: make(cls).fit(torch.tensor(X * 1j).conj(), Y), "Complex data not supported")


def test_sparse_and_ragged_pixels(refused):
    rows = images().reshape(N, -1)
    for X in (sparse.csr_matrix(rows), sparse.coo_array(rows)):
        refused(
            lambda X=X: make().fit(X, Y),
            "Sparse data was passed for X",
            ".toarray()",
            error=TypeError,
        )
    refused(lambda: make().fit(torch.tensor(rows).to_sparse(), Y), "to_dense()", error=TypeError)
    refused(lambda: make().fit([[[1, 2]], [[1]]] * 6, Y), "inhomogeneous shape")


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_pixels_at_both_ends_of_a_narrow_dtype(refused, monkeypatch, cls, dtype):
    limit = np.finfo(dtype).max
    X = np.tile(np.array([limit, -limit], dtype=dtype), N * 32).reshape(N, 4, 4, 4)
    X = X[:, 0] if cls is CNN2DClassifier else X
    refused(lambda: make(cls).fit(X * np.array(np.inf, dtype), Y), "Input X contains infinity")
    monkeypatch.undo()
    for data in (X, X.reshape(N, -1)):  # finite, but their sum meets infinities
        expected = logits(data.astype(np.float64) / float(limit), cls=cls)
        assert_allclose(logits(data, cls=cls), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("params", [{}, {"dtype": "float32"}, {"standardize": False}], ids=str)
def test_pixels_beyond_the_range_of_the_dtype(refused, params):
    X = images(dtype=np.float64) * 1e304
    text = refused(lambda: make(**params).fit(X, Y), "range of torch.float", "Scale X down")
    assert ("float32" in text) == ("dtype" in params)


def test_spread_beyond_the_range_of_the_dtype(refused, monkeypatch):
    X = np.tile(np.array([1e40, -1e40]), N * 18).reshape(N, 6, 6)
    X[0] = 0  # an image that would pass on its own
    refused(lambda: make(dtype="float32").fit(X, Y), "too large to be standardised", "float32")
    monkeypatch.undo()
    assert np.isfinite(logits(X)).all()  # in float64, which is what auto takes


# Targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("y", "fragments"),
    [
        (None, ["requires y to be passed, but the target y is None"]),
        (np.zeros(N, dtype=int), ["at least 2 classes", "there is 1 class: [0]"]),
        (["benign"] * N, ["at least 2 classes", "there is 1 class: ['benign']"]),
        (np.linspace(0, 1, N), ["Unknown label type: continuous", "discrete classes"]),
        (np.eye(N, dtype=int), ["Multilabel and multioutput targets are not supported"]),
        (np.c_[Y, 1 - Y].tolist(), ["Multilabel and multioutput targets are not supported"]),
        (np.where(Y, np.nan, 1.0), ["Input y contains NaN"]),
        (np.where(Y, np.inf, 1.0), ["Input y contains infinity"]),
        (Y * 1j, ["Complex data not supported"]),
        (3, ["1d array", "shape ()"]),
        ("malignant", ["1d array", "shape ()"]),
        (["a", None] * 6, ["y mixes labels of the types NoneType, str", "same type"]),
        (np.array(["a", 1] * 6, dtype=object), ["y mixes labels of the types int, str", "str"]),
        (pd.Series(["a", "b"] * 5 + ["a", None]), ["y mixes labels", "rows without a label"]),
        (pd.Series([0, 1] * 5 + [0, None], dtype="Int64"), ["Input y contains NaN"]),
        (pd.Categorical(["a", "b"] * 5 + ["a", None]), ["y mixes labels", "rows without a label"]),
        ([[1], [2, 3]] * 6, ["inhomogeneous shape"]),
        (np.zeros((N, 1, 1)), ["dim 3", "dim <= 2"]),
    ],
)  # fmt: skip
def test_targets_that_are_no_classes(refused, cls, y, fragments):
    X = images(cls)
    for data in (X, X.reshape(N, -1)):
        refused(lambda data=data: make(cls).fit(data, y), *fragments)


def test_targets_of_a_type_that_holds_no_classes(refused):
    X = images()
    refused(lambda: make().fit(X, sparse.csr_matrix(Y[:, None])), "Sparse", "y", error=TypeError)
    refused(lambda: make().fit(X, np.array([b"a", b"b"] * 6)), "bytes", "string", error=TypeError)
    refused(lambda: make().fit(X, np.array([{}, {1: 2}] * 6)), "mixes labels of the types dict")


# Parameters ---------------------------------------------------------------------------------


def no_module(in_channels, n_classes):
    return None


def too_many_outputs(in_channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes + 5))


def one_output(in_channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(1))


def map_of_outputs(in_channels, n_classes):
    return nn.LazyLinear(n_classes)


def no_logits(in_channels, n_classes):
    class Network(nn.Linear):
        def forward(self, x):
            return {"logits": x}

    return Network(1, 1)


def failing(in_channels, n_classes):
    raise ZeroDivisionError("a mistake of the factory")


def failing_forward(in_channels, n_classes):
    return nn.Linear(99, n_classes)


def nan_outputs(in_channels, n_classes):
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes))

    def spoil(module, args, output):
        return output * np.nan

    network.register_forward_hook(spoil)
    return network


class Unused(nn.Module):
    """Has a layer that does not run, and one whose input has no row for each sample."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.spare, self.turned = nn.Linear(2, 2), nn.Identity()
        self.classifier = nn.Linear(36 if in_channels == 1 else 0, n_classes)

    def forward(self, x):
        x = self.turned(x.flatten(1)[:, :36].T).T
        return self.classifier(x)


class NoWeights(nn.Module):
    def forward(self, y_pred, target):
        return nn.functional.cross_entropy(y_pred, target)


TERMS = "ce, wce, focal, f1, mcc, la, balanced_softmax, ldam"
SAMPLERS = ["sampler must be", "'uniform', 'balanced', 'stratified'", "RandomOverSampler"]
FACTORY = "f(in_channels, n_classes)"
BUILT = ["not a network", "wrap the call in a function", FACTORY]
DEVICES = ["cannot be used here", "'cpu', 'auto'", "CUDA device(s) on this machine"]
WHOLE = "must be an integer at least"
WEIGHTS = "class_weight must hold finite weights of at least 0"
CALLBACKS = "callbacks must be a list of skorch callbacks or (name, callback) pairs"
VALID = ["monitors 'valid_loss", "needs validation rows", "train_split=0.2", "train_loss"]

BAD_PARAMS = [
    ({"loss": "mse"}, ["unknown term 'mse'", TERMS]),
    ({"loss": "CE"}, ["unknown term 'CE'", TERMS]),
    ({"loss": ""}, ["cannot read the loss ''", TERMS]),
    ({"loss": "ce-mcc"}, ["cannot read the loss 'ce-mcc'", TERMS]),
    ({"loss": "0*ce"}, ["all factors of the loss are zero", "positive factor"]),
    ({"loss": LossMix()}, ["all factors of the loss are zero", "positive factor"]),
    ({"loss": LossMix(ce=np.nan)}, ["ce must be a finite number of at least 0", "nan"]),
    ({"sampler": "smote"}, [*SAMPLERS, "'smote'"]),
    ({"sampler": True}, [*SAMPLERS, "True"]),
    ({"sampler": RandomOverSampler}, [*SAMPLERS, "an instance"]),
    ({"sampler": NDSampler(RandomOverSampler())}, [*SAMPLERS, "NDSampler"]),
    ({"sampler": SMOTE()}, ["sampler must", "got SMOTE()", "(NDSampler(SMOTE()), ...)"]),
    ({"sampler": NearMiss()}, ["sampler must", "got NearMiss()", "(NDSampler(NearMiss()), ...)"]),
    ({"module": "resnet50"}, ["'small', 'resnet18', 'resnet34'", FACTORY, "'resnet50'"]),
    ({"module": nn.Linear(2, 2)}, [*BUILT, "Linear"]),
    ({"module": None}, [*BUILT, "NoneType"]),
    ({"module": 18}, [*BUILT, "int"]),
    ({"module": ["small"]}, [*BUILT, "list"]),
    ({"optimizer": "adamm"}, ["torch.optim.Optimizer class", "'adam'", "'adamm'"]),
    ({"optimizer": torch.optim.SGD([torch.ones(1)])}, ["torch.optim.Optimizer class", "SGD"]),
    ({"optimizer": torch.optim.Optimizer}, ["'adam'", "got <class", "options are set through net"]),
    ({"optimizer": nn.Linear}, ["torch.optim.Optimizer class", "Linear"]),
    ({"optimizer": None}, ["torch.optim.Optimizer class", "None"]),
    ({"device": "gpu"}, ["device='gpu'", *DEVICES]),
    ({"device": ""}, ["device=''", *DEVICES]),
    ({"device": None}, ["device=None", *DEVICES]),
    ({"device": -1}, ["device=-1", *DEVICES]),
    ({"device": 3.5}, ["device=3.5", *DEVICES]),
    ({"device": "meta"}, ["device='meta'", *DEVICES]),
    ({"device": ["cpu"]}, ["device=['cpu']", *DEVICES]),
    ({"dtype": "half"}, ["'auto', 'float32', 'float64', 'bfloat16', 'float16'", "'half'"]),
    ({"dtype": "float16", "optimizer": "lbfgs"}, ["dtype='float16'", "optimizer='lbfgs'"]),
    ({"compile": "yes"}, ["compile must be True or False", "'yes'"]),
    ({"compile": None}, ["compile must be True or False", "None"]),
    ({"dtype": None}, ["'auto', 'float32', 'float64', 'bfloat16'", "None"]),
    ({"dtype": torch.float32}, ["'auto', 'float32', 'float64', 'bfloat16'", "torch.float32"]),
    ({"dtype": ["float32"]}, ["'auto', 'float32', 'float64', 'bfloat16'", "['float32']"]),
    ({"feature_layer": 3}, ["feature_layer must be the name of a layer", "got 3"]),
    ({"feature_layer": nn.Linear}, ["feature_layer must be the name of a layer", "Linear"]),
    (
        {"feature_layer": "clasifier"},
        ["feature_layer must be", "got 'clasifier'", "Near names are ['classifier'"],
    ),
    (
        {"feature_layer": "xyzzy"},
        ["feature_layer must be", "got 'xyzzy'", "'dropout', 'classifier'].", "named_modules()"],
    ),
    (
        {"module": Unused, "net": None, "feature_layer": "spare"},
        ["feature_layer='spare'", "does not run"],
    ),
    (
        {"module": Unused, "net": None, "feature_layer": "turned"},
        ["feature_layer='turned'", "a tensor with one entry", "gets something else"],
    ),
    ({"net": {"feature_layer": "classifier"}}, ["net['feature_layer']", "go round a parameter"]),
    ({"lr_schedule": "linear"}, ["None or 'cosine'", "'linear'"]),
    ({"lr_schedule": 0.1}, ["None or 'cosine'", "0.1"]),
    *(
        ({"lr": value}, ["lr must be a finite number greater than 0", f"got {value!r}"])
        for value in (np.nan, -1e-3, 0, np.inf, "0.1", None, True, [0.1])
    ),
    *(
        ({name: value}, [f"{name} {WHOLE} 1", f"got {value!r}"])
        for name in ("batch_size", "max_epochs", "micro_batch_size")
        for value in (0, -3, 1.5, 2.0, True, "32", np.nan)
    ),
    ({"batch_size": None}, [f"batch_size {WHOLE} 1", "None"]),
    ({"max_epochs": None}, [f"max_epochs {WHOLE} 1", "None"]),
    ({"micro_batch_size": 9, "batch_size": 8}, ["micro_batch_size", "at most batch_size=8", "9"]),
    *(
        ({"loss": LossMix(mcc=1, **{name: value})}, [f"{name} must be", f"got {value!r}"])
        for name, value in (("statistics", "global"), ("horizon", 0), ("warmup_epochs", -1))
    ),
    (
        {"loss": LossMix(mcc=1, statistics="moving"), "optimizer": "lbfgs"},
        ["several times in a step", "optimizer='lbfgs'", "statistics='batch'"],
    ),
    *(
        ({"logit_adjustment": value}, ["logit_adjustment must be a finite number", repr(value)])
        for value in (-1, np.nan, np.inf, "1", None, True, [1])
    ),
    ({"loss": LossMix(la=1, la_tau=-1)}, ["la_tau must be", "got -1"]),
    *(
        ({"loss": loss, "micro_batch_size": 2}, ["micro_batch_size=2", "logits alone", *words])
        for loss, words in (
            (Odd("needs more"), ["Odd failed in a trial", "missing"]),
            (Odd("counts"), ["Odd gave shape () without a way back"]),
            (Odd("rows"), ["Odd gave shape (", "scalar"]),
            (Odd("number"), ["Odd gave 1.0"]),
            (Odd("own"), ["Odd does not depend on them"]),
        )
    ),
    ({"verbose": -1}, [f"verbose {WHOLE} 0", "-1"]),
    ({"random_state": "seed"}, ["'seed' cannot be used to seed"]),
    ({"class_weight": "even"}, ["class_weight", "'dict'", "'balanced'", "None", "'even'"]),
    ({"class_weight": [1, 2]}, ["class_weight", "'dict'", "'balanced'", "None", "[1, 2]"]),
    ({"class_weight": {7: 1.0}}, ["[0, 1]", "not in class_weight"]),
    ({"class_weight": {0: -1, 1: 1}}, [WEIGHTS, "{0: -1, 1: 1}"]),
    ({"class_weight": {0: np.nan}}, [WEIGHTS, "nan"]),
    ({"class_weight": {0: np.inf}}, [WEIGHTS, "inf"]),
    ({"class_weight": {0: 0, 1: 0}}, [WEIGHTS, "not all of them zero"]),
    ({"class_weight": {0: "heavy", 1: 1}}, [WEIGHTS, "'heavy'"]),
    ({"net": "adam"}, ["net must be a dict", "optimizer__weight_decay", "'adam'"]),
    ({"net": [("lr", 1)]}, ["net must be a dict", "optimizer__weight_decay"]),
    ({"net": {1: 2}}, ["net must have names as keys", "1"]),
    ({"net": {"leraning_rate": 1}}, ["unexpected argument", "leraning_rate"]),
    *(
        ({"net": {name: 1}}, [f"net[{name!r}]", "go round a parameter", "set that one"])
        for name in ("lr", "batch_size", "criterion", "module", "device", "callbacks", "classes")
        + ("train_split", "max_epochs", "optimizer", "micro_batch_size", "module__n_classes")
        + ("module__factory", "iterator_train__sampler")
    ),
    ({"net": {"optimizer__lr": -1}}, ["learning rate", "-1"]),
    ({"net": {"module__width": 0}}, ["width must be a positive integer", "got 0", "width=0"]),
    ({"net": {"callbacks__stop__patience": 2}}, ["net['callbacks__stop__patience']", "('stop',"]),
    (
        {"net": {"iterator_train": DataLoader}, "sampler": "balanced"},
        ["net['iterator_train']", "sampler='balanced' would have no effect", "one of the two"],
    ),
    ({"callbacks": EarlyStopping()}, [CALLBACKS, "EarlyStopping"]),
    ({"callbacks": {"stop": EarlyStopping()}}, [CALLBACKS, "stop"]),
    ({"callbacks": ["stop"]}, [CALLBACKS, "its entry 'stop'"]),
    ({"callbacks": [("stop",)]}, [CALLBACKS, "its entry ('stop',)"]),
    ({"callbacks": [EarlyStopping()]}, ["EarlyStopping", *VALID]),
    ({"callbacks": [("stop", EarlyStopping())]}, ["EarlyStopping", *VALID]),
    ({"callbacks": [EarlyStopping]}, ["EarlyStopping", *VALID]),
    ({"callbacks": [Checkpoint(monitor="valid_loss_best")]}, ["Checkpoint", *VALID]),
    ({"module": one_output, "net": None}, ["(n_samples, n_classes), here (1, 2)", "shape (1, 1)"]),
    ({"module": no_logits, "net": None}, ["(n_samples, n_classes)", "got <class 'dict'>", FACTORY]),
    ({"module": nan_outputs, "net": None}, ["into NaN before any training", "nan_outputs"]),
]  # fmt: skip


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(("params", "fragments"), BAD_PARAMS, ids=lambda value: str(value)[:60])
def test_bad_parameters(refused, cls, params, fragments):
    clf = make(cls, **copy.deepcopy(params))  # the constructor takes them all
    refused(lambda: clf.fit(images(cls), Y), *fragments)
    refused(lambda: clf.partial_fit(images(cls), Y, classes=[0, 1]), *fragments)


@pytest.mark.parametrize("cls", BOTH)
def test_bad_parameters_of_the_wrong_type(refused, cls):
    X = images(cls)

    def fit(**params):
        return lambda: make(cls, **params).fit(X, Y)

    for loss in (None, 3, ["ce"], LossMix, print):
        refused(
            fit(loss=loss), TERMS, "a LossMix", "Module class", f"got {loss!r}", error=TypeError
        )
    option = "got an unexpected keyword argument 'widht'"
    refused(fit(net={"module__widht": 8}), option, "SmallCNN", "widht=8", error=TypeError)
    refused(fit(net={"optimizer__momemtum": 1}), "unexpected", "'momemtum'", error=TypeError)


@pytest.mark.parametrize("cls", BOTH)
def test_factories_that_do_not_fit(refused, cls):
    X = images(cls)
    shape = str((1, *X.shape[1:]))

    def fit(module):
        return lambda: make(cls, module=module, net=None).fit(X, np.arange(N) % 3)

    logits = "module must return logits of shape (n_samples, n_classes), here (1, 3)"
    refused(fit(too_many_outputs), logits, "got shape (1, 8)", FACTORY)
    refused(fit(map_of_outputs), logits, f"got shape {(1, 1, *X.shape[1:-1], 3)}", FACTORY)
    refused(fit(no_module), "torch.nn.Module", FACTORY, "got None", error=TypeError)
    refused(fit(nn.Conv2d), "'kernel_size'", "called as f(1, 3)", error=TypeError)
    refused(fit(lambda: None), "takes 0 positional", "called as f(1, 3)", error=TypeError)
    # Errors of a factory keep their type, and say where they come from.
    refused(fit(failing), "a mistake", "failing", "f(1, 3)", error=ZeroDivisionError)
    refused(fit(failing_forward), "failing_forward", f"of shape {shape}", error=RuntimeError)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda"), 0], ids=str)
def test_cuda_where_there_is_none(refused, device):
    refused(
        lambda: make(device=device).fit(images(), Y),
        f"device={device!r} cannot be used here",
        "use 'cpu', 'auto'",
        "0 CUDA device(s)",
    )


@pytest.mark.parametrize("device", ["cpu", "auto", "cpu:0", torch.device("cpu")], ids=str)
def test_devices_that_are_there(device):
    clf = make(device=device).fit(images(), Y)
    assert isinstance(clf.net_.device, str)
    assert clf.predict(images()).shape == (N,)


def test_loss_factor_of_a_loss_without_factors():
    for loss in ("ce+mcc", SoftMCCLoss(), nn.CrossEntropyLoss):
        with pytest.raises(ValueError, match=r"(?s)loss__mcc .*\(loss=LossMix\(ce=1, mcc=1\)"):
            make(loss=loss).set_params(loss__mcc=0.5)
    with pytest.raises(ValueError, match="loss__mcc sets a factor of a LossMix, but loss='ce'"):
        make(loss=LossMix(ce=1)).set_params(loss="ce", loss__mcc=1)
    with pytest.raises(ValueError, match=r"'mc' for estimator LossMix.*'mcc'"):
        make(loss=LossMix(ce=1)).set_params(loss__mc=1)
    clf = make(loss="ce").set_params(loss=LossMix(ce=1), loss__mcc=0.5)
    assert clf.loss.get_params()["mcc"] == 0.5
    with pytest.raises(ValueError, match=r"(?s)Invalid parameter 'los'.*'loss'"):
        clf.set_params(los="ce")


# Weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("weight", "fragments"),
    [
        (np.r_[-1.0, np.ones(N - 1)], ["Negative values", "sample_weight"]),
        (np.r_[np.nan, np.ones(N - 1)], ["sample_weight contains NaN"]),
        (np.r_[np.inf, np.ones(N - 1)], ["sample_weight contains infinity"]),
        (np.ones(5), ["sample_weight.shape == (5,)", "expected (12,)"]),
        (np.ones((N, 2)), ["Sample weights must be 1D", "got 2D"]),
        (np.zeros(N), ["zero"]),
        (np.where(Y, 0, 1), ["at least 2 classes", "there is 1 class: [0]"]),
    ],
    ids=["negative", "NaN", "infinity", "short", "two axes", "zeros", "one class left"],
)
def test_bad_sample_weight(refused, cls, weight, fragments):
    X = images(cls)
    for data in (X, X.reshape(N, -1)):
        refused(lambda data=data: make(cls).fit(data, Y, sample_weight=weight), *fragments)
    refused(lambda: make(cls).fit(X, Y, weight.tolist()), *fragments)


def test_rows_without_weight_may_hold_labels_of_their_own():
    X = images(n=N + 3)
    weight = np.r_[np.ones(N), 0, 0, 0]
    expected = make().fit(X[:N], Y).decision_function(X)
    for others in ([7, 8, 9], [-1, 0, 7], [0, 1, 2]):
        clf = make().fit(X, np.r_[Y, others], weight)
        assert clf.classes_.tolist() == [0, 1]
        assert_allclose(clf.decision_function(X), expected, rtol=1e-4, atol=1e-5)


def test_loss_that_cannot_take_weights(refused, monkeypatch):
    X = images()
    fragments = ["NoWeights cannot take weights", "let its forward take sample_weight"]
    for loss in (NoWeights, NoWeights()):
        refused(lambda loss=loss: make(loss=loss).fit(X, Y, np.ones(N)), *fragments)
        refused(lambda loss=loss: make(loss=loss, class_weight="balanced").fit(X, Y), *fragments)
    monkeypatch.undo()
    assert make(loss=NoWeights).fit(X, Y).n_epochs_ == 1


def test_both_weights_together_leave_nothing(refused):
    clf = make(class_weight={0: 0, 1: 1}, train_split=lambda data, y: (Subset(data, [0, 2]), None))
    refused(lambda: clf.fit(images(), Y, np.ones(N)), "class_weight", "nothing to learn from")


# Validation ---------------------------------------------------------------------------------

PAIR = "train_split must return a pair, the training rows and the validation rows"
ROWS = "train_split must return the training rows as a torch Subset of the data set"


@pytest.mark.parametrize(
    ("split", "fragments"),
    [
        (lambda data, y: None, [PAIR, "got None"]),
        (lambda data, y: (data, None, None), [PAIR]),
        (lambda data, y: data, [PAIR, "ImageDataset"]),
        (lambda data, y: (None, data), [ROWS, "got None"]),
        (lambda data, y: (np.arange(6), None), [ROWS, "at least one row"]),
        (lambda data, y: (Subset(data, []), data), [ROWS, "at least one row"]),
        (lambda data, y: (Subset(Subset(data, [2, 3, 4]), [0, 1]), None), [ROWS]),
        ("holdout", ["cv", "holdout"]),
        (0, ["cv", "0"]),
        (-0.5, ["cv", "-0.5"]),
        (1.5, ["test_size=1.5", "(0, 1)"]),
        (1, ["n_splits=2 or more", "n_splits=1"]),
        (100, ["n_splits=100", "n_samples=12"]),
    ],
)
def test_splits_that_make_no_sense(refused, split, fragments):
    refused(lambda: make(train_split=split).fit(images(), Y), *fragments)


@pytest.mark.parametrize("cls", BOTH)
def test_validation_sets_that_do_not_fit(refused, cls):
    X = images(cls)

    def fit(X_valid, y_valid):
        dataset = Dataset(X_valid)
        dataset.y = y_valid
        return lambda: make(cls, train_split=predefined_split(dataset)).fit(X, Y)

    full = (1, *X.shape[1:])
    refused(
        fit(X[:, 1:], Y),
        f"sample shape {(1, *X[:, 1:].shape[1:])}",
        f"expecting sample shape {full}",
    )
    refused(fit(X[:5], Y), "inconsistent", "[5, 12]")
    refused(fit(X * np.where(X > 90, np.nan, 1), Y), "Input X contains NaN")
    refused(fit(X, Y + 1), "not among the classes [0, 1]: [2]")
    refused(fit(X, None), "target y is None")
    wrong = make(cls, train_split=lambda data, y: (data, [1, 2]))
    refused(
        lambda: wrong.fit(X, Y),
        "validation set",
        "Dataset(X, y)",
        "torch Subset",
        "got list",
        error=TypeError,
    )


# Groups -------------------------------------------------------------------------------------

MIXED = "cannot be sorted. Give every group the same type, such as str, and drop the rows without"


@pytest.mark.parametrize("train_split", [None, 2])
@pytest.mark.parametrize(
    ("groups", "fragments"),
    [
        (np.arange(5), ["inconsistent", "[12, 5]"]),
        (np.ones((N, 2)), ["groups must have one entry for each row of X", "(12, 2)"]),
        (7, ["groups must have one entry for each row of X", "got ()"]),
        ([1, np.nan] * 6, ["groups contains NaN"]),
        (["a", np.nan] * 6, ["groups mixes groups", "float, str", MIXED]),
        (np.array(["a", np.nan] * 6, dtype=object), ["groups mixes groups", "float, str", MIXED]),
        (["a", None] * 6, ["groups mixes groups of the types NoneType, str", MIXED]),
        (pd.Series(["a", None] * 6, dtype="string"), ["groups mixes groups", MIXED]),
        (pd.to_datetime(["2020-01-01", None] * 6), ["groups contains NaT", "drop the rows"]),
    ],
)
def test_groups_that_are_none(refused, groups, fragments, train_split):
    refused(lambda: make(train_split=train_split).fit(images(), Y, groups=groups), *fragments)
    clf = make(train_split=train_split)
    refused(lambda: clf.partial_fit(images(), Y, [0, 1], groups=groups), *fragments)


@pytest.mark.parametrize(
    ("split", "groups", "fragments"),
    [
        (0.5, Y, ["in the fewest groups is 'a', in 1; it needs at least 2", "among 2, with every"]),
        (2, np.minimum(np.arange(N), 1), ["finds no fold of whole groups", "train_split=None"]),
        (0.6, np.arange(N), ["at most 0.5", "round(1 / share) folds", "got 0.6"]),
        (-0.5, np.arange(N), ["greater than 0", "got -0.5"]),
        (np.nan, np.arange(N), ["greater than 0", "got nan"]),
        (1, np.arange(N), ["n_splits=2 or more", "n_splits=1"]),
        (13, np.arange(N), ["n_splits=13", "n_samples=12"]),
    ],
)
def test_groups_that_cannot_be_split(refused, split, groups, fragments):
    labels = np.array(["a", "b"])[Y]
    refused(lambda: make(train_split=split).fit(images(), labels, groups=groups), *fragments)


def test_splitters_that_need_groups_say_so(refused):
    refused(lambda: make(train_split=GroupKFold(2)).fit(images(), Y), "groups", "None")


# partial_fit --------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("classes", "fragments"),
    [
        (None, ["classes must be passed on the first call to partial_fit"]),
        ([1], ["at least 2 classes", "1 class: [1]"]),
        ([], ["at least 2 classes", "[]"]),
        ([1, 2], ["not among the classes [1, 2]: [0]", "Pass all labels as classes", "fit anew"]),
        (["0", "1"], ["not among the classes ['0', '1']: [0, 1]"]),
        ([0, 1, np.nan], ["classes contains NaN"]),
        ([0, 1, None], ["classes mixes labels of the types NoneType, int"]),
        ([[0, 1], [2, 3]], ["1d array", "(2, 2)"]),
        (2, ["1d array", "()"]),
    ],
    ids=str,
)
def test_bad_classes_in_the_first_call(refused, cls, classes, fragments):
    refused(lambda: make(cls).partial_fit(images(cls), Y, classes=classes), *fragments)


def test_later_calls_that_contradict_the_first(refused, monkeypatch):
    X = images()
    monkeypatch.undo()
    clf = make().partial_fit(X, Y, classes=[0, 1])
    proba = clf.predict_proba(X)
    monkeypatch.setattr(
        "skimbal.training.TrainingNet.train_epochs", lambda *args: pytest.fail("trained")
    )
    text = ["among the classes [0, 1]: [2]", "in the first call of partial_fit"]
    refused(lambda: clf.partial_fit(X, Y + 1), *text)
    refused(lambda: clf.partial_fit(X, Y.astype(str)), "[0, 1]: ['0', '1']")
    for classes in ([0, 2], [0, 1, 2], ["0", "1"], [0]):
        differs = f"classes={classes!r} differs from those of the first call, [0, 1]"
        refused(lambda classes=classes: clf.partial_fit(X, Y, classes=classes), differs, "fit anew")
    refused(lambda: clf.partial_fit(X, Y, classes=["a", None]), "classes mixes labels")
    shapes = ["sample shape (1, 5, 6)", "expecting sample shape (1, 6, 6)"]
    refused(lambda: clf.partial_fit(X[:, 1:], Y), *shapes)
    refused(lambda: clf.partial_fit(X[:, 1:].reshape(N, -1), Y), "30 features", "36 features")
    assert_array_equal(clf.predict_proba(X), proba)
    monkeypatch.undo()
    clf.partial_fit(X, Y, classes=np.array([1, 0, 0]))  # the same ones, in another order
    clf.partial_fit(X[:3], [1, 1, 1])  # a part of them
    assert clf.n_epochs_ == 3


def test_failed_calls_leave_no_trace_in_the_training():
    X = images()

    def train(disturb):
        clf = make().partial_fit(X, Y, classes=[0, 1])
        for X_bad, y_bad in [(X, Y + 1), (X[:, 1:], Y), (X * np.nan, Y)] if disturb else []:
            with pytest.raises(ValueError, match=r"X|y"):
                clf.partial_fit(X_bad, y_bad)
        return clf.partial_fit(X, Y).predict_proba(X)

    assert_array_equal(train(True), train(False))


def test_warm_start_with_something_else(refused, monkeypatch):
    X = images()
    monkeypatch.undo()
    clf = make(warm_start=True).fit(X, Y)
    proba = clf.predict_proba(X)
    monkeypatch.setattr(
        "skimbal.training.TrainingNet.train_epochs", lambda *args: pytest.fail("trained")
    )
    refused(
        lambda: clf.fit(X[:, 1:], Y), "sample shape (1, 5, 6)", "expecting sample shape (1, 6, 6)"
    )
    refused(lambda: clf.fit(X, Y + 1), "among the classes [0, 1]: [2]", "fit anew")
    clf.set_params(net__module__width=8)
    refused(lambda: clf.fit(X, Y), "the network is a different one", "warm_start=False")
    assert_array_equal(clf.predict_proba(X), proba)


# Prediction ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*OUTPUTS, "score"])
@pytest.mark.parametrize("cls", BOTH)
def test_prediction_before_fit(cls, method):
    args = (images(cls), Y) if method == "score" else (images(cls),)
    words = f"{cls.__name__} instance is not fitted yet. Call 'fit'"
    with pytest.raises(NotFittedError, match=words):
        getattr(make(cls), method)(*args)
    failed = make(cls)
    with pytest.raises(ValueError, match="1 class"):
        failed.fit(images(cls), Y * 0)
    with pytest.raises(NotFittedError, match=words):
        getattr(failed, method)(*args)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_logit_adjustment_is_checked_where_it_is_read(method):
    clf = make().fit(images(), Y).set_params(logit_adjustment=-1)
    with pytest.raises(ValueError, match=r"logit_adjustment must be a finite .* least 0, got -1"):
        getattr(clf, method)(images())


@pytest.mark.parametrize("method", OUTPUTS)
def test_prediction_of_another_shape(method):
    flat = make().fit(images(), Y)
    deep = make(CNN3DClassifier).fit(images(CNN3DClassifier), Y)
    rows = make(input_shape=(6, 6)).fit(images().reshape(N, -1), Y)
    for clf, shape, words in [
        (flat, (3, 6, 5), r"sample shape \(1, 6, 5\).*expecting sample shape \(1, 6, 6\)"),
        (flat, (3, 2, 6, 6), r"sample shape \(2, 6, 6\).*expecting sample shape \(1, 6, 6\)"),
        (flat, (3, 6, 6, 1), r"sample shape \(6, 6, 1\).*expecting sample shape \(1, 6, 6\)"),
        (flat, (3, 37), "X has 37 features, but CNN2DClassifier is expecting 36 features"),
        (flat, (36,), "Expected 2D array, got 1D array"),
        (flat, (3, 1, 1, 6, 6), "got an array with 5 axes"),
        (flat, (0, 6, 6), r"0 sample\(s\)"),
        (flat, (0, 36), r"0 sample\(s\)"),
        (flat, (3, 6, 0), "size 0"),
        (rows, (3, 35), "X has 35 features, but CNN2DClassifier is expecting 36 features"),
        (rows, (3, 4, 9), r"sample shape \(1, 4, 9\).*expecting sample shape \(1, 6, 6\)"),
        (deep, (3, 6, 6, 5), r"shape \(1, 6, 6, 5\), but CNN3DClassifier.*\(1, 6, 6, 6\)"),
        (deep, (3, 6, 6), "got an array with 3 axes"),
        (deep, (3, 36), "X has 36 features, but CNN3DClassifier is expecting 216 features"),
    ]:
        with pytest.raises(ValueError, match=words):
            getattr(clf, method)(np.zeros(shape, dtype=np.float32))
    with pytest.raises(ValueError, match="X must hold real numbers, got dtype datetime64"):
        getattr(flat, method)(np.zeros((3, 6, 6), dtype="M8[D]"))
    with pytest.raises(ValueError, match="numeric values"):
        getattr(flat, method)(np.full((3, 6, 6), "a"))


@pytest.mark.parametrize("cls", BOTH)
def test_images_and_rows_are_the_same_data(cls):
    X = images(cls, channels=2)
    rows = X.reshape(N, -1)
    from_images = make(cls).fit(X, Y)
    from_rows = make(cls, input_shape=X.shape[1:]).fit(rows, Y)
    expected = from_images.decision_function(X)
    for clf in (from_images, from_rows):
        assert clf.n_features_in_ == rows.shape[1]
        for data in (X, rows):
            assert_array_equal(clf.decision_function(data), expected)


# What a failure leaves ----------------------------------------------------------------------


@pytest.mark.parametrize("cls", BOTH)
def test_failed_fit_leaves_the_fitted_estimator(cls):
    X = images(cls, size=6)
    other = images(cls, size=4)
    rows = pd.DataFrame(X.reshape(N, -1)).add_prefix("p")
    # The same number of pixels in another shape: a mix-up would go unnoticed.
    other_shape = {"input_shape": (4, 9) if cls is CNN2DClassifier else (4, 6, 9)}
    one_class = np.zeros(N)
    clf = make(cls).fit(X, np.where(Y, "b", "a"))
    proba, kept = clf.predict_proba(X), dict(vars(clf))
    for data, y, params in [
        (other, Y[:5], {}),
        (other, one_class, {}),
        (other, None, {}),
        (np.where(X > 0, np.nan, X), Y, {}),
        (other, Y, {"loss": "mse"}),
        (other, Y, {"lr": np.nan}),
        (other, Y, {"device": "gpu"}),
        (other, Y, {"net": {"typo": 1}}),
        (other, Y, {"module": no_module, "net": None}),
        (other, Y, {"module": too_many_outputs, "net": None}),
        (other, Y, {"train_split": lambda data, y: None}),
        (rows, one_class, other_shape),
        (rows, Y, {**other_shape, "sampler": "smote"}),
    ]:
        clf.set_params(**params)
        with pytest.raises((ValueError, TypeError)):
            clf.fit(data, y)
        clf.set_params(**{name: kept[name] for name in params})
        assert vars(clf) == kept
        assert_array_equal(clf.predict_proba(X), proba)
        assert set(clf.predict(rows.to_numpy())) <= {"a", "b"}
    assert clf.fit(other, Y).predict(other).shape == (N,)


def test_failed_first_fit_leaves_no_trace():
    clf = make()
    before = dict(vars(clf))
    rows = pd.DataFrame(images().reshape(N, -1)).add_prefix("p")
    for data, y in [(images(), Y * 0), (rows, Y * 0), (images(), None), (images(), Y[:3])]:
        with pytest.raises(ValueError, match=r"class|target|inconsistent"):
            clf.fit(data, y)
        assert vars(clf) == before


# Unusual but good: pixels -------------------------------------------------------------------


def _strided(X):
    wide = np.zeros((2 * len(X), *X.shape[1:-1], 3 * X.shape[-1]), dtype=X.dtype)
    view = wide[::-2, ..., 1::3]
    view[:] = X
    return view


def _memory_map(X, folder):
    file = np.memmap(folder / "raw", dtype=X.dtype, mode="w+", shape=X.shape)
    file[:] = X
    file.flush()
    return np.memmap(folder / "raw", dtype=X.dtype, mode="r", shape=X.shape)


def _loaded(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def _read_only(X, folder):
    X = X.copy()
    X.flags.writeable = False
    return X


def _backwards(X):
    return tuple(reversed(range(X.ndim)))


def _requires_grad(X, folder):
    return torch.tensor(X, requires_grad=True)


LAYOUTS = {
    "memmap": _memory_map,
    "np.load": _loaded,
    "read-only": _read_only,
    "Fortran": lambda X, folder: np.asfortranarray(X),
    "strided": lambda X, folder: _strided(X),
    "big-endian": lambda X, folder: X.astype(X.dtype.newbyteorder(">")),
    "tensor": lambda X, folder: torch.from_numpy(X.copy()),
    "requires_grad": _requires_grad,
    "transposed tensor": lambda X, folder: torch.from_numpy(X.T.copy()).permute(_backwards(X)),
    "list of arrays": lambda X, folder: list(X),
    "list of tensors": lambda X, folder: list(torch.from_numpy(X.copy())),
}


@pytest.mark.parametrize("as_rows", [False, True], ids=["images", "rows"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cls", BOTH)
def test_layouts_change_nothing(cls, layout, as_rows, tmp_path):
    X = images(cls, channels=2)
    params = {"input_shape": X.shape[1:], "batch_size": 5}
    X = X.reshape(N, -1) if as_rows else X
    unusual = LAYOUTS[layout](X, tmp_path)
    clf = make(cls, **params).fit(X, Y)
    other = make(cls, **params).fit(unusual, Y)
    assert_array_equal(other.decision_function(unusual), clf.decision_function(X))
    assert_array_equal(other.predict_proba(X), clf.predict_proba(unusual))
    assert other.n_features_in_ == clf.n_features_in_


@pytest.mark.parametrize("as_rows", [False, True], ids=["images", "rows"])
@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "i2", "?", "i1", "i4", "u4", "i8", "u8", "f2", "g", ">u2", ">i2", ">f2"]
)
@pytest.mark.parametrize("cls", BOTH)
def test_dtypes_give_what_float32_gives(cls, dtype, as_rows):
    low, high = {"?": (0, 2), "i1": (-128, 128), "u1": (0, 256)}.get(dtype, (0, 2048))
    shape = (N, *[6] * (2 if cls is CNN2DClassifier else 3))
    X = np.random.default_rng(0).integers(low, high, shape).astype(dtype)
    X = X.reshape(N, -1) if as_rows else X
    plain = X.astype(np.float32)
    expected = logits(plain, cls=cls)
    assert expected.dtype == np.float32
    assert_array_equal(logits(X, cls=cls), expected)
    assert_array_equal(logits(plain, cls=cls, X_test=X), expected)
    # Another precision, and so close only.
    assert_allclose(logits(X.astype(np.float64), cls=cls), expected, rtol=1e-3, atol=1e-4)


def test_large_unsigned_integers_are_not_negative():
    # Half of the range would be below 0 in a signed reading of the same bits.
    for dtype in (np.uint16, np.uint32, np.uint64):
        top = np.iinfo(dtype).max
        share = np.random.default_rng(0).integers(0, 2**16, (N, 6, 6)) / 2**16
        X = (share * float(top // 2)).astype(dtype) * np.uint8(2)
        expected = logits(X.astype(np.float64) / top, dtype="float32")
        assert_allclose(logits(X), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cls", BOTH)
def test_nested_lists_are_float64_or_integers(cls):
    X = images(cls, dtype=np.float64)
    assert_array_equal(logits(X.tolist(), Y.tolist(), cls=cls), logits(X, cls=cls))
    assert_array_equal(logits(X.astype(object), cls=cls), logits(X, cls=cls))
    whole = X.astype(np.int64)
    assert_array_equal(logits(whole.tolist(), cls=cls), logits(whole, cls=cls))
    assert_array_equal(
        logits(whole.reshape(N, -1).tolist(), cls=cls), logits(whole.reshape(N, -1), cls=cls)
    )


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8])
def test_tensors_of_any_dtype(cls, dtype):
    tensor = torch.from_numpy(images(cls)).to(dtype)
    plain = tensor.to(torch.float64 if dtype == torch.float64 else torch.float32).numpy()
    assert_array_equal(logits(tensor, torch.from_numpy(Y), cls=cls), logits(plain, cls=cls))
    assert_array_equal(logits(tensor.flatten(1), cls=cls), logits(plain.reshape(N, -1), cls=cls))


def test_tensors_that_are_views_on_complex_numbers():
    z = torch.from_numpy(images(dtype=np.complex64) + 1j * images(seed=1))
    imag = z.conj().imag  # its sign is a flag that numpy does not know
    assert_array_equal(logits(imag), logits(-images(seed=1)))


@pytest.mark.cuda
def test_tensors_on_cuda():
    X = torch.from_numpy(images())
    clf = make().fit(X.cuda(), torch.from_numpy(Y).cuda(), torch.ones(N, device="cuda"))
    expected = make().fit(X, Y, np.ones(N)).decision_function(X)
    assert_array_equal(clf.decision_function(X.cuda()), expected)
    on_cuda = make(device="cuda").fit(X.cuda(), Y)
    assert_allclose(on_cuda.decision_function(X.cuda()), logits(X), rtol=1e-2, atol=1e-2)
    assert make(device=0).fit(X, Y).net_.device == "cuda:0"


def test_auto_dtype_follows_float64_only():
    for dtype, expected in [("f8", "f8"), (">f8", "f8"), ("f4", "f4"), ("i8", "f4"), ("g", "f4")]:
        assert logits(images(dtype=dtype)).dtype == np.dtype(expected)


def test_single_voxels_and_constant_images():
    for cls in BOTH:
        for X in (np.zeros((N, 1)), np.full((N, 1, 1, 1), 7, dtype=np.uint8), np.ones((N, 5))):
            proba = make(cls).fit(X, Y).predict_proba(X)
            assert_allclose(proba.sum(1), 1, rtol=1e-6)


# Unusual but good: labels -------------------------------------------------------------------

CODES = np.array([2, 0, 1, 1, 0, 2, 1, 0, 0, 2, 1, 0])
NAMES = ["", "melanoma", "nevus"]

LABELS = {
    "text": (np.array(NAMES)[CODES], NAMES),
    "list of text": ([NAMES[k] for k in CODES], NAMES),
    "tuple": (tuple(NAMES[k] for k in CODES), NAMES),
    "objects": (np.array(NAMES, dtype=object)[CODES], NAMES),
    "gaps": (np.array([-7, 3, 2**40])[CODES], [-7, 3, 2**40]),
    "list of int": ([[-7, 3, 900][k] for k in CODES], [-7, 3, 900]),
    "uint8": (CODES.astype(np.uint8), [0, 1, 2]),
    "huge": (CODES.astype(np.uint64) + 2**63, [2**63, 2**63 + 1, 2**63 + 2]),
    "big-endian": (CODES.astype(">i4"), [0, 1, 2]),
    "whole floats": (CODES * 2.0, [0.0, 2.0, 4.0]),
    "dates": (CODES.astype("M8[D]"), np.arange(3).astype("M8[D]")),
    "read-only": (np.frombuffer(CODES.tobytes(), dtype=CODES.dtype), [0, 1, 2]),
    "strided": (np.repeat(CODES, 2)[::2], [0, 1, 2]),
    "tensor": (torch.from_numpy(CODES), [0, 1, 2]),
    "Series": (pd.Series(CODES * 5, index=np.arange(N) + 7), [0, 5, 10]),
    "Series of text": (pd.Series(np.array(NAMES)[CODES]), NAMES),
    "Categorical": (pd.Categorical(np.array(NAMES)[CODES]), NAMES),
    "categories": (
        pd.Series(
            pd.Categorical(np.array(NAMES)[CODES], [*NAMES[::-1], "unused"]), range(3, N + 3)
        ),
        NAMES,
    ),
    "Int64": (pd.Series(CODES, dtype="Int64"), [0, 1, 2]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_only_names(kind):
    y, names = LABELS[kind]
    X = images(n=N) + 100 * CODES[:, None, None].astype(np.float32)
    plain = make(max_epochs=8).fit(X, CODES)
    clf = make(max_epochs=8).fit(X, y)
    assert_array_equal(clf.classes_, names)
    assert_array_equal(clf.decision_function(X), plain.decision_function(X))
    codes = plain.predict(X)
    assert len(set(codes)) > 1, "the data are too hard to tell names from each other"
    assert_array_equal(clf.predict(X), np.asarray(names)[codes])


def test_boolean_labels():
    X = images()
    expected = make().fit(X, Y).predict(X)
    for y in (Y == 1, (Y == 1).tolist(), torch.from_numpy(Y == 1), pd.Series(Y == 1)):
        clf = make().fit(X, y)
        assert clf.classes_.tolist() == [False, True]
        assert clf.predict(X).dtype == bool
        assert_array_equal(clf.predict(X), expected == 1)


def test_column_of_labels_is_taken_with_a_word_of_advice():
    with pytest.warns(UserWarning, match="column-vector y was passed.*ravel"):
        clf = make().fit(images(), Y[:, None])
    assert_array_equal(clf.decision_function(images()), logits(images()))


def test_weights_in_other_containers():
    X = images()
    weight = np.arange(1, N + 1)
    expected = make().fit(X, Y, weight.astype(float)).decision_function(X)
    assert not np.array_equal(expected, logits(X))
    for other in (
        weight,
        weight.tolist(),
        pd.Series(weight, range(N, 2 * N)),
        torch.tensor(weight),
    ):
        assert_array_equal(make().fit(X, Y, other).decision_function(X), expected)


def test_data_frames():
    X = images().reshape(N, -1)
    frame = pd.DataFrame(X, index=[f"case {i}" for i in range(N)]).add_prefix("p")
    clf = make(input_shape=(6, 6)).fit(frame, pd.Series(Y, frame.index))
    assert clf.feature_names_in_.tolist() == frame.columns.tolist()
    expected = logits(X, input_shape=(6, 6))
    assert_array_equal(clf.decision_function(frame), expected)
    assert_array_equal(clf.decision_function(X.reshape(N, 6, 6)), expected)
    order, names = frame.columns[::-1], {"p3": "q3"}
    for other, words in [
        (frame[order], "must be in the same order as they were in fit"),
        (frame.rename(columns=names), "unseen at fit time:\n- q3\n.*now missing:\n- p3"),
        (frame.drop(columns="p35"), "now missing:\n- p35"),
    ]:
        for method in OUTPUTS:
            with pytest.raises(ValueError, match=f"(?s)feature names should match.*{words}"):
                getattr(clf, method)(other)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        clf.predict(X)
    # Names are those of the last fit.
    assert not hasattr(clf.fit(X.reshape(N, 6, 6), Y), "feature_names_in_")
    assert not hasattr(clf.fit(frame, Y).fit(X, Y), "feature_names_in_")


def test_data_frames_of_mixed_columns():
    frame = pd.DataFrame({"age": [50.5, 61] * 6, "n": [1, 2, 3] * 4, "flag": [True, False] * 6})
    X = frame.to_numpy(dtype=np.float64)
    assert_array_equal(logits(frame), logits(X))
    with pytest.raises(ValueError, match="could not convert string to float: 'f'"):
        make().fit(frame.assign(sex=["f", "m"] * 6), Y)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("dtype", "as_tensor"),
    # torch has no big-endian tensors
    [("f4", False), ("f8", False), ("u1", False), (">f4", False), ("f4", True), ("u1", True)],
)
def test_input_is_never_modified(cls, dtype, as_tensor):
    X = np.abs(images(cls, channels=2)).astype(dtype)
    y, weight = Y.copy(), np.linspace(0, 2, N)
    net, classes = {"module__width": 4, "optimizer__weight_decay": 0.1}, [1, 0]
    given = [X, X.reshape(N, -1), y, weight, net, classes]
    before = copy.deepcopy(given)
    params = {"net": net, "class_weight": {0: 2, 1: 3}, "batch_size": 5, "micro_batch_size": 2}
    for data in given[:2]:
        shown = torch.from_numpy(data) if as_tensor else data
        clf = make(cls, **params, input_shape=X.shape[1:], max_epochs=2, train_split=0.3)
        clf.fit(shown, y, weight)
        clf.partial_fit(shown, y, classes, weight)
        for method in OUTPUTS:
            getattr(clf, method)(shown)
    for now, then in zip(given, before, strict=True):
        assert type(now) is type(then)
        if isinstance(now, np.ndarray):
            assert now.dtype == then.dtype
            assert_array_equal(now, then)
        else:
            assert now == then


# Warnings -----------------------------------------------------------------------------------


def caught(call, category=Warning):
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        call()
    return [item for item in log if issubclass(item.category, category)]


PURE = ["mcc", "f1", "f1+mcc", "0.5*mcc", LossMix(mcc=1), LossMix(f1=2, mcc=1)]
PURE += [SoftMCCLoss(), SoftMCCLoss, SoftF1Loss(), SoftF1Loss]
MIXES = ["la", "ldam", "balanced_softmax+mcc", "f1+la"]
MIXES += ["ce", "wce", "focal", "ce+mcc", "wce+f1", "mcc+focal", "0.001*ce + mcc + f1"]
MIXES += [LossMix(ce=0.1, mcc=1), FocalLoss(), nn.CrossEntropyLoss, nn.CrossEntropyLoss()]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("loss", PURE, ids=str)
def test_collapse_warning_once_per_fit(cls, loss):
    X = images(cls)
    clf = make(cls, loss=LossMix.from_expression(loss, warmup_epochs=0), max_epochs=3, batch_size=4)
    for _ in range(2):
        (warning,) = caught(lambda: clf.fit(X, Y))
        assert warning.category is CollapseWarning
        assert warning.filename == __file__
        text = str(warning.message)
        assert f"loss={clf.loss!r}" in text
        assert "collapse to one class" in text
    mix = re.search(r"loss='(ce\+(?:mcc|f1))'", text)[1]
    assert caught(lambda: make(cls, loss=mix).fit(X, Y)) == []
    assert "warmup_epochs=0.5" in text
    assert caught(lambda: make(cls, loss=loss).fit(X, Y)) == []


def test_collapse_warning_in_the_first_call_of_partial_fit_only():
    clf = make(loss=LossMix(mcc=1, warmup_epochs=0))
    assert len(caught(lambda: clf.partial_fit(images(), Y, classes=[0, 1]), CollapseWarning)) == 1
    assert caught(lambda: clf.partial_fit(images(), Y)) == []


@pytest.mark.parametrize("loss", MIXES, ids=str)
def test_no_collapse_warning_for_losses_with_a_term_per_row(loss):
    assert caught(lambda: make(loss=loss).fit(images(), Y)) == []


def test_collapse_warning_can_be_filtered(refused):
    X = images()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", CollapseWarning)
        with pytest.raises(pytest.fail.Exception, match="training began"):
            make(loss=LossMix(mcc=1, warmup_epochs=0)).fit(X, Y)
        warnings.simplefilter("error", CollapseWarning)
        clf = make(loss=LossMix(mcc=1, warmup_epochs=0))
        refused(lambda: clf.fit(X, Y), "loss='ce+mcc'", error=CollapseWarning)


@pytest.mark.parametrize(
    ("params", "classes", "warns"),
    [
        ({"loss": "ce+mcc", "batch_size": 3}, 4, True),
        ({"loss": "ce+f1", "batch_size": 3}, 4, True),
        ({"loss": LossMix(ce=1, mcc=0.1), "batch_size": 1}, 2, True),
        ({"loss": "ce", "sampler": "balanced", "batch_size": 3}, 4, True),
        ({"loss": "ce", "sampler": "stratified", "batch_size": 2}, 3, True),
        ({"sampler": "balanced", "batch_size": 2, "micro_batch_size": 1}, 3, True),
        ({"loss": "ce+mcc", "batch_size": 4}, 4, False),
        ({"loss": "ce", "batch_size": 3}, 4, False),
        ({"loss": "ce", "sampler": "weighted", "batch_size": 3}, 4, False),
        ({"loss": "ce", "sampler": RandomOverSampler(), "batch_size": 3}, 4, False),
        ({"sampler": "balanced", "batch_size": 3, "micro_batch_size": 1}, 3, False),
    ],
    ids=str,
)  # fmt: skip
def test_batches_that_cannot_hold_every_class(params, classes, warns):
    X, y = images(), np.arange(N) % classes
    log = caught(lambda: make(max_epochs=2, **params).fit(X, y))
    assert len(log) == warns
    clf = make(**params)
    partial = caught(lambda: clf.partial_fit(X, y, classes=range(classes)))
    assert len(partial) == warns
    assert caught(lambda: clf.partial_fit(X, y)) == []
    for warning in log + partial:
        assert warning.category is UserWarning
        assert warning.filename == __file__
        text = str(warning.message)
        assert f"batch_size={params['batch_size']} is less than the {classes} classes" in text
        assert "use a larger batch_size" in text


# Anything at all ----------------------------------------------------------------------------

REAL = ["?", "u1", "i2", ">u2", "i8", "u8", "f2", "f4", "f8", ">f8", "g"]
UNREAL = ["c8", "c16", "O", "U2", "S2", "M8[s]", "m8[D]", "words", "None"]
TARGETS = ["int", "text", "bool", "gaps", "objects", "one class", "regression", "nan", "short"]
TARGETS += ["matrix", "None", "mixed", "complex", "dates", "empty", "bytes", "scalar", "ragged"]
INTERNAL = re.compile(
    r"mat1 and mat2|expected scalar type|\(unbatched\)|index out of range|out of bounds|"
    r"convert np\.ndarray|not supported between|could not be broadcast|has no attribute|"
    r"NoneType' object|ufunc|to unpack|given groups|Sizes of tensors|size mismatch|"
    r"not implemented for|unhashable|must match the size|Expected \d+-dimensional|subscriptable|"
    r"ambiguous|kernel size|invalid for input of size|cannot reshape|zero-size array"
)


def some_array(rng, shape, dtype, values):
    with np.errstate(all="ignore"):
        X = {
            "normal": lambda: rng.normal(0, 30, shape),
            "constant": lambda: np.full(shape, 3.0),
            "tiny": lambda: rng.normal(0, 1e-40, shape),
            "huge": lambda: rng.normal(0, 1e300, shape),
            "nan": lambda: np.where(rng.random(shape) < 0.1, np.nan, 1.0),
            "inf": lambda: np.where(rng.random(shape) < 0.1, -np.inf, 1.0),
        }[values]()
        if dtype == "words":
            return np.full(shape, "word", dtype=object)
        if dtype == "None":
            return np.full(shape, None)
        if np.dtype(dtype).kind in "iuMm":
            X = np.nan_to_num(X, nan=0, posinf=0, neginf=0).clip(0, 9)
        return np.asarray(X).astype(dtype)


def some_labels(rng, n, kind):
    codes = rng.permutation(np.arange(n) % 3)
    return {
        "int": lambda: codes,
        "text": lambda: np.array(NAMES)[codes],
        "bool": lambda: codes == 1,
        "gaps": lambda: [[-9, 4, 10**12][k] for k in codes],
        "objects": lambda: np.array(NAMES, dtype=object)[codes],
        "one class": lambda: codes * 0,
        "regression": lambda: rng.normal(size=n),
        "nan": lambda: np.where(codes == 1, np.nan, codes),
        "short": lambda: codes[1:],
        "matrix": lambda: np.c_[codes, codes],
        "None": lambda: None,
        "mixed": lambda: [["a", 1, None][k] for k in codes],
        "complex": lambda: codes * 1j,
        "dates": lambda: codes.astype("M8[D]"),
        "empty": lambda: [],
        "bytes": lambda: codes.astype("S1"),
        "scalar": lambda: 7,
        "ragged": lambda: [[1] * (1 + k) for k in codes],
    }[kind]()


@st.composite
def anything(draw):
    """Draw any input at all; about a third of it is good."""
    n = draw(st.integers(3, 7))
    size = st.integers(1, 7)
    shape = draw(
        st.one_of(
            st.lists(st.integers(0, 7), max_size=6),
            st.tuples(st.just(n), size),
            st.tuples(st.just(n), size, size),
            st.tuples(st.just(n), size, size, size),
            st.tuples(st.just(n), size, size, size, size),
        ).map(tuple)
    )
    dtype = draw(st.one_of(st.sampled_from(REAL), st.sampled_from(REAL + UNREAL)))
    values = draw(st.sampled_from(["normal"] * 4 + ["constant", "tiny", "huge", "nan", "inf"]))
    target = draw(st.one_of(st.sampled_from(TARGETS[:5]), st.sampled_from(TARGETS)))
    return shape, dtype, values, target, draw(st.integers(0, 2**32 - 1))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(anything())
def test_right_answer_or_right_words(drawn):
    shape, dtype, values, target, seed = drawn
    rng = np.random.default_rng(seed)
    X = some_array(rng, shape, dtype, values)
    y = some_labels(rng, shape[0] if shape else 1, target)
    for cls in BOTH:
        words = None
        try:
            clf = make(cls).fit(X, y)
        except (ValueError, TypeError) as error:
            words = str(error)
        if words is not None:
            assert len(words) > 10
            assert not INTERNAL.search(words), words
            continue
        labels, proba = clf.predict(X), clf.predict_proba(X)
        assert labels.shape == (len(X),)
        assert set(labels.tolist()) <= set(np.asarray(y).tolist())
        assert proba.shape == (len(X), len(set(np.asarray(y).tolist())))
        assert np.isfinite(proba).all()
        assert_allclose(proba.sum(1), 1, rtol=1e-5)
        assert_array_equal(labels, clf.classes_[proba.argmax(1)])


def save_images(folder, n=N, cls=CNN2DClassifier):
    X = images(cls, n, dtype=np.uint8)
    for i, image in enumerate(X):
        np.save(folder / f"{i}.npy", image)
    return X, [folder / f"{i}.npy" for i in range(n)]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("form", ["list", "tuple", "text", "array", "objects", "series", "strings"])
def test_paths_are_taken_for_their_images(cls, form, tmp_path):
    X, paths = save_images(tmp_path, cls=cls)
    text = list(map(str, paths))
    given = {
        "list": paths,
        "tuple": tuple(paths),
        "text": text,
        "array": np.array(text),
        "objects": np.array(paths, dtype=object),
        "series": pd.DataFrame({"file": paths})["file"],
        "strings": pd.Series(text, dtype="string", index=np.arange(N) + 7),
    }[form]
    expected = make(cls).fit(X, Y)
    clf = make(cls).fit(given, Y)
    assert clf.input_shape_ == expected.input_shape_
    assert clf.n_features_in_ == expected.n_features_in_
    for output in OUTPUTS:
        assert_array_equal(getattr(clf, output)(given), getattr(expected, output)(X))
    assert clf.score(given, Y) == expected.score(X, Y)
    clf.partial_fit(given, Y)
    expected.partial_fit(X, Y)
    assert_array_equal(clf.predict_proba(given), expected.predict_proba(X))
    scores = cross_val_score(make(cls), given, Y, cv=2)
    assert_array_equal(scores, cross_val_score(make(cls), X, Y, cv=2))


def test_validation_images_as_paths(tmp_path):
    X, paths = save_images(tmp_path)
    split = predefined_split(Dataset(paths, Y))
    clf = make(train_split=split).fit(paths, Y)
    expected = make(train_split=predefined_split(Dataset(X, Y))).fit(X, Y)
    assert clf.history_[-1, "valid_loss"] == expected.history_[-1, "valid_loss"]


def test_labels_of_text_are_no_paths(tmp_path):
    _, paths = save_images(tmp_path)
    labels = ["a.png" if label else "b.png" for label in Y]
    assert make().fit(paths, labels).classes_.tolist() == ["a.png", "b.png"]


def test_bad_paths(tmp_path):
    X, paths = save_images(tmp_path)
    with pytest.raises(TypeError, match=r"paths.*ndarray at index 2"):
        make().fit([*paths[:2], X[2], *paths[3:]], Y)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npy"):
        make().fit([*paths[:-1], tmp_path / "nowhere.npy"], Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make().fit(paths, Y[:-1])
    with pytest.raises(ValueError, match=r"takes X of shape.*first image is .*0\.npy"):
        make(CNN3DClassifier).fit(paths, Y)
    clf = make().fit(X, Y)
    np.save(paths[0], np.zeros((7, 7), np.uint8))
    with pytest.raises(ValueError, match=r"sample shape \(1, 7, 7\).*expecting sample shape"):
        clf.predict(paths[:1])
    with pytest.raises(ValueError, match=r"^iterator_train__num_workers.*-1"):
        make(net={"iterator_train__num_workers": -1}).fit(X, Y)
