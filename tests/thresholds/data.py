"""Rows with known classes for the tests of decisions."""

import numpy as np

MEANS = 1.5 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


def blobs(n, prior, seed=0):
    """Draw rows of normal classes, whose true probabilities are known for any prior."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(prior)), np.round(np.array(prior) * n).astype(int)))
    return rng.normal(size=(len(y), 2)) + MEANS[y], y


def true_proba(X, prior):
    """Return the probabilities of the classes of :func:`blobs`."""
    joint = np.exp(-((X[:, None] - MEANS[: len(prior)]) ** 2).sum(-1) / 2) * prior
    return joint / joint.sum(1, keepdims=True)


def scores_of(n, prior, seed=0):
    """Draw log-probabilities and classes, each class with at least one row."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(1, np.round(np.array(prior) * n).astype(int))
    y = np.repeat(np.arange(len(prior)), counts)
    scores = rng.normal(size=(len(y), len(prior))) + np.log(prior)
    scores[np.arange(len(y)), y] += 1
    return scores - np.log(np.exp(scores).sum(1, keepdims=True)), y
