"""Each operation against the same formula elsewhere, on the same parameters."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from skimbal.augmentation import (
    adjust_gamma,
    adjust_sigmoid,
    affine,
    crop,
    erase,
    flip,
    gaussian_blur,
    permute_axes,
)
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


sizes = st.lists(st.integers(1, 9), min_size=2, max_size=3)
seeds = st.integers(0, 2**32 - 1)


@given(size=sizes, seed=seeds)
def test_affine_is_that_of_scipy(size, seed):
    rng, n_axes = np.random.default_rng(seed), len(size)
    images = torch.from_numpy(rng.normal(size=(3, 2, *size)))
    linear = np.eye(n_axes) + rng.normal(scale=0.5, size=(3, n_axes, n_axes))
    shift = rng.normal(scale=2, size=(3, n_axes))
    result = affine(images, torch.from_numpy(np.concatenate([linear, shift[..., None]], 2)))
    centre = (np.array(size) - 1) / 2
    for (i, c), x in channels(images):
        offset = centre + shift[i] - linear[i] @ centre
        expected = ndimage.affine_transform(x, linear[i], offset, order=1, mode="nearest")
        np.testing.assert_allclose(result[i, c], expected, atol=1e-9)


@given(size=sizes, dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
def test_identity_changes_nothing(size, dtype):
    images = torch.linspace(-3, 200, 2 * int(np.prod(size))).reshape(2, 1, *size).to(dtype)
    result = affine(images, torch.eye(len(size), len(size) + 1).expand(2, -1, -1))
    assert result.dtype == dtype
    torch.testing.assert_close(
        result, images, rtol=1e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-3
    )


@given(side=st.integers(1, 9), other=st.integers(1, 5), n_turns=st.integers(0, 3), seed=seeds)
@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2), None])
def test_quarter_turns_are_those_of_numpy(side, other, n_turns, seed, plane):
    """In a plane of two equal axes, also beside an axis of another size. No plane: a square."""
    i, j = plane or (0, 1)
    n_axes = 2 if plane is None else 3
    size = [side if axis in (i, j) else other for axis in range(n_axes)]
    images = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 2, *size)))
    cos, sin = round(np.cos(n_turns * np.pi / 2)), round(np.sin(n_turns * np.pi / 2))
    matrix = torch.eye(n_axes, n_axes + 1)[None]
    matrix[0, i, i], matrix[0, i, j], matrix[0, j, i], matrix[0, j, j] = cos, sin, -sin, cos
    expected = torch.rot90(images, n_turns, (2 + i, 2 + j))
    torch.testing.assert_close(affine(images, matrix), expected, rtol=0, atol=1e-9)


def test_shifts_and_scales_are_in_voxels():
    images = torch.zeros(1, 1, 5, 9)
    images[0, 0, 2, 4] = 1  # the centre
    shifted = affine(images, torch.tensor([[[1.0, 0, -1], [0, 1, 3]]]))
    assert shifted[0, 0].argmax() == 3 * 9 + 1
    images[0, 0, 2, 6] = 1
    halved = affine(images, torch.tensor([[[2.0, 0, 0], [0, 2, 0]]]))
    assert halved[0, 0].nonzero().tolist() == [[2, 4], [2, 5]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(9, 2, 5, 5), (9, 2, 4, 4, 4)])
def test_permutation_is_that_of_numpy(rng, shape, dtype):
    images = torch.from_numpy(rng.integers(0, 255, shape)).to(dtype)
    order = np.array([rng.permutation(len(shape) - 2) for _ in range(shape[0])])
    result = permute_axes(images, torch.from_numpy(order))
    assert result.dtype == dtype
    for image, axes, changed in zip(images, order, result, strict=True):
        np.testing.assert_array_equal(changed, image.numpy().transpose(0, *(1 + axes)))


@pytest.mark.parametrize("shape", SHAPES)
def test_erased_box_has_the_mean(rng, shape):
    images = some_images(rng, shape)
    start = rng.integers(0, shape[2:], (shape[0], len(shape) - 2))
    stop = np.minimum(start + 3, shape[2:])
    result = erase(images, torch.from_numpy(np.stack([start, stop], 2)))
    for (i, c), x in channels(images):
        expected = x.copy()
        expected[tuple(map(slice, start[i], stop[i]))] = x.mean()
        np.testing.assert_allclose(result[i, c], expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 4), (2, 1, 9), (2, 1, 3, 3, 3, 3)])
def test_affine_needs_two_or_three_axes(shape):
    n_axes = len(shape) - 2
    with pytest.raises(ValueError, match=r"\(n, c, h, w\) or \(n, c, d, h, w\).*one voxel"):
        affine(torch.zeros(shape), torch.zeros(2, n_axes, n_axes + 1))
