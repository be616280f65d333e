"""Images that are read when a batch asks for them: rows of an array, or files."""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from skimbal.images.array import ImageArray
from skimbal.images.cache import FolderCache, MemoryCache, file_stamp, make_cache
from skimbal.images.geometry import ImageSpec, axis_numbers, cast_image, check_finite

__all__ = ["ImageFiles"]

#: Files whose headers are read at once: on a network drive the waiting is the work.
_N_HEADER_THREADS = 4


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
        form = ImageSpec(
            size=axis_numbers("size", size, int),
            resize=resize,
            spacing=axis_numbers("spacing", spacing, float),
            channels=channels,
            reader=reader,
        )
        form.check()
        listed = _as_paths(paths, reader)
        files = _Files(listed, form, transform, make_cache(cache, cache_bytes, form))
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
            row: repr((files.paths[row], file_stamp(files.paths[row])))
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


class _Files:
    """Files as an array of images: what :class:`ImageFiles` selects rows of."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_spatial: int

    def __init__(
        self,
        paths: list[str],
        form: "ImageSpec",
        transform: Callable[[np.ndarray], Any] | None,
        cache: "MemoryCache | FolderCache | None",
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
        return cast_image(image, self.dtype, path)

    def _transformed(self, path: str) -> np.ndarray:
        assert self.transform is not None
        # A copy, as a transform may work in place and the cache is to keep what it has.
        image = np.asarray(self.transform(self._formed(path).copy()))
        if image.dtype.kind not in "biuf":
            raise ValueError(
                f"transform must return an array of real numbers; of {path} it returned "
                f"{image.dtype}."
            )
        check_finite(image, f"transform returned for {path}")
        return image

    def _formed(self, path: str) -> np.ndarray:
        if self.cache is None:
            return self.form.image(path)
        key = path, file_stamp(path)
        image = self.cache.get(key)
        if image is None:
            image = self.form.image(path)
            self.cache.put(key, image)
        return image


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
