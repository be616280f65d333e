"""Draws of mirror images, symmetries and affine maps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skimbal.augmentation import RandomAffine, RandomFlip, RandomSymmetry


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


def symmetric_images(size):
    """Return the images that turns and mirrors make of one image, found by closure."""
    image = torch.arange(torch.Size(size).numel()).reshape(1, *size)
    found, new = {}, [image]
    while new:
        last = new.pop()
        if tuple(last.flatten().tolist()) in found:
            continue
        found[tuple(last.flatten().tolist())] = last
        for i in range(1, last.ndim):
            new.append(last.flip(i))
            new += [last.transpose(i, j) for j in range(1, i) if last.shape[i] == last.shape[j]]
    return image, set(found)


@pytest.mark.parametrize(
    ("size", "n_symmetries"),
    [((3, 3), 8), ((3, 3, 3), 48), ((2, 3), 4), ((3, 2, 3), 16), ((2, 3, 4), 8), ((1, 3, 3), 8)],
)
def test_symmetries_are_a_group_and_equally_likely(size, n_symmetries):
    image, group = symmetric_images(size)
    assert len(group) == n_symmetries
    torch.manual_seed(0)
    images = image.expand(n_symmetries * 100, 1, *size)
    once = RandomSymmetry()(images)
    found, counts = once.flatten(1).unique(dim=0, return_counts=True)
    assert set(map(tuple, found.tolist())) == group
    assert stats.chisquare(counts).pvalue > 1e-3
    twice = RandomSymmetry()(once)
    assert set(map(tuple, twice.flatten(1).tolist())) == group


@given(
    size=st.lists(st.integers(1, 6), min_size=2, max_size=3),
    degrees=st.floats(0, 180),
    translate=st.floats(0, 1),
    low=st.floats(0.1, 2),
    extent=st.floats(0, 2),
)
def test_affine_draws_stay_within_their_ranges(size, degrees, translate, low, extent):
    n_axes = len(size)
    module = RandomAffine(degrees, translate, (low, low + extent))
    draw = module.draw(torch.empty(20, 1, *size)).numpy()
    linear, shift = draw[..., :-1], draw[..., -1]
    # A rotation, divided by the scale.
    scale = np.linalg.det(linear) ** (-1 / n_axes)
    assert (scale > low * (1 - 1e-9)).all()
    assert (scale < (low + extent) * (1 + 1e-9)).all()
    rotation = linear * scale[:, None, None]
    product = rotation @ rotation.transpose(0, 2, 1)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(n_axes), product.shape), atol=1e-9)
    assert (np.abs(shift) <= translate * np.array(size)).all()
    for axis in np.flatnonzero(np.array(size) == 1):
        expected = np.broadcast_to(np.eye(n_axes)[axis], (20, n_axes))
        np.testing.assert_allclose(rotation[:, axis], expected, atol=1e-9)
    if n_axes == 2:
        angle = np.degrees(np.arctan2(rotation[:, 0, 1], rotation[:, 0, 0]))
        assert (np.abs(angle) <= degrees + 1e-6).all()


def test_affine_draws_are_uniform_and_one_for_each_image():
    torch.manual_seed(0)
    draw = RandomAffine(degrees=30, translate=0.2, scale=(0.5, 2)).draw(
        torch.empty(4000, 1, 10, 20)
    )
    angle = torch.atan2(draw[:, 1, 0], draw[:, 0, 0]).rad2deg()
    scale = torch.linalg.det(draw[..., :-1]) ** -0.5
    for found, low, high in [
        (angle, -30, 30),
        (scale, 0.5, 2),
        (draw[:, 0, 2], -2, 2),
        (draw[:, 1, 2], -4, 4),
    ]:
        assert stats.kstest(found, stats.uniform(low, high - low).cdf).pvalue > 1e-3
        assert len(found.unique()) == 4000


def test_nothing_to_draw_changes_nothing(rng):
    images = torch.from_numpy(rng.normal(size=(3, 1, 6, 5, 4)))
    result = RandomAffine(degrees=0, translate=0, scale=(1, 1))(images)
    torch.testing.assert_close(result, images)
