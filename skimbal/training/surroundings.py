"""Settings of torch that a caller may have changed, and that no result may depend on."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

__all__ = [
    "cuda_settings",
    "float32_on_cuda",
    "plain_torch",
    "trainable_torch",
    "uses_tf32",
]

#: Types of devices for which a caller may have switched autocast on.
_AUTOCAST = ("cpu", "cuda", "mps", "xpu")


class _Float32:
    """Sets the default dtype of torch to float32 while at least one thread asks for it.

    The default is one for the whole process. The first thread sets it, and the last thread restores
    it, so that threads which begin and end in any order leave it as it was.
    """

    def __init__(self) -> None:
        self._lock, self._n_users = threading.Lock(), 0
        self._before = torch.float32

    def __enter__(self) -> None:
        with self._lock:
            if self._n_users == 0:
                self._before = torch.get_default_dtype()
                if self._before != torch.float32:
                    torch.set_default_dtype(torch.float32)
            self._n_users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_users -= 1
            if self._n_users == 0 and self._before != torch.float32:
                torch.set_default_dtype(self._before)


_FLOAT32 = _Float32()


@contextmanager
def plain_torch() -> Iterator[None]:
    """Compute as torch does unless a caller changes its settings, which are restored after it.

    The default dtype decides which numbers torch draws and in which dtype a network makes tensors.
    The default device decides where it makes them. Autocast decides how precisely it multiplies.
    """
    with _FLOAT32, ExitStack() as stack:
        # A device as a context slows down every operation, so only where it matters.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in _AUTOCAST:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                # The cache of weights lives as long as the outermost autocast, so a step of the
                # optimizer within it would leave the weights before the step there.
                stack.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        yield


def float32_on_cuda() -> tuple[object, ...]:
    """Return the settings of torch that decide how exactly CUDA multiplies float32."""
    return tuple(getattr(owner, name) for owner, name, _ in _tf32_settings(allowed=True))


def uses_tf32() -> bool:
    """Tell whether CUDA rounds float32 to TF32 in convolutions."""
    return float32_on_cuda()[0] in (True, "tf32")


def _tf32_settings(allowed: bool) -> list[tuple[Any, str, object]]:
    """Return the settings of TF32 with the values that allow or exclude it."""
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    try:
        _ = cudnn.allow_tf32, matmul.allow_tf32
    except RuntimeError:  # of torch, where its newer settings were used, which differ for kernels
        value = "tf32" if allowed else "ieee"
        return [(owner, "fp32_precision", value) for owner in (cudnn.conv, cudnn.rnn, matmul)]
    return [(owner, "allow_tf32", allowed) for owner in (cudnn, matmul)]


@contextmanager
def cuda_settings(tf32: bool | None, cudnn_benchmark: bool | None) -> Iterator[None]:
    """Set how CUDA multiplies and chooses its convolutions, and restore the settings of torch.

    None leaves a setting as the caller of the package has it. They are settings of the process.
    """
    settings = [] if tf32 is None else _tf32_settings(tf32)
    if cudnn_benchmark is not None:
        settings.append((torch.backends.cudnn, "benchmark", cudnn_benchmark))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    try:
        for owner, name, value in settings:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


@contextmanager
def trainable_torch() -> Iterator[None]:
    """Compute as in :func:`plain_torch`, with gradients where a caller has switched them off."""
    with plain_torch(), torch.inference_mode(False), torch.enable_grad():
        yield
