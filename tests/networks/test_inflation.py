"""2D weights in networks of volumes."""

import copy
import re

import pytest
import torch
from torch import nn

from skimbal.exceptions import ParameterError
from skimbal.networks import (
    ACSConv3d,
    ResidualCNN,
    ResNet,
    SmallCNN,
    fold_batch_norm,
    inflate,
)
from tests.networks.data import check_training_step, draw_images, n_parameters


def resnet(in_channels, shape, n_classes=3, n_blocks=(1, 1), width=8, norm="group"):
    return ResNet(in_channels, n_classes, shape, n_blocks=n_blocks, width=width, norm=norm)


@pytest.fixture
def image_net():
    torch.manual_seed(0)
    net = resnet(3, (32, 30), n_blocks=(2, 1), norm="batch")
    for _ in range(3):  # statistics of batches
        net(draw_images(4, 3, 32, 30))
    return net.double().eval()


def as_torchvision(state):
    """Name two stages of two blocks and of one block as torchvision does."""
    blocks = {"stages.0": "layer1.0", "stages.1": "layer1.1", "stages.2": "layer2.0"}
    parts = {"body.0": "conv1", "body.1": "bn1", "body.3": "conv2", "body.4": "bn2"}
    parts |= {"shortcut": "downsample", "stem.0": "conv1", "stem.1": "bn1", "classifier": "fc"}
    named = {}
    for name, value in state.items():
        for ours, theirs in {**blocks, **parts}.items():
            name = re.sub(rf"(^|\.){re.escape(ours)}\.", rf"\1{theirs}.", name)
        named[name] = value
    return named


@pytest.mark.parametrize("names", ["ours", "torchvision"])
def test_a_volume_that_repeats_an_image_has_its_features(image_net, names):
    state = image_net.state_dict()
    if names == "torchvision":
        state = as_torchvision(state)
        assert {"conv1.weight", "layer2.0.downsample.1.running_var", "fc.bias"} <= set(state)
    net = resnet(3, (151, 32, 30), n_blocks=(2, 1), norm="batch").double().eval()
    assert inflate(state, net) is net
    image = draw_images(2, 3, 32, 30, dtype=torch.float64)
    volume = image.unsqueeze(2).expand(-1, -1, 151, -1, -1)
    expected = image_net.stages(image_net.stem(image))
    found = net.stages(net.stem(volume))
    # In the middle, no feature sees the zeros beyond the ends.
    torch.testing.assert_close(found[:, :, found.shape[2] // 2], expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(found[:, :, 0], expected, rtol=1e-2)
    torch.testing.assert_close(net.classifier.weight, image_net.classifier.weight)


def test_acs_kernels_see_two_axes():
    torch.manual_seed(0)
    conv = ACSConv3d(2, 7, 3, stride=(1, 2, 1)).double()
    x = draw_images(2, 2, 5, 6, 7, dtype=torch.float64)
    y = conv(x)
    assert y.shape == (2, 7, 5, 3, 7)
    # Three, two and two channels, as kernels of volumes with zeros beside one plane.
    dense = torch.zeros(7, 2, 3, 3, 3, dtype=torch.float64)
    dense[:3, :, 1], dense[3:5, :, :, 1], dense[5:, ..., 1] = conv.weight.tensor_split(3)
    expected = nn.functional.conv3d(x, dense, conv.bias, (1, 2, 1), 1)
    torch.testing.assert_close(y, expected)
    assert ACSConv3d(1, 2, 3)(x[:, :1].float()).shape == (2, 2, 5, 6, 7)


@pytest.mark.parametrize("depth", [3, 6, 9])
def test_acs_has_the_weights_of_the_image_network(image_net, depth):
    shape = (depth, 12, 11)
    net = inflate(image_net, resnet(3, shape, n_blocks=(2, 1), norm="batch"), how="acs")
    assert n_parameters(net) == n_parameters(image_net)
    assert sum(isinstance(module, ACSConv3d) for module in net.modules()) == 7
    torch.testing.assert_close(net.stem[0].weight, image_net.stem[0].weight.float())
    check_training_step(net, draw_images(2, 3, *shape))
    folded, images = fold_batch_norm(net.eval()), draw_images(2, 3, *shape)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.modules())
    torch.testing.assert_close(folded(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["i3d", "acs"])
@pytest.mark.parametrize("kind", [SmallCNN, ResidualCNN])
def test_other_networks_with_twins(kind, how):
    flat, net = kind(1, 3, (28, 28), width=8), kind(1, 3, (12, 28, 28), width=8)
    head = net.classifier.weight.clone()
    inflate(flat, net, how)
    check_training_step(net, draw_images(2, 1, 12, 28, 28))
    same = flat.classifier.weight.shape == head.shape
    assert same == (kind is ResidualCNN)
    expected = flat.classifier.weight if same else head
    assert torch.equal(net.classifier.weight, expected)


def test_channels(image_net):
    grey = inflate(image_net, resnet(1, (9, 9, 9), n_blocks=(2, 1), norm="batch"), "acs")
    image = draw_images(1, 1, 9, 9, 9)
    coloured = inflate(image_net, resnet(3, (9, 9, 9), n_blocks=(2, 1), norm="batch"), "acs")
    expected = coloured.stem[0](image.expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close(grey.stem[0](image), expected, rtol=1e-4, atol=1e-5)
    four = inflate(resnet(1, (9, 9)), resnet(4, (9, 9, 9)))
    one = copy.deepcopy(four)
    torch.testing.assert_close(four.stem[0].weight[:, :1], one.stem[0].weight[:, 3:])


def test_a_new_head_stays(image_net):
    net = resnet(1, (9, 9, 9), 5, n_blocks=(2, 1), norm="batch")
    head = net.classifier.weight.clone()
    assert torch.equal(inflate(image_net, net).classifier.weight, head)
    state = {n: v for n, v in image_net.state_dict().items() if not n.startswith("classifier")}
    assert torch.equal(inflate(state, net).classifier.weight, head)


@pytest.mark.parametrize(
    ("net", "how", "message"),
    [
        (resnet(3, (9, 9, 9), norm="batch", n_blocks=(2, 1)), "I3D", r"how .*'acs'; got 'I3D'"),
        (resnet(3, (9, 9, 9), n_blocks=(2, 1)), "i3d", r"weights .*running_mean \(only in we"),
        (
            resnet(3, (9, 9, 9), norm="batch"),
            "i3d",
            r"weights .*stages.1.body.0.weight \(8, 8, 3, 3\) ",
        ),
        (
            resnet(3, (9, 9, 9), norm="batch", n_blocks=(2, 1), width=16),
            "acs",
            r"weights .*stem.0.weight \(8, 3, 7, 7\) for \(16, 3, 7, 7, 7\)",
        ),
        (
            resnet(2, (9, 9, 9), norm="batch", n_blocks=(2, 1)),
            "i3d",
            r"weights .*stem.0.weight \(8, 3, 7, 7\) for \(8, 2, 7, 7, 7\)",
        ),
        (
            resnet(3, (9, 1, 9), norm="batch", n_blocks=(2, 1)),
            "i3d",
            r"weights .*stages.0.body.0.weight \(8, 8, 3, 3\) for \(8, 8, 3, 1, 3\)",
        ),
        (
            resnet(3, (1, 9, 9), norm="batch", n_blocks=(2, 1)),
            "acs",
            r"weights .*stages.0.body.0.weight \(8, 8, 3, 3\) for \(8, 8, 1, 3, 3\)",
        ),
        (resnet(3, (9, 9), norm="batch", n_blocks=(2, 1)), "i3d", r"network must be a network of"),
    ],
)
def test_layers_that_do_not_fit_are_named(image_net, net, how, message):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ParameterError, match=f"^{message}"):
        inflate(image_net, net, how)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_volume_of_one_slice_is_an_image(image_net):
    net = resnet(3, (1, 32, 30), n_blocks=(2, 1), norm="batch").double().eval()
    image = draw_images(2, 3, 32, 30, dtype=torch.float64)
    torch.testing.assert_close(inflate(image_net, net)(image.unsqueeze(2)), image_net(image))
