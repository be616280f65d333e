"""The skorch net inside the classifiers: whole batches, weighted losses, micro-batches, precision.

It lives in encoded labels (0 to ``n_classes - 1``) and in arrays that have been checked.
"""

from skimbal.training.batches import BlockIterator, TrainIterator
from skimbal.training.callbacks import CosineSchedule, EpochProgress, IncompleteBatches
from skimbal.training.dataset import DeviceDataset, ImageDataset
from skimbal.training.epoch import can_be_fused
from skimbal.training.forward import softmax
from skimbal.training.net import TrainingNet
from skimbal.training.random_state import isolated_random_state
from skimbal.training.standardize import StandardizedModule, channel_statistics

__all__ = [
    "BlockIterator",
    "CosineSchedule",
    "DeviceDataset",
    "EpochProgress",
    "ImageDataset",
    "IncompleteBatches",
    "StandardizedModule",
    "TrainIterator",
    "TrainingNet",
    "can_be_fused",
    "channel_statistics",
    "isolated_random_state",
    "softmax",
]
