"""PNG, JPEG, TIFF and BMP."""

import importlib
from typing import TYPE_CHECKING

import numpy as np

from skimbal.images._reading import (
    DecodedImage,
    ReadRequest,
    header_array,
    import_reader,
    range_of_dtype,
)

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["read_picture"]

#: The formats that are promised. Pillow knows many others.
_PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
#: Number of the Exif entry that says how a camera was held.
_ORIENTATION = 0x0112


def read_picture(path: str, request: ReadRequest) -> DecodedImage:
    """Read a picture as a viewer shows it, and the pages of a TIFF as a volume."""
    pillow = import_reader("PIL.Image", "pillow")
    with pillow.open(path, formats=_PILLOW_FORMATS) as picture:
        mode = _mode_to_read(picture, request.channels)
        n_pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
        pages = []
        for page in range(n_pages):
            if n_pages > 1:
                picture.seek(page)
            pages.append((_page_header if request.header_only else _page)(picture, mode))
    shapes = list(dict.fromkeys(page.shape for page in pages))
    if len(shapes) > 1:
        raise ValueError(f"the pages of a volume must have one shape; got {shapes[0]} and others")
    if request.header_only:
        shape = (n_pages, *shapes[0]) if n_pages > 1 else shapes[0]
        pixels = header_array(shape, pages[0].dtype)
    else:
        pixels = np.stack(pages) if n_pages > 1 else pages[0]
    if len(_bands(mode)) > 1:
        pixels = np.moveaxis(pixels, -1, 0)
    elif request.channels == 3:
        pixels = np.broadcast_to(pixels, (3, *pixels.shape))
    n_spatial = 3 if n_pages > 1 else 2
    return DecodedImage(pixels, n_spatial, full_range=range_of_dtype(pixels.dtype))


def _mode_to_read(picture: "Image", channels: int | None) -> str:
    """Return the mode of pillow that has the channels that are asked for."""
    mode = picture.mode
    # A conversion of wide numbers would cut them to bytes.
    is_wide = mode in ("I", "F") or mode.startswith("I;16")
    if channels in (3, 4) and not is_wide:
        return "RGB" if channels == 3 else "RGBA"
    if channels == 1 and not is_wide and mode != "1":
        return "L"
    if mode in ("1", "L", "LA", "RGB", "RGBA") or is_wide:
        return mode
    is_transparent = mode in ("PA", "RGBa") or "transparency" in picture.info
    return "RGBA" if is_transparent else "RGB"


def _bands(mode: str) -> tuple[str, ...]:
    bands: tuple[str, ...] = importlib.import_module("PIL.ImageMode").getmode(mode).bands
    return bands


def _is_turned(picture: "Image") -> bool:
    # Pillow turns pages of TIFF itself. To ask a PNG would decode it.
    return picture.format == "JPEG" and picture.getexif().get(_ORIENTATION, 1) != 1


def _page(picture: "Image", mode: str) -> np.ndarray:
    """Decode the current page, turned as a viewer turns it."""
    if _is_turned(picture):
        picture = import_reader("PIL.ImageOps", "pillow").exif_transpose(picture)
    return np.asarray(picture if picture.mode == mode else picture.convert(mode))


def _page_header(picture: "Image", mode: str) -> np.ndarray:
    """Return an array of the shape and dtype of the current page."""
    w, h = picture.size
    if _is_turned(picture) and picture.getexif()[_ORIENTATION] >= 5:
        w, h = h, w
    bands = _bands(mode)
    shape = (h, w, len(bands)) if len(bands) > 1 else (h, w)
    return header_array(shape, importlib.import_module("PIL.ImageMode").getmode(mode).typestr)
