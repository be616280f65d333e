"""A residual network that follows the size of the images."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from skimbal.networks.layers import (
    ResidualBlock,
    check_sizes,
    halve,
    init_for_relu,
    make_conv,
    norm_factory,
)

__all__ = ["ResidualCNN"]

#: Images with a longer axis, in voxels, are halved twice before the first stage, by the number of
#: spatial axes.
_LARGE = {2: 128, 3: 64}


class ResidualCNN(nn.Module):
    """A residual network for images of 28 to 512 voxels along an axis.

    A convolution that halves the images, with a normalisation, then stages of one residual block
    each, then the average over all places and a linear layer. The first stage keeps the size, and
    each later one halves it and doubles the channels. For a volume of 28 x 28 x 28, the stages have
    14, 7 and 4 voxels along an axis, and the network has 0.22 million parameters.

    An axis is halved while at least 4 voxels remain. Axes of one voxel get kernels of one voxel.
    If an axis is longer than 128 pixels (2D) or 64 voxels (3D), a second convolution halves the
    images before the first stage.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    n_classes : int
        Number of outputs.
    spatial_shape : sequence of int
        Size of the images along each spatial axis, in voxels: (h, w) or (d, h, w).
    width : int, default=16
        Channels of the first stage.
    n_stages : int, default=None
        Number of residual blocks. If None, 3 for images of up to 32 voxels along the longest axis,
        4 for up to 64, and 5 for larger images.
    dropout : float, default=0.0
        Share of the features that is dropped before the linear layer in training.
    norm : {"group", "batch"}, default="group"
        Normalisation, see :class:`SmallCNN`.
    zero_init_residual : bool, default=True
        Whether each block passes on its shortcut only at the start of training: the last
        normalisation of the block starts with a scale of zero (Goyal et al., 2017).

    Raises
    ------
    ParameterError
        If a size is not a positive integer, ``spatial_shape`` does not have two or three axes, or
        ``norm`` is unknown.

    References
    ----------
    He, K., Zhang, X., Ren, S. and Sun, J. (2016). Deep residual learning for image recognition.
    CVPR.

    Goyal, P. et al. (2017). Accurate, large minibatch SGD: training ImageNet in 1 hour.
    arXiv:1706.02677.

    Examples
    --------
    >>> import torch
    >>> from skimbal.networks import ResidualCNN
    >>> net = ResidualCNN(1, 2, (28, 28, 28))
    >>> net(torch.zeros(4, 1, 28, 28, 28)).shape
    torch.Size([4, 2])
    """

    #: An axis is halved while at least this number of voxels remain.
    grid = 4

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        *,
        width: int = 16,
        n_stages: int | None = None,
        dropout: float = 0.0,
        norm: str = "group",
        zero_init_residual: bool = True,
    ) -> None:
        super().__init__()
        sizes: dict[str, object] = {} if n_stages is None else {"n_stages": n_stages}
        check_sizes(
            spatial_shape, in_channels=in_channels, n_classes=n_classes, width=width, **sizes
        )
        if n_stages is None:
            n_stages = min(max(math.ceil(math.log2(max(spatial_shape))) - 2, 3), 5)
        make_norm = norm_factory(norm, len(spatial_shape))
        kernel_size = [1 if size == 1 else 3 for size in spatial_shape]
        size = list(spatial_shape)

        longest = 2 * (self.grid - 1)  # half of more, rounded up, is at least the grid
        stem: list[nn.Module] = []
        channels = in_channels
        for _ in range(1 + (max(spatial_shape) > _LARGE[len(spatial_shape)])):
            stem.append(make_conv(channels, width, kernel_size, halve(size, longest)))
            stem += [make_norm(width), nn.ReLU()]
            channels = width
        self.stem = nn.Sequential(*stem)
        blocks: list[ResidualBlock] = []
        for stage in range(n_stages):
            steps = halve(size, longest) if stage else [1] * len(size)
            out_channels = width * 2**stage
            blocks.append(ResidualBlock(channels, out_channels, kernel_size, steps, make_norm))
            channels = out_channels
        self.stages = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, n_classes)
        init_for_relu(self)
        if zero_init_residual:
            for block in blocks:
                nn.init.zeros_(block.body.get_parameter("4.weight"))

    def features(self, x: Tensor) -> Tensor:
        """Compute the features before the linear layer.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, ...)
            Images.

        Returns
        -------
        features : Tensor of shape (n_samples, n_features)
            Average of each channel of the last stage.
        """
        features: Tensor = self.stages(self.stem(x)).flatten(2).mean(2)
        return features

    def head(self, features: Tensor) -> Tensor:
        """Compute the logits from the features.

        Parameters
        ----------
        features : Tensor of shape (n_samples, n_features)
            Output of :meth:`features`.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Unnormalised log-probabilities, dimensionless.
        """
        logits: Tensor = self.classifier(self.dropout(features))
        return logits

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
        return self.head(self.features(x))
