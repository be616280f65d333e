import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB

from skimbal.exceptions import ParameterError
from skimbal.thresholds import PriorCorrectedClassifier
from tests.thresholds.data import blobs, true_proba

BALANCED, SHIFTED = [1 / 3, 1 / 3, 1 / 3], [0.75, 0.2, 0.05]
X, Y = blobs(3000, BALANCED)
X_NEW, Y_NEW = blobs(3000, SHIFTED, seed=1)
CLF = LogisticRegression(C=100).fit(X, Y)


@pytest.mark.parametrize(
    "prior", [SHIFTED, np.array(SHIFTED), dict(enumerate(SHIFTED)), {2: 0.05, 0: 0.75, 1: 0.2}]
)
def test_a_given_prior_makes_the_true_probabilities(prior):
    corrected = PriorCorrectedClassifier(LogisticRegression(C=100), prior=prior).fit(X, Y)
    np.testing.assert_allclose(corrected.training_prior_, BALANCED, atol=1e-3)
    proba = corrected.predict_proba(X_NEW)
    np.testing.assert_allclose(proba, true_proba(X_NEW, SHIFTED), atol=0.15)
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_allclose(np.log(proba), corrected.predict_log_proba(X_NEW))
    np.testing.assert_array_equal(corrected.predict(X_NEW), proba.argmax(1))
    assert log_loss(Y_NEW, proba) < log_loss(Y_NEW, CLF.predict_proba(X_NEW)) - 0.1
    assert corrected.prior_of_class_ == pytest.approx(dict(enumerate(SHIFTED)))


def test_labels_of_other_rows_are_a_prior():
    frozen = FrozenEstimator(CLF)
    risks = PriorCorrectedClassifier(frozen, training_prior="uniform").fit(X_NEW, Y_NEW)
    np.testing.assert_allclose(risks.prior_, SHIFTED)
    np.testing.assert_allclose(risks.predict_proba(X_NEW).mean(0), SHIFTED, atol=0.02)
    assert risks.training_prior_origin_ == "uniform"


def test_a_shifted_prior_is_found_without_labels():
    estimated = PriorCorrectedClassifier(LogisticRegression(C=100), prior="estimated")
    estimated.fit(X, Y, X_unlabelled=X_NEW)
    np.testing.assert_allclose(estimated.prior_, SHIFTED, atol=0.03)
    assert estimated.n_iter_ > 1
    later = PriorCorrectedClassifier(FrozenEstimator(estimated)).fit_prior(X)
    np.testing.assert_allclose(later.prior_, BALANCED, atol=0.03)
    # A further estimate begins at the training prior, not at the last estimate.
    again = later.fit_prior(X_NEW)
    np.testing.assert_allclose(again.prior_, estimated.prior_, atol=0.005)


def test_the_estimate_is_the_most_likely_prior():
    estimated = PriorCorrectedClassifier(CLF, training_prior="uniform").fit_prior(X_NEW)
    ratio = CLF.predict_proba(X_NEW)

    def likelihood(prior):
        return np.log(ratio @ prior).mean()

    rng = np.random.default_rng(0)
    best = likelihood(estimated.prior_)
    assert all(likelihood(rng.dirichlet([5, 2, 1])) <= best + 1e-7 for _ in range(200))


def test_a_training_prior_is_estimated_from_labelled_rows():
    shifted = PriorCorrectedClassifier(FrozenEstimator(CLF), training_prior="estimated")
    shifted.fit(X_NEW, Y_NEW)
    np.testing.assert_allclose(shifted.training_prior_, BALANCED, atol=0.05)
    np.testing.assert_allclose(shifted.predict_proba(X_NEW).mean(0), SHIFTED, rtol=1e-5)
    assert shifted.training_prior_origin_ == "estimated"


@pytest.mark.parametrize("wrap", [lambda clf: clf, lambda clf: GridSearchCV(clf, {}, cv=2)])
def test_a_training_prior_is_not_estimated_from_training_rows(wrap):
    estimated = PriorCorrectedClassifier(wrap(LogisticRegression()), training_prior="estimated")
    with pytest.raises(ParameterError, match="known, unless fit has a FrozenEstimator"):
        estimated.fit(X, Y)


def test_probabilities_of_another_prior_warn():
    # As of a network that knows its repeated rows by heart: the prior is not the one of batches.
    natural = LogisticRegression().fit(X_NEW, Y_NEW)
    wrong = PriorCorrectedClassifier(FrozenEstimator(natural), training_prior="uniform")
    with pytest.warns(UserWarning, match="class 2 has a share of 0.05 in y, and a mean prob"):
        wrong.fit(X_NEW, Y_NEW)
    assert wrong.predict_proba(X_NEW)[:, 0].mean() > 0.8


def test_an_estimate_that_did_not_converge_warns():
    few = PriorCorrectedClassifier(CLF, training_prior="uniform", max_iter=3)
    with pytest.warns(ConvergenceWarning, match="has not converged in 3 iterations"):
        few.fit_prior(X_NEW)


def test_a_class_that_is_absent_warns_by_name():
    sure = LogisticRegression(C=1e4).fit(X * 10, Y)
    absent = PriorCorrectedClassifier(sure, training_prior="uniform")
    far = np.array([[-90.0, -90.0]] * 20 + [[90.0, -90.0]] * 20)
    with pytest.warns(UserWarning, match="share of the class 2 is"):
        absent.fit_prior(far)
    assert np.isfinite(absent.predict_log_proba(X)).all()


def test_probabilities_of_one_warn():
    forest = RandomForestClassifier(5, random_state=0).fit(X, Y)
    counted = PriorCorrectedClassifier(forest, training_prior="uniform")
    with pytest.warns(UserWarning, match="have a probability of exactly 1"):
        counted.fit_prior(X)


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ({0: 0.5, 1: 0.5}, r"missing: \[2\]"),
        ({0: 0.5, 1: 0.3, 2: 0.1, 3: 0.1}, r"unknown: \[3\]"),
        ([0.5, 0.5], r"a share for each class of \[0, 1, 2\], in this order"),
        ([70, 20, 10], "with sum 1"),
        ([0.5, 0.5, 0.0], "above 0 for each class.*The class 2 has no share"),
        ([0.5, 0.7, -0.2], "above 0"),
        ([0.5, np.nan, 0.5], "with sum 1"),
        (["a", "b", "c"], "with sum 1"),
        ("balanced", "must be"),
    ],
)
@pytest.mark.parametrize("name", ["prior", "training_prior"])
def test_priors_that_do_not_fit_are_refused(name, prior, words):
    with pytest.raises(ParameterError, match=words) as caught:
        PriorCorrectedClassifier(LogisticRegression(), **{name: prior}).fit(X, Y)
    assert caught.value.parameter == name


def test_unlabelled_rows_are_needed_and_never_ignored():
    with pytest.raises(ParameterError, match="X_unlabelled must be given"):
        PriorCorrectedClassifier(LogisticRegression(), prior="estimated").fit(X, Y)
    with pytest.raises(ParameterError, match="X_unlabelled must be None unless"):
        PriorCorrectedClassifier(LogisticRegression()).fit(X, Y, X_unlabelled=X_NEW)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        PriorCorrectedClassifier(LogisticRegression()).fit_prior(X_NEW)


def test_labels_of_a_fitted_classifier_may_lack_a_class_but_not_bring_one():
    frozen = FrozenEstimator(CLF)
    given = PriorCorrectedClassifier(frozen, prior="uniform", training_prior="uniform")
    given.fit(X[Y < 2], Y[Y < 2])
    np.testing.assert_allclose(given.predict_proba(X), CLF.predict_proba(X))
    with pytest.raises(ParameterError, match="The class 2 has no share"):
        clone(given).set_params(prior="labels").fit(X[Y < 2], Y[Y < 2])
    with pytest.raises(ValueError, match="got the class 3"):
        clone(given).fit(X, Y + 1)


def test_a_wrong_prior_is_refused_before_any_row_is_predicted(monkeypatch):
    clf = LogisticRegression(C=100).fit(X, Y)
    monkeypatch.setattr(clf, "predict_proba", lambda X: pytest.fail("predicted"), raising=False)
    monkeypatch.setattr(clf, "predict_log_proba", lambda X: pytest.fail("predicted"), raising=False)
    corrected = PriorCorrectedClassifier(
        FrozenEstimator(clf), prior={0: 0.9, 1: 0.1}, training_prior="estimated"
    )
    with pytest.raises(ParameterError, match=r"^prior must be a dict with one entry for each"):
        corrected.fit(X, Y)


def test_it_is_the_same_prior_inside_and_outside_of_a_calibration():
    inside = CalibratedClassifierCV(GaussianNB(), method="temperature", ensemble=False)
    outside = PriorCorrectedClassifier(inside, prior=SHIFTED).fit(X, Y)
    assert outside.training_prior_origin_ == "class_prior_ of GaussianNB"
    again = PriorCorrectedClassifier(FrozenEstimator(outside), prior=BALANCED).fit(X, Y)
    np.testing.assert_allclose(again.predict_proba(X), outside.estimator_.predict_proba(X))


def test_pickles_predict_the_same():
    fitted = PriorCorrectedClassifier(LogisticRegression(), prior=SHIFTED).fit(X, Y)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(X), fitted.predict_proba(X))


def test_saturated_classifiers_are_corrected_in_the_logarithm():
    y = np.arange(40) % 2
    sure = LogisticRegression(C=1e6).fit(np.where(y, 800.0, -800.0)[:, None], y)
    corrected = PriorCorrectedClassifier(sure, prior=[0.9, 0.1], training_prior="uniform")
    corrected.estimator = FrozenEstimator(sure)
    proba = corrected.fit(np.where(y, 800.0, -800.0)[:, None], y).predict_proba([[-1e5], [1e5]])
    assert np.isfinite(proba).all()
