"""Functions that a program has put into installed packages."""

import functools
import sys
import types
from collections.abc import Iterator

from skimbal.fingerprints.parts import PLAIN
from skimbal.fingerprints.versions import installed_version, version_of_module

__all__ = ["PACKAGES", "edited_attributes", "may_be_edited", "patches"]

#: Packages that train and judge, and the modules of torch that do.
PACKAGES = {"skimbal", "skorch", "sklearn", "imblearn", "numpy", "torch"}
_KNOWN = PACKAGES | sys.stdlib_module_names
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
    """Yield the functions and classes of the user in installed packages, by their names.

    Code that runs in a fit may call them although no code of the user names them.
    """
    for name, module in sorted(sys.modules.items()):
        root = name.partition(".")[0]
        if root not in PACKAGES or not isinstance(module, types.ModuleType):
            continue
        if root == "torch" and not (name in _OF_TORCH or name.startswith(_OF_TORCH[3:])):
            continue
        for attribute, value in sorted(vars(module).items()):
            if _is_of_user(value) or _is_class_of_user(value):
                yield f"{name}.{attribute}", value
            elif isinstance(value, type) and value.__module__ == name:
                for part, item in edited_attributes(value):
                    yield f"{name}.{attribute}.{part}", item


def _is_of_user(value: object) -> bool:
    """Tell whether a value is a function of the user, or holds one."""
    if isinstance(value, functools.partial):
        return _is_of_user(value.func)
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
