"""PNG, JPEG, TIFF and BMP."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skimbal.images import ImageFiles
from tests.images.data import read_one, save_picture


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_pictures(suffix, shape, tmp_path, rng):
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    path = save_picture(tmp_path / f"a{suffix}", pixels)
    expected = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    assert_array_equal(read_one(path), expected)
    assert read_one(path, channels=1).shape == (1, 5, 7)
    colour = read_one(path, channels=3)
    assert_array_equal(colour, np.broadcast_to(expected, (3, 5, 7)))
    assert_array_equal(read_one(path, channels=4)[3], np.full((5, 7), 255))


@pytest.mark.parametrize(
    ("mode", "dtype", "shape"),
    [
        ("1", bool, (5, 7)),
        ("P", np.uint8, (3, 5, 7)),
        ("LA", np.uint8, (2, 5, 7)),
        ("RGBA", np.uint8, (4, 5, 7)),
        ("I;16", np.uint16, (5, 7)),
        ("I", np.int32, (5, 7)),
        ("F", np.float32, (5, 7)),
        ("CMYK", np.uint8, (3, 5, 7)),
    ],
)
def test_modes_of_pictures(mode, dtype, shape, tmp_path, rng):
    if mode == "I;16":
        picture = Image.fromarray(rng.integers(0, 2**16, (5, 7), dtype=np.uint16))
    else:
        picture = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).convert("RGB")
        via = {"LA": "RGBA", "I": "L", "F": "L"}.get(mode, "RGB")
        picture = picture.convert(via).convert(mode)
    path = tmp_path / ("a.tif" if mode in ("I", "F", "CMYK") else "a.png")
    picture.save(path)
    image = read_one(path)
    assert (image.dtype, image.shape) == (dtype, shape)
    expected = np.asarray(picture.convert("RGB") if mode in ("P", "CMYK") else picture)
    assert_array_equal(image, np.moveaxis(expected, -1, 0) if expected.ndim == 3 else expected)
    if mode in ("I;16", "I", "F"):  # which pillow's own conversion would cut to a byte
        assert_array_equal(read_one(path, channels=3), np.broadcast_to(expected, (3, 5, 7)))
        assert_array_equal(read_one(path, channels=1), expected[None])


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (4, 3), 1)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png", transparency=1)
    assert read_one(tmp_path / "a.png")[:, 0, 0].tolist() == [40, 50, 60, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_as_a_viewer_shows_them(orientation, tmp_path, rng):
    pixels = np.kron(rng.integers(0, 256, (2, 3), dtype=np.uint8), np.ones((8, 8), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.jpg", "b.JPEG"):
        save_picture(tmp_path / name, pixels, exif=exif, quality=100)
        image = read_one(tmp_path / name)
        steps = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
        mirrored = {2: np.fliplr, 4: np.fliplr, 5: np.flipud, 7: np.flipud}
        expected = mirrored.get(orientation, np.asarray)(np.rot90(pixels, steps))
        assert_allclose(image.astype(int), expected, atol=2)


def test_pages_of_a_tiff_are_a_volume(tmp_path, rng):
    volume = rng.integers(0, 2**16, (4, 5, 6), dtype=np.uint16)
    first, *others = [Image.fromarray(page) for page in volume]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    assert_array_equal(read_one(tmp_path / "a.tif"), volume)
    assert ImageFiles([tmp_path / "a.tif"]).n_spatial == 3
    first.save(tmp_path / "b.tif", save_all=True, append_images=[Image.new("L", (9, 9))])
    with pytest.raises(ValueError, match=r"b\.tif: .*one shape; got \(5, 6\)"):
        ImageFiles([tmp_path / "b.tif"])


def test_colour_among_grey(tmp_path):
    paths = [
        save_picture(tmp_path / "a.png", np.zeros((4, 4), np.uint8)),
        save_picture(tmp_path / "b.png", np.zeros((4, 4, 3), np.uint8)),
    ]
    with pytest.raises(
        ValueError, match=r"channels.*a\.png has \(4, 4\).*b\.png has \(3, 4, 4\).*None"
    ):
        ImageFiles(paths)
    assert ImageFiles(paths, channels=1).shape == (2, 1, 4, 4)
    assert ImageFiles(paths, channels=3).shape == (2, 3, 4, 4)


def test_decompression_bombs(tmp_path, monkeypatch):
    path = save_picture(tmp_path / "a.png", np.zeros((30, 30), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ValueError, match=r"a\.png: Image size \(900 pixels\) exceeds limit"):
        ImageFiles([path])


def test_other_formats_of_pillow_are_not_opened(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: cannot identify"):
        ImageFiles([tmp_path / "a.png"])
