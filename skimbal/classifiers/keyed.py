"""Images behind a column of numbers, for estimators that take tables of numbers only."""

import hashlib
from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skimbal.classifiers.containers import as_array
from skimbal.classifiers.paths import from_paths
from skimbal.exceptions import ParameterError
from skimbal.images import ImageArray, ImageFiles
from skimbal.typing import ArrayLike, Classifier, ImagesLike

__all__ = ["KeyedClassifier"]

#: Bits of a key, all of which float64 holds.
_N_BITS = 52


def _has(name: str) -> Callable[["KeyedClassifier"], bool]:
    """Tell whether the classifier of the images has a method, for ``available_if``."""

    def check(keyed: "KeyedClassifier") -> bool:
        getattr(getattr(keyed, "estimator_", keyed.estimator), name)
        return True

    return check


class KeyedClassifier(
    MetaEstimatorMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """A classifier of images that takes a column of numbers, the keys of its images.

    Some meta-estimators, such as :class:`~sklearn.multiclass.OneVsOneClassifier`, refuse all input
    but a table of numbers. ``keys`` is such a table of one column, whose numbers stand for images.
    The meta-estimator selects rows of it, and this classifier reads their images.

    A number that is not the key of an image is refused, so neither a scaler nor a sampler that
    computes new rows (SMOTE) can lead to a wrong image. Methods that predict take new images, too,
    in any form that ``estimator`` accepts. Pickles hold paths and no pixels.

    Parameters
    ----------
    estimator : classifier
        The classifier of the images. A fit trains a clone.
    images : ImageFiles, ImageArray, or array-like of paths of shape (n_images,)
        All images that keys stand for, for training and prediction: files, or an
        :class:`~skimbal.images.ImageArray` around a memory map or an array of zarr or h5py. An
        array in memory is refused, as each pickle would hold its pixels.

    Attributes
    ----------
    keys : ndarray of int64 of shape (n_images, 1)
        The key of each image, dimensionless: 52 bits of the checksum of the absolute path of a
        file, or of the pixels of an array, which are read once for it. An image has the same key in
        another ``KeyedClassifier``, in any order.
    estimator_ : classifier
        The fitted classifier of the images.
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.

    Raises
    ------
    ParameterError
        If ``images`` is an array in memory, or a memory map without an ``ImageArray`` around it.
    ValueError
        If ``fit`` or a prediction gets numbers that are not keys.

    See Also
    --------
    skimbal.images.ImageFiles : Image files, with options for their reading.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from sklearn.multiclass import OneVsOneClassifier
    >>> from skimbal import CNN2DClassifier, KeyedClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> data = load_imbalanced_digits()
    >>> clf = CNN2DClassifier(module="small", max_epochs=2, random_state=0)
    >>> with TemporaryDirectory() as folder:
    ...     paths = [Path(folder, f"{i}.npy") for i in range(len(data.X_train))]
    ...     for path, image in zip(paths, data.X_train):
    ...         np.save(path, image)
    ...     keyed = KeyedClassifier(clf, paths)
    ...     model = OneVsOneClassifier(keyed).fit(keyed.keys, data.y_train)
    ...     model.predict(keyed.keys[:10]).shape
    (10,)
    """

    #: Groups mean the same to every split, as for the classifiers of images.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    estimator_: Classifier
    classes_: np.ndarray
    #: ``images`` as they were given, as an array, and their keys.
    _known: tuple[object, ImageArray, np.ndarray]

    def __init__(self, estimator: Classifier, images: ImagesLike) -> None:
        self.estimator = estimator
        self.images = images

    def __sklearn_clone__(self) -> Self:
        """Return a new classifier of the same images, of which nothing is copied or read."""
        cloned = type(self)(clone(self.estimator), self.images)
        if "_known" in vars(self):
            cloned._known = self._known
        return cloned

    @property
    def keys(self) -> np.ndarray:
        """The key of each image, in a column."""
        return self._know()[1][:, np.newaxis]

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit a clone of ``estimator`` to the images that the keys stand for.

        Parameters
        ----------
        X : array-like of shape (n_samples, 1)
            Rows of ``keys``.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, dimensionless, passed on if given. To an estimator that takes no weights, such
            as a pipeline, whole numbers are passed as repeated rows.
        groups : array-like of shape (n_samples,), default=None
            Group of each row, passed on if given.

        Returns
        -------
        self : estimator instance
            The fitted estimator.

        Raises
        ------
        ValueError
            If X does not hold keys of ``images``, or labels, weights or groups are more or fewer.
        """
        keys = _column_of_numbers(X)
        if keys is None:
            raise ValueError(
                "X must be a column of keys, of the shape (n_samples, 1); got "
                f"{type(X).__name__} of the shape {np.shape(X)}. Pass rows of the attribute keys "
                "of this KeyedClassifier."
            )
        check_consistent_length(keys, y, sample_weight, groups)
        rows = np.arange(len(keys))
        if sample_weight is not None and not has_fit_parameter(self.estimator, "sample_weight"):
            rows, sample_weight = np.repeat(rows, _whole(sample_weight)), None
        params = {"sample_weight": sample_weight, "groups": groups}
        given = {
            name: _safe_indexing(value, rows) for name, value in params.items() if value is not None
        }
        labels = _safe_indexing(y, rows)
        self.estimator_ = clone(self.estimator).fit(self._take(keys[rows]), labels, **given)
        self.classes_ = self.estimator_.classes_
        return self

    @available_if(_has("predict"))  # type: ignore[untyped-decorator]
    def predict(self, X: ImagesLike) -> np.ndarray:
        """Predict the class of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, 1), or images
            Rows of ``keys``, or images in any form that the estimator takes.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Class labels.
        """
        return self._call("predict", X)

    @available_if(_has("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ImagesLike) -> np.ndarray:
        """Compute the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, 1), or images
            Rows of ``keys``, or images in any form that the estimator takes.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities, dimensionless, in the order of ``classes_``.
        """
        return self._call("predict_proba", X)

    @available_if(_has("predict_log_proba"))  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: ImagesLike) -> np.ndarray:
        """Compute the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, 1), or images
            Rows of ``keys``, or images in any form that the estimator takes.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Natural logarithms, dimensionless, in the order of ``classes_``.
        """
        return self._call("predict_log_proba", X)

    @available_if(_has("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: ImagesLike) -> np.ndarray:
        """Compute the score of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, 1), or images
            Rows of ``keys``, or images in any form that the estimator takes.

        Returns
        -------
        score : ndarray of shape (n_samples,) or (n_samples, n_classes)
            As of the estimator.
        """
        return self._call("decision_function", X)

    @available_if(_has("transform"))  # type: ignore[untyped-decorator]
    def transform(self, X: ImagesLike) -> np.ndarray:
        """Compute the features of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, 1), or images
            Rows of ``keys``, or images in any form that the estimator takes.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features_out)
            As of the estimator.
        """
        return self._call("transform", X)

    def _call(self, method: str, X: ImagesLike) -> np.ndarray:
        check_is_fitted(self, "estimator_")
        keys = _column_of_numbers(X)
        images = X if keys is None else self._take(keys)
        found: np.ndarray = getattr(self.estimator_, method)(images)
        return found

    def _take(self, keys: np.ndarray) -> ImageArray:
        """Select the images of keys, and refuse other numbers."""
        images, known = self._know()
        order = np.argsort(known)
        places = np.minimum(np.searchsorted(known, keys, sorter=order), len(known) - 1)
        rows = order[places]
        if (known[rows] != keys).any():
            row = int(np.flatnonzero(known[rows] != keys)[0])
            raise ValueError(
                f"X must hold keys of the images of this KeyedClassifier; got {keys[row]!r} in row "
                f"{row}, which is the key of none of its {len(known)} images. Pass rows of the "
                "attribute keys as they are: without a scaler, a sampler that computes new rows, "
                "such as SMOTE, or a dtype of less than 53 bits. Give images all images that are "
                "predicted, too."
            )
        selected: ImageArray = images[rows]
        return selected

    def _know(self) -> tuple[ImageArray, np.ndarray]:
        """Return the images, and their keys, which clones share."""
        if "_known" not in vars(self) or self._known[0] is not self.images:
            images = _on_disk(self.images)
            self._known = self.images, images, _keys_of(images)
        return self._known[1:]


def _on_disk(given: ImagesLike) -> ImageArray:
    """Return files or an array on the disk as an array of rows."""
    images = as_array(from_paths(given), "images")
    if isinstance(images, np.memmap):
        raise ParameterError(
            "images",
            "an ImageArray around a memory map",
            type(given).__name__,
            "Pass ImageArray(images), of which a pickle holds the name of the file. A pickle of a "
            "memory map holds its pixels.",
        )
    if not isinstance(images, ImageArray) or images.in_memory:
        raise ParameterError(
            "images",
            "ImageFiles, paths, or an ImageArray around an array on the disk",
            f"{type(given).__name__} in memory",
            "Pass rows of pixels to the meta-estimator instead, which need no keys: "
            "X.reshape(len(X), -1), with input_shape=X.shape[1:] of the classifier.",
        )
    return images


def _keys_of(images: ImageArray) -> np.ndarray:
    """Compute a number for each image, which most likely no other image has."""
    if isinstance(images, ImageFiles):
        identities = [path.encode("utf-8", "surrogateescape") for path in images.paths]
    else:
        identities = [_digest(images[row].tobytes()) for row in range(len(images))]
    keys = [int.from_bytes(_digest(identity)) >> (64 - _N_BITS) for identity in identities]
    if len(set(keys)) != len(set(identities)):
        raise ValueError("images must have distinct checksums; got two with the same. Drop one.")
    return np.array(keys, dtype=np.int64)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def _whole(weights: ArrayLike) -> np.ndarray:
    """Return weights as numbers of repetitions, and refuse fractions."""
    given = np.asarray(weights)
    wrong = ~np.isfinite(given) | (given < 0) | (given != np.round(given))
    if wrong.any():
        raise ValueError(
            "sample_weight must be whole numbers for an estimator whose fit takes no weights; got "
            f"{given[wrong][:1].tolist()}. Give KeyedClassifier a classifier whose fit "
            "takes sample_weight."
        )
    return given.astype(np.intp)


def _column_of_numbers(X: ImagesLike) -> np.ndarray | None:
    """Return the entries of a table of one column of numbers, or None for all else."""
    if len(getattr(X, "shape", ())) != 2:
        return None
    column = np.asarray(X)
    is_numbers = column.dtype.kind in "iuf" and column.shape[1:] == (1,)
    return column[:, 0] if is_numbers else None
