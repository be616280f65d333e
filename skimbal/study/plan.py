"""The configurations and splits of a study."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from torch import nn

from skimbal.classifiers import CNN2DClassifier, CNN3DClassifier
from skimbal.classifiers.inputs import from_paths
from skimbal.datasets import DataCard
from skimbal.images import guess_axes
from skimbal.losses import MixedLoss, get_loss
from skimbal.sampling import check_sampler, is_uniform
from skimbal.typing import OnDemandImages

__all__ = [
    "Configuration",
    "Split",
    "check_data",
    "check_estimator",
    "check_groups_arrive",
    "check_splits",
    "combine",
    "cv_splits",
    "derive_seed",
    "describe_splitting",
    "draw_seed",
    "final_step",
    "groups_argument",
    "make_data_card",
    "with_params",
]

#: The losses of the paper, and those that it trains with weights instead of sampling.
_LOSSES = ("ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc")
_WEIGHTED_LOSSES = ("wce", "wce+f1", "wce+mcc")


@dataclass(frozen=True)
class Configuration:
    """A loss and a sampler that are fitted together.

    Parameters
    ----------
    loss, sampler : str
        Their names in tables.
    reference : str or None
        Name of the loss that it is compared with at the same sampler; None for a reference.
    params : dict
        Parameters of the classifier.

    Examples
    --------
    >>> from skimbal.study import Configuration
    >>> Configuration("ce+mcc", "balanced", "ce", {"loss": "ce+mcc", "sampler": "balanced"}).loss
    'ce+mcc'
    """

    loss: str
    sampler: str
    reference: str | None
    params: dict[str, Any]


class Split(NamedTuple):
    """Rows of a fit, all and the fixed test set if None, and its seed."""

    repeat: int
    fold: int
    train: np.ndarray | None
    test: np.ndarray | None
    seed: int


def check_data(
    X: Any, y: Any, groups: Any, X_test: Any, y_test: Any, groups_test: Any
) -> tuple[Any, ...]:
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test go together, but only one of them was given.")
    if groups_test is not None and (X_test is None or groups is None):
        raise ValueError(
            "groups_test are the groups of the rows of X_test, to be compared with groups; give "
            "all three, or leave groups_test out."
        )

    def images(data: Any) -> Any:
        data = from_paths(data)
        return data if hasattr(data, "shape") or hasattr(data, "iloc") else np.asarray(data)

    def labels(data: Any, name: str) -> np.ndarray:
        column = np.asarray(column_or_1d(data))
        missing = column != column if column.dtype.kind in "fO" else np.zeros(1, dtype=bool)
        if np.any(missing) or any(label is None for label in column.tolist()):
            raise ValueError(f"{name} holds missing labels; drop these rows first.")
        return column

    X, y = images(X), labels(y, "y")
    check_consistent_length(X, y)
    if len(np.unique(y)) < 2:
        raise ValueError(f"y must hold at least 2 classes, got {np.unique(y).tolist()}.")
    if groups is not None:
        groups = labels(groups, "groups")
        check_consistent_length(X, groups)
    if X_test is not None:
        X_test, y_test = images(X_test), labels(y_test, "y_test")
        check_consistent_length(X_test, y_test)
        if not np.array_equal(np.unique(y_test), np.unique(y)):
            raise ValueError(
                "y_test must hold the same classes as y, each at least once, so that every score "
                f"is defined; got {np.unique(y_test).tolist()} and {np.unique(y).tolist()}."
            )
    if groups_test is not None:
        groups_test = labels(groups_test, "groups_test")
        check_consistent_length(X_test, groups_test)
        shared = np.intersect1d(groups, groups_test)
        if len(shared):
            raise ValueError(
                f"{len(shared)} group(s) are in the training and the test rows, such as "
                f"{shared.tolist()[0]!r}: what is learnt of a patient would be tested on that "
                "patient. Divide the rows by group."
            )
    return X, y, groups, X_test, y_test, groups_test


def check_estimator(estimator: Any, X: Any) -> Any:
    if estimator is None:
        known = X.n_spatial if isinstance(X, OnDemandImages) else None
        n_spatial = guess_axes(X.shape).n_spatial if known is None else known
        return CNN2DClassifier() if n_spatial == 2 else CNN3DClassifier()
    if not isinstance(final_step(estimator), CNN2DClassifier | CNN3DClassifier):
        raise ValueError(
            "estimator must be a CNN2DClassifier, a CNN3DClassifier, or a Pipeline that ends in "
            f"one, whose loss and sampler the study sets; got {estimator!r}."
        )
    return clone(estimator)


def final_step(estimator: Any) -> Any:
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def with_params(estimator: Any, params: Mapping[str, Any], seed: int | None) -> Any:
    """Return a copy with parameters of its classifier set, and all its seeds if one is given."""
    result = clone(estimator)
    # Clones: a sampler or callback is not to be shared by several fits.
    final_step(result).set_params(**{name: _clone(value) for name, value in params.items()})
    if seed is not None:
        names = result.get_params(deep=True)
        seeds = [name for name in names if f"__{name}".endswith("__random_state")]
        result.set_params(**dict.fromkeys(seeds, seed))
    return result


def _clone(value: Any) -> Any:
    return clone(value) if hasattr(value, "get_params") else copy.deepcopy(value)


def _named(given: Sequence[Any] | Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the losses or samplers by the names that tables show."""
    if isinstance(given, Mapping):
        named = {str(name): value for name, value in given.items()}
    elif isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"{what} must be a list or a mapping from names, got {given!r}.")
    else:
        names = [_name(value) for value in given]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(
                f"{what} holds {twice!r} twice; name them apart with a mapping, such as "
                f"{{'first': ..., 'second': ...}}."
            )
        named = dict(zip(names, given, strict=True))
    if not named:
        raise ValueError(f"{what} must hold at least one entry, got {given!r}.")
    return named


def _name(value: Any) -> str:
    if value is None:
        return "uniform"
    if isinstance(value, str):
        return value
    if isinstance(value, type):
        return value.__name__
    return type(value).__name__ if isinstance(value, nn.Module) else repr(value)


def combine(
    losses: Any,
    samplers: Any,
    baseline: str | None,
    y: np.ndarray,
    counts: np.ndarray,
    estimator: Any,
) -> list[Configuration]:
    """Combine losses and samplers; refuse at once what no fit could use."""
    by_loss = _named(_LOSSES if losses is None else losses, "losses")
    by_sampler = _named(("uniform", "balanced") if samplers is None else samplers, "samplers")
    extra = _named(_WEIGHTED_LOSSES, "losses") if losses is None else {}
    if losses is None and "uniform" not in by_sampler:
        extra = {}  # weights and sampling would correct twice
    params = {
        name: dict(value) if isinstance(value, Mapping) else {"loss": value}
        for name, value in {**by_loss, **extra}.items()
    }
    terms: dict[str, set[str]] = {}
    for name, of_loss in params.items():
        loss = get_loss(of_loss.get("loss", final_step(estimator).loss), counts)
        terms[name] = set(loss.factors) if isinstance(loss, MixedLoss) else set()
        with_params(estimator, of_loss, None)  # unknown parameters
        if "sampler" in of_loss:
            raise ValueError(
                f"losses[{name!r}] sets a sampler, which the study does: give it as samplers."
            )
    for sampler in by_sampler.values():
        check_sampler(sampler, y)
    if baseline is not None and baseline not in params:
        raise ValueError(f"baseline must be one of the losses {list(params)}, got {baseline!r}.")

    def reference(name: str) -> str | None:
        if baseline is not None:
            chosen = baseline
        else:
            chosen = "wce" if "wce" in terms[name] and len(terms[name]) > 1 else "ce"
        return chosen if chosen in params and chosen != name else None

    return [
        Configuration(loss, sampler, reference(loss), {**params[loss], "sampler": value})
        for sampler, given in by_sampler.items()
        for value in [None if is_uniform(given) else given]
        for loss in (*by_loss, *(extra if sampler == "uniform" else ()))
    ]


def check_groups_arrive(
    configurations: list[Configuration], estimator: Any, groups: np.ndarray | None
) -> None:
    """Refuse resampled rows, whose groups nobody knows, where a validation split asks for them."""
    steps = estimator.steps[:-1] if isinstance(estimator, Pipeline) else []
    resamplers = [name for name, step in steps if hasattr(step, "fit_resample")]
    for configuration in configurations if resamplers else ():
        if groups_argument(with_params(estimator, configuration.params, None), groups):
            raise ValueError(
                f"the step {resamplers[0]!r} of the pipeline makes other rows, so train_split "
                "cannot keep groups on one side. Use a sampler of the study, which acts after the "
                "split, or train_split=None."
            )


def groups_argument(model: Any, groups: np.ndarray | None) -> dict[str, Any]:
    """Return the groups as the argument of fit that brings them to a validation split."""
    if groups is None or final_step(model).train_split is None:
        return {}
    return {f"{model.steps[-1][0]}__groups" if isinstance(model, Pipeline) else "groups": groups}


def draw_seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        check_random_state(random_state)  # its range
        return int(random_state)
    if random_state is None:
        # Not from numpy's global state, which stays as it is.
        return int(np.random.default_rng().integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))


def derive_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)


def cv_splits(
    cv: Any, y: np.ndarray, groups: np.ndarray | None, n_repeats: int, seed: int
) -> list[Split]:
    if cv is None or isinstance(cv, int | np.integer):
        n_splits = 5 if cv is None else int(cv)
        _check_n_splits(n_splits, y, groups)
        folds = StratifiedKFold if groups is None else StratifiedGroupKFold
        cv = folds(n_splits, shuffle=True)
    cv = check_cv(cv, y, classifier=True)
    is_random = hasattr(cv, "random_state") and getattr(cv, "shuffle", True)
    if n_repeats > 1 and not is_random:
        raise ValueError(
            f"n_repeats={n_repeats} draws the folds anew, which cv={cv!r} cannot do; use "
            "n_repeats=1, a number of folds, or a splitter with shuffle=True."
        )
    splits = []
    for repeat in range(n_repeats):
        if is_random and (repeat or cv.random_state is None):
            cv = copy.copy(cv)
            cv.random_state = derive_seed(seed, repeat)
        with warnings.catch_warnings():
            # That groups are ignored is an error where it matters, see check_splits.
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            # The images play no part: splitters look at labels and groups.
            pairs = list(cv.split(np.zeros(len(y)), y, groups))
        splits += [
            Split(repeat, fold, train, test, derive_seed(seed, repeat, fold))
            for fold, (train, test) in enumerate(pairs)
        ]
    return splits


def _check_n_splits(n_splits: int, y: np.ndarray, groups: np.ndarray | None) -> None:
    if isinstance(n_splits, bool) or n_splits < 2:
        raise ValueError(f"cv must be at least 2 folds, got {n_splits!r}.")
    members = {
        label: int(np.sum(y == label)) if groups is None else len(np.unique(groups[y == label]))
        for label in np.unique(y)
    }
    label = min(members, key=members.__getitem__)
    least = members[label]
    if least < n_splits:
        what = "members" if groups is None else "groups"
        raise ValueError(
            f"class {label} has {least} {what}, fewer than the {n_splits} folds, so some "
            f"fold would lack it; use cv={least} or less, or merge classes."
            if least >= 2
            else f"class {label} has {least} of at least 2 {what} that a cross-validation "
            "needs; drop or merge the class, or collect more of it."
        )


def check_splits(splits: list[Split], y: np.ndarray, groups: np.ndarray | None) -> None:
    classes = np.unique(y)
    for split in splits:
        where = f"fold {split.fold} of repeat {split.repeat}"
        for side, rows in (("training", split.train), ("test", split.test)):
            missing = np.setdiff1d(classes, y[rows])
            if len(missing):
                raise ValueError(
                    f"the {side} rows of {where} lack the class(es) {missing.tolist()}: too few "
                    "members or groups for these folds. Use fewer folds, other groups or another "
                    "random_state."
                )
        if groups is not None:
            shared = np.intersect1d(groups[split.train], groups[split.test])
            if len(shared):
                raise ValueError(
                    f"{where} has {len(shared)} group(s) on both sides, such as {shared[0]!r}: "
                    "what is learnt of a patient would be tested on that patient. Use a splitter "
                    "that honours groups, such as StratifiedGroupKFold, or leave cv a number."
                )


def describe_splitting(
    cv: Any, groups: np.ndarray | None, splits: list[Split], y_test: np.ndarray | None
) -> str:
    n_repeats = 1 + max(split.repeat for split in splits)
    if y_test is not None:
        return f"fixed test set, {n_repeats} seed" + "s" * (n_repeats > 1)
    n_folds = 1 + max(split.fold for split in splits)
    if cv is None or isinstance(cv, int | np.integer):
        kind = "stratified" if groups is None else "stratified group"
        name = f"{kind} {n_folds}-fold cross-validation"
    else:
        name = f"{n_folds} splits of {type(cv).__name__}"
    return name + (f", {n_repeats} repeats" if n_repeats > 1 else "")


def make_data_card(
    X: Any, y: np.ndarray, groups: Any, y_test: np.ndarray | None, groups_test: Any
) -> DataCard:
    labels = {"all" if y_test is None else "train": y}
    if y_test is not None:
        labels["test"] = y_test
    of_splits = dict(zip(labels, (groups, groups_test), strict=False))
    of_splits = {split: array for split, array in of_splits.items() if array is not None}
    return DataCard.from_labels(
        labels,
        image_shape=tuple(X.shape[1:]),
        dtype=str(getattr(X, "dtype", "mixed")),
        groups=of_splits or None,
    )
