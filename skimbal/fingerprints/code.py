"""Checksums of values and of the code that they run, the same in every process."""

import copyreg
import dis
import enum
import functools
import importlib
import importlib.util
import os
import sys
import threading
import types
import weakref
from collections.abc import Iterable, Iterator, Set
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from skimbal.fingerprints.bytecode import (
    globals_in,
    imports_in,
    names_in,
    passed_on,
    written_in,
)
from skimbal.fingerprints.objects import ValueChecksum
from skimbal.fingerprints.parts import UndescribedError
from skimbal.fingerprints.patches import LRU_CACHE, edited_attributes, may_be_edited
from skimbal.fingerprints.versions import (
    installed_version,
    is_extension,
    source_digest,
    version_of_module,
)

__all__ = ["code_digest", "code_parts", "is_importable"]

#: Built-in functions that run or find code by text, which nobody knows before.
_DYNAMIC = {"eval", "exec", "globals", "__import__"}
#: Functions that import a module by text, and the module with another one.
_IMPORTING = {"import_module", "resolve_name", "run_module", "pydoc"}
#: Names with which a function can read an attribute that its code does not name.
_ANY_ATTRIBUTE = {"getattr", "vars", "__dict__", "attrgetter"}
#: Names with which a function can read the names of its local variables.
_NAMES_OF_LOCALS = {"locals", "vars", "dir"}
#: Names with which a function can read docstrings, or annotations.
_READS_DOCSTRINGS = {"__doc__", "getdoc"}
_READS_ANNOTATIONS = {"__annotations__", "get_type_hints", "get_annotations", "signature"}
#: Attributes of a class that Python writes, and that hold no behaviour.
_OF_EVERY_CLASS = {
    *("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__annotate__"),
    *("__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__"),
    *("__slotnames__", "__qualname__", "__orig_bases__", "__parameters__", "__type_params__"),
    *("__dataclass_params__", "__abstractmethods__", "_abc_impl"),
}
#: Objects without a state that changes a result.
_STATELESS: tuple[type, ...] = (
    type(threading.Lock()),
    type(threading.RLock()),
    weakref.WeakKeyDictionary,
)
_C_DESCRIPTORS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


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
    return code_parts(value, name)[0]


def code_parts(value: object, name: str, texts: Iterable[str] = ()) -> tuple[str, dict[str, str]]:
    """Return the checksum of :func:`code_digest`, and texts or digits of parts by their names.

    Other parameters may have texts with which the code finds a file.
    """
    description = _Description((name,))
    description.mentions.texts.update(texts)
    try:
        description.add(value)
        description.add_waiting()
        description.add_mentioned()
        return description.hexdigest(), description.parts
    except RecursionError as error:
        raise UndescribedError(f"{name} is nested too deeply to be described") from error


class _Description(ValueChecksum):
    """A checksum of a value and of the code that it runs."""

    def _add_function(self, function: Any) -> None:
        version = installed_version(function.__globals__.get("__file__"))
        name = function.__qualname__
        if version and is_importable(function):
            self.write("function", function.__module__, name, version)
            return
        self.write("function", name, version or "")
        self.wait(lambda: self._add_function_of_user(function, is_installed=bool(version)))

    def _add_function_of_user(self, function: Any, *, is_installed: bool) -> None:
        code = function.__code__
        names, written = names_in(code), written_in(code)
        self.written = written
        with self.within("code"):
            self._add_code(code, names)
        self.written = frozenset()
        defaults = function.__defaults__ or ()
        last = code.co_varnames[: code.co_argcount][code.co_argcount - len(defaults) :]
        self.add_named("default", zip(last, defaults, strict=False), written)
        self.add_named("default", sorted((function.__kwdefaults__ or {}).items()), written)
        self.add_named("attribute", sorted(vars(function).items()))
        self._add_texts(function, names)
        cells = function.__closure__ or ()
        held = dict(zip(code.co_freevars, map(_content_of, cells), strict=True))
        for variable, content in held.items():
            with self.within(f"variable {variable!r}", *content):
                self.write("" if content else "empty")
                for value in content:
                    self._add_as_used(variable, value, names, written)
        if not is_installed:
            self._add_globals(function, names, written)

    def _add_texts(self, value: Any, names: frozenset[str]) -> None:
        """Add docstring and annotations if code with these names can read them."""
        if names & _READS_DOCSTRINGS:
            self.write("docstring", str(getattr(value, "__doc__", None)))
        if names & _READS_ANNOTATIONS:
            self.write("annotations", repr(getattr(value, "__annotations__", None)))

    def _add_as_used(
        self, name: str, value: object, names: frozenset[str] | None, written: Set[str]
    ) -> None:
        """Add a value of which code with these names, or with any names, uses attributes."""
        if isinstance(value, types.ModuleType):
            self._add_module(value, names)
        elif name in written and isinstance(value, str | PurePath):
            self.write(str(value))
        else:
            self.add(value)
            if names and isinstance(value, type | types.FunctionType):
                self._add_texts(value, names)

    def _add_code(self, code: types.CodeType, names: frozenset[str]) -> None:
        n_arguments = code.co_argcount + code.co_kwonlyargcount
        n_arguments += sum(bool(code.co_flags & flag) for flag in (4, 8))  # *args and **kwargs
        n_shown = len(code.co_varnames) if names & _NAMES_OF_LOCALS else n_arguments
        self.write(
            importlib.util.MAGIC_NUMBER.hex(),
            str((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)),
            str(code.co_flags & ~0x4000000),  # without the mark of a docstring
            *code.co_varnames[:n_shown],
            code.co_exceptiontable.hex(),
        )
        for step in dis.get_instructions(code):
            if step.opcode in dis.hasconst:
                self.write(step.opname)
                if isinstance(step.argval, types.CodeType):
                    self._add_code(step.argval, names)
                else:
                    self.add(step.argval)
            elif step.opcode in dis.hasname:
                self.write(step.opname, str(step.argval), str((step.arg or 0) & 1))
            else:
                self.write(step.opname, str(step.arg))

    def _add_globals(self, function: Any, names: frozenset[str], written: Set[str]) -> None:
        """Add the global variables that a function names, and the modules that it imports."""
        space, built_in = function.__globals__, vars(importlib.import_module("builtins"))
        passed = passed_on(function.__code__)
        reads_environment = bool(names & {"environ", "getenv"})
        for name in sorted(globals_in(function.__code__)):
            value = space.get(name, built_in.get(name))
            reads_environment |= value is os.environ or value is os.getenv
            with self.within(f"global {name!r}", value):
                if value is built_in.get(name) and name in _DYNAMIC:
                    raise self.refuse(value, "which finds code by text when it runs")
                if name == "__file__":  # the folder of the program may have another name
                    self.write(os.path.basename(str(value)))
                    self.mentions.folders.add(os.path.dirname(os.path.abspath(str(value))))
                elif name in space or name in built_in:
                    self.write(name)
                    used = None if name in passed else names
                    self._add_as_used(name, value, used, written)
        self._refuse_dynamic(function, names)
        for name, variable in sorted(imports_in(function.__code__, space.get("__package__"))):
            with self.within(f"module {name!r}"):
                self._add_import(name, None if variable in passed else names)
        self.mentions.reads_environment |= reads_environment

    def _refuse_dynamic(self, function: object, names: frozenset[str]) -> None:
        """Refuse a function that finds code which nothing names."""
        if names & _IMPORTING:
            raise self.refuse(function, "which imports a module by text when it runs")
        if "__subclasses__" in names:
            raise self.refuse(function, "which finds classes that no code names")

    def _add_import(self, name: str, names: frozenset[str] | None) -> None:
        parts = name.split(".")
        for n in range(1, len(parts) + 1):
            module_name = ".".join(parts[:n])
            if module_name not in sys.modules:
                try:
                    spec = importlib.util.find_spec(module_name)
                    version = None if spec is None else installed_version(spec.origin)
                    if version:  # an import may take seconds
                        self.write("module", module_name, version)
                        return
                    importlib.import_module(module_name)
                except (ImportError, ValueError):
                    self.write("missing", module_name)
                    return
            self._add_module(sys.modules[module_name], names)

    def _add_module(self, module: types.ModuleType, names: frozenset[str] | None) -> None:
        """Add the attributes of a module that have one of the names, or all of them."""
        if self.is_known(module, (id(module), names)):
            return
        version = version_of_module(module)
        self.write("module", module.__name__, version or "")
        content = vars(module)
        if names is None or (not version and names & _ANY_ATTRIBUTE):
            chosen = {name for name in content if not version and name[:2] != "__"}
        else:
            # A function of this name finds attributes that the module does not have yet.
            chosen = set((names | {"__getattr__"}) & content.keys())
        if module is sys and names and names & {"argv", "modules"}:
            if "modules" in names:
                raise self.refuse(sys.modules, "which finds code by text when it runs")
            self.add(list(sys.argv))
        for name in sorted(chosen):
            value = content[name]
            if version and not (isinstance(value, types.ModuleType) or may_be_edited(value)):
                continue
            self.write(name)
            with self.within(f"{name!r}", value):
                self._add_as_used(name, value, names, frozenset())
        if module.__name__ == "builtins" and (names is None or names & _DYNAMIC):
            raise self.refuse(module, "which finds code by text when it runs")
        file = getattr(module, "__file__", None)
        if not version and file:
            self.mentions.folders.add(os.path.dirname(os.path.abspath(file)))
        if not version and is_extension(module):
            self.write(source_digest(str(module.__file__)))

    def _add_class(self, value: Any) -> None:
        version = version_of_module(sys.modules.get(value.__module__))
        self.write("class", value.__qualname__, version or "")
        is_installed = bool(version) and is_importable(value)
        if is_installed:
            self.write(value.__module__)
            self.add_named("attribute", edited_attributes(value))
        else:
            self.wait(lambda: self._add_class_of_user(value))

    def _add_class_of_user(self, value: Any) -> None:
        with self.within("metaclass"):
            self.add(type(value))
        for base in value.__bases__:
            with self.within(f"base {base.__qualname__!r}"):
                self.add(base)
        own = {name: item for name, item in vars(value).items() if name not in _OF_EVERY_CLASS}
        fields = own.pop("__dataclass_fields__", {})
        self.add_named("attribute", sorted(own.items()))
        for name, field in fields.items():
            with self.within(f"field {name!r}"):
                self.add([bool(field.init), bool(field.kw_only), dict(field.metadata)])
        names = frozenset().union(*(names_in(f.__code__) for f in _functions_of(value)))
        self._add_texts(value, names)

    def _add_accessor(self, value: Any) -> None:
        names = ("__func__", "fget", "fset", "fdel", "func", "__wrapped__")
        self.write(type(value).__name__)
        parts = [getattr(value, name, None) for name in names]
        for part in parts[:5] if any(parts[:5]) else parts:
            self.add(part)

    def _add_method(self, value: Any) -> None:
        self.write("method", value.__name__)
        with self.within(f"method {value.__name__!r}"):
            self.add(value.__func__)
            self.add(value.__self__)

    def _add_built_in(self, value: Any) -> None:
        owner = getattr(value, "__self__", None)
        self.write("built-in", value.__qualname__)
        if owner is None or isinstance(owner, types.ModuleType):
            self._add_place(value)
        else:
            self.add(owner)

    def _add_descriptor(self, value: Any) -> None:
        # The class that it belongs to is described where the descriptor is found.
        self.write("descriptor", value.__qualname__)

    def _add_place(self, value: Any) -> None:
        """Add the version or the file of compiled code."""
        module = sys.modules.get(value.__module__ or "builtins")
        version = version_of_module(module)
        if not version:
            if module is None or not is_extension(module):
                raise self.refuse(value, "which is not Python code of a known module")
            version = source_digest(str(module.__file__))
        self.write(str(value.__module__), version)

    def add_instance(self, value: Any) -> None:
        """Add an object: its class, and its state as pickle and copy see it."""
        kind = type(value)
        if value is os.environ:  # the variables that code names count
            self.write("environment")
            return
        with self.within("class"):
            self.add(kind)
        try:
            reduce = copyreg.dispatch_table.get(kind)
            parts: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:
            raise self.refuse(value, f"which has no state to compare ({error})") from error
        if isinstance(parts, str):
            self.write(parts)
            self._add_place(value)
            return
        function, arguments, state, items, pairs = (*parts, None, None, None)[:5]
        self.add(function)
        is_of_user = version_of_module(sys.modules.get(kind.__module__)) is None
        own = getattr(value, "__dict__", {}) if is_of_user else {}
        # These are described below.
        state = None if is_of_user and type(state) is dict and _is_same(state, own) else state
        for part in (arguments, state, *(None if i is None else list(i) for i in (items, pairs))):
            self.add(part)
        if is_of_user:  # a __getstate__ of the user may leave attributes out
            written = {name for f in _methods_of(kind) for name in written_in(f.__code__)}
            self.add_named("attribute", sorted(own.items()), written)

    def add_module(self, value: types.ModuleType) -> None:
        """Add a module of which any attribute may be used."""
        self._add_module(value, None)


#: Kinds of values that need a special description.
_Description.kinds = (
    (_STATELESS, lambda description, value: description.add(type(value))),
    (np.ndarray, ValueChecksum.add_array),
    (torch.Tensor, ValueChecksum.add_tensor),
    (torch.nn.Module, ValueChecksum.add_network),
    (np.ufunc, ValueChecksum.add_ufunc),
    (types.FunctionType, _Description._add_function),
    (types.MethodType, _Description._add_method),
    (types.CodeType, lambda description, value: description._add_code(value, names_in(value))),
    (type, _Description._add_class),
    ((types.BuiltinFunctionType, types.MethodWrapperType), _Description._add_built_in),
    (_C_DESCRIPTORS, _Description._add_descriptor),
    ((property, staticmethod, classmethod, functools.cached_property), _Description._add_accessor),
    (LRU_CACHE, _Description._add_accessor),
    (weakref.WeakValueDictionary, lambda description, value: description.add(dict(value))),
    (weakref.WeakSet, lambda description, value: description.add(set(value))),
    (types.MappingProxyType, lambda description, value: description.add(dict(value))),
    (enum.Enum, ValueChecksum.add_member),
    (PurePath, ValueChecksum.add_path),
)


def _content_of(cell: types.CellType) -> tuple[object, ...]:
    """Return the value of a variable, if it has one."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _is_same(first: dict[str, object], second: dict[str, object]) -> bool:
    """Tell whether two dicts hold the same objects."""
    return first.keys() == second.keys() and all(first[name] is second[name] for name in first)


def _methods_of(kind: type) -> Iterator[types.FunctionType]:
    """Yield the methods of a class and of its bases in code of the user."""
    for base in kind.__mro__:
        if version_of_module(sys.modules.get(base.__module__)) is None:
            yield from _functions_of(base)


def _functions_of(value: type) -> Iterator[types.FunctionType]:
    """Yield the methods in the body of a class."""
    for item in vars(value).values():
        function = getattr(item, "__func__", getattr(item, "fget", item))
        if isinstance(function, types.FunctionType):
            yield function


def is_importable(value: Any) -> bool:
    """Tell whether a function or class is found under its name in its module."""
    # A wrapper has the name of the function that it wraps.
    if getattr(value, "__globals__", {}).get("__name__", value.__module__) != value.__module__:
        return False
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value
