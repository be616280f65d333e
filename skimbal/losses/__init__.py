"""Losses for imbalanced classes, from cross-entropy to soft F1 and soft MCC.

Each name of a loss is a row of the table :data:`TERMS`. The soft metrics are functions of one
statistic, three vectors with one entry per class (:func:`soft_confusion`): the true positive mass
``TP``, the predicted mass ``q`` and the true mass ``t``. A score is a short function of them, and
a loss is one minus the score. The vectors of micro-batches and of devices add up to the vectors of
the whole batch.
"""

from skimbal.exceptions import CollapseWarning
from skimbal.losses.class_counts import inverse_effective_number, inverse_frequency, log_prior
from skimbal.losses.mixed import FocalLoss, MixedLoss, SoftF1Loss, SoftMCCLoss
from skimbal.losses.modules import BatchLoss, ModuleLoss
from skimbal.losses.specs import LossSpec, get_loss
from skimbal.losses.terms import LARGEST_FACTOR, TERMS, LossMix, Term
from skimbal.soft_metrics import SumOverParts, f1_score_macro, mcc_score, soft_confusion

__all__ = [
    "LARGEST_FACTOR",
    "TERMS",
    "BatchLoss",
    "CollapseWarning",
    "FocalLoss",
    "LossMix",
    "LossSpec",
    "MixedLoss",
    "ModuleLoss",
    "SoftF1Loss",
    "SoftMCCLoss",
    "SumOverParts",
    "Term",
    "f1_score_macro",
    "get_loss",
    "inverse_effective_number",
    "inverse_frequency",
    "log_prior",
    "mcc_score",
    "soft_confusion",
]
