"""Pickles of nets: callbacks of any class, references to the net, errors by name."""

import copy
import pickle
import threading
from contextlib import nullcontext

import pytest
import torch
from skorch.callbacks import Callback, EpochScoring
from skorch.exceptions import DeviceWarning

from skimbal.training import device_at_hand
from tests.training.data import assert_same_state, draw, make_net, round_trip, state_of


class RefersToNet(Callback):
    def on_epoch_end(self, net, **kwargs):
        self.net = net


class Locked(Callback):
    def on_train_begin(self, net, **kwargs):
        self.handle_ = threading.Lock()


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_callback_may_refer_to_its_net(how):
    data = draw()
    net = make_net(data, callbacks=[RefersToNet()]).train_epochs(data, None, 1)
    other = round_trip(net, "pickle") if how == "pickle" else copy.deepcopy(net)
    assert other.callbacks[0].net is other is not net
    assert_same_state(state_of(other), state_of(net))


def test_functions_and_classes_without_a_name_are_copied():
    class Local(Callback):
        pass

    data = draw()
    score = EpochScoring(lambda net, X, y: 1.0, name="one", use_caching=False)
    net = make_net(data, callbacks=[Local(), score]).train_epochs(data, None, 1)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert type(other.callbacks[0]) is Local
        assert_same_state(state_of(other), state_of(net))


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_callback_with_a_handle_is_named(copied):
    data = draw()
    net = make_net(data, callbacks=[("log", Locked())]).train_epochs(data, None, 1)
    with pytest.raises(
        TypeError, match=r"the callback log .* cannot pickle '_thread.lock'"
    ) as raised:
        copied(net)
    assert "Define __getstate__ in a subclass of Locked" in str(raised.value)


@pytest.mark.parametrize(
    ("saved", "n_cuda", "expected"),
    [
        ("cpu", 0, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
        ("cuda:1", 1, "cuda:0"),
        ("cuda:1", 0, "cpu"),
        ("cuda", 0, "cpu"),
        ("privateuseone", 0, "cpu"),
    ],
)
def test_a_device_that_is_missing_is_replaced_with_a_warning(saved, n_cuda, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    is_here = expected in (saved, f"{saved}:0")
    with nullcontext() if is_here else pytest.warns(DeviceWarning, match=f"'{saved}'.*{expected}"):
        assert device_at_hand(saved) == expected


def test_a_net_of_a_missing_device_is_loaded_with_a_warning():
    net = make_net(draw())
    state = net.__getstate__()
    other = object.__new__(type(net))
    with pytest.warns(DeviceWarning, match="'cuda:7'"):
        other.__setstate__({**state, "device": "cuda:7"})
    assert other.device in ("cpu", "cuda:0")
