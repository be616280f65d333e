"""The settings of a fit: the parameters, with a value by the data for each ``"auto"``."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from skimbal.augmentation import AugmentSpec, divide_steps, get_augmentation
from skimbal.classifiers.inputs import Rows
from skimbal.classifiers.parameters import CNNClassifier, find_optimizer, is_auto
from skimbal.losses import TERMS, MixedLoss, ModuleLoss
from skimbal.networks import ModuleSpec, NetworkSpec
from skimbal.sampling import SamplerSpec
from skimbal.training import (
    batches_in_epoch,
    default_rate,
    is_like_adam,
    takes_several_gradients,
)
from skimbal.typing import is_number
from skimbal.wording import plural

__all__ = ["BARE_ROWS", "FINE_TUNING", "IMAGES", "Defaults", "Settings", "find_alpha", "resolve"]


@dataclass(frozen=True)
class Defaults:
    """The values of ``"auto"``."""

    module: str
    sampler: str
    augment: str | None
    #: Rows in a batch, by the number of spatial axes.
    batch_size: dict[int, int]
    #: Epochs, or None for a budget of steps.
    epochs: int | None = None
    #: How often the budget draws as many rows as there are, and its least and most steps.
    n_visits: int = 30
    least_steps: int = 3000
    most_steps: int = 12000
    #: Learning rate of AdamW and its relatives.
    lr: float = 3e-3


IMAGES = Defaults("residual", "balanced", "light", {2: 32, 3: 16})
#: Images, for a network whose pretrained weights are trained.
FINE_TUNING = replace(IMAGES, n_visits=10, least_steps=300, most_steps=6000, lr=1e-3)
#: Rows without ``input_shape``: nothing is known of neighbouring pixels.
BARE_ROWS = Defaults("small", "uniform", None, {2: 64, 3: 64}, epochs=30)
#: Most numbers in a batch of images.
_NUMBERS_IN_BATCH = 2**25


@dataclass(frozen=True, eq=False)
class Settings:
    """The parameters of a fit that may be ``"auto"``, resolved."""

    module: ModuleSpec
    sampler: SamplerSpec
    augment: AugmentSpec
    standardize: bool
    lr: float
    batch_size: int
    epoch_length: int | str | None
    #: Epochs of a ``fit``, and the batches in one of them.
    epochs: int
    n_batches: int

    def __str__(self) -> str:
        """Return a line for the user."""
        # The repr of an estimator breaks long lines.
        module = re.sub(r"\n\s*", " ", repr(self.module))
        return (
            f"module={module}, sampler={self.sampler!r}, augment={self.augment!r}, "
            f"standardize={self.standardize}, lr={self.lr:g}, batch_size={self.batch_size}, "
            f"max_epochs={self.epochs} with {plural(self.n_batches, 'step')} each, "
            f"{plural(self.epochs * self.n_batches, 'step')} in all"
        )


def resolve(
    estimator: CNNClassifier,
    loss: MixedLoss | ModuleLoss,
    train: Rows,
    crop_size: tuple[int, ...] | None,
) -> Settings:
    """Choose a value for each parameter that is ``"auto"``, by the training rows."""
    spec = estimator.module if isinstance(estimator.module, NetworkSpec) else None
    defaults = IMAGES if train.are_images else BARE_ROWS
    if train.are_images and spec is not None and spec.fine_tunes:
        defaults = FINE_TUNING
    module = defaults.module if is_auto(estimator.module) else estimator.module
    sampler, augment = estimator.sampler, estimator.augment
    if is_auto(sampler):
        brings_batches = "iterator_train" in (estimator.net or {})
        corrects = _corrects(estimator, loss, len(train.labels))
        sampler = "uniform" if brings_batches or corrects else defaults.sampler
    if is_auto(augment):
        # Kept features of a frozen backbone, and the gradients of a step, are of the same images.
        freezes = spec is not None and spec.freezes_backbone
        is_fixed = freezes or takes_several_gradients(find_optimizer(estimator.optimizer))
        augment = None if is_fixed else defaults.augment
    batch_size = estimator.batch_size
    if isinstance(batch_size, str):
        batch_size = _batch_size(estimator, defaults, train, crop_size)
    epochs, epoch_length = estimator.max_epochs, estimator.epoch_length
    n_batches = batches_in_epoch(train.labels[train.data.y], batch_size, sampler, epoch_length)
    if isinstance(epochs, str) and defaults.epochs is not None:
        epochs = defaults.epochs
    elif isinstance(epochs, str):
        n_rows = len(train.data)
        most = max(defaults.most_steps, math.ceil(n_rows / batch_size))
        if epoch_length is None and n_batches > most:
            epoch_length = n_batches = most
        epochs = _epochs(defaults, n_rows, batch_size, n_batches)
    standardize = estimator.standardize
    if isinstance(standardize, str):
        standardize = not (spec and spec.normalizes_input)
    lr = _learning_rate(estimator, defaults)
    return Settings(
        module, sampler, augment, standardize, lr, batch_size, epoch_length, epochs, n_batches
    )


#: Attributes in which loss modules of torch, MONAI, kornia and others keep weights of classes.
_CLASS_WEIGHTS = ("weight", "weights", "class_weight", "class_weights", "pos_weight", "alpha")


def _corrects(estimator: CNNClassifier, loss: MixedLoss | ModuleLoss, n_classes: int) -> bool:
    """Tell whether anything corrects for class frequency, which a sampler would do twice."""
    by_term = any(TERMS[name].needs_counts for name in loss.factors)
    if by_term or _weighs_classes(loss, n_classes) or estimator.class_weight is not None:
        return True
    if is_auto(estimator.augment):
        return False
    steps = get_augmentation(estimator.augment, len(estimator.spatial_axes))
    _, mixing = divide_steps(steps or ())
    return any(mix.corrects_classes for mix in mixing)


def _weighs_classes(loss: MixedLoss | ModuleLoss, n_classes: int) -> bool:
    """Tell whether a loss module has unequal weights of the classes."""
    for name, weights in _class_weights(loss):
        if len(weights) == n_classes and len(set(weights)) > 1:
            return True
        # The weight of the second of two classes, with one logit for both.
        if name == "pos_weight" and len(weights) == 1 and weights != [1]:
            return True
    return False


def find_alpha(loss: MixedLoss | ModuleLoss) -> float | None:
    """Return the number alpha of a foreign focal loss, which may weigh classes or all rows."""
    numbers = [w[0] for name, w in _class_weights(loss) if name == "alpha" and len(w) == 1]
    return next((alpha for alpha in numbers if 0 < alpha < 1 and alpha != 0.5), None)


def _class_weights(loss: nn.Module) -> Iterator[tuple[str, list[float]]]:
    """Yield the numbers of a loss module, and of its parts, that may be weights of classes."""
    for module in loss.modules():
        for name in _CLASS_WEIGHTS:
            value = getattr(module, name, None)
            if isinstance(value, Tensor | np.ndarray):
                value = value.tolist()
            entries = value if isinstance(value, list | tuple) else [value]
            numbers = [entry for entry in entries if is_number(entry)]
            if len(numbers) == len(entries):
                yield name, numbers


def _learning_rate(estimator: CNNClassifier, defaults: Defaults) -> float:
    """Return the rate for this network, or the default of an optimizer with another scale."""
    if not isinstance(estimator.lr, str):
        return estimator.lr
    optimizer = find_optimizer(estimator.optimizer)
    own = None if is_like_adam(optimizer) else default_rate(optimizer)
    return defaults.lr if own is None else own


def _batch_size(
    estimator: CNNClassifier, defaults: Defaults, train: Rows, crop_size: tuple[int, ...] | None
) -> int:
    """Return a size that fits into memory and holds every class."""
    n_channels, *shape = train.data.sample_shape
    n_numbers = n_channels * math.prod(crop_size or shape)
    fitting: int = min(defaults.batch_size[len(shape)], _NUMBERS_IN_BATCH // n_numbers)
    at_once = estimator.micro_batch_size
    given = 0 if isinstance(at_once, str | None) else at_once
    return max(2, fitting, len(train.labels), given)


def _epochs(defaults: Defaults, n_rows: int, batch_size: int, n_batches: int) -> int:
    """Return the number of whole epochs that make the budget of steps."""
    n_steps = max(defaults.n_visits * n_rows / batch_size, defaults.least_steps)
    return math.ceil(min(n_steps, defaults.most_steps) / n_batches)
