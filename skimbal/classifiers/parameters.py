"""Checks of the parameters of the classifiers."""

import importlib.util
import math
import os
import shutil
from numbers import Integral
from typing import Any

import torch

__all__ = [
    "DTYPES",
    "LOW_PRECISION",
    "OPTIMIZERS",
    "OWN_PARAMETERS",
    "check_compiler",
    "check_device",
    "check_number",
    "has_float64",
]

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
#: Those that autocast computes the network in, while its parameters stay in float32.
LOW_PRECISION = ("bfloat16", "float16")
OPTIMIZERS = {
    name.lower(): optimizer
    for name, optimizer in vars(torch.optim).items()
    if isinstance(optimizer, type)
    and issubclass(optimizer, torch.optim.Optimizer)
    and optimizer is not torch.optim.Optimizer
}
#: Arguments of the skorch net that have a parameter of their own here.
OWN_PARAMETERS = frozenset(
    ("module", "criterion", "optimizer", "lr", "max_epochs", "batch_size", "micro_batch_size")
    + ("callbacks", "train_split", "device", "classes", "verbose", "warm_start")
    + ("predict_nonlinearity", "dataset", "autocast", "compile", "compiled", "feature_layer")
    + ("augmentation", "module__crop_size")
    + ("module__factory", "module__in_channels", "module__n_classes", "module__dtype")
    + ("module__mean", "module__std", "module__channels_last")
)


def check_number(name: str, value: Any, kind: type, least: float, open_end: bool = False) -> None:
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < least or (open_end and value == least):
        what = "an integer" if kind is Integral else "a finite number"
        bound = "greater than" if open_end else "at least"
        raise ValueError(f"{name} must be {what} {bound} {least}, got {value!r}.")


def has_float64(device: str) -> bool:
    try:
        torch.empty(1, device=device, dtype=torch.float64)
    except (RuntimeError, TypeError):
        return False
    return True


def check_compiler(device: str) -> None:
    """Refuse to compile where what torch compiles with is missing."""
    if device == "cpu":
        names = [os.environ.get("CXX", "c++"), "c++", "g++", "clang++", "cl"]
        if not any(map(shutil.which, names)):
            raise ValueError(
                "compile=True needs a C++ compiler on the CPU, but there is none in PATH. Install "
                "one (such as g++), or set compile=False."
            )
    elif device == "cuda" and importlib.util.find_spec("triton") is None:
        raise ValueError(
            "compile=True needs the package triton on CUDA, which is not installed. Install it, or "
            "set compile=False."
        )


def check_device(device: Any) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device="" if device is None else device).cpu()
        known = torch.device(device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"device={device!r} cannot be used here ({reason}); use 'cpu', 'auto', or a device "
            f"that torch sees: {torch.cuda.device_count()} CUDA device(s) on this machine."
        ) from None
    return str(known)
