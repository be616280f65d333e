"""Images that are read from files when a batch asks for them."""

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from skimbal.exceptions import ParameterError, warn_caller
from skimbal.habits import explains_names
from skimbal.images._reading import DEFAULT_MAX_PIXELS, DecodedImage
from skimbal.images.array import ImageArray
from skimbal.images.cache import FileState, ImageCache, known_content, make_cache
from skimbal.images.geometry import (
    FormedImage,
    ImageSpec,
    Reader,
    axis_numbers,
    cast_image,
    count_not_finite,
)
from skimbal.images.intensity import (
    Intensity,
    check_intensity,
    is_scaled,
    refuse_mixed_scales,
    scale_in_words,
)
from skimbal.typing import PathLike
from skimbal.wording import plural

__all__ = ["ImageFiles", "ImageOptions"]

#: Files whose headers or checksums are read at once. A network drive makes each of them wait.
_N_HEADER_THREADS = 4


class ImageOptions(TypedDict, total=False):
    """Parameters of :class:`~skimbal.images.ImageFiles` that control the reading of images."""

    size: int | Sequence[int] | None
    resize: str
    spacing: float | Sequence[float] | None
    channels: int | None
    channel_axis: int | None
    intensity: str | Sequence[float] | None
    dtype: npt.DTypeLike | None
    transform: Callable[[np.ndarray], object] | None
    reader: Reader | None
    cache: PathLike | None
    cache_bytes: int
    max_pixels: int


class ImageFiles(ImageArray):
    """Image files as an array, of which a batch reads the images that it needs.

    At first only the headers are read. Files that are missing or are not images, and images of
    different shapes, are refused before any training. Selections by a slice, a mask or numbers
    hold row numbers. Splits, searches and samplers work on them as on an array.

    ===================================  ============================================== ==========
    files                                image                                          axes
    ===================================  ============================================== ==========
    PNG, JPEG, WebP, BMP                 as a viewer shows it                           h, w
    TIFF                                 as a viewer shows it; pages are slices, or as  h, w;
                                         ImageJ and OME name the axes                   slices,
                                                                                        h, w
    NIfTI: ``.nii``, ``.nii.gz``         turned to the closest RAS+ axes, scaled by     x, y, z
                                         slope and intercept; a fourth axis is channels
    DICOM: a file of one or more         rescaled by slope and intercept, MONOCHROME1   h, w;
    frames, or a folder with a series    inverted; frames and slices by position        slices,
                                                                                        h, w
    ``.npy``, ``.npz`` with one array,   as it is, channels first                       as stored
    zarr (a folder for each image)
    ===================================  ============================================== ==========

    Rows that are added to :data:`FORMATS` are read as well.

    Parameters
    ----------
    paths : sequence of str or path-like of shape (n_images,)
        A file for each image, or a folder for a DICOM series or an array of zarr.
    size : int or tuple of int, default=None
        Shape that every image is brought to, in pixels or voxels: a number for each spatial axis,
        or one for all. If None, images of different shapes are refused.
    resize : {"resample", "crop"}, default="resample"
        Whether images are brought to ``size`` by linear interpolation with antialiasing, or by
        cutting out the centre and padding evenly around it: colours with black, other images with
        the least number of each channel.
    spacing : float or tuple of float, default=None
        Distance of voxels that NIfTI, DICOM and TIFF images are resampled to first, in mm: a
        number for each spatial axis, or one for all. With ``size`` it needs ``resize="crop"``.
    channels : int, default=None
        Number of channels of every image, on a first axis. Pictures are converted: 1 is grey, 3
        RGB, 4 RGBA. Without alpha, a transparent picture stands on black. Other images must have
        this number. If None, images have the channels of their files, and a grey picture or a
        volume has no axis for them.
    channel_axis : int, default=None
        Axis of the channels in arrays of ``.npy``, ``.npz``, zarr and ``reader``, which do not
        state their axes. It is moved to the front before anything else. If None, channels come
        first, and an array that looks as if they came last is refused.
    intensity : {"stored", "full_range", "percentiles"} or tuple of float, default=None
        Scale that the numbers of each file are brought to, before resampling and padding.
        ``"full_range"`` brings the numbers that such a file can hold, as 0 to 255 of eight bits, to
        [0, 1], and refuses files without such a range. ``"percentiles"`` brings the 1st and the
        99th percentile of the image to 0 and 1 and clips. Channels without a common range or unit
        have their own percentiles. A window (low, high), in units of the pixels, such as
        (-160, 240) for a CT, becomes [0, 1] and is clipped. These three give float32. ``"stored"``
        leaves the numbers as they are. None does so, too, and refuses files of different ranges or
        units.
    dtype : dtype, default=None
        Dtype of the images: real numbers. Numbers beyond its range are refused. If None, a dtype
        that holds the numbers of all files, and float32 after resampling.
    transform : callable, default=None
        ``transform(image)`` returns an array from an array, channels first, whenever an image is
        read. The shape must be the same for all images. The function must be deterministic and
        thread-safe, and picklable where processes share the work.
    reader : callable, default=None
        ``reader(path)`` returns an array, channels first, a pair of the array and the distances of
        its voxels in mm, or a :class:`DecodedImage`, in place of the readers of :data:`FORMATS`.
        It gets the path as it was given. Such files have no headers. The first image is read at
        once, and the others are checked when they are read.
    cache : {"memory"}, str or path-like, default=None
        Where images are kept that have been read and resized: in the memory of each process, or as
        ``.npy`` files in a folder, which is made. A file that changes is read again, and so are
        all files if the code of the reader changes. A folder that cannot be written causes a
        warning.
    cache_bytes : int, default=2**30
        Size of the cache, in bytes. A full cache keeps its images, as each epoch asks for every
        image once. In a folder, images that this program does not use are removed first.
    max_pixels : int, default=2**29
        Greatest number of pixels or voxels of an image as its file holds it, channels and pages
        counted. A file whose header states more is refused before memory is taken for it.
    on_error : {"raise", "skip"}, default="raise"
        Whether a file that cannot be used is an error, or is left out with a warning. ``"skip"``
        reads each file once, at the beginning.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, ...): the shape of the selected images together, in pixels or voxels.
    dtype : numpy.dtype
        Dtype of the images.
    ndim : int
        Number of axes, including the axis of the samples.
    n_spatial : int
        Number of spatial axes of an image, 2 or 3.
    knows_axes : bool
        Whether the files or a parameter state the number of spatial axes. Otherwise it is guessed
        from the shape.
    has_files : bool
        True: the images are decoded from files.
    paths : list of str
        The files of the selected images.
    kept : ndarray of int of shape (n_samples,)
        Positions of the selected images in the ``paths`` that were given. Where files were
        skipped, the labels are ``y[X.kept]``.
    scale : str or None
        The scale of the numbers, in words: the rule of ``intensity``, or the range or unit that the
        files state. A classifier warns of files of another scale than those of its fit. None with
        ``intensity="stored"``.
    quantum : float or None
        Step between the numbers, in units of the images, if the files hold whole numbers.
    reshapes : bool
        Whether ``size`` or ``spacing`` changed the shape of any image. True if only the pixels
        would tell, as with ``reader``.
    spacings : dict
        The distances of the voxels along each spatial axis, in mm, by the paths of the files whose
        headers state them.
    skipped : dict
        The files that were left out, each with the reason.

    Raises
    ------
    ValueError
        If a file is empty, damaged or of another format than its name says, if images have
        different shapes or other axes than ``size``, ``spacing`` or ``channels``, if an image
        holds NaN or infinity, or if a DICOM series lacks a slice. The message names the file.
    FileNotFoundError
        If a file does not exist, or a link leads nowhere.
    TypeError
        If a path is neither text nor path-like.
    ImportError
        If the library that reads a format is missing. The message names the package to install.

    Warns
    -----
    UserWarning
        If files are skipped, with their number, or if the folder of the cache cannot be written.

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

    @explains_names
    def __init__(
        self,
        paths: Collection[PathLike] | np.ndarray,
        *,
        size: int | Sequence[int] | None = None,
        resize: str = "resample",
        spacing: float | Sequence[float] | None = None,
        channels: int | None = None,
        channel_axis: int | None = None,
        intensity: str | Sequence[float] | None = None,
        dtype: npt.DTypeLike | None = None,
        transform: Callable[[np.ndarray], object] | None = None,
        reader: Reader | None = None,
        cache: PathLike | None = None,
        cache_bytes: int = 2**30,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        on_error: str = "raise",
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ParameterError("on_error", "'raise' or 'skip'", on_error)
        for name, function in (("transform", transform), ("reader", reader)):
            if function is not None and not callable(function):
                raise ParameterError(name, "a function or None", function)
        spec = _checked_spec(
            size=size,
            resize=resize,
            spacing=spacing,
            channels=channels,
            reader=reader,
            max_pixels=max_pixels,
            channel_axis=channel_axis,
            intensity=intensity,
        )
        listed = _as_paths(paths, absolute=reader is None)
        files = _Files(listed, spec, transform, make_cache(cache, cache_bytes, spec))
        files.given_dtype = _real_dtype(dtype, spec.intensity)
        kept = np.arange(len(files.paths))
        if on_error == "skip":
            kept = files.drop_unreadable()
        files.learn_shape_and_dtype()
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
    def skipped(self) -> dict[str, str]:
        """Files that were left out, each with the reason."""
        return dict(self._array.skipped)

    @property
    def n_spatial(self) -> int:
        """Number of spatial axes of an image."""
        return self._array.n_spatial

    @property
    def knows_axes(self) -> bool:
        """Whether the files or a parameter state the number of spatial axes."""
        return self._array.knows_axes

    @property
    def quantum(self) -> float | None:
        """Step between the numbers, in units of the images, if the files hold whole numbers."""
        return self._array.quantum

    @property
    def reshapes(self) -> bool:
        """Whether the shape of any image was changed, as far as the headers tell."""
        return self._array.reshapes

    @property
    def spacings(self) -> dict[str, tuple[float, ...]]:
        """Distances of the voxels, in mm, by the files that state them."""
        known = self._array.spacings
        return {path: known[path] for path in self.paths if path in known}

    @property
    def options(self) -> dict[str, object]:
        """Parameters that change the pixels."""
        spec = self._array.spec
        of_spec = {field.name: getattr(spec, field.name) for field in fields(spec)}
        dtype = self._array.given_dtype
        named = None if dtype is None else dtype.name
        return {**of_spec, "dtype": named, "transform": self._array.transform}

    @property
    def scale(self) -> str | None:
        """The scale of the numbers, in words."""
        return self._array.scale

    def fingerprint(self) -> dict[str, object]:
        """Return facts that tell the selected images from others, without decoding them.

        A cache of results asks for it, as in :func:`~skimbal.study.compare_losses`. The contents of
        each file are read, once in a process as long as the file does not change.

        Returns
        -------
        fingerprint : dict
            ``"files"``: a digest of the contents of the selected files, in their order. With
            ``reader``, the names of the files count, too. Shape, dtype and the parameters that
            change the pixels, under their names.

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
        files = self._array
        rows = np.unique(self._rows).tolist()
        paths = [files.paths[row] for row in rows]
        with ThreadPoolExecutor(_N_HEADER_THREADS) as pool:
            contents = dict(zip(rows, pool.map(known_content, paths), strict=True))
        digest = hashlib.blake2b(digest_size=8)
        for row in self._rows.tolist():
            # A reader of the user may look at the name of a file.
            path = files.paths[row]
            name = path if self.options["reader"] else os.path.splitext(path)[1]
            digest.update(repr((name, contents[row])).encode("utf-8", "surrogatepass"))
        return {
            "files": digest.hexdigest(),
            "shape": self.shape,
            **(self.options | {"dtype": str(self.dtype)}),
        }

    def _selection(self, rows: np.ndarray) -> "ImageFiles":
        return _select(self._array, rows, self._kept)

    def __reduce__(self) -> tuple[object, ...]:
        """Send the names of the selected files to another process, and no images."""
        rows, inverse = np.unique(self._rows, return_inverse=True)
        return _select, (self._array.take(rows), inverse, self._kept[rows])


def _select(files: "_Files", rows: np.ndarray, kept: np.ndarray) -> ImageFiles:
    selection = ImageFiles.__new__(ImageFiles)
    ImageArray.__init__(selection, files, rows)
    selection._kept = kept
    return selection


class _Files:
    """Files as an array of images, of which :class:`ImageFiles` selects rows."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_spatial: int
    knows_axes: bool
    #: The parameter of this name.
    given_dtype: np.dtype[Any] | None = None
    #: Whether the shape of any image was changed, as far as the headers tell.
    reshapes: bool = True

    def __init__(
        self,
        paths: list[str],
        spec: ImageSpec,
        transform: Callable[[np.ndarray], object] | None,
        cache: ImageCache | None,
    ) -> None:
        self.paths, self.spec, self.transform, self.cache = paths, spec, transform, cache
        self.skipped: dict[str, str] = {}
        #: Distance of the voxels of each file, in mm, as far as headers state it.
        self.spacings: dict[str, tuple[float, ...]] = {}
        #: A file and its facts, which the numbers of the other files must have in common.
        self._known: tuple[str, DecodedImage] | None = None

    def take(self, rows: np.ndarray) -> "_Files":
        """Return some of the files."""
        files = _Files([self.paths[row] for row in rows], self.spec, self.transform, self.cache)
        files.shape, files.dtype = (len(rows), *self.shape[1:]), self.dtype
        files.n_spatial, files.knows_axes = self.n_spatial, self.knows_axes
        files.given_dtype, files.reshapes = self.given_dtype, self.reshapes
        files._known, files.skipped = self._known, self.skipped
        files.spacings = {p: self.spacings[p] for p in files.paths if p in self.spacings}
        return files

    def drop_unreadable(self) -> np.ndarray:
        """Read every file, leave out unreadable files, and return the numbers of the others."""

        def failure(path: str) -> Exception | None:
            try:
                self._read_cached(path)
            except (ValueError, OSError) as error:
                if isinstance(error, ParameterError) and error.parameter == "intensity":
                    raise  # it is about the whole set
                return error
            return None

        if self.spec.reader is not None:  # the first image that can be read states the scale
            for path in self.paths:
                with suppress(ValueError, OSError):
                    self._first_image(path)
                    break
        with ThreadPoolExecutor(_N_HEADER_THREADS) as pool:
            failures = list(pool.map(failure, self.paths))
        lost = [error for error in failures if error is not None]
        kept = np.flatnonzero([error is None for error in failures])
        if not len(kept):
            message = f"none of the {len(failures)} files can be used: {lost[0]}"
            raise ValueError(message) from lost[0]
        if lost:
            warn_caller(
                f"skipped {len(lost)} of {len(failures)} files, the first of them for this: "
                f"{lost[0]}"
            )
        self.skipped = {
            path: str(error)
            for path, error in zip(self.paths, failures, strict=True)
            if error is not None
        }
        self.paths = [self.paths[i] for i in kept]
        return kept

    @property
    def scale(self) -> str | None:
        """The scale of the numbers, in words."""
        if self._known is None:
            return None
        words = scale_in_words(self.spec.intensity, self._known[1])
        return words if words is None or self.transform is None else f"{words}, through transform="

    @property
    def quantum(self) -> float | None:
        """Step between the numbers, in units of the images, if the files hold whole numbers."""
        known = self._known and self._known[1]
        rule = self.spec.intensity
        if not known or known.pixels.dtype.kind not in "biu" or self.transform is not None:
            return None
        if not is_scaled(rule):
            return 1.0
        ends = rule if isinstance(rule, tuple) else known.full_range
        return 1 / (ends[1] - ends[0]) if ends and rule != "percentiles" else None

    def learn_shape_and_dtype(self) -> None:
        """Learn shape and dtype from the headers, or without headers from the first image."""
        if self.spec.reader is None:
            with ThreadPoolExecutor(_N_HEADER_THREADS) as pool:
                heads = list(pool.map(self.spec.header, self.paths))
        else:
            heads = [self._first_image(self.paths[0])]
        first, path = heads[0], self.paths[0]
        for other, head in zip(self.paths, heads, strict=False):
            if head.n_spatial != first.n_spatial and head.knows_axes and first.knows_axes:
                raise self.spec.unequal_axes(path, first, other, head)
            if head.pixels.shape != first.pixels.shape:
                raise self.spec.unequal_shapes(path, first.pixels.shape, other, head.pixels.shape)
            refuse_mixed_scales(self.spec.intensity, path, first.file, other, head.file)
        _warn_of_doubts(self.paths, heads)
        if self.spec.intensity is None:
            _warn_of_mixed_numbers(self.paths, heads)
        self._known = path, first.file
        self.reshapes = self.spec.reader is not None or any(head.is_reshaped for head in heads)
        if self.spec.reader is None:
            named = zip(self.paths, heads, strict=True)
            self.spacings = {p: head.file.spacing for p, head in named if head.file.spacing}
        self.n_spatial = first.n_spatial
        self.knows_axes = all(head.knows_axes for head in heads)
        shape, common = first.pixels.shape, np.result_type(*{head.pixels.dtype for head in heads})
        if self.transform is not None:
            image = self._transformed(self.transform, path)
            if image.shape != shape:  # it may have made channels of slices
                self.n_spatial, self.knows_axes = min(self.n_spatial, image.ndim), False
            shape, common = image.shape, image.dtype
        self.shape = (len(self.paths), *shape)
        self.dtype = common.newbyteorder("=") if self.given_dtype is None else self.given_dtype

    def _first_image(self, path: str) -> FormedImage:
        """Read an image, whose facts the other images must have in common."""
        state = None if self.cache is None else FileState.of(path)
        image = self.spec.image(path)
        self._known = path, image.file
        if self.cache is not None and state is not None and state.lasts():
            self.cache.put(self._with_scale(state), image.pixels)
        return image

    def __getitem__(self, rows: int | np.ndarray) -> np.ndarray:
        if not isinstance(rows, np.ndarray):
            return self._read(self.paths[rows]).copy()  # a cache keeps the original
        images = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for image, row in zip(images, rows, strict=True):
            image[...] = self._read(self.paths[row])
        return images

    def _read(self, path: str) -> np.ndarray:
        """Return an image of the shape and dtype of the array."""
        image = (
            self._read_cached(path)
            if self.transform is None
            else self._transformed(self.transform, path)
        )
        if image.shape != self.shape[1:]:
            raise self.spec.unequal_shapes(self.paths[0], self.shape[1:], path, image.shape)
        return cast_image(image, self.dtype, path)

    def _transformed(self, transform: Callable[[np.ndarray], object], path: str) -> np.ndarray:
        # A copy, as a transform may work in place and a cache keeps the original.
        image = np.asarray(transform(self._read_cached(path).copy()))
        if image.dtype.kind not in "biuf":
            raise ParameterError(
                "transform", f"a function that returns real numbers, also for {path}", image.dtype
            )
        n_bad = count_not_finite(image)
        if n_bad:
            raise ParameterError(
                "transform",
                f"a function that returns finite numbers, also for {path}",
                f"NaN or infinity in {n_bad} of {image.size} numbers",
            )
        return image

    def _read_cached(self, path: str) -> np.ndarray:
        """Return an image in the form of the spec, out of the cache if it is there."""
        if self.cache is None:
            return self._read_file(path)
        state = self._with_scale(FileState.of(path))
        image = self.cache.get(state)
        if image is None:
            image = self._read_file(path)
            if state.lasts():
                self.cache.put(state, image)
        return image

    def _read_file(self, path: str) -> np.ndarray:
        image = self.spec.image(path)
        if self._known is not None:
            refuse_mixed_scales(self.spec.intensity, *self._known, path, image.file)
        return image.pixels

    def _with_scale(self, state: FileState) -> FileState:
        """Return a state with the scale that the numbers must have.

        Only to read a file by a reader of the user shows the scale of its numbers, so the image is
        kept under the scale that it was found to have.
        """
        if self.spec.reader is None or self._known is None:
            return state
        facts = self._known[1]
        return state._replace(scale=(facts.full_range, facts.unit))


def _warn_of_mixed_numbers(paths: list[str], heads: list[FormedImage]) -> None:
    """Warn of bytes, wider integers and fractions together, in files without a range or unit.

    A volume in bytes was mostly scaled to them, by its own numbers, and fractions to [0, 1].
    """
    first: dict[str, tuple[str, str]] = {}
    for path, head in zip(paths, heads, strict=False):
        dtype = head.file.pixels.dtype
        if head.file.full_range is None and head.file.unit is None:
            kind = "f" if dtype.kind == "f" else dtype.str[-1]
            first.setdefault(kind if kind in ("f", "1") else "wide", (path, dtype.name))
    if len(first) > 1:
        shown = ", ".join(f"{path} ({dtype})" for path, dtype in first.values())
        warn_caller(
            f"the files hold numbers of several kinds and state neither a range nor a unit: "
            f"{shown}. If their scales differ, pass intensity='percentiles', and if not, "
            "intensity='stored'.",
        )


def _warn_of_doubts(paths: list[str], heads: list[FormedImage]) -> None:
    """Warn once of each doubt about files, with their number."""
    doubtful: dict[str, list[str]] = {}
    for path, head in zip(paths, heads, strict=False):
        if head.file.doubt is not None:
            doubtful.setdefault(head.file.doubt, []).append(path)
    for doubt, files in doubtful.items():
        warn_caller(
            f"{len(files)} of {plural(len(paths), 'file')}, the first of them {files[0]}: {doubt}.",
        )


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that come out of a file and that :class:`ImageFiles` does not have or take.

    Of its parameters, the places of caches and the rule for damaged files are no such options.
    """
    names = [field.name for field in fields(ImageSpec) if field.name != "reader"]
    if set(options) != {*names, "dtype"}:
        expected = f"a dict with the keys {', '.join([*names, 'dtype'])}"
        raise ParameterError("options", expected, sorted(options))
    spec = _checked_spec(reader=None, **{name: options[name] for name in names})
    _real_dtype(options["dtype"], spec.intensity)


def _checked_spec(*, size: object, spacing: object, intensity: object, **others: Any) -> ImageSpec:
    spec = ImageSpec(
        size=axis_numbers("size", size, int),
        spacing=axis_numbers("spacing", spacing, float),
        intensity=check_intensity(intensity),
        **others,
    )
    spec.check()
    return spec


def _real_dtype(dtype: npt.DTypeLike | None, intensity: Intensity) -> np.dtype[Any] | None:
    if dtype is None:
        return None
    try:
        checked: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise ParameterError("dtype", "a dtype of real numbers", dtype) from error
    if checked.kind not in "biuf":
        raise ParameterError("dtype", "a dtype of real numbers", dtype)
    if is_scaled(intensity) and checked.kind != "f":
        expected = f"of floating point with intensity={intensity!r}, which gives numbers in [0, 1]"
        raise ParameterError("dtype", expected, dtype)
    return checked


def _as_paths(paths: Collection[PathLike] | np.ndarray, absolute: bool) -> list[str]:
    if isinstance(paths, str | os.PathLike) or not hasattr(paths, "__len__"):
        raise TypeError(
            f"paths must be a sequence of paths, one for each image; got {paths!r}. The images of "
            "a folder are found by skimbal.datasets.load_image_folder, and without labels by "
            "skimbal.images.list_images."
        )
    shape = getattr(paths, "shape", (len(paths),))
    if len(shape) != 1:
        remedy = "Select one column of the table."
        raise ParameterError("paths", "an array of shape (n_images,)", shape, remedy)
    listed: list[str] = []
    for i, path in enumerate(paths):
        if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
            raise TypeError(
                "paths must hold text or path-like objects; got an entry of type "
                f"{type(path).__name__} at index {i}."
            )
        if not os.fspath(path):
            raise ParameterError("paths", "paths that are not empty", f"an empty text at index {i}")
        # Processes may run in other folders. A reader of the user may take other names.
        listed.append(os.path.abspath(path) if absolute else os.fspath(path))
    if not listed:
        raise ParameterError("paths", "a sequence of at least one path", listed)
    return listed
