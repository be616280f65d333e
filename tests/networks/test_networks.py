"""Shapes, sizes, parameter counts and gradients of the built-in networks."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skimbal.exceptions import ParameterError
from skimbal.networks import (
    BUILT_IN,
    GridPool,
    ResidualBlock,
    ResNet,
    SmallCNN,
    fold_batch_norm,
)

NAMES = ["small", "resnet18", "resnet34"]
N_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
ONE_LINE = [(1, 1, 40), (1, 1, 1, 40)]

examples = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def make(name, in_channels, spatial_shape, n_classes=3, **options):
    torch.manual_seed(0)
    return BUILT_IN[name](in_channels, n_classes, tuple(spatial_shape), **options)


def make_empty(name, *args, **options):
    """Make a network that has shapes but no numbers, which costs nothing whatever its size."""
    with torch.device("meta"):
        return BUILT_IN[name](*args, **options)


def draw_images(n, *shape, dtype=torch.float32):
    return torch.randn(n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def n_parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def check_training_step(net, images):
    """Check that logits and gradients of a training batch are there and finite."""
    net.train()
    logits = net(images)
    assert logits.shape == (len(images), net.classifier.out_features)
    assert torch.isfinite(logits).all()
    target = torch.arange(len(images)) % logits.shape[1]
    nn.functional.cross_entropy(logits, target).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert net.classifier.bias.grad.abs().min() > 0


# ---- shapes


@pytest.mark.parametrize("name", NAMES)
@given(
    shape=st.lists(st.integers(1, 33), min_size=2, max_size=2)
    | st.lists(st.integers(1, 9), min_size=3, max_size=3),
    in_channels=st.sampled_from([1, 3, 4]),
    n=st.sampled_from([1, 2]),
    n_classes=st.integers(2, 5),
)
@examples
def test_any_shape_trains(name, shape, in_channels, n, n_classes):
    net = make(name, in_channels, shape, n_classes, width=4)
    assert not list(net.buffers()), "group normalisation keeps no statistics"
    check_training_step(net, draw_images(n, in_channels, *shape))


@pytest.mark.parametrize("depth", range(3, 11))
def test_gradient_of_the_first_convolution_for_few_slices(depth):
    shape = (depth, 12, 9)
    net, exact = make("resnet18", 2, shape, width=4), make("resnet18", 2, shape, width=4).double()
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


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("shape", ONE_LINE)
@pytest.mark.parametrize("name", NAMES)
def test_one_line_of_pixels_trains_at_full_width(name, shape, n):
    check_training_step(make(name, shape[0], shape[1:]), draw_images(n, *shape))


@pytest.mark.parametrize("spatial_shape", [(1, 1), (1, 1, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_single_voxels_can_be_told_apart(name, spatial_shape):
    net = make(name, 1, spatial_shape, width=8).double().eval()
    logits = net(torch.tensor([-1.0, 1.0]).double().reshape(2, 1, *spatial_shape))
    # Groups of one channel would leave nothing of a single voxel: the logits would be equal.
    assert (logits[0] - logits[1]).abs().max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spatial_shape", [(9, 1), (1, 9), (7, 1, 8)])
def test_axes_of_one_voxel_get_kernels_of_one_voxel(name, spatial_shape):
    net = make_empty(name, 1, 2, spatial_shape)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            for size, kernel in zip(spatial_shape, module.kernel_size, strict=True):
                assert kernel == 1 or size > 1
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
    assert max(first.kernel_size) == (3 if name == "small" else 7)


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


@pytest.mark.parametrize("spatial_shape", [(12, 9), (7, 6, 8)])
@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_does_not_matter(name, spatial_shape):
    net = make(name, 3, spatial_shape, width=8).double().eval()
    images = draw_images(3, 3, *spatial_shape, dtype=torch.float64)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[len(spatial_shape)]
    other = images.contiguous(memory_format=layout)
    assert other.stride() != images.stride()
    torch.testing.assert_close(net(other), net(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_batch_do_not_see_each_other(name):
    net = make(name, 2, (9, 8), width=8).double().train()
    images = draw_images(5, 2, 9, 8, dtype=torch.float64)
    one_by_one = torch.cat([net(image[None]) for image in images])
    torch.testing.assert_close(net(images), one_by_one, rtol=1e-12, atol=1e-12)


def test_small_network_sees_brightness():
    net = make("small", 1, (8, 8)).eval()
    logits = net(torch.stack([torch.full((1, 8, 8), level) for level in (1.0, 2.0)]))
    assert (logits[0] - logits[1]).abs().max() > 1e-2


# ---- sizes


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


def test_resnet_starts_from_the_published_distribution():
    net = make("resnet18", 1, (9, 9), width=32)
    for module in net.stages.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.03)


# ---- normalisation


@pytest.mark.parametrize("spatial_shape", [(9, 9), (5, 6, 7)])
@pytest.mark.parametrize("name", NAMES)
def test_normalisation(name, spatial_shape):
    kinds = {"group": nn.GroupNorm, "batch": nn.BatchNorm2d}
    if len(spatial_shape) == 3:
        kinds["batch"] = nn.BatchNorm3d
    counts = {}
    for norm, kind in kinds.items():
        layers = [
            module
            for module in make_empty(name, 1, 2, spatial_shape, norm=norm).modules()
            if "Norm" in type(module).__name__
        ]
        assert {type(layer) for layer in layers} == {kind}
        counts[norm] = len(layers)
    assert counts["group"] == counts["batch"] > 0
    default = make_empty(name, 1, 2, spatial_shape)
    assert not any("BatchNorm" in type(module).__name__ for module in default.modules())


@pytest.mark.parametrize("spatial_shape", [(33, 33), (33, 33, 33)])
@pytest.mark.parametrize("name", NAMES)
def test_batch_normalisation_trains_and_keeps_statistics(name, spatial_shape):
    net = make(name, 1, spatial_shape, width=2, norm="batch")
    images = draw_images(2, 1, *spatial_shape)
    check_training_step(net, images)
    buffers = dict(net.named_buffers())
    assert all(int(n) == 1 for key, n in buffers.items() if key.endswith("num_batches_tracked"))
    means = [mean for key, mean in buffers.items() if key.endswith("running_mean")]
    assert means
    assert all(mean.abs().max() > 0 for mean in means)
    # With the statistics that it keeps, a single image is as good as a batch.
    net.double().eval()
    alone, together = net(images[:1].double()), net(images.double())[:1]
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)


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


# ---- errors


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["layer", "", None, "Group"])
def test_unknown_normalisation(name, norm):
    with pytest.raises(ParameterError, match=f"norm .*'group' or 'batch'.* {norm!r}"):
        make(name, 1, (8, 8), norm=norm)


@pytest.mark.parametrize("bad", [0, -1, 2.0, True, "3", None, float("nan")])
@pytest.mark.parametrize("where", ["in_channels", "n_classes", "axis", "width", "n"])
@pytest.mark.parametrize("kind", [SmallCNN, ResNet])
def test_sizes_that_are_no_positive_integers(kind, where, bad):
    sizes = {"in_channels": 1, "n_classes": 2, "axis": 8, "width": 8, "n": 1} | {where: bad}
    n = {"n_stages": sizes["n"]} if kind is SmallCNN else {"n_blocks": (1, sizes["n"])}
    parameter = {"axis": "spatial_shape", "n": next(iter(n))}.get(where, where)
    with pytest.raises(ParameterError, match=f"^{parameter} .*{re.escape(repr(bad))}"):
        kind(
            sizes["in_channels"],
            sizes["n_classes"],
            (8, sizes["axis"]),
            width=sizes["width"],
            **n,
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spatial_shape", [(), (8,), (2, 2, 2, 2)])
def test_wrong_number_of_axes(name, spatial_shape):
    with pytest.raises(ParameterError, match=f"spatial_shape .*{re.escape(repr(spatial_shape))}"):
        make(name, 1, spatial_shape)


@pytest.mark.parametrize("name", NAMES)
def test_integers_of_numpy_are_sizes(name):
    shape = np.array([1, 6, 7])
    net = make(name, shape[0], shape[1:], np.int64(3), width=np.int32(4))
    check_training_step(net, draw_images(2, 1, 6, 7))


# ---- folding of batch normalisation


def after_training(net, *shape):
    """Give batch normalisations statistics that are not those of the start."""
    net.train()
    for _ in range(3):
        net(draw_images(*shape) * 3 + 1)
    return net.eval()


def norms(net):
    return [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spatial_shape", [(17, 20), (9, 8, 10)])
def test_folded_network_is_equal(name, spatial_shape):
    net = make(name, 2, spatial_shape, norm="batch", width=8)
    net = after_training(net, 4, 2, *spatial_shape).double()
    x = draw_images(5, 2, *spatial_shape, dtype=torch.float64)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    expected, n_norms = net(x), len(norms(net))
    folded = fold_batch_norm(net)
    torch.testing.assert_close(folded(x), expected, rtol=1e-10, atol=1e-10)
    assert norms(folded) == []
    assert len(norms(net)) == n_norms > 0
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])
    torch.testing.assert_close(net(x), expected, rtol=0, atol=0)


class Shared(nn.Module):
    """One convolution under two normalisations, one whose output is used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))

    def forward(self, x):
        first, second = self.norms[0](self.conv(x)), self.norms[1](self.conv(-x))
        other = self.other(x)
        return (first + second + other * self.norms[2](other)).mean((2, 3))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.layers(x if x.mean() > 0 else -x).mean((2, 3))


def test_only_what_can_be_folded_is():
    x = draw_images(4, 1, 8, 8)
    no_statistics = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.ReLU()
    )
    weight_norm = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)))
    weight_norm.append(nn.BatchNorm2d(2))
    norm_first = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3))
    for net in (Shared(), no_statistics, weight_norm, norm_first):
        net = after_training(net, 4, 1, 8, 8)
        torch.testing.assert_close(fold_batch_norm(net)(x), net(x))
        assert len(norms(fold_batch_norm(net))) == len(norms(net))


def test_networks_that_are_not_folded():
    assert isinstance(fold_batch_norm(branching := Branching().eval()), Branching)
    assert fold_batch_norm(branching) is branching
    plain = make("small", 1, (8, 8)).eval()
    assert fold_batch_norm(plain) is plain
    seen = []
    hooked = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))).eval()
    hooked[0].register_forward_hook(lambda *args: seen.append(1))
    fold_batch_norm(hooked)(draw_images(1, 1, 8, 8))
    assert seen == [1]


# ---- on CUDA


@pytest.mark.parametrize("size", [(5, 4), (1, 7), (2, 2), (9, 3), (5, 6, 7)])
def test_grid_pool_is_adaptive_average_pooling(size):
    images = draw_images(3, 4, *size, dtype=torch.float64)
    grid = [min(axis, 2) for axis in size]
    expected = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[len(size)](grid)(images)
    torch.testing.assert_close(GridPool(grid)(images), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spatial_shape", [(36, 33), (36, 33, 20)])
def test_gradients_have_a_deterministic_form_on_cuda(name, spatial_shape, recorder):
    net = make(name, 1, spatial_shape, width=4)
    with recorder:
        net(draw_images(2, 1, *spatial_shape)).sum().backward()
    refused = {
        f"{prefix}{kind}_backward"
        for prefix in ("", "_")
        for kind in ("adaptive_avg_pool2d", "adaptive_avg_pool3d", "avg_pool3d")
        + ("adaptive_max_pool2d", "upsample_bilinear2d", "upsample_trilinear3d")
    }
    assert "convolution_backward" in recorder.names
    assert not recorder.names & refused


@pytest.mark.parametrize("in_channels", [8, 16])
def test_shortcut_in_steps_is_a_strided_convolution(in_channels):
    torch.manual_seed(0)
    block = ResidualBlock(in_channels, 20, (3, 3), (2, 1), nn.BatchNorm2d).double().eval()
    x = torch.randn(3, in_channels, 9, 8, dtype=torch.float64)
    weight = block.shortcut[0].weight
    shortcut = block.shortcut[1](nn.functional.conv2d(x, weight, stride=(2, 1)))
    torch.testing.assert_close(block(x), (block.body(x) + shortcut).relu())


def test_narrow_networks_on_large_images_stay_within_their_memory():
    # A strided 1 x 1 kernel over few channels crashes in torch 2.13 on CPUs with AVX-512.
    script = """
import torch
from skimbal.networks import SmallCNN
torch.set_num_threads(1)
for width in (4, 8, 12):
    network = SmallCNN(1, 2, (112, 112), width=width).to(memory_format=torch.channels_last)
    x = torch.randn(10, 1, 112, 112).contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        network(x).square().mean().backward()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
