"""Folders of image files with their labels."""

import csv
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import Bunch

from skimbal.datasets.card import DataCard
from skimbal.datasets.npz import SPLITS
from skimbal.images import ImageFiles, find_images

__all__ = ["load_image_folder"]


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    path_column: str = "path",
    label_column: str = "label",
    group_column: str | None = None,
    split_column: str | None = None,
    on_error: str = "raise",
    **options: Any,
) -> Bunch:
    """Load image files with their labels, from a folder for each class or from a table.

    Headers are read here, images when a batch asks for them: ``X`` is an
    :class:`~skimbal.images.ImageFiles`.

    Parameters
    ----------
    root : str or path-like
        The folder. Without ``labels`` it holds a folder for each class, named by it; or folders
        ``train`` and ``test``, with or without ``val``, that do.
    labels : str or path-like, default=None
        A table with a row for each image: a csv file in UTF-8 whose first row names the columns.
    path_column, label_column : str, default="path", "label"
        Its columns of paths, relative to ``root`` or absolute, and of labels.
    group_column : str, default=None
        Its column of groups, such as patients, whose images must not be in training and test both.
    split_column : str, default=None
        Its column of the parts of a split, such as ``train``, ``val`` and ``test``.
    on_error : {"raise", "skip"}, default="raise"
        Whether a file that cannot be used, an image without a label or a label without an image
        is an error, or is left out with a warning. ``"skip"`` reads every file once.
    **options : dict
        Of :class:`~skimbal.images.ImageFiles`: ``size``, ``resize``, ``spacing``, ``channels``,
        ``dtype``, ``transform``, ``reader``, ``cache``, ``cache_bytes``.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are those that :mod:`skimbal.datasets` lists: without splits ``X``, an ImageFiles
        of shape (n, ...), and ``y``, with splits ``X_train`` and ``y_train`` and so on for each
        part that has images. With ``group_column`` also ``groups``, or ``groups_train`` and so
        on: ndarray of str of shape (n,). ``card`` is a :class:`DataCard`, the table of classes.

    Raises
    ------
    FileNotFoundError
        If the folder, the table or an image is not there.
    ValueError
        If a file cannot be read, an image has no label or a label is empty, an image is listed
        twice, the table lacks a column, or there are fewer than two classes.
    ImportError
        If the library that reads a format is missing: ``pip install "skimbal[io]"``.

    Warns
    -----
    UserWarning
        If something is skipped; with its number.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skimbal.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("healthy/1", "healthy/2", "healthy/3", "rare/4"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         np.save(Path(folder, name), np.zeros((8, 8), dtype=np.uint8))
    ...     data = load_image_folder(folder)
    >>> data.X, data.y
    (ImageFiles(shape=(4, 8, 8), dtype=uint8), array([0, 0, 0, 1]))
    >>> print(data.card)
    images of shape (8, 8), uint8
    class    all
    healthy  3 (75 %)
    rare     1 (25 %)
    all      4
    largest to smallest class  3.0 : 1
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"expected a folder at {root}, but there is none.")
    any_file = options.get("reader") is not None
    if labels is None:
        if group_column is not None or split_column is not None:
            raise ValueError(
                "group_column and split_column name columns of a table; pass it as labels=."
            )
        rows, unusable = _rows_of_folders(root, any_file)
    else:
        columns = (path_column, label_column, group_column, split_column)
        rows, unusable = _rows_of_table(root, Path(labels), columns, any_file)
    if unusable:
        first = next(iter(unusable.items()))
        if on_error == "raise":
            raise ValueError(
                f"{first[0]}: {first[1]}. In all {len(unusable)} such in {root}; mend them, or "
                "pass on_error='skip' to leave them out."
            )
        warnings.warn(
            f"skipped {len(unusable)} files or rows, the first of them is {first[0]}: {first[1]}.",
            UserWarning,
            stacklevel=2,
        )
    if not rows:
        raise ValueError(f"there are no images in {root}, or none with a label.")
    X = ImageFiles([row.path for row in rows], on_error=on_error, **options)
    rows = [rows[i] for i in X.kept]
    names = {row.label for row in rows}
    target_names = sorted(names, key=_order_of(names))
    if len(target_names) < 2:
        raise ValueError(f"{root} has one class, {target_names[0]!r}; at least two are needed.")
    y = np.array([target_names.index(row.label) for row in rows], dtype=np.int64)
    # The key of a part ends with its name; what has no parts is one without a name.
    of_split = np.array([row.split or "" for row in rows])
    parts = {name: np.flatnonzero(of_split == name) for name in dict.fromkeys(of_split.tolist())}
    data = Bunch(target_names=target_names, ndim=X.n_spatial, filename=str(root))
    groups = None if group_column is None else np.array([row.group for row in rows])
    for name, part in parts.items():
        end = f"_{name}" if name else ""
        data[f"X{end}"], data[f"y{end}"] = X[part], y[part]
        if groups is not None:
            data[f"groups{end}"] = groups[part]
    data.card = DataCard.from_labels(
        {name or "all": y[part] for name, part in parts.items()},
        image_shape=X.shape[1:],
        dtype=str(X.dtype),
        groups=groups
        if groups is None
        else {name or "all": groups[part] for name, part in parts.items()},
        class_names=target_names,
    )
    data.name = root.resolve().name
    data.license = data.citation = "not stated in the folder"
    data.DESCR = f"{data.name}: {data.card}\nSource: {root}\n"
    return data


class _Row(NamedTuple):
    """An image file and what is known about it."""

    path: str
    label: str
    group: str | None
    split: str | None


def _rows_of_folders(root: Path, any_file: bool) -> tuple[list[_Row], dict[str, str]]:
    """Return a row for each image in the folders of classes, and what belongs to none."""
    top = _folders(root)
    # Splits that come as folders are no classes.
    has_splits = {"train", "test"} <= set(top) <= set(SPLITS)
    depth = 2 if has_splits else 1
    # DICOM files that lie in the folder of a class are an image each, folders of them a series.
    images, others = find_images(root, series_level=depth + 1, any_file=any_file)
    rows: list[_Row] = []
    unusable: dict[str, str] = {}
    for name in images:
        parts = Path(name).parts
        if len(parts) <= depth:
            unusable[str(root / name)] = "an image without a label, as it lies in no class's folder"
        else:
            split = parts[0] if has_splits else None
            rows.append(_Row(str(root / name), parts[depth - 1], None, split))
    for name in others:
        if len(Path(name).parts) > depth:  # notes may lie beside the folders of the classes
            unusable[str(root / name)] = "a file that is no image, by its extension"
    for where in [root / split for split in top] if has_splits else [root]:
        for label in _folders(where):
            parent = os.path.relpath(where / label, root) + os.sep
            if not any(name.startswith(parent) for name in (*images, *others)):
                unusable[str(where / label)] = "the folder of a class without an image"
    return rows, unusable


def _folders(where: Path) -> list[str]:
    return sorted(p.name for p in where.iterdir() if p.is_dir() and not p.name.startswith("."))


def _rows_of_table(
    root: Path, table: Path, columns: tuple[str | None, ...], any_file: bool
) -> tuple[list[_Row], dict[str, str]]:
    """Return a row for each image of a table, and what lacks an image or a label."""
    if not table.is_file():
        raise FileNotFoundError(f"expected a csv file at {table}, but there is none.")
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            entries = [(reader.line_num, entry) for entry in reader]
            known = reader.fieldnames or []
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {table} as a csv file in UTF-8: {error}.") from error
    missing = [name for name in columns if name is not None and name not in known]
    if missing:
        raise ValueError(
            f"{table} has no column {missing[0]!r}; its columns are {', '.join(map(repr, known))}. "
            "Name the right ones with path_column, label_column, group_column and split_column."
        )
    rows: list[_Row] = []
    unusable: dict[str, str] = {}
    for line, entry in entries:
        name, label, group, split = (
            None if column is None else (entry[column] or "").strip() for column in columns
        )
        empty = [
            c for c, value in zip(columns, (name, label, group, split), strict=True) if value == ""
        ]
        path = os.path.normpath(root / str(name))
        if empty:
            unusable[f"{table}, line {line}"] = f"the column {empty[0]!r} is empty"
        elif not any_file and not os.path.lexists(path):
            unusable[f"{table}, line {line}"] = f"a label without an image, as {path} is not there"
        else:
            rows.append(_Row(path, str(label), group, split))
    twice = [path for path, count in Counter(row.path for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{table} lists {twice[0]} more than once; an image has one row.")
    if not any_file:
        listed = {row.path for row in rows}
        for name in find_images(root, series_level=None)[0]:
            path = os.path.normpath(root / name)
            if not listed & {path, *map(str, Path(path).parents)}:
                unusable[path] = f"an image without a label, as {table} does not list it"
    return rows, unusable


def _order_of(names: set[str]) -> Any:
    """Return a key that sorts labels that are all whole numbers as numbers, others as text."""
    return int if all(name.isdecimal() for name in names) else str
