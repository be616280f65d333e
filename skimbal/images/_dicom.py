"""DICOM files and series."""

import importlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from skimbal.images._reading import DecodedImage, header_array, import_needed

__all__ = ["has_dicom_mark", "read_dicom", "read_series"]


def has_dicom_mark(path: str) -> bool:
    """Tell a DICOM file by its first bytes, as many have no extension."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def read_dicom(path: str, channels: int | None, header_only: bool) -> DecodedImage:
    pydicom = import_needed("pydicom", "pydicom")
    dataset = pydicom.dcmread(path, stop_before_pixels=header_only)
    pixels = _dicom_pixels(dataset, header_only)
    spacing = _dicom_spacing(dataset)
    n_frames = _n_frames(dataset)
    if n_frames == 1:
        return DecodedImage(pixels, 2, spacing)
    between = dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")
    if "PlanePositionSequence" in _functional(dataset, 0, "PlanePositionSequence", holder=True):
        order, between = _in_order([_place(dataset, i) for i in range(n_frames)])
        pixels = np.take(pixels, order, axis=-3)
    volume_spacing = (float(between), *spacing) if spacing and between else None
    return DecodedImage(pixels, 3, volume_spacing)


def read_series(paths: list[str], channels: int | None, header_only: bool) -> DecodedImage:
    """Read the slices of a series, sorted by name, as a volume."""
    pydicom = import_needed("pydicom", "pydicom")
    slices = [pydicom.dcmread(path, stop_before_pixels=header_only) for path in paths]
    first = slices[0]
    for path, dataset in zip(paths, slices, strict=True):
        if "Rows" not in dataset or _n_frames(dataset) > 1:
            raise ValueError(f"{path} is no single slice of a series")
        for name in ("SeriesInstanceUID", "Rows", "Columns", "ImageOrientationPatient"):
            if not _alike(dataset.get(name), first.get(name)):
                raise ValueError(
                    f"its slices differ in {name}: {paths[0]} has {first.get(name)}, {path} has "
                    f"{dataset.get(name)}; expected one series, a folder for each"
                )
    order, between = _in_order([_place(dataset, 0) for dataset in slices], paths)
    planes = [_dicom_pixels(slices[i], header_only) for i in order]
    dtype = np.result_type(*{plane.dtype for plane in planes})
    if header_only:
        c = planes[0].shape[:-2]
        pixels = header_array((*c, len(planes), *planes[0].shape[-2:]), dtype)
    else:
        pixels = np.stack(planes, axis=-3)
    spacing = _dicom_spacing(first)
    between = between or first.get("SpacingBetweenSlices") or first.get("SliceThickness")
    return DecodedImage(pixels, 3, (float(between), *spacing) if spacing and between else None)


def _alike(value: Any, other: Any) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str) and other is not None:
        return np.allclose(np.asarray(value, float), np.asarray(other, float), atol=1e-3)
    return bool(value == other)


def _n_frames(dataset: Any) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _functional(dataset: Any, frame: int, macro: str, *, holder: bool = False) -> Any:
    """Return what says a fact of a frame: its functional group, that of all, or the data set."""
    for name, i in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = dataset.get(name)
        if groups and macro in groups[i]:
            return groups[i] if holder else groups[i][macro][0]
    return dataset


def _place(dataset: Any, frame: int) -> float:
    """Return where a slice lies along the normal of its plane, in mm."""
    position = _functional(dataset, frame, "PlanePositionSequence").get("ImagePositionPatient")
    plane = _functional(dataset, frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
    if position is None or plane is None:
        raise ValueError(
            "its slices do not tell their position (ImagePositionPatient and "
            "ImageOrientationPatient), so their order is not known; use a reader= of your own"
        )
    along, across = np.reshape(np.asarray(plane, dtype=float), (2, 3))
    return float(np.dot(np.cross(along, across), np.asarray(position, dtype=float)))


def _in_order(
    places: list[float], names: list[str] | None = None
) -> tuple[np.ndarray, float | None]:
    """Sort slices by place; refuse a gap and two at one place. Return order and distance, mm."""
    order = np.argsort(places, kind="stable")
    gaps = np.diff(np.asarray(places)[order])
    if not len(gaps):
        return order, None
    usual = float(np.median(gaps))
    # Half a distance is more than rounding and less than a slice.
    for i in np.flatnonzero(np.abs(gaps - usual) > 0.5 * usual if usual > 1e-3 else gaps < 1e-3):
        pair = [names[k] if names else f"frame {k + 1}" for k in order[i : i + 2]]
        what = "a slice is missing" if gaps[i] > usual else "two slices are at one position"
        raise ValueError(
            f"{what}: {pair[0]} and {pair[1]} are {gaps[i]:g} mm apart, others {usual:g} mm"
        )
    return order, usual


def _dicom_spacing(dataset: Any) -> tuple[float, ...] | None:
    measures = _functional(dataset, 0, "PixelMeasuresSequence")
    spacing = measures.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    return tuple(float(mm) for mm in spacing) if spacing else None


def _dicom_pixels(dataset: Any, header_only: bool) -> np.ndarray:
    """Return the values of a data set, colours first: (h, w) or (frames, h, w) of each."""
    if "Rows" not in dataset:
        raise ValueError("it is a DICOM file without an image")
    pixels = importlib.import_module("pydicom.pixels")
    n_frames, kind = _n_frames(dataset), dataset.PhotometricInterpretation
    lines = [_functional(dataset, i, "PixelValueTransformationSequence") for i in range(n_frames)]
    slopes = np.array([float(line.get("RescaleSlope", 1)) for line in lines])
    intercepts = np.array([float(line.get("RescaleIntercept", 0)) for line in lines])
    has_table = "ModalityLUTSequence" in dataset
    is_rescaled = has_table or (slopes != 1).any() or (intercepts != 0).any()
    bits, is_signed = dataset.BitsAllocated, dataset.get("PixelRepresentation")
    is_colour = dataset.SamplesPerPixel > 1 or kind == "PALETTE COLOR"
    if header_only:
        if kind == "PALETTE COLOR":
            dtype = f"u{dataset.RedPaletteColorLookupTableDescriptor[2] // 8}"
        elif is_signed is None:
            dtype = f"f{bits // 8}"
        else:
            dtype = f"{'i' if is_signed else 'u'}{max(1, bits // 8)}"
        shape = (dataset.Rows, dataset.Columns, *[3] * is_colour)
        values = header_array((n_frames, *shape) if n_frames > 1 else shape, dtype)
    else:
        values = pixels.pixel_array(dataset)
        if kind == "PALETTE COLOR":
            values = pixels.apply_color_lut(values, dataset)
        elif kind == "MONOCHROME1":
            values = (-1 if is_signed else 2**dataset.BitsStored - 1) - values
    if is_colour:
        return np.moveaxis(values, -1, 0)
    if not is_rescaled:
        return values
    if header_only:
        return header_array(values.shape, np.float32)
    if has_table:
        values = pixels.apply_modality_lut(values, dataset)
    elif n_frames > 1:
        values = values * slopes[:, None, None] + intercepts[:, None, None]
    else:
        values = values * slopes[0] + intercepts[0]
    return np.asarray(values, dtype=np.float32)
