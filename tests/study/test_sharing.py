"""Fits that processes share through a folder, and a folder whose drive fails at any step."""

import os
import pickle
import re
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import pytest
from joblib import parallel_config

from benchmarks import kill_study
from skimbal import CNN2DClassifier
from skimbal.exceptions import ParameterError
from skimbal.study import sharing
from skimbal.study.fit_cache import FitCache
from skimbal.study.sealed import seal
from skimbal.study.sharing import check_alone, share
from tests.faults import Drive, Killed, broken, full, killed
from tests.study.data import compare, fit_of

FINGERPRINT = {"seed": 0, "data": {"X": "1", "y": "2"}}
KEYS = ["a", "b", "c"]
ALL = {key: fit_of(key) for key in KEYS}


def make(key, made):
    made.append(key)
    return fit_of(key)


def run(folder, made, keys=KEYS, *, fits=None, say=print, task=make, n_jobs=1):
    """Run a study of quick fits. ``fits`` has those that are finished if an error ends it."""
    fits = {} if fits is None else fits
    cache = FitCache(folder)
    fits |= cache.open(FINGERPRINT, keys)
    tasks = {key: partial(task, key, made) for key in keys if key not in fits}
    for key, fit, caught in share(tasks, cache, n_jobs=n_jobs, say=say):
        for category, text in caught:
            warnings.warn(text, category, stacklevel=1)
        if fit is not None:
            fits[key] = fit
    return fits


def test_each_fit_is_done_once(tmp_path):
    made = []
    assert run(tmp_path / "runs", made, KEYS[:2]) == {key: ALL[key] for key in KEYS[:2]}
    assert run(tmp_path / "runs", made) == ALL
    assert run(tmp_path / "runs", made) == ALL
    assert made == KEYS
    files = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(files) == 4
    assert [name.partition("-")[0] for name in files] == ["fit", "fit", "fit", "study.json"]


def test_without_a_cache_each_task_is_done():
    outcomes = share({"a": partial(fit_of, "a")}, None, n_jobs=1, say=print)
    assert [(o.key, o.fit, o.caught) for o in outcomes] == [("a", fit_of("a"), [])]


# A fault at each step


def prepared(folder, state):
    """Make a folder as an earlier call left it. Return the fits that are whole in it."""
    if state == "new":
        return []
    if state == "old":
        run(folder, [], KEYS[:2])
        fits = sorted(folder.glob("fit-*"))
        fits[0].write_bytes(fits[0].read_bytes()[:-9])
        (folder / "study.json").write_bytes(b"{")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cache = FitCache(folder)
            cache.open(FINGERPRINT, KEYS)
            whole = [key for key in KEYS if cache.read(key) is not None]
        (folder / "study.json").write_bytes(b"{")
        return whole
    run(folder, [], KEYS[:1])
    return KEYS[:1]


def calls_of(folder, state):
    prepared(folder, state)
    with warnings.catch_warnings(), Drive(folder).installed() as drive:
        warnings.simplefilter("ignore")
        run(folder, [])
    return drive.seen


#: Folders, faults and whether they last, for the tests of every day.
QUICK = [("new", full, True), ("continued", full, False), ("continued", killed, True)]
CELLS = [
    pytest.param(*cell, marks=[] if cell in QUICK else [pytest.mark.slow])
    for cell in product(["new", "continued", "old"], [full, broken, killed], [False, True])
]


@pytest.mark.parametrize(("state", "fail", "lasts"), CELLS)
def test_a_fault_at_any_step_loses_nothing(tmp_path, monkeypatch, state, fail, lasts):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # which takes the time of the test
    calls = calls_of(tmp_path / "dry", state)
    assert len(calls) > 40
    n_ended = 0
    for at in range(len(calls)):
        folder = tmp_path / f"{at}"
        whole = prepared(folder, state)
        made, fits, error = [], {}, None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Drive(folder, fail, at, lasts).installed():
                try:
                    run(folder, made, fits=fits)
                except (Killed, OSError, ValueError) as ended:
                    error = ended
        n_ended += error is not None
        if error is None:
            assert fits == ALL
        elif not isinstance(error, Killed):  # refused before the first fit
            assert "cache_dir must be" in str(error)
            assert made == []
        assert len(set(made)) == len(made)
        assert {key: ALL[key] for key in fits} == fits
        texts = [str(warning.message) for warning in caught]
        n_unwritten = sum("cannot be written" in text for text in texts)
        assert n_unwritten <= 1
        assert all("cache_dir" in text for text in texts)
        kept = set(whole) | (set() if n_unwritten else set(fits))
        again = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert run(folder, again) == ALL, (at, calls[at])
        assert not kept & set(again), (at, calls[at])
        assert run(folder, []) == ALL  # without a warning
        assert not list(folder.glob("claim-*"))
    assert n_ended == len(calls) if fail is killed else n_ended < len(calls) / 2


# Several processes


def slowly(key, made, seconds=0.05):
    time.sleep(seconds)
    made.append(key)
    return fit_of(key)


@pytest.fixture
def threads(monkeypatch):
    """Threads in the place of processes. They share the filters of warnings, which must stay."""
    monkeypatch.setattr(sharing, "recorded", lambda function: (function(), []))
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.mark.slow
def test_threads_that_start_together_share(tmp_path, threads):
    """Threads have one identity, and a claim of one is held for all others."""
    for number in range(10):
        made, lines = [], []
        folder, start = tmp_path / f"{number}", threading.Barrier(4)

        def one(folder=folder, start=start, made=made, lines=lines):
            start.wait()
            return run(folder, made, task=slowly, say=lines.append)

        results = [future.result() for future in [threads.submit(one) for _ in range(4)]]
        assert results == [ALL] * 4
        assert sorted(made) == KEYS
        assert lines
        assert all(re.fullmatch(r"Waiting for the fits of process .*", line) for line in lines)


def test_a_fit_that_fails_is_tried_by_the_others(tmp_path, threads):
    """A process whose fit fails gives its claim back, and another one meets the same error."""

    def fail(key, made):
        time.sleep(0.05)
        made.append(key)
        if key == "b":
            raise RuntimeError("no memory")
        return fit_of(key)

    made = []
    futures = [threads.submit(run, tmp_path, made, task=fail, say=len) for _ in range(2)]
    for future in futures:
        with pytest.raises(RuntimeError, match="no memory"):
            future.result()
    assert made.count("b") == 2
    assert not list(tmp_path.glob("claim-*"))
    assert run(tmp_path, made) == ALL
    assert sorted(set(made)) == KEYS
    assert made.count("a") == made.count("c") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_claims_are_given_back_at_once(tmp_path, error):
    def interrupted(key, made):
        assert len(list(tmp_path.glob("claim-*"))) == 1
        raise error

    with pytest.raises(error):
        run(tmp_path, [], task=interrupted)
    assert not list(tmp_path.glob("claim-*"))
    assert run(tmp_path, []) == ALL


def test_claims_of_workers_are_given_back_as_well(tmp_path):
    cache = FitCache(tmp_path)
    cache.open(FINGERPRINT, KEYS)
    worker = pickle.loads(pickle.dumps(cache))
    with worker.claim("a") as is_ours:
        assert is_ours
        cache.give_back()
        assert not list(tmp_path.glob("claim-*"))
    other = FitCache(tmp_path)
    other.open(FINGERPRINT, KEYS)
    with other.claim("a") as is_ours:
        assert is_ours
        cache.give_back()
        assert len(list(tmp_path.glob("claim-*"))) == 1


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_a_backend_of_joblib_works_or_is_refused(backend):
    tasks = {str(i): partial(fit_of, str(i)) for i in range(3)}
    with parallel_config(backend=backend):
        outcomes = share(tasks, None, n_jobs=2, say=print)
        if backend == "threading":
            assert {outcome.key for outcome in outcomes} == set(tasks)
            return
        with pytest.raises(ParameterError, match=r"n_jobs must be used .*one by one.*Multiproc"):
            next(outcomes)


def test_several_processes_that_train_one_network_have_no_cache(tmp_path, monkeypatch):
    cache = FitCache(tmp_path)
    check_alone(CNN2DClassifier(distributed=True), cache)
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_alone(CNN2DClassifier(), cache)
    with pytest.raises(
        ParameterError, match="cache_dir must be None with distributed=True in 2 pr"
    ):
        check_alone(CNN2DClassifier(distributed=True), cache)


@pytest.mark.slow
def test_the_line_about_others_is_for_those_who_want_lines(small, tmp_path, capsys):
    """Another machine is at the first fit, and finishes it."""
    expected = compare(*small, cache_dir=tmp_path / "expected")
    compare(*small, cache_dir=tmp_path / "runs")
    first, other = sorted((tmp_path / "runs").glob("fit-*"))
    claim = first.with_name(first.name.replace("fit", "claim"))
    foreign = {"host": "elsewhere", "machine": "0" * 16, "pid": 7, "started": 1}

    def finish(kept):
        while not other.exists():
            time.sleep(0.01)
        time.sleep(0.3)
        first.write_bytes(kept)
        claim.unlink()

    for verbose in (0, 1):
        kept = first.read_bytes()
        first.unlink()
        other.unlink()
        claim.write_bytes(seal({**foreign, "run": "", "token": ""}))
        elsewhere = threading.Thread(target=finish, args=(kept,))
        elsewhere.start()
        study = compare(*small, cache_dir=tmp_path / "runs", verbose=verbose)
        elsewhere.join()
        assert str(study) == str(expected)
        err = capsys.readouterr().err
        line = "Waiting for the fits of process 7 on elsewhere."
        assert err.count(line) == verbose


@pytest.mark.slow
def test_a_damaged_file_that_another_process_replaces_is_waited_for(tmp_path):
    run(tmp_path, [], KEYS[:1])
    (file,) = tmp_path.glob("fit-*")
    whole, claim = file.read_bytes(), tmp_path / file.name.replace("fit", "claim")
    file.write_bytes(whole[:-1])
    foreign = {"host": "elsewhere", "machine": "0" * 16, "pid": 7, "started": 1}
    claim.write_bytes(seal({**foreign, "run": "", "token": ""}))

    def replace():
        time.sleep(1)
        file.write_bytes(whole)
        claim.unlink()

    lines, other = [], threading.Thread(target=replace)
    other.start()
    with Drive(tmp_path).installed() as drive, pytest.warns(UserWarning, match="file is damaged"):
        assert run(tmp_path, [], KEYS[:1], say=lines.append) == {KEYS[0]: ALL[KEYS[0]]}
    other.join()
    assert len(lines) == 1
    assert len(drive.seen) < 300  # it looks now and then


@pytest.mark.slow
def test_workers_share_as_well(tmp_path):
    """Workers of one call, and of a second call that starts meanwhile."""
    log = tmp_path / "log"
    tasks = {f"{i}": partial(kill_study.fake_fit, log, f"{i}") for i in range(30)}
    results = []

    def one():
        cache = FitCache(tmp_path / "runs")
        cache.open({"seed": 0}, tasks)
        outcomes = list(sharing.share(tasks, cache, n_jobs=2, say=len))
        results.append(sorted(o.key for o in outcomes if o.fit is not None))

    second = threading.Thread(target=one)
    second.start()
    one()
    second.join()
    assert results == [sorted(tasks)] * 2
    assert sorted(log.read_text().split()) == sorted(tasks)


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [2, 4])
def test_processes_that_start_together_share(tmp_path, n_processes):
    counts = kill_study.start_many(10, n_processes, tmp_path)
    counts.pop("seconds")
    assert counts.pop("starts") == 10
    assert set(counts.values()) == {0}


@pytest.mark.slow
def test_a_study_that_is_killed_loses_nothing(tmp_path):
    """``python -m benchmarks.kill_study`` kills 100 studies."""
    trials = kill_study.kill_many(5, tmp_path)["trials"]
    assert sum(trial["killed"] for trial in trials) >= 4
    for trial in trials:
        assert trial["finished after"] == kill_study.N_FITS
        counts = ("lost", "done twice", "different tables", "failed", "left over")
        assert [trial[name] for name in counts] == [0] * 5, trial
        assert trial["warnings"] == [], trial
