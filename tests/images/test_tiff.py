"""TIFF."""

import io
import itertools
import math
import struct
import sys
import threading
import tracemalloc
import zlib
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skimbal.images import ImageFiles
from tests.images.data import read_file, read_one
from tests.images.test_pictures import grey_of, on_black

DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]


def draw(rng, dtype, shape):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (rng.random(shape) * 200 - 100).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def range_of(dtype):
    """Return the range of pictures, of which measurements have none."""
    return {"u1": (0, 255), "u2": (0, 65535)}.get(dtype)


def save(path, pixels, **options):
    tifffile.imwrite(path, pixels, **{"metadata": None, "photometric": "minisblack", **options})
    return path


def by_pillow(path, mode):
    """Read a file as pillow does, channels first."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert(mode))
    return np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels


def tiff(tags, data, order="<"):
    """Write a TIFF of one strip from the numbers of its tags, in 32 bits."""
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 277: 1, 278: 2**20, 279: len(data), **tags}
    tags = {
        code: numbers if isinstance(numbers, tuple) else (numbers,)
        for code, numbers in tags.items()
    }
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    extra, entries = b"", []
    for code in sorted([*tags, 273]):
        numbers = tags.get(code, (0,))
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            entries.append([code, len(numbers), start + len(extra)])
            extra += packed
        else:
            entries.append([code, 1, numbers[0]])
    for entry in entries:
        if entry[0] == 273:
            entry[2] = start + len(extra)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    body = b"".join(struct.pack(f"{order}HHII", code, 4, n, value) for code, n, value in entries)
    return head + body + struct.pack(f"{order}I", 0) + extra + data


def pack(numbers, bits):
    """Pack rows of numbers into bytes, each row by itself."""
    flat = numbers.reshape(len(numbers), -1)
    each = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(each.reshape(len(flat), -1).astype(np.uint8), axis=1).tobytes()


@pytest.mark.parametrize(
    "compression", [None, "zlib", pytest.param("lzma", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("n", [None, 3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number(dtype, n, compression, tmp_path, rng):
    pixels = draw(rng, dtype, (21, 37, n) if n else (21, 37))
    shown = np.moveaxis(pixels, -1, 0) if n else pixels
    photometric = "minisblack" if n is None else "rgb"
    for order, tile, planes in itertools.product("<>", (None, (16, 16)), (1, 2)):
        options = {"byteorder": order, "tile": tile, "bigtiff": order == ">"}
        if n and planes == 2:
            options |= {"planarconfig": "separate"}
        extra = {"extrasamples": ["unassalpha"]} if n == 4 else {}
        source = np.ascontiguousarray(shown) if planes == 2 else pixels
        path = save(
            tmp_path / "a.tif", source, compression=compression, photometric=photometric,
            rowsperstrip=None if tile else 5, **options, **extra,
        )  # fmt: skip
        image = read_file(path)
        assert_array_equal(image.pixels, shown)
        assert image.pixels.dtype == dtype
        assert (image.n_spatial, image.full_range) == (2, range_of(dtype))
        assert_array_equal(tifffile.imread(path), source)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "u8"])
@pytest.mark.parametrize("n", [None, 3])
def test_differences_of_neighbours(dtype, n, tmp_path, rng):
    pixels = draw(rng, dtype, (9, 37, n) if n else (9, 37))
    coded = np.diff(pixels, axis=1, prepend=pixels.dtype.type(0))
    tags = {256: 37, 257: 9, 262: 2 if n else 1, 277: n or 1, 317: 2, 259: 8}
    bits = (8 * pixels.dtype.itemsize,) * (n or 1)
    for order in "<>":
        data = zlib.compress(coded.astype(pixels.dtype.newbyteorder(order)).tobytes())
        sign = (2 if dtype[0] == "i" else 1,) * (n or 1)
        file = tiff({**tags, 258: bits, 339: sign, 278: 9}, data, order)
        (tmp_path / "a.tif").write_bytes(file)
        image = read_file(tmp_path / "a.tif").pixels
        assert_array_equal(image, np.moveaxis(pixels, -1, 0) if n else pixels)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("n", [None, 3])
def test_differences_of_floating_point_numbers(dtype, n, tmp_path, rng):
    pixels = draw(rng, dtype, (9, 37, n or 1))
    size = pixels.dtype.itemsize
    big = pixels.astype(f">{dtype}").view(np.uint8).reshape(9, 37 * (n or 1), size)
    planes = big.transpose(0, 2, 1).reshape(9, -1, n or 1)
    coded = np.diff(planes, axis=1, prepend=np.uint8(0))
    tags = {256: 37, 257: 9, 262: 2 if n else 1, 277: n or 1, 317: 3, 259: 8, 278: 9}
    tags |= {258: (8 * size,) * (n or 1), 339: (3,) * (n or 1)}
    (tmp_path / "a.tif").write_bytes(tiff(tags, zlib.compress(coded.tobytes())))
    image = read_file(tmp_path / "a.tif").pixels
    assert_array_equal(image, np.moveaxis(pixels, -1, 0) if n else pixels[..., 0])
    if dtype == "f4" and n is None:
        assert_array_equal(image, by_pillow(tmp_path / "a.tif", "F"))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "zstd", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "F", "I", "LA", "RGBA"])
def test_compressions_of_pillow(mode, compression, tmp_path, rng):
    pixels = rng.integers(0, 2, (15, 21)) * 255
    if mode in ("I;16", "I", "F"):
        picture = Image.fromarray(draw(rng, {"I;16": "u2", "I": "i4", "F": "f4"}[mode], (15, 21)))
    else:
        n = len(Image.new(mode, (1, 1)).getbands())
        pixels = rng.integers(0, 256, (15, 21, n), dtype=np.uint8)
        picture = Image.fromarray(pixels[..., 0] if n == 1 else pixels).convert(mode)
    for predictor in (1, 2) if mode != "1" and compression != "packbits" else (1,):
        picture.save(tmp_path / "a.tif", compression=compression, tiffinfo={317: predictor})
        expected = np.asarray(picture.convert("L") if mode == "1" else picture)
        image = read_file(tmp_path / "a.tif")
        assert_array_equal(
            image.pixels, np.moveaxis(expected, -1, 0) if expected.ndim == 3 else expected
        )


def lzw_by_pillow(row):
    """Pack bytes by LZW, as pillow's libtiff packs the row of a grey picture."""
    out = io.BytesIO()
    Image.fromarray(np.frombuffer(row, np.uint8)[None]).save(out, "TIFF", compression="tiff_lzw")
    out.seek(0)
    with tifffile.TiffFile(out) as tif:
        page = tif.pages[0]
        assert len(page.dataoffsets) == 1
        return out.getvalue()[page.dataoffsets[0] :][: page.databytecounts[0]]


@pytest.mark.parametrize("dtype", ["u2", "f8", "f2", "u4"])
def test_colours_and_wide_numbers_by_lzw(dtype, tmp_path, rng):
    pixels = draw(rng, dtype, (9, 31, 3))
    kind = {"u": 1, "f": 3}[dtype[0]]
    tags = {256: 31, 257: 9, 262: 2, 277: 3, 259: 5, 278: 9}
    tags |= {258: (8 * pixels.itemsize,) * 3, 339: (kind,) * 3}
    (tmp_path / "a.tif").write_bytes(tiff(tags, lzw_by_pillow(pixels.tobytes())))
    assert_array_equal(read_file(tmp_path / "a.tif").pixels, np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("fill", [1, 2])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24])
def test_grey_of_every_depth(bits, photometric, fill, tmp_path, rng):
    numbers = rng.integers(0, 2**bits, (7, 13))
    tags = {256: 13, 257: 7, 258: bits, 262: photometric, 266: fill}
    for order in "<>" if bits == 16 else "<":
        data = numbers.astype(f"{order}u2").tobytes() if bits == 16 else pack(numbers, bits)
        if fill == 2:
            data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
        (tmp_path / "a.tif").write_bytes(tiff(tags, data, order))
        full = 2**bits - 1
        shown = numbers if photometric else full - numbers
        image = read_file(tmp_path / "a.tif")
        assert_array_equal(image.pixels, np.rint(shown * (255 / full)) if bits < 8 else shown)
        assert image.full_range == ((0, max(255, full)) if bits <= 16 else None)
        assert image.pixels.dtype == f"u{1 if bits <= 8 else 2 if bits <= 16 else 4}"
        if bits in (1, 2, 4) or (bits == 8 and fill == 1):
            assert_array_equal(image.pixels, by_pillow(tmp_path / "a.tif", "L"))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("is_byte", [False, True])
def test_palettes(bits, is_byte, tmp_path, rng):
    table = rng.integers(0, 2**16, (3, 2**bits))
    table[0, 0] = 65535
    table = table >> 8 if is_byte else table
    numbers = rng.integers(0, 2**bits, (7, 13))
    data = numbers.astype("<u2").tobytes() if bits == 16 else pack(numbers, bits)
    tags = {256: 13, 257: 7, 258: bits, 262: 3, 320: tuple(table.ravel().tolist())}
    (tmp_path / "a.tif").write_bytes(tiff(tags, data))
    image = read_file(tmp_path / "a.tif")
    assert_array_equal(image.pixels, (table if is_byte else table >> 8)[:, numbers])
    assert image.full_range == (0, 255)
    if bits < 16 and not is_byte:
        assert_array_equal(image.pixels, by_pillow(tmp_path / "a.tif", "RGB"))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_alpha(kind, n, dtype, tmp_path, rng):
    pixels = draw(rng, dtype, (11, 15, n))
    full = np.iinfo(dtype).max
    pixels[:3, :, -1], pixels[3:5, :, -1] = 0, full
    if kind == "assocalpha":
        pixels[..., :-1] = np.minimum(pixels[..., :-1], pixels[..., -1:])
    path = save(
        tmp_path / "a.tif", pixels, photometric="rgb" if n == 4 else "minisblack",
        extrasamples=[kind], planarconfig="contig",
    )  # fmt: skip
    shown = np.moveaxis(pixels, -1, 0)
    colours = shown[:-1]
    if kind == "unspecified":
        assert_array_equal(read_file(path).pixels, shown)
        if n == 4:
            assert_array_equal(read_file(path, 3).pixels, colours)
        else:  # two channels of no known meaning
            assert read_file(path, 3).pixels.shape == (2, 11, 15)
        return
    if kind == "assocalpha":
        straight = np.where(
            (shown[-1] > 0) & (shown[-1] < full),
            np.rint(colours * float(full) / np.maximum(shown[-1], 1)),
            colours,
        ).astype(dtype)
        assert_allclose(read_file(path).pixels, np.concatenate([straight, shown[-1:]]), atol=1)
        if dtype == "u1" and n == 4:
            assert_allclose(read_file(path).pixels.astype(int), by_pillow(path, "RGBA"), atol=1)
    else:
        assert_array_equal(read_file(path).pixels, shown)
        colours = on_black(shown)
    assert_array_equal(read_file(path, 3).pixels, np.broadcast_to(colours, (3, 11, 15)))
    assert_array_equal(read_file(path, 1).pixels, grey_of(colours))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("n", [None, 3])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "group4"])
def test_orientation(compression, n, orientation, tmp_path, rng):
    pixels = np.kron(rng.integers(0, 2, (2, 3), dtype=np.uint8) * 255, np.ones((8, 8), np.uint8))
    picture = Image.fromarray(pixels)
    if compression == "group4":
        picture, n = picture.convert("1"), None
    elif n:
        picture = Image.merge("RGB", [picture, picture.rotate(180), picture])
    path = tmp_path / "a.tif"
    picture.save(path, compression=compression)
    stored = Image.fromarray(
        np.moveaxis(read_file(path).pixels, 0, -1) if n else read_file(path).pixels
    )
    picture.save(path, compression=compression, tiffinfo={274: orientation})
    image = read_file(path)
    turns = [
        *("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270"),
        *("TRANSVERSE", "ROTATE_90"),
    ]
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[turns[orientation - 2]])
    expected = np.asarray(stored)
    assert_array_equal(
        image.pixels, np.moveaxis(expected, -1, 0) if expected.ndim == 3 else expected
    )
    if compression != "raw":  # where pillow reads some pages with rows of another length
        assert_array_equal(image.pixels, by_pillow(path, picture.mode.replace("1", "L")))
    assert image.pixels.shape[-2:] == ((24, 16) if orientation > 4 else (16, 24))


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        (mode, compression)
        for mode in ("CMYK", "YCbCr", "LAB", "L", "RGB")
        for compression in ("raw", "tiff_lzw", "jpeg")
        if (mode, compression) != ("LAB", "jpeg")  # which pillow does not write
    ],
)
def test_colours_as_pillow_converts_them(mode, compression, tmp_path, rng):
    pixels = np.kron(rng.integers(0, 256, (2, 3, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    picture = Image.fromarray(pixels)
    merged = Image.merge("LAB", picture.split())
    picture = merged if mode == "LAB" else picture.convert(mode)
    picture.save(tmp_path / "a.tif", compression=compression)
    expected = by_pillow(tmp_path / "a.tif", "L" if mode == "L" else "RGB")
    assert_array_equal(read_file(tmp_path / "a.tif").pixels, expected)
    grey = read_file(tmp_path / "a.tif", 1).pixels
    assert_array_equal(grey, grey_of(expected) if mode != "L" else expected)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_fax(photometric, compression, tmp_path, rng):
    pixels = np.kron(rng.integers(0, 2, (3, 4)), np.ones((8, 8), int)).astype(bool)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.tif", compression=compression, tiffinfo={262: photometric})
    assert_array_equal(read_file(tmp_path / "a.tif").pixels, pixels * 255)


def test_pages_are_slices(tmp_path, rng):
    volume = draw(rng, "u2", (4, 5, 6))
    first, *others = [Image.fromarray(page) for page in volume]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    image = read_file(tmp_path / "a.tif")
    assert_array_equal(image.pixels, volume)
    assert (image.n_spatial, image.full_range) == (3, (0, 65535))
    first.save(tmp_path / "b.tif", save_all=True, append_images=[Image.new("L", (9, 9))])
    with pytest.raises(ValueError, match=r"b\.tif: .*one shape; got \(5, 6\) and others: \(9, 9\)"):
        ImageFiles([tmp_path / "b.tif"])
    assert_array_equal(
        read_file(tmp_path / "a.tif", 3).pixels, np.broadcast_to(volume, (3, 4, 5, 6))
    )


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "raw"])
def test_pages_of_colours_are_slices(compression, tmp_path, rng):
    volume = np.kron(
        rng.integers(0, 256, (4, 2, 3, 3), dtype=np.uint8), np.ones((1, 8, 8, 1), np.uint8)
    )
    first, *others = [Image.fromarray(page) for page in volume]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression=compression)
    image = read_file(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as picture:
        pages = []
        for i in range(4):
            picture.seek(i)
            pages.append(np.asarray(picture))
    assert_array_equal(image.pixels, np.moveaxis(np.stack(pages), -1, 0))
    assert image.n_spatial == 3


@pytest.mark.parametrize("text", ["[3, 5, 6]", "[2, 6, 5]", "[60]", "[1, 5, 6]"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_metadata_that_do_not_fit_the_pages(compression, text, tmp_path, rng):
    path, volume = tmp_path / "a.tif", draw(rng, "u1", (2, 5, 6))
    tifffile.imwrite(path, volume, compression=compression, photometric="minisblack")
    tifffile.tiffcomment(path, f'{{"shape": {text}}}')
    with suppress_naming("a.tif"):
        assert_array_equal(read_one(path), volume)


@pytest.mark.parametrize(
    "text", ["slices=2000000000", "slices=-2", "slices=2\nframes=9", "slices=3"]
)
def test_imagej_metadata_that_do_not_fit_are_refused(text, tmp_path, rng):
    path = tmp_path / "a.tif"
    options = {"imagej": True, "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path, draw(rng, "u1", (2, 5, 6)), **options)
    tifffile.tiffcomment(path, tifffile.tiffcomment(path).replace("slices=2", text))
    with pytest.raises(ValueError, match=r"a\.tif: "):
        read_one(path)


def test_pages_that_are_written_one_by_one_are_slices(tmp_path, rng):
    volume = draw(rng, "u2", (4, 20, 30))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in volume:
            writer.write(page, photometric="minisblack")
    image = read_file(tmp_path / "a.tif")
    assert_array_equal(image.pixels, volume)
    assert image.n_spatial == 3


def test_slices_of_cmyk(tmp_path, rng):
    pixels = draw(rng, "u1", (7, 9, 4))
    path = save(tmp_path / "a.tif", pixels, photometric="separated")
    expected = by_pillow(path, "RGB")
    options = {"photometric": "separated", "metadata": {"axes": "ZYXS"}}
    path = save(tmp_path / "b.tif", np.stack([pixels, pixels]), **options)
    assert_array_equal(read_file(path).pixels, np.stack([expected, expected], axis=1))
    path = save(
        tmp_path / "c.tif",
        np.moveaxis(pixels, -1, 0).copy(),
        photometric="separated",
        planarconfig="separate",
    )
    assert_array_equal(read_file(path).pixels, expected)


@pytest.mark.parametrize("different", ["palette", "orientation", "photometric"])
def test_pages_of_different_meanings_are_refused(different, tmp_path, rng):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for i in range(2):
            options = {"photometric": "minisblack"}
            if different == "palette":
                options = {"photometric": "palette", "colormap": draw(rng, "u2", (3, 256))}
            elif different == "orientation":
                options["extratags"] = [(274, "H", 1, 1 + i, True)]
            elif i:
                options = {"photometric": "miniswhite"}
            writer.write(draw(rng, "u1", (8, 8)), metadata=None, **options)
    with pytest.raises(ValueError, match=r"a\.tif: the pages of a volume must have one .*reader="):
        ImageFiles([tmp_path / "a.tif"])


def test_pages_of_two_compressions_are_slices(tmp_path, rng):
    volume = draw(rng, "u1", (3, 20, 30))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page, compression in zip(volume, (None, "zlib", "lzma"), strict=True):
            writer.write(page, compression=compression, metadata=None)
    assert_array_equal(read_file(tmp_path / "a.tif").pixels, volume)


SIZES = {"T": 2, "Z": 4, "C": 2, "Y": 7, "X": 9, "S": 3}
SHOWN = {"YX": 2, "CYX": 2, "ZYX": 3, "ZCYX": 3, "CZYX": 3, "YXS": 2, "ZYXS": 3}
REFUSED = ["TYX", "TZYX", "TCYX", "TZCYX", "CYXS", "TYXS"]


def written(dtype, compression):
    """List the kinds and axes that a program writes with a dtype."""
    for kind in ("imagej", "ome", "shaped"):
        for axes in (*SHOWN, *REFUSED):
            # ImageJ has no such file.
            if kind != "imagej" or (axes != "CZYX" and ("S" not in axes or dtype == "u1")):
                yield dtype, compression, kind, axes


@pytest.mark.parametrize(
    ("dtype", "compression", "kind", "axes"),
    [
        *written("u1", None),
        *written("u2", "zlib"),
        *[
            pytest.param(*cell, marks=pytest.mark.slow)
            for cell in (*written("u1", "zlib"), *written("f4", None))
        ],
    ],
)
def test_axes(dtype, compression, kind, axes, tmp_path, rng):
    pixels = draw(rng, dtype, [SIZES[axis] for axis in axes])
    path = tmp_path / "a.tif"
    options = {"imagej": True} if kind == "imagej" else {"ome": True} if kind == "ome" else {}
    tifffile.imwrite(
        path, pixels, compression=compression, metadata={"axes": axes},
        photometric="rgb" if "S" in axes else "minisblack", **options,
    )  # fmt: skip
    if axes in REFUSED:
        named = "2 channels, 3 samples" if axes == "CYXS" else "2 time"
        with pytest.raises(ValueError, match=rf"a\.tif: .*{named}.*reader="):
            ImageFiles([path])
        return
    image = read_file(path)
    channels = axes.index("S") if "S" in axes else axes.index("C") if "C" in axes else None
    assert_array_equal(
        image.pixels, pixels if channels is None else np.moveaxis(pixels, channels, 0)
    )
    assert image.n_spatial == SHOWN[axes]


def test_channels_of_an_imagej_stack_are_no_slices(tmp_path, rng):
    zcyx = draw(rng, "u1", (4, 2, 7, 9))
    tifffile.imwrite(tmp_path / "h.tif", zcyx, imagej=True, metadata={"axes": "ZCYX"})
    X = ImageFiles([tmp_path / "h.tif"])
    assert (X.shape, X.n_spatial) == ((1, 2, 4, 7, 9), 3)
    assert_array_equal(X[0], zcyx.transpose(1, 0, 2, 3))
    with pytest.raises(ValueError, match="channels must be 2"):
        ImageFiles([tmp_path / "h.tif"], channels=3)


@pytest.mark.parametrize(
    ("order", "axes"),
    [("XYCZT", "ZCYX"), ("XYZCT", "CZYX"), ("XYZTC", "CZYX"), ("XYTCZ", "ZCYX")],
)
def test_orders_of_ome(order, axes, tmp_path, rng):
    pixels = draw(rng, "u2", [SIZES[axis] for axis in axes])
    tifffile.imwrite(
        tmp_path / "a.ome.tif", pixels, ome=True, metadata={"axes": axes, "DimensionOrder": order}
    )
    image = read_file(tmp_path / "a.ome.tif")
    assert_array_equal(image.pixels, np.moveaxis(pixels, axes.index("C"), 0))


@pytest.mark.parametrize(("unit", "mm"), [("µm", 1e-3), ("nm", 1e-6), ("mm", 1), ("cm", 10)])
def test_spacing_of_ome(unit, mm, tmp_path):
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("XYZ", (0.5, 0.25, 3), strict=True)}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    volume = np.zeros((4, 5, 6), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", volume, ome=True, metadata={"axes": "ZYX", **sizes, **units}
    )
    assert_allclose(read_file(tmp_path / "a.tif").spacing, [3 * mm, 0.25 * mm, 0.5 * mm])
    tifffile.imwrite(tmp_path / "b.tif", volume, ome=True, metadata={"axes": "ZYX"})
    assert read_file(tmp_path / "b.tif").spacing is None
    shape = ImageFiles([tmp_path / "a.tif"], spacing=(1.5 * mm, 0.25 * mm, 0.5 * mm)).shape
    assert shape == (1, 8, 5, 6)


@pytest.mark.parametrize(
    ("unit", "mm"),
    [("um", 1e-3), ("micron", 1e-3), ("mm", 1), ("inch", 25.4), ("pixel", None), (None, None)],
)
def test_spacing_of_imagej(unit, mm, tmp_path):
    volume = np.zeros((4, 5, 6), np.uint8)
    metadata = {"axes": "ZYX", "spacing": 3.0, **({"unit": unit} if unit else {})}
    tifffile.imwrite(tmp_path / "a.tif", volume, imagej=True, resolution=(2, 4), metadata=metadata)
    spacing = read_file(tmp_path / "a.tif").spacing
    assert spacing is None if mm is None else np.allclose(spacing, [3 * mm, mm / 4, mm / 2])


@pytest.mark.parametrize(("unit", "mm"), [("inch", 25.4), ("centimeter", 10), ("none", None)])
def test_spacing_of_resolution(unit, mm, tmp_path):
    image = np.zeros((5, 6), np.uint8)
    save(tmp_path / "a.tif", image, resolution=(100, 50), resolutionunit=unit)
    spacing = read_file(tmp_path / "a.tif").spacing
    assert spacing is None if mm is None else np.allclose(spacing, [mm / 50, mm / 100])
    turned = [(274, "H", 1, 6, True)]
    save(tmp_path / "b.tif", image, resolution=(100, 50), resolutionunit=unit, extratags=turned)
    assert read_file(tmp_path / "b.tif").spacing == (spacing and spacing[::-1])
    save(tmp_path / "c.tif", np.zeros((4, 5, 6), np.uint8), resolution=(100, 50))
    assert read_file(tmp_path / "c.tif").spacing is None  # nothing about the slices


def test_thumbnails_and_levels_are_no_slices(tmp_path, rng):
    pixels = draw(rng, "u1", (64, 48))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pixels, subifds=2, metadata=None)
        writer.write(pixels[::2, ::2], subfiletype=1, metadata=None)
        writer.write(pixels[::4, ::4], subfiletype=1, metadata=None)
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(pixels, metadata=None)
        writer.write(pixels[:9, :8], subfiletype=1, metadata=None)
    with tifffile.TiffWriter(tmp_path / "c.ome.tif") as writer:
        writer.write(pixels, subifds=1, metadata={"axes": "YX"})
        writer.write(pixels[::2, ::2], subfiletype=1)
    with tifffile.TiffWriter(tmp_path / "d.tif") as writer:
        writer.write(pixels, subifds=1)
        writer.write(pixels[::2, ::2], subfiletype=1)
    for name in ("a.tif", "b.tif", "c.ome.tif", "d.tif"):
        image = read_file(tmp_path / name)
        assert_array_equal(image.pixels, pixels)
        assert image.n_spatial == 2


def test_several_images_are_refused(tmp_path, rng):
    for name in ("a.tif", "a.ome.tif"):
        with tifffile.TiffWriter(tmp_path / name) as writer:
            writer.write(draw(rng, "u1", (7, 9)), photometric="minisblack")
            writer.write(draw(rng, "u2", (3, 11, 5)), photometric="minisblack")
        with pytest.raises(
            ValueError, match=rf"{name}: .*one image; got 2: YX \(7, 9\), .*reader="
        ):
            ImageFiles([tmp_path / name])


def test_ome_of_several_files_is_refused(tmp_path, rng):
    for i in range(2):
        tifffile.imwrite(tmp_path / f"{i}.ome.tif", draw(rng, "u1", (7, 9)), ome=True)
    path = tmp_path / "0.ome.tif"
    whole = tifffile.tiffcomment(path)
    parts = '<TiffData IFD="0"><UUID FileName="1.ome.tif">urn:uuid:1</UUID></TiffData>'
    for xml in (
        whole.replace("<TiffData", f"{parts}<TiffData", 1),
        whole[: whole.index("<Image")] + '<BinaryOnly MetadataFile="x" UUID="y"/></OME>',
        "<!DOCTYPE x [<!ENTITY a 'b'>]>" + whole,
    ):
        tifffile.tiffcomment(path, xml)
        with pytest.raises(ValueError, match=r"0\.ome\.tif: its OME metadata"):
            ImageFiles([path])


def test_ome_that_lacks_pages_is_refused(tmp_path, rng):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, draw(rng, "u1", (4, 7, 9)), ome=True, metadata={"axes": "ZYX"})
    xml = tifffile.tiffcomment(path)
    tifffile.tiffcomment(path, xml.replace('SizeZ="4"', 'SizeZ="6"').replace('"4"', '"6"'))
    with pytest.raises(ValueError, match=r"a\.ome\.tif: .*(damaged|fit its pages|lacks)"):
        read_one(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_that_lacks_pages_is_refused(compression, tmp_path, rng):
    path = tmp_path / "a.tif"
    volume = draw(rng, "u1", (4, 7, 9))
    tifffile.imwrite(path, volume, imagej=True, compression=compression, metadata={"axes": "ZYX"})
    text = tifffile.tiffcomment(path)
    tifffile.tiffcomment(path, text.replace("=4", "=6"))
    with pytest.raises(ValueError, match=r"a\.tif: "):
        read_one(path)


REFUSALS = {
    "complex": (np.zeros((5, 6), np.complex64), {}, "complex64"),
    "float of 24 bits": ({258: 24, 339: 3, 256: 1, 257: 1}, b"abc", "24 bits"),
    "min-is-white, signed": ({262: 0, 339: 2}, b"a", "min-is-white"),
    "min-is-white, float": ({262: 0, 339: 3, 258: 32}, b"abcd", "min-is-white"),
    "filter array": ({262: 32803}, b"a", "colour filter array"),
    "LogL": ({262: 32844}, b"a", "LogL"),
    "mask": ({262: 4, 258: 1}, b"a", "transparency mask"),
    "mixed bits": ({262: 2, 277: 3, 258: (5, 6, 5)}, b"ab", r"\(5, 6, 5\) bits"),
    "CMYK of 16 bits": ({262: 5, 277: 4, 258: (16,) * 4}, b"a" * 8, "CMYK, 4 samples of 16"),
    "Lab of 16 bits": ({262: 8, 277: 3, 258: (16,) * 3}, b"a" * 6, "CIELab, 3 samples of 16"),
    "JPEG of 12 bits": ({259: 7, 258: 12}, b"a" * 6, "12 bits, compression JPEG"),
    "JPEG 2000": ({259: 34712}, b"a" * 6, "compression JPEG 2000"),
    "JPEG XL": ({259: 50002}, b"a" * 6, "compression JPEG XL"),
    "WebP": ({259: 50001}, b"a" * 6, "compression WebP"),
    "unknown": ({259: 12345}, b"a" * 6, "compression number 12345"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_is_refused_is_named(kind, tmp_path):
    first, second, named = REFUSALS[kind]
    path = tmp_path / "a.tif"
    if isinstance(first, np.ndarray):
        save(path, first, **second)
    else:
        path.write_bytes(tiff(first, second))
    with pytest.raises(ValueError, match=rf"cannot read .*a\.tif: .*{named}.*reader="):
        ImageFiles([path])


def test_chains_of_pages_that_do_not_end(tmp_path):
    data = bytearray(tiff({}, b"a"))
    at = 8 + 2 + 12 * struct.unpack("<H", data[8:10])[0]
    for target, words in ((8, "back to a page before"), (10**6, "behind its end")):
        data[at : at + 4] = struct.pack("<I", target)
        (tmp_path / "a.tif").write_bytes(data)
        with pytest.raises(ValueError, match=rf"a\.tif: its list of pages leads {words}"):
            ImageFiles([tmp_path / "a.tif"])


@pytest.mark.parametrize("compression", [8, 34925, 5, 32773, 50000])
def test_strips_that_unfold_to_more_than_the_header_says(compression, tmp_path):
    much = np.full((2**14, 2**10), 7, np.uint8)
    if compression in (8, 34925):
        name = {8: "zlib", 34925: "lzma"}[compression]
        save(tmp_path / "b.tif", much, compression=name, rowsperstrip=2**14)
    else:
        name = {5: "tiff_lzw", 32773: "packbits", 50000: "zstd"}[compression]
        Image.fromarray(much).save(tmp_path / "b.tif", compression=name, strip_size=2**26)
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        page = tif.pages[0]
        assert len(page.dataoffsets) == 1
        data = (tmp_path / "b.tif").read_bytes()[page.dataoffsets[0] :][: page.databytecounts[0]]
    (tmp_path / "a.tif").write_bytes(tiff({256: 8, 257: 8, 259: compression}, data))
    tracemalloc.start()
    assert_array_equal(read_one(tmp_path / "a.tif"), np.full((8, 8), 7))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23 + 2**21


def test_the_limit_of_pixels(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff({256: 60_000, 257: 60_000}, b"a"))
    with pytest.raises(ValueError, match=r"a\.tif: .*max_pixels=3600000000"):
        ImageFiles([tmp_path / "a.tif"])
    assert ImageFiles([tmp_path / "a.tif"], max_pixels=2**32).shape == (1, 60_000, 60_000)
    volume = np.zeros((10, 5, 5), np.uint8)
    save(tmp_path / "b.tif", volume)
    with pytest.raises(ValueError, match=r"b\.tif: .*at most 100 pixels; got 250"):
        ImageFiles([tmp_path / "b.tif"], max_pixels=100)


@pytest.mark.parametrize("code", [273, 279, 278, 256, 257, 277, 258, 339, 284, 262, 317, 266, 338])
def test_absurd_tags(code, tmp_path):
    for number in (0, 1, 2, 3, 7, 255, 65535, 2**31, 2**32 - 1):
        check_absurd_tag(code, number, tmp_path)


def check_absurd_tag(code, number, tmp_path):
    pixels = np.arange(30, dtype=np.uint8)
    file = bytearray(tiff({256: 6, 257: 5}, pixels.tobytes()))
    for at in range(10, 10 + 12 * struct.unpack("<H", file[8:10])[0], 12):
        if struct.unpack("<H", file[at : at + 2])[0] == code:
            file[at + 8 : at + 12] = struct.pack("<I", number)
            break
    else:
        file = bytearray(tiff({256: 6, 257: 5, code: number}, pixels.tobytes()))
    (tmp_path / "a.tif").write_bytes(file)
    with suppress_naming("a.tif"):
        assert read_one(tmp_path / "a.tif").size <= 30


@contextmanager
def suppress_naming(name):
    """Suppress an error that names the file."""
    try:
        yield
    except ValueError as error:
        if name not in str(error):
            raise


@given(st.data())
def test_damaged_files(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    volume = np.arange(4 * 20 * 30, dtype=np.uint16).reshape(4, 20, 30)
    options = data.draw(
        st.sampled_from(
            [{}, {"imagej": True, "metadata": {"axes": "ZYX"}}, {"ome": True}, {"metadata": None}]
        )
    )
    path = folder / "damaged.tif"
    options |= {"compression": data.draw(st.sampled_from([None, "zlib"]))}
    tifffile.imwrite(path, volume, photometric="minisblack", **options)
    file = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(4, len(file) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(file[: data.draw(st.integers(8, len(file)))])
    with suppress_naming("damaged.tif"):
        read_one(path)


@pytest.mark.slow
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_damage_of_deflated_pixels_is_found(tile, tmp_path, rng):
    path = tmp_path / "a.tif"
    pixels = (np.arange(40 * 24).reshape(40, 24) // 7 % 200).astype(np.uint8)
    options = {"compression": "zlib", "metadata": None, "tile": tile}
    tifffile.imwrite(path, pixels + rng.integers(0, 9, (40, 24), dtype=np.uint8), **options)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        where = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    whole, data = read_one(path), path.read_bytes()
    for offset, n in where:
        for place in range(offset + 2, offset + n):
            path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            with suppress(ValueError):  # a bit that means nothing may stand behind the last code
                assert_array_equal(read_one(path), whole)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.02])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_cut_files_are_refused(compression, share, tmp_path, rng):
    path = save(tmp_path / "a.tif", draw(rng, "u2", (40, 30)), compression=compression)
    data = path.read_bytes()
    path.write_bytes(data[: math.ceil(len(data) * share)])
    with pytest.raises(ValueError, match=r"cannot read .*a\.tif: "):
        read_one(path)


@pytest.mark.parametrize("place", [0, 4])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib"}])
def test_pixels_do_not_stand_in_the_header(place, options, tmp_path):
    """Tiles that are empty have no place in the file, and were read from its first bytes."""
    path = save(tmp_path / "a.tif", np.full((32, 32), 7, np.uint8), **options)
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages.first.tags[324 if "tile" in options else 273]
    data = bytearray(path.read_bytes())
    data[tag.valueoffset : tag.valueoffset + 4] = struct.pack("<I", place)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.tif: its pixels must .* header; got {place} "):
        read_one(path)


def test_missing_library(tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif", np.zeros((5, 6), np.uint8))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match=r'tifffile, which is missing.*install "tifffile'):
        ImageFiles([path])


def test_threads_read_at_once(tmp_path, rng):
    pixels = draw(rng, "u2", (40, 30, 3))
    path = save(tmp_path / "a.tif", pixels, photometric="rgb", compression="zlib", rowsperstrip=4)
    wrong = []

    def read():
        for _ in range(10):
            if not np.array_equal(read_file(path).pixels, np.moveaxis(pixels, -1, 0)):
                wrong.append(True)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
