"""The rows of a prediction, and the comparison of their numbers with the training rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from skimbal.classifiers.inputs import InputClassifier, check_images
from skimbal.exceptions import InputWarning, UnreadableFileError, warn_caller
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
    statistics = PixelStatistics.of(least, greatest, pixels, sample.spreads())
    return replace(form, pixels=statistics)


@contextmanager
def rows_to_predict(estimator: InputClassifier, X: ImagesLike) -> Iterator[ImageDataset]:
    """Check images, give them out, and compare the numbers of those that were read."""
    with _advising_on_files(X):
        yield from _watched(estimator, X)


def _watched(estimator: InputClassifier, X: ImagesLike) -> Iterator[ImageDataset]:
    images, shape = check_images(estimator, X, reset=False)
    if _warned_of_another_scale(estimator, images) or not _compares(estimator.input_, images):
        yield ImageDataset(images, sample_shape=shape)
        return
    rows = _WatchedRows(estimator.input_, images, shape)
    yield rows
    rows.warn(type(estimator).__name__)


@contextmanager
def _advising_on_files(X: ImagesLike) -> Iterator[None]:
    """Give advice on unreadable files that fits a prediction, which has a row for each path."""
    try:
        yield
    except UnreadableFileError as error:
        if isinstance(X, ImageFiles):
            raise
        remedy = (
            "Replace the file, or leave it out of X. 'skimbal predict' predicts the other files, "
            "and writes the reason into the row of this file."
        )
        raise UnreadableFileError(error.path, error.reason, remedy) from error.__cause__


def compare_rows(estimator: InputClassifier, data: ImageDataset) -> None:
    """Compare the numbers of rows that a fit goes on with, of which a few are read."""
    images = data.source
    if not _warned_of_another_scale(estimator, images) and _compares(estimator.input_, images):
        rows = _WatchedRows(estimator.input_, images, data.sample_shape)
        rows.warn(type(estimator).__name__)


def _compares(form: InputForm, images: np.ndarray | ImageArray) -> bool:
    """Tell whether there are numbers to compare."""
    return form.pixels is not None and images.dtype.kind in "biuf"


def _warned_of_another_scale(estimator: InputClassifier, images: np.ndarray | ImageArray) -> bool:
    """Warn of files or bytes whose numbers mean something else than those of the files of fit."""
    fitted = estimator.input_.scale
    names: list[str] = []
    if isinstance(images, ImageFiles):
        scale, remedy = images.scale, ", or intensity='stored' if the scales agree"
        names, subject = images.paths, "the file holds"
    else:
        scale, remedy = scale_of_dtype(images.dtype), ", or scale the array as they were"
        subject = "X holds"
    if None in (scale, fitted) or scale == fitted:
        return False
    words = (
        f"{subject} {scale}, and {type(estimator).__name__} was fitted to {fitted}. The same "
        "image looks different to the network. Give ImageFiles the intensity= and transform= "
        f"that the training images had{remedy}."
    )
    warn_caller(InputWarning(words, names))
    return True


class _WatchedRows(ImageDataset):
    """Rows that look for images unlike the training images in the batches that are read."""

    def __init__(
        self, form: InputForm, images: np.ndarray | ImageArray, shape: tuple[int, ...]
    ) -> None:
        super().__init__(images, sample_shape=shape)  # type: ignore[arg-type]
        self._form = form
        self._quantum = images.quantum if isinstance(images, ImageFiles) else None
        # By percentiles, each image is scaled by its own numbers.
        self._has_scale = (
            not isinstance(images, ImageFiles) or images.options["intensity"] != "percentiles"
        )
        # Other packages try a row of zeros to see whether a classifier of tables is fitted.
        self._are_rows = images.ndim == 2
        self._far: dict[int, FarImage] = {}
        self._flat: dict[int, FarImage] = {}
        self._n_seen = 0

    def batch(self, index: np.ndarray) -> Batch:
        """Return some rows as a batch."""
        batch = super().batch(index)
        self._see(batch.images, index)
        return batch

    def _see(self, images: torch.Tensor, index: np.ndarray) -> None:
        fitted, pixels = self._form.pixels, images.numpy()
        assert fitted is not None
        self._n_seen += len(index)
        flat = [] if self._are_rows else fitted.flat(pixels)
        far = fitted.far(pixels, self._form.dtype, self._quantum) if self._has_scale else []
        self._far.update((int(index[one.row]), one) for one in far)
        # Numbers of another scale often seem to have no contrast.
        known = {one.row for one in far}
        self._flat.update((int(index[one.row]), one) for one in flat if one.row not in known)

    def warn(self, classifier: str) -> None:
        """Warn of the rows that are far off, and of rows without contrast, once each."""
        if not self._n_seen:
            few = np.linspace(0, len(self) - 1, min(len(self), _N_IMAGES)).astype(int)
            for row in few:
                self.batch(row[None])
        for found, word in ((self._far, self._say_far), (self._flat, self._say_flat)):
            if found:
                rows = sorted(found)
                warn_caller(InputWarning(word(found[rows[0]], classifier), self._names(rows)))

    def _names(self, rows: list[int]) -> list[str]:
        paths = getattr(self.source, "paths", None)
        return [f"image {row} of X" if paths is None else paths[row] for row in rows]

    def _say_far(self, far: FarImage, classifier: str) -> str:
        assert self._form.pixels is not None
        low, high = self._form.pixels.least, self._form.pixels.greatest
        of_channel = f" in channel {far.channel}" if len(low) > 1 else ""
        return (
            f"numbers from {far.least:g} to {far.greatest:g}{of_channel} are far from the numbers "
            f"that {classifier} was fitted to, {low[far.channel]:g} to {high[far.channel]:g}. The "
            "same image looks different to the network. Bring X to the scale of the training "
            "images, or fit to images of this scale."
        )

    def _say_flat(self, flat: FarImage, classifier: str) -> str:
        of_channel = f" of channel {flat.channel}" if self.sample_shape[0] > 1 else ""
        ends = f"between {flat.least:g} and {flat.greatest:g}"
        equal = f"equal to {flat.least:g}" if flat.least == flat.greatest else ends
        return (
            f"no contrast. All pixels{of_channel} are {equal} in the first. {classifier} was "
            "fitted to images with contrast, and its prediction of an empty image means nothing. "
            "Look at these images."
        )
