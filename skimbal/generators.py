"""States of the random generators of a process."""

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["GeneratorStates", "generator_states", "restore"]


class GeneratorStates(NamedTuple):
    """States of the generators of Python, numpy, torch and a CUDA device."""

    python: tuple[Any, ...]
    numpy: Any
    torch: Tensor
    cuda: Tensor | None


def generator_states(device: str | torch.device) -> GeneratorStates:
    """Return the states of all generators that a network on the device may draw from."""
    is_cuda = torch.device(device).type == "cuda"
    return GeneratorStates(
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002
        torch.get_rng_state(),
        torch.cuda.get_rng_state(device) if is_cuda else None,
    )


def restore(states: GeneratorStates, device: str | torch.device) -> None:
    """Set all generators back to the states that :func:`generator_states` returned."""
    random.setstate(states.python)
    np.random.set_state(states.numpy)  # noqa: NPY002
    torch.set_rng_state(states.torch)
    if states.cuda is not None:
        torch.cuda.set_rng_state(states.cuda, device)
