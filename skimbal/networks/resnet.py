"""Residual networks."""

from collections.abc import Sequence

from torch import Tensor, nn

from skimbal.networks.layers import (
    MAX_POOL,
    ResidualBlock,
    check_sizes,
    init_for_relu,
    make_conv,
    norm_factory,
)

__all__ = ["ResNet"]


class ResNet(nn.Module):
    """ResNet with basic blocks (He et al., 2016) for any number of spatial axes.

    A 7 x 7 convolution and a max pooling, four stages, global average pooling, a linear layer. With
    ``norm="batch"`` and ``width=64`` this is the published architecture.

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
    ParameterError
        If a size is not a positive integer, ``spatial_shape`` does not have two or three axes, or
        ``norm`` is unknown.

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
        check_sizes(
            spatial_shape,
            in_channels=in_channels,
            n_classes=n_classes,
            width=width,
            n_blocks=n_blocks,
        )
        ndim = len(spatial_shape)
        make_norm = norm_factory(norm, ndim)

        def along(kernel_size: int) -> tuple[int, ...]:
            return tuple(1 if size == 1 else kernel_size for size in spatial_shape)

        few_slices = ndim == 3 and 5 <= spatial_shape[0] <= 7
        self.stem = nn.Sequential(
            make_conv(in_channels, width, along(7), [2] * ndim, few_slices=few_slices),
            make_norm(width),
            nn.ReLU(),
            MAX_POOL[ndim](along(3), 2, tuple(size // 2 for size in along(3))),
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
        init_for_relu(self)  # as published

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
