"""The contract: every estimator check of scikit-learn and imbalanced-learn, for every loss."""

import re
from unittest import SkipTest

import imblearn
import pytest
import sklearn

from benchmarks.estimator_checks import (
    CLASSIFIERS,
    COLLAPSE_CHECK,
    EXPECTED_FAILURES,
    LOSSES,
    PAGE,
    SEEDS,
    checks,
    count_collapses,
)


def cases():
    for classifier in CLASSIFIERS:
        for loss in LOSSES:
            # The default loss always; the others take minutes.
            marks = [] if loss == "ce+mcc" else [pytest.mark.slow]
            for library, name, check in checks(classifier(loss=loss)):
                if (loss, name) == ("mcc", COLLAPSE_CHECK):
                    continue  # a matter of chance, see below
                label = f"{classifier.__name__}-{loss}-{library}-{name}"
                yield pytest.param(loss, name, check, marks=marks, id=label)


@pytest.mark.parametrize(("loss", "name", "check"), list(cases()))
def test_estimator_check(loss, name, check):
    try:
        if (loss, name) in EXPECTED_FAILURES:
            with pytest.raises(AssertionError):
                check()
        else:
            check()
    except SkipTest as skipped:
        pytest.fail(f"the check skipped itself: {skipped}")


@pytest.mark.slow
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_pure_mcc_collapses_with_some_seeds_only(classifier):
    # What its warning says, and why this loss cannot promise the check.
    assert 0 < count_collapses(classifier(loss="mcc")) < SEEDS / 2


def test_only_pure_mcc_has_an_expected_failure():
    assert list(EXPECTED_FAILURES) == [("mcc", "check_class_weight_classifiers")]


def test_page_lists_every_check_and_no_failure():
    page = PAGE.read_text()
    assert "FAIL" not in page
    assert page.count("expected failure\n") == len(EXPECTED_FAILURES)
    versions = f"sklearn {sklearn.__version__}, imblearn {imblearn.__version__}"
    if versions in page:  # other versions have other checks
        listed = re.findall(r"^   \* - ``(.*)``$", page, flags=re.MULTILINE)
        expected = {f"{library}: {name}" for library, name, _ in checks(CLASSIFIERS[0]())}
        assert set(listed) == expected
