"""The checks that the displays share."""

import sys

import numpy as np
import pytest
from matplotlib.text import Text

from skimbal.displays import (
    ClassScoresDisplay,
    EmbeddingDisplay,
    LearningCurvesDisplay,
    LossStudyDisplay,
)
from tests.displays.data import Study


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
    with pytest.raises(ImportError, match=rf"{name}\..*pip install .*\.\[plot\]"):
        call()


NAMES = [r"$\frac$", "$a$", r"100 $ \alpha"]


def curves():
    losses = {name: np.arange(3.0) for name in NAMES}
    return LearningCurvesDisplay(np.arange(3), losses, {})


def scores():
    rows = np.full((3, 3), 0.5)
    return ClassScoresDisplay(rows, rows, rows, NAMES, names=NAMES)


def points():
    y, embedding = np.arange(6) % 3, np.arange(12.0).reshape(6, 2)
    options = {"display_labels": NAMES, "names": NAMES[:1]}
    return EmbeddingDisplay([embedding], y, [np.ones(3)], np.arange(3), **options)


@pytest.mark.parametrize("make", [curves, scores, points])
def test_names_are_no_formulas(make):
    display = make().plot()
    display.figure_.canvas.draw()  # where matplotlib reads a formula
    names = [
        text
        for text in display.figure_.findobj(Text)
        if "$" in text.get_text() and text.get_visible()
    ]
    assert len(names) >= 3
    assert not any(text.get_parse_math() for text in names)


def test_names_of_a_study_are_no_formulas():
    study = Study()
    study.rows = {
        (loss if loss == "ce" else rf"{loss} $\frac$", sampler): row
        for (loss, sampler), row in Study.rows.items()
    }
    display = LossStudyDisplay.from_study(study)
    display.figure_.canvas.draw()
    labels = display.ax_.get_yticklabels()
    assert any("$" in label.get_text() for label in labels)
    assert not any(label.get_parse_math() for label in labels)
