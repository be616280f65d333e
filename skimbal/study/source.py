"""The data set that the rows of a study come from."""

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import Bunch

from skimbal.datasets import Origin
from skimbal.datasets.bunch import join_parts, with_class_names
from skimbal.datasets.splits import SPLITS, split_key
from skimbal.exceptions import ParameterError
from skimbal.images import ImageFiles
from skimbal.study.plan import StudyData

__all__ = ["Source", "UnseenPart", "are_mixed", "find_source"]


class UnseenPart(NamedTuple):
    """A part of a data set that a study has not seen.

    Parameters
    ----------
    name : str
        One of ``SPLITS``.
    n_rows : int
        Number of its rows.
    has_groups : bool
        Whether its groups are known.
    has_mixed_groups : bool
        Whether a group has rows of several classes.
    n_shared : int
        Number of its groups that have rows in the study, too.
    """

    name: str
    n_rows: int
    has_groups: bool
    has_mixed_groups: bool
    n_shared: int


@dataclass(frozen=True)
class Source:
    """The data set of a study, and which of its parts the study has seen.

    Parameters
    ----------
    origin : Origin
        The call that loads it.
    parts : tuple of str
        Parts whose rows the fits of the study had, in their order. ``("",)`` is a data set without
        parts. Empty for :class:`~skimbal.images.ImageFiles` that no loader made.
    unseen : tuple of UnseenPart
        Parts that the study has not seen, test first.
    has_files : bool
        Whether the images are read from files.
    has_names : bool
        Whether the study had the names of classes where the data set has numbers.
    has_groups : bool
        Whether the groups of the study are groups of the data set.
    """

    origin: Origin
    parts: tuple[str, ...]
    unseen: tuple[UnseenPart, ...]
    has_files: bool
    has_names: bool
    has_groups: bool


def find_source(bunch: Bunch | None, data: StudyData) -> Source | None:
    """Find the parts of a data set whose rows a study has, or refuse a data set of other rows."""
    if bunch is None:
        return _of_files(data.X) if isinstance(data.X, ImageFiles) else None
    expected = "the data set that a loader of skimbal.datasets returned, with the rows of X and y"
    if not isinstance(bunch, Bunch) or "origin" not in bunch:
        raise ParameterError("source", expected, type(bunch).__name__)
    if bunch.origin is None:
        return None
    known = tuple(name for name in ("", *SPLITS) if split_key("X", name) in bunch)
    parts = next(_fitting(bunch, known, data.X, data.y), None)
    judge: tuple[str, ...] | None = ()
    if data.y_test is not None:
        judge = next(_fitting(bunch, known, data.X_test, data.y_test), None)
    if parts is None or judge is None:
        raise ParameterError(
            "source",
            expected,
            f"a data set without these rows of {'X, y' if parts is None else 'X_test, y_test'}",
            "Pass the rows as the loader returned them, a part or several parts joined in the "
            f"order {', '.join(SPLITS)}, or leave out source=.",
        )
    seen = {*parts, *judge}
    return Source(
        bunch.origin,
        parts,
        tuple(_unseen(bunch, name, seen) for name in reversed(known) if name not in seen),
        isinstance(data.X, ImageFiles),
        not np.array_equal(data.y, join_parts(bunch, "y", parts)),
        _has_groups(bunch, parts, data.groups),
    )


def _unseen(bunch: Bunch, part: str, seen: Collection[str]) -> UnseenPart:
    y, groups = bunch[split_key("y", part)], bunch.get(split_key("groups", part))
    if groups is None:
        return UnseenPart(part, len(y), False, False, 0)
    known = [bunch.get(split_key("groups", name)) for name in seen]
    in_study = {group for array in known if array is not None for group in array.tolist()}
    n_shared = len(in_study & set(groups.tolist()))
    return UnseenPart(part, len(y), True, are_mixed(groups, y), n_shared)


def are_mixed(groups: np.ndarray, y: np.ndarray) -> bool:
    """Tell whether a group has rows of several classes, so that no class is the group's."""
    n_pairs = len(set(zip(groups.tolist(), y.tolist(), strict=True)))
    return n_pairs > len(np.unique(groups))


def _of_files(images: ImageFiles) -> Source:
    """Return the parameters of files, of which nobody knows where the list of paths comes from."""
    return Source(Origin.of_call(ImageFiles, **images.options), (), (), True, False, False)


def _fitting(
    bunch: Bunch, known: Sequence[str], X: Any, y: np.ndarray
) -> Iterator[tuple[str, ...]]:
    """Yield the parts that hold these rows, in their order, when they are joined."""
    for n in range(1, len(known) + 1):
        for parts in itertools.combinations(known, n):
            labels = join_parts(bunch, "y", parts)
            spellings = (labels, with_class_names(bunch, labels))
            if any(np.array_equal(y, known) for known in spellings) and _holds(bunch, parts, X):
                yield parts


def _holds(bunch: Bunch, parts: Sequence[str], X: Any) -> bool:
    """Tell whether images are the images of parts, one after the other."""
    images = [bunch[split_key("X", part)] for part in parts]
    if any(isinstance(array, ImageFiles) for array in (*images, X)):
        if not all(isinstance(array, ImageFiles) for array in (*images, X)):
            return False
        paths = [path for files in images for path in files.paths]
        return bool(X.paths == paths and X.options == images[0].options)
    if getattr(X, "shape", None) != (sum(map(len, images)), *images[0].shape[1:]):
        return False
    starts = [0, *itertools.accumulate(map(len, images))]
    return all(
        array is X or np.array_equal(X[start : start + len(array)], array)
        for start, array in zip(starts, images, strict=False)
    )


def _has_groups(bunch: Bunch, parts: Sequence[str], groups: np.ndarray | None) -> bool:
    if groups is None or any(bunch.get(split_key("groups", part)) is None for part in parts):
        return False
    return np.array_equal(groups, join_parts(bunch, "groups", parts))
