"""The methods that decide by features."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skimbal.classifiers.base import BaseCNNClassifier
from skimbal.classifiers.later_heads import adopt_head, forget_prior
from skimbal.decoupling.layer import ScaledHead, Training, set_weights, train_head, weights_of
from skimbal.exceptions import warn_caller
from skimbal.typing import ArrayLike, ImagesLike

__all__ = ["TAUS", "NearestMean", "choose_tau", "normalize", "rescale", "retrain", "tau_normalized"]

#: The strengths among which ``tau="auto"`` chooses.
TAUS = np.linspace(0, 1, 21)


def retrain(estimator: BaseCNNClassifier, training: Training) -> None:
    """Train the last layer anew (cRT). All other weights stay as they are."""
    weight, bias = weights_of(estimator)

    def make_head() -> nn.Module:
        return nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)

    head: Any = train_head(estimator, make_head, training, "crt")
    biases = None if bias is None else head.bias.detach().double().numpy(force=True)
    set_weights(estimator, head.weight.detach().double().numpy(force=True), biases)


def rescale(estimator: BaseCNNClassifier, training: Training) -> NDArray[np.float64]:
    """Learn a scale of each logit (LWS), apply it, and return the scales."""
    weight, bias = weights_of(estimator)

    def make_head() -> nn.Module:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        return ScaledHead(layer, weight, bias)

    head: Any = train_head(estimator, make_head, replace(training, weight_decay=0.0), "lws")
    scale: NDArray[np.float64] = head.scale.detach().double().numpy(force=True)
    set_weights(estimator, scale[:, None] * weight, None if bias is None else scale * bias)
    # Of two classes, scales move no decision, and so not the prior of the network. Of more, they
    # move it on the way to the prior of the batches, but have no constant that could reach it.
    forget_prior(
        estimator, "The scales of the logits (lws) move the probabilities to no known prior."
    )
    return scale


def tau_normalized(weight: NDArray[np.float64], tau: float) -> NDArray[np.float64]:
    r"""Return :math:`w_k / \lVert w_k \rVert^\tau` for each class. Rows of zeros stay zeros."""
    norms = np.linalg.norm(weight, axis=1, keepdims=True)
    return weight / np.where(norms > 0, norms, 1.0) ** tau


def choose_tau(
    estimator: BaseCNNClassifier, X: ImagesLike, y: np.ndarray, sample_weight: ArrayLike | None
) -> float:
    """Return the least strength with the best balanced accuracy of rows."""
    weight, _ = weights_of(estimator)
    features = np.asarray(estimator.transform(X), dtype=np.float64)
    logits = [features @ tau_normalized(weight, tau).T for tau in TAUS]
    decisions = [estimator.classes_[rows.argmax(axis=1)] for rows in logits]
    scores = [
        balanced_accuracy_score(y, decided, sample_weight=sample_weight) for decided in decisions
    ]
    if all(np.array_equal(decided, decisions[0]) for decided in decisions):
        warn_caller(
            f"No tau changes the class of any of the {len(y)} rows that tau is chosen by, so the "
            "weights of the classes cannot be balanced by their norms. With two classes the norms "
            "are nearly equal. Use head='crt', or a prior or thresholds by skimbal.thresholds."
        )
    return float(TAUS[int(np.argmax(scores))])


def normalize(estimator: BaseCNNClassifier, tau: float) -> None:
    """Normalise the weights of each class, without biases."""
    weight, _ = weights_of(estimator)
    set_weights(estimator, tau_normalized(weight, tau), None)
    adopt_head(estimator, {"method": "tau", "tau": float(tau)})
    forget_prior(
        estimator,
        "The normalisation of the weights of each class (tau) moves the probabilities to no known "
        "prior.",
    )


class NearestMean(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Decide for the class whose mean features have the largest cosine with the features (NCM)."""

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Compute the mean of each class."""
        features, labels = np.asarray(X, dtype=np.float64), np.asarray(y)
        weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight)
        self.classes_ = np.unique(labels)
        self.means_ = np.stack(
            [
                np.average(features[labels == label], axis=0, weights=weight[labels == label])
                for label in self.classes_
            ]
        )
        return self

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Compute the cosines, for two classes the second minus the first."""
        check_is_fitted(self)
        cosines: np.ndarray = cosine_similarity(X, self.means_)
        return cosines[:, 1] - cosines[:, 0] if cosines.shape[1] == 2 else cosines

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict the class of the nearest mean."""
        scores = self.decision_function(X)
        best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        labels: np.ndarray = self.classes_[best]
        return labels
