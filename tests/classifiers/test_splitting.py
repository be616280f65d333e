"""Training and validation rows."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from skorch.callbacks import (
    Callback,
    EpochScoring,
)
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch.utils.data import Subset

from skimbal.losses import inverse_frequency
from tests.classifiers.data import (
    CLASSIFIERS,
    N,
    NDIdentity,
    Seen,
    Y,
    assert_same_weights,
    global_state,
    images,
    noise,
    seen,
    small,
    tiny,
)


def test_validation_set_of_ones_own_in_original_labels():
    X, y = images()
    names = np.array(["no", "yes"])
    X_val, y_val = images(seed=9)
    valid = predefined_split(Dataset(X_val, names[y_val]))
    scoring = ("score", EpochScoring("accuracy", name="held_out", lower_is_better=False))
    clf = small(train_split=valid, callbacks=[scoring]).fit(X, names[y])
    assert clf.history_[-1, "held_out"] == pytest.approx(clf.score(X_val, names[y_val]))


def patients(n=20, n_images=4):
    """Return images, labels and groups: several images of each of some patients, in any order."""
    order = np.random.default_rng(0).permutation(n * n_images)
    X, _ = images(n=n * n_images)
    return X, (order % n < n // 5).astype(int), np.array([f"patient {i % n:02}" for i in order])


def split_of(groups, train_split, weight=None, X_y=None, **params):
    """Return the rows of training and validation of a fit with groups."""
    X, y, _ = patients() if X_y is None else (*X_y, None)
    clf = small(train_split=train_split, callbacks=[("seen", Seen())], max_epochs=1, **params)
    clf.fit(X, y, weight, groups)
    return seen(clf).train_.rows, seen(clf).valid_.rows


@pytest.mark.parametrize(
    ("train_split", "n_valid"),
    [
        (0.25, 20),
        (0.3, 27),  # one of 3 folds
        (0.5, 40),
        (4, 20),
        (GroupKFold(4), 20),
        (StratifiedGroupKFold(4), 20),
        (StratifiedGroupKFold(4, shuffle=True), 20),
        (GroupShuffleSplit(1, test_size=0.25), 20),
        (ValidSplit(GroupShuffleSplit(1, test_size=0.25)), 20),
        (lambda data, y, groups: ValidSplit(GroupKFold(4))(data, y, groups), 20),
    ],
)
def test_no_group_is_on_both_sides_of_the_validation_split(train_split, n_valid):
    _, y, groups = patients()
    before = global_state()
    train, valid = split_of(groups, train_split)
    assert sorted([*train, *valid]) == list(range(len(y)))
    assert not set(groups[train]) & set(groups[valid])
    assert abs(len(valid) - n_valid) <= 4  # an image, or a patient
    for rows in split_of(groups, train_split), split_of(list(groups), train_split):
        assert_array_equal(rows[0], train)
    assert global_state() == before
    if isinstance(train_split, int | float):
        assert set(y[train]) == set(y[valid]) == {0, 1}
        assert abs(y[valid].mean() - 0.2) < 0.1


def test_groups_come_in_any_form_and_rows_of_weight_0_are_not_there():
    X, y, groups = patients()
    train, valid = split_of(groups, 4)
    _, number = np.unique(groups, return_inverse=True)
    for same in (number, number * 0.5, torch.from_numpy(number), pd.Series(groups, index=y)):
        assert_array_equal(split_of(same, 4)[1], valid)
    gone = np.arange(len(y)) % 3 == 0
    kept = np.flatnonzero(~gone)
    train, valid = split_of(groups, 4, weight=np.where(gone, 0.0, 1.0))
    alone = split_of(groups[kept], 4, X_y=(X[kept], y[kept]))
    assert_array_equal(train, kept[alone[0]])
    assert_array_equal(valid, kept[alone[1]])


def test_split_by_group_is_seeded_by_the_fit():
    groups = patients()[-1]
    splits = {tuple(split_of(groups, 0.25, random_state=seed)[1]) for seed in range(5)}
    assert len(splits) > 1
    draws = {
        tuple(split_of(groups, GroupShuffleSplit(1), random_state=seed)[1]) for seed in range(5)
    }
    assert len(draws) > 1
    own = {
        tuple(split_of(groups, GroupShuffleSplit(1, random_state=3), random_state=seed)[1])
        for seed in range(5)
    }
    assert len(own) == 1


def test_split_by_group_finds_the_fold_that_has_every_class():
    X, _, groups = patients()
    # Two patients have the rare class: most of 10 folds lack it.
    y = np.isin(groups, ["patient 03", "patient 11"]).astype(int)
    for seed in range(5):
        train, valid = split_of(groups, 0.1, X_y=(X, y), random_state=seed)
        assert len(set(groups[train][y[train] == 1])) == len(set(groups[valid][y[valid] == 1])) == 1


@pytest.mark.parametrize(
    ("train_split", "n_shared"),
    [
        (StratifiedKFold(2), 20),
        (KFold(2), 20),
        (StratifiedShuffleSplit(1, test_size=0.5, random_state=0), None),
        (ValidSplit(0.5, stratified=True), None),
        ([(np.arange(60), np.arange(60, 80))], None),
        ([(np.arange(80) < 60, np.arange(80) >= 60)], None),
        (lambda data, y: ValidSplit(2)(data, y), 20),
        (lambda data, y: (data, data), 20),
        (lambda data, y, **kwargs: (data, data), 20),
    ],
)
def test_groups_on_both_sides_of_ones_own_split_are_named(train_split, n_shared):
    X, y, groups = patients()
    clf = small(train_split=train_split, callbacks=[("seen", Seen())], max_epochs=1)
    with pytest.warns(UserWarning, match="train_split puts") as caught:
        clf.fit(X, y, groups=groups)
    train, valid = seen(clf).train_.rows, seen(clf).valid_.rows
    shared = np.intersect1d(groups[train], groups[valid]).tolist()
    assert n_shared in (None, len(shared))
    text = f"train_split puts {len(shared)} of 20 groups on both sides, such as {shared[0]!r}"
    (warning,) = caught
    assert str(warning.message).startswith(text)
    assert warning.filename == __file__
    clf.fit(X, y)  # without groups there is nothing to say


def test_splitters_without_groups_split_as_they_say():
    X, y, _ = patients()
    for splitter in (KFold(4), KFold(4, shuffle=True, random_state=0)):
        train, valid = next(splitter.split(X, y))
        found = split_of(None, splitter)
        assert_array_equal(found[0], train)
        assert_array_equal(found[1], valid)

    class Halves:
        def split(self, X, y):
            yield np.arange(40), np.arange(40, 80)

        def get_n_splits(self):
            return 1

    assert_array_equal(split_of(None, Halves())[1], np.arange(40, 80))
    with pytest.warns(UserWarning, match="groups on both sides"):
        split_of(patients()[-1], Halves())


def test_groups_without_a_split_or_with_other_validation_rows_change_nothing():
    X, y, groups = patients()
    assert_same_weights(small().fit(X, y, groups=groups), small().fit(X, y))
    valid = predefined_split(Dataset(X[:20], y[:20]))
    clf = small(train_split=valid)
    assert_same_weights(clf.fit(X, y, groups=groups), clone(clf).fit(X, y))


def test_partial_fit_splits_its_rows_by_group():
    X, y, groups = patients()
    clf = small(train_split=0.25, callbacks=[("seen", Seen())])
    for rows in (slice(0, 40), slice(40, 80)):
        clf.partial_fit(X[rows], y[rows], classes=[0, 1], groups=groups[rows])
        train, valid = seen(clf).train_.rows, seen(clf).valid_.rows
        assert len(train) + len(valid) == 40
        assert not set(groups[rows][train]) & set(groups[rows][valid])


class GroupsOfFits(Callback):
    """Note which groups were on both sides of each fit; row i of the images has the value i."""

    noted: ClassVar = []

    def on_epoch_begin(self, net, dataset_train, dataset_valid, **kwargs):
        train, valid = (data.X[:, 0, 0, 0].astype(int) for data in (dataset_train, dataset_valid))
        groups = patients()[-1]
        self.noted.append((len(valid), set(groups[train]) & set(groups[valid])))


@pytest.mark.parametrize("how", ["pipeline", "search", "cross_validate"])
def test_groups_are_routed_unless_told_otherwise(how):
    X, y, groups = patients()
    X[:, 0, 0] = np.arange(len(X))
    clf = small(train_split=0.25, callbacks=[GroupsOfFits], max_epochs=1)

    def fits(**request):
        GroupsOfFits.noted.clear()
        with sklearn.config_context(enable_metadata_routing=True):
            model = make_pipeline(NDIdentity(), clf.set_fit_request(**request))
            if how == "pipeline":
                model.fit(X, y, groups=groups)
            elif how == "search":
                GridSearchCV(
                    model, {"cnn2dclassifier__lr": [1e-3]}, cv=GroupKFold(2), error_score="raise"
                ).fit(X, y, groups=groups)
            else:
                cross_validate(
                    model, X, y, cv=GroupKFold(2), params={"groups": groups}, error_score="raise"
                )
        return list(GroupsOfFits.noted)

    routed = fits()
    assert len(routed) == {"pipeline": 1, "search": 3, "cross_validate": 2}[how]
    assert all(n_valid and not shared for n_valid, shared in routed)
    if how == "pipeline":
        with pytest.raises(TypeError, match="not routed"):
            fits(groups=False)
    else:
        assert all(shared for _, shared in fits(groups=False))


def test_groups_reach_a_step_of_a_pipeline_without_routing():
    X, y, groups = patients()
    clf = small(train_split=0.25, callbacks=[("seen", Seen())], max_epochs=1)
    pipeline = make_pipeline(NDIdentity(), clf).fit(X, y, cnn2dclassifier__groups=groups)
    assert_array_equal(seen(pipeline[-1]).valid_.rows, split_of(groups, 0.25)[1])


def test_validation_rows_leak_into_nothing():
    X, y = images()
    held_out = np.arange(len(X)) % 4 == 0
    changed = X.copy()
    changed[held_out] += 1000

    def split(dataset, y):
        subset = torch.utils.data.Subset
        return subset(dataset, np.flatnonzero(~held_out)), subset(dataset, np.flatnonzero(held_out))

    mine = small(train_split=split, loss="wce").fit(changed, y)
    alone = small(loss="wce").fit(X[~held_out], y[~held_out])
    assert_allclose(mine.net_.module_.mean, alone.net_.module_.mean)
    weights = [clf.net_.criterion_.class_weights["wce"] for clf in (mine, alone)]
    assert_allclose(*weights)


@pytest.mark.parametrize("train_split", [0.25, 4])
def test_pixels_of_validation_rows_change_nothing(train_split):
    X, y = images()
    clf = small(loss="wce", train_split=train_split, callbacks=[("seen", Seen())]).fit(X, y)
    rows = seen(clf).valid_.rows
    counts = np.bincount(np.delete(y, rows))
    weights = clf.net_.criterion_.class_weights["wce"]
    assert_allclose(weights, inverse_frequency(counts), rtol=1e-6)
    changed = X.copy()
    changed[rows] = 1e4
    assert_same_weights(clf, clone(clf).fit(changed, y))
    changed = X.copy()
    changed[np.delete(np.arange(len(X)), rows)[0]] = 1e4
    assert not np.allclose(clone(clf).fit(changed, y).net_.module_.mean, clf.net_.module_.mean)


PAIR = "train_split must be a split that returns a pair"


ROWS = "train_split must be a split whose training rows"


@pytest.mark.parametrize(
    ("split", "fragments"),
    [
        (lambda data, y: None, [PAIR, "got None"]),
        (lambda data, y: (data, None, None), [PAIR]),
        (lambda data, y: data, [PAIR, "ImageDataset"]),
        (lambda data, y: (None, data), [ROWS, "got None"]),
        (lambda data, y: (np.arange(6), None), [ROWS]),
        (lambda data, y: (Subset(data, []), data), [ROWS]),
        (lambda data, y: (Subset(Subset(data, [2, 3, 4]), [0, 1]), None), [ROWS]),
        *(
            (split, ["train_split must be ", f"got {split!r}"])
            for split in ("holdout", b"cv", 0, -0.5, 1.5, 1, True, np.nan, np.inf, 100)
        ),
    ],
)
def test_splits_that_make_no_sense(refused, split, fragments):
    refused(lambda: tiny(train_split=split).fit(noise(), Y), *fragments)


@pytest.mark.parametrize("split", [[1, 2], KFold])
def test_errors_of_a_split_name_the_parameter(refused, split):
    note = f"train_split={split!r} failed to split 12 rows"
    refused(lambda: tiny(train_split=split).fit(noise(), Y), note, error=(TypeError, ValueError))


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_validation_sets_that_do_not_fit(refused, cls):
    X = noise(cls)

    def fit(X_valid, y_valid):
        dataset = Dataset(X_valid)
        dataset.y = y_valid
        return lambda: tiny(cls, train_split=predefined_split(dataset)).fit(X, Y)

    full = (1, *X.shape[1:])
    refused(
        fit(X[:, 1:], Y),
        f"sample shape {(1, *X[:, 1:].shape[1:])}",
        f"expecting sample shape {full}",
    )
    refused(fit(X[:5], Y), "inconsistent", "[5, 12]")
    refused(fit(X * np.where(X > 90, np.nan, 1), Y), "Input X contains NaN")
    refused(fit(X, Y + 1), "among the classes [0, 1]; got [2]")
    refused(fit(X, None), "target y is None")
    wrong = tiny(cls, train_split=lambda data, y: (data, [1, 2]))
    refused(
        lambda: wrong.fit(X, Y),
        "validation set",
        "Dataset(X, y)",
        "torch Subset",
        "got list",
        error=TypeError,
    )


MIXED = "Give every group the same type, such as str, and drop the rows without"


@pytest.mark.parametrize("train_split", [None, 2])
@pytest.mark.parametrize(
    ("groups", "fragments"),
    [
        (np.arange(5), ["inconsistent", "[12, 5]"]),
        (np.ones((N, 2)), ["groups must have one entry for each row of X", "(12, 2)"]),
        (7, ["groups must have one entry for each row of X", "got the shape ()"]),
        ([1, np.nan] * 6, ["groups contains NaN"]),
        (["a", np.nan] * 6, ["groups must hold groups of one type", "float, str", MIXED]),
        (
            np.array(["a", np.nan] * 6, dtype=object),
            ["groups must hold groups of one type", "float, str", MIXED],
        ),
        (["a", None] * 6, ["groups must hold", "got the types NoneType, str", MIXED]),
        (
            pd.Series(["a", None] * 6, dtype="string"),
            ["groups must hold groups of one type", MIXED],
        ),
        (pd.to_datetime(["2020-01-01", None] * 6), ["groups contains NaT", "Drop the rows"]),
    ],
)
def test_groups_that_are_none(refused, groups, fragments, train_split):
    refused(lambda: tiny(train_split=train_split).fit(noise(), Y, groups=groups), *fragments)
    clf = tiny(train_split=train_split)
    refused(lambda: clf.partial_fit(noise(), Y, [0, 1], groups=groups), *fragments)


@pytest.mark.parametrize(
    ("split", "groups", "fragments"),
    [
        (
            0.5,
            Y,
            [
                "in the fewest groups is 'a', in 1, but needs at least 2",
                "got 0.5, and none of its 2 folds",
            ],
        ),
        (
            2,
            np.minimum(np.arange(N), 1),
            ["train_split must give a fold of whole groups", "train_split=None"],
        ),
        (0.6, np.arange(N), ["train_split must be ", "at most 0.5", "got 0.6"]),
        (-0.5, np.arange(N), ["train_split must be ", "got -0.5"]),
        (np.nan, np.arange(N), ["train_split must be ", "got nan"]),
        (1, np.arange(N), ["train_split must be ", "got 1"]),
        (13, np.arange(N), ["n_splits=13", "n_samples=12", "train_split=13 failed"]),
    ],
)
def test_groups_that_cannot_be_split(refused, split, groups, fragments):
    labels = np.array(["a", "b"])[Y]
    refused(lambda: tiny(train_split=split).fit(noise(), labels, groups=groups), *fragments)


def test_splitters_that_need_groups_say_so(refused):
    refused(lambda: tiny(train_split=GroupKFold(2)).fit(noise(), Y), "groups", "None")
