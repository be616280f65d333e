"""PNG, JPEG, TIFF and BMP."""

import importlib

import numpy as np

from skimbal.images._reading import DecodedImage, header_array, import_needed

__all__ = ["read_picture"]


def read_picture(path: str, channels: int | None, header_only: bool) -> DecodedImage:
    Image = import_needed("PIL.Image", "pillow")
    # The formats that are promised, and no other of the many that pillow knows.
    with Image.open(path, formats=("PNG", "JPEG", "TIFF", "BMP")) as picture:
        mode = picture.mode
        is_wide = mode in ("I", "F") or mode.startswith("I;16")  # conversion would cut to bytes
        if channels in (3, 4) and not is_wide:
            mode = "RGB" if channels == 3 else "RGBA"
        elif channels == 1 and not is_wide and mode != "1":
            mode = "L"
        elif mode not in ("1", "L", "LA", "RGB", "RGBA") and not is_wide:
            is_transparent = mode in ("PA", "RGBa") or "transparency" in picture.info
            mode = "RGBA" if is_transparent else "RGB"
        kind = importlib.import_module("PIL.ImageMode").getmode(mode)
        n_pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
        pages = []
        for page in range(n_pages):
            if n_pages > 1:
                picture.seek(page)
            # Pillow turns pages of TIFF itself. To ask a PNG would decode it.
            turns = picture.format == "JPEG" and picture.getexif().get(0x0112, 1) != 1
            if header_only:
                w, h = picture.size
                if turns and picture.getexif()[0x0112] >= 5:
                    w, h = h, w
                shape = (h, w, len(kind.bands)) if len(kind.bands) > 1 else (h, w)
                pages.append(header_array(shape, kind.typestr))
                continue
            turned = (
                import_needed("PIL.ImageOps", "pillow").exif_transpose(picture)
                if turns
                else picture
            )
            pages.append(np.asarray(turned if turned.mode == mode else turned.convert(mode)))
    if len({page.shape for page in pages}) > 1:
        raise ValueError(
            f"its pages differ in shape, {pages[0].shape} and others; expected slices of a volume"
        )
    if header_only:
        pixels = header_array(
            (n_pages, *pages[0].shape) if n_pages > 1 else pages[0].shape, pages[0].dtype
        )
    else:
        pixels = np.stack(pages) if n_pages > 1 else pages[0]
    if len(kind.bands) > 1:
        pixels = np.moveaxis(pixels, -1, 0)
    elif channels == 3:
        pixels = np.broadcast_to(pixels, (3, *pixels.shape))
    return DecodedImage(pixels, 3 if n_pages > 1 else 2, None)
