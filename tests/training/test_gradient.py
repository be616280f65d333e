"""Weighted losses and gradients, whole and in micro-batches."""

import copy
import random
from functools import partial
from itertools import cycle, product

import numpy as np
import pytest
import torch
from skorch.callbacks import GradientNormClipping
from torch import nn
from torch.nn.functional import cross_entropy

from skimbal.augmentation import RandomFlip, RandomGamma
from skimbal.generators import generator_states
from skimbal.losses import ModuleLoss, get_loss
from skimbal.networks import SmallCNN
from skimbal.training import isolated_random_state
from tests.cases import quick_and_all
from tests.training.data import (
    SPECS,
    all_rows,
    all_states,
    assert_same_state,
    draw,
    gradient_of,
    make_net,
    relative_error,
    small_network,
    state_of,
    step_by_hand,
    weights_of,
)


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_weights_reach_the_loss_divided_by_the_number_of_rows(micro_batch_size):
    data = draw()
    net = make_net(data, "ce", micro_batch_size=micro_batch_size)
    _, y = all_rows(data)
    rows = cross_entropy(net.forward(data), y, reduction="none")
    expected = (rows * torch.from_numpy(data.sample_weight)).sum() / len(data)
    assert abs(data.sample_weight.mean() - 1) > 0.1
    step = net.train_step_single(all_rows(data))
    assert step["loss"].item() == pytest.approx(expected.item(), rel=1e-12)
    net.train_epochs(data, None, 1)
    assert net.history[0, "train_loss"] == pytest.approx(expected.item(), rel=1e-12)


def test_light_batches_count_for_less():
    # Steps of plain gradient descent on the batches of an epoch add up to one on all rows, to
    # first order: had each batch its own divisor, they would not.
    data = draw(12)
    whole, halves = make_net(data, "ce", lr=1e-7), make_net(data, "ce", lr=1e-7, batch_size=6)
    before = weights_of(whole)
    steps = []
    for net in (whole, halves):
        net.train_epochs(data, None, 1)
        after = weights_of(net)
        steps.append(after - before)
    assert relative_error(steps[1], 2 * steps[0]) < 1e-5


@pytest.mark.parametrize("spec", SPECS)
def test_gradient_without_parts(spec):
    for weighted in (False, True):
        data = draw(weighted=weighted)
        net = make_net(data, spec)
        step = net.train_step_single(all_rows(data))
        loss, gradient, _ = step_by_hand(net, data)
        assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-14)
        assert relative_error(gradient_of(net.module_), gradient) <= 1e-12


class OwnLoss(nn.Module):
    """A loss of the user's, which takes weights but no divisor."""

    def forward(self, logits, target, sample_weight=None):
        self.got = sample_weight
        rows = cross_entropy(logits, target, reduction="none")
        return (rows if sample_weight is None else rows * sample_weight).mean()


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_losses_of_others(micro_batch_size):
    data = draw()
    net = make_net(data, criterion=ModuleLoss(OwnLoss()), micro_batch_size=micro_batch_size)
    net.train_step_single(all_rows(data))
    assert np.array_equal(net.criterion_.module.got, data.sample_weight)
    like_ours = make_net(data, "ce")
    like_ours.train_step_single(all_rows(data))
    error = relative_error(gradient_of(net.module_), gradient_of(like_ours.module_))
    assert error <= 1e-12

    plain = draw(weighted=False)
    net = make_net(
        plain, criterion=get_loss(nn.CrossEntropyLoss), micro_batch_size=micro_batch_size
    )
    net.train_epochs(plain, plain, 1)
    expected = cross_entropy(net.forward(plain), all_rows(plain)[1]).item()
    assert net.history[0, "valid_loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("micro_batch_size", [1, 4, 10])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spec", SPECS)
def test_gradient_in_parts_is_that_of_the_batch(spec, weighted, micro_batch_size):
    data = draw(weighted=weighted)
    net = make_net(data, spec, micro_batch_size=micro_batch_size)
    step = net.train_step_single(all_rows(data))
    loss, gradient, _ = step_by_hand(net, data)
    assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(step["y_pred"], net.forward(data), rtol=1e-12, atol=1e-12)
    assert not step["loss"].requires_grad
    assert not step["y_pred"].requires_grad
    assert gradient.abs().max() > 1e-3
    assert relative_error(gradient_of(net.module_), gradient) <= 1e-12


@pytest.mark.parametrize("spec", ["f1", "mcc"])
def test_average_over_parts_is_something_else(spec):
    # What the test above would not see if the loss were a mean over rows.
    data = draw()
    net = make_net(data, spec)
    _, whole, _ = step_by_hand(net, data)
    parts = [step_by_hand(net, data.take(rows))[1] for rows in np.array_split(np.arange(11), 3)]
    assert relative_error(torch.stack(parts).mean(0), whole) > 0.05


@pytest.mark.parametrize("spec", SPECS)
def test_dropout_in_parts_is_the_same_in_both_passes(spec):
    data = draw()
    net = make_net(data, spec, factory=small_network(data, dropout=0.5), micro_batch_size=4)
    net.forward(data)  # leaves the network in evaluation mode, as validation does
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        step = net.train_step_single(all_rows(data))
        state_after = torch.get_rng_state()
        torch.manual_seed(7)
        loss, gradient, _ = step_by_hand(net, data, n_parts=3)
        assert torch.equal(torch.get_rng_state(), state_after)
        _, other, _ = step_by_hand(net, data, n_parts=3)
    assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(gradient_of(net.module_), gradient) <= 1e-12
    assert relative_error(other, gradient) > 1e-2, "other random numbers, another gradient"


def numpy_noise(images):
    return images + np.random.normal() + random.random()  # noqa: NPY002


@pytest.mark.parametrize("spec", ["ce", "ce+mcc"])
@pytest.mark.parametrize("crop_size", [None, (4, 3)])
@pytest.mark.parametrize("augmentation", [(), (RandomGamma(), RandomFlip()), (numpy_noise,)])
def test_images_are_the_same_in_both_passes(spec, crop_size, augmentation):
    data = draw()
    net = make_net(
        data,
        spec,
        factory=partial(SmallCNN, spatial_shape=crop_size or (6, 5), width=8, n_stages=1),
        micro_batch_size=4,
        augmentation=augmentation,
        module__crop_size=crop_size,
    )
    with isolated_random_state(7, "cpu"):
        step = net.train_step_single(all_rows(data))
        after = generator_states("cpu")
    with isolated_random_state(7, "cpu"):
        batch = all_rows(data)
        module = copy.deepcopy(net.module_).train()
        parts = batch.images.tensor_split(3)
        logits = torch.cat([module(net.augmented(part)) for part in parts])
        loss = net.criterion_(logits, batch.labels, batch.weight, normalizer=len(data))
        loss.backward()
        assert str(generator_states("cpu")) == str(after)
    assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(gradient_of(net.module_), gradient_of(module)) <= 1e-12
    with isolated_random_state(8, "cpu"):
        other = net.train_step_single(all_rows(data))
    drawn = bool(augmentation) or crop_size is not None
    assert (abs(other["loss"].item() - loss.item()) > 1e-6) == drawn


def test_batch_normalisation_sees_each_part_once():
    data = draw()
    factory = small_network(data, norm="batch")
    net = make_net(data, factory=factory, micro_batch_size=4)
    before = dict(copy.deepcopy(net.module_).named_buffers())
    loss, gradient, buffers = step_by_hand(net, data, n_parts=3)
    step = net.train_step_single(all_rows(data))
    assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(gradient_of(net.module_), gradient) <= 1e-12
    after = dict(net.module_.named_buffers())
    assert any(name.endswith("num_batches_tracked") for name in after)
    assert_same_state(after, buffers)
    for name in after:
        if name.endswith("num_batches_tracked"):
            assert after[name] == 3
        else:
            assert not torch.equal(after[name], before[name])


@pytest.mark.parametrize("spec", ["mcc", "ce+f1", "ce", "wce+focal", "la+balanced_softmax+ldam"])
@pytest.mark.parametrize(("micro_batch_size", "largest"), [(None, 11), (4, 4), (11, 11), (64, 11)])
def test_training_holds_no_more_rows_than_allowed(micro_batch_size, largest, spec):
    data = draw()
    net = make_net(data, spec, micro_batch_size=micro_batch_size)
    sizes = []
    net.module_.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    net.train_epochs(data, None, 2)
    assert max(sizes) == largest
    # The first part is computed once, and a loss that adds up over rows needs no second pass.
    again = 0 if largest == 11 or spec not in ("mcc", "ce+f1") else 11 - 4
    assert sum(sizes) == 2 * (11 + again)


class RowMean(nn.Module):
    """A mean over rows that says so, or does not."""

    def __init__(self, mean_over_rows):
        super().__init__()
        self.mean_over_rows = mean_over_rows

    def forward(self, logits, target, sample_weight=None):
        rows = cross_entropy(logits, target, reduction="none")
        return (rows if sample_weight is None else rows * sample_weight).mean()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mean_over_rows", [False, True])
def test_a_module_that_is_a_mean_over_rows_takes_one_pass(mean_over_rows, weighted):
    data = draw(weighted=weighted)
    gradients, sizes = [], []
    for micro_batch_size in (None, 4):
        loss = ModuleLoss(RowMean(mean_over_rows))
        net = make_net(data, criterion=loss, micro_batch_size=micro_batch_size)
        net.module_.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
        step = net.train_step_single(data.batch(np.arange(11)))
        gradients.append([step["loss"].detach(), *(p.grad for p in net.module_.parameters())])
    # What a module does with weights nobody knows, so it is given all of them at once.
    assert sum(sizes) == 11 + (11 if mean_over_rows and not weighted else 11 + 7)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


#: Each loss with one sampler, clipped or not, and all combinations.
SOME = list(zip(SPECS, cycle([None, "balanced", "stratified"]), cycle([False, True]), strict=False))
ALL = list(product(SPECS, [None, "balanced", "stratified"], [False, True]))


@pytest.mark.parametrize(("spec", "sampler", "clipped"), quick_and_all(SOME, ALL))
def test_training_in_parts_equals_training_in_one(spec, sampler, clipped):
    data = draw(21)
    options = {"batch_size": 7, "optimizer": torch.optim.Adam, "lr": 0.01}
    options["iterator_train__sampler"] = sampler
    # A norm that every gradient has, so that clipping parts would not be clipping the whole.
    options["callbacks"] = [("clip", GradientNormClipping(0.05))] if clipped else []
    whole = make_net(data, spec, **options)
    parts = make_net(data, spec, micro_batch_size=2, **options)
    for net in (whole, parts):
        with isolated_random_state(5, "cpu"):
            net.train_epochs(data, data, 7)  # 21 steps
    for (name, one), other in zip(state_of(whole).items(), state_of(parts).values(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-9, msg=name)
    for key in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(parts.history[:, key], whole.history[:, key], rtol=1e-7)
    assert whole.history[0, "train_loss"] != pytest.approx(whole.history[6, "train_loss"], rel=1e-3)


def test_parts_on_another_device_use_the_same_random_numbers_twice(monkeypatch):
    generator, masks, data = torch.Generator().manual_seed(0), [], draw()
    # Fakes the generator of a device that torch has no module for here.
    monkeypatch.setattr("torch.mps.get_rng_state", lambda device: generator.get_state())
    monkeypatch.setattr("torch.mps.set_rng_state", lambda state, _: generator.set_state(state))
    net = make_net(data, micro_batch_size=4)

    def infer(images):
        masks.append(torch.rand(images.shape, generator=generator, dtype=images.dtype))
        return net.module_(images * masks[-1])

    monkeypatch.setattr(net, "infer", infer)
    net.device = "mps"
    net.train_step_single(all_rows(data))
    _, *once, second, third = masks
    assert len(once) == 2
    assert torch.equal(once[0], second)
    assert torch.equal(once[1], third)


@pytest.mark.cuda
def test_parts_on_cuda_use_the_same_random_numbers_twice():
    data = draw()
    cpu_before, cuda_before = all_states(), torch.cuda.get_rng_state()
    gradients = []
    for micro_batch_size in (4, None):
        factory = small_network(data, dropout=0.5)
        net = make_net(data, factory=factory, micro_batch_size=micro_batch_size, device="cuda")
        with isolated_random_state(7, "cuda"):
            if micro_batch_size is not None:
                net.train_step_single(all_rows(data))
                gradients.append(gradient_of(net.module_))
                continue
            images, labels, weight = (tensor.cuda() for tensor in all_rows(data).tensors)
            net.module_.train()
            logits = torch.cat([net.module_(part) for part in images.tensor_split(3)])
            net.criterion_(logits, labels, weight, normalizer=11).backward()
            gradients.append(gradient_of(net.module_))
    assert relative_error(*gradients) <= 1e-9
    assert all_states() == cpu_before
    assert torch.equal(torch.cuda.get_rng_state(), cuda_before)
