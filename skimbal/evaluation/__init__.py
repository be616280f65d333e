"""How good a classifier is on images that it has not seen, with intervals, for images and patients.

:func:`evaluate` predicts and scores, :func:`evaluate_predictions` scores probabilities from
elsewhere. An :class:`Evaluation` becomes text, a table, a csv file or an HTML page.
"""

from skimbal.evaluation.evaluating import Evaluation, evaluate, evaluate_predictions
from skimbal.evaluation.operating import OperatingPoint
from skimbal.evaluation.results import Level, ScoreEstimate
from skimbal.evaluation.worst import WorstError

__all__ = [
    "Evaluation",
    "Level",
    "OperatingPoint",
    "ScoreEstimate",
    "WorstError",
    "evaluate",
    "evaluate_predictions",
]
