"""Fits that are stopped after an epoch, and go on in another estimator."""

from contextlib import contextmanager
from unittest import mock

import torch

from skimbal.callbacks import Resume
from skimbal.training import Resumption, epoch


class Killed(BaseException):
    """The end of a process, as far as one process can have several."""


@contextmanager
def killed_after(n_epochs):
    """End each fit with a Resume after a number of epochs, with the state written."""
    ended = Resumption.epoch_ended

    def end(self, net):
        ended(self, net)
        if len(net.history) - net.epochs_.start >= n_epochs:
            raise Killed

    with mock.patch.object(Resumption, "epoch_ended", end):
        yield


def fit_in_two(make, folder, X, y, n_epochs=3, **fit_params):
    """Fit an estimator that is stopped after some epochs, and then another."""
    files = [*folder.iterdir()]
    with killed_after(n_epochs):
        try:
            with_resume(make(), folder).fit(X, y, **fit_params)
        except Killed:
            pass
        else:
            raise AssertionError("the fit was not stopped")
    assert len([*folder.iterdir()]) == len(files) + 1
    clf = with_resume(make(), folder)
    with counted_epochs() as epochs:
        clf.fit(X, y, **fit_params)
    assert [*folder.iterdir()] == files
    return clf, len(epochs)


def with_resume(clf, folder):
    """Return the estimator with a callback that writes after every epoch."""
    return clf.set_params(callbacks=[Resume(folder, seconds=0), *(clf.callbacks or [])])


@contextmanager
def counted_epochs():
    """Collect an entry for each epoch that runs."""
    epochs, train = [], epoch.train

    def count(*args):
        epochs.append(None)
        return train(*args)

    with mock.patch.object(epoch, "train", count):
        yield epochs


def assert_same_fit(one, other):
    """Compare everything that a fit leaves, bit for bit."""
    a, b = one.net_, other.net_
    for part in ("module_", "criterion_", "optimizer_"):
        assert_same(getattr(a, part).state_dict(), getattr(b, part).state_dict(), part)
    rows = [[_without_times(row) for row in net.history] for net in (a, b)]
    assert rows[0] == rows[1]


def _without_times(row):
    return {name: value for name, value in row.items() if name != "dur"}


def assert_same(one, other, path):
    """Compare states."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for i, (first, second) in enumerate(zip(one, other, strict=True)):
            assert_same(first, second, f"{path}[{i}]")
    else:
        assert one == other, path
