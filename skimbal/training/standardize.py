"""Standardisation as a part of the model."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from skimbal.augmentation import CenterCrop
from skimbal.networks import PixelRange
from skimbal.training.batches import count_workers, read_ahead
from skimbal.training.contrast import PixelSample
from skimbal.training.dataset import ImageDataset
from skimbal.training.layout import Layout, lay_out_images

__all__ = ["StandardizedModule", "channel_statistics", "pixel_range"]


class StandardizedModule(nn.Module):
    """A network behind the conversion and standardisation of its input.

    Parameters
    ----------
    factory : callable
        ``factory(in_channels, n_classes, **kwargs)`` makes the network.
    in_channels, n_classes : int
        Number of channels and of classes.
    dtype : torch.dtype
        Dtype of the parameters and the input.
    mean, std : ndarray of shape (in_channels, 1, 1) or (in_channels, 1, 1, 1), default=None
        In units of the images. No standardisation if None.
    layout : Layout, default=None
        The order of images and weights in memory. ``Layout()`` if None. If the weights have the
        channels innermost, ``state_dict()`` holds copies of them in the usual layout, as
        safetensors takes no other, and ``state_dict(keep_vars=True)`` holds the weights themselves.
    crop_size : tuple of int, default=None
        Size of the window in the centre that the network sees, in voxels. All of an image if None.
    **kwargs : object
        Passed on to ``factory``.

    Attributes
    ----------
    memory_format : {"channels_last", "contiguous"}
        The layout of the images that the network sees, and of its weights.
    """

    def __init__(
        self,
        factory: Callable[..., nn.Module],
        in_channels: int,
        n_classes: int,
        dtype: torch.dtype,
        mean: np.ndarray | None = None,
        std: np.ndarray | None = None,
        layout: Layout | None = None,
        crop_size: tuple[int, ...] | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__()
        try:
            self.network = factory(in_channels, n_classes, **kwargs)
        except Exception as error:
            options = "".join(f", {name}={value!r}" for name, value in kwargs.items())
            error.add_note(
                f"module={factory!r} was called as f({in_channels}, {n_classes}{options}), with "
                "the numbers of channels and classes and the module__ options of net, to build a "
                "torch.nn.Module."
            )
            raise
        if not isinstance(self.network, nn.Module):
            raise TypeError(
                "module must make a torch.nn.Module when called as f(in_channels, n_classes); got "
                f"{self.network!r}. Return the network from the factory."
            )
        if next(self.network.parameters(), None) is None:
            raise ValueError(
                "module must make a network with weights, which training changes; got "
                f"{self.network!r}, which has none."
            )
        self.dtype, self.crop_size = dtype, crop_size
        self.mean: Tensor | None
        self.std: Tensor | None
        self.register_buffer("mean", None if mean is None else torch.from_numpy(mean))
        self.register_buffer("std", None if std is None else torch.from_numpy(std))
        self.to(dtype)
        layout = Layout() if layout is None else layout
        self.memory_format = layout.decide(self.network)
        layout.lay_out_weights(self.network, self.memory_format)

    def forward(self, X: Tensor) -> Tensor:
        """Compute the logits of a batch of images of any dtype.

        Parameters
        ----------
        X : Tensor of shape (n_samples, in_channels, *spatial)
            Images, or features that are kept while a :class:`~skimbal.networks.SplitNetwork`
            trains, which have fewer axes.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Unnormalised log-probabilities, dimensionless.
        """
        if X.ndim < 4:
            return self.network.head(X)  # type: ignore[no-any-return, operator]
        logits: Tensor = self.network(self.prepare(X))
        return logits

    def prepare(self, X: Tensor) -> Tensor:
        """Crop, convert and standardise a batch of images.

        Parameters
        ----------
        X : Tensor of shape (n_samples, in_channels, *spatial)
            Images.

        Returns
        -------
        X : Tensor of shape (n_samples, in_channels, *spatial)
            In units of the standard deviation, in the layout of ``memory_format``.
        """
        if self.crop_size is not None:
            X = CenterCrop(self.crop_size)(X)  # all of an image that has been cropped already
        X = X.to(self.dtype)
        if self.mean is not None and self.std is not None:
            # Before the layout changes: the loop over the pixels of a channel is the longer loop.
            X = (X - self.mean).div_(self.std)
        return lay_out_images(X, self.memory_format)


@np.errstate(over="ignore", invalid="ignore")
def channel_statistics(
    dataset: ImageDataset, num_workers: int | None = None, sample: PixelSample | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted mean and standard deviation of each channel, block by block.

    Parameters
    ----------
    dataset : ImageDataset
        The training rows.
    num_workers : int, default=None
        Threads that read blocks ahead, as for :class:`TrainIterator`.
    sample : PixelSample, default=None
        Gets the blocks, to compare pixels with the statistics afterwards.

    Returns
    -------
    mean, std : ndarray of shape (n_channels, 1, 1) or (n_channels, 1, 1, 1)
        In units of the images, float64, with as many axes as an image. A constant channel has the
        standard deviation 1, so that the division changes nothing.
    """
    n_workers = count_workers(num_workers, dataset)
    weight, mean, scatter = 0.0, np.zeros(1), np.zeros(1)
    for batch in read_ahead(dataset.batch, dataset.blocks(), n_workers):
        n_rows = len(batch.labels)
        w = np.ones(n_rows) if batch.weight is None else batch.weight.numpy()
        pixels = batch.images.numpy().reshape(n_rows, dataset.sample_shape[0], -1)
        pixels = pixels.astype(np.float64)
        block_weight = w.sum() * pixels.shape[2]
        if block_weight == 0:
            if sample is not None:
                sample.add(batch, np.zeros(pixels.shape[1]))
            continue
        block_mean = np.einsum("n,ncp->c", w, pixels) / block_weight
        pixels -= block_mean[:, None]
        block_scatter = np.einsum("n,ncp,ncp->c", w, pixels, pixels)
        if sample is not None:
            sample.add(batch, block_scatter + block_weight * block_mean**2)
        # Chan, Golub and LeVeque (1983): parts combine without the cancellation of E[x^2]-E[x]^2.
        total = weight + block_weight
        shift = block_mean - mean
        scatter = scatter + block_scatter + shift**2 * (weight * block_weight / total)
        mean = mean + shift * (block_weight / total)
        weight = total
    std = np.sqrt(scatter / weight)
    # The rounding errors of a constant channel are not a spread.
    std[std <= 1e-12 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)] = 1.0
    per_channel = (-1, *[1] * (len(dataset.sample_shape) - 1))
    return mean.reshape(per_channel), std.reshape(per_channel)


def pixel_range(
    dataset: ImageDataset, num_workers: int | None = None, sample: PixelSample | None = None
) -> PixelRange:
    """Find the least and the greatest pixel of the rows that have a weight, block by block.

    Parameters
    ----------
    dataset : ImageDataset
        The training rows.
    num_workers : int, default=None
        Threads that read blocks ahead, as for :class:`TrainIterator`.
    sample : PixelSample, default=None
        Gets the blocks, to compare pixels with the range afterwards.

    Returns
    -------
    pixels : PixelRange
        The images of unsigned integers of eight bits are not read.
    """
    if dataset.dtype == np.uint8:
        return PixelRange(0.0, 255.0, is_uint8=True)
    n_workers = count_workers(num_workers, dataset)
    low, high = np.inf, -np.inf
    for batch in read_ahead(dataset.batch, dataset.blocks(), n_workers):
        images = batch.images.numpy()
        if batch.weight is not None:
            images = images[batch.weight.numpy() > 0]
        ends = (images.min(), images.max()) if len(images) else (low, high)
        low, high = min(low, ends[0]), max(high, ends[1])
        if sample is not None:
            size = np.abs(ends).astype(np.float64).max() * len(images)
            sample.add(batch, np.full(dataset.sample_shape[0], size))
    return PixelRange(float(low), float(high))
