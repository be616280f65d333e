"""Rows of an array as images, given out in whole batches."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset
from torch import Tensor

from skimbal.typing import OnDemandImages

__all__ = ["DeviceDataset", "ImageDataset"]

#: Integers of the same size that torch indexes on any device.
_SIGNED = {
    torch.uint16: torch.int16,
    torch.uint32: torch.int32,
    torch.uint64: torch.int64,
}
#: Numbers in a block of images that are read, so that one of volumes is no larger.
_BLOCK_ELEMENTS = 2**19


class ImageDataset(Dataset):  # type: ignore[misc]
    """Rows of an array as images, given out in whole batches.

    Nothing is read or copied before a batch is asked for: ``X`` may be a memory map or read-only,
    and keeps its dtype.

    Parameters
    ----------
    X : ndarray or ImageArray of shape (n_rows, ...)
        Images, or images as rows.
    y : ndarray of shape (n_rows,), default=None
        Encoded labels, int64; zeros if None.
    sample_weight : ndarray of shape (n_rows,), default=None
        Weights, dimensionless.
    sample_shape : tuple of int, default=None
        Shape of an image, (c, h, w) or (c, d, h, w); that of a row of ``X`` if None.
    rows : ndarray of int, default=None
        Rows of ``X`` that belong to the data set, all if None.
    """

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray | None = None,
        *,
        sample_weight: np.ndarray | None = None,
        sample_shape: Sequence[int] | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self._X, self._sample_weight = X, sample_weight
        self._y = np.zeros(len(X), dtype=np.int64) if y is None else y
        self.sample_shape = tuple(X.shape[1:] if sample_shape is None else sample_shape)
        self.rows = np.arange(len(X)) if rows is None else rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the images."""
        return self._X.dtype

    @property
    def has_files(self) -> bool:
        """Whether images are read from files and decoded, for which a batch would wait."""
        return isinstance(self._X, OnDemandImages) and self._X.has_files

    @property
    def X(self) -> np.ndarray:
        """Copy of the images of this data set, for callbacks that ask for all of them at once."""
        return np.asarray(self._X[self.rows]).reshape(-1, *self.sample_shape)

    @property
    def y(self) -> np.ndarray:
        """Encoded labels of this data set."""
        return self._y[self.rows]

    @property
    def sample_weight(self) -> np.ndarray | None:
        """Weights of this data set."""
        return None if self._sample_weight is None else self._sample_weight[self.rows]

    def take(self, index: np.ndarray) -> "ImageDataset":
        """Return the data set of some of the rows, without a copy of the images."""
        return ImageDataset(
            self._X,
            self._y,
            sample_weight=self._sample_weight,
            sample_shape=self.sample_shape,
            rows=self.rows[index],
        )

    def reweighted(self, sample_weight: np.ndarray) -> "ImageDataset":
        """Return the same rows with other weights, one for each of them."""
        weight = np.zeros(len(self._X))
        weight[self.rows] = sample_weight
        return ImageDataset(
            self._X,
            self._y,
            sample_weight=weight,
            sample_shape=self.sample_shape,
            rows=self.rows,
        )

    def batch(self, index: np.ndarray) -> tuple[Any, Tensor]:
        """Return (images, labels) of some rows; images come in a dict where rows have weights."""
        rows = self.rows[index]
        images = _tensor(np.asarray(self._X[rows])).reshape(len(rows), *self.sample_shape)
        labels = torch.from_numpy(self._y[rows])
        if self._sample_weight is None:
            return images, labels
        return {"X": images, "sample_weight": torch.from_numpy(self._sample_weight[rows])}, labels

    @property
    def nbytes(self) -> int:
        """Size of the images of this data set, in bytes."""
        n_bytes: int = len(self) * math.prod(self.sample_shape) * self.dtype.itemsize
        return n_bytes

    def blocks(self, block_size: int | None = None) -> Iterator[np.ndarray]:
        """Cut the rows, in order, into blocks of nearly equal size, moderate if none is given."""
        if block_size is None:
            block_size = max(2, min(1024, _BLOCK_ELEMENTS // math.prod(self.sample_shape)))
        yield from np.array_split(np.arange(len(self)), -(-len(self) // block_size))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Any, Tensor]:
        X, y = self.batch(np.asarray([i]))
        X = {key: value[0] for key, value in X.items()} if isinstance(X, Mapping) else X[0]
        return X, y[0]


class DeviceDataset:
    """The rows of a data set in the memory of a device, where batches are put together.

    Parameters
    ----------
    dataset : ImageDataset
        The rows.
    device : str
        Where to copy them.
    """

    def __init__(self, dataset: ImageDataset, device: str) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._dtype = torch.float32
        start = 0
        for rows in dataset.blocks():
            X, y = dataset.batch(rows)
            block = {**(X if isinstance(X, Mapping) else {"X": X}), "y": y}
            for name, tensor in block.items():
                # Torch indexes no unsigned integers but bytes everywhere; the bits are the same.
                bits = tensor.view(_SIGNED.get(tensor.dtype, tensor.dtype))
                if start == 0:
                    shape = (len(dataset), *tensor.shape[1:])
                    self._tensors[name] = torch.empty(shape, dtype=bits.dtype, device=device)
                self._tensors[name][start : start + len(rows)] = bits
                if name == "X":
                    self._dtype = tensor.dtype
            start += len(rows)

    def batch(self, index: np.ndarray) -> tuple[Any, Tensor]:
        """Return what :meth:`ImageDataset.batch` returns, on the device."""
        rows = torch.from_numpy(index).to(self._tensors["y"].device, non_blocking=True)
        batch = {name: tensor.index_select(0, rows) for name, tensor in self._tensors.items()}
        y = batch.pop("y")
        batch["X"] = batch["X"].view(self._dtype)
        return (batch if len(batch) > 1 else batch["X"]), y


def _tensor(array: np.ndarray) -> Tensor:
    """Wrap a batch that is already a copy, in a dtype that torch computes with."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))
