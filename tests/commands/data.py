"""Helpers of the tests of commands."""

import csv
import warnings

import numpy as np
import pytest
from skorch.history import History

from skimbal import CNN2DClassifier, CollapseWarning
from skimbal.__main__ import main
from skimbal.losses import get_loss

PAIR = ("--losses", "ce,ce+mcc", "--sampler", "uniform")
TINY = ("--module", "small", "--epochs", "1")
QUICK = ("--epochs", "1", "--seeds", "1", "--sampler", "uniform")


class Record(list):
    """A list that is no part of a classifier, so that a study goes on when it has grown."""

    def __reduce__(self):
        return Record, ()


class StubClassifier(CNN2DClassifier):
    """Takes the brightness of an image for its class; `fits` holds what was fitted."""

    fits: list
    n_epochs_ = n_steps_ = 1
    history_ = History()
    history_.new_epoch()
    history_.record("train_batch_count", 1)

    def fit(self, X, y):
        self.fits.append((self, X, y))
        self.classes_ = np.unique(y)
        loss = get_loss(self.loss, [1, 1])
        if loss.may_collapse and not loss.ce_share(0, 1):
            warnings.warn(f"{loss.name}\ncollapses", CollapseWarning, stacklevel=2)
        return self

    def predict_proba(self, X):
        brightness = np.asarray(X, dtype=float).mean(axis=(1, 2))[:, None] / 100
        odds = np.exp(brightness * np.arange(len(self.classes_)))
        return odds / odds.sum(1, keepdims=True)


def images(y, rng):
    """Images of which those of class 1 are brighter."""
    return rng.integers(0, 100, (len(y), 8, 8), dtype=np.uint8) + 100 * np.uint8(y)[:, None, None]


def check_refused(capsys, *argv):
    """Check that the arguments end the program with code 2, and return its line of error."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    # Hints of loaders come first.
    *before, error = err.splitlines(keepends=True)
    assert all(line.startswith("skimbal: UserWarning: ") for line in before)
    assert error.startswith("skimbal: error: ")
    return error


def table_of(out):
    """Return the rows of the first table."""
    lines = out.splitlines()
    return [line.split() for line in lines[3 : lines.index("", 3)]]


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
