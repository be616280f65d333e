"""The pixels of a DICOM file: how its header describes them, and their decoding."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skimbal.images._dicom_file import DicomFile, integer, number, tag, text
from skimbal.images._reading import import_reader

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

__all__ = ["PixelModule", "check_length", "decode", "pixel_module"]

_SAMPLES = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
#: A compressed frame has a tag and a length before it.
_BYTES_OF_ITEM = 8
_JPEG_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_JPEG_2000_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\0\0\0\x0cjP  "


@dataclass(frozen=True)
class PixelModule:
    """The tags that describe the pixels, checked."""

    rows: int
    columns: int
    n_frames: int
    interpretation: str
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    is_float: bool

    @property
    def samples(self) -> int:
        """Number of stored values of a pixel."""
        return _SAMPLES[self.interpretation]

    @property
    def is_colour(self) -> bool:
        """Whether an image has three channels."""
        return self.samples == 3 or self.interpretation == "PALETTE COLOR"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image, channels first."""
        frames = (self.n_frames,) if self.n_frames > 1 else ()
        return (*[3] * self.is_colour, *frames, self.rows, self.columns)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the stored values."""
        kind = "f" if self.is_float else "ui"[self.is_signed]
        return np.dtype(f"{kind}{max(1, self.bits_allocated // 8)}")

    @property
    def full_range(self) -> tuple[int, int]:
        """The least and the greatest stored value."""
        if self.is_signed:
            return -(2 ** (self.bits_stored - 1)), 2 ** (self.bits_stored - 1) - 1
        return 0, 2**self.bits_stored - 1


def pixel_module(file: DicomFile) -> PixelModule:
    """Describe the pixels, or refuse their kind before they are read."""
    dataset = file.dataset
    _check_has_pixels(file)
    interpretation = text(dataset, "PhotometricInterpretation").upper()
    is_float = file.pixel_keyword != "PixelData"
    bits = _whole(dataset, "BitsAllocated", 1)
    module = PixelModule(
        rows=_whole(dataset, "Rows", 1),
        columns=_whole(dataset, "Columns", 1),
        n_frames=_whole(dataset, "NumberOfFrames", 1, default=1),
        interpretation=interpretation,
        bits_allocated=bits,
        bits_stored=bits if is_float else _whole(dataset, "BitsStored", 1),
        is_signed=not is_float and _whole(dataset, "PixelRepresentation", 0) == 1,
        is_float=is_float,
    )
    _check_interpretation(dataset, module)
    _check_bits(file, module)
    _check_transfer_syntax(file, module)
    return module


def _whole(dataset: "Dataset", keyword: str, least: int, default: int | None = None) -> int:
    value = number(dataset, keyword)
    if value is None and default is not None:
        return default
    if value is None or value != int(value) or value < least:
        raise ValueError(
            f"{tag(keyword)} must be an integer of at least {least}; got {value}. Mend the tag"
        )
    return int(value)


def _check_has_pixels(file: DicomFile) -> None:
    kind = getattr(file.dataset.get("SOPClassUID"), "name", "") or "unknown kind"
    if file.pixel_keyword is None or "Rows" not in file.dataset:
        missing = "Rows" if "Rows" not in file.dataset else "PixelData"
        raise ValueError(
            f"it is a DICOM file without an image: {tag(missing)} is missing in this object "
            f"({kind}), or the file is cut short"
        )
    if file.dataset.get("ConcatenationUID"):
        raise ValueError(
            f"{tag('ConcatenationUID')} says that other files hold the rest of this image. Join "
            "the parts into one file first"
        )
    total = integer(file.dataset, "TotalPixelMatrixRows")
    if total is not None and total != integer(file.dataset, "Rows"):
        raise ValueError(
            f"its frames are tiles of a picture, not slices, as {tag('TotalPixelMatrixRows')} = "
            f"{total} says. Pass a reader= that puts them together"
        )
    if "MOSAIC" in text(file.dataset, "ImageType").split("\\"):
        raise ValueError(
            f"the slices of a volume are tiles of one image, as MOSAIC in {tag('ImageType')} says. "
            "Convert it to NIfTI, as dcm2niix does"
        )


def _check_interpretation(dataset: "Dataset", module: PixelModule) -> None:
    known, samples = module.interpretation, _whole(dataset, "SamplesPerPixel", 1, default=1)
    if known not in _SAMPLES:
        raise ValueError(
            f"{tag('PhotometricInterpretation')} must be one of {', '.join(_SAMPLES)}; got "
            f"{known!r}. Convert the file to RGB, or pass a reader="
        )
    if samples != _SAMPLES[known]:
        raise ValueError(
            f"{tag('SamplesPerPixel')} must be {_SAMPLES[known]} for {known}; got {samples}. Mend "
            "the tag"
        )
    if samples > 1 and number(dataset, "PlanarConfiguration") not in (0, 1):
        raise ValueError(
            f"{tag('PlanarConfiguration')} must be 0 or 1 for {known}; got "
            f"{number(dataset, 'PlanarConfiguration')}. Mend the tag"
        )
    is_mixed = text(dataset, "PixelPresentation") in ("COLOR", "MIXED")
    if samples == 1 and known != "PALETTE COLOR" and is_mixed:
        raise ValueError(
            f"some of its grey values stand for colours, as {tag('PixelPresentation')} = "
            f"{text(dataset, 'PixelPresentation')} says. Pass a reader= that separates them"
        )
    shape = text(dataset, "PresentationLUTShape")
    if (known, shape) in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")):
        raise ValueError(
            f"{tag('PresentationLUTShape')} = {shape} and {tag('PhotometricInterpretation')} = "
            f"{known} contradict each other about what is white. Mend one of the tags"
        )


def _check_bits(file: DicomFile, module: PixelModule) -> None:
    allocated = {"FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}.get(
        file.pixel_keyword or "", (1, 8, 16, 32, 64)
    )
    if module.bits_allocated not in allocated:
        raise ValueError(
            f"{tag('BitsAllocated')} must be one of {allocated}; got {module.bits_allocated}. "
            "Convert the file, or pass a reader="
        )
    if module.is_float and module.interpretation != "MONOCHROME2":
        raise ValueError(
            f"floating-point pixels must be MONOCHROME2; got {module.interpretation} in "
            f"{tag('PhotometricInterpretation')}. Such numbers have no greatest value to invert "
            "them from. Mend the tag, or pass a reader="
        )
    if not 1 <= module.bits_stored <= module.bits_allocated:
        raise ValueError(
            f"{tag('BitsStored')} must be at most {tag('BitsAllocated')}, {module.bits_allocated}; "
            f"got {module.bits_stored}. Mend the tag"
        )
    high = integer(file.dataset, "HighBit")
    if not module.is_float and high not in (None, module.bits_stored - 1):
        raise ValueError(
            f"{tag('HighBit')} must be {tag('BitsStored')} - 1 = {module.bits_stored - 1}; got "
            f"{high}. Which bits hold the pixel is not certain. Mend the tag, or pass a reader="
        )
    is_ybr = module.interpretation.startswith("YBR")
    if is_ybr and (module.bits_allocated, module.bits_stored) != (8, 8):
        raise ValueError(
            f"{module.interpretation} must have 8 bits; got {tag('BitsStored')} = "
            f"{module.bits_stored}. Convert the file to RGB, or pass a reader="
        )
    if module.is_colour and module.is_signed and module.samples == 3:
        raise ValueError(
            f"colours must be unsigned; got {tag('PixelRepresentation')} = 1. Mend the tag"
        )


def _transfer_syntax(file: DicomFile) -> "UID":
    syntax: UID = file.dataset.file_meta.TransferSyntaxUID
    return syntax


def _check_transfer_syntax(file: DicomFile, module: PixelModule) -> None:
    syntax = _transfer_syntax(file)
    named = f"{tag('TransferSyntaxUID')} = {syntax} ({syntax.name})"
    pixels = import_reader("pydicom.pixels", "pydicom")
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError as error:
        raise ValueError(
            f"pydicom has no decoder for {named}. Convert the file, or pass a reader="
        ) from error
    available = decoder.available_plugins
    if syntax.is_encapsulated and not available:
        needs = " or ".join(decoder.missing_dependencies)
        raise ValueError(f"{named} needs a decoder that is missing: {needs}. Install one of them")
    is_extended = syntax.name.startswith("JPEG Extended")
    able = {"pylibjpeg"} if is_extended else {"pylibjpeg", "gdcm", "pyjpegls"}
    is_deep = module.bits_stored > 8 and (module.samples > 1 or is_extended)
    if is_deep and "pillow" in available and not able & set(available):
        raise ValueError(
            f"{named} with {tag('BitsStored')} = {module.bits_stored} and "
            f"{tag('SamplesPerPixel')} = {module.samples} needs pylibjpeg and its plugin, as "
            "pillow reads 8 bits of it. Install pylibjpeg[all]"
        )
    if module.interpretation in ("YBR_ICT", "YBR_RCT") and "2000" not in syntax.name:
        raise ValueError(
            f"{module.interpretation} in {tag('PhotometricInterpretation')} belongs to JPEG 2000; "
            f"got {named}. Mend the tag, or convert the file to RGB"
        )
    if syntax.is_encapsulated != (file.pixel_length is None):
        found = "without" if file.pixel_length is None else "with"
        raise ValueError(
            f"{tag('PixelData')} stands {found} a length, which contradicts {named}. Mend the tag"
        )


def check_length(file: DicomFile, module: PixelModule) -> None:
    """Refuse pixels that are not as many as the header says, before they are read."""
    if file.pixel_length is None:
        most = os.path.getsize(file.path) // _BYTES_OF_ITEM
        if module.n_frames > most:
            raise ValueError(
                f"{tag('NumberOfFrames')} must be at most {most} in a file of this size; got "
                f"{module.n_frames}. Mend the tag, or replace the file"
            )
        return
    if module.interpretation == "YBR_FULL_422" and module.columns % 2:
        raise ValueError(
            f"{tag('Columns')} must be even for YBR_FULL_422; got {module.columns}. Convert the "
            "file to RGB"
        )
    expected = _n_bytes(module)
    row = math.ceil(expected / module.n_frames / module.rows)
    if not expected <= file.pixel_length <= expected + max(1, row):
        raise ValueError(
            f"{tag(file.pixel_keyword or '')} must have {expected} bytes, for "
            f"{tag('NumberOfFrames')} = {module.n_frames}, {tag('Rows')} = {module.rows}, "
            f"{tag('Columns')} = {module.columns} and {module.bits_allocated} bits for each of "
            f"{module.samples} samples of {module.interpretation}; got {file.pixel_length}. Mend "
            "the tags, or replace the file"
        )


def _n_bytes(module: PixelModule) -> int:
    n_values = module.n_frames * module.rows * module.columns * module.samples
    if module.interpretation == "YBR_FULL_422":
        n_values = n_values // 3 * 2
    return math.ceil(n_values * module.bits_allocated / 8)


def decode(file: DicomFile, module: PixelModule) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode the stored values, colours last, and say which of them are padding."""
    dataset = file.load_pixels()
    syntax = _transfer_syntax(file)
    keyword = file.pixel_keyword or "PixelData"
    if syntax.is_encapsulated:
        _check_frames(dataset.PixelData, module, syntax)
    elif len(dataset[keyword].value) > _n_bytes(module) + _n_bytes(module) % 2:
        if any(dataset[keyword].value[_n_bytes(module) :]):
            raise ValueError(
                f"{tag(keyword)} must have {_n_bytes(module)} bytes; got "
                f"{len(dataset[keyword].value)}, and the surplus is not padding. Mend "
                f"{tag('Rows')} and {tag('Columns')}"
            )
        dataset[keyword].value = dataset[keyword].value[: _n_bytes(module) + _n_bytes(module) % 2]
    # As they were checked: a missing number is 1, and the name may be in lower case.
    dataset.NumberOfFrames = module.n_frames
    dataset.PhotometricInterpretation = module.interpretation
    limits = _padding_limits(dataset, module)
    keeps_high_bits = limits is not None and not _fits(limits, module)
    decoder = import_reader("pydicom.pixels", "pydicom").get_decoder(syntax)
    options = {"allow_excess_frames": False}
    if keeps_high_bits:
        options["correct_unused_bits"] = False
    try:
        values, _ = decoder.as_array(dataset, **options)
    except RuntimeError as error:  # of each decoder that is installed
        raise ValueError(
            f"{tag('TransferSyntaxUID')} = {syntax} ({syntax.name}): {error}. If the file is "
            "right, install pylibjpeg[all]"
        ) from error
    values = values.astype(module.dtype, copy=False)
    if syntax.is_encapsulated:
        _check_range(values, module)
    padding = None if limits is None else (values >= limits[0]) & (values <= limits[1])
    if keeps_high_bits:
        n_unused = module.bits_allocated - module.bits_stored
        values = (values << n_unused) >> n_unused
    return values, padding


def _check_range(values: np.ndarray, module: PixelModule) -> None:
    """Refuse compressed values that have more bits than the header says."""
    least, greatest = module.full_range
    if values.min() < least or values.max() > greatest:
        raise ValueError(
            f"the compressed values must be {least} to {greatest}, as {tag('BitsStored')} and "
            f"{tag('PixelRepresentation')} say; got {values.min()} to {values.max()}. Mend the tags"
        )


def _padding_limits(dataset: "Dataset", module: PixelModule) -> tuple[float, float] | None:
    """Return the least and the greatest stored value that is padding."""
    if module.is_colour:
        return None
    prefix = {32: "Float", 64: "DoubleFloat"}[module.bits_allocated] if module.is_float else ""
    value = number(dataset, f"{prefix}PixelPaddingValue")
    if value is None:
        return None
    end = number(dataset, f"{prefix}PixelPaddingRangeLimit")
    limits = (value, value if end is None else end)
    if not module.is_float:
        # Some files have the bits of a signed number in a tag for unsigned ones, or the reverse.
        unsigned = [int(limit) % 2**module.bits_allocated for limit in limits]
        if module.is_signed:
            half = 2 ** (module.bits_allocated - 1)
            unsigned = [n - 2 * half if n >= half else n for n in unsigned]
        limits = (unsigned[0], unsigned[1])
    return min(limits), max(limits)


def _fits(limits: tuple[float, float], module: PixelModule) -> bool:
    least, greatest = module.full_range
    return module.is_float or (least <= limits[0] and limits[1] <= greatest)


def _check_frames(data: bytes, module: PixelModule, syntax: "UID") -> None:
    """Refuse compressed frames that are more, fewer or of other sizes than the header says."""
    found = 0
    for fragment in _fragments(data):
        if syntax.name.startswith("RLE"):
            found += 1
            # Each run of 128 values takes 129 bytes at most, so a longer frame would hold more.
            n_bytes = _n_bytes(module) // module.n_frames
            if len(fragment) > 64 + n_bytes + n_bytes // 64 + 64:
                raise ValueError(
                    f"a frame must have at most {n_bytes} bytes, as the header says; got "
                    f"{len(fragment)} in its compressed form. Replace the file"
                )
        elif fragment.startswith((b"\xff\xd8", _JPEG_2000_START, _JP2_START)):
            found += 1
            size, stated = _size_of_codestream(fragment), (module.rows, module.columns)
            if size != (*stated, module.samples):
                raise ValueError(
                    f"{tag('Rows')}, {tag('Columns')} and {tag('SamplesPerPixel')} must be the "
                    f"sizes of the compressed frame, {size}; got {(*stated, module.samples)}. "
                    "Replace the file"
                )
    if found != module.n_frames:
        raise ValueError(
            f"{tag('NumberOfFrames')} must be the number of compressed frames, {found}; got "
            f"{module.n_frames}. Mend the tag, or replace the file"
        )


def _fragments(data: bytes) -> Iterator[bytes]:
    fragments: Iterator[bytes] = import_reader("pydicom.encaps", "pydicom").generate_fragments(data)
    next(fragments, None)  # the table of offsets
    yield from fragments


def _size_of_codestream(data: bytes) -> tuple[int, int, int] | None:
    """Return height, width and samples of a compressed frame, or None without its header."""

    def at(place: int, n: int) -> int:
        return int.from_bytes(data[place : place + n], "big")

    if not data.startswith(b"\xff\xd8"):
        start = data.find(_JPEG_2000_START)
        x, y, x_offset, y_offset = (at(start + 8 + 4 * i, 4) for i in range(4))
        return y - y_offset, x - x_offset, at(start + 40, 2)
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _JPEG_FRAME_HEADERS:
            return at(place + 5, 2), at(place + 7, 2), data[place + 9]
        place += 1 if marker == 0xFF else 2 + at(place + 2, 2)
    return None
