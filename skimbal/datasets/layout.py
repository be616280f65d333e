"""The levels of a folder tree: folders of classes, and of a split above or below them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple

from skimbal.datasets.labels import listed
from skimbal.datasets.splits import SplitNames, guessed_part, near_names, read_split_names
from skimbal.exceptions import ParameterError
from skimbal.images.formats import is_system_name

__all__ = ["Layout", "list_folders", "read_layout", "refuse_deeper_splits"]

#: Names of folders that tell kinds of files apart, in small letters.
_KINDS_OF_FILES = {"images", "image", "imgs", "img", "data", "masks", "mask", "labels", "label"}
_KINDS_OF_FILES |= {"annotations", "annotation", "segmentations", "segmentation", "groundtruth"}
_KINDS_OF_FILES |= {"gt", "gts", "seg", "segs", "roi", "rois", "json", "xml", "txt"}
_ALL_ARE_CLASSES = "If all of these folders are classes, pass splits={}."


class Layout(NamedTuple):
    """The levels of a folder tree.

    ``split_level`` is 0 where folders of a split hold the folders of classes, 1 where they lie in
    them, and None without a split. ``parts`` maps the names of folders to parts, or to None where
    a folder is left out. ``notes`` are doubts for the user.
    """

    split_level: int | None
    parts: SplitNames
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Number of levels of folders above the images."""
        return 1 if self.split_level is None else 2

    def read(self, folders: tuple[str, ...]) -> tuple[str, str | None] | None:
        """Return the class and the part of the folders above an image, or None to leave it out."""
        if self.split_level is None:
            return folders[0], None
        part = self.parts.get(folders[self.split_level])
        return None if part is None else (folders[1 - self.split_level], part)


def list_folders(where: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without names that begin with a dot."""
    return sorted(p.name for p in where.iterdir() if p.is_dir() and not is_system_name(p.name))


def read_layout(root: Path, splits: SplitNames | None) -> Layout:
    """Tell folders of classes from folders of a split, or refuse a tree that might be either."""
    below = {name: list_folders(root / name) for name in list_folders(root)}
    if splits is not None:
        return _given_layout(root, below, splits)
    top = read_split_names(below)
    if top.parts or top.doubtful:
        _refuse_unclear(root, below, top.parts)
        if not any(below.values()):
            raise ValueError(
                f"{root} must hold folders of classes; got {listed(below)}, which look like a "
                "split and hold no folders. Give the classes in a table, labels=, or make a folder "
                f"for each class in them. {_ALL_ARE_CLASSES}"
            )
        return Layout(0, top.parts)
    _refuse_kinds_of_files(root, below)
    inner = {name: read_split_names(names) for name, names in below.items()}
    if not any(found.parts or found.doubtful for found in inner.values()):
        return Layout(None, {}, _notes_on_equal_folders(below))
    if len(below) == 1:
        (name,) = below
        raise ValueError(
            f"{root} must hold folders of classes; got {name!r} alone, whose folders look like a "
            f"split. Pass {root / name} in place of {root}."
        )
    for name, found in inner.items():
        _refuse_unclear(root / name, below[name], found.parts)
    _refuse_classes_below(root, below)
    return Layout(1, {name: part for found in inner.values() for name, part in found.parts.items()})


def refuse_deeper_splits(root: Path, names: Iterable[str], layout: Layout) -> None:
    """Refuse images in folders that look like a split below the folders of the split."""
    seen: dict[PurePath, set[str]] = {}
    for name in names:
        parts = PurePath(name).parts
        for level in range(2 if layout.split_level == 1 else 1, len(parts)):
            seen.setdefault(PurePath(*parts[:level]), set()).add(parts[level])
    for where, siblings in seen.items():
        found = read_split_names(siblings)
        if found.parts or found.doubtful:
            # Files may be called train-001.png, and a folder may be one image.
            found = read_split_names([n for n in siblings if (root / where / n).is_dir()])
        if found.parts or found.doubtful:
            shown = listed([*found.parts, *found.doubtful])
            raise ValueError(
                f"{root / where} must hold images of a class; got {shown}, which look like a "
                f"split. Pass {root / where} if it holds the data, move the folders of the split "
                f"to the top, or list the images in a table, labels=. {_ALL_ARE_CLASSES}"
            )


def _given_layout(root: Path, below: Mapping[str, list[str]], splits: SplitNames) -> Layout:
    """Return the layout in which the folders that the user names are a split."""
    if not splits:
        return Layout(None, {})
    inner = {name for names in below.values() for name in names}
    level, known = (0, set(below)) if set(splits) & set(below) else (1, inner)
    strange, unnamed = sorted(set(splits) - known), sorted(known - set(splits))
    if strange:
        raise ParameterError(
            "splits",
            f"names of folders of {root}, which holds {listed(sorted(below))}",
            strange,
            near_names(strange[0], below).strip(),
        )
    if unnamed:
        raise ParameterError(
            "splits",
            f"the names of all folders beside {listed(sorted(splits))}",
            dict(splits),
            f"{listed(unnamed)} are not named. Map folders to None to leave them out.",
        )
    return Layout(level, splits)


def _refuse_unclear(where: Path, names: Iterable[str], parts: Mapping[str, str]) -> None:
    """Refuse folders of which some are a split, and others are not or are the same part."""
    strange = [name for name in names if name not in parts]
    twice = [part for part, count in Counter(parts.values()).items() if count > 1]
    example = {**parts, **{name: guessed_part(name) for name in strange}}
    if strange and parts:
        got = f"{listed(parts)}, named like parts of a split, beside {listed(strange)}"
    elif strange:
        got = f"{listed(strange)}, which look like a split of unknown parts"
    elif twice:
        same = [name for name, part in parts.items() if part == twice[0]]
        got = f"{listed(same)}, which all mean {twice[0]}"
    else:
        return
    raise ValueError(
        f"{where} must hold folders of classes alone, or a folder for each of train, val and test; "
        f"got {got}. Say which part each folder is, with None for a folder to leave out: "
        f"splits={example!r}. {_ALL_ARE_CLASSES}"
    )


def _refuse_kinds_of_files(root: Path, below: Mapping[str, list[str]]) -> None:
    """Refuse folders such as images and masks, which are not classes."""
    for name, inner in below.items():
        if _are_kinds_of_files(inner):
            raise ValueError(
                f"{root / name} must hold images of a class; got {listed(inner)}, which look like "
                "kinds of files. Move the others elsewhere, or list the images in a table, "
                f"labels=. {_ALL_ARE_CLASSES}"
            )
    if _are_kinds_of_files(below):
        raise ValueError(
            f"{root} must hold folders of classes; got {listed(below)}, which look like kinds of "
            "files. Pass the folder of the images, and the classes in a table, labels=. "
            f"{_ALL_ARE_CLASSES}"
        )


def _are_kinds_of_files(names: Collection[str]) -> bool:
    kinds = {"".join(c for c in name.casefold() if c.isalpha()) for name in names}
    return len(names) > 1 and kinds <= _KINDS_OF_FILES


def _notes_on_equal_folders(below: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Return a note if most folders in all folders have common names, as in parts of a split."""
    sets = [set(names) for names in below.values()]
    common = sorted(set.intersection(*sets)) if len(sets) > 1 else []
    if len(common) < 2 or 2 * len(common) < len(set.union(*sets)):
        return ()
    return (
        f"{listed(below)} are taken for classes, and all of them hold folders of the same names, "
        f"{listed(common)}. If these are the classes, pass the part of each folder, such as "
        f"splits={{{next(iter(below))!r}: 'train', ...}}. {_ALL_ARE_CLASSES}",
    )


def _refuse_classes_below(root: Path, below: Mapping[str, list[str]]) -> None:
    """Refuse folders of a split, below the top, that hold the same folders, such as classes."""
    of_name: dict[str, str] = {}
    for top, names in below.items():
        for deeper in {d for name in names for d in list_folders(root / top / name)}:
            other = of_name.setdefault(deeper, top)
            if other != top:
                raise ValueError(
                    f"{root} must hold folders of classes, or of a split; got {other!r} and "
                    f"{top!r}, whose folders look like a split and hold {deeper!r} both. If "
                    f"{deeper!r} is a class, move the folders of the split to the top, or list "
                    "the images in a table, labels=."
                )
