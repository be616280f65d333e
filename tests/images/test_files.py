"""Images that are read when a batch asks for them."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import scipy.ndimage
import torch
import zarr
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from pydicom.data import get_testdata_file
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split

from skimbal import CNN2DClassifier, CNN3DClassifier, NDSampler
from skimbal.datasets import load_image_folder
from skimbal.images import ImageArray, ImageFiles, find_images


def stored(kind, values, folder):
    if kind == "memory":
        return values
    if kind == "memory map":
        np.save(folder / "values.npy", values)
        return np.load(folder / "values.npy", mmap_mode="r")
    if kind == "zarr":
        array = zarr.create_array(
            folder / "values.zarr", shape=values.shape, chunks=(7, *values.shape[1:]), dtype="u1"
        )
        array[:] = values
        return zarr.open_array(folder / "values.zarr", mode="r")
    with h5py.File(folder / "values.h5", "w") as file:
        file["values"] = values
    return h5py.File(folder / "values.h5")["values"]


KINDS = pytest.mark.parametrize("kind", ["memory", "memory map", "zarr", "h5py"])


def draw(n=40, shape=(6, 6)):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = rng.integers(0, 200, size=(n, *shape), dtype=np.uint8)
    X[y == 1, :3, :3] += 50
    return X, y


@KINDS
def test_selections_are_those_of_an_array(kind, tmp_path):
    values, _ = draw()
    images = ImageArray(stored(kind, values, tmp_path))
    assert (images.shape, images.ndim, images.dtype, len(images)) == ((40, 6, 6), 3, np.uint8, 40)
    mask = np.arange(40) % 3 == 1
    for index in [
        slice(3, 20, 4),
        slice(None, None, -1),
        [5, 5, 0, 39, -1],
        np.array([7]),
        mask,
        np.array([], dtype=int),
        (np.array([2, 1]), ...),
    ]:
        selected = images[index]
        assert isinstance(selected, ImageArray)
        expected = values[index]
        assert selected.shape == expected.shape
        assert np.array_equal(np.asarray(selected), expected)
    assert np.array_equal(np.asarray(images[::2][[3, 1]]), values[[6, 2]])
    assert np.array_equal(images[np.int64(4)], values[4])
    assert np.array_equal(np.asarray(images, dtype=np.float32), values.astype(np.float32))
    assert [image.sum() for image in images] == values.sum((1, 2)).tolist()


class Counting:
    """An array that counts what is read of it."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.rows = values, values.shape, values.dtype, []

    def __getitem__(self, rows):
        self.rows.append(rows)
        return self.values[rows]


def test_each_image_is_read_once_and_in_order():
    counting = Counting(draw()[0])
    images = ImageArray(counting)
    train, test = train_test_split(images, random_state=0)
    assert counting.rows == []
    np.asarray(train[[3, 0, 3, 1]])
    (rows,) = counting.rows
    assert (np.diff(rows) > 0).all()
    assert len(rows) == 3
    assert len(train) + len(test) == 40


@pytest.mark.parametrize("array", [[1, 2], np.float64(3), None, "images"])
def test_what_is_no_array(array):
    with pytest.raises(TypeError, match="array must have a shape of at least one axis and a dtype"):
        ImageArray(array)


def test_what_cannot_be_selected():
    images = ImageArray(draw()[0])
    with pytest.raises(IndexError, match="only whole images can be selected"):
        images[0, 1]
    with pytest.raises(IndexError, match="out of bounds"):
        images[40]
    with pytest.raises(ValueError, match="have to be read"):
        np.asarray(images, copy=False)


@KINDS
@pytest.mark.parametrize("wrap", [True, False])
def test_classifiers_give_what_they_give_of_the_array(kind, wrap, tmp_path):
    values, y = draw()
    X = stored(kind, values, tmp_path)
    X = ImageArray(X) if wrap else X

    def make():
        return CNN2DClassifier(
            max_epochs=2, batch_size=16, random_state=0, train_split=0.25, sampler="balanced"
        )

    expected = make().fit(values, y)
    clf = make().fit(X, y)
    assert np.array_equal(clf.predict_proba(X), expected.predict_proba(values))
    assert clf.history_[:, "valid_loss"] == expected.history_[:, "valid_loss"]
    assert clf.score(X, y) == expected.score(values, y)
    if kind != "h5py":  # an open file belongs to its process
        again = pickle.loads(pickle.dumps(X))
        assert np.array_equal(clf.predict_proba(again), clf.predict_proba(values))


def test_searches_select_rows_only():
    values, y = draw()
    counting = Counting(values)
    clf = CNN2DClassifier(max_epochs=1, batch_size=8, random_state=0, standardize=False)
    scores = cross_val_score(clf, ImageArray(counting), y, cv=2)
    assert max(len(np.atleast_1d(rows)) for rows in counting.rows) <= 20
    assert np.array_equal(scores, cross_val_score(clf, values, y, cv=2))
    search = GridSearchCV(clf, {"loss": ["ce", "mcc"]}, cv=2).fit(ImageArray(values), y)
    assert search.predict(ImageArray(values)).shape == (40,)


def test_workers_share_a_memory_map(tmp_path):
    values, y = draw()
    X = ImageArray(stored("memory map", values, tmp_path))
    clf = CNN2DClassifier(max_epochs=1, batch_size=8, random_state=0)
    assert len(pickle.dumps(X[:20])) < len(pickle.dumps(values[:20]))
    two = cross_val_score(clf, X, y, cv=2, n_jobs=2)
    assert np.array_equal(two, cross_val_score(clf, values, y, cv=2))


def test_bad_images():
    values, y = draw()
    clf = CNN2DClassifier(max_epochs=1)
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        clf.fit(ImageArray(values)[:0], y[:0])
    with pytest.raises(ValueError, match="takes X of shape"):
        clf.fit(ImageArray(np.zeros((40, 1, 1, 2, 2))), y)
    bad = values.astype(np.float32)
    bad[7, 2, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        clf.fit(ImageArray(bad), y)
    with pytest.raises(ValueError, match="real numbers"):
        clf.fit(ImageArray(values.astype(complex)), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.fit(ImageArray(values), y[:-1])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc of Linux")
@pytest.mark.parametrize("kind", ["memory map", "zarr"])
def test_memory_does_not_grow_with_the_number_of_volumes(kind, tmp_path):
    code = """
import sys, threading, time
import numpy as np, torch, zarr
from skimbal import CNN3DClassifier
torch.set_num_threads(1)

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

def train(X):
    y = np.arange(X.shape[0]) % 2
    clf = CNN3DClassifier(max_epochs=1, batch_size=4, random_state=0)
    clf.set_params(net={"module__width": 4}).fit(X, y).predict_proba(X)

def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.002)

path = sys.argv[1]
X = zarr.open_array(path, mode="r") if path.endswith("zarr") else np.load(path, mmap_mode="r")
train(np.zeros((8, *X.shape[1:]), np.float32))
before = peak = anonymous()
threading.Thread(target=watch, daemon=True).start()
train(X)
print(peak - before)
"""
    rng = np.random.default_rng(0)
    growth = {}
    for n in (40, 160):
        path = tmp_path / f"{n}.{'zarr' if kind == 'zarr' else 'npy'}"
        shape = (n, 64, 64, 64)
        if kind == "zarr":
            X = zarr.create_array(path, shape=shape, chunks=(1, 64, 64, 64), dtype="f4")
        else:
            X = np.lib.format.open_memmap(path, "w+", "f4", shape)
        for i in range(n):
            X[i] = rng.normal(size=shape[1:])
        run = [sys.executable, "-c", code, str(path)]
        growth[n] = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    # 160 volumes are 160 MB.
    assert growth[160] < 50
    assert growth[160] < growth[40] + 15


# Files ---------------------------------------------------------------------------------------


def read_one(path, **options):
    """Read one image by way of ImageFiles, which has known its shape and dtype before."""
    X = ImageFiles([path], **options)
    image = X[0]
    assert (X.shape, X.dtype) == ((1, *image.shape), image.dtype)
    assert np.asarray(X).flags.c_contiguous
    return image


def save_picture(path, pixels, mode=None, **options):
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


def save_nifti(path, pixels, affine=None, slope=None, unit="mm"):
    image = nibabel.Nifti1Image(pixels, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


def dicom(name="CT_small.dcm"):
    return pydicom.dcmread(get_testdata_file(name, download=False))


def save_series(folder, places, **changed):
    """Write slices of a series: slice i has the value i, in files that are not in order."""
    folder.mkdir(parents=True)
    for i, place in enumerate(places):
        dataset = dicom()
        dataset.ImagePositionPatient = [0, 0, place]
        dataset.SOPInstanceUID = f"1.2.3.{i}"
        dataset.PixelData = np.full((128, 128), i, np.int16).tobytes()
        for name, values in changed.items():
            if i in values:
                setattr(dataset, name, values[i])
        dataset.save_as(folder / f"{(i * 7) % 10}{i}")
    return folder


def draw_files(folder, n=24, shape=(8, 8), dtype=np.uint8):
    """Write files of which those of class 1 are brighter in a corner."""
    X, y = draw(n, shape)
    paths = [folder / f"{i}.npy" for i in range(n)]
    for path, image in zip(paths, X.astype(dtype), strict=True):
        np.save(path, image)
    return paths, X.astype(dtype), y


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_pictures(suffix, shape, tmp_path, rng):
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    path = save_picture(tmp_path / f"a{suffix}", pixels)
    expected = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    assert_array_equal(read_one(path), expected)
    assert read_one(path, channels=1).shape == (1, 5, 7)
    colour = read_one(path, channels=3)
    assert_array_equal(colour, np.broadcast_to(expected, (3, 5, 7)))
    assert_array_equal(read_one(path, channels=4)[3], np.full((5, 7), 255))


@pytest.mark.parametrize(
    ("mode", "dtype", "shape"),
    [
        ("1", bool, (5, 7)),
        ("P", np.uint8, (3, 5, 7)),
        ("LA", np.uint8, (2, 5, 7)),
        ("RGBA", np.uint8, (4, 5, 7)),
        ("I;16", np.uint16, (5, 7)),
        ("I", np.int32, (5, 7)),
        ("F", np.float32, (5, 7)),
        ("CMYK", np.uint8, (3, 5, 7)),
    ],
)
def test_modes_of_pictures(mode, dtype, shape, tmp_path, rng):
    if mode == "I;16":
        picture = Image.fromarray(rng.integers(0, 2**16, (5, 7), dtype=np.uint16))
    else:
        picture = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).convert("RGB")
        via = {"LA": "RGBA", "I": "L", "F": "L"}.get(mode, "RGB")
        picture = picture.convert(via).convert(mode)
    path = tmp_path / ("a.tif" if mode in ("I", "F", "CMYK") else "a.png")
    picture.save(path)
    image = read_one(path)
    assert (image.dtype, image.shape) == (dtype, shape)
    expected = np.asarray(picture.convert("RGB") if mode in ("P", "CMYK") else picture)
    assert_array_equal(image, np.moveaxis(expected, -1, 0) if expected.ndim == 3 else expected)
    if mode in ("I;16", "I", "F"):  # which pillow's own conversion would cut to a byte
        assert_array_equal(read_one(path, channels=3), np.broadcast_to(expected, (3, 5, 7)))
        assert_array_equal(read_one(path, channels=1), expected[None])


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (4, 3), 1)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png", transparency=1)
    assert read_one(tmp_path / "a.png")[:, 0, 0].tolist() == [40, 50, 60, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_as_a_viewer_shows_them(orientation, tmp_path, rng):
    pixels = np.kron(rng.integers(0, 256, (2, 3), dtype=np.uint8), np.ones((8, 8), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.jpg", "b.JPEG"):
        save_picture(tmp_path / name, pixels, exif=exif, quality=100)
        image = read_one(tmp_path / name)
        steps = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
        mirrored = {2: np.fliplr, 4: np.fliplr, 5: np.flipud, 7: np.flipud}
        expected = mirrored.get(orientation, np.asarray)(np.rot90(pixels, steps))
        assert_allclose(image.astype(int), expected, atol=2)


def test_pages_of_a_tiff_are_a_volume(tmp_path, rng):
    volume = rng.integers(0, 2**16, (4, 5, 6), dtype=np.uint16)
    first, *others = [Image.fromarray(page) for page in volume]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    assert_array_equal(read_one(tmp_path / "a.tif"), volume)
    assert ImageFiles([tmp_path / "a.tif"]).n_spatial == 3
    first.save(tmp_path / "b.tif", save_all=True, append_images=[Image.new("L", (9, 9))])
    with pytest.raises(ValueError, match=r"b\.tif: its pages differ in shape"):
        ImageFiles([tmp_path / "b.tif"])


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
    with pytest.raises(ValueError, match="two slices are at one position: frame "):
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
    with pytest.raises(ValueError, match=r"CT2: a slice is missing: .*17106 and .*17136 are 202"):
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
        ([0, 5, 15, 20], {}, "a slice is missing: .* are 10 mm apart, others 5 mm"),
        ([0, 5, 5, 10, 15], {}, "two slices are at one position"),
        ([0, 0, 0], {}, "two slices are at one position"),
        ([0, 5], {"SeriesInstanceUID": {1: "1.2"}}, "its slices differ in SeriesInstanceUID"),
        ([0, 5], {"Rows": {1: 64}}, "its slices differ in Rows"),
        (
            [0, 5],
            {"ImageOrientationPatient": {1: [0, 1, 0, 0, 0, 1]}},
            "its slices differ in ImageOrientationPatient",
        ),
        ([0, 5], {"ImagePositionPatient": {0: None}}, "do not tell their position"),
        ([0, 5], {"NumberOfFrames": {1: 2}}, "no single slice"),
    ],
)
def test_what_is_no_whole_series(places, changed, message, tmp_path):
    folder = save_series(tmp_path / "series", places, **changed)
    with pytest.raises(ValueError, match=rf"cannot read .*series: .*{message}"):
        ImageFiles([folder])


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
    with pytest.raises(ValueError, match=r"a\.npy: expected 2 channels, for channels=2"):
        ImageFiles(path, channels=2, size=(4, 4))


@pytest.fixture
def nifti_paths(tmp_path, rng):
    paths = [str(tmp_path / f"{i}.nii.gz") for i in range(3)]
    for path in paths:
        voxels = rng.normal(size=(6, 7, 8)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 1, 2, 1])), path)
    return paths


# MONAI makes all its readers, and says which of them lack a library.
@pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning")
def test_readers_of_monai(nifti_paths):
    from monai import transforms

    load = transforms.LoadImage(image_only=True, ensure_channel_first=True)
    X = ImageFiles(nifti_paths, reader=load)
    assert X.shape == (3, 1, 6, 7, 8)
    assert_array_equal(np.asarray(X)[:, 0], ImageFiles(nifti_paths))


def test_subjects_of_torchio(nifti_paths, tmp_path):
    import torchio

    for sequence, path in zip(("t1", "t2"), nifti_paths, strict=False):
        torchio.ScalarImage(path).save(tmp_path / f"{sequence}.mha")

    def read_subject(folder):
        subject = torchio.Subject(
            t1=torchio.ScalarImage(f"{folder}/t1.mha"), t2=torchio.ScalarImage(f"{folder}/t2.mha")
        )
        subject = torchio.ToCanonical()(subject)
        return torch.cat([subject.t1.data, subject.t2.data]), subject.t1.spacing

    X = ImageFiles([tmp_path], reader=read_subject)
    assert_array_equal(np.asarray(X)[0], ImageFiles(nifti_paths[:2]))
    spaced = ImageFiles([tmp_path], reader=read_subject, spacing=1, size=12, resize="crop")
    assert np.asarray(spaced).shape == (1, 2, 12, 12, 12)


def test_own_reader(tmp_path):
    names = ["2", "0", "1"]
    stack = torch.arange(3 * 4 * 4, dtype=torch.float32).reshape(3, 1, 4, 4)
    X = ImageFiles(names, reader=lambda name: stack[int(name)])
    assert_array_equal(X, stack[[2, 0, 1]])
    assert X.paths == names
    resized = ImageFiles(
        names,
        reader=lambda name: (stack[int(name)], (1, 3)),
        spacing=(1, 1),
        size=(4, 6),
        resize="crop",
    )
    assert resized.shape == (3, 1, 4, 6)
    # Without headers, shapes that differ are found when they are read.
    uneven = ImageFiles(names, reader=lambda name: np.zeros((int(name) + 1, 5)))
    with pytest.raises(ValueError, match=r"0 has an image of shape \(1, 5\), but \(3, 5\) is"):
        np.asarray(uneven)
    with pytest.raises(ValueError, match="cannot read 2: 'no such patient'"):
        ImageFiles(names, reader=fails)
    with pytest.raises(ValueError, match="cannot read 2: expected real numbers, got <U1"):
        ImageFiles(names, reader=list)


def fails(path):
    raise KeyError("no such patient")


# Form ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 5), (9, 31), (40, 11), (23, 17)])
def test_pictures_are_resampled_as_pillow_does(size, tmp_path, rng):
    pixels = rng.uniform(0, 255, (23, 17)).astype(np.float32)
    np.save(tmp_path / "a.npy", pixels)
    expected = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR)
    assert_allclose(read_one(tmp_path / "a.npy", size=size), np.asarray(expected), atol=1e-3)
    colour = np.stack([pixels, 2 * pixels])
    np.save(tmp_path / "a.npy", colour)
    image = read_one(tmp_path / "a.npy", size=size)
    assert_allclose(image, np.stack([expected, 2 * np.asarray(expected)]), atol=1e-3)


@pytest.mark.parametrize("size", [(4, 5, 3), (20, 5, 12), (12, 10, 9)])
def test_volumes_are_resampled_one_axis_after_the_other(size, tmp_path, rng):
    pixels = rng.uniform(0, 255, (2, 12, 10, 9)).astype(np.float32)
    np.save(tmp_path / "a.npy", pixels)
    expected = pixels
    for axis, n in enumerate(size, start=1):
        rows = np.moveaxis(expected, axis, 0)
        table = Image.fromarray(np.ascontiguousarray(rows.reshape(len(rows), -1)))
        table = table.resize((table.width, n), Image.Resampling.BILINEAR)
        expected = np.moveaxis(np.asarray(table).reshape(n, *rows.shape[1:]), 0, axis)
    assert_allclose(read_one(tmp_path / "a.npy", size=size), expected, atol=1e-3)


def test_enlarged_volumes_are_those_of_scipy(tmp_path, rng):
    pixels = rng.uniform(0, 255, (6, 5, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", pixels)
    expected = scipy.ndimage.zoom(pixels, 2, order=1, mode="nearest", grid_mode=True)
    assert_allclose(read_one(tmp_path / "a.npy", size=(12, 10, 8)), expected, atol=1e-3)


def test_fine_stripes_do_not_become_coarse_ones(tmp_path):
    stripes = np.zeros((64, 64, 64), np.float32)
    stripes[:, :, ::2] = 100
    np.save(tmp_path / "a.npy", stripes)
    image = read_one(tmp_path / "a.npy", size=(9, 9, 9))
    assert_allclose(image, 50, atol=3)


def test_centre_is_cut_out_or_filled_up_around(tmp_path, rng):
    pixels = rng.integers(5, 200, (9, 4, 6), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    image = read_one(tmp_path / "a.npy", size=(4, 7, 6), resize="crop")
    assert image.dtype == np.uint8
    assert_array_equal(image[:, 1:5], pixels[2:6])
    assert_array_equal(image[:, [0, 5, 6]], np.full((4, 3, 6), pixels.min()))


def test_shapes_and_dtypes_in_common(tmp_path):
    for i, (shape, dtype) in enumerate([((4, 4), "u1"), ((4, 4), "i2"), ((4, 5), "f4")]):
        np.save(tmp_path / f"{i}.npy", np.full(shape, 7, dtype))
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    X = ImageFiles(paths[:2])
    assert X.dtype == np.int16
    assert np.asarray(X).dtype == np.int16
    with pytest.raises(ValueError, match=r"0\.npy has \(4, 4\), .*2\.npy has \(4, 5\). Pass size="):
        ImageFiles(paths)
    assert ImageFiles(paths, size=(4, 4), resize="crop").dtype == np.float32
    X = ImageFiles(paths, size=(4, 4), dtype="uint8")
    assert np.asarray(X).dtype == np.uint8
    assert (np.asarray(X) == 7).all()


def test_colour_among_grey(tmp_path):
    paths = [
        save_picture(tmp_path / "a.png", np.zeros((4, 4), np.uint8)),
        save_picture(tmp_path / "b.png", np.zeros((4, 4, 3), np.uint8)),
    ]
    with pytest.raises(ValueError, match=r"differ in shape.*Pass channels="):
        ImageFiles(paths)
    assert ImageFiles(paths, channels=1).shape == (2, 1, 4, 4)
    assert ImageFiles(paths, channels=3).shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("values", "dtype"), [([300.0], "u1"), ([-1], "u4"), ([1e300], "f4"), ([2], "bool")]
)
def test_numbers_beyond_the_dtype(values, dtype, tmp_path):
    np.save(tmp_path / "a.npy", np.array([values]))
    with pytest.raises(ValueError, match=r"a\.npy has numbers from .* does not hold"):
        np.asarray(ImageFiles([tmp_path / "a.npy"], dtype=dtype))


def test_transform(tmp_path):
    paths, values, _ = draw_files(tmp_path, 4)

    def brighten(image):
        image += 1  # in place
        return np.stack([image, image.astype(np.float64)])

    X = ImageFiles(paths, transform=brighten, cache="memory")
    for _ in range(2):
        assert_array_equal(X, np.repeat(values[:, None] + 1.0, 2, axis=1))
    with pytest.raises(ValueError, match=r"of .*0\.npy it returned <U3"):
        ImageFiles(paths, transform=lambda image: np.array(["abc"]))
    with pytest.raises(ValueError, match=r"transform returned for .*0\.npy NaN or infinity"):
        ImageFiles(paths, transform=lambda image: image * np.nan)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be a tuple of two or three positive integers.*or one for all"),
        ({"size": (8,)}, "size must be"),
        ({"size": (8, 0)}, "size must be"),
        ({"size": (8, 2.5)}, "size must be"),
        ({"spacing": (1, -1)}, "spacing must be a tuple of two or three positive numbers, in mm"),
        ({"spacing": (1, np.inf)}, "spacing must be"),
        ({"size": (8, 8), "spacing": (1, 1)}, "Use resize='crop'"),
        ({"size": (8, 8), "spacing": (1, 1, 1), "resize": "crop"}, "differ in their number"),
        ({"resize": "stretch"}, "resize must be 'resample' or 'crop', got 'stretch'"),
        ({"channels": 0}, "channels must be a positive integer"),
        ({"channels": True}, "channels must be a positive integer"),
        ({"dtype": "U3"}, "dtype must be one of real numbers"),
        ({"transform": 3}, "transform must be a function"),
        ({"reader": "nibabel"}, "reader must be a function"),
        ({"cache": 3}, "cache must be 'memory', a folder or None"),
        ({"cache_bytes": -1}, "cache_bytes must be an integer of at least 0"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'skip'"),
        ({"spacing": (1, 1)}, r"0\.npy: spacing=\(1.0, 1.0\) needs the distance of voxels"),
        ({"size": (8, 8, 8)}, r"0\.npy: expected 3 spatial axes.*shape \(8, 8\) with 2"),
    ],
)
def test_bad_options(options, message, tmp_path):
    paths, _, _ = draw_files(tmp_path, 2)
    with pytest.raises(ValueError, match=message):
        ImageFiles(paths, **options)


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ([], ValueError, "paths is empty"),
        ("scan.png", TypeError, "a sequence of paths"),
        (Path("scan.png"), TypeError, "a sequence of paths"),
        (["a.png", 3], TypeError, "the entry at index 1 is of type int"),
        ([b"a.png"], TypeError, "of type bytes"),
        (np.array([["a.png"]]), ValueError, r"one axis, got shape \(1, 1\)"),
    ],
)
def test_bad_paths(paths, error, message):
    with pytest.raises(error, match=message):
        ImageFiles(paths)


# Bad files -------------------------------------------------------------------------------------


def spoil(folder, kind):
    """Write a file of a kind that cannot be used."""
    path = (
        folder
        / {
            "link": "a.png",
            "text": "a.png",
            "empty": "a.nii.gz",
            "extension": "a.xyz",
            "missing": "a.npy",
            "cut nifti": "a.nii",
            "cut array": "a.npy",
            "objects": "a.npy",
            "text in nifti": "a.nii.gz",
            "text in dicom": "a.dcm",
            "plan": "plan.dcm",
            "entries": "a.npz",
            "escape": "a.npz",
            "no zip": "a.npz",
            "complex": "a.npy",
            "one axis": "a.npy",
            "folder": "a",
            "rgb nifti": "a.nii",
        }[kind]
    )
    if kind == "link":
        path.symlink_to(folder / "elsewhere.png")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "cut nifti":
        save_nifti(path, np.zeros((9, 9, 9), np.float32))
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "rgb nifti":
        save_nifti(path, np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    elif kind == "cut array":
        np.save(path, np.zeros((9, 9)))
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "objects":
        np.save(path, np.array([[1, "a"]], dtype=object))
    elif kind == "complex":
        np.save(path, np.zeros((3, 3), complex))
    elif kind == "one axis":
        np.save(path, np.zeros(3))
    elif kind == "entries":
        np.savez(path, a=np.zeros((3, 3)), b=np.zeros((3, 3)))
    elif kind == "escape":
        np.savez(folder / "b.npz", np.zeros((3, 3)))
        with zipfile.ZipFile(folder / "b.npz") as good, zipfile.ZipFile(path, "w") as bad:
            bad.writestr("../../evil.npy", good.read("arr_0.npy"))
    elif kind == "plan":
        shutil.copy(get_testdata_file("rtplan.dcm", download=False), path)
    elif kind != "missing":
        path.write_text("this is text")
    return path


BAD = {
    "missing": (FileNotFoundError, "there is no file .*a.npy"),
    "link": (FileNotFoundError, "a.png is a link to .*elsewhere.png"),
    "empty": (ValueError, "a.nii.gz: the file is empty"),
    "text": (ValueError, "a.png: cannot identify image file"),
    "text in nifti": (ValueError, "cannot read .*a.nii.gz: "),
    "text in dicom": (ValueError, "cannot read .*a.dcm: "),
    "extension": (ValueError, r"a.xyz: .* extensions \.png, .*\.npz or DICOM; got 'a.xyz'"),
    "cut nifti": (ValueError, "a.nii: it is cut short: its header needs 3268 bytes, it has 3267"),
    "cut array": (ValueError, "cannot read .*a.npy: "),
    "objects": (ValueError, "cannot read .*a.npy: "),
    "complex": (ValueError, "a.npy: expected real numbers, got complex128"),
    "rgb nifti": (ValueError, "a.nii: expected real numbers"),
    "one axis": (ValueError, "a.npy: expected an image of 2 or 3 axes"),
    "entries": (ValueError, "a.npz: expected one array, got 2: a.npy, b.npy"),
    "escape": (ValueError, "a.npz: its entry '../../evil.npy' leads out of its folder"),
    "no zip": (ValueError, "cannot read .*a.npz: "),
    "plan": (ValueError, "plan.dcm: it is a DICOM file without an image"),
    "folder": (ValueError, "a folder must be an image of DICOM or zarr; got 0 files"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_named_before_training(kind, tmp_path):
    (tmp_path / "good").mkdir()
    good, values, _ = draw_files(tmp_path / "good", 3)
    bad = spoil(tmp_path, kind)
    paths = [good[0], bad, *good[1:]]
    error, message = BAD[kind]
    with pytest.raises(error, match=message):
        ImageFiles(paths)
    with pytest.warns(UserWarning, match=f"skipped 1 of 4 files, the first .*{message}"):
        X = ImageFiles(paths, on_error="skip")
    assert_array_equal(X, values)
    assert X.kept.tolist() == [0, 2, 3]
    assert X[[2, 1]].kept.tolist() == [3, 2]
    assert X[[2, 1]].paths == [str(good[2]), str(good[1])]


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def spoil_pixels(folder, kind):
    rng = np.random.default_rng(0)
    if kind == "dicom":
        path = folder / "a.dcm"
        shutil.copy(get_testdata_file("MR_truncated.dcm", download=False), path)
        return path, dicom("MR_small.dcm").pixel_array
    if kind in ("nan", "gz"):
        values = rng.normal(size=(8, 8, 8)).astype(np.float32)
        path = save_nifti(folder / "a.nii.gz", values)
        if kind == "gz":
            cut(path)
        else:
            bad = values.copy()
            bad[3, 3, 3] = np.nan
            save_nifti(path, bad)
        return path, values
    values = rng.integers(0, 256, (64, 64), dtype=np.uint8)
    path = save_picture(folder / f"a.{kind}", values)
    cut(path)
    return path, values


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "gz", "nan", "dicom"])
def test_damage_that_headers_do_not_show(kind, tmp_path):
    bad, values = spoil_pixels(tmp_path, kind)
    np.save(tmp_path / "good.npy", values)
    paths = [tmp_path / "good.npy", bad]
    if kind not in ("tif",):  # its header is at the end
        X = ImageFiles(paths)
        with pytest.raises(ValueError, match=f"cannot read .*{bad.name}: "):
            np.asarray(X)
        make = CNN2DClassifier if values.ndim == 2 else CNN3DClassifier
        clf = make(max_epochs=1, net={"module__width": 4})
        with pytest.raises(ValueError, match=f"cannot read .*{bad.name}: "):
            clf.fit(X, [0, 1])
        assert not hasattr(clf, "net_")
    with pytest.warns(UserWarning, match=f"skipped 1 of 2 files.*{bad.name}"):
        X = ImageFiles(paths, on_error="skip")
    assert_array_equal(X, values[None])


def test_nothing_left():
    with pytest.raises(ValueError, match="none of the 2 files can be used: there is no file"):
        ImageFiles(["/nowhere/a.png", "/nowhere/b.png"], on_error="skip")


def test_decompression_bombs(tmp_path, monkeypatch):
    path = save_picture(tmp_path / "a.png", np.zeros((30, 30), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ValueError, match=r"a\.png: Image size \(900 pixels\) exceeds limit"):
        ImageFiles([path])


def test_other_formats_of_pillow_are_not_opened(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: cannot identify"):
        ImageFiles([tmp_path / "a.png"])


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
        with pytest.raises(ImportError, match=rf'{package} is missing.* "skimbal\[io\]"'):
            ImageFiles([tmp_path / name], on_error=on_error)


def test_images_of_another_number_of_axes_than_the_classifier(tmp_path):
    paths, _, y = draw_files(tmp_path, 4)
    with pytest.raises(ValueError, match=r"takes X of shape.*The first image is .*0\.npy"):
        CNN3DClassifier().fit(ImageFiles(paths), y)


# Caches ----------------------------------------------------------------------------------------


class Reader:
    """Reads arrays and counts how often."""

    def __init__(self):
        self.paths = []

    def __call__(self, path):
        self.paths.append(path)
        return np.load(path)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_cached_images_are_read_once(where, tmp_path, monkeypatch):
    paths, values, _ = draw_files(tmp_path, 6)
    read = []
    load = np.load
    monkeypatch.setattr(
        np, "load", lambda path, **options: (read.append(str(path)), load(path, **options))[1]
    )
    X = ImageFiles(paths, cache="memory" if where == "memory" else tmp_path / "cache")
    for _ in range(3):
        read.clear()
        assert_array_equal(X[[1, 3]], values[[1, 3]])
        again = [path for path in read if Path(path).parent == tmp_path]
    assert again == []
    # A file that changes is read again.
    np.save(paths[1], values[0])
    os.utime(paths[1], ns=(1, 1))
    assert_array_equal(X[[1, 3]], values[[0, 3]])
    X[1][...] = 0  # the reader may do with its image what it likes
    assert_array_equal(X[[1, 3]], values[[0, 3]])


def test_memory_of_a_cache_is_bounded(tmp_path):
    paths, _, _ = draw_files(tmp_path, 6)
    reader = Reader()
    X = ImageFiles(paths, reader=reader, cache="memory", cache_bytes=3 * 64)
    for _ in range(4):
        np.asarray(X)
    # Three of them stay, whatever else is asked for.
    counts = [reader.paths.count(str(path)) for path in paths]
    assert sorted(counts) == [1, 1, 1, 4, 4, 4]


def test_folder_of_a_cache_is_bounded(tmp_path):
    paths, values, _ = draw_files(tmp_path, 6)
    size = paths[0].stat().st_size
    folder = tmp_path / "cache"

    def entries():
        return {entry.name: entry.stat().st_mtime_ns for entry in folder.glob("*.npy")}

    X = ImageFiles(paths[:4], cache=folder, cache_bytes=3 * size)
    for _ in range(2):
        assert_array_equal(X, values[:4])
    first = entries()
    assert len(first) == 3
    # What no program uses any more gives way to another one's.
    for entry in folder.glob("*.npy"):
        os.utime(entry, (0, 0))
    X = ImageFiles(paths[4:], cache=folder, cache_bytes=3 * size)
    assert_array_equal(X, values[4:])
    assert len(entries()) == 3
    assert len(set(entries()) & set(first)) == 1


def test_a_cache_removes_no_file_of_others(tmp_path):
    paths, values, _ = draw_files(tmp_path, 2)
    folder = tmp_path / "cache"
    folder.mkdir()
    mine = [folder / name for name in ("scan.npy", "notes.tmp", "skimbal.npy")]
    for path in mine:
        with path.open("wb") as file:
            np.save(file, np.zeros((64, 64)))
        os.utime(path, (0, 0))  # long ago
    X = ImageFiles(paths, cache=folder, cache_bytes=paths[0].stat().st_size)
    assert_array_equal(X, values)
    assert all(path.exists() for path in mine)


def test_names_that_are_no_files_have_a_fingerprint_and_a_cache():
    images = {"a": np.zeros((4, 4)), "b": np.ones((4, 4))}
    X = ImageFiles(list(images), reader=images.__getitem__, cache="memory")
    assert_array_equal(X, [images["a"], images["b"]])
    assert X.fingerprint()["files"] != X[::-1].fingerprint()["files"]


def test_options_have_entries_of_their_own(tmp_path):
    paths, _, _ = draw_files(tmp_path, 2)
    folder = tmp_path / "cache"
    for size in ((4, 4), (5, 5), None):
        for resize in ("resample", "crop"):
            X = ImageFiles(paths, cache=folder, size=size, resize=resize)
            expected = ImageFiles(paths, size=size, resize=resize)
            assert_array_equal(X, expected)
            assert_array_equal(X, expected)
    with pytest.raises(ValueError, match="needs a reader that can be named"):
        ImageFiles(paths, cache=folder, reader=lambda path: np.load(path))
    assert_array_equal(
        ImageFiles(paths, cache=folder, reader=partial(np.load, mmap_mode="r")), ImageFiles(paths)
    )


def test_damaged_entries_are_made_again_and_never_unpickled(tmp_path):
    paths, values, _ = draw_files(tmp_path, 3)
    folder = tmp_path / "cache"
    X = ImageFiles(paths, cache=folder)
    np.asarray(X)
    one, two, three = sorted(folder.glob("*.npy"))
    cut(one)
    two.write_bytes(b"")
    np.save(three, np.array([print], dtype=object))
    assert_array_equal(X, values)
    for entry in (one, two, three):
        assert np.load(entry).shape == (8, 8)


def test_a_killed_program_leaves_no_half_written_entry(tmp_path):
    paths, values, _ = draw_files(tmp_path, 3, shape=(64, 64))
    folder = tmp_path / "cache"
    code = """
import os, sys
import numpy as np
from skimbal.images import ImageFiles
save = np.save
def die(file, array, **options):
    if len(os.listdir(sys.argv[1])) == 3:
        file.write(array.tobytes()[:1000])
        file.flush()
        os._exit(9)
    save(file, array, **options)
np.save = die
np.asarray(ImageFiles(sys.argv[2:], cache=sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-c", code, folder, *paths], check=False)
    assert done.returncode == 9
    assert len(list(folder.glob("*.npy"))) == 2
    (left,) = folder.glob("skimbal-part-*")
    for entry in folder.glob("*.npy"):
        assert np.load(entry).shape == (64, 64)
    os.utime(left, (0, 0))  # long ago
    assert_array_equal(ImageFiles(paths, cache=folder), values)
    assert len(list(folder.glob("*.npy"))) == 3
    assert not left.exists()


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_threads_share_a_cache(where, tmp_path):
    paths, values, _ = draw_files(tmp_path, 12)
    X = ImageFiles(paths, cache="memory" if where == "memory" else tmp_path / "cache")
    wrong = []

    def read():
        for _ in range(5):
            wrong.append(not np.array_equal(X, values))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 20
    assert not any(wrong)


# In use ----------------------------------------------------------------------------------------


def test_selections_of_files(tmp_path):
    paths, values, _ = draw_files(tmp_path)
    X = ImageFiles(paths)
    mask = np.arange(24) % 3 == 1
    for index in (
        slice(3, 20, 4),
        slice(None, None, -1),
        [5, 5, 0, -1],
        mask,
        (np.array([2]), ...),
    ):
        selected = X[index]
        assert isinstance(selected, ImageFiles)
        assert selected.shape == values[index].shape
        assert_array_equal(selected, values[index])
        again = pickle.loads(pickle.dumps(selected))
        assert_array_equal(again, values[index])
        assert again.paths == selected.paths
        assert_array_equal(again.kept, np.arange(24)[index[0] if type(index) is tuple else index])
    assert_array_equal(X[4], values[4])
    assert len(pickle.dumps(X[:2])) < len(pickle.dumps(X)) / 3
    for cache in ("memory", tmp_path / "cache"):
        cached = pickle.loads(pickle.dumps(ImageFiles(paths, cache=cache)))
        assert_array_equal(cached, values)


def test_files_in_place_of_arrays(tmp_path):
    paths, values, y = draw_files(tmp_path)
    X = ImageFiles(paths)
    clf = CNN2DClassifier(
        max_epochs=2, batch_size=8, random_state=0, sampler="balanced", train_split=0.25
    )
    expected = clf.fit(values, y).predict_proba(values)
    assert_array_equal(clf.fit(X, y).predict_proba(X), expected)
    train, test = train_test_split(X, random_state=0, stratify=y)
    assert isinstance(train, ImageFiles)
    assert len(train) + len(test) == 24
    clf.set_params(train_split=None)
    scores = cross_val_score(clf, X, y, cv=2, n_jobs=2)
    assert_array_equal(scores, cross_val_score(clf, values, y, cv=2))
    search = GridSearchCV(clf, {"loss": ["ce", "mcc"]}, cv=2).fit(X, y)
    assert search.predict(X).shape == (24,)


def test_samplers_that_select_read_no_files(tmp_path, monkeypatch):
    paths, values, y = draw_files(tmp_path)
    y = (np.arange(24) < 6).astype(int)
    X = ImageFiles(paths)
    with monkeypatch.context() as context:
        context.setattr(np, "load", None)
        selected, labels = NDSampler(RandomOverSampler(random_state=0)).fit_resample(X, y)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            NDSampler(RandomOverSampler()).fit_resample(X, y[:-1])
    assert isinstance(selected, ImageFiles)
    expected, expected_labels = NDSampler(RandomOverSampler(random_state=0)).fit_resample(values, y)
    assert_array_equal(selected, expected)
    assert_array_equal(labels, expected_labels)
    made, _ = NDSampler(SMOTE(random_state=0)).fit_resample(X, y)
    assert_array_equal(made, NDSampler(SMOTE(random_state=0)).fit_resample(values, y)[0])
    pipeline = make_pipeline(
        NDSampler(RandomOverSampler(random_state=0)), CNN2DClassifier(max_epochs=1, random_state=0)
    )
    assert pipeline.fit(X, y).predict(X).shape == (24,)


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


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["resample", "crop"])
def test_hippocampi_from_files_to_scores(resize, data_dir):
    """From a folder of real NIfTI files, of 87 shapes and two dtypes, to a cross-validation."""
    root = data_dir / "nifti_hippocampus"
    columns = {"path_column": "file", "label_column": "low_volume_15pct"}
    with pytest.raises(
        ValueError, match=r"differ in shape: .*hippocampus_001\.nii\.gz has \(35, 51"
    ):
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
    clf = CNN3DClassifier(max_epochs=2, batch_size=20, sampler="balanced", random_state=0)
    clf.set_params(net={"module__width": 4, "iterator_train__num_workers": 2})
    scores = cross_val_score(clf, data.X, data.y, cv=2, scoring="balanced_accuracy")
    assert np.isfinite(scores).all()
    # The same, bit for bit, as from an array in memory.
    values = np.asarray(data.X)
    assert_array_equal(
        scores, cross_val_score(clf, values, data.y, cv=2, scoring="balanced_accuracy")
    )


# Telling files apart --------------------------------------------------------------------------


def test_fingerprint_tells_files_apart_without_reading_them(tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.npy" for i in range(4)]
    for i, path in enumerate(paths):
        np.save(path, np.full((6, 6), i, dtype=np.uint8))
    X = ImageFiles(paths)
    monkeypatch.setattr(ImageFiles, "__array__", lambda *args, **kwargs: pytest.fail("files read"))
    first = X.fingerprint()
    assert first == ImageFiles(paths).fingerprint() == pickle.loads(pickle.dumps(X)).fingerprint()
    assert X[[1, 2]].fingerprint() == ImageFiles(paths[1:3]).fingerprint()
    monkeypatch.chdir(tmp_path)
    assert ImageFiles([path.name for path in paths]).fingerprint() == first
    others = [X[[1, 0, 2, 3]], X[[0, 1, 2, 2]], X[:3], ImageFiles(paths, dtype="float32")]
    others += [ImageFiles(paths, size=6), ImageFiles(paths, channels=1)]
    others += [ImageFiles(paths, transform=np.flip)]
    os.utime(paths[0], ns=(1, 1))
    found = [first, ImageFiles(paths).fingerprint(), *(other.fingerprint() for other in others)]
    assert all(one != other for i, one in enumerate(found) for other in found[:i])


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 10)])
@pytest.mark.parametrize("resize", ["resample", "crop"])
def test_one_number_is_the_size_of_all_axes(tmp_path, shape, resize):
    paths = [tmp_path / f"{i}.npy" for i in range(2)]
    rng = np.random.default_rng(0)
    for i, path in enumerate(paths):
        np.save(path, rng.random((shape[0] + i, *shape[1:])))
    X = ImageFiles(paths, size=7, resize=resize)
    same = ImageFiles(paths, size=(7,) * len(shape), resize=resize)
    assert X.shape == (2, *(7,) * len(shape))
    assert_array_equal(X, same)


def test_one_number_is_the_spacing_of_all_axes(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((4, 6, 8)))

    def read(path):
        return np.load(path), (2.0, 1.0, 0.5)

    X = ImageFiles([tmp_path / "a.npy"], spacing=1, reader=read)
    assert X.shape == (1, 8, 6, 4)
    assert_array_equal(X, ImageFiles([tmp_path / "a.npy"], spacing=(1, 1, 1), reader=read))
