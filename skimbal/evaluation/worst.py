"""The errors of which a classifier was most sure, with their images."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skimbal.classifiers.containers import as_array, column_of_text
from skimbal.classifiers.inputs import check_images
from skimbal.classifiers.paths import from_path
from skimbal.evaluation.checks import Rows
from skimbal.evaluation.models import find_cnn
from skimbal.images import ImageArray, ImageFiles, guess_axes
from skimbal.typing import ImagesLike

__all__ = ["WorstError", "find_worst_errors", "make_view"]

#: Number of errors that are shown.
_MOST = 12
#: Longest side of a picture, in pixels. Larger images are averaged over blocks.
_LONGEST = 320


@dataclass(frozen=True, eq=False)
class WorstError:
    """An image that was taken for another class.

    Parameters
    ----------
    row : int
        Number of the image.
    true, predicted : str
        The classes.
    probability, probability_of_true : float
        Probabilities of the predicted and of the true class.
    patient, file : str
        The patient and the file, empty if they are not known.
    view : ndarray of uint8 of shape (h, w) or (h, w, 3) or None
        The image for a screen, or None if the rows are not images. A volume has its three middle
        planes beside each other.

    Examples
    --------
    >>> from skimbal.evaluation import evaluate_predictions
    >>> proba = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
    >>> evaluation = evaluate_predictions(["ill", "well", "well"], proba, ["ill", "well"])
    >>> error = evaluation.worst[0]
    >>> error.row, error.true, error.predicted, error.probability
    (2, 'well', 'ill', 0.6)
    """

    row: int
    true: str
    predicted: str
    probability: float
    probability_of_true: float
    patient: str
    file: str
    view: np.ndarray | None


def find_worst_errors(clf: object, X: ImagesLike | None, rows: Rows) -> list[WorstError]:
    """Return the wrong rows of the highest probability of the class that was decided for."""
    wrong = np.flatnonzero(rows.decided != rows.truth)
    sure = rows.proba[wrong, rows.decided[wrong]]
    # Equal probabilities are in the order of the rows.
    worst = wrong[np.argsort(-sure, kind="stable")][:_MOST]
    views, files = _look_at(clf, X, worst)
    patients = rows.patient_of_row
    return [
        WorstError(
            int(row),
            rows.names[rows.truth[row]],
            rows.names[rows.decided[row]],
            float(rows.proba[row, rows.decided[row]]),
            float(rows.proba[row, rows.truth[row]]),
            "" if patients is None else str(patients[row]),
            file,
            view,
        )
        for row, view, file in zip(worst.tolist(), views, files, strict=True)
    ]


def _look_at(
    clf: object, X: ImagesLike | None, rows: np.ndarray
) -> tuple[list[np.ndarray | None], list[str]]:
    """Return views of some images, and the ends of the paths of their files."""
    if X is None or not len(rows):
        return [None] * len(rows), [""] * len(rows)
    if isinstance(X, str | os.PathLike):  # an image or a folder, which our classifiers take
        cnn = find_cnn(clf)
        X = X if cnn is None else from_path(X, cnn.input_, None)
    some, files = _select(X, rows)
    images = _as_images(clf, some)
    views: list[np.ndarray | None] = [None] * len(rows)
    if images is not None:
        views = [make_view(image) for image in images]
    return views, [os.sep.join(Path(file).parts[-2:]) for file in files]


def _select(X: ImagesLike, rows: np.ndarray) -> tuple[Any, list[str]]:
    """Return some rows of the input of a classifier, and their files."""
    column = X if isinstance(X, list | tuple) else column_of_text(X)
    if column is not None and isinstance(column[0], str | os.PathLike):
        paths = [os.fspath(column[row]) for row in rows]
        return paths, paths
    data = as_array(X, "X")
    if isinstance(data, ImageFiles):
        return data[rows], data[rows].paths
    if not isinstance(data, ImageArray):
        data = np.asarray(data)
    return data[rows], [""] * len(rows)


def _as_images(clf: object, some: Any) -> np.ndarray | None:
    """Return images of shape (n, channels, ...), or None if the rows are not images."""
    cnn = find_cnn(clf)
    if cnn is clf and cnn is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the prediction has warned already
            images, shape = check_images(cnn, some, reset=False)
        return np.asarray(images).reshape(-1, *shape) if cnn.input_.are_images else None
    array = np.asarray(ImageFiles(some) if isinstance(some, list) else some)
    if array.ndim < 3 or array.dtype.kind not in "biuf":
        return None
    axes = guess_axes(array.shape, None if cnn is None else len(cnn.spatial_axes))
    if cnn is None and axes.channels_last:
        return np.moveaxis(array, -1, 1)
    return array[:, None] if array.ndim == axes.n_spatial + 1 else array


def make_view(image: np.ndarray) -> np.ndarray:
    """Return a picture of an image of shape (channels, h, w) or (channels, d, h, w).

    Three channels are colours, and of other numbers the first one is shown. Of a volume, the three
    middle planes are beside each other. Colours of eight bits are as they are. All other numbers
    are stretched between the 1st and the 99th percentile of the picture.
    """
    shown = image[:3] if len(image) == 3 else image[:1]
    if image.ndim == 3:
        planes = [shown]
    else:
        middle = [size // 2 for size in image.shape[1:]]
        planes = [np.take(shown, middle[axis], axis=axis + 1) for axis in range(3)]
    colours = len(shown) == 3 and image.dtype == np.uint8
    levels = [plane.astype(np.float64) for plane in planes]
    if not colours:
        every = np.concatenate([plane.ravel() for plane in levels])
        low, high = np.percentile(every, [1, 99])
        if high == low:
            low, high = every.min(), max(every.max(), every.min() + 1)
        levels = [255 * (plane - low) / (high - low) for plane in levels]
    pictures = [_to_picture(plane) for plane in levels]
    height = max(picture.shape[0] for picture in pictures)
    padded = [
        np.pad(
            picture,
            [(0, height - picture.shape[0]), (0, 2 * (number < len(pictures) - 1))]
            + [(0, 0)] * (picture.ndim - 2),
            constant_values=255,
        )
        for number, picture in enumerate(pictures)
    ]
    view: np.ndarray = np.concatenate(padded, axis=1)
    return view


def _to_picture(plane: np.ndarray) -> np.ndarray:
    """Return a plane of shape (channels, h, w) as uint8 of shape (h, w) or (h, w, 3)."""
    factor = -(-max(plane.shape[1:]) // _LONGEST)
    if factor > 1:
        size = [n // factor * factor or n for n in plane.shape[1:]]
        steps = [factor if n >= factor else 1 for n in plane.shape[1:]]
        cut = plane[:, : size[0], : size[1]]
        blocks = cut.reshape(len(cut), size[0] // steps[0], steps[0], size[1] // steps[1], steps[1])
        plane = blocks.mean((2, 4))
    picture = np.clip(np.rint(plane), 0, 255).astype(np.uint8)
    return picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
