"""Promises that all built-in networks keep: shapes, gradients, normalisation, refusals."""

import math
import re
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skimbal import CNN2DClassifier
from skimbal.exceptions import ParameterError
from skimbal.networks import BUILT_IN, ResidualCNN, ResNet, SmallCNN
from tests.cases import quick_and_all
from tests.networks.data import NAMES, check_training_step, draw_images, make, make_empty

ONE_LINE = [(1, 1, 40), (1, 1, 1, 40)]


@pytest.mark.parametrize(
    "name", ["small", "residual", "resnet18", pytest.param("resnet34", marks=pytest.mark.slow)]
)
@given(
    shape=st.lists(st.integers(1, 33), min_size=2, max_size=2)
    | st.lists(st.integers(1, 9), min_size=3, max_size=3),
    in_channels=st.sampled_from([1, 3, 4]),
    n=st.sampled_from([1, 2]),
    n_classes=st.integers(2, 5),
)
def test_any_shape_trains(name, shape, in_channels, n, n_classes):
    net = make(name, in_channels, shape, n_classes, width=4)
    assert not list(net.buffers()), "group normalisation keeps no statistics"
    check_training_step(net, draw_images(n, in_channels, *shape))


@pytest.mark.parametrize("shape", ONE_LINE)
@pytest.mark.parametrize(
    ("name", "n"),
    quick_and_all([("small", 2), *((name, 1) for name in NAMES)], product(NAMES, [1, 2])),
)
def test_one_line_of_pixels_trains_at_full_width(name, n, shape):
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
    assert max(first.kernel_size) == (7 if name.startswith("resnet") else 3)


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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["layer", "", None, "Group"])
def test_unknown_normalisation(name, norm):
    with pytest.raises(ParameterError, match=f"norm .*'group' or 'batch'.* {norm!r}"):
        make(name, 1, (8, 8), norm=norm)


@pytest.mark.parametrize(
    ("kind", "where", "bad"),
    [
        (kind, where, bad)
        for kind in (SmallCNN, ResidualCNN, ResNet)
        for where in ("in_channels", "n_classes", "axis", "width", "n")
        for bad in (0, -1, 2.0, True, "3", None, float("nan"))
        if (kind, where, bad) != (ResidualCNN, "n", None)  # which follows the images
    ],
)
def test_sizes_that_are_no_positive_integers(kind, where, bad):
    sizes = {"in_channels": 1, "n_classes": 2, "axis": 8, "width": 8, "n": 1} | {where: bad}
    n = {"n_blocks": (1, sizes["n"])} if kind is ResNet else {"n_stages": sizes["n"]}
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


def test_a_row_of_the_table_is_a_network(monkeypatch):
    def linear(in_channels, n_classes, spatial_shape):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(in_channels * math.prod(spatial_shape), n_classes)
        )

    monkeypatch.setitem(BUILT_IN, "linear", linear)
    X, y = draw_images(6, 1, 4, 5).numpy(), [0, 1] * 3
    clf = CNN2DClassifier("ce", module="linear", max_epochs=1).fit(X, y)
    assert sum(weight.numel() for weight in clf.net_.module_.parameters()) == 2 * 20 + 2
    with pytest.raises(ValueError, match=r"module .*'linear'.*'linnear'"):
        CNN2DClassifier(module="linnear").fit(X, y)


@pytest.mark.parametrize("shape", [(9, 8), (5, 6, 7)])
@pytest.mark.parametrize(
    ("name", "norm"),
    quick_and_all(
        [("small", "group"), ("residual", "batch"), ("resnet18", "group")],
        product(NAMES, ["group", "batch"]),
    ),
)
def test_full_backward_hooks_see_the_gradient_of_every_layer(name, norm, shape):
    """As methods that explain predictions need: torch refuses changes in place behind them."""
    net = make(name, 2, shape, width=4, norm=norm).eval()
    images = draw_images(2, 2, *shape)
    nn.functional.cross_entropy(net(images), torch.tensor([0, 1])).backward()
    without = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    seen = set()
    for layer in net.modules():
        layer.register_forward_hook(lambda layer, inputs, output: None)
        layer.register_full_backward_hook(lambda layer, *gradients: seen.add(layer))
    nn.functional.cross_entropy(net(images.requires_grad_()), torch.tensor([0, 1])).backward()
    assert seen == set(net.modules())
    for parameter, gradient in zip(net.parameters(), without, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("name", NAMES)
def test_activations_are_modules_that_work_out_of_place(name):
    """As a module, an activation can be given another gradient, such as by DeepLIFT."""
    net = make(name, 1, (9, 8), width=4).eval()
    calls, activations = [], [m for m in net.modules() if isinstance(m, nn.ReLU)]
    for layer in activations:
        layer.register_forward_hook(lambda layer, inputs, output: calls.append((layer, inputs[0])))
    net(draw_images(1, 1, 9, 8))
    assert [layer for layer, _ in calls] == activations, "each runs once"
    assert len({id(layer) for layer in activations}) == len(activations)
    assert any((inputs < 0).any() for _, inputs in calls), "the input is as it was"
