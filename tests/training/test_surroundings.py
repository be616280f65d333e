"""Settings of torch that a caller has changed."""

import threading

import pytest
import torch

from skimbal.training import plain_torch, trainable_torch
from skimbal.training.surroundings import cuda_settings, float32_on_cuda, uses_tf32


def test_defaults_are_set_and_restored():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.autocast("cpu", dtype=torch.bfloat16):
            with plain_torch():
                assert torch.zeros(1).dtype == torch.float32
                assert torch.zeros(1).device.type == "cpu"
                assert not torch.is_autocast_enabled("cpu")
            assert torch.zeros(1).dtype == torch.float64
            assert torch.zeros(1).device.type == "meta"
            assert torch.is_autocast_enabled("cpu")
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_within_and_off_after(context):
    with context():
        with trainable_torch():
            assert (2 * torch.ones(1, requires_grad=True)).requires_grad
        assert not torch.is_grad_enabled()


def test_settings_are_restored_after_an_error():
    torch.set_default_dtype(torch.float16)
    try:
        with pytest.raises(ZeroDivisionError), trainable_torch():
            assert 1 / 0
        assert torch.get_default_dtype() == torch.float16
    finally:
        torch.set_default_dtype(torch.float32)


def test_threads_that_overlap_restore_the_dtype():
    begun, may_end = threading.Event(), threading.Event()

    def other():
        with plain_torch():
            begun.set()
            may_end.wait(10)

    torch.set_default_dtype(torch.float64)
    try:
        thread = threading.Thread(target=other)
        with plain_torch():
            thread.start()
            assert begun.wait(10)
        # The other thread has begun later, and needs the dtype still.
        assert torch.get_default_dtype() == torch.float32
        may_end.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("newer", [False, True])
def test_settings_of_cuda_are_set_and_restored(tf32, newer):
    convolution = getattr(torch.backends.cudnn, "conv", None)
    if newer and convolution is not None:
        convolution.fp32_precision = "ieee"  # which the older settings of torch cannot express
    try:
        before = float32_on_cuda(), torch.backends.cudnn.benchmark
        with cuda_settings(tf32, cudnn_benchmark=not before[1]):
            assert uses_tf32() == tf32
            assert len(set(float32_on_cuda())) == 1
            assert torch.backends.cudnn.benchmark != before[1]
        assert (float32_on_cuda(), torch.backends.cudnn.benchmark) == before
        with cuda_settings(None, None):
            assert (float32_on_cuda(), torch.backends.cudnn.benchmark) == before
    finally:
        if convolution is not None:
            convolution.fp32_precision = "tf32"
