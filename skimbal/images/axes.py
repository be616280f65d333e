"""The axes of images: which are spatial, and which one counts channels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from skimbal.exceptions import ParameterError
from skimbal.images._reading import DecodedImage

__all__ = [
    "GuessedAxes",
    "guess_axes",
    "refuse_channels_last",
    "with_channels_first",
    "without_single_slice",
]


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

    Examples
    --------
    >>> from skimbal.images import guess_axes
    >>> guess_axes((100, 3, 64, 64)).n_spatial
    2
    """

    n_spatial: int
    channels_last: bool
    surely_channels_last: bool


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
        ``surely_channels_last`` is true if the last axis has length 1, 3 or 4, and all axes
        between it and the first are longer than 4. Where ``n_spatial`` leaves an axis for channels,
        it is also true if the others are at least twice as long as a last axis of length up to 5,
        or up to 16 in two dimensions, and for length 5 in two dimensions if they are longer.

    Examples
    --------
    >>> from skimbal.images import guess_axes
    >>> guess_axes((100, 3, 64, 64)).n_spatial, guess_axes((100, 64, 64, 64)).n_spatial
    (2, 3)
    >>> guess_axes((100, 64, 64, 3)).channels_last
    True
    >>> guess_axes((100, 64, 64, 13), n_spatial=2).surely_channels_last
    True
    """
    grey_or_rgb = (1, 3)
    has_four = len(shape) == 4
    is_flat = len(shape) <= 3 or (has_four and shape[1] in grey_or_rgb)
    last, others = shape[-1], min(shape[1:-1], default=0)
    surely = last in (*grey_or_rgb, 4) and others > 4
    if n_spatial is not None and len(shape) == n_spatial + 2:
        surely |= n_spatial == 2 and 1 <= last <= 5 and others > max(4, last)
        surely |= 1 <= last <= (16 if n_spatial == 2 else 5) and others >= max(5, 2 * last)
    return GuessedAxes(
        n_spatial=n_spatial or (2 if is_flat else 3),
        channels_last=has_four and last in grey_or_rgb,
        surely_channels_last=surely,
    )


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


def refuse_channels_last(image: DecodedImage, n_asked: int, path: str) -> None:
    """Refuse an image that does not state its axes and looks as if its channels came last."""
    shape = image.pixels.shape
    if image.n_spatial is not None or len(shape) not in (3, 4) or len(shape) == n_asked:
        return
    n_spatial = n_asked or (3 if len(shape) == 4 else None)
    if guess_axes((1, *shape), n_spatial).surely_channels_last:
        volume = "" if len(shape) == 4 else " For a volume, give size= or spacing= three numbers."
        raise ParameterError(
            "channel_axis",
            f"-1 if the last axis of {path} counts channels, as its shape {shape} suggests, and 0 "
            "if the first axis does",
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
