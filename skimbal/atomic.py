"""Files that are whole or absent at every moment, also after a crash, and on network drives.

A file is written under a name of its own in the folder of its target (a *part*), synchronised with
the disk, and then gets the name of the target in one step. A part says which process writes it. A
later program removes the parts of dead processes.
"""

import errno
import functools
import hashlib
import io
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from skimbal.typing import PathLike

__all__ = [
    "PART",
    "ProcessIdentity",
    "check_target",
    "create_file",
    "folder_time",
    "is_leftover",
    "part_path",
    "remove_leftovers",
    "replacing",
    "write_file",
]

#: Prefix of the name of a file that is being written.
PART = "skimbal-part-"
#: A part that nobody has written to for this time is left over, in seconds.
_PART_AGE = 3600.0
#: Errors of drives that have no hard links, and of drives that cannot synchronise.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}


@dataclass(frozen=True)
class ProcessIdentity:
    """The facts that tell a process from all others, on this machine and on others.

    Parameters
    ----------
    host : str
        Name of the machine, for messages.
    machine : str
        Checksum of the name, the start of the machine, and the space in which process numbers are
        unique. Containers may share the first two.
    pid : int
        Number of the process.
    started : int
        When the process started, in clock ticks of its machine. A later process may get the same
        number. 0 where the system does not tell.
    """

    host: str
    machine: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> "ProcessIdentity":
        """Return the identity of this process."""
        return _identity(os.getpid())  # a process that forks is another one

    def is_dead(self) -> bool:
        """Tell whether the process is known to have ended. Of another machine, nothing is known."""
        # On Windows, os.kill ends a process.
        if self.machine != _machine() or os.name != "posix":
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:  # a process of another user
            pass
        state, started = _status(self.pid)
        return state in ("Z", "X") or (started > 0 and started != self.started)


@functools.cache
def _identity(pid: int) -> ProcessIdentity:
    return ProcessIdentity(socket.gethostname(), _machine(), pid, _status(pid)[1])


@functools.cache
def _machine() -> str:
    facts = [socket.gethostname()]
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        facts.append(file.read())
    with suppress(OSError):
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=8).hexdigest()


def _status(pid: int) -> tuple[str, int]:
    """Return the state of a process, and when it started. Linux tells them."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program stands in brackets, and may have any characters.
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, ValueError, IndexError):
        return "", 0


class _File(io.FileIO):
    """An unbuffered file that writes all of the data, or raises."""

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        view = memoryview(data)
        rest = view.cast("B") if view.nbytes else b""
        while len(rest):
            rest = rest[os.write(self.fileno(), rest) :]
        return view.nbytes


def _new_file(path: str) -> _File:
    return _File(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o666))


def part_path(folder: str) -> str:
    """Return a new name for a part in a folder."""
    me = ProcessIdentity.current()
    name = f"{PART}{me.machine}-{me.pid}-{me.started}-{secrets.token_hex(4)}"
    return os.path.join(folder, name)


@contextmanager
def replacing(path: PathLike, *, durable: bool = True) -> Iterator[io.FileIO]:
    """Open a new file beside the path. It replaces the path when the block ends without an error.

    Parameters
    ----------
    path : str or path-like
        The file, which may exist.
    durable : bool, default=True
        Whether the file is on the disk when the block has ended. If False, a failure of power may
        leave an empty file.

    Yields
    ------
    file : io.FileIO
        An unbuffered binary file.

    Raises
    ------
    OSError
        If the file cannot be written. The path is then as it was.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skimbal.atomic import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a")) as file:
    ...         n_bytes = file.write(b"whole")
    ...     Path(folder, "a").read_bytes()
    b'whole'
    """
    target = os.fspath(path)
    folder = os.path.dirname(target) or os.curdir
    part = part_path(folder)
    try:
        with _new_file(part) as file:
            yield file
            if durable:
                _synchronise(file.fileno())
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    if durable:
        _synchronise_folder(folder)


def check_target(path: PathLike) -> None:
    """Refuse a path at which no file can be written, before the work for the file.

    Parameters
    ----------
    path : str or path-like
        The file.

    Raises
    ------
    TypeError
        If ``path`` is not a path.
    FileNotFoundError, IsADirectoryError
        If its folder does not exist, or it is a folder.
    """
    target = os.fspath(path)
    folder = os.path.dirname(target) or os.curdir
    if os.path.isdir(target):
        raise IsADirectoryError(f"path must be a file; got the folder {target!r}.")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"path must be in a folder that exists; got {target!r}.")


def write_file(path: PathLike, *data: bytes | memoryview, durable: bool = True) -> None:
    """Write a file, or raise an OSError and leave the path as it was."""
    with replacing(path, durable=durable) as file:
        for part in data:
            file.write(part)


def create_file(path: PathLike, data: bytes, *, durable: bool = True) -> bool:
    """Write a new file, if there is none. Of several processes that try, one succeeds.

    Parameters
    ----------
    path : str or path-like
        The file.
    data : bytes
        Its contents.
    durable : bool, default=True
        Whether the file is on the disk when the call has ended.

    Returns
    -------
    created : bool
        False if the path exists.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    target = os.fspath(path)
    folder = os.path.dirname(target) or os.curdir
    part = part_path(folder)
    try:
        with _new_file(part) as file:
            file.write(data)
            if durable:
                _synchronise(file.fileno())
        created = _link(part, target, data)
    finally:
        with suppress(OSError):
            os.unlink(part)
    if created and durable:
        _synchronise_folder(folder)
    return created


def _link(part: str, target: str, data: bytes) -> bool:
    try:
        os.link(part, target)
    except FileExistsError:
        # A network drive may lose the answer to a first attempt, and meet it in the second.
        return os.stat(part).st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return True
    try:
        file = _new_file(target)
    except FileExistsError:
        return False
    try:
        with file:
            file.write(data)
    except BaseException:
        with suppress(OSError):
            os.unlink(target)
        raise
    return True


def _synchronise(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _synchronise_folder(folder: str) -> None:
    """Put the names of a folder on the disk. Windows does so itself."""
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # names may be added to a folder whose names cannot be read
        return
    try:
        _synchronise(handle)
    finally:
        os.close(handle)


def folder_time(folder: PathLike) -> float:
    """Return the time by the clock that a folder's files have, in seconds.

    The clock of a network drive is another than the clock of this machine.
    """
    part = part_path(os.fspath(folder))
    try:
        with _new_file(part) as file:
            return os.fstat(file.fileno()).st_mtime
    finally:
        with suppress(OSError):
            os.unlink(part)


def is_leftover(name: str, age: float) -> bool:
    """Tell whether a part of this name and age in seconds is left over from a dead process."""
    if not name.startswith(PART):
        return False
    machine, *numbers = name.removeprefix(PART).split("-")
    says_who = len(numbers) == 3 and numbers[0].isdecimal() and numbers[1].isdecimal()
    if says_who and ProcessIdentity("", machine, int(numbers[0]), int(numbers[1])).is_dead():
        return True
    return age > _PART_AGE


def remove_leftovers(folder: PathLike) -> None:
    """Remove the parts of dead processes from a folder, as far as that is possible."""
    with suppress(OSError):
        parts = [entry for entry in os.scandir(folder) if entry.name.startswith(PART)]
        now = folder_time(folder) if parts else 0.0
        for entry in parts:
            with suppress(OSError):
                if is_leftover(entry.name, now - entry.stat().st_mtime):
                    os.unlink(entry.path)
