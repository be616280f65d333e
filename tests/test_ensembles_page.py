"""The tables that stand for images, in each meta-estimator that the page on ensembles names."""

import numpy as np
import pandas as pd
import pytest
from imblearn.ensemble import BalancedBaggingClassifier, EasyEnsembleClassifier, RUSBoostClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from skimbal import CNN2DClassifier, KeyedClassifier
from skimbal.datasets import load_imbalanced_digits

# Two epochs of a small network may well predict one class.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Y = np.array([0] * 24 + [1] * 12)
TABLES = ["rows", "paths", "frame", "keys"]


def small(**parameters):
    net = {"module": "small", "augment": None, "max_epochs": 1}
    return CNN2DClassifier(**net, random_state=0, **parameters)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Return each table with its classifier."""
    folder = tmp_path_factory.mktemp("images")
    X = np.random.default_rng(0).integers(0, 100, (len(Y), 6, 6), dtype=np.uint8)
    X[Y == 1, 2:4] += 100
    paths = [str(folder / f"{i}.npy") for i in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        np.save(path, image)
    keyed = KeyedClassifier(small(), paths)
    return {
        "images": (X, small()),
        "rows": (X.reshape(len(X), -1), small(input_shape=X.shape[1:])),
        "paths": (np.array(paths, dtype=object)[:, np.newaxis], small()),
        "frame": (pd.DataFrame({"file": paths}), small()),
        "keys": (keyed.keys, keyed),
    }


def stacked(clf, **parameters):
    return StackingClassifier([("cnn", clf)], LogisticRegression(), cv=2, **parameters)


#: Meta-estimators, and the tables that they refuse.
METAS = {
    "bagging": (lambda c: BaggingClassifier(c, 2, random_state=0), ["images"]),
    "balanced bagging": (lambda c: BalancedBaggingClassifier(c, 2, random_state=0), ["images"]),
    "easy ensemble": (lambda c: EasyEnsembleClassifier(2, c, random_state=0), ["images"]),
    "RUSBoost": (
        lambda c: RUSBoostClassifier(c, n_estimators=2, random_state=0),
        ["images"],
    ),
    "one vs one": (OneVsOneClassifier, ["images", "paths", "frame"]),
    "self-training": (
        lambda c: SelfTrainingClassifier(c, max_iter=1),
        ["images", "paths", "frame"],
    ),
    "output code": (lambda c: OutputCodeClassifier(c, random_state=0), []),
    "one vs rest": (OneVsRestClassifier, []),
    "voting": (lambda c: VotingClassifier([("cnn", c)]), []),
    "stacking": (stacked, []),
    "calibration": (lambda c: CalibratedClassifierCV(c, cv=2), []),
}
#: Kinds of them, of which the quick tests take one table each.
QUICK = [("balanced bagging", "rows"), ("easy ensemble", "frame"), ("one vs one", "keys")]


@pytest.mark.parametrize(
    ("meta", "table"),
    [
        pytest.param(meta, table, marks=[] if (meta, table) in QUICK else pytest.mark.slow)
        for meta, (_, refused) in METAS.items()
        for table in TABLES
        if table not in refused
    ],
)
def test_a_line_makes_it_work(tables, meta, table):
    X, clf = tables[table]
    y = np.where(np.arange(len(Y)) % 5 == 0, -1, Y) if meta == "self-training" else Y
    model = METAS[meta][0](clf).fit(X, y)
    predicted = model.predict(X)
    assert predicted.shape == Y.shape
    assert set(predicted) <= {0, 1}


@pytest.mark.parametrize(
    ("meta", "table"),
    [(meta, table) for meta, (_, refused) in METAS.items() for table in refused],
)
def test_what_the_page_calls_no_is_refused_by_an_error(tables, meta, table):
    X, clf = tables[table]
    y = np.where(np.arange(len(Y)) % 5 == 0, -1, Y) if meta == "self-training" else Y
    with pytest.raises(ValueError, match=r"Found array with dim 3|could not convert string"):
        METAS[meta][0](clf).fit(X, y)


@pytest.mark.slow
def test_stacking_passes_pixels_on(tables):
    X, clf = tables["rows"]
    model = stacked(clf, passthrough=True)
    model.final_estimator.set_params(max_iter=3000)
    assert model.fit(X, Y).final_estimator_.n_features_in_ == 36 + 1


@pytest.mark.slow
@pytest.mark.parametrize(("table", "n_columns"), [("rows", 36), ("paths", 1), ("keys", 1)])
def test_importance_is_of_columns(tables, table, n_columns):
    X, clf = tables[table]
    found = permutation_importance(clf.fit(X, Y), X, Y, n_repeats=1, random_state=0)
    assert found.importances_mean.shape == (n_columns,)


def test_a_bag_of_one_class_says_so():
    rows = np.random.default_rng(0).integers(0, 9, (30, 16), dtype=np.uint8)
    bagging = BaggingClassifier(small(input_shape=(4, 4)), max_samples=2, random_state=0)
    with pytest.raises(ValueError, match=r"at least 2 classes.* such as a fold or a bag"):
        bagging.fit(rows, [0] * 29 + [1])


@pytest.mark.parametrize(("n_rows", "n_steps"), [(6, 3000), (40, 3000)])
def test_small_bags_have_the_least_steps(n_rows, n_steps, monkeypatch):
    monkeypatch.setattr("skimbal.training.net.TrainingNet.train_epochs", lambda *a, **k: None)
    monkeypatch.setattr("skimbal.classifiers.base.judge_training", lambda *a: None)
    rows = np.random.default_rng(0).integers(0, 9, (n_rows, 16), dtype=np.uint8)
    clf = CNN2DClassifier(input_shape=(4, 4)).fit(rows, np.arange(n_rows) % 2)
    n_batches = -(-n_rows // 32)
    assert clf.net_.max_epochs * n_batches >= n_steps
    assert CNN2DClassifier().fit(rows, np.arange(n_rows) % 2).net_.max_epochs == 30


@pytest.mark.slow
@pytest.mark.parametrize("make", [BalancedBaggingClassifier, EasyEnsembleClassifier])
def test_one_member_of_a_small_bag_reaches_an_ensemble_of_logistic_regressions(make):
    # A bag has 129 rows, so that thirty epochs would be a few dozen steps.
    data = load_imbalanced_digits()
    X, X_test = (part.reshape(len(part), -1) for part in (data.X_train, data.X_test))

    def score(member, n_members):
        model = make(n_estimators=n_members, estimator=member, random_state=0)
        return balanced_accuracy_score(data.y_test, model.fit(X, data.y_train).predict(X_test))

    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    assert score(CNN2DClassifier(input_shape=(8, 8)), 1) >= score(linear, 10)
