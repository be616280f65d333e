"""The facts of single images, and the numbers of all of them together."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from skimbal.datasets.copies import image_digest
from skimbal.images import DecodedImage

__all__ = ["Measured", "PixelKind", "measure", "pixel_kinds"]

#: Bars of a histogram.
N_BARS = 40
#: Numbers of all images together that a histogram and its percentiles are drawn from.
N_SAMPLED = 2_000_000


class Measured(NamedTuple):
    """The facts of an image. Without its pixels, ``low`` and all that follow are None or empty."""

    shape: tuple[int, ...]
    n_spatial: int | None
    dtype: str
    spacing: tuple[float, ...] | None
    full_range: tuple[float, float] | None
    unit: str | None
    doubt: str | None = None
    low: float | None = None
    high: float | None = None
    sample: np.ndarray = np.empty(0)
    digest: bytes | None = None
    n_not_finite: int = 0

    @property
    def kind(self) -> tuple[str, tuple[float, float] | None, str | None]:
        """The meaning of its numbers: dtype, full range and unit."""
        return self.dtype, self.full_range, self.unit

    @property
    def is_constant(self) -> bool:
        """Whether all of its numbers are equal."""
        return self.low is not None and self.low == self.high

    def axes(self, n_spatial: int | None = None) -> tuple[int | None, tuple[int, ...]]:
        """Return the number of channels, None without an axis for them, and the size."""
        n = self.n_spatial or n_spatial or min(len(self.shape), 3)
        lead = self.shape[: len(self.shape) - n]
        return (lead[0] if lead else None), self.shape[len(self.shape) - n :]


@dataclass(frozen=True)
class PixelKind:
    """The numbers of all images that have one dtype, full range and unit.

    Parameters
    ----------
    dtype : str
        Number type of the files.
    full_range : tuple of float or None
        The least and the greatest number that such a file can hold, if that has a meaning.
    unit : str or None
        Unit or meaning of the numbers, such as ``"HU"``, if the files state it.
    n_images : int
        Number of images.
    low, high : float or None
        The least and the greatest number of all images. None if only headers were read.
    percentiles : tuple of float or None
        The 1st and the 99th percentile of the numbers, from a sample of the pixels.
    least_high, most_high : float or None
        The greatest number of an image: the least and the most of all images.
    histogram : tuple of int
        Numbers of the sample in bins of equal width from ``low`` to ``high``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.utils import Bunch
    >>> from skimbal.datasets import inspect_data
    >>> X = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    >>> data = Bunch(X=X, y=np.array([0, 1]), target_names=["a", "b"], ndim=2, name="ramp")
    >>> kind = inspect_data(data).pixels[0]
    >>> kind.dtype, kind.low, kind.high, kind.most_high
    ('uint8', 0.0, 31.0, 31.0)
    """

    dtype: str
    full_range: tuple[float, float] | None
    unit: str | None
    n_images: int
    low: float | None = None
    high: float | None = None
    percentiles: tuple[float, float] | None = None
    least_high: float | None = None
    most_high: float | None = None
    histogram: tuple[int, ...] = ()


def measure(image: DecodedImage, *, header_only: bool, n_sampled: int) -> Measured:
    """Measure an image, and keep a sample of its pixels."""
    pixels, n_spatial, spacing, full_range, unit, doubt = image
    if pixels.dtype.kind not in "biuf":
        raise ValueError(f"the image must hold real numbers; got {pixels.dtype}")
    if pixels.ndim not in (2, 3, 4) or pixels.size == 0:
        raise ValueError(f"the image must have 2 or 3 spatial axes; got shape {pixels.shape}")
    # Distances from different headers differ by rounding.
    rounded = None if spacing is None else tuple(round(float(mm), 3) for mm in spacing)
    facts = Measured(pixels.shape, n_spatial, pixels.dtype.name, rounded, full_range, unit, doubt)
    if header_only:
        return facts
    n_bad = 0
    if pixels.dtype.kind == "f":
        n_bad = pixels.size - int(np.count_nonzero(np.isfinite(pixels)))
    if n_bad:
        return facts._replace(n_not_finite=n_bad)
    flat = pixels.reshape(-1)
    n = min(flat.size, n_sampled)
    # Multiples of the golden ratio hit all columns and rows alike.
    places = np.arange(n) if n == flat.size else _golden(n, flat.size)
    return facts._replace(
        low=float(flat.min()),
        high=float(flat.max()),
        sample=flat[places].astype(np.float64),
        digest=image_digest(pixels),
    )


def _golden(n: int, size: int) -> np.ndarray:
    fractions = np.arange(n) * ((math.sqrt(5) - 1) / 2) % 1
    places: np.ndarray = np.minimum((fractions * size).astype(np.int64), size - 1)
    return places


def pixel_kinds(measured: Iterable[Measured]) -> list[PixelKind]:
    """Put the numbers of images of one kind together, the most frequent kind first."""
    kinds: dict[tuple[str, tuple[float, float] | None, str | None], list[Measured]] = {}
    for image in measured:
        kinds.setdefault(image.kind, []).append(image)
    order = sorted(kinds.items(), key=lambda item: -len(item[1]))
    return [_describe(*kind, images) for kind, images in order]


def _describe(
    dtype: str, full_range: tuple[float, float] | None, unit: str | None, images: list[Measured]
) -> PixelKind:
    lows = [image.low for image in images if image.low is not None]
    highs = [image.high for image in images if image.high is not None]
    if not lows or not highs:
        return PixelKind(dtype, full_range, unit, len(images))
    low, high = min(lows), max(highs)
    sample = np.concatenate([image.sample for image in images])
    # Whole numbers of a narrow range have a bar each.
    edges = low, high
    n_bars = N_BARS
    if np.dtype(dtype).kind != "f" and high - low < N_BARS:
        n_bars, edges = int(high - low) + 1, (low - 0.5, high + 0.5)
    bars = np.histogram(sample, bins=n_bars, range=edges)[0] if low < high else np.ones(1)
    first, last = (float(value) for value in np.percentile(sample, (1, 99)))
    return PixelKind(
        dtype,
        full_range,
        unit,
        len(images),
        low,
        high,
        (first, last),
        min(highs),
        high,
        tuple(bars.astype(int).tolist()),
    )
