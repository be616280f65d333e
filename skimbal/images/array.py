"""A selection of the images of an array, read on demand."""

from collections.abc import Sequence
from mmap import mmap
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from skimbal.typing import ArrayLike, ArraySource

__all__ = ["ImageArray", "RowIndex", "concatenate"]

#: A row number, row numbers, a mask, a slice, or each of these in a tuple with an ellipsis.
RowIndex: TypeAlias = ArrayLike | slice | tuple[object, ...]


class ImageArray:
    """A selection of the images of an array, of which nothing is read or copied.

    Cross-validation and searches copy the rows of each fold out of an array. Out of this one they
    copy row numbers, so the array may be larger than memory and is shared by processes. It may be
    a memory map, an array of zarr or h5py, or an array in memory.

    Parameters
    ----------
    array : array-like of shape (n_images, ...)
        An object with a ``shape``, a ``dtype`` of real numbers, and an index of image numbers,
        distinct and in order, that returns these images as an array: ``numpy.memmap``,
        ``zarr.Array``, ``h5py.Dataset``, ``numpy.ndarray``.
    rows : array-like of int of shape (n_samples,), default=None
        Numbers of the images that are selected, in any order and with repetitions. None selects
        all images.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, ...): the shape of the selected images together, in voxels.
    dtype : numpy.dtype
        Dtype of the images.
    ndim : int
        Number of axes, including the axis of the samples.
    has_files : bool
        False: the images are not decoded from files.
    in_memory : bool
        Whether the array is in the memory of the process, so that pickles contain its pixels.
    n_spatial : None
        An array does not say which of its axes are spatial.

    Raises
    ------
    TypeError
        If ``array`` has no ``shape`` of at least one axis or no ``dtype``.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.images import ImageArray
    >>> images = ImageArray(np.arange(20.0).reshape(5, 2, 2))
    >>> images[[4, 0, 4]]
    ImageArray(shape=(3, 2, 2), dtype=float64)
    >>> np.asarray(images[[4, 0, 4]])[:, 0, 0].tolist()
    [16.0, 0.0, 16.0]
    """

    #: Whether images are decoded from files, which threads can do ahead.
    has_files: bool = False

    def __init__(self, array: ArraySource, rows: ArrayLike | None = None) -> None:
        if not getattr(array, "shape", ()) or not hasattr(array, "dtype"):
            raise TypeError(
                "array must have a shape of at least one axis and a dtype, as np.memmap, zarr and "
                f"h5py arrays have; got {type(array).__name__}."
            )
        self._array = array
        self._rows = np.arange(array.shape[0]) if rows is None else np.asarray(rows, dtype=np.intp)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the selected images together."""
        return (len(self._rows), *self._array.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the images."""
        dtype: np.dtype[Any] = np.dtype(self._array.dtype)
        return dtype

    @property
    def n_spatial(self) -> int | None:
        """Number of spatial axes of an image, which an array does not state."""
        return None

    @property
    def in_memory(self) -> bool:
        """Whether the array is in the memory of the process, so that pickles contain its pixels."""
        return isinstance(self._array, np.ndarray) and not self._is_mapped

    @property
    def _is_mapped(self) -> bool:
        # A part of a memory map does not know where in the file it begins.
        return isinstance(self._array, np.memmap) and isinstance(self._array.base, mmap)

    def fingerprint(self) -> dict[str, object] | None:
        """Return facts that tell the images from others, or None if only the contents do.

        Returns
        -------
        fingerprint : None
            Only a comparison of the contents tells arrays apart.
        """
        return None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: RowIndex) -> Any:
        """Select images by a slice, a mask or numbers, or read the image of a single number."""
        selected: Any = index
        if isinstance(index, tuple):
            # scikit-learn selects rows as X[index, ...].
            if len(index) != 2 or index[1] is not Ellipsis:
                raise IndexError(
                    f"only whole images can be selected, by one index; got {index!r}. Read the "
                    "images first, with np.asarray."
                )
            selected = index[0]
        rows = self._rows[selected]
        if np.ndim(rows) == 0:
            return np.asarray(self._array[int(rows)])
        return self._selection(rows)

    def _selection(self, rows: np.ndarray) -> "ImageArray":
        return ImageArray(self._array, rows)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Read the selected images."""
        if copy is False:
            raise ValueError("copy must be True or None, as reading makes a copy; got False.")
        # Files are read in order, as some formats require, and each image once.
        rows, inverse = np.unique(self._rows, return_inverse=True)
        images = np.asarray(self._array[rows])
        if len(rows) != len(inverse) or (rows != self._rows).any():
            images = images[inverse]
        return images if dtype is None else images.astype(dtype, copy=False)

    def __reduce__(self) -> tuple[object, ...]:
        """Send the name of a mapped file to another process, not its contents."""
        array = self._array
        if self._is_mapped and isinstance(array, np.memmap):
            order = "C" if array.flags.c_contiguous else "F"
            where = (array.filename, array.dtype, "r", array.offset, array.shape, order)
            return _map_again, (where, self._rows)
        return ImageArray, (array, self._rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"


def _map_again(where: tuple[Any, ...], rows: np.ndarray) -> ImageArray:
    return ImageArray(np.memmap(*where), rows)


def concatenate(selections: Sequence[ImageArray]) -> ImageArray:
    """Put selections of the same images together, and read nothing.

    Parameters
    ----------
    selections : sequence of ImageArray or ImageFiles
        Selections by indexing from one array or set of files, such as ``X_train`` and ``X_val`` of
        :func:`~skimbal.datasets.load_image_folder`.

    Returns
    -------
    selection : ImageArray or ImageFiles
        All of their images, in that order.

    Raises
    ------
    ValueError
        If there is not a single selection, or the selections are not of the same images.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.images import ImageArray, concatenate
    >>> images = ImageArray(np.arange(20.0).reshape(5, 2, 2))
    >>> concatenate([images[:2], images[[4]]])
    ImageArray(shape=(3, 2, 2), dtype=float64)
    """
    arrays = {id(selection._array) for selection in selections}
    if len(arrays) != 1:
        raise ValueError(
            "selections must be selections of one array or set of files, as indexing gives them; "
            f"got {len(selections)} of {len(arrays)}. Select both parts from the same images."
        )
    return selections[0]._selection(np.concatenate([part._rows for part in selections]))
