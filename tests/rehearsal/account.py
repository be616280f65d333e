"""An account of events that cost time, or go wrong, on a GPU: their kind, operation and line."""

import contextlib
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from .build import has_gpu, is_pretended

HERE = str(Path(__file__).parent)
PACKAGE = str(Path(__file__).parents[2] / "skimbal")
#: Autograd runs gradients in a thread for each device, in which no line of Python is current.
IN_BACKWARD = "(a thread of autograd)"

KINDS = {
    "wait": "the host waits for the device: blocking copies, .item(), masks, synchronize()",
    "staged": "a copy with non_blocking=True from memory that is not pinned",
    "layout": "images are copied between channels-first and channels-last",
    "mix": "one operation has tensors of two devices, which is an error",
    "race": "a stream uses memory that another stream has written, without waiting for it",
    "lifetime": "memory is used on a stream that its allocator does not know: no record_stream",
    "leak": "memory of the device that was allocated within the account is held at its end",
}
#: A fit that leaves an estimator behind holds memory, so leaks are counted on demand only.
USUAL = tuple(kind for kind in KINDS if kind != "leak")


class Event(NamedTuple):
    """What happened, in which operation, and the innermost line of the code under test."""

    kind: str
    detail: str
    operation: str
    line: str


class Account:
    """Events by number of times.

    Attributes
    ----------
    events : Counter of Event
        Each event with the number of times that it happened.
    """

    def __init__(self, kinds: tuple[str, ...], within: str) -> None:
        self.kinds = kinds
        self.within = within
        self.events: Counter[Event] = Counter()

    def count(self, kind: str | None = None) -> int:
        """Count the events of a kind, or all events."""
        return sum(n for event, n in self.events.items() if kind in (None, event.kind))

    def lines(self, kind: str | None = None, at_least: int = 1) -> dict[str, int]:
        """Count events by line, such as ``{"training/net.py:234 train_step": 3}``.

        Parameters
        ----------
        kind : str, optional
            Count this kind only.
        at_least : int, default=1
            Leave out events that happened less often, such as events that are not in every step.
        """
        found: Counter[str] = Counter()
        for event, n in self.events.items():
            if kind in (None, event.kind) and n >= at_least:
                found[event.line] += n
        return dict(found)

    def __str__(self) -> str:
        rows = (f"{n:7d}  {' '.join(event)}" for event, n in sorted(self.events.items()))
        return "\n".join(rows) or "no events"


_open: list[Account] = []
_lock = threading.RLock()


def note(kind: str, detail: str, operation: str) -> None:
    """Write an event into every open account that asks for its kind."""
    frame = sys._getframe(1)
    with _lock:
        for one in _open:
            if kind in one.kinds:
                one.events[Event(kind, detail, operation, line_of(frame, one.within))] += 1


def line_of(frame: FrameType | None, within: str) -> str:
    """Name the innermost line of a file or folder; the rehearsal itself never counts."""
    is_first = True
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(within) and (file == within or not file.startswith(HERE)):
            name = Path(file).relative_to(within) if file != within else Path(file).name
            return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
        is_first = is_first and file.startswith(HERE)
        frame = frame.f_back
    return IN_BACKWARD if is_first else "(elsewhere)"


def can_count(*kinds: str) -> bool:
    """Tell whether events of these kinds can be counted here. A GPU tells of waits only."""
    return is_pretended() or (kinds == ("wait",) and has_gpu())


@contextlib.contextmanager
def account(*kinds: str, within: str | Path = PACKAGE) -> Iterator[Account]:
    """Count events of CUDA while a block runs.

    Parameters
    ----------
    *kinds : str
        Keys of :data:`KINDS`. Without any, all but ``"leak"``.
    within : path, default=the folder of the package
        The file or folder whose lines are named. Events elsewhere count, too.

    Yields
    ------
    Account

    Raises
    ------
    NotImplementedError
        On a GPU, which tells of waits only. The fixture skips the test then.

    Notes
    -----
    Within an account of ``"leak"``, delete the objects that must not hold memory.

    Examples
    --------
    On pretended devices::

        with account("wait", "layout") as events:
            clf.fit(X, y)
        events.count("wait"), events.lines("layout")  # 0, {"networks/layers.py:80 forward": 96}
    """
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"kinds must be among {', '.join(KINDS)}; got {unknown}")
    events = Account(kinds or USUAL, str(within))
    if not can_count(*kinds):
        raise NotImplementedError("these events are counted on a pretended CUDA device only")
    if not is_pretended():
        with _waits_of_a_gpu(events):
            yield events
        return
    with contextlib.ExitStack() as stack:
        if "leak" in events.kinds:
            from .devices import watch_allocations

            stack.enter_context(watch_allocations(_leak_into(events), events.within))
        with _lock:
            _open.append(events)
        try:
            yield events
        finally:
            with _lock:
                _open.remove(events)


def _leak_into(events: Account) -> Callable[[int, str], None]:
    def add(size: int, line: str) -> None:
        events.events[Event("leak", f"{size} bytes", "allocate", line)] += 1

    return add


@contextlib.contextmanager
def _waits_of_a_gpu(events: Account) -> Iterator[None]:
    """Let torch warn of waits, and read file and line from its warnings."""
    import torch

    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if "synchronizing CUDA operation" in str(warning.message):
            line = f"{warning.filename.removeprefix(events.within + '/')}:{warning.lineno}"
            events.events[Event("wait", "", "", line)] += 1
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
