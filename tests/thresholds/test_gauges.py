import warnings

import numpy as np
import pytest
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import make_scorer

from skimbal.thresholds import mean_cost
from skimbal.thresholds.gauges import ScorerGauge, fast_gauge

COSTS = np.array([[0, 1, 4], [2, -1, 3], [9, 5, 0]])
CLASSES = np.array(["a", "b", "c"])
METRICS = {
    "accuracy": (metrics.accuracy_score, {}),
    "balanced_accuracy": (metrics.balanced_accuracy_score, {}),
    "mcc": (metrics.matthews_corrcoef, {}),
    "kappa": (metrics.cohen_kappa_score, {}),
    "f1_macro": (metrics.f1_score, {"average": "macro"}),
    "f1_weighted": (metrics.f1_score, {"average": "weighted"}),
    "f2_macro": (metrics.fbeta_score, {"average": "macro", "beta": 2}),
    "precision_macro": (metrics.precision_score, {"average": "macro", "zero_division": 0}),
    "recall_weighted": (metrics.recall_score, {"average": "weighted"}),
    "jaccard_macro": (metrics.jaccard_score, {"average": "macro"}),
    "costs": (mean_cost, {"cost_matrix": COSTS}),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_closed_forms_are_the_metrics_of_scikit_learn(name, weighted):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [12, 6, 3])
    weight = rng.uniform(0.5, 2, len(y)) if weighted else None
    function, options = METRICS[name]
    scorer = make_scorer(function, greater_is_better=name != "costs", **options)

    def call(predicted):
        score = function(CLASSES[y], CLASSES[predicted], sample_weight=weight, **options)
        return -score if name == "costs" else score

    fast, slow = fast_gauge(scorer, y, CLASSES, weight), ScorerGauge(call)
    assert not isinstance(fast, ScorerGauge | None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        for k in range(3):
            others = [c for c in range(3) if c != k]
            before = rng.choice(others, size=len(y))
            order = rng.permutation(len(y))
            counts = np.array([0, 1, 2, 2, 7, len(y)])
            np.testing.assert_allclose(
                fast.along(before, order, k, counts),
                slow.along(before, order, k, counts),
                atol=1e-12,
            )
            assert fast.at(before) == pytest.approx(slow.at(before))
        one_class = np.zeros(len(y), int)
        assert fast.at(one_class) == pytest.approx(slow.at(one_class))


@pytest.mark.parametrize(
    "scorer",
    [
        make_scorer(metrics.f1_score, average="macro", labels=["a"]),
        make_scorer(metrics.f1_score, average="macro", zero_division=1),
        make_scorer(metrics.accuracy_score, normalize=False),
        make_scorer(metrics.cohen_kappa_score, weights="linear"),
        make_scorer(metrics.hamming_loss, greater_is_better=False),
        make_scorer(metrics.f1_score, greater_is_better=False),
        lambda estimator, X, y: 0.0,
    ],
)
def test_other_scorers_have_no_closed_form(scorer):
    assert fast_gauge(scorer, np.array([0, 1, 2]), CLASSES, None) is None
