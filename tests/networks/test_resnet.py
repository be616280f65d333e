"""Residual networks against the published ones."""

import copy
import math

import pytest
import torch
from torch import nn

from skimbal.networks import ResNet
from tests.networks.data import (
    check_training_step,
    draw_images,
    make,
    make_empty,
    n_parameters,
)

N_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


@pytest.mark.parametrize("depth", range(3, 11))
@pytest.mark.parametrize("n_blocks", [(1, 1), pytest.param((2, 2, 2, 2), marks=pytest.mark.slow)])
def test_gradient_of_the_first_convolution_for_few_slices(n_blocks, depth):
    shape = (depth, 12, 9)
    torch.manual_seed(0)
    net = ResNet(2, 3, shape, n_blocks=n_blocks, width=4)
    exact = copy.deepcopy(net).double()
    images = draw_images(3, 2, *shape)
    # Memory that was written beyond its end shows after some steps, at some allocation; what was
    # never written shows where something else lay before.
    for _ in range(20):
        rubbish = [torch.full((10**power,), torch.nan) for power in range(1, 6)]
        del rubbish
        net.zero_grad()
        check_training_step(net, images)
    exact.zero_grad()
    check_training_step(exact, images.double())
    for one, other in zip(net.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-2, atol=1e-3)
    images = torch.zeros(1, 2, *shape)
    assert torch.equal(net.stem[0](images), torch.zeros_like(net.stem[0](images)))
    assert net.stem[0](images).shape == (1, 4, (depth + 1) // 2, 6, 5)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_published_sizes_of_the_maps(name):
    net = make_empty(name, 3, 1000, (224, 224))
    sizes = [tuple(net.stem(torch.zeros(1, 3, 224, 224, device="meta")).shape)]
    maps = torch.zeros(sizes[0], device="meta")
    for block in net.stages:
        maps = block(maps)
        sizes.append(tuple(maps.shape))
    published = [(1, 64, 56, 56), (1, 128, 28, 28), (1, 256, 14, 14), (1, 512, 7, 7)]
    expected = [published[0]]
    for n_blocks, size in zip(N_BLOCKS[name], published, strict=True):
        expected += [size] * n_blocks
    assert sizes == expected


@pytest.mark.parametrize("spatial_shape", [(70, 65), (40, 33, 64)])
def test_resnet_averages_over_the_whole_map(spatial_shape):
    net = make("resnet18", 1, spatial_shape, width=4).double().eval()
    images = draw_images(2, 1, *spatial_shape, dtype=torch.float64)
    maps = net.stages(net.stem(images))
    assert min(maps.shape[2:]) > 1
    features = maps.mean(tuple(range(2, maps.ndim)))
    torch.testing.assert_close(net(images), net.classifier(features), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_689_512), ("resnet34", 21_797_672)])
def test_published_parameter_counts(name, count):
    net = make_empty(name, 3, 1000, (224, 224), norm="batch", width=64)
    assert n_parameters(net) == count


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize(("in_channels", "n_classes", "width"), [(1, 2, 64), (4, 11, 32)])
@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_parameter_counts_in_3d(name, in_channels, n_classes, width, norm):
    scale_and_shift = 2
    expected = 7**3 * in_channels * width + scale_and_shift * width
    before = width
    for stage, n_blocks in enumerate(N_BLOCKS[name]):
        after = width * 2**stage
        first_conv = 3**3 * before * after
        other_convs = (2 * n_blocks - 1) * 3**3 * after**2
        shortcut = before * after + scale_and_shift * after if stage else 0
        expected += first_conv + other_convs + 2 * n_blocks * scale_and_shift * after + shortcut
        before = after
    expected += (before + 1) * n_classes
    net = make_empty(name, in_channels, n_classes, (32, 32, 32), width=width, norm=norm)
    assert n_parameters(net) == expected


def test_half_width_has_the_features_of_the_paper():
    net = make("resnet34", 1, (9, 9), width=32)
    seen = []
    net.classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    net(torch.zeros(2, 1, 9, 9))
    assert seen == [(2, 256)]


def test_resnet_starts_from_the_published_distribution():
    net = make("resnet18", 1, (9, 9), width=32)
    for module in net.stages.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.03)
