"""The best configuration of a study as code that runs."""

import ast
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from skimbal.study.words import Study

__all__ = ["write_code"]

#: Names that the repr of numbers and arrays uses.
_NUMBERS = {"array": "numpy", "inf": "math", "nan": "math"}


def write_code(study: Study, loss: str, sampler: str) -> str:
    """Write code that makes the estimator of a configuration, with the imports that it needs.

    Parameters
    ----------
    study : LossStudy
        A study.
    loss, sampler : str
        Names of a configuration.

    Returns
    -------
    code : str
        Python code that binds the estimator to ``clf``. Comments name the parts that a ``repr``
        does not show, such as a function.
    """
    text = re.sub(r" at 0x[0-9a-f]+", "", study.code(loss, sampler))
    params = study.configuration(loss, sampler).params
    types = {kind.__name__: kind for kind in _types((study.estimator, params))}
    names, comments = _names(text, types)
    imports, more = _imports(names, types)
    prefix = "clf = "
    lines = [*(f"# {comment}" for comment in comments + more), *imports, ""]
    lines.append(prefix + textwrap.indent(text, " " * len(prefix))[len(prefix) :])
    return "\n".join(lines)


def _names(text: str, types: Mapping[str, type]) -> tuple[set[str], list[str]]:
    """Return the names that the code uses, and comments on its holes."""
    comments = []
    try:
        tree = ast.parse(text)
    except SyntaxError:
        names = {name for name in types if re.search(rf"\b{re.escape(name)}\(", text)}
        holes = dict.fromkeys(re.findall(r"<[^<>]*(?:<[^<>]*>[^<>]*)*>", text))
        what = ", ".join(holes) or "some of the arguments"
        comments.append(f"Replace the parts that are not code: {what}.")
    else:
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if re.search(r", \.\.\.[\])}]", text):
        comments.append("Replace ... by the values that are not shown.")
    return names, comments


def _imports(names: Iterable[str], types: Mapping[str, type]) -> tuple[list[str], list[str]]:
    """Return lines that import the names, and comments on the names that they cannot import."""
    imports: dict[str, set[str]] = {}
    lines, comments = [], []
    for name in sorted(names):
        if name in types and hasattr(types[name], "state_dict"):
            comments.append(f"Check the arguments of {name}: a torch module does not show all.")
        module = _NUMBERS.get(name) or _public_module(types.get(name))
        if name == "np":
            lines.append("import numpy as np")
        elif module is not None:
            imports.setdefault(module, set()).add(name)
        else:
            comments.append(f"Import or define {name}.")
    lines += [f"from {module} import {', '.join(sorted(imports[module]))}" for module in imports]
    return sorted(lines), comments


def _types(value: object) -> Iterator[type]:
    """Yield the types of an estimator and of all its parameters."""
    if isinstance(value, type):
        yield value
        return
    yield type(value)
    children: Iterable[object] = ()
    if hasattr(value, "get_params"):
        children = value.get_params(deep=False).values()
    elif isinstance(value, Mapping):
        children = value.values()
    elif isinstance(value, list | tuple | set):
        children = value
    for child in children:
        yield from _types(child)


def _public_module(kind: type | None) -> str | None:
    """Return the shortest name of a public module that holds a class."""
    parts = [] if kind is None else kind.__module__.split(".")
    for n in range(1, len(parts) + 1):
        if parts[n - 1].startswith("_"):
            break
        module = ".".join(parts[:n])
        if kind is not None and getattr(sys.modules.get(module), kind.__name__, None) is kind:
            return module
    return None
