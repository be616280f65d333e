import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.metrics import make_scorer

from skimbal.thresholds.gauges import fast_gauge
from skimbal.thresholds.search import Fold, mean_score, normalised, search, starts_of
from tests.thresholds.data import scores_of

SCORERS = {
    "balanced_accuracy": make_scorer(metrics.balanced_accuracy_score),
    "f1_macro": make_scorer(metrics.f1_score, average="macro"),
    "mcc": make_scorer(metrics.matthews_corrcoef),
}


def fold_of(scores, y, scorer):
    return Fold(scores, fast_gauge(scorer, y, np.arange(scores.shape[1]), None))


def tune(scores, y, scorer, n_random=6, n_probes=300):
    counts = np.bincount(y)
    order = np.argsort(counts, kind="stable").tolist()
    starts = list(starts_of(counts / len(y), n_random))
    return search([fold_of(scores, y, scorer)], order, starts, n_probes)[0]


def middles(values):
    """Return a number between each two neighbours, and one on each side."""
    values = np.unique(values)
    return np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])


def best_of_all(scores, y, scorer):
    """Return the best score of all decisions that offsets of three classes can make."""
    fold = fold_of(scores, y, scorer)
    to_1, to_2 = scores[:, 0] - scores[:, 1], scores[:, 0] - scores[:, 2]
    between = scores[:, 2] - scores[:, 1]
    firsts = middles(np.concatenate([to_1, (to_2[:, None] + between).ravel()]))
    best = -np.inf
    for first in firsts:
        rival = np.maximum(scores[:, 0], scores[:, 1] + first) - scores[:, 2]
        best = max(best, *(fold.at(np.array([0, first, second])) for second in middles(rival)))
    return best


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("seed", range(3))
def test_three_classes_reach_the_best_of_all_decisions(name, seed):
    scores, y = scores_of(16, [0.6, 0.25, 0.15], seed)
    found = tune(scores, y, SCORERS[name])
    assert found.score == pytest.approx(best_of_all(scores, y, SCORERS[name]))
    assert found.score == pytest.approx(fold_of(scores, y, SCORERS[name]).at(found.offsets))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORERS)
def test_the_best_of_all_decisions_is_hardly_ever_missed(name):
    missed = []
    for seed in range(20):
        scores, y = scores_of(18, [0.6, 0.25, 0.15], 100 + seed)
        missed.append(best_of_all(scores, y, SCORERS[name]) - tune(scores, y, SCORERS[name]).score)
    assert np.sum(np.array(missed) > 1e-9) <= 1
    assert max(missed) < 0.03


@pytest.mark.parametrize("name", SCORERS)
def test_two_classes_reach_the_best_threshold(name):
    scores, y = scores_of(200, [0.8, 0.2])
    fold = fold_of(scores, y, SCORERS[name])
    thresholds = middles(scores[:, 0] - scores[:, 1])
    best = max(fold.at(np.array([0, offset])) for offset in thresholds)
    assert tune(scores, y, SCORERS[name]).score == pytest.approx(best)


def test_equal_scores_prefer_zero_and_the_middle_of_the_plateau():
    _, y = scores_of(50, [0.5, 0.3, 0.2])
    sure = np.eye(3)[y] * 5.0
    accuracy = make_scorer(metrics.accuracy_score)
    assert tune(sure, y, accuracy).offsets.tolist() == [0, 0, 0]
    # Class 1 needs an offset between 1 and 4.
    pairs = np.array([[0.0, -1.0]] * 3 + [[0.0, -4.0]] * 5)
    found = tune(pairs, np.array([1] * 3 + [0] * 5), accuracy)
    assert found.offsets.tolist() == [0, 2.5]


def test_rows_of_probability_zero_stay():
    scores = np.array([[0.0, -np.inf], [0.0, -np.inf], [-1.0, -2.0], [-1.0, -3.0]])
    y = np.array([0, 1, 1, 0])
    found = tune(scores, y, SCORERS["balanced_accuracy"])
    assert found.score == pytest.approx(0.75)
    assert np.isfinite(found.offsets).all()


@given(st.integers(0, 10_000), st.floats(-50, 50), st.sampled_from(list(SCORERS)))
def test_a_constant_changes_no_decision(seed, constant, name):
    scores, y = scores_of(30, [0.5, 0.3, 0.2], seed)
    fold = fold_of(scores, y, SCORERS[name])
    offsets = np.random.default_rng(seed).normal(size=3)
    moved = normalised(offsets + constant, 0)
    assert moved[0] == 0
    assert mean_score([fold], moved) == pytest.approx(mean_score([fold], offsets))


@given(st.integers(0, 10_000), st.permutations(range(4)), st.sampled_from(list(SCORERS)))
def test_the_order_of_the_classes_does_not_matter(seed, order, name):
    scores, y = scores_of(40, [0.4, 0.3, 0.2, 0.1], seed)
    order = np.array(order)
    found = tune(scores, y, SCORERS[name], 1, 0)
    permuted = tune(scores[:, order], np.argsort(order)[y], SCORERS[name], 1, 0)
    assert permuted.score == pytest.approx(found.score)
    np.testing.assert_allclose(permuted.offsets, found.offsets[order], atol=1e-9)


@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_a_shift_of_the_scores_is_undone(seed, shift):
    scores, y = scores_of(40, [0.6, 0.4], seed)
    moved = scores + np.array([0, shift])
    f1 = SCORERS["f1_macro"]
    assert tune(moved, y, f1).score == pytest.approx(tune(scores, y, f1).score)
