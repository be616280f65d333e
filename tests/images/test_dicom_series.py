"""The order, the distances and the axes of the slices of DICOM volumes."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from skimbal.images import FORMATS, ImageFiles, ReadRequest
from tests.images.dicom_data import AXIAL, UID, enhanced, item, make, placed, save, save_slices
from tests.images.test_dicom_values import read


def read_folder(folder):
    """Read a series, whose header must agree in all but the numbers."""
    paths = sorted(str(path) for path in folder.iterdir())
    row = FORMATS["DICOM"]
    header = row.read_series(paths, ReadRequest(header_only=True))
    image = row.read_series(paths, ReadRequest())
    assert header[1:] == image[1:]
    assert (header.pixels.shape, header.pixels.dtype) == (image.pixels.shape, image.pixels.dtype)
    return image


def by_simpleitk(folder):
    """Return the volume and the spacing, (slices, h, w), that SimpleITK reads."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]


ORIENTATIONS = {
    "axial": (AXIAL, [0, 0, 1]),
    "coronal": ([1, 0, 0, 0, 0, -1], [0, 1, 0]),
    "sagittal": ([0, 1, 0, 0, 0, -1], [-1, 0, 0]),
    "oblique": ([0.8, 0.6, 0, 0, 0, -1], [-0.6, 0.8, 0]),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_series_as_simpleitk_reads_them(name, order, tmp_path):
    orientation, normal = ORIENTATIONS[name]
    pixels = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    positions = [[10 + 2.5 * i * n for n in normal] for i in order]
    folder = save_slices(
        tmp_path / "s",
        positions,
        pixels=pixels[order],
        orientation=orientation,
        RescaleSlope=2,
        RescaleIntercept=-7,
    )
    image = read_folder(folder)
    assert_array_equal(image.pixels, pixels * 2.0 - 7)
    expected, spacing = by_simpleitk(folder)
    assert_array_equal(image.pixels, expected)
    assert_allclose(image.spacing, spacing)
    assert_allclose(image.spacing, (2.5, 2, 3))
    assert (image.unit, image.full_range, image.n_spatial) == ("HU", None, 3)


@pytest.mark.parametrize("flips", [(), (2,), (1,), (0,), (1, 2), (0, 1, 2)])
def test_one_anatomy_comes_out_one_way(flips, tmp_path):
    """However a scanner lays the axes of slices, the volume has the axes of a viewer."""
    anatomy = np.random.default_rng(0).integers(0, 1000, (4, 5, 6)).astype(np.int16)
    stored = np.flip(anatomy, flips)
    row, column = [1, 0, 0], [0, 1, 0]
    corner = np.zeros(3)
    if 2 in flips:
        row, corner = [-1, 0, 0], corner + [3 * 5, 0, 0]
    if 1 in flips:
        column, corner = [0, -1, 0], corner + [0, 2 * 4, 0]
    heights = [2.5 * i for i in range(4)]
    if 0 in flips:
        heights = heights[::-1]
    positions = [corner + [0, 0, z] for z in heights]
    folder = save_slices(tmp_path / "s", positions, pixels=stored, orientation=row + column)
    assert_array_equal(read_folder(folder).pixels, anatomy)


def test_names_and_numbers_of_files_do_not_matter(tmp_path):
    folder = save_slices(
        tmp_path / "s", [0, -5, 10, 5], names=["d", "c", "b", "a"], InstanceNumber=[1, 2, 3, 4]
    )
    assert read_folder(folder).pixels[:, 0, 0].tolist() == [1, 0, 3, 2]


def test_a_slope_for_each_slice(tmp_path):
    """PET has one, and the values are then of one scale."""
    x = np.full((3, 4, 5), 100, np.uint16)
    tags = {"Modality": "PT", "Units": "BQML", "RescaleSlope": [1, "0.5", 3], "pixels": x}
    image = read_folder(save_slices(tmp_path / "s", [0, 5, 10], **tags))
    assert image.pixels[:, 0, 0].tolist() == [100, 50, 300]
    assert (image.unit, image.full_range) == ("BQML", None)
    tags |= {"Modality": "MR", "Units": None}
    image = read_folder(save_slices(tmp_path / "t", [0, 5, 10], **tags))
    assert (image.unit, image.full_range) == (None, (0, 3 * 65535))


def test_padding_of_a_series_gets_one_value(tmp_path):
    x = np.random.default_rng(0).integers(0, 500, (3, 4, 5)).astype(np.int16)
    x[:, 0] = -2000
    x[1] = -2000  # a slice of nothing else
    folder = save_slices(tmp_path / "s", [0, 5, 10], pixels=x, PixelPaddingValue=-2000)
    expected = np.where(x == -2000, x[x != -2000].min(), x)
    assert_array_equal(read_folder(folder).pixels, expected)


def test_series_in_colour(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    folder = save_slices(tmp_path / "s", [10, 5, 0], pixels=x, Modality="OT")
    image = read_folder(folder)
    assert_array_equal(image.pixels, np.moveaxis(x[::-1], -1, 0))
    assert image.full_range == (0, 255)


def test_one_slice(tmp_path):
    for name, tags, depth in (
        ("a", {"SpacingBetweenSlices": 4, "SliceThickness": 6}, 4),
        ("b", {"SliceThickness": 6}, 6),
        ("c", {}, None),
    ):
        image = read_folder(save_slices(tmp_path / name, [3], **tags))
        assert image.pixels.shape == (1, 4, 5)
        assert image.spacing == (None if depth is None else (depth, 2, 3))


@pytest.mark.parametrize(
    ("gaps", "is_read"),
    [
        ([0.6, 0.7, 0.6, 0.6, 0.6], True),  # 0.625, rounded
        ([5, 5.4, 5, 4.6], True),
        ([5, 5, 6.5, 5], False),
        ([4] * 8 + [5] * 8, False),
        ([2, 2, 2, 2.19] * 8, True),
        ([1, 1.1] * 2 + [1.1] * 12, True),
    ],
)
def test_unequal_distances(gaps, is_read, tmp_path):
    folder = save_slices(
        tmp_path / "s",
        [0, *np.cumsum(gaps).round(3).tolist()],
        names=[f"{i:03}" for i in range(len(gaps) + 1)],
    )
    if is_read:
        assert_allclose(read_folder(folder).spacing, (np.mean(gaps), 2, 3))
    else:
        with pytest.raises(ValueError, match=r"mm apart|equally far apart.*Resample the series"):
            ImageFiles([folder])


NOT_RESCALED = {"RescaleSlope": None, "RescaleIntercept": None}
REFUSED = {
    "missing": ([0, 5, 15, 20], {}, "between .*a slice is missing"),
    "copies": ([0, 5, 5, 10], {"SOPInstanceUID": "1.2.3"}, "one position. Both files hold the sam"),
    "echoes": (
        [0, 0, 5, 5],
        {"EchoTime": [4, 9, 4, 9]},
        r"\(0018,0081\) EchoTime has 2 values, 4, 9. A volume must have one",
    ),
    "times": ([0, 0, 5, 5], {"AcquisitionTime": ["10", "20", "10", "20"]}, r"\(0008,0032\)"),
    "time points": (
        [0, 5, 10],
        {"TemporalPositionIdentifier": [1, 2, 3]},
        r"\(0020,0100\) TemporalPositionIdentifier has 3 values, 1, .* A volume must have one",
    ),
    "b values": ([0, 5], {"DiffusionBValue": [0.0, 1000.0]}, r"\(0018,9087\) DiffusionBValue"),
    "echo numbers": ([0, 5], {"EchoNumbers": [1, 2]}, r"\(0018,0086\) EchoNumbers"),
    "localizer": (
        [0, 5, [0, 9, 0]],
        {"ImageOrientationPatient": [AXIAL, AXIAL, [1, 0, 0, 0, 0, -1]]},
        "one ImageOrientationPatient; got .* in .*42. Put .* without localizers",
    ),
    "two series": ([0, 5], {"SeriesInstanceUID": ["1.2", "1.3"]}, "SeriesInstanceUID; got 1.2 in"),
    "two patients": ([0, 5], {"PatientID": ["p1", "p2"]}, "PatientID; got one .* another in"),
    "two studies": ([0, 5], {"StudyInstanceUID": ["1.2", "1.3"]}, "StudyInstanceUID; got 1.2 in"),
    "two postures": ([0, 5], {"PatientPosition": ["HFS", "FFS"]}, "PatientPosition; got HFS in"),
    "magnitude and phase": (
        [0, 5],
        {"ImageType": [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]},
        r"\(0008,0008\) ImageType has 2 values, M, P",
    ),
    "two kernels": ([0, 5], {"ConvolutionKernel": ["B30f", "B70f"]}, "ConvolutionKernel has 2"),
    "two energies": ([0, 5], {"KVP": [80, 140]}, r"\(0018,0060\) KVP has 2 values, 80, 140"),
    "two inversions": ([0, 5], {"InversionTime": [100, 900]}, "InversionTime has 2 values"),
    "two flip angles": ([0, 5], {"FlipAngle": [5, 26]}, "FlipAngle has 2 values"),
    "two spacings": ([0, 5], {"PixelSpacing": [[2, 3], [2, 4]]}, r"PixelSpacing; got \(2.0, 3.0\)"),
    "two modalities": ([0, 5], {"Modality": ["CT", "RTSTRUCT"]}, "Modality; got CT in .* RTSTRUCT"),
    "two frames of reference": ([0, 5], {"FrameOfReferenceUID": ["1.2", "1.3"]}, "FrameOfRef"),
    "two units": ([0, 5], {"RescaleType": ["HU", "US"]}, "one scale; got unit HU .* unit None"),
    "two depths": (
        [0, 5],
        {"Modality": "MR", "BitsStored": [12, 16], "HighBit": [11, 15]} | NOT_RESCALED,
        r"one scale; got unit None and range \(-2048, 2047\) in .* range \(-32768, 32767\)",
    ),
    "slope 0": ([0, 5], {"RescaleSlope": [1, 0]}, r"series/71: a slope must not be 0"),
    "no position": (
        [0, 5],
        {"ImagePositionPatient": None, "InstanceNumber": [1, 2]},
        r"\(0020,0032\) ImagePositionPatient .*series/00 without them.*reader=",
    ),
    "no orientation": ([0, 5], {"ImageOrientationPatient": None}, r"\(0020,0037\)"),
    "no directions": ([0, 5], {"ImageOrientationPatient": [0] * 6}, r"\(0020,0037\) .* right angl"),
    "off the line": ([0, 5, [9, 0, 10], 15], {}, r"on a line; got .*mm beside it, by \(0020,0032"),
    "no pixels": ([0, 5], {"PixelData": None}, r"series/00: it is a DICOM file without an image"),
}


@pytest.mark.parametrize(
    "tags",
    [
        {"EchoTime": ["4.601", "4.6010001"]},
        {"ImageType": [["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "PRIMARY", "AXIAL"]]},
        {"AcquisitionNumber": [1, 2], "XRayTubeCurrent": [100, 230]},
    ],
)
def test_what_may_differ_in_a_series(tags, tmp_path):
    assert ImageFiles([save_slices(tmp_path / "series", [0, 5], **tags)]).shape == (1, 2, 4, 5)


def test_hidden_files_in_a_series_are_left_out(tmp_path):
    folder = save_slices(tmp_path / "series", [0, 5])
    (folder / "._00.dcm").write_bytes(b"\0\5\x16\7" + bytes(100))  # as macOS writes them
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf")
    assert ImageFiles([folder]).shape == (1, 2, 4, 5)


def test_single_images_in_a_folder_are_refused_with_a_way_out(tmp_path):
    folder = save_slices(
        tmp_path / "patient", [0], ImagePositionPatient=None, ImageOrientationPatient=None
    )
    with pytest.raises(ValueError, match=r"single images, such as radiographs, .* in a table"):
        ImageFiles([folder])


def test_a_ct_without_hounsfield_units_is_a_warning(tmp_path):
    stored = {"RescaleSlope": None, "RescaleIntercept": None}
    series = save_slices(tmp_path / "series", [0, 5], **stored)
    for path in (series, series / "00"):
        with pytest.warns(UserWarning, match="CT without .* not known to be Hounsfield units"):
            X = ImageFiles([path], intensity=(-160, 240))
        assert X.shape[0] == 1


@pytest.mark.parametrize("case", REFUSED)
def test_refused_series(case, tmp_path):
    positions, tags, message = REFUSED[case]
    folder = save_slices(tmp_path / "series", positions, **tags)
    with pytest.raises(ValueError, match=rf"cannot read .*series: .*{message}"):
        ImageFiles([folder])


def test_a_file_of_another_kind_in_the_folder_is_named(tmp_path):
    folder = save_slices(tmp_path / "s", [0, 5])
    save(item_without_image(), folder / "z.dcm")
    with pytest.raises(ValueError, match=r"Modality; got CT in .* and RTSTRUCT in .*z\.dcm"):
        ImageFiles([folder])


def item_without_image():
    dataset = make(np.zeros((4, 5), np.uint8), Modality="RTSTRUCT", PixelData=None, Rows=None)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    return dataset


def test_a_tilted_gantry_is_a_warning(tmp_path):
    angle = np.radians(20)
    orientation = [1, 0, 0, 0, np.cos(angle), -np.sin(angle)]
    folder = save_slices(tmp_path / "s", [0, 5, 10], orientation=orientation)
    with pytest.warns(UserWarning, match=r"slices of .*s are sheared by 20 degrees"):
        X = ImageFiles([folder], spacing=(5 * np.cos(angle), 2, 3))
    assert X.shape == (1, 3, 4, 5)
    assert np.asarray(X).shape == (1, 3, 4, 5)  # without another warning


@pytest.mark.parametrize("tilt", [20, -20, "20.0"])
def test_a_tilt_that_positions_do_not_have_is_a_warning(tmp_path, tilt):
    angle = np.radians(20)
    orientation = [1, 0, 0, 0, np.cos(angle), -np.sin(angle)]
    normal = np.cross(orientation[:3], orientation[3:])
    for name, positions, plane in (
        ("tilted planes", [list(5 * i * normal) for i in range(3)], orientation),
        ("axial planes", [0, 5, 10], AXIAL),
    ):
        folder = tmp_path / name
        save_slices(folder, positions, orientation=plane, GantryDetectorTilt=tilt)
        with pytest.warns(UserWarning, match=rf"{name} states a tilted gantry, .*Tilt 20, and"):
            X = ImageFiles([folder], spacing=(5, 2, 3))
        assert_array_equal(np.asarray(X)[0, :, 0, 0], [0, 1, 2])


def test_a_gantry_without_tilt_is_no_warning(tmp_path):
    for name, tilt in (("none", 0), ("noise", 0.5), ("empty", None), ("text", "")):
        X = ImageFiles([save_slices(tmp_path / name, [0, 5, 10], GantryDetectorTilt=tilt)])
        assert X.shape == (1, 3, 4, 5)
    # The neighbours of a single slice are not known.
    assert ImageFiles([save_slices(tmp_path / "one", [0], GantryDetectorTilt=20)]).n_spatial == 2


def test_a_slice_without_the_mark_is_a_slice(tmp_path):
    folder = save_slices(tmp_path / "s", [0, 5, 10])
    path = folder / "42"
    for start in (132, len(path.read_bytes()) - len(data_part(path))):
        shutil.copytree(folder, tmp_path / str(start))
        (tmp_path / str(start) / "42").write_bytes(path.read_bytes()[start:])
        assert ImageFiles([tmp_path / str(start)]).shape == (1, 3, 4, 5)


def data_part(path):
    """Return the bytes from the first tag of group 8."""
    data = path.read_bytes()
    return data[data.index(b"\x08\x00\x16\x00UI") :]


# Frames of one file


def stored_frames(n=4):
    return np.random.default_rng(0).integers(0, 1000, (n, 4, 5)).astype(np.uint16)


def test_frames_by_position(tmp_path):
    x = stored_frames()
    image = read(save(enhanced(x, [placed(z) for z in (0, -5, 10, 5)]), tmp_path / "a.dcm"))
    assert_array_equal(image.pixels, x[[1, 0, 3, 2]])
    assert image.spacing == (5, 2, 3)


def test_a_folder_with_one_file_of_frames(tmp_path):
    x = stored_frames()
    save(enhanced(x, [placed(5 * i) for i in range(4)]), tmp_path / "a.dcm")
    image = read_folder(tmp_path)
    assert_array_equal(image.pixels, x)
    assert image.spacing == (5, 2, 3)


FRAMES = {
    "times": ({"FrameContentSequence": "TemporalPositionIndex"}, r"\(0020,9128\)"),
    "stacks": ({"FrameContentSequence": "StackID"}, r"\(0020,9056\) StackID has 2 values"),
    "b values": ({"MRDiffusionSequence": "DiffusionBValue"}, r"\(0018,9087\) DiffusionBValue"),
    "echoes": ({"MREchoSequence": "EffectiveEchoTime"}, r"\(0018,9082\) EffectiveEchoTime"),
    "segments": ({"SegmentIdentificationSequence": "ReferencedSegmentNumber"}, r"\(0062,000B\)"),
    "phases": ({"CardiacSynchronizationSequence": "NominalPercentageOfCardiacPhase"}, "Phase"),
    "kinds": ({"MRImageFrameTypeSequence": "ComplexImageComponent"}, r"\(0008,9208\)"),
}


@pytest.mark.parametrize("case", FRAMES)
@pytest.mark.parametrize("z", [[0, 0, 5, 5], [0, 5, 10, 15]])
def test_frames_of_several_volumes_are_refused(case, z, tmp_path):
    macro, message = FRAMES[case]
    (sequence, keyword), *_ = macro.items()
    is_text = keyword in ("StackID", "ComplexImageComponent")
    frames = [
        placed(place, **{sequence: {keyword: str(i % 2) if is_text else i % 2 + 1}})
        for i, place in enumerate(z)
    ]
    path = save(enhanced(stored_frames(), frames), tmp_path / "a.dcm")
    with pytest.raises(ValueError, match=rf"a\.dcm: .*{message}.*A volume must have one"):
        ImageFiles([path])


def test_frames_that_are_no_stack_are_refused(tmp_path):
    x = stored_frames()
    plane = {"PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}}
    measures = {"PixelMeasuresSequence": {"PixelSpacing": [9, 9]}}
    for frames, message in (
        ([placed(0)] * 4, "frame 1 and frame 2, where two slices are at one position"),
        (
            [placed(0), placed(5), placed(15), placed(20)],
            "frame 2 and frame 3, where a slice is mi",
        ),
        ([placed(0), placed(5), placed(10), placed(15, **plane)], r"one \(0020,0037\).* frame 4"),
        ([placed(0), placed(5), placed(10), placed(15, **measures)], r"one \(0028,0030\).*frame 4"),
        ([placed(0), placed(5), placed(10)], r"\(0028,0008\) NumberOfFrames .*3; got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageFiles([save(enhanced(x, frames), tmp_path / "a.dcm")])


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("orientation", [AXIAL, [-1, 0, 0, 0, 1, 0]])
@pytest.mark.parametrize("step", [2.5, -2.5])
def test_planes_of_a_dose(absolute, orientation, step, tmp_path):
    x = stored_frames()
    z = float(np.cross(orientation[:3], orientation[3:])[2])
    heights = [-30 + step * i * z for i in range(4)]
    offsets = heights if absolute else [step * i for i in range(4)]
    dataset = make(
        x,
        Modality="RTDOSE",
        DoseGridScaling="0.001",
        DoseUnits="GY",
        ImagePositionPatient=[0, 0, -30],
        ImageOrientationPatient=orientation,
        PixelSpacing=[2, 3],
        GridFrameOffsetVector=offsets,
    )
    image = read(save(dataset, tmp_path / "a.dcm"))
    expected = x[np.argsort(heights)]
    if orientation[0] < 0:
        expected = expected[..., ::-1]
    assert_array_equal(image.pixels, (expected * 0.001).astype(np.float32))
    assert (image.spacing, image.unit) == ((2.5, 2, 3), "Gy")
    for bad, message in (
        ([1, 2, 3, 4], "must begin with 0, or with the z"),
        ([0, 1, 2], "must have 4 numbers"),
        ([0, 1, 2, 4], "a slice is missing"),
    ):
        dataset.GridFrameOffsetVector = bad
        with pytest.raises(ValueError, match=message):
            ImageFiles([save(dataset, tmp_path / "a.dcm")])


@pytest.mark.parametrize("distance", [3, -3])
@pytest.mark.parametrize("place", ["top", "detector", "nowhere"])
def test_the_sign_of_the_distance_in_nuclear_medicine(distance, place, tmp_path):
    x = stored_frames(3)
    plane = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": AXIAL}
    tags = {"Modality": "NM", "SpacingBetweenSlices": distance, "PixelSpacing": [2, 3]}
    tags |= {"SliceVector": [1, 2, 3], "FrameIncrementPointer": 0x00540080}
    tags |= plane if place == "top" else {}
    tags |= {"DetectorInformationSequence": [item(**plane)]} if place == "detector" else {}
    image = read(save(make(x, **tags), tmp_path / "a.dcm"))
    assert_array_equal(image.pixels, x if distance > 0 else x[::-1])
    assert image.spacing == (3, 2, 3)


def test_frames_in_time_have_no_distance(tmp_path):
    x = stored_frames()
    tags = {"Modality": "XA", "SpacingBetweenSlices": 3, "PixelSpacing": [2, 3]}
    tags |= {"FrameIncrementPointer": 0x00181063, "FrameTime": 40}
    image = read(save(make(x, **tags), tmp_path / "a.dcm"))
    assert_array_equal(image.pixels, x)
    assert image.spacing is None
    tags |= {"SliceVector": [1, 1, 2, 2], "TimeSlotVector": [1, 2, 1, 2]}
    tags |= {"FrameIncrementPointer": [0x00540080, 0x00540070]}
    message = r"\(0054,0070\) TimeSlotVector and in \(0054,0080\) SliceVector. A volume must"
    with pytest.raises(ValueError, match=message):
        ImageFiles([save(make(x, **tags), tmp_path / "a.dcm")])


def region(dy=0.05, dx=0.04, units=3):
    return item(
        RegionSpatialFormat=1,
        PhysicalUnitsXDirection=units,
        PhysicalUnitsYDirection=units,
        PhysicalDeltaX=dx,
        PhysicalDeltaY=dy,
    )


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [
        ({"PixelSpacing": [2, 3]}, (2, 3)),
        ({"ImagerPixelSpacing": [2, 3]}, (2, 3)),
        ({"PixelSpacing": [1, 1], "ImagerPixelSpacing": [2, 3]}, (1, 1)),
        ({"NominalScannedPixelSpacing": [2, 3]}, (2, 3)),
        ({"PixelSpacing": [0, 0]}, None),
        ({"PixelSpacing": ""}, None),
        ({"SequenceOfUltrasoundRegions": [region()]}, (0.5, 0.4)),
        ({"SequenceOfUltrasoundRegions": [region(), region()]}, (0.5, 0.4)),
        ({"SequenceOfUltrasoundRegions": [region(), region(0.1)]}, None),
        ({"SequenceOfUltrasoundRegions": [region(units=4)]}, None),
        ({}, None),
    ],
)
def test_spacing_of_one_image(tags, spacing, tmp_path):
    image = read(save(make(np.zeros((4, 5), np.uint8), **tags), tmp_path / "a.dcm"))
    assert image.spacing == spacing
    assert UID in make(np.zeros((4, 5), np.uint8)).SeriesInstanceUID
