"""Devices of torch: their type, their number, their memory."""

import multiprocessing
import re
from typing import Any

import torch

__all__ = [
    "device_type",
    "free_memory",
    "is_at",
    "is_cuda",
    "release_in_worker",
    "with_index",
]


def device_type(device: str) -> str:
    """Return the type of a device, such as ``"cuda"`` for ``"cuda:1"``."""
    return torch.device(device).type


def is_cuda(device: str) -> bool:
    """Tell whether a device is a CUDA device."""
    return device_type(device) == "cuda"


def with_index(device: str) -> str:
    """Return a device with its number, so that it stays the same when another becomes current.

    Without a number it is the current device of torch. Workers, such as the workers of a search,
    take the devices in turn, by the number that Python gives a worker.
    """
    if device == "cpu" or device != device_type(device):
        return device
    module: Any = getattr(torch, device, None)
    if not hasattr(module, "current_device"):
        return device
    index = module.current_device()
    worker = _worker_number()
    if worker is not None and index == 0:
        index = worker % module.device_count()
    return f"{device}:{index}"


def _worker_number() -> int | None:
    """Return the number of this process among those that its parent has started, if it is one."""
    if multiprocessing.parent_process() is None:
        return None
    # Such as LokyProcess-1 and SpawnPoolWorker-2. A process that its user has named has no number.
    number = re.search(r"-(\d+)$", multiprocessing.current_process().name.replace(":", "-"))
    return None if number is None else int(number[1]) - 1


def is_at(place: str, device: object) -> bool:
    """Tell whether the name of a device means a place, which has a number if there are several."""
    if isinstance(device, str) and device == "auto":
        return True
    known, there = torch.device(device), torch.device(place)  # type: ignore[call-overload]
    return known.type == there.type and known.index in (None, there.index or 0)


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
