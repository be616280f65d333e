"""Learning curves: the data in the artists, and refused input."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import EpochScoring

from skimbal import CNN2DClassifier
from skimbal.datasets import load_imbalanced_digits
from skimbal.displays import LearningCurvesDisplay
from tests.displays.data import overlaps, texts
from tests.plain import plain

HISTORY = [
    {
        "epoch": epoch,
        "dur": 0.1,
        "batches": [{"train_loss": 9.0}],
        "event_lr": 1e-3,
        "train_batch_count": 4,
        "train_loss": np.float64(loss),
        "train_loss_best": True,
        "valid_loss": valid,
        "valid_loss_best": best,
        "balanced_accuracy": score,
        "balanced_accuracy_best": np.True_,
        "stopped": False,
        "note": "text",
    }
    for epoch, loss, valid, best, score in [
        (1, 1.0, 0.9, True, 0.3),
        (2, 0.6, 0.5, True, 0.7),
        (3, 0.4, 0.8, False, 0.6),
    ]
]


@pytest.fixture(scope="module")
def digits():
    data = load_imbalanced_digits()
    return data.X_train, data.y_train


@pytest.fixture(scope="module")
def fitted(digits):
    score = EpochScoring("balanced_accuracy", lower_is_better=False)
    clf = plain(max_epochs=2, train_split=0.2, callbacks=[score], random_state=0)
    return clf.fit(*digits)


def test_losses_and_scores_over_epochs():
    display = LearningCurvesDisplay.from_history(HISTORY)
    assert list(display.lines_) == ["train_loss", "valid_loss", "balanced_accuracy"]
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), [epoch[name] for epoch in HISTORY])
    losses, scores = display.axes_
    assert display.lines_["valid_loss"].axes is losses is display.ax_
    assert display.lines_["balanced_accuracy"].axes is scores
    assert display.figure_ is losses.figure
    assert scores.get_xlabel() == "epoch"
    assert losses.get_ylabel() == "loss (dimensionless)"
    assert display.best_epoch == 2
    assert [line.get_xdata()[0] for line in display.best_] == [2, 2]
    assert texts(losses.get_legend().get_texts()) == [
        "train_loss",
        "valid_loss",
        "lowest valid_loss\n(epoch 2)",
    ]
    assert overlaps(display.figure_) == []


def test_history_of_a_classifier(fitted):
    display = LearningCurvesDisplay.from_estimator(fitted)
    assert list(display.lines_) == ["train_loss", "valid_loss", "valid_acc", "balanced_accuracy"]
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_ydata(), fitted.history_[:, name])
    assert display.best_epoch == 1 + np.argmin(fitted.history_[:, "valid_loss"])


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_pipelines_searches_and_nets_lead_to_the_history(fitted, digits, step):
    X, y = (values[::step] for values in digits)
    clf = plain(max_epochs=1, random_state=0)
    pipeline = make_pipeline(FunctionTransformer(), clf)
    search = GridSearchCV(pipeline, {"cnn2dclassifier__max_epochs": [3]}, cv=2).fit(X, y)
    history = search.best_estimator_[-1].history_
    for estimator in (search, search.best_estimator_, make_pipeline(search)):
        display = LearningCurvesDisplay.from_estimator(estimator)
        np.testing.assert_array_equal(
            display.lines_["train_loss"].get_ydata(), history[:, "train_loss"]
        )
        assert display.axes_.shape == (1,)
        assert display.best_ == []
    assert LearningCurvesDisplay.from_estimator(fitted.net_).best_epoch is not None


def test_scores_are_chosen_by_name():
    history = [{**epoch, "mcc": 0.1} for epoch in HISTORY]
    assert list(LearningCurvesDisplay.from_history(history, scores=["mcc"]).scores) == ["mcc"]
    assert LearningCurvesDisplay.from_history(history, scores=[]).axes_.shape == (1,)
    with pytest.raises(ValueError, match=r"scores .*'balanced_accuracy'.*'auc'"):
        LearningCurvesDisplay.from_history(history, scores=["auc"])
    with pytest.raises(ValueError, match=r"scores .*'mcc'"):
        LearningCurvesDisplay.from_history(history, scores="mcc")


def test_the_best_epoch_is_the_lowest_over_all_calls_of_partial_fit():
    # Each call records its first epoch as the best so far.
    again = [{**HISTORY[0], "epoch": 4, "valid_loss": 0.7}]
    assert LearningCurvesDisplay.from_history(HISTORY + again).best_epoch == 2
    unmarked = [{"train_loss": 1.0, "valid_loss": 0.5}]
    assert LearningCurvesDisplay.from_history(unmarked).best_epoch is None
    nan = [{**HISTORY[0], "valid_loss": np.nan}]
    assert LearningCurvesDisplay.from_history(nan).best_epoch is None


def test_epochs_without_a_value_are_gaps():
    history = [{"train_loss": 3.0}, {"train_loss": 2.0, "valid_loss": 1.0}]
    display = LearningCurvesDisplay.from_history(history)
    np.testing.assert_array_equal(display.lines_["valid_loss"].get_ydata(), [np.nan, 1.0])
    np.testing.assert_array_equal(display.epochs, [1, 2])


def test_curves_differ_in_more_than_colour():
    history = [{"train_loss": 1.0, **{f"s{i}": 0.1 * i for i in range(8)}}] * 3
    lines = list(LearningCurvesDisplay.from_history(history).lines_.values())[1:]
    assert len({line.get_marker() for line in lines}) == 8
    assert len({to_hex(line.get_color()) for line in lines}) == 8
    assert len({line.get_linestyle() for line in lines}) >= 4


def test_curves_on_given_axes():
    figure = Figure(layout="constrained")
    given = figure.subplots(1, 2)
    before = plt.get_fignums()
    display = LearningCurvesDisplay.from_history(HISTORY, ax=given)
    assert list(display.axes_) == list(given)
    assert display.figure_ is figure
    assert [ax.get_xlabel() for ax in given] == ["epoch", "epoch"]
    assert plt.get_fignums() == before
    alone = Figure().subplots()
    assert LearningCurvesDisplay.from_history(HISTORY, scores=[], ax=alone).ax_ is alone


def test_plot_draws_again():
    display = LearningCurvesDisplay.from_history(HISTORY)
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first
    assert len(display.best_) == 2


@pytest.mark.parametrize(
    ("history", "error", "message"),
    [
        ([], ValueError, r"history .*\[\]"),
        ("text", TypeError, "history .*'text'"),
        ({"train_loss": [1.0]}, TypeError, "history .*train_loss"),
        ([{"score": 1.0}], ValueError, r"history .*train_loss.*valid_loss.*'score'"),
    ],
)
def test_histories_that_cannot_be_drawn(history, error, message):
    with pytest.raises(error, match=message):
        LearningCurvesDisplay.from_history(history)
    assert plt.get_fignums() == []


def test_estimators_without_a_history(digits):
    with pytest.raises(TypeError, match=r"estimator .*LogisticRegression\(.*history_"):
        LearningCurvesDisplay.from_estimator(make_pipeline(LogisticRegression()))
    clf = CNN2DClassifier(max_epochs=1)
    with pytest.raises(NotFittedError, match="CNN2DClassifier instance is not fitted"):
        LearningCurvesDisplay.from_estimator(make_pipeline(clf))
    search = GridSearchCV(clf, {"lr": [0.1]}, cv=2, refit=False)
    with pytest.raises(NotFittedError, match=r"estimator .*refit=True.*GridSearchCV"):
        LearningCurvesDisplay.from_estimator(search)
    with pytest.raises(NotFittedError, match=r"estimator .*refit=True.*GridSearchCV"):
        LearningCurvesDisplay.from_estimator(search.fit(*digits))


def test_axes_of_a_wrong_number_or_kind():
    axes = Figure().subplots(1, 3)
    for given, n in [(axes, 3), (axes[0], 1)]:
        with pytest.raises(ValueError, match=f"ax .*2.*{n}"):
            LearningCurvesDisplay.from_history(HISTORY, ax=given)
    with pytest.raises(TypeError, match=r"ax .*Axes.*'a'"):
        LearningCurvesDisplay.from_history(HISTORY, ax=["a", "b"])
