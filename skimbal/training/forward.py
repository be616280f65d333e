"""From images to logits."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeAlias

import torch
from skorch.utils import to_tensor
from torch import Tensor, nn

from skimbal.augmentation import RandomCrop
from skimbal.augmentation.random_change import changed
from skimbal.networks import fold_batch_norm
from skimbal.networks.prepacking import WeightsState, prepack
from skimbal.training.dataset import BatchImages
from skimbal.training.devices import device_type
from skimbal.training.standardize import StandardizedModule

__all__ = [
    "KeptNetwork",
    "Net",
    "Step",
    "augmented",
    "augments",
    "compute_logits",
    "fast_inference",
    "infer_with",
    "softmax",
]

#: A change of images of shape (n, c, ...).
Step: TypeAlias = Callable[[Tensor], Tensor]


class Net(Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that compute logits."""

    module_: StandardizedModule
    device: str
    autocast: torch.dtype | None
    compiled: bool
    augmentation: Sequence[Step]
    kept_network_: "KeptNetwork | None"

    def infer(self, x: BatchImages, **fit_params: object) -> Tensor:
        """Compute the logits of a batch."""


def compute_logits(net: Net, images: Tensor, **fit_params: object) -> Tensor:
    """Compute the logits of a batch, in float32 or better, unless ``augment=False`` as they are."""
    augment = fit_params.pop("augment", True)
    if augment and net.module_.training and augments(net):
        # Here, so that it is neither compiled nor computed in low precision.
        images = augmented(net, images)
    # skorch would look for the many kinds that a batch may be.
    is_tensor = isinstance(images, Tensor)
    images = images.to(net.device) if is_tensor else to_tensor(images, device=net.device)
    if net.compiled and is_tensor:
        # The compiler would make code for images of any size when it sees the second size in a
        # process, and it cannot make such code for this layout.
        torch._dynamo.mark_static(images, list(range(1, images.ndim)))
    with _precision(net):
        logits: Tensor = net.module_(images, **fit_params)
    # A network may return something else, which is refused later.
    if net.module_.training and not isinstance(logits, Tensor):
        raise TypeError(
            "module must return a tensor of logits in training, too; got an object of the type "
            f"{type(logits).__name__}. Switch further outputs of the network off, such as with "
            "aux_logits=False, or wrap it in a module that returns the logits alone."
        )
    is_low = net.autocast is not None and isinstance(logits, Tensor)
    return logits.float() if is_low else logits


def augments(net: Net) -> bool:
    """Tell whether the images of training differ from the images of the data set."""
    return len(net.augmentation) > 0 or net.module_.crop_size is not None


@torch.no_grad()
def augmented(
    net: Net,
    images: Tensor,
    apply: Callable[[Sequence[Step], Tensor], Tensor] = changed,
) -> Tensor:
    """Draw crops of some images, and change them, as in training.

    ``apply`` takes steps and images. By default, each image has its own draws.
    """
    dtype, crop_size = net.module_.dtype, net.module_.crop_size
    # A copy, as a callable of the user may change it in place.
    images = to_tensor(images, device=net.device).to(dtype, copy=crop_size is None)
    crops = () if crop_size is None else (RandomCrop(crop_size),)
    return apply([*crops, *net.augmentation], images)


class KeptNetwork:
    """A network that is prepared for predictions on a CPU, as long as its weights stay.

    Normalisations are folded, and weights lie in the order of the processor. Each prediction uses
    it, since the first must have the bits of the next.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    shape : tuple of int
        Shape of an image.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        self._state, self._shape = WeightsState(network), shape
        self._network = network
        #: The prepared network, once a block has come.
        self.prepared: nn.Module | None = None

    def serves(self, network: nn.Module, shape: tuple[int, ...]) -> bool:
        """Tell whether it was made of a network with its present weights, and for such images."""
        return shape == self._shape and self._state.is_of(network)

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the logits of a block, as the network gets it."""
        if self.prepared is None:
            self.prepared = prepack(fold_batch_norm(self._network), images[:2])
        logits: Tensor = self.prepared(images)
        return logits


def fast_inference(net: Net, shape: tuple[int, ...], pays: bool) -> Callable[[Tensor], Tensor]:
    """Return a function from images to logits.

    Parameters
    ----------
    net : TrainingNet
        The net. It keeps the prepared network.
    shape : tuple of int
        Shape of an image.
    pays : bool
        Whether the prediction is so long that it pays to fold normalisations for it. On a CPU they
        are folded once.
    """
    network = net.module_.network
    if net.compiled or net.module_._forward_hooks or net.module_._forward_pre_hooks:
        return net.infer
    if device_type(net.device) != "cpu" or net.autocast is not None:
        folded = fold_batch_norm(network) if pays else network
        return net.infer if folded is network else infer_with(net, folded)
    kept = net.kept_network_
    if kept is None or not kept.serves(network, shape):
        net.kept_network_ = kept = KeptNetwork(network, shape)
    return infer_with(net, kept)


def infer_with(net: Net, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function of images as they are from a function of the input of the network."""
    module = net.module_

    def infer(images: Tensor) -> Tensor:
        with _precision(net):
            result = network(module.prepare(to_tensor(images, device=net.device)))
        return result if net.autocast is None else result.float()

    return infer


def softmax(logits: Tensor) -> Tensor:
    """Turn logits into probabilities, of shape (n_samples, n_classes)."""
    return logits.softmax(-1)


def _precision(net: Net) -> AbstractContextManager[object]:
    if net.autocast is None:
        return nullcontext()
    return torch.autocast(device_type(net.device), dtype=net.autocast)
