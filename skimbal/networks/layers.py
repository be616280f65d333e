"""Layers that the networks share."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MAX_POOL", "WidenedConv2d", "check_sizes", "make_conv", "norm_factory", "padded_before"]

#: Called with the number of channels, gives the normalisation layer.
Norm = Callable[[int], nn.Module]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut: the basic block of He et al. (2016).

    Parameters
    ----------
    in_channels, out_channels : int
        Number of channels before and after.
    kernel_size, stride : sequence of int
        Along each spatial axis, in voxels.
    norm : callable
        Makes a normalisation layer for a number of channels.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skimbal.networks import ResidualBlock
    >>> block = ResidualBlock(8, 16, (3, 3), (2, 2), nn.BatchNorm2d)
    >>> block(torch.zeros(1, 8, 7, 7)).shape
    torch.Size([1, 16, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        norm: Norm,
    ) -> None:
        super().__init__()
        ones = [1] * len(kernel_size)
        self.body = nn.Sequential(
            make_conv(in_channels, out_channels, kernel_size, stride),
            norm(out_channels),
            nn.ReLU(inplace=True),
            make_conv(out_channels, out_channels, kernel_size, ones),
            norm(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or any(step != 1 for step in stride):
            self.shortcut = nn.Sequential(
                make_conv(in_channels, out_channels, ones, stride), norm(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, *spatial)
            Features.

        Returns
        -------
        y : Tensor of shape (n_samples, out_channels, *spatial)
            Features, the spatial axes divided by the stride and rounded up.
        """
        y: Tensor = self.body(x)
        return y.add_(self.shortcut(x)).relu_()


class GridPool(nn.Module):
    """Adaptive average pooling, axis by axis.

    Torch's own has no deterministic gradient on CUDA, and is refused there under
    :func:`torch.use_deterministic_algorithms`.

    Parameters
    ----------
    grid : sequence of int
        Size of the output along each spatial axis, in voxels.

    Examples
    --------
    >>> import torch
    >>> from skimbal.networks import GridPool
    >>> GridPool((2, 1))(torch.zeros(4, 8, 5, 3)).shape
    torch.Size([4, 8, 2, 1])
    """

    def __init__(self, grid: Sequence[int]) -> None:
        super().__init__()
        self.grid = tuple(grid)

    def forward(self, x: Tensor) -> Tensor:
        """Average over the bins of each axis.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_channels, *spatial)
            Features.

        Returns
        -------
        y : Tensor of shape (n_samples, n_channels, *grid)
            Features.
        """
        for axis, n_bins in enumerate(self.grid, start=2):
            size = x.shape[axis]
            if size != n_bins:
                edges = [(i * size // n_bins, -(-(i + 1) * size // n_bins)) for i in range(n_bins)]
                bins = [x.narrow(axis, low, high - low).mean(axis) for low, high in edges]
                x = torch.stack(bins, axis)
        return x


_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_BATCH_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def make_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    bias: bool = False,
) -> nn.Module:
    make = _CONV[len(kernel_size)]
    if len(kernel_size) == 2 and max(kernel_size) == 1 < max(stride) and in_channels < 16:
        make = WidenedConv2d
    conv: nn.Module = make(
        in_channels,
        out_channels,
        tuple(kernel_size),
        tuple(stride),
        padding=tuple(size // 2 for size in kernel_size),
        bias=bias,
    )
    return conv


class WidenedConv2d(nn.Conv2d):
    """A 1 x 1 convolution in steps, computed as one of 3 x 3 whose other weights are zero.

    With AVX-512, oneDNN of torch 2.13 writes beyond its memory in the gradient of the former over
    less than 16 channels.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Compute the convolution."""
        weight = nn.functional.pad(self.weight, (1, 1, 1, 1))
        return nn.functional.conv2d(input, weight, self.bias, self.stride, padding=1)


def padded_before(conv: Any) -> nn.Module:
    """Pad the slices of a volume outside of the convolution, which computes the same.

    With AVX-512, oneDNN of torch 2.13 gets the gradient of a kernel of 7 slices in steps of 2
    wrong if it pads 5, 6 or 7 slices itself: it writes beyond its memory, or not all of it.
    """
    slices, *others = conv.padding
    conv.padding = (0, *others)
    return nn.Sequential(nn.ConstantPad3d((0, 0, 0, 0, slices, slices), 0.0), conv)


def norm_factory(norm: str, ndim: int) -> Norm:
    if norm == "batch":
        batch_norm: Norm = _BATCH_NORM[ndim]
        return batch_norm
    if norm == "group":
        # Groups of several channels, so that a single voxel still has something to vary.
        return lambda channels: nn.GroupNorm(math.gcd(8, channels // 2, channels), channels)
    raise ValueError(f"norm must be 'group' or 'batch', got {norm!r}.")


def check_sizes(spatial_shape: Sequence[int], *sizes: Any) -> None:
    if len(spatial_shape) not in _CONV:
        raise ValueError(f"spatial_shape must be (h, w) or (d, h, w), got {spatial_shape!r}.")
    for size in (*spatial_shape, *sizes):
        if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
            raise ValueError(
                "channels, classes, widths, numbers of blocks and sizes of axes must be positive "
                f"integers, got {size!r}."
            )
