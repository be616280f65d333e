"""Faults of a drive, in place of the n-th call of the system."""

import errno
import functools
import os
from contextlib import contextmanager

#: Calls by which a program changes or reads a folder.
CALLS = (
    *("open", "write", "fsync", "close", "fstat", "stat", "utime", "read"),
    *("mkdir", "link", "replace", "rename", "unlink", "rmdir", "lstat", "scandir", "listdir"),
)


class Killed(BaseException):
    """The end of a program, from whose next call on nothing reaches the drive."""


class Drive:
    """Counts the calls for files below a folder. The n-th fails, or all from the n-th on.

    Parameters
    ----------
    folder : path
        Calls for other files are left alone.
    fail : callable
        Raises, in place of the call.
    at : int
        Number of the first call that fails, from 0. None for no fault.
    lasts : bool
        Whether all later calls fail as well.
    """

    def __init__(self, folder, fail=None, at=None, lasts=False, calls=CALLS):
        self.folder, self.fail, self.at, self.lasts = str(folder), fail, at, lasts
        self.calls = calls
        self.seen = []
        self._handles = set()

    def _concerns(self, args):
        first = args[0] if args else None
        if isinstance(first, int):
            return first in self._handles
        with_path = isinstance(first, str | os.PathLike)
        return with_path and os.path.abspath(os.fspath(first)).startswith(self.folder)

    def _call(self, name, real, *args, **kwargs):
        if not self._concerns(args):
            return real(*args, **kwargs)
        number = len(self.seen)
        self.seen.append(name)
        if self.at is not None and (number == self.at or (self.lasts and number > self.at)):
            if name == "close":  # the handle is free in any case
                self._handles.discard(args[0])
                real(*args, **kwargs)
            self.fail(name)
        result = real(*args, **kwargs)
        if name == "open":
            self._handles.add(result)
        elif name == "close":
            self._handles.discard(args[0])
        return result

    @contextmanager
    def installed(self):
        """Stand between the program and its system."""
        real = {name: getattr(os, name) for name in self.calls}
        try:
            for name, function in real.items():
                setattr(os, name, functools.partial(self._call, name, function))
            yield self
        finally:
            for name, function in real.items():
                setattr(os, name, function)


def full(name):
    """Fail as a full drive: what is there can be read and removed."""
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(name):
    """Fail as a drive that has lost its network."""
    raise OSError(errno.EIO, "Input/output error")


def killed(name):
    """End the program."""
    raise Killed
