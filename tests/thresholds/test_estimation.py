import numpy as np
import pytest

from skimbal.exceptions import ParameterError
from skimbal.thresholds.estimation import bias_of, most_likely_prior, prior_of_labelled
from skimbal.thresholds.training_prior import Labels
from tests.thresholds.data import blobs, true_proba

UNIFORM, SHIFTED = np.full(3, 1 / 3), np.array([0.7, 0.2, 0.1])
CLASSES = np.arange(3)
X, Y = blobs(2000, SHIFTED)


def test_true_probabilities_give_the_true_priors():
    log_proba = np.log(true_proba(X, UNIFORM))
    found = most_likely_prior(log_proba, UNIFORM, 2000, 1e-9)
    np.testing.assert_allclose(found.prior, SHIFTED, atol=0.03)
    assert found.gap <= 1e-9
    labelled = prior_of_labelled(log_proba, Labels(Y), CLASSES, 2000, 1e-9)
    np.testing.assert_allclose(labelled.prior, UNIFORM, atol=0.04)
    mean, error = bias_of(log_proba, UNIFORM, Labels(Y), CLASSES)
    assert (np.abs(mean - SHIFTED) < 3 * error).all()


def test_weights_count_as_rows():
    few, labels = X[:300], Y[:300]
    times = 1 + (labels == 2)
    log_proba = np.log(true_proba(few, UNIFORM))
    weighted = prior_of_labelled(log_proba, Labels(labels, times), CLASSES, 500, 1e-9)
    again = Labels(np.repeat(labels, times))
    repeated = prior_of_labelled(np.repeat(log_proba, times, axis=0), again, CLASSES, 500, 1e-9)
    np.testing.assert_allclose(weighted.prior, repeated.prior)


def test_rows_of_probability_zero():
    proba = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.2, 0.5, 0.3]])
    with np.errstate(divide="ignore"):
        log_proba = np.log(proba)
    found = most_likely_prior(log_proba, UNIFORM, 2000, 1e-9)
    assert np.isfinite(found.prior).all()
    assert found.prior.sum() == pytest.approx(1)
    labelled = prior_of_labelled(log_proba, Labels(np.array([0, 1, 2])), CLASSES, 5000, 1e-6)
    assert np.isfinite(labelled.prior).all()
    log_proba[:, 2] = -np.inf
    with pytest.raises(ParameterError, match="The class 2 has the probability 0 in each row"):
        prior_of_labelled(log_proba, Labels(np.array([0, 1, 2])), CLASSES, 10, 1e-6)


def test_the_iteration_ends_and_tells_the_gap():
    log_proba = np.log(true_proba(X, UNIFORM))
    assert most_likely_prior(log_proba, UNIFORM, 1, 1e-12).gap > 1e-3
    assert prior_of_labelled(log_proba, Labels(Y), CLASSES, 1, 1e-12).n_iter == 1
