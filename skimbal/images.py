"""Images that are read when a batch asks for them: rows of an array, or files."""

import hashlib
import importlib
import math
import os
import pickle
import re
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from mmap import mmap
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["ImageArray", "ImageFiles", "concatenate", "find_images"]

#: Files whose headers are read at once: on a network drive the waiting is the work.
_N_HEADER_THREADS = 4
#: What numpy writes before the numbers of an image.
_NPY_HEADER_BYTES = 128


class ImageArray:
    """A selection of the images of an array, of which nothing is read or copied.

    Cross-validation and searches copy the rows of each fold out of an array. Of this one they copy
    row numbers, so the array may be larger than memory, and processes share it: a memory map or an
    array of zarr or h5py, but one in memory as well.

    Parameters
    ----------
    array : array-like of shape (n_images, ...)
        Whatever has a ``shape``, a ``dtype`` of real numbers, and gives the images whose numbers
        are asked for (distinct and in order) as an array: ``numpy.memmap``, ``zarr.Array``,
        ``h5py.Dataset``, ``numpy.ndarray``.
    rows : array-like of int of shape (n_samples,), default=None
        Numbers of the images that are selected, in any order and with repetitions; all if None.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, ...): the shape of the selected images together, in voxels.
    dtype : numpy.dtype
        That of the images.
    ndim : int
        Number of axes, that of the samples included.

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

    #: For whoever selects rows without a need to see them.
    reads_on_demand = True
    #: For whoever may read ahead.
    has_files = False

    def __init__(self, array: Any, rows: Any = None) -> None:
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

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """Select images by a slice, a mask or numbers; read the image of a single number."""
        if isinstance(index, tuple):
            # scikit-learn selects rows as X[index, ...].
            if len(index) != 2 or index[1] is not Ellipsis:
                raise IndexError(
                    f"only whole images can be selected, by one index; got {index!r}. Read them "
                    "first, with np.asarray."
                )
            index = index[0]
        rows = self._rows[index]
        if np.ndim(rows) == 0:
            return np.asarray(self._array[int(rows)])
        return self._selection(rows)

    def _selection(self, rows: np.ndarray) -> "ImageArray":
        return ImageArray(self._array, rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read the selected images."""
        if copy is False:
            raise ValueError("the images have to be read, which makes a copy of them.")
        # Files are read in order, some formats in no other way, and each image once.
        rows, inverse = np.unique(self._rows, return_inverse=True)
        images = np.asarray(self._array[rows])
        if len(rows) != len(inverse) or (rows != self._rows).any():
            images = images[inverse]
        return images if dtype is None else images.astype(dtype, copy=False)

    def __reduce__(self) -> Any:
        """Send the name of a mapped file to another process, not its contents."""
        array = self._array
        # A part of a memory map does not know where in the file it begins.
        if isinstance(array, np.memmap) and isinstance(getattr(array, "base", None), mmap):
            order = "C" if array.flags.c_contiguous else "F"
            where = (array.filename, array.dtype, "r", array.offset, array.shape, order)
            return _map_again, (where, self._rows)
        return ImageArray, (array, self._rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"


def _map_again(where: tuple[Any, ...], rows: np.ndarray) -> ImageArray:
    return ImageArray(np.memmap(*where), rows)


class ImageFiles(ImageArray):
    """Image files as an array, of which a batch reads what it needs and nothing else.

    Only the headers are read at first, so that what cannot work is refused before any training:
    files that are missing or no images, and images of different shapes. Selections by a slice, a
    mask or numbers hold row numbers; splits, searches and samplers work on them as on an array.

    ===================================  ============================================== ==========
    files                                image                                          axes
    ===================================  ============================================== ==========
    PNG, JPEG, TIFF, BMP                 as a viewer shows it; a TIFF of several pages  h, w;
                                         is a volume                                    pages, h, w
    NIfTI: ``.nii``, ``.nii.gz``         turned to the closest RAS+ axes, scaled by     x, y, z
                                         slope and intercept; a fourth axis is channels
    DICOM: a file of one or more         rescaled by slope and intercept, MONOCHROME1   h, w;
    frames, or a folder with a series    inverted; frames and slices by position        slices,
                                                                                        h, w
    ``.npy``, ``.npz`` with one array,   as it is, channels first                       as stored
    zarr (a folder for each image)
    ===================================  ============================================== ==========

    Parameters
    ----------
    paths : sequence of str or path-like of shape (n_images,)
        A file for each image; a folder for a DICOM series or an array of zarr.
    size : int or tuple of int, default=None
        Shape that every image is brought to, in pixels or voxels: a number for each spatial axis,
        or one for all. If None, images of different shapes are refused.
    resize : {"resample", "crop"}, default="resample"
        How: by linear interpolation with antialiasing, or by cutting out the centre and filling
        up evenly around it with the least value of the image.
    spacing : float or tuple of float, default=None
        Distance of voxels that NIfTI and DICOM images are resampled to first, in mm: a number for
        each spatial axis, or one for all. With ``size`` it needs ``resize="crop"``.
    channels : int, default=None
        Number of channels that every image is to have, on a first axis. Pictures are converted: 1
        is grey, 3 RGB, 4 RGBA; other images must have them. If None, they have those of the file,
        and a grey picture or a volume has no axis for them.
    dtype : dtype, default=None
        Of the images: real numbers. Numbers beyond its range are refused. If None, one that holds
        the numbers of all files, and float32 after resampling.
    transform : callable, default=None
        ``transform(image)`` returns an array from an array, channels first, whenever an image is
        read; of the same shape for all. It is to be deterministic and thread-safe, and picklable
        where processes share the work.
    reader : callable, default=None
        ``reader(path)`` returns an array, channels first, or a pair of it and the distances of
        its voxels in mm, in place of the readers above. It gets the path as it was given. There
        are no headers then: the first image is read, others are checked when they are.
    cache : {"memory"}, str or path-like, default=None
        Where to keep images that have been read and resized: in the memory of each process, or as
        ``.npy`` files in a folder, which is made. A file that changes is read again.
    cache_bytes : int, default=2**30
        What the cache may take, in bytes. A full one keeps what it has, as each epoch asks for
        every image once; entries of a folder that this program does not use give way.
    on_error : {"raise", "skip"}, default="raise"
        Whether a file that cannot be used is an error, or is left out with a warning. To know
        that, ``"skip"`` reads each file once, at the beginning.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, ...): the shape of the selected images together, in pixels or voxels.
    dtype : numpy.dtype
        That of the images.
    ndim : int
        Number of axes, that of the samples included.
    n_spatial : int
        Number of spatial axes of an image, 2 or 3.
    paths : list of str
        The files of the selected images.
    kept : ndarray of int of shape (n_samples,)
        Positions of the selected images in the ``paths`` that were given: where files were
        skipped, their labels are ``y[X.kept]``.

    Raises
    ------
    ValueError
        If a file is empty, damaged or of another format than its name says; if images have
        different shapes or other axes than ``size``, ``spacing`` or ``channels``; if an image
        holds NaN or infinity; if a DICOM series lacks a slice. The message names the file.
    FileNotFoundError
        If there is no such file, or a link leads nowhere.
    TypeError
        If a path is neither text nor path-like.
    ImportError
        If the library that reads a format is missing: ``pip install "skimbal[io]"``.

    Warns
    -----
    UserWarning
        If files are skipped; with their number.

    See Also
    --------
    skimbal.datasets.load_image_folder : Files with their labels, from class folders or a table.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from skimbal.images import ImageFiles
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [os.path.join(folder, f"{i}.npy") for i in range(4)]
    ...     for i, path in enumerate(paths):
    ...         np.save(path, np.full((20 + i, 24), i, dtype=np.uint8))
    ...     X = ImageFiles(paths, size=(16, 16))
    ...     print(X, X[[3, 0]].shape, np.asarray(X[2:])[:, 0, 0])
    ImageFiles(shape=(4, 16, 16), dtype=float32) (2, 16, 16) [2. 3.]
    """

    has_files = True
    _array: "_Files"

    def __init__(
        self,
        paths: Any,
        *,
        size: int | Sequence[int] | None = None,
        resize: str = "resample",
        spacing: float | Sequence[float] | None = None,
        channels: int | None = None,
        dtype: npt.DTypeLike | None = None,
        transform: Callable[[np.ndarray], Any] | None = None,
        reader: Callable[[str], Any] | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int = 2**30,
        on_error: str = "raise",
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
        for name, function in (("transform", transform), ("reader", reader)):
            if function is not None and not callable(function):
                raise ValueError(f"{name} must be a function or None, got {function!r}.")
        form = _Form(
            size=_numbers("size", size, int),
            resize=resize,
            spacing=_numbers("spacing", spacing, float),
            channels=channels,
            reader=reader,
        )
        form.check()
        listed = _as_paths(paths, reader)
        files = _Files(listed, form, transform, _make_cache(cache, cache_bytes, form))
        kept = np.arange(len(files.paths))
        if on_error == "skip":
            kept = files.keep_readable()
        files.settle(None if dtype is None else np.dtype(dtype))
        super().__init__(files)
        self._kept = kept

    @property
    def paths(self) -> list[str]:
        """Files of the selected images."""
        return [self._array.paths[row] for row in self._rows]

    @property
    def kept(self) -> np.ndarray:
        """Positions of the selected images in the paths that were given."""
        kept: np.ndarray = self._kept[self._rows]
        return kept

    @property
    def n_spatial(self) -> int:
        """Number of spatial axes of an image."""
        return self._array.n_spatial

    def fingerprint(self) -> dict[str, Any]:
        """Tell the selected images from any others, without reading them.

        A cache of results asks for it, as :func:`~skimbal.study.compare_losses` does: reading all
        files to that end may take longer than what it saves.

        Returns
        -------
        fingerprint : dict
            ``"files"``: a sum of the absolute paths of the selected files, in their order, and of
            the sizes and times of the last change of the files; shape, dtype and the parameters
            that decide about the pixels, under their names.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from skimbal.images import ImageFiles
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = [os.path.join(folder, f"{i}.npy") for i in range(2)]
        ...     for path in paths:
        ...         np.save(path, np.zeros((20, 24), dtype=np.uint8))
        ...     before = ImageFiles(paths, size=16).fingerprint()
        ...     np.save(paths[1], np.zeros((30, 24), dtype=np.uint8))
        ...     after = ImageFiles(paths, size=16).fingerprint()
        >>> [name for name in before if before[name] != after[name]], after["size"]
        (['files'], 16)
        """
        files, form = self._array, self._array.form
        stamps = {
            row: repr((files.paths[row], _stamp(files.paths[row])))
            for row in np.unique(self._rows).tolist()
        }
        digest = hashlib.blake2b(digest_size=8)
        for row in self._rows.tolist():
            digest.update(stamps[row].encode())
        return {
            "files": digest.hexdigest(),
            "shape": self.shape,
            "dtype": str(self.dtype),
            **{field.name: getattr(form, field.name) for field in fields(form)},
            "transform": files.transform,
        }

    def _selection(self, rows: np.ndarray) -> "ImageFiles":
        return _select(self._array, rows, self._kept)

    def __reduce__(self) -> Any:
        """Send the names of the selected files to another process, and no images."""
        rows, inverse = np.unique(self._rows, return_inverse=True)
        return _select, (self._array.take(rows), inverse, self._kept[rows])


def _select(files: "_Files", rows: np.ndarray, kept: np.ndarray) -> ImageFiles:
    selection = ImageFiles.__new__(ImageFiles)
    ImageArray.__init__(selection, files, rows)
    selection._kept = kept
    return selection


def concatenate(selections: Sequence[ImageArray]) -> ImageArray:
    """Put selections of the same images together, of which nothing is read.

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
        If there is no selection, or they are not of the same images.

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
            "concatenate needs selections of one array or set of files, as indexing gives them; "
            f"got {len(selections)} of {len(arrays)}. Select both parts from the same images."
        )
    return selections[0]._selection(np.concatenate([part._rows for part in selections]))


def find_images(
    folder: str | os.PathLike[str], *, series_level: int | None = 1, any_file: bool = False
) -> tuple[list[str], list[str]]:
    """Find what :class:`~skimbal.images.ImageFiles` reads in a folder and those within.

    Parameters
    ----------
    folder : str or path-like
        Where to look.
    series_level : int, default=1
        So many levels below ``folder``, and further down, a folder with DICOM files is one image,
        their series. Above, or everywhere if None, each of them is an image.
    any_file : bool, default=False
        Whether every file is taken for an image, as those of a ``reader`` of one's own are.

    Returns
    -------
    images, others : list of str
        Paths below ``folder``, sorted, of images and of all other files; names that begin with a
        dot are left out.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skimbal.images import find_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "a.nii.gz", "notes.txt", ".hidden.png"):
    ...         Path(folder, name).touch()
    ...     find_images(folder)
    (['a.nii.gz', 'b.png'], ['notes.txt'])
    """
    images: list[str] = []
    others: list[str] = []
    for where, folders, names in os.walk(folder):
        below = [os.path.join(where, name) for name in folders if not name.startswith(".")]
        arrays = [] if any_file else [path for path in below if _is_zarr(path)]
        folders[:] = [os.path.basename(path) for path in below if path not in arrays]
        images += arrays
        level = len(Path(where).relative_to(folder).parts)
        series_here = not any_file and series_level is not None and level >= series_level
        is_series = False
        for name in names:
            path = os.path.join(where, name)
            if name.startswith("."):
                continue
            if series_here and _is_dicom(path):
                is_series = True
            elif name.upper() != "DICOMDIR":  # a table of contents
                (images if any_file or _has_reader(path) else others).append(path)
        images += [where] * is_series
    found = [sorted(os.path.relpath(path, folder) for path in paths) for paths in (images, others)]
    return found[0], found[1]


# From files to rows ----------------------------------------------------------------------------


class _Files:
    """Files as an array of images: what :class:`ImageFiles` selects rows of."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_spatial: int

    def __init__(
        self,
        paths: list[str],
        form: "_Form",
        transform: Callable[[np.ndarray], Any] | None,
        cache: "_MemoryCache | _FolderCache | None",
    ) -> None:
        self.paths, self.form, self.transform, self.cache = paths, form, transform, cache

    def take(self, rows: np.ndarray) -> "_Files":
        """Return some of the files."""
        files = _Files([self.paths[row] for row in rows], self.form, self.transform, self.cache)
        files.shape, files.dtype = (len(rows), *self.shape[1:]), self.dtype
        files.n_spatial = self.n_spatial
        return files

    def keep_readable(self) -> np.ndarray:
        """Read every file, leave those out that cannot be; return the numbers of the others."""

        def failure(path: str) -> Exception | None:
            try:
                self._formed(path)
            except (ValueError, OSError) as error:
                return error
            return None

        with ThreadPoolExecutor(_N_HEADER_THREADS) as pool:
            failures = list(pool.map(failure, self.paths))
        lost = [error for error in failures if error is not None]
        kept = np.flatnonzero([error is None for error in failures])
        if not len(kept):
            message = f"none of the {len(failures)} files can be used: {lost[0]}"
            raise ValueError(message) from lost[0]
        if lost:
            warnings.warn(
                f"skipped {len(lost)} of {len(failures)} files, the first of them for this: "
                f"{lost[0]}",
                UserWarning,
                stacklevel=3,
            )
        self.paths = [self.paths[i] for i in kept]
        return kept

    def settle(self, dtype: np.dtype[Any] | None) -> None:
        """Learn shape and dtype from the headers, or from the first image if there are none."""
        if dtype is not None and dtype.kind not in "biuf":
            raise ValueError(f"dtype must be one of real numbers, got {dtype}.")
        if self.form.reader is None:
            with ThreadPoolExecutor(_N_HEADER_THREADS) as pool:
                heads = list(pool.map(self.form.header, self.paths))
        else:
            heads = [self._formed(self.paths[0])]
        self.n_spatial = self.form.n_spatial(self.paths[0], heads[0])
        for path, head in zip(self.paths, heads, strict=False):
            if head.shape != heads[0].shape:
                raise ValueError(
                    f"the images differ in shape: {self.paths[0]} has {heads[0].shape}, {path} "
                    f"has {head.shape}. {self.form.remedy(heads[0].shape, head.shape)}"
                )
        shape, common = heads[0].shape, np.result_type(*{head.dtype for head in heads})
        if self.transform is not None:
            image = self._transformed(self.paths[0])
            shape, common = image.shape, image.dtype
            self.n_spatial = min(self.n_spatial, image.ndim)
        self.shape = (len(self.paths), *shape)
        self.dtype = common.newbyteorder("=") if dtype is None else dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        if np.ndim(rows) == 0:
            return self._image(self.paths[rows]).copy()  # not the one that a cache keeps
        images = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for image, row in zip(images, rows, strict=True):
            image[...] = self._image(self.paths[row])
        return images

    def _image(self, path: str) -> np.ndarray:
        image = self._formed(path) if self.transform is None else self._transformed(path)
        if image.shape != self.shape[1:]:
            raise ValueError(
                f"{path} has an image of shape {image.shape}, but {self.shape[1:]} is expected, "
                f"as of {self.paths[0]}. " + self.form.remedy(image.shape, self.shape[1:])
            )
        return _cast(image, self.dtype, path)

    def _transformed(self, path: str) -> np.ndarray:
        assert self.transform is not None
        # A copy, as a transform may work in place and the cache is to keep what it has.
        image = np.asarray(self.transform(self._formed(path).copy()))
        if image.dtype.kind not in "biuf":
            raise ValueError(
                f"transform must return an array of real numbers; of {path} it returned "
                f"{image.dtype}."
            )
        _check_finite(image, f"transform returned for {path}")
        return image

    def _formed(self, path: str) -> np.ndarray:
        if self.cache is None:
            return self.form.image(path)
        key = path, _stamp(path)
        image = self.cache.get(key)
        if image is None:
            image = self.form.image(path)
            self.cache.put(key, image)
        return image


class _Image(NamedTuple):
    """An image, or its header: the pixels are then a stand-in without memory of its own."""

    pixels: np.ndarray  # channels first, if it has any
    n_spatial: int | None  # None where the format does not tell
    spacing: tuple[float, ...] | None  # in mm


@dataclass(frozen=True)
class _Form:
    """What every image is to look like, as the parameters of :class:`ImageFiles` say."""

    size: int | tuple[int, ...] | None
    resize: str
    spacing: float | tuple[float, ...] | None
    channels: int | None
    reader: Callable[[str], Any] | None

    def check(self) -> None:
        """Refuse parameters that contradict each other."""
        if self.resize not in ("resample", "crop"):
            raise ValueError(f"resize must be 'resample' or 'crop', got {self.resize!r}.")
        if self.channels is not None and not (
            isinstance(self.channels, int | np.integer)
            and not isinstance(self.channels, bool)
            and self.channels >= 1
        ):
            raise ValueError(f"channels must be a positive integer, got {self.channels!r}.")
        lengths = {len(item) for item in (self.size, self.spacing) if isinstance(item, tuple)}
        if len(lengths) > 1:
            raise ValueError(
                f"size={self.size} and spacing={self.spacing} differ in their number of axes."
            )
        if self.spacing and self.size and self.resize == "resample":
            raise ValueError(
                "spacing= fixes the distance of voxels, which size= with resize='resample' would "
                "change again. Use resize='crop', or one of the two."
            )

    def remedy(self, first: tuple[int, ...], second: tuple[int, ...]) -> str:
        """Say what brings two shapes together."""
        axes = self._n_asked or min(len(first), len(second))
        if first[-axes:] == second[-axes:] or len(first) != len(second):
            return "Pass channels= to give all the same number of channels."
        return "Pass size= to bring all to one, with resize='resample' or resize='crop' to say how."

    def n_spatial(self, path: str, image: np.ndarray) -> int:
        """Tell the number of spatial axes of an image that has been brought into form."""
        if self.reader is None:
            return self._checked(_read(path, self.channels, True))[1]
        return self._checked(_Image(image, None, None))[1]

    def header(self, path: str) -> np.ndarray:
        """Return a stand-in with shape and dtype of the image, from the header of its file."""
        with _named(path):
            pixels, n_spatial, spacing = self._checked(_read(path, self.channels, True))
            lead, between, after = self._shapes(pixels, n_spatial, spacing)
            dtype = np.dtype(np.float32) if self._resamples else pixels.dtype
            return _stand_in((*lead, *(after or between)), dtype)

    def image(self, path: str) -> np.ndarray:
        """Read an image and bring it into form."""
        with _named(path):
            if self.reader is None:
                image = _read(path, self.channels, False)
            else:
                result = self.reader(path)
                pair = result if isinstance(result, tuple) else (result, None)
                spacing = None if pair[1] is None else tuple(float(mm) for mm in pair[1])
                image = _Image(np.asarray(pair[0]), None, spacing)
            pixels, n_spatial, spacing = self._checked(image)
            _check_finite(pixels, "it holds")
            lead, between, after = self._shapes(pixels, n_spatial, spacing)
            pixels = pixels.reshape(*lead, *pixels.shape[pixels.ndim - n_spatial :])
            if self._resamples:
                pixels = _resample(
                    pixels, after if after and self.resize == "resample" else between
                )
            if after and self.resize == "crop":
                pixels = _crop(pixels, after)
            return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))

    @property
    def _n_asked(self) -> int:
        """Number of spatial axes that the parameters ask for, 0 if they suit any."""
        items = (self.size, self.spacing)
        return next((len(item) for item in items if isinstance(item, tuple)), 0)

    @property
    def _resamples(self) -> bool:
        return bool(self.spacing or (self.size and self.resize == "resample"))

    def _checked(self, image: _Image) -> tuple[np.ndarray, int, tuple[float, ...] | None]:
        """Check what was read; tell the number of its spatial axes."""
        pixels, n_spatial, spacing = image
        if pixels.dtype.kind not in "biuf":
            raise ValueError(f"expected real numbers, got {pixels.dtype}.")
        if pixels.ndim not in (2, 3, 4) or pixels.size == 0:
            raise ValueError(
                "expected an image of 2 or 3 axes, and one for channels before them; got shape "
                f"{pixels.shape}."
            )
        asked = self._n_asked
        if n_spatial is None:
            if asked:
                n_spatial = asked
            else:
                has_channels = pixels.shape[0] == self.channels and pixels.ndim > 2
                n_spatial = pixels.ndim - 1 if has_channels or pixels.ndim == 4 else pixels.ndim
        if (asked and asked != n_spatial) or pixels.ndim not in (n_spatial, n_spatial + 1):
            of_size = isinstance(self.size, tuple)
            name, value = ("size", self.size) if of_size else ("spacing", self.spacing)
            raise ValueError(
                f"expected {asked} spatial axes, for {name}={value}; got an image of shape "
                f"{pixels.shape} with {min(n_spatial, pixels.ndim)}."
            )
        return pixels, n_spatial, spacing

    def _shapes(
        self, pixels: np.ndarray, n_spatial: int, spacing: tuple[float, ...] | None
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]:
        """Return the axis of channels, if any, the shape at the asked spacing, and the size."""
        cut = pixels.ndim - n_spatial
        lead, shape = pixels.shape[:cut], pixels.shape[cut:]
        if self.channels is not None:
            lead = lead or (1,)
            if lead != (self.channels,):
                raise ValueError(
                    f"expected {self.channels} channels, for channels={self.channels}; got "
                    f"{lead[0]}, of shape {pixels.shape}."
                )
        if self.spacing:
            if spacing is None or not all(mm > 0 for mm in spacing):
                raise ValueError(
                    f"spacing={self.spacing} needs the distance of voxels, which the file does "
                    "not tell."
                )
            shape = tuple(
                max(1, round(n * old / new))
                for n, old, new in zip(shape, spacing, _each(self.spacing, n_spatial), strict=True)
            )
        return lead, shape, None if self.size is None else _each(self.size, n_spatial)


def _resample(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Interpolate the last axes linearly, over as many pixels as one of the new ones covers."""
    image = torch.from_numpy(pixels.astype(np.float32))  # a copy: files may be mapped, read-only
    lead, n = image.shape[: image.ndim - len(size)], len(size)

    def along(planes: torch.Tensor, new: tuple[int, ...]) -> torch.Tensor:
        resized: torch.Tensor = torch.nn.functional.interpolate(
            planes, size=new, mode="bilinear", antialias=True
        )
        return resized

    if image.shape[-n:] != size:
        # Linear interpolation is one axis after the other, so two passes do a volume.
        depth = image.shape[-n] if n == 3 else 1
        image = along(image.reshape(1, -1, *image.shape[-2:]), size[-2:])
        if n == 3:
            image = along(
                image.reshape(1, -1, depth, size[1] * size[2]), (size[0], size[1] * size[2])
            )
    resampled: np.ndarray = image.reshape(*lead, *size).numpy()
    return resampled


def _crop(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Cut out the centre along the last axes, fill up around it where there is too little."""
    least = pixels.min()
    lead = pixels.ndim - len(size)
    cut, padding = [slice(None)] * lead, [(0, 0)] * lead
    for n, new in zip(pixels.shape[lead:], size, strict=True):
        start, missing = max(0, n - new) // 2, max(0, new - n)
        cut.append(slice(start, start + min(n, new)))
        padding.append((missing // 2, missing - missing // 2))
    return np.pad(pixels[tuple(cut)], padding, constant_values=least)


@np.errstate(over="ignore", invalid="ignore")
def _cast(image: np.ndarray, dtype: np.dtype[Any], path: str) -> np.ndarray:
    if np.can_cast(image.dtype, dtype, "safe"):
        return image.astype(dtype, copy=False)
    if dtype.kind == "f":
        cast: np.ndarray = image.astype(dtype)
        fits = bool(np.isfinite(cast).all())
    else:
        whole = np.rint(image) if image.dtype.kind == "f" else image
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        fits = bool(int(whole.min()) >= least and int(whole.max()) <= most)
        cast = whole.astype(dtype)
    if not fits:
        raise ValueError(
            f"{path} has numbers from {image.min()} to {image.max()} ({image.dtype}), which "
            f"dtype={dtype} does not hold. Pass dtype='float32', or scale them by transform=."
        )
    return cast


def _check_finite(image: np.ndarray, what: str) -> None:
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        n_bad = image.size - np.count_nonzero(np.isfinite(image))
        raise ValueError(
            f"{what} NaN or infinity ({n_bad} of {image.size} numbers). Replace them first, or by "
            "a reader of your own, such as with numpy.nan_to_num."
        )


def _as_paths(paths: Any, reader: Any) -> list[str]:
    if isinstance(paths, str | os.PathLike) or not hasattr(paths, "__len__"):
        raise TypeError(
            f"paths must be a sequence of paths, one for each image; got {paths!r}. The images of "
            "a folder are found by skimbal.datasets.load_image_folder."
        )
    if getattr(paths, "ndim", 1) != 1:
        raise ValueError(f"paths must have one axis, got shape {paths.shape}.")
    listed = list(paths)
    for i, path in enumerate(listed):
        if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
            raise TypeError(
                "paths must hold paths alone, as text or path-like; the entry at index "
                f"{i} is of type {type(path).__name__}."
            )
    if not listed:
        raise ValueError("paths is empty; at least one image is needed.")
    # Absolute, for processes in other folders; what a reader takes may be no path of a file.
    return [os.fspath(path) if reader else os.path.abspath(path) for path in listed]


def _numbers(name: str, value: Any, kind: Any) -> Any:
    """Check a number for each of two or three axes, or one for all of them."""
    if value is None:
        return None
    what = "positive integers" if kind is int else "positive numbers, in mm"
    types: Any = Integral if kind is int else Real
    several = isinstance(value, tuple | list | np.ndarray)
    items = value if several else [value]
    if not all(
        isinstance(item, types) and not isinstance(item, bool) and 0 < item < math.inf
        for item in items
    ) or (several and len(value) not in (2, 3)):
        raise ValueError(
            f"{name} must be a tuple of two or three {what}, one for each spatial axis, or one for "
            f"all of them; got {value!r}."
        )
    return tuple(kind(item) for item in items) if several else kind(value)


def _each(value: Any, n_axes: int) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * n_axes


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the file in every error about it."""
    try:
        yield
    except (ImportError, MemoryError, FileNotFoundError, PermissionError):
        raise
    # More types than can be listed: each library raises its own, and those of python besides.
    except Exception as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise ValueError(
            f"cannot read {path}: {reason}. Replace the file, leave it out, or pass "
            "on_error='skip' to leave out all such files."
        ) from error


# Caches ----------------------------------------------------------------------------------------


def _make_cache(cache: Any, limit: int, form: _Form) -> "_MemoryCache | _FolderCache | None":
    if not isinstance(limit, int | np.integer) or isinstance(limit, bool) or limit < 0:
        raise ValueError(f"cache_bytes must be an integer of at least 0, got {limit!r}.")
    if cache is None:
        return None
    if isinstance(cache, str) and cache == "memory":
        return _MemoryCache(int(limit))
    if not isinstance(cache, str | os.PathLike):
        raise ValueError(f"cache must be 'memory', a folder or None, got {cache!r}.")
    return _FolderCache(os.path.abspath(cache), int(limit), form)


def _stamp(path: str) -> tuple[Any, ...]:
    """Return what changes when a file, or one in a folder, is written anew."""
    if not os.path.exists(path):
        return ()  # what a reader of the user's takes may be a name of another kind
    if not os.path.isdir(path):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    files = (os.path.join(where, name) for where, _, names in os.walk(path) for name in names)
    return tuple((file, *_stamp(file)) for file in sorted(files))


class _MemoryCache:
    """Images by their files, in this process; those that came first stay."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._images: dict[str, tuple[Any, np.ndarray]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return _MemoryCache, (self._limit,)

    def get(self, key: tuple[str, Any]) -> np.ndarray | None:
        path, stamp = key
        known, image = self._images.get(path, (None, None))
        return image if known == stamp else None

    def put(self, key: tuple[str, Any], image: np.ndarray) -> None:
        path, stamp = key
        with self._lock:
            if path in self._images:
                self._size -= self._images.pop(path)[1].nbytes
            if self._size + image.nbytes <= self._limit:
                image.setflags(write=False)
                self._images[path] = stamp, image
                self._size += image.nbytes


#: Names of the files of a cache: those of entries, and how those begin that are being written.
_ENTRY = re.compile(r"[0-9a-f]{64}\.npy")
_PART = "skimbal-part-"


class _FolderCache:
    """Images by a digest of their files and the form, in a folder that processes may share."""

    def __init__(self, folder: str, limit: int, form: _Form) -> None:
        self._folder, self._limit, self._form = folder, limit, form
        try:
            self._options = repr((form.size, form.resize, form.spacing, form.channels)).encode()
            self._options += pickle.dumps(form.reader, protocol=4)
        except Exception as error:
            raise ValueError(
                "a cache in a folder outlives the program, so it needs a reader that can be named: "
                f"a function of a module, not {form.reader!r} ({error})."
            ) from error
        self._began = time.time()
        self._size: int | None = None
        self._lock = threading.Lock()
        os.makedirs(folder, exist_ok=True)

    def __reduce__(self) -> Any:
        return _FolderCache, (self._folder, self._limit, self._form)

    def _entry(self, key: tuple[str, Any]) -> str:
        path, stamp = key
        digest = hashlib.sha256(repr((os.path.abspath(path), stamp)).encode() + self._options)
        return os.path.join(self._folder, f"{digest.hexdigest()}.npy")

    def get(self, key: tuple[str, Any]) -> np.ndarray | None:
        entry = self._entry(key)
        try:
            image: np.ndarray = np.load(entry, allow_pickle=False)
            os.utime(entry)  # it is in use
        # One that a full disk has damaged is written again.
        except (OSError, ValueError, EOFError):
            return None
        return image

    def put(self, key: tuple[str, Any], image: np.ndarray) -> None:
        with self._lock:
            if not self._has_room(image.nbytes + _NPY_HEADER_BYTES):
                return
            # Under its name it is complete, whenever the program is killed.
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=_PART, delete=False) as file:
                try:
                    np.save(file, image, allow_pickle=False)
                    file.close()
                    os.replace(file.name, self._entry(key))
                except BaseException:
                    with suppress(OSError):
                        os.unlink(file.name)
                    raise
            assert self._size is not None
            self._size += image.nbytes + _NPY_HEADER_BYTES

    def _has_room(self, n_bytes: int) -> bool:
        if self._size is None:
            self._size = sum(size for _, size, _ in self._entries())
        if self._size + n_bytes > self._limit:
            entries = self._entries()
            self._size = sum(size for _, size, _ in entries)
            for used, size, path in sorted(entries):
                if used >= self._began or self._size + n_bytes <= self._limit:
                    break
                with suppress(FileNotFoundError):
                    os.unlink(path)
                self._size -= size
        return self._size + n_bytes <= self._limit

    def _entries(self) -> list[tuple[float, int, str]]:
        """List the entries; remove what a killed program has begun to write.

        Files of other names are somebody's own, even in this folder.
        """
        entries = []
        with os.scandir(self._folder) as found:
            for entry in found:
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    if _ENTRY.fullmatch(entry.name):
                        entries.append((status.st_mtime, status.st_size, entry.path))
                    elif entry.name.startswith(_PART) and status.st_mtime < time.time() - 3600:
                        os.unlink(entry.path)
        return entries


# Formats ---------------------------------------------------------------------------------------


def _stand_in(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)


def _needed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"files of this format are read with {package}, which is missing: pip install "
            '"skimbal[io]"'
        ) from error


def _read(path: str, channels: int | None, header_only: bool) -> _Image:
    """Read a file by the reader of its format, or its header."""
    if not os.path.exists(path):
        if os.path.islink(path):
            raise FileNotFoundError(
                f"{path} is a link to {os.readlink(path)}, which is not there. Mend the link, or "
                "leave it out."
            )
        raise FileNotFoundError(
            f"there is no file {path}. Check the path, and the folder that it is relative to."
        )
    if os.path.isdir(path):
        if _is_zarr(path):
            return _read_zarr(path, channels, header_only)
        return _read_series(path, channels, header_only)
    if os.path.getsize(path) == 0:
        raise ValueError("the file is empty")
    name = os.path.basename(path).lower()
    for suffixes, read in _READERS.items():
        if name.endswith(suffixes):
            return read(path, channels, header_only)
    if _is_dicom(path):  # which often go without an extension
        return _read_dicom(path, channels, header_only)
    known = ", ".join(suffix for suffixes in _READERS for suffix in suffixes)
    raise ValueError(
        f"its extension is not one of {known}, and it is no DICOM file; other formats take a "
        "reader= of your own"
    )


def _read_picture(path: str, channels: int | None, header_only: bool) -> _Image:
    Image = _needed("PIL.Image", "pillow")
    # The formats that are promised, and no other of the many that pillow knows.
    with Image.open(path, formats=("PNG", "JPEG", "TIFF", "BMP")) as picture:
        mode = picture.mode
        is_wide = mode in ("I", "F") or mode.startswith("I;16")  # conversion would cut to bytes
        if channels in (3, 4) and not is_wide:
            mode = "RGB" if channels == 3 else "RGBA"
        elif channels == 1 and not is_wide and mode != "1":
            mode = "L"
        elif mode not in ("1", "L", "LA", "RGB", "RGBA") and not is_wide:
            is_transparent = mode in ("PA", "RGBa") or "transparency" in picture.info
            mode = "RGBA" if is_transparent else "RGB"
        kind = importlib.import_module("PIL.ImageMode").getmode(mode)
        n_pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
        pages = []
        for page in range(n_pages):
            if n_pages > 1:
                picture.seek(page)
            # Pillow turns pages of TIFF itself. To ask a PNG would decode it.
            turns = picture.format == "JPEG" and picture.getexif().get(0x0112, 1) != 1
            if header_only:
                w, h = picture.size
                if turns and picture.getexif()[0x0112] >= 5:
                    w, h = h, w
                shape = (h, w, len(kind.bands)) if len(kind.bands) > 1 else (h, w)
                pages.append(_stand_in(shape, kind.typestr))
                continue
            turned = _needed("PIL.ImageOps", "pillow").exif_transpose(picture) if turns else picture
            pages.append(np.asarray(turned if turned.mode == mode else turned.convert(mode)))
    if len({page.shape for page in pages}) > 1:
        raise ValueError(
            f"its pages differ in shape, {pages[0].shape} and others; expected slices of a volume"
        )
    if header_only:
        pixels = _stand_in(
            (n_pages, *pages[0].shape) if n_pages > 1 else pages[0].shape, pages[0].dtype
        )
    else:
        pixels = np.stack(pages) if n_pages > 1 else pages[0]
    if len(kind.bands) > 1:
        pixels = np.moveaxis(pixels, -1, 0)
    elif channels == 3:
        pixels = np.broadcast_to(pixels, (3, *pixels.shape))
    return _Image(pixels, 3 if n_pages > 1 else 2, None)


def _read_nifti(path: str, channels: int | None, header_only: bool) -> _Image:
    nibabel = _needed("nibabel", "nibabel")
    image = nibabel.load(path, mmap=False)
    proxy = image.dataobj
    is_scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
    end = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if not path.lower().endswith(".gz") and os.path.getsize(path) < end:
        raise ValueError(
            f"it is cut short: its header needs {end} bytes, it has {os.path.getsize(path)}"
        )
    if header_only:
        pixels = _stand_in(proxy.shape, np.float32 if is_scaled else proxy.dtype)
    elif is_scaled:
        pixels = np.asarray(proxy, dtype=np.float32)
    else:
        pixels = np.asarray(proxy.get_unscaled())
    mm = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    spacing = [mm * float(zoom) for zoom in image.header.get_zooms()[:3]]
    if pixels.ndim > 3:  # x, y, z, then one axis of time, channels or both
        pixels = pixels.reshape(*pixels.shape[:3], *(n for n in pixels.shape[3:] if n > 1))
        pixels = pixels if pixels.ndim > 3 else pixels[..., None]
    if pixels.ndim >= 3:
        turn = nibabel.io_orientation(image.affine)
        pixels = nibabel.apply_orientation(pixels, turn)
        spacing = [spacing[i] for i in np.argsort(turn[:, 0])]
    if pixels.ndim == 4:
        pixels = np.moveaxis(pixels, 3, 0)
    return _Image(pixels, min(3, pixels.ndim), tuple(spacing))


def _read_dicom(path: str, channels: int | None, header_only: bool) -> _Image:
    pydicom = _needed("pydicom", "pydicom")
    dataset = pydicom.dcmread(path, stop_before_pixels=header_only)
    pixels = _dicom_pixels(dataset, header_only)
    spacing = _dicom_spacing(dataset)
    n_frames = _n_frames(dataset)
    if n_frames == 1:
        return _Image(pixels, 2, spacing)
    between = dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")
    if "PlanePositionSequence" in _functional(dataset, 0, "PlanePositionSequence", holder=True):
        order, between = _in_order([_place(dataset, i) for i in range(n_frames)])
        pixels = np.take(pixels, order, axis=-3)
    volume_spacing = (float(between), *spacing) if spacing and between else None
    return _Image(pixels, 3, volume_spacing)


def _read_series(folder: str, channels: int | None, header_only: bool) -> _Image:
    pydicom = _needed("pydicom", "pydicom")
    paths = sorted(
        entry.path for entry in os.scandir(folder) if entry.is_file() and _is_dicom(entry.path)
    )
    if not paths:
        raise ValueError("it is a folder that holds neither an array of zarr nor DICOM files")
    slices = [pydicom.dcmread(path, stop_before_pixels=header_only) for path in paths]
    first = slices[0]
    for path, dataset in zip(paths, slices, strict=True):
        if "Rows" not in dataset or _n_frames(dataset) > 1:
            raise ValueError(f"{path} is no single slice of a series")
        for name in ("SeriesInstanceUID", "Rows", "Columns", "ImageOrientationPatient"):
            if not _alike(dataset.get(name), first.get(name)):
                raise ValueError(
                    f"its slices differ in {name}: {paths[0]} has {first.get(name)}, {path} has "
                    f"{dataset.get(name)}; expected one series, a folder for each"
                )
    order, between = _in_order([_place(dataset, 0) for dataset in slices], paths)
    planes = [_dicom_pixels(slices[i], header_only) for i in order]
    dtype = np.result_type(*{plane.dtype for plane in planes})
    if header_only:
        c = planes[0].shape[:-2]
        pixels = _stand_in((*c, len(planes), *planes[0].shape[-2:]), dtype)
    else:
        pixels = np.stack(planes, axis=-3)
    spacing = _dicom_spacing(first)
    between = between or first.get("SpacingBetweenSlices") or first.get("SliceThickness")
    return _Image(pixels, 3, (float(between), *spacing) if spacing and between else None)


def _alike(value: Any, other: Any) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str) and other is not None:
        return np.allclose(np.asarray(value, float), np.asarray(other, float), atol=1e-3)
    return bool(value == other)


def _n_frames(dataset: Any) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _functional(dataset: Any, frame: int, macro: str, *, holder: bool = False) -> Any:
    """Return what says a fact of a frame: its functional group, that of all, or the data set."""
    for name, i in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = dataset.get(name)
        if groups and macro in groups[i]:
            return groups[i] if holder else groups[i][macro][0]
    return dataset


def _place(dataset: Any, frame: int) -> float:
    """Return where a slice lies along the normal of its plane, in mm."""
    position = _functional(dataset, frame, "PlanePositionSequence").get("ImagePositionPatient")
    plane = _functional(dataset, frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
    if position is None or plane is None:
        raise ValueError(
            "its slices do not tell their position (ImagePositionPatient and "
            "ImageOrientationPatient), so their order is not known; use a reader= of your own"
        )
    along, across = np.reshape(np.asarray(plane, dtype=float), (2, 3))
    return float(np.dot(np.cross(along, across), np.asarray(position, dtype=float)))


def _in_order(
    places: list[float], names: list[str] | None = None
) -> tuple[np.ndarray, float | None]:
    """Sort slices by place; refuse a gap and two at one place. Return order and distance, mm."""
    order = np.argsort(places, kind="stable")
    gaps = np.diff(np.asarray(places)[order])
    if not len(gaps):
        return order, None
    usual = float(np.median(gaps))
    # Half a distance is more than rounding and less than a slice.
    for i in np.flatnonzero(np.abs(gaps - usual) > 0.5 * usual if usual > 1e-3 else gaps < 1e-3):
        pair = [names[k] if names else f"frame {k + 1}" for k in order[i : i + 2]]
        what = "a slice is missing" if gaps[i] > usual else "two slices are at one position"
        raise ValueError(
            f"{what}: {pair[0]} and {pair[1]} are {gaps[i]:g} mm apart, others {usual:g} mm"
        )
    return order, usual


def _dicom_spacing(dataset: Any) -> tuple[float, ...] | None:
    measures = _functional(dataset, 0, "PixelMeasuresSequence")
    spacing = measures.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    return tuple(float(mm) for mm in spacing) if spacing else None


def _dicom_pixels(dataset: Any, header_only: bool) -> np.ndarray:
    """Return the values of a data set, colours first: (h, w) or (frames, h, w) of each."""
    if "Rows" not in dataset:
        raise ValueError("it is a DICOM file without an image")
    pixels = importlib.import_module("pydicom.pixels")
    n_frames, kind = _n_frames(dataset), dataset.PhotometricInterpretation
    lines = [_functional(dataset, i, "PixelValueTransformationSequence") for i in range(n_frames)]
    slopes = np.array([float(line.get("RescaleSlope", 1)) for line in lines])
    intercepts = np.array([float(line.get("RescaleIntercept", 0)) for line in lines])
    has_table = "ModalityLUTSequence" in dataset
    is_rescaled = has_table or (slopes != 1).any() or (intercepts != 0).any()
    bits, is_signed = dataset.BitsAllocated, dataset.get("PixelRepresentation")
    is_colour = dataset.SamplesPerPixel > 1 or kind == "PALETTE COLOR"
    if header_only:
        if kind == "PALETTE COLOR":
            dtype = f"u{dataset.RedPaletteColorLookupTableDescriptor[2] // 8}"
        elif is_signed is None:
            dtype = f"f{bits // 8}"
        else:
            dtype = f"{'i' if is_signed else 'u'}{max(1, bits // 8)}"
        shape = (dataset.Rows, dataset.Columns, *[3] * is_colour)
        values = _stand_in((n_frames, *shape) if n_frames > 1 else shape, dtype)
    else:
        values = pixels.pixel_array(dataset)
        if kind == "PALETTE COLOR":
            values = pixels.apply_color_lut(values, dataset)
        elif kind == "MONOCHROME1":
            values = (-1 if is_signed else 2**dataset.BitsStored - 1) - values
    if is_colour:
        return np.moveaxis(values, -1, 0)
    if not is_rescaled:
        return values
    if header_only:
        return _stand_in(values.shape, np.float32)
    if has_table:
        values = pixels.apply_modality_lut(values, dataset)
    elif n_frames > 1:
        values = values * slopes[:, None, None] + intercepts[:, None, None]
    else:
        values = values * slopes[0] + intercepts[0]
    return np.asarray(values, dtype=np.float32)


def _read_npy(path: str, channels: int | None, header_only: bool) -> _Image:
    # A map is made of no file that is too short.
    pixels = np.load(path, mmap_mode="r" if header_only else None, allow_pickle=False)
    return _Image(_stand_in(pixels.shape, pixels.dtype) if header_only else pixels, None, None)


def _read_npz(path: str, channels: int | None, header_only: bool) -> _Image:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            # Nothing is written from it here, but who made it had something else in mind.
            if os.path.isabs(name) or ".." in Path(name).parts or "\\" in name:
                raise ValueError(f"its entry {name!r} leads out of its folder")
        if len(names) != 1:
            raise ValueError(f"expected one array, got {len(names)}: {', '.join(names)}")
        if not header_only:
            with np.load(path, allow_pickle=False) as arrays:
                return _Image(arrays[arrays.files[0]], None, None)
        with archive.open(names[0]) as entry:
            version = np.lib.format.read_magic(entry)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read(entry)
    return _Image(_stand_in(shape, dtype), None, None)


def _read_zarr(path: str, channels: int | None, header_only: bool) -> _Image:
    array = _needed("zarr", "zarr").open_array(path, mode="r")
    pixels = _stand_in(array.shape, array.dtype) if header_only else np.asarray(array[...])
    return _Image(pixels, None, None)


def _is_zarr(path: str) -> bool:
    return any(os.path.exists(os.path.join(path, name)) for name in ("zarr.json", ".zarray"))


def _is_dicom(path: str) -> bool:
    """Tell a DICOM file by its name, or by its first bytes, as many have no extension."""
    name = os.path.basename(path).lower()
    for suffixes, read in _READERS.items():
        if name.endswith(suffixes):
            return read is _read_dicom
    if name == "dicomdir":
        return False
    with suppress(OSError), open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def _has_reader(path: str) -> bool:
    suffixes = tuple(suffix for suffixes in _READERS for suffix in suffixes)
    return path.lower().endswith(suffixes) or _is_dicom(path)


#: What reads a file with one of these extensions.
_READERS: dict[tuple[str, ...], Callable[[str, int | None, bool], _Image]] = {
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"): _read_picture,
    (".nii", ".nii.gz"): _read_nifti,
    (".dcm", ".dicom"): _read_dicom,
    (".npy",): _read_npy,
    (".npz",): _read_npz,
}
