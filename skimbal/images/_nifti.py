"""NIfTI-1 and NIfTI-2, in one file."""

import gzip
import importlib
import io
import logging
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, BinaryIO, Protocol

import numpy as np

from skimbal.images._reading import (
    BoundedFile,
    DecodedImage,
    ReadRequest,
    header_array,
    import_reader,
)

__all__ = ["read_nifti"]

#: Size of a header, with which it begins, and its class in nibabel, the place of its mark, the mark
#: of a single file and the mark of a pair of files.
_HEADERS = {
    348: ("Nifti1Header", 344, b"n+1", b"ni1"),
    540: ("Nifti2Header", 4, b"n+2", b"ni2"),
}
_HEAD_BYTES = 540
#: Bytes that extensions of a header may take before the voxels.
_MOST_BEFORE_VOXELS = 2**26
#: Bytes behind the voxels that are inflated to reach the checksum.
_MOST_BEHIND_VOXELS = 2**20
#: Millimetres of a unit. An unknown unit is taken for millimetres.
_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}

_GZIP_MARK = b"\x1f\x8b"
#: The value of zlib's wbits for data with the header and trailer of gzip.
_GZIP = 31
_CUT = "the file must have {} bytes, as its header says; got {}. It is cut short"

#: Nibabel logs the fields of headers that it mends, such as a negative pixdim.
_QUIET = logging.getLogger(f"{__name__}.nibabel")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class _Header(Protocol):
    """A header of nibabel, whose fields are its items."""

    sizeof_hdr: int

    def __getitem__(self, field: str, /) -> np.ndarray: ...
    def get_data_shape(self) -> tuple[int, ...]: ...
    def get_data_dtype(self) -> np.dtype[Any]: ...
    def get_slope_inter(self) -> tuple[float | None, float | None]: ...
    def get_xyzt_units(self) -> tuple[str, str]: ...
    def get_best_affine(self) -> np.ndarray: ...
    def get_qform(self) -> np.ndarray: ...


def read_nifti(path: str, request: ReadRequest) -> DecodedImage:
    """Read an image, turn it to the closest RAS+ axes, and scale it by slope and intercept."""
    nibabel = import_reader("nibabel")
    with BoundedFile(path) as file:
        is_gzip = file.read(2) == _GZIP_MARK
        file.seek(0)
        header, pixdim = _parse(_inflate_head(file) if is_gzip else file.read(_HEAD_BYTES))
        shape, dtype, colours = _layout(header)
        stored = *colours, *shape
        request.check_size(stored)
        start, end = _extent(header, stored, dtype)
        slope, inter = header.get_slope_inter()
        is_scaled = slope is not None and (slope, inter) != (1.0, 0.0)
        if not is_gzip and os.path.getsize(path) < end:
            raise ValueError(_CUT.format(end, os.path.getsize(path)))
        if request.header_only:
            pixels = header_array(stored, np.float32 if is_scaled else dtype)
        else:
            file.seek(0 if is_gzip else end)
            if not is_gzip:
                _refuse_more(file.read(_MOST_BEHIND_VOXELS), end)
            source = io.BytesIO(_inflate(file, end)) if is_gzip else file
            scaling = (slope, inter) if is_scaled else (1.0, 0.0)
            proxy = nibabel.arrayproxy.ArrayProxy(
                source, (stored, dtype, start, *scaling), mmap=False
            )
            pixels = np.asarray(proxy, dtype=np.float32) if is_scaled else proxy.get_unscaled()
    if colours:
        pixels = np.moveaxis(pixels, 0, -1)
    return _turned(pixels, len(shape), header)._replace(
        full_range=(0.0, 255.0) if colours else None, doubt=_doubt(header, pixdim)
    )


# Headers -------------------------------------------------------------------------------------


def _parse(head: bytes) -> tuple[_Header, np.ndarray]:
    """Return the header of a NIfTI file of either byte order, and pixdim as the file has it."""
    nibabel = import_reader("nibabel")
    for size, (name, place, single, pair) in _HEADERS.items():
        orders = {size.to_bytes(4, "little"): "<", size.to_bytes(4, "big"): ">"}
        if head[:4] not in orders or len(head) < size:
            continue
        mark = head[place : place + 3]
        if mark == pair or (mark != single and not mark.strip(b"\0")):
            raise ValueError(
                "it is the header of a pair of files, .hdr and .img, of NIfTI or Analyze. Save the "
                "image as one file first, as nibabel.save(nibabel.load(path), 'x.nii.gz') does"
            )
        if mark == single:
            known = getattr(nibabel, name)(head[:size], orders[head[:4]], check=False)
            _check_fields(known)
            pixdim = np.array(known["pixdim"], dtype=float)
            known.check_fix(logger=_QUIET)  # which makes ones of zeros in pixdim
            return known, pixdim
    raise ValueError("it is not a NIfTI file, as it does not begin with a header of NIfTI-1 or -2")


def _check_fields(header: _Header) -> None:
    """Refuse a number of axes or a kind of numbers that no NIfTI file has.

    A wrong byte order shows in the number of axes.
    """
    nibabel = import_reader("nibabel")
    n_axes, swapped = int(header["dim"][0]), int(header["dim"][0].byteswap())
    if not 1 <= n_axes <= 7:
        order = ""
        if 1 <= swapped <= 7:
            order = f". In the other byte order it would be {swapped}: sizeof_hdr and dim disagree"
        raise ValueError(
            f"dim[0] in its header must state 1 to 7 axes; got {n_axes}{order}. Mend the header, "
            "or pass a reader="
        )
    known = nibabel.nifti1.data_type_codes.dtype
    code = int(header["datatype"])
    if code not in known or known[code].itemsize == 0:
        raise ValueError(
            "datatype in its header must be a kind of numbers that nibabel knows; got the code "
            f"{code}"
        )


def _layout(header: _Header) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...]]:
    """Return the shape of an image, the dtype of its numbers, and the number of its colours."""
    shape = tuple(int(n) for n in header.get_data_shape())
    if 0 in shape:
        raise ValueError(f"the image must have voxels; got the shape {shape} in dim of its header")
    dtype = header.get_data_dtype()
    if dtype.names is None:
        return shape, dtype, ()
    return shape, np.dtype(np.uint8), (len(dtype.names),)  # RGB24 or RGBA32


def _extent(header: _Header, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the bytes at which the voxels begin and end."""
    offset = float(header["vox_offset"])
    if not header.sizeof_hdr <= offset <= _MOST_BEFORE_VOXELS:
        raise ValueError(
            f"the voxels must begin between the bytes {header.sizeof_hdr} and "
            f"{_MOST_BEFORE_VOXELS}; got {offset:g} as vox_offset in the header"
        )
    return int(offset), int(offset) + math.prod(shape) * dtype.itemsize


def _refuse_more(behind: bytes, end: int) -> None:
    """Refuse a file that goes on behind its voxels: its header may state too small a shape."""
    if behind.strip(b"\0"):
        raise ValueError(
            f"the file must end with its voxels, after {end} bytes as its header says; got more, "
            "so that the shape in the header may be wrong. Mend the header, or pass a reader="
        )


# Axes and voxel sizes ------------------------------------------------------------------------


def _turned(pixels: np.ndarray, n_axes: int, header: _Header) -> DecodedImage:
    """Turn x, y, z, and perhaps one more axis, to the closest RAS+ axes, channels first."""
    nibabel = import_reader("nibabel")
    if n_axes < 2:
        raise ValueError(f"the image must have 2 or 3 spatial axes; got shape {pixels.shape}")
    space = (*pixels.shape[: min(3, n_axes)], 1)[:3]
    others = pixels.shape[min(3, n_axes) :]
    # Time, channels and colours: at most one of them has more than one entry.
    pixels = pixels.reshape(*space, *([n for n in others if n > 1] or others[:1]))
    affine = _affine(header)
    turn = nibabel.io_orientation(affine)
    pixels = nibabel.apply_orientation(pixels, turn)
    pixels = np.moveaxis(pixels, range(3, pixels.ndim), range(pixels.ndim - 3))
    mm = _mm(header)
    spacing = [mm * size for size in _sizes(affine)[np.argsort(turn[:, 0])].tolist()]
    if n_axes == 2:  # the third axis is one slice
        third = int(turn[2, 0])
        pixels = np.take(pixels, 0, axis=pixels.ndim - 3 + third)
        spacing.pop(third)
    return DecodedImage(pixels, min(3, n_axes), tuple(spacing))


def _mm(header: _Header) -> float:
    """Return the length of the unit of space."""
    code = int(header["xyzt_units"]) & 0b111
    if code not in _MM:
        raise ValueError(
            "xyzt_units in its header must state metres, millimetres, micrometres or nothing; got "
            f"the code {code}. Mend the header, or pass a reader="
        )
    return _MM[code]


def _sizes(affine: np.ndarray) -> np.ndarray:
    """Return the size of a voxel along each axis as it is stored, in the unit of the file."""
    with np.errstate(over="ignore"):  # infinity is refused
        sizes: np.ndarray = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return sizes


def _affine(header: _Header) -> np.ndarray:
    """Return the affine: the sform, else the qform, else pixdim alone, as in nibabel."""
    affine = np.asarray(header.get_best_affine(), dtype=float)
    sizes = _sizes(affine)
    is_sound = bool(np.isfinite(affine).all() and np.isfinite(sizes).all() and (sizes > 0).all())
    if not is_sound or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-4:
        rows = [[float(f"{number:.4g}") for number in row] for row in affine[:3]]
        raise ValueError(
            f"the affine in its header must map voxels to space; got {rows}. Mend the header, or "
            "pass a reader= that knows the axes"
        )
    return affine


def _doubt(header: _Header, pixdim: np.ndarray) -> str | None:
    """Say where the header contradicts itself or states no orientation."""
    nibabel = import_reader("nibabel")
    if not header["sform_code"]:
        if header["qform_code"]:
            return None
        return (
            "the header states no orientation, as qform_code and sform_code are 0, and the first "
            "axis is taken to run to the left, as nibabel does"
        )
    affine, n_axes = _affine(header), min(3, int(header["dim"][0]))
    stated, sizes = np.abs(pixdim[1 : n_axes + 1]), _sizes(affine)[:n_axes]
    # A size of 0 states nothing.
    if (np.abs(stated - sizes) > 0.01 * sizes)[stated > 0].any():
        return "pixdim and sform in the header state different voxel sizes, and the sform is used"
    if not header["qform_code"]:
        return None
    try:
        turn = nibabel.io_orientation(header.get_qform())
    except (nibabel.spatialimages.HeaderDataError, ValueError):
        return "the qform in the header is not valid, and the sform is used"
    if np.array_equal(turn, nibabel.io_orientation(affine)):
        return None
    return "qform and sform in the header state different axes, and the sform is used"


# Gzip ----------------------------------------------------------------------------------------


def _gzip_module() -> ModuleType:
    """Return isal, which inflates twice as fast, or zlib if isal is not installed."""
    with suppress(ImportError):
        return importlib.import_module("isal.isal_zlib")
    return zlib


def _inflate_head(file: BinaryIO) -> bytes:
    """Inflate as much of a file as a header takes."""
    head = b""
    with _naming_damage():
        stream = _gzip_module().decompressobj(wbits=_GZIP)
        while len(head) < _HEAD_BYTES and not stream.eof and (data := file.read(2**12)):
            head += stream.decompress(data, _HEAD_BYTES - len(head))
    return head


def _inflate(file: BinaryIO, n_bytes: int) -> bytes:
    """Inflate the bytes of an image, and check the checksum behind them.

    Only a small part behind the image is inflated, whatever the file holds.
    """
    # Deflate makes data longer by less than a thousandth.
    data = file.read(n_bytes + n_bytes // 100 + _MOST_BEHIND_VOXELS)
    with _naming_damage():
        stream = _gzip_module().decompressobj(wbits=_GZIP)
        found: bytes = stream.decompress(data, n_bytes + 1)  # the last one, to reach the end
        if stream.eof and len(found) < n_bytes and stream.unused_data.strip(b"\0"):
            return _inflate_parts(file, n_bytes)
        behind = found[n_bytes:]
        if not stream.eof:
            behind += stream.decompress(stream.unconsumed_tail, _MOST_BEHIND_VOXELS)
    if len(behind) >= _MOST_BEHIND_VOXELS:
        raise ValueError(f"the file must hold {n_bytes} bytes, as its header says; got many more")
    if len(found) < n_bytes or not stream.eof:
        raise ValueError(_CUT.format(n_bytes, f"{len(found)} and no end"))
    _refuse_more(behind, n_bytes)
    return found


def _inflate_parts(file: BinaryIO, n_bytes: int) -> bytes:
    """Inflate a file of several compressed parts, as bgzip and pigz write them."""
    file.seek(0)
    with gzip.GzipFile(fileobj=file) as parts:
        found = parts.read(n_bytes)
        behind = parts.read(_MOST_BEHIND_VOXELS)  # also the checksum of the last part
    if len(found) < n_bytes:
        raise ValueError(_CUT.format(n_bytes, len(found)))
    _refuse_more(behind, n_bytes)
    return found


@contextmanager
def _naming_damage() -> Iterator[None]:
    try:
        yield
    except (zlib.error, _gzip_module().error, OSError, EOFError) as error:
        raise ValueError(f"its gzip data are damaged: {error}") from error
