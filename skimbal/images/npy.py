"""Arrays in numpy's files: headers, and entries of archives."""

import os
import sys
import threading
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np

from skimbal.images._reading import ReadRequest, header_array

__all__ = [
    "checked_header",
    "entry_header",
    "entry_names",
    "read_array",
    "read_entry",
    "read_npy_header",
]

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # It differs in the names of fields, which an image does not have.
    (3, 0): np.lib.format.read_array_header_2_0,
}
#: A header is a literal of Python, and Python before 3.11.8 sometimes raises ``SystemError`` if two
#: threads parse literals at the same time.
_ONE_PARSER: AbstractContextManager[object] = (
    threading.Lock() if (3, 11) <= sys.version_info < (3, 11, 8) else nullcontext()
)
#: Numpy compresses by no other method, and others inflate without a limit.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npy_header(file: IO[bytes], request: ReadRequest) -> np.ndarray:
    """Return an array of the shape and dtype that a header of numpy states."""
    return checked_header(*_parse(file), request)


def _parse(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in _READ_HEADER:
        raise ValueError(f"the format must be of version 1, 2 or 3; got version {version}")
    with _ONE_PARSER:
        shape, _, dtype = _READ_HEADER[version](file)
    return shape, dtype


def read_array(file: IO[bytes]) -> np.ndarray:
    """Read an array with its header. Its size must have been checked."""
    with _ONE_PARSER:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def entry_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and the dtype that the header of an array of an archive states."""
    with _opened(archive, name) as entry:
        return _parse(entry)


def checked_header(
    shape: tuple[int, ...], dtype: np.dtype[Any], request: ReadRequest
) -> np.ndarray:
    """Return an array of a shape and dtype that an image may have."""
    if dtype.kind not in "biuf":
        raise ValueError(f"the image must hold real numbers; got {dtype}")
    request.check_size(shape)
    return header_array(shape, dtype)


def entry_names(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the entries of an archive, none of which leads out of its folder."""
    names = archive.namelist()
    for name in names:
        # Nothing is written to the disk here, but such an archive is meant to do harm.
        if os.path.isabs(name) or ".." in Path(name).parts or "\\" in name:
            raise ValueError(f"its entry {name!r} leads out of its folder")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"its entries must have different names; got {repeated[0]!r} twice")
    return names


def read_entry(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read an array of an archive. Its size must have been checked by its header."""
    with _opened(archive, name) as entry:
        # As many bytes are inflated as the header states, and one more for the checksum.
        array = read_array(entry)
        if entry.read(1):
            raise ValueError(f"its entry {name!r} holds more than one array")
    return array


def _opened(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    if archive.getinfo(name).compress_type not in _METHODS:
        raise ValueError(f"its entry {name!r} must be stored or deflated, as numpy does it")
    return archive.open(name)
