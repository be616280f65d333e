"""An evaluation in tables and sentences."""

import textwrap
from collections.abc import Iterable, Sequence
from decimal import ROUND_FLOOR, Decimal, localcontext

import numpy as np
from tabulate import tabulate

from skimbal.evaluation.results import Level, ScoreEstimate
from skimbal.evaluation.scored import Scored
from skimbal.evaluation.scores import CLASS_SCORES, OVERALL_SCORES
from skimbal.wording import plural

__all__ = [
    "make_class_table",
    "make_confusion_table",
    "make_overall_table",
    "make_rules_table",
    "make_thresholds_table",
    "shorten",
    "write_description",
    "write_estimate",
    "write_method",
    "write_number",
    "write_summary",
]

#: Width of the summary, in characters.
_WIDTH = 80
#: Longest name of a class or rule in the summary, in characters.
_LONGEST = 24
#: Scores of decision rules in tables.
_OF_RULES = ("balanced_accuracy", "f1_macro", "matthews_corrcoef")


def write_number(value: float) -> str:
    """Write a score, or a dash if there is none."""
    return "–" if np.isnan(value) else f"{value:.3f}"


def write_estimate(row: ScoreEstimate) -> str:
    """Write a score with its interval."""
    return _with_interval(write_number(row.value), row.low, row.high)


def _with_interval(number: str, low: float, high: float) -> str:
    return number if np.isnan(low) else f"{number} [{low:.3f}, {high:.3f}]"


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Leave out the middle of a long name. Names often differ at their ends."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    end = longest // 2
    return f"{text[: longest - end - 1]}…{text[-end:]}"


def write_description(evaluation: Scored) -> str:
    """Describe the evaluated images in a sentence."""
    n_classes = plural(len(evaluation.class_names), "class", "classes")
    of_patients = ""
    ids = evaluation.images.ids
    if ids is not None:
        of_patients = f" of {plural(len(np.unique(ids)), 'patient')}"
    n_images = plural(len(evaluation.images.y_true), "image")
    return f"{evaluation.classifier} on {n_images}{of_patients} in {n_classes}."


def write_method(evaluation: Scored) -> str:
    """Say how the intervals were computed, in a sentence."""
    if not evaluation.n_bootstraps:
        return "No intervals were computed."
    drawn = ", drawn class by class" if evaluation.stratify else ""
    held = " They hold for the shares of the classes in these rows." if drawn else ""
    return (
        f"The {100 * evaluation.confidence_level:g} % intervals are percentiles of "
        f"{plural(evaluation.n_bootstraps, 'bootstrap sample')} of {evaluation.bootstrap_unit}"
        f"{drawn} (seed {evaluation.seed}).{held}"
    )


def make_class_table(
    evaluation: Scored, level: str, scores: Iterable[str] = tuple(CLASS_SCORES)
) -> list[list[str]]:
    """Lay out the scores of each class."""
    scores = list(scores)
    rows = [["class", "n", *(CLASS_SCORES[score] for score in scores)]]
    for name in evaluation.class_names:
        found = [evaluation.find(score, name, level=level) for score in scores]
        rows.append([name, f"{found[0].n:,}", *map(write_estimate, found)])
    return rows


def make_overall_table(evaluation: Scored) -> list[list[str]]:
    """Lay out the scores of all classes together, with a column for images and for patients."""
    levels = [level.name for level in evaluation.levels]
    rows = [["score", *levels]]
    for score, title in OVERALL_SCORES.items():
        found = [evaluation.find(score, level=level) for level in levels]
        rows.append([title, *map(write_estimate, found)])
    return rows


def make_rules_table(evaluation: Scored, level: str) -> list[list[str]]:
    """Lay out the scores of each rule of decision."""
    rows = [["rule", *(OVERALL_SCORES[score] for score in _OF_RULES)]]
    for rule in _level(evaluation, level).decisions:
        found = [evaluation.find(score, level=level, rule=rule) for score in _OF_RULES]
        rows.append([rule, *map(write_estimate, found)])
    return rows


def make_thresholds_table(evaluation: Scored, level: str) -> list[list[str]]:
    """Lay out the thresholds of each class that have a sensitivity."""
    scores = ("sensitivity", "specificity", "precision", "npv")
    rows = [["class", "asked", "threshold", *(CLASS_SCORES[score] for score in scores)]]
    for point in evaluation.operating_points:
        if point.level == level:
            numbers = [_rounded_down(point.threshold)]
            numbers += [write_number(getattr(point, score)) for score in scores]
            cells = [
                _with_interval(number, *point.intervals[name])
                for name, number in zip(("threshold", *scores), numbers, strict=True)
            ]
            rows.append([point.class_name, f"{point.target:g}", *cells])
    return rows


def _rounded_down(threshold: float) -> str:
    """Write a threshold that takes no row less than the exact threshold."""
    with localcontext(prec=4, rounding=ROUND_FLOOR):
        return f"{float(+Decimal(threshold)):.4g}"


def make_confusion_table(evaluation: Scored, level: str) -> list[list[str]]:
    """Lay out the confusion matrix."""
    names = evaluation.class_names
    matrix = evaluation.confusion_matrix(level)
    rows = [["true \\ predicted", *names]]
    return rows + [
        [name, *(f"{n:,}" for n in counts)] for name, counts in zip(names, matrix, strict=True)
    ]


def _level(evaluation: Scored, name: str) -> Level:
    return next(level for level in evaluation.levels if level.name == name)


def write_summary(evaluation: Scored) -> str:
    """Write the tables and the notes as text of 80 columns."""
    parts = [_wrapped(write_description(evaluation)), _wrapped(write_method(evaluation))]
    parts += ["", _text(make_overall_table(evaluation))]
    for level in evaluation.levels:
        pooled = f", {evaluation.pool} of the probabilities" if level.name == "patients" else ""
        parts += ["", f"By class ({level.name}{pooled})"]
        parts += [_text(make_class_table(evaluation, level.name), n_heads=2)]
        confusion = _text(make_confusion_table(evaluation, level.name))
        if len(confusion.split("\n")) == len(evaluation.class_names) + 1:
            parts += ["", f"Confusion matrix ({level.name}, rule: {level.rule})", confusion]
        parts += ["", f"Decision rules ({level.name})"]
        parts += [_text(make_rules_table(evaluation, level.name))]
        thresholds = make_thresholds_table(evaluation, level.name)
        if len(thresholds) > 1:
            parts += ["", f"Thresholds chosen on these rows ({level.name}), hence optimistic"]
            parts += [_text(thresholds, n_heads=2)]
    parts += ["", *(_wrapped(f"- {note}", "  ") for note in evaluation.notes)]
    return "\n".join(parts)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _text(rows: Sequence[Sequence[str]], n_heads: int = 1, longest: int = _LONGEST) -> str:
    """Write a table in as many blocks of columns as its width needs."""
    columns = [[shorten(cell, longest) for cell in column] for column in zip(*rows, strict=True)]
    heads, others = columns[:n_heads], columns[n_heads:]

    def width(some: Sequence[Sequence[str]]) -> int:
        return sum(2 + max(map(len, column)) for column in some) - 2

    blocks: list[list[list[str]]] = []
    for column in others:
        if not blocks or width([*heads, *blocks[-1], column]) > _WIDTH:
            blocks.append([])
        blocks[-1].append(column)
    texts = [
        tabulate(zip(*heads, *block, strict=True), tablefmt="plain", disable_numparse=True)
        for block in blocks
    ]
    return "\n".join(texts)
