"""Promises that all modules keep: draws, probabilities, refusals, one change for all images."""

import math
import random
import re

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from skimbal.augmentation import (
    CenterCrop,
    OneOf,
    PerSample,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomGamma,
    RandomGaussianBlur,
    RandomSigmoidContrast,
    RandomSymmetry,
    adjust_gamma,
    adjust_sigmoid,
    affine,
    alike,
    erase,
    flip,
    functions,
    gaussian_blur,
    get_augmentation,
    mirrored_axes,
)
from skimbal.augmentation.random_change import changed
from skimbal.exceptions import ParameterError
from tests.augmentation.data import OF_SINGLE_IMAGES, RANDOM, SHAPES, some_images


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_module_is_its_draw_and_its_function(rng, name, shape):
    images, module = some_images(rng, shape), RANDOM[name](p=0.6)
    before = images.clone()
    torch.manual_seed(0)
    result = module(images)
    torch.manual_seed(0)
    draw = module.draw(images)
    assert torch.equal(images, before)
    if name == "flip":
        assert torch.equal(result, flip(images, draw))
        return
    stays = draw.isnan().reshape(len(images), -1)[:, 0]
    assert 0 < stays.sum() < len(images)
    function = {
        "gamma": adjust_gamma,
        "blur": gaussian_blur,
        "sigmoid": adjust_sigmoid,
        "affine": affine,
        "erasing": erase,
    }[name]
    assert torch.equal(result[~stays], function(images[~stays], draw[~stays]))
    assert torch.equal(result[stays], images[stays])


@pytest.mark.parametrize("name", RANDOM)
def test_probability_of_none_and_of_all(rng, name):
    images = some_images(rng, (50, 1, 5, 6))
    # A kernel that is too narrow to reach another voxel would change nothing.
    options = {"sigma": (0.5, 1)} if name == "blur" else {}
    assert torch.equal(RANDOM[name](p=0, **options)(images), images)
    changed = (RANDOM[name](p=1, **options)(images) != images).flatten(1).any(1)
    assert changed.all()


def test_draws_are_repeatable_and_leave_other_generators_alone(rng):
    images, module = some_images(rng, (6, 1, 8, 8, 8)), get_augmentation("paper", 3)
    states = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.manual_seed(3)
    first, second = module(images), module(images)
    torch.manual_seed(3)
    assert torch.equal(module(images), first)
    assert not torch.equal(first, second)
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002


class Shifted(RandomFlip):
    """A subclass of a user draws by the pixels."""

    def draw(self, images):
        return super().draw(images) & (images.flatten(1).mean(1) > -5)[:, None]


@pytest.mark.parametrize("name", OF_SINGLE_IMAGES)
@pytest.mark.parametrize("n_axes", [2, 3])
def test_all_draws_of_a_batch_are_sent_by_one_copy(rng, monkeypatch, name, n_axes):
    images = some_images(rng, (9, 2, *[7] * n_axes))
    steps = [RandomCrop(6), *get_augmentation(name, n_axes)]
    torch.manual_seed(0)
    expected, after = nn.Sequential(*steps)(images), torch.rand(1)
    copies, send = [], functions.send_together
    monkeypatch.setattr(
        functions,
        "send_together",
        lambda tensors, device: copies.append(1) or send(tensors, device),
    )
    torch.manual_seed(0)
    assert torch.equal(changed(steps, images), expected)
    assert torch.equal(torch.rand(1), after)
    assert copies == [1]


@pytest.mark.parametrize(
    "own",
    [Shifted(), lambda images: images * torch.rand(1), OneOf([Shifted(), nn.Dropout(0.5)])],
    ids=["subclass", "function", "choice"],
)
def test_steps_of_a_user_see_the_images_and_draw_in_turn(rng, own):
    images = some_images(rng, (30, 2, 7, 7))
    steps = [RandomCrop(6), RandomGamma(), own, RandomErasing(), OneOf([RandomFlip()])]
    torch.manual_seed(0)
    expected = images
    for step in steps:
        expected = step(expected)
    torch.manual_seed(0)
    assert torch.equal(changed(steps, images), expected)


@pytest.mark.cuda
@pytest.mark.parametrize("name", OF_SINGLE_IMAGES)
@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_gpu_gives_the_same_images(rng, name, n_axes):
    images = some_images(rng, (16, 2, *[12] * n_axes))
    steps = [RandomCrop(10), *get_augmentation(name, n_axes)]
    torch.manual_seed(0)
    expected = changed(steps, images)
    torch.manual_seed(0)
    result = changed(steps, images.cuda())
    assert result.is_cuda
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "parameter", "got"),
    [
        (lambda: RandomFlip(p=1.5), "p", 1.5),
        (lambda: RandomFlip(p=True), "p", True),
        (lambda: RandomFlip(axes=1), "axes", 1),
        (lambda: RandomFlip(axes=[0.5]), "axes", [0.5]),
        (lambda: RandomGamma(gamma=(0, 1)), "gamma", (0, 1)),
        (lambda: RandomGamma(gamma=(1.5, 0.5)), "gamma", (1.5, 0.5)),
        (lambda: RandomGamma(gamma=0.5), "gamma", 0.5),
        (lambda: RandomGaussianBlur(sigma=(-1, 1)), "sigma", (-1, 1)),
        (lambda: RandomGaussianBlur(sigma=(0, math.inf)), "sigma", (0, math.inf)),
        (lambda: RandomSigmoidContrast(gain=(5, "10")), "gain", (5, "10")),
        (lambda: RandomSigmoidContrast(cutoff=math.nan), "cutoff", math.nan),
        (lambda: RandomAffine(degrees=-1), "degrees", -1),
        (lambda: RandomAffine(degrees=(-10, 10)), "degrees", (-10, 10)),
        (lambda: RandomAffine(translate=1.1), "translate", 1.1),
        (lambda: RandomAffine(scale=(0, 1)), "scale", (0, 1)),
        (lambda: RandomAffine(p=2), "p", 2),
        (lambda: RandomErasing(share=(0.1, 1.1)), "share", (0.1, 1.1)),
        (lambda: RandomErasing(share=0.2), "share", 0.2),
        (lambda: RandomCrop(0), "size", 0),
        (lambda: CenterCrop([4, 2.5]), "size", [4, 2.5]),
        (lambda: CenterCrop(True), "size", True),
        (lambda: PerSample(None), "transform", None),
        (lambda: OneOf([]), "steps", []),
        (lambda: OneOf([len]), "steps", [len]),
        (lambda: OneOf("flip"), "steps", "flip"),
    ],
)
def test_parameters_that_cannot_work_are_refused(make, parameter, got):
    with pytest.raises(ParameterError, match=f"{parameter} .*{re.escape(repr(got))}") as error:
        make()
    assert error.value.parameter == parameter
    assert error.value.got is got or error.value.got == got


@pytest.mark.parametrize(
    ("module", "parameter", "values"),
    [
        (RandomFlip(axes=[2]), "axes", ["(2,)", "(2, 1, 5, 6)"]),
        (RandomCrop(6), "size", ["6", "(5, 6)"]),
        (CenterCrop((4, 7)), "size", ["(4, 7)", "(5, 6)"]),
        (RandomCrop((4, 4, 4)), "size", ["(4, 4, 4)", "2 spatial axes"]),
    ],
)
def test_images_that_do_not_fit_are_refused(module, parameter, values):
    with pytest.raises(ParameterError, match=f"^{parameter} ") as error:
        module(torch.zeros(2, 1, 5, 6))
    assert all(value in str(error.value) for value in values)


@pytest.mark.parametrize("name", [name for name in RANDOM if name != "flip"])
def test_intensities_change_in_floating_dtypes_only(name):
    with pytest.raises(TypeError, match=r"images .*torch.uint8"):
        RANDOM[name]()(torch.zeros(2, 1, 5, 6, dtype=torch.uint8))


def test_each_image_has_one_of_the_changes():
    torch.manual_seed(0)
    steps = [nn.Identity(), RandomFlip(p=1), get_augmentation(lambda images: -images, 2)]
    images = torch.rand(3000, 1, 2, 2)
    result = OneOf(steps)(images)
    by_each = torch.stack([(result == step(images)).flatten(1).all(1) for step in steps])
    assert (by_each.sum(0) == 1).all()
    assert stats.chisquare(by_each.sum(1)).pvalue > 1e-3


# One change for all images ---------------------------------------------------------------


def numpy_noise(images):
    return images + np.random.normal() + random.random() + torch.rand(1)  # noqa: NPY002


class Brighter(RandomGamma):
    """A module whose forward does more than to draw and to change."""

    def forward(self, images):
        return super().forward(images) + 1


STEPS = {
    **RANDOM,
    "flips": lambda: RandomFlip(axes=[-1]),
    "symmetries": RandomSymmetry,
    "one of": lambda: OneOf([RandomFlip(), RandomGamma(), RandomAffine()]),
    "crop": lambda: RandomCrop(4),
    "centre": lambda: CenterCrop(4),
    "numpy": lambda: numpy_noise,
    "subclass": Brighter,
    "per sample": lambda: PerSample(lambda image: image + torch.rand(1)),
    "sequence": lambda: nn.Sequential(RandomFlip(), nn.Sequential(numpy_noise_module())),
}


def numpy_noise_module():
    return get_augmentation(numpy_noise, 2)[0]


def seed(number):
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.manual_seed(number)


def seeded(number, step, images):
    seed(number)
    return alike(step, images), torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_alike_does_not_depend_on_the_neighbours(rng, name, shape):
    images, step = some_images(rng, shape), STEPS[name]()
    before = images.clone()
    for number in range(4):
        together, *after = seeded(number, step, images)
        for row in range(len(images)):
            alone, *after_one = seeded(number, step, images[row : row + 1])
            torch.testing.assert_close(alone[0], together[row])
            # Later draws are the same whatever the number of images.
            assert after_one == after
        # The change is the one that a single image gets.
        seed(number)
        torch.testing.assert_close(step(images[:1])[0], together[0])
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", [*RANDOM, "crop", "numpy"])
def test_alike_changes_all_images_by_the_same_draw(rng, name):
    images = some_images(rng, SHAPES[0])[:1].expand(6, -1, -1, -1)
    found = []
    for number in range(12):
        changed = seeded(number, STEPS[name](), images)[0]
        torch.testing.assert_close(changed, changed[:1].expand_as(changed))
        found.append(changed[0])
    assert len(torch.stack(found).unique(dim=0)) > 1


@pytest.mark.parametrize(
    ("steps", "n_axes", "expected"),
    [
        ([RandomFlip()], 2, {0, 1}),
        ([RandomFlip()], 3, {0, 1, 2}),
        ([RandomFlip(axes=[-1])], 3, {2}),
        ([RandomFlip(axes=[0]), RandomGamma(), RandomFlip([-1], p=0.1)], 3, {0, 2}),
        ([RandomFlip(p=0)], 2, set()),
        ([RandomSymmetry()], 3, {0, 1, 2}),
        ([OneOf([RandomFlip([-1]), RandomGamma()])], 3, {2}),
        (get_augmentation(["light", "strong"], 3), 3, set()),
        ([nn.Sequential(RandomGamma(), RandomFlip([0]))], 2, {0}),
        ([RandomGamma(), RandomCrop(3), CenterCrop(3), PerSample(RandomFlip()), len], 3, set()),
        ([], 3, set()),
        (get_augmentation("paper", 3), 3, {0, 1, 2}),
    ],
)
def test_mirrored_axes(steps, n_axes, expected):
    assert mirrored_axes(steps, n_axes) == expected
