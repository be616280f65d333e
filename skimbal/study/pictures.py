"""The pictures of a report, each with its content in words."""

import math
from collections.abc import Sequence
from functools import partial

from skimbal.displays import ClassScoresDisplay, LossStudyDisplay
from skimbal.reports import (
    Picture,
    describe_confusion_matrix,
    draw_confusion_matrix,
    make_picture,
    picture_style,
)
from skimbal.study.statistics import Difference, Estimate
from skimbal.study.words import Study

__all__ = ["describe_scores", "draw_pictures"]


def draw_pictures(study: Study) -> dict[str, Picture | None]:
    """Draw all pictures of a report.

    Parameters
    ----------
    study : LossStudy
        A study with at least one finished fit.

    Returns
    -------
    pictures : dict
        By name: ``"scores"``, ``"differences"`` (None if there are none), ``"classes"``,
        ``"confusion"``.
    """
    estimates, differences = study.estimates(), study.differences()
    texts = [text for e in estimates for text in (e.loss, e.sampler)]
    names, best = study.class_names, study.best
    matrix = study.confusion_matrix(best.loss, best.sampler)
    side = 0.75 * len(names) + 1.2

    def draw_study(kind: str, rows: Sequence[Estimate | Difference], alt: str) -> Picture:
        draw = partial(LossStudyDisplay.from_study, study, kind=kind)
        return make_picture(lambda ax: draw(ax=ax), _size(study, rows), texts, alt, n_lines=1)

    with picture_style():
        return {
            "scores": draw_study("scores", estimates, describe_scores(study)),
            "differences": draw_study("differences", differences, _describe_differences(study))
            if differences
            else None,
            "classes": make_picture(
                lambda ax: ClassScoresDisplay.from_study(study, ax=ax),
                (7.0, 1.4 + 0.75 * len(names)),
                names,
                _describe_class_scores(study),
            ),
            "confusion": make_picture(
                lambda ax: draw_confusion_matrix(matrix, names, ax),
                (side, side),
                names,
                describe_confusion_matrix(matrix, names, "Test rows"),
            ),
        }


def _size(study: Study, rows: Sequence[Estimate | Difference]) -> tuple[float, float]:
    """Return the size of a picture of configurations, in inches."""
    # A line for each configuration, and a line for the name of each group.
    n_groups = len({study.configuration(row.loss, row.sampler).sampling for row in rows})
    return 7.0, 1.4 + 0.28 * (len(rows) + n_groups)


def describe_scores(study: Study) -> str:
    """Write the numbers of the picture of scores, from the best to the worst.

    Parameters
    ----------
    study : LossStudy
        A study with at least one finished fit.

    Returns
    -------
    text : str
        A sentence for each sampler.
    """
    sign = 1 if study.greater_is_better(study.scoring) else -1
    sentences = [f"Points with intervals: mean {study.title()} of each loss, by sampling."]
    for sampler in dict.fromkeys(c.sampler for c in study.configurations):
        rows = [e for e in study.estimates() if e.sampler == sampler]
        if rows:
            rows.sort(key=lambda e: -sign * e.mean)
            parts = [f"{e.loss} {_with_interval(e)}" for e in rows]
            sentences.append(f"With {sampler} sampling, from best to worst: {', '.join(parts)}.")
    return " ".join(sentences)


def _describe_differences(study: Study) -> str:
    parts = [
        f"{d.loss} less {d.reference} with {d.sampler} sampling {_with_interval(d, '+')}"
        for d in study.differences()
    ]
    return f"Points with intervals around zero: differences in {study.title()}. {'; '.join(parts)}."


def _describe_class_scores(study: Study) -> str:
    best = study.best
    parts = []
    for name, score in study.class_scores().items():
        row = next(e for e in study.estimates(score) if e[:2] == best[:2])
        parts.append(f"{name} {_with_interval(row)}")
    return (
        "Points with intervals: F1 of each class. "
        f"Of {best.loss} with {best.sampler} sampling: {', '.join(parts)}."
    )


def _with_interval(row: Estimate | Difference, sign: str = "") -> str:
    text = format(row.mean, f"{sign}.3f")
    return text if math.isnan(row.low) else f"{text} [{row.low:{sign}.3f}, {row.high:{sign}.3f}]"
