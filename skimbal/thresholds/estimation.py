"""Estimates of priors: of rows without labels, and of the training from rows with labels."""

from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from skimbal.exceptions import ParameterError
from skimbal.thresholds.training_prior import Labels, shares_of

__all__ = ["Estimate", "bias_of", "most_likely_prior", "prior_of_labelled"]


class Estimate(NamedTuple):
    """A prior, the iterations that found it, and a bound on its distance to the solution."""

    prior: np.ndarray
    n_iter: int
    gap: float


def most_likely_prior(
    log_proba: np.ndarray, training_prior: np.ndarray, max_iter: int, tol: float
) -> Estimate:
    """Return the prior of rows by their likelihood. The gap bounds the gain by any other prior."""
    likelihood = log_proba - np.log(training_prior)
    likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    prior, n_iter, gap = training_prior, 0, np.inf
    while gap > tol and n_iter < max_iter:
        n_iter += 1
        # The likelihood is concave: its slopes bound the gain of any other prior.
        slopes = (likelihood / (likelihood @ prior)[:, None]).mean(axis=0)
        gap = float(slopes.max() - 1)
        if gap > tol:
            prior = np.maximum(prior * slopes, np.finfo(float).tiny)
    return Estimate(prior / prior.sum(), n_iter, gap)


def prior_of_labelled(
    log_proba: np.ndarray, labels: Labels, classes: np.ndarray, max_iter: int, tol: float
) -> Estimate:
    """Return the training prior whose correction gives each class its share of labelled rows.

    These are the biases of a logistic regression on the log-probabilities. The gap is the largest
    relative difference between a mean probability and a share.
    """
    shares = shares_of(labels, classes)
    ratio, n_iter, gap = np.ones(len(classes)), 0, np.inf
    while gap > tol and n_iter < max_iter:
        n_iter += 1
        mean = np.average(softmax(log_proba + np.log(ratio), axis=1), 0, labels.weight)
        if not mean.all():
            raise ParameterError(
                "training_prior",
                "given for these rows",
                "estimated",
                f"The class {classes[np.argmin(mean)].item()!r} has the probability 0 in each row.",
            )
        gap = float(np.abs(shares / mean - 1).max())
        if gap > tol:
            ratio = ratio * shares / mean
    prior = shares / ratio
    return Estimate(prior / prior.sum(), n_iter, gap)


def bias_of(
    log_proba: np.ndarray, training_prior: np.ndarray, labels: Labels, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean probabilities of labelled rows for their prior, and their standard errors."""
    moved = log_proba + np.log(shares_of(labels, classes) / training_prior)
    proba = softmax(moved, axis=1)
    weight = np.ones(len(proba)) if labels.weight is None else labels.weight
    weight = weight / weight.sum()
    variance = (weight[:, None] ** 2 * proba * (1 - proba)).sum(axis=0)
    return np.average(proba, 0, weight), np.sqrt(variance)
