"""The small network: its grid, its size, its options."""

import math

import pytest
import torch
from torch import nn

from skimbal.networks import SmallCNN
from tests.networks.data import draw_images, make, make_empty, n_parameters


@pytest.mark.parametrize(
    ("spatial_shape", "grid"),
    [
        ((28, 28, 28), (2, 2, 2)),
        ((64, 5, 1), (2, 2, 1)),
        ((224, 2), (2, 2)),
        ((3, 1), (2, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_small_network_ends_in_a_grid(spatial_shape, grid):
    net = make("small", 1, spatial_shape, width=4)
    assert net.classifier.in_features == 4 * 4 * math.prod(grid)
    map_before_pooling = net.features[:-2](torch.zeros(1, 1, *spatial_shape))
    sizes = map_before_pooling.shape[2:]
    assert all(size >= least for size, least in zip(sizes, grid, strict=True))


def test_small_network_sees_brightness():
    net = make("small", 1, (8, 8)).eval()
    logits = net(torch.stack([torch.full((1, 8, 8), level) for level in (1.0, 2.0)]))
    assert (logits[0] - logits[1]).abs().max() > 1e-2


def test_parameter_count_of_the_small_network():
    # 505 thousand; "about half a million" is what its documentation says of 28 x 28 x 28 voxels.
    net = make_empty("small", 1, 2, (28, 28, 28))
    assert "half a million" in SmallCNN.__doc__
    assert n_parameters(net) == pytest.approx(500_000, rel=0.05)


def test_small_network_options():
    net = make_empty("small", 1, 2, (28, 28), width=5, n_stages=4, dropout=0.25)
    assert net.classifier.in_features == 5 * 2**3 * 4
    assert net.dropout.p == 0.25
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert convs[0].out_channels == 5
    assert sum(conv.kernel_size == (3, 3) for conv in convs) == 1 + 2 * 4


def test_dropout_acts_in_training_only():
    net = make("small", 1, (8, 8), dropout=0.5)
    images = draw_images(4, 1, 8, 8)
    net.train()
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))
