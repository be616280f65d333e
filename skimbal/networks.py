"""Convolutional networks in one implementation for any number of spatial axes."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["BUILT_IN", "ResNet", "SmallCNN", "fold_batch_norm"]

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
            _conv(in_channels, out_channels, kernel_size, stride),
            norm(out_channels),
            nn.ReLU(inplace=True),
            _conv(out_channels, out_channels, kernel_size, ones),
            norm(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or any(step != 1 for step in stride):
            self.shortcut = nn.Sequential(
                _conv(in_channels, out_channels, ones, stride), norm(out_channels)
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


class SmallCNN(nn.Module):
    """A small residual network for small images: the default of the classifiers.

    A convolution, then stages of one residual block each, which halve the axes that are longer
    than ``grid`` and double the channels, then a linear layer on what is left of the grid.
    About half a million parameters for a volume of 28 x 28 x 28.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    n_classes : int
        Number of outputs.
    spatial_shape : sequence of int
        Size of the images along each spatial axis, in voxels: (h, w) or (d, h, w).
    width : int, default=24
        Channels of the first stage.
    n_stages : int, default=3
        Number of residual blocks.
    dropout : float, default=0.0
        Share of the features that is dropped before the linear layer in training.
    norm : {"group", "batch"}, default="group"
        Normalisation. Group normalisation is exact with sample weights, any batch size and
        gradients computed in parts; batch normalisation is not.

    Raises
    ------
    ValueError
        If a size is not a positive integer, there are not two or three axes, or ``norm`` is
        unknown.

    Examples
    --------
    >>> import torch
    >>> from skimbal.networks import SmallCNN
    >>> net = SmallCNN(1, 2, (28, 28, 28))
    >>> net(torch.zeros(4, 1, 28, 28, 28)).shape
    torch.Size([4, 2])
    """

    #: An axis is halved while it is longer than this, in voxels.
    grid = 2

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        *,
        width: int = 24,
        n_stages: int = 3,
        dropout: float = 0.0,
        norm: str = "group",
    ) -> None:
        super().__init__()
        _check_sizes(spatial_shape, in_channels, n_classes, width, n_stages)
        make_norm = _norm_factory(norm, len(spatial_shape))
        kernel_size = [1 if size == 1 else 3 for size in spatial_shape]
        size = list(spatial_shape)

        def stride() -> list[int]:
            steps = [2 if axis > self.grid else 1 for axis in size]
            size[:] = [-(-axis // step) for axis, step in zip(size, steps, strict=True)]
            return steps

        # No normalisation here: the first block brings its own.
        layers: list[nn.Module] = [
            _conv(in_channels, width, kernel_size, stride(), bias=True),
            nn.ReLU(inplace=True),
        ]
        channels = width
        for stage in range(n_stages):
            out_channels = width * 2**stage
            layers.append(ResidualBlock(channels, out_channels, kernel_size, stride(), make_norm))
            channels = out_channels
        pool = GridPool([min(axis, self.grid) for axis in size])
        self.features = nn.Sequential(*layers, pool, nn.Flatten())
        n_features = channels * math.prod(min(axis, self.grid) for axis in size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(n_features, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of a batch.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, ...)
            Images.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Unnormalised log-probabilities, dimensionless.
        """
        logits: Tensor = self.classifier(self.dropout(self.features(x)))
        return logits


class ResNet(nn.Module):
    """ResNet with basic blocks (He et al., 2016) for any number of spatial axes.

    Stem of a 7 x 7 convolution and a max pooling, four stages, global average pooling, a linear
    layer.  With ``norm="batch"`` and ``width=64`` this is the published architecture.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    n_classes : int
        Number of outputs.
    spatial_shape : sequence of int
        Size of the images along each spatial axis, in voxels: (h, w) or (d, h, w). Axes of one
        voxel get kernels of one voxel.
    n_blocks : sequence of int
        Residual blocks in each stage: (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) is ResNet-34.
    width : int, default=64
        Channels of the first stage, doubled in each later one. Scholz et al. (2024) have 256
        features before the classifier, which is ``width=32``.
    norm : {"group", "batch"}, default="group"
        Normalisation, see :class:`SmallCNN`.

    Raises
    ------
    ValueError
        If a size is not a positive integer, there are not two or three axes, or ``norm`` is
        unknown.

    References
    ----------
    He, K., Zhang, X., Ren, S. and Sun, J. (2016). Deep residual learning for image recognition.
    CVPR.

    Examples
    --------
    >>> import torch
    >>> from skimbal.networks import ResNet
    >>> net = ResNet(3, 10, (32, 32), n_blocks=(2, 2, 2, 2), width=8)
    >>> net(torch.zeros(4, 3, 32, 32)).shape
    torch.Size([4, 10])
    """

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        *,
        n_blocks: Sequence[int],
        width: int = 64,
        norm: str = "group",
    ) -> None:
        super().__init__()
        _check_sizes(spatial_shape, in_channels, n_classes, width, *n_blocks)
        ndim = len(spatial_shape)
        make_norm = _norm_factory(norm, ndim)

        def along(kernel_size: int) -> list[int]:
            return [1 if size == 1 else kernel_size for size in spatial_shape]

        first = _conv(in_channels, width, along(7), [2] * ndim)
        if ndim == 3 and 5 <= spatial_shape[0] <= 7:
            first = _padded_before(first)
        self.stem = nn.Sequential(
            first,
            make_norm(width),
            nn.ReLU(inplace=True),
            _MAX_POOL[ndim](along(3), 2, [size // 2 for size in along(3)]),
        )
        blocks: list[nn.Module] = []
        channels = width
        for stage, n_stage_blocks in enumerate(n_blocks):
            for block in range(n_stage_blocks):
                stride = [2 if stage and not block else 1] * ndim
                blocks.append(
                    ResidualBlock(channels, width * 2**stage, along(3), stride, make_norm)
                )
                channels = width * 2**stage
        self.stages = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, n_classes)
        # As published: scaled for ReLU, so that a deep stack keeps its variance.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of a batch.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, ...)
            Images.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Unnormalised log-probabilities, dimensionless.
        """
        x = self.stages(self.stem(x))  # (n, channels, *spatial)
        logits: Tensor = self.classifier(x.flatten(2).mean(2))
        return logits


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Make batch normalisations part of the convolutions before them, for faster prediction.

    With fixed statistics a batch normalisation is a scale and a shift of each channel, which a
    convolution has already.

    Parameters
    ----------
    network : Module
        In evaluation mode. It is left as it is.

    Returns
    -------
    folded : Module
        The same function up to rounding; it shares all other parameters with ``network``. Where
        nothing can be folded (no batch normalisation, hooks, control flow that depends on the
        input), ``network`` itself.

    Examples
    --------
    >>> import torch
    >>> from skimbal.networks import SmallCNN, fold_batch_norm
    >>> net = SmallCNN(1, 2, (28, 28), norm="batch").eval()
    >>> x = torch.rand(4, 1, 28, 28)
    >>> torch.allclose(net(x), fold_batch_norm(net)(x), atol=1e-5)
    True
    """
    modules = dict(network.named_modules())
    if not any(isinstance(module, _BATCH_NORMS) for module in modules.values()):
        return network
    # A graph would not call the hooks of the modules that it looks into.
    if any(module._forward_hooks or module._forward_pre_hooks for module in modules.values()):
        return network
    try:
        folded = fx.GraphModule(network, _BatchNormTracer().trace(network))
    except Exception:  # whatever the code of a network raises when it meets no real input
        return network
    calls = [node.target for node in folded.graph.nodes if node.op == "call_module"]
    for node in folded.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], _BATCH_NORMS):
            continue
        conv, norm = node.args[0], modules[node.target]
        if (
            conv.op == "call_module"
            and type(modules[conv.target]) in _CONVS
            and calls.count(conv.target) == calls.count(node.target) == len(conv.users) == 1
            and norm.running_mean is not None
        ):
            _replace(folded, conv.target, _folded(modules[conv.target], norm))
            _replace(folded, node.target, nn.Identity())
    return folded


def _folded(conv: Any, norm: Any) -> nn.Module:
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    # Not by deepcopy, which takes as long as the rest of the folding.
    folded: nn.Module = object.__new__(type(conv))
    folded.__dict__ = {**vars(conv), "_parameters": {"weight": weight, "bias": bias}}
    return folded


def _replace(network: nn.Module, target: str, module: nn.Module) -> None:
    parent, _, name = target.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


class _BatchNormTracer(fx.Tracer):
    """Looks into no module that has no batch normalisation, so its code may be any code."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or not any(
            isinstance(module, _BATCH_NORMS) for module in m.modules()
        )


#: Networks that ``module=`` of the classifiers knows by name.
BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "small": SmallCNN,
    "resnet18": partial(ResNet, n_blocks=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, n_blocks=(3, 4, 6, 3)),
}

_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_MAX_POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_BATCH_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    bias: bool = False,
) -> nn.Module:
    make = _CONV[len(kernel_size)]
    if len(kernel_size) == 2 and max(kernel_size) == 1 < max(stride) and in_channels < 16:
        make = _WidenedConv2d
    conv: nn.Module = make(
        in_channels,
        out_channels,
        tuple(kernel_size),
        tuple(stride),
        padding=tuple(size // 2 for size in kernel_size),
        bias=bias,
    )
    return conv


class _WidenedConv2d(nn.Conv2d):
    """A 1 x 1 convolution in steps, computed as one of 3 x 3 whose other weights are zero.

    With AVX-512, oneDNN of torch 2.13 writes beyond its memory in the gradient of the former over
    less than 16 channels.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Compute the convolution."""
        weight = nn.functional.pad(self.weight, (1, 1, 1, 1))
        return nn.functional.conv2d(input, weight, self.bias, self.stride, padding=1)


#: Those that a batch normalisation can be folded into.
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, _WidenedConv2d)


def _padded_before(conv: Any) -> nn.Module:
    """Pad the slices of a volume outside of the convolution, which computes the same.

    With AVX-512, oneDNN of torch 2.13 gets the gradient of a kernel of 7 slices in steps of 2
    wrong if it pads 5, 6 or 7 slices itself: it writes beyond its memory, or not all of it.
    """
    slices, *others = conv.padding
    conv.padding = (0, *others)
    return nn.Sequential(nn.ConstantPad3d((0, 0, 0, 0, slices, slices), 0.0), conv)


def _norm_factory(norm: str, ndim: int) -> Norm:
    if norm == "batch":
        batch_norm: Norm = _BATCH_NORM[ndim]
        return batch_norm
    if norm == "group":
        # Groups of several channels, so that a single voxel still has something to vary.
        return lambda channels: nn.GroupNorm(math.gcd(8, channels // 2, channels), channels)
    raise ValueError(f"norm must be 'group' or 'batch', got {norm!r}.")


def _check_sizes(spatial_shape: Sequence[int], *sizes: Any) -> None:
    if len(spatial_shape) not in _CONV:
        raise ValueError(f"spatial_shape must be (h, w) or (d, h, w), got {spatial_shape!r}.")
    for size in (*spatial_shape, *sizes):
        if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
            raise ValueError(
                "channels, classes, widths, numbers of blocks and sizes of axes must be positive "
                f"integers, got {size!r}."
            )
