"""The scores of a classifier on rows, and how they are computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from skimbal.evaluation.bootstrap import Bootstrap, Interval, Units, find_interval
from skimbal.evaluation.checks import Rows
from skimbal.evaluation.operating import OperatingPoint, Threshold
from skimbal.evaluation.scores import (
    CLASS_SCORES,
    RULE_SCORES,
    Above,
    Ranking,
    confusions,
    count_scores,
    leave_out,
    probability_scores,
    row_losses,
)

__all__ = ["Level", "ScoreEstimate", "score_level"]

#: Sensitivities for which a threshold of each class is chosen.
SENSITIVITIES = (0.9, 0.95)


class ScoreEstimate(NamedTuple):
    """A score with its interval.

    Parameters
    ----------
    level : {"images", "patients"}
        Whether the rows are images or patients.
    rule : str
        Name of the rule of decision, such as ``"predict"``. Empty for scores of probabilities.
    score : str
        Name of the score, such as ``"sensitivity"`` or ``"balanced_accuracy"``.
    class_name : str
        The class. Empty for scores of all classes together.
    n : int
        Number of rows of the class, or of all rows, in samples.
    value : float
        The score, NaN where there is no row to count.
    low, high : float
        Ends of the interval, NaN without one.
    interval : {"bootstrap", "exact", "none"}
        The method: percentiles of a bootstrap, Clopper and Pearson for a share of 0 or 1, or none
        where all samples of the bootstrap have the same score, or less than 90 % have one.
    n_resamples : int
        Number of samples of the bootstrap in which the score exists.

    Examples
    --------
    >>> from skimbal.evaluation import ScoreEstimate
    >>> row = ScoreEstimate("images", "predict", "sensitivity", "ill", n=20, value=0.8, low=0.6,
    ...                     high=0.95, interval="bootstrap", n_resamples=1000)
    >>> f"{row.class_name}: {row.score} {row.value} [{row.low}, {row.high}]"
    'ill: sensitivity 0.8 [0.6, 0.95]'
    """

    level: str
    rule: str
    score: str
    class_name: str
    n: int
    value: float
    low: float
    high: float
    interval: str
    n_resamples: int


@dataclass(frozen=True)
class Level:
    """The rows of an evaluation: images, or patients.

    Parameters
    ----------
    name : {"images", "patients"}
        The kind of the rows.
    y_true : ndarray of shape (n,)
        True labels.
    proba : ndarray of shape (n, n_classes)
        Probabilities, dimensionless, in the order of ``classes``.
    decisions : dict of str to ndarray of shape (n,)
        Labels that each rule decides for, the main rule first.
    classes : ndarray of shape (n_classes,)
        Class labels.
    ids : ndarray of shape (n,) or None
        Names of the patients. For images, the patient of each image, or None without patients.

    Examples
    --------
    >>> from skimbal.evaluation import evaluate_predictions
    >>> proba = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
    >>> evaluation = evaluate_predictions(["ill", "well", "well"], proba, ["ill", "well"])
    >>> evaluation.images.rule, evaluation.images.y_pred.tolist()
    ('predict', ['ill', 'well', 'ill'])
    """

    name: str
    y_true: np.ndarray
    proba: np.ndarray
    decisions: dict[str, np.ndarray]
    classes: np.ndarray
    ids: np.ndarray | None

    @property
    def rule(self) -> str:
        """Name of the main rule."""
        return next(iter(self.decisions))

    @property
    def y_pred(self) -> np.ndarray:
        """Labels that the main rule decides for."""
        return self.decisions[self.rule]


class _Judge:
    """Scores of rows for weights, by rule of decision (empty for probabilities)."""

    def __init__(self, rows: Rows, decided: Mapping[str, np.ndarray]) -> None:
        self._rows, self._decided = rows, decided
        self._rankings = [
            Ranking(rows.truth == k, rows.proba[:, k]) for k in range(len(rows.classes))
        ]
        self._losses = row_losses(rows.truth, rows.proba, rows.least)
        self._is_present = np.bincount(rows.truth, minlength=len(rows.classes)) > 0
        once = np.ones((len(rows), 1))
        above = self._count(once)
        #: The scores of the rows.
        self.scores = self._scores(above, once)
        self.thresholds = [
            Threshold(number, target, self._rankings[number], above[number])
            for number in np.flatnonzero(self._is_present).tolist()
            if not (rows.truth == number).all()
            for target in SENSITIVITIES
        ]

    def judge(self, weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        """Compute the scores of samples, and choose the thresholds there."""
        above = self._count(weights)
        for threshold in self.thresholds:
            threshold.note(above[threshold.number])
        n_rows = np.array([weights[self._rows.truth == k].sum(0) for k in range(len(above))]).T
        is_absent = self._is_present & (n_rows == 0)
        return {
            (rule, score): leave_out(score, values, is_absent)
            for (rule, score), values in self._scores(above, weights).items()
        }

    def _count(self, weights: np.ndarray) -> list[Above]:
        return [ranking.count(weights) for ranking in self._rankings]

    def _scores(self, above: list[Above], weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        """Map (rule, score) to scores of shape (b, n_classes) or (b,) for weights (n, b)."""
        found = {
            (rule, score): values
            for rule, decided in self._decided.items()
            for score, values in count_scores(
                confusions(self._rows.truth, decided, len(above), weights)
            ).items()
        }
        of_probabilities = probability_scores(above, self._losses, weights)
        return found | {("", score): values for score, values in of_probabilities.items()}


def score_level(
    name: str, rows: Rows, decided: Mapping[str, np.ndarray], units: Units, bootstrap: Bootstrap
) -> tuple[list[ScoreEstimate], list[OperatingPoint]]:
    """Compute all scores of a level, for each rule of decision, and the thresholds of classes."""
    judge = _Judge(rows, decided)
    drawn = [judge.judge(weights) for weights in units.draw(bootstrap.n_samples, bootstrap.seed)]
    estimates = []
    for (rule, score), values in judge.scores.items():
        resampled = [part[rule, score] for part in drawn]
        samples = np.concatenate(resampled) if resampled else np.empty((0, *values.shape[1:]))
        is_class_score = score in CLASS_SCORES
        for number in range(len(rows.classes) if is_class_score else 1):
            place = (slice(None), number) if is_class_score else slice(None)
            value = float(values[place][0])
            n_units = _count_units(score, number, rows, decided.get(rule), units)
            interval = find_interval(value, samples[place], bootstrap.tail, n_units)
            estimates.append(_estimate(name, rule, score, number, rows, value, interval))
    points = [one.point(name, rows, units, bootstrap) for one in judge.thresholds]
    return estimates, points


def _estimate(
    level: str, rule: str, score: str, number: int, rows: Rows, value: float, interval: Interval
) -> ScoreEstimate:
    is_class_score = score in CLASS_SCORES
    return ScoreEstimate(
        level,
        rule,
        score,
        rows.names[number] if is_class_score else "",
        int((rows.truth == number).sum()) if is_class_score else len(rows),
        value,
        interval.low,
        interval.high,
        interval.method,
        interval.n_resamples,
    )


def _count_units(
    score: str, number: int, rows: Rows, decided: np.ndarray | None, units: Units
) -> int | None:
    """Count the units that a share is of, or return None for scores that are no shares."""
    if score not in RULE_SCORES or decided is None:
        return None
    masks = {
        "sensitivity": rows.truth == number,
        "specificity": rows.truth != number,
        "precision": decided == number,
        "npv": decided != number,
        "accuracy": np.ones(len(rows), bool),
    }
    return units.count(masks[score]) if score in masks else None
