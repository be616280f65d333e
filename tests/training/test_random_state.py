"""Random generators are seeded for a fit and restored after it."""

import contextlib
import sys
import threading

import joblib
import pytest
import torch

from skimbal.generators import generator_states, has_generator, restore
from skimbal.training import isolated_random_state
from tests.training.data import (
    all_states,
    assert_same_state,
    draw,
    draw_from_all,
    make_net,
    small_network,
    state_of,
)


def test_random_state_is_seeded_and_left_as_it_was():
    before = all_states()
    with isolated_random_state(3, "cpu"):
        first = draw_from_all()
        with isolated_random_state(3, "cpu"):
            assert draw_from_all() == first
        second = draw_from_all()
    assert all_states() == before
    with isolated_random_state(3, "cpu"):
        assert draw_from_all() == first
        assert draw_from_all() == second
    with isolated_random_state(4, "cpu"):
        assert not set(draw_from_all()) & set(first)
    assert all_states() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_random_state_is_left_as_it_was_after_errors(error):
    def fail():
        with isolated_random_state(2**32 - 1, "cpu"):
            draw_from_all()
            raise error

    before = all_states()
    with pytest.raises(error):
        fail()
    assert all_states() == before

    # The lock is free again, for other threads too.
    def enter():
        with isolated_random_state(1, "cpu"):
            pass

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert all_states() == before


def test_threads_take_turns():
    entered, leave, done = threading.Event(), threading.Event(), []

    def first():
        with isolated_random_state(1, "cpu"):
            entered.set()
            leave.wait(10)
            done.append(("first", draw_from_all()))

    def second():
        with isolated_random_state(2, "cpu"):
            done.append(("second", draw_from_all()))

    before = all_states()
    threads = [threading.Thread(target=first, daemon=True)]
    threads[0].start()
    assert entered.wait(10)
    threads.append(threading.Thread(target=second, daemon=True))
    threads[1].start()
    threads[1].join(0.2)
    waiting = threads[1].is_alive()
    leave.set()
    for thread in threads:
        thread.join(10)
    assert waiting
    expected = []
    for name, seed in [("first", 1), ("second", 2)]:
        with isolated_random_state(seed, "cpu"):
            expected.append((name, draw_from_all()))
    assert done == expected
    assert all_states() == before


def fit_isolated(seed):
    """Train with shuffled batches and dropout; return all that is random about it."""
    data = draw(24, weighted=False)
    with isolated_random_state(seed, "cpu"):
        net = make_net(data, factory=small_network(data, dropout=0.3), batch_size=6)
        net.train_epochs(data, None, 6)
        return state_of(net), net.history[:, "train_loss"], draw_from_all()


def test_fits_in_threads_equal_fits_in_turn():
    sequential = [fit_isolated(seed) for seed in (1, 2)]
    before = all_states()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with joblib.parallel_config("threading", n_jobs=2):
            threaded = joblib.Parallel()(joblib.delayed(fit_isolated)(seed) for seed in (1, 2))
    finally:
        sys.setswitchinterval(interval)
    for one, other in zip(sequential, threaded, strict=True):
        assert_same_state(one[0], other[0])
        assert one[1:] == other[1:]
    assert sequential[0][1] != sequential[1][1]
    assert all_states() == before


@pytest.fixture
def faked(monkeypatch):
    """Fake the generator of a device that torch has no module for here."""
    generator = torch.Generator().manual_seed(17)

    def fake(kind):
        functions = {
            "get_rng_state": lambda device: generator.get_state(),
            "set_rng_state": lambda state, device: generator.set_state(state),
            "manual_seed": generator.manual_seed,
        }
        for name, function in functions.items():
            monkeypatch.setattr(f"torch.{kind}.{name}", function)
        if kind == "xpu":
            monkeypatch.setattr("torch.xpu.device", contextlib.nullcontext)
        return generator

    return fake


@pytest.mark.parametrize("device", ["mps", "mps:0", "xpu:1"])
def test_the_generator_of_any_device_is_seeded_and_repeated(device, faked):
    generator = faked(device.partition(":")[0])

    def draws():
        return torch.rand(3, generator=generator).tolist()

    before = generator.get_state()
    with isolated_random_state(3, device):
        first = draws()
        states = generator_states(device)
        second = draws()
        restore(states, device)
        assert draws() == second != first
    assert torch.equal(generator.get_state(), before)
    with isolated_random_state(3, device):
        assert draws() == first


def test_devices_without_a_generator_are_known():
    assert all(has_generator(device) for device in ("cpu", "cuda", "cuda:1", "mps", "xpu:1"))
    assert not has_generator("meta")
