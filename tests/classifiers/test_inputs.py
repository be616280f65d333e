"""Images, labels, weights and groups: right answers, or errors before any training."""

import copy
import pickle
import re
import tracemalloc
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import (
    cross_val_score,
)
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch.utils.data import Subset

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.images import DecodedImage, ImageFiles
from tests.cases import quick_and_all
from tests.classifiers.data import CLASSIFIERS, OUTPUTS, N, Y, logits, noise, tiny


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
    refused(lambda: tiny(cls).fit(X, Y), f"{cls.__name__} takes X of shape", accepted, got)


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize(
    ("X", "got"),
    [
        (np.zeros(N), "got 1D array instead"),
        (np.float32(3), "got scalar array instead"),
        (None, "got scalar array instead"),
        ({"image": 1}, "got scalar array instead"),
    ],
    ids=["one axis", "scalar", "None", "dict"],
)
def test_no_array_of_samples(refused, cls, X, got):
    refused(lambda: tiny(cls).fit(X, Y), "Expected 2D array", got, "array.reshape(")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_channels_last_is_refused_with_both_ways_out(refused, monkeypatch, cls, channels):
    n_axes = 2 if cls is CNN2DClassifier else 3
    X = np.random.default_rng(0).integers(0, 255, (N, *[8] * n_axes, channels), dtype=np.uint8)
    way_out = "np.moveaxis(X, -1, 1)"
    text = refused(
        lambda: tiny(cls).fit(X, Y),
        f"X must have its channels first; got the shape {X.shape}",
        way_out,
        f"input_shape={X.shape[1:]}",
    )
    monkeypatch.undo()
    transposed = eval(re.search(r"np\.moveaxis\([^)]+\)", text)[0], {"X": X, "np": np})
    assert_array_equal(transposed[:, -1], X[..., -1])
    assert tiny(cls).fit(transposed, Y).input_shape_ == (channels, *[8] * n_axes)
    as_they_are = tiny(cls, input_shape=X.shape[1:]).fit(X, Y)
    assert as_they_are.input_shape_ == X.shape[1:]
    assert as_they_are.predict(X).shape == (N,)


def test_channels_last_without_a_channel_axis_for_the_class(refused, monkeypatch):
    # A stack of RGB images has as many axes as volumes without channels.
    X = np.zeros((N, 8, 8, 3), dtype=np.uint8)
    refused(
        lambda: tiny(CNN3DClassifier).fit(X, Y),
        "X must have its channels first; got the shape (12, 8, 8, 3)",
        "np.moveaxis(X, -1, 1) with the classifier for its spatial axes",
        "input_shape=(1, 8, 8, 3)",
    )
    small = np.zeros((N, 5, 5, 3), dtype=np.uint8)
    refused(lambda: tiny().fit(small, Y), "channels first", "input_shape=(5, 5, 3)")
    line = np.zeros((N, 8, 3), dtype=np.uint8)
    refused(lambda: tiny().fit(line, Y), "channels first", "input_shape=(1, 8, 3)")
    monkeypatch.undo()
    for shape in [(8, 8, 3), (1, 8, 8, 3), [8, 8, 3]]:
        clf = tiny(CNN3DClassifier, input_shape=shape).fit(X, Y)
        assert clf.input_shape_ == (1, 8, 8, 3)
    # After the advice: the 2D class, channels first.
    assert tiny().fit(X.transpose(0, 3, 1, 2), Y).input_shape_ == (3, 8, 8)


@pytest.mark.parametrize(
    ("cls", "shape"),
    [
        (CNN2DClassifier, (N, 3, 8, 8)),
        (CNN2DClassifier, (N, 3, 8, 3)),
        (CNN2DClassifier, (N, 4, 8, 3)),
        (CNN2DClassifier, (N, 5, 8, 5)),
        (CNN2DClassifier, (N, 8, 8, 8)),
        (CNN2DClassifier, (N, 1, 3)),
        (CNN3DClassifier, (N, 3, 8, 8, 8)),
        (CNN3DClassifier, (N, 2, 8, 8)),
        (CNN3DClassifier, (N, 5, 16, 16)),
        (CNN3DClassifier, (N, 8, 8, 8)),
        (CNN3DClassifier, (N, 20, 20, 17)),
        (CNN3DClassifier, (N, 1, 8, 8, 3)),
        (CNN3DClassifier, (N, 2, 8, 8, 5)),
    ],
)
def test_what_may_be_channels_first_is_taken_so(cls, shape):
    n_axes = 2 if cls is CNN2DClassifier else 3
    channels = shape[1:-n_axes] or (1,)
    clf = tiny(cls).fit(np.zeros(shape, dtype=np.uint8), Y)
    assert clf.input_shape_ == (*channels, *shape[-n_axes:])
    assert clf.n_features_in_ == np.prod(shape[1:])


@pytest.mark.parametrize(
    ("cls", "shape"),
    [
        *[(CNN2DClassifier, (N, *shape)) for shape in [(4, 4, 3), (7, 7, 6), (20, 20, 16)]],
        *[(CNN3DClassifier, (N, *shape)) for shape in [(4, 4, 3), (8, 9, 2), (10, 11, 5)]],
        (CNN3DClassifier, (N, 8, 8, 8, 6)),
    ],
)
def test_short_last_axes_count_channels(refused, cls, shape):
    X = np.zeros(shape, dtype=np.uint8)
    refused(lambda: tiny(cls).fit(X, Y), "X must have its channels first", "input_shape=(")


@pytest.mark.parametrize(
    ("cls", "shape", "which", "remedy"),
    [
        (CNN2DClassifier, (9, 9, 20), "last", r"np\.moveaxis\(X, -1, 1\)"),
        (CNN2DClassifier, (12, 9, 7), "last", r"np\.moveaxis\(X, -1, 1\)"),
        (CNN3DClassifier, (20, 24, 6), "last", r"np\.moveaxis\(X, -1, 1\)"),
        (CNN3DClassifier, (8, 8, 5), "last", r"np\.moveaxis\(X, -1, 1\)"),
        (CNN3DClassifier, (9, 10, 11, 5), "last", r"np\.moveaxis\(X, -1, 1\)"),
        (CNN3DClassifier, (3, 8, 8), "first", "CNN2DClassifier"),
        (CNN3DClassifier, (1, 8, 8), "first", "CNN2DClassifier"),
        (CNN3DClassifier, (3, 3, 3), "first", "CNN2DClassifier"),
    ],
)
def test_axes_that_may_count_channels_are_a_warning(cls, shape, which, remedy):
    X = np.zeros((N, *shape), dtype=np.uint8)
    words = rf"the {which} axis of the images .* may count channels.*{remedy}.*input_shape=\("
    with pytest.warns(UserWarning, match=words) as caught:
        clf = tiny(cls).fit(X, Y)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        as_they_are = tiny(cls, input_shape=clf.input_shape_).fit(X, Y)
        clf.predict(X)
    assert as_they_are.input_shape_ == clf.input_shape_


@pytest.mark.parametrize(
    ("cls", "shape", "fragments"),
    [
        (CNN2DClassifier, (0, 6, 6), ["0 sample(s)", "minimum of 1"]),
        (CNN2DClassifier, (0, 3, 6, 6), ["0 sample(s)", "minimum of 1"]),
        (CNN2DClassifier, (0, 36), ["0 sample(s)", "minimum of 1"]),
        (CNN2DClassifier, (N, 0), ["0 feature(s)", "minimum of 1"]),
        (
            CNN2DClassifier,
            (N, 0, 6),
            ["X must have a size of at least 1", "(12, 0, 6)", "at least 1"],
        ),
        (
            CNN2DClassifier,
            (N, 0, 6, 6),
            ["X must have a size of at least 1", "(12, 0, 6, 6)", "at least 1"],
        ),
        (
            CNN2DClassifier,
            (N, 1, 6, 0),
            ["X must have a size of at least 1", "(12, 1, 6, 0)", "at least 1"],
        ),
        (CNN3DClassifier, (0, 6, 6, 6), ["0 sample(s)", "minimum of 1"]),
        (CNN3DClassifier, (N, 0), ["0 feature(s)", "minimum of 1"]),
        (
            CNN3DClassifier,
            (N, 6, 0, 6),
            ["X must have a size of at least 1", "(12, 6, 0, 6)", "at least 1"],
        ),
        (
            CNN3DClassifier,
            (N, 0, 6, 6, 6),
            ["X must have a size of at least 1", "(12, 0, 6, 6, 6)", "at least 1"],
        ),
    ],
)
def test_nothing_there(refused, cls, shape, fragments):
    X = np.zeros(shape, dtype=np.float32)
    refused(lambda: tiny(cls).fit(X, Y[: len(X)]), *fragments)


@pytest.mark.parametrize("as_rows", [False, True])
@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_different_numbers_of_samples(refused, cls, as_rows):
    X = noise(cls)
    X = X.reshape(N, -1) if as_rows else X
    for y in (Y[:5], np.r_[Y, Y], []):
        refused(lambda y=y: tiny(cls).fit(X, y), "inconsistent", f"[{N}, {len(y)}]")


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
    X = noise(cls)
    clf = tiny(cls, input_shape=given)
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
    X = noise(cls)
    clf = tiny(cls, input_shape=given)
    refused(
        lambda: clf.fit(X.reshape(N, -1), Y),
        f"X has {X[0].size} features, but input_shape={full} needs {needs}.",
    )
    refused(
        lambda: clf.fit(X, Y),
        f"X has sample shape {(1, *X.shape[1:])}",
        f"{cls.__name__} is expecting sample shape {full}",
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "g"])
@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_pixels_that_are_no_numbers(refused, cls, dtype, value):
    X = noise(cls, dtype=dtype)
    X.flat[-1] = value
    what = "Input X contains NaN" if np.isnan(value) else "Input X contains infinity"
    for data, noun in ((X, "image"), (X[:, None], "image"), (X.reshape(N, -1), "row")):
        text = refused(lambda data=data: tiny(cls).fit(data, Y), what, f"1 pixel of {noun} {N - 1}")
        assert "np.nan_to_num(X" in text
        assert "HistGradientBoosting" not in text


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_pixels_that_are_no_numbers_at_predict(cls):
    X = noise(cls)
    clf = tiny(cls).fit(X, Y)
    X[-1, -1] = np.nan
    for method in OUTPUTS:
        for data in (X, X.reshape(N, -1)):
            with pytest.raises(
                ValueError, match=r"Input X contains NaN\. .*np\.nan_to_num"
            ) as error:
                getattr(clf, method)(data)
            assert "HistGradientBoosting" not in str(error.value)


@pytest.mark.parametrize("size", [8, 10])
def test_channels_last_at_predict(size):
    X = np.random.default_rng(0).integers(0, 255, (N, 3, 8, 8), dtype=np.uint8)
    clf = tiny().fit(X, Y)
    for method in OUTPUTS:
        with pytest.raises(ValueError, match=r"channels come last.*np.moveaxis\(X, -1, 1\)"):
            getattr(clf, method)(np.zeros((2, size, size, 3), np.uint8))


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
    tiny().fit(X[:4], y[:4])  # which imports modules
    clf = tiny()
    assert peak_of(lambda: clf.fit(X, y)) < X.nbytes
    assert_allclose(clf.net_.module_.mean.numpy().ravel(), [X.mean()], rtol=1e-5)
    assert peak_of(lambda: tiny(standardize=False).fit(X, y)) < X.nbytes / 20
    assert peak_of(lambda: tiny(standardize=False).fit(X.reshape(512, -1), y)) < X.nbytes / 20


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
    peak = peak_of(lambda: refused(lambda: tiny().fit(X, y), f"Input X contains {what}"))
    assert peak < X.nbytes / 3
    if dtype != ">f4":
        rows = X.reshape(len(X), -1)
        peak = peak_of(lambda: refused(lambda: tiny().fit(rows, y), f"Input X contains {what}"))
        assert peak < X.nbytes / 3


@pytest.mark.parametrize("as_rows", [False, True])
@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_pixels_of_a_dtype_without_real_numbers(refused, cls, as_rows):
    def shaped(X):
        return X.reshape(N, -1) if as_rows else X

    X = noise(cls)
    real, text = "X must hold real numbers; got dtype", "Convert your data to numeric values"
    for data, *fragments in [
        (X * 1j, "Complex data not supported"),
        (X.astype(str), text),
        (np.full(X.shape, b"1"), text),
        (np.full(X.shape, "a", dtype=object), "could not convert string to float: 'a'"),
        (X.astype("M8[s]"), f"{real} datetime64[s]", "X.astype('float32')"),
        (X.astype("m8[ms]"), f"{real} timedelta64[ms]", "X.astype('float32')"),
        (np.full(X.shape, None), "Input X contains NaN"),
    ]:
        refused(lambda data=data: tiny(cls).fit(shaped(data), Y), *fragments)
    refused(lambda: tiny(cls).fit(torch.tensor(X * 1j).conj(), Y), "Complex data not supported")


def test_sparse_and_ragged_pixels(refused):
    rows = noise().reshape(N, -1)
    for X in (sparse.csr_matrix(rows), sparse.coo_array(rows)):
        refused(
            lambda X=X: tiny().fit(X, Y),
            "Sparse data was passed for X",
            ".toarray()",
            error=TypeError,
        )
    refused(lambda: tiny().fit(torch.tensor(rows).to_sparse(), Y), "to_dense()", error=TypeError)
    refused(lambda: tiny().fit([[[1, 2]], [[1]]] * 6, Y), "inhomogeneous shape")


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_pixels_at_both_ends_of_a_narrow_dtype(refused, monkeypatch, cls, dtype):
    limit = np.finfo(dtype).max
    X = np.tile(np.array([limit, -limit], dtype=dtype), N * 32).reshape(N, 4, 4, 4)
    X = X[:, 0] if cls is CNN2DClassifier else X
    refused(lambda: tiny(cls).fit(X * np.array(np.inf, dtype), Y), "Input X contains infinity")
    monkeypatch.undo()
    for data in (X, X.reshape(N, -1)):  # finite, but their sum meets infinities
        expected = logits(data.astype(np.float64) / float(limit), cls=cls)
        assert_allclose(logits(data, cls=cls), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("params", [{}, {"dtype": "float32"}, {"standardize": False}], ids=str)
def test_pixels_beyond_the_range_of_the_dtype(refused, params):
    X = noise(dtype=np.float64) * 1e304
    text = refused(lambda: tiny(**params).fit(X, Y), "range of torch.float", "Scale X down")
    assert ("float32" in text) == ("dtype" in params)


def test_spread_beyond_the_range_of_the_dtype(refused, monkeypatch):
    X = np.tile(np.array([1e40, -1e40]), N * 18).reshape(N, 6, 6)
    X[0] = 0  # an image that would pass on its own
    refused(lambda: tiny(dtype="float32").fit(X, Y), "too large to be standardised", "float32")
    monkeypatch.undo()
    assert np.isfinite(logits(X)).all()  # in float64, which is what auto takes


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize(
    ("y", "fragments"),
    [
        (None, ["requires y to be passed, but the target y is None"]),
        (np.zeros(N, dtype=int), ["at least 2 classes", "got 1 class: [0]"]),
        (["benign"] * N, ["at least 2 classes", "got 1 class: ['benign']"]),
        (np.linspace(0, 1, N), ["Unknown label type: continuous", "discrete classes"]),
        (np.eye(N, dtype=int), ["targets are not supported", "y.argmax(axis=1)"]),
        (np.c_[Y, 1 - Y].tolist(), ["Multilabel and multioutput targets are not supported"]),
        (np.where(Y, np.nan, 1.0), ["Input y contains NaN"]),
        (np.where(Y, np.inf, 1.0), ["Input y contains infinity"]),
        (Y * 1j, ["Complex data not supported"]),
        (3, ["1d array", "shape ()"]),
        ("malignant", ["1d array", "shape ()"]),
        (["a", None] * 6, ["y must hold", "got the types NoneType, str", "same type"]),
        (np.array(["a", 1] * 6, dtype=object), ["y must hold", "got the types int, str", "str"]),
        (pd.Series(["a", "b"] * 5 + ["a", None]), ["y must hold labels", "without a label"]),
        (pd.Series([0, 1] * 5 + [0, None], dtype="Int64"), ["Input y contains NaN"]),
        (pd.Categorical(["a", "b"] * 5 + ["a", None]), ["y must hold labels", "without a label"]),
        ([[1], [2, 3]] * 6, ["inhomogeneous shape"]),
        (np.zeros((N, 1, 1)), ["dim 3", "dim <= 2"]),
    ],
)  # fmt: skip
def test_targets_that_are_no_classes(refused, cls, y, fragments):
    X = noise(cls)
    for data in (X, X.reshape(N, -1)):
        refused(lambda data=data: tiny(cls).fit(data, y), *fragments)


def test_targets_of_a_type_that_holds_no_classes(refused):
    X = noise()
    refused(lambda: tiny().fit(X, sparse.csr_matrix(Y[:, None])), "Sparse", "y", error=TypeError)
    refused(lambda: tiny().fit(X, np.array([b"a", b"b"] * 6)), "bytes", "string", error=TypeError)
    refused(
        lambda: tiny().fit(X, np.array([{}, {1: 2}] * 6)),
        "y must hold labels of one type",
        "types dict",
    )


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize(
    ("weight", "fragments"),
    [
        (np.r_[-1.0, np.ones(N - 1)], ["Negative values", "sample_weight"]),
        (np.r_[np.nan, np.ones(N - 1)], ["sample_weight contains NaN"]),
        (np.r_[np.inf, np.ones(N - 1)], ["sample_weight contains infinity"]),
        (np.ones(5), ["sample_weight.shape == (5,)", "expected (12,)"]),
        (np.ones((N, 2)), ["Sample weights must be 1D", "got 2D"]),
        (np.zeros(N), ["zero"]),
        (np.where(Y, 0, 1), ["at least 2 classes", "got 1 class: [0]"]),
    ],
    ids=["negative", "NaN", "infinity", "short", "two axes", "zeros", "one class left"],
)
def test_bad_sample_weight(refused, cls, weight, fragments):
    X = noise(cls)
    for data in (X, X.reshape(N, -1)):
        refused(lambda data=data: tiny(cls).fit(data, Y, sample_weight=weight), *fragments)
    refused(lambda: tiny(cls).fit(X, Y, weight.tolist()), *fragments)


def test_rows_without_weight_may_hold_labels_of_their_own():
    X = noise(n=N + 3)
    weight = np.r_[np.ones(N), 0, 0, 0]
    expected = tiny().fit(X[:N], Y).decision_function(X)
    for others in ([7, 8, 9], [-1, 0, 7], [0, 1, 2]):
        clf = tiny().fit(X, np.r_[Y, others], weight)
        assert clf.classes_.tolist() == [0, 1]
        assert_allclose(clf.decision_function(X), expected, rtol=1e-4, atol=1e-5)


def test_both_weights_together_leave_nothing(refused):
    clf = tiny(class_weight={0: 0, 1: 1}, train_split=lambda data, y: (Subset(data, [0, 2]), None))
    refused(lambda: clf.fit(noise(), Y, np.ones(N)), "class_weight", "nothing to learn from")


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize(
    ("classes", "fragments"),
    [
        (None, ["classes must be passed on the first call to partial_fit"]),
        ([1], ["at least 2 classes", "1 class: [1]"]),
        ([], ["at least 2 classes", "[]"]),
        ([1, 2], ["among the classes [1, 2]; got [0]", "Pass all labels as classes", "fit anew"]),
        (["0", "1"], ["among the classes ['0', '1']; got [0, 1]"]),
        ([0, 1, np.nan], ["classes contains NaN"]),
        ([0, 1, None], ["classes must hold", "got the types NoneType, int"]),
        ([[0, 1], [2, 3]], ["1d array", "(2, 2)"]),
        (2, ["1d array", "()"]),
    ],
    ids=str,
)
def test_bad_classes_in_the_first_call(refused, cls, classes, fragments):
    refused(lambda: tiny(cls).partial_fit(noise(cls), Y, classes=classes), *fragments)


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
@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_layouts_change_nothing(cls, layout, as_rows, tmp_path):
    X = noise(cls, channels=2)
    params = {"input_shape": X.shape[1:], "batch_size": 5}
    X = X.reshape(N, -1) if as_rows else X
    unusual = LAYOUTS[layout](X, tmp_path)
    clf = tiny(cls, **params).fit(X, Y)
    other = tiny(cls, **params).fit(unusual, Y)
    assert_array_equal(other.decision_function(unusual), clf.decision_function(X))
    assert_array_equal(other.predict_proba(X), clf.predict_proba(unusual))
    assert other.n_features_in_ == clf.n_features_in_


@pytest.mark.parametrize("as_rows", [False, True], ids=["images", "rows"])
@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "i2", "?", "i1", "i4", "u4", "i8", "u8", "f2", "g", ">u2", ">i2", ">f2"]
)
@pytest.mark.parametrize("cls", CLASSIFIERS)
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


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_nested_lists_are_float64_or_integers(cls):
    X = noise(cls, dtype=np.float64)
    assert_array_equal(logits(X.tolist(), Y.tolist(), cls=cls), logits(X, cls=cls))
    assert_array_equal(logits(X.astype(object), cls=cls), logits(X, cls=cls))
    whole = X.astype(np.int64)
    assert_array_equal(logits(whole.tolist(), cls=cls), logits(whole, cls=cls))
    assert_array_equal(
        logits(whole.reshape(N, -1).tolist(), cls=cls), logits(whole.reshape(N, -1), cls=cls)
    )


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8])
def test_tensors_of_any_dtype(cls, dtype):
    tensor = torch.from_numpy(noise(cls)).to(dtype)
    plain = tensor.to(torch.float64 if dtype == torch.float64 else torch.float32).numpy()
    assert_array_equal(logits(tensor, torch.from_numpy(Y), cls=cls), logits(plain, cls=cls))
    assert_array_equal(logits(tensor.flatten(1), cls=cls), logits(plain.reshape(N, -1), cls=cls))


def test_tensors_that_are_views_on_complex_numbers():
    z = torch.from_numpy(noise(dtype=np.complex64) + 1j * noise(seed=1))
    imag = z.conj().imag  # its sign is a flag that numpy does not know
    assert_array_equal(logits(imag), logits(-noise(seed=1)))


@pytest.mark.cuda
def test_tensors_on_cuda():
    X = torch.from_numpy(noise())
    clf = tiny().fit(X.cuda(), torch.from_numpy(Y).cuda(), torch.ones(N, device="cuda"))
    expected = tiny().fit(X, Y, np.ones(N)).decision_function(X)
    assert_array_equal(clf.decision_function(X.cuda()), expected)
    on_cuda = tiny(device="cuda").fit(X.cuda(), Y)
    assert_allclose(on_cuda.decision_function(X.cuda()), logits(X), rtol=1e-2, atol=1e-2)
    assert tiny(device=0).fit(X, Y).net_.device == "cuda:0"


def test_auto_dtype_follows_float64_only():
    for dtype, expected in [("f8", "f8"), (">f8", "f8"), ("f4", "f4"), ("i8", "f4"), ("g", "f4")]:
        assert logits(noise(dtype=dtype)).dtype == np.dtype(expected)


def test_single_voxels_and_constant_images():
    for cls in CLASSIFIERS:
        for X in (np.zeros((N, 1)), np.full((N, 1, 1, 1), 7, dtype=np.uint8), np.ones((N, 5))):
            proba = tiny(cls).fit(X, Y).predict_proba(X)
            assert_allclose(proba.sum(1), 1, rtol=1e-6)


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
    X = noise(n=N) + 100 * CODES[:, None, None].astype(np.float32)
    plain = tiny(max_epochs=8).fit(X, CODES)
    clf = tiny(max_epochs=8).fit(X, y)
    assert_array_equal(clf.classes_, names)
    assert_array_equal(clf.decision_function(X), plain.decision_function(X))
    codes = plain.predict(X)
    assert len(set(codes)) > 1, "the data are too hard to tell names from each other"
    assert_array_equal(clf.predict(X), np.asarray(names)[codes])


def test_boolean_labels():
    X = noise()
    expected = tiny().fit(X, Y).predict(X)
    for y in (Y == 1, (Y == 1).tolist(), torch.from_numpy(Y == 1), pd.Series(Y == 1)):
        clf = tiny().fit(X, y)
        assert clf.classes_.tolist() == [False, True]
        assert clf.predict(X).dtype == bool
        assert_array_equal(clf.predict(X), expected == 1)


def test_column_of_labels_is_taken_with_a_word_of_advice():
    with pytest.warns(UserWarning, match="column-vector y was passed.*ravel"):
        clf = tiny().fit(noise(), Y[:, None])
    assert_array_equal(clf.decision_function(noise()), logits(noise()))


def test_weights_in_other_containers():
    X = noise()
    weight = np.arange(1, N + 1)
    expected = tiny().fit(X, Y, weight.astype(float)).decision_function(X)
    assert not np.array_equal(expected, logits(X))
    for other in (
        weight,
        weight.tolist(),
        pd.Series(weight, range(N, 2 * N)),
        torch.tensor(weight),
    ):
        assert_array_equal(tiny().fit(X, Y, other).decision_function(X), expected)


def test_data_frames():
    X = noise().reshape(N, -1)
    frame = pd.DataFrame(X, index=[f"case {i}" for i in range(N)]).add_prefix("p")
    clf = tiny(input_shape=(6, 6)).fit(frame, pd.Series(Y, frame.index))
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
        tiny().fit(frame.assign(sex=["f", "m"] * 6), Y)


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize(
    ("dtype", "as_tensor"),
    # torch has no big-endian tensors
    [("f4", False), ("f8", False), ("u1", False), (">f4", False), ("f4", True), ("u1", True)],
)
def test_input_is_never_modified(cls, dtype, as_tensor):
    X = np.abs(noise(cls, channels=2)).astype(dtype)
    y, weight = Y.copy(), np.linspace(0, 2, N)
    net, classes = {"module__width": 4, "optimizer__weight_decay": 0.1}, [1, 0]
    given = [X, X.reshape(N, -1), y, weight, net, classes]
    before = copy.deepcopy(given)
    params = {"net": net, "class_weight": {0: 2, 1: 3}, "batch_size": 5, "micro_batch_size": 2}
    for data in given[:2]:
        shown = torch.from_numpy(data) if as_tensor else data
        clf = tiny(cls, **params, input_shape=X.shape[1:], max_epochs=2, train_split=0.3)
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


@pytest.mark.filterwarnings("ignore:the (first|last) axis of the images in X:UserWarning")
@pytest.mark.filterwarnings("ignore:The network:sklearn.exceptions.ConvergenceWarning")
@given(anything())
def test_right_answer_or_right_words(drawn):
    shape, dtype, values, target, seed = drawn
    rng = np.random.default_rng(seed)
    X = some_array(rng, shape, dtype, values)
    y = some_labels(rng, shape[0] if shape else 1, target)
    for cls in CLASSIFIERS:
        words = None
        try:
            clf = tiny(cls).fit(X, y)
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
    X = noise(cls, n, dtype=np.uint8)
    for i, image in enumerate(X):
        np.save(folder / f"{i}.npy", image)
    return X, [folder / f"{i}.npy" for i in range(n)]


FORMS = ["list", "tuple", "text", "array", "objects", "series", "strings"]


@pytest.mark.parametrize(
    ("cls", "form"),
    quick_and_all(
        [*product([CNN2DClassifier], FORMS), (CNN3DClassifier, "list")],
        product(CLASSIFIERS, FORMS),
    ),
)
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
    expected = tiny(cls).fit(X, Y)
    clf = tiny(cls).fit(given, Y)
    assert clf.input_shape_ == expected.input_shape_
    assert clf.n_features_in_ == expected.n_features_in_
    for output in OUTPUTS:
        assert_array_equal(getattr(clf, output)(given), getattr(expected, output)(X))
    assert clf.score(given, Y) == expected.score(X, Y)
    clf.partial_fit(given, Y)
    expected.partial_fit(X, Y)
    assert_array_equal(clf.predict_proba(given), expected.predict_proba(X))
    scores = cross_val_score(tiny(cls), given, Y, cv=2)
    assert_array_equal(scores, cross_val_score(tiny(cls), X, Y, cv=2))


def test_validation_images_as_paths(tmp_path):
    X, paths = save_images(tmp_path)
    split = predefined_split(Dataset(paths, Y))
    clf = tiny(train_split=split).fit(paths, Y)
    expected = tiny(train_split=predefined_split(Dataset(X, Y))).fit(X, Y)
    assert clf.history_[-1, "valid_loss"] == expected.history_[-1, "valid_loss"]


def test_labels_of_text_are_no_paths(tmp_path):
    _, paths = save_images(tmp_path)
    labels = ["a.png" if label else "b.png" for label in Y]
    assert tiny().fit(paths, labels).classes_.tolist() == ["a.png", "b.png"]


def test_bad_paths(tmp_path):
    X, paths = save_images(tmp_path)
    with pytest.raises(TypeError, match=r"paths.*ndarray at index 2"):
        tiny().fit([*paths[:2], X[2], *paths[3:]], Y)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npy does not exist"):
        tiny().fit([*paths[:-1], tmp_path / "nowhere.npy"], Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        tiny().fit(paths, Y[:-1])
    with pytest.raises(ValueError, match=r"takes X of shape.*first image is .*0\.npy"):
        tiny(CNN3DClassifier).fit(paths, Y)
    clf = tiny().fit(X, Y)
    np.save(paths[0], np.zeros((7, 7), np.uint8))
    with pytest.raises(ValueError, match=r"sample shape \(1, 7, 7\).*expecting sample shape"):
        clf.predict(paths[:1])
    with pytest.raises(ValueError, match=r"^iterator_train__num_workers.*-1"):
        tiny(net={"iterator_train__num_workers": -1}).fit(X, Y)


# Files of predictions --------------------------------------------------------------------------


def write_grey(folder, value, dtype, n=4, size=12):
    folder.mkdir()
    paths = [str(folder / f"{i}.png") for i in range(n)]
    for i, path in enumerate(paths):
        pixels = np.zeros((size, size), dtype)
        pixels[: 2 + i % 2 * 8] = value
        Image.fromarray(pixels).save(path)
    return paths


def fitted_to_files(paths, **options):
    clf = CNN2DClassifier(module="small", max_epochs=1, augment=None, random_state=0)
    return clf.fit(ImageFiles(paths, **options), ["a", "b"] * (len(paths) // 2))


@pytest.mark.parametrize(
    "options", [{"intensity": "full_range"}, {"size": (6, 8)}, {"channels": 3}]
)
def test_bare_paths_are_read_as_in_the_fit(tmp_path, options):
    paths = write_grey(tmp_path / "a", 200, np.uint8)
    clf = pickle.loads(pickle.dumps(fitted_to_files(paths, **options)))
    expected = clf.predict_proba(ImageFiles(paths, **options))
    assert_array_equal(clf.predict_proba(paths), expected)
    assert_array_equal(clf.predict_proba(np.array(paths)), expected)


def test_functions_of_the_fit_are_not_kept(tmp_path):
    paths = write_grey(tmp_path / "a", 200, np.uint8)
    clf = pickle.loads(pickle.dumps(fitted_to_files(paths, transform=lambda image: image / 255)))
    with pytest.raises(ValueError, match="must be ImageFiles with the transform= of the fit"):
        clf.predict(paths)


@pytest.mark.parametrize("X", [[], ()])
def test_no_paths_are_no_images(tmp_path, X):
    clf = fitted_to_files(write_grey(tmp_path / "a", 200, np.uint8))
    for call in (clf.predict, clf.predict_proba, lambda X: CNN2DClassifier().fit(X, [])):
        with pytest.raises(
            ValueError, match=f"^X must hold at least one image.*{type(X).__name__}"
        ):
            call(X)


def test_a_path_in_place_of_paths_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"list of paths.*got 'fundus'.*image_folder"):
        CNN2DClassifier().fit("fundus", [0, 1])
    with pytest.raises(TypeError, match="list of paths"):
        CNN2DClassifier().fit(tmp_path, [0, 1])


def save_grey(folder, dtype, n=6):
    paths = [folder / f"{np.dtype(dtype)}_{i}.npy" for i in range(n)]
    for i, path in enumerate(paths):
        np.save(path, np.full((8, 8), 20 * i, dtype))
    return paths


@pytest.mark.parametrize(
    ("dtype", "options", "words"),
    [
        ("uint8", {}, None),
        (
            "uint16",
            {},
            r"uint16_2\.npy.* holds numbers from 0 to 65535, and .* fitted to .* to 255",
        ),
        ("float32", {}, r"float32_2\.npy.* holds numbers without a stated range, and .* 0 to 255"),
        ("uint16", {"intensity": "stored"}, None),
    ],
)
def test_files_of_another_scale_than_those_of_the_fit_are_a_warning(
    tmp_path, dtype, options, words
):
    clf = tiny(CNN2DClassifier).fit(save_grey(tmp_path, "uint8"), [0, 1] * 3)
    clf = pickle.loads(pickle.dumps(clf))
    X = ImageFiles(save_grey(tmp_path, dtype), **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf.predict(X[2:4])
    found = [str(w.message) for w in caught if "fitted to" in str(w.message)]
    assert len(found) == (words is not None)
    assert all(re.search(words, message) for message in found)


def test_a_window_is_in_the_unit_of_the_files(tmp_path):
    def read(unit):
        def reader(path):
            pixels = np.load(path)[None]
            return DecodedImage(pixels, n_spatial=2, unit=unit)

        return reader

    paths = []
    for i in range(6):
        paths.append(str(tmp_path / f"{i}.npy"))
        np.save(paths[-1], np.random.default_rng(i).integers(0, 99, (8, 8)).astype(np.float32))
    window = {"intensity": (0, 100)}
    clf = tiny(CNN2DClassifier).fit(ImageFiles(paths, reader=read("HU"), **window), [0, 1] * 3)
    words = r"without a unit, scaled by .*fitted to numbers in HU, scaled by"
    with pytest.warns(UserWarning, match=words):
        clf.predict(ImageFiles(paths, reader=read(None), **window))


def test_bytes_of_another_scale_than_the_files_of_the_fit_are_a_warning(tmp_path):
    files = save_grey(tmp_path, "uint8")
    X = ImageFiles(files, intensity="full_range")
    clf = tiny(CNN2DClassifier).fit(X, [0, 1] * 3)
    with pytest.warns(UserWarning, match="0 to 255, and .*full_range.*or scale the array"):
        clf.predict(np.asarray(ImageFiles(files)))
    with warnings.catch_warnings():  # other dtypes state no scale
        warnings.simplefilter("error")
        clf.predict(np.asarray(X))
        clf.predict(np.asarray(X).astype(np.float64))
        clf.predict(np.zeros((2, 8, 8), np.int64))


@pytest.mark.parametrize(("dtype", "n_warnings"), [("u1", 0), ("u2", 1), ("f4", 0)])
def test_arrays_for_a_classifier_of_pictures(tmp_path, dtype, n_warnings):
    files = save_grey(tmp_path, "uint8")
    clf = tiny(CNN2DClassifier).fit(files, [0, 1] * 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf.predict(np.asarray(ImageFiles(files)).astype(dtype))
    assert sum("fitted to" in str(w.message) for w in caught) == n_warnings


def test_a_fit_to_arrays_knows_no_scale(tmp_path):
    clf = tiny(CNN2DClassifier).fit(np.zeros((6, 8, 8), np.uint8), [0, 1] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.predict(np.zeros((2, 8, 8), np.uint16))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_fit_where_gradients_are_off(context):
    X = noise(CNN2DClassifier, N)
    with context():
        inside = tiny(CNN2DClassifier, random_state=0).fit(X, Y)
        assert torch.is_inference_mode_enabled() == (context is torch.inference_mode)
        assert not torch.is_grad_enabled()
    outside = tiny(CNN2DClassifier, random_state=0).fit(X, Y)
    assert_array_equal(inside.predict_proba(X), outside.predict_proba(X))
