"""Gradients that are averaged over processes while further gradients are computed."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["BUCKET_BYTES", "GradientBuckets"]

#: Size at which gradients are sent together. Smaller messages begin earlier. Each has a price of
#: its own, which at this size is small beside the time of the transfer.
BUCKET_BYTES = 2**20


class GradientBuckets:
    """The gradients of some parameters, sent in buckets as soon as a backward pass has them.

    A backward pass begins with the last layers, and so do the buckets. All processes send them in
    one order, also a process that has no gradients. The last bucket has two things more: for each
    parameter, a number that says whether it has a gradient, and the loss.

    Parameters
    ----------
    parameters : sequence of Parameter
        The same in all processes.
    n_processes : int
        Their number.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], n_processes: int) -> None:
        self.parameters, self._n_processes = list(parameters), n_processes
        self._backwards = self.parameters[::-1]
        self._buckets = list(_in_buckets(self._backwards))
        #: The loss of the batch, while its last gradients are computed.
        self._loss: Tensor | None = None
        #: For each bucket, the gradients that it waits for, and the messages that are under way.
        self._awaited: list[set[int]] = []
        self._sent: list[tuple[Tensor, dist.Work]] = []
        #: The gradients that this process did not have when it sent them.
        self._missing: list[int] = []
        self._hooks = [
            _followed(parameter, partial(self._arrived, bucket, i))
            for bucket, rows in enumerate(self._buckets)
            for i, parameter in zip(rows, self._backwards[rows.start : rows.stop], strict=True)
        ]

    def begin(self, loss: Tensor) -> None:
        """Send each bucket as soon as its gradients are there. The next backward pass is the last.

        Parameters
        ----------
        loss : Tensor of shape ()
            Loss of the batch, or the share of this process in it.
        """
        self._awaited = [set(rows) for rows in self._buckets]
        self._sent, self._missing = [], []
        self._loss = loss.detach()

    @torch.no_grad()
    def finish(self, loss: Tensor) -> Tensor:
        """Send the rest, put averages in place of the gradients, and return the average loss."""
        if self._loss is None:
            self.begin(loss)
        while len(self._sent) < len(self._buckets):
            self._send()
        self._loss = None
        averages = [self._average(bucket) for bucket in range(len(self._sent))]
        self._sent = []
        *of_last, present, mean = averages[-1]
        # To read it waits for the device. A parameter that has no gradient in any process must
        # keep None: an optimizer may change even a parameter whose gradient is zero.
        is_used = present.tolist() if self._missing else [1.0] * len(self._backwards)
        gradients = [piece for pieces in averages[:-1] for piece in pieces] + of_last
        for parameter, used, gradient in zip(self._backwards, is_used, gradients, strict=True):
            parameter.grad = _as_gradient(gradient, parameter) if used else None
        return mean.squeeze(0)

    def remove(self) -> None:
        """Remove the hooks of the parameters."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def _arrived(self, bucket: int, i: int, parameter: Tensor) -> None:
        """Send the buckets that are complete, in their order, once a gradient is there."""
        if self._loss is None:
            return
        if bucket < len(self._sent):
            raise RuntimeError(
                "distributed=True needs a network whose backward pass adds to each gradient once. "
                f"The gradient of a parameter of shape {tuple(parameter.shape)} grew after it had "
                "been sent to the other processes. Checkpoints of activations do so if they share "
                "layers. Give them use_reentrant=False."
            )
        self._awaited[bucket].discard(i)
        while len(self._sent) < len(self._buckets) and not self._awaited[len(self._sent)]:
            self._send()

    def _send(self) -> None:
        """Send the next bucket, with zeros for gradients that this process does not have."""
        rows, pieces = self._buckets[len(self._sent)], []
        for i in rows:
            parameter = self._backwards[i]
            if parameter.grad is None:
                self._missing.append(i)
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            pieces.append(gradient.permute(_order(parameter)).flatten())
        if len(self._sent) == len(self._buckets) - 1:
            assert self._loss is not None
            # Made on the device: a copy of numbers of the host would wait for it.
            present = self._loss.new_ones(len(self._backwards))
            for i in self._missing:
                present[i] = 0
            pieces += [present, self._loss[None]]
        message = torch.cat(pieces)
        self._sent.append((message, dist.all_reduce(message, async_op=True)))

    def _average(self, bucket: int) -> tuple[Tensor, ...]:
        """Wait for a message, and return the averages in it, each of them flat."""
        message, work = self._sent[bucket]
        work.wait()
        message /= self._n_processes
        sizes = [self._backwards[i].numel() for i in self._buckets[bucket]]
        if bucket == len(self._buckets) - 1:
            sizes += [len(self._backwards), 1]
        return torch.split(message, sizes)


def _followed(parameter: nn.Parameter, arrived: Callable[[Tensor], None]) -> RemovableHandle:
    """Let a function be called with a parameter each time that its gradient is complete."""
    handle: RemovableHandle = parameter.register_post_accumulate_grad_hook(arrived)  # type: ignore[no-untyped-call]
    return handle


def _in_buckets(parameters: Sequence[nn.Parameter]) -> Iterator[range]:
    """Yield the numbers of parameters whose gradients go together."""
    start, n_bytes = 0, 0
    for i, parameter in enumerate(parameters):
        n_bytes += parameter.nbytes
        if n_bytes >= BUCKET_BYTES or i == len(parameters) - 1:
            yield range(start, i + 1)
            start, n_bytes = i + 1, 0


def _order(parameter: Tensor) -> list[int]:
    """Return the axes of a parameter as they lie in memory, the outermost first."""
    return sorted(range(parameter.ndim), key=parameter.stride, reverse=True)


def _as_gradient(flat: Tensor, parameter: Tensor) -> Tensor:
    """Return numbers as they lie in memory as the gradient of a parameter."""
    order = _order(parameter)
    gradient = flat.view([parameter.shape[axis] for axis in order])
    back = sorted(range(len(order)), key=order.__getitem__)
    return gradient.permute(back).to(parameter.dtype)
