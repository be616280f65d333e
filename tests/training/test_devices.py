"""Devices have a number from the fit on, and the workers of a search take them in turn."""

import multiprocessing
from types import SimpleNamespace

import joblib
import pytest
import torch

from skimbal.training import is_at, with_index


@pytest.fixture
def two_devices(monkeypatch):
    """Pretend two CUDA devices, of which the returned list holds the current one."""
    current = [0]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.current_device", lambda: current[0])
    return current


def pretend_worker(monkeypatch, name):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(name=name))


@pytest.mark.parametrize("device", ["cpu", "cpu:0", "cuda:0", "cuda:1", "xpu:3", "mps:0", "meta"])
def test_a_device_with_a_number_or_without_others_stays(device):
    assert with_index(device) == device


@pytest.mark.parametrize("index", [0, 1])
def test_a_device_without_a_number_is_the_current_one(index, two_devices):
    two_devices[0] = index
    assert with_index("cuda") == f"cuda:{index}"
    assert with_index("cuda:1") == "cuda:1"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LokyProcess-1", "cuda:0"),
        ("LokyProcess-2", "cuda:1"),
        ("LokyProcess-3", "cuda:0"),
        ("SpawnPoolWorker-12", "cuda:1"),
        ("Process-1:2", "cuda:1"),
        ("a worker with another name", "cuda:0"),
    ],
)
def test_workers_take_the_devices_in_turn(name, expected, two_devices, monkeypatch):
    pretend_worker(monkeypatch, name)
    assert with_index("cuda") == expected
    assert with_index("cuda:0") == "cuda:0"


def test_a_worker_keeps_the_device_that_its_user_has_chosen(two_devices, monkeypatch):
    pretend_worker(monkeypatch, "LokyProcess-1")
    two_devices[0] = 1
    assert with_index("cuda") == "cuda:1"


def name_of_worker(i):
    torch.cuda.device_count, torch.cuda.current_device = (lambda: 4), (lambda: 0)
    return with_index("cuda")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_workers_of_joblib_are_numbered(backend):
    found = set(
        joblib.Parallel(2, backend=backend)(joblib.delayed(name_of_worker)(i) for i in range(40))
    )
    assert found <= {f"cuda:{i}" for i in range(4)}
    # Two consecutive numbers, but one worker may have done it all.
    assert 1 <= len(found) <= 2


@pytest.mark.parametrize(
    ("place", "device", "expected"),
    [
        ("cuda:1", "cuda", True),
        ("cuda:1", "auto", True),
        ("cuda:1", "cuda:1", True),
        ("cuda:1", torch.device("cuda"), True),
        ("cuda:1", "cuda:0", False),
        ("cuda:1", "cpu", False),
        ("cpu", "cuda", False),
        ("cpu", "auto", True),
        ("mps", "mps:0", True),
    ],
)
def test_names_of_a_place(place, device, expected):
    assert is_at(place, device) == expected
