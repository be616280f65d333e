"""Files are whole or absent, whichever call of the system fails."""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from skimbal.atomic import (
    PART,
    ProcessIdentity,
    create_file,
    folder_time,
    is_leftover,
    remove_leftovers,
    replacing,
    write_file,
)
from tests.faults import Drive, Killed, broken, full, killed


def names(folder):
    return sorted(os.listdir(folder))


def test_a_file_has_its_contents_and_the_usual_permissions(tmp_path):
    path = tmp_path / "a"
    write_file(path, b"one, ", memoryview(np.arange(3, dtype=np.uint8)), b"")
    assert path.read_bytes() == b"one, \x00\x01\x02"
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a", "plain"]


def test_a_name_without_a_folder_is_in_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_file("a", b"1")
    assert create_file("b", b"2")
    assert names(tmp_path) == ["a", "b"]


def test_a_drive_that_takes_a_few_bytes_at_a_time_gets_all(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    write_file(tmp_path / "a", bytes(100))
    assert (tmp_path / "a").read_bytes() == bytes(100)


def test_numpy_writes_to_a_file(tmp_path):
    with replacing(tmp_path / "a.npz") as file:
        np.savez(file, x=np.arange(1000))
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["x"].sum() == 499500


def test_an_error_of_the_writer_leaves_the_path_as_it_was(tmp_path):
    write_file(tmp_path / "a", b"before")

    def interrupt():
        with replacing(tmp_path / "a") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before"


def calls_of(action, folder):
    with Drive(folder).installed() as drive:
        action()
    return len(drive.seen)


@pytest.mark.parametrize("fail", [full, broken, killed])
@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_a_replaced_file_is_whole_whichever_call_fails(tmp_path, fail, lasts, exists):
    n_calls = calls_of(lambda: write_file(tmp_path / "first", b"new" * 100), tmp_path)
    assert n_calls >= 7
    for at in range(n_calls):
        path = tmp_path / f"{at}"
        if exists:
            path.write_bytes(b"old")
        with Drive(tmp_path, fail, at, lasts).installed():
            try:
                write_file(path, b"new" * 100)
            except (OSError, Killed):
                pass
            else:
                assert path.read_bytes() == b"new" * 100
        found = path.read_bytes() if path.exists() else None
        assert found in (b"new" * 100, b"old" if exists else None)
    if not lasts:  # the part could be removed
        assert not [name for name in names(tmp_path) if name.startswith(PART)]


@pytest.mark.parametrize("fail", [full, broken, killed])
@pytest.mark.parametrize("lasts", [False, True])
def test_a_new_file_is_whole_whichever_call_fails(tmp_path, fail, lasts):
    n_calls = calls_of(lambda: create_file(tmp_path / "first", b"new"), tmp_path)
    for at in range(n_calls):
        path = tmp_path / f"{at}"
        with Drive(tmp_path, fail, at, lasts).installed():
            try:
                assert create_file(path, b"new")
            except (OSError, Killed):
                pass
            else:
                assert path.read_bytes() == b"new"
        assert not path.exists() or path.read_bytes() == b"new"


def no_links(*args):
    raise OSError(errno.EPERM, "Operation not permitted")


def test_without_links_a_target_half_written_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    write, calls = os.write, []

    def fills_the_disk(handle, data):
        calls.append(len(data))
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        return write(handle, data)

    monkeypatch.setattr(os, "write", fills_the_disk)
    with pytest.raises(OSError, match="full"):
        create_file(tmp_path / "a", b"new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_one_of_many_creates_a_file(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    for number in range(20):
        path = tmp_path / f"{number}"
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda i, path=path: create_file(path, b"%d" % i), range(8)))
        assert sum(won) == 1
        assert path.read_bytes() == b"%d" % won.index(True)
    assert len(names(tmp_path)) == 20


def test_the_second_attempt_of_a_network_drive_meets_the_first(tmp_path, monkeypatch):
    link = os.link

    def answer_is_lost(source, target):
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", answer_is_lost)
    assert create_file(tmp_path / "a", b"mine")
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_a_drive_that_cannot_synchronise_is_used(tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_file(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_folder_whose_names_cannot_be_read_is_used(tmp_path, monkeypatch):
    real = os.open

    def refuse(path, flags, *args):
        if path == str(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *args)

    monkeypatch.setattr(os, "open", refuse)
    write_file(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


# Which process


def test_this_process_lives_and_an_ended_one_is_dead():
    me = ProcessIdentity.current()
    assert me == ProcessIdentity.current()
    assert me.pid == os.getpid()
    assert not me.is_dead()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = 0
    if sys.platform == "linux":
        started = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    of_child = ProcessIdentity(me.host, me.machine, child.pid, started)
    assert not of_child.is_dead()
    child.stdin.close()
    while not of_child.is_dead():  # nobody has waited for it, so it still has its number
        time.sleep(0.01)
    child.wait()
    assert of_child.is_dead()


def test_another_process_with_the_same_number_is_another():
    me = ProcessIdentity.current()
    later = ProcessIdentity(me.host, me.machine, me.pid, me.started + 1)
    assert later.is_dead() == (sys.platform == "linux")


def test_of_another_machine_nothing_is_known():
    me = ProcessIdentity.current()
    assert not ProcessIdentity(me.host, "0" * 16, 2**22 + 1, 0).is_dead()
    assert ProcessIdentity(me.host, me.machine, 2**22 + 1, 0).is_dead()
    assert ProcessIdentity(me.host, me.machine, 10**30, 0).is_dead()


def test_a_process_of_another_user_lives(monkeypatch):
    def refuse(pid, signal):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    assert not ProcessIdentity.current().is_dead()


# What is left over


def test_parts_of_dead_processes_and_old_parts_are_left_over(tmp_path):
    me = ProcessIdentity.current()
    alive, dead, strange, foreign = (
        f"{PART}{me.machine}-{me.pid}-{me.started}-00",
        f"{PART}{me.machine}-{2**22 + 1}-7-00",
        f"{PART}of-a-later-version",
        f"{PART}{'0' * 16}-1-7-00",
    )
    for name in (alive, dead, strange, foreign, "thesis.tex"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / "thesis.tex", (0, 0))
    remove_leftovers(tmp_path)
    assert set(names(tmp_path)) == {alive, strange, foreign, "thesis.tex"}
    os.utime(tmp_path / strange, (0, 0))
    os.utime(tmp_path / foreign, (0, 0))
    remove_leftovers(tmp_path)
    assert set(names(tmp_path)) == {alive, "thesis.tex"}
    assert not is_leftover("thesis.tex", 1e9)
    remove_leftovers(tmp_path / "absent")


def test_the_clock_of_a_folder_is_read(tmp_path):
    assert abs(folder_time(tmp_path) - time.time()) < 10
    assert names(tmp_path) == []
