"""Progress bars that leave nothing behind."""

import threading
from typing import Any

from tqdm.auto import tqdm
from tqdm.std import TqdmDefaultWriteLock

__all__ = ["Bar"]


class Bar(tqdm):  # type: ignore[misc]
    """A bar of tqdm that starts no thread and leaves the start method of multiprocessing open.

    tqdm's own bar shares a lock with processes, which settles the start method for the whole
    program, and it starts a thread that stays until the program ends.
    """

    monitor_interval = 0
    # The part of tqdm's own lock that threads share, so that other bars of this process keep off.
    _lock: Any = getattr(TqdmDefaultWriteLock, "th_lock", None) or threading.RLock()
