import warnings

import numpy as np
import pytest
from imblearn.ensemble import BalancedBaggingClassifier
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_resampling_pipeline
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skimbal import CNN2DClassifier
from skimbal.exceptions import ParameterError
from skimbal.thresholds import CostMatrixClassifier, PriorCorrectedClassifier
from skimbal.thresholds.training_prior import Labels, find_training_prior
from tests.thresholds.data import blobs

X, Y = blobs(400, [0.75, 0.25])
SHARES, UNIFORM = [0.75, 0.25], [0.5, 0.5]
PRIORS = [0.9, 0.1]


def calibrated(method, inner):
    return CalibratedClassifierCV(inner, method=method, ensemble=False, cv=2)


@pytest.mark.parametrize(
    ("estimator", "expected", "origin"),
    [
        (LogisticRegression(), SHARES, "labels of the fit"),
        (LogisticRegression(class_weight="balanced"), UNIFORM, "by class_weight"),
        (LogisticRegression(class_weight={0: 1, 1: 3}), UNIFORM, "by class_weight"),
        (
            RandomForestClassifier(2, class_weight="balanced_subsample", random_state=0),
            UNIFORM,
            "by class_weight",
        ),
        (GaussianNB(), SHARES, "class_prior_ of GaussianNB"),
        (GaussianNB(priors=PRIORS), PRIORS, "class_prior_"),
        (LinearDiscriminantAnalysis(priors=PRIORS), PRIORS, "priors_"),
        (make_pipeline(StandardScaler(), GaussianNB(priors=PRIORS)), PRIORS, "class_prior_"),
        (GridSearchCV(GaussianNB(priors=PRIORS), {}, cv=2), PRIORS, "class_prior_"),
        (TunedThresholdClassifierCV(GaussianNB(priors=PRIORS), cv=2), PRIORS, "class_prior_"),
        (CostMatrixClassifier(GaussianNB(priors=PRIORS), cost_matrix="zero_one"), PRIORS, "class"),
        (calibrated("temperature", GaussianNB(priors=PRIORS)), PRIORS, "class_prior_"),
        (calibrated("sigmoid", GaussianNB(priors=PRIORS)), SHARES, "calibration by method"),
        (calibrated("isotonic", LogisticRegression(class_weight="balanced")), SHARES, "isotonic"),
        (PriorCorrectedClassifier(LogisticRegression(), prior=PRIORS), PRIORS, "effective_prior_"),
        (FrozenEstimator(GaussianNB().fit(X, Y)), SHARES, "class_prior_"),
    ],
    ids=str,
)
def test_the_prior_of_a_classifier_is_known(estimator, expected, origin):
    corrected = PriorCorrectedClassifier(estimator, prior="uniform").fit(X, Y)
    np.testing.assert_allclose(corrected.training_prior_, expected, atol=1e-6)
    assert origin in corrected.training_prior_origin_


def test_multinomial_naive_bayes_keeps_a_logarithm():
    corrected = PriorCorrectedClassifier(MultinomialNB(fit_prior=False)).fit(np.abs(X), Y)
    np.testing.assert_allclose(corrected.training_prior_, UNIFORM)


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (FrozenEstimator(LogisticRegression().fit(X, Y)), "fitted before"),
        (
            FrozenEstimator(calibrated("sigmoid", GaussianNB()).fit(X, Y)),
            "fitted before",
        ),
        (
            make_resampling_pipeline(RandomOverSampler(), LogisticRegression()),
            "A step of it draws other rows",
        ),
        (BalancedBaggingClassifier(n_estimators=2, random_state=0), "draws other rows"),
        (
            BaggingClassifier(LogisticRegression(class_weight="balanced"), 2, random_state=0),
            "LogisticRegression among them",
        ),
    ],
    ids=str,
)
def test_a_prior_that_is_not_known_is_refused(estimator, reason):
    with pytest.raises(ParameterError, match=f"training_prior must be given.*{reason}"):
        PriorCorrectedClassifier(estimator).fit(X, Y)
    given = PriorCorrectedClassifier(estimator, training_prior="labels").fit(X, Y)
    np.testing.assert_allclose(given.training_prior_, SHARES)


def test_balanced_weights_of_rows_with_weights_are_not_known():
    estimator = LogisticRegression(class_weight="balanced").fit(X, Y)
    equal, unequal = np.full(400, 3.0), np.where(Y == 1, 3.0, 1.0)
    np.testing.assert_allclose(find_training_prior(estimator, Labels(Y, equal)).shares, UNIFORM)
    with pytest.raises(ParameterError, match="rows of unequal weights"):
        find_training_prior(estimator, Labels(Y, unequal))


@pytest.mark.filterwarnings("ignore:The `probability` parameter:FutureWarning")
def test_a_machine_that_calibrates_itself_does_so_without_class_weights():
    machine = SVC(kernel="linear", probability=True, class_weight="balanced", random_state=0)
    corrected = PriorCorrectedClassifier(machine).fit(X, Y)
    np.testing.assert_allclose(corrected.training_prior_, SHARES)
    np.testing.assert_allclose(corrected.estimator_.predict_proba(X).mean(0), SHARES, atol=0.02)


class Weighing(LogisticRegression):
    """Stands for a classifier of another library that weighs the classes."""

    def __init__(self, scale_pos_weight=None, class_weights=None):
        super().__init__()
        self.scale_pos_weight = scale_pos_weight
        self.class_weights = class_weights


def test_weights_of_other_libraries_are_refused():
    assert PriorCorrectedClassifier(Weighing()).fit(X, Y).training_prior_[0] == 0.75
    with pytest.raises(ParameterError, match="by scale_pos_weight"):
        PriorCorrectedClassifier(Weighing(3.0)).fit(X, Y)
    with pytest.raises(ParameterError, match="by class_weights"):
        PriorCorrectedClassifier(Weighing(class_weights=[1, 3])).fit(X, Y)


def test_a_network_of_balanced_batches_gives_risks():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [72, 24])
    images = rng.normal(size=(96, 8, 8)).astype("float32") + 0.3 * y[:, None, None]
    clf = CNN2DClassifier(module="small", max_epochs=1, augment=None, random_state=0)
    risks = PriorCorrectedClassifier(clf).fit(images, y)
    assert risks.training_prior_origin_ == "effective_prior_ of CNN2DClassifier"
    np.testing.assert_allclose(risks.training_prior_, UNIFORM)
    np.testing.assert_allclose(risks.prior_, SHARES)
    odds = risks.decision_function(images) - risks.estimator_.decision_function(images)
    np.testing.assert_allclose(odds, np.log(1 / 3), rtol=1e-4)


def test_a_network_whose_prior_is_not_known_says_why():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [72, 24])
    images = rng.normal(size=(96, 8, 8)).astype("float32")
    clf = CNN2DClassifier(
        "ce+mcc", sampler="uniform", module="small", max_epochs=1, augment=None, random_state=0
    )
    with warnings.catch_warnings(), pytest.raises(ParameterError, match=r"The loss ce \+ mcc has"):
        PriorCorrectedClassifier(clf).fit(images, y)
