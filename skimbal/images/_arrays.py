"""Arrays of numpy and zarr."""

import math
import os
import zipfile

import numpy as np

from skimbal.images._reading import (
    BoundedFile,
    DecodedImage,
    ReadRequest,
    import_reader,
    range_of_dtype,
)
from skimbal.images._zarr_chunks import refuse_large_chunks
from skimbal.images.npy import (
    checked_header,
    entry_header,
    entry_names,
    read_array,
    read_entry,
    read_npy_header,
)

__all__ = ["is_zarr", "read_npy", "read_npz", "read_zarr"]

#: Files that mark a folder of zarr, of format 3 or 2: an array or a group.
_ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup")


def read_npy(path: str, request: ReadRequest) -> DecodedImage:
    """Read an array as it is."""
    with BoundedFile(path) as file:
        header = read_npy_header(file, request)
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
        return _decoded(read_array(file))


def read_npz(path: str, request: ReadRequest) -> DecodedImage:
    """Read the one array of an archive as it is."""
    with zipfile.ZipFile(path) as archive:
        names = entry_names(archive)
        if len(names) != 1:
            shown = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
            raise ValueError(f"the file must hold one array; got {len(names)}: {shown}")
        header = checked_header(*entry_header(archive, names[0]), request)
        return _decoded(header if request.header_only else read_entry(archive, names[0]))


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
    header = checked_header(node.shape, node.dtype, request)
    shards = node.shards or node.chunks
    for shape in (node.chunks, shards):
        request.check_size(shape)
    metadata = node.metadata.to_dict()
    if not request.header_only:
        refuse_large_chunks(path, metadata, node.chunks, shards, node.dtype.itemsize)
    return _decoded(header if request.header_only else np.asarray(node[...]))


def is_zarr(path: str) -> bool:
    """Recognise a folder that is an array or a group of zarr, of format 2 or 3."""
    return any(os.path.exists(os.path.join(path, name)) for name in _ZARR_MARKS)


def _decoded(pixels: np.ndarray) -> DecodedImage:
    return DecodedImage(pixels, full_range=range_of_dtype(pixels.dtype))
