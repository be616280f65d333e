"""Images that have been read, kept in memory or in a folder."""

import hashlib
import os
import pickle
import re
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np

from skimbal.images.geometry import ImageSpec

__all__ = ["FolderCache", "MemoryCache", "file_stamp", "make_cache"]

#: What numpy writes before the numbers of an image.
_NPY_HEADER_BYTES = 128


def make_cache(cache: Any, limit: int, form: ImageSpec) -> "MemoryCache | FolderCache | None":
    if not isinstance(limit, int | np.integer) or isinstance(limit, bool) or limit < 0:
        raise ValueError(f"cache_bytes must be an integer of at least 0, got {limit!r}.")
    if cache is None:
        return None
    if isinstance(cache, str) and cache == "memory":
        return MemoryCache(int(limit))
    if not isinstance(cache, str | os.PathLike):
        raise ValueError(f"cache must be 'memory', a folder or None, got {cache!r}.")
    return FolderCache(os.path.abspath(cache), int(limit), form)


def file_stamp(path: str) -> tuple[Any, ...]:
    """Return what changes when a file, or one in a folder, is written anew."""
    if not os.path.exists(path):
        return ()  # what a reader of the user's takes may be a name of another kind
    if not os.path.isdir(path):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    files = (os.path.join(where, name) for where, _, names in os.walk(path) for name in names)
    return tuple((file, *file_stamp(file)) for file in sorted(files))


class MemoryCache:
    """Images by their files, in this process; those that came first stay."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._images: dict[str, tuple[Any, np.ndarray]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return MemoryCache, (self._limit,)

    def get(self, key: tuple[str, Any]) -> np.ndarray | None:
        path, stamp = key
        known, image = self._images.get(path, (None, None))
        return image if known == stamp else None

    def put(self, key: tuple[str, Any], image: np.ndarray) -> None:
        path, stamp = key
        with self._lock:
            if path in self._images:
                self._size -= self._images.pop(path)[1].nbytes
            if self._size + image.nbytes <= self._limit:
                image.setflags(write=False)
                self._images[path] = stamp, image
                self._size += image.nbytes


#: Names of the files of a cache: those of entries, and how those begin that are being written.
_ENTRY = re.compile(r"[0-9a-f]{64}\.npy")
_PART = "skimbal-part-"


class FolderCache:
    """Images by a digest of their files and the form, in a folder that processes may share."""

    def __init__(self, folder: str, limit: int, form: ImageSpec) -> None:
        self._folder, self._limit, self._form = folder, limit, form
        try:
            self._options = repr((form.size, form.resize, form.spacing, form.channels)).encode()
            self._options += pickle.dumps(form.reader, protocol=4)
        except Exception as error:
            raise ValueError(
                "a cache in a folder outlives the program, so it needs a reader that can be named: "
                f"a function of a module, not {form.reader!r} ({error})."
            ) from error
        self._began = time.time()
        self._size: int | None = None
        self._lock = threading.Lock()
        os.makedirs(folder, exist_ok=True)

    def __reduce__(self) -> Any:
        return FolderCache, (self._folder, self._limit, self._form)

    def _entry(self, key: tuple[str, Any]) -> str:
        path, stamp = key
        digest = hashlib.sha256(repr((os.path.abspath(path), stamp)).encode() + self._options)
        return os.path.join(self._folder, f"{digest.hexdigest()}.npy")

    def get(self, key: tuple[str, Any]) -> np.ndarray | None:
        entry = self._entry(key)
        try:
            image: np.ndarray = np.load(entry, allow_pickle=False)
            os.utime(entry)  # it is in use
        # One that a full disk has damaged is written again.
        except (OSError, ValueError, EOFError):
            return None
        return image

    def put(self, key: tuple[str, Any], image: np.ndarray) -> None:
        with self._lock:
            if not self._has_room(image.nbytes + _NPY_HEADER_BYTES):
                return
            # Under its name it is complete, whenever the program is killed.
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=_PART, delete=False) as file:
                try:
                    np.save(file, image, allow_pickle=False)
                    file.close()
                    os.replace(file.name, self._entry(key))
                except BaseException:
                    with suppress(OSError):
                        os.unlink(file.name)
                    raise
            assert self._size is not None
            self._size += image.nbytes + _NPY_HEADER_BYTES

    def _has_room(self, n_bytes: int) -> bool:
        if self._size is None:
            self._size = sum(size for _, size, _ in self._entries())
        if self._size + n_bytes > self._limit:
            entries = self._entries()
            self._size = sum(size for _, size, _ in entries)
            for used, size, path in sorted(entries):
                if used >= self._began or self._size + n_bytes <= self._limit:
                    break
                with suppress(FileNotFoundError):
                    os.unlink(path)
                self._size -= size
        return self._size + n_bytes <= self._limit

    def _entries(self) -> list[tuple[float, int, str]]:
        """List the entries; remove what a killed program has begun to write.

        Files of other names are somebody's own, even in this folder.
        """
        entries = []
        with os.scandir(self._folder) as found:
            for entry in found:
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    if _ENTRY.fullmatch(entry.name):
                        entries.append((status.st_mtime, status.st_size, entry.path))
                    elif entry.name.startswith(_PART) and status.st_mtime < time.time() - 3600:
                        os.unlink(entry.path)
        return entries
