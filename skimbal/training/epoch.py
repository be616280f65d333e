"""An epoch of training and an epoch of validation."""

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Protocol, TypeAlias

import torch
from skorch.callbacks import Callback, EpochScoring, GradientNormClipping, LRScheduler
from skorch.dataset import unpack_data
from skorch.utils import TeeGenerator
from torch import Tensor

from skimbal.exceptions import ParameterError
from skimbal.training.batches import BlockIterator, TrainIterator, closed_at_end
from skimbal.training.callbacks import may_stop
from skimbal.training.dataset import Batch, BatchImages
from skimbal.training.devices import is_cuda
from skimbal.training.divergence import (
    DivergingNet,
    EpochWatch,
    find_loss,
    not_finite,
    read_losses,
)
from skimbal.training.fine_tuning import (
    check_something_trains,
    gradients_into_group_norms,
    unfreeze_when_due,
)
from skimbal.training.gradient import compute_gradient, no_logits, step_optimizer
from skimbal.training.memory import compute_in_parts
from skimbal.training.optimizers import takes_one_gradient
from skimbal.training.orphans import end_if_orphaned
from skimbal.training.schedules import SCHEDULES
from skimbal.training.sklearn_callbacks import Tasks
from skimbal.training.surroundings import uses_tf32

__all__ = [
    "EpochNet",
    "Pair",
    "follows_batches",
    "only_epochs_matter",
    "start_from_rates",
    "train",
    "validate",
    "validation_step",
]

#: A batch as skorch and iterators of users have it: images, or a dict with weights, and labels.
Pair: TypeAlias = tuple[BatchImages, Tensor]
#: The loss and the logits of a batch.
Step: TypeAlias = dict[str, Tensor]
#: The loop of skorch over the batches of an epoch, with the step on each batch.
Loop: TypeAlias = Callable[[Iterable[Pair], Callable[[Pair], Step]], None]


class EpochNet(DivergingNet, Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that run an epoch."""

    callbacks_: list[tuple[str, Callback]]
    lr_schedule: str | None
    batch_size: int
    epochs_: range
    tasks_: Tasks | None
    iterators_: dict[str, Any]

    def notify(self, method_name: str, **cb_kwargs: object) -> None:
        """Call the callbacks."""

    def set_training(self, training: bool) -> None:
        """Set the network to training or evaluation mode."""

    def has_own_train_step(self) -> bool:
        """Tell whether a subclass or an instance replaces the step on a batch."""

    def get_loss(
        self,
        y_pred: Tensor,
        y_true: Tensor,
        X: BatchImages | None = None,
        training: bool = False,
    ) -> Tensor:
        """Compute the loss of a batch."""


def train(
    net: EpochNet,
    iterator: Iterable[Pair],
    prefix: str,
    step: Callable[[Pair], Step],
    loop: Loop,
) -> None:
    """Train for an epoch, in the loop of skorch only where single batches matter to somebody."""
    unfreeze_when_due(net)
    check_something_trains(net)
    _check_mixing(net)
    is_last = _may_be_last(net)
    watch = net.watch_ = EpochWatch(net, is_last)

    def step_and_look(pair: Pair) -> Step:
        found = step(pair)
        watch.add(found["y_pred"])
        return found

    followed = _keep_progress(net, iterator)
    if net.tasks_ is not None:
        followed = net.tasks_.batches(net, followed)
    try:
        with (
            gradients_into_group_norms(net.module_.network),
            closed_at_end(followed) as batches,
        ):
            if only_epochs_matter(net):
                _train_lean(net, batches, prefix, watch)
            else:
                loop(batches, step_and_look)
                watch.read([])
    finally:
        net.watch_ = None
        # The loops record the number at the end of an epoch, which a callback may not wait for.
        steps = [row for row in net.history[-1]["batches"] if f"{prefix}_batch_size" in row]
        net.history.record(f"{prefix}_batch_count", len(steps))
        if net.halves_micro_batches:
            net.history.record("micro_batch_size", net.micro_batch_size or net.batch_size)
        if isinstance(iterator, TrainIterator):
            net.history.record("incomplete_batch_count", iterator.n_incomplete)
            net.history.record("one_class_batch_count", iterator.n_of_one_class)
    if is_last:
        watch.record_predictions()
    if is_cuda(net.device):
        net.history.record("tf32", uses_tf32())
    net.processes_.share_buffers(net.module_)
    net.divergence_ = find_loss(net) or net.divergence_
    if net.processes_.all_reduce_max(int(net.divergence_ != "")) and not net.divergence_:
        net.divergence_ = "logits in another process are not finite"


def validate(
    net: EpochNet,
    iterator: Iterable[Pair],
    prefix: str,
    step: Callable[[Pair], Step],
    loop: Loop,
) -> None:
    """Compute logits block by block, and the loss of all validation rows at once."""
    logits, labels, weights = [], [], []

    def step_and_keep(pair: Pair) -> Step:
        found = step(pair)
        batch = Batch(unpack_data(pair))
        logits.append(found["y_pred"])
        labels.append(batch.labels)
        if batch.weight is not None:
            weights.append(batch.weight)
        return found

    _keep_rows(net, iterator)
    with closed_at_end(iterator) as blocks:
        if any(follows_batches(callback) for _, callback in net.callbacks_):
            loop(blocks, step_and_keep)
        else:
            _validate_lean(net, blocks, prefix, step_and_keep)
    X = {"sample_weight": torch.cat(weights)} if weights else None
    y_pred = torch.cat(logits)
    with torch.no_grad():
        found = net.get_loss(y_pred, torch.cat(labels), X=X)
    loss, trace = torch.stack([found.reshape(()), not_finite(y_pred)]).tolist()
    if not math.isfinite(loss + trace) and not net.divergence_:
        what = "logits of validation rows are not finite"
        net.divergence_ = what if math.isnan(trace) else f"the validation loss was {loss}"
    # skorch averages over blocks, which is another loss where it is a function of the set.
    for block in net.history[-1]["batches"]:
        if f"{prefix}_batch_size" in block:
            block[f"{prefix}_loss"] = loss


def _keep_rows(net: EpochNet, iterator: Iterable[Pair]) -> None:
    """Keep the validation rows on the device where the training rows are."""
    train = net.iterators_.get("iterator_train")
    if isinstance(iterator, BlockIterator) and isinstance(train, TrainIterator) and train.resident:
        iterator.keep(train.memory_share)


def _validate_lean(
    net: EpochNet, blocks: Iterable[Pair], prefix: str, step: Callable[[Pair], Step]
) -> None:
    """Validate as skorch does, but read no loss of a block, which nobody asks for."""
    n_blocks = 0
    for pair in blocks:
        n_blocks += 1
        net.notify("on_batch_begin", batch=pair, training=False)
        found = step(pair)
        net.history.record_batch(f"{prefix}_batch_size", len(pair[1]))
        net.notify("on_batch_end", batch=pair, training=False, **found)
    net.history.record(f"{prefix}_batch_count", n_blocks)


def validation_step(net: EpochNet, batch: Batch) -> Step:
    """Compute logits and loss of a block, of which each process computes its part."""
    n_rows = len(batch.labels)
    images = batch.images[net.processes_.own_rows(n_rows)]
    net.set_training(False)
    with torch.no_grad():
        part = _infer_block(net, images) if len(images) else no_logits(net)
        y_pred = net.processes_.gather_rows(part, n_rows)
        return {"loss": net.get_loss(y_pred, batch.labels, X=batch[0]), "y_pred": y_pred}


def _infer_block(net: EpochNet, images: Tensor) -> Tensor:
    """Compute the logits of a block, in parts if memory does not suffice for the whole."""
    logits, _ = compute_in_parts(net.infer, images, len(images), net.device)
    return logits


def follows_batches(callback: Callback) -> bool:
    """Tell whether a callback has something to do at single batches of training."""
    if isinstance(callback, GradientNormClipping):
        unused = [GradientNormClipping.on_grad_computed]  # the lean loop calls it
    elif isinstance(callback, LRScheduler) and callback.step_every != "batch":
        unused = [LRScheduler.on_batch_end]
    elif isinstance(callback, EpochScoring) and not (callback.use_caching and callback.on_train):
        unused = [EpochScoring.on_batch_end]
    else:
        unused = []
    return any(
        name in vars(callback)
        or getattr(type(callback), name) not in (getattr(Callback, name), *unused)
        for name in ("on_batch_begin", "on_batch_end", "on_grad_computed")
    )


def start_from_rates(net: EpochNet, rates: list[float]) -> None:
    """Let training begin at learning rates, of which a loaded checkpoint has the last values.

    A scheduler among the callbacks sets the rates itself.
    """
    if any(isinstance(callback, LRScheduler) for _, callback in net.callbacks_):
        return
    for group, rate in zip(net.optimizer_.param_groups, rates, strict=True):
        group["lr"] = rate
        group.pop("initial_lr", None)


def _check_mixing(net: EpochNet) -> None:
    """Refuse a mix of images that a step of the user would leave out."""
    if net.mixing_ and net.has_own_train_step():
        raise ParameterError(
            "augment",
            "an augmentation that does not mix images where train_step is replaced",
            net.mixing_[0],
            "The step of the package mixes images and labels. Mix them in your step.",
        )


def _keep_progress(net: EpochNet, iterator: Iterable[Pair]) -> Iterator[Pair]:
    """Yield the batches of an epoch, keep account of how far it is, and set the learning rate."""
    n_batches = len(iterator) if isinstance(iterator, Sized) else 0
    groups, rates, factor_at = net.optimizer_.param_groups, [], None
    this_epoch, n_epochs = len(net.history) - 1, len(net.epochs_)
    n_before = this_epoch - net.epochs_.start
    if net.lr_schedule is not None and this_epoch in net.epochs_:
        factor_at = SCHEDULES[net.lr_schedule]
        # Under the name that the schedulers of torch use, so that a checkpoint has it, too.
        rates = [(group, group.setdefault("initial_lr", group["lr"])) for group in groups]
    for i, batch in enumerate(iterator):
        end_if_orphaned()
        # Half, where the number of batches is not known.
        net.progress_ = progress = min(i / n_batches, 1.0) if n_batches else 0.5
        if factor_at is not None:
            factor = factor_at((n_before + progress) / n_epochs)
            for group, rate in rates:
                group["lr"] = rate * factor
        yield batch
    if rates:
        net.history.record("event_lr", groups[0]["lr"])


def _may_be_last(net: EpochNet) -> bool:
    """Tell whether training may end with this epoch. Other epochs are spared the look."""
    stops_early = any(may_stop(callback) for _, callback in net.callbacks_)
    stops_early = stops_early or (net.tasks_ is not None and net.tasks_.may_stop)
    return stops_early or len(net.history) == net.epochs_.stop


def only_epochs_matter(net: EpochNet) -> bool:
    """Tell whether nothing follows single batches, nor changes how they are trained on."""
    return (
        not net.has_own_train_step()
        and takes_one_gradient(type(net.optimizer_))
        and not any(follows_batches(callback) for _, callback in net.callbacks_)
    )


def _train_lean(net: EpochNet, batches: Iterable[Pair], prefix: str, watch: EpochWatch) -> None:
    """Train as skorch does, but prepare, record and read losses once an epoch, not once a batch.

    The losses stay on the device until the epoch has ended: to read one waits for all that has been
    asked of the device before.
    """
    net.set_training(True)
    groups = net.optimizer_.param_groups
    parameters = [parameter for group in groups for parameter in group["params"]]
    steps: list[tuple[Tensor, int]] = []  # in one list, as an interrupt may come between two
    read = read_losses
    clips = any(isinstance(callback, GradientNormClipping) for _, callback in net.callbacks_)
    try:
        for pair in batches:
            batch = Batch(unpack_data(pair))
            for parameter in parameters:
                parameter.grad = None
            step = compute_gradient(net, batch)
            if clips:
                named = TeeGenerator(net.get_all_learnable_params())
                net.notify("on_grad_computed", named_parameters=named, batch=pair, training=True)
            step_optimizer(net)
            steps.append((step["loss"].detach(), len(batch.labels)))
            watch.add(step["y_pred"])
        read = watch.read
    finally:  # an interrupt loses no batch of the history
        values = read([loss for loss, _ in steps])
        net.history[-1]["batches"] += [
            {f"{prefix}_loss": loss, f"{prefix}_batch_size": size}
            for loss, (_, size) in zip(values, steps, strict=True)
        ]
