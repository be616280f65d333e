"""Small images, and classifiers that take moments to fit."""

import numpy as np
from torch import nn

from skimbal import CNN2DClassifier, CNN3DClassifier

COUNTS = (36, 15, 9)


def images(n_spatial=2, seed=0, counts=COUNTS):
    """Return images of classes, of which each has a bright corner of its own."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    X = rng.integers(0, 100, size=(len(y), *[8] * n_spatial)).astype(np.uint8)
    for row, k in enumerate(y):
        X[(row, ..., *[slice(3 * k, 3 * k + 2)] * 2)] += 100
    return X, y


def quick(n_spatial=2, **params):
    """Return a classifier that takes a moment."""
    kind = CNN2DClassifier if n_spatial == 2 else CNN3DClassifier
    defaults = {
        "sampler": "uniform",
        "module": "small",
        "net": {"module__width": 4},
        "max_epochs": 3,
        "augment": None,
        "random_state": 0,
    }
    return kind(**{**defaults, **params})


def weights(estimator, without=None):
    """Return copies of all weights and statistics of a network but those of a layer."""
    state = estimator.net_.module_.state_dict()
    layer = f"network.{without}."
    return {
        name: tensor.numpy().copy() for name, tensor in state.items() if not name.startswith(layer)
    }


def with_batch_norm(in_channels, n_classes):
    """Make a network whose batch statistics would drift in training mode."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, n_classes),
    )
