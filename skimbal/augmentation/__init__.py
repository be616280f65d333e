"""Random changes to whole batches of images on their device, with a draw for each image.

Every operation has two parts: a draw, and a function of images and draw without any randomness. The
CPU makes the draw, so that it is the same for every device.
"""

from skimbal.augmentation.functions import (
    adjust_gamma,
    adjust_sigmoid,
    affine,
    crop,
    erase,
    flip,
    gaussian_blur,
    permute_axes,
)
from skimbal.augmentation.geometry import RandomAffine, RandomFlip, RandomSymmetry
from skimbal.augmentation.intensity import (
    RandomGamma,
    RandomGaussianBlur,
    RandomSigmoidContrast,
)
from skimbal.augmentation.mixing import MAMix, MixDraw, Mixup, Remix, divide_steps
from skimbal.augmentation.per_sample import PerSample
from skimbal.augmentation.random_change import OneOf, alike, mirrored_axes
from skimbal.augmentation.recipes import RECIPES, AugmentSpec, get_augmentation
from skimbal.augmentation.windows import CenterCrop, RandomCrop, RandomErasing

__all__ = [
    "RECIPES",
    "AugmentSpec",
    "CenterCrop",
    "MAMix",
    "MixDraw",
    "Mixup",
    "OneOf",
    "PerSample",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomGamma",
    "RandomGaussianBlur",
    "RandomSigmoidContrast",
    "RandomSymmetry",
    "Remix",
    "adjust_gamma",
    "adjust_sigmoid",
    "affine",
    "alike",
    "crop",
    "divide_steps",
    "erase",
    "flip",
    "gaussian_blur",
    "get_augmentation",
    "mirrored_axes",
    "permute_axes",
]
