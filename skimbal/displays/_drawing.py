"""Colours, axes and checks that the displays share."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.utils import assert_all_finite, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, unique_labels

from skimbal.exceptions import ParameterError, import_optional
from skimbal.typing import ArrayLike, RandomState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = [
    "BESIDE",
    "GREY",
    "AnyFigure",
    "AxesLike",
    "check_axes",
    "check_classes",
    "check_generator",
    "check_known",
    "check_labels_of_rows",
    "color_of",
    "count_confusion",
    "f1_scores",
    "line_of",
    "marker_of",
    "new_axes",
    "require_matplotlib",
    "show_names_as_they_are",
    "width_of_text",
]

#: Where to draw: matplotlib Axes, several of them, or a new figure for None.
AxesLike: TypeAlias = "Axes | Sequence[Axes] | np.ndarray | None"
AnyFigure: TypeAlias = "Figure | SubFigure"

# The colours of Okabe and Ito, which colour-blind readers can tell apart. The pale ones come last.
_COLORS = (
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # blue, vermilion, green, purple
    + ("#000000", "#E69F00", "#56B4E9", "#F0E442")  # black, orange, sky blue, yellow
)
# Markers and lines distinguish the curves in a grey print. Their numbers differ from the number of
# colours, so that a colour returns with another marker.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">")
_LINES = ("-", "--", "-.", ":", (0, (7, 1.5, 1, 1.5, 1, 1.5)))
GREY: Final = "0.45"


class _LegendPlace(TypedDict):
    loc: Literal["upper left"]
    bbox_to_anchor: tuple[float, float]
    borderaxespad: float
    frameon: bool


#: Place of a legend: outside the axes, where it hides no data.
BESIDE: _LegendPlace = {
    "loc": "upper left",
    "bbox_to_anchor": (1.01, 1),
    "borderaxespad": 0,
    "frameon": False,
}


def color_of(number: int) -> str:
    return _COLORS[number % len(_COLORS)]


def marker_of(number: int) -> str:
    return _MARKERS[number % len(_MARKERS)]


def line_of(number: int) -> str | tuple[int, tuple[float, ...]]:
    return _LINES[number % len(_LINES)]


def require_matplotlib(caller: str) -> None:
    import_optional("matplotlib", caller, "plot")


def new_axes(
    n_rows: int, n_columns: int, *, figsize: tuple[float, float], sharex: bool = False
) -> np.ndarray:
    """Return the axes of a new figure as one row."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(
        n_rows, n_columns, squeeze=False, layout="constrained", figsize=figsize, sharex=sharex
    )
    flat: np.ndarray = axes.ravel()
    return flat


def width_of_text(texts: Iterable[str]) -> float:
    """Estimate the width of the longest text, in inches."""
    from matplotlib import rcParams

    # A character is about 0.6 of the font size wide, and the font size is in points.
    return max(map(len, texts), default=0) * 0.6 * float(rcParams["font.size"]) / 72


def show_names_as_they_are(panel: "Axes") -> None:
    """Draw the signs of a name, such as $, as they are and not as a formula."""
    legend = panel.get_legend()
    texts = [*panel.get_xticklabels(), *panel.get_yticklabels(), panel.title]
    texts += [panel.xaxis.label, panel.yaxis.label, *(legend.get_texts() if legend else ())]
    for text in texts:
        text.set_parse_math(False)


def check_axes(ax: AxesLike, n: int, why: str) -> np.ndarray | None:
    """Return the given axes as an array of n, or None if the display must make them."""
    from matplotlib.axes import Axes

    if ax is None:
        return None
    axes = np.ravel(np.asarray(ax, dtype=object))
    for item in axes:
        if not isinstance(item, Axes):
            raise TypeError(f"ax must hold matplotlib Axes; got {item!r}.")
    if len(axes) != n:
        raise ParameterError("ax", f"{n} matplotlib Axes", len(axes), why)
    return axes


def check_known(name: str, value: object, known: Collection[object]) -> None:
    if value not in known:
        raise ParameterError(name, f"one of {', '.join(map(repr, known))}", value)


def check_labels_of_rows(name: str, y: ArrayLike) -> np.ndarray:
    labels: np.ndarray = column_or_1d(y)
    if len(labels) == 0:
        raise ParameterError(name, "an array of at least one label", labels.tolist())
    assert_all_finite(labels, input_name=name)
    check_classification_targets(labels)
    return labels


def check_classes(
    labels: ArrayLike, display_labels: Iterable[object] | None
) -> tuple[np.ndarray, list[str]]:
    """Return distinct labels and a name for each."""
    distinct: np.ndarray = column_or_1d(labels)
    if len(distinct) == 0 or len(np.unique(distinct)) < len(distinct):
        raise ParameterError("labels", "an array of distinct labels", distinct.tolist())
    names = [str(label) for label in (distinct if display_labels is None else display_labels)]
    if len(names) != len(distinct):
        raise ParameterError(
            "display_labels", f"a name for each of the classes {distinct.tolist()}", names
        )
    return distinct, names


def check_generator(random_state: RandomState) -> np.random.RandomState:
    """Return a new generator for None: the global one stays unchanged."""
    if random_state is None:
        return np.random.RandomState()
    generator: np.random.RandomState = check_random_state(random_state)
    return generator


def count_confusion(y_true: np.ndarray, y_pred: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count (true, predicted) pairs: first the given labels, then all others that occur."""
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
