"""An epoch of training."""

import torch
from skorch.callbacks import Callback, EpochScoring, LRScheduler

__all__ = ["ONE_GRADIENT_A_STEP", "can_be_fused", "follows_batches"]

#: Optimizers whose step makes do with one gradient, so that they need no closure to compute more.
ONE_GRADIENT_A_STEP = {
    optimizer
    for optimizer in vars(torch.optim).values()
    if isinstance(optimizer, type)
    and issubclass(optimizer, torch.optim.Optimizer)
    and optimizer is not torch.optim.LBFGS
}


def can_be_fused(optimizer: type[torch.optim.Optimizer], device: str) -> bool:
    """Tell whether torch has a kernel that updates all parameters at once."""
    fused = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
    return optimizer in fused and torch.device(device).type in ("cpu", "cuda")


def follows_batches(callback: Callback) -> bool:
    """Tell whether a callback has something to do at single batches of training."""
    if isinstance(callback, LRScheduler) and callback.step_every != "batch":
        unused = [LRScheduler.on_batch_end]
    elif isinstance(callback, EpochScoring) and not (callback.use_caching and callback.on_train):
        unused = [EpochScoring.on_batch_end]
    else:
        unused = []
    return any(
        name in vars(callback)
        or getattr(type(callback), name) not in (getattr(Callback, name), *unused)
        for name in ("on_batch_begin", "on_batch_end", "on_grad_computed")
    )
