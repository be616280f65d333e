"""Data, classifiers and callbacks that the tests of this folder share."""

import random
import warnings

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import (
    Callback,
)
from torch import nn

from skimbal import CNN2DClassifier, CNN3DClassifier
from tests.plain import plain

BOTH = pytest.mark.parametrize("classifier", [CNN2DClassifier, CNN3DClassifier])


def images(n=80, ndim=2, n_classes=2, seed=0, share=0.7):
    """Noise, with a bright corner that tells the class; class 0 has a share of the rows."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(n) < share * n, 0, 1 + np.arange(n) % (n_classes - 1))
    y = rng.permutation(y)
    X = rng.normal(size=(n, *[6] * ndim)).astype(np.float32)
    for k in range(n_classes):
        corner = (
            y == k,
            *[slice(3 * (k >> axis & 1), 3 * (k >> axis & 1) + 3) for axis in range(ndim)],
        )
        X[corner] += 2
    return X, y


def small(classifier=CNN2DClassifier, **params):
    options = {"max_epochs": 4, "batch_size": 32, "random_state": 0, "net": {"module__width": 8}}
    return plain(classifier, **{**options, "lr": 5e-3, **params})


def weights(clf):
    return {name: value.numpy().copy() for name, value in clf.net_.module_.state_dict().items()}


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert_array_equal(value, other[name])


def global_state():
    numpy_state = np.random.get_state()  # noqa: NPY002
    return (
        random.getstate(),
        tuple(numpy_state[1]),
        numpy_state[2:],
        tuple(torch.get_rng_state().tolist()),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )


class Seen(Callback):
    """Keep the data sets that training got."""

    def on_epoch_begin(self, net, dataset_train, dataset_valid, **kwargs):
        self.train_, self.valid_ = dataset_train, dataset_valid


def seen(clf):
    return dict(clf.net_.callbacks_)["seen"]


class Listener(Callback):
    """Look at every batch."""

    def on_batch_end(self, net, training, **kwargs):
        self.n_batches_ = getattr(self, "n_batches_", 0) + training


class NDIdentity(sklearn.base.TransformerMixin, sklearn.base.BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X


CLASSIFIERS = [CNN2DClassifier, CNN3DClassifier]


N = 12


Y = np.arange(N) % 2


OUTPUTS = ["predict", "predict_proba", "decision_function", "transform"]


def tiny(cls=CNN2DClassifier, **params):
    params = {"max_epochs": 1, "random_state": 0, "net": {"module__width": 4}, **params}
    return plain(cls, **params)


def noise(cls=CNN2DClassifier, n=N, size=6, channels=None, dtype=np.float32, seed=0):
    axes = (size,) * (2 if cls is CNN2DClassifier else 3)
    shape = (n, *axes) if channels is None else (n, channels, *axes)
    return np.random.default_rng(seed).normal(0, 50, shape).astype(dtype)


def logits(X, y=Y, cls=CNN2DClassifier, X_test=None, **params):
    return tiny(cls, **params).fit(X, y).decision_function(X if X_test is None else X_test)


def no_module(in_channels, n_classes):
    return None


def too_many_outputs(in_channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes + 5))


FACTORY = "f(in_channels, n_classes)"


def caught(call, category=Warning):
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        if category is not ConvergenceWarning:  # fits of a few steps may predict one class
            warnings.simplefilter("ignore", ConvergenceWarning)
        call()
    return [item for item in log if issubclass(item.category, category)]
