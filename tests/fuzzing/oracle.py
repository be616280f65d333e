"""What must hold for every file: a right array, or an error that names the file."""

import gc
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import nibabel
import numpy as np
import pydicom
import tifffile
import zarr
from PIL import Image, ImageOps

from skimbal.images import ImageFiles
from tests.fuzzing.data_sets import MAKERS, Files, WrongDataError, check_set, write_set
from tests.fuzzing.mutations import damage
from tests.fuzzing.seeds import SEEDS

#: Greatest image that is read, so that a file of few bytes need not take memory.
MAX_PIXELS = 2**20
#: Greatest time of a processor that a file of few bytes may take.
SECONDS = 5.0
PICTURES = ("PNG", "JPEG", "BMP", "WebP")
OPTIONS: tuple[dict[str, object], ...] = (
    *({}, {}, {}, {}, {"channels": 1}, {"channels": 3}, {"size": 5}, {"size": 6, "resize": "crop"}),
    *({"intensity": "percentiles"}, {"intensity": "full_range"}, {"spacing": 1.5}),
    *({"channel_axis": -1}, {"dtype": "float32"}, {"on_error": "skip"}),
)


class Finding(AssertionError):
    """A file after which anything but a right array or an error with its name came."""


class Inputs:
    """Damaged files by number: the same number is the same file in every run."""

    def __init__(self, names: list[str], seed: int) -> None:
        self.seed = seed
        self.names = sorted(names)
        self.units = {name: SEEDS[name]() for name in names if name in SEEDS}

    def __call__(self, number: int) -> tuple[str, Files, dict[str, Any]]:
        """Return the format or kind of a data set, the files, and the options or facts."""
        random = Random(f"{self.seed} {number}")
        name = self.names[number % len(self.names)]
        if name in MAKERS:
            return name, *MAKERS[name](random)
        unit = damage(random.choice(self.units[name]), name, random)
        return name, unit, random.choice(OPTIONS)


def write(unit: Files, folder: Path, name: str) -> Path:
    """Write an image into an empty folder, and return its path: a file or a folder."""
    if name in MAKERS:
        return write_set(unit, folder)
    where = folder / "whole" if name == "zarr" or len(unit) > 1 else folder
    for file, data in unit.items():
        path = where / file
        path.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(data, bytes)
        path.write_bytes(data)
    return where if where != folder else folder / next(iter(unit))


def check(path: Path, name: str, options: dict[str, Any]) -> str:
    """Read an image or data set and return "read" or "refused", or raise a Finding."""
    before = _state(path)
    start = time.process_time()
    with _recorded() as said:
        try:
            if name in MAKERS:
                image, outcome = None, check_set(path, name, options)
            else:
                image, outcome = _read(path, options), "read"
        except (ValueError, FileNotFoundError, PermissionError) as error:
            image, outcome = None, "refused"
            if path.name not in str(error):
                raise Finding(f"an error without the name of the file: {error!r}") from error
        except Finding:
            raise
        except WrongDataError as error:
            raise Finding(str(error)) from error
        except ImportError as error:
            image, outcome = None, "refused"
            if "install" not in str(error):
                raise Finding(f"an error without a remedy: {error!r}") from error
        except BaseException as error:
            raise Finding(f"an error of another kind: {error!r}") from error
    seconds = time.process_time() - start
    if seconds > SECONDS:
        raise Finding(f"it took {seconds:.1f} s")
    after = _state(path)
    if after != before:
        gc.collect()  # an error keeps the frames in which it came, and their files
        after = _state(path)
    # Objects of other tests may close their files meanwhile.
    after[OPEN_FILES] = max(after[OPEN_FILES], before[OPEN_FILES])
    for fact, value in before.items():
        if after[fact] != value:
            raise Finding(f"{fact} was {value}, and then {after[fact]}")
    if image is not None and not set(options) - {"on_error"}:
        _compare(path, name, image)
    for text in said:
        if path.name not in text:
            raise Finding(f"a warning without the name of the file: {text}")
    return outcome


def _read(path: Path, options: dict[str, object]) -> np.ndarray:
    images = ImageFiles([path], max_pixels=MAX_PIXELS, **options)
    image = images[0]
    if (image.shape, image.dtype) != (images.shape[1:], images.dtype):
        stated = f"{images.shape[1:]}, {images.dtype}"
        raise Finding(f"the header states {stated}; got {image.shape}, {image.dtype}")
    if image.dtype.kind not in "biuf" or not np.isfinite(image).all() or not image.size:
        raise Finding(f"pixels that are no finite real numbers: {image.dtype}, {image.shape}")
    return image


@contextmanager
def _recorded() -> Iterator[list[str]]:
    """Collect warnings, and what libraries log."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(f"log of {record.name}: {record.getMessage()}")

    listener = Listener(logging.WARNING)
    logging.getLogger().addHandler(listener)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
            said += [f"{item.category.__name__}: {item.message}" for item in caught]
    finally:
        logging.getLogger().removeHandler(listener)


OPEN_FILES = "the number of open files"


def _state(path: Path) -> dict[str, Any]:
    """Return what must be as before after every call."""
    top = path.parent
    return {
        "the folder": sorted(str(file.relative_to(top)) for file in top.rglob("*")),
        OPEN_FILES: len(os.listdir("/proc/self/fd")),
        "the working folder": os.getcwd(),
        "the limit of pillow": Image.MAX_IMAGE_PIXELS,
        "numpy's treatment of errors": np.geterr(),
        "the number of filters of warnings": len(warnings.filters),
    }


# The readers that define what is right --------------------------------------------------------


def _compare(path: Path, name: str, image: np.ndarray) -> None:
    """Compare an image with the reference reader, where that reads the file too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = _REFERENCES.get(name, _picture)(path)
        except (Exception, MemoryError):
            return
    if expected is None:
        return
    got, wanted = np.squeeze(image), np.squeeze(expected)
    if got.shape != wanted.shape:
        raise Finding(f"the reference reader has shape {expected.shape}; got {image.shape}")
    if not np.allclose(got, wanted, rtol=1e-5, atol=1e-5, equal_nan=True):
        n = int((~np.isclose(got, wanted, rtol=1e-5, atol=1e-5)).sum())
        raise Finding(f"the reference reader has other numbers in {n} of {got.size}")


def _picture(path: Path) -> np.ndarray | None:
    with Image.open(path) as picture:
        if picture.mode not in ("L", "RGB", "RGBA") or "transparency" in picture.info:
            return None
        if picture.tile and ("16B" in str(picture.tile[0]) or ";2" in str(picture.tile[0])):
            return None
        picture.load()
        pixels = np.asarray(ImageOps.exif_transpose(picture))
    return np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels


def _tiff(path: Path) -> np.ndarray | None:
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        is_plain = page.photometric == 1 and page.samplesperpixel == 1
        is_plain &= page.bitspersample in (8, 16, 32, 64) and page.tags.valueof(274, 1) == 1
        # Thumbnails among the pages are left out, which tifffile takes for slices.
        is_plain &= not any(part.aspage().is_reduced for part in tif.pages)
        if not is_plain or len(tif.series) != 1:
            return None
        return tif.series[0].asarray()


def _nifti(path: Path) -> np.ndarray | None:
    image = nibabel.load(path)
    if image.get_data_dtype().names:
        return None
    pixels = nibabel.as_closest_canonical(image).get_fdata()
    return np.moveaxis(pixels, range(3, pixels.ndim), range(pixels.ndim - 3))


def _dicom(path: Path) -> np.ndarray | None:
    if path.is_dir():
        return None
    dataset = pydicom.dcmread(path)
    plain = "PixelPaddingValue" not in dataset and "ModalityLUTSequence" not in dataset
    plain &= dataset.PhotometricInterpretation == "MONOCHROME2" and dataset.Modality == "OT"
    # pydicom ignores a slope without an intercept, and an intercept without a slope.
    missing = [dataset.get(name) in (None, "") for name in ("RescaleSlope", "RescaleIntercept")]
    plain &= len(set(missing)) == 1
    if not plain or int(dataset.get("NumberOfFrames") or 1) > 1 or dataset.SamplesPerPixel > 1:
        return None
    return pydicom.pixels.apply_rescale(dataset.pixel_array, dataset)


def _npz(path: Path) -> np.ndarray:
    with np.load(path) as archive:
        return archive[archive.files[0]]


_REFERENCES = {
    "TIFF": _tiff,
    "NIfTI": _nifti,
    "DICOM": _dicom,
    "npy": np.load,
    "npz": _npz,
    "zarr": lambda path: np.asarray(zarr.open_array(path, mode="r")[...]),
}
