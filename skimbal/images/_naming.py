"""The name of a file in all that is said about it: errors, warnings and logs."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skimbal.exceptions import ParameterError

__all__ = ["naming_file"]

#: Libraries that log what is wrong with a file, without its name.
_LOGGERS = ("tifffile", "pydicom", "pydicom.pixels.decoders.base", "nibabel.global")
#: The file that this thread reads, as ``path``.
_here = threading.local()


@contextmanager
def naming_file(path: str) -> Iterator[None]:
    """Name the file in every error, warning and log about it.

    Errors about a parameter name it themselves.
    """
    try:
        with _HOOK.installed(path):
            yield
    except (ImportError, MemoryError, FileNotFoundError, PermissionError, ParameterError):
        raise
    # Each library raises its own types, and Python's besides.
    except Exception as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise ValueError(
            f"cannot read {path}: {reason}. Replace the file, leave it out, or pass "
            "on_error='skip' to leave out all such files."
        ) from error


class _Hook:
    """Puts the name of the file before warnings of the threads that read, and of no others.

    ``warnings.catch_warnings`` would change the warnings of all threads. The function that shows
    warnings is replaced while any thread reads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_readers = 0
        self._show = warnings.showwarning

    @contextmanager
    def installed(self, path: str) -> Iterator[None]:
        """Name a file in the warnings of this thread."""
        outer = getattr(_here, "path", None)
        _here.path = path
        with self._lock:
            # Where warnings are caught meanwhile, the end of that brings this function back.
            if self._n_readers == 0 and warnings.showwarning != self.show:
                self._show, warnings.showwarning = warnings.showwarning, self.show  # type: ignore[assignment]
            self._n_readers += 1
        try:
            yield
        finally:
            _here.path = outer
            with self._lock:
                self._n_readers -= 1
                if self._n_readers == 0 and warnings.showwarning == self.show:
                    warnings.showwarning = self._show

    def show(self, message: Warning | str, category: type[Warning], *args: Any) -> None:
        """Show a warning, with the name of the file that this thread reads."""
        path = getattr(_here, "path", None)
        if path is not None and path not in str(message):
            message = UserWarning(f"{path}: {message}")
        self._show(message, category, *args)


def _name_in_log(record: logging.LogRecord) -> bool:
    """Put the name of the file that this thread reads before a record."""
    path = getattr(_here, "path", None)
    if path is not None:
        record.msg, record.args = f"{path}: {record.getMessage()}", None
    return True


_HOOK = _Hook()
for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_name_in_log)
