"""The networks that classifiers know by name."""

from collections.abc import Callable
from functools import partial

from torch import nn

from skimbal.networks.residual import ResidualCNN
from skimbal.networks.resnet import ResNet
from skimbal.networks.small import SmallCNN

__all__ = ["BUILT_IN"]

#: Networks that ``module=`` of the classifiers knows by name: called as
#: ``f(in_channels, n_classes, spatial_shape=...)``, they return a network that maps images of shape
#: (n, in_channels, ...) to logits of shape (n, n_classes). It is read when a network is
#: built, so a row that is added is known to the classifiers, to studies and to the command line.
BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "small": SmallCNN,
    "residual": ResidualCNN,
    "resnet18": partial(ResNet, n_blocks=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, n_blocks=(3, 4, 6, 3)),
}
