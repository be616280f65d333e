"""What the classifiers that decide by the scores of another classifier share."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch, Tags, assert_all_finite, get_tags
from sklearn.utils._param_validation import HasMethods, StrOptions, make_constraint
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_response_method,
    _num_samples,
    check_is_fitted,
    column_or_1d,
)

from skimbal.exceptions import ParameterError
from skimbal.habits import advice_on_value
from skimbal.typing import ArrayLike, Classifier, ImagesLike

__all__ = [
    "SCORING",
    "DecidingClassifier",
    "adopt_features",
    "by_name",
    "check_constraints",
    "check_labels",
    "check_same_classes",
    "check_scores",
    "class_scores",
    "has_method",
    "log_probabilities",
    "refuse_path",
    "route",
]


class Constrained(Protocol):
    """An estimator with scikit-learn's constraints of its parameters."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]


#: The constraint of an estimator that gives scores.
SCORING = [HasMethods(["fit", "predict_proba"]), HasMethods(["fit", "decision_function"])]


class has_method:
    """Tell whether the wrapped estimator has a method, for ``available_if``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, wrapper: "DecidingClassifier") -> bool:
        """Raise an AttributeError of the estimator if it lacks the method."""
        getattr(wrapper._inner(), self.name)
        return True


def _can_decide(wrapper: "DecidingClassifier") -> bool:
    """Tell whether the wrapped estimator gives scores, for ``available_if``."""
    inner = wrapper._inner()
    if not any(hasattr(inner, name) for name in wrapper._scored_by):
        raise AttributeError(f"{inner!r} has no {' or '.join(wrapper._scored_by)}.")
    return True


class DecidingClassifier(
    ClassifierMixin,  # type: ignore[misc]
    MetaEstimatorMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """A classifier that decides by the scores of another classifier.

    Parameters
    ----------
    estimator : classifier
        The classifier that gives the scores.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]]

    #: Methods of the wrapped classifier that can give the scores.
    _scored_by: ClassVar[tuple[str, ...]] = ("predict_proba",)

    estimator: Classifier
    estimator_: Classifier

    @property
    def classes_(self) -> np.ndarray:
        """Class labels, in the order of the columns of ``predict_proba``."""
        return self._inner().classes_

    def _inner(self) -> Classifier:
        """Return the estimator that predicts: the one of the fit, or the given one."""
        fitted: Classifier = getattr(self, "estimator_", self.estimator)
        return fitted

    @available_if(has_method("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ImagesLike) -> np.ndarray:
        """Compute the probability of each class, which decisions leave unchanged.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As for the wrapped classifier.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities, dimensionless, in the order of ``classes_``.
        """
        check_predicting(self)
        return self._proba(X)

    @available_if(has_method("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: ImagesLike) -> np.ndarray:
        """Compute the logarithm of the probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As for the wrapped classifier.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Natural logarithms, dimensionless, in the order of ``classes_``.
        """
        check_predicting(self)
        return self._log_proba(X)

    def predict(self, X: ImagesLike) -> np.ndarray:
        """Decide for the class with the largest score.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As for the wrapped classifier.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Class labels.
        """
        check_predicting(self)
        best = self._scores(X).argmax(axis=1)
        labels: np.ndarray = self.classes_[best]
        return labels

    @available_if(_can_decide)  # type: ignore[untyped-decorator]
    def decision_function(self, X: ImagesLike) -> np.ndarray:
        """Compute the score of each class, which ``predict`` maximises.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As for the wrapped classifier.

        Returns
        -------
        score : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Scores in the order of ``classes_``. For two classes, the score of ``classes_[1]`` minus
            the score of ``classes_[0]``. Log-probabilities, with offsets if there are any, are
            dimensionless. Expected costs are negative, in the unit of the costs.
        """
        check_predicting(self)
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of metadata.

        Returns
        -------
        routing : MetadataRouter
            As scikit-learn reads it.
        """
        return self._add_routes(MetadataRouter(owner=self))

    def __sklearn_tags__(self) -> Tags:
        """Return the abilities: any input that the wrapped classifier takes."""
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator).input_tags
        tags.input_tags.sparse = inner.sparse
        tags.input_tags.three_d_array = inner.three_d_array
        tags.input_tags.allow_nan = inner.allow_nan
        return tags

    def _proba(self, X: ImagesLike) -> np.ndarray:
        _refuse_letters(self._inner(), X)
        proba: np.ndarray = self._inner().predict_proba(X)
        return proba

    def _log_proba(self, X: ImagesLike) -> np.ndarray:
        return log_probabilities(self._inner(), X)

    def _scores(self, X: ImagesLike) -> np.ndarray:
        """Return a score of each class, of which the largest decides."""
        raise NotImplementedError

    def _add_routes(self, router: MetadataRouter) -> MetadataRouter:
        """Add the receivers of the metadata of ``fit``."""
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def _adopt(self, estimator: Classifier) -> Self:
        """Keep a fitted estimator, with what scikit-learn asks of its input."""
        self.estimator_ = estimator
        adopt_features(self, estimator)
        return self


def check_constraints(wrapper: Constrained) -> None:
    """Refuse a parameter that meets none of its constraints."""
    for name, constraints in wrapper._parameter_constraints.items():
        value = getattr(wrapper, name)
        if not any(make_constraint(one).is_satisfied_by(value) for one in constraints):
            words = ", or ".join(map(_in_words, constraints))
            known = [n for one in constraints if isinstance(one, StrOptions) for n in one.options]
            raise ParameterError(name, words, value, advice_on_value(name, value, known))


def _in_words(constraint: object) -> str:
    """Return a constraint in words, with names in an order that is always the same."""
    if isinstance(constraint, StrOptions):
        return f"one of {', '.join(map(repr, sorted(constraint.options)))}"
    return str(make_constraint(constraint))


def adopt_features(wrapper: object, estimator: object) -> None:
    """Keep what a fitted estimator knows of the columns of its input."""
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(estimator, name):
            setattr(wrapper, name, getattr(estimator, name))


def check_predicting(wrapper: DecidingClassifier) -> None:
    """Refuse a prediction if neither the wrapper nor its estimator is fitted."""
    if not hasattr(wrapper, "estimator_"):
        try:
            check_is_fitted(wrapper.estimator)
        except NotFittedError:
            raise NotFittedError(
                f"This {type(wrapper).__name__} is not fitted yet, and neither is its estimator. "
                "Call fit first."
            ) from None


def route(wrapper: DecidingClassifier, params: Mapping[str, Any]) -> Bunch:
    """Return the metadata of a fit by receiver."""
    if params and not get_config()["enable_metadata_routing"]:
        raise ValueError(
            f"{', '.join(params)} must be routed; got it without metadata routing. Call "
            "sklearn.set_config(enable_metadata_routing=True), and set_fit_request of the "
            f"classifier in this {type(wrapper).__name__}."
        )
    return process_routing(wrapper, "fit", **params)


def check_labels(X: ImagesLike, y: ArrayLike) -> np.ndarray:
    """Return the labels as an array with one entry per row of X."""
    refuse_path(X)
    labels: np.ndarray = column_or_1d(y, warn=True)
    assert_all_finite(labels, input_name="y")
    check_classification_targets(labels)
    if _num_samples(X) != len(labels):
        raise ValueError(
            f"X and y must have the same number of rows; got {_num_samples(X)} and {len(labels)}."
        )
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"y must have at least two classes; got one class in {len(labels)} rows, n_samples = "
            f"{len(labels)}. A decision needs two."
        )
    return labels


def check_same_classes(estimator: Classifier, y: np.ndarray, needs_all: bool = True) -> None:
    """Refuse labels of other classes than those of a fitted estimator."""
    known, found = estimator.classes_.tolist(), np.unique(y).tolist()
    if known != np.unique(estimator.classes_).tolist():
        raise ValueError(
            f"classes_ of {type(estimator).__name__} must be sorted, as in scikit-learn; got "
            f"{known}."
        )
    unknown = [label for label in found if label not in known]
    if unknown:
        raise ValueError(
            f"y must hold classes of the fitted estimator, {known}; got the class "
            f"{unknown[0]!r}. Fit the estimator with all classes."
        )
    missing = [label for label in known if label not in found]
    if missing and needs_all:
        raise ValueError(
            f"y must hold each class of the fitted estimator, {known}; got no row of the class "
            f"{missing[0]!r}. Add rows of this class."
        )


def by_name(
    name: str, given: Mapping[Any, object], classes: np.ndarray, remedy: str
) -> list[object]:
    """Return the values of a dict in the order of the classes, each of which must have one."""
    known = classes.tolist()
    unknown = [key for key in given if key not in known]
    missing = [label for label in known if label not in given]
    if unknown or missing:
        fault = f"unknown: {unknown}" if unknown else f"missing: {missing}"
        raise ParameterError(
            name, f"a dict with one entry for each class of {known}", given, f"{fault}. {remedy}"
        )
    return [given[label] for label in known]


def _refuse_letters(estimator: Classifier, X: ImagesLike) -> None:
    """Refuse a path that no classifier of images gets as it is.

    Classifiers of scikit-learn count the letters of a text, and give each of them a row.
    """
    while isinstance(estimator, DecidingClassifier | FrozenEstimator):
        is_frozen = isinstance(estimator, FrozenEstimator)
        estimator = estimator.estimator if is_frozen else estimator._inner()
    if not hasattr(estimator, "input_"):
        refuse_path(X)


def refuse_path(X: ImagesLike) -> None:
    """Refuse a path in the place of rows, of which scikit-learn counts the letters."""
    if isinstance(X, str | os.PathLike):
        raise TypeError(
            f"X must be a list of paths, one for each row; got {os.fspath(X)!r}. Pass [path] for "
            "one image, or skimbal.images.list_images(folder) for the images of a folder. fit "
            "takes images with their labels, such as X and y of "
            "skimbal.datasets.load_image_folder."
        )


def log_probabilities(estimator: Classifier, X: ImagesLike) -> np.ndarray:
    """Return log-probabilities, which are finite where probabilities underflow if they can be."""
    _refuse_letters(estimator, X)
    with np.errstate(divide="ignore"):
        if hasattr(estimator, "predict_log_proba"):
            found = np.asarray(estimator.predict_log_proba(X))
        else:
            found = np.log(np.asarray(estimator.predict_proba(X)))
    return check_scores(found, estimator, "predict_proba")


def class_scores(estimator: Classifier, X: ImagesLike, methods: Sequence[str]) -> np.ndarray:
    """Return a score of each class by the first method that the estimator has."""
    method = _check_response_method(estimator, list(methods))
    if method.__name__ == "predict_proba":
        return log_probabilities(estimator, X)
    _refuse_letters(estimator, X)
    found = np.asarray(method(X))
    if found.ndim == 1 and len(estimator.classes_) == 2:
        found = np.stack([np.zeros_like(found), found], axis=1)
    return check_scores(found, estimator, method.__name__)


def check_scores(scores: np.ndarray, estimator: Classifier, method: str) -> np.ndarray:
    """Refuse scores that are not numbers, or not one for each class."""
    n_classes = len(estimator.classes_)
    if scores.ndim != 2 or scores.shape[1] != n_classes:
        raise ValueError(
            f"{method} of {type(estimator).__name__} must give one column for each of the "
            f"{n_classes} classes; got the shape {scores.shape}."
        )
    is_bad = np.isnan(scores).any(axis=1) | (scores == np.inf).any(axis=1)
    if is_bad.any():
        row = int(np.flatnonzero(is_bad)[0])
        raise ValueError(
            f"{method} of {type(estimator).__name__} must give numbers; got "
            f"{scores[row].tolist()} for row {row}."
        )
    found: np.ndarray = scores.astype(np.float64, copy=False)
    return found
