"""Every estimator check of scikit-learn and imbalanced-learn, for the heads of this package."""

import pytest
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data

from benchmarks.estimator_checks import HEADS, QUICK, behind_head, checks, fails_by_design
from skimbal import CNN2DClassifier
from skimbal.decoupling import DecoupledClassifier

#: Run by default, to notice other versions of scikit-learn.
QUICK_CHECKS = ("check_estimators_pickle", "check_sample_weights_not_an_array")


def cases():
    for head in HEADS:
        for library, name, check in checks(behind_head(head)):
            if not fails_by_design(head, name):
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
