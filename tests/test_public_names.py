"""The names of the package, which are imported when they are used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import skimbal

ROOT = Path(skimbal.__file__).parents[1]


def imported(code):
    """Run code in a new process, and return the packages that it has imported."""
    shown = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", shown], env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", skimbal.__all__)
def test_every_public_name_is_there(name):
    assert getattr(skimbal, name) is not None
    assert name in dir(skimbal)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'skimbal' has no attribute 'CNN4DClassifier'"):
        _ = skimbal.CNN4DClassifier


def test_the_import_of_the_package_imports_no_other():
    assert not {"torch", "sklearn", "numpy", "skorch", "imblearn"} & imported("import skimbal")


@pytest.mark.slow
def test_a_classifier_needs_no_import_of_samplers_and_pictures():
    found = imported("from skimbal import CNN2DClassifier")
    assert "torch" in found
    assert not {"imblearn", "matplotlib"} & found
