"""Image sets with a rare class: one embedded, MedMNIST's, and files of one's own.

Every loader returns a :class:`sklearn.utils.Bunch` with

- ``X_train``, ``X_val``, ``X_test``: images, channels first, in the number type of the source;
  (n, h, w) or (n, c, h, w) in 2D, (n, d, h, w) in 3D;
- ``y_train``, ``y_val``, ``y_test``: class numbers, int64, shape (n,);
- ``target_names``: list of str, the name of class k at index k;
- ``ndim``: number of spatial axes, 2 or 3;
- ``filename``: str, the file or folder that was read, or None for embedded data;
- ``name``, ``DESCR``, ``license``, ``citation``: str.

What has no splits gives ``X`` and ``y`` in the place of the six arrays.
"""

import csv
import hashlib
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.utils import Bunch, check_random_state
from tabulate import tabulate

from skimbal.images import ImageFiles, find_images

__all__ = [
    "DataCard",
    "load_image_folder",
    "load_imbalanced_digits",
    "load_medmnist",
    "load_npz",
]

_SPLITS = ("train", "val", "test")

# Names of the images and the labels in a file: of each split, or of all rows.
_SPLIT_FORM = {split: (f"{split}_images", f"{split}_labels") for split in _SPLITS}
_FORMS = (_SPLIT_FORM, {"": ("images", "labels")}, {"": ("X", "y")})

# Images, channels first, and class numbers of each split, "" for a file without splits.
_Splits = dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]

# The facts of MedMNIST 3.0.2: class names by class number, then the md5 sums of the files of
# 28, 64, 128 and 224 pixels (28 and 64 voxels in 3D). chestmnist, the multi-label set, is left out.
_ZENODO = "https://zenodo.org/records/10519652/files"
_SIZES = (28, 64, 128, 224)
_ORGANS = (
    "bladder; femur-left; femur-right; heart; kidney-left; kidney-right; liver; lung-left; "
    "lung-right; pancreas; spleen"
)
_MEDMNIST = {
    "adrenalmnist3d": (
        "normal; hyperplasia",
        "bbd3c5a5576322bc4cdfea780653b1ce 17721accfe9fb005146a47d33bc54b2f",
    ),
    "bloodmnist": (
        "basophil; eosinophil; erythroblast; immature granulocytes(myelocytes, metamyelocytes and "
        "promyelocytes); lymphocyte; monocyte; neutrophil; platelet",
        "7053d0359d879ad8a5505303e11de1dc 2b94928a2ae4916078ca51e05b6b800b "
        "adace1e0ed228fccda1f39692059dd4c b718ff6835fcbdb22ba9eacccd7b2601",
    ),
    "breastmnist": (
        "malignant; normal, benign",
        "750601b1f35ba3300ea97c75c52ff8f6 742edef2a1fd1524b2efff4bd7ba9364 "
        "363e4b3f8d712e9b5de15470a2aaadf1 b56378a6eefa9fed602bb16d192d4c8b",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma; basal cell carcinoma; benign "
        "keratosis-like lesions; dermatofibroma; melanoma; melanocytic nevi; vascular lesions",
        "0744692d530f8e62ec473284d019b0c7 b70a2f5635c6199aeaa28c31d7202e1f "
        "2defd784463fa5243564e855ed717de1 8974907d8e169bef5f5b96bc506ae45d",
    ),
    "fracturemnist3d": (
        "buckle rib fracture; nondisplaced rib fracture; displaced rib fracture",
        "6aa7b0143a6b42da40027a9dda61302f f01d7e6316aedf4210da0da5b7437b42",
    ),
    "nodulemnist3d": (
        "benign; malignant",
        "8755a7e9e05a4d9ce80a24c3e7a256f3 c47c5b7d457bf6332200d2ea6d64ecd8",
    ),
    "octmnist": (
        "choroidal neovascularization; diabetic macular edema; drusen; normal",
        "c68d92d5b585d8d81f7112f81e2d0842 e229e9440236b774d9f0dfef9d07bdaf "
        "0a97e76651ace45c5d943ee3f65b63ae abc493b6d529d5de7569faaef2773ba3",
    ),
    "organamnist": (
        _ORGANS,
        "68e3f8846a6bd62f0c9bf841c0d9eacc 2dcccc29b88e6da5a01161ef20cda288 "
        "eeae80d0a227a8d099027e1b3cfd3b60 50747347e05c87dd3aaf92c49f9f3170",
    ),
    "organcmnist": (
        _ORGANS,
        "b9ceb9546e10131b32923c5bbeaea2b1 3ce34a8724ea6f548e6db4744d03b6a9 "
        "773c1f009daa3fe5d9a2a201b2a7ed94 050f5e875dc056f6768abf94ec9995d1",
    ),
    "organmnist3d": (
        "liver; kidney-right; kidney-left; femur-right; femur-left; bladder; heart; lung-right; "
        "lung-left; spleen; pancreas",
        "a0c5a1ff56af4f155c46d46fbb45a2fe 58a2205adf14a9d0a189cb06dc78bf10",
    ),
    "organsmnist": (
        _ORGANS,
        "9ab87b696fb54e2a387ebe992d6ed5f1 53a6d115339d874c25e309a994ff46d3 "
        "ded0c5fa01a95dc4978b956f613e9b8e b354719e553fbbb2513d5533f52a4cb1",
    ),
    "pathmnist": (
        "adipose; background; debris; lymphocytes; mucus; smooth muscle; normal colon mucosa; "
        "cancer-associated stroma; colorectal adenocarcinoma epithelium",
        "a8b06965200029087d5bd730944a56c1 55aa9c1e0525abe5a6b9d8343a507616 "
        "ac42d08fb904d92c244187169d1fd1d9 2c51a510bcdc9cf8ddb2af93af1eadec",
    ),
    "pneumoniamnist": (
        "normal; pneumonia",
        "28209eda62fecd6e6a2d98b1501bb15f 8f4eceb4ccffa70c672198ea285246c6 "
        "05b46931834c231683c68f40c47b2971 d6a3c71de1b945ea11211b03746c1fe1",
    ),
    "retinamnist": (
        "0; 1; 2; 3; 4",
        "bd4c0672f1bba3e3a89f0e4e876791e4 afda852cc34dcda56f86ad2b2457dbcc "
        "e48e916a24454daf90583d4e6efb1a18 eae7e3b6f3fcbda4ae613ebdcbe35348",
    ),
    "synapsemnist3d": (
        "inhibitory synapse; excitatory synapse",
        "1235b78a3cd6280881dd7850a78eadb6 43bd14ebf3af9d3dd072446fedc14d5e",
    ),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule; Distal Convoluted Tubule; Glomerular endothelial "
        "cells; Interstitial endothelial cells; Leukocytes; Podocytes; Proximal Tubule Segments; "
        "Thick Ascending Limb",
        "ebe78ee8b05294063de985d821c1c34b 123ece2eba09d0aa5d698fda57103344 "
        "61b955355d7425a89687b06cca3ce0c2 b077128c4a949f0a4eb01517f9037b9c",
    ),
    "vesselmnist3d": (
        "vessel; aneurysm",
        "b41fd4f7e7e2feedddb201585ecafa1b 6bb274a8846e1097066dcd64e2c4520f",
    ),
}
_CITATION = (
    "Yang J. et al., MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical "
    "image classification, Scientific Data 10:41 (2023), doi:10.1038/s41597-022-01721-8; and the "
    "source of the data set, which https://medmnist.com names"
)


@dataclass(frozen=True)
class DataCard:
    """What a data set holds: classes by split, sizes, imbalance.

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
        labels: Mapping[str, Any],
        *,
        image_shape: tuple[int, ...],
        dtype: str,
        groups: Mapping[str, Any] | None = None,
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
        class_names : list of str, default=None
            The name of class number k at place k; if None, the labels themselves.

        Returns
        -------
        card : DataCard
            With counts for every class in each split, 0 where it has none.
        """
        arrays = {split: np.asarray(y) for split, y in labels.items()}
        known = np.unique(np.concatenate(list(arrays.values())))
        if class_names is not None:
            known = np.arange(len(class_names))
        counts = {
            split: [int(np.sum(y == label)) for label in known] for split, y in arrays.items()
        }
        n_groups = None
        if groups is not None:
            n_groups = {split: len(np.unique(np.asarray(g))) for split, g in groups.items()}
        names = [str(label) for label in known.tolist()] if class_names is None else class_names
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
            Dimensionless, at least 1; infinite where a class has no image.
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


def load_imbalanced_digits(
    *, imbalance: float = 10.0, random_state: int | np.random.RandomState | None = 0
) -> Bunch:
    """Load handwritten digits with two rare classes; needs no file and no network.

    The 8 x 8 images of :func:`sklearn.datasets.load_digits` become three classes, and the last
    two are thinned:

    ===== ========= ============== ==== ===== === ====
    class name      digits         all  train val test
    ===== ========= ============== ==== ===== === ====
    0     ``other`` 0 to 7         720  432   108 180
    1     ``eight`` 8              72   43    11  18
    2     ``nine``  9              72   43    11  18
    ===== ========= ============== ==== ===== === ====

    The counts are those of ``imbalance=10``. Each class is split 60 / 15 / 25 % at random, so the
    same writers are in all three parts, and a rare class of the test part moves by 6 % with one
    image: this is a set to try things on, not one to draw conclusions from.

    Parameters
    ----------
    imbalance : float, default=10.0
        Images of class 0 for each image of class 1, and of class 2; from 5 to 36.
    random_state : int, RandomState instance or None, default=0
        Draws the images and the split.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are those that :mod:`skimbal.datasets` lists; ``X_*`` is uint8, 0 to 16, of shape
        (n, 8, 8).

    Raises
    ------
    ValueError
        If `imbalance` is outside 5 to 36.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> digits = load_imbalanced_digits()
    >>> digits.X_train.shape, digits.X_train.dtype
    ((518, 8, 8), dtype('uint8'))
    >>> digits.target_names, np.bincount(digits.y_train)
    (['other', 'eight', 'nine'], array([432,  43,  43]))
    """
    if not 5 <= imbalance <= 36:
        raise ValueError(f"imbalance must be from 5 to 36, got {imbalance!r}")
    rng = check_random_state(random_state)
    digits = load_digits()
    labels = np.maximum(digits.target - 7, 0)
    parts: dict[str, list[npt.NDArray[np.int64]]] = {split: [] for split in _SPLITS}
    for label, count in enumerate((720, round(720 / imbalance), round(720 / imbalance))):
        rows = rng.permutation(np.flatnonzero(labels == label))[:count]
        cuts = [round(0.6 * count), round(0.75 * count)]
        for split, part in zip(_SPLITS, np.split(rows, cuts), strict=True):
            parts[split].append(part)
    images = digits.images.astype(np.uint8)
    splits: _Splits = {}
    for split in _SPLITS:
        rows = rng.permutation(np.concatenate(parts[split]))
        splits[split] = images[rows], labels[rows]
    return _bunch(
        splits,
        name="digits",
        filename=None,
        target_names=["other", "eight", "nine"],
        source=f"scikit-learn's load_digits, digits 8 and 9 thinned to 1 in {imbalance:g}",
        license="CC BY 4.0",
        citation="Alpaydin E., Kaynak C., Optical Recognition of Handwritten Digits, UCI Machine "
        "Learning Repository (1998), doi:10.24432/C50P49",
    )


def load_npz(path: str | os.PathLike[str], *, groups: str | None = None) -> Bunch:
    """Load a file of one's own: with MedMNIST's splits, or without any.

    Parameters
    ----------
    path : str or path-like
        An npz file with the arrays ``train_images``, ``train_labels``, ``val_images``,
        ``val_labels``, ``test_images`` and ``test_labels``, or without splits: ``images`` and
        ``labels``, or ``X`` and ``y``. Images are (n, h, w), (n, h, w, 1), (n, h, w, 3) or
        (n, d, h, w). Four axes are a volume unless the last one, or the second, has length 1 or 3
        and so counts channels.
        Labels are class numbers from 0, or class names as text, of shape (n,) or (n, 1). Nothing
        in it is unpickled.
    groups : str, default=None
        Name of a further array that says to which group, such as a patient, each image belongs:
        numbers or text, of shape (n,) or (n, 1). For a file with splits it is the part after
        ``train_``, ``val_`` and ``test_``; the test rows may lack theirs.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are those that :mod:`skimbal.datasets` lists. Colour images come out channels
        first, (n, 3, h, w); the classes are named by their numbers, or by the text of the labels,
        sorted. With `groups`, also ``groups_train``, ``groups_val`` and ``groups_test`` (None if
        the file has none), or ``groups``, of shape (n,).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no npz file, is damaged, lacks arrays, or holds arrays of another form;
        if a split is empty; if a row has more than one label.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from skimbal.datasets import load_npz
    >>> arrays = {}
    >>> for split in ("train", "val", "test"):
    ...     arrays[f"{split}_images"] = np.zeros((4, 28, 28), dtype=np.uint8)
    ...     arrays[f"{split}_labels"] = np.array([[0], [1], [0], [1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(os.path.join(folder, "mine.npz"), **arrays)
    ...     data = load_npz(os.path.join(folder, "mine.npz"))
    >>> data.X_train.shape, data.y_train
    ((4, 28, 28), array([0, 1, 0, 1]))

    Without splits, and with patients:

    >>> X = np.zeros((4, 28, 28), dtype=np.uint8)
    >>> y = np.array(["benign", "malignant", "benign", "malignant"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(os.path.join(folder, "mine.npz"), X=X, y=y, patient=[7, 7, 8, 9])
    ...     data = load_npz(os.path.join(folder, "mine.npz"), groups="patient")
    >>> data.X.shape, data.y, data.target_names, data.groups
    ((4, 28, 28), array([0, 1, 0, 1]), ['benign', 'malignant'], array([7, 7, 8, 9]))
    """
    path = Path(path)
    splits, target_names, of_groups = _read(path, groups)
    return _bunch(
        splits,
        name=path.stem,
        filename=str(path),
        target_names=target_names,
        source=str(path),
        license="not stated in the file",
        citation="not stated in the file",
        groups=of_groups,
    )


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    path_column: str = "path",
    label_column: str = "label",
    group_column: str | None = None,
    split_column: str | None = None,
    on_error: str = "raise",
    **options: Any,
) -> Bunch:
    """Load image files with their labels, from a folder for each class or from a table.

    Headers are read here, images when a batch asks for them: ``X`` is an
    :class:`~skimbal.images.ImageFiles`.

    Parameters
    ----------
    root : str or path-like
        The folder. Without ``labels`` it holds a folder for each class, named by it; or folders
        ``train`` and ``test``, with or without ``val``, that do.
    labels : str or path-like, default=None
        A table with a row for each image: a csv file in UTF-8 whose first row names the columns.
    path_column, label_column : str, default="path", "label"
        Its columns of paths, relative to ``root`` or absolute, and of labels.
    group_column : str, default=None
        Its column of groups, such as patients, whose images must not be in training and test both.
    split_column : str, default=None
        Its column of the parts of a split, such as ``train``, ``val`` and ``test``.
    on_error : {"raise", "skip"}, default="raise"
        Whether a file that cannot be used, an image without a label or a label without an image
        is an error, or is left out with a warning. ``"skip"`` reads every file once.
    **options : dict
        Of :class:`~skimbal.images.ImageFiles`: ``size``, ``resize``, ``spacing``, ``channels``,
        ``dtype``, ``transform``, ``reader``, ``cache``, ``cache_bytes``.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are those that :mod:`skimbal.datasets` lists: without splits ``X``, an ImageFiles
        of shape (n, ...), and ``y``, with splits ``X_train`` and ``y_train`` and so on for each
        part that has images. With ``group_column`` also ``groups``, or ``groups_train`` and so
        on: ndarray of str of shape (n,). ``card`` is a :class:`DataCard`, the table of classes.

    Raises
    ------
    FileNotFoundError
        If the folder, the table or an image is not there.
    ValueError
        If a file cannot be read, an image has no label or a label is empty, an image is listed
        twice, the table lacks a column, or there are fewer than two classes.
    ImportError
        If the library that reads a format is missing: ``pip install "skimbal[io]"``.

    Warns
    -----
    UserWarning
        If something is skipped; with its number.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skimbal.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("healthy/1", "healthy/2", "healthy/3", "rare/4"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         np.save(Path(folder, name), np.zeros((8, 8), dtype=np.uint8))
    ...     data = load_image_folder(folder)
    >>> data.X, data.y
    (ImageFiles(shape=(4, 8, 8), dtype=uint8), array([0, 0, 0, 1]))
    >>> print(data.card)
    images of shape (8, 8), uint8
    class    all
    healthy  3 (75 %)
    rare     1 (25 %)
    all      4
    largest to smallest class  3.0 : 1
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"expected a folder at {root}, but there is none.")
    any_file = options.get("reader") is not None
    if labels is None:
        if group_column is not None or split_column is not None:
            raise ValueError(
                "group_column and split_column name columns of a table; pass it as labels=."
            )
        rows, unusable = _rows_of_folders(root, any_file)
    else:
        columns = (path_column, label_column, group_column, split_column)
        rows, unusable = _rows_of_table(root, Path(labels), columns, any_file)
    if unusable:
        first = next(iter(unusable.items()))
        if on_error == "raise":
            raise ValueError(
                f"{first[0]}: {first[1]}. In all {len(unusable)} such in {root}; mend them, or "
                "pass on_error='skip' to leave them out."
            )
        warnings.warn(
            f"skipped {len(unusable)} files or rows, the first of them is {first[0]}: {first[1]}.",
            UserWarning,
            stacklevel=2,
        )
    if not rows:
        raise ValueError(f"there are no images in {root}, or none with a label.")
    X = ImageFiles([row.path for row in rows], on_error=on_error, **options)
    rows = [rows[i] for i in X.kept]
    names = {row.label for row in rows}
    target_names = sorted(names, key=_order_of(names))
    if len(target_names) < 2:
        raise ValueError(f"{root} has one class, {target_names[0]!r}; at least two are needed.")
    y = np.array([target_names.index(row.label) for row in rows], dtype=np.int64)
    # The key of a part ends with its name; what has no parts is one without a name.
    of_split = np.array([row.split or "" for row in rows])
    parts = {name: np.flatnonzero(of_split == name) for name in dict.fromkeys(of_split.tolist())}
    data = Bunch(target_names=target_names, ndim=X.n_spatial, filename=str(root))
    groups = None if group_column is None else np.array([row.group for row in rows])
    for name, part in parts.items():
        end = f"_{name}" if name else ""
        data[f"X{end}"], data[f"y{end}"] = X[part], y[part]
        if groups is not None:
            data[f"groups{end}"] = groups[part]
    data.card = DataCard.from_labels(
        {name or "all": y[part] for name, part in parts.items()},
        image_shape=X.shape[1:],
        dtype=str(X.dtype),
        groups=groups
        if groups is None
        else {name or "all": groups[part] for name, part in parts.items()},
        class_names=target_names,
    )
    data.name = root.resolve().name
    data.license = data.citation = "not stated in the folder"
    data.DESCR = f"{data.name}: {data.card}\nSource: {root}\n"
    return data


class _Row(NamedTuple):
    """An image file and what is known about it."""

    path: str
    label: str
    group: str | None
    split: str | None


def _rows_of_folders(root: Path, any_file: bool) -> tuple[list[_Row], dict[str, str]]:
    """Return a row for each image in the folders of classes, and what belongs to none."""
    top = _folders(root)
    # Splits that come as folders are no classes.
    has_splits = {"train", "test"} <= set(top) <= set(_SPLITS)
    depth = 2 if has_splits else 1
    # DICOM files that lie in the folder of a class are an image each, folders of them a series.
    images, others = find_images(root, series_level=depth + 1, any_file=any_file)
    rows: list[_Row] = []
    unusable: dict[str, str] = {}
    for name in images:
        parts = Path(name).parts
        if len(parts) <= depth:
            unusable[str(root / name)] = "an image without a label, as it lies in no class's folder"
        else:
            split = parts[0] if has_splits else None
            rows.append(_Row(str(root / name), parts[depth - 1], None, split))
    for name in others:
        if len(Path(name).parts) > depth:  # notes may lie beside the folders of the classes
            unusable[str(root / name)] = "a file that is no image, by its extension"
    for where in [root / split for split in top] if has_splits else [root]:
        for label in _folders(where):
            parent = os.path.relpath(where / label, root) + os.sep
            if not any(name.startswith(parent) for name in (*images, *others)):
                unusable[str(where / label)] = "the folder of a class without an image"
    return rows, unusable


def _folders(where: Path) -> list[str]:
    return sorted(p.name for p in where.iterdir() if p.is_dir() and not p.name.startswith("."))


def _rows_of_table(
    root: Path, table: Path, columns: tuple[str | None, ...], any_file: bool
) -> tuple[list[_Row], dict[str, str]]:
    """Return a row for each image of a table, and what lacks an image or a label."""
    if not table.is_file():
        raise FileNotFoundError(f"expected a csv file at {table}, but there is none.")
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            entries = [(reader.line_num, entry) for entry in reader]
            known = reader.fieldnames or []
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {table} as a csv file in UTF-8: {error}.") from error
    missing = [name for name in columns if name is not None and name not in known]
    if missing:
        raise ValueError(
            f"{table} has no column {missing[0]!r}; its columns are {', '.join(map(repr, known))}. "
            "Name the right ones with path_column, label_column, group_column and split_column."
        )
    rows: list[_Row] = []
    unusable: dict[str, str] = {}
    for line, entry in entries:
        name, label, group, split = (
            None if column is None else (entry[column] or "").strip() for column in columns
        )
        empty = [
            c for c, value in zip(columns, (name, label, group, split), strict=True) if value == ""
        ]
        path = os.path.normpath(root / str(name))
        if empty:
            unusable[f"{table}, line {line}"] = f"the column {empty[0]!r} is empty"
        elif not any_file and not os.path.lexists(path):
            unusable[f"{table}, line {line}"] = f"a label without an image, as {path} is not there"
        else:
            rows.append(_Row(path, str(label), group, split))
    twice = [path for path, count in Counter(row.path for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{table} lists {twice[0]} more than once; an image has one row.")
    if not any_file:
        listed = {row.path for row in rows}
        for name in find_images(root, series_level=None)[0]:
            path = os.path.normpath(root / name)
            if not listed & {path, *map(str, Path(path).parents)}:
                unusable[path] = f"an image without a label, as {table} does not list it"
    return rows, unusable


def _order_of(names: set[str]) -> Any:
    """Return a key that sorts labels that are all whole numbers as numbers, others as text."""
    return int if all(name.isdecimal() for name in names) else str


def load_medmnist(
    name: str,
    size: int = 28,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Bunch:
    """Load a MedMNIST data set, downloading it if it is nowhere on this machine.

    The file, ``{name}.npz`` or ``{name}_{size}.npz`` for sizes other than 28, is looked for in
    the folders that the environment variable ``SKIMBAL_DATA`` lists (separated as in ``PATH``)
    and in their direct sub-folders, then in `data_home`. Wherever it was, it must have the md5
    sum that MedMNIST publishes.

    Parameters
    ----------
    name : str
        Such as ``"pneumoniamnist"`` or ``"vesselmnist3d"``; every set but ``"chestmnist"``, whose
        images have several labels each. The grades of ``"retinamnist"`` are taken as classes.
    size : int, default=28
        Edge of the images: 28, 64, 128 or 224 pixels; 28 or 64 voxels in 3D.
    data_home : str or path-like, default=None
        Folder for downloads. None is the user's cache folder, which pooch finds.
    download : bool, default=True
        Whether to download a file that was not found.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are those that :mod:`skimbal.datasets` lists.

    Raises
    ------
    ValueError
        If MedMNIST has no such set or size; if the file that was found is not MedMNIST's.
    FileNotFoundError
        If the file was not found and `download` is False.
    OSError
        If the download fails.
    ImportError
        If pooch is needed and missing: ``pip install "skimbal[data]"``.

    Examples
    --------
    >>> from skimbal.datasets import load_medmnist
    >>> data = load_medmnist("vesselmnist3d")  # doctest: +SKIP
    >>> data.X_train.shape, data.target_names  # doctest: +SKIP
    ((1335, 28, 28, 28), ['vessel', 'aneurysm'])
    """
    if name == "chestmnist":
        raise ValueError("chestmnist has 14 labels for each image: multi-label is not supported")
    if name not in _MEDMNIST:
        raise ValueError(
            f"unknown MedMNIST data set {name!r}: expected one of {', '.join(_MEDMNIST)}"
        )
    target_names, md5s = _MEDMNIST[name]
    md5 = dict(zip(_SIZES, md5s.split(), strict=False))
    if size not in md5:
        raise ValueError(f"{name} has the sizes {', '.join(map(str, md5))}, got {size!r}")
    file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
    path = _find_or_download(file, md5[size], data_home, download)
    return _bunch(
        _read(path)[0],
        name=file.removesuffix(".npz"),
        filename=str(path),
        target_names=target_names.split("; "),
        source=f"MedMNIST, {_ZENODO}/{file}",
        license="CC BY-NC 4.0" if name == "dermamnist" else "CC BY 4.0",
        citation=_CITATION,
    )


def _find_or_download(
    file: str, md5: str, data_home: str | os.PathLike[str] | None, download: bool
) -> Path:
    """Return the path of a file that has the md5 sum `md5`."""
    folders = [
        Path(folder) for folder in os.environ.get("SKIMBAL_DATA", "").split(os.pathsep) if folder
    ]
    candidates = [
        path for folder in folders for path in (folder / file, *sorted(folder.glob(f"*/{file}")))
    ]
    found = next(filter(Path.is_file, candidates), None)
    if found is None:
        cache = Path(_pooch().os_cache("skimbal") if data_home is None else data_home)
        found = cache / file
        if not found.is_file():
            if not download:
                raise FileNotFoundError(
                    f"{file} is neither in {cache} nor in a folder that SKIMBAL_DATA names: pass "
                    f"download=True, or get {_ZENODO}/{file} and put it there"
                )
            _download(file, md5, cache)
    with found.open("rb") as stream:
        got = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        raise ValueError(
            f"{found} is not MedMNIST's file: expected md5 {md5}, got {got}; replace it, or read "
            "it as it is with skimbal.datasets.load_npz"
        )
    return found


def _download(file: str, md5: str, cache: Path) -> None:
    try:
        _pooch().retrieve(
            f"{_ZENODO}/{file}", f"md5:{md5}", fname=file, path=cache, progressbar=True
        )
    # pooch raises ValueError for a download whose md5 sum is wrong.
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot download {file}: get {_ZENODO}/{file} on a machine that can, and put it in "
            f"{cache} or in a folder that SKIMBAL_DATA names ({type(error).__name__}: {error})"
        ) from error


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            'MedMNIST is downloaded with pooch, which is missing: pip install "skimbal[data]"'
        ) from error
    return pooch


def _read(
    path: Path, groups: str | None = None
) -> tuple[_Splits, list[str], dict[str, npt.NDArray[Any] | None]]:
    """Return images, channels first, and class numbers of each split; class names; groups."""
    if not path.is_file():
        raise FileNotFoundError(f"expected an npz file at {path}, but there is no such file")
    with path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            raise ValueError(
                f"{path} is no npz file (a zip archive of arrays), or one that was cut short: "
                "get it again, or write it with numpy.savez"
            )
        stream.seek(0)
        try:
            with np.load(stream, allow_pickle=False) as npz:
                names = list(npz.files)
                form = next((form for form in _FORMS if not _missing(form, names)), None)
                wanted = [name for pair in (form or {}).values() for name in pair]
                if groups is not None:
                    wanted += [f"{split}_{groups}" if split else groups for split in form or {}]
                arrays = {name: np.asarray(npz[name]) for name in wanted if name in names}
        # Ten types and more: zipfile, its codecs and numpy's header parser each raise their own.
        except Exception as error:
            raise ValueError(
                f"cannot read {path}, which is damaged or holds more than plain arrays: get it "
                f"again, or write it with numpy.savez ({type(error).__name__}: {error})"
            ) from error
    if form is None:
        missing = _missing(_SPLIT_FORM, names)
        keys = ", ".join(name for pair in _SPLIT_FORM.values() for name in pair)
        raise ValueError(
            f"{path} must hold the arrays {keys}; missing: {', '.join(missing)}"
            if len(missing) < 2 * len(_SPLITS)
            else f"{path} must hold the arrays images and labels, or X and y, or with splits "
            f"{keys}; it holds {', '.join(names) or 'none'}"
        )
    splits: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
    of_groups: dict[str, npt.NDArray[Any] | None] = {}
    for split, (images, labels) in form.items():
        try:
            X = _channels_first(arrays[images])
            splits[split] = X, _labels(arrays[labels], len(X))
            if groups is not None:
                name = f"{split}_{groups}" if split else groups
                if name not in names and split != "test":
                    raise ValueError(
                        f"expected the groups in an array {name!r}; the file holds "
                        f"{', '.join(names)}"
                    )
                of_groups[split] = _groups(arrays[name], len(X)) if name in names else None
        except ValueError as error:
            raise ValueError(f"{path}, {split or 'all rows'}: {error}") from None
    shapes = {split: X.shape[1:] for split, (X, _) in splits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{path}: expected images of one shape in all splits, got {shapes}")
    return *_numbered(path, splits), of_groups


def _missing(form: Mapping[str, tuple[str, str]], names: list[str]) -> list[str]:
    return [name for pair in form.values() for name in pair if name not in names]


def _numbered(
    path: Path, splits: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]
) -> tuple[_Splits, list[str]]:
    """Return the splits with class numbers for labels, and the name of each class."""
    kinds = {y.dtype.kind == "U" for _, y in splits.values()}
    if len(kinds) > 1:
        raise ValueError(f"{path}: expected labels as numbers or as text in all splits, got both")
    labels = np.concatenate([y for _, y in splits.values()])
    if kinds == {True}:
        known = np.unique(labels)
        numbered = {split: (X, np.searchsorted(known, y)) for split, (X, y) in splits.items()}
        return numbered, [str(name) for name in known]
    return splits, [str(k) for k in range(1 + int(labels.max()))]


def _groups(groups: npt.NDArray[Any], n_images: int) -> npt.NDArray[Any]:
    if groups.size != n_images or groups.shape not in ((n_images,), (n_images, 1)):
        raise ValueError(
            f"expected groups as one entry for each of {n_images} images, shape ({n_images},), got "
            f"shape {groups.shape}"
        )
    if groups.dtype.kind not in "buifUS" or np.any(groups != groups):
        raise ValueError(
            f"expected groups as numbers or text, none of them missing, got {groups.dtype}"
            + (" with NaN" if groups.dtype.kind == "f" else "")
        )
    return groups.reshape(-1)


def _channels_first(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if images.ndim not in (3, 4) or images.dtype.kind not in "buif":
        raise ValueError(
            "expected images as numbers of shape (n, h, w), (n, h, w, 3) or (n, d, h, w), got "
            f"{images.dtype} of shape {images.shape}"
        )
    if images.size == 0:
        raise ValueError(f"expected at least one image in every split, got shape {images.shape}")
    if images.ndim == 4 and images.shape[-1] in (1, 3):
        return np.ascontiguousarray(np.moveaxis(images, -1, 1))  # (n, c, h, w)
    return images


def _labels(labels: npt.NDArray[Any], n_images: int) -> npt.NDArray[Any]:
    """Return class numbers, int64, or class names, of shape (n,)."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"labels of shape {labels.shape} are multi-label, which is not supported: expected one "
            "class number for each image, shape (n,) or (n, 1)"
        )
    is_text = labels.dtype.kind == "U"
    is_number = labels.dtype.kind in "bui" and labels.min(initial=0) >= 0
    if labels.ndim not in (1, 2) or not (is_text or is_number):
        raise ValueError(
            "expected labels as class numbers from 0 or as text, shape (n,) or (n, 1), got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if labels.size != n_images:
        raise ValueError(f"expected as many labels as images, got {labels.size} and {n_images}")
    return labels.reshape(-1) if is_text else labels.reshape(-1).astype(np.int64)


def _bunch(
    splits: _Splits,
    *,
    name: str,
    filename: str | None,
    target_names: list[str],
    source: str,
    license: str,
    citation: str,
    groups: Mapping[str, npt.NDArray[Any] | None] | None = None,
) -> Bunch:
    X = next(iter(splits.values()))[0]
    ndim = 3 if X.ndim == 4 and X.shape[1] not in (1, 3) else 2
    counts = {
        split or "all": np.bincount(y, minlength=len(target_names)).tolist()
        for split, (_, y) in splits.items()
    }

    def key(name: str, split: str) -> str:
        return f"{name}_{split}" if split else name

    return Bunch(
        **{key("X", split): X for split, (X, _) in splits.items()},
        **{key("y", split): y for split, (_, y) in splits.items()},
        **{key("groups", split): array for split, array in (groups or {}).items()},
        target_names=target_names,
        ndim=ndim,
        name=name,
        filename=filename,
        DESCR=f"{name}: {ndim}D images of shape {X.shape[1:]}, {X.dtype}\n"
        f"Classes: {target_names}\nImages of each class: {counts}\n"
        f"Source: {source}\nLicense: {license}\nCitation: {citation}\n",
        license=license,
        citation=citation,
    )
