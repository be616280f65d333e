import json
import math
import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import sklearn
import sklearn.metrics as metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from imblearn.under_sampling import RandomUnderSampler
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    KFold,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, NDSampler
from skimbal.datasets import DataCard, load_imbalanced_digits
from skimbal.images import ImageArray, ImageFiles
from skimbal.networks import SmallCNN
from skimbal.study import Configuration, LossStudy, compare_losses, plan, runs, statistics
from skimbal.study.fit_cache import describe


@pytest.fixture(scope="module")
def digits():
    return load_imbalanced_digits()


@pytest.fixture(scope="module")
def small(digits):
    """Few images of three classes: 60, 20 and 20."""
    rows = np.concatenate(
        [np.flatnonzero(digits.y_train == k)[:n] for k, n in enumerate((60, 20, 20))]
    )
    return digits.X_train[rows], digits.y_train[rows]


def quick(**params):
    return CNN2DClassifier(max_epochs=1, batch_size=32, **params)


def compare(X, y, **kwargs):
    options = {
        "losses": ["ce", "ce+mcc"],
        "samplers": ["uniform"],
        "estimator": quick(),
        "cv": 2,
        "random_state": 0,
        "verbose": 0,
    }
    return compare_losses(X, y, **{**options, **kwargs})


def never(in_channels, n_classes, **options):
    pytest.fail("a network was built although the call should have been refused")


def synthetic(scores, *, ratio=0.25, has_test_set=False, scoring="balanced_accuracy", steps=None):
    """Make a study from scores: {(loss, sampler, reference): [score of each fit]}."""
    configurations = [
        Configuration(loss, sampler, reference, {"loss": "ce", "sampler": None})
        for loss, sampler, reference in scores
    ]
    n_splits = max(map(len, scores.values()))
    study = LossStudy(
        configurations,
        classes=np.array([0, 1]),
        scoring=scoring,
        estimator=CNN2DClassifier(),
        data=DataCard.from_labels({"all": [0, 1]}, image_shape=(8, 8), dtype="uint8"),
        seed=0,
        splitting="made up",
        n_splits=n_splits,
        has_test_set=has_test_set,
    )
    for (loss, sampler, _), values in scores.items():
        for fold, value in enumerate(values):
            study.fits.append(
                {
                    "loss": loss,
                    "sampler": sampler,
                    "repeat": 0,
                    "fold": fold,
                    "n_train": 100,
                    "n_test": round(100 * ratio),
                    "n_steps": 5 if steps is None else steps[loss],
                    "scores": dict.fromkeys(study.score_names, value),
                    "confusion_matrix": [[1, 2], [3, 4]],
                }
            )
    return study


# What is kept equal --------------------------------------------------------------------------

SEEN = []


def recording(in_channels, n_classes, **options):
    network = SmallCNN(in_channels, n_classes, **options)
    SEEN.append(sum(parameter.double().sum().item() for parameter in network.parameters()))
    return network


def test_initial_weights_are_those_of_the_split(small):
    SEEN.clear()
    net = {"module__spatial_shape": (8, 8)}
    study = compare(
        *small,
        losses=["ce", "f1", "ce+mcc"],
        samplers=["uniform", "balanced"],
        estimator=quick(module=recording, net=net),
    )
    weights = np.reshape(SEEN, (2, 6))  # split by split
    assert (weights == weights[:, :1]).all()
    assert weights[0, 0] != weights[1, 0]
    assert len({fit["seed"] for fit in study.fits}) == 2


def test_every_configuration_takes_as_many_steps(small):
    samplers = ["uniform", "balanced", "stratified", "weighted"]
    samplers += [RandomOverSampler(), RandomUnderSampler()]
    study = compare(*small, losses=["ce"], samplers=samplers, estimator=quick(random_state=1))
    # 50 training rows in batches of 32.
    assert {fit["n_steps"] for fit in study.fits} == {2}
    assert len(study.fits) == 12
    assert [c.sampler for c in study.configurations] == [
        *samplers[:4],
        "RandomOverSampler()",
        "RandomUnderSampler()",
    ]


def test_repeats_draw_folds_anew_and_keep_those_before(small):
    once, twice = (compare(*small, losses=["ce"], n_repeats=n) for n in (1, 2))
    assert twice.fits[:2] == [{**fit, **times(twice, i)} for i, fit in enumerate(once.fits)]
    assert twice.fits[2]["scores"] != twice.fits[0]["scores"]
    assert len({fit["seed"] for fit in twice.fits}) == 4


def times(study, i):
    return {name: study.fits[i][name] for name in ("fit_time", "score_time")}


def test_one_seed_gives_one_table(small):
    first, second, other = (compare(*small, random_state=seed) for seed in (0, 0, 1))
    assert str(first) == str(second)
    assert first.scores()["ce", "uniform"].tolist() != other.scores()["ce", "uniform"].tolist()


@pytest.mark.slow
def test_workers_change_nothing(small):
    assert str(compare(*small)) == str(compare(*small, n_jobs=2))


def test_default_is_the_papers_fifteen(small):
    study = compare(*small, losses=None, samplers=None)
    names = [(c.loss, c.sampler) for c in study.configurations]
    six = ["ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc"]
    weighted = ["wce", "wce+f1", "wce+mcc"]
    assert sorted(names) == sorted(
        [(loss, sampler) for sampler in ("uniform", "balanced") for loss in six]
        + [(loss, "uniform") for loss in weighted]
    )
    assert len(study.differences()) == 13


def test_default_estimator_suits_the_shape(rng):
    for shape, expected in [
        ((16, 8, 8), CNN2DClassifier),
        ((16, 3, 8, 8), CNN2DClassifier),
        ((16, 8, 8, 8), CNN3DClassifier),
        ((16, 1, 4, 8, 8), CNN3DClassifier),
    ]:
        X = rng.integers(0, 255, size=shape, dtype=np.uint8)
        assert type(plan.check_estimator(None, X)) is expected


def test_fixed_test_set_trains_on_all_rows(digits):
    study = compare(
        digits.X_train,
        digits.y_train,
        X_test=digits.X_test,
        y_test=digits.y_test,
        cv=None,
        n_repeats=2,
    )
    assert {fit["n_train"] for fit in study.fits} == {len(digits.y_train)}
    assert {fit["n_test"] for fit in study.fits} == {len(digits.y_test)}
    assert study.confusion_matrix("ce", "uniform").sum() == 2 * len(digits.y_test)
    assert "fixed test set, 2 seeds" in str(study)
    assert "choice of the test rows is not in it" in str(study)


def test_groups_stay_on_one_side(small):
    X, y = small
    groups = np.arange(len(y)) // 4
    seen = []

    def scorer(estimator, X_test, y_test):
        seen.append({tuple(image.ravel()) for image in X_test})
        return 1.0

    compare(X, y, groups=groups, losses=["ce"], scoring=scorer)
    for test in seen:
        mine = np.array([tuple(image.ravel()) in test for image in X])
        assert not set(groups[mine]) & set(groups[~mine])


class GroupsOfFits(Callback):
    """Note the groups of the rows of each side of a validation split."""

    noted: ClassVar = []

    def __init__(self, group_of):
        self.group_of = group_of

    def on_epoch_begin(self, net, dataset_train, dataset_valid, **kwargs):
        self.noted.append(
            [
                {self.group_of[image.tobytes()] for image in data.X[:, 0]}
                for data in (dataset_train, dataset_valid)
            ]
        )


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("how", ["alone", "in a pipeline", "on a test set"])
def test_groups_reach_the_validation_split(small, digits, how, routing):
    X, y = small
    groups = np.arange(len(y)) // 4
    noted = GroupsOfFits({image.tobytes(): g for image, g in zip(X, groups, strict=True)})
    estimator = quick(train_split=0.25, callbacks=[noted])
    options = {"groups": groups, "losses": ["ce"], "estimator": estimator}
    if how == "in a pipeline":
        options["estimator"] = make_pipeline(FunctionTransformer(), estimator)
    if how == "on a test set":
        options |= {"X_test": digits.X_test, "y_test": digits.y_test, "cv": None}
        options |= {"groups_test": 100 + np.arange(len(digits.y_test))}
    GroupsOfFits.noted.clear()
    with sklearn.config_context(enable_metadata_routing=routing):
        study = compare(X, y, **options)
    assert len(GroupsOfFits.noted) == len(study.fits) > 0
    assert all(train and valid and not train & valid for train, valid in GroupsOfFits.noted)
    if how == "on a test set":
        assert study.data.n_groups == {"train": 25, "test": 216}


def test_groups_and_resampled_rows(small):
    X, y = small
    groups = np.arange(len(y)) // 4
    pipeline = make_imblearn_pipeline(NDSampler(RandomOverSampler()), quick(train_split=0.25))
    with pytest.raises(ValueError, match=r"the step 'ndsampler' .* train_split cannot keep groups"):
        compare(X, y, groups=groups, estimator=pipeline)
    compare(X, y, estimator=pipeline, losses=["ce"])
    compare(X, y, groups=groups, estimator=pipeline.set_params(cnn2dclassifier__train_split=None))


def test_pipelines_and_seeds_of_their_samplers(small):
    pipeline = make_imblearn_pipeline(NDSampler(SMOTE()), quick())
    first, second = (
        compare(*small, estimator=pipeline, samplers=["uniform", "balanced"]) for _ in range(2)
    )
    assert str(first) == str(second)
    assert {fit["n_steps"] for fit in first.fits} == {math.ceil(90 / 32)}
    plain = compare(*small, estimator=make_pipeline(FunctionTransformer(), quick()))
    assert (
        plain.scores()["ce", "uniform"].tolist()
        == compare(*small).scores()["ce", "uniform"].tolist()
    )


def test_array_likes_of_any_kind(small):
    X, y = small
    expected = str(compare(X, y))
    labels = np.array(["a", "b", "c"])[y]
    assert str(compare(X.tolist(), y.tolist())).splitlines()[3:6] == expected.splitlines()[3:6]
    assert str(compare(ImageArray(X), pd.Series(y))) == expected
    assert (
        str(compare(X, labels))
        .replace("f1[a]", "f1[0]")
        .replace("f1[b]", "f1[1]")
        .replace("f1[c]", "f1[2]")
        == expected
    )
    rows = pd.DataFrame(X.reshape(len(X), -1))
    rows.columns = rows.columns.astype(str)
    assert str(compare(rows, y, estimator=quick(input_shape=(8, 8)))) == expected


@pytest.fixture
def files(small, tmp_path):
    """Some images as files, and their labels."""
    X, y = (array[::2] for array in small)
    paths = [tmp_path / f"{i:03}.npy" for i in range(len(y))]
    for path, image in zip(paths, X, strict=True):
        np.save(path, image)
    return paths, y


def test_image_files_are_read_in_fits_only(small, files, tmp_path, monkeypatch):
    paths, y = files
    expected = str(compare(np.stack([np.load(path) for path in paths]), y))
    assert str(compare(ImageFiles(paths), y)) == str(compare(paths, y)) == expected
    done = compare(ImageFiles(paths), y, cache_dir=tmp_path / "runs")
    monkeypatch.setattr(ImageFiles, "__array__", lambda *args, **kwargs: pytest.fail("files read"))
    again = compare(ImageFiles(paths), y, cache_dir=tmp_path / "runs")
    assert again.fits == done.fits
    valid = predefined_split(Dataset(ImageFiles(paths), y))
    assert "files" in str(describe(quick(train_split=valid)))


def test_default_estimator_of_image_files(tmp_path):
    paths = [tmp_path / f"{i}.npy" for i in range(2)]
    for path in paths:
        np.save(path, np.zeros((3, 8, 8), np.uint8))
    as_pictures, as_volumes = ImageFiles(paths, channels=3), ImageFiles(paths, size=(3, 8, 8))
    assert as_pictures.shape == as_volumes.shape
    assert isinstance(plan.check_estimator(None, as_pictures), CNN2DClassifier)
    assert isinstance(plan.check_estimator(None, as_volumes), CNN3DClassifier)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "data.X.files"),
        ({"size": (6, 6)}, r"data.X.size \(None there, \[6, 6\] now\)"),
        ({"transform": np.sqrt}, "data.X.transform"),
    ],
)
def test_a_cache_of_other_files_is_refused(files, tmp_path, options, named):
    paths, y = files
    compare(ImageFiles(paths), y, cache_dir=tmp_path / "runs")
    if not options:
        np.save(paths[3], np.load(paths[4]))
        os.utime(paths[3], ns=(1, 1))
    with pytest.raises(ValueError, match=f"is of another study.*{named}"):
        compare(ImageFiles(paths, **options), y, cache_dir=tmp_path / "runs")


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
    listed = compare(*small, losses=["ce", LossMix(f1=1), Own])
    assert [c.loss for c in listed.configurations] == ["ce", "LossMix(f1=1)", "Own"]


# Scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_those_of_scikit_learn(small, n_classes):
    X, y = small
    X, y = X[y < n_classes], y[y < n_classes]
    (train, test), *_ = StratifiedKFold(2).split(X, y)
    study = compare(X, y, cv=[(train, test)], losses=["ce+mcc"])
    (fit,) = study.fits
    model = quick(random_state=fit["seed"]).fit(X[train], y[train])
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
    assert fit["scores"] == pytest.approx(expected)
    assert fit["confusion_matrix"] == metrics.confusion_matrix(truth, predicted).tolist()


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
    study = compare(*small, scoring=scoring)
    assert study.scoring == study.score_names[0] == name
    means = [estimate.mean for estimate in study.estimates()]
    best = min(means) if name == "log_loss" else max(means)
    assert study.best.mean == best
    assert study.greater_is_better(name) == (name != "log_loss")
    assert len(study.score_names) == len(set(study.score_names))


# Statistics ----------------------------------------------------------------------------------


def test_interval_is_nadeau_and_bengios():
    d = np.array([0.03, 0.01, -0.02, 0.05, 0.04])
    study = synthetic({("ce", "uniform", None): 0 * d, ("mcc", "uniform", "ce"): d})
    (difference,) = study.differences()
    error = np.sqrt((1 / 5 + 0.25) * d.var(ddof=1))
    assert difference.mean == pytest.approx(d.mean())
    assert difference.p_value == pytest.approx(2 * stats.t.sf(d.mean() / error, 4))
    reach = stats.t.ppf(0.975, 4) * error
    assert (difference.low, difference.high) == pytest.approx((d.mean() - reach, d.mean() + reach))


def test_on_a_test_set_it_is_the_paired_t_test():
    a, b = np.array([0.7, 0.8, 0.75]), np.array([0.6, 0.78, 0.77])
    study = synthetic({("ce", "x", None): b, ("mcc", "x", "ce"): a}, has_test_set=True)
    (difference,) = study.differences()
    expected = stats.ttest_rel(a, b)
    assert difference.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (difference.low, difference.high) == pytest.approx(interval)


def test_the_correction_keeps_false_alarms_rare():
    # Two classifiers that are equally good on the population, on 60 rows, ten times five folds.
    rng = np.random.default_rng(0)
    plain, corrected = 0, 0
    for _ in range(300):
        gain = rng.normal(size=60)
        folds = np.concatenate([rng.permutation(gain).reshape(5, 12).mean(1) for _ in range(10)])
        plain += stats.ttest_1samp(folds, 0).pvalue < 0.05
        corrected += LossStudy._interval(folds, 1 / 4)[4] < 0.05
    assert plain / 300 > 0.3
    assert corrected / 300 < 0.08


@pytest.mark.parametrize(("values", "p"), [([0.0, 0.0, 0.0], 1.0), ([0.1, 0.1, 0.1], 0.0)])
def test_differences_without_spread(values, p):
    study = synthetic({("ce", "x", None): [0, 0, 0], ("f1", "x", "ce"): values})
    (difference,) = study.differences()
    assert difference[3:] == pytest.approx((values[0], values[0], values[0], p))


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = statistics.holm([0.5, math.nan, 0.02])
    assert adjusted[0] == 0.5
    assert math.isnan(adjusted[1])
    assert adjusted[2] == 0.04


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_shrinks_nor_reorders(p_values):
    adjusted = statistics.holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_pairs_are_taken_split_by_split():
    study = synthetic({("ce", "x", None): [0.1, 0.2, 0.3], ("f1", "x", "ce"): [0.2, 0.3]})
    (difference,) = study.differences()
    assert difference.mean == pytest.approx(0.1)


# Words ---------------------------------------------------------------------------------------


def conclusions(*args, **kwargs):
    return "\n".join(synthetic(*args, **kwargs).conclusions())


def test_no_reliable_difference_is_said():
    text = conclusions(
        {("ce", "uniform", None): [0.5, 0.6, 0.7], ("f1", "uniform", "ce"): [0.6, 0.6, 0.6]}
    )
    assert "uniform sampling, against ce: no reliable difference in balanced accuracy" in text
    assert "reliably" not in text


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "log_loss"])
def test_reliable_differences_are_named_by_their_direction(scoring):
    ce = [0.50, 0.51, 0.49, 0.50]
    up, down = [0.70, 0.71, 0.70, 0.69], [0.30, 0.30, 0.31, 0.29]
    text = conclusions(
        {("ce", "x", None): ce, ("up", "x", "ce"): up, ("down", "x", "ce"): down}, scoring=scoring
    )
    better, worse = ("up", "down") if scoring == "balanced_accuracy" else ("down", "up")
    assert f"reliably better: {better} (" in text
    assert f"reliably worse: {worse} (" in text
    assert f"Best mean: {better} with x sampling" in text
    assert "a part of its lead is luck" in text


def test_what_the_numbers_do_not_show_is_said():
    assert "one fit each" in conclusions({("ce", "x", None): [0.5], ("f1", "x", "ce"): [0.6]})
    text = conclusions({("ce", "x", None): [0.5, 0.6], ("f1", "x", "ce"): [0.6]})
    assert "Not complete: 3 of 4 fits" in text
    text = conclusions(
        {("ce", "x", None): [0.5, 0.6], ("f1", "x", "ce"): [0.6, 0.7]}, steps={"ce": 5, "f1": 4}
    )
    assert "numbers of gradient steps differ" in text
    assert "no reference" in conclusions({("f1", "x", None): [0.5], ("mcc", "x", None): [0.5]})
    empty = synthetic({("ce", "x", None): [0.5]})
    empty.fits.clear()
    assert empty.conclusions() == ["No fit is finished."]
    assert "configurations" in str(empty)
    with pytest.raises(ValueError, match="no fit is finished"):
        empty.best  # noqa: B018


def test_text_and_notebook():
    study = synthetic({("ce", "<b>", None): [0.5, 0.6], ("f1", "<b>", "ce"): [0.6, 0.7]})
    assert repr(study) == "LossStudy(2 configurations, 4 of 4 fits, scoring='balanced_accuracy')"
    lines = str(study).splitlines()
    assert lines[2].split()[:2] == ["loss", "sampler"]
    assert "0.550 ± 0.071" in lines[3]
    assert "+0.100 [+0.100, +0.100]" in lines[4]
    page = study._repr_html_()
    assert "<td>&lt;b&gt;</td>" in page
    assert "<b>" not in page


def test_frames(small):
    study = compare(*small)
    frame = study.to_frame()
    assert list(frame.index) == [("ce", "uniform"), ("ce+mcc", "uniform")]
    row = frame.loc[("ce+mcc", "uniform")]
    estimate, difference = study.estimates("f1_macro")[1], study.differences("f1_macro")[0]
    assert row["mean_f1_macro"] == estimate.mean
    assert row["std_f1_macro"] == estimate.std
    assert (row["difference_f1_macro"], row["reference"]) == (difference.mean, "ce")
    assert row["difference_low_f1_macro"] == difference.low
    assert row["p_value_f1_macro"] == difference.p_value
    fits = study.to_frame("fit")
    assert len(fits) == 4
    assert fits["balanced_accuracy"].tolist() == [
        fit["scores"]["balanced_accuracy"] for fit in study.fits
    ]
    with pytest.raises(ValueError, match="per must be 'configuration' or 'fit', got 'row'"):
        study.to_frame("row")


def test_frames_name_their_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=r"skimbal\[study\]"):
        synthetic({("ce", "x", None): [0.5]}).to_frame()


def test_csv_is_the_frame(small, tmp_path):
    study = compare(*small)
    study.to_csv(tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv", index_col=["loss", "sampler"])
    pd.testing.assert_frame_equal(table, study.to_frame(), check_exact=True)


def test_without_fits_there_is_no_table(tmp_path):
    study = synthetic({("ce", "uniform", None): [0.5, 0.6]})
    study.fits.clear()
    for table in (study.to_frame, lambda: study.to_csv(tmp_path / "table.csv")):
        with pytest.raises(ValueError, match="no fit is finished"):
            table()
    assert not list(tmp_path.iterdir())


def test_code_makes_the_estimator(small):
    study = compare(
        *small,
        losses=[LossMix(ce=1, mcc=0.5)],
        samplers=["balanced"],
        estimator=quick(net={"optimizer__weight_decay": 1e-4}),
    )
    code = study.code("LossMix(ce=1, mcc=0.5)", "balanced")
    made = eval(code)
    assert made.get_params()["loss__mcc"] == 0.5
    assert (made.sampler, made.max_epochs, made.net) == (
        "balanced",
        1,
        {"optimizer__weight_decay": 1e-4},
    )
    with pytest.raises(ValueError, match="no configuration"):
        study.code("ce", "balanced")
    with pytest.raises(ValueError, match="no finished fit"):
        study.confusion_matrix("ce", "balanced")


def test_unknown_score_lists_known_ones():
    study = synthetic({("ce", "x", None): [0.5]})
    for method in (study.estimates, study.differences, study.scores, study.greater_is_better):
        with pytest.raises(ValueError, match=r"unknown score 'auc'; this study has balanced"):
            method("auc")


def test_warnings_of_fits_are_shown_once(small):
    with pytest.warns(UserWarning, match="batch_size=2 is less than the 3 classes") as caught:
        compare(*small, losses=["ce+mcc"], estimator=quick().set_params(batch_size=2), cv=3)
    assert len(caught) == 1


def test_progress_bar_counts_fits(small, capsys):
    compare(*small, losses=["ce"], verbose=1)
    assert "2/2" in capsys.readouterr().err
    compare(*small, losses=["ce"], verbose=0)
    assert capsys.readouterr().err == ""


# The cache -----------------------------------------------------------------------------------


def counted(calls, *, fail_at=None):
    def scorer(estimator, X, y):
        calls.append(1)
        if len(calls) == fail_at:
            raise RuntimeError("out of memory, say")
        return 0.5

    return scorer


def test_a_study_goes_on_where_it_was_ended(small, tmp_path):
    calls = []
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        compare(*small, scoring=counted(calls, fail_at=3), cache_dir=tmp_path / "new" / "runs")
    assert len(caught.value.study.fits) == 2
    assert "Finished fits, 2 of them, are in" in "".join(caught.value.__notes__)
    study = compare(*small, scoring=counted(calls), cache_dir=tmp_path / "new" / "runs")
    assert len(calls) == 3 + 2
    assert str(study) == str(compare(*small, scoring=counted(calls)))
    again = compare(*small, scoring=counted(calls), cache_dir=tmp_path / "new" / "runs")
    assert len(calls) == 3 + 2 + 4
    assert again.fits == study.fits


def test_ctrl_c_loses_nothing(small):
    calls = []

    def scorer(estimator, X, y):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt) as caught:
        compare(*small, scoring=scorer)
    assert len(caught.value.study.fits) == 1
    assert "1 of 4 fits" in repr(caught.value.study)


def test_further_losses_samplers_and_repeats_join(small, tmp_path):
    calls = []
    options = {"scoring": counted(calls), "cache_dir": tmp_path}
    compare(*small, **options)
    more = compare(
        *small,
        losses=["ce", "f1", "ce+mcc"],
        samplers=["uniform", "balanced"],
        n_repeats=2,
        **options,
    )
    assert len(calls) == 24
    assert len(more.fits) == 24
    assert len(compare(*small, losses=["f1"], **options).fits) == 2
    assert len(calls) == 24


def test_same_name_of_another_loss_is_another_fit(small, tmp_path):
    calls = []
    options = {"scoring": counted(calls), "cache_dir": tmp_path, "cv": 2}
    compare(*small, losses={"mine": lambda_loss(0.5)}, **options)
    compare(*small, losses={"mine": lambda_loss(0.5)}, **options)
    assert len(calls) == 2
    compare(*small, losses={"mine": lambda_loss(1.0)}, **options)
    assert len(calls) == 4


def lambda_loss(mcc):
    return LossMix(ce=1, mcc=mcc)


def test_half_a_line_of_a_crash_is_done_again(small, tmp_path):
    study = compare(*small, cache_dir=tmp_path)
    path = tmp_path / "fits.jsonl"
    text = path.read_text()
    path.write_text(text[:-20])
    assert str(compare(*small, cache_dir=tmp_path)) == str(study)
    assert [json.loads(line)[0] for line in path.read_text().splitlines()] == [
        json.loads(line)[0] for line in text.splitlines()
    ]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"estimator": CNN2DClassifier(max_epochs=2)}, r"estimator.max_epochs \(1 there, 2 now\)"),
        ({"cv": 3}, "folds"),
        ({"random_state": 1}, r"seed \(0 there, 1 now\)"),
        ({"groups": np.arange(100) // 2}, "data.groups"),
        ({"X": 1}, "data.X"),
        ({"y": 1}, "data.y"),
    ],
)
def test_a_cache_of_another_study_is_refused(small, tmp_path, change, named):
    X, y = small
    compare(X, y, cache_dir=tmp_path)
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())
    if "X" in change:
        X = X + np.uint8(change.pop("X"))
    if "y" in change:
        y = np.roll(y, change.pop("y"))
    with pytest.raises(ValueError, match=f"is of another study.*{named}"):
        compare(X, y, cache_dir=tmp_path, **change)
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) == before


def test_a_cache_of_other_versions_is_refused(small, tmp_path, monkeypatch):
    compare(*small, cache_dir=tmp_path)
    monkeypatch.setattr(runs, "package_versions", lambda: {"skimbal": "9"})
    with pytest.raises(ValueError, match=r"versions.skimbal \(.* there, 9 now\)"):
        compare(*small, cache_dir=tmp_path)


def test_without_a_seed_the_cache_keeps_one(small, tmp_path):
    first = compare(*small, random_state=None, cache_dir=tmp_path)
    assert str(compare(*small, random_state=None, cache_dir=tmp_path)) == str(first)
    assert compare(*small, random_state=None).seed != first.seed
    generator = np.random.RandomState(3)
    assert (
        compare(*small, random_state=generator).seed != compare(*small, random_state=generator).seed
    )


def test_foreign_and_damaged_folders_are_refused(small, tmp_path):
    estimator = CNN2DClassifier(module=never)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="holds files, but none of a study"):
        compare(*small, cache_dir=foreign, estimator=estimator)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        compare(*small, cache_dir=file, estimator=estimator)
    with pytest.raises(NotADirectoryError, match="cannot be written to"):
        compare(*small, cache_dir=file / "runs", estimator=estimator)
    (foreign / "study.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged or no file of a study"):
        compare(*small, cache_dir=foreign, estimator=estimator)


def test_an_unwritable_folder_is_refused(small, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"cannot be written to .*Permission denied"):
        compare(*small, cache_dir=tmp_path / "runs", estimator=CNN2DClassifier(module=never))


def test_a_damaged_line_is_named(small, tmp_path):
    compare(*small, cache_dir=tmp_path)
    path = tmp_path / "fits.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "nonsense", *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"line 2 of .*fits.jsonl is damaged"):
        compare(*small, cache_dir=tmp_path)


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": ["ce", "mmc"]}, "unknown term 'mmc'"),
        ({"losses": []}, "losses must hold at least one entry"),
        ({"losses": "ce"}, "losses must be a list or a mapping"),
        ({"losses": ["ce", "ce"]}, "losses holds 'ce' twice"),
        ({"losses": {"x": {"loss": "ce", "lrr": 1}}}, "lrr"),
        ({"losses": {"x": {"loss": "ce", "sampler": "balanced"}}}, "sets a sampler"),
        ({"samplers": ["balance"]}, r"sampler .*'uniform', 'balanced'.*'balance'"),
        ({"samplers": [SMOTE()]}, "NDSampler"),
        ({"baseline": "focal"}, r"baseline must be one of the losses \['ce', 'ce\+mcc'\]"),
        ({"scoring": "auc"}, "scoring must be one of balanced_accuracy"),
        ({"scoring": ["roc_auc"]}, "scoring must be one of"),
        ({"scoring": "roc_auc"}, r"scoring='roc_auc' cannot judge the classes \[0, 1, 2\]"),
        ({"estimator": DummyClassifier()}, "estimator must be a CNN2DClassifier"),
        ({"estimator": make_pipeline(DummyClassifier())}, "estimator must be a CNN2DClassifier"),
        ({"cv": 1}, "cv must be at least 2 folds"),
        ({"cv": 21}, "class 1 has 20 members, fewer than the 21 folds"),
        ({"cv": 61}, "class 1 has 20 members, fewer than the 61 folds.*cv=20 or less"),
        ({"cv": 4, "groups": np.arange(100) // 10}, "class 1 has 2 groups, fewer than the 4 folds"),
        ({"groups": np.arange(100) // 20, "cv": 2}, "class 1 has 1 of at least 2 groups"),
        ({"groups": np.arange(99)}, "inconsistent numbers of samples"),
        ({"groups": [1.0, np.nan] * 50}, "groups holds missing labels"),
        ({"groups_test": [1, 2]}, "groups_test are the groups of the rows of X_test"),
        (
            {"X_test": np.zeros((3, 8, 8)), "y_test": [0, 1, 2], "groups_test": [1, 2, 3]},
            "to be compared with groups; give all three",
        ),
        (
            {
                "X_test": np.zeros((3, 8, 8)),
                "y_test": [0, 1, 2],
                "groups": np.arange(100) + 2,
                "groups_test": [1, 2, 3],
            },
            r"2 group\(s\) are in the training and the test rows, such as 2",
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
        ({"cv": KFold(2)}, "lack the class"),
        (
            {"cv": StratifiedKFold(2), "groups": np.arange(100) % 7},
            r"fold 0 of repeat 0 has 7 group\(s\) on both sides",
        ),
        ({"cv": StratifiedKFold(2), "n_repeats": 2}, "n_repeats=2 draws the folds anew"),
        ({"n_repeats": 0}, "n_repeats must be an integer of at least 1, got 0"),
        ({"n_repeats": True}, "n_repeats must be an integer"),
        ({"verbose": -1}, "verbose must be an integer of at least 0"),
        ({"X_test": np.zeros((2, 8, 8))}, "X_test and y_test go together"),
        ({"X_test": np.zeros((3, 8, 8)), "y_test": [0, 1, 2]}, "give one of the two"),
        (
            {"X_test": np.zeros((2, 8, 8)), "y_test": [0, 1], "cv": None},
            "y_test must hold the same classes as y",
        ),
    ],
)
def test_bad_input_is_refused_before_any_fit(small, change, message):
    change = {"estimator": CNN2DClassifier(module=never), **change}
    with pytest.raises(ValueError, match=message):
        compare(*small, **change)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0] * 100, "at least 2 classes"),
        ([0.0, np.nan] * 50, "missing labels"),
        (["a", None] * 50, "missing labels"),
        ([0, 1] * 20, "inconsistent numbers of samples"),
    ],
)
def test_bad_labels_are_refused(small, y, message):
    with pytest.raises(ValueError, match=message):
        compare(small[0], y, estimator=CNN2DClassifier(module=never))


def test_a_rare_class_that_cannot_be_split(small):
    X, y = small
    y = y.copy()
    y[y == 2] = 1
    y[-1] = 2
    with pytest.raises(ValueError, match="class 2 has 1 of at least 2 members"):
        compare(X, y)


def test_groups_that_leave_a_fold_without_a_class(small):
    X, y = small
    cv = StratifiedGroupKFold(3)
    groups = np.where(y == 2, 100 + np.arange(100) % 2, np.arange(100))
    with pytest.raises(ValueError, match=r"lack the class\(es\) \[2\]"):
        compare(X, y, cv=cv, groups=groups, estimator=CNN2DClassifier(module=never))


def test_splitters_of_ones_own(small):
    repeated = compare(*small, cv=RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0))
    assert len(repeated.fits) == 8
    drawn = compare(*small, cv=StratifiedKFold(2, shuffle=True, random_state=5), n_repeats=2)
    first = compare(*small, cv=StratifiedKFold(2, shuffle=True, random_state=5))
    assert [f["scores"] for f in drawn.fits if f["repeat"] == 0] == [
        f["scores"] for f in first.fits
    ]


class Diverged(nn.Module):
    """A network whose weights no training can save."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, x):
        pixels = x.flatten(1).sum(1, keepdim=True)
        return self.bias + pixels * (0 if self.training else np.nan)


def test_diverged_networks_are_named(small, monkeypatch):
    monkeypatch.setattr(CNN2DClassifier, "_check_output", lambda *args: None)
    with pytest.raises(ValueError, match="probabilities that are not finite"):
        compare(*small, losses=["ce"], estimator=quick(module=Diverged))


def test_estimator_and_global_state_are_untouched(small):
    estimator = quick(loss="focal", random_state=7)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    compare(*small, estimator=estimator)
    assert (estimator.loss, estimator.random_state, estimator.net) == ("focal", 7, None)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    with pytest.raises(NotFittedError):
        estimator.predict(small[0])
