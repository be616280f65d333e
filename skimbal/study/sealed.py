"""Small JSON files that show whether they are as they were written.

The first line has a checksum and the number of bytes of the rest, and the whole is JSON::

    {"checksum": "9c1185a5c5e9fc54612808977ee8f548", "bytes": 23,
    "seed": 0, "data": 1}
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from io import FileIO
from typing import Any

__all__ = ["DamagedError", "is_sealed", "read_sealed", "seal"]

_HEAD = re.compile(rb'\{"checksum": "([0-9a-f]{32})", "bytes": ([1-9]\d{0,17}),\n')
#: More bytes than the first line has, and a number of bytes to read at a time.
_HEAD_BYTES, _BLOCK_BYTES = 128, 2**20


class DamagedError(ValueError):
    """A file is not as it was written, or is of another program."""


def seal(fields: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """Return the contents of a file: the fields, which JSON can hold, under a checksum."""
    text = json.dumps(fields, indent=indent)
    rest = text.removeprefix("{").removeprefix("\n").encode() + b"\n"
    checksum = hashlib.blake2b(rest, digest_size=16).hexdigest()
    return f'{{"checksum": "{checksum}", "bytes": {len(rest)},\n'.encode() + rest


def read_sealed(path: str) -> dict[str, Any]:
    """Read the fields of a file, or raise FileNotFoundError, another OSError or a DamagedError."""
    with open(path, "rb", buffering=0, opener=_open_at_once) as file:
        try:
            rest = _rest_of(file)
            fields: dict[str, Any] = json.loads("{" + rest.decode("ascii"))
        except RecursionError as error:
            raise DamagedError("its contents are nested too deeply") from error
        except DamagedError:
            raise
        except ValueError as error:
            raise DamagedError(f"its contents are not JSON: {error}") from error
    return fields


def is_sealed(path: str) -> bool:
    """Tell whether a file begins as sealed files do, or is empty."""
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return not head or _HEAD.match(head) is not None


def _rest_of(file: FileIO) -> bytes:
    """Return the bytes under the checksum, if it is right. A file of another size is not read."""
    n_bytes = os.fstat(file.fileno()).st_size
    head = _HEAD.match(file.read(_HEAD_BYTES) or b"")
    if head is None:
        raise DamagedError("it is empty" if n_bytes == 0 else "its first line has no checksum")
    if n_bytes != head.end() + int(head[2]):
        raise DamagedError(f"it has {n_bytes} bytes instead of {head.end() + int(head[2])}")
    file.seek(head.end())
    total, blocks = hashlib.blake2b(digest_size=16), []
    while block := file.read(_BLOCK_BYTES):
        total.update(block)
        blocks.append(block)
    if total.hexdigest().encode() != head[1]:
        raise DamagedError("its checksum is wrong")
    return b"".join(blocks)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file. A pipe of that name would be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
