"""DICOM files and series."""

import importlib
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from skimbal.images._reading import DecodedImage, ReadRequest, header_array, import_reader

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["has_dicom_mark", "read_dicom", "read_series"]


def has_dicom_mark(path: str) -> bool:
    """Recognise a DICOM file by its first bytes."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def read_dicom(path: str, request: ReadRequest) -> DecodedImage:
    """Read a file of one frame as an image, and a file of several frames as a volume."""
    pydicom = import_reader("pydicom")
    dataset = pydicom.dcmread(path, stop_before_pixels=request.header_only)
    pixels = _read_pixels(dataset, request.header_only)
    spacing = _pixel_spacing(dataset)
    n_frames = _n_frames(dataset)
    if n_frames == 1:
        return DecodedImage(pixels, 2, spacing)
    between = dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")
    if "PlanePositionSequence" in _holder_of_group(dataset, 0, "PlanePositionSequence"):
        positions = [_position_along_normal(dataset, i) for i in range(n_frames)]
        order, between = _order_slices(positions, [f"frame {i + 1}" for i in range(n_frames)])
        pixels = np.take(pixels, order, axis=-3)
    volume_spacing = (float(between), *spacing) if spacing and between else None
    return DecodedImage(pixels, 3, volume_spacing)


def read_series(paths: list[str], request: ReadRequest) -> DecodedImage:
    """Read the files of a series, sorted by name, as the slices of a volume."""
    pydicom = import_reader("pydicom")
    slices = [pydicom.dcmread(path, stop_before_pixels=request.header_only) for path in paths]
    _check_same_series(paths, slices)
    first = slices[0]
    order, between = _order_slices([_position_along_normal(part, 0) for part in slices], paths)
    planes = [_read_pixels(slices[i], request.header_only) for i in order]
    dtype = np.result_type(*{plane.dtype for plane in planes})
    if request.header_only:
        c = planes[0].shape[:-2]
        pixels = header_array((*c, len(planes), *planes[0].shape[-2:]), dtype)
    else:
        pixels = np.stack(planes, axis=-3)
    spacing = _pixel_spacing(first)
    between = between or first.get("SpacingBetweenSlices") or first.get("SliceThickness")
    return DecodedImage(pixels, 3, (float(between), *spacing) if spacing and between else None)


def _check_same_series(paths: list[str], slices: "list[Dataset]") -> None:
    first = slices[0]
    for path, dataset in zip(paths, slices, strict=True):
        if "Rows" not in dataset or _n_frames(dataset) > 1:
            raise ValueError(f"each file of a series must hold one image; got {path}")
        for name in ("SeriesInstanceUID", "Rows", "Columns", "ImageOrientationPatient"):
            if not _is_equal_but_for_rounding(dataset.get(name), first.get(name)):
                raise ValueError(
                    f"the slices of a folder must be one series, with one {name}; got "
                    f"{first.get(name)} in {paths[0]} and {dataset.get(name)} in {path}"
                )


def _is_equal_but_for_rounding(value: object, other: object) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str) and other is not None:
        return np.allclose(np.asarray(value, float), np.asarray(other, float), atol=1e-3)
    return bool(value == other)


def _n_frames(dataset: "Dataset") -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _holder_of_group(dataset: "Dataset", frame: int, macro: str) -> "Dataset":
    """Return the part of a data set that holds a functional group of a frame.

    The groups of the frame come first, then the groups that all frames share. A data set without
    functional groups is returned as it is.
    """
    for name, i in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = dataset.get(name)
        if groups and macro in groups[i]:
            holder: Dataset = groups[i]
            return holder
    return dataset


def _functional_group(dataset: "Dataset", frame: int, macro: str) -> "Dataset":
    """Return a functional group of a frame, or the data set itself if it has no such group."""
    holder = _holder_of_group(dataset, frame, macro)
    group: Dataset = dataset if holder is dataset else holder[macro][0]
    return group


def _position_along_normal(dataset: "Dataset", frame: int) -> float:
    """Return the position of a slice along the normal of its plane, in mm."""
    position_group = _functional_group(dataset, frame, "PlanePositionSequence")
    position = position_group.get("ImagePositionPatient")
    plane_group = _functional_group(dataset, frame, "PlaneOrientationSequence")
    plane = plane_group.get("ImageOrientationPatient")
    if position is None or plane is None:
        raise ValueError(
            "slices must have ImagePositionPatient and ImageOrientationPatient, which state their "
            "order; got a slice without them. Pass a reader= that knows the order"
        )
    along, across = np.reshape(np.asarray(plane, dtype=float), (2, 3))
    return float(np.dot(np.cross(along, across), np.asarray(position, dtype=float)))


def _order_slices(positions: list[float], names: list[str]) -> tuple[np.ndarray, float | None]:
    """Sort slices by position and return their order and distance, in mm.

    A gap and two slices at one position are refused.
    """
    order = np.argsort(positions, kind="stable")
    gaps = np.diff(np.asarray(positions)[order])
    if not len(gaps):
        return order, None
    usual = float(np.median(gaps))
    # Half a distance is more than rounding and less than a slice.
    for i in np.flatnonzero(np.abs(gaps - usual) > 0.5 * usual if usual > 1e-3 else gaps < 1e-3):
        one, other = (names[k] for k in order[i : i + 2])
        problem = "a slice is missing" if gaps[i] > usual else "two slices are at one position"
        raise ValueError(
            f"the slices must be {usual:g} mm apart; got {gaps[i]:g} mm between {one} and {other}, "
            f"where {problem}"
        )
    return order, usual


def _pixel_spacing(dataset: "Dataset") -> tuple[float, ...] | None:
    measures = _functional_group(dataset, 0, "PixelMeasuresSequence")
    spacing = measures.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    return tuple(float(mm) for mm in spacing) if spacing else None


def _read_pixels(dataset: "Dataset", header_only: bool) -> np.ndarray:
    """Return the values of a data set, colours first: (h, w) or (frames, h, w) of each."""
    if "Rows" not in dataset:
        raise ValueError("it is a DICOM file without an image")
    values = _stored_header(dataset) if header_only else _stored_values(dataset)
    if _is_colour(dataset):
        return np.moveaxis(values, -1, 0)
    return _rescale(dataset, values, header_only)


def _is_colour(dataset: "Dataset") -> bool:
    is_palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
    return bool(dataset.SamplesPerPixel > 1 or is_palette)


def _stored_header(dataset: "Dataset") -> np.ndarray:
    """Return an array of the shape and dtype of :func:`_stored_values`."""
    bits, is_signed = dataset.BitsAllocated, dataset.get("PixelRepresentation")
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        dtype = f"u{dataset.RedPaletteColorLookupTableDescriptor[2] // 8}"
    elif is_signed is None:
        dtype = f"f{bits // 8}"
    else:
        dtype = f"{'i' if is_signed else 'u'}{max(1, bits // 8)}"
    shape = (dataset.Rows, dataset.Columns, *[3] * _is_colour(dataset))
    n_frames = _n_frames(dataset)
    return header_array((n_frames, *shape) if n_frames > 1 else shape, dtype)


def _stored_values(dataset: "Dataset") -> np.ndarray:
    """Decode the stored values, apply a palette, and invert MONOCHROME1."""
    pixels = importlib.import_module("pydicom.pixels")
    values: np.ndarray = pixels.pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = pixels.apply_color_lut(values, dataset)
    elif dataset.PhotometricInterpretation == "MONOCHROME1":
        # pydicom's apply_presentation_lut subtracts from the largest value of the image, so that
        # the meaning of a value would differ between images.
        largest = -1 if dataset.get("PixelRepresentation") else 2**dataset.BitsStored - 1
        values = largest - values
    return values


def _rescale(dataset: "Dataset", values: np.ndarray, header_only: bool) -> np.ndarray:
    """Apply a modality table, or the slope and intercept of each frame."""
    n_frames = _n_frames(dataset)
    groups = [
        _functional_group(dataset, i, "PixelValueTransformationSequence") for i in range(n_frames)
    ]
    # pydicom's apply_rescale ignores a slope without an intercept, and an intercept without a
    # slope, and makes floating-point numbers of integers that stay the same.
    slopes = np.array([float(group.get("RescaleSlope", 1)) for group in groups])
    intercepts = np.array([float(group.get("RescaleIntercept", 0)) for group in groups])
    has_table = "ModalityLUTSequence" in dataset
    if not has_table and (slopes == 1).all() and (intercepts == 0).all():
        return values
    if header_only:
        return header_array(values.shape, np.float32)
    if has_table:
        values = importlib.import_module("pydicom.pixels").apply_modality_lut(values, dataset)
    elif n_frames > 1:
        values = values * slopes[:, None, None] + intercepts[:, None, None]
    else:
        values = values * slopes[0] + intercepts[0]
    return np.asarray(values, dtype=np.float32)
