"""Callbacks of scikit-learn: the tasks that they are told of, and fits that they do not change."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import CallbackSupportMixin, ProgressBar, ScoringMonitor
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback, EpochScoring

from skimbal.callbacks import Resume
from skimbal.exceptions import DivergenceError, ParameterError
from tests.classifiers.data import images, small

X, Y = images()


class Log:
    """Notes each task by its path: its name, and how it ended."""

    max_propagation_depth = None

    def __init__(self, stop_after=None, wants_estimator=False):
        self.begun, self.ended, self.fitted, self.open = [], [], [], 0
        self.stop_after, self.wants_estimator = stop_after, wants_estimator
        self.n_teardowns = 0

    def setup(self, estimator, context):
        self.root = context

    def teardown(self, estimator, context):
        self.n_teardowns += 1

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.begun.append((context.task_name, context.max_subtasks))
        self.open += 1
        self.rows, self.labels, self.metadata = X, y, metadata
        np.random.rand(3)  # noqa: NPY002
        torch.rand(3)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.open -= 1
        self.ended.append((context.task_name, context.task_id))
        self.fitted.append(fitted_estimator)
        torch.rand(3)
        return (context.task_name, context.task_id) == self.stop_after


def names(log):
    return [name for name, _ in log.begun]


def test_epochs_are_tasks_of_the_fit_and_callbacks_change_nothing():
    plain = small(max_epochs=3, train_split=0.25).fit(X, Y)
    log = Log()
    clf = small(max_epochs=3, train_split=0.25).set_callbacks(log).fit(X, Y)
    assert isinstance(clf, CallbackSupportMixin)
    assert log.begun == [("fit", 3), ("epoch", 0), ("epoch", 0), ("epoch", 0)]
    assert log.ended == [("epoch", 0), ("epoch", 1), ("epoch", 2), ("fit", 0)]
    assert (log.open, log.n_teardowns) == (0, 1)
    np.testing.assert_array_equal(clf.predict_proba(X), plain.predict_proba(X))
    assert [row["train_loss"] for row in clf.history_] == [
        row["train_loss"] for row in plain.history_
    ]
    assert not [name for name in vars(clf) if name.startswith(("_callback_fit", "_skl_callbacks_"))]


def test_a_callback_gets_the_rows_that_train():
    log = Log()
    weight = np.linspace(0, 1, len(X))
    small(max_epochs=1, train_split=0.25).set_callbacks(log).fit(X, Y, sample_weight=weight)
    assert len(log.rows) == len(log.labels) == len(log.metadata["sample_weight"]) < len(X)
    assert log.metadata["sample_weight"].min() > 0
    number_of = {image.tobytes(): i for i, image in enumerate(X)}
    numbers = [number_of[image.tobytes()] for image in log.rows]
    assert log.labels.tolist() == Y[numbers].tolist()
    np.testing.assert_array_equal(log.metadata["sample_weight"], weight[numbers])
    small(max_epochs=1).set_callbacks(log).fit(X, Y)
    assert log.rows is X
    assert log.metadata is None


def test_fitted_estimator_is_the_classifier_after_each_epoch():
    asked = Log()
    clf = small(max_epochs=3).set_callbacks(asked).fit(X, Y)
    *after_epochs, last = asked.fitted
    for n_epochs, fitted in enumerate(after_epochs, 1):
        assert fitted.n_epochs_ == n_epochs
        stopped = small(max_epochs=3).set_callbacks(Log(stop_after=("epoch", n_epochs - 1)))
        np.testing.assert_array_equal(fitted.predict_proba(X), stopped.fit(X, Y).predict_proba(X))
    before = clf.predict_proba(X)
    np.testing.assert_array_equal(last.predict_proba(X), before)
    # A copy: to train it trains nothing else.
    pickle.loads(pickle.dumps(last.set_callbacks())).predict(X)
    last.set_callbacks().partial_fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.slow
def test_a_callback_that_holds_what_cannot_be_copied_is_no_hindrance():
    class Handle(Callback):
        def initialize(self):
            self.generator = (number for number in range(3))
            return self

    log = Log()
    small(max_epochs=1, callbacks=[Handle()]).set_callbacks(log).fit(X, Y)
    assert log.fitted[0].predict(X).shape == Y.shape


def test_scoring_monitor_has_a_score_of_every_epoch():
    monitor, seen = ScoringMonitor(scoring="balanced_accuracy"), []

    class Look(Callback):
        def on_epoch_end(self, net, dataset_train=None, **kwargs):
            seen.append(balanced_accuracy_score(Y, watched.predict(X)))

    watched = small(max_epochs=3, callbacks=[Look()]).set_callbacks(monitor)
    watched.fit(X, Y)
    data = monitor.get_logs().data
    assert [row["balanced_accuracy"] for row in data if row["task_name"] == "epoch"] == seen
    assert data[0]["balanced_accuracy"] == seen[-1]


def test_batches_are_tasks_where_they_are_asked_for():
    plain = small(max_epochs=2, batch_size=16).fit(X, Y)
    log = Log()
    clf = small(max_epochs=2, batch_size=16).set_callbacks(log, batches=True)
    assert clone(clf.set_callbacks()).set_callbacks(log).fit(X, Y).n_epochs_ == 2
    n_batches = plain.n_steps_ // 2
    assert log.begun[:3] == [("fit", 2), ("epoch", n_batches), ("batch", 0)]
    assert names(log).count("batch") == plain.n_steps_
    assert all(f is None for f, (n, _) in zip(log.fitted, log.ended, strict=True) if n == "batch")
    clf.set_callbacks(Log(stop_after=("batch", 0))).fit(X, Y)
    assert [row["train_batch_count"] for row in clf.history_] == [1, 1]
    clf = clf.set_callbacks(Log(), batches=True).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), plain.predict_proba(X))
    with pytest.raises(ParameterError, match="batches must be True, False or None; got 3"):
        clf.set_callbacks(batches=3)


def test_a_task_that_is_stopped_broken_off_or_diverges_is_closed():
    log = Log(stop_after=("epoch", 1))
    clf = small(max_epochs=5).set_callbacks(log).fit(X, Y)
    assert (clf.n_epochs_, log.ended[-1], log.open) == (2, ("fit", 0), 0)
    log = Log()
    with pytest.raises(DivergenceError):
        small(max_epochs=3, lr=1e30).set_callbacks(log).fit(X, Y)
    assert (log.open, log.fitted[-1], log.n_teardowns) == (0, None, 1)

    class Break(Callback):
        def on_batch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    class Fail(Log):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            raise RuntimeError("the disk is full")

    log = Log()
    clf = small(max_epochs=3, callbacks=[Break()]).set_callbacks(log, batches=True).fit(X, Y)
    assert log.open == 0
    assert log.ended[-3:] == [("batch", 0), ("epoch", 0), ("fit", 0)]
    log = Fail()
    with pytest.raises(RuntimeError, match="the disk is full") as caught:
        small(max_epochs=3).set_callbacks(log).fit(X, Y)
    assert caught.value.__notes__ == ["A callback failed as well: RuntimeError: the disk is full"]
    assert log.n_teardowns == 1


def test_a_parameter_that_is_refused_leaves_no_task():
    log = Log()
    clf = small(max_epochs=-1).set_callbacks(log)
    with pytest.raises(ParameterError, match="max_epochs"):
        clf.fit(X, Y)
    assert not log.begun
    assert "_callback_fit_ctx" not in vars(clf)


@pytest.mark.slow
def test_partial_fit_and_warm_start_are_fits_of_their_own():
    log = Log()
    clf = small(max_epochs=2, warm_start=True).set_callbacks(log)
    clf.fit(X, Y).fit(X, Y).partial_fit(X, Y)
    assert names(log) == [*["fit", "epoch", "epoch"] * 2, "partial_fit", "epoch"]
    assert log.n_teardowns == 3


@pytest.mark.slow
def test_a_fit_that_goes_on_from_a_file_has_the_tasks_of_all_epochs(tmp_path):
    class Kill(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                raise OSError("killed")

    parameters = {"max_epochs": 4, "random_state": 0}
    with pytest.raises(OSError, match="killed"):
        small(callbacks=[Resume(tmp_path, seconds=0), ("x", Kill())], **parameters).fit(X, Y)
    log = Log()
    Kill.on_epoch_end = Callback.on_epoch_end
    clf = small(callbacks=[Resume(tmp_path, seconds=0), ("x", Kill())], **parameters)
    clf.set_callbacks(log).fit(X, Y)
    assert log.ended == [*(("epoch", i) for i in range(4)), ("fit", 0)]


@pytest.mark.slow
def test_searches_and_pipelines_pass_callbacks_on(capsys):
    pipe = make_pipeline("passthrough", small(max_epochs=2))
    log = Log()
    pipe.set_callbacks(log).fit(X, Y)
    assert names(log).count("epoch") == 2
    search = GridSearchCV(small(max_epochs=2), {"lr": [1e-3, 1e-2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, Y)
    shown = capsys.readouterr().out
    assert shown.count("candidate-split-evaluation |") >= 4
    assert "CNN2DClassifier - fit" in shown


@pytest.mark.slow
def test_clones_in_a_cross_validation_tell_the_callbacks_of_the_classifier():
    monitor = ScoringMonitor(scoring="accuracy")
    cross_validate(small(max_epochs=2).set_callbacks(monitor), X, Y, cv=2)
    runs = monitor.get_logs(select="all")
    assert [len(run.data) for run in runs] == [3, 3]
    search = GridSearchCV(small(max_epochs=2).set_callbacks(monitor), {"lr": [1e-3]}, cv=2)
    data = search.fit(X, Y) and monitor.get_logs().data
    assert [row["task_name"] for row in data].count("epoch") == 6  # two folds, and once more


def test_callbacks_of_other_packages_are_refused_by_name():
    with pytest.raises(TypeError, match="callback of skorch, <"):
        small().set_callbacks(EpochScoring("accuracy"))
    with pytest.raises(ParameterError, match="callbacks of scikit-learn to set_callbacks"):
        small(callbacks=[Log()]).fit(X, Y)
    with pytest.raises(TypeError, match=r"separate arguments.* set_callbacks\(\*callbacks\)"):
        small().set_callbacks([Log()])
    with pytest.raises(TypeError, match="FitCallback"):
        small().set_callbacks(3)


def test_an_older_scikit_learn_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("skimbal.classifiers.following.CallbackSupportMixin", None)
    monkeypatch.setattr("sklearn.__version__", "1.8.0")
    with pytest.raises(ImportError, match=r"scikit-learn 1\.9 or newer; got 1\.8\.0"):
        small().set_callbacks()
