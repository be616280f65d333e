"""Displays: the data in the artists, what is refused, and global state left alone."""

import itertools
import sys
from typing import ClassVar, NamedTuple

import matplotlib
import numpy as np
import pytest
from cycler import cycler
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.decomposition import KernelPCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import EpochScoring

from skimbal import CNN2DClassifier
from skimbal.datasets import load_imbalanced_digits
from skimbal.displays import (
    ClassScoresDisplay,
    EmbeddingDisplay,
    LearningCurvesDisplay,
    LossStudyDisplay,
)
from skimbal.study import compare_losses


@pytest.fixture(autouse=True)
def global_state():
    """Every test draws without a screen, and leaves matplotlib's and numpy's state as it was."""
    plt.switch_backend("agg")
    plt.close("all")
    parameters = matplotlib.rcParams.copy()
    generator = np.random.get_state()  # noqa: NPY002
    yield
    plt.close("all")
    assert matplotlib.rcParams == parameters
    np.testing.assert_equal(np.random.get_state(), generator)  # noqa: NPY002


def texts(items):
    return [item.get_text() for item in items]


def overlaps(figure):
    """Return the pairs of visible texts and legends of a figure that cover each other."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = []
    for ax in figure.axes:
        labels = [ax.title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            # Shared axes have ticks without labels.
            ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
            labels += [label for place, label in ticks if low <= place <= high]
        for text in labels:
            if text.get_text() and text.get_visible():
                boxes.append((text.get_text(), text.get_window_extent(renderer)))
        if ax.get_legend() is not None:
            boxes.append(("legend", ax.get_legend().get_window_extent(renderer)))
    inside = figure.bbox
    outside = [
        name
        for name, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > inside.x1 + 1 or box.y1 > inside.y1 + 1
    ]
    covered = [(a, b) for (a, p), (b, q) in itertools.combinations(boxes, 2) if p.overlaps(q)]
    return outside + covered


# What needs matplotlib ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: LearningCurvesDisplay.from_estimator(None), "LearningCurvesDisplay"),
        (lambda: LearningCurvesDisplay.from_history(None), "LearningCurvesDisplay"),
        (lambda: LearningCurvesDisplay(None, None, None).plot(), "LearningCurvesDisplay"),
        (lambda: EmbeddingDisplay.from_estimator(None, None, None), "EmbeddingDisplay"),
        (lambda: EmbeddingDisplay.from_features(None, None, None), "EmbeddingDisplay"),
        (lambda: EmbeddingDisplay(None, None, None, None).plot(), "EmbeddingDisplay"),
        (lambda: LossStudyDisplay.from_study(None), "LossStudyDisplay"),
        (lambda: LossStudyDisplay(None, None).plot(), "LossStudyDisplay"),
        (lambda: ClassScoresDisplay.from_estimator(None, None, None), "ClassScoresDisplay"),
        (lambda: ClassScoresDisplay.from_predictions(None, None), "ClassScoresDisplay"),
        (lambda: ClassScoresDisplay.from_study(None), "ClassScoresDisplay"),
        (lambda: ClassScoresDisplay(None, None, None, None).plot(), "ClassScoresDisplay"),
    ],
)
def test_without_matplotlib_the_extra_is_named_before_anything_else(monkeypatch, call, name):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=rf'{name}\..*pip install "skimbal\[plot\]"'):
        call()


# Learning curves ---------------------------------------------------------------------------------

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
    clf = CNN2DClassifier(max_epochs=2, train_split=0.2, callbacks=[score], random_state=0)
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


def test_pipelines_searches_and_nets_lead_to_the_history(fitted, digits):
    X, y = digits
    clf = CNN2DClassifier(max_epochs=1, random_state=0)
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
    with pytest.raises(ValueError, match=r"'auc' is not known; known are \['balanced_accuracy'"):
        LearningCurvesDisplay.from_history(history, scores=["auc"])
    with pytest.raises(ValueError, match=r"use \['mcc'\]"):
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
        ([], ValueError, "no epoch"),
        ("text", TypeError, "got str"),
        ({"train_loss": [1.0]}, TypeError, "got dict"),
        ([{"score": 1.0}], ValueError, r"neither train_loss nor valid_loss, only \['score'\]"),
    ],
)
def test_histories_that_cannot_be_drawn(history, error, message):
    with pytest.raises(error, match=message):
        LearningCurvesDisplay.from_history(history)
    assert plt.get_fignums() == []


def test_estimators_without_a_history(digits):
    with pytest.raises(TypeError, match="LogisticRegression keeps no history_"):
        LearningCurvesDisplay.from_estimator(make_pipeline(LogisticRegression()))
    clf = CNN2DClassifier(max_epochs=1)
    with pytest.raises(NotFittedError, match="CNN2DClassifier instance is not fitted"):
        LearningCurvesDisplay.from_estimator(make_pipeline(clf))
    search = GridSearchCV(clf, {"lr": [0.1]}, cv=2, refit=False)
    with pytest.raises(NotFittedError, match="refit=True"):
        LearningCurvesDisplay.from_estimator(search)
    with pytest.raises(NotFittedError, match="refit=True"):
        LearningCurvesDisplay.from_estimator(search.fit(*digits))


def test_axes_of_a_wrong_number_or_kind():
    axes = Figure().subplots(1, 3)
    for given, n in [(axes, 3), (axes[0], 1)]:
        with pytest.raises(ValueError, match=f"2 axes, got {n}"):
            LearningCurvesDisplay.from_history(HISTORY, ax=given)
    with pytest.raises(TypeError, match="matplotlib Axes, got str"):
        LearningCurvesDisplay.from_history(HISTORY, ax=["a", "b"])


# Embeddings --------------------------------------------------------------------------------------


class Stub(ClassifierMixin, TransformerMixin, BaseEstimator):
    """A classifier by nearest mean whose features are the distances to the means."""

    def __init__(self, collapsed=False):
        self.collapsed = collapsed

    def fit(self, X, y):
        X = np.asarray(X).reshape(len(X), -1)
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == label].mean(axis=0) for label in self.classes_])
        return self

    def transform(self, X):
        X = np.asarray(X).reshape(len(X), -1)
        if self.collapsed:
            return np.ones((len(X), 3))
        return np.linalg.norm(X[:, np.newaxis] - self.means_, axis=-1)

    def predict(self, X):
        return self.classes_[self.transform(X).argmin(axis=1)]


class Doubler(TransformerMixin, BaseEstimator):
    """A transformer of the user's: the first columns, times a factor."""

    def __init__(self, columns=2, factor=2.0):
        self.columns = columns
        self.factor = factor

    def fit_transform(self, X, y=None):
        self.seen_ = len(X)
        return self.factor * X[:, : self.columns]


@pytest.fixture
def images(rng):
    y = np.repeat(["other", "eight", "nine"], [40, 12, 8])
    X = rng.normal(size=(60, 4, 4))
    X[y == "eight", :2] += 1.0
    X[y == "nine", 2:] += 1.0
    return X, y


def test_points_of_each_class_and_their_f1(images):
    X, y = images
    clf = Stub().fit(X, y)
    display = EmbeddingDisplay.from_estimator(clf, X, y, method=Doubler())
    assert display.labels.tolist() == ["eight", "nine", "other"]
    scores = f1_score(y, clf.predict(X), average=None)
    np.testing.assert_allclose(display.class_scores[0], scores)
    assert 0 < scores.min() < scores.max() < 1
    for points, label in zip(display.points_[0], display.labels, strict=True):
        expected = 2 * clf.transform(X)[y == label, :2]
        np.testing.assert_allclose(points.get_offsets(), expected)
    assert texts(display.legends_[0].get_texts()) == [
        f"{label}, F1 {score:.2f}".replace("F1 0.", "F1 .")
        for label, score in zip(display.labels, scores, strict=True)
    ]
    assert display.ax_.get_title() == "Stub"
    assert display.ax_.get_xlabel() == "Doubler 1 (arbitrary units)"
    assert overlaps(display.figure_) == []


def test_rare_classes_lie_on_top(images):
    X, y = images
    display = EmbeddingDisplay.from_estimator(Stub().fit(X, y), X, y, method="pca")
    eight, nine, other = (points.get_zorder() for points in display.points_[0])
    assert other < eight < nine


def test_several_classifiers_side_by_side(images):
    X, y = images
    one, two = Stub().fit(X, y), make_pipeline(FunctionTransformer(), Stub()).fit(X[::2], y[::2])
    three = make_imblearn_pipeline(RandomOverSampler(random_state=0), Stub())
    three.fit(X.reshape(60, -1), y)
    rows = X.reshape(60, -1)
    display = EmbeddingDisplay.from_estimator(
        {"ce": one, "mcc": two, "f1": three, "again": one}, rows, y, method="pca", random_state=0
    )
    assert [ax.get_title() for ax in display.axes_] == ["ce", "mcc", "f1", "again"]
    assert display.figure_.axes == list(display.axes_)
    for clf, scores in zip([one, two, three, one], display.class_scores, strict=True):
        np.testing.assert_allclose(scores, f1_score(y, clf.predict(rows), average=None))
    np.testing.assert_array_equal(display.embeddings[0], display.embeddings[3])
    assert not np.allclose(display.embeddings[0], display.embeddings[1])
    assert overlaps(display.figure_) == []
    listed = EmbeddingDisplay.from_estimator([one, two, one], X, y, method="pca")
    assert listed.names == ["Stub 1", "Pipeline", "Stub 2"]


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_the_same_seed_gives_the_same_embedding(images, method):
    X, y = images
    clf = Stub().fit(X, y)
    one, two = (
        EmbeddingDisplay.from_estimator(clf, X, y, method=method, random_state=3).embeddings[0]
        for _ in range(2)
    )
    assert one.shape == (60, 2)
    np.testing.assert_array_equal(one, two)


def test_every_panel_begins_with_the_same_generator(images):
    class Thrower(TransformerMixin, BaseEstimator):
        def __init__(self, random_state=None):
            self.random_state = random_state

        def fit_transform(self, X, y=None):
            return self.random_state.normal(size=(len(X), 2))

    X, y = images
    features = X.reshape(60, -1)
    one, two = EmbeddingDisplay.from_features(
        {"a": features, "b": features},
        y,
        {"a": y, "b": y},
        method=Thrower(),
        random_state=np.random.RandomState(0),
    ).embeddings
    np.testing.assert_array_equal(one, two)


def test_tsne_without_a_seed_leaves_the_global_generator_alone(images):
    X, y = images
    display = EmbeddingDisplay.from_estimator(Stub().fit(X, y), X, y)
    assert np.isfinite(display.embeddings[0]).all()
    assert display.ax_.get_xlabel() == "t-SNE 1 (arbitrary units)"


def test_perplexity_is_limited_by_the_samples(images):
    X, y = images
    few = np.r_[0, 1, 41, 42]
    clf = Stub().fit(X, y)
    display = EmbeddingDisplay.from_estimator(clf, X[few], y[few], random_state=0)
    assert np.isfinite(display.embeddings[0]).all()
    with pytest.raises(ValueError, match="'tsne' needs at least 4 samples, got 3"):
        EmbeddingDisplay.from_estimator(clf, X[:3], y[:3])
    with pytest.raises(ValueError, match="'pca' needs at least 2 samples, got 1"):
        EmbeddingDisplay.from_estimator(clf, X[:1], y[:1], method="pca")


def test_a_transformer_is_cloned_and_seeded(images):
    X, y = images
    clf = Stub().fit(X, y)
    method = KernelPCA(n_components=2, eigen_solver="randomized", random_state=1)
    display = EmbeddingDisplay.from_estimator(clf, X, y, method=method, random_state=5)
    expected = KernelPCA(n_components=2, eigen_solver="randomized", random_state=5)
    np.testing.assert_allclose(display.embeddings[0], expected.fit_transform(clf.transform(X)))
    assert method.random_state == 1
    assert not hasattr(method, "eigenvalues_")
    with pytest.raises(ValueError, match="Doubler has no such parameter"):
        EmbeddingDisplay.from_estimator(clf, X, y, method=Doubler(), random_state=0)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_collapsed_network_is_one_point(images, method):
    X, y = images
    panels = {"ce": Stub().fit(X, y), "collapsed": Stub(collapsed=True).fit(X, y)}
    display = EmbeddingDisplay.from_estimator(panels, X, y, method=method, random_state=0)
    np.testing.assert_array_equal(display.embeddings[1], np.zeros((60, 2)))
    assert display.embeddings[0].any()
    assert texts(display.legends_[1].get_texts())[1:] == ["nine, F1 .00", "other, F1 .00"]


def test_classes_that_the_test_rows_lack_keep_their_names(images):
    X, y = images
    clf = Stub().fit(X, y)
    rows = (y != "eight") & (clf.predict(X) != "eight")
    display = EmbeddingDisplay.from_estimator(
        clf, X[rows], y[rows], method="pca", display_labels=["8", "9", "rest"]
    )
    shown = texts(display.legends_[0].get_texts())
    assert shown[0] == "8, F1 undefined"
    assert shown[1].startswith("9, F1")
    assert len(display.points_[0][0].get_offsets()) == 0


def test_features_that_exist_already(images):
    X, y = images
    features = X.reshape(60, -1)
    display = EmbeddingDisplay.from_features(features, y, y, method=Doubler())
    np.testing.assert_array_equal(display.embeddings[0], 2 * features[:, :2])
    assert display.ax_.get_title() == ""
    assert texts(display.legends_[0].get_texts()) == [
        "eight, F1 1.00",
        "nine, F1 1.00",
        "other, F1 1.00",
    ]
    many = EmbeddingDisplay.from_features(
        {"a": features, "b": features}, y, {"a": y, "b": y[::-1]}, method="pca"
    )
    assert many.names == ["a", "b"]
    np.testing.assert_allclose(many.class_scores[1], f1_score(y, y[::-1], average=None))
    with pytest.raises(ValueError, match="mappings with the same keys"):
        EmbeddingDisplay.from_features({"a": features}, y, {"b": y})
    with pytest.raises(ValueError, match="mappings with the same keys"):
        EmbeddingDisplay.from_features({"a": features}, y, y)


def test_a_score_does_not_depend_on_the_labels_that_are_shown(images):
    X, y = images
    clf = Stub().fit(X, y)
    display = EmbeddingDisplay.from_estimator(clf, X, y, method="pca", labels=["nine", "eight"])
    expected = f1_score(y, clf.predict(X), average=None, labels=["nine", "eight"])
    np.testing.assert_allclose(display.class_scores[0], expected)


def test_many_classes_with_long_names(rng):
    y = rng.integers(11, size=300)
    features = rng.normal(size=(300, 5)) + y[:, np.newaxis]
    names = [f"colorectal adenocarcinoma {k}" for k in range(11)]
    display = EmbeddingDisplay.from_features(
        {"a": features, "b": features}, y, {"a": y, "b": y}, method="pca", display_labels=names
    )
    styles = {
        (to_hex(points.get_facecolor()[0]), tuple(points.get_paths()[0].vertices.ravel()))
        for points in display.points_[0]
    }
    assert len(styles) == 11
    assert overlaps(display.figure_) == []


def test_embeddings_on_given_axes(images):
    X, y = images
    clf = Stub().fit(X, y)
    axes = Figure(layout="constrained").subplots(1, 2)
    before = plt.get_fignums()
    display = EmbeddingDisplay.from_estimator([clf, clf], X, y, method="pca", ax=axes)
    assert list(display.axes_) == list(axes)
    assert plt.get_fignums() == before
    with pytest.raises(ValueError, match="1 axes, got 2"):
        EmbeddingDisplay.from_estimator(clf, X, y, method="pca", ax=axes)


class Untouched(Stub):
    """Fails the test that lets it compute."""

    def transform(self, X):
        raise AssertionError("computed before the input was checked")

    predict = transform


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": ["eight"] * 59}, ValueError, "inconsistent numbers of samples"),
        ({"y": [1] * 60}, ValueError, "Mix of label input types"),
        ({"y": []}, ValueError, "at least one label"),
        ({"y": np.linspace(0, 1, 60)}, ValueError, "Unknown label type: continuous"),
        ({"method": "umap"}, ValueError, r"'umap' is not known; known are \['tsne', 'pca'\]"),
        ({"method": Doubler}, TypeError, "instance of a transformer"),
        ({"method": 3}, TypeError, "instance of a transformer"),
        ({"random_state": "seed"}, ValueError, "seed"),
        ({"display_labels": ["a", "b"]}, ValueError, r"3 classes .* got 2 names"),
        ({"labels": ["nine", "nine"]}, ValueError, "distinct labels"),
        ({"ax": "axes"}, TypeError, "matplotlib Axes"),
        ({"estimator": Untouched()}, NotFittedError, "not fitted"),
        ({"estimator": LogisticRegression()}, TypeError, "LogisticRegression has no transform"),
        ({"estimator": FunctionTransformer()}, TypeError, "has no predict"),
        ({"estimator": {}}, ValueError, "at least one classifier"),
        ({"estimator": []}, ValueError, "at least one classifier"),
    ],
)
def test_embeddings_refuse_before_they_compute(images, change, error, message):
    X, y = images
    options = {"estimator": Untouched().fit(X, y), "X": X, "y": y, **change}
    with pytest.raises(error, match=message):
        EmbeddingDisplay.from_estimator(**options)
    assert plt.get_fignums() == []


def test_features_that_cannot_be_embedded(images):
    X, y = images
    features = X.reshape(60, -1)
    with pytest.raises(ValueError, match="at least 2 features, got 1"):
        EmbeddingDisplay.from_features(features[:, :1], y, y)
    with pytest.raises(ValueError, match="features contains NaN"):
        EmbeddingDisplay.from_features(np.where(features > 1, np.nan, features), y, y)
    with pytest.raises(ValueError, match=r"gave shape \(60, 3\) .*n_components=2"):
        EmbeddingDisplay.from_features(features, y, y, method=Doubler(columns=3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        EmbeddingDisplay.from_features(features, y, y[1:])
    with pytest.raises(ValueError, match="at least one panel"):
        EmbeddingDisplay.from_features({}, y, {})


# Studies -----------------------------------------------------------------------------------------


class Estimate(NamedTuple):
    loss: str
    sampler: object
    n_fits: int
    mean: float
    std: float
    low: float
    high: float


class Difference(NamedTuple):
    loss: str
    sampler: object
    reference: str
    mean: float
    low: float
    high: float
    p_value: float


class Study:
    """The public interface of a study, with made-up scores."""

    scoring = "balanced_accuracy"
    class_names = ("healthy", "ill")
    score_names = ("balanced_accuracy", "log_loss", "f1[healthy]", "f1[ill]")

    #: (loss, sampler): (mean, half the interval, p-value of the difference to "ce")
    rows: ClassVar = {
        ("ce", None): (0.60, 0.05, None),
        ("ce+mcc", None): (0.70, 0.04, 0.01),
        ("wce", None): (0.66, 0.03, 0.2),
        ("mcc", None): (0.50, np.nan, np.nan),
        ("ce", "balanced"): (0.72, 0.02, None),
        ("ce+mcc", "balanced"): (0.71, 0.02, 0.6),
        ("wce", "balanced"): (0.73, 0.02, 0.049),
        ("ce", "stratified"): (0.65, 0.02, None),
        ("LossMix(ce=1, mcc=0.5)", "stratified"): (0.64, 0.02, 0.05),
    }

    def greater_is_better(self, score):
        return score != "log_loss"

    def estimates(self, score=None):
        shift = 0.1 * self.score_names.index(self.scoring if score is None else score)
        return [
            Estimate(loss, sampler, 5, m + shift, 0.1, m + shift - half, m + shift + half)
            for (loss, sampler), (m, half, _) in self.rows.items()
        ]

    def differences(self, score=None):
        return [
            Difference(loss, sampler, "ce", d := m - self.rows["ce", sampler][0], d - w, d + w, p)
            for (loss, sampler), (m, w, p) in self.rows.items()
            if loss != "ce"
        ]


def test_configurations_by_score_at_the_same_sampling():
    display = LossStudyDisplay.from_study(Study())
    assert texts(display.ax_.get_yticklabels()) == [
        *("uniform", "ce+mcc", "ce", "mcc"),
        *("uniform + weights", "wce"),
        *("balanced", "wce", "ce", "ce+mcc"),
        *("stratified", "ce", "LossMix(ce=1, mcc=0.5)"),
    ]
    bold = [t.get_text() for t in display.ax_.get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == ["uniform", "uniform + weights", "balanced", "stratified"]
    points = {key: (*line.get_xdata(), *line.get_ydata()) for key, line in display.points_.items()}
    assert points == {
        ("ce+mcc", "uniform"): (0.70, 1),
        ("ce", "uniform"): (0.60, 2),
        ("mcc", "uniform"): (0.50, 3),
        ("wce", "uniform + weights"): (0.66, 5),
        ("wce", "balanced"): (0.73, 7),
        ("ce", "balanced"): (0.72, 8),
        ("ce+mcc", "balanced"): (0.71, 9),
        ("ce", "stratified"): (0.65, 11),
        ("LossMix(ce=1, mcc=0.5)", "stratified"): (0.64, 12),
    }
    interval = display.intervals_["ce", "uniform"]
    np.testing.assert_allclose(interval.get_xdata(), [0.55, 0.65])
    np.testing.assert_array_equal(interval.get_ydata(), [2, 2])
    assert np.isnan(display.intervals_["mcc", "uniform"].get_xdata()).all()
    # The line of a group stands at the reference of its own sampler.
    lines = [(line.get_xdata()[0], *line.get_ydata()) for line in display.references_]
    assert lines == [(0.60, 0.5, 3.5), (0.60, 4.5, 5.5), (0.72, 6.5, 9.5), (0.65, 10.5, 12.5)]
    assert (
        display.ax_.get_xlabel() == "balanced accuracy (higher is better)\nmean and 95 % interval"
    )
    assert texts(display.legend_.get_texts()) == ["reference (ce)\nat the same sampling"]
    assert overlaps(display.figure_) == []


def test_the_best_is_on_top_where_low_is_good():
    display = LossStudyDisplay.from_study(Study(), scoring="log_loss")
    assert texts(display.ax_.get_yticklabels())[:4] == ["uniform", "mcc", "ce", "ce+mcc"]
    assert "lower is better" in display.ax_.get_xlabel()
    np.testing.assert_allclose(display.points_["mcc", "uniform"].get_xdata(), [0.6])


def test_differences_to_the_reference():
    display = LossStudyDisplay.from_study(Study(), kind="differences")
    assert list(display.points_) == [
        ("ce+mcc", "uniform"),
        ("mcc", "uniform"),
        ("wce", "uniform + weights"),
        ("wce", "balanced"),
        ("ce+mcc", "balanced"),
        ("LossMix(ce=1, mcc=0.5)", "stratified"),
    ]
    point = display.points_["ce+mcc", "uniform"]
    np.testing.assert_allclose(point.get_xdata(), [0.1])
    np.testing.assert_allclose(
        display.intervals_["ce+mcc", "uniform"].get_xdata(), [0.1 - 0.04, 0.1 + 0.04]
    )
    filled = {key for key, line in display.points_.items() if line.get_markerfacecolor() != "white"}
    assert filled == {("ce+mcc", "uniform"), ("wce", "balanced")}
    (zero,) = display.references_
    assert set(zero.get_xdata()) == {0}
    assert texts(display.legend_.get_texts())[1] == "p < 0.05"
    assert overlaps(display.figure_) == []
    # The other kind gives each group the same colour and marker.
    colors = {key: line.get_color() for key, line in display.points_.items()}
    display.plot("scores")
    assert colors == {key: display.points_[key].get_color() for key in colors}


def test_groups_differ_in_more_than_colour():
    points = LossStudyDisplay.from_study(Study()).points_
    markers = {sampling: line.get_marker() for (_, sampling), line in points.items()}
    assert len(set(markers.values())) == len(markers) == 4


def test_intervals_are_solid_whatever_the_style():
    style = {"axes.prop_cycle": cycler(linestyle=[":", "--"])}
    with matplotlib.rc_context(style):
        display = LossStudyDisplay.from_study(Study())
    assert {line.get_linestyle() for line in display.intervals_.values()} == {"-"}


def test_a_study_of_one_loss_has_no_reference():
    display = LossStudyDisplay([Estimate("ce", "uniform", 1, 0.5, np.nan, np.nan, np.nan)], [])
    display.plot()
    assert display.references_ == []
    assert texts(display.legend_.get_texts()) == []
    with pytest.raises(ValueError, match="differences need a second loss"):
        display.plot("differences")


def test_a_study_on_given_axes():
    ax = Figure(layout="constrained").subplots()
    display = LossStudyDisplay.from_study(Study(), ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert plt.get_fignums() == []


class Unasked(Study):
    """Fails the test that lets it compute."""

    def estimates(self, score=None):
        raise AssertionError("computed before the input was checked")

    differences = estimates


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scoring": "auc"}, ValueError, r"'auc' is not known; known are \['balanced_accuracy',"),
        ({"kind": "bars"}, ValueError, r"known are \['scores', 'differences'\]"),
        ({"ax": "axes"}, TypeError, "matplotlib Axes"),
        ({"study": LogisticRegression()}, TypeError, "LogisticRegression has no scoring"),
    ],
)
def test_studies_that_cannot_be_drawn(options, error, message):
    with pytest.raises(error, match=message):
        LossStudyDisplay.from_study(**{"study": Unasked(), **options})
    assert plt.get_fignums() == []


# Scores of classes -------------------------------------------------------------------------------


def rows_of(n=(60, 20, 8), seed=0):
    rng = np.random.default_rng(seed)
    y_true = np.repeat(["a", "b", "c"], n)
    y_pred = np.where(
        rng.random(len(y_true)) < 0.3, rng.choice(["a", "b", "c"], len(y_true)), y_true
    )
    return y_true, y_pred


def test_f1_scores_with_intervals():
    y_true, y_pred = rows_of()
    display = ClassScoresDisplay.from_predictions(y_true, y_pred, random_state=0)
    expected = f1_score(y_true, y_pred, average=None)
    np.testing.assert_allclose(display.scores, [expected])
    assert (display.low < display.scores).all()
    assert (display.scores < display.high).all()
    (points,) = display.points_
    np.testing.assert_array_equal(points.get_xdata(), display.scores[0])
    np.testing.assert_array_equal(points.get_ydata(), [0, 1, 2])
    ends = np.array([segment[:, 0] for segment in display.intervals_[0].get_segments()])
    np.testing.assert_array_equal(ends, np.stack([display.low[0], display.high[0]], axis=1))
    assert texts(display.ax_.get_yticklabels()) == ["a", "b", "c"]
    assert display.ax_.get_xlabel() == "F1 (dimensionless) with 95 % interval"
    assert display.legend_ is None
    assert overlaps(display.figure_) == []


def test_the_bootstrap_is_that_of_rows_within_classes():
    y_true, y_pred = rows_of()
    display = ClassScoresDisplay.from_predictions(
        y_true, y_pred, n_bootstraps=4000, confidence_level=0.8, random_state=0
    )
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(1000):
        rows = np.concatenate(
            [
                rng.choice(np.flatnonzero(y_true == label), (y_true == label).sum())
                for label in "abc"
            ]
        )
        drawn.append(f1_score(y_true[rows], y_pred[rows], average=None))
    low, high = np.quantile(drawn, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(display.low[0], low, atol=0.02)
    np.testing.assert_allclose(display.high[0], high, atol=0.02)
    assert "80 %" in display.ax_.get_xlabel()


def test_the_bootstrap_is_reproducible():
    one, two = (ClassScoresDisplay.from_predictions(*rows_of(), random_state=7) for _ in range(2))
    np.testing.assert_array_equal(one.low, two.low)
    # Without a seed the fixture sees that the global generator stays as it is.
    assert ClassScoresDisplay.from_predictions(*rows_of()).low.shape == (1, 3)


def test_perfect_predictions_have_no_spread():
    y_true, _ = rows_of()
    display = ClassScoresDisplay.from_predictions(y_true, y_true)
    for values in (display.scores, display.low, display.high):
        np.testing.assert_array_equal(values, [[1, 1, 1]])


def test_classes_without_rows_have_no_interval():
    display = ClassScoresDisplay.from_predictions(
        [0, 0, 0, 1, 1], [2, 2, 2, 1, 1], labels=[1, 2, 3], display_labels=["one", "two", "three"]
    )
    np.testing.assert_array_equal(display.scores, [[1, 0, np.nan]])
    for ends in (display.low, display.high):
        np.testing.assert_array_equal(ends, [[1, np.nan, np.nan]])
    assert texts(display.ax_.get_yticklabels()) == ["one", "two", "three"]


def test_scores_of_an_estimator(images):
    X, y = images
    clf = Stub().fit(X, y)
    display = ClassScoresDisplay.from_estimator(clf, X, y, random_state=0, name="stub")
    expected = ClassScoresDisplay.from_predictions(y, clf.predict(X), random_state=0)
    np.testing.assert_array_equal(display.scores, expected.scores)
    np.testing.assert_array_equal(display.high, expected.high)
    assert texts(display.legend_.get_texts()) == ["stub"]
    few = ClassScoresDisplay.from_estimator(clf, X[:40], y[:40])
    assert few.display_labels == ["eight", "nine", "other"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": ["eight"] * 59}, ValueError, "inconsistent numbers of samples"),
        ({"y": [1] * 60}, ValueError, "Mix of label input types"),
        ({"estimator": Untouched()}, NotFittedError, "not fitted"),
        ({"estimator": FunctionTransformer()}, TypeError, "with predict, got FunctionTransformer"),
        ({"n_bootstraps": 0}, ValueError, "n_bootstraps must be an integer of at least 1, got 0"),
        ({"n_bootstraps": 1.5}, ValueError, "n_bootstraps .* got 1.5"),
        ({"confidence_level": 95}, ValueError, "between 0 and 1, both excluded, got 95"),
        ({"confidence_level": "high"}, ValueError, "got 'high'"),
        ({"display_labels": "ab"}, ValueError, "got 2 names"),
        ({"ax": "axes"}, TypeError, "matplotlib Axes"),
    ],
)
def test_scores_refuse_before_they_compute(images, change, error, message):
    X, y = images
    options = {"estimator": Untouched().fit(X, y), "X": X, "y": y, **change}
    with pytest.raises(error, match=message):
        ClassScoresDisplay.from_estimator(**options)
    assert plt.get_fignums() == []


def test_predictions_that_are_no_labels():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ClassScoresDisplay.from_predictions([0, 1, 1], [0, 1])
    with pytest.raises(ValueError, match="at least one label"):
        ClassScoresDisplay.from_predictions([], [])
    with pytest.raises(ValueError, match="y_pred contains NaN"):
        ClassScoresDisplay.from_predictions([0, 1], [0, np.nan])
    with pytest.raises(ValueError, match="Mix of label input types"):
        ClassScoresDisplay.from_predictions([0, 1], ["0", "1"])


def test_classes_of_a_study_by_reference_and_best():
    display = ClassScoresDisplay.from_study(Study())
    assert display.names == [
        "ce, uniform",
        "ce+mcc, uniform",
        "ce, balanced",
        "wce, balanced",
        "ce, stratified",
    ]
    np.testing.assert_allclose(display.scores[1], [0.9, 1.0])
    np.testing.assert_allclose(display.low[1], [0.86, 0.96])
    np.testing.assert_allclose(display.high[1], [0.94, 1.04])
    assert texts(display.ax_.get_yticklabels()) == ["healthy", "ill"]
    assert texts(display.legend_.get_texts()) == display.names
    assert len({line.get_marker() for line in display.points_}) == 5
    # Within the row of a class the configurations stand below each other.
    rows = np.array([line.get_ydata() for line in display.points_])
    assert (np.diff(rows, axis=0) > 0).all()
    assert (abs(rows - [0, 1]) < 0.5).all()
    assert overlaps(display.figure_) == []


def test_the_best_of_a_study_may_be_the_lowest():
    study = Study()
    study.scoring = "log_loss"
    assert ClassScoresDisplay.from_study(study).names[:2] == ["ce, uniform", "mcc, uniform"]


def test_at_most_six_configurations_unless_they_are_named():
    class Large(Study):
        rows: ClassVar = {
            (loss, f"sampler {i}"): (mean, 0.1, 0.5)
            for i in range(4)
            for loss, mean in [("ce", 0.5), ("mcc", 0.6)]
        }

    assert len(ClassScoresDisplay.from_study(Large()).names) == 6
    named = ClassScoresDisplay.from_study(Large(), list(Large.rows))
    assert named.scores.shape == (8, 2)


def test_named_configurations_of_a_study():
    pairs = [("wce", "balanced"), ("ce", None), ("ce+mcc", "uniform")]
    display = ClassScoresDisplay.from_study(Study(), pairs)
    assert display.names == ["wce, balanced", "ce, uniform", "ce+mcc, uniform"]
    np.testing.assert_allclose(display.scores[:, 1], [1.03, 0.9, 1.0])


def test_configurations_that_a_study_lacks():
    with pytest.raises(ValueError, match=r"\('f1', 'uniform'\) is not known; known are"):
        ClassScoresDisplay.from_study(Study(), [("f1", None)])
    with pytest.raises(ValueError, match="at least one"):
        ClassScoresDisplay.from_study(Study(), [])
    study = Study()
    study.class_names = ("healthy", "very ill")
    with pytest.raises(ValueError, match=r"'f1\[very ill\]' is not known"):
        ClassScoresDisplay.from_study(study)
    with pytest.raises(TypeError, match="has no scoring"):
        ClassScoresDisplay.from_study(object())
    assert plt.get_fignums() == []


def test_a_real_classifier_and_a_real_study(images):
    X, y = images
    clf = CNN2DClassifier(max_epochs=1, random_state=0).fit(X, y)
    display = EmbeddingDisplay.from_estimator(
        clf, X, y, method=FunctionTransformer(lambda features: features[:, :2])
    )
    features = clf.transform(X)
    for points, label in zip(display.points_[0], clf.classes_, strict=True):
        np.testing.assert_allclose(points.get_offsets(), features[y == label, :2])
    study = compare_losses(
        X, y, losses=["ce", "f1"], estimator=clf, cv=2, random_state=0, verbose=0
    )
    drawn = study.plot()
    assert drawn.ax_.get_xlabel().startswith("balanced accuracy")
    shown = {(row.loss, row.sampler): row.mean for row in study.estimates()}
    assert {(row.loss, row.sampler): row.mean for row in drawn.estimates} == shown
    classes = ClassScoresDisplay.from_study(study)
    assert list(classes.display_labels) == study.class_names
