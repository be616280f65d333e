"""Traits of optimizers that training asks for."""

import inspect

import torch
from torch.optim import LBFGS, SGD, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam

from skimbal.training.devices import device_type
from skimbal.typing import is_number

__all__ = [
    "OPTIMIZERS",
    "can_be_fused",
    "default_rate",
    "drop_half_made_state",
    "is_like_adam",
    "takes_one_gradient",
    "takes_several_gradients",
]

#: The optimizers of torch by their names in lower case. Networks have no sparse gradients.
OPTIMIZERS = {
    name.lower(): optimizer
    for name, optimizer in vars(torch.optim).items()
    if isinstance(optimizer, type)
    and issubclass(optimizer, Optimizer)
    and optimizer is not Optimizer
    and not issubclass(optimizer, torch.optim.SparseAdam)
}
#: Optimizers of which torch has a kernel that updates all parameters at once.
_FUSED = (Adam, AdamW, SGD)
#: Optimizers of which a step has about the size of the learning rate, for gradients of any size.
_LIKE_ADAM = (Adam, AdamW, Adamax, NAdam, RAdam)
#: Optimizers that compute the loss and its gradient several times in a step.
_SEVERAL_GRADIENTS = (LBFGS,)
#: Optimizers of torch whose step needs one gradient, so that they are given no closure.
_ONE_GRADIENT = frozenset(
    optimizer for optimizer in OPTIMIZERS.values() if not issubclass(optimizer, _SEVERAL_GRADIENTS)
)


def takes_several_gradients(optimizer: type[Optimizer]) -> bool:
    """Tell whether an optimizer is known to compute several gradients of a batch in a step."""
    return issubclass(optimizer, _SEVERAL_GRADIENTS)


def takes_one_gradient(optimizer: type[Optimizer]) -> bool:
    """Tell whether an optimizer is known to need one gradient of a batch in a step.

    A subclass may have a step that asks for more, so this is not the opposite of
    :func:`takes_several_gradients`.
    """
    return optimizer in _ONE_GRADIENT


def is_like_adam(optimizer: type[Optimizer]) -> bool:
    """Tell whether a learning rate for Adam suits an optimizer, too."""
    return issubclass(optimizer, _LIKE_ADAM)


def default_rate(optimizer: type[Optimizer]) -> float | None:
    """Return the default learning rate of a class, or None if it has none."""
    parameter = inspect.signature(optimizer).parameters.get("lr")
    rate = None if parameter is None else parameter.default
    return float(rate) if is_number(rate) else None


def can_be_fused(optimizer: type[Optimizer], device: str) -> bool:
    """Tell whether torch has a kernel for a device that updates all parameters at once."""
    return optimizer in _FUSED and device_type(device) in ("cpu", "cuda")


def drop_half_made_state(optimizer: Optimizer) -> None:
    """Drop the state of parameters that an interrupt has left without some of its entries.

    An optimizer makes the whole state of a parameter where there is none, and adds nothing to it.
    """
    names = {parameter: set(state) for parameter, state in optimizer.state.items()}
    for parameter, mine in names.items():
        if any(mine < others for others in names.values()):
            optimizer.state[parameter] = {}
