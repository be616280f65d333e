"""An evaluation as one HTML file that is complete in itself."""

from importlib.resources import files
from typing import Any

import numpy as np

from skimbal.evaluation.decisions import ARGMAX, BALANCED, PREDICT
from skimbal.evaluation.pictures import (
    MOST_SHARES,
    N_BINS,
    draw_pictures,
    draw_worst,
    drawn_classes,
)
from skimbal.evaluation.results import Level
from skimbal.evaluation.scored import Scored
from skimbal.evaluation.words import (
    make_class_table,
    make_overall_table,
    make_rules_table,
    make_thresholds_table,
    write_description,
    write_estimate,
    write_method,
    write_number,
)
from skimbal.reports import new_page, render_page, require_packages
from skimbal.study.results import package_versions
from skimbal.typing import PathLike
from skimbal.wording import plural

__all__ = ["write_report"]

#: Scores of a class that stand beside each other, so that a line fits on a page.
_PARTS = (
    ("sensitivity", "specificity", "precision", "npv"),
    ("f1", "roc_auc", "average_precision"),
)
#: Most errors and patients that a table lists.
_MOST_LISTED = 20
_POOLING = {
    "mean": "The probabilities of a patient are the means over the images of the patient.",
    "max": "The probabilities of a patient are the maxima over the images of the patient, divided "
    "by their sum.",
}
_RULES = {
    PREDICT: "the rule by which the classifier predicts.",
    ARGMAX: "the most probable class.",
    BALANCED: "the largest probability divided by the share of the class in these rows.",
}


def write_report(evaluation: Scored, path: PathLike) -> None:
    """Write the report, or raise before anything is drawn."""
    require_packages("a report")
    with new_page(path) as stream:
        template = files("skimbal.evaluation").joinpath("report.html.jinja").read_text("utf-8")
        versions = package_versions()
        page = render_page(template, versions["skimbal"], _context(evaluation, versions))
        stream.write(page)


def _context(evaluation: Scored, versions: dict[str, str]) -> dict[str, Any]:
    """Return the values of the template."""
    pictures = draw_pictures(evaluation)
    errors = draw_worst(evaluation.worst)
    views = [error.view for error in evaluation.worst if error.view is not None]
    images, n_classes = evaluation.images, len(evaluation.class_names)
    rules = dict.fromkeys(name for level in evaluation.levels for name in level.decisions)
    levels = [_of_level(evaluation, level, pictures[level.name]) for level in evaluation.levels]
    return {
        "title": f"Evaluation of {evaluation.classifier}",
        "description": write_description(evaluation),
        "contents": _contents(evaluation),
        "results": _write_results(evaluation),
        "method": write_method(evaluation),
        "overall": make_overall_table(evaluation),
        "counts": _count_rows(evaluation),
        "has_patients": evaluation.patients is not None,
        "levels": levels,
        "n_classes": n_classes,
        "has_shares": n_classes <= MOST_SHARES,
        "n_bins": N_BINS,
        "rules": [(name, _RULES.get(name, "a rule that the user passed.")) for name in rules],
        "errors": errors,
        "n_wrong": int((images.y_true != images.y_pred).sum()),
        "has_views": bool(views),
        "is_wide": any(view.shape[1] > 2 * view.shape[0] for view in views),
        "facts": _facts(evaluation, versions),
        "notes": evaluation.notes,
        "has_intervals": evaluation.n_bootstraps > 0,
        "has_exact": any(row.interval == "exact" for row in evaluation.scores),
        "draws_patients": evaluation.bootstrap_unit == "patients",
        "unit": evaluation.bootstrap_unit,
        "stratify": evaluation.stratify,
    }


def _contents(evaluation: Scored) -> list[tuple[str, str]]:
    return [
        ("results", "Results"),
        ("data", "Data"),
        *((level.name, level.name.capitalize()) for level in evaluation.levels),
        ("decisions", "Decisions"),
        ("errors", "Worst errors"),
        ("method", "How it was computed"),
    ]


def _write_results(evaluation: Scored) -> list[str]:
    """Say the main scores in sentences, of patients first."""
    sentences = []
    for level in reversed(evaluation.levels):
        found = {
            score: evaluation.find(score, level=level.name)
            for score in ("balanced_accuracy", "matthews_corrcoef", "roc_auc_ovr")
        }
        sentences.append(
            f"{level.name.capitalize()}: balanced accuracy "
            f"{write_estimate(found['balanced_accuracy'])}, "
            f"MCC {write_estimate(found['matthews_corrcoef'])}, "
            f"AUC {write_estimate(found['roc_auc_ovr'])}."
        )
        of_classes = [
            evaluation.find("sensitivity", name, level=level.name)
            for name in evaluation.class_names
        ]
        present = [row for row in of_classes if not np.isnan(row.value)]
        least = min(present, key=lambda row: row.value)
        sentences.append(
            f"{level.name.capitalize()}: the lowest sensitivity of a class is "
            f"{write_estimate(least)}, for {least.class_name} ({least.n:,} {level.name})."
        )
    return sentences


def _count_rows(evaluation: Scored) -> list[list[str]]:
    """Lay out the number of rows of each class, and of the decisions for it."""
    rows = [["class"]]
    columns: list[np.ndarray] = []
    for level in evaluation.levels:
        rows[0] += [level.name, "share"]
        columns += [(level.y_true[:, None] == level.classes).sum(0)]
    rows[0].append("taken for it")
    taken = (evaluation.images.y_pred[:, None] == evaluation.classes).sum(0)
    for number, name in enumerate(evaluation.class_names):
        cells = [name]
        for counts in columns:
            cells += [f"{counts[number]:,}", f"{100 * counts[number] / counts.sum():.1f} %"]
        rows.append([*cells, f"{taken[number]:,}"])
    return rows


def _of_level(evaluation: Scored, level: Level, pictures: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the template for the images or the patients."""
    n_wrong = int((level.y_true != level.y_pred).sum())
    wrong = _list_wrong(evaluation, level)
    return {
        "name": level.name,
        "rule": level.rule,
        "pooling": _POOLING[evaluation.pool or "mean"] if level.name == "patients" else "",
        "by_class": [make_class_table(evaluation, level.name, scores) for scores in _PARTS],
        "pictures": {"roc": None, **pictures},
        "confused": _list_confusions(evaluation, level) if len(level.classes) > 2 else [],
        "n_curves": len(drawn_classes(level)),
        "rules": make_rules_table(evaluation, level.name),
        "thresholds": make_thresholds_table(evaluation, level.name),
        "wrong": wrong,
        "wrong_caption": f"{len(wrong) - 1} of {n_wrong} wrong patients, the most certain first.",
    }


def _list_confusions(evaluation: Scored, level: Level) -> list[list[str]]:
    """Lay out the most frequent pairs of a true and another class."""
    matrix = evaluation.confusion_matrix(level.name)
    errors = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    rows = [["true", "taken for", level.name, "share of the true class"]]
    for place in np.argsort(-errors, axis=None, kind="stable")[:10]:
        true, other = np.unravel_index(place, errors.shape)
        n = errors[true, other]
        if n:
            share = 100 * n / matrix[true].sum()
            names = evaluation.class_names
            rows.append([names[true], names[other], f"{n:,}", f"{share:.1f} %"])
    return rows


def _list_wrong(evaluation: Scored, level: Level) -> list[list[str]]:
    """Lay out the patients that were decided wrong, the most certain first."""
    rows = [["patient", "images", "true", "taken for", "probability", "of the true class"]]
    if level.name != "patients" or level.ids is None or evaluation.images.ids is None:
        return rows
    codes = {label: code for code, label in enumerate(level.classes.tolist())}
    wrong = np.flatnonzero(level.y_true != level.y_pred)
    true, given = (
        np.array([codes[label] for label in labels[wrong].tolist()], dtype=int)
        for labels in (level.y_true, level.y_pred)
    )
    sure = level.proba[wrong, given]
    for place in np.argsort(-sure, kind="stable")[:_MOST_LISTED]:
        patient = wrong[place]
        n_images = int((evaluation.images.ids == level.ids[patient]).sum())
        names = evaluation.class_names
        rows.append(
            [
                str(level.ids[patient]),
                f"{n_images:,}",
                names[true[place]],
                names[given[place]],
                write_number(sure[place]),
                write_number(level.proba[patient, true[place]]),
            ]
        )
    return rows


def _facts(evaluation: Scored, versions: dict[str, str]) -> list[tuple[str, str]]:
    """Return the facts of the classifier and of the computation."""
    n_bootstraps = evaluation.n_bootstraps
    by_class = " of each class" if evaluation.stratify else ""
    drawn = f"{n_bootstraps:,} of {evaluation.bootstrap_unit}{by_class}, seed {evaluation.seed}"
    return [
        *evaluation.facts,
        ("Classes in these rows", _write_counts(evaluation)),
        ("Bootstrap samples", drawn if n_bootstraps else "none"),
        ("Versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
    ]


def _write_counts(evaluation: Scored) -> str:
    """Say how many images and patients of each class there are."""
    images, words = evaluation.images, []
    for name, label in zip(evaluation.class_names, evaluation.classes.tolist(), strict=True):
        is_class = images.y_true == label
        of_patients = ""
        if images.ids is not None:
            of_patients = f" of {plural(len(np.unique(images.ids[is_class])), 'patient')}"
        n_images = plural(int(is_class.sum()), "image")
        words.append(f"{name} {n_images}{of_patients} ({100 * is_class.mean():.1f} %)")
    return ", ".join(words)
