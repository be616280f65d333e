"""The order and the distances of the slices of a DICOM volume."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skimbal.images._dicom_file import (
    functional_group,
    integer,
    number,
    numbers,
    tag,
    tag_number,
    text,
)

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "Stack",
    "check_same_series",
    "frame_stack",
    "gantry_tilt",
    "pixel_spacing",
    "series_stack",
]

#: Tags that are equal in all slices of a series.
_OF_A_SERIES = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "FrameOfReferenceUID",
    "PatientPosition",
    "ImageOrientationPatient",
    "PixelSpacing",
)
#: Tags of which a volume has one value: the kind of measurement, and its settings.
_OF_A_VOLUME = (
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "EchoNumbers",
    "StackID",
    "ImageType",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "KVP",
    "ConvolutionKernel",
)
#: Tags that differ between images at one position.
_OF_AN_IMAGE = (
    "EchoTime",
    "InversionTime",
    "TriggerTime",
    "FrameReferenceTime",
    "NominalPercentageOfCardiacPhase",
    "ImageType",
    "KVP",
    "ConvolutionKernel",
    "AcquisitionNumber",
    "AcquisitionTime",
    "InstanceNumber",
)
_OF_FRAMES = (
    ("FrameContentSequence", "StackID"),
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRImageFrameTypeSequence", "FrameType"),
    ("MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("CTImageFrameTypeSequence", "FrameType"),
    ("PETFrameTypeSequence", "FrameType"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("SegmentIdentificationSequence", "ReferencedSegmentNumber"),
)
#: Tags in which the frames of nuclear medicine differ, beside their slice.
_VECTORS = (
    "EnergyWindowVector",
    "DetectorVector",
    "PhaseVector",
    "RotationVector",
    "RRIntervalVector",
    "TimeSlotVector",
    "AngularViewVector",
    "TimeSliceVector",
)
_SLICE_POINTERS = ("SliceVector", "SliceLocationVector", "GridFrameOffsetVector")
#: Sign of the patient's axes x (to the left), y (to the back) and z (to the head) along which rows
#: and columns run as viewers show them.
_SHOWN = (1, 1, -1)
_ONE_OF_TWO = ". Remove one of them, put each volume in a separate folder, or pass a reader="
_SPLIT = (
    "A volume must have one value: put each value in a separate folder or file, or pass a reader="
)


@dataclass(frozen=True)
class Stack:
    """How slices become a volume.

    ``flips`` are the axes, -1 or -2, along which each slice is mirrored. ``distance`` is the
    distance of slices in mm, or None if the file does not state it. ``shear`` is the angle in
    degrees between the normal of the slices and the line on which they lie.
    """

    order: np.ndarray
    flips: tuple[int, ...] = ()
    distance: float | None = None
    shear: float = 0.0

    def arranged(self, volume: np.ndarray) -> np.ndarray:
        """Return a volume, (..., slices, h, w), in order."""
        return np.flip(np.take(volume, self.order, axis=-3), self.flips)


def check_same_series(paths: list[str], slices: "list[Dataset]") -> None:
    """Refuse files that are not the slices of one volume."""
    of_first = {name: _of_slice(slices[0], name) for name in _OF_A_SERIES}
    for path, dataset in zip(paths, slices, strict=True):
        if (integer(dataset, "NumberOfFrames") or 1) > 1:
            raise ValueError(f"each file of a series must hold one image; got frames in {path}")
        for name, expected in of_first.items():
            got = _of_slice(dataset, name)
            if not _is_equal_but_for_rounding(got, expected):
                # Messages end in logs, where the names of patients must not be.
                one, other = ("one", "another") if name == "PatientID" else (expected, got)
                raise ValueError(
                    f"the slices of a folder must be one series, with one {name}; got {one} "
                    f"in {paths[0]} and {other} in {path}. Put each series in a separate folder, "
                    "without localizers"
                )
    for name in _OF_A_VOLUME:
        values = list(dict.fromkeys(_setting(dataset, name) for dataset in slices))
        if len(values) > 1:
            raise ValueError(f"{tag(name)} has {len(values)} values, {_listed(values)}. {_SPLIT}")


def _setting(dataset: "Dataset", name: str) -> str:
    """Return a tag of a measurement as text, with numbers in one spelling."""
    value = text(dataset, name)
    if name == "ImageType":  # the first two values say whether an image was derived
        return "\\".join(value.split("\\")[2:])
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) or "none" for value in values[:3])
    return f"{shown}, ..." if len(values) > 3 else shown


def _of_slice(dataset: "Dataset", name: str) -> object:
    if name == "ImageOrientationPatient":
        return _orientation(dataset, 0)
    if name == "PixelSpacing":
        return pixel_spacing(dataset)
    return text(dataset, name)


def _is_equal_but_for_rounding(value: object, other: object) -> bool:
    if isinstance(value, tuple) and isinstance(other, tuple) and len(value) == len(other):
        return np.allclose(np.asarray(value, float), np.asarray(other, float), atol=1e-3)
    return bool(value == other)


def pixel_spacing(dataset: "Dataset", frame: int = 0) -> tuple[float, float] | None:
    """Return the distances of rows and of columns in mm, or None if the file lacks them."""
    measures = functional_group(dataset, frame, "PixelMeasuresSequence") or dataset
    spacing = (
        numbers(measures, "PixelSpacing")
        or numbers(dataset, "ImagerPixelSpacing")
        or numbers(dataset, "NominalScannedPixelSpacing")
        or _spacing_of_ultrasound(dataset)
    )
    if spacing is None or len(spacing) != 2 or min(spacing) <= 0:
        return None
    return spacing[0], spacing[1]


def gantry_tilt(slices: "Sequence[Dataset]") -> float:
    """Return the greatest angle of the gantry that the files state, in degrees, or 0.

    Software that straightens a volume often leaves the tag as it was.
    """
    found = [0.0]
    for dataset in slices:
        group = functional_group(dataset, 0, "CTAcquisitionDetailsSequence") or dataset
        with suppress(ValueError):  # the pixels do not depend on it
            found.append(abs(number(group, "GantryDetectorTilt") or 0.0))
    return max(found)


def _spacing_of_ultrasound(dataset: "Dataset") -> tuple[float, ...] | None:
    """Return the spacing that all regions of an ultrasound image share."""
    found = set()
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        units = [number(region, f"PhysicalUnits{axis}Direction") for axis in "YX"]
        steps = [number(region, f"PhysicalDelta{axis}") for axis in "YX"]
        is_length = units == [3, 3] and number(region, "RegionSpatialFormat") == 1
        in_mm = tuple(10 * abs(step) for step in steps if step is not None)
        found.add(in_mm if is_length and len(in_mm) == 2 else None)
    return found.pop() if len(found) == 1 else None


def series_stack(paths: list[str], slices: "list[Dataset]") -> Stack:
    """Learn the order of the files of a series."""
    orientation = _orientation(slices[0], 0)
    positions = [_position(dataset, 0) for dataset in slices]
    if orientation is None or None in positions:
        lacking = paths[0 if orientation is None else positions.index(None)]
        raise ValueError(
            f"slices must have {tag('ImagePositionPatient')} and {tag('ImageOrientationPatient')}, "
            f"which state their order; got {lacking} without them. Numbers and names of files are "
            "no proof of it. If these files are single images, such as radiographs, name each in "
            "a table, labels=, or put them into the folders of the classes. Else pass a reader= "
            "that knows the order"
        )
    stack = _stack(orientation, [p for p in positions if p is not None], paths, slices)
    if len(slices) > 1:
        return stack
    distance = number(slices[0], "SpacingBetweenSlices") or number(slices[0], "SliceThickness")
    measures = functional_group(slices[0], 0, "PixelMeasuresSequence")
    if measures is not None:
        distance = number(measures, "SliceThickness") or distance
    return Stack(stack.order, stack.flips, abs(distance) if distance else None)


def frame_stack(dataset: "Dataset", n_frames: int) -> Stack:
    """Learn the order of the frames of a file."""
    names = [f"frame {i + 1}" for i in range(n_frames)]
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame and len(per_frame) != n_frames:
        raise ValueError(
            f"{tag('NumberOfFrames')} must be the number of items of "
            f"{tag('PerFrameFunctionalGroupsSequence')}, {len(per_frame)}; got {n_frames}. Replace "
            "the file"
        )
    _check_one_volume(dataset, n_frames)
    positions = [_position(dataset, i) for i in range(n_frames)]
    if per_frame and None not in positions:
        orientation = _common_orientation(dataset, names)
        return _stack(orientation, [p for p in positions if p is not None], names, None)
    return _stack_by_offsets(dataset, n_frames, names)


def _common_orientation(dataset: "Dataset", names: list[str]) -> tuple[float, ...]:
    """Return the orientation that all frames share, and their spacing too."""
    first, spacing = _orientation(dataset, 0), pixel_spacing(dataset)
    if first is None:
        raise ValueError(f"the frames have positions without {tag('ImageOrientationPatient')}")
    for i, name in enumerate(names):
        other = _orientation(dataset, i)
        if not _is_equal_but_for_rounding(first, other):
            raise ValueError(
                f"the frames must have one {tag('ImageOrientationPatient')}; got {first} in "
                f"frame 1 and {other} in {name}. {_SPLIT}"
            )
        if not _is_equal_but_for_rounding(spacing, pixel_spacing(dataset, i)):
            raise ValueError(
                f"the frames must have one {tag('PixelSpacing')}; got {spacing} in frame 1 and "
                f"{pixel_spacing(dataset, i)} in {name}. {_SPLIT}"
            )
    return first


def _check_one_volume(dataset: "Dataset", n_frames: int) -> None:
    """Refuse frames that differ in more than their position."""
    # A file of many frames has a few macros, and to look for the others takes time.
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    present = {number for frame in frames for number in frame.keys()}  # noqa: SIM118
    for macro, name in _OF_FRAMES:
        if tag_number(macro) not in present:
            continue
        groups = (functional_group(dataset, i, macro) for i in range(n_frames))
        values = list(dict.fromkeys("" if g is None else text(g, name) for g in groups))
        if len(values) > 1:
            raise ValueError(
                f"{tag(name)} has {len(values)} values in the frames, {_listed(values)}. {_SPLIT}"
            )
    varying = [
        name for name in (*_VECTORS, "SliceVector") if len(set(numbers(dataset, name) or ())) > 1
    ]
    if len(varying) > 1:
        raise ValueError(
            f"the frames differ in {' and in '.join(tag(name) for name in varying)}. {_SPLIT}"
        )


def _stack_by_offsets(dataset: "Dataset", n_frames: int, names: list[str]) -> Stack:
    """Learn the order of frames from the position of the first and their distances."""
    orientation, start = _orientation(dataset, 0), _position(dataset, 0)
    detectors = dataset.get("DetectorInformationSequence")
    if detectors and orientation is None:
        orientation, start = _orientation(detectors[0], 0), _position(detectors[0], 0)
    offsets = _grid_offsets(dataset, n_frames, orientation, start)
    if offsets is None:
        distance = number(dataset, "SpacingBetweenSlices")
        if not distance or not _frames_are_slices(dataset):
            return Stack(np.arange(n_frames))
        offsets = [i * distance for i in range(n_frames)]
    if orientation is None:
        order, between = _order(np.asarray(offsets), names, None)
        return Stack(order, (), between)
    normal = _normal(orientation)
    origin = np.zeros(3) if start is None else np.asarray(start)
    positions = [tuple((origin + offset * normal).tolist()) for offset in offsets]
    return _stack(orientation, positions, names, None)


def _frames_are_slices(dataset: "Dataset") -> bool:
    """Say whether the frames follow each other in space, and not in time."""
    value = dataset.get("FrameIncrementPointer")
    if value is None or value == "":
        return not any(len(set(numbers(dataset, name) or ())) > 1 for name in _VECTORS)
    pointers = value if isinstance(value, Sequence) else [value]
    slices = {tag_number(name) for name in _SLICE_POINTERS}
    varies = any(len(set(numbers(dataset, name) or ())) > 1 for name in _VECTORS)
    return not varies and any(int(pointer) in slices for pointer in pointers)


def _grid_offsets(
    dataset: "Dataset",
    n_frames: int,
    orientation: tuple[float, ...] | None,
    start: tuple[float, ...] | None,
) -> list[float] | None:
    """Return the offsets of the frames of a dose along the normal of the first, in mm."""
    offsets = numbers(dataset, "GridFrameOffsetVector")
    if offsets is None:
        return None
    if len(offsets) != n_frames:
        raise ValueError(
            f"{tag('GridFrameOffsetVector')} must have {n_frames} numbers, as "
            f"{tag('NumberOfFrames')} says; got {len(offsets)}. Mend the tag"
        )
    if offsets[0] == 0:
        return list(offsets)
    if start is None or orientation is None or abs(offsets[0] - start[2]) > 1e-3:
        raise ValueError(
            f"{tag('GridFrameOffsetVector')} must begin with 0, or with the z of "
            f"{tag('ImagePositionPatient')}; got {offsets[0]:g} and {start}. Mend the tag"
        )
    z = float(_normal(orientation)[2])
    if abs(abs(z) - 1) > 1e-3:
        raise ValueError(
            f"{tag('GridFrameOffsetVector')} must begin with 0, as the planes are not axial; got "
            f"{offsets[0]:g}. Mend the tag"
        )
    return [(offset - offsets[0]) * z for offset in offsets]


def _position(dataset: "Dataset", frame: int) -> tuple[float, ...] | None:
    group = functional_group(dataset, frame, "PlanePositionSequence") or dataset
    position = numbers(group, "ImagePositionPatient")
    if position is not None and len(position) != 3:
        raise ValueError(
            f"{tag('ImagePositionPatient')} must be 3 numbers; got {position}. Mend the tag"
        )
    return position


def _orientation(dataset: "Dataset", frame: int) -> tuple[float, ...] | None:
    group = functional_group(dataset, frame, "PlaneOrientationSequence") or dataset
    plane = numbers(group, "ImageOrientationPatient")
    if plane is None:
        return None
    if len(plane) == 6:
        row, column = np.reshape(plane, (2, 3))
        lengths = np.linalg.norm(row), np.linalg.norm(column)
        if np.allclose(lengths, 1, atol=1e-2) and abs(np.dot(row, column)) < 1e-2:
            return plane
    raise ValueError(
        f"{tag('ImageOrientationPatient')} must be two directions at a right angle, of length 1; "
        f"got {plane}. Mend the tag"
    )


def _normal(orientation: Sequence[float]) -> np.ndarray:
    row, column = np.reshape(np.asarray(orientation), (2, 3))
    return np.cross(row, column)


def _stack(
    orientation: Sequence[float],
    positions: list[tuple[float, ...]],
    names: list[str],
    slices: "list[Dataset] | None",
) -> Stack:
    """Sort slices along their normal, which is taken as viewers show the slices."""
    directions = np.reshape(np.asarray(orientation), (2, 3))
    flips = []
    for axis, direction in zip((-1, -2), directions, strict=True):
        # Rounded, so that noise does not decide about a slice of 45 degrees.
        main = int(np.argmax(np.round(np.abs(direction), 2)))
        if direction[main] * _SHOWN[main] < 0:
            flips.append(axis)
    normal = _normal(orientation) * (-1) ** len(flips)
    places = np.asarray(positions)
    order, distance = _order(places @ normal, names, slices)
    shear = 0.0
    if distance is not None:
        across = places[order] @ directions.T
        steps = np.diff(across, axis=0)
        shift = steps.mean(axis=0)
        drift = across - across[0] - np.arange(len(order))[:, None] * shift
        i = int(np.argmax(np.abs(drift).max(axis=1)))
        if np.abs(drift[i]).max() > 1.0:
            raise ValueError(
                f"the slices must lie on a line; got {names[order[i]]} "
                f"{np.abs(drift[i]).max():.3g} mm beside it, by {tag('ImagePositionPatient')}. "
                "Resample the series, or pass a reader="
            )
        shear = float(np.degrees(np.arctan2(np.linalg.norm(shift), distance)))
    return Stack(order, tuple(flips), distance, shear)


def _order(
    positions: np.ndarray, names: list[str], slices: "list[Dataset] | None"
) -> tuple[np.ndarray, float | None]:
    """Sort slices by position and return their order and distance, in mm.

    A gap, two slices at one position and unequal distances are refused.
    """
    order = np.argsort(positions, kind="stable")
    gaps = np.diff(positions[order])
    if not len(gaps):
        return order, None
    usual = float(np.median(gaps))
    for i in np.flatnonzero(gaps <= max(1e-3, 0.1 * usual)):
        one, other = int(order[i]), int(order[i + 1])
        why = "".join(_differences(slices, one, other)) or _ONE_OF_TWO
        raise ValueError(
            f"the positions of slices must differ; got {names[one]} and {names[other]}, "
            f"where two slices are at one position{why}"
        )
    # More than the rounding of positions, and less than a slice.
    tolerance = min(max(0.1 * usual, 0.15), 0.5 * usual)
    for i in np.flatnonzero(np.abs(gaps - usual) > tolerance):
        is_missing = gaps[i] > 1.5 * usual
        problem = (
            "a slice is missing. Find it, or leave the series out"
            if is_missing
            else "the distance changes. Resample the series, or pass a reader="
        )
        raise ValueError(
            f"the slices must be {usual:g} mm apart; got {gaps[i]:g} mm between "
            f"{names[order[i]]} and {names[order[i + 1]]}, where {problem}"
        )
    even = positions[order[0]] + np.linspace(0, gaps.sum(), len(order))
    worst = float(np.abs(positions[order] - even).max())
    if worst > 0.5 * usual:
        raise ValueError(
            f"the slices must be equally far apart; got distances from {gaps.min():g} to "
            f"{gaps.max():g} mm. Resample the series, or pass a reader="
        )
    return order, float(gaps.mean())


def _differences(slices: "list[Dataset] | None", one: int, other: int) -> Iterator[str]:
    """Say what tells two images at one position apart."""
    if slices is None:
        return
    first, second = slices[one], slices[other]
    if first.get("SOPInstanceUID") == second.get("SOPInstanceUID"):
        yield ". Both files hold the same image: remove one"
        return
    for name in _OF_AN_IMAGE:
        values = text(first, name), text(second, name)
        if values[0] != values[1]:
            yield f". They differ in {tag(name)}: {_listed(values)}. {_SPLIT}"
            return
