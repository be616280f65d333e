import math
import os
from dataclasses import replace
from typing import ClassVar
from unittest.mock import Mock

import numpy as np
import pytest
import sklearn
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from imblearn.under_sampling import RandomUnderSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from skorch.helper import predefined_split

from skimbal import CNN2DClassifier, LossMix, NDSampler
from skimbal.classifiers import settings
from skimbal.exceptions import ParameterError
from skimbal.fingerprints import describe
from skimbal.images import ImageFiles
from skimbal.losses import TERMS, Term
from skimbal.networks import BUILT_IN, SmallCNN
from skimbal.study import runs
from tests.study.data import PAIR, compare, counted, few_or_many, one_split, quick

SEEN = []


def recording(in_channels, n_classes, **options):
    network = SmallCNN(in_channels, n_classes, **options)
    SEEN.append(sum(parameter.double().sum().item() for parameter in network.parameters()))
    return network


@pytest.mark.parametrize(
    "losses", [PAIR, pytest.param(["ce", "f1", "ce+mcc"], marks=pytest.mark.slow)], ids=len
)
def test_initial_weights_are_those_of_the_split(small, losses):
    SEEN.clear()
    net = {"module__spatial_shape": (8, 8)}
    study = compare(
        *small,
        losses=losses,
        samplers=["uniform", "balanced"],
        estimator=quick(module=recording, net=net),
    )
    weights = np.reshape(SEEN, (2, 2 * len(losses)))  # split by split
    assert (weights == weights[:, :1]).all()
    assert weights[0, 0] != weights[1, 0]
    assert len({fit.seed for fit in study.fits}) == 2


@few_or_many(cv=2)
def test_every_configuration_takes_as_many_steps(small, options):
    samplers = ["uniform", "balanced", "stratified", "weighted"]
    samplers += [RandomOverSampler(), RandomUnderSampler()]
    estimator = quick(random_state=1)
    options = {"cv": one_split(*small), **options}
    study = compare(*small, samplers=samplers, estimator=estimator, **options)
    # 50 training rows in batches of 32.
    assert {fit.n_steps for fit in study.fits} == {2}
    assert len(study.fits) == 6 * study.n_splits
    assert [c.sampler for c in study.configurations] == [
        *samplers[:4],
        "RandomOverSampler()",
        "RandomUnderSampler()",
    ]


@few_or_many(losses=PAIR)
def test_one_seed_gives_one_table(small, options):
    first, second, other = (compare(*small, random_state=seed, **options) for seed in (0, 0, 1))
    assert str(first) == str(second)
    of_first, of_other = (s.scores("log_loss")["ce", "uniform"] for s in (first, other))
    assert of_first.tolist() != of_other.tolist()


@pytest.mark.slow
def test_workers_change_nothing(small):
    assert str(compare(*small, losses=PAIR)) == str(compare(*small, losses=PAIR, n_jobs=2))


@pytest.mark.slow
def test_auto_is_the_same_number_of_steps_for_every_configuration(small, monkeypatch):
    monkeypatch.setattr(settings, "IMAGES", replace(settings.IMAGES, least_steps=5))
    study = compare(
        *small,
        losses=PAIR,
        samplers=["uniform", "balanced", "weighted", RandomUnderSampler()],
        estimator=CNN2DClassifier(module="small", augment=None),
    )
    # 50 rows, in batches of 32.
    assert {(fit.n_steps, fit.n_epochs) for fit in study.fits} == {(48, 24)}


@few_or_many(losses=PAIR)
def test_fixed_test_set_trains_on_all_rows(small, digits, options):
    X, y = (digits.X_train, digits.y_train) if options else small
    test_set = {"X_test": digits.X_test, "y_test": digits.y_test}
    study = compare(X, y, **test_set, cv=None, n_repeats=2, **options)
    assert {fit.n_train for fit in study.fits} == {len(y)}
    assert {fit.n_test for fit in study.fits} == {len(digits.y_test)}
    assert study.confusion_matrix("ce", "uniform").sum() == 2 * len(digits.y_test)
    assert "fixed test set, 2 seeds" in str(study)
    assert "choice of the test rows" in str(study)


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


@few_or_many(losses=PAIR, cv=2)
def test_pipelines_and_seeds_of_their_samplers(small, options):
    pipeline = make_imblearn_pipeline(NDSampler(SMOTE()), quick())
    options = {"samplers": ["uniform", "balanced"], "cv": one_split(*small), **options}
    first, second = (compare(*small, estimator=pipeline, **options) for _ in range(2))
    assert str(first) == str(second)
    assert {fit.n_steps for fit in first.fits} == {math.ceil(90 / 32)}
    plain = compare(*small, estimator=make_pipeline(FunctionTransformer(), quick()), **options)
    assert str(plain) == str(compare(*small, **options))


@few_or_many(cv=3)
def test_warnings_of_fits_are_shown_once(small, options):
    with pytest.warns(UserWarning, match="batch_size=2 is less than the 3 classes") as caught:
        compare(*small, losses=["ce+mcc"], estimator=quick().set_params(batch_size=2), **options)
    assert len(caught) == 1


def test_progress_bar_counts_fits(small, capsys):
    compare(*small, losses=["ce"], verbose=1)
    assert "2/2" in capsys.readouterr().err
    compare(*small, losses=["ce"], verbose=True)
    assert "2/2" in capsys.readouterr().err
    for silent in (0, False):
        compare(*small, losses=["ce"], verbose=silent)
        assert capsys.readouterr().err == ""


def test_a_study_goes_on_where_it_was_ended(small, tmp_path):
    calls = []
    options = {"losses": PAIR, "cache_dir": tmp_path / "new" / "runs"}
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        compare(*small, scoring=counted(calls, fail_at=3), **options)
    assert len(caught.value.study.fits) == 2
    assert "Finished fits, 2 of them, are in" in "".join(caught.value.__notes__)
    study = compare(*small, scoring=counted(calls), **options)
    assert len(calls) == 3 + 2
    assert str(study) == str(compare(*small, losses=PAIR, scoring=counted(calls)))
    again = compare(*small, scoring=counted(calls), **options)
    assert len(calls) == 3 + 2 + 4
    assert again.fits == study.fits


@few_or_many(losses=PAIR)
def test_ctrl_c_loses_nothing(small, options):
    calls = []

    def scorer(estimator, X, y):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt) as caught:
        compare(*small, scoring=scorer, **options)
    assert len(caught.value.study.fits) == 1
    assert f"1 of {4 if options else 2} fits" in repr(caught.value.study)


def test_further_losses_samplers_and_repeats_join(small, tmp_path):
    calls = []
    options = {"scoring": counted(calls), "cache_dir": tmp_path}
    compare(*small, **options)
    repeated = compare(*small, n_repeats=2, **options)
    assert len(calls) == len(repeated.fits) == 4
    more = compare(*small, losses=["ce", "f1"], samplers=["uniform", "balanced"], **options)
    assert len(calls) == 4 + 6
    assert len(more.fits) == 8
    assert len(compare(*small, losses=["f1"], **options).fits) == 2
    assert len(calls) == 4 + 6


@pytest.mark.slow
def test_further_losses_samplers_and_repeats_join_at_once(small, tmp_path):
    calls = []
    options = {"losses": PAIR, "scoring": counted(calls), "cache_dir": tmp_path}
    compare(*small, **options)
    options["losses"] = ["ce", "f1", "ce+mcc"]
    more = compare(*small, samplers=["uniform", "balanced"], n_repeats=2, **options)
    assert len(calls) == len(more.fits) == 24
    options["losses"] = ["f1"]
    assert len(compare(*small, **options).fits) == 2
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
    with pytest.raises(ValueError, match=f"cache_dir must be .*same study.*{named}"):
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
    monkeypatch.setattr(ImageFiles, "__array__", Mock(side_effect=AssertionError("files read")))
    again = compare(ImageFiles(paths), y, cache_dir=tmp_path / "runs")
    assert again.fits == done.fits
    valid = predefined_split(Dataset(ImageFiles(paths), y))
    assert "files" in str(describe(quick(train_split=valid)))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "data.X.files"),
        ({"size": (6, 6)}, r"data.X.size \(None there, \(6, 6\) now\)"),
        ({"transform": np.sqrt}, "data.X.transform"),
    ],
)
def test_a_cache_of_other_files_is_refused(files, tmp_path, options, named):
    paths, y = files
    compare(ImageFiles(paths), y, cache_dir=tmp_path / "runs")
    if not options:
        status = os.stat(paths[3])
        np.save(paths[3], np.load(paths[4]))
        os.utime(paths[3], ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ValueError, match=f"cache_dir must be .*same study.*{named}"):
        compare(ImageFiles(paths, **options), y, cache_dir=tmp_path / "runs")


def test_another_function_under_the_name_of_a_row_is_fitted_anew(small, tmp_path, monkeypatch):
    def recall(tp, predicted, true):
        return (tp / (true + (true == 0))).mean()

    def precision(tp, predicted, true):
        return (tp / (predicted + (predicted == 0))).mean()

    calls = []
    options = {"losses": ["ce", "ce+own"], "scoring": counted(calls), "cache_dir": tmp_path}
    for score, n_new in ((recall, 4), (recall, 0), (precision, 2), (recall, 0)):
        monkeypatch.setitem(TERMS, "own", Term(score=score))
        calls.clear()
        compare(*small, samplers=["uniform"], cv=2, **options)
        assert len(calls) == n_new


def test_another_network_under_the_name_of_a_row_is_refused(small, tmp_path, monkeypatch):
    def wide(in_channels, n_classes, spatial_shape):
        return SmallCNN(in_channels, n_classes, spatial_shape=spatial_shape, width=9)

    compare(*small, losses=["ce"], cache_dir=tmp_path)
    monkeypatch.setitem(BUILT_IN, "small", wide)
    with pytest.raises(ValueError, match=r"cache_dir must be .*same study.*rows of tables\.small"):
        compare(*small, losses=["ce"], cache_dir=tmp_path)


def test_an_estimator_that_cannot_be_described_is_refused_with_a_cache_only(small, tmp_path):
    lines = (line for line in "ab")
    estimator = quick(augment=lambda images: images if lines else None)
    message = r"cache_dir must be None if variable 'lines' of .*cannot be described"
    with pytest.raises(ParameterError, match=message):
        compare(*small, estimator=estimator, cache_dir=tmp_path / "runs")
    rows = {"augment": {"augment": estimator.augment}}
    with pytest.raises(ParameterError, match=message):
        compare(*small, losses=rows, cache_dir=tmp_path / "runs")
    assert len(compare(*small, losses=rows).fits) == 2
