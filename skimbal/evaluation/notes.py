"""Sentences that name the limits of the numbers of an evaluation."""

import numpy as np

from skimbal.evaluation.bootstrap import Bootstrap, Units
from skimbal.evaluation.checks import Rows, listed
from skimbal.evaluation.decisions import BALANCED
from skimbal.evaluation.operating import OperatingPoint
from skimbal.evaluation.results import Level, ScoreEstimate
from skimbal.evaluation.words import shorten
from skimbal.wording import agree, plural

__all__ = ["write_notes"]

#: Fewer images or patients of a class than this make its intervals rough.
_FEW = 10
#: Less than this share of the samples is worth a note.
_MANY = 0.99


def write_notes(
    levels: list[Level],
    rows: Rows,
    units: Units,
    scores: list[ScoreEstimate],
    points: list[OperatingPoint],
    bootstrap: Bootstrap,
) -> list[str]:
    """Return the sentences, the gravest first."""
    notes = [*_about_classes(levels, rows, units)]
    if levels[0].ids is None:
        notes.append(
            "Each image counts as independent of the others. If patients have several images, the "
            "intervals are too short. Pass groups=."
        )
    if bootstrap.n_samples:
        notes += _about_intervals(scores, bootstrap)
    if len(levels) == 2 and levels[1].rule != levels[0].rule:
        notes.append(
            f"The classifier decides by a rule that is not known here ('{levels[0].rule}'). "
            f"Patients are decided by '{levels[1].rule}' of their pooled probabilities."
        )
    if points:
        notes.append(
            "Thresholds that were chosen on these rows make optimistic scores"
            + (", whose intervals take the choice into account" if bootstrap.n_samples else "")
            + ". Choose a threshold on other rows, such as with TunedOffsetsClassifierCV."
        )
    if any(BALANCED in level.decisions for level in levels):
        notes.append(
            f"The rule '{BALANCED}' divides the probabilities by the shares of the classes in "
            "these rows, so it is optimistic, too. It suits probabilities that follow these "
            "shares. It does not suit a classifier that was trained on balanced batches."
        )
    return notes


def _about_classes(levels: list[Level], rows: Rows, units: Units) -> list[str]:
    notes = []
    n_rows = np.bincount(rows.truth, minlength=len(rows.classes))
    absent = [repr(shorten(name)) for name, n in zip(rows.names, n_rows, strict=True) if not n]
    if absent:
        notes.append(
            f"There is no image of the {agree(len(absent), 'class', 'classes')} {listed(absent)}. "
            f"Means over classes leave {agree(len(absent), 'it', 'them')} out."
        )
    unit = "image" if levels[0].ids is None else "patient"
    counts = {
        name: units.count(rows.truth == number)
        for number, name in enumerate(rows.names)
        if n_rows[number]
    }
    few = [f"{n} of {shorten(name)!r}" for name, n in counts.items() if n < _FEW]
    if few:
        notes.append(
            f"Fewer than {_FEW} {unit}s of a class make its intervals rough, and mostly too short: "
            f"{listed(few)}."
        )
    for level in levels:
        decided = np.unique(level.y_pred)
        if len(decided) == 1:
            notes.append(f"All {level.name} are taken for {shorten(str(decided[0]))!r}.")
    return notes


def _about_intervals(scores: list[ScoreEstimate], bootstrap: Bootstrap) -> list[str]:
    notes = []
    n = bootstrap.n_samples
    if n < bootstrap.n_needed:
        notes.append(
            f"{plural(n, 'bootstrap sample')} {agree(n, 'makes', 'make')} rough intervals, whose "
            f"ends change with the seed. Take at least {bootstrap.n_needed:,}."
        )
    lost = [row for row in scores if row.interval == "bootstrap" and row.n_resamples < _MANY * n]
    if lost:
        least = min(lost, key=lambda row: row.n_resamples)
        notes.append(
            f"Some scores do not exist in all samples of the bootstrap, and their intervals are of "
            f"the others. The fewest are {least.n_resamples:,} of {n:,}, for {_named(least)}."
        )
    too_few = [row for row in scores if _is_defined(row) and 0 < row.n_resamples < n]
    if too_few:
        notes.append(
            f"A score that exists in less than 90 % of the samples of the bootstrap has no "
            f"interval, such as {_named(too_few[0])}. There are too few rows for it."
        )
    if any(row.interval == "exact" for row in scores):
        notes.append(
            "A bootstrap cannot see beyond a share of 0 or 1, such as 5 of 5. These shares have "
            "the exact interval of Clopper and Pearson."
        )
    if any(_is_defined(row) and row.n_resamples == n for row in scores):
        notes.append(
            "A score without an interval was the same in all samples of the bootstrap, which says "
            "nothing about its spread."
        )
    return notes


def _is_defined(row: ScoreEstimate) -> bool:
    """Tell whether there is a score without an interval."""
    return row.interval == "none" and bool(np.isfinite(row.value))


def _named(row: ScoreEstimate) -> str:
    of_class = f" of {shorten(row.class_name)!r}" if row.class_name else ""
    return f"{row.score}{of_class} ({row.level})"
