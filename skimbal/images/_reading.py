"""Parts that the readers of all formats share."""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skimbal.exceptions import import_optional

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "BoundedFile",
    "DecodedImage",
    "ReadRequest",
    "header_array",
    "import_reader",
    "range_of_dtype",
]

#: A CT of 1,024 slices of 512 x 512 has half as many.
DEFAULT_MAX_PIXELS = 2**29


@dataclass(frozen=True)
class ReadRequest:
    """What a reader is asked for, beside the path.

    Parameters
    ----------
    channels : int, default=None
        Number of channels that the user asks for, or None. A reader may convert to it.
    header_only : bool, default=False
        Whether shape and dtype are enough. A reader may ignore it, and then every file is decoded
        once more.
    max_pixels : int, default=2**29
        Greatest number of pixels or voxels of an image, channels and pages counted. A reader
        calls :meth:`check_size` before it takes memory for them.

    Examples
    --------
    >>> from skimbal.images import ReadRequest
    >>> ReadRequest(header_only=True).check_size((512, 512))
    """

    channels: int | None = None
    header_only: bool = False
    max_pixels: int = DEFAULT_MAX_PIXELS

    def check_size(self, shape: Sequence[int]) -> None:
        """Refuse an image that is larger than the limit.

        Parameters
        ----------
        shape : sequence of int
            Shape of the image, in pixels or voxels, with channels and pages, as a header states it.

        Raises
        ------
        ValueError
            If the image has more than ``max_pixels`` pixels, or a negative size.
        """
        if min(shape, default=0) < 0:
            raise ValueError(f"the sizes of an image must not be negative; got shape {(*shape,)}")
        n_pixels = math.prod(int(n) for n in shape)
        if n_pixels > self.max_pixels:
            raise ValueError(
                f"an image must have at most {self.max_pixels} pixels; got {n_pixels}, shape "
                f"{(*shape,)}, in the header. If the file is right, pass max_pixels={n_pixels}"
            )


class DecodedImage(NamedTuple):
    """An image as its file holds it, or the shape and dtype that its header states.

    Parameters
    ----------
    pixels : ndarray
        Real numbers, with the channels, if there are any, on the first axis. For a header, an
        array of the right shape and dtype, whose numbers are not looked at.
    n_spatial : int, default=None
        Number of spatial axes, 2 or 3. None if the format does not state it.
    spacing : tuple of float, default=None
        Distance of pixels or voxels along each spatial axis, in mm. None if the file does not
        state it.
    full_range : tuple of float, default=None
        The least and the greatest number that such a file can hold, in units of the pixels: (0,
        255) for eight bits. None if no such range has a meaning, as for floating-point numbers.
    unit : str, default=None
        Unit or meaning of the numbers, such as ``"HU"`` or ``"Gy"``. None if the file does not
        state it.
    doubt : str, default=None
        A sentence on anything in the file that its users must know, although it can be read. It
        begins in lower case and holds nothing of the single file, as files with one doubt are
        named in one warning.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.images import DecodedImage
    >>> DecodedImage(np.zeros((2, 2)), n_spatial=2).spacing is None
    True
    """

    pixels: np.ndarray
    n_spatial: int | None = None
    spacing: tuple[float, ...] | None = None
    full_range: tuple[float, float] | None = None
    unit: str | None = None
    doubt: str | None = None


class BoundedFile(io.BufferedReader):
    """A file that is never asked for more bytes than it has.

    Python takes memory for as many as are asked for, and a length in a file may be any number.
    """

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.path.getsize(path)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes, at most as many as the whole file has."""
        if size is None or size < 0:
            return io.BufferedReader.read(self)
        return io.BufferedReader.read(self, min(size, self._size))


def header_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """Return an array that has a shape and a dtype and takes no memory."""
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)


def import_reader(module: str, package: str | None = None) -> ModuleType:
    """Import a module that reads a format."""
    return import_optional(module, "this format", "io", package)


def range_of_dtype(dtype: npt.DTypeLike) -> tuple[float, float] | None:
    """Return the least and the greatest number of a dtype that pictures have, or None."""
    known = np.dtype(dtype)
    if known.kind == "b":
        return 0.0, 1.0
    if known.kind == "u" and known.itemsize <= 2:
        return 0.0, float(np.iinfo(known).max)
    return None
