"""Pickles of the net, interrupts and early stopping."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch.callbacks import EpochScoring
from torch import nn

import skimbal
from skimbal.training import EpochProgress, ImageDataset, isolated_random_state
from tests.training.data import (
    Interrupt,
    all_states,
    assert_same_state,
    cosine,
    draw,
    early_stopping,
    make_net,
    round_trip,
    state_of,
)


class Mean(nn.Module):
    """A linear model of channel means."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.linear = nn.Linear(in_channels, n_classes)

    def forward(self, x):
        return self.linear(x.flatten(2).mean(2))


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_pickle_keeps_one_optimiser_and_goes_on(how):
    data = draw(21)
    options = {"optimizer": torch.optim.Adam, "lr": 0.01, "callbacks": cosine(6), "batch_size": 7}
    net = make_net(data, "wce+mcc", **options)
    with isolated_random_state(0, "cpu"):
        net.train_epochs(data, data, 3)
    other = round_trip(net, how)
    scheduler = dict(other.callbacks_)["schedule"].lr_scheduler_
    assert scheduler.optimizer is other.optimizer_
    assert other.optimizer_ is not net.optimizer_
    held = other.optimizer_.param_groups[0]["params"]
    assert [id(p) for p in held] == [id(p) for p in other.module_.parameters()]
    assert other.criterion_ is other.criterion, "a loss given as an instance is in it once"
    assert other.criterion_.class_weights.keys() == {"wce"}
    assert torch.equal(*(n.criterion_.class_weights["wce"] for n in (other, net)))
    assert other.history == net.history
    assert len(other.history) == 3
    assert_same_state(state_of(other), state_of(net))
    assert torch.equal(other.forward(data), net.forward(data))
    for trained in (net, other):
        with isolated_random_state(1, "cpu"):
            trained.train_epochs(data, data, 2)
    assert_same_state(state_of(other), state_of(net))
    assert other.history[:, "train_loss"] == net.history[:, "train_loss"]
    # Were the scheduler's optimiser another one, this rate would have stayed.
    rates = [n.optimizer_.param_groups[0]["lr"] for n in (net, other)]
    assert rates[0] == rates[1] < 0.005


def test_pickle_of_a_net_that_was_initialised_twice():
    data = draw()
    net = make_net(data, callbacks=cosine(2)).initialize()
    net.train_epochs(data, None, 1)
    other = round_trip(net, "pickle")
    assert dict(other.callbacks_)["schedule"].lr_scheduler_.optimizer is other.optimizer_


def test_pickle_holds_no_training_data():
    images = np.random.default_rng(0).random((40, 1, 100, 100))
    data = ImageDataset(images, np.arange(40) % 2, sample_weight=np.ones(40))
    train, valid = data.take(np.arange(30)), data.take(np.arange(30, 40))
    callbacks = [
        EpochScoring("accuracy", name="train_score", on_train=True, lower_is_better=False),
        EpochScoring("accuracy", name="valid_score", lower_is_better=False),
    ]
    net = make_net(train, factory=Mean, n_classes=2, callbacks=callbacks, batch_size=8)
    net.train_epochs(train, valid, 2)
    assert len(net.history[:, "valid_score"]) == 2
    size = len(pickle.dumps(net))
    assert size < images[0].nbytes, "less than one image"


@pytest.mark.cuda
def test_net_from_cuda_loads_where_there_is_none(tmp_path):
    data = draw(21)
    with isolated_random_state(0, "cuda"):
        net = make_net(
            data,
            "wce+mcc",  # a loss with a tensor of its own
            optimizer=torch.optim.Adam,
            callbacks=cosine(3),
            batch_size=7,
            micro_batch_size=3,
            device="cuda",
            module__mean=np.zeros((2, 1, 1)),
            module__std=np.ones((2, 1, 1)),
        )
        net.train_epochs(data, data, 2)
    assert {value.device.type for value in state_of(net).values()} == {"cuda"}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(net))
    np.save(tmp_path / "X.npy", data.X)
    script = """
import pathlib, pickle, sys
import numpy as np
import torch
assert not torch.cuda.is_available()
folder = pathlib.Path(sys.argv[1])
net = pickle.loads((folder / "net.pkl").read_bytes())
assert str(net.device) == "cpu", net.device
assert all(value.is_cpu for value in net.module_.state_dict().values())
moments = [value for state in net.optimizer_.state.values() for value in state.values()]
assert moments and all(value.is_cpu for value in moments)
assert net.criterion_.class_weights["wce"].is_cpu
assert dict(net.callbacks_)["schedule"].lr_scheduler_.optimizer is net.optimizer_
assert len(net.history) == 2
np.save(folder / "proba.npy", net.predict_proba(np.load(folder / "X.npy")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(skimbal.__file__).parents[1],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = net.predict_proba(data)
    np.testing.assert_allclose(np.load(tmp_path / "proba.npy"), expected, rtol=1e-9)


@pytest.mark.parametrize("others", [[], [early_stopping(3)]])
def test_interrupt_reaches_the_caller(others):
    data = draw()
    interrupt = Interrupt()
    progress = EpochProgress(5)
    net = make_net(data, callbacks=[progress, interrupt, *others])
    before = all_states()
    with pytest.raises(KeyboardInterrupt), isolated_random_state(0, "cpu"):
        net.train_epochs(data, None, 5)
    assert all_states() == before
    assert interrupt.ended == 1
    assert interrupt.got[0] is data
    assert np.array_equal(interrupt.got[1], data.y)
    assert len(net.history) == 2
    assert progress.bar_.disable, "closed"


@pytest.mark.parametrize("others", [[], [early_stopping(1)]])
def test_callback_ends_the_training_as_in_skorch(others):
    data = draw()
    ends = Interrupt(by_signal=False)
    net = make_net(data, callbacks=[ends, *others])
    assert net.train_epochs(data, None, 5) is net
    assert len(net.history) == 2
    assert ends.ended == 1


def test_early_stopping_is_no_interrupt():
    data = draw()
    interrupt = Interrupt()
    interrupt.on_epoch_end = lambda net, **kwargs: None
    net = make_net(data, callbacks=[EpochProgress(9), interrupt, early_stopping(3)])
    assert net.train_epochs(data, None, 9) is net
    assert len(net.history) == 4, "the first, and three that miss"
    assert interrupt.ended == 1
    net.train_epochs(data, None, 9)
    assert len(net.history) == 8, "a new run begins to count anew"
