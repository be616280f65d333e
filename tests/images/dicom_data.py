"""DICOM data sets that the tests make, tag by tag."""

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

UID = "1.2.826.0.1.3680043.8.498"
AXIAL = [1, 0, 0, 0, 1, 0]


def item(**tags):
    """Return a data set of a few tags, such as an item of a sequence."""
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def make(stored, **tags):
    """Return a data set around stored values, (rows, columns) or (frames, rows, columns).

    Colours are last. A tag of None is left out, and tags override the usual values.
    """
    stored = np.asarray(stored)
    is_colour = stored.ndim > 2 and stored.shape[-1] == 3
    plane = stored.shape[-3:-1] if is_colour else stored.shape[-2:]
    n_axes = 3 if is_colour else 2
    usual = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7",
        "SOPInstanceUID": f"{UID}.1",
        "SeriesInstanceUID": f"{UID}.2",
        "Modality": "OT",
        "SamplesPerPixel": 3 if is_colour else 1,
        "PhotometricInterpretation": "RGB" if is_colour else "MONOCHROME2",
        "Rows": plane[0],
        "Columns": plane[1],
        "BitsAllocated": stored.dtype.itemsize * 8,
    }
    if is_colour:
        usual["PlanarConfiguration"] = 0
    if stored.ndim > n_axes:
        usual["NumberOfFrames"] = stored.shape[0]
    keyword = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(stored.dtype.str[1:])
    if keyword is None:
        bits = tags.get("BitsStored") or tags.get("BitsAllocated", usual["BitsAllocated"])
        usual["BitsStored"], usual["HighBit"] = bits, bits - 1
        usual["PixelRepresentation"] = int(stored.dtype.kind == "i")
        keyword = "PixelData"
    data = stored.tobytes()
    usual[keyword] = data + b"\0" * (len(data) % 2)
    dataset = item(**{n: v for n, v in {**usual, **tags}.items() if v is not None})
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if dataset.BitsAllocated <= 8 else "OW"
    return dataset


def save(dataset, path, syntax=None, **options):
    """Write a data set, in another transfer syntax if one is given."""
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, enforce_file_format=True, **options)
    return path


def save_slices(folder, positions, names=None, pixels=None, orientation=AXIAL, **tags):
    """Write slices of a series. Slice i has the values i, or ``pixels[i]``.

    A tag that is a list of as many values as there are slices has a value for each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i, position in enumerate(positions):
        place = [0, 0, position] if np.isscalar(position) else list(position)
        own = {
            name: value[i] if isinstance(value, list) and len(value) == len(positions) else value
            for name, value in tags.items()
        }
        stored = np.full((4, 5), i, np.int16) if pixels is None else pixels[i]
        usual = {
            "Modality": "CT",
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "SOPInstanceUID": f"{UID}.9.{i + 1}",
            "ImagePositionPatient": place,
            "ImageOrientationPatient": list(orientation),
            "PixelSpacing": [2, 3],
            "RescaleSlope": 1,
            "RescaleIntercept": 0,
        }
        name = f"{(i * 7) % 10}{i}" if names is None else names[i]
        save(make(stored, **{**usual, **own}), folder / name)
    return folder


def enhanced(stored, frames, shared=None, **tags):
    """Return an enhanced data set: a dict of macros and their tags for each frame."""
    dataset = make(stored, **tags)
    dataset.PerFrameFunctionalGroupsSequence = [_groups(macros) for macros in frames]
    dataset.SharedFunctionalGroupsSequence = [
        _groups(
            {
                "PlaneOrientationSequence": {"ImageOrientationPatient": AXIAL},
                "PixelMeasuresSequence": {"PixelSpacing": [2, 3]},
                **(shared or {}),
            }
        )
    ]
    return dataset


def _groups(macros):
    return item(**{macro: [item(**tags)] for macro, tags in macros.items()})


def placed(z, **macros):
    """Return the macros of a frame at a position."""
    return {"PlanePositionSequence": {"ImagePositionPatient": [0, 0, z]}, **macros}
