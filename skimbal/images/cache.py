"""Images that have been read, kept in memory or in a folder."""

import functools
import hashlib
import importlib.metadata
import math
import mmap
import os
import re
import stat
import sys
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields
from io import FileIO
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from skimbal.atomic import PART, folder_time, is_leftover, write_file
from skimbal.exceptions import ParameterError
from skimbal.fingerprints import UndescribedError, code_digest, installed_version
from skimbal.images.formats import FORMATS
from skimbal.images.geometry import ImageSpec
from skimbal.typing import is_integer

__all__ = [
    "CLOCK_STEP",
    "MARK_STEP",
    "SCAN_STEP",
    "FileState",
    "FolderCache",
    "ImageCache",
    "MemoryCache",
    "content_digest",
    "decoder_versions",
    "known_content",
    "make_cache",
]

#: Facts about a file that change when it is written anew.
Stamp: TypeAlias = tuple[object, ...]

#: Two changes of a file within this time may leave the same time of the last change, in seconds.
CLOCK_STEP = 2.0
#: An entry is marked as used so often at most, in seconds. On a network drive a mark takes time.
MARK_STEP = 600.0
#: A full folder is measured again after this time at least, in seconds.
SCAN_STEP = 10.0
#: Packages that decode or resample images, by the names of their modules.
_DECODERS = {
    "numpy": "numpy",
    "torch": "torch",
    "PIL": "pillow",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
    "pydicom": "pydicom",
    "pylibjpeg": "pylibjpeg",
    "openjpeg": "pylibjpeg-openjpeg",
    "libjpeg": "pylibjpeg-libjpeg",
    "_gdcm": "python-gdcm",
    "jpeg_ls": "pyjpegls",
    "nibabel": "nibabel",
    "zarr": "zarr",
    "numcodecs": "numcodecs",
}


class FileState(NamedTuple):
    """A file or folder at a moment.

    Parameters
    ----------
    path : str
        Its path.
    stamp : tuple
        Size, times of the last change of contents and status, and number of each file. Programs
        such as cp and rsync can set back the first time, but not the second.
    content : bytes, default=None
        Checksum of the contents, if the last change is so recent that a further change may leave
        the same time.
    scale: tuple, default=()
        Range and unit that the numbers must have, if only the reading of the file shows them.
    """

    path: str
    stamp: Stamp
    content: bytes | None = None
    scale: tuple[object, ...] = ()

    @classmethod
    def of(cls, path: str) -> "FileState":
        """Look at a file."""
        found = tuple(_statuses(path))
        stamp = tuple(
            (name[len(path) :], s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
            for name, s in found
        )
        # Nobody but the clock sets the time of a change of the status. Windows has no such time.
        changed = max(
            (s.st_ctime_ns if os.name == "posix" else s.st_mtime_ns for _, s in found), default=0
        )
        is_recent = changed > time.time_ns() - int(CLOCK_STEP * 1e9)
        return cls(path, stamp, content_digest(path) if is_recent else None)

    def lasts(self) -> bool:
        """Tell whether the file is still as it was."""
        now = FileState.of(self.path)
        return now.stamp == self.stamp and (self.content is None or self.has(self.content, now))

    def has(self, content: bytes, now: "FileState | None" = None) -> bool:
        """Tell whether the file has contents with a checksum."""
        known = (now or self).content
        return content == (content_digest(self.path) if known is None else known)


#: Checksums of contents, by paths, each with the stamp of its file.
_KNOWN: dict[str, tuple[Stamp, bytes]] = {}


def known_content(path: str) -> bytes:
    """Return a checksum of the contents of a file, which is read again only if it has changed."""
    state = FileState.of(path)
    if not state.stamp:  # a name of the user
        return path.encode("utf-8", "surrogatepass")
    if state.content is not None:
        return state.content
    stamp, content = _KNOWN.get(path, ((), b""))
    if stamp != state.stamp:
        content = content_digest(path)
        _KNOWN[path] = state.stamp, content
    return content


def _statuses(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each file of a folder, or the file itself. A user's name of another thing has none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return
    if not stat.S_ISDIR(status.st_mode):
        yield path, status
        return
    seen = set()
    for where, folders, names in os.walk(path, followlinks=True):
        folders.sort()
        with suppress(OSError):
            folder = os.stat(where)
            if (folder.st_dev, folder.st_ino) in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add((folder.st_dev, folder.st_ino))
        for name in sorted(names):
            file = os.path.join(where, name)
            with suppress(OSError):
                yield file, os.stat(file)


def content_digest(path: str) -> bytes:
    """Return a checksum of the contents of a file, or of the files in a folder."""
    total = hashlib.blake2b(digest_size=16)
    for name, _ in _statuses(path):
        try:
            with open(name, "rb") as file:
                facts = f"{name[len(path) :]} {os.fstat(file.fileno()).st_size} "
                total.update(facts.encode("utf-8", "replace"))
                while block := file.read(2**20):
                    total.update(block)
        except OSError:  # its reader says so
            return uuid.uuid4().bytes
    return total.digest()


class ImageCache(Protocol):
    """Images by the states of their files."""

    def get(self, state: FileState) -> np.ndarray | None:
        """Return the image of a file, or None if it is not in the cache."""

    def put(self, state: FileState, image: np.ndarray) -> None:
        """Keep an image if there is room."""


def make_cache(cache: object, limit: object, spec: ImageSpec) -> ImageCache | None:
    """Make the cache that the parameters ``cache`` and ``cache_bytes`` ask for."""
    if not is_integer(limit) or limit < 0:
        raise ParameterError("cache_bytes", "an integer of at least 0", limit)
    if cache is None:
        return None
    if isinstance(cache, str) and cache == "memory":
        return MemoryCache(int(limit))
    if not isinstance(cache, str | os.PathLike) or isinstance(os.fspath(cache), bytes):
        raise ParameterError("cache", "'memory', a folder or None", cache)
    kept = FolderCache(os.path.abspath(cache), int(limit), spec)
    kept.open()
    return kept


#: Caches of this process. A process may fork while another thread holds the lock of a cache.
_CACHES: "weakref.WeakSet[MemoryCache | FolderCache]" = weakref.WeakSet()


def _free_locks() -> None:
    for cache in list(_CACHES):
        cache.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)


class MemoryCache:
    """Images by their files, in this process. A full cache keeps the images that came first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._images: dict[str, tuple[FileState, object, np.ndarray]] = {}
        self.lock = threading.Lock()
        _CACHES.add(self)

    def __reduce__(self) -> tuple[type["MemoryCache"], tuple[int]]:
        """Send an empty cache to another process."""
        return MemoryCache, (self._limit,)

    def get(self, state: FileState) -> np.ndarray | None:
        """Return the image of a file, or None if it is not in the cache."""
        kept, formats, image = self._images.get(state.path, (None, None, None))
        if kept is None or formats != tuple(FORMATS.items()):
            return None
        if (kept.stamp, kept.scale) != (state.stamp, state.scale):
            return None
        if kept.content is not None:
            if not state.has(kept.content):
                return None
            if state.content is None and image is not None:  # its time of change is certain now
                self.put(state, image)
        return image

    def put(self, state: FileState, image: np.ndarray) -> None:
        """Keep a copy of an image if there is room."""
        with self.lock:
            if state.path in self._images:
                self._size -= self._images.pop(state.path)[2].nbytes
            if self._size + image.nbytes <= self._limit:
                # A reader may hold a view of its array. Nobody can write to bytes.
                kept: np.ndarray = np.frombuffer(image.tobytes(), image.dtype).reshape(image.shape)
                self._images[state.path] = state, tuple(FORMATS.items()), kept
                self._size += image.nbytes


#: Names of the entries of a cache.
_ENTRY = re.compile(r"[0-9a-f]{64}\.npy")
#: The header that numpy writes, with a checksum as a comment.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<>|][biuf]\d{1,2})', 'fortran_order': False, "
    rb"'shape': \((\d+(?:,|(?:, \d+)+))\), \} # ([0-9a-f]{32}) *\n",
    re.DOTALL,
)
_HEADER_BYTES = 128
#: Bytes of a row of the table that the checksum sums, and of a number of rows.
_ROW_BYTES, _BLOCK_BYTES = 2**13, 2**19


class FolderCache:
    """Images by a digest of their files and the spec, in a folder that processes may share."""

    def __init__(self, folder: str, limit: int, spec: ImageSpec) -> None:
        self._folder, self._limit, self._spec = folder, limit, spec
        self._formats: object = None
        self._options = b""
        self._describe()
        self.lock = threading.Lock()
        #: Forked processes share this byte, so one of them warns for all.
        self._failed = mmap.mmap(-1, 1)
        self._size: int | None = None
        self._until_scan, self._next_scan = 0.0, 0.0
        #: Entries that no program has used since this one began, the oldest last.
        self._unused: list[tuple[float, int, str]] = []
        self._began = time.time()
        _CACHES.add(self)

    def __reduce__(self) -> tuple[object, ...]:
        """Send the name of the folder to another process."""
        return _again, (self._folder, self._limit, self._spec, self._began, self._failed[0])

    def open(self) -> None:
        """Make the folder, and see whether entries can be written."""
        try:
            os.makedirs(self._folder, exist_ok=True)
            self._began = folder_time(self._folder)
        except (OSError, ValueError) as error:
            self._stop(error)

    def _describe(self) -> None:
        """Describe all that makes pixels of a file: parameters, code and versions."""
        spec, formats = self._spec, tuple(FORMATS.items())
        if self._formats == formats:
            return
        values = {field.name: getattr(spec, field.name) for field in fields(spec)}
        reader = values.pop("reader")
        texts = [self._digest_of(values, "the size, spacing or scale")]
        if reader is None:
            rows = ((f"FORMATS[{name!r}]", vars(row)) for name, row in formats)
            texts += [name + self._digest_of(row, name) for name, row in rows]
        else:
            texts.append(self._digest_of(reader, "the reader"))
        parts = [*texts, *decoder_versions(), installed_version(__file__)]
        self._formats, self._options = formats, repr(parts).encode()

    def _digest_of(self, value: object, name: str) -> str:
        try:
            return code_digest(value, name)
        except UndescribedError as error:
            raise ParameterError(
                "cache",
                f"'memory' or None if {error}",
                self._folder,
                "A folder outlives the program, and an entry of an edited reader must be noticed.",
            ) from error

    def key(self, state: FileState) -> bytes:
        """Return a digest of all that an entry is for."""
        self._describe()
        facts = repr((os.path.abspath(state.path), state.stamp, state.scale))
        return hashlib.blake2b(
            facts.encode("utf-8", "surrogatepass") + self._options, digest_size=32
        ).digest()

    def entry(self, key: bytes) -> str:
        """Return the path of an entry."""
        return os.path.join(self._folder, f"{key.hex()}.npy")

    def get(self, state: FileState) -> np.ndarray | None:
        """Return the image of a file, or None if there is no entry of it that can be trusted."""
        if not state.stamp:
            return None
        key = self.key(state)
        entry = self.entry(key)
        try:
            with open(entry, "rb", buffering=0, opener=_open_at_once) as file:
                status = os.fstat(file.fileno())
                found = _read_entry(file, status.st_size)
        except (OSError, ValueError, TypeError, EOFError, MemoryError):
            return None
        if found is None:
            return None
        image, checksum, total = found
        if checksum != _seal(total, key, None):
            # The file was so young at that time that its contents were part of the key.
            content = state.content or content_digest(state.path)
            if checksum != _seal(total, key, content):
                return None
            if state.content is None:
                self.put(state, image)
        now = time.time()
        if status.st_mtime < max(self._began, now - MARK_STEP):
            with suppress(OSError):
                os.utime(entry)  # it is in use
        return image

    def put(self, state: FileState, image: np.ndarray) -> None:
        """Keep an image if there is room, or if entries of earlier programs can make room.

        A folder that cannot be written is a warning, and then the cache only reads.
        """
        if not state.stamp:
            raise ParameterError(
                "cache",
                f"'memory' or None for names that are not files, such as {state.path!r}",
                self._folder,
                "The size and time of a file tell whether its image has changed. A name has none.",
            )
        with self.lock:
            if self._failed[0]:
                return
            key = self.key(state)
            try:
                if self._has_room(image.nbytes + _HEADER_BYTES):
                    self._write(self.entry(key), _entry_parts(key, state.content, image))
            except (OSError, ValueError) as error:
                self._stop(error)

    def _write(self, entry: str, parts: tuple[bytes, memoryview]) -> None:
        """Write an entry, which gets its name when it is complete."""
        n_bytes = len(parts[0]) + parts[1].nbytes
        write_file(entry, *parts, durable=False)
        assert self._size is not None
        self._size += n_bytes
        self._until_scan -= n_bytes

    def _stop(self, error: Exception) -> None:
        """Warn once that nothing is written any more."""
        if self._failed[0]:
            return
        self._failed[0] = 1
        reason = getattr(error, "strerror", None) or str(error)
        warnings.warn(
            f"cache={self._folder!r} cannot be written ({type(error).__name__}: {reason}). The "
            "program goes on without it, and reads images from their files. Make room, or give "
            "another folder.",
            UserWarning,
            stacklevel=2,
        )

    def _has_room(self, n_bytes: int) -> bool:
        """Make room by removing entries that this program has not used, if that is possible."""
        # Other processes write as well, so the folder is measured before its room is used up.
        is_full = self._size is not None and self._size + n_bytes > self._limit
        if is_full and not self._unused and time.monotonic() < self._next_scan:
            return False
        if self._size is None or self._until_scan < n_bytes or (is_full and not self._unused):
            entries = self._entries()
            self._size = sum(size for _, size, _ in entries)
            self._until_scan = (self._limit - self._size) / 8
            old = [entry for entry in entries if entry[0] < self._began]
            self._unused = sorted(old, reverse=True)
        while self._unused and self._size + n_bytes > self._limit:
            _, size, path = self._unused.pop()
            with suppress(PermissionError):  # an entry of another user
                with suppress(FileNotFoundError):
                    if os.stat(path).st_mtime >= self._began:
                        continue
                    os.unlink(path)
                self._size -= size
        has_room = self._size + n_bytes <= self._limit
        if not has_room:
            self._next_scan = time.monotonic() + SCAN_STEP
        return has_room

    def _entries(self) -> list[tuple[float, int, str]]:
        """List the entries, and remove unfinished entries of killed programs.

        Files of other names are not entries, and stay.
        """
        entries = []
        with os.scandir(self._folder) as found:
            for entry in found:
                with suppress(OSError):
                    is_part = entry.name.startswith(PART)
                    if not is_part and not _ENTRY.fullmatch(entry.name):
                        continue
                    status = entry.stat()
                    if is_leftover(entry.name, time.time() - status.st_mtime):
                        os.unlink(entry.path)
                    else:
                        used = math.inf if is_part else status.st_mtime
                        entries.append((used, status.st_size, entry.path))
        return entries


def _again(folder: str, limit: int, spec: ImageSpec, began: float, failed: int) -> FolderCache:
    """Make the cache of another process here."""
    cache = FolderCache(folder, limit, spec)
    cache._began, cache._failed[0] = began, failed
    with suppress(OSError, ValueError):  # a process of another machine
        os.makedirs(folder, exist_ok=True)
    return cache


def _open_at_once(path: str, flags: int) -> int:
    """Open a file. A pipe of that name would be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_entry(file: FileIO, n_bytes: int) -> tuple[np.ndarray, bytes, Any] | None:
    """Return an image, the checksum that the entry states, and the sum of its contents."""
    head = file.read(_HEADER_BYTES)
    match = _HEADER.fullmatch(head)
    if match is None:
        return None
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(n) for n in match[2].decode().split(",") if n)
    if n_bytes != _HEADER_BYTES + math.prod(shape) * dtype.itemsize:
        return None
    image: np.ndarray = np.empty(shape, dtype)
    blocks = (_filled(file, block) for block in _blocks(image))
    return image, match[3], _total(head[: match.start(3)], blocks)


def _filled(file: FileIO, block: np.ndarray) -> np.ndarray:
    rest = block.data
    while len(rest):
        n = file.readinto(rest)
        if not n:
            raise EOFError("the file has become shorter")
        rest = rest[n:]
    return block


def _blocks(image: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the bytes of an image in parts that fit into the cache of a processor."""
    data = image.reshape(-1).view(np.uint8)
    for start in range(0, data.size, _BLOCK_BYTES):
        yield data[start : start + _BLOCK_BYTES]


def _entry_parts(key: bytes, content: bytes | None, image: np.ndarray) -> tuple[bytes, memoryview]:
    """Return the header and the pixels of an entry."""
    pixels = np.ascontiguousarray(image)
    facts = f"{{'descr': {pixels.dtype.str!r}, 'fortran_order': False, 'shape': {pixels.shape}, }}"
    start = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    start += facts.encode() + b" # "
    head = start + _seal(_total(start, _blocks(pixels)), key, content)
    return head.ljust(_HEADER_BYTES - 1) + b"\n", pixels.reshape(-1).view(np.uint8).data


def _total(header: bytes, blocks: Iterable[np.ndarray]) -> Any:
    """Return a checksum of a header and pixels, which is many times as fast as of all bytes.

    Of a table of the pixels, 8 bytes a cell, it has the sum of each row and of each column. A
    change of up to three cells changes one of the sums, and so does a swap of two cells or rows.
    """
    total = hashlib.blake2b(header, digest_size=16)
    columns = np.zeros(_ROW_BYTES // 8, dtype=np.uint64)
    for block in blocks:
        n_bytes = block.size // _ROW_BYTES * _ROW_BYTES
        if n_bytes > 4 * _ROW_BYTES:
            words = block[:n_bytes].view(np.uint64).reshape(-1, len(columns))
            columns += words.sum(axis=0)
            total.update(words.sum(axis=1).data)
            block = block[n_bytes:]
        total.update(block.data)
    if columns.any():
        total.update(columns.data)
    return total


def _seal(total: Any, key: bytes, content: bytes | None) -> bytes:
    """Return the checksum for an entry of this key."""
    sealed = total.copy()
    sealed.update(key + (content or b""))
    return bytes(sealed.hexdigest(), "ascii")


@functools.cache
def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def decoder_versions() -> list[str]:
    """Return the versions of the packages that decode or resample images."""
    return [_version(module, package) for module, package in _DECODERS.items()]


def _version(module: str, package: str) -> str:
    """Return the version of a package: of the loaded module, as another may be installed since."""
    loaded = getattr(sys.modules.get(module), "__version__", None)
    return f"{package} {loaded or _installed(package)}"
