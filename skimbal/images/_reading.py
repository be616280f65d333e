"""Parts that the readers of all formats share."""

from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skimbal.exceptions import import_optional

__all__ = ["DecodedImage", "header_array", "import_reader"]


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


def header_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """Return an array that has a shape and a dtype and takes no memory."""
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)


def import_reader(module: str, package: str | None = None) -> ModuleType:
    """Import a module that reads a format."""
    return import_optional(module, "this format", "io", package)
