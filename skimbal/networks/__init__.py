"""Built-in networks for 2D images and volumes, and the layers that they are made of."""

from skimbal.networks.built_in import BUILT_IN
from skimbal.networks.folding import fold_batch_norm
from skimbal.networks.layers import GridPool, ResidualBlock
from skimbal.networks.residual import ResidualCNN
from skimbal.networks.resnet import ResNet
from skimbal.networks.small import SmallCNN

__all__ = [
    "BUILT_IN",
    "GridPool",
    "ResNet",
    "ResidualBlock",
    "ResidualCNN",
    "SmallCNN",
    "fold_batch_norm",
]
