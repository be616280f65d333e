"""Tests of the errors about memory."""

import copy
import multiprocessing
import weakref
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback
from torch import nn

from skimbal import CNN2DClassifier, load
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
    """A network that needs too much for more than some rows, in training or in predictions."""

    def __init__(self, fails, most=1):
        super().__init__()
        self.fails, self.most, self.in_training, self.seen = fails, most, True, []
        self.last = nn.Linear(36, 2)

    def forward(self, x):
        if self.training == self.in_training:
            self.seen.append(len(x))
            if len(x) > self.most:
                self.fails()
        return self.last(x.flatten(1))


ERRORS = [
    (too_much_of_torch, MemoryError, "you tried to allocate 4503599627370496 bytes"),
    (too_much_of_numpy, MemoryError, "Unable to allocate 8.00 PiB"),
    (too_much_of_cuda, torch.cuda.OutOfMemoryError, "Tried to allocate 2.50 GiB"),
]


def classifier(fails, most=1, **params):
    params = {"micro_batch_size": 16, "batch_size": 32, "max_epochs": 1, **params}
    return CNN2DClassifier(module=lambda c, k: TooLarge(fails, most), **params)


@pytest.mark.parametrize(("fails", "error", "reason"), ERRORS)
@pytest.mark.parametrize(
    ("most", "size", "advice"),
    [
        (1, 16, "A smaller micro_batch_size takes less memory"),
        (0, 1, "micro_batch_size=1 is the least"),
        (0, "auto", "A training step on a single row took more memory than there is"),
    ],
)
def test_a_fit_names_the_parameters_that_decide(fails, error, reason, most, size, advice):
    match = rf"{reason}.*, with batch_size=32 and micro_batch_size={size!r} on device='cpu'\. "
    with pytest.raises(error, match=f"{match}{advice}"):
        classifier(fails, most, micro_batch_size=size).fit(X, Y)


@pytest.mark.parametrize(("fails", "error", "reason"), ERRORS)
def test_outside_of_steps_another_advice_helps(fails, error, reason):
    class Stops(Callback):
        def on_epoch_begin(self, net, **kwargs):
            fails()

    match = f"{reason}.* not in a training step, so a smaller micro_batch_size would not help"
    with pytest.raises(error, match=match):
        classifier(lambda: None, callbacks=[Stops()]).fit(X, Y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestPredictions:
    @pytest.mark.slow
    @pytest.mark.parametrize(("fails", "error", "reason"), ERRORS)
    def test_blocks_are_halved_down_to_a_row(self, fails, error, reason):
        clf = classifier(lambda: None).fit(X, Y)
        expected = clf.predict_proba(X), clf.transform(X)
        network = clf.net_.module_.network
        network.fails, network.in_training = fails, False
        assert_allclose(clf.predict_proba(X), expected[0], rtol=1e-5)
        assert_allclose(clf.transform(X), expected[1], rtol=1e-5)
        network.most = 0
        for predicts in (clf.predict, clf.predict_proba, clf.transform):
            match = f"{reason}.*micro_batch_size do not count. A single row did not fit"
            with pytest.raises(error, match=match):
                predicts(X)

    def test_without_room_for_the_images_of_a_block_the_message_names_its_size(self):
        clf = classifier(lambda: None).fit(X, Y)
        with (
            mock.patch("skimbal.training.dataset.ImageDataset.batch", side_effect=MemoryError),
            pytest.raises(MemoryError, match=r"iterator_valid__batch_size = 1"),
        ):
            clf.predict(X)

    @pytest.mark.parametrize("size", [1, 8, 64, -1])
    def test_the_size_of_a_block_is_a_setting(self, size):
        clf = classifier(lambda: None, net={"iterator_valid__batch_size": size}).fit(X, Y)
        network = clf.net_.module_.network
        network.seen, network.in_training = [], False
        clf.predict(X)
        assert max(network.seen) == min(size % 1000, 40)

    @pytest.mark.parametrize("size", [0, -2, 2.5, True, "8"])
    def test_a_size_that_is_none_is_refused(self, size):
        net = {"iterator_valid__batch_size": size}
        with pytest.raises(ValueError, match=f"iterator_valid__batch_size.*got {size!r}"):
            classifier(lambda: None, net=net, train_split=0.5).fit(X, Y)


class TestAuto:
    """``micro_batch_size="auto"``."""

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_the_size_that_fits_is_told_kept_and_saved(self, tmp_path):
        params = {"random_state": 0, "dtype": "float64", "max_epochs": 2}
        clf = classifier(too_much_of_cuda, 8, micro_batch_size="auto", **params)
        with pytest.warns(UserWarning, match=r"with 20 rows at once.*micro_batch_size=5\.") as all_:
            clf.fit(X, Y)
        (told,) = [one for one in all_ if "ran out of memory" in str(one.message)]
        assert told.filename == __file__
        assert clf.micro_batch_size_ == 5
        assert clf.history_[:, "micro_batch_size"] == [5, 5]
        given = classifier(too_much_of_cuda, 8, micro_batch_size=5, **params).fit(X, Y)
        assert np.array_equal(clf.predict_proba(X), given.predict_proba(X))

        path = tmp_path / "model.skimbal"
        clf.save(path)
        loaded = load(path, module=lambda c, k: TooLarge(too_much_of_cuda, 8))
        copies = [clf, copy.deepcopy(clf), loaded]
        for one in copies:
            one.net_.module_.network.seen.clear()
            one.partial_fit(X, Y)
            assert max(one.net_.module_.network.seen) <= 5
            assert one.micro_batch_size_ == 5

    def test_without_need_nothing_is_halved(self):
        plain = classifier(lambda: None, micro_batch_size=None, random_state=0).fit(X, Y)
        clf = classifier(lambda: None, micro_batch_size="auto", random_state=0).fit(X, Y)
        assert plain.micro_batch_size_ == clf.micro_batch_size_ == 32
        assert np.array_equal(clf.predict_proba(X), plain.predict_proba(X))


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


@pytest.mark.slow
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
