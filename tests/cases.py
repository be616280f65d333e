"""Parameters of tests: few combinations in every run, all of them in a run with slow tests."""

import pytest


def quick_and_all(quick, everything):
    """Return the quick combinations, and the rest of all combinations as slow ones."""
    quick, everything = list(quick), list(everything)
    assert all(case in everything for case in quick)
    rest = [case for case in everything if case not in quick]
    return [*quick, *(pytest.param(*case, marks=pytest.mark.slow) for case in rest)]
