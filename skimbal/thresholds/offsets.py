"""Offsets of the log-probabilities of K classes, tuned for a metric."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Self, TypeAlias, cast

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.metrics import check_scoring, get_scorer_names, make_scorer
from sklearn.model_selection import (
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    check_cv,
)
from sklearn.utils import Bunch, _safe_indexing, indexable
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    _check_method_params,
    check_consistent_length,
    check_is_fitted,
)

from skimbal.exceptions import ParameterError, warn_caller
from skimbal.habits import explains_names
from skimbal.thresholds.costs import CostMatrix, mean_cost
from skimbal.thresholds.gauges import ScorerGauge, fast_gauge
from skimbal.thresholds.search import Fold, Found, Gauge, search, starts_of
from skimbal.thresholds.wrapping import (
    SCORING,
    DecidingClassifier,
    check_constraints,
    check_labels,
    check_same_classes,
    class_scores,
    refuse_path,
    route,
)
from skimbal.typing import ArrayLike, Classifier, ImagesLike, RandomState, Splitter, is_integer

__all__ = ["TunedOffsetsClassifierCV"]

#: Called as ``scorer(estimator, X, y, **metadata)``.
Scorer: TypeAlias = Callable[..., float]
#: Values of one of two offsets that a search tries for a scorer without a closed form.
_MOST_CANDIDATES = 100
#: Random starts of the search for a metric in closed form. Others have none.
_RANDOM_STARTS = 4
#: Line searches that look for pairs of offsets.
_PROBES = 150


class _Predictions(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with known predictions, for a scorer."""

    def __init__(self, classes: np.ndarray, predicted: np.ndarray) -> None:
        self.classes_, self._predicted = classes, predicted

    def predict(self, X: object) -> np.ndarray:
        """Return the predictions."""
        return self._predicted

    def _refuse(self, X: object) -> np.ndarray:
        raise ParameterError(
            "scoring",
            "a score of predicted classes",
            "a scorer of probabilities or of decision_function",
            "Offsets move decisions and leave probabilities as they are. Use a score of "
            "predictions, such as 'balanced_accuracy', 'f1_macro' or 'matthews_corrcoef'.",
        )

    predict_proba = predict_log_proba = decision_function = _refuse


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """The rows of a fold with the scores of a classifier that was not trained on them."""

    X: Any
    y: np.ndarray
    codes: np.ndarray
    scores: np.ndarray
    metadata: Mapping[str, Any]
    groups: np.ndarray | None = None

    def part(self, rows: np.ndarray) -> "_HeldOut":
        """Return some of the rows."""
        metadata = _check_method_params(self.X, self.metadata, indices=rows)
        X = _safe_indexing(self.X, rows)
        groups = None if self.groups is None else self.groups[rows]
        return _HeldOut(X, self.y[rows], self.codes[rows], self.scores[rows], metadata, groups)


@dataclass(frozen=True, eq=False)
class _Tuning:
    """The metric, the classes, the order in which they are tried and their shares."""

    scorer: Scorer
    classes: np.ndarray
    order: list[int]
    prior: np.ndarray

    def best(self, held_out: Sequence[_HeldOut]) -> tuple[list[Fold], Found, list[Found]]:
        """Return the folds by the scorer, the best offsets, and the end of each search."""
        exact = [Fold(rows.scores, self._exact(rows)) for rows in held_out]
        fast = [Fold(rows.scores, self._fast(rows)) for rows in held_out]
        zero = np.zeros(len(self.classes))
        if _agree(exact, fast, zero):
            found, ends = self._search(fast, _RANDOM_STARTS, _PROBES)
            if _agree(exact, fast, found.offsets):
                return exact, found, ends
        return exact, *self._search(exact, 0)

    def cross_fitted(self, held_out: Sequence[_HeldOut]) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of parts whose offsets the others tuned, and without offsets."""
        parts = list(held_out) if len(held_out) > 1 else _parts(held_out[0])
        zero = np.zeros(len(self.classes))
        scores, plain = [], []
        for i, rows in enumerate(parts):
            fold = Fold(rows.scores, self._exact(rows))
            others = [part for j, part in enumerate(parts) if j != i]
            gauges = [self._fast(part) for part in others]
            folds = [Fold(part.scores, gauge) for part, gauge in zip(others, gauges, strict=True)]
            found, _ = self._search(folds, 0)
            scores.append(fold.at(found.offsets))
            plain.append(fold.at(zero))
        return np.array(scores), np.array(plain)

    def _search(
        self, folds: Sequence[Fold], n_random: int, n_probes: int = 0
    ) -> tuple[Found, list[Found]]:
        return search(folds, self.order, list(starts_of(self.prior, n_random)), n_probes)

    def _exact(self, rows: _HeldOut) -> ScorerGauge:
        def call(predicted: np.ndarray) -> float:
            stub = _Predictions(self.classes, self.classes[predicted])
            return float(self.scorer(stub, rows.X, rows.y, **rows.metadata))

        return ScorerGauge(call, 2 * _MOST_CANDIDATES // len(self.classes))

    def _fast(self, rows: _HeldOut) -> Gauge:
        metadata = dict(rows.metadata)
        weight = metadata.pop("sample_weight", None)
        gauge = None
        if not metadata:
            gauge = fast_gauge(self.scorer, rows.codes, self.classes, weight)
        return self._exact(rows) if gauge is None else gauge


def _agree(exact: Sequence[Fold], fast: Sequence[Fold], offsets: np.ndarray) -> bool:
    """Tell whether the closed form is the scorer, at these offsets."""
    return all(
        abs(one.at(offsets) - other.at(offsets)) < 1e-9
        for one, other in zip(exact, fast, strict=True)
    )


def _parts(rows: _HeldOut) -> list[_HeldOut]:
    """Cut rows into up to 5 stratified parts with all classes, groups whole, or into none."""
    groups = np.arange(len(rows.y)) if rows.groups is None else rows.groups
    least = min(len(np.unique(groups[rows.codes == k])) for k in np.unique(rows.codes))
    for n_parts in range(min(5, least), 1, -1):
        cut = _cutter(n_parts, rows.groups).split(np.zeros(len(rows.y)), rows.codes, rows.groups)
        parts = [rows.part(part) for _, part in cut]
        if all(len(np.unique(part.codes)) == len(np.unique(rows.codes)) for part in parts):
            return parts
    return []


def _cutter(n_parts: int, groups: np.ndarray | None) -> StratifiedKFold | StratifiedGroupKFold:
    return StratifiedKFold(n_parts) if groups is None else StratifiedGroupKFold(n_parts)


def _held_out(
    estimator: Classifier,
    X: Any,
    y: np.ndarray,
    methods: Sequence[str],
    metadata: Mapping[str, Any],
    groups: np.ndarray | None,
) -> _HeldOut:
    """Return rows with the scores of a classifier."""
    check_same_classes(estimator, y)
    codes = np.searchsorted(estimator.classes_, y)
    return _HeldOut(X, y, codes, class_scores(estimator, X, methods), metadata, groups)


def _fit_and_score(
    estimator: Classifier,
    X: Any,
    y: np.ndarray,
    split: tuple[np.ndarray, np.ndarray],
    methods: Sequence[str],
    routed: Bunch,
) -> tuple[Classifier, _HeldOut]:
    """Train on one side of a split, and compute the scores of the other side."""
    train, test = split
    fit_params = _check_method_params(X, routed.estimator.fit, indices=train)
    estimator.fit(_safe_indexing(X, train), y[train], **fit_params)
    metadata = _check_method_params(X, routed.scorer.score, indices=test)
    groups = routed.splitter.split.get("groups")
    of_test = None if groups is None else np.asarray(groups)[test]
    return estimator, _held_out(
        estimator, _safe_indexing(X, test), y[test], methods, metadata, of_test
    )


class TunedOffsetsClassifierCV(DecidingClassifier):
    r"""Decide by log-probabilities plus an offset for each class, tuned for a metric.

    The decision for a row is the class with the largest :math:`\log P(k \mid x) + o_k`. The offsets
    :math:`o_k` maximise ``scoring`` on rows that the classifier was not trained on. This is
    :class:`~sklearn.model_selection.TunedThresholdClassifierCV` for any number of classes: for two
    classes, the offsets are a threshold. Probabilities stay as they are.

    Parameters
    ----------
    estimator : classifier
        A classifier with ``predict_proba`` or ``decision_function``, fitted if ``cv="prefit"``.
    scoring : str, callable or cost matrix, default="balanced_accuracy"
        The score to maximise: a name of scikit-learn, a callable ``scorer(estimator, X, y)``, or
        the costs of :class:`CostMatrixClassifier`, of which the mean is minimised. The score must
        depend on predicted classes only. A scorer of probabilities is refused.
    response_method : {"auto", "predict_proba", "decision_function"}, default="auto"
        The scores that offsets are added to: the logarithm of ``predict_proba``, or
        ``decision_function`` as it is. ``"auto"`` is the first of these that the classifier has.
    cv : int, float, splitter, iterable or "prefit", default=None
        The rows that tune: folds (None for 5, or a number), stratified, a share of the rows in
        (0, 1), stratified, a splitter or splits, or all rows for a classifier that is fitted
        already (``"prefit"``). Prefit needs rows that the classifier was not trained on.
    refit : bool, default=True
        Whether ``estimator_`` is trained on all rows. False needs a single split, and must be set
        for ``cv="prefit"``.
    n_jobs : int, default=None
        Number of folds that train at the same time, as in scikit-learn.
    random_state : int, RandomState instance or None, default=None
        Seed of the split if ``cv`` is a share.
    store_cv_results : bool, default=False
        Whether to keep ``cv_results_``.

    Attributes
    ----------
    estimator_ : classifier
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    offsets_ : ndarray of shape (n_classes,)
        Offset of each class in the order of ``classes_``, dimensionless (natural logarithm), or in
        the unit of ``decision_function``. The most frequent class of ``y`` has the offset 0. All
        are 0 if no other offsets have a better score.
    offset_of_class_ : dict
        The same, by class label.
    best_score_ : float
        Mean score over the folds with the offsets, on the rows that tuned them, so it is
        optimistic.
    score_without_offsets_ : float
        Mean score over the folds without offsets.
    cross_fitted_score_ : float
        Mean score over the folds, each with offsets that the other folds tuned. With a single split
        or ``cv="prefit"``, up to 5 stratified parts of the rows take the place of folds, with the
        rows of a group in one part. If it is not above ``score_without_offsets_``, the offsets
        follow noise. NaN if a class has a single row, or group, to tune with.
    cv_results_ : dict
        Only if ``store_cv_results=True``: scores of each fold (``"fold_scores"``,
        ``"fold_scores_without_offsets"``), and the offsets at which the search from each start
        ended (``"offsets"``) with their ``"mean_scores"``.
    n_features_in_ : int
        Number of features, if the classifier has this attribute.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if the classifier has this attribute.

    See Also
    --------
    CostMatrixClassifier : Decisions by costs and risks, without tuning.
    PriorCorrectedClassifier : Probabilities for another prior.

    Notes
    -----
    The score is constant between breakpoints, at which a row changes its class. The search takes
    one class after the other and tries all intervals between its breakpoints, until no class
    improves, from several starts: zeros, offsets that balance the classes, and random ones with a
    fixed seed. For two classes it is exact. Of equal scores, the offsets closest to 0 win, in the
    middle of their plateau. It is exact and fast for accuracy, balanced accuracy, F-beta,
    precision, recall, Jaccard, MCC, Cohen's kappa and costs. For other scorers a line search tries
    at most ``200 / n_classes`` of the intervals.

    Each fold counts equally, as in scikit-learn. Offsets for a class with a handful of rows follow
    the noise of these rows: compare ``cross_fitted_score_`` with ``score_without_offsets_``.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skimbal.thresholds import TunedOffsetsClassifierCV
    >>> X, y = make_classification(
    ...     600, n_classes=3, n_informative=4, weights=[0.8, 0.15], random_state=0
    ... )
    >>> clf = TunedOffsetsClassifierCV(LogisticRegression(), scoring="f1_macro").fit(X, y)
    >>> list(clf.offset_of_class_)
    [0, 1, 2]
    >>> clf.best_score_ > clf.score_without_offsets_
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": SCORING,
        "scoring": [StrOptions(set(get_scorer_names())), callable, dict, "array-like"],
        "response_method": [StrOptions({"auto", "predict_proba", "decision_function"})],
        "cv": [
            "cv_object",
            StrOptions({"prefit"}),
            Interval(RealNotInt, 0.0, 1.0, closed="neither"),
        ],
        "refit": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "store_cv_results": ["boolean"],
    }

    _scored_by = ("predict_proba", "decision_function")

    offsets_: np.ndarray

    @explains_names
    def __init__(
        self,
        estimator: Classifier,
        *,
        scoring: str | Scorer | CostMatrix = "balanced_accuracy",
        response_method: str = "auto",
        cv: float | str | Splitter | Iterable[Any] | None = None,
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        store_cv_results: bool = False,
    ) -> None:
        self.estimator = estimator
        self.scoring = scoring
        self.response_method = response_method
        self.cv = cv
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.store_cv_results = store_cv_results

    def fit(self, X: ImagesLike, y: ArrayLike, **params: Any) -> Self:
        """Train the classifier in each fold, tune the offsets, and train on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As for the classifier.
        y : array-like of shape (n_samples,)
            Class labels.
        **params : dict
            ``groups`` for a splitter, and for the parts of a single split. With metadata routing,
            any metadata for the classifier, the splitter and the scorer.

        Returns
        -------
        self : estimator instance
            The fitted estimator.

        Raises
        ------
        ParameterError
            If a parameter cannot be used, or ``cv`` has more folds than a class has rows.
        ValueError
            If a class is missing on one side of a split, or y does not fit a fitted classifier.

        Warns
        -----
        UserWarning
            If the offsets lower the score of rows that did not tune them (``cross_fitted_score_``)
            by more than its standard error.
        """
        check_constraints(self)
        refuse_path(X)
        X, y = indexable(X, y)
        labels = check_labels(X, y)
        routed = self._routed(params)
        if isinstance(self.cv, str):  # an array of splits has no truth value
            held_out = self._of_prefit(X, labels, routed)
        else:
            held_out = self._of_splits(X, labels, routed)
        self._tune(held_out, labels)
        names = self.classes_.tolist()
        self.offset_of_class_ = dict(zip(names, self.offsets_.tolist(), strict=True))
        return self

    # Inside ----------------------------------------------------------------------------------

    def _methods(self) -> list[str]:
        if self.response_method == "auto":
            return ["predict_proba", "decision_function"]
        return [self.response_method]

    def _scores(self, X: ImagesLike) -> np.ndarray:
        check_is_fitted(self, "offsets_")
        moved: np.ndarray = class_scores(self.estimator_, X, self._methods()) + self.offsets_
        return moved

    def _add_routes(self, router: MetadataRouter) -> MetadataRouter:
        """Add the splitter and the scorer, too."""
        router = super()._add_routes(router)
        mapping = MethodMapping().add(caller="fit", callee="split")
        router = router.add(splitter=self.cv, method_mapping=mapping)
        mapping = MethodMapping().add(caller="fit", callee="score")
        return router.add(scorer=self._scorer(), method_mapping=mapping)

    def _scorer(self) -> Scorer:
        scoring = self.scoring
        if not isinstance(scoring, str) and not callable(scoring):
            of_costs = make_scorer(mean_cost, greater_is_better=False, cost_matrix=scoring)
            return cast(Scorer, of_costs)
        scorer: Scorer = check_scoring(self.estimator, scoring=scoring)
        method = getattr(scorer, "_response_method", "predict")
        if method != "predict":
            raise ParameterError(
                "scoring",
                "a score of predicted classes",
                scoring,
                f"This score is computed from {method}, which offsets leave as it is. Use "
                "'balanced_accuracy', 'f1_macro' or 'matthews_corrcoef', for example.",
            )
        return scorer

    def _routed(self, params: Mapping[str, Any]) -> Bunch:
        """Return metadata by receiver. Without routing, only a splitter gets groups."""
        params = dict(params)
        if get_config()["enable_metadata_routing"]:
            return route(self, params)
        groups = params.pop("groups", None)
        routed = route(self, params)
        split = {} if groups is None else {"groups": groups}
        return Bunch(
            estimator=routed.estimator, splitter=Bunch(split=split), scorer=Bunch(score={})
        )

    def _of_prefit(self, X: ImagesLike, y: np.ndarray, routed: Bunch) -> list[_HeldOut]:
        if self.refit:
            raise ParameterError("refit", "False with cv='prefit'", self.refit)
        try:
            check_is_fitted(self.estimator)
        except NotFittedError:
            raise NotFittedError("estimator must be fitted with cv='prefit'.") from None
        check_same_classes(self.estimator, y)
        self._adopt(self.estimator)
        groups = routed.splitter.split.get("groups")
        if groups is not None:
            check_consistent_length(y, groups)
            groups = np.asarray(groups)
        return [_held_out(self.estimator, X, y, self._methods(), routed.scorer.score, groups)]

    def _of_splits(self, X: ImagesLike, y: np.ndarray, routed: Bunch) -> list[_HeldOut]:
        """Return the held-out rows of each fold, and keep the classifier of all rows."""
        splits = self._splits(X, y, routed.splitter.split)
        fits = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_and_score)(clone(self.estimator), X, y, split, self._methods(), routed)
            for split in splits
        )
        held_out = [rows for _, rows in fits]
        if self.refit:
            final = clone(self.estimator).fit(X, y, **routed.estimator.fit)
        else:
            final = fits[0][0]
        check_same_classes(final, y)  # which a fitted classifier in a FrozenEstimator may not have
        self._adopt(final)
        return held_out

    def _splits(
        self, X: ImagesLike, y: np.ndarray, metadata: Mapping[str, Any]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the splits, each with every class on both sides."""
        classes, counts = np.unique(y, return_counts=True)
        rarest, least = classes[counts.argmin()], int(counts.min())
        if isinstance(self.cv, float):
            cv = StratifiedShuffleSplit(1, test_size=self.cv, random_state=self.random_state)
        else:
            cv = check_cv(self.cv, y=y, classifier=True)
        if (self.cv is None or is_integer(self.cv)) and cv.n_splits > least:
            raise ParameterError(
                "cv",
                f"at most {least}, the number of rows of the class {rarest.item()!r}",
                cv.n_splits,
                "Use fewer folds, or more rows of this class.",
            )
        splits = list(cv.split(X, y, **metadata))
        if not self.refit and len(splits) > 1:
            raise ParameterError("refit", "True if cv has several folds", self.refit)
        for number, sides in enumerate(splits, 1):
            for side, rows in zip(("training", "held-out"), sides, strict=True):
                missing = np.setdiff1d(classes, y[rows])
                if len(missing):
                    raise ValueError(
                        f"cv must leave every class on both sides of each split; got split "
                        f"{number}, whose {side} rows lack the class {missing[0].item()!r}. Use "
                        "fewer folds, or a stratified splitter such as StratifiedGroupKFold."
                    )
        return splits

    def _tune(self, held_out: Sequence[_HeldOut], y: np.ndarray) -> None:
        """Find the offsets, and the scores with and without them."""
        counts = np.unique(y, return_counts=True)[1]
        order = np.argsort(counts, kind="stable").tolist()  # rare classes first
        tuning = _Tuning(self._scorer(), self.classes_, order, counts / counts.sum())
        zero = np.zeros(len(self.classes_))
        with warnings.catch_warnings():
            # A class that is never predicted, which the search passes by.
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            folds, found, ends = tuning.best(held_out)
            with_offsets = [fold.at(found.offsets) for fold in folds]
            without = [fold.at(zero) for fold in folds]
            self.offsets_, self.best_score_ = found.offsets, float(np.mean(with_offsets))
            self.score_without_offsets_ = float(np.mean(without))
            fitted, plain = tuning.cross_fitted(held_out)
        self.cross_fitted_score_ = float(fitted.mean()) if len(fitted) else np.nan
        if self.store_cv_results:
            self.cv_results_ = {
                "fold_scores": np.array(with_offsets),
                "fold_scores_without_offsets": np.array(without),
                "offsets": np.array([end.offsets for end in ends]),
                "mean_scores": np.array([end.score for end in ends]),
            }
        if found.offsets.any():
            _warn_of_harm(fitted, plain)


def _warn_of_harm(fitted: np.ndarray, plain: np.ndarray) -> None:
    """Warn if offsets lower the score of rows that did not tune them, by more than one error."""
    if len(fitted) and (plain - fitted).mean() > np.std(plain - fitted, ddof=1) / len(plain) ** 0.5:
        warn_caller(
            "The offsets do not help on rows that did not tune them: the score there is "
            f"{fitted.mean():.4g} with offsets and {plain.mean():.4g} without. They follow the "
            "noise of few rows. Use the estimator without offsets, or more rows."
        )
