"""Files of arrays with their labels."""

import math
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from skimbal.datasets.arrays import (
    ArrayAxes,
    Part,
    check_groups,
    check_labels,
    join_groups,
    join_labels,
)
from skimbal.datasets.bunch import make_bunch
from skimbal.datasets.labels import Missing
from skimbal.datasets.origin import Origin
from skimbal.datasets.splits import SPLITS, check_classes_of_parts, part_of_value
from skimbal.datasets.unused import looks_like_groups, unused_groups, words_on_unused
from skimbal.exceptions import ParameterError
from skimbal.images.npy import entry_header, entry_names, read_entry
from skimbal.typing import PathLike, is_integer

__all__ = ["load_npz", "read_images", "read_parts"]


class _Form(NamedTuple):
    """Names of the images, labels and groups of a part in a file."""

    images: str
    labels: str
    groups: str

    def of(self, split: str, groups: str = "") -> "_Form":
        """Return the names for a part."""
        return _Form(*(name.format(split=split, groups=groups) for name in self))


#: Arrays of images and labels.
_LABELS = ("images", "labels", "X", "x", "y")
_PLAIN = (_Form("images", "labels", "{groups}"), _Form("X", "y", "{groups}"))
_OF_SPLITS = (
    _Form("{split}_images", "{split}_labels", "{split}_{groups}"),
    _Form("X_{split}", "y_{split}", "{groups}_{split}"),
    _Form("x_{split}", "y_{split}", "{groups}_{split}"),
)


def load_npz(
    path: PathLike,
    *,
    groups: str | None = None,
    channel_axis: int | None = None,
    n_spatial: int | None = None,
    missing_values: Collection[str] | None = None,
    max_pixels: int = 2**31,
) -> Bunch:
    """Load your npz file, with the splits of MedMNIST or without splits.

    Parameters
    ----------
    path : str or path-like
        An npz file with the arrays ``train_images`` and ``train_labels``, and the same for ``val``
        and ``test`` or one of them, or ``X_train``, ``y_train`` and so on. Without splits:
        ``images`` and ``labels``, or ``X`` and ``y``. A file with more than one of these pairs is
        refused. Nothing in the file is unpickled.

        Images are (n, h, w), (n, h, w, 1), (n, h, w, 3), (n, 1, h, w), (n, 3, h, w) or
        (n, d, h, w). Four axes are a volume unless the last axis, or the second, has length 1 or 3
        and so counts channels. Where it has length 2, 4 or 5 and the others are far longer, the
        file is refused without ``channel_axis`` or ``n_spatial``.

        Labels are whole numbers of any size, or text, of shape (n,) or (n, 1).
    groups : str, default=None
        Name of a further array that says to which group, such as a patient, each image belongs:
        numbers or text, of shape (n,) or (n, 1). In a file with splits, the names of the arrays
        begin with ``train_``, ``val_`` and ``test_``, or end with ``_train`` and so on as the
        labels do, and the array of the test rows may be missing.
    channel_axis : int, default=None
        The axis of an image that counts channels: -1 for (n, h, w, c) and (n, d, h, w, c), 0 for
        (n, c, h, w) and (n, c, d, h, w).
    n_spatial : int, default=None
        Number of spatial axes of an image, 2 or 3. ``n_spatial=3`` says that (n, d, h, w) is a
        volume, also of 1 to 5 slices.
    missing_values : collection of str, default=None
        Texts that stand for a missing label or group, as in :func:`load_image_folder`.
    max_pixels : int, default=2**31
        Greatest number of pixels or voxels of an array, all images and channels counted. A file
        whose headers state more is refused before memory is taken for it.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are listed in :mod:`skimbal.datasets`. Colour images have channels first,
        (n, 3, h, w). Labels are as they stand in the file: numbers are int64, or uint64 if one of
        them needs it, and text is str. The classes are the labels that occur. With `groups`, also
        ``groups_train``, ``groups_val`` and ``groups_test`` (None if it is not in the file), or
        ``groups``, of shape (n,).

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not an npz file, is damaged, lacks arrays, or holds arrays of another form,
        if an array has more than ``max_pixels`` numbers, if a split is empty, if a row has no label
        or more than one, or if val or test has a class that train does not have.

    Warns
    -----
    UserWarning
        If an array that is not used looks like groups, if a part has no image of a class, if names
        of classes or groups are spelt nearly alike, or if they may stand for a missing value, such
        as ``-``, ``unknown`` or the number -9.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from skimbal.datasets import load_npz
    >>> arrays = {}
    >>> for split in ("train", "val", "test"):
    ...     arrays[f"{split}_images"] = np.zeros((4, 28, 28), dtype=np.uint8)
    ...     arrays[f"{split}_labels"] = np.array([[0], [1], [0], [1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(os.path.join(folder, "mine.npz"), **arrays)
    ...     data = load_npz(os.path.join(folder, "mine.npz"))
    >>> data.X_train.shape, data.y_train
    ((4, 28, 28), array([0, 1, 0, 1]))

    Without splits, and with patients:

    >>> X = np.zeros((4, 28, 28), dtype=np.uint8)
    >>> y = np.array(["benign", "malignant", "benign", "malignant"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(os.path.join(folder, "mine.npz"), X=X, y=y, patient=[7, 7, 8, 9])
    ...     data = load_npz(os.path.join(folder, "mine.npz"), groups="patient")
    >>> data.X.shape, data.y, data.target_names, data.groups
    ((4, 28, 28), array(['benign', 'malignant', 'benign', 'malignant'], dtype='<U9'),
    ['benign', 'malignant'], array([7, 7, 8, 9]))
    """
    path = Path(path)
    missing = Missing(missing_values)
    if not (is_integer(max_pixels) and max_pixels >= 1):
        raise ParameterError("max_pixels", "a positive integer", max_pixels)
    axes = ArrayAxes(channel_axis, n_spatial)
    parts = read_parts(path, groups, axes, missing, int(max_pixels))
    unused = [] if groups is not None else _find_unused(path, parts)
    labels = {split: part.y for split, part in parts.items()}
    classes = np.unique(np.concatenate(list(labels.values())))
    notes = check_classes_of_parts(labels, str(path))
    notes += missing.notes([str(label) for label in classes.tolist()], "classes")
    known = [part.groups for part in parts.values() if part.groups is not None]
    if known and known[0].dtype.kind == "U":
        notes += missing.notes(np.concatenate(known).tolist(), "groups")
    for note in [*notes, *words_on_unused(unused, "array", "groups")]:
        warnings.warn(f"{path}: {note}", UserWarning, stacklevel=2)
    data = make_bunch(
        parts,
        name=path.stem,
        filename=str(path),
        classes=classes,
        target_names=[str(label) for label in classes.tolist()],
        source=str(path),
        license="not stated in the file",
        citation="not stated in the file",
        has_groups=groups is not None,
        origin=Origin.of_call(
            load_npz,
            path=path,
            groups=groups,
            channel_axis=channel_axis,
            n_spatial=n_spatial,
            missing_values=missing_values,
            max_pixels=max_pixels,
        ),
    )
    more = {"missing_values": missing_values, "unused_groups": unused or None}
    data.update({name: value for name, value in more.items() if value is not None})
    return data


def _find_unused(path: Path, parts: Mapping[str, Part]) -> list[str]:
    """Return the arrays of one entry for each image that look like groups, as ``groups=`` names."""
    columns: dict[str, list[object]] = {}
    with zipfile.ZipFile(path) as archive:
        entries = {name.removesuffix(".npy"): name for name in entry_names(archive)}
        first = next(iter(parts))
        for name in entries:
            base = _without_part(name, first)
            arrays = {}
            for part, of_part in parts.items():
                known = [n for n in entries if _without_part(n, part) == base]
                for entry in known[:1]:
                    shape, dtype = entry_header(archive, entries[entry])
                    n = len(of_part.y)
                    if shape in ((n,), (n, 1)) and dtype.kind in "iuUSO":
                        arrays[part] = entry, dtype
            if not base or base in _LABELS or first not in arrays:
                continue
            if any(dtype.kind == "O" for _, dtype in arrays.values()):
                # Nothing is unpickled, so that the name alone tells.
                columns |= {base: [0, 0, 1]} if looks_like_groups(base) else {}
                continue
            values = [read_entry(archive, entries[entry]).ravel() for entry, _ in arrays.values()]
            columns[base] = [value for array in values for value in array.tolist()]
    return unused_groups(columns)


def _without_part(name: str, part: str) -> str:
    """Return the name of an array as ``groups=`` takes it, or "" if it is of another part."""
    if not part:
        return name
    if name.startswith(f"{part}_"):
        return name.removeprefix(f"{part}_")
    return name.removesuffix(f"_{part}") if name.endswith(f"_{part}") else ""


def read_parts(
    path: Path, groups: str | None, axes: ArrayAxes, missing: Missing, max_pixels: int
) -> dict[str, Part]:
    """Return images, channels first, labels and groups of each part, or of all rows under ""."""
    find = partial(_find_parts, path, groups=groups or "")
    forms, names, arrays = _read_arrays(path, find, max_pixels)
    parts: dict[str, Part] = {}
    for split, form in forms.items():
        if groups is not None and form.groups not in names and split != "test":
            raise ParameterError(
                "groups",
                f"the name of an array of {path}, which holds {', '.join(names)}",
                groups,
                f"The groups of {split or 'all rows'} are read from {form.groups!r}.",
            )
        try:
            X, n_spatial = axes.channels_first(arrays[form.images])
            y = check_labels(arrays[form.labels], len(X), missing)
            of_rows = arrays.get(form.groups) if groups is not None else None
            if of_rows is not None:
                of_rows = check_groups(of_rows, len(X), missing)
            parts[split] = Part(X, y, of_rows, n_spatial)
        except ParameterError:
            raise
        except ValueError as error:
            raise ValueError(f"{path}, {split or 'all rows'}: {error}") from None
    for what in ("shape", "dtype"):
        found = {
            split: part.X.shape[1:] if what == "shape" else str(part.X.dtype)
            for split, part in parts.items()
        }
        if len(set(found.values())) > 1:
            raise ValueError(f"{path}: images must have one {what} in all splits; got {found}.")
    try:
        labels = join_labels({split: part.y for split, part in parts.items()})
        join_groups([part.groups for part in parts.values() if part.groups is not None])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return {split: part._replace(y=labels[split]) for split, part in parts.items()}


def read_images(path: Path, axes: ArrayAxes, max_pixels: int) -> dict[str, npt.NDArray[Any]]:
    """Return images, channels first, of each part, or of all rows under "". Labels may be there."""
    forms, _, arrays = _read_arrays(path, partial(_find_images, path), max_pixels)
    images: dict[str, npt.NDArray[Any]] = {}
    for split, form in forms.items():
        try:
            images[split], _ = axes.channels_first(arrays[form.images])
        except ParameterError:
            raise
        except ValueError as error:
            raise ValueError(f"{path}, {split or 'all rows'}: {error}") from None
    return images


def _read_arrays(
    path: Path, find: Callable[[list[str]], dict[str, _Form]], max_pixels: int
) -> tuple[dict[str, _Form], list[str], dict[str, npt.NDArray[Any]]]:
    """Return the names for each part, all names of a file, and the arrays that are needed."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be an npz file that exists. Check the path.")
    with path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            raise ValueError(
                f"{path} must be an npz file, a zip archive of arrays; got something else, or a "
                "file that was cut short. Get it again, or write it with numpy.savez."
            )
        stream.seek(0)
        try:
            with zipfile.ZipFile(stream) as archive:
                entries = {name.removesuffix(".npy"): name for name in entry_names(archive)}
                forms = find(list(entries))
                wanted = {name for form in forms.values() for name in form if name in entries}
                for name in sorted(wanted):
                    _refuse_large(path, name, *entry_header(archive, entries[name]), max_pixels)
                arrays = {name: read_entry(archive, entries[name]) for name in wanted}
        except ParameterError:
            raise
        except _FormError as error:
            raise ValueError(str(error)) from None
        # More than ten types: zipfile, its codecs and numpy's header parser each raise their own.
        except Exception as error:
            advice = ""
            if "allow_pickle" in str(error):
                advice = " Text must be an array of text, np.array(labels, dtype=str)."
            raise ValueError(
                f"{path} cannot be read, as it is damaged or holds more than plain arrays. Get it "
                f"again, or write it with numpy.savez ({type(error).__name__}: {error}).{advice}"
            ) from error
    return forms, list(entries), arrays


def _refuse_large(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], max_pixels: int
) -> None:
    """Refuse an array of more numbers than the limit, or of more characters if it is text."""
    n = math.prod(shape) * (-(-dtype.itemsize // 4) if dtype.kind in "SUV" else 1)
    if n > max_pixels:
        raise ParameterError(
            "max_pixels",
            f"at least {n} for {path}, whose array {name} has the shape {shape} and the dtype "
            f"{dtype}",
            max_pixels,
            "Raise it if the file is right.",
        )


class _FormError(ValueError):
    """The names of the arrays of a file are not those of a data set."""


def _find_images(path: Path, names: list[str]) -> dict[str, _Form]:
    """Return the names of the images of each part, or refuse a file that is not clear."""
    of_splits = [{split: form.of(split).images for split in SPLITS} for form in _OF_SPLITS]
    found = [
        {split: _Form(name, "", "") for split, name in parts.items() if name in names}
        for parts in (*of_splits, *({"": form.images} for form in _PLAIN))
    ]
    found = [parts for parts in found if parts]
    if len(found) == 1:
        return found[0]
    raise _FormError(
        f"{path} must hold one set of images, under the name images or X, or with splits "
        f"train_images and so on; got {', '.join(names) or 'no arrays'}."
    )


def _unknown_parts(names: list[str]) -> list[str]:
    """Return the arrays that are images with labels, or called so, of a part of another name."""
    strange = []
    for form in _OF_SPLITS:
        words = {
            word
            for name in names
            for pattern in form[:2]
            if (word := _word_at(pattern, name)) and word not in SPLITS
        }
        for word in sorted(words):
            pair = [name for name in form.of(word)[:2] if name in names]
            if len(pair) == 2 or part_of_value(word):
                strange += [name for name in pair if name not in strange]
    return strange


def _word_at(pattern: str, name: str) -> str | None:
    """Return the word that a name has in place of the part, or None."""
    before, after = pattern.split("{split}")
    fits = name.startswith(before) and name.endswith(after)
    return name[len(before) : len(name) - len(after)] if fits else None


def _find_parts(path: Path, names: list[str], groups: str) -> dict[str, _Form]:
    """Return the names of the arrays of each part, or refuse a file that is not clear."""
    found: list[dict[str, _Form]] = []
    lacking: list[str] = []
    for form in _OF_SPLITS:
        parts = {split: form.of(split, groups) for split in SPLITS}
        parts = {split: f for split, f in parts.items() if f.images in names or f.labels in names}
        if not any(f.images in names for f in parts.values()):
            continue
        lacking += [name for f in parts.values() for name in f[:2] if name not in names]
        if "train" not in parts:
            lacking += form.of("train")[:2]
        found.append(parts)
    strange = _unknown_parts(names)
    if strange and (found or lacking):
        raise _FormError(
            f"{path} must hold the parts {', '.join(SPLITS)}; got {', '.join(strange)} too. Rename "
            "these arrays, or write a file without them."
        )
    found += [{"": f.of("", groups)} for f in _PLAIN if {f.images, f.labels} <= set(names)]
    if len(found) == 1 and not lacking:
        return found[0]
    if len(found) > 1:
        firsts = [next(iter(parts.values())) for parts in found]
        shown = " beside ".join(f"{first.images}, {first.labels}" for first in firsts)
        raise _FormError(
            f"{path} must hold one set of images; got {shown}. Write a file with one of them."
        )
    keys = ", ".join(name for split in SPLITS for name in _OF_SPLITS[0].of(split)[:2])
    if lacking:
        raise _FormError(f"{path} must hold the arrays {keys}; got none for {', '.join(lacking)}.")
    raise _FormError(
        f"{path} must hold the arrays images and labels, or X and y, or with splits {keys}; got "
        f"{', '.join(names) or 'no arrays'}."
    )
