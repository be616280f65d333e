"""Devices of torch: their type and their memory."""

import multiprocessing

import torch

__all__ = ["device_type", "free_memory", "is_cuda", "release_in_worker"]


def device_type(device: str) -> str:
    """Return the type of a device, such as ``"cuda"`` for ``"cuda:1"``."""
    return torch.device(device).type


def is_cuda(device: str) -> bool:
    """Tell whether a device is a CUDA device."""
    return device_type(device) == "cuda"


def free_memory(device: str) -> int:
    """Return the memory of a CUDA device that this process can have, in bytes.

    torch keeps freed memory in reserve, which the device does not count as free.
    """
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def release_in_worker(device: str) -> None:
    """Give memory that torch keeps in reserve back to a CUDA device, if this process is a worker.

    A worker of a search stays for a while without work, and other processes need the memory. All
    other processes keep the reserve: the next call would ask the driver for the memory again.
    """
    if is_cuda(device) and multiprocessing.parent_process() is not None:
        torch.cuda.empty_cache()
