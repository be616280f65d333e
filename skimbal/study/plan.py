"""The data, configurations and splits of a study."""

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import (
    _safe_indexing,
    check_consistent_length,
    column_or_1d,
)
from torch import nn

from skimbal.classifiers import CNN2DClassifier, CNN3DClassifier
from skimbal.classifiers.base import BaseCNNClassifier
from skimbal.classifiers.cloning import clone_callbacks
from skimbal.classifiers.paths import from_paths, refuse_another_reading
from skimbal.datasets import DataCard
from skimbal.exceptions import ParameterError
from skimbal.images import FileForm, ImageFiles, guess_axes
from skimbal.losses import TERMS, LossMix, LossSpec, get_loss
from skimbal.sampling import SamplerSpec, check_sampler, is_uniform
from skimbal.training import draw_seed
from skimbal.typing import (
    ArrayLike,
    Classifier,
    ImagesLike,
    OnDemandImages,
    RandomState,
    Splitter,
)
from skimbal.wording import plural

__all__ = [
    "PAPER_LOSSES",
    "Configuration",
    "Folds",
    "Losses",
    "Samplers",
    "Split",
    "StudyData",
    "check_data",
    "check_estimator",
    "check_groups_arrive",
    "check_splits",
    "combine",
    "cv_splits",
    "derive_seed",
    "describe_splitting",
    "final_step",
    "groups_argument",
    "study_seed",
    "with_params",
]

#: The losses of the paper that are trained with every sampler.
PAPER_LOSSES = ("ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc")
#: The losses of the paper that weigh classes. The paper trains them without a sampler.
_PAPER_WEIGHTED_LOSSES = ("wce", "wce+f1", "wce+mcc")
_PAPER_SAMPLERS = ("uniform", "balanced")

#: A value of ``loss=`` of the classifiers, or several parameters of the classifiers.
Loss: TypeAlias = LossSpec | Mapping[str, object]
#: A list, or a mapping from the names that tables show.
Losses: TypeAlias = Sequence[Loss] | Mapping[str, Loss]
Samplers: TypeAlias = Sequence[SamplerSpec] | Mapping[str, SamplerSpec]
#: A value of ``cv=`` as in scikit-learn.
Folds: TypeAlias = int | Splitter | Iterable[tuple[np.ndarray, np.ndarray]] | None
T = TypeVar("T")
EstimatorT = TypeVar("EstimatorT", bound=Classifier)


@dataclass(frozen=True)
class Configuration:
    """A loss and a sampler that are fitted together.

    Parameters
    ----------
    loss, sampler : str
        Their names in tables.
    reference : str or None
        Name of the loss that it is compared with at the same sampler. None for a reference.
    params : dict
        Parameters of the classifier. With a sampler, ``epoch_length="uniform"`` is one of them
        unless the user sets the length of an epoch, or makes the batches.
    terms : frozenset of str, default=frozenset()
        Names of the terms of the loss. Empty for a loss that is not made of terms of this package.

    Examples
    --------
    >>> from skimbal.study import Configuration
    >>> params = {"loss": "wce+mcc", "sampler": "uniform"}
    >>> weighted = Configuration("mine", "uniform", "wce", params, frozenset({"wce", "mcc"}))
    >>> weighted.weighs_classes, weighted.sampling
    (True, 'uniform + weights')
    """

    loss: str
    sampler: str
    reference: str | None
    params: dict[str, Any]
    terms: frozenset[str] = frozenset()

    @property
    def weighs_classes(self) -> bool:
        """Whether rows count by the weight of their class."""
        rows = [TERMS[name] for name in self.terms if name in TERMS]
        by_loss = any(row.class_weight is not None for row in rows)
        return by_loss or self.params.get("class_weight") is not None

    @property
    def is_uniform(self) -> bool:
        """Whether every row is drawn once in an epoch, without regard to its class."""
        return is_uniform(self.params.get("sampler"))

    @property
    def sampling(self) -> str:
        """Name of the group in pictures. As in the paper, class weights make another group."""
        return (
            f"{self.sampler} + weights" if self.is_uniform and self.weighs_classes else self.sampler
        )


class Split(NamedTuple):
    """Rows of a fit and its seed. ``None`` stands for all rows and the fixed test set."""

    repeat: int
    fold: int
    train: np.ndarray | None
    test: np.ndarray | None
    seed: int


@dataclass(frozen=True)
class StudyData:
    """The checked data of a study, or of one of its fits.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Images.
    y : ndarray of shape (n_samples,)
        Class labels.
    groups : ndarray of shape (n_samples,), default=None
        Groups.
    X_test, y_test, groups_test : default=None
        The test rows in the same form. None before the rows are split.
    """

    X: Any
    y: np.ndarray
    groups: np.ndarray | None = None
    X_test: Any = None
    y_test: np.ndarray | None = None
    groups_test: np.ndarray | None = None

    @property
    def classes(self) -> np.ndarray:
        """Class labels, sorted."""
        return np.unique(self.y)

    @property
    def counts(self) -> np.ndarray:
        """Number of rows of each class."""
        return np.bincount(np.searchsorted(self.classes, self.y))

    def of(self, split: Split) -> "StudyData":
        """Return the training and test rows of a split."""
        if split.train is None:
            return self

        def take(array: Any, rows: np.ndarray | None) -> Any:
            return None if array is None else _safe_indexing(array, rows)

        return StudyData(
            *(take(array, split.train) for array in (self.X, self.y, self.groups)),
            *(take(array, split.test) for array in (self.X, self.y, self.groups)),
        )

    def card(self) -> DataCard:
        """Describe the data by counts and sizes."""
        labels = {"all" if self.y_test is None else "train": self.y}
        if self.y_test is not None:
            labels["test"] = self.y_test
        of_splits = dict(zip(labels, (self.groups, self.groups_test), strict=False))
        groups = {split: array for split, array in of_splits.items() if array is not None}
        return DataCard.from_labels(
            labels,
            image_shape=tuple(self.X.shape[1:]),
            dtype=str(getattr(self.X, "dtype", "mixed")),
            groups=groups or None,
        )


def check_data(
    X: ImagesLike,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    X_test: ImagesLike | None = None,
    y_test: ArrayLike | None = None,
    groups_test: ArrayLike | None = None,
) -> StudyData:
    """Refuse data that no study could use."""
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test must be given together; got one of them.")
    if groups_test is not None and (X_test is None or groups is None):
        raise ValueError(
            "groups_test must be given together with X_test and groups, with which it is compared; "
            "got groups_test alone. Give all three, or leave groups_test out."
        )
    images, labels = _check_images(X), _check_column(y, "y")
    check_consistent_length(images, labels)
    if len(np.unique(labels)) < 2:
        raise ParameterError("y", "labels of at least 2 classes", np.unique(labels).tolist())
    of_rows = None if groups is None else _check_column(groups, "groups")
    check_consistent_length(images, of_rows)
    if X_test is None or y_test is None:
        return StudyData(images, labels, of_rows)
    form = FileForm.of(images) if isinstance(images, ImageFiles) else None
    test_images, test_labels = _check_images(X_test, form), _check_column(y_test, "y_test")
    if form is not None and isinstance(test_images, ImageFiles):
        refuse_another_reading(test_images, form)
    check_consistent_length(test_images, test_labels)
    if not np.array_equal(np.unique(test_labels), np.unique(labels)):
        raise ParameterError(
            "y_test",
            f"labels of all classes of y, {np.unique(labels).tolist()}, and of no other class",
            np.unique(test_labels).tolist(),
            "Otherwise some scores are not defined.",
        )
    of_test_rows = None if groups_test is None else _check_column(groups_test, "groups_test")
    check_consistent_length(test_images, of_test_rows)
    if of_rows is not None and of_test_rows is not None:
        shared = np.intersect1d(of_rows, of_test_rows)
        if len(shared):
            raise ValueError(
                f"groups_test must not hold a group of the training rows; got {len(shared)} "
                f"group(s) of them, such as {shared.tolist()[0]!r}. The scores would measure how "
                "well patients are remembered. Split the rows by group."
            )
    return StudyData(images, labels, of_rows, test_images, test_labels, of_test_rows)


def _check_images(images: ImagesLike, form: FileForm | None = None) -> Any:
    images = from_paths(images, form)
    return images if hasattr(images, "shape") or hasattr(images, "iloc") else np.asarray(images)


def _check_column(labels: ArrayLike, name: str) -> np.ndarray:
    column = np.asarray(column_or_1d(labels))
    missing = column != column if column.dtype.kind in "fO" else np.zeros(1, dtype=bool)
    if np.any(missing) or any(label is None for label in column.tolist()):
        raise ValueError(f"{name} must not hold missing labels. Drop the rows without a label.")
    return column


def check_estimator(estimator: Classifier | None, X: Any) -> Classifier:
    """Return an unfitted copy, or a classifier that suits the images."""
    if estimator is None:
        known = X.n_spatial if isinstance(X, OnDemandImages) else None
        n_spatial = guess_axes(X.shape).n_spatial if known is None else known
        return CNN2DClassifier() if n_spatial == 2 else CNN3DClassifier()
    if not isinstance(final_step(estimator), CNN2DClassifier | CNN3DClassifier):
        raise ParameterError(
            "estimator",
            "a CNN2DClassifier, a CNN3DClassifier, or a Pipeline that ends in one of them",
            estimator,
            "The study sets the loss and the sampler of this classifier.",
        )
    copied: Classifier = clone(estimator)
    return copied


def final_step(estimator: Classifier) -> BaseCNNClassifier:
    """Return the classifier, at the end of a pipeline."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    return cast(BaseCNNClassifier, last)


def with_params(
    estimator: EstimatorT, params: Mapping[str, object], seed: int | None = None
) -> EstimatorT:
    """Return a copy with parameters of its classifier set, and all its seeds if one is given."""
    result: EstimatorT = clone(estimator)
    # Clones: several fits must not share a sampler or callback.
    final_step(result).set_params(
        **{
            name: clone_callbacks(value) if name == "callbacks" else _clone(value)
            for name, value in params.items()
        }
    )
    if seed is not None:
        names = result.get_params(deep=True)
        seeds = [name for name in names if f"__{name}".endswith("__random_state")]
        result.set_params(**dict.fromkeys(seeds, seed))
    return result


def _clone(value: object) -> object:
    return clone(value) if hasattr(value, "get_params") else copy.deepcopy(value)


def combine(
    losses: Losses | None,
    samplers: Samplers | None,
    baseline: str | None,
    data: StudyData,
    estimator: Classifier,
) -> list[Configuration]:
    """Combine losses and samplers. Refuse them before any fit if a fit could not use them."""
    by_loss = _by_name(PAPER_LOSSES if losses is None else losses, "losses")
    by_sampler = _by_name(_PAPER_SAMPLERS if samplers is None else samplers, "samplers")
    has_uniform = any(map(is_uniform, by_sampler.values()))
    # Class weights and a sampler would correct the same imbalance twice.
    weighted = _by_name(_PAPER_WEIGHTED_LOSSES, "losses") if losses is None and has_uniform else {}
    params = {name: _params(name, loss) for name, loss in (by_loss | weighted).items()}
    # Unknown parameters and losses are refused here.
    classifiers = {name: final_step(with_params(estimator, params[name])) for name in params}
    terms = {
        name: frozenset(get_loss(classifier.loss, data.counts).factors)
        for name, classifier in classifiers.items()
    }
    for sampler in by_sampler.values():
        check_sampler(sampler, data.y)
    if baseline is not None and baseline not in params:
        raise ParameterError("baseline", f"one of the losses {list(params)}", baseline)
    n_settings = {name: _n_settings(params[name], classifiers[name].loss) for name in params}
    references = {
        name: _reference(name, terms, n_settings) if baseline is None else baseline
        for name in params
    }
    return [
        Configuration(
            loss,
            name,
            None if references[loss] == loss else references[loss],
            params[loss] | _sampling(sampler, classifiers[loss]),
            terms[loss],
        )
        for name, sampler in by_sampler.items()
        for loss in (by_loss | weighted if is_uniform(sampler) else by_loss)
    ]


def _sampling(sampler: SamplerSpec, classifier: BaseCNNClassifier) -> dict[str, object]:
    """Return the parameters of a sampler, under which an epoch is as long as without a sampler.

    The study leaves the length alone if the user sets it, or makes the batches.
    """
    if is_uniform(sampler):
        return {"sampler": "uniform"}
    is_free = classifier.epoch_length is None and "iterator_train" not in (classifier.net or {})
    return {"sampler": sampler, **({"epoch_length": "uniform"} if is_free else {})}


def _by_name(given: Sequence[T] | Mapping[str, T], what: str) -> dict[str, T]:
    """Return the losses or samplers by the names that tables show."""
    if isinstance(given, Mapping):
        named = {str(name): value for name, value in given.items()}
        if len(named) < len(given):
            raise ParameterError(what, "a mapping from names that differ as text", given)
    elif isinstance(given, str) or not isinstance(given, Sequence):
        raise ParameterError(what, "a list or a mapping from names", given)
    else:
        names = [_name(value) for value in given]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ParameterError(
                what,
                "a list of different entries",
                given,
                f"{twice!r} is there twice. Tell them apart by names in a mapping, such as "
                "{'first': ..., 'second': ...}.",
            )
        named = dict(zip(names, given, strict=True))
    if not named:
        raise ParameterError(what, "a list or a mapping of at least one entry", given)
    return named


def _name(value: object) -> str:
    if value is None:
        return "uniform"
    if isinstance(value, str):
        return value
    if isinstance(value, type):
        return value.__name__
    return type(value).__name__ if isinstance(value, nn.Module) else repr(value)


def _reference(
    name: str, terms: Mapping[str, frozenset[str]], n_settings: Mapping[str, int]
) -> str | None:
    """Return the plainest cross-entropy, or the plainest loss of the terms that weigh classes.

    Terms matter, names do not: a loss that is called "ce" may be another loss.
    """
    weighing = {term for term in terms[name] if TERMS[term].class_weight is not None}
    only = weighing if weighing and terms[name] > weighing else {"ce"}
    return min((n for n in terms if terms[n] == only), key=n_settings.__getitem__, default=None)


def _params(name: str, loss: Loss) -> dict[str, Any]:
    """Return the parameters of the classifier for a loss."""
    params = dict(loss) if isinstance(loss, Mapping) else {"loss": loss}
    if "sampler" in params:
        raise ParameterError(
            f"losses[{name!r}]",
            "parameters of the classifier without sampler",
            loss,
            "The study sets the sampler. Use samplers=.",
        )
    return params


def _n_settings(params: Mapping[str, object], loss: object) -> int:
    """Count the parameters of a configuration, and of its loss, that are not factors."""
    defaults = LossMix().get_params()
    of_loss = loss.get_params() if isinstance(loss, LossMix) else {}
    changed = [k for k, v in of_loss.items() if k not in TERMS and v != defaults[k]]
    return len(params) + len(changed)


def check_groups_arrive(
    configurations: list[Configuration], estimator: Classifier, groups: np.ndarray | None
) -> None:
    """Refuse resampled rows, whose groups are unknown, where a validation split needs groups."""
    steps = estimator.steps[:-1] if isinstance(estimator, Pipeline) else []
    resamplers = [name for name, step in steps if hasattr(step, "fit_resample")]
    for configuration in configurations if resamplers else ():
        if groups_argument(with_params(estimator, configuration.params), groups):
            raise ValueError(
                "train_split must be None if a step of the pipeline makes rows, whose groups are "
                f"unknown; got the step {resamplers[0]!r}. Use a sampler of the study, which acts "
                "after the split, or train_split=None."
            )


def groups_argument(model: Classifier, groups: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the groups as the argument of fit that brings them to a validation split."""
    if groups is None or final_step(model).train_split is None:
        return {}
    return {f"{model.steps[-1][0]}__groups" if isinstance(model, Pipeline) else "groups": groups}


def study_seed(random_state: RandomState) -> int:
    """Return the seed of a study, which an integer is itself."""
    drawn = draw_seed(random_state)  # which also checks the range
    return int(random_state) if isinstance(random_state, int | np.integer) else drawn


def derive_seed(*numbers: int) -> int:
    """Return a seed that depends on all of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)


def cv_splits(cv: Folds, data: StudyData, n_repeats: int, seed: int) -> list[Split]:
    """Split the rows, with folds that are drawn anew for each repeat."""
    y, groups = data.y, data.groups
    if cv is None or isinstance(cv, int | np.integer):
        n_splits = 5 if cv is None else int(cv)
        _check_n_splits(n_splits, y, groups)
        folds = StratifiedKFold if groups is None else StratifiedGroupKFold
        cv = folds(n_splits, shuffle=True)
    splitter = check_cv(cv, y, classifier=True)
    is_random = hasattr(splitter, "random_state") and getattr(splitter, "shuffle", True)
    if n_repeats > 1 and not is_random:
        raise ParameterError(
            "n_repeats",
            f"1 for cv={cv!r}, which cannot draw the folds anew",
            n_repeats,
            "Use a number of folds, or a splitter with shuffle=True.",
        )
    splits = []
    for repeat in range(n_repeats):
        if is_random and (repeat or splitter.random_state is None):
            splitter = copy.copy(splitter)
            splitter.random_state = derive_seed(seed, repeat)
        with warnings.catch_warnings():
            # A splitter that ignores groups is refused if it divides one, see check_splits.
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            # Splitters look at labels and groups, not at the images.
            pairs = list(splitter.split(np.zeros(len(y)), y, groups))
        splits += [
            Split(repeat, fold, train, test, derive_seed(seed, repeat, fold))
            for fold, (train, test) in enumerate(pairs)
        ]
    return splits


def _check_n_splits(n_splits: int, y: np.ndarray, groups: np.ndarray | None) -> None:
    if n_splits < 2:
        raise ParameterError("cv", "at least 2 folds", n_splits)
    members = {
        label: int(np.sum(y == label)) if groups is None else len(np.unique(groups[y == label]))
        for label in np.unique(y)
    }
    label = min(members, key=members.__getitem__)
    least, what = members[label], "members" if groups is None else "groups"
    if least < 2:
        raise ValueError(
            f"every class must have at least 2 {what} for a cross-validation; got class {label} "
            f"with {least}. Drop or merge the class, or collect more images of it."
        )
    if least < n_splits:
        raise ParameterError(
            "cv",
            f"at most {least} folds, because class {label} has {least} {what} and every fold needs "
            "one",
            n_splits,
            "Use fewer folds, or merge classes.",
        )


def check_splits(splits: list[Split], data: StudyData) -> None:
    """Refuse a split that lacks a class on one side, or has a group on both sides."""
    for split in splits:
        where = f"fold {split.fold} of repeat {split.repeat}"
        for side, rows in (("training", split.train), ("test", split.test)):
            missing = np.setdiff1d(data.classes, data.y[rows])
            if len(missing):
                raise ValueError(
                    f"the {side} rows of {where} must hold every class; got no row of "
                    f"{missing.tolist()}. These have too few members or groups for the folds. "
                    "Use fewer folds, other groups or another random_state."
                )
        if data.groups is not None:
            shared = np.intersect1d(data.groups[split.train], data.groups[split.test])
            if len(shared):
                raise ValueError(
                    f"{where} must not have a group on both sides; got "
                    f"{plural(len(shared), 'group')}, such as {shared.tolist()[0]!r}. The scores "
                    "would measure how well patients are remembered. Use a splitter that respects "
                    "groups, such as StratifiedGroupKFold, or a number of folds as cv."
                )


def describe_splitting(cv: Folds, data: StudyData, splits: list[Split]) -> str:
    """Say in a few words how the test rows were chosen."""
    n_repeats = 1 + max(split.repeat for split in splits)
    if data.y_test is not None:
        return f"fixed test set, {plural(n_repeats, 'seed')}"
    n_folds = 1 + max(split.fold for split in splits)
    if cv is None or isinstance(cv, int | np.integer):
        kind = "stratified" if data.groups is None else "stratified group"
        name = f"{kind} {n_folds}-fold cross-validation"
    else:
        name = f"{plural(n_folds, 'split')} of {type(cv).__name__}"
    return name + (f", {n_repeats} repeats" if n_repeats > 1 else "")
