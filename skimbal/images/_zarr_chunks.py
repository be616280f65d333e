"""Sizes that compressed chunks of zarr would inflate to, before they are inflated."""

import bz2
import lzma
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

__all__ = ["refuse_large_chunks"]

#: Files of metadata beside the chunks.
_METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
#: Codecs that leave the size nearly as it is.
_OF_SAME_SIZE = {"bytes", "transpose", "crc32c", "crc32", "adler32", "fletcher32", "shuffle"}
_OF_SAME_SIZE |= {
    "packbits",
    "astype",
    "delta",
    "fixedscaleoffset",
    "quantize",
    "bitround",
    "jenkins_lookup3",
}
#: The largest block of zstd.
_ZSTD_BLOCK = 2**17
_ZSTD_MARK = b"\x28\xb5\x2f\xfd"
#: Bytes that a chunk may have beside its numbers, such as checksums and headers.
_SLACK = 2**16
#: Offset and length of a chunk in a shard that is not there.
_ABSENT = 2**64 - 1


def refuse_large_chunks(
    path: str, metadata: Mapping[str, Any], chunk: Sequence[int], shard: Sequence[int], n_bytes: int
) -> None:
    """Refuse an array whose chunks would inflate to more bytes than their shape has.

    ``chunk`` and ``shard`` are shapes, and ``n_bytes`` is the size of a number. Chunks that are
    damaged otherwise are left to zarr.
    """
    codecs, index = _codecs(metadata)
    limit = math.prod(chunk) * n_bytes * 101 // 100 + _SLACK
    n_chunks = math.prod(-(-n // size) for n, size in zip(shard, chunk, strict=True))
    most = limit if index is None else n_chunks * (limit + 16)
    for codec in codecs:
        is_raw = codec["name"] == "lzma" and codec.get("format", 1) not in (1, 2)
        if is_raw or not (codec["name"] in _OF_SAME_SIZE or codec["name"] in _SIZES):
            raise ValueError(
                f"its compression must be one of {', '.join(_SIZES)}; got {codec['name']!r}, whose "
                "size in memory is not known before. Write the array anew, or pass a reader="
            )
    compressed = [codec["name"] for codec in codecs if codec["name"] in _SIZES]
    for file in _files(path):
        size = os.path.getsize(file)
        if size > most:
            raise _too_large(file, path, size)
        # Only the outermost compression can be looked at. zarr writes one.
        if len(compressed) > 1:
            raise ValueError(f"its chunks must be compressed once; got {', '.join(compressed)}")
        if not compressed:
            continue
        with open(file, "rb") as stream:
            data = stream.read()
        for part in _parts(data, index, n_chunks) if index else (data,):
            for name in compressed:
                found = _SIZES[name](part, limit)
                if found > limit:
                    raise _too_large(file, path, found)


def _too_large(file: str, path: str, size: int) -> ValueError:
    name = os.path.relpath(file, path)
    return ValueError(
        f"its file {name!r} must hold chunks of the shape in the metadata; got at least {size} "
        "bytes in place of a chunk"
    )


def _files(path: str) -> Iterator[str]:
    for where, _, names in os.walk(path):
        yield from (os.path.join(where, name) for name in names if name not in _METADATA)


def _codecs(metadata: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the codecs of a chunk, and the settings of shards if the chunks lie in shards."""
    if metadata["zarr_format"] == 2:
        given = [*(metadata.get("filters") or ()), metadata.get("compressor")]
        return [{**codec, "name": codec["id"]} for codec in given if codec is not None], None
    codecs = [_plain(codec) for codec in metadata["codecs"]]
    shards = [codec for codec in codecs if codec["name"] == "sharding_indexed"]
    if not shards:
        return codecs, None
    settings = shards[0]
    inner, of_index = (
        [_plain(codec) for codec in settings["codecs"]],
        [c["name"] for c in settings["index_codecs"]],
    )
    if len(codecs) > 1 or of_index not in (["bytes"], ["bytes", "crc32c"]):
        raise ValueError("its shards must have a plain index, and no codecs around them")
    settings["tail"] = 4 * (len(of_index) - 1)
    return inner, settings


def _plain(codec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a codec of format 3 under the name that it has in format 2."""
    return {**(codec.get("configuration") or {}), "name": codec["name"].removeprefix("numcodecs.")}


def _parts(data: bytes, index: Mapping[str, Any], n_chunks: int) -> Iterator[bytes]:
    """Yield the chunks of a shard."""
    start = 0
    if index.get("index_location", "end") == "end":
        start = len(data) - 16 * n_chunks - index["tail"]
    if start < 0 or start + 16 * n_chunks > len(data):
        return
    settings = dict(index["index_codecs"][0]).get("configuration") or {}
    order = ">" if settings.get("endian") == "big" else "<"
    for offset, length in struct.iter_unpack(f"{order}QQ", data[start : start + 16 * n_chunks]):
        if offset != _ABSENT:
            yield data[offset : offset + length]


# Formats of compression ----------------------------------------------------------------------


def _size_of_stream(make: Callable[[], Any], data: bytes, limit: int) -> int:
    """Inflate streams one behind the other, up to the limit, by a decompressor of the library."""
    found = 0
    while data and found <= limit:
        stream = make()
        try:
            found += len(stream.decompress(data, limit + 1 - found))
        except (OSError, lzma.LZMAError, zlib.error):
            break
        if not stream.eof:
            break
        data = stream.unused_data
    return found


def _size_of_blosc(data: bytes, limit: int) -> int:
    """Return the size in the header, which blosc allocates."""
    return int.from_bytes(data[4:8], "little") if len(data) >= 16 else 0


def _size_of_lz4(data: bytes, limit: int) -> int:
    """Return the size in the header, which numcodecs allocates."""
    return int.from_bytes(data[:4], "little")


def _size_of_zstd(data: bytes, limit: int) -> int:
    """Return the size that the frames state, or else that their blocks can have at most."""
    found, place = 0, 0
    while data[place : place + 4] == _ZSTD_MARK and len(data) > place + 5 and found <= limit:
        flags, place = data[place + 4], place + 5
        is_single = bool(flags & 0x20)
        place += 0 if is_single else 1
        place += (0, 1, 2, 4)[flags & 3]  # number of the dictionary
        n_size = (1 if is_single else 0, 2, 4, 8)[flags >> 6]
        stated = int.from_bytes(data[place : place + n_size], "little") + 256 * (n_size == 2)
        place += n_size
        blocks, is_last = 0, False
        while not is_last and place + 3 <= len(data):
            head = int.from_bytes(data[place : place + 3], "little")
            is_last, kind, size = bool(head & 1), (head >> 1) & 3, head >> 3
            blocks += _ZSTD_BLOCK if kind == 2 else size
            place += 3 + (1 if kind == 1 else size)
        place += 4 * bool(flags & 4)  # checksum
        # A block may be shorter than the longest. Of compressed blocks only zstd knows.
        found += stated if n_size else max(0, blocks - 16 * _ZSTD_BLOCK)
    return found


_size_of_zlib_or_gzip = partial(_size_of_stream, partial(zlib.decompressobj, wbits=47))
#: Codecs that compress, each with a function that returns the size of data, up to a limit.
_SIZES: dict[str, Callable[[bytes, int], int]] = {
    "blosc": _size_of_blosc,
    "zstd": _size_of_zstd,
    "gzip": _size_of_zlib_or_gzip,
    "zlib": _size_of_zlib_or_gzip,
    "lz4": _size_of_lz4,
    "bz2": partial(_size_of_stream, bz2.BZ2Decompressor),
    "lzma": partial(_size_of_stream, lzma.LZMADecompressor),
}
