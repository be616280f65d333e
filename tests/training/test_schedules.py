"""Schedules of the learning rate against torch's, at each step."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skorch.callbacks import (
    Callback,
    Checkpoint,
    LoadInitState,
    LRScheduler,
    TrainEndCheckpoint,
)
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from skimbal.training import SCHEDULES
from tests.training.data import draw, make_net


class Rates(Callback):
    """Keep the learning rate of each step, which skorch's loop then trains."""

    def __init__(self):
        self.rates = []

    def on_batch_begin(self, net, training=False, **kwargs):
        if training:
            self.rates.append([group["lr"] for group in net.optimizer_.param_groups])


def rates_of_torch(name, n_steps):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    if name == "cosine":
        schedule = CosineAnnealingLR(optimizer, T_max=n_steps)
    else:
        # torch's last step is the end of the second part. Here the end comes after the last step.
        total = n_steps + 1
        schedule = OneCycleLR(
            optimizer, 0.3, total, pct_start=(n_steps / 4 + 1) / total, div_factor=25
        )
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("batch_size", "n_epochs"), [(11, 8), (4, 4), (2, 3), (11, 1)])
def test_rate_of_every_step_is_that_of_torch(name, batch_size, n_epochs):
    data = draw()
    kept = Rates()
    net = make_net(data, lr=0.3, lr_schedule=name, batch_size=batch_size, callbacks=[kept])
    net.train_epochs(data, None, n_epochs)
    rates = np.ravel(kept.rates)
    assert len(rates) == n_epochs * -(-11 // batch_size) if batch_size > 2 else len(rates)
    np.testing.assert_allclose(rates, rates_of_torch(name, len(rates)), rtol=1e-9, atol=1e-12)
    assert net.history[-1, "event_lr"] == rates[-1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_both_loops_train_the_same_weights(name):
    data = draw()
    states = []
    for callbacks in ([], [Rates()]):
        torch.manual_seed(0)
        net = make_net(data, lr_schedule=name, batch_size=4, callbacks=callbacks)
        net.train_epochs(data, None, 3)
        states.append(torch.cat([p.flatten() for p in net.module_.parameters()]))
    assert torch.equal(*states)


def test_every_group_keeps_its_part_of_the_rate():
    data = draw()
    kept = Rates()
    groups = [("network.*weight", {"lr": 0.01})]
    net = make_net(
        data, lr=0.1, lr_schedule="cosine", callbacks=[kept], optimizer__param_groups=groups
    )
    net.train_epochs(data, None, 4)
    slow, fast = np.transpose(kept.rates)
    np.testing.assert_allclose(fast, 10 * slow)
    assert fast[0] == 0.1


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 1), st.floats(0, 1e-3))
def test_factor_is_continuous_and_at_most_one(name, progress, step):
    factor = SCHEDULES[name]
    after = min(1.0, progress + step)
    assert 0 <= factor(progress) <= 1
    assert abs(factor(after) - factor(progress)) <= 7 * step + 1e-12


def test_factor_is_one_at_the_start_of_the_cosine_and_after_the_warm_up():
    assert SCHEDULES["cosine"](0) == 1
    assert SCHEDULES["one_cycle"](0.25) == 1
    assert SCHEDULES["one_cycle"](0) == pytest.approx(1 / 25)
    for factor in SCHEDULES.values():
        assert factor(1) < 1e-5


def test_a_row_that_is_added_is_known(monkeypatch):
    monkeypatch.setitem(SCHEDULES, "half", lambda progress: 0.5)
    data = draw()
    kept = Rates()
    make_net(data, lr=0.2, lr_schedule="half", callbacks=[kept]).train_epochs(data, None, 2)
    assert kept.rates == [[0.1], [0.1]]


def fit_with_checkpoint(folder, kind, name, lr):
    """Train two epochs from the checkpoint in a folder, and return the rate of each step."""
    kept, checkpoint = Rates(), kind(dirname=str(folder))
    callbacks = [kept, checkpoint, LoadInitState(checkpoint)]
    net = make_net(draw(), lr=lr, lr_schedule=name, batch_size=4, callbacks=callbacks)
    net.train_epochs(draw(), None, 2)
    return np.ravel(kept.rates), net


@pytest.mark.parametrize("kind", [TrainEndCheckpoint, partial(Checkpoint, monitor=None)])
@pytest.mark.parametrize("second", [*SCHEDULES, None])
@pytest.mark.parametrize("first", [*SCHEDULES, None])
def test_a_fit_from_a_checkpoint_has_its_own_rates(first, second, kind, tmp_path):
    # The state of the optimizer has the rate at which the first fit ended, which may be 0.
    fit_with_checkpoint(tmp_path / "a", kind, first, lr=0.2)
    rates, net = fit_with_checkpoint(tmp_path / "a", kind, second, lr=0.3)
    expected, _ = fit_with_checkpoint(tmp_path / "b", kind, second, lr=0.3)
    np.testing.assert_array_equal(rates, expected)
    assert len(net.history) == 4


def test_a_scheduler_among_the_callbacks_goes_on_from_a_checkpoint(tmp_path):
    def fit():
        checkpoint = TrainEndCheckpoint(dirname=str(tmp_path))
        scheduler = LRScheduler("StepLR", step_size=1, gamma=0.5)
        callbacks = [checkpoint, LoadInitState(checkpoint), scheduler]
        net = make_net(draw(), lr=0.4, callbacks=callbacks)
        net.train_epochs(draw(), None, 2)
        return net.history[:, "event_lr"]

    assert fit() == [0.4, 0.2]
    assert max(fit()[2:]) <= 0.1


def test_a_rate_that_a_callback_sets_stays():
    class Own(Callback):
        def on_train_begin(self, net, **kwargs):
            net.optimizer_.param_groups[0]["lr"] = 0.123

    kept = Rates()
    net = make_net(draw(), lr=0.4, callbacks=[Own(), kept])
    net.train_epochs(draw(), None, 1)
    assert set(np.ravel(kept.rates)) == {0.123}
