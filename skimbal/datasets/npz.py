"""Image sets with a rare class: one embedded, MedMNIST's, and files of one's own.

Every loader returns a :class:`sklearn.utils.Bunch` with

- ``X_train``, ``X_val``, ``X_test``: images, channels first, in the number type of the source;
  (n, h, w) or (n, c, h, w) in 2D, (n, d, h, w) in 3D;
- ``y_train``, ``y_val``, ``y_test``: class numbers, int64, shape (n,);
- ``target_names``: list of str, the name of class k at index k;
- ``ndim``: number of spatial axes, 2 or 3;
- ``filename``: str, the file or folder that was read, or None for embedded data;
- ``name``, ``DESCR``, ``license``, ``citation``: str.

What has no splits gives ``X`` and ``y`` in the place of the six arrays.
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from skimbal.images import guess_axes

__all__ = ["SPLITS", "Splits", "load_npz", "make_bunch", "read_npz"]

SPLITS = ("train", "val", "test")
# Names of the images and the labels in a file: of each split, or of all rows.
_SPLIT_FORM = {split: (f"{split}_images", f"{split}_labels") for split in SPLITS}
_FORMS = (_SPLIT_FORM, {"": ("images", "labels")}, {"": ("X", "y")})
# Images, channels first, and class numbers of each split, "" for a file without splits.
Splits = dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]


def load_npz(path: str | os.PathLike[str], *, groups: str | None = None) -> Bunch:
    """Load a file of one's own: with MedMNIST's splits, or without any.

    Parameters
    ----------
    path : str or path-like
        An npz file with the arrays ``train_images``, ``train_labels``, ``val_images``,
        ``val_labels``, ``test_images`` and ``test_labels``, or without splits: ``images`` and
        ``labels``, or ``X`` and ``y``. Images are (n, h, w), (n, h, w, 1), (n, h, w, 3) or
        (n, d, h, w). Four axes are a volume unless the last one, or the second, has length 1 or 3
        and so counts channels.
        Labels are class numbers from 0, or class names as text, of shape (n,) or (n, 1). Nothing
        in it is unpickled.
    groups : str, default=None
        Name of a further array that says to which group, such as a patient, each image belongs:
        numbers or text, of shape (n,) or (n, 1). For a file with splits it is the part after
        ``train_``, ``val_`` and ``test_``; the test rows may lack theirs.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are those that :mod:`skimbal.datasets` lists. Colour images come out channels
        first, (n, 3, h, w); the classes are named by their numbers, or by the text of the labels,
        sorted. With `groups`, also ``groups_train``, ``groups_val`` and ``groups_test`` (None if
        the file has none), or ``groups``, of shape (n,).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no npz file, is damaged, lacks arrays, or holds arrays of another form;
        if a split is empty; if a row has more than one label.

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
    splits, target_names, of_groups = read_npz(path, groups)
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


def read_npz(
    path: Path, groups: str | None = None
) -> tuple[Splits, list[str], dict[str, npt.NDArray[Any] | None]]:
    """Return images, channels first, and class numbers of each split; class names; groups."""
    if not path.is_file():
        raise FileNotFoundError(f"expected an npz file at {path}, but there is no such file")
    with path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            raise ValueError(
                f"{path} is no npz file (a zip archive of arrays), or one that was cut short: "
                "get it again, or write it with numpy.savez"
            )
        stream.seek(0)
        try:
            with np.load(stream, allow_pickle=False) as npz:
                names = list(npz.files)
                form = next((form for form in _FORMS if not _missing(form, names)), None)
                wanted = [name for pair in (form or {}).values() for name in pair]
                if groups is not None:
                    wanted += [f"{split}_{groups}" if split else groups for split in form or {}]
                arrays = {name: np.asarray(npz[name]) for name in wanted if name in names}
        # Ten types and more: zipfile, its codecs and numpy's header parser each raise their own.
        except Exception as error:
            raise ValueError(
                f"cannot read {path}, which is damaged or holds more than plain arrays: get it "
                f"again, or write it with numpy.savez ({type(error).__name__}: {error})"
            ) from error
    if form is None:
        missing = _missing(_SPLIT_FORM, names)
        keys = ", ".join(name for pair in _SPLIT_FORM.values() for name in pair)
        raise ValueError(
            f"{path} must hold the arrays {keys}; missing: {', '.join(missing)}"
            if len(missing) < 2 * len(SPLITS)
            else f"{path} must hold the arrays images and labels, or X and y, or with splits "
            f"{keys}; it holds {', '.join(names) or 'none'}"
        )
    splits: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
    of_groups: dict[str, npt.NDArray[Any] | None] = {}
    for split, (images, labels) in form.items():
        try:
            X = _channels_first(arrays[images])
            splits[split] = X, _labels(arrays[labels], len(X))
            if groups is not None:
                name = f"{split}_{groups}" if split else groups
                if name not in names and split != "test":
                    raise ValueError(
                        f"expected the groups in an array {name!r}; the file holds "
                        f"{', '.join(names)}"
                    )
                of_groups[split] = _groups(arrays[name], len(X)) if name in names else None
        except ValueError as error:
            raise ValueError(f"{path}, {split or 'all rows'}: {error}") from None
    shapes = {split: X.shape[1:] for split, (X, _) in splits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{path}: expected images of one shape in all splits, got {shapes}")
    return *_numbered(path, splits), of_groups


def _missing(form: Mapping[str, tuple[str, str]], names: list[str]) -> list[str]:
    return [name for pair in form.values() for name in pair if name not in names]


def _numbered(
    path: Path, splits: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]
) -> tuple[Splits, list[str]]:
    """Return the splits with class numbers for labels, and the name of each class."""
    kinds = {y.dtype.kind == "U" for _, y in splits.values()}
    if len(kinds) > 1:
        raise ValueError(f"{path}: expected labels as numbers or as text in all splits, got both")
    labels = np.concatenate([y for _, y in splits.values()])
    if kinds == {True}:
        known = np.unique(labels)
        numbered = {split: (X, np.searchsorted(known, y)) for split, (X, y) in splits.items()}
        return numbered, [str(name) for name in known]
    return splits, [str(k) for k in range(1 + int(labels.max()))]


def _groups(groups: npt.NDArray[Any], n_images: int) -> npt.NDArray[Any]:
    if groups.size != n_images or groups.shape not in ((n_images,), (n_images, 1)):
        raise ValueError(
            f"expected groups as one entry for each of {n_images} images, shape ({n_images},), got "
            f"shape {groups.shape}"
        )
    if groups.dtype.kind not in "buifUS" or np.any(groups != groups):
        raise ValueError(
            f"expected groups as numbers or text, none of them missing, got {groups.dtype}"
            + (" with NaN" if groups.dtype.kind == "f" else "")
        )
    return groups.reshape(-1)


def _channels_first(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if images.ndim not in (3, 4) or images.dtype.kind not in "buif":
        raise ValueError(
            "expected images as numbers of shape (n, h, w), (n, h, w, 3) or (n, d, h, w), got "
            f"{images.dtype} of shape {images.shape}"
        )
    if images.size == 0:
        raise ValueError(f"expected at least one image in every split, got shape {images.shape}")
    # MedMNIST's form has channels last, so here they win over channels at the second place.
    if guess_axes(images.shape).channels_last:
        return np.ascontiguousarray(np.moveaxis(images, -1, 1))  # (n, c, h, w)
    return images


def _labels(labels: npt.NDArray[Any], n_images: int) -> npt.NDArray[Any]:
    """Return class numbers, int64, or class names, of shape (n,)."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"labels of shape {labels.shape} are multi-label, which is not supported: expected one "
            "class number for each image, shape (n,) or (n, 1)"
        )
    is_text = labels.dtype.kind == "U"
    is_number = labels.dtype.kind in "bui" and labels.min(initial=0) >= 0
    if labels.ndim not in (1, 2) or not (is_text or is_number):
        raise ValueError(
            "expected labels as class numbers from 0 or as text, shape (n,) or (n, 1), got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if labels.size != n_images:
        raise ValueError(f"expected as many labels as images, got {labels.size} and {n_images}")
    return labels.reshape(-1) if is_text else labels.reshape(-1).astype(np.int64)


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
    X = next(iter(splits.values()))[0]
    ndim = guess_axes(X.shape).n_spatial
    counts = {
        split or "all": np.bincount(y, minlength=len(target_names)).tolist()
        for split, (_, y) in splits.items()
    }

    def key(name: str, split: str) -> str:
        return f"{name}_{split}" if split else name

    return Bunch(
        **{key("X", split): X for split, (X, _) in splits.items()},
        **{key("y", split): y for split, (_, y) in splits.items()},
        **{key("groups", split): array for split, array in (groups or {}).items()},
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
