"""Images by their paths: files, lists of them, folders, and the ways to read them."""

import os
from collections.abc import Collection
from pathlib import PurePath
from typing import Any

import numpy as np

from skimbal.classifiers.containers import column_of_text, refuse_without_order
from skimbal.exceptions import InputWarning, warn_caller
from skimbal.images import FORMATS, FileForm, ImageFiles, InputForm, list_images
from skimbal.typing import ImagesLike, PathLike

__all__ = [
    "advice_on_channels",
    "from_path",
    "from_paths",
    "refuse_another_reading",
    "warn_of_other_voxels",
]

#: Largest ratio of distances of voxels that still look alike.
_SPACING_RATIO = 1.5
#: Spellings of one rule: the numbers of the files as they are.
_AS_STORED = (None, "stored")


def from_paths(X: ImagesLike, form: FileForm | None = None) -> ImagesLike:
    """Take a list, an array, a column or a table of one column of paths for these images.

    ``form`` is the form of the files of the fit.
    """
    if isinstance(X, str | os.PathLike):
        raise TypeError(
            "X must be the images of the fit: an array, ImageFiles, or a list of paths, one for "
            f"each image; got {os.fspath(X)!r}. skimbal.datasets.load_image_folder gives the "
            "images, the labels and the groups of a folder."
        )
    _refuse_bytes(X)
    refuse_without_order(X)
    if isinstance(X, list | tuple) and not len(X):
        raise ValueError(f"X must hold at least one image; got an empty {type(X).__name__}.")
    entries: Collection[PathLike] | np.ndarray | None
    entries = X if isinstance(X, list | tuple) else column_of_text(X)
    if entries is None or not any(isinstance(entry, str | os.PathLike) for entry in entries):
        return X
    return ImageFiles(entries) if form is None else form.read(entries)


def from_path(path: PathLike, form: InputForm, classes: np.ndarray | None) -> ImagesLike:
    """Take a path for the image, or for the images of the folder, that it leads to."""
    text = os.fspath(path)
    if not text:
        raise ValueError("X must be a path, a list of paths or images; got an empty text.")
    has_functions = form.files is not None and form.files.functions
    if has_functions or not os.path.isdir(text) or _is_one_image(text):
        return from_paths([text], form.files)
    paths = list_images(text, n_spatial=len(form.axes))
    if classes is not None:
        _refuse_class_folders(text, paths, classes)
    return from_paths(paths, form.files)


def _refuse_bytes(X: ImagesLike) -> None:
    """Refuse paths as bytes, alone or in a list."""
    first = X[0] if isinstance(X, list | tuple) and len(X) else X
    if isinstance(first, bytes):
        raise TypeError(
            f"X must hold paths as text, not bytes; got {first!r}. os.fsdecode turns bytes into "
            "text."
        )


def advice_on_channels(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return the remedy for files with other channels than the files of the fit, or ""."""
    if shape[1:] != expected[1:] or not {shape[0], expected[0]} <= {1, 3, 4}:
        return ""
    n = expected[0]
    kind = {1: "grey", 3: "colour", 4: "colour with transparency"}[n]
    return (
        f" The files of the fit were {kind}. Convert this file, or fit with channels={n} (in "
        f"'skimbal fit', --channels {n}), which the model then does with all files."
    )


def _is_one_image(folder: str) -> bool:
    """Tell whether a folder is one image by itself, unlike a series of slices."""
    return any(row.is_folder is not None and row.is_folder(folder) for row in FORMATS.values())


def _refuse_class_folders(root: str, paths: list[str], classes: np.ndarray) -> None:
    """Refuse a folder whose folders are named like classes, as a labelled data set is.

    Numbers may be the names of patients, if some of them are not names of classes.
    """
    above = [PurePath(path).relative_to(root).parts[:-1] for path in paths]
    for level in range(max(map(len, above))):
        names = {parts[level] for parts in above if len(parts) > level}
        found = names & {str(label) for label in classes}
        if found == names or (len(found) > 1 and classes.dtype.kind in "UO"):
            shown = ", ".join(map(repr, sorted(found)))
            raise ValueError(
                f"X must be a folder of images without labels; got {root}, which holds folders "
                f"named like classes: {shown}. Load it with its labels by "
                "skimbal.datasets.load_image_folder, or pass skimbal.images.list_images(folder) "
                "to predict the images all the same."
            )


# Ways to read files --------------------------------------------------------------------------


def refuse_another_reading(images: ImageFiles, form: FileForm) -> None:
    """Refuse files that are read in another way than the files of the fit, if pixels may differ."""
    given = FileForm.of_options(images)
    differ = [name for name in given.options if _differs(name, given.options, form.options)]
    differ += [
        name
        for name in ("reader", "transform")
        if (name in given.functions) != (name in form.functions)
    ]
    if not differ or _reads_the_same(images, form, differ):
        return
    shown = "; ".join(
        f"{name}={_value(name, given)} here and {name}={_value(name, form)} at the fit"
        for name in differ
    )
    functions = " and ".join(f"{name}=" for name in form.functions)
    remedy = (
        f"Give ImageFiles the options and the {functions} of the fit"
        if functions
        else "Pass the paths alone, which are read as at the fit"
    )
    raise ValueError(
        f"X must be files that are read as the files of the fit were; got {shown}. {remedy}. If "
        "the numbers are right as they are, pass numpy.asarray(X)."
    )


def _value(name: str, form: FileForm) -> str:
    """Return an option in words."""
    if name in ("reader", "transform"):
        return "a function" if name in form.functions else "None"
    value = form.options.get(name)
    return repr(tuple(value)) if isinstance(value, list) else repr(value)


def _differs(name: str, given: dict[str, Any], fitted: dict[str, Any]) -> bool:
    """Tell whether an option has another value that may matter."""
    one, other = given[name], fitted.get(name)
    if name == "max_pixels":
        return False
    if name == "resize":
        return one != other and not (given["size"] is None and fitted["size"] is None)
    if name == "intensity" and one in _AS_STORED and other in _AS_STORED:
        return False
    if name in ("size", "spacing") and isinstance(one, list) != isinstance(other, list):
        # One number stands for each of the axes.
        return None in (one, other) or set(_listed(one)) != set(_listed(other))
    return bool(one != other)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _reads_the_same(images: ImageFiles, form: FileForm, differ: list[str]) -> bool:
    """Tell whether the options of the fit surely give the same pixels, by the headers alone."""
    if form.functions or not set(differ) <= {"size", "resize", "spacing", "channels", "dtype"}:
        return False
    try:
        as_fitted = form.read(images.paths)
        stored = {"channel_axis": form.options["channel_axis"], "intensity": "stored"}
        native = ImageFiles(images.paths, **stored).dtype if "dtype" in differ else None
    except ValueError:  # a file that the options of the fit do not suit
        return False
    if images.reshapes or as_fitted.reshapes or _shape(images) != _shape(as_fitted):
        return False
    # Whole numbers and float16 round the numbers of files in wider dtypes.
    given = (images.options["dtype"], form.options["dtype"])
    return native is None or all(
        name in (None, "float32", "float64") or np.can_cast(native, str(name), "safe")
        for name in given
    )


def _shape(images: ImageFiles) -> tuple[int, ...]:
    """Return the shape of an image, channels first."""
    shape = images.shape[1:]
    return (1, *shape) if len(shape) == images.n_spatial else shape


def warn_of_other_voxels(images: ImageFiles, form: FileForm) -> None:
    """Warn of volumes whose voxels have another size than at the fit and are not resampled.

    Pictures state the size at which they are printed, which does not matter.
    """
    options = form.options
    is_resized = options["size"] is not None and options["resize"] == "resample"
    if images.n_spatial != 3 or not form.spacings or options["spacing"] or is_resized:
        return
    low, high = (np.asarray(distances) for distances in form.spacings)
    other = {
        path: spacing
        for path, spacing in images.spacings.items()
        if len(spacing) == len(low)
        and (
            (np.asarray(spacing) > _SPACING_RATIO * high)
            | (np.asarray(spacing) * _SPACING_RATIO < low)
        ).any()
    }
    if other:
        of_fit = " to ".join(dict.fromkeys(map(_in_mm, form.spacings)))
        words = (
            f"voxels of {_in_mm(next(iter(other.values())))} mm, and the files of the fit had "
            f"voxels of {of_fit} mm. The same organ has another size for the network. Fit to files "
            "with spacing=, which brings all files to one voxel spacing."
        )
        warn_caller(InputWarning(words, list(other)))


def _in_mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{distance:.3g}" for distance in spacing)
