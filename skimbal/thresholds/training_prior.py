"""The prior that the probabilities of a fitted classifier refer to."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.svm import SVC, NuSVC
from sklearn.utils.class_weight import compute_class_weight

from skimbal.exceptions import ParameterError
from skimbal.thresholds.wrapping import DecidingClassifier

__all__ = [
    "Labels",
    "TrainingPrior",
    "find_shift",
    "find_training_prior",
    "is_fitted_before",
    "shares_of",
]

#: Parameters of other libraries that weigh the classes, with their values that do not.
_OTHER_WEIGHTS: dict[str, tuple[object, ...]] = {
    "scale_pos_weight": (None, 1),
    "is_unbalance": (None, False),
    "auto_class_weights": (None, "None"),
    "class_weights": (None,),
}
#: Classifiers that calibrate their probabilities on rows without class weights.
_CALIBRATE_THEMSELVES = (SVC, NuSVC)
#: Wrappers that leave the probabilities as they are.
_TRANSPARENT = (DecidingClassifier, FixedThresholdClassifier, TunedThresholdClassifierCV)


class Labels(NamedTuple):
    """Labels and weights of the rows of a fit."""

    y: np.ndarray
    weight: np.ndarray | None = None


class TrainingPrior(NamedTuple):
    """Shares in the order of the classes, and their origin in words."""

    shares: np.ndarray
    origin: str


def shares_of(labels: Labels, classes: np.ndarray) -> np.ndarray:
    """Return the share of each class by weight."""
    codes = np.searchsorted(classes, labels.y)
    mass = np.bincount(codes, weights=labels.weight, minlength=len(classes))
    shares: np.ndarray = mass / mass.sum()
    return shares


def is_fitted_before(estimator: Any) -> bool:
    """Tell whether fit leaves a classifier as it is, apart from a calibration."""
    if isinstance(estimator, FrozenEstimator):
        return True
    inner = getattr(estimator, "estimator", None)
    return inner is not None and is_fitted_before(inner)


def find_training_prior(estimator: Any, labels: Labels | None) -> TrainingPrior:
    """Return the prior of a fitted classifier, or refuse.

    ``labels`` are the labels that it was fitted with, or None if it was fitted before.
    """
    name = type(estimator).__name__
    while (inside := _inside(estimator)) is not None:
        if any(hasattr(step, "fit_resample") for _, step in getattr(estimator, "steps", ())):
            raise _unknown(name, "A step of it draws other rows.")
        estimator, labels = inside, None if isinstance(estimator, FrozenEstimator) else labels
        name = type(estimator).__name__
    if isinstance(estimator, CalibratedClassifierCV):
        if estimator.method == "temperature":  # which moves no prior
            return find_training_prior(estimator.calibrated_classifiers_[0].estimator, labels)
        return _of_labels(estimator, labels, f"calibration by method={estimator.method!r}")
    if hasattr(type(estimator), "effective_prior_"):
        try:
            return TrainingPrior(estimator.effective_prior_, f"effective_prior_ of {name}")
        except AttributeError as error:
            raise _unknown(name, str(error)) from None
    for attribute in ("priors_", "class_prior_"):  # of discriminant analysis and naive Bayes
        if hasattr(estimator, attribute):
            shares = np.asarray(getattr(estimator, attribute))
            return TrainingPrior(shares, f"{attribute} of {name}")
    if hasattr(estimator, "class_log_prior_"):
        return TrainingPrior(np.exp(estimator.class_log_prior_), f"class_log_prior_ of {name}")
    return _of_labels(estimator, labels, "labels of the fit")


def find_shift(
    estimator: Any, labels: Labels | None = None
) -> tuple[np.ndarray, np.ndarray] | str | None:
    """Return the shares of the training labels, and the prior that the probabilities refer to.

    None if nothing has moved the prior on purpose, and a reason if a network does not know.
    ``labels`` are the labels that the estimator was fitted with, or None if it was fitted before.
    """
    while (inside := _inside(estimator)) is not None:
        estimator, labels = inside, None if isinstance(estimator, FrozenEstimator) else labels
    if isinstance(estimator, CalibratedClassifierCV):
        if estimator.method != "temperature":
            return None
        return find_shift(estimator.calibrated_classifiers_[0].estimator, labels)
    if hasattr(type(estimator), "effective_prior_") and hasattr(estimator, "class_prior_"):
        try:
            return estimator.class_prior_, estimator.effective_prior_
        except AttributeError as error:
            return str(error)
    if labels is None or _params(estimator).get("class_weight") is None:
        return None
    return shares_of(labels, estimator.classes_), find_training_prior(estimator, labels).shares


def _inside(estimator: Any) -> Any:
    """Return the classifier whose probabilities an estimator passes on, if it does."""
    if isinstance(estimator, FrozenEstimator):
        return estimator.estimator
    if hasattr(estimator, "effective_prior_"):
        return None
    if isinstance(estimator, _TRANSPARENT):
        return getattr(estimator, "estimator_", estimator.estimator)
    if hasattr(estimator, "best_estimator_"):  # of a search
        return estimator.best_estimator_
    steps = getattr(estimator, "steps", None)
    if not isinstance(steps, list):
        return None
    return steps[-1][1]


def _of_labels(estimator: Any, labels: Labels | None, origin: str) -> TrainingPrior:
    """Return the shares of the labels, multiplied by class weights."""
    name = type(estimator).__name__
    if labels is None:
        raise _unknown(name, "It was fitted before, so the labels of its fit are not known here.")
    params = {} if isinstance(estimator, CalibratedClassifierCV) else _params(estimator)
    if type(estimator).__module__.partition(".")[0] == "imblearn":
        raise _unknown(name, "It draws other rows than it is given.")
    inner = next(_classifiers(params), None)
    if inner is not None:
        raise _unknown(name, f"It combines classifiers, {type(inner).__name__} among them.")
    for parameter, without in _OTHER_WEIGHTS.items():
        if params.get(parameter) not in without:
            raise _unknown(name, f"It weighs the classes by {parameter}.")
    class_weight = params.get("class_weight")
    classes = estimator.classes_
    shares = shares_of(labels, classes)
    if class_weight is not None and not isinstance(estimator, _CALIBRATE_THEMSELVES):
        if isinstance(class_weight, str):  # "balanced_subsample" of forests
            class_weight = "balanced"
        given = compute_class_weight(class_weight, classes=classes, y=labels.y)
        if class_weight == "balanced" and np.ptp(shares * given) > 1e-6:
            # Some classifiers count rows, and others weights, which differs by their version, too.
            raise _unknown(name, "It has class_weight='balanced' and rows of unequal weights.")
        shares = shares * given
        origin += ", by class_weight"
    return TrainingPrior(shares / shares.sum(), origin)


def _params(estimator: Any) -> dict[str, Any]:
    return estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}


def _classifiers(params: dict[str, Any]) -> Iterator[Any]:
    """Yield the classifiers among the parameters of an estimator, and in lists of them."""
    for value in params.values():
        pairs = value if isinstance(value, list) else [value]
        for entry in pairs:
            part = entry[-1] if isinstance(entry, tuple) and entry else entry
            if hasattr(part, "fit") and is_classifier(part):
                yield part


def _unknown(name: str, reason: str) -> ParameterError:
    return ParameterError(
        "training_prior",
        f"given for this {name}",
        "auto",
        f"{reason} Give the shares of the classes that its probabilities refer to, such as "
        "training_prior='uniform' after balanced training, or 'labels' for the shares of y.",
    )
