"""A study notices every edit that counts, and few others. The benchmark has the same table."""

import re

import pytest

from benchmarks.cache_edits import judge
from benchmarks.edits import EDITS

#: Edits that change no result and are noticed all the same.
NOTICED = {
    "a variable in between",
    "a method that nothing uses",
    "a global of a module that nothing uses",
}
#: Every so many of the edits are tried in the default tests.
STEP = 9


def cases():
    tried = [edit for edit in EDITS if edit.how != "process"][::STEP]
    return [
        pytest.param(edit, id=edit.name, marks=[] if edit in tried else pytest.mark.slow)
        for edit in EDITS
    ]


@pytest.mark.parametrize("edit", cases())
def test_an_edit_that_counts_is_noticed(edit):
    outcome = judge(edit)
    assert outcome.is_hit == (not edit.is_other and edit.name not in NOTICED), outcome.words


def test_the_table_is_long_and_its_names_differ():
    others = [edit for edit in EDITS if edit.is_other]
    assert len(others) > 90
    assert len(EDITS) - len(others) > 20
    assert len({edit.name for edit in EDITS}) == len(EDITS)
    assert len(NOTICED) <= 0.15 * (len(EDITS) - len(others))


WORDS = {
    "a global number": r"global 'WIDTH' of .* \(8 there, 9 now\)",
    "forward": r"code of attribute 'forward' of estimator.module \(edited\)",
    "a parameter of a callback": r"attribute 'rate' of estimator.*decay \(0.5 there, 0.25 now\)",
    "one weight": r"parameter 'weight' of module '2' of global 'NET' of .* \(edited\)",
    "weights in a file": r"file '.*first.pt' of global 'PATH' of estimator.module \(edited\)",
    "one pixel": r"data.X \(other contents\)",
    "a method of torch is replaced": r".*patches.torch.*linear.Linear.forward \(not there\)",
}


@pytest.mark.parametrize("name", WORDS)
def test_the_refusal_names_the_part_that_differs(name):
    (edit,) = (edit for edit in EDITS if edit.name == name)
    words = judge(edit).words
    assert "cache_dir must be a folder of the same study" in words
    found = words.partition("The differences are ")[2]
    assert re.search(WORDS[name], found), found
