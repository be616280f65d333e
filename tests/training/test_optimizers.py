"""Traits of optimizers: a subclass has them, too."""

import pytest
import torch

from skimbal.training import can_be_fused, default_rate, is_like_adam, takes_several_gradients
from skimbal.training.optimizers import OPTIMIZERS, takes_one_gradient


class OwnLBFGS(torch.optim.LBFGS):
    """A subclass, which computes as many gradients."""


class OwnAdam(torch.optim.Adam):
    """A subclass, whose step may be another one."""


@pytest.mark.parametrize(
    ("optimizer", "several", "one", "fused"),
    [
        (torch.optim.LBFGS, True, False, False),
        (OwnLBFGS, True, False, False),
        (torch.optim.Adam, False, True, True),
        (torch.optim.SGD, False, True, True),
        (torch.optim.RMSprop, False, True, False),
        (OwnAdam, False, False, False),
    ],
)
def test_traits(optimizer, several, one, fused):
    assert takes_several_gradients(optimizer) == several
    assert takes_one_gradient(optimizer) == one
    assert can_be_fused(optimizer, "cpu") == can_be_fused(optimizer, "cuda:1") == fused
    assert not can_be_fused(optimizer, "meta")


class WithoutRate(torch.optim.SGD):
    """A class whose users must give a rate."""

    def __init__(self, params, lr):
        super().__init__(params, lr)


@pytest.mark.parametrize(
    ("optimizer", "like_adam", "rate"),
    [
        (torch.optim.AdamW, True, 1e-3),
        (torch.optim.NAdam, True, 2e-3),
        (OwnAdam, True, 1e-3),
        (torch.optim.SGD, False, 1e-3),
        (torch.optim.RMSprop, False, 1e-2),
        (OwnLBFGS, False, 1),
        (WithoutRate, False, None),
    ],
)
def test_learning_rates(optimizer, like_adam, rate):
    assert is_like_adam(optimizer) == like_adam
    assert default_rate(optimizer) == rate


def test_every_optimizer_has_a_learning_rate():
    assert all(default_rate(optimizer) > 0 for optimizer in OPTIMIZERS.values())
