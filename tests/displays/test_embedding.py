"""Embeddings: the data in the artists, and refused input."""

import numpy as np
import pytest
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import KernelPCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skimbal.displays import EmbeddingDisplay
from tests.displays.data import Stub, Untouched, overlaps, texts


class Doubler(TransformerMixin, BaseEstimator):
    """A transformer of the user's: the first columns, times a factor."""

    def __init__(self, columns=2, factor=2.0):
        self.columns = columns
        self.factor = factor

    def fit_transform(self, X, y=None):
        self.seen_ = len(X)
        return self.factor * X[:, : self.columns]


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
    with pytest.raises(ValueError, match=r"method .*3 samples.*'tsne'.* 4"):
        EmbeddingDisplay.from_estimator(clf, X[:3], y[:3])
    with pytest.raises(ValueError, match=r"method .*1 sample.*'pca'.* 2"):
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
    with pytest.raises(ValueError, match=r"random_state .*Doubler.* 0"):
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
    with pytest.raises(ValueError, match=r"features and y_pred .*'a'"):
        EmbeddingDisplay.from_features({"a": features}, y, {"b": y})
    with pytest.raises(ValueError, match=r"features and y_pred .*'a'"):
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
    with pytest.raises(ValueError, match=r"ax .*1.* 2"):
        EmbeddingDisplay.from_estimator(clf, X, y, method="pca", ax=axes)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": ["eight"] * 59}, ValueError, "inconsistent numbers of samples"),
        ({"y": [1] * 60}, ValueError, "Mix of label input types"),
        ({"y": []}, ValueError, r"y .*\[\]"),
        ({"y": np.linspace(0, 1, 60)}, ValueError, "Unknown label type: continuous"),
        ({"method": "umap"}, ValueError, "method .*'tsne', 'pca'.*'umap'"),
        ({"method": Doubler}, TypeError, "method .*class.*Doubler"),
        ({"method": 3}, TypeError, "method .*3"),
        ({"random_state": "seed"}, ValueError, "seed"),
        ({"display_labels": ["a", "b"]}, ValueError, r"display_labels .*nine.*'a', 'b'"),
        ({"labels": ["nine", "nine"]}, ValueError, "labels .*'nine', 'nine'"),
        ({"ax": "axes"}, TypeError, "ax .*'axes'"),
        ({"estimator": Untouched()}, NotFittedError, "not fitted"),
        (
            {"estimator": LogisticRegression()},
            TypeError,
            "estimator .*LogisticRegression.*transform",
        ),
        (
            {"estimator": FunctionTransformer()},
            TypeError,
            "estimator .*FunctionTransformer.*predict",
        ),
        ({"estimator": {}}, ValueError, "estimator .*{}"),
        ({"estimator": []}, ValueError, r"estimator .*\[\]"),
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
    with pytest.raises(ValueError, match=r"features .*2.*\(60, 1\)"):
        EmbeddingDisplay.from_features(features[:, :1], y, y)
    with pytest.raises(ValueError, match="features contains NaN"):
        EmbeddingDisplay.from_features(np.where(features > 1, np.nan, features), y, y)
    with pytest.raises(ValueError, match=r"method .*\(60, 3\).*Doubler"):
        EmbeddingDisplay.from_features(features, y, y, method=Doubler(columns=3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        EmbeddingDisplay.from_features(features, y, y[1:])
    with pytest.raises(ValueError, match=r"features .*{}"):
        EmbeddingDisplay.from_features({}, y, {})
