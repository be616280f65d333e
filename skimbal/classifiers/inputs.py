"""Checks of images, labels, weights and groups before any work."""

import os
import zlib
from typing import Any

import numpy as np
import torch
from sklearn.utils import assert_all_finite

from skimbal.images import ImageArray, ImageFiles
from skimbal.training import ImageDataset

__all__ = ["as_array", "checksum", "distinct_labels", "from_paths"]


def as_array(data: Any) -> Any:
    """Bring a tensor of any device to numpy, read no array that is elsewhere; leave all else."""
    if not isinstance(data, torch.Tensor):
        # Arrays of zarr and h5py are files, which np.asarray would read whole.
        is_image_array = isinstance(data, np.ndarray | ImageArray)
        if not is_image_array and getattr(data, "ndim", 0) > 2 and hasattr(data, "dtype"):
            return ImageArray(data)
        return data
    return (data.float() if data.dtype == torch.bfloat16 else data).numpy(force=True)


def from_paths(X: Any) -> Any:
    """Take a list, an array or a column of paths for the images in these files."""
    if not isinstance(X, list | tuple) and not (
        getattr(X, "ndim", 0) == 1
        and getattr(getattr(X, "dtype", None), "kind", "") in ("O", "U", "T")
    ):
        return X
    if not any(isinstance(item, str | os.PathLike) for item in X):
        return X
    return ImageFiles(X)


def checksum(data: ImageDataset | None) -> tuple[int, int] | None:
    """Return numbers that most likely differ for other data; of the images, look at two."""
    if data is None:
        return None
    mark = 0
    ends = data.take(np.array([0, -1])).X
    for array in (data.rows, data.y, data.sample_weight, ends):
        mark = zlib.crc32(b"" if array is None else np.ascontiguousarray(array).tobytes(), mark)
    return len(data), mark


def distinct_labels(labels: np.ndarray, name: str, what: str = "label") -> np.ndarray:
    """Sort the distinct labels; refuse labels that are missing or have no order."""
    try:
        distinct: np.ndarray = np.unique(labels)
    except TypeError:
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise ValueError(
            f"{name} mixes {what}s of the types {kinds}, which cannot be sorted. Give every {what} "
            f"the same type, such as str, and drop the rows without a {what}."
        ) from None
    assert_all_finite(distinct, input_name=name)
    if distinct.dtype.kind in "mM" and np.isnat(distinct).any():
        raise ValueError(f"Input {name} contains NaT; drop the rows without a {what}.")
    return distinct
