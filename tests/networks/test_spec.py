"""Descriptions of networks: parameters, and use in the classifiers."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skimbal import CNN2DClassifier
from skimbal.exceptions import ParameterError
from skimbal.networks import NetworkSpec, PixelRange

Y = np.arange(12) % 2


class Narrow(NetworkSpec):
    """A linear network that keeps what it was built for."""

    needs_pixel_range = True

    def __init__(self, width=4):
        self.width = width

    def check(self):
        if self.width < 1:
            raise ParameterError("width", "a positive integer", self.width)

    def build(self, in_channels, n_classes, spatial_shape, pixels=None):
        if self.width > 10:
            raise ParameterError("width", "at most 10 for these images", self.width)
        network = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, n_classes)
        )
        network.built_for = in_channels, n_classes, spatial_shape, pixels
        return network


def draw(dtype, low=0, high=200):
    return np.random.default_rng(0).integers(low, high, (12, 6, 5)).astype(dtype)


def fitted(X, spec=None, **params):
    options = {"max_epochs": 1, "batch_size": 4, "random_state": 0, **params}
    return CNN2DClassifier(module=spec or Narrow(), **options).fit(X, Y)


def built_for(clf):
    return clf.net_.module_.network.built_for


def test_a_spec_is_built_for_the_images():
    X = draw(np.int16, -1000, 3000)
    expected = PixelRange(float(X.min()), float(X.max()))
    assert built_for(fitted(X)) == (1, 2, (6, 5), expected)
    assert built_for(fitted(X, crop_size=(4, 3)))[2] == (4, 3)
    assert built_for(fitted(draw(np.uint8)))[3] == PixelRange(0.0, 255.0, is_uint8=True)


def test_rows_without_weight_have_no_part_in_the_range():
    X = draw(np.float32)
    X[0] = 1e6
    weight = np.ones(12)
    weight[0] = 0
    clf = CNN2DClassifier(module=Narrow(), max_epochs=1, batch_size=4)
    assert built_for(clf.fit(X, Y, sample_weight=weight))[3].high == X[1:].max()


def test_a_spec_that_does_not_ask_gets_no_range(monkeypatch):
    monkeypatch.setattr(Narrow, "needs_pixel_range", False)
    assert built_for(fitted(draw(np.float32)))[3] is None


def test_a_search_sets_parameters_of_a_spec():
    X = draw(np.uint8)
    clf = CNN2DClassifier(module=Narrow(), max_epochs=1, batch_size=4, random_state=0)
    search = GridSearchCV(clf, {"module__width": [2, 3]}, cv=2).fit(X, Y)
    assert search.best_params_["module__width"] == 2
    assert clone(clf).module is not clf.module
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert_array_equal(again.predict_proba(X), search.predict_proba(X))


def test_bad_parameters_are_named_after_the_spec():
    with pytest.raises(ParameterError, match=r"module__width must be a positive integer; got 0"):
        CNN2DClassifier(module=Narrow(0)).fit("no images", Y)
    with pytest.raises(ParameterError, match=r"module__width must be at most 10"):
        fitted(draw(np.uint8), Narrow(11))


def test_a_spec_without_build_says_so():
    with pytest.raises(NotImplementedError, match="NetworkSpec must define build"):
        fitted(draw(np.uint8), NetworkSpec())
