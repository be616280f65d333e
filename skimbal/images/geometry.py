"""The size, spacing and channels that images are brought to."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch

from skimbal.images._reading import DecodedImage, header_array
from skimbal.images.formats import read_image

__all__ = [
    "GuessedAxes",
    "ImageSpec",
    "axis_numbers",
    "cast_image",
    "check_finite",
    "guess_axes",
    "naming_file",
    "per_axis",
]


class GuessedAxes(NamedTuple):
    """What the shape of a stack of images says about its axes.

    Attributes
    ----------
    n_spatial : int
        Number of spatial axes, 2 or 3, of images whose channels come first.
    channels_last : bool
        Whether the last of four axes may count channels.
    surely_channels_last : bool
        Whether the last axis can hardly count anything but channels.
    """

    n_spatial: int
    channels_last: bool
    surely_channels_last: bool


def guess_axes(shape: Sequence[int]) -> GuessedAxes:
    """Guess which axes of a stack of images are spatial and which one counts channels.

    Four axes are a volume, (n, d, h, w), unless an axis has the length of grey or RGB channels.

    Parameters
    ----------
    shape : sequence of int
        Shape of the stack, (n_images, ...).

    Returns
    -------
    axes : GuessedAxes
        ``n_spatial`` is 2 for up to three axes, and for four if the second has length 1 or 3.
        ``channels_last`` is true if the last of four axes has length 1 or 3.
        ``surely_channels_last`` is true if the last axis has length 1, 3 or 4, and all axes
        between it and the first are longer than 4.

    Examples
    --------
    >>> from skimbal.images import guess_axes
    >>> guess_axes((100, 3, 64, 64)).n_spatial, guess_axes((100, 64, 64, 64)).n_spatial
    (2, 3)
    >>> guess_axes((100, 64, 64, 3)).channels_last
    True
    """
    grey_or_rgb = (1, 3)
    has_four = len(shape) == 4
    is_flat = len(shape) <= 3 or (has_four and shape[1] in grey_or_rgb)
    return GuessedAxes(
        n_spatial=2 if is_flat else 3,
        channels_last=has_four and shape[-1] in grey_or_rgb,
        surely_channels_last=shape[-1] in (*grey_or_rgb, 4) and min(shape[1:-1], default=0) > 4,
    )


@dataclass(frozen=True)
class ImageSpec:
    """What every image is to look like, as the parameters of :class:`ImageFiles` say."""

    size: int | tuple[int, ...] | None
    resize: str
    spacing: float | tuple[float, ...] | None
    channels: int | None
    reader: Callable[[str], Any] | None

    def check(self) -> None:
        """Refuse parameters that contradict each other."""
        if self.resize not in ("resample", "crop"):
            raise ValueError(f"resize must be 'resample' or 'crop', got {self.resize!r}.")
        if self.channels is not None and not (
            isinstance(self.channels, int | np.integer)
            and not isinstance(self.channels, bool)
            and self.channels >= 1
        ):
            raise ValueError(f"channels must be a positive integer, got {self.channels!r}.")
        lengths = {len(item) for item in (self.size, self.spacing) if isinstance(item, tuple)}
        if len(lengths) > 1:
            raise ValueError(
                f"size={self.size} and spacing={self.spacing} differ in their number of axes."
            )
        if self.spacing and self.size and self.resize == "resample":
            raise ValueError(
                "spacing= fixes the distance of voxels, which size= with resize='resample' would "
                "change again. Use resize='crop', or one of the two."
            )

    def remedy(self, first: tuple[int, ...], second: tuple[int, ...]) -> str:
        """Say what brings two shapes together."""
        axes = self._n_asked or min(len(first), len(second))
        if first[-axes:] == second[-axes:] or len(first) != len(second):
            return "Pass channels= to give all the same number of channels."
        return "Pass size= to bring all to one, with resize='resample' or resize='crop' to say how."

    def n_spatial(self, path: str, image: np.ndarray) -> int:
        """Tell the number of spatial axes of an image that has been brought into form."""
        if self.reader is None:
            return self._checked(read_image(path, self.channels, True))[1]
        return self._checked(DecodedImage(image, None, None))[1]

    def header(self, path: str) -> np.ndarray:
        """Return a stand-in with shape and dtype of the image, from the header of its file."""
        with naming_file(path):
            pixels, n_spatial, spacing = self._checked(read_image(path, self.channels, True))
            lead, between, after = self._shapes(pixels, n_spatial, spacing)
            dtype = np.dtype(np.float32) if self._resamples else pixels.dtype
            return header_array((*lead, *(after or between)), dtype)

    def image(self, path: str) -> np.ndarray:
        """Read an image and bring it into form."""
        with naming_file(path):
            if self.reader is None:
                image = read_image(path, self.channels, False)
            else:
                result = self.reader(path)
                pair = result if isinstance(result, tuple) else (result, None)
                spacing = None if pair[1] is None else tuple(float(mm) for mm in pair[1])
                image = DecodedImage(np.asarray(pair[0]), None, spacing)
            pixels, n_spatial, spacing = self._checked(image)
            check_finite(pixels, "it holds")
            lead, between, after = self._shapes(pixels, n_spatial, spacing)
            pixels = pixels.reshape(*lead, *pixels.shape[pixels.ndim - n_spatial :])
            if self._resamples:
                pixels = _resample(
                    pixels, after if after and self.resize == "resample" else between
                )
            if after and self.resize == "crop":
                pixels = _crop(pixels, after)
            return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))

    @property
    def _n_asked(self) -> int:
        """Number of spatial axes that the parameters ask for, 0 if they suit any."""
        items = (self.size, self.spacing)
        return next((len(item) for item in items if isinstance(item, tuple)), 0)

    @property
    def _resamples(self) -> bool:
        return bool(self.spacing or (self.size and self.resize == "resample"))

    def _checked(self, image: DecodedImage) -> tuple[np.ndarray, int, tuple[float, ...] | None]:
        """Check what was read; tell the number of its spatial axes."""
        pixels, n_spatial, spacing = image
        if pixels.dtype.kind not in "biuf":
            raise ValueError(f"expected real numbers, got {pixels.dtype}.")
        if pixels.ndim not in (2, 3, 4) or pixels.size == 0:
            raise ValueError(
                "expected an image of 2 or 3 axes, and one for channels before them; got shape "
                f"{pixels.shape}."
            )
        asked = self._n_asked
        if n_spatial is None:
            if asked:
                n_spatial = asked
            else:
                has_channels = pixels.shape[0] == self.channels and pixels.ndim > 2
                n_spatial = pixels.ndim - 1 if has_channels or pixels.ndim == 4 else pixels.ndim
        if (asked and asked != n_spatial) or pixels.ndim not in (n_spatial, n_spatial + 1):
            of_size = isinstance(self.size, tuple)
            name, value = ("size", self.size) if of_size else ("spacing", self.spacing)
            raise ValueError(
                f"expected {asked} spatial axes, for {name}={value}; got an image of shape "
                f"{pixels.shape} with {min(n_spatial, pixels.ndim)}."
            )
        return pixels, n_spatial, spacing

    def _shapes(
        self, pixels: np.ndarray, n_spatial: int, spacing: tuple[float, ...] | None
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]:
        """Return the axis of channels, if any, the shape at the asked spacing, and the size."""
        cut = pixels.ndim - n_spatial
        lead, shape = pixels.shape[:cut], pixels.shape[cut:]
        if self.channels is not None:
            lead = lead or (1,)
            if lead != (self.channels,):
                raise ValueError(
                    f"expected {self.channels} channels, for channels={self.channels}; got "
                    f"{lead[0]}, of shape {pixels.shape}."
                )
        if self.spacing:
            if spacing is None or not all(mm > 0 for mm in spacing):
                raise ValueError(
                    f"spacing={self.spacing} needs the distance of voxels, which the file does "
                    "not tell."
                )
            shape = tuple(
                max(1, round(n * old / new))
                for n, old, new in zip(
                    shape, spacing, per_axis(self.spacing, n_spatial), strict=True
                )
            )
        return lead, shape, None if self.size is None else per_axis(self.size, n_spatial)


def _resample(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Interpolate the last axes linearly, over as many pixels as one of the new ones covers."""
    image = torch.from_numpy(pixels.astype(np.float32))  # a copy: files may be mapped, read-only
    lead, n = image.shape[: image.ndim - len(size)], len(size)

    def along(planes: torch.Tensor, new: tuple[int, ...]) -> torch.Tensor:
        resized: torch.Tensor = torch.nn.functional.interpolate(
            planes, size=new, mode="bilinear", antialias=True
        )
        return resized

    if image.shape[-n:] != size:
        # Linear interpolation is one axis after the other, so two passes do a volume.
        depth = image.shape[-n] if n == 3 else 1
        image = along(image.reshape(1, -1, *image.shape[-2:]), size[-2:])
        if n == 3:
            image = along(
                image.reshape(1, -1, depth, size[1] * size[2]), (size[0], size[1] * size[2])
            )
    resampled: np.ndarray = image.reshape(*lead, *size).numpy()
    return resampled


def _crop(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Cut out the centre along the last axes, fill up around it where there is too little."""
    least = pixels.min()
    lead = pixels.ndim - len(size)
    cut, padding = [slice(None)] * lead, [(0, 0)] * lead
    for n, new in zip(pixels.shape[lead:], size, strict=True):
        start, missing = max(0, n - new) // 2, max(0, new - n)
        cut.append(slice(start, start + min(n, new)))
        padding.append((missing // 2, missing - missing // 2))
    return np.pad(pixels[tuple(cut)], padding, constant_values=least)


@np.errstate(over="ignore", invalid="ignore")
def cast_image(image: np.ndarray, dtype: np.dtype[Any], path: str) -> np.ndarray:
    if np.can_cast(image.dtype, dtype, "safe"):
        return image.astype(dtype, copy=False)
    if dtype.kind == "f":
        cast: np.ndarray = image.astype(dtype)
        fits = bool(np.isfinite(cast).all())
    else:
        whole = np.rint(image) if image.dtype.kind == "f" else image
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        fits = bool(int(whole.min()) >= least and int(whole.max()) <= most)
        cast = whole.astype(dtype)
    if not fits:
        raise ValueError(
            f"{path} has numbers from {image.min()} to {image.max()} ({image.dtype}), which "
            f"dtype={dtype} does not hold. Pass dtype='float32', or scale them by transform=."
        )
    return cast


def check_finite(image: np.ndarray, what: str) -> None:
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        n_bad = image.size - np.count_nonzero(np.isfinite(image))
        raise ValueError(
            f"{what} NaN or infinity ({n_bad} of {image.size} numbers). Replace them first, or by "
            "a reader of your own, such as with numpy.nan_to_num."
        )


def axis_numbers(name: str, value: Any, kind: Any) -> Any:
    """Check a number for each of two or three axes, or one for all of them."""
    if value is None:
        return None
    what = "positive integers" if kind is int else "positive numbers, in mm"
    types: Any = Integral if kind is int else Real
    several = isinstance(value, tuple | list | np.ndarray)
    items = value if several else [value]
    if not all(
        isinstance(item, types) and not isinstance(item, bool) and 0 < item < math.inf
        for item in items
    ) or (several and len(value) not in (2, 3)):
        raise ValueError(
            f"{name} must be a tuple of two or three {what}, one for each spatial axis, or one for "
            f"all of them; got {value!r}."
        )
    return tuple(kind(item) for item in items) if several else kind(value)


def per_axis(value: Any, n_axes: int) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * n_axes


@contextmanager
def naming_file(path: str) -> Iterator[None]:
    """Name the file in every error about it."""
    try:
        yield
    except (ImportError, MemoryError, FileNotFoundError, PermissionError):
        raise
    # More types than can be listed: each library raises its own, and those of python besides.
    except Exception as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise ValueError(
            f"cannot read {path}: {reason}. Replace the file, leave it out, or pass "
            "on_error='skip' to leave out all such files."
        ) from error
