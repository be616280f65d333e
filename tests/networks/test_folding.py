"""Batch normalisation folded into convolutions."""

import pytest
import torch
from torch import nn

from skimbal.networks import fold_batch_norm
from tests.networks.data import NAMES, draw_images, make


def after_training(net, *shape):
    """Give batch normalisations statistics that are not those of the start."""
    net.train()
    for _ in range(3):
        net(draw_images(*shape) * 3 + 1)
    return net.eval()


def norms(net):
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]


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
