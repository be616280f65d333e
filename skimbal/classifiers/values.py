"""Parameters of a classifier as values of JSON, and back, by a table of the objects that they hold.

An object of the table is written by its name and its parameters. Any other object, such as a
function of the user, is written as a remark. Reading calls the constructors of the table only.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from sklearn.base import BaseEstimator
from torch import nn
from torch.utils.data import DataLoader

from skimbal import augmentation
from skimbal.classifiers.parameters import NotKept
from skimbal.losses import FocalLoss, LossMix, SoftF1Loss, SoftMCCLoss
from skimbal.model_file import Plain, from_plain, to_plain
from skimbal.networks import Pretrained, SliceNet
from skimbal.training import OPTIMIZERS

__all__ = ["is_kept", "read_options", "read_value", "write_options", "write_value"]


def _attributes(*names: str) -> Callable[[Any], dict[str, object]]:
    return lambda value: {name: getattr(value, name) for name in names}


def _bounds(name: str, *others: str) -> Callable[[Any], dict[str, object]]:
    return lambda value: {name: value.bounds, **_attributes("p", *others)(value)}


def _params(value: Any) -> dict[str, object]:
    params: dict[str, object] = value.get_params(deep=False)
    return params


#: Classes of objects that a file may hold, each with a function from an instance to the arguments
#: of the constructor.
OBJECTS: dict[type, Callable[[Any], Mapping[str, object]]] = {
    LossMix: _params,
    Pretrained: _params,
    SliceNet: _params,
    SoftMCCLoss: _attributes(),
    SoftF1Loss: _attributes(),
    FocalLoss: lambda value: {"gamma": value.mix.focal_gamma},
    nn.Identity: _attributes(),
    nn.Sequential: lambda value: {"steps": list(value)},
    augmentation.OneOf: lambda value: {"steps": list(value.steps)},
    augmentation.RandomFlip: _attributes("axes", "p"),
    augmentation.RandomSymmetry: _attributes(),
    augmentation.RandomAffine: _attributes("degrees", "translate", "scale", "p"),
    augmentation.RandomGamma: _bounds("gamma"),
    augmentation.RandomGaussianBlur: _bounds("sigma"),
    augmentation.RandomSigmoidContrast: _bounds("gain", "cutoff"),
    augmentation.RandomErasing: _attributes("share", "p"),
    augmentation.RandomCrop: _attributes("size"),
    augmentation.CenterCrop: _attributes("size"),
    augmentation.Mixup: _attributes("alpha"),
    augmentation.Remix: _attributes("alpha", "kappa", "tau"),
    augmentation.MAMix: _attributes("alpha"),
}
_BY_NAME = {kind.__name__: kind for kind in OBJECTS}
#: Samplers of imbalanced-learn that a file may hold, by the module that has them. Its import takes
#: a part of a second, and most fits do not need it.
_SAMPLERS = {
    "RandomOverSampler": "imblearn.over_sampling",
    "RandomUnderSampler": "imblearn.under_sampling",
}
#: Classes that a parameter may be, rather than an instance: losses without arguments, iterators.
_CLASSES = {
    "DataLoader": DataLoader,
    **{kind.__name__: kind for kind in (SoftMCCLoss, SoftF1Loss, FocalLoss)},
    **{name: getattr(nn, name) for name in ("CrossEntropyLoss", "MultiMarginLoss")},
}


class _UnknownObjectError(Exception):
    """A value holds an object that is not in the table."""


def write_value(value: object) -> Plain:
    """Return a parameter in values of JSON, or a remark that names it."""
    try:
        return to_plain(value, _write_object)
    except _UnknownObjectError:
        return {"$other": ["not kept", _in_words(value)]}


def is_kept(value: object) -> bool:
    """Tell whether a file can hold a value, with all objects in it."""
    try:
        to_plain(value, _write_object)
    except _UnknownObjectError:
        return False
    return True


def read_value(plain: Plain) -> Any:
    """Return a parameter from values of JSON. A remark becomes a :class:`NotKept`."""
    return from_plain(plain, _read_object)


def write_options(options: Mapping[str, object]) -> dict[str, Plain]:
    """Return options by their names, each of which may be a remark."""
    return {name: write_value(value) for name, value in options.items()}


def read_options(plain: Mapping[str, Plain]) -> dict[str, Any]:
    """Return options by their names."""
    return {name: read_value(value) for name, value in plain.items()}


def _write_object(value: Any) -> Plain:
    arguments = _arguments_of(type(value))
    if arguments is not None:
        # Parameters that are not kept make the whole object one that is not kept.
        return ["object", type(value).__name__, to_plain(dict(arguments(value)), _write_object)]
    if isinstance(value, NotKept):
        return ["not kept", value.text]
    if isinstance(value, type):
        name: str = value.__name__
        if OPTIMIZERS.get(name.lower()) is value:
            return ["optimizer", name]
        if _CLASSES.get(name) is value:
            return ["class", name]
    raise _UnknownObjectError


def _read_object(content: Plain) -> object:
    tag, name, *rest = content
    if tag == "not kept":
        return NotKept(str(name))
    tables: dict[str, Mapping[str, type]] = {
        "object": {**_BY_NAME, name: _sampler(name)} if name in _SAMPLERS else _BY_NAME,
        "optimizer": {kind.__name__: kind for kind in OPTIMIZERS.values()},
        "class": _CLASSES,
    }
    kind = tables.get(tag, {}).get(name)
    if kind is None:
        raise ValueError(f"this version of skimbal knows no {tag} of the name {name!r}")
    if tag != "object":
        return kind
    params = from_plain(rest[0], _read_object)
    if kind is nn.Sequential:
        return nn.Sequential(*params["steps"])
    return kind(**params)


def _sampler(name: str) -> type:
    sampler: type = getattr(import_module(_SAMPLERS[name]), name)
    return sampler


def _arguments_of(kind: type) -> Callable[[Any], Mapping[str, object]] | None:
    """Return the function from an instance to the arguments of its class, if a file may hold it."""
    is_sampler = kind.__name__ in _SAMPLERS and kind.__module__.startswith("imblearn.")
    if is_sampler and kind is _sampler(kind.__name__):
        return _params
    return OBJECTS.get(kind)


def _in_words(value: object) -> str:
    """Name a value, and of a container the parts that are not kept."""
    if isinstance(value, list | tuple | Mapping):
        items = value.values() if isinstance(value, Mapping) else value
        parts = ", ".join(_in_words(item) for item in items if not is_kept(item))
        return f"a {type(value).__name__} with {parts}"
    if isinstance(value, BaseEstimator):
        inner = {n: v for n, v in _params(value).items() if not is_kept(v)}
        if inner and _arguments_of(type(value)) is not None:
            parts = ", ".join(f"{name}={_in_words(item)}" for name, item in inner.items())
            return f"{type(value).__name__} with {parts}"
    named: Any = value if hasattr(value, "__qualname__") else type(value)
    text = f"{named.__module__}.{named.__qualname__}"
    return text if named is value else f"an object of the class {text}"
