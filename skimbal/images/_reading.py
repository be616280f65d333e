"""What the readers of all formats share."""

import importlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["DecodedImage", "header_array", "import_needed"]


class DecodedImage(NamedTuple):
    """An image, or its header: the pixels are then a stand-in without memory of its own."""

    pixels: np.ndarray  # channels first, if it has any
    n_spatial: int | None  # None where the format does not tell
    spacing: tuple[float, ...] | None  # in mm


def header_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)


def import_needed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"files of this format are read with {package}, which is missing: pip install "
            '"skimbal[io]"'
        ) from error
