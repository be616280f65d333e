"""The scores of a fit."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from sklearn import metrics
from sklearn.dummy import DummyClassifier

from skimbal.datasets import DataCard
from skimbal.exceptions import ParameterError
from skimbal.typing import Classifier

__all__ = [
    "SCORES",
    "Fit",
    "Predictions",
    "Score",
    "Scorer",
    "check_scoring",
    "class_scores",
    "judge",
    "score_code",
]

#: A scorer of scikit-learn: more is better.
Scorer: TypeAlias = Callable[[Classifier, Any, np.ndarray], float]


@dataclass(frozen=True)
class Fit:
    """A finished fit of a study.

    Parameters
    ----------
    loss, sampler : str
        Names of the configuration.
    repeat, fold : int
        The split.
    seed : int
        Seed of the initial weights and batches.
    n_train, n_test : int
        Numbers of training and test rows.
    n_epochs, n_steps : int
        Numbers of epochs and of gradient steps.
    fit_time, score_time : float
        Times in seconds.
    scores : dict of str to float
        All scores of the test rows by name.
    confusion_matrix : list of list of int
        Counts of test rows, in samples, true classes by row.

    Examples
    --------
    >>> from skimbal.study import Fit
    >>> fit = Fit("ce", "uniform", repeat=0, fold=1, seed=7, n_train=80, n_test=20, n_epochs=5,
    ...           n_steps=15, fit_time=1.5, score_time=0.1, scores={"f1_macro": 0.8},
    ...           confusion_matrix=[[14, 1], [2, 3]])
    >>> Fit.from_dict(fit.to_dict()) == fit
    True
    """

    loss: str
    sampler: str
    repeat: int
    fold: int
    seed: int
    n_train: int
    n_test: int
    n_epochs: int
    n_steps: int
    fit_time: float
    score_time: float
    scores: dict[str, float]
    confusion_matrix: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, which can be written as JSON.

        Returns
        -------
        fields : dict
            A deep copy.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Fit":
        """Make a fit from the dict that :meth:`to_dict` returns.

        Parameters
        ----------
        fields : mapping
            The fields by name.

        Returns
        -------
        fit : Fit
            The same fit.

        Raises
        ------
        TypeError
            If a field is missing or unknown.
        """
        return cls(**fields)


@dataclass(frozen=True)
class Predictions:
    """Predictions for the test rows of a fit.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        True labels.
    predicted : ndarray of shape (n_samples,)
        Predicted labels.
    probability : ndarray of shape (n_samples, n_classes)
        Predicted probabilities, in float64. Every row sums to 1.
    classes : ndarray of shape (n_classes,)
        Class labels, sorted.
    rarest : int
        Number of the class with the fewest rows.
    """

    y: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    classes: np.ndarray
    rarest: int

    @cached_property
    def one_hot(self) -> np.ndarray:
        """Whether a row is of a class, of shape (n_samples, n_classes)."""
        one_hot: np.ndarray = self.y[:, None] == self.classes
        return one_hot

    @cached_property
    def f1(self) -> np.ndarray:
        """F1 of each class, of shape (n_classes,)."""
        f1: np.ndarray = metrics.f1_score(
            self.y, self.predicted, labels=self.classes, average=None, zero_division=0
        )
        return f1


@dataclass(frozen=True)
class Score:
    """A score that every study has.

    Parameters
    ----------
    title : str
        Name of the score in tables.
    compute : callable
        A function of :class:`Predictions` that returns a number.
    code : str
        Code for the score of ``clf`` on ``X_test``, ``y_test``, with scikit-learn alone.
    greater_is_better : bool, default=True
        Whether a high score is a good score.
    """

    title: str
    compute: Callable[[Predictions], float]
    code: str
    greater_is_better: bool = True


def _auc(p: Predictions) -> float:
    """Return the mean of the areas under the ROC curves of each class against the rest."""
    one_hot, n_classes = p.one_hot, len(p.classes)
    areas = [metrics.roc_auc_score(one_hot[:, k], p.probability[:, k]) for k in range(n_classes)]
    return float(np.mean(areas))


def _average_precision(p: Predictions) -> float:
    truth, probability = p.one_hot[:, p.rarest], p.probability[:, p.rarest]
    return float(metrics.average_precision_score(truth, probability))


def _brier(p: Predictions) -> float:
    # Halved for two classes, so that it is the score of the probability of one class.
    n_halves = 2 if len(p.classes) == 2 else 1
    return float(((p.probability - p.one_hot) ** 2).sum(1).mean() / n_halves)


#: The scores that every study has, by scikit-learn's names where scikit-learn has the score.
SCORES = {
    "balanced_accuracy": Score(
        "balanced accuracy",
        lambda p: metrics.balanced_accuracy_score(p.y, p.predicted),
        "balanced_accuracy_score(y_test, clf.predict(X_test))",
    ),
    "f1_macro": Score(
        "macro F1",
        lambda p: p.f1.mean(),
        "f1_score(y_test, clf.predict(X_test), labels=clf.classes_, average='macro', "
        "zero_division=0)",
    ),
    "matthews_corrcoef": Score(
        "MCC",
        lambda p: metrics.matthews_corrcoef(p.y, p.predicted),
        "matthews_corrcoef(y_test, clf.predict(X_test))",
    ),
    "roc_auc_ovr": Score(
        "AUC",
        _auc,
        "np.mean([roc_auc_score(y_test == k, p) for k, p in "
        "zip(clf.classes_, clf.predict_proba(X_test).T)])",
    ),
    "average_precision_rarest": Score(
        "AP rarest",
        _average_precision,
        "average_precision_score(y_test == {rarest!r}, "
        "clf.predict_proba(X_test)[:, clf.classes_ == {rarest!r}])",
    ),
    "log_loss": Score(
        "log-loss",
        lambda p: metrics.log_loss(p.y, p.probability, labels=p.classes),
        "log_loss(y_test, clf.predict_proba(X_test), labels=clf.classes_)",
        greater_is_better=False,
    ),
    "brier_score": Score(
        "Brier",
        _brier,
        "np.square(clf.predict_proba(X_test) - (y_test[:, None] == clf.classes_))"
        ".mean(0).{mean_or_sum}()",
        greater_is_better=False,
    ),
}


def class_scores(classes: np.ndarray) -> dict[str, str]:
    """Map the name of each class to the name of its F1 score."""
    return {str(label): f"f1[{label}]" for label in classes.tolist()}


def score_code(scoring: str, classes: np.ndarray, data: DataCard) -> str:
    """Write code for a score of ``clf`` on ``X_test``, ``y_test``."""
    labels = dict(zip(map(str, classes.tolist()), classes.tolist(), strict=True))
    if scoring in SCORES:
        of_classes = dict(zip(data.class_names, next(iter(data.counts.values())), strict=True))
        return SCORES[scoring].code.format(
            rarest=labels[min(labels, key=of_classes.__getitem__)],
            # Halved for two classes.
            mean_or_sum="mean" if len(labels) == 2 else "sum",
        )
    for name, score in class_scores(classes).items():
        if scoring == score:
            of_class = f"labels=[{labels[name]!r}], average='macro', zero_division=0"
            return f"f1_score(y_test, clf.predict(X_test), {of_class})"
    if scoring == "score":
        return "scorer(clf, X_test, y_test)"
    return f"get_scorer({scoring!r})(clf, X_test, y_test)"


def check_scoring(scoring: str | Scorer, y: np.ndarray, classes: np.ndarray) -> dict[str, Scorer]:
    """Return the scorer by its name, or nothing where every study has the score."""
    if callable(scoring):
        return {"score": scoring}
    known = [*SCORES, *class_scores(classes).values()]
    if isinstance(scoring, str) and scoring in known:
        return {}
    if not isinstance(scoring, str) or scoring not in metrics.get_scorer_names():
        raise ParameterError(
            "scoring",
            f"one of {', '.join(known)}, the name of a scikit-learn scorer (such as "
            "'neg_brier_score') or a callable (estimator, X, y)",
            scoring,
        )
    scorer = metrics.get_scorer(scoring)
    rows = np.zeros((len(y), 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scorer(DummyClassifier().fit(rows, y), rows, y)
    except ValueError as error:
        # Some scorers need two classes, or the labels 0 and 1. A fit would find out too late.
        raise ParameterError(
            "scoring",
            f"a score for the classes {classes.tolist()}",
            scoring,
            f"scikit-learn says: {error} Use {', '.join(known)}, or another scorer.",
        ) from error
    return {scoring: scorer}


def judge(
    model: Classifier,
    X: Any,
    y: np.ndarray,
    classes: np.ndarray,
    rarest: int,
    scorers: Mapping[str, Scorer],
) -> tuple[dict[str, float], list[list[int]]]:
    """Return the scores of a fitted model on test rows, and its confusion matrix."""
    probability = model.predict_proba(X).astype(np.float64)
    probability /= probability.sum(1, keepdims=True)
    p = Predictions(y, classes[probability.argmax(1)], probability, classes, rarest)
    scores = {name: score.compute(p) for name, score in SCORES.items()}
    scores |= dict(zip(class_scores(classes).values(), p.f1, strict=True))
    scores |= {name: scorer(model, X, y) for name, scorer in scorers.items()}
    return (
        {name: float(score) for name, score in scores.items()},
        metrics.confusion_matrix(y, p.predicted, labels=classes).tolist(),
    )
