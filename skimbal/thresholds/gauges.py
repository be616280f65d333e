"""Metrics of predictions, for one set of predictions and for all along a line search.

Along a line, rows turn to one class one after the other, so a metric changes by cumulative sums.
The table :data:`OF_CLASSES` has the metrics that are means over the classes, and :data:`OF_SUMS`
the metrics of sums over the classes. Every other scorer is called for each set of predictions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
from sklearn import metrics

from skimbal.thresholds.costs import mean_cost, resolve_costs

__all__ = ["ClassGauge", "RowGauge", "ScorerGauge", "SumGauge", "fast_gauge"]

#: Maps the rows that are predicted right, predicted, and true, of some classes, to their scores.
OfClass: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
#: Maps sums over the classes (rows predicted right, predicted times true rows, squares of the
#: predicted rows), the square of the true rows and the number of rows to a score.
OfSums: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray, float, float], np.ndarray]


@dataclass(frozen=True, eq=False)
class _Rows:
    """True classes and weights of rows, and the vectors of predictions with an entry per class."""

    y: np.ndarray
    weight: np.ndarray
    n_classes: int

    @cached_property
    def true(self) -> np.ndarray:
        """Weight of the rows of each class."""
        return np.bincount(self.y, weights=self.weight, minlength=self.n_classes)

    def vectors(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weight that is predicted right, and predicted, for each class."""
        count = partial(np.bincount, minlength=self.n_classes)
        hits = count(self.y, weights=self.weight * (predicted == self.y))
        return hits, count(predicted, weights=self.weight)


@dataclass(frozen=True, eq=False)
class _Turns:
    """Rows that turn to class ``k`` one after the other, and the vectors after each turn."""

    #: The class that each row leaves.
    old: np.ndarray
    #: Vectors of the class that the row leaves, before and after its turn.
    hits_before: np.ndarray
    hits_after: np.ndarray
    predicted_before: np.ndarray
    predicted_after: np.ndarray
    #: Vectors of class ``k``, of which no row is predicted at first.
    hits_k: np.ndarray
    predicted_k: np.ndarray

    @classmethod
    def of(cls, rows: _Rows, before: np.ndarray, order: np.ndarray, k: int) -> "_Turns":
        """Follow the rows in an order."""
        hits, predicted = rows.vectors(before)
        old, y, weight = before[order], rows.y[order], rows.weight[order]
        lost_hits, lost = weight * (y == old), weight
        by_class = np.argsort(old, kind="stable")
        hits_after, predicted_after = np.empty(len(old)), np.empty(len(old))
        starts = np.searchsorted(old[by_class], np.arange(rows.n_classes))
        for loss, full, after in (
            (lost_hits, hits, hits_after),
            (lost, predicted, predicted_after),
        ):
            total = np.concatenate([[0.0], np.cumsum(loss[by_class])])
            group = old[by_class]
            after[by_class] = full[group] - (total[1:] - total[starts[group]])
        return cls(
            old,
            hits_after + lost_hits,
            hits_after,
            predicted_after + lost,
            predicted_after,
            np.cumsum(weight * (y == k)),
            np.cumsum(weight),
        )


def _along(first: float, changes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return a sum after each number of changes."""
    moved: np.ndarray = first + np.concatenate([[0.0], np.cumsum(changes)])[counts]
    return moved


@dataclass(frozen=True, eq=False)
class ClassGauge:
    """A mean over the classes, with their parts in the mean."""

    metric: OfClass
    parts: np.ndarray
    rows: _Rows
    most_candidates: int | None = None

    def at(self, predicted: np.ndarray) -> float:
        """Return the score of predictions."""
        hits, counts = self.rows.vectors(predicted)
        return float(self.parts @ self.metric(hits, counts, self.rows.true))

    def along(
        self, before: np.ndarray, order: np.ndarray, k: int, counts: np.ndarray
    ) -> np.ndarray:
        """Return the score for each number of rows that are turned to class ``k``."""
        turns = _Turns.of(self.rows, before, order, k)
        true = self.rows.true[turns.old]
        change = self.metric(turns.hits_after, turns.predicted_after, true)
        change = change - self.metric(turns.hits_before, turns.predicted_before, true)
        of_k = self.metric(turns.hits_k, turns.predicted_k, np.full(len(order), self.rows.true[k]))
        none = self.metric(np.zeros(1), np.zeros(1), self.rows.true[[k]])
        score_k = self.parts[k] * (np.concatenate([none, of_k])[counts] - none)
        moved = _along(self.at(before), self.parts[turns.old] * change, counts)
        total: np.ndarray = moved + score_k
        return total


@dataclass(frozen=True, eq=False)
class SumGauge:
    """A metric of sums over the classes."""

    metric: OfSums
    rows: _Rows
    most_candidates: int | None = None

    def at(self, predicted: np.ndarray) -> float:
        """Return the score of predictions."""
        hits, counts = self.rows.vectors(predicted)
        true = self.rows.true
        sums = hits.sum(keepdims=True), (counts * true).sum(keepdims=True)
        squares = (counts**2).sum(keepdims=True)
        return float(self.metric(*sums, squares, float((true**2).sum()), float(true.sum()))[0])

    def along(
        self, before: np.ndarray, order: np.ndarray, k: int, counts: np.ndarray
    ) -> np.ndarray:
        """Return the score for each number of rows that are turned to class ``k``."""
        turns = _Turns.of(self.rows, before, order, k)
        hits, predicted = self.rows.vectors(before)
        true, weight, y = self.rows.true, self.rows.weight[order], self.rows.y[order]
        right = weight * ((y == k).astype(float) - (y == turns.old))
        squares = turns.predicted_after**2 - turns.predicted_before**2
        return self.metric(
            _along(hits.sum(), right, counts),
            _along((predicted * true).sum(), weight * (true[k] - true[turns.old]), counts),
            _along((predicted**2).sum(), squares, counts)
            + np.concatenate([[0.0], turns.predicted_k**2])[counts],
            float((true**2).sum()),
            float(true.sum()),
        )


@dataclass(frozen=True, eq=False)
class RowGauge:
    """A sum over rows of the gain of each decision, of shape (n_rows, n_classes)."""

    gains: np.ndarray
    most_candidates: int | None = None

    def at(self, predicted: np.ndarray) -> float:
        """Return the score of predictions."""
        return float(self.gains[np.arange(len(predicted)), predicted].sum())

    def along(
        self, before: np.ndarray, order: np.ndarray, k: int, counts: np.ndarray
    ) -> np.ndarray:
        """Return the score for each number of rows that are turned to class ``k``."""
        change = self.gains[order, k] - self.gains[order, before[order]]
        moved: np.ndarray = np.concatenate([[0.0], np.cumsum(change)])[counts]
        return self.at(before) + moved


@dataclass(frozen=True, eq=False)
class ScorerGauge:
    """Any scorer, called anew for each set of predictions."""

    call: Callable[[np.ndarray], float]
    most_candidates: int | None = None
    #: Scores of predictions that were scored before.
    known: dict[bytes, float] = field(default_factory=dict)

    def at(self, predicted: np.ndarray) -> float:
        """Return the score of predictions."""
        key = predicted.astype(np.int32).tobytes()
        if key not in self.known:
            self.known[key] = self.call(predicted)
        return self.known[key]

    def along(
        self, before: np.ndarray, order: np.ndarray, k: int, counts: np.ndarray
    ) -> np.ndarray:
        """Return the score for each number of rows that are turned to class ``k``."""
        scores = np.empty(len(counts))
        predicted, n_turned = before.copy(), 0
        for i, count in enumerate(counts):
            if i and count == n_turned:
                scores[i] = scores[i - 1]
                continue
            predicted[order[n_turned:count]] = k
            n_turned = count
            scores[i] = self.at(predicted)
        return scores


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with 0 where there is nothing to divide by."""
    found: np.ndarray = np.divide(part, whole, out=np.zeros_like(part, float), where=whole > 0)
    return found


def _f_beta(
    hits: np.ndarray, predicted: np.ndarray, true: np.ndarray, beta: float = 1.0
) -> np.ndarray:
    return _ratio((1 + beta**2) * hits, predicted + beta**2 * true)


def _precision(hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _ratio(hits, predicted)


def _recall(hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _ratio(hits, true)


def _jaccard(hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _ratio(hits, predicted + true - hits)


def _mcc(
    hits: np.ndarray, products: np.ndarray, squares: np.ndarray, true_squares: float, n: float
) -> np.ndarray:
    spread = (n**2 - squares) * (n**2 - true_squares)
    # Sums of weights round, and one predicted class has no spread.
    spread = np.where(n**2 - squares < 1e-9 * n**2, 0, spread)
    return _ratio(hits * n - products, np.sqrt(np.maximum(spread, 0)))


def _kappa(
    hits: np.ndarray, products: np.ndarray, squares: np.ndarray, true_squares: float, n: float
) -> np.ndarray:
    return _ratio(hits - products / n, n - products / n)


#: Metrics of each class, of which scikit-learn makes a mean, with their options.
OF_CLASSES: dict[object, tuple[Callable[..., np.ndarray], frozenset[str]]] = {
    metrics.f1_score: (_f_beta, frozenset()),
    metrics.fbeta_score: (_f_beta, frozenset({"beta"})),
    metrics.precision_score: (_precision, frozenset()),
    metrics.recall_score: (_recall, frozenset()),
    metrics.jaccard_score: (_jaccard, frozenset()),
}
#: Metrics of sums over the classes.
OF_SUMS: dict[object, OfSums] = {
    metrics.matthews_corrcoef: _mcc,
    metrics.cohen_kappa_score: _kappa,
}


def fast_gauge(
    scorer: object, y: np.ndarray, classes: np.ndarray, weight: np.ndarray | None
) -> ClassGauge | SumGauge | RowGauge | None:
    """Return the metric of a scorer of scikit-learn in closed form, or None if it has none here.

    ``y`` are numbers of classes. The caller compares the values with the scorer.
    """
    function = getattr(scorer, "_score_func", None)
    options: dict[str, Any] = dict(getattr(scorer, "_kwargs", None) or {})
    rows = _Rows(y, np.ones(len(y)) if weight is None else np.asarray(weight, float), len(classes))
    # Metrics that are to be minimised are left to the scorer, costs apart.
    is_cost = function is mean_cost and set(options) == {"cost_matrix"}
    if not rows.true.all() or getattr(scorer, "_sign", None) != (-1 if is_cost else 1):
        return None
    if is_cost:
        costs = resolve_costs(options["cost_matrix"], classes)
        return _row_gauge(-costs[y], rows.weight)
    if function is metrics.accuracy_score and not options:
        return _row_gauge(np.eye(len(classes))[y], rows.weight)
    if function is metrics.balanced_accuracy_score and not options:
        return _row_gauge(np.eye(len(classes))[y], rows.weight / rows.true[y])
    if function in OF_SUMS and not options:
        return SumGauge(OF_SUMS[function], rows)
    return _class_gauge(function, options, rows, classes)


def _row_gauge(gains: np.ndarray, weight: np.ndarray) -> RowGauge:
    return RowGauge(gains * (weight / weight.sum())[:, None])


def _class_gauge(
    function: object, options: dict[str, object], rows: _Rows, classes: np.ndarray
) -> ClassGauge | None:
    """Return a mean over the classes, or None if its options are not known."""
    if function not in OF_CLASSES:
        return None
    of_class, known = OF_CLASSES[function]
    metric = partial(of_class, **{name: options.pop(name) for name in known & set(options)})
    average, positive = options.pop("average", "binary"), options.pop("pos_label", 1)
    if options.pop("zero_division", "warn") not in ("warn", 0) or options:
        return None
    names = classes.tolist()
    if average == "macro":
        return ClassGauge(metric, np.full(len(names), 1 / len(names)), rows)
    if average == "weighted":
        return ClassGauge(metric, rows.true / rows.true.sum(), rows)
    if average == "binary" and len(names) == 2 and positive in names:
        return ClassGauge(metric, np.eye(2)[names.index(positive)], rows)
    return None
