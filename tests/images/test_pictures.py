"""PNG, JPEG, WebP and BMP."""

import io
import itertools
import struct
import threading
import tracemalloc
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageOps

from skimbal.images import ImageFiles, ReadRequest
from skimbal.images.formats import read_image
from tests.images.data import cut, read_file, read_one, save_picture

#: Colour types of PNG: number, number of samples, depths.
PNG_KINDS = {
    "grey": (0, 1, (1, 2, 4, 8, 16)),
    "RGB": (2, 3, (8, 16)),
    "palette": (3, 1, (1, 2, 4, 8)),
    "grey + alpha": (4, 2, (8, 16)),
    "RGBA": (6, 4, (8, 16)),
}
PNG_CELLS = [
    (kind, depth, has_key)
    for kind, (_, _, depths) in PNG_KINDS.items()
    for depth in depths
    for has_key in ([False, True] if "A" not in kind and "alpha" not in kind else [False])
]
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
ADAM7 += [(1, 0, 2, 1)]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def filtered(rows, n_bytes, kinds):
    """Filter the rows of a PNG, by kinds 0 to 4, as its standard has it."""
    out, above = b"", np.zeros(rows.shape[1], int)
    for row, kind in zip(rows.astype(int), kinds, strict=True):
        left = np.concatenate([np.zeros(n_bytes, int), row])[: len(row)]
        corner = np.concatenate([np.zeros(n_bytes, int), above])[: len(row)]
        guess = left + above - corner
        near = [abs(guess - left), abs(guess - above), abs(guess - corner)]
        paeth = np.where(
            (near[0] <= near[1]) & (near[0] <= near[2]),
            left,
            np.where(near[1] <= near[2], above, corner),
        )
        predicted = [0 * row, left, above, (left + above) // 2, paeth][kind]
        out += bytes([kind]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    return out


def png(samples, kind, depth, interlaced=False, before=(), after=(), seed=0):
    """Write a PNG from samples of shape (h, w, n)."""
    rng = np.random.default_rng(seed)
    h, w, n = samples.shape
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    data = b""
    for y, x, down, right in passes:
        part = samples[y::down, x::right]
        if part.size == 0:
            continue
        if depth == 16:
            rows = part.astype(">u2").reshape(len(part), -1).view(np.uint8)
        else:
            bits = np.unpackbits(part.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
            rows = np.packbits(bits.reshape(len(part), -1), axis=1)
        data += filtered(rows, max(1, n * depth // 8), rng.integers(0, 5, len(rows)))
    head = struct.pack(">IIBBBBB", w, h, depth, PNG_KINDS[kind][0], 0, 0, interlaced)
    packed = zlib.compress(data)
    chunks = [(b"IHDR", head), *before, (b"IDAT", packed[:7]), (b"IDAT", packed[7:])]
    chunks += [*after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*item) for item in chunks)


def draw_png(kind, depth, has_key, size, interlaced=False, seed=0, **chunks):
    """Draw a PNG, and return its bytes and the pixels that it shows: (channels, h, w)."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 2**depth, (*size, PNG_KINDS[kind][1]))
    before, full = list(chunks.pop("before", ())), 255 if depth < 16 else 65535
    if kind == "palette":
        colours = rng.integers(0, 256, (2**depth, 3), dtype=np.uint8)
        before.append((b"PLTE", colours.tobytes()))
        shown = np.moveaxis(colours[samples[..., 0]], -1, 0)
        if has_key:
            alphas = rng.integers(0, 256, 2**depth, dtype=np.uint8)
            before.append((b"tRNS", alphas.tobytes()))
            shown = np.concatenate([shown, alphas[samples[..., 0]][None]])
    else:
        shown = np.moveaxis(samples, -1, 0) * (full // (2**depth - 1) if depth < 8 else 1)
        if has_key:
            key = samples[0, 0]
            before.append((b"tRNS", key.astype(">u2").tobytes()))
            alpha = np.where((samples == key).all(-1), 0, full)
            shown = np.concatenate([shown, alpha[None]])
    data = png(samples, kind, depth, interlaced, before, seed=seed, **chunks)
    return data, shown.astype(np.uint16 if depth == 16 else np.uint8)


def on_black(shown):
    """Return a grey or coloured picture with alpha, on black."""
    n = shown.shape[0] // 2 * 2 - 1
    full = np.iinfo(shown.dtype).max
    return np.rint(shown[:n].astype(float) * shown[n] / full).astype(shown.dtype)


def grey_of(colours):
    if len(colours) == 1:
        return colours[0]
    weights = np.array([19595, 38470, 7471])[:, None, None]
    return ((colours * weights).sum(0) + 2**15 >> 16).astype(colours.dtype)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth", "has_key"), PNG_CELLS)
def test_every_kind_of_png(kind, depth, has_key, interlaced, tmp_path):
    data, shown = draw_png(kind, depth, has_key, (19, 13), interlaced)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    image = read_file(path)
    assert_array_equal(image.pixels, shown if len(shown) > 1 else shown[0])
    assert image.pixels.dtype == shown.dtype
    assert image.n_spatial == 2
    assert image.full_range == (0, np.iinfo(shown.dtype).max)
    has_alpha = len(shown) in (2, 4)
    colours = on_black(shown) if has_alpha else shown
    assert_array_equal(read_file(path, 1).pixels, grey_of(colours))
    assert_array_equal(read_file(path, 3).pixels, np.broadcast_to(colours, (3, 19, 13)))
    opaque = np.full((1, 19, 13), np.iinfo(shown.dtype).max)
    expected = np.broadcast_to(shown[: len(shown) // 2 * 2 - 1 if has_alpha else None], (3, 19, 13))
    alpha = shown[-1:] if has_alpha else opaque
    assert_array_equal(read_file(path, 4).pixels, np.concatenate([expected, alpha]))
    if depth < 16 and not (has_key and depth in (2, 4)):  # pillow does not scale the key of those
        rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
        assert_array_equal(read_file(path, 4).pixels, np.moveaxis(rgba, -1, 0))


@given(
    st.sampled_from(PNG_CELLS),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_png_of_any_size(tmp_path_factory, cell, size, interlaced, seed):
    data, shown = draw_png(*cell, size, interlaced, seed)
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(data)
    assert_array_equal(read_file(path).pixels, shown if len(shown) > 1 else shown[0])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["P", "L", "RGB", "I;16"])
def test_a_damaged_png_is_refused_to_its_last_byte(mode, tmp_path, rng):
    """Tests that pixels of which pillow does not compare the checksum are no pixels."""
    path = tmp_path / "a.png"
    picture = Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).convert("RGB")
    if mode == "I;16":
        picture = Image.fromarray(rng.integers(0, 2**16, (24, 24), dtype=np.uint16))
    (picture if mode == "I;16" else picture.convert(mode)).save(path)
    whole, data = read_one(path), path.read_bytes()
    for place in range(data.index(b"IDAT") + 4, len(data) - 16):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(ValueError, match=r"cannot read .*a\.png"):
            read_one(path)
    path.write_bytes(data[:-12])  # the end alone is missing
    assert_array_equal(read_one(path), whole)


def test_one_transparent_colour_of_a_palette(tmp_path):
    picture = Image.new("P", (4, 3), 1)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png", transparency=1)
    assert read_file(tmp_path / "a.png").pixels[:, 0, 0].tolist() == [40, 50, 60, 0]
    assert read_file(tmp_path / "a.png", 3).pixels[:, 0, 0].tolist() == [0, 0, 0]


def test_pixels_beyond_the_palette_are_refused(tmp_path):
    samples = np.full((3, 4, 1), 5)
    path = tmp_path / "a.png"
    path.write_bytes(png(samples, "palette", 8, before=[(b"PLTE", bytes(range(9)))]))
    with pytest.raises(ValueError, match=r"a\.png: .*3 colours of its palette; got 5"):
        read_one(path)
    path.write_bytes(png(samples, "palette", 8))
    with pytest.raises(ValueError, match=r"a\.png: .*0 colours of its palette"):
        read_one(path)


def test_colours_under_transparency_are_not_shown(tmp_path):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 0] = 250
    rgba[1:3, 1:3] = [10, 20, 30, 255]
    for name in ("a.png", "a.webp"):
        Image.fromarray(rgba).save(tmp_path / name, lossless=True, exact=True)
        assert_array_equal(read_one(tmp_path / name), rgba.transpose(2, 0, 1))
        rgb = read_one(tmp_path / name, channels=3)
        assert_array_equal(rgb[:, 1:3, 1:3], np.broadcast_to([[[10]], [[20]], [[30]]], (3, 2, 2)))
        assert not rgb[:, 0].any()
        assert read_one(tmp_path / name, channels=1)[0, 0, 0] == 0


def test_alpha_on_black_is_as_pillow_composes_it(tmp_path, rng):
    rgba = rng.integers(0, 256, (40, 30, 4), dtype=np.uint8)
    picture = Image.fromarray(rgba)
    picture.save(tmp_path / "a.png")
    expected = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    rgb = read_one(tmp_path / "a.png", channels=3).astype(int)
    assert_allclose(rgb, np.moveaxis(np.asarray(expected)[..., :3], -1, 0), atol=1)


def test_no_warning_of_pillow_comes_through(tmp_path, rng):
    data, _ = draw_png("palette", 8, True, (9, 9))
    (tmp_path / "a.png").write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for channels in (None, 1, 3, 4):
            read_one(tmp_path / "a.png", channels=channels)
    assert not caught


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def save_turned(path, pixels, orientation, kind):
    exif = exif_of(orientation)
    picture = Image.fromarray(pixels)
    if kind == "PNG behind its pixels":
        after = [(b"eXIf", exif.tobytes()[6:])]
        samples = pixels if pixels.ndim == 3 else pixels[..., None]
        path.write_bytes(png(samples, "RGB" if pixels.ndim == 3 else "grey", 8, after=after))
    elif kind == "PNG with XMP":
        xmp = f'<x:xmpmeta><d tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
        text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
        samples = pixels if pixels.ndim == 3 else pixels[..., None]
        name = "RGB" if pixels.ndim == 3 else "grey"
        path.write_bytes(png(samples, name, 8, after=[(b"iTXt", text)]))
    elif kind == "MPO":
        more = {"save_all": True, "append_images": [picture], "quality": 95}
        picture.save(path, format="MPO", exif=exif, **more)
    else:
        picture.save(path, format=kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
@pytest.mark.parametrize("shape", [(24, 40), (24, 40, 3), (24, 24, 3)])
@pytest.mark.parametrize(
    "kind", ["JPEG", "MPO", "PNG", "PNG behind its pixels", "PNG with XMP", "WEBP"]
)
def test_pictures_stand_as_a_viewer_shows_them(kind, shape, orientation, tmp_path, rng):
    coarse = rng.integers(0, 256, (shape[0] // 8, shape[1] // 8, *shape[2:]), dtype=np.uint8)
    pixels = np.kron(
        coarse,
        np.ones((8, 8, *shape[2:])[: len(shape)], np.uint8)[..., :1]
        if len(shape) == 3
        else np.ones((8, 8), np.uint8),
    )
    suffix = {"JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp"}.get(kind, ".png")
    path = tmp_path / f"a{suffix}"
    save_turned(path, pixels, orientation, kind)
    with Image.open(path) as picture:
        picture.load()
        expected = np.asarray(ImageOps.exif_transpose(picture))
    image = read_one(path)
    assert_array_equal(image, np.moveaxis(expected, -1, 0) if expected.ndim == 3 else expected)
    read_file(path)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(mode, tmp_path, rng):
    pixels = np.kron(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.JPEG", quality=95)
    with Image.open(tmp_path / "a.JPEG") as picture:
        assert picture.mode == mode
        expected = np.asarray(picture.convert("L" if mode == "L" else "RGB"))
        grey = np.asarray(picture.convert("RGB").convert("L"))
    image = read_file(tmp_path / "a.JPEG")
    assert image.full_range == (0, 255)
    assert_array_equal(image.pixels, expected if mode == "L" else np.moveaxis(expected, -1, 0))
    assert_array_equal(read_one(tmp_path / "a.JPEG", channels=1)[0], grey)


def test_jpeg_of_twelve_bits_is_refused(tmp_path):
    path = save_picture(tmp_path / "a.jpg", np.zeros((8, 8), np.uint8))
    data = path.read_bytes()
    at = data.index(b"\xff\xc0") + 4
    path.write_bytes(data[:at] + b"\x0c" + data[at + 1 :])
    with pytest.raises(ValueError, match=r"a\.jpg: .*12-bit.*reader="):
        read_one(path)


def bmp(rows, width, bits, colours=b"", masks=b"", compression=0):
    """Write a BMP of rows of bytes, the lowest row first."""
    body = rows if isinstance(rows, bytes) else b"".join(rows)
    offset = 14 + 40 + len(masks) + len(colours)
    height = 4
    head = struct.pack(
        "<IiiHHIIiiII",
        40,
        width,
        height,
        1,
        bits,
        compression,
        len(body),
        0,
        0,
        len(colours) // 4,
        0,
    )
    file = struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset)
    return file + head + masks + colours + body


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_of_a_palette(bits, tmp_path, rng):
    colours = rng.integers(0, 256, (2**bits, 4), dtype=np.uint8)  # blue, green, red
    numbers = rng.integers(0, 2**bits, (4, 8))
    packed = np.packbits(
        np.unpackbits(numbers[..., None].astype(np.uint8), axis=-1)[..., 8 - bits :].reshape(4, -1),
        axis=1,
    )
    rows = [row.tobytes().ljust(-(-len(row) // 4) * 4, b"\0") for row in packed[::-1]]
    (tmp_path / "a.bmp").write_bytes(bmp(rows, 8, bits, colours.tobytes()))
    expected = np.moveaxis(colours[numbers][..., 2::-1], -1, 0)
    assert_array_equal(read_file(tmp_path / "a.bmp").pixels, expected)


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_bmp_of_colours(bits, tmp_path, rng):
    if bits == 16:
        five = rng.integers(0, 32, (4, 8, 3))
        words = (five * [1024, 32, 1]).sum(-1).astype("<u2")
        rows, expected = words[::-1].tobytes(), five * 255 // 31
    else:
        bgr = rng.integers(0, 256, (4, 8, bits // 8), dtype=np.uint8)
        rows, expected = bgr[::-1].tobytes(), bgr[..., 2::-1]
    (tmp_path / "a.bmp").write_bytes(bmp(rows, 8, bits))
    image = read_file(tmp_path / "a.bmp").pixels
    assert_array_equal(image, np.moveaxis(expected, -1, 0))


def test_bmp_with_alpha(tmp_path, rng):
    rgba = rng.integers(0, 256, (4, 8, 4), dtype=np.uint8)
    header = struct.pack("<IiiHHIIiiII", 124, 8, 4, 1, 32, 3, 128, 0, 0, 0, 0)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = (header + masks).ljust(124, b"\0")
    body = rgba[::-1][..., [2, 1, 0, 3]].tobytes()
    file = struct.pack("<2sIHHI", b"BM", 138 + 128, 0, 0, 138) + header + body
    (tmp_path / "a.bmp").write_bytes(file)
    assert_array_equal(read_file(tmp_path / "a.bmp").pixels, np.moveaxis(rgba, -1, 0))


def test_bmp_with_run_lengths(tmp_path):
    colours = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(256, 4)
    colours = (colours ^ np.array([0, 0, 9, 0], np.uint8)).tobytes()
    body = b"\x08\x07\0\0" * 3 + b"\x03\x01\0\x05\x02\x03\x04\x05\x06\0\0\0\0\x01"
    (tmp_path / "a.bmp").write_bytes(bmp(body, 8, 8, colours, compression=1))
    numbers = np.array([[1, 1, 1, 2, 3, 4, 5, 6], *[[7] * 8] * 3])
    assert_array_equal(
        read_file(tmp_path / "a.bmp").pixels, np.stack([numbers ^ 9, numbers, numbers])
    )


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("n", [3, 4])
def test_webp(n, lossless, tmp_path, rng):
    pixels = rng.integers(0, 256, (12, 17, n), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=lossless, exact=True)
    with Image.open(tmp_path / "a.webp") as picture:
        expected = np.asarray(picture)
    image = read_file(tmp_path / "a.webp")
    assert_array_equal(image.pixels, np.moveaxis(expected, -1, 0))
    assert image.full_range == (0, 255)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_animations_are_refused(kind, tmp_path, rng):
    first, *others = [
        Image.fromarray(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)) for _ in range(3)
    ]
    first.save(tmp_path / f"a.{kind}", save_all=True, append_images=others)
    with pytest.raises(ValueError, match=rf"a\.{kind}: .*animation of 3\. Pass a reader="):
        ImageFiles([tmp_path / f"a.{kind}"])


@pytest.mark.parametrize(
    ("name", "kind"), [("GIF", "GIF"), ("JPEG2000", "JPEG 2000"), ("AVIF", "AVIF"), ("PDF", "PDF")]
)
def test_other_formats_are_named(name, kind, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", format=name)
    with pytest.raises(ValueError, match=rf"a\.png: .*contents of .*{kind}.*reader="):
        ImageFiles([tmp_path / "a.png"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_contents_decide_not_names(kind, tmp_path):
    Image.new("L", (4, 6), 77).save(tmp_path / "a", format=kind, **{"lossless": True})
    expected = read_file((tmp_path / "a").rename(tmp_path / f"a.{kind.lower()}")).pixels
    for suffix in (".jpg", ".tif", ".png"):
        path = tmp_path / f"b{suffix}"
        path.write_bytes((tmp_path / f"a.{kind.lower()}").read_bytes())
        assert_array_equal(read_file(path).pixels, expected)


def test_a_picture_of_one_bit_is_black_and_white(tmp_path, rng):
    pixels = rng.integers(0, 2, (5, 11)).astype(bool)
    for name, mode in itertools.product(("a.png", "a.bmp", "a.tif"), ("1", "L")):
        Image.fromarray(pixels).convert(mode).save(tmp_path / name)
        image = read_file(tmp_path / name)
        assert_array_equal(image.pixels, pixels * np.uint8(255))
        assert image.full_range == (0, 255)


def test_colour_among_grey(tmp_path):
    paths = [
        save_picture(tmp_path / "a.png", np.zeros((4, 4), np.uint8)),
        save_picture(tmp_path / "b.png", np.zeros((4, 4, 3), np.uint8)),
    ]
    with pytest.raises(
        ValueError, match=r"channels.*a\.png has no axis of channels.*b\.png has 3\).*None"
    ):
        ImageFiles(paths)
    assert ImageFiles(paths, channels=1).shape == (2, 1, 4, 4)
    assert ImageFiles(paths, channels=3).shape == (2, 3, 4, 4)


def huge(tmp_path, kind, size):
    """Write a small file whose header states a huge picture."""
    path = tmp_path / f"a.{kind}"
    Image.new("L", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    if kind == "png":
        data[16:24] = struct.pack(">II", size, size)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "bmp":
        data[18:26] = struct.pack("<ii", size, size)
    else:
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", size, size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["png", "bmp", "jpg"])
def test_the_limit_of_pixels_is_ours_alone(kind, tmp_path, monkeypatch):
    path = huge(tmp_path, kind, 60_000)
    with pytest.raises(ValueError, match=rf"a\.{kind}: .*max_pixels=3600000000"):
        ImageFiles([path])
    # More than pillow's limits, of which it knows nothing.
    assert ImageFiles([path], max_pixels=2**32).shape == (1, 60_000, 60_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    small = save_picture(tmp_path / "b.png", np.full((30, 30), 7, np.uint8))
    assert_array_equal(read_one(small), np.full((30, 30), 7))
    with pytest.raises(ValueError, match=r"at most 100 pixels; got 900"):
        ImageFiles([small], max_pixels=100)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_webp_beyond_the_limit_of_pillow_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.webp"
    Image.new("RGB", (30, 30)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"a\.webp: .*pillow's.*reader="):
        ImageFiles([path])


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"iTXt"])
def test_text_that_unfolds_to_much_is_refused(name, tmp_path):
    bomb = zlib.compress(bytes(2**24))
    data = {
        b"zTXt": b"a\0\0" + bomb, b"iCCP": b"a\0\0" + bomb, b"iTXt": b"a\0\1\0\0\0" + bomb
    }[name]  # fmt: skip
    path = tmp_path / "a.png"
    path.write_bytes(png(np.zeros((3, 3, 1), int), "grey", 8, before=[(name, data)]))
    with pytest.raises(ValueError, match=r"a\.png: .*too large"):
        read_one(path)


def test_pixels_that_unfold_to_more_than_the_header_says(tmp_path):
    data = png(np.full((3, 3, 1), 9), "grey", 8)
    bomb = chunk(b"IDAT", zlib.compress((b"\0" + b"\x09" * 3) * 3 + bytes(2**26)))
    at, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(data[:at] + bomb + data[end:])
    assert_array_equal(read_one(tmp_path / "a.png"), np.full((3, 3), 9))


def test_a_header_is_read_without_the_pixels(tmp_path, monkeypatch, rng):
    pixels = rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)
    names = ["a.png", "a.jpg", "a.bmp", "a.webp"]
    for name in names:
        save_picture(tmp_path / name, pixels)

    def load(picture):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    for name in names:
        head = read_image(str(tmp_path / name), ReadRequest(header_only=True))
        assert head.pixels.shape == (3, 30, 20)


def test_pictures_are_read_by_threads(tmp_path, rng):
    data, shown = draw_png("RGBA", 16, False, (40, 40))
    (tmp_path / "a.png").write_bytes(data)
    wrong = []

    def read():
        for _ in range(5):
            if not np.array_equal(read_file(tmp_path / "a.png").pixels, shown):
                wrong.append(True)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp"])
def test_cut_files_are_refused(kind, tmp_path, rng):
    path = save_picture(tmp_path / f"a.{kind}", rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    for share in (0.9, 0.5, 0.02):
        cut(path, share)
        with pytest.raises(ValueError, match=rf"cannot read .*a\.{kind}: "):
            read_one(path)


@pytest.mark.parametrize("name", [b"tEXt", b"IDAT"])
@pytest.mark.parametrize("size", [(9, 7), (9, 9)])
def test_length_of_a_chunk_takes_no_memory(name, size, tmp_path):
    """Python takes as much as a file is asked for, and a chunk may state four gigabytes."""
    data, _ = draw_png("RGB", 8, False, size, after=[(b"tEXt", b"a\0b")])
    at = data.rindex(name) - 4
    path = tmp_path / "a.png"
    path.write_bytes(data[:at] + (2**31).to_bytes(4, "big") + data[at + 4 :])
    tracemalloc.start()
    try:
        with suppress(ValueError):
            ImageFiles([path])
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
