"""Tests of steps and blocks that are repeated with fewer rows at once where memory lacks."""

import gc
import warnings
import weakref

import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skimbal.augmentation import RandomFlip
from skimbal.losses import LossMix, get_loss
from skimbal.training import are_short_of_memory
from skimbal.training.memory import Attempt, compute_in_parts, set_rows_at_once
from skimbal.training.random_state import seed_all
from tests.training.data import all_rows, assert_same_state, draw, draw_from_all, make_net

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
    MemoryError(),
]


class Limited(nn.Module):
    """A network with all kinds of state, for which memory suffices up to a number of rows."""

    def __init__(self, most=None, error=ERRORS[0], in_backward=False):
        super().__init__()
        self.most, self.error, self.in_backward = most, error, in_backward
        self.n_failed, self.seen = 0, []
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(16, 3),
        )

    def fail(self, n_rows):
        if self.most is not None and n_rows > self.most:
            self.n_failed += 1
            raise self.error

    def forward(self, x):
        self.seen.append(len(x))
        x = self.body(x)
        if self.in_backward and x.requires_grad:
            x.register_hook(lambda gradient: self.fail(len(gradient)))
        elif not self.in_backward:
            self.fail(len(x))  # after batch normalisation and dropout have changed their state
        return x


def limited_net(data, loss="ce", halves=True, **options):
    limits = {
        name: options.pop(name) for name in ("most", "error", "in_backward") if name in options
    }
    net = make_net(
        data,
        loss,
        factory=lambda in_channels, n_classes: Limited(**limits),
        halves_micro_batches=halves,
        **options,
    )
    net.augmentation = (RandomFlip(),)
    return net


@pytest.mark.parametrize("error", ERRORS)
def test_errors_about_memory_are_known(error):
    assert are_short_of_memory(error)
    assert not are_short_of_memory(RuntimeError("expected scalar type Float"))
    assert not are_short_of_memory(ValueError("out of memory"))


def train(net, data):
    torch.manual_seed(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.train_epochs(data, None, 2)
    return [str(w.message) for w in caught if "ran out of memory" in str(w.message)]


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("loss", ["ce", "ce+mcc"])
def test_a_repeated_step_is_a_step_with_that_size(loss, lean, in_backward):
    data, options = draw(), {"optimizer": torch.optim.Adam, "lr": 0.01, "batch_size": 6}
    net = limited_net(data, loss, most=2, in_backward=in_backward, **options)
    expected = limited_net(data, loss, halves=False, micro_batch_size=2, **options)
    for one in (net, expected):
        if not lean:
            one.callbacks_.append(("listens", Listens()))
    messages = train(net, data)
    assert train(expected, data) == []
    assert (net.module_.network.n_failed > 0, net.micro_batch_size) == (True, 2)
    assert_same_state(net.module_.state_dict(), expected.module_.state_dict())
    assert net.history[:, "train_loss"] == expected.history[:, "train_loss"]
    assert net.history[:, "micro_batch_size"] == [2, 2]
    (message,) = messages
    assert "with 6 rows at once" in message
    assert "micro_batch_size=2." in message
    assert "batch normalisation" in message


class Listens(Callback):
    """A callback that follows batches, so that the loop of skorch runs."""

    def on_grad_computed(self, net, **kwargs):
        pass


@pytest.mark.cuda
@pytest.mark.parametrize("loss", ["ce", "ce+mcc"])
def test_on_cuda_a_repeated_step_draws_the_same(loss):
    data, nets = draw(), []
    for options in ({"most": 2}, {"halves": False, "micro_batch_size": 2}):
        net = limited_net(data, loss, device="cuda", batch_size=6, **options)
        seed_all(1, "cuda")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net.train_epochs(data, None, 2)
        nets.append(net)
    assert nets[0].module_.network.n_failed > 0
    for one, other in zip(*(net.module_.state_dict().values() for net in nets), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_all_state_is_as_before_the_step():
    data = draw(weighted=False)
    loss = get_loss(LossMix(ce=1, mcc=1, statistics="moving", horizon=30), class_counts=[1, 2, 3])
    nets = []
    for most, size in ((3, None), (None, 3)):
        net = limited_net(data, criterion=loss, most=most, in_backward=True, micro_batch_size=size)
        net.criterion_ = get_loss(loss.mix, class_counts=[1, 2, 3])
        seed_all(0, "cpu")
        net.set_training(True)
        # The gradients of a user who adds up several batches.
        for parameter in net.module_.parameters():
            parameter.grad = torch.ones_like(parameter)
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                net.train_step_single(all_rows(data))
        nets.append((net, draw_from_all()))
    (net, drawn), (expected, drawn_without) = nets
    assert net.module_.network.n_failed > 0
    assert drawn == drawn_without
    assert_same_state(net.module_.state_dict(), expected.module_.state_dict())
    assert torch.equal(net.criterion_.moving, expected.criterion_.moving)
    for one, other in zip(net.module_.parameters(), expected.module_.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("error", ERRORS)
def test_the_size_is_halved_down_to_a_row_and_no_further(error):
    data = draw()
    net = limited_net(data, most=0, error=error)
    with pytest.raises(type(error)) as caught:
        net.train_epochs(data, None, 1)
    assert caught.value is error
    # 11, 6, 3, 2, 1.
    assert (net.micro_batch_size, net.module_.network.n_failed) == (1, 5)


def test_without_leave_nothing_is_repeated():
    data = draw()
    net = limited_net(data, most=2, halves=False)
    with pytest.raises(torch.OutOfMemoryError):
        net.train_epochs(data, None, 1)
    assert (net.micro_batch_size, net.module_.network.n_failed) == (None, 1)


def test_another_error_is_not_repeated():
    data = draw()
    net = limited_net(data, most=2, error=RuntimeError("expected scalar type Float"))
    with pytest.raises(RuntimeError, match="scalar type"):
        net.train_epochs(data, None, 1)
    assert net.module_.network.n_failed == 1


def test_the_failed_step_is_freed_before_the_next():
    data, kept, alive = draw(), [], []

    class Holds(Limited):
        def forward(self, x):
            alive.append([ref() is not None for ref in kept])
            large = torch.ones(1000)
            kept.append(weakref.ref(large))
            if len(x) > 6:
                raise MemoryError
            return self.body(x) + large.sum() * 0

    net = make_net(data, factory=lambda c, k: Holds(), halves_micro_batches=True)
    gc.disable()
    try:
        with pytest.warns(UserWarning, match="ran out of memory"):
            net.train_epochs(data, None, 1)
    finally:
        gc.enable()
    assert alive[1] == [False]


def test_parts_of_a_block():
    sizes = []

    def compute(images):
        sizes.append(len(images))
        if len(images) > 3:
            raise MemoryError
        return images * 2

    images = torch.arange(10)
    found, at_once = compute_in_parts(compute, images, 10, "cpu")
    assert (found.tolist(), at_once, sizes) == ((images * 2).tolist(), 3, [10, 5, 3, 3, 3, 1])
    _, at_once = compute_in_parts(compute, images[:2], at_once, "cpu")
    assert at_once == 2
    with pytest.raises(MemoryError):
        compute_in_parts(lambda images: compute(images.repeat(4)), images[:2], 2, "cpu")


def test_validation_and_prediction_take_fewer_rows():
    data = draw()
    net, whole = limited_net(data), limited_net(data)
    net.module_.network.load_state_dict(whole.module_.network.state_dict())
    for one in (net, whole):
        one.iterator_valid__batch_size = 8
        one.module_.network.most = 8
        train(one, data)
        one.module_.network.most = 2 if one is net else None
    expected = whole.predict_rows(data, nn.Identity())
    net.module_.network.seen.clear()
    torch.testing.assert_close(
        torch.tensor(net.predict_rows(data, nn.Identity())), torch.tensor(expected)
    )
    # The second block begins with the size that sufficed for the first.
    assert net.module_.network.seen == [6, 3, 2, 2, 2, 2, 2, 1]


class Votes:
    """The messages of a process to another one that has failed, or not."""

    n_processes, is_first = 2, True

    def __init__(self, other):
        self.other, self.sent = other, []

    def all_reduce_max(self, number):
        self.sent.append(number)
        return max(number, self.other)


def test_processes_learn_of_a_failure():
    alone = Attempt()
    alone.meet()
    alone.report()
    assert not alone.asks
    votes = Votes(0)
    attempt = Attempt(votes)
    attempt.meet()
    with attempt.exchanging():
        assert attempt.is_exchanging
    assert not attempt.is_exchanging
    attempt.report()
    assert votes.sent == [0, 0, 1]
    votes = Votes(1)
    attempt = Attempt(votes)
    with pytest.raises(MemoryError, match="another process"):
        attempt.meet()
    attempt.report()  # of the failure that all know
    assert votes.sent == [0]


def test_the_size_is_a_part_of_the_facts():
    net = make_net(draw())
    set_rows_at_once(net, 3)
    assert net.micro_batch_size == 3
