"""Everything about a data set that should be known before a fit."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
from sklearn.utils import Bunch
from tabulate import tabulate

from skimbal.datasets._findings import (
    Finding,
    InspectedImages,
    doubts,
    groups_on_both_sides,
    labels_of_parts,
    notes_of,
)
from skimbal.datasets._measuring import N_SAMPLED, Measured, PixelKind, measure, pixel_kinds
from skimbal.datasets._screen import draw_bars, format_number, listed, printable, trim_rows
from skimbal.datasets.card import DataCard
from skimbal.datasets.copies import find_copies
from skimbal.datasets.folder import list_rows, load_image_folder
from skimbal.datasets.labels import Missing, sorted_names
from skimbal.datasets.listing import FolderRow, Reasons
from skimbal.datasets.splits import SplitNames, check_classes_of_parts, order_of_parts, split_key
from skimbal.datasets.unused import words_on_unused
from skimbal.exceptions import ParameterError
from skimbal.habits import explains_names
from skimbal.images import DecodedImage, ImageFiles, ImageOptions, ReadRequest
from skimbal.images.axes import with_channels_first
from skimbal.images.formats import format_name, read_image
from skimbal.progress import Bar
from skimbal.typing import PathLike
from skimbal.wording import agree, plural

__all__ = ["DataInspection", "Finding", "PixelKind", "inspect_data", "inspect_folder"]

#: Files that are read at once.
_N_THREADS = 4
#: Bytes of an array that are read at once.
_CHUNK = 2**25
#: Most warnings of readers, and kinds of numbers, that are listed.
_N_READER_WARNINGS, _N_KINDS = 3, 3


@dataclass(frozen=True)
class DataInspection:
    """The facts of a data set, and the reasons to refuse or to doubt it.

    ``print(inspection)`` shows them on one screen, refusals and warnings first.

    Parameters
    ----------
    name : str
        Name of the data set.
    source : str
        Where the images come from, in words.
    n_images : int
        Number of images with a label, unreadable files included.
    ndim : int or None
        Number of spatial axes. None if the data are refused.
    refusals : list of Finding
        Reasons for which the loader or a later read refuses the data. Empty if nothing is refused.
    warnings : list of Finding
        Doubts, the worst first: pictures or groups in training and test, pictures of two classes.
    formats : dict of str to int
        Number of images of each file format. ``"array"`` for rows of an array.
    sizes : dict of tuple to int
        Number of images of each size, in pixels or voxels, as the files hold them.
    channels : dict of int or None to int
        Number of images with each number of channels. None has no axis for channels.
    spacings : dict of tuple or None to int
        Number of images with each voxel spacing, in mm. None is not stated.
    pixels : list of PixelKind
        Dtype, range and histogram of the numbers, for each kind of numbers.
    copies : list of tuple of str
        The names of the images of each picture that occurs more than once.
    license : str
        License of the images, as far as it is stated.
    unreadable : dict of str to str
        Name of each file that cannot be read, mapped to the reason.
    card : DataCard or None
        The classes of each part. None without a single image.
    headers_only : bool
        Whether pixels were not read, so that ranges, copies and damaged files are not known.

    See Also
    --------
    inspect_data : Inspect the data of any loader.
    inspect_folder : Inspect a folder, which may be one that cannot be loaded.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.utils import Bunch
    >>> from skimbal.datasets import inspect_data
    >>> X = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    >>> data = Bunch(X=X[[0, 1, 2, 0]], y=np.array([0, 0, 1, 1]), target_names=["a", "b"], ndim=2)
    >>> inspection = inspect_data(data)
    >>> inspection.loads, inspection.copies
    (True, [('row 0', 'row 3')])
    >>> print(inspection.warnings[0].text)
    1 picture has two or more classes.
    """

    name: str
    source: str
    n_images: int
    ndim: int | None
    refusals: list[Finding]
    warnings: list[Finding]
    formats: dict[str, int]
    sizes: dict[tuple[int, ...], int]
    channels: dict[int | None, int]
    spacings: dict[tuple[float, ...] | None, int]
    pixels: list[PixelKind]
    copies: list[tuple[str, ...]]
    license: str
    unreadable: dict[str, str]
    card: DataCard | None
    headers_only: bool = False

    @property
    def loads(self) -> bool:
        """Whether the data would be loaded, and all images read."""
        return not self.refusals

    def to_text(
        self,
        *,
        width: int = 80,
        unicode: bool = True,
        word: Callable[[Exception], str] | None = None,
    ) -> str:
        """Write the inspection as one screen of text.

        Parameters
        ----------
        width : int, default=80
            Most characters of a line.
        unicode : bool, default=True
            Whether histograms are drawn with block characters. If False, the text is ASCII.
        word : callable, default=None
            ``word(error)`` words an error or warning of the loader, for a caller with other names
            for the parameters. If None, its own text.

        Returns
        -------
        text : str
            The text, without a line break at its end.
        """
        lines = [*_verdict(self, width, word), "", *_fact_lines(self, width, unicode)]
        if self.card is not None:
            lines += ["", *_class_lines(self.card)]
        shown = (printable(line, unicode=unicode).rstrip() for line in lines)
        return "\n".join(
            line if len(line) <= width else line[: width - 3] + "..." for line in shown
        )

    def __str__(self) -> str:
        """Return the screen of text."""
        return self.to_text()


# Making an inspection ------------------------------------------------------------------------


def inspect_data(
    data: Bunch, *, headers_only: bool = False, verbose: int | bool = 0
) -> DataInspection:
    """Inspect the data of a loader: sizes, ranges, classes, copies, leaks.

    Parameters
    ----------
    data : sklearn.utils.Bunch
        As the loaders of :mod:`skimbal.datasets` return it: images as arrays or as files, with or
        without splits and groups.
    headers_only : bool, default=False
        Whether only the headers of files are read, which is fast. Ranges, copies and damaged files
        are not known then.
    verbose : int or bool, default=0
        1 and True show a progress bar on a terminal, 0 and False none.

    Returns
    -------
    inspection : DataInspection
        Copies are pictures whose decoded numbers are all equal, under any name and in any file
        format.

    See Also
    --------
    inspect_folder : Inspect a folder, which may be one that cannot be loaded.

    Examples
    --------
    >>> from skimbal.datasets import inspect_data, load_imbalanced_digits
    >>> inspection = inspect_data(load_imbalanced_digits())
    >>> inspection.sizes, inspection.pixels[0].high, inspection.warnings
    ({(8, 8): 864}, 16.0, [])
    """
    parts = [key.removeprefix("X_") for key in data if key.startswith("X_")] or [""]
    parts.sort(key=order_of_parts)
    arrays = {part: data[split_key("X", part)] for part in parts}
    first, n_spatial = arrays[parts[0]], int(data.ndim)
    rows = [row for part in parts for row in _rows_of_part(data, part, parts)]
    unreadable: Reasons = {}
    of_readers: list[str] = []
    options: ImageOptions = {}
    if isinstance(first, ImageFiles):
        paths = [path for part in parts for path in arrays[part].paths]
        rows = [row._replace(path=path) for row, path in zip(rows, paths, strict=True)]
        root = Path(data.get("filename") or os.path.commonpath(map(os.path.dirname, paths)))
        options = _options_of(first)
        images, unreadable, of_readers = _read_files(rows, root, options, headers_only, verbose)
    else:
        images = _read_arrays(arrays, rows, n_spatial, headers_only)
    return _assemble(
        images,
        name=str(data.get("name") or "data"),
        source=_source_of(data),
        license=str(data.get("license") or ""),
        refusals=_set_aside({}, unreadable, Path()),
        doubts_before=[],
        missing=Missing(data.get("missing_values")),
        is_one_scale=options.get("intensity") is not None,
        remarks=words_on_unused(data.get("unused_groups", ()), "array", "groups"),
        of_readers=of_readers,
        unreadable=unreadable,
        class_names=_class_names(data),
        used=(tuple(first.shape[1:]), str(first.dtype), n_spatial),
        headers_only=headers_only,
    )


@explains_names
def inspect_folder(
    root: PathLike,
    *,
    labels: PathLike | None = None,
    path_column: str = "path",
    label_column: str = "label",
    group_column: str | None = None,
    split_column: str | None = None,
    splits: SplitNames | None = None,
    missing_values: Collection[str] | None = None,
    encoding: str | None = None,
    on_error: str = "raise",
    headers_only: bool = False,
    verbose: int | bool = 0,
    **options: Unpack[ImageOptions],
) -> DataInspection:
    """Inspect a folder of image files, also if it would be refused.

    :func:`~skimbal.datasets.load_image_folder` stops at the first reason against a folder.
    This function lists all of them.

    Parameters
    ----------
    root : str or path-like
        The folder.
    labels, path_column, label_column, group_column, split_column, splits, missing_values, \
encoding : object
        Parameters of :func:`~skimbal.datasets.load_image_folder`, with its defaults.
    on_error : {"raise", "skip"}, default="raise"
        With ``"skip"``, files that cannot be used are warnings.
    headers_only : bool, default=False
        Whether only the headers of files are read, which is fast. Ranges, copies and damaged files
        are not known then.
    verbose : int or bool, default=0
        1 and True show a progress bar on a terminal, 0 and False none.
    **options : dict
        Parameters of :class:`~skimbal.images.ImageFiles`.

    Returns
    -------
    inspection : DataInspection
        ``inspection.loads`` tells whether the folder would be loaded, and all files read.

    Raises
    ------
    FileNotFoundError
        If the folder or the table does not exist.
    ValueError
        If the table cannot be read, or a column or another parameter is wrong.
    ImportError
        If the library that reads a format is missing. The message names the package to install.

    See Also
    --------
    inspect_data : Inspect the data of any loader.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skimbal.datasets import inspect_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, size in {"healthy/1": 8, "healthy/2": 8, "rare/3": 9}.items():
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         np.save(Path(folder, name), np.eye(size, dtype=np.uint8))
    ...     inspection = inspect_folder(folder)
    >>> inspection.loads, inspection.sizes, inspection.copies
    (False, {(8, 8): 2, (9, 9): 1}, [('healthy/1.npy', 'healthy/2.npy')])
    """
    root, missing = Path(root), Missing(missing_values)
    if not root.is_dir():
        raise FileNotFoundError(f"root must be a folder that exists; got {root}.")
    columns: dict[str, Any] = {
        "path_column": path_column,
        "label_column": label_column,
        "group_column": group_column,
        "split_column": split_column,
    }
    form: dict[str, Any] = {"splits": splits, "missing_values": missing_values}
    form["encoding"] = encoding
    reader = options.get("reader")
    rows, unusable, notes, _ = list_rows(root, labels, columns, reader is not None, **form)
    form |= {"labels": labels, "on_error": on_error, **columns, **options}
    data, error, remarks = _try(partial(load_image_folder, root, **form))
    remarks = _without_paths(remarks, rows)
    images, unreadable, of_readers = _read_files(rows, root, options, headers_only, verbose)
    skips = on_error == "skip"
    if skips and data is not None:
        images, unreadable = _without_skipped(data, rows, images, unreadable, root)
    found = _set_aside(unusable, unreadable, root)
    refusals = [] if skips else list(found)
    if error is not None:
        refusals += _refusals_of_loader(rows, images, root, error, options, is_known=bool(refusals))
    return _assemble(
        images,
        name=root.resolve().name,
        source=f"folder {root}",
        license="",
        refusals=refusals,
        # A loader that skips says how many files it has skipped.
        doubts_before=[f._replace(text=f"Skipped: {f.text}") for f in found] if skips else [],
        missing=missing,
        is_one_scale=options.get("intensity") is not None,
        remarks=[*notes, *_remarks_of_loader(remarks, images, of_readers, notes, missing)],
        of_readers=of_readers,
        unreadable=unreadable,
        class_names=sorted_names(images.labels) if data is None else _class_names(data),
        used=None if data is None else _used(data),
        headers_only=headers_only,
    )


def _try(load: Callable[[], Bunch]) -> tuple[Bunch | None, ValueError | OSError | None, list[str]]:
    """Load data. Return them, or the error, and the texts of all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            data, error = load(), None
        except (ValueError, OSError) as refusal:
            data, error = None, refusal
    return data, error, [str(warning.message) for warning in caught]


def _remarks_of_loader(
    texts: list[str],
    images: InspectedImages,
    of_readers: list[str],
    notes: list[str],
    missing: Missing,
) -> list[str]:
    """Return the warnings of a loader that an inspection does not find itself."""
    doubtful = {image.doubt for image in images.measured if image is not None and image.doubt}
    shared = [finding.text for finding in groups_on_both_sides(images)]
    known = {*doubtful, *notes, *notes_of(images, missing), *shared, "skipped"}
    return [
        text for text in texts if text not in of_readers and not any(part in text for part in known)
    ]


def _used(data: Bunch) -> tuple[tuple[int, ...], str, int]:
    """Return shape, dtype and number of spatial axes of the images that a network gets."""
    X = next(data[key] for key in data if key == "X" or key.startswith("X_"))
    return tuple(X.shape[1:]), str(X.dtype), int(data.ndim)


def _without_skipped(
    data: Bunch,
    rows: Sequence[FolderRow],
    images: InspectedImages,
    unreadable: Reasons,
    root: Path,
) -> tuple[InspectedImages, Reasons]:
    """Return the images that a loader kept, and the reasons against the others."""
    kept = {path for key in data if key == "X" or key.startswith("X_") for path in data[key].paths}
    reasons, used = dict(unreadable), []
    for i, row in enumerate(rows):
        path = os.path.abspath(row.path)
        if kept & {row.path, path}:
            used.append(i)
        elif images.names[i] not in reasons:
            reason = data.skipped.get(path) or data.skipped.get(row.path) or "it is skipped"
            reasons[images.names[i]] = _without_root(reason, root)
    return images.take(used), reasons


def _without_root(text: str, root: Path) -> str:
    for folder in (str(root), os.path.abspath(root)):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def _relative(place: str, root: Path) -> str:
    return place.removeprefix(f"{root}{os.sep}")


def _set_aside(unusable: Reasons, unreadable: Reasons, root: Path) -> list[Finding]:
    """Return findings of files and rows that cannot be used, and of images that cannot be read."""
    found = []
    if unusable:
        n = plural(len(unusable), "file or row", "files or rows")
        named = {_relative(place, root): reason for place, reason in unusable.items()}
        found.append(Finding(f"{n} cannot be used.", _places(named)))
    if unreadable:
        n = plural(len(unreadable), "image")
        found.append(Finding(f"{n} cannot be read.", _places(unreadable)))
    return found


def _places(reasons: Reasons) -> tuple[str, ...]:
    """Return files with their reasons, of which each kind is given once."""
    alike: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        # Paths and numbers differ between reasons of one kind.
        key = re.sub(r"\S*[\d/\\]\S*", "", reason.replace(name, ""))
        alike.setdefault(key, []).append(name)
    return tuple(
        names[0]
        + (f" and {len(names) - 1:,} more: " if len(names) > 1 else ": ")
        + reasons[names[0]]
        for names in sorted(alike.values(), key=len, reverse=True)
    )


def _refusals_of_loader(
    rows: Sequence[FolderRow],
    images: InspectedImages,
    root: Path,
    error: ValueError | OSError,
    options: ImageOptions,
    *,
    is_known: bool,
) -> list[Finding]:
    """Return all reasons of the loader, which stops at the first of them.

    It looks at headers. Of files with equal headers, one is tried.
    """
    alike: dict[Hashable, list[int]] = {}
    for i, measured in enumerate(images.measured):
        if measured is not None:
            alike.setdefault((images.formats[i], *measured[:6]), []).append(i)
    good: list[str] = []
    refused: dict[str, tuple[ValueError | OSError, list[str]]] = {}
    for same in alike.values():
        path = rows[same[0]].path
        refusal = _try_files([path], options)
        if refusal is None:
            good.append(path)
            continue
        is_named = path in str(refusal) or os.path.abspath(path) in str(refusal)
        if isinstance(refusal, ParameterError) and not is_named:
            raise refusal  # no file could mend it
        key = getattr(refusal, "parameter", "") or str(refusal).replace(path, "")
        refused.setdefault(key, (refusal, []))[1].extend(images.names[i] for i in same)
    found = [_of_error(refusal, root, tuple(names)) for refusal, names in refused.values()]
    found += [_of_error(refusal, root) for refusal in _refusals_of_set(good, options)]
    try:
        check_classes_of_parts(labels_of_parts(images), str(root))
    except ValueError as refusal:
        found.append(_of_error(refusal, root))
    if len(set(images.labels)) == 1 and is_known:
        found.append(Finding(f"There must be two classes; got {images.labels[0]!r} alone."))
    return found if found or is_known else [_of_error(error, root)]


def _refusals_of_set(paths: list[str], options: ImageOptions) -> list[ValueError | OSError]:
    """Return the reasons against files that can only be used one by one.

    A parameter that would remove a reason shows the next reason.
    """
    remedies: dict[str, object] = {"channels": 1, "intensity": "stored", "size": 16}
    found: list[ValueError | OSError] = []
    tried: Any = dict(options)
    while paths and (refusal := _try_files(paths, tried)) is not None:
        parameter = getattr(refusal, "parameter", "")
        if found and parameter not in remedies:
            break
        found.append(refusal)
        if parameter not in remedies:
            break
        tried[parameter] = remedies.pop(parameter)
    return found


def _try_files(paths: list[str], options: ImageOptions) -> ValueError | OSError | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ImageFiles(paths, **options)
    except (ValueError, OSError) as error:
        return error
    return None


def _of_error(error: ValueError | OSError, root: Path, names: tuple[str, ...] = ()) -> Finding:
    return Finding(_without_root(str(error), root), names if len(names) > 1 else (), error)


# Reading -------------------------------------------------------------------------------------


def _options_of(X: ImageFiles) -> ImageOptions:
    """Return the parameters that images were made with."""
    facts = X.fingerprint()
    names = set(ImageOptions.__annotations__) - {"dtype", "cache", "cache_bytes"}
    return cast(ImageOptions, {name: facts[name] for name in names if name in facts})


def _class_names(data: Bunch) -> list[str]:
    """Return the names of classes in the order of the card that the loader made, if it did."""
    return [str(name) for name in (data.card.class_names if "card" in data else data.target_names)]


def _rows_of_part(data: Bunch, part: str, parts: list[str]) -> list[FolderRow]:
    """Return a row for each image of a part, with names for labels that are codes."""
    y = np.asarray(data[split_key("y", part)])
    groups = data.get(split_key("groups", part))
    names = [str(name) for name in data.target_names]
    labels = [str(label) for label in y.tolist()]
    if data.get("classes") is not None:
        name_of = dict(zip(np.asarray(data.classes).tolist(), names, strict=True))
        labels = [name_of[label] for label in y.tolist()]
    elif y.dtype.kind in "bui":
        known = np.unique(np.concatenate([np.asarray(data[split_key("y", p)]) for p in parts]))
        if known.min() >= 0 and known.max() < len(names):
            labels = [names[int(label)] for label in y]
        elif len(known) == len(names):
            labels = [names[i] for i in np.searchsorted(known, y)]
    return [
        FolderRow("", label, None if groups is None else str(groups[i]), part or None)
        for i, label in enumerate(labels)
    ]


def _read_arrays(
    arrays: Mapping[str, Any], rows: list[FolderRow], n_spatial: int, headers_only: bool
) -> InspectedImages:
    """Measure the rows of arrays."""
    n_sampled = _n_sampled(len(rows))
    measured: list[Measured | None] = []
    names: list[str] = []
    for part, array in arrays.items():
        names += [f"{part} row {i}".lstrip() for i in range(len(array))]
        step = max(1, _CHUNK // max(1, np.asarray(array[:1]).nbytes))
        for start in range(0, len(array), step):
            measured += [
                measure(
                    DecodedImage(image, n_spatial), header_only=headers_only, n_sampled=n_sampled
                )
                for image in np.asarray(array[start : start + step])
            ]
    return _images(rows, names, ["array"] * len(rows), measured)


def _read_files(
    rows: Sequence[FolderRow],
    root: Path,
    options: ImageOptions,
    headers_only: bool,
    verbose: int | bool,
) -> tuple[InspectedImages, dict[str, str], list[str]]:
    """Measure files. Return them, the unreadable files with reasons, and warnings of readers."""
    n_sampled, reader = _n_sampled(len(rows)), options.get("reader")
    limit = options.get("max_pixels", ReadRequest().max_pixels)
    request = ReadRequest(options.get("channels"), headers_only, limit)
    axis = options.get("channel_axis")

    def look(row: FolderRow) -> Measured | str:
        try:
            if reader is None:
                image = read_image(row.path, request)
                if axis is not None:
                    with suppress(ParameterError):  # the loader refuses it
                        image = with_channels_first(image, axis, row.path)
            else:
                one = ImageFiles([row.path], reader=reader, channel_axis=axis)
                image = DecodedImage(one[0], one.n_spatial)
            return measure(image, header_only=headers_only, n_sampled=n_sampled)
        except ImportError:
            raise
        # Each library raises its own types.
        except Exception as error:
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            return _without_root(reason, root)

    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(_N_THREADS) as pool:
        warnings.simplefilter("always")
        # Without a terminal, the bar is not shown.
        disable = None if verbose else True
        looks = list(Bar(pool.map(look, rows), total=len(rows), disable=disable, unit="file"))
    names = [_relative(row.path, root) for row in rows]
    unreadable: Reasons = {}
    measured: list[Measured | None] = []
    for name, one in zip(names, looks, strict=True):
        if isinstance(one, str):
            unreadable[name] = one
        elif one.n_not_finite:
            unreadable[name] = f"NaN or infinity in {plural(one.n_not_finite, 'number')}"
        measured.append(None if isinstance(one, str) else one)
    formats = [None if reader else format_name(row.path) for row in rows]
    remarks = _without_paths([str(warning.message) for warning in caught], rows)
    return _images(rows, names, formats, measured), unreadable, remarks


def _without_paths(texts: list[str], rows: Sequence[FolderRow]) -> list[str]:
    """Leave out the file before a warning, so that equal warnings of files are one."""
    paths = {row.path for row in rows}
    parts = [text.partition(": ") for text in texts]
    return [words if path in paths else path + sign + words for path, sign, words in parts]


def _n_sampled(n_images: int) -> int:
    return min(4096, max(16, N_SAMPLED // max(1, n_images)))


def _images(
    rows: Sequence[FolderRow],
    names: list[str],
    formats: Sequence[str | None],
    measured: list[Measured | None],
) -> InspectedImages:
    return InspectedImages(
        names,
        [row.label for row in rows],
        [row.group for row in rows],
        [row.split for row in rows],
        list(formats),
        measured,
    )


# Putting together ----------------------------------------------------------------------------


def _source_of(data: Bunch) -> str:
    path = data.get("filename")
    if path is None:
        where = "no file"
    elif Path(path).is_dir():
        where = f"folder {path}"
    else:
        where = f"file {path}, {Path(path).stat().st_size:,} bytes"
    return where


def _assemble(
    images: InspectedImages,
    *,
    name: str,
    source: str,
    license: str,
    refusals: list[Finding],
    doubts_before: list[Finding],
    missing: Missing,
    is_one_scale: bool,
    remarks: list[str],
    of_readers: list[str],
    unreadable: dict[str, str],
    class_names: list[str],
    used: tuple[tuple[int, ...], str, int] | None,
    headers_only: bool,
) -> DataInspection:
    """Put the facts of all images together."""
    measured = [image for image in images.measured if image is not None]
    digests = [None if image is None else image.digest for image in images.measured]
    copies = find_copies(digests)
    n_spatial = None if used is None else used[2]
    axes = [image.axes(n_spatial) for image in measured]
    formats = (form or "other" for form in images.formats)
    return DataInspection(
        name=name,
        source=source,
        n_images=len(images.names),
        ndim=n_spatial,
        refusals=refusals,
        warnings=[
            *doubts_before,
            *(Finding(" ".join(text.split())) for text in dict.fromkeys(remarks)),
            *doubts(images, copies, missing, is_one_scale=is_one_scale),
            *_warnings_of_readers(of_readers),
        ],
        formats=dict(Counter(formats).most_common()),
        sizes=dict(Counter(size for _, size in axes).most_common()),
        channels=dict(Counter(channels for channels, _ in axes).most_common()),
        spacings=dict(Counter(image.spacing for image in measured).most_common()),
        pixels=pixel_kinds(measured),
        license=license,
        copies=[tuple(images.names[i] for i in same) for same in copies],
        unreadable=unreadable,
        card=_card(images, class_names, used) if images.names else None,
        headers_only=headers_only,
    )


def _warnings_of_readers(texts: list[str]) -> list[Finding]:
    """Return the most frequent warnings of readers, each once."""
    counts = Counter(" ".join(text.split()) for text in texts)
    known = sorted(counts, key=lambda text: (-counts[text], text))
    found = [Finding(f"A reader warns: {text}") for text in known[:_N_READER_WARNINGS]]
    n_more = len(known) - len(found)
    return [*found, Finding(f"{plural(n_more, 'other warning')} of readers.")] if n_more else found


def _card(
    images: InspectedImages, class_names: list[str], used: tuple[tuple[int, ...], str, int] | None
) -> DataCard:
    shape, dtype = used[:2] if used is not None else ((), "")
    parts = sorted(set(images.splits), key=lambda part: order_of_parts(str(part)))
    of_class = Counter(zip(images.splits, images.labels, strict=True))
    members = {
        part: {g for g, split in zip(images.groups, images.splits, strict=True) if split == part}
        for part in parts
    }
    has_groups = any(group is not None for group in images.groups)
    return DataCard(
        class_names,
        {part or "all": [of_class[part, name] for name in class_names] for part in parts},
        shape,
        dtype,
        {part or "all": len(members[part] - {None}) for part in parts} if has_groups else None,
    )


# Text ----------------------------------------------------------------------------------------


def _verdict(
    inspection: DataInspection, width: int, word: Callable[[Exception], str] | None
) -> list[str]:
    """Write refusals and warnings below the name of the data."""
    card = inspection.card
    kind = "" if inspection.ndim is None else f"{inspection.ndim}D "
    n_classes = 0 if card is None else len(card.class_names)
    head = f"{inspection.name}: {plural(inspection.n_images, f'{kind}image')} of "
    lines = [head + plural(n_classes, "class", "classes"), inspection.source, ""]
    if inspection.refusals:
        n = len(inspection.refusals)
        lines.append("REFUSED" if n == 1 else f"REFUSED, for {n} reasons")
        for i, finding in enumerate(inspection.refusals, 1):
            lines += listed(*_worded(finding, word), width=width, mark=f"  {i}. ")
    else:
        read = "Pixels were not read." if inspection.headers_only else "All images can be read."
        n_skipped = len(inspection.unreadable)
        are = agree(n_skipped, "is", "are")
        skipped = f"{plural(n_skipped, 'file')} {are} skipped." if n_skipped else read
        lines.append(f"Loads. {skipped}")
    if inspection.warnings:
        lines += ["", "WARNINGS" if len(inspection.warnings) > 1 else "WARNING"]
    for finding in inspection.warnings:
        lines += listed(*_worded(finding, word), width=width, mark="  - ")
    return lines


def _worded(finding: Finding, word: Callable[[Exception], str] | None) -> tuple[str, Sequence[str]]:
    """Return the text and the places of a finding, in the caller's names for the parameters."""
    if word is None:
        return finding.text, finding.places
    places = [word(UserWarning(place)) for place in finding.places]
    return word(finding.error or UserWarning(finding.text)), places


def _fact_lines(inspection: DataInspection, width: int, unicode: bool) -> list[str]:
    """Write sizes, spacing, numbers and copies, a line for each."""
    facts = [
        ("files", _formats_text(inspection.formats)),
        ("size", _sizes_text(inspection.sizes)),
        (
            "channels",
            _counts_text(
                inspection.channels, lambda n: "1, without an axis" if n is None else str(n)
            ),
        ),
        ("spacing", _spacings_text(inspection.spacings)),
    ]
    card = inspection.card
    if card is not None and card.dtype:
        facts.append(("used as", f"{' x '.join(map(str, card.image_shape))}, {card.dtype}"))
    for kind in inspection.pixels[:_N_KINDS]:
        facts += _pixel_facts(kind, unicode, is_only=len(inspection.pixels) == 1)
    if not inspection.headers_only:
        n = sum(map(len, inspection.copies))
        of_pictures = plural(len(inspection.copies), "picture")
        facts.append(("copies", f"{plural(n, 'image')} of {of_pictures}" if n else "none"))
    facts.append(("license", inspection.license))
    return [
        line
        for name, text in facts
        if text
        for line in listed(text, (), width=width, mark=f"{name:<10}")
    ]


def _counts_text(counts: Mapping[Any, int], word: Callable[[Any], str]) -> str:
    """List values with their counts, or the one value that all have."""
    if len(counts) == 1:
        return word(next(iter(counts)))
    shown = [f"{word(value)} ({n:,})" for value, n in list(counts.items())[:4]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _formats_text(formats: Mapping[str, int]) -> str:
    return ", ".join(
        plural(n, "row of an array", "rows of an array") if name == "array" else f"{n:,} {name}"
        for name, n in formats.items()
    )


def _sizes_text(sizes: Mapping[tuple[int, ...], int]) -> str:
    def word(size: tuple[int, ...]) -> str:
        return " x ".join(map(str, size))

    if len(sizes) <= 3 or len({len(size) for size in sizes}) > 1:
        return _counts_text(sizes, word)
    least, most = (tuple(map(int, f(list(sizes), axis=0))) for f in (np.min, np.max))
    common, n = next(iter(sizes.items()))
    often = f", most often {word(common)} ({n:,})" if n > 1 else ""
    return f"{word(least)} to {word(most)}, {len(sizes):,} different{often}"


def _spacings_text(spacings: Mapping[tuple[float, ...] | None, int]) -> str:
    def word(spacing: tuple[float, ...] | None) -> str:
        if spacing is None:
            return "not stated"
        return " x ".join(f"{mm:g}" for mm in spacing) + " mm"

    known = [spacing for spacing in spacings if spacing is not None]
    if not known:
        return ""
    if len(spacings) <= 3 or len({len(spacing) for spacing in known}) > 1:
        return _counts_text(spacings, word)
    least, most = (tuple(f(known, axis=0).tolist()) for f in (np.min, np.max))
    text = f"{word(least).removesuffix(' mm')} to {word(most)}, {len(known):,} different"
    return text + (f", not stated ({spacings[None]:,})" if None in spacings else "")


def _pixel_facts(kind: PixelKind, unicode: bool, *, is_only: bool) -> list[tuple[str, str]]:
    n = "" if is_only else f"{plural(kind.n_images, 'image')}: "
    unit = f" {kind.unit}" if kind.unit else ""
    full = ""
    if kind.full_range is not None:
        full = " of {} to {}".format(*map(format_number, kind.full_range))
    if kind.low is None or kind.high is None or kind.percentiles is None:
        return [("numbers", f"{n}{kind.dtype}{unit}{full}")]
    low, high = format_number(kind.low), format_number(kind.high)
    first, last = map(format_number, kind.percentiles)
    text = f"{n}{kind.dtype}, {low} to {high}{unit}{full}, 98 % between {first} and {last}"
    has_scale = kind.full_range is not None or kind.unit is not None
    if not has_scale and kind.least_high is not None and kind.least_high < 0.9 * kind.high:
        text += f". Greatest of an image: {format_number(kind.least_high)} to {high}"
    bars = f"{low} |{draw_bars(kind.histogram, unicode=unicode)}| {high}"
    return [("numbers", text), ("", bars)]


def _class_lines(card: DataCard) -> list[str]:
    totals = np.sum(list(card.counts.values()), axis=0).tolist()
    rows = trim_rows(card.table(), totals)
    return str(tabulate(rows, tablefmt="plain", disable_numparse=True)).splitlines()
