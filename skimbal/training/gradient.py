"""The gradient of a batch, whole or in micro-batches."""

import functools
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from skimbal.augmentation import Mixup
from skimbal.generators import generator_states, restore
from skimbal.losses import BatchLoss
from skimbal.training.dataset import Batch
from skimbal.training.devices import device_type
from skimbal.training.forward import Net, augmented
from skimbal.training.memory import Attempt, Place, note_place, repeat_with_fewer_rows
from skimbal.training.processes import Processes

__all__ = [
    "TrainableNet",
    "carry_scale",
    "compute_gradient",
    "make_scaler",
    "no_logits",
    "share_of_loss",
    "step_optimizer",
]


class TrainableNet(Net, Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that compute a gradient."""

    criterion_: BatchLoss
    optimizer_: torch.optim.Optimizer
    scaler_: torch.amp.GradScaler | None
    processes_: Processes
    mixing_: tuple[Mixup, ...]
    micro_batch_size: int | None
    halves_micro_batches: bool
    blueprint_: Any
    max_epochs: int
    classes: Any
    history: Any
    epochs_before_: int
    progress_: float

    def get_all_learnable_params(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Yield the names and parameters that the optimizer changes."""


def compute_gradient(net: TrainableNet, batch: Batch) -> dict[str, Tensor]:
    """Compute the gradient of a batch, in parts if it has more rows than a micro-batch.

    Returns the loss and the logits of the rows of this process. Of several processes, each has its
    rows of the images and of the weights, and the labels of all rows.
    """
    n_rows = len(batch.labels)
    rows, own = net.processes_.own_rows(n_rows), batch
    if rows != slice(None):
        own = Batch.of(batch.images, batch.labels[rows], batch.weight)
    try:
        if net.halves_micro_batches:
            compute = functools.partial(_compute, net, own, n_rows)
            loss, logits = repeat_with_fewer_rows(net, len(own.labels), compute)
        else:
            loss, logits = _compute(net, own, n_rows, Attempt())
    except (RuntimeError, MemoryError) as error:
        note_place(error, Place.STEP)
        raise
    parameters = (p for _, p in net.get_all_learnable_params() if p.requires_grad)
    loss = net.processes_.average_gradients(parameters, loss)
    if net.scaler_ is not None:
        # The gradients come back to their size before a callback clips them.
        net.scaler_.unscale_(net.optimizer_)
    return {"loss": loss, "y_pred": logits}


def _compute(net: TrainableNet, own: Batch, n_rows: int, attempt: Attempt) -> tuple[Tensor, Tensor]:
    """Compute the gradient by the rows of this process, and return the loss and the logits.

    By their number of rows processes may take different paths here. Each path sends the same
    messages: one from within a loss of sets, which is called once. The gradients come later.
    """
    n_own = len(own.labels)
    if not n_own:
        return _without_rows(net, own, n_rows, attempt)
    if net.mixing_:
        own = _mixed(net, net.mixing_[0], own)
    at_once = n_own if net.micro_batch_size is None else net.micro_batch_size
    if n_own > at_once or attempt.asks:
        adds_up = net.criterion_.adds_up(weighted=own.weight is not None)
        in_parts = _in_one_pass if adds_up else _in_two_passes
        found = in_parts(net, own, own.split(-(-n_own // at_once)), n_rows, attempt)
        attempt.meet()
        return found
    logits = _infer(net, own)
    loss = share_of_loss(net, logits, own.labels, own.weight, n_rows, training=True)
    _back_propagate(net, loss)
    return loss, logits


def _without_rows(
    net: TrainableNet, own: Batch, n_rows: int, attempt: Attempt
) -> tuple[Tensor, Tensor]:
    """Take part in the messages of the processes that have rows of a batch."""
    logits = no_logits(net)
    if not net.criterion_.adds_up(weighted=own.weight is not None):
        attempt.meet()
    loss = share_of_loss(net, logits, own.labels, own.weight, n_rows, training=True)
    _back_propagate(net, loss)
    attempt.meet()
    return loss, logits


def share_of_loss(
    net: TrainableNet,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    n_rows: int,
    training: bool,
) -> Tensor:
    """Compute the share of some rows in the loss of a batch of ``n_rows``, often all of them.

    A mixed image has two labels, and so two weights.
    """
    if labels.ndim == 2:
        # Two rows of the same logits. Every term of a loss is a function of sums over rows, so
        # these are the loss of each label by its weight, and the scores of soft labels.
        logits, labels = logits.repeat_interleave(2, 0), labels.flatten()
        weight = None if weight is None else weight.flatten()
    n_epochs = net.epochs_before_ + len(net.history) - 1 + net.progress_
    return net.criterion_(
        logits,
        labels.to(logits.device),
        None if weight is None else weight.to(logits),
        # Weights have mean 1 over the training rows: a batch of light rows counts for less.
        normalizer=n_rows,
        ce_share=net.criterion_.ce_share(n_epochs, net.max_epochs) if training else 0.0,
        defers=training and n_epochs < net.criterion_.epochs_before_weights(net.max_epochs),
        sum_over_parts=net.processes_.sum_over_parts if training else None,
    )


def no_logits(net: TrainableNet) -> Tensor:
    """Return the logits of no rows, for a process that has none: not every network can."""
    dtype = torch.promote_types(net.module_.dtype, torch.float32)
    shape = (0, len(net.classes))
    return torch.zeros(shape, dtype=dtype, device=net.device, requires_grad=True)


def make_scaler(net: TrainableNet) -> torch.amp.GradScaler | None:
    """Return a scaler that keeps small gradients of float16 from becoming zero, if needed.

    It is at the beginning of a step, and has the scale of the scaler that the net has.
    """
    if net.autocast is not torch.float16:
        return None
    scaler = torch.amp.GradScaler(device_type(net.device))
    if net.scaler_ is not None:
        # Not the old one, which an interrupt may have left in the middle of a step.
        scaler.load_state_dict(net.scaler_.state_dict())
    return scaler


def carry_scale(previous: TrainableNet, net: TrainableNet) -> None:
    """Give a net the scale of an earlier net, and the steps since the scale changed."""
    if net.scaler_ is not None and previous.scaler_ is not None:
        net.scaler_.load_state_dict(previous.scaler_.state_dict())


def step_optimizer(net: TrainableNet) -> None:
    """Update the weights, unless a scaled gradient has overflowed."""
    if net.scaler_ is None:
        net.optimizer_.step()
    else:
        net.scaler_.step(net.optimizer_)
        net.scaler_.update()


def _in_one_pass(
    net: TrainableNet, batch: Batch, parts: list[Batch], n_rows: int, attempt: Attempt
) -> tuple[Tensor, Tensor]:
    """Compute the gradient part by part, and add it up."""
    losses, logits = [], []
    for part in parts:
        y_pred = _infer(net, part)
        loss = share_of_loss(net, y_pred, part.labels, part.weight, n_rows, training=True)
        _back_propagate(net, loss)
        losses.append(loss.detach())
        logits.append(y_pred.detach())
    return torch.stack(losses).sum(), torch.cat(logits)


def _in_two_passes(
    net: TrainableNet, batch: Batch, parts: list[Batch], n_rows: int, attempt: Attempt
) -> tuple[Tensor, Tensor]:
    """Compute all logits, the gradient by them, and then carry it back part by part.

    The loss is a function of the whole batch, so the average of the losses of the parts would be
    another loss. The graph of the first part is kept. All other parts are computed again.
    """
    first, *others = parts
    y_first = _infer(net, first)
    kept = {name: buffer.clone() for name, buffer in net.module_.named_buffers()}
    states, logits = [], [y_first.detach()]
    with torch.no_grad():
        for part in others:
            states.append(generator_states(net.device))
            logits.append(_infer(net, part))
        # Running statistics must see each part once. (Through data, because autograd would refuse
        # the graph of the first part if a tensor of it had changed.)
        for name, buffer in net.module_.named_buffers():
            buffer.data.copy_(kept[name])
    y_pred = torch.cat(logits).requires_grad_()
    with attempt.exchanging():
        loss = share_of_loss(net, y_pred, batch.labels, batch.weight, n_rows, training=True)
        _back_propagate(net, loss)
    assert y_pred.grad is not None
    gradient, *gradients = y_pred.grad.tensor_split(len(parts))
    torch.autograd.backward(y_first, gradient)
    for part, state, gradient in zip(others, states, gradients, strict=True):
        restore(state, net.device)
        torch.autograd.backward(_infer(net, part), gradient)
    return loss.detach(), y_pred.detach()


@torch.no_grad()
def _mixed(net: TrainableNet, mixing: Mixup, batch: Batch) -> Batch:
    """Change and mix the images. Each has two labels, and the weights of the labels."""
    images = augmented(net, batch.images)
    draw = mixing.draw(batch.labels)
    first = torch.arange(len(draw.partner), device=draw.partner.device)
    rows = torch.stack([first, draw.partner], 1)
    weight = torch.stack([draw.label_share, 1 - draw.label_share], 1)
    if batch.weight is not None:
        weight = batch.weight[rows.to(batch.weight.device)] * weight.to(batch.weight)
    labels = batch.labels[rows.to(batch.labels.device)]
    return Batch.of(mixing.change(images, draw), labels, weight)


def _infer(net: TrainableNet, batch: Batch) -> Tensor:
    """Compute logits. Mixed images have been changed before."""
    is_mixed = batch.labels.ndim == 2
    return net.infer(batch.images, augment=False) if is_mixed else net.infer(batch.images)


def _back_propagate(net: TrainableNet, loss: Tensor) -> None:
    """Add the gradient of a loss to the gradients, scaled where its numbers would be too small."""
    scaled: Any = loss if net.scaler_ is None else net.scaler_.scale(loss)
    scaled.backward()
