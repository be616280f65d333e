"""The net of a fit: options, callbacks, iterators, networks."""

import copy
import functools
import pickle
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from imblearn.under_sampling import RandomUnderSampler
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import (
    StratifiedKFold,
)
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix
from skimbal.losses import get_loss
from skimbal.networks import SmallCNN
from skimbal.training import TrainingNet
from tests.classifiers.data import (
    BOTH,
    Listener,
    Seen,
    Y,
    assert_same_weights,
    images,
    noise,
    seen,
    small,
    tiny,
    weights,
)


def test_a_network_is_made_for_the_size_of_the_crop():
    X, y = images()
    clf = small(crop_size=(3, 4), net=None).fit(X, y)
    as_large = small(net=None).fit(X[:, :3, :4], y)
    assert {n: w.shape for n, w in weights(clf).items()} == {
        n: w.shape for n, w in weights(as_large).items()
    }
    assert clf.predict_proba(X).shape == (len(X), 2)
    rows = X.reshape(len(X), -1)
    assert_allclose(clf.predict_proba(rows), clf.predict_proba(X))


class Labels(Callback):
    """Keep the labels of each batch."""

    def on_train_begin(self, net, X, y):
        self.seen_ = []

    def on_batch_begin(self, net, batch, **kwargs):
        self.seen_.append(batch[1].tolist())


@pytest.mark.parametrize("iterator", [None, DataLoader], ids=["own", "DataLoader"])
@pytest.mark.parametrize("lean", [True, False], ids=["lean", "followed"])
def test_history_counts_batches_that_lack_a_class(lean, iterator):
    X, y = images(n=60, n_classes=3, share=0.9)
    net = {"module__width": 8} if iterator is None else {"iterator_train": iterator}
    callbacks = [] if lean else [("labels", Labels())]
    clf = small(batch_size=4, max_epochs=2, callbacks=callbacks, net=net).fit(X, y)
    if iterator is not None:
        assert "incomplete_batch_count" not in clf.history_[0]
        return
    history = clf.history_
    assert history[:, "train_batch_count"] == [15, 15]
    if not lean:
        seen = dict(clf.net_.callbacks_)["labels"].seen_
        classes = np.array([len(set(labels)) for labels in seen]).reshape(2, 15)
        assert history[:, "incomplete_batch_count"] == (classes < 3).sum(1).tolist()
        assert history[:, "one_class_batch_count"] == (classes == 1).sum(1).tolist()
    assert 0 < history[0, "one_class_batch_count"] < history[0, "incomplete_batch_count"] <= 15
    balanced = small(batch_size=6, max_epochs=1, sampler="balanced").fit(X, y)
    assert balanced.history_[0, "incomplete_batch_count"] == 0


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"verbose": 1}, True),
        ({"verbose": 2, "loss": "f1"}, True),
        ({"verbose": 0}, False),
        ({"verbose": 1, "loss": "ce"}, False),
        ({"verbose": 1, "loss": LossMix(ce=1, mcc=1, statistics="moving")}, False),
        ({"verbose": 1, "batch_size": 60}, False),
        ({"verbose": 1, "sampler": "balanced", "batch_size": 6}, False),
    ],
    ids=str,
)
def test_hint_at_batches_that_lack_a_class(params, said, capsys):
    X, y = images(n=60, n_classes=3, share=0.9)
    small(**{"batch_size": 4, "max_epochs": 3, **params}).fit(X, y)
    out = capsys.readouterr().out
    hints = [line for line in out.splitlines() if "of the batches lacked a class" in line]
    assert len(hints) == said
    for line in hints:
        for remedy in ("micro_batch_size", "statistics='moving'", "warmup_epochs"):
            assert remedy in line


@pytest.mark.slow
def test_moving_statistics_see_every_class_in_batches_of_two():
    X, y = images(n=200, n_classes=3, share=0.8)
    clf = small(loss=LossMix(ce=1, f1=1), batch_size=2, max_epochs=2)
    with pytest.warns(UserWarning, match="batch_size=2.*statistics='moving'"):
        clf.fit(X, y)
    clf.set_params(loss__statistics="moving").fit(X, y)
    assert set(clf.predict(X)) == {0, 1, 2}
    assert clf.net_.criterion_.moving[2].sum() > 100
    assert pickle.loads(pickle.dumps(clf)).predict(X).tolist() == clf.predict(X).tolist()
    assert clone(clf).get_params()["loss__statistics"] == "moving"


@pytest.mark.parametrize(
    "listener",
    [
        Listener(),
        EpochScoring("accuracy", on_train=True),
        LRScheduler("StepLR", step_size=10**6, step_every="batch"),
        GradientNormClipping(1e9),
    ],
    ids=lambda listener: type(listener).__name__,
)
@pytest.mark.parametrize("micro_batch_size", [None, 5])
def test_who_looks_at_batches_sees_them_and_changes_nothing(listener, micro_batch_size):
    X, y = images()
    params = {"lr_schedule": None, "train_split": 0.25, "micro_batch_size": micro_batch_size}
    seen = small(**params, callbacks=[("listener", copy.deepcopy(listener))]).fit(X, y)
    unseen = small(**params).fit(X, y)
    assert_same_weights(seen, unseen)
    for name in ("train_loss", "train_batch_size"):
        batches = seen.history_[:, "batches", :, name]
        assert_array_equal(batches, unseen.history_[:, "batches", :, name])
    for name in ("train_loss", "valid_loss", "train_batch_count", "valid_batch_count"):
        assert seen.history_[:, name] == unseen.history_[:, name]
    callback = dict(seen.net_.callbacks_)["listener"]
    if isinstance(callback, Listener):
        assert callback.n_batches_ == 2 * 4
    if isinstance(callback, EpochScoring):
        assert len(seen.history_[:, "accuracy"]) == 4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_clipped_gradients_are_the_same_in_both_loops(dtype):
    X, y = images()
    clipped = [("clip", GradientNormClipping(1e-3))]
    params = {"dtype": dtype, "optimizer": "sgd", "max_epochs": 2}
    lean = small(**params, callbacks=clipped).fit(X, y)
    followed = small(**params, callbacks=[*clipped, ("listener", Listener())]).fit(X, y)
    free = small(**params).fit(X, y)
    assert_same_weights(lean, followed)
    with pytest.raises(AssertionError):
        assert_same_weights(lean, free)


@pytest.mark.parametrize("listening", [True, False])
def test_batches_are_told_of_to_those_who_listen_only(listening, monkeypatch):
    told, notify = [], TrainingNet.notify
    monkeypatch.setattr(
        TrainingNet,
        "notify",
        lambda net, name, **kw: (told.append(name), notify(net, name, **kw))[1],
    )
    X, y = images()
    small(callbacks=[("listener", Listener())] if listening else None).fit(X, y)
    assert told.count("on_epoch_end") == 4
    for name in ("on_batch_begin", "on_grad_computed", "on_batch_end"):
        assert told.count(name) == (3 * 4 if listening else 0)


def test_optimizer_is_fused_unless_told_otherwise():
    X, y = images()

    def group(**params):
        return small(max_epochs=1, **params).fit(X, y).net_.optimizer_.param_groups[0]

    for optimizer in ("adam", "AdamW", "sgd"):
        assert group(optimizer=optimizer)["fused"]
    assert not group(net={"module__width": 8, "optimizer__fused": False})["fused"]
    assert group(net={"module__width": 8, "optimizer__foreach": True})["foreach"]
    assert "fused" not in group(optimizer="rmsprop")


class OwnLBFGS(torch.optim.LBFGS):
    """A subclass needs several gradients, too."""


LBFGS = ["lbfgs", OwnLBFGS]


class Twice(torch.optim.SGD):
    """An optimiser that asks for the gradient twice in a step, as LBFGS does."""

    def step(self, closure):
        closure()
        return super().step(closure)


@BOTH
def test_channels_are_innermost(classifier):
    ndim = len(classifier.spatial_axes)
    X, y = images(ndim=ndim)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[ndim]

    def kernels(clf):
        weights = clf.fit(X, y).net_.module_.parameters()
        return [weight for weight in weights if weight.ndim == ndim + 2 and weight.shape[1] > 1]

    usual = small(classifier, max_epochs=1)
    assert all(weight.is_contiguous(memory_format=layout) for weight in kernels(usual))
    net = {"module__width": 8, "optimizer__max_iter": 1}
    others = [small(classifier, optimizer=name, max_epochs=1, net=net) for name in LBFGS]
    assert all(weight.is_contiguous() for clf in others for weight in kernels(clf))
    prepared = usual.net_.module_.prepare(torch.from_numpy(X)[:, None])
    # One channel is contiguous in any layout, so it is the strides that tell.
    assert prepared.stride(1) == 1


@pytest.mark.parametrize("max_iter", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_optimizer_that_computes_gradients_itself(max_iter):
    X, y = images()
    clf = small(optimizer=Twice, standardize=False).fit(X, y)
    assert len(clf.history_[0, "batches"]) == 3
    net = {"module__width": 8, "optimizer__max_iter": max_iter}
    one, other = (small(optimizer=name, max_epochs=2, lr=0.1, net=net) for name in LBFGS)
    assert_same_weights(one.fit(X, y), other.fit(X, y))


def test_train_step_of_ones_own_is_used(monkeypatch):
    class OwnStep(TrainingNet):
        def train_step_single(self, batch, **fit_params):
            self.own_steps = getattr(self, "own_steps", 0) + 1
            return super().train_step_single(batch, **fit_params)

    monkeypatch.setattr("skimbal.training.blueprint.TrainingNet", OwnStep)
    X, y = images()
    assert small().fit(X, y).net_.own_steps == 3 * 4


def test_factory_that_does_not_pickle_can_be_copied():
    X, y = images()
    module = functools.partial(lambda c, k, shape: SmallCNN(c, k, shape, width=8), shape=(6, 6))
    clf = small(module=module, net=None).fit(X, y)
    assert_same_weights(copy.deepcopy(clf), clf)


@pytest.mark.slow
@BOTH
def test_warm_start_keeps_weights_and_begins_a_history(classifier):
    X, y = images(ndim=len(classifier.spatial_axes), n_classes=3)
    clf = small(classifier, warm_start=True).fit(X, y)
    before = clf.decision_function(X)
    still = copy.deepcopy(clf).set_params(lr=1e-12, max_epochs=2).fit(X, y)
    assert_allclose(still.decision_function(X), before, atol=1e-5)
    assert still.n_epochs_ == 2
    assert still.history_[:, "epoch"] == [1, 2]
    fresh = clone(still).fit(X, y)
    assert not np.allclose(fresh.decision_function(X), before, atol=0.1)
    again = clone(clf).fit(X, y).fit(X, y)
    assert_same_weights(clf.fit(X, y), again)
    assert_allclose(clf.history_[:, "event_lr"], clone(clf).fit(X, y).history_[:, "event_lr"])
    clf.fit(X[y > 0], y[y > 0])
    assert clf.classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="fit anew"):
        clf.fit(X, y + 1)


class Drawn(Callback):
    """Write down the first pixel of each image of each batch."""

    def initialize(self):
        self.epochs_ = []
        return self

    def on_epoch_begin(self, net, **kwargs):
        self.epochs_.append([])

    def on_batch_begin(self, net, batch, **kwargs):
        self.epochs_[-1].append(batch[0].flatten(1)[:, 0].tolist())


@BOTH
def test_partial_fit_is_one_epoch_at_a_constant_rate(classifier, capsys):
    X, y = images(ndim=len(classifier.spatial_axes))
    clf = small(classifier, verbose=1, batch_size=8, callbacks=[("drawn", Drawn())])
    for n_calls in (1, 2, 3):
        assert clf.partial_fit(X, y, classes=[0, 1]).n_epochs_ == n_calls
        assert clf.net_.optimizer_.param_groups[0]["lr"] == 5e-3
    assert clf.history_[:, "epoch"] == [1, 2, 3]
    drawn = dict(clf.net_.callbacks_)["drawn"].epochs_
    assert len({tuple(map(tuple, batches)) for batches in drawn}) == 3, "always the same batches"
    one_epoch = clone(clf).set_params(max_epochs=1, lr_schedule=None, verbose=0).fit(X, y)
    assert_same_weights(clone(clf).partial_fit(X, y, classes=[0, 1]), one_epoch)
    again = clone(clf)
    for _ in range(3):
        again.partial_fit(X, y, classes=[0, 1])
    assert_same_weights(clf, again)
    assert capsys.readouterr() == ("", "")


def test_partial_fit_after_fit_leaves_the_schedule():
    X, y = images()
    clf = small(max_epochs=3, verbose=0).fit(X, y)
    assert clf.net_.optimizer_.param_groups[0]["lr"] < 1e-3
    for n_epochs in (4, 5):
        before = clf.predict_proba(X)
        clf.partial_fit(X, y)
        assert clf.n_epochs_ == n_epochs
        assert clf.net_.optimizer_.param_groups[0]["lr"] == 5e-3
        assert not np.allclose(clf.predict_proba(X), before, rtol=1e-3)
    assert clf.fit(X, y).n_epochs_ == 3


def test_early_stopping_on_a_score():
    X, y = images()
    clf = small(
        max_epochs=30,
        train_split=0.25,
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
    assert clf.callbacks[1][1].patience == 60, "as in skorch, the instance gets the option"


def noisy_labels():
    """Draw labels that the images know nothing of: soon there is nothing but overfitting."""
    X, _ = images(n=100)
    return X[:80], np.arange(80) % 2, X[80:], np.arange(20) % 2


@pytest.mark.parametrize(
    "split", ["fraction", "number", "ValidSplit", "scikit-learn", "predefined", "callable"]
)
def test_early_stopping_ends_at_the_right_epoch(split):
    X, y, X_val, y_val = noisy_labels()
    names = np.array(["yes", "no"])
    train_split = {
        "fraction": 0.25,
        "number": 4,
        "ValidSplit": ValidSplit(0.25, stratified=True, random_state=1),
        "scikit-learn": StratifiedKFold(4),
        "predefined": predefined_split(Dataset(X_val, names[y_val])),
        "callable": ValidSplit(4, stratified=True),
    }[split]
    stop = EarlyStopping(patience=3, threshold=0)
    params = {"loss": "ce", "max_epochs": 60, "lr": 0.01, "lr_schedule": None, "batch_size": 16}
    clf = small(train_split=train_split, callbacks=[("seen", Seen()), ("stop", stop)], **params)
    clf.fit(X, names[y])
    losses = clf.history_[:, "valid_loss"]
    assert clf.n_epochs_ == len(losses) == np.argmin(losses) + 4 < 60
    train, valid = seen(clf).train_, seen(clf).valid_
    assert len(valid) == 20
    if split == "predefined":
        assert len(train) == 80
    else:
        assert sorted([*train.rows, *valid.rows]) == list(range(80))
        assert valid.y.mean() == train.y.mean() == 0.5
    # The last epoch's loss is that of the network as it is now.
    loss = log_loss(valid.y, clf.predict_proba(valid.X))
    assert losses[-1] == pytest.approx(loss, rel=1e-4)
    best = clf.set_params(net__callbacks__stop__load_best=True).fit(X, names[y])
    assert_allclose(best.history_[:, "valid_loss"], losses)
    loss = log_loss(seen(best).valid_.y, best.predict_proba(seen(best).valid_.X))
    assert min(losses) == pytest.approx(loss, rel=1e-4)
    assert clf.callbacks[1][1] is stop
    assert stop.best_epoch_ == np.argmin(losses) + 1


def test_validation_loss_of_a_mix_is_that_of_the_whole_set():
    X, y = images(n=120, n_classes=3, share=0.5)
    clf = small(loss="ce+mcc", train_split=0.5, callbacks=[("seen", Seen())])
    clf.set_params(net__iterator_valid__batch_size=20).fit(X, y)  # several blocks to predict in
    assert clf.history_[-1, "valid_batch_count"] > 1
    valid = seen(clf).valid_
    logits = torch.from_numpy(clf.decision_function(valid.X))
    expected = get_loss("ce+mcc")(logits, torch.from_numpy(valid.y)).item()
    assert clf.history_[-1, "valid_loss"] == pytest.approx(expected, rel=1e-5)
    assert all(np.isfinite(clf.history_[:, ("train_loss", "valid_loss", "event_lr")]).ravel())
    assert clf.n_epochs_ == clf.max_epochs == len(clf.history_)


@pytest.mark.parametrize("use_caching", [True, False])
def test_epoch_scoring_under_its_name(use_caching):
    X, y = images(share=0.8)
    scoring = EpochScoring("balanced_accuracy", lower_is_better=False, use_caching=use_caching)
    clf = small(train_split=0.25, callbacks=[("seen", Seen()), ("score", scoring)])
    clf.set_params(net__callbacks__score__name="mine")
    names = np.array(["yes", "no"])
    clf.fit(X, names[y])
    valid = seen(clf).valid_
    assert np.bincount(valid.y).tolist() == [4, 16]
    score = balanced_accuracy_score(names[[1, 0]][valid.y], clf.predict(valid.X))
    assert clf.history_[-1, "mine"] == pytest.approx(score)
    assert "balanced_accuracy" not in clf.history_[-1]
    clf.set_params(net__callbacks__score__name="other").fit(X, names[y])
    assert len(clf.history_[:, "other"]) == clf.n_epochs_


def test_monitor_that_is_changed_through_net():
    X, y = images()
    stop = ("stop", EarlyStopping(patience=1, threshold=1))
    clf = small(callbacks=[stop])
    with pytest.raises(ValueError, match="train_split"):
        clf.fit(X, y)
    assert clf.set_params(net__callbacks__stop__monitor="train_loss").fit(X, y).n_epochs_ == 2


def test_schedule_that_watches_the_validation_loss():
    X, y, *_ = noisy_labels()
    watch = LRScheduler("ReduceLROnPlateau", monitor="valid_loss", patience=0, factor=0.5)
    clf = small(max_epochs=12, lr=0.02, train_split=0.25, callbacks=[watch]).fit(X, y)
    losses = np.asarray(clf.history_[:, "valid_loss"])
    misses = np.sum(losses[1:] >= np.minimum.accumulate(losses)[:-1] * (1 - 1e-4))
    assert misses > 1
    rate = clf.net_.optimizer_.param_groups[0]["lr"]
    assert rate == pytest.approx(0.02 * 0.5**misses)
    constant = small(lr_schedule=None).fit(X, y)
    assert constant.net_.optimizer_.param_groups[0]["lr"] == 5e-3
    assert "event_lr" not in constant.history_[-1]


def test_checkpoint_brings_back_the_best_epoch(tmp_path):
    X, y, *_ = noisy_labels()
    keep = Checkpoint(dirname=str(tmp_path / "kept"), load_best=True)
    params = {"loss": "ce", "max_epochs": 12, "lr": 0.01, "lr_schedule": None, "batch_size": 16}
    params["train_split"] = 0.25
    clf = small(callbacks=[("seen", Seen()), ("keep", keep)], **params).fit(X, y)
    losses = small(**params).fit(X, y).history_[:, "valid_loss"]
    best = np.argmin(losses)
    assert best < 11
    loss = log_loss(seen(clf).valid_.y, clf.predict_proba(seen(clf).valid_.X))
    assert loss == pytest.approx(losses[best], rel=1e-4)
    assert {file.name for file in (tmp_path / "kept").iterdir()} == {
        "params.pt",
        "optimizer.pt",
        "criterion.pt",
        "history.json",
    }


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
    last_steps = np.array([2, 5, 8, 11])
    assert_allclose(plain, 5e-3 * (1 + np.cos(np.pi * last_steps / 12)) / 2)


def test_verbosity(capsys):
    X, y = images()
    small(verbose=0).fit(X, y)
    silent = capsys.readouterr()
    assert silent.out == silent.err == ""
    small(verbose=1).fit(X, y)
    bar = capsys.readouterr()
    assert "4/4" in bar.err
    assert "train_loss" in bar.err
    assert bar.out == (
        "CNN2DClassifier: module='small', sampler='uniform', augment=None, standardize=True, "
        "lr=0.005, batch_size=32, max_epochs=4 with 3 steps each, 12 steps in all\n"
    )
    for value, same in ((True, bar), (np.True_, bar), (False, silent)):
        small(verbose=value).fit(X, y)
        printed = capsys.readouterr()
        assert printed.out == same.out
        assert ("4/4" in printed.err) == ("4/4" in same.err)
    small(verbose=2).fit(X, y)
    table = capsys.readouterr().out
    assert "train_loss" in table
    assert len(table.splitlines()) == 7


def test_no_word_of_callbacks_when_silent(capsys):
    X, y, *_ = noisy_labels()
    stop = EarlyStopping(patience=2, load_best=True)
    clf = small(train_split=0.25, callbacks=[stop], max_epochs=30, lr=0.02).fit(X, y)
    assert clf.n_epochs_ < 30
    assert capsys.readouterr() == ("", "")
    clf.set_params(verbose=2).fit(X, y)
    out, err = capsys.readouterr()
    assert "Stopping since valid_loss" in out
    assert "valid_acc" in out
    assert err == ""


def test_iterator_of_the_users_is_used():
    X, y = images()
    net = {"iterator_train": DataLoader, "iterator_train__shuffle": True, "module__width": 8}
    clf = small(net=net, max_epochs=8).fit(X, y)
    assert clf.net_.iterator_train is DataLoader
    assert [batch["train_batch_size"] for batch in clf.history_[0]["batches"]] == [32, 32, 16]
    assert clf.score(X, y) > 0.9


def test_loader_of_torch_trains_on_the_same_rows():
    X, y = images()
    X = X.astype(np.float64)
    weight = np.random.default_rng(0).uniform(0, 2, size=len(y))
    own = small(batch_size=len(y)).fit(X, y, sample_weight=weight)
    net = {"iterator_train": DataLoader, "module__width": 8}
    # Without shuffling, and all rows in one batch, there is nothing left to differ in.
    clf = small(batch_size=len(y), net=net, random_state=0).fit(X, y, sample_weight=weight)
    assert_allclose(clf.predict_proba(X), own.predict_proba(X), rtol=1e-9)
    clf.set_params(batch_size=32, net__iterator_train__drop_last=True).fit(X, y)
    assert clf.history_[-1, "train_batch_count"] == 2
    orders = [
        clone(clf).set_params(net__iterator_train__shuffle=shuffle).fit(X, y).predict_proba(X)
        for shuffle in (False, True)
    ]
    assert not np.allclose(*orders)
    with pytest.raises(ValueError, match="iterator_train"):
        clf.set_params(sampler="balanced").fit(X, y)


@functools.cache
def overrides():
    """Run the code of the page about what is safe to override, and return its names."""
    page, names = (Path(__file__).parents[2] / "docs/overriding.rst").read_text("utf-8"), {}
    exec(textwrap.dedent(page.partition(".. code-block:: python\n")[2]), names)
    return names


def test_iterator_of_ones_own_augments_and_repeats():
    X, y = images()
    one, same = (
        small(net={"iterator_train": overrides()["Shifted"], "module__width": 8}).fit(X, y)
        for _ in range(2)
    )
    assert one.history_[-1]["train_batch_count"] == 3
    assert_same_weights(one, same)
    plain = small(net={"module__width": 8}).fit(X, y)
    assert not np.array_equal(one.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("micro_batch_size", [None, 8])
def test_subclass_of_mixed_loss_trains_with_weights_and_warm_up(micro_batch_size):
    X, y = images()
    clf = small(loss=overrides()["Tempered"](LossMix(mcc=1)), micro_batch_size=micro_batch_size)
    clf.fit(X, y, sample_weight=1 + y)
    assert type(clf.net_.criterion_) is overrides()["Tempered"]
    assert clf.score(X, y) > 0.9


def test_subclass_of_a_network_goes_in_with_its_spatial_shape():
    X, y = images()
    network = overrides()["NoisySmallCNN"]
    clf = small(module=functools.partial(network, spatial_shape=(6, 6)), max_epochs=8).fit(X, y)
    assert type(clf.net_.module_.network) is network
    assert clf.score(X, y) > 0.9
    with pytest.raises(TypeError, match="spatial_shape"):
        small(module=network).fit(X, y)


class FirstRows(RandomUnderSampler):
    """Takes some rows at random, whatever their class."""

    def _fit_resample(self, X, y):
        rows = np.random.default_rng(self.random_state).permutation(len(y))[:40]
        self.sample_indices_ = rows
        return X[rows], y[rows]


def test_sampler_of_ones_own_is_drawn_every_epoch():
    X, y = images()
    clf = small(sampler=FirstRows(), batch_size=40, callbacks=[("drawn", Drawn())]).fit(X, y)
    epochs = dict(clf.net_.callbacks_)["drawn"].epochs_
    assert [[len(batch) for batch in epoch] for epoch in epochs] == [[40]] * 4
    assert len({tuple(epoch[0]) for epoch in epochs}) == 4


def test_methods_of_a_subclass_are_independent_of_each_other():
    class Sure(CNN2DClassifier):
        def predict_proba(self, X):
            return np.tile([0.0, 1.0], (len(X), 1))

    X, y = images()
    score = EpochScoring("balanced_accuracy", lower_is_better=False, on_train=True)
    params = {"lr": 5e-3, "max_epochs": 3, "random_state": 0, "callbacks": [("score", score)]}
    sure, plain = Sure(**params).fit(X, y), CNN2DClassifier(**params).fit(X, y)
    assert_array_equal(sure.predict(X), plain.predict(X))
    assert sure.history_[:, "balanced_accuracy"] == plain.history_[:, "balanced_accuracy"]
    assert clone(sure).get_params()["max_epochs"] == 3
    assert roc_auc_score(y, sure.predict_proba(X)[:, 1]) == 0.5


def test_fitted_net_predicts_encoded_labels():
    X, y = images()
    clf = small().fit(X, np.array(["no", "yes"])[y])
    assert_array_equal(clf.classes_[clf.net_.predict(X[:, None])], clf.predict(X))
    assert_allclose(clf.net_.predict_proba(X[:, None]), clf.predict_proba(X), rtol=1e-6)
    for fit in (clf.net_.fit, clf.net_.partial_fit):
        with pytest.raises(TypeError, match="Call fit of the classifier"):
            fit(X[:, None], y)


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


@pytest.mark.parametrize(
    ("classifier", "module"),
    [
        (CNN2DClassifier, "resnet18"),
        (CNN3DClassifier, "resnet18"),
        (CNN2DClassifier, "resnet34"),
        pytest.param(CNN3DClassifier, "resnet34", marks=pytest.mark.slow),
    ],
)
def test_resnets_fit(classifier, module):
    X, y = images(n=48, ndim=len(classifier.spatial_axes))
    # So deep a network for so small an image takes its time; a plain pattern is quickly learnt.
    X *= 0.2
    X[y == 1, :3] += 1
    net = {"module__width": 16}
    clf = small(classifier, module=module, lr=5e-4, max_epochs=6, batch_size=16, net=net).fit(X, y)
    assert len(clf.net_.module_.network.stages) == {"resnet18": 8, "resnet34": 16}[module]
    assert clf.score(X, y) > 0.9


def test_warm_start_with_something_else(refused, monkeypatch):
    X = noise()
    monkeypatch.undo()
    clf = tiny(warm_start=True).fit(X, Y)
    proba = clf.predict_proba(X)
    monkeypatch.setattr(
        "skimbal.training.TrainingNet.train_epochs", lambda *args: pytest.fail("trained")
    )
    refused(
        lambda: clf.fit(X[:, 1:], Y), "sample shape (1, 5, 6)", "expecting sample shape (1, 6, 6)"
    )
    refused(lambda: clf.fit(X, Y + 1), "among the classes [0, 1]; got [2]", "fit anew")
    clf.set_params(net__module__width=8)
    refused(lambda: clf.fit(X, Y), "module must", "got a different network", "warm_start=False")
    assert_array_equal(clf.predict_proba(X), proba)
