"""Arrays of numpy and zarr."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from skimbal.images._reading import (
    BoundedFile,
    DecodedImage,
    ReadRequest,
    header_array,
    import_reader,
    range_of_dtype,
)

__all__ = ["is_zarr", "read_npy", "read_npz", "read_zarr"]

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # It differs in the names of fields, which an image does not have.
    (3, 0): np.lib.format.read_array_header_2_0,
}
#: Numpy compresses by no other method, and others inflate without a limit.
_NPZ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: Files that mark a folder of zarr, of format 3 or 2: an array or a group.
_ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup")


def read_npy(path: str, request: ReadRequest) -> DecodedImage:
    """Read an array as it is."""
    with BoundedFile(path) as file:
        header = _npy_header(file, request)
        needed = file.tell() + _n_bytes(header)
        found = os.path.getsize(path)
        if found != needed:
            change = "is cut short" if found < needed else "holds more than one array"
            raise ValueError(
                f"the file must have {needed} bytes, as its header says; got {found}. It {change}"
            )
        if request.header_only:
            return _decoded(header)
        file.seek(0)
        return _decoded(np.lib.format.read_array(file, allow_pickle=False))


def read_npz(path: str, request: ReadRequest) -> DecodedImage:
    """Read the one array of an archive as it is."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            # Nothing is written to the disk here, but such an archive is meant to do harm.
            if os.path.isabs(name) or ".." in Path(name).parts or "\\" in name:
                raise ValueError(f"its entry {name!r} leads out of its folder")
        if len(names) != 1:
            shown = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
            raise ValueError(f"the file must hold one array; got {len(names)}: {shown}")
        if archive.infolist()[0].compress_type not in _NPZ_METHODS:
            raise ValueError(f"its entry {names[0]!r} must be stored or deflated, as numpy does it")
        with archive.open(names[0]) as entry:
            header = _npy_header(entry, request)
        if request.header_only:
            return _decoded(header)
        with archive.open(names[0]) as entry:
            # As many bytes are inflated as the header states, and one more for the checksum.
            pixels = np.lib.format.read_array(entry, allow_pickle=False)
            if entry.read(1):
                raise ValueError(f"its entry {names[0]!r} holds more than one array")
    return _decoded(pixels)


def _npy_header(file: IO[bytes], request: ReadRequest) -> np.ndarray:
    """Return an array of the shape and dtype that a header of numpy states."""
    version = np.lib.format.read_magic(file)
    if version not in _READ_HEADER:
        raise ValueError(f"the format must be of version 1, 2 or 3; got version {version}")
    shape, _, dtype = _READ_HEADER[version](file)
    return _checked_header(shape, dtype, request)


def _checked_header(
    shape: tuple[int, ...], dtype: np.dtype[Any], request: ReadRequest
) -> np.ndarray:
    """Return an array of a shape and dtype that can be an image of the asked size."""
    # Text and objects have entries of any size.
    if dtype.kind not in "biuf":
        raise ValueError(f"the image must hold real numbers; got {dtype}")
    request.check_size(shape)
    return header_array(shape, dtype)


def _n_bytes(header: np.ndarray) -> int:
    return math.prod(header.shape) * header.dtype.itemsize


def read_zarr(path: str, request: ReadRequest) -> DecodedImage:
    """Read an array, which is a folder, as it is."""
    zarr = import_reader("zarr")
    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Group):
        arrays = [name for name, member in node.members(max_depth=None) if hasattr(member, "shape")]
        shown = ", ".join(map(repr, sorted(arrays)[:10])) + ", ..." * (len(arrays) > 10)
        raise ValueError(
            f"the folder must be an array of zarr; got a group with {len(arrays)} arrays: {shown}. "
            "Pass the path of the array in it"
        )
    header = _checked_header(node.shape, node.dtype, request)
    for chunk in (node.chunks, node.shards or ()):
        request.check_size(chunk)
    return _decoded(header if request.header_only else np.asarray(node[...]))


def is_zarr(path: str) -> bool:
    """Recognise a folder that is an array or a group of zarr, of format 2 or 3."""
    return any(os.path.exists(os.path.join(path, name)) for name in _ZARR_MARKS)


def _decoded(pixels: np.ndarray) -> DecodedImage:
    return DecodedImage(pixels, full_range=range_of_dtype(pixels.dtype))
