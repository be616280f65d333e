"""Convolutional networks in one implementation for any number of spatial axes."""

from collections.abc import Callable
from functools import partial

from torch import nn

from skimbal.networks.resnet import ResNet
from skimbal.networks.small import SmallCNN

__all__ = ["BUILT_IN"]

#: Networks that ``module=`` of the classifiers knows by name.
BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "small": SmallCNN,
    "resnet18": partial(ResNet, n_blocks=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, n_blocks=(3, 4, 6, 3)),
}
