"""Bootstrap samples of rows, or of patients with all of their rows, and intervals from them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Interval", "Units", "find_interval"]

#: Weights that are in memory at once, in entries. More are slower, as they leave the CPU's cache.
_MOST_ENTRIES = 2**20


class Interval(NamedTuple):
    """The ends of an interval, the number of resamples behind it, and the method."""

    low: float
    high: float
    n_resamples: int
    method: str


class Units:
    """What a bootstrap draws: rows, or patients with all of their rows.

    If every unit has rows of one class only, each sample has as many units of each class as there
    are. Otherwise a sample is drawn from all units alike.

    Parameters
    ----------
    truth : ndarray of int of shape (n,)
        Number of the true class of each row.
    unit_of_row : ndarray of int of shape (n,), default=None
        Number of the unit of each row. If None, each row is a unit.
    """

    def __init__(self, truth: np.ndarray, unit_of_row: np.ndarray | None = None) -> None:
        self.of_row = np.arange(len(truth)) if unit_of_row is None else unit_of_row
        self.n = int(self.of_row.max()) + 1
        least, most = np.full(self.n, truth.max()), np.zeros(self.n, truth.dtype)
        np.minimum.at(least, self.of_row, truth)
        np.maximum.at(most, self.of_row, truth)
        self.is_stratified = bool((least == most).all())
        strata = least if self.is_stratified else np.zeros(self.n, int)
        self._strata = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]

    def count(self, rows: np.ndarray) -> int:
        """Count the units that a mask of rows selects a row of."""
        return len(np.unique(self.of_row[rows]))

    def draw(self, n_bootstraps: int, seed: int) -> Iterator[np.ndarray]:
        """Yield weights of the rows of some samples at once, of shape (n, some)."""
        generator = np.random.default_rng(seed)
        at_once = max(1, _MOST_ENTRIES // len(self.of_row))
        for start in range(0, n_bootstraps, at_once):
            some = min(at_once, n_bootstraps - start)
            times = np.empty((self.n, some), np.float32)
            for units in self._strata:
                times[units] = _draw_counts(generator, len(units), some)
            yield times[self.of_row]


def _draw_counts(generator: np.random.Generator, n: int, n_samples: int) -> np.ndarray:
    """Draw n of n things with replacement, and count each of them, of shape (n, n_samples)."""
    drawn = generator.integers(n, size=(n, n_samples)) * n_samples + np.arange(n_samples)
    return np.bincount(drawn.ravel(), minlength=n * n_samples).reshape(n, n_samples)


def find_interval(
    value: float, resampled: np.ndarray, confidence_level: float, n_units: int | None
) -> Interval:
    """Return the percentile interval of a score.

    Resamples without a score, such as the precision of a class that is never decided, are left out.
    Equal scores in all resamples say nothing about the spread: 5 of 5 would give [1, 1]. For a
    share of 0 or 1 of ``n_units`` units, the interval is the one of Clopper and Pearson. For all
    other scores, there is none.
    """
    finite = resampled[np.isfinite(resampled)]
    tail = (1 - confidence_level) / 2
    if not np.isfinite(value) or not len(finite):
        return Interval(np.nan, np.nan, len(finite), "none")
    if np.ptp(finite) > 1e-12 or not np.isclose(finite[0], value):
        low, high = np.quantile(finite, [tail, 1 - tail])
        return Interval(float(low), float(high), len(finite), "bootstrap")
    if n_units and value in (0, 1):
        far = tail ** (1 / n_units)
        low, high = (far, 1.0) if value == 1 else (0.0, 1 - far)
        return Interval(low, high, len(finite), "exact")
    return Interval(np.nan, np.nan, len(finite), "none")
