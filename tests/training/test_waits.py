"""The host waits for a CUDA device in no step of training, in no mode."""

import warnings
from collections import Counter

import numpy as np
import pytest
from skorch.callbacks import Callback, EpochScoring, GradientNormClipping

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix
from skimbal.augmentation import RECIPES, OneOf, RandomFlip
from skimbal.training.batches import BlockIterator, TrainIterator

N_STEPS = 4
MOVING = LossMix(ce=1, mcc=1, statistics="moving")
SENT = {"iterator_train__memory_share": 0.0}
ALL_TERMS = LossMix(
    ce=1, wce=1, focal=1, f1=1, mcc=1, la=1, balanced_softmax=1, ldam=1, label_smoothing=0.1
)
MODES = {
    "resident": {},
    "sent": {"net": SENT},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "float64": {"dtype": "float64"},
    "all terms, balanced": {"loss": ALL_TERMS, "sampler": "balanced"},
    "moving": {"loss": MOVING},
    "parts": {"micro_batch_size": 4},
    "parts, one pass": {"micro_batch_size": 4, "loss": "ce"},
    "parts, moving, float16, sent": {
        "micro_batch_size": 4,
        "loss": MOVING,
        "dtype": "float16",
        "net": SENT,
    },
    "class weights": {"class_weight": "balanced"},
    "class weights, sent": {"class_weight": "balanced", "net": SENT},
    "deferred": {"loss": LossMix(ldam_drw=1, drw_start=0.5)},
    "clipped": {"callbacks": [GradientNormClipping(0.1)]},
    "clipped, float16": {"callbacks": [GradientNormClipping(0.1)], "dtype": "float16"},
    "scored": {"train_split": 0.25, "callbacks": [EpochScoring("f1_macro")]},
    "resnet, batch norm": {
        "module": "resnet18",
        "net": {"module__norm": "batch", "module__width": 4},
    },
    "sgd": {"optimizer": "sgd"},
    "no augmentation": {"augment": None},
    "crop": {"crop_size": 6},
    "paper, crop, sent": {"augment": "paper", "crop_size": 6, "net": SENT},
    "trivial, parts": {"augment": "trivial", "crop_size": 6, "micro_batch_size": 4},
    "light and mamix, class weights, parts": {
        "augment": ["light", "mamix"],
        "class_weight": "balanced",
        "micro_batch_size": 4,
    },
    "remix, sent": {"augment": "remix", "net": SENT},
    **{name: {"augment": name} for name in RECIPES},
}


def images(n_axes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, *[8] * n_axes)).astype(np.float32)
    y = np.arange(len(X)) % 3 % 2
    X[y == 1, :4] += 1
    return X, y


def fit(n_axes, **params):
    X, y = images(n_axes)
    cls = {2: CNN2DClassifier, 3: CNN3DClassifier}[n_axes]
    defaults = {"max_epochs": 1, "batch_size": 10, "epoch_length": N_STEPS, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so short a training
        return cls(**{**defaults, "device": "cuda", **params}).fit(X, y)


@pytest.fixture
def events_in_steps(account, monkeypatch):
    """Make a function of a fit: the account of its epoch, from the first batch to the last."""
    seen, read = [], TrainIterator.__iter__

    def watched(iterator):
        with account("wait", "staged") as events:
            seen.append(events)
            yield from read(iterator)

    def events_in_steps(n_axes, **params):
        fit(n_axes, **params)
        (events,) = seen
        return events

    monkeypatch.setattr(TrainIterator, "__iter__", watched)
    return events_in_steps


@pytest.mark.cuda
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_axes", [2, 3])
def test_no_step_waits_for_the_device(events_in_steps, n_axes, mode):
    events = events_in_steps(n_axes, **MODES[mode])
    assert events.count() == 0, events


class ReadsLosses(Callback):
    """Looks at the loss of each batch, for which the host must wait."""

    def on_batch_end(self, net, loss=None, **kwargs):
        float(loss)


@pytest.mark.cuda
@pytest.mark.parametrize(
    "params",
    [
        {"augment": lambda images: images + images.mean().item()},
        {"augment": ["flip", lambda images: images.cpu().cuda(), OneOf([RandomFlip()])]},
        {"callbacks": [ReadsLosses()]},
    ],
    ids=["item", "copies", "callback"],
)
def test_a_planted_wait_is_seen_in_every_step(events_in_steps, params):
    events = events_in_steps(2, **params)
    assert N_STEPS <= events.count("wait") <= 2 * N_STEPS, events
    assert events.count("staged") == 0, events


@pytest.mark.cuda
def test_validation_keeps_its_rows_and_waits_by_the_epoch(account, monkeypatch):
    """The number of blocks adds waits for the scores that ask for each block, and no others."""
    sent = Counter()
    read = BlockIterator.__iter__

    def counted(iterator):
        sent[iterator.resident is not None] += len(iterator.dataset) == 10
        return read(iterator)

    monkeypatch.setattr(BlockIterator, "__iter__", counted)
    n_waits = []
    for n_rows in (10, 2):
        options = {"iterator_valid__batch_size": n_rows, "callbacks__valid_acc": None}
        params = {"augment": None, "train_split": 0.25, "max_epochs": 3, "net": options}
        with account("wait", "staged") as events:
            fit(2, **params)
        assert events.count("staged") == 0, events
        n_waits.append(events.count("wait"))
    assert n_waits[0] == n_waits[1]
    assert sent == {True: 2 * 3}


@pytest.mark.cuda
def test_to_make_a_network_waits_for_nothing(account):
    with account("wait", "staged") as events:
        fit(2, augment=None)
    assert not any("initialize" in line for line in events.lines()), events
    assert events.count("staged") == 0, events
