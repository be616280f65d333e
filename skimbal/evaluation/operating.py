"""Thresholds of a class that have a sensitivity, with intervals."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from skimbal.evaluation.bootstrap import Bootstrap, Units, find_interval
from skimbal.evaluation.checks import Rows
from skimbal.evaluation.scores import Above, Ranking, ratio

__all__ = ["OperatingPoint", "Threshold"]


class OperatingPoint(NamedTuple):
    """The largest threshold of a class that has a sensitivity on the evaluated rows.

    A row is taken for the class if the probability of the class is at least the threshold. The
    threshold was chosen on the rows that the numbers are of, so the numbers are optimistic.

    The intervals are for the scores of this threshold on new rows. The threshold is chosen anew in
    each bootstrap sample. The difference between its score on all rows and its score in the sample
    stands for the difference between new rows and these rows.

    Parameters
    ----------
    level : {"images", "patients"}
        Whether the rows are images or patients.
    class_name : str
        The class.
    target : float
        Sensitivity that was asked for, in [0, 1].
    threshold : float
        Probability, in [0, 1].
    sensitivity, specificity, precision, npv : float
        Scores of the class against the rest, in [0, 1], NaN where there is no row to count.
    intervals : mapping of str to (float, float)
        Ends of the intervals of these four scores, by name, dimensionless, NaN without one.
        ``"threshold"`` has percentiles of the thresholds that bootstrap samples choose.

    Examples
    --------
    >>> from skimbal.evaluation import OperatingPoint
    >>> point = OperatingPoint("images", "ill", 0.9, threshold=0.2, sensitivity=0.92,
    ...                        specificity=0.7, precision=0.3, npv=0.99,
    ...                        intervals={"specificity": (0.65, 0.75)})
    >>> f"{point.class_name} from {point.threshold}: specificity {point.specificity}"
    'ill from 0.2: specificity 0.7'
    """

    level: str
    class_name: str
    target: float
    threshold: float
    sensitivity: float
    specificity: float
    precision: float
    npv: float
    intervals: Mapping[str, tuple[float, float]]


class Threshold:
    """The threshold of a class at a sensitivity, on rows and on bootstrap samples of them.

    Parameters
    ----------
    number : int
        Number of the class.
    target : float
        Sensitivity that is asked for.
    ranking : Ranking
        The rows by the probability of the class.
    above : Above
        Sums over these rows.
    """

    def __init__(self, number: int, target: float, ranking: Ranking, above: Above) -> None:
        self.number, self._target = number, target
        self._thresholds, self._above = ranking.thresholds, above
        self._samples: list[dict[str, np.ndarray]] = []

    def note(self, above: Above) -> None:
        """Choose the threshold in some samples, and note it and how its scores differ there."""
        places = _places(above, self._target)
        of_samples, of_rows = _scores_at(above, places), _scores_at(self._above, places)
        is_absent = above.hits[-1] == 0
        differences = {score: of_rows[score] - of_samples[score] for score in of_rows}
        differences["threshold"] = self._thresholds[places]
        self._samples.append(
            {name: np.where(is_absent, np.nan, values) for name, values in differences.items()}
        )

    def point(self, level: str, rows: Rows, units: Units, bootstrap: Bootstrap) -> OperatingPoint:
        """Return the threshold of the rows, with intervals from the samples so far."""
        place = _places(self._above, self._target)
        scores = {name: float(values[0]) for name, values in _scores_at(self._above, place).items()}
        threshold = float(self._thresholds[place[0]])
        is_class, is_taken = rows.truth == self.number, rows.proba[:, self.number] >= threshold
        of = {
            "sensitivity": is_class,
            "specificity": ~is_class,
            "precision": is_taken,
            "npv": ~is_taken,
        }
        intervals = {}
        for name, value in {"threshold": threshold, **scores}.items():
            parts = [sample[name] for sample in self._samples]
            samples = np.concatenate(parts) if parts else np.empty(0)
            if name in of:
                samples = np.clip(value + samples, 0, 1)
            n_units = units.count(of[name]) if name in of else None
            intervals[name] = _ends(value, samples, bootstrap.tail, n_units)
        name = rows.names[self.number]
        return OperatingPoint(level, name, self._target, threshold, **scores, intervals=intervals)


def _ends(
    value: float, samples: np.ndarray, tail: float, n_units: int | None
) -> tuple[float, float]:
    """Return the ends of an interval, for a share of 0 or 1 not within the exact interval."""
    found = find_interval(value, samples, tail, n_units)
    if value not in (0, 1) or n_units is None or np.isnan(found.low):
        return found.low, found.high
    # Samples choose other thresholds, and cannot see beyond the share either.
    exact = find_interval(value, np.full(1, value), tail, n_units)
    return min(found.low, exact.low), max(found.high, exact.high)


def _places(above: Above, target: float) -> np.ndarray:
    """Return the place of the first threshold with enough hits, of shape (b,)."""
    # Of up to 2 million rows, neither 0.9 nor 0.95 asks for a row more by rounding.
    needed = np.ceil(target * above.hits[-1])
    places: np.ndarray = (above.hits < needed).sum(0)
    return places


def _scores_at(above: Above, places: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores at a threshold of each sample, or at some thresholds of one sample."""
    samples = np.arange(above.hits.shape[1])
    hits, taken = above.hits[places, samples], above.taken[places, samples]
    n_class, total = above.hits[-1], above.total
    rejected = total - n_class - (taken - hits)
    return {
        "sensitivity": ratio(hits, n_class),
        "specificity": ratio(rejected, total - n_class),
        "precision": ratio(hits, taken),
        "npv": ratio(rejected, total - taken),
    }
