"""Images of a study that occur more than once."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skimbal.datasets.copies import find_copies, row_digests, spanning
from skimbal.exceptions import warn_caller
from skimbal.images import ImageFiles
from skimbal.study.plan import Split, StudyData
from skimbal.wording import agree, plural

__all__ = ["warn_of_leaks"]

#: Rows of copies that a sentence names.
_N_NAMED = 3


def warn_of_leaks(data: StudyData, splits: Sequence[Split]) -> list[str]:
    """Warn the caller of the study of pictures on two sides, and return the sentences."""
    sentences = _find_leaks(data, splits)
    for sentence in sentences:
        warn_caller(sentence)
    return sentences


def _find_leaks(data: StudyData, splits: Sequence[Split]) -> list[str]:
    """Say in sentences which pictures are on both sides of a split, or in two classes or groups."""
    digests, y = row_digests(data.X), data.y.tolist()
    groups = None if data.groups is None else data.groups.tolist()
    names = _names_of_rows(data.X, "row")
    if data.X_test is not None and data.y_test is not None:
        n = len(digests)
        digests += row_digests(data.X_test)
        y += data.y_test.tolist()
        names += _names_of_rows(data.X_test, "test row")
        is_test = np.arange(len(digests)) >= n
        sides = [is_test]
        if groups is not None:
            groups = None if data.groups_test is None else groups + data.groups_test.tolist()
    else:
        sides = [_is_test(split, len(digests)) for split in splits]
    copies = find_copies(digests)
    leaks = [same for same in copies if any(_is_divided(side[same]) for side in sides)]
    of_classes = spanning(copies, y.__getitem__)
    of_groups = [] if groups is None else spanning(copies, groups.__getitem__)
    found = (
        (leaks, "in training and test rows", "so all scores may be too high"),
        (of_classes, "in more than one class", "so at least one of the labels is wrong"),
        (of_groups, "in more than one group", "so the groups do not keep the copies together"),
    )
    return [
        f"{_count(same)} {where}, {effect}: {_name(same, names)}."
        for same, where, effect in found
        if same
    ]


def _names_of_rows(X: Any, word: str) -> list[str]:
    """Return the ends of the paths of files, or the numbers of rows."""
    if isinstance(X, ImageFiles):
        return [os.sep.join(Path(path).parts[-2:]) for path in X.paths]
    return [f"{word} {i}" for i in range(len(X))]


def _is_test(split: Split, n: int) -> np.ndarray:
    """Return 1 for test rows, 0 for training rows and -1 for rows that the split leaves out."""
    side = np.full(n, -1)
    side[split.train], side[split.test] = 0, 1
    return side


def _is_divided(side: np.ndarray) -> bool:
    return bool((side == 0).any() and (side == 1).any())


def _count(found: list[list[int]]) -> str:
    return f"{plural(len(found), 'picture')} {agree(len(found), 'is', 'are')}"


def _name(found: list[list[int]], names: list[str]) -> str:
    shown = [" = ".join(names[i] for i in same[:_N_NAMED]) for same in found[:_N_NAMED]]
    n_more = len(found) - len(shown)
    return ", ".join(shown) + (f" and {n_more:,} more" if n_more else "")
