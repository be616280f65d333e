import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import cross_val_score

from skimbal import CNN2DClassifier
from skimbal.exceptions import ParameterError
from skimbal.thresholds import CostMatrixClassifier, PriorCorrectedClassifier, mean_cost
from tests.thresholds.data import blobs

X, CODES = blobs(300, [0.6, 0.3, 0.1])
NAMES = np.array(["normal", "benign", "malign"])
Y = NAMES[CODES]
#: In the order of the sorted names: benign, malign, normal.
ARRAY = np.array([[0, 2, 1], [10, 0, 20], [1, 3, 0]])
PAIRS = {
    ("benign", "malign"): 2,
    ("benign", "normal"): 1,
    ("malign", "benign"): 10,
    ("malign", "normal"): 20,
    ("normal", "benign"): 1,
    ("normal", "malign"): 3,
}
ORDER = ["normal", "malign", "benign"]
FRAME = pd.DataFrame(ARRAY, sorted(NAMES), sorted(NAMES)).loc[ORDER, ORDER]


@pytest.mark.parametrize("costs", [ARRAY, PAIRS, FRAME, ARRAY.tolist()])
def test_costs_mean_the_same_in_each_form(costs):
    clf = CostMatrixClassifier(LogisticRegression(), cost_matrix=costs).fit(X, Y)
    np.testing.assert_array_equal(clf.costs_, ARRAY)
    expected = clf.predict_proba(X) @ ARRAY
    np.testing.assert_allclose(clf.expected_costs(X), expected)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[expected.argmin(1)])
    np.testing.assert_allclose(clf.decision_function(X), -expected)


def test_zero_one_costs_change_nothing_and_high_costs_find_the_class():
    plain = LogisticRegression().fit(X, Y)
    zero_one = CostMatrixClassifier(plain, cost_matrix="zero_one")
    np.testing.assert_array_equal(zero_one.predict(X), plain.predict(X))
    costly = CostMatrixClassifier(plain, cost_matrix=PAIRS).predict(X)
    assert (costly == "malign").sum() > (plain.predict(X) == "malign").sum()
    assert mean_cost(Y, costly, cost_matrix=PAIRS) < mean_cost(
        Y, plain.predict(X), cost_matrix=PAIRS
    )


def test_two_classes_decide_at_the_threshold_of_elkan():
    y = CODES == 1
    costs = {(True, False): 9, (False, True): 1}
    clf = CostMatrixClassifier(LogisticRegression(), cost_matrix=costs).fit(X, y)
    np.testing.assert_array_equal(clf.predict(X), clf.predict_proba(X)[:, 1] > 0.1)
    np.testing.assert_array_equal(clf.decision_function(X) > 0, clf.predict(X))


def without(pair):
    return {key: cost for key, cost in PAIRS.items() if key != pair}


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        (without(("malign", "benign")), r"Missing: \('malign', 'benign'\)"),
        ({**PAIRS, ("malign", "cyst"): 1}, r"Unknown: \('malign', 'cyst'\)"),
        ({**PAIRS, ("malign", "benign"): "much"}, "finite numbers"),
        ({**PAIRS, ("malign", "malign"): 10}, "'malign', the decision 'benign' costs 10"),
        (ARRAY[:2], r"shape \(3, 3\), with a row for each true class of \['benign'"),
        (ARRAY.T * np.nan, "finite"),
        ([["a"] * 3] * 3, "numbers of shape"),
        (1 - ARRAY, "larger for a wrong decision"),
        (FRAME.rename(index={"malign": "cyst"}), "cyst"),
        (pd.concat([FRAME, FRAME.iloc[:1]]), "a DataFrame with the classes"),
        (FRAME.astype(object).replace(20, "much"), "numbers of shape"),
        ("balanced", "must be"),
        (3.0, "must be"),
    ],
)
def test_costs_that_do_not_fit_are_refused(costs, words):
    with pytest.raises(ParameterError, match=words) as caught:
        CostMatrixClassifier(LogisticRegression(), cost_matrix=costs).fit(X, Y)
    assert caught.value.parameter == "cost_matrix"


def test_mean_cost_by_hand_and_as_a_scorer():
    costs = {("ill", "well"): 5, ("well", "ill"): 1}
    assert mean_cost(["ill", "well"], ["well", "well"], cost_matrix=costs) == 2.5
    weighted = mean_cost(["ill", "well"], ["well", "ill"], cost_matrix=costs, sample_weight=[3, 1])
    assert weighted == 4
    array = [[0, 5], [1, 0]]
    assert mean_cost(["ill"], ["well"], cost_matrix=array, labels=["ill", "well"]) == 5
    with pytest.raises(ValueError, match="'cyst'"):
        mean_cost(["cyst"], ["well"], cost_matrix=costs)
    scorer = make_scorer(mean_cost, greater_is_better=False, cost_matrix=PAIRS)
    scorer = pickle.loads(pickle.dumps(scorer))
    assert (cross_val_score(LogisticRegression(), X, Y, scoring=scorer) <= 0).all()


def test_probabilities_of_balanced_batches_warn():
    rng = np.random.default_rng(0)
    y = np.repeat(["rare", "usual"], [16, 48])
    images = rng.normal(size=(64, 8, 8)).astype("float32")
    costs = {("rare", "usual"): 5, ("usual", "rare"): 1}
    net = CNN2DClassifier(module="small", max_epochs=1, augment=None, random_state=0)
    direct = CostMatrixClassifier(net, cost_matrix=costs)
    with pytest.warns(UserWarning, match=r"\[0.25, 0.75\].*refer to \[0.5, 0.5\]"):
        direct.fit(images, y)
    fitted = direct.estimator_
    scaled = CalibratedClassifierCV(FrozenEstimator(fitted), method="temperature").fit(images, y)
    for estimator in (fitted, scaled):
        with pytest.warns(UserWarning, match="not risks"):
            CostMatrixClassifier(estimator, cost_matrix=costs).predict(images)
    # None of these warns.
    risks = PriorCorrectedClassifier(net).fit(images, y)
    CostMatrixClassifier(risks, cost_matrix=costs).predict(images)
    CostMatrixClassifier(net.set_params(sampler="uniform"), cost_matrix=costs).fit(images, y)


def test_a_frame_of_text_is_no_frame_of_numbers():
    frame = pd.DataFrame(ARRAY, ["0", "1", "2"], ["0", "1", "2"])
    with pytest.raises(ParameterError, match=r"a DataFrame with the classes \[0, 1, 2\]"):
        CostMatrixClassifier(LogisticRegression(), cost_matrix=frame).fit(X, CODES)


def test_class_weights_and_unknown_priors_warn():
    weighted = LogisticRegression(class_weight="balanced")
    with pytest.warns(UserWarning, match=r"0\.6\].*refer to \[0.333, 0.333, 0.333\]"):
        CostMatrixClassifier(weighted, cost_matrix=PAIRS).fit(X, Y)
    # Calibration moves the prior to the labels.
    calibrated = CalibratedClassifierCV(weighted, method="sigmoid", cv=2)
    CostMatrixClassifier(calibrated, cost_matrix=PAIRS).fit(X, Y)
    net = CNN2DClassifier(
        "ce+mcc", sampler="uniform", module="small", augment=None, max_epochs=0, random_state=0
    ).fit(np.random.default_rng(0).normal(size=(30, 6, 6)), Y[:30])
    with pytest.warns(UserWarning, match=r"may not be risks.*The loss ce \+ mcc has no minimum"):
        CostMatrixClassifier(net, cost_matrix="zero_one").predict(np.ones((2, 6, 6)) * np.arange(6))


class Broken(LogisticRegression):
    """A classifier with a probability that is not a number."""

    def predict_proba(self, X):
        proba = super().predict_proba(X)
        proba[1, 0] = np.nan
        return proba


def test_a_probability_that_is_not_a_number_decides_nothing():
    clf = CostMatrixClassifier(Broken(), cost_matrix=PAIRS).fit(X, Y)
    with pytest.raises(ValueError, match=r"predict_proba of Broken must give numbers.*row 1"):
        clf.predict(X)


def test_an_estimator_that_is_not_fitted_is_named():
    with pytest.raises(NotFittedError, match="neither is its estimator"):
        CostMatrixClassifier(LogisticRegression(), cost_matrix=PAIRS).predict(X)
