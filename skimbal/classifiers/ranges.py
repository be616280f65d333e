"""The rows of a prediction, and the comparison of their numbers with the training rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from skimbal.classifiers.inputs import InputClassifier, check_images
from skimbal.exceptions import InputWarning, warn_caller
from skimbal.images import ImageArray, ImageFiles, InputForm, PixelStatistics
from skimbal.images.intensity import scale_of_dtype
from skimbal.images.pixels import FarImage
from skimbal.training import Batch, ImageDataset, PixelSample
from skimbal.typing import ImagesLike

__all__ = ["compare_rows", "rows_to_predict", "with_numbers"]

#: Images that are looked at where none was seen, as other processes read them.
_N_IMAGES = 8


def with_numbers(form: InputForm, sample: PixelSample) -> InputForm:
    """Return the form with the numbers of the training images, unless it has them.

    Of bare rows nothing is known: a column may be anything.
    """
    if form.pixels is not None or not form.are_images:
        return form
    pixels = sample.pixels()
    ends = np.isfinite(sample.least) & np.isfinite(sample.greatest)
    least = np.where(ends, sample.least, pixels.min(axis=(0, 2)))
    greatest = np.where(ends, sample.greatest, pixels.max(axis=(0, 2)))
    return replace(form, pixels=PixelStatistics.of(least, greatest, pixels))


@contextmanager
def rows_to_predict(estimator: InputClassifier, X: ImagesLike) -> Iterator[ImageDataset]:
    """Check images, give them out, and compare the numbers of those that were read."""
    images, shape = check_images(estimator, X, reset=False)
    if _warned_of_another_scale(estimator, images) or not _compares(estimator.input_, images):
        yield ImageDataset(images, sample_shape=shape)
        return
    rows = _WatchedRows(estimator.input_, images, shape)
    yield rows
    rows.warn(type(estimator).__name__)


def compare_rows(estimator: InputClassifier, data: ImageDataset) -> None:
    """Compare the numbers of rows that a fit goes on with, of which a few are read."""
    images = data.source
    if not _warned_of_another_scale(estimator, images) and _compares(estimator.input_, images):
        rows = _WatchedRows(estimator.input_, images, data.sample_shape)
        rows.warn(type(estimator).__name__)


def _compares(form: InputForm, images: np.ndarray | ImageArray) -> bool:
    """Tell whether there are numbers to compare."""
    if form.pixels is None or images.dtype.kind not in "biuf":
        return False
    # Each image has been scaled by its own numbers.
    return not isinstance(images, ImageFiles) or images.options["intensity"] != "percentiles"


def _warned_of_another_scale(estimator: InputClassifier, images: np.ndarray | ImageArray) -> bool:
    """Warn of files or bytes whose numbers mean something else than those of the files of fit."""
    fitted = estimator.input_.scale
    if isinstance(images, ImageFiles):
        scale, remedy = images.scale, ", or intensity='stored' if the scales agree"
        subject = f"{images.paths[0]} holds"
    else:
        scale, remedy = scale_of_dtype(images.dtype), ", or scale the array as they were"
        subject = "X holds"
    if None in (scale, fitted) or scale == fitted:
        return False
    warn_caller(
        f"{subject} {scale}, and {type(estimator).__name__} was fitted to {fitted}. The same "
        "image looks different to the network. Give ImageFiles the intensity= and transform= "
        f"that the training images had{remedy}.",
        InputWarning,
    )
    return True


class _WatchedRows(ImageDataset):
    """Rows that look for far images in the batches that are read."""

    def __init__(
        self, form: InputForm, images: np.ndarray | ImageArray, shape: tuple[int, ...]
    ) -> None:
        super().__init__(images, sample_shape=shape)  # type: ignore[arg-type]
        self._form = form
        self._quantum = images.quantum if isinstance(images, ImageFiles) else None
        self._far: dict[int, FarImage] = {}
        self._n_seen = 0

    def batch(self, index: np.ndarray) -> Batch:
        """Return some rows as a batch."""
        batch = super().batch(index)
        self._see(batch.images, index)
        return batch

    def _see(self, images: torch.Tensor, index: np.ndarray) -> None:
        assert self._form.pixels is not None
        self._n_seen += len(index)
        for far in self._form.pixels.far(images.numpy(), self._form.dtype, self._quantum):
            row = int(index[far.row])
            self._far[row] = far._replace(row=row)

    def warn(self, classifier: str) -> None:
        """Warn of the rows that are far off, once."""
        if not self._n_seen:
            few = np.linspace(0, len(self) - 1, min(len(self), _N_IMAGES)).astype(int)
            for row in few:
                self.batch(row[None])
        if not self._far:
            return
        far = self._far[min(self._far)]
        assert self._form.pixels is not None
        low, high = self._form.pixels.least, self._form.pixels.greatest
        paths = getattr(self.source, "paths", None)
        name = f"image {far.row} of X" if paths is None else paths[far.row]
        others = f", like {len(self._far) - 1} other images," if len(self._far) > 1 else ""
        of_channel = f" in channel {far.channel}" if len(low) > 1 else ""
        warn_caller(
            f"{name}{others} holds numbers from {far.least:g} to {far.greatest:g}{of_channel}, far "
            f"from the numbers that {classifier} was fitted to, {low[far.channel]:g} to "
            f"{high[far.channel]:g}. The same image looks different to the network. Bring X to the "
            "scale of the training images, or fit to images of this scale.",
            InputWarning,
        )
