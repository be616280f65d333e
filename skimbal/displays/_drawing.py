"""Pictures as scikit-learn Display objects: learning curves, features, studies, class scores."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.utils import assert_all_finite, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, unique_labels

__all__ = [
    "BESIDE",
    "COLORS",
    "GREY",
    "LINES",
    "MARKERS",
    "check_axes",
    "check_classes",
    "check_generator",
    "check_known",
    "check_labels_of_rows",
    "check_study",
    "configuration_key",
    "count_confusion",
    "f1_scores",
    "new_axes",
    "require_matplotlib",
    "width_of_text",
]

#: The colours of Okabe and Ito, which colour-blind readers can tell apart; the pale ones last.
COLORS = (
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # blue, vermilion, green, purple
    + ("#000000", "#E69F00", "#56B4E9", "#F0E442")  # black, orange, sky blue, yellow
)
#: Markers and lines tell the same apart in grey. Their numbers differ from that of the colours, so
#: that a colour comes back with another marker.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">")
LINES = ("-", "--", "-.", ":", (0, (7, 1.5, 1, 1.5, 1, 1.5)))
GREY = "0.45"
#: Legends stand where no data is.
BESIDE: dict[str, Any] = {
    "loc": "upper left",
    "bbox_to_anchor": (1.01, 1),
    "borderaxespad": 0,
    "frameon": False,
}


def require_matplotlib(caller: str) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{caller} draws with matplotlib, which is missing: pip install "skimbal[plot]"'
        ) from error


def new_axes(n_rows: int, n_columns: int, **options: Any) -> np.ndarray:
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(n_rows, n_columns, squeeze=False, layout="constrained", **options)
    flat: np.ndarray = axes.ravel()
    return flat


def width_of_text(texts: Iterable[str]) -> float:
    """Estimate the width of the longest text, in inches."""
    from matplotlib import rcParams

    # A character is about 0.6 of the font size wide, which is in points.
    return max(map(len, texts), default=0) * 0.6 * float(rcParams["font.size"]) / 72


def check_axes(ax: Any, n: int, why: str) -> np.ndarray | None:
    """Return the given axes as an array of n, or None if new ones are to be made."""
    from matplotlib.axes import Axes

    if ax is None:
        return None
    axes = np.ravel(np.asarray(ax, dtype=object))
    for item in axes:
        if not isinstance(item, Axes):
            raise TypeError(f"ax must hold matplotlib Axes, got {type(item).__name__}.")
    if len(axes) != n:
        raise ValueError(f"ax must hold {n} axes, got {len(axes)}: {why}.")
    return axes


def check_known(name: str, value: Any, known: Iterable[Any]) -> None:
    known = list(known)
    if value not in known:
        raise ValueError(f"{name}: {value!r} is not known; known are {known}.")


def check_study(study: Any) -> None:
    needed = ("scoring", "score_names", "class_names", "greater_is_better", "estimates")
    for name in (*needed, "differences"):
        if not hasattr(study, name):
            raise TypeError(
                f"study must be a fitted study of losses and samplers; {type(study).__name__} has "
                f"no {name}."
            )


def check_labels_of_rows(name: str, y: Any) -> np.ndarray:
    labels: np.ndarray = column_or_1d(y)
    if len(labels) == 0:
        raise ValueError(f"{name} must hold at least one label, got none.")
    assert_all_finite(labels, input_name=name)
    check_classification_targets(labels)
    return labels


def check_classes(labels: Any, display_labels: Any) -> tuple[np.ndarray, list[str]]:
    """Return distinct labels and a name for each."""
    labels = column_or_1d(labels)
    if len(labels) == 0 or len(np.unique(labels)) < len(labels):
        raise ValueError(f"labels must hold distinct labels, got {labels.tolist()}.")
    names = [str(label) for label in (labels if display_labels is None else display_labels)]
    if len(names) != len(labels):
        raise ValueError(
            f"display_labels must name each of the {len(labels)} classes {labels.tolist()}, got "
            f"{len(names)} names."
        )
    return labels, names


def check_generator(random_state: Any) -> np.random.RandomState:
    """Return a generator of its own for None: the global one stays as it is."""
    if random_state is None:
        return np.random.RandomState()
    generator: np.random.RandomState = check_random_state(random_state)
    return generator


def count_confusion(y_true: np.ndarray, y_pred: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count (true, predicted) pairs: first the labels asked for, then all others that occur."""
    occurring = unique_labels(labels, y_true, y_pred)
    others = occurring[~np.isin(occurring, labels)]
    counts: np.ndarray = confusion_matrix(y_true, y_pred, labels=np.concatenate([labels, others]))
    return counts


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """Compute 2 TP / (true + predicted) from counts of shape (..., n, n), NaN for 0 / 0."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    mass = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    scores: np.ndarray = np.divide(2 * hits, mass, out=np.full(mass.shape, np.nan), where=mass > 0)
    return scores


def configuration_key(loss: Any, sampler: Any) -> tuple[str, str]:
    return str(loss), "uniform" if sampler is None else str(sampler)
