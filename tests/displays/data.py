"""Classifiers and studies with made-up numbers, and checks of a picture."""

import itertools
from typing import ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin


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


class Untouched(Stub):
    """Fails the test that lets it compute."""

    def transform(self, X):
        raise AssertionError("computed before the input was checked")

    predict = transform


class Configuration(NamedTuple):
    loss: str
    sampler: str
    sampling: str


class Estimate(NamedTuple):
    loss: str
    sampler: str
    n_fits: int
    mean: float
    std: float
    low: float
    high: float


class Difference(NamedTuple):
    loss: str
    sampler: str
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
        ("ce", "uniform"): (0.60, 0.05, None),
        ("ce+mcc", "uniform"): (0.70, 0.04, 0.01),
        ("wce", "uniform"): (0.66, 0.03, 0.2),
        ("mcc", "uniform"): (0.50, np.nan, np.nan),
        ("ce", "balanced"): (0.72, 0.02, None),
        ("ce+mcc", "balanced"): (0.71, 0.02, 0.6),
        ("wce", "balanced"): (0.73, 0.02, 0.049),
        ("ce", "stratified"): (0.65, 0.02, None),
        ("LossMix(ce=1, mcc=0.5)", "stratified"): (0.64, 0.02, 0.05),
    }

    @property
    def configurations(self):
        weighted = {("wce", "uniform"): "uniform + weights"}
        return [Configuration(*pair, weighted.get(pair, pair[1])) for pair in self.rows]

    def class_scores(self):
        return {name: f"f1[{name}]" for name in self.class_names}

    def title(self, score=None):
        return (score or self.scoring).replace("_", " ")

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
