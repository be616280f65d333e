"""Each operation against the same formula elsewhere, on the same parameters."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from skimbal.augmentation import adjust_gamma, adjust_sigmoid, crop, flip, gaussian_blur
from tests.augmentation.data import SHAPES, channels, some_images


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
