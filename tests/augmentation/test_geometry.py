"""Draws of mirror images."""

import numpy as np
import pytest
import torch
from scipy import stats

from skimbal.augmentation import RandomFlip


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
