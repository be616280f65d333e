"""The facts that a net is made of, which a saved model has as well as a fit."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from skimbal.networks import ModuleSpec, PixelRange
from skimbal.sampling import SamplerSpec
from skimbal.training.batches import TrainIterator
from skimbal.training.dataset import ImageDataset
from skimbal.training.forward import softmax
from skimbal.training.layout import Layout
from skimbal.training.net import TrainingNet
from skimbal.training.standardize import StandardizedModule

__all__ = ["Blueprint", "Parts"]


@dataclass(frozen=True, eq=False)
class Parts:
    """The objects that a net is made of, besides the facts of its blueprint.

    Parameters
    ----------
    factory : callable
        ``f(in_channels, n_classes, **options)`` makes the network.
    statistics : tuple of ndarray or None
        Mean and standard deviation of each channel, in units of the images, or None.
    loss : torch.nn.Module
        In the dtype of the parameters.
    optimizer : torch.optim.Optimizer class
        Its class.
    options : dict
        Options of the skorch net.
    labels : ndarray of shape (n_classes,)
        The classes.
    callbacks : list
        Callbacks.
    verbose : int
        For skorch.
    """

    factory: Callable[..., nn.Module]
    statistics: tuple[np.ndarray | None, np.ndarray | None]
    loss: nn.Module
    optimizer: type[torch.optim.Optimizer]
    options: Mapping[str, Any]
    labels: np.ndarray
    callbacks: Sequence[object] = ()
    verbose: int = 0


@dataclass(frozen=True, eq=False)
class Blueprint:
    """The facts of a net, other than its weights, its loss and its optimizer.

    Parameters
    ----------
    module : str, NetworkSpec or callable
        The network.
    sampler, epoch_length
        The rows of an epoch, without ``"auto"``.
    pixels : PixelRange or None
        Range of the training rows, for a network that asks for it.
    sample_shape : tuple of int
        Shape of an image, in voxels, channels first.
    n_classes : int
        Number of classes.
    crop_size : tuple of int or None
        Size of the window that the network sees, in voxels.
    dtype, autocast : str, str or None
        Names of the dtype of the parameters, and of the low precision of the network.
    channels_last : bool
        Whether the weights may have the channels innermost in memory, as the images.
    feature_layer : str or None
        Name of the layer whose input the features are.
    lr, lr_schedule, max_epochs, batch_size, micro_batch_size
        The training, without ``"auto"``.
    compiled : bool
        Whether torch compiles the network.
    lacks : tuple of str, default=()
        Parameters that training would go on with, and that a saved model lacks.
    """

    module: ModuleSpec
    sampler: SamplerSpec
    epoch_length: int | str | None
    pixels: PixelRange | None
    sample_shape: tuple[int, ...]
    n_classes: int
    crop_size: tuple[int, ...] | None
    dtype: str
    autocast: str | None
    channels_last: bool
    feature_layer: str | None
    lr: float
    lr_schedule: str | None
    max_epochs: int
    batch_size: int
    micro_batch_size: int | None
    compiled: bool
    lacks: tuple[str, ...] = ()
    halves_micro_batches: bool = False

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Size of the images that the network sees, in voxels."""
        return tuple(self.crop_size or self.sample_shape[1:])

    def net(self, parts: Parts, device: str) -> TrainingNet:
        """Make the net on a device."""
        options = dict(parts.options)
        # Not as module__factory: skorch pickles attributes that begin with module_ separately, even
        # for a copy, and a lambda as a factory cannot be pickled.
        module = functools.partial(
            StandardizedModule,
            parts.factory,
            self.sample_shape[0],
            self.n_classes,
            getattr(torch, self.dtype),
            *parts.statistics,
            layout=Layout(options.pop("memory_format", "auto"), device, self.channels_last),
            crop_size=self.crop_size,
        )
        if options["iterator_train"] is TrainIterator:
            options["iterator_train__sampler"] = self.sampler
            options["iterator_train__epoch_length"] = self.epoch_length
            options["iterator_train__classes"] = parts.labels
        net = TrainingNet(
            module,
            criterion=parts.loss,
            optimizer=parts.optimizer,
            lr=self.lr,
            lr_schedule=self.lr_schedule,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            micro_batch_size=self.micro_batch_size,
            halves_micro_batches=self.halves_micro_batches,
            autocast=None if self.autocast is None else getattr(torch, self.autocast),
            compiled=self.compiled,
            feature_layer=self.feature_layer,
            callbacks=list(parts.callbacks),
            predict_nonlinearity=softmax,
            dataset=functools.partial(ImageDataset, sample_shape=self.sample_shape),
            train_split=None,
            classes=np.arange(self.n_classes),
            device=device,
            verbose=parts.verbose,
            **options,
        ).initialize()
        net.blueprint_ = self
        return net
