"""Trials before training: network, augmentation, loss."""

import collections
import pickle
import re
import warnings

import numpy as np
import pytest
from imblearn.over_sampling import RandomOverSampler
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, InputShapeSetter
from torch import nn

from skimbal import CollapseWarning, LossMix
from skimbal.augmentation import RandomFlip
from skimbal.classifiers.trials import judge_training
from skimbal.exceptions import ParameterError
from skimbal.losses import FocalLoss, MixedLoss, SoftF1Loss, SoftMCCLoss
from tests.classifiers.data import (
    CLASSIFIERS,
    FACTORY,
    N,
    Seen,
    Y,
    caught,
    images,
    no_module,
    noise,
    small,
    tiny,
    too_many_outputs,
)
from tests.plain import plain


def own_generator():
    """Make a callable that draws from what nobody else sees."""
    generator = np.random.default_rng(0)
    return lambda images: images + float(generator.normal())


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"augment": "flips"}, ValueError, r"augment .*'flip'.*'paper'.*'flips'"),
        ({"augment": RandomFlip}, ValueError, "instance of RandomFlip"),
        ({"augment": lambda x: x[..., :-1]}, ValueError, "must keep the shape, dtype and device"),
        ({"augment": lambda x: x[0]}, ValueError, "must keep the shape, dtype and device"),
        ({"augment": lambda x: x.double()}, ValueError, "must keep the shape, dtype and device"),
        (
            {"augment": lambda x: x.numpy()},
            ValueError,
            r"augment must .*got <class 'numpy.ndarray'>",
        ),
        ({"augment": lambda x: x / 0}, ValueError, "augment must .*got NaN or infinite"),
        (
            {"augment": lambda x: (-(x**2) - 1).log()},
            ValueError,
            "augment must .*got NaN or infinite",
        ),
        ({"augment": lambda x, y: x}, TypeError, "missing 1 required positional argument"),
        ({"augment": RandomFlip(axes=[2])}, ValueError, r"axes .*got \(2,\)"),
        ({"augment": "flip", "optimizer": "lbfgs"}, ValueError, "augment must be .* got 'flip'"),
        ({"crop_size": 4, "optimizer": "lbfgs"}, ValueError, "crop_size must be .* got 4"),
        (
            {"augment": own_generator(), "micro_batch_size": 8},
            ValueError,
            "augment must .*micro_batch_size=8; got other images",
        ),
        ({"crop_size": 7}, ValueError, r"crop_size must be .*\(6, 6\).*got 7"),
        (
            {"crop_size": (4, 4, 4)},
            ValueError,
            r"crop_size must be .*2 spatial axes.*got \(4, 4, 4\)",
        ),
        ({"crop_size": 0}, ValueError, "crop_size must be .* got 0"),
        ({"crop_size": 4.0}, ValueError, r"crop_size must be .* got 4\.0"),
        ({"n_tta": 0, "augment": "flip"}, ValueError, "n_tta must be .* got 0"),
        ({"n_tta": 2}, ValueError, "n_tta must be 'auto' or 1 .* got 2"),
        ({"net": {"augmentation": ()}}, ValueError, "net must be .* got 'augmentation'"),
    ],
)
def test_augmentation_that_cannot_work_is_refused(params, error, message):
    X, y = images()
    callback = Seen()
    with pytest.raises(error, match=message):
        small(callbacks=[callback], **params).fit(X, y)
    assert not hasattr(callback, "train_")


def test_a_failing_callable_says_which_it_was():
    X, y = images()
    with pytest.raises(ZeroDivisionError) as caught:
        small(augment=lambda images: 1 / 0).fit(X, y)
    assert "failed in a trial with images of shape (8, 1, 6, 6)" in caught.value.__notes__[-1]
    assert "PerSample" in caught.value.__notes__[-1]


def map_of_outputs(in_channels, n_classes):
    return nn.LazyLinear(n_classes)


def failing(in_channels, n_classes):
    raise ZeroDivisionError("a mistake of the factory")


def failing_forward(in_channels, n_classes):
    return nn.Linear(99, n_classes)


class NoWeights(nn.Module):
    def forward(self, y_pred, target):
        return nn.functional.cross_entropy(y_pred, target)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_factories_that_do_not_fit(refused, cls):
    X = noise(cls)
    shape = str((1, *X.shape[1:]))

    def fit(module):
        return lambda: tiny(cls, module=module, net=None).fit(X, np.arange(N) % 3)

    logits = "module must return logits of shape (n_samples, n_classes), here (1, 3)"
    refused(fit(too_many_outputs), logits, "got shape (1, 8)", FACTORY)
    refused(fit(map_of_outputs), logits, f"got shape {(1, 1, *X.shape[1:-1], 3)}", FACTORY)
    refused(fit(no_module), "torch.nn.Module", FACTORY, "got None", error=TypeError)
    refused(fit(nn.Conv2d), "'kernel_size'", "called as f(1, 3)", error=TypeError)
    refused(fit(lambda: None), "takes 0 positional", "called as f(1, 3)", error=TypeError)
    # Errors of a factory keep their type, and say where they come from.
    refused(fit(failing), "a mistake", "failing", "f(1, 3)", error=ZeroDivisionError)
    refused(fit(failing_forward), "failing_forward", f"of shape {shape}", error=RuntimeError)


def test_loss_that_cannot_take_weights(refused, monkeypatch):
    X = noise()
    fragments = ["loss must take weights", "got NoWeights", "sample_weight"]
    for loss in (NoWeights, NoWeights()):
        refused(lambda loss=loss: tiny(loss=loss).fit(X, Y, np.ones(N)), *fragments)
        refused(lambda loss=loss: tiny(loss=loss, class_weight="balanced").fit(X, Y), *fragments)
    monkeypatch.undo()
    assert tiny(loss=NoWeights).fit(X, Y).n_epochs_ == 1


PURE = ["mcc", "f1", "f1+mcc", "0.5*mcc", LossMix(mcc=1), LossMix(f1=2, mcc=1)]


PURE += [SoftMCCLoss(), SoftMCCLoss, SoftF1Loss(), SoftF1Loss]


COLD = [
    LossMix.from_expression(loss, warmup_epochs=0)
    for loss in ("mcc", "f1", "f1+mcc", "0.5*mcc", "2*f1+mcc")
]


COLD += [MixedLoss(LossMix(mcc=1, warmup_epochs=0)), MixedLoss(LossMix(f1=1, warmup_epochs=0))]


MIXES = ["la", "ldam", "balanced_softmax+mcc", "f1+la"]


MIXES += ["ce", "wce", "focal", "ce+mcc", "wce+f1", "mcc+focal", "0.001*ce + mcc + f1"]


MIXES += [LossMix(ce=0.1, mcc=1), FocalLoss(), nn.CrossEntropyLoss, nn.CrossEntropyLoss()]


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize("loss", COLD, ids=str)
def test_collapse_warning_once_per_fit(cls, loss):
    X = noise(cls)
    clf = tiny(cls, loss=loss, max_epochs=3, batch_size=4)
    for _ in range(2):
        (warning,) = caught(lambda: clf.fit(X, Y))
        assert warning.category is CollapseWarning
        assert warning.filename == __file__
        text = str(warning.message)
        assert f"loss={clf.loss!r}" in text
        assert "collapse to one class" in text
    mix = re.search(r"loss='(ce\+(?:mcc|f1))'", text)[1]
    assert caught(lambda: tiny(cls, loss=mix).fit(X, Y)) == []
    assert "warmup_epochs=0.5" in text


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize("loss", PURE, ids=str)
def test_no_collapse_warning_with_a_warm_up(cls, loss):
    assert caught(lambda: tiny(cls, loss=loss).fit(noise(cls), Y)) == []


def test_collapse_warning_in_the_first_call_of_partial_fit_only():
    clf = tiny(loss=LossMix(mcc=1, warmup_epochs=0))
    assert len(caught(lambda: clf.partial_fit(noise(), Y, classes=[0, 1]), CollapseWarning)) == 1
    assert caught(lambda: clf.partial_fit(noise(), Y)) == []


@pytest.mark.parametrize("loss", MIXES, ids=str)
def test_no_collapse_warning_for_losses_with_a_term_per_row(loss):
    assert caught(lambda: tiny(loss=loss).fit(noise(), Y)) == []


def test_collapse_warning_can_be_filtered(refused):
    X = noise()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", CollapseWarning)
        with pytest.raises(pytest.fail.Exception, match="training began"):
            tiny(loss=LossMix(mcc=1, warmup_epochs=0)).fit(X, Y)
        warnings.simplefilter("error", CollapseWarning)
        clf = tiny(loss=LossMix(mcc=1, warmup_epochs=0))
        refused(lambda: clf.fit(X, Y), "loss='ce+mcc'", error=CollapseWarning)


@pytest.mark.parametrize(
    ("params", "classes", "warns"),
    [
        ({"loss": "ce+mcc", "batch_size": 3}, 4, True),
        ({"loss": "ce+f1", "batch_size": 3}, 4, True),
        ({"loss": LossMix(ce=1, mcc=0.1), "batch_size": 1}, 2, True),
        ({"loss": "ce", "sampler": "balanced", "batch_size": 3}, 4, True),
        ({"loss": "ce", "sampler": "stratified", "batch_size": 2}, 3, True),
        ({"sampler": "balanced", "batch_size": 2, "micro_batch_size": 1}, 3, True),
        ({"loss": "ce+mcc", "batch_size": 4}, 4, False),
        ({"loss": "ce", "batch_size": 3}, 4, False),
        ({"loss": "ce", "sampler": "weighted", "batch_size": 3}, 4, False),
        ({"loss": "ce", "sampler": RandomOverSampler(), "batch_size": 3}, 4, False),
        ({"sampler": "balanced", "batch_size": 3, "micro_batch_size": 1}, 3, False),
    ],
    ids=str,
)  # fmt: skip
def test_batches_that_cannot_hold_every_class(params, classes, warns):
    X, y = noise(), np.arange(N) % classes
    log = caught(lambda: tiny(max_epochs=2, **params).fit(X, y))
    assert len(log) == warns
    clf = tiny(**params)
    partial = caught(lambda: clf.partial_fit(X, y, classes=range(classes)))
    assert len(partial) == warns
    assert caught(lambda: clf.partial_fit(X, y)) == []
    for warning in log + partial:
        assert warning.category is UserWarning
        assert warning.filename == __file__
        text = str(warning.message)
        assert f"batch_size={params['batch_size']} is less than the {classes} classes" in text
        assert "Use a larger batch_size" in text


def test_two_corrections_of_class_frequency():
    X, y = images()
    with pytest.warns(UserWarning, match="corrects for class frequency once more"):
        tiny(logit_adjustment=1.0, sampler="auto").fit(X, y)
    weighted = {"class_weight": "balanced", "sampler": "auto"}
    for params in ({"sampler": "balanced"}, {"sampler": "uniform"}, weighted):
        found = caught(lambda p=params: tiny(**{"logit_adjustment": 1.0, **p}).fit(X, y))
        assert not [w for w in found if "once more" in str(w)]


def told_of_corrections(call):
    return [item for item in caught(call) if "class frequency once more" in str(item.message)]


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_correction_that_is_set_after_a_fit(method):
    X, y = images()
    clf = tiny(sampler="auto").fit(X, y)
    predict = getattr(clf, method)
    assert not told_of_corrections(lambda: predict(X))
    clf.set_params(logit_adjustment=0.5)
    (log,) = told_of_corrections(lambda: predict(X))
    assert log.filename == __file__
    assert "logit_adjustment=0.5" in str(log.message)
    # Another sampler needs another fit.
    assert told_of_corrections(lambda: clf.set_params(sampler="uniform") and predict(X))
    assert not told_of_corrections(lambda: clf.set_params(sampler="balanced") and predict(X))
    clf.set_params(sampler="auto")
    assert told_of_corrections(lambda: pickle.loads(pickle.dumps(clf)).predict(X))
    assert not told_of_corrections(lambda: clf.transform(X))
    assert not told_of_corrections(lambda: clf.set_params(logit_adjustment=0.0) and predict(X))


def test_correction_that_the_fit_knew_of_is_told_once():
    X, y = images()
    clf = tiny(sampler="auto", logit_adjustment=1.0)
    assert told_of_corrections(lambda: clf.fit(X, y))
    assert not told_of_corrections(lambda: clf.predict(X))
    assert told_of_corrections(lambda: clf.set_params(logit_adjustment=2.0).predict(X))
    for params in ({"sampler": "balanced"}, {"sampler": "uniform"}, {"loss": "wce"}):
        chosen = tiny(**{"sampler": "auto", **params}).fit(X, y).set_params(logit_adjustment=1.0)
        assert not told_of_corrections(lambda c=chosen: c.predict(X))


def test_correction_between_calls_of_partial_fit():
    X, y = images()
    clf = tiny(sampler="auto").partial_fit(X, y, classes=[0, 1])
    clf.set_params(logit_adjustment=1.0)
    assert not told_of_corrections(lambda: clf.partial_fit(X, y))
    assert told_of_corrections(lambda: clf.predict(X))


class Auxiliary(nn.Module):
    """A network that returns more than logits, in training only."""

    Outputs = collections.namedtuple("Outputs", ["logits", "aux_logits"])

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes))

    def forward(self, X):
        logits = self.network(X)
        return self.Outputs(logits, logits) if self.training else logits


def test_outputs_of_training_that_are_not_logits():
    words = "module must return a tensor of logits in training, too; got .* Outputs.*aux_logits"
    with pytest.raises(TypeError, match=words):
        tiny(module=Auxiliary, net=None).fit(noise(), Y)


def test_tools_of_skorch_that_do_not_apply(refused):
    clf = tiny(callbacks=[InputShapeSetter()])
    refused(lambda: clf.fit(noise(), Y), "callbacks must be ", "InputShapeSetter", "in_channels")


def test_the_net_is_trained_by_the_classifier_alone():
    clf = tiny().fit(noise(), Y)
    with pytest.raises(TypeError, match=r"X must be the pair .* got .* ndarray.*SkorchDoctor"):
        clf.net_.fit(noise()[:, None], Y)


# Trainings that have learned nothing ---------------------------------------------------------


def history_of(losses, first=None, **params):
    """Make a fitted classifier whose training loss went like this."""
    clf = small(max_epochs=len(losses), **params).fit(*images())
    for epoch, loss in zip(clf.history_, losses, strict=True):
        epoch["train_loss"] = loss
        epoch["predicted_class_count"], epoch["constant_batch_count"] = 2, 0
    clf.history_[0]["batches"][0]["train_loss"] = losses[0] if first is None else first
    return clf.net_


@pytest.mark.parametrize(
    ("losses", "params", "message"),
    [
        ([1.0, 1.1, 1.2], {"loss": "ce"}, "rose in every epoch, from 1 to 1.2"),
        ([-2.0, -1.5, -1.0], {"loss": "ce"}, "rose in every epoch"),
        ([1.0, 1.04, 1.09], {"loss": "ce"}, None),
        ([1.0, 1.5], {"loss": "ce"}, None),
        ([1.0, 1.5, 1.4, 2.0], {"loss": "ce"}, None),
        ([1e9, 1e8, 1e7], {"loss": "ce", "first": 0.7}, "far above the loss before"),
        ([60.0], {"loss": "ce", "first": 0.7}, None),
        # The warm-up takes two of four epochs.
        ([0.5, 0.7, 0.9, 0.8], {"loss": "mcc"}, None),
        ([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], {"loss": "mcc"}, "rose in every epoch, from 0.8 to 1"),
    ],
)
def test_a_loss_that_rises_is_told(losses, params, message):
    net = history_of(losses, **params)
    log = caught(lambda: judge_training(net, True), ConvergenceWarning)
    assert len(log) == (message is not None)
    assert message is None or message in str(log[0].message)
    assert not caught(lambda: judge_training(net, False), ConvergenceWarning)


def test_a_training_that_changes_no_weight_is_told():
    X, y = images()
    with pytest.warns(ConvergenceWarning, match="changed no weight"):
        small(lr=1e-300).fit(X, y)
    assert not caught(lambda: small().fit(X, y), ConvergenceWarning)


@pytest.mark.parametrize(("of_one_class", "is_told"), [(0, True), (2, True), (3, False)])
def test_one_predicted_class_in_each_batch_is_told(of_one_class, is_told):
    net = history_of([1.0, 0.9], batch_size=32)
    assert net.history[-1, "train_batch_count"] == 3
    net.history[-1].update(constant_batch_count=3, one_class_batch_count=of_one_class)
    log = caught(lambda: judge_training(net, True), ConvergenceWarning)
    assert ["all rows of each batch" in str(item.message) for item in log] == [True] * is_told


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": LossMix(ce=1e308)}, r"ce must be .* at most 1e\+18"),
        ({"loss": LossMix(ce=1, mcc=1e300)}, r"mcc must be .* at most 1e\+18"),
        ({"loss": LossMix(la=1, la_tau=1e300)}, "la_tau must be"),
        ({"loss": LossMix(ldam=1, ldam_margin=1e300)}, "ldam_margin must be"),
        ({"loss": LossMix(ce=1e-300)}, r"factor above 0, at least 1e-09.*ce=1e-300"),
        ({"loss": "1e-30*ce"}, "factor above 0, at least 1e-09"),
        ({"logit_adjustment": 1e300}, r"logit_adjustment must be .* at most 1e\+18"),
    ],
    ids=str,
)
def test_factors_out_of_range_are_refused(params, message):
    with pytest.raises(ParameterError, match=message):
        small(**params).fit(*images())


# Callbacks that end a training ----------------------------------------------------------------


class StopAt(Callback):
    """Ends the training at a call of a hook."""

    def __init__(self, hook, call):
        self.hook, self.call, self.n_calls = hook, call, 0

    def _count(self, hook):
        self.n_calls += hook == self.hook
        if hook == self.hook and self.n_calls == self.call:
            raise KeyboardInterrupt

    def on_epoch_begin(self, net, **kwargs):
        self._count("on_epoch_begin")

    def on_batch_begin(self, net, **kwargs):
        self._count("on_batch_begin")

    def on_grad_computed(self, net, **kwargs):
        self._count("on_grad_computed")

    def on_batch_end(self, net, **kwargs):
        self._count("on_batch_end")

    def on_epoch_end(self, net, **kwargs):
        self._count("on_epoch_end")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("train_split", [None, 0.25])
@pytest.mark.parametrize("call", [1, 2, 5])
@pytest.mark.parametrize(
    "hook", ["on_epoch_begin", "on_batch_begin", "on_grad_computed", "on_batch_end", "on_epoch_end"]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_callback_may_stop_at_any_hook(hook, call, train_split, dtype):
    X, y = np.random.default_rng(0).normal(size=(24, 8, 8)).astype("f4"), np.arange(24) % 2
    params = {"batch_size": 8, "dtype": dtype, "train_split": train_split, "random_state": 0}
    clf = plain(callbacks=[StopAt(hook, call)], module="small", max_epochs=9, **params)
    for fit in (clf.fit, clf.partial_fit):
        assert fit(X, y) is clf
        assert clf.n_epochs_ <= 9
        copied = pickle.loads(pickle.dumps(clf))
        assert np.isfinite(copied.predict_proba(X)).all()
    first = clone(clf).set_params(callbacks=[StopAt(hook, call)])
    first.partial_fit(X, y, classes=[0, 1])
    assert first.n_epochs_ == 1


def test_a_training_that_a_callback_stops_before_the_first_step_is_none(rng):
    X, y = rng.normal(size=(24, 8, 8)), np.arange(24) % 2
    clf = plain(callbacks=[StopAt("on_batch_begin", 1)], module="small", max_epochs=9)
    clf.fit(X, y)
    assert (clf.n_epochs_, clf.n_steps_) == (1, 0)
    with pytest.warns(ConvergenceWarning, match="not trained, so it predicts by chance"):
        clf.predict(X)


def test_a_stop_between_epochs_judges_the_last_whole_epoch():
    X, y = np.zeros((24, 8, 8)), np.arange(24) % 2  # without contents
    clf = plain(callbacks=[StopAt("on_epoch_begin", 3)], module="small", max_epochs=9)
    with pytest.warns(ConvergenceWarning, match="predicted one class for all"):
        clf.set_params(random_state=0).fit(X, y)
    assert clf.n_epochs_ == 3


def test_the_table_of_epochs_has_a_number_for_each_column(capsys):
    X, y = np.random.default_rng(0).normal(size=(24, 8, 8)), np.arange(24) % 2
    plain(verbose=2, module="small", max_epochs=2, random_state=0).fit(X, y)
    header, _, *rows = capsys.readouterr().out.partition("  epoch")[2].splitlines()
    assert [len(row.split()) for row in rows] == [1 + len(header.split())] * 2
