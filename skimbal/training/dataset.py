"""Rows of an array as images, given out in whole batches."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from skorch.dataset import Dataset
from torch import Tensor

from skimbal.transfer import send
from skimbal.typing import OnDemandImages

__all__ = ["Batch", "BatchImages", "DeviceDataset", "ImageDataset", "images_of", "weight_of"]

#: Integers of the same size that torch indexes on any device.
_SIGNED = {
    torch.uint16: torch.int16,
    torch.uint32: torch.int32,
    torch.uint64: torch.int64,
}

#: The ``X`` of a batch of skorch: images, or a dict of images and weights.
BatchImages: TypeAlias = Tensor | Mapping[str, Tensor]


def images_of(X: BatchImages) -> Tensor:
    """Return the images in the ``X`` of a batch of skorch."""
    return X["X"] if isinstance(X, Mapping) else X


def weight_of(X: BatchImages | None) -> Tensor | None:
    """Return the weights in the ``X`` of a batch of skorch, if it has weights."""
    return X["sample_weight"] if isinstance(X, Mapping) else None


class Batch(tuple[Any, Tensor]):
    """Some rows: images, labels and weights.

    skorch, its callbacks and iterators of users see a batch as the pair ``(X, y)``, in which ``X``
    is a dict of images and weights where rows have weights. This is such a pair, whose parts have
    names.

    Parameters
    ----------
    pair : iterable of length 2
        ``X`` and ``y``. :meth:`of` makes a batch from its parts instead.

    Examples
    --------
    >>> import torch
    >>> from skimbal.training.dataset import Batch
    >>> batch = Batch.of(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), torch.ones(2))
    >>> X, y = batch
    >>> sorted(X), batch.images.shape
    (['X', 'sample_weight'], torch.Size([2, 1, 8, 8]))
    """

    __slots__ = ()

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, weight: Tensor | None = None) -> "Batch":
        """Make a batch from its parts."""
        return cls((images if weight is None else {"X": images, "sample_weight": weight}, labels))

    @property
    def images(self) -> Tensor:
        """Images, of shape (n_rows, n_channels, ...)."""
        return images_of(self[0])

    @property
    def labels(self) -> Tensor:
        """Encoded labels, of shape (n_rows,)."""
        return self[1]

    @property
    def weight(self) -> Tensor | None:
        """Weights, of shape (n_rows,), or None."""
        return weight_of(self[0])

    @property
    def tensors(self) -> list[Tensor]:
        """Images, labels, and weights if there are weights."""
        return [self.images, self.labels, *([] if self.weight is None else [self.weight])]

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Return a batch of the results of a function, which takes each tensor in turn."""
        return Batch.of(*map(function, self.tensors))

    def split(self, n_parts: int) -> "list[Batch]":
        """Return consecutive parts of nearly equal size."""
        parts = (tensor.tensor_split(n_parts) for tensor in self.tensors)
        return [Batch.of(*tensors) for tensors in zip(*parts, strict=True)]


class ImageDataset(Dataset):  # type: ignore[misc]
    """Rows of an array as images, given out in whole batches.

    Nothing is read or copied before a batch is asked for: ``X`` may be a memory map or read-only,
    and keeps its dtype.

    Parameters
    ----------
    X : ndarray or ImageArray of shape (n_rows, ...)
        Images, or images as rows.
    y : ndarray of shape (n_rows,), default=None
        Encoded labels, int64. Zeros if None.
    sample_weight : ndarray of shape (n_rows,), default=None
        Weights, dimensionless.
    sample_shape : tuple of int, default=None
        Shape of an image, (c, h, w) or (c, d, h, w). The shape of a row of ``X`` if None.
    rows : ndarray of int, default=None
        Rows of ``X`` that belong to the data set, all if None.
    """

    #: Numbers in a block of images that are read at once, so that a block of volumes is not larger.
    block_elements = 2**19

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
    def source(self) -> np.ndarray:
        """The array that the rows are selected from, as it is."""
        return self._X

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

    def batch(self, index: np.ndarray) -> Batch:
        """Return some rows as a batch."""
        rows = self.rows[index]
        images = _tensor(np.asarray(self._X[rows])).reshape(len(rows), *self.sample_shape)
        labels = torch.from_numpy(self._y[rows])
        if self._sample_weight is None:
            return Batch.of(images, labels)
        return Batch.of(images, labels, torch.from_numpy(self._sample_weight[rows]))

    def name_of(self, i: int) -> str:
        """Return the number of a row in ``X``, and its file if it has one, for a message."""
        row = int(self.rows[i])
        paths = getattr(self._X, "paths", None)
        return f"image {row}" if paths is None else f"image {row}, {paths[row]}"

    @property
    def nbytes(self) -> int:
        """Size of the images of this data set, in bytes."""
        n_bytes: int = len(self) * math.prod(self.sample_shape) * self.dtype.itemsize
        return n_bytes

    def blocks(self, block_size: int | None = None) -> Iterator[np.ndarray]:
        """Cut the rows, in order, into blocks of nearly equal size, moderate if none is given."""
        if block_size is None:
            n_elements = math.prod(self.sample_shape)
            block_size = max(2, min(1024, self.block_elements // n_elements))
        yield from np.array_split(np.arange(len(self)), -(-len(self) // block_size))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Batch:
        return self.batch(np.asarray([i])).map_tensors(lambda tensor: tensor[0])


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
        n_rows, start = len(dataset), 0
        for rows in dataset.blocks():
            block = dataset.batch(rows)
            bits = block.map_tensors(_as_signed)
            if start == 0:
                self._dtype = block.images.dtype
                self._rows = bits.map_tensors(
                    lambda part: part.new_empty((n_rows, *part.shape[1:]), device=device)
                )
            # The next block is read while this block is on its way.
            for tensor, part in zip(self._rows.tensors, bits.tensors, strict=True):
                tensor[start : start + len(rows)].copy_(send(part, device))
            start += len(rows)

    def batch(self, index: np.ndarray) -> Batch:
        """Return the batch that :meth:`ImageDataset.batch` returns, on the device."""
        rows = send(torch.from_numpy(index), self._rows.labels.device)
        batch = self._rows.map_tensors(lambda tensor: tensor.index_select(0, rows))
        return Batch.of(batch.images.view(self._dtype), batch.labels, batch.weight)


def _as_signed(tensor: Tensor) -> Tensor:
    """View unsigned integers as signed integers, which torch indexes on any device."""
    return tensor.view(_SIGNED.get(tensor.dtype, tensor.dtype))


def _tensor(array: np.ndarray) -> Tensor:
    """Wrap a batch that is already a copy, in a dtype that torch computes with."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))
