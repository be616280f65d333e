import os
from unittest import mock

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import estimator_checks_generator

from skimbal.thresholds import (
    CostMatrixClassifier,
    PriorCorrectedClassifier,
    TunedOffsetsClassifierCV,
)
from tests.thresholds.data import blobs

X, Y = blobs(120, [0.5, 0.3, 0.2])
WRAPPERS = [
    TunedOffsetsClassifierCV(LogisticRegression(), cv=3),
    PriorCorrectedClassifier(LogisticRegression()),
    CostMatrixClassifier(LogisticRegression(), cost_matrix="zero_one"),
]
#: As scikit-learn expects of TunedThresholdClassifierCV.
EXPECTED = {
    "TunedOffsetsClassifierCV": {
        "check_classifiers_train": "The most probable class is not the decision."
    }
}


def checks_of(wrapper):
    expected = EXPECTED.get(type(wrapper).__name__)
    return estimator_checks_generator(wrapper, mark="xfail", expected_failed_checks=expected)


@pytest.mark.filterwarnings("ignore:The offsets do not help:UserWarning")
@pytest.mark.parametrize(
    ("wrapper", "check"), [pair for wrapper in WRAPPERS for pair in checks_of(wrapper)]
)
def test_checks_of_scikit_learn(wrapper, check):
    with mock.patch.dict(os.environ, {"SCIPY_ARRAY_API": "1"}):
        check(wrapper)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_methods_are_there_if_the_classifier_has_them(wrapper):
    assert hasattr(wrapper, "predict_proba")
    if isinstance(wrapper, TunedOffsetsClassifierCV):
        assert not hasattr(TunedOffsetsClassifierCV(LinearSVC()), "predict_proba")
        assert not hasattr(TunedOffsetsClassifierCV(LinearSVC()), "predict_log_proba")
    else:
        with pytest.raises(ValueError, match="estimator must be"):
            type(wrapper)(**{**wrapper.get_params(deep=False), "estimator": LinearSVC()}).fit(X, Y)


class Broken(LogisticRegression):
    """A classifier with predictions that are not numbers."""

    def predict_log_proba(self, X):
        return np.full((len(X), 3), np.nan)


class Narrow(LogisticRegression):
    """A classifier that gives a column too few."""

    def predict_log_proba(self, X):
        return np.zeros((len(X), 2))


@pytest.mark.parametrize(
    ("estimator", "words"), [(Broken(), "must give numbers.*row 0"), (Narrow(), r"\(\d+, 2\)")]
)
def test_scores_that_are_not_numbers_are_refused(estimator, words):
    with pytest.raises(ValueError, match=words):
        TunedOffsetsClassifierCV(estimator).fit(X, Y)
    with pytest.raises(ValueError, match=words):
        PriorCorrectedClassifier(estimator).fit(X, Y).predict(X)


class Backwards(LogisticRegression):
    """A classifier whose columns are not in the order of the labels."""

    def fit(self, X, y):
        super().fit(X, y)
        self.classes_ = self.classes_[::-1]
        return self


def test_classes_that_are_not_sorted_are_refused():
    for wrapper in (TunedOffsetsClassifierCV(Backwards()), PriorCorrectedClassifier(Backwards())):
        with pytest.raises(ValueError, match=r"classes_ of Backwards must be sorted.*\[2, 1, 0\]"):
            wrapper.fit(X, Y)


@pytest.mark.filterwarnings("ignore:The offsets do not help:UserWarning")
def test_scores_of_decision_function_take_offsets():
    clf = TunedOffsetsClassifierCV(RidgeClassifier(), cv=3).fit(X, Y)
    scores = clf.estimator_.decision_function(X) + clf.offsets_
    np.testing.assert_array_equal(clf.predict(X), scores.argmax(1))
    np.testing.assert_allclose(clf.decision_function(X), scores)
    assert clf.best_score_ >= clf.score_without_offsets_
