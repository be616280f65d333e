"""Signals end the command line in order: Ctrl-C, SIGTERM and SIGHUP.

Imported before all other modules, as they take seconds.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import FrameType
from typing import Any, TypeAlias

__all__ = [
    "PATIENCE",
    "Interruption",
    "Signals",
    "as_interruptions",
    "code_of",
    "end_at_once_while_loading",
]

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None

#: Windows has no SIGHUP.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
#: Time in which a second signal is taken for impatience, as workers are ending, in seconds.
PATIENCE = 5.0


class Interruption(KeyboardInterrupt):
    """A signal that ends the program.

    Parameters
    ----------
    number : int
        Number of the signal.

    Attributes
    ----------
    number : int
        As given.

    Examples
    --------
    >>> from skimbal.signals import Interruption, code_of
    >>> code_of(Interruption(15))
    143
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def code_of(interrupt: KeyboardInterrupt) -> int:
    """Return the exit code of a program that a signal has ended.

    Parameters
    ----------
    interrupt : KeyboardInterrupt
        An :class:`Interruption`, or the exception of Ctrl-C.

    Returns
    -------
    code : int
        128 and the number of the signal.

    Examples
    --------
    >>> from skimbal.signals import code_of
    >>> code_of(KeyboardInterrupt())
    130
    """
    number: int = getattr(interrupt, "number", signal.SIGINT)
    return 128 + number


def end_at_once_while_loading() -> None:
    """Let signals end the command line without a traceback until it handles them.

    Does nothing in other programs.

    Examples
    --------
    >>> from skimbal.signals import end_at_once_while_loading
    >>> end_at_once_while_loading()
    """
    if _is_command_line() and threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _end_at_once)


def _is_command_line() -> bool:
    """Tell whether this program is ``skimbal`` or ``python -m skimbal``, and no worker of it."""
    arguments, all_arguments = sys.argv, sys.orig_argv
    if not 0 < len(arguments) < len(all_arguments):  # a worker has the arguments of its parent
        return False
    program = all_arguments[-len(arguments)]
    if arguments[0] == "-m":  # while Python looks for the module
        return program.removeprefix("-m") in ("skimbal", "skimbal.__main__")
    return program == arguments[0] and PurePath(program).stem in ("skimbal", "skimbal-script")


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


class Signals:
    """The signals that a program has received.

    Attributes
    ----------
    code : int
        Exit code by the first signal. 0 without a signal.
    """

    def __init__(self) -> None:
        self.code = 0
        self._n_received, self._raised_at = 0, -PATIENCE
        self._is_postponed = False
        self._terminals = [fd for fd in (1, 2) if _is_terminal(fd)]

    def postpone(self) -> None:
        """Let no further signal raise an exception, so that the output is finished."""
        self._is_postponed = True

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise an :class:`Interruption`, unless one is on its way. The third signal ends all."""
        self._n_received += 1
        self.code = self.code or 128 + number
        if self._n_received >= 3:
            _end_at_once(number, frame)
        self._leave_closed_terminals()
        if self._is_postponed or time.monotonic() - self._raised_at < PATIENCE:
            return
        self._raised_at = time.monotonic()
        raise Interruption(number)

    def _leave_closed_terminals(self) -> None:
        """Write to nowhere where a terminal was, as an error would hide what is to be written."""
        for fd in self._terminals:
            if not _is_terminal(fd):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, fd)
                os.close(nowhere)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


@contextmanager
def as_interruptions() -> Iterator[Signals]:
    """Let SIGTERM and SIGHUP interrupt the code within as Ctrl-C does.

    Signals that the program ignores, as under nohup, or handles by itself stay as they are.

    Yields
    ------
    signals : Signals
        The signals that come.

    Examples
    --------
    >>> from skimbal.signals import as_interruptions
    >>> with as_interruptions() as signals:
    ...     pass
    >>> signals.code
    0
    """
    signals = Signals()
    before: dict[int, _Handler] = {}
    if threading.current_thread() is threading.main_thread():
        ours = (signal.SIG_DFL, signal.default_int_handler, _end_at_once)
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler in ours:
                before[number] = handler
                signal.signal(number, signals.handle)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
