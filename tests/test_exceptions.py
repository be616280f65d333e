"""Tests of the errors of the package."""

import copy
import pickle

import pytest

from skimbal.exceptions import ParameterError


@pytest.mark.parametrize("got", [3, "text", (number for number in ()), lambda: 0], ids=str)
def test_an_error_arrives_from_another_process(got):
    error = ParameterError("lr", "a number above 0", got, "Set lr=0.1.")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(other) == str(error)
        parts = other.parameter, other.expected, repr(other.got), other.remedy
        assert parts == ("lr", "a number above 0", repr(got), "Set lr=0.1.")
