"""From images to logits."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from skorch.utils import to_tensor
from torch import Tensor

from skimbal.augmentation import RandomCrop
from skimbal.networks import fold_batch_norm
from skimbal.training.dataset import BatchImages
from skimbal.training.devices import device_type
from skimbal.training.standardize import StandardizedModule

__all__ = [
    "Net",
    "augmented",
    "augments",
    "compute_logits",
    "fast_inference",
    "infer_with",
    "softmax",
]


class Net(Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that compute logits."""

    module_: StandardizedModule
    device: str
    autocast: torch.dtype | None
    compiled: bool
    augmentation: Sequence[Callable[[Tensor], Tensor]]

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


def _apart(step: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return step(images)


@torch.no_grad()
def augmented(
    net: Net,
    images: Tensor,
    apply: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] = _apart,
) -> Tensor:
    """Draw crops of some images, and change them, as in training.

    ``apply`` takes a change and images. By default, each image has its own draw.
    """
    dtype, crop_size = net.module_.dtype, net.module_.crop_size
    # A copy, as a callable of the user may change it in place.
    images = to_tensor(images, device=net.device).to(dtype, copy=crop_size is None)
    if crop_size is not None:
        images = apply(RandomCrop(crop_size), images)
    for step in net.augmentation:
        images = apply(step, images)
    return images


def fast_inference(net: Net) -> Callable[[Tensor], Tensor]:
    """Return a function from images to logits, with batch normalisation folded if possible."""
    network = net.module_.network
    folded = network if net.compiled else fold_batch_norm(network)
    return net.infer if folded is network else infer_with(net, folded)


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
