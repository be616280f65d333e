"""Descriptions tell the parameters and data of fits apart."""

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
from skimbal.fingerprints import UndescribedError, describe, differences, digest, identity
from skimbal.images import ImageArray


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
    with pytest.raises(UndescribedError, match=r"variable .lines. of.*cannot be described"):
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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, True),
        (1, 1.0),
        ((1, 2), [1, 2]),
        ({1: 2}, {"1": 2}),
        (torch.tensor([2**53]), torch.tensor([2**53 + 1])),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0])),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}),
        (np.random.RandomState(0), np.random.RandomState(1)),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})),
        ({}, None),
    ],
)
def test_values_that_look_alike_have_other_identities(first, second):
    assert identity(describe(first)) == identity(describe(first))
    assert identity(describe(first)) != identity(describe(second))


def test_networks_count_with_their_whole_state():
    def changed(change):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        change(net)
        return identity(describe(net))

    changes = [
        lambda net: None,
        lambda net: net.register_buffer("offset", torch.zeros(1), persistent=False),
        lambda net: setattr(net, "scale", 2),
        lambda net: net[0].weight.requires_grad_(False),
        lambda net: net[0].register_forward_hook(make(1)),
        lambda net: net[1].eval(),
        lambda net: setattr(net[1], "momentum", 0.2),
    ]
    assert len({changed(change) for change in changes}) == len(changes)
    # The number of a hook counts all hooks of the program.
    assert changed(changes[4]) == changed(changes[4])


def test_parameters_without_effect_and_their_order_do_not_count():
    first = CNN2DClassifier(verbose=0, class_weight={0: 1, 1: 2}, net={"a": 1, "b": 2})
    second = CNN2DClassifier(verbose=1, class_weight={1: 2, 0: 1}, net={"b": 2, "a": 1})
    assert identity(describe(first)) == identity(describe(second))
    assert differences(describe(first), describe(second)) == []


def test_differences_name_the_deepest_parts():
    def described(source):
        space = {"__name__": "edited"}
        exec(source, space)
        return json.loads(json.dumps({"seed": 1, "net": describe(space["make"])}))

    first = described(NETWORK)
    assert differences(first, first) == []
    assert differences(first, described(NETWORK.replace("SCALE = 1", "SCALE = 5"))) == [
        "global 'SCALE' of attribute 'forward' of base 'Base' of global 'Net' of net "
        "(1 there, 5 now)"
    ]
    assert differences(first, described(NETWORK.replace("x.flatten(1)", "x.flatten(1) * 5"))) == [
        "code of global 'pool' of attribute 'forward' of base 'Base' of global 'Net' of net "
        "(edited)"
    ]
    assert differences(first, {"seed": 2, "net": "auto"}) == [
        "seed (1 there, 2 now)",
        "net (edited.make there, auto now)",
    ]
    assert differences({"net": None}, {"net": {"a": 1}}) == ["net (None there, other values now)"]
    assert differences({"net": {}}, {"net": {"a": 1}}) == ["net.a (not there)"]
    assert differences({"net": {"a": 1}}, {"net": {}}) == ["net.a (there only)"]
    assert differences({"X": "0123456789abcdef"}, {"X": "0123456789abcdee"}) == [
        "X (other contents)"
    ]
