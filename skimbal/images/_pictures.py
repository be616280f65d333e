"""PNG, JPEG, WebP and BMP."""

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from skimbal.images._reading import (
    BoundedFile,
    DecodedImage,
    ReadRequest,
    header_array,
    import_reader,
)
from skimbal.images._tiff import read_tiff
from skimbal.images._viewing import Samples, turn, turned_size

if TYPE_CHECKING:
    from PIL.Image import Exif
    from PIL.ImageFile import ImageFile

__all__ = ["read_picture"]

#: First bytes of a file, and the kind of file that they tell.
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xffO\xffQ", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\x93NUMPY", "numpy"),
    (b"\x89HDF", "HDF5"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
)
#: The class of pillow that reads a kind. Pillow knows many other kinds, which are not promised.
#: Its open() is not used, as its limit of pixels is a setting of the process.
_READERS = {
    "PNG": "PngImagePlugin.PngImageFile",
    # Of the pictures of a Multi-Picture Object, the first is the photograph.
    "JPEG": "JpegImagePlugin.JpegImageFile",
    "WebP": "WebPImagePlugin.WebPImageFile",
    "BMP": "BmpImagePlugin.BmpImageFile",
}
#: Number of the Exif entry that says how a camera was held.
_ORIENTATION = 0x0112
#: Colours of 16 bits in a PNG, of which pillow keeps the high bytes: its name of their form, the
#: names under which it hands out high and low bytes, and the numbers of colours and of channels.
_WIDE = {
    "RGB;16B": (("RGB;16B", "RGB;16L"), 3, 3),
    "RGBA;16B": (("RGBA;16B", "RGBA;16L"), 3, 4),
    # The four bytes of a pixel are handed out as if they were red, green, blue and alpha.
    "LA;16B": (("RGBA",), 1, 2),
}


def read_picture(path: str, request: ReadRequest) -> DecodedImage:
    """Read a picture as a viewer shows it, and a TIFF by its own reader."""
    import_reader("PIL.Image", "pillow")
    kind = _kind(path)
    if kind == "TIFF":
        return read_tiff(path, request)
    with BoundedFile(path) as file, _open(file, kind) as picture:
        n_frames = getattr(picture, "n_frames", 1)
        if n_frames > 1:
            raise ValueError(
                f"a {kind} must hold one picture; got an animation of {n_frames}. Pass a reader= "
                "that chooses among them"
            )
        samples, dtype = _samples(picture)
        w, h = picture.size
        request.check_size((samples.n_channels, h, w))
        full_range = (0.0, float(samples.full))
        if request.header_only:
            n = samples.n_asked(request.channels)
            size = (h, w) if h == w else turned_size((h, w), _orientation_in_header(path, picture))
            return DecodedImage(
                header_array((n, *size) if n > 1 else size, dtype), 2, None, full_range
            )
        if kind == "PNG":
            _check_sums(path)
        if request.channels == 1 and picture.mode == "RGB" and samples == Samples(3, 3):
            pixels = np.asarray(picture.convert("L"))[None]
        else:
            pixels = samples.convert(_channels(path, picture), request.channels)
        pixels = turn(pixels, _orientation(picture.getexif()))
    return DecodedImage(pixels if len(pixels) > 1 else pixels[0], 2, None, full_range)


def _kind(path: str) -> str:
    """Tell the kind of a file by its first bytes, and refuse a kind that is not read."""
    with open(path, "rb") as file:
        head = file.read(132)
    kind = next((kind for mark, kind in _KINDS if head.startswith(mark)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "WebP"
    elif head[4:8] == b"ftyp":
        kind = "HEIC, AVIF or video"
    elif head[128:] == b"DICM":
        kind = "DICOM"
    elif kind is None and head.lstrip().lower().startswith((b"<svg", b"<?xml", b"<html", b"<!doc")):
        kind = "text (SVG or HTML)"
    if kind is None:
        raise ValueError(
            f"cannot identify image file: it must be a {', '.join(_READERS)} or TIFF; got the "
            f"first bytes {head[:8]!r}"
        )
    if kind not in _READERS and kind != "TIFF":
        raise ValueError(
            f"the file must be a {', '.join(_READERS)} or TIFF; got the contents of {kind}. "
            "Convert it, rename it if skimbal reads that format, or pass a reader="
        )
    return kind


def _open(source: "BoundedFile | io.BytesIO", kind: str) -> "ImageFile":
    """Open a picture, of which pillow reads the header."""
    module, name = _READERS[kind].split(".")
    pillow = import_reader("PIL.Image", "pillow")
    try:
        picture: ImageFile = getattr(import_reader(f"PIL.{module}", "pillow"), name)(source)
    except pillow.DecompressionBombError as error:
        raise ValueError(
            f"{error} The limit is pillow's, for this format. Pass a reader= for such a file"
        ) from error
    except SyntaxError as error:
        remedy = ". Pass a reader= that knows this kind" if "12-bit" in str(error) else ""
        raise ValueError(f"pillow cannot read this {kind}: {error.msg}{remedy}") from error
    return picture


def _samples(picture: "ImageFile") -> tuple[Samples, np.dtype]:
    """Return the meaning of the channels of a picture, and the dtype, from its header."""
    form = _raw_form(picture)
    is_transparent = "transparency" in picture.info
    if form in _WIDE:
        _, n_colours, n = _WIDE[form]
        n += is_transparent
        return Samples(n_colours, n, n > n_colours, full=65535), np.dtype(np.uint16)
    mode = picture.mode
    n_colours = 1 if mode in ("1", "L", "LA", "I") or mode.startswith("I;16") else 3
    has_alpha = is_transparent or mode in ("LA", "RGBA", "PA")
    is_wide = mode.startswith("I")
    samples = Samples(n_colours, n_colours + has_alpha, has_alpha, full=65535 if is_wide else 255)
    return samples, np.dtype(np.uint16 if is_wide else np.uint8)


def _raw_form(picture: "ImageFile") -> str:
    """Return pillow's name of the form of the stored pixels of a PNG."""
    if picture.format != "PNG" or not picture.tile:
        return ""
    return str(picture.tile[0][3])


def _channels(path: str, picture: "ImageFile") -> np.ndarray:
    """Decode a picture, channels first."""
    form, mode = _raw_form(picture), picture.mode
    key = picture.info.get("transparency")
    if form in _WIDE:
        pixels = _wide_channels(path, picture, _WIDE[form][0])
    elif mode in ("P", "PA"):
        _check_palette(picture)
        is_transparent = mode == "PA" or key is not None
        return _first(np.asarray(picture.convert("RGBA" if is_transparent else "RGB")))
    elif mode == "1":
        pixels = np.where(np.asarray(picture), np.uint8(255), np.uint8(0))[None]
    elif mode.startswith("I"):
        pixels = np.asarray(picture)[None].astype(np.uint16)
    else:
        is_read = mode in ("L", "LA", "RGB", "RGBA")
        pixels = _first(np.asarray(picture if is_read else picture.convert("RGB")))
    if key is None:
        return pixels
    # Pillow scales grey of two and four bits to eight, but not the transparent grey.
    scale = {"L;2": 85, "L;4": 17}.get(form, 1)
    matches = pixels == np.reshape(np.asarray(key) * scale, (-1, 1, 1))
    full = np.iinfo(pixels.dtype).max
    alpha = np.where(matches.all(0), 0, full).astype(pixels.dtype)
    return np.concatenate([pixels, alpha[None]])


def _first(pixels: np.ndarray) -> np.ndarray:
    """Move the channels, if there is an axis for them, to the first axis."""
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _wide_channels(path: str, picture: "ImageFile", forms: tuple[str, ...]) -> np.ndarray:
    """Decode all bytes of a PNG of 16-bit colours: the high bytes, then the low bytes."""
    parts = []
    for form in forms:
        with BoundedFile(path) as file, _open(file, "PNG") as again:
            again.tile = [tile._replace(args=form) for tile in again.tile]
            parts.append(_first(np.asarray(again)).astype(np.uint16))
    picture.load()  # for the chunks behind the pixels, as all other pictures
    if len(parts) == 1:
        return parts[0][::2] * np.uint16(256) + parts[0][1::2]
    return parts[0] * np.uint16(256) + parts[1]


def _check_palette(picture: "ImageFile") -> None:
    """Refuse a picture that uses more colours than it lists."""
    palette = picture.palette
    if picture.mode != "P":
        return
    n_colours = 0
    if palette is not None:  # as it is before pillow decodes the pixels
        n_colours = len(palette.palette) // len(palette.rawmode or palette.mode)
    greatest = int(np.asarray(picture).max())
    if greatest >= n_colours:
        raise ValueError(
            f"its pixels must be numbers of the {n_colours} colours of its palette; got {greatest}"
        )


def _orientation(exif: "Exif") -> int:
    """Return the orientation, 1 to 8, in the metadata of a picture."""
    orientation = exif.get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _orientation_in_header(path: str, picture: "ImageFile") -> int:
    """Return the orientation of a picture that is not decoded."""
    if picture.format != "PNG":
        return _orientation(picture.getexif())
    # The metadata of a PNG may stand behind its pixels. To ask the reader of PNGs decodes them.
    with _open(io.BytesIO(_png_without_pixels(path)), "PNG") as bare:
        return _orientation(import_reader("PIL.Image", "pillow").Image.getexif(bare))


def _check_sums(path: str) -> None:
    """Refuse a PNG whose pixels do not have their checksums.

    Pillow stops at the last pixel, before it has compared the last one.
    """
    with BoundedFile(path) as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name != b"IDAT":
                file.seek(length + 4, io.SEEK_CUR)
                continue
            data, stated = file.read(length), file.read(4)
            # Pillow tells whether pixels are missing in a file that is cut short.
            if len(stated) == 4 and stated != struct.pack(">I", zlib.crc32(name + data)):
                raise ValueError("its pixels do not have their checksum. The file is damaged")


def _png_without_pixels(path: str) -> bytes:
    """Return the chunks of a PNG, with an empty one in place of its pixels, which are not read."""
    found = []
    with BoundedFile(path) as file:
        signature = file.read(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"IEND":
                break
            if name == b"IDAT":
                file.seek(length + 4, io.SEEK_CUR)
            else:
                found.append((name, file.read(length)))
                file.seek(4, io.SEEK_CUR)
    found += [(b"IDAT", b""), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in found
    ]
    return signature + b"".join(chunks)
