"""Faults that are planted here are found, with their kind and line; clean programs have none."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests import rehearsal
from tests.plain import plain

ROOT = Path(__file__).parents[2]
needs_pretence = pytest.mark.skipif(
    torch.cuda.is_available() and not rehearsal.is_pretended(),
    reason="needs a CUDA device that is pretended (python -m tests.rehearsal)",
)


def found(kind, run, setup=()):
    """Return the functions of this file in which a program has events of a kind.

    No other kind of event may happen.
    """
    with rehearsal.account(*rehearsal.KINDS, within=__file__) as events:
        run()
    assert events.count() == events.count(kind), events
    assert all(line.startswith("test_planted_faults.py:") for line in events.lines()), events
    return {line.split()[-1] for line in events.lines()}


def on_device(*shape):
    return torch.ones(shape or 3, device="cuda")


@pytest.mark.cuda
@needs_pretence
@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x.item(),
        lambda x: x.cpu(),
        lambda x: torch.ones(3).to("cuda"),
        lambda x: torch.tensor([1.0], device="cuda"),
        lambda x: x.new_tensor([1.0, 2.0]),
        lambda x: torch.ones(3).pin_memory().to("cuda"),
        lambda x: torch.ones(1).copy_(x, non_blocking=True),
        lambda x: x.nonzero(),
        lambda x: x.expand(3)[x.expand(3) > 0],
        lambda x: x.expand(3)[torch.tensor([0, 1])],
        lambda x: torch.cuda.synchronize(),
        lambda x: torch.cuda.current_stream().synchronize(),
        lambda x: torch.cuda.current_stream().record_event().synchronize(),
    ],
)
def test_host_waits(fault):
    x = on_device(1)
    assert found("wait", lambda: fault(x)) == {"<lambda>"}


@pytest.mark.cuda
@needs_pretence
def test_a_copy_from_pageable_memory_is_staged():
    host = torch.ones(3)
    assert found("staged", lambda: host.to("cuda", non_blocking=True)) == {"<lambda>"}
    pinned = host.pin_memory()
    assert not found("staged", lambda: pinned.to("cuda", non_blocking=True))
    # torch pins the memory that it copies to.
    assert not found("staged", lambda: on_device().to("cpu", non_blocking=True))


@pytest.mark.cuda
@needs_pretence
@pytest.mark.parametrize("other", ["cpu", "cuda:1"])
def test_two_devices_in_one_operation(other):
    x, y = on_device(), torch.ones(3, device=other)

    def mix():
        with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
            torch.dot(x, y)

    assert found("mix", mix) == {"mix"}


@pytest.mark.cuda
@needs_pretence
def test_a_number_of_the_cpu_joins_any_device():
    x, factor = on_device(), torch.tensor(2.0)
    assert not found("mix", lambda: x * factor)


def order_by_stream(side, value):
    torch.cuda.current_stream().wait_stream(side)


def order_by_event(side, value):
    torch.cuda.current_stream().wait_event(side.record_event())


def order_by_event_that_waits(side, value):
    side.record_event().wait()


def event_of_before(side, value):
    event = torch.cuda.Event()
    event.record(side)
    with torch.cuda.stream(side):
        value += 1
    torch.cuda.current_stream().wait_event(event)


def no_order(side, value):
    pass


@pytest.mark.cuda
@needs_pretence
@pytest.mark.parametrize(
    ("order", "lines"),
    [
        (order_by_stream, set()),
        (order_by_event, set()),
        (order_by_event_that_waits, set()),
        (event_of_before, {"read"}),
        (no_order, {"read"}),
    ],
)
def test_a_stream_reads_what_another_writes(order, lines):
    side, read_from = torch.cuda.Stream(), on_device()
    side.wait_stream(torch.cuda.current_stream())

    def read():
        with torch.cuda.stream(side):
            value = read_from * 2
        order(side, value)
        value.record_stream(torch.cuda.current_stream())
        value + 1

    read_from.record_stream(side)
    assert found("race", read) == lines


@pytest.mark.cuda
@needs_pretence
def test_memory_of_another_stream_without_record_stream():
    side, mine = torch.cuda.Stream(), on_device()
    side.wait_stream(torch.cuda.current_stream())

    def use():
        with torch.cuda.stream(side):
            mine.sum()

    assert found("lifetime", use) == {"use"}
    mine.record_stream(side)
    assert not found("lifetime", use)


@pytest.mark.cuda
@needs_pretence
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("norm", "n_copies"), [("group", 1), ("batch", 0)])
def test_copies_between_layouts(ndim, norm, n_copies):
    kinds = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[ndim]
    order = {2: torch.channels_last, 3: torch.channels_last_3d}[ndim]
    normalise = nn.GroupNorm(2, 4) if norm == "group" else kinds[1](4)
    network = nn.Sequential(kinds[0](2, 4, 3), normalise).to("cuda", memory_format=order)
    images = on_device(5, 2, *[8] * ndim).to(memory_format=order)
    with torch.no_grad(), rehearsal.account() as events:
        network(images)
    assert events.count("layout") == events.count() == n_copies, events


@pytest.mark.cuda
@needs_pretence
def test_a_leak():
    kept = []

    def leak():
        kept.append(on_device(256))
        on_device(128)

    assert found("leak", leak) == {"on_device"}
    with rehearsal.account("leak", within=__file__) as events:
        kept.clear()
    assert not events.count()


@pytest.mark.cuda
@needs_pretence
def test_memory_runs_out():
    torch.cuda.set_per_process_memory_fraction(2**-14)  # 1 MiB
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError, match="CUDA out of memory"):
            on_device(2**20)
        assert torch.cuda.mem_get_info()[0] <= 2**20
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    on_device(2**20)


@pytest.mark.cuda
@needs_pretence
def test_debug_mode_of_waits():
    x = on_device(1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
            x.item()
        torch.cuda.set_sync_debug_mode("warn")
        with pytest.warns(UserWarning, match="synchronizing CUDA operation"):
            x.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@needs_pretence
def test_operations_that_cannot_be_repeated_are_refused():
    images = torch.ones(1, 1, 4, 4, device="cuda", requires_grad=True)
    larger = nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="deterministic"):
            larger.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.cuda
@needs_pretence
def test_a_clean_program_has_an_empty_account():
    inputs = torch.randn(8, 3).pin_memory()
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to("cuda")
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def train():
        for _ in range(3):
            loss = network(inputs.to("cuda", non_blocking=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        optimizer.zero_grad()
        del loss

    train()  # makes the moments of the optimiser
    assert not found("wait", train)


@pytest.mark.cuda
@needs_pretence
def test_events_of_the_package_have_its_lines():
    X = np.random.default_rng(0).normal(size=(20, 6, 6)).astype(np.float32)
    clf = plain(max_epochs=1, device="cuda").fit(X, np.arange(20) % 2)
    with rehearsal.account("wait") as events:
        clf.predict(X)
    assert events.count("wait")
    assert all(".py:" in line for line in events.lines()), events


@pytest.mark.skipif(rehearsal.is_pretended(), reason="needs a machine without CUDA")
def test_obstacles_are_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert rehearsal.obstacle() is None or "needs" in rehearsal.obstacle()
    monkeypatch.setattr("tests.rehearsal.build.KNOWN_TORCH", "1.0")
    assert rehearsal.obstacle().startswith("a rehearsal of CUDA needs torch 1.0; got torch ")


@pytest.mark.slow
@pytest.mark.skipif(rehearsal.is_pretended(), reason="needs a machine without CUDA")
def test_planted_faults_are_found():
    """Run the tests above where CUDA is not there, so that a change of the rehearsal meets them."""
    if reason := rehearsal.obstacle():
        pytest.skip(f"needs a CUDA device ({reason})")
    command = [sys.executable, "-m", "tests.rehearsal", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", "cuda", __file__], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
