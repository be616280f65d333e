"""The name of a file in all that is said about it: errors, warnings and logs."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from skimbal.exceptions import ParameterError, UnreadableFileError

__all__ = ["naming_file"]

#: Libraries that log what is wrong with a file, without its name.
_LOGGERS = ("tifffile", "pydicom", "pydicom.pixels.decoders.base", "nibabel.global")
#: The file that this thread reads, as ``path``.
_here = threading.local()
#: Name of the function of Python that shows a warning.
_SHOW = "_showwarnmsg"


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
        remedy = (
            "Replace the file, leave it out, or pass on_error='skip' to leave out all such files."
        )
        raise UnreadableFileError(path, reason, remedy) from error


class _Hook:
    """Puts the name of the file before warnings of the threads that read, and of no others.

    Python calls ``warnings._showwarnmsg`` for every warning that passes the filters. That function
    is replaced while any thread reads. ``catch_warnings`` and users save and restore the public
    function, ``showwarning``, so a replacement of that would outlive the reading where another
    thread catches warnings meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_readers = 0
        self._show = getattr(warnings, _SHOW)
        #: One object, as each look at a method makes another.
        self._named = self._name

    @contextmanager
    def installed(self, path: str) -> Iterator[None]:
        """Name a file in the warnings of this thread."""
        outer = getattr(_here, "path", None)
        _here.path = path
        with self._lock:
            if self._n_readers == 0:
                self._show = getattr(warnings, _SHOW)
                setattr(warnings, _SHOW, self._named)
            self._n_readers += 1
        try:
            yield
        finally:
            _here.path = outer
            with self._lock:
                self._n_readers = max(0, self._n_readers - 1)  # 0 in a process forked meanwhile
                if self._n_readers == 0:
                    setattr(warnings, _SHOW, self._show)

    def _name(self, message: warnings.WarningMessage) -> None:
        path = getattr(_here, "path", None)
        if path is not None and path not in str(message.message):
            message.message = UserWarning(f"{path}: {message.message}")
        self._show(message)

    def forget(self) -> None:
        """Begin anew in a forked process, in which no other thread reads."""
        setattr(warnings, _SHOW, self._show)
        self._lock, self._n_readers = threading.Lock(), 0


def _name_in_log(record: logging.LogRecord) -> bool:
    """Put the name of the file that this thread reads before a record."""
    path = getattr(_here, "path", None)
    if path is not None:
        record.msg, record.args = f"{path}: {record.getMessage()}", None
    return True


_HOOK = _Hook()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_HOOK.forget)
for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_name_in_log)
