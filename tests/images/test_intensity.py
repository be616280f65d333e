"""Rules that bring the numbers of images to one scale."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skimbal.exceptions import ParameterError
from skimbal.images import DecodedImage, ImageFiles
from tests.images.data import read_one, save_nifti, save_picture


def read_array(pixels, **options):
    """Read an array of memory by way of ImageFiles."""
    image = ImageFiles(["a"], reader=lambda path: pixels, **options)[0]
    assert image.dtype == np.float32
    return image


INTEGERS = st.sampled_from(["u1", "u2", "i2", "i4", "?"])
NUMBERS = st.floats(-1e6, 1e6, width=32)


@given(INTEGERS.flatmap(lambda dtype: arrays(dtype, (5, 6))))
def test_full_range_is_that_of_the_dtype(pixels):
    if pixels.dtype.kind == "i":
        with pytest.raises(ParameterError, match=r"intensity must be 'percentiles'.*int.*range"):
            read_array(pixels, intensity="full_range")
        return
    greatest = 1 if pixels.dtype == bool else np.iinfo(pixels.dtype).max
    expected = pixels.astype(float) / greatest
    assert_allclose(read_array(pixels, intensity="full_range"), expected, rtol=1e-6)


@given(
    st.one_of(
        INTEGERS.flatmap(lambda dtype: arrays(dtype, (5, 6))),
        arrays("f8", (5, 6), elements=NUMBERS),
    )
)
def test_percentiles(pixels):
    numbers = pixels.astype(float)
    low, high = np.percentile(numbers, (1, 99))
    if low == high:
        low, high = numbers.min(), numbers.max()
    image = read_array(pixels, intensity="percentiles")
    if low == high:
        assert_array_equal(image, 0)
    elif high - low > 1e-3:
        assert_allclose(image, np.clip((numbers - low) / (high - low), 0, 1), atol=1e-3)
    assert image.min() >= 0
    assert image.max() <= 1


@given(
    st.one_of(
        INTEGERS.flatmap(lambda dtype: arrays(dtype, (5, 6))),
        arrays("f8", (5, 6), elements=NUMBERS),
    ),
    st.integers(-2000, 2000),
    st.integers(1, 4000),
)
def test_window(pixels, low, width):
    expected = np.clip((pixels.astype(float) - low) / width, 0, 1)
    image = read_array(pixels, intensity=(low, low + width))
    assert_allclose(image, expected, atol=1e-5)


def test_few_bright_pixels_do_not_vanish():
    pixels = np.zeros((20, 20), np.uint8)
    pixels[3, 4] = 7
    assert_array_equal(read_array(pixels, intensity="percentiles"), pixels / 7)


def test_colours_share_percentiles_and_sequences_do_not(tmp_path, rng):
    pixels = rng.integers(0, 256, (3, 9, 8), dtype=np.uint8)
    pixels[1] //= 4
    low, high = np.percentile(pixels, (1, 99))
    image = read_array(pixels, intensity="percentiles", channels=3)
    assert_allclose(image, np.clip((pixels - low) / (high - low), 0, 1), atol=1e-6)
    sequences = rng.normal(size=(6, 7, 5, 2)).astype(np.float32)
    sequences[..., 1] *= 1000
    path = save_nifti(tmp_path / "a.nii", sequences)
    low, high = np.percentile(sequences, (1, 99), axis=(0, 1, 2))
    expected = np.clip((sequences - low) / (high - low), 0, 1)
    assert_allclose(read_one(path, intensity="percentiles"), np.moveaxis(expected, 3, 0), atol=1e-5)


def test_depths_are_brought_to_one_scale_or_refused(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    paths = [
        save_picture(tmp_path / "a.png", ramp),
        save_picture(tmp_path / "b.png", ramp.astype(np.uint16) * 257),
    ]
    with pytest.raises(
        ParameterError, match=r"intensity.*a\.png.*0 to 255.*b\.png.*0 to 65535.*'full_range'"
    ):
        ImageFiles(paths)
    X = ImageFiles(paths, intensity="full_range")
    assert (X.shape, X.dtype) == ((2, 16, 16), np.float32)
    assert_allclose(X[0], X[1], atol=1e-7)
    assert_allclose(X[0], ramp / 255, atol=1e-7)
    assert_array_equal(np.asarray(ImageFiles(paths, intensity="stored"))[0], ramp)
    assert_allclose(*ImageFiles(paths, intensity="percentiles"), atol=1e-6)
    with pytest.raises(ParameterError, match=r"intensity.*b\.png"):
        ImageFiles(paths, on_error="skip")


@pytest.mark.parametrize("dtypes", [("u1", "i2", "f4"), ("u1", "i2"), ("i2", "f4"), ("u1", "f8")])
def test_volumes_of_several_kinds_of_numbers_are_a_warning(dtypes, tmp_path, rng):
    paths = [
        save_nifti(tmp_path / f"{dtype}.nii", rng.integers(0, 99, (3, 4, 5)).astype(dtype))
        for dtype in (*dtypes, "f4", "f8")
    ]
    named = ".*".join(rf"{dtype}\.nii" for dtype in dtypes)
    with pytest.warns(UserWarning, match=rf"several kinds.*{named}.*percentiles"):
        ImageFiles(paths[: len(dtypes)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageFiles(paths[-2:])
        ImageFiles(paths, intensity="stored")
        ImageFiles(paths, intensity="percentiles")


def test_units_are_not_mixed():
    files = {
        "ct": DecodedImage(np.full((2, 3), -50.0), 2, unit="HU"),
        "dose": DecodedImage(np.full((2, 3), 50.0), 2, unit="Gy"),
        "raw": DecodedImage(np.full((2, 3), 50, np.uint16), 2, full_range=(0, 4095)),
    }
    for pair in (["ct", "dose"], ["ct", "raw"], ["raw", "ct"]):
        for intensity in (None, (-160, 240)):
            X = ImageFiles(pair, reader=files.get, intensity=intensity)
            with pytest.raises(ParameterError, match=f"intensity.*{pair[0]}.*{pair[1]}"):
                np.asarray(X)
            with pytest.raises(ParameterError, match=f"intensity.*{pair[0]}.*{pair[1]}"):
                ImageFiles(pair, reader=files.get, intensity=intensity, on_error="skip")
        stored = ImageFiles(pair, reader=files.get, intensity="stored", dtype="float32")
        assert np.isfinite(stored).all()
        assert np.isfinite(ImageFiles(pair, reader=files.get, intensity="percentiles")).all()
    assert_allclose(ImageFiles(["ct"], reader=files.get, intensity=(-160, 240))[0], 110 / 400)
    assert_allclose(ImageFiles(["raw"], reader=files.get, intensity="full_range")[0], 50 / 4095)
    with pytest.raises(ParameterError, match=r"intensity.*ct holds numbers in HU.*'full_range'"):
        ImageFiles(["ct"], reader=files.get, intensity="full_range")


def test_a_cache_does_not_hide_another_scale(tmp_path):
    for name, pixels in {"a": np.uint8([[1, 2]]), "b": np.uint16([[1, 2]])}.items():
        np.save(tmp_path / name, pixels)
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    options = {"reader": np.load, "cache": tmp_path / "cache"}
    for path in paths:
        assert_array_equal(ImageFiles([path], **options)[0], [[1, 2]])
    with pytest.raises(ParameterError, match=r"intensity.*a\.npy.*b\.npy"):
        np.asarray(ImageFiles(paths, **options))


def test_scale_comes_before_resampling_and_padding(tmp_path, rng):
    pixels = rng.normal(0, 500, (8, 9, 10)).astype(np.float32)
    path = save_nifti(tmp_path / "a.nii", pixels)
    window = np.clip((pixels + 160) / 400, 0, 1).astype(np.float32)
    save_nifti(tmp_path / "b.nii", window)
    for options in (
        {"size": (4, 5, 20)},
        {"size": (12, 5, 12), "resize": "crop"},
        {"spacing": 0.7, "size": 12, "resize": "crop"},
    ):
        image = read_one(path, intensity=(-160, 240), **options)
        assert_allclose(image, read_one(tmp_path / "b.nii", **options), atol=1e-6)


def test_colours_are_padded_with_black_and_channels_with_their_least_number(tmp_path, rng):
    white = np.full((4, 4, 3), 250, np.uint8)
    white[1, 1] = [10, 20, 30]
    Image.fromarray(white).save(tmp_path / "a.png")
    for intensity in (None, "full_range", "percentiles", (5, 300)):
        image = read_one(tmp_path / "a.png", size=8, resize="crop", intensity=intensity)
        assert_array_equal(image[:, 0], 0)
        assert image[:, 2:6, 2:6].max() > 0.8
    sequences = rng.normal(size=(4, 4, 4, 2)).astype(np.float32)
    sequences[..., 1] -= 100
    image = read_one(save_nifti(tmp_path / "a.nii", sequences), size=6, resize="crop")
    assert_array_equal(image[:, 0, 0, 0], sequences.min(axis=(0, 1, 2)))


@pytest.mark.parametrize(
    "intensity", ["window", 3, (1, 2, 3), (2, 1), (1, 1), (0, np.inf), ("a", "b"), True, {}]
)
def test_bad_rules(tmp_path, intensity):
    np.save(tmp_path / "a.npy", np.zeros((3, 3)))
    with pytest.raises(ParameterError, match="intensity must be None, 'stored'") as error:
        ImageFiles([tmp_path / "a.npy"], intensity=intensity)
    assert error.value.parameter == "intensity"


@pytest.mark.parametrize("intensity", ["full_range", "percentiles", (0, 10)])
def test_scaled_numbers_do_not_fit_into_integers(tmp_path, intensity):
    np.save(tmp_path / "a.npy", np.zeros((3, 3), np.uint8))
    for dtype in ("uint8", "int64", bool):
        with pytest.raises(ParameterError, match="dtype must be of floating point with intensity="):
            ImageFiles([tmp_path / "a.npy"], intensity=intensity, dtype=dtype)
    image = ImageFiles([tmp_path / "a.npy"], intensity=intensity, dtype="float16")[0]
    assert image.dtype == np.float16


def test_the_rule_travels_with_the_files(tmp_path, rng):
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    for path in paths:
        np.save(path, rng.integers(0, 256, (4, 5), dtype=np.uint8))
    X = ImageFiles(paths, intensity=[0, 200], cache="memory")
    again = pickle.loads(pickle.dumps(X[[2, 1]]))
    assert_array_equal(again, np.asarray(X)[[2, 1]])
    assert X.fingerprint()["intensity"] == (0.0, 200.0)
    cache = tmp_path / "cache"
    for intensity in (None, "percentiles", (0, 200), (0, 100)):
        expected = np.asarray(ImageFiles(paths, intensity=intensity))
        assert_array_equal(ImageFiles(paths, intensity=intensity, cache=cache), expected)
        assert_array_equal(ImageFiles(paths, intensity=intensity, cache=cache), expected)
