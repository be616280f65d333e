"""The schedule, the progress bar and their pickles."""

import functools
import pickle
import signal
import time

import pytest
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring

from skimbal.training import EpochProgress
from skimbal.training.callbacks import is_signal, may_stop
from tests.training.data import Interrupt, assert_same_state, draw, make_net, round_trip, state_of


def test_schedule_ends_with_its_epochs():
    data = draw()
    callbacks = [("progress", EpochProgress(4)), ("own", Interrupt())]
    net = make_net(data, lr=0.2, callbacks=callbacks, lr_schedule="cosine", batch_size=4)
    net.train_epochs(data, None, 1)
    (group,) = net.optimizer_.param_groups
    assert 0 < group["lr"] < 0.2
    net.end_schedule()
    assert group["lr"] == 0.2
    names = [name for name, _ in net.callbacks_]
    assert "progress" not in names
    assert {"own", "train_loss", "valid_loss"} <= set(names)
    for trained in (net, round_trip(net, "pickle")):
        dict(trained.callbacks_)["own"].on_epoch_end = lambda net, **kwargs: None
        trained.train_epochs(data, None, 2)
        assert trained.optimizer_.param_groups[0]["lr"] == 0.2
        assert trained.history[:, "epoch"] == [1, 2, 3]


@pytest.mark.parametrize("validate", [False, True])
def test_progress_bar(validate, capsys):
    data = draw()
    net = make_net(data, callbacks=[EpochProgress(2)])
    net.train_epochs(data, data if validate else None, 2)
    out, err = capsys.readouterr()
    assert out == ""
    last = err.rsplit("\r", 1)[-1]
    assert "2/2" in last
    assert f"train_loss={net.history[-1, 'train_loss']:.3g}" in last
    assert ("valid_loss" in last) == validate


def test_net_with_a_progress_bar_pickles_in_training_and_after(tmp_path):
    data = draw()
    checkpoint = Checkpoint(monitor=None, f_params=None, f_optimizer=None, f_criterion=None)
    checkpoint.set_params(f_history=None, f_pickle=str(tmp_path / "net.pkl"))
    net = make_net(data, callbacks=[EpochProgress(2), checkpoint])
    net.train_epochs(data, None, 2)
    saved = pickle.loads((tmp_path / "net.pkl").read_bytes())
    again = round_trip(net, "pickle")
    for other in (saved, again):
        assert_same_state(state_of(other), state_of(net))
        other.train_epochs(data, None, 1)
        assert len(other.history) == 3


def raised():
    raise KeyboardInterrupt


def raised_and_passed_on():
    try:
        raised()
    except KeyboardInterrupt:
        time.sleep(0)
        raise


def interrupted():
    signal.raise_signal(signal.SIGINT)


def interrupted_in_c():
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(5)


def interrupted_and_passed_on():
    try:
        interrupted()
    finally:
        time.sleep(0)


def interrupted_and_raised_anew():
    try:
        interrupted()
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None


def handle(number, frame):
    raise KeyboardInterrupt


class Handler:
    def __call__(self, number, frame):
        raise KeyboardInterrupt

    def handle(self, number, frame):
        raise KeyboardInterrupt


def is_signal_of(function):
    with pytest.raises(KeyboardInterrupt) as error:
        function()
    return is_signal(error.value)


@pytest.mark.parametrize(
    "handler",
    [
        signal.default_int_handler,
        handle,
        functools.partial(handle),
        Handler(),
        Handler().handle,
    ],
    ids=["Python", "function", "partial", "object", "method"],
)
def test_interrupts_of_callbacks_differ_from_signals(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        for function in (interrupted, interrupted_and_passed_on, interrupted_and_raised_anew):
            assert is_signal_of(function), function
        assert not is_signal_of(raised)
        assert not is_signal_of(raised_and_passed_on)
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupt_of_a_call_that_waits_is_a_signal():
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        assert is_signal_of(interrupted_in_c)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_callbacks_of_users_may_end_the_training():
    assert may_stop(Interrupt())
    assert may_stop(EarlyStopping())
    assert not may_stop(EpochProgress(1))
    assert not may_stop(EpochScoring("accuracy"))
