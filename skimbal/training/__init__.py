"""The skorch net inside the classifiers: whole batches, weighted losses, micro-batches, precision.

It works with encoded labels (0 to ``n_classes - 1``) and with arrays that have been checked.
"""

from skimbal.training.batches import BlockIterator, TrainIterator, batches_in_epoch
from skimbal.training.blueprint import Blueprint, Parts
from skimbal.training.callbacks import LOGGERS, EpochProgress, IncompleteBatches
from skimbal.training.contrast import PixelSample
from skimbal.training.dataset import Batch, DeviceDataset, ImageDataset
from skimbal.training.devices import device_type, is_at, is_cuda, release_memory, with_index
from skimbal.training.divergence import broken_weights, diverged
from skimbal.training.fine_tuning import check_unfreezing
from skimbal.training.forward import infer_with, softmax
from skimbal.training.gradient import carry_scale
from skimbal.training.layout import Layout
from skimbal.training.memory import Place, are_short_of_memory, place_of, set_rows_at_once
from skimbal.training.net import TrainingNet
from skimbal.training.optimizers import (
    OPTIMIZERS,
    can_be_fused,
    default_rate,
    is_like_adam,
    takes_several_gradients,
)
from skimbal.training.orphans import end_with_parent
from skimbal.training.prediction import Change
from skimbal.training.processes import Alone, Processes, Together, join
from skimbal.training.random_state import draw_seed, isolated_random_state
from skimbal.training.resume import Resumption
from skimbal.training.saving import device_at_hand, is_being_saved, is_copied, why_not_pickled
from skimbal.training.schedules import SCHEDULES
from skimbal.training.sklearn_callbacks import Tasks, generators_kept, raised_in_all
from skimbal.training.standardize import StandardizedModule, channel_statistics, pixel_range
from skimbal.training.surroundings import plain_torch, trainable_torch

__all__ = [
    "LOGGERS",
    "OPTIMIZERS",
    "SCHEDULES",
    "Alone",
    "Batch",
    "BlockIterator",
    "Blueprint",
    "Change",
    "DeviceDataset",
    "EpochProgress",
    "ImageDataset",
    "IncompleteBatches",
    "Layout",
    "Parts",
    "PixelSample",
    "Place",
    "Processes",
    "Resumption",
    "StandardizedModule",
    "Tasks",
    "Together",
    "TrainIterator",
    "TrainingNet",
    "are_short_of_memory",
    "batches_in_epoch",
    "broken_weights",
    "can_be_fused",
    "carry_scale",
    "channel_statistics",
    "check_unfreezing",
    "default_rate",
    "device_at_hand",
    "device_type",
    "diverged",
    "draw_seed",
    "end_with_parent",
    "generators_kept",
    "infer_with",
    "is_at",
    "is_being_saved",
    "is_copied",
    "is_cuda",
    "is_like_adam",
    "isolated_random_state",
    "join",
    "pixel_range",
    "place_of",
    "plain_torch",
    "raised_in_all",
    "release_memory",
    "set_rows_at_once",
    "softmax",
    "takes_several_gradients",
    "trainable_torch",
    "why_not_pickled",
    "with_index",
]
