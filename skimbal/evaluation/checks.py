"""Checks of labels, probabilities and patients before any score is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.utils import column_or_1d

from skimbal.classifiers.containers import as_array
from skimbal.classifiers.inputs import check_groups
from skimbal.exceptions import ParameterError
from skimbal.typing import ArrayLike, is_integer, is_number
from skimbal.wording import plural

__all__ = [
    "Labels",
    "Rows",
    "add_predictions",
    "check_bootstrap",
    "check_classes",
    "check_codes",
    "check_labels",
    "check_pool",
    "check_probabilities",
    "listed",
]

#: Greatest error of a probability by rounding to two digits.
_ROUNDING = 0.005
#: Rows and names that an error lists.
_MOST_NAMED = 5


@dataclass(frozen=True, eq=False)
class Labels:
    """Rows with the numbers of their true classes.

    ``patient`` is the number of the patient of each row, and ``patients`` has the names.
    """

    classes: np.ndarray
    truth: np.ndarray
    patient: np.ndarray | None = None
    patients: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.truth)

    @property
    def names(self) -> list[str]:
        """Classes as text."""
        return [str(label) for label in self.classes.tolist()]

    @property
    def patient_of_row(self) -> np.ndarray | None:
        """Name of the patient of each row."""
        known = self.patient is not None and self.patients is not None
        return self.patients[self.patient] if known else None  # type: ignore[index]


@dataclass(frozen=True, eq=False, kw_only=True)
class Rows(Labels):
    """Rows with the probabilities of the classes and the number of the class decided for.

    ``least`` is the smallest probability that the log-loss takes.
    """

    proba: np.ndarray
    decided: np.ndarray
    least: float


def listed(items: Sequence[object]) -> str:
    """List some items, and the number of the others."""
    shown = ", ".join(map(str, items[:_MOST_NAMED]))
    n_others = len(items) - _MOST_NAMED
    return f"{shown} and {plural(n_others, 'other')}" if n_others > 0 else shown


def check_labels(
    name: str, y: ArrayLike, classes: ArrayLike, groups: ArrayLike | None, pool: str | None
) -> Labels:
    """Check all that is known before the rows are predicted. ``name`` is the name of ``y``."""
    labels = check_classes(classes)
    truth = check_codes(name, y, labels)
    of_rows = check_groups(truth, groups)
    if of_rows is None:
        return Labels(labels, truth)
    patients, patient = np.unique(of_rows, return_inverse=True)
    if pool is not None:
        _refuse_mixed(truth, patient, patients)
    return Labels(labels, truth, patient, patients)


def _refuse_mixed(truth: np.ndarray, patient: np.ndarray, patients: np.ndarray) -> None:
    """Refuse patients whose images have different labels."""
    of_patient = np.zeros(len(patients), truth.dtype)
    of_patient[patient] = truth
    mixed = np.unique(patient[truth != of_patient[patient]])
    if len(mixed):
        raise ValueError(
            f"groups must have one class each, so that a patient has a class; got images of "
            f"different classes of {plural(len(mixed), 'patient')}: "
            f"{listed(patients[mixed].tolist())}. Correct the labels, or pass pool=None, which "
            "leaves out the scores of patients and keeps the intervals over patients."
        )


def add_predictions(labels: Labels, proba: ArrayLike, y_pred: ArrayLike | None) -> Rows:
    """Check predictions. Without labels that are predicted, the most probable class is."""
    n = len(labels.truth)
    probabilities, least = check_probabilities(proba, labels.classes, n)
    if y_pred is None:
        decided = probabilities.argmax(1)
    else:
        decided = check_codes("y_pred", y_pred, labels.classes, n)
    return Rows(
        labels.classes,
        labels.truth,
        labels.patient,
        labels.patients,
        proba=probabilities,
        decided=decided,
        least=least,
    )


def check_classes(classes: ArrayLike) -> np.ndarray:
    """Return distinct labels, at least two."""
    labels: np.ndarray = np.asarray(column_or_1d(as_array(classes, "classes")))
    # Scores are found by the text of a class.
    if len(labels) < 2 or len(set(map(str, labels.tolist()))) < len(labels):
        raise ParameterError(
            "classes",
            "at least two labels that differ as text, in the order of the columns of proba",
            labels.tolist(),
        )
    return labels


def check_codes(name: str, y: ArrayLike, classes: np.ndarray, n: int | None = None) -> np.ndarray:
    """Return the number of the class of each row, and refuse all other labels by name."""
    labels: np.ndarray = np.asarray(column_or_1d(as_array(y, name)))
    if n is not None and len(labels) != n:
        raise ValueError(f"{name} must have {plural(n, 'label')}, one a row; got {len(labels)}.")
    if not len(labels):
        raise ParameterError(name, "an array of at least one label", labels.tolist())
    code_of = {label: code for code, label in enumerate(classes.tolist())}
    given = labels.tolist()
    unknown = list(dict.fromkeys(label for label in given if label not in code_of))
    if unknown:
        rows = [row for row, label in enumerate(given) if label not in code_of]
        raise ValueError(
            f"{name} must hold labels among the classes {classes.tolist()}; got "
            f"{listed([repr(label) for label in unknown])} in {plural(len(rows), 'row')}, first in "
            f"row {rows[0]}. {_remedy(unknown, classes)}"
        )
    return np.array([code_of[label] for label in given], dtype=np.intp)


def _remedy(unknown: list[object], classes: np.ndarray) -> str:
    texts = {str(label) for label in classes.tolist()}
    if all(str(label) in texts for label in unknown):
        return "They differ in their type only. Give labels of the type of the classes."
    return "The classifier cannot be right on these rows. Correct the labels, or drop the rows."


def check_probabilities(proba: ArrayLike, classes: np.ndarray, n: int) -> tuple[np.ndarray, float]:
    """Return probabilities in float64 with sum 1, and the least that the log-loss takes."""
    given: np.ndarray = np.asarray(as_array(proba, "proba"))
    if given.shape != (n, len(classes)):
        remedy = (
            "Give both columns: np.column_stack([1 - p, p])."
            if given.ndim == 1
            else "Give a row for each label, and a column for each class."
        )
        expected = f"an array of shape ({n}, {len(classes)}), a column for each of the classes"
        raise ParameterError("proba", f"{expected} {classes.tolist()}", given.shape, remedy)
    try:
        values = given.astype(np.float64)
    except (TypeError, ValueError):
        raise ParameterError("proba", "an array of numbers", given.dtype) from None
    sums, most = values.sum(1), _ROUNDING * len(classes) + 1e-9
    for fault, is_bad in (
        ("finite numbers", ~np.isfinite(values).all(1)),
        ("probabilities in [0, 1]", ((values < 0) | (values > 1 + 1e-6)).any(1)),
        ("probabilities that sum to 1 in each row", abs(sums - 1) > most),
    ):
        bad = np.flatnonzero(is_bad)
        if len(bad):
            raise ValueError(
                f"proba must hold {fault}; got {values[bad[0]].tolist()} in row {bad[0]} "
                f"({plural(len(bad), 'such row')}). Give the output of predict_proba."
            )
    least = np.finfo(given.dtype if given.dtype.kind == "f" else np.float64).eps
    # Rounding of the last digit stays, so that thresholds of the classifier find the same rows.
    values = np.where(abs(sums - 1)[:, None] > 1e-6, values / sums[:, None], values)
    return values, float(least)


def check_pool(pool: object) -> None:
    """Refuse a rule of pooling that is not known."""
    if pool not in ("mean", "max", None):
        raise ParameterError("pool", "'mean', 'max' or None", pool)


def check_bootstrap(n_bootstraps: object, confidence_level: object, stratify: object) -> None:
    """Refuse a number of samples, a level or a choice that gives no intervals."""
    if not is_integer(n_bootstraps) or n_bootstraps < 0:
        raise ParameterError(
            "n_bootstraps", "an integer of at least 0", n_bootstraps, "0 leaves out the intervals."
        )
    if not is_number(confidence_level) or not 0 < confidence_level < 1:
        raise ParameterError(
            "confidence_level", "a number between 0 and 1, both excluded", confidence_level
        )
    if not isinstance(stratify, bool | np.bool_):
        raise ParameterError("stratify", "True or False", stratify)
