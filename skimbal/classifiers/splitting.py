"""Training and validation rows."""

import copy
import inspect
import warnings
from collections.abc import Callable
from numbers import Real
from typing import TypeVar

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from skorch.dataset import ValidSplit
from torch.utils.data import Subset

from skimbal.classifiers.inputs import InputClassifier, Rows, check_foreign_rows
from skimbal.classifiers.ranges import compare_rows
from skimbal.exceptions import ParameterError, warn_caller
from skimbal.training import ImageDataset

__all__ = ["split_rows"]

T = TypeVar("T")


def split_rows(estimator: InputClassifier, rows: Rows, seed: int) -> tuple[Rows, Rows | None]:
    """Split before anything is learnt from the rows, statistics of the pixels included."""
    if estimator.train_split is None:
        return rows, None
    split = estimator.train_split
    try:
        pair = _call_split(split, rows, seed)
    except ParameterError:
        raise
    except (TypeError, ValueError) as error:
        if isinstance(split, Real) and rows.group_of_row is None:
            expected = "a share or a number of folds that suits the rows of each class"
            remedy = f"scikit-learn says: {error}"
            raise ParameterError("train_split", expected, split, remedy) from error
        error.add_note(f"train_split={split!r} failed to split {len(rows.data)} rows.")
        raise
    except (AttributeError, IndexError) as error:
        expected = "a splitter, pairs of row numbers or a callable that splits the rows"
        remedy = f"It failed with {type(error).__name__}: {error}."
        raise ParameterError("train_split", expected, split, remedy) from error
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ParameterError(
            "train_split",
            "a split that returns a pair, the training rows and the validation rows (or None)",
            pair,
        )
    train, valid = _selected(rows, pair[0]), _selected(rows, pair[1])
    if train is None or len(train.data) == 0:
        raise ParameterError(
            "train_split",
            "a split whose training rows are a torch Subset, with at least one row, of the given "
            "data set",
            pair[0],
        )
    if valid is None and pair[1] is not None:
        return train, _foreign_rows(estimator, pair[1], rows.labels)
    _warn_of_shared_groups(train, valid)
    return train, valid


def _selected(rows: Rows, part: object) -> Rows | None:
    """Return the rows of a part of a split, or None if it does not consist of such rows."""
    if isinstance(part, Subset) and part.dataset is rows.data:
        part = rows.data.take(np.asarray(part.indices, dtype=np.intp))
    return rows.with_data(part) if isinstance(part, ImageDataset) else None


def _foreign_rows(estimator: InputClassifier, valid: object, labels: np.ndarray) -> Rows:
    """Return the rows of a validation set of the user, as ``predefined_split`` brings it."""
    if not hasattr(valid, "X") or not hasattr(valid, "y"):
        raise TypeError(
            "the validation set of train_split must be a skorch.dataset.Dataset(X, y) or a torch "
            f"Subset of the training data; got {type(valid).__name__}."
        )
    rows = check_foreign_rows(estimator, valid.X, valid.y, labels)
    compare_rows(estimator, rows.data)
    return rows


def _call_split(split: object, rows: Rows, seed: int) -> object:
    """Return the result of ``train_split``, a pair of subsets unless it is wrong."""
    y, groups = rows.data.y, rows.group_of_row
    with warnings.catch_warnings():
        # A splitter that ignores groups matters only if it separates a group. That comes later.
        warnings.filterwarnings("ignore", message="The groups parameter is ignored")
        if callable(split):
            return _seeded_callable(split, seed)(rows.data, y, **_groups_argument(split, groups))
        if groups is not None and isinstance(split, Real):
            pair: object = _split_by_group(split, rows, seed)  # type: ignore[arg-type]
        else:
            cv = _with_seed(ValidSplit(split, stratified=True).check_cv(y), seed)
            given = _groups_argument(cv.split, groups)
            pair = next(iter(cv.split(np.zeros(len(y)), y, **given)), None)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return pair
    # A mask selects rows as numbers do.
    return [Subset(rows.data, np.arange(len(y))[part].tolist()) for part in pair]


def _split_by_group(split: float, rows: Rows, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first stratified fold of whole groups that has every class on both sides."""
    y, groups = rows.data.y, rows.group_of_row
    assert groups is not None
    n_folds, share = split, float(split)
    if not share.is_integer():
        if not 0 < share <= 0.5:
            raise ParameterError(
                "train_split",
                "a share greater than 0 and at most 0.5, or a number of folds, with groups",
                split,
                "A share takes one of round(1 / share) folds.",
            )
        n_folds = round(1 / share)
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    present = np.unique(y)
    with warnings.catch_warnings():
        # A class need not be in every fold, as one fold is used.
        warnings.filterwarnings("ignore", message="The least populated class in y")
        for train, valid in folds.split(y, y, groups):
            if len(np.unique(y[train])) == len(np.unique(y[valid])) == len(present):
                return train, valid
    count, rarest = min((len(np.unique(groups[y == k])), k) for k in present)
    raise ValueError(
        "train_split must give a fold of whole groups with every class in both the training and "
        f"the validation rows; got {split!r}, and none of its {n_folds} folds is such a fold. The "
        f"class in the fewest groups is {rows.labels.tolist()[rarest]!r}, in {count}, but needs at "
        "least 2. Use fewer folds or a larger share, merge classes, or set train_split=None."
    )


def _warn_of_shared_groups(train: Rows, valid: Rows | None) -> None:
    if valid is None or train.group_of_row is None or valid.group_of_row is None:
        return
    shared = np.intersect1d(train.group_of_row, valid.group_of_row)
    if len(shared):
        n_groups = len(np.union1d(train.group_of_row, valid.group_of_row))
        warn_caller(
            f"train_split puts {len(shared)} of {n_groups} groups on both sides, such as "
            f"{shared.tolist()[0]!r}, so valid_loss does not show the error on new groups. Use a "
            "share, a number of folds, or a splitter that honours groups, such as "
            "StratifiedGroupKFold."
        )


def _seeded_callable(split: Callable[..., object], seed: int) -> Callable[..., object]:
    if not isinstance(split, ValidSplit):
        return split
    seeded = _with_seed(copy.copy(split), seed)
    seeded.cv = _with_seed(seeded.cv, seed)
    called: Callable[..., object] = seeded
    return called


def _with_seed(cv: T, seed: int) -> T:
    """Return a splitter that draws from the seed of the fit, unless it has one or draws nothing."""
    if getattr(cv, "random_state", seed) is None and getattr(cv, "shuffle", True):
        cv = copy.copy(cv)
        cv.random_state = seed  # type: ignore[attr-defined]
    return cv


def _groups_argument(
    function: Callable[..., object], groups: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return the groups as an argument, if there are groups and the function takes them."""
    parameters = inspect.signature(function).parameters.values()
    takes = any(p.name == "groups" or p.kind is p.VAR_KEYWORD for p in parameters)
    return {} if groups is None or not takes else {"groups": groups}
