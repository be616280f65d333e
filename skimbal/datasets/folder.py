"""Folders of image files with their labels."""

import csv
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Unpack

import numpy as np
from sklearn.utils import Bunch

from skimbal.datasets.card import DataCard
from skimbal.datasets.npz import SPLITS, split_key
from skimbal.exceptions import ParameterError
from skimbal.images import ImageFiles, ImageOptions, find_images
from skimbal.typing import PathLike

__all__ = ["FolderRow", "list_rows", "load_image_folder"]


class FolderRow(NamedTuple):
    """An image file with its label and, where a table states them, its group and split."""

    path: str
    label: str
    group: str | None
    split: str | None


def load_image_folder(
    root: PathLike,
    *,
    labels: PathLike | None = None,
    path_column: str = "path",
    label_column: str = "label",
    group_column: str | None = None,
    split_column: str | None = None,
    on_error: str = "raise",
    **options: Unpack[ImageOptions],
) -> Bunch:
    """Load image files with their labels, from a folder for each class or from a table.

    The headers are read at once, and the images when a batch asks for them: ``X`` is an
    :class:`~skimbal.images.ImageFiles`.

    Parameters
    ----------
    root : str or path-like
        The folder. Without ``labels`` it holds a folder for each class, with its name, or folders
        ``train`` and ``test``, with or without ``val``, that hold a folder for each class.
    labels : str or path-like, default=None
        A table with a row for each image: a csv file in UTF-8 whose first row names the columns.
    path_column, label_column : str, default="path", "label"
        Columns of the table: paths, relative to ``root`` or absolute, and labels.
    group_column : str, default=None
        Column of groups, such as patients, whose images must not be in training and test both.
    split_column : str, default=None
        Column of the parts of a split, such as ``train``, ``val`` and ``test``.
    on_error : {"raise", "skip"}, default="raise"
        Whether a file that cannot be used, an image without a label or a label without an image
        is an error, or is left out with a warning. ``"skip"`` reads every file once.
    **options : dict
        Parameters of :class:`~skimbal.images.ImageFiles`: ``size``, ``resize``, ``spacing``,
        ``channels``, ``dtype``, ``transform``, ``reader``, ``cache``, ``cache_bytes``.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are listed in :mod:`skimbal.datasets`: without splits ``X``, an ImageFiles of
        shape (n, ...), and ``y``, with splits ``X_train`` and ``y_train`` and so on for each part
        that has images. With ``group_column`` also ``groups``, or ``groups_train`` and so
        on: ndarray of str of shape (n,). ``card`` is a :class:`DataCard`, the table of classes.

    Raises
    ------
    FileNotFoundError
        If the folder, the table or an image does not exist.
    ValueError
        If a file cannot be read, an image has no label or a label is empty, an image is listed
        twice, the table lacks a column, or there are fewer than two classes.
    ImportError
        If the library that reads a format is missing: ``pip install "skimbal[io]"``.

    Warns
    -----
    UserWarning
        If files or rows are skipped, with their number.

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
        raise ParameterError("on_error", "'raise' or 'skip'", on_error)
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"root must be a folder that exists; got {root}.")
    columns = {
        "path_column": path_column,
        "label_column": label_column,
        "group_column": group_column,
        "split_column": split_column,
    }
    any_file = options.get("reader") is not None
    rows, unusable = list_rows(root, labels, columns, any_file)
    _refuse_or_warn(unusable, root, on_error)
    if not rows:
        raise ValueError(f"{root} must hold images with labels; got none.")
    X = ImageFiles([row.path for row in rows], on_error=on_error, **options)
    data = _bunch_of_rows(X, [rows[i] for i in X.kept], root, has_groups=group_column is not None)
    data.filename, data.name = str(root), root.resolve().name
    data.license = data.citation = "not stated in the folder"
    data.DESCR = f"{data.name}: {data.card}\nSource: {root}\n"
    return data


def list_rows(
    root: Path, labels: PathLike | None, columns: Mapping[str, str | None], any_file: bool
) -> tuple[list[FolderRow], dict[str, str]]:
    """Return a row for each image with a label, and the reasons against other files and rows."""
    if labels is not None:
        return _rows_of_table(root, Path(labels), columns, any_file)
    for name in ("group_column", "split_column"):
        if columns[name] is not None:
            remedy = "It names a column of a table. Give the table as labels=."
            raise ParameterError(name, "None without a table", columns[name], remedy)
    return _rows_of_folders(root, any_file)


def _refuse_or_warn(unusable: Mapping[str, str], root: Path, on_error: str) -> None:
    """Refuse files and rows that cannot be used, each with its reason, or warn of them."""
    if not unusable:
        return
    place, reason = next(iter(unusable.items()))
    if on_error == "raise":
        raise ValueError(
            f"{place}: {reason}. In all {len(unusable)} such in {root}. Mend them, or pass "
            "on_error='skip' to leave them out."
        )
    warnings.warn(
        f"skipped {len(unusable)} files or rows, the first of them is {place}: {reason}.",
        UserWarning,
        stacklevel=3,
    )


def _bunch_of_rows(X: ImageFiles, rows: list[FolderRow], root: Path, has_groups: bool) -> Bunch:
    """Put images, class numbers and groups under their keys, for each part of a split."""
    names = {row.label for row in rows}
    target_names = sorted(names, key=_sort_key(names))
    if len(target_names) < 2:
        raise ValueError(f"{root} must hold at least two classes; got {target_names[0]!r} alone.")
    y = np.array([target_names.index(row.label) for row in rows], dtype=np.int64)
    groups = np.array([row.group for row in rows]) if has_groups else None
    # Keys end with the name of the part. Rows without a split are one part without a name.
    of_split = np.array([row.split or "" for row in rows])
    parts = {name: np.flatnonzero(of_split == name) for name in dict.fromkeys(of_split.tolist())}
    data = Bunch(target_names=target_names, ndim=X.n_spatial)
    for name, part in parts.items():
        data[split_key("X", name)], data[split_key("y", name)] = X[part], y[part]
        if groups is not None:
            data[split_key("groups", name)] = groups[part]
    data.card = DataCard.from_labels(
        {name or "all": y[part] for name, part in parts.items()},
        image_shape=X.shape[1:],
        dtype=str(X.dtype),
        groups=None
        if groups is None
        else {name or "all": groups[part] for name, part in parts.items()},
        class_names=target_names,
    )
    return data


def _sort_key(names: set[str]) -> Callable[[str], int | str]:
    """Return a key that sorts labels as numbers if all are whole numbers, and else as text."""
    return int if all(name.isdecimal() for name in names) else str


def _rows_of_folders(root: Path, any_file: bool) -> tuple[list[FolderRow], dict[str, str]]:
    """Return a row for each image in the folders of classes, and the reasons against others."""
    top = _list_folders(root)
    # Folders of splits are not classes.
    has_splits = {"train", "test"} <= set(top) <= set(SPLITS)
    depth = 2 if has_splits else 1
    # A DICOM file in the folder of a class is an image, and a folder of them is a series.
    images, others = find_images(root, series_level=depth + 1, any_file=any_file)
    rows: list[FolderRow] = []
    unusable: dict[str, str] = {}
    for name in images:
        parts = Path(name).parts
        if len(parts) <= depth:
            unusable[str(root / name)] = "an image without a label, as it lies in no class's folder"
        else:
            split = parts[0] if has_splits else None
            rows.append(FolderRow(str(root / name), parts[depth - 1], None, split))
    for name in others:
        if len(Path(name).parts) > depth:  # notes may lie beside the folders of the classes
            unusable[str(root / name)] = "a file that is not an image, by its extension"
    for where in [root / split for split in top] if has_splits else [root]:
        for label in _list_folders(where):
            parent = os.path.relpath(where / label, root) + os.sep
            if not any(name.startswith(parent) for name in (*images, *others)):
                unusable[str(where / label)] = "the folder of a class without an image"
    return rows, unusable


def _list_folders(where: Path) -> list[str]:
    return sorted(p.name for p in where.iterdir() if p.is_dir() and not p.name.startswith("."))


def _rows_of_table(
    root: Path, table: Path, columns: Mapping[str, str | None], any_file: bool
) -> tuple[list[FolderRow], dict[str, str]]:
    """Return a row for each image of a table, and the reasons against other rows and images."""
    rows: list[FolderRow] = []
    unusable: dict[str, str] = {}
    for line, entry in _read_table(table, columns):
        values = [
            None if column is None else (entry[column] or "").strip() for column in columns.values()
        ]
        empty = [
            column for column, value in zip(columns.values(), values, strict=True) if value == ""
        ]
        path = os.path.normpath(root / str(values[0]))
        if empty:
            unusable[f"{table}, line {line}"] = f"the column {empty[0]!r} is empty"
        elif not any_file and not os.path.lexists(path):
            reason = f"a label without an image, as {path} does not exist"
            unusable[f"{table}, line {line}"] = reason
        else:
            rows.append(FolderRow(path, str(values[1]), values[2], values[3]))
    twice = [path for path, count in Counter(row.path for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{table} must have one row for each image; got several for {twice[0]}.")
    if not any_file:
        listed = {row.path for row in rows}
        for name in find_images(root, series_level=None)[0]:
            path = os.path.normpath(root / name)
            if not listed & {path, *map(str, Path(path).parents)}:
                unusable[path] = f"an image without a label, as {table} does not list it"
    return rows, unusable


def _read_table(
    table: Path, columns: Mapping[str, str | None]
) -> list[tuple[int, dict[str, str | None]]]:
    """Return the rows of a csv file with their line numbers, and check the names of columns."""
    if not table.is_file():
        raise FileNotFoundError(f"labels must be a csv file that exists; got {table}.")
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            entries = [(reader.line_num, dict(entry)) for entry in reader]
            known = list(reader.fieldnames or [])
    except (csv.Error, UnicodeDecodeError) as error:
        remedy = f"It cannot be read: {error}."
        raise ParameterError("labels", "a csv file in UTF-8", str(table), remedy) from error
    for parameter, name in columns.items():
        if name is not None and name not in known:
            shown = ", ".join(map(repr, known)) or "no columns"
            raise ParameterError(parameter, f"a column of {table}, which has {shown}", name)
    return entries
