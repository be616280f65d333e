"""Compare losses and samplers fairly on your data.

Every configuration is fitted on the same rows, from the same initial weights, for the same number
of gradient steps. It is compared with its reference *at the same sampling*: a gain over
cross-entropy without sampling would mix two causes.
"""

from skimbal.study.compare import compare_losses
from skimbal.study.plan import PAPER_LOSSES, Configuration
from skimbal.study.results import LossStudy
from skimbal.study.scores import Fit
from skimbal.study.statistics import Difference, Estimate

__all__ = [
    "PAPER_LOSSES",
    "Configuration",
    "Difference",
    "Estimate",
    "Fit",
    "LossStudy",
    "compare_losses",
]
