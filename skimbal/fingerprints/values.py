"""Descriptions of the parameters and data of a fit."""

import functools
import hashlib
import json
import os
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator

from skimbal.fingerprints.arrays import are_images, digest
from skimbal.fingerprints.code import code_parts, is_importable
from skimbal.fingerprints.files import content_of, folder_content
from skimbal.fingerprints.patches import PACKAGES, edited_attributes
from skimbal.fingerprints.versions import version_of_module
from skimbal.typing import Fingerprinted

__all__ = ["describe", "describe_images", "differences", "identity", "text_digest"]

#: Parameters of estimators of installed packages that change no result.
_WITHOUT_EFFECT = {"verbose", "n_jobs", "memory", "features_cache"}
#: Entries of the description of an object that are not its parameters.
_CODE, _PARTS, _ORDER = "(code)", "(parts)", "(order)"
#: Packages whose versions and patches are compared by themselves.
_COMPARED = {*PACKAGES, "builtins"}
#: Characters of a value in an error.
_SHOWN = 80
Path: TypeAlias = tuple[str, ...]
#: Texts of all parameters of the estimator that is described. Code may find a file with them.
_TEXTS: ContextVar[frozenset[str]] = ContextVar("texts", default=frozenset())


def describe_images(images: Any) -> Any:
    """Return the fingerprint of images that have one, or a checksum of all pixels."""
    facts = images.fingerprint() if isinstance(images, Fingerprinted) else None
    return digest(images) if facts is None else describe(facts)


def describe(value: object, name: str = "", *, in_mapping: bool = False) -> Any:
    """Describe a parameter by text, numbers, lists and dicts, the same in every process.

    Code and objects are described by a checksum and by checksums of their parts, which
    :func:`differences` names.

    Parameters
    ----------
    value : object
        Such as an estimator, a mapping of parameters, a function, a class, a module, an array.
    name : str, default=""
        Name of the value in an error. Functions and classes have their own.
    in_mapping : bool, default=False
        Whether the value is in a mapping, so that the order of its own entries may have an effect.

    Returns
    -------
    description : object
        It can be written as JSON.

    Raises
    ------
    UndescribedError
        If a part cannot be described, such as an open file. The message names the part.
    """
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, float) and isinstance(value, np.float64):
        return float(value)
    if type(value) is str or isinstance(value, os.PathLike):
        return _describe_text(str(value))
    if type(value) is dict:
        return _describe_mapping(value, name, in_mapping)
    if type(value) is list:
        items = enumerate(value)
        return [describe(item, _join(name, i), in_mapping=in_mapping) for i, item in items]
    if type(value) is tuple:
        return _describe_tuple(value, name)
    if type(value) in (np.ndarray, np.memmap) or are_images(value):
        return describe_images(value)
    if isinstance(value, BaseEstimator) and not isinstance(value, type):
        return _describe_estimator(value, name)
    return _describe_code(value, name)


def _join(name: str, key: object) -> str:
    part = _key_text(key)
    return f"{name}.{part}" if name and isinstance(key, str) else f"{name}{part}"


def _key_text(key: object) -> str:
    return key if isinstance(key, str) else f"[{key!r}]"


def _describe_mapping(value: Mapping[Any, object], name: str, in_mapping: bool) -> dict[str, Any]:
    """Describe a dict. The order of parameters has no effect, but a value may depend on its own."""
    described = {
        _key_text(key): describe(item, _join(name, key), in_mapping=True)
        for key, item in value.items()
    }
    if in_mapping and len(value) > 1:
        described[_ORDER] = list(described)
    return described


def _describe_text(text: str) -> Any:
    content = content_of(text)
    return text if content is None else {"file": text, "contents": content}


def _describe_tuple(value: tuple[object, ...], name: str) -> Any:
    if all(type(item) in (bool, int, float, type(None)) for item in value):
        return repr(value)
    if len(value) == 2 and type(value[0]) is str:  # a step of a pipeline
        part = _join(name, value[0])
        return {"tuple": 2, value[0]: describe(value[1], part, in_mapping=True)}
    return {"tuple": describe(list(value), name, in_mapping=True)}


def _describe_estimator(value: BaseEstimator, name: str) -> Any:
    """Describe the class and the parameters, which a clone takes over."""
    cloning = next(base for base in type(value).__mro__ if "__sklearn_clone__" in vars(base))
    if not version_of_module(sys.modules.get(cloning.__module__)):
        return _describe_code(value, name)
    params = value.get_params(deep=False)
    if version_of_module(sys.modules.get(type(value).__module__)):
        params = {key: item for key, item in params.items() if key not in _WITHOUT_EFFECT}
    texts = _TEXTS.set(_TEXTS.get().union(_texts_in(params)))
    try:
        described = {key: describe(item, _join(name, key)) for key, item in params.items()}
    finally:
        _TEXTS.reset(texts)
    source = params.get("source")
    if isinstance(source, str | os.PathLike) and os.path.isdir(source):
        described["contents of source"] = folder_content(os.fspath(source))
    return {"class": describe(type(value)), **described}


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str | os.PathLike):
        yield str(value)
    elif isinstance(value, Mapping):
        yield from _texts_in(list(value.values()))
    elif isinstance(value, functools.partial):
        yield from _texts_in([value.args, value.keywords])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts_in(item)


def _describe_code(value: Any, name: str) -> Any:
    """Describe a function, a class or any other object."""
    if isinstance(value, np.generic):
        return repr(value)
    if isinstance(value, functools.partial):
        parts = [value.func, list(value.args), dict(value.keywords)]
        return {"partial": describe(parts, name, in_mapping=True)}
    is_named = isinstance(value, type | types.FunctionType | types.BuiltinFunctionType)
    named = value if is_named else type(value)
    title = f"{named.__module__}.{named.__qualname__}"
    root = str(named.__module__).partition(".")[0]
    is_edited = isinstance(named, type) and bool(edited_attributes(named))
    if is_named and root in _COMPARED and is_importable(named) and not is_edited:
        return title
    checksum, parts_of = code_parts(value, title if is_named else name or title, _TEXTS.get())
    kind = "code" if is_named else "object"
    return {kind: title, _CODE: checksum, _PARTS: parts_of}


def text_digest(text: str) -> str:
    """Return a short checksum of a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def identity(description: object) -> str:
    """Return a short checksum of a description.

    Parameters
    ----------
    description : object
        A result of :func:`describe`, or a dict of them.

    Returns
    -------
    digest : str
        Hexadecimal digits. The order of parameters and the names of the parts of code do not
        count.
    """
    return text_digest(json.dumps(_without_parts(description), sort_keys=True))


def _without_parts(tree: object) -> object:
    if isinstance(tree, Mapping):
        return {key: _without_parts(item) for key, item in tree.items() if key != _PARTS}
    return [_without_parts(item) for item in tree] if isinstance(tree, list | tuple) else tree


def differences(there: object, here: object) -> list[str]:
    """Say in which parts two descriptions differ.

    Parameters
    ----------
    there, here : object
        Results of :func:`describe`, of an earlier program and of this program, or dicts of them.
        Either may come from JSON.

    Returns
    -------
    names : list of str
        A name for each part that differs and has no differing part in it, with both values if
        they are short texts or numbers.
    """
    trees = dict(_leaves(there, ())), dict(_leaves(here, ()))
    nodes = [{path[:n] for path in tree for n in range(len(path))} for tree in trees]
    for tree, node, others in zip(trees, nodes, reversed(nodes), strict=True):
        # An empty mapping, of which the other side has entries.
        for path in [path for path in tree if tree[path] == "{}" and path in others]:
            del tree[path]
            node.add(path)
    paths = [p for p in dict.fromkeys([*trees[0], *trees[1]]) if trees[0].get(p) != trees[1].get(p)]
    # A part may have another name, such as a variable that was renamed.
    paths = [path for path in paths if not (_PARTS in path and _is_same_code(path, *trees))]
    # Where only one side has an object, all its parts are one difference.
    paths = list(dict.fromkeys(_first_without(path, *nodes) for path in paths))
    # The checksum of an object differs with each of its parts.
    within = {path[:n] for path in paths if path[-1:] != (_CODE,) for n in range(len(path))}
    named = {path for path in paths if path[-1:] != (_CODE,) or path[:-1] not in within}
    chosen = [path for path in paths if path in named and not _has_part_in(path, named)]
    return [_words(path, *trees) for path in chosen]


def _is_same_code(path: Path, first: Mapping[Path, str], second: Mapping[Path, str]) -> bool:
    code = (*path[: path.index(_PARTS)], _CODE)
    return code in first and first[code] == second.get(code)


def _first_without(path: Path, first: set[Path], second: set[Path]) -> Path:
    """Return the shortest beginning of a path that is not an inner node on both sides."""
    return next(
        (path[:n] for n in range(len(path)) if not (path[:n] in first and path[:n] in second)), path
    )


def _leaves(tree: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(tree, Mapping):
        items = list(tree.items())
    elif isinstance(tree, list | tuple) and any(isinstance(item, Mapping) for item in tree):
        items = [(f"[{i}]", item) for i, item in enumerate(tree)]
    else:
        yield path, json.dumps(tree)
        return
    if not items:
        yield path, "{}"
    for key, item in items:
        yield from _leaves(item, (*path, str(key)))


def _has_part_in(path: Path, names: Iterable[Path]) -> bool:
    """Tell whether a part of an object has a part among some names."""
    if len(path) < 2 or path[-2] != _PARTS:
        return False
    return any(p[:-1] == path[:-1] and p[-1].endswith(f" of {path[-1]}") for p in names)


def _words(path: Path, there: Mapping[Path, str], here: Mapping[Path, str]) -> str:
    first, second = _value_at(path, there), _value_at(path, here)
    where = _name_of(path)
    if first is None or second is None:
        return f"{where} ({'not there' if first is None else 'there only'})"
    if _is_digest(first) and _is_digest(second):
        return f"{where} (edited)" if {_PARTS, _CODE} & set(path) else f"{where} (other contents)"
    return f"{where} ({_short(first)} there, {_short(second)} now)"


def _name_of(path: Path) -> str:
    if _PARTS in path:
        at = path.index(_PARTS)
        return f"{path[-1]} of {_name_of(path[:at])}"
    name = ""
    for part in path:
        if part != _CODE:
            name += part if part.startswith("[") or not name else f".{part}"
    return name


def _value_at(path: Path, leaves: Mapping[Path, str]) -> str | None:
    """Return the value at a path, or the name of the object that is there."""
    if path in leaves:
        return leaves[path]
    titles = (("code",), ("object",), ("class",), ("class", "code"), ("file",))
    found = [leaves[(*path, *title)] for title in titles if (*path, *title) in leaves]
    is_node = any(other[: len(path)] == path for other in leaves)
    return found[0] if found else json.dumps("other values") if is_node else None


def _is_digest(text: str) -> bool:
    return re.fullmatch(r'"[0-9a-f]{12,}"', text) is not None


def _short(text: str) -> str:
    plain = json.loads(text)
    if isinstance(plain, str) and _is_digest(text):
        return "other contents"
    shown = str(plain)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
