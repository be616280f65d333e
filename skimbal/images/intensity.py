"""Rules that bring the numbers of images to one scale."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from skimbal.exceptions import ParameterError
from skimbal.images._reading import DecodedImage, range_of_dtype
from skimbal.typing import is_number

__all__ = [
    "Intensity",
    "check_intensity",
    "is_scaled",
    "refuse_mixed_scales",
    "require_full_range",
    "scale_in_words",
    "scale_of_dtype",
    "scaled",
]

#: The name of a rule, a window (low, high) in units of the pixels, or None.
Intensity: TypeAlias = str | tuple[float, float] | None

_RULES = ("stored", "full_range", "percentiles")
_PERCENTILES = (1, 99)


def check_intensity(value: object) -> Intensity:
    """Check the parameter ``intensity``, and return a window as a tuple."""
    if value is None or (isinstance(value, str) and value in _RULES):
        return value
    if isinstance(value, tuple | list | np.ndarray) and len(value) == 2:
        low, high = value
        if is_number(low) and is_number(high) and low < high:
            return float(low), float(high)
    raise ParameterError(
        "intensity",
        f"None, {', '.join(map(repr, _RULES))} or a window (low, high) of two numbers, the lower "
        "first",
        value,
    )


def is_scaled(intensity: Intensity) -> bool:
    """Tell whether a rule changes the numbers of a file."""
    return intensity not in (None, "stored")


def refuse_mixed_scales(
    intensity: Intensity, path: str, image: DecodedImage, other: str, other_image: DecodedImage
) -> None:
    """Refuse two files whose numbers mean different things, unless the rule allows for it.

    A window is in units of the pixels, so that it suits only files of one unit.
    """
    if isinstance(intensity, str):
        return
    is_one_unit = image.unit == other_image.unit
    if is_one_unit and (intensity is not None or image.full_range == other_image.full_range):
        return
    expected = (
        f"given for files whose numbers have different scales ({path} holds {_words(image)}, "
        f"{other} holds {_words(other_image)})"
        if intensity is None
        else f"None or a rule by its name for files of different units ({path} holds "
        f"{_words(image)}, {other} holds {_words(other_image)})"
    )
    rules = ["'percentiles' scales each image by its own numbers", "'stored' keeps the numbers"]
    if image.full_range and other_image.full_range:
        rules.insert(0, "'full_range' brings what a file can hold to [0, 1]")
    remedy = f"{', '.join(rules[:-1])} and {rules[-1]}. Or load the files as two sets."
    raise ParameterError("intensity", expected, intensity, remedy)


def _words(image: DecodedImage) -> str:
    """State the meaning of the numbers of a file."""
    if image.unit is not None:
        return f"numbers in {image.unit}"
    if image.full_range is not None:
        return _range_in_words(image.full_range)
    return f"{image.pixels.dtype} numbers without a stated range"


def _range_in_words(full_range: tuple[float, float]) -> str:
    return f"numbers from {full_range[0]:g} to {full_range[1]:g}"


def scale_in_words(intensity: Intensity, image: DecodedImage) -> str | None:
    """Say which scale the numbers of a set have, or None if the user vouches for them."""
    if intensity == "stored":
        return None
    if isinstance(intensity, tuple):  # in units of the pixels
        unit = "without a unit" if image.unit is None else f"in {image.unit}"
        return f"numbers {unit}, scaled by intensity={intensity!r}"
    if intensity is not None:
        return f"numbers scaled by intensity={intensity!r}"
    if image.unit is None and image.full_range is None:
        return "numbers without a stated range"
    return _words(image)


def scale_of_dtype(dtype: npt.DTypeLike) -> str | None:
    """Say which scale numbers of a dtype have, or None if pictures do not have this dtype."""
    full_range = range_of_dtype(dtype)
    return None if full_range is None else _range_in_words(full_range)


def require_full_range(image: DecodedImage, path: str) -> tuple[float, float]:
    """Return the least and the greatest number that a file can hold, which it must state."""
    if image.full_range is None:
        raise ParameterError(
            "intensity",
            f"'percentiles', a window (low, high), 'stored' or None, as {path} holds "
            f"{_words(image)}",
            "full_range",
        )
    return image.full_range


def scaled(image: DecodedImage, intensity: Intensity, path: str) -> DecodedImage:
    """Bring the numbers of an image to [0, 1] by a rule, in float32."""
    if not is_scaled(intensity):
        return image
    # Integers above 16 bits are not exact in float32.
    wide = np.result_type(image.pixels.dtype, np.float32)
    numbers = image.pixels.astype(wide)
    low: float | np.ndarray
    high: float | np.ndarray
    if intensity == "percentiles":
        low, high = _percentiles(image._replace(pixels=numbers))
    elif isinstance(intensity, tuple):
        low, high = intensity
    else:
        low, high = require_full_range(image, path)
    numbers -= np.asarray(low, wide)
    numbers /= np.asarray(high - low, wide)
    if intensity != "full_range":
        np.clip(numbers, 0, 1, out=numbers)
    return image._replace(
        pixels=numbers.astype(np.float32, copy=False), full_range=(0.0, 1.0), unit=None
    )


def _percentiles(image: DecodedImage) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentiles that become 0 and 1, shaped to broadcast.

    Channels that share a scale, as colours do, share the percentiles. Other channels, such as the
    sequences of an MR, have their own.
    """
    pixels, n_spatial = image.pixels, image.n_spatial
    shares = image.full_range is not None or image.unit is not None
    axes = tuple(range(0 if shares or n_spatial is None else pixels.ndim - n_spatial, pixels.ndim))
    low, high = np.percentile(pixels, _PERCENTILES, axis=axes, keepdims=True)
    # An image that is constant but for a few pixels is scaled by its extremes.
    is_flat = low == high
    if is_flat.any():
        low = np.where(is_flat, pixels.min(axis=axes, keepdims=True), low)
        high = np.where(is_flat, pixels.max(axis=axes, keepdims=True), high)
    return low, np.where(low == high, low + 1, high)
