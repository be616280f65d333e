"""Samples of rows and patients, and intervals that say what they are."""

import numpy as np
import pytest
from scipy.stats import beta, norm
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


def test_rows_are_drawn_alike():
    weights = drawn(Units(TRUTH), n_bootstraps=2000)
    assert (weights.sum(0) == 28).all()
    of_rarest = weights[TRUTH == 2].sum(0)
    assert of_rarest.var() == pytest.approx(2 * 26 / 28, rel=0.1)
    assert (of_rarest == 0).mean() == pytest.approx((26 / 28) ** 28, abs=0.03)


def test_rows_are_drawn_class_by_class():
    weights = drawn(Units(TRUTH, stratify=True))
    assert weights.shape == (28, 50)
    for k, n in enumerate([20, 6, 2]):
        assert (weights[k == TRUTH].sum(0) == n).all()
    assert len(np.unique(weights, axis=1).T) > 40
    assert weights.mean() == pytest.approx(1)


def test_patients_are_drawn_whole_and_class_by_class():
    patient = np.array([0] * 7 + [1] * 13 + [2] * 5 + [3] + [4, 4])
    units = Units(TRUTH, patient, stratify=True)
    weights = drawn(units)
    for number in range(5):
        of_patient = weights[patient == number]
        assert (of_patient == of_patient[0]).all()
    firsts = weights[[0, 7, 20, 25, 26]]
    assert (firsts[:2].sum(0) == 2).all()
    assert (firsts[2:4].sum(0) == 2).all()
    assert (firsts[4] == 1).all()


def test_patients_are_drawn_alike():
    patient = np.arange(28) % 7
    weights = drawn(Units(TRUTH, patient))
    assert (weights[:7].sum(0) == 7).all()
    assert (weights == weights[patient]).all()


def test_patients_of_several_classes_cannot_be_kept_by_class():
    y, proba = random_rows(28, 2)
    kwargs = {"groups": np.arange(28) % 7, "pool": None, "stratify": True}
    with pytest.raises(ValueError, match=r"stratify must be False .* 7 of 7 patients"):
        evaluate_predictions(y, proba, [0, 1], **kwargs)
    with pytest.raises(ValueError, match="stratify must be True or False; got 'y'"):
        evaluate_predictions(y, proba, [0, 1], stratify="y")


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
    every = find_interval(1.0, np.ones(100), 0.025, 5)
    assert (every.method, every.high) == ("exact", 1)
    assert every.low == pytest.approx(0.025 ** (1 / 5))
    nothing = find_interval(0.0, np.zeros(100), 0.05, 3)
    assert (nothing.low, nothing.high) == (0, pytest.approx(1 - 0.05 ** (1 / 3)))
    for value, n_units in ((1.0, None), (0.5, 4)):
        ends = find_interval(value, np.full(100, value), 0.025, n_units)
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
    samples = np.array([np.nan] * 10 + [0.2] * 45 + [0.8] * 45)
    ends = find_interval(0.5, samples, 0.025, None)
    assert ends == (0.2, 0.8, 90, "bootstrap")
    ends = find_interval(0.5, np.append(samples, np.nan), 0.025, None)
    assert np.isnan(ends[:2]).all()
    assert ends[2:] == (90, "none")


def rows_with_few(n_few, n=60):
    """Return random rows of which a few are of the second class."""
    _, proba = random_rows(n, 2)
    return (np.arange(n) < n_few).astype(int), proba


def test_a_sample_without_a_class_is_left_out_where_the_class_counts():
    y, proba = rows_with_few(4)
    found = evaluate_predictions(y, proba, [0, 1], random_state=0)
    expected = 1 - (56 / 60) ** 60
    for score in ("sensitivity", "precision", "f1", "roc_auc", "average_precision"):
        assert found.find(score, "1").n_resamples / 1000 == pytest.approx(expected, abs=0.01)
    for score in ("balanced_accuracy", "f1_macro", "matthews_corrcoef", "roc_auc_ovr"):
        assert found.find(score).n_resamples == found.find("f1", "1").n_resamples
    for score, name in (("specificity", "1"), ("sensitivity", "0"), ("accuracy", "")):
        assert found.find(score, name).n_resamples == 1000
    n = found.find("f1", "1").n_resamples
    assert any(f"The fewest are {n} of 1,000, for" in note for note in found.notes)
    assert found.find("sensitivity", "1").interval == "bootstrap"


def test_a_class_of_two_has_no_interval_and_a_note_says_so():
    y, proba = rows_with_few(2)
    proba[0], proba[1] = [0.2, 0.8], [0.8, 0.2]  # one of two is found
    found = evaluate_predictions(y, proba, [0, 1], random_state=0)
    for score, name in (("sensitivity", "1"), ("roc_auc", "1"), ("balanced_accuracy", "")):
        row = found.find(score, name)
        assert (row.interval, np.isnan(row.low)) == ("none", True)
    assert any("less than 90 % of the samples" in note for note in found.notes)
    point = found.operating_points[2]
    assert all(np.isnan(ends).all() for ends in point.intervals.values())
    kept = evaluate_predictions(y, proba, [0, 1], stratify=True, random_state=0)
    assert kept.find("sensitivity", "1").interval == "bootstrap"
    assert kept.stratify
    assert not any("less than 90 %" in note for note in kept.notes)


@pytest.mark.parametrize(
    ("n", "level", "said"), [(10, 0.95, "200"), (199, 0.95, "200"), (999, 0.99, "1,000")]
)
def test_few_samples_are_noted(n, level, said):
    y, proba = random_rows(60, 2)
    notes = [
        " ".join(
            evaluate_predictions(y, proba, [0, 1], n_bootstraps=m, confidence_level=level).notes
        )
        for m in (n, int(said.replace(",", "")), 0)
    ]
    assert f"Take at least {said}." in notes[0]
    assert not any("Take at least" in note for note in notes[1:])


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
    assert any("less than 90 % of the samples" in note for note in found.notes)


def test_intervals_of_a_threshold_take_its_choice_into_account():
    """The differences of sensitivity are those of order statistics (Wilks, 1941)."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [300, 40])
    p = norm.cdf(rng.normal(2.0 * y) - 1)
    found = evaluate_predictions(
        y, np.column_stack([1 - p, p]), [0, 1], n_bootstraps=4000, stratify=True, random_state=0
    )
    point = found.operating_points[2]
    assert (point.class_name, point.target) == ("1", 0.9)
    low, high = point.intervals["sensitivity"]
    np.testing.assert_allclose([low, high], beta.ppf([0.025, 0.975], 36, 5), atol=0.04)
    low, high = point.intervals["specificity"]
    assert low < point.specificity < high
    low, high = point.intervals["threshold"]
    assert low <= point.threshold <= high
    bare = evaluate_predictions(y, np.column_stack([1 - p, p]), [0, 1], n_bootstraps=0)
    assert all(np.isnan(ends).all() for ends in bare.operating_points[2].intervals.values())


def test_a_perfect_score_at_a_threshold_is_not_certain():
    """One image of the other class is above the most frequent threshold of the samples."""
    y = np.repeat([0, 1], [30, 20])
    p = np.concatenate([np.linspace(0, 0.3, 29), [0.53], np.linspace(0.5, 0.9, 20)])
    found = evaluate_predictions(y, np.column_stack([1 - p, p]), [0, 1], random_state=0)
    point = found.operating_points[2]
    assert (point.class_name, point.specificity) == ("1", 1)
    assert point.intervals["specificity"][0] <= 0.025 ** (1 / 30) + 1e-9
    assert point.intervals["precision"][0] <= 0.025 ** (1 / 18) + 1e-9


def test_patients_make_the_intervals_of_a_threshold_wider():
    rng = np.random.default_rng(0)
    y, patient = np.repeat(np.arange(60) % 3 // 2, 10), np.repeat(np.arange(60), 10)
    p = norm.cdf(2.0 * y - 1 + np.repeat(rng.normal(size=60), 10))
    proba = np.column_stack([1 - p, p])
    widths = []
    for groups in (None, patient):
        found = evaluate_predictions(y, proba, [0, 1], groups=groups, random_state=0)
        low, high = found.operating_points[2].intervals["specificity"]
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


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
    ("shares_are_chance", "stratify", "least", "most"),
    [(False, True, 0.9, 0.98), (True, True, 0.7, 0.9), (True, False, 0.9, 0.98)],
)
def test_intervals_hold_for_the_shares_of_their_bootstrap(shares_are_chance, stratify, least, most):
    """If shares are chance, fewer than 90 % of the intervals that keep them hold the precision."""
    rng = np.random.default_rng(0)
    n, share, sensitivity, alarms = 200, 0.15, 0.8, 0.1
    precision = share * sensitivity / (share * sensitivity + (1 - share) * alarms)
    holds = []
    for seed in range(200):
        truth = (rng.random(n) if shares_are_chance else np.arange(n) / n) < share
        decided = rng.random(n) < np.where(truth, sensitivity, alarms)
        weights = drawn(Units(truth.astype(int), stratify=stratify), 300, seed)
        scores = [
            count_scores(confusions(truth, decided, 2, w))["precision"][:, 1]
            for w in (np.ones((n, 1)), weights)
        ]
        low, high, *_ = find_interval(scores[0][0], scores[1], 0.025, None)
        holds.append(low <= precision <= high)
    assert least < np.mean(holds) < most
