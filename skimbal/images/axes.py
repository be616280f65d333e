"""The axes of images: which are spatial, and which one counts channels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from skimbal.exceptions import ParameterError
from skimbal.images._reading import DecodedImage

__all__ = [
    "GuessedAxes",
    "check_unstated_axes",
    "guess_axes",
    "with_channels_first",
    "without_single_slice",
]


#: Lengths of an axis that counts the channels of grey or RGB images.
_GREY_OR_RGB = (1, 3)
_GREY_TO_RGBA = (1, 3, 4)
#: The greatest length of a last axis that may count channels, such as the bands of a satellite.
_MOST_CHANNELS = 16
#: A doubt about an axis of an array.
_DOUBT = (
    "the {} axis of the array is short, and is taken for a spatial axis. Pass channel_axis= if an "
    "axis counts channels, or size= of three numbers if none does"
)


class GuessedAxes(NamedTuple):
    """Axes of a stack of images, guessed from its shape.

    Parameters
    ----------
    n_spatial : int
        Number of spatial axes, 2 or 3, of images whose channels come first.
    channels_last : bool
        Whether the last of four axes may count channels.
    surely_channels_last : bool
        Whether the last axis can hardly count anything but channels.
    maybe_channels_last : bool
        Whether the last axis is short enough to count channels, but may be spatial as well.

    Examples
    --------
    >>> from skimbal.images import guess_axes
    >>> guess_axes((100, 3, 64, 64)).n_spatial
    2
    """

    n_spatial: int
    channels_last: bool
    surely_channels_last: bool
    maybe_channels_last: bool = False


def guess_axes(shape: Sequence[int], n_spatial: int | None = None) -> GuessedAxes:
    """Guess which axes of a stack of images are spatial and which one counts channels.

    Four axes are a volume, (n, d, h, w), unless an axis has the length of grey or RGB channels.

    Parameters
    ----------
    shape : sequence of int
        Shape of the stack, (n_images, ...).
    n_spatial : int, default=None
        Number of spatial axes, 2 or 3, if it is known.

    Returns
    -------
    axes : GuessedAxes
        ``n_spatial`` is as given. Otherwise it is 2 for up to three axes, and for four if the
        second has length 1 or 3.
        ``channels_last`` is true if the last of four axes has length 1 or 3.
        ``surely_channels_last`` is true if the last axis has length 1, 3 or 4 and all axes between
        it and the first are longer, or length 2 or 5 and they are at least twice as long. With
        three axes they must be longer than 4. Where ``n_spatial`` leaves an axis for channels, the
        lengths up to 16 count in two dimensions, and so do square and cubic images with a last axis
        of another length.
        ``maybe_channels_last`` is true for further lengths up to 16 that are shorter than the other
        axes, and for square images with a longer last axis.

    Examples
    --------
    >>> from skimbal.images import guess_axes
    >>> guess_axes((100, 3, 64, 64)).n_spatial, guess_axes((100, 64, 64, 64)).n_spatial
    (2, 3)
    >>> guess_axes((100, 64, 64, 3)).channels_last
    True
    >>> guess_axes((100, 64, 64, 13), n_spatial=2).surely_channels_last
    True
    >>> guess_axes((100, 64, 64, 13), n_spatial=3).maybe_channels_last
    True
    """
    has_four = len(shape) == 4
    is_flat = len(shape) <= 3 or (has_four and shape[1] in _GREY_OR_RGB)
    has_room = n_spatial is not None and len(shape) == n_spatial + 2
    last, others = shape[-1], shape[1:-1]
    if has_room:
        surely, maybe = _last_beside_channels(others, last)
    else:
        surely, maybe = _last_without_channels(others, last)
    return GuessedAxes(
        n_spatial=n_spatial or (2 if is_flat else 3),
        channels_last=has_four and last in _GREY_OR_RGB,
        surely_channels_last=surely,
        maybe_channels_last=maybe and not surely,
    )


def _last_beside_channels(others: Sequence[int], last: int) -> tuple[bool, bool]:
    """Tell whether the last axis surely, or maybe, counts channels, if the first one should."""
    least, is_flat = min(others), len(others) == 2
    most = _MOST_CHANNELS if is_flat else 5
    is_colour = last in _GREY_TO_RGBA and least > last and others[0] not in _GREY_TO_RGBA
    is_short = 1 <= last <= most and least >= max(5, 2 * last)
    is_short |= is_flat and 1 <= last <= 5 and least > max(4, last)
    # Channels first would then be as many as an image has rows.
    is_square = len(set(others)) == 1 and last != least
    surely = is_colour or is_short or (is_square and least >= 4 and last <= _MOST_CHANNELS)
    return surely, least > 4 and (is_square or 1 < last <= min(most, least - 1))


def _last_without_channels(others: Sequence[int], last: int) -> tuple[bool, bool]:
    """Tell whether the last axis surely, or maybe, counts channels, if no other axis does."""
    least, is_stack = min(others, default=0), len(others) == 2
    is_colour = last in _GREY_TO_RGBA and least > (last if is_stack else 4)
    is_short = last in (2, 5) and least >= max(5, 2 * last)
    may_be = 1 < last <= _MOST_CHANNELS and least >= 2 * last
    may_be |= 1 < last <= 5 and least > last
    return is_colour or (is_stack and is_short), is_stack and least > 4 and may_be


def with_channels_first(image: DecodedImage, channel_axis: int, path: str) -> DecodedImage:
    """Move the axis of the channels to the front, in an image that does not state its axes."""
    pixels = image.pixels
    if image.n_spatial is not None:
        raise ParameterError(
            "channel_axis",
            f"None for {path}, whose format states the axes",
            channel_axis,
            "It is for arrays, and for arrays of a reader.",
        )
    if not -pixels.ndim <= channel_axis < pixels.ndim or pixels.ndim not in (3, 4):
        raise ParameterError(
            "channel_axis",
            f"an axis beside two or three spatial axes, also for {path} of shape {pixels.shape}",
            channel_axis,
        )
    return image._replace(pixels=np.moveaxis(pixels, channel_axis, 0), n_spatial=pixels.ndim - 1)


def check_unstated_axes(
    image: DecodedImage, n_asked: int, resizes_all: bool, channels: int | None, path: str
) -> DecodedImage:
    """Refuse an image that does not state its axes and looks as if some of them counted channels.

    An image that may be a volume as well is returned with a doubt. ``resizes_all`` tells whether
    all axes get another length.
    """
    shape = image.pixels.shape
    if image.n_spatial is not None or len(shape) not in (3, 4) or len(shape) == n_asked:
        return image
    axes = guess_axes((1, *shape), n_asked or (3 if len(shape) == 4 else None))
    if axes.surely_channels_last:
        raise _unstated(shape, "-1 if the last axis", "0 if the first axis does", path)
    if axes.maybe_channels_last:
        image = image._replace(doubt=_DOUBT.format("last"))
    if len(shape) == 4 or n_asked or channels == shape[0] or not resizes_all:
        return image
    if channels is None and axes.n_spatial == 2 and min(shape[1:]) > 1:
        raise _unstated(shape, "0 if the first axis", "-1 if the last axis does", path)
    if 1 < shape[0] <= 5 and min(shape[1:]) >= 2 * shape[0]:
        image = image._replace(doubt=_DOUBT.format("first"))
    return image


def _unstated(shape: tuple[int, ...], first: str, second: str, path: str) -> ParameterError:
    """Return the error about an image that does not state which of its axes counts channels."""
    volume = "" if len(shape) == 4 else " For a volume, give size= or spacing= three numbers."
    return ParameterError(
        "channel_axis",
        f"{first} of {path} counts channels, as its shape {shape} suggests, and {second}",
        None,
        f"Channels come first.{volume}",
    )


def without_single_slice(image: DecodedImage, n_asked: int) -> DecodedImage:
    """Return a volume of one slice as an image of two axes, unless three axes are asked for."""
    if image.n_spatial != 3 or n_asked == 3 or image.pixels.ndim < 3:
        return image
    before = image.pixels.ndim - 3
    flat = [axis for axis, n in enumerate(image.pixels.shape[before:]) if n == 1]
    if len(flat) != 1:
        return image
    mm = image.spacing
    return image._replace(
        pixels=image.pixels.squeeze(before + flat[0]),
        n_spatial=2,
        spacing=None if mm is None else mm[: flat[0]] + mm[flat[0] + 1 :],
    )
