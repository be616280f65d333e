"""Tests of the errors about memory."""

import multiprocessing
import weakref

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback
from torch import nn

from skimbal import CNN2DClassifier
from tests.plain import plain

X, Y = np.random.default_rng(0).integers(0, 200, (40, 6, 6), np.uint8), np.arange(40) % 2


def too_much_of_torch():
    torch.empty(2**50)


def too_much_of_numpy():
    np.ones(2**50)


def too_much_of_cuda():
    raise torch.cuda.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity"
    )


def another_error():
    raise RuntimeError("expected scalar type Float")


class TooLarge(nn.Module):
    """A network that needs too much, in training or for many rows."""

    def __init__(self, fails):
        super().__init__()
        self.fails, self.in_training = fails, True
        self.last = nn.Linear(36, 2)

    def forward(self, x):
        if self.training == self.in_training and len(x) > 1:
            self.fails()
        return self.last(x.flatten(1))


ERRORS = [
    (too_much_of_torch, MemoryError, "you tried to allocate 4503599627370496 bytes"),
    (too_much_of_numpy, MemoryError, "Unable to allocate 8.00 PiB"),
    (too_much_of_cuda, torch.cuda.OutOfMemoryError, "Tried to allocate 2.50 GiB"),
]


def classifier(fails):
    return CNN2DClassifier(
        module=lambda c, k: TooLarge(fails), micro_batch_size=16, batch_size=32, max_epochs=1
    )


@pytest.mark.parametrize(("fails", "error", "reason"), ERRORS)
def test_a_fit_names_the_parameters_that_decide(fails, error, reason):
    match = rf"{reason}.*, with batch_size=32 and micro_batch_size=16 on device='cpu'\. A smaller"
    with pytest.raises(error, match=match):
        classifier(fails).fit(X, Y)


@pytest.mark.parametrize(("fails", "error", "reason"), ERRORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_prediction_names_the_size_of_a_block(fails, error, reason):
    clf = classifier(lambda: None).fit(X, Y)
    network = clf.net_.module_.network
    network.fails, network.in_training = fails, False
    for predicts in (clf.predict, clf.predict_proba, clf.transform):
        with pytest.raises(error, match=rf"{reason}.*batch_size and micro_batch_size do not count"):
            predicts(X)
    # The remedy of the message.
    clf.net_.iterator_valid__batch_size = 1
    assert clf.predict(X).shape == (40,)


def test_another_error_stays_as_it_is():
    with pytest.raises(RuntimeError, match=r"^expected scalar type Float$"):
        classifier(another_error).fit(X, Y)


class Leaves(Callback):
    """Lets a fit fail in an epoch, as if memory were not enough, and remembers what it used."""

    def __init__(self, epoch):
        self.epoch, self.used = epoch, []

    def on_grad_computed(self, net, named_parameters=None, **kwargs):
        if len(net.history) == self.epoch:
            self.used = [weakref.ref(x) for x in (net.module_, net.optimizer_, self.logits)]
            too_much_of_torch()

    def on_batch_begin(self, net, batch=None, **kwargs):
        self.logits = net.infer(batch[0])

    def __getstate__(self):
        return {**vars(self), "used": [], "logits": None}

    def still_there(self):
        self.logits = None
        return [reference() is not None for reference in self.used]


def small(**params):
    return plain(**{"max_epochs": 2, "batch_size": 16, "random_state": 0, **params})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_error_that_is_kept_keeps_no_memory():
    leaves = Leaves(epoch=1)
    clf = small(callbacks=[leaves])
    with pytest.raises(MemoryError) as kept:
        clf.fit(X, Y)
    assert leaves.still_there() == [False] * 3
    assert "batch_size=16" in str(kept.value)
    with pytest.raises(NotFittedError):
        clf.predict(X)
    assert clf.set_params(callbacks=None, batch_size=4).fit(X, Y).n_epochs_ == 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_whole_epochs_are_kept_without_the_gradients_of_the_step():
    leaves = Leaves(epoch=2)
    clf = small(callbacks=[leaves])
    with pytest.raises(MemoryError) as kept:
        clf.fit(X, Y)
    assert leaves.still_there() == [True, True, False], kept
    assert all(p.grad is None for p in clf.net_.module_.parameters())
    assert clf.predict(X).shape == (40,)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_fit_before_stays_if_memory_is_not_enough():
    clf = small().fit(X, Y)
    before, expected = clf.net_, clf.predict_proba(X)
    for warm_start in (False, True):
        leaves = Leaves(epoch=1)
        clf.set_params(callbacks=[leaves], warm_start=warm_start)
        with pytest.raises(MemoryError):
            clf.fit(X, Y)
        assert clf.net_ is before
        assert (clf.predict_proba(X) == expected).all()
        assert not any(leaves.still_there())


class Last(nn.Module):
    """The last layer, after which memory is not enough."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.logits = layer, None

    def forward(self, x):
        logits = self.layer(x)
        self.logits = weakref.ref(logits)
        too_much_of_torch()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_prediction_that_fails_keeps_no_memory():
    clf = classifier(lambda: None).fit(X, Y)
    network = clf.net_.module_.network
    network.last = Last(network.last)
    with pytest.raises(MemoryError) as error:
        clf.predict(X)
    assert network.last.logits() is None, error


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_error_that_is_kept_keeps_no_memory_of_a_device():
    clf = small(device="cuda").fit(X, Y)  # libraries may take memory once
    weights = 3 * sum(p.nbytes for p in clf.net_.module_.parameters())
    del clf
    before = torch.cuda.memory_allocated()
    clf = small(device="cuda", callbacks=[Leaves(epoch=1)])
    with pytest.raises(MemoryError) as kept:
        clf.fit(X, Y)
    clf.callbacks[0].still_there()
    # A function of skorch holds the batch and its loss. The weights and their moments take more.
    assert torch.cuda.memory_allocated() - before < 4096 < weights, kept
    clf = classifier(lambda: None).set_params(device="cuda").fit(X, Y)
    network, held = clf.net_.module_.network, torch.cuda.memory_allocated()
    network.last = Last(network.last)
    with pytest.raises(MemoryError) as kept:
        clf.predict(X)
    assert torch.cuda.memory_allocated() <= held, kept


@pytest.mark.cuda
@pytest.mark.parametrize("is_worker", [False, True])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_only_fits_of_workers_give_the_reserve_back(is_worker, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty"))
    if is_worker:
        monkeypatch.setattr(multiprocessing, "parent_process", lambda: "another")
    clf = small(device="cuda").fit(X, Y)
    assert len(calls) == is_worker
    for _ in range(3):
        clf.predict(X[:1])
    assert len(calls) == is_worker
