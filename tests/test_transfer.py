"""Copies to a device hold the same numbers, and wait for nothing."""

import pytest
import torch
from torch import nn

from skimbal.transfer import send, send_module, send_together

TENSORS = [
    torch.arange(5),
    torch.rand(3, 1, dtype=torch.float64),
    torch.tensor([True, False, True]),
    torch.rand(4, 2, 3).transpose(0, 2),
    torch.tensor(2.5),
    torch.empty(0, 4),
    torch.rand(3, dtype=torch.bfloat16),
]


def test_on_the_cpu_tensors_stay_as_they_are():
    for one, other in zip(TENSORS, send_together(TENSORS, torch.device("cpu")), strict=True):
        assert other is one
        assert send(one, "cpu") is one
    assert send_together([], torch.device("cpu")) == []


@pytest.mark.cuda
def test_tensors_of_many_dtypes_go_together(account):
    with account("wait", "staged") as events:
        found = send_together(TENSORS, torch.device("cuda"))
    assert events.count() == 0, events
    for one, other in zip(TENSORS, found, strict=True):
        assert other.is_cuda
        assert other.dtype == one.dtype
        assert torch.equal(other.cpu(), one)
    assert len({tensor.untyped_storage().data_ptr() for tensor in found if tensor.numel()}) == 1


@pytest.mark.cuda
def test_a_module_moves_in_its_place(account):
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(
        memory_format=torch.channels_last
    )
    module[0].bias = nn.Parameter(module[0].bias, requires_grad=False)
    expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    parameters = list(module.parameters())
    with account("wait", "staged") as events:
        assert send_module(module, "cuda") is module
    assert events.count() == 0, events
    assert all(one is other for one, other in zip(parameters, module.parameters(), strict=True))
    assert not module[0].bias.requires_grad
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    for name, tensor in module.state_dict().items():
        assert tensor.is_cuda
        assert torch.equal(tensor.cpu(), expected[name])
