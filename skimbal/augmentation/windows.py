"""Windows of images, cut out or erased."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skimbal.augmentation.functions import Change, settle_box, settle_crop
from skimbal.augmentation.random_change import RandomChange, RandomOfSome, check_bounds
from skimbal.exceptions import ParameterError
from skimbal.typing import is_integer

__all__ = ["CenterCrop", "RandomCrop", "RandomErasing"]


class RandomCrop(RandomChange):
    """Cut a window out of each image, at a random place.

    Parameters
    ----------
    size : int or sequence of int
        Size of the window, in voxels, along every or along each axis.

    Raises
    ------
    ParameterError
        If ``size`` is not made of positive integers, or does not fit the images.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomCrop
    >>> RandomCrop(24)(torch.zeros(5, 1, 32, 28)).shape
    torch.Size([5, 1, 24, 24])
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__()
        self.size = _crop_size(size)

    def draw(self, images: Tensor) -> Tensor:
        """Draw the first voxel of each window, of shape (n, n_spatial_axes)."""
        room = torch.tensor(_room(images, self.size))
        start = (torch.rand(len(images), len(room), dtype=torch.float64) * (room + 1)).long()
        return torch.minimum(start, room)  # rounding may give the end itself

    def settle(self, like: Tensor, draw: Tensor) -> Change:
        """Settle the window of each image."""
        return settle_crop(draw, _each_axis(self.size, draw.shape[1]))

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"size={self.size}"


class CenterCrop(nn.Module):
    """Cut the window in the centre out of each image, without a copy.

    Parameters
    ----------
    size : int or sequence of int
        Size of the window, in voxels, along every or along each axis. If the centre lies between
        two voxels, the window begins at the first.

    Raises
    ------
    ParameterError
        If ``size`` is not made of positive integers, or does not fit the images.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import CenterCrop
    >>> CenterCrop(2)(torch.arange(5).reshape(1, 1, 5))
    tensor([[[1, 2]]])
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__()
        self.size = _crop_size(size)

    def forward(self, images: Tensor) -> Tensor:
        """Cut windows out of images of shape (n, c, ...)."""
        sizes = _each_axis(self.size, images.ndim - 2)
        for axis, (room, size) in enumerate(
            zip(_room(images, self.size), sizes, strict=True), start=2
        ):
            images = images.narrow(axis, room // 2, size)
        return images

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"size={self.size}"


class RandomErasing(RandomOfSome):
    """Replace a random box in each image by the mean of each channel (Zhong et al., 2020).

    The images are changed by :func:`~skimbal.augmentation.erase`.

    Parameters
    ----------
    share : (float, float), default=(0.1, 0.4)
        Range of the length of the box along each axis, as a share of the axis, in [0, 1]. It is
        drawn uniformly for each axis of each image, and the box has at least one voxel.
    p : float, default=0.5
        Probability to change an image, in [0, 1].

    Raises
    ------
    ParameterError
        If ``share`` is not a range in [0, 1], or ``p`` is not a number in [0, 1].

    References
    ----------
    Zhong, Z., Zheng, L., Kang, G., Li, S. and Yang, Y. (2020). Random erasing data augmentation.
    AAAI, 13001-13008.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomErasing
    >>> RandomErasing(share=(1, 1), p=1)(torch.tensor([[[0.0, 1.0, 2.0]]]))
    tensor([[[1., 1., 1.]]])
    """

    def __init__(self, share: Sequence[float] = (0.1, 0.4), p: float = 0.5) -> None:
        super().__init__(p)
        self.share = check_bounds("share", share, positive=False)
        if self.share[1] > 1:
            raise ParameterError("share", "a pair (lowest, highest) of numbers in [0, 1]", share)

    def draw_each(self, images: Tensor) -> Tensor:
        """Draw the ends of the box along each axis, of shape (n, n_spatial_axes, 2)."""
        size, (low, high) = torch.tensor(images.shape[2:]), self.share
        draw = torch.rand(len(images), len(size), 2, dtype=torch.float64)
        length = ((low + (high - low) * draw[..., 0]) * size).round().clamp(min=1)
        start = torch.minimum((draw[..., 1] * (size - length + 1)).floor(), size - length)
        return torch.stack([start, start + length], 2)

    def settle_each(self, like: Tensor, draw: Tensor) -> Change:
        """Settle the change of every image, each by its box."""
        return settle_box(draw)

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"share={self.share}, p={self.p}"


def _room(images: Tensor, size: int | tuple[int, ...]) -> list[int]:
    """Return by how much images exceed a window along each axis."""
    shape = images.shape[2:]
    room = [have - want for have, want in zip(shape, _each_axis(size, len(shape)), strict=True)]
    if min(room) < 0:
        raise ParameterError("size", f"at most the size {tuple(shape)} of the images", size)
    return room


def _each_axis(size: int | tuple[int, ...], n_axes: int) -> tuple[int, ...]:
    sizes = (size,) * n_axes if isinstance(size, int) else size
    if len(sizes) != n_axes:
        raise ParameterError(
            "size", f"one number, or one for each of the {n_axes} spatial axes of the images", size
        )
    return sizes


def _crop_size(size: int | Sequence[int]) -> int | tuple[int, ...]:
    if is_integer(size) and size > 0:
        return int(size)
    if isinstance(size, list | tuple) and size and all(is_integer(n) and n > 0 for n in size):
        return tuple(map(int, size))
    raise ParameterError("size", "a positive integer or a list of positive integers", size)
