"""DICOM files whose tags lie about the pixels, and files that are damaged."""

import io
import tracemalloc
import warnings
import zlib

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from skimbal.images import ImageFiles
from tests.images.dicom_data import enhanced, make, placed, save
from tests.images.test_dicom_values import palette, read

X = np.arange(30, dtype=np.uint16).reshape(5, 6)


def compressed(path, frames, syntax, **tags):
    dataset = make(np.zeros((5, 6), np.uint8), **tags)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return save(dataset, path, syntax)


def picture(shape, kind="JPEG"):
    buffer = io.BytesIO()
    Image.fromarray(np.full(shape, 7, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def run_length(n_runs):
    """Return a frame of RLE whose runs have 128 values each."""
    header = np.zeros(16, "<u4")
    header[:2] = 1, 64
    return header.tobytes() + b"\x81\0" * n_runs


@pytest.mark.parametrize(
    ("dataset", "n"),
    [
        (make(X), 30),
        (make(np.stack([X, X])), 60),
        (make(np.zeros((5, 6, 3), np.uint8)), 90),
        (palette(X)[0], 90),
    ],
)
def test_sizes_are_checked_on_the_tags(dataset, n, tmp_path):
    path = save(dataset, tmp_path / "a.dcm")
    assert ImageFiles([path], max_pixels=n).shape
    with pytest.raises(ValueError, match=rf"a\.dcm: .*at most {n - 1} .*got {n}.*max_pixels={n}"):
        ImageFiles([path], max_pixels=n - 1)
    dataset.Rows = dataset.Columns = 60000
    with pytest.raises(ValueError, match=r"a\.dcm: .*at most 536870912 pixels.*max_pixels="):
        ImageFiles([save(dataset, path)])


@pytest.mark.parametrize(
    ("frames", "syntax", "n_frames", "message"),
    [
        ([picture((5, 6))] * 2, JPEGBaseline8Bit, 1, r"\(0028,0008\) NumberOfFrames .*2; got 1"),
        ([picture((5, 6))], JPEGBaseline8Bit, 2, r"\(0028,0008\) NumberOfFrames .*1; got 2"),
        ([picture((5, 7))], JPEGBaseline8Bit, 1, r"\(0028,0010\) Rows.*\(5, 7, 1\); got \(5, 6, 1"),
        ([picture((5, 6, 3))], JPEGBaseline8Bit, 1, r"\(0028,0002\).*\(5, 6, 3\); got \(5, 6, 1\)"),
        ([picture((900, 900), "JPEG2000")], JPEG2000Lossless, 1, r"\(900, 900, 1\); got \(5, 6, 1"),
        ([b"\xff\xd8" + bytes(50)], JPEGBaseline8Bit, 1, r"compressed frame, None; got"),
        ([bytes(50)], JPEGBaseline8Bit, 1, r"\(0028,0008\) NumberOfFrames .*0; got 1"),
        ([run_length(10**5)], RLELossless, 1, "at most 30 bytes, as the header says; got 200064"),
        ([run_length(1)[:-2] + b"\xfb\0"], RLELossless, 1, r"RLE Lossless.*6 vs. 30 bytes"),
        ([run_length(1)] * 2, RLELossless, 1, r"\(0028,0008\) NumberOfFrames .*2; got 1"),
    ],
)
def test_compressed_frames_that_contradict_the_tags(frames, syntax, n_frames, message, tmp_path):
    path = compressed(tmp_path / "a.dcm", frames, syntax, NumberOfFrames=n_frames)
    with pytest.raises(ValueError, match=rf"(?s)cannot read .*a\.dcm: .*{message}"):
        np.asarray(ImageFiles([path]))
    path = compressed(tmp_path / "a.dcm", frames, syntax, NumberOfFrames=10**6)
    with pytest.raises(ValueError, match=r"NumberOfFrames must be at most .* file of this size"):
        ImageFiles([path])


def test_compressed_frames_that_fit(tmp_path):
    for kind, syntax in (("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)):
        path = compressed(tmp_path / "a.dcm", [picture((5, 6), kind)], syntax)
        assert_array_equal(read(path).pixels, np.full((5, 6), 7))


def deflated(path, surplus, before_pixels):
    """Write a deflated file with a tag of zeros before or after the pixels."""
    tags = io.BytesIO()
    pydicom.dcmwrite(tags, make(X), enforce_file_format=True)
    body = tags.getvalue()
    body = body[body.index(b"\x08\x00\x16\x00UI") :]
    pixels = body.index(b"\xe0\x7f\x10\x00")
    name = b"\x71\x00\x10\x10" if before_pixels else b"\xfc\xff\xfc\xff"
    extra = name + b"OB\0\0" + surplus.to_bytes(4, "little") + bytes(surplus)
    parts = (body[:pixels], extra, body[pixels:]) if before_pixels else (body, extra)
    save(make(X), path, DeflatedExplicitVRLittleEndian)
    data = path.read_bytes()
    meta = data[: 144 + int.from_bytes(data[140:144], "little")]
    engine = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(meta + engine.compress(b"".join(parts)) + engine.flush())
    return path


def test_deflated_files_may_not_hold_more_than_the_tags_say(tmp_path):
    for before_pixels in (False, True):
        assert_array_equal(read(deflated(tmp_path / "a.dcm", 1000, before_pixels)).pixels, X)
    path = deflated(tmp_path / "a.dcm", 2**21, False)
    with pytest.raises(ValueError, match=r"a\.dcm: the deflated data must end within 1\d+ bytes"):
        np.asarray(ImageFiles([path]))
    path = deflated(tmp_path / "a.dcm", 2**26, True)
    with pytest.raises(ValueError, match=r"a\.dcm: it is a DICOM file without an image"):
        ImageFiles([path])
    path = save(make(X), tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"a\.dcm: .*cut short"):
        np.asarray(ImageFiles([path]))


@pytest.mark.parametrize(
    "data", [b"text under the name of an image " * 50, b"a", bytes(500), bytes(range(256)) * 9]
)
def test_files_that_are_not_dicom(data, tmp_path):
    (tmp_path / "a.dcm").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.dcm: the file must be DICOM; .*the mark 'DICM'"):
        ImageFiles([tmp_path / "a.dcm"])


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_the_mark(implicit, tmp_path):
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    path = save(make(X), tmp_path / "a.dcm", syntax)
    data = path.read_bytes()
    path.write_bytes(data[132:])
    assert_array_equal(read(path).pixels, X)
    path.write_bytes(data[data.index(b"\x08\x00\x16\x00") :])
    assert_array_equal(read(path).pixels, X)
    assert_array_equal(ImageFiles([path.rename(tmp_path / "slice")])[0], X)
    jpeg = compressed(path, [picture((5, 6))], JPEGBaseline8Bit).read_bytes()
    path.write_bytes(jpeg[jpeg.index(b"\x08\x00\x16\x00UI") :])
    with pytest.raises(ValueError, match=r"stands without a length, which contradicts \(0002,0010"):
        ImageFiles([path])


SEEDS = {
    "slices": lambda: make(X, RescaleSlope="2", RescaleIntercept="-7", PixelPaddingValue=3),
    "palette": lambda: palette(X.astype(np.uint8), 8, 30)[0],
    "frames": lambda: enhanced(np.stack([X, X]), [placed(0), placed(5)]),
    "doses": lambda: make(
        np.stack([X, X]), Modality="RTDOSE", DoseGridScaling="1", GridFrameOffsetVector=[0, 3]
    ),
    "RLE": None,
    "JPEG": None,
    "deflated": None,
}


def seed_file(name, path):
    if name == "JPEG":
        return compressed(path, [picture((5, 6))], JPEGBaseline8Bit)
    if name == "deflated":
        return save(make(X), path, DeflatedExplicitVRLittleEndian)
    dataset = make(X) if name == "RLE" else SEEDS[name]()
    if name == "RLE":
        dataset.compress(RLELossless, generate_instance_uid=False)
    return save(dataset, path)


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_are_read_or_named(name, tmp_path_factory):
    """Whatever happens to the bytes: an array as the header says, or an error with the name."""
    folder = tmp_path_factory.mktemp("damaged")
    data = seed_file(name, folder / "seed.dcm").read_bytes()

    @given(
        changes=st.lists(
            st.tuples(st.integers(132, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=8
        ),
        end=st.integers(len(data) // 2, len(data)),
    )
    def check(changes, end):
        damaged = bytearray(data)
        for place, value in changes:
            damaged[place] = value
        path = folder / "a.dcm"
        path.write_bytes(damaged[:end])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                images = ImageFiles([path])
                image = images[0]
            except ValueError as error:
                message = str(error)
            else:
                message = "a.dcm"
                assert (image.shape, image.dtype) == (images.shape[1:], images.dtype)
            assert "a.dcm" in message

    check()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_length_of_a_tag_takes_no_memory(syntax, tmp_path):
    """Python takes as much as a reader asks a file for, and a tag may state four gigabytes."""
    path = save(make(X, PixelSpacing=[2, 3]), tmp_path / "a.dcm", syntax)
    data = bytearray(path.read_bytes())
    data[132:132] = b"\2\0\0\0OB\0\0" + (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a\.dcm"):
            ImageFiles([path])
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
