"""Descriptions of the parameters and data of a fit."""

import functools
import hashlib
import math
import sys
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skimbal.fingerprints.code import code_digest
from skimbal.fingerprints.versions import installed_version
from skimbal.typing import ArraySource, Fingerprinted

__all__ = ["describe", "describe_images", "digest", "text_digest"]


def describe_images(images: Any) -> Any:
    """Return the fingerprint of images that have one, or a checksum of all pixels."""
    facts = images.fingerprint() if isinstance(images, Fingerprinted) else None
    return digest(images) if facts is None else describe(facts)


def _is_images(value: object) -> bool:
    is_both = isinstance(value, Fingerprinted) and isinstance(value, ArraySource)
    return is_both and not isinstance(value, type)


def digest(*arrays: Any) -> str | None:
    """Return a short checksum of arrays. Their contents are read block by block."""
    if all(array is None for array in arrays):
        return None
    total = hashlib.blake2b(digest_size=8)
    for array in arrays:
        if not hasattr(array, "dtype") or array.ndim == 0:
            array = np.atleast_1d(array)
        total.update(f"{array.shape} {array.dtype}".encode())
        n_rows = max(1, 2**22 // max(1, math.prod(array.shape[1:])))
        for start in range(0, len(array), n_rows):
            block = np.asarray(array[start : start + n_rows])
            text = repr(block.tolist()).encode() if block.dtype.hasobject else block.tobytes()
            total.update(text)
    return total.hexdigest()


def describe(value: object) -> Any:
    """Describe parameters by text, numbers and dicts that are the same in every process."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, np.ndarray) or _is_images(value):
        return describe_images(value)
    if isinstance(value, Tensor):
        return digest(value.detach().float().numpy(force=True))
    if isinstance(value, functools.partial):
        return {"partial": describe([value.func, value.args, value.keywords])}
    if isinstance(value, nn.Module):
        weights = [tensor.numpy(force=True) for tensor in value.state_dict().values()]
        return {"class": describe(type(value)), "repr": repr(value), "weights": digest(*weights)}
    if isinstance(value, BaseEstimator):
        return {"class": describe(type(value)), **describe(value.get_params(deep=False))}
    if hasattr(value, "__qualname__"):
        return _describe_code(value)
    if hasattr(value, "__dict__"):
        return {"class": describe(type(value)), **describe(vars(value))}
    return repr(value)


def _describe_code(value: Any) -> str:
    """Return the name of a function or class, and a checksum of the user's code."""
    name = f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, type):
        module = sys.modules.get(value.__module__)
        if value.__module__ == "builtins" or installed_version(getattr(module, "__file__", None)):
            return name
    # The version of this package is compared elsewhere.
    is_ours = str(value.__module__).startswith("skimbal.") and isinstance(value, FunctionType)
    return f"{name} {code_digest(value.__code__ if is_ours else value, name)}"


def text_digest(text: str) -> str:
    """Return a short checksum of a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
