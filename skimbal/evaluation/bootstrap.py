"""Bootstrap samples of rows, or of patients with all of their rows, and intervals from them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from skimbal.exceptions import ParameterError

__all__ = ["Bootstrap", "Interval", "Units", "find_interval"]

#: Weights that are in memory at once, in entries. More are slower, as they leave the CPU's cache.
_MOST_ENTRIES = 2**20
#: Least share of the samples in which a score must exist to have an interval. A class of two images
#: is absent from 13.5 % of the samples, and a class of three from 5 %.
_LEAST_SHARE = 0.9
#: Least number of samples beyond each end of an interval. Fewer make the ends rough.
_LEAST_BEYOND = 5


class Interval(NamedTuple):
    """The ends of an interval, the number of resamples behind it, and the method."""

    low: float
    high: float
    n_resamples: int
    method: str


class Bootstrap(NamedTuple):
    """How samples are drawn, and the level of the intervals."""

    n_samples: int
    confidence_level: float
    stratify: bool
    seed: int

    @property
    def tail(self) -> float:
        """Share of the samples beyond each end of an interval."""
        return (1 - self.confidence_level) / 2

    @property
    def n_needed(self) -> int:
        """Number of samples that are enough for the ends of the intervals."""
        return int(np.ceil(_LEAST_BEYOND / self.tail - 1e-6))


class Units:
    """What a bootstrap draws: rows, or patients with all of their rows.

    Parameters
    ----------
    truth : ndarray of int of shape (n,)
        Number of the true class of each row.
    unit_of_row : ndarray of int of shape (n,), default=None
        Number of the unit of each row. If None, each row is a unit.
    stratify : bool, default=False
        Whether each sample has as many units of each class as there are.

    Raises
    ------
    ParameterError
        If ``stratify`` and a unit has rows of several classes.
    """

    def __init__(
        self, truth: np.ndarray, unit_of_row: np.ndarray | None = None, stratify: bool = False
    ) -> None:
        self.of_row = np.arange(len(truth)) if unit_of_row is None else unit_of_row
        self.n = int(self.of_row.max()) + 1
        strata = _class_of_unit(truth, self.of_row, self.n) if stratify else np.zeros(self.n, int)
        self._strata = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]

    def count(self, rows: np.ndarray) -> int:
        """Count the units that a mask of rows selects a row of."""
        return len(np.unique(self.of_row[rows]))

    def draw(self, n_samples: int, seed: int) -> Iterator[np.ndarray]:
        """Yield weights of the rows of some samples at once, of shape (n, some)."""
        generator = np.random.default_rng(seed)
        at_once = max(1, _MOST_ENTRIES // len(self.of_row))
        for start in range(0, n_samples, at_once):
            some = min(at_once, n_samples - start)
            times = np.empty((self.n, some), np.float32)
            for units in self._strata:
                times[units] = _draw_counts(generator, len(units), some)
            yield times[self.of_row]


def _class_of_unit(truth: np.ndarray, of_row: np.ndarray, n: int) -> np.ndarray:
    """Return the class of each unit, and refuse units of several classes."""
    least, most = np.full(n, truth.max()), np.zeros(n, truth.dtype)
    np.minimum.at(least, of_row, truth)
    np.maximum.at(most, of_row, truth)
    n_mixed = int((least != most).sum())
    if n_mixed:
        raise ParameterError(
            "stratify",
            "False where patients have images of several classes",
            True,
            f"{n_mixed:,} of {n:,} patients do, so samples cannot keep the patients of each class.",
        )
    return least


def _draw_counts(generator: np.random.Generator, n: int, n_samples: int) -> np.ndarray:
    """Draw n of n things with replacement, and count each of them, of shape (n, n_samples)."""
    drawn = generator.integers(n, size=(n, n_samples)) * n_samples + np.arange(n_samples)
    return np.bincount(drawn.ravel(), minlength=n * n_samples).reshape(n, n_samples)


def find_interval(
    value: float, resampled: np.ndarray, tail: float, n_units: int | None
) -> Interval:
    """Return the percentile interval of a score, with a share ``tail`` beyond each end.

    Resamples without a score, such as the precision of a class that is never decided, are left out.
    A score that exists in less than 90 % of the resamples has no interval. Equal scores in all
    resamples say nothing about the spread: 5 of 5 would give [1, 1]. For a share of 0 or 1 of
    ``n_units`` units, the interval is the one of Clopper and Pearson. For all other scores, there
    is none.
    """
    finite = resampled[np.isfinite(resampled)]
    none = Interval(np.nan, np.nan, len(finite), "none")
    if not np.isfinite(value) or not len(finite):
        return none
    if np.ptp(finite) > 1e-12 or not np.isclose(finite[0], value):
        if len(finite) < _LEAST_SHARE * len(resampled):
            return none
        low, high = np.quantile(finite, [tail, 1 - tail])
        return Interval(float(low), float(high), len(finite), "bootstrap")
    if n_units and value in (0, 1):
        far = tail ** (1 / n_units)
        low, high = (far, 1.0) if value == 1 else (0.0, 1 - far)
        return Interval(low, high, len(finite), "exact")
    return none
