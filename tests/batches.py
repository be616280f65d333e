"""Batches of logits, and comparisons of values and gradients, that tests of losses share."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from skimbal.losses import get_loss

SHIFT_TERMS = ["la", "balanced_softmax", "ldam"]
#: Of the terms with weights by effective number, the one that has both vectors.
ROW_TERMS = ["ce", "wce", "focal", *SHIFT_TERMS, "ldam_drw"]
SET_TERMS = ["f1", "mcc"]
TERMS = ROW_TERMS + SET_TERMS
FACTORS = [0.5, 1, 2, 0.7, 1.2, 3, 0.8, 1, 1.5]
MIX = " + ".join(f"{factor}*{name}" for factor, name in zip(FACTORS, TERMS, strict=True))
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
#: Largest error of a gradient, relative to its largest entry. The half dtypes are bound by the
#: rounding of the result: to 8 bits in bfloat16, and to multiples of 6e-8 in float16.
GRADIENT_ERROR = {
    torch.float64: 1e-12,
    torch.float32: 1e-6,
    torch.bfloat16: 4e-3,
    torch.float16: 1e-2,
}
FLOAT32_EPS = torch.finfo(torch.float32).eps


def sizes_and_dtypes(*sizes, choices=None):
    """Combine numbers of rows and dtypes, and if there are choices, each of them.

    Large batches are quick in float32, whose sums round, and in float16, where the gradient of a
    row is small, and there with the first choice. The other cases of large batches are slow.
    """
    cases = []
    for n, dtype, (i, choice) in product(sizes, DTYPES, enumerate(choices or [None])):
        is_quick = n <= 512 or (dtype in (torch.float32, torch.float16) and i == 0)
        values, label = ([n, dtype, choice], f"-{i}") if choices else ([n, dtype], "")
        marks = [] if is_quick else [pytest.mark.slow]
        cases.append(pytest.param(*values, marks=marks, id=f"{n}-{dtype}{label}"))
    return cases


def make_loss(spec, n_classes):
    """Make a loss whose class weights, if it has any, all differ."""
    return get_loss(spec, class_counts=range(1, n_classes + 1))


def make_batch(n, n_classes, seed=0, shares=None):
    """Draw float64 logits that are exact in float32, and labels that they know something of.

    The first row is always wrong, so that the largest gradient is never the rounding error of a
    right answer.
    """
    generator = torch.Generator().manual_seed(seed)
    shares = torch.ones(n_classes) if shares is None else torch.tensor(shares)
    target = torch.multinomial(shares, n, replacement=True, generator=generator)
    logits = torch.randn(n, n_classes, generator=generator) + one_hot(target, n_classes)
    target[0] = logits[0].where(shares > 0, torch.inf).argmin()
    return logits.double(), target


def hard_logits(labels, n_classes, scale=1e4):
    return scale * (2 * one_hot(torch.as_tensor(labels), n_classes).double() - 1)


def value_and_gradient(loss, logits, target, *args, **kwargs):
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target, *args, **kwargs)
    (gradient,) = torch.autograd.grad(value, leaf)
    assert gradient.dtype == logits.dtype
    return value.detach(), gradient


def relative_error(gradient, exact):
    return ((gradient.double() - exact).abs().max() / exact.abs().max()).item()


def assert_same(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def assert_rounded(gradient, exact, floor):
    """Check for each entry that it is the exact one, rounded to its dtype once."""
    unit = torch.finfo(gradient.dtype).eps / 2
    smallest = torch.finfo(gradient.dtype).smallest_normal * unit
    error = (gradient.double() - exact).abs()
    bound = 1.001 * unit * exact.abs() + smallest + 1e-6 * exact.abs().max() + floor
    assert torch.isfinite(gradient).all()
    assert (error <= bound).all(), (error / bound).max()


@st.composite
def soft_batches(draw, max_classes=20):
    n_classes = draw(st.integers(2, max_classes))
    n = draw(st.integers(2, 30))
    target = draw(st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n))
    weight = draw(weights(n))
    present = np.array(target) if weight is None else np.array(target)[weight > 0]
    assume(len(set(present)) > 1)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.0, 0.1, 1.0, 4.0]))
    logits = spread * generator.uniform(-1, 1, (n, n_classes))
    return torch.from_numpy(logits), torch.tensor(target), weight


def weights(n):
    """Give no weights, or eighths: their sums are exact, in whatever order."""
    some = st.lists(st.integers(0, 40), min_size=n, max_size=n).filter(any)
    return st.none() | some.map(lambda eighths: np.array(eighths) / 8)


def as_tensor(weight):
    return None if weight is None else torch.from_numpy(weight)


#: Shares of the classes.
SHARES = {"balanced": [1.0, 1.0, 1.0], "rare": [0.9, 0.09, 0.01], "absent": [0.7, 0.3, 0.0]}


def predictions(target, n_classes):
    """List predictions, from perfect to collapsed, at the end of the float range."""
    n = len(target)
    generator = torch.Generator().manual_seed(1)
    constant = torch.randn(n_classes, generator=generator).double().expand(n, n_classes)
    return {
        "perfect": hard_logits(target, n_classes),
        "wrong": hard_logits((target + 1) % n_classes, n_classes),
        "any": hard_logits(torch.randint(n_classes, (n,), generator=generator), n_classes),
        "collapsed": hard_logits(torch.zeros_like(target), n_classes),
        "collapsed to the last": hard_logits(torch.full_like(target, n_classes - 1), n_classes),
        "zero": torch.zeros(n, n_classes).double(),
        "constant": constant.float().double(),
        "nearly perfect": hard_logits(target, n_classes, scale=10),
        "soft": make_batch(n, n_classes)[0],
    }
