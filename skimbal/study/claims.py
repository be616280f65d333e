"""Which process works on which fit, for processes that share nothing but a folder.

A claim is a file. Only one process can create it, and its contents name the process. It is given
back when

- its process has finished or given up the fit, and removes it;
- its process is dead, as another process of the same machine sees;
- its heart has stopped: while the fit runs, a thread touches the file every :data:`BEAT` seconds.
  A claim that was not touched for :data:`TIMEOUT` seconds is given back. The folder's own clock
  measures this time, so the clocks of machines may differ.

A process that takes over a claim first gives it a second name, a hard link that only one process
can make, and then removes the first. A network drive needs no locks for this. If a process that
seemed dead goes on, such as after a suspension, the fit is done twice, with the same result. So it
may be on a drive without hard links.
"""

import os
import secrets
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import NamedTuple

from skimbal.atomic import PART, ProcessIdentity, create_file, folder_time
from skimbal.study.sealed import DamagedError, read_sealed, seal

__all__ = ["BEAT", "CLEARING", "TIMEOUT", "Claim", "Holder", "holder_of", "is_free"]

#: A claim is touched so often while its fit runs, in seconds.
BEAT = 15.0
#: A claim that was not touched for this time is given back, in seconds. A network drive may show
#: the time of a touch a minute late.
TIMEOUT = 180.0
#: Removing an abandoned claim takes less than this time, in seconds.
CLEARING = 10.0

#: Claims that this process holds. Any other claim of this process is left over.
_HELD: set[str] = set()
_CAN_TOUCH_HANDLES = os.utime in os.supports_fd


class Holder(NamedTuple):
    """The contents of a claim: its process, the call it is for, and a number of its own."""

    process: ProcessIdentity
    run: str
    token: str


#: The holder of a claim that cannot be read.
_UNKNOWN = Holder(ProcessIdentity("an unknown machine", "", 0, 0), "", "")


class Claim:
    """The wish of this process to do a fit.

    Parameters
    ----------
    path : str
        The file.
    run : str
        Which call of this or a parent process the fit is for.
    """

    def __init__(self, path: str, run: str) -> None:
        self._path, self._run, self._token = path, run, secrets.token_hex(8)
        #: The path that the heart touches, or a handle where the system can touch a handle. The
        #: path may belong to another claim later.
        self._touched: int | str | None = None
        self._ends = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="skimbal-heart", daemon=True)

    def take(self) -> bool:
        """Take the claim if it is free, or raise an OSError. Tell whether it is ours."""
        process = ProcessIdentity.current()
        data = seal({**asdict(process), "run": self._run, "token": self._token})
        _HELD.add(self._token)
        taken = False
        while not taken:
            found = holder_of(self._path)
            if found is not None and not (_is_abandoned(self._path, found) and self._clear(found)):
                return False
            taken = create_file(self._path, data, durable=False)
        self._touched = self._path
        if _CAN_TOUCH_HANDLES:
            try:
                self._touched = os.open(self._path, os.O_RDONLY)
            except FileNotFoundError:  # a process without hard links looks at it
                self.give_back()
                return False
            except OSError:
                self.give_back()
                raise
        self._heart.start()
        return True

    def _clear(self, found: Holder) -> bool:
        """Remove an abandoned claim, which one process does. Tell whether the path is free now."""
        folder, name = os.path.split(self._path)
        grave = os.path.join(folder, f"{PART}{name}-{found.token}")
        is_linked = True
        try:
            os.link(self._path, grave)
        except FileNotFoundError:
            return True
        except FileExistsError:  # of a process that does it now, or has died on the way
            with suppress(OSError):
                if folder_time(folder) - os.lstat(grave).st_ctime > CLEARING:
                    os.unlink(grave)
            return False
        except OSError:  # a drive without hard links, or a folder in the place of the claim
            os.rename(self._path, grave)
            is_linked = False
        is_right = holder_of(grave) == found
        with suppress(OSError):
            if is_right and is_linked:
                os.unlink(self._path)
            elif not is_right and not is_linked:  # another process was faster, and holds the claim
                os.rename(grave, self._path)
        with suppress(OSError):
            os.rmdir(grave) if os.path.isdir(grave) else os.unlink(grave)
        return is_right

    def _beat(self) -> None:
        while not self._ends.wait(BEAT):
            with suppress(OSError):
                os.utime(self._touched)  # type: ignore[arg-type]

    def give_back(self) -> None:
        """Remove the claim if it is ours. Other processes may then take it."""
        _HELD.discard(self._token)
        touched, self._touched = self._touched, None
        if touched is None:
            return
        if self._heart.ident is not None:
            self._ends.set()
            self._heart.join()
        with suppress(OSError):
            if isinstance(touched, int):
                os.close(touched)
        with suppress(OSError):
            found = holder_of(self._path)
            if found is not None and found.token == self._token:
                os.unlink(self._path)


def holder_of(path: str) -> Holder | None:
    """Return the holder of a claim, or None if there is no claim."""
    try:
        told = read_sealed(path)
        process = ProcessIdentity(*(told[name] for name in ("host", "machine", "pid", "started")))
        return Holder(process, told["run"], told["token"])
    except (OSError, DamagedError, KeyError):
        return _UNKNOWN if os.path.lexists(path) else None


def is_free(path: str) -> bool:
    """Tell whether a claim could be taken."""
    found = holder_of(path)
    return found is None or _is_abandoned(path, found)


def _is_abandoned(path: str, found: Holder) -> bool:
    if found.process == ProcessIdentity.current():
        return found.token not in _HELD
    if found.process.is_dead():
        return True
    try:
        touched = os.lstat(path).st_mtime
    except FileNotFoundError:
        return True
    # A time in the future is that of a clock that has been set back.
    return abs(folder_time(os.path.dirname(path)) - touched) > TIMEOUT
