"""The file of a model: tensors, a description and a card in one safetensors file with a checksum.

The header of the file holds, under ``__metadata__``, the name and the version of the format, the
description in JSON, the card as text, and a SHA-256 of all other bytes. A description holds data
only: :func:`to_plain` turns values into JSON, and :func:`from_plain` turns them back. Nothing of a
file is executed.
"""

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
import safetensors.torch
from torch import Tensor

from skimbal.atomic import check_target, write_file
from skimbal.exceptions import ModelFileError
from skimbal.typing import PathLike

__all__ = [
    "FORMAT_VERSION",
    "ModelFile",
    "Plain",
    "from_bytes",
    "from_plain",
    "read_model_file",
    "to_bytes",
    "to_plain",
    "write_model_file",
]

#: Version of the format. A program refuses files of a later version.
FORMAT_VERSION = 1
_FORMAT = "skimbal"
#: Bytes of the longest header that is read. A header holds no weights.
_LONGEST_HEADER = 2**26
#: Bytes of the largest array in a description, which holds labels and names.
_LARGEST_ARRAY = 2**28
#: Integers up to this size are the same in every program that reads JSON.
_EXACT = 2**53
_DTYPE = re.compile(r"[<>|=]?([biu][1248]|f[248]|[US]\d{1,8}|[mM]8(\[\w+\])?)|\|O")
#: The first bytes of other files, and their names in words.
_OTHERS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK\x03\x04": "a zip archive, as torch.save and skops write it",
    b"\x80": "a pickle",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
    b"\x08": "an ONNX model or another program's file",
}

#: A value as JSON has it.
Plain: TypeAlias = Any


@dataclass(frozen=True, eq=False)
class ModelFile:
    """The contents of a file.

    Parameters
    ----------
    model : dict
        The description, made of values of JSON.
    tensors : dict of str to Tensor
        Weights by name.
    card : str
        The card of the model, in Markdown.
    version : str
        Version of the package that wrote the file.
    """

    model: dict[str, Plain]
    tensors: dict[str, Tensor]
    card: str
    version: str


def write_model_file(path: PathLike, file: ModelFile) -> None:
    """Write a file, or raise an OSError that names the path and leave the path as it was."""
    check_target(path)
    target = os.fspath(path)
    try:
        # The file that a link leads to is replaced, and not the link.
        write_file(os.path.realpath(target), to_bytes(file))
    except OSError as error:  # which names the file that would have taken the place of this one
        raise type(error)(error.errno, error.strerror, target) from error


def read_model_file(path: PathLike) -> ModelFile:
    """Read a file whose checksum is right, or raise a ModelFileError that names the fault."""
    name = os.fspath(path)
    with Path(path).open("rb") as file:
        # Before all of it is read: it may be any file, and larger than the memory.
        _check_start(file.read(9), os.fstat(file.fileno()).st_size, name)
        file.seek(0)
        return from_bytes(file.read(), name)


def to_bytes(file: ModelFile) -> bytes:
    """Return the bytes of a file."""
    # Copies, as weights may have the channels innermost, and may be two names of one tensor.
    tensors = {name: x.detach().cpu().contiguous().clone() for name, x in file.tensors.items()}
    blob = safetensors.torch.save(tensors)
    size = struct.unpack("<Q", blob[:8])[0]
    header, data = json.loads(blob[8 : 8 + size]), memoryview(blob)[8 + size :]
    header["__metadata__"] = {
        "format": _FORMAT,
        "format_version": str(FORMAT_VERSION),
        "skimbal_version": file.version,
        "model": json.dumps(file.model, allow_nan=False),
        # A folder, which names a class, may be called by bytes that are not text.
        "card": file.card.encode("utf-8", "backslashreplace").decode("utf-8"),
    }
    header["__metadata__"]["sha256"] = _checksum(header, data)
    text = _canonical(header)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(
            f"a model must have a description of at most {_LONGEST_HEADER} bytes; got {len(text)}. "
            "The history of the epochs and the parameters are in the description."
        )
    return b"".join((struct.pack("<Q", len(text)), text, data))


def from_bytes(data: bytes, name: str) -> ModelFile:
    """Return the contents of a file of this name."""
    header, start = _header(data, name)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise ModelFileError(name, "It is a safetensors file of another program.")
    version, writer = metadata.get("format_version"), metadata.get("skimbal_version")
    if version != str(FORMAT_VERSION):
        raise ModelFileError(
            name,
            f"Its format has the version {version!r}, and was written by skimbal {writer}. This "
            f"version of skimbal reads {FORMAT_VERSION}.",
            "Install the version of skimbal that wrote the file, or a later version.",
        )
    rest = {key: value for key, value in metadata.items() if key != "sha256"}
    total = _checksum({**header, "__metadata__": rest}, memoryview(data)[start:])
    # Spaces between the values are not a part of the header that is parsed.
    if metadata.get("sha256") != total or _canonical(header) != data[8:start]:
        raise _damaged(name, "Its checksum does not fit its contents.")
    try:
        tensors = safetensors.torch.load(data)
        model = json.loads(metadata["model"])
    except (safetensors.SafetensorError, ValueError, LookupError, RecursionError) as error:
        raise _damaged(name, f"{type(error).__name__}: {error}.") from error
    return ModelFile(model, tensors, str(metadata["card"]), str(writer))


def _check_start(start: bytes, n_bytes: int, name: str) -> int:
    """Refuse a file by its first nine bytes and its size, or return the size of its header."""
    if n_bytes == 0:
        raise ModelFileError(name, "It is empty.")
    kind = next((kind for first, kind in _OTHERS.items() if start.startswith(first)), None)
    if start[8:9] != b"{":
        raise ModelFileError(name, f"It is {kind}." if kind else "It is a file of another program.")
    size: int = struct.unpack("<Q", start[:8])[0]
    if not 2 <= size <= n_bytes - 8:
        raise _damaged(name, f"Its header would have {size} bytes, and the file has {n_bytes}.")
    if size > _LONGEST_HEADER:
        raise ModelFileError(name, f"Its header is longer than {_LONGEST_HEADER} bytes.")
    return size


def _header(data: bytes, name: str) -> tuple[dict[str, Any], int]:
    """Return the header, and the place where the tensors begin."""
    size = _check_start(data[:9], len(data), name)
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"Its header cannot be read ({type(error).__name__}).") from error
    if not isinstance(header, dict):
        raise _damaged(name, "Its header is not a table.")
    return header, 8 + size


def _damaged(name: str, reason: str) -> ModelFileError:
    return ModelFileError(name, f"It is damaged or cut. {reason}", "Copy the file anew.")


def _canonical(header: dict[str, Any]) -> bytes:
    """Return the bytes of a header. Spaces at the end let the tensors begin at a multiple of 8."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode("ascii")
    return text + b" " * (-len(text) % 8)


def _checksum(header: dict[str, Any], data: memoryview) -> str:
    total = hashlib.sha256(_canonical(header))
    total.update(data)
    return total.hexdigest()


# Values ----------------------------------------------------------------------------------------


def to_plain(value: object, other: Callable[[object], Plain]) -> Plain:
    """Turn a value into values of JSON.

    Parameters
    ----------
    value : object
        None, booleans, numbers, text, paths, arrays and numbers of numpy, and lists, tuples and
        dicts of them.
    other : callable
        Turns any other value into values of JSON, or raises an error.

    Returns
    -------
    plain : object
        JSON without NaN, which :func:`from_plain` turns into an equal value of the same type.
    """
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if isinstance(value, int) and kind is int:
        return value if abs(value) <= _EXACT else {"$int": hex(value)}
    if isinstance(value, float) and kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, list | tuple) and kind in (list, tuple):
        items = [to_plain(item, other) for item in value]
        return items if kind is list else {"$tuple": items}
    if isinstance(value, dict) and kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: to_plain(item, other) for key, item in value.items()}
        pairs = value.items()
        return {"$dict": [[to_plain(key, other), to_plain(item, other)] for key, item in pairs]}
    if isinstance(value, np.generic) or kind is np.ndarray:
        array: Any = np.asarray(value)
        if _DTYPE.fullmatch(array.dtype.str) and array.dtype.names is None:
            return {"$number" if kind is not np.ndarray else "$array": _array(array, other)}
    if isinstance(value, PurePath):
        return {"$path": str(value)}
    return {"$other": other(value)}


def _array(array: np.ndarray, other: Callable[[object], Plain]) -> list[Plain]:
    values = array.ravel()
    if array.dtype.kind in "mM":
        values = values.astype(np.int64)
    items = [item.hex() if isinstance(item, bytes) else item for item in values.tolist()]
    return [array.dtype.str, list(array.shape), [to_plain(item, other) for item in items]]


def from_plain(plain: Plain, other: Callable[[Plain], object]) -> Any:
    """Turn values of JSON into the value that :func:`to_plain` was given.

    Parameters
    ----------
    plain : object
        Values of JSON.
    other : callable
        Turns the results of the function ``other`` of :func:`to_plain` back.

    Returns
    -------
    value : object
        The value.

    Raises
    ------
    ValueError
        If the values have another form.
    """
    if isinstance(plain, list):
        return [from_plain(item, other) for item in plain]
    if not isinstance(plain, dict):
        return plain
    tag = next((key for key in plain if key.startswith("$")), None)
    if tag is None:
        return {key: from_plain(item, other) for key, item in plain.items()}
    content = plain[tag]
    try:
        if tag == "$other":
            return other(content)
        return _READERS[tag](content, other)
    except KeyError:
        raise ValueError(f"there are no values of the kind {tag!r}") from None


def _read_array(content: list[Plain], other: Callable[[Plain], object]) -> np.ndarray:
    text, shape, items = content
    if not _DTYPE.fullmatch(text):
        raise ValueError(f"there are no arrays of the dtype {text!r}")
    dtype = np.dtype(text)
    if dtype.itemsize * max(1, len(items)) > _LARGEST_ARRAY:
        raise ValueError(f"an array of {text} and {len(items)} entries is too large")
    values = from_plain(items, other)
    if dtype.kind == "S":
        values = [bytes.fromhex(item) for item in values]
    array: np.ndarray = np.empty(len(values), np.int64 if dtype.kind in "mM" else dtype)
    for i, value in enumerate(values):
        array[i] = value
    # An array makes other entries of values of another type, such as shorter texts.
    if dtype.kind != "O" and repr(array.tolist()) != repr(values):
        raise ValueError(f"entries of an array of the dtype {text!r} are something else")
    return array.astype(dtype, copy=False).reshape(shape)


_READERS: dict[str, Callable[[Any, Callable[[Plain], object]], object]] = {
    "$int": lambda text, other: int(text, 16),
    "$float": lambda text, other: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[text],
    "$tuple": lambda items, other: tuple(from_plain(items, other)),
    "$dict": lambda pairs, other: {
        from_plain(key, other): from_plain(item, other) for key, item in pairs
    },
    "$array": _read_array,
    "$number": lambda content, other: _read_array(content, other)[()],
    "$path": lambda text, other: Path(text),
}
