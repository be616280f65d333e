"""Losses and samplers compared fairly on data of one's own.

Every configuration is fitted on the same rows, from the same initial weights, for the same number
of gradient steps, and is judged against its reference *at the same sampling*: a gain over
cross-entropy without sampling would mix two causes.
"""

from skimbal.study.compare import compare_losses
from skimbal.study.plan import Configuration
from skimbal.study.results import Difference, Estimate, LossStudy

__all__ = ["Configuration", "Difference", "Estimate", "LossStudy", "compare_losses"]
