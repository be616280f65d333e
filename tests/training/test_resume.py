"""The file of a fit: damage, other programs, full disks, and how often it is written."""

import dataclasses
import errno
import json
import os
import pickle
import warnings
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skimbal.callbacks import Resume
from skimbal.training import Resumption, epoch, resume
from tests.classifiers.data import images, small
from tests.resuming import Killed, assert_same_fit, counted_epochs, killed_after

X, Y = images(30)


def make(folder, seconds=0, **params):
    return small(callbacks=[Resume(folder, seconds=seconds)], **{"batch_size": 15, **params})


def interrupted(folder, **params):
    """Stop a fit after two of its four epochs, and return its file."""
    with killed_after(2), pytest.raises(Killed):
        make(folder, **params).fit(X, Y)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def whole():
    return small(batch_size=15).fit(X, Y)


def fit_anew(folder, whole, match):
    """Fit with a file that cannot be used, and compare with the fit without a file."""
    with pytest.warns(UserWarning, match=match) as caught, counted_epochs() as epochs:
        clf = make(folder).fit(X, Y)
    (warning,) = caught
    assert warning.filename == __file__
    assert len(epochs) == 4
    assert_same_fit(clf, whole)
    return str(warning.message)


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"",
            lambda data: b"hello",
            lambda data: data[:-1],
            lambda data: data[: len(data) // 2],
            lambda data: data + b"\0",
            lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
            lambda data: data[:-300] + bytes([data[-300] ^ 16]) + data[-299:],
            lambda data: data.replace(b'"n_done": 2', b'"n_done": 3'),
            lambda data: data.replace(b"skimbal resume 1", b"skimbal resume 9"),
        ],
    )
    def test_a_damaged_file_is_a_warning(self, damage, whole, tmp_path):
        file = interrupted(tmp_path)
        data = file.read_bytes()
        assert damage(data) != data
        file.write_bytes(damage(data))
        text = fit_anew(tmp_path, whole, "cannot be used, so the fit begins anew")
        assert str(file) in text
        assert not file.exists()

    @pytest.mark.slow
    def test_each_byte_counts(self, tmp_path):
        file = interrupted(tmp_path)
        data = file.read_bytes()
        for i in range(0, len(data), 7):
            with pytest.raises(ValueError, match="checksum"):
                resume.decode(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])

    def test_no_code_of_a_file_runs(self, whole, tmp_path):
        class Attack:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "attacked"),)

        file = interrupted(tmp_path)
        head = file.read_bytes().split(b"\n")[1]
        torch.save(Attack(), tmp_path / "code")
        for code in (pickle.dumps(Attack(), 2), (tmp_path / "code").read_bytes()):
            body = b"\n" + head + b"\n" + code
            file.write_bytes(resume.seal(body) + body)
            fit_anew(tmp_path, whole, "cannot be used")
        assert not (tmp_path / "attacked").exists()

    def test_a_whole_file_under_another_name_is_not_taken(self, whole, tmp_path):
        (tmp_path / "b").mkdir()
        file = interrupted(tmp_path / "b")
        other = interrupted(tmp_path / "c", lr=0.123)
        other.replace(tmp_path / file.name)
        with counted_epochs() as epochs:
            assert_same_fit(make(tmp_path).fit(X, Y), whole)
        assert len(epochs) == 4

    def test_the_state_of_another_net_is_a_warning(self, whole, tmp_path):
        file = interrupted(tmp_path)
        head = resume.decode(file.read_bytes()).head
        (tmp_path / "b").mkdir()
        narrow = resume.decode(interrupted(tmp_path / "b", net={"module__width": 4}).read_bytes())
        resume.write_state(file, head, ["{}", "{}"], narrow.common, narrow.own)
        fit_anew(tmp_path, whole, "begins anew: .* has no weights of shape")


def test_a_network_with_other_weights_begins_anew(tmp_path):
    torch.save(nn.Linear(36, 2).state_dict(), tmp_path / "weights.pt")
    runs = tmp_path / "runs"

    def network(n_channels, n_classes):
        linear = nn.Linear(36, n_classes)
        linear.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        return nn.Sequential(nn.Flatten(), linear)

    interrupted(runs, module=network, net=None)
    torch.save(nn.Linear(36, 2).state_dict(), tmp_path / "weights.pt")
    whole = small(batch_size=15, module=network, net=None).fit(X, Y)
    with warnings.catch_warnings(record=True) as caught, counted_epochs() as epochs:
        warnings.simplefilter("always")
        clf = make(runs, module=network, net=None).fit(X, Y)
    assert len(epochs) == 4
    assert_same_fit(clf, whole)
    # A checksum of code may know the files that it reads, and then this is another fit.
    assert all("begins with other weights" in str(warning.message) for warning in caught)


class TestFolder:
    def test_it_is_made(self, whole, tmp_path):
        folder = tmp_path / "a" / "b"
        file = interrupted(folder)
        assert file.parent == folder

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
    @pytest.mark.parametrize("first", [1, 2])
    def test_a_folder_that_cannot_be_written_is_one_warning(self, first, number, whole, tmp_path):
        n_calls, write = 0, resume.write_file

        def fails(path, *data):
            nonlocal n_calls
            n_calls += 1
            if n_calls >= first:
                raise OSError(number, os.strerror(number))
            write(path, *data)

        failing = mock.patch.object(resume, "write_file", fails)
        with failing, pytest.warns(UserWarning, match="cannot be written") as caught:
            clf = make(tmp_path).fit(X, Y)
        (warning,) = caught
        assert warning.filename == __file__
        assert os.strerror(number) in str(warning.message)
        assert n_calls == first
        assert_same_fit(clf, whole)
        assert [*tmp_path.iterdir()] == []

    def test_a_file_in_place_of_the_folder_is_one_warning(self, whole, tmp_path):
        (tmp_path / "a").write_text("a")
        with pytest.warns(UserWarning, match="cannot be written") as caught:
            clf = make(tmp_path / "a").fit(X, Y)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert_same_fit(clf, whole)

    def test_a_folder_that_is_removed_is_one_warning(self, whole, tmp_path):
        folder = tmp_path / "a"
        ended = Resumption.epoch_ended

        def removed(self, net):
            ended(self, net)
            for file in folder.iterdir() if folder.exists() else ():
                file.unlink()
            if folder.exists():
                folder.rmdir()

        removing = mock.patch.object(Resumption, "epoch_ended", removed)
        with removing, pytest.warns(UserWarning, match="cannot be written"):
            clf = make(folder).fit(X, Y)
        assert_same_fit(clf, whole)

    def test_other_files_stay_and_parts_of_dead_writers_go(self, tmp_path):
        (tmp_path / "notes.txt").write_text("a")
        part = tmp_path / "skimbal-part-0"
        part.write_text("a")
        os.utime(part, (0, 0))
        make(tmp_path).fit(X, Y)
        assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@contextmanager
def failing(error, at):
    """Raise an error in an epoch, the first being 1."""
    train = epoch.train

    def fail(net, *args):
        if len(net.history) == at:
            raise error
        train(net, *args)

    with mock.patch.object(epoch, "train", fail), pytest.raises(error):
        yield


class TestEnd:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
    def test_a_fit_that_fails_leaves_its_file(self, error, whole, tmp_path):
        clf = make(tmp_path)
        with failing(error, at=3):
            clf.fit(X, Y)
        (file,) = tmp_path.iterdir()
        with counted_epochs() as epochs:
            clf.fit(X, Y)  # the same estimator
        assert len(epochs) == 2
        assert_same_fit(clf, whole)
        assert not file.exists()

    def test_a_fit_that_fails_twice(self, whole, tmp_path):
        for at in (2, 3, 4):
            with failing(RuntimeError, at=at):
                make(tmp_path).fit(X, Y)
        with counted_epochs() as epochs:
            assert_same_fit(make(tmp_path).fit(X, Y), whole)
        assert len(epochs) == 1

    def test_a_fit_that_diverges_removes_its_file(self, tmp_path):
        with failing(FloatingPointError, at=3):
            make(tmp_path).fit(X, Y)
        assert [*tmp_path.iterdir()] == []
        with pytest.raises(FloatingPointError):
            make(tmp_path, lr=1e30).fit(X, Y)
        assert [*tmp_path.iterdir()] == []

    def test_a_fit_that_a_callback_ends_removes_its_file(self, tmp_path):
        class Stop(Callback):
            def on_epoch_end(self, net, **kwargs):
                if len(net.history) == 2:
                    raise KeyboardInterrupt

        clf = small(callbacks=[Stop(), Resume(tmp_path, seconds=0)]).fit(X, Y)
        assert clf.n_epochs_ == 2
        assert [*tmp_path.iterdir()] == []

    def test_the_last_epoch_is_not_written(self, tmp_path):
        with mock.patch.object(resume, "write_file") as write:
            make(tmp_path).fit(X, Y)
        assert write.call_count == 3


def rewritten(file, own=None, **changes):
    """Write a file anew, with changes of its head or of the states of its processes."""
    saved = resume.decode(file.read_bytes())
    head = dataclasses.replace(saved.head, **changes)
    history = [json.dumps(row) for row in saved.history]
    resume.write_state(file, head, history, saved.common, own or saved.own)


def test_a_file_of_another_machine_goes_on(tmp_path):
    file = interrupted(tmp_path, random_state=None)
    writer = resume.decode(file.read_bytes()).head.writer
    rewritten(file, writer={**writer, "host": "elsewhere", "machine": "0" * 16})
    with counted_epochs() as epochs:
        make(tmp_path, random_state=None).fit(X, Y)
    assert len(epochs) == 2


def test_a_file_of_more_processes_is_not_taken(tmp_path):
    file = interrupted(tmp_path)
    rewritten(file, own=resume.decode(file.read_bytes()).own * 2)
    with counted_epochs() as epochs:
        make(tmp_path).fit(X, Y)
    assert len(epochs) == 4


class TestTime:
    def count(self, seconds, cost, epoch_time, n_epochs, tmp_path):
        """Return the number of writes, by a clock that writes and epochs move."""
        now = 0.0

        def write(*args):
            nonlocal now
            now += cost

        train = epoch.train

        def run(*args):
            nonlocal now
            now += epoch_time
            train(*args)

        clock = mock.Mock(perf_counter=lambda: now)
        with (
            mock.patch.object(resume, "write_file") as writing,
            mock.patch.object(epoch, "train", run),
            mock.patch.object(resume, "time", clock),
        ):
            writing.side_effect = write
            make(tmp_path, seconds, max_epochs=n_epochs).fit(X, Y)
        return writing.call_count

    def test_writes_take_a_hundredth_of_the_time(self, tmp_path):
        assert self.count(None, 0.1, 20, 12, tmp_path) == 11
        assert self.count(None, 1, 10, 61, tmp_path) == pytest.approx(7, abs=1)
        assert self.count(None, 0.25, 0.01, 40, tmp_path) == 4
        assert self.count(None, 3, 1, 10, tmp_path) == 1

    def test_writes_are_so_many_seconds_apart(self, tmp_path):
        assert self.count(25, 0.1, 10, 10, tmp_path) == 3
        assert self.count(0, 100, 0.1, 10, tmp_path) == 9
        assert self.count(1e9, 0, 10, 5, tmp_path) == 0
