"""The numbers of the training images, in a few statistics."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["PixelStatistics"]


@dataclass(frozen=True)
class PixelStatistics:
    """The numbers that the pixels of the training images have.

    Parameters
    ----------
    least, greatest : tuple of float of length n_channels
        Least and greatest number of each channel, in units of the images.
    low, high : tuple of float of length n_channels
        Percentiles 1 and 99 of each channel, over pixels of some images.
    n_levels : int
        Number of different numbers in an image, the median over some images and pixels.
    is_whole : bool
        Whether all numbers that were looked at are whole.
    negative_share : float
        Share of pixels below 0 in the image that has the fewest, in [0, 1].

    Examples
    --------
    >>> from skimbal.images import PixelStatistics
    >>> pixels = PixelStatistics((0.0,), (255.0,), (3.0,), (240.0,), 212, True, 0.0)
    >>> PixelStatistics.from_dict(pixels.to_dict()) == pixels
    True
    """

    least: tuple[float, ...]
    greatest: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_levels: int
    is_whole: bool
    negative_share: float

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as values that JSON has.

        Returns
        -------
        values : dict
            Lists, numbers and booleans, by the names of the parameters.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PixelStatistics":
        """Return the statistics that :meth:`to_dict` described.

        Parameters
        ----------
        values : dict
            As :meth:`to_dict` returns it, also after JSON.

        Returns
        -------
        pixels : PixelStatistics
            Equal to the described statistics.
        """
        restored: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**restored)
