"""Devices of torch: their type and their memory."""

import torch

__all__ = ["device_type", "is_cuda", "release_memory"]


def device_type(device: str) -> str:
    """Return the type of a device, such as ``"cuda"`` for ``"cuda:1"``."""
    return torch.device(device).type


def is_cuda(device: str) -> bool:
    """Tell whether a device is a CUDA device."""
    return device_type(device) == "cuda"


def release_memory(device: str) -> None:
    """Give memory that torch keeps in reserve back to a CUDA device, for other processes."""
    if is_cuda(device):
        torch.cuda.empty_cache()
