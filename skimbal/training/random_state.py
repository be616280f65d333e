"""Random generators, seeded for a fit and restored after it."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sklearn.utils import check_random_state

from skimbal.exceptions import ParameterError
from skimbal.generators import generator_states, restore, seed_generators
from skimbal.typing import RandomState

__all__ = [
    "draw_seed",
    "isolated_random_state",
    "seed_all",
]

# Random states are global to the process, so fits in threads must take turns to be repeatable.
_RANDOM_STATE_LOCK = threading.RLock()


def draw_seed(random_state: RandomState) -> int:
    """Draw a seed. For None, the global generator of numpy stays as it is."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    try:
        generator = check_random_state(random_state)
    except Exception:  # scikit-learn shows the value, which may fail by itself
        raise ParameterError(
            "random_state",
            "None, an integer from 0 to 2**32 - 1 or a numpy.random.RandomState",
            random_state,
        ) from None
    return int(generator.randint(2**31 - 1))


@contextmanager
def isolated_random_state(seed: int, device: str) -> Iterator[None]:
    """Seed Python, numpy and torch within the block, and leave all of them as they were.

    Parameters
    ----------
    seed : int
        In [0, 2**32).
    device : str
        Device whose generator is seeded besides the generator of the CPU.
    """
    with _RANDOM_STATE_LOCK:
        before = generator_states(device)
        try:
            seed_all(seed, device)
            yield
        finally:
            restore(before, device)


def seed_all(seed: int, device: str) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    seed_generators(seed, device)
