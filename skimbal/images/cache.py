"""Images that have been read, kept in memory or in a folder."""

import hashlib
import os
import pickle
import re
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeAlias

import numpy as np

from skimbal.exceptions import ParameterError
from skimbal.images.geometry import ImageSpec
from skimbal.typing import is_integer

__all__ = ["FolderCache", "ImageCache", "MemoryCache", "Stamp", "file_stamp", "make_cache"]

#: Facts about a file that change when it is written anew.
Stamp: TypeAlias = tuple[object, ...]
Key: TypeAlias = tuple[str, Stamp]

#: Bytes that numpy writes before the numbers of an image.
_NPY_HEADER_BYTES = 128


class ImageCache(Protocol):
    """Images by the path and stamp of their files."""

    def get(self, key: Key) -> np.ndarray | None:
        """Return the image of a file, or None if it is not in the cache."""

    def put(self, key: Key, image: np.ndarray) -> None:
        """Keep an image if there is room."""


def make_cache(cache: object, limit: object, spec: ImageSpec) -> ImageCache | None:
    """Make the cache that the parameters ``cache`` and ``cache_bytes`` ask for."""
    if not is_integer(limit) or limit < 0:
        raise ParameterError("cache_bytes", "an integer of at least 0", limit)
    if cache is None:
        return None
    if isinstance(cache, str) and cache == "memory":
        return MemoryCache(int(limit))
    if not isinstance(cache, str | os.PathLike):
        raise ParameterError("cache", "'memory', a folder or None", cache)
    return FolderCache(os.path.abspath(cache), int(limit), spec)


def file_stamp(path: str) -> Stamp:
    """Return facts that change when a file, or a file in a folder, is written anew."""
    if not os.path.exists(path):
        return ()  # a reader of the user may take names that are not paths
    if not os.path.isdir(path):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    files = (os.path.join(where, name) for where, _, names in os.walk(path) for name in names)
    return tuple((file, *file_stamp(file)) for file in sorted(files))


class MemoryCache:
    """Images by their files, in this process. A full cache keeps the images that came first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._images: dict[str, tuple[Stamp, np.ndarray]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["MemoryCache"], tuple[int]]:
        """Send an empty cache to another process."""
        return MemoryCache, (self._limit,)

    def get(self, key: Key) -> np.ndarray | None:
        """Return the image of a file, or None if it is not in the cache."""
        path, stamp = key
        entry = self._images.get(path)
        return None if entry is None or entry[0] != stamp else entry[1]

    def put(self, key: Key, image: np.ndarray) -> None:
        """Keep an image if there is room."""
        path, stamp = key
        with self._lock:
            if path in self._images:
                self._size -= self._images.pop(path)[1].nbytes
            if self._size + image.nbytes <= self._limit:
                image.setflags(write=False)
                self._images[path] = stamp, image
                self._size += image.nbytes


#: Names of the entries of a cache, and the prefix of an entry that is being written.
_ENTRY = re.compile(r"[0-9a-f]{64}\.npy")
_PART = "skimbal-part-"


class FolderCache:
    """Images by a digest of their files and the spec, in a folder that processes may share."""

    def __init__(self, folder: str, limit: int, spec: ImageSpec) -> None:
        self._folder, self._limit, self._spec = folder, limit, spec
        try:
            self._options = repr(replace(spec, reader=None)).encode()
            self._options += pickle.dumps(spec.reader, protocol=4)
        except Exception as error:
            raise ParameterError(
                "reader",
                "a function of a module if the cache is a folder",
                spec.reader,
                f"The folder outlives the program, so it needs the name of the reader ({error}).",
            ) from error
        self._began = time.time()
        self._size: int | None = None
        self._lock = threading.Lock()
        os.makedirs(folder, exist_ok=True)

    def __reduce__(self) -> tuple[type["FolderCache"], tuple[str, int, ImageSpec]]:
        """Send the name of the folder to another process."""
        return FolderCache, (self._folder, self._limit, self._spec)

    def _entry(self, key: Key) -> str:
        path, stamp = key
        digest = hashlib.sha256(repr((os.path.abspath(path), stamp)).encode() + self._options)
        return os.path.join(self._folder, f"{digest.hexdigest()}.npy")

    def get(self, key: Key) -> np.ndarray | None:
        """Return the image of a file, or None if it is not in the cache."""
        entry = self._entry(key)
        try:
            image: np.ndarray = np.load(entry, allow_pickle=False)
            os.utime(entry)  # it is in use
        # An entry that a full disk has damaged is written again.
        except (OSError, ValueError, EOFError):
            return None
        return image

    def put(self, key: Key, image: np.ndarray) -> None:
        """Keep an image if there is room, or if entries of earlier programs can make room."""
        with self._lock:
            if not self._has_room(image.nbytes + _NPY_HEADER_BYTES):
                return
            # An entry gets its name when it is complete, so a killed program leaves no half.
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
        """Make room by removing entries that this program has not used, if that is possible."""
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
        """List the entries, and remove unfinished entries of killed programs.

        Files of other names are not entries, and stay.
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
