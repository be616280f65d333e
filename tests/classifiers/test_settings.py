"""The values that "auto" takes, passes over mirror images, and fits that learn nothing."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from imblearn.over_sampling import RandomOverSampler
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.utils.data import DataLoader

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, Pretrained, SliceNet
from skimbal.augmentation import RandomFlip, RandomGamma
from skimbal.classifiers import settings
from skimbal.classifiers.inputs import Rows
from skimbal.datasets import load_image_folder
from skimbal.losses import get_loss
from skimbal.networks import NetworkSpec, SmallCNN
from skimbal.training import ImageDataset
from tests.classifiers.data import (
    BOTH,
    assert_same_weights,
    caught,
    images,
    small,
    tiny,
    weights,
)


def resolve(classifier, rows, crop_size=None):
    loss = get_loss(classifier.loss, rows.class_mass)
    return settings.resolve(classifier, loss, rows, crop_size)


def rows_of(n, shape, n_classes=2, are_images=True):
    """Make rows of a shape that take no memory."""
    y = np.arange(n) % n_classes
    X = np.broadcast_to(np.zeros(1, dtype=np.uint8), (n, *shape))
    return Rows(ImageDataset(X, y), np.arange(n_classes), None, are_images)


def settings_of(n, shape, n_classes=2, are_images=True, crop_size=None, **params):
    cls = CNN2DClassifier if len(shape) == 3 else CNN3DClassifier
    return resolve(cls(**params), rows_of(n, shape, n_classes, are_images), crop_size)


N_ROWS = st.integers(2, 200_000)
SAMPLERS_BY_NAME = st.sampled_from(["uniform", "balanced", "stratified", "weighted"])


@given(N_ROWS, N_ROWS, st.integers(2, 300))
def test_budget_grows_with_the_rows(n, other, batch_size):
    few, many = (
        settings_of(rows, (1, 4, 4), batch_size=batch_size, sampler="uniform")
        for rows in sorted([n, other])
    )
    # Up to an epoch, as only whole epochs are trained.
    assert few.epochs * few.n_batches < many.epochs * many.n_batches + few.n_batches


@given(N_ROWS, st.integers(1, 300), SAMPLERS_BY_NAME, st.integers(2, 5))
def test_budget_stays_between_floor_and_ceiling(n, batch_size, sampler, n_classes):
    n = max(n, n_classes)
    found = settings_of(n, (1, 4, 4), n_classes, batch_size=batch_size, sampler=sampler)
    n_steps = found.epochs * found.n_batches
    wanted = min(max(30 * n / batch_size, 3000), 12000)
    assert found.epochs >= 1
    assert wanted <= n_steps < wanted + found.n_batches


@pytest.mark.parametrize(
    ("n_rows", "params", "expected"),
    [
        (200_000, {}, (1, 12_000)),  # a balanced epoch has 12,375 steps
        (200_000, {"sampler": "uniform"}, (2, 6_250)),
        (200_000, {"epoch_length": 500}, (24, 500)),
        (500_000, {}, (1, 15_625)),
        (200_000, {"max_epochs": 1}, (1, 12_375)),
    ],
)
def test_a_long_epoch_ends_early(n_rows, params, expected):
    X = np.broadcast_to(np.zeros(1, dtype=np.uint8), (n_rows, 1, 4, 4))
    y = (np.arange(n_rows) % 100 == 0).astype(int)
    rows = Rows(ImageDataset(X, y), np.arange(2), None, True)
    found = resolve(CNN2DClassifier(**params), rows)
    assert (found.epochs, found.n_batches) == expected
    cut = found.n_batches in (12_000, 15_625)
    assert found.epoch_length == (found.n_batches if cut else params.get("epoch_length"))


@given(st.integers(1, 4), st.lists(st.integers(1, 600), min_size=2, max_size=3), st.integers(2, 99))
def test_batch_fits_into_memory_and_holds_every_class(n_channels, size, n_classes):
    found = settings_of(200, (n_channels, *size), n_classes).batch_size
    n_voxels = n_channels * math.prod(size)
    assert found >= max(2, n_classes)
    if found > max(2, n_classes):
        assert found <= (32 if len(size) == 2 else 16)
        assert found * n_voxels <= 2**25


@pytest.mark.parametrize(
    ("shape", "params", "expected"),
    [
        ((3, 28, 28), {}, 32),
        ((3, 512, 512), {}, 32),
        ((1, 28, 28, 28), {}, 16),
        ((1, 128, 128, 128), {}, 16),
        ((1, 256, 256, 256), {}, 2),
        ((1, 256, 256, 256), {"micro_batch_size": 4}, 4),
        ((1, 256, 256, 256), {"crop_size": (64, 64, 64)}, 16),
        ((1, 256, 256, 256), {"batch_size": 64}, 64),
    ],
)
def test_batch_size(shape, params, expected):
    crop_size = params.pop("crop_size", None)
    assert settings_of(99, shape, crop_size=crop_size, **params).batch_size == expected


@pytest.mark.slow
@BOTH
def test_bare_rows_are_trained_as_they_are(classifier):
    X, y = images(ndim=len(classifier.spatial_axes))
    clf = classifier(random_state=0).fit(X.reshape(len(X), -1), y)
    assert (clf.n_epochs_, clf.n_steps_, clf.batch_size_) == (30, 60, 64)
    assert isinstance(clf.net_.module_.network, SmallCNN)
    assert clf.net_.augmentation == ()
    assert clf.net_.get_params()["iterator_train__sampler"] == "uniform"
    fast = {"optimizer": "adamw", "lr": 3e-3, "lr_schedule": "one_cycle"}
    same = small(classifier, loss="ce", **fast, max_epochs=30, batch_size=64, net=None)
    assert_same_weights(clf, same.fit(X.reshape(len(X), -1), y))


@pytest.mark.parametrize("form", ["images", "rows with input_shape"])
def test_images_are_balanced_and_changed_for_a_budget_of_steps(form, monkeypatch):
    few = replace(settings.IMAGES, least_steps=99)
    monkeypatch.setattr(settings, "IMAGES", few)
    X, y = images()
    params = {} if form == "images" else {"input_shape": (6, 6)}
    X = X if form == "images" else X.reshape(len(X), -1)
    clf = CNN2DClassifier(random_state=0, net={"module__width": 4}, lr=1e-2, **params).fit(X, y)
    # 56 rows of the larger class, and as many of the other class, in batches of 32.
    assert (clf.batch_size_, clf.n_steps_, clf.n_epochs_) == (32, 100, 25)
    assert clf.net_.get_params()["iterator_train__sampler"] == "balanced"
    assert len(clf.net_.augmentation) > 0
    assert clf.net_.mirrored_axes((6, 6)) == []
    assert clf.score(X, y) > 0.9
    params = clone(clf).get_params()
    assert {params[name] for name in ("sampler", "augment", "batch_size", "max_epochs")} == {"auto"}


def test_auto_trains_what_the_values_train():
    X, y = images()
    given = {"sampler": "balanced", "augment": "light", "module": "residual", "batch_size": 32}
    params = {"max_epochs": 2, "random_state": 0}
    assert_same_weights(
        CNN2DClassifier(**params).fit(X, y), CNN2DClassifier(**params, **given).fit(X, y)
    )


def test_batches_of_the_user_and_steps_of_several_gradients():
    X, y = images(n=20)
    own = CNN2DClassifier(max_epochs=1, net={"iterator_train": DataLoader})
    assert own.fit(X, y).n_steps_ == 1
    assert CNN2DClassifier(max_epochs=1, optimizer="lbfgs").fit(X, y).net_.augmentation == ()


def test_counting_the_steps_leaves_the_generator_of_a_sampler_alone():
    generator = np.random.RandomState(0)
    before = copy.deepcopy(generator.get_state()[1])
    rows = rows_of(20, (1, 4, 4))
    resolve(CNN2DClassifier(sampler=RandomOverSampler(random_state=generator)), rows)
    assert_array_equal(generator.get_state()[1], before)


@pytest.mark.parametrize(
    "params",
    [
        {"loss": "wce"},
        {"loss": "la"},
        {"loss": "mcc + 0.5*ldam"},
        {"loss": LossMix(balanced_softmax=1)},
        {"class_weight": "balanced"},
    ],
    ids=str,
)
def test_class_frequency_is_not_corrected_twice(params):
    rows = rows_of(20, (1, 4, 4))
    assert resolve(CNN2DClassifier(**params), rows).sampler == "uniform"
    assert resolve(CNN2DClassifier(**params, sampler="balanced"), rows).sampler == "balanced"
    assert resolve(CNN2DClassifier(loss="focal+f1"), rows).sampler == "balanced"
    assert resolve(CNN2DClassifier(loss=nn.MultiMarginLoss), rows).sampler == "balanced"


def cross_entropy(**params):
    return nn.CrossEntropyLoss(**{n: torch.tensor(values) for n, values in params.items()})


class ForeignLoss(nn.Module):
    """A loss with attributes as loss modules of other packages have them."""

    def __init__(self, part=None, **attributes):
        super().__init__()
        self.part = part
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits, target)


class Weighted(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__(weight=torch.tensor([1.0, 9.0]))


WEIGHS_CLASSES = [
    cross_entropy(weight=[1.0, 9.0]),
    Weighted,
    nn.MultiMarginLoss(weight=torch.tensor([0.2, 0.8], dtype=torch.bfloat16)),
    ForeignLoss(cross_entropy(weight=[1.0, 9.0])),
    ForeignLoss(class_weight=[1, 9]),
    ForeignLoss(class_weights=np.array([1, 9])),
    ForeignLoss(weights=(1.0, 9.0)),
    ForeignLoss(alpha=torch.tensor([0.25, 0.75])),
    ForeignLoss(alpha=nn.Parameter(torch.tensor([0.25, 0.75]))),
    ForeignLoss(pos_weight=torch.tensor(9.0)),
    ForeignLoss(nn.BCEWithLogitsLoss(pos_weight=torch.tensor([9.0]))),
]
WEIGHS_NO_CLASS = [
    nn.CrossEntropyLoss,
    cross_entropy(weight=[2.0, 2.0]),
    ForeignLoss(nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0]))),
    ForeignLoss(weight="mean", alpha=None, weights=[[1, 2], [3, 4]], pos_weight=np.eye(2)),
    ForeignLoss(nn.Linear(2, 2), class_weight=[1, 2, 3]),
    *(ForeignLoss(alpha=alpha) for alpha in (0, 0.5, 1, 2.0, np.nan, True)),
]


@pytest.mark.parametrize("loss", WEIGHS_CLASSES, ids=str)
def test_loss_module_that_weighs_classes_has_uniform_batches(loss):
    rows = rows_of(20, (1, 4, 4))
    assert resolve(CNN2DClassifier(loss=loss), rows).sampler == "uniform"
    assert resolve(CNN2DClassifier(loss=loss, sampler="balanced"), rows).sampler == "balanced"


@pytest.mark.parametrize("loss", WEIGHS_NO_CLASS, ids=str)
def test_loss_module_that_weighs_no_class_has_balanced_batches(loss):
    assert resolve(CNN2DClassifier(loss=loss), rows_of(20, (1, 4, 4))).sampler == "balanced"
    assert settings.find_alpha(get_loss(loss)) is None


@pytest.mark.parametrize("alpha", [0.25, torch.tensor(0.75)])
def test_alpha_that_may_weigh_classes_is_told(alpha):
    X, y = images(n=20)
    clf = CNN2DClassifier(ForeignLoss(ForeignLoss(alpha=alpha)), max_epochs=1)
    words = rf"sampler='auto' .* and alpha={alpha:g} of the loss ForeignLoss may weigh the classes"
    with pytest.warns(UserWarning, match=words):
        clf.fit(X, y)
    assert clf.net_.get_params()["iterator_train__sampler"] == "balanced"
    for sampler in ("uniform", "balanced"):
        log = caught(lambda s=sampler: clone(clf).set_params(sampler=s).fit(X, y))
        assert not [item for item in log if "alpha" in str(item.message)]


class Normalizing(NetworkSpec):
    normalizes_input = True
    freezes_backbone = True

    def build(self, in_channels, n_classes, spatial_shape, pixels=None):
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes))


def test_network_that_normalises_is_neither_standardised_nor_augmented(refused):
    X, y = images()
    rows = rows_of(20, (1, 4, 4))
    found = resolve(CNN2DClassifier(module=Normalizing()), rows)
    assert (found.standardize, found.augment) == (False, None)
    given = CNN2DClassifier(module=Normalizing(), augment="flip", standardize=False)
    assert resolve(given, rows).augment == "flip"
    clf = CNN2DClassifier(module=Normalizing(), standardize=True)
    refused(lambda: clf.fit(X, y), "standardize must be 'auto' or False", "got True", "twice")


# Learning rate ----------------------------------------------------------------------------------


class Tuned(NetworkSpec):
    """A network whose pretrained weights are trained, unless they are frozen."""

    def __init__(self, fine_tunes=True):
        self.fine_tunes = fine_tunes

    def build(self, in_channels, n_classes, spatial_shape, pixels=None):
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes))


class SlowSGD(torch.optim.SGD):
    """A class of the user, with a default."""

    def __init__(self, params, lr=1e-6):
        super().__init__(params, lr)


class StrictSGD(torch.optim.SGD):
    """A class of the user, without a default."""

    def __init__(self, params, lr):
        super().__init__(params, lr)


@pytest.mark.parametrize(
    ("module", "optimizer", "expected"),
    [
        ("auto", "adamw", 3e-3),
        (SmallCNN, "nadam", 3e-3),
        (Tuned(False), "Adam", 3e-3),
        (Tuned(), "adamw", 1e-3),
        (Tuned(), torch.optim.AdamW, 1e-3),
        (SliceNet(Tuned()), "adamw", 1e-3),
        (Tuned(), "sgd", 1e-3),
        ("auto", "sgd", 1e-3),
        ("auto", SlowSGD, 1e-6),
        ("auto", "lbfgs", 1),
    ],
)
def test_learning_rate(module, optimizer, expected):
    params = {"module": module, "optimizer": optimizer}
    assert settings_of(20, (1, 4, 4), **params).lr == expected
    assert settings_of(20, (1, 4, 4), **params, lr=0.5).lr == 0.5
    bare = settings_of(20, (1, 1, 16), are_images=False, **params)
    assert bare.lr == (expected if optimizer in ("sgd", SlowSGD, "lbfgs") else 3e-3)


def test_optimizer_without_a_default_rate_needs_a_number(refused):
    clf = tiny(optimizer=StrictSGD, lr="auto")
    words = "lr must be a number above 0 with this optimizer", "got 'auto'", "StrictSGD"
    refused(lambda: clf.fit("no images", [0, 1]), *words)
    assert settings_of(20, (1, 4, 4), optimizer=StrictSGD, lr=0.1).lr == 0.1


@pytest.mark.parametrize(
    ("n_rows", "n_steps"), [(160, 300), (600, 300), (4_800, 1_500), (100_000, 6_000)]
)
def test_fine_tuning_takes_fewer_steps(n_rows, n_steps):
    params = {"sampler": "uniform", "epoch_length": 10}
    found = settings_of(n_rows, (1, 4, 4), module=Tuned(), **params)
    assert found.epochs * found.n_batches == n_steps
    frozen = settings_of(n_rows, (1, 4, 4), module=Tuned(False), **params)
    assert frozen.epochs * frozen.n_batches >= 3_000
    bare = settings_of(n_rows, (1, 1, 16), are_images=False, module=Tuned())
    assert bare.epochs == 30


class Rates(Callback):
    """Keep the largest learning rate of each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.seen_ = []

    def on_epoch_end(self, net, **kwargs):
        self.seen_.append(max(group["lr"] for group in net.optimizer_.param_groups))


@pytest.mark.parametrize("fine_tunes", [False, True])
def test_training_uses_the_rate_of_the_network(fine_tunes, capsys):
    X, y = images(n=40)
    expected = 1e-3 if fine_tunes else 3e-3
    clf = CNN2DClassifier(
        module=Tuned(fine_tunes),
        max_epochs=2,
        lr_schedule=None,
        callbacks=[("rates", Rates())],
        random_state=0,
        verbose=1,
    ).fit(X, y)
    assert f", lr={expected:g}, " in capsys.readouterr().out
    clf.set_params(verbose=0)
    assert clf.lr_ == expected
    assert clf.lr == clone(clf).lr == "auto"
    assert dict(clf.net_.callbacks_)["rates"].seen_ == [expected] * 2
    given = clone(clf).set_params(lr=expected).fit(X, y)
    assert_same_weights(clf, given)
    for again in (clf.partial_fit, clf.set_params(warm_start=True).fit):
        again(X, y)
        assert clf.lr_ == expected
        assert dict(clf.net_.callbacks_)["rates"].seen_[-1] == expected
    partial = clone(clf).partial_fit(X, y, classes=[0, 1])
    assert dict(partial.net_.callbacks_)["rates"].seen_ == [expected]


def test_schedules_begin_with_the_rate_of_the_network():
    X, y = images(n=40)
    own = LRScheduler("StepLR", step_size=1, gamma=0.5)
    clf = CNN2DClassifier(module=Tuned(), max_epochs=3, callbacks=[own], random_state=0).fit(X, y)
    assert_allclose(clf.history_[:, "event_lr"], [1e-3, 5e-4, 2.5e-4])


def test_a_search_over_rates_and_networks():
    X, y = images(n=40)
    grid = {"lr": ["auto", 0.01], "module__fine_tunes": [True, False]}
    clf = CNN2DClassifier(module=Tuned(), max_epochs=1, random_state=0)
    search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, y)
    best = search.best_estimator_
    assert best.lr_ == {"auto": 1e-3 if best.module.fine_tunes else 3e-3}.get(best.lr, 0.01)


# Epochs --------------------------------------------------------------------------------------


def test_no_epochs_make_a_network_whose_features_can_be_used():
    X, y = images()
    clf = small(max_epochs=0).fit(X, y)
    assert (clf.n_epochs_, clf.n_steps_, len(clf.history_)) == (0, 0, 0)
    features = clf.transform(X)
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.warns(ConvergenceWarning, match="not trained, so it predicts by chance"):
            getattr(clf, method)(X)
    trained = small(max_epochs=1).fit(X, y)
    assert not caught(lambda: trained.predict(X))
    assert trained.transform(X).shape == features.shape
    # A fit that goes on trains nothing more.
    again = trained.set_params(warm_start=True, max_epochs=0)
    before = weights(again)
    again.fit(X, y)
    assert not caught(lambda: again.predict(X))
    for name, value in weights(again).items():
        assert_array_equal(value, before[name])


def test_a_network_that_is_to_be_trained_later_warns_until_then():
    X, y = images()
    clf = small(max_epochs=0).fit(X, y).partial_fit(X, y)
    assert not caught(lambda: clf.predict(X))


@pytest.mark.parametrize("name", ["one_cycle", "cosine"])
def test_schedule_of_a_callback_takes_the_place(name):
    X, y = images()
    own = LRScheduler("StepLR", step_size=1, gamma=0.5)
    clf = small(max_epochs=2, lr_schedule=name, callbacks=[own]).fit(X, y)
    assert_allclose(clf.history_[:, "event_lr"], [5e-3, 2.5e-3])


def test_total_of_one_cycle_does_not_depend_on_the_cut_into_epochs():
    X, y = images(n=64)
    params = {"sampler": "uniform", "lr_schedule": "one_cycle", "batch_size": 16}
    short = small(**params, max_epochs=8, epoch_length=2).fit(X, y)
    long = small(**params, max_epochs=4, epoch_length=4).fit(X, y)
    assert short.n_steps_ == long.n_steps_ == 16
    assert_array_equal(short.history_[1::2, "event_lr"], long.history_[:, "event_lr"])


# Fits that learn nothing ---------------------------------------------------------------------


@pytest.mark.parametrize("listener", [None, "batch"])
def test_a_fit_that_ends_in_one_class_says_so(listener):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 8, 8, 8)).astype(np.float32)
    y = (np.arange(80) % 7 == 0).astype(int)
    callbacks = (
        [] if listener is None else [LRScheduler("StepLR", step_size=99, step_every="batch")]
    )
    clf = CNN3DClassifier(
        sampler="uniform",
        augment=None,
        batch_size=8,
        max_epochs=5,
        random_state=0,
        lr=1e-4,
        callbacks=callbacks,
    )
    with pytest.warns(ConvergenceWarning, match="predicted one class for all training rows"):
        clf.fit(X, y)
    assert len(np.unique(clf.predict(X))) == 1
    assert clf.history_[-1, "predicted_class_count"] == 1
    assert not caught(lambda: clone(clf).partial_fit(X, y, classes=[0, 1]), ConvergenceWarning)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_default_sampler_learns_a_rare_class_or_says_that_it_did_not(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(100, 8, 8, 8)).astype(np.float32)
    y = (np.arange(100) % 7 == 0).astype(int)
    X[y == 1, :4] += 0.3
    clf = CNN3DClassifier(batch_size=8, max_epochs=5, random_state=seed)
    log = caught(lambda: clf.fit(X, y), ConvergenceWarning)
    assert len(np.unique(clf.predict(X))) == 2 or log


def test_a_fit_that_learns_does_not_warn():
    X, y = images()
    assert not caught(lambda: small().fit(X, y), ConvergenceWarning)


@pytest.mark.slow
@pytest.mark.parametrize("n_batches", [9, 255, 256, 257])
def test_predicted_classes_are_those_of_all_batches(n_batches):
    X, y = images(n=2 * n_batches, n_classes=3)
    clf = tiny(loss="ce", batch_size=2, lr=1e-12, epoch_length=n_batches).fit(X, y)
    n_found = len(np.unique(clf.predict(X)))
    assert clf.history_[-1, "predicted_class_count"] == n_found


# Passes of a prediction ----------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("axes", [None, [0], [-1]])
@pytest.mark.parametrize("crop_size", [None, 5])
def test_flips_are_the_mean_over_all_mirror_images(classifier, axes, crop_size):
    n_axes = len(classifier.spatial_axes)
    X, y = images(n=40, ndim=n_axes, n_classes=3)
    augment = [RandomGamma(), RandomFlip(axes=axes)]
    clf = small(classifier, augment=augment, crop_size=crop_size, n_tta="flips").fit(X, y)
    found = clf.predict_proba(X)
    assert_array_equal(clf.set_params(n_tta="auto").predict_proba(X), found)
    clf.set_params(n_tta=1)
    if crop_size is not None:
        X = X[(slice(None), *[slice(0, crop_size)] * n_axes)]
        plain = small(classifier, augment=augment, n_tta=1).fit(X, y)
        plain.net_ = clf.net_
        clf = plain
    mirrored = range(n_axes) if axes is None else [axis % n_axes for axis in axes]
    choices = itertools.product([False, True], repeat=len(mirrored))
    passes = [
        clf.predict_proba(
            np.flip(X, [1 + axis for axis, on in zip(mirrored, c, strict=True) if on])
        )
        for c in choices
    ]
    assert len(passes) == 2 ** len(mirrored)
    assert np.abs(passes[0] - passes[-1]).max() > 1e-4
    assert_allclose(found, np.mean(passes, 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("augment", [None, RandomGamma(), RandomFlip(p=0), torch.clone])
def test_flips_are_refused_where_none_was_trained(augment, refused):
    X, y = images()
    remedy = "n_tta must be 'auto' or 1 after a fit whose augment mirrors no image"
    refused(lambda: small(augment=augment, n_tta="flips").fit(X, y), remedy, "got 'flips'")


def test_flips_that_training_did_not_see_are_refused_at_prediction():
    X, y = images()
    clf = small(augment=RandomGamma()).fit(X, y)
    assert_array_equal(clf.predict_proba(X), clf.set_params(n_tta=1).predict_proba(X))
    with pytest.raises(ValueError, match="mirrors no image; got 'flips'"):
        clf.set_params(n_tta="flips").predict(X)


def test_axes_of_size_one_are_not_mirrored():
    X, y = images()
    clf = small(CNN3DClassifier, augment="flip", input_shape=(1, 1, 6, 6)).fit(X[:, None], y)
    assert clf.net_.mirrored_axes(clf.input_shape_[1:]) == [1, 2]


def noisy(images):
    return images + torch.randn_like(images)


@pytest.mark.parametrize(
    "params",
    [
        {"augment": "paper"},
        {"augment": ["flip", noisy]},
        {"augment": noisy, "crop_size": 4},
        {"crop_size": 4},
    ],
    ids=str,
)
def test_passes_do_not_depend_on_other_rows(params):
    X, y = images(n=60)
    clf = small(n_tta=4, **params).fit(X, y)
    expected = clf.predict_proba(X)
    assert np.abs(expected - clf.set_params(n_tta=1).predict_proba(X)).max() > 1e-4
    clf.set_params(n_tta=4)
    close = {"rtol": 1e-4, "atol": 1e-6}
    assert_array_equal(clf.predict_proba(X), expected)
    assert_allclose(clf.predict_proba(X[::-1])[::-1], expected, **close)
    assert_allclose(clf.predict_proba(X[7:9]), expected[7:9], **close)
    assert_allclose(clf.predict_proba(np.tile(X, (30, 1, 1)))[-60:], expected, **close)
    net = {"module__width": 8, "iterator_valid__batch_size": 7}
    in_blocks = small(n_tta=4, net=net, **params).fit(X, y)
    assert_allclose(in_blocks.predict_proba(X), expected, **close)


def test_passes_leave_the_generators_alone():
    X, y = images(n=20)
    clf = small(n_tta=3, augment=noisy).fit(X, y)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    clf.predict(X)
    assert torch.equal(torch.rand(3), expected)


def test_values_of_a_long_module_are_one_line():
    spec = Pretrained("timm/resnet18", freeze="backbone", image_size=96, mean=[0.498] * 3)
    printed = str(settings_of(300, (1, 28, 28), module=spec))
    assert "\n" in repr(spec)
    assert "\n" not in printed
    assert "image_size=96, mean=" in printed


@pytest.mark.slow
def test_small_batches_of_real_volumes_do_not_end_in_one_class(data_dir):
    root = data_dir / "nifti_hippocampus"
    data = load_image_folder(
        root / "images",
        labels=root / "labels.csv",
        path_column="file",
        label_column="low_volume_15pct",
        size=(32, 32, 32),
        resize="crop",
        intensity="stored",
    )
    clf = CNN3DClassifier(batch_size=8, max_epochs=5, random_state=0)
    assert not caught(lambda: clf.fit(data.X, data.y), ConvergenceWarning)
    assert len(np.unique(clf.predict(data.X))) == 2
