"""The promises of BatchSampler and NDSampler, each stated without the code that keeps them."""

import copy
import pickle
import random
import re
import tracemalloc
from collections import Counter
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from imblearn import FunctionSampler
from imblearn.base import is_sampler
from imblearn.combine import SMOTEENN, SMOTETomek
from imblearn.over_sampling import ADASYN, SMOTE, SMOTEN, BorderlineSMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline
from imblearn.under_sampling import (
    ClusterCentroids,
    EditedNearestNeighbours,
    NearMiss,
    OneSidedSelection,
    RandomUnderSampler,
    TomekLinks,
)
from imblearn.utils import estimator_checks as imblearn_checks
from numpy.testing import assert_array_equal
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as sklearn_checks
from sklearn.utils import get_tags
from torch.utils.data import DataLoader, TensorDataset

from skimbal.exceptions import ParameterError
from skimbal.sampling import (
    STRATEGIES,
    BatchSampler,
    NDSampler,
    Strategy,
    check_sampler,
    count_batches,
    is_uniform,
)
from tests.cases import quick_and_all

# Eight labels of each kind (of bool there are two), not in sorted order.
LABELS = {
    "int": range(8),
    "gappy": [7, -3, 100, 12, -50, 2**40, 0, 5],
    "float": [2.0, 0.0, -1.0, 5.0, 3.0, 10.0, 1.0, 7.0],
    "bool": [False, True],
    "str": ["nevus", "melanoma", "x", "", "keratosis", "b", "a longer name", "Nevus"],
    "object": ["nevus", "melanoma", "x", "", "keratosis", "b", "a longer name", "Nevus"],
}
NAMES = ["uniform", "balanced", "stratified", "weighted"]
DRAWN = [RandomOverSampler(), RandomUnderSampler(), RandomUnderSampler(replacement=True)]
EVERY = NAMES + DRAWN


@st.composite
def labels(draw):
    """2 to 8 classes of 1 to 30 rows, in any order."""
    kind = draw(st.sampled_from(list(LABELS)))
    names = LABELS[kind]
    n_classes = draw(st.integers(2, len(names)))
    counts = draw(st.lists(st.integers(1, 30), min_size=n_classes, max_size=n_classes))
    y = [name for name, count in zip(names, counts, strict=False) for _ in range(count)]
    np.random.default_rng(draw(st.integers(0, 2**32))).shuffle(y)
    return np.array(y, dtype=object if kind == "object" else None)


def can_be_drawn(y):
    # Above 20 rows scikit-learn takes many different labels for a regression target and warns.
    return len(y) <= 20 or 4 * len(set(y)) < len(y)


def resampled(sampler, y):
    """The labels that imbalanced-learn itself makes of y."""
    return clone(sampler).fit_resample(np.zeros((len(y), 1)), y)[1]


def n_rows(sampler, y):
    """The number of rows in an epoch."""
    if sampler == "balanced":
        return max(Counter(y).values()) * len(set(y))
    return len(y) if isinstance(sampler, str) else len(resampled(sampler, y))


def class_counts(y, batches):
    """One line for each batch, one column for each class."""
    codes = np.unique(y, return_inverse=True)[1]
    return np.array([np.bincount(codes[rows], minlength=codes.max() + 1) for rows in batches])


def same_epochs(a, b):
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def check(y, batch_size, sampler):
    """Check a sampler as BatchSampler does, but without one."""
    return check_sampler(sampler, y)


def at_random(observed, expected=None):
    """Whether counts look as independent draws do: neither too far from expected nor too near."""
    return 0.005 < stats.chisquare(observed, expected).pvalue < 0.995


# --- BatchSampler: how an epoch is cut ---


@given(labels(), st.integers(1, 70), st.sampled_from(EVERY), st.integers(0, 2**32))
@example(np.array([0, 1]), 1, "uniform", 0)
@example(np.array([0, 1, 1]), 2, "uniform", 0)
@example(np.array([0, 0, 0, 1]), 3, "uniform", 0)
@example(np.array([0] * 9 + [1] * 4), 4, "stratified", 0)
@example(np.array([0] * 9 + [1] * 4), 6, "weighted", 0)
def test_batch_sizes(y, batch_size, sampler, seed):
    assume(sampler not in DRAWN or can_be_drawn(y))
    batches = BatchSampler(y, batch_size, sampler, seed)
    n = n_rows(sampler, y)
    for _ in range(2):
        epoch = list(batches)
        sizes = [len(rows) for rows in epoch]
        assert sum(sizes) == n
        assert len(batches) == len(sizes)
        assert max(sizes) - min(sizes) <= 1
        if batch_size == 2 and n % 2:
            # The only batch size at which the odd one out finds no room elsewhere.
            assert max(sizes) == 3
            assert len(sizes) == n // 2
        else:
            assert max(sizes) <= batch_size
            assert len(sizes) == -(-n // batch_size)
        assert min(sizes) > 1 or batch_size == 1
        for rows in epoch:
            assert rows.dtype.kind == "i"
            assert_array_equal(rows, np.sort(rows))
            assert rows[0] >= 0
            assert rows[-1] < len(y)


@pytest.mark.parametrize("sampler", NAMES)
def test_one_row(sampler):
    for batch_size in (1, 2, 5):
        assert [rows.tolist() for rows in BatchSampler(["a"], batch_size, sampler)] == [[0]]


@pytest.mark.parametrize("sampler", NAMES)
def test_one_class(sampler):
    batches = BatchSampler([3] * 7, 3, sampler, 0)
    assert sorted(len(rows) for rows in batches) == [2, 2, 3]


@given(labels(), st.integers(0, 40), st.sampled_from(["uniform", "stratified"]))
def test_all_rows_in_one_batch_come_in_index_order(y, more, sampler):
    batches = BatchSampler(y, len(y) + more, sampler)
    for _ in range(2):
        (rows,) = batches
        assert_array_equal(rows, np.arange(len(y)))


# --- BatchSampler: what an epoch holds ---


@given(labels(), st.integers(1, 70), st.sampled_from(["uniform", "stratified"]))
def test_each_row_once(y, batch_size, sampler):
    batches = BatchSampler(y, batch_size, sampler, 0)
    for _ in range(2):
        assert_array_equal(np.sort(np.concatenate(list(batches))), np.arange(len(y)))


@given(labels(), st.integers(1, 70), st.integers(0, 2**32))
def test_stratified(y, batch_size, seed):
    counts = class_counts(y, BatchSampler(y, batch_size, "stratified", seed))
    assert np.all(np.ptp(counts, axis=0) <= 1)


@given(labels(), st.integers(1, 70), st.integers(0, 2**32))
def test_balanced(y, batch_size, seed):
    batches = BatchSampler(y, batch_size, "balanced", seed)
    largest = max(Counter(y).values())
    for _ in range(2):
        epoch = list(batches)
        uses = np.bincount(np.concatenate(epoch), minlength=len(y))
        for label, count in Counter(y).items():
            of_class = uses[y == label]
            assert of_class.sum() == largest
            assert set(of_class) <= {largest // count, -(-largest // count)}
        counts = class_counts(y, epoch)
        assert np.all(np.ptp(counts, axis=1) <= 1)
        if batch_size >= len(set(y)):
            assert counts.min() >= 1


def test_balanced_favours_no_row_and_no_class():
    y = np.repeat([0, 1, 2], [7, 7, 4])
    batches = BatchSampler(y, 7, "balanced", 0)
    repeated, first = np.zeros(len(y), int), np.zeros(3, int)
    for _ in range(600):
        epoch = list(batches)
        repeated += np.bincount(np.concatenate(epoch), minlength=len(y)) - 1
        first += class_counts(y, epoch)[0] - 2  # one class has three rows in seven
    assert_array_equal(repeated[:14], 0)
    assert repeated[14:].sum() == 600 * 3
    # Three of four rows are drawn without replacement, so the one left out is the free draw.
    assert at_random(600 - repeated[14:])
    assert first.sum() == 600
    assert at_random(first)


def test_stratified_puts_a_single_row_anywhere():
    y = np.repeat([0, 1], [20, 1])
    batches = BatchSampler(y, 4, "stratified", 0)
    where, beside = np.zeros(6, int), np.zeros(20, int)
    for _ in range(1200):
        epoch = list(batches)
        (at,) = [k for k, rows in enumerate(epoch) if 20 in rows]
        where[at] += 1
        beside[epoch[at][:-1]] += 1
    assert where.sum() == 1200
    assert at_random(where)
    assert stats.chisquare(beside).pvalue > 0.005


def test_stratified_lets_rare_rows_meet():
    # Neither always nor never in one batch, so that no two findings are tied together.
    y = np.repeat([0, 1, 2], [1, 11, 1])
    batches = BatchSampler(y, 5, "stratified", 0)
    met = [any({0, 12} <= set(rows) for rows in batches) for _ in range(60)]
    assert 0 < sum(met) < 60


def test_shuffling_puts_each_row_anywhere():
    batches = BatchSampler(np.repeat([0, 1], [15, 5]), 1, random_state=0)
    epochs = np.array([np.concatenate(list(batches)) for _ in range(1000)])
    for place in (0, 1, 19):
        assert at_random(np.bincount(epochs[:, place], minlength=20))


def test_weighted():
    counts = np.array([60, 5, 25, 10])
    y = np.repeat([4, 1, 3, 9], counts)
    batches = BatchSampler(y, 8, "weighted", 0)
    epochs = [list(batches) for _ in range(500)]
    rows = [np.concatenate(epoch) for epoch in epochs]
    assert {len(r) for r in rows} == {100}
    uses = np.bincount(np.concatenate(rows), minlength=100)
    assert at_random(uses, 500 * 100 / 4 / np.repeat(counts, counts))
    # Draws are independent: the number of rows of a class varies as a binomial number does.
    for k in range(4):
        n = class_counts(y, rows)[:, k]
        dispersion = ((n - 25) ** 2 / (100 * 1 / 4 * 3 / 4)).sum()
        assert 0.005 < stats.chi2(500).cdf(dispersion) < 0.995
    # No batch differs from the others.
    for place in (0, 6, 12):
        assert at_random(class_counts(y, [epoch[place] for epoch in epochs]).sum(axis=0))


# --- BatchSampler: imbalanced-learn's samplers ---


@st.composite
def drawn(draw):
    """Labels, and a random sampler that can work on them."""
    y = draw(labels().filter(can_be_drawn))
    over = draw(st.booleans())
    counts = Counter(y.tolist())
    chosen = draw(st.sets(st.sampled_from(list(counts)), min_size=1))
    size = draw(st.integers(0, 20))
    strategies = ["auto", "all", "not minority"]
    if over:
        strategies += ["minority", {label: counts[label] + size for label in chosen}]
    else:
        strategies += ["majority", {label: max(1, counts[label] - size) for label in chosen}]
    kind = RandomOverSampler if over else RandomUnderSampler
    sampler = kind(sampling_strategy=draw(st.sampled_from(strategies)))
    if not over:
        sampler.set_params(replacement=draw(st.booleans()))
    return y, sampler


@given(drawn(), st.integers(1, 70), st.integers(0, 2**32))
def test_random_samplers_give_the_counts_of_imbalanced_learn(case, batch_size, seed):
    y, sampler = case
    expected = Counter(resampled(sampler, y))
    batches = BatchSampler(y, batch_size, sampler, seed)
    for _ in range(2):
        rows = np.concatenate(list(batches))
        assert Counter(y[rows]) == expected
        uses = np.bincount(rows, minlength=len(y))
        if isinstance(sampler, RandomOverSampler):
            assert uses.min() >= 1
        elif not sampler.replacement:
            assert uses.max() <= 1


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (RandomOverSampler(sampling_strategy={"rare": 9}), {"common": 20, "rare": 9}),
        (RandomUnderSampler(sampling_strategy={"common": 11}), {"common": 11, "rare": 4}),
        (RandomOverSampler(sampling_strategy=0.5), {"common": 20, "rare": 10}),
        (RandomUnderSampler(sampling_strategy=0.5), {"common": 8, "rare": 4}),
        (
            RandomUnderSampler(sampling_strategy=lambda y: {"common": sum(y == "rare") + 1}),
            {"common": 5, "rare": 4},
        ),
    ],
)
def test_sampling_strategy_in_original_labels(sampler, expected):
    y = np.array(["common", "rare", "common"] * 4 + ["common"] * 12)
    batches = BatchSampler(y, 6, sampler, 0)
    for _ in range(3):
        assert Counter(y[np.concatenate(list(batches))].tolist()) == expected


@pytest.mark.parametrize("over", [True, False])
@pytest.mark.parametrize("own_seed", [None, 0, np.int64(3), "RandomState"])
def test_random_samplers_are_drawn_anew(over, own_seed):
    y = np.repeat([0, 1], [60, 20])

    def epochs():
        seed = np.random.RandomState(0) if own_seed == "RandomState" else own_seed
        sampler = (RandomOverSampler if over else RandomUnderSampler)(random_state=seed)
        before = sampler.__dict__.copy()
        batches = BatchSampler(y, 16, sampler, random_state=0)
        rows = [np.sort(np.concatenate(list(batches))) for _ in range(4)]
        assert sampler.__dict__ == before
        return rows

    first = epochs()
    # Other rows, not only another order of the same.
    assert len({rows.tobytes() for rows in first}) == 4
    assert same_epochs(first, epochs())


def test_seed_of_the_random_sampler_goes_first():
    y = np.repeat([0, 1], [60, 20])

    def epoch(own_seed, seed):
        return list(BatchSampler(y, 16, RandomUnderSampler(random_state=own_seed), seed))

    assert same_epochs(epoch(5, 0), epoch(5, None))
    assert not same_epochs(epoch(5, 0), epoch(6, 0))
    assert not same_epochs(epoch(None, 0), epoch(None, 1))


@pytest.mark.parametrize("n_epochs", [300, pytest.param(600, marks=pytest.mark.slow)])
def test_random_samplers_choose_each_row_alike(n_epochs):
    y = np.repeat([0, 1], [12, 4])
    under = BatchSampler(y, 1, RandomUnderSampler(), 0)
    kept = sum(np.bincount(np.concatenate(list(under)), minlength=16) for _ in range(n_epochs))
    assert_array_equal(kept[12:], n_epochs)
    assert stats.chisquare(kept[:12]).pvalue > 0.005
    over = BatchSampler(y, 1, RandomOverSampler(), 0)
    epochs = np.array([np.concatenate(list(over)) for _ in range(n_epochs)])
    repeats = sum(np.bincount(rows, minlength=16) for rows in epochs) - n_epochs
    assert_array_equal(repeats[:12], 0)
    assert at_random(repeats[12:])
    # The repeats do not come last.
    assert stats.chisquare(np.bincount(y[epochs[:, -1]])).pvalue > 0.005


# --- BatchSampler: seeds ---


@pytest.mark.parametrize("sampler", EVERY, ids=str)
@pytest.mark.parametrize("seed", [0, 12345, np.int64(7)])
def test_epochs_differ_and_runs_do_not(sampler, seed):
    y = np.repeat(["a", "b", "c"], [31, 17, 9])
    first, second = (BatchSampler(y, 8, sampler, seed) for _ in range(2))
    epochs = [list(first) for _ in range(3)]
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert not same_epochs(epochs[a], epochs[b])
        assert len({rows.tobytes() for rows in epochs[a] + epochs[b]}) > len(epochs[a])
    for epoch in epochs:
        assert same_epochs(epoch, list(second))
    assert not same_epochs(epochs[0], list(BatchSampler(y, 8, sampler, seed + 1)))


@pytest.mark.parametrize("sampler", EVERY, ids=str)
def test_random_state_instance(sampler):
    y = np.repeat([0, 1, 2], [31, 17, 9])
    a, b = np.random.RandomState(0), np.random.RandomState(0)
    epoch = list(BatchSampler(y, 8, sampler, a))
    assert same_epochs(epoch, list(BatchSampler(y, 8, sampler, b)))
    # An instance moves on, so that a second use of it is another draw.
    assert not same_epochs(epoch, list(BatchSampler(y, 8, sampler, a)))


@pytest.mark.parametrize("sampler", EVERY, ids=str)
def test_without_a_seed_runs_differ(sampler):
    y = np.repeat([0, 1, 2], [31, 17, 9])
    assert not same_epochs(list(BatchSampler(y, 8, sampler)), list(BatchSampler(y, 8, sampler)))


@pytest.mark.parametrize("sampler", EVERY + [RandomOverSampler(random_state=0)], ids=str)
@pytest.mark.parametrize("seed", [None, 0, "RandomState"])
def test_global_random_state_is_untouched(sampler, seed):
    def state():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the state in question)
        return kind, keys.tobytes(), rest, torch.get_rng_state().tolist(), random.getstate()

    seed = np.random.RandomState(0) if seed == "RandomState" else seed
    before = state()
    batches = BatchSampler(np.repeat([0, 1, 2], [31, 17, 9]), 8, sampler, seed)
    for _ in range(2):
        list(batches)
    assert state() == before


@pytest.mark.parametrize("sampler", EVERY, ids=str)
def test_global_seeds_have_no_influence(sampler):
    epochs = []
    for seed in (0, 1):
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            batches = BatchSampler(np.repeat([0, 1, 2], [31, 17, 9]), 8, sampler, 0)
            epochs.append(list(batches))
    assert same_epochs(*epochs)


@pytest.mark.parametrize("sampler", EVERY, ids=str)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_copies_go_on_alike(sampler, duplicate):
    batches = BatchSampler(np.repeat([0, 1, 2], [31, 17, 9]), 8, sampler, 0)
    list(batches)
    twin = duplicate(batches)
    assert same_epochs(list(batches), list(twin))


# --- BatchSampler: what it is given, and who uses it ---


@pytest.mark.parametrize("sampler", EVERY, ids=str)
@pytest.mark.parametrize(
    "as_given",
    [list, tuple, torch.tensor, pd.Series, lambda y: pd.Series(y, dtype="category", index=y)],
)
def test_containers_of_labels(sampler, as_given):
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [31, 17, 9]))
    y.setflags(write=False)
    epoch = list(BatchSampler(as_given(y.tolist()), 8, sampler, 0))
    assert same_epochs(epoch, list(BatchSampler(y, 8, sampler, 0)))


@pytest.mark.parametrize("sampler", EVERY, ids=str)
def test_in_a_data_loader(sampler):
    y = torch.repeat_interleave(torch.arange(3), torch.tensor([31, 17, 9]))
    X = torch.arange(len(y) * 4.0).reshape(-1, 1, 2, 2)
    loader = DataLoader(TensorDataset(X, y), batch_sampler=BatchSampler(y, 8, sampler, 0))
    twin = BatchSampler(y, 8, sampler, 0)
    for _ in range(2):
        loaded, expected = list(loader), list(twin)
        assert len(loaded) == len(loader) == len(expected)
        for (X_batch, y_batch), rows in zip(loaded, expected, strict=True):
            assert torch.equal(X_batch, X[rows])
            assert torch.equal(y_batch, y[rows])


@pytest.mark.parametrize("batch_size", [0, -1, np.int64(0), 1.5, 2.0, True, np.True_, "8", None])
def test_batch_sizes_that_are_refused(batch_size):
    with pytest.raises(ParameterError, match=re.escape(f"{batch_size!r}")) as error:
        BatchSampler([0, 1], batch_size)
    assert error.value.parameter == "batch_size"


@pytest.mark.parametrize("sampler", EVERY, ids=str)
@pytest.mark.parametrize(("y", "shape"), [([], "(0,)"), ([[0], [1]], "(2, 1)"), (3, "()")])
def test_labels_refused(sampler, y, shape):
    with pytest.raises(ValueError, match=f"y .*{re.escape(shape)}"):
        BatchSampler(y, 2, sampler)


@pytest.mark.parametrize(
    "sampler",
    [
        "Balanced",
        "over",
        "",
        0,
        True,
        RandomOverSampler,
        SMOTE,
        LogisticRegression(),
        NDSampler(RandomOverSampler()),
        NDSampler(SMOTE()),
    ],
    ids=repr,
)
def test_sampler_unknown(sampler):
    for refuse in (BatchSampler, check):
        with pytest.raises(ParameterError, match=re.escape(repr(sampler))) as error:
            refuse([0, 1, 1], 2, sampler)
        assert error.value.parameter == "sampler"
        for known in (*STRATEGIES, "RandomOverSampler", "RandomUnderSampler"):
            assert known in error.value.expected


@pytest.mark.parametrize(
    "sampler",
    [
        SMOTE(k_neighbors=2),
        NearMiss(version=3),
        TomekLinks(),
        SMOTEENN(),
        ClusterCentroids(),
        SMOTEN(),
        RandomOverSampler(shrinkage=1.0),
        RandomOverSampler(shrinkage={1: 0.5}),
        FunctionSampler(),
    ],
    ids=repr,
)
def test_sampler_that_looks_at_pixels(sampler):
    for refuse in (BatchSampler, check):
        with pytest.raises(ParameterError, match=r"sampler.*rows") as error:
            refuse([0, 1, 1], 2, sampler)
        # With the parameters, so that it can be copied.
        assert f"make_pipeline(NDSampler({sampler!r}), ...)" in error.value.remedy


@pytest.mark.parametrize("sampler", [RandomOverSampler(), RandomUnderSampler()], ids=repr)
def test_refusals_of_the_random_sampler_come_at_once(sampler):
    for refuse in (BatchSampler, check):
        with pytest.raises(ValueError, match="more than 1 class"):
            refuse([1, 1, 1], 2, sampler)
        with pytest.raises(ValueError, match=r"\{7\}"):
            refuse([0, 1, 1], 2, clone(sampler).set_params(sampling_strategy={7: 5}))


@pytest.mark.parametrize("sampler", EVERY, ids=str)
def test_check_gives_the_strategy_and_draws_nothing(sampler, monkeypatch):
    for kind in (RandomOverSampler, RandomUnderSampler):
        monkeypatch.setattr(kind, "fit_resample", None)
    strategy = check_sampler(sampler, [0, 0, 1])
    assert strategy.needs_every_class == (sampler in ("balanced", "stratified"))
    assert strategy.equal_portions == (sampler == "balanced")


# --- The table of strategies ---


@pytest.fixture
def twice(monkeypatch):
    """A strategy of the user: rows of the last class come twice."""

    def draw(classes, rng):
        return np.concatenate([*classes, classes[-1]])

    monkeypatch.setitem(STRATEGIES, "twice", Strategy(draw))


@pytest.mark.usefixtures("twice")
def test_a_row_of_the_table_is_a_sampler():
    y = np.repeat([0, 1], [7, 3])
    batches = BatchSampler(y, 5, "twice", 0)
    assert len(batches) == 3
    first, second = (list(batches) for _ in range(2))
    for epoch in (first, second):
        assert np.bincount(np.concatenate(epoch)).tolist() == [1] * 7 + [2] * 3
        assert sorted(map(len, epoch)) == [4, 4, 5]
    assert not same_epochs(first, second)
    with pytest.raises(ParameterError, match="'twise'") as error:
        BatchSampler(y, 5, "twise")
    assert "'twice'" in error.value.expected


def test_strategies_draw_as_many_rows_in_every_epoch(monkeypatch):
    def draw(classes, rng):
        return np.arange(next(sizes))

    sizes = iter([4, 5])
    monkeypatch.setitem(STRATEGIES, "more and more", Strategy(draw))
    batches = BatchSampler([0, 0, 0, 1, 1], 2, "more and more")
    with pytest.raises(ValueError, match=r"more and more.*4.*5"):
        list(batches)


@pytest.mark.parametrize(
    "drawn",
    [
        np.arange(5),
        np.arange(4) - 1,
        np.arange(4.0),
        np.ones(4, dtype=bool),
        np.arange(4)[:, None],
        np.arange(0),
        None,
    ],
)
@pytest.mark.parametrize("count", [None, len])
def test_strategies_draw_row_numbers(drawn, count, monkeypatch):
    monkeypatch.setitem(STRATEGIES, "odd", Strategy(lambda classes, rng: drawn, count))
    with pytest.raises(ValueError, match=r"'odd'.*from 0 to 3.*got (array|None)"):
        list(BatchSampler([0, 0, 1, 1], 2, "odd"))


@pytest.mark.parametrize("sizes", [[4], [4, 0], [2, 1, 1]])
def test_strategies_cut_as_many_batches_as_there_are(sizes, monkeypatch):
    def cut(rows, n_batches, rng):
        return np.split(rows, np.cumsum(sizes)[:-1])

    monkeypatch.setitem(STRATEGIES, "odd", Strategy(lambda classes, rng: np.arange(4), cut=cut))
    with pytest.raises(ValueError, match=rf"'odd'.*4 rows into 2.*got batches of \[{sizes[0]}"):
        list(BatchSampler([0, 0, 1, 1], 2, "odd"))


def test_rows_of_the_table_are_strategies(monkeypatch):
    monkeypatch.setitem(STRATEGIES, "odd", len)
    with pytest.raises(TypeError, match=r"STRATEGIES\['odd'\] must be .*got <built-in"):
        BatchSampler([0, 1], 2, "odd")


def test_none_means_uniform():
    y = np.repeat([0, 1], [20, 9])
    assert same_epochs(list(BatchSampler(y, 4, None, 0)), list(BatchSampler(y, 4, "uniform", 0)))
    assert same_epochs(list(BatchSampler(y, 4, None, 0)), list(BatchSampler(y, 4, random_state=0)))
    assert [is_uniform(s) for s in (None, "uniform", "balanced", DRAWN[0])] == [True, True] + [
        False
    ] * 2


@pytest.mark.parametrize(("n_rows", "batch_size"), [(1, 4), (5, 1), (5, 2), (9, 4), (64, 64)])
def test_number_of_batches(n_rows, batch_size):
    expected = len(BatchSampler([0] * n_rows, batch_size))
    assert count_batches(n_rows, batch_size) == expected


# --- NDSampler ---

OVER = [
    RandomOverSampler(random_state=0),
    RandomOverSampler(random_state=0, shrinkage=0.5),
    SMOTE(random_state=0),
    BorderlineSMOTE(random_state=0),
    ADASYN(random_state=0),
]
UNDER = [
    RandomUnderSampler(random_state=0),
    NearMiss(version=2),
    TomekLinks(sampling_strategy="all"),
    EditedNearestNeighbours(),
    OneSidedSelection(random_state=0),
    ClusterCentroids(random_state=0),
]
BOTH = [
    SMOTEENN(random_state=0),
    SMOTETomek(random_state=0),
    make_pipeline(RandomUnderSampler(sampling_strategy={"a": 20}, random_state=0), SMOTE()),
]
BOTH[-1].set_params(smote__random_state=0)
SAMPLERS = OVER + UNDER + BOTH
RANDOM = [SAMPLERS[0], UNDER[0]]
SHAPES = [(4, 5), (2, 3, 4), (1, 2, 3, 4)]
DTYPES = ["u1", "i1", "?", "i2", "u2", "i4", "u4", "i8", "f2", "f4", "f8"]
DTYPES += [">i2", ">u2", ">i4", ">f2", ">f4", ">f8"]
FORMS = [sparse.csr_array, sparse.csc_array, sparse.csr_matrix]


def images(shape=(2, 3, 4), dtype="f8", seed=0):
    """52 images of three classes that overlap; integers of the whole dtype or of 16 bits."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(["a", "b", "c"], [30, 13, 9]))
    X = rng.normal(size=(len(y), *shape))
    X += 0.5 * np.unique(y, return_inverse=True)[1].reshape(-1, *[1] * len(shape))
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        X = X > 0.5
    elif dtype.kind in "iu":
        low, high = max(np.iinfo(dtype).min, -(2**15)), min(np.iinfo(dtype).max, 2**16 - 1)
        X = np.clip(low + (X + 3) / 7 * (high - low), low, high)
    X = X.astype(dtype)
    X.setflags(write=False)
    y.setflags(write=False)
    return X, y


def rows_of(X):
    return X.reshape(len(X), -1)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    quick_and_all(
        [(SHAPES[0], "f4"), (SHAPES[1], "f8"), (SHAPES[2], "f8")], product(SHAPES, ["f4", "f8"])
    ),
    ids=str,
)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_same_as_on_rows(sampler, shape, dtype):
    X, y = images(shape, dtype)
    plain = clone(sampler)
    X_rows, y_rows = plain.fit_resample(rows_of(X), y)
    assert len(X_rows) != len(X)
    nd = NDSampler(sampler)
    X_new, y_new = nd.fit_resample(X, y)
    assert type(X_new) is np.ndarray
    assert X_new.dtype == X.dtype
    assert X_new.shape[1:] == shape
    assert_array_equal(rows_of(X_new), X_rows.astype(dtype))
    assert_array_equal(y_new, y_rows)
    assert not np.shares_memory(X_new, X)
    assert nd.n_features_in_ == rows_of(X).shape[1]
    for name in ("sampling_strategy_", "sample_indices_"):
        assert hasattr(nd, name) == hasattr(plain, name)
        if hasattr(plain, name):
            assert_array_equal(getattr(nd, name), getattr(plain, name))
    # What the user gave stays as it was; a copy was fitted.
    assert type(nd.sampler_) is type(sampler)
    assert nd.sampler_ is not sampler
    assert not [name for name in vars(sampler) if name.endswith("_")]


# A sampler that selects and one that interpolates in every dtype, others in one dtype of each kind.
OF_DTYPES = [OVER[0], OVER[2], OVER[1], UNDER[0], UNDER[1], UNDER[5], BOTH[1]]


@pytest.mark.parametrize(
    ("sampler", "dtype", "shape"),
    quick_and_all(
        [
            *product([OVER[0], OVER[2]], DTYPES, [SHAPES[1], (24,)]),
            *product(OF_DTYPES[2:], ["u1", "?", ">i4", "f2", "f8"], [SHAPES[1], (24,)]),
        ],
        product(OF_DTYPES, DTYPES, [*SHAPES[:2], (24,)]),
    ),
    ids=str,
)
def test_dtype_is_kept(sampler, dtype, shape):
    X, y = images(shape, dtype)
    X_new, y_new = NDSampler(sampler).fit_resample(X, y)
    assert X_new.dtype == X.dtype == np.dtype(dtype)
    assert X_new.shape == (len(y_new), *shape)
    if sampler in OVER:  # the originals come first, exactly as they were
        assert_array_equal(X_new[: len(X)], X)


def rounded(exact, dtype):
    """The nearest value of a dtype, for float64 values."""
    if dtype.kind == "b":
        return exact >= 0.5
    if dtype.kind in "iu":
        exact = np.clip(np.rint(exact), np.iinfo(dtype).min, np.iinfo(dtype).max)
    return exact.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("sampler", "shape"),
    quick_and_all(
        [(OVER[1], (2, 3, 4)), (OVER[2], (2, 3, 4)), (OVER[2], (24,)), (UNDER[5], (2, 3, 4))],
        product([OVER[1], OVER[2], UNDER[5]], [(2, 3, 4), (24,)]),
    ),
    ids=str,
)
def test_interpolates_in_floating_point_then_rounds(sampler, dtype, shape):
    X, y = images(shape, dtype)
    X_new, y_new = NDSampler(sampler).fit_resample(X, y)
    # Between binary images many distances are equal, and k-means settles ties by rounding errors.
    tied = X.dtype.kind == "b" and isinstance(sampler, ClusterCentroids)
    exact, y_exact = clone(sampler).fit_resample(rows_of(X).astype("f4" if tied else "f8"), y)
    assert_array_equal(y_new, y_exact)
    if X.dtype.itemsize <= 2 and X.dtype.kind in "iub":
        # Float32, in which they are computed, has 24 bits: a value halfway between two integers
        # may go to either.
        low, high = rounded(np.array([-np.inf, np.inf]), X.dtype).astype(float)
        off = np.abs(rows_of(X_new) - np.clip(exact, low, high)).max()
        assert 0.25 < off <= 0.5 + 2.0 ** (8 * X.dtype.itemsize - 24)
    elif X.dtype.kind == "f" and X.dtype.itemsize <= 4:
        # Both are computed in float32, on values of the order of 1; float16 is then rounded once.
        half = np.abs(np.spacing(exact.astype("f2"))) / 2 if X.dtype.itemsize == 2 else 0
        assert np.all(np.abs(rows_of(X_new) - exact) <= half + 2.0**-21)
    else:
        assert_array_equal(rows_of(X_new), rounded(exact, X.dtype))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4"])
@pytest.mark.parametrize("sampler", OVER[2:], ids=str)
def test_smote_does_not_wrap_around(sampler, dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(100, 120, size=(52, 1, 4, 4)).astype(dtype)
    y = images()[1]
    for X_given in (X, rows_of(X), torch.from_numpy(X), torch.from_numpy(rows_of(X))):
        X_new, y_new = NDSampler(sampler).fit_resample(X_given, y)
        assert X_new.dtype == X.dtype
        assert len(X_new) == len(y_new) > 52
        assert X_new.min() >= 100
        assert X_new.max() <= 119
        exact = clone(sampler).fit_resample(rows_of(X).astype("f8"), y)[0]
        assert_array_equal(rows_of(X_new), np.rint(exact))


def test_noise_is_clipped_at_the_ends_of_the_dtype():
    X, y = images((6, 6), "u1")
    X = np.where(X > 128, 255, 0).astype("u1")
    sampler = RandomOverSampler(shrinkage=1.0, random_state=0)
    exact = clone(sampler).fit_resample(rows_of(X).astype("f8"), y)[0]
    assert exact.min() < -1
    assert exact.max() > 256
    X_new = NDSampler(sampler).fit_resample(X, y)[0]
    assert_array_equal(rows_of(X_new), np.clip(np.rint(exact), 0, 255))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i4", "i8", "u8"])
def test_ends_of_the_dtype(dtype):
    limits = np.iinfo(dtype)
    y = images()[1]
    for value in (limits.min, limits.max):
        X = np.full((len(y), 2, 2), value, dtype)
        X_new = NDSampler(SMOTE()).fit_resample(X, y)[0]
        # Float64 has no room for 64 bits; the nearest value below must do.
        off = np.abs(X_new.astype(object) - int(value)).max()
        assert off <= (2**11 if X.dtype.itemsize == 8 and value == limits.max else 0)


# --- NDSampler: samplers that only select ---


@pytest.mark.parametrize("sampler", RANDOM, ids=str)
@pytest.mark.parametrize("dtype", ["i8", "u8"])
@pytest.mark.parametrize("shape", [(2, 2), (3,)], ids=len)
def test_random_samplers_compute_nothing(sampler, dtype, shape):
    # No float holds these numbers.
    y = images()[1]
    limits = np.iinfo(dtype)
    X = np.random.default_rng(0).integers(
        limits.min, limits.max, size=(len(y), *shape), dtype=dtype, endpoint=True
    )
    nd = NDSampler(sampler)
    X_new, y_new = nd.fit_resample(X, y)
    assert_array_equal(X_new, X[nd.sample_indices_])
    assert_array_equal(y_new, y[nd.sample_indices_])


@pytest.mark.parametrize("sampler", RANDOM, ids=str)
def test_random_samplers_accept_missing_values(sampler):
    X, y = images()
    X = np.where(X > 1, np.nan, np.where(X < -1, np.inf, X))
    nd = NDSampler(sampler)
    assert_array_equal(nd.fit_resample(X, y)[0], X[nd.sample_indices_])
    with pytest.raises(ValueError, match="contains NaN"):
        NDSampler(SMOTE()).fit_resample(X, y)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "f2", "f4"])
@pytest.mark.parametrize("sampler", RANDOM, ids=str)
@pytest.mark.parametrize("shape", [(64, 64), (4096,)], ids=len)
def test_random_samplers_copy_each_image_once(sampler, dtype, order, shape):
    y = np.repeat([0, 1], [200, 100])
    X = np.zeros((300, *shape), dtype, order=order)
    nd = NDSampler(sampler)
    nd.fit_resample(X[:, :1], y)  # imports and caches
    tracemalloc.start()
    X_new, y_new = nd.fit_resample(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(X_new) == len(y_new) == (200 if sampler is UNDER[0] else 400)
    assert X_new.nbytes < peak < X_new.nbytes + 2**18


# --- NDSampler: what it is given ---


def as_memmap(X, path):
    np.asarray(X).tofile(path / "images")
    return np.memmap(path / "images", dtype=X.dtype, shape=X.shape, mode="r")


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("sampler", [OVER[0], OVER[2], UNDER[0], UNDER[3]], ids=str)
def test_containers_of_images(sampler, dtype, tmp_path):
    X, y = images(dtype=dtype)
    expected, y_expected = NDSampler(sampler).fit_resample(X, y)
    padded = np.zeros((len(X) * 2, 5, *X.shape[2:]), dtype)
    padded[::2, 1:3] = X
    for X_given in (
        np.asfortranarray(X),
        padded[::2, 1:3],
        as_memmap(X, tmp_path),
        torch.tensor(X),
        X.copy(),
        np.ma.masked_array(X),
    ):
        before = np.asarray(X_given).copy()
        X_new, y_new = NDSampler(sampler).fit_resample(X_given, y)
        assert type(X_new) is np.ndarray
        assert X_new.dtype == X.dtype
        assert_array_equal(X_new, expected)
        assert_array_equal(y_new, y_expected)
        assert_array_equal(np.asarray(X_given), before)
        assert not np.shares_memory(X_new, np.asarray(X_given))
    X_new, y_new = NDSampler(sampler).fit_resample(X.tolist(), y.tolist())
    assert isinstance(y_new, list)
    assert X_new.dtype == np.array(X.tolist()).dtype
    assert_array_equal(y_new, y_expected)
    if dtype == "u1":
        assert_array_equal(X_new, expected)
    else:
        np.testing.assert_allclose(X_new, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_writable_images_stay_as_they_are(sampler):
    X, y = (array.copy() for array in images(dtype="f4"))
    NDSampler(sampler).fit(X, y).fit_resample(X, y)
    assert_array_equal(X, images(dtype="f4")[0])
    assert_array_equal(y, images()[1])


@pytest.mark.parametrize("sampler", [OVER[2], UNDER[0]], ids=str)
def test_containers_of_labels_of_images(sampler):
    X, y = images()
    codes = np.unique(y, return_inverse=True)[1]
    y_new = NDSampler(sampler).fit_resample(X, codes)[1]

    series = NDSampler(sampler).fit_resample(X, pd.Series(codes, name="finding"))[1]
    assert isinstance(series, pd.Series)
    assert series.name == "finding"
    assert_array_equal(series, y_new)

    assert NDSampler(sampler).fit_resample(X, codes.tolist())[1] == y_new.tolist()
    assert_array_equal(NDSampler(sampler).fit_resample(X, torch.tensor(codes))[1], y_new)
    assert_array_equal(NDSampler(sampler).fit_resample(X, np.eye(3)[codes])[1], np.eye(3)[y_new])


@pytest.mark.parametrize("sampler", [OVER[0], OVER[2], UNDER[0], UNDER[3]], ids=str)
def test_data_frames_stay_data_frames(sampler):
    X, y = images((3,))
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).astype({"b": "f4"})
    series = pd.Series(y, name="finding")
    nd = NDSampler(sampler)
    X_new, y_new = nd.fit_resample(frame, series)
    X_plain, y_plain = clone(sampler).fit_resample(frame, series)
    pd.testing.assert_frame_equal(X_new, X_plain)
    pd.testing.assert_series_equal(y_new, y_plain)
    assert X_new.dtypes.tolist() == ["f8", "f4", "f8"]
    assert nd.n_features_in_ == 3
    assert nd.feature_names_in_.tolist() == ["a", "b", "c"]
    assert nd.get_feature_names_out().tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("sampler", "form"),
    quick_and_all(
        [*product([OVER[2]], FORMS), *product([OVER[0], UNDER[0], UNDER[3]], FORMS[1:2])],
        product([OVER[0], OVER[2], UNDER[0], UNDER[3]], FORMS),
    ),
    ids=str,
)
def test_sparse_rows_stay_sparse(sampler, form):
    X, y = images((12,))
    X = np.where(X > 0, X, 0)
    X_new, y_new = NDSampler(sampler).fit_resample(form(X), y)
    expected, y_expected = NDSampler(sampler).fit_resample(X, y)
    assert isinstance(X_new, form)
    np.testing.assert_allclose(X_new.toarray(), expected, rtol=1e-12)
    assert_array_equal(y_new, y_expected)


@pytest.mark.parametrize("sampler", RANDOM, ids=str)
def test_rows_of_text(sampler):
    y = images()[1]
    X = np.array([["left", "right"][i % 2] for i in range(len(y))], dtype=object)[:, None]
    nd = NDSampler(sampler)
    assert_array_equal(nd.fit_resample(X, y)[0], X[nd.sample_indices_])


# --- NDSampler: an estimator among others ---


def test_default_sampler():
    X, y = images(dtype="u1")
    nd = NDSampler()
    assert nd.get_params() == {"sampler": None}
    X_new, y_new = nd.fit_resample(X, y)
    assert type(nd.sampler_) is RandomOverSampler
    assert nd.sampler is None
    assert Counter(y_new) == {"a": 30, "b": 30, "c": 30}
    assert_array_equal(X_new, X[nd.sample_indices_])


def test_parameters():
    inner = SMOTE(k_neighbors=3, random_state=0)
    nd = NDSampler(inner)
    params = nd.get_params()
    assert params["sampler"] is inner
    assert params["sampler__k_neighbors"] == 3
    copied = clone(nd)
    assert copied.sampler is not inner
    assert copied.get_params()["sampler__k_neighbors"] == 3
    assert nd.set_params(sampler__k_neighbors=1) is nd
    assert inner.k_neighbors == 1
    assert copied.sampler.k_neighbors == 3
    X, y = images()
    assert_array_equal(
        rows_of(nd.fit_resample(X, y)[0]),
        SMOTE(k_neighbors=1, random_state=0).fit_resample(rows_of(X), y)[0],
    )
    assert NDSampler("no sampler").sampler == "no sampler"  # judged when used, not before


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_pickle(sampler):
    X, y = images()
    nd = NDSampler(sampler)
    X_new = nd.fit_resample(X, y)[0]
    twin = pickle.loads(pickle.dumps(nd))
    assert vars(twin).keys() == vars(nd).keys()
    assert twin.n_features_in_ == 24
    assert_array_equal(twin.fit_resample(X, y)[0], X_new)


def test_fit_learns_the_strategy_only():
    X, y = images()
    nd = NDSampler(SMOTE(k_neighbors=20))
    with pytest.raises(NotFittedError, match="not fitted yet"):
        nd.get_feature_names_out()
    assert nd.fit(X, y) is nd
    assert nd.sampling_strategy_ == {"b": 17, "c": 21}
    assert nd.n_features_in_ == 24
    assert nd.get_feature_names_out().tolist() == [f"x{i}" for i in range(24)]
    with pytest.raises(ValueError, match="n_neighbors <= n_samples_fit"):
        nd.fit_resample(X, y)


def test_attributes_of_an_earlier_fit_are_gone():
    X, y = images((3,))
    nd = NDSampler(RandomOverSampler())
    nd.fit_resample(pd.DataFrame(X, columns=list("abc")), y)
    assert hasattr(nd, "sample_indices_")
    assert hasattr(nd, "feature_names_in_")
    nd.set_params(sampler=SMOTE()).fit_resample(X, y)
    assert not hasattr(nd, "sample_indices_")
    assert not hasattr(nd, "feature_names_in_")
    nd.set_params(sampler=FunctionSampler(validate=False)).fit_resample(X.tolist(), y)
    assert not hasattr(nd, "n_features_in_")


@pytest.mark.parametrize("sampler", [None, *SAMPLERS], ids=str)
def test_is_a_sampler(sampler):
    assert is_sampler(NDSampler(sampler))


@pytest.mark.parametrize("sampler", SAMPLERS[:-1], ids=str)
def test_tags_are_those_of_the_sampler(sampler):
    nd = NDSampler(sampler)
    expected = get_tags(sampler)
    expected.input_tags.three_d_array = True
    assert get_tags(nd) == expected
    assert not get_tags(sampler).input_tags.three_d_array


@pytest.mark.parametrize("sampler", [OVER[0], OVER[1], OVER[2], UNDER[0]], ids=str)
def test_nested(sampler):
    X, y = images(dtype="f4")
    expected = NDSampler(sampler).fit_resample(X, y)[0]
    assert_array_equal(NDSampler(NDSampler(sampler)).fit_resample(X, y)[0], expected)


@pytest.mark.parametrize("validate", [True, False])
def test_function_sampler(validate):
    X, y = images()
    sampler = FunctionSampler(func=lambda X, y: (X[::2] + 1, y[::2]), validate=validate)
    for X_given in (X, rows_of(X)):
        X_new, y_new = NDSampler(sampler).fit_resample(X_given, y)
        assert_array_equal(X_new, X_given[::2] + 1)
        assert_array_equal(y_new, y[::2])


def test_unseeded_samplers_draw_anew():
    X, y = images()
    nd = NDSampler(RandomUnderSampler())
    first, second = (nd.fit_resample(X, y)[0] for _ in range(2))
    assert not np.array_equal(first, second)


def regression():
    return LogisticRegression(max_iter=1000)


def classifier(sampler):
    return make_pipeline(NDSampler(sampler), FunctionTransformer(rows_of), regression())


@pytest.mark.parametrize("sampler", [OVER[0], OVER[2], UNDER[0], UNDER[3], BOTH[0]], ids=str)
def test_in_a_pipeline(sampler):
    X, y = images(dtype="f8")
    model = classifier(sampler).fit(X, y)
    X_rows, y_rows = clone(sampler).fit_resample(rows_of(X), y)
    expected = regression().fit(X_rows, y_rows)
    # Prediction does not resample.
    assert_array_equal(model.predict_proba(X), expected.predict_proba(rows_of(X)))
    assert clone(model).get_params()["ndsampler__sampler__sampling_strategy"] == "auto"


def test_grid_over_parameters_of_the_sampler():
    X, y = images()
    grid = {"ndsampler__sampler__k_neighbors": [1, 2, 4]}
    search = GridSearchCV(
        classifier(SMOTE(random_state=0)), grid, scoring="neg_log_loss", cv=3, error_score="raise"
    ).fit(X, y)
    for k, score in zip([1, 2, 4], search.cv_results_["mean_test_score"], strict=True):
        alone = classifier(SMOTE(k_neighbors=k, random_state=0))
        alone = GridSearchCV(alone, {}, scoring="neg_log_loss", cv=3).fit(X, y)
        assert alone.best_score_ == score
    assert len(set(search.cv_results_["mean_test_score"])) == 3
    best = search.best_params_["ndsampler__sampler__k_neighbors"]
    assert search.best_estimator_["ndsampler"].sampler_.k_neighbors == best


def test_grid_over_samplers():
    X, y = images(dtype="u1")
    X = (X / 128).astype("f4")
    samplers = [*RANDOM, SMOTE(random_state=0), NearMiss(), "passthrough"]
    search = GridSearchCV(
        classifier(None),
        [{"ndsampler__sampler": samplers[:-1]}, {"ndsampler": samplers[-1:]}],
        scoring="neg_log_loss",
        cv=3,
        error_score="raise",
    ).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) == len(samplers)
    assert search.best_score_ == max(scores)


# --- NDSampler: refusals ---


@pytest.mark.parametrize(
    "sampler", [SMOTE, RandomOverSampler, "smote", 3, LogisticRegression(), object], ids=str
)
def test_not_a_sampler(sampler):
    X, y = images()
    for method in ("fit", "fit_resample"):
        with pytest.raises(TypeError, match=f"sampler .*{re.escape(repr(sampler))}"):
            getattr(NDSampler(sampler), method)(X, y)


@pytest.mark.parametrize("dtype", [object, complex, str, "M8[s]"])
@pytest.mark.parametrize("sampler", [OVER[0], OVER[2]], ids=str)
def test_images_that_are_not_numbers(sampler, dtype):
    X = np.zeros((4, 2, 2)).astype(int).astype(dtype)
    for method in ("fit", "fit_resample"):
        with pytest.raises(TypeError, match=f"images .*{re.escape(str(X.dtype))}"):
            getattr(NDSampler(sampler), method)(X, [0, 0, 1, 1])


@pytest.mark.parametrize("sampler", [OVER[0], OVER[2]], ids=str)
@pytest.mark.parametrize("shape", [(0, 2, 2), (4, 0, 2), (4, 1, 2, 0)])
def test_images_without_pixels(sampler, shape):
    with pytest.raises(ValueError, match=f"images .*{re.escape(str(shape))}"):
        NDSampler(sampler).fit_resample(np.zeros(shape), [0, 0, 1, 1][: shape[0]])


@pytest.mark.parametrize("sampler", [OVER[0], OVER[2]], ids=str)
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_wrong_input(sampler, dtype):
    X, y = images(dtype=dtype)
    nd = NDSampler(sampler)
    for X_given in (X, rows_of(X)):
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[52, 51\]"):
            nd.fit_resample(X_given, y[:-1])
        with pytest.raises(ValueError, match="more than 1 class"):
            nd.fit_resample(X_given, np.ones(len(X), int))
        with pytest.raises(ValueError, match="Unknown label type: continuous"):
            nd.fit_resample(X_given, np.linspace(0, 1, len(X)))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        nd.fit_resample(X[:, 0, 0, 0], y)
    with pytest.raises(ValueError, match="inhomogeneous"):
        nd.fit_resample([[[1, 2]], [[3]]], [0, 1])


# --- NDSampler: the checks of imbalanced-learn and of scikit-learn, all of them ---

CHECKED = [
    RandomOverSampler(random_state=0),
    SMOTE(random_state=0),
    RandomUnderSampler(random_state=0),
]


def checks_of(estimator):
    return [
        case
        for package in (imblearn_checks, sklearn_checks)
        for case in package.estimator_checks_generator(estimator)
    ]


def name_of(value):
    if isinstance(value, NDSampler):
        return type(value.sampler).__name__
    kwargs = ",".join(f"{k}={v}" for k, v in value.keywords.items())
    return value.func.__name__ + (f"({kwargs})" if kwargs else "")


@pytest.mark.parametrize(
    ("estimator", "check"),
    [case for sampler in CHECKED for case in checks_of(NDSampler(sampler))],
    ids=name_of,
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("sampler", CHECKED, ids=str)
def test_no_estimator_check_is_left_out(sampler):
    of_nd = [name_of(check) for _, check in checks_of(NDSampler(sampler))]
    assert of_nd == [name_of(check) for _, check in checks_of(sampler)]
    assert {"check_samplers_fit_resample", "check_samplers_preserve_dtype"} <= set(of_nd)
    assert {"check_fit2d_1feature", "check_estimators_pickle"} <= set(of_nd)


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (SMOTE(), r"^sampler__k_neighbors must be less than .*, 3 for class 'rare'; got 5\."),
        (ADASYN(), r"^sampler__n_neighbors must be less than .*, 3 for class 'rare'; got 5\."),
        (BorderlineSMOTE(), r"^sampler__k_neighbors must be .*, 3 for class 'rare'; got 5\."),
        (NearMiss(n_neighbors=5), r"^sampler__n_neighbors must be .*'rare'; got 5\."),
        (SMOTEENN(), r"^sampler must be a sampler for 3 rows of class 'rare'; got SMOTEENN"),
    ],
    ids=repr,
)
def test_a_class_with_fewer_rows_than_neighbours(sampler, words):
    X = np.random.default_rng(0).integers(0, 255, (20, 4, 4), dtype=np.uint8)
    y = np.array(["usual"] * 17 + ["rare"] * 3)
    with pytest.raises(ParameterError, match=words):
        NDSampler(sampler).fit_resample(X, y)
