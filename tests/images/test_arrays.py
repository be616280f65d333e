"""Arrays of numpy and zarr."""

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal

from skimbal.images import ImageFiles
from tests.images.data import read_one


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
    assert ImageFiles(path).n_spatial == 3
    assert ImageFiles(path, channels=3).n_spatial == 2
    assert ImageFiles(path, channels=1).shape == (1, 1, 3, 8, 9)
    assert ImageFiles(path, size=(4, 4)).shape == (1, 3, 4, 4)
    assert ImageFiles(path, size=(4, 4, 4)).shape == (1, 4, 4, 4)
    with pytest.raises(ValueError, match=r"channels.* 3, as .*a\.npy.* 2\."):
        ImageFiles(path, channels=2, size=(4, 4))
