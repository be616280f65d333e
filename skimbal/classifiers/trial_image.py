"""A trial, which tells a network from others with the same weights."""

import numpy as np
import torch

from skimbal.model_file import Plain
from skimbal.training import Blueprint, TrainingNet, infer_with

__all__ = ["trial_logits", "try_network"]


def try_network(net: TrainingNet) -> list[Plain] | None:
    """Return the logits of an image that is the same in every program."""
    logits = trial_logits(net)
    # A network may draw random numbers.
    is_steady = np.isfinite(logits).all() and np.array_equal(logits, trial_logits(net))
    return [float(number) for number in logits] if is_steady else None


def trial_logits(net: TrainingNet) -> np.ndarray:
    """Return the logits that a network computes of that image."""
    blueprint: Blueprint = net.blueprint_
    numbers = np.random.RandomState(0).uniform(-1, 1, (1, *blueprint.sample_shape))
    module = net.module_
    if module.mean is not None and module.std is not None:
        numbers = numbers * module.std.numpy(force=True) + module.mean.numpy(force=True)
    elif blueprint.pixels is not None:
        low, high = blueprint.pixels.low, blueprint.pixels.high
        numbers = low + (high - low) * (1 + numbers) / 2
    images = torch.from_numpy(numbers.astype(np.float32))
    net.set_training(False)
    # Not by way of a compiled module, which would be compiled anew for a single image.
    with torch.inference_mode():
        logits = infer_with(net, module.network)(images)
    return logits[0].double().numpy(force=True)
