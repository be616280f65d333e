"""The pixels of the pages of a TIFF."""

import io
import itertools
import lzma
import math
import operator
import os
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from skimbal.images._reading import import_reader
from skimbal.images._viewing import turn

if TYPE_CHECKING:
    from tifffile import TiffPage

__all__ = [
    "COMPRESSIONS",
    "DEFLATE",
    "LZMA",
    "PILLOW_BYTES",
    "PILLOW_PAGES",
    "REMEDY",
    "Stack",
    "dtype_of",
    "name_of",
    "read_pages",
]

#: Names of compressions.
COMPRESSIONS = {
    **{1: "none", 2: "CCITT", 3: "CCITT T.4", 4: "CCITT T.6", 5: "LZW", 6: "old JPEG", 7: "JPEG"},
    **{8: "deflate", 32773: "PackBits", 32946: "deflate", 33003: "JPEG 2000", 33005: "JPEG 2000"},
    **{33007: "JPEG", 34712: "JPEG 2000", 34887: "LERC", 34892: "JPEG", 34925: "LZMA"},
    **{34933: "PNG", 34934: "JPEG XR", 22610: "JPEG XR", 50000: "zstd", 50001: "WebP"},
    **{50002: "JPEG XL", 52546: "JPEG XL"},
}
#: Compressions of strips that Python unfolds, compressions of strips that pillow's libtiff unfolds,
#: and compressions of pages that pillow reads as a whole.
DEFLATE, LZMA, PILLOW_BYTES, PILLOW_PAGES = (8, 32946), (34925,), (5, 32773, 50000), (2, 3, 4, 6, 7)
#: Number of bytes of strips that pillow unfolds at once.
_AT_ONCE = 2**24
#: Number of bytes that are unfolded behind a strip, to find its checksum.
_MOST_BEHIND_STRIP = 2**16
#: Number of values of a tile that may be larger than its page.
_LARGE_TILE = 2**24
#: Every TIFF begins with so many bytes that are not pixels. Some programs leave out empty tiles,
#: and give 0 as their place.
_HEADER_BYTES = 8
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
REMEDY = "Pass a reader= that knows this kind of TIFF"


class Stack(NamedTuple):
    """The pages of an image, and the array that they are together.

    ``offset`` is the place of the pixels if the file holds all of them one after the other, and
    may then list a single page.
    """

    pages: "list[TiffPage]"
    axes: str
    shape: tuple[int, ...]
    offset: int | None = None


def name_of(number: int, names: dict[int, str]) -> str:
    """Return the name of a number of the standard, or the number."""
    return names.get(int(number), f"number {int(number)}")


def dtype_of(page: "TiffPage") -> np.dtype:
    """Return the dtype of the numbers of a page, in the order of this machine."""
    if page.dtype is None:
        raise ValueError(f"a TIFF of such numbers is not read: {page.bitspersample} bits. {REMEDY}")
    dtype: np.dtype = page.dtype.newbyteorder("=")
    return dtype


def read_pages(file: BinaryIO, path: str, stack: Stack, is_by_pillow: bool) -> np.ndarray:
    """Decode all pages, as an array with the axes of the stack."""
    first = stack.pages[0]
    if stack.offset is not None:
        dtype = dtype_of(first)
        data = _read(file, stack.offset, math.prod(stack.shape) * dtype.itemsize)
        pixels = np.frombuffer(data, dtype.newbyteorder(first.parent.byteorder))
        return pixels.reshape(stack.shape).astype(dtype, copy=False)
    if not is_by_pillow:
        return np.stack([_page(file, page) for page in stack.pages]).reshape(stack.shape)
    parts = np.stack([_page_by_pillow(path, page) for page in stack.pages])
    if "S" not in stack.axes:
        return parts.reshape(stack.shape)
    # The colours come last, and there are three of them, also of CMYK.
    at = stack.axes.index("S")
    lead = [n for axis, n in zip(stack.axes, stack.shape, strict=True) if axis not in "YXS"]
    return np.moveaxis(parts.reshape(*lead, *parts.shape[1:]), -1, at)


def _read(file: BinaryIO, offset: int, n_bytes: int) -> bytes:
    """Read a part of the file, of which all must be there."""
    if n_bytes <= 0 or offset + n_bytes > os.fstat(file.fileno()).st_size:
        raise ValueError(f"{n_bytes} bytes of its pixels must be at {offset}, which it lacks")
    if offset < _HEADER_BYTES:
        raise ValueError(f"its pixels must stand behind its header; got {offset} as their place")
    file.seek(offset)
    return file.read(n_bytes)


def _page(file: BinaryIO, page: "TiffPage") -> np.ndarray:
    """Decode the strips or tiles of a page."""
    planes, depth, height, width, n = page.shaped
    if page.is_tiled:
        size = (page.tiledepth, page.tilelength, page.tilewidth)
    else:
        size = (1, page.rowsperstrip, width)
    if min(size) < 1 or math.prod(size) * n > max(page.size, _LARGE_TILE):
        raise ValueError(f"a strip or tile must be as large as its page at most; got {size}")
    steps = [
        range(planes),
        *(range(0, total, step) for total, step in zip((depth, height, width), size, strict=True)),
    ]
    n_parts = math.prod(len(step) for step in steps)
    if not n_parts == len(page.dataoffsets) == len(page.databytecounts):
        raise ValueError(
            f"a page must have {n_parts} strips or tiles; got {len(page.dataoffsets)}. The file is "
            "damaged"
        )
    dtype = np.dtype(np.uint8) if page.bitspersample < 8 else dtype_of(page)
    pixels = np.empty((planes, depth, height, width, n), dtype)
    places = list(itertools.product(*steps))
    heights = [size[1] if page.is_tiled else min(size[1], height - place[2]) for place in places]
    where = zip(page.dataoffsets, page.databytecounts, strict=True)
    stored = [_read(file, offset, n_bytes) for offset, n_bytes in where]
    if page.fillorder == 2:
        stored = [data.translate(_REVERSED_BITS) for data in stored]
    n_row = -(-size[2] * n * page.bitspersample // 8)
    lengths = [size[0] * rows * n_row for rows in heights]
    for (p, z, y, x), rows, data in zip(
        places, heights, _unfold(stored, lengths, int(page.compression)), strict=True
    ):
        part = _segment(page, data, (size[0], rows, size[2], n))
        into = pixels[p, z : z + size[0], y : y + rows, x : x + size[2]]
        into[...] = part[: into.shape[0], : into.shape[1], : into.shape[2]]
    return pixels.reshape(page.shape)


def _segment(page: "TiffPage", data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Decode a strip or a tile."""
    bits, n, dtype = page.bitspersample, shape[3], dtype_of(page)
    n_rows, n_values = shape[0] * shape[1], shape[2] * n
    n_bytes = -(-n_values * bits // 8)
    if len(data) < n_rows * n_bytes:
        raise ValueError(
            f"a strip or tile must have {n_rows * n_bytes} bytes; got {len(data)}. The file is "
            "damaged"
        )
    rows = np.frombuffer(data, np.uint8, n_rows * n_bytes).reshape(n_rows, n_bytes)
    is_whole = bits in (8, 16, 32, 64)
    if page.predictor not in (1, 2, 3) or (page.predictor != 1 and not is_whole):
        raise ValueError(
            f"its predictor must be 1, or 2 or 3 for whole bytes; got {int(page.predictor)} for "
            f"{bits} bits. {REMEDY}"
        )
    if page.predictor == 3:
        size = bits // 8
        steps = np.cumsum(rows.reshape(n_rows, -1, n), axis=1, dtype=np.uint8)
        planes = steps.reshape(n_rows, size, n_values).transpose(0, 2, 1)
        return np.ascontiguousarray(planes).view(f">f{size}").astype(dtype).reshape(shape)
    if is_whole:
        values = rows.view(dtype.newbyteorder(page.parent.byteorder)).astype(dtype, copy=False)
    else:
        each = np.unpackbits(rows, axis=1, count=n_values * bits).reshape(n_rows, n_values, bits)
        values = np.zeros((n_rows, n_values), np.uint8 if bits < 8 else dtype)
        for bit in range(bits):
            values = values << 1 | each[..., bit]
    values = values.reshape(shape)
    if page.predictor == 2:
        steps = values.view(f"u{values.itemsize}")
        return np.cumsum(steps, axis=2, dtype=steps.dtype).view(values.dtype)
    return values


def _unfold(stored: list[bytes], lengths: list[int], compression: int) -> Iterator[bytes]:
    """Decompress strips or tiles, each to its length at most, however long it would become."""
    parts = zip(stored, lengths, strict=True)
    if compression == 1:
        yield from stored
    elif compression in DEFLATE:
        yield from (_inflate(data, length) for data, length in parts)
    elif compression in LZMA:
        for data, length in parts:
            yield lzma.LZMADecompressor(memlimit=2**28).decompress(data, length)
    else:
        for length, group in itertools.groupby(parts, key=operator.itemgetter(1)):
            datas = [data for data, _ in group]
            step = max(1, _AT_ONCE // length)
            for i in range(0, len(datas), step):
                unfolded = _unfold_by_pillow(datas[i : i + step], length, compression)
                yield from (
                    unfolded[k : k + length] for k in range(0, len(unfolded), max(1, length))
                )


def _inflate(data: bytes, length: int) -> bytes:
    """Decompress a strip or tile, and compare the checksum behind it."""
    stream = zlib.decompressobj()
    unfolded = stream.decompress(data, length)
    if not stream.eof:  # some programs fill the last strip up
        behind = stream.decompress(stream.unconsumed_tail, _MOST_BEHIND_STRIP)
        if not stream.eof and len(behind) < _MOST_BEHIND_STRIP and len(unfolded) == length:
            raise ValueError("a strip or tile must end with its checksum. The file is damaged")
    return unfolded


def _unfold_by_pillow(datas: list[bytes], length: int, compression: int) -> bytes:
    """Decompress strips by the libtiff of pillow: each is a row of a grey picture."""
    _check_pillow_limit(length * len(datas))
    n = len(datas)
    starts = itertools.accumulate((len(data) for data in datas[:-1]), initial=8)
    body = b"".join(datas)
    tables = 8 + len(body)
    entries = [(256, 1, length), (257, 1, n), (258, 1, 8), (259, 1, compression), (262, 1, 1)]
    entries += [(277, 1, 1), (278, 1, 1)]
    if n == 1:
        entries += [(273, 1, 8), (279, 1, len(body))]
    else:
        entries += [(273, n, tables), (279, n, tables + 4 * n)]
    tags = b"".join(struct.pack("<HHII", code, 4, *rest) for code, *rest in sorted(entries))
    numbers = struct.pack(f"<{2 * n}I", *starts, *(len(data) for data in datas))
    head = b"II*\0" + struct.pack("<I", tables + len(numbers))
    tail = numbers + struct.pack("<H", len(entries)) + tags + struct.pack("<I", 0)
    plugin = import_reader("PIL.TiffImagePlugin", "pillow")
    try:
        with plugin.TiffImageFile(io.BytesIO(head + body + tail)) as picture:
            return np.asarray(picture).tobytes()
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"a strip or tile of compression {name_of(compression, COMPRESSIONS)} is damaged, or "
            f"this pillow does not read the compression: {error}"
        ) from error


def _page_by_pillow(path: str, page: "TiffPage") -> np.ndarray:
    """Decode a page by pillow, as grey or RGB that is not turned."""
    _check_pillow_limit(page.imagewidth * page.imagelength)
    orientation = int(page.tags.valueof(274, 1))
    plugin = import_reader("PIL.TiffImagePlugin", "pillow")
    try:
        with plugin.TiffImageFile(path) as picture:
            picture.seek(page.index)
            is_grey = picture.mode in ("1", "L")
            pixels = np.asarray(picture.convert("L" if is_grey else "RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"pillow cannot read page {page.index}: {error}") from error
    # Pillow has turned the page.
    axes = pixels if is_grey else np.moveaxis(pixels, -1, 0)
    back = turn(axes, {6: 8, 8: 6}.get(orientation, orientation))
    return back if is_grey else np.moveaxis(back, 0, -1)


def _check_pillow_limit(n_pixels: int) -> None:
    most = import_reader("PIL.Image", "pillow").MAX_IMAGE_PIXELS
    if most is not None and n_pixels > most:
        raise ValueError(
            f"a part of a TIFF that pillow decodes must have at most {most} pixels, pillow's limit;"
            f" got {n_pixels}. Pass reader=tifffile.imread, which needs the package imagecodecs"
        )
