"""What tells fits apart, and what a folder of them does. Whole studies with one: test_study.py."""

import functools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from imblearn.over_sampling import RandomOverSampler
from skorch.callbacks import EarlyStopping
from torch import nn

from skimbal import CNN2DClassifier, LossMix
from skimbal.images import ImageArray
from skimbal.study.fit_cache import FitCache, describe, digest


def make(width):
    return lambda c, k: width


def make_by_default(width):
    return lambda c, k, w=width: w


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda c, k: 1, lambda c, k: 2),
        (make(1), make(2)),
        (make_by_default(1), make_by_default(2)),
        (functools.partial(make, 1), functools.partial(make, 2)),
        (nn.Linear(2, 1), nn.Linear(2, 1)),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])),
        (np.arange(3), np.arange(4)),
        (LossMix(ce=1), LossMix(ce=1, mcc=1)),
        (EarlyStopping(patience=2), EarlyStopping(patience=3)),
        ({"a": [1, (2, None)]}, {"a": [1, (3, None)]}),
        (nn.CrossEntropyLoss, nn.NLLLoss),
    ],
)
def test_different_things_have_different_descriptions(first, second):
    assert json.dumps(describe(first)) == json.dumps(describe(first))
    assert json.dumps(describe(first)) != json.dumps(describe(second))


def test_descriptions_hold_no_address():
    clf = CNN2DClassifier(sampler=RandomOverSampler(), callbacks=[EarlyStopping()])
    assert " at 0x" not in json.dumps(describe(clf))
    assert describe(make(1)) == describe(make(1))
    assert describe(nn.Linear) == "torch.nn.modules.linear.Linear"
    assert describe(np.int64(3)) == "np.int64(3)"
    # Its count of batches is a number without an axis.
    assert describe(nn.BatchNorm1d(2)) == describe(nn.BatchNorm1d(2))


def test_digest_is_of_the_contents():
    X = np.arange(24.0).reshape(6, 4)
    assert digest(X) == digest(X.copy()) == digest(ImageArray(X)) == digest(pd.DataFrame(X))
    others = [X[::-1], X.astype(np.float32), X.reshape(4, 6), X + 1]
    assert len({digest(other) for other in (X, *others)}) == 5
    assert digest(None) is None
    assert digest(np.array(["a", None], dtype=object)) != digest(
        np.array(["b", None], dtype=object)
    )
    assert digest(X, None) != digest(None, X)


def test_folder_keeps_each_fit_at_once(tmp_path):
    cache = FitCache(tmp_path / "runs")
    assert cache.seed is None
    assert not (tmp_path / "runs").exists()
    assert cache.open({"seed": 3, "data": "x"}) == {}
    cache.append("first", {"score": 0.1, "n": 2})
    again = FitCache(tmp_path / "runs")
    assert again.seed == 3
    assert again.open({"seed": 3, "data": "x"}) == {"first": {"score": 0.1, "n": 2}}
    with pytest.raises(ValueError, match=r"What differs: data \(x there, y now\)"):
        FitCache(tmp_path / "runs").open({"seed": 3, "data": "y"})
