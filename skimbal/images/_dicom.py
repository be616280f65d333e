"""DICOM files and series as images."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from skimbal.images._dicom_file import DicomFile, has_dicom_mark, integer, open_dicom, tag, text
from skimbal.images._dicom_pixels import PixelModule, check_length, decode, pixel_module
from skimbal.images._dicom_series import (
    Stack,
    check_same_series,
    frame_stack,
    gantry_tilt,
    pixel_spacing,
    series_stack,
)
from skimbal.images._dicom_values import ValueScale, value_scale
from skimbal.images._reading import DecodedImage, ReadRequest, header_array

__all__ = ["has_dicom_mark", "read_dicom", "read_series"]

#: Degrees between the normal of the slices and the line on which they lie, above which they are
#: called sheared. Positions are rounded.
_SHEAR = 1.0


def read_dicom(path: str, request: ReadRequest) -> DecodedImage:
    """Read a file of one frame as an image, and a file of several frames as a volume."""
    file = open_dicom(path)
    module = pixel_module(file)
    request.check_size(module.shape)
    check_length(file, module)
    scale = value_scale(file.dataset, module)
    spacing: tuple[float, ...] | None = pixel_spacing(file.dataset)
    stack = frame_stack(file.dataset, module.n_frames) if module.n_frames > 1 else None
    if stack is not None:
        spacing = _volume_spacing(stack, spacing)
        _warn_if_sheared(path, stack, gantry_tilt([file.dataset]), request)
    if request.header_only:
        pixels = header_array(module.shape, scale.dtype)
    else:
        pixels = _without_padding(*_image(file, module, scale))
        if stack is not None:
            pixels = stack.arranged(pixels)
    n_spatial = 2 if stack is None else 3
    doubt = _doubt(file, scale)
    return DecodedImage(pixels, n_spatial, spacing, scale.full_range, scale.unit, doubt)


def read_series(paths: list[str], request: ReadRequest) -> DecodedImage:
    """Read the files of a series as the slices of a volume."""
    files, parts = [], []
    for path in paths:
        with _naming_slice(path):
            files.append(open_dicom(path))
    slices = [file.dataset for file in files]
    if len(files) == 1 and (integer(slices[0], "NumberOfFrames") or 1) > 1:
        return read_dicom(paths[0], request)
    check_same_series(paths, slices)
    for file in files:
        with _naming_slice(file.path):
            module = pixel_module(file)
            request.check_size(module.shape)
            check_length(file, module)
            parts.append((file, module, value_scale(file.dataset, module)))
    stack = series_stack(paths, slices)
    full_range, unit = _common_scale(paths, [scale for _, _, scale in parts])
    plane = parts[0][1].shape
    shape = (*plane[:-2], len(parts), *plane[-2:])
    request.check_size(shape)
    _warn_if_sheared(os.path.dirname(paths[0]), stack, gantry_tilt(slices), request)
    dtype = np.result_type(*{scale.dtype for _, _, scale in parts})
    if request.header_only:
        pixels = header_array(shape, dtype)
    else:
        pixels = np.empty(shape, dtype)
        padding = None
        for place, i in enumerate(stack.order):
            with _naming_slice(paths[i]):
                pixels[..., place, :, :], is_padding = _image(*parts[i])
            if is_padding is not None and is_padding.any():
                padding = np.zeros(shape, bool) if padding is None else padding
                padding[..., place, :, :] = is_padding
        pixels = np.flip(_without_padding(pixels, padding), stack.flips)
    spacing = _volume_spacing(stack, pixel_spacing(slices[0]))
    return DecodedImage(pixels, 3, spacing, full_range, unit, _doubt(files[0], parts[0][2]))


def _doubt(file: DicomFile, scale: ValueScale) -> str | None:
    """Say that the numbers of a CT may not be the Hounsfield units that all expect."""
    dataset = file.dataset
    is_grey = integer(dataset, "SamplesPerPixel") == 1 and scale.table is None
    if text(dataset, "Modality") != "CT" or not is_grey or scale.is_rescaled:
        return None
    return (
        f"it is a CT without {tag('RescaleSlope')} and {tag('RescaleIntercept')}, so its numbers "
        "are not known to be Hounsfield units, which a window in intensity= supposes"
    )


@contextmanager
def _naming_slice(path: str) -> Iterator[None]:
    """Name the file of a slice in every error about it."""
    try:
        yield
    except (ImportError, MemoryError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        raise ValueError(f"{path}: {str(error) or type(error).__name__}") from error


def _common_scale(
    paths: list[str], scales: list[ValueScale]
) -> tuple[tuple[float, float] | None, str | None]:
    """Return the range and the unit of a series, whose slices must share them."""
    first = scales[0]
    # A slope for each slice brings them to one scale.
    is_stored = not all(scale.is_rescaled for scale in scales)
    for path, scale in zip(paths, scales, strict=True):
        if scale.unit != first.unit or (is_stored and scale.full_range != first.full_range):
            raise ValueError(
                f"the slices of a series must have one scale; got unit {first.unit} and range "
                f"{first.full_range} in {paths[0]}, and unit {scale.unit} and range "
                f"{scale.full_range} in {path}. Mend the rescale tags, or pass a reader="
            )
    ranges = [scale.full_range for scale in scales if scale.full_range is not None]
    if len(ranges) < len(scales):
        return None, first.unit
    return (min(r[0] for r in ranges), max(r[1] for r in ranges)), first.unit


def _volume_spacing(stack: Stack, plane: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return (stack.distance, *plane) if stack.distance and plane else None


def _warn_if_sheared(path: str, stack: Stack, tilt: float, request: ReadRequest) -> None:
    # Headers are read once for each file, and pixels many times.
    if not request.header_only or stack.distance is None or len(stack.order) < 2:
        return
    if stack.shear > _SHEAR:
        warnings.warn(
            f"the slices of {path} are sheared by {stack.shear:.3g} degrees, as of a tilted "
            "gantry. Each is shifted along its plane against the slice before it, and the volume "
            "is read as it is. Straighten it first if shapes matter, as dcm2niix does.",
            UserWarning,
            stacklevel=2,
        )
    elif tilt > _SHEAR:
        warnings.warn(
            f"{path} states a tilted gantry, {tag('GantryDetectorTilt')} {tilt:.3g}, and positions "
            "of slices that are not sheared. The volume is read as the positions say. Look whether "
            "it was straightened. If it was not, shapes in it are wrong.",
            UserWarning,
            stacklevel=2,
        )


def _image(
    file: DicomFile, module: PixelModule, scale: ValueScale
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the numbers of a file, colours first, and a mask of padding."""
    values, padding = decode(file, module)
    pixels = scale.apply(values)
    return np.moveaxis(pixels, -1, 0) if module.is_colour else pixels, padding


def _without_padding(pixels: np.ndarray, padding: np.ndarray | None) -> np.ndarray:
    """Give padding the least value of the image, so that it is black and not extreme."""
    if padding is not None and padding.any() and not padding.all():
        pixels[padding] = pixels[~padding].min()
    return pixels
