"""Which rows an epoch is made of, how they are cut into batches, and resampling of image arrays."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from imblearn.over_sampling import RandomOverSampler
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, clone
from sklearn.utils import Tags, check_consistent_length, get_tags

from skimbal.typing import OnDemandImages

__all__ = ["BatchSampler", "NDSampler"]


class BatchSampler:
    """Cut the rows of an epoch into batches that suit imbalanced classes.

    Iterating gives one epoch; every new iteration draws anew.  Works as ``batch_sampler=`` of a
    :class:`torch.utils.data.DataLoader` too.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels.
    batch_size : int
        Largest number of rows in a batch, in samples. Batches of an epoch differ by at most one
        row. No row is left alone: where the last one would be, a batch has one row more.
    sampler : None, str, RandomOverSampler or RandomUnderSampler, default=None
        - ``None``: shuffled, each row once.
        - ``"balanced"``: equal portions of each class in every batch (counts differ by at most
          one); rows of the largest class once, others repeated equally often (by at most one).
          This is the oversampling of Scholz et al. (2024).
        - ``"stratified"``: each row once, every batch mirrors the class proportions (the counts
          of a class in two batches differ by at most one).
        - ``"weighted"``: ``n_samples`` independent draws by inverse class frequency.
        - an imbalanced-learn sampler that only selects rows: drawn anew every epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws. A ``random_state`` of the imbalanced-learn sampler goes first.

    Raises
    ------
    ValueError
        If ``y`` is empty, ``batch_size`` is not a positive integer, or ``sampler`` is unknown or
        looks at the values of the images.

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
        self, y: Any, batch_size: int, sampler: Any = None, random_state: Any = None
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer):
            raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self.y = np.asarray(y)
        if self.y.ndim != 1 or len(self.y) == 0:
            raise ValueError(
                f"y must hold one label for each of at least one row, got shape {self.y.shape}."
            )
        self.batch_size = int(batch_size)
        self.sampler = sampler
        codes, counts = np.unique(self.y, return_inverse=True, return_counts=True)[1:]
        #: Row numbers of each class.
        self._classes = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
        self._rng = _generator(random_state)
        self._draw, n_rows = self._strategy(sampler)
        n_batches = -(-n_rows // self.batch_size)
        if self.batch_size > 1:
            n_batches = max(1, min(n_batches, n_rows // 2))
        self._n_batches = n_batches

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self._n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the row numbers of each batch of a newly drawn epoch."""
        yield from self._draw()

    def _strategy(self, sampler: Any) -> tuple[Callable[[], list[np.ndarray]], int]:
        n_rows = len(self.y)
        if sampler is None:
            return self._shuffled, n_rows
        if isinstance(sampler, str):
            if sampler == "balanced":
                return self._balanced, len(self._classes) * max(map(len, self._classes))
            if sampler == "stratified":
                return self._stratified, n_rows
            if sampler == "weighted":
                return self._weighted, n_rows
        elif hasattr(sampler, "fit_resample") and not isinstance(sampler, type | NDSampler):
            if not _only_selects(sampler):
                raise ValueError(
                    f"{sampler!r} computes with the values of X, so it cannot be drawn anew by row "
                    "number in every epoch, as sampler= does. Resample before the classifier "
                    f"instead: imblearn.pipeline.make_pipeline(NDSampler({sampler!r}), ...)."
                )
            if getattr(sampler, "random_state", None) is not None:
                self._rng = _generator(sampler.random_state)
            # The first draw checks the strategy before any training.
            return self._resampled, len(self._resample())
        raise ValueError(
            "sampler must be None, 'balanced', 'stratified', 'weighted', or an instance of "
            f"imbalanced-learn's RandomOverSampler or RandomUnderSampler; got {sampler!r}."
        )

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        # A batch is a set. In index order it is read from disk in one sweep, and a batch of all
        # rows sums up in the same order in every epoch.
        size, n_larger = divmod(len(rows), self._n_batches)
        cut = n_larger * (size + 1)
        larger, others = rows[:cut].reshape(-1, size + 1), rows[cut:].reshape(-1, size)
        return [*np.sort(larger, axis=1), *np.sort(others, axis=1)]

    def _shuffled(self) -> list[np.ndarray]:
        return self._cut(self._rng.permutation(len(self.y)))

    def _balanced(self) -> list[np.ndarray]:
        n_largest = max(map(len, self._classes))
        columns = [
            np.concatenate([self._rng.permutation(rows) for _ in range(-(-n_largest // len(rows)))])
            for rows in self._classes
        ]
        # Classes take turns, so any run of rows holds equal portions of them.
        turns = [columns[k][:n_largest] for k in self._rng.permutation(len(columns))]
        return self._cut(np.stack(turns, axis=1).ravel())

    def _stratified(self) -> list[np.ndarray]:
        order = self._rng.permutation(len(self._classes))
        rows = np.concatenate([self._rng.permutation(self._classes[k]) for k in order])
        # Dealt like cards: every batch gets its share of each class.
        hands = self._rng.permutation(self._n_batches)
        return [np.sort(rows[hand :: self._n_batches]) for hand in hands]

    def _weighted(self) -> list[np.ndarray]:
        drawn = self._rng.integers(len(self._classes), size=len(self.y))
        counts = np.bincount(drawn, minlength=len(self._classes))
        rows = np.concatenate(
            [self._rng.choice(rows, size=n) for rows, n in zip(self._classes, counts, strict=True)]
        )
        return self._cut(self._rng.permutation(rows))

    def _resample(self) -> np.ndarray:
        seed = int(self._rng.integers(2**31 - 1))
        sampler = clone(self.sampler).set_params(random_state=seed)
        rows: np.ndarray = sampler.fit_resample(np.arange(len(self.y))[:, None], self.y)[0][:, 0]
        return rows

    def _resampled(self) -> list[np.ndarray]:
        return self._cut(self._rng.permutation(self._resample()))


class NDSampler(OneToOneFeatureMixin, BaseEstimator):  # type: ignore[misc]
    """Let any imbalanced-learn sampler work on image arrays.

    Images are flattened, resampled and put back into shape.  Samplers that only select rows run
    on row numbers, so each selected image is copied once; for all others, integer images are
    interpolated in floating point, then rounded (on unsigned integers SMOTE would wrap around).

    Parameters
    ----------
    sampler : sampler object, default=None
        An imbalanced-learn sampler; ``None`` stands for ``RandomOverSampler()``. Its parameters
        are reached as ``sampler__...``.

    Attributes
    ----------
    sampler_ : sampler object
        The fitted copy of ``sampler``.
    sampling_strategy_ : dict
        Number of rows to draw or keep for each class, in samples, as ``sampler_`` holds it.
    sample_indices_ : ndarray of shape (n_samples_new,)
        Row numbers of the selected images; only where ``sampler_`` has it.
    n_features_in_ : int
        Number of pixels times channels of an image.
    feature_names_in_ : ndarray of shape (n_features,)
        Column names; only where X was a DataFrame.

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

    def __init__(self, sampler: Any = None) -> None:
        self.sampler = sampler

    def __sklearn_tags__(self) -> Tags:
        """Return the tags of the wrapped sampler, which decides what is accepted."""
        tags = get_tags(self._sampler())
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: Any, y: Any) -> "NDSampler":
        """Learn the sampling strategy; use :meth:`fit_resample` to resample.

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

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Resample images or rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images with any number of axes; rows, sparse matrices and DataFrames as the wrapped
            sampler takes them.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        X_resampled : array-like of shape (n_samples_new, ...)
            In the dtype of ``X``. Of an :class:`~skimbal.images.ImageArray` it is another one, and
            nothing is read, if the sampler only selects.
        y_resampled : array-like of shape (n_samples_new,)
            The labels of ``X_resampled``.

        Raises
        ------
        TypeError
            If ``sampler`` has no ``fit_resample``, or images are not numbers.
        ValueError
            If the images are empty or their number differs from that of the labels, or the
            wrapped sampler refuses the input.
        """
        sampler, rows, restore, n_features = self._prepare(X, y)
        rows, y = sampler.fit_resample(rows, y)
        self._keep(sampler, n_features)
        return restore(rows), y

    def _sampler(self) -> Any:
        sampler = RandomOverSampler() if self.sampler is None else self.sampler
        if isinstance(sampler, type) or not hasattr(sampler, "fit_resample"):
            raise TypeError(
                "sampler must be an instance of an imbalanced-learn sampler, such as SMOTE(); got "
                f"{sampler!r}."
            )
        return sampler

    def _prepare(self, X: Any, y: Any) -> tuple[Any, Any, Callable[[Any], Any], int | None]:
        """Return a sampler, rows to give to it, what makes images of its answer, and their size."""
        sampler = clone(self._sampler())
        if np.ndim(X) > 2 and _only_selects(sampler) and isinstance(X, OnDemandImages):
            check_consistent_length(X, y)
            numbers = np.arange(len(X))[:, None]
            return sampler, numbers, lambda rows: X[rows[:, 0]], math.prod(X.shape[1:])
        if np.ndim(X) > 2 or (hasattr(X, "__array__") and not hasattr(X, "columns")):
            X = np.asarray(X)
        is_numeric = isinstance(X, np.ndarray) and X.dtype.kind in "iubf"
        if np.ndim(X) < 2 or (np.ndim(X) == 2 and not (is_numeric and X.size)):
            return sampler, X, lambda rows: rows, None
        if not is_numeric:
            raise TypeError(
                f"images must be of a real number dtype to be resampled, got {X.dtype}."
            )
        if X.size == 0:
            raise ValueError(
                f"images must have at least one pixel, got an array of shape {X.shape}."
            )
        check_consistent_length(X, y)
        n_features = X[0].size
        if _only_selects(sampler):
            return sampler, np.arange(len(X))[:, None], lambda rows: X[rows[:, 0]], n_features
        flat = X.reshape(len(X), -1)
        if X.dtype.kind != "f" or X.dtype.itemsize < 4:
            # Wide enough to hold every value exactly (but for integers above 2**53).
            flat = flat.astype(np.float32 if X.dtype.itemsize <= 2 else np.float64)
        return sampler, flat, partial(_as_images, dtype=X.dtype, shape=X.shape[1:]), n_features

    def _keep(self, sampler: Any, n_features: int | None) -> None:
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
        if n_features is not None:  # the sampler may have seen row numbers only
            self.n_features_in_ = n_features


def _as_images(flat: np.ndarray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    if dtype.kind == "b":
        flat = flat >= 0.5
    elif dtype.kind != "f":
        limits = np.iinfo(dtype)
        # float(2**63 - 1) is 2**63, one too many for int64.
        top = limits.max if dtype.itemsize < 8 else np.nextafter(float(limits.max), 0)
        flat = np.rint(flat).clip(limits.min, top)
    return flat.astype(dtype, copy=False).reshape(-1, *shape)


def _only_selects(sampler: Any) -> bool:
    """Tell whether a sampler copies rows without looking at their values."""
    if isinstance(sampler, NDSampler):
        return _only_selects(sampler._sampler())
    tags = get_tags(sampler)
    # Text cannot be computed with, so who accepts it and reports row numbers only selects. A
    # shrinkage makes RandomOverSampler add noise to what it selects.
    return bool(
        getattr(getattr(tags, "sampler_tags", None), "sample_indices", False)
        and tags.input_tags.string
        and getattr(sampler, "shrinkage", None) is None
    )


def _generator(random_state: Any) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31 - 1)
    return np.random.default_rng(random_state)
