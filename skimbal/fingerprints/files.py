"""Contents of the files that texts name."""

import hashlib
import os
import sys
import time
import types
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from skimbal.fingerprints.versions import version_of_module

__all__ = ["Mentions", "content_of", "folder_content"]

#: Checksums by path, each with inode, size and times. Nobody can set the time of the status.
_KNOWN: dict[str, tuple[tuple[int, ...], str]] = {}
#: Changes of a file within this time may leave the same times, in nanoseconds.
_CLOCK_STEP = 2 * 10**9
#: torch.hub runs this file of a folder, and what it imports.
_HUB = "hubconf.py"
#: Longer texts cannot be names. So many names are joined to a path at most.
_LONGEST_NAME, _DEPTH = 256, 3


class Mentions:
    """Texts of a program, any of which may name a folder, a file in it or a variable."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        #: Folders of the modules of the program.
        self.folders: set[str] = set()
        self.reads_environment = False

    def files(self) -> Iterator[str]:
        """Yield the files that one text names in a folder that another text names."""
        folders = {_folder_of(text) for text in self.texts} - {None}
        modules = (sys.modules.get(text) for text in self.texts)
        packages = {path for m in modules if m is not None for path in _folders_of_package(m)}
        everywhere = sorted(map(str, folders | self.folders | packages))
        for path in _joined(everywhere, self.texts | {_HUB}):
            is_hub = os.path.basename(path) == _HUB
            yield from map(str, sorted(Path(path).parent.rglob("*.py"))) if is_hub else [path]

    def variables(self) -> Iterator[tuple[str, object]]:
        """Yield variables of the environment with their values, if the program reads any."""
        if self.reads_environment:
            for name in sorted(self.texts & os.environ.keys()):
                yield name, os.environ[name]


def _folders_of_package(module: types.ModuleType) -> list[str]:
    """Return the folders of a package of the user, in which it may have data."""
    is_of_user = version_of_module(module) is None
    return [str(path) for path in getattr(module, "__path__", ())] if is_of_user else []


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


def _folder_of(path: str) -> str | None:
    """Return the folder that a path names, or the folder of the file that it names."""
    if not 0 < len(path) < 4096:
        return None
    return path if os.path.isdir(path) else os.path.dirname(path) if os.path.isfile(path) else None


def _joined(folders: Iterable[str], names: Iterable[str]) -> Iterator[str]:
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
