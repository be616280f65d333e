"""The table of file formats."""

import dataclasses
import os
import re
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from PIL import Image

from skimbal.datasets import load_image_folder
from skimbal.exceptions import ParameterError
from skimbal.images import FORMATS, DecodedImage, Format, ImageFiles, find_images
from tests.images.data import save_series


def read_table(path, request):
    return DecodedImage(np.loadtxt(path, dtype=np.uint8), n_spatial=2)


def read_parts(folder, request):
    parts = [np.load(path) for path in sorted(Path(folder).glob("*.npy"))]
    return DecodedImage(np.concatenate(parts))


def read_stack(paths, request):
    return DecodedImage(np.stack([np.asarray(Image.open(path)) for path in paths]), 3)


def test_an_added_reader_is_used_everywhere(tmp_path, monkeypatch):
    for i in range(4):
        folder = tmp_path / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        np.savetxt(folder / f"{i}.TABLE.txt", np.full((3, 4), i), fmt="%d")
    with pytest.raises(ValueError, match=r"0\.TABLE\.txt.*\.npz or DICOM"):
        ImageFiles([tmp_path / "a" / "0.TABLE.txt"])
    with pytest.raises(ValueError, match=r"TABLE\.txt: a file that is no"):
        load_image_folder(tmp_path)
    monkeypatch.setitem(FORMATS, "table", Format(read_table, suffixes=(".txt",)))
    images = [os.path.join("ab"[i % 2], f"{i}.TABLE.txt") for i in range(4)]
    assert find_images(tmp_path) == (sorted(images), [])
    data = load_image_folder(tmp_path)
    assert np.asarray(data.X)[:, 0, 0].tolist() == [0, 2, 1, 3]
    assert (data.X.shape, data.X.dtype, data.X.n_spatial) == ((4, 3, 4), np.uint8, 2)
    with pytest.raises(ValueError, match=r"\.npz, \.txt or DICOM; got '0\.xyz'"):
        ImageFiles([(tmp_path / "a" / "0.TABLE.txt").rename(tmp_path / "0.xyz")])


def test_the_longest_suffix_and_the_last_row_decide(tmp_path, monkeypatch):
    np.savetxt(tmp_path / "a.ome.tif", np.full((3, 4), 7), fmt="%d")
    monkeypatch.setitem(FORMATS, "OME", Format(read_table, suffixes=(".ome.tif",)))
    assert_array_equal(ImageFiles([tmp_path / "a.ome.tif"]), np.full((1, 3, 4), 7))
    np.savetxt(tmp_path / "a.tif", np.full((3, 4), 8), fmt="%d")
    monkeypatch.setitem(FORMATS, "own", Format(read_table, suffixes=(".tif",)))
    assert_array_equal(ImageFiles([tmp_path / "a.tif"]), np.full((1, 3, 4), 8))


def test_an_added_test_of_contents(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("1 2\n3 4\n")

    def is_file(path):
        return Path(path).read_bytes()[:2] == b"1 "

    monkeypatch.setitem(FORMATS, "table", Format(read_table, is_file=is_file))
    assert_array_equal(ImageFiles([tmp_path / "a"]), [[[1, 2], [3, 4]]])


def test_an_added_format_of_folders(tmp_path, monkeypatch):
    for name in ("a/1", "a/2", "b/3"):
        (tmp_path / name / "inner").mkdir(parents=True)
        for i in range(2):
            np.save(tmp_path / name / f"{i}.npy", np.full((2, 3), i))

    def is_folder(path):
        return os.path.exists(os.path.join(path, "0.npy"))

    monkeypatch.setitem(FORMATS, "parts", Format(read_parts, is_folder=is_folder))
    images = [os.path.join("a", "1"), os.path.join("a", "2"), os.path.join("b", "3")]
    assert find_images(tmp_path, series_level=None) == (images, [])
    assert load_image_folder(tmp_path).X.shape == (3, 4, 3)


def test_an_added_series_of_pictures(tmp_path, monkeypatch):
    for name in ("a/1", "b/2"):
        (tmp_path / name).mkdir(parents=True)
        for i in (1, 0):
            Image.fromarray(np.full((5, 6), i, np.uint8)).save(tmp_path / name / f"{i}.png")
    assert len(find_images(tmp_path, series_level=2)[0]) == 4
    row = dataclasses.replace(FORMATS["PNG"], read_series=read_stack)
    monkeypatch.setitem(FORMATS, "PNG", row)
    assert len(find_images(tmp_path, series_level=3)[0]) == 4
    data = load_image_folder(tmp_path)
    assert data.X.shape == (2, 2, 5, 6)
    assert np.asarray(data.X)[0, :, 0, 0].tolist() == [0, 1]


def test_images_are_found_in_folders(tmp_path):
    for name in ("a.PNG", "b/c.nii.gz", "b/notes.txt", ".d/e.png", "b/.f.png", "DICOMDIR"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    save_series(tmp_path / "b" / "series", [0, 5])
    save_series(tmp_path / "flat", [0])
    zarr.save_array(tmp_path / "b" / "volume.zarr", np.zeros((3, 3)))
    flat = os.path.join("flat", "00")
    series = os.path.join("b", "series")
    others = [os.path.join("b", "notes.txt")]
    known = ["a.PNG", os.path.join("b", "c.nii.gz"), os.path.join("b", "volume.zarr")]
    assert find_images(tmp_path) == (sorted([*known, "flat", series]), others)
    assert find_images(tmp_path, series_level=2) == (sorted([*known, flat, series]), others)
    slices = [os.path.join(series, name) for name in ("00", "71")]
    assert find_images(tmp_path, series_level=None)[0] == sorted([*known, flat, *slices])
    assert others[0] in find_images(tmp_path, any_file=True)[0]


@pytest.mark.parametrize(
    ("name", "package", "module"),
    [
        ("a.png", "pillow", "PIL.Image"),
        ("a.nii", "nibabel", "nibabel"),
        ("a.dcm", "pydicom", "pydicom"),
        ("a.zarr", "zarr", "zarr"),
    ],
)
def test_missing_library(name, package, module, tmp_path, monkeypatch):
    if name == "a.zarr":
        zarr.save_array(tmp_path / name, np.zeros((3, 3)))
    else:
        (tmp_path / name).write_text("anything")
    monkeypatch.setitem(sys.modules, module, None)
    for on_error in ("raise", "skip"):
        with pytest.raises(ImportError, match=rf'{package}, which is missing.*install "{package}'):
            ImageFiles([tmp_path / name], on_error=on_error)


@pytest.mark.parametrize("texts", [".txt", [".txt"], (".TXT",), ("",), (3,), None])
def test_names_of_files_are_in_lower_case(texts):
    for name in ("suffixes", "index_files"):
        with pytest.raises(ParameterError, match=rf"{name} must be .*got {re.escape(repr(texts))}"):
            Format(len, **{name: texts})


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.hdr", r"pair of files\. Save it as NIfTI first, as nibabel\.save"),
        ("a.IMG", r"pair of files\. Save it as NIfTI first, as nibabel\.save"),
        ("a.mgz", r"Save it as NIfTI first, as nibabel\.save"),
        ("a.PAR", r"Save it as NIfTI first, as nibabel\.save"),
        ("a.mha", r"SimpleITK\.WriteImage"),
        ("a.nrrd", r"SimpleITK\.WriteImage"),
        ("a.nii.bz2", "Unpack it first"),
        ("a.dcm.gz", "Unpack it first"),
        ("a.xyz", "Pass a "),
    ],
)
def test_advice_on_other_formats(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b"12345" * 99)
    with pytest.raises(ValueError, match=rf"{name}: .*{advice}.*reader="):
        ImageFiles([tmp_path / name])


@pytest.mark.filterwarnings("ignore:.*states no orientation:UserWarning")
@pytest.mark.parametrize("cls", ["Nifti1Pair", "AnalyzeImage", "MGHImage"])
def test_advice_for_nibabel_works(tmp_path, cls):
    pixels = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    path = tmp_path / ("a.mgz" if cls == "MGHImage" else "a.img")
    nibabel.save(getattr(nibabel, cls)(pixels, np.eye(4)), path)
    nibabel.save(nibabel.load(path), tmp_path / "x.nii.gz")
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(ImageFiles([tmp_path / "x.nii.gz"])[0], canonical.get_fdata())
