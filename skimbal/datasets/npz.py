"""Files of arrays with their labels."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from skimbal.exceptions import ParameterError
from skimbal.images import guess_axes
from skimbal.typing import PathLike

__all__ = ["SPLITS", "Splits", "load_npz", "make_bunch", "read_splits", "split_key"]

SPLITS = ("train", "val", "test")
# Names of the images and the labels in a file, for each split or, under "", for all rows.
_Form: TypeAlias = Mapping[str, tuple[str, str]]
_SPLIT_FORM: _Form = {split: (f"{split}_images", f"{split}_labels") for split in SPLITS}
_FORMS: tuple[_Form, ...] = (_SPLIT_FORM, {"": ("images", "labels")}, {"": ("X", "y")})
# Images, channels first, and class numbers of each split, or of all rows under "".
Splits: TypeAlias = dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]


def load_npz(path: PathLike, *, groups: str | None = None) -> Bunch:
    """Load your npz file, with the splits of MedMNIST or without splits.

    Parameters
    ----------
    path : str or path-like
        An npz file with the arrays ``train_images``, ``train_labels``, ``val_images``,
        ``val_labels``, ``test_images`` and ``test_labels``, or without splits: ``images`` and
        ``labels``, or ``X`` and ``y``. Images are (n, h, w), (n, h, w, 1), (n, h, w, 3) or
        (n, d, h, w). Four axes are a volume unless the last axis, or the second, has length 1 or 3
        and so counts channels.
        Labels are class numbers from 0, or class names as text, of shape (n,) or (n, 1). Nothing
        in the file is unpickled.
    groups : str, default=None
        Name of a further array that says to which group, such as a patient, each image belongs:
        numbers or text, of shape (n,) or (n, 1). In a file with splits, the names of the arrays
        begin with ``train_``, ``val_`` and ``test_``, and the array of the test rows may be
        missing.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are listed in :mod:`skimbal.datasets`. Colour images have channels first,
        (n, 3, h, w). The classes are named by their numbers, or by the text of the labels, sorted.
        With `groups`, also ``groups_train``, ``groups_val`` and ``groups_test`` (None if it is not
        in the file), or ``groups``, of shape (n,).

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not an npz file, is damaged, lacks arrays, or holds arrays of another form,
        if a split is empty, or if a row has more than one label.

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
    ((4, 28, 28), array([0, 1, 0, 1]), ['benign', 'malignant'], array([7, 7, 8, 9]))
    """
    path = Path(path)
    splits, target_names, of_groups = read_splits(path, groups)
    return make_bunch(
        splits,
        name=path.stem,
        filename=str(path),
        target_names=target_names,
        source=str(path),
        license="not stated in the file",
        citation="not stated in the file",
        groups=of_groups,
    )


def read_splits(
    path: Path, groups: str | None = None
) -> tuple[Splits, list[str], dict[str, npt.NDArray[Any] | None]]:
    """Return images, channels first, and class numbers of each split, class names, and groups."""
    if not path.is_file():
        raise FileNotFoundError(f"path must be an npz file that exists; got {path}.")
    form, names, arrays = _read_arrays(path, groups)
    splits: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
    of_groups: dict[str, npt.NDArray[Any] | None] = {}
    for split, (images, labels) in form.items():
        try:
            X = _channels_first(arrays[images])
            splits[split] = X, _check_labels(arrays[labels], len(X))
            if groups is not None:
                name = _name_of_groups(groups, split)
                if name not in names and split != "test":
                    raise ParameterError(
                        "groups",
                        f"the name of an array of {path}, which holds {', '.join(names)}",
                        groups,
                        f"The groups of {split or 'all rows'} are read from {name!r}.",
                    )
                of_groups[split] = _check_groups(arrays[name], len(X)) if name in arrays else None
        except ParameterError:
            raise
        except ValueError as error:
            raise ValueError(f"{path}, {split or 'all rows'}: {error}") from None
    shapes = {split: X.shape[1:] for split, (X, _) in splits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{path}: images must have one shape in all splits; got {shapes}.")
    return *_number_classes(path, splits), of_groups


def _read_arrays(
    path: Path, groups: str | None
) -> tuple[_Form, list[str], dict[str, npt.NDArray[Any]]]:
    """Return the form of a file, the names of all its arrays, and the arrays that are needed."""
    with path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            raise ValueError(
                f"{path} must be an npz file, a zip archive of arrays; got something else, or a "
                "file that was cut short. Get it again, or write it with numpy.savez."
            )
        stream.seek(0)
        try:
            with np.load(stream, allow_pickle=False) as npz:
                names = list(npz.files)
                form = next((form for form in _FORMS if not _missing_arrays(form, names)), None)
                wanted = [name for pair in (form or {}).values() for name in pair]
                if groups is not None:
                    wanted += [_name_of_groups(groups, split) for split in form or {}]
                arrays = {name: np.asarray(npz[name]) for name in wanted if name in names}
        # More than ten types: zipfile, its codecs and numpy's header parser each raise their own.
        except Exception as error:
            raise ValueError(
                f"cannot read {path}, which is damaged or holds more than plain arrays. Get it "
                f"again, or write it with numpy.savez ({type(error).__name__}: {error})."
            ) from error
    if form is None:
        raise ValueError(_describe_missing(path, names))
    return form, names, arrays


def _describe_missing(path: Path, names: list[str]) -> str:
    """Say which arrays a file must hold."""
    missing = _missing_arrays(_SPLIT_FORM, names)
    keys = ", ".join(name for pair in _SPLIT_FORM.values() for name in pair)
    if len(missing) < 2 * len(SPLITS):
        return f"{path} must hold the arrays {keys}; got none for {', '.join(missing)}."
    return (
        f"{path} must hold the arrays images and labels, or X and y, or with splits {keys}; got "
        f"{', '.join(names) or 'no arrays'}."
    )


def _name_of_groups(groups: str, split: str) -> str:
    return f"{split}_{groups}" if split else groups


def _missing_arrays(form: _Form, names: list[str]) -> list[str]:
    return [name for pair in form.values() for name in pair if name not in names]


def _number_classes(
    path: Path, splits: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]
) -> tuple[Splits, list[str]]:
    """Return the splits with class numbers for labels, and the name of each class."""
    kinds = {y.dtype.kind == "U" for _, y in splits.values()}
    if len(kinds) > 1:
        raise ValueError(f"{path}: labels must be numbers or text in all splits; got both.")
    labels = np.concatenate([y for _, y in splits.values()])
    if kinds == {True}:
        known = np.unique(labels)
        numbered = {split: (X, np.searchsorted(known, y)) for split, (X, y) in splits.items()}
        return numbered, [str(name) for name in known]
    return splits, [str(k) for k in range(1 + int(labels.max()))]


def _check_groups(groups: npt.NDArray[Any], n_images: int) -> npt.NDArray[Any]:
    if groups.size != n_images or groups.shape not in ((n_images,), (n_images, 1)):
        raise ValueError(
            f"groups must have one entry for each of {n_images} images, shape ({n_images},); got "
            f"shape {groups.shape}."
        )
    if groups.dtype.kind not in "buifUS" or np.any(groups != groups):
        raise ValueError(
            f"groups must be numbers or text, with none missing; got {groups.dtype}"
            + (" with NaN." if groups.dtype.kind == "f" else ".")
        )
    return groups.reshape(-1)


def _channels_first(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if images.ndim not in (3, 4) or images.dtype.kind not in "buif":
        raise ValueError(
            "images must be numbers of shape (n, h, w), (n, h, w, 3) or (n, d, h, w); got "
            f"{images.dtype} of shape {images.shape}."
        )
    if images.size == 0:
        raise ValueError(f"every split must have at least one image; got shape {images.shape}.")
    # MedMNIST's form has channels last, so here they win over channels at the second place.
    if guess_axes(images.shape).channels_last:
        return np.ascontiguousarray(np.moveaxis(images, -1, 1))  # (n, c, h, w)
    return images


def _check_labels(labels: npt.NDArray[Any], n_images: int) -> npt.NDArray[Any]:
    """Return class numbers, int64, or class names, of shape (n,)."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            "labels must be one class number for each image, shape (n,) or (n, 1); got shape "
            f"{labels.shape}. Multi-label targets are not supported."
        )
    is_text = labels.dtype.kind == "U"
    is_number = labels.dtype.kind in "bui" and labels.min(initial=0) >= 0
    if labels.ndim not in (1, 2) or not (is_text or is_number):
        raise ValueError(
            "labels must be class numbers from 0 or text, of shape (n,) or (n, 1); got "
            f"{labels.dtype} of shape {labels.shape}."
        )
    if labels.size != n_images:
        raise ValueError(f"there must be a label for each of {n_images} images; got {labels.size}.")
    return labels.reshape(-1) if is_text else labels.reshape(-1).astype(np.int64)


def split_key(name: str, split: str) -> str:
    """Return the key of an array of a split, or of all rows for ""."""
    return f"{name}_{split}" if split else name


def make_bunch(
    splits: Splits,
    *,
    name: str,
    filename: str | None,
    target_names: list[str],
    source: str,
    license: str,
    citation: str,
    groups: Mapping[str, npt.NDArray[Any] | None] | None = None,
) -> Bunch:
    """Put splits and facts under the keys that all loaders return."""
    X = next(iter(splits.values()))[0]
    ndim = guess_axes(X.shape).n_spatial
    counts = {
        split or "all": np.bincount(y, minlength=len(target_names)).tolist()
        for split, (_, y) in splits.items()
    }

    return Bunch(
        **{split_key("X", split): X for split, (X, _) in splits.items()},
        **{split_key("y", split): y for split, (_, y) in splits.items()},
        **{split_key("groups", split): array for split, array in (groups or {}).items()},
        target_names=target_names,
        ndim=ndim,
        name=name,
        filename=filename,
        DESCR=f"{name}: {ndim}D images of shape {X.shape[1:]}, {X.dtype}\n"
        f"Classes: {target_names}\nImages of each class: {counts}\n"
        f"Source: {source}\nLicense: {license}\nCitation: {citation}\n",
        license=license,
        citation=citation,
    )
