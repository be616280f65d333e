"""Image files with their labels, as folders or a table list them."""

import os
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["FolderRow", "Listing", "Reasons", "file_identity", "find_repeated"]

#: Places, such as a file or a line of a table, each with the reason against using it.
Reasons: TypeAlias = dict[str, str]


class FolderRow(NamedTuple):
    """An image file with its label and, where a table states them, its group and split.

    ``place`` tells an error where the image is listed.
    """

    path: str
    label: str
    group: str | None
    split: str | None
    place: str = ""


class Listing(NamedTuple):
    """The images that can be used, the reasons against others, and notes for the user.

    ``unused_groups`` are columns of the table that look like groups and are not asked for.
    """

    rows: list[FolderRow]
    unusable: Reasons
    notes: list[str]
    unused_groups: Sequence[str] = ()


def file_identity(path: str) -> object:
    """Return a value that all names of one file or folder share."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):  # such as a name for a reader of the user
        return os.path.normcase(os.path.normpath(path))
    if facts.st_ino:
        return facts.st_dev, facts.st_ino
    return os.path.normcase(os.path.realpath(path))


def find_repeated(rows: list[FolderRow]) -> Reasons:
    """Return the reasons against images that are listed more than once, under any name."""
    of_file: dict[object, list[FolderRow]] = {}
    for row in rows:
        of_file.setdefault(file_identity(row.path), []).append(row)
    reasons: Reasons = {}
    for same in of_file.values():
        agree = len({(row.label, row.group, row.split) for row in same}) == 1
        for row in same if len(same) > 1 else ():
            other = same[1] if row is same[0] else same[0]
            name = "" if row.place == row.path else f"{row.path} is "
            reason = f"{name}the same file as in {other.place}"
            if not agree:
                reasons[row.place] = f"{reason}, which has another label, group or split"
            elif row is not same[0]:
                reasons[row.place] = reason
    return reasons
