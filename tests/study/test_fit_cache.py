"""What tells fits apart, and what a folder of them does. Whole studies with one: test_study.py."""

import functools
import json
from pathlib import Path

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
from tests.study.data import PAIR, compare, few_or_many, made_up, never


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


NETWORK = """
import torch
from torch import nn
SCALE = 1
def pool(x):
    return x.flatten(1)
class Base(nn.Module):
    def forward(self, x):
        return self.layer(pool(x)) * SCALE
class Net(Base):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.layer = nn.LazyLinear(n_classes)
def make(n_channels, n_classes):
    return Net(n_channels, n_classes)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("* SCALE", "* 5"),
        ("SCALE = 1", "SCALE = 5"),
        ("x.flatten(1)", "x.flatten(1) * 5"),
        ("class Net(Base)", "class Net(nn.Module)"),
        ("super().__init__()", "super().__init__(); self.rate = 5"),
        ("class Net(Base):", "class Net(Base):\n    width = 5"),
    ],
)
@pytest.mark.parametrize("name", ["Net", "make"])
def test_edited_classes_and_the_code_that_they_use_have_other_descriptions(before, after, name):
    def described(source):
        space = {"__name__": "edited"}
        exec(source, space)
        network = space[name]
        whole = describe(CNN2DClassifier(module=network, callbacks=[("a", network)]))
        return json.dumps([describe(network), describe(functools.partial(network, 1)), whole])

    assert described(NETWORK) == described(NETWORK.replace("class Base", "# Why.\nclass Base"))
    edited = NETWORK.replace(before, after)
    assert edited != NETWORK
    assert all(
        first != second
        for first, second in zip(
            json.loads(described(NETWORK)), json.loads(described(edited)), strict=True
        )
    )


def test_bound_methods_and_closures_count_with_their_state():
    class Change:
        def __init__(self, factor):
            self.factor = factor

        def apply(self, images):
            return images * self.factor

    def make(weights):
        return lambda images: images * weights

    assert describe(Change(1).apply) != describe(Change(2).apply)
    assert describe(make(np.ones(2))) != describe(make(np.zeros(2)))
    lines = (line for line in "ab")
    with pytest.raises(
        ValueError, match=r"cache_dir must be None if.*'lines'.*cannot be described"
    ):
        describe(lambda images: next(lines))


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
    (fit,) = made_up({("ce", "uniform", None): [0.1]}).fits
    cache.append("first", fit)
    again = FitCache(tmp_path / "runs")
    assert again.seed == 3
    assert again.open({"seed": 3, "data": "x"}) == {"first": fit}
    with pytest.raises(ValueError, match=r"same study.*data \(x there, y now\)"):
        FitCache(tmp_path / "runs").open({"seed": 3, "data": "y"})


@few_or_many(losses=PAIR)
def test_half_a_line_of_a_crash_is_done_again(small, tmp_path, options):
    study = compare(*small, cache_dir=tmp_path, **options)
    path = tmp_path / "fits.jsonl"
    text = path.read_text()
    path.write_text(text[:-20])
    assert str(compare(*small, cache_dir=tmp_path, **options)) == str(study)
    assert [json.loads(line)[0] for line in path.read_text().splitlines()] == [
        json.loads(line)[0] for line in text.splitlines()
    ]


def test_foreign_and_damaged_folders_are_refused(small, tmp_path):
    estimator = CNN2DClassifier(module=never)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"cache_dir must be a new or empty folder.*foreign"):
        compare(*small, cache_dir=foreign, estimator=estimator)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NotADirectoryError, match=r"cache_dir must be a folder; got .*file"):
        compare(*small, cache_dir=file, estimator=estimator)
    with pytest.raises(NotADirectoryError, match="cache_dir must"):
        compare(*small, cache_dir=file / "runs", estimator=estimator)
    (foreign / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study.json is damaged"):
        compare(*small, cache_dir=foreign, estimator=estimator)


def test_an_unwritable_folder_is_refused(small, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"cache_dir must .*Permission denied"):
        compare(*small, cache_dir=tmp_path / "runs", estimator=CNN2DClassifier(module=never))


@few_or_many(losses=PAIR)
def test_a_damaged_line_is_named(small, tmp_path, options):
    compare(*small, cache_dir=tmp_path, **options)
    path = tmp_path / "fits.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "nonsense", *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"line 2 of .*fits.jsonl is damaged"):
        compare(*small, cache_dir=tmp_path, **options)
