"""NIfTI."""

import math
import os

import numpy as np

from skimbal.images._reading import DecodedImage, ReadRequest, header_array, import_reader

__all__ = ["read_nifti"]


def read_nifti(path: str, request: ReadRequest) -> DecodedImage:
    """Read an image, turn it to the closest RAS+ axes, and scale it by slope and intercept."""
    nibabel = import_reader("nibabel")
    image = nibabel.load(path, mmap=False)
    proxy = image.dataobj
    is_scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
    end = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if not path.lower().endswith(".gz") and os.path.getsize(path) < end:
        raise ValueError(
            f"the file must have {end} bytes, as its header says; got {os.path.getsize(path)}. It "
            "is cut short"
        )
    if request.header_only:
        pixels = header_array(proxy.shape, np.float32 if is_scaled else proxy.dtype)
    elif is_scaled:
        pixels = np.asarray(proxy, dtype=np.float32)
    else:
        pixels = np.asarray(proxy.get_unscaled())
    mm = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    spacing = [mm * float(zoom) for zoom in image.header.get_zooms()[:3]]
    if pixels.ndim > 3:  # x, y, z, then one axis of time, channels or both
        pixels = pixels.reshape(*pixels.shape[:3], *(n for n in pixels.shape[3:] if n > 1))
        pixels = pixels if pixels.ndim > 3 else pixels[..., None]
    if pixels.ndim >= 3:
        turn = nibabel.io_orientation(image.affine)
        pixels = nibabel.apply_orientation(pixels, turn)
        spacing = [spacing[i] for i in np.argsort(turn[:, 0])]
    if pixels.ndim == 4:
        pixels = np.moveaxis(pixels, 3, 0)
    return DecodedImage(pixels, min(3, pixels.ndim), tuple(spacing))
