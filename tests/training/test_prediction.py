"""Prediction block by block."""

import numpy as np
import pytest
import torch

from skimbal.exceptions import ParameterError
from skimbal.training.prediction import rows_in_block
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
