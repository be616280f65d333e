"""Random generators, seeded for a fit and restored after it."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["is_cuda", "isolated_random_state", "seed_torch"]

# Random states are global to the process, so fits in threads must take turns to be repeatable.
_RANDOM_STATE_LOCK = threading.RLock()


@contextmanager
def isolated_random_state(seed: int, device: str) -> Iterator[None]:
    """Seed python, numpy and torch within the block, and leave all of them as they were.

    Parameters
    ----------
    seed : int
        In [0, 2**32).
    device : str
        Whose generator is seeded besides that of the CPU.
    """
    on_cuda = torch.device(device).type == "cuda"
    with _RANDOM_STATE_LOCK, torch.random.fork_rng([device] if on_cuda else []):
        python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            seed_torch(seed, device)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def seed_torch(seed: int, device: str) -> None:
    torch.default_generator.manual_seed(seed)
    if is_cuda(device):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def is_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"
