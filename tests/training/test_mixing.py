"""Gradients of mixed batches against the formulas of the papers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from skimbal.augmentation import MAMix, Mixup, RandomFlip, Remix
from skimbal.exceptions import ParameterError
from skimbal.losses import LossMix, get_loss, mcc_score
from skimbal.training import isolated_random_state
from tests.training.data import all_rows, draw, gradient_of, make_net, relative_error

MIXES = [Mixup(), Remix(tau=1), MAMix()]
COUNTS = [16, 4, 1]


def mixing_net(data, loss, mix, **options):
    net = make_net(data, loss, **options)
    net.mixing_ = (copy.deepcopy(mix),)
    net.mixing_[0].count_classes(COUNTS)
    return net


def step_of(net, data, seed=5):
    with isolated_random_state(seed, "cpu"):
        return net.train_step_single(all_rows(data))


def parts_of(net, data, seed=5):
    """Mix by hand. Return the logits, the labels and weights of both parts, and the network."""
    with isolated_random_state(seed, "cpu"):
        mixed = net.mixing_[0].draw(torch.from_numpy(data.y))
    batch, j = all_rows(data), mixed.partner
    lam = mixed.image_share
    module = copy.deepcopy(net.module_).train()
    logits = module(lam * batch.images + (1 - lam) * batch.images[j])
    weight = torch.ones(len(data)).double() if batch.weight is None else batch.weight
    share = mixed.label_share
    labels = batch.labels, batch.labels[j]
    return logits, labels, (share * weight, (1 - share) * weight[j]), module


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_the_loss_is_the_mixture_of_two_losses(mix, weighted):
    data = draw(weighted=weighted)
    net = mixing_net(data, "ce + 2*focal + wce", mix)
    logits, labels, weights, module = parts_of(net, data)
    inverse = 6 / (3 * torch.tensor([1.0, 2, 3]).double())
    expected = 0
    for y, w in zip(labels, weights, strict=True):
        ce = cross_entropy(logits, y, reduction="none")
        rows = ce + 2 * (1 - torch.exp(-ce)) ** 2 * ce + inverse[y] * ce
        expected = expected + (w * rows).sum() / len(data)
    expected.backward()
    step = step_of(net, data)
    assert step["loss"].item() == pytest.approx(expected.item(), rel=1e-12)
    assert relative_error(gradient_of(net.module_), gradient_of(module)) <= 1e-10
    assert step["y_pred"].shape == logits.shape


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_a_metric_has_soft_labels(mix):
    data = draw()
    net = mixing_net(data, "ce+mcc", mix)
    logits, labels, weights, module = parts_of(net, data)
    ce = sum(
        (w * cross_entropy(logits, y, reduction="none")).sum() / len(data)
        for y, w in zip(labels, weights, strict=True)
    )
    target = sum(w[:, None] * one_hot(y, 3) for y, w in zip(labels, weights, strict=True))
    p, w = logits.softmax(1), target.sum(1, keepdim=True)
    expected = ce + 1 - mcc_score((target * p).sum(0), (w * p).sum(0), target.sum(0))
    expected.backward()
    assert step_of(net, data)["loss"].item() == pytest.approx(expected.item(), rel=1e-10)
    assert relative_error(gradient_of(net.module_), gradient_of(module)) <= 1e-8


@pytest.mark.parametrize("loss", ["ce", "ce+mcc"])
@pytest.mark.parametrize("flips", [False, True])
def test_micro_batches_have_the_gradient_of_the_whole_mixed_batch(loss, flips):
    data = draw()
    nets = [
        mixing_net(
            data,
            loss,
            Remix(),
            micro_batch_size=size,
            augmentation=(RandomFlip(),) if flips else (),
            factory=lambda in_channels, n_classes: nn.Sequential(
                nn.Flatten(), nn.Linear(60, n_classes)
            ),
        )
        for size in (None, 3)
    ]
    losses = [step_of(net, data)["loss"].item() for net in nets]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    one, other = (gradient_of(net.module_) for net in nets)
    assert relative_error(other, one) <= 1e-10


def test_images_are_changed_once_and_before_they_are_mixed():
    data, seen = draw(), []

    class Record(nn.Module):
        def forward(self, images):
            seen.append(images.clone())
            return images + 1

    net = mixing_net(data, "ce", Mixup(), augmentation=(Record(),), micro_batch_size=4)
    inputs = []
    net.module_.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    step_of(net, data)
    assert [len(images) for images in seen] == [11]
    torch.testing.assert_close(seen[0], all_rows(data).images)
    # A permutation keeps the sum.
    torch.testing.assert_close(torch.cat(inputs).sum(0), (seen[0] + 1).sum(0))


def test_mixed_batches_move_statistics_by_their_rows():
    data = draw(weighted=False)
    moving = LossMix(ce=1, mcc=1, statistics="moving", horizon=20)
    net = mixing_net(data, "ce", Mixup(), criterion=get_loss(moving))
    step_of(net, data)
    first = net.criterion_.moving.clone()
    assert first[2].sum().item() == pytest.approx(11, rel=1e-12)
    step_of(net, data)
    assert net.criterion_.moving[2].sum().item() == pytest.approx(11 + 11 * np.exp(-11 / 20))


def test_an_own_step_cannot_mix():
    data = draw()
    net = mixing_net(data, "ce", Mixup())
    net.train_step_single = lambda batch, **params: {}
    with pytest.raises(ParameterError, match=r"augment must be .* train_step is replaced.*Mixup"):
        net.train_epochs(data, None, 1)


def test_validation_and_predictions_are_not_mixed():
    data = draw()
    plain, mixing = make_net(data, "ce"), mixing_net(data, "ce", Mixup())
    assert torch.equal(plain.forward(data), mixing.forward(data))
    steps = [net.validation_step(all_rows(data)) for net in (plain, mixing)]
    assert torch.equal(steps[0]["loss"], steps[1]["loss"])


@pytest.mark.parametrize("n_epochs", [5, 10, 200])
def test_classes_have_weights_in_the_last_fifth_of_the_epochs(n_epochs):
    loss = get_loss("drw", [9, 1])
    late = [epoch >= loss.epochs_before_weights(n_epochs) for epoch in range(n_epochs)]
    # The code of the paper: the index of [0, 0.9999] is epoch // 160, of 200 epochs.
    assert late == [epoch // (n_epochs * 4 // 5) == 1 for epoch in range(n_epochs)]


@pytest.mark.parametrize(("start", "n_before"), [(0.6, 3), (2, 2), (2.5, 2.5), (0, 0)])
def test_weights_begin_when_they_are_due(start, n_before):
    data = draw(weighted=False)
    counts = [1, 2, 3]
    spec = LossMix(drw=1, drw_start=start)
    options = {"max_epochs": 5, "batch_size": 6}
    plain = make_net(data, "ce", **options)
    net = make_net(data, criterion=get_loss(spec, counts), **options)
    for each in (plain, net):
        with isolated_random_state(0, "cpu"):
            each.train_epochs(data, None, 5)
    losses = zip(*(n.history[:, "train_loss"] for n in (plain, net)), strict=True)
    same = [one == pytest.approx(other, rel=1e-9) for one, other in losses]
    n_same = int(n_before)
    assert same[:n_same] == [True] * n_same
    assert not any(same[n_same:])
