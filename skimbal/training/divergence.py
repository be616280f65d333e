"""Numbers that stop being finite in training, found on the device and read once an epoch.

A difference of a number with itself is 0 if the number is finite and NaN if not, so the sum of such
differences tells of many numbers at once. Numbers of a network are summed as they are, which is
faster. A sum that is not finite is a suspicion only, which a look at each number settles.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from skorch.callbacks import Callback
from skorch.utils import FirstStepAccumulator
from torch import Tensor, nn

from skimbal.exceptions import DivergenceError
from skimbal.training.gradient import TrainableNet

__all__ = [
    "DivergingNet",
    "EpochWatch",
    "StopAtDivergence",
    "WatchedSteps",
    "Weights",
    "broken_weights",
    "check_after_stop",
    "diverged",
    "find_loss",
    "not_finite",
    "read_losses",
    "trace_of",
]

#: Batches whose logits are looked at together, as each operation takes its time.
_BATCHES_AT_ONCE = 256
#: A scale of float16 gradients below it helps no gradient: the gradients are not finite by
#: themselves. The number is the default of fairseq.
_LEAST_SCALE = 1e-4


class DivergingNet(TrainableNet, Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that may stop being finite."""

    lr: float
    #: Numbers, in the history, of the epochs that train at present.
    epochs_: range
    #: The number that is not finite, in words. Empty as long as all numbers are.
    divergence_: str
    #: Whether the training has changed no weight at all.
    stands_still_: bool
    weights_: "Weights | None"
    watch_: "EpochWatch | None"


def not_finite(numbers: Tensor) -> Tensor:
    """Return 0 if all numbers are finite, and NaN otherwise."""
    return (numbers - numbers).sum()


def trace_of(rows: Tensor) -> Tensor:
    """Return, for each row, 0 if all its numbers are finite, and NaN otherwise."""
    return (rows - rows)[:, None].flatten(1).sum(1)


def read_losses(losses: Sequence[Tensor]) -> list[float]:
    """Read losses from their device, at once.

    A few numbers may be on the CPU, where an optimizer that is not fused counts its steps.
    """
    values = [0.0] * len(losses)
    for device in {loss.device for loss in losses}:
        numbers = [i for i, loss in enumerate(losses) if loss.device == device]
        read: list[float] = torch.stack([losses[i] for i in numbers]).tolist()
        for i, value in zip(numbers, read, strict=True):
            values[i] = value
    return values


def _sums(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().sum() for tensor in tensors]


class Weights:
    """The numbers that training changes: parameters, and buffers such as moving statistics.

    Numbers that are not finite before any training, such as a mask of infinities, may stay so.

    Parameters
    ----------
    net : TrainingNet
        Before the training.
    """

    def __init__(self, net: DivergingNet) -> None:
        self._parameters = dict(net.get_all_learnable_params())
        self._buffers = [
            (f"{path}.{name}".lstrip("."), part, name)
            for module in (net.module_, net.criterion_)
            if isinstance(module, nn.Module)
            for path, part in module.named_modules()
            for name, buffer in part.named_buffers(recurse=False)
            if buffer.is_floating_point()
        ]
        tensors = {**self._parameters}
        tensors.update({path: getattr(part, name) for path, part, name in self._buffers})
        self._at_start = dict(zip(tensors, read_losses(_sums(tensors.values())), strict=True))
        self._known = {name for name, total in self._at_start.items() if not math.isfinite(total)}

    def present(self) -> dict[str, Tensor]:
        """Return the tensors that may have changed, but for tensors that never were finite."""
        found: dict[str, Tensor] = {
            name: parameter
            for name, parameter in self._parameters.items()
            if parameter.requires_grad
        }
        # Frozen parts are in evaluation mode, in which statistics stay.
        for path, part, name in self._buffers:
            buffer = getattr(part, name)
            if part.training and isinstance(buffer, Tensor):
                found[path] = buffer
        return {name: tensor for name, tensor in found.items() if name not in self._known}

    def are_unchanged(self, sums: dict[str, float]) -> bool:
        """Tell whether all parameters have the sums that they had before the training."""
        return all(
            total == self._at_start[name]
            for name, total in sums.items()
            if name in self._parameters
        )


class EpochWatch:
    """The logits, weights and skipped steps of an epoch of training.

    Parameters
    ----------
    net : TrainingNet
        The net that trains.
    is_last : bool
        Whether training may end with this epoch. Other epochs are spared the look at the classes
        that are predicted, and at the state of the optimizer.
    """

    def __init__(self, net: DivergingNet, is_last: bool) -> None:
        self._net, self._is_last = net, is_last
        self._weights = net.weights_ or Weights(net)
        self._logits: list[Tensor] = []
        self._marks: list[Tensor] = []
        self._is_predicted: Tensor | None = None
        #: Of each batch: number, sum and sum of squares of the class numbers that are predicted.
        self._moments: list[Tensor] = []
        self._scales: list[Tensor] = []
        self._one: Tensor | None = None
        if net.scaler_ is not None:
            self._one = torch.ones((), device=net.device)
            self._keep_scale()

    def add(self, logits: Tensor) -> None:
        """Add the logits of a batch, after the step."""
        logits = logits.detach()
        self._logits.append(logits)
        if self._is_last:
            best = logits.argmax(1)
            self._moments.append(torch.stack((torch.ones_like(best), best, best * best)).sum(1))
        if len(self._logits) == _BATCHES_AT_ONCE:
            self._look()
        if self._one is not None:
            self._keep_scale()

    def add_trial(self, logits: Tensor, loss: Tensor) -> None:
        """Add a further look of an optimizer at the same batch."""
        self._marks.append(not_finite(logits.detach()) + not_finite(loss.detach()))

    def _keep_scale(self) -> None:
        # A skipped step lowers the scale. To ask the scaler itself waits for the device.
        assert self._net.scaler_ is not None
        self._scales.append(self._net.scaler_.scale(self._one))  # type: ignore[arg-type]

    def _look(self) -> None:
        logits = torch.cat(self._logits)
        self._logits.clear()
        self._marks.append(not_finite(logits))
        if self._is_last:
            if self._is_predicted is None:
                self._is_predicted = logits.new_zeros(logits.shape[1], dtype=torch.bool)
            self._is_predicted.index_fill_(0, logits.argmax(1), True)

    def read(self, losses: Sequence[Tensor]) -> list[float]:
        """Return the losses, and find numbers that are not finite by the same transfer."""
        if self._logits:
            self._look()
        net, weights = self._net, self._weights.present()
        state = dict(_optimizer_state(net.optimizer_)) if self._is_last else {}
        groups = losses, self._marks, self._scales, _sums(weights.values()), _sums(state.values())
        values = iter(read_losses([number for group in groups for number in group]))
        losses_read, marks, scales, of_weights, of_state = (
            [next(values) for _ in group] for group in groups
        )
        if not all(map(math.isfinite, marks)):
            net.divergence_ = "logits of the network are not finite"
        for tensors, sums in ((weights, of_weights), (state, of_state)):
            if not net.divergence_ and not all(map(math.isfinite, sums)):
                net.divergence_ = _name_not_finite(tensors)
        if self._is_last:
            sums_by_name = dict(zip(weights, of_weights, strict=True))
            net.stands_still_ = self._weights.are_unchanged(sums_by_name)
        if scales:
            self._record_skipped(scales)
        return losses_read

    def _record_skipped(self, scales: Sequence[float]) -> None:
        # The scale of gradients that are never finite ends at 0.
        n_skipped = sum(
            after < before or after == 0 for before, after in itertools.pairwise(scales)
        )
        self._net.history.record("skipped_step_count", n_skipped)
        if scales[-1] < _LEAST_SCALE and not self._net.divergence_:
            self._net.divergence_ = "the gradients are not finite in float16 at any scale"

    def record_predictions(self) -> None:
        """Record how many classes the network predicted for the rows of all processes."""
        if self._is_predicted is None:
            return
        n_classes = len(self._is_predicted)
        message = torch.cat([self._is_predicted.long(), *self._moments])
        processes, history = self._net.processes_, self._net.history
        if processes.sum_over_parts is not None:
            message = processes.sum_over_parts(message)
        number, total, squares = message[n_classes:].view(-1, 3).unbind(1)
        # Numbers without variance are equal.
        n_constant = (number * squares == total * total).count_nonzero()
        n_predicted = message[:n_classes].count_nonzero()
        counts = torch.stack((n_predicted, n_constant)).tolist()
        history.record("predicted_class_count", counts[0])
        history.record("constant_batch_count", counts[1])


class WatchedSteps(FirstStepAccumulator):  # type: ignore[misc]
    """The first look of an optimizer at a batch is the step. It may look again, as LBFGS does."""

    def __init__(self, watch: EpochWatch) -> None:
        super().__init__()
        self._watch = watch

    def store_step(self, step: dict[str, Tensor]) -> None:
        """Keep the first step, and watch the others."""
        if self.step is not None:
            self._watch.add_trial(step["y_pred"], step["loss"])
        super().store_step(step)


def _optimizer_state(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for i, state in enumerate(optimizer.state.values()):
        for name, value in state.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                yield f"{name} of the optimizer ({i})", value


def _name_not_finite(tensors: dict[str, Tensor]) -> str:
    """Name the tensors that hold a number that is not finite, or return no text."""
    names = [name for name, tensor in tensors.items() if not tensor.detach().isfinite().all()]
    if not names:  # a sum has overflowed, and nothing else
        return ""
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{others} of the network hold NaN or infinity"


def broken_weights(module: nn.Module) -> str:
    """Say which weights of a network are not finite, or return no text."""
    tensors: dict[str, Tensor] = dict(module.named_parameters())
    # A mask may hold infinities.
    tensors.update((name, x) for name, x in module.named_buffers() if x.isnan().any())
    return _name_not_finite(tensors)


def diverged(net: DivergingNet, cause: str, remedy: str = "") -> DivergenceError:
    """Return the error about a training, with the advice that suits it."""
    low = {torch.float16: "'bfloat16' or 'float32'", torch.bfloat16: "'float32'"}
    dtype = low.get(net.autocast) if net.autocast is not None else None
    if dtype is None and net.module_.dtype != torch.float64:
        dtype = "'float64'"
    # Standardised pixels are small already.
    scale = ", scale X down (standardize=True)" if net.module_.mean is None else ""
    remedy = remedy or (
        f"Lower lr, clip the gradients (skorch's GradientNormClipping among the callbacks){scale}"
    )
    if cause.endswith("in the first batch, before any step"):
        remedy = f"lr is not the cause. Look at the loss{scale}"
    remedy += f", or set dtype to {dtype}." if dtype else ", or look at the network."
    epoch = net.epochs_before_ + len(net.history)
    return DivergenceError(cause, epoch, net.criterion_.name, net.lr, remedy, net.history)


def find_loss(net: DivergingNet) -> str:
    """Say which training loss of the last epoch is not finite, or return no text."""
    losses = [batch.get("train_loss", 0.0) for batch in net.history[-1]["batches"]]
    bad = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
    if bad is None:
        return ""
    is_first = bad == 0 and len(net.history) - 1 == net.epochs_.start
    place = "the first batch, before any step" if is_first else f"batch {bad + 1}"
    return f"the training loss was {losses[bad]} in {place}"


def check_after_stop(net: DivergingNet) -> None:
    """Raise the error if a callback has stopped an epoch in which a number was not finite."""
    cause = (len(net.history) and find_loss(net)) or broken_weights(net.module_)
    if cause:
        raise diverged(net, cause)


class StopAtDivergence(Callback):  # type: ignore[misc]
    """Ends the training with an error after an epoch in which a number stopped being finite.

    It comes after the records of the epoch, so that the history is whole, and before callbacks of
    the user, such as early stopping, which NaN would mislead.
    """

    def on_epoch_end(self, net: DivergingNet, **kwargs: object) -> None:
        """Raise the error."""
        if net.divergence_:
            raise diverged(net, net.divergence_)
