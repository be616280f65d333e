"""The pictures of a report of an evaluation, each with its content in words."""

import base64
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from skimbal.displays import ClassScoresDisplay
from skimbal.evaluation.results import Level
from skimbal.evaluation.scored import Scored
from skimbal.evaluation.words import write_estimate, write_number
from skimbal.evaluation.worst import WorstError
from skimbal.reports import (
    Picture,
    describe_confusion_matrix,
    draw_confusion_matrix,
    make_picture,
    picture_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "MOST_SHARES",
    "N_BINS",
    "calibration_errors",
    "draw_pictures",
    "draw_worst",
    "drawn_classes",
]

#: Bins of equal width of the calibration curves and the calibration error.
N_BINS = 10
#: Most classes that have curves in a picture.
_MOST_CURVES = 8
#: Most classes whose confusion matrix has room for shares.
MOST_SHARES = 12

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#8C564B")
_LINES = ("-", "--", "-.", ":")


def drawn_classes(level: Level) -> list[int]:
    """Return the numbers of the classes that curves are drawn of: the rarest that are present."""
    n_rows = (level.y_true[:, None] == level.classes).sum(0)
    present = np.flatnonzero((n_rows > 0) & (n_rows < len(level.y_true)))
    rarest = present[np.argsort(n_rows[present], kind="stable")][:_MOST_CURVES]
    return sorted(rarest.tolist())


def draw_pictures(evaluation: Scored) -> dict[str, dict[str, Picture]]:
    """Draw the pictures of each level, by the names of the level and of the picture."""
    with picture_style():
        return {level.name: dict(_of_level(evaluation, level)) for level in evaluation.levels}


def _of_level(evaluation: Scored, level: Level) -> Iterator[tuple[str, Picture]]:
    names = evaluation.class_names
    matrix = evaluation.confusion_matrix(level.name)
    side = (0.75 if len(names) <= MOST_SHARES else 0.42) * len(names) + 1.2
    words = describe_confusion_matrix(matrix, names, level.name.capitalize())
    n_lines = 3 if len(names) <= MOST_SHARES else 1

    def draw_matrix(ax: "Axes") -> None:
        _draw_confusion(matrix, names, ax)

    yield "confusion", make_picture(draw_matrix, (side, side), names, words, n_lines)
    yield "classes", _draw_class_scores(evaluation, level)
    if not drawn_classes(level):
        return
    yield "roc", _draw_curves("ROC curves", evaluation, level, _draw_roc)
    yield "pr", _draw_curves("Precision-recall curves", evaluation, level, _draw_pr)
    yield "calibration", _draw_curves("Calibration curves", evaluation, level, _draw_calibration)


def _draw_confusion(matrix: np.ndarray, names: list[str], ax: "Axes") -> None:
    draw_confusion_matrix(matrix, names, ax)
    if len(names) > MOST_SHARES:
        for text in ax.texts:
            count = text.get_text().split("\n")[0]
            text.set_text("" if count == "0" else count)
            text.set_fontsize(8)


def _draw_class_scores(evaluation: Scored, level: Level) -> Picture:
    names = evaluation.class_names
    found = [evaluation.find("f1", name, level=level.name) for name in names]
    value, low, high = (
        np.array([[getattr(row, end) for row in found]]) for end in ("value", "low", "high")
    )
    alone = np.isnan(low)  # a line of no length
    height = 0.4 if len(names) <= MOST_SHARES else 0.27
    display = ClassScoresDisplay(
        value,
        np.where(alone, value, low),
        np.where(alone, value, high),
        names,
        confidence_level=evaluation.confidence_level,
    )
    numbers = ", ".join(f"{row.class_name} {write_estimate(row)}" for row in found)
    return make_picture(
        lambda ax: display.plot(ax=ax),
        (5.5, 1.4 + height * len(names)),
        names,
        f"Points with intervals: F1 of each class of {level.name}. {numbers}.",
        n_lines=1,
    )


def _draw_curves(
    title: str,
    evaluation: Scored,
    level: Level,
    draw: "Callable[[Scored, Level, int, Axes, dict[str, Any]], str]",
) -> Picture:
    numbers = drawn_classes(level)
    names = [evaluation.class_names[number] for number in numbers]
    sentences: list[str] = []

    def plot(ax: "Axes") -> None:
        lines = []
        for place, number in enumerate(numbers):
            n_before = len(ax.lines)
            look = {"color": _COLORS[place], "linestyle": _LINES[place % len(_LINES)]}
            sentences.append(draw(evaluation, level, number, ax, look))
            lines.append(ax.lines[n_before])
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        labels = [str(line.get_label()) for line in lines]
        # By name, as matplotlib leaves out labels that begin with an underscore.
        ax.legend(
            lines,
            labels,
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            borderaxespad=0,
            frameon=False,
        )

    picture = make_picture(plot, (6.3, 4.3), names, "")
    return picture._replace(alt=f"{title} of {level.name}. {' '.join(sentences)}")


def _draw_roc(
    evaluation: Scored, level: Level, number: int, ax: "Axes", look: dict[str, Any]
) -> str:
    name = evaluation.class_names[number]
    area = write_number(evaluation.find("roc_auc", name, level=level.name).value)
    false, true, _ = roc_curve(level.y_true == level.classes[number], level.proba[:, number])
    ax.plot(false, true, label=f"{name}\nAUC {area}", **look)
    if not ax.lines[1:]:
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, label="_chance")
    ax.set(xlabel="1 − specificity", ylabel="sensitivity")
    places = [float(np.interp(x, false, true)) for x in (0.05, 0.1, 0.2)]
    return (
        f"{name}: AUC {area}, sensitivity {places[0]:.2f}, {places[1]:.2f} and {places[2]:.2f} at "
        "specificity 0.95, 0.9 and 0.8."
    )


def _draw_pr(
    evaluation: Scored, level: Level, number: int, ax: "Axes", look: dict[str, Any]
) -> str:
    name = evaluation.class_names[number]
    area = write_number(evaluation.find("average_precision", name, level=level.name).value)
    truth = level.y_true == level.classes[number]
    precision, recall, _ = precision_recall_curve(
        truth, level.proba[:, number], drop_intermediate=True
    )
    # Average precision is the area below steps.
    ax.plot(recall, precision, drawstyle="steps-post", label=f"{name}\nAP {area}", **look)
    ax.axhline(truth.mean(), color=look["color"], linewidth=0.6, alpha=0.5)
    ax.set(xlabel="sensitivity", ylabel="precision")
    return f"{name}: AP {area}, share of the class {truth.mean():.3f}."


def _draw_calibration(
    evaluation: Scored, level: Level, number: int, ax: "Axes", look: dict[str, Any]
) -> str:
    name = evaluation.class_names[number]
    error = write_number(calibration_errors(level)[number])
    observed, predicted = calibration_curve(
        level.y_true == level.classes[number], level.proba[:, number], n_bins=N_BINS
    )
    ax.plot(predicted, observed, marker="o", markersize=4, label=f"{name}\nECE {error}", **look)
    if not ax.lines[1:]:
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, label="_diagonal")
    ax.set(xlabel="mean predicted probability", ylabel="observed share")
    pairs = ", ".join(f"{p:.2f} {o:.2f}" for p, o in zip(predicted, observed, strict=True))
    return f"{name}: ECE {error}, predicted and observed {pairs}."


def calibration_errors(level: Level) -> list[float]:
    """Return the expected calibration error of each class.

    It is the difference between the mean probability and the share of the class in bins of equal
    width, weighted by the rows of the bins.
    """
    truth = (level.y_true[:, None] == level.classes).astype(float)
    bins = np.searchsorted(np.linspace(0, 1, N_BINS + 1)[1:-1], level.proba)
    errors = []
    for number in range(len(level.classes)):
        gaps = np.bincount(bins[:, number], (level.proba - truth)[:, number], minlength=N_BINS)
        errors.append(float(abs(gaps).sum() / len(truth)))
    return errors


def draw_worst(errors: list[WorstError]) -> list[tuple[WorstError, Picture | None]]:
    """Encode the views of errors as PNG."""
    with picture_style():
        return [(error, _encode(error)) for error in errors]


def _encode(error: WorstError) -> Picture | None:
    if error.view is None:
        return None
    from matplotlib.image import imsave

    stream = io.BytesIO()
    view = error.view if error.view.ndim == 3 else np.stack([error.view] * 3, axis=-1)
    metadata: Any = {"Software": None}  # the version of matplotlib is left out
    imsave(stream, view, format="png", metadata=metadata)
    uri = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
    height, width = error.view.shape[:2]
    alt = (
        f"Image {error.row}, {error.true}, taken for {error.predicted} with a probability of "
        f"{error.probability:.3f}."
    )
    return Picture(uri, width, height, alt)
