import dataclasses

import numpy as np
import pytest
import torch
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    KFold,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.pipeline import make_pipeline
from torch import nn

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, NDSampler
from skimbal.images import ImageFiles
from skimbal.losses import TERMS
from skimbal.study.plan import Split, check_data, check_estimator, combine
from tests.study.data import PAIR, compare, few_or_many, never, quick


def test_default_is_the_papers_fifteen(small):
    configurations = combine(None, None, None, check_data(*small), quick())
    names = [(c.loss, c.sampler) for c in configurations]
    six = ["ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc"]
    weighted = ["wce", "wce+f1", "wce+mcc"]
    assert sorted(names) == sorted(
        [(loss, sampler) for sampler in ("uniform", "balanced") for loss in six]
        + [(loss, "uniform") for loss in weighted]
    )
    assert [c.reference for c in configurations].count(None) == 2
    assert {c.reference for c in configurations if c.loss in weighted[1:]} == {"wce"}
    without_uniform = combine(None, ["balanced"], None, check_data(*small), quick())
    assert [c.loss for c in without_uniform] == six


@pytest.mark.slow
def test_the_papers_fifteen_are_fitted(small):
    study = compare(*small, losses=None, samplers=None)
    assert len(study.fits) == 30
    assert len(study.differences()) == 13


def test_default_estimator_suits_the_shape(rng):
    for shape, expected in [
        ((16, 8, 8), CNN2DClassifier),
        ((16, 3, 8, 8), CNN2DClassifier),
        ((16, 8, 8, 8), CNN3DClassifier),
        ((16, 1, 4, 8, 8), CNN3DClassifier),
    ]:
        X = rng.integers(0, 255, size=shape, dtype=np.uint8)
        assert type(check_estimator(None, X)) is expected


def test_default_estimator_of_image_files(tmp_path):
    paths = [tmp_path / f"{i}.npy" for i in range(2)]
    for path in paths:
        np.save(path, np.zeros((3, 8, 8), np.uint8))
    as_pictures, as_volumes = ImageFiles(paths, channels=3), ImageFiles(paths, size=(3, 8, 8))
    assert as_pictures.shape == as_volumes.shape
    assert isinstance(check_estimator(None, as_pictures), CNN2DClassifier)
    assert isinstance(check_estimator(None, as_volumes), CNN3DClassifier)


def test_losses_of_every_kind(small):
    class Own(nn.CrossEntropyLoss):
        pass

    study = compare(
        *small,
        losses={
            "ce": "ce",
            "half": LossMix(ce=1, mcc=0.5),
            "module": Own(),
            "smooth": {"loss": LossMix(ce=1, label_smoothing=0.1), "lr": 1e-2},
        },
    )
    assert [c.reference for c in study.configurations] == [None, "ce", "ce", "ce"]
    scores = study.scores()
    # The package's cross-entropy is torch's.
    assert scores["module", "uniform"] == pytest.approx(scores["ce", "uniform"])
    listed = combine(["ce", LossMix(f1=1), Own], ["uniform"], None, check_data(*small), quick())
    assert [c.loss for c in listed] == ["ce", "LossMix(f1=1)", "Own"]


def test_repeats_draw_folds_anew_and_keep_those_before(small):
    once, twice = (compare(*small, losses=["ce"], n_repeats=n) for n in (1, 2))
    assert without_times(twice)[:2] == without_times(once)
    assert twice.fits[2].scores != twice.fits[0].scores
    assert len({fit.seed for fit in twice.fits}) == 4


def without_times(study):
    return [dataclasses.replace(fit, fit_time=0.0, score_time=0.0) for fit in study.fits]


@few_or_many(losses=PAIR)
def test_splitters_of_ones_own(small, options):
    cv = RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)
    repeated = compare(*small, cv=cv, **options)
    assert len(repeated.fits) == 4 * len(repeated.configurations)
    options = {"cv": StratifiedKFold(2, shuffle=True, random_state=5), **options}
    drawn, first = compare(*small, n_repeats=2, **options), compare(*small, **options)
    assert [f.scores for f in drawn.fits if f.repeat == 0] == [f.scores for f in first.fits]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": ["ce", "mmc"]}, "loss must be .* got 'mmc'"),
        ({"losses": []}, r"losses must be .* got \[\]"),
        ({"losses": {1: "ce", "1": "mcc"}}, "losses must be .* differ as text; got {1: 'ce'"),
        ({"random_state": -1}, "random_state must be .* got -1"),
        ({"random_state": "seed"}, "random_state must be .* got 'seed'"),
        ({"losses": "ce"}, "losses must be .* got 'ce'"),
        ({"losses": ["ce", "ce"]}, r"losses must be .* got \['ce', 'ce'\]. 'ce' is there twice"),
        ({"losses": {"x": {"loss": "ce", "lrr": 1}}}, "lrr"),
        (
            {"losses": {"x": {"loss": "ce", "sampler": "balanced"}}},
            r"losses\['x'\] must .* 'sampler': 'balanced'",
        ),
        ({"samplers": ["balance"]}, "sampler .*'uniform', 'balanced'.*'balance'"),
        ({"samplers": [SMOTE()]}, "NDSampler"),
        ({"baseline": "focal"}, r"baseline must be .*\['ce', 'ce\+mcc'\]; got 'focal'"),
        ({"scoring": "auc"}, "scoring must be one of balanced_accuracy.* got 'auc'"),
        ({"scoring": ["roc_auc"]}, r"scoring must be .* got \['roc_auc'\]"),
        ({"scoring": "roc_auc"}, r"scoring must be .* \[0, 1, 2\]; got 'roc_auc'"),
        ({"estimator": DummyClassifier()}, "estimator must be .* got .*DummyClassifier"),
        (
            {"estimator": make_pipeline(DummyClassifier())},
            "estimator must be .* got .*DummyClassifier",
        ),
        ({"cv": 1}, "cv must be .* got 1"),
        ({"cv": 21}, "cv must be at most 20 .*class 1 has 20 members.* got 21"),
        ({"cv": 61}, "cv must be at most 20 .* got 61"),
        (
            {"cv": 4, "groups": np.arange(100) // 10},
            "cv must be at most 2 .*class 1 has 2 groups.* got 4",
        ),
        ({"groups": np.arange(100) // 20, "cv": 2}, "at least 2 groups.*class 1 with 1"),
        ({"groups": np.arange(99)}, "inconsistent numbers of samples"),
        ({"groups": [1.0, np.nan] * 50}, "groups .*missing labels"),
        ({"groups_test": [1, 2]}, "groups_test .*X_test and groups"),
        (
            {"X_test": np.zeros((3, 8, 8)), "y_test": [0, 1, 2], "groups_test": [1, 2, 3]},
            "groups_test .*X_test and groups.*Give all three",
        ),
        (
            {
                "X_test": np.zeros((3, 8, 8)),
                "y_test": [0, 1, 2],
                "groups": np.arange(100) + 2,
                "groups_test": [1, 2, 3],
            },
            r"groups_test .*2 group\(s\).* such as 2\.",
        ),
        (
            {
                "X_test": np.zeros((3, 8, 8)),
                "y_test": [0, 1, 2],
                "groups": np.arange(100),
                "groups_test": [100, 101],
            },
            "inconsistent numbers of samples",
        ),
        ({"cv": KFold(2)}, r"got no row of \["),
        (
            {"cv": StratifiedKFold(2), "groups": np.arange(100) % 7},
            r"fold 0 of repeat 0 .*7 groups",
        ),
        (
            {"cv": StratifiedKFold(2), "n_repeats": 2},
            "n_repeats must be 1 for cv=StratifiedKFold.* got 2",
        ),
        ({"n_repeats": 0}, "n_repeats must be .* at least 1; got 0"),
        ({"n_repeats": True}, "n_repeats must be .* got True"),
        ({"verbose": -1}, "verbose must be .* at least 0; got -1"),
        ({"verbose": 0.5}, "verbose must be True, False or .* got 0.5"),
        ({"X_test": np.zeros((2, 8, 8))}, "X_test and y_test"),
        (
            {"X_test": np.zeros((3, 8, 8)), "y_test": [0, 1, 2]},
            "cv must be None with X_test.* got 2",
        ),
        (
            {"X_test": np.zeros((2, 8, 8)), "y_test": [0, 1], "cv": None},
            r"y_test must be .* \[0, 1, 2\].* got \[0, 1\]",
        ),
    ],
)
def test_bad_input_is_refused_before_any_fit(small, change, message):
    change = {"estimator": CNN2DClassifier(module=never), "losses": PAIR, **change}
    with pytest.raises(ValueError, match=message):
        compare(*small, **change)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0] * 100, r"y must be .* at least 2 classes; got \[0\]"),
        ([0.0, np.nan] * 50, "y .*missing labels"),
        (["a", None] * 50, "y .*missing labels"),
        ([0, 1] * 20, "inconsistent numbers of samples"),
    ],
)
def test_bad_labels_are_refused(small, y, message):
    with pytest.raises(ValueError, match=message):
        compare(small[0], y, estimator=CNN2DClassifier(module=never))


def test_losses_are_judged_by_their_terms_and_not_by_their_names(small):
    X, y = small
    losses = {"weighted": "wce", "plain": "ce", "ce without wce": "ce", "ce": "ce+wce"}
    configurations = combine(losses, {"none": None}, None, check_data(X, y), quick())
    assert [c.reference for c in configurations] == ["plain", None, "plain", "weighted"]
    assert [set(c.terms) for c in configurations] == [{"wce"}, {"ce"}, {"ce"}, {"ce", "wce"}]
    assert [c.weighs_classes for c in configurations] == [True, False, False, True]
    assert [c.sampling for c in configurations] == [
        "none + weights",
        "none",
        "none",
        "none + weights",
    ]


def test_a_term_of_a_user_that_weighs_classes_is_a_reference(small, monkeypatch):
    monkeypatch.setitem(TERMS, "own", TERMS["wce"])
    losses = ["ce", "own", "own+mcc", "own+wce", "ce+mcc"]
    made = combine(losses, ["uniform"], None, check_data(*small), quick())
    assert [c.reference for c in made] == [None, "ce", "own", "ce", "ce"]
    assert [c.weighs_classes for c in made] == [False, True, True, True, False]


def test_the_plainest_cross_entropy_is_the_reference(small):
    losses = {
        "smooth": LossMix(ce=1, label_smoothing=0.1),
        "post hoc": {"loss": "ce", "logit_adjustment": 1.0},
        "class weights": {"loss": "ce", "class_weight": "balanced"},
        "twice": LossMix(ce=2),
        "again": "ce",
        "both": "ce+mcc",
    }

    def references(losses, baseline=None):
        made = combine(losses, ["uniform"], baseline, check_data(*small), quick())
        return [c.reference for c in made]

    assert references(losses) == ["twice", "twice", "twice", None, "twice", "twice"]
    del losses["twice"], losses["again"]
    assert references(losses) == [None, "smooth", "smooth", "smooth"]
    assert references(losses, "both") == ["both", "both", "both", None]
    assert references(["f1", "mcc"]) == [None, None]
    (_, weighted, *_) = combine(
        {"ce": "ce", "weighted": losses["class weights"]},
        ["uniform", "balanced"],
        None,
        check_data(*small),
        quick(),
    )
    assert weighted.weighs_classes
    assert weighted.sampling == "uniform + weights"


def test_terms_follow_from_all_parameters_of_a_loss(small):
    losses = {"mixed": {"loss__mcc": 1}, "smooth": {"loss__label_smoothing": 0.1}, "plain": {}}
    estimator = quick(loss=LossMix(ce=1))
    made = combine(losses, ["uniform"], None, check_data(*small), estimator)
    assert [set(c.terms) for c in made] == [{"ce", "mcc"}, {"ce"}, {"ce"}]
    assert [c.reference for c in made] == ["plain", "plain", None]


def test_epochs_are_equal_unless_the_user_sets_their_length(small):
    def lengths(losses, **params):
        made = combine(losses, ["uniform", "balanced"], None, check_data(*small), quick(**params))
        return [c.params.get("epoch_length") for c in made]

    assert lengths(["ce", "mcc"]) == [None, None, "uniform", "uniform"]
    assert lengths(["ce"], epoch_length=7) == [None, None]
    assert lengths({"ce": {"loss": "ce", "epoch_length": 7}}) == [7, 7]
    own = {"iterator_train": torch.utils.data.DataLoader}
    assert lengths(["ce"], net=own) == [None, None]
    assert lengths({"ce": {"loss": "ce", "net": own}}) == [None, None]
    study = compare(*small, samplers=["uniform", "balanced"], estimator=quick(epoch_length=3))
    assert {fit.n_steps for fit in study.fits} == {3}


def test_rows_of_a_split(small, digits):
    X, y = small
    groups = np.arange(len(y))
    rows = check_data(X, y, groups).of(Split(0, 0, np.arange(90), np.arange(90, 100), 0))
    assert len(rows.X) == len(rows.y) == len(rows.groups) == 90
    assert rows.y_test.tolist() == y[90:].tolist()
    assert (rows.X_test == X[90:]).all()
    fixed = check_data(X, y, None, digits.X_test, digits.y_test)
    assert fixed.of(Split(0, 0, None, None, 0)) is fixed
    assert fixed.counts.tolist() == [60, 20, 20]


def test_a_rare_class_that_cannot_be_split(small):
    X, y = small
    y = y.copy()
    y[y == 2] = 1
    y[-1] = 2
    with pytest.raises(ValueError, match=r"at least 2 members.*class 2 with 1"):
        compare(X, y)


def test_groups_that_leave_a_fold_without_a_class(small):
    X, y = small
    cv = StratifiedGroupKFold(3)
    groups = np.where(y == 2, 100 + np.arange(100) % 2, np.arange(100))
    with pytest.raises(ValueError, match=r"got no row of \[2\]"):
        compare(X, y, cv=cv, groups=groups, estimator=CNN2DClassifier(module=never))


def test_groups_and_resampled_rows(small):
    X, y = small
    groups = np.arange(len(y)) // 4
    pipeline = make_imblearn_pipeline(NDSampler(RandomOverSampler()), quick(train_split=0.25))
    with pytest.raises(ValueError, match=r"train_split .*groups.* the step 'ndsampler'"):
        compare(X, y, groups=groups, estimator=pipeline)
    compare(X, y, estimator=pipeline, losses=["ce"])
    compare(X, y, groups=groups, estimator=pipeline.set_params(cnn2dclassifier__train_split=None))
