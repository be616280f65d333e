"""The axes of images: which are spatial, and which one counts channels."""

import numpy as np
import pandas as pd
import pytest
import zarr
from numpy.testing import assert_array_equal

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.exceptions import ParameterError
from skimbal.images import DecodedImage, ImageFiles, guess_axes
from tests.images.data import save_nifti, save_picture
from tests.plain import plain


@pytest.mark.parametrize(
    ("shape", "n_spatial", "last", "surely_last"),
    [
        ((5, 784), 2, False, False),
        ((5, 28, 28), 2, False, False),
        ((5, 28, 3), 2, False, True),
        ((5, 1, 28, 28), 2, False, False),
        ((5, 3, 28, 28), 2, False, False),
        ((5, 4, 28, 28), 3, False, False),
        ((5, 28, 28, 28), 3, False, False),
        ((5, 28, 28, 1), 3, True, True),
        ((5, 28, 28, 3), 3, True, True),
        ((5, 28, 28, 4), 3, False, True),
        ((5, 28, 4, 3), 3, True, True),
        ((5, 4, 4, 3), 3, True, True),
        ((5, 4, 4, 4), 3, False, False),
        ((5, 28, 28, 2), 3, False, True),
        ((5, 28, 28, 5), 3, False, True),
        ((5, 5, 28, 28), 3, False, False),
        ((5, 3, 28, 3), 2, True, False),
        ((5, 1, 28, 28, 28), 3, False, False),
        ((5, 28, 28, 28, 3), 3, False, True),
    ],
)
def test_axes_are_guessed(shape, n_spatial, last, surely_last):
    assert guess_axes(shape) == (n_spatial, last, surely_last, False)


@pytest.mark.parametrize(
    ("shape", "n_spatial", "surely_last"),
    [
        ((5, 28, 28, 2), 2, True),
        ((5, 28, 28, 5), 2, True),
        ((5, 8, 8, 5), 2, True),
        ((5, 64, 64, 13), 2, True),
        ((5, 28, 28, 28), 2, False),
        ((5, 28, 28, 16), 2, True),
        ((5, 4, 4, 3), 2, True),
        ((5, 3, 3, 3), 2, False),
        ((5, 28, 28, 17), 2, False),
        ((5, 28, 30, 16), 2, False),
        ((5, 2, 28, 28), 2, False),
        ((5, 13, 28, 28), 2, False),
        ((5, 4, 28, 2), 2, False),
        ((5, 28, 28, 2), 3, True),
        ((5, 28, 28, 6), 3, False),
        ((5, 9, 9, 9, 8), 3, True),
        ((5, 28, 28, 28, 2), 3, True),
        ((5, 28, 28, 28, 5), 3, True),
        ((5, 2, 28, 28, 5), 3, False),
        ((5, 30, 96, 96, 10), 3, False),
    ],
)
def test_axes_are_guessed_where_their_number_is_known(shape, n_spatial, surely_last):
    axes = guess_axes(shape, n_spatial)
    assert (axes.n_spatial, axes.surely_channels_last) == (n_spatial, surely_last)


@pytest.mark.parametrize(
    ("shape", "n_spatial", "maybe"),
    [
        ((5, 28, 28, 6), None, True),
        ((5, 28, 28, 14), 3, True),
        ((5, 28, 28, 15), 3, False),
        ((5, 28, 28, 28), 3, False),
        ((5, 64, 64, 20), 3, False),
        ((5, 8, 8, 5), 3, True),
        ((5, 28, 28, 5), 3, False),  # surely
        ((5, 28, 28, 17), 2, True),
        ((5, 28, 28, 200), 2, True),
        ((5, 28, 30, 16), 2, True),
        ((5, 3, 28, 16), 2, False),
        ((5, 9, 10, 11, 5), 3, True),
        ((5, 2, 10, 11, 5), 3, False),
    ],
)
def test_axes_that_may_count_channels(shape, n_spatial, maybe):
    assert guess_axes(shape, n_spatial).maybe_channels_last == maybe


def write(folder, kind, pixels):
    """Write an array, and return its path and the reader that it needs."""
    path = folder / f"a.{kind}"
    if kind == "zarr":
        zarr.save_array(path, pixels)
    elif kind == "npz":
        np.savez(path, pixels)
    else:
        np.save(folder / "a.npy", pixels)
    return (path, None) if kind != "reader" else (folder / "a.npy", np.load)


@pytest.mark.parametrize("kind", ["npy", "npz", "zarr", "reader"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 10])
@pytest.mark.parametrize("options", [{}, {"size": 16}, {"size": (16, 16)}])
def test_channels_last_are_refused_or_declared(tmp_path, rng, kind, channels, options):
    pixels = rng.integers(0, 256, (20, 24, channels), dtype=np.uint8)
    path, reader = write(tmp_path, kind, pixels)
    asked = isinstance(options.get("size"), tuple)
    if channels < 6 or asked:
        with pytest.raises(ParameterError, match=r"channel_axis must be -1.*\(20, 24, .*None"):
            ImageFiles([path], reader=reader, **options)
    else:
        with pytest.warns(UserWarning, match=r"the last axis of the array is short.*channel_axis="):
            X = ImageFiles([path], reader=reader, **options)
        assert X.n_spatial == 3
    for axis in (-1, 2):
        X = ImageFiles([path], reader=reader, channel_axis=axis, **options)
        assert (X.n_spatial, X.knows_axes) == (2, True)
        np.save(tmp_path / "first.npy", np.moveaxis(pixels, -1, 0))
        first = ImageFiles([tmp_path / "first.npy"], channel_axis=0, **options)
        assert_array_equal(X, first)


def test_channels_of_volumes(tmp_path):
    for channels in (2, 5):
        np.save(tmp_path / "a.npy", np.zeros((16, 18, 20, channels), np.uint8))
        for size in (None, 8, (8, 8, 8)):
            with pytest.raises(ParameterError, match="channel_axis must be -1"):
                ImageFiles([tmp_path / "a.npy"], size=size)
            X = ImageFiles([tmp_path / "a.npy"], size=size, channel_axis=-1)
            assert (X.shape[1], X.n_spatial) == (channels, 3)


def test_a_first_axis_that_counts_channels_is_not_resized(tmp_path, rng):
    for n in (1, 3):
        pixels = rng.integers(0, 256, (n, 20, 24), dtype=np.uint8)
        np.save(tmp_path / "a.npy", pixels)
        with pytest.raises(ParameterError, match="channel_axis must be 0 if the first axis"):
            ImageFiles([tmp_path / "a.npy"], size=16)
        assert ImageFiles([tmp_path / "a.npy"], size=16, channel_axis=0).shape == (1, n, 16, 16)
        assert ImageFiles([tmp_path / "a.npy"], size=16, channels=n).shape == (1, n, 16, 16)
        assert ImageFiles([tmp_path / "a.npy"], size=(8, 8, 8)).shape == (1, 8, 8, 8)
        X = ImageFiles([tmp_path / "a.npy"] * 2)  # as guess_axes has it
        assert (X.n_spatial, X.knows_axes) == (2, False)
    for n in (2, 4, 5):
        np.save(tmp_path / "a.npy", np.zeros((n, 20, 24), np.uint8))
        with pytest.warns(UserWarning, match="the first axis of the array is short"):
            X = ImageFiles([tmp_path / "a.npy"], size=16)
        assert X.shape == (1, 16, 16, 16)
        assert ImageFiles([tmp_path / "a.npy"], channels=n, size=16).shape == (1, n, 16, 16)


def test_few_slices_are_a_volume_where_that_is_stated(tmp_path, rng):
    pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    X = ImageFiles([tmp_path / "a.npy"], size=pixels.shape, resize="crop")
    assert_array_equal(X[0], pixels)
    assert (X.n_spatial, X.knows_axes) == (3, True)
    X = ImageFiles(["a"], reader=lambda path: DecodedImage(pixels, n_spatial=3))
    assert_array_equal(X[0], pixels)
    assert (X.n_spatial, X.knows_axes) == (3, True)


@pytest.mark.parametrize(
    ("axis", "shape"), [(3, (6, 7, 8)), (-4, (6, 7, 8)), (0, (6, 7)), (-1, (6, 7))]
)
def test_an_axis_that_is_not_there(tmp_path, axis, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(ParameterError, match=r"channel_axis must be an axis.*a\.npy of shape \(6"):
        ImageFiles([tmp_path / "a.npy"], channel_axis=axis)


def test_a_channel_axis_is_for_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((6, 7, 3)))
    for value in (1.0, "last", True, [1]):
        with pytest.raises(ParameterError, match="channel_axis must be an integer or None"):
            ImageFiles([tmp_path / "a.npy"], channel_axis=value)
    path = save_picture(tmp_path / "a.png", np.zeros((6, 7, 3), np.uint8))
    with pytest.raises(ParameterError, match=r"channel_axis must be None for .*a\.png"):
        ImageFiles([path], channel_axis=-1)


def test_classifiers_refuse_files_of_other_axes(tmp_path, rng):
    y = [0, 1] * 4
    volumes = [
        save_nifti(tmp_path / f"{i}.nii", rng.random((9, 10, 11), np.float32)) for i in range(8)
    ]
    pictures = [
        save_picture(tmp_path / f"{i}.png", rng.integers(0, 256, (9, 10), dtype=np.uint8))
        for i in range(8)
    ]
    options = {"max_epochs": 1, "module": "small"}
    with pytest.raises(ValueError, match=r"CNN2DClassifier takes images of 2.*0\.nii.*CNN3D"):
        plain(CNN2DClassifier, **options).fit(volumes, y)
    with pytest.raises(ValueError, match=r"CNN3DClassifier takes images of 3.*0\.png.*CNN2D"):
        plain(CNN3DClassifier, **options).fit(pictures, y)
    clf = plain(CNN2DClassifier, **options).fit(pictures, y)
    with pytest.raises(ValueError, match=r"CNN2DClassifier takes images of 2.*0\.nii"):
        clf.predict(volumes)
    # Slices as channels, by a function that the user states.
    X = ImageFiles(volumes, transform=lambda volume: volume[:3])
    assert plain(CNN2DClassifier, **options).fit(X, y).input_shape_ == (3, 10, 11)
    # An array that is resized along three axes is a volume.
    for shape in ((20, 24, 17), (6, 20, 24), (20, 20, 20)):
        np.save(tmp_path / "a.npy", np.zeros(shape))
        X = ImageFiles([tmp_path / "a.npy"] * 8, size=16)
        with pytest.raises(ValueError, match=r"CNN2DClassifier takes images of 2.*channel_axis="):
            plain(CNN2DClassifier, **options).fit(X, y)
    # A size of two axes states as much.
    np.save(tmp_path / "a.npy", np.zeros((3, 9, 10)))
    X = ImageFiles([tmp_path / "a.npy"] * 8, size=(9, 10))
    with pytest.raises(ValueError, match=r"CNN3DClassifier takes images of 3"):
        plain(CNN3DClassifier, **options).fit(X, y)


def test_volumes_of_few_slices_are_volumes(tmp_path, rng):
    paths = [
        save_nifti(tmp_path / f"{i}.nii", rng.random((9, 10, 3), np.float32)) for i in range(8)
    ]
    clf = plain(CNN3DClassifier, max_epochs=1, module="small").fit(paths, [0, 1] * 4)
    assert clf.input_shape_ == (1, 9, 10, 3)


@pytest.mark.parametrize("last", [2, 5])
def test_arrays_with_channels_last_are_refused(rng, last):
    for shape in ((20, 24, last), (8, 9, last)):
        X = rng.integers(0, 256, (8, *shape), dtype=np.uint8)
        with pytest.raises(
            ValueError, match=r"X must have its channels first.*np\.moveaxis\(X, -1, 1\)"
        ):
            plain(CNN2DClassifier, max_epochs=1).fit(X, [0, 1] * 4)


def test_a_column_of_paths_may_be_a_table(tmp_path, rng):
    paths = [
        str(save_picture(tmp_path / f"{i}.png", rng.integers(0, 256, (9, 10), dtype=np.uint8)))
        for i in range(8)
    ]
    table = pd.DataFrame({"file": paths, "label": [0, 1] * 4})
    clf = plain(CNN2DClassifier, max_epochs=1, module="small", random_state=0)
    expected = clf.fit(table["file"], table["label"]).predict_proba(paths)
    for column in (table[["file"]], np.array(paths)[:, None], table[["file"]].to_numpy()):
        assert_array_equal(clf.fit(column, table["label"]).predict_proba(column), expected)
    with pytest.raises(ValueError, match=r"paths must be an array of shape.*\(8, 1\).*one column"):
        ImageFiles(table[["file"]])
