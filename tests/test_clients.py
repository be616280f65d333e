"""Packages of others, as clients of the classifiers.

The packages are those of the extra ``clients``. A run of the tests takes part in this file if the
file is named: ``python -m pytest tests/test_clients.py``. A package that is missing is an error.
"""

import pickle
from typing import ClassVar

import captum.attr
import cloudpickle
import crepes
import dask.array as dask_array
import dask_ml.model_selection
import dask_ml.wrappers
import distributed
import fairlearn.postprocessing as fairlearn_post
import fairlearn.reductions as fairlearn_red
import joblib
import mapie.classification as mapie_classification
import matplotlib
import mlflow.sklearn
import mlxtend.classifier as mlxtend_classifier
import mlxtend.evaluate as mlxtend_evaluate
import mlxtend.feature_selection as mlxtend_selection
import mlxtend.plotting as mlxtend_plotting
import numpy as np
import optuna
import pandas as pd
import polars as pl
import pytest
import ray as ray_package
import skimage  # noqa: F401  (for lime)
import sklearn
import skops.io as skops_io
import skopt
import torch
from imblearn.ensemble import BalancedBaggingClassifier, EasyEnsembleClassifier, RUSBoostClassifier
from lime import lime_image, lime_tabular
from optuna_integration import OptunaSearchCV, SkorchPruningCallback
from ray.util.joblib import register_ray
from safetensors.torch import load_file, save_file
from sklearn import ensemble, inspection, metrics, multiclass, multioutput
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.callback import ProgressBar
from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    LearningCurveDisplay,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from skorch import callbacks as skorch_callbacks
from torch.utils.tensorboard import SummaryWriter

from skimbal import CNN2DClassifier, KeyedClassifier
from skimbal.explanation import METHODS, explain
from skimbal.networks import SmallCNN

matplotlib.use("Agg")

pytestmark = [
    # Packages on their use of other packages, such as shap and lime on matplotlib and dask-ml on
    # scikit-learn, in versions that are newer than theirs.
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")
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
    "AdaBoost": lambda clf: ensemble.AdaBoostClassifier(clf, n_estimators=2),
    "one vs rest": lambda clf: multiclass.OneVsRestClassifier(clf),
    "voting": lambda clf: ensemble.VotingClassifier([("a", clf), ("b", clone(clf))], voting="soft"),
    "stacking": lambda clf: ensemble.StackingClassifier([("a", clf)], cv=2),
    "sigmoid": lambda clf: CalibratedClassifierCV(clf, method="sigmoid", cv=2),
    "isotonic": lambda clf: CalibratedClassifierCV(clf, method="isotonic", cv=2),
    "temperature": lambda clf: CalibratedClassifierCV(clf, method="temperature", cv=2),
    "tuned threshold": lambda clf: TunedThresholdClassifierCV(clf, cv=2),
    "frozen": lambda clf: CalibratedClassifierCV(FrozenEstimator(clf.fit(X2, TWO)), cv=2),
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


def test_more_meta_estimators_on_rows():
    labels = np.stack([TWO == "b", THREE == "c"], axis=1).astype(int)
    for multi in (
        multiclass.OneVsRestClassifier(rows()),
        multioutput.MultiOutputClassifier(rows()),
        multioutput.ClassifierChain(images()),  # which adds a column for each label
    ):
        assert multi.fit(ROWS2, labels).predict(ROWS2).shape == labels.shape
    assert multioutput.MultiOutputClassifier(images()).fit(X2, labels).predict(X2).shape == (60, 2)
    partly = np.where(np.arange(60) % 4 == 0, -1, (TWO == "b").astype(int))
    assert len(SelfTrainingClassifier(rows()).fit(ROWS2, partly).predict(ROWS2)) == 60
    few = ROWS2[:, 16:20]
    clf = images().fit(few, TWO)
    assert inspection.permutation_importance(clf, few, TWO, n_repeats=2).importances.shape == (4, 2)
    grid = inspection.partial_dependence(clf, few.astype(float), [0], grid_resolution=5)
    assert grid["average"].shape[-1] == 5
    chosen = SequentialFeatureSelector(images(max_epochs=1), n_features_to_select=1, cv=2)
    assert chosen.fit(few, TWO).get_support().sum() == 1


def test_learning_curves_and_cross_validation():
    _sizes, train, valid = learning_curve(images(), X2, TWO, train_sizes=[0.5, 1.0], cv=2)
    assert train.shape == valid.shape == (2, 2)
    _sizes, train, _ = learning_curve(
        images(), X2, TWO, train_sizes=[0.5, 1.0], cv=2, exploit_incremental_learning=True
    )
    assert train.shape == (2, 2)
    LearningCurveDisplay.from_estimator(images(), X2, TWO, train_sizes=[0.5, 1.0], cv=2)
    curves = validation_curve(images(), X2, TWO, param_name="lr", param_range=[1e-3, 1e-2], cv=2)
    assert curves[0].shape == (2, 2)
    assert permutation_test_score(images(), X2, TWO, n_permutations=2, cv=2)[1].shape == (2,)
    assert cross_val_predict(images(), X2, TWO, method="predict_proba", cv=2).shape == (60, 2)
    scoring = ["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "neg_log_loss"]
    found = cross_validate(images(), X2, TWO, scoring=[*scoring, "matthews_corrcoef"], cv=2)
    assert all(np.isfinite(found[f"test_{name}"]).all() for name in scoring)


def test_displays():
    clf = images().fit(X2, TWO)
    for display in (
        metrics.RocCurveDisplay,
        metrics.PrecisionRecallDisplay,
        metrics.DetCurveDisplay,
        metrics.ConfusionMatrixDisplay,
        CalibrationDisplay,
    ):
        display.from_estimator(clf, X2, TWO)
    found = cross_validate(images(), X2, TWO, cv=2, return_estimator=True, return_indices=True)
    metrics.RocCurveDisplay.from_cv_results(found, X2, TWO)
    two = ROWS2[:, 18:20]
    inspection.DecisionBoundaryDisplay.from_estimator(images().fit(two, TWO), two)


def test_pipelines_columns_and_containers(tmp_path):
    cached = make_pipeline(StandardScaler(), rows(), memory=str(tmp_path))
    assert len(check(cached, ROWS2, TWO).predict_log_proba(ROWS2)) == 60
    union = FeatureUnion([("deep", rows(max_epochs=1)), ("pixels", "passthrough")])
    assert check(make_pipeline(union, LogisticRegression()), ROWS2, TWO)
    frame = pd.DataFrame(ROWS2, columns=[f"p{i}" for i in range(64)])
    frame["age"] = np.arange(60)
    pixels = [name for name in frame if name != "age"]
    columns = ColumnTransformer([("image", rows(), pixels)], remainder="passthrough")
    check(make_pipeline(columns, LogisticRegression(max_iter=1000)), frame, TWO)
    for library in ("pandas", "polars"):
        features = images().set_output(transform=library).fit_transform(X2, TWO)
        assert type(features).__module__.startswith(library)
    check(rows(), pl.DataFrame(ROWS2), pl.Series(TWO.tolist()))
    check(rows(), frame[pixels], pd.Series(TWO, dtype="category"))
    assert "CNN2DClassifier" in images()._repr_html_()


class Watched(CNN2DClassifier):
    """Keeps the weights and groups of each call."""

    given: ClassVar[list] = []

    def fit(self, X, y, sample_weight=None, groups=None):
        self.given.append(("fit", len(X), sample_weight, groups))
        return super().fit(X, y, sample_weight, groups)

    def score(self, X, y, sample_weight=None):
        self.given.append(("score", len(X), sample_weight, None))
        return super().score(X, y, sample_weight)


def watched(**parameters):
    Watched.given.clear()
    return Watched(**images(**parameters).get_params(deep=False))


def test_metadata_is_routed():
    weight, groups = np.linspace(0.5, 1, 60), np.arange(60) // 2
    with sklearn.config_context(enable_metadata_routing=True):
        clf = watched(train_split=0.25).set_fit_request(sample_weight=True, groups=True)
        clf.set_score_request(sample_weight=True)
        params = {"sample_weight": weight, "groups": groups}
        found = cross_validate(
            clf,
            X2,
            TWO,
            cv=GroupKFold(2),
            params=params,
            return_indices=True,
            return_estimator=True,
        )
        for part, method in (("train", "fit"), ("test", "score")):
            folds = found["indices"][part]
            calls = [call for call in Watched.given if call[0] == method]
            for of_fold, (_, n_rows, given_weight, given_groups) in zip(folds, calls, strict=True):
                assert n_rows == len(of_fold)
                np.testing.assert_array_equal(given_weight, weight[of_fold])
                if method == "fit":
                    np.testing.assert_array_equal(given_groups, groups[of_fold])
        search = GridSearchCV(clf, {"lr": [1e-3, 1e-2]}, cv=GroupKFold(2)).fit(X2, TWO, **params)
        pipe = make_pipeline(FunctionTransformer(), images().set_fit_request(sample_weight=True))
        pipe.fit(X2, TWO, sample_weight=weight)
        bag = ensemble.BaggingClassifier(
            rows().set_fit_request(sample_weight=True), 2, random_state=0
        )
        bag.fit(ROWS2, TWO, sample_weight=(np.arange(60) < 40).astype(float))
    # The weights and groups have the effect that they have without a search and a pipeline.
    alone = images(train_split=0.25, **search.best_params_)
    expected = clone(alone).fit(X2, TWO, weight, groups).predict_proba(X2)
    np.testing.assert_array_equal(search.predict_proba(X2), expected)
    assert not np.array_equal(clone(alone).fit(X2, TWO).predict_proba(X2), expected)
    expected = images().fit(X2, TWO, weight).predict_proba(X2)
    np.testing.assert_array_equal(pipe.predict_proba(X2), expected)
    assert not np.array_equal(images().fit(X2, TWO).predict_proba(X2), expected)
    assert all(max(drawn) < 40 for drawn in bag.estimators_samples_)


def test_torch_tensors():
    with sklearn.config_context(array_api_dispatch=True):
        y = torch.arange(60) % 2
        scores = cross_val_score(images(), torch.from_numpy(X2), y.numpy(), cv=2)
    assert scores.shape == (2,)
    assert len(images().fit(torch.from_numpy(X2), y).predict(torch.from_numpy(X2))) == 60


def test_bars_of_scikit_learn_are_nested(capsys):
    search = GridSearchCV(images(), {"lr": [1e-3, 1e-2]}, cv=2)
    search.set_callbacks(ProgressBar()).fit(X2, TWO)
    assert "candidate-split-evaluation | CNN2DClassifier - fit" in capsys.readouterr().out


# Searches and clusters -------------------------------------------------------------------------


def valid_accuracy(trial, clf):
    """Fit with a learning rate of a trial, and return the last validation accuracy."""
    clf.set_params(lr=trial.suggest_float("lr", 1e-6, 1e-2, log=True))
    return clf.fit(X2, TWO).history_[-1]["valid_acc"]


def test_optuna_prunes_through_the_callback_of_skorch():
    def objective(trial):
        pruning = SkorchPruningCallback(trial, "valid_acc")
        clf = images(max_epochs=3, train_split=0.25, callbacks=[pruning])
        return valid_accuracy(trial, clf)

    # No accuracy is above 1, so each trial ends after the epoch that follows the warm-up.
    pruner = optuna.pruners.ThresholdPruner(lower=1.1, n_warmup_steps=1)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.optimize(objective, n_trials=3)
    for trial in study.trials:
        assert trial.state.name == "PRUNED"
        assert 0 < len(trial.intermediate_values) < 3


def test_optuna_prunes_between_epochs_of_partial_fit():
    def objective(trial):
        clf = images(lr=trial.suggest_float("lr", 1e-4, 1e-2))
        for epoch in range(3):
            clf.partial_fit(X2, TWO, classes=["a", "b"])
            trial.report(clf.score(X2, TWO), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return clf.score(X2, TWO)

    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=-1.0))
    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["PRUNED"] * 2


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # of its own pruning
def test_optuna_search_of_scikit_learn():
    space = {"lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)}
    for pruning in ({}, {"enable_pruning": True, "max_iter": 3}):
        search = OptunaSearchCV(images(), space, n_trials=2, cv=2, **pruning)
        assert "lr" in check(search, X2, TWO).best_params_


def test_bayes_search():
    search = skopt.BayesSearchCV(images(), {"lr": (1e-4, 1e-2, "log-uniform")}, n_iter=2, cv=2)
    assert "lr" in check(search, X2, TWO).best_params_


SERIAL = {}


@pytest.mark.parametrize("backend", ["loky", "threading", "dask", "ray"])
def test_backends_of_joblib_give_the_scores_of_a_serial_search(backend, request):
    if backend in ("dask", "ray"):
        request.getfixturevalue(backend)
    grid = GridSearchCV(images(), {"lr": [1e-3, 1e-2]}, cv=2, scoring="neg_log_loss", n_jobs=2)
    if not SERIAL:
        SERIAL["scores"] = clone(grid).set_params(n_jobs=None).fit(X2, TWO).cv_results_
    with joblib.parallel_backend(backend):
        found = clone(grid).fit(X2, TWO).cv_results_
    name = "mean_test_score"
    np.testing.assert_array_equal(found[name], SERIAL["scores"][name])


@pytest.fixture(scope="module")
def dask():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, protocol="tcp://"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray():
    ray_package.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    yield
    ray_package.shutdown()


def test_dask_ml(dask):
    grid = dask_ml.model_selection.GridSearchCV(rows(), {"lr": [1e-3, 1e-2]}, cv=2)
    check(grid, ROWS2, TWO)
    X, y = dask_array.from_array(X2, chunks=30), dask_array.from_array(TWO, chunks=30)
    assert len(images().fit(X, y).predict(X)) == 60
    in_parts = dask_array.from_array(ROWS2, chunks=(30, 64))
    number = dask_array.from_array((TWO == "b").astype(int), chunks=30)
    learner = dask_ml.wrappers.Incremental(rows())
    assert len(learner.fit(in_parts, number, classes=[0, 1]).predict(in_parts).compute()) == 60
    predictor = dask_ml.wrappers.ParallelPostFit(rows().fit(ROWS2, TWO))
    assert len(predictor.predict(in_parts).compute()) == 60


# Files and other formats -----------------------------------------------------------------------


def test_pickles(tmp_path):
    clf = images().fit(X2, TWO)
    expected = clf.predict_proba(X2)
    path = tmp_path / "clf.joblib"
    joblib.dump(clf, path, compress=3)
    mapped = tmp_path / "mapped.joblib"
    joblib.dump(clf, mapped)
    copies = [pickle.loads(pickle.dumps(clf)), joblib.load(path)]
    copies.append(joblib.load(mapped, mmap_mode="r"))
    width = 4
    by_lambda = images(module=lambda c, k: SmallCNN(c, k, width=width, spatial_shape=(8, 8)))
    by_lambda.fit(X2, TWO)
    again = pickle.loads(cloudpickle.dumps(by_lambda))
    np.testing.assert_array_equal(again.predict_proba(X2), by_lambda.predict_proba(X2))
    for copy in copies:
        np.testing.assert_array_equal(copy.predict_proba(X2), expected)


def test_skops_without_pickle():
    clf = images().fit(X2, TWO)
    data = skops_io.dumps(clf)
    again = skops_io.loads(data, trusted=skops_io.get_untrusted_types(data=data))
    np.testing.assert_array_equal(again.predict_proba(X2), clf.predict_proba(X2))


def test_safetensors(tmp_path):
    clf = images().fit(X2, TWO)
    state = clf.net_.module_.state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    found = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(found[name], state[name]) for name in state)
    clf.net_.save_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    best = skorch_callbacks.Checkpoint(
        dirname=tmp_path / "best", monitor="valid_loss_best", use_safetensors=True, f_optimizer=None
    )
    best.set_params(f_criterion=None, f_history=None, f_pickle=None)
    images(train_split=0.25, callbacks=[best]).fit(X2, TWO)
    assert list((tmp_path / "best").iterdir())


# mlflow on its own type hints, when it is imported.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")
@pytest.mark.parametrize("flavour", ["pickle", "cloudpickle", "skops"])
def test_mlflow(tmp_path, flavour):
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    clf = images().fit(X2, TWO)
    options = {"skops_trusted_types": skops_io.get_untrusted_types(data=skops_io.dumps(clf))}
    options = options if flavour == "skops" else {}
    path = tmp_path / flavour
    mlflow.sklearn.save_model(
        clf, path, serialization_format=flavour, pip_requirements=["skimbal"], **options
    )
    again = mlflow.sklearn.load_model(str(path))
    np.testing.assert_array_equal(again.predict_proba(X2), clf.predict_proba(X2))
    served = mlflow.pyfunc.load_model(str(path))
    np.testing.assert_array_equal(served.predict(X2), clf.predict(X2))


# A trace holds for the shape of an image that it was made with.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_graphs_of_torch():
    network = images().fit(X2, TWO).net_.module_.eval()
    x = torch.from_numpy(X2[:4, None]).float()
    expected = network(x)
    exported = torch.export.export(network, (x,)).module()(x)
    traced = torch.jit.trace(network, (x,))(x)
    for found in (exported, traced):
        torch.testing.assert_close(found, expected)


# Explanations ----------------------------------------------------------------------------------


# shap takes the plain gradient of layers that it has no rule for: pooling and group norm.
@pytest.mark.filterwarnings("ignore:unrecognized nn.Module")
def test_shap():
    import shap  # here, as the import warns of its use of matplotlib

    clf = images().fit(X2, TWO)
    x = torch.from_numpy(X2[:8, None]).float()
    network = clf.net_.module_.eval()
    assert np.shape(shap.GradientExplainer(network, x).shap_values(x[:2]))[0] == 2
    # Without a rule for group norm, its values do not add up to the logits.
    deep = shap.DeepExplainer(network, x).shap_values(x[:2], check_additivity=False)
    assert np.shape(deep)[0] == 2
    # It leaves nothing behind.
    assert captum.attr.IntegratedGradients(network).attribute(x[:2], target=1).shape == (2, 1, 8, 8)
    few = ROWS2[:, 16:20].astype(float)
    clf = images().fit(few, TWO)
    for make in (shap.explainers.Permutation, shap.explainers.Partition):
        assert make(clf.predict_proba, few[:10])(few[:1]).values.shape == (1, 4, 2)
    kernel = shap.KernelExplainer(clf.predict_proba, few[:5])
    assert kernel.shap_values(few[:1], nsamples=20).shape == (1, 4, 2)


@pytest.mark.filterwarnings("ignore:unrecognized nn.Module")
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


# captum on its hooks, which it removes.
@pytest.mark.filterwarnings("ignore:Setting .*hooks")
def test_captum():
    network = images().fit(X2, TWO).net_.module_.eval()
    x = torch.from_numpy(X2[:2, None]).float().requires_grad_()
    layer = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    for method in (
        captum.attr.IntegratedGradients(network),
        captum.attr.DeepLift(network),
        captum.attr.GuidedBackprop(network),
        captum.attr.LayerGradCam(network, layer),
    ):
        assert torch.isfinite(method.attribute(x, target=1)).all()


def test_lime():
    clf = images().fit(np.repeat(X2[:, None], 3, 1), TWO)

    def probabilities(channels_last):
        return clf.predict_proba(np.moveaxis(channels_last, -1, 1))

    colour = np.repeat(X2[0][..., None], 3, -1)
    found = lime_image.LimeImageExplainer(random_state=0).explain_instance(
        colour, probabilities, num_samples=10, segmentation_fn=segments
    )
    assert found.segments.shape == (8, 8)
    few = ROWS2[:, 16:20].astype(float)
    tabular = lime_tabular.LimeTabularExplainer(few, random_state=0)
    clf = images().fit(few, TWO)
    assert tabular.explain_instance(few[0], clf.predict_proba, num_samples=20).as_list()


def segments(image):
    """Return four quarters."""
    half = np.arange(8) // 4
    return 2 * half[:, None] + half


# Conformal prediction, fairness, others --------------------------------------------------------


@pytest.fixture
def paths(tmp_path):
    """Write the images to files."""
    for number, image in enumerate(X2):
        np.save(tmp_path / f"{number}.npy", image)
    return [str(tmp_path / f"{number}.npy") for number in range(len(X2))]


def test_keys_of_files_in_mapie(paths):
    keyed = KeyedClassifier(images(), paths)
    keyed.fit(keyed.keys, TWO)
    split = mapie_classification.SplitConformalClassifier(keyed, prefit=True)
    split.conformalize(keyed.keys, TWO)
    assert split.predict_set(keyed.keys)[1].shape[:2] == (60, 2)


def test_mapie():
    split = mapie_classification.SplitConformalClassifier(rows().fit(ROWS2, TWO), prefit=True)
    split.conformalize(ROWS2, TWO)
    assert split.predict_set(ROWS2)[1].shape[:2] == (60, 2)
    cross = mapie_classification.CrossConformalClassifier(rows(), cv=2)
    cross.fit_conformalize(ROWS2, TWO)
    assert cross.predict_set(ROWS2)[1].shape[:2] == (60, 2)


def test_crepes():
    wrapped = crepes.WrapClassifier(images())
    wrapped.fit(X2, TWO)
    wrapped.calibrate(X2, TWO)
    assert wrapped.predict_p(X2).shape == (60, 2)


def test_fairlearn():
    sensitive, y = np.arange(60) % 2, (TWO == "b").astype(int)
    tuned = fairlearn_post.ThresholdOptimizer(
        estimator=images(dtype="float64"),
        constraints="demographic_parity",
        predict_method="predict_proba",
    )
    tuned.fit(X2, y, sensitive_features=sensitive)
    assert len(tuned.predict(X2, sensitive_features=sensitive, random_state=0)) == 60
    reduced = fairlearn_red.ExponentiatedGradient(
        rows(), fairlearn_red.DemographicParity(), max_iter=2
    )
    assert len(reduced.fit(ROWS2, y, sensitive_features=sensitive).predict(ROWS2)) == 60


# The t-test divides by the variance of its scores, which are all equal here.
@pytest.mark.filterwarnings("ignore:invalid value encountered in scalar divide")
def test_mlxtend():
    y, few = (TWO == "b").astype(int), ROWS2[:, 16:20]
    vote = mlxtend_classifier.EnsembleVoteClassifier([images(), images()], voting="soft")
    assert len(vote.fit(X2, y).predict(X2)) == 60
    stack = mlxtend_classifier.StackingCVClassifier([rows()], LogisticRegression(), cv=2)
    assert len(stack.fit(ROWS2, y).predict(ROWS2)) == 60
    chosen = mlxtend_selection.SequentialFeatureSelector(images(max_epochs=1), k_features=1, cv=2)
    assert len(chosen.fit(few, y).k_feature_idx_) == 1
    result = mlxtend_evaluate.paired_ttest_5x2cv(images(), images(max_epochs=1), X2, y)
    assert len(result) == 2
    mlxtend_plotting.plot_decision_regions(few[:, :2], y, images().fit(few[:, :2], y))


# Callbacks of skorch ---------------------------------------------------------------------------


def rates(clf):
    """Return the learning rate of each epoch."""
    return [row["event_lr"] for row in clf.history_]


def frozen(clf):
    """Return the names of the weights that do not train."""
    named = clf.net_.module_.named_parameters()
    return [name for name, weight in named if not weight.requires_grad]


#: Callbacks, each with a check of its effect on a fit of 3 epochs.
CALLBACKS = {
    "EarlyStopping": (
        lambda path: skorch_callbacks.EarlyStopping(
            patience=1, threshold=1e6, threshold_mode="abs", load_best=True
        ),
        lambda clf, path: clf.n_epochs_ < 3,
    ),
    "Checkpoint": (
        lambda path: skorch_callbacks.Checkpoint(dirname=path, load_best=True),
        lambda clf, path: {"params.pt", "optimizer.pt"} <= {f.name for f in path.iterdir()},
    ),
    "EpochScoring": (
        lambda path: skorch_callbacks.EpochScoring("f1_macro", lower_is_better=False),
        lambda clf, path: all(0 <= row["f1_macro"] <= 1 for row in clf.history_),
    ),
    "BatchScoring": (
        lambda path: skorch_callbacks.BatchScoring(lambda net, X, y: 0.5, name="half"),
        lambda clf, path: all(row["half"] == 0.5 for row in clf.history_),
    ),
    "GradientNormClipping": (
        lambda path: skorch_callbacks.GradientNormClipping(1e-9),
        lambda clf, path: is_another(clf),
    ),
    "Freezer": (
        lambda path: skorch_callbacks.Freezer(lambda name: "classifier" not in name),
        lambda clf, path: frozen(clf) and not any("classifier" in name for name in frozen(clf)),
    ),
    "Initializer": (
        lambda path: skorch_callbacks.Initializer("*bias", torch.nn.init.ones_),
        lambda clf, path: is_another(clf),
    ),
    "ProgressBar": (
        lambda path: skorch_callbacks.ProgressBar(batches_per_epoch=3),
        lambda clf, path: True,
    ),
    "StepLR": (
        lambda path: skorch_callbacks.LRScheduler("StepLR", step_size=1, gamma=0.5),
        lambda clf, path: np.allclose(np.divide(rates(clf)[1:], rates(clf)[:-1]), 0.5),
    ),
    "ReduceLROnPlateau": (
        lambda path: skorch_callbacks.LRScheduler(
            torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, threshold=1e6
        ),
        lambda clf, path: rates(clf)[-1] < rates(clf)[0],
    ),
    "OneCycleLR": (
        lambda path: skorch_callbacks.LRScheduler(
            torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=100, step_every="batch"
        ),
        lambda clf, path: clf.net_.optimizer_.param_groups[0]["max_lr"] == 0.1,
    ),
    "TensorBoard": (
        lambda path: skorch_callbacks.TensorBoard(SummaryWriter(path)),
        lambda clf, path: list(path.glob("events*")),
    ),
    "MlflowLogger": (
        lambda path: logger_of_mlflow(path),
        lambda clf, path: {"train_loss", "valid_loss"} <= metrics_in_mlflow(path),
    ),
}


def is_another(clf):
    """Tell whether a fit has other weights than the same fit without callbacks."""
    plain = clone(clf).set_params(callbacks=None).fit(X2, TWO)
    return not np.array_equal(plain.predict_proba(X2), clf.predict_proba(X2))


def mlflow_client(path):
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}/runs.db")


def logger_of_mlflow(path):
    client = mlflow_client(path)
    run = client.create_run(client.create_experiment("digits", artifact_location=str(path)))
    return skorch_callbacks.MlflowLogger(run=run, client=client, terminate_after_train=True)


def metrics_in_mlflow(path):
    client = mlflow_client(path)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    return set(run.data.metrics)


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")  # of mlflow, when it is imported
@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks_of_skorch(name, tmp_path, capfd):
    make, works = CALLBACKS[name]
    clf = check(images(train_split=0.25, max_epochs=3, callbacks=[make(tmp_path)]), X2, TWO)
    assert clf.n_epochs_ >= 1
    assert works(clf, tmp_path)
    if name == "ProgressBar":
        # Later counts are shown only where a batch takes longer than the interval of the bar.
        assert capfd.readouterr().err.count(" 0/3 ") >= 3


def test_a_callback_of_the_user_can_be_read_after_the_fit(tmp_path):
    class Log(skorch_callbacks.Callback):
        def __init__(self):
            self.seen = []

        def on_epoch_end(self, net, **kwargs):
            self.seen.append(len(net.history))

    log = Log()
    images(callbacks=[log]).fit(X2, TWO)
    assert log.seen == [1, 2]
    writer = SummaryWriter(tmp_path)
    images(callbacks=[skorch_callbacks.TensorBoard(writer)]).fit(X2, TWO)
    assert list(tmp_path.glob("events*"))
