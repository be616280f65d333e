"""Signals of the command line: handlers, codes, and processes that are signalled."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from skimbal import signals
from skimbal.signals import Interruption, as_interruptions, code_of, end_at_once_while_loading
from tests.orphans import alive, family, wait_until

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def handlers():
    return [signal.getsignal(number) for number in NUMBERS]


@pytest.mark.parametrize("number", NUMBERS)
def test_signal_is_an_interrupt_with_its_code(number):
    before = handlers()
    with pytest.raises(KeyboardInterrupt) as caught, as_interruptions() as received:
        signal.raise_signal(number)
    assert isinstance(caught.value, Interruption)
    assert code_of(caught.value) == received.code == 128 + number
    assert handlers() == before


def test_second_signal_waits_and_the_third_ends_all(monkeypatch):
    ends = []
    monkeypatch.setattr(os, "_exit", ends.append)
    with as_interruptions() as received:
        with pytest.raises(Interruption):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert not ends
        signal.raise_signal(signal.SIGINT)
    assert ends == [128 + signal.SIGINT]
    assert received.code == 128 + signal.SIGTERM, "the first"


def test_a_signal_that_got_lost_is_repeated(monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 0.05)
    with as_interruptions():
        for _ in range(2):
            with pytest.raises(Interruption):
                signal.raise_signal(signal.SIGINT)
            time.sleep(0.1)


def test_postponed_signals_raise_nothing():
    with as_interruptions() as received:
        received.postpone()
        signal.raise_signal(signal.SIGHUP)
    assert received.code == 129


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_ignored_and_foreign_handlers_stay(handler):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with as_interruptions() as received:
            assert signal.getsignal(signal.SIGHUP) is handler
            signal.raise_signal(signal.SIGHUP)
        assert received.code == 0
        assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_leave_the_handlers():
    before, seen = handlers(), []

    def run():
        with as_interruptions():
            seen.extend(handlers())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == before


@pytest.mark.parametrize(
    ("argv", "orig_argv", "ours"),
    [
        (["-m", "compare"], ["python", "-W", "error", "-m", "skimbal", "compare"], True),
        (["-m"], ["python", "-mskimbal"], True),
        (["-m"], ["python", "-m", "mine"], False),
        (["/bin/skimbal", "info"], ["python", "/bin/skimbal", "info"], True),
        (["/bin/skimbal", "info"], ["python", "-m", "joblib.worker", "--pipe", "3"], False),
        (["/bin/skimbal", *"abcdef"], ["python", "-m", "joblib.worker"], False),
        (["mine.py"], ["python", "mine.py"], False),
        ([""], ["python"], False),
        (["-c"], ["python", "-c", "import skimbal"], False),
        ([], [], False),
    ],
)
def test_only_the_command_line_ends_at_once_while_loading(monkeypatch, argv, orig_argv, ours):
    before = handlers()
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    end_at_once_while_loading()
    try:
        assert (handlers() != before) == ours
        with as_interruptions(), pytest.raises(Interruption):
            signal.raise_signal(signal.SIGTERM) if ours else signal.raise_signal(signal.SIGINT)
        assert (handlers() != before) == ours
    finally:
        for number, handler in zip(NUMBERS, before, strict=True):
            signal.signal(number, handler)


# Processes -----------------------------------------------------------------------------------


def start(*command, **options):
    return subprocess.Popen(
        [sys.executable, *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


@pytest.mark.parametrize(
    ("number", "delay"),
    [
        (signal.SIGINT, 0.5),
        *(
            pytest.param(number, delay, marks=pytest.mark.slow)
            for number in NUMBERS
            for delay in (0.3, 0.8, 1.5)
        ),
    ],
)
def test_signal_while_modules_load(tmp_path, number, delay):
    # The process says when it begins to load: Python itself takes its time.
    (tmp_path / "numpy.py").write_text(
        f"import os, time\nos.close(os.open({str(tmp_path / 'loads')!r}, os.O_CREAT))\n"
        "time.sleep(60)"
    )
    paths = os.pathsep.join([str(tmp_path), os.getcwd()])
    process = start("-m", "skimbal", env=os.environ | {"PYTHONPATH": paths})
    wait_until((tmp_path / "loads").exists)
    time.sleep(delay / 5)
    process.send_signal(number)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 128 + number


def compare(tmp_path, *options, **popen):
    """Start a study of six fits, and wait until two are in the cache: then the study has one."""
    cache = tmp_path / "cache"
    process = start(
        *[
            "-m",
            "skimbal",
            "compare",
            "digits",
            "--loss",
            "ce",
            "--loss",
            "focal",
            "--sampler",
            "uniform",
        ],
        *["--cv", "3", "--epochs", "40", "--module", "small", "--cache", str(cache)],
        *["--csv", str(tmp_path / "table.csv"), *options],
        **popen,
    )
    wait_until(lambda: n_fits(cache) >= 2 or process.poll() is not None, seconds=180)
    return process


def n_fits(cache):
    """Count the fits that a cache has finished, whatever its form."""
    if not cache.is_dir():
        return 0
    lines = sum(path.read_bytes().count(b'"scores"') for path in cache.rglob("*") if path.is_file())
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("number", NUMBERS)
def test_signal_prints_the_finished_part(tmp_path, number, n_jobs):
    process = compare(tmp_path, "--jobs", str(n_jobs), stdout=subprocess.PIPE)
    workers = family(process.pid)
    process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert "of 6 fits are done" in output
    assert (tmp_path / "table.csv").read_text().startswith("loss")
    wait_until(lambda: not alive(workers))


@pytest.mark.slow
def test_two_signals_to_all_processes(tmp_path):
    process = compare(tmp_path, "--jobs", "2", stdout=subprocess.PIPE)
    workers = family(process.pid)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in errors) == (130, False)
    assert "of 6 fits are done" in output
    wait_until(lambda: not alive(workers))


@pytest.mark.slow
def test_terminal_that_is_closed(tmp_path):
    ours, theirs = pty.openpty()
    process = compare(tmp_path, stdout=theirs)
    os.close(theirs)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    errors = process.communicate(timeout=120)[1]
    assert (process.returncode, "Traceback" in errors) == (129, False)
    assert (tmp_path / "table.csv").read_text().startswith("loss")
