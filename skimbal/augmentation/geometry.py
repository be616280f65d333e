"""Random changes of the places of voxels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from skimbal.augmentation.functions import flip
from skimbal.augmentation.random_change import RandomChange, check_probability
from skimbal.exceptions import ParameterError
from skimbal.typing import is_integer

__all__ = ["RandomFlip"]


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
        return (torch.rand(len(images), n_axes) < self.p) & wanted

    def change(self, images: Tensor, draw: Tensor) -> Tensor:
        """Mirror images of shape (n, c, ...)."""
        return flip(images, draw)

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"axes={self.axes}, p={self.p}"
