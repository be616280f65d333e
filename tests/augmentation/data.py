"""Images for the tests of this folder, and modules that change images with a probability."""

import numpy as np
import torch

from skimbal.augmentation import (
    RECIPES,
    RandomAffine,
    RandomErasing,
    RandomFlip,
    RandomGamma,
    RandomGaussianBlur,
    RandomSigmoidContrast,
    divide_steps,
    get_augmentation,
)

SHAPES = [(5, 3, 9, 12), (4, 2, 7, 8, 6)]
#: One of each that changes images with a probability.
RANDOM = {
    "flip": RandomFlip,
    "gamma": RandomGamma,
    "blur": RandomGaussianBlur,
    "sigmoid": RandomSigmoidContrast,
    "affine": RandomAffine,
    "erasing": RandomErasing,
}


def some_images(rng, shape, dtype=torch.float32):
    # Neither scale nor offset of the channels is that of another.
    per_channel = np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2))
    return torch.from_numpy(rng.normal(-5, 2, shape) * 10.0**per_channel).to(dtype)


def channels(images):
    """Yield (index, channel of an image as float64) of each."""
    for index in np.ndindex(*images.shape[:2]):
        yield index, images[index].double().numpy()


#: Recipes that change each image by itself. The others mix images, and need labels.
OF_SINGLE_IMAGES = [name for name in RECIPES if not divide_steps(get_augmentation(name, 2))[1]]
