"""Windows of images, cut out or erased."""

import numpy as np
import pytest
import torch
from scipy import stats

from skimbal.augmentation import CenterCrop, RandomCrop, RandomErasing


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


@pytest.mark.parametrize("size", [(10, 20), (10, 20, 1)])
def test_erased_boxes_have_the_wanted_size_at_any_place(size):
    torch.manual_seed(0)
    box = RandomErasing(share=(0.1, 0.4), p=1).draw(torch.empty(4000, 1, *size))
    start, stop = box.unbind(2)
    assert (start >= 0).all()
    assert (stop <= torch.tensor(size)).all()
    length = stop - start
    assert length[:, 0].unique().tolist() == [1, 2, 3, 4]
    assert length[:, 1].unique().tolist() == [2, 3, 4, 5, 6, 7, 8]
    for n in (1, 4):
        places = start[:, 0][length[:, 0] == n]
        assert stats.chisquare(places.unique(return_counts=True)[1]).pvalue > 1e-3
        assert places.max() == 10 - n
    assert torch.equal(length[:, 2:], torch.ones(4000, len(size) - 2))
