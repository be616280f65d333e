"""Decisions of least expected cost."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skimbal.exceptions import ParameterError, warn_caller
from skimbal.habits import explains_names
from skimbal.thresholds.training_prior import Labels, find_shift
from skimbal.thresholds.wrapping import (
    DecidingClassifier,
    check_constraints,
    check_labels,
    check_scores,
    has_method,
    route,
)
from skimbal.typing import ArrayLike, Classifier, ImagesLike, is_number

__all__ = ["CostMatrix", "CostMatrixClassifier", "mean_cost", "resolve_costs"]

#: Costs by the true and the predicted class: a dict of pairs, a DataFrame with the true classes as
#: its index, an array in the order of the classes, or "zero_one".
CostMatrix: TypeAlias = Mapping[tuple[Any, Any], float] | ArrayLike | str


def resolve_costs(cost_matrix: CostMatrix, classes: np.ndarray) -> np.ndarray:
    """Return the costs in the order of the classes, rows for the true class."""
    if isinstance(cost_matrix, str) and cost_matrix == "zero_one":
        return 1 - np.eye(len(classes))
    if isinstance(cost_matrix, Mapping):
        costs = _of_pairs(cost_matrix, classes)
    elif hasattr(cost_matrix, "columns") and hasattr(cost_matrix, "index"):
        costs = _of_frame(cost_matrix, classes)
    else:
        costs = _of_array(cost_matrix, classes)
    if not np.isfinite(costs).all():
        raise ParameterError("cost_matrix", "finite numbers", cost_matrix)
    right = np.diag(costs)
    is_odd = costs <= right[:, None]
    np.fill_diagonal(is_odd, False)
    if is_odd.any():
        true, predicted = np.argwhere(is_odd)[0]
        names = classes.tolist()
        raise ParameterError(
            "cost_matrix",
            "larger for a wrong decision than for the right one",
            cost_matrix,
            f"For rows of the class {names[true]!r}, the decision {names[predicted]!r} costs "
            f"{costs[true, predicted]:g}, and the right decision costs {right[true]:g}. Rows are "
            "the true classes, columns the decisions.",
        )
    return costs


def _of_pairs(given: Mapping[Any, Any], classes: np.ndarray) -> np.ndarray:
    names = classes.tolist()
    pairs = [(true, predicted) for true in names for predicted in names]
    unknown = [pair for pair in given if pair not in pairs]
    missing = [pair for pair in pairs if pair[0] != pair[1] and pair not in given]
    if unknown or missing:
        fault = f"Unknown: {unknown[0]!r}." if unknown else f"Missing: {missing[0]!r}."
        raise ParameterError(
            "cost_matrix",
            f"a dict with a cost for each pair (true class, decision) of {names}",
            given,
            f"{fault} Only right decisions may be left out, which then cost 0.",
        )
    wrong = [value for value in given.values() if not is_number(value)]
    if wrong:
        raise ParameterError("cost_matrix", "finite numbers", wrong[0])
    return np.array([float(given.get(pair, 0)) for pair in pairs]).reshape(len(names), len(names))


def _of_frame(given: Any, classes: np.ndarray) -> np.ndarray:
    names = classes.tolist()
    axes = [axis.tolist() for axis in (given.index, given.columns)]
    if any(len(axis) != len(names) or set(axis) != set(names) for axis in axes):
        raise ParameterError(
            "cost_matrix",
            f"a DataFrame with the classes {names} as its index (true) and columns (decision)",
            axes,
        )
    rows, columns = ([axis.index(name) for name in names] for axis in axes)
    return _of_array(given.to_numpy()[np.ix_(rows, columns)], classes)


def _of_array(given: Any, classes: np.ndarray) -> np.ndarray:
    expected = (
        f"numbers of shape ({len(classes)}, {len(classes)}), with a row for each true class of "
        f"{classes.tolist()}, in this order"
    )
    try:
        costs = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ParameterError("cost_matrix", expected, given) from None
    if costs.shape != (len(classes), len(classes)):
        raise ParameterError("cost_matrix", expected, given)
    return costs


def mean_cost(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    cost_matrix: CostMatrix,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compute the mean cost of decisions.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
        True classes, and decisions.
    cost_matrix : dict, DataFrame, array-like of shape (n_classes, n_classes) or "zero_one"
        As for :class:`CostMatrixClassifier`. The unit of the costs is the unit of the result.
    labels : array-like of shape (n_classes,), default=None
        The classes, in the order of an array of costs. If None, the classes of a dict or of a
        DataFrame, and otherwise the sorted labels of ``y_true`` and ``y_pred``.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights, dimensionless.

    Returns
    -------
    cost : float
        Mean cost of a row, in the unit of the costs. Less is better.

    Raises
    ------
    ParameterError
        If the costs lack a class, or a right decision costs as much as a wrong one.

    Examples
    --------
    A missed tumour costs ten times as much as a false alarm:

    >>> from sklearn.metrics import make_scorer
    >>> from skimbal.thresholds import mean_cost
    >>> costs = {("healthy", "tumour"): 1, ("tumour", "healthy"): 10}
    >>> mean_cost(["healthy", "tumour"], ["healthy", "healthy"], cost_matrix=costs)
    5.0
    >>> scorer = make_scorer(mean_cost, greater_is_better=False, cost_matrix=costs)
    """
    true, predicted = column_or_1d(y_true), column_or_1d(y_pred)
    check_consistent_length(true, predicted, sample_weight)
    classes = _classes_of(cost_matrix, labels, np.concatenate([true, predicted]))
    costs = resolve_costs(cost_matrix, classes)
    names = classes.tolist()
    place = {name: i for i, name in enumerate(names)}
    try:
        rows = [place[label] for label in true.tolist()]
        columns = [place[label] for label in predicted.tolist()]
    except KeyError as error:
        raise ValueError(
            f"y_true and y_pred must hold classes with a cost, {names}; got {error}."
        ) from None
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=float)
    return float(np.average(costs[rows, columns], weights=weight))


def _classes_of(cost_matrix: Any, labels: ArrayLike | None, found: np.ndarray) -> np.ndarray:
    """Return the classes that an order of costs refers to."""
    if labels is not None:
        return np.asarray(labels)
    if isinstance(cost_matrix, Mapping) and all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in cost_matrix
    ):
        return np.array(sorted({name for pair in cost_matrix for name in pair}, key=repr))
    if hasattr(cost_matrix, "index") and hasattr(cost_matrix, "columns"):
        return np.asarray(cost_matrix.index)
    return np.unique(found)


class CostMatrixClassifier(DecidingClassifier):
    r"""Decide for the class of least expected cost.

    The expected cost of a decision :math:`j` for a row is
    :math:`\sum_k P(k \mid x) C_{kj}` (Elkan, 2001). Probabilities must be risks in the population
    of the decisions: after balanced training, correct the prior first
    (:class:`PriorCorrectedClassifier`).

    Parameters
    ----------
    estimator : classifier
        A classifier with ``predict_proba``. ``fit`` fits a clone. A classifier that is fitted
        already is used without ``fit``, or in a :class:`~sklearn.frozen.FrozenEstimator`.
    cost_matrix : dict, DataFrame, array-like of shape (n_classes, n_classes) or "zero_one"
        Cost of each decision, in any unit: a dict ``{(true class, decision): cost}``, in which
        right decisions may be left out and then cost 0, a DataFrame with the true classes as its
        index and the decisions as its columns, or an array with a row for each true class in the
        order of ``classes_``. Right decisions may have negative costs, which are gains.
        ``"zero_one"`` takes 1 for each wrong decision.

    Attributes
    ----------
    estimator_ : classifier
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    costs_ : ndarray of shape (n_classes, n_classes)
        Costs in the order of ``classes_``, with a row for each true class.
    n_features_in_ : int
        Number of features, if the classifier has this attribute.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if the classifier has this attribute.

    Raises
    ------
    ParameterError
        In ``fit`` or ``predict``, if the costs lack a pair of classes, have an unknown class or are
        not finite, or if a right decision costs as much as a wrong one.

    Warns
    -----
    UserWarning
        In ``predict`` and ``decision_function`` without ``fit``, as for ``fit``.

    See Also
    --------
    mean_cost : The mean cost of decisions, for scorers.
    TunedOffsetsClassifierCV : Decisions that maximise a metric of all rows, such as macro F1.

    References
    ----------
    Elkan, C. (2001). The foundations of cost-sensitive learning. IJCAI, 973-978.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skimbal.thresholds import CostMatrixClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> costs = [[0, 1, 1], [1, 0, 1], [1, 20, 0]]  # to call class 2 class 1 is costly
    >>> clf = CostMatrixClassifier(LogisticRegression(C=0.1), cost_matrix=costs).fit(X, y)
    >>> clf.expected_costs(X[[100]]).round(2).shape
    (1, 3)
    >>> plain = clf.estimator_.predict(X)
    >>> bool((clf.predict(X) == 2).sum() > (plain == 2).sum())
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "cost_matrix": [dict, "array-like", StrOptions({"zero_one"})],
    }

    @explains_names
    def __init__(self, estimator: Classifier, *, cost_matrix: CostMatrix) -> None:
        self.estimator = estimator
        self.cost_matrix = cost_matrix

    def fit(self, X: ImagesLike, y: ArrayLike, **params: Any) -> Self:
        """Fit a clone of the classifier.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As for the classifier.
        y : array-like of shape (n_samples,)
            Class labels.
        **params : dict
            Metadata for ``fit`` of the classifier, if metadata routing is enabled.

        Returns
        -------
        self : estimator instance
            The fitted estimator.

        Raises
        ------
        ParameterError
            If ``cost_matrix`` does not fit the classes.

        Warns
        -----
        UserWarning
            If the probabilities refer to other shares of the classes than the training rows, such
            as after balanced batches or with ``class_weight``, or if a network of this package does
            not know the shares.
        """
        check_constraints(self)
        labels = check_labels(X, y)
        resolve_costs(self.cost_matrix, np.unique(labels))
        routed = route(self, params)
        self._adopt(clone(self.estimator).fit(X, labels, **routed.estimator.fit))
        _warn_of_shift(self.estimator_, Labels(labels))
        return self

    @property
    def costs_(self) -> np.ndarray:
        """Costs in the order of ``classes_``, with a row for each true class."""
        return resolve_costs(self.cost_matrix, self.classes_)

    @available_if(has_method("predict_proba"))  # type: ignore[untyped-decorator]
    def expected_costs(self, X: ImagesLike) -> np.ndarray:
        """Compute the expected cost of each decision.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As for the classifier.

        Returns
        -------
        costs : ndarray of shape (n_samples, n_classes)
            In the unit of the costs, a column for each decision in the order of ``classes_``.

        Raises
        ------
        ValueError
            If a probability is not a number.
        """
        proba = check_scores(np.asarray(self.predict_proba(X)), self._inner(), "predict_proba")
        costs: np.ndarray = proba @ self.costs_
        return costs

    def _scores(self, X: ImagesLike) -> np.ndarray:
        if not hasattr(self, "estimator_"):  # fit would have warned
            _warn_of_shift(self.estimator)
        savings: np.ndarray = -self.expected_costs(X)
        return savings


def _warn_of_shift(estimator: Classifier, labels: Labels | None = None) -> None:
    """Warn of probabilities that are no risks, as the training balanced the classes."""
    shift = find_shift(estimator, labels)
    if shift is None:
        return
    if isinstance(shift, str):
        warn_caller(
            f"The probabilities may not be risks, and their expected costs may be wrong. {shift} "
            "Labelled rows tell the prior: PriorCorrectedClassifier(FrozenEstimator(...), "
            "training_prior='estimated')."
        )
        return
    shares, effective = shift
    known = (shares > 0) & (effective > 0)  # partial_fit may not have seen a class yet
    if np.abs(np.log(effective[known] / shares[known])).max() > np.log(1.5):
        warn_caller(
            f"The training rows have the class shares {shares.round(3).tolist()}, and the "
            f"probabilities refer to {effective.round(3).tolist()}, so they are not risks, and "
            "their expected costs are not the costs of these rows. Correct them first: "
            "CostMatrixClassifier(PriorCorrectedClassifier(...), ...)."
        )
