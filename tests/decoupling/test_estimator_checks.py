"""Every estimator check of scikit-learn and imbalanced-learn, for the heads of this package."""

import pytest
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data

from benchmarks.estimator_checks import QUICK, checks
from skimbal import CNN2DClassifier
from skimbal.decoupling import DecoupledClassifier

HEADS = {
    "crt": {"max_epochs": 60, "lr": 0.03},
    "lws": {"head": "lws", "max_epochs": 20, "lr": 0.03},
    "tau": {"head": "tau", "tau": 0.5},
    "ncm": {"head": "ncm"},
}
#: The check sets folds, which "ncm" and a given tau refuse, and then asks for features, which
#: several networks do not share.
WITH_FOLDS = "check_sample_weight_equivalence_on_dense_data"
#: The check asks for right decisions between two imbalanced classes, which these heads hardly move.
OF_TWO_CLASSES = "check_classifiers_with_encoded_labels"
#: Run by default, to notice other versions of scikit-learn.
QUICK_CHECKS = ("check_estimators_pickle", "check_sample_weights_not_an_array")


def cases():
    for head, params in HEADS.items():
        classifier = DecoupledClassifier(CNN2DClassifier(**QUICK), **params)
        for library, name, check in checks(classifier):
            cannot_pass = head in ("lws", "tau") and name == OF_TWO_CLASSES
            if name != WITH_FOLDS and not cannot_pass:
                is_quick = head == "crt" and name in QUICK_CHECKS
                marks = [] if is_quick else [pytest.mark.slow]
                yield pytest.param(check, marks=marks, id=f"{head}-{library}-{name}")


@pytest.mark.parametrize("check", list(cases()))
def test_estimator_check(check):
    check()


class WithoutFeatures(DecoupledClassifier, auto_wrap_output_keys=None):
    """The predictions of a classifier without its features."""

    @property
    def transform(self):
        """Nothing."""
        raise AttributeError


@pytest.mark.slow
@pytest.mark.parametrize("head", ["crt", "lws"])
def test_repeated_rows_are_as_integer_weights(head):
    classifier = WithoutFeatures(CNN2DClassifier(**QUICK), random_state=0, **HEADS[head])
    check_sample_weight_equivalence_on_dense_data(head, classifier)
