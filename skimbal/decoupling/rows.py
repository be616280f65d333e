"""The rows that a network learns from, and the rows that a head learns from."""

import warnings
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    check_cv,
)

from skimbal.exceptions import ParameterError
from skimbal.typing import Splitter, is_integer, is_number

__all__ = ["Part", "Split", "split"]

#: Numbers of rows, or None for all rows.
Part: TypeAlias = NDArray[np.intp] | None
#: The rows of a network, and the rows of the head behind it.
Split: TypeAlias = tuple[Part, Part]
_Pair: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp]]


def split(
    cv: float | Splitter | Iterable[Any] | None,
    y: np.ndarray,
    groups: np.ndarray | None,
    seed: int | None,
    weight: np.ndarray | None = None,
) -> list[Split]:
    """Return the rows of each network and of its head, with all classes on both sides.

    Rows of weight 0 are on no side, so that network and head know the same classes.
    """
    kept = np.ones(len(y), bool) if weight is None or not weight.any() else weight != 0
    if cv is None:
        return [(None, None) if kept.all() else (np.flatnonzero(kept), np.flatnonzero(kept))]
    pairs = [(n[kept[n]], h[kept[h]]) for n, h in _pairs(cv, y, groups, seed)]
    y = np.where(kept, y, y[kept][0])
    if isinstance(cv, float):  # one of the folds of whole groups that have this share
        pairs = [pair for pair in pairs if not _missing(y, pair)][:1] or pairs[:1]
    for pair in pairs:
        lacking = _missing(y, pair)
        if lacking:
            side, label = lacking
            raise ValueError(
                f"cv must put rows of each class on both sides; got {cv!r}, and the rows of the "
                f"{side} lack the class {label!r}. Use fewer folds or another share, or cv=None, "
                "which lets network and head learn from the same rows."
            )
    return [*pairs]


def _pairs(
    cv: float | Splitter | Iterable[Any], y: np.ndarray, groups: np.ndarray | None, seed: int | None
) -> list[_Pair]:
    """Return the splits, of whole groups if there are groups."""
    expected = "None, or folds or a share that suit the rows and groups of each class"
    try:
        with warnings.catch_warnings():
            # A class with fewer rows than folds is missing in a fold, which is refused.
            warnings.filterwarnings("ignore", message="The least populated class in y")
            # Groups matter only if a splitter that ignores them separates a group.
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            splitter = _splitter(cv, groups is not None, seed) if is_number(cv) else cv
            checked = check_cv(splitter, y, classifier=True)
            found = list(checked.split(np.zeros(len(y)), y, groups))
    except ValueError as error:
        raise ParameterError("cv", expected, cv, f"scikit-learn says: {error}") from error
    rows = np.arange(len(y))
    for network, head in found if groups is not None else ():
        shared = np.intersect1d(np.asarray(groups)[network], np.asarray(groups)[head])
        if len(shared):
            raise ParameterError(
                "cv",
                "a splitter that keeps each group on one side",
                cv,
                f"The group {shared.tolist()[0]!r} is on both sides. Use an integer, a share or "
                "StratifiedGroupKFold.",
            )
    return [(rows[network], rows[head]) for network, head in found]


def _splitter(cv: float, has_groups: bool, seed: int | None) -> Any:
    """Return a splitter for a number of folds or a share."""
    is_share = not is_integer(cv)
    if has_groups:
        n_folds = round(1 / cv) if is_share else int(cv)
        return StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    if is_share:
        return StratifiedShuffleSplit(1, test_size=cv, random_state=seed)
    return StratifiedKFold(int(cv), shuffle=True, random_state=seed)


def _missing(y: np.ndarray, pair: _Pair) -> tuple[str, object] | None:
    """Return the side that lacks a class, and the class."""
    for side, rows in zip(("network", "head"), pair, strict=True):
        lacking = np.setdiff1d(y, y[rows])
        if len(lacking):
            return side, lacking.tolist()[0]
    return None
