"""Several processes: the gradient of one process, the same estimator everywhere, errors, no hangs.

A pair of processes runs all cases, and a trio the cases in which the number of parts matters. The
tests compare with one process.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
)
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from skimbal import CollapseWarning, LossMix
from skimbal.callbacks import Resume
from skimbal.losses import TERMS, Term, get_loss
from skimbal.training import Together, join
from skimbal.training.processes import SumOverProcesses
from tests.plain import plain
from tests.resuming import Killed, counted_epochs, killed_after

#: Longest time for what takes some 20 seconds on two cores, in seconds.
TIMEOUT = 120


class Net(nn.Module):
    """A small network with a part that nothing uses."""

    def __init__(self, n_channels, n_classes, batch_norm=False, dropout=0.0):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_channels, 6, 3, padding=1),
            nn.BatchNorm2d(6) if batch_norm else nn.GroupNorm(2, 6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(24, n_classes),
        )
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        return self.body(x)


class Short(Net):
    """A network for which memory lacks in the second process, on the way there and back."""

    def __init__(self, *args):
        super().__init__(*args)
        self.n_failed = 0

    def forward(self, x):
        logits = super().forward(x)
        if self.training and dist.is_initialized() and dist.get_rank() == 1:
            self.fail_above(4, len(x))
            if logits.requires_grad:
                logits.register_hook(lambda gradient: self.fail_above(2, len(gradient)))
        return logits

    def fail_above(self, most, n_rows):
        if n_rows > most:
            self.n_failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")


class MeanLoss(nn.Module):
    mean_over_rows = True

    def forward(self, logits, target):
        return cross_entropy(logits, target)


class SumLoss(nn.Module):
    def forward(self, logits, target):
        return cross_entropy(logits, target, reduction="sum")


class WeightedMeanLoss(MeanLoss):
    def forward(self, logits, target, sample_weight):
        return (cross_entropy(logits, target, reduction="none") * sample_weight).mean()


class FirstGradient(Callback):
    def on_train_begin(self, net, **kwargs):
        self.gradient = None

    def on_grad_computed(self, net, named_parameters=None, **kwargs):
        if self.gradient is None:
            named = net.module_.named_parameters()
            self.gradient = np.concatenate(
                [p.grad.flatten().numpy() for _, p in named if p.grad is not None]
            )


class Seeds(Callback):
    """Notes the seed that the network draws from."""

    def on_epoch_end(self, net, **kwargs):
        self.seed = torch.initial_seed()


class Interrupts(Callback):
    """Ends the training in the first process."""

    def __init__(self, event):
        setattr(self, event, self.end)

    def end(self, *args, **kwargs):
        if dist.get_rank() == 0:
            raise KeyboardInterrupt


class Fails:
    """A callback of scikit-learn that fails when it is told of a task."""

    max_propagation_depth = None

    def __init__(self, at):
        self.at = at

    def fail(self, *told):
        if self.at == " ".join(told):
            raise ArithmeticError(f"the disk is full at {self.at}")

    def setup(self, estimator, context):
        self.fail("setup")

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.fail("begin", context.task_name)

    def on_fit_task_end(self, estimator, context):
        self.fail("end", context.task_name)


class Dies(Callback):
    """Ends one process in its second epoch."""

    def __init__(self, rank, by):
        self.rank, self.by = rank, by

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2 and dist.get_rank() == self.rank:
            if self.by == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ArithmeticError("this process is to die")


STOPS = [
    ("score", EpochScoring("balanced_accuracy", lower_is_better=False)),
    ("train", EpochScoring("accuracy", lower_is_better=False, on_train=True, name="train_acc")),
    ("stop", EarlyStopping(monitor="valid_loss", patience=1, threshold=0.2)),
]
#: What a case asks for; "weighted" and "grouped" are for fit.
CASES = {
    "ce+mcc": {},
    "all terms, weights, balanced": {
        "loss": "wce + 0.5*focal + f1 + mcc + la + 0.5*ldam",
        "sampler": "balanced",
        "class_weight": "balanced",
        "weighted": True,
    },
    "stratified, smoothed": {
        "loss": LossMix(ce=1, f1=1, label_smoothing=0.1),
        "sampler": "stratified",
        "batch_size": 7,
    },
    "two passes, weights": {"loss": "ce+mcc+f1", "micro_batch_size": 3, "weighted": True},
    "one pass, weights": {"loss": "ce+focal+la+ldam", "micro_batch_size": 3, "weighted": True},
    "moving, warm-up": {
        "loss": LossMix(mcc=1, statistics="moving", horizon=40, warmup_epochs=2),
        "batch_size": 5,
    },
    "empty parts": {"batch_size": 3, "weighted": True},
    "clipped": {"callbacks": [("clip", GradientNormClipping(0.05))]},
    "early stopping": {"train_split": 0.3, "callbacks": STOPS, "weighted": True, "max_epochs": 8},
    "validation by group": {"train_split": 0.3, "grouped": True, "weighted": True},
    "loss of a user": {"loss": MeanLoss, "micro_batch_size": 4},
    "weight decay": {"optimizer": "adamw", "net": {"optimizer__weight_decay": 0.3}},
    "lbfgs": {"optimizer": "lbfgs", "lr": 0.1, "max_epochs": 1},
    "memory, two passes": {"module": Short, "micro_batch_size": "auto"},
    "memory, one pass": {"module": Short, "micro_batch_size": "auto", "loss": "ce+focal"},
    "resnet": {"module": "resnet18", "net": {"module__width": 4}, "max_epochs": 1},
}
#: The first gradient of these knows the whole batch, so that local losses give another one.
OF_SETS = ["ce+mcc", "all terms, weights, balanced", "stratified, smoothed", "moving, warm-up"]
OF_SETS += ["two passes, weights", "empty parts", "early stopping", "resnet"]
#: What several processes do differently from one, but all of them alike.
ALIKE = {
    "dropout": {"module": partial(Net, dropout=0.5), "random_state": None},
    "float16": {"dtype": "float16"},
    "batch normalisation": {"module": partial(Net, batch_norm=True), "train_split": 0.3},
}
#: Cases in which a third process may do something else.
OF_PARTS = [name for name in OF_SETS if name != "resnet"]
OF_PARTS += [
    "memory, two passes",
    "memory, one pass",
    "one pass, weights",
    "loss of a user",
    "batch normalisation",
]
#: Cases that go on from the file of the first process.
RESUMED = {
    "moving, warm-up": CASES["moving, warm-up"],
    "validation": {**ALIKE["batch normalisation"], "micro_batch_size": 4},
    "dropout": {"module": partial(Net, dropout=0.5)},
    "float16, augmented": {"dtype": "float16", "augment": "flip"},
}
#: Where a callback of scikit-learn fails, in the first process.
FAILURES = ["setup"]
FAILURES += [f"{at} {task}" for at in ("begin", "end") for task in ("fit", "epoch", "batch")]
#: Number of processes, number of epochs and cases of each run.
RUNS = {
    "pair": (2, 2, [*CASES, *ALIKE]),
    "trio": (3, 2, OF_PARTS),
    "long pair": (2, 3, [*CASES, *ALIKE]),
    "long trio": (3, 3, [*CASES, *ALIKE]),
}
SHORT = ["pair", "trio"]
LONG = ["long pair", "long trio"]


def runs_and_cases(cases):
    """Return parameters of a test: each run with each of its cases."""
    return [
        pytest.param(run, name, marks=pytest.mark.slow)
        for run, (*_, names) in RUNS.items()
        for name in names
        if name in cases
    ]


RUNS_OF_TESTS = [pytest.param(run, marks=pytest.mark.slow) for run in RUNS]


def draw():
    rng = np.random.default_rng(0)
    y = rng.permutation([0] * 35 + [1] * 12 + [2] * 6)
    X = rng.normal(size=(len(y), 8, 8))
    X[y == 1] += 0.5
    X[y == 2, :4] += 1
    return X, y, rng.uniform(0.2, 3, size=len(y))


def fit(options, *more_callbacks, **more):
    X, y, weight = draw()
    options = {"module": Net, "max_epochs": 2, "batch_size": 16, "random_state": 0, **options}
    weight = weight if options.pop("weighted", False) else None
    groups = np.arange(len(y)) // 2 if options.pop("grouped", False) else None
    callbacks = [*more_callbacks, *options.pop("callbacks", [])]
    clf = plain(callbacks=callbacks, distributed=True, **{**options, **more})
    return clf.fit(X, y, weight, groups)


def first_gradient(options):
    # Without a warm-up, which begins with a loss that is a mean over rows.
    loss = clone(options.get("loss", "ce+mcc"), safe=False)
    if isinstance(loss, LossMix):
        loss.set_params(warmup_epochs=0)
    clf = fit({**options, "loss": loss}, ("first", FirstGradient()), max_epochs=1)
    return dict(clf.net_.callbacks_)["first"].gradient


def weights_of(clf):
    return np.concatenate([v.numpy().ravel() for v in clf.net_.module_.state_dict().values()])


def results_of(clf):
    """Return what is to be the same, as arrays."""
    # Only the last epoch has the number of predicted classes.
    of_last = {"predicted_class_count", "constant_batch_count"}
    names = sorted({*clf.history_[0], *of_last} - {"batches", "dur", "micro_batch_size"})
    history = [[epoch.get(name, -1) for name in names] for epoch in clf.history_]
    batches = [
        (batch[name], batch["train_batch_size"])
        for epoch in clf.history_
        for batch in epoch["batches"]
        for name in ("train_loss",)
        if name in batch
    ]
    return {
        "weights": weights_of(clf),
        "history": np.array(history, dtype=float),
        "batches": np.array(batches),
        "proba": clf.predict_proba(draw()[0]),
        "features": clf.transform(draw()[0]),
    }


def local_share(net, logits, labels, weight, n_rows, training):
    """Compute what plain data parallelism averages: the losses of the parts."""
    if len(labels) == 0:
        return logits.sum()
    return net.criterion_(logits, labels, sample_weight=weight, normalizer=len(labels))


def draw_logits():
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(size=(9, 3)))
    return logits, torch.tensor([0, 0, 1, 2, 0, 1, 0, 0, 1]), torch.from_numpy(rng.uniform(size=9))


LOSSES = ["ce", "ce+mcc", "ce+wce+f1", "la+ldam", "balanced_softmax+mcc", "moving", "ce+recall"]


def recall(tp, predicted, true):
    return (tp / (true + (true == 0))).mean()


def loss_gradients(rows, sum_over_parts=None):
    """Compute losses and gradients of some rows, without and with weights that are learnt."""
    logits, target, weight = draw_logits()
    found = []
    for name in LOSSES:
        moving = LossMix(ce=1, mcc=1, statistics="moving", horizon=9)
        with mock.patch.dict(TERMS, recall=Term(score=recall)):
            loss = get_loss(moving if name == "moving" else name, class_counts=[5, 3, 1])
        for is_weighted, is_learnt in [(False, False), (True, False), (True, True)]:
            z = logits[rows].clone().requires_grad_()
            w = weight[rows].clone().requires_grad_(is_learnt) if is_weighted else None
            value = loss(z, target[rows], w, sum_over_parts=sum_over_parts)
            value.backward()
            found.append([value.detach(), z.grad, w.grad if is_learnt else None])
    return found


def work(folder, rank, world, n_epochs, names):
    """Run cases in one of several processes."""
    warnings.simplefilter("ignore", CollapseWarning)
    # Fits of a few steps may predict one class.
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "A training step ran out of memory")
    torch.set_num_threads(1)
    folder, sums = Path(folder), {}
    for name in names:
        options = {"max_epochs": n_epochs, **(CASES | ALIKE)[name]}
        clf = fit(options)
        for key, value in results_of(clf).items():
            sums[f"{name}/{key}"] = value
        if name in CASES:
            sums[f"{name}/gradient"] = first_gradient(options)
        if name in OF_SETS:
            with mock.patch("skimbal.training.gradient.share_of_loss", local_share):
                sums[f"{name}/local"] = first_gradient(options)
        back = pickle.loads(pickle.dumps(clf))
        assert np.array_equal(back.predict_proba(draw()[0]), sums[f"{name}/proba"])
    clf = fit({"max_epochs": n_epochs, **CASES["ce+mcc"]})
    (folder / f"estimator{rank}.pickle").write_bytes(pickle.dumps(clf))

    # The processes are a pair or a trio, of which the last has no row here.
    parts = [slice(0, 5), slice(5, 9), slice(9, 9)]
    found = loss_gradients(parts[rank], SumOverProcesses(world))
    for i, (value, gradient, of_weight) in enumerate(found):
        sums[f"loss {i}/value"] = value / world
        sums[f"loss {i}/gradient"] = gradient / world
        if of_weight is not None:
            sums[f"loss {i}/of_weight"] = of_weight / world

    for name in ("ce+mcc", "ce+focal"):
        with mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as spy:
            fit({"max_epochs": 1, "loss": name})
        sums[f"sent for {name}"] = [call.args[0].numel() for call in spy.call_args_list]

    # Only the first process writes and prints, and all have what its checkpoint has loaded.
    is_best = iter([True, False, False, True])  # the first epoch, and then that of partial_fit
    best = Checkpoint(
        dirname=folder / f"best{rank}", monitor=lambda net: next(is_best), load_best=True
    )
    print("== from here")
    clf = fit({"verbose": 2, "max_epochs": 3}, best)
    sums["n_epochs"], sums["loaded"] = clf.n_epochs_, weights_of(clf)
    X, y, _ = draw()
    clf.partial_fit(X, y)
    print("== to here")
    sums["n_epochs_again"], sums["again"] = clf.n_epochs_, weights_of(clf)
    sums["n_files"] = len(list((folder / f"best{rank}").iterdir()))

    sums["seed"] = dict(fit({}, ("seeds", Seeds())).net_.callbacks_)["seeds"].seed
    for event in ("on_epoch_end", "on_batch_end", "on_grad_computed"):
        interrupted = fit({"max_epochs": 3}, Interrupts(event))
        sums[f"epochs of {event}"] = interrupted.n_epochs_
        sums[f"steps of {event}"] = interrupted.n_steps_

    for name in RESUMED:
        options = {**RESUMED[name], "max_epochs": 3}
        resume = Resume(folder / "runs", seconds=0)
        sums[f"{name}/whole"] = weights_of(fit(options))
        with killed_after(2), pytest.raises(Killed):
            fit(options, resume)
        sums[f"{name}/files"] = len(list((folder / "runs").iterdir())) if rank == 0 else 1
        with counted_epochs() as epochs:
            sums[f"{name}/resumed"] = weights_of(fit(options, resume))
        sums[f"{name}/epochs"] = len(epochs)
    sums["files left"] = len(list((folder / "runs").iterdir())) if rank == 0 else 0

    clf = plain(module=Net, sampler="balanced", distributed=True)
    with pytest.raises(ValueError, match="same in all processes") as caught:
        clf.fit(X + (rank == 1), y)
    messages = {"data": str(caught.value)}
    with pytest.raises(ValueError, match="rarest class") as caught:
        clf.fit(X[:21], [0] * 20 + [1])
    messages["rare"] = str(caught.value)
    for at in FAILURES:
        clf = plain(module=Net, max_epochs=2, batch_size=16, random_state=0, distributed=True)
        try:
            clf.set_callbacks(Fails(at), batches=True).fit(X, y)
        except Exception as error:
            messages[at] = f"{type(error).__name__}: {error}"
    np.savez(folder / f"arrays{rank}.npz", **sums)

    start = time.monotonic()
    try:
        fit({}, Dies(world - 1, "kill" if world == 3 else "raise"))
    except RuntimeError as error:
        messages["death"] = f"{time.monotonic() - start:.1f} s: {type(error).__name__}: {error}"
    (folder / f"messages{rank}.json").write_text(json.dumps(messages))


def start(folder, port, runs):
    """Start the processes of each run in turn. Fork, so that one import serves all."""
    importlib.import_module("torch._dynamo")  # what the first optimizer imports
    # From Python 3.12 on, for threads that other libraries have.
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    for run in runs:
        world, n_epochs, names = RUNS[run]
        own_folder = Path(folder, run)
        own_folder.mkdir()
        children = []
        for rank in range(world):
            children.append(os.fork())
            if children[-1] == 0:
                output = os.open(own_folder / f"output{rank}.txt", os.O_WRONLY | os.O_CREAT)
                os.dup2(output, 1)
                os.dup2(output, 2)
                if world == 3:  # a group of the user
                    dist.init_process_group(
                        "gloo",
                        init_method=f"file://{own_folder}/meeting",
                        rank=rank,
                        world_size=world,
                    )
                launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}
                launched |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in launched.items()})
                work(own_folder, rank, world, n_epochs, names)
                return
        for child in children:
            os.waitpid(child, 0)


class Processes:
    """What some processes have written: ``arrays``, ``messages`` and ``output`` of each."""

    def __init__(self, folder, world, n_epochs):
        self.world, self.n_epochs = world, n_epochs
        self.output = [(folder / f"output{rank}.txt").read_text() for rank in range(world)]
        try:
            self.arrays = [dict(np.load(folder / f"arrays{rank}.npz")) for rank in range(world)]
            # The last one died before it could write any.
            self.messages = [
                json.loads((folder / f"messages{rank}.json").read_text())
                for rank in range(world - 1)
            ]
        except OSError as error:
            error.add_note("\n".join(self.output))
            raise
        self.estimator = (folder / f"estimator{world - 1}.pickle").read_bytes()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a function that runs all cases of a run, and returns where the results are.

    The short runs start together, and so do the long ones. How a process ended is not looked at.
    """
    folder = tmp_path_factory.mktemp("processes")

    def folder_of(run):
        if (folder / run).exists():
            return folder / run
        runs = SHORT if run in SHORT else LONG
        arguments = f"{str(folder)!r}, {free_port()}, {runs}"
        command = f"from tests.training import test_processes; test_processes.start({arguments})"
        running = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", command],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        # After a hang the results are missing, and the error says what was printed.
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        return folder / run

    return folder_of


@pytest.fixture(scope="module", params=RUNS_OF_TESTS)
def processes(request, folder):
    world, n_epochs, _ = RUNS[request.param]
    return Processes(folder(request.param), world, n_epochs)


@pytest.fixture(scope="module")
def alone():
    """Return what one process finds for a case in some epochs, which it computes once."""
    found = {}

    def results(name, n_epochs):
        if (name, n_epochs) not in found:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CollapseWarning)
                result = results_of(fit({"max_epochs": n_epochs, **CASES[name]}))
                result["gradient"] = first_gradient(CASES[name])
            found[name, n_epochs] = result
        return found[name, n_epochs]

    return results


def error(found, expected):
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(("processes", "name"), runs_and_cases(CASES), indirect=["processes"])
def test_processes_train_as_one(name, processes, alone):
    expected = alone(name, processes.n_epochs)
    for arrays in processes.arrays:
        gradient = error(arrays[f"{name}/gradient"], expected["gradient"])
        beside = ""
        if name in OF_SETS:
            local = error(arrays[f"{name}/local"], expected["gradient"])
            beside = f", that of local losses {local:.1e}"
            assert local > 1e-3
        print(f"{processes.world} processes, {name}: error of the gradient {gradient:.1e}{beside}")
        assert gradient < 1e-12
        for key in ("weights", "history", "batches", "proba"):
            assert error(arrays[f"{name}/{key}"], expected[key]) < 1e-9, key


@pytest.mark.parametrize(
    ("processes", "name"), runs_and_cases(CASES | ALIKE), indirect=["processes"]
)
def test_all_processes_have_the_same_estimator(name, processes):
    first, *others = processes.arrays
    for arrays in others:
        for key in ("weights", "history", "batches", "proba"):
            assert np.array_equal(arrays[f"{name}/{key}"], first[f"{name}/{key}"]), key


def test_networks_draw_other_numbers_in_each_process(processes):
    assert len({int(arrays["seed"]) for arrays in processes.arrays}) == processes.world


def test_early_stopping_ends_all(processes, alone):
    n_epochs = len(alone("early stopping", processes.n_epochs)["history"])
    assert 1 < n_epochs < CASES["early stopping"]["max_epochs"]
    assert all(len(a["early stopping/history"]) == n_epochs for a in processes.arrays)


def test_estimator_pickles_without_the_processes(processes, alone):
    assert not dist.is_initialized()
    clf = pickle.loads(processes.estimator)
    expected = alone("ce+mcc", processes.n_epochs)
    assert error(clf.predict_proba(draw()[0]), expected["proba"]) < 1e-9
    X, y, _ = draw()
    assert clf.partial_fit(X, y).n_epochs_ == processes.n_epochs + 1


def test_losses_outside_of_the_classifiers(processes):
    """In a training loop of a user, whose gradients are averaged over the processes."""
    for i, (value, gradient, of_weight) in enumerate(loss_gradients(slice(None))):
        parts = [
            {key: arrays.get(f"loss {i}/{key}") for key in ("value", "gradient", "of_weight")}
            for arrays in processes.arrays
        ]
        assert sum(part["value"] for part in parts) == pytest.approx(value.item(), rel=1e-12)
        joined = np.concatenate([part["gradient"] for part in parts])
        assert error(joined, gradient.numpy()) < 1e-12
        if of_weight is not None:
            joined = np.concatenate([part["of_weight"] for part in parts])
            assert error(joined, of_weight.numpy()) < 1e-12


def test_a_batch_costs_two_messages(processes):
    sizes = [p.numel() for p in Net(1, 3).parameters()]
    # With them go a number for each that says whether it is used, and the loss.
    gradients, n_batches, n_classes = sum(sizes) + len(sizes) + 1, 4, 3
    for arrays in processes.arrays:
        for name, of_batch in [
            ("ce+mcc", [3 * n_classes, gradients]),
            ("ce+focal", [gradients]),
        ]:
            sent = arrays[f"sent for {name}"]
            # Beside them a number before the epoch and two after it, and its predictions: which
            # classes they are, and three numbers for each batch.
            predictions = n_classes + 3 * n_batches
            assert sent.tolist() == [1, *of_batch * n_batches, predictions, 1, 1], name


def test_first_process_writes_for_all(processes):
    for rank, (arrays, output) in enumerate(zip(processes.arrays, processes.output, strict=True)):
        printed = output.partition("== from here")[2].partition("== to here")[0]
        assert bool(printed.strip()) == (rank == 0)
        assert bool(arrays["n_files"]) == (rank == 0)


def test_a_checkpoint_of_the_first_process_is_loaded_in_all(processes):
    first = processes.arrays[0]
    assert first["n_epochs"] == 1
    assert first["n_epochs_again"] == 2
    for arrays in processes.arrays[1:]:
        for key in ("n_epochs", "loaded", "n_epochs_again", "again"):
            assert np.array_equal(arrays[key], first[key]), key
    assert not np.array_equal(first["again"], first["loaded"])


@pytest.mark.parametrize("name", RESUMED)
def test_a_fit_goes_on_in_all(processes, name):
    for arrays in processes.arrays:
        assert arrays[f"{name}/files"] == 1
        assert arrays[f"{name}/epochs"] == 1
        assert (arrays[f"{name}/resumed"] == arrays[f"{name}/whole"]).all()
        assert arrays["files left"] == 0


@pytest.mark.parametrize("event", ["on_epoch_end", "on_batch_end", "on_grad_computed"])
def test_a_callback_of_one_process_ends_all(processes, event):
    (steps,) = {int(arrays[f"steps of {event}"]) for arrays in processes.arrays}
    assert steps > 1, "The epoch ends, as the other processes wait for its gradients."
    assert [arrays[f"epochs of {event}"] for arrays in processes.arrays] == [1] * processes.world


def test_bad_input_is_refused_in_all(processes):
    for messages in processes.messages:
        assert "rows, labels, weights" in messages["data"]
        needed = f"a training row for each of the {processes.world} processes"
        assert f"{needed} with sampler='balanced'; got 1" in messages["rare"]


@pytest.mark.parametrize("at", FAILURES)
def test_an_error_of_a_callback_of_scikit_learn_is_raised_in_all(processes, at):
    first, *others = (messages[at] for messages in processes.messages)
    assert first == f"ArithmeticError: the disk is full at {at}"
    assert others == [
        "RuntimeError: A callback of scikit-learn failed in the first process, so all processes "
        f"end: {first}"
    ] * (processes.world - 2)  # the last one writes no messages


def test_death_of_a_process_ends_the_others(processes):
    # By a signal in the trio, by an exception in the pair.
    for messages in processes.messages:
        seconds, name, *_ = messages["death"].split(": ")
        print(messages["death"])
        assert float(seconds.removesuffix(" s")) < 10
        assert name in ("RuntimeError", "DistBackendError", "DistNetworkError")


def test_own_rows_are_all_rows_and_none_is_alone(monkeypatch):
    for world in range(1, 6):
        monkeypatch.setattr(dist, "get_world_size", lambda world=world: world)
        for n_rows in range(1, 20):
            parts = []
            for rank in range(world):
                monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
                parts.append(np.arange(n_rows)[Together("cpu").own_rows(n_rows)])
            assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n_rows))
            assert n_rows == 1 or all(len(part) != 1 for part in parts)
            if n_rows >= 2 * world:
                assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_script_that_runs_alone_trains_alone():
    X, y, weight = draw()
    clf = plain(module=Net, max_epochs=2, random_state=0).fit(X, y, weight)
    other = plain(module=Net, max_epochs=2, random_state=0, distributed=True)
    assert np.array_equal(clf.predict_proba(X), other.fit(X, y, weight).predict_proba(X))
    assert not dist.is_initialized()


def test_accelerate_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    X, y, _ = draw()
    with pytest.raises(ImportError, match=r'pip install "accelerate.* "\.\[distributed\]"'):
        plain(distributed=True).fit(X, y)


def test_workers_of_a_search_do_not_train_together(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "another")
    X, y, _ = draw()
    with pytest.raises(RuntimeError, match="n_jobs=None"):
        plain(distributed=True).fit(X, y)


def test_a_group_for_another_device(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    X, y, _ = draw()
    with pytest.raises(ValueError, match=r"device must .*nccl; got 'cpu'"):
        plain(distributed=True).fit(X, y)


def test_more_processes_than_cuda_devices(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="process 2 of this machine needs a CUDA device"):
        join("cuda")


def test_a_launch_that_starts_no_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", lambda **kwargs: None)
    X, y, _ = draw()
    with pytest.raises(RuntimeError, match="started no process group"):
        plain(distributed=True).fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distributed": "yes"}, "distributed must be .* got 'yes'"),
        (
            {"net": {"iterator_train": DataLoader}},
            r"distributed must be .*net\['iterator_train'\]; got True",
        ),
        (
            {"net": {"iterator_valid": DataLoader}},
            r"distributed must be .*net\['iterator_valid'\]; got True",
        ),
        ({"loss": SumLoss}, "loss must .*got SumLoss.* mean_over_rows = True"),
        ({"loss": WeightedMeanLoss, "class_weight": "balanced"}, "weights .* got WeightedMeanLoss"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(options, message):
    X, y, _ = draw()
    with pytest.raises(ValueError, match=message):
        plain(**{"distributed": True, **options}).fit(X, y)


SCRIPT = """
import numpy as np
from sklearn.model_selection import GridSearchCV
from skimbal import CNN2DClassifier
from skimbal.datasets import load_imbalanced_digits
data = load_imbalanced_digits()
clf = CNN2DClassifier(max_epochs=1, random_state=None, augment=None, distributed=True)
search = GridSearchCV(clf, {"lr": [1e-3, 1e-2]}, cv=2).fit(data.X_train[::4], data.y_train[::4])
print(f"sum {float(np.square(search.predict_proba(data.X_test)).sum())!r}\\n", end="", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
        # The switch is about how to launch: there is no GPU that the script would use.
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
    ],
    ids=["torchrun", "accelerate"],
)
def test_launch_lines(launcher, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    if launcher[0].startswith("accelerate"):
        launcher = [*launcher, "--main_process_port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    sums = [line for line in done.stdout.splitlines() if line.startswith("sum ")]
    assert len(sums) == 2, done.stdout + done.stderr
    assert sums[0] == sums[1]
