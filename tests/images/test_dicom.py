"""DICOM files and series."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_array_equal
from pydicom.data import get_testdata_file

from skimbal.images import ImageFiles
from tests.images.data import dicom, read_one, save_series


def test_dicom_is_rescaled():
    dataset = dicom()
    image = read_one(get_testdata_file("CT_small.dcm", download=False))
    assert image.dtype == np.float32
    assert_array_equal(image, dataset.pixel_array * dataset.RescaleSlope + dataset.RescaleIntercept)
    image = read_one(get_testdata_file("MR_small.dcm", download=False))
    assert_array_equal(image, dicom("MR_small.dcm").pixel_array)
    assert image.dtype == np.int16


@pytest.mark.parametrize(("signed", "bits", "total"), [(0, 12, 4095), (1, 16, -1)])
def test_inverted_dicom(signed, bits, total, tmp_path):
    dataset = dicom("MR_small.dcm")
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = signed, bits, bits - 1
    dataset.save_as(tmp_path / "a.dcm")
    assert_array_equal(read_one(tmp_path / "a.dcm"), total - dicom("MR_small.dcm").pixel_array)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("rtdose.dcm", (15, 10, 10)), ("SC_rgb_rle_2frame.dcm", (3, 2, 100, 100))],
)
def test_dicom_of_several_frames(name, shape):
    image = read_one(get_testdata_file(name, download=False))
    expected = dicom(name).pixel_array
    if name == "rtdose.dcm":
        expected = (expected * 1e-6).astype(np.float32)
        assert ImageFiles([get_testdata_file(name)], spacing=(2.5, 10, 10)).shape[1:] == (
            30,
            10,
            10,
        )
    assert image.shape == shape
    assert_array_equal(image, np.moveaxis(expected, -1, 0) if expected.ndim == 4 else expected)


def test_dicom_in_colour():
    for name in ("SC_rgb_rle.dcm", "examples_palette.dcm"):
        image = read_one(get_testdata_file(name, download=False))
        assert image.shape[0] == 3
        dataset = dicom(name)
        expected = dataset.pixel_array
        if name == "examples_palette.dcm":
            expected = pydicom.pixels.apply_color_lut(expected, dataset)
        assert_array_equal(image, np.moveaxis(expected, -1, 0))


def test_frames_of_an_enhanced_dicom_have_facts_of_their_own(tmp_path):
    dataset = dicom("rtdose.dcm")
    frames = []
    for i in range(15):
        place, value, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = [0, 0, -2.5 * i]  # from top to bottom
        value.RescaleSlope, value.RescaleIntercept = i + 1, 10
        frame.PlanePositionSequence = [place]
        frame.PixelValueTransformationSequence = [value]
        frames.append(frame)
    plane, measures, shared = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [2, 3]
    shared.PlaneOrientationSequence = [plane]
    shared.PixelMeasuresSequence = [measures]
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.save_as(tmp_path / "a.dcm")
    slopes = np.arange(1, 16)[:, None, None]
    expected = (dataset.pixel_array * slopes + 10.0)[::-1].astype(np.float32)
    assert_array_equal(read_one(tmp_path / "a.dcm"), expected)
    assert ImageFiles([tmp_path / "a.dcm"], spacing=(5, 1, 1)).shape == (1, 8, 20, 30)
    frames[14].PlanePositionSequence[0].ImagePositionPatient = [0, 0, -32.5]
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(ValueError, match=r"frame .*two slices are at one position"):
        ImageFiles([tmp_path / "a.dcm"])


def test_real_series_of_dicom(tmp_path):
    folder = Path(get_testdata_file("DICOMDIR", download=False)).parent / "77654033" / "CT2"
    for name in ("17196", "17136", "17166"):
        shutil.copy(folder / name, tmp_path / name)
    image = read_one(tmp_path)
    for i, name in enumerate(["17136", "17166", "17196"]):
        assert_array_equal(image[i], pydicom.dcmread(folder / name).pixel_array - 1024)
    assert ImageFiles([tmp_path], spacing=(0.625, 0.488281, 0.488281)).shape == (1, 6, 16, 16)
    # The folder as it is lacks 161 slices.
    with pytest.raises(
        ValueError, match=r"CT2: .*202.* mm between .*17106 and .*17136, where a slice is missing"
    ):
        ImageFiles([folder])


def test_series_are_ordered_by_position(tmp_path):
    folder = save_series(tmp_path / "series", [0, -5, 10, 5])
    (folder / "notes.txt").write_text("no slice")
    X = ImageFiles([folder])
    assert (X.shape, X.n_spatial) == ((1, 4, 128, 128), 3)
    assert (X[0][:, 0, 0] + 1024).tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize(
    ("places", "changed", "message"),
    [
        ([0, 5, 15, 20], {}, "5 mm apart; got 10 mm between .*a slice is missing"),
        ([0, 5, 5, 10, 15], {}, "two slices are at one position"),
        ([0, 0, 0], {}, "two slices are at one position"),
        ([0, 5], {"SeriesInstanceUID": {1: "1.2"}}, "SeriesInstanceUID; got .* and 1.2"),
        ([0, 5], {"Rows": {1: 64}}, "Rows; got 128 .* and 64"),
        (
            [0, 5],
            {"ImageOrientationPatient": {1: [0, 1, 0, 0, 0, 1]}},
            "ImageOrientationPatient; got .* and ",
        ),
        ([0, 5], {"ImagePositionPatient": {0: None}}, "ImagePositionPatient"),
        ([0, 5], {"NumberOfFrames": {1: 2}}, "one image; got .*71"),
    ],
)
def test_series_that_are_not_whole(places, changed, message, tmp_path):
    folder = save_series(tmp_path / "series", places, **changed)
    with pytest.raises(ValueError, match=rf"cannot read .*series: .*{message}"):
        ImageFiles([folder])
