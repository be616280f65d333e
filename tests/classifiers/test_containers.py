"""The containers in which images, labels and weights may come."""

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from numpy.testing import assert_array_equal
from PIL import Image

from skimbal import CNN2DClassifier
from tests.classifiers.data import images, noise, tiny

pytestmark = pytest.mark.filterwarnings(
    "ignore:The network predicted one class:sklearn.exceptions.ConvergenceWarning"
)


def fitted(X, y, weight=None):
    clf = tiny().fit(X, y, sample_weight=weight)
    return clf.predict_proba(X), clf.predict(X), clf.transform(X), clf.score(X, y)


def strict(array):
    return array_api_strict.asarray(np.ascontiguousarray(array))


def tensor_with_gradient(array):
    tensor = torch.from_numpy(array)
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("dispatch", [False, True])
@pytest.mark.parametrize("container", [strict, torch.from_numpy, tensor_with_gradient])
@pytest.mark.parametrize("of", ["X", "y", "X and y", "rows"])
def test_arrays_of_other_libraries_are_arrays(of, container, dispatch):
    X, y = images(n=24)
    X = X.reshape(24, -1) if of == "rows" else X
    weight = np.linspace(1, 2, 24)
    expected = fitted(X, y, weight)
    with sklearn.config_context(array_api_dispatch=dispatch):
        found = fitted(
            X if of == "y" else container(X),
            y if of == "X" else container(y),
            container(weight),
        )
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)


def test_lists_of_tensors():
    X, y = images(n=24)
    expected = fitted(X, y)
    found = fitted(list(torch.from_numpy(X).requires_grad_()), list(torch.from_numpy(y)))
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_dtypes_that_numpy_has_not(dtype):
    X = torch.from_numpy(images(n=24)[0]).to(dtype)
    y = images(n=24)[1]
    assert_array_equal(fitted(X, y)[0], fitted(X.float(), y)[0])


ROWS = torch.ones(12, 36)
DEVICE = array_api_strict.Device("device1")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ROWS.to_sparse(), "X must be a dense tensor .* got .* torch.sparse_coo on cpu"),
        (lambda: ROWS.to("meta"), "X must be a dense tensor .* on meta"),
        (
            lambda: array_api_strict.ones((12, 6, 6), device=DEVICE),
            "X must be an array that numpy can read; got an array of array_api_strict .*device1",
        ),
        (lambda: set("abc"), "X must be an array of images, or .* the type set.* Pass a list"),
        (lambda: {"a.png": 1}.keys(), "X must be an array of images, or .* dict_keys"),
        (lambda: iter(range(12)), "X must be an array of images, or .* range_iterator"),
        (lambda: [torch.ones(6, 6), torch.ones(6, 7)], "X must hold tensors of one shape"),
    ],
)
def test_what_has_no_pixels_in_memory_is_refused(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        tiny().fit(make(), np.arange(12) % 2)


def test_masked_pixels_are_refused():
    X, y = noise(), np.arange(12) % 2
    with pytest.raises(ValueError, match=r"X must not have masked .* got 1 of 432.* X.filled"):
        tiny().fit(np.ma.masked_array(X, np.arange(X.size).reshape(X.shape) == 5), y)
    assert_array_equal(fitted(np.ma.masked_array(X), y)[0], fitted(X, y)[0])
    with pytest.raises(ValueError, match=r"y must not have masked"):
        tiny().fit(X, np.ma.masked_array(y, y == 1))


@pytest.mark.parametrize(
    ("dtype", "kind"), [("Int64", "i"), ("UInt8", "u"), ("boolean", "b"), ("Float32", "f")]
)
def test_labels_of_pandas_keep_their_dtype(dtype, kind):
    X, y = images(n=24)
    clf = tiny().fit(X, pd.Series(y).astype(dtype))
    assert clf.classes_.dtype.kind == kind
    assert clf.predict(X).dtype.kind == kind
    missing = pd.Series(y).astype(dtype).mask(np.arange(24) == 0)
    with pytest.raises(ValueError, match="y contains NaN"):
        tiny().fit(X, missing)


class Series:
    """A column in the manner of polars, whose dtypes have no kind."""

    def __init__(self, entries):
        self.entries = list(entries)
        self.shape, self.dtype = (len(self.entries),), "String"

    def __array__(self, dtype=None, copy=None):
        return np.array(self.entries, dtype=object)

    def __len__(self):
        return len(self.entries)


def test_columns_of_paths_whose_dtype_has_no_kind(tmp_path):
    X = np.random.default_rng(0).integers(0, 255, (12, 8, 8)).astype(np.uint8)
    y, paths = np.arange(12) % 2, [str(tmp_path / f"{number}.png") for number in range(12)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    expected, found = tiny().fit(paths, y), tiny().fit(Series(paths), y)
    assert_array_equal(found.predict_proba(Series(paths)), expected.predict_proba(paths))


def test_shapes_at_prediction_name_the_remedy():
    X = noise(channels=3)
    clf = tiny().fit(X, np.arange(12) % 2)
    with pytest.raises(ValueError, match=r"channels come last. Use np.moveaxis\(X, -1, 1\)"):
        clf.predict(X.transpose(0, 2, 3, 1))
    with pytest.raises(ValueError, match=r"looks like a single image. Use X\[np.newaxis\]"):
        clf.predict(X[0])
    with pytest.raises(ValueError, match=r"Use np.moveaxis\(X, -1, 0\)\[np.newaxis\]"):
        clf.predict(X[0].transpose(1, 2, 0))
    with pytest.raises(ValueError, match="as input, as input_shape says"):
        CNN2DClassifier(input_shape=(3, 5, 5)).fit(X, np.arange(12) % 2)


def test_a_bag_that_lacks_a_class_names_the_remedy():
    with pytest.raises(ValueError, match=r"at least 2 classes .* fold or a bag, may lack a class"):
        tiny().fit(noise(), np.zeros(12))
