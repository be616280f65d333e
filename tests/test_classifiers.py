"""The classifiers inside scikit-learn, imbalanced-learn and skorch."""

import copy
import functools
import pickle
import random
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from imblearn.under_sampling import RandomUnderSampler
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring, LRScheduler
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, NDSampler
from skimbal.networks import SmallCNN

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
    return classifier(**{**options, "lr": 5e-3, **params})


def weights(clf):
    return {name: value.numpy().copy() for name, value in clf.net_.module_.state_dict().items()}


@BOTH
@pytest.mark.parametrize("n_classes", [2, 3])
def test_learns_and_its_outputs_agree(classifier, n_classes):
    X, y = images(ndim=len(classifier._axes), n_classes=n_classes)
    clf = small(classifier, max_epochs=8).fit(X, y)
    assert clf.score(X, y) > 0.95
    probability, decision = clf.predict_proba(X), clf.decision_function(X)
    assert_allclose(probability.sum(1), 1, rtol=1e-6)
    assert_array_equal(clf.predict(X), clf.classes_[probability.argmax(1)])
    if n_classes == 2:
        assert decision.shape == (len(X),)
        assert_allclose(probability[:, 1], 1 / (1 + np.exp(-decision)), rtol=1e-4, atol=1e-6)
    else:
        assert_allclose(probability, sklearn.utils.extmath.softmax(decision), rtol=1e-4, atol=1e-6)
    assert clf.n_epochs_ == len(clf.history_) == 8
    assert clf.input_shape_ == (1, *X.shape[1:])


@BOTH
@pytest.mark.parametrize(
    "sampler", ["balanced", "stratified", "weighted", RandomOverSampler(), RandomUnderSampler()]
)
def test_every_sampler_trains(classifier, sampler):
    X, y = images(ndim=len(classifier._axes))
    clf = small(classifier, sampler=sampler, max_epochs=8).fit(X, y)
    assert clf.score(X, y) > 0.9


def test_balanced_batches_raise_the_recall_of_a_rare_class():
    X, y = images(n=200, share=0.95)
    recalls = [
        recall_score(y, small(sampler=sampler, loss="ce", max_epochs=2).fit(X, y).predict(X))
        for sampler in (None, "balanced")
    ]
    assert recalls[1] > recalls[0] + 0.3


@pytest.mark.parametrize(
    ("base", "grid", "path"),
    [
        (small(), {"loss": ["ce", "ce+mcc"]}, "loss"),
        (small(loss=LossMix(ce=1)), {"loss__mcc": [0.25, 0.5]}, "loss__mcc"),
        (small(), {"sampler": ["balanced", "stratified"]}, "sampler"),
        (small(), {"net__optimizer__weight_decay": [0.0, 0.1]}, "net__optimizer__weight_decay"),
    ],
)
def test_grid_search_reaches_the_parameter(base, grid, path):
    X, y = images()
    search = GridSearchCV(base, grid, cv=2, error_score="raise").fit(X, y)
    best = search.best_estimator_
    value = search.best_params_[path]
    assert best.get_params()[path] == value
    if path == "loss__mcc":
        assert best.net_.criterion_.factors == {"ce": 1.0, "mcc": value}
        assert base.loss.mcc == 0.0
    if path == "net__optimizer__weight_decay":
        assert best.net_.optimizer_.param_groups[0]["weight_decay"] == value
        assert base.net == {"module__width": 8}
    if path == "sampler":
        assert best.net_.iterator_train__sampler == value
    scores = search.cv_results_["split0_test_score"], search.cv_results_["split1_test_score"]
    assert np.isfinite(scores).all()


def test_randomized_search_and_cross_validation():
    X, y = images()
    search = RandomizedSearchCV(
        small(loss=LossMix(ce=1)), {"loss__mcc": [0, 0.5, 1]}, n_iter=2, cv=2, random_state=0
    ).fit(X, y)
    assert search.best_score_ > 0.8
    scores = cross_val_score(small(), X, y, cv=3, scoring="balanced_accuracy", error_score="raise")
    result = cross_validate(small(), X, y, cv=3, scoring="balanced_accuracy", return_estimator=True)
    assert_array_equal(scores, result["test_score"])
    assert [len(fitted.history_) for fitted in result["estimator"]] == [4, 4, 4]


def test_two_workers_give_what_one_gives():
    X, y = images()
    grid = {"loss": ["ce", "ce+mcc"]}
    results = [
        GridSearchCV(small(max_epochs=2), grid, cv=2, n_jobs=jobs).fit(X, y) for jobs in (1, 2)
    ]
    one, two = (result.cv_results_["mean_test_score"] for result in results)
    assert_array_equal(one, two)
    assert_array_equal(results[0].predict_proba(X), results[1].predict_proba(X))


def test_pipelines():
    X, y = images()
    rows = X.reshape(len(X), -1)
    scaled = make_pipeline(StandardScaler(), small(input_shape=(6, 6))).fit(rows, y)
    assert scaled[-1].input_shape_ == (1, 6, 6)
    assert scaled.score(rows, y) > 0.9
    smote = make_imblearn_pipeline(SMOTE(random_state=0), small(input_shape=(6, 6)))
    on_rows = smote.fit(rows, y).predict_proba(rows)
    grid = {"cnn2dclassifier__loss": ["ce", "ce+f1"], "ndsampler__sampler__k_neighbors": [3, 5]}
    on_images = make_imblearn_pipeline(NDSampler(SMOTE(random_state=0)), small())
    assert_allclose(on_images.fit(X, y).predict_proba(X), on_rows, rtol=1e-5, atol=1e-7)
    search = GridSearchCV(on_images, grid, cv=2, error_score="raise").fit(X, y)
    assert set(search.best_params_) == set(grid)


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda clf: pickle.loads(pickle.dumps(clf))])
def test_copies_predict_the_same_and_go_on_training_the_same(copy_of):
    X, y = images()
    clf = small().partial_fit(X, y, classes=[0, 1])
    twin = copy_of(clf)
    assert_array_equal(clf.predict_proba(X), twin.predict_proba(X))
    assert len(twin.history_) == 1
    assert_array_equal(
        clf.partial_fit(X, y).predict_proba(X), twin.partial_fit(X, y).predict_proba(X)
    )


def test_joblib_file(tmp_path):
    X, y = images()
    clf = small().fit(X, y)
    joblib.dump(clf, tmp_path / "clf.joblib")
    assert_array_equal(joblib.load(tmp_path / "clf.joblib").predict_proba(X), clf.predict_proba(X))


def test_clone_shares_nothing_and_repeats_the_fit():
    X, y = images()
    clf = small(loss=LossMix(ce=1, mcc=1)).fit(X, y)
    twin = clone(clf)
    assert not hasattr(twin, "net_")
    twin.set_params(loss__mcc=0.5, net__optimizer__weight_decay=0.1)
    assert clf.loss.mcc == 1
    assert clf.net == {"module__width": 8}
    again = clone(clf).fit(X, y)
    for name, value in weights(clf).items():
        assert_array_equal(value, weights(again)[name])
    other = clone(clf).set_params(random_state=1).fit(X, y)
    assert not np.array_equal(clf.predict_proba(X), other.predict_proba(X))


def test_random_states():
    X, y = images()
    a, b = (small(random_state=None).fit(X, y).predict_proba(X) for _ in range(2))
    assert not np.array_equal(a, b)
    a, b = (
        small(random_state=np.random.RandomState(3)).fit(X, y).predict_proba(X) for _ in range(2)
    )
    assert_array_equal(a, b)


class NumpyInitialised(nn.Module):
    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(36 * in_channels, n_classes))
        with torch.no_grad():
            self.layers[1].weight.fill_(np.random.rand() + random.random())  # noqa: NPY002

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("module", ["small", NumpyInitialised])
def test_global_state_is_as_before(module):
    X, y = images()
    clf = small(module=module, random_state=None, net=None)

    def state():
        numpy_state = np.random.get_state()  # noqa: NPY002
        return (
            random.getstate(),
            tuple(numpy_state[1]),
            numpy_state[2:],
            tuple(torch.get_rng_state().tolist()),
            torch.get_num_threads(),
            torch.get_default_dtype(),
        )

    before = state()
    clf.fit(X, y)
    clf.partial_fit(X, y)
    clf.predict_proba(X)
    clone(clf).set_params(train_split=0.3).fit(X, y)
    assert state() == before


def test_sample_weight_is_routed_and_has_effect():
    X, y = images()
    weight = np.where(y == 1, 1.0, 1e-3)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = small(loss="ce", max_epochs=1).set_fit_request(sample_weight=True)
        clf.set_score_request(sample_weight=True)
        pipeline = make_pipeline(NDIdentity(), clf)
        heavy = pipeline.fit(X, y, sample_weight=weight).predict_proba(X)[:, 1].mean()
        light = pipeline.fit(X, y).predict_proba(X)[:, 1].mean()
        search = GridSearchCV(clf, {"loss": ["ce"]}, cv=2, error_score="raise")
        search.fit(X, y, sample_weight=weight)
        routed = search.best_estimator_.predict_proba(X)[:, 1].mean()
    assert heavy > light + 0.1
    assert_allclose(routed, heavy)


class NDIdentity(sklearn.base.TransformerMixin, sklearn.base.BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X


def test_integer_weights_equal_repeated_images():
    X, y = images(n=20)
    X = X.astype(np.float64)
    repeats = np.random.default_rng(1).integers(0, 4, size=20)
    for loss in ("ce+mcc", "wce", "f1+ce"):
        weighted = small(loss=loss, batch_size=64).fit(X, y, sample_weight=repeats)
        repeated = small(loss=loss, batch_size=64).fit(X.repeat(repeats, 0), y.repeat(repeats))
        assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-8)
        scaled = small(loss=loss, batch_size=64).fit(X, y, sample_weight=100.0 * repeats)
        assert_allclose(weighted.predict_proba(X), scaled.predict_proba(X), rtol=1e-8)


def test_class_weight_multiplies_sample_weight():
    X, y = images()
    weight = np.where(np.arange(len(X)) % 2, 2.0, 1.0)
    by_class = small(class_weight={0: 1, 1: 5}).fit(X, y, sample_weight=weight)
    by_row = small().fit(X, y, sample_weight=weight * np.where(y == 1, 5, 1))
    assert_allclose(by_class.predict_proba(X), by_row.predict_proba(X), rtol=1e-4, atol=1e-6)
    balanced = small(class_weight="balanced").fit(X, y)
    counts = np.bincount(y)
    by_hand = small(class_weight={k: 1 / counts[k] for k in (0, 1)}).fit(X, y)
    assert_allclose(balanced.predict_proba(X), by_hand.predict_proba(X), rtol=1e-4, atol=1e-6)
    assert not np.allclose(balanced.predict_proba(X), small().fit(X, y).predict_proba(X))


@pytest.mark.parametrize("labels", [np.array(["no", "yes"]), np.array([False, True]), [-7, 40]])
def test_meta_estimators_on_images_with_any_labels(labels):
    X, y = images()
    y = np.asarray(labels)[y]
    clf = small()
    for meta in (
        CalibratedClassifierCV(clf, cv=2),
        TunedThresholdClassifierCV(clf, cv=2, scoring="balanced_accuracy"),
        VotingClassifier([("a", clf), ("b", small(loss="ce"))], voting="soft"),
    ):
        meta.fit(X, y)
        assert set(meta.predict(X)) <= set(np.asarray(labels))
        assert meta.score(X, y) > 0.8


def test_stacking_on_images_and_bagging_on_rows():
    X, y = images()
    stack = StackingClassifier([("cnn", small())], LogisticRegression(), cv=2).fit(X, y)
    assert stack.score(X, y) > 0.8
    rows = X.reshape(len(X), -1)
    bagging = BaggingClassifier(small(input_shape=(6, 6)), n_estimators=2, random_state=0)
    assert bagging.fit(rows, y).score(rows, y) > 0.8


def test_data_frame_rows_keep_their_names():
    X, y = images()
    frame = pd.DataFrame(X.reshape(len(X), -1)).add_prefix("pixel")
    clf = small(input_shape=(6, 6)).fit(frame, y)
    assert clf.feature_names_in_[0] == "pixel0"
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame.add_prefix("other"))


def test_warm_start_goes_on_from_the_weights():
    X, y = images()
    clf = small(warm_start=True, max_epochs=3).fit(X, y)
    first = clf.history_[-1, "train_loss"]
    clf.fit(X, y)
    assert clf.history_[0, "train_loss"] < 1.5 * first < clf.history_[0, "train_loss"] + 2 * first
    assert clf.n_epochs_ == 3
    cold = small(max_epochs=3).fit(X, y)
    assert clf.history_[0, "train_loss"] < cold.history_[0, "train_loss"]


def test_partial_fit_in_chunks_with_absent_classes():
    X, y = images(n=90, n_classes=3, share=0.4)
    clf = small(loss="ce+wce")
    for _ in range(12):
        for chunk in (y < 2, y > 0):
            clf.partial_fit(X[chunk], y[chunk], classes=[0, 1, 2])
    assert clf.n_epochs_ == 24
    assert clf.score(X, y) > 0.9
    again = small(loss="ce+wce")
    for _ in range(12):
        for chunk in (y < 2, y > 0):
            again.partial_fit(X[chunk], y[chunk], classes=[0, 1, 2])
    assert_array_equal(clf.predict_proba(X), again.predict_proba(X))


@pytest.mark.parametrize("train_split", [0.25, 4, ValidSplit(0.25, stratified=True)])
def test_early_stopping_on_held_out_rows(train_split):
    X, y = images()
    clf = small(
        max_epochs=30,
        train_split=train_split,
        callbacks=[
            ("score", EpochScoring("balanced_accuracy", lower_is_better=False)),
            ("stop", EarlyStopping("balanced_accuracy", patience=1, lower_is_better=False)),
        ],
    ).fit(X, y)
    assert clf.n_epochs_ < 30
    assert 0 <= clf.history_[-1, "balanced_accuracy"] <= 1
    assert clf.history_[-1, "valid_loss"] > 0
    clf.set_params(net__callbacks__stop__patience=60)
    assert clf.fit(X, y).n_epochs_ == 30
    assert clf.callbacks[1][1].patience == 1


def test_validation_set_of_ones_own_in_original_labels():
    X, y = images()
    names = np.array(["no", "yes"])
    X_val, y_val = images(seed=9)
    valid = predefined_split(Dataset(X_val, names[y_val]))
    scoring = ("score", EpochScoring("accuracy", name="held_out", lower_is_better=False))
    clf = small(train_split=valid, callbacks=[scoring]).fit(X, names[y])
    assert clf.history_[-1, "held_out"] == pytest.approx(clf.score(X_val, names[y_val]))


def test_validation_rows_leak_into_nothing():
    X, y = images()
    held_out = np.arange(len(X)) % 4 == 0
    changed = X.copy()
    changed[held_out] += 1000

    def split(dataset, y):
        subset = torch.utils.data.Subset
        return subset(dataset, np.flatnonzero(~held_out)), subset(dataset, np.flatnonzero(held_out))

    mine = small(train_split=split, loss="wce").fit(changed, y)
    alone = small(loss="wce").fit(X[~held_out], y[~held_out])
    assert_allclose(mine.net_.module_.mean, alone.net_.module_.mean)
    assert_allclose(mine.net_.criterion_.class_weight, alone.net_.criterion_.class_weight)


def test_checkpoint_and_schedule(tmp_path):
    X, y = images()
    clf = small(
        train_split=0.25,
        callbacks=[
            ("schedule", LRScheduler("StepLR", step_size=1, gamma=0.5)),
            ("best", Checkpoint(dirname=str(tmp_path), load_best=True)),
        ],
    )
    clf.set_params(net__callbacks__schedule__gamma=0.1).fit(X, y)
    assert (tmp_path / "params.pt").exists()
    rates = clf.history_[:, "event_lr"]
    assert_allclose(rates, [5e-3 * 0.1**epoch for epoch in range(4)])
    plain = small().fit(X, y).history_[:, "event_lr"]
    assert_allclose(plain, [5e-3 * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4)])


def test_verbosity(capsys):
    X, y = images()
    small(verbose=0).fit(X, y)
    silent = capsys.readouterr()
    assert silent.out == silent.err == ""
    small(verbose=1).fit(X, y)
    bar = capsys.readouterr()
    assert "4/4" in bar.err
    assert "train_loss" in bar.err
    assert bar.out == ""
    small(verbose=2).fit(X, y)
    table = capsys.readouterr().out
    assert "train_loss" in table
    assert len(table.splitlines()) == 6


def test_iterator_of_the_users_is_used():
    X, y = images()
    net = {"iterator_train": DataLoader, "iterator_train__shuffle": True, "module__width": 8}
    clf = small(net=net, max_epochs=8).fit(X, y)
    assert clf.net_.iterator_train is DataLoader
    assert [batch["train_batch_size"] for batch in clf.history_[0]["batches"]] == [32, 32, 16]
    assert clf.score(X, y) > 0.9


def build(in_channels, n_classes, hidden=4):
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * hidden, n_classes),
    )


def test_factories():
    X, y = images()
    clf = small(module=build, net={"module__hidden": 7}).fit(X, y)
    assert clf.net_.module_.network[0].out_channels == 7
    small_net = functools.partial(SmallCNN, spatial_shape=(6, 6))
    assert small(module=lambda c, k: small_net(c, k, width=4), net=None).fit(X, y).score(X, y) > 0.5


@pytest.mark.parametrize("module", ["resnet18", "resnet34"])
@BOTH
def test_resnets_fit(classifier, module):
    X, y = images(n=12, ndim=len(classifier._axes))
    clf = small(classifier, module=module, max_epochs=1).fit(X, y)
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.CrossEntropyLoss(torch.ones(2))])
def test_loss_module(loss):
    X, y = images()
    custom = small(loss=loss).fit(X, y)
    assert_allclose(custom.predict_proba(X), small(loss="ce").fit(X, y).predict_proba(X), rtol=1e-4)
    assert custom.net_.criterion_ is not loss


def test_micro_batches_change_nothing_but_memory():
    X, y = images()
    X = X.astype(np.float64)
    whole = small().fit(X, y)
    parts = small(micro_batch_size=5).fit(X, y)
    assert_allclose(parts.predict_proba(X), whole.predict_proba(X), rtol=1e-8)


def test_precision():
    X, y = images()
    assert small().fit(X.astype(np.float64), y).predict_proba(X).dtype == np.float64
    assert small().fit(X, y).predict_proba(X).dtype == np.float32
    low = small(dtype="bfloat16", max_epochs=8).fit(X, y)
    assert low.score(X, y) > 0.9
    assert low.net_.module_.network.classifier.weight.dtype == torch.float32


def test_interrupt_reaches_the_caller_and_keeps_the_weights(monkeypatch):
    X, y = images()
    clf = small()
    step, calls = clf._optimizer().step, []

    class Interrupted(torch.optim.Adam):
        def step(self, *args, **kwargs):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return step(self, *args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        clf.set_params(optimizer=Interrupted).fit(X, y)
    assert len(calls) == 5
    assert clf.predict(X).shape == y.shape


def test_real_x_rays(data_dir):
    file = np.load(data_dir / "pneumoniamnist" / "pneumoniamnist_full_rebuilt.npz")
    X, y = file["train_images"][:1000], file["train_labels"][:1000, 0]
    clf = CNN2DClassifier(max_epochs=4, random_state=0).fit(X, y)
    score = roc_auc_score(file["val_labels"][:, 0], clf.predict_proba(file["val_images"])[:, 1])
    assert score > 0.9


def test_real_volumes(data_dir):
    file = np.load(data_dir / "vesselmnist3d" / "vesselmnist3d.npz")
    X, y = file["train_images"][:300, ::2, ::2, ::2], file["train_labels"][:300, 0]
    clf = CNN3DClassifier(sampler="balanced", max_epochs=2, random_state=0).fit(X, y)
    probability = clf.predict_proba(file["val_images"][:, ::2, ::2, ::2])
    assert np.isfinite(probability).all()
    assert probability[:, 1].std() > 0.01


@pytest.mark.cuda
def test_cuda_agrees_with_the_cpu_and_searches():
    X, y = images()
    on_cpu = small(max_epochs=2).fit(X, y).predict_proba(X)
    clf = small(max_epochs=2, device="cuda").fit(X, y)
    assert_allclose(clf.predict_proba(X), on_cpu, atol=0.05)
    assert small(device="auto").fit(X, y).net_.device == "cuda"
    pipeline = make_imblearn_pipeline(NDSampler(SMOTE(random_state=0)), small(device="cuda"))
    search = GridSearchCV(pipeline, {"cnn2dclassifier__loss": ["ce", "ce+mcc"]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.7


@pytest.mark.cuda
def test_pickle_of_cuda_loads_on_the_cpu(tmp_path):
    X, y = images()
    clf = small(device="cuda").fit(X, y)
    (tmp_path / "clf.pkl").write_bytes(pickle.dumps(clf))
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pickle, numpy as np, warnings; warnings.simplefilter('ignore');"
        "clf = pickle.load(open('clf.pkl', 'rb'));"
        "np.save('p.npy', clf.predict_proba(np.load('X.npy')))"
    )
    environment = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert_allclose(np.load(tmp_path / "p.npy"), clf.predict_proba(X), atol=1e-3)
