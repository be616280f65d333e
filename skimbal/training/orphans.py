"""Worker processes of joblib end with their parent, also if it is killed."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NamedTuple

__all__ = ["end_if_orphaned", "end_with_parent"]


class _Worker(NamedTuple):
    """A process that works for another."""

    pid: int
    parent: int
    #: Processes of the same parent, perhaps without work, and when they began.
    others: dict[int, str]


#: This process, once it has fitted as a worker. A fork of it is another process.
_worker: _Worker | None = None


def end_with_parent() -> None:
    """Let this process end when its parent has ended, if it is a worker of joblib.

    A worker would otherwise finish its fit, and then wait for work that never comes. On Linux the
    system tells it of the end of its parent, without a thread. Elsewhere it looks at each batch.
    """
    global _worker
    parent = _parent_of_worker()
    if parent is None or (_worker is not None and _worker.pid == os.getpid()):
        return end_if_orphaned()
    _worker = _Worker(os.getpid(), parent, {})
    end_if_orphaned()
    if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
        _worker.others.update(_workers_of(parent))
        _ask_for_signal()
    return end_if_orphaned()


def end_if_orphaned() -> None:
    """End this process if its parent has ended since :func:`end_with_parent`."""
    if _worker is None or os.getppid() == _worker.parent or _worker.pid != os.getpid():
        return
    for pid, began in _worker.others.items():
        if _began(pid) == began:
            os.kill(pid, signal.SIGKILL)
    os._exit(1)  # Nobody waits for a result, and exit handlers would.


def _parent_of_worker() -> int | None:
    """Return the process that this process works for. None if this process is no such worker."""
    process, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    # Daemons are workers of a pool. By their name they end with their parent.
    is_worker = process.daemon or type(process).__module__.endswith("loky.backend.process")
    if not is_worker or parent is None or parent.pid is None or sys.platform == "win32":
        return None
    # A server that forks is the parent in the eyes of the system.
    is_child = os.getppid() == parent.pid or not _exists(parent.pid)
    return parent.pid if is_child else None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _ask_for_signal() -> None:
    """Let Linux send a signal when the parent ends.

    Linux also sends it when the thread that started this process ends. So it is a signal that does
    nothing unless a handler is set, and the handler looks whether the parent is there.
    """
    if signal.getsignal(signal.SIGURG) is signal.SIG_DFL:
        signal.signal(signal.SIGURG, _look)
        set_signal_of_parent_death = 1
        ctypes.CDLL(None).prctl(set_signal_of_parent_death, signal.SIGURG, 0, 0, 0)


def _look(number: int, frame: FrameType | None) -> None:
    end_if_orphaned()


def _workers_of(parent: int) -> dict[int, str]:
    """Return the other workers of loky that a process has started, and when they began."""
    found = {}
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            pids = [int(pid) for pid in children.read_text().split()]
        except OSError:  # a thread that has ended
            continue
        for pid in pids:
            began = _began(pid)
            if pid != os.getpid() and began is not None:
                found[pid] = began
    return found


def _began(pid: int) -> str | None:
    """Return the time at which a worker of loky began. None if there is no such process."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        # The name of the program may hold spaces and brackets.
        began = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
    return began if b"loky.backend.popen_loky" in command else None
