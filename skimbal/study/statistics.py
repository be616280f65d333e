"""Tests and intervals."""

from collections.abc import Sequence

import numpy as np

__all__ = ["CONFIDENCE", "holm"]

CONFIDENCE = 0.95


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number; those that are NaN are no comparisons."""
    p = np.array(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    p[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return list(map(float, p))
