"""Learning rates by layer, and parts of a network that are frozen at first."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skimbal.exceptions import ParameterError
from skimbal.networks import LearningRateFactors, Unfreezable
from skimbal.training.gradient import TrainableNet

__all__ = [
    "check_something_trains",
    "check_unfreezing",
    "gradients_into_group_norms",
    "grouped_by_rate",
    "unfreeze_when_due",
]


def grouped_by_rate(
    network: nn.Module,
    named_parameters: Mapping[str, nn.Parameter],
    optimizer: type[torch.optim.Optimizer],
    lr: float,
) -> list[dict[str, Any]] | None:
    """Return parameter groups of equal learning rate, or None if all rates are equal."""
    factors = network.learning_rate_factors() if isinstance(network, LearningRateFactors) else {}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named_parameters.items():
        factor = factors.get(name.removeprefix("network."), 1.0)
        groups.setdefault(factor, []).append(parameter)
    if set(groups) <= {1.0}:
        return None
    if issubclass(optimizer, torch.optim.LBFGS):
        raise ParameterError(
            "optimizer",
            "an optimizer that can give each layer its own learning rate",
            optimizer.__name__,
            "The network asks for such rates. Use another optimizer, or give all layers one rate, "
            "such as with Pretrained(..., backbone_lr_factor=1, layer_decay=1).",
        )
    return [{"params": params, "lr": lr * factor} for factor, params in groups.items()]


def unfreeze_when_due(net: TrainableNet) -> None:
    """Unfreeze the network at the beginning of the epoch that it asks for."""
    network = net.module_.network
    if not isinstance(network, Unfreezable) or network.unfreeze_at is None:
        return
    if net.epochs_before_ + len(net.history) - 1 >= _due(network.unfreeze_at, net.max_epochs):
        network.unfreeze()


def check_unfreezing(network: nn.Module, name: str, epochs: int, last_epoch: int) -> None:
    """Refuse a fit that ends before its network is unfrozen, at the parameter of this name."""
    if not isinstance(network, Unfreezable) or network.unfreeze_at is None or not epochs:
        return
    if _due(network.unfreeze_at, epochs) > last_epoch - 1:
        raise ParameterError(
            name,
            f"such that the last of the {last_epoch} epochs of the fit begins after it",
            network.unfreeze_at,
            f"It must be at most {last_epoch - 1} epochs, and a number below 1 is a share of the "
            "epochs. Set more max_epochs, or None to keep the parts frozen.",
        )


def check_something_trains(net: TrainableNet) -> None:
    """Refuse a network of which nothing can be trained."""
    if not any(parameter.requires_grad for _, parameter in net.get_all_learnable_params()):
        raise ParameterError(
            "module",
            "a network with weights that training may change",
            f"{type(net.module_.network).__name__}, all of whose weights are frozen",
            "Leave the last layer to training. To compute features only, set max_epochs=0.",
        )


@contextmanager
def gradients_into_group_norms(network: nn.Module) -> Iterator[None]:
    """Let each group normalisation that trains have a gradient of its input as well.

    torch ends the process on a CPU if the channels come last in memory and the input has no
    gradient, as behind a frozen convolution.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.GroupNorm) and part.affine]
    parameters = list(network.parameters())
    is_first = bool(norms) and parameters[0] is norms[0].weight
    may_lack_it = is_first or not all(parameter.requires_grad for parameter in parameters)
    hooks = [part.register_forward_pre_hook(_with_gradient) for part in norms if may_lack_it]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _with_gradient(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    (x,) = inputs
    trains = any(parameter.requires_grad for parameter in norm.parameters())
    if x.requires_grad or not trains or not torch.is_grad_enabled():
        return None
    return (x.detach().requires_grad_(),)


def _due(unfreeze_at: float, max_epochs: int) -> float:
    return unfreeze_at if unfreeze_at >= 1 else unfreeze_at * max_epochs
