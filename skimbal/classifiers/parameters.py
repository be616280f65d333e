"""The parameters of the classifiers: their constraints, and the rules between them."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Protocol

import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, make_constraint
from skorch.callbacks import Callback, InputShapeSetter
from torch import nn

from skimbal.augmentation import AugmentSpec, CenterCrop
from skimbal.exceptions import ParameterError
from skimbal.habits import advice_on_value
from skimbal.losses import LARGEST_FACTOR, LossSpec
from skimbal.networks import BUILT_IN, ModuleSpec, NetworkSpec
from skimbal.sampling import SamplerSpec, is_uniform
from skimbal.training import (
    OPTIMIZERS,
    SCHEDULES,
    Layout,
    StandardizedModule,
    default_rate,
    is_like_adam,
    takes_several_gradients,
)
from skimbal.typing import ClassWeight, is_number

__all__ = [
    "CONSTRAINTS",
    "CUDA_SETTINGS",
    "DTYPES",
    "LOW_PRECISION",
    "CNNClassifier",
    "NotKept",
    "check_constraints",
    "check_crop_size",
    "check_n_tta",
    "check_parameters",
    "find_optimizer",
    "is_auto",
    "listing_auto",
]

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
#: Autocast computes the network in these dtypes, while its parameters stay in float32.
LOW_PRECISION = ("bfloat16", "float16")


class CNNClassifier(Protocol):
    """The parameters of a classifier, which the functions of this folder read."""

    spatial_axes: tuple[str, ...]
    loss: LossSpec
    logit_adjustment: float
    class_weight: ClassWeight
    sampler: SamplerSpec
    epoch_length: int | str | None
    train_split: object
    augment: AugmentSpec
    crop_size: int | Sequence[int] | None
    n_tta: int | str
    input_shape: Sequence[int] | None
    standardize: bool | str
    module: ModuleSpec
    feature_layer: str | None
    optimizer: str | type[torch.optim.Optimizer]
    lr: float | str
    lr_schedule: str | None
    max_epochs: int | str
    batch_size: int | str
    micro_batch_size: int | str | None
    callbacks: Sequence[object] | None
    net: Mapping[str, object] | None
    device: str
    dtype: str
    compile: bool
    distributed: bool
    verbose: int | bool


class _Number(Interval):  # type: ignore[misc]
    """Numbers within bounds, without True and False, which Python counts as integers."""

    def is_satisfied_by(self, value: object) -> bool:
        # scikit-learn takes no fraction.
        return is_number(value) and isinstance(value, self.type) and float(value) in self


class _AtLeast(_Number):
    """Numbers of a bound or more."""

    def __init__(self, kind: type, bound: int, *, open_end: bool = False) -> None:
        super().__init__(kind, bound, None, closed="neither" if open_end else "left")

    def __str__(self) -> str:
        kind = "an integer" if self.type is Integral else "a finite number"
        return f"{kind} {'of at least' if self.closed == 'left' else 'above'} {self.left}"


class _OneOf(StrOptions):  # type: ignore[misc]
    """Some names. The keys of a table stay up to date with the table."""

    def __str__(self) -> str:
        return ", ".join(map(repr, self.options))


class _Splitter(HasMethods):  # type: ignore[misc]
    """Objects with a method ``split``, other than text."""

    def is_satisfied_by(self, value: object) -> bool:
        return not isinstance(value, str | bytes) and bool(super().is_satisfied_by(value))

    def __str__(self) -> str:
        return "a splitter"


_POSITIVE = _AtLeast(Integral, 1)
_AUTO = _OneOf({"auto"})
_FOLDS = _AtLeast(Integral, 2)
_SHARE = _Number(Real, 0, 1, closed="neither")
_STRENGTH = _Number(Real, 0, LARGEST_FACTOR, closed="both")
_NAMES_OF_NETWORKS = _OneOf(BUILT_IN.keys())

#: Options of the net that set how CUDA computes.
CUDA_SETTINGS = ("tf32", "cudnn_benchmark")
#: The constraints of scikit-learn. Losses, samplers and augmentation check their specifications
#: themselves, and the checks of the data refuse the rest.
CONSTRAINTS: dict[str, list[object]] = {
    "logit_adjustment": [_STRENGTH],
    "epoch_length": [None, _OneOf({"uniform"}), _POSITIVE],
    "n_tta": [_OneOf({"auto": None, "flips": None}.keys()), _POSITIVE],
    "train_split": [None, _SHARE, _FOLDS, _Splitter("split"), callable, list, tuple, Iterator],
    "standardize": [_AUTO, "boolean"],
    "module": [_AUTO, _NAMES_OF_NETWORKS, NetworkSpec, callable],
    "feature_layer": [None, str],
    "lr": [_AUTO, _AtLeast(Real, 0, open_end=True)],
    "lr_schedule": [None, _OneOf(SCHEDULES.keys())],
    "max_epochs": [_AUTO, _AtLeast(Integral, 0)],
    "batch_size": [_AUTO, _POSITIVE],
    "micro_batch_size": [None, _AUTO, _POSITIVE],
    "callbacks": [None, list, tuple],
    "net": [None, dict],
    "warm_start": ["boolean"],
    "dtype": [_OneOf({"auto": None, **DTYPES}.keys())],
    "compile": ["boolean"],
    "distributed": ["boolean"],
    "verbose": ["boolean", _AtLeast(Integral, 0)],
}
#: Constraints whose words differ from the words of scikit-learn.
_WORDS: dict[object, str] = {
    _SHARE: "a share above 0 and below 1",
    _STRENGTH: f"a finite number of at least 0 and at most {LARGEST_FACTOR:g}",
    "boolean": "True or False",
    callable: "a callable",
    Iterator: "an iterator",
    NetworkSpec: "a NetworkSpec",
    dict: "a dict",
    list: "a list",
    str: "text",
    tuple: "a tuple",
}
_REMEDIES = {
    "module": "A callable is a factory f(in_channels, n_classes) that returns a new network.",
    "feature_layer": "The text is the name of a layer of the network.",
    "callbacks": "The entries are skorch callbacks or (name, callback) pairs.",
    "net": "The dict holds options of the skorch net, such as {'optimizer__weight_decay': 1e-4}.",
}


@dataclass(frozen=True)
class NotKept:
    """The value of a parameter that the file of a model could not hold, in words."""

    text: str

    def __repr__(self) -> str:
        return f"<{self.text}, which the file of the model does not hold>"


def is_auto(value: object) -> bool:
    """Tell whether the data decide about a parameter."""
    return isinstance(value, str) and value == "auto"


@contextmanager
def listing_auto(estimator: CNNClassifier, *names: str) -> Iterator[None]:
    """Add "auto" to the values that an error accepts, which is of a function that has no "auto"."""
    try:
        yield
    except ParameterError as error:
        name, expected = error.parameter, error.expected
        # An entry of a list cannot be "auto", either.
        if name not in names or error.got is not getattr(estimator, name) or "'auto'" in expected:
            raise
        comma = ", " if "," in expected else " or "
        raise ParameterError(name, f"'auto'{comma}{expected}", error.got, error.remedy) from None


def check_constraints(estimator: CNNClassifier, names: Iterable[str] = CONSTRAINTS) -> None:
    """Refuse a parameter that meets none of its constraints."""
    for name in names:
        value = getattr(estimator, name)
        constraints = CONSTRAINTS[name]
        if not any(make_constraint(one).is_satisfied_by(value) for one in constraints):
            words = [_WORDS.get(one) or str(make_constraint(one)) for one in constraints]
            others, _, last = ", ".join(words).rpartition(", ")
            expected = f"{others} or {last}" if others else last
            meant = advice_on_value(name, value, _names_in(constraints))
            remedies = [meant, _REMEDIES.get(name, "")]
            raise ParameterError(name, expected, value, " ".join(filter(None, remedies)))


def _names_in(constraints: Iterable[object]) -> list[str]:
    """Return the names that constraints accept."""
    return [name for one in constraints if isinstance(one, StrOptions) for name in one.options]


def check_parameters(estimator: CNNClassifier) -> None:
    """Refuse parameters that cannot work on any machine, alone or together."""
    _refuse_not_kept(estimator)
    check_constraints(estimator)
    _check_module(estimator)
    micro, size = estimator.micro_batch_size, estimator.batch_size
    if not isinstance(micro, str | None) and not isinstance(size, str) and micro > size:
        raise ParameterError(
            "micro_batch_size",
            f"at most batch_size={size}",
            micro,
        )
    _check_optimizer(estimator)
    _check_net(estimator)
    _check_callbacks(estimator)


def _refuse_not_kept(estimator: CNNClassifier) -> None:
    """Refuse to train a loaded classifier as long as values are missing that its fit had."""
    given = estimator.net if isinstance(estimator.net, Mapping) else {}
    options = {f"net__{name}": value for name, value in given.items()}
    for name, value in {**vars(estimator), **options}.items():
        if isinstance(value, NotKept):
            raise ParameterError(
                name,
                "set anew before a loaded classifier trains",
                value,
                f"Use set_params({name}=...). Predictions do not need it.",
            )


def _check_module(estimator: CNNClassifier) -> None:
    module = estimator.module
    if isinstance(module, NetworkSpec):
        try:
            module.check()
        except ParameterError as error:
            raise error.within("module") from None
        if module.normalizes_input and not is_auto(estimator.standardize) and estimator.standardize:
            raise ParameterError(
                "standardize",
                "'auto' or False with a module that normalises its input itself",
                estimator.standardize,
                "The images would be normalised twice.",
            )
    # A network that is built would keep its weights from one fit to the next.
    if isinstance(module, nn.Module):
        raise ParameterError(
            "module",
            f"{_AUTO}, {_NAMES_OF_NETWORKS}, a NetworkSpec or a factory f(in_channels, n_classes), "
            "not a network",
            type(module),
            "Wrap the call that builds the network in a function.",
        )


def check_n_tta(estimator: CNNClassifier, augments: bool, mirrors: bool) -> int | None:
    """Refuse several passes over the same image, and mirror images that training has not seen.

    Returns the number of passes, or None for all mirror images.
    """
    check_constraints(estimator, ["n_tta"])
    if is_auto(estimator.n_tta):
        return None if mirrors else 1
    if isinstance(estimator.n_tta, str):
        if not mirrors:
            raise ParameterError(
                "n_tta",
                "'auto' or 1 after a fit whose augment mirrors no image",
                estimator.n_tta,
                "The network has seen no mirror images. Set augment, such as augment='flip', and "
                "fit again, or set n_tta='auto'.",
            )
        return None
    if estimator.n_tta > 1 and not augments:
        raise ParameterError(
            "n_tta",
            "'auto' or 1 after a fit without augment and crop_size",
            estimator.n_tta,
            "All passes over an image would be the same. Set augment, such as augment='flip', and "
            "fit again, or set n_tta=1.",
        )
    return int(estimator.n_tta)


def check_crop_size(estimator: CNNClassifier, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the size of the crop along each axis, or None without a crop."""
    if estimator.crop_size is None:
        return None
    try:
        cropped = CenterCrop(estimator.crop_size)(torch.empty(1, *shape, device="meta"))
    except ParameterError as error:
        raise ParameterError(
            "crop_size", error.expected, estimator.crop_size, error.remedy
        ) from None
    return tuple(cropped.shape[2:])


def find_optimizer(optimizer: str | type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return the class of an optimizer."""
    if isinstance(optimizer, str) and optimizer.lower() in OPTIMIZERS:
        return OPTIMIZERS[optimizer.lower()]
    if (
        isinstance(optimizer, type)
        and issubclass(optimizer, torch.optim.Optimizer)
        and optimizer is not torch.optim.Optimizer
        and not issubclass(optimizer, torch.optim.SparseAdam)
    ):
        return optimizer
    raise ParameterError(
        "optimizer",
        f"a torch.optim.Optimizer class or one of {sorted(OPTIMIZERS)}",
        optimizer,
        f"{advice_on_value('optimizer', optimizer, OPTIMIZERS)} "
        "Options are set through net, such as net={'optimizer__weight_decay': 1e-4}. SparseAdam "
        "needs sparse gradients, which no layer for images has.",
    )


def _check_optimizer(estimator: CNNClassifier) -> None:
    """Refuse parameters that the optimizer cannot honour."""
    optimizer = find_optimizer(estimator.optimizer)
    if is_auto(estimator.lr) and not is_like_adam(optimizer) and default_rate(optimizer) is None:
        raise ParameterError(
            "lr",
            "a number above 0 with this optimizer",
            estimator.lr,
            f"{optimizer.__name__} has no default learning rate.",
        )
    if not takes_several_gradients(optimizer):
        return
    reason = f"{optimizer.__name__} computes the loss of a batch several times in a step"
    given = estimator.augment is not None and not is_auto(estimator.augment)
    if given or estimator.crop_size is not None:
        name = "augment" if given else "crop_size"
        raise ParameterError(
            name,
            "'auto' or None with this optimizer" if given else "None with this optimizer",
            getattr(estimator, name),
            f"{reason}, and augment and crop_size would change the images each time. Use another "
            "optimizer.",
        )
    if estimator.dtype == "float16":
        raise ParameterError(
            "dtype",
            "'auto', 'float32', 'float64' or 'bfloat16' with this optimizer",
            estimator.dtype,
            f"{reason}, and float16 needs one scale of the gradients. Use dtype='bfloat16' or "
            "another optimizer.",
        )


#: Prefixes and names of the options of the skorch net that a user may set.
_NET_PREFIXES = (
    *("optimizer__", "module__", "callbacks__", "compile__"),
    *("iterator_train__", "iterator_valid__"),
)
_NET_NAMES = ("iterator_train", "iterator_valid", "memory_format")
#: Options behind these prefixes that the classifier sets itself.
_TAKEN = {
    *(
        f"module__{parameter.name}"
        for parameter in inspect.signature(StandardizedModule).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    ),
    *(f"iterator_train__{name}" for name in ("sampler", "classes", "epoch_length")),
}


def _check_net(estimator: CNNClassifier) -> None:
    """Refuse options of the skorch net that the parameters of the classifier decide."""
    options = estimator.net or {}
    brings_batches = "iterator_train" in options
    _check_doubled_options(estimator, options)
    for name in options:
        if (
            not isinstance(name, str)
            or not (name.startswith(_NET_PREFIXES) or name in (*_NET_NAMES, *CUDA_SETTINGS))
            or (name in _TAKEN and not (brings_batches and name.startswith("iterator_train__")))
        ):
            raise ParameterError(
                "net",
                f"a dict whose keys are {', '.join((*_NET_NAMES, *CUDA_SETTINGS))} or begin with "
                f"{', '.join(_NET_PREFIXES)}",
                name,
                advice_on_value("net", name, (*_NET_NAMES, *CUDA_SETTINGS))
                or "Other options have a parameter of the classifier, or the fit sets them.",
            )
    _check_memory_format(estimator, options)
    sampler = estimator.sampler
    for name, expected, is_default in (
        ("sampler", "'auto' or 'uniform'", is_auto(sampler) or is_uniform(sampler)),
        ("epoch_length", "None", estimator.epoch_length is None),
    ):
        if brings_batches and not is_default:
            raise ParameterError(
                name,
                f"{expected} with net['iterator_train']",
                getattr(estimator, name),
                "That iterator makes the batches, so this value would have no effect.",
            )
    for name in ("iterator_train", "iterator_valid"):
        if estimator.distributed and name in options:
            raise ParameterError(
                "distributed",
                f"False with net[{name!r}]",
                True,
                "The processes cannot share the batches of a foreign iterator. Use sampler and "
                "batch_size instead.",
            )


def _check_memory_format(estimator: CNNClassifier, options: Mapping[str, object]) -> None:
    """Refuse a layout that is unknown, or that the gradients of the optimizer cannot have."""
    given = options.get("memory_format", "auto")
    try:
        Layout(given)  # type: ignore[arg-type]
    except ParameterError as error:
        raise error.within("net") from None
    views_gradients = takes_several_gradients(find_optimizer(estimator.optimizer))
    if given == "channels_last" and views_gradients:
        raise ParameterError(
            "net",
            f"a dict whose memory_format is 'auto' or 'contiguous' with {estimator.optimizer!r}",
            given,
            "This optimizer views each gradient as one line of numbers.",
        )


def _check_doubled_options(estimator: CNNClassifier, options: Mapping[str, object]) -> None:
    """Refuse options that another parameter of the classifier has, too."""
    if "iterator_train__batch_size" in options and "iterator_train" not in options:
        raise ParameterError(
            "net",
            "a dict without iterator_train__batch_size, unless iterator_train is in it, too",
            "iterator_train__batch_size",
            "Set the parameter batch_size, by which max_epochs='auto' counts the steps.",
        )
    if "optimizer__lr" in options:
        raise ParameterError(
            "net", "a dict without optimizer__lr", "optimizer__lr", "Set the parameter lr."
        )
    of_network = [name for name in options if str(name).startswith("module__")]
    if of_network and isinstance(estimator.module, NetworkSpec):
        raise ParameterError(
            "net",
            "a dict without module__ options with a NetworkSpec",
            of_network[0],
            f"Set parameters of the {type(estimator.module).__name__}, by its constructor or "
            "set_params(module__...).",
        )


def _check_callbacks(estimator: CNNClassifier) -> None:
    """Refuse other entries than callbacks, and monitors that miss their rows."""
    for entry in estimator.callbacks or ():
        callback = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
        is_class = isinstance(callback, type) and issubclass(callback, Callback)
        if not is_class and not isinstance(callback, Callback | None):
            is_of_sklearn = hasattr(callback, "on_fit_task_end")
            remedy = "Pass callbacks of scikit-learn to set_callbacks." if is_of_sklearn else ""
            raise ParameterError(
                "callbacks",
                "a list of skorch callbacks or (name, callback) pairs",
                estimator.callbacks,
                f"Its entry {entry!r} is neither. {remedy}",
            )
        if isinstance(callback, InputShapeSetter) or callback is InputShapeSetter:
            raise ParameterError(
                "callbacks",
                "callbacks without InputShapeSetter",
                entry,
                "The classifier passes in_channels and n_classes to the factory of module.",
            )
    if estimator.train_split is not None:
        return
    for name, monitor in _monitors(estimator):
        if str(monitor).startswith("valid_"):
            raise ParameterError(
                "train_split",
                f"a share or a splitter, as {name} monitors {monitor!r}",
                None,
                "The monitor needs validation rows. Set train_split=0.2, or monitor='train_loss'.",
            )


def _monitors(estimator: CNNClassifier) -> Iterator[tuple[str, object]]:
    """Yield the name and the monitor of each callback."""
    options = estimator.net or {}
    for entry in estimator.callbacks or ():
        name, callback = entry if isinstance(entry, tuple) else (None, entry)
        kind = callback if isinstance(callback, type) else type(callback)
        monitor = getattr(callback, "monitor", None)
        if callback is kind:  # skorch makes the instance
            parameter = inspect.signature(kind).parameters.get("monitor")
            monitor = getattr(parameter, "default", None)
        yield kind.__name__, options.get(f"callbacks__{name or kind.__name__}__monitor", monitor)
