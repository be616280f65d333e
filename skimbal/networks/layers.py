"""Layers that the networks share."""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from skimbal.exceptions import ParameterError
from skimbal.typing import is_integer

__all__ = [
    "MAX_POOL",
    "ACSConv3d",
    "GridPool",
    "MakeNorm",
    "PaddedConv3d",
    "ResidualBlock",
    "WidenedConv2d",
    "check_sizes",
    "halve",
    "init_for_relu",
    "make_conv",
    "norm_factory",
]

#: Makes a normalisation layer for a number of channels.
MakeNorm: TypeAlias = Callable[[int], nn.Module]


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
        norm: MakeNorm,
    ) -> None:
        super().__init__()
        ones = [1] * len(kernel_size)
        self.body = nn.Sequential(
            make_conv(in_channels, out_channels, kernel_size, stride),
            norm(out_channels),
            nn.ReLU(),
            make_conv(out_channels, out_channels, kernel_size, ones),
            norm(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or any(step != 1 for step in stride):
            self.shortcut = nn.Sequential(
                make_conv(in_channels, out_channels, ones, stride), norm(out_channels)
            )
        # A module, not a function: methods that explain predictions replace its gradient.
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, ...)
            Features.

        Returns
        -------
        y : Tensor of shape (n_samples, out_channels, ...)
            Features, the spatial axes divided by the stride and rounded up.
        """
        # Not in place, here and in other layers: torch refuses this behind full backward hooks.
        y: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return y


class GridPool(nn.Module):
    """Adaptive average pooling, axis by axis.

    :class:`torch.nn.AdaptiveAvgPool2d` has no deterministic gradient on CUDA:
    :func:`torch.use_deterministic_algorithms` refuses it there.

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
        x : Tensor of shape (n_samples, n_channels, ...)
            Features.

        Returns
        -------
        y : Tensor of shape (n_samples, n_channels, ...)
            Features, with ``grid`` as their spatial shape.
        """
        for axis, n_bins in enumerate(self.grid, start=2):
            size = x.shape[axis]
            if size != n_bins:
                # Rounded up without negative numbers, which an ONNX graph rounds in another way.
                ends = [((i + 1) * size + n_bins - 1) // n_bins for i in range(n_bins)]
                edges = [(i * size // n_bins, end) for i, end in enumerate(ends)]
                bins = [x.narrow(axis, low, high - low).mean(axis) for low, high in edges]
                x = torch.stack(bins, axis)
        return x


_CONV: dict[int, Callable[..., nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM: dict[int, MakeNorm] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
#: Max pooling by the number of spatial axes.
MAX_POOL: dict[int, type[nn.MaxPool2d | nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def make_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    bias: bool = False,
    *,
    few_slices: bool = False,
) -> nn.Conv2d | nn.Conv3d:
    """Make a convolution that keeps the size of the images, divided by the stride."""
    make = _CONV[len(kernel_size)]
    if few_slices:
        make = PaddedConv3d
    if len(kernel_size) == 2 and max(kernel_size) == 1 < max(stride) and in_channels < 16:
        make = WidenedConv2d
    return make(
        in_channels,
        out_channels,
        tuple(kernel_size),
        tuple(stride),
        padding=tuple(size // 2 for size in kernel_size),
        bias=bias,
    )


class WidenedConv2d(nn.Conv2d):
    """A strided 1 x 1 convolution, computed as a 3 x 3 convolution whose other weights are zero.

    In the gradient of the former over less than 16 channels, oneDNN of torch 2.13 writes beyond its
    memory on CPUs with AVX-512.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Compute the convolution."""
        weight = nn.functional.pad(self.weight, (1, 1, 1, 1))
        return nn.functional.conv2d(input, weight, self.bias, self.stride, padding=1)


class PaddedConv3d(nn.Conv3d):
    """A convolution that pads the slices of a volume itself, which gives the same result.

    If oneDNN of torch 2.13 pads 5, 6 or 7 slices, on CPUs with AVX-512, the gradient of a kernel of
    7 slices in steps of 2 is wrong: oneDNN writes beyond its memory, or only a part of the
    gradient.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Compute the convolution."""
        return _convolve(input, self.weight, self.bias, self.stride)


class ACSConv3d(nn.Module):
    """A convolution of volumes with kernels of images (Yang et al., 2021).

    The output channels are cut into three parts, for the axial, the coronal and the sagittal plane:
    their kernels see the axes (h, w), (d, w) and (d, h). If three does not divide the number of
    channels, the first parts are larger by one channel.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of channels before and after.
    kernel_size : int
        Along both axes of a plane, in voxels.
    stride : int or sequence of int, default=1
        Along every or along each axis of a volume, in voxels.
    bias : bool, default=True
        Whether a number for each output channel is added.

    References
    ----------
    Yang, J. et al. (2021). Reinventing 2D convolutions for 3D images. IEEE Journal of Biomedical
    and Health Informatics 25, 3009-3018. arXiv:1911.10477.

    Examples
    --------
    >>> import torch
    >>> from skimbal.networks import ACSConv3d
    >>> conv = ACSConv3d(2, 8, kernel_size=3, stride=2)
    >>> conv.weight.shape, conv(torch.zeros(1, 2, 9, 8, 7)).shape
    (torch.Size([8, 2, 3, 3]), torch.Size([1, 8, 5, 4, 4]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int | Sequence[int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride = (stride,) * 3 if isinstance(stride, int) else tuple(stride)
        # Its weights and their values at the start.
        flat = nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias)
        self.weight = nn.Parameter(flat.weight.detach())
        self.bias: Tensor | None
        self.register_parameter("bias", dict(flat.named_parameters()).get("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, d, h, w)
            Features.

        Returns
        -------
        y : Tensor of shape (n_samples, out_channels, d, h, w)
            Features, the spatial axes divided by the stride and rounded up.
        """
        parts = [
            _convolve(x, kernels.unsqueeze(axis), None, self.stride)
            for axis, kernels in enumerate(self.weight.tensor_split(3), start=2)
            if len(kernels)
        ]
        y = torch.cat(parts, 1)
        return y if self.bias is None else y + self.bias[:, None, None, None]


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int]) -> Tensor:
    """Pad the slices, convolve, and keep the size of the volumes, divided by the stride."""
    slices, *others = (size // 2 for size in weight.shape[2:])
    padded = nn.functional.pad(x, (0, 0, 0, 0, slices, slices)) if slices else x
    return nn.functional.conv3d(padded, weight, bias, tuple(stride), (0, *others))


def init_for_relu(network: nn.Module) -> None:
    """Draw the weights of convolutions as He et al. (2015): a deep stack keeps its variance."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _group_norm(channels: int) -> nn.Module:
    # Groups of several channels, so that even a single voxel varies within its group.
    return nn.GroupNorm(math.gcd(8, channels // 2, channels), channels)


def norm_factory(norm: str, ndim: int) -> MakeNorm:
    """Return the function that makes normalisation layers for a number of spatial axes."""
    factories: dict[str, MakeNorm] = {"group": _group_norm, "batch": _BATCH_NORM[ndim]}
    if not isinstance(norm, str) or norm not in factories:
        raise ParameterError("norm", " or ".join(map(repr, factories)), norm)
    return factories[norm]


def halve(size: list[int], longest: int) -> list[int]:
    """Halve the axes that are longer than ``longest``, in place, and return the strides."""
    steps = [2 if axis > longest else 1 for axis in size]
    size[:] = [-(-axis // step) for axis, step in zip(size, steps, strict=True)]
    return steps


def check_sizes(spatial_shape: Sequence[int], **sizes: object) -> None:
    """Check the size of each axis, and further sizes by the names of their parameters."""
    if len(spatial_shape) not in _CONV:
        raise ParameterError("spatial_shape", "(h, w) or (d, h, w)", spatial_shape)
    for name, size in {"spatial_shape": spatial_shape, **sizes}.items():
        numbers = size if isinstance(size, list | tuple | np.ndarray) else [size]
        if not all(is_integer(number) and number > 0 for number in numbers):
            what = "made of positive integers" if numbers is size else "a positive integer"
            raise ParameterError(name, what, size)
