"""Pictures as scikit-learn Display objects."""

from skimbal.displays.class_scores import ClassScoresDisplay
from skimbal.displays.embedding import EmbeddingDisplay
from skimbal.displays.explanation import ExplanationDisplay
from skimbal.displays.learning_curves import LearningCurvesDisplay
from skimbal.displays.loss_study import LossStudyDisplay

__all__ = [
    "ClassScoresDisplay",
    "EmbeddingDisplay",
    "ExplanationDisplay",
    "LearningCurvesDisplay",
    "LossStudyDisplay",
]
