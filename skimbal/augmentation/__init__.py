"""Random changes to whole batches of images on their device, with a draw for each image.

Every operation has two parts: a draw, and a function of images and draw without any randomness. The
CPU makes the draw, so that it is the same for every device.
"""

from skimbal.augmentation.functions import (
    adjust_gamma,
    adjust_sigmoid,
    crop,
    flip,
    gaussian_blur,
)
from skimbal.augmentation.geometry import RandomFlip
from skimbal.augmentation.intensity import (
    RandomGamma,
    RandomGaussianBlur,
    RandomSigmoidContrast,
)
from skimbal.augmentation.per_sample import PerSample
from skimbal.augmentation.random_change import alike, mirrored_axes
from skimbal.augmentation.recipes import RECIPES, AugmentSpec, get_augmentation
from skimbal.augmentation.windows import CenterCrop, RandomCrop

__all__ = [
    "RECIPES",
    "AugmentSpec",
    "CenterCrop",
    "PerSample",
    "RandomCrop",
    "RandomFlip",
    "RandomGamma",
    "RandomGaussianBlur",
    "RandomSigmoidContrast",
    "adjust_gamma",
    "adjust_sigmoid",
    "alike",
    "crop",
    "flip",
    "gaussian_blur",
    "get_augmentation",
    "mirrored_axes",
]
