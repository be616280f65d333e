"""Memory that is not enough: errors about it, and steps that are repeated with fewer rows at once.

An error keeps the frames of its traceback, and with them the tensors of the step. A step is
repeated only after the block that has caught the error, where nothing holds it any more.
"""

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from skimbal.exceptions import warn_caller
from skimbal.generators import generator_states, restore
from skimbal.training.devices import is_cuda
from skimbal.training.processes import Processes

__all__ = [
    "Attempt",
    "Place",
    "ShrinkingNet",
    "are_short_of_memory",
    "compute_in_parts",
    "note_place",
    "place_of",
    "repeat_with_fewer_rows",
    "set_rows_at_once",
]

_Result = TypeVar("_Result")

#: Words of torch and its libraries for memory that is not there, often in a RuntimeError.
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|unable to allocate|bad_alloc|out of memory"
    r"|_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Place(Enum):
    """The part of a fit or of a prediction whose memory was not enough."""

    STEP = "a training step"
    BLOCK = "a block of a prediction or of the validation"


class ShrinkingNet(Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that a step depends on."""

    device: str
    module_: Any
    criterion_: Any
    optimizer_: torch.optim.Optimizer
    processes_: Processes
    micro_batch_size: int | None
    blueprint_: Any


def are_short_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is not enough."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def note_place(error: BaseException, place: Place) -> None:
    """Keep, with an error about memory, the place where the memory was not enough."""
    if are_short_of_memory(error):
        error.skimbal_place = place  # type: ignore[attr-defined]


def place_of(error: BaseException) -> Place | None:
    """Return the place that :func:`note_place` has kept."""
    return getattr(error, "skimbal_place", None)


class Attempt:
    """A computation of a gradient, of whose failure the other processes learn.

    Parameters
    ----------
    processes : Alone or Together, default=None
        The processes that must all repeat a step if one of them lacks memory. None if an error is
        not caught, so that nobody asks the others.
    """

    def __init__(self, processes: Processes | None = None) -> None:
        self.asks = processes is not None and processes.n_processes > 1
        self._processes = processes
        #: Whether messages are under way, and whether all processes know of a failure.
        self.is_exchanging = self.is_known = False

    def meet(self) -> None:
        """Wait until all processes are here, and fail if one of them has failed on the way."""
        if self.asks and self._vote(0):
            self.is_known = True
            raise MemoryError("there is not enough memory in another process")

    def report(self) -> None:
        """Tell the processes that wait in :meth:`meet` that this process has failed."""
        if self.asks and not self.is_known:
            self._vote(1)

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Meet, and exchange messages of a loss. No failure within can be reported."""
        self.meet()
        self.is_exchanging = self.asks
        yield
        self.is_exchanging = False

    def _vote(self, number: int) -> int:
        assert self._processes is not None
        return self._processes.all_reduce_max(number)


class _StepState:
    """The state of a net that the computation of a gradient changes."""

    def __init__(self, net: ShrinkingNet) -> None:
        self._device = net.device
        self._generators = generator_states(net.device)
        self._buffers = [
            (part, name, buffer, None if buffer is None else buffer.detach().clone())
            for module in (net.module_, net.criterion_)
            if isinstance(module, nn.Module)
            for part in module.modules()
            for name, buffer in part._buffers.items()
        ]
        self._gradients: list[tuple[Tensor, Tensor | None]] = [
            (weight, None if weight.grad is None else weight.grad.clone())
            for group in net.optimizer_.param_groups
            for weight in group["params"]
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Set all back, as often as needed."""
        restore(self._generators, self._device)
        for part, name, buffer, kept in self._buffers:
            setattr(part, name, buffer)  # a loss puts another tensor in place of its sums
            if buffer is not None and kept is not None:
                buffer.copy_(kept)
        for weight, gradient in self._gradients:
            weight.grad = None if gradient is None else gradient.clone()


def repeat_with_fewer_rows(
    net: ShrinkingNet, n_rows: int, compute: Callable[[Attempt], _Result]
) -> _Result:
    """Compute the gradient of a step, with half as many rows at once each time memory lacks.

    Parameters
    ----------
    net : TrainingNet
        The net, whose ``micro_batch_size`` becomes the size that memory suffices for.
    n_rows : int
        Rows of the batch that this process has.
    compute : callable
        Adds the gradient to the gradients of the weights.

    Raises
    ------
    RuntimeError, MemoryError
        If memory does not suffice for a single row in some process.
    """
    state, began, n_failed = _StepState(net), net.micro_batch_size, 0
    while True:
        attempt = Attempt(net.processes_)
        try:
            result = compute(attempt)
            break
        except (RuntimeError, MemoryError) as error:
            if attempt.is_exchanging or not are_short_of_memory(error):
                raise
            attempt.report()
            at_once = min(n_rows, net.micro_batch_size or n_rows)
            at_once = net.processes_.all_reduce_max(at_once)
            if at_once <= 1:
                raise
        n_failed = n_failed or at_once
        _release(net.device)
        state.restore()
        set_rows_at_once(net, -(-at_once // 2))
    if net.micro_batch_size != began and net.processes_.is_first:
        _warn(net, n_failed)
    return result


def set_rows_at_once(net: ShrinkingNet, n_rows: int) -> None:
    """Let the net hold so many rows in memory at once from now on, also after it is saved."""
    net.micro_batch_size = n_rows
    if net.blueprint_ is not None:
        net.blueprint_ = replace(net.blueprint_, micro_batch_size=n_rows)


def compute_in_parts(
    compute: Callable[[Tensor], Tensor], images: Tensor, at_once: int, device: str
) -> tuple[Tensor, int]:
    """Compute something of each image, with half as many at once each time memory lacks.

    Returns the results, and the number of images for which memory suffices.
    """
    at_once = min(at_once, len(images))
    while True:
        try:
            if at_once == len(images):
                return compute(images), at_once
            return torch.cat([compute(part) for part in torch.split(images, at_once)]), at_once
        except (RuntimeError, MemoryError) as error:
            if at_once <= 1 or not are_short_of_memory(error):
                note_place(error, Place.BLOCK)
                raise
        _release(device)
        at_once = -(-at_once // 2)


def _release(device: str) -> None:
    """Free the memory that a failed computation held, also where it is in reserve or in a cycle."""
    gc.collect(1)  # the objects of the step are young, and older objects are many
    if is_cuda(device):
        torch.cuda.empty_cache()


def _warn(net: ShrinkingNet, n_failed: int) -> None:
    by_parts = ""
    if any(isinstance(part, _BATCH_NORMS) for part in net.module_.modules()):
        by_parts = " The batch normalisation of this network normalises each part by itself."
    warn_caller(
        f"A training step ran out of memory on device={net.device!r} with {n_failed} rows at once, "
        f"and micro_batch_size='auto' has become {net.micro_batch_size}. The gradient is still the "
        f"gradient of the whole batch.{by_parts} To begin with this size, set "
        f"micro_batch_size={net.micro_batch_size}."
    )
