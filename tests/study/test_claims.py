"""One process holds a claim, and the dead hold none."""

import dataclasses
import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from skimbal.atomic import PART, ProcessIdentity
from skimbal.study import claims
from skimbal.study.claims import BEAT, TIMEOUT, Claim, holder_of, is_free
from skimbal.study.sealed import seal

ME = ProcessIdentity.current()
DEAD = dataclasses.replace(ME, pid=2**22 + 1)
FOREIGN = dataclasses.replace(ME, host="elsewhere", machine="0" * 16)
#: Another process of this machine that lives as long as the tests.
PARENT = dataclasses.replace(ME, pid=os.getppid(), started=0)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "claim-0.json")


def written(path, process, token="t"):
    with open(path, "wb") as file:
        file.write(seal({**dataclasses.asdict(process), "run": "r", "token": token}))


def taken(path):
    """Tell whether a claim can be taken, and give it back."""
    claim = Claim(path, "mine")
    seems_free, is_taken = is_free(path), claim.take()
    claim.give_back()
    assert seems_free == is_taken
    return is_taken


def taken_now(path):
    """Tell whether a claim that seems free can be taken, and give it back."""
    claim = Claim(path, "mine")
    is_taken = claim.take()
    claim.give_back()
    return is_taken


def hearts():
    return [thread for thread in threading.enumerate() if thread.name == "skimbal-heart"]


def test_one_claim_is_taken_and_given_back(path):
    first, second = Claim(path, "1"), Claim(path, "2")
    assert first.take()
    assert holder_of(path)[:2] == (ME, "1")
    assert not second.take()
    second.give_back()
    assert holder_of(path)[:2] == (ME, "1")
    first.give_back()
    first.give_back()
    assert not os.path.exists(path)
    assert taken(path)
    assert os.listdir(os.path.dirname(path)) == []
    assert not hearts()


def test_of_many_one_is_faster(path):
    for process in [None, DEAD] * 10:
        if process is not None:
            written(path, process)
        several = [Claim(path, "") for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(Claim.take, several)) == 1
        for claim in several:
            claim.give_back()
    assert os.listdir(os.path.dirname(path)) == []


def test_the_claim_of_a_faster_process_stays(path, monkeypatch):
    written(path, DEAD)
    looks = iter([holder_of(path)])
    first, second = Claim(path, "1"), Claim(path, "2")
    assert first.take()
    # As if the second process had looked before the first one took the claim.
    monkeypatch.setattr(claims, "holder_of", lambda path: next(looks, None) or holder_of(path))
    assert not second.take()
    assert holder_of(path)[:2] == (ME, "1")
    first.give_back()
    assert os.listdir(os.path.dirname(path)) == []


def test_a_process_that_dies_while_it_takes_over_is_no_obstacle(path, monkeypatch):
    written(path, DEAD)
    grave = os.path.join(os.path.dirname(path), f"{PART}{os.path.basename(path)}-")
    grave += holder_of(path).token
    os.link(path, grave)
    assert not taken_now(path)
    monkeypatch.setattr(claims, "CLEARING", -1.0)
    assert not taken_now(path)  # removes the link
    assert taken_now(path)


@pytest.mark.parametrize(
    ("process", "seconds", "is_free"),
    [
        (DEAD, 0, True),
        (FOREIGN, 0, False),
        (FOREIGN, TIMEOUT - 60, False),
        (FOREIGN, TIMEOUT + 60, True),
        (FOREIGN, -1e6, True),
        (ME, 0, True),  # of a call that is over
    ],
)
def test_claims_of_the_dead_are_taken_over(path, process, seconds, is_free):
    written(path, process)
    now = time.time()
    os.utime(path, (now - seconds, now - seconds))
    assert taken(path) == is_free


def test_a_living_process_whose_heart_has_stopped_holds_no_claim(path, monkeypatch):
    monkeypatch.setattr(claims, "TIMEOUT", 0.2)
    first = Claim(path, "")
    assert first.take()
    time.sleep(0.3)
    # For this process its own claim is sure. Another one looks at the time.
    assert not is_free(path)
    written(path, PARENT if not PARENT.is_dead() else FOREIGN)
    os.utime(path, (1, 1))
    assert taken(path)
    first.give_back()


@pytest.mark.parametrize("what", ["empty", "garbage", "folder", "link"])
def test_a_claim_that_cannot_be_read_is_held_for_a_time(path, what):
    if what == "folder":
        os.mkdir(path)
    elif what == "link":
        os.symlink(path + "nowhere", path)
    else:
        with open(path, "wb") as file:
            file.write(b"\xff" if what == "garbage" else b"")
    assert not taken(path)
    os.utime(path, (1, 1), follow_symlinks=False)
    assert taken(path)
    assert os.listdir(os.path.dirname(path)) == []


def test_the_heart_beats_while_the_claim_is_held(path, monkeypatch):
    assert BEAT * 4 < TIMEOUT
    monkeypatch.setattr(claims, "BEAT", 0.01)
    claim = Claim(path, "")
    claim.take()
    os.utime(path, (1, 1))
    for _ in range(500):
        if os.stat(path).st_mtime > 1:
            break
        time.sleep(0.01)
    assert os.stat(path).st_mtime > 1
    assert len(hearts()) == 1
    claim.give_back()
    assert not hearts()


def test_who_was_taken_for_dead_does_not_disturb_the_next(path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.01)
    first = Claim(path, "")
    assert first.take()
    os.unlink(path)
    written(path, FOREIGN)
    os.utime(path, (1, 1))
    time.sleep(0.1)
    assert os.stat(path).st_mtime == 1  # the first heart beats elsewhere
    first.give_back()
    assert holder_of(path).process == FOREIGN


@pytest.mark.parametrize("has_links", [True, False])
def test_a_claim_that_was_taken_over_meanwhile_stays(path, monkeypatch, has_links):
    written(path, DEAD)
    link = os.link

    def another_is_faster(source, target):
        if source == path:
            written(path, FOREIGN, "later")
        if not has_links:
            raise OSError(errno.EPERM, "no links")
        link(source, target)

    monkeypatch.setattr(os, "link", another_is_faster)
    assert not Claim(path, "").take()
    assert holder_of(path).token == "later"
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_a_folder_that_cannot_be_written_is_an_error(path, monkeypatch):
    claim = Claim(os.path.join(os.path.dirname(path), "absent", "claim-0.json"), "")
    with pytest.raises(FileNotFoundError):
        claim.take()
    claim.give_back()
    assert not hearts()
    assert not [name for name in os.listdir(os.path.dirname(path)) if name.startswith(PART)]
