"""Callbacks of the user are live: read after the fit, cloned for searches, copied with the net."""

import copy
import logging
import pickle
import threading

import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler, TensorBoard

from skimbal.classifiers.cloning import find_handle
from skimbal.exceptions import ParameterError
from skimbal.study import compare_losses
from tests.classifiers.data import images, small


class Log(Callback):
    """Records losses, in an attribute that its constructor does not take."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(net.history[-1, "train_loss"])


class Named(Callback):
    """Keeps its parameters as scikit-learn asks."""

    def __init__(self, sink):
        self.sink = sink

    def initialize(self):
        self.count_ = 0
        return self

    def on_epoch_end(self, net, **kwargs):
        self.count_ += 1


class Writer:
    """Does what a SummaryWriter does, and a client of a server: it holds a lock."""

    def __init__(self):
        self.lock, self.scalars = threading.Lock(), []

    def add_scalar(self, tag, scalar_value, global_step):
        with self.lock:
            self.scalars.append((tag, scalar_value, global_step))

    def close(self):
        """Stay open: the callbacks of skorch close a writer after the training."""


class Storage(Writer):
    """Leaves the lock out of its copies, as the storage of Optuna in memory does."""

    def __getstate__(self):
        return {"scalars": list(self.scalars)}


class Trial:
    """Reports to its study, as a trial of Optuna does."""

    def __init__(self, storage):
        self.storage = storage

    def report(self, value, step):
        self.storage.scalars.append((value, step))

    def should_prune(self):
        return False


class Prunes(Callback):
    def __init__(self, trial):
        self._trial = trial

    def on_epoch_end(self, net, **kwargs):
        self._trial.report(net.history[-1, "train_loss"], len(net.history))
        if self._trial.should_prune():
            raise ArithmeticError("pruned")


class PrunesByName(Prunes):
    def __init__(self, trial):
        self.trial = self._trial = trial


class Shared(TensorBoard):
    def __sklearn_clone__(self):
        return self


class MakesWriter(TensorBoard):
    def __init__(self):
        super().__init__(Writer())


def test_instance_runs_and_can_be_read():
    X, y = images()
    log, named = Log(), Named("a")
    clf = small(callbacks=[log, ("named", named)], max_epochs=3).fit(X, y)
    assert log.seen == clf.history_[:, "train_loss"]
    assert dict(clf.net_.callbacks_)["Log"] is log is clf.callbacks[0]
    assert named.count_ == 3
    again = clf.fit(X, y)
    assert log.seen == 2 * again.history_[:, "train_loss"]
    assert named.count_ == 3, "initialize begins anew"
    clf.partial_fit(X, y)
    assert named.count_ == 4


def test_instance_is_shared_as_the_user_says():
    X, y = images()
    log = Log()
    first, second = (small(callbacks=[log, log], max_epochs=1).fit(X, y) for _ in range(2))
    assert len(log.seen) == 4
    assert [name for name, callback in first.net_.callbacks_ if callback is log] == [
        "Log_1",
        "Log_2",
    ]
    one, two = clone(second).callbacks
    assert one is two is not log


def test_writer_and_trial_of_the_user_get_the_values():
    X, y = images()
    writer, storage = Writer(), Storage()
    callbacks = [TensorBoard(writer, close_after_train=False), Prunes(Trial(storage))]
    clf = small(callbacks=callbacks, max_epochs=2).fit(X, y)
    losses = clf.history_[:, "train_loss"]
    assert [value for tag, value, _ in writer.scalars if tag == "Loss/train_loss"] == losses
    assert storage.scalars == [(loss, epoch) for epoch, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(
    "callback",
    [
        Log(),
        Named([1]),
        EarlyStopping("train_loss", patience=2),
        EpochScoring(lambda net, X, y: 1.0, name="one", use_caching=False),
        LRScheduler("StepLR", step_size=1),
        Log,
    ],
    ids=["log", "named", "stopping", "scoring", "schedule", "class"],
)
@pytest.mark.parametrize("name", [None, "own"])
def test_clones_have_callbacks_of_their_own(callback, name):
    X, y = images()
    entry = (name, callback) if name else callback
    before = copy.deepcopy(vars(callback)) if isinstance(callback, Callback) else None
    scores = cross_validate(
        small(callbacks=[entry], max_epochs=1), X, y, cv=2, return_estimator=True
    )
    used = [dict(fitted.net_.callbacks_) for fitted in scores["estimator"]]
    kind = callback if before is None else type(callback)
    one, two = (next(c for c in of_fit.values() if type(c) is kind) for of_fit in used)
    assert one is not two
    assert callback not in (one, two)
    if kind is Log:
        assert len(one.seen) == len(two.seen) == 1
    if before is not None and kind is not EpochScoring:
        assert vars(callback) == before


def test_clone_keeps_other_parameters_and_options_of_the_net():
    log = Log()
    clf = small(net={"optimizer__weight_decay": 0.1, "callbacks__own": log}, lr=0.5)
    other = clone(clf)
    assert (other.lr, other.net["optimizer__weight_decay"]) == (0.5, 0.1)
    assert type(other.net["callbacks__own"]) is Log
    assert other.net["callbacks__own"] is not log
    assert clone(small()).callbacks is None


def test_subclass_without_the_parameter_is_cloned():
    class Fixed(type(small())):
        def __init__(self, lr=0.1):
            super().__init__(lr=lr, callbacks=[Log()], net={})

    other = clone(Fixed(lr=0.2))
    assert other.lr == 0.2
    assert type(other.callbacks[0]) is Log


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        (TensorBoard(Writer()), "TensorBoard cannot be cloned: its writer"),
        (Named(open), None),
        (Named(Storage()), None),
        (Prunes(Trial(Storage())), "Prunes cannot be cloned: its trial would report to a copy"),
        (PrunesByName(Trial(Storage())), "its trial would report to a copy"),
        (MakesWriter(), "MakesWriter cannot be cloned: its writer cannot be copied"),
    ],
    ids=["writer", "function", "copied", "trial", "trial by name", "made"],
)
def test_callback_that_cannot_be_cloned_is_named(callback, reason):
    X, y = images()
    clf = small(callbacks=[("own", callback)], max_epochs=1)
    if reason is None:
        clone(clf)
        return
    searches = [
        lambda: clone(clf),
        lambda: cross_validate(clf, X, y, cv=2),
        lambda: GridSearchCV(make_pipeline(clf), {}, cv=2, n_jobs=2).fit(X, y),
        lambda: compare_losses(X, y, estimator=clf, losses=["ce"], cv=2, verbose=0),
        lambda: compare_losses(
            X, y, losses={"a": {"callbacks": [callback]}}, cv=2, verbose=0, estimator=small()
        ),
    ]
    for search in searches:
        with pytest.raises(ParameterError, match="callbacks must be callbacks that can be") as got:
            search()
        assert reason in str(got.value)
        assert "__sklearn_clone__" in str(got.value)


def test_remedies_of_the_message_work():
    X, y = images()
    writer = Writer()
    clf = small(callbacks=[Shared(writer)], max_epochs=1)
    cross_validate(clf, X, y, cv=2)
    assert sum(tag == "Loss/train_loss" for tag, _, _ in writer.scalars) == 2
    scores = cross_validate(
        clf.set_params(callbacks=[MakesWriter]), X, y, cv=2, return_estimator=True
    )
    for fitted in scores["estimator"]:
        board = dict(fitted.net_.callbacks_)["MakesWriter"]
        assert sum(tag == "Loss/train_loss" for tag, _, _ in board.writer.scalars) == 1


class HasLogger(Callback):
    def __init__(self):
        self.logger = logging.getLogger("skimbal.tests")
        self.meters = {"loss": [1.0, (2, {3})]}
        self.function = max


def test_handles_are_found_in_attributes():
    assert find_handle(HasLogger()) is None
    assert clone(small(callbacks=[HasLogger()])).callbacks[0].logger is HasLogger().logger
    assert find_handle(Prunes(Trial(Storage()))) == "_trial"
    assert find_handle(Named({"a": [threading.Thread()]})) == "sink"
    recursive = Log()
    recursive.seen.append(recursive)
    assert find_handle(recursive) is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda clf: pickle.loads(pickle.dumps(clf))])
@pytest.mark.parametrize("kind", [list, tuple])
def test_copy_and_its_net_share_their_callbacks(copied, kind):
    X, y = images()
    log = Log()
    callbacks = kind([("log", log), LRScheduler("StepLR", step_size=1)])
    clf = small(callbacks=callbacks, max_epochs=2).fit(X, y)
    other = copied(clf)
    assert type(other.callbacks) is kind
    own = dict(other.net_.callbacks_)["log"]
    assert other.callbacks[0][1] is own is not log
    assert own.seen == log.seen
    other.partial_fit(X, y)
    assert (len(own.seen), len(log.seen)) == (3, 2)
    # The optimizer, which the schedule holds, is saved once.
    alone = small(max_epochs=2, lr_schedule=None).fit(X, y)
    assert len(pickle.dumps(clf)) < 1.2 * len(pickle.dumps(alone))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("fitted", [False, True])
def test_callback_that_cannot_be_copied_is_named(copied, fitted):
    X, y = images()
    clf = small(callbacks=[Named(Writer())], max_epochs=1)
    if fitted:
        clf.fit(X, y)
    with pytest.raises(TypeError, match=r"the callback Named .* cannot pickle '_thread.lock'"):
        copied(clf)


def test_callback_may_hold_the_classifier():
    X, y = images()
    log = Log()
    clf = small(callbacks=[log], max_epochs=1)
    log.clf = clf
    other = copy.deepcopy(clf.fit(X, y))
    assert other.callbacks[0].clf.net_ is other.net_
    pickle.dumps(small(callbacks=[log]))
