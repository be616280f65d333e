"""Scores of a fit."""

import warnings
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    get_scorer,
    get_scorer_names,
    log_loss,
    matthews_corrcoef,
    roc_auc_score,
)

__all__ = ["SCORES", "check_scoring", "f1_names", "score_model", "score_title"]

#: Scores that every study has, by scikit-learn's names where it has one; whether more is better.
SCORES = {
    "balanced_accuracy": True,
    "f1_macro": True,
    "matthews_corrcoef": True,
    "roc_auc_ovr": True,
    "average_precision_rarest": True,
    "log_loss": False,
    "brier_score": False,
}
_TITLES = {
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
    "matthews_corrcoef": "MCC",
    "roc_auc_ovr": "AUC",
    "average_precision_rarest": "AP rarest",
    "log_loss": "log-loss",
    "brier_score": "Brier",
}


def score_title(score: str) -> str:
    return _TITLES.get(score, score)


def check_scoring(scoring: Any, y: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
    """Return the scorer by its name, or nothing where every study has the score."""
    if callable(scoring):
        return {"score": scoring}
    own = [*SCORES, *f1_names(classes)]
    if isinstance(scoring, str) and scoring in own:
        return {}
    if not isinstance(scoring, str) or scoring not in get_scorer_names():
        raise ValueError(
            f"scoring must be one of {', '.join(own)}, the name of a scikit-learn scorer (such as "
            f"'neg_brier_score') or a callable (estimator, X, y); got {scoring!r}."
        )
    scorer = get_scorer(scoring)
    rows = np.zeros((len(y), 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scorer(DummyClassifier().fit(rows, y), rows, y)
    except ValueError as error:
        # Some are of two classes, of labels 0 and 1, or of numbers: not to be found after a fit.
        raise ValueError(
            f"scoring={scoring!r} cannot judge the classes {classes.tolist()} ({error}); use one "
            f"of {', '.join(own)}, or a scorer that can."
        ) from error
    return {scoring: scorer}


def f1_names(classes: np.ndarray) -> list[str]:
    return [f"f1[{label}]" for label in classes.tolist()]


def score_model(
    model: Any, X: Any, y: np.ndarray, classes: np.ndarray, rarest: int, scorer: Any
) -> tuple[dict[str, float], list[list[int]]]:
    probability = model.predict_proba(X).astype(np.float64)
    if not np.isfinite(probability).all():
        raise ValueError(
            "the fitted network predicts probabilities that are not finite, so it has diverged: "
            "lower lr, or see dtype."
        )
    probability /= probability.sum(1, keepdims=True)
    predicted = classes[probability.argmax(1)]
    one_hot = y[:, None] == classes
    n_classes = len(classes)
    auc = [roc_auc_score(one_hot[:, k], probability[:, k]) for k in range(n_classes)]
    f1 = f1_score(y, predicted, labels=classes, average=None, zero_division=0)
    # Halved for two classes, so that it is the score of the probability of one of them.
    brier = ((probability - one_hot) ** 2).sum(1).mean() / (2 if n_classes == 2 else 1)
    scores = {
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "f1_macro": f1.mean(),
        "matthews_corrcoef": matthews_corrcoef(y, predicted),
        "roc_auc_ovr": np.mean(auc),
        "average_precision_rarest": average_precision_score(
            one_hot[:, rarest], probability[:, rarest]
        ),
        "log_loss": log_loss(y, probability, labels=classes),
        "brier_score": brier,
        **dict(zip(f1_names(classes), f1, strict=True)),
    }
    for name, of_user in scorer.items():
        scores[name] = of_user(model, X, y)
    return (
        {name: float(score) for name, score in scores.items()},
        confusion_matrix(y, predicted, labels=classes).tolist(),
    )
