"""Checksums of values and of the code that they run, the same in every process."""

import copyreg
import dis
import enum
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from skimbal.fingerprints.bytecode import codes_in, globals_in, imports_in, names_in, passed_on
from skimbal.fingerprints.versions import (
    installed_version,
    is_extension,
    source_digest,
    version_of_module,
)

__all__ = ["UndescribedError", "code_digest"]

#: Built-in functions that run or find code by text, which nobody knows before.
_DYNAMIC = {"eval", "exec", "globals", "__import__"}
#: Names with which a function can read an attribute that its code does not name.
_ANY_ATTRIBUTE = {"getattr", "vars", "__dict__", "attrgetter"}
#: Names with which a function can read the names of its local variables.
_NAMES_OF_LOCALS = {"locals", "vars", "dir"}
#: Attributes of a class that Python writes, and that hold no behaviour.
_OF_EVERY_CLASS = {
    *("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__annotate__"),
    *("__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__"),
    *("__slotnames__", "__qualname__", "__orig_bases__", "__parameters__", "__match_args__"),
    *("__dataclass_fields__", "__dataclass_params__", "__abstractmethods__", "_abc_impl"),
}
#: Objects without a state that changes a result.
_STATELESS: tuple[type, ...] = (
    type(threading.Lock()),
    type(threading.RLock()),
    weakref.WeakKeyDictionary,
    weakref.WeakValueDictionary,
    weakref.WeakSet,
)
_LRU_CACHE = type(functools.lru_cache(len))
_C_DESCRIPTORS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented))


class UndescribedError(ValueError):
    """A value has no description that would change with its behaviour."""


def code_digest(value: object, name: str) -> str:
    """Return a checksum of a value, of the code that it runs and of the data that the code reads.

    Code is bytecode: comments, docstrings, line breaks and names of local variables do not count.
    A function counts with its defaults, closure and attributes, with the functions, classes and
    other globals that it names, and with the modules that it imports. A class counts with its bases
    and metaclass. An installed package counts with its version and the checksums of its files.

    Parameters
    ----------
    value : object
        Such as a function, a class, an object, an array, or containers of them.
    name : str
        Name of the value in an error.

    Returns
    -------
    digest : str
        Hexadecimal digits. Another version of Python gives others.

    Raises
    ------
    UndescribedError
        If a part cannot be described, such as an open file. The message names the part.
    """
    description = _Description({}, [name])
    try:
        description.add(value)
    except RecursionError as error:
        raise UndescribedError(f"{name} is nested too deeply to be described") from error
    return description.hexdigest()


class _Description:
    """A checksum that grows by the parts of a value."""

    def __init__(self, seen: dict[object, tuple[int, object]], trail: list[str]) -> None:
        self._total = hashlib.blake2b(digest_size=16)
        #: Numbers of the objects on the way here. The objects are held, so that ids stay theirs.
        self._seen, self._trail = seen, trail

    def hexdigest(self) -> str:
        """Return the checksum of all parts."""
        return self._total.hexdigest()

    def _write(self, *texts: str) -> None:
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            self._total.update(b"%d:" % len(data) + data)

    def _refuse(self, value: object, reason: str) -> UndescribedError:
        where = " of ".join(reversed(self._trail))
        kind = type(value)
        return UndescribedError(
            f"{where} cannot be described: {kind.__module__}.{kind.__qualname__}, {reason}"
        )

    @contextmanager
    def _within(self, part: str) -> Iterator[None]:
        self._trail.append(part)
        yield
        self._trail.pop()  # an error needs the trail as it is

    def _is_known(self, value: object, key: object) -> bool:
        """Note an object, or write the number of one that has been described."""
        if key in self._seen:
            self._write("seen", str(self._seen[key][0]))
            return True
        self._seen[key] = len(self._seen), value
        return False

    def add(self, value: object) -> None:
        """Add a value of any kind."""
        if type(value) in _PLAIN:
            self._write(type(value).__name__, repr(value))
        elif type(value) in (tuple, frozenset):  # constants: whether two are one is chance
            self._add_items(value)
        elif isinstance(value, types.ModuleType):
            self._add_module(value, None)
        elif not self._is_known(value, id(value)):
            add = next((add for kinds, add in _KINDS if isinstance(value, kinds)), None)
            if type(value) in (list, dict, set):
                self._add_items(value)
            elif add is not None:
                add(self, value)
            else:
                self._add_instance(value)

    def _add_items(self, value: Any) -> None:
        self._write(type(value).__name__, str(len(value)))
        if isinstance(value, Mapping):
            for key, item in value.items():
                self.add(key)
                with self._within(f"entry {key!r}"):
                    self.add(item)
        elif isinstance(value, set | frozenset):
            # Their order differs between processes.
            digests = [f"{type(item).__name__} {item!r}" for item in value if type(item) in _PLAIN]
            for item in value:
                if type(item) in _PLAIN:
                    continue
                single = _Description(dict(self._seen), list(self._trail))
                single.add(item)
                digests.append(single.hexdigest())
            self._write(*sorted(digests))
        else:
            for item in value:
                self.add(item)

    def _add_named(self, kind: str, values: Iterable[tuple[str, object]]) -> None:
        for name, value in values:
            self._write(name)
            with self._within(f"{kind} {name!r}"):
                self.add(value)

    def _add_array(self, value: Any) -> None:
        if type(value) not in (np.ndarray, np.memmap):
            self._add_instance(value)
            return
        self._write("array", str(value.shape), repr(value.dtype))
        if value.dtype.hasobject:
            self.add(value.tolist())
        else:
            self._total.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)

    def _add_tensor(self, value: Any) -> None:
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.is_sparse:
            self._add_instance(value)
            return
        self._write("tensor", str(tuple(value.shape)), str(value.dtype))
        data = value.detach().cpu().contiguous().reshape(-1)
        self._total.update(data.view(torch.uint8).numpy().data)

    def _add_ufunc(self, value: Any) -> None:
        homes = [np, sys.modules.get("scipy.special")]
        if not any(getattr(home, value.__name__, None) is value for home in homes):
            raise self._refuse(value, "which hides the function that it calls")
        self._write("ufunc", value.__name__)

    def _add_function(self, function: Any) -> None:
        version = installed_version(function.__globals__.get("__file__"))
        name = function.__qualname__
        if version and _is_importable(function):
            self._write("function", function.__module__, name, version)
            return
        self._write("function", name, version or "")
        names = names_in(function.__code__)
        self._add_code(function.__code__, names)
        arguments = function.__code__.co_varnames
        self._add_named("default", zip(arguments, function.__defaults__ or (), strict=False))
        self._add_named("default", sorted((function.__kwdefaults__ or {}).items()))
        self._add_named("attribute", sorted(vars(function).items()))
        for variable, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            with self._within(f"variable {variable!r}"):
                try:
                    self._add_as_used(cell.cell_contents, names)
                except ValueError as error:
                    if isinstance(error, UndescribedError):
                        raise
                    self._write("empty")
        if not version:
            self._add_globals(function, names)

    def _add_as_used(self, value: object, names: frozenset[str] | None) -> None:
        """Add a value of which code with these names, or with any names, uses attributes."""
        if isinstance(value, types.ModuleType):
            self._add_module(value, names)
        else:
            self.add(value)

    def _add_code(self, code: types.CodeType, names: frozenset[str]) -> None:
        n_arguments = code.co_argcount + code.co_kwonlyargcount
        n_arguments += sum(bool(code.co_flags & flag) for flag in (4, 8))  # *args and **kwargs
        n_shown = len(code.co_varnames) if names & _NAMES_OF_LOCALS else n_arguments
        self._write(
            importlib.util.MAGIC_NUMBER.hex(),
            str((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)),
            str(code.co_flags & ~0x4000000),  # without the mark of a docstring
            *code.co_varnames[:n_shown],
            code.co_exceptiontable.hex(),
        )
        for step in dis.get_instructions(code):
            if step.opcode in dis.hasconst:
                self._write(step.opname)
                if isinstance(step.argval, types.CodeType):
                    self._add_code(step.argval, names)
                else:
                    self.add(step.argval)
            elif step.opcode in dis.hasname:
                self._write(step.opname, str(step.argval), str((step.arg or 0) & 1))
            else:
                self._write(step.opname, str(step.arg))

    def _add_globals(self, function: Any, names: frozenset[str]) -> None:
        """Add the global variables that a function names, and the modules that it imports."""
        space, built_in = function.__globals__, vars(importlib.import_module("builtins"))
        passed = passed_on(function.__code__)
        for name in sorted(globals_in(function.__code__)):
            with self._within(f"global {name!r}"):
                value = space.get(name, built_in.get(name))
                if value is built_in.get(name) and name in _DYNAMIC:
                    raise self._refuse(value, "which finds code by text when it runs")
                if name in space or name in built_in:
                    self._write(name)
                    self._add_as_used(value, None if name in passed else names)
        if "import_module" in names:
            raise self._refuse(function, "which imports a module by text when it runs")
        for name, variable in sorted(imports_in(function.__code__, space.get("__package__"))):
            with self._within(f"module {name!r}"):
                self._add_import(name, None if variable in passed else names)
        if names & {"environ", "getenv"}:
            texts = {c for code in codes_in(function.__code__) for c in code.co_consts}
            variables = sorted(text for text in texts if isinstance(text, str) and text)
            self._add_named("variable", ((name, os.environ.get(name)) for name in variables))

    def _add_import(self, name: str, names: frozenset[str] | None) -> None:
        parts = name.split(".")
        for n in range(1, len(parts) + 1):
            module_name = ".".join(parts[:n])
            if module_name not in sys.modules:
                try:
                    spec = importlib.util.find_spec(module_name)
                    version = None if spec is None else installed_version(spec.origin)
                    if version:  # an import may take seconds
                        self._write("module", module_name, version)
                        return
                    importlib.import_module(module_name)
                except (ImportError, ValueError):
                    self._write("missing", module_name)
                    return
            self._add_module(sys.modules[module_name], names)

    def _add_module(self, module: types.ModuleType, names: frozenset[str] | None) -> None:
        """Add the attributes of a module that have one of the names, or all of them."""
        if self._is_known(module, (id(module), names)):
            return
        version = version_of_module(module)
        self._write("module", module.__name__, version or "")
        content = vars(module)
        if names is None or (not version and names & _ANY_ATTRIBUTE):
            chosen = {name for name in content if not version and name[:2] != "__"}
        else:
            chosen = set(names & content.keys())
        for name in sorted(chosen):
            value = content[name]
            if version and not (isinstance(value, types.ModuleType) or _may_be_edited(value)):
                continue
            self._write(name)
            with self._within(f"{name!r}"):
                self._add_as_used(value, names)
        if not version and is_extension(module):
            self._write(source_digest(str(module.__file__)))

    def _add_class(self, value: Any) -> None:
        version = version_of_module(sys.modules.get(value.__module__))
        self._write("class", value.__qualname__, version or "")
        if version and _is_importable(value):
            self._write(value.__module__)
            return
        self.add(type(value))
        self.add(tuple(value.__bases__))
        own = {name: item for name, item in vars(value).items() if name not in _OF_EVERY_CLASS}
        self._add_named("attribute", sorted(own.items()))

    def _add_accessor(self, value: Any) -> None:
        names = ("__func__", "fget", "fset", "fdel", "func", "__wrapped__")
        self._write(type(value).__name__)
        parts = [getattr(value, name, None) for name in names]
        for part in parts[:5] if any(parts[:5]) else parts:
            self.add(part)

    def _add_method(self, value: Any) -> None:
        self._write("method", value.__name__)
        with self._within(f"method {value.__name__!r}"):
            self.add(value.__func__)
            self.add(value.__self__)

    def _add_built_in(self, value: Any) -> None:
        owner = getattr(value, "__self__", None)
        self._write("built-in", value.__qualname__)
        if owner is None or isinstance(owner, types.ModuleType):
            self._add_place(value)
        else:
            self.add(owner)

    def _add_descriptor(self, value: Any) -> None:
        # The class that it belongs to is described where the descriptor is found.
        self._write("descriptor", value.__qualname__)

    def _add_place(self, value: Any) -> None:
        """Add the version or the file of compiled code."""
        module = sys.modules.get(value.__module__ or "builtins")
        version = version_of_module(module)
        if not version:
            if module is None or not is_extension(module):
                raise self._refuse(value, "which is not Python code of a known module")
            version = source_digest(str(module.__file__))
        self._write(str(value.__module__), version)

    def _add_member(self, value: Any) -> None:
        self._write("member", value._name_)
        self.add(type(value))
        self.add(value._value_)

    def _add_instance(self, value: Any) -> None:
        """Add an object: its class, and its state as pickle and copy see it."""
        kind = type(value)
        self.add(kind)
        try:
            reduce = copyreg.dispatch_table.get(kind)
            parts: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:
            raise self._refuse(value, f"which has no state to compare ({error})") from error
        if isinstance(parts, str):
            self._write(parts)
            self._add_place(value)
            return
        function, arguments, state, items, pairs = (*parts, None, None, None)[:5]
        self.add(function)
        for part in (arguments, state, *(None if i is None else list(i) for i in (items, pairs))):
            self.add(part)
        # A __getstate__ of the user may leave attributes out.
        if version_of_module(sys.modules.get(kind.__module__)) is None:
            self._add_named("attribute", sorted(getattr(value, "__dict__", {}).items()))


#: Kinds of values that need a special description.
_KINDS: tuple[tuple[Any, Callable[[_Description, Any], None]], ...] = (
    (_STATELESS, lambda description, value: description.add(type(value))),
    (np.ndarray, _Description._add_array),
    (torch.Tensor, _Description._add_tensor),
    (np.ufunc, _Description._add_ufunc),
    (types.FunctionType, _Description._add_function),
    (types.MethodType, _Description._add_method),
    (types.CodeType, lambda description, value: description._add_code(value, names_in(value))),
    (type, _Description._add_class),
    ((types.BuiltinFunctionType, types.MethodWrapperType), _Description._add_built_in),
    (_C_DESCRIPTORS, _Description._add_descriptor),
    ((property, staticmethod, classmethod, functools.cached_property), _Description._add_accessor),
    (_LRU_CACHE, _Description._add_accessor),
    (types.MappingProxyType, lambda description, value: description.add(dict(value))),
    (enum.Enum, _Description._add_member),
)


def _is_importable(value: Any) -> bool:
    """Tell whether a function or class is found under its name in its module."""
    # A wrapper has the name of the function that it wraps.
    if getattr(value, "__globals__", {}).get("__name__", value.__module__) != value.__module__:
        return False
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _may_be_edited(value: object) -> bool:
    """Tell whether an attribute of an installed module may be the user's."""
    if isinstance(value, types.FunctionType):
        return installed_version(value.__globals__.get("__file__")) is None
    if isinstance(value, type):
        return version_of_module(sys.modules.get(value.__module__)) is None
    return type(value) in _PLAIN
