"""Sentences that name the limits of the numbers of an evaluation."""

import numpy as np

from skimbal.evaluation.bootstrap import Units
from skimbal.evaluation.checks import Rows, listed
from skimbal.evaluation.decisions import BALANCED, OperatingPoint
from skimbal.evaluation.results import Level, ScoreEstimate
from skimbal.evaluation.words import shorten
from skimbal.wording import agree

__all__ = ["write_notes"]

#: Fewer images or patients of a class than this make its intervals rough.
_FEW = 10


def write_notes(
    levels: list[Level],
    rows: Rows,
    units: Units,
    scores: list[ScoreEstimate],
    points: list[OperatingPoint],
    n_bootstraps: int,
) -> list[str]:
    """Return the sentences, the gravest first."""
    notes = [*_about_classes(levels, rows, units)]
    if levels[0].ids is None:
        notes.append(
            "Each image counts as independent of the others. If patients have several images, the "
            "intervals are too short. Pass groups=."
        )
    if n_bootstraps:
        notes += _about_intervals(scores, n_bootstraps)
    if len(levels) == 2 and levels[1].rule != levels[0].rule:
        notes.append(
            f"The classifier decides by a rule that is not known here ('{levels[0].rule}'). "
            f"Patients are decided by '{levels[1].rule}' of their pooled probabilities."
        )
    if points:
        notes.append(
            "Thresholds that were chosen on these rows make optimistic scores. Choose a threshold "
            "on other rows, such as with TunedOffsetsClassifierCV."
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


def _about_intervals(scores: list[ScoreEstimate], n_bootstraps: int) -> list[str]:
    notes = []
    lost = [row for row in scores if row.interval == "bootstrap" and row.n_resamples < n_bootstraps]
    if lost:
        least = min(lost, key=lambda row: row.n_resamples)
        of_class = f" of {shorten(least.class_name)!r}" if least.class_name else ""
        notes.append(
            f"Some scores do not exist in all samples of the bootstrap, and their intervals are of "
            f"the others. The fewest are {least.n_resamples:,} of {n_bootstraps:,}, for "
            f"{least.score}{of_class} ({least.level})."
        )
    if any(row.interval == "exact" for row in scores):
        notes.append(
            "A bootstrap cannot see beyond a share of 0 or 1, such as 5 of 5. These shares have "
            "the exact interval of Clopper and Pearson."
        )
    if any(row.interval == "none" and np.isfinite(row.value) for row in scores):
        notes.append(
            "A score without an interval was the same in all samples of the bootstrap, which says "
            "nothing about its spread."
        )
    return notes
