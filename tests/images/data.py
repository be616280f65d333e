"""Images, files and series that the tests of images share."""

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file

from skimbal.images import ImageFiles, ReadRequest
from skimbal.images.formats import read_image


def draw(n=40, shape=(6, 6)):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = rng.integers(0, 200, size=(n, *shape), dtype=np.uint8)
    X[y == 1, :3, :3] += 50
    return X, y


def draw_files(folder, n=24, shape=(8, 8), dtype=np.uint8):
    """Write files of which those of class 1 are brighter in a corner."""
    X, y = draw(n, shape)
    paths = [folder / f"{i}.npy" for i in range(n)]
    for path, image in zip(paths, X.astype(dtype), strict=True):
        np.save(path, image)
    return paths, X.astype(dtype), y


def read_one(path, **options):
    """Read one image by way of ImageFiles, which has known its shape and dtype before."""
    X = ImageFiles([path], **options)
    image = X[0]
    assert (X.shape, X.dtype) == ((1, *image.shape), image.dtype)
    assert np.asarray(X).flags.c_contiguous
    return image


def read_file(path, channels=None):
    """Read one file as its format does, and check that its header tells the same."""
    image = read_image(str(path), ReadRequest(channels))
    head = read_image(str(path), ReadRequest(channels, header_only=True))
    assert (head.pixels.shape, head.pixels.dtype) == (image.pixels.shape, image.pixels.dtype)
    assert head[1:] == image[1:]
    assert image.pixels.dtype.isnative
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


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
