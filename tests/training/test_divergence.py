"""Tests of trainings in which a number stops being finite, by way of the classifiers."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from skimbal import LossMix
from skimbal.exceptions import DivergenceError
from skimbal.losses import TERMS
from skimbal.training.divergence import EpochWatch, not_finite, trace_of
from tests.plain import plain


def draw(n=48, n_classes=3, dtype=np.float32):
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    return (rng.normal(size=(n, 6, 6)) + y[:, None, None]).astype(dtype), y


def quick(**params):
    options = {"max_epochs": 3, "batch_size": 16, "random_state": 0, "net": {"module__width": 4}}
    return plain(**{**options, **params})


class Steps(Callback):
    """Follow single batches, for which skorch's own loop trains."""

    def on_batch_end(self, net, training=False, **kwargs):
        pass


#: Ways to train, each with its own code.
WAYS = {
    "lean": {},
    "skorch": {"callbacks": [Steps()]},
    "micro-batches": {"micro_batch_size": 5},
    "two passes": {"micro_batch_size": 5, "loss": "mcc"},
    "lbfgs": {"optimizer": "lbfgs"},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
}
way = pytest.mark.parametrize("params", WAYS.values(), ids=WAYS)


class Linear(nn.Module):
    """A network in which something stops being finite at a step, which a subclass says."""

    bad_step = 5  # in the second epoch of three batches

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.layer = nn.Linear(36 * in_channels, n_classes)
        self.register_buffer("statistics", torch.zeros(n_classes))
        self.register_buffer("mask", torch.full((3,), -math.inf))
        self.step = 0

    def forward(self, x):
        self.step += self.training
        return self.pass_on(self.layer(x.flatten(1)), self.training and self.step == self.bad_step)

    def pass_on(self, logits, is_bad):
        return logits * math.nan if is_bad else logits


class Sound(Linear):
    bad_step = 0


class InfiniteLogits(Linear):
    def pass_on(self, logits, is_bad):
        if is_bad:
            logits = logits.clone()
            logits.data[0, 0] = -math.inf  # which is a probability of 0
        return logits


class NaNStatistics(Linear):
    """Statistics that only a prediction uses."""

    def pass_on(self, logits, is_bad):
        if self.training and self.step >= self.bad_step:  # as a second pass sets buffers back
            self.statistics[1] = math.nan
        return logits if self.training else logits + self.statistics


class _NaNGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.nan


class NaNGradient(Linear):
    bad_step = 6  # the last step of an epoch, so that no loss shows it

    def pass_on(self, logits, is_bad):
        return _NaNGradient.apply(logits) if is_bad else logits


class OwnLoss(nn.Module):
    """A loss that looks at finite numbers only, so that it hides all others."""

    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits.nan_to_num(0, 0, 0), target)


class LossOnce(nn.Module):
    """A loss that is infinite in one batch, with a gradient that is finite."""

    def __init__(self):
        super().__init__()
        self.n_calls = 0

    def forward(self, logits, target):
        self.n_calls += self.training
        loss = nn.functional.cross_entropy(logits, target)
        return loss + math.inf if self.n_calls == 5 else loss


def test_logits_of_every_batch_are_looked_at():
    # More batches than are looked at together.
    module = type("Late", (InfiniteLogits,), {"bad_step": 100})
    clf = quick(module=module, loss=OwnLoss, net={}, max_epochs=1, batch_size=1, lr=1e-3)
    with pytest.raises(DivergenceError, match="logits of the network"):
        clf.fit(*draw(n=300))


class LossInFourth(LossOnce):
    def forward(self, logits, target):
        self.n_calls += self.training
        loss = nn.functional.cross_entropy(logits, target)
        return loss + math.inf if self.n_calls == 4 else loss


def test_the_first_batch_of_a_later_epoch_may_be_due_to_the_rate():
    with pytest.raises(DivergenceError, match=r"epoch 2 .*in batch 1\..*Lower lr"):
        quick(module=Sound, loss=LossInFourth, net={}).fit(*draw())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_traces_tell_finite_numbers_from_others(value):
    largest = torch.finfo(torch.float32).max
    x = torch.full((5, 2, 3), largest)
    assert not_finite(x) == 0
    assert trace_of(x).tolist() == [0] * 5
    x[2, 1, 1] = value
    assert not_finite(x).isnan()
    assert trace_of(x).isnan().tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("loss", [*TERMS, "ce+mcc", LossMix(mcc=1, statistics="moving")], ids=str)
def test_every_loss_diverges_by_name(loss, optimizer):
    clf = quick(loss=loss, optimizer=optimizer, lr=1e30)
    with pytest.raises(DivergenceError, match=r"epoch 1 .*lr=1e\+30.*Lower lr, clip") as caught:
        clf.fit(*draw())
    error = caught.value
    assert (error.epoch, error.lr) == (1, 1e30)
    assert error.loss == clf.net_.criterion_.name
    assert error.history is clf.history_


@way
def test_every_way_to_train_diverges(params):
    with pytest.raises(DivergenceError, match="epoch 1"):
        quick(**{"lr": 1e30, **params}).fit(*draw())


@way
@pytest.mark.parametrize("module", [Linear, InfiniteLogits, NaNStatistics, NaNGradient])
def test_numbers_that_stop_being_finite_midway(module, params):
    several = "micro_batch_size" in params or "optimizer" in params  # forward passes in a step
    if several:
        module = type(module.__name__, (module,), {"bad_step": 6 * module.bad_step})
    params = {"loss": "ce", "max_epochs": 9, "lr": 1e-3, **params, "module": module, "net": {}}
    clf = quick(**params)
    if module is NaNGradient and clf.dtype == "float16":
        clf.fit(*draw())  # the scaler skips the step
        assert clf.history_[1, "skipped_step_count"] == 1
        return
    with pytest.raises(DivergenceError) as caught:
        clf.fit(*draw())
    assert several or caught.value.epoch == 2
    assert len(clf.history_) == caught.value.epoch
    assert "train_loss" in clf.history_[-1]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"module": InfiniteLogits, "loss": OwnLoss}, "logits of the network are not finite"),
        ({"module": NaNStatistics}, "network.statistics of the network hold NaN"),
        ({"module": NaNGradient}, "network.layer.weight and 1 more of the network hold NaN"),
        ({"module": Sound, "loss": LossOnce}, "the training loss was inf in batch 2"),
    ],
)
def test_the_number_is_named(params, message):
    with pytest.raises(DivergenceError, match=f"epoch 2 .*{message}"):
        quick(**{"loss": "ce", **params, "net": {}}).fit(*draw())


def test_infinities_of_a_mask_are_as_they_should_be():
    clf = quick(module=Sound, net={})
    assert np.isfinite(clf.fit(*draw()).predict_proba(draw()[0])).all()


def test_the_first_batch_is_not_due_to_the_rate():
    class Overflow(nn.Module):
        def forward(self, logits, target):
            return nn.functional.cross_entropy(logits, target) * 1e38 * 10

    with pytest.raises(
        DivergenceError, match=r"first batch, before any step\. lr is not the cause"
    ):
        quick(loss=Overflow).fit(*draw())


def test_state_of_the_optimizer_is_looked_at_in_the_end():
    class Huge(nn.Module):
        """A loss whose gradients have squares that overflow, so that Adam stands still."""

        def forward(self, logits, target):
            return nn.functional.cross_entropy(logits, target) * 1e25

    with pytest.raises(DivergenceError, match="exp_avg_sq of the optimizer"):
        quick(loss=Huge).fit(*draw())


def test_validation_rows_count():
    X, y = draw()
    clf = quick(train_split=PredefinedSplit(np.where(np.arange(len(y)) < 12, 0, -1)), loss="ce")
    X[3] = 3e38
    with pytest.raises(DivergenceError, match="logits of validation rows are not finite"):
        clf.fit(X, y)


class BadOutside(nn.Module):
    """A loss that is not finite for validation rows."""

    def forward(self, logits, target):
        loss = nn.functional.cross_entropy(logits, target)
        return loss if self.training else loss + math.inf


def test_validation_loss_counts():
    with pytest.raises(DivergenceError, match=r"epoch 1 .*the validation loss was inf"):
        quick(train_split=0.25, loss=BadOutside).fit(*draw())


# After the error -----------------------------------------------------------------------------


def test_early_stopping_is_not_asked():
    stops = EarlyStopping("train_loss", patience=1, sink=lambda text: None)
    with pytest.raises(DivergenceError):
        quick(lr=1e30, callbacks=[stops]).fit(*draw())


def test_the_error_arrives_from_another_process():
    with pytest.raises(DivergenceError) as caught:
        quick(lr=1e30).fit(*draw())
    error = caught.value
    error.add_note("of this candidate")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(other), other.epoch, other.lr) == (str(error), 1, 1e30)
        assert other.__notes__ == ["of this candidate"]
        assert math.isnan(other.history[-1]["train_loss"])
        assert math.isnan(other.history[-1, "batches", -1, "train_loss"])
    error.history.record("own", lambda: 0)
    other = pickle.loads(pickle.dumps(error))
    assert other.history[0]["train_batch_count"] == 3
    assert "lambda" in repr(other.history[0]["own"])


@pytest.mark.parametrize("n_jobs", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_ranks_the_candidate_last(n_jobs):
    search = GridSearchCV(quick(), {"lr": [1e30, 1e-3]}, cv=2, n_jobs=n_jobs)
    failed = pytest.warns(FitFailedWarning, match=r"(?s)2 fits failed.*DivergenceError.*Lower lr")
    with failed, pytest.warns(UserWarning, match="test scores are non-finite"):
        search.fit(*draw())
    assert search.cv_results_["rank_test_score"].tolist() == [2, 1]
    assert np.isnan(search.cv_results_["mean_test_score"][0])


def test_the_estimator_predicts_nothing_and_trains_no_further():
    X, y = draw()
    clf = quick(lr=1e30, warm_start=True, loss="ce")
    with pytest.raises(DivergenceError):
        clf.fit(X, y)
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        with pytest.raises(FloatingPointError, match=r"row 0 and 47 other rows.*diverged"):
            getattr(clf, method)(X)
    with pytest.raises(ValueError, match=r"warm_start must be False after a fit that diverged"):
        clf.set_params(lr=1e-3).fit(X, y)
    with pytest.raises(ValueError, match=r"partial_fit must go on from weights that are finite"):
        clf.partial_fit(X, y)
    assert np.isfinite(clf.set_params(warm_start=False).fit(X, y).predict_proba(X)).all()


def test_partial_fit_diverges_and_refuses_to_go_on():
    X, y = draw()
    clf = quick(lr=1e30).set_params(loss="ce")
    with pytest.raises(DivergenceError, match="epoch 1"):
        clf.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="must go on from weights that are finite"):
        clf.partial_fit(X, y)


# Steps that float16 skips --------------------------------------------------------------------


class Steep(nn.Module):
    """A loss whose gradient has a size, so that float16 overflows at some scales."""

    def __init__(self, size=1.0):
        super().__init__()
        self.size = size

    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits, target) * self.size


@pytest.mark.parametrize("callbacks", [[], [Steps()]], ids=["lean", "skorch"])
def test_skipped_steps_are_counted(callbacks):
    clf = quick(dtype="float16", loss=Steep(64.0), callbacks=callbacks, module=Sound, net={})
    clf.fit(*draw())
    made = max(state["step"].item() for state in clf.net_.optimizer_.state.values())
    skipped = sum(clf.history_[:, "skipped_step_count"])
    assert 0 < skipped == 9 - made
    assert "skipped_step_count" not in quick().fit(*draw()).history_[0]


def test_a_fit_whose_steps_were_all_skipped_is_a_warning():
    X, y = draw()
    clf = quick(dtype="float16", loss=Steep(1e9), module=Sound, net={})
    with pytest.warns(
        ConvergenceWarning, match=r"all 9 steps were skipped.*more steps.*'float32'"
    ) as caught:
        clf.fit(X, y)
    assert len(caught) == 1
    with pytest.warns(ConvergenceWarning, match="all 3 steps were skipped"):
        clf.set_params(loss=Steep(1e9)).partial_fit(X, y)


def test_the_scale_goes_on_in_later_calls():
    X, y = draw()
    # 9 steps a fit, one skipped at the first scale, 2 ** 16.
    clf = quick(dtype="float16", loss=Steep(64.0), module=Sound, net={}, warm_start=True).fit(X, y)

    def state(fitted):
        state = fitted.net_.scaler_.state_dict()
        return state["scale"], state["_growth_tracker"]

    scale, n_good = state(clf)
    assert scale < 2**16
    clf.set_params(loss=Steep(1e-3)).fit(X, y)
    assert state(clf) == (scale, n_good + 9)
    clf.partial_fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    for fitted in (clf, again):
        fitted.partial_fit(X, y)
        assert state(fitted) == (scale, n_good + 15)


def test_gradients_that_are_never_finite_end_the_fit():
    never = type("Never", (NaNGradient,), {"bad_step": property(lambda self: self.step)})
    with pytest.raises(DivergenceError, match="not finite in float16 at any scale"):
        quick(dtype="float16", module=never, net={}, max_epochs=100).fit(*draw())


# Interrupts within a step --------------------------------------------------------------------


def interrupted(owner, name, after, monkeypatch, **params):
    """Fit until a function is called for the second time, before or after its work."""
    real, calls = getattr(owner, name), []

    def function(*args, **kwargs):
        calls.append(name)
        if len(calls) == 2 and not after:
            raise KeyboardInterrupt
        result = real(*args, **kwargs)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return result

    clf = quick(**params)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, function)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(*draw())
    return clf


POINTS = [
    (torch.Tensor, "backward"),
    (torch.optim.Adam, "_init_group"),
    (torch.amp.GradScaler, "scale"),
    (torch.amp.GradScaler, "unscale_"),
    (torch.amp.GradScaler, "step"),
    (torch.amp.GradScaler, "update"),
    (EpochWatch, "add"),
    (EpochWatch, "read"),
]


@pytest.mark.parametrize("callbacks", [None, [Steps()]], ids=["lean", "skorch"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), POINTS, ids=lambda value: str(value).split(".")[-1])
def test_an_interrupted_float16_fit_can_be_copied(owner, name, after, callbacks, monkeypatch):
    X, y = draw()
    clf = interrupted(owner, name, after, monkeypatch, dtype="float16", callbacks=callbacks)
    expected = clf.predict_proba(X)
    for other in (pickle.loads(pickle.dumps(clf)), copy.copy(clf), copy.deepcopy(clf)):
        assert np.array_equal(other.predict_proba(X), expected)
        other.partial_fit(X, y)
        assert np.isfinite(other.predict_proba(X)).all()


def test_state_of_the_optimizer_that_is_half_made_is_made_anew():
    clf = quick().fit(*draw())
    state = next(iter(clf.net_.optimizer_.state.values()))
    del state["exp_avg_sq"]  # as after an interrupt between two entries
    clf.partial_fit(*draw())
    assert next(iter(clf.net_.optimizer_.state.values()))["step"] == 3
