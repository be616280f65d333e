"""States of the random generators of a process."""

import random
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["GeneratorStates", "generator_states", "has_generator", "restore", "seed_generators"]


class GeneratorStates(NamedTuple):
    """States of the generators of Python, numpy, torch and a device other than the CPU."""

    python: tuple[Any, ...]
    numpy: Any
    torch: Tensor
    device: Tensor | None


def _of_device(device: str | torch.device) -> ModuleType | None:
    """Return the module with the generator of a device, such as ``torch.mps``. None for the CPU."""
    kind = torch.device(device).type
    return None if kind == "cpu" else getattr(torch, kind)


def has_generator(device: str | torch.device) -> bool:
    """Tell whether the draws on a device can be seeded and repeated."""
    kind = torch.device(device).type
    module = getattr(torch, kind, None)
    needed = ("get_rng_state", "set_rng_state", "manual_seed")
    return kind == "cpu" or all(hasattr(module, name) for name in needed)


def generator_states(device: str | torch.device) -> GeneratorStates:
    """Return the states of all generators that a network on the device may draw from."""
    module = _of_device(device)
    return GeneratorStates(
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002
        torch.get_rng_state(),
        None if module is None else module.get_rng_state(device),
    )


def restore(states: GeneratorStates, device: str | torch.device) -> None:
    """Set all generators back to the states that :func:`generator_states` returned."""
    random.setstate(states.python)
    np.random.set_state(states.numpy)  # noqa: NPY002
    torch.set_rng_state(states.torch)
    module = _of_device(device)
    if module is not None:
        module.set_rng_state(states.device, device)


def seed_generators(seed: int, device: str | torch.device) -> None:
    """Seed the generators of torch for the CPU and the device."""
    torch.default_generator.manual_seed(seed)
    module = _of_device(device)
    if module is not None:
        # Only the generator of the current device is seeded, where there may be several devices.
        current: AbstractContextManager[object] = (
            module.device(device) if hasattr(module, "device") else nullcontext()
        )
        with current:
            module.manual_seed(seed)
