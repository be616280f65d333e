"""What an image viewer does with the numbers of a picture: it turns, blends and converts them."""

from typing import NamedTuple, TypeVar

import numpy as np

__all__ = ["Samples", "turn", "turned_size"]

Number = TypeVar("Number", int, float)


class Samples(NamedTuple):
    """The meaning of the channels of a picture, which are on its first axis.

    ``n_colours`` is 1 for grey, 3 for RGB, and 0 for channels that are no colours. Only colours are
    converted. The channel after the colours may be alpha, and ``full`` is the alpha of an opaque
    pixel. If the colours are premultiplied, the file stores them multiplied by alpha.
    """

    n_colours: int
    n_channels: int
    has_alpha: bool = False
    is_premultiplied: bool = False
    full: float = 255

    def n_asked(self, channels: int | None) -> int:
        """Return the number of channels that :meth:`convert` gives."""
        return channels if channels in (1, 3, 4) and self.n_colours else self.n_channels

    def convert(self, pixels: np.ndarray, channels: int | None) -> np.ndarray:
        """Give a picture the channels that are asked for, if it has colours.

        Without alpha, a picture stands on black.
        """
        if channels not in (1, 3, 4) or not self.n_colours:
            return self._with_alpha(pixels)
        if channels == 4:
            return self._rgba(pixels)
        colours = pixels[: self.n_colours]
        if self.has_alpha and not self.is_premultiplied:
            colours = self._scaled(colours, pixels[self.n_colours], self.full)
        if channels == 3:
            return np.broadcast_to(colours, (3, *colours.shape[1:]))
        return colours if self.n_colours == 1 else _grey(colours)[None]

    def _rgba(self, pixels: np.ndarray) -> np.ndarray:
        pixels = self._with_alpha(pixels)
        if self.has_alpha:
            alpha = pixels[self.n_colours]
        else:
            alpha = np.full(pixels.shape[1:], self.full, pixels.dtype)
        colours = pixels[: self.n_colours]
        return np.concatenate(
            [np.broadcast_to(colours, (3, *colours.shape[1:])), alpha[None]], dtype=pixels.dtype
        )

    def _with_alpha(self, pixels: np.ndarray) -> np.ndarray:
        """Return a picture whose colours are not multiplied by alpha."""
        if not self.is_premultiplied:
            return pixels
        alpha = pixels[self.n_colours]
        is_between = (alpha > 0) & (alpha < self.full)
        divisor = np.where(is_between, alpha, alpha.dtype.type(self.full))
        colours = self._scaled(pixels[: self.n_colours], self.full, divisor)
        return np.concatenate([colours, pixels[self.n_colours :]])

    def _scaled(
        self, colours: np.ndarray, factor: np.ndarray | float, divisor: np.ndarray | float
    ) -> np.ndarray:
        """Return colours * factor / divisor, rounded, and clipped to the range of the file."""
        if colours.dtype.kind == "f":
            return np.asarray(colours * factor / divisor, colours.dtype)
        wide = np.uint32 if self.full < 2**16 else np.float64
        product = colours.astype(wide) * np.asarray(factor).astype(wide)
        if wide is np.float64:
            scaled = np.rint(product / divisor)
        else:
            by = np.asarray(divisor).astype(wide)
            scaled = (product + by // 2) // by
        clipped: np.ndarray = np.minimum(scaled, self.full).astype(colours.dtype)
        return clipped


def _grey(rgb: np.ndarray) -> np.ndarray:
    """Return the luma of ITU-R 601, for integers as pillow rounds it."""
    red, green, blue = rgb
    if rgb.dtype.kind == "u" and rgb.dtype.itemsize <= 2:
        wide = [channel.astype(np.uint32) for channel in (red, green, blue)]
        luma = wide[0] * 19595 + wide[1] * 38470 + wide[2] * 7471 + 0x8000 >> 16
    else:
        luma = red * 0.299 + green * 0.587 + blue * 0.114
        luma = np.rint(luma) if rgb.dtype.kind in "iu" else luma
    return np.asarray(luma).astype(rgb.dtype)


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn the last two axes by an orientation of Exif and TIFF, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(-1, -2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[..., ::-1]
    return pixels[..., ::-1, :] if orientation in (3, 4, 7, 8) else pixels


def turned_size(size: tuple[Number, Number], orientation: int) -> tuple[Number, Number]:
    """Return the height and width, or the distances along them, after :func:`turn`."""
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size
