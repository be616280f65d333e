"""Packages of others, as clients of the classifiers.

The packages are those of the extra ``clients``. A run of the tests takes part in this file if the
file is named: ``python -m pytest tests/test_clients.py``. A package that is missing is an error.
"""

import numpy as np
import pytest
import torch
from imblearn.ensemble import BalancedBaggingClassifier, EasyEnsembleClassifier, RUSBoostClassifier
from sklearn import ensemble, multiclass
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skimbal import CNN2DClassifier
from skimbal.explanation import METHODS, explain

pytestmark = [
    # The least of optuna's, dask's and ray's own news are not ours.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

RNG = np.random.default_rng(0)
#: Text labels of two and of three classes, of which the last is rare.
TWO = np.array(["a", "b"])[(np.arange(60) % 3 == 0).astype(int)]
THREE = np.array(["a", "b", "c"])[np.arange(60) % 3]


def draw(labels):
    """Draw images with a bright square at a place that the label decides."""
    X = RNG.integers(0, 60, size=(len(labels), 8, 8), dtype=np.uint8)
    for k, label in enumerate(np.unique(labels)):
        X[labels == label, 2 * k : 2 * k + 3, 2:5] += 150
    return X


X2, X3 = draw(TWO), draw(THREE)
ROWS2, ROWS3 = X2.reshape(60, -1), X3.reshape(60, -1)


def images(**parameters):
    """Return a small classifier of images."""
    defaults = {"module": "small", "max_epochs": 2, "batch_size": 16, "random_state": 0}
    return CNN2DClassifier(**{**defaults, **parameters})


def rows(**parameters):
    """Return a small classifier of rows that stand for images."""
    return images(input_shape=(8, 8), **parameters)


def check(estimator, X, y):
    """Fit an estimator, and check that it predicts labels of the fit."""
    predicted = estimator.fit(X, y).predict(X)
    assert len(predicted) == len(X)
    assert set(np.unique(predicted)) <= set(np.unique(y))
    return estimator


# scikit-learn and imbalanced-learn ------------------------------------------------------------


@pytest.mark.parametrize(
    "search",
    [
        lambda clf: GridSearchCV(clf, {"lr": [1e-3, 1e-2]}, cv=2),
        lambda clf: RandomizedSearchCV(clf, {"lr": [1e-3, 1e-2]}, n_iter=2, cv=2, random_state=0),
        lambda clf: HalvingGridSearchCV(
            clf, {"lr": [1e-3, 1e-2]}, resource="max_epochs", min_resources=1, max_resources=2, cv=2
        ),
        lambda clf: HalvingGridSearchCV(clf, {"lr": [1e-3, 1e-2]}, cv=2, min_resources=20),
    ],
    ids=["grid", "random", "halving epochs", "halving samples"],
)
def test_searches(search):
    assert set(check(search(images()), X2, TWO).best_params_) >= {"lr"}


ON_IMAGES = {
    "one vs rest": lambda clf: multiclass.OneVsRestClassifier(clf),
    "voting": lambda clf: ensemble.VotingClassifier([("a", clf), ("b", clone(clf))], voting="soft"),
    "stacking": lambda clf: ensemble.StackingClassifier([("a", clf)], cv=2),
    "sigmoid": lambda clf: CalibratedClassifierCV(clf, method="sigmoid", cv=2),
    "isotonic": lambda clf: CalibratedClassifierCV(clf, method="isotonic", cv=2),
    "temperature": lambda clf: CalibratedClassifierCV(clf, method="temperature", cv=2),
    "tuned threshold": lambda clf: TunedThresholdClassifierCV(clf, cv=2),
    "fixed threshold": lambda clf: FixedThresholdClassifier(clf, threshold=0.4, pos_label="b"),
    "pipeline": lambda clf: make_pipeline(FunctionTransformer(), clf),
}
#: Estimators for tables only. Their images are rows with input_shape.
ON_ROWS = {
    "AdaBoost": lambda clf: ensemble.AdaBoostClassifier(clf, n_estimators=2),
    "bagging": lambda clf: ensemble.BaggingClassifier(clf, n_estimators=2),
    "balanced bagging": lambda clf: BalancedBaggingClassifier(clf, n_estimators=2),
    "easy ensemble": lambda clf: EasyEnsembleClassifier(2, estimator=clf),
    "RUSBoost": lambda clf: RUSBoostClassifier(clf, n_estimators=2, random_state=0),
    "one vs one": lambda clf: multiclass.OneVsOneClassifier(clf),
    "output code": lambda clf: multiclass.OutputCodeClassifier(clf, random_state=0),
    "stacking": lambda clf: ensemble.StackingClassifier([("a", clf)], cv=2, passthrough=True),
}


@pytest.mark.parametrize("make", ON_IMAGES.values(), ids=ON_IMAGES)
def test_meta_estimators_on_images(make):
    check(make(images()), X2, TWO)


@pytest.mark.parametrize("make", ON_ROWS.values(), ids=ON_ROWS)
def test_meta_estimators_on_rows(make):
    check(make(rows()), ROWS2, TWO)


# shap takes the plain gradient of layers that it has no rule for: pooling and group norm.
@pytest.mark.filterwarnings("ignore:unrecognized nn.Module", "ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_explanations_and_predictions_are_the_same_after_shap(norm):
    import shap  # here, as the import warns of its use of matplotlib

    clf = images(net={"module__norm": norm}).fit(X2, TWO)
    network, x = clf.net_.module_, torch.from_numpy(X2[:8, None]).float()
    proba = clf.predict_proba(X2[:4])
    before = {method: explain(clf, X2[:2], method=method, target="b") for method in METHODS}
    for explainer in (shap.DeepExplainer, shap.GradientExplainer, shap.DeepExplainer):
        # With group norm, the values of DeepExplainer do not add up, which is an error by default.
        sums = {} if explainer is shap.GradientExplainer else {"check_additivity": norm == "batch"}
        values = explainer(network, x[:5]).shap_values(x[5:7], **sums)
        assert np.shape(values)[0] == 2
        for method, maps in before.items():
            again = explain(clf, X2[:2], method=method, target="b")
            np.testing.assert_array_equal(again, maps, err_msg=f"{method} after {explainer}")
        np.testing.assert_array_equal(clf.predict_proba(X2[:4]), proba)
    if norm == "group":
        with pytest.raises(AssertionError, match="do not sum up"):
            shap.DeepExplainer(network, x[:5]).shap_values(x[5:7])
        for method, maps in before.items():
            np.testing.assert_array_equal(explain(clf, X2[:2], method=method, target="b"), maps)
