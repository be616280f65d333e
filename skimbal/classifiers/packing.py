"""Fitted classifiers as the contents of a file, and back."""

import functools
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from skorch.exceptions import SkorchException
from skorch.history import History
from skorch.utils import params_for
from torch import Tensor, nn

from skimbal.augmentation import divide_steps
from skimbal.classifiers.assembly import make_factory, net_options
from skimbal.classifiers.card import Notes, head_sections, training_facts, write_card
from skimbal.classifiers.contents import check_attributes, check_names, check_net
from skimbal.classifiers.machine import check_device
from skimbal.classifiers.parameters import CNNClassifier, NotKept, find_optimizer
from skimbal.classifiers.prior import RowsSeen
from skimbal.classifiers.trial_image import trial_logits, try_network
from skimbal.classifiers.values import (
    is_kept,
    read_options,
    read_value,
    write_options,
    write_value,
)
from skimbal.exceptions import ModelFileError, ParameterError, warn_caller
from skimbal.images import InputForm
from skimbal.losses import MixedLoss, ModuleLoss, get_loss
from skimbal.model_file import ModelFile, Plain
from skimbal.networks import BUILT_IN, ModuleSpec, NetworkSpec, PixelRange
from skimbal.training import (
    Blueprint,
    Parts,
    TrainingNet,
    broken_weights,
    device_at_hand,
    is_at,
    isolated_random_state,
    trainable_torch,
)
from skimbal.typing import RandomState, is_integer

__all__ = [
    "FittedClassifier",
    "left_out",
    "objects_of",
    "pack",
    "passes_left_out",
    "read_parameters",
    "unpack",
    "with_objects",
    "write_parameters",
]

#: The remark in place of a network that is passed again to load a model.
_PASSED_AGAIN = "the network that is passed again"
#: The name of the tensor with 8 bytes of the digest of each image of the fit.
_IMAGES = "image_digests"
#: Methods whose requests for metadata a user may have changed.
_ROUTED = ("fit", "partial_fit", "score")
#: Packages whose versions a file states, by the name of their import.
_PACKAGES = ("skimbal", "torch", "numpy", "sklearn", "skorch", "imblearn", "timm", "torchvision")
#: Largest difference between the logits of a network before and after, relative to the largest
#: logit. Other processors have other rounding errors, and low precision has larger ones.
_TOLERANCE, _LOW_TOLERANCE = 0.02, 0.2
#: Errors about contents of a file that do not fit this version.
_MISFITS = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    SkorchException,
)


class Parameterised(CNNClassifier, Protocol):
    """A classifier whose parameters can be asked for."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters."""


class FittedClassifier(Parameterised, Protocol):
    """A classifier with the attributes of its fit."""

    random_state: RandomState
    classes_: np.ndarray
    input_shape_: tuple[int, ...]
    n_features_in_: int
    input_: InputForm
    net_: TrainingNet
    _seed: int
    _class_mass: np.ndarray
    _seen: RowsSeen
    _epochs_before: int
    _known_tau: float | None

    def get_metadata_routing(self) -> Any:
        """Return the requests for metadata."""


C = TypeVar("C", bound=FittedClassifier)
E = TypeVar("E", bound=Parameterised)

# To a file ----------------------------------------------------------------------------------------


def pack(estimator: FittedClassifier, notes: Notes) -> ModelFile:
    """Return the contents of a file for a fitted classifier."""
    notes.check()
    net = estimator.net_
    broken = broken_weights(net.module_)
    if broken:
        raise ValueError(
            f"a model must have weights that are finite; got a network after a training that "
            f"diverged. {broken}. Fit again with a smaller lr."
        )
    passed_again = not _makes_itself(net)
    _check_module_options(estimator)
    check_attributes(estimator, net.blueprint_)
    params = write_parameters(estimator)
    _check_training_parts(estimator, params)
    name, versions = type(estimator).__name__, _versions()
    model: dict[str, Plain] = {
        "class": name,
        "parameters": params,
        "attributes": _write_attributes(estimator),
        "blueprint": _write_blueprint(net, passed_again),
        "network": _describe_network(net, passed_again),
        "net": _write_net(net),
        "history": [_write_epoch(row) for row in net.history],
        "versions": versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    counts = dict(zip(estimator.classes_.tolist(), estimator._class_mass.tolist(), strict=True))
    card = write_card(name, notes, counts, _sections(estimator, model), left_out(params))
    return ModelFile(model, _weights(net), card, versions["skimbal"])


def _weights(net: TrainingNet) -> dict[str, Tensor]:
    traces = _traces_of_shap(net.module_)
    state = {name: v for name, v in net.module_.state_dict().items() if name not in traces}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                "module must make a network whose state consists of tensors; got "
                f"{type(value).__name__} at {name!r}. A file of a model holds no objects."
            )
    numbers = net.image_numbers_
    if numbers is not None:
        state[_IMAGES] = torch.from_numpy(numbers.view(np.uint8).reshape(-1, 8).copy())
    return state


def _traces_of_shap(module: nn.Module) -> set[str]:
    """Return the inputs and outputs that shap leaves in layers of torch as if they were weights."""
    return {
        f"{name}.{trace}"
        for name, layer in module.named_modules()
        if type(layer).__module__.startswith("torch.nn.modules.")
        and not type(layer).__module__.endswith(".container")
        for trace in ("x", "y")
        if trace in dict(layer.named_parameters(recurse=False))
    }


def write_parameters(estimator: Parameterised) -> dict[str, Plain]:
    """Return the parameters in values of JSON, with remarks in place of foreign objects."""
    params = estimator.get_params(deep=False)
    if isinstance(params.get("device"), torch.device):
        params["device"] = str(params["device"])
    options, net = params.pop("net"), getattr(estimator, "net_", None)
    written = {name: write_value(value) for name, value in params.items()}
    if net is not None and params["module"] is net.blueprint_.module and not _makes_itself(net):
        written["module"] = write_value(NotKept(_PASSED_AGAIN))
    written["net"] = None if options is None else write_options(options)
    return written


def read_parameters(plain: Mapping[str, Plain]) -> dict[str, Any]:
    """Return the parameters."""
    params = read_options({name: value for name, value in plain.items() if name != "net"})
    params["net"] = None if plain["net"] is None else read_options(plain["net"])
    return params


def _check_module_options(estimator: CNNClassifier) -> None:
    """Refuse options of the network that are not in the file, and that predictions need."""
    for name, value in (estimator.net or {}).items():
        if name.startswith("module__") and not is_kept(value):
            raise ParameterError(
                "net",
                "a dict whose module__ options are numbers, texts and lists of them in a model "
                "that is saved",
                {name: value},
                "Let a factory hold the option, such as functools.partial(factory, option=...), "
                "and pass the factory to load again.",
            )


def _check_training_parts(estimator: FittedClassifier, plain: Mapping[str, Plain]) -> None:
    """Refuse a loss, an optimizer or options that were set after the fit and cannot be loaded."""
    loaded: Any = type(estimator)(**read_parameters(plain))
    loaded._class_mass, net = estimator._class_mass, estimator.net_
    loss, optimizer, options = _training_parts(loaded, "cpu")
    blueprint = replace(net.blueprint_, compiled=False, feature_layer=None, crop_size=None)
    parts = Parts(_one_weight, (None, None), loss, optimizer, options, estimator.classes_)
    try:
        with trainable_torch(), isolated_random_state(0, "cpu"):
            blueprint.net(parts, "cpu")
        if isinstance(blueprint.module, str):
            parts = replace(parts, factory=make_factory(blueprint))
            state = {name: x for name, x in _weights(net).items() if name != _IMAGES}
            _check_size(parts, blueprint, state, None)
    except (TypeError, ValueError) as error:
        expected = "as in the fit, as a classifier is made anew by these options"
        raise ParameterError("net", expected, estimator.net, f"{error}") from error


def _one_weight(in_channels: int, n_classes: int, **options: object) -> nn.Module:
    return nn.Linear(1, 1)


def _makes_itself(net: TrainingNet) -> bool:
    """Tell whether the parameters of the network are enough to make it."""
    module, network = net.blueprint_.module, net.module_.network
    if not is_kept(module):
        return False
    facts = module.describe(network) if isinstance(module, NetworkSpec) else {}
    return facts.get("architecture", "") is not None


def _write_attributes(estimator: FittedClassifier) -> dict[str, Plain]:
    values: dict[str, object] = {
        "classes": estimator.classes_,
        "input_shape": estimator.input_shape_,
        "n_features_in": int(estimator.n_features_in_),
        "feature_names_in": getattr(estimator, "feature_names_in_", None),
        "input": estimator.input_.to_dict(),
        "seed": int(estimator._seed),
        "class_mass": estimator._class_mass,
        "rows_seen": tuple(estimator._seen),
        "epochs_before": int(estimator._epochs_before),
        "known_tau": estimator._known_tau,
        "output": vars(estimator).get("_sklearn_output_config"),
        "requests": None,
    }
    if "_metadata_request" in vars(estimator):
        routing = estimator.get_metadata_routing()
        values["requests"] = {name: dict(getattr(routing, name).requests) for name in _ROUTED}
    for name, value in values.items():
        if not is_kept(value):
            raise ValueError(
                f"a model must have attributes that a file can hold; got {value!r} for {name}."
            )
    return {name: write_value(value) for name, value in values.items()}


def _write_blueprint(net: TrainingNet, passed_again: bool) -> dict[str, Plain]:
    blueprint: Blueprint = net.blueprint_
    facts = {field.name: getattr(blueprint, field.name) for field in fields(blueprint)}
    facts["pixels"] = blueprint.pixels and asdict(blueprint.pixels)
    if passed_again:
        facts["module"] = NotKept(_PASSED_AGAIN)
    return write_options(facts)


def _describe_network(net: TrainingNet, passed_again: bool) -> dict[str, Plain]:
    module, network = net.blueprint_.module, net.module_.network
    facts = module.describe(network) if isinstance(module, NetworkSpec) else {}
    frozen = [name for name, weight in network.named_parameters() if not weight.requires_grad]
    return {
        "passed_again": _name_of(module) if passed_again else None,
        "facts": dict(facts),
        "frozen": frozen,
        "trial": try_network(net),
    }


def _name_of(module: Any) -> str:
    named = module.func if isinstance(module, functools.partial) else module
    if isinstance(named, NetworkSpec) or not hasattr(named, "__qualname__"):
        return type(named).__name__
    return f"{named.__module__}.{named.__qualname__}"


def _write_net(net: TrainingNet) -> dict[str, Plain]:
    facts = {
        "device": net.device,
        "activation_bytes": net.activation_bytes_,
        "feature_layer": net.feature_layer_,
        "n_features": net.n_features_,
        "epochs_before": net.epochs_before_,
        "has_schedule": net.lr_schedule is not None,
    }
    if net.head_trainings_:  # which files of other models, and of version 0.1.0, do not name
        facts["head_trainings"] = list(net.head_trainings_)
    # Each by itself, as predictions know which of them mirrors images.
    steps = [
        write_value(NotKept(step.text) if isinstance(step, _MissingStep) else step)
        for step in net.augmentation
    ]
    # Predictions do not mix images, so another class of the user is left out.
    steps += [write_value(mix) for mix in net.mixing_ if is_kept(mix)]
    return {**write_options(facts), "augmentation": steps}


def _write_epoch(row: Mapping[str, Any]) -> dict[str, Plain]:
    """Return the record of an epoch, without the records of its batches."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            value = value.tolist()
        return value if is_kept(value) else str(value)

    return write_options({str(n): plain(v) for n, v in row.items() if n != "batches"})


def _versions() -> dict[str, str]:
    loaded = {name: sys.modules.get(name) for name in _PACKAGES}
    found = {name: getattr(module, "__version__", None) for name, module in loaded.items()}
    of_packages = {name: str(version) for name, version in found.items() if version is not None}
    return {"python": platform.python_version(), **of_packages}


def left_out(params: Mapping[str, Plain]) -> list[str]:
    """Return the names of the parameters that a file does not hold, with their values in words."""
    values = read_parameters(params)
    values.update({f"net__{name}": value for name, value in (values["net"] or {}).items()})
    return [
        f"{name} ({value.text})"
        for name, value in values.items()
        if isinstance(value, NotKept) and value.text != _PASSED_AGAIN
    ]


def passes_left_out(estimator: FittedClassifier) -> bool:
    """Tell whether predictions take passes by a change of images that a file does not hold."""
    steps = estimator.net_.augmentation
    return is_integer(estimator.n_tta) and estimator.n_tta > 1 and not all(map(is_kept, steps))


def objects_of(estimator: Parameterised) -> dict[str, object]:
    """Return the parameters that are objects which a file does not hold."""
    params = estimator.get_params(deep=False)
    params.update({f"net__{name}": value for name, value in (params.pop("net") or {}).items()})
    found = {name: value for name, value in params.items() if not is_kept(value)}
    net = getattr(estimator, "net_", None)
    if net is not None and not _makes_itself(net):
        found.setdefault("module", net.blueprint_.module)
    return found


def with_objects(estimator: E, objects: Mapping[str, object]) -> E:
    """Return a classifier with the objects that its file did not hold."""
    for name, value in objects.items():
        if name.startswith("net__"):
            estimator.net = {**(estimator.net or {}), name[5:]: value}
        else:
            setattr(estimator, name, value)
    return estimator


def _sections(
    estimator: FittedClassifier, model: Mapping[str, Any]
) -> dict[str, dict[str, object]]:
    net, blueprint = estimator.net_, estimator.net_.blueprint_
    n_weights = sum(parameter.numel() for parameter in net.module_.parameters())
    return {
        "Input": {
            **dict(_input_facts(estimator.input_)),
            "crop": blueprint.crop_size or "none",
            "standardised": "yes" if net.module_.mean is not None else "no",
        },
        "Training": {
            "network": model["network"]["passed_again"] or blueprint.module,
            "weights": n_weights,
            **training_facts(net, estimator._epochs_before, estimator.random_state),
        },
        **head_sections(net),
        "Probabilities": _shares_in_words(estimator),
        "Versions": {**model["versions"], "date": model["date"]},
    }


def _shares_in_words(estimator: FittedClassifier) -> dict[str, object]:
    """Return the population that the probabilities are of, which need not be the training rows."""
    shares = getattr(estimator, "effective_prior_", None)
    if shares is None:
        return {"class shares that they refer to": "not known"}
    named = zip(estimator.classes_.tolist(), shares.tolist(), strict=True)
    words = ", ".join(f"{label} {100 * share:.1f} %" for label, share in named)
    return {"class shares that they refer to": words}


def _input_facts(form: InputForm) -> Iterator[tuple[str, object]]:
    """Yield the facts about the images, in words."""
    shape, axes = form.shape, ("c", *form.axes)
    yield "shape of an image", f"{shape} ({', '.join(axes)})" if form.are_images else "rows"
    yield "dtype", form.dtype
    if form.scale is not None:
        yield "scale", form.scale
    if form.pixels is not None:
        yield "least number of each channel", list(form.pixels.least)
        yield "greatest number of each channel", list(form.pixels.greatest)
    if form.files is not None:
        yield from ((n, v) for n, v in form.files.options.items() if v is not None)
        yield from ((name, "a function") for name in form.files.functions)


# From a file --------------------------------------------------------------------------------------


def unpack(
    cls: type[C], file: ModelFile, name: str, module: ModuleSpec | None, device: str | None
) -> C:
    """Return the fitted classifier of a file of this name."""
    try:
        return _unpack(cls, file, module, device)
    except _MISFITS as error:
        asked = ("module",) if device is None else ("module", "device")
        if isinstance(error, ParameterError) and error.parameter in asked:
            raise
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        lacks = f"there is no entry {error}" if isinstance(error, KeyError) else str(error)
        raise ModelFileError(
            name,
            f"It was written by skimbal {file.version}, and its contents do not fit this version: "
            f"{lacks.rstrip('.')}.",
            "Install the version of skimbal that wrote the file.",
        ) from error


def _unpack(cls: type[C], file: ModelFile, module: ModuleSpec | None, device: str | None) -> C:
    tensors = dict(file.tensors)
    images = tensors.pop(_IMAGES, None)
    file, model = replace(file, tensors=tensors), file.model
    passed_again: str | None = model["network"]["passed_again"]
    if not isinstance(passed_again, str | None):
        raise ValueError("the name of the network that is passed again is no text")
    if (module is None) != (passed_again is None):
        expected = (
            "None for this file, whose network skimbal makes itself"
            if passed_again is None
            else f"the network {passed_again} of the fit, as the file holds its weights only"
        )
        raise ParameterError("module", expected, module)
    check_names(model["parameters"], cls().get_params(deep=False))
    params = read_parameters(model["parameters"])
    if passed_again and params["module"] == NotKept(_PASSED_AGAIN):
        params["module"] = module
    estimator = cls(**params)
    place = _place(estimator, model["net"]["device"], device)
    _read_attributes(estimator, model["attributes"])
    estimator.net_ = _make_net(estimator, file, module, place)
    if images is not None:
        if images.dtype != torch.uint8 or images.shape[1:] != (8,):
            raise ValueError(f"{_IMAGES} must be of shape (n, 8) in uint8")
        estimator.net_.image_numbers_ = images.numpy().view("<u8").ravel()
    _warn_of_versions(file.model["versions"], file.model["network"]["facts"])
    return estimator


def _warn_of_versions(saved: Mapping[str, str], facts: Mapping[str, Any]) -> None:
    """Warn of another major version of the packages that compute predictions."""
    library = str(facts.get("architecture")).partition("/")[0]
    present = _versions()
    others = [
        f"{name} {saved[name]} (here {present[name]})"
        for name in ("torch", library)
        if name in saved
        and name in present
        and saved[name].partition(".")[0] != present[name].partition(".")[0]
    ]
    if others:
        warn_caller(
            f"The model was saved with {' and '.join(others)}. A trial gives the same logits but "
            "for rounding errors. Compare its predictions with predictions of then."
        )


def _place(estimator: CNNClassifier, saved: str, wanted: str | None) -> str:
    """Return the device to load to, and set the parameter if it is another than in the file."""
    if wanted is not None:
        place = check_device(wanted)
        estimator.device = wanted
        return place
    if estimator.device == "auto":
        return check_device("auto")
    place = device_at_hand(saved)
    if not is_at(place, estimator.device):
        estimator.device = place
    return place


def _read_attributes(estimator: FittedClassifier, plain: Mapping[str, Plain]) -> None:
    values = read_options(plain)
    names = values["feature_names_in"]
    estimator.classes_, estimator.input_shape_ = values["classes"], values["input_shape"]
    estimator.n_features_in_ = values["n_features_in"]
    estimator.input_ = InputForm.from_dict(values["input"])
    estimator._seed, estimator._class_mass = values["seed"], values["class_mass"]
    estimator._seen = RowsSeen(*values["rows_seen"])
    estimator._epochs_before, estimator._known_tau = values["epochs_before"], values["known_tau"]
    if names is not None:
        setattr(estimator, "feature_names_in_", names)  # noqa: B010
    if values["output"] is not None:
        setattr(estimator, "_sklearn_output_config", values["output"])  # noqa: B010
    if values["requests"] is not None:
        routing = estimator.get_metadata_routing()
        for method, requests in values["requests"].items():
            for param, alias in requests.items():
                getattr(routing, method).add_request(param=param, alias=alias)
        setattr(estimator, "_metadata_request", routing)  # noqa: B010


def _make_net(
    estimator: FittedClassifier, file: ModelFile, module: ModuleSpec | None, device: str
) -> TrainingNet:
    blueprint = _read_blueprint(estimator, file.model["blueprint"], module)
    check_attributes(estimator, blueprint)
    mean, std = (
        file.tensors[name].double().numpy() if name in file.tensors else None
        for name in ("mean", "std")
    )
    loss, optimizer, options = _training_parts(estimator, device)
    factory = _find_factory(blueprint, file, module)
    dtype = getattr(torch, blueprint.dtype)
    parts = Parts(factory, (mean, std), loss.to(dtype), optimizer, options, estimator.classes_)
    with trainable_torch(), isolated_random_state(0, device):
        if isinstance(blueprint.module, str):
            _check_size(parts, blueprint, file.tensors, module)
        try:
            net = blueprint.net(parts, device)
        except Exception as error:
            if module is None:
                raise
            cause = f"It could not be made: {type(error).__name__}: {error}"
            raise _does_not_fit(module, cause) from error
        _load_weights(net.module_, file.tensors, module)
        _read_net(net, file.model)
        _compare(net, file.model, module)
    return net


def _find_factory(
    blueprint: Blueprint, file: ModelFile, module: ModuleSpec | None
) -> Callable[..., nn.Module]:
    """Return the function that makes the network, without a download unless it is passed again."""
    found = blueprint.module
    if isinstance(found, NetworkSpec) and module is None:
        return functools.partial(_rebuild, blueprint, file.model["network"]["facts"])
    if isinstance(found, str) and found not in BUILT_IN:
        names = ", ".join(map(repr, BUILT_IN))
        raise ValueError(f"skimbal.networks.BUILT_IN has no network of the name {found!r}: {names}")
    if not isinstance(found, str | NetworkSpec) and not callable(found):
        raise ValueError(f"there is no network of the name {found!r}")
    return make_factory(blueprint)


def _check_size(
    parts: Parts, blueprint: Blueprint, state: Mapping[str, Tensor], module: ModuleSpec | None
) -> None:
    """Refuse weights of other shapes than in the file, before there is memory for them."""
    options = params_for("module", parts.options)
    with torch.device("meta"):
        network = parts.factory(blueprint.sample_shape[0], blueprint.n_classes, **options)
    here = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    there = {name: weight for name, weight in state.items() if name not in ("mean", "std")}
    _compare_shapes(here, there, module)


def _rebuild(
    blueprint: Blueprint, facts: Mapping[str, Any], in_channels: int, n_classes: int
) -> nn.Module:
    assert isinstance(blueprint.module, NetworkSpec)
    return blueprint.module.rebuild(in_channels, n_classes, blueprint.spatial_shape, facts)


def _is_lacking(value: object) -> bool:
    parts = value.values() if isinstance(value, Mapping) else [value]
    return any(isinstance(part, NotKept) for part in parts)


def _read_blueprint(
    estimator: FittedClassifier, plain: Mapping[str, Plain], module: ModuleSpec | None
) -> Blueprint:
    facts = read_options(plain)
    if module is not None:
        facts["module"] = module
    facts["pixels"] = facts["pixels"] and PixelRange(**facts["pixels"])
    lacks = [name for name in ("optimizer", "net") if _is_lacking(getattr(estimator, name))]
    if isinstance(facts["sampler"], NotKept):
        facts["sampler"] = "uniform"
        lacks.append("sampler")
    facts["lacks"] = tuple(dict.fromkeys([*facts["lacks"], *lacks]))
    return Blueprint(**facts)


def _training_parts(
    estimator: FittedClassifier, device: str
) -> tuple[MixedLoss | ModuleLoss, type[torch.optim.Optimizer], dict[str, Any]]:
    """Return loss, optimizer and options, with a default where the file does not hold them.

    Training asks for all of them before it begins. Predictions use none.
    """
    options: dict[str, Any] = dict(estimator.net or {})
    optimizer: Any = estimator.optimizer
    # The options of an object that is not there would be options of its default.
    missing = [name for name, value in options.items() if isinstance(value, NotKept)]
    without = ["callbacks__", *(f"{name}__" for name in missing)]
    if isinstance(optimizer, NotKept):
        optimizer, without = "adamw", ["optimizer__", *without]
    given = {
        name: value
        for name, value in options.items()
        if name not in missing and not name.startswith(tuple(without))
    }
    optimizer = find_optimizer(optimizer)
    loss = "ce" if isinstance(estimator.loss, NotKept) else estimator.loss
    return (
        get_loss(loss, estimator._class_mass),
        optimizer,
        net_options(given, optimizer, device),
    )


def _load_weights(
    network: nn.Module, state: Mapping[str, Tensor], module: ModuleSpec | None
) -> None:
    """Load weights, or say which of them do not fit."""
    here = network.state_dict()
    _compare_shapes(here, state, module)
    other = [
        f"{name} ({state[name].dtype} for {weight.dtype})"
        for name, weight in here.items()
        if state[name].dtype != weight.dtype
    ]
    if other:
        raise _does_not_fit(module, f"Weights have another dtype, such as {other[0]}.")
    network.load_state_dict(dict(state))


def _compare_shapes(
    here: Mapping[str, Tensor], state: Mapping[str, Tensor], module: ModuleSpec | None
) -> None:
    faults = {
        "missing": [name for name in here if name not in state],
        "not in the network": [name for name in state if name not in here],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(weight.shape)}"
            for name, weight in here.items()
            if name in state and state[name].shape != weight.shape
        ],
    }
    found = [
        f"{len(names)} {fault} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for fault, names in faults.items()
        if names
    ]
    if found:
        raise _does_not_fit(module, f"Weights are {'; '.join(found)}.")


def _does_not_fit(module: ModuleSpec | None, reason: str) -> ValueError:
    if module is None:
        return ValueError(reason)
    return ParameterError("module", "the network of the fit", module, reason)


def _read_net(net: TrainingNet, model: Mapping[str, Any]) -> None:
    plain = dict(model["net"])
    steps = [read_value(step) for step in plain.pop("augmentation")]
    steps = [_MissingStep(step.text) if isinstance(step, NotKept) else step for step in steps]
    facts = read_options(plain)
    check_net(facts, steps)
    net.augmentation, net.mixing_ = divide_steps(steps)
    net.activation_bytes_ = facts["activation_bytes"]
    net.feature_layer_, net.n_features_ = facts["feature_layer"], facts["n_features"]
    net.epochs_before_ = facts["epochs_before"]
    net.head_trainings_ = tuple(facts.get("head_trainings", ()))
    if not facts["has_schedule"]:
        net.lr_schedule = None
    net.history = History([{"batches": [], **read_options(row)} for row in model["history"]])
    frozen = set(model["network"]["frozen"])
    network: Any = net.module_.network
    if not frozen and hasattr(network, "unfreeze"):
        network.unfreeze()
    for name, weight in network.named_parameters():
        weight.requires_grad_(name not in frozen)


class _MissingStep(nn.Module):
    """A change of images that a file could not hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def forward(self, images: Tensor) -> Tensor:
        raise ParameterError(
            "n_tta",
            "'auto', 'flips' or 1 for this loaded classifier",
            "several passes",
            f"They change the images by {self.text}, which the file of the model does not hold.",
        )


def _compare(net: TrainingNet, model: Mapping[str, Any], module: ModuleSpec | None) -> None:
    """Refuse a network that computes something else with the weights of the file."""
    expected = model["network"]["trial"]
    if expected is None:
        return
    error = np.abs(trial_logits(net) - expected).max()
    tolerance = _TOLERANCE if net.autocast is None else _LOW_TOLERANCE
    if not error <= tolerance * max(1.0, np.abs(expected).max()):
        raise _does_not_fit(
            module,
            "The weights fit, and the network computes other logits with them than in the fit "
            f"(the largest difference is {error:.2g})",
        )
