"""States of objects: every kind comes back equal, in an object that is there already."""

import collections
import enum
import functools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skimbal.training.state import Packed, StateMismatchError, pack, unpack

NUMBERS = np.random.default_rng(0)


class Colour(enum.Enum):
    RED, BLUE = 1, 2


class Holder:
    """An object of the user."""

    def __init__(self, value=None):
        self.value = value


def moved(value, live):
    """Let an object take over the state of another, by way of a text."""
    packed = pack(Holder(value))
    packed = Packed(json.loads(json.dumps(packed.text)), packed.tensors, packed.left_out)
    holder = Holder(live)
    unpack(packed, holder, "cpu")()
    return holder.value


def same(one, other):
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list | tuple | collections.deque):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, float) and one != one:
        assert other != other
    else:
        assert one == other
    assert type(one) is type(other)


VALUES = {
    "none": None,
    "bool": True,
    "large": 2**80,
    "infinite": float("-inf"),
    "nan": float("nan"),
    "text": "ä \ud800",
    "bytes": b"\0\xff",
    "complex": 1 + 2j,
    "dtype": torch.bfloat16,
    "device": torch.device("cpu"),
    "path": Path("a/b"),
    "tuple": (1, (2, [3])),
    "list": [1, {"a": [2]}],
    "dict": {1: "a", (2, 3): {"b": None}, "c": (4,)},
    "set": {1, 2},
    "frozenset": frozenset("ab"),
    "deque": collections.deque([1, 2]),
    "array": np.arange(6, dtype=">i2").reshape(2, 3),
    "zero axes": np.array(3.5),
    "times": np.array(["2020-01-01"], "datetime64[D]"),
    "records": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    "objects": np.array([1, "a", None], dtype=object),
    "number": np.float32(1.5),
    "tensor": torch.arange(6.0).reshape(2, 3).T,
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
    "size": torch.Size([2, 3]),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back(name):
    same(VALUES[name], moved(VALUES[name], VALUES[name]))
    if name != "size":  # a tuple of another kind comes from the object that is there
        same(VALUES[name], moved(VALUES[name], None))


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
NESTED = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(value=NESTED, live=NESTED)
def test_nested_values_come_back_whatever_is_there(value, live):
    same(value, moved(value, live))


def test_containers_and_tensors_that_are_there_are_kept():
    lists, tensor, array = [0], torch.zeros(2), np.zeros(2)
    live = {"a": lists, "b": tensor, "c": array, "d": {"e": lists}}
    result = moved({"a": [1, 2], "b": torch.ones(2), "c": np.ones(2), "d": {}}, live)
    assert result is live
    assert result["a"] is lists
    assert lists == [1, 2]
    assert result["b"] is tensor
    assert tensor.tolist() == [1, 1]
    assert result["c"] is array
    assert array.tolist() == [1, 1]


def test_one_object_in_two_places_stays_one():
    def make(n):
        inner = [n]
        inner.append(inner)
        return {"a": inner, "b": (inner,)}

    result = moved(make(1), make(0))
    assert result["a"] is result["b"][0] is result["a"][1]
    assert result["a"][0] == 1


def draw(generator):
    if isinstance(generator, torch.Generator):
        return torch.rand((), generator=generator).item()
    return generator.random() if hasattr(generator, "random") else generator.random_sample()


@pytest.mark.parametrize(
    "make",
    [
        np.random.default_rng,
        np.random.RandomState,
        random.Random,
        lambda seed: torch.Generator().manual_seed(seed),
        lambda seed: np.random.Generator(np.random.MT19937(seed)),
        lambda seed: np.random.Generator(np.random.SFC64(seed)),
        lambda seed: np.random.Generator(np.random.Philox(seed)),
    ],
)
def test_generators_go_on(make):
    one, live = make(1), make(2)
    draw(one)
    state = pack(Holder(one))
    drawn = draw(one)
    unpack(state, Holder(live), "cpu")()
    assert draw(live) == drawn


def test_generators_that_functions_read_go_on():
    def made():
        rng = np.random.default_rng(3)
        return functools.partial(lambda scale: scale * rng.random() + NUMBERS.random(), 2)

    one = made()
    one()
    state = pack([one, Holder(1).__init__])
    drawn, live = one(), made()
    unpack(state, [live, Holder(2).__init__], "cpu")()
    assert live() == drawn


def test_a_method_brings_the_state_of_its_object():
    state = pack(Holder(5).__init__)
    other = Holder(6)
    unpack(state, other.__init__, "cpu")()
    assert other.value == 5


def test_a_module_keeps_its_weights_and_takes_over_the_rest():
    def make(value):
        module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        module.register_buffer("late", None)
        module.count, module.own = value, [value]
        return module

    one, live = make(3), make(0)
    one.late = torch.ones(3)
    one.train(False)
    one[0].weight.requires_grad_(False)
    one[1].running_mean += 2
    weights = [*live.parameters()]
    unpack(pack(one), live, "cpu")()
    assert [id(w) for w in weights] == [id(w) for w in live.parameters()]
    same(dict(one.state_dict()), dict(live.state_dict()))
    assert (live.count, live.own, live.training) == (3, [3], False)
    assert not live[0].weight.requires_grad
    assert live[0].bias.requires_grad


def test_enumerations_come_from_their_class():
    assert moved(Colour.BLUE, Colour.RED) is Colour.BLUE


def test_a_view_is_stored_without_the_rest_of_its_memory():
    (tensor,) = pack([torch.zeros(1000)[:2]]).tensors
    assert tensor.untyped_storage().nbytes() == 8


@pytest.mark.parametrize(
    ("value", "live", "what"),
    [
        (Holder(1), [1], "is a builtins.list, and was a tests"),
        ([Holder(1)], [], "is missing, and was a"),
        (nn.Linear(2, 2), nn.Linear(2, 3), "has no weights of shape"),
        (Colour.RED, None, "is a builtins.NoneType, and was a"),
        (len, print, "is a builtins.print, and was a builtins.len"),
    ],
)
def test_another_object_is_refused_and_stays(value, live, what):
    holder, first = Holder((live, 1)), Holder((value, 2))
    with pytest.raises(StateMismatchError, match=what):
        unpack(pack(first), holder, "cpu")
    assert holder.value == (live, 1)


@pytest.mark.parametrize(
    "text", ["[]", '["dict"]', '["list", 3]', '["nonsense", 1]', '["seen", 9]']
)
def test_a_damaged_text_is_refused(text):
    with pytest.raises(StateMismatchError):
        unpack(Packed(text, [], []), {}, "cpu")


def test_objects_of_other_packages_are_named():
    packed = pack(Holder([Path, json.JSONEncoder(), 3]))
    assert packed.left_out == [".value[1] (json.encoder.JSONEncoder)"]
