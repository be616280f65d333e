"""The classes, sizes and imbalance of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from skimbal.datasets.labels import sorted_names
from skimbal.exceptions import ParameterError
from skimbal.typing import ArrayLike

__all__ = ["DataCard"]


@dataclass(frozen=True)
class DataCard:
    """The classes of a data set by split, its sizes and its imbalance.

    Parameters
    ----------
    class_names : list of str
        Names of the classes.
    counts : dict
        Name of a split mapped to its number of images of each class, in samples.
    image_shape : tuple of int
        Shape of an image, in pixels or voxels.
    dtype : str
        Number type of the images.
    n_groups : dict, default=None
        Name of a split mapped to its number of groups, such as patients, where they are known.

    Examples
    --------
    >>> from skimbal.datasets import DataCard
    >>> card = DataCard.from_labels(
    ...     {"train": [0, 0, 0, 1], "test": [0, 1]}, image_shape=(28, 28), dtype="uint8"
    ... )
    >>> print(card)
    images of shape (28, 28), uint8
    class  train     test
    0      3 (75 %)  1 (50 %)
    1      1 (25 %)  1 (50 %)
    all    4         2
    largest to smallest class  3.0 : 1  1.0 : 1
    """

    class_names: list[str]
    counts: dict[str, list[int]]
    image_shape: tuple[int, ...]
    dtype: str
    n_groups: dict[str, int] | None = None

    @classmethod
    def from_labels(
        cls,
        labels: Mapping[str, ArrayLike],
        *,
        image_shape: tuple[int, ...],
        dtype: str,
        groups: Mapping[str, ArrayLike] | None = None,
        classes: ArrayLike | None = None,
        class_names: list[str] | None = None,
    ) -> "DataCard":
        """Count the labels of each split.

        Parameters
        ----------
        labels : mapping
            Name of a split mapped to its labels, array-like of shape (n_samples,).
        image_shape : tuple of int
            Shape of an image, in pixels or voxels.
        dtype : str
            Number type of the images.
        groups : mapping, default=None
            Name of a split mapped to the groups of its images.
        classes : array-like of shape (n_classes,), default=None
            The labels of all classes, in the order of the card. None is the labels that occur,
            sorted, with numbers in text in their order: ``"2"`` before ``"10"``.
        class_names : list of str, default=None
            The names of ``classes``, in their order. None takes the labels themselves.

        Returns
        -------
        card : DataCard
            With counts for every class in each split, 0 where it has none.
        """
        arrays = {split: np.asarray(y) for split, y in labels.items()}
        if classes is None:
            classes = np.unique(np.concatenate(list(arrays.values())))
            if classes.dtype.kind == "U":
                classes = np.array(sorted_names(classes.tolist()))
        known = np.asarray(classes).tolist()
        if class_names is not None and len(class_names) != len(known):
            raise ParameterError(
                "class_names", f"a name for each of {len(known)} classes", class_names
            )
        counts = {}
        for split, y in arrays.items():
            distinct, numbers = np.unique(y, return_counts=True)
            of_label = dict(zip(distinct.tolist(), numbers.tolist(), strict=True))
            counts[split] = [of_label.get(label, 0) for label in known]
        n_groups = None
        if groups is not None:
            n_groups = {split: len(np.unique(np.asarray(g))) for split, g in groups.items()}
        names = [str(label) for label in known] if class_names is None else class_names
        return cls(names, counts, image_shape, dtype, n_groups)

    def imbalance(self, split: str) -> float:
        """Return the ratio of the largest to the smallest class of a split.

        Parameters
        ----------
        split : str
            Its name.

        Returns
        -------
        ratio : float
            Dimensionless, at least 1, and infinite where a class has no image.
        """
        counts = self.counts[split]
        return max(counts) / min(counts) if min(counts) else float("inf")

    def table(self) -> list[list[str]]:
        """Lay out the card as rows of text, the first of which is the head.

        Returns
        -------
        rows : list of list of str
            A row for each class with its counts and shares, then the sums, the imbalance and the
            groups.
        """
        totals = {split: sum(counts) for split, counts in self.counts.items()}
        rows = [["class", *self.counts]]
        for k, name in enumerate(self.class_names):
            shares = [
                f"{counts[k]} ({counts[k] / max(1, totals[split]):.0%})".replace("%", " %")
                for split, counts in self.counts.items()
            ]
            rows.append([name, *shares])
        rows.append(["all", *(str(total) for total in totals.values())])
        ratios = [f"{self.imbalance(split):.1f} : 1" for split in self.counts]
        rows.append(["largest to smallest class", *ratios])
        if self.n_groups is not None:
            rows.append(["groups", *(str(self.n_groups.get(split, "")) for split in self.counts)])
        return rows

    def __str__(self) -> str:
        """Return the card as text."""
        table = tabulate(self.table(), tablefmt="plain", disable_numparse=True)
        return f"images of shape {self.image_shape}, {self.dtype}\n{table}"
