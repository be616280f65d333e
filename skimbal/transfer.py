"""Copies from the memory of the host to a device, for which the host does not wait."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["send", "send_module", "send_together"]

#: Parts of a message begin at multiples of it, in bytes, as numbers of any dtype need.
_ALIGNMENT = 16

_Module = TypeVar("_Module", bound=nn.Module)


def send(tensor: Tensor, device: str | torch.device) -> Tensor:
    """Return a tensor on a device. A copy from the host to CUDA starts from pinned memory.

    From other memory, CUDA would copy the tensor in pieces while the host waits.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def send_together(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return tensors on a device, with one copy of all tensors of the host to CUDA."""
    if device.type != "cuda" or not tensors or any(t.device.type != "cpu" for t in tensors):
        return [tensor.to(device) for tensor in tensors]
    sizes = [-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors]
    message = torch.empty(sum(sizes), dtype=torch.uint8)
    for part, tensor in zip(torch.split(message, sizes), tensors, strict=True):
        _as(tensor, part).copy_(tensor)
    sent = send(message, device)
    return [
        _as(tensor, part) for part, tensor in zip(torch.split(sent, sizes), tensors, strict=True)
    ]


def _as(tensor: Tensor, part: Tensor) -> Tensor:
    """View the bytes of a part of a message as a tensor of the shape and dtype of another."""
    return part[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)


def send_module(module: _Module, device: str | torch.device) -> _Module:
    """Move the parameters and buffers of a module to a device, in their place."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = send(tensor.data, device)
    return module
