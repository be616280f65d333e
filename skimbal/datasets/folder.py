"""Folders of image files with their labels."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from sklearn.utils import Bunch

from skimbal.datasets.card import DataCard
from skimbal.datasets.labels import Missing
from skimbal.datasets.layout import Layout, list_folders, read_layout, refuse_deeper_splits
from skimbal.datasets.listing import FolderRow, Listing, Reasons, find_repeated
from skimbal.datasets.origin import Origin
from skimbal.datasets.splits import (
    SPLITS,
    SplitNames,
    check_classes_of_parts,
    check_split_names,
    shared_groups,
    split_key,
)
from skimbal.datasets.tables import TableForm, list_table
from skimbal.exceptions import ParameterError, warn_caller
from skimbal.habits import explains_names
from skimbal.images import ImageFiles, ImageOptions, find_images
from skimbal.images.folders import masks_among
from skimbal.images.formats import advice_on
from skimbal.typing import PathLike
from skimbal.wording import plural

__all__ = ["list_rows", "load_image_folder"]


@explains_names
def load_image_folder(
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
    min_classes: int = 2,
    on_error: str = "raise",
    **options: Unpack[ImageOptions],
) -> Bunch:
    """Load image files with their labels, from a folder for each class or from a table.

    The headers are read at once, and the images when a batch asks for them: ``X`` is an
    :class:`~skimbal.images.ImageFiles`. Labels are text as it stands there, so the ``classes_`` of
    a fitted classifier are the names of the classes.

    Parameters
    ----------
    root : str or path-like
        The folder. Without ``labels`` it holds a folder for each class, with its name. Folders of a
        split may lie above or below the folders of the classes, in their usual spellings: ``train``
        and ``test``, ``Training`` and ``Testing``, ``train``, ``valid`` and ``test``. A tree
        that might be a split and might be classes is refused. Links to folders are followed.
    labels : str or path-like, default=None
        A table with a row for each image: a csv file whose first row names the columns. Commas,
        semicolons, tabs or ``|`` separate the columns. A relative path starts at the current
        folder, not at ``root``.
    path_column, label_column : str, default="path", "label"
        Columns of the table: paths, relative to ``root`` or absolute, and labels. A relative path
        must not lead out of ``root``.
    group_column : str, default=None
        Column of groups, such as patients, whose images must not be in training and test both.
    split_column : str, default=None
        Column of the parts of a split, in their usual spellings, such as ``train``, ``val`` and
        ``test``.
    splits : dict, default=None
        Names of folders, or values of ``split_column``, mapped to ``"train"``, ``"val"`` or
        ``"test"``, or to None to leave them out. All names must be in it. ``{}`` says that every
        folder is a class. None reads the usual spellings.
    missing_values : collection of str, default=None
        Texts of the table that stand for a missing value, in any case. Empty text always does. None
        is the texts that pandas, R and Excel write, such as NA, NaN, None and NULL. If a class is
        called ``none``, pass ``[]``. Without a table, names of folders that stand for a missing
        label. With None, all folders are classes.
    encoding : str, default=None
        Encoding of the table, such as ``"cp1252"``. None is UTF-8. A mark of UTF-8, UTF-16 or
        UTF-32 at the beginning of the file counts more.
    min_classes : {1, 2}, default=2
        Fewest classes. 1 takes a folder of test images that are all of one class.
    on_error : {"raise", "skip"}, default="raise"
        Whether a file that cannot be used, an image without a label or a label without an image
        is an error, or is left out with a warning. ``"skip"`` reads every file once.
    **options : dict
        Parameters of :class:`~skimbal.images.ImageFiles`: ``size``, ``resize``, ``spacing``,
        ``channels``, ``channel_axis``, ``intensity``, ``dtype``, ``transform``, ``reader``,
        ``cache``, ``cache_bytes``, ``max_pixels``.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are listed in :mod:`skimbal.datasets`: without splits ``X``, an ImageFiles of
        shape (n, ...), and ``y``, ndarray of str of shape (n,), with splits ``X_train`` and
        ``y_train`` and so on for each part that has images. ``target_names`` lists the classes in
        the order of ``classes_`` of a fitted classifier, sorted as text, so ``"10"`` is before
        ``"2"``. With ``group_column`` also ``groups``, or ``groups_train`` and so on: ndarray of
        str of shape (n,). ``unused_groups`` lists columns that look like groups and are not used,
        if there are any. ``card`` is a :class:`DataCard`, the table of classes, in the order of
        their numbers if all are numbers. ``skipped`` maps each place that was left out, a file or
        a line of the table, to the reason.

    Raises
    ------
    FileNotFoundError
        If the folder, the table or an image does not exist.
    ValueError
        If a file cannot be read, an image has no label or two, a label is missing, a row has more
        or fewer fields than there are columns, the table lacks a column, folders or values look
        like a split that is not clear, a class of another part is not in train, or there are
        fewer than ``min_classes`` classes.
    ImportError
        If the library that reads a format is missing. The message names the package to install.

    Warns
    -----
    UserWarning
        If a column of the table that is not used looks like groups, if files or rows are skipped,
        if names of classes or groups are spelt nearly alike or may
        stand for a missing value (``-``, ``unknown`` or the code -9, unless ``missing_values`` is
        given), if a part has no image of a class, if absolute paths lead out of ``root``, if a
        split is not asked for, or if all folders of classes hold folders of the same names.

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
    (ImageFiles(shape=(4, 8, 8), dtype=uint8), array(['healthy', 'healthy', 'healthy', 'rare'],
          dtype='<U7'))
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
    if min_classes not in (1, 2):
        raise ParameterError("min_classes", "1 or 2", min_classes)
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"root must be a folder that exists; got {root}.")
    columns = {
        "path_column": path_column,
        "label_column": label_column,
        "group_column": group_column,
        "split_column": split_column,
    }
    of_rows: dict[str, Any] = {
        "splits": splits,
        "missing_values": missing_values,
        "encoding": encoding,
    }
    listing = list_rows(root, labels, columns, options.get("reader") is not None, **of_rows)
    _refuse_or_warn(listing.unusable, root, on_error)
    if not listing.rows:
        raise ValueError(f"{root} must hold images with labels; got none.")
    X = ImageFiles([row.path for row in listing.rows], on_error=on_error, **options)
    rows = [listing.rows[i] for i in X.kept]
    data, notes = _bunch_of_rows(
        X, rows, root, Missing(missing_values), min_classes, has_groups=group_column is not None
    )
    for note in (*listing.notes, *notes):
        warn_caller(f"{root}: {note}")
    data.skipped = {**listing.unusable, **X.skipped}
    if listing.unused_groups:
        data.unused_groups = list(listing.unused_groups)
    data.filename, data.name = str(root), root.resolve().name
    more = {**columns, **of_rows, "on_error": on_error, **_as_written(options, labels)}
    data.origin = Origin.of_call(load_image_folder, root=root, **more)
    if missing_values is not None:
        data.missing_values = missing_values
    data.license = data.citation = "not stated in the folder"
    data.DESCR = f"{data.name}: {data.card}\nSource: {root}\n"
    return data


def _as_written(options: ImageOptions, labels: PathLike | None) -> dict[str, object]:
    """Return the options that were given, with the dtype as text and files as paths."""
    written: dict[str, object] = dict(options)
    if labels is not None:
        written["labels"] = Path(labels)
    if options.get("dtype") is not None:
        written["dtype"] = np.dtype(options["dtype"]).name
    if options.get("cache") not in (None, "memory"):
        written["cache"] = Path(str(options["cache"]))
    return {name: value for name, value in written.items() if value is not None}


def list_rows(
    root: Path,
    labels: PathLike | None,
    columns: Mapping[str, str | None],
    any_file: bool,
    *,
    splits: SplitNames | None = None,
    missing_values: Collection[str] | None = None,
    encoding: str | None = None,
) -> Listing:
    """Return a row for each image with a label, the reasons against other files, and notes."""
    check_split_names(splits)
    missing = Missing(missing_values)
    if labels is not None:
        form = TableForm(columns, missing, splits, encoding)
        return list_table(root, Path(labels), form, any_file=any_file)
    of_tables = {**columns, "encoding": encoding}
    for name in ("group_column", "split_column", "encoding"):
        if of_tables[name] is not None:
            remedy = "It is about a table. Give the table as labels=."
            raise ParameterError(name, "None without a table", of_tables[name], remedy)
    return _list_folders(root, splits, missing, any_file)


def _refuse_or_warn(unusable: Reasons, root: Path, on_error: str) -> None:
    """Refuse files and rows that cannot be used, each with its reason, or warn of them."""
    if not unusable:
        return
    place, reason = next(iter(unusable.items()))
    if on_error == "raise":
        raise ValueError(
            f"{place}: {reason}. In all {len(unusable)} such in {root}. Mend them, or pass "
            "on_error='skip' to leave them out."
        )
    warn_caller(
        f"skipped {plural(len(unusable), 'file or row', 'files or rows')}, the first of them is "
        f"{place}: {reason}. The attribute skipped of the result lists them."
    )


def _table_in(folder: Path) -> Path | None:
    """Return the only table of a folder, which may hold its labels."""
    tables = [path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv")]
    return tables[0] if len(tables) == 1 else None


def _bunch_of_rows(
    X: ImageFiles,
    rows: list[FolderRow],
    root: Path,
    missing: Missing,
    min_classes: int,
    *,
    has_groups: bool,
) -> tuple[Bunch, list[str]]:
    """Put images, labels and groups under their keys, for each part of a split, with notes."""
    # In the order of np.unique and of the classes_ of a classifier. The card counts by number.
    target_names = sorted({row.label for row in rows})
    if len(target_names) < min_classes:
        inner = root / target_names[0]
        table = _table_in(root)
        hint = f" Pass {inner} if it holds the data." if inner.is_dir() else ""
        if hint and table is not None:
            hint = f" Pass {inner} with labels={str(table)!r}, if the table has the labels."
        raise ValueError(
            f"{root} must hold at least two classes; got {target_names[0]!r} alone.{hint}"
        )
    y = np.array([row.label for row in rows])
    groups = np.array([row.group for row in rows]) if has_groups else None
    # Keys end with the name of the part. Rows without a split are one part without a name.
    of_split = np.array([row.split or "" for row in rows])
    parts = {name: np.flatnonzero(of_split == name) for name in ("", *SPLITS) if name in of_split}
    notes = missing.notes(target_names, "classes")
    data = Bunch(target_names=target_names, classes=np.array(target_names), ndim=X.n_spatial)
    for name, part in parts.items():
        data[split_key("X", name)], data[split_key("y", name)] = X[part], y[part]
        if groups is not None:
            data[split_key("groups", name)] = groups[part]
    notes += check_classes_of_parts({name: y[part] for name, part in parts.items()}, str(root))
    if groups is not None:
        notes += missing.notes(groups.tolist(), "groups")
        by_part = {name or "all": groups[part] for name, part in parts.items()}
        notes += [text for text, _ in shared_groups({k: v.tolist() for k, v in by_part.items()})]
    data.card = DataCard.from_labels(
        {name or "all": y[part] for name, part in parts.items()},
        image_shape=X.shape[1:],
        dtype=str(X.dtype),
        groups=None if groups is None else by_part,
    )
    return data, notes


def _list_folders(
    root: Path, splits: SplitNames | None, missing: Missing, any_file: bool
) -> Listing:
    """Return the images in the folders of classes, and the reasons against others."""
    layout = read_layout(root, splits)
    depth = layout.depth
    # A DICOM file in the folder of a class is an image, and a folder of them is a series.
    images, others = find_images(root, series_level=depth + 1, any_file=any_file)
    if splits is None:
        refuse_deeper_splits(root, images, layout)
    rows: list[FolderRow] = []
    unusable: Reasons = {}
    for name in images:
        path, parts = str(root / name), Path(name).parts
        if len(parts) <= depth:
            unusable[path] = "an image without a label, as it lies in no class's folder"
        elif (read := layout.read(parts)) is None:
            continue
        elif missing.is_stated and read[0] in missing:
            reason = f"an image without a label, as {read[0]!r} stands for a missing value"
            unusable[path] = reason
        else:
            rows.append(FolderRow(path, read[0], None, read[1], path))
    masks = masks_among(images)
    for name, picture in masks.items():
        unusable[str(root / name)] = (
            f"a file that is called the mask of {picture} beside it. If it is an image, list it in "
            "a table, labels="
        )
    rows = [row for row in rows if row.path not in unusable]
    for name in others:
        if os.path.islink(root / name) and not os.path.exists(root / name):
            unusable[str(root / name)] = "a link that leads nowhere"
        elif len(Path(name).parts) > depth:  # notes may lie beside the folders of the classes
            advice = advice_on(name)
            unusable[str(root / name)] = "a file that is not an image, by its extension" + (
                f". {advice}" if advice else ""
            )
    unusable |= _empty_folders(root, layout, {*images, *others})
    repeated = find_repeated(rows)
    rows = [row for row in rows if row.place not in repeated]
    return Listing(rows, {**unusable, **repeated}, list(layout.notes))


def _empty_folders(root: Path, layout: Layout, names: set[str]) -> Reasons:
    """Return the folders of classes and of a split in which no file was found."""
    filled = {str(parent) for name in names for parent in (Path(name), *Path(name).parents)}
    reasons: Reasons = {}
    folders = [Path(name) for name in list_folders(root)]
    for level in range(layout.depth):
        kind = "part" if level == layout.split_level else "class"
        for folder in folders:
            if str(folder) not in filled:
                is_link = os.path.islink(root / folder)
                of_link = f", a link to {os.path.realpath(root / folder)}" if is_link else ""
                reasons[str(root / folder)] = f"the folder of a {kind} without an image{of_link}"
        folders = [f / name for f in folders for name in list_folders(root / f)]
    return reasons
