"""The numbers of training images, and other images that are compared with them."""

import numpy as np
import pytest

from skimbal.images import PixelStatistics
from skimbal.images.pixels import some_lines

N = 12


def pictures(n=N, shape=(1, 40, 40), seed=0):
    """Return smooth pictures in 0 to 255, as floats."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(0, 3, size) for size in shape[1:]], indexing="ij")
    waves = sum(np.sin(axis * rng.uniform(1, 3, (n, shape[0], *[1] * len(axes)))) for axis in axes)
    images = 120 + 60 * waves + rng.normal(0, 8, (n, *shape))
    return np.clip(images, 0, 255)


def sparse(n=N):
    """Return bright points on black."""
    X = np.zeros((n, 1, 40, 40), np.float32)
    X[:, :, 11:14, 17:19] = 250
    return X


def of(X):
    around = (0, *range(2, X.ndim))
    pixels = X.reshape(*X.shape[:2], -1)
    taken = pixels[:, :, :: 3 if pixels.shape[2] < 9999 else 1]
    spreads = np.subtract(pixels.max(2), pixels.min(2), dtype=np.float64)
    return PixelStatistics.of(X.min(axis=around), X.max(axis=around), taken, spreads)


def n_far(X_fit, X, quantum=None):
    return len(of(X_fit).far(X, str(X_fit.dtype), quantum))


BYTES = pictures().round().astype(np.uint8)
NEW = pictures(4, seed=1)
NEW_BYTES = NEW.round().astype(np.uint8)
UNIT = (pictures() / 255).astype(np.float32)
WIDE = (pictures() * 257).round().astype(np.uint16)
HU = np.maximum(pictures(shape=(1, 16, 20, 20)) * 8 - 1500, -1000)
STANDARD = (pictures() - pictures().mean((2, 3), keepdims=True)) / 60


@pytest.mark.parametrize(
    ("fit", "new"),
    [
        (BYTES, NEW / 255),
        (BYTES.astype(np.float32), NEW_BYTES / np.float32(255)),
        (pictures(), NEW / 255),
        (UNIT, NEW_BYTES),
        (UNIT, NEW),
        (UNIT, (NEW_BYTES // 60).astype(np.uint8)),
        (WIDE, NEW_BYTES),
        (WIDE, NEW_BYTES.astype(np.uint16)),
        (WIDE.astype(np.float32), NEW_BYTES.astype(np.float32)),
        (WIDE, NEW / 255),
        (BYTES, NEW_BYTES * np.uint16(257)),
        (BYTES, NEW * 16),
        (BYTES, NEW_BYTES + np.int16(1000)),
        (HU, HU[:4] - 9000),
        (BYTES, NEW_BYTES > 128),
        (UNIT, NEW / 255**2),
        (HU, (pictures(4, (1, 16, 20, 20)) / 255).clip(0.3, 0.8)),
        (pictures(shape=(1, 16, 20, 20)) / 255, HU[:4]),
        (HU, HU[:4] + 1024),
        (BYTES, (NEW - 120) / 60),
        (UNIT, (NEW - 120) / 60),
        (UNIT, NEW / 127.5 - 1),
        (STANDARD, NEW),
        (STANDARD, NEW / 255),
        (pictures() / 16, NEW / 255 / 16),
        ((BYTES // 16).astype(np.float64), NEW / 255),
        (sparse(), sparse(4) / 255),
        (sparse() / 255, sparse(4)),
        (sparse().astype(np.uint8), sparse(4) / 250),
    ],
)
def test_another_scale_is_far(fit, new):
    assert n_far(fit, new) == 4


@pytest.mark.parametrize(
    ("fit", "new"),
    [
        (BYTES, NEW_BYTES),
        (BYTES, NEW),
        (BYTES, NEW_BYTES.astype(np.float64)),
        (BYTES, NEW_BYTES // 40),
        (BYTES, NEW_BYTES // 100),
        (BYTES, NEW * 0.05),
        (BYTES, 127 + NEW * 0.1),
        (BYTES, 255 - NEW_BYTES),
        (BYTES, np.zeros((4, 1, 40, 40), np.uint8)),
        (BYTES, np.full((4, 1, 40, 40), 0.7)),
        (BYTES, np.full((4, 1, 40, 40), 255.0)),
        (BYTES, NEW_BYTES > 999),
        (BYTES, NEW * 2),
        (BYTES, NEW_BYTES % 100 + np.uint8(156)),
        (UNIT, NEW / 255),
        (UNIT, NEW / 255 * 3),
        (UNIT, NEW / 255 * 0.05),
        (UNIT, NEW_BYTES // 100 / 255),
        (UNIT, np.zeros((4, 1, 40, 40), np.uint8)),
        (UNIT, np.full((4, 1, 40, 40), 1, np.int64)),
        (WIDE, (NEW * 257).astype(np.float32)),
        (WIDE, (NEW * 257 // 300).astype(np.uint16) // 2),
        (WIDE, (NEW * 257 / 60).astype(np.uint16)),
        (HU, HU[4:8] * 1.5),
        (HU, HU[4:8] - 300),
        (STANDARD, (NEW - 110) / 70),
        (STANDARD, (NEW - 120) / 60 * 0.1),
        (sparse(), sparse(4)),
        (sparse(), sparse(4) / 10),
        (np.zeros_like(BYTES), NEW_BYTES),
        (BYTES > 128, NEW_BYTES > 100),
    ],
)
def test_the_same_scale_is_not_far(fit, new):
    assert n_far(fit, new) == 0


@pytest.mark.parametrize("value", [1e4, -1e4])
def test_few_bright_pixels_are_not_far(value):
    X = NEW.copy()
    X[:, 0, 20, ::9] = value
    assert n_far(BYTES, X) == 0


def test_one_image_among_others_is_found():
    X = NEW.copy()
    X[2] /= 255
    (far,) = of(BYTES).far(X, "uint8")
    assert (far.row, far.channel) == (2, 0)
    assert 0 <= far.least < far.greatest <= 1


def test_channels_have_scales_of_their_own():
    X = np.concatenate([pictures(), pictures(seed=2) * 20], axis=1)
    fit = of(X)
    assert not fit.far(X[:4], "float64")
    assert [far.channel for far in fit.far(X[:4] / [[[1]], [[5000]]], "float64")] == [1] * 4
    assert [far.channel for far in fit.far(X[:4] * [[[20]], [[1]]], "float64")] == [0] * 4


def test_images_of_many_scales_are_not_far():
    scales = 10.0 ** np.arange(N)[:, None, None, None]
    assert n_far(pictures() / 255 * scales, NEW) == 0
    assert n_far(pictures() / 255 * scales, NEW * 1e12) == 4


def test_an_object_that_the_lines_miss_is_seen():
    X = np.zeros((N, 1, 32, 64, 64), np.uint8)
    X[:, :, 16, 20, 30:40] = 255
    new = X[:4].copy()
    assert not some_lines(new).any()
    assert n_far(X, new) == 0
    assert n_far(X, new / 255) == 4
    assert n_far(X > 0, new) == 4


def test_a_dark_file_of_whole_numbers_is_not_far():
    dark = NEW / 255 * 1.2
    resampled = pictures() + 0.01
    assert n_far(resampled, dark) == 4
    assert n_far(resampled, dark, quantum=1.0) == 0


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3, 6, 7), (2, 3, 6, 7)),
        ((2, 1, 256, 256), (2, 1, 16, 256)),
        ((1, 1, 1, 100_000), (1, 1, 1, 100_000)),
        ((1, 1, 100_000, 1), (1, 1, 4167, 1)),
        ((1, 2, 64, 64, 64), (1, 2, 63, 64)),
    ],
)
def test_some_lines_are_about_4096_pixels(shape, expected):
    assert some_lines(np.zeros(shape, np.uint8)).shape == expected


def test_lines_of_a_volume_lie_at_different_places_of_its_slices():
    X = np.zeros((1, 1, 64, 64, 64), np.int32)
    X[...] = np.arange(64)[:, None]
    assert len(np.unique(some_lines(X))) > 32


@pytest.mark.parametrize("value", [0, 131, 255])
def test_an_image_of_one_value_has_no_contrast(value):
    images = np.full_like(NEW_BYTES, value)
    images[1:] = NEW_BYTES[1:]
    assert [(one.row, one.least) for one in of(BYTES).flat(images)] == [(0, value)]


def test_an_image_of_a_few_neighbouring_values_has_no_contrast():
    assert len(of(BYTES).flat(NEW_BYTES // 90 + 100)) == len(NEW)
    assert of(BYTES).flat(NEW_BYTES // 4) == []  # dark


def test_contrast_outside_the_lines_that_are_looked_at_counts():
    images = np.zeros((1, 1, 300, 300), np.uint8)
    images[:, :, 0, 0] = 255
    assert of(BYTES).flat(images) == []


def test_images_without_contrast_are_normal_where_the_training_images_had_them():
    some = BYTES.copy()
    some[: len(some) // 4] = 0
    assert of(some).flat(np.zeros_like(NEW_BYTES)) == []


def test_a_channel_without_contrast_is_told_by_its_number():
    pair = pictures(shape=(2, 40, 40))
    images = pictures(1, shape=(2, 40, 40))
    images[:, 1] = 7
    assert [one.channel for one in of(pair).flat(images)] == [1]
    pair[:, 1] = 7  # a channel that is always empty
    assert of(pair).flat(images) == []


def test_statistics_of_the_first_model_files_know_no_share_of_flat_images():
    values = of(BYTES).to_dict()
    del values["flat_share"]
    assert PixelStatistics.from_dict(values) == of(BYTES)
