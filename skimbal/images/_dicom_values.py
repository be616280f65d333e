"""What the stored values of a DICOM file mean: tables, slopes, units, colours, inversion."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skimbal.images._dicom_file import functional_group, integer, number, numbers, tag, text
from skimbal.images._dicom_pixels import PixelModule
from skimbal.images._reading import import_reader

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["ValueScale", "value_scale"]

#: Terms of the standard for the result of a rescale. "US" is unspecified. Makers write others.
_UNITS = ("HU", "HU_MOD", "OD", "MGML", "PCT", "Z_EFF", "ED", "EDW")
_COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class ValueScale:
    """From stored values to the numbers of an image.

    ``table`` and ``first`` are a lookup table and the stored value of its first entry.
    ``is_rescaled`` says that the file states a slope or an intercept, which may change nothing.
    """

    dtype: np.dtype[np.generic]
    full_range: tuple[float, float] | None
    unit: str | None = None
    slopes: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()
    table: np.ndarray | None = None
    first: int = 0
    is_inverted: bool = False
    is_rescaled: bool = False

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return the numbers of an image, with colours on the last axis."""
        if self.table is not None:
            # Values before the first entry and after the last one get these entries.
            places = values.astype(np.int64) - self.first
            values = self.table.take(places, axis=0, mode="clip")
        elif len(self.slopes) > 1:
            slopes, intercepts = (
                np.reshape(item, (-1, 1, 1)) for item in (self.slopes, self.intercepts)
            )
            values = values * slopes + intercepts
        elif self.slopes:
            values = values * self.slopes[0] + self.intercepts[0]
        if self.is_inverted and self.full_range is not None:
            total = self.full_range[0] + self.full_range[1]
            values = total - values
        return values.astype(self.dtype, copy=False)


def value_scale(dataset: "Dataset", module: PixelModule) -> ValueScale:
    """Learn from the tags how stored values become the numbers of an image."""
    if module.interpretation == "PALETTE COLOR":
        table, first = _palette(dataset, module)
        return ValueScale(
            table.dtype, (0, int(np.iinfo(table.dtype).max)), table=table, first=first
        )
    if module.is_colour:
        return ValueScale(module.dtype, module.full_range)
    is_inverted = module.interpretation == "MONOCHROME1"
    if dataset.get("ModalityLUTSequence"):
        item = dataset.ModalityLUTSequence[0]
        table, first, bits = _table(dataset, item, "LUTDescriptor", "LUTData", module)
        unit = _known(text(item, "ModalityLUTType"))
        scale = ValueScale(table.dtype, (0, 2**bits - 1), unit, table=table, first=first)
    else:
        scale = _rescale(dataset, module)
    # A number with a unit means the same whether it is shown as black or as white. The standard
    # has optical density shown both ways.
    if is_inverted and scale.unit not in (None, "OD"):
        is_inverted = False
    unit = None if is_inverted else scale.unit
    if text(dataset, "PresentationIntentType") == "FOR PROCESSING" and unit is None:
        return replace(scale, unit="raw: FOR PROCESSING", is_inverted=is_inverted)
    full_range = scale.full_range if unit is None else None
    return replace(scale, full_range=full_range, unit=unit, is_inverted=is_inverted)


def _rescale(dataset: "Dataset", module: PixelModule) -> ValueScale:
    """Learn the slope and intercept of each frame, and their unit."""
    slopes, intercepts, unit, is_rescaled = _slopes(dataset, module)
    if 0 in slopes:
        raise ValueError(
            "a slope must not be 0, which makes all pixels alike; got 0 in "
            f"{tag('DoseGridScaling' if _is_dose(dataset) else 'RescaleSlope')}. Mend the tag"
        )
    is_same = set(slopes) == {1.0} and set(intercepts) == {0.0} and not _is_dose(dataset)
    full_range = None if module.is_float else module.full_range
    fraction = integer(dataset, "MaximumFractionalValue")
    if text(dataset, "SegmentationType") == "FRACTIONAL" and fraction:
        full_range = (0, fraction)
    if is_same:
        return ValueScale(module.dtype, full_range, unit, is_rescaled=is_rescaled)
    if len(set(zip(slopes, intercepts, strict=True))) == 1:
        slopes, intercepts = slopes[:1], intercepts[:1]
    mapped = None
    if full_range is not None:
        ends = [
            end * slope + intercept
            for slope, intercept in zip(slopes, intercepts, strict=True)
            for end in full_range
        ]
        mapped = (min(ends), max(ends))
    dtype = np.dtype(np.float64 if module.dtype == np.float64 else np.float32)
    return ValueScale(dtype, mapped, unit, slopes, intercepts, is_rescaled=True)


def _is_dose(dataset: "Dataset") -> bool:
    if dataset.get("PerFrameFunctionalGroupsSequence"):
        return False
    return text(dataset, "Modality") == "RTDOSE" or "DoseGridScaling" in dataset


def _slopes(
    dataset: "Dataset", module: PixelModule
) -> tuple[tuple[float, ...], tuple[float, ...], str | None, bool]:
    """Return slopes and intercepts, their unit, and whether the file states any."""
    if _is_dose(dataset):
        slope = number(dataset, "DoseGridScaling")
        if slope is None:
            raise ValueError(
                f"the doses need the factor {tag('DoseGridScaling')}, which is missing. Mend the "
                "tag"
            )
        return (slope,), (0.0,), _dose_unit(dataset), True
    n_groups = module.n_frames if dataset.get("PerFrameFunctionalGroupsSequence") else 1
    groups = [
        functional_group(dataset, i, "PixelValueTransformationSequence") or dataset
        for i in range(n_groups)
    ]
    # An empty tag counts as a missing one. Pydicom's apply_rescale ignores a slope without an
    # intercept, and an intercept without a slope.
    slopes = [number(group, "RescaleSlope") for group in groups]
    intercepts = [number(group, "RescaleIntercept") for group in groups]
    is_stated = any(item is not None for item in (*slopes, *intercepts))
    types = list(dict.fromkeys(text(group, "RescaleType") for group in groups))
    if len(types) > 1:
        raise ValueError(
            f"the frames of a volume must have one {tag('RescaleType')}; got {', '.join(types)}. "
            "Split the file, or pass a reader="
        )
    return (
        tuple(1.0 if slope is None else slope for slope in slopes),
        tuple(0.0 if intercept is None else intercept for intercept in intercepts),
        _unit(dataset, types[0], is_stated),
        is_stated,
    )


def _unit(dataset: "Dataset", rescale_type: str, is_rescaled: bool) -> str | None:
    modality = text(dataset, "Modality")
    if modality == "PT" or dataset.get("Units"):
        units = text(dataset, "Units")
        if units in ("", "NONE"):
            return None
        # The weight that a standardised uptake value is divided by.
        return f"{units} {text(dataset, 'SUVType')}".strip()
    if modality == "CT" and not rescale_type and is_rescaled:
        return "HU"
    return _known(rescale_type)


def _known(unit: str) -> str | None:
    return unit if unit in _UNITS else None


def _dose_unit(dataset: "Dataset") -> str | None:
    unit = {"GY": "Gy", "RELATIVE": "relative"}.get(text(dataset, "DoseUnits"))
    kind = text(dataset, "DoseType")
    return unit if unit is None or kind in ("", "PHYSICAL") else f"{unit} {kind}"


def _palette(dataset: "Dataset", module: PixelModule) -> tuple[np.ndarray, int]:
    """Return the colours of a palette, (n, 3), and the stored value of the first."""
    for prefix in ("", "Segmented"):
        keyword = f"{prefix}AlphaPaletteColorLookupTableData"
        if len(set(dataset.get(keyword) or b"")) > 1:
            raise ValueError(
                f"the colours of the palette are transparent, as {tag(keyword)} says, and the "
                "background is not known. Remove the table, or pass a reader="
            )
    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        return _segmented_palette(dataset, module)
    tables, firsts, bits = zip(
        *(
            _table(
                dataset,
                dataset,
                f"{colour}PaletteColorLookupTableDescriptor",
                f"{colour}PaletteColorLookupTableData",
                module,
            )
            for colour in _COLOURS
        ),
        strict=True,
    )
    if len({(len(table), first) for table, first in zip(tables, firsts, strict=True)}) > 1:
        raise ValueError("the tables of red, green and blue must have the same descriptors")
    if set(bits) - {8, 16}:
        raise ValueError(
            f"{tag('RedPaletteColorLookupTableDescriptor')} must state 8 or 16 bits; got {bits[0]}"
            ". Mend the tag"
        )
    return np.stack(tables, axis=-1), firsts[0]


def _segmented_palette(dataset: "Dataset", module: PixelModule) -> tuple[np.ndarray, int]:
    n, first, bits = _descriptor(dataset, "RedPaletteColorLookupTableDescriptor", module)
    if bits not in (8, 16) or (bits == 8 and n > 256):
        raise ValueError(
            f"{tag('RedPaletteColorLookupTableDescriptor')} must state 16 bits, or 8 bits and up "
            f"to 256 entries; got {bits} bits and {n} entries. Convert the file to RGB"
        )
    pixels = import_reader("pydicom.pixels", "pydicom")
    table: np.ndarray = pixels.apply_color_lut(np.arange(n) + first, dataset)
    return table[:, :3], first


def _descriptor(dataset: "Dataset", keyword: str, module: PixelModule) -> tuple[int, int, int]:
    """Return the number of entries of a table, the value of the first, and the bits of each."""
    values = numbers(dataset, keyword)
    if values is None or len(values) != 3 or not 1 <= values[2] <= 16:
        raise ValueError(
            f"{tag(keyword)} must be the number of entries, the first value and up to 16 bits; got "
            f"{values}. Mend the tag"
        )
    n, first, bits = (int(value) for value in values)
    if module.is_signed and first >= 2**15:
        first -= 2**16
    if not module.is_signed and first < 0:
        first += 2**16
    return n % 2**16 or 2**16, first, bits


def _table(
    dataset: "Dataset", item: "Dataset", descriptor: str, data: str, module: PixelModule
) -> tuple[np.ndarray, int, int]:
    """Return a lookup table, the stored value of its first entry, and the bits of an entry."""
    n, first, bits = _descriptor(item, descriptor, module)
    value = item.get(data)
    is_little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    if isinstance(value, bytes):
        words = np.frombuffer(value[: len(value) // 2 * 2], "<u2" if is_little else ">u2")
        if len(value) < 2 * n:  # two entries of 8 bits in each word
            words = words.astype("<u2").view("u1")[:n]
            bits = min(bits, 8)
        entries = words[:n].astype(np.uint16)
    else:
        values = numbers(item, data) or ()
        entries = np.asarray(values[:n], dtype=np.int64)
    if len(entries) != n or entries.max(initial=0) >= 2**bits or entries.min(initial=0) < 0:
        raise ValueError(
            f"{tag(data)} must have {n} entries of {bits} bits, as {tag(descriptor)} says; got "
            f"{len(entries)}, up to {entries.max(initial=0)}. Mend the table, or pass a reader="
        )
    return entries.astype(np.uint8 if bits <= 8 else np.uint16), first, bits
