"""The states of objects as text and tensors, and how an equal object takes over such a state.

A state holds data only: numbers, texts, containers, tensors, arrays, and the states of random
generators. Everything else stays as it is in the object that takes over the state, so no code of a
file runs.
"""

import enum
import functools
import inspect
import json
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from skimbal.fingerprints.bytecode import globals_in, names_in
from skimbal.fingerprints.versions import installed_version, version_of_module

__all__ = ["Packed", "StateMismatchError", "has_state", "pack", "unpack"]

#: A value as JSON has it: a scalar, or a list of a tag and its parts.
Node: TypeAlias = Any

#: Attributes of every module that hold functions, or marks of torch.
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {
    "_parameters",
    "_buffers",
    "_modules",
    "training",
}
_SCALARS = (bool, int, float, str, type(None))
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
_CODE = (types.FunctionType, types.MethodType, functools.partial)
_SEQUENCES: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
#: Texts of values that are written as texts, and how they are read.
_TEXTS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], object]]] = {
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "complex": (complex, str, complex),
    "dtype": (torch.dtype, lambda dtype: str(dtype)[6:], lambda name: getattr(torch, name)),
    "device": (torch.device, str, torch.device),
    "path": (Path, str, Path),
}
_MISSING = object()


class StateMismatchError(ValueError):
    """An object cannot take over a state, which is the state of a different object."""


@dataclass(frozen=True)
class Packed:
    """The state of an object: a text in JSON, and the tensors that it names by their numbers."""

    text: str
    tensors: list[Tensor]
    #: Paths and classes of objects of other packages, whose contents the state lacks.
    left_out: list[str]


def pack(value: object) -> Packed:
    """Return the state of an object, of its parts, and of generators that its functions read."""
    packer = _Packer()
    node = packer.pack(value, "")
    return Packed(json.dumps(node), packer.tensors, packer.left_out)


def unpack(packed: Packed, live: object, device: str) -> Callable[[], None]:
    """Return a function that lets an object take over a state. Nothing changes before its call.

    Raises
    ------
    StateMismatchError
        If the object is not made as the object whose state was packed.
    """
    unpacker = _Unpacker(packed.tensors, device)
    try:
        unpacker.restored(json.loads(packed.text), live, "")
    except StateMismatchError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise StateMismatchError(f"the state has another form ({error!r})") from error

    @torch.no_grad()
    def apply() -> None:
        for action in unpacker.actions:
            action()

    return apply


class _Packer:
    """Turns values into nodes."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.left_out: list[str] = []
        self._seen: dict[int, tuple[int, object]] = {}

    def pack(self, value: Any, path: str) -> Node:
        """Return the node of a value of any kind."""
        if type(value) in _SCALARS:
            return value
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)][0]]
        self._seen[id(value)] = len(self._seen), value
        for kinds, method in _PACKERS:
            if isinstance(value, kinds):
                return method(self, value, path)
        for tag, (kind, write, _) in _TEXTS.items():
            if isinstance(value, kind):
                return [tag, write(value)]
        if _has_state_dict(value):
            return ["state_dict", _name(value), self.pack(value.state_dict(), path)]
        if _is_walked(value):
            return self._pack_object(value, path)
        self.left_out.append(f"{path} ({_name(value)})")
        return ["same", _name(value)]

    def _pack_sequence(self, value: Any, path: str) -> Node:
        tag = next((tag for tag, kind in _SEQUENCES.items() if isinstance(value, kind)), "list")
        return [tag, [self.pack(item, f"{path}[{i}]") for i, item in enumerate(value)]]

    def _pack_mapping(self, value: Any, path: str) -> Node:
        pairs = value.items()
        return ["dict", [[self.pack(k, path), self.pack(v, f"{path}[{k!r}]")] for k, v in pairs]]

    def _pack_tensor(self, value: Tensor, path: str) -> Node:
        tensor = value.detach().cpu()
        if tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size():
            tensor = tensor.clone()  # a view, without the rest of its memory
        self.tensors.append(tensor)
        is_parameter = isinstance(value, nn.Parameter)
        on_device = value.device.type != "cpu"
        return ["tensor", len(self.tensors) - 1, on_device, is_parameter, value.requires_grad]

    def _pack_array(self, value: Any, path: str) -> Node:
        shape = list(value.shape)
        if value.dtype.hasobject:
            return ["objects", shape, self.pack(value.ravel().tolist(), path)]
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        self.tensors.append(torch.from_numpy(data.copy()))
        tag = "number" if isinstance(value, np.generic) else "array"
        dtype = value.dtype.str if value.dtype.names is None else value.dtype.descr
        return [tag, shape, len(self.tensors) - 1, dtype]

    def _pack_generator(self, value: Any, path: str) -> Node:
        return ["generator", _name(value), self.pack(_get_state(value), path)]

    def _pack_object(self, value: Any, path: str) -> Node:
        given = _given_attributes(value)
        parts = {}
        for name, item in vars(value).items():
            if isinstance(value, nn.Module) and name in _OF_EVERY_MODULE:
                continue
            if name in given and isinstance(item, np.ndarray | Tensor):
                continue
            n_left_out = len(self.left_out)
            parts[name] = self.pack(item, f"{path}.{name}")
            if name in given:  # such as a writer, which the user has passed again
                del self.left_out[n_left_out:]
        return ["object", _name(value), parts]

    def _pack_code(self, value: Any, path: str) -> Node:
        parts = [(name, self.pack(item, f"{path}.{name}")) for name, item in _read_by(value)]
        return ["object", _name(value), dict(parts)]

    def _pack_member(self, value: enum.Enum, path: str) -> Node:
        return ["member", _name(value), value.name]

    def _pack_same(self, value: object, path: str) -> Node:
        return ["same", _name(value)]


#: Kinds of values, each with its method. The first that fits is taken.
_PACKERS: tuple[tuple[Any, Callable[[_Packer, Any, str], Node]], ...] = (
    (Tensor, _Packer._pack_tensor),
    ((np.ndarray, np.generic), _Packer._pack_array),
    (_GENERATORS, _Packer._pack_generator),
    (nn.Module, _Packer._pack_object),
    (MutableMapping, _Packer._pack_mapping),
    ((list, tuple, set, frozenset, deque), _Packer._pack_sequence),
    (_CODE, _Packer._pack_code),
    (enum.Enum, _Packer._pack_member),
    ((type, types.ModuleType, types.BuiltinFunctionType), _Packer._pack_same),
    ((NeuralNet, Dataset), _Packer._pack_same),
)


class _Unpacker:
    """Finds the values of nodes, and the changes of objects that are there already."""

    def __init__(self, tensors: list[Tensor], device: str) -> None:
        self.actions: list[Callable[[], object]] = []
        self._tensors, self._device = tensors, device
        self._seen: list[Any] = []

    def restored(self, node: Node, live: Any, path: str) -> Any:
        """Return the value of a node: the living object where there is one that can take it."""
        if not isinstance(node, list):
            return node
        tag, *parts = node
        if tag == "seen":
            return self._seen[parts[0]]
        number = len(self._seen)
        self._seen.append(live)
        if tag in _TEXTS:
            value = _TEXTS[tag][2](parts[0])
        elif tag == "list" or tag in _SEQUENCES:
            value = self._sequence(tag, parts[0], live, path)
        else:
            value = getattr(self, f"_{tag}")(*parts, live=live, path=path)
        self._seen[number] = value
        return value

    def _sequence(self, tag: str, nodes: list[Node], live: Any, path: str) -> Any:
        kind = _SEQUENCES.get(tag, list)
        known = list(live) if isinstance(live, kind) else []
        known += [_MISSING] * (len(nodes) - len(known))
        items = [self.restored(node, known[i], f"{path}[{i}]") for i, node in enumerate(nodes)]
        if tag == "tuple" and isinstance(live, tuple):
            is_named = hasattr(live, "_fields")
            return type(live)(*items) if is_named else type(live)(items)
        if tag in ("tuple", "frozenset") or not isinstance(live, kind):
            return kind(items)

        def refill() -> None:
            live.clear()
            (live.update if tag == "set" else live.extend)(items)

        self.actions.append(refill)
        return live

    def _dict(self, pairs: list[list[Node]], live: Any, path: str) -> Any:
        target: Any = live if isinstance(live, MutableMapping) else {}
        items = []
        for key_node, node in pairs:
            key = self.restored(key_node, _MISSING, path)
            items.append((key, self.restored(node, target.get(key, _MISSING), f"{path}[{key!r}]")))

        def refill() -> None:
            target.clear()
            for key, item in items:
                target[key] = item

        self.actions.append(refill)
        return target

    def _tensor(
        self, i: int, on_device: bool, is_parameter: bool, grad: bool, live: Any, path: str
    ) -> Tensor:
        tensor = self._tensors[i]
        fits = isinstance(live, Tensor) and (live.shape, live.dtype) == (tensor.shape, tensor.dtype)
        if not fits and is_parameter:
            raise StateMismatchError(f"{path} has no weights of shape {tuple(tensor.shape)}")
        if not fits:
            return tensor.to(self._device if on_device else "cpu")
        if live.is_leaf:
            self.actions.append(lambda: live.requires_grad_(grad))
        self.actions.append(lambda: live.copy_(tensor))
        return live  # type: ignore[no-any-return]

    def _array(self, shape: list[int], i: int, dtype: Node, live: Any, path: str) -> np.ndarray:
        value: np.ndarray = self._tensors[i].numpy().view(_dtype(dtype)).reshape(shape)
        if not isinstance(live, np.ndarray) or not live.flags.writeable:
            return value
        if (live.shape, live.dtype) != (value.shape, value.dtype):
            return value
        self.actions.append(lambda: np.copyto(live, value))
        return live

    def _number(self, shape: list[int], i: int, dtype: Node, live: Any, path: str) -> Any:
        return self._tensors[i].numpy().view(_dtype(dtype))[0]

    def _objects(self, shape: list[int], node: Node, live: Any, path: str) -> np.ndarray:
        items = self.restored(node, _MISSING, path)
        value = np.empty(len(items), dtype=object)
        self.actions.append(lambda: value.put(range(len(items)), items))
        return value.reshape(shape)

    def _generator(self, name: str, node: Node, live: Any, path: str) -> Any:
        self._check(name, live, path)
        state = self.restored(node, _MISSING, path)
        self.actions.append(lambda: _set_state(live, state))
        return live

    def _state_dict(self, name: str, node: Node, live: Any, path: str) -> Any:
        self._check(name, live, path)
        state = self.restored(node, _MISSING, path)
        self.actions.append(lambda: live.load_state_dict(state))
        return live

    def _object(self, name: str, parts: dict[str, Node], live: Any, path: str) -> Any:
        self._check(name, live, path)
        known = dict(_read_by(live)) if isinstance(live, _CODE) else vars(live)
        for attribute, node in parts.items():
            there = known.get(attribute, _MISSING)
            item = self.restored(node, there, f"{path}.{attribute}")
            if item is not there and not isinstance(live, _CODE):
                self.actions.append(functools.partial(known.__setitem__, attribute, item))
        return live

    def _member(self, name: str, member: str, live: Any, path: str) -> Any:
        self._check(name, live, path)
        return type(live)[member]

    def _same(self, name: str, live: Any, path: str) -> Any:
        self._check(name, live, path)
        return live

    def _check(self, name: str, live: Any, path: str) -> None:
        if live is _MISSING:
            raise StateMismatchError(f"{path.lstrip('.')} is missing, and was a {name}")
        if _name(live) != name:
            raise StateMismatchError(f"{path.lstrip('.')} is a {_name(live)}, and was a {name}")


def has_state(value: object) -> bool:
    """Tell whether an object gives its state, or its attributes are the state."""
    return _has_state_dict(value) or _is_walked(value)


def _has_state_dict(value: object) -> bool:
    names = ("state_dict", "load_state_dict")
    return not isinstance(value, type) and all(callable(getattr(value, n, None)) for n in names)


def _dtype(text: Node) -> np.dtype[Any]:
    """Return a dtype of numpy by its text, or by the names and texts of its fields."""
    return np.dtype(text if isinstance(text, str) else [tuple(field) for field in text])


def _name(value: object) -> str:
    named: Any = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _is_walked(value: object) -> bool:
    """Tell whether the attributes of an object are its state, as for classes of the user."""
    if not hasattr(value, "__dict__"):
        return False
    is_installed = version_of_module(sys.modules.get(type(value).__module__)) is not None
    return not is_installed or isinstance(value, Callback | Sampler | DataLoader)


def _given_attributes(value: object) -> Any:
    """Return the names of the attributes of a callback that its constructor has been given."""
    if not isinstance(value, Callback):
        return ()
    return inspect.signature(type(value)).parameters


def _read_by(value: Any) -> Iterator[tuple[str, object]]:
    """Yield the generators that a function reads, and functions and objects that may have some."""
    if isinstance(value, types.MethodType):
        yield from (("self", value.__self__), ("function", value.__func__))
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif installed_version(value.__globals__.get("__file__")) is None:
        names = names_in(value.__code__)
        space = value.__globals__
        found = {name: space[name] for name in sorted(globals_in(value.__code__) & space.keys())}
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            found[name] = getattr(cell, "cell_contents", None)
        for name, item in list(found.items()):
            if isinstance(item, types.ModuleType) and version_of_module(item) is None:
                content = vars(item)
                found |= {
                    f"{name}.{part}": content[part] for part in sorted(names & content.keys())
                }
        for name, item in found.items():
            is_of_user = not isinstance(item, type | types.ModuleType) and _is_walked(item)
            if is_of_user or isinstance(item, _GENERATORS + _CODE):
                yield name, item


def _get_state(generator: Any) -> object:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
