"""Scores equal scikit-learn's, for rows and for weights."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from skimbal.evaluation import evaluate_predictions
from skimbal.evaluation.scores import (
    Ranking,
    confusions,
    count_scores,
    probability_scores,
    row_losses,
)


@st.composite
def predictions(draw, least_rows=1):
    """Labels, probabilities with ties and decided labels, of which some classes may be absent."""
    n_classes = draw(st.integers(2, 5))
    n = draw(st.integers(least_rows, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = draw(st.integers(1, n_classes))
    y = rng.integers(present, size=n)
    counts = rng.multinomial(draw(st.sampled_from([1, 4, 50])), [1 / n_classes] * n_classes, size=n)
    proba = counts / counts.sum(1, keepdims=True)
    decided = rng.integers(draw(st.integers(1, n_classes)), size=n)
    return y, proba, decided


def quietly(function, *args, **kwargs):
    """Call a metric without its warnings of absent classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def expected_scores(y, proba, decided):
    """Compute all scores with scikit-learn, NaN where there is no row to count."""
    n_classes = proba.shape[1]
    labels = np.arange(n_classes)
    scores = {}
    for name, function in {
        "sensitivity": metrics.recall_score,
        "precision": metrics.precision_score,
        "f1": metrics.f1_score,
    }.items():
        scores[name] = function(y, decided, labels=labels, average=None, zero_division=np.nan)
    for name, function in {
        "specificity": metrics.recall_score,
        "npv": metrics.precision_score,
    }.items():
        scores[name] = [
            function(y != k, decided != k, zero_division=np.nan) for k in range(n_classes)
        ]
    scores["f1_macro"] = quietly(metrics.f1_score, y, decided, average="macro")
    scores["balanced_accuracy"] = quietly(metrics.balanced_accuracy_score, y, decided)
    scores["matthews_corrcoef"] = quietly(metrics.matthews_corrcoef, y, decided)
    scores["accuracy"] = metrics.accuracy_score(y, decided)
    scores["roc_auc"] = [
        metrics.roc_auc_score(y == k, proba[:, k]) if 0 < (y == k).sum() < len(y) else np.nan
        for k in range(n_classes)
    ]
    scores["average_precision"] = [
        metrics.average_precision_score(y == k, proba[:, k]) if (y == k).any() else np.nan
        for k in range(n_classes)
    ]
    scores["log_loss"] = metrics.log_loss(y, proba, labels=labels)
    scores["brier_score"] = metrics.brier_score_loss(y, proba, labels=labels)
    return scores


def own_scores(y, proba, decided, weights):
    """Compute all scores for weights of shape (n, b)."""
    n_classes = proba.shape[1]
    above = [Ranking(y == k, proba[:, k]).count(weights) for k in range(n_classes)]
    losses = row_losses(y, proba, np.finfo(float).eps)
    return count_scores(confusions(y, decided, n_classes, weights)) | probability_scores(
        above, losses, weights
    )


@given(predictions(), st.booleans(), st.integers(0, 2**32 - 1))
def test_scores_equal_those_of_scikit_learn_for_rows_as_often_as_they_weigh(rows, once, seed):
    n = len(rows[0])
    drawn = np.random.default_rng(seed).multinomial(n, [1 / n] * n)
    times = np.ones(n, int) if once else drawn
    # The weights of the other samples at once must not matter.
    own = own_scores(*rows, np.stack([drawn[::-1], times], axis=1).astype(np.float32))
    repeated = (np.repeat(array, times, axis=0) for array in rows)
    for name, expected in expected_scores(*repeated).items():
        np.testing.assert_allclose(own[name][1], expected, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.slow
@given(predictions(least_rows=2))
def test_an_evaluation_holds_these_scores(rows):
    y, proba, decided = rows
    found = evaluate_predictions(
        y, proba, range(proba.shape[1]), y_pred=decided, n_bootstraps=0, random_state=0
    )
    for name, expected in expected_scores(*rows).items():
        values = np.ravel(expected)
        labels = [""] if np.ndim(expected) == 0 else map(str, range(proba.shape[1]))
        for label, value in zip(labels, values, strict=True):
            row = found.find(name, label)
            np.testing.assert_allclose(row.value, value, rtol=1e-9, atol=1e-12, err_msg=name)
            assert np.isnan(row.low)
            assert row.interval == "none"
    if len(np.unique(y)) == proba.shape[1] > 2:
        expected = metrics.roc_auc_score(y, proba, multi_class="ovr", average="macro")
        np.testing.assert_allclose(found.find("roc_auc_ovr").value, expected, rtol=1e-9)


def test_two_classes_have_the_auc_and_brier_score_of_one():
    y, p = np.array([0, 0, 1, 1, 0]), np.array([0.1, 0.6, 0.6, 0.9, 0.2])
    found = evaluate_predictions(y, np.column_stack([1 - p, p]), [0, 1], n_bootstraps=0)
    assert found.find("roc_auc_ovr").value == pytest.approx(metrics.roc_auc_score(y, p))
    assert found.find("brier_score").value == pytest.approx(metrics.brier_score_loss(y, p))


def test_log_loss_clips_as_scikit_learn_does_for_the_dtype():
    proba = np.array([[1, 0], [0, 1], [0.5, 0.5]], dtype=np.float32)
    found = evaluate_predictions([1, 1, 0], proba, [0, 1], n_bootstraps=0)
    expected = metrics.log_loss([1, 1, 0], proba)
    assert found.find("log_loss").value == pytest.approx(expected, rel=1e-5)
