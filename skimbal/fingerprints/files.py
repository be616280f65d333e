"""Contents of the files that texts name."""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import PurePath

__all__ = ["content_of", "folder_content", "folder_of", "joined"]

#: Checksums by path, each with inode, size and times. Nobody can set the time of the status.
_KNOWN: dict[str, tuple[tuple[int, ...], str]] = {}
#: Changes of a file within this time may leave the same times, in nanoseconds.
_CLOCK_STEP = 2 * 10**9
#: Longer texts cannot be names. So many names are joined to a path at most.
_LONGEST_NAME, _DEPTH = 256, 3


def content_of(path: str) -> str | None:
    """Return a checksum of the contents of a file, or None if the text is not the path of a file.

    A file that has not changed is read once in a process.
    """
    if not 0 < len(path) < 4096 or not os.path.isfile(path):
        return None
    try:
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            key = os.path.abspath(path)
            if _KNOWN.get(key, ((), ""))[0] == stamp:
                return _KNOWN[key][1]
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        return f"unreadable ({error.strerror})"
    if max(stamp[2:]) < time.time_ns() - _CLOCK_STEP:
        _KNOWN[key] = stamp, digest
    return digest


def folder_content(folder: str) -> str:
    """Return a checksum of the names and contents of the files in a folder."""
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(
        PurePath(where, name) for where, _, names in os.walk(folder) for name in names
    ):
        total.update(f"{path.relative_to(folder)} {content_of(str(path))}\n".encode())
    return total.hexdigest()


def folder_of(value: object) -> str | None:
    """Return the folder that a path names, or the folder of the file that it names."""
    if not isinstance(value, str | PurePath) or not 0 < len(str(value)) < 4096:
        return None
    path = str(value)
    return path if os.path.isdir(path) else os.path.dirname(path) if os.path.isfile(path) else None


def joined(folders: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """Yield the files in some folders that have one of the names, such as ``"weights/a.pt"``.

    A folder of one of the names is a folder, too. Names may begin with a separator, as a text has
    that a program puts behind a folder.
    """
    found = {name.lstrip("/" + os.sep) for name in names if len(name) < _LONGEST_NAME} - {""}
    names, waiting = sorted(found), [(folder, 0) for folder in folders]
    while waiting:
        folder, depth = waiting.pop(0)
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                yield path
            elif depth < _DEPTH and os.path.isdir(path):
                waiting.append((path, depth + 1))
