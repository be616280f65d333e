import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skimbal.study.statistics import holm, interval
from tests.study.data import made_up


def test_the_correction_keeps_false_alarms_rare():
    # Two classifiers that are equally good on the population, on 60 rows, ten times five folds.
    rng = np.random.default_rng(0)
    plain, corrected = 0, 0
    for _ in range(300):
        gain = rng.normal(size=60)
        folds = np.concatenate([rng.permutation(gain).reshape(5, 12).mean(1) for _ in range(10)])
        plain += stats.ttest_1samp(folds, 0).pvalue < 0.05
        corrected += interval(folds, 1 / 4).p_value < 0.05
    assert plain / 300 > 0.3
    assert corrected / 300 < 0.08


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([0.5, math.nan, 0.02])
    assert adjusted[0] == 0.5
    assert math.isnan(adjusted[1])
    assert adjusted[2] == 0.04


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_shrinks_nor_reorders(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_interval_is_nadeau_and_bengios():
    d = np.array([0.03, 0.01, -0.02, 0.05, 0.04])
    study = made_up({("ce", "uniform", None): 0 * d, ("mcc", "uniform", "ce"): d})
    (difference,) = study.differences()
    error = np.sqrt((1 / 5 + 0.25) * d.var(ddof=1))
    assert difference.mean == pytest.approx(d.mean())
    assert difference.p_value == pytest.approx(2 * stats.t.sf(d.mean() / error, 4))
    reach = stats.t.ppf(0.975, 4) * error
    assert (difference.low, difference.high) == pytest.approx((d.mean() - reach, d.mean() + reach))


def test_on_a_test_set_it_is_the_paired_t_test():
    a, b = np.array([0.7, 0.8, 0.75]), np.array([0.6, 0.78, 0.77])
    study = made_up({("ce", "x", None): b, ("mcc", "x", "ce"): a}, has_test_set=True)
    (difference,) = study.differences()
    expected = stats.ttest_rel(a, b)
    assert difference.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (difference.low, difference.high) == pytest.approx(interval)


@pytest.mark.parametrize(("values", "p"), [([0.0, 0.0, 0.0], 1.0), ([0.1, 0.1, 0.1], 0.0)])
def test_differences_without_spread(values, p):
    study = made_up({("ce", "x", None): [0, 0, 0], ("f1", "x", "ce"): values})
    (difference,) = study.differences()
    assert difference[3:] == pytest.approx((values[0], values[0], values[0], p))


def test_two_fits_give_no_interval():
    study = made_up(
        {("ce", "x", None): np.array([0.5, 0.6]), ("mcc", "x", "ce"): np.array([0.7, 0.6])}
    )
    assert all(math.isnan(row.low) and row.std > 0 for row in study.estimates())
    assert "two fits each, which give no interval" in study.summary()
    assert "[" not in study.summary().partition("95 % interval]")[2].partition("log")[0]
