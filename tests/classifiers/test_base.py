"""The classifiers inside scikit-learn, imbalanced-learn and skorch."""

import copy
import gc
import inspect
import io
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import ClassVar

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
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss, recall_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
)
from torch import nn
from torch.utils.data import DataLoader

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, NDSampler
from skimbal.augmentation import RandomFlip, RandomGamma
from skimbal.losses import inverse_frequency, log_prior
from skimbal.networks import SmallCNN
from skimbal.sampling import BatchSampler
from skimbal.training import ImageDataset, forward
from tests.classifiers.data import (
    BOTH,
    CLASSIFIERS,
    OUTPUTS,
    Listener,
    N,
    NDIdentity,
    Seen,
    Y,
    assert_same_weights,
    global_state,
    images,
    no_module,
    noise,
    seen,
    small,
    tiny,
    too_many_outputs,
    weights,
)


@BOTH
@pytest.mark.parametrize("n_classes", [2, 3])
def test_learns_and_its_outputs_agree(classifier, n_classes):
    X, y = images(ndim=len(classifier.spatial_axes), n_classes=n_classes)
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
    ("sampler", "n_rows"),
    [
        (None, 80),
        ("uniform", 80),
        ("balanced", 112),
        ("stratified", 80),
        ("weighted", 80),
        (RandomOverSampler(), 112),
        (RandomUnderSampler(), 48),
    ],
)
def test_every_sampler_trains(classifier, sampler, n_rows):
    X, y = images(ndim=len(classifier.spatial_axes))
    assert np.bincount(y).tolist() == [56, 24]
    clf = small(classifier, sampler=sampler, max_epochs=8).fit(X, y)
    assert clf.score(X, y) > 0.9
    sizes = [sum(batch["train_batch_size"] for batch in row["batches"]) for row in clf.history_]
    assert sizes == [n_rows] * 8


@pytest.mark.parametrize(("epoch_length", "n_batches"), [(None, 4), ("uniform", 3), (2, 2), (7, 7)])
def test_epochs_are_as_long_as_asked_for(epoch_length, n_batches):
    X, y = images()
    clf = small(sampler="balanced", epoch_length=epoch_length, max_epochs=2).fit(X, y)
    assert clf.history_[:, "train_batch_count"] == [n_batches] * 2


@BOTH
def test_docstring_has_its_summary_and_the_shared_parameters(classifier):
    doc = inspect.getdoc(classifier)
    assert doc.startswith("Convolutional network for ")
    names = re.findall(r"^(\w+) : ", doc.partition("Attributes\n")[0], flags=re.MULTILINE)
    assert names == list(inspect.signature(classifier).parameters)
    assert f">>> from skimbal import {classifier.__name__}\n" in doc.rpartition("Examples\n")[2]
    assert {len(re.findall(rf"^{name}\n-+$", doc, flags=re.M)) for name in SECTIONS} == {1}
    assert inspect.getdoc(type("Subclass", (classifier,), {})) == doc


SECTIONS = ["Parameters", "Attributes", "See Also", "References", "Examples"]


def mcc_by_hand(p, hot):
    p_mean, hot_mean = p.mean(0), hot.mean(0)
    covariance = (p * hot).sum(1).mean() - (p_mean * hot_mean).sum()
    return covariance / ((1 - (p_mean**2).sum()) * (1 - (hot_mean**2).sum())).sqrt()


def ldam_by_hand(p, hot, margin):
    p = p * (-hot * margin).exp()
    return -(hot * (p / p.sum(1, keepdim=True)).log()).sum(1).mean()


#: Of probabilities, one-hot labels and the shares of the classes among the training rows.
LOSSES_BY_HAND = {
    "ce": lambda p, hot, share: -(hot * p.log()).sum(1).mean(),
    "wce": lambda p, hot, share: -(hot * p.log() / (len(share) * share)).sum(1).mean(),
    "focal": lambda p, hot, share: -(hot * (1 - p) ** 2 * p.log()).sum(1).mean(),
    "la": lambda p, hot, share: -(hot * (p * share / (p @ share)[:, None]).log()).sum(1).mean(),
    "ldam": lambda p, hot, share: ldam_by_hand(p, hot, 0.5 * (share.min() / share) ** 0.25),
    "f1": lambda p, hot, share: 1 - (2 * (p * hot).sum(0) / (p + hot).sum(0)).mean(),
    "mcc": lambda p, hot, share: 1 - mcc_by_hand(p, hot),
}


SAMPLERS = [
    None,
    "balanced",
    "stratified",
    "weighted",
    RandomOverSampler(random_state=0),
    RandomUnderSampler(random_state=0),
]


class FirstWeights(Callback):
    """Keep the weights before training; it looks at no batch."""

    def on_train_begin(self, net, X, y):
        self.state_ = copy.deepcopy(net.module_.state_dict())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("loss", [*LOSSES_BY_HAND, "ce+f1", "wce+mcc", "ldam+f1"])
def test_training_is_a_plain_loop(loss, sampler, monkeypatch):
    drawn, draw = [], BatchSampler.__iter__
    monkeypatch.setattr(
        BatchSampler, "__iter__", lambda self: (drawn.append(rows) or rows for rows in draw(self))
    )
    X, y = images(n=50, n_classes=3, share=0.5)
    X = X.astype(np.float64)
    mix = LossMix.from_expression(loss, warmup_epochs=0)
    clf = small(loss=mix, sampler=sampler, max_epochs=3, batch_size=16)
    clf.set_params(callbacks=[("first", FirstWeights())]).fit(X, y)

    network = SmallCNN(1, 3, (6, 6), width=8).double()
    state = dict(clf.net_.callbacks_)["first"].state_
    network.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith("network.")})
    optimizer = torch.optim.Adam(network.parameters(), fused=False, foreach=False)
    images_, hot = torch.from_numpy((X - X.mean()) / X.std())[:, None], torch.eye(3).double()[y]
    losses = []
    for step, rows in enumerate(drawn):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 + np.cos(np.pi * step / len(drawn))) / 2
        p = network(images_[rows]).softmax(1)
        value = sum(LOSSES_BY_HAND[name](p, hot[rows], hot.mean(0)) for name in loss.split("+"))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    history = np.ravel(clf.history_[:, "batches", :, "train_loss"])
    assert_allclose(history, losses, rtol=1e-9)
    for name, value in network.state_dict().items():
        trained = clf.net_.module_.network.state_dict()[name]
        assert_allclose(trained.numpy(), value.numpy(), rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("lean", [True, False], ids=["lean", "followed"])
@pytest.mark.parametrize("micro_batch_size", [None, 3])
@pytest.mark.parametrize("spec", ["mcc", "f1", "ce+mcc"])
def test_moving_statistics_and_warm_up_are_a_plain_loop(spec, micro_batch_size, lean, monkeypatch):
    drawn, draw = [], BatchSampler.__iter__
    monkeypatch.setattr(
        BatchSampler, "__iter__", lambda self: (drawn.append(rows) or rows for rows in draw(self))
    )
    X, y = images(n=50, n_classes=3, share=0.8)
    X = X.astype(np.float64)
    clf = small(loss=LossMix.from_expression(spec, statistics="moving", horizon=40))
    clf.set_params(max_epochs=4, batch_size=5, micro_batch_size=micro_batch_size)
    callbacks = [("first", FirstWeights()), *([] if lean else [("listener", Listener())])]
    clf.set_params(callbacks=callbacks).fit(X, y)

    network = SmallCNN(1, 3, (6, 6), width=8).double()
    state = dict(clf.net_.callbacks_)["first"].state_
    network.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith("network.")})
    optimizer = torch.optim.Adam(network.parameters(), fused=False, foreach=False)
    images_, hot = torch.from_numpy((X - X.mean()) / X.std())[:, None], torch.eye(3).double()[y]
    sums, losses = torch.zeros(3, 3).double(), []
    for step, rows in enumerate(drawn):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 + np.cos(np.pi * step / 40)) / 2
        p = network(images_[rows]).softmax(1)
        vectors = torch.stack([(p * hot[rows]).sum(0), p.sum(0), hot[rows].sum(0)])
        sums = sums * np.exp(-len(rows) / 40) + vectors
        tp, q, t = sums / sums[2].sum()
        if "mcc" in spec and t.max() == 1:
            metric = 1 + 0 * tp.sum()
        elif "mcc" in spec:
            variances = (1 - q @ q) * (1 - t @ t)
            metric = 1 - (tp.sum() - q @ t) / variances.sqrt()
        else:
            metric = 1 - (2 * tp / (q + t)).mean()
        # The gradient of the sums, as if they were of this batch alone.
        pull = (metric - metric.detach()) * (sums[2].sum().detach() / len(rows))
        sums, metric = sums.detach(), metric.detach() + pull
        ce = -(hot[rows] * p.log()).sum(1).mean()
        share = 0 if "ce" in spec else max(0, 1 - step / 10 / 2)  # ten steps an epoch, two epochs
        value = (1 - share) * metric + (share or "ce" in spec) * ce
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert len(losses) == 40
    assert_allclose(np.ravel(clf.history_[:, "batches", :, "train_loss"]), losses, rtol=1e-7)
    for name, value in network.state_dict().items():
        trained = clf.net_.module_.network.state_dict()[name]
        assert_allclose(trained.numpy(), value.numpy(), rtol=1e-5, atol=1e-8, err_msg=name)


def test_warm_up_is_for_pure_losses_and_a_search_dimension():
    X, y = images(n=60)
    for loss in ("ce+mcc", "ce", "focal", "la", "balanced_softmax+f1", "ldam+mcc"):
        pure = LossMix.from_expression(loss, warmup_epochs=0)
        fits = [small(loss=given, max_epochs=2).fit(X, y) for given in (loss, pure)]
        assert_same_weights(*fits)
    fits = [small(loss=LossMix(mcc=1, warmup_epochs=n)).fit(X, y) for n in (0, 2, 0.5, 2.0)]
    assert_same_weights(fits[1], fits[2])  # half of the four epochs
    assert_same_weights(fits[1], fits[3])
    losses = [clf.history_[:, "train_loss"] for clf in fits[:2]]
    assert not np.allclose(*losses)
    clf = small(loss=LossMix(f1=1), max_epochs=1)
    search = GridSearchCV(clf, {"loss__warmup_epochs": [0, 1]}, cv=2)
    assert search.fit(X, y).best_params_["loss__warmup_epochs"] in (0, 1)


def test_warm_up_and_moving_statistics_go_on_in_partial_fit():
    X, y = images(n=40)
    loss = LossMix(mcc=1, statistics="moving", warmup_epochs=2)
    clf = small(loss=loss, batch_size=8)
    clf.partial_fit(X, y, classes=[0, 1])
    mass, loss = clf.net_.criterion_.moving[2].sum(), clf.history_[0, "batches", 0, "train_loss"]
    assert loss == pytest.approx(np.log(2), rel=0.5)  # cross-entropy to begin with
    clf.partial_fit(X, y)
    assert clf.net_.criterion_.moving[2].sum() > mass
    clf.partial_fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    assert torch.equal(again.net_.criterion_.moving, clf.net_.criterion_.moving)
    # Two epochs of warm-up are over.
    logits, target = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    pure = copy.deepcopy(clf.net_.criterion_)(logits, target)
    assert clf.net_.get_loss(logits, target, training=True) == pure
    # warm_start goes on with its epochs, too: there is no second warm-up.
    clf = small(loss=LossMix(mcc=1, warmup_epochs=1), max_epochs=1, warm_start=True).fit(X, y)
    assert clf.fit(X, y).net_.epochs_before_ == 1


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("classifier", "dtype"),
    [
        (CNN2DClassifier, "float64"),
        (CNN3DClassifier, "float64"),
        (CNN3DClassifier, "float32"),
        (CNN2DClassifier, "bfloat16"),
    ],
)
def test_logit_adjustment_is_its_formula(classifier, dtype, n_classes):
    X, y = images(n=60, ndim=len(classifier.spatial_axes), n_classes=n_classes, share=0.8)
    weight = np.random.default_rng(0).uniform(0.2, 3, len(y))
    clf = small(classifier, max_epochs=1, dtype=dtype, logit_adjustment=0.7)
    clf.fit(X, y, sample_weight=weight)
    prior = np.bincount(y, weights=weight) / weight.sum()
    assert_allclose(clf.class_prior_, prior, rtol=1e-12)
    logits = clf.net_.forward(ImageDataset(X[:, None])).numpy()
    adjusted = logits - 0.7 * np.log(prior)
    rtol, atol = (1e-10, 1e-12) if dtype == "float64" else (1e-4, 1e-5)
    decision = clf.decision_function(X)
    expected = adjusted[:, 1] - adjusted[:, 0] if n_classes == 2 else adjusted
    assert_allclose(decision, expected, rtol, atol)
    assert decision.dtype == logits.dtype
    expected = sklearn.utils.extmath.softmax(adjusted)
    assert_allclose(clf.predict_proba(X), expected, rtol, atol)
    assert_array_equal(clf.predict(X), adjusted.argmax(1))
    # It is read at prediction, and training knows nothing of it.
    plain = clone(clf).set_params(logit_adjustment=0).fit(X, y, sample_weight=weight)
    assert_same_weights(plain, clf)
    plain.set_params(logit_adjustment=0.7)
    assert_array_equal(plain.predict_proba(X), clf.predict_proba(X))
    for other in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        assert_array_equal(other.decision_function(X), decision)
        assert_array_equal(other.class_prior_, clf.class_prior_)
    assert clone(clf).get_params()["logit_adjustment"] == 0.7


def test_logit_adjustment_moves_predictions_to_the_rare_class():
    X, y = images(n=200, share=0.95)
    X += np.random.default_rng(1).normal(scale=2, size=X.shape)
    clf = small(loss="ce", max_epochs=3).fit(X, y)
    n_rare = [np.sum(clf.set_params(logit_adjustment=tau).predict(X)) for tau in (0, 0.5, 1, 2, 9)]
    assert n_rare == sorted(n_rare)
    assert n_rare[0] < n_rare[2]
    assert n_rare[-1] == 200
    changed = clf.set_params(logit_adjustment=1).predict(X) != clf.set_params(
        logit_adjustment=0
    ).predict(X)
    decision = clf.decision_function(X)
    assert_array_equal(changed, (decision <= 0) & (decision > np.log(0.05 / 0.95)))


def test_class_prior_is_that_of_the_training_rows():
    X, y = images(n=80, n_classes=3, share=0.6)
    train = Seen()
    for params in (
        {},
        {"train_split": 0.25},
        {"sampler": "balanced", "class_weight": "balanced"},
        {"sampler": RandomUnderSampler()},
    ):
        clf = small(max_epochs=1, callbacks=[("seen", train)], **params)
        assert not hasattr(clf, "class_prior_")
        clf.fit(X, y)
        counts = np.bincount(seen(clf).train_.y)
        assert_allclose(clf.class_prior_, counts / counts.sum(), rtol=1e-12)
        assert clf.class_prior_.sum() == pytest.approx(1, abs=1e-15)
    # Rows without weight are no rows.
    keep = np.arange(80) % 3 > 0
    weighted = small(max_epochs=1).fit(X, y, sample_weight=keep)
    assert_allclose(weighted.class_prior_, np.bincount(y[keep]) / keep.sum(), rtol=1e-12)


def test_scores_of_training_see_logits_as_they_are():
    X, y = images(n=100, share=0.9)
    scoring = ("score", EpochScoring("balanced_accuracy", lower_is_better=False, name="score"))
    params = {"train_split": 0.3, "callbacks": [scoring], "max_epochs": 3, "lr": 5e-4}
    plain, adjusted = (small(**params, logit_adjustment=tau).fit(X, y) for tau in (0, 3))
    assert plain.history_[:, "score"] == adjusted.history_[:, "score"]
    assert not np.array_equal(plain.predict(X), adjusted.predict(X))


class Recorder:
    """Keeps what it is given; all copies keep it in the same list."""

    seen: ClassVar[list] = []

    def __init__(self, change=lambda images: images):
        self.change = change

    def __call__(self, images):
        changed = self.change(images)
        self.seen.append((images.clone(), changed.clone(), torch.is_autocast_enabled("cpu")))
        return changed


@pytest.fixture(autouse=True)
def _forget_images():
    Recorder.seen.clear()


def recorded(part=0):
    """Return the rows of a recorder since the trial of a fit, as one array."""
    return torch.cat([record[part] for record in Recorder.seen[1:]]).numpy()


class Inputs(nn.Module):
    """A network that keeps the images that it sees, by whether it was trained on them."""

    seen: ClassVar[list] = []

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.layer = nn.Linear(in_channels, n_classes)

    def forward(self, x):
        self.seen.append((self.training, x.detach().clone()))
        return self.layer(x.flatten(2).mean(2))


@pytest.fixture
def network_inputs():
    Inputs.seen.clear()
    return lambda training: torch.cat([x for trained, x in Inputs.seen if trained == training])


def numbered(n=40, shape=(6, 6)):
    """Images that hold their row number, of two classes."""
    X = np.broadcast_to(np.arange(n, dtype=np.uint8).reshape(-1, *[1] * len(shape)), (n, *shape))
    return X, np.arange(n) % 2


def test_training_rows_alone_are_augmented():
    X, y = numbered()
    clf = small(
        augment=Recorder(),
        train_split=0.25,
        callbacks=[("seen", Seen()), EpochScoring("accuracy"), EpochScoring("f1", on_train=True)],
    ).fit(X, y)
    n_calls = len(Recorder.seen)
    rows = seen(clf).train_.rows
    assert len(rows) == 30
    for epoch in recorded().reshape(clf.max_epochs, len(rows), -1):
        assert sorted(epoch[:, 0]) == sorted(rows)
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        getattr(clf, method)(X)
    assert len(Recorder.seen) == n_calls


def test_validation_loss_is_that_of_the_images_as_they_are():
    X, y = images()
    # The last epoch changes no weight: its validation loss is that of the network that is left.
    augment = Recorder(lambda images: torch.zeros_like(images))
    clf = small(augment=augment, train_split=0.3, loss="ce", callbacks=[("seen", Seen())])
    clf.set_params(class_weight=None).fit(X, y)
    rows = seen(clf).valid_.rows
    assert_allclose(
        clf.history_[-1, "valid_loss"], log_loss(y[rows], clf.predict_proba(X[rows])), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("params", "n_rows"),
    [
        ({}, 40),
        ({"micro_batch_size": 4, "loss": "ce"}, None),
        ({"micro_batch_size": 4, "loss": "mcc"}, None),
        ({"sampler": "balanced"}, 60),
        ({"sampler": "stratified"}, 40),
        ({"sampler": "weighted"}, 40),
        ({"sampler": RandomUnderSampler()}, 20),
        ({"sampler": RandomOverSampler()}, 60),
        ({"class_weight": "balanced"}, 40),
        ({"dtype": "bfloat16"}, 40),
        ({"net": {"iterator_train": DataLoader, "iterator_train__shuffle": True}}, 40),
    ],
    ids=str,
)
def test_every_way_to_train_augments(params, n_rows):
    X, _ = numbered()
    y = (np.arange(40) >= 30).astype(int)
    clf = small(augment=["flip", Recorder(lambda images: images + 100)], **params)
    clf.fit(X, y, sample_weight=np.linspace(1, 2, 40))
    before, after = recorded(0), recorded(1)
    if n_rows is not None:
        assert len(before) == n_rows * clf.max_epochs
    every_row = not {"weighted", "RandomUnderSampler()"} & {str(clf.sampler)}
    assert set(before.flat) == set(range(40)) or not every_row
    assert before.dtype == np.float32
    assert_array_equal(after, before + 100)
    assert not any(low for *_, low in Recorder.seen)


def test_float64_is_augmented_in_float64():
    X, y = numbered()
    small(augment=[Recorder(), "paper"]).fit(X.astype(np.float64), y)
    assert recorded().dtype == np.float64


@BOTH
def test_draws_differ_by_epoch_and_image_and_repeat_by_seed(classifier):
    shape = (6,) * len(classifier.spatial_axes)
    X, y = images(n=8, ndim=len(shape))
    fits = []
    for seed in (0, 0, 1):
        Recorder.seen.clear()
        clf = small(classifier, augment=["paper", Recorder()], random_state=seed).fit(X, y)
        fits.append((recorded(), clf))
    (drawn, one), (same, two), (other, _) = fits
    assert_array_equal(drawn, same)
    assert_same_weights(one, two)
    assert not np.array_equal(drawn, other)
    # 8 images in 4 epochs: so many of them are other images that draws cannot be shared.
    assert len({image.tobytes() for image in drawn}) > 25


@pytest.mark.parametrize("params", [{"augment": "paper"}, {"crop_size": 4}], ids=str)
def test_augmentation_leaves_global_state_alone(params):
    X, y = images()
    before = global_state()
    clf = small(n_tta=3, random_state=None, **params).fit(X, y)
    clf.partial_fit(X, y)
    clf.predict(X)
    assert global_state() == before
    assert_array_equal(clf.predict_proba(X), clf.predict_proba(X))


def test_callables_get_images_of_their_own():
    X, y = images()
    X32 = X.copy()

    def in_place(images):
        return images.zero_()

    clf = small(augment=in_place, loss="mcc", micro_batch_size=8).fit(X32, y)
    assert_array_equal(X32, X)
    clf.set_params(n_tta=3).predict(X32)
    assert_array_equal(X32, X)


def test_modules_are_copied_and_survive():
    X, y = images()
    module = nn.BatchNorm2d(1)
    clf = small(augment=module)
    assert clone(clf).augment is not module
    clf.fit(X, y)
    assert module.num_batches_tracked == 0
    (copy_,) = clf.net_.augmentation
    assert copy_.num_batches_tracked > 1
    # They are not trained, and no part of the network.
    assert_array_equal(copy_.weight.detach(), [1])
    assert not any("augment" in name for name in clf.net_.module_.state_dict())
    for other in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        assert_array_equal(other.net_.augmentation[0].running_mean, copy_.running_mean)
        assert_array_equal(other.predict_proba(X), clf.predict_proba(X))


def test_a_fit_with_a_function_that_does_not_pickle_can_be_copied():
    X, y = images()
    clf = small(augment=lambda images: images + torch.randn_like(images), n_tta=2).fit(X, y)
    assert_array_equal(copy.deepcopy(clf).predict_proba(X), clf.predict_proba(X))


def test_search_over_augmentation():
    X, y = images()
    values = [None, "flip", ["flip", RandomGamma()]]
    search = GridSearchCV(small(max_epochs=1), {"augment": values}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_partial_fit_augments():
    X, y = numbered()
    clf = small(augment=Recorder()).partial_fit(X, y, classes=[0, 1])
    assert sorted(recorded()[:, 0, 0, 0]) == list(range(40))
    n_calls = len(Recorder.seen)
    clf.set_params(augment=None).partial_fit(X, y)
    assert len(Recorder.seen) == n_calls
    clf.set_params(augment="flip").partial_fit(X, y)
    assert [type(step).__name__ for step in clf.net_.augmentation] == ["RandomFlip"]


@BOTH
@pytest.mark.parametrize("size", [4, "each"])
@pytest.mark.parametrize("standardize", [True, False])
def test_crops_are_random_in_training_and_central_after_it(
    classifier, size, standardize, network_inputs, rng
):
    n_axes = len(classifier.spatial_axes)
    size = size if size == 4 else (3, 4, 5)[:n_axes]
    sizes = (4,) * n_axes if size == 4 else size
    X = rng.normal(3, 2, size=(20, 2, *[7] * n_axes)).astype(np.float32)
    y = np.arange(20) % 2
    clf = small(classifier, module=Inputs, crop_size=size, standardize=standardize, net=None)
    clf.fit(X, y)
    trained = network_inputs(training=True)
    assert trained.shape == (20 * clf.max_epochs, 2, *sizes)
    assert len({image.numpy().tobytes() for image in trained}) > 40
    Inputs.seen.clear()
    clf.predict_proba(X)
    begin = [(7 - n) // 2 for n in sizes]
    center = X[(..., *[slice(b, b + n) for b, n in zip(begin, sizes, strict=True)])]
    if standardize:  # by the statistics of whole images
        axes = (0, *range(2, X.ndim))
        mean, std = X.mean(axes, keepdims=True), X.std(axes, keepdims=True)
        center = (center - mean) / std
    assert_allclose(network_inputs(training=False), center, rtol=1e-4, atol=1e-5)
    assert clf.input_shape_ == (2, *[7] * n_axes)


@pytest.mark.parametrize("method", ["predict_proba", "decision_function"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("net", [{}, {"iterator_valid": DataLoader}])
def test_passes_are_averaged_in_probability(n_classes, method, net):
    X, y = images(n_classes=n_classes)
    # Of two passes, the second one sees all images mirrored along both axes.
    clf = small(augment=RandomFlip(p=1), n_tta=1, net={"module__width": 8, **net}).fit(X, y)
    plain = clf.predict_proba(X), clf.predict_proba(X[:, ::-1, ::-1])
    features = clf.transform(X)
    clf.set_params(n_tta=2)
    expected = np.mean(plain, 0)
    assert np.abs(expected - plain[0]).max() > 0.01
    if method == "decision_function":
        log = np.log(expected)
        expected = log[:, 1] - log[:, 0] if n_classes == 2 else log
    assert_allclose(getattr(clf, method)(X), expected, rtol=1e-4, atol=1e-5)
    assert_array_equal(clf.predict(X), clf.classes_[clf.predict_proba(X).argmax(1)])
    assert_allclose(clf.transform(X), features)


def test_mean_of_passes_is_adjusted_by_the_prior():
    X, y = images()
    clf = small(augment=RandomFlip(p=1), n_tta=2).fit(X, y)
    expected = np.log(clf.predict_proba(X)) - np.log(clf.class_prior_)
    clf.set_params(logit_adjustment=1)
    assert_allclose(
        clf.predict_proba(X), sklearn.utils.extmath.softmax(expected), rtol=1e-4, atol=1e-6
    )


def test_more_passes_draw_more():
    X, y = images()
    clf = small(augment="flip", random_state=5).fit(X, y)
    by_passes = [clf.set_params(n_tta=n).predict_proba(X) for n in (1, 2, 5)]
    for one, other in ((0, 1), (1, 2)):
        assert np.abs(by_passes[one] - by_passes[other]).max() > 1e-3
    again = small(augment="flip", random_state=5, n_tta=5).fit(X, y)
    assert_array_equal(again.predict_proba(X), by_passes[2])


def test_passes_with_folded_normalisation():
    X, y = images(n=40)
    net = {"module__width": 8, "module__norm": "batch"}
    clf = small(augment=RandomFlip(p=1), n_tta=2, net=net).fit(X, y)
    expected = clf.predict_proba(X)
    many = clf.predict_proba(np.tile(X, (200, 1, 1)))  # pays for folding
    assert_allclose(many[:40], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler itself
def test_compiled_network_sees_the_same_augmented_images():
    X, y = images(n=64)
    X = X.astype(np.float64)
    # A full graph has no place for a callable that leaves torch.
    options = {"augment": ["paper", lambda x: x + np.random.rand()], "crop_size": 4}  # noqa: NPY002
    net = {"module__width": 8, "compile__fullgraph": True}
    plain = small(max_epochs=1, n_tta=2, **options).fit(X, y)
    compiled = small(max_epochs=1, n_tta=2, compile=True, net=net, **options).fit(X, y)
    assert_allclose(compiled.predict_proba(X), plain.predict_proba(X), rtol=1e-6)


def classified(clf, features):
    """Compute what the last layer of a built-in network makes of the features."""
    layer = clf.net_.module_.network.classifier
    weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
    logits = features @ weight.T + bias
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


def n_hooks(clf):
    return sum(
        len(m._forward_pre_hooks) + len(m._forward_hooks) for m in clf.net_.module_.modules()
    )


@BOTH
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("module", ["small", "resnet18"])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_logits_are_the_last_layer_of_the_features(norm, module, n_classes, classifier):
    X, y = images(ndim=len(classifier.spatial_axes), n_classes=n_classes)
    net = {"module__width": 8, "module__norm": norm}
    clf = small(classifier, module=module, net=net, max_epochs=1).fit(X.astype(np.float64), y)
    for dtype in (np.float64, np.float32):
        features = clf.transform(X.astype(dtype))
        assert features.dtype == np.float64
        assert_allclose(classified(clf, features), clf.decision_function(X), rtol=1e-10, atol=1e-12)
    width = {"small": 8 * 4 * 2 ** len(classifier.spatial_axes), "resnet18": 64}[module]
    assert features.shape == (len(X), width)
    prefix = classifier.__name__.lower()
    assert clf.get_feature_names_out().tolist() == [f"{prefix}{i}" for i in range(width)]
    assert n_hooks(clf) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_features_are_float32_unless_the_network_is_float64(dtype):
    X, y = images(n_classes=3)
    clf = small(dtype=dtype, max_epochs=1).fit(X, y)
    for kind in (np.float32, np.float64, np.int8):
        assert clf.transform(X.astype(kind)).dtype == np.float32
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 0.1, "atol": 0.05}
    assert_allclose(classified(clf, clf.transform(X)), clf.decision_function(X), **tolerance)
    auto = small(max_epochs=1).fit(X, y)
    assert auto.transform(X).dtype == np.float32


def two_heads(in_channels, n_classes):
    """Have the linear layer that runs last neither declared last nor of the highest number."""

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(7, n_classes)
            self.body = nn.Linear(36 * in_channels, 7)
            self.unused = nn.Linear(7, 5)
            self.activation = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.head(self.activation(self.body(x.flatten(1))))

    return TwoHeads()


def test_features_are_the_input_of_the_layer_that_runs_last_or_is_named():
    X, y = images(n_classes=3)
    clf = small(module=two_heads, net=None).fit(X, y)
    network = clf.net_.module_.network
    with torch.no_grad():
        images_ = clf.net_.module_.prepare(torch.from_numpy(X)[:, None]).flatten(1)
        body = network.body(images_)
        expected = {None: body.relu(), "head": body.relu(), "body": images_, "": images_}
    expected["activation"] = body  # as it was before the layer wrote over it
    for name, features in expected.items():
        other = small(module=two_heads, net=None, feature_layer=name).fit(X, y)
        assert_same_weights(other, clf)
        assert_allclose(other.transform(X), features.numpy(), rtol=1e-5, atol=1e-6)
        assert len(other.get_feature_names_out()) == features.shape[1]
        assert n_hooks(other) == 0
    # A convolution in the middle of a built-in network, as one line for each row.
    deep = small(feature_layer="features.2.body.0").fit(X, y)
    with torch.no_grad():
        inside = deep.net_.module_.network.features[:2](
            deep.net_.module_.prepare(torch.from_numpy(X)[:, None])
        )
    assert_allclose(deep.transform(X), inside.flatten(1).numpy(), rtol=1e-5, atol=1e-6)


def no_linear(in_channels, n_classes):
    return nn.Sequential(
        nn.Conv2d(in_channels, n_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def test_network_without_a_linear_layer_classifies_and_says_how_to_transform():
    X, y = images()
    clf = small(module=no_linear, net=None).fit(X, y)
    assert clf.predict(X).shape == (80,)
    for call in (clf.get_feature_names_out, lambda: clf.transform(X)):
        with pytest.raises(ValueError, match=r"feature_layer must .*torch\.nn\.Linear; got None"):
            call()
    named = clone(clf).set_params(feature_layer="1").fit(X, y)
    assert named.transform(X).shape == (80, 2 * 4 * 4)
    assert named.get_feature_names_out()[-1] == "cnn2dclassifier31"


class Choosy(nn.Module):
    """Runs a layer for bright images only."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.first, self.second = nn.Linear(36, n_classes), nn.Linear(36, n_classes)

    def forward(self, x):
        x = x.flatten(1)
        return self.second(x) if x.mean() > 0 else self.first(x)


def test_layer_that_does_not_run_for_some_rows_is_missed():
    X, y = images()
    X[:40] += 100
    clf = small(module=Choosy, net=None, standardize=False).fit(X, y)
    assert clf.transform(X[:40]).shape == (40, 36)
    with pytest.raises(ValueError, match=r"feature_layer.*'second'"):
        clf.transform(-X[:40])
    assert n_hooks(clf) == 0


def test_features_come_in_blocks_and_one_forward_pass_each():
    X, y = images(n=200, n_classes=3)
    clf = small(module=batch_norm_head, net=None).fit(X, y)
    at_once = clf.transform(X)
    sizes = []
    network = clf.net_.module_.network
    hook = network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(*inputs)))
    predict_in_blocks(clf, 90)
    assert_allclose(clf.transform(X), at_once, rtol=1e-5, atol=1e-6)
    assert sizes == [67, 67, 66]
    hook.remove()
    # Those of the network in evaluation mode, whose running statistics stay as they are.
    before = copy.deepcopy(network.state_dict())
    clf.net_.module_.train()
    assert_allclose(clf.transform(X), at_once, rtol=1e-5, atol=1e-6)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    predict_in_blocks(clf, 10)  # so many blocks that prediction folds
    logits = clf.transform(X) @ network[-1].weight.detach().numpy().T
    logits += network[-1].bias.detach().numpy()
    assert_allclose(logits, clf.decision_function(X), rtol=1e-4, atol=1e-5)


def batch_norm_head(in_channels, n_classes):
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(16 * 16, n_classes),
    )


def test_features_take_memory_for_one_block():
    X, y = images(n=40)
    clf = small(module=two_heads, net=None).fit(X, y)
    X = np.broadcast_to(X[:1].astype(np.float64), (20_000, 6, 6))
    predict_in_blocks(clf, 100)
    clf.transform(X[:200])
    tracemalloc.start()
    try:
        assert clf.transform(X).shape == (20_000, 7)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"net": {"iterator_valid": DataLoader, "module__width": 8}},
        {"dtype": "bfloat16"},
        {"sampler": "balanced", "train_split": 0.25, "micro_batch_size": 8},
    ],
    ids=["own", "loader", "bfloat16", "split"],
)
def test_features_change_nothing_and_survive_copies(params):
    X, y = images(n_classes=3)
    weight = np.random.default_rng(0).uniform(0.1, 2, len(y))
    clf = small(**params, max_epochs=2).fit(X, y, sample_weight=weight)
    state, proba, kept = global_state(), clf.predict_proba(X), weights(clf)
    features = clf.transform(X)
    assert global_state() == state
    assert_array_equal(clf.predict_proba(X), proba)
    for name, value in weights(clf).items():
        assert_array_equal(value, kept[name])
    for other in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        assert_array_equal(other.transform(X), features)
        assert len(other.get_feature_names_out()) == features.shape[1]
    again = clone(clf)
    assert_array_equal(again.fit_transform(X, y, sample_weight=weight), features)
    again.partial_fit(X, y)
    # Kernels of some processors round by the number of rows.
    assert_allclose(again.transform(X[:5]), again.transform(X)[:5], rtol=1e-4, atol=1e-6)


def test_hook_is_removed_after_an_error():
    X, y = images()
    clf = small().fit(X, y)
    hook = clf.net_.module_.network.classifier.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clf.transform(X)
    hook.remove()
    assert n_hooks(clf) == 0
    assert clf.transform(X).shape == (80, 128)


def test_threads_get_their_own_features():
    X, y = images(n=400, n_classes=3)
    clf = small(max_epochs=1).fit(X, y)
    features, proba = clf.transform(X), clf.predict_proba(X)
    calls = [lambda: clf.transform(X), lambda: clf.transform(X[::-1]), lambda: clf.predict_proba(X)]
    expected = [features, features[::-1], proba]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(8):
            found = list(pool.map(lambda call: call(), calls))
            for one, other in zip(found, expected, strict=True):
                assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert n_hooks(clf) == 0


# The compiler itself takes a minute. The other backend compiles all but the code of the kernels.
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler itself
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_features_of_a_compiled_network(backend):
    X, y = images()
    X = X.astype(np.float64)
    net = {"module__width": 8, "compile__backend": backend}
    compiled = small(max_epochs=1, compile=True, net=net).fit(X, y)
    for _ in range(2):  # before and after a prediction by compiled code
        assert_allclose(
            classified(compiled, compiled.transform(X)), compiled.decision_function(X), rtol=1e-8
        )
    plain = small(max_epochs=1).fit(X, y)
    assert_allclose(compiled.transform(X), plain.transform(X), rtol=1e-5, atol=1e-8)


@BOTH
def test_features_in_pipelines(classifier):
    X, y = images(n=120, ndim=len(classifier.spatial_axes), n_classes=3)
    cnn = small(classifier, max_epochs=3)
    pipeline = make_pipeline(cnn, PCA(4), LogisticRegression()).fit(X, y)
    by_hand = clone(cnn).fit(X, y)
    reduced = PCA(4)
    # As in a pipeline: transform rounds in another way than fit_transform.
    probability = LogisticRegression().fit(reduced.fit_transform(by_hand.transform(X)), y)
    assert_allclose(
        pipeline.predict_proba(X),
        probability.predict_proba(reduced.transform(by_hand.transform(X))),
        rtol=1e-4,
        atol=1e-6,
    )
    assert pipeline.score(X, y) > 0.9
    assert pipeline[:-1].get_feature_names_out().tolist() == [f"pca{i}" for i in range(4)]
    names = [f"{classifier.__name__.lower()}{i}" for i in range(by_hand._n_features_out)]
    frame = by_hand.set_output(transform="pandas").transform(X)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == names
    # The classifier itself is not turned into a frame.
    assert isinstance(by_hand.predict_proba(X), np.ndarray)


def test_features_need_a_target_and_a_fit():
    X, _ = images()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        small().fit_transform(X)
    with pytest.raises(NotFittedError):
        small().get_feature_names_out()


def test_interrupt_in_an_epoch_keeps_the_batches_before(monkeypatch):
    X, y = images(n=96)
    real, calls = ImageDataset.batch, []

    def batch(self, index):
        if len(index) == 32:
            calls.append(index)
        if len(calls) == 7:  # the first is a sample, whose range the classifier remembers
            raise KeyboardInterrupt
        return real(self, index)

    monkeypatch.setattr(ImageDataset, "batch", batch)
    clf = small(standardize=False)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert len(clf.history_[0, "batches"]) == 3
    assert len(clf.history_[1, "batches"]) == 2


def batch_norm_network(in_channels, n_classes):
    layers = []
    for width in (8, 16):
        layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        in_channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 36, n_classes))


def predict_in_blocks(clf, block_size):
    clf.net_.iterator_valid__batch_size = block_size
    assert clf.net_.block_size == block_size


def test_blocks_to_predict_suit_the_largest_activation():
    X, y = images(n=200, n_classes=3)
    clf = small(module=batch_norm_network, net=None).fit(X, y)
    assert clf.net_.activation_bytes_ == 16 * 36 * 4  # of the second convolution
    assert clf.net_.block_size == 1024  # no more, however small
    sizes = []
    hook = clf.net_.module_.register_forward_pre_hook(lambda _, inputs: sizes.append(len(*inputs)))
    predict_in_blocks(clf, 90)
    clf.predict(X)
    assert sizes == [67, 67, 66]
    predict_in_blocks(clf, 2)
    sizes.clear()
    clf.predict(X[:5])
    assert sizes == [2, 2, 1]
    hook.remove()
    assert pickle.loads(pickle.dumps(clf)).net_.block_size == 2


def test_folded_batch_norm_predicts_the_same(monkeypatch):
    X, y = images(n=90, n_classes=3)
    clf = small(module=batch_norm_network, net=None).fit(X, y)
    before = copy.deepcopy(clf.net_.module_.state_dict())
    with torch.no_grad():
        at_once = clf.net_.module_.eval()(torch.from_numpy(X)[:, None]).softmax(1).numpy()
    folded = []
    real = forward.fold_batch_norm
    monkeypatch.setattr(
        forward, "fold_batch_norm", lambda network: folded.append(real(network)) or folded[-1]
    )
    predict_in_blocks(clf, 10)
    assert_allclose(clf.predict_proba(X), at_once, rtol=1e-4, atol=1e-6)
    (network,) = folded
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert isinstance(clf.net_.module_.network[1], nn.BatchNorm2d)
    for name, value in clf.net_.module_.state_dict().items():
        assert torch.equal(value, before[name])
    # Trained further, the network is folded anew.
    clf.partial_fit(X, y)
    assert abs(clf.predict_proba(X) - at_once).max() > 1e-3


def test_rows_that_an_iterator_leaves_out_are_missed(monkeypatch):
    X, y = images()
    net = {"iterator_valid": DataLoader, "iterator_valid__batch_size": 32}
    clf = small(net={"module__width": 8, **net}).fit(X, y)
    assert_allclose(clf.predict_proba(X), small().fit(X, y).predict_proba(X), rtol=1e-5)
    clf.set_params(net__iterator_valid__drop_last=True).fit(X, y)
    with pytest.raises(ValueError, match=r"iterator_valid.*80 rows.*64"):
        clf.predict(X)


def test_prediction_takes_memory_for_one_block():
    X, y = images(n=40)
    clf = small().fit(X, y)
    X = np.broadcast_to(X[:1].astype(np.float64), (20_000, 6, 6))
    predict_in_blocks(clf, 100)
    clf.predict_proba(X[:200])
    tracemalloc.start()
    try:
        assert clf.predict_proba(X).shape == (20_000, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A copy of X would take 5.8 MB. Row numbers take 0.16 MB at a time.
    assert peak < 1e6


def test_balanced_batches_raise_the_recall_of_a_rare_class():
    X, y = images(n=200, share=0.95)
    recalls = [
        recall_score(y, small(sampler=sampler, loss="ce", max_epochs=2).fit(X, y).predict(X))
        for sampler in (None, "balanced")
    ]
    assert recalls[1] > recalls[0] + 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search_by", "classifier"),
    [
        (GridSearchCV, CNN2DClassifier),
        (lambda *args, **kwargs: RandomizedSearchCV(*args, n_iter=3, **kwargs), CNN3DClassifier),
    ],
    ids=["grid", "randomized"],
)
@pytest.mark.parametrize(
    ("params", "name", "values", "fitted", "expected"),
    [
        (
            {},
            "loss",
            ["wce", "focal", "ce + 0.5*mcc"],
            lambda net: net.criterion_.name,
            ["wce", "focal", "ce + 0.5*mcc"],
        ),
        (
            {"loss": LossMix(ce=1)},
            "loss__mcc",
            [0, 0.25, 1],
            lambda net: net.criterion_.factors.get("mcc"),
            [None, 0.25, 1],
        ),
        (
            {"batch_size": 8, "max_epochs": 2},
            "sampler",
            [None, "balanced", RandomUnderSampler()],
            lambda net: net.history[-1, "train_batch_count"],
            [5, 7, 3],
        ),
        (
            {},
            "net__optimizer__weight_decay",
            [0, 0.1, 0.3],
            lambda net: net.optimizer_.param_groups[0]["weight_decay"],
            [0, 0.1, 0.3],
        ),
        (
            {},
            "net__module__width",
            [4, 6, 8],
            lambda net: net.module_.network.features[0].out_channels,
            [4, 6, 8],
        ),
        (
            {
                # Nothing is better than the best by the whole of it, so the first epoch stays it.
                "callbacks": [("stop", EarlyStopping("train_loss", patience=9, threshold=1))],
                "max_epochs": 7,
            },
            "net__callbacks__stop__patience",
            [1, 2, 4],
            lambda net: len(net.history),
            [2, 3, 5],
        ),
    ],
    ids=["loss", "factor", "sampler", "optimizer", "module", "callback"],
)
@pytest.mark.parametrize("max_epochs", [1, 4])
def test_every_candidate_of_a_search_is_what_was_fitted(
    max_epochs, search_by, classifier, params, name, values, fitted, expected
):
    X, y = images(ndim=len(classifier.spatial_axes))
    base = small(classifier, **{"max_epochs": max_epochs, **params})

    def scoring(clf, X, y):
        return {"score": clf.score(X, y), "which": expected.index(fitted(clf.net_))}

    search = search_by(base, {name: values}, cv=2, scoring=scoring, refit="score").fit(X, y)
    candidates = search.cv_results_["params"]
    assert len(candidates) == 3
    places = [values.index(candidate[name]) for candidate in candidates]
    assert_array_equal(search.cv_results_["mean_test_which"], places)
    by_hand = clone(base).set_params(**search.best_params_).fit(X, y)
    assert_same_weights(search.best_estimator_, by_hand)
    assert base.net == {"module__width": 8}
    if name == "loss__mcc":
        assert base.loss.mcc == 0


def test_cross_validation_is_a_loop_of_fits():
    X, y = images()
    folds = list(StratifiedKFold(3).split(X, y))
    result = cross_validate(
        small(), X, y, cv=folds, scoring=["neg_log_loss", "accuracy"], return_estimator=True
    )
    for fold, (train, test) in enumerate(folds):
        by_hand = small().fit(X[train], y[train])
        assert_same_weights(result["estimator"][fold], by_hand)
        assert result["test_accuracy"][fold] == by_hand.score(X[test], y[test])
        loss = log_loss(y[test], by_hand.predict_proba(X[test]))
        assert result["test_neg_log_loss"][fold] == pytest.approx(-loss, rel=1e-6)
    assert cross_val_score(small(max_epochs=8), X, y, cv=folds).min() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_two_workers_give_what_one_gives(backend):
    X, y = images(n=60)
    # What is built by a lambda comes back from another process, too.
    module = lambda in_channels, n_classes: SmallCNN(in_channels, n_classes, (6, 6), width=8)  # noqa: E731
    clf = small(module=module, net=None, batch_size=16)
    results = []
    for n_jobs in (1, 2):
        options = {"inner_max_num_threads": 1, "max_nbytes": 1000} if backend == "loky" else {}
        with joblib.parallel_config(backend, n_jobs=n_jobs, **options):
            validation = cross_validate(
                clf, X, y, cv=2, scoring="neg_log_loss", return_estimator=True
            )
            search = GridSearchCV(clf, {"loss": ["ce", "ce+mcc"]}, cv=2, scoring="neg_log_loss")
            results.append((validation, search.fit(X, y).cv_results_))
    (one, one_search), (two, two_search) = results
    assert_array_equal(one["test_score"], two["test_score"])
    for alone, beside in zip(one["estimator"], two["estimator"], strict=True):
        assert_same_weights(alone, beside)
    for fold in ("split0_test_score", "split1_test_score"):
        assert_array_equal(one_search[fold], two_search[fold])
        assert len(set(one_search[fold])) == 2


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


@BOTH
def test_pipelines_are_their_steps_one_by_one(classifier):
    X, y = images(ndim=len(classifier.spatial_axes))
    rows, shape = X.reshape(len(X), -1), X.shape[1:]
    clf = small(classifier, input_shape=shape)
    scaled = make_pipeline(StandardScaler(), clf).fit(rows, y)
    by_hand = clone(clf).fit(StandardScaler().fit_transform(rows), y)
    assert_same_weights(scaled[-1], by_hand)
    new_rows, new_y = SMOTE(random_state=0).fit_resample(rows, y)
    assert len(new_y) == 112
    by_hand = clone(clf).fit(new_rows.reshape(-1, *shape), new_y)
    on_rows = make_imblearn_pipeline(SMOTE(random_state=0), clf).fit(rows, y)
    on_images = make_imblearn_pipeline(NDSampler(SMOTE(random_state=0)), clf).fit(X, y)
    assert_same_weights(on_rows[-1], by_hand)
    assert_same_weights(on_images[-1], by_hand)


@pytest.mark.slow
def test_search_over_the_loss_behind_a_sampler():
    X, y = images()
    X = (20 * X + 100).clip(0, 255).astype(np.uint8)
    pipeline = make_imblearn_pipeline(NDSampler(SMOTE(random_state=0)), small(max_epochs=8))
    pipeline.set_params(cnn2dclassifier__net__optimizer__weight_decay=1e-4)
    losses = ["ce", "wce", "ce + f1", "ce + 0.5*mcc"]

    def scoring(fitted, X, y):
        net = fitted[-1].net_
        n_rows = sum(batch["train_batch_size"] for batch in net.history[-1]["batches"])
        assert n_rows == 56, "28 rows of each class"
        assert net.optimizer_.param_groups[0]["weight_decay"] == 1e-4
        score = balanced_accuracy_score(y, fitted.predict(X))
        return {"score": score, "which": losses.index(net.criterion_.name)}

    grid = {"cnn2dclassifier__loss": losses}
    options = {"cv": 2, "scoring": scoring, "refit": "score", "error_score": "raise"}
    search = GridSearchCV(pipeline, grid, **options).fit(X, y)
    assert_array_equal(search.cv_results_["mean_test_which"], range(4))
    assert search.cv_results_["mean_test_score"].min() > 0.85


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


@pytest.mark.parametrize("how", ["pickle", "joblib", "deepcopy"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"loss": LossMix(ce=1, wce=1), "verbose": 1},
        {"loss": nn.CrossEntropyLoss(torch.tensor([1.0, 3.0]))},
        {"callbacks": [("schedule", LRScheduler("StepLR", step_size=1, gamma=0.9))]},
        {"train_split": 0.25, "callbacks": [EarlyStopping(patience=2, load_best=True)]},
    ],
    ids=["plain", "mix", "module", "schedule", "stopping"],
)
def test_copies_of_a_fit_are_apart_and_alike(how, params, tmp_path):
    X, y = images()
    clf = small(**params).fit(X, y)
    probability = clf.predict_proba(X)
    if how == "pickle":
        twin = pickle.loads(pickle.dumps(clf))
    elif how == "deepcopy":
        twin = copy.deepcopy(clf)
    else:
        joblib.dump(clf, tmp_path / "clf", compress=True)
        twin = joblib.load(tmp_path / "clf")
    assert_array_equal(twin.predict_proba(X), probability)
    assert twin.history_ == clf.history_
    twin.partial_fit(X, y)
    assert not np.allclose(twin.predict_proba(X), probability)
    assert_array_equal(clf.predict_proba(X), probability)
    assert_same_weights(clf.partial_fit(X, y), twin)


class TensorFinder(pickle.Pickler):
    """Count the tensors that are pickled as they are, for the device that they are on."""

    found = 0

    def reducer_override(self, value):
        kinds = torch.Tensor | torch.TypedStorage | torch.UntypedStorage
        self.found += isinstance(value, kinds)
        return NotImplemented


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"loss": "ce+wce"},
        {"loss": nn.CrossEntropyLoss(torch.ones(2))},
        {"train_split": 0.25, "callbacks": [EarlyStopping(load_best=True)]},
        {"train_split": 0.25, "callbacks": [EpochScoring("accuracy", use_caching=False)]},
    ],
    ids=["plain", "wce", "module", "stopping", "scoring"],
)
def test_all_tensors_are_pickled_for_any_device(params):
    X, y = images()
    net = small(**params).fit(X, y).net_
    finder = TensorFinder(io.BytesIO())
    finder.dump(net.module_)
    assert finder.found > 0
    finder = TensorFinder(io.BytesIO())
    finder.dump(net)
    assert finder.found == 0


def test_clone_shares_nothing_and_repeats_the_fit():
    X, y = images()
    clf = small(loss=LossMix(ce=1, mcc=1)).fit(X, y)
    twin = clone(clf)
    assert not hasattr(twin, "net_")
    twin.set_params(loss__mcc=0.5, net__optimizer__weight_decay=0.1)
    assert clf.loss.mcc == 1
    assert clf.net == {"module__width": 8}
    given = {"module__width": 8}
    small(net=given).set_params(net__optimizer__weight_decay=0.1)
    assert given == {"module__width": 8}
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


@pytest.mark.parametrize(
    ("classifier", "sampler"),
    [
        (CNN3DClassifier, None),
        (CNN2DClassifier, "balanced"),
        (CNN3DClassifier, "stratified"),
        (CNN2DClassifier, "weighted"),
        (CNN2DClassifier, RandomUnderSampler()),
    ],
)
def test_the_seed_decides_everything(classifier, sampler):
    X, y = images(ndim=len(classifier.spatial_axes))
    params = {"sampler": sampler, "batch_size": 8, "max_epochs": 2, "train_split": 0.25}
    params["callbacks"] = [("seen", Seen())]
    clf = small(classifier, **params).fit(X, y)
    first, rows = weights(clf), seen(clf).valid_.rows
    clf.fit(X, y)
    for name, value in weights(clf).items():
        assert_array_equal(value, first[name])
    assert_array_equal(seen(clf).valid_.rows, rows)
    other = small(classifier, **params, random_state=1).fit(X, y)
    assert not np.array_equal(seen(other).valid_.rows, rows)
    # From the same initial weights, the batches that are drawn make a difference.
    same_start = {"module": linear, "net": {"module__n_pixels": X[0].size}, "train_split": None}
    one, two = (
        small(classifier, **{**params, **same_start, "random_state": seed}).fit(X, y)
        for seed in (0, 1)
    )
    assert not np.array_equal(one.predict_proba(X), two.predict_proba(X))


def linear(in_channels, n_classes, n_pixels):
    layer = nn.Linear(in_channels * n_pixels, n_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layer)


def test_random_state_instance_moves_on():
    X, y = images()
    clf = small(random_state=np.random.RandomState(3))
    first = clf.fit(X, y).predict_proba(X)
    second = clf.fit(X, y).predict_proba(X)
    assert not np.array_equal(first, second)
    stream = np.random.RandomState(3)
    again = [small(random_state=stream).fit(X, y).predict_proba(X) for _ in range(2)]
    assert_array_equal(again, [first, second])


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

    before = global_state()
    clf.fit(X, y)
    clf.partial_fit(X, y)
    clf.predict_proba(X)
    clone(clf).set_params(train_split=0.3).fit(X, y)
    assert global_state() == before


LOADERS = {"iterator_train": DataLoader, "iterator_train__shuffle": True}


@pytest.mark.parametrize(
    "params",
    [
        {"sampler": RandomUnderSampler(), "train_split": 0.25},
        {"net": {**LOADERS, "iterator_valid": DataLoader, "module__width": 8}},
        {"micro_batch_size": 5, "net": {"module__width": 8, "module__dropout": 0.5}},
        {"module": NumpyInitialised, "net": None},
        {"dtype": "bfloat16"},
    ],
    ids=["sampler", "loaders", "dropout", "numpy", "bfloat16"],
)
@pytest.mark.parametrize("max_epochs", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_global_random_numbers_are_neither_used_nor_spent(max_epochs, params):
    X, y = images()
    probabilities = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = global_state()
        clf = small(max_epochs=max_epochs, **params).fit(X, y)
        assert global_state() == before
        clf.partial_fit(X, y)
        assert global_state() == before
        probabilities.append(clf.predict_proba(X))
        assert global_state() == before
        with pytest.raises(ZeroDivisionError):
            clf.set_params(callbacks=[Failing()]).fit(X, y)
        assert global_state() == before
    assert_array_equal(*probabilities)


class Failing(Callback):
    def on_batch_end(self, net, **kwargs):
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        raise ZeroDivisionError


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


def test_routed_weights_are_those_of_the_fit_and_of_the_score():
    X, y = images()
    rows = X.reshape(len(X), -1)
    weight = np.random.default_rng(0).uniform(0, 1, size=len(y))
    folds = list(StratifiedKFold(2).split(X, y))
    with sklearn.config_context(enable_metadata_routing=True):
        clf = small(input_shape=(6, 6), batch_size=16)
        pipeline = make_pipeline(StandardScaler(), clf)
        with pytest.raises(UnsetMetadataPassedError):
            pipeline.fit(rows, y, sample_weight=weight)
        pipeline[0].set_fit_request(sample_weight=False)
        clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        fitted = clone(pipeline).fit(rows, y, sample_weight=weight)
        grid = {"cnn2dclassifier__loss": ["ce", "ce+mcc"]}
        search = GridSearchCV(pipeline, grid, cv=folds, error_score="raise")
        search.fit(rows, y, sample_weight=weight)
    by_hand = clone(clf).fit(StandardScaler().fit_transform(rows), y, sample_weight=weight)
    assert_same_weights(fitted[-1], by_hand)
    without = clone(clf).fit(StandardScaler().fit_transform(rows), y)
    assert not np.allclose(without.predict_proba(rows), by_hand.predict_proba(rows), rtol=1e-3)
    for candidate, loss in enumerate(["ce", "ce+mcc"]):
        for fold, (train, test) in enumerate(folds):
            scaler = StandardScaler().fit(rows[train])
            by_hand = clone(clf).set_params(loss=loss)
            by_hand.fit(scaler.transform(rows[train]), y[train], weight[train])
            score = by_hand.score(scaler.transform(rows[test]), y[test], weight[test])
            assert search.cv_results_[f"split{fold}_test_score"][candidate] == score


def test_integer_weights_equal_repeated_images():
    X, y = images(n=20)
    X = X.astype(np.float64)
    repeats = np.random.default_rng(1).integers(0, 4, size=20)
    for loss in ("ce+mcc", "wce", "f1+ce", "la", "ldam"):
        weighted = small(loss=loss, batch_size=64).fit(X, y, sample_weight=repeats)
        repeated = small(loss=loss, batch_size=64).fit(X.repeat(repeats, 0), y.repeat(repeats))
        assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-8)
        scaled = small(loss=loss, batch_size=64).fit(X, y, sample_weight=100.0 * repeats)
        assert_allclose(weighted.predict_proba(X), scaled.predict_proba(X), rtol=1e-8)


@pytest.mark.parametrize("loss", ["ce", "wce", "focal", "ce+f1", "ce + 0.5*mcc"])
def test_integer_weights_equal_repeated_volumes(loss):
    X, y = images(n=15, ndim=3, n_classes=3, share=0.4)
    X = X.astype(np.float64)
    repeats = np.random.default_rng(1).integers(0, 4, size=len(y))
    assert set(y[repeats > 0]) == {0, 1, 2}
    clf = small(CNN3DClassifier, loss=loss, batch_size=64)
    weighted = clone(clf).fit(X, y, sample_weight=repeats).predict_proba(X)
    repeated = clone(clf).fit(X.repeat(repeats, 0), y.repeat(repeats)).predict_proba(X)
    assert_allclose(weighted, repeated, rtol=1e-7)
    assert not np.allclose(clone(clf).fit(X, y).predict_proba(X), weighted, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("iterator", [None, DataLoader])
def test_weights_in_mini_batches(iterator):
    X, y = images(share=0.5)
    wrong = np.arange(len(y)) % 5 < 3
    told = np.where(wrong, 1 - y, y)
    net = {"module__width": 8}
    if iterator is not None:
        net |= {"iterator_train": iterator, "iterator_train__shuffle": True}
    clf = small(batch_size=16, max_epochs=8, net=net)
    assert clone(clf).fit(X, told).score(X, y) < 0.5
    trusting = clone(clf).fit(X, told, sample_weight=np.where(wrong, 1e-3, 1))
    assert trusting.score(X, y) > 0.9
    dropped = clone(clf).fit(X, told, sample_weight=~wrong)
    alone = clone(clf).fit(X[~wrong], told[~wrong], sample_weight=np.full((~wrong).sum(), 7.0))
    assert_same_weights(dropped, alone)
    without = clone(clf).fit(X[~wrong], told[~wrong]).predict_proba(X)
    assert_allclose(alone.predict_proba(X), without, rtol=1e-3)


@pytest.mark.parametrize("class_weight", [{0: 1, 1: 20}, {0: 20, 1: 1}, "balanced"])
def test_class_weight_moves_the_predictions(class_weight):
    X, y = images(n=120, share=0.8)
    X = X + np.random.default_rng(5).normal(scale=3, size=X.shape).astype(np.float32)
    clf = small(loss="ce", lr=1e-3)
    plain = clone(clf).fit(X, y).predict_proba(X)[:, 1].mean()
    moved = clone(clf).set_params(class_weight=class_weight).fit(X, y).predict_proba(X)[:, 1].mean()
    if class_weight == {0: 20, 1: 1}:
        assert moved < plain - 0.03
    else:
        assert moved > plain + 0.1


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


# Integers are the labels of the test of three classes.
@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes"]),
        np.array([False, True]),
        pytest.param([-7, 40], marks=pytest.mark.slow),
    ],
)
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


@pytest.mark.parametrize(
    ("classifier", "labels"),
    [
        (CNN2DClassifier, np.array(["b", "c", "a"])),
        (CNN3DClassifier, np.array([100, -3, 7])),
    ],
)
@pytest.mark.parametrize(
    "params",
    [
        {"max_epochs": 4, "lr": 0.01, "batch_size": 16},
        pytest.param({"max_epochs": 8}, marks=pytest.mark.slow),
    ],
    ids=["quick", "slow"],
)
def test_meta_estimators_with_three_classes(params, classifier, labels):
    X, y = images(n=90, ndim=len(classifier.spatial_axes), n_classes=3, share=0.4)
    X_new, y_new = images(n=90, ndim=len(classifier.spatial_axes), n_classes=3, share=0.4, seed=1)
    if classifier is CNN2DClassifier:  # with an axis of channels
        X, X_new = X[:, None], X_new[:, None]
    y, y_new = labels[y], labels[y_new]
    clf, other = small(classifier, **params), small(classifier, loss="ce", **params)
    voting = VotingClassifier([("a", clf), ("b", other)], voting="soft").fit(X, y)
    mean = np.mean([each.predict_proba(X_new) for each in voting.estimators_], axis=0)
    assert_allclose(voting.predict_proba(X_new), mean, rtol=1e-6)
    stacking = StackingClassifier([("a", clf), ("b", other)], LogisticRegression(), cv=2).fit(X, y)
    calibrated = CalibratedClassifierCV(clf, cv=2).fit(X, y)
    for meta in (voting, stacking, calibrated):
        assert_array_equal(meta.classes_, np.sort(labels))
        assert meta.score(X_new, y_new) > 0.85
        assert_array_equal(meta.predict(X_new), meta.classes_[meta.predict_proba(X_new).argmax(1)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes"]),
        [-7, 40],
        np.array([False, True]),
    ],
)
def test_tuned_threshold_and_bagging_with_any_labels(labels):
    X, y = images(n=160, share=0.9)
    X = X + np.random.default_rng(5).normal(scale=1.5, size=X.shape).astype(np.float32)
    y = np.asarray(labels)[y]
    # The rare class is seldom the more probable one yet.
    clf = small(loss="ce", lr=1e-3)
    tuned = TunedThresholdClassifierCV(clf, scoring="balanced_accuracy", cv=2, refit=True).fit(X, y)
    probability = tuned.estimator_.predict_proba(X)[:, 1]
    by_hand = tuned.classes_[(probability >= tuned.best_threshold_).astype(int)]
    assert_array_equal(tuned.predict(X), by_hand)
    plain = balanced_accuracy_score(y, tuned.estimator_.predict(X))
    assert balanced_accuracy_score(y, tuned.predict(X)) > plain + 0.03
    rows = X.reshape(len(X), -1)
    clf = small(input_shape=(6, 6), max_epochs=8)
    bagging = BaggingClassifier(clf, n_estimators=2, random_state=0).fit(rows, y)
    assert [each.input_shape_ for each in bagging.estimators_] == [(1, 6, 6)] * 2
    assert_array_equal(bagging.classes_, np.unique(labels))
    assert set(bagging.predict(rows)) == set(np.unique(labels))
    assert bagging.score(rows, y) > 0.85


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


def test_class_prior_of_calls_with_and_without_weights():
    X, y = images(n=40)
    weight = np.linspace(0.1, 2, 40)
    clf = small().partial_fit(X, y, classes=[0, 1], sample_weight=weight)
    clf.partial_fit(X, y)
    mass = np.bincount(y, weights=weight) + np.bincount(y)
    assert_allclose(clf.class_prior_, mass / mass.sum(), rtol=1e-12)


@pytest.mark.parametrize("loss", ["wce", "ce+mcc", "ce+f1", "focal", "la", "ldam+mcc"])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_chunks_of_one_class_each(loss, class_weight):
    X, y = images(n=60, n_classes=3, share=0.5)
    names = np.array(["x", "b", "q"])[y]
    clf = small(loss=loss, class_weight=class_weight)
    for n_seen in (1, 2, 3):
        chunk = y == n_seen - 1
        clf.partial_fit(X[chunk], names[chunk], classes=["x", "b", "q"])
        assert clf.classes_.tolist() == ["b", "q", "x"]
        assert np.isfinite(clf.decision_function(X)).all()
        counts = [np.sum((names == name) & (y < n_seen)) for name in ("b", "q", "x")]
        vectors = clf.net_.criterion_.class_vectors
        if loss == "wce":
            weights_of_classes = clf.net_.criterion_.class_weights["wce"]
            assert_allclose(weights_of_classes, inverse_frequency(counts), rtol=1e-6)
        if loss == "la":
            assert_allclose(vectors["la"], log_prior(counts), rtol=1e-6)
        assert_allclose(clf.class_prior_, np.array(counts) / sum(counts), rtol=1e-12)
        clf.set_params(logit_adjustment=1)
        assert np.isfinite(clf.decision_function(X)).all()
        clf.set_params(logit_adjustment=0)
    for _ in range(12):
        clf.partial_fit(X, names)
    assert clf.score(X, names) > 0.9
    assert np.isfinite(clf.history_[:, "train_loss"]).all()


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


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.CrossEntropyLoss(torch.ones(2))])
def test_loss_module(loss):
    X, y = images()
    custom = small(loss=loss).fit(X, y)
    assert_allclose(custom.predict_proba(X), small(loss="ce").fit(X, y).predict_proba(X), rtol=1e-4)
    assert custom.net_.criterion_ is not loss


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_weights_of_a_loss_module_in_any_precision(dtype):
    X, y = images()
    X = (20 * X + 100).clip(0, 255).astype(dtype)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]))
    params = {"max_epochs": 2, "lr": 2e-3}
    weighted, plain = (small(loss=each, **params).fit(X, y) for each in (loss, "ce"))
    shift = weighted.predict_proba(X)[:, 1].mean() - plain.predict_proba(X)[:, 1].mean()
    assert shift > 0.05
    weighted.partial_fit(X, y)
    assert loss.weight.dtype == torch.float32
    assert loss.weight.tolist() == [1, 9]


class Tempered(nn.Module):
    """Cross-entropy with a temperature that is learnt along."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits, target, sample_weight=None):
        loss = nn.functional.cross_entropy(logits * self.scale, target, reduction="none")
        return (loss if sample_weight is None else loss * sample_weight).mean()


@pytest.mark.parametrize("loss", [Tempered, Tempered()])
def test_loss_module_is_used_as_a_copy(loss):
    X, y = images()
    clf = small(loss=loss, max_epochs=8).fit(X, y)
    assert clf.score(X, y) > 0.9
    assert clf.net_.criterion_.module.scale.item() != 1, "its parameters are trained"
    if isinstance(loss, Tempered):
        assert loss.scale.item() == 1
        assert loss.scale.grad is None
        assert clf.loss is loss
    assert_same_weights(clone(clf).fit(X, y), clf)
    repeats = np.arange(len(y)) % 3
    clf.set_params(batch_size=256, dtype="float64")
    weighted = clone(clf).fit(X, y, sample_weight=repeats).predict_proba(X)
    repeated = clone(clf).fit(X.repeat(repeats, 0), y.repeat(repeats)).predict_proba(X)
    assert_allclose(weighted, repeated, rtol=1e-7)


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
    for dtype in ("bfloat16", "float16"):
        low = small(dtype=dtype, max_epochs=8).fit(X, y)
        assert low.score(X, y) > 0.9
        assert low.net_.module_.network.classifier.weight.dtype == torch.float32
        assert low.predict_proba(X).dtype == np.float32
    again = pickle.loads(pickle.dumps(low))
    assert_array_equal(again.predict_proba(X), low.predict_proba(X))
    again.partial_fit(X, y)


def test_a_classifier_that_nobody_holds_is_gone_at_once():
    # Without the garbage collector, for which the memory of a device would wait.
    X, y = images()
    scoring = EpochScoring("accuracy", lower_is_better=False)
    clf = small(train_split=0.25, callbacks=[("score", scoring)]).fit(X, y)
    clf.predict(X)
    alive = weakref.ref(clf.net_.module_)
    gc.disable()
    try:
        del clf
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("keeps", [True, False])
def test_a_fit_lets_its_images_go_at_once(keeps):
    # A search would otherwise hold the folds of many fits until the garbage collector runs.
    X, y = images()
    small().fit(X, y)  # imports hold frames of the first fit
    gc.disable()
    try:
        part = X.copy()
        alive = weakref.ref(part)
        clf = small(max_epochs=2).fit(part, y)
        clf.partial_fit(part, y).predict(part)
        if not keeps:
            del clf
        del part
        assert alive() is None
    finally:
        gc.enable()


THREADS = """
import sys
import numpy as np, torch
from sklearn.model_selection import GridSearchCV
from skimbal import CNN2DClassifier

def threads(clf, X, y):
    return torch.get_num_threads()

X, y = np.random.default_rng(0).normal(size=(40, 6, 6)).astype("f"), np.arange(40) % 2
before = torch.get_num_threads()
search = GridSearchCV(
    CNN2DClassifier(max_epochs=1), {"loss": ["ce", "f1"]}, cv=2, n_jobs=2, scoring=threads
).fit(X, y)
assert torch.get_num_threads() == before
print(int(search.cv_results_["mean_test_score"].max()))
"""


@pytest.mark.slow
def test_workers_have_no_more_threads_than_there_are_cores():
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    env = {name: value for name, value in os.environ.items() if name not in names}
    run = [sys.executable, "-W", "ignore", "-c", THREADS]
    result = subprocess.run(run, env=env, check=True, capture_output=True, text=True)
    assert 2 * int(result.stdout) <= max(2, joblib.cpu_count())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler itself
def test_compiled_network_learns_the_same():
    X, y = images()
    X = X.astype(np.float64)
    plain, compiled = small(max_epochs=2).fit(X, y), small(max_epochs=2, compile=True).fit(X, y)
    parts = small(max_epochs=2, compile=True, micro_batch_size=8).fit(X, y)
    assert_allclose(parts.predict_proba(X), plain.predict_proba(X), rtol=1e-3, atol=1e-5)
    assert_allclose(compiled.predict_proba(X), plain.predict_proba(X), rtol=1e-6)
    assert list(weights(compiled)) == list(weights(plain))
    again = pickle.loads(pickle.dumps(compiled))
    is_compiled = [clf.net_.module_._compiled_call_impl is not None for clf in (compiled, again)]
    assert is_compiled == [True, False]
    assert_allclose(again.predict_proba(X), plain.predict_proba(X), rtol=1e-6)
    assert clone(compiled).compile
    compiled.partial_fit(X, y)
    scores = cross_val_score(small(max_epochs=2, compile=True), X, y, cv=2)
    assert_allclose(scores, cross_val_score(small(max_epochs=2), X, y, cv=2))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler itself
def test_networks_for_images_of_several_sizes_are_compiled_in_one_process():
    X, y = images()
    for larger in (X, np.pad(X, ((0, 0), (0, 2), (0, 2))), np.pad(X, ((0, 0), (0, 5), (0, 1)))):
        plain, compiled = (small(max_epochs=1, compile=c).fit(larger, y) for c in (False, True))
        assert_allclose(compiled.predict_proba(larger), plain.predict_proba(larger), rtol=1e-3)


def test_interrupt_reaches_the_caller_and_keeps_the_weights(monkeypatch):
    X, y = images()
    clf = small()
    step, calls = torch.optim.Adam.step, []

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


class Interrupt(Callback):
    """End the training in the middle of an epoch: as a callback does, or as Ctrl-C does."""

    def __init__(self, epoch, by_signal):
        self.epoch, self.by_signal = epoch, by_signal

    def on_batch_end(self, net, training, **kwargs):
        if training and len(net.history) == self.epoch:
            if not self.by_signal:
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize("by_signal", [False, True])
def test_interrupt_in_a_callback_leaves_a_usable_estimator(epoch, verbose, by_signal):
    X, y = images()
    stop = EarlyStopping(patience=9)
    callbacks = [("interrupt", Interrupt(epoch, by_signal)), ("stop", stop)]
    clf = small(callbacks=callbacks, train_split=0.25, verbose=verbose, warm_start=True)
    before = global_state()
    with pytest.raises(KeyboardInterrupt) if by_signal else nullcontext():
        assert clf.fit(X, y) is clf
    assert global_state() == before
    assert clf.n_epochs_ == epoch
    assert 0 < clf.n_steps_ < len(X)
    probability = clf.predict_proba(X)
    assert_allclose(probability.sum(1), 1, rtol=1e-6)
    copied = pickle.loads(pickle.dumps(clf))
    assert_array_equal(copied.predict_proba(X), probability)
    # Not at once: a partial_fit of the estimator would be interrupted by the same callback.
    still = copied.set_params(callbacks=None, lr=1e-12, max_epochs=1).fit(X, y)
    assert_allclose(still.predict_proba(X), probability, atol=1e-5)
    clf.set_params(callbacks=None, warm_start=False).fit(X, y)
    assert_same_weights(clf, small(train_split=0.25).fit(X, y))


@pytest.mark.slow
def test_real_x_rays(data_dir):
    file = np.load(data_dir / "pneumoniamnist" / "pneumoniamnist_full_rebuilt.npz")
    X, y = file["train_images"][:1000], file["train_labels"][:1000, 0]
    clf = CNN2DClassifier(max_epochs=4, random_state=0).fit(X, y)
    score = roc_auc_score(file["val_labels"][:, 0], clf.predict_proba(file["val_images"])[:, 1])
    assert score > 0.9


@pytest.mark.slow
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
    assert small(device="auto").fit(X, y).net_.device == "cuda:0"
    pipeline = make_imblearn_pipeline(NDSampler(SMOTE(random_state=0)), small(device="cuda"))
    search = GridSearchCV(pipeline, {"cnn2dclassifier__loss": ["ce", "ce+mcc"]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.7


@pytest.mark.cuda
@pytest.mark.parametrize("micro_batch_size", [None, 5])
@BOTH
def test_cuda_equals_the_cpu_in_float64(classifier, micro_batch_size):
    X, y = images(ndim=len(classifier.spatial_axes), n_classes=3, share=0.5)
    weight = np.random.default_rng(0).uniform(0, 2, size=len(y))
    params = {"dtype": "float64", "sampler": "balanced", "batch_size": 16, "train_split": 0.25}
    on_cpu = small(classifier, **params).fit(X, y, sample_weight=weight)
    clf = small(classifier, device="cuda", micro_batch_size=micro_batch_size, **params)
    clf.fit(X, y, sample_weight=weight)
    assert all(value.is_cuda for value in clf.net_.module_.state_dict().values())
    assert_allclose(clf.predict_proba(X), on_cpu.predict_proba(X), rtol=1e-5)
    for name in ("train_loss", "valid_loss"):
        assert_allclose(clf.history_[:, name], on_cpu.history_[:, name], rtol=1e-6)
    assert_array_equal(clf.history_[:, "event_lr"], on_cpu.history_[:, "event_lr"])


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16"])
def test_cuda_learns_in_low_precision(dtype):
    X, y = images()
    clf = small(device="auto", dtype=dtype, max_epochs=8).fit(X.astype(np.float64), y)
    assert torch.device(clf.net_.device).type == "cuda"
    assert next(clf.net_.module_.parameters()).dtype == torch.float32
    assert clf.predict_proba(X).dtype == np.float32
    assert clf.score(X, y) > 0.9


@pytest.mark.cuda
@pytest.mark.parametrize("weighted", [False, True])
def test_images_on_the_device_train_as_those_that_are_sent(weighted):
    X, y = images()
    X = (X * 100).astype(np.uint16)
    weight = np.linspace(0, 2, len(y)) if weighted else None
    fits = []
    for share in (1.0, 0.0):
        net = {"module__width": 8, "iterator_train__memory_share": share}
        clf = small(device="cuda", dtype="float64", net=net)
        fits.append(clf.fit(X, y, sample_weight=weight).predict_proba(X))
    assert_allclose(*fits, rtol=1e-9)


@pytest.mark.cuda
def test_memory_of_the_device_is_given_back():
    X, y = images()
    search = GridSearchCV(small(device="cuda"), {"loss": ["ce", "ce+mcc"]}, cv=2, refit=False)
    search.fit(X, y)
    gc.collect()
    before = torch.cuda.memory_allocated()
    search.fit(X, y)
    assert torch.cuda.memory_allocated() == before
    clf = small(device="cuda").fit(X, y)
    held = sum(value.nbytes for value in clf.net_.module_.state_dict().values())
    # Weights, two moments and the gradient of each; not the images.
    assert torch.cuda.memory_allocated() - before < 6 * held + 2**20


@pytest.mark.cuda
def test_random_state_of_cuda_is_as_before():
    X, y = images()
    net = {"module__width": 8, "module__dropout": 0.5}
    probabilities = []
    for seed in (1, 2):
        torch.cuda.manual_seed(seed)
        before, on_cpu = torch.cuda.get_rng_state(), global_state()
        clf = small(device="cuda", dtype="float64", micro_batch_size=5, net=net).fit(X, y)
        clf.partial_fit(X, y)
        probabilities.append(clf.predict_proba(X))
        assert torch.equal(torch.cuda.get_rng_state(), before)
        assert global_state() == on_cpu
    assert_allclose(*probabilities, rtol=1e-5)


@pytest.mark.cuda
def test_cuda_in_a_pipeline_and_a_search():
    X, y = images()
    clf = small(device="auto", input_shape=(6, 6), max_epochs=8)
    pipeline = make_pipeline(StandardScaler(), clf)
    grid = {"cnn2dclassifier__loss": ["ce", "ce+mcc"], "cnn2dclassifier__net__module__width": [8]}

    def scoring(fitted, X, y):
        devices = {value.device.type for value in fitted[-1].net_.module_.parameters()}
        assert devices == {"cuda"}
        return fitted.score(X, y)

    search = GridSearchCV(pipeline, grid, cv=2, scoring=scoring, error_score="raise")
    search.fit(X.reshape(len(X), -1), y)
    assert search.cv_results_["mean_test_score"].min() > 0.85
    assert cross_val_score(small(device="cuda", max_epochs=8), X, y, cv=2).min() > 0.85


def run_python(code, folder, **environment):
    """Run code in a new process, in a folder that it may write to."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)


@pytest.mark.cuda
@pytest.mark.parametrize(
    "params",
    [
        {"loss": "ce+wce+mcc"},
        {"loss": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]))},
        {"train_split": 0.25, "callbacks": [EarlyStopping(load_best=True)]},
    ],
    ids=["mix", "module", "stopping"],
)
def test_pickle_of_cuda_goes_on_training_on_the_cpu(params, tmp_path):
    X, y = images()
    clf = small(device="auto", dtype="float64", **params).fit(X, y)
    assert next(clf.net_.module_.parameters()).is_cuda
    (tmp_path / "clf.pkl").write_bytes(pickle.dumps(clf))
    np.savez(tmp_path / "data.npz", X=X, y=y)
    code = """
import pickle, warnings
import numpy as np
import torch
assert not torch.cuda.is_available()
data = np.load("data.npz")
with open("clf.pkl", "rb") as file, warnings.catch_warnings():
    warnings.simplefilter("ignore")  # skorch says that there is no CUDA here
    clf = pickle.load(file)
loaded = clf.predict_proba(data["X"])
for _ in range(2):
    clf.partial_fit(data["X"], data["y"])
np.savez("result.npz", loaded=loaded, trained=clf.predict_proba(data["X"]))
"""
    run_python(code, tmp_path, CUDA_VISIBLE_DEVICES="")
    result = np.load(tmp_path / "result.npz")
    assert_allclose(result["loaded"], clf.predict_proba(X), rtol=1e-6)
    for _ in range(2):
        clf.partial_fit(X, y)
    # The moments of the optimiser came along.
    assert_allclose(result["trained"], clf.predict_proba(X), rtol=1e-5)
    assert not np.allclose(result["trained"], result["loaded"], rtol=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("module", ["small", "resnet18"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_cuda_repeats_itself_with_deterministic_algorithms(module, ndim, tmp_path):
    X, y = images(ndim=ndim)
    # Large enough to be pooled, with all that computes in its own way on the device.
    for axis in range(1, X.ndim):
        X = X.repeat(6, axis=axis)
    np.savez(tmp_path / "data.npz", X=X, y=y)
    code = f"""
import numpy as np
import torch
import skimbal
torch.use_deterministic_algorithms(True)
data = np.load("data.npz")
X, y = data["X"], data["y"]
clf = skimbal.CNN{ndim}DClassifier(
    loss="ce+wce+focal+f1+mcc", sampler="balanced", module="{module}", max_epochs=2,
    batch_size=16, device="cuda", random_state=0, net={{"module__width": 8}},
)
results = []
for micro_batch_size in (None, None, 5, 5):
    clf.set_params(micro_batch_size=micro_batch_size)
    results.append(clf.fit(X, y).predict_proba(X))
np.save("results.npy", results)
"""
    # Libraries read the first of these when they are loaded, so in a process of its own.
    run_python(code, tmp_path, CUBLAS_WORKSPACE_CONFIG=":4096:8")
    first, again, parts, parts_again = np.load(tmp_path / "results.npy")
    assert_array_equal(first, again)
    assert_array_equal(parts, parts_again)


def test_later_calls_that_contradict_the_first(refused, monkeypatch):
    X = noise()
    monkeypatch.undo()
    clf = tiny().partial_fit(X, Y, classes=[0, 1])
    proba = clf.predict_proba(X)
    monkeypatch.setattr(
        "skimbal.training.TrainingNet.train_epochs", lambda *args: pytest.fail("trained")
    )
    text = ["among the classes [0, 1]; got [2]", "in the first call of partial_fit"]
    refused(lambda: clf.partial_fit(X, Y + 1), *text)
    refused(lambda: clf.partial_fit(X, Y.astype(str)), "[0, 1]; got ['0', '1']")
    for classes in ([0, 2], [0, 1, 2], ["0", "1"], [0]):
        refused(
            lambda classes=classes: clf.partial_fit(X, Y, classes=classes),
            "classes must be [0, 1]",
            f"got {classes!r}",
        )
    refused(
        lambda: clf.partial_fit(X, Y, classes=["a", None]), "classes must hold labels of one type"
    )
    shapes = ["sample shape (1, 5, 6)", "expecting sample shape (1, 6, 6)"]
    refused(lambda: clf.partial_fit(X[:, 1:], Y), *shapes)
    refused(lambda: clf.partial_fit(X[:, 1:].reshape(N, -1), Y), "30 features", "36 features")
    assert_array_equal(clf.predict_proba(X), proba)
    monkeypatch.undo()
    clf.partial_fit(X, Y, classes=np.array([1, 0, 0]))  # the same ones, in another order
    clf.partial_fit(X[:3], [1, 1, 1])  # a part of them
    assert clf.n_epochs_ == 3


def test_failed_calls_leave_no_trace_in_the_training():
    X = noise()

    def train(disturb):
        clf = tiny().partial_fit(X, Y, classes=[0, 1])
        for X_bad, y_bad in [(X, Y + 1), (X[:, 1:], Y), (X * np.nan, Y)] if disturb else []:
            with pytest.raises(ValueError, match=r"X|y"):
                clf.partial_fit(X_bad, y_bad)
        return clf.partial_fit(X, Y).predict_proba(X)

    assert_array_equal(train(True), train(False))


@pytest.mark.parametrize("method", [*OUTPUTS, "score"])
@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_prediction_before_fit(cls, method):
    args = (noise(cls), Y) if method == "score" else (noise(cls),)
    words = f"{cls.__name__} instance is not fitted yet. Call 'fit'"
    with pytest.raises(NotFittedError, match=words):
        getattr(tiny(cls), method)(*args)
    failed = tiny(cls)
    with pytest.raises(ValueError, match="1 class"):
        failed.fit(noise(cls), Y * 0)
    with pytest.raises(NotFittedError, match=words):
        getattr(failed, method)(*args)


@pytest.mark.parametrize("method", OUTPUTS)
def test_prediction_of_another_shape(method):
    flat = tiny().fit(noise(), Y)
    deep = tiny(CNN3DClassifier).fit(noise(CNN3DClassifier), Y)
    rows = tiny(input_shape=(6, 6)).fit(noise().reshape(N, -1), Y)
    for clf, shape, words in [
        (flat, (3, 6, 5), r"sample shape \(1, 6, 5\).*expecting sample shape \(1, 6, 6\)"),
        (flat, (3, 2, 6, 6), r"sample shape \(2, 6, 6\).*expecting sample shape \(1, 6, 6\)"),
        (flat, (3, 6, 6, 1), r"sample shape \(6, 6, 1\).*expecting sample shape \(1, 6, 6\)"),
        (flat, (3, 37), "X has 37 features, but CNN2DClassifier is expecting 36 features"),
        (flat, (36,), "Expected 2D array, got 1D array"),
        (flat, (3, 1, 1, 6, 6), "got an array with 5 axes"),
        (flat, (0, 6, 6), r"0 sample\(s\)"),
        (flat, (0, 36), r"0 sample\(s\)"),
        (flat, (3, 6, 0), "size of at least 1"),
        (rows, (3, 35), "X has 35 features, but CNN2DClassifier is expecting 36 features"),
        (rows, (3, 4, 9), r"sample shape \(1, 4, 9\).*expecting sample shape \(1, 6, 6\)"),
        (deep, (3, 6, 6, 5), r"shape \(1, 6, 6, 5\), but CNN3DClassifier.*\(1, 6, 6, 6\)"),
        (deep, (3, 6, 6), "got an array with 3 axes"),
        (deep, (3, 36), "X has 36 features, but CNN3DClassifier is expecting 216 features"),
    ]:
        with pytest.raises(ValueError, match=words):
            getattr(clf, method)(np.zeros(shape, dtype=np.float32))
    with pytest.raises(ValueError, match=r"X must hold real numbers.*datetime64"):
        getattr(flat, method)(np.zeros((3, 6, 6), dtype="M8[D]"))
    with pytest.raises(ValueError, match="numeric values"):
        getattr(flat, method)(np.full((3, 6, 6), "a"))


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_images_and_rows_are_the_same_data(cls):
    X = noise(cls, channels=2)
    rows = X.reshape(N, -1)
    from_images = tiny(cls).fit(X, Y)
    from_rows = tiny(cls, input_shape=X.shape[1:]).fit(rows, Y)
    expected = from_images.decision_function(X)
    for clf in (from_images, from_rows):
        assert clf.n_features_in_ == rows.shape[1]
        for data in (X, rows):
            assert_array_equal(clf.decision_function(data), expected)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_failed_fit_leaves_the_fitted_estimator(cls):
    X = noise(cls, size=6)
    other = noise(cls, size=4)
    rows = pd.DataFrame(X.reshape(N, -1)).add_prefix("p")
    # The same number of pixels in another shape: a mix-up would go unnoticed.
    other_shape = {"input_shape": (4, 9) if cls is CNN2DClassifier else (4, 6, 9)}
    one_class = np.zeros(N)
    clf = tiny(cls).fit(X, np.where(Y, "b", "a"))
    proba, kept = clf.predict_proba(X), dict(vars(clf))
    for data, y, params in [
        (other, Y[:5], {}),
        (other, one_class, {}),
        (other, None, {}),
        (np.where(X > 0, np.nan, X), Y, {}),
        (other, Y, {"loss": "mse"}),
        (other, Y, {"lr": np.nan}),
        (other, Y, {"device": "gpu"}),
        (other, Y, {"net": {"typo": 1}}),
        (other, Y, {"module": no_module, "net": None}),
        (other, Y, {"module": too_many_outputs, "net": None}),
        (other, Y, {"train_split": lambda data, y: None}),
        (rows, one_class, other_shape),
        (rows, Y, {**other_shape, "sampler": "smote"}),
    ]:
        clf.set_params(**params)
        with pytest.raises((ValueError, TypeError)):
            clf.fit(data, y)
        clf.set_params(**{name: kept[name] for name in params})
        assert vars(clf) == kept
        assert_array_equal(clf.predict_proba(X), proba)
        assert set(clf.predict(rows.to_numpy())) <= {"a", "b"}
    assert clf.fit(other, Y).predict(other).shape == (N,)


def test_failed_first_fit_leaves_no_trace():
    clf = tiny()
    before = dict(vars(clf))
    rows = pd.DataFrame(noise().reshape(N, -1)).add_prefix("p")
    for data, y in [(noise(), Y * 0), (rows, Y * 0), (noise(), None), (noise(), Y[:3])]:
        with pytest.raises(ValueError, match=r"class|target|inconsistent"):
            clf.fit(data, y)
        assert vars(clf) == before
