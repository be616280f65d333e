"""A study as one HTML file that is complete in itself: no network, no scripts, no other files."""

import math
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from skimbal.reports import format_duration, new_page, render_page, require_packages
from skimbal.study.code import confirm_in_words, write_code
from skimbal.study.pictures import draw_pictures
from skimbal.study.words import (
    Study,
    draw_conclusions,
    make_ranking_table,
    make_scores_table,
    write_description,
)
from skimbal.typing import PathLike

__all__ = ["write_report"]

#: Most classes in a table. A line of more classes would not fit on a printed page.
_MOST_CLASSES = 8


def write_report(study: Study, path: PathLike, *, commands: Sequence[str] = ()) -> None:
    """Write a study as one HTML file with tables, pictures and code.

    The file loads nothing from elsewhere and runs no scripts. The same study gives the same file
    on the same day.

    Parameters
    ----------
    study : skimbal.study.LossStudy
        A study with at least one finished fit.
    path : str or path-like
        The file. An existing file is replaced when the new file is complete. It stays if writing
        fails.
    commands : sequence of str, default=()
        Commands of a shell that train the best configuration and judge it.

    Raises
    ------
    ImportError
        If jinja2 or matplotlib is missing: ``pip install jinja2 matplotlib``.
    OSError
        If the path is a folder, its folder does not exist, or no file can be written there.
    ValueError
        If no fit is finished.

    Examples
    --------
    >>> import os, tempfile
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> from skimbal.study.report import write_report
    >>> from skimbal.study import compare_losses
    >>> data = load_imbalanced_digits()
    >>> study = compare_losses(
    ...     data.X_train, data.y_train, losses=["ce", "ce+mcc"], samplers=["uniform"],
    ...     estimator=CNN2DClassifier(max_epochs=1), cv=2, random_state=0, verbose=0,
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(study, os.path.join(folder, "report.html"))
    ...     os.listdir(folder)
    ['report.html']
    """
    require_packages("a report")
    if not study.fits:
        raise ValueError("no fit of this study is finished, so there is nothing to report yet.")
    with new_page(path) as stream:
        template = files("skimbal.study").joinpath("report.html.jinja").read_text("utf-8")
        context = _context(study) | {"commands": commands}
        stream.write(render_page(template, study.versions["skimbal"], context))


def _context(study: Study) -> dict[str, Any]:
    """Return the values of the template."""
    score = study.title()
    of_classes = study.class_scores()
    others = [
        name for name in study.score_names if name not in (*of_classes.values(), study.scoring)
    ]
    lower = [study.title(name) for name in others if not study.greater_is_better(name)]
    best = study.best
    estimates = study.estimates()
    has_spread = any(estimate.n_fits > 1 for estimate in estimates)
    has_intervals = not all(math.isnan(estimate.low) for estimate in estimates)
    n_comparisons = len(study.differences())
    return {
        "score": score,
        "score_title": score[:1].upper() + score[1:],
        "description": write_description(study),
        "conclusions": draw_conclusions(study),
        "data": study.data,
        "ranking": _without_empty_columns(make_ranking_table(study)),
        "ranking_caption": _ranking_caption(study, has_intervals, n_comparisons),
        "others": make_scores_table(study, others),
        "lower_is_better": " and ".join(lower),
        "by_class": list(_class_tables(study, of_classes)),
        "best": (best.loss, best.sampler),
        "code": write_code(study, best.loss, best.sampler),
        "confirm": confirm_in_words(study),
        "facts": _facts(study),
        "has_spread": has_spread,
        "has_intervals": has_intervals,
        "has_test_set": study.has_test_set,
        "n_comparisons": n_comparisons,
        "pictures": draw_pictures(study),
    }


def _ranking_caption(study: Study, has_intervals: bool, n_comparisons: int) -> str:
    better = "Higher" if study.greater_is_better(study.scoring) else "Lower"
    sentences = [f"{better} is better."]
    if has_intervals:
        sentences.append("Mean ± standard deviation over fits, with the 95 % interval of the mean.")
    if n_comparisons:
        sentences.append("Differences are to the reference at the same sampling, on the same rows.")
    return " ".join(sentences)


def _without_empty_columns(rows: list[list[str]]) -> list[list[str]]:
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [list(row) for row in zip(*columns, strict=True)]


def _class_tables(study: Study, of_classes: dict[str, str]) -> Iterator[list[list[str]]]:
    """Yield tables of the F1 of each class, all of about as many classes."""
    n_tables = math.ceil(len(of_classes) / _MOST_CLASSES)
    for pairs in np.array_split(np.array(list(of_classes.items())), n_tables):
        names, scores = pairs.T.tolist()
        rows = make_scores_table(study, scores)
        yield [[*rows[0][:2], *names], *rows[1:]]


def _facts(study: Study) -> list[tuple[str, str]]:
    """Return the facts that are needed to repeat the study."""

    def span(field: str) -> str:
        values = [getattr(fit, field) for fit in study.fits]
        low, high = min(values), max(values)
        return f"{low}" if low == high else f"{low} to {high}"

    seconds = sum(fit.fit_time + fit.score_time for fit in study.fits)
    n_fits = f"{len(study.fits)} of {study.n_planned}, {study.n_splits} for each configuration"
    return [
        ("Choice of the test rows", study.splitting),
        ("Seed", str(study.seed)),
        ("Fits", n_fits),
        ("Training rows of a fit", span("n_train")),
        ("Test rows of a fit", span("n_test")),
        ("Epochs of a fit", span("n_epochs")),
        ("Gradient steps of a fit", span("n_steps")),
        ("Time of the fits", f"{format_duration(seconds)}, added up"),
        ("Versions", ", ".join(f"{name} {number}" for name, number in study.versions.items())),
    ]
