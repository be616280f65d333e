"""Mixtures of images and labels against the formulas of their papers."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn

from skimbal.augmentation import (
    RECIPES,
    MAMix,
    MixDraw,
    Mixup,
    OneOf,
    RandomFlip,
    Remix,
    divide_steps,
    get_augmentation,
)
from skimbal.exceptions import ParameterError

COUNTS = [160, 30, 10]
PAIRS = list(itertools.product(range(3), repeat=2))
FIRST, SECOND = torch.tensor(PAIRS).T


def knowing(mix, counts=COUNTS):
    mix.count_classes(counts)
    return mix


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7, 2, 5, 4), (4, 1, 3, 4, 5)])
def test_images_and_labels_are_mixed_by_one_share(shape, dtype, rng):
    images = torch.from_numpy(rng.normal(size=shape)).to(dtype)
    labels = torch.arange(len(images))
    before = images.clone()
    torch.manual_seed(3)
    mixed, pairs, shares = Mixup(0.7)(images, labels)
    torch.manual_seed(3)
    draw = Mixup(0.7).draw(labels)
    share, j = draw.image_share, draw.partner.numpy()
    expected = share * images.numpy() + (1 - share) * images.numpy()[j]
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert mixed.dtype == shares.dtype == dtype
    assert sorted(j) == list(range(len(images)))
    assert pairs.tolist() == [[i, int(j[i])] for i in range(len(images))]
    np.testing.assert_allclose(shares.numpy(), [[share, 1 - share]] * len(images), rtol=1e-6)
    assert torch.equal(images, before)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_have_the_moments_of_their_distribution(alpha):
    torch.manual_seed(0)
    labels = torch.zeros(2, dtype=torch.int64)
    shares = np.array([Mixup(alpha).draw(labels).image_share for _ in range(600)])
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


@pytest.mark.parametrize("alpha", [1e-300, 1e-9])
def test_the_smallest_alpha_mixes_least(alpha):
    torch.manual_seed(0)
    labels = torch.zeros(2, dtype=torch.int64)
    shares = np.array([Mixup(alpha).draw(labels).image_share for _ in range(200)])
    np.testing.assert_allclose(shares, shares.round(), atol=1e-6)
    assert 60 < shares.sum() < 140


def test_every_pair_is_as_likely():
    torch.manual_seed(0)
    labels = torch.zeros(3, dtype=torch.int64)
    draws = [tuple(Mixup().draw(labels).partner.tolist()) for _ in range(300)]
    counts = [draws.count(order) for order in itertools.permutations(range(3))]
    assert sum(counts) == 300
    assert min(counts) > 25


def remix_by_hand(share, n_i, n_j, kappa, tau):
    """Follow the three cases of the paper of Remix, equations 7 and 8."""
    if n_i / n_j >= kappa and share < tau:
        return 0.0
    if n_i / n_j <= 1 / kappa and 1 - share < tau:
        return 1.0
    return share


@pytest.mark.parametrize(("kappa", "tau"), [(3, 0.5), (2.5, 0.7), (1, 1), (20, 0.5), (3, 0)])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.55, 0.9, 1.0])
def test_remix_is_its_formula(share, kappa, tau):
    mix = knowing(Remix(kappa=kappa, tau=tau))
    expected = [remix_by_hand(share, COUNTS[i], COUNTS[j], kappa, tau) for i, j in PAIRS]
    assert mix.label_share(share, FIRST, SECOND).tolist() == expected


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.5, 2 / 3, 0.8, 1.0])
def test_mamix_interpolates_between_margins(share):
    # Both labels count the same where the distances to the images are as their margins.
    found = knowing(MAMix()).label_share(share, FIRST, SECOND)
    for value, (i, j) in zip(found.tolist(), PAIRS, strict=True):
        margin_i, margin_j = (1 / COUNTS[k] ** (1 / 4) for k in (i, j))
        middle = margin_i / (margin_i + margin_j)  # share of image j on the boundary
        expected = np.interp(1 - share, [0, middle, 1], [1, 0.5, 0])
        assert value == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("mix", [Remix(), MAMix(), Remix(kappa=20)], ids=str)
def test_classes_of_one_size_are_mixed_as_by_mixup(mix):
    counts = [7, 7, 7] if mix.extra_repr() != "alpha=1.0, kappa=20.0, tau=0.5" else COUNTS
    share = knowing(mix, counts).label_share(0.3, FIRST, SECOND)
    np.testing.assert_allclose(share, 0.3, rtol=1e-14)


@pytest.mark.parametrize("mix", [Remix, MAMix])
def test_a_class_without_rows_counts_as_the_rarest(mix):
    found = knowing(mix(), [160, 0, 10]).label_share(0.4, FIRST, SECOND)
    expected = knowing(mix(), [160, 10, 10]).label_share(0.4, FIRST, SECOND)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["mixup", "remix", "mamix"])
def test_draws_are_from_the_generator_of_torch(name):
    (mix,) = get_augmentation(name, 2)
    mix.count_classes(COUNTS)
    labels, images = torch.tensor([0, 0, 1, 2]), torch.randn(4, 1, 3, 3)
    others = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(mix(images, labels))
    for one, same, other in zip(*results, strict=True):
        assert torch.equal(one, same)
        if other.is_floating_point():
            assert not torch.equal(one, other)
    assert others == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_a_single_row_is_not_mixed():
    images, labels = torch.randn(1, 1, 3, 3), torch.tensor([1])
    mixed, pairs, _ = Mixup()(images, labels)
    torch.testing.assert_close(mixed, images)
    assert pairs.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Mixup(0), "alpha"),
        (lambda: Mixup(float("nan")), "alpha"),
        (lambda: Mixup(True), "alpha"),
        (lambda: MAMix("1"), "alpha"),
        (lambda: Remix(kappa=0.5), "kappa"),
        (lambda: Remix(tau=1.1), "tau"),
        (lambda: Remix(tau=-0.1), "tau"),
        (lambda: knowing(Remix(), []), "class_counts"),
        (lambda: knowing(MAMix(), [0, 0]), "class_counts"),
        (lambda: knowing(MAMix(), [-5, 10]), "class_counts"),
        (lambda: knowing(MAMix(), [1, np.inf]), "class_counts"),
    ],
)
def test_impossible_parameters(make, name):
    with pytest.raises(ParameterError, match=f"{name} must be .*got"):
        make()


@pytest.mark.parametrize("mix", [Remix(), MAMix()], ids=str)
def test_without_counts_there_is_no_share(mix):
    with pytest.raises(RuntimeError, match="must know the number of training rows"):
        mix.draw(torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "spec",
    [
        ["mixup", "flip"],
        ["mixup", "remix"],
        [nn.Sequential(RandomFlip(), Mixup())],
        [OneOf([Mixup(), RandomFlip()])],
        OneOf([nn.Identity(), MAMix()]),
    ],
    ids=str,
)
def test_the_last_entry_alone_may_mix(spec):
    with pytest.raises(ParameterError, match=r"augment must be a list whose last entry alone"):
        get_augmentation(spec, 2)


def test_steps_are_divided():
    steps = get_augmentation(["light", Mixup(0.2)], 3)
    changes, mix = divide_steps(steps)
    assert list(changes) == list(steps)[:2]
    assert mix == (steps[2],)
    assert divide_steps(()) == ((), ())
    assert {name for name in RECIPES if divide_steps(get_augmentation(name, 2))[1]} == {
        "mixup",
        "remix",
        "mamix",
    }


def test_a_mix_of_a_user_has_its_shares():
    class Halves(Mixup):
        def label_share(self, image_share, first, second):
            return torch.full(first.shape, 0.5, dtype=torch.float64)

    draw = Halves().draw(torch.tensor([0, 1]))
    assert isinstance(draw, MixDraw)
    assert draw.label_share.tolist() == [0.5, 0.5]
