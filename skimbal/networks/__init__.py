"""Built-in networks for 2D images and volumes, and the layers that they are made of."""

from skimbal.networks.built_in import BUILT_IN
from skimbal.networks.folding import fold_batch_norm
from skimbal.networks.inflation import inflate
from skimbal.networks.layers import ACSConv3d, GridPool, ResidualBlock
from skimbal.networks.pretrained import Pretrained, PretrainedNetwork
from skimbal.networks.residual import ResidualCNN
from skimbal.networks.resnet import ResNet
from skimbal.networks.slices import SliceNet
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
    "ACSConv3d",
    "GridPool",
    "LearningRateFactors",
    "ModuleSpec",
    "NetworkSpec",
    "PixelRange",
    "Pretrained",
    "PretrainedNetwork",
    "ResNet",
    "ResidualBlock",
    "ResidualCNN",
    "SliceNet",
    "SmallCNN",
    "SplitNetwork",
    "Unfreezable",
    "fold_batch_norm",
    "inflate",
]
