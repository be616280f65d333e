"""The size, spacing, channels and scale of numbers that images are brought to."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch

from skimbal.exceptions import ParameterError
from skimbal.images._naming import naming_file
from skimbal.images._reading import (
    DEFAULT_MAX_PIXELS,
    DecodedImage,
    ReadRequest,
    header_array,
    range_of_dtype,
)
from skimbal.images.axes import (
    check_unstated_axes,
    guess_axes,
    with_channels_first,
    without_single_slice,
)
from skimbal.images.formats import read_image
from skimbal.images.intensity import (
    Intensity,
    check_intensity,
    is_scaled,
    require_full_range,
    scaled,
)
from skimbal.typing import is_integer, is_number

__all__ = [
    "FormedImage",
    "ImageSpec",
    "Reader",
    "axis_numbers",
    "cast_image",
    "count_not_finite",
]

#: A function of the user: an array from a path, a pair of it and the distances of its voxels, or
#: a DecodedImage.
Reader: TypeAlias = Callable[[str], object]
Number = TypeVar("Number", int, float)

_OR_LEAVE_OUT = "Otherwise leave this file out."


class FormedImage(NamedTuple):
    """An image in the form of a spec, or its shape and dtype, with the facts of its file."""

    pixels: np.ndarray
    n_spatial: int
    #: Whether the file or a parameter states which axes are spatial.
    knows_axes: bool
    #: The facts of the file, with a single number of its dtype for pixels.
    file: DecodedImage
    #: Whether it was brought to another shape.
    is_reshaped: bool = False


@dataclass(frozen=True)
class ImageSpec:
    """The form that images are brought to: the parameters of :class:`ImageFiles` for it."""

    size: int | tuple[int, ...] | None
    resize: str
    spacing: float | tuple[float, ...] | None
    channels: int | None
    reader: Reader | None
    max_pixels: int = DEFAULT_MAX_PIXELS
    channel_axis: int | None = None
    intensity: Intensity = None

    def check(self) -> None:
        """Refuse parameters that contradict each other."""
        check_intensity(self.intensity)
        if self.channel_axis is not None and not is_integer(self.channel_axis):
            raise ParameterError("channel_axis", "an integer or None", self.channel_axis)
        if self.resize not in ("resample", "crop"):
            raise ParameterError("resize", "'resample' or 'crop'", self.resize)
        if self.channels is not None and not (is_integer(self.channels) and self.channels >= 1):
            raise ParameterError("channels", "a positive integer or None", self.channels)
        if not (is_integer(self.max_pixels) and self.max_pixels >= 1):
            raise ParameterError("max_pixels", "a positive integer", self.max_pixels)
        lengths = {len(item) for item in (self.size, self.spacing) if isinstance(item, tuple)}
        if len(lengths) > 1:
            raise ParameterError(
                "size",
                f"as long as spacing, {self.spacing}",
                self.size,
                "Both have a number for each spatial axis.",
            )
        if self.spacing and self.size and self.resize == "resample":
            raise ParameterError(
                "resize",
                "'crop' if spacing and size are both given",
                self.resize,
                "Resampling to a size would change the spacing again.",
            )

    def unequal_axes(
        self, path: str, image: FormedImage, other: str, other_image: FormedImage
    ) -> ParameterError:
        """Return the error about two images of different numbers of spatial axes."""
        return ParameterError(
            "size",
            f"three numbers for images of {image.n_spatial} and {other_image.n_spatial} spatial "
            f"axes ({path} has {image.pixels.shape}, {other} has {other_image.pixels.shape})",
            self.size,
            "An image of one slice is then a volume. Otherwise leave out images of two axes.",
        )

    def unequal_shapes(
        self, path: str, shape: tuple[int, ...], other: str, other_shape: tuple[int, ...]
    ) -> ParameterError:
        """Return the error about two images of different shapes."""
        axes = self._n_asked or min(len(shape), len(other_shape))
        differ = (
            f"given for images of different shapes ({path} has {shape}, {other} has {other_shape})"
        )
        if shape[-axes:] == other_shape[-axes:] or len(shape) != len(other_shape):
            # Spatial axes may be those of a size that was only tried.
            counts = [_channels_of(each, axes) for each in (shape, other_shape)]
            differ = (
                f"given for images of different numbers of channels ({path} has {counts[0]}, "
                f"{other} has {counts[1]})"
            )
            remedy = "It gives all images the same number of channels."
            return ParameterError("channels", differ, self.channels, remedy)
        remedy = "It brings all images to one shape, by resize='resample' or resize='crop'."
        return ParameterError("size", differ, self.size, remedy)

    def header(self, path: str) -> FormedImage:
        """Return an array of the shape and dtype of the image, from the header of its file."""
        with naming_file(path):
            file = read_image(path, self._request(header_only=True))
            image = self._checked(file, path)
            if self.intensity == "full_range":
                require_full_range(image, path)
            lead, between, after = self._shapes(image, path)
            is_float = self._resamples or is_scaled(self.intensity)
            dtype = np.dtype(np.float32) if is_float else image.pixels.dtype
            formed = self._formed(header_array((*lead, *(after or between)), dtype), image, file)
            shapes = {image.pixels.shape[len(image.pixels.shape) - len(between) :], between}
            return formed._replace(is_reshaped=len({*shapes, after or between}) > 1)

    def image(self, path: str) -> FormedImage:
        """Read an image and bring it into form."""
        with naming_file(path):
            file = (
                read_image(path, self._request(header_only=False))
                if self.reader is None
                else _read_by(self.reader, path)
            )
            image = self._checked(file, path)
            n_bad = count_not_finite(image.pixels)
            if n_bad:
                raise ValueError(
                    f"the image must hold finite numbers; got NaN or infinity in {n_bad} of "
                    f"{image.pixels.size}. Replace them first, or in a reader=, as "
                    "numpy.nan_to_num does"
                )
            # Before any interpolation and padding, so that these work on the final scale.
            image = scaled(image, self.intensity, path)
            lead, between, after = self._shapes(image, path)
            pixels = image.pixels
            pixels = pixels.reshape(*lead, *pixels.shape[pixels.ndim - len(between) :])
            if self._resamples:
                pixels = _resample(
                    pixels, after if after and self.resize == "resample" else between
                )
            if after and self.resize == "crop":
                pixels = _crop(pixels, after, _background(image))
            pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
            return self._formed(pixels, image, file)

    def _formed(self, pixels: np.ndarray, image: DecodedImage, file: DecodedImage) -> FormedImage:
        assert image.n_spatial is not None
        knows_axes = bool(
            # An array that was resized along all axes has no channels among them.
            file.n_spatial is not None
            or self.channel_axis is not None
            or self.size
            or self._n_asked
        )
        facts = file._replace(pixels=np.zeros((), file.pixels.dtype), doubt=image.doubt)
        return FormedImage(pixels, image.n_spatial, knows_axes, facts)

    def _request(self, *, header_only: bool) -> ReadRequest:
        return ReadRequest(self.channels, header_only, int(self.max_pixels))

    @property
    def _n_asked(self) -> int:
        """Number of spatial axes that the parameters ask for, 0 if they suit any."""
        items = (self.size, self.spacing)
        return next((len(item) for item in items if isinstance(item, tuple)), 0)

    @property
    def _resamples(self) -> bool:
        return bool(self.spacing or (self.size and self.resize == "resample"))

    def _checked(self, image: DecodedImage, path: str) -> DecodedImage:
        """Check the axes of an image, and return it with the number of its spatial axes."""
        if image.pixels.dtype.kind not in "biuf":
            raise ValueError(f"the image must hold real numbers; got {image.pixels.dtype}")
        if image.pixels.dtype.itemsize > 8:
            raise ValueError(f"its numbers must have at most 64 bits; got {image.pixels.dtype}")
        if image.pixels.ndim not in (2, 3, 4) or image.pixels.size == 0:
            raise ValueError(
                "the image must have 2 or 3 spatial axes, and may have channels before them; got "
                f"shape {image.pixels.shape}"
            )
        if self.channel_axis is None:
            resizes_all = self.size is not None and not self._n_asked
            image = check_unstated_axes(image, self._n_asked, resizes_all, self.channels, path)
            image = without_single_slice(image, self._n_asked)
        else:
            image = with_channels_first(image, int(self.channel_axis), path)
        n_spatial = self._n_spatial(image)
        self._check_n_axes(image.pixels.shape, n_spatial, path)
        return image._replace(n_spatial=n_spatial)

    def _n_spatial(self, image: DecodedImage) -> int:
        """Return the number of spatial axes, which not all files state."""
        shape = image.pixels.shape
        if image.n_spatial is not None:
            return image.n_spatial
        if self._n_asked:
            return self._n_asked
        has_channels = len(shape) == 3 and (
            shape[0] == self.channels
            or (self.channels is None and guess_axes((1, *shape)).n_spatial == 2)
        )
        return len(shape) - 1 if has_channels or len(shape) == 4 else len(shape)

    def _check_n_axes(self, shape: tuple[int, ...], n_spatial: int, path: str) -> None:
        asked, fits = self._n_asked, len(shape) in (n_spatial, n_spatial + 1)
        if asked and (asked != n_spatial or not fits):
            of_size = isinstance(self.size, tuple)
            raise ParameterError(
                "size" if of_size else "spacing",
                f"a number for each of {min(n_spatial, len(shape))} spatial axes, as {path} has "
                f"shape {shape}",
                self.size if of_size else self.spacing,
                _OR_LEAVE_OUT,
            )
        if not fits:
            raise ValueError(
                f"the image must have {n_spatial} spatial axes, and may have channels before "
                f"them; got shape {shape}"
            )

    def _shapes(
        self, image: DecodedImage, path: str
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]:
        """Return the axis of channels, if any, the shape at the asked spacing, and the size."""
        assert image.n_spatial is not None
        n_spatial, spacing = image.n_spatial, image.spacing
        cut = image.pixels.ndim - n_spatial
        lead, shape = image.pixels.shape[:cut], image.pixels.shape[cut:]
        if self.channels is not None:
            lead = lead or (1,)
            if lead != (self.channels,):
                raise ParameterError(
                    "channels",
                    f"{lead[0]}, as {path} has shape {image.pixels.shape}",
                    self.channels,
                    f"Only pictures are converted to other channels. {_OR_LEAVE_OUT}",
                )
        if self.spacing:
            if spacing is None or not all(mm > 0 for mm in spacing):
                raise ParameterError(
                    "spacing",
                    f"None, as {path} does not state the distance of its voxels",
                    self.spacing,
                    _OR_LEAVE_OUT,
                )
            shape = self._at_spacing(shape, spacing, path)
        size = None if self.size is None else _per_axis(self.size, n_spatial)
        for form in {shape, size or shape}:
            n_pixels = math.prod((*lead, *form))
            if n_pixels > self.max_pixels and form != image.pixels.shape[cut:]:
                raise ParameterError(
                    "max_pixels",
                    f"at least {n_pixels} for {path}, which gets the shape {(*lead, *form)}",
                    self.max_pixels,
                    f"Check size=, and spacing= against the voxels of the file, {spacing} mm.",
                )
        return lead, shape, size

    def _at_spacing(
        self, shape: tuple[int, ...], spacing: tuple[float, ...], path: str
    ) -> tuple[int, ...]:
        """Return the shape at the asked spacing, or refuse a spacing that leaves no voxel."""
        asked = _per_axis(self.spacing or 1.0, len(shape))
        lengths = [n * old / new for n, old, new in zip(shape, spacing, asked, strict=True)]
        # A single slice stays one, however thin it is.
        if any(length < 0.5 and n > 1 for length, n in zip(lengths, shape, strict=True)):
            raise ParameterError(
                "spacing",
                f"less than the extent of the image along each axis, also for {path} of shape "
                f"{shape}, whose voxels are {spacing} mm by its header",
                self.spacing,
                "Check the unit of the file.",
            )
        return tuple(max(1, round(length)) for length in lengths)


def _read_by(reader: Reader, path: str) -> DecodedImage:
    """Read an image by a function of the user."""
    result = reader(path)
    if isinstance(result, DecodedImage):
        return result
    pixels, spacing = result if isinstance(result, tuple) else (result, None)
    mm = None if spacing is None else tuple(float(distance) for distance in spacing)
    array = np.asarray(pixels)
    return DecodedImage(array, None, mm, range_of_dtype(array.dtype))


def _resample(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Interpolate the last axes linearly, over as many pixels as a new pixel covers."""
    with np.errstate(over="ignore"):
        numbers = pixels.astype(np.float32)  # a copy: files may be mapped, read-only
    image = torch.from_numpy(numbers)
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
    if count_not_finite(resampled):
        least, greatest = float(pixels.min()), float(pixels.max())
        raise ValueError(
            "resampled images are float32, which holds no number beyond 3.4e38; got numbers from "
            f"{least:g} to {greatest:g}. Scale them first, in a reader="
        )
    return resampled


def _background(image: DecodedImage) -> np.ndarray:
    """Return the number of each channel that is put around an image, shaped to broadcast.

    Around colours that is black, as the least numbers of the channels would make a colour of their
    own. Else it is the least number of the channel.
    """
    assert image.n_spatial is not None
    n_channels = image.pixels.shape[0] if image.pixels.ndim > image.n_spatial else 1
    if n_channels > 1 and image.full_range is not None:
        return np.full((1,) * image.pixels.ndim, image.full_range[0], image.pixels.dtype)
    axes = tuple(range(image.pixels.ndim - image.n_spatial, image.pixels.ndim))
    least: np.ndarray = image.pixels.min(axis=axes, keepdims=True)
    return least


def _crop(pixels: np.ndarray, size: tuple[int, ...], background: np.ndarray) -> np.ndarray:
    """Cut out the centre along the last axes, and pad it evenly where the image is smaller."""
    lead = pixels.ndim - len(size)
    source, target = [slice(None)] * lead, [slice(None)] * lead
    for n, new in zip(pixels.shape[lead:], size, strict=True):
        start, missing = max(0, n - new) // 2, max(0, new - n)
        source.append(slice(start, start + min(n, new)))
        target.append(slice(missing // 2, missing // 2 + min(n, new)))
    cropped = np.empty((*pixels.shape[:lead], *size), pixels.dtype)
    cropped[...] = background
    cropped[tuple(target)] = pixels[tuple(source)]
    return cropped


@np.errstate(over="ignore", invalid="ignore")
def cast_image(image: np.ndarray, dtype: np.dtype[Any], path: str) -> np.ndarray:
    """Cast an image to a dtype that holds all its numbers."""
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
        raise ParameterError(
            "dtype",
            f"a dtype that holds the numbers of {path}, {image.min()} to {image.max()} "
            f"({image.dtype})",
            str(dtype),
            "Use 'float32', or scale the images by a transform.",
        )
    return cast


def count_not_finite(image: np.ndarray) -> int:
    """Count the numbers that are NaN or infinity."""
    if image.dtype.kind != "f":
        return 0
    is_finite = np.isfinite(image)
    return 0 if is_finite.all() else image.size - int(np.count_nonzero(is_finite))


def axis_numbers(
    name: str, value: object, kind: type[Number]
) -> Number | tuple[Number, ...] | None:
    """Check a number for each of two or three axes, or one for all of them."""
    if value is None:
        return None
    items: list[Any]
    is_one = not isinstance(value, tuple | list | np.ndarray)
    items = list(value) if isinstance(value, tuple | list | np.ndarray) else [value]
    is_kind = is_integer if kind is int else is_number
    suits = all(is_kind(item) and item > 0 for item in items)
    if not suits or not (is_one or len(items) in (2, 3)):
        numbers = "positive integers" if kind is int else "positive numbers, in mm"
        raise ParameterError(
            name,
            f"a tuple of two or three {numbers}, one for each spatial axis, or one for all of them",
            value,
        )
    return kind(items[0]) if is_one else tuple(kind(item) for item in items)


def _per_axis(value: Number | tuple[Number, ...], n_axes: int) -> tuple[Number, ...]:
    """Repeat a number for each axis, unless there is one for each."""
    return value if isinstance(value, tuple) else (value,) * n_axes


def _channels_of(shape: tuple[int, ...], n_spatial: int) -> str:
    """Return the number of channels for an error."""
    return " x ".join(map(str, shape[:-n_spatial])) or "no axis of channels"
