"""Classifiers, rows, patients and rules that an evaluation takes, and those that it refuses."""

import csv
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from skimbal import CNN2DClassifier
from skimbal.evaluation import evaluate, evaluate_predictions
from skimbal.exceptions import ParameterError
from skimbal.thresholds import CostMatrixClassifier, TunedOffsetsClassifierCV

LABELS = np.array(["healthy", "ill", "unclear"])


def random_rows(n=60, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), y] += 1.5
    proba = np.exp(logits)
    return LABELS[y], proba / proba.sum(1, keepdims=True)


def tabular(n_classes=3):
    rng = np.random.default_rng(0)
    y = np.arange(120) % n_classes
    return rng.normal(size=(120, 4)) + 0.7 * np.eye(n_classes, 4)[y], LABELS[y]


def test_labels_outside_the_classes_are_named():
    y, proba = random_rows()
    y = y.astype(object)
    y[[7, 9]] = "lll"
    with pytest.raises(ValueError, match=r"y_true must hold labels among .*'lll' in 2 rows, first"):
        evaluate_predictions(y, proba, LABELS)
    y_pred = np.array(random_rows()[0], dtype=object)
    y_pred[3] = np.nan
    with pytest.raises(ValueError, match=r"y_pred must hold .*got nan in 1 row, first in row 3"):
        evaluate_predictions(random_rows()[0], proba, LABELS, y_pred=y_pred)
    with pytest.raises(ValueError, match="They differ in their type only"):
        evaluate_predictions(["0", "1"], [[1, 0], [0, 1]], [0, 1])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p.__setitem__((5, 1), np.nan), r"proba must hold finite numbers; .* in row 5"),
        (lambda p: p.__setitem__((5, 1), np.inf), r"proba must hold finite numbers; .* in row 5"),
        (
            lambda p: p.__setitem__(5, [1.5, -0.5, 0]),
            r"in \[0, 1\]; got \[1.5, -0.5, 0.0\] in row 5",
        ),
        (
            lambda p: p.__setitem__(5, [0.5, 0.1, 0.1]),
            r"sum to 1 in each row; .* in row 5 \(1 such",
        ),
    ],
    ids=["nan", "inf", "range", "sum"],
)
def test_numbers_that_are_no_probabilities_are_refused_by_row(change, text):
    y, proba = random_rows()
    change(proba)
    with pytest.raises(ValueError, match=text):
        evaluate_predictions(y, proba, LABELS)


@pytest.mark.parametrize("classes", [[1], [1, 1], np.array([1, "1"], dtype=object)], ids=str)
def test_classes_that_cannot_be_told_apart_are_refused(classes):
    with pytest.raises(ParameterError, match="classes must be at least two labels that differ"):
        evaluate_predictions([1], np.full((1, len(classes)), 1 / len(classes)), classes)


def test_probabilities_of_two_digits_are_taken():
    y, proba = random_rows()
    found = evaluate_predictions(y, proba.round(2), LABELS, n_bootstraps=0)
    assert found.images.proba.sum(1) == pytest.approx(np.ones(60))


@pytest.mark.parametrize(
    ("shape", "text"),
    [((60,), "np.column_stack"), ((60, 2), "a column for each class"), ((59, 3), "a row for each")],
)
def test_probabilities_of_another_shape_are_refused(shape, text):
    with pytest.raises(ParameterError, match=rf"proba must be an array of shape \(60, 3\).*{text}"):
        evaluate_predictions(random_rows()[0], np.full(shape, 1 / 3), LABELS)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"pool": "median"}, "pool must be 'mean', 'max' or None"),
        ({"n_bootstraps": -1}, "n_bootstraps must be an integer"),
        ({"n_bootstraps": 1.5}, "n_bootstraps must be an integer"),
        ({"confidence_level": 95}, "confidence_level must be a number between 0 and 1"),
        ({"decisions": [1, 2, 3]}, "decisions must be a mapping"),
        ({"decisions": {"predict": [1, 2, 3]}}, "other than 'predict'"),
        (
            {"decisions": {"mine": [1, 2]}},
            r"decisions\['mine'\] must be a function, or a finite off",
        ),
        ({"decisions": {"mine": [1, 2, np.inf]}}, "a finite offset"),
        ({"groups": ["a"] * 59}, "inconsistent numbers of samples"),
        ({"groups": ["a", None] * 30}, "groups must hold groups of one type"),
        ({"groups": [1.0, np.nan] * 30}, "groups contains NaN"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused_by_name(parameters, text):
    with pytest.raises(ValueError, match=text):
        evaluate_predictions(*random_rows(), LABELS, **parameters)


def test_a_rule_that_answers_something_else_is_refused():
    for rule, text in (
        (lambda p: p.argmax(1), r"labels of decisions\['mine'\] must hold labels among"),
        (lambda p: LABELS[:1], r"labels of decisions\['mine'\] must have 60 labels"),
    ):
        with pytest.raises(ValueError, match=text):
            evaluate_predictions(*random_rows(), LABELS, decisions={"mine": rule})


def test_patients_with_images_of_different_classes_are_named():
    y, proba = random_rows()
    groups = np.array([f"p{i // 2}" for i in range(60)])
    with pytest.raises(ValueError, match=r"30 patients: p0, p1, p10.* and 25 others.*pool=None"):
        evaluate_predictions(y, proba, LABELS, groups=groups)
    found = evaluate_predictions(y, proba, LABELS, groups=groups, pool=None, n_bootstraps=20)
    assert found.patients is None
    assert found.bootstrap_unit == "patients"
    with pytest.raises(ParameterError, match="level must be 'images'; got 'patients'"):
        found.find("accuracy", level="patients")


def test_patients_are_pooled_by_the_rule_that_is_named():
    proba = np.array([[0.9, 0.1, 0], [0.2, 0.5, 0.3], [0, 0.2, 0.8], [0.6, 0.1, 0.3]])
    y = LABELS[[0, 0, 2, 2]]
    kwargs = {"groups": ["b", "b", "a", "a"], "n_bootstraps": 0}
    mean = evaluate_predictions(y, proba, LABELS, **kwargs).patients
    assert mean.ids.tolist() == ["a", "b"]
    assert mean.y_true.tolist() == ["unclear", "healthy"]
    np.testing.assert_allclose(mean.proba, [[0.3, 0.15, 0.55], [0.55, 0.3, 0.15]])
    most = evaluate_predictions(y, proba, LABELS, pool="max", **kwargs).patients
    np.testing.assert_allclose(
        most.proba, [np.array([0.6, 0.2, 0.8]) / 1.6, np.array([0.9, 0.5, 0.3]) / 1.7]
    )
    assert most.y_pred.tolist() == ["unclear", "healthy"]


def test_scores_of_patients_are_scores_of_the_pooled_rows():
    y, proba = random_rows()
    groups = [f"{label}{i % 4}" for i, label in enumerate(y)]
    found = evaluate_predictions(y, proba, LABELS, groups=groups, random_state=0)
    level = found.patients
    alone = evaluate_predictions(level.y_true, level.proba, LABELS, random_state=0)
    own = [row[2:] for row in found.scores if row.level == "patients"]
    assert repr(own) == repr([row[2:] for row in alone.scores])


def test_a_threshold_decides_for_images_and_patients():
    X, y = tabular(2)
    clf = FixedThresholdClassifier(LogisticRegression(), threshold=0.8, pos_label="healthy")
    clf.fit(X, y)
    found = evaluate(clf, X, y, groups=y, n_bootstraps=0)
    assert list(found.images.decisions) == ["predict", "argmax", "balanced prior"]
    assert (found.images.y_pred == clf.predict(X)).all()
    expected = np.where(found.patients.proba[:, 0] >= 0.8, "healthy", "ill")
    assert found.patients.rule == "predict"
    assert (found.patients.y_pred == expected).all()


def test_tuned_offsets_and_costs_decide_for_images_and_patients():
    X, y = tabular()
    groups = [f"{label}{i % 5}" for i, label in enumerate(y)]
    plain = LogisticRegression()
    costs = CostMatrixClassifier(plain, cost_matrix=[[0, 1, 1], [9, 0, 9], [1, 1, 0]]).fit(X, y)
    offsets = TunedOffsetsClassifierCV(plain, scoring="balanced_accuracy", cv=2).fit(X, y)
    offsets.offsets_ = np.array([0, 1, 0.1])
    for clf, decide in (
        (costs, lambda proba: (proba @ costs.costs_).argmin(1)),
        (offsets, lambda proba: (np.log(proba) + offsets.offsets_).argmax(1)),
    ):
        found = evaluate(clf, X, y, groups=groups, n_bootstraps=0)
        assert (found.images.y_pred == clf.predict(X)).all()
        assert (found.images.y_pred != found.images.decisions["argmax"]).any()
        assert found.patients.rule == "predict"
        assert (found.patients.y_pred == LABELS[decide(found.patients.proba)]).all()


class Known(LogisticRegression):
    """A classifier whose probabilities of the second class are its rows."""

    def predict_proba(self, X):
        return np.column_stack([1 - X[:, 0], X[:, 0]])


@pytest.mark.parametrize("positive", ["healthy", "ill"])
def test_a_rule_that_agrees_with_argmax_on_the_images_decides_for_patients(positive):
    """No image is between the threshold and 0.5, and a patient is."""
    p = np.array([0.1, 0.2, 0.1, 0.8, 0.9, 0.7, 0.3, 0.6])
    y, groups = LABELS[[0, 0, 0, 1, 1, 1, 1, 1]], ["a", "a", "b", "c", "d", "d", "e", "e"]
    if positive == "healthy":
        p, y = 1 - p, LABELS[1 - np.searchsorted(LABELS[:2], y)]
    inner = Known().fit(p[:, None], y)
    clf = FixedThresholdClassifier(inner, threshold=0.42, pos_label=positive).fit(p[:, None], y)
    for search in (clf, GridSearchCV(clf, {"threshold": [0.42]}, cv=2).fit(p[:, None], y)):
        found = evaluate(search, p[:, None], y, groups=groups, n_bootstraps=0)
        assert "argmax" not in found.images.decisions
        pooled = found.patients.proba[-1, LABELS.tolist().index(positive)]
        assert pooled == pytest.approx(0.45)
        assert found.patients.y_pred[-1] == positive


def test_an_unknown_rule_is_not_guessed_for_patients():
    y, proba = random_rows()
    found = evaluate_predictions(y, proba, LABELS, y_pred=y, groups=y, n_bootstraps=0)
    assert found.images.rule == "predict"
    assert found.find("accuracy").value == 1
    assert found.patients.rule == "argmax"
    assert any("a rule that is not known here" in note for note in found.notes)


def test_rules_of_the_user_decide_on_both_levels():
    y, proba = random_rows()
    rules = {"offsets": [0, 9, 0], "function": lambda p: LABELS[np.where(p[:, 2] > 0.5, 2, 0)]}
    found = evaluate_predictions(y, proba, LABELS, groups=y, decisions=rules, n_bootstraps=0)
    for level in found.levels:
        assert level.decisions["offsets"].tolist() == ["ill"] * len(level.y_true)
        expected = LABELS[np.where(level.proba[:, 2] > 0.5, 2, 0)]
        assert level.decisions["function"].tolist() == expected.tolist()
    assert found.find("sensitivity", "ill", rule="offsets").value == 1
    rare = y != "ill"
    rare[:6] = True
    found = evaluate_predictions(y[rare], proba[rare], LABELS, n_bootstraps=0)
    shares = np.bincount(np.searchsorted(LABELS, y[rare])) / rare.sum()
    expected = LABELS[(proba[rare] / shares).argmax(1)]
    assert found.images.decisions["balanced prior"].tolist() == expected.tolist()
    assert (expected != found.images.y_pred).any()


def test_a_rule_cannot_change_the_probabilities():
    def spoil(p):
        p[:] = 0
        return LABELS[p.argmax(1)]

    y, proba = random_rows()
    found = evaluate_predictions(y, proba, LABELS, decisions={"spoil": spoil}, n_bootstraps=0)
    np.testing.assert_array_equal(found.images.proba, proba)


def test_thresholds_have_the_sensitivity_that_was_asked_for():
    y, proba = random_rows(120, 2)
    found = evaluate_predictions(y, proba, LABELS[:2], n_bootstraps=0)
    assert [(p.class_name, p.target) for p in found.operating_points] == [
        ("healthy", 0.9),
        ("healthy", 0.95),
        ("ill", 0.9),
        ("ill", 0.95),
    ]
    for point in found.operating_points:
        number = LABELS.tolist().index(point.class_name)
        p, truth = proba[:, number], y == point.class_name
        assert p[truth & (p >= point.threshold)].size / truth.sum() == point.sensitivity
        assert point.sensitivity >= point.target > (p[truth] > point.threshold).mean()
        assert point.specificity == (p[~truth] < point.threshold).mean()
        assert point.precision == truth[p >= point.threshold].mean()
        assert point.npv == (~truth[p < point.threshold]).mean()
    assert any("optimistic" in note for note in found.notes)


def test_ten_rows_at_90_percent_are_nine():
    p = np.linspace(0.05, 0.95, 20)
    truth = np.arange(20) >= 10
    found = evaluate_predictions(truth, np.column_stack([1 - p, p]), [False, True], n_bootstraps=0)
    assert found.operating_points[2].sensitivity == 0.9


@pytest.mark.parametrize(
    "clf",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        CalibratedClassifierCV(LogisticRegression(), cv=2),
    ],
    ids=lambda clf: type(clf).__name__,
)
def test_any_classifier_with_probabilities_is_evaluated(clf):
    X, y = tabular()
    clf.fit(X, y)
    found = evaluate(clf, X, pd.Series(y), n_bootstraps=10, random_state=0)
    assert found.classifier == type(clf).__name__
    assert found.find("accuracy").value == clf.score(X, y)
    np.testing.assert_allclose(found.images.proba, clf.predict_proba(X))


def test_own_classifiers_predict_once(monkeypatch):
    X = np.random.default_rng(0).normal(size=(24, 8, 8))
    y = LABELS[np.arange(24) % 3]
    clf = CNN2DClassifier(module="small", max_epochs=0, random_state=0).fit(X, y)
    expected = clf.predict(X)
    monkeypatch.setattr(clf, "predict", lambda X: pytest.fail("predicted twice"))
    found = evaluate(clf, X, y, n_bootstraps=0)
    assert (found.images.y_pred == expected).all()


def test_no_classifier_is_a_type_error():
    X, y = tabular()
    with pytest.raises(TypeError, match="clf must be a fitted classifier with predict_proba"):
        evaluate(LinearSVC().fit(X, y), X, y)
    with pytest.raises(NotFittedError):
        evaluate(LogisticRegression(), X, y)


def test_faults_are_found_before_images_are_predicted(monkeypatch):
    X, y = tabular()
    clf = LogisticRegression().fit(X, y)
    monkeypatch.setattr(clf, "predict_proba", lambda X: pytest.fail("work was done"))
    for arguments, text in (
        ((X, y[:-1], {}), "inconsistent numbers of samples"),
        ((X, np.where(y == "ill", "Ill", y), {}), "y must hold labels among"),
        ((X, y, {"pool": "sum"}), "pool must be"),
        ((X, y, {"groups": [1] * 5}), "inconsistent numbers of samples"),
        ((X, y, {"groups": np.arange(120) // 2}), "images of different classes"),
    ):
        with pytest.raises(ValueError, match=text):
            evaluate(clf, *arguments[:2], **arguments[2])


def test_corner_cases_have_defined_answers():
    one = evaluate_predictions([0], [[0.3, 0.7]], [0, 1], groups=["p"], random_state=0)
    assert one.find("accuracy", level="patients").value == 0
    assert one.find("accuracy").interval == "exact"
    assert np.isnan(one.find("roc_auc_ovr").value)
    assert "There is no image of the class '1'" in one.summary()
    assert "All images are taken for '1'" in one.summary()
    alike = evaluate_predictions([0, 1] * 10, [[0.5, 0.5]] * 20, [0, 1], random_state=0)
    assert alike.find("roc_auc", "1").value == 0.5
    assert alike.find("matthews_corrcoef").value == 0
    assert np.isnan(alike.find("precision", "1").value)
    lone = evaluate_predictions([1] * 5, [[0.2, 0.8, 0]] * 5, range(3), random_state=0)
    assert lone.find("f1_macro").value == lone.find("balanced_accuracy").value == 1
    assert [p.class_name for p in lone.operating_points] == []
    assert "0 and 2" in lone.summary() or "'0', '2'" in lone.summary()


NASTY = ["<b>&amp;</b>", 'a, "b"\nc', "=1+1", "x" * 300, "$\\frac$", "{{ 7 }}"]


@pytest.mark.parametrize("names", [NASTY, [f"organ {k:02d}" for k in range(30)]], ids=len)
def test_text_fits_80_columns_whatever_the_names(names):
    y, proba = np.arange(120) % len(names), np.random.default_rng(0).random((120, len(names)))
    proba /= proba.sum(1, keepdims=True)
    labels = np.array(names, dtype=object)
    found = evaluate_predictions(
        labels[y], proba, labels, groups=[f"p{k}" for k in y], n_bootstraps=20, random_state=0
    )
    lines = found.summary().split("\n")
    assert max(map(len, lines)) <= 80
    assert any("asked" in line and "NPV" in line for line in lines)
    assert "By class (images)" in lines
    assert "By class (patients, mean of the probabilities)" in lines


def test_csv_and_frame_hold_every_score(tmp_path):
    y, proba = random_rows()
    labels = np.array(['a,"b"', "x\ny", "=1"])
    found = evaluate_predictions(
        labels[np.searchsorted(LABELS, y)], proba, labels, groups=y, n_bootstraps=20, random_state=0
    )
    found.to_csv(tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    frame = found.to_frame()
    assert len(rows) == len(frame) == len(found.scores)
    for row, estimate in zip(rows, found.scores, strict=True):
        assert row["class_name"] == estimate.class_name
        assert row["low"] == ("" if np.isnan(estimate.low) else str(estimate.low))
        assert float(row["value"] or "nan") == pytest.approx(estimate.value, nan_ok=True)
    assert frame.columns.tolist() == list(rows[0])


def test_confusion_matrix_and_scores_are_found_by_name():
    y, proba = random_rows()
    found = evaluate_predictions(y, proba, LABELS, n_bootstraps=0)
    matrix = found.confusion_matrix()
    assert matrix.sum(1).tolist() == [20, 20, 20]
    assert matrix[1, 1] / 20 == found.find("sensitivity", "ill").value
    with pytest.raises(ParameterError, match="rule must be one of 'predict', 'balanced prior'"):
        found.confusion_matrix(rule="x")
    for arguments, text in (
        ({"score": "recall", "class_name": "ill"}, "score must be one of 'sensitivity'.*'recall'"),
        ({"score": "f1", "class_name": "lll"}, "class_name must be one of 'healthy', 'ill'"),
        ({"score": "accuracy", "class_name": "ill"}, "class_name must be one of ''"),
        ({"score": "accuracy", "rule": "mine"}, "rule must be one of 'predict', 'balanced"),
        ({"score": "accuracy", "level": "rows"}, "level must be 'images'"),
    ):
        with pytest.raises(ParameterError, match=text):
            found.find(**arguments)
    assert re.fullmatch(r"Evaluation\(Predictions, n_images=60, n_classes=3\)", repr(found))
