"""Rules that decide for a class from probabilities."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV

from skimbal.evaluation.checks import Rows, check_codes
from skimbal.exceptions import ParameterError
from skimbal.thresholds import CostMatrixClassifier, TunedOffsetsClassifierCV
from skimbal.typing import ArrayLike

__all__ = [
    "ARGMAX",
    "BALANCED",
    "PREDICT",
    "DecisionsLike",
    "Rule",
    "check_decisions",
    "decide_by_prior",
    "rule_of_classifier",
]

#: A function of probabilities of shape (n, K) that returns a label for each row.
Rule: TypeAlias = Callable[[np.ndarray], ArrayLike]
DecisionsLike: TypeAlias = Mapping[str, Rule | ArrayLike] | None

#: Names of the rules of every evaluation.
PREDICT, ARGMAX, BALANCED = "predict", "argmax", "balanced prior"


def check_decisions(decisions: DecisionsLike, classes: np.ndarray) -> dict[str, Rule]:
    """Return the rules of the user as functions, by name."""
    if decisions is None:
        return {}
    if not isinstance(decisions, Mapping):
        raise ParameterError(
            "decisions",
            "a mapping of names to functions of probabilities or to offsets of log-probabilities",
            decisions,
        )
    for name in decisions:
        if not isinstance(name, str) or not name or name in (PREDICT, ARGMAX, BALANCED):
            taken = ", ".join(map(repr, (PREDICT, ARGMAX, BALANCED)))
            expected = f"a mapping whose keys are text, other than {taken}"
            raise ParameterError("decisions", expected, name)
    return {
        name: rule if callable(rule) else _rule_of_offsets(name, rule, classes)
        for name, rule in decisions.items()
    }


def _rule_of_offsets(name: str, offsets: ArrayLike, classes: np.ndarray) -> Rule:
    try:
        values = np.asarray(offsets, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != classes.shape or not np.isfinite(values).all():
        raise ParameterError(
            f"decisions[{name!r}]",
            f"a function, or a finite offset for each of the classes {classes.tolist()}",
            offsets,
        )
    return lambda proba: classes[_shifted(proba, values)]


def _shifted(proba: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the number of the class whose log-probability with its offset is the largest."""
    with np.errstate(divide="ignore"):
        best: np.ndarray = (np.log(proba) + offsets).argmax(1)
    return best


def decide(name: str, rule: Rule, rows: Rows) -> np.ndarray:
    """Return the number of the class that a rule decides for."""
    return check_codes(
        f"the labels of decisions[{name!r}]", rule(rows.proba.copy()), rows.classes, len(rows)
    )


def decide_by_prior(rows: Rows) -> np.ndarray | None:
    """Decide by probabilities over the shares of the classes in the rows, if all are present."""
    shares = np.bincount(rows.truth, minlength=len(rows.classes)) / len(rows)
    return _shifted(rows.proba, -np.log(shares)) if shares.all() else None


def rule_of_classifier(clf: object, rows: Rows) -> Rule | None:
    """Return the rule by which a classifier predicts, if it is known and gives its predictions."""
    classes = rows.classes
    # The classifier's own rule comes first: on few images, others often decide the same.
    rules: list[Rule] = [
        *_own_rules(_predicting(clf), classes),
        lambda proba: classes[proba.argmax(1)],
    ]
    decided = classes[rows.decided]
    return next((rule for rule in rules if np.array_equal(rule(rows.proba), decided)), None)


def _predicting(clf: object) -> object:
    """Return the classifier that decides, in a search or at the end of a pipeline."""
    while True:
        steps = getattr(clf, "steps", None)
        inner = steps[-1][1] if steps else getattr(clf, "best_estimator_", None)
        if inner is None:
            return clf
        clf = inner


def _own_rules(clf: object, classes: np.ndarray) -> list[Rule]:
    """Return the rules that a classifier may decide by, if it decides by its probabilities."""
    if getattr(clf, "response_method", "auto") == "decision_function":
        return []
    if isinstance(clf, FixedThresholdClassifier | TunedThresholdClassifierCV):
        is_tuned = isinstance(clf, TunedThresholdClassifierCV)
        threshold = clf.best_threshold_ if is_tuned else clf.threshold
        least = 0.5 if threshold == "auto" else threshold
        # A tuned threshold tells its class by its decisions only.
        order = (0, 1) if getattr(clf, "pos_label", None) == classes[0] else (1, 0)
        return [_rule_of_threshold(least, positive, classes) for positive in order]
    if isinstance(clf, TunedOffsetsClassifierCV):
        return [_rule_of_offsets("offsets_", clf.offsets_, classes)]
    if isinstance(clf, CostMatrixClassifier):
        costs = clf.costs_
        return [lambda proba: classes[(proba @ costs).argmin(1)]]
    return []


def _rule_of_threshold(least: float, positive: int, classes: np.ndarray) -> Rule:
    return lambda proba: classes[np.where(proba[:, positive] >= least, positive, 1 - positive)]
