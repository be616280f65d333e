"""The numbers of the training images in a few statistics, and images whose numbers are far off."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from skimbal.exceptions import ParameterError

__all__ = ["FarImage", "PixelStatistics", "some_lines"]

#: Names of the statistics of each channel, and of the other statistics.
_OF_CHANNELS = ("least", "greatest", "low", "high", "spread", "flat_share")
_OF_ALL = ("n_levels", "is_whole", "negative_share")
#: Pixels of an image that are looked at, about.
_N_PIXELS = 4096
#: Pixels of each training image that the statistics are of, at most.
_N_OF_FIT = 512
#: Images whose numbers spread over so many times less, or reach so many times farther than in the
#: training images are far off. A dark image, or another contrast, is not.
_SMALLER, _LARGER = 128, 8
#: Levels of an image that is not a dark image with few levels left.
_MANY = 16
#: Levels of images in which the extremes are not rare pixels.
_FEW = 4
#: Steps of whole numbers over which a dark image may spread.
_FEW_STEPS = 8
#: Images whose numbers spread over so many times less than in the training images have no contrast,
#: unless this share of the training images has none either.
_FLATTER, _FLAT_SHARE = 64, 0.05
#: Share of pixels below 0, and their size beside the others, that shifted numbers have.
_SHARE, _SIZE = 0.1, 0.1


class FarImage(NamedTuple):
    """An image unlike the training images: its row, a channel, its least and greatest number."""

    row: int
    channel: int
    least: float
    greatest: float


class _Bounds(NamedTuple):
    """Arrays of an entry for each channel: the range of most pixels, and bounds around it."""

    width: np.ndarray
    bottom: np.ndarray
    top: np.ndarray
    is_sparse: np.ndarray
    is_positive: np.ndarray


@dataclass(frozen=True)
class PixelStatistics:
    """The numbers that the pixels of the training images have.

    Parameters
    ----------
    least, greatest : tuple of float of length n_channels
        Least and greatest number of each channel, in units of the images.
    low, high : tuple of float of length n_channels
        Percentiles 1 and 99 of each channel, over pixels of some images.
    spread : tuple of float of length n_channels
        Difference of the greatest and the least number within an image, which 9 of 10 images reach.
    n_levels : int
        Number of different numbers in an image, the median over some images and pixels.
    is_whole : bool
        Whether all numbers that were looked at are whole.
    negative_share : float
        Share of pixels below 0 in the image that has the fewest, in [0, 1].
    flat_share : tuple of float of length n_channels
        Share of images whose numbers in a channel are equal, or almost, in [0, 1].

    Examples
    --------
    >>> from skimbal.images import PixelStatistics
    >>> pixels = PixelStatistics((0.0,), (255.0,), (3.0,), (240.0,), (90.0,), 99, True, 0.0, (0.0,))
    >>> PixelStatistics.from_dict(pixels.to_dict()) == pixels
    True
    """

    least: tuple[float, ...]
    greatest: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    spread: tuple[float, ...]
    n_levels: int
    is_whole: bool
    negative_share: float
    flat_share: tuple[float, ...]

    @classmethod
    def of(
        cls, least: np.ndarray, greatest: np.ndarray, pixels: np.ndarray, spreads: np.ndarray
    ) -> "PixelStatistics":
        """Return the statistics of images.

        Parameters
        ----------
        least, greatest : ndarray of shape (n_channels,)
            Least and greatest number of each channel, in units of the images.
        pixels : ndarray of shape (n_images, n_channels, n_pixels)
            Some pixels of some images.
        spreads : ndarray of shape (n_images, n_channels)
            Difference of the greatest and the least number within each image that is known.

        Returns
        -------
        pixels : PixelStatistics
            The statistics.
        """
        numbers = pixels[:, :, :: -(-pixels.shape[2] // _N_OF_FIT)].astype(np.float64)
        low, high = np.percentile(numbers, (1, 99), axis=(0, 2))
        ordered = np.sort(numbers, axis=2)
        spread = np.ptp(numbers, axis=2)
        spread[spread == 0] = np.nan  # a constant image has no scale
        missed = np.isnan(spread).all(axis=0)
        spread[:, missed] = np.subtract(greatest, least, dtype=np.float64)[missed]
        common = np.nanpercentile(spread, 10, axis=0)
        n_levels = 1 + np.count_nonzero(np.diff(ordered, axis=2), axis=2).max(axis=1)
        return cls(
            least=tuple(np.asarray(least, np.float64).tolist()),
            greatest=tuple(np.asarray(greatest, np.float64).tolist()),
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            spread=tuple(common.tolist()),
            n_levels=int(np.median(n_levels)),
            is_whole=_are_whole(numbers),
            negative_share=float((numbers < 0).mean(axis=(1, 2)).min()),
            flat_share=tuple((spreads <= common / _FLATTER).mean(axis=0).tolist()),
        )

    def far(self, images: np.ndarray, dtype: str, quantum: float | None = None) -> list[FarImage]:
        """Return the images whose numbers are far from the numbers of the training images.

        A dark image, a constant image, another contrast and a few bright pixels are not far.

        Parameters
        ----------
        images : ndarray of shape (n_images, n_channels, ..., width)
            Images. About 4,096 pixels of each are looked at, and all if these are equal.
        dtype : str
            Dtype of the training images.
        quantum : float, default=None
            Step between the numbers of the files, in units of the images. None if there is none,
            or if the numbers are whole.

        Returns
        -------
        far : list of FarImage
            The images by their positions in ``images``, each with a channel that is far.
        """
        least, greatest = _ends(some_lines(images))
        is_flat = (least == greatest).any(axis=1)
        if is_flat.any():  # or its lines miss the object
            least[is_flat], greatest[is_flat] = _ends(images[is_flat])
        spread, bounds, is_strange = greatest - least, self._bounds, self._strange(images.dtype)
        doubtful = (greatest > bounds.top) | (least < bounds.bottom) | is_strange
        doubtful |= spread * _SMALLER < self.spread
        doubtful |= (least > self._beyond[1]) | (greatest < self._beyond[0])
        is_in_unit = np.zeros(len(images), bool)
        if self.is_whole:
            np.all((least >= 0) & (greatest <= 1), axis=1, out=is_in_unit)
            doubtful |= (spread * _LARGER < self.spread) & is_in_unit[:, None]
        # No pixel of the training images is below 0, or many pixels of each image are.
        doubtful |= (least < 0) & bounds.is_positive
        if self.negative_share >= _SHARE:
            doubtful |= least >= 0
        if not doubtful.any():
            return []
        doubtful &= (spread > 0) & (bounds.width > 0)
        is_known = images.dtype.kind in "iu" and str(images.dtype) == dtype
        return [
            FarImage(row, channel, float(least[row, channel]), float(greatest[row, channel]))
            for row, channel in np.argwhere(doubtful).tolist()
            if self._is_far(
                (images if is_flat[row] else some_lines(images))[row, channel],
                channel,
                bool(is_in_unit[row]),
                is_known,
                quantum,
            )
        ]

    def flat(self, images: np.ndarray) -> list[FarImage]:
        """Return the images without contrast, unless many training images have none.

        Parameters
        ----------
        images : ndarray of shape (n_images, n_channels, ..., width)
            Images. About 4,096 pixels of each are looked at, and all if these have no contrast.

        Returns
        -------
        flat : list of FarImage
            The images by their positions in ``images``, each with its first channel that is flat.
        """
        least, greatest = _ends(some_lines(images))
        is_rare = np.asarray(self.flat_share) < _FLAT_SHARE
        is_flat = ((greatest - least) * _FLATTER <= self.spread) & is_rare
        doubtful = np.flatnonzero(is_flat.any(axis=1))
        if len(doubtful):
            least[doubtful], greatest[doubtful] = _ends(images[doubtful])
            is_flat &= (greatest - least) * _FLATTER <= self.spread
        rows = np.flatnonzero(is_flat.any(axis=1)).tolist()
        channels = is_flat.argmax(axis=1).tolist()
        return [
            FarImage(row, k, float(least[row, k]), float(greatest[row, k]))
            for row, k in ((row, channels[row]) for row in rows)
        ]

    @cached_property
    def _bounds(self) -> _Bounds:
        """The range of most pixels, or of all pixels if most pixels are equal, and its bounds."""
        is_sparse = np.equal(self.low, self.high)
        low = np.where(is_sparse, self.least, self.low)
        high = np.where(is_sparse, self.greatest, self.high)
        width = high - low
        return _Bounds(
            width,
            bottom=np.minimum(self.least, high - _LARGER * width),
            top=np.maximum(self.greatest, low + _LARGER * width),
            is_sparse=is_sparse,
            is_positive=np.asarray(self.least) >= 0,
        )

    @cached_property
    def _beyond(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest number, and as far again: no number may lie beyond."""
        width = self._bounds.width
        return self.least - width, self.greatest + width

    def _strange(self, dtype: np.dtype[Any]) -> bool:
        """Tell whether integers come for fractions, or booleans for integers of a wide range."""
        if dtype.kind == "b":
            return bool((self._bounds.width > _LARGER).all())
        is_unit = min(self.least) >= 0 and max(self.greatest) <= 1 and not self.is_whole
        return is_unit and dtype.kind in "iu"

    def _is_far(
        self,
        pixels: np.ndarray,
        channel: int,
        is_in_unit: bool,
        is_known: bool,
        quantum: float | None,
    ) -> bool:
        """Tell whether the numbers of one channel of an image are far off.

        ``is_in_unit`` tells whether fractions came for whole numbers if they are fractions.
        ``is_known`` tells whether these are integers of the dtype of the training images.
        """
        numbers = pixels.astype(np.float64).ravel()
        bottom, below, above, top = np.percentile(numbers, (1, 5, 95, 99))
        if self._bounds.is_sparse[channel] or self.n_levels <= _FEW:
            bottom, top = numbers.min(), numbers.max()
        if top > self._bounds.top[channel] or bottom < self._bounds.bottom[channel]:
            return True
        if bottom > self._beyond[1][channel] or top < self._beyond[0][channel]:
            return True
        if self._strange(pixels.dtype):
            return pixels.dtype.kind == "b" or bool(numbers.max() > 1)
        if len(np.unique(numbers)) < min(_MANY, self.n_levels):
            return False
        if self.least[channel] >= 0 and below < 0 and -below > _SIZE * above:
            return True
        if self.negative_share >= _SHARE and numbers.min() >= 0:
            return True
        spread, is_whole = float(np.ptp(numbers)), _are_whole(numbers)
        step = 1.0 if is_whole else quantum or 0.0
        if spread < _FEW_STEPS * step and self.n_levels >= _MANY:
            return False
        # Eight bits within sixteen, and not a dark image.
        if is_known and not 128 <= numbers.max() <= 255:
            return False
        factor = _LARGER if is_in_unit and not is_whole else _SMALLER
        return spread * factor < self.spread[channel]

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters, without arrays that are computed from them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

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

        Raises
        ------
        ParameterError
            If a name is missing or unknown, or a value is of another kind.
        """
        restored: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        least = restored.get("least")
        n = len(least) if isinstance(least, tuple) else 0
        # The first files of models do not have it.
        restored.setdefault("flat_share", (0.0,) * n)
        of_channels = [restored.get(name) for name in _OF_CHANNELS]
        are_right = (
            set(restored) == {each.name for each in fields(cls)}
            and n > 0
            and all(_are_numbers(value, n) for value in of_channels)
            and _are_numbers(tuple(restored[name] for name in _OF_ALL), len(_OF_ALL))
        )
        if not are_right:
            expected = "numbers by the names of the parameters, as many as channels in each tuple"
            raise ParameterError("values", expected, values)
        return cls(**restored)


def _are_numbers(values: object, length: int) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == length
        and all(isinstance(value, int | float) for value in values)
    )


def _ends(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest number of each channel of each image."""
    around = tuple(range(2, images.ndim))
    least, greatest = images.min(axis=around), images.max(axis=around)
    return least.astype(np.float64), greatest.astype(np.float64)


def _are_whole(numbers: np.ndarray) -> bool:
    return bool((numbers == np.rint(numbers)).all())


def some_lines(images: np.ndarray) -> np.ndarray:
    """Return some lines of the pixels of each image, spread evenly, without a copy.

    Parameters
    ----------
    images : ndarray of shape (n_images, n_channels, ..., height, width)
        Images.

    Returns
    -------
    lines : ndarray of shape (n_images, n_channels, n_lines, width)
        About 4,096 pixels of each channel, or all pixels if there are fewer.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.images.pixels import some_lines
    >>> some_lines(np.zeros((2, 1, 256, 256))).shape
    (2, 1, 16, 256)
    """
    n, n_channels, *_, height, width = images.shape
    lines = images.reshape(n, n_channels, -1, width)
    step = max(1, min(lines.shape[2], lines.shape[2] * width // _N_PIXELS))
    while math.gcd(step, height) > 1 and lines.shape[2] > height:
        step += 1  # so that not the same lines of each slice are taken
    return lines[:, :, (step - 1) // 2 :: step]
