"""Scores and their gradients: hard predictions, the textbook, and corner cases."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from skimbal.losses import (
    LossMix,
    MixedLoss,
    SoftF1Loss,
    SoftMCCLoss,
    f1_score_macro,
    get_loss,
    mcc_score,
    soft_confusion,
)
from tests.batches import (
    DTYPES,
    FLOAT32_EPS,
    MIX,
    SET_TERMS,
    as_tensor,
    assert_same,
    hard_logits,
    make_batch,
    make_loss,
    predictions,
    relative_error,
    sizes_and_dtypes,
    soft_batches,
    value_and_gradient,
    weights,
)


@st.composite
def hard_batches(draw):
    n_classes = draw(st.integers(2, 20))
    n = draw(st.integers(1, 40))
    labels = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    return n_classes, np.array(draw(labels)), np.array(draw(labels)), draw(weights(n))


@given(hard_batches())
def test_scores_of_hard_predictions_are_those_of_sklearn(batch):
    n_classes, truth, predicted, weight = batch
    logits, target = hard_logits(predicted, n_classes), torch.from_numpy(truth)
    confusion = soft_confusion(logits, target, as_tensor(weight))
    with warnings.catch_warnings():  # scikit-learn remarks on batches of a single label
        warnings.simplefilter("ignore")
        mcc = matthews_corrcoef(truth, predicted, sample_weight=weight)
    f1 = f1_score(
        truth,
        predicted,
        labels=range(n_classes),
        average="macro",
        zero_division=0,
        sample_weight=weight,
    )
    assert mcc_score(*confusion).item() == pytest.approx(mcc, rel=0, abs=1e-12)
    assert f1_score_macro(*confusion).item() == pytest.approx(f1, rel=0, abs=1e-12)
    loss = [module(logits, target, as_tensor(weight)) for module in (SoftMCCLoss(), SoftF1Loss())]
    assert loss[0].item() == pytest.approx(1 - mcc, rel=0, abs=1e-12)
    assert loss[1].item() == pytest.approx(1 - f1, rel=0, abs=1e-12)


def textbook_matrix(logits, target, weight):
    """Build the K x K table of true class against predicted probability."""
    exponential = np.exp(logits.numpy())
    p = exponential / exponential.sum(1, keepdims=True)
    weight = np.ones(len(p)) if weight is None else weight
    table = np.zeros((p.shape[1], p.shape[1]))
    for p_row, label, w in zip(p, target.tolist(), weight, strict=True):
        table[label] += w * p_row
    return table


@given(soft_batches())
def test_scores_of_soft_predictions_are_those_of_the_textbook(batch):
    logits, target, weight = batch
    table = textbook_matrix(*batch)
    tp, true, predicted = np.diag(table), table.sum(1), table.sum(0)
    fp, fn = predicted - tp, true - tp
    f1 = np.mean(2 * tp / (2 * tp + fp + fn))
    s, c = table.sum(), np.trace(table)
    mcc = (c * s - true @ predicted) / np.sqrt(
        (s**2 - predicted @ predicted) * (s**2 - true @ true)
    )
    confusion = soft_confusion(logits, target, as_tensor(weight))
    for actual, expected in zip(confusion, (tp, predicted, true), strict=True):
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12)
    assert f1_score_macro(*confusion).item() == pytest.approx(f1, rel=0, abs=1e-12)
    assert mcc_score(*confusion).item() == pytest.approx(mcc, rel=0, abs=1e-11)


@given(soft_batches(max_classes=2))
def test_mcc_of_two_classes_is_the_binary_coefficient(batch):
    (tn, fp), (fn, tp) = textbook_matrix(*batch)
    binary = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    logits, target, weight = batch
    loss = SoftMCCLoss()(logits, target, as_tensor(weight))
    assert loss.item() == pytest.approx(1 - binary, rel=0, abs=1e-11)


def test_perfect_and_inverted_predictions_have_the_extreme_scores():
    target = torch.tensor([0] * 80 + [1] * 12 + [2] * 8)
    perfect = hard_logits(target, 3)
    assert SoftF1Loss()(perfect, target).item() == pytest.approx(0, abs=1e-15)
    assert SoftMCCLoss()(perfect, target).item() == pytest.approx(0, abs=1e-15)
    inverted = hard_logits(1 - target[:92], 2)
    assert SoftF1Loss()(inverted, target[:92]).item() == 1
    assert SoftMCCLoss()(inverted, target[:92]).item() == pytest.approx(
        1 - matthews_corrcoef(target[:92], 1 - target[:92]), abs=1e-15
    )


@pytest.mark.parametrize("name", SET_TERMS)
def test_derivatives_where_a_class_is_absent(name):
    logits, target = make_batch(6, 4)
    target = target % 2
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: get_loss(name)(z, target), logits)
    assert torch.autograd.gradgradcheck(lambda z: get_loss(name)(z, target), logits)


def test_gradients_are_those_of_the_paper():
    n, n_classes = 50, 4
    logits, target = make_batch(n, n_classes, shares=[0.7, 0.2, 0.1, 0.0])
    p = torch.softmax(logits, 1).numpy()
    y = np.eye(n_classes)[target]
    p_mean, y_mean = p.mean(0), y.mean(0)
    covariance = np.mean(((p - p_mean) * (y - y_mean)).sum(1))
    a, b = (p_mean * (1 - p_mean)).sum(), (y_mean * (1 - y_mean)).sum()
    d_mcc = ((y - y_mean) + covariance * p_mean / a) / np.sqrt(a * b) / n
    f1 = 2 * (p * y).sum(0) / (p + y).sum(0)
    d_f1 = (2 * y - f1) / (p + y).sum(0) / n_classes
    for loss, d_score in ((SoftMCCLoss(), d_mcc), (SoftF1Loss(), d_f1)):
        _, gradient = value_and_gradient(loss, logits, target)
        expected = -p * (d_score - (p * d_score).sum(1, keepdims=True))
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("n", "dtype", "label"), sizes_and_dtypes(1, 2, 7, 512, 65536, choices=[0, 2])
)
def test_mcc_of_a_batch_of_one_class_is_one_without_gradient(n, dtype, label, rng):
    weight = torch.from_numpy(rng.uniform(0.01, 2, n))
    target = torch.full((n,), label)
    for logits in predictions(target, 3).values():
        for w in (None, weight):
            value, gradient = value_and_gradient(SoftMCCLoss(), logits.to(dtype), target, w)
            assert value == 1
            assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_mcc_where_weights_leave_one_class_is_one_without_gradient(dtype):
    logits, target = make_batch(64, 3)
    weight = torch.rand(64, generator=torch.Generator().manual_seed(0)) * (target == 1)
    value, gradient = value_and_gradient(SoftMCCLoss(), logits.to(dtype), target, weight)
    assert value == 1
    assert (gradient == 0).all()


@pytest.mark.parametrize(("n", "dtype"), sizes_and_dtypes(2, 512, 65536))
def test_mcc_of_a_saturated_constant_prediction_is_one_without_gradient(n, dtype, rng):
    _, target = make_batch(n, 3)
    weight = torch.from_numpy(rng.uniform(0.01, 2, n))
    logits = hard_logits(torch.ones(n).long(), 3).to(dtype)
    for w in (None, weight):
        value, gradient = value_and_gradient(SoftMCCLoss(), logits, target, w)
        assert value == 1
        assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_absent_class_lifts_the_f1_loss_by_one_part_in_k(dtype):
    logits, target = make_batch(60, 5)
    target = target % 3
    perfect = hard_logits(target, 5).to(dtype)
    value, gradient = value_and_gradient(SoftF1Loss(), perfect, target)
    assert value.item() == pytest.approx(2 / 5, abs=1e-6)
    assert (gradient == 0).all()
    assert SoftF1Loss()(logits.to(dtype), target) > 2 / 5
    one_class = SoftF1Loss()(hard_logits(torch.zeros(9).long(), 5).to(dtype), torch.zeros(9).long())
    assert one_class.item() == pytest.approx(4 / 5, abs=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("n", "gap"),
    [
        *((1000, gap) for gap in (0.3, 1.0, 2.2)),
        *((65536, gap) for gap in (0.3, 1.0, 2.2)),
        (300_000, 1.0),
        *(pytest.param(300_000, gap, marks=pytest.mark.slow) for gap in (0.3, 2.2)),
    ],
)
def test_float32_sums_do_not_lose_a_constant_prediction(n, gap, weighted):
    # Where each row says the same, so does each rounding: a naive sum drifts off with n.
    target = (torch.arange(n) % 5 == 0).long()
    logits = torch.zeros(n, 2)
    logits[:, 0] = gap
    weight = torch.full((n,), 0.3) if weighted else None
    for name in SET_TERMS:
        value, gradient = value_and_gradient(get_loss(name), logits, target, weight)
        exact_value, exact = value_and_gradient(get_loss(name), logits.double(), target, weight)
        assert value.item() == pytest.approx(exact_value.item(), abs=1e-6)
        assert relative_error(gradient, exact) <= 1e-6


@pytest.mark.parametrize("gap", [3.0, 5.0, 8.0, 10.0])
@pytest.mark.parametrize("n", [64, 65536])
def test_float32_mcc_close_to_collapse_is_as_good_as_its_condition_allows(n, gap):
    # The covariance is known to a unit in the last place of 1, and is compared with the variance
    # of the mean prediction, which goes to zero.
    logits, target = make_batch(n, 3, shares=[0.8, 0.12, 0.08])
    logits[:, 0] += gap
    logits = logits.float()
    p = logits.double().softmax(1).mean(0)
    variance = (p * (1 - p)).sum().item()
    value, gradient = value_and_gradient(SoftMCCLoss(), logits, target)
    exact_value, exact = value_and_gradient(SoftMCCLoss(), logits.double(), target)
    assert value.item() == pytest.approx(exact_value.item(), abs=4 * FLOAT32_EPS / variance**0.5)
    assert relative_error(gradient, exact) <= 4 * FLOAT32_EPS / variance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_mcc_fades_beyond_all_resolution(n_classes, constant, dtype):
    # The quotient of two roundings could be anything; the damping holds it below 1 / 256.
    logits, target = make_batch(256, n_classes)
    if constant:
        logits = logits[:1].expand(256, n_classes)
    for gap in (15, 20, 25, 30, 40, 60, 80, 100, 200, 400, 700):
        shifted = logits.to(dtype).clone()
        shifted[:, 0] += gap
        value, gradient = value_and_gradient(SoftMCCLoss(), shifted, target)
        exact_value, exact = value_and_gradient(SoftMCCLoss(), shifted.double(), target)
        assert abs(value - (1 if constant else exact_value)) < 1 / 256
        assert 256 * gradient.abs().max() < 256 * exact.abs().max() + 1 / 256
        if gap > 100:
            assert 256 * gradient.abs().max() < 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("one_in", [10, 100, 1000])
def test_mcc_of_a_rare_class_is_as_good_as_its_condition_allows(one_in, dtype):
    target = (torch.arange(20_000) % one_in == 0).long()
    eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    variance = 2 / one_in * (1 - 1 / one_in)
    bound = eps / variance + 0.5 * (256 * eps / variance) ** 2
    perfect = hard_logits(target, 2).to(dtype)
    assert SoftMCCLoss()(perfect, target).item() == pytest.approx(0, abs=bound)
    half = hard_logits(target * (torch.arange(20_000) < 10_000), 2).to(dtype)
    expected = 1 - matthews_corrcoef(target, half[:, 1] > 0)
    assert SoftMCCLoss()(half, target).item() == pytest.approx(expected, abs=bound)


@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_a_batch_add_up(weighted, rng):
    logits, target = make_batch(57, 6)
    weight = torch.from_numpy(rng.uniform(0, 2, 57)) if weighted else None
    whole = soft_confusion(logits, target, weight)
    parts = [
        soft_confusion(logits[i : i + 10], target[i : i + 10], w)
        for i in range(0, 57, 10)
        for w in [None if weight is None else weight[i : i + 10]]
    ]
    for total, *summands in zip(whole, *parts, strict=True):
        assert total.shape == (6,)
        assert_same(sum(summands), total)
    w = torch.ones(57).double() if weight is None else weight
    assert_same(whole.predicted.sum(), w.sum())
    assert_same(whole.true.sum(), w.sum())


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_half_precision_are_wide(dtype):
    logits, target = make_batch(65536, 3)
    logits = logits.to(dtype)
    narrow = soft_confusion(logits.clone().requires_grad_(), target)
    exact = soft_confusion(logits.double(), target)
    for actual, expected in zip(narrow, exact, strict=True):
        assert actual.dtype == torch.promote_types(dtype, torch.float32)
        torch.testing.assert_close(actual.double(), expected, rtol=2e-7, atol=0)
    assert not narrow.true.requires_grad
    assert narrow.tp.requires_grad
    assert narrow.predicted.requires_grad


@pytest.mark.parametrize("name", SET_TERMS)
def test_normalizer_does_not_touch_the_scores(name, rng):
    logits, target = make_batch(30, 3)
    weight = torch.from_numpy(rng.uniform(0, 3, 30))
    loss = get_loss(name)
    assert loss(logits, target, weight, normalizer=7) == loss(logits, target, weight)


@pytest.mark.parametrize("bias", [[0.0, 0.0, 0.0], [2.0, 0.5, -1.0], [10.0, 0.0, 0.0]])
def test_constant_prediction_is_a_plateau_of_mcc(bias):
    target = torch.tensor([0] * 40 + [1] * 6 + [2] * 4)
    bias = torch.tensor(bias, dtype=torch.float64, requires_grad=True)
    gradient = {}
    for name in ("ce", "f1", "mcc"):
        value = get_loss(name)(bias.expand(50, 3), target)
        gradient[name] = torch.autograd.grad(value, bias)[0].abs().max()
        if name == "mcc":
            assert value.item() == pytest.approx(1, abs=1e-12)
    assert gradient["mcc"] <= 1e-13
    assert gradient["f1"] > 1e-5
    assert gradient["ce"] > 1e-2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spec", SET_TERMS + [MIX])
def test_one_loss_whatever_computes_it(spec, weighted):
    # In numpy on the CPU, in torch elsewhere, by autograd where weights are learnt.
    logits, target = make_batch(50, 4, shares=[0.6, 0.3, 0.1, 0.0])
    weight = torch.linspace(0, 2, 50).double() if weighted else None
    loss = make_loss(spec, 4)
    expected = value_and_gradient(loss, logits, target, weight)
    learnt = torch.ones(50).double() if weight is None else weight.clone()
    by_autograd = value_and_gradient(loss, logits, target, learnt.requires_grad_())
    loss.uses_numpy = False
    elsewhere = value_and_gradient(loss, logits, target, weight)
    for value, other, another in zip(expected, by_autograd, elsewhere, strict=True):
        torch.testing.assert_close(other, value, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(another, value, rtol=1e-12, atol=1e-15)


def test_weights_can_be_learnt():
    logits, target = make_batch(12, 3)
    weight = torch.linspace(0.5, 2, 12).double().requires_grad_()
    loss = MixedLoss(LossMix(ce=1, f1=1, mcc=1))
    assert torch.autograd.gradcheck(lambda w: loss(logits, target, w), weight)


@pytest.mark.parametrize("spec", ["mcc", "f1"])
@pytest.mark.parametrize("weighted", [False, True])
def test_memory_is_that_of_the_probabilities_and_the_gradient(spec, weighted):
    n, n_classes = 4096, 256
    logits = torch.randn(n, n_classes, requires_grad=True)
    target = torch.arange(n) % n_classes
    weight = torch.linspace(0, 2, n) if weighted else None
    loss = get_loss(spec)
    with torch.profiler.profile(profile_memory=True) as profile:
        loss(logits, target, weight).backward()
    in_use = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            in_use += event.nbytes()
            peak = max(peak, in_use)
    assert 2.0 <= peak / (4 * n * n_classes) <= 2.1


def test_no_step_waits_for_the_device_or_is_random_there(recorder):
    # .item(), and all that makes a shape of a value, wait for the device. torch.cumsum and its
    # like refuse to run there when deterministic algorithms are asked for.
    logits, target = make_batch(64, 3)
    leaf, loss = logits.float().requires_grad_(), make_loss(MIX, 3)
    loss.uses_numpy = False
    with recorder:
        loss(leaf, target, torch.ones(64)).backward()
    waiting = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero"}
    refused = {"cumsum", "bincount", "histc", "scatter_reduce", "put", "kthvalue", "median"}
    assert recorder.names >= {"_softmax", "index_add", "scatter_add_"}
    assert not recorder.names & (waiting | refused)
