"""Transforms of one image, and transforms of other libraries."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from skimbal.augmentation import PerSample, get_augmentation
from tests.augmentation.data import SHAPES, some_images


def test_one_image_after_the_other(rng):
    images = some_images(rng, (4, 2, 3, 3))
    assert torch.equal(PerSample(lambda image: image.flip(1))(images), images.flip(2))
    # An array in another dtype, as transforms of scipy and numpy give out.
    rotated = PerSample(lambda image: ndimage.rotate(image.double(), 90, (1, 2), order=0))(images)
    assert rotated.dtype == images.dtype
    np.testing.assert_array_equal(rotated, np.rot90(images, 1, (2, 3)))


def test_subclasses_of_tensors_become_plain(rng):
    class Labelled(torch.Tensor):
        pass

    images = some_images(rng, SHAPES[0])
    result = PerSample(lambda image: (image + 1).as_subclass(Labelled))(images)
    assert type(result) is torch.Tensor
    assert torch.equal(result, images + 1)


def test_generators_of_transforms_are_seeded_from_that_of_torch(rng):
    class Noise:
        """As the transforms of MONAI are, with a generator of its own."""

        def set_random_state(self, seed):
            self.generator = np.random.RandomState(seed)

        def __call__(self, image):
            return image + self.generator.normal()

    images, module = some_images(rng, SHAPES[0]), PerSample(Noise())
    torch.manual_seed(0)
    first, second = module(images), module(images)
    torch.manual_seed(0)
    assert torch.equal(module(images), first)
    assert not torch.equal(first, second)
    shifts = (first - images).flatten(1).mean(1)
    assert len(shifts.unique()) == len(images)


def kornia_2d():
    from kornia import augmentation

    return augmentation.RandomAffine(degrees=30.0, p=1.0), 2


def kornia_3d():
    from kornia import augmentation

    return augmentation.RandomRotation3D((20.0, 20.0, 20.0), p=1.0), 3


def monai_3d():
    from monai import transforms

    noise = transforms.RandGaussianNoise(prob=1.0, std=5.0)
    return PerSample(transforms.Compose([transforms.RandFlip(prob=0.5), noise])), 3


def torchio_3d():
    import torchio

    return PerSample(torchio.RandomAffine(degrees=20)), 3


@pytest.mark.parametrize("make", [kornia_2d, kornia_3d, monai_3d, torchio_3d])
def test_transforms_of_other_libraries_as_they_are(rng, make):
    transform, n_axes = make()
    images = some_images(rng, (4, 1, *[10] * n_axes))
    module = get_augmentation(["flip", transform], n_axes)
    torch.manual_seed(0)
    first, second = module(images), module(images)
    torch.manual_seed(0)
    assert torch.equal(module(images), first)
    assert not torch.equal(first, second)
    assert first.shape == images.shape
    assert (type(first), first.dtype) == (torch.Tensor, images.dtype)
