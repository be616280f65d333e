"""The images of a folder without labels."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

from skimbal.exceptions import ParameterError
from skimbal.images import ImageFiles, list_images
from tests.images.data import draw_files, save_nifti
from tests.images.dicom_data import make, save, save_slices


def names(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = list_images(folder, **options)
    assert all(path.startswith(str(folder)) for path in paths)
    return [Path(path).relative_to(folder).as_posix() for path in paths]


def touch(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def test_images_at_any_depth_in_order(tmp_path):
    touch(tmp_path, "b.png", "a/z.JPG", "a/b/c/d.nii.gz", "10.tif", "9.tif")
    touch(tmp_path, ".hidden.png", "Thumbs.db", "notes.txt", "labels.CSV", "a/.git/x.png")
    assert names(tmp_path) == ["10.tif", "9.tif", "a/b/c/d.nii.gz", "a/z.JPG", "b.png"]


def test_the_list_can_be_read(tmp_path):
    draw_files(tmp_path, 3)
    assert len(ImageFiles(list_images(str(tmp_path)), size=4)) == 3


@pytest.mark.parametrize("files", [[], ["a.txt", "b.csv"], [".x.png"]])
def test_a_folder_without_images_is_refused(tmp_path, files):
    touch(tmp_path, *files)
    with pytest.raises(ValueError, match=f"{tmp_path.name} must hold images; got") as error:
        list_images(tmp_path)
    assert ("2 other files, such as a.txt" in str(error.value)) == (len(files) == 2)


def test_files_and_missing_folders_are_refused(tmp_path):
    touch(tmp_path, "a.png")
    with pytest.raises(NotADirectoryError, match=r"must be a folder; got the file .*a\.png"):
        list_images(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"must be a folder that exists; got .*nowhere"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(ParameterError, match="n_spatial must be 2, 3 or None; got 4"):
        list_images(tmp_path, n_spatial=4)


@pytest.mark.parametrize(
    ("image", "mask"), [("a.png", "a_mask.png"), ("p1/a.nii.gz", "p1/a-seg.nii.gz")]
)
def test_masks_beside_their_images_are_refused(tmp_path, image, mask):
    touch(tmp_path, image, mask)
    with pytest.raises(ValueError, match=f"got {mask}, which is called the mask of"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("file", "words"),
    [("b.mha", r"first is b\.mha\. Save it as NIfTI"), ("c.heic", "c.heic"), ("d", "first is d")],
)
def test_files_that_may_be_images_are_a_warning(tmp_path, file, words):
    touch(tmp_path, "a.png", file, "notes.md")
    with pytest.warns(UserWarning, match=rf"^1 file of .* cannot be read.*{words}") as caught:
        assert len(list_images(tmp_path)) == 1
    assert caught[0].filename == __file__


def test_arrays_of_zarr_are_images(tmp_path):
    for name in ("b", "a"):
        zarr.save(str(tmp_path / name), np.zeros((4, 4)))
    assert names(tmp_path) == ["a", "b"]
    assert list_images(tmp_path / "a") == [str(tmp_path / "a")]


def test_slices_are_one_volume_or_images(tmp_path):
    save_slices(tmp_path / "p1", range(3))
    save_slices(tmp_path / "p2", range(3))
    assert names(tmp_path, n_spatial=3) == ["p1", "p2"]
    assert len(names(tmp_path, n_spatial=2)) == 6
    assert list_images(tmp_path / "p1", n_spatial=3) == [str(tmp_path / "p1")]
    for folder in (tmp_path, tmp_path / "p1"):
        with pytest.raises(ValueError, match=r"3 files of DICOM.*Pass n_spatial=2 or n_spatial=3"):
            list_images(folder)


def test_a_single_file_of_dicom_needs_no_number_of_axes(tmp_path):
    save(make(np.zeros((4, 5), np.int16)), tmp_path / "a.dcm")
    assert names(tmp_path) == ["a.dcm"]
    assert ImageFiles(list_images(tmp_path)).shape == (1, 4, 5)


def test_files_of_several_frames_are_volumes(tmp_path):
    for name in ("a.dcm", "b.dcm"):
        save(make(np.zeros((3, 4, 5), np.int16)), tmp_path / name)
    assert names(tmp_path, n_spatial=3) == names(tmp_path) == ["a.dcm", "b.dcm"]


def test_other_images_beside_slices_are_refused(tmp_path):
    save_slices(tmp_path / "p1", range(3))
    save_nifti(tmp_path / "p1" / "x.nii", np.zeros((2, 3, 4), np.uint8), np.eye(4))
    with pytest.raises(ValueError, match=r"p1 must hold the slices .*p1/x\.nii, which is another"):
        list_images(tmp_path, n_spatial=3)
