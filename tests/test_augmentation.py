"""Each operation against the same formula elsewhere, on the same parameters; draws; adapters."""

import math
import random
import re

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import nn

from skimbal.augmentation import (
    RECIPES,
    CenterCrop,
    PerSample,
    RandomCrop,
    RandomFlip,
    RandomGamma,
    RandomGaussianBlur,
    RandomSigmoidContrast,
    adjust_gamma,
    adjust_sigmoid,
    crop,
    flip,
    gaussian_blur,
    get_augmentation,
)
from skimbal.exceptions import ParameterError

SHAPES = [(5, 3, 9, 12), (4, 2, 7, 8, 6)]
#: One of each that changes images with a probability.
RANDOM = {
    "flip": RandomFlip,
    "gamma": RandomGamma,
    "blur": RandomGaussianBlur,
    "sigmoid": RandomSigmoidContrast,
}


def some_images(rng, shape, dtype=torch.float32):
    # Neither scale nor offset of the channels is that of another.
    per_channel = np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2))
    return torch.from_numpy(rng.normal(-5, 2, shape) * 10.0**per_channel).to(dtype)


def channels(images):
    """Yield (index, channel of an image as float64) of each."""
    for index in np.ndindex(*images.shape[:2]):
        yield index, images[index].double().numpy()


# The functions ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_flip_is_that_of_numpy(rng, shape, dtype):
    images = torch.from_numpy(rng.integers(0, 255, shape)).to(dtype)
    flipped = torch.from_numpy(rng.random((shape[0], len(shape) - 2)) < 0.5)
    result = flip(images, flipped)
    assert result.dtype == dtype
    for image, axes, changed in zip(images, flipped, result, strict=True):
        expected = np.flip(image.numpy(), 1 + np.flatnonzero(axes.numpy()))
        np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_gamma_is_that_of_scikit_image_on_the_range_of_a_channel(rng, shape):
    # skimage.exposure.adjust_gamma: ((image / scale) ** gamma) * scale.
    images, gamma = some_images(rng, shape), rng.uniform(0.5, 1.5, shape[0])
    result = adjust_gamma(images, torch.from_numpy(gamma))
    assert result.dtype == torch.float32
    for (i, c), x in channels(images):
        low, scale = x.min(), np.ptp(x)
        expected = low + ((x - low) / scale) ** gamma[i] * scale
        np.testing.assert_allclose(result[i, c], expected, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("cutoff", [0.5, 0.2])
@pytest.mark.parametrize("shape", SHAPES)
def test_sigmoid_is_that_of_scikit_image_on_the_range_of_a_channel(rng, shape, cutoff):
    # skimage.exposure.adjust_sigmoid: (1 / (1 + exp(gain * (cutoff - image / scale)))) * scale.
    images, gain = some_images(rng, shape), rng.uniform(5, 10, shape[0])
    result = adjust_sigmoid(images, torch.from_numpy(gain), cutoff)
    assert result.dtype == torch.float32
    for (i, c), x in channels(images):
        low, scale = x.min(), np.ptp(x)
        expected = low + 1 / (1 + np.exp(gain[i] * (cutoff - (x - low) / scale))) * scale
        np.testing.assert_allclose(result[i, c], expected, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
# Axes shorter than the kernel, which goes there and back again, and of a single voxel.
@pytest.mark.parametrize("shape", [*SHAPES, (5, 1, 2, 3), (5, 1, 1, 9), (5, 1, 2, 40, 1)])
def test_blur_is_that_of_scipy(rng, shape, dtype):
    images = some_images(rng, shape, dtype)
    sigma = np.array([0, 0.1, 0.6, 1.5, 3.0])[: shape[0]]
    result = gaussian_blur(images, torch.from_numpy(sigma))
    assert result.dtype == dtype
    precision = 1e-5 if dtype == torch.float32 else 1e-13
    for (i, c), x in channels(images):
        expected = ndimage.gaussian_filter(x, sigma[i])
        np.testing.assert_allclose(
            result[i, c], expected, rtol=precision, atol=precision * np.abs(x).max()
        )
    # Of no width, it is no change at all.
    assert torch.equal(result[0], images[0])


def test_blur_keeps_the_mean(rng):
    # What leaves over an edge comes back over it.
    images = some_images(rng, (3, 2, 11, 5), torch.float64)
    result = gaussian_blur(images, torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(result.mean((2, 3)), images.mean((2, 3)))


@pytest.mark.parametrize("shape", SHAPES)
def test_crop_is_that_of_slices(rng, shape):
    images, size = some_images(rng, shape), (4, 6, 5)[: len(shape) - 2]
    start = rng.integers(0, np.array(shape[2:]) - size + 1, (shape[0], len(size)))
    result = crop(images, torch.from_numpy(start), size)
    assert result.shape == (*shape[:2], *size)
    for image, begin, window in zip(images, start, result, strict=True):
        slices = [slice(b, b + n) for b, n in zip(begin, size, strict=True)]
        assert torch.equal(window, image[(slice(None), *slices)])


@pytest.mark.parametrize(
    "function", [adjust_gamma, adjust_sigmoid, gaussian_blur], ids=lambda f: f.__name__
)
def test_a_constant_channel_stays_as_it_is(function):
    images = torch.full((2, 2, 4, 4), 3.7)
    images[0, 0, 1] = torch.arange(4)  # a channel that is not constant, for which it is not so
    result = function(images, torch.tensor([0.7, 1.4]))
    torch.testing.assert_close(result[0, 1], images[0, 1], rtol=1e-6, atol=0)
    torch.testing.assert_close(result[1], images[1], rtol=1e-6, atol=0)
    assert not torch.equal(result[0, 0], images[0, 0])
    assert result.isfinite().all()


def test_gamma_keeps_the_range(rng):
    images = some_images(rng, SHAPES[0], torch.float64)
    result = adjust_gamma(images, torch.linspace(0.5, 1.5, len(images)))
    for extreme in (torch.amin, torch.amax):
        torch.testing.assert_close(extreme(result, (2, 3)), extreme(images, (2, 3)))


# The modules -----------------------------------------------------------------------------


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
    rows, parameter = draw
    assert 0 < len(rows) < len(images)
    function = {"gamma": adjust_gamma, "blur": gaussian_blur, "sigmoid": adjust_sigmoid}[name]
    assert torch.equal(result[rows], function(images[rows], parameter))
    others = np.setdiff1d(np.arange(len(images)), rows)
    assert torch.equal(result[others], images[others])


@pytest.mark.parametrize("name", RANDOM)
def test_probability_of_none_and_of_all(rng, name):
    images = some_images(rng, (50, 1, 5, 6))
    # A kernel that is too narrow to reach another voxel would change nothing.
    options = {"sigma": (0.5, 1)} if name == "blur" else {}
    assert torch.equal(RANDOM[name](p=0, **options)(images), images)
    changed = (RANDOM[name](p=1, **options)(images) != images).flatten(1).any(1)
    assert changed.all()


@pytest.mark.parametrize(
    ("module", "low", "high"),
    [
        (RandomGamma(), 0.5, 1.5),
        (RandomGaussianBlur(), 0, 1.5),
        (RandomSigmoidContrast(), 5, 10),
        (RandomGamma(gamma=(0.8, 0.9), p=0.1), 0.8, 0.9),
    ],
    ids=repr,
)
def test_each_image_has_a_draw_of_its_own(module, low, high):
    torch.manual_seed(0)
    rows, parameter = module.draw(torch.empty(4000, 1, 1, 1))
    assert stats.binomtest(len(rows), 4000, module.p).pvalue > 1e-3
    assert stats.kstest(parameter, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert len(parameter.unique()) == len(rows) == len(rows.unique())


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_each_axis_is_mirrored_by_itself(p):
    torch.manual_seed(0)
    flipped = RandomFlip(p=p).draw(torch.empty(8000, 1, 2, 2, 2)).numpy()
    found = np.bincount(flipped @ [1, 2, 4], minlength=8)
    n_mirrored = np.array([0, 1, 1, 2, 1, 2, 2, 3])
    expected = 8000 * p**n_mirrored * (1 - p) ** (3 - n_mirrored)
    assert stats.chisquare(found, expected).pvalue > 1e-3


@pytest.mark.parametrize(
    ("axes", "expected"),
    [(None, [1, 1, 1]), ([0, 2], [1, 0, 1]), ((-1,), [0, 0, 1]), ([-3, 1], [1, 1, 0])],
)
def test_flips_along_chosen_axes(axes, expected):
    flipped = RandomFlip(axes, p=1).draw(torch.empty(2, 1, 2, 2, 2))
    assert flipped.tolist() == [[bool(e) for e in expected]] * 2


def test_places_of_crops_are_uniform():
    torch.manual_seed(0)
    start = RandomCrop((3, 5)).draw(torch.empty(6000, 1, 6, 6)).numpy()
    assert stats.chisquare(np.bincount(start @ [2, 1], minlength=8)).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crops(dtype):
    images = torch.arange(2 * 5 * 6).reshape(2, 1, 5, 6).to(dtype)
    assert torch.equal(CenterCrop((3, 2))(images), images[..., 1:4, 2:4])
    assert torch.equal(CenterCrop(4)(images), images[..., :4, 1:5])
    assert torch.equal(CenterCrop((5, 6))(images), images)
    assert torch.equal(RandomCrop((5, 6))(images), images)
    window = RandomCrop(4)(images)
    for image, found in zip(images, window, strict=True):
        candidates = image.unfold(1, 4, 1).unfold(2, 4, 1).reshape(-1, 4, 4)
        assert (candidates == found).flatten(1).all(1).any()


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


@pytest.mark.cuda
@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_gpu_gives_the_same_images(rng, n_axes):
    images = some_images(rng, (16, 2, *[12] * n_axes))
    module = nn.Sequential(RandomCrop(10), *get_augmentation("paper", n_axes))
    torch.manual_seed(0)
    expected = module(images)
    torch.manual_seed(0)
    result = module(images.cuda())
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
        (lambda: RandomCrop(0), "size", 0),
        (lambda: CenterCrop([4, 2.5]), "size", [4, 2.5]),
        (lambda: CenterCrop(True), "size", True),
        (lambda: PerSample(None), "transform", None),
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


@pytest.mark.parametrize("name", ["gamma", "blur", "sigmoid"])
def test_intensities_change_in_floating_dtypes_only(name):
    with pytest.raises(TypeError, match=r"images .*torch.uint8"):
        RANDOM[name]()(torch.zeros(2, 1, 5, 6, dtype=torch.uint8))


# Specifications --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "n_axes", "expected"),
    [
        ("flip", 2, "RandomFlip(axes=None, p=0.5)"),
        (
            "paper",
            2,
            "RandomGamma(gamma=(0.5, 1.5), p=0.5) "
            "RandomSigmoidContrast(gain=(5.0, 10.0), cutoff=0.5, p=0.5) "
            "RandomFlip(axes=None, p=0.5)",
        ),
        (
            "paper",
            3,
            "RandomGamma(gamma=(0.5, 1.5), p=0.5) RandomGaussianBlur(sigma=(0.0, 1.5), p=0.5) "
            "RandomFlip(axes=None, p=0.5)",
        ),
        (
            ["flip", nn.Dropout(0.1)],
            3,
            "RandomFlip(axes=None, p=0.5) Dropout(p=0.1, inplace=False)",
        ),
        ((CenterCrop(3),), 2, "CenterCrop(size=3)"),
    ],
)
def test_what_a_specification_stands_for(spec, n_axes, expected):
    assert " ".join(map(repr, get_augmentation(spec, n_axes))) == expected


def test_callables_and_modules_are_copied():
    module, calls = nn.BatchNorm2d(1).eval(), []

    def callable_(images):
        calls.append(len(images))
        return -images

    augmentation = get_augmentation([callable_, module], 2)
    augmentation(torch.randn(4, 1, 5, 5))
    assert calls == [4]
    assert augmentation[1].training  # transforms that are still in evaluation would do nothing
    assert module.num_batches_tracked == 0
    assert not module.training


@pytest.mark.parametrize("spec", [None, [], ()])
def test_nothing_to_do(spec):
    assert get_augmentation(spec, 2) is None


@pytest.mark.parametrize(
    ("spec", "got"),
    [
        ("flips", "'flips'"),
        (["flip", 3], "3"),
        (RandomFlip, ".*RandomFlip"),
        (1, "1"),
        (True, "True"),
    ],
)
def test_wrong_specifications(spec, got):
    with pytest.raises(ParameterError, match=f"augment .*got {got}") as error:
        get_augmentation(spec, 2)
    assert error.value.parameter == "augment"
    assert all(repr(name) in error.value.expected for name in RECIPES)


def test_classes_in_place_of_modules_are_explained():
    for spec in (RandomFlip, ["flip", RandomFlip]):
        with pytest.raises(ParameterError, match="instance of RandomFlip"):
            get_augmentation(spec, 2)


def test_a_row_of_the_table_is_a_recipe(monkeypatch):
    monkeypatch.setitem(RECIPES, "last axis", lambda n_axes: [RandomFlip([n_axes - 1])])
    assert repr(get_augmentation(["last axis"], 3)[0]) == "RandomFlip(axes=(2,), p=0.5)"
    with pytest.raises(ParameterError, match="'last'") as error:
        get_augmentation("last", 3)
    assert "'last axis'" in error.value.expected


# Transforms of one image -----------------------------------------------------------------


def test_one_image_after_the_other(rng):
    images = some_images(rng, (4, 2, 3, 3))
    assert torch.equal(PerSample(lambda image: image.flip(1))(images), images.flip(2))
    # An array in another dtype, as transforms of scipy and numpy give out.
    rotated = PerSample(lambda image: ndimage.rotate(image.double(), 90, (1, 2), order=0))(images)
    assert rotated.dtype == images.dtype
    np.testing.assert_array_equal(rotated, np.rot90(images, 1, (2, 3)))


def test_subclasses_of_tensors_become_plain(rng):
    class Labelled(torch.Tensor):
        pass

    images = some_images(rng, SHAPES[0])
    result = PerSample(lambda image: (image + 1).as_subclass(Labelled))(images)
    assert type(result) is torch.Tensor
    assert torch.equal(result, images + 1)


def test_generators_of_transforms_are_seeded_from_that_of_torch(rng):
    class Noise:
        """As the transforms of MONAI are, with a generator of its own."""

        def set_random_state(self, seed):
            self.generator = np.random.RandomState(seed)

        def __call__(self, image):
            return image + self.generator.normal()

    images, module = some_images(rng, SHAPES[0]), PerSample(Noise())
    torch.manual_seed(0)
    first, second = module(images), module(images)
    torch.manual_seed(0)
    assert torch.equal(module(images), first)
    assert not torch.equal(first, second)
    shifts = (first - images).flatten(1).mean(1)
    assert len(shifts.unique()) == len(images)


def kornia_2d():
    from kornia import augmentation

    return augmentation.RandomAffine(degrees=30.0, p=1.0), 2


def kornia_3d():
    from kornia import augmentation

    return augmentation.RandomRotation3D((20.0, 20.0, 20.0), p=1.0), 3


def monai_3d():
    from monai import transforms

    noise = transforms.RandGaussianNoise(prob=1.0, std=5.0)
    return PerSample(transforms.Compose([transforms.RandFlip(prob=0.5), noise])), 3


def torchio_3d():
    import torchio

    return PerSample(torchio.RandomAffine(degrees=20)), 3


@pytest.mark.parametrize("make", [kornia_2d, kornia_3d, monai_3d, torchio_3d])
def test_transforms_of_other_libraries_as_they_are(rng, make):
    transform, n_axes = make()
    images = some_images(rng, (4, 1, *[10] * n_axes))
    module = get_augmentation(["flip", transform], n_axes)
    torch.manual_seed(0)
    first, second = module(images), module(images)
    torch.manual_seed(0)
    assert torch.equal(module(images), first)
    assert not torch.equal(first, second)
    assert first.shape == images.shape
    assert (type(first), first.dtype) == (torch.Tensor, images.dtype)
