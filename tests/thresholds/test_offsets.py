import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    get_scorer,
    log_loss,
    make_scorer,
    matthews_corrcoef,
)
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skimbal import CNN2DClassifier
from skimbal.exceptions import ParameterError
from skimbal.thresholds import CostMatrixClassifier, TunedOffsetsClassifierCV
from tests.thresholds.data import blobs

X, Y = blobs(400, [0.8, 0.15, 0.05])
NAMES = np.array(["normal", "benign", "malign"])[Y]


def data_of(name):
    if name == "cancer":
        X, y = load_breast_cancer(return_X_y=True)
        return StandardScaler().fit_transform(X[:, :4]), y
    weights, seed = {"rare": (0.9, 0), "noisy": (0.7, 1)}[name]
    return make_classification(
        500, weights=[weights], flip_y=0.05, class_sep=0.8, random_state=seed
    )


@pytest.mark.filterwarnings("ignore:The offsets do not help:UserWarning")
@pytest.mark.parametrize("name", ["cancer", "rare", "noisy"])
@pytest.mark.parametrize("scoring", ["balanced_accuracy", "f1", "matthews_corrcoef", "f1_macro"])
def test_two_classes_are_a_tuned_threshold_within_a_step_of_its_grid(name, scoring):
    X, y = data_of(name)
    plain = LogisticRegression().fit(X[::2], y[::2])
    X, y = X[1::2], y[1::2]
    options = {"scoring": scoring, "cv": "prefit", "refit": False}
    threshold = TunedThresholdClassifierCV(plain, store_cv_results=True, **options).fit(X, y)
    offsets = TunedOffsetsClassifierCV(plain, **options).fit(X, y)
    # The exact best score is at least the best score on the grid.
    assert offsets.best_score_ >= threshold.best_score_ - 1e-9
    cut = 1 / (1 + np.exp(offsets.offsets_[1] - offsets.offsets_[0]))
    grid = threshold.cv_results_["thresholds"]
    step = grid[1] - grid[0]
    # The threshold is within a step of the cut, unless the grid has no value of the same score.
    proba = plain.predict_proba(X)[:, 1]
    scorer = get_scorer(scoring)

    class At(ClassifierMixin, BaseEstimator):
        classes_ = np.array([0, 1])

        def predict(self, rows):
            return (proba >= self.cut).astype(int)

    def score_at(value):
        at = At()
        at.cut = value
        return scorer(at, X, y)

    between = np.sort(np.concatenate([[cut], grid]))
    i = int(np.searchsorted(between, cut))
    neighbours = between[[max(0, i - 1), min(len(between) - 1, i + 1)]]
    on_grid = np.array([score_at(value) for value in grid])
    best_cut = grid[on_grid >= on_grid.max() - 1e-9]
    assert score_at(cut) == pytest.approx(offsets.best_score_)
    near = np.abs(best_cut - cut).min() <= step
    assert near or max(map(score_at, neighbours)) < offsets.best_score_ - 1e-9


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "f1_macro"])
def test_folds_count_equally_as_in_scikit_learn(scoring):
    X, y = data_of("noisy")
    options = {"scoring": scoring, "cv": StratifiedKFold(4)}
    threshold = TunedThresholdClassifierCV(LogisticRegression(), **options).fit(X, y)
    offsets = TunedOffsetsClassifierCV(LogisticRegression(), **options).fit(X, y)
    assert offsets.best_score_ >= threshold.best_score_ - 0.005
    assert np.mean(offsets.predict(X) == threshold.predict(X)) > 0.97
    plain = cross_val_score(LogisticRegression(), X, y, scoring=scoring, cv=StratifiedKFold(4))
    assert offsets.score_without_offsets_ == pytest.approx(plain.mean())


@pytest.mark.parametrize(
    ("scoring", "function"),
    [
        ("balanced_accuracy", balanced_accuracy_score),
        (make_scorer(f1_score, average="macro"), lambda t, p: f1_score(t, p, average="macro")),
        ("matthews_corrcoef", matthews_corrcoef),
    ],
)
def test_offsets_raise_the_score_of_three_classes(scoring, function):
    plain = LogisticRegression().fit(X, NAMES)
    tuned = TunedOffsetsClassifierCV(plain, scoring=scoring, cv="prefit", refit=False)
    tuned.fit(X, NAMES)
    assert tuned.best_score_ == pytest.approx(function(NAMES, tuned.predict(X)))
    assert tuned.score_without_offsets_ == pytest.approx(function(NAMES, plain.predict(X)))
    assert tuned.best_score_ > tuned.score_without_offsets_
    assert tuned.estimator_ is plain
    np.testing.assert_array_equal(tuned.predict_proba(X), plain.predict_proba(X))


def test_offsets_are_named_and_relative_to_the_most_frequent_class():
    tuned = TunedOffsetsClassifierCV(LogisticRegression(), cv=3, store_cv_results=True)
    tuned.fit(X, NAMES)
    assert list(tuned.offset_of_class_) == ["benign", "malign", "normal"]
    assert tuned.offset_of_class_["normal"] == 0
    assert tuned.offset_of_class_["malign"] > 0.5
    np.testing.assert_array_equal(list(tuned.offset_of_class_.values()), tuned.offsets_)
    results = tuned.cv_results_
    assert results["fold_scores"].mean() == pytest.approx(tuned.best_score_)
    without = results["fold_scores_without_offsets"].mean()
    assert without == pytest.approx(tuned.score_without_offsets_)
    assert results["offsets"].shape == (len(results["mean_scores"]), 3)
    assert tuned.cross_fitted_score_ <= tuned.best_score_


def test_costs_are_a_score():
    costs = {(t, p): 1 for t in set(NAMES) for p in set(NAMES) if t != p}
    costs[("malign", "normal")] = costs[("malign", "benign")] = 30
    tuned = TunedOffsetsClassifierCV(LogisticRegression(), scoring=costs, cv=3).fit(X, NAMES)
    by_risk = CostMatrixClassifier(LogisticRegression(), cost_matrix=costs).fit(X, NAMES)
    assert (tuned.predict(X) == "malign").sum() > 2 * (NAMES == "malign").sum()
    assert np.mean(tuned.predict(X) == by_risk.predict(X)) > 0.7
    assert tuned.best_score_ > tuned.score_without_offsets_


def test_labels_of_any_kind():
    for labels in (Y.astype(float), Y == 0, NAMES.astype(object)):
        tuned = TunedOffsetsClassifierCV(LogisticRegression(), cv=3).fit(X, labels)
        assert tuned.predict(X).dtype == labels.dtype
        assert set(tuned.predict(X)) <= set(labels)


def test_equal_fits_are_equal():
    one, other = (
        TunedOffsetsClassifierCV(LogisticRegression(), cv=0.3, random_state=0).fit(X, Y)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.offsets_, other.offsets_)
    copy = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(copy.predict(X), one.predict(X))


def test_splits_come_in_any_container():
    splits = list(StratifiedKFold(2).split(X, Y))
    first, *others = (
        TunedOffsetsClassifierCV(LogisticRegression(), cv=cv).fit(X, Y).offsets_
        for cv in (splits, iter(splits), np.array(splits))
    )
    for offsets in others:
        np.testing.assert_array_equal(offsets, first)


def test_one_split_needs_no_second_fit():
    single = TunedOffsetsClassifierCV(LogisticRegression(), cv=0.3, refit=False, random_state=0)
    single.fit(X, Y)
    assert not np.array_equal(single.estimator_.coef_, LogisticRegression().fit(X, Y).coef_)


def own_score(estimator, X, y):
    """Score without a closed form."""
    return balanced_accuracy_score(y, estimator.predict(X))


@pytest.mark.filterwarnings("ignore:The offsets do not help:UserWarning")
@pytest.mark.slow
def test_other_scorers_find_nearly_the_same():
    plain = LogisticRegression().fit(X, Y)
    options = {"cv": "prefit", "refit": False}
    exact = TunedOffsetsClassifierCV(plain, **options).fit(X[:100], Y[:100])
    other = TunedOffsetsClassifierCV(plain, scoring=own_score, **options)
    other.fit(X[:100], Y[:100])
    assert other.best_score_ > exact.best_score_ - 0.02


def own_log_loss(estimator, X, y):
    return -log_loss(y, estimator.predict_proba(X))


@pytest.mark.parametrize(
    "scoring", ["neg_log_loss", "roc_auc_ovr", own_log_loss, "average_precision"]
)
def test_scores_of_probabilities_are_refused(scoring):
    with pytest.raises(ParameterError, match="scoring must be a score of predicted classes"):
        TunedOffsetsClassifierCV(LogisticRegression(), scoring=scoring, cv=2).fit(X, Y)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scoring": "no such score"}, "scoring must be"),
        ({"cv": 50}, "cv must be at most 20, the number of rows of the class 'malign'; got 50"),
        ({"cv": "prefit", "refit": True}, "refit must be False with cv='prefit'"),
        ({"cv": 3, "refit": False}, "refit must be True if cv has several folds"),
        ({"cv": 1.5}, "cv must be"),
        ({"scoring": {("normal", "malign"): 1}}, "Missing"),
        ({"response_method": "predict"}, "response_method must be"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ParameterError, match=words):
        TunedOffsetsClassifierCV(LogisticRegression(), **options).fit(X, NAMES)


def test_splits_that_lack_a_class_are_refused_by_name():
    order = np.argsort(Y, kind="stable")
    halves = [(order[:200], order[200:])]
    with pytest.raises(ValueError, match="split 1, whose training rows lack the class 'benign'"):
        TunedOffsetsClassifierCV(LogisticRegression(), cv=halves).fit(X, NAMES)


def test_classes_of_a_fitted_classifier_are_compared():
    plain = LogisticRegression().fit(X, NAMES)
    prefit = TunedOffsetsClassifierCV(plain, cv="prefit", refit=False)
    is_known = NAMES != "malign"
    with pytest.raises(ValueError, match="got no row of the class 'malign'"):
        prefit.fit(X[is_known], NAMES[is_known])
    with pytest.raises(ValueError, match="got the class 'cyst'"):
        prefit.fit(X, np.where(is_known, NAMES, "cyst"))
    frozen = TunedOffsetsClassifierCV(FrozenEstimator(plain), cv=3)
    with pytest.raises(ValueError, match="got no row of the class 'malign'"):
        frozen.fit(X[is_known], NAMES[is_known])
    with pytest.raises(NotFittedError, match="must be fitted with cv='prefit'"):
        TunedOffsetsClassifierCV(LogisticRegression(), cv="prefit", refit=False).fit(X, NAMES)
    with pytest.raises(NotFittedError):
        TunedOffsetsClassifierCV(plain).predict(X)


def test_offsets_that_follow_noise_warn():
    rng = np.random.default_rng(0)
    noise, y = rng.normal(size=(60, 5)), np.repeat([0, 1, 2], 20)
    plain = LogisticRegression().fit(rng.normal(size=(60, 5)), y)
    tuned = TunedOffsetsClassifierCV(plain, cv="prefit", refit=False)
    with pytest.warns(UserWarning, match="do not help on rows that did not tune them"):
        tuned.fit(noise, y)
    assert tuned.cross_fitted_score_ < tuned.score_without_offsets_ < tuned.best_score_


def test_groups_reach_a_splitter_without_routing():
    groups = np.arange(len(Y)) // 2
    tuned = TunedOffsetsClassifierCV(LogisticRegression(), cv=StratifiedGroupKFold(3))
    tuned.fit(X, Y, groups=groups)
    with pytest.raises(ValueError, match="groups"):
        TunedOffsetsClassifierCV(LogisticRegression(), cv=GroupKFold(3)).fit(X, Y)
    with pytest.raises(ValueError, match="sample_weight must be routed"):
        tuned.fit(X, Y, sample_weight=np.ones(len(Y)))


@pytest.mark.filterwarnings("ignore:The offsets do not help:UserWarning")
def test_patients_stay_whole_in_the_parts_of_a_single_split():
    """Twenty copies of a row: parts without groups would know the rows that they judge."""
    rng = np.random.default_rng(1)
    rows, y = rng.normal(size=(30, 2)), np.repeat([0, 1, 2], 10)
    plain = LogisticRegression().fit(rng.normal(size=(30, 2)), y)
    X, labels, groups = np.repeat(rows, 20, 0), np.repeat(y, 20), np.repeat(np.arange(30), 20)
    tuned = TunedOffsetsClassifierCV(plain, cv="prefit", refit=False)
    known = tuned.fit(X, labels).cross_fitted_score_
    honest = tuned.fit(X, labels, groups=groups).cross_fitted_score_
    assert known > honest + 0.02
    split = next(StratifiedGroupKFold(2).split(X, labels, groups))
    single = TunedOffsetsClassifierCV(plain, cv=[split]).fit(X, labels, groups=groups)
    assert np.isfinite(single.cross_fitted_score_)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        tuned.fit(X, labels, groups=groups[:5])
    alone = tuned.fit(X, labels, groups=labels)  # one patient a class
    assert np.isnan(alone.cross_fitted_score_)


class Recording(LogisticRegression):
    """A classifier that remembers its weights."""

    seen = ()

    def fit(self, X, y, sample_weight=None):
        Recording.seen = (*Recording.seen, sample_weight)
        return super().fit(X, y, sample_weight)


def test_metadata_is_routed_to_classifier_splitter_and_scorer():
    weight = np.random.default_rng(0).uniform(0.5, 2, len(Y))
    groups = np.arange(len(Y)) // 2
    with sklearn.config_context(enable_metadata_routing=True):
        inner = Recording().set_fit_request(sample_weight=True)
        scorer = make_scorer(balanced_accuracy_score).set_score_request(sample_weight=True)
        tuned = TunedOffsetsClassifierCV(inner, scoring=scorer, cv=StratifiedGroupKFold(3))
        Recording.seen = ()
        tuned.fit(X, Y, sample_weight=weight, groups=groups)
        assert [len(seen) for seen in Recording.seen][-1] == len(Y)
        assert len(Recording.seen) == 4
        folds = list(StratifiedGroupKFold(3).split(X, Y, groups))
        expected = [
            balanced_accuracy_score(
                Y[test],
                clone(inner).fit(X[train], Y[train], weight[train]).predict(X[test]),
                sample_weight=weight[test],
            )
            for train, test in folds
        ]
    assert tuned.score_without_offsets_ == pytest.approx(np.mean(expected))


@pytest.mark.filterwarnings("ignore:The offsets do not help:UserWarning")
@pytest.mark.slow
def test_it_goes_into_searches_pipelines_and_calibration():
    tuned = TunedOffsetsClassifierCV(LogisticRegression(), cv=2)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), tuned),
        {"tunedoffsetsclassifiercv__estimator__C": [0.1, 1]},
        cv=2,
        scoring="balanced_accuracy",
    ).fit(X, Y)
    assert set(search.predict(X)) == {0, 1, 2}
    assert len(cross_val_predict(tuned, X, Y, cv=2, method="decision_function")) == len(Y)
    calibrated = CalibratedClassifierCV(LogisticRegression(), cv=2, method="temperature")
    TunedOffsetsClassifierCV(calibrated, cv=2).fit(X, Y)
    frozen = CalibratedClassifierCV(FrozenEstimator(tuned.fit(X, Y)), method="sigmoid").fit(X, Y)
    assert frozen.predict_proba(X).shape == (len(Y), 3)
    trees = TunedOffsetsClassifierCV(DecisionTreeClassifier(max_depth=3), cv=2, n_jobs=2)
    assert np.isfinite(trees.fit(X, Y).offsets_).all()


def test_images_and_networks():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], [40, 24, 16])
    images = rng.normal(size=(80, 1, 8, 8)).astype("float32")
    images += np.repeat([0, 1, 2], [40, 24, 16])[:, None, None, None] / 2
    net = CNN2DClassifier(module="small", augment=None, max_epochs=1, random_state=0)
    tuned = TunedOffsetsClassifierCV(net, cv=2).fit(images, y)
    assert set(tuned.predict(images)) <= {"a", "b", "c"}
    assert tuned.n_features_in_ == 64
    prefit = TunedOffsetsClassifierCV(tuned.estimator_, cv="prefit", refit=False).fit(images, y)
    np.testing.assert_array_equal(prefit.predict_proba(images), tuned.predict_proba(images))


def test_ten_classes_take_seconds():
    rng = np.random.default_rng(0)
    y = rng.choice(10, size=2000, p=np.geomspace(1, 0.05, 10) / np.geomspace(1, 0.05, 10).sum())
    rows = rng.normal(size=(2000, 10))
    rows[np.arange(2000), y] += 1.5
    plain = LogisticRegression().fit(rows[:700], y[:700])
    tuned = TunedOffsetsClassifierCV(plain, scoring="f1_macro", cv="prefit", refit=False)
    tuned.fit(rows[700:], y[700:])
    assert tuned.best_score_ > tuned.score_without_offsets_ + 0.02
