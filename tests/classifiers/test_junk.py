"""A parameter takes a value or refuses it by name, whatever the value is."""

import datetime
import decimal
import fractions
import os
import pathlib

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skimbal import CNN2DClassifier
from skimbal.exceptions import DivergenceError
from tests.cases import quick_and_all

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


class Refuses:
    """An object that cannot be compared."""

    def __eq__(self, other):
        raise RuntimeError("eq")

    def __bool__(self):
        raise RuntimeError("bool")

    def __hash__(self):
        return 1


class WithoutText:
    """An object that cannot be shown."""

    def __repr__(self):
        raise RuntimeError("repr")


def nothing():
    pass


def anything(*args, **kwargs):
    pass


JUNK = {
    **{str(value): value for value in (None, True, 0, 1, -1, 2**32, 10**400, 0.5, 1j, ...)},
    **{f"{value}!": value for value in (float("nan"), float("inf"), -float("inf"))},
    **{repr(value): value for value in ("", "adam", "auto", "sparseadam", "muon", "meta", b"ce")},
    **{
        repr(value): value
        for value in ([], [None], ["ce"], [1], (), (1, 2), (3, 3), (-1,), (0, 8, 8), (8, 8, 8))
    },
    **{repr(value): value for value in ({}, {1}, {None: 1}, {1: 2}, {"lr": 1}, [("a", 3)])},
    "numpy bool": np.True_,
    "numpy float": np.float32(0.5),
    "numpy int": np.uint8(2),
    "numpy text": np.str_("balanced"),
    "fraction": fractions.Fraction(1, 3),
    "decimal": decimal.Decimal("0.5"),
    "path": pathlib.Path("x"),
    "array": np.arange(3),
    "array of nothing": np.array([]),
    "scalar array": np.array(1),
    "text array": np.array("ce"),
    "tensor": torch.zeros(2),
    "scalar tensor": torch.tensor(1.0),
    "NA": pd.NA,
    "NaT": pd.NaT,
    "series": pd.Series([1, 2]),
    "frame": pd.DataFrame(),
    "int": int,
    "str": str,
    "object": object(),
    "range": range(3),
    "iterator": iter([]),
    "nothing": nothing,
    "anything": anything,
    "Linear": nn.Linear,
    "Module": nn.Module,
    "Sequential": nn.Sequential,
    "BatchNorm": nn.BatchNorm2d,
    "layer": nn.ReLU(),
    "MSE": nn.MSELoss,
    "NLL": nn.NLLLoss(),
    "Optimizer": torch.optim.Optimizer,
    "LBFGS": torch.optim.LBFGS,
    "SparseAdam": torch.optim.SparseAdam,
    "dtype": torch.float32,
    "numpy dtype": np.dtype("f4"),
    "device": torch.device("cpu"),
    "generator": np.random.default_rng(0),
    "error": ValueError("x"),
    "python module": os,
    "refuses": Refuses(),
    "without text": WithoutText(),
    "time": datetime.timedelta(1),
    "classifier": CNN2DClassifier(),
    "classifier class": CNN2DClassifier,
    "callback": skorch.callbacks.EpochTimer,
    "callbacks": [skorch.callbacks.EpochTimer()],
    "surrogate": "\ud800",
    "long text": "x" * 3000,
}
X = np.random.default_rng(0).integers(0, 200, (24, 8, 8), dtype=np.uint8)
Y = np.arange(24) % 3
NAMES = list(CNN2DClassifier().get_params(deep=False))
#: Values that are taken, and with which a fit does not end.
ENDLESS = {(name, str(2**32)) for name in ("max_epochs", "epoch_length", "n_tta")}
#: scikit-learn and the losses show these in their errors, which fails by itself.
SHOWN = {("class_weight", "without text"), ("loss", "without text")}
CASES = [(name, tag) for name in NAMES for tag in JUNK if (name, tag) not in ENDLESS | SHOWN]
QUICK = [(name, tag) for i, (name, tag) in enumerate(CASES) if i % 9 == 0]
#: Found by this test before.
QUICK += [
    ("optimizer", "'sparseadam'"),
    ("optimizer", "'muon'"),
    ("optimizer", "SparseAdam"),
    ("random_state", str(2**32)),
    ("device", "NA"),
    ("train_split", "int"),
    ("train_split", "Optimizer"),
    ("train_split", "['ce']"),
    ("module", "Linear"),
    ("module", "MSE"),
    ("loss", "MSE"),
    ("loss", "Module"),
    ("lr", str(10**400)),
    ("lr", "fraction"),
    ("micro_batch_size", "numpy int"),
]


def check(name, value):
    """Fit and predict, or find the name of the parameter in the error."""
    params = {"max_epochs": 1, "random_state": 0, "module": "small", "batch_size": 8}
    # A factory of the user may fail in its own words, and a note names it.
    further = {"module": [RuntimeError], "lr": [DivergenceError]}
    refusals = (ValueError, TypeError, *further.get(name, []))
    try:
        CNN2DClassifier(**{**params, name: value}).fit(X, Y).predict_proba(X)
    except refusals as error:
        text = "\n".join([str(error), *getattr(error, "__notes__", [])])
        if name not in text:
            pytest.fail(f"{name} is not named: {text}")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler itself
@pytest.mark.parametrize(("name", "tag"), quick_and_all(dict.fromkeys(QUICK), CASES))
def test_junk_is_taken_or_refused_by_name(name, tag, capsys):
    check(name, JUNK[tag])


NUMBERS = st.one_of(st.integers(-(2**70), -1), st.floats(), st.complex_numbers(), st.fractions())
VALUES = st.one_of(NUMBERS, st.text(), st.binary(), st.booleans(), st.none())
ANY = st.recursive(
    VALUES, lambda one: st.lists(one, max_size=3) | st.tuples(one, one), max_leaves=4
)
#: Other values are rarely refused: a fit takes long for each, or draws anew.
HARMLESS = [name for name in NAMES if name not in ("verbose", "compile", "distributed")]


@given(st.sampled_from(HARMLESS), ANY)
def test_drawn_junk_is_taken_or_refused_by_name(name, value):
    check(name, value)
