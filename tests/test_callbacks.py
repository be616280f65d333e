"""Fits that go on from a file equal fits without a stop, for everything that has a state."""

import itertools
import random

import numpy as np
import pytest
import torch
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from PIL import Image
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, WeightedRandomSampler

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, Pretrained, SliceNet
from skimbal.augmentation import RECIPES
from skimbal.images import ImageFiles
from skimbal.losses import TERMS
from skimbal.sampling import STRATEGIES
from tests.classifiers.data import images, small
from tests.networks.pretrained_data import tiny_network
from tests.resuming import assert_same_fit, fit_in_two

GENERATOR = np.random.default_rng(5)


class Counts(Callback):
    """A callback that goes by its own count, without a word about its state."""

    def __init__(self, seen=None):
        self.seen = seen
        self.rng = np.random.default_rng(3)

    def on_train_begin(self, net, **kwargs):
        self.n, self.best, self.by_epoch = 0, None, {}

    def on_epoch_end(self, net, **kwargs):
        self.n += 1
        if self.best is None or self.n % 2:
            self.best = {k: v.clone() for k, v in net.module_.state_dict().items()}
        self.by_epoch[self.n] = (self.rng.random(), np.float32(self.n), np.arange(self.n))
        for group in net.optimizer_.param_groups:
            group["weight_decay"] = 0.01 * self.n * self.rng.random()
        net.history.record("draw", self.rng.random())


class Drops(nn.Module):
    """A network with a buffer, a number that no state_dict has, and a generator."""

    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3)
        )
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(6, n_classes))
        self.n_calls, self.generator = 0, torch.Generator().manual_seed(1)
        self.means = []

    def forward(self, x):
        x = self.body(x)
        if self.training:
            self.n_calls += 1
            self.means.append(float(x.detach().mean()))
            x = x + torch.randn(x.shape, generator=self.generator) / self.n_calls
            x = x * (1 + np.random.random() + random.random())  # noqa: NPY002
        return self.head(x.mean((-1, -2)))


class Lstm(nn.Module):
    """A network whose list of weights names the weights of its parts."""

    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.lstm = nn.LSTM(6 * n_channels, 5, batch_first=True)
        self.head = nn.Linear(5, n_classes)

    def forward(self, x):
        return self.head(self.lstm(x.movedim(1, 2).flatten(2))[0][:, -1])


class Anneals(nn.Module):
    """A loss with a count of its own."""

    mean_over_rows = True

    def __init__(self):
        super().__init__()
        self.n = 0

    def forward(self, logits, target):
        self.n += self.training
        return cross_entropy(logits / (1 + 0.1 * self.n), target)


class Noise:
    """An augmentation with a generator and a count."""

    def __init__(self):
        self.rng, self.n = np.random.RandomState(0), 0

    def __call__(self, x):
        self.n += 1
        return x + self.rng.normal(0, 0.1 * self.n)


def draws_globally(x):
    return x + GENERATOR.normal()


def draws_in_closure():
    rng = random.Random(1)

    def noisy(x):
        return x + rng.random()

    return noisy


class Shuffled:
    """An iterator of the user, with a generator."""

    def __init__(self, dataset, batch_size):
        self.dataset, self.batch_size = dataset, batch_size
        self.rng = np.random.default_rng(7)

    def __iter__(self):
        rows = self.rng.permutation(len(self.dataset))
        for start in range(0, len(rows), self.batch_size):
            yield self.dataset.batch(rows[start : start + self.batch_size])


def loader(**params):
    return {
        "iterator_train": DataLoader,
        **{f"iterator_train__{name}": value for name, value in params.items()},
    }


STOP = EarlyStopping(monitor="valid_loss", patience=3, threshold=0.05)
#: A case for each part of a fit that has a state. The values make parameters.
CASES = {
    "defaults": lambda: {"loss": "ce"},
    "adam, 3D": lambda: {"cls": CNN3DClassifier, "augment": "paper", "sampler": "balanced"},
    "moving, warm-up": lambda: {
        "loss": LossMix(mcc=1, statistics="moving", horizon=40, warmup_epochs=4),
        "batch_size": 7,
    },
    "epochs that go on": lambda: {"epoch_length": 2, "batch_size": 11, "sampler": "stratified"},
    "epochs that go on, over-sampling": lambda: {
        "epoch_length": 5,
        "batch_size": 11,
        "sampler": RandomOverSampler(),
    },
    "under-sampling": lambda: {"sampler": RandomUnderSampler(), "batch_size": 8},
    "early stopping": lambda: {"train_split": 0.3, "callbacks": [STOP]},
    "best weights": lambda: {
        "train_split": 0.3,
        "callbacks": [EarlyStopping(patience=9, load_best=True, monitor="valid_loss")],
        "lr": 0.05,
    },
    "scores": lambda: {
        "train_split": 0.3,
        "callbacks": [
            EpochScoring("balanced_accuracy", lower_is_better=False, name="valid_bac"),
            EpochScoring("accuracy", lower_is_better=False, on_train=True, name="train_acc"),
            GradientNormClipping(0.1),
        ],
    },
    "own callback": lambda: {"callbacks": [Counts()]},
    "plateau": lambda: {
        "callbacks": [LRScheduler("ReduceLROnPlateau", patience=0, threshold=0.5)],
        "train_split": 0.3,
    },
    "scheduler of batches": lambda: {
        "callbacks": [LRScheduler(OneCycleLR, max_lr=0.05, total_steps=12, step_every="batch")],
    },
    "cyclic": lambda: {
        "callbacks": [
            LRScheduler("CyclicLR", base_lr=0.001, max_lr=0.1, step_size_up=2, step_every="batch")
        ],
        "optimizer": "sgd",
        "net": {"module__width": 8, "optimizer__momentum": 0.9},
    },
    "float16": lambda: {"dtype": "float16", "micro_batch_size": 9},
    "bfloat16": lambda: {"dtype": "bfloat16", "lr_schedule": "one_cycle"},
    "float64": lambda: {"dtype": "float64", "micro_batch_size": 9, "loss": "ce+f1"},
    "own network": lambda: {"module": Drops, "net": None, "micro_batch_size": 10},
    "lstm": lambda: {"module": Lstm, "net": None},
    "own loss": lambda: {"loss": Anneals()},
    "own augmentation": lambda: {"augment": ["flip", Noise()], "crop_size": 5},
    "generator of a module": lambda: {"augment": draws_globally},
    "closure": lambda: {"augment": draws_in_closure()},
    "loader": lambda: {"net": loader(shuffle=True)},
    "loader with a generator": lambda: {
        "net": loader(
            sampler=WeightedRandomSampler(
                np.ones(40), 30, generator=torch.Generator().manual_seed(0)
            )
        )
    },
    "own iterator": lambda: {"net": {"iterator_train": Shuffled}},
    "lbfgs": lambda: {"optimizer": "lbfgs", "lr": 0.1, "net": {"module__width": 4}},
    "nadam, constant": lambda: {"optimizer": "nadam", "lr_schedule": None},
    "unfrozen before": lambda: {
        "module": Pretrained(tiny_network, freeze="backbone", unfreeze_at=2),
        "net": None,
    },
    "unfrozen after, slices": lambda: {
        "cls": CNN3DClassifier,
        "module": SliceNet(Pretrained(tiny_network, freeze="backbone", unfreeze_at=4)),
        "net": None,
    },
    "kept features": lambda: {
        "module": Pretrained(tiny_network, freeze="backbone"),
        "net": None,
        "augment": None,
    },
    "weights of rows": lambda: {"fit": {"sample_weight": np.arange(40) % 4}, "sampler": "weighted"},
    "groups, an epoch of each length": lambda: {
        "fit": {"groups": np.arange(40) // 2},
        "train_split": 4,
        "epoch_length": "uniform",
        "class_weight": "balanced",
    },
}


def make(cls=CNN2DClassifier, fit=None, **params):
    clf = small(cls, **{"max_epochs": 6, "loss": "ce+mcc", **params})
    n_axes = 2 if cls is CNN2DClassifier else 3
    X, y = images(40, n_axes, n_classes=3)
    return clf, X, y, fit or {}


def check_case(params, folder):
    """Compare six epochs with three and three. ``params`` makes parameters."""

    def new():
        global GENERATOR
        GENERATOR = np.random.default_rng(5)
        return make(**params())

    clf, X, y, fit = new()
    clf.fit(X, y, **fit)
    again, n_epochs = fit_in_two(lambda: new()[0], folder, X, y, **fit)
    assert_same_fit(again, clf)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert n_epochs == clf.n_epochs_ - 3 >= 1
    return again


@pytest.mark.parametrize("name", CASES)
def test_three_epochs_and_three_are_six(name, tmp_path):
    check_case(CASES[name], tmp_path)


def test_files(tmp_path):
    X, y = images(24)
    paths = [tmp_path / f"{i}.png" for i in range(24)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray((40 * image + 100).clip(0, 255).astype(np.uint8)).save(path)
    folder = tmp_path / "runs"
    folder.mkdir()

    def new():
        params = {"sampler": "balanced", "epoch_length": 2, "batch_size": 7, "train_split": 0.3}
        net = {"module__width": 8, "iterator_train__num_workers": 2}
        return small(augment="light", max_epochs=6, **{**params, "net": net})

    files = ImageFiles(paths)
    whole = new().fit(files, y)
    again, n_epochs = fit_in_two(new, folder, files, y)
    assert_same_fit(again, whole)
    assert n_epochs == 3


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_on_a_device(dtype, share, tmp_path, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        net = {"module__width": 8, "iterator_train__memory_share": share}
        params = {"device": "cuda", "dtype": dtype, "augment": "paper", "net": net}
        check_case(lambda: params, tmp_path)
    finally:
        torch.use_deterministic_algorithms(False)


def all_cases():
    losses = [*TERMS, "ce+0.5*mcc", LossMix(f1=1, statistics="moving", warmup_epochs=4)]
    samplers = [*STRATEGIES, None, RandomOverSampler(), RandomUnderSampler()]
    dtypes, sizes = ["float32", "float64", "bfloat16", "float16"], [None, 7]
    augmentations = [None, *RECIPES]
    for loss, dtype, size in itertools.product(losses, dtypes, sizes):
        yield {"loss": loss, "dtype": dtype, "micro_batch_size": size}
    for sampler, length, loss in itertools.product(samplers, [None, 3, "uniform"], ["ce", "mcc"]):
        yield {"sampler": sampler, "epoch_length": length, "loss": loss, "batch_size": 7}
    for cls, augment, size in itertools.product(
        [CNN2DClassifier, CNN3DClassifier], augmentations, [None, 5]
    ):
        yield {"cls": cls, "augment": augment, "crop_size": size, "micro_batch_size": size}
    for optimizer in ("adam", "adamw", "sgd", "nadam", "radam", "rmsprop", "rprop", "adagrad"):
        for schedule in (None, "cosine", "one_cycle"):
            yield {"optimizer": optimizer, "lr_schedule": schedule, "train_split": 0.3}
    for optimizer in ("adadelta", "adamax", "asgd", "lbfgs", "adafactor"):
        yield {"optimizer": optimizer, "net": {"module__width": 4}}


@pytest.mark.slow
@pytest.mark.parametrize("params", [*all_cases()], ids=repr)
def test_all_settings(params, tmp_path):
    check_case(lambda: params, tmp_path)
