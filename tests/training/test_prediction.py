"""Prediction block by block."""

import copy
import pickle

import numpy as np
import pytest
import torch

from skimbal import CNN2DClassifier, CNN3DClassifier, SliceNet
from skimbal.exceptions import NonFinitePredictionError, ParameterError
from skimbal.training.prediction import rows_in_block
from tests.plain import plain
from tests.training.data import all_states, draw, make_net


def test_prediction_in_blocks():
    data = draw(13, weighted=False)
    net = make_net(data)
    at_once = net.forward(data)
    net.iterator_valid__batch_size = 4
    sizes = []
    net.module_.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    before = all_states()
    in_blocks = net.forward(data)
    assert all_states() == before, "prediction draws no random numbers"
    assert sizes == [4, 3, 3, 3]
    torch.testing.assert_close(in_blocks, at_once, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(net.predict_proba(data), at_once.softmax(1), rtol=1e-12)
    assert np.array_equal(net.predict(data), at_once.argmax(1))
    # Callbacks hand over arrays.
    assert np.array_equal(net.predict_proba(data.X), net.predict_proba(data))


def test_rows_of_a_block_suit_memory_and_weights():
    # Between the least and the greatest size, a block is the larger the more weights it reads.
    weights = [0, 2**20, 3 * 2**18, 2**21, 2**30]
    rows = [rows_in_block(2**13, n_bytes, "cpu") for n_bytes in weights]
    assert rows == [512, 512, 512, 1024, 1024]
    rows = [rows_in_block(2**16, n_bytes, "cpu") for n_bytes in weights]
    assert rows == [64, 64, 64, 128, 256]
    assert rows_in_block(2**16, 0, "cuda:1") == 1024
    # Never one row at a time, which torch convolves slowly.
    assert rows_in_block(2**40, 0, "cpu") == 2


def test_a_layer_that_is_not_there():
    data = draw()
    with pytest.raises(ParameterError, match=r"feature_layer.*'heads'"):
        make_net(data, feature_layer="heads").check_feature_layer()


# Images whose predictions are not finite -----------------------------------------------------

METHODS = ["predict", "predict_proba", "decision_function", "transform"]


def fitted(classifier=CNN2DClassifier, dtype="float32", **params):
    rng = np.random.default_rng(0)
    y = np.arange(24) % params.pop("n_classes", 2)
    X = rng.normal(size=(24, *[6] * len(classifier.spatial_axes))).astype("f8")
    params = {"max_epochs": 8, "random_state": 0, "net": {"module__width": 4}, **params}
    return plain(classifier, dtype=dtype, **params).fit(X, y), X


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("params", "pixel"),
    [
        ({"dtype": "float32"}, 1e300),
        ({"dtype": "float16"}, 1e8),
        ({"dtype": "bfloat16"}, 1e300),
        ({"dtype": "float32", "n_classes": 3}, 1e300),
        ({"dtype": "float32", "augment": "flip"}, 1e300),
        ({"dtype": "float32", "logit_adjustment": 1.0, "sampler": "uniform"}, -1e300),
    ],
    ids=str,
)
def test_a_row_without_finite_prediction_is_named(method, params, pixel):
    clf, X = fitted(**params)
    clf.net_.iterator_valid__batch_size = 5
    predict = getattr(clf, method)
    good = predict(X)
    X[17, 2, 2] = X[3, 0, 0] = pixel
    dtype = "torch.float32" if params["dtype"] == "float32" else f"torch.{params['dtype']}"
    message = rf"infinity for row 3 and 1 other rows\. The pixels of row 3.*{dtype}.*scale X"
    with pytest.raises(NonFinitePredictionError, match=message) as caught:
        predict(X)
    assert caught.value.rows == [3, 17]
    for other in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert (str(other), other.rows) == (str(caught.value), [3, 17])
    assert np.array_equal(predict(np.delete(X, [3, 17], axis=0)).shape[1:], good.shape[1:])


def test_volumes_and_their_slices_without_finite_prediction_are_named():
    clf, X = fitted(CNN3DClassifier, module=SliceNet("small", pooling="attention"), net={})
    X[5] = 1e300
    for method in (*METHODS, "slice_weights"):
        with pytest.raises(NonFinitePredictionError) as caught:
            getattr(clf, method)(X)
        assert caught.value.rows == [5], method


def test_large_numbers_that_are_finite_are_predicted():
    clf, X = fitted()
    X[3] *= 1e10
    for method in METHODS:
        with pytest.warns(UserWarning, match="image 3 of X: numbers from"):
            assert len(getattr(clf, method)(X)) == len(X)
