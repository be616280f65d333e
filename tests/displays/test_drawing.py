"""The checks that the displays share."""

import sys

import pytest

from skimbal.displays import (
    ClassScoresDisplay,
    EmbeddingDisplay,
    LearningCurvesDisplay,
    LossStudyDisplay,
)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: LearningCurvesDisplay.from_estimator(None), "LearningCurvesDisplay"),
        (lambda: LearningCurvesDisplay.from_history(None), "LearningCurvesDisplay"),
        (lambda: LearningCurvesDisplay(None, None, None).plot(), "LearningCurvesDisplay"),
        (lambda: EmbeddingDisplay.from_estimator(None, None, None), "EmbeddingDisplay"),
        (lambda: EmbeddingDisplay.from_features(None, None, None), "EmbeddingDisplay"),
        (lambda: EmbeddingDisplay(None, None, None, None).plot(), "EmbeddingDisplay"),
        (lambda: LossStudyDisplay.from_study(None), "LossStudyDisplay"),
        (lambda: LossStudyDisplay(None, None).plot(), "LossStudyDisplay"),
        (lambda: ClassScoresDisplay.from_estimator(None, None, None), "ClassScoresDisplay"),
        (lambda: ClassScoresDisplay.from_predictions(None, None), "ClassScoresDisplay"),
        (lambda: ClassScoresDisplay.from_study(None), "ClassScoresDisplay"),
        (lambda: ClassScoresDisplay(None, None, None, None).plot(), "ClassScoresDisplay"),
    ],
)
def test_without_matplotlib_the_extra_is_named_before_anything_else(monkeypatch, call, name):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=rf"{name}\..*skimbal\[plot\]"):
        call()
