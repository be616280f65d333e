"""Traits of optimizers: a subclass has them, too."""

import pytest
import torch

from skimbal.training import can_be_fused, takes_several_gradients
from skimbal.training.optimizers import takes_one_gradient


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
