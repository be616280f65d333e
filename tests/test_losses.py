"""Values, gradients and edge cases of the losses, and every form in which one can be asked for."""

import copy
import pickle
import random
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, ParameterGrid
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

import skimbal
from skimbal.exceptions import ParameterError
from skimbal.losses import TERMS as TERM_TABLE
from skimbal.losses import (
    CollapseWarning,
    FocalLoss,
    LossMix,
    MixedLoss,
    ModuleLoss,
    SoftF1Loss,
    SoftMCCLoss,
    Term,
    f1_score_macro,
    get_loss,
    inverse_effective_number,
    inverse_frequency,
    log_prior,
    mcc_score,
    soft_confusion,
)
from tests.batches import (
    DTYPES,
    FACTORS,
    FLOAT32_EPS,
    GRADIENT_ERROR,
    MIX,
    ROW_TERMS,
    SET_TERMS,
    SHARES,
    SHIFT_TERMS,
    TERMS,
    as_tensor,
    assert_rounded,
    assert_same,
    hard_logits,
    make_batch,
    make_loss,
    predictions,
    relative_error,
    sizes_and_dtypes,
    soft_batches,
    value_and_gradient,
)
from tests.plain import plain

# --- Statistics that move, and the warm-up ---------------------------------------------------


def moving(spec, n_classes, horizon=100.0):
    mix = LossMix.from_expression(spec, statistics="moving", horizon=horizon)
    return get_loss(mix, range(1, n_classes + 1)).train()


def scores_of(sums, spec):
    """Compute the loss of a metric from three vectors, by the public functions."""
    return sum(1 - {"mcc": mcc_score, "f1": f1_score_macro}[name](*sums) for name in spec)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spec", TERMS + [MIX])
def test_first_batch_of_moving_statistics_is_a_batch(spec, weighted, rng):
    logits, target = make_batch(30, 3)
    weight = torch.from_numpy(rng.uniform(0.1, 3, 30)) if weighted else None
    found = value_and_gradient(moving(spec, 3), logits, target, weight)
    expected = value_and_gradient(make_loss(spec, 3), logits, target, weight)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spec", [["mcc"], ["f1"], ["f1", "mcc"]], ids="+".join)
def test_moving_statistics_are_their_formula(spec, weighted, dtype, rng):
    loss, sums = moving("+".join(spec), 3, horizon=20.0), torch.zeros(3, 3).double()
    for step, n in enumerate((4, 2, 7, 1, 5)):
        logits, target = make_batch(n, 3, seed=step)
        weight = torch.from_numpy(rng.uniform(0.1, 3, n)) if weighted else None
        leaf = logits.to(dtype).double().requires_grad_()
        vectors = torch.stack(soft_confusion(leaf, target, weight))
        past = sums * np.exp(-n / 20)
        # The value is that of all sums. A row moves it by its own share of this batch alone, as
        # if the sums were of the size of the batch.
        expected = scores_of(past + vectors.detach(), spec)
        shares = (past + vectors.detach()) / (past + vectors.detach())[2].sum()
        shares.requires_grad_()
        (pull,) = torch.autograd.grad(scores_of(shares, spec), shares)
        mass = n if weight is None else weight.sum()
        (gradient,) = torch.autograd.grad((vectors[:2] / mass * pull[:2]).sum(), leaf)
        found = value_and_gradient(loss, logits.to(dtype), target, weight)
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 2e-2)
        assert_same(found[0].double(), expected, tolerance)
        assert relative_error(found[1], gradient) < tolerance
        sums = past + vectors.detach()
        assert_same(loss.moving, sums, 1e-12 if dtype == torch.float64 else 1e-5)
        assert loss.moving.dtype == torch.float64
        assert not loss.moving.requires_grad


def test_moving_statistics_of_a_long_horizon_are_those_of_all_rows():
    logits, target = make_batch(64, 3, shares=[0.8, 0.15, 0.05])
    expected, exact = value_and_gradient(SoftMCCLoss(), logits, target)
    loss, small = moving("mcc", 3, horizon=1e12), SoftMCCLoss()
    parts = list(zip(logits.split(4), target.split(4), strict=True))
    for part in parts * 20:
        value = loss(*part)
    assert_same(value, expected, 1e-9)
    # Whatever the size of the batches, their gradients then add up to that of all rows.
    found = torch.cat([value_and_gradient(loss, *part)[1] for part in parts]) / len(parts)
    local = torch.cat([value_and_gradient(small, *part)[1] for part in parts]) / len(parts)
    cosine = [torch.cosine_similarity(g.ravel(), exact.ravel(), 0).item() for g in (found, local)]
    assert cosine[0] > 0.999
    assert cosine[1] < 0.9


@pytest.mark.parametrize("spec", ["mcc", "f1", "ce+mcc"])
def test_a_batch_of_one_class_has_a_gradient_under_moving_statistics(spec):
    loss = moving(spec, 3)
    logits, target = make_batch(40, 3)
    loss(logits, target)
    value, gradient = value_and_gradient(loss, logits[:2], torch.ones(2, dtype=torch.int64))
    assert value.isfinite()
    assert gradient.abs().max() > 1e-4


def test_evaluation_neither_uses_nor_moves_the_statistics():
    loss = moving("f1+mcc", 3)
    (logits, target), (others, labels) = make_batch(20, 3), make_batch(8, 3, seed=1)
    loss(logits, target)
    before = loss.moving.clone()
    assert_same(loss.eval()(others, labels), get_loss("f1+mcc")(others, labels))
    assert torch.equal(loss.moving, before)
    assert not torch.equal(loss.train()(others, labels), get_loss("f1+mcc")(others, labels))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spec", ["mcc", "f1", MIX])
def test_second_derivatives_of_moving_statistics(spec, weighted, rng):
    logits, target = make_batch(6, 3)
    weight = torch.from_numpy(rng.uniform(0.1, 3, 6)) if weighted else None
    loss = moving(spec, 3, horizon=30.0)
    loss(*make_batch(20, 3, seed=1))
    start = loss.moving.clone()

    def gradient(leaf):
        loss.moving = start
        return torch.autograd.grad(loss(leaf, target, weight), leaf, create_graph=True)[0]

    leaf = logits.requires_grad_()
    loss.moving = start
    (fast,) = torch.autograd.grad(loss(leaf, target, weight), leaf)
    assert_same(gradient(leaf).detach(), fast)
    assert torch.isfinite(torch.autograd.grad(gradient(leaf).square().sum(), leaf)[0]).all()


@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.sampled_from([-1e4, -1, 0, 2, 1e4])), min_size=1),
        min_size=1,
        max_size=6,
    ),
    horizon=st.sampled_from([1e-3, 1.0, 512.0, 1e9]),
    dtype=st.sampled_from(DTYPES),
)
def test_moving_statistics_are_finite_whatever_comes(batches, horizon, dtype):
    loss = moving("f1+mcc", 3, horizon=horizon)
    for batch in batches:
        target = torch.tensor([label for label, _ in batch])
        logits = torch.zeros(len(batch), 3, dtype=dtype)
        logits[:, 1] = torch.tensor([value for _, value in batch])
        value, gradient = value_and_gradient(loss, logits, target)
        assert 0 <= value <= 3.001
        assert torch.isfinite(gradient).all()


def test_batches_without_weight_leave_moving_statistics_as_they_are():
    loss = moving("mcc", 3)
    logits, target = make_batch(20, 3)
    loss(logits, target)
    before = loss.moving / loss.moving[2].sum()
    value, gradient = value_and_gradient(loss, logits[:4], target[:4], torch.zeros(4))
    assert torch.equal(gradient, torch.zeros_like(gradient))
    assert_same(loss.moving / loss.moving[2].sum(), before)
    assert value.isfinite()


def test_moving_statistics_travel_with_the_module():
    loss = moving("mcc", 3, horizon=7)
    assert (loss.statistics, loss.mix.horizon) == ("moving", 7.0)
    assert repr(loss) == "MixedLoss(mcc, statistics='moving', horizon=7.0)"
    assert get_loss("mcc").statistics == SoftMCCLoss().statistics == "batch"
    again = pickle.loads(pickle.dumps(loss))
    logits, target = make_batch(9, 3)
    assert torch.equal(loss(logits, target), again(logits, target))
    assert torch.equal(pickle.loads(pickle.dumps(loss)).moving, copy.deepcopy(loss).moving)
    assert get_loss(loss).statistics == "moving"
    assert not loss.state_dict()


def test_a_loss_carries_on_from_the_statistics_of_another():
    first, second = moving("ce+mcc", 3), moving("ce+mcc", 3)
    batches = make_batch(9, 3), make_batch(8, 3, seed=1)
    for batch in batches:
        expected = first(*batch)
    second.carry_on_from(get_loss(nn.CrossEntropyLoss()))
    assert second.moving is None
    (third := moving("ce+mcc", 3))(*batches[0])
    second.carry_on_from(third)
    assert torch.equal(second(*batches[1]), expected)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("statistics", ("global", None, 1)),
        ("horizon", (0, -1, np.nan, np.inf, "512", None, True)),
        ("warmup_epochs", (-1, np.nan, np.inf, "0.5", None, True)),
    ],
)
def test_options_that_cannot_be(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"{name} must be .*got {re.escape(repr(value))}"):
            get_loss(LossMix(mcc=1, **{name: value}))


def test_moving_statistics_are_of_one_problem():
    loss = moving("mcc", 3)
    loss(*make_batch(9, 3))
    with pytest.raises(ValueError, match=r"logits must have 3 classes.*got 4"):
        loss(*make_batch(9, 4))


@pytest.mark.parametrize("spec", [*TERMS, MIX, "f1+mcc", "ce+mcc"])
def test_only_a_loss_that_may_collapse_has_a_warmup(spec):
    for warmup, shares in (
        (0, [0, 0, 0]),
        (0.5, [1, 0.75, 0]),
        (1, [1, 0, 0]),
        (4, [1, 0.75, 0]),
        (8, [1, 0.875, 0.25]),
    ):
        loss = get_loss(LossMix.from_expression(spec, warmup_epochs=warmup), [1, 2, 3])
        expected = shares if loss.may_collapse else [0, 0, 0]
        assert [loss.ce_share(n, 8) for n in (0, 1, 6)] == expected


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("statistics", ["batch", "moving"])
@pytest.mark.parametrize("spec", ["mcc", "2*f1", "f1+mcc", "ce+mcc", "focal"])
def test_share_of_cross_entropy_stands_in_for_the_whole_loss(spec, statistics, share):
    logits, target = make_batch(9, 3)
    loss = get_loss(LossMix.from_expression(spec, statistics=statistics))
    found = value_and_gradient(loss, logits, target, ce_share=share)
    pure = value_and_gradient(get_loss(spec), logits, target)
    ce = value_and_gradient(cross_entropy, logits, target)
    for one, full, stand_in in zip(found, pure, ce, strict=True):
        assert_same(one, (1 - share) * full + share * stand_in)
    if statistics == "moving" and not loss.adds_up(weighted=False):
        assert loss.moving[2].sum() == pytest.approx(9), "a warm-up gathers statistics"


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_that_of_torch(smoothing, weighted, rng):
    logits, target = make_batch(40, 5)
    weight = torch.from_numpy(rng.uniform(0, 3, 40)) if weighted else None
    w = torch.ones(40).double() if weight is None else weight
    row = cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
    loss = get_loss(LossMix(ce=1, label_smoothing=smoothing))
    assert_same(loss(logits, target, weight), (w * row).sum() / w.sum())
    if not weighted:
        assert_same(loss(logits, target), cross_entropy(logits, target, label_smoothing=smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_cross_entropy_is_a_plain_mean_of_weighted_rows(smoothing, rng):
    counts = np.array([70, 20, 10])
    target = torch.from_numpy(rng.permutation(np.repeat(np.arange(3), counts)))
    logits = torch.from_numpy(rng.normal(size=(100, 3)))
    row = cross_entropy(logits, target, label_smoothing=smoothing, reduction="none").numpy()
    expected = sum(100 / (3 * counts[c]) * value for c, value in zip(target, row, strict=True))
    loss = get_loss(LossMix(wce=1, label_smoothing=smoothing), class_counts=counts)
    assert loss(logits, target).item() == pytest.approx(expected / 100, rel=1e-12)
    # A part of the batch is divided by its number of rows, not by the sum of its class weights.
    expected = np.mean([100 / (3 * counts[c]) * v for c, v in zip(target[:7], row, strict=False)])
    assert loss(logits[:7], target[:7]).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_focal_loss_is_its_formula(gamma, weighted, rng):
    logits, target = make_batch(40, 4)
    w = rng.uniform(0, 3, 40) if weighted else np.ones(40)
    p = torch.softmax(logits, 1).numpy()[np.arange(40), target]
    expected = np.average(-((1 - p) ** gamma) * np.log(p), weights=w)
    for loss in (FocalLoss(gamma), get_loss(LossMix(focal=1, focal_gamma=gamma))):
        assert loss(logits, target, torch.from_numpy(w)).item() == pytest.approx(
            expected, rel=1e-12
        )
    assert get_loss("focal").mix.focal_gamma == FocalLoss().mix.focal_gamma == 2


def test_focal_loss_without_focus_is_cross_entropy():
    logits, target = make_batch(40, 4)
    for focal, ce in zip(
        value_and_gradient(FocalLoss(gamma=0), logits, target),
        value_and_gradient(cross_entropy, logits, target),
        strict=True,
    ):
        assert_same(focal, ce)


def test_mix_is_the_plain_weighted_sum_of_its_terms():
    logits, target = make_batch(30, 4)
    mixed = value_and_gradient(make_loss(MIX, 4), logits, target)
    parts = [value_and_gradient(make_loss(name, 4), logits, target) for name in TERMS]
    for i in range(2):
        assert_same(mixed[i], sum(f * p[i] for f, p in zip(FACTORS, parts, strict=True)))


@pytest.mark.parametrize("name", TERMS)
def test_one_class_altogether_is_a_batch_like_any_other(name):
    logits, target = torch.randn(6, 1, generator=torch.Generator().manual_seed(0)), [0] * 6
    value, gradient = value_and_gradient(make_loss(name, 1), logits, torch.tensor(target))
    assert value == (1 if name == "mcc" else 0)
    assert (gradient == 0).all()


NEW_TERM_COUNTS = [70, 20.5, 9.5]


def adjusted_by_hand(logits, target, shift):
    """Compute the cross-entropy of each row, of logits that are moved by a row for each."""
    z = logits.numpy() + shift
    exponential = np.exp(z - z.max(1, keepdims=True))
    p = exponential / exponential.sum(1, keepdims=True)
    return -np.log(p[np.arange(len(p)), target.numpy()])


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_logit_adjustment_is_its_formula(tau, weighted, rng):
    logits, target = make_batch(40, 3)
    w = rng.uniform(0, 3, 40) if weighted else np.ones(40)
    loss = get_loss(LossMix(la=1, la_tau=tau), NEW_TERM_COUNTS)
    shares = np.array(NEW_TERM_COUNTS) / 100
    row = adjusted_by_hand(logits, target, tau * np.log(shares))
    value = loss(logits, target, torch.from_numpy(w) if weighted else None)
    assert value.item() == pytest.approx(np.average(row, weights=w), rel=1e-12)
    # Its softmax is the old one times the prior to the power of tau, normalised.
    p = logits.softmax(1).numpy() * shares**tau
    row = -np.log(p[np.arange(40), target] / p.sum(1))
    assert value.item() == pytest.approx(np.average(row, weights=w), rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_softmax_is_its_formula_and_logit_adjustment(weighted, rng):
    logits, target = make_batch(40, 3)
    weight = torch.from_numpy(rng.uniform(0, 3, 40)) if weighted else None
    found = value_and_gradient(
        get_loss("balanced_softmax", NEW_TERM_COUNTS), logits, target, weight
    )
    row = adjusted_by_hand(logits, target, np.log(NEW_TERM_COUNTS))
    expected = np.average(row, weights=weight)
    assert found[0].item() == pytest.approx(expected, rel=1e-12)
    adjusted = value_and_gradient(get_loss("la", NEW_TERM_COUNTS), logits, target, weight)
    for one, other in zip(found, adjusted, strict=True):
        assert torch.equal(one, other)
    # LossMix(la_tau) is for la alone.
    mix = LossMix(balanced_softmax=1, la_tau=3)
    assert torch.equal(get_loss(mix, NEW_TERM_COUNTS)(logits, target, weight), found[0])


@pytest.mark.parametrize("margin", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_ldam_is_its_formula(margin, weighted, rng):
    logits, target = make_batch(40, 3)
    w = rng.uniform(0, 3, 40) if weighted else np.ones(40)
    n = np.array(NEW_TERM_COUNTS)
    c = margin / (1 / n**0.25).max()
    row = adjusted_by_hand(logits, target, -np.eye(3)[target] * c / n**0.25)
    loss = get_loss(LossMix(ldam=1, ldam_margin=margin), NEW_TERM_COUNTS)
    value = loss(logits, target, torch.from_numpy(w) if weighted else None)
    assert value.item() == pytest.approx(np.average(row, weights=w), rel=1e-12)
    margins = loss.class_vectors["ldam"]
    assert margins[2] == margins.max() == margin


# --- Weights by effective number, from the beginning or late ---------------------------------

WEIGHING_TERMS = ["cb", "cb_focal", "drw", "ldam_drw"]


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 0.9999])
def test_inverse_effective_number_is_its_formula(beta):
    n = np.array([5000, 500, 50, 2])
    found = inverse_effective_number(n, beta)
    effective = np.array([sum(beta**i for i in range(k)) for k in n])  # the sum of a series
    np.testing.assert_allclose(found / found[0], effective[0] / effective, rtol=1e-9)
    assert found @ n == pytest.approx(n.sum(), rel=1e-12)
    # The code of the authors of DRW, whose weights have mean 1 over the classes.
    of_authors = (1 - beta) / (1 - np.power(beta, n))
    of_authors = of_authors / of_authors.sum() * len(n)
    np.testing.assert_allclose(found / found.mean(), of_authors, rtol=1e-9)


def test_weights_by_effective_number_lie_between_none_and_inverse_frequency():
    n = [90, 9, 1]
    assert inverse_effective_number(n, 0).tolist() == [1, 1, 1]
    limit = inverse_effective_number(n, 1 - 1e-12)
    np.testing.assert_allclose(limit, inverse_frequency(n), rtol=1e-3)
    assert inverse_effective_number([6, 0, 2])[1] == 0
    assert inverse_effective_number([6, 0, 2]).tolist()[::2] == pytest.approx(
        inverse_effective_number([6, 2]).tolist()
    )
    for beta in (1, -0.1, float("nan"), "0.9"):
        with pytest.raises(ParameterError, match=r"beta must be a number in \[0, 1\)"):
            inverse_effective_number(n, beta)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", WEIGHING_TERMS)
def test_terms_with_weights_by_effective_number_are_their_formula(name, weighted, rng):
    logits, target = make_batch(50, 3, shares=[0.8, 0.15, 0.05])
    n, beta, margin = np.array(NEW_TERM_COUNTS), 0.98, 0.7
    w = rng.uniform(0.1, 3, 50) if weighted else np.ones(50)
    per_class = (1 - beta) / (1 - beta**n)
    per_class = per_class * n.sum() / (per_class @ n)
    shift = np.zeros((50, 3))
    if name == "ldam_drw":
        shift = -np.eye(3)[target] * margin * (n.min() / n) ** 0.25
    row = adjusted_by_hand(logits, target, shift)
    if name == "cb_focal":
        row = (1 - np.exp(-row)) ** 1.5 * row
    mix = LossMix(**{name: 1}, cb_beta=beta, focal_gamma=1.5, ldam_margin=margin)
    loss = get_loss(mix, NEW_TERM_COUNTS)
    weight = torch.from_numpy(w) if weighted else None
    late = loss(logits, target, weight)
    assert late.item() == pytest.approx((per_class[target] * row * w).sum() / w.sum(), rel=1e-12)
    early = loss(logits, target, weight, defers=True)
    if name.endswith("drw"):
        assert early.item() == pytest.approx(np.average(row, weights=w), rel=1e-12)
    else:
        assert early == late


def test_deferred_weights_apply_from_their_epoch_on():
    for spec, n_before in (("drw", 160), ("ldam_drw+mcc", 160), (LossMix(drw=1, drw_start=9), 9)):
        loss = get_loss(spec, [9, 1])
        assert loss.epochs_before_weights(200) == n_before
    for loss in (get_loss("cb", [9, 1]), get_loss("ce"), ModuleLoss(nn.CrossEntropyLoss())):
        assert loss.epochs_before_weights(200) == 0
    assert get_loss("drw", [9, 1]).epochs_before_weights(5) == 4, "without a rounding error"


def test_deferred_terms_are_smooth_where_plain_ones_are():
    logits, target = make_batch(30, 3)
    options = {"label_smoothing": 0.2}
    late, early = (
        get_loss(LossMix(drw=1, **options), [3, 2, 1])(logits, target, defers=defers)
        for defers in (False, True)
    )
    assert_same(early, get_loss(LossMix(ce=1, **options))(logits, target))
    assert_same(late, get_loss(LossMix(cb=1, **options), [3, 2, 1])(logits, target))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Term(score=recall, class_weight=rarity), "class_weight must have a row_loss"),
        (lambda: Term(row_loss=squared_miss, is_deferred=True), "must have a class_weight"),
    ],
)
def test_weights_without_rows_and_deferral_without_weights_are_refused(make, words):
    with pytest.raises(TypeError, match=words):
        make()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mix", [LossMix(la=1, la_tau=0), LossMix(ldam=1, ldam_margin=0)], ids=str)
def test_without_shift_or_margin_there_is_cross_entropy(mix, weighted, rng):
    logits, target = make_batch(40, 3)
    weight = torch.from_numpy(rng.uniform(0, 3, 40)) if weighted else None
    found = value_and_gradient(get_loss(mix, NEW_TERM_COUNTS), logits, target, weight)
    for one, other in zip(
        found, value_and_gradient(get_loss("ce"), logits, target, weight), strict=True
    ):
        assert_same(one, other)


@given(
    batch=soft_batches(max_classes=6),
    counts=st.lists(st.integers(1, 10**6), min_size=6, max_size=6),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_only_proportions_of_the_counts_matter(batch, counts, scale):
    logits, target, weight = batch
    counts = np.array(counts[: logits.shape[1]], dtype=float)
    for name in ("wce", *SHIFT_TERMS):
        found, expected = (
            value_and_gradient(get_loss(name, c), logits, target, as_tensor(weight))
            for c in (scale * counts, counts)
        )
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, 1e-11)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([-1e4, -60, 0, 3, 1e4])), min_size=1
    ),
    counts=st.lists(st.sampled_from([0, 1, 7.5, 10**9]), min_size=4, max_size=4).filter(any),
    dtype=st.sampled_from(DTYPES),
)
def test_losses_by_class_frequency_are_finite_whatever_comes(rows, counts, dtype):
    target = torch.tensor([label for label, _ in rows])
    logits = torch.zeros(len(rows), 4, dtype=dtype)
    logits[:, 1] = torch.tensor([value for _, value in rows])
    for mix in (*SHIFT_TERMS, LossMix(la=1, la_tau=50), LossMix(ldam=1, ldam_margin=500)):
        value, gradient = value_and_gradient(get_loss(mix, counts), logits, target)
        assert value.isfinite()
        assert value >= 0
        assert torch.isfinite(gradient).all()


def test_logit_adjustment_is_consistent_for_the_balanced_error():
    # With one image for all rows the minimum of "la" is at equal logits, whatever the shares;
    # that of cross-entropy is at the log prior.
    target = torch.tensor([0] * 80 + [1] * 15 + [2] * 5)
    counts = torch.bincount(target)
    prior = torch.from_numpy(log_prior(counts))
    for name, minimum in (("la", 0 * prior), ("balanced_softmax", 0 * prior), ("ce", prior)):
        loss = get_loss(name, counts)
        for logits, is_minimum in ((minimum, True), (minimum + torch.eye(3)[0], False)):
            _, gradient = value_and_gradient(loss, logits.expand(100, 3), target)
            assert (gradient.sum(0).abs().max().item() < 1e-12) is is_minimum


# --- Gradients -------------------------------------------------------------------------------

GRADCHECK_MIXES = {
    **{name: LossMix(**{name: 1}) for name in TERMS},
    "all": LossMix(ce=0.5, wce=1, focal=2, f1=1, mcc=1.5, la=0.7, balanced_softmax=1.2, ldam=3),
    "tau 0.3": LossMix(la=1, mcc=1, la_tau=0.3),
    "margin 2": LossMix(ldam=1, ldam_margin=2),
    "smooth": LossMix(ce=1, wce=1, f1=1, mcc=1, label_smoothing=0.1),
    "gamma 0": LossMix(focal=1, focal_gamma=0),
    "gamma 0.7": LossMix(focal=1, mcc=1, focal_gamma=0.7),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mix", GRADCHECK_MIXES.values(), ids=GRADCHECK_MIXES)
@pytest.mark.parametrize("n", [5, pytest.param(7, marks=pytest.mark.slow)])
def test_first_and_second_derivatives(n, mix, weighted):
    logits, target = make_batch(n, 3, seed=3)
    weight = torch.tensor([0.5, 0, 2, 1, 3, 1, 0.25]).double()[:n] if weighted else None
    logits.requires_grad_()
    loss = MixedLoss(mix, class_counts=[1, 2, 3])
    assert torch.autograd.gradcheck(lambda z: loss(z, target, weight), logits)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target, weight), logits)


#: In large batches the rows of the other losses of rows are as before.
NAMES = [["ce", *SET_TERMS], [name for name in ROW_TERMS if name != "ce"]]


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
@pytest.mark.parametrize(
    ("n", "dtype", "names"), sizes_and_dtypes(1, 2, 3, 10, 512, 65536, choices=NAMES)
)
def test_value_and_gradient_in_every_dtype(n, shares, dtype, names, rng):
    logits, target = make_batch(n, 3, shares=shares)
    logits = logits.to(dtype)
    for weight in (None, torch.from_numpy(rng.integers(1, 9, n) / 8)):
        for name in names:
            loss = make_loss(name, 3)
            value, gradient = value_and_gradient(loss, logits, target, weight)
            exact_value, exact = value_and_gradient(loss, logits.double(), target, weight)
            assert value.dtype == torch.promote_types(dtype, torch.float32)
            assert value.item() == pytest.approx(exact_value.item(), rel=2e-6, abs=2e-6)
            assert torch.isfinite(gradient).all()
            if not exact.any():  # of one class, in a batch as small as that
                assert n < 10
                assert name == "mcc"
                assert value == 1
                assert (gradient == 0).all()
            else:
                assert relative_error(gradient, exact) <= GRADIENT_ERROR[dtype], name
                assert_rounded(gradient, exact, floor=0)


LARGE = [pytest.param(8192, seed, marks=pytest.mark.slow) for seed in range(3)]


@pytest.mark.parametrize("n_classes", [2, 100])
@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(("n", "seed"), [(2048, 0), (2048, 1), *LARGE])
def test_float32_gradient_of_few_and_of_many_classes(n, seed, name, n_classes):
    loss = make_loss(name, n_classes)
    logits, target = make_batch(n, n_classes, seed)
    _, gradient = value_and_gradient(loss, logits.float(), target)
    _, exact = value_and_gradient(loss, logits, target)
    assert relative_error(gradient, exact) <= 1e-6


def check_extreme_predictions(n, n_classes, dtype, names):
    _, target = make_batch(n, n_classes)
    for what, logits in predictions(target, n_classes).items():
        logits = logits.to(dtype)
        for name in names:
            loss = make_loss(name, n_classes)
            value, gradient = value_and_gradient(loss, logits, target)
            exact_value, exact = value_and_gradient(loss, logits.double(), target)
            assert value.item() == pytest.approx(exact_value.item(), rel=1e-6, abs=1e-6), what
            # Below one unit in the last place of a probability there is nothing to be right about.
            assert_rounded(gradient, exact, floor=0 if dtype == torch.float64 else FLOAT32_EPS / n)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize(("n", "dtype", "names"), sizes_and_dtypes(1, 2, 64, 16384, choices=NAMES))
def test_extreme_predictions_have_a_right_value_and_gradient(n, n_classes, dtype, names):
    check_extreme_predictions(n, n_classes, dtype, names)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_predictions_of_large_batches(dtype):
    check_extreme_predictions(65536, 3, dtype, TERMS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 1.5])
def test_focal_loss_of_any_exponent_is_smooth_where_it_is_zero(gamma, dtype):
    # The power of zero alone has no finite derivative there.
    logits, target = make_batch(10, 3)
    right = torch.arange(10) > 4
    logits[right] = hard_logits(target, 3)[right]
    logits = logits.to(dtype)
    _, gradient = value_and_gradient(FocalLoss(gamma), logits, target)
    assert (gradient[right] == 0).all()
    _, exact = value_and_gradient(FocalLoss(gamma), logits[~right].double(), target[~right])
    assert relative_error(gradient[~right], exact / 2) <= GRADIENT_ERROR[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", TERMS + [MIX])
@pytest.mark.parametrize("normalizer", [None, 4.0])
def test_batch_without_weight_says_nothing(spec, dtype, normalizer):
    logits, target = make_batch(9, 3)
    loss = make_loss(spec, 3)
    expected = sum(factor for name, factor in loss.factors.items() if name in SET_TERMS)
    for scale in (1, 1000):
        value, gradient = value_and_gradient(
            loss, (scale * logits).to(dtype), target, torch.zeros(9), normalizer=normalizer
        )
        assert value == expected
        assert (gradient == 0).all()


# --- Weights, parts and normalizer -----------------------------------------------------------


@st.composite
def repeated_batches(draw):
    n = draw(st.integers(1, 25))
    n_classes = draw(st.integers(2, 8))
    repeats = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n).filter(any))
    target = draw(st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = generator.uniform(-4, 4, (n, n_classes))
    return torch.from_numpy(logits), torch.tensor(target), torch.tensor(repeats)


@given(repeated_batches())
def test_integer_weights_equal_repeated_rows(batch):
    logits, target, repeats = batch
    rows = torch.repeat_interleave(repeats)
    for spec in TERMS + [MIX]:
        loss = make_loss(spec, logits.shape[1])
        value, gradient = value_and_gradient(loss, logits, target, repeats)
        expected, of_copies = value_and_gradient(loss, logits[rows], target[rows])
        assert_same(value, expected)
        assert_same(gradient, torch.zeros_like(logits).index_add(0, rows, of_copies))
    for weighted, repeated in zip(
        soft_confusion(logits, target, repeats),
        soft_confusion(logits[rows], target[rows]),
        strict=True,
    ):
        assert_same(weighted, repeated)


@pytest.mark.parametrize("spec", TERMS + [MIX])
@pytest.mark.parametrize("scale", [1e-12, 1e-3, 7.0, 1e12])
def test_scale_of_the_weights_does_not_matter(spec, scale, rng):
    logits, target = make_batch(40, 4)
    weight = torch.from_numpy(rng.uniform(0, 3, 40))
    loss = make_loss(spec, 4)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        z = logits.to(dtype)
        for scaled, unscaled in zip(
            value_and_gradient(loss, z, target, scale * weight),
            value_and_gradient(loss, z, target, weight),
            strict=True,
        ):
            assert_same(scaled, unscaled, tolerance)
        equal = torch.full((40,), scale).double()
        assert_same(loss(z, target, equal), loss(z, target), tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", TERMS + [MIX])
def test_row_of_weight_zero_is_no_row(spec, dtype):
    logits, target = make_batch(30, 4)
    target = target % 3
    target[20:], logits[20:] = 3, 1e4 * logits[20:].sign()  # a class, and outliers, that go
    weight = (torch.arange(30) < 20).double()
    loss, logits = make_loss(spec, 4), logits.to(dtype)
    value, gradient = value_and_gradient(loss, logits, target, weight)
    expected, of_rest = value_and_gradient(loss, logits[:20], target[:20])
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    assert value.item() == pytest.approx(expected.item(), rel=tolerance)
    assert relative_error(gradient[:20], of_rest.double()) <= GRADIENT_ERROR[dtype]
    assert (gradient[20:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.float16])
def test_weights_may_have_any_dtype(dtype):
    logits, target = make_batch(20, 3)
    weight = torch.arange(20) % 2
    for spec in TERMS:
        loss = make_loss(spec, 3)
        assert_same(loss(logits, target, weight.to(dtype)), loss(logits, target, weight.double()))


@pytest.mark.parametrize("name", ROW_TERMS)
def test_normalizer_divides_the_sums_over_rows(name, rng):
    logits, target = make_batch(30, 3)
    weight = torch.from_numpy(rng.uniform(0, 3, 30))
    loss = make_loss(name, 3)
    mean = loss(logits, target, weight)
    assert_same(loss(logits, target, weight, normalizer=30), mean * weight.sum() / 30)
    assert_same(loss(logits, target, normalizer=60), loss(logits, target) / 2)
    # With one normalizer for all parts, the parts add up to the whole.
    parts = [
        loss(logits[i : i + 8], target[i : i + 8], weight[i : i + 8], normalizer=30)
        for i in range(0, 30, 8)
    ]
    assert_same(sum(parts), loss(logits, target, weight, normalizer=30))


def test_close_to_collapse_only_cross_entropy_pulls():
    target = torch.tensor([0] * 40 + [1] * 6 + [2] * 4)
    logits = torch.tensor([10.0, 0.0, 0.0]).double().expand(50, 3)
    norm = {
        name: value_and_gradient(get_loss(name), logits, target)[1].norm().item()
        for name in ("ce", "f1", "mcc")
    }
    assert norm["ce"] == pytest.approx(8.9e-2, rel=0.01)
    assert norm["mcc"] < norm["ce"] / 30
    assert norm["f1"] < norm["ce"] / 1000
    # A mix keeps the pull.
    mixed = value_and_gradient(get_loss("ce+mcc"), logits, target)[1].norm().item()
    assert mixed > 0.9 * norm["ce"]


def test_label_smoothing_leaves_focal_and_metric_terms_alone():
    logits, target = make_batch(30, 3)
    hard, smooth = (
        {
            name: MixedLoss(LossMix(**{name: 1}, label_smoothing=s), [1, 2, 3])(logits, target)
            for name in TERMS
        }
        for s in (0.0, 0.3)
    )
    for name in ("focal", *SHIFT_TERMS, *SET_TERMS):
        assert smooth[name] == hard[name]
    for name in ("ce", "wce"):
        assert abs(smooth[name] - hard[name]) > 1e-3


def test_advice_on_collapse_is_a_user_warning_that_the_modules_do_not_give():
    assert issubclass(CollapseWarning, UserWarning)
    assert skimbal.CollapseWarning is CollapseWarning
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_loss("mcc")
        get_loss("f1")


@pytest.mark.parametrize(
    ("spec", "is_of_batch", "may_collapse"),
    [
        ("ce", False, False),
        ("wce", False, False),
        ("focal", False, False),
        ("la", False, False),
        ("balanced_softmax", False, False),
        ("ldam", False, False),
        ("f1", True, True),
        ("mcc", True, True),
        ("f1+mcc", True, True),
        ("ce+mcc", True, False),
        ("wce+f1", True, False),
        ("focal+mcc", True, False),
        ("la+mcc", True, False),
        ("ldam+f1", True, False),
        ("ce+0*mcc", False, False),
        ("0*ce+mcc", True, True),
    ],
)
def test_what_a_loss_knows_of_itself(spec, is_of_batch, may_collapse):
    loss = make_loss(spec, 3)
    assert loss.adds_up(weighted=True) is loss.adds_up(weighted=False) is not is_of_batch
    assert loss.suffers_from_small_batches is is_of_batch
    assert not moving(spec, 3).suffers_from_small_batches
    assert loss.takes_weights
    assert loss.may_collapse is may_collapse


# --- Names, expressions, mixes, modules ------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "factors"),
    [
        ("ce", {"ce": 1}),
        ("f1", {"f1": 1}),
        (" mcc ", {"mcc": 1}),
        ("ce+mcc", {"ce": 1, "mcc": 1}),
        ("mcc+ce", {"ce": 1, "mcc": 1}),
        ("ce + 0.5*mcc", {"ce": 1, "mcc": 0.5}),
        ("  ce  +  0.5 * mcc  ", {"ce": 1, "mcc": 0.5}),
        ("2*focal+.25*f1", {"focal": 2, "f1": 0.25}),
        ("3.*ce", {"ce": 3}),
        ("1e+3*ce+mcc", {"ce": 1000, "mcc": 1}),
        ("ce+1E+3*mcc", {"ce": 1, "mcc": 1000}),
        ("1e3*ce + 1e-3 * mcc", {"ce": 1000, "mcc": 0.001}),
        ("0*ce + mcc", {"mcc": 1}),
        ("ce\n+\tmcc\n", {"ce": 1, "mcc": 1}),
        (
            "ce+2*wce+3*focal+4*f1+5*mcc",
            {"ce": 1, "wce": 2, "focal": 3, "f1": 4, "mcc": 5},
        ),
        ("la", {"la": 1}),
        ("balanced_softmax + mcc", {"balanced_softmax": 1, "mcc": 1}),
        (
            "2*ldam+0.5*la+1e+1*balanced_softmax",
            {"ldam": 2, "la": 0.5, "balanced_softmax": 10},
        ),
    ],
)
def test_expressions(expression, factors):
    loss = make_loss(expression, 3)
    assert type(loss) is MixedLoss
    assert loss.factors == factors
    logits, target = make_batch(20, 3)
    assert_same(loss(logits, target), make_loss(LossMix(**factors), 3)(logits, target), tolerance=0)


KNOWN = "ce, wce, focal, f1, mcc, la, balanced_softmax, ldam, cb, cb_focal, drw, ldam_drw"


UNREADABLE = "an expression of terms from .*" + KNOWN


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", UNREADABLE),
        ("  ", UNREADABLE),
        ("+", UNREADABLE),
        ("ce+", UNREADABLE),
        ("ce + ", UNREADABLE),
        ("+ce", UNREADABLE),
        ("ce++mcc", UNREADABLE),
        ("ce mcc", UNREADABLE),
        ("ce,mcc", UNREADABLE),
        ("ce-mcc", r"from 'ce-mcc' on"),
        ("ce+mcc-f1", r"from 'mcc-f1' on"),
        ("2ce", UNREADABLE),
        ("2*", UNREADABLE),
        ("*ce", UNREADABLE),
        ("ce*2", UNREADABLE),
        ("2*3*ce", UNREADABLE),
        ("1e+3", UNREADABLE),
        ("1e + 3*ce", UNREADABLE),
        ("(ce+mcc)", UNREADABLE),
        ("dice", "no term 'dice'.*" + KNOWN),
        ("la_tau", "no term 'la_tau'"),
        ("-1*la", "la must be .*got -1.0"),
        ("inf*ldam", "ldam must be .*got inf"),
        ("ce+0.5*dice", r"got 'ce\+0.5\*dice'.*no term 'dice'"),
        ("CE", "no term 'CE'"),
        ("label_smoothing", "no term 'label_smoothing'"),
        ("ce+mcc+ce", r"'ce' once; got 'ce\+mcc\+ce'.* '2\*ce'"),
        ("two*ce", "the factor 'two' of 'ce'.*" + KNOWN),
        ("1e*ce", "the factor '1e' of 'ce'"),
        ("0.5.5*mcc", "the factor '0.5.5' of 'mcc'"),
        ("-1*ce", "ce must be .*got -1.0"),
        ("ce + -0.5*mcc", "mcc must be .*got -0.5"),
        ("nan*f1", "f1 must be .*got nan"),
        ("inf*focal", "focal must be .*got inf"),
        ("1e400*ce", "ce must be .*got inf"),
        ("0*ce", "a factor above 0"),
        ("0*ce+0.0*mcc", "a factor above 0.* as in LossMix"),
    ],
)
def test_malformed_expressions(expression, message):
    with pytest.raises(ValueError, match=message):
        make_loss(expression, 3)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (LossMix(), "a factor above 0"),
        (LossMix(ce=0, mcc=0, focal_gamma=3), "a factor above 0"),
        (LossMix(ce=-1), "ce must be .*got -1"),
        (LossMix(ce=1, mcc=float("nan")), "mcc must be .*got nan"),
        (LossMix(wce=float("inf")), "wce must be .*got inf"),
        (LossMix(f1=None), "f1 must be .*got None"),
        (LossMix(focal="1"), "focal must be .*got '1'"),
        (LossMix(ce=[1, 2]), r"ce must be .*got \[1, 2\]"),
        (LossMix(ce=1, focal_gamma=-1), "focal_gamma must be .*got -1"),
        (LossMix(ce=1, focal_gamma=float("nan")), "focal_gamma must be .*got nan"),
        (LossMix(ce=1, label_smoothing=1), "label_smoothing must be .*got 1"),
        (LossMix(ce=1, label_smoothing=-0.1), "label_smoothing must be .*got -0.1"),
        (LossMix(ce=1, label_smoothing=None), "label_smoothing must be .*got None"),
        (LossMix(balanced_softmax=-1), "balanced_softmax must be .*got -1"),
        (LossMix(la=1, la_tau=-1), "la_tau must be .*got -1"),
        (LossMix(la=1, la_tau=float("inf")), "la_tau must be .*got inf"),
        (LossMix(ldam=1, ldam_margin=-0.5), "ldam_margin must be .*got -0.5"),
        (LossMix(ldam=1, ldam_margin="0.5"), "ldam_margin must be .*got '0.5'"),
    ],
)
def test_values_of_a_mix_are_checked_when_it_is_used(mix, message):
    with pytest.raises(ValueError, match=message):
        get_loss(mix, class_counts=[1, 2])
    with pytest.raises(ValueError, match=message):
        MixedLoss(mix, class_counts=[1, 2])


@pytest.mark.parametrize("gamma", [-0.1, float("inf"), float("nan")])
def test_focal_gamma_is_checked(gamma):
    with pytest.raises(ValueError, match=f"focal_gamma must be .*got {gamma}"):
        FocalLoss(gamma)


@pytest.mark.parametrize("value", [1, 1.0, True, np.float32(1), np.int64(1)])
def test_factors_may_be_any_number(value):
    loss = get_loss(LossMix(ce=value))
    assert loss.factors == {"ce": 1.0}
    assert type(loss.factors["ce"]) is float


@pytest.mark.parametrize("spec", [None, 1, 0.5, ["ce"], {"ce": 1}, int, LossMix, cross_entropy])
def test_anything_else_is_no_loss(spec):
    with pytest.raises(TypeError, match=r"loss must be a name or expression of ce, .* got "):
        get_loss(spec)


def test_module_is_copied():
    module = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
    loss = get_loss(module)
    assert type(loss) is ModuleLoss
    assert type(loss.module) is nn.CrossEntropyLoss
    assert loss.module is not module
    loss.module.weight[0] = 9
    assert module.weight.tolist() == [1, 2]
    mixed = FocalLoss(3)
    assert get_loss(mixed) is not mixed
    assert get_loss(mixed).mix.focal_gamma == 3


@pytest.mark.parametrize("module", [SoftMCCLoss, SoftF1Loss, FocalLoss, nn.CrossEntropyLoss])
def test_module_class_is_instantiated(module):
    loss = get_loss(module)
    assert type(getattr(loss, "module", loss)) is module
    assert type(get_loss(loss)) is type(loss)


@pytest.mark.parametrize(
    ("module", "name"), [(SoftMCCLoss(), "mcc"), (SoftF1Loss(), "f1"), (FocalLoss(), "focal")]
)
def test_modules_are_their_names(module, name):
    logits, target = make_batch(20, 3)
    assert module(logits, target) == get_loss(name)(logits, target)


def test_repr_of_a_loss_is_its_expression():
    assert repr(get_loss("0.5*mcc+ce")) == "MixedLoss(ce + 0.5*mcc)"
    assert repr(SoftMCCLoss()) == "SoftMCCLoss(mcc)"


# --- Terms of users --------------------------------------------------------------------------


def recall(tp, predicted, true):
    """Compute the macro recall of the classes in the batch."""
    return (tp / (true + (true == 0))).sum() / (true > 0).sum()


def squared_miss(logits, target, nll, of_classes, mix):
    return of_classes[target] * (1 - (-nll).exp()) ** 2


def rarity(mix, class_counts):
    return 1 / np.asarray(class_counts, dtype=float)


@pytest.fixture
def own_terms(monkeypatch):
    """Add a score and a loss of rows."""
    monkeypatch.setitem(TERM_TABLE, "recall", Term(score=recall))
    miss = Term(row_loss=squared_miss, of_classes=rarity, takes_nll=True)
    monkeypatch.setitem(TERM_TABLE, "miss", miss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_score_of_a_user_is_its_formula(own_terms, weighted, dtype, rng):
    logits, target = make_batch(40, 4, shares=[0.6, 0.3, 0.1, 0.0])
    logits, weight = logits.to(dtype), torch.from_numpy(rng.uniform(0.1, 3, 40))
    leaf = logits.double().requires_grad_()
    p = leaf.softmax(1)[torch.arange(40), target]
    w = weight if weighted else torch.ones(40).double()
    of_classes = [(w * p)[target == k].sum() / w[target == k].sum() for k in range(3)]
    expected = 1 - sum(of_classes) / len(target.unique())
    (exact,) = torch.autograd.grad(expected, leaf)
    for uses_numpy in (True, False):
        loss = get_loss("recall")
        loss.uses_numpy = uses_numpy
        found = value_and_gradient(loss, logits, target, weight if weighted else None)
        assert found[0].item() == pytest.approx(expected.item(), rel=1e-6)
        assert relative_error(found[1], exact) <= GRADIENT_ERROR[dtype]


@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_of_terms_of_users(own_terms, weighted):
    logits, target = make_batch(5, 3, seed=3)
    weight = torch.tensor([0.5, 0, 2, 1, 3]).double() if weighted else None
    loss = get_loss("ce + 0.5*recall + 2*miss + mcc", [1, 2, 3])
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target, weight), logits)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target, weight), logits)
    if weighted:
        weight.requires_grad_()
        assert torch.autograd.gradcheck(lambda w: loss(logits.detach(), target, w), weight)


def test_a_term_of_a_user_is_in_every_form_of_a_loss(own_terms):
    logits, target = make_batch(20, 3)
    loss = get_loss("ce + 0.5*recall")
    parts = [get_loss(name)(logits, target) for name in ("ce", "recall")]
    assert_same(loss(logits, target), parts[0] + 0.5 * parts[1])
    assert repr(loss) == "MixedLoss(ce + 0.5*recall)"
    assert loss.suffers_from_small_batches
    assert get_loss("recall").may_collapse
    assert not get_loss("miss", [1, 2, 3]).may_collapse
    mix = LossMix(ce=1, recall=0.5)
    assert repr(mix) == "LossMix(ce=1, recall=0.5)"
    assert clone(mix).get_params() == mix.get_params()
    assert get_loss(mix)(logits, target) == loss(logits, target)
    with pytest.raises(ValueError, match=r"class_counts .*'miss'"):
        get_loss("miss")
    hits = moving("recall", 3)
    hits(logits, target)
    sums = torch.stack(soft_confusion(logits, target))
    assert_same(hits.moving, sums)
    with torch.inference_mode():
        assert get_loss("recall")(logits, target) == parts[1]


def test_a_search_sets_the_factor_of_a_term_of_a_user(own_terms):
    mix = LossMix(ce=1)
    assert repr(mix) == "LossMix(ce=1)", "a factor that nobody set"
    assert mix.get_params()["recall"] == Holder(mix).get_params()["loss__recall"] == 0
    found = [
        get_loss(clone(Holder(mix)).set_params(**params).loss).factors
        for params in ParameterGrid({"loss__recall": [0, 0.5]})
    ]
    assert found == [{"ce": 1}, {"ce": 1, "recall": 0.5}]


def test_a_classifier_trains_with_a_term_of_a_user(own_terms):
    rng = np.random.default_rng(0)
    y = np.arange(24) % 3
    X = rng.normal(size=(24, 6, 6)) + y[:, None, None]
    clf = plain(loss=LossMix(ce=1), batch_size=12, max_epochs=1, random_state=0)
    search = GridSearchCV(clf, {"loss__recall": [0, 0.5]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["loss__recall"] in (0, 0.5)
    clf.set_params(loss__recall=1, dtype="float64")
    proba = [
        clone(clf).set_params(micro_batch_size=n).fit(X, y).predict_proba(X) for n in (None, 5)
    ]
    np.testing.assert_allclose(*proba, rtol=1e-6)


def test_a_module_takes_its_terms_with_it_and_a_mix_does_not(monkeypatch):
    logits, target = make_batch(20, 3)
    with monkeypatch.context() as patch:
        patch.setitem(TERM_TABLE, "recall", Term(score=recall))
        loss, mix = get_loss("ce+recall"), LossMix(ce=1, recall=0.5)
        expected = value_and_gradient(loss, logits, target)
        blobs = [pickle.dumps(value) for value in (loss, mix)]
    # As in a process that has not added the term.
    found = value_and_gradient(pickle.loads(blobs[0]), logits, target)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    again = pickle.loads(blobs[1])
    assert again.get_params(deep=False)["recall"] == 0.5
    for attempt in (lambda: get_loss(again), lambda: get_loss("ce+0.5*recall")):
        with pytest.raises(ValueError, match=r"no term 'recall'.*every process"):
            attempt()
    for attempt in (lambda: clone(again), lambda: LossMix(recall=1)):
        with pytest.raises(TypeError, match=r"no term 'recall'.*every process"):
            attempt()
    with pytest.raises(ValueError, match=r"'recall'.*every process"):
        LossMix(ce=1).set_params(recall=1)
    assert get_loss(again.set_params(recall=0)).factors == {"ce": 1}


@pytest.mark.parametrize(
    ("options", "got"),
    [({}, "none"), ({"score": recall, "row_loss": squared_miss}, "row_loss and score")],
)
def test_a_term_is_one_thing(options, got):
    with pytest.raises(TypeError, match=f"exactly one .*got {got}"):
        Term(**options)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda tp, predicted, true: tp / true, r"one number; got \(3,\)"),
        (lambda tp, predicted, true: 0.5, "one number; got float"),
        (lambda tp, predicted, true: true.max(), "differentiable .*got a constant"),
    ],
)
def test_a_score_that_cannot_be(score, message, monkeypatch):
    monkeypatch.setitem(TERM_TABLE, "odd", Term(score=score))
    with pytest.raises(TypeError, match=message):
        get_loss("odd")(*make_batch(9, 3))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("row_loss", "got"),
    [
        (lambda logits, target, nll, of_classes, mix: -logits.log_softmax(1), r"\(9, 3\)"),
        (lambda logits, target, nll, of_classes, mix: logits[:, :1] ** 2, r"\(9, 1\)"),
        (lambda logits, target, nll, of_classes, mix: logits.square().mean(), r"\(\)"),
        (lambda logits, target, nll, of_classes, mix: 0.5, "float"),
        (lambda logits, target, nll, of_classes, mix: nll, "NoneType.*takes_nll"),
    ],
)
def test_a_loss_of_rows_that_cannot_be(row_loss, got, weighted, monkeypatch):
    monkeypatch.setitem(TERM_TABLE, "odd", Term(row_loss=row_loss))
    logits, target = make_batch(9, 3)
    weight = torch.arange(1.0, 10) if weighted else None
    with pytest.raises(TypeError, match=rf"'odd'.*shape \(n_samples,\).*got {got}"):
        get_loss("ce+odd")(logits, target, weight)


@pytest.mark.parametrize(
    "name",
    ["horizon", "statistics", "get_params", "self", "soft-recall", "1st", "a__b", "_own", "in", 3],
)
def test_names_that_a_mix_cannot_have_as_a_keyword(name, monkeypatch):
    monkeypatch.setitem(TERM_TABLE, name, Term(score=recall))
    attempts = [lambda: get_loss("ce+mcc"), lambda: get_loss(LossMix(ce=1))]
    if isinstance(name, str):
        attempts.append(lambda: get_loss(f"ce+{name}"))
    for attempt in attempts:
        with pytest.raises(ParameterError, match=f"TERMS must be .*got {name!r}"):
            attempt()


def test_rows_of_the_table_are_terms_and_one_is_the_cross_entropy(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(TERM_TABLE, "recall", recall)
        with pytest.raises(TypeError, match=r"TERMS\['recall'\] must be .*got <function recall"):
            get_loss("ce+recall")
    rows = dict(TERM_TABLE)
    del TERM_TABLE["ce"]
    try:
        with pytest.raises(ParameterError, match=r"'ce'.*got \['wce', "):
            get_loss("mcc")
    finally:  # in the order of before, which is the order of the terms of a loss
        TERM_TABLE.clear()
        TERM_TABLE.update(rows)


# --- LossMix as a scikit-learn object --------------------------------------------------------


class Holder(BaseEstimator):
    def __init__(self, loss=None):
        self.loss = loss


def test_mix_has_the_parameters_of_an_estimator():
    mix = LossMix(1, mcc=0.5)
    assert mix.get_params() == {
        "ce": 1,
        "wce": 0.0,
        "focal": 0.0,
        "f1": 0.0,
        "mcc": 0.5,
        "la": 0.0,
        "balanced_softmax": 0.0,
        "ldam": 0.0,
        "cb": 0.0,
        "cb_focal": 0.0,
        "drw": 0.0,
        "ldam_drw": 0.0,
        "focal_gamma": 2.0,
        "label_smoothing": 0.0,
        "la_tau": 1.0,
        "ldam_margin": 0.5,
        "cb_beta": 0.9999,
        "drw_start": 0.8,
        "statistics": "batch",
        "horizon": 512,
        "warmup_epochs": 0.5,
    }
    assert mix.set_params(mcc=2, focal_gamma=1) is mix
    assert (mix.mcc, mix.focal_gamma) == (2, 1)
    with pytest.raises(ValueError, match="Invalid parameter 'dice'"):
        mix.set_params(dice=1)
    with pytest.raises(TypeError, match="positional argument"):
        LossMix(1, 1, 1, 1, 1, 2.0)


def test_mix_keeps_what_it_is_given():
    value = object()
    mix = LossMix(ce=value, label_smoothing=value)
    assert mix.ce is value
    assert mix.set_params(mcc=value).mcc is value


def test_clone_and_pickle_of_a_mix():
    mix = LossMix(ce=1, mcc=0.5, label_smoothing=0.1, la=2, la_tau=0.5, ldam_margin=1)
    for other in (clone(mix), copy.deepcopy(mix), pickle.loads(pickle.dumps(mix))):
        assert other is not mix
        assert other.get_params() == mix.get_params()
        assert other.set_params(mcc=3).mcc == 3
    assert mix.mcc == 0.5


def test_repr_of_a_mix_shows_what_was_changed():
    assert repr(LossMix()) == "LossMix()"
    assert repr(LossMix(ce=1, mcc=0.5)) == "LossMix(ce=1, mcc=0.5)"
    assert repr(LossMix(focal=1, focal_gamma=3)) == "LossMix(focal=1, focal_gamma=3)"
    assert eval(repr(LossMix(ce=1, f1=0.25))).get_params() == LossMix(ce=1, f1=0.25).get_params()


def test_search_reaches_each_factor():
    holder = Holder(LossMix(ce=1))
    found = []
    for params in ParameterGrid({"loss__mcc": [0, 0.25, 1], "loss__label_smoothing": [0, 0.1]}):
        candidate = clone(holder).set_params(**params)
        loss = get_loss(candidate.loss)
        found.append((loss.factors.get("mcc", 0), loss.mix.label_smoothing))
        assert loss.factors["ce"] == 1
    assert sorted(found) == [(m, s) for m in (0, 0.25, 1) for s in (0, 0.1)]
    assert holder.get_params()["loss__mcc"] == 0
    # A search may also replace the whole mix by an expression.
    assert clone(holder).set_params(loss="ce+mcc").loss == "ce+mcc"


# --- Class weights ---------------------------------------------------------------------------


def test_inverse_frequency_has_mean_one_over_the_rows():
    counts = np.array([80, 12, 8])
    weight = inverse_frequency(counts)
    np.testing.assert_allclose(weight, 100 / (3 * counts), rtol=1e-15)
    assert (weight * counts).sum() / 100 == pytest.approx(1, rel=1e-15)
    np.testing.assert_allclose(inverse_frequency(counts / 7), weight, rtol=1e-15)
    assert counts.tolist() == [80, 12, 8]


def test_inverse_frequency_of_a_class_without_rows_is_zero():
    assert inverse_frequency([6, 0, 2]).tolist() == pytest.approx([2 / 3, 0, 2], rel=1e-15)
    logits, target = make_batch(20, 3)
    target[target == 1] = 0
    counts = torch.bincount(target, minlength=3)
    value, gradient = value_and_gradient(get_loss("wce", counts), logits, target)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_log_prior_is_finite_and_that_of_the_counts():
    np.testing.assert_allclose(log_prior([80, 12, 8]), np.log([0.8, 0.12, 0.08]), rtol=1e-14)
    np.testing.assert_allclose(log_prior([0.8, 0.12, 0.08]), log_prior([80, 12, 8]), rtol=1e-14)
    # A class without rows counts as the rarest one that has some.
    np.testing.assert_allclose(log_prior([6, 0, 2]), np.log([0.75, 0.25, 0.25]), rtol=1e-14)
    assert np.isfinite(log_prior([1e-300, 1e300])).all()
    counts = np.array([3, 0, 1])
    log_prior(counts)
    assert counts.tolist() == [3, 0, 1]


@pytest.mark.parametrize("name", SHIFT_TERMS)
def test_class_without_rows_counts_as_the_rarest(name):
    logits, target = make_batch(20, 3)
    found = value_and_gradient(get_loss(name, [6, 0, 2]), logits, target)
    expected = value_and_gradient(get_loss(name, [6, 2, 2]), logits, target)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    "counts",
    [[], [0, 0], [1, -1], [1, float("nan")], [1, float("inf")], [[1, 2]], 3, None],
)
def test_impossible_class_counts(counts):
    message = f"class_counts must be .*got {re.escape(repr(counts))}"
    for function in (inverse_frequency, inverse_effective_number, log_prior):
        with pytest.raises(ValueError, match=message):
            function(counts)
    if counts is not None:
        for name in ("wce", *SHIFT_TERMS, *WEIGHING_TERMS):
            with pytest.raises(ValueError, match=message):
                get_loss(name, counts)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("wce", "'wce'"),
        ("ce+0.5*wce", "'wce'"),
        (LossMix(wce=1), "'wce'"),
        *((name, f"'{name}'") for name in SHIFT_TERMS + WEIGHING_TERMS),
        ("ldam+mcc+wce", "'wce' and 'ldam'"),
    ],
)
def test_class_counts_are_missed_only_where_they_matter(spec, named):
    with pytest.raises(ValueError, match=f"class_counts must be .*{named}.*got None"):
        get_loss(spec)
    for loss in (get_loss("ce + 0*wce + 0*la + 0*ldam"), get_loss("ce", class_counts=[1, 2])):
        assert loss.class_vectors == loss.class_weights == {}


@pytest.mark.parametrize("name", ["wce", *SHIFT_TERMS, *WEIGHING_TERMS])
@pytest.mark.parametrize("n_classes", [1, 2, 4])
def test_class_counts_of_another_problem(name, n_classes):
    with pytest.raises(ValueError, match=f"class_counts must .*3 classes.*got {n_classes} counts"):
        make_loss(name, n_classes)(LOGITS, TARGET)


# --- Bad batches -----------------------------------------------------------------------------

LOGITS = torch.zeros(4, 3)


TARGET = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("logits", "target", "weight", "message"),
    [
        (LOGITS[0], TARGET, None, r"logits must be floating point and .* got shape \(3,\)"),
        (LOGITS[None], TARGET, None, r"logits must be .* got shape \(1, 4, 3\)"),
        (LOGITS[:0], TARGET[:0], None, r"at least one sample; got shape \(0, 3\)"),
        (LOGITS.long(), TARGET, None, r"logits must be floating point .* torch.int64\."),
        (LOGITS, TARGET[:3], None, r"target must hold 4 class numbers .* got shape \(3,\)"),
        (LOGITS, TARGET[:, None], None, r"target must hold 4 .* got shape \(4, 1\)"),
        (LOGITS, one_hot(TARGET), None, r"target must hold 4 .* got shape \(4, 3\)"),
        (LOGITS, TARGET.int(), None, r"dtype torch.int64, .* and torch.int32\."),
        (LOGITS, TARGET.float(), None, r"dtype torch.int64, .* and torch.float32\."),
        (LOGITS, TARGET, torch.ones(3), r"sample_weight must hold 4 weights.*shape \(3,\)"),
        (LOGITS, TARGET, torch.ones(4, 1), r"sample_weight must hold 4 .* got shape \(4, 1\)"),
        (LOGITS, TARGET, torch.tensor(1.0), r"sample_weight must hold 4 .* got shape \(\)"),
    ],
)
def test_batches_that_do_not_fit(logits, target, weight, message):
    for function in (soft_confusion, make_loss(MIX, 3), SoftMCCLoss(), get_loss("ce")):
        with pytest.raises(ValueError, match=message):
            function(logits, target, weight)


# --- Good manners of a torch module ----------------------------------------------------------


def random_state():
    legacy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), legacy[1].tolist(), legacy[2:], torch.get_rng_state().tolist()


@pytest.mark.parametrize("spec", TERMS + [MIX])
def test_global_random_state_is_left_alone(spec):
    logits, target = make_batch(20, 3)
    before = random_state()
    value_and_gradient(make_loss(spec, 3), logits, target, torch.ones(20))
    assert random_state() == before


@pytest.mark.parametrize("spec", TERMS + [MIX])
def test_inputs_and_module_are_left_alone(spec):
    logits, target = make_batch(20, 3)
    weight = torch.rand(20, generator=torch.Generator().manual_seed(0))
    before = [tensor.clone() for tensor in (logits, target, weight)]
    loss = make_loss(spec, 3)
    first = value_and_gradient(loss, logits, target, weight)
    for old, new in zip(before, (logits, target, weight), strict=True):
        assert torch.equal(old, new)
    for old, new in zip(first, value_and_gradient(loss, logits, target, weight), strict=True):
        assert torch.equal(old, new)
    assert not list(loss.parameters())
    assert not loss.state_dict()


@pytest.mark.parametrize("spec", TERMS + [MIX, LossMix(focal=1, ce=1, focal_gamma=1)])
def test_copies_and_pickles_give_the_same_loss(spec):
    logits, target = make_batch(20, 3)
    loss = make_loss(spec, 3)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other(logits, target) == loss(logits, target)
        assert repr(other) == repr(loss)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("spec", TERMS + [MIX])
def test_dtype_of_the_module_is_not_that_of_the_result(spec, dtype):
    logits, target = make_batch(20, 3)
    loss = make_loss(spec, 3)
    expected = loss(logits, target)
    moved = loss.to(dtype)
    assert moved(logits, target).dtype == torch.float64
    assert moved(logits.float(), target).dtype == torch.float32
    assert moved(logits, target).item() == pytest.approx(expected.item(), rel=1e-7)


@pytest.mark.parametrize("spec", TERMS + [MIX])
def test_autocast_changes_nothing(spec):
    logits, target = make_batch(64, 3)
    loss, weight = make_loss(spec, 3), torch.linspace(0, 1, 64)
    expected = value_and_gradient(loss, logits.float(), target, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = value_and_gradient(loss, logits.float(), target, weight)
    for old, new in zip(expected, actual, strict=True):
        assert torch.equal(old, new)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", TERMS + [MIX])
def test_cuda_agrees_with_the_cpu(spec, dtype):
    deterministic = torch.are_deterministic_algorithms_enabled()
    loss = make_loss(spec, 3)
    on_device = copy.deepcopy(loss).to("cuda")
    try:
        torch.use_deterministic_algorithms(True)
        for n in (1, 10, 65536):
            logits, target = make_batch(n, 3, shares=SHARES["rare"])
            logits, weight = logits.to(dtype), torch.linspace(0, 1, n + 1)[1:]
            for w in (None, weight):
                expected_value, expected = value_and_gradient(loss, logits.double(), target, w)
                arguments = [None if x is None else x.cuda() for x in (logits, target, w)]
                value, gradient = value_and_gradient(on_device, *arguments)
                assert value.device.type == gradient.device.type == "cuda"
                assert value.dtype == torch.promote_types(dtype, torch.float32)
                assert value.item() == pytest.approx(expected_value.item(), rel=2e-6, abs=2e-6)
                if expected.any():
                    assert relative_error(gradient.cpu(), expected) <= GRADIENT_ERROR[dtype]
                else:
                    assert not gradient.any()
                again, gradient_again = value_and_gradient(on_device, *arguments)
                assert torch.equal(value, again)
                assert torch.equal(gradient, gradient_again)
    finally:
        torch.use_deterministic_algorithms(deterministic)
