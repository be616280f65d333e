"""Scores of classes: the data in the artists, and refused input."""

from typing import ClassVar

import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.preprocessing import FunctionTransformer

from skimbal.displays import ClassScoresDisplay, EmbeddingDisplay
from skimbal.study import compare_losses
from tests.displays.data import Stub, Study, Untouched, overlaps, texts
from tests.plain import plain


def rows_of(n=(60, 20, 8), seed=0):
    rng = np.random.default_rng(seed)
    y_true = np.repeat(["a", "b", "c"], n)
    y_pred = np.where(
        rng.random(len(y_true)) < 0.3, rng.choice(["a", "b", "c"], len(y_true)), y_true
    )
    return y_true, y_pred


def test_f1_scores_with_intervals():
    y_true, y_pred = rows_of()
    display = ClassScoresDisplay.from_predictions(y_true, y_pred, random_state=0)
    expected = f1_score(y_true, y_pred, average=None)
    np.testing.assert_allclose(display.scores, [expected])
    assert (display.low < display.scores).all()
    assert (display.scores < display.high).all()
    (points,) = display.points_
    np.testing.assert_array_equal(points.get_xdata(), display.scores[0])
    np.testing.assert_array_equal(points.get_ydata(), [0, 1, 2])
    ends = np.array([segment[:, 0] for segment in display.intervals_[0].get_segments()])
    np.testing.assert_array_equal(ends, np.stack([display.low[0], display.high[0]], axis=1))
    assert texts(display.ax_.get_yticklabels()) == ["a", "b", "c"]
    assert display.ax_.get_xlabel() == "F1 (dimensionless) with 95 % interval"
    assert display.legend_ is None
    assert overlaps(display.figure_) == []


@pytest.mark.parametrize("stratify", [False, True])
def test_the_bootstrap_is_that_of_rows(stratify):
    y_true, y_pred = rows_of()
    display = ClassScoresDisplay.from_predictions(
        y_true,
        y_pred,
        n_bootstraps=4000,
        confidence_level=0.8,
        stratify=stratify,
        random_state=0,
    )
    rng = np.random.default_rng(1)
    classes = np.array(["a", "b", "c"])
    of_class = [np.flatnonzero(y_true == label) for label in classes]
    drawn = []
    for _ in range(1000):
        if stratify:
            rows = np.concatenate([rng.choice(rows, len(rows)) for rows in of_class])
        else:
            rows = rng.choice(len(y_true), len(y_true))
        true, predicted = (y[rows, np.newaxis] == classes for y in (y_true, y_pred))
        drawn.append(2 * (true & predicted).sum(0) / (true.sum(0) + predicted.sum(0)))
    low, high = np.quantile(drawn, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(display.low[0], low, atol=0.02)
    np.testing.assert_allclose(display.high[0], high, atol=0.02)
    assert "80 %" in display.ax_.get_xlabel()


def test_a_class_of_two_rows_has_no_interval_unless_their_number_is_kept():
    y_true = np.repeat(["a", "b", "c"], [60, 3, 2])
    y_pred = np.where(np.arange(65) % 2, y_true, "a")
    display = ClassScoresDisplay.from_predictions(y_true, y_pred, random_state=0)
    np.testing.assert_array_equal(np.isnan(display.low), [[False, False, True]])
    kept = ClassScoresDisplay.from_predictions(y_true, y_pred, stratify=True, random_state=0)
    assert np.isfinite(kept.low).all()


def test_the_bootstrap_is_reproducible():
    one, two = (ClassScoresDisplay.from_predictions(*rows_of(), random_state=7) for _ in range(2))
    np.testing.assert_array_equal(one.low, two.low)
    # Without a seed the fixture sees that the global generator stays as it is.
    assert ClassScoresDisplay.from_predictions(*rows_of()).low.shape == (1, 3)


def test_perfect_predictions_have_no_spread():
    y_true, _ = rows_of()
    display = ClassScoresDisplay.from_predictions(y_true, y_true)
    for values in (display.scores, display.low, display.high):
        np.testing.assert_array_equal(values, [[1, 1, 1]])


def test_classes_without_rows_have_no_interval():
    display = ClassScoresDisplay.from_predictions(
        [0] * 9 + [1] * 6,
        [2] * 9 + [1] * 6,
        labels=[1, 2, 3],
        display_labels=["one", "two", "three"],
    )
    np.testing.assert_array_equal(display.scores, [[1, 0, np.nan]])
    for ends in (display.low, display.high):
        np.testing.assert_array_equal(ends, [[1, np.nan, np.nan]])
    assert texts(display.ax_.get_yticklabels()) == ["one", "two", "three"]


def test_scores_of_an_estimator(images):
    X, y = images
    clf = Stub().fit(X, y)
    display = ClassScoresDisplay.from_estimator(clf, X, y, random_state=0, name="stub")
    expected = ClassScoresDisplay.from_predictions(y, clf.predict(X), random_state=0)
    np.testing.assert_array_equal(display.scores, expected.scores)
    np.testing.assert_array_equal(display.high, expected.high)
    assert texts(display.legend_.get_texts()) == ["stub"]
    few = ClassScoresDisplay.from_estimator(clf, X[:40], y[:40])
    assert few.display_labels == ["eight", "nine", "other"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": ["eight"] * 59}, ValueError, "inconsistent numbers of samples"),
        ({"y": [1] * 60}, ValueError, "Mix of label input types"),
        ({"estimator": Untouched()}, NotFittedError, "not fitted"),
        (
            {"estimator": FunctionTransformer()},
            TypeError,
            "estimator .*predict.*FunctionTransformer",
        ),
        ({"n_bootstraps": 0}, ValueError, "n_bootstraps .*1.* 0"),
        ({"n_bootstraps": 1.5}, ValueError, "n_bootstraps .*1.5"),
        ({"stratify": "y"}, ValueError, "stratify .*True or False.*'y'"),
        ({"confidence_level": 95}, ValueError, "confidence_level .*0 and 1.*95"),
        ({"confidence_level": "high"}, ValueError, "confidence_level .*'high'"),
        ({"display_labels": "ab"}, ValueError, "display_labels .*'a', 'b'"),
        ({"ax": "axes"}, TypeError, "ax .*'axes'"),
    ],
)
def test_scores_refuse_before_they_compute(images, change, error, message):
    X, y = images
    options = {"estimator": Untouched().fit(X, y), "X": X, "y": y, **change}
    with pytest.raises(error, match=message):
        ClassScoresDisplay.from_estimator(**options)
    assert plt.get_fignums() == []


def test_predictions_that_are_no_labels():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ClassScoresDisplay.from_predictions([0, 1, 1], [0, 1])
    with pytest.raises(ValueError, match=r"y_true .*\[\]"):
        ClassScoresDisplay.from_predictions([], [])
    with pytest.raises(ValueError, match="y_pred contains NaN"):
        ClassScoresDisplay.from_predictions([0, 1], [0, np.nan])
    with pytest.raises(ValueError, match="Mix of label input types"):
        ClassScoresDisplay.from_predictions([0, 1], ["0", "1"])


def test_classes_of_a_study_by_reference_and_best():
    display = ClassScoresDisplay.from_study(Study())
    assert display.names == [
        "ce, uniform",
        "ce+mcc, uniform",
        "ce, balanced",
        "wce, balanced",
        "ce, stratified",
    ]
    np.testing.assert_allclose(display.scores[1], [0.9, 1.0])
    np.testing.assert_allclose(display.low[1], [0.86, 0.96])
    np.testing.assert_allclose(display.high[1], [0.94, 1.04])
    assert texts(display.ax_.get_yticklabels()) == ["healthy", "ill"]
    assert texts(display.legend_.get_texts()) == display.names
    assert len({line.get_marker() for line in display.points_}) == 5
    # Within the row of a class the configurations stand below each other.
    rows = np.array([line.get_ydata() for line in display.points_])
    assert (np.diff(rows, axis=0) > 0).all()
    assert (abs(rows - [0, 1]) < 0.5).all()
    assert overlaps(display.figure_) == []


def test_the_best_of_a_study_may_be_the_lowest():
    study = Study()
    study.scoring = "log_loss"
    assert ClassScoresDisplay.from_study(study).names[:2] == ["ce, uniform", "mcc, uniform"]


def test_at_most_six_configurations_unless_they_are_named():
    class Large(Study):
        rows: ClassVar = {
            (loss, f"sampler {i}"): (mean, 0.1, 0.5)
            for i in range(4)
            for loss, mean in [("ce", 0.5), ("mcc", 0.6)]
        }

    assert len(ClassScoresDisplay.from_study(Large()).names) == 6
    named = ClassScoresDisplay.from_study(Large(), list(Large.rows))
    assert named.scores.shape == (8, 2)


def test_named_configurations_of_a_study():
    pairs = [("wce", "balanced"), ("ce", None), ("ce+mcc", "uniform")]
    display = ClassScoresDisplay.from_study(Study(), pairs)
    assert display.names == ["wce, balanced", "ce, uniform", "ce+mcc, uniform"]
    np.testing.assert_allclose(display.scores[:, 1], [1.03, 0.9, 1.0])


def test_configurations_that_a_study_lacks():
    with pytest.raises(ValueError, match=r"configurations .*\('f1', 'uniform'\)"):
        ClassScoresDisplay.from_study(Study(), [("f1", None)])
    with pytest.raises(ValueError, match=r"configurations .*\[\]"):
        ClassScoresDisplay.from_study(Study(), [])
    study = Study()
    study.class_names = ("healthy", "very ill")
    with pytest.raises(ValueError, match=r"class_scores .*'f1\[very ill\]'"):
        ClassScoresDisplay.from_study(study)
    with pytest.raises(TypeError, match=r"study .*scoring"):
        ClassScoresDisplay.from_study(object())
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    "samplers", [["uniform"], pytest.param(None, marks=pytest.mark.slow)], ids=str
)
def test_a_real_classifier_and_a_real_study(images, samplers):
    X, y = images
    clf = plain(max_epochs=1, random_state=0).fit(X, y)
    display = EmbeddingDisplay.from_estimator(
        clf, X, y, method=FunctionTransformer(lambda features: features[:, :2])
    )
    features = clf.transform(X)
    for points, label in zip(display.points_[0], clf.classes_, strict=True):
        np.testing.assert_allclose(points.get_offsets(), features[y == label, :2])
    study = compare_losses(
        X,
        y,
        losses=["ce", "f1"],
        samplers=samplers,
        estimator=clf,
        cv=2,
        random_state=0,
        verbose=0,
    )
    drawn = study.plot()
    assert drawn.ax_.get_xlabel().startswith("balanced accuracy")
    shown = {(row.loss, row.sampler): row.mean for row in study.estimates()}
    assert {(row.loss, row.sampler): row.mean for row in drawn.estimates} == shown
    classes = ClassScoresDisplay.from_study(study)
    assert list(classes.display_labels) == study.class_names
