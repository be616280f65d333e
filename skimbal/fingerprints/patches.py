"""Functions that a program has put into installed packages."""

import functools
import importlib.abc
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skimbal.fingerprints.parts import PLAIN
from skimbal.fingerprints.versions import installed_version, version_of_module

__all__ = ["LRU_CACHE", "PACKAGES", "edited_attributes", "may_be_edited", "patches"]

#: Packages that train and judge, and the modules of torch that do.
PACKAGES = {"skimbal", "skorch", "sklearn", "imblearn", "numpy", "torch"}
#: Packages of which functions are compared with their source. numpy makes many in C.
_REPLACED = PACKAGES - {"numpy"}
#: Modules that put functions of their own in the place of others.
_LEFT_OUT = re.compile(r"torch$|sklearn\.externals\b")
#: Counts modules for compiled networks, and calls the method that it takes the place of.
_COUNTER = "torch._dynamo.mutation_guard"
_KNOWN = PACKAGES | sys.stdlib_module_names
LRU_CACHE = type(functools.lru_cache(len))
_HOOKS = ("torch.nn.modules.module", "torch.optim.optimizer")
#: Modules of classes that other modules define.
_NAMESPACES = ("torch.nn", "torch.nn.modules", "torch.optim")
_OF_TORCH = ("torch", "torch._tensor", "torch.functional", "torch.nn", "torch.optim")


def may_be_edited(value: object) -> bool:
    """Tell whether an attribute of an installed module may be the user's."""
    if isinstance(value, types.FunctionType):
        return installed_version(value.__globals__.get("__file__")) is None
    if isinstance(value, type):
        is_of_user = version_of_module(sys.modules.get(value.__module__)) is None
        return is_of_user or bool(edited_attributes(value))
    return type(value) in PLAIN


def edited_attributes(kind: type) -> list[tuple[str, object]]:
    """Return the functions of the user in an installed class, by the names of its attributes."""
    return [
        (name, value)
        for name, value in sorted(vars(kind).items())
        if _is_of_user(getattr(value, "__func__", getattr(value, "fget", value)))
    ]


def patches() -> Iterator[tuple[str, object]]:
    """Yield patches of installed packages by their names.

    Code that runs in a fit may call it although no code of the user names it: functions and classes
    of the user, functions and classes of a package in the place of others, and hooks of all modules
    and optimizers of torch.
    """
    for name, module in sorted(sys.modules.items()):
        root = name.partition(".")[0]
        if root not in PACKAGES or not isinstance(module, types.ModuleType):
            continue
        if root == "torch" and not (name in _OF_TORCH or name.startswith(_OF_TORCH[3:])):
            continue
        code = _code_of(name) if root in _REPLACED and not _LEFT_OUT.match(name) else None
        if code is not None:
            yield from _replaced(name, name, vars(module), [code])
        for attribute, value in sorted(vars(module).items()):
            if name in _HOOKS and "_hooks" in attribute and type(value) is OrderedDict and value:
                yield f"{name}.{attribute}", list(value.values())
            is_class = isinstance(value, type)
            if name in _NAMESPACES and is_class and value.__qualname__ != attribute:
                yield f"{name}.{attribute}", value
            if _is_of_user(value) or _is_class_of_user(value):
                yield f"{name}.{attribute}", value
            elif isinstance(value, type) and value.__module__ == name:
                for part, item in edited_attributes(value):
                    yield f"{name}.{attribute}.{part}", item


def _replaced(
    name: str,
    module: str,
    space: Mapping[str, Any],
    codes: Iterable[types.CodeType],
    bases: tuple[type, ...] = (),
) -> Iterator[tuple[str, object]]:
    """Yield functions and classes other than those that the source of a module defines there."""
    for attribute, found in _definitions(codes).items():
        value = space.get(attribute)
        if isinstance(value, type) and value.__qualname__.rpartition(".")[2] == attribute:
            if value.__module__ == module:
                place = f"{name}.{attribute}"
                yield from _replaced(place, module, vars(value), found, value.__bases__)
        elif isinstance(space, dict) and (attribute[0] == "_" or not callable(value)):
            continue  # a package may import a private function where the library is older
        elif (
            value is not None
            and getattr(_innermost(value), "__code__", None) not in found
            and getattr(value, "__module__", None) != _COUNTER
        ):
            yield f"{name}.{attribute}", value
    if isinstance(space, types.MappingProxyType):  # of a class, to which a function was added
        named = {name for code in codes for name in code.co_names}
        for attribute in sorted(space.keys() - named):
            value = space[attribute]
            owner = getattr(value, "__qualname__", "").rpartition(".")[0]
            is_added = isinstance(value, types.FunctionType) and not name.endswith(f".{owner}")
            # The first AdamW of a process makes torch put a wrapped step of Adam into its class.
            known = [_innermost(getattr(base, attribute, None)) for base in bases]
            if is_added and attribute[0] != "_" and _innermost(value) not in known:
                yield f"{name}.{attribute}", value


def _definitions(codes: Iterable[types.CodeType]) -> dict[str, list[types.CodeType]]:
    """Return the codes of functions and classes in the bodies of modules or classes."""
    found: dict[str, list[types.CodeType]] = {}
    for code in codes:
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType) and constant.co_name[0] != "<":
                found.setdefault(constant.co_name, []).append(constant)
    return found


@functools.cache
def _code_of(name: str) -> types.CodeType | None:
    """Return the code of the body of a module."""
    loader = getattr(sys.modules[name].__spec__, "loader", None)
    return loader.get_code(name) if isinstance(loader, importlib.abc.InspectLoader) else None


def _innermost(value: Any) -> object:
    """Return the function in its decorators."""
    inner = value
    while inner is not None:
        value = inner
        names = ("__func__", "fget", "__wrapped__", "func")
        inner = next((v for v in (getattr(value, name, None) for name in names) if v), None)
    return value


def _is_of_user(value: object) -> bool:
    """Tell whether a value is a function of the user, or holds one."""
    if isinstance(value, functools.partial):
        return _is_of_user(value.func)
    if isinstance(value, types.MethodType):
        return _is_of_user(value.__func__) or _is_of_user(value.__self__)
    if isinstance(value, LRU_CACHE):
        return _is_of_user(value.__wrapped__)
    if not isinstance(value, types.FunctionType):
        return _is_module_of_user(type(value).__module__)
    space = value.__globals__
    if "__file__" in space:
        return installed_version(space["__file__"]) is None
    # Some programs make the code of methods when they run, such as namedtuple.
    return _is_module_of_user(space.get("__name__"))


def _is_class_of_user(value: object) -> bool:
    return isinstance(value, type) and _is_module_of_user(value.__module__)


def _is_module_of_user(name: object) -> bool:
    if not isinstance(name, str) or name.partition(".")[0] in _KNOWN or name.startswith("_cython"):
        return False
    module = sys.modules.get(name)
    return isinstance(module, types.ModuleType) and version_of_module(module) is None
