"""Built-in networks for 2D images and volumes, and the layers that they are made of."""

from skimbal.networks.built_in import BUILT_IN
from skimbal.networks.folding import fold_batch_norm
from skimbal.networks.layers import GridPool, ResidualBlock
from skimbal.networks.residual import ResidualCNN
from skimbal.networks.resnet import ResNet
from skimbal.networks.small import SmallCNN
from skimbal.networks.spec import (
    LearningRateFactors,
    ModuleSpec,
    NetworkSpec,
    PixelRange,
    SplitNetwork,
    Unfreezable,
)

__all__ = [
    "BUILT_IN",
    "GridPool",
    "LearningRateFactors",
    "ModuleSpec",
    "NetworkSpec",
    "PixelRange",
    "ResNet",
    "ResidualBlock",
    "ResidualCNN",
    "SmallCNN",
    "SplitNetwork",
    "Unfreezable",
    "fold_batch_norm",
]
