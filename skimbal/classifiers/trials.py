"""Trials of the network, the augmentation and the loss on the training rows, before training."""

import copy
import itertools
import math
from typing import Protocol

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from skimbal.augmentation import Mixup
from skimbal.classifiers.inputs import Rows
from skimbal.classifiers.parameters import (
    CNNClassifier,
    check_constraints,
    find_optimizer,
    is_auto,
)
from skimbal.classifiers.settings import Settings, find_alpha
from skimbal.exceptions import CollapseWarning, ParameterError, warn_caller
from skimbal.generators import GeneratorStates, generator_states, restore
from skimbal.losses import MixedLoss, ModuleLoss, log_prior
from skimbal.sampling import Strategy
from skimbal.training import (
    ImageDataset,
    TrainingNet,
    device_type,
    isolated_random_state,
    takes_several_gradients,
)
from skimbal.typing import is_integer
from skimbal.wording import plural

__all__ = [
    "PredictingClassifier",
    "check_deferral",
    "check_loss",
    "check_mixing",
    "check_processes",
    "correction_at_prediction",
    "corrects_by_default",
    "judge_training",
    "try_augmentation",
    "try_network",
    "warn_of_known_trouble",
]


class PredictingClassifier(CNNClassifier, Protocol):
    """A fitted classifier, with the attributes that its predictions depend on."""

    net_: TrainingNet
    _epochs_before: int
    _known_tau: float | None

    @property
    def class_prior_(self) -> np.ndarray:
        """Share of each class in the training rows."""

    @property
    def n_steps_(self) -> int:
        """Number of steps that the history covers."""


def _images_of(train: ImageDataset, n_rows: int) -> torch.Tensor:
    """Return the images of the first rows."""
    return train.batch(np.arange(min(n_rows, len(train)))).images


def try_network(
    estimator: CNNClassifier, settings: Settings, net: TrainingNet, train: Rows
) -> None:
    """Try the network on one row, so that a factory that does not fit fails at once."""
    try:
        logits = net.try_out(_images_of(train.data, 1))
    except Exception as error:
        error.add_note(
            f"module={settings.module!r} failed in a trial with one sample of shape "
            f"{train.data.sample_shape}."
        )
        raise
    n_classes = len(train.labels)
    if tuple(getattr(logits, "shape", ())) != (1, n_classes):
        is_tensor = isinstance(logits, torch.Tensor)
        got = f"shape {tuple(logits.shape)}" if is_tensor else f"{type(logits)}"
        raise ValueError(
            f"module must return logits of shape (n_samples, n_classes), here (1, {n_classes}) for "
            f"one sample; got {got}. A factory is called as f(in_channels, n_classes)."
        )
    if logits.isnan().any():
        raise ValueError(
            "the network must return numbers before any training; got NaN for the first training "
            f"sample. Either values of X are beyond the range of {net.module_.dtype}, or "
            f"module={settings.module!r} makes NaN of numbers. Scale X down, or change dtype or "
            "standardize."
        )
    if estimator.feature_layer is not None:
        net.count_features()


def try_augmentation(
    estimator: CNNClassifier, settings: Settings, net: TrainingNet, train: Rows
) -> None:
    """Try the augmentation on some rows, so that it fails at once if it fails."""
    images = _images_of(train.data, 8)
    shape = (len(images), images.shape[1], *(net.module_.crop_size or images.shape[2:]))
    states = generator_states(net.device)
    try:
        changed = net.augmented(images)
    except Exception as error:
        error.add_note(
            f"augment={settings.augment!r} failed in a trial with images of shape {shape}, in "
            f"{net.module_.dtype}. Put a transform that takes one image at a time into "
            "skimbal.augmentation.PerSample."
        )
        raise
    expected = shape, net.module_.dtype, device_type(net.device)
    found: object = type(changed)
    if isinstance(changed, torch.Tensor):
        found = tuple(changed.shape), changed.dtype, changed.device.type
    if found != expected:
        raise ValueError(
            "augment must keep the shape, dtype and device of a batch of images, in a trial "
            f"{expected}; got {found}. Put a transform that takes one image at a time into "
            "skimbal.augmentation.PerSample. To crop, set crop_size."
        )
    if not changed.isfinite().all():
        raise ValueError(
            "augment must make finite values of finite values; got NaN or infinite values from "
            f"{settings.augment!r} in a trial with the first training rows. Change it, or the "
            "range of X."
        )
    _try_again(estimator, settings, net, images, changed, states)


def _try_again(
    estimator: CNNClassifier,
    settings: Settings,
    net: TrainingNet,
    images: torch.Tensor,
    changed: torch.Tensor,
    states: GeneratorStates,
) -> None:
    """Refuse an augmentation that cannot repeat its draws where these must be repeated."""
    if estimator.micro_batch_size is not None:
        name, off = "micro_batch_size", "None"
    elif is_integer(estimator.n_tta) and estimator.n_tta > 1:
        name, off = "n_tta", "1"
    else:
        return
    restore(states, net.device)
    again = net.augmented(images)
    if (changed - again).abs().max() > 1e-3 * changed.abs().max():
        raise ValueError(
            "augment must make the same images from the same state of the generators of torch, "
            f"numpy and python with {name}={getattr(estimator, name)!r}; got other images from "
            f"{settings.augment!r}. Let it draw from these generators, or set {name}={off}."
        )


def check_loss(
    estimator: CNNClassifier,
    settings: Settings,
    loss: MixedLoss | ModuleLoss,
    train: Rows,
    device: str,
) -> None:
    """Refuse a loss that cannot take the weights or the micro-batches."""
    if train.weight is not None and not loss.takes_weights:
        raise ValueError(
            "loss must take weights if sample_weight or class_weight is given; got "
            f"{loss.name}. Let its forward take sample_weight, of shape (n_samples,)."
        )
    if loss.statistics == "moving" and takes_several_gradients(find_optimizer(estimator.optimizer)):
        raise ParameterError(
            "statistics",
            "'batch' with this optimizer",
            loss.statistics,
            "Moving statistics count a batch once, but the optimizer computes the loss of a batch "
            "several times in a step. Use LossMix(..., statistics='batch') or another optimizer.",
        )
    if not loss.factors:
        _try_loss(estimator, settings, loss, train, device)


def check_deferral(loss: MixedLoss | ModuleLoss, n_epochs: int) -> None:
    """Refuse weights of classes that would begin after the last epoch."""
    n_before = loss.epochs_before_weights(n_epochs)
    if n_before >= n_epochs > 0:
        raise ParameterError(
            "drw_start",
            f"less than the {plural(n_epochs, 'epoch')} of the training",
            n_before,
            "The classes would never have weights. Give a share of max_epochs, such as 0.8.",
        )


def check_mixing(mix: Mixup, loss: MixedLoss | ModuleLoss) -> None:
    """Refuse a loss that cannot take two labels of an image, each by its weight."""
    if not loss.factors or not loss.takes_weights:
        raise ParameterError(
            "loss",
            f"a name, an expression or a LossMix with augment={mix}",
            loss.name,
            "A mixed image has two labels, and a module does not say how it takes them. Use a loss "
            "of skimbal, or an augment that mixes no images.",
        )


def _try_loss(
    estimator: CNNClassifier,
    settings: Settings,
    loss: MixedLoss | ModuleLoss,
    train: Rows,
    device: str,
) -> None:
    """Try a loss module on logits, alone: in micro-batches it does not see the network."""
    loss = copy.deepcopy(loss).to(device, torch.float32)
    y = torch.from_numpy(train.data.y[: settings.batch_size]).to(device)
    logits = torch.zeros(len(y), len(train.labels), requires_grad=True, device=device)
    weights = {}
    if train.weight is not None:
        weights["sample_weight"] = torch.ones(len(y), device=device)
    if estimator.micro_batch_size is None:
        with isolated_random_state(0, device):
            try:
                loss(logits, y, **weights)
            except Exception as error:
                raise ValueError(
                    "loss must be a module that maps (logits, target), here of shapes "
                    f"{tuple(logits.shape)} and {tuple(y.shape)}, to a scalar; got {loss.name}, "
                    f"which failed in a trial ({error})."
                ) from error
        return
    expected = (
        "loss must be differentiable by the logits alone with "
        f"micro_batch_size={estimator.micro_batch_size!r}; got {loss.name}, which "
    )
    remedy = "Let its forward compute a scalar of (logits, target), or set micro_batch_size=None."
    with isolated_random_state(0, device):
        try:
            value = loss(logits, y, **weights)
        except Exception as error:
            raise ValueError(f"{expected}failed in a trial ({error}). {remedy}") from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
        got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
        raise ValueError(f"{expected}gave {got} without a graph that leads to them. {remedy}")
    (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
    if gradient is None:
        raise ValueError(f"{expected}does not depend on them. {remedy}")


def check_processes(
    settings: Settings,
    loss: MixedLoss | ModuleLoss,
    strategy: Strategy,
    train: Rows,
    n_processes: int,
) -> None:
    """Refuse a fit that would not be one training if several processes share the batches."""
    if not loss.factors:
        if not loss.adds_up(weighted=False):
            raise ValueError(
                "loss must say that it is a mean over the rows of a batch with distributed=True, "
                f"which splits the rows; got {loss.name}. If it is a mean, give it an attribute "
                "mean_over_rows = True. Otherwise use a loss of skimbal."
            )
        if train.weight is not None:
            raise ValueError(
                "loss must say which sum divides the weights with distributed=True; got "
                f"{loss.name}, which cannot. Leave sample_weight and class_weight out, or use a "
                "loss of skimbal."
            )
    counts = np.bincount(train.data.y)
    rarest = counts[counts > 0].min()
    if strategy.equal_portions and n_processes > rarest:
        raise ValueError(
            f"the rarest class must have a training row for each of the {n_processes} processes "
            f"with sampler={settings.sampler!r}; got {rarest}, of which the sampler would "
            "make copies. Launch fewer processes, or set sampler='uniform'."
        )


def warn_of_known_trouble(
    estimator: CNNClassifier,
    settings: Settings,
    loss: MixedLoss | ModuleLoss,
    strategy: Strategy,
    n_classes: int,
) -> None:
    """Warn of a loss that may collapse, of batches without some class, of two corrections."""
    if loss.may_collapse and not loss.ce_share(0, settings.epochs):
        warn_caller(
            f"loss={estimator.loss!r} alone is known to collapse to one class: constant "
            "predictions are a plateau of it, above all with small batches (Scholz et al. 2024, "
            "Table 6). "
            f"A mix avoids that, loss='ce+{next(iter(loss.factors))}', or a warm-up with "
            "cross-entropy, LossMix(..., warmup_epochs=0.5).",
            CollapseWarning,
        )
    needs_every_class = loss.suffers_from_small_batches or strategy.needs_every_class
    if settings.batch_size < n_classes and needs_every_class:
        warn_caller(
            f"batch_size={settings.batch_size} is less than the {n_classes} classes, so no batch "
            "can hold every class, but this loss or sampler needs every class. Use a larger "
            "batch_size (with micro_batch_size if memory is short), or "
            "LossMix(..., statistics='moving')."
        )
    if corrects_by_default(estimator, settings):
        _warn_of_two_corrections(estimator, loss)


def corrects_by_default(estimator: CNNClassifier, settings: Settings) -> bool:
    """Tell whether the sampler corrects for class frequency, and the user did not choose it."""
    return is_auto(estimator.sampler) and settings.sampler == "balanced"


def _warn_of_two_corrections(estimator: CNNClassifier, loss: MixedLoss | ModuleLoss) -> None:
    tau, alpha = estimator.logit_adjustment, find_alpha(loss)
    found = []
    if tau:
        found.append(f"logit_adjustment={tau} corrects for class frequency once more")
    if alpha is not None:
        found.append(f"alpha={alpha:g} of the loss {loss.name} may weigh the classes, too")
    if found:
        warn_caller(
            f"sampler='auto' is 'balanced' for these images, and {', and '.join(found)}. Set "
            "sampler='uniform' to correct once, or sampler='balanced' to do both."
        )


def judge_training(net: TrainingNet, is_whole: bool) -> None:
    """Warn of a training that has learned nothing.

    A call of ``partial_fit`` is a small part of a training, of which only the last case is told.
    """
    if not len(net.history):
        return
    found = [_skipped_steps(net, is_whole)]
    if is_whole and not any(found):
        found = [_one_class(net), _rising_loss(net), _no_change(net), _no_weights(net)]
    for text in filter(None, found):
        warn_caller(text, ConvergenceWarning)


def _skipped_steps(net: TrainingNet, is_whole: bool) -> str:
    epochs = net.history if is_whole else net.history[-1:]
    n_steps = sum(epoch.get("train_batch_count", 0) for epoch in epochs)
    if sum(epoch.get("skipped_step_count", 0) for epoch in epochs) < max(1, n_steps):
        return ""
    remedy = "Train for more steps (max_epochs), as each skip halves the scale"
    return (
        f"The network has learned nothing: all {n_steps} steps were skipped, as their scaled "
        "gradients overflowed float16. "
        f"{remedy if is_whole else 'The scale is lower in the next call'}, or set "
        "dtype='bfloat16' or 'float32'."
    )


def _one_class(net: TrainingNet) -> str:
    """Tell of a network that predicted one class for all rows of the last whole epoch."""
    # A callback may have ended the training before, in or after the last epoch.
    whole = [epoch for epoch in net.history if "predicted_class_count" in epoch]
    if not whole:
        return ""
    last = whole[-1]
    one_by_one = last.get("one_class_batch_count", math.inf)
    is_constant = last["constant_batch_count"] == last["train_batch_count"] > one_by_one
    is_one = last["predicted_class_count"] == 1
    if not (is_one or is_constant):
        return ""
    rows = "all training rows" if is_one else "all rows of each batch"
    is_balanced = net.get_params_for("iterator_train").get("sampler") == "balanced"
    balance = "" if is_balanced else ", balance the classes (sampler='balanced')"
    return (
        f"The network predicted one class for {rows} of the last epoch, so it has "
        "learned nothing, or no more than the class proportions. Train for more steps "
        f"(max_epochs){balance}, or look at train_loss in history_: if it did not fall, change lr, "
        f"which is {net.lr:g}."
    )


def _rising_loss(net: TrainingNet) -> str:
    """Tell of a training loss that rose in every epoch, or far above its first value."""
    epochs = [(net.epochs_before_ + i, net.max_epochs) for i in range(len(net.history))]
    shares = [net.criterion_.ce_share(*epoch) for epoch in epochs]
    # A warm-up minimises another loss, and so does a training whose classes have no weights yet.
    # Their values do not compare.
    n_before = net.criterion_.epochs_before_weights(net.max_epochs)
    defers = [n_epochs < n_before for n_epochs, _ in epochs]
    losses = [
        epoch["train_loss"]
        for epoch, share, deferred in zip(net.history, shares, defers, strict=True)
        if not share and deferred == defers[-1] and "train_loss" in epoch
    ]
    rises = [after > before for before, after in itertools.pairwise(losses)]
    is_clear = len(rises) > 1 and losses[-1] - losses[0] > 0.1 * abs(losses[0])
    remedy = "The network has learned nothing. Lower lr, or clip the gradients."
    if all(rises) and is_clear:
        return (
            f"The training loss rose in every epoch, from {losses[0]:.4g} to {losses[-1]:.4g}. "
            f"{remedy}"
        )
    batches = net.history[0]["batches"]
    first = batches[0].get("train_loss", 0.0) if batches and not any(shares) else 0.0
    if losses and losses[-1] > 100 * first > 0:
        return (
            f"The training loss of the last epoch, {losses[-1]:.4g}, is far above the loss before "
            f"the training, {first:.4g}. {remedy}"
        )
    return ""


def _no_change(net: TrainingNet) -> str:
    """Tell of a training that has changed no weight."""
    if not net.stands_still_:
        return ""
    return (
        "The training has changed no weight of the network, so it has learned nothing. Raise lr, "
        "or look at train_loss in history_: a loss of 0 has no gradient."
    )


def _no_weights(net: TrainingNet) -> str:
    """Tell of a training that ended before its classes had weights."""
    n_epochs = net.epochs_before_ + len(net.history)
    n_before = net.criterion_.epochs_before_weights(net.max_epochs)
    if n_epochs >= n_before:
        return ""
    return (
        f"The training ended after {plural(n_epochs, 'epoch')}, before the loss "
        f"{net.criterion_.name} weighs the classes, which begins after {n_before:g} epochs "
        "(drw_start). Rare classes were not weighted. Lower drw_start, or let the training go on."
    )


def correction_at_prediction(estimator: PredictingClassifier) -> np.ndarray | None:
    """Return the correction for class frequency, which is subtracted from the logits.

    Warns of predictions by a network that was not trained, and of a correction that was set after a
    fit whose default sampler corrects.
    """
    check_constraints(estimator, ["logit_adjustment"])
    tau = float(estimator.logit_adjustment)
    was_trained = estimator._epochs_before or estimator.n_steps_ or estimator.net_.head_trainings_
    if not was_trained:
        warn_caller(
            "The network is not trained, so it predicts by chance. Use transform, or fit with "
            "max_epochs of at least 1.",
            ConvergenceWarning,
        )
    if not tau:
        return None
    # sampler="balanced" says that both corrections are meant.
    if estimator._known_tau not in (None, tau) and estimator.sampler != "balanced":
        warn_caller(
            "sampler='auto' was 'balanced' in the fit, and logit_adjustment="
            f"{estimator.logit_adjustment} corrects for class frequency once more. Fit anew with "
            "sampler='uniform' to correct once, or set sampler='balanced' to do both.",
        )
    return tau * log_prior(estimator.class_prior_)
