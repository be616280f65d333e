"""The check that pixels of another magnitude do not make all other pixels equal."""

import math
from typing import Any

import numpy as np
import torch

from skimbal.training.dataset import Batch, ImageDataset

__all__ = ["PixelSample"]

#: Images that are looked at, and pixels of all their channels.
_N_IMAGES, _N_PIXELS = 32, 2048
#: The least difference of standardised pixels that counts. The default networks learn nothing from
#: images whose standard deviation is below 0.002.
_STEP = 1e-3
#: A difference of floating-point numbers that may be a rounding error, in units of the last place.
_ROUNDING = 64
#: An image of at least so many levels that is left with at most so many has lost its contents: the
#: levels that are left are fill values.
_MANY, _FEW = 16, 4


class PixelSample:
    """Pixels of some images, evenly spread over a data set.

    Parameters
    ----------
    dataset : ImageDataset
        The images, which are added in their order, block by block.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset
        self._images = np.linspace(0, len(dataset) - 1, min(len(dataset), _N_IMAGES)).astype(int)
        n_pixels = math.prod(dataset.sample_shape[1:])
        n_taken = max(_MANY, _N_PIXELS // dataset.sample_shape[0])
        self._places = np.arange(n_pixels)
        if n_taken < n_pixels:
            self._places = np.random.default_rng(0).integers(n_pixels, size=n_taken)
        #: Integers of 16 bits cannot differ so much in magnitude that some of them become equal.
        self._is_needed = dataset.dtype.kind != "b" and (
            dataset.dtype.kind == "f" or dataset.dtype.itemsize > 2
        )
        self._parts: list[np.ndarray] = []
        self._spreads: list[np.ndarray] = []
        self._n_rows = 0
        #: Least and greatest pixel of each channel.
        self.least = np.full(dataset.sample_shape[0], np.inf)
        self.greatest = -self.least
        #: The block with the largest pixels of each channel.
        self._size = np.full(dataset.sample_shape[0], -1.0)
        self._largest = [slice(0, 0)] * len(self._size)

    def add(self, batch: Batch, size: np.ndarray) -> None:
        """Add the next block, with a measure of the magnitude of the pixels of each channel."""
        rows = slice(self._n_rows, self._n_rows + len(batch.labels))
        self._n_rows = rows.stop
        for channel in np.flatnonzero(~(size <= self._size)):  # also NaN, of an overflow
            self._size[channel], self._largest[channel] = size[channel], rows
        taken = self._images[(self._images >= rows.start) & (self._images < rows.stop)] - rows.start
        if batch.weight is not None:
            taken = taken[batch.weight.numpy()[taken] > 0]
        self._look(batch, taken)

    def _look(self, batch: Batch, taken: np.ndarray) -> None:
        """Keep pixels of some rows of a batch, and the ends of all rows that have a weight."""
        pixels = batch.images.numpy().reshape(len(batch.labels), batch.images.shape[1], -1)
        if len(taken):
            # Integers as they are: float64 does not tell large ones apart.
            kind = np.float64 if pixels.dtype.kind == "f" else pixels.dtype
            of_images = pixels[taken[:, None], :, self._places]
            self._parts.append(of_images.transpose(0, 2, 1).astype(kind, order="C"))
        if batch.weight is not None and not batch.weight.all():
            pixels = pixels[batch.weight.numpy() > 0]
        if len(pixels):
            least, greatest = pixels.min(axis=2), pixels.max(axis=2)
            with np.errstate(over="ignore", invalid="ignore"):
                self._spreads.append(np.subtract(greatest, least, dtype=np.float64))
            self.least = np.minimum(self.least, least.min(axis=0))
            self.greatest = np.maximum(self.greatest, greatest.max(axis=0))

    def pixels(self) -> np.ndarray:
        """Return some pixels of each image, of shape (n_images, n_channels, n_pixels).

        Images are read if no block was added.
        """
        if not self._parts:
            for rows in self._dataset.take(self._images).blocks():
                batch = self._dataset.batch(self._images[rows])
                self._look(batch, np.arange(len(rows)))
        return np.concatenate(self._parts)

    def spreads(self) -> np.ndarray:
        """Return the spread of the pixels of each image that was seen, (n_images, n_channels)."""
        return np.concatenate(self._spreads)

    def check(self, mean: np.ndarray, std: np.ndarray, dtype: torch.dtype) -> None:
        """Refuse images that mostly become constant when they are standardised."""
        if not self._parts or not self._is_needed:
            return
        pixels = np.sort(np.concatenate(self._parts), axis=2)
        converted = torch.from_numpy(pixels).to(dtype).numpy()
        per_channel = [np.asarray(value, converted.dtype).reshape(-1, 1) for value in (mean, std)]
        with np.errstate(over="ignore", invalid="ignore"):
            standardised = (converted - per_channel[0]) / per_channel[1]
        ranks = np.floor((standardised - standardised[:, :, :1]) / _STEP)
        before = _count_levels(pixels, self._dataset.dtype)
        after = 1 + np.count_nonzero(np.diff(ranks) > 0, axis=2)
        is_lost = ((before > 1) & (after == 1)) | ((before >= _MANY) & (after <= _FEW))
        n_lost, n_known = is_lost.sum(axis=0), (before > 1).sum(axis=0)
        for channel in np.flatnonzero(2 * n_lost > n_known).tolist():
            image = np.flatnonzero(is_lost[:, channel])[0]
            # Equal pixels, and not the fill values beside them.
            values, counts = np.unique(ranks[image, channel], return_counts=True)
            of_most = ranks[image, channel] == values[counts.argmax()]
            raise ValueError(
                self._in_words(
                    channel,
                    f"{n_lost[channel]} of {n_known[channel]} images",
                    pixels[image, channel][of_most],
                    converted[image, channel][of_most],
                    dtype,
                )
            )

    def _in_words(
        self,
        channel: int,
        images: str,
        pixels: np.ndarray,
        converted: np.ndarray,
        dtype: torch.dtype,
    ) -> str:
        low, high = pixels.min().item(), pixels.max().item()
        if len(pixels) > 1 and np.ptp(converted) == 0:
            other = "" if dtype == torch.float64 else ", or pass dtype='float64'"
            return (
                f"the pixels of X must differ in {dtype}, the dtype of the network; got channel "
                f"{channel}, in which {images} become constant, as their pixels lie between "
                f"{low!r} and {high!r}. Subtract an offset from X{other}."
            )
        remedy = " ImageFiles clips pixels by intensity='percentiles' or a window."
        return (
            "the pixels of X must stay different when they are standardised; got "
            f"{self.extreme(channel)}, which makes the other pixels equal in {images} that were "
            f"compared: they lie between {low:g} and {high:g}. Replace pixels that are not "
            "measurements, such as fill values, or clip X."
        ) + remedy * self._dataset.has_files

    def extreme(self, channel: int) -> str:
        """Return the pixel that is farthest from the other pixels, with its image, in words."""
        rows = self._largest[channel]
        batch = self._dataset.batch(np.arange(rows.start, rows.stop))
        pixels = batch.images[:, channel].numpy().reshape(len(batch.labels), -1).astype(np.float64)
        distance = np.abs(pixels - np.median(pixels))
        if batch.weight is not None:
            distance[batch.weight.numpy() == 0] = 0
        image, place = np.unravel_index(distance.argmax(), distance.shape)
        where = self._dataset.name_of(rows.start + int(image))
        return f"{pixels[image, place]:g} in channel {channel} of {where}"


def _count_levels(pixels: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Count the numbers of each row, sorted, that differ by more than a rounding error."""
    lower, upper = pixels[..., :-1], pixels[..., 1:]
    is_step = upper > lower
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            least = np.maximum(np.abs(upper), np.abs(lower))
            least *= _ROUNDING * float(np.finfo(dtype).eps)
            is_step = upper - lower > least
    levels: np.ndarray = 1 + np.count_nonzero(is_step, axis=-1)
    return levels
