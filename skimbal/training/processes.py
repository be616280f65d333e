"""Messages between the processes that train one network together.

All of them hold the same weights and draw the same batches. Each computes with its own rows of a
batch. :class:`Alone` and :class:`Together` have one interface, so the rest of the training does not
ask how many processes there are. All processes must call the methods of :class:`Together` that send
a message.
"""

import atexit
import datetime
import io
import multiprocessing
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from skimbal.exceptions import import_optional
from skimbal.generators import seed_generators
from skimbal.losses import SumOverParts
from skimbal.training.devices import is_cuda

__all__ = ["Alone", "Processes", "SumOverProcesses", "Together", "join"]

#: How long a process waits for the others before it gives up.
_TIMEOUT = datetime.timedelta(minutes=10)

_Value = TypeVar("_Value")


class Processes(Protocol):
    """The processes that train one network."""

    #: Number of this process, counted over all machines, and number of processes.
    rank: int
    n_processes: int
    #: Whether this process writes files and lines for all.
    is_first: bool
    #: Sums a tensor over the parts of a batch. None if there is one part.
    sum_over_parts: SumOverParts | None

    def own_rows(self, n_rows: int) -> slice:
        """Return the rows of a batch that are for this process."""

    def gather_rows(self, part: Tensor, n_rows: int) -> Tensor:
        """Put together the results that each process has computed for its rows."""

    def all_reduce_max(self, number: int) -> int:
        """Return the largest number that a process has."""

    def broadcast(self, value: _Value) -> _Value:
        """Return the value of the first process."""

    def gather(self, value: _Value) -> list[_Value]:
        """Return the values of all processes."""

    def check_same(self, checksum: Callable[[], object]) -> None:
        """Refuse data and parameters that are not the same in all processes."""

    def seed_apart(self) -> None:
        """Let the network of each process draw other random numbers."""

    def average_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Average the gradients over the processes, and return the average of the loss."""

    def share_buffers(self, module: nn.Module) -> None:
        """Take over the buffers of the first process, such as running means."""


class Alone:
    """One process, which computes with all rows of a batch."""

    rank = 0
    n_processes = 1
    is_first = True
    sum_over_parts: SumOverParts | None = None

    def own_rows(self, n_rows: int) -> slice:
        """Return all rows."""
        return slice(None)

    def gather_rows(self, part: Tensor, n_rows: int) -> Tensor:
        """Return the part, which is all."""
        return part

    def all_reduce_max(self, number: int) -> int:
        """Return the number."""
        return number

    def broadcast(self, value: _Value) -> _Value:
        """Return the value."""
        return value

    def gather(self, value: _Value) -> list[_Value]:
        """Return the value."""
        return [value]

    def check_same(self, checksum: Callable[[], object]) -> None:
        """Do nothing."""

    def seed_apart(self) -> None:
        """Do nothing."""

    def average_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Return the loss."""
        return loss

    def share_buffers(self, module: nn.Module) -> None:
        """Do nothing."""


class Together:
    """The processes of torch's default group.

    Parameters
    ----------
    device : str
        Device of this process.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.rank, self.n_processes = int(dist.get_rank()), int(dist.get_world_size())
        self.is_first = self.rank == 0
        self.sum_over_parts: SumOverParts | None = SumOverProcesses(self.n_processes)

    def own_rows(self, n_rows: int) -> slice:
        """Return the rows of a batch that are for this process: no row, or more than one."""
        # Not neighbours: a batch is sorted, and batch normalisation takes the rows by themselves.
        # It cannot do that with a single row.
        n_parts = min(self.n_processes, max(1, n_rows // 2))
        return slice(self.rank, None, n_parts) if self.rank < n_parts else slice(0, 0)

    def gather_rows(self, part: Tensor, n_rows: int) -> Tensor:
        """Put together the results that each process has computed for its rows."""
        # Zeros elsewhere, so that the sum is exact.
        rows = part.new_zeros((n_rows, *part.shape[1:]))
        rows[self.own_rows(n_rows)] = part.detach()
        dist.all_reduce(rows)
        return rows

    def all_reduce_max(self, number: int) -> int:
        """Return the largest number that a process has."""
        tensor = torch.tensor([number], device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor.item())

    def broadcast(self, value: _Value) -> _Value:
        """Return the value of the first process. Tensors come to the device of this process."""
        message = [b""]
        if self.is_first:
            blob = io.BytesIO()
            torch.save(value, blob)
            message = [blob.getvalue()]
        dist.broadcast_object_list(message, 0, device=torch.device(self.device))
        if self.is_first:
            return value
        received: _Value = torch.load(
            io.BytesIO(message[0]), map_location=self.device, weights_only=False
        )
        return received

    def gather(self, value: _Value) -> list[_Value]:
        """Return the values of all processes."""
        values: list[Any] = [None] * self.n_processes
        dist.all_gather_object(values, value)
        return values

    def check_same(self, checksum: Callable[[], object]) -> None:
        """Refuse data and parameters that are not the same in all processes, in all of them."""
        own = checksum()
        if self.all_reduce_max(int(self.broadcast(own) != own)):
            raise ValueError(
                "rows, labels, weights, batch_size and max_epochs must be the same in all "
                "processes; got different ones. With distributed=True each process takes its part "
                "of every batch by itself. Pass the same data and parameters in all of them, and "
                "seed the split of the data."
            )

    def seed_apart(self) -> None:
        """Seed torch with another number in each process, drawn from the common generator."""
        seed_generators(int(torch.randint(2**31 - 1, ())) + self.rank, self.device)

    def average_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Average the gradients in one message, and return the average of the loss."""
        parameters = list(parameters)
        missing = [parameter.grad is None for parameter in parameters]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        present = loss.new_tensor([float(not is_missing) for is_missing in missing])
        message = torch.cat([loss.detach()[None], present, *(g.flatten() for g in gradients)])
        dist.all_reduce(message)
        message /= self.n_processes
        sizes = [1, len(missing), *(gradient.numel() for gradient in gradients)]
        mean, present, *averages = torch.split(message, sizes)
        # To read it waits for the device. A parameter that has no gradient in any process must
        # keep None: an optimizer may change even a parameter whose gradient is zero.
        is_used = present.tolist() if any(missing) else [1.0] * len(missing)
        for parameter, gradient, average, used in zip(
            parameters, gradients, averages, is_used, strict=True
        ):
            if used:
                parameter.grad = gradient.copy_(average.view_as(gradient))
        return mean.squeeze(0)

    def share_buffers(self, module: nn.Module) -> None:
        """Take over the buffers of the first process, such as running means."""
        for buffer in module.buffers():
            message = buffer.contiguous()
            dist.broadcast(message, 0)
            buffer.copy_(message)


class SumOverProcesses:
    """Sum over the parts of a batch that the processes of torch's default group hold.

    Parameters
    ----------
    n_parts : int
        Number of processes.
    """

    def __init__(self, n_parts: int) -> None:
        self.n_parts = n_parts

    def __call__(self, part: Tensor) -> Tensor:
        """Return the sum of the tensors of all processes, by one message.

        The gradient is the gradient of the sum of the losses of all processes.
        """
        total: Tensor = _AllReduce.apply(part)  # type: ignore[no-untyped-call]
        return total


class _AllReduce(torch.autograd.Function):
    """The sum over processes, whose gradient is summed over them, too."""

    @staticmethod
    def forward(ctx: FunctionCtx, part: Tensor) -> Tensor:
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, of_total: Tensor) -> Tensor:
        of_part: Tensor = _AllReduce.apply(of_total)  # type: ignore[no-untyped-call]
        return of_part


def join(device: str) -> tuple[str, Processes]:
    """Join the processes that a launcher has started, if it has started several.

    Parameters
    ----------
    device : str
        A device of torch. ``"cuda"`` becomes the CUDA device of this process.

    Returns
    -------
    device : str
        Where this process trains.
    processes : Alone or Together
        The processes that train.

    Raises
    ------
    ImportError
        If there is no process group yet and accelerate, which starts one, is missing.
    RuntimeError
        If this is a worker of a process that was launched with others, such as a worker of a search
        with ``n_jobs``, or no group could be started.
    ValueError
        If there is no CUDA device for this process, or a process group for CUDA alone.
    """
    if not dist.is_initialized():
        user = "distributed=True without a process group of torch"
        accelerate = import_optional("accelerate", user, "distributed")
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return device, Alone()
        if multiprocessing.parent_process() is not None:
            raise RuntimeError(
                "distributed=True cannot be used in a worker of a process that was launched with "
                "others, because the workers of several searches cannot train together. Set "
                "n_jobs=None in the search and launch more processes, or set distributed=False."
            )
        if is_cuda(device):
            device = _own_cuda_device(device)
        accelerate.PartialState(cpu=not is_cuda(device), timeout=_TIMEOUT)
        if not dist.is_initialized():
            raise RuntimeError(
                f"distributed=True found WORLD_SIZE={os.environ['WORLD_SIZE']}, but accelerate "
                "started no process group. Launch with accelerate launch or torchrun, or call "
                "torch.distributed.init_process_group before fit."
            )
        # Threads of a group that is left to the end of the interpreter may abort it.
        atexit.register(_leave)
    elif is_cuda(device):
        device = _own_cuda_device(device)
    elif dist.get_backend() == "nccl":
        raise ValueError(
            f"device must be CUDA for a process group that talks by nccl; got {device!r}. Set "
            "device='cuda', or start the group with the backend gloo."
        )
    return device, Together(device) if dist.get_world_size() > 1 else Alone()


def _own_cuda_device(device: str) -> str:
    if torch.device(device).index is not None:
        return device
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"process {local_rank} of this machine needs a CUDA device that no other process uses, "
            f"but torch sees {torch.cuda.device_count()}. Launch as many processes as there are "
            "devices."
        )
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
