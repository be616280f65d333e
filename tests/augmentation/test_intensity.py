"""Draws of changes of intensities."""

import pytest
import torch
from scipy import stats

from skimbal.augmentation import RandomGamma, RandomGaussianBlur, RandomSigmoidContrast


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
    draw = module.draw(torch.empty(4000, 1, 1, 1))
    parameter = draw[~draw.isnan()]
    assert stats.binomtest(len(parameter), 4000, module.p).pvalue > 1e-3
    assert stats.kstest(parameter, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert len(parameter.unique()) == len(parameter)
