"""The layers that networks share."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from skimbal.networks import GridPool, ResidualBlock
from skimbal.networks.layers import WidenedConv2d
from tests.networks.data import NAMES, draw_images, make_empty


@pytest.mark.parametrize("width", range(2, 34))
def test_groups_hold_several_channels_at_any_width(width):
    net = make_empty("small", 1, 2, (8, 8), width=width)
    layers = [module for module in net.modules() if isinstance(module, nn.GroupNorm)]
    assert layers
    for layer in layers:
        assert layer.num_groups in (1, 2, 4, 8)
        assert layer.num_channels // layer.num_groups >= 2
    if width % 16 == 0:
        assert {layer.num_groups for layer in layers} == {8}


@pytest.mark.parametrize("size", [(5, 4), (1, 7), (2, 2), (9, 3), (5, 6, 7)])
def test_grid_pool_is_adaptive_average_pooling(size):
    images = draw_images(3, 4, *size, dtype=torch.float64)
    grid = [min(axis, 2) for axis in size]
    expected = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[len(size)](grid)(images)
    torch.testing.assert_close(GridPool(grid)(images), expected)


@pytest.mark.parametrize("in_channels", [8, 16])
def test_shortcut_in_steps_is_a_strided_convolution(in_channels):
    torch.manual_seed(0)
    block = ResidualBlock(in_channels, 20, (3, 3), (2, 1), nn.BatchNorm2d).double().eval()
    x = torch.randn(3, in_channels, 9, 8, dtype=torch.float64)
    weight = block.shortcut[0].weight
    shortcut = block.shortcut[1](nn.functional.conv2d(x, weight, stride=(2, 1)))
    torch.testing.assert_close(block(x), (block.body(x) + shortcut).relu())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", range(2, 17, 2))
def test_strided_kernels_of_one_pixel_are_widened_in_narrow_networks(name, width):
    narrow = [
        module
        for module in make_empty(name, 1, 2, (112, 112), width=width).modules()
        if isinstance(module, nn.Conv2d)
        and max(module.kernel_size) == 1 < max(module.stride)
        and module.in_channels < 16
    ]
    assert bool(narrow) == (width < 16)
    assert all(isinstance(module, WidenedConv2d) for module in narrow)


@pytest.mark.slow
def test_narrow_networks_on_large_images_stay_within_their_memory():
    # A strided 1 x 1 kernel over few channels crashes in torch 2.13 on CPUs with AVX-512, which
    # would end the tests if it happened in their process.
    script = """
import torch
from skimbal.networks import SmallCNN
torch.set_num_threads(1)
for width in (4, 8, 12):
    network = SmallCNN(1, 2, (112, 112), width=width).to(memory_format=torch.channels_last)
    x = torch.randn(10, 1, 112, 112).contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        network(x).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
