"""Decisions and risks from the probabilities of any classifier of scikit-learn.

:class:`TunedOffsetsClassifierCV` tunes the decisions among K classes for a metric,
:class:`CostMatrixClassifier` takes the decision of least expected cost, and
:class:`PriorCorrectedClassifier` moves probabilities to another prior.
"""

from skimbal.thresholds.costs import CostMatrix, CostMatrixClassifier, mean_cost
from skimbal.thresholds.offsets import TunedOffsetsClassifierCV
from skimbal.thresholds.priors import PriorCorrectedClassifier, PriorSpec

__all__ = [
    "CostMatrix",
    "CostMatrixClassifier",
    "PriorCorrectedClassifier",
    "PriorSpec",
    "TunedOffsetsClassifierCV",
    "mean_cost",
]
