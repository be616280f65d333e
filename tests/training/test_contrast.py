"""Pixels of another magnitude, which make the other pixels equal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.images import ImageFiles
from skimbal.networks import Pretrained
from tests.networks.pretrained_data import tiny_network
from tests.plain import plain

N = 40
Y = np.arange(N) % 2


def pixels(rng, dtype="f4", shape=(8, 8)):
    """Draw images of normal pixels, which differ in their classes."""
    images = rng.integers(0, 200, (N, *shape))
    images[Y == 1, ..., 2:5, 2:5] += 50
    return images.astype(dtype)


def fit(X, cls=CNN2DClassifier, **params):
    return plain(cls, max_epochs=1, module="small", **params).fit(X, Y)


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("value", [1e8, 4e9, 1e18, -1e8, 1e30, -1e30, 3e38])
def test_one_pixel_that_makes_all_others_equal_is_named(rng, dtype, value):
    X = pixels(rng, dtype)
    kind = np.dtype(dtype)
    if kind.kind in "iu" and not np.iinfo(kind).min <= value <= np.iinfo(kind).max:
        value = np.iinfo(kind).max
    X[17, 3, 4] = value
    shown = f"{float(X[17, 3, 4]):g}".replace("+", r"\+")
    with pytest.raises(ValueError, match=rf"got {shown} in channel 0 of image 17, which .*equal"):
        fit(X)


@pytest.mark.parametrize("dtype", ["i8", "u8"])
@pytest.mark.parametrize("of_network", ["float32", "float64"])
def test_integers_that_no_float_tells_apart_are_named(rng, dtype, of_network):
    X = pixels(rng, dtype) + np.array(2**62, dtype)  # numpy's float64 makes them equal, too
    is_widest = of_network == "float64"
    remedy = r"from X\." if is_widest else r"from X, or pass dtype='float64'\."
    with pytest.raises(ValueError, match=rf"lie between 4611686018427387\d+ and .* {remedy}"):
        fit(X, dtype=of_network)


def test_numbers_beyond_the_squares_of_the_dtype_are_named(rng):
    X = pixels(rng, "f8")
    X[5, 1, 1] = -1e300
    with pytest.raises(ValueError, match=r"within the range .*-1e\+300 in channel 0 of image 5\."):
        fit(X)


def test_kinds_of_foreign_pixels(rng):
    of_channel = pixels(rng, shape=(3, 8, 8))
    of_channel[7, 1, 0, 0] = 1e20
    with pytest.raises(ValueError, match=r"1e\+20 in channel 1 of image 7, "):
        fit(of_channel)
    whole = pixels(rng)
    whole[7] *= 1e20
    with pytest.raises(ValueError, match=r"e\+22 in channel 0 of image 7, "):
        fit(whole)
    constant = pixels(rng)
    constant[7] = 1e20
    with pytest.raises(ValueError, match=r"1e\+20 in channel 0 of image 7, "):
        fit(constant)
    filled = pixels(rng)
    filled[:, :3] = 9.96921e36  # the fill value of NetCDF, in every image
    with pytest.raises(ValueError, match=r"9\.96921e\+36 in .*lie between \d+ and \d+\. "):
        fit(filled)
    volume = pixels(rng, shape=(4, 8, 8))
    volume[3, 1, 1, 1] = 1e20
    with pytest.raises(ValueError, match=r"1e\+20 in channel 0 of image 3, "):
        fit(volume, CNN3DClassifier)
    rows = pixels(rng).reshape(N, -1)
    rows[3, 3] = 1e20
    with pytest.raises(ValueError, match=r"1e\+20 in channel 0 of image 3, "):
        fit(rows)


def test_files_are_named_and_percentiles_clip_them(rng, tmp_path):
    X = pixels(rng)
    X[9, 0, 0] = 1e30
    paths = [tmp_path / f"{i}.npy" for i in range(N)]
    for path, image in zip(paths, X, strict=True):
        np.save(path, image)
    words = r"1e\+30 in channel 0 of image 9, .*9\.npy, .*intensity='percentiles'"
    with pytest.raises(ValueError, match=words):
        fit(paths)
    fit(ImageFiles(paths, intensity="percentiles"))


def test_rows_without_weight_do_not_count(rng):
    X, weight = pixels(rng), np.ones(N)
    X[9, 0, 0] = 1e30
    weight[9] = 0
    plain(CNN2DClassifier, max_epochs=1, module="small").fit(X, Y, sample_weight=weight)
    X[11, 0, 0] = 1e20
    with pytest.raises(ValueError, match=r"1e\+20 in channel 0 of image 11, "):
        plain(CNN2DClassifier, max_epochs=1).fit(X, Y, sample_weight=weight)


def test_classes_without_weight_do_not_count(rng):
    X, y = pixels(rng), np.arange(N) % 4
    X[y >= 2] = 5 + rng.random((N // 2, 8, 8), dtype=np.float32) * 1e-6
    X[y == 3, 0, 0] = 1e9
    clf = plain(CNN2DClassifier, max_epochs=1, module="small")
    with pytest.raises(ValueError, match=r"1e\+09 in channel 0 of image 3, "):
        clf.fit(X, y)
    clf.set_params(class_weight={0: 1, 1: 1, 2: 0, 3: 0}).fit(X, y)


def test_images_that_are_constant_but_for_rounding_are_taken(rng):
    noise = rng.integers(0, 4, (N, 8, 8)) * np.finfo("f4").eps
    fit((rng.random((N, 1, 1)) * (1 + noise)).astype("f4"))


def test_an_offset_beyond_the_dtype_of_the_network(rng):
    X = pixels(rng, "f8") / 1000 + 1e8
    fit(X)  # in float64
    with pytest.raises(ValueError, match=r"differ in torch\.float32.*offset.*dtype='float64'"):
        fit(X, dtype="float32")
    with pytest.raises(ValueError, match=r"differ in torch\.float32"):
        fit(pixels(rng, "i8") + 2**40)


def test_networks_that_scale_by_the_range(rng):
    X = pixels(rng)
    X[17, 3, 4] = 1e30
    with pytest.raises(ValueError, match=r"1e\+30 in channel 0 of image 17, "):
        plain(CNN2DClassifier, max_epochs=1, module=Pretrained(tiny_network)).fit(X, Y)


LEGITIMATE = {
    "sparse bytes": lambda rng: ((rng.random((N, 16, 16)) < 0.003) * 255).astype("u1"),
    "sparse uint16": lambda rng: ((rng.random((N, 16, 16)) < 0.003) * 65535).astype("u2"),
    "dim noise and sparse uint16": lambda rng: np.where(
        rng.random((N, 16, 16)) < 0.001, 65535, rng.integers(0, 3, (N, 16, 16))
    ).astype("u2"),
    "sparse float": lambda rng: ((rng.random((N, 16, 16)) < 0.003) * 1e30).astype("f4"),
    "counts": lambda rng: rng.poisson(0.01, (N, 16, 16)).astype("f4") * 1e5,
    "blobs above dust": lambda rng: (
        np.exp(-((np.indices((16, 16)) - 8) ** 2).sum(0) / 4) * rng.random((N, 1, 1))
        + rng.random((N, 16, 16)) * 1e-15
    ),
    "tiny units": lambda rng: pixels(rng, "f8") * 1e-30,
    "constant": lambda rng: np.full((N, 8, 8), 7.0),
    "constant but for one image": lambda rng: np.eye(N)[0][:, None, None] * np.eye(8) * 1e30,
    "a bright pixel": lambda rng: np.where(
        np.arange(N * 64).reshape(N, 8, 8) == 99, np.float32(1e5), pixels(rng)
    ),
    "masks": lambda rng: (rng.random((N, 8, 8)) < 0.5).astype("f8"),
    "half": lambda rng: pixels(rng, "f2"),
}


@pytest.mark.parametrize("kind", LEGITIMATE)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_images_that_only_look_unusual_are_taken(rng, kind):
    fit(LEGITIMATE[kind](rng))


@given(
    st.integers(0, N - 1),
    st.floats(9, 37),
    st.sampled_from([1, -1]),
    st.sampled_from(["f4", "f8"]),
    st.integers(1, 3),
)
def test_a_fit_names_any_such_pixel(image, exponent, sign, dtype, n_channels):
    rng = np.random.default_rng(0)
    X = pixels(rng, dtype, (n_channels, 6, 6))
    X[image, -1, 2, 3] = sign * 10**exponent
    words = rf"in channel {n_channels - 1} of image {image}, which makes"
    with pytest.raises(ValueError, match=words):
        fit(X)
