"""The evaluation of a classifier on images that it has not seen."""

import csv
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from skimbal.evaluation.bootstrap import Bootstrap, Units
from skimbal.evaluation.checks import (
    Rows,
    add_predictions,
    check_bootstrap,
    check_classes,
    check_labels,
    check_pool,
)
from skimbal.evaluation.decisions import (
    ARGMAX,
    BALANCED,
    PREDICT,
    DecisionsLike,
    Rule,
    check_decisions,
    decide,
    decide_by_prior,
    rule_of_classifier,
)
from skimbal.evaluation.models import describe_model, predicts_by_argmax
from skimbal.evaluation.notes import write_notes
from skimbal.evaluation.operating import OperatingPoint
from skimbal.evaluation.patients import pool_rows
from skimbal.evaluation.report import write_report
from skimbal.evaluation.results import Level, ScoreEstimate, score_level
from skimbal.evaluation.scored import Scored
from skimbal.evaluation.words import write_summary
from skimbal.evaluation.worst import find_worst_errors
from skimbal.exceptions import import_optional
from skimbal.habits import explains_names
from skimbal.reports import new_page
from skimbal.typing import ArrayLike, Classifier, ImagesLike, PathLike, RandomState

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evaluation", "evaluate", "evaluate_predictions"]


@dataclass(eq=False, repr=False)
class Evaluation(Scored):
    """Scores of a classifier on images, with their intervals.

    Use :func:`evaluate` or :func:`evaluate_predictions` to make an evaluation.

    Parameters
    ----------
    classifier : str
        Name of the classifier.
    images : Level
        Labels, probabilities and decisions of the images.
    patients : Level or None
        The same of the patients, or None without them.
    pool : {"mean", "max"} or None
        How the probabilities of a patient came from those of the images.
    scores : list of ScoreEstimate
        All scores.
    operating_points : list of OperatingPoint
        Thresholds of each class with a sensitivity of 0.9 and of 0.95, with intervals.
    notes : list of str
        Sentences that name the limits of the numbers.
    worst : list of WorstError
        The errors with the highest probabilities of the predicted class, twelve at most.
    facts : list of (str, str)
        Facts of the classifier, each with its name.
    n_bootstraps : int
        Number of bootstrap samples, dimensionless.
    confidence_level : float
        Confidence level of the intervals, dimensionless.
    seed : int
        Seed of the bootstrap.
    bootstrap_unit : {"images", "patients"}
        The things that are drawn.
    stratify : bool
        Whether each sample has as many of them in each class as there are.

    See Also
    --------
    skimbal.displays.ClassScoresDisplay : A picture of the F1 of each class.

    Examples
    --------
    >>> from skimbal.evaluation import evaluate_predictions
    >>> proba = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]]
    >>> y = ["healthy", "healthy", "healthy", "ill", "ill", "ill"]
    >>> evaluation = evaluate_predictions(y, proba, ["healthy", "ill"], random_state=0)
    >>> row = evaluation.find("sensitivity", "ill")
    >>> row.n, round(row.value, 3)
    (3, 0.667)
    """

    def summary(self) -> str:
        """Write the scores and notes as text.

        Returns
        -------
        text : str
            Tables and sentences in lines of at most 80 characters. Long names lose their middle.
        """
        return write_summary(self)

    def to_frame(self) -> "pd.DataFrame":
        """Return all scores as a table.

        Returns
        -------
        frame : pandas.DataFrame
            One row for each score, with the fields of :class:`ScoreEstimate` as columns.

        Raises
        ------
        ImportError
            If pandas is missing: ``pip install pandas``.
        """
        pandas = import_optional("pandas", "to_frame", "study")
        frame: pd.DataFrame = pandas.DataFrame([row._asdict() for row in self.scores])
        return frame

    def to_csv(self, path: PathLike) -> None:
        """Write the table of :meth:`to_frame` as a csv file, without pandas.

        Parameters
        ----------
        path : str or path-like
            The file, in UTF-8. An existing file is replaced when the new file is complete. Scores
            that do not exist are empty.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        stream = io.StringIO(newline="")
        writer = csv.writer(stream)
        writer.writerow(self.scores[0]._asdict())
        for row in self.scores:
            writer.writerow("" if value != value else value for value in row)
        with new_page(path) as file:
            file.write(stream.getvalue().encode())

    def to_html(self, path: PathLike) -> None:
        """Write a report as one HTML file with tables, pictures and the worst errors.

        The file loads nothing from elsewhere and runs no scripts.

        Parameters
        ----------
        path : str or path-like
            The file. An existing file is replaced when the new file is complete.

        Raises
        ------
        ImportError
            If jinja2 or matplotlib is missing: ``pip install jinja2 matplotlib``.
        OSError
            If the path is a folder, its folder does not exist, or no file can be written there.
        """
        write_report(self, path)


@explains_names
def evaluate(
    clf: Classifier,
    X: ImagesLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    pool: str | None = "mean",
    decisions: DecisionsLike = None,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    stratify: bool = False,
    random_state: RandomState = None,
) -> Evaluation:
    """Score a fitted classifier on images that it has not seen.

    Parameters
    ----------
    clf : estimator instance
        A fitted classifier of scikit-learn with ``predict_proba``, such as a
        :class:`~skimbal.CNN2DClassifier`, a pipeline or a ``CalibratedClassifierCV``.
    X : array-like of shape (n_samples, ...)
        Images as the classifier takes them.
    y : array-like of shape (n_samples,)
        True labels, among the classes of the classifier.
    groups : array-like of shape (n_samples,), default=None
        Patient of each image. All scores are computed once more for patients, and the intervals are
        over patients. If None, each image counts as independent.
    pool : {"mean", "max"} or None, default="mean"
        How the probabilities of a patient come from those of the images: their mean, or their
        maximum in each class, divided by the sum over the classes. If None, patients have no scores
        of their own, and the intervals are still over patients.
    decisions : mapping of str to callable or array-like, default=None
        Further rules of decision by name: functions of probabilities of shape (n, n_classes) that
        return a label for each row, or offsets of shape (n_classes,) that are added to the natural
        logarithms of the probabilities. The rules of every evaluation are ``"predict"`` (the
        classifier's own), ``"argmax"`` where it differs, and ``"balanced prior"``.
    n_bootstraps : int, default=1000
        Number of bootstrap samples, dimensionless. 0 leaves out the intervals.
    confidence_level : float, default=0.95
        Confidence level of the intervals, dimensionless, in (0, 1).
    stratify : bool, default=False
        Whether each bootstrap sample has as many images of each class as there are, or as many
        patients with ``groups``. True is for test sets whose numbers of each class were chosen,
        such as 100 cases and 100 controls. The default is for test sets whose shares of the classes
        are chance, such as the images of a month. With True, intervals of precision, NPV and F1 are
        too short for these.
    random_state : int, RandomState instance or None, default=None
        Seed of the bootstrap.

    Returns
    -------
    evaluation : Evaluation
        The scores.

    Raises
    ------
    TypeError
        If ``clf`` has no ``predict_proba``.
    sklearn.exceptions.NotFittedError
        If ``clf`` is not fitted.
    ValueError
        If a label is not among the classes, a group is missing, the lengths differ, the images of a
        patient have different labels and ``pool`` is not None or ``stratify`` is True, or another
        parameter cannot be used.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> from skimbal.evaluation import evaluate
    >>> data = load_imbalanced_digits()
    >>> clf = LogisticRegression().fit(data.X_train.reshape(len(data.X_train), -1), data.y_train)
    >>> X_test = data.X_test.reshape(len(data.X_test), -1)
    >>> evaluation = evaluate(clf, X_test, data.y_test, n_bootstraps=100, random_state=0)
    >>> [row.class_name for row in evaluation.scores if row.score == "roc_auc"]
    ['0', '1', '2']
    """
    if not hasattr(clf, "predict_proba"):
        raise TypeError(f"clf must be a fitted classifier with predict_proba; got {clf!r}.")
    check_is_fitted(clf)
    rules = _check_parameters(pool, decisions, clf.classes_)
    bootstrap = _make_bootstrap(n_bootstraps, confidence_level, stratify, random_state)
    labels = check_labels("y", y, clf.classes_, groups, pool)
    units = Units(labels.truth, labels.patient, stratify)
    if not isinstance(X, str | os.PathLike):  # a folder has no length
        check_consistent_length(X, labels.truth)
    proba = clf.predict_proba(X)
    if len(proba) != len(labels):
        raise ValueError(
            f"y must have a label for each image; got {len(labels)} labels and {len(proba)} images."
        )
    y_pred = None if predicts_by_argmax(clf) else clf.predict(X)
    rows = add_predictions(labels, proba, y_pred)
    return _evaluate(clf, X, rows, pool, rules, units, bootstrap)


@explains_names
def evaluate_predictions(
    y_true: ArrayLike,
    proba: ArrayLike,
    classes: ArrayLike,
    *,
    y_pred: ArrayLike | None = None,
    X: ImagesLike | None = None,
    groups: ArrayLike | None = None,
    pool: str | None = "mean",
    decisions: DecisionsLike = None,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    stratify: bool = False,
    random_state: RandomState = None,
) -> Evaluation:
    """Score probabilities that come from elsewhere, such as a file or another program.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, among ``classes``.
    proba : array-like of shape (n_samples, n_classes)
        Probability of each class, dimensionless. Rows that do not sum to 1 within 0.01 are refused.
    classes : array-like of shape (n_classes,)
        Labels of the columns of ``proba``.
    y_pred : array-like of shape (n_samples,), default=None
        Predicted labels. If None, the most probable class.
    X : array-like of shape (n_samples, ...), default=None
        Images or paths, for the pictures of the worst errors. If None, they have no pictures.
    groups : array-like of shape (n_samples,), default=None
        Patient of each row, as in :func:`evaluate`.
    pool : {"mean", "max"} or None, default="mean"
        As in :func:`evaluate`.
    decisions : mapping of str to callable or array-like, default=None
        As in :func:`evaluate`.
    n_bootstraps : int, default=1000
        As in :func:`evaluate`.
    confidence_level : float, default=0.95
        As in :func:`evaluate`, in (0, 1).
    stratify : bool, default=False
        As in :func:`evaluate`.
    random_state : int, RandomState instance or None, default=None
        As in :func:`evaluate`.

    Returns
    -------
    evaluation : Evaluation
        The scores.

    Raises
    ------
    ValueError
        As in :func:`evaluate`, and if ``proba`` holds other numbers than probabilities.

    Examples
    --------
    >>> from skimbal.evaluation import evaluate_predictions
    >>> proba = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]]
    >>> evaluation = evaluate_predictions(
    ...     [0, 1, 1, 1], proba, [0, 1], groups=["A", "B", "B", "C"], random_state=0
    ... )
    >>> evaluation.find("accuracy").value, evaluation.find("accuracy", level="patients").value
    (0.75, 1.0)
    """
    rules = _check_parameters(pool, decisions, classes)
    bootstrap = _make_bootstrap(n_bootstraps, confidence_level, stratify, random_state)
    labels = check_labels("y_true", y_true, classes, groups, pool)
    units = Units(labels.truth, labels.patient, stratify)
    if X is not None:
        check_consistent_length(X, labels.truth)
    rows = add_predictions(labels, proba, y_pred)
    return _evaluate(None, X, rows, pool, rules, units, bootstrap)


def _check_parameters(
    pool: str | None, decisions: DecisionsLike, classes: ArrayLike
) -> dict[str, Rule]:
    """Refuse parameters before any image is predicted, and return the rules of the user."""
    check_pool(pool)
    return check_decisions(decisions, check_classes(classes))


def _make_bootstrap(
    n_bootstraps: int, confidence_level: float, stratify: bool, random_state: RandomState
) -> Bootstrap:
    check_bootstrap(n_bootstraps, confidence_level, stratify)
    return Bootstrap(n_bootstraps, confidence_level, bool(stratify), _make_seed(random_state))


def _evaluate(
    clf: Classifier | None,
    X: ImagesLike | None,
    rows: Rows,
    pool: str | None,
    rules: dict[str, Rule],
    units: Units,
    bootstrap: Bootstrap,
) -> Evaluation:
    """Score checked rows, and patients if there are groups and a rule of pooling."""
    rule = rule_of_classifier(clf, rows)
    is_argmax = np.array_equal(rows.decided, rows.proba.argmax(1))
    levels: list[Level] = []
    scores: list[ScoreEstimate] = []
    points: list[OperatingPoint] = []
    pooled = None if rows.patient is None or pool is None else pool_rows(rows, pool)
    for name, some in (("images", rows), ("patients", pooled)):
        if some is None:
            continue
        decided = _decide(name, some, rule, is_argmax, rules)
        of_level = units if some is rows else Units(some.truth, stratify=bootstrap.stratify)
        of_classes, thresholds = score_level(name, some, decided, of_level, bootstrap)
        scores += of_classes
        points += thresholds
        ids = rows.patient_of_row if some is rows else rows.patients
        levels.append(_make_level(name, some, decided, ids))
    return Evaluation(
        classifier="Predictions" if clf is None else type(clf).__name__,
        images=levels[0],
        patients=levels[1] if len(levels) == 2 else None,
        pool=None if pooled is None else pool,
        scores=scores,
        operating_points=points,
        notes=write_notes(levels, rows, units, scores, points, bootstrap),
        worst=find_worst_errors(clf, X, rows),
        facts=describe_model(clf),
        n_bootstraps=bootstrap.n_samples,
        confidence_level=bootstrap.confidence_level,
        seed=bootstrap.seed,
        bootstrap_unit="images" if rows.patient is None else "patients",
        stratify=bootstrap.stratify,
    )


def _decide(
    level: str, rows: Rows, rule: Rule | None, is_argmax: bool, rules: dict[str, Rule]
) -> dict[str, np.ndarray]:
    """Return the numbers of the classes that each rule decides for."""
    decided = {}
    if level == "images":
        decided[PREDICT] = rows.decided
    elif rule is not None:
        decided[PREDICT] = decide(PREDICT, rule, rows)
    if not is_argmax:
        decided[ARGMAX] = rows.proba.argmax(1)
    balanced = decide_by_prior(rows)
    if balanced is not None:
        decided[BALANCED] = balanced
    return decided | {name: decide(name, function, rows) for name, function in rules.items()}


def _make_level(
    name: str, rows: Rows, decided: dict[str, np.ndarray], ids: np.ndarray | None
) -> Level:
    labels = {rule: rows.classes[codes] for rule, codes in decided.items()}
    return Level(name, rows.classes[rows.truth], rows.proba, labels, rows.classes, ids)


def _make_seed(random_state: RandomState) -> int:
    """Return a seed that can be written down. The global generator stays unchanged."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    check_random_state(random_state)
    return int(random_state)
