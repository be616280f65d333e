"""Checksums of the contents of arrays."""

import hashlib
import math
from typing import Any

import numpy as np

from skimbal.typing import ArraySource, Fingerprinted

__all__ = ["are_images", "digest"]


def are_images(value: object) -> bool:
    """Tell whether a value is images that may be in files."""
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
