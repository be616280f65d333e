"""Scores of weighted rows, for many weights at once.

A weight is the number of times that a row counts. All rows once give the scores of the rows, and
the counts of a bootstrap sample give its scores.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

__all__ = [
    "CLASS_SCORES",
    "OVERALL_SCORES",
    "RULE_SCORES",
    "Above",
    "Ranking",
    "confusions",
    "count_scores",
    "leave_out",
    "probability_scores",
    "ratio",
    "row_losses",
]

#: Scores of each class, with their titles.
CLASS_SCORES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "npv": "NPV",
    "f1": "F1",
    "roc_auc": "AUC",
    "average_precision": "AP",
}
#: Scores of all classes together, with their titles.
OVERALL_SCORES = {
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
    "matthews_corrcoef": "MCC",
    "accuracy": "accuracy",
    "roc_auc_ovr": "AUC",
    "log_loss": "log-loss",
    "brier_score": "Brier",
}
#: Scores that depend on the rule of decision. The others depend on the probabilities alone.
RULE_SCORES = ("sensitivity", "specificity", "precision", "npv", "f1") + (
    ("balanced_accuracy", "f1_macro", "matthews_corrcoef", "accuracy")
)


def confusions(
    truth: np.ndarray, decided: np.ndarray, n_classes: int, weights: np.ndarray
) -> np.ndarray:
    """Add up weights of shape (n, b) to confusion matrices of shape (b, K, K), true by row."""
    n, n_weights = weights.shape
    cells = (np.ones(n), (truth * n_classes + decided, np.arange(n)))
    sums = sparse.csr_array(cells, shape=(n_classes**2, n)) @ weights
    matrices: np.ndarray = np.asarray(sums, float).T.reshape(n_weights, n_classes, n_classes)
    return matrices


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide, with NaN for 0 / 0."""
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    ratio: np.ndarray = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
    return ratio


def _mean_of_defined(scores: np.ndarray) -> np.ndarray:
    """Return the mean over classes that have a score, or NaN where no class has one."""
    defined = ~np.isnan(scores)
    return ratio(np.where(defined, scores, 0).sum(-1), defined.sum(-1))


def count_scores(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores of confusion matrices of shape (b, K, K).

    A score without a row to count is NaN, such as the sensitivity of a class that is absent. Means
    are over the classes that have a score, as scikit-learn takes them.
    """
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    true, given = matrices.sum(2), matrices.sum(1)  # (b, K) each
    n = matrices.sum((1, 2))
    others = n[:, None] - true
    rejected = others - (given - hits)
    recall, f1 = ratio(hits, true), ratio(2 * hits, true + given)
    # Gorodkin (2004). Where all rows are of one class, or taken for one, scikit-learn returns 0.
    covariance = hits.sum(1) * n - (true * given).sum(1)
    spread = np.sqrt((n**2 - (true**2).sum(1)) * (n**2 - (given**2).sum(1)))
    mcc = np.divide(covariance, spread, out=np.zeros(len(n)), where=spread > 0)
    return {
        "sensitivity": recall,
        "specificity": ratio(rejected, others),
        "precision": ratio(hits, given),
        "npv": ratio(rejected, n[:, None] - given),
        "f1": f1,
        "balanced_accuracy": _mean_of_defined(recall),
        "f1_macro": _mean_of_defined(f1),
        "matthews_corrcoef": np.where(n > 0, mcc, np.nan),
        "accuracy": ratio(hits.sum(1), n),
    }


#: Scores of a class that a sample without a row of the class does not have, and means over classes.
_OF_PRESENT = ("sensitivity", "precision", "f1", "roc_auc", "average_precision")
_OF_ALL_PRESENT = ("balanced_accuracy", "f1_macro", "matthews_corrcoef", "roc_auc_ovr")


def leave_out(score: str, values: np.ndarray, is_absent: np.ndarray) -> np.ndarray:
    """Put NaN where samples lack classes that the rows have, of shape (b, K)."""
    if score in _OF_PRESENT:
        return np.where(is_absent, np.nan, values)
    return np.where(is_absent.any(1), np.nan, values) if score in _OF_ALL_PRESENT else values


class Above(NamedTuple):
    """Weights of the rows from each probability of a row of the class on, of shape (m, b).

    ``hits`` are of the class, ``taken`` are all, and ``tied`` are the other rows of the very
    probability. ``total``, of shape (b,), are all rows.
    """

    hits: np.ndarray
    taken: np.ndarray
    tied: np.ndarray
    total: np.ndarray


class Ranking:
    """Rows in the order of the probability of a class, for its thresholds and areas under curves.

    Parameters
    ----------
    is_class : ndarray of bool of shape (n,)
        Whether a row is of the class.
    probability : ndarray of shape (n,)
        Probability of the class.
    """

    def __init__(self, is_class: np.ndarray, probability: np.ndarray) -> None:
        self._order = np.argsort(-probability, kind="stable")
        ordered, found = probability[self._order], is_class[self._order]
        # Runs of equal probabilities, which no threshold divides. Runs with a row of the class are
        # all that an area needs.
        begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        ends = np.append(begins[1:], len(ordered))
        has_class = np.add.reduceat(found, begins) > 0
        self._begins, self._ends = begins[has_class], ends[has_class]
        #: The probabilities of rows of the class, the highest first, of shape (m,).
        self.thresholds = ordered[self._begins]
        self._rows = self._order[found]
        n_in_run = np.add.reduceat(found, begins)[has_class]
        self._runs = np.cumsum(n_in_run) - n_in_run

    def count(self, weights: np.ndarray) -> Above:
        """Add up weights of shape (n, b)."""
        # Sums of counts are exact in float32 up to 16 million rows.
        above = np.cumsum(weights[self._order], axis=0)
        total = above[-1].astype(float)
        if not len(self._rows):
            nothing = np.empty((0, weights.shape[1]))
            return Above(nothing, nothing, nothing, total)
        new_hits = np.add.reduceat(weights[self._rows], self._runs, axis=0).astype(float)
        taken = above[self._ends - 1].astype(float)
        is_first = self._begins == 0
        before = np.where(is_first[:, None], 0, above[self._begins - 1]).astype(float)
        return Above(np.cumsum(new_hits, axis=0), taken, taken - before - new_hits, total)


def _areas(above: Above) -> tuple[np.ndarray, np.ndarray]:
    """Return the area under the ROC curve and the average precision, of shape (b,)."""
    hits, taken, tied, total = above
    if not len(hits):
        return np.full(len(total), np.nan), np.full(len(total), np.nan)
    new_hits = np.diff(hits, axis=0, prepend=0)
    # A tie of a row of the class and a row of another class counts half.
    n_hits, alarms = hits[-1], taken - hits
    area = (new_hits * (total - n_hits - alarms + tied / 2)).sum(0)
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    average = ratio((new_hits * precision).sum(0), n_hits)
    return ratio(area, n_hits * (total - n_hits)), average


def probability_scores(
    above: list[Above], losses: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute the scores of probabilities, with the losses of each row of shape (2, n)."""
    areas = np.array([_areas(of_class) for of_class in above])  # (K, 2, b)
    roc_auc, average_precision = areas.transpose(1, 2, 0)
    log_loss, brier = losses @ weights / weights.sum(0, dtype=float)
    return {
        "roc_auc": roc_auc,
        "average_precision": average_precision,
        "roc_auc_ovr": _mean_of_defined(roc_auc),
        "log_loss": log_loss,
        "brier_score": brier,
    }


def row_losses(truth: np.ndarray, proba: np.ndarray, least: float) -> np.ndarray:
    """Return the log-loss and the Brier score of each row, of shape (2, n).

    Probabilities below ``least`` count as such. The Brier score is halved for two classes, so that
    it is the squared error of the probability of one class.
    """
    n, n_classes = proba.shape
    one_hot = truth[:, None] == np.arange(n_classes)
    log_loss = -np.log(np.clip(proba[np.arange(n), truth], least, 1))
    brier = ((proba - one_hot) ** 2).sum(1) / (2 if n_classes == 2 else 1)
    return np.stack([log_loss, brier])
