"""Intervals and tests of scores that were computed on overlapping training rows."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = ["CONFIDENCE", "Difference", "Estimate", "Interval", "holm", "interval"]

#: Confidence level of all intervals.
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """Mean of a score over the fits of a configuration, with its spread and 95 % interval.

    Parameters
    ----------
    loss, sampler : str
        Names of the configuration.
    n_fits : int
        Number of finished fits.
    mean, std : float
        Mean of the score and its standard deviation over fits, in units of the score. The standard
        deviation is NaN for one fit.
    low, high : float
        Ends of the 95 % interval of the mean, in the same units. NaN for one fit or two.

    Examples
    --------
    >>> from skimbal.study import Estimate
    >>> row = Estimate("ce", "balanced", n_fits=5, mean=0.8, std=0.02, low=0.76, high=0.84)
    >>> f"{row.loss}: {row.mean} [{row.low}, {row.high}]"
    'ce: 0.8 [0.76, 0.84]'
    """

    loss: str
    sampler: str
    n_fits: int
    mean: float
    std: float
    low: float
    high: float


class Difference(NamedTuple):
    """Mean paired difference of a score to the reference at the same sampler.

    Parameters
    ----------
    loss, sampler : str
        Names of the configuration.
    reference : str
        Name of the loss that it is compared with at the same sampler.
    mean : float
        Mean over splits of its score minus the score of the reference, in units of the score.
    low, high : float
        Ends of the 95 % interval of this difference alone, in the same units. NaN for one fit or
        two.
    p_value : float
        p-value of the test that the difference is zero, adjusted for the number of comparisons, in
        [0, 1]. NaN for one fit or two.

    Examples
    --------
    >>> from skimbal.study import Difference
    >>> row = Difference("ce+mcc", "balanced", "ce", mean=0.02, low=-0.01, high=0.05, p_value=0.3)
    >>> f"{row.loss} less {row.reference}: {row.mean:+}, p {row.p_value}"
    'ce+mcc less ce: +0.02, p 0.3'
    """

    loss: str
    sampler: str
    reference: str
    mean: float
    low: float
    high: float
    p_value: float


class Interval(NamedTuple):
    """Mean and standard deviation of values, the interval of the mean, and a p-value.

    Parameters
    ----------
    mean, std : float
        Mean and standard deviation, in units of the values.
    low, high : float
        Ends of the 95 % interval of the mean, in the same units.
    p_value : float
        p-value of the test that the mean is zero, in [0, 1].
    """

    mean: float
    std: float
    low: float
    high: float
    p_value: float


def interval(values: np.ndarray, ratio: float) -> Interval:
    """Compute the corrected t-test of Nadeau and Bengio (2003).

    Parameters
    ----------
    values : ndarray of shape (n_fits,)
        A score, or a difference of scores, of each fit.
    ratio : float
        Number of test rows for each training row, dimensionless. 0 if the fits are independent.

    Returns
    -------
    interval : Interval
        For one value, all but the mean are NaN. For two values, ends and p-value are NaN.
    """
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return Interval(mean, math.nan, math.nan, math.nan, math.nan)
    std = float(values.std(ddof=1))
    # Of two values, the interval reaches 13 standard errors to each side, beyond any score.
    if n == 2:
        return Interval(mean, std, math.nan, math.nan, math.nan)
    error = std * math.sqrt(1 / n + ratio)
    if error == 0:
        return Interval(mean, std, mean, mean, float(mean == 0))
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error
    p_value = 2 * stats.t.sf(abs(mean) / error, n - 1)
    return Interval(mean, std, mean - half, mean + half, float(p_value))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by the method of Holm (1979). NaN does not count.

    Parameters
    ----------
    p_values : sequence of float
        p-values of single tests, in [0, 1].

    Returns
    -------
    adjusted : list of float
        In the same order.
    """
    p = np.array(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    p[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return list(map(float, p))
