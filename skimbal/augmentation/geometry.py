"""Random changes of the places of voxels."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from skimbal.augmentation.functions import (
    Change,
    in_turn,
    settle_affine,
    settle_flip,
    settle_order,
)
from skimbal.augmentation.random_change import (
    RandomChange,
    RandomOfSome,
    check_bounds,
    check_probability,
)
from skimbal.exceptions import ParameterError
from skimbal.typing import is_integer, is_number

__all__ = ["RandomAffine", "RandomFlip", "RandomSymmetry"]


class RandomFlip(RandomChange):
    """Mirror images at random, along each axis by itself.

    Parameters
    ----------
    axes : sequence of int, default=None
        Spatial axes, from 0, or from -1 backwards. If None, all spatial axes.
    p : float, default=0.5
        Probability to mirror an image along an axis, in [0, 1].

    Raises
    ------
    ParameterError
        If ``axes`` is not a list of integers, or ``p`` is not a number in [0, 1].

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomFlip
    >>> RandomFlip(axes=[-1], p=1)(torch.tensor([[[1, 2, 3]]]))
    tensor([[[3, 2, 1]]])
    """

    def __init__(self, axes: Sequence[int] | None = None, p: float = 0.5) -> None:
        super().__init__()
        if axes is not None and not (
            isinstance(axes, list | tuple) and all(is_integer(axis) for axis in axes)
        ):
            raise ParameterError("axes", "None or a list of integers", axes)
        self.axes = None if axes is None else tuple(axes)
        self.p = check_probability(p)

    def mirrored_axes(self, n_axes: int) -> set[int]:
        """Return the spatial axes along which images may be mirrored, from 0."""
        axes = range(n_axes) if self.axes is None else self.axes
        return {axis % n_axes for axis in axes} if self.p > 0 else set()

    def draw(self, images: Tensor) -> Tensor:
        """Draw which axes of which images are mirrored, of shape (n, n_spatial_axes)."""
        n_axes = images.ndim - 2
        axes = range(n_axes) if self.axes is None else self.axes
        if not all(-n_axes <= axis < n_axes for axis in axes):
            raise ParameterError(
                "axes",
                f"spatial axes of the images, from {-n_axes} to {n_axes - 1}",
                self.axes,
                f"The images have shape {tuple(images.shape)}.",
            )
        wanted = torch.zeros(n_axes, dtype=torch.bool)
        wanted[list(axes)] = True
        return (torch.rand(len(images), n_axes, dtype=torch.float32) < self.p) & wanted

    def settle(self, like: Tensor, draw: Tensor) -> Change:
        """Settle which images are mirrored."""
        return settle_flip(draw)

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"axes={self.axes}, p={self.p}"


class RandomSymmetry(RandomChange):
    """Turn and mirror images at random, onto themselves.

    Each image becomes one of the 8 images that turns by 90 degrees and mirrors make of a square, or
    one of 48 for a cube, all with the same probability. Only axes of the same size are swapped.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomSymmetry
    >>> images = torch.arange(4).reshape(1, 1, 2, 2).expand(1000, -1, -1, -1)
    >>> len(RandomSymmetry()(images).unique(dim=0))
    8
    """

    def __init__(self) -> None:
        super().__init__()

    def mirrored_axes(self, n_axes: int) -> set[int]:
        """Return all spatial axes."""
        return set(range(n_axes))

    def draw(self, images: Tensor) -> Tensor:
        """Draw an order of the axes and which of them are mirrored, of shape (n, n_axes, 2)."""
        size = torch.tensor(images.shape[2:])
        keys = torch.rand(len(images), len(size), 2, dtype=torch.float64)
        order = torch.empty(len(images), len(size), dtype=torch.int64)
        # Sorted by size, the axes of a size follow one another, at random among themselves.
        order[:, size.argsort()] = (size + keys[..., 0]).argsort(1)
        return torch.stack([order, (keys[..., 1] < 0.5).long()], 2)

    def settle(self, like: Tensor, draw: Tensor) -> Change:
        """Settle which images are turned and mirrored."""
        return in_turn(settle_order(draw[..., 0]), settle_flip(draw[..., 1].bool()))


class RandomAffine(RandomOfSome):
    """Rotate, scale and shift images at random, by one interpolation.

    The images are changed by :func:`~skimbal.augmentation.affine`. The parameters have the names of
    torchvision's transform, and act in two and three dimensions. Angles and scales are in voxels:
    in images with other spacings along other axes, a rotation also shears.

    Parameters
    ----------
    degrees : float, default=10
        Largest angle, in degrees, in [0, 180]. An angle between ``-degrees`` and ``degrees`` is
        drawn uniformly for the plane of each pair of axes, of which a volume has three. Planes with
        an axis of one voxel are not rotated.
    translate : float, default=0.08
        Largest shift along each axis, as a share of its size, in [0, 1]. The shift is drawn
        uniformly, too.
    scale : (float, float), default=(0.9, 1.1)
        Range of the factor that enlarges an image, the same along all axes, dimensionless and
        positive. It is drawn uniformly.
    p : float, default=1.0
        Probability to change an image, in [0, 1].

    Raises
    ------
    ParameterError
        If ``degrees`` or ``translate`` is not a number in its range, ``scale`` is not a range of
        positive numbers, or ``p`` is not a number in [0, 1].

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomAffine
    >>> RandomAffine()(torch.rand(16, 1, 28, 28, 28)).shape
    torch.Size([16, 1, 28, 28, 28])
    """

    def __init__(
        self,
        degrees: float = 10,
        translate: float = 0.08,
        scale: Sequence[float] = (0.9, 1.1),
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        for name, number, most in (("degrees", degrees, 180), ("translate", translate, 1)):
            if not is_number(number) or not 0 <= number <= most:
                raise ParameterError(name, f"a number in [0, {most}]", number)
        self.degrees, self.translate = float(degrees), float(translate)
        self.scale = check_bounds("scale", scale, positive=True)

    def draw_each(self, images: Tensor) -> Tensor:
        """Draw a matrix and a shift for each image, of shape (n, n_axes, n_axes + 1)."""
        size = images.shape[2:]
        planes = list(combinations(range(len(size)), 2))
        draw = torch.rand(len(images), len(planes) + len(size) + 1, dtype=torch.float64)
        # In numpy, whose operations on so few numbers take a third of the time.
        angles, shift, scale = np.split(draw.numpy(), [len(planes), -1], axis=1)
        angles = (2 * angles - 1) * math.radians(self.degrees)
        low, high = self.scale
        matrix = np.zeros((len(images), len(size), len(size) + 1))
        # Enlarged images come from voxels that are closer together.
        matrix[:, range(len(size)), range(len(size))] = 1 / (low + (high - low) * scale)
        for (i, j), angle in zip(planes, angles.T, strict=True):
            if size[i] > 1 and size[j] > 1:
                cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
                first, second = matrix[:, :, i].copy(), matrix[:, :, j].copy()
                matrix[:, :, i] = cos * first + sin * second
                matrix[:, :, j] = cos * second - sin * first
        matrix[:, :, -1] = (2 * shift - 1) * self.translate * np.array(size)
        return torch.from_numpy(matrix)

    def settle_each(self, like: Tensor, draw: Tensor) -> Change:
        """Settle the change of every image, each by its matrix and shift."""
        return settle_affine(like, draw)

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"degrees={self.degrees}, translate={self.translate}, scale={self.scale}, p={self.p}"
