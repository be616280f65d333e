"""The net of a fit, put together from the parameters."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from torch import nn

from skimbal.augmentation import divide_steps
from skimbal.classifiers.inputs import InputClassifier, Rows
from skimbal.classifiers.parameters import (
    DTYPES,
    LOW_PRECISION,
    CNNClassifier,
    find_optimizer,
    is_auto,
)
from skimbal.classifiers.ranges import compare_rows, with_numbers
from skimbal.classifiers.settings import Settings
from skimbal.classifiers.trials import check_deferral, check_mixing, try_augmentation, try_network
from skimbal.exceptions import ParameterError
from skimbal.losses import MixedLoss, ModuleLoss
from skimbal.networks import BUILT_IN, ModuleSpec, NetworkSpec, PixelRange
from skimbal.training import (
    BlockIterator,
    Blueprint,
    EpochProgress,
    ImageDataset,
    IncompleteBatches,
    Parts,
    PixelSample,
    TrainingNet,
    TrainIterator,
    broken_weights,
    can_be_fused,
    carry_scale,
    channel_statistics,
    check_unfreezing,
    device_type,
    is_at,
    pixel_range,
    set_rows_at_once,
    takes_several_gradients,
)

__all__ = [
    "NewNet",
    "Plan",
    "SameNet",
    "WarmNet",
    "dtypes_of_network",
    "make_factory",
    "net_options",
    "prepare_net",
]


@dataclass(frozen=True, eq=False)
class Plan:
    """The decisions of a fit that its net depends on."""

    train: Rows
    loss: MixedLoss | ModuleLoss
    crop_size: tuple[int, ...] | None
    augmentation: nn.Sequential | None
    settings: Settings
    device: str
    #: Whether this is a whole fit, and not an epoch after which others may follow.
    is_whole: bool
    #: Epochs that earlier calls trained.
    n_epochs_before: int

    @property
    def n_epochs(self) -> int:
        """Epochs to train."""
        return self.settings.epochs if self.is_whole else 1


@dataclass(frozen=True, eq=False)
class NewNet:
    """The start of a fit with new weights."""

    #: Whether known trouble with the loss is worth a warning.
    warns: ClassVar[bool] = True
    #: Classes that the rows may hold, or None for the classes that the rows do hold.
    labels: np.ndarray | None = None
    #: Net and seed of the earlier calls, and the epochs that they trained.
    previous: TrainingNet | None = None
    seed: int | None = None
    n_epochs: int = 0
    #: Weight of each class in the rows of the earlier calls, in samples.
    class_mass: np.ndarray | int = 0

    def place(self, estimator: InputClassifier, device: str) -> str:
        """Return the device to train on."""
        return device

    def net(self, estimator: InputClassifier, plan: Plan) -> TrainingNet:
        """Return the net to train."""
        return _make_net(estimator, plan)


class WarmNet(NewNet):
    """The start of a fit with the weights of the earlier fit."""

    def net(self, estimator: InputClassifier, plan: Plan) -> TrainingNet:
        """Return the net to train."""
        assert self.previous is not None
        broken = broken_weights(self.previous.module_)
        if broken:
            raise ParameterError(
                "warm_start",
                "False after a fit that diverged",
                True,
                f"{broken}, and the fit would go on from there. Lower lr as well.",
            )
        net = super().net(estimator, plan)
        try:
            net.module_.load_state_dict(self.previous.module_.state_dict())
        except RuntimeError as error:
            raise ValueError(
                "module must make the network of the previous fit, whose weights warm_start=True "
                "goes on from; got a different network. Set warm_start=False, or set module and "
                f"net as they were. ({error})"
            ) from None
        carry_scale(self.previous, net)
        known = self.previous.micro_batch_size
        if net.halves_micro_batches and known is not None:
            set_rows_at_once(net, known)
        return net


class SameNet(NewNet):
    """The start of a later call of ``partial_fit``, with the net of the calls before."""

    #: The first call has warned.
    warns = False

    def place(self, estimator: InputClassifier, device: str) -> str:
        """Return the device of the network, whatever device is current now."""
        assert self.previous is not None
        place: str = self.previous.device
        if not is_at(place, device if estimator.distributed else estimator.device):
            raise ParameterError(
                "device",
                f"{place!r} or a name for it, as the network of the calls before is there",
                estimator.device,
                "Set it back. To move a classifier, save it and call skimbal.load with device.",
            )
        return place

    def net(self, estimator: InputClassifier, plan: Plan) -> TrainingNet:
        """Return the net to train."""
        net = self.previous
        assert net is not None
        if net.blueprint_.lacks:
            name = net.blueprint_.lacks[0]
            raise ParameterError(
                name,
                "in the file of the model, to go on with partial_fit",
                getattr(estimator, name),
                "The file had no place for the value of the calls before. Call fit with "
                "warm_start=True, which goes on from the weights.",
            )
        broken = broken_weights(net.module_)
        if broken:
            raise ValueError(
                "partial_fit must go on from weights that are finite; got a network after a "
                f"training that diverged. {broken}. Call fit, or partial_fit of a clone, with a "
                "smaller lr."
            )
        if plan.crop_size != net.module_.crop_size:
            raise ParameterError(
                "crop_size",
                f"{net.module_.crop_size}, as in the first call, for which the network was made",
                estimator.crop_size,
                "Set it back, or fit anew.",
            )
        net.end_schedule()
        loss = plan.loss.to(net.device, net.module_.dtype)
        loss.carry_on_from(net.criterion_)
        net.criterion_ = loss
        return net


def prepare_net(estimator: InputClassifier, start: NewNet, plan: Plan) -> TrainingNet:
    """Return the net to train, with an augmentation that works."""
    if start.previous is not None:
        compare_rows(estimator, plan.train.data)
    if plan.is_whole:
        check_deferral(plan.loss, plan.n_epochs_before + plan.n_epochs)
    changes, mixing = divide_steps(plan.augmentation or ())
    for mix in mixing:
        check_mixing(mix, plan.loss)
        mix.count_classes(plan.train.class_mass + start.class_mass)
    net = start.net(estimator, plan)
    if start.previous is not None:
        net.head_trainings_ = start.previous.head_trainings_
    net.augmentation, net.mixing_ = changes, mixing
    if plan.augmentation is not None:
        plan.augmentation.to(device=net.device, dtype=net.module_.dtype)
        try_augmentation(estimator, plan.settings, net, plan.train)
    return net


def _make_net(estimator: InputClassifier, plan: Plan) -> TrainingNet:
    """Make a net with new weights, and try it on a row."""
    optimizer = find_optimizer(estimator.optimizer)
    options = net_options(estimator.net or {}, optimizer, plan.device)
    data = plan.train.data
    statistics: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    sample = PixelSample(data)
    blueprint = _blueprint(estimator, plan, options, sample)
    dtype = DTYPES[blueprint.dtype]
    if plan.settings.standardize:
        sample = PixelSample(data)
        statistics = _statistics(data, dtype, options, sample)
    estimator.input_ = with_numbers(estimator.input_, sample)
    parts = Parts(
        make_factory(blueprint),
        statistics,
        plan.loss.to(dtype),
        optimizer,
        options,
        plan.train.labels,
        _callbacks(estimator, plan),
        verbose=int(estimator.verbose >= 2),
    )
    net = blueprint.net(parts, plan.device)
    net.epochs_before_ = plan.n_epochs_before
    if plan.is_whole:
        name = _path_to(plan.settings.module, "unfreeze_at")
        last_epoch = plan.n_epochs_before + plan.n_epochs
        check_unfreezing(net.module_.network, name, plan.n_epochs, last_epoch)
    _check_callback_options(net, options)
    net.check_feature_layer()
    try_network(estimator, plan.settings, net, plan.train)
    net.compile_module()
    return net


def _path_to(module: ModuleSpec, parameter: str) -> str:
    """Return the name by which set_params reaches a parameter of the network or of its part."""
    inner = module.get_params() if isinstance(module, NetworkSpec) else {}
    paths = [name for name in inner if name.split("__")[-1] == parameter]
    return f"module__{min(paths, key=len, default=parameter)}"


def _blueprint(
    estimator: CNNClassifier, plan: Plan, options: dict[str, Any], sample: PixelSample
) -> Blueprint:
    """Return the facts of the net, with a value for each "auto"."""
    dtype, autocast = dtypes_of_network(estimator.dtype, plan.train.data.dtype, plan.device)
    module, data = plan.settings.module, plan.train.data
    needs_pixels = isinstance(module, NetworkSpec) and module.needs_pixel_range
    several_gradients = takes_several_gradients(find_optimizer(estimator.optimizer))
    return Blueprint(
        module=module,
        sampler=plan.settings.sampler,
        epoch_length=plan.settings.epoch_length,
        pixels=_pixel_range(data, DTYPES[dtype], options, sample) if needs_pixels else None,
        sample_shape=data.sample_shape,
        n_classes=len(plan.train.labels),
        crop_size=plan.crop_size,
        dtype=dtype,
        autocast=autocast,
        # LBFGS views each gradient as one line of numbers, which another layout does not allow.
        channels_last=not several_gradients,
        feature_layer=estimator.feature_layer,
        lr=plan.settings.lr,
        lr_schedule=_schedule(estimator, plan),
        max_epochs=plan.settings.epochs,
        batch_size=plan.settings.batch_size,
        micro_batch_size=_micro_batch_size(estimator.micro_batch_size),
        compiled=estimator.compile,
        halves_micro_batches=is_auto(estimator.micro_batch_size),
    )


def _micro_batch_size(given: int | str | None) -> int | None:
    """Return the rows in memory at once in the first step, or None for all rows of a batch."""
    # An integer of numpy has a range.
    return None if given is None or isinstance(given, str) else int(given)


def dtypes_of_network(
    dtype: str, image_dtype: np.dtype[Any], device: str
) -> tuple[str, str | None]:
    """Return the dtype of the parameters, and the dtype of autocast if there is autocast."""
    if dtype == "auto":
        is_float64 = image_dtype.newbyteorder("=") == np.float64
        follows_float64 = is_float64 and device_type(device) == "cpu"
        dtype = "float64" if follows_float64 else "float32"
    return ("float32", dtype) if dtype in LOW_PRECISION else (dtype, None)


def make_factory(blueprint: Blueprint) -> Callable[..., nn.Module]:
    """Return the function of the numbers of channels and classes that makes the network."""
    module, spatial_shape = blueprint.module, blueprint.spatial_shape
    if isinstance(module, NetworkSpec):
        return functools.partial(_build, module, spatial_shape, blueprint.pixels)
    if isinstance(module, str):
        return functools.partial(BUILT_IN[module], spatial_shape=spatial_shape)
    return module


def _build(
    spec: NetworkSpec,
    spatial_shape: tuple[int, ...],
    pixels: PixelRange | None,
    in_channels: int,
    n_classes: int,
) -> nn.Module:
    try:
        return spec.build(in_channels, n_classes, spatial_shape, pixels)
    except ParameterError as error:
        raise error.within("module") from None


def _n_workers(options: dict[str, Any]) -> int | None:
    """Return the number of threads that read the training rows ahead."""
    is_ours = options["iterator_train"] is TrainIterator
    return options.get("iterator_train__num_workers") if is_ours else 0


def _statistics(
    data: ImageDataset, dtype: torch.dtype, options: dict[str, Any], sample: PixelSample
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel, within the range of the dtype."""
    try:
        mean, std = channel_statistics(data, _n_workers(options), sample)
    except ParameterError as error:
        raise error.within("iterator_train") from None
    is_large = ~(np.maximum(np.abs(mean), std) <= torch.finfo(dtype).max)
    if is_large.any():
        raise ValueError(
            "the pixels of X must have a mean and a standard deviation within the range of "
            f"{dtype}; got pixels that are too large to be standardised, such as "
            f"{sample.extreme(int(is_large.argmax()))}. Scale X down, replace such pixels, or "
            "change dtype."
        )
    sample.check(mean, std, dtype)
    return mean, std


def _pixel_range(
    data: ImageDataset, dtype: torch.dtype, options: dict[str, Any], sample: PixelSample
) -> PixelRange:
    """Return the least and the greatest pixel, between which the images differ."""
    pixels = pixel_range(data, _n_workers(options), sample)
    # The networks that scale pixels by their range go on to a standard deviation of about 1 / 4.
    width = (pixels.high - pixels.low) / 4 or 1.0
    n_channels = data.sample_shape[0]
    sample.check(np.full(n_channels, pixels.low), np.full(n_channels, width), dtype)
    return pixels


def net_options(
    given: Mapping[str, object], optimizer: type[torch.optim.Optimizer], device: str
) -> dict[str, Any]:
    """Return the options of ``net``, over the defaults."""
    options: dict[str, Any] = {"iterator_train": TrainIterator, "iterator_valid": BlockIterator}
    options.update(given)
    if can_be_fused(optimizer, device) and not any(
        name.startswith("optimizer__") and name.endswith(("fused", "foreach", "differentiable"))
        for name in options
    ):
        options["optimizer__fused"] = True
    return options


def _schedule(estimator: CNNClassifier, plan: Plan) -> str | None:
    """Return the schedule, of which a callback may take the place."""
    entries = estimator.callbacks or ()
    plain = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    has_own = any(entry is LRScheduler or isinstance(entry, LRScheduler) for entry in plain)
    return estimator.lr_schedule if plan.is_whole and not has_own else None


def _callbacks(estimator: CNNClassifier, plan: Plan) -> list[object]:
    """Return the callbacks of the user themselves, which can be read after the fit, and ours."""
    callbacks: list[object] = list(estimator.callbacks or ())
    if estimator.verbose == 1 and plan.is_whole:
        callbacks.append(("progress", EpochProgress(plan.n_epochs)))
    if estimator.verbose and plan.loss.suffers_from_small_batches:
        callbacks.append(("incomplete_batches", IncompleteBatches()))
    return callbacks


def _check_callback_options(net: TrainingNet, options: dict[str, Any]) -> None:
    known = {"progress", "incomplete_batches", *dict(net.callbacks_)}
    for name, value in options.items():
        parts = name.split("__")
        if parts[0] == "callbacks" and value is not None and parts[1] not in known:
            raise ParameterError(
                "net",
                f"a dict whose callbacks__ keys name one of {', '.join(sorted(known))}",
                name,
                f"Add ({parts[1]!r}, callback) to callbacks.",
            )
