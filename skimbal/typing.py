"""Types that several rooms share: values that users pass, and objects of other packages."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Protocol, Self, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = [
    "ArrayLike",
    "ArraySource",
    "ClassWeight",
    "Classifier",
    "Estimator",
    "Fingerprinted",
    "ImagesLike",
    "OnDemandImages",
    "PathLike",
    "RandomState",
    "Resampler",
    "Splitter",
    "is_integer",
    "is_number",
]

ArrayLike: TypeAlias = npt.ArrayLike
PathLike: TypeAlias = str | os.PathLike[str]
#: Seed of a function or estimator, as in scikit-learn.
RandomState: TypeAlias = int | np.random.RandomState | None
#: Weights of the classes, as in scikit-learn.
ClassWeight: TypeAlias = Mapping[Any, float] | str | None


@runtime_checkable
class ArraySource(Protocol):
    """An array that may be on disk, such as ``numpy.memmap``, ``zarr.Array``, ``h5py.Dataset``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of entries along each axis."""

    @property
    def dtype(self) -> Any:
        """Dtype of the entries."""

    def __getitem__(self, index: Any, /) -> Any:
        """Read entries."""


@runtime_checkable
class Fingerprinted(Protocol):
    """Data that can be told from other data without reading it."""

    def fingerprint(self) -> Mapping[str, object] | None:
        """Return facts that differ for other data, or None if only the contents differ."""


@runtime_checkable
class OnDemandImages(ArraySource, Fingerprinted, Protocol):
    """Images that are read when a batch asks for them, as :mod:`skimbal.images` makes them.

    Indexing by a slice, a mask or row numbers selects images and reads none of them.
    """

    @property
    def has_files(self) -> bool:
        """Whether images are decoded from files, which threads can do ahead."""

    @property
    def n_spatial(self) -> int | None:
        """Number of spatial axes of an image, 2 or 3, or None if it is not known."""

    def __len__(self) -> int:
        """Return the number of images."""


ImagesLike: TypeAlias = npt.ArrayLike | ArraySource | OnDemandImages | Sequence[PathLike]


class Estimator(Protocol):
    """An estimator of scikit-learn."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters."""

    def fit(self, X: Any, y: Any, /, **params: Any) -> Self:
        """Learn from data."""


class Classifier(Estimator, Protocol):
    """A classifier of scikit-learn."""

    classes_: np.ndarray

    def predict(self, X: Any, /) -> np.ndarray:
        """Predict the class of each row."""

    def predict_proba(self, X: Any, /) -> np.ndarray:
        """Predict the probability of each class for each row."""


class Resampler(Protocol):
    """A sampler of imbalanced-learn."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters."""

    def fit(self, X: Any, y: Any, /, **params: Any) -> Self:
        """Check the data and learn how many rows to make of each class."""

    def fit_resample(self, X: Any, y: Any, /, **params: Any) -> tuple[Any, Any]:
        """Return other rows with their labels."""


class Splitter(Protocol):
    """A cross-validation splitter of scikit-learn."""

    def split(
        self, X: Any, y: Any = None, groups: Any = None, /
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the training and test rows of each split."""


def is_integer(value: object) -> TypeGuard[int]:
    """Tell whether a value is an integer, of Python or NumPy, but not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is a finite number, of Python or NumPy, but not a bool."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False
