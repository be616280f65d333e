"""Weights of convolutions in the order of the processor."""

import pytest
import torch
from torch import nn

from skimbal.networks.prepacking import WeightsState, layers_of, prepack
from tests.networks.data import NAMES, draw_images, make

SHAPES = [(17, 20), (9, 8, 10)]


def is_packed(network):
    return [layer for layer in network.modules() if "forward" in vars(layer)]


def packed_and_expected(net, x):
    with torch.inference_mode():
        return prepack(net, x), net(x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("spatial_shape", SHAPES)
def test_packed_network_is_equal(name, norm, spatial_shape):
    net = make(name, 2, spatial_shape, norm=norm, width=8).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for n_rows, n_others in ((3, 1), (1, 4)):
        packed, expected = packed_and_expected(net, draw_images(n_rows, 2, *spatial_shape))
        assert is_packed(packed)
        assert not is_packed(net)
        others = draw_images(n_others, 2, *spatial_shape) + 1
        with torch.inference_mode():
            torch.testing.assert_close(
                packed(draw_images(n_rows, 2, *spatial_shape)), expected, rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(packed(others), net(others), rtol=1e-4, atol=1e-5)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])
    parameters = {id(parameter) for parameter in net.parameters()}
    assert {id(parameter) for parameter in packed.parameters()} == parameters


class Cases(nn.Module):
    """Convolutions of all kinds, with groups, dilation, strides, and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, groups=2, padding=1)
        self.dilated = nn.Conv2d(8, 8, 3, dilation=2, padding=2, stride=2)
        self.twice = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.same = nn.Conv2d(8, 8, 3, padding="same")
        self.reflect = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.back = nn.ConvTranspose2d(8, 2, 2)

    def forward(self, x):
        x = self.dilated(self.grouped(x))
        return self.back(self.reflect(self.same(self.twice(self.twice(x)).relu())))


def test_all_kinds_of_convolutions():
    net = Cases().eval()
    packed, expected = packed_and_expected(net, draw_images(2, 4, 32, 32))
    assert len(is_packed(packed)) == 3  # the plain convolutions, each once
    with torch.inference_mode():
        torch.testing.assert_close(packed(draw_images(2, 4, 32, 32)), expected)


class Random(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.conv(x) + torch.rand(())


def hooked():
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    net[0].register_forward_hook(lambda *args: None)
    return net


def low():
    return nn.Sequential(nn.Conv2d(1, 2, 3)).to(torch.bfloat16)


def overridden():
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    net[0].forward = lambda x: x[:, :, 1:-1, 1:-1].repeat(1, 2, 1, 1)
    return net


def scripted():
    return torch.jit.trace(nn.Sequential(nn.Conv2d(1, 2, 3)), draw_images(1, 1, 8, 8))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make_net", [scripted, Random, hooked, low, overridden, nn.Identity])
def test_a_network_that_cannot_be_packed_stays_as_it_is(make_net):
    net = make_net().eval()
    x = draw_images(2, 1, 8, 8)
    x = x.to(torch.bfloat16) if make_net is low else x
    with torch.inference_mode():
        assert prepack(net, x) is net


def test_a_torch_without_these_functions_predicts_without_them(monkeypatch):
    net, x = nn.Sequential(nn.Conv2d(1, 2, 3)).eval(), draw_images(2, 1, 8, 8)

    def fail(*args):
        raise RuntimeError("another signature")

    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", fail)
    assert prepack(net, x) is net
    monkeypatch.setattr(
        torch.ops.mkldnn, "_convolution_pointwise", lambda x, *args: torch.zeros(2, 2, 6, 6)
    )
    assert prepack(net, x) is net  # another result
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert prepack(net, x) is net


def scale_weights(net):
    with torch.no_grad():
        net[0].weight.mul_(2)


def scale_data(net):
    net[0].weight.data.mul_(2)


def replace_data(net):
    net[0].weight.data = net[0].weight.data * 2


def replace_parameter(net):
    net[0].weight = nn.Parameter(net[0].weight * 2)


def replace_layer(net):
    net[2] = nn.Linear(4, 2)


def load(net):
    net.load_state_dict({name: 2 * value for name, value in net.state_dict().items()})


def shift_buffer(net):
    net[1].running_mean.add_(1)


def train(net):
    net[1].train()


def hook(net):
    net[0].register_forward_hook(lambda *args: None)


CHANGES = [scale_weights, scale_data, replace_data, replace_parameter, replace_layer, load]


@pytest.mark.parametrize("change", [*CHANGES, shift_buffer, train, hook])
def test_a_change_of_the_weights_is_seen(change):
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    state = WeightsState(net)
    assert state.is_of(net)
    net(draw_images(3, 2, 6))
    assert state.is_of(net)
    change(net)
    assert not state.is_of(net)
    assert WeightsState(net).is_of(net)


def test_weights_of_other_kinds_are_looked_at_as_far_as_they_can_be():
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    net.register_buffer("sparse", torch.eye(3).to_sparse())
    net.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with torch.inference_mode():
        net.register_buffer("inference", torch.zeros(2))
    state = WeightsState(net)
    assert state.is_of(net)
    net.sparse = net.sparse * 2
    assert not state.is_of(net)


def test_layers_are_those_of_torch():
    net = make(NAMES[0], 1, (9, 9))
    assert {*layers_of(net)} == {*net.modules()}
