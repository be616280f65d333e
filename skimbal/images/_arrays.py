"""Arrays of numpy and zarr."""

import os
import zipfile
from pathlib import Path

import numpy as np

from skimbal.images._reading import (
    DecodedImage,
    ReadRequest,
    header_array,
    import_reader,
    range_of_dtype,
)

__all__ = ["is_zarr", "read_npy", "read_npz", "read_zarr"]


def read_npy(path: str, request: ReadRequest) -> DecodedImage:
    """Read an array as it is."""
    # To map a file that is too short is an error.
    pixels = np.load(path, mmap_mode="r" if request.header_only else None, allow_pickle=False)
    return _decoded(header_array(pixels.shape, pixels.dtype) if request.header_only else pixels)


def read_npz(path: str, request: ReadRequest) -> DecodedImage:
    """Read the one array of an archive as it is."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            # Nothing is written to the disk here, but such an archive is meant to do harm.
            if os.path.isabs(name) or ".." in Path(name).parts or "\\" in name:
                raise ValueError(f"its entry {name!r} leads out of its folder")
        if len(names) != 1:
            raise ValueError(f"the file must hold one array; got {len(names)}: {', '.join(names)}")
        if not request.header_only:
            with np.load(path, allow_pickle=False) as arrays:
                return _decoded(arrays[arrays.files[0]])
        with archive.open(names[0]) as entry:
            version = np.lib.format.read_magic(entry)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read(entry)
    return _decoded(header_array(shape, dtype))


def read_zarr(path: str, request: ReadRequest) -> DecodedImage:
    """Read an array, which is a folder, as it is."""
    array = import_reader("zarr").open_array(path, mode="r")
    pixels = (
        header_array(array.shape, array.dtype) if request.header_only else np.asarray(array[...])
    )
    return _decoded(pixels)


def is_zarr(path: str) -> bool:
    """Recognise a folder that is an array of zarr, of format 2 or 3."""
    return any(os.path.exists(os.path.join(path, name)) for name in ("zarr.json", ".zarray"))


def _decoded(pixels: np.ndarray) -> DecodedImage:
    return DecodedImage(pixels, full_range=range_of_dtype(pixels.dtype))
