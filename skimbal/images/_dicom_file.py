"""DICOM files as data sets: the tags before the pixels, and then the pixels."""

import io
import math
import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from skimbal.images._reading import BoundedFile, import_reader

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "DicomFile",
    "functional_group",
    "has_dicom_mark",
    "integer",
    "number",
    "numbers",
    "open_dicom",
    "tag",
    "tag_number",
    "text",
]

_DEFLATED = b"1.2.840.10008.1.2.1.99"
#: The transfer syntax is among the first tags of a file.
_BYTES_OF_META = 2048
#: The tags before the pixels take less. A deflated file may pretend to hold far more.
_MAX_TAG_BYTES = 2**26
#: A digital signature or padding may follow the pixels.
_MAX_TRAILING_BYTES = 2**20
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_ELEMENTS = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
_PIXEL_VRS = (b"OB", b"OW", b"OF", b"OD", b"OV", b"UN")
_BAD_VALUE = (ValueError, TypeError, AttributeError, OverflowError, NotImplementedError)


def has_dicom_mark(path: str) -> bool:
    """Recognise a DICOM file by its first bytes."""
    if not os.path.isfile(path):  # a pipe would be waited for
        return False
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(132)
        return head[128:] == b"DICM" or _begins_with_a_tag(head)
    return False


def _begins_with_a_tag(head: bytes) -> bool:
    """Recognise a file without the mark by its first tag, of group 2 or 8."""
    if head[:4] not in (b"\2\0\0\0", b"\2\0\1\0", b"\2\0\2\0", b"\2\0\x10\0") and (
        head[:2] != b"\x08\0"
        or head[3:4] != b"\0"
        or head[2] not in (0x00, 0x01, 0x05, 0x08, 0x16, 0x18)
    ):
        return False
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    return is_explicit or 0 < int.from_bytes(head[4:8], "little") <= 64


@dataclass(frozen=True)
class DicomFile:
    """A file whose tags before the pixels have been read.

    ``pixel_length`` is None for pixels of undefined length, which compressed pixels have.
    """

    path: str
    dataset: "Dataset"
    pixel_keyword: str | None
    pixel_vr: str
    pixel_length: int | None
    tag_offset: int
    value_offset: int
    is_deflated: bool

    def load_pixels(self) -> "Dataset":
        """Read the pixels into the data set, and return it."""
        with self._stream() as stream:
            if self.pixel_length is None:
                filereader = import_reader("pydicom.filereader", "pydicom")
                stream.seek(self.tag_offset)
                rest = filereader.read_dataset(
                    stream, False, True, stop_when=lambda tag, *_: tag > 0x7FE00010
                )
                self.dataset.update(rest)
            else:
                end, size = self.value_offset + self.pixel_length, stream.seek(0, os.SEEK_END)
                if size < end:
                    raise ValueError(
                        f"the file must have {end} bytes, as the length of "
                        f"{tag(self.pixel_keyword or '')} says; got {size}. It is cut short"
                    )
                stream.seek(self.value_offset)
                value = stream.read(self.pixel_length)
                number = tag_number(self.pixel_keyword or "PixelData")
                self.dataset.add_new(number, self.pixel_vr, value)
        return self.dataset

    def _stream(self) -> BinaryIO:
        if not self.is_deflated:
            return BoundedFile(self.path)
        end = self.value_offset + (self.pixel_length or 0) + _MAX_TRAILING_BYTES
        with BoundedFile(self.path) as file:
            stream, is_whole = _inflated(file, end)
        if not is_whole:
            raise ValueError(
                f"the deflated data must end within {end} bytes, as the header says; got more, or "
                "a file that is cut short"
            )
        return stream


def open_dicom(path: str) -> DicomFile:
    """Read the tags before the pixels."""
    with BoundedFile(path) as file:
        head = file.read(_BYTES_OF_META)
        file.seek(0)
        if _DEFLATED in head:
            stream, _ = _inflated(file, _MAX_TAG_BYTES)
            return _at_pixels(path, _deflated_tags(file, stream), stream, None)
        dataset = _tags(file, is_marked=head[128:132] == b"DICM")
        return _at_pixels(path, dataset, file, os.path.getsize(path))


def _tags(file: BinaryIO, is_marked: bool) -> "Dataset":
    pydicom = import_reader("pydicom")
    try:
        dataset: Dataset = pydicom.dcmread(file, stop_before_pixels=True, force=not is_marked)
    except Exception as error:
        if is_marked:
            raise
        raise _not_dicom() from error
    if not is_marked and "SOPClassUID" not in dataset and "Rows" not in dataset:
        raise _not_dicom()
    if not dataset.file_meta.get("TransferSyntaxUID"):
        is_implicit, is_little = dataset.original_encoding
        uid = pydicom.uid
        native = uid.ExplicitVRLittleEndian if is_little else uid.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if is_implicit else native
    return dataset


def _not_dicom() -> ValueError:
    return ValueError(
        "the file must be DICOM; got a file without the mark 'DICM' and without the tag "
        f"{tag('SOPClassUID')}. If it is another format, name it so"
    )


def _inflated(file: BinaryIO, limit: int) -> tuple[BinaryIO, bool]:
    """Inflate the bytes behind the meta information, and say whether that is all."""
    file.seek(0)
    start = 132 if file.read(132)[128:] == b"DICM" else 0
    _meta(file, start)
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    data = engine.decompress(file.read(), limit)
    return io.BytesIO(data), engine.eof


def _meta(file: BinaryIO, start: int) -> "Dataset":
    filereader = import_reader("pydicom.filereader", "pydicom")
    file.seek(start)
    meta: Dataset = filereader.read_dataset(
        file, False, True, stop_when=lambda tag, *_: tag.group != 2
    )
    return meta


def _deflated_tags(file: BinaryIO, stream: BinaryIO) -> "Dataset":
    pydicom = import_reader("pydicom")
    filereader = import_reader("pydicom.filereader", "pydicom")
    dataset: Dataset = filereader.read_dataset(
        stream, False, True, stop_when=lambda tag, *_: tag in _PIXEL_ELEMENTS
    )
    file.seek(0)
    start = 132 if file.read(132)[128:] == b"DICM" else 0
    dataset.file_meta = pydicom.dataset.FileMetaDataset(_meta(file, start))
    dataset.set_original_encoding(False, True, "iso8859")
    return dataset


def _at_pixels(path: str, dataset: "Dataset", stream: BinaryIO, size: int | None) -> DicomFile:
    """Look at the tag of the pixels and its length. The size of a deflated file is None."""
    offset = stream.tell()
    head = stream.read(12).ljust(12, b"\0")
    is_implicit, is_little = dataset.original_encoding
    order = "<" if is_little else ">"
    group, element, short = struct.unpack(order + "HHL", head[:8])
    length = struct.unpack(order + "L", head[8:])[0]
    has_vr = head[4:6] in _PIXEL_VRS and head[6:8] == b"\0\0"
    # Pydicom reads on if the transfer syntax is wrong about this, so that it may be.
    if (is_implicit and (not has_vr or size is None or offset + 8 + short <= size)) or not has_vr:
        vr, value_offset, length = "OW", offset + 8, short
    else:
        vr, value_offset = head[4:6].decode(), offset + 12
    keyword = _PIXEL_ELEMENTS.get(group << 16 | element)
    if keyword is None or length == _UNDEFINED_LENGTH:
        length = None
    return DicomFile(path, dataset, keyword, vr, length, offset, value_offset, size is None)


def tag(keyword: str) -> str:
    """Return the number and the name of a tag, as errors show them."""
    number = tag_number(keyword)
    return f"({number >> 16:04X},{number & 0xFFFF:04X}) {keyword}"


def tag_number(keyword: str) -> int:
    """Return the number of a tag."""
    return int(import_reader("pydicom.datadict", "pydicom").tag_for_keyword(keyword))


def numbers(dataset: "Dataset", keyword: str) -> tuple[float, ...] | None:
    """Return the numbers of a tag, or None if the tag is missing or empty."""
    if keyword not in dataset:
        return None
    got: object = "a value that cannot be read"
    try:
        got = dataset[keyword].value
        if got is None or got == "":
            return None
        items = [got] if isinstance(got, str) or not isinstance(got, Sequence) else list(got)
        values = tuple(float(str(item)) for item in items)
    except _BAD_VALUE as error:
        raise ValueError(f"{tag(keyword)} must be numbers; got {got}. Mend the tag") from error
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{tag(keyword)} must be finite numbers; got {got}. Mend the tag")
    return values or None


def number(dataset: "Dataset", keyword: str) -> float | None:
    """Return the number of a tag, or None if the tag is missing or empty."""
    values = numbers(dataset, keyword)
    if values is None:
        return None
    if len(values) != 1:
        raise ValueError(f"{tag(keyword)} must be one number; got {values}. Mend the tag")
    return values[0]


def integer(dataset: "Dataset", keyword: str) -> int | None:
    """Return the whole number of a tag, or None if the tag is missing or empty."""
    value = number(dataset, keyword)
    return None if value is None else int(value)


def text(dataset: "Dataset", keyword: str) -> str:
    """Return the text of a tag, and several values with backslashes between them."""
    try:
        value = dataset.get(keyword)
    except _BAD_VALUE as error:
        raise ValueError(f"{tag(keyword)} must be text. Mend the tag") from error
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\\".join(str(item).strip() for item in value)
    return str(value).strip()


def functional_group(dataset: "Dataset", frame: int, macro: str) -> "Dataset | None":
    """Return a functional group of a frame, its own or the group that all frames share."""
    for name, i in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = dataset.get(name)
        if groups and i < len(groups) and groups[i].get(macro):
            group: Dataset = groups[i][macro][0]
            return group
    return None
