"""The residual network that follows the size of the images."""

import pytest
import torch
from torch import nn

from skimbal.networks import ResidualBlock, ResidualCNN
from tests.networks.data import check_training_step, draw_images, make, make_empty, n_parameters


def sizes_of(net, spatial_shape):
    """Return the size of the map before the first stage and after each stage."""
    x = net.stem(torch.zeros(1, 1, *spatial_shape, device="meta"))
    sizes = [tuple(x.shape[2:])]
    for stage in net.stages:
        x = stage(x)
        sizes.append(tuple(x.shape[2:]))
    return sizes


@pytest.mark.parametrize(
    ("spatial_shape", "expected"),
    [
        ((28, 28), [(14, 14), (14, 14), (7, 7), (4, 4)]),
        ((28, 28, 28), [(14,) * 3, (14,) * 3, (7,) * 3, (4,) * 3]),
        ((32, 32), [(16, 16), (16, 16), (8, 8), (4, 4)]),
        ((33, 32), [(17, 16), (17, 16), (9, 8), (5, 4), (5, 4)]),
        ((64, 64, 64), [(32,) * 3, (32,) * 3, (16,) * 3, (8,) * 3, (4,) * 3]),
        ((128, 128, 128), [(32,) * 3, (32,) * 3, (16,) * 3, (8,) * 3, (4,) * 3, (4,) * 3]),
        ((128, 128), [(64, 64), (64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]),
        ((512, 512), [(128, 128), (128, 128), (64, 64), (32, 32), (16, 16), (8, 8)]),
        # Each axis by itself.
        ((28, 6, 1), [(14, 6, 1), (14, 6, 1), (7, 6, 1), (4, 6, 1)]),
        ((128, 7, 3), [(32, 4, 3), (32, 4, 3), (16, 4, 3), (8, 4, 3), (4, 4, 3), (4, 4, 3)]),
        ((1, 1), [(1, 1)] * 4),
    ],
)
def test_depth_follows_the_size_of_the_images(spatial_shape, expected):
    net = make_empty("residual", 1, 2, spatial_shape)
    assert sizes_of(net, spatial_shape) == expected
    assert net.classifier.in_features == 16 * 2 ** (len(expected) - 2)


def test_parameter_count_of_the_residual_network():
    assert "0.22 million" in ResidualCNN.__doc__
    n_all = n_parameters(make_empty("residual", 1, 2, (28, 28, 28)))
    assert n_all == pytest.approx(225_000, rel=0.01)


def test_residual_network_options():
    net = make_empty("residual", 1, 2, (28, 28), width=6, n_stages=2, dropout=0.25)
    assert net.classifier.in_features == 12
    assert len(net.stages) == 2
    assert net.dropout.p == 0.25


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("zero_init_residual", [True, False])
def test_blocks_start_as_their_shortcut(norm, zero_init_residual):
    net = make("residual", 1, (28, 28), norm=norm, zero_init_residual=zero_init_residual)
    x = draw_images(2, 16, 14, 14)
    for block in net.modules():
        if isinstance(block, ResidualBlock):
            shortcut = block.shortcut(x).relu()
            assert torch.equal(block(x), shortcut) == zero_init_residual
            x = shortcut
    check_training_step(net, draw_images(2, 1, 28, 28))


def test_convolutions_start_from_the_distribution_of_he():
    net = make("residual", 1, (28, 28), width=32)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 9000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)


@pytest.mark.parametrize("spatial_shape", [(30, 17), (9, 28, 20)])
def test_logits_are_the_head_of_the_features(spatial_shape):
    net = make("residual", 2, spatial_shape, width=4, dropout=0.5).eval()
    x = draw_images(3, 2, *spatial_shape)
    features = net.features(x)
    torch.testing.assert_close(features, net.stages(net.stem(x)).flatten(2).mean(2))
    assert torch.equal(net.head(features), net(x))
    assert torch.equal(net.classifier(features), net(x))
    net.train()
    assert torch.equal(net.features(x), features)
    assert not torch.equal(net(x), net(x))
