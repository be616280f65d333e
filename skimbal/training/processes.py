"""What the processes that train one network together tell each other.

All of them hold the same weights and draw the same batches; each computes with its own rows of a
batch. Every function here but :func:`own_rows` and :func:`rank` is one that all processes have to
call together.
"""

import atexit
import datetime
import io
import multiprocessing
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = [
    "average_gradients",
    "check_same",
    "from_first",
    "join",
    "largest",
    "n_processes",
    "own_rows",
    "rank",
    "share_buffers",
    "sum_over_parts",
    "whole",
]

#: How long a process waits for the others before it gives up.
_TIMEOUT = datetime.timedelta(minutes=10)


def join(device: str) -> tuple[str, bool]:
    """Join the processes that a launcher has started, if it has started several.

    Parameters
    ----------
    device : str
        A device of torch; ``"cuda"`` becomes the one of this process.

    Returns
    -------
    device : str
        Where this process trains.
    together : bool
        Whether there are other processes.

    Raises
    ------
    ImportError
        If there is no process group yet and accelerate, which starts one, is missing.
    RuntimeError
        If this is a worker of one of the processes that were launched, such as that of a search
        with ``n_jobs``, or no group could be started.
    ValueError
        If there is no CUDA device for this process, or a process group for CUDA alone.
    """
    is_cuda = torch.device(device).type == "cuda"
    if not dist.is_initialized():
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise ImportError(
                "distributed=True needs accelerate, which is not installed here. Install it with "
                "pip install 'skimbal[distributed]', or start a process group with "
                "torch.distributed.init_process_group before fit."
            ) from error
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return device, False
        if multiprocessing.parent_process() is not None:
            raise RuntimeError(
                "distributed=True in a worker of a process that was launched with others: the "
                "workers of several searches cannot train together. Set n_jobs=None in the search "
                "and launch more processes, or set distributed=False."
            )
        if is_cuda:
            device = _own_cuda_device(device)
        PartialState(cpu=not is_cuda, timeout=_TIMEOUT)
        if not dist.is_initialized():
            raise RuntimeError(
                f"distributed=True found WORLD_SIZE={os.environ['WORLD_SIZE']} but accelerate "
                "started no process group; launch with accelerate launch or torchrun, or call "
                "torch.distributed.init_process_group before fit."
            )
        # Threads of a group that is left to the end of the interpreter may abort it.
        atexit.register(_leave)
    elif is_cuda:
        device = _own_cuda_device(device)
    elif dist.get_backend() == "nccl":
        raise ValueError(
            f"the process group talks by nccl, which knows CUDA only, but device={device!r}. Set "
            "device='cuda', or start the group with the backend gloo."
        )
    return device, dist.get_world_size() > 1


def _own_cuda_device(device: str) -> str:
    if torch.device(device).index is not None:
        return device
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"process {local_rank} of this machine needs a CUDA device of its own, but torch sees "
            f"{torch.cuda.device_count()}. Launch as many processes as there are devices."
        )
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, counted over all machines."""
    return int(dist.get_rank())


def n_processes() -> int:
    """Return the number of processes."""
    return int(dist.get_world_size())


def own_rows(n_rows: int) -> slice:
    """Return the rows of a batch that are for this process; they may be none, or more than one."""
    # Not neighbours: a batch is sorted, and batch normalisation takes the rows by themselves. It
    # cannot do that with a single one.
    n_parts = min(n_processes(), max(1, n_rows // 2))
    return slice(rank(), None, n_parts) if rank() < n_parts else slice(0, 0)


def from_first(value: Any, device: str) -> Any:
    """Return what the first process has; tensors come to the device of this one."""
    message = [b""]
    if rank() == 0:
        blob = io.BytesIO()
        torch.save(value, blob)
        message = [blob.getvalue()]
    dist.broadcast_object_list(message, 0, device=torch.device(device))
    if rank() == 0:
        return value
    return torch.load(io.BytesIO(message[0]), map_location=device, weights_only=False)


def largest(number: int, device: str) -> int:
    """Return the largest number that a process has."""
    tensor = torch.tensor([number], device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor.item())


class _Sum(torch.autograd.Function):
    """The sum of what each process has. The gradient is for the sum of all their losses."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, of_total: Tensor) -> Any:
        return sum_over_parts(of_total)


class _SumOverParts:
    """The sum over the processes, as losses take it."""

    @property
    def n_parts(self) -> int:
        return n_processes()

    def __call__(self, part: Tensor, /) -> Tensor:
        total: Tensor = _Sum.apply(part)  # type: ignore[no-untyped-call]
        return total


#: The differentiable sum over all processes, each of which has a part of the batch.
sum_over_parts = _SumOverParts()


def check_same(mark: Any, device: str) -> None:
    """Refuse everywhere what is not the same everywhere."""
    if largest(int(from_first(mark, device) != mark), device):
        raise ValueError(
            "the processes were given different rows, labels, weights, batch_size or max_epochs. "
            "With distributed=True each takes its part of every batch by itself: pass the same "
            "data and parameters in all of them, and seed what splits them."
        )


def whole(part: Tensor, n_rows: int) -> Tensor:
    """Put together what each process has computed for its :func:`own_rows`."""
    # Zeros elsewhere, so that the sum is exact.
    rows = part.new_zeros((n_rows, *part.shape[1:]))
    rows[own_rows(n_rows)] = part
    dist.all_reduce(rows)
    return rows


def average_gradients(parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Average the gradients over the processes, in one message; return the average of the loss."""
    missing = [parameter.grad is None for parameter in parameters]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    present = loss.new_tensor([float(not is_missing) for is_missing in missing])
    message = torch.cat([loss.detach()[None], present, *(g.flatten() for g in gradients)])
    dist.all_reduce(message)
    message /= n_processes()
    sizes = [1, len(missing), *(gradient.numel() for gradient in gradients)]
    mean, present, *averages = torch.split(message, sizes)
    # To read it waits for the device. What no process has a gradient for is to keep none: an
    # optimiser may change even what has a gradient of zero.
    is_used = present.tolist() if any(missing) else [1.0] * len(missing)
    for parameter, gradient, average, used in zip(
        parameters, gradients, averages, is_used, strict=True
    ):
        if used:
            parameter.grad = gradient.copy_(average.view_as(gradient))
    return mean.squeeze(0)


def share_buffers(module: nn.Module) -> None:
    """Take over the buffers of the first process, such as running means."""
    for buffer in module.buffers():
        message = buffer.contiguous()
        dist.broadcast(message, 0)
        buffer.copy_(message)
