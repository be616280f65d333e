"""Samples of rows and patients, and intervals that say what they are."""

import numpy as np
import pytest
from sklearn.utils import check_random_state

from skimbal.evaluation import evaluate_predictions
from skimbal.evaluation.bootstrap import Units, find_interval
from skimbal.evaluation.scores import confusions, count_scores

TRUTH = np.repeat([0, 1, 2], [20, 6, 2])


def drawn(units, n_bootstraps=50, seed=0):
    return np.concatenate(list(units.draw(n_bootstraps, seed)), axis=1)


def random_rows(n, n_classes, skill=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), y] += skill
    proba = np.exp(logits)
    return y, proba / proba.sum(1, keepdims=True)


def test_rows_are_drawn_class_by_class():
    units = Units(TRUTH)
    weights = drawn(units)
    assert units.is_stratified
    assert weights.shape == (28, 50)
    for k, n in enumerate([20, 6, 2]):
        assert (weights[k == TRUTH].sum(0) == n).all()
    assert len(np.unique(weights, axis=1).T) > 40
    assert weights.mean() == pytest.approx(1)


def test_patients_are_drawn_whole_and_class_by_class():
    patient = np.array([0] * 7 + [1] * 13 + [2] * 5 + [3] + [4, 4])
    units = Units(TRUTH, patient)
    weights = drawn(units)
    for number in range(5):
        of_patient = weights[patient == number]
        assert (of_patient == of_patient[0]).all()
    firsts = weights[[0, 7, 20, 25, 26]]
    assert (firsts[:2].sum(0) == 2).all()
    assert (firsts[2:4].sum(0) == 2).all()
    assert (firsts[4] == 1).all()


def test_patients_of_several_classes_are_drawn_alike():
    patient = np.arange(28) % 7
    units = Units(TRUTH, patient)
    assert not units.is_stratified
    assert (drawn(units)[:7].sum(0) == 7).all()


def test_every_unit_is_drawn_equally_often():
    weights = drawn(Units(np.zeros(10, int)), n_bootstraps=20_000)
    np.testing.assert_allclose(weights.mean(1), 1, atol=0.05)
    np.testing.assert_allclose(weights.var(1), 0.9, atol=0.05)


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    y, proba = random_rows(60, 3)
    state = repr(check_random_state(None).get_state(legacy=False))
    first, second = (evaluate_predictions(y, proba, [0, 1, 2], random_state=3) for _ in range(2))
    assert repr(first.scores) == repr(second.scores)  # NaN is equal to nothing
    other = evaluate_predictions(y, proba, [0, 1, 2], random_state=4)
    assert repr(other.scores) != repr(first.scores)
    unseeded = evaluate_predictions(y, proba, [0, 1, 2], n_bootstraps=50)
    again = evaluate_predictions(y, proba, [0, 1, 2], n_bootstraps=50, random_state=unseeded.seed)
    assert repr(again.scores) == repr(unseeded.scores)
    assert repr(check_random_state(None).get_state(legacy=False)) == state


def test_patients_with_alike_images_have_wider_intervals():
    """Ten copies of each image are no new patients."""
    y, proba = random_rows(60, 2)
    patient = np.repeat(np.arange(60), 10)
    y, proba = np.repeat(y, 10), np.repeat(proba, 10, axis=0)

    def width(groups):
        row = evaluate_predictions(y, proba, [0, 1], groups=groups, random_state=0).find("accuracy")
        return row.high - row.low

    assert width(patient) > 2.5 * width(None)


def test_all_samples_alike_make_no_interval_out_of_one_number():
    every = find_interval(1.0, np.ones(100), 0.95, 5)
    assert (every.method, every.high) == ("exact", 1)
    assert every.low == pytest.approx(0.025 ** (1 / 5))
    nothing = find_interval(0.0, np.zeros(100), 0.9, 3)
    assert (nothing.low, nothing.high) == (0, pytest.approx(1 - 0.05 ** (1 / 3)))
    for value, n_units in ((1.0, None), (0.5, 4)):
        ends = find_interval(value, np.full(100, value), 0.95, n_units)
        assert np.isnan(ends[:2]).all()
        assert ends.method == "none"


def test_a_share_of_all_is_of_as_many_patients_as_there_are():
    """A hundred right images of five patients are five cases."""
    y, groups = np.repeat([1, 0], [100, 20]), np.repeat(np.arange(6), 20)
    proba = np.eye(2)[y] * 0.8 + 0.1
    found = evaluate_predictions(y, proba, [0, 1], groups=groups, random_state=0)
    for level in ("images", "patients"):
        row = found.find("sensitivity", "1", level=level)
        assert (row.interval, row.high) == ("exact", 1)
        assert row.low == pytest.approx(0.025 ** (1 / 5))


def test_samples_without_a_score_are_left_out_and_counted():
    samples = np.array([np.nan] * 30 + [0.2] * 35 + [0.8] * 35)
    ends = find_interval(0.5, samples, 0.95, None)
    assert ends == (0.2, 0.8, 70, "bootstrap")


def test_a_class_that_samples_miss_is_named():
    """One patient of several has the only images of a class, beside images of another class."""
    y, proba = random_rows(60, 2)
    groups = np.arange(60) % 6
    y[:] = 0
    y[groups == 0] = [1, 0] * 5
    found = evaluate_predictions(y, proba, [0, 1], groups=groups, pool=None, random_state=0)
    row = found.find("sensitivity", "1")
    expected = 1 - (5 / 6) ** 6
    assert row.n_resamples / 1000 == pytest.approx(expected, abs=0.05)
    assert any("do not exist in all samples" in note for note in found.notes)
    assert not found.is_stratified


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    scores = ("sensitivity", "roc_auc", "f1")
    truth = {}
    covered = dict.fromkeys(scores, 0)
    n_trials = 80

    def rows(n_patients):
        """Three images a patient, with a part of the noise in common."""
        of_patient = rng.integers(2, size=n_patients)
        y = np.repeat(of_patient, 3)
        noise = np.repeat(rng.normal(size=n_patients), 3) + 0.5 * rng.normal(size=3 * n_patients)
        p = 1 / (1 + np.exp(-(2 * y - 1 + noise)))
        return y, np.column_stack([1 - p, p]), np.repeat(np.arange(n_patients), 3)

    y, proba, _ = rows(200_000)
    exact = evaluate_predictions(y, proba, [0, 1], n_bootstraps=0)
    for score in scores:
        truth[score] = exact.find(score, "1").value
    for seed in range(n_trials):
        y, proba, groups = rows(60)
        found = evaluate_predictions(
            y, proba, [0, 1], groups=groups, pool=None, n_bootstraps=200, random_state=seed
        )
        for score in scores:
            row = found.find(score, "1")
            covered[score] += row.low <= truth[score] <= row.high
    # 95 % of 80 is 76, with a standard deviation of 1.9. Percentiles cover slightly less.
    assert all(count > 69 for count in covered.values()), covered


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shares_are_chance", "least", "most"), [(False, 0.9, 1), (True, 0.7, 0.9)]
)
def test_intervals_hold_for_the_shares_of_the_rows(shares_are_chance, least, most):
    """Of intervals of 95 % for a precision, fewer than 90 % hold it if the shares are chance."""
    rng = np.random.default_rng(0)
    n, share, sensitivity, alarms = 200, 0.15, 0.8, 0.1
    precision = share * sensitivity / (share * sensitivity + (1 - share) * alarms)
    holds = []
    for seed in range(200):
        truth = (rng.random(n) if shares_are_chance else np.arange(n) / n) < share
        decided = rng.random(n) < np.where(truth, sensitivity, alarms)
        weights = drawn(Units(truth.astype(int)), 300, seed)
        scores = [
            count_scores(confusions(truth, decided, 2, w))["precision"][:, 1]
            for w in (np.ones((n, 1)), weights)
        ]
        low, high, *_ = find_interval(scores[0][0], scores[1], 0.95, None)
        holds.append(low <= precision <= high)
    assert least < np.mean(holds) < most
