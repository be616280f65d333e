"""Networks and images for the tests of this folder."""

import torch
from torch import nn

from skimbal.networks import BUILT_IN

NAMES = ["small", "residual", "resnet18", "resnet34"]


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
