"""Which rows an epoch is made of, how they are cut into batches, and resampling of image arrays."""

import math
import re
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, clone
from sklearn.utils import Tags, check_consistent_length, get_tags

from skimbal.exceptions import ParameterError
from skimbal.habits import advice_on_value, explains_names
from skimbal.typing import (
    ArrayLike,
    ImagesLike,
    OnDemandImages,
    RandomState,
    Resampler,
    is_integer,
)
from skimbal.wording import plural

__all__ = [
    "STRATEGIES",
    "BatchSampler",
    "NDSampler",
    "SamplerSpec",
    "Strategy",
    "check_neighbours",
    "check_sampler",
    "count_batches",
    "is_uniform",
    "naming_neighbours",
]

#: Values of ``sampler=``: a name of :data:`~skimbal.sampling.STRATEGIES`, a sampler of
#: imbalanced-learn that only selects rows, or None for ``"uniform"``.
SamplerSpec: TypeAlias = str | Resampler | None
Batches: TypeAlias = list[np.ndarray]


# Ways to cut the rows of an epoch into batches ----------------------------------------------


def _in_runs(rows: np.ndarray, n_batches: int, rng: np.random.Generator) -> Batches:
    """Cut the rows in the order in which they are."""
    # A batch is a set. In index order it is read from disk in one sweep, and a batch of all
    # rows sums up in the same order in every epoch.
    size, n_larger = divmod(len(rows), n_batches)
    cut = n_larger * (size + 1)
    larger, others = rows[:cut].reshape(-1, size + 1), rows[cut:].reshape(-1, size)
    return [*np.sort(larger, axis=1), *np.sort(others, axis=1)]


def _shuffled(rows: np.ndarray, n_batches: int, rng: np.random.Generator) -> Batches:
    """Shuffle the rows, then cut them."""
    return _in_runs(rng.permutation(rows), n_batches, rng)


def _dealt(rows: np.ndarray, n_batches: int, rng: np.random.Generator) -> Batches:
    """Deal the rows like cards, so that every batch gets a share of each class."""
    return [np.sort(rows[hand::n_batches]) for hand in rng.permutation(n_batches)]


# Strategies ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strategy:
    """A way to draw the rows of an epoch: a row of :data:`~skimbal.sampling.STRATEGIES`.

    Parameters
    ----------
    draw : callable
        Maps ``(classes, rng)`` to the row numbers of an epoch, an array of shape (n_rows,).
        ``classes`` has an array of row numbers for each class, in the order of the sorted labels.
        ``rng`` is a :class:`numpy.random.Generator`, the only source of randomness.
    count : callable, default=None
        Maps the class counts, in samples, to the number of rows that every ``draw`` gives. If
        None, a first draw is counted.
    cut : callable, default=shuffle and cut
        Maps ``(rows, n_batches, rng)`` to the list of batches.
    needs_every_class : bool, default=False
        Whether batches that are too small for all classes defeat the purpose of the strategy.
        The classifiers then warn of a small ``batch_size``.
    equal_portions : bool, default=False
        Whether each batch has equal portions of all classes. Processes that share a batch then
        need as many rows of the rarest class as there are processes.
    equal_shares : bool, default=False
        Whether an epoch is expected to have as many rows of each class. If False, the shares are
        those of a draw.

    Examples
    --------
    Twice as many rows of the class with the last label:

    >>> import numpy as np
    >>> from skimbal.sampling import STRATEGIES, BatchSampler, Strategy
    >>> def twice(classes, rng):
    ...     return np.concatenate([*classes, classes[-1]])
    >>> STRATEGIES["last twice"] = Strategy(twice)
    >>> (rows,) = BatchSampler(["no", "no", "yes"], 4, "last twice")
    >>> rows
    array([0, 1, 2, 2])
    >>> del STRATEGIES["last twice"]
    """

    draw: Callable[[Batches, np.random.Generator], np.ndarray]
    count: Callable[[np.ndarray], int] | None = None
    cut: Callable[[np.ndarray, int, np.random.Generator], Batches] = _shuffled
    needs_every_class: bool = False
    equal_portions: bool = False
    equal_shares: bool = False


def _count_all(counts: np.ndarray) -> int:
    return int(counts.sum())


def _count_balanced(counts: np.ndarray) -> int:
    return len(counts) * int(counts.max())


def _draw_all(classes: Batches, rng: np.random.Generator) -> np.ndarray:
    return np.arange(sum(map(len, classes)))


def _draw_balanced(classes: Batches, rng: np.random.Generator) -> np.ndarray:
    n_largest = max(map(len, classes))
    columns = [
        np.concatenate([rng.permutation(rows) for _ in range(-(-n_largest // len(rows)))])
        for rows in classes
    ]
    # Classes take turns, so any run of rows holds equal portions of them.
    turns = [columns[k][:n_largest] for k in rng.permutation(len(columns))]
    return np.stack(turns, axis=1).ravel()


def _draw_class_by_class(classes: Batches, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(len(classes))
    return np.concatenate([rng.permutation(classes[k]) for k in order])


def _draw_weighted(classes: Batches, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.integers(len(classes), size=sum(map(len, classes)))
    counts = np.bincount(drawn, minlength=len(classes))
    return np.concatenate(
        [rng.choice(rows, size=n) for rows, n in zip(classes, counts, strict=True)]
    )


#: Strategies that ``sampler=`` knows by name. It is read when a sampler is looked up, so a row that
#: is added is known to the classifiers, to studies and to the command line.
STRATEGIES: dict[str, Strategy] = {
    "uniform": Strategy(_draw_all, _count_all),
    "balanced": Strategy(
        _draw_balanced,
        _count_balanced,
        _in_runs,
        needs_every_class=True,
        equal_portions=True,
        equal_shares=True,
    ),
    "stratified": Strategy(_draw_class_by_class, _count_all, _dealt, needs_every_class=True),
    "weighted": Strategy(_draw_weighted, _count_all, equal_shares=True),
}


def is_uniform(sampler: SamplerSpec) -> bool:
    """Tell whether a value of ``sampler=`` means uniform sampling.

    Parameters
    ----------
    sampler : str, sampler object or None
        As for :class:`BatchSampler`.

    Returns
    -------
    uniform : bool
        True for ``"uniform"`` and None.

    Examples
    --------
    >>> from skimbal.sampling import is_uniform
    >>> is_uniform(None), is_uniform("balanced")
    (True, False)
    """
    return sampler is None or (isinstance(sampler, str) and sampler == "uniform")


def count_batches(n_rows: int, batch_size: int) -> int:
    """Return the number of batches that a number of rows is cut into.

    Parameters
    ----------
    n_rows, batch_size : int
        Number of rows of an epoch, and largest number of rows in a batch, in samples.

    Returns
    -------
    n_batches : int
        The least number, unless that leaves a row alone.

    Examples
    --------
    >>> from skimbal.sampling import count_batches
    >>> count_batches(10, 4), count_batches(5, 2)
    (3, 2)
    """
    n_batches = -(-n_rows // batch_size)
    return max(1, min(n_batches, n_rows // 2)) if batch_size > 1 else n_batches


def check_sampler(sampler: SamplerSpec, y: ArrayLike) -> Strategy:
    """Check a sampler against labels, without resampling.

    Parameters
    ----------
    sampler : str, sampler object or None
        As for :class:`BatchSampler`.
    y : array-like of shape (n_samples,)
        Class labels.

    Returns
    -------
    strategy : Strategy
        The strategy of the sampler.

    Raises
    ------
    ParameterError
        If the sampler is unknown or looks at the values of the images.
    ValueError
        If a sampler of imbalanced-learn refuses the labels.

    Examples
    --------
    >>> from skimbal.sampling import check_sampler
    >>> check_sampler("stratified", [0, 0, 1]).needs_every_class
    True
    """
    y = np.asarray(y)
    strategy = _strategy(sampler, y)
    if _selects_rows(sampler):
        clone(sampler).fit(_row_numbers(y), y)
    return strategy


def _strategy(sampler: SamplerSpec, y: np.ndarray) -> Strategy:
    name = "uniform" if sampler is None else sampler
    if isinstance(name, str) and name in STRATEGIES:
        strategy = STRATEGIES[name]
        if not isinstance(strategy, Strategy):
            raise TypeError(
                f"STRATEGIES[{name!r}] must be a skimbal.sampling.Strategy; got {strategy!r}. "
                "Write Strategy(draw), for example."
            )
        return strategy
    if _selects_rows(sampler):
        return Strategy(partial(_resample, sampler, y))
    if _is_resampler(sampler) and not isinstance(sampler, NDSampler):
        raise ParameterError(
            "sampler",
            "a sampler that only selects rows",
            sampler,
            "It computes with the values of X, so it cannot be drawn anew by row number in every "
            "epoch. Resample before the classifier: "
            f"imblearn.pipeline.make_pipeline(NDSampler({sampler!r}), ...).",
        )
    raise ParameterError(
        "sampler",
        f"one of {', '.join(map(repr, STRATEGIES))}, or an instance of imbalanced-learn's "
        "RandomOverSampler or RandomUnderSampler",
        sampler,
        advice_on_value("sampler", sampler, STRATEGIES),
    )


def _resample(
    sampler: Resampler, y: np.ndarray, classes: Batches, rng: np.random.Generator
) -> np.ndarray:
    seeded = clone(sampler).set_params(random_state=int(rng.integers(2**31 - 1)))
    rows: np.ndarray = seeded.fit_resample(_row_numbers(y), y)[0][:, 0]
    return rows


def _row_numbers(rows: Sized) -> np.ndarray:
    return np.arange(len(rows))[:, None]


class BatchSampler:
    """Cut the rows of an epoch into batches that suit imbalanced classes.

    Each iteration draws a new epoch. A :class:`torch.utils.data.DataLoader` takes the object as
    ``batch_sampler=``.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels.
    batch_size : int
        Largest number of rows in a batch, in samples. Batches of an epoch differ by at most one
        row. No row is left alone: a batch takes it and has one row more.
    sampler : str, RandomOverSampler, RandomUnderSampler or None, default="uniform"
        - ``"uniform"``, or None: shuffled, each row once.
        - ``"balanced"``: equal portions of each class in every batch (counts differ by at most
          one). Rows of the largest class come once, others are repeated equally often (by at most
          one). This is the oversampling of Scholz et al. (2024).
        - ``"stratified"``: each row once, every batch mirrors the class proportions (the counts
          of a class in two batches differ by at most one).
        - ``"weighted"``: ``n_samples`` independent draws by inverse class frequency.
        - another name of :data:`~skimbal.sampling.STRATEGIES`.
        - an imbalanced-learn sampler that only selects rows: drawn anew every epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws. A ``random_state`` of the imbalanced-learn sampler goes first.

    Attributes
    ----------
    y : ndarray of shape (n_samples,)
        The labels.
    batch_size, sampler
        As given.
    strategy : Strategy
        The strategy of the sampler.

    Raises
    ------
    ParameterError
        If ``batch_size`` is not a positive integer, or ``sampler`` is unknown or looks at the
        values of the images.
    ValueError
        If ``y`` is empty or has more than one axis, a sampler of imbalanced-learn refuses it, or
        the draws of a strategy differ in their number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.sampling import BatchSampler
    >>> y = np.array([0] * 6 + [1] * 2)
    >>> for rows in BatchSampler(y, 4, "balanced", random_state=0):
    ...     print(np.bincount(y[rows]))
    [2 2]
    [2 2]
    [2 2]
    """

    def __init__(
        self,
        y: ArrayLike,
        batch_size: int,
        sampler: SamplerSpec = "uniform",
        random_state: RandomState = None,
    ) -> None:
        if not is_integer(batch_size) or batch_size < 1:
            raise ParameterError("batch_size", "an integer of at least 1", batch_size)
        self.y = np.asarray(y)
        if self.y.ndim != 1 or len(self.y) == 0:
            raise ValueError(
                "y must hold one label for each of at least one row; got an array of shape "
                f"{self.y.shape}."
            )
        self.batch_size = int(batch_size)
        self.sampler = sampler
        self.strategy = _strategy(sampler, self.y)
        codes, counts = np.unique(self.y, return_inverse=True, return_counts=True)[1:]
        #: Row numbers of each class.
        self._classes = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
        seed = getattr(sampler, "random_state", None)
        #: The generator of the draws, whose state decides about the next epochs.
        self.generator = _new_generator(random_state if seed is None else seed)
        if self.strategy.count is None:
            # This draw also shows errors of an imbalanced-learn sampler before any training.
            self._n_rows = len(self._draw())
        else:
            self._n_rows = int(self.strategy.count(counts))
        self._n_batches = count_batches(self._n_rows, self.batch_size)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self._n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the row numbers of each batch of a newly drawn epoch."""
        rows = self._draw()
        if len(rows) != self._n_rows:
            raise ValueError(
                f"sampler={self.sampler!r} must draw as many rows in every epoch; got "
                f"{self._n_rows}, then {len(rows)}. Correct its draw, or the count of its Strategy."
            )
        batches = list(self.strategy.cut(rows, self._n_batches, self.generator))
        if len(batches) != self._n_batches or not all(map(len, batches)):
            raise ValueError(
                f"sampler={self.sampler!r} must cut {len(rows)} rows into {self._n_batches} "
                f"batches of at least one row; got batches of {list(map(len, batches))} rows. "
                "Correct the cut of its Strategy."
            )
        yield from batches

    def _draw(self) -> np.ndarray:
        """Draw the rows of an epoch."""
        drawn = self.strategy.draw(self._classes, self.generator)
        rows, n_rows = np.asarray(drawn), len(self.y)
        is_of_numbers = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows) > 0
        if not is_of_numbers or rows.min() < 0 or rows.max() >= n_rows:
            raise ValueError(
                f"sampler={self.sampler!r} must draw an array of row numbers from 0 to "
                f"{n_rows - 1}, of shape (n_rows,) with at least one row; got {drawn!r}. Correct "
                "the draw of its Strategy."
            )
        return rows


class NDSampler(OneToOneFeatureMixin, BaseEstimator):  # type: ignore[misc]
    """Let any imbalanced-learn sampler work on image arrays.

    Images are flattened, resampled and put back into shape. Samplers that only select rows run on
    row numbers, so each selected image is copied once. For all others, integer images are
    interpolated in floating point, then rounded (on unsigned integers SMOTE would wrap around).

    Parameters
    ----------
    sampler : sampler object, default=None
        An imbalanced-learn sampler. None means ``RandomOverSampler()``. The parameters of the
        sampler are called ``sampler__...``.

    Attributes
    ----------
    sampler_ : sampler object
        The fitted copy of ``sampler``.
    sampling_strategy_ : dict
        Number of rows to draw or keep for each class, in samples, as ``sampler_`` holds it.
    sample_indices_ : ndarray of shape (n_samples_new,)
        Row numbers of the selected images. It exists if ``sampler_`` has it.
    n_features_in_ : int
        Number of pixels times channels of an image.
    feature_names_in_ : ndarray of shape (n_features,)
        Column names. It exists if X was a DataFrame.

    Examples
    --------
    >>> import numpy as np
    >>> from imblearn.over_sampling import SMOTE
    >>> from skimbal import NDSampler
    >>> X = np.random.default_rng(0).integers(100, 120, size=(30, 3, 8, 8), dtype=np.uint8)
    >>> y = np.array([0] * 20 + [1] * 10)
    >>> X_new, y_new = NDSampler(SMOTE(random_state=0)).fit_resample(X, y)
    >>> X_new.shape, X_new.dtype, X_new.min() >= 100
    ((40, 3, 8, 8), dtype('uint8'), np.True_)
    """

    _estimator_type = "sampler"

    @explains_names
    def __init__(self, sampler: Resampler | None = None) -> None:
        self.sampler = sampler

    def __sklearn_tags__(self) -> Tags:
        """Return the tags of the wrapped sampler, which decides about the input."""
        tags = get_tags(_checked_resampler(self.sampler))
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: ImagesLike, y: ArrayLike) -> "NDSampler":
        """Learn the sampling strategy. :meth:`fit_resample` resamples.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or rows.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        self : NDSampler
            The fitted sampler.
        """
        sampler, rows, _, n_features = self._prepare(X, y)
        self._keep(sampler.fit(rows, y), n_features)
        return self

    def fit_resample(self, X: ImagesLike, y: ArrayLike) -> tuple[Any, Any]:
        """Resample images or rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images with any number of axes. Rows, sparse matrices and DataFrames must suit the
            wrapped sampler.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        X_resampled : array-like of shape (n_samples_new, ...)
            In the dtype of ``X``. If ``X`` is an :class:`~skimbal.images.ImageArray` and the
            sampler only selects, it is another :class:`~skimbal.images.ImageArray`, and no image
            is read.
        y_resampled : array-like of shape (n_samples_new,)
            The labels of ``X_resampled``.

        Raises
        ------
        TypeError
            If ``sampler`` has no ``fit_resample``, or images are not numbers.
        ValueError
            If the images are empty, the numbers of images and labels differ, a class has fewer rows
            than the wrapped sampler seeks neighbours, or it refuses the input for another reason.
        """
        sampler, rows, restore, n_features = self._prepare(X, y)
        with naming_neighbours(sampler, y):
            rows, y = sampler.fit_resample(rows, y)
        self._keep(sampler, n_features)
        return restore(rows), y

    def _prepare(
        self, X: Any, y: ArrayLike
    ) -> tuple[Resampler, Any, Callable[[Any], Any], int | None]:
        """Return a sampler, its input, the way back to images, and the size of an image."""
        sampler: Resampler = clone(_checked_resampler(self.sampler))
        on_numbers = _only_selects(sampler)
        if not (on_numbers and isinstance(X, OnDemandImages) and len(X.shape) > 2):
            if np.ndim(X) > 2 or (hasattr(X, "__array__") and not hasattr(X, "columns")):
                X = np.asarray(X)
            is_numeric = isinstance(X, np.ndarray) and X.dtype.kind in "iubf"
            if np.ndim(X) < 2 or (np.ndim(X) == 2 and not (is_numeric and X.size)):
                return sampler, X, lambda rows: rows, None
            if not is_numeric:
                raise TypeError(f"images must be of a real number dtype; got {X.dtype}.")
            if X.size == 0:
                raise ValueError(
                    f"images must have at least one pixel; got an array of shape {X.shape}."
                )
        check_consistent_length(X, y)
        n_features = math.prod(X.shape[1:])
        if on_numbers:
            return sampler, _row_numbers(X), lambda rows: X[rows[:, 0]], n_features
        flat = X.reshape(len(X), -1)
        if X.dtype.kind != "f" or X.dtype.itemsize < 4:
            # Wide enough to hold every value exactly (but for integers above 2**53).
            flat = flat.astype(np.float32 if X.dtype.itemsize <= 2 else np.float64)
        return sampler, flat, partial(_as_images, dtype=X.dtype, shape=X.shape[1:]), n_features

    def _keep(self, sampler: Resampler, n_features: int | None) -> None:
        """Take over the attributes of the fitted sampler."""
        self.sampler_ = sampler
        for name in (
            "sampling_strategy_",
            "sample_indices_",
            "n_features_in_",
            "feature_names_in_",
        ):
            if hasattr(sampler, name):
                setattr(self, name, getattr(sampler, name))
            elif hasattr(self, name):  # left over from an earlier call
                delattr(self, name)
        if n_features is not None:  # the sampler may have seen only row numbers
            self.n_features_in_ = n_features


@contextmanager
def naming_neighbours(sampler: Any, y: ArrayLike, parameter: str = "sampler") -> Iterator[None]:
    """Word an error about fewer rows of a class than a sampler seeks neighbours.

    Parameters
    ----------
    sampler : imbalanced-learn sampler
        The sampler that draws in the context.
    y : array-like of shape (n_samples,)
        The labels that it draws from.
    parameter : str, default="sampler"
        Name of the parameter that holds the sampler.

    Raises
    ------
    ParameterError
        In place of a ``ValueError`` of scikit-learn about neighbours. Other errors stay.

    Examples
    --------
    >>> from imblearn.over_sampling import SMOTE
    >>> from skimbal.sampling import naming_neighbours
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 0, 1]
    >>> try:
    ...     with naming_neighbours(SMOTE(), y):
    ...         SMOTE().fit_resample(X, y)
    ... except ValueError as error:
    ...     print(type(error).__name__)
    ParameterError
    """
    try:
        yield
    except ValueError as error:
        named = _too_few_neighbours(error, sampler, y, parameter)
        if named is None:
            raise
        raise named from error


def check_neighbours(sampler: Any, y: np.ndarray) -> None:
    """Refuse a sampler that seeks more neighbours in a class than the class has, before it draws.

    Samplers that hide their neighbours in other objects are refused when they draw.

    Parameters
    ----------
    sampler : imbalanced-learn sampler
        A sampler with or without ``k_neighbors``.
    y : ndarray of shape (n_samples,)
        The labels that it will draw from.

    Raises
    ------
    ParameterError
        If a class that the sampler draws has at most ``k_neighbors`` rows.

    Examples
    --------
    >>> import numpy as np
    >>> from imblearn.over_sampling import SMOTE
    >>> from skimbal.sampling import check_neighbours
    >>> check_neighbours(SMOTE(k_neighbors=2), np.array([0] * 9 + [1] * 3))
    """
    k = getattr(sampler, "k_neighbors", None)
    if not is_integer(k):
        return
    try:
        drawn = clone(sampler).fit(_row_numbers(y), y).sampling_strategy_
    except ValueError:  # a sampler of other values than numbers, which the draw will tell
        return
    labels, counts = np.unique(y, return_counts=True)
    for label, n in zip(labels.tolist(), counts.tolist(), strict=True):
        if drawn.get(label, 0) and n <= k:
            raise _lacking_neighbours("sampler__k_neighbors", k, label, n)


def _too_few_neighbours(
    error: ValueError, sampler: Any, y: ArrayLike, parameter: str
) -> ParameterError | None:
    """Name the class that has fewer rows than neighbours are sought, if this is the error."""
    match = re.search(r"n_neighbors = (\d+), n_samples_fit = (\d+)", str(error))
    if match is None:
        return None
    n_asked, n_rows = map(int, match.groups())
    labels, counts = np.unique(np.asarray(y), return_counts=True)
    k = int(np.argmax(counts == n_rows) if n_rows in counts else counts.argmin())
    label, n_least = labels[k].item(), int(counts[k])
    # A row is the first neighbour of itself.
    asked = {
        name: value
        for name, value in sampler.get_params().items()
        if name.endswith("neighbors") and value in (n_asked, n_asked - 1)
    }
    says = f" scikit-learn says: {error}."
    if not asked:
        expected = f"a sampler for {plural(n_least, 'row')} of class {label!r}"
        return ParameterError(parameter, expected, sampler, f"{_FEWER_NEIGHBOURS}{says}")
    name, value = next(iter(asked.items()))
    return _lacking_neighbours(f"{parameter}__{name}", value, label, n_least, says)


_FEWER_NEIGHBOURS = (
    "Seek fewer neighbours, or use a sampler that repeats rows, such as RandomOverSampler."
)


def _lacking_neighbours(
    name: str, value: object, label: object, n_rows: int, says: str = ""
) -> ParameterError:
    expected = f"less than the number of rows of every class, {n_rows} for class {label!r}"
    return ParameterError(name, expected, value, f"{_FEWER_NEIGHBOURS}{says}")


def _as_images(flat: np.ndarray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    if dtype.kind == "b":
        flat = flat >= 0.5
    elif dtype.kind != "f":
        limits = np.iinfo(dtype)
        # float(2**63 - 1) is 2**63, one too many for int64.
        top = limits.max if dtype.itemsize < 8 else np.nextafter(float(limits.max), 0)
        flat = np.rint(flat).clip(limits.min, top)
    return flat.astype(dtype, copy=False).reshape(-1, *shape)


def _is_resampler(sampler: object) -> TypeGuard[Resampler]:
    return hasattr(sampler, "fit_resample") and not isinstance(sampler, type)


def _checked_resampler(sampler: Resampler | None) -> Resampler:
    if sampler is None:
        # imbalanced-learn imports every estimator of scikit-learn, and most fits do not need it.
        from imblearn.over_sampling import RandomOverSampler

        sampler = RandomOverSampler()
    if not _is_resampler(sampler):
        raise TypeError(
            "sampler must be an instance of an imbalanced-learn sampler, such as SMOTE(); got "
            f"{sampler!r}."
        )
    return sampler


def _selects_rows(sampler: object) -> TypeGuard[Resampler]:
    """Tell whether a sampler can be drawn anew by row number."""
    return _is_resampler(sampler) and not isinstance(sampler, NDSampler) and _only_selects(sampler)


def _only_selects(sampler: Resampler) -> bool:
    """Tell whether a sampler copies rows without looking at their values."""
    if isinstance(sampler, NDSampler):
        return _only_selects(_checked_resampler(sampler.sampler))
    tags = get_tags(sampler)
    # A sampler that accepts text cannot compute with it. If it also reports row numbers, it only
    # selects. A shrinkage makes RandomOverSampler add noise to the selected rows.
    return bool(
        getattr(getattr(tags, "sampler_tags", None), "sample_indices", False)
        and tags.input_tags.string
        and getattr(sampler, "shrinkage", None) is None
    )


def _new_generator(random_state: RandomState) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31 - 1)
    return np.random.default_rng(random_state)
