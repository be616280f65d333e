"""NIfTI."""

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import cross_val_score

from skimbal import CNN3DClassifier
from skimbal.datasets import load_image_folder
from skimbal.images import ImageFiles
from tests.images.data import read_one, save_nifti
from tests.plain import plain


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volumes_of_nifti_are_turned_to_ras(suffix, tmp_path, rng):
    pixels = rng.integers(0, 100, (3, 4, 5), dtype=np.int16)
    # Axes to the left, up and to the front, of 1, 2 and 3 mm: RAS has them as 0, 2, 1.
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 3, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    path = save_nifti(tmp_path / f"a{suffix}", pixels, affine)
    image = read_one(path)
    assert_array_equal(image, pixels[::-1].transpose(0, 2, 1))
    assert image.dtype == np.int16
    assert_array_equal(image, nibabel.as_closest_canonical(nibabel.load(path)).get_fdata())
    assert ImageFiles([path], spacing=(1, 1, 1)).shape == (1, 3, 15, 8)


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (3, 4, 5, 1, 2)])
def test_fourth_axis_of_nifti_is_channels(shape, tmp_path, rng):
    pixels = rng.normal(size=shape).astype(np.float32)
    path = save_nifti(tmp_path / "a.nii.gz", pixels)
    assert_array_equal(read_one(path), np.moveaxis(pixels.reshape(3, 4, 5, 2), 3, 0))
    assert read_one(path, channels=2, size=(2, 2, 2)).shape == (2, 2, 2, 2)
    one = save_nifti(tmp_path / "b.nii.gz", pixels.reshape(3, 4, 5, 2)[..., :1])
    assert read_one(one).shape == (1, 3, 4, 5)


def test_scaling_of_nifti_is_applied(tmp_path):
    raw = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(raw, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    image = nibabel.Nifti1Image(raw * 0.5 - 3, np.eye(4), image.header)
    nibabel.save(image, tmp_path / "a.nii")
    read = read_one(tmp_path / "a.nii")
    assert read.dtype == np.float32
    assert_allclose(read, raw * 0.5 - 3, atol=1e-3)


def test_flat_nifti(tmp_path, rng):
    pixels = rng.integers(0, 100, (6, 7), dtype=np.uint8)
    assert_array_equal(read_one(save_nifti(tmp_path / "a.nii", pixels)), pixels)


def test_units_of_nifti(tmp_path):
    affine = np.diag([2e3, 1e3, 1e3, 1])
    path = save_nifti(tmp_path / "a.nii", np.zeros((4, 4, 4), np.uint8), affine, unit="micron")
    assert ImageFiles([path], spacing=(1, 1, 1)).shape == (1, 8, 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["resample", "crop"])
def test_hippocampi_from_files_to_scores(resize, data_dir):
    """From a folder of real NIfTI files, of 87 shapes and two dtypes, to a cross-validation."""
    root = data_dir / "nifti_hippocampus"
    columns = {"path_column": "file", "label_column": "low_volume_15pct"}
    with pytest.raises(ValueError, match=r"size.*hippocampus_001\.nii\.gz has \(35, 51"):
        load_image_folder(root / "images", labels=root / "labels.csv", **columns)
    data = load_image_folder(
        root / "images",
        labels=root / "labels.csv",
        **columns,
        size=(32, 48, 32),
        resize=resize,
        cache="memory",
    )
    assert data.X.shape == (120, 32, 48, 32)
    assert np.bincount(data.y).tolist() == [100, 20]
    clf = plain(CNN3DClassifier, max_epochs=2, batch_size=20, sampler="balanced", random_state=0)
    clf.set_params(net={"module__width": 4, "iterator_train__num_workers": 2})
    scores = cross_val_score(clf, data.X, data.y, cv=2, scoring="balanced_accuracy")
    assert np.isfinite(scores).all()
    # The same, bit for bit, as from an array in memory.
    values = np.asarray(data.X)
    assert_array_equal(
        scores, cross_val_score(clf, values, data.y, cv=2, scoring="balanced_accuracy")
    )
