"""Checks of images, labels, weights and groups before any work."""

import math
import os
import zlib
from dataclasses import dataclass, replace
from numbers import Real
from typing import Protocol

import numpy as np
from sklearn.utils import (
    assert_all_finite,
    check_array,
    check_consistent_length,
    column_or_1d,
    compute_class_weight,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from skimbal.classifiers.containers import as_array
from skimbal.classifiers.parameters import CNNClassifier
from skimbal.classifiers.paths import (
    advice_on_channels,
    from_path,
    from_paths,
    refuse_another_reading,
    warn_of_other_voxels,
)
from skimbal.exceptions import ParameterError, warn_caller
from skimbal.habits import advice_on_value
from skimbal.images import FileForm, ImageArray, ImageFiles, InputForm, guess_axes
from skimbal.losses import inverse_frequency
from skimbal.training import ImageDataset
from skimbal.typing import ArrayLike, ClassWeight, ImagesLike, is_integer
from skimbal.wording import plural

__all__ = [
    "InputClassifier",
    "Rows",
    "check_class_argument",
    "check_foreign_rows",
    "check_groups",
    "check_images",
    "check_rows",
    "weighted_by_class",
]


class InputClassifier(CNNClassifier, Protocol):
    """A classifier, with the attributes that describe the images of its fit."""

    input_shape_: tuple[int, ...]
    n_features_in_: int
    input_: InputForm


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a fit: images with encoded labels and weights, the labels, the groups.

    ``groups`` has an entry for each row of the array that the images are selected from.
    ``are_images`` tells whether the shape of an image is known, unlike in bare rows of pixels.
    """

    data: ImageDataset
    labels: np.ndarray
    groups: np.ndarray | None = None
    are_images: bool = True

    @property
    def weight(self) -> np.ndarray | None:
        """Weight of each row, dimensionless."""
        return self.data.sample_weight

    @property
    def group_of_row(self) -> np.ndarray | None:
        """Group of each row."""
        return None if self.groups is None else self.groups[self.data.rows]

    @property
    def class_mass(self) -> np.ndarray:
        """Weight of each class, in samples."""
        return np.bincount(self.data.y, weights=self.weight, minlength=len(self.labels))

    @property
    def checksum(self) -> tuple[int, int]:
        """Numbers that most likely differ for other rows. Two of the images count."""
        checksum = 0
        ends = self.data.take(np.array([0, -1])).X
        for array in (self.data.rows, self.data.y, self.weight, ends):
            part = b"" if array is None else np.ascontiguousarray(array).tobytes()
            checksum = zlib.crc32(part, checksum)
        return len(self.data), checksum

    def with_data(self, data: ImageDataset) -> "Rows":
        """Return other rows of the same array."""
        return replace(self, data=data)


def check_rows(
    estimator: InputClassifier,
    X: ImagesLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    groups: ArrayLike | None,
    *,
    labels: np.ndarray | None,
    reset: bool,
) -> Rows:
    """Check the data of a fit.

    ``labels`` are the classes if they are known already. ``reset`` tells whether the shape of the
    images is new.
    """
    images, shape = check_images(estimator, X, reset=reset)
    if reset and estimator.input_shape is None:
        _warn_of_axes(estimator, images)
    targets = _check_targets(estimator, images, y)
    weight = _check_weight(images, sample_weight)
    group_of_row = check_groups(images, groups)
    rows = np.arange(len(images)) if weight is None else np.flatnonzero(weight)
    if labels is None:
        labels = np.unique(targets[rows])
    if len(labels) < 2:
        raise ValueError(
            f"y must hold at least 2 classes for {type(estimator).__name__} to tell apart; got "
            f"{len(labels)} class: {labels.tolist()}. A part of the rows, such as a fold or a bag, "
            "may lack a class that is rare. Draw it by class, as StratifiedKFold and "
            "BalancedBaggingClassifier do."
        )
    _refuse_unknown_labels(targets[rows], labels)
    encoded = np.searchsorted(labels, targets)
    encoded[encoded == len(labels)] = 0  # rows without weight may hold other labels
    data = ImageDataset(images, encoded, sample_weight=weight, sample_shape=shape, rows=rows)
    are_images = images.ndim > 2 or estimator.input_shape is not None
    return Rows(data, labels, group_of_row, are_images)


def check_foreign_rows(
    estimator: InputClassifier, X: ImagesLike, y: ArrayLike, labels: np.ndarray
) -> Rows:
    """Check rows that come from elsewhere, such as the validation set of ``train_split``."""
    images, shape = check_images(estimator, X, reset=False)
    targets = _check_targets(estimator, images, y)
    _refuse_unknown_labels(targets, labels)
    data = ImageDataset(images, np.searchsorted(labels, targets), sample_shape=shape)
    return Rows(data, labels)


#: Code that moves the last axis of images to the front.
_TO_FRONT = "np.moveaxis(X, -1, 1)"

# Images --------------------------------------------------------------------------------------


# The check sums up all pixels, and the sum of a narrow dtype may meet inf and -inf.
@np.errstate(invalid="ignore")
def check_images(
    estimator: InputClassifier, X: ImagesLike, *, reset: bool
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Check the images or rows, and return them as they are, with the shape of an image."""
    images = as_array(_read(estimator, X, reset), "X")
    # Not np.ndim, which containers that are not arrays may refuse.
    if (images.ndim if hasattr(images, "ndim") else np.asarray(images).ndim) <= 2:
        if not reset:
            _refuse_image_for_rows(estimator, images)
        images = validate_data(
            estimator, images, dtype="numeric", ensure_all_finite=False, reset=reset
        )
        _refuse_missing_pixels(images, "row")
        shape = _shape_of_rows(estimator, images.shape[1]) if reset else estimator.input_shape_
    else:
        images = _check_image_array(estimator, images)
        shape = _shape_of_images(estimator, images, reset)
        _check_pixels(images)
    if images.dtype.kind not in "biuf":
        raise ValueError(
            f"X must hold real numbers; got dtype {images.dtype}. Convert it first, such as with "
            "X.astype('float32')."
        )
    if reset:
        estimator.input_shape_ = shape
        estimator.input_ = _form_of(estimator, images, shape)
        if images.ndim > 2:
            estimator.n_features_in_ = math.prod(shape)
            if hasattr(estimator, "feature_names_in_"):
                del estimator.feature_names_in_
    return images, shape


def _read(estimator: InputClassifier, X: ImagesLike, reset: bool) -> ImagesLike:
    """Take paths for their images, which are read as at the fit."""
    if reset:
        return from_paths(X)
    form = estimator.input_
    if isinstance(X, str | os.PathLike):
        images = from_path(X, form, getattr(estimator, "classes_", None))
    else:
        images = from_paths(X, form.files)
    if isinstance(images, ImageFiles) and form.files is not None:
        refuse_another_reading(images, form.files)
        warn_of_other_voxels(images, form.files)
    return images


def _form_of(
    estimator: InputClassifier, images: np.ndarray | ImageArray, shape: tuple[int, ...]
) -> InputForm:
    """Return the form of the images of a fit."""
    return InputForm(
        shape,
        estimator.spatial_axes,
        images.dtype.name,
        are_images=images.ndim > 2 or estimator.input_shape is not None,
        scale=images.scale if isinstance(images, ImageFiles) else None,
        files=FileForm.of(images) if isinstance(images, ImageFiles) else None,
    )


def _check_image_array(
    estimator: InputClassifier, images: ArrayLike | ImageArray
) -> np.ndarray | ImageArray:
    if not isinstance(images, ImageArray):
        array: np.ndarray = check_array(
            images, dtype="numeric", allow_nd=True, ensure_all_finite=False, estimator=estimator
        )
        return array
    if len(images) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={images.shape}) while a minimum of 1 is required "
            f"by {type(estimator).__name__}."
        )
    return images


def _check_pixels(images: np.ndarray | ImageArray) -> None:
    """Refuse NaN and infinite pixels, in blocks: the check makes an array of its input's size."""
    # Files are checked whenever they are read, which should not happen once more for this.
    if images.dtype.kind != "f" or isinstance(images, ImageFiles):
        return
    for rows in ImageDataset(images).blocks():  # type: ignore[arg-type]
        _refuse_missing_pixels(np.asarray(images[rows[0] : rows[-1] + 1]), "image", rows[0])


def _refuse_missing_pixels(images: np.ndarray, noun: str, start: int = 0) -> None:
    """Refuse NaN and infinity, with the advice for images, and tell where they are."""
    try:
        assert_all_finite(images, input_name="X")
    except ValueError as error:
        # One at a time, as the images may be a memory map.
        bad = [row for row, image in enumerate(images) if not np.isfinite(image).all()]
        n_pixels = int(np.count_nonzero(~np.isfinite(images[bad[0]])))
        others = f" and {plural(len(bad) - 1, f'other {noun}')}" if len(bad) > 1 else ""
        raise ValueError(
            f"{str(error).partition('.')[0]}. It is in {plural(n_pixels, 'pixel')} of "
            f"{noun} {start + bad[0]}{others}. Give these pixels a value, such as the value of the "
            "background with np.nan_to_num(X, nan=0.0, posinf=0.0, neginf=0.0), or leave out the "
            f"{noun}s."
        ) from None


def _shape_of_rows(estimator: InputClassifier, n_features: int) -> tuple[int, ...]:
    if estimator.input_shape is None:
        return (*[1] * len(estimator.spatial_axes), n_features)
    shape = _given_shape(estimator)
    if math.prod(shape) != n_features:
        raise ValueError(
            f"X has {n_features} features, but input_shape={shape} needs {math.prod(shape)}."
        )
    return shape


def _shape_of_images(
    estimator: InputClassifier, images: np.ndarray | ImageArray, reset: bool
) -> tuple[int, ...]:
    name, n_axes = type(estimator).__name__, len(estimator.spatial_axes)
    knows_axes = isinstance(images, ImageFiles) and images.knows_axes
    if isinstance(images, ImageFiles):
        _check_axes_of_files(name, n_axes, images)
    if images.ndim not in (n_axes + 1, n_axes + 2):
        axes = ", ".join(estimator.spatial_axes)
        raise ValueError(
            f"{name} takes X of shape (n_samples, n_channels, {axes}), (n_samples, {axes}) or "
            f"(n_samples, n_features); got an array with {images.ndim} axes, of shape "
            f"{images.shape}."
            + ("" if reset else _advice_on_shape(images.shape, estimator.input_shape_))
            + _first_file(images)
        )
    shape = images.shape[1:] if images.ndim == n_axes + 2 else (1, *images.shape[1:])
    if 0 in shape:
        raise ValueError(
            f"X must have a size of at least 1 along every axis; got the shape {images.shape}."
        )
    if not reset or estimator.input_shape is not None:
        expected = _given_shape(estimator) if reset else estimator.input_shape_
        if shape != expected:
            of_files = not reset and isinstance(images, ImageFiles)
            advice = advice_on_channels(shape, expected) if of_files else ""
            raise ValueError(
                f"X has sample shape {shape}, but {name} is expecting sample shape {expected} as "
                f"input{', as input_shape says' if reset else ''}."
                f"{_advice_on_shape(images.shape, expected)}{_first_file(images)}{advice}"
            )
    elif not knows_axes and guess_axes(images.shape, n_axes).surely_channels_last:
        raise ValueError(
            f"X must have its channels first; got the shape {images.shape}, which looks as if they "
            f"came last. Use {_TO_FRONT}"
            + ("" if images.ndim == n_axes + 2 else " with the classifier for its spatial axes")
            + f", or say that the axes are right with input_shape={shape}."
        )
    return shape


def _first_file(images: np.ndarray | ImageArray) -> str:
    """Name a file of images that are files."""
    return f" The first image is {images.paths[0]}." if isinstance(images, ImageFiles) else ""


def _advice_on_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return the remedy for images whose channels come last, and for an image that is alone."""
    n_channels, *spatial = expected
    if shape in (expected, tuple(spatial)):
        return " It looks like a single image. Use X[np.newaxis]."
    if shape == (*spatial, n_channels):
        remedy = "Use np.moveaxis(X, -1, 0)[np.newaxis], with its channels first."
        return f" It looks like a single image. {remedy}"
    if shape[1:] == (*spatial, n_channels):
        return f" Its channels come last. Use {_TO_FRONT}."
    if len(shape) == 1 + len(expected) and shape[-1] == n_channels != shape[1]:
        moved = (n_channels, *shape[1:-1])
        return (
            f" Its channels come last, and its size is another one. {_TO_FRONT} has samples of "
            f"shape {moved}."
        )
    if (len(shape) == len(expected) and shape[0] == n_channels > 1) or len(shape) == len(spatial):
        return " If it is a single image, use X[np.newaxis]."
    return ""


def _refuse_image_for_rows(estimator: InputClassifier, X: ArrayLike) -> None:
    """Refuse two axes that are neither rows of pixels nor images."""
    shape = np.shape(X) if isinstance(X, np.ndarray | list | tuple) else ()
    if len(shape) != 2 or not estimator.input_.are_images:
        return
    expected = estimator.input_shape_
    if shape[1] != math.prod(expected):
        raise ValueError(
            f"X has {shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{math.prod(expected)} features as input, or images of shape {expected}; got the "
            f"shape {shape}.{_advice_on_shape(shape, expected)}"
        )


def _check_axes_of_files(name: str, n_axes: int, images: ImageFiles) -> None:
    if images.knows_axes and images.n_spatial != n_axes:
        raise ValueError(
            f"{name} takes images of {n_axes} spatial axes; got files of {images.n_spatial}, of "
            f"shape {images.shape[1:]}. The first is {images.paths[0]}. Use "
            f"CNN{images.n_spatial}DClassifier, or give ImageFiles a transform= that returns "
            f"images of {n_axes} spatial axes, or a channel_axis= if they are arrays."
        )


def _warn_of_axes(estimator: InputClassifier, images: np.ndarray | ImageArray) -> None:
    """Warn of an array, one of whose axes may count channels or may be spatial."""
    n_axes, is_files = len(estimator.spatial_axes), isinstance(images, ImageFiles)
    if images.ndim <= 2 or (isinstance(images, ImageFiles) and images.knows_axes):
        return
    is_last = guess_axes(images.shape, n_axes).maybe_channels_last and not is_files
    is_first = (images.ndim, n_axes) == (4, 3) and guess_axes(images.shape).n_spatial == 2
    if not is_last and not (is_first and min(images.shape[2:]) > 1):
        return
    shape = images.shape[1:] if images.ndim == n_axes + 2 else (1, *images.shape[1:])
    remedy = f"Use {_TO_FRONT}" if is_last else "Use CNN2DClassifier"
    warn_caller(
        f"the {'last' if is_last else 'first'} axis of the images in X, of shape {images.shape}, "
        f"may count channels, and is taken for a spatial axis. {remedy} if it does, or say that "
        f"the axes are right with input_shape={shape}."
    )


def _given_shape(estimator: CNNClassifier) -> tuple[int, ...]:
    n_axes, given = len(estimator.spatial_axes), estimator.input_shape
    if (
        not isinstance(given, list | tuple)
        or len(given) not in (n_axes, n_axes + 1)
        or not all(is_integer(size) and size > 0 for size in given)
    ):
        axes = ", ".join(estimator.spatial_axes)
        raise ParameterError(
            "input_shape", f"None, ({axes}) or (n_channels, {axes}) in positive integers", given
        )
    shape = tuple(int(size) for size in given)
    return shape if len(shape) == n_axes + 1 else (1, *shape)


# Labels, weights and groups ------------------------------------------------------------------


def _is_one_hot(y: ArrayLike) -> bool:
    rows = np.asarray(y)
    if rows.ndim != 2 or rows.dtype.kind not in "biuf":
        return False
    return bool(np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) == 1).all())


def _check_targets(estimator: CNNClassifier, images: np.ndarray, y: ArrayLike) -> np.ndarray:
    name = type(estimator).__name__
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    given = as_array(y, "y")
    if np.asarray(given).ndim > 1 and np.asarray(given).shape[1] > 1:
        remedy = " Its rows are one-hot. Use y.argmax(axis=1)." if _is_one_hot(given) else ""
        raise ValueError(f"Multilabel and multioutput targets are not supported.{remedy}")
    targets = column_or_1d(given, warn=True)
    if targets.dtype.kind == "O":
        _sorted_distinct(targets, "y")
    assert_all_finite(targets, input_name="y", estimator_name=name)
    check_classification_targets(targets)
    check_consistent_length(images, targets)
    return np.asarray(targets)


def _check_weight(images: np.ndarray, sample_weight: ArrayLike | None) -> np.ndarray | None:
    if sample_weight is None:
        return None
    weight: np.ndarray = _check_sample_weight(
        as_array(sample_weight, "sample_weight"), images, dtype=np.float64, ensure_non_negative=True
    )
    if not weight.any():
        raise ValueError(
            "sample_weight must be above 0 for some rows; got zero for every row. Give at least "
            "two rows of different classes a positive weight."
        )
    return weight


def check_groups(images: np.ndarray, groups: ArrayLike | None) -> np.ndarray | None:
    """Return the group of each row, and refuse groups that are missing or have no order."""
    if groups is None:
        return None
    of_rows: np.ndarray = np.asarray(as_array(groups, "groups"))
    if of_rows.dtype.kind == "U":
        # Among text in a list, numpy makes text of missing entries.
        of_rows = np.asarray(groups, dtype=object)
    if of_rows.ndim != 1:
        raise ValueError(
            "groups must have one entry for each row of X, so the shape (n_samples,); got the "
            f"shape {of_rows.shape}."
        )
    check_consistent_length(images, of_rows)
    _sorted_distinct(of_rows, "groups", "group")
    return of_rows


def check_class_argument(classes: ArrayLike | None, known: np.ndarray | None) -> np.ndarray:
    """Return the labels in ``classes`` of ``partial_fit``, or the labels of the first call."""
    if classes is None:
        if known is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return known
    labels = _sorted_distinct(column_or_1d(classes), "classes")
    if known is not None and not np.array_equal(labels, known):
        raise ParameterError(
            "classes",
            f"{known.tolist()}, as in the first call",
            classes,
            "Leave classes out, or fit anew.",
        )
    return labels


def _sorted_distinct(labels: np.ndarray, name: str, what: str = "label") -> np.ndarray:
    """Sort the distinct labels, and refuse labels that are missing or have no order."""
    try:
        distinct: np.ndarray = np.unique(labels)
    except TypeError:
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise ValueError(
            f"{name} must hold {what}s of one type, which can be sorted; got the types {kinds}. "
            f"Give every {what} the same type, such as str, and drop the rows without a {what}."
        ) from None
    assert_all_finite(distinct, input_name=name)
    if distinct.dtype.kind in "mM" and np.isnat(distinct).any():
        raise ValueError(f"Input {name} contains NaT. Drop the rows without a {what}.")
    return distinct


def _refuse_unknown_labels(y: np.ndarray, labels: np.ndarray) -> None:
    unknown = np.setdiff1d(y, labels)
    if len(unknown):
        raise ValueError(
            f"y must hold labels among the classes {labels.tolist()}; got {unknown.tolist()}. Pass "
            "all labels as classes in the first call of partial_fit, or fit anew."
        )


def weighted_by_class(
    class_weight: ClassWeight, train: Rows, valid: Rows | None, class_mass: np.ndarray
) -> tuple[Rows, Rows | None]:
    """Multiply the weights with the weights of the classes.

    The mean over the training rows is 1, so that neither scale nor split changes the loss.
    """
    if class_weight is None and train.weight is None:
        return train, valid
    of_class = _check_class_weight(class_weight, train.labels, class_mass)

    def weight_of(rows: Rows) -> np.ndarray:
        weight: np.ndarray = of_class[rows.data.y]
        return weight if rows.weight is None else weight * rows.weight

    total = weight_of(train).sum() / len(train.data)
    if total == 0:
        raise ParameterError(
            "class_weight",
            "such that a training row has a weight above 0",
            class_weight,
            "With sample_weight, it leaves nothing to learn from.",
        )

    def reweighted(rows: Rows) -> Rows:
        return rows.with_data(rows.data.reweighted(weight_of(rows) / total))

    return reweighted(train), valid and reweighted(valid)


def _check_class_weight(
    class_weight: ClassWeight, labels: np.ndarray, class_mass: np.ndarray
) -> np.ndarray:
    """Return the weight of each class."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        of_class = inverse_frequency(class_mass)
    elif isinstance(class_weight, dict) and not all(
        isinstance(weight, Real) for weight in class_weight.values()
    ):
        of_class = np.full(len(labels), np.nan)
    elif isinstance(class_weight, str):
        meant = advice_on_value("class_weight", class_weight, ["balanced"])
        raise ParameterError("class_weight", "None, 'balanced' or a dict", class_weight, meant)
    else:
        of_class = compute_class_weight(class_weight, classes=labels, y=labels)
    if not np.isfinite(of_class).all() or (of_class < 0).any() or not of_class.any():
        raise ParameterError(
            "class_weight",
            "a dict of finite weights of at least 0, not all of them zero",
            class_weight,
        )
    return of_class
