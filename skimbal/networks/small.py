"""A small network for small images."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from skimbal.networks.layers import (
    GridPool,
    ResidualBlock,
    check_sizes,
    halve,
    make_conv,
    norm_factory,
)

__all__ = ["SmallCNN"]


class SmallCNN(nn.Module):
    """A small residual network for small images: the default of the classifiers.

    A convolution, then stages of one residual block each, then a linear layer on the remaining
    grid. Each stage halves the axes that are longer than ``grid`` and doubles the channels. For a
    volume of 28 x 28 x 28, the network has about half a million parameters.

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
        gradients computed in parts. Batch normalisation is not.

    Raises
    ------
    ParameterError
        If a size is not a positive integer, ``spatial_shape`` does not have two or three axes, or
        ``norm`` is unknown.

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
        check_sizes(
            spatial_shape,
            in_channels=in_channels,
            n_classes=n_classes,
            width=width,
            n_stages=n_stages,
        )
        make_norm = norm_factory(norm, len(spatial_shape))
        kernel_size = [1 if size == 1 else 3 for size in spatial_shape]
        size = list(spatial_shape)

        # No normalisation here: the first block has one.
        layers: list[nn.Module] = [
            make_conv(in_channels, width, kernel_size, halve(size, self.grid), bias=True),
            nn.ReLU(),
        ]
        channels = width
        for stage in range(n_stages):
            out_channels = width * 2**stage
            steps = halve(size, self.grid)
            layers.append(ResidualBlock(channels, out_channels, kernel_size, steps, make_norm))
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
