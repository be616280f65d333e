"""Arrays of numpy and zarr."""

import bz2
import gc
import gzip
import io
import json
import lzma
import time
import tracemalloc
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from skimbal.images import FORMATS, ImageFiles, ReadRequest
from tests.images.data import read_one

DTYPES = ["?", "u1", "i1", "<u2", ">u2", "<i4", ">i8", "u8", "<f2", ">f4", "<f8"]


def test_arrays(tmp_path, rng):
    volume = rng.normal(size=(3, 4, 5, 6)).astype(">f4")
    np.save(tmp_path / "a.npy", volume)
    np.savez(tmp_path / "a.npz", volume)
    np.savez_compressed(tmp_path / "b.npz", any_name=np.asfortranarray(volume))
    zarr.save_array(tmp_path / "a.zarr", volume.astype("f4"))
    zarr.save_array(tmp_path / "old", volume.astype("f4"), zarr_format=2)
    for name in ("a.npy", "a.npz", "b.npz", "a.zarr", "old"):
        image = read_one(tmp_path / name)
        assert image.dtype == np.dtype("f4")
        assert_array_equal(image, volume)


def test_axes_of_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 9), np.uint8))
    path = [tmp_path / "a.npy"]
    assert ImageFiles(path).n_spatial == 2
    assert ImageFiles(path, channels=3).n_spatial == 2
    assert ImageFiles(path, channels=1).shape == (1, 1, 3, 8, 9)
    assert ImageFiles(path, size=(4, 4)).shape == (1, 3, 4, 4)
    assert ImageFiles(path, size=(4, 4, 4)).shape == (1, 4, 4, 4)
    with pytest.raises(ValueError, match=r"channels.* 3, as .*a\.npy.* 2\."):
        ImageFiles(path, channels=2, size=(4, 4))


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays(
            dtype,
            st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple),
            elements={"allow_nan": False, "allow_infinity": False}
            if np.dtype(dtype).kind == "f"
            else None,
        )
    ),
    st.booleans(),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_layouts_of_npy(tmp_path_factory, pixels, is_fortran, version):
    folder = tmp_path_factory.mktemp("arrays")
    with open(folder / "a.npy", "wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the version
        layout = np.asfortranarray(pixels) if is_fortran else pixels
        np.lib.format.write_array(file, layout, version)
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "a.npy", "a.npy")
    for name in ("npy", "npz"):
        read = FORMATS[name].read
        image = read(str(folder / f"a.{name}"), ReadRequest())
        head = read(str(folder / f"a.{name}"), ReadRequest(header_only=True))
        assert (head.pixels.shape, head.pixels.dtype) == (pixels.shape, pixels.dtype)
        assert head[1:] == image[1:]
        assert_array_equal(image.pixels, pixels)
        assert_array_equal(image.pixels, np.load(folder / "a.npy"))


def npy(shape, dtype="|u1", data=b"", version=b"\x01\x00"):
    """Write the bytes of a file whose header states anything."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    size = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + header + data


HOSTILE = {
    "large": (npy((10**6, 10**6)), "at most 536870912 pixels; got 1000000000000"),
    "larger": (npy((2**40, 2**40, 2**40)), "at most 536870912 pixels"),
    "negative": (npy((-3, 4)), "must not be negative"),
    "empty": (npy((0, 4)), "2 or 3 spatial axes"),
    "short": (npy((30, 40)), "is cut short|has a size of|EOF|reading array"),
    "long": (npy((3, 4), data=bytes(13)), "holds more than one array"),
    "text": (npy((3, 4), "<U1000000000"), "descr is not a valid dtype"),
    "bytes": (npy((3, 4), "|S9"), "real numbers; got .S9"),
    "void": (npy((3, 4), "|V1000000000"), "real numbers; got .V1000000000"),
    "objects": (npy((3, 4), "|O", bytes(96)), "real numbers; got object"),
    "fields": (npy((3, 4), [("a", "<f4")], bytes(48)), "real numbers; got "),
    "complex": (npy((3, 4), "<c8", bytes(96)), "real numbers; got complex64"),
    "dates": (npy((3, 4), "<M8[D]", bytes(96)), "real numbers; got datetime64"),
    "times": (npy((3, 4), "<m8[s]", bytes(96)), "real numbers; got timedelta64"),
    "long double": (npy((3, 4), "<f16", bytes(192)), "at most 64 bits"),
    "version 9": (npy((3, 4), data=bytes(12), version=b"\x09\x00"), r"got version \(9, 0\)"),
    "no dict": (b"\x93NUMPY\x01\x00\x04\x00abc\n", "malformed"),
    "no mark": (b"NUMPY" * 10, "magic"),
    "shape of text": (npy(("3", 4)), "shape is not valid"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_headers_that_are_hostile_or_broken(tmp_path, kind, suffix, on_error):
    data, message = HOSTILE[kind]
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", data)
    with pytest.raises(ValueError, match=rf"a\.np.*({message})"):
        np.asarray(ImageFiles([path], on_error=on_error))


def test_bombs_in_archives(tmp_path):
    """No more is inflated than the header of the array states."""
    tracemalloc = pytest.importorskip("tracemalloc")
    content = io.BytesIO()
    np.save(content, np.zeros((8, 8), np.uint8))
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(content.getvalue())
        for _ in range(16):
            entry.write(bytes(2**24))
    X = ImageFiles([tmp_path / "a.npz"])
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.npz: .*more than one array"):
        np.asarray(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "b.npz", "w", method) as archive:
            archive.writestr("a.npy", content.getvalue())
        with pytest.raises(ValueError, match=r"b\.npz: .*stored or deflated"):
            ImageFiles([tmp_path / "b.npz"])


def test_an_archive_that_is_damaged(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", pixels)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.npz: Bad CRC-32"):
        np.asarray(ImageFiles([tmp_path / "a.npz"]))
    (tmp_path / "a.npz").write_bytes(data[:-30])
    with pytest.raises(ValueError, match=r"a\.npz: File is not a zip"):
        ImageFiles([tmp_path / "a.npz"])


def test_the_limit_is_an_option(tmp_path):
    pixels = np.zeros((8, 9), np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "a.npz", pixels)
    zarr.save_array(tmp_path / "a.zarr", pixels)
    for name in ("a.npy", "a.npz", "a.zarr"):
        assert ImageFiles([tmp_path / name], max_pixels=72).shape == (1, 8, 9)
        with pytest.raises(ValueError, match=rf"{name}: .*at most 71 .*pass max_pixels=72"):
            ImageFiles([tmp_path / name], max_pixels=71)


def test_layouts_of_zarr(tmp_path, rng):
    pixels = rng.integers(0, 2**16, (6, 7), dtype=np.uint16)
    for i, options in enumerate(
        [
            {"chunks": (2, 3)},
            {"chunks": (2, 3), "shards": (4, 6)},
            {"chunks": (6, 7), "zarr_format": 2},
            {"chunks": (2, 7), "zarr_format": 2, "order": "F"},
        ]
    ):
        array = zarr.create_array(
            tmp_path / f"{i}.zarr", shape=pixels.shape, dtype=pixels.dtype, **options
        )
        array[...] = pixels
        assert_array_equal(read_one(tmp_path / f"{i}.zarr"), pixels)
    zarr.save_array(tmp_path / "c.zarr", pixels.astype(np.complex64))
    with pytest.raises(ValueError, match=r"c\.zarr: .*real numbers; got complex64"):
        ImageFiles([tmp_path / "c.zarr"])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_group_of_zarr_is_refused_with_the_names_of_its_arrays(tmp_path, zarr_format):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=zarr_format)  # as in OME-Zarr
    for level in ("0", "1", "labels/cells"):
        group.create_array(level, shape=(6, 7), dtype="u1")[...] = 3
    with pytest.raises(
        ValueError, match=r"a\.zarr: .*group with 3 arrays: '0', '1', 'labels/cells'.*path"
    ):
        ImageFiles([tmp_path / "a.zarr"])
    assert_array_equal(read_one(tmp_path / "a.zarr" / "0"), np.full((6, 7), 3))


def test_zarr_with_broken_metadata(tmp_path):
    zarr.save_array(tmp_path / "a.zarr", np.zeros((6, 7), np.uint8))
    place = tmp_path / "a.zarr" / "zarr.json"
    meta = json.loads(place.read_text())
    changes = [
        ({"shape": [10**6, 10**6]}, "at most 536870912 pixels"),
        ({"shape": [-6, 7]}, ""),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**6, 10**6]}}},
            "at most 536870912 pixels",
        ),
        ({"data_type": "tensor"}, ""),
        ({"node_type": "table"}, ""),
    ]
    for change, message in changes:
        place.write_text(json.dumps(meta | change))
        with pytest.raises(ValueError, match=rf"a\.zarr.*{message}"):
            ImageFiles([tmp_path / "a.zarr"])
    place.write_text("{")
    with pytest.raises(ValueError, match=r"a\.zarr"):
        ImageFiles([tmp_path / "a.zarr"])


def test_length_of_a_header_takes_no_memory(tmp_path):
    """Python takes as much as a file is asked for, and a header may state four gigabytes."""
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\2\0" + (2**31).to_bytes(4, "little") + b" " * 100)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a\.npy"):
            ImageFiles([path])
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


SIZE = 2**26
STREAMS = {
    "zlib": lambda data: zlib.compress(data, 9),
    "gzip": lambda data: gzip.compress(data, 9),
    "gzip of many parts": lambda data: gzip.compress(data[: SIZE // 512], 9) * 512,
    "bz2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, preset=0),
    "zstd": lambda data: bytes(numcodecs.Zstd().encode(data)),
    "zstd of unknown size": lambda data: (
        # A frame of blocks of one repeated byte, of 128 KiB each.
        b"\x28\xb5\x2f\xfd\0\x58"
        + ((2**17 << 3) | 2).to_bytes(3, "little").ljust(4, b"\0") * (SIZE >> 17)
        + b"\1\0\0"
    ),
    "lz4": lambda data: bytes(numcodecs.LZ4().encode(data)),
    "blosc": lambda data: bytes(numcodecs.Blosc().encode(np.frombuffer(data, np.uint8))),
}


def refuse_bomb(folder):
    X = ImageFiles([folder])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"{folder.name}: its file .* must hold chunks of"):
            np.asarray(X)
        assert tracemalloc.get_traced_memory()[1] < SIZE / 2
    finally:
        tracemalloc.stop()


#: Chunks whose files are not larger than a chunk may be.
SMALL = {
    "gzip": gzip.compress(bytes(2**16), 9) * 512,
    "bz2": bz2.compress(bytes(2**16)) * 512,
    "lzma": lzma.compress(bytes(2**16)) * 400,
    "lz4": bytes(numcodecs.LZ4().encode(bytes(2**23))),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_files_of_many_parts_inflate_no_further(tmp_path, name):
    assert len(SMALL[name]) < 2**16  # so that the size of the file says nothing
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(8, 8),
        chunks=(8, 8),
        dtype="u1",
        zarr_format=2,
        compressors=numcodecs.get_codec({"id": name}),
    )
    array[...] = 1
    (tmp_path / "a.zarr" / "0.0").write_bytes(SMALL[name])
    refuse_bomb(tmp_path / "a.zarr")


def test_raw_chunks_that_are_too_large_are_not_read(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(8, 8), dtype="u1", compressors=None)
    array[...] = 1
    (tmp_path / "a.zarr" / "c" / "0" / "0").write_bytes(bytes(SIZE))
    refuse_bomb(tmp_path / "a.zarr")


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("place", ["start", "end"])
def test_every_index_of_shards_is_looked_at(tmp_path, endian, place):
    options = {"shape": (8, 8), "chunks": (4, 4), "shards": (8, 8), "dtype": "u1"}
    zarr.create_array(tmp_path / "a.zarr", compressors=GzipCodec(), **options)[...] = 1
    metadata = tmp_path / "a.zarr" / "zarr.json"
    told = json.loads(metadata.read_text())
    settings = told["codecs"][0]["configuration"]
    settings["index_location"] = place
    settings["index_codecs"] = [{"name": "bytes", "configuration": {"endian": endian}}]
    metadata.write_text(json.dumps(told))
    bomb = gzip.compress(bytes(2**23), 9)
    index = np.full((4, 2), 2**64 - 1, ">u8" if endian == "big" else "<u8")
    index[2] = 64 * (place == "start"), len(bomb)
    parts = [bomb, index.tobytes()]
    data = b"".join(parts[::-1] if place == "start" else parts)
    (tmp_path / "a.zarr" / "c" / "0" / "0").write_bytes(data)
    refuse_bomb(tmp_path / "a.zarr")


def test_chunks_that_are_compressed_twice_are_refused(tmp_path):
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(8, 8),
        dtype="u1",
        zarr_format=2,
        filters=[numcodecs.Zlib()],
        compressors=numcodecs.GZip(),
    )
    array[...] = 1
    with pytest.raises(ValueError, match=r"must be compressed once; got zlib, gzip"):
        np.asarray(ImageFiles([tmp_path / "a.zarr"]))


@pytest.mark.parametrize("kind", STREAMS)
def test_chunks_of_zarr_inflate_no_further_than_their_shape(tmp_path, kind):
    name = kind.split()[0]
    options = {"shape": (8, 8), "chunks": (8, 8), "dtype": "u1"}
    old = zarr.create_array(
        tmp_path / "old.zarr",
        zarr_format=2,
        compressors=numcodecs.get_codec({"id": name}),
        **options,
    )
    old[...] = 1
    bomb = STREAMS[kind](bytes(SIZE))
    (tmp_path / "old.zarr" / "0.0").write_bytes(bomb)
    refuse_bomb(tmp_path / "old.zarr")
    if name not in ("gzip", "zstd", "blosc"):
        return
    codec = {"gzip": GzipCodec, "zstd": ZstdCodec, "blosc": BloscCodec}[name]()
    new = zarr.create_array(tmp_path / "new.zarr", compressors=codec, **options)
    new[...] = 1
    (tmp_path / "new.zarr" / "c" / "0" / "0").write_bytes(bomb)
    refuse_bomb(tmp_path / "new.zarr")
    shards = {**options, "chunks": (4, 4), "shards": (8, 8)}
    new = zarr.create_array(tmp_path / "shards.zarr", compressors=codec, **shards)
    new[...] = 1
    index = np.full((4, 2), 2**64 - 1, "<u8")
    index[2] = 0, len(bomb)
    data = bomb + index.tobytes() + bytes(4)  # in place of the checksum
    (tmp_path / "shards.zarr" / "c" / "0" / "0").write_bytes(data)
    refuse_bomb(tmp_path / "shards.zarr")


@pytest.mark.parametrize("shards", [None, (20, 50)])
@pytest.mark.parametrize("codec", [None, GzipCodec(), ZstdCodec(), BloscCodec(), Crc32cCodec()])
def test_compression_of_zarr(tmp_path, rng, codec, shards):
    pixels = rng.integers(0, 2**16, (40, 50), dtype=np.uint16)  # which no codec makes shorter
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=(10, 25),
        shards=shards,
        compressors=codec,
    )
    array[...] = pixels
    assert_array_equal(read_one(tmp_path / "a.zarr"), pixels)


@pytest.mark.parametrize("filters", [None, [numcodecs.Delta("u2")], [numcodecs.Shuffle(2)]])
@pytest.mark.parametrize("name", ["zlib", "gzip", "bz2", "lzma", "zstd", "lz4", "blosc"])
def test_compression_of_zarr_2(tmp_path, rng, name, filters):
    pixels = rng.integers(0, 2**16, (40, 50), dtype=np.uint16)
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=(10, 25),
        zarr_format=2,
        compressors=numcodecs.get_codec({"id": name}),
        filters=filters,
    )
    array[...] = pixels
    assert_array_equal(read_one(tmp_path / "a.zarr"), pixels)


def test_codecs_of_zarr_without_a_limit_are_refused(tmp_path):
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(6, 7),
        dtype="u1",
        zarr_format=2,
        compressors=numcodecs.LZMA(format=3, filters=[{"id": 33}]),
    )
    array[...] = 1
    with pytest.raises(
        ValueError, match=r"a\.zarr: its compression must be one of blosc, .*reader="
    ):
        np.asarray(ImageFiles([tmp_path / "a.zarr"]))


@given(st.binary(max_size=200), st.sampled_from(["zstd", "gzip", "blosc", "lz4", "bz2", "lzma"]))
def test_any_bytes_in_a_chunk_of_zarr(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("zarr") / "a.zarr"
    array = zarr.create_array(
        path,
        shape=(4, 4),
        dtype="u1",
        zarr_format=2,
        compressors=numcodecs.get_codec({"id": name}),
    )
    array[...] = 1
    (path / "0.0").write_bytes(data)
    X, message = ImageFiles([path]), "a.zarr"
    try:
        assert np.asarray(X).shape == (1, 4, 4)
    except ValueError as error:
        message = str(error)
    assert "a.zarr" in message


def test_threads_read_headers_at_the_same_time(tmp_path):
    # Garbage collection lets another thread run within the parser of Python, which fails in 3.11.7.
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    np.savez(tmp_path / "b.npz", np.zeros((2, 3)))

    def let_others_run(phase, info):
        time.sleep(0)

    def read(number):
        for _ in range(40):
            ImageFiles([tmp_path / ("a.npy" if number % 2 else "b.npz")])
        return True

    thresholds = gc.get_threshold()
    gc.callbacks.append(let_others_run)
    gc.set_threshold(5)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(read, range(4)))
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(let_others_run)
