"""A fit depends on no setting of the caller, and leaves nothing behind."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from skimbal import CNN2DClassifier, Pretrained
from skimbal.images import ImageFiles
from tests.classifiers.data import BOTH, Y, global_state, images, noise, tiny
from tests.networks.pretrained_data import tiny_network

pytestmark = pytest.mark.filterwarnings(
    "ignore:The network predicted one class:sklearn.exceptions.ConvergenceWarning"
)


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def another_dtype():
    return default_dtype(torch.float64)


def another_device():
    return torch.device("meta")


SURROUNDINGS = [torch.no_grad, torch.inference_mode, another_dtype, another_device, autocast]


class Scaled(nn.Module):
    """A network that makes tensors of the default dtype, on the default device."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.network = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, n_classes)
        )

    def forward(self, X):
        return self.network(X * torch.linspace(0.5, 1, X.shape[-1]) * self.scale)


def brightened(images):
    return images * (1 + torch.rand(1))


WAYS_TO_FIT = {
    "small": {},
    "own network": {"module": Scaled, "net": None},
    "augmented": {"augment": ["strong", "flip", brightened], "n_tta": 3},
    "float64": {"dtype": "float64"},
    "bfloat16": {"dtype": "bfloat16"},
    "lbfgs": {"optimizer": "lbfgs", "lr": 0.5},
    "micro-batches": {"micro_batch_size": 4, "loss": "mcc+ce"},
    "loader": {"net": {"iterator_train": DataLoader, "iterator_valid": DataLoader}},
    "one process": {"distributed": True},
}


@pytest.mark.parametrize("surrounding", SURROUNDINGS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("way", WAYS_TO_FIT)
def test_a_caller_changes_no_bit(way, surrounding):
    X, y = images(n=24)
    clf = tiny(**{**WAYS_TO_FIT[way], "train_split": 0.25, "max_epochs": 2})

    def run():
        clf.fit(X, y)
        clf.partial_fit(X, y)
        outputs = [clf.predict_proba(X), clf.decision_function(X), clf.transform(X)]
        return [*outputs, np.array(clf.history_[:, ("train_loss", "valid_loss")])]

    expected = run()
    with surrounding():
        before = global_state()
        found = run()
        assert global_state() == before
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)


@BOTH
def test_networks_of_the_package_are_made_alike(classifier):
    X, y = noise(classifier, size=8), Y
    modules = ["small", "residual", "resnet18"] if classifier is CNN2DClassifier else ["residual"]
    for module in modules:
        clf = tiny(classifier, module=module, net=None)
        expected = clf.fit(X, y).decision_function(X)
        with another_dtype():
            assert_array_equal(clf.fit(X, y).decision_function(X), expected)


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("freeze", ["none", "backbone"])
def test_pretrained_networks_train_without_gradients_around(freeze, surrounding):
    X, y = images(n=24)
    with surrounding():
        module = Pretrained(tiny_network, freeze=freeze)
        clf = tiny(module=module, net=None, max_epochs=2).fit(X, y)
        assert clf.predict_proba(X).shape == (24, 2)


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
def test_a_loss_that_was_made_without_gradients_trains(surrounding):
    X, y = images(n=24)
    with surrounding():
        tiny(loss=nn.CrossEntropyLoss(weight=torch.ones(2))).fit(X, y)


@pytest.mark.parametrize("make", [lambda clf: pickle.loads(pickle.dumps(clf)), copy.deepcopy])
def test_a_copy_that_was_made_without_gradients_trains(make):
    X, y = images(n=24)
    clf = tiny().fit(X, y)
    with torch.inference_mode():
        copied = make(clf)
    expected = clf.partial_fit(X, y).predict_proba(X)
    assert_array_equal(copied.partial_fit(X, y).predict_proba(X), expected)


# Threads, files, the start method -------------------------------------------------------------

SCRIPT = """
import multiprocessing, os, threading, warnings
import numpy as np
from skorch.callbacks import Callback
from skimbal import CNN2DClassifier
from skimbal.callbacks import Resume
from skimbal.datasets import inspect_folder
from skimbal.study import compare_losses
from PIL import Image

def state():
    method = multiprocessing.get_start_method(allow_none=True)
    return len(threading.enumerate()), method, sorted(os.listdir("/proc/self/fd"))

warnings.simplefilter("ignore")
X, y = np.random.default_rng(0).normal(size=(24, 8, 8)), np.arange(24) % 2
before = state()
assert before[:2] == (1, None), before
clf = CNN2DClassifier(max_epochs=1, module="small", random_state=0)
for verbose in (0, 1, 2, True):
    clf.set_params(verbose=verbose, loss="f1", batch_size=2).fit(X, y).predict(X)
    assert state() == before, verbose

class Stop(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2 and threading.current_thread().name == "stops":
            raise RuntimeError

resumed = CNN2DClassifier(max_epochs=3, module="small", random_state=0, verbose=1)
resumed.callbacks = [Resume("runs", seconds=0), Stop()]
for name in ("stops", "MainThread"):  # a name that no checksum of code sees
    threading.current_thread().name = name
    try:
        resumed.fit(X, y)
    except RuntimeError:
        pass
    assert state() == before, "Resume"
clf.set_params(verbose=0)
study = compare_losses(X, y, estimator=clf, losses=["ce"], samplers=["uniform"], cv=2)
assert state() == before, "compare_losses"
study.to_html("report.html")
assert state() == before, "to_html"
for name in "ab":
    os.makedirs(f"pictures/{name}")
    for number in range(3):
        Image.new("L", (8, 8), number).save(f"pictures/{name}/{number}.png")
inspect_folder("pictures", verbose=1)
assert state() == before, "inspect_folder"
multiprocessing.set_start_method("spawn")
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_nothing_is_left_behind(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout.endswith("done\n"), run.stderr
    assert "Resumed at epoch 2 of 3" in run.stdout


class Fails(Callback):
    """An error at a moment of training."""

    def __init__(self, moment, error):
        self.moment, self.error = moment, error

    def initialize(self):
        setattr(self, self.moment, self._fail)
        return self

    def _fail(self, net, **kwargs):
        raise self.error


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("skimbal-reader")]


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for number in range(24):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((8, 8), 10 * number, np.uint8)).save(path)
        paths.append(path)
    return ImageFiles(paths)


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), KeyboardInterrupt()], ids=["error", "Ctrl-C"]
)
@pytest.mark.parametrize("moment", ["on_batch_begin", "on_batch_end", "on_epoch_end"])
def test_readers_end_with_a_fit_that_fails(moment, error, pictures):
    net = {"module__width": 4, "iterator_train__num_workers": 3, "iterator_valid__num_workers": 3}
    y = np.arange(24) % 2
    clf = tiny(callbacks=[Fails(moment, error)], batch_size=4, net=net, train_split=0.5)
    # A callback that interrupts ends the training and no more.
    held = None if isinstance(error, KeyboardInterrupt) else pytest.raises(RuntimeError)
    with held or nullcontext():
        clf.fit(pictures, y)
    assert readers() == []  # although a traceback may hold them


def test_readers_end_with_a_prediction_that_fails(pictures, monkeypatch):
    net = {"module__width": 4, "iterator_valid__num_workers": 3}
    clf = tiny(net=net).fit(pictures, np.arange(24) % 2)
    assert readers() == []
    monkeypatch.setattr(type(clf.net_), "block_size", property(lambda net: 4))

    def fail(*args):
        raise RuntimeError("no")

    clf.net_.module_.network.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError) as held:
        clf.predict(pictures)
    assert readers() == []
    assert held.tb is not None


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_file_stays_open(pictures):
    y = np.arange(24) % 2
    tiny().fit(pictures, y)
    before = sorted(os.listdir("/proc/self/fd"))
    for callbacks in ([], [Fails("on_batch_end", RuntimeError("no"))]):
        clf = tiny(callbacks=callbacks, batch_size=4, train_split=0.5)
        with pytest.raises(RuntimeError) if callbacks else nullcontext():
            clf.fit(pictures, y).predict(pictures)
        assert sorted(os.listdir("/proc/self/fd")) == before
