"""Arrays out of the containers in which users bring images, labels, weights and groups."""

from collections.abc import Iterator, KeysView, Set, ValuesView
from typing import Any

import numpy as np
import torch

from skimbal.images import ImageArray
from skimbal.typing import ArrayLike, ArraySource, ImagesLike

__all__ = ["as_array", "column_of_text", "refuse_without_order"]


def as_array(data: ImagesLike | ArrayLike, name: str) -> Any:
    """Bring tensors and arrays of any library to numpy, and leave all else, without reading it.

    Arrays of zarr and h5py are files, which ``np.asarray`` would read as a whole. ``name`` is the
    name of the argument in errors.
    """
    if isinstance(data, list | tuple) and len(data) and isinstance(data[0], torch.Tensor):
        data = _stacked(data, name)
    if isinstance(data, torch.Tensor):
        return _of_tensor(data, name)
    if isinstance(data, np.ndarray):
        return _without_mask(data, name)
    if isinstance(data, ImageArray):
        return data
    if hasattr(data, "__array_namespace__"):
        return _of_namespace(data, name)
    if getattr(data, "ndim", 0) > 2 and isinstance(data, ArraySource):
        return ImageArray(data)
    return _without_extension(data)


def _stacked(tensors: Any, name: str) -> torch.Tensor:
    try:
        return torch.stack(list(tensors))
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"{name} must hold tensors of one shape, dtype and device if it is a list of tensors; "
            f"got a list that torch cannot stack ({error})."
        ) from None


def _of_tensor(tensor: torch.Tensor, name: str) -> np.ndarray:
    try:
        if tensor.is_floating_point() and tensor.dtype.itemsize <= 2:
            # numpy has neither bfloat16 nor the dtypes of eight bits.
            tensor = tensor if tensor.dtype == torch.float16 else tensor.float()
        array: np.ndarray = tensor.numpy(force=True)
    except (TypeError, RuntimeError, NotImplementedError):
        kind = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
        raise TypeError(
            f"{name} must be a dense tensor of numbers in memory; got a tensor of {kind}. Convert "
            f"it first, such as with {name}.to_dense() or {name}.dequantize()."
        ) from None
    return array


def _without_mask(array: np.ndarray, name: str) -> np.ndarray:
    """Refuse entries that are masked, of which the values would be used."""
    if np.ma.is_masked(array):
        n_masked = int(np.ma.getmaskarray(array).sum())
        raise ValueError(
            f"{name} must not have masked entries; got {n_masked} of {array.size} masked. Give "
            f"them a value first, with {name}.filled(value)."
        )
    return array


def _of_namespace(data: Any, name: str) -> np.ndarray:
    """Bring an array of another library that follows the array API standard to numpy."""
    try:
        array: np.ndarray = np.asarray(data)
    # Libraries raise their own types for an array that is not in the memory of the CPU.
    except Exception as error:
        array = np.zeros((), dtype=object)
        reason = f" ({error})"
    else:
        reason = ""
    if array.dtype.kind == "O":
        module = type(data).__module__.partition(".")[0]
        raise TypeError(
            f"{name} must be an array that numpy can read; got an array of {module} on the device "
            f"{getattr(data, 'device', 'of its library')}{reason}. Copy it to the memory of the "
            "CPU first."
        )
    return array


def _without_extension(data: ImagesLike | ArrayLike) -> Any:
    """Bring a column of pandas with a dtype of its own to the same dtype of numpy.

    pandas turns such integers and booleans into floats otherwise, which are other labels.
    """
    dtype: Any = getattr(getattr(data, "dtype", None), "numpy_dtype", None)
    column: Any = data
    if dtype is None or dtype.kind not in "biuf" or not hasattr(column, "isna"):
        return data
    return data if column.isna().any() else column.to_numpy(dtype)


def column_of_text(X: ImagesLike) -> np.ndarray | None:
    """Return the entries of an array or a table of one column, unless they are numbers."""
    if isinstance(X, torch.Tensor):  # of which nested tensors have no shape
        return None
    shape = tuple(getattr(X, "shape", ()))
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        return None
    # Tables have no dtype, and the dtypes of polars have no kind.
    kind = getattr(getattr(X, "dtype", None), "kind", "O")
    if kind not in ("O", "U", "T"):
        return None
    column: np.ndarray = np.asarray(X).reshape(-1)
    return column


def refuse_without_order(X: ImagesLike) -> None:
    """Refuse containers whose entries cannot be numbered, and hence have no labels."""
    if isinstance(X, Set | KeysView | ValuesView | Iterator):
        raise TypeError(
            "X must be an array of images, or a list, array or column of paths; got an object of "
            f"the type {type(X).__name__}, whose rows have no numbers. Pass a list."
        )
