import numpy as np
import pytest
import sklearn.metrics as metrics
import torch
from sklearn.model_selection import (
    StratifiedKFold,
)
from torch import nn

from skimbal.exceptions import DivergenceError, NonFinitePredictionError
from tests.study.data import PAIR, compare, made_up, quick


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_those_of_scikit_learn(small, n_classes):
    X, y = small
    X, y = X[y < n_classes], y[y < n_classes]
    (train, test), *_ = StratifiedKFold(2).split(X, y)
    study = compare(X, y, cv=[(train, test)], losses=["ce+mcc"])
    (fit,) = study.fits
    model = quick(random_state=fit.seed).fit(X[train], y[train])
    p, predicted = model.predict_proba(X[test]).astype(float), model.predict(X[test])
    truth = y[test]
    p /= p.sum(1, keepdims=True)
    ovr = p[:, 1] if n_classes == 2 else p
    rarest = 1
    expected = {
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
        "f1_macro": metrics.f1_score(truth, predicted, average="macro"),
        "matthews_corrcoef": metrics.matthews_corrcoef(truth, predicted),
        "roc_auc_ovr": metrics.roc_auc_score(truth, ovr, multi_class="ovr"),
        "average_precision_rarest": metrics.average_precision_score(truth == rarest, p[:, rarest]),
        "log_loss": metrics.log_loss(truth, p),
        "brier_score": metrics.brier_score_loss(truth, ovr),
    }
    of_classes = metrics.f1_score(truth, predicted, average=None)
    expected |= {f"f1[{k}]": score for k, score in enumerate(of_classes)}
    assert fit.scores == pytest.approx(expected)
    assert fit.confusion_matrix == metrics.confusion_matrix(truth, predicted).tolist()


@pytest.mark.parametrize(
    ("scoring", "name"),
    [
        ("log_loss", "log_loss"),
        ("f1[1]", "f1[1]"),
        ("neg_brier_score", "neg_brier_score"),
        (lambda estimator, X, y: len(y) / 100, "score"),
    ],
)
def test_scoring_ranks(small, scoring, name):
    study = compare(*small, losses=PAIR, scoring=scoring)
    assert study.scoring == study.score_names[0] == name
    means = [estimate.mean for estimate in study.estimates()]
    best = min(means) if name == "log_loss" else max(means)
    assert study.best.mean == best
    assert study.greater_is_better(name) == (name != "log_loss")
    assert len(study.score_names) == len(set(study.score_names))


class Diverged(nn.Module):
    """A network that predicts NaN as soon as it has learnt something."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, x):
        has_learnt = not self.training and self.bias.any()
        pixels = x.flatten(1).sum(1, keepdim=True)
        return self.bias + pixels * (np.nan if has_learnt else 0)


def test_diverged_networks_are_named(small):
    with pytest.raises(NonFinitePredictionError, match=r"NaN or infinity for row 0"):
        compare(*small, losses=["ce"], estimator=quick(module=Diverged))
    with pytest.raises(DivergenceError, match=r"epoch 1 with loss 'ce' and lr=1e\+30"):
        compare(*small, losses=["ce"], estimator=quick(lr=1e30))


@pytest.mark.slow
def test_diverged_networks_of_workers_are_named(small):
    with pytest.raises(DivergenceError, match=r"epoch 1 with loss 'ce' and lr=1e\+30"):
        compare(*small, losses=["ce"], estimator=quick(lr=1e30), n_jobs=2)


def test_unknown_score_lists_known_ones():
    study = made_up({("ce", "x", None): [0.5]})
    for method in (study.estimates, study.differences, study.scores, study.greater_is_better):
        with pytest.raises(ValueError, match=r"score must be one of balanced.* got 'auc'"):
            method("auc")
