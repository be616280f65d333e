"""The results of a study in tables and sentences."""

import html
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from tabulate import tabulate

from skimbal.datasets import DataCard
from skimbal.study.plan import Configuration
from skimbal.study.scores import Fit
from skimbal.study.source import Source
from skimbal.study.statistics import CONFIDENCE, Difference, Estimate
from skimbal.typing import Classifier
from skimbal.wording import agree, plural

__all__ = [
    "Study",
    "draw_conclusions",
    "make_ranking_table",
    "make_scores_table",
    "write_description",
    "write_html",
    "write_summary",
]


class Study(Protocol):
    """A study as words, pictures and the report ask for it."""

    estimator: Classifier
    data: DataCard
    versions: dict[str, str]
    configurations: list[Configuration]
    fits: list[Fit]
    scoring: str
    seed: int
    splitting: str
    n_splits: int
    has_test_set: bool
    leaks: list[str]
    classes: np.ndarray
    source: Source | None

    @property
    def score_names(self) -> list[str]:
        """Names of the scores."""

    @property
    def class_names(self) -> list[str]:
        """Class labels as text."""

    @property
    def n_planned(self) -> int:
        """Number of fits when all are done."""

    @property
    def best(self) -> Estimate:
        """The configuration of the best mean."""

    def class_scores(self) -> dict[str, str]:
        """Map the classes to their scores."""

    def title(self, score: str | None = None) -> str:
        """Name a score in words."""

    def greater_is_better(self, score: str) -> bool:
        """Tell whether more of a score is better."""

    def estimates(self, score: str | None = None) -> list[Estimate]:
        """Estimate a score of each configuration."""

    def differences(self, score: str | None = None) -> list[Difference]:
        """Compare each configuration with its reference."""

    def configuration(self, loss: str, sampler: str) -> Configuration:
        """Find a configuration by its names."""

    def confusion_matrix(self, loss: str, sampler: str) -> np.ndarray:
        """Add up the confusion matrices of the fits of a configuration."""

    def make_estimator(self, loss: str, sampler: str) -> Classifier:
        """Make the unfitted estimator of a configuration."""


def write_summary(study: Study) -> str:
    """Write the tables and the conclusions as text."""
    parts = [
        write_description(study),
        "",
        _text(make_ranking_table(study)),
        "",
        _text(make_scores_table(study)),
        "",
        *draw_conclusions(study),
    ]
    return "\n".join(parts)


def write_html(study: Study) -> str:
    """Write the first table and the conclusions as HTML for a notebook."""
    head, *rows = make_ranking_table(study)
    table = tabulate(rows, head, tablefmt="html", disable_numparse=True)
    return str(table) + "".join(f"<p>{html.escape(line)}</p>" for line in draw_conclusions(study))


def write_description(study: Study) -> str:
    """Describe the comparison in a line."""
    return (
        f"{study.title()} of {plural(len(study.configurations), 'configuration')}: "
        f"{study.splitting}, {plural(study.n_splits, 'fit')} each, seed {study.seed}."
    )


def make_ranking_table(study: Study) -> list[list[str]]:
    """Lay out the score that ranks, with its differences."""
    head = ["loss", "sampler", study.title(), "95 % interval"]
    rows = [[*head, "against", "difference [95 % interval]", "p (Holm)"]]
    against = {(row.loss, row.sampler): row for row in study.differences()}
    for row in study.estimates():
        interval = "" if math.isnan(row.low) else f"[{row.low:.3f}, {row.high:.3f}]"
        line = [row.loss, row.sampler, _mean_std(row), interval]
        gain = against.get((row.loss, row.sampler))
        if gain is None:
            line += ["", "", ""]
        elif math.isnan(gain.low):
            line += [gain.reference, f"{gain.mean:+.3f}", ""]
        else:
            interval = f"[{gain.low:+.3f}, {gain.high:+.3f}]"
            line += [gain.reference, f"{gain.mean:+.3f} {interval}", f"{gain.p_value:.2g}"]
        rows.append(line)
    return rows


def make_scores_table(study: Study, scores: Sequence[str] | None = None) -> list[list[str]]:
    """Lay out several scores."""
    if scores is None:
        scores = [name for name in study.score_names if name != study.scoring]
    rows = [["loss", "sampler", *map(study.title, scores)]]
    for of_configuration in zip(*map(study.estimates, scores), strict=True):
        first = of_configuration[0]
        rows.append([first.loss, first.sampler, *map(_mean_std, of_configuration)])
    return rows


def draw_conclusions(study: Study) -> list[str]:
    """Say which differences are reliable, and name the limits of the numbers."""
    # Scores that are too high make all other conclusions doubtful.
    leaks = [f"Warning: {sentence}" for sentence in study.leaks]
    if not study.fits:
        return [*leaks, "No fit is finished."]
    differences = study.differences()
    lines = [
        _compare(study, sampler, reference, differences)
        for sampler, reference in dict.fromkeys((d.sampler, d.reference) for d in differences)
    ]
    if not lines and len(study.configurations) > 1:
        lines = ["There is no reference at the same sampler to compare with. Set baseline=."]
    best = study.best
    n_estimates = len(study.estimates())
    choice = (
        f" It was chosen among {n_estimates} on the same test rows, so a part of its lead is luck."
    )
    lines.append(
        f"Best mean: {best.loss} with {best.sampler} sampling, {best.mean:.3f}."
        + (choice if n_estimates > 1 else "")
    )
    if study.has_test_set:
        lines.append(
            "The spread is over seeds on one test set. It does not contain the uncertainty that "
            "comes from the choice of the test rows."
        )
    if len(study.fits) < study.n_planned:
        n_planned = plural(study.n_planned, "fit")
        are = agree(study.n_planned, "is", "are")
        lines.append(f"Not complete: {len(study.fits)} of {n_planned} {are} done.")
    steps: dict[tuple[int, int], set[int]] = {}
    for fit in study.fits:
        steps.setdefault((fit.repeat, fit.fold), set()).add(fit.n_steps)
    if any(len(numbers) > 1 for numbers in steps.values()):
        lines.append(
            "The numbers of gradient steps differ between configurations, because callbacks ended "
            "some fits early or the estimator sets the length of an epoch."
        )
    return [*leaks, *lines]


def _compare(study: Study, sampler: str, reference: str, differences: list[Difference]) -> str:
    """Say which losses differ reliably from a reference at one sampler."""
    mine = [d for d in differences if (d.sampler, d.reference) == (sampler, reference)]
    sign = 1 if study.greater_is_better(study.scoring) else -1
    start = f"{sampler} sampling, against {reference}: "
    if all(math.isnan(d.p_value) for d in mine):
        if study.n_splits == 1:
            return f"{start}one fit each, so there is no spread to compare a difference with."
        return f"{start}two fits each, which give no interval. Take 5 folds, or more repeats."

    def show(some: list[Difference]) -> str:
        return ", ".join(f"{d.loss} ({d.mean:+.3f}, p {d.p_value:.2g})" for d in some)

    reliable = [d for d in mine if d.p_value < 1 - CONFIDENCE]
    if not reliable:
        top = show([max(mine, key=lambda d: sign * d.mean)])
        best = f". The best of {len(mine)} is {top}" if len(mine) > 1 else f": {top}"
        return f"{start}no reliable difference in {study.title()}{best}."
    parts = [
        f"reliably {word}: {show(some)}"
        for word, some in (
            ("better", [d for d in reliable if sign * d.mean > 0]),
            ("worse", [d for d in reliable if sign * d.mean < 0]),
        )
        if some
    ]
    return f"{start}{'; '.join(parts)}."


def _mean_std(row: Estimate) -> str:
    return f"{row.mean:.3f}" + ("" if math.isnan(row.std) else f" ± {row.std:.3f}")


def _text(rows: list[list[str]]) -> str:
    return str(tabulate(rows, tablefmt="plain", disable_numparse=True))
