"""The size, spacing and channels that images are brought to."""

import numpy as np
import pytest
import scipy.ndimage
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skimbal.exceptions import ParameterError
from skimbal.images import ImageFiles
from tests.images.data import read_one


@pytest.mark.parametrize("size", [(7, 5), (9, 31), (40, 11), (23, 17)])
def test_pictures_are_resampled_as_pillow_does(size, tmp_path, rng):
    pixels = rng.uniform(0, 255, (23, 17)).astype(np.float32)
    np.save(tmp_path / "a.npy", pixels)
    expected = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR)
    assert_allclose(read_one(tmp_path / "a.npy", size=size), np.asarray(expected), atol=1e-3)
    colour = np.stack([pixels, 2 * pixels])
    np.save(tmp_path / "a.npy", colour)
    image = read_one(tmp_path / "a.npy", size=size)
    assert_allclose(image, np.stack([expected, 2 * np.asarray(expected)]), atol=1e-3)


@pytest.mark.parametrize("size", [(4, 5, 3), (20, 5, 12), (12, 10, 9)])
def test_volumes_are_resampled_one_axis_after_the_other(size, tmp_path, rng):
    pixels = rng.uniform(0, 255, (2, 12, 10, 9)).astype(np.float32)
    np.save(tmp_path / "a.npy", pixels)
    expected = pixels
    for axis, n in enumerate(size, start=1):
        rows = np.moveaxis(expected, axis, 0)
        table = Image.fromarray(np.ascontiguousarray(rows.reshape(len(rows), -1)))
        table = table.resize((table.width, n), Image.Resampling.BILINEAR)
        expected = np.moveaxis(np.asarray(table).reshape(n, *rows.shape[1:]), 0, axis)
    assert_allclose(read_one(tmp_path / "a.npy", size=size), expected, atol=1e-3)


def test_enlarged_volumes_are_those_of_scipy(tmp_path, rng):
    pixels = rng.uniform(0, 255, (6, 5, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", pixels)
    expected = scipy.ndimage.zoom(pixels, 2, order=1, mode="nearest", grid_mode=True)
    assert_allclose(read_one(tmp_path / "a.npy", size=(12, 10, 8)), expected, atol=1e-3)


def test_fine_stripes_do_not_become_coarse_ones(tmp_path):
    stripes = np.zeros((64, 64, 64), np.float32)
    stripes[:, :, ::2] = 100
    np.save(tmp_path / "a.npy", stripes)
    image = read_one(tmp_path / "a.npy", size=(9, 9, 9))
    assert_allclose(image, 50, atol=3)


def test_centre_is_cut_out_or_filled_up_around(tmp_path, rng):
    pixels = rng.integers(5, 200, (9, 4, 6), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    image = read_one(tmp_path / "a.npy", size=(4, 7, 6), resize="crop")
    assert image.dtype == np.uint8
    assert_array_equal(image[:, 1:5], pixels[2:6])
    assert_array_equal(image[:, [0, 5, 6]], np.full((4, 3, 6), pixels.min()))


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 10)])
@pytest.mark.parametrize("resize", ["resample", "crop"])
def test_one_number_is_the_size_of_all_axes(tmp_path, shape, resize):
    paths = [tmp_path / f"{i}.npy" for i in range(2)]
    rng = np.random.default_rng(0)
    for i, path in enumerate(paths):
        np.save(path, rng.random((shape[0] + i, *shape[1:])))
    X = ImageFiles(paths, size=7, resize=resize)
    same = ImageFiles(paths, size=(7,) * len(shape), resize=resize)
    assert X.shape == (2, *(7,) * len(shape))
    assert_array_equal(X, same)


def test_one_number_is_the_spacing_of_all_axes(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((4, 6, 8)))

    def read(path):
        return np.load(path), (2.0, 1.0, 0.5)

    X = ImageFiles([tmp_path / "a.npy"], spacing=1, reader=read)
    assert X.shape == (1, 8, 6, 4)
    assert_array_equal(X, ImageFiles([tmp_path / "a.npy"], spacing=(1, 1, 1), reader=read))


@pytest.mark.parametrize(
    ("mm", "options", "message"),
    [
        (1000.0, {"spacing": 0.5}, r"max_pixels must be at least .*a\.npy, .*1000"),
        (1.0, {"size": 100_000}, r"max_pixels must be at least .*a\.npy"),
        (0.001, {"spacing": 1}, r"spacing must be less than the extent .*a\.npy .*0\.001"),
        (0.001, {"spacing": 1, "size": 4, "resize": "crop"}, r"spacing must be less"),
    ],
)
def test_sizes_of_results_are_checked_before_memory_is_taken(mm, options, message, tmp_path):
    """Tests a file whose header states a wrong unit."""
    np.save(tmp_path / "a.npy", np.zeros((4, 6, 8)))
    np.save(tmp_path / "b.npy", np.zeros((4, 6, 8)))

    def read(path):
        return np.load(path), (mm if path.endswith("a.npy") else 1.0,) * 3

    with pytest.raises(ParameterError, match=message):
        ImageFiles([tmp_path / "a.npy"], reader=read, **options)
    if mm != 1:
        paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
        with pytest.warns(UserWarning, match="skipped 1 of 2"):
            X = ImageFiles(paths, reader=read, on_error="skip", **options)
        assert X.kept.tolist() == [1]


def test_one_slice_stays_one_at_any_spacing(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, 6, 8)))
    X = ImageFiles(
        [tmp_path / "a.npy"], spacing=(9, 1, 1), reader=lambda path: (np.load(path), (1, 1, 1))
    )
    assert X.shape == (1, 1, 6, 8)


@pytest.mark.parametrize(
    ("values", "dtype"), [([300.0], "u1"), ([-1], "u4"), ([1e300], "f4"), ([2], "bool")]
)
def test_numbers_beyond_the_dtype(values, dtype, tmp_path):
    np.save(tmp_path / "a.npy", np.array([values]))
    with pytest.raises(ValueError, match=rf"dtype.*a\.npy.*{np.dtype(dtype)}"):
        np.asarray(ImageFiles([tmp_path / "a.npy"], dtype=dtype))


@pytest.mark.parametrize("number", [1e39, -1e300, np.finfo("f8").max])
@pytest.mark.parametrize("options", [{"size": 4}, {"size": 9}, {"size": 4, "on_error": "skip"}])
def test_numbers_beyond_float32_are_not_resampled_to_infinity(number, options, tmp_path):
    pixels = np.ones((6, 6))
    pixels[2, 3] = number
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(ValueError, match=r"cannot read .*a\.npy: resampled .* float32.*e\+"):
        read_one(tmp_path / "a.npy", **options)
    assert_array_equal(read_one(tmp_path / "a.npy"), pixels)
    assert_array_equal(read_one(tmp_path / "a.npy", size=6, resize="crop"), pixels)
