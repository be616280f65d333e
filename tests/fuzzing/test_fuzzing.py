"""Damaged files of every format: a right array, or an error that names the file."""

import shutil

import pytest

from skimbal.images import FORMATS
from tests.fuzzing.data_sets import MAKERS
from tests.fuzzing.oracle import Finding, Inputs, check, write
from tests.fuzzing.seeds import SEEDS


def test_every_format_has_seeds():
    assert set(SEEDS) == set(FORMATS)


@pytest.mark.parametrize("name", SEEDS)
def test_seeds_are_read(name, tmp_path):
    outcomes = [
        check(write(unit, tmp_path / str(i), name), name, {})
        for i, unit in enumerate(SEEDS[name]())
    ]
    # Animations, and compressions that need another library.
    assert outcomes.count("refused") <= 2


def test_inputs_are_the_same_in_every_run():
    first, second = Inputs(["PNG", "zarr"], 3), Inputs(["zarr", "PNG"], 3)
    assert [first(n) for n in range(20)] == [second(n) for n in range(20)]


@pytest.mark.parametrize(
    "n_inputs", [20, pytest.param(400, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_are_read_rightly_or_named(name, n_inputs, tmp_path):
    """``python -m benchmarks.fuzz_images`` tries more, and survives a crash."""
    inputs = Inputs([name], 0)
    for unit in inputs.units[name][:2]:  # libraries open files of their own at their import
        check(write(unit, tmp_path / "whole", name), name, {})
        shutil.rmtree(tmp_path / "whole")
    for number in range(n_inputs):
        _, unit, options = inputs(number)
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            path = write(unit, folder, name)
        except OSError:  # names that a file system does not allow
            continue
        try:
            check(path, name, options)
        except Finding as finding:
            raise AssertionError(f"input {number}, {options}: {finding}") from finding
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "n_inputs", [20, pytest.param(1500, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("name", MAKERS)
def test_random_data_sets_have_right_labels_or_are_named(name, n_inputs, tmp_path):
    inputs, outcomes = Inputs([name], 0), set()
    for number in range(n_inputs):
        _, files, facts = inputs(number)
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            outcomes.add(check(write(files, folder, name), name, facts))
        except OSError:  # names that a file system does not allow, or two uses of a name
            continue
        except Finding as finding:
            raise AssertionError(f"input {number}, {facts['load']}: {finding}") from finding
        shutil.rmtree(folder)
    assert outcomes == {"read", "refused"}
