"""Pictures of a study: the data in the artists, and refused input."""

from typing import ClassVar

import matplotlib
import numpy as np
import pytest
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from skimbal.displays import (
    LossStudyDisplay,
)
from tests.displays.data import Configuration, Estimate, Study, overlaps, texts


def test_configurations_by_score_at_the_same_sampling():
    display = LossStudyDisplay.from_study(Study())
    assert texts(display.ax_.get_yticklabels()) == [
        *("uniform", "ce+mcc", "ce", "mcc"),
        *("uniform + weights", "wce"),
        *("balanced", "wce", "ce", "ce+mcc"),
        *("stratified", "ce", "LossMix(ce=1, mcc=0.5)"),
    ]
    bold = [t.get_text() for t in display.ax_.get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == ["uniform", "uniform + weights", "balanced", "stratified"]
    points = {key: (*line.get_xdata(), *line.get_ydata()) for key, line in display.points_.items()}
    assert points == {
        ("ce+mcc", "uniform"): (0.70, 1),
        ("ce", "uniform"): (0.60, 2),
        ("mcc", "uniform"): (0.50, 3),
        ("wce", "uniform + weights"): (0.66, 5),
        ("wce", "balanced"): (0.73, 7),
        ("ce", "balanced"): (0.72, 8),
        ("ce+mcc", "balanced"): (0.71, 9),
        ("ce", "stratified"): (0.65, 11),
        ("LossMix(ce=1, mcc=0.5)", "stratified"): (0.64, 12),
    }
    interval = display.intervals_["ce", "uniform"]
    np.testing.assert_allclose(interval.get_xdata(), [0.55, 0.65])
    np.testing.assert_array_equal(interval.get_ydata(), [2, 2])
    assert np.isnan(display.intervals_["mcc", "uniform"].get_xdata()).all()
    # The line of a group stands at the reference of its own sampler.
    lines = [(line.get_xdata()[0], *line.get_ydata()) for line in display.references_]
    assert lines == [(0.60, 0.5, 3.5), (0.60, 4.5, 5.5), (0.72, 6.5, 9.5), (0.65, 10.5, 12.5)]
    assert (
        display.ax_.get_xlabel() == "balanced accuracy (higher is better)\nmean and 95 % interval"
    )
    assert texts(display.legend_.get_texts()) == ["reference (ce)\nat the same sampling"]
    assert overlaps(display.figure_) == []


def test_the_best_is_on_top_where_low_is_good():
    display = LossStudyDisplay.from_study(Study(), scoring="log_loss")
    assert texts(display.ax_.get_yticklabels())[:4] == ["uniform", "mcc", "ce", "ce+mcc"]
    assert "lower is better" in display.ax_.get_xlabel()
    np.testing.assert_allclose(display.points_["mcc", "uniform"].get_xdata(), [0.6])


def test_differences_to_the_reference():
    display = LossStudyDisplay.from_study(Study(), kind="differences")
    assert list(display.points_) == [
        ("ce+mcc", "uniform"),
        ("mcc", "uniform"),
        ("wce", "uniform + weights"),
        ("wce", "balanced"),
        ("ce+mcc", "balanced"),
        ("LossMix(ce=1, mcc=0.5)", "stratified"),
    ]
    point = display.points_["ce+mcc", "uniform"]
    np.testing.assert_allclose(point.get_xdata(), [0.1])
    np.testing.assert_allclose(
        display.intervals_["ce+mcc", "uniform"].get_xdata(), [0.1 - 0.04, 0.1 + 0.04]
    )
    filled = {key for key, line in display.points_.items() if line.get_markerfacecolor() != "white"}
    assert filled == {("ce+mcc", "uniform"), ("wce", "balanced")}
    (zero,) = display.references_
    assert set(zero.get_xdata()) == {0}
    assert texts(display.legend_.get_texts())[1] == "p < 0.05"
    assert overlaps(display.figure_) == []
    # The other kind gives each group the same colour and marker.
    colors = {key: line.get_color() for key, line in display.points_.items()}
    display.plot("scores")
    assert colors == {key: display.points_[key].get_color() for key in colors}


def test_groups_differ_in_more_than_colour():
    points = LossStudyDisplay.from_study(Study()).points_
    markers = {sampling: line.get_marker() for (_, sampling), line in points.items()}
    assert len(set(markers.values())) == len(markers) == 4


def test_intervals_are_solid_whatever_the_style():
    style = {"axes.prop_cycle": cycler(linestyle=[":", "--"])}
    with matplotlib.rc_context(style):
        display = LossStudyDisplay.from_study(Study())
    assert {line.get_linestyle() for line in display.intervals_.values()} == {"-"}


def test_a_study_of_one_loss_has_no_reference():
    display = LossStudyDisplay([Estimate("ce", "uniform", 1, 0.5, np.nan, np.nan, np.nan)], [])
    display.plot()
    assert display.references_ == []
    assert texts(display.legend_.get_texts()) == []
    with pytest.raises(ValueError, match=r"kind .*'differences'"):
        display.plot("differences")


def test_a_study_on_given_axes():
    ax = Figure(layout="constrained").subplots()
    display = LossStudyDisplay.from_study(Study(), ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert plt.get_fignums() == []


class Unasked(Study):
    """Fails the test that lets it compute."""

    def estimates(self, score=None):
        raise AssertionError("computed before the input was checked")

    differences = estimates


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scoring": "auc"}, ValueError, "scoring .*'balanced_accuracy'.*'auc'"),
        ({"kind": "bars"}, ValueError, "kind .*'scores', 'differences'.*'bars'"),
        ({"ax": "axes"}, TypeError, "ax .*'axes'"),
        ({"study": LogisticRegression()}, TypeError, "study .*LogisticRegression.*scoring"),
    ],
)
def test_studies_that_cannot_be_drawn(options, error, message):
    with pytest.raises(error, match=message):
        LossStudyDisplay.from_study(**{"study": Unasked(), **options})
    assert plt.get_fignums() == []


def test_samplings_come_from_the_configurations_not_from_names():
    class Renamed(Study):
        rows: ClassVar = {("weighted", "uniform"): (0.6, 0.1, 0.5), ("wce", "uniform"): (0.5, 0, 1)}
        configurations = (
            Configuration("weighted", "uniform", "uniform + weights"),
            Configuration("wce", "uniform", "uniform"),
        )

        def differences(self, score=None):
            return []

    display = LossStudyDisplay.from_study(Renamed())
    assert list(display.points_) == [("wce", "uniform"), ("weighted", "uniform + weights")]


def test_without_samplings_the_sampler_names_the_group():
    rows = Study().estimates()
    display = LossStudyDisplay(rows, []).plot()
    assert {sampling for _, sampling in display.points_} == {"uniform", "balanced", "stratified"}
