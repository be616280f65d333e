"""Gradients are sent while others are computed, in one order, and come back as averages."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from skimbal.training import buckets as buckets_room
from skimbal.training.buckets import GradientBuckets


class Layers(nn.Module):
    """Two layers that are used, and between them a layer that is not."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last)
        self.unused = nn.Linear(5, 3)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x).mean((2, 3)))


class Done:
    def wait(self):
        pass


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Layers().double()


@pytest.fixture
def sent(monkeypatch):
    """Collect messages. The other process sends ``sent.of_other``, or has what this one has."""

    class Messages(list):
        of_other = None

    messages = Messages()

    def all_reduce(message, async_op):
        assert async_op
        other = None if messages.of_other is None else messages.of_other[len(messages)]
        messages.append(message.clone())
        message += message if other is None else other
        return Done()

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(buckets_room, "BUCKET_BYTES", 1)
    return messages


def loss_of(network):
    images = torch.linspace(0, 1, 3 * 2 * 5 * 5).double().reshape(3, 2, 5, 5)
    return network(images).pow(2).sum()


def gradients(network):
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def expected_gradients(network):
    loss_of(network).backward()
    expected = gradients(network)
    network.zero_grad()
    return expected


def same(found, expected):
    return all(
        (a is None and b is None) or torch.equal(a, b) for a, b in zip(found, expected, strict=True)
    )


def test_a_gradient_is_sent_before_the_next_is_computed(network, sent):
    used = [network.first.weight, network.first.bias, network.last.weight, network.last.bias]
    buckets, loss, events = GradientBuckets(used, 2), loss_of(network), []
    for i, parameter in enumerate(used):
        parameter.register_post_accumulate_grad_hook(lambda _, i=i: events.append((i, len(sent))))
    buckets.begin(loss)
    loss.backward()
    events = dict(events)
    # The last layer is on its way when the gradient of the first arrives.
    assert events[0] >= 2 or events[1] >= 2
    assert len(sent) == 4, "A backward pass that has all gradients sends all."
    assert buckets.finish(loss) == loss


@pytest.mark.parametrize("begins", [True, False])
def test_averages_take_the_place_of_gradients(network, sent, begins):
    expected = expected_gradients(network)
    parameters = list(network.parameters())
    buckets = GradientBuckets(parameters, 2)
    for _ in range(3):
        network.zero_grad()
        loss = loss_of(network)
        if begins:
            buckets.begin(loss)
        loss.backward()
        assert torch.allclose(buckets.finish(loss), loss.detach())
        assert same(gradients(network), expected)
        assert network.first.weight.grad.stride() == network.first.weight.stride()
    assert len(sent) == 3 * len(parameters)


def test_a_process_without_gradients_sends_as_much_in_the_same_order(network, sent):
    buckets = GradientBuckets(list(network.parameters()), 2)
    loss = loss_of(network)
    buckets.begin(loss)
    loss.backward()
    buckets.finish(loss)
    expected, found = gradients(network), list(sent)
    network.zero_grad()
    sent.clear()
    sent.of_other = found  # the other process has rows, and this one has none
    loss = torch.zeros((), dtype=torch.float64)
    buckets.begin(loss)
    buckets.finish(loss)
    assert [len(message) for message in sent] == [len(message) for message in found]
    halves = [None if g is None else g / 2 for g in expected]
    assert same(gradients(network), halves), "None has stayed None in the layer that nobody uses."


def test_only_the_last_backward_pass_of_a_batch_is_sent(network, sent):
    expected = [None if g is None else 2 * g for g in expected_gradients(network)]
    buckets = GradientBuckets(list(network.parameters()), 2)
    loss_of(network).backward()
    assert not sent
    loss = loss_of(network)
    buckets.begin(loss)
    loss.backward()
    buckets.finish(loss)
    assert same(gradients(network), expected)
    loss_of(network).backward()  # by a callback of a user
    assert len(sent) == len(list(network.parameters()))


def test_small_gradients_go_together(network, sent, monkeypatch):
    monkeypatch.setattr(buckets_room, "BUCKET_BYTES", 8 * 10)
    sizes = [p.numel() for p in network.parameters()]
    assert sizes == [72, 4, 15, 3, 8, 2]
    loss = loss_of(network)
    loss.backward()
    GradientBuckets(list(network.parameters()), 2).finish(loss)
    # From the last to the first, with a number for each parameter and the loss at the end.
    assert [len(message) for message in sent] == [2 + 8, 3 + 15, 4 + 72 + 6 + 1]


def test_a_gradient_that_grows_after_it_was_sent_is_refused(network, sent):
    # A reentrant checkpoint of a layer that is used twice makes two such passes.
    buckets, loss = GradientBuckets(list(network.parameters()), 2), loss_of(network)
    buckets.begin(loss)
    loss.backward()
    with pytest.raises(RuntimeError, match=r"\(2,\) grew .*use_reentrant=False"):
        loss_of(network).backward()


def test_nothing_follows_the_gradients_of_a_finished_fit(network, sent):
    buckets = GradientBuckets(list(network.parameters()), 2)
    buckets.begin(torch.zeros(()))
    buckets.remove()
    loss_of(network).backward()
    assert not sent


def test_parameters_of_several_dtypes(sent):
    layers = nn.ModuleList([nn.Linear(2, 2).double(), nn.Linear(2, 1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets_room, "BUCKET_BYTES", 2**20)
        buckets = GradientBuckets(list(layers.parameters()), 2)
    loss = layers[1](layers[0](torch.ones(1, 2).double()).float()).sum()
    buckets.begin(loss)
    loss.backward()
    expected = gradients(layers)
    buckets.finish(loss)
    assert len(sent) == 1
    assert [p.grad.dtype for p in layers.parameters()] == [torch.float64] * 2 + [torch.float32] * 2
    for found, parameter in zip(expected, layers.parameters(), strict=True):
        assert np.allclose(found, parameter.grad)
