"""Names and imports in the bytecode of functions."""

import dis
import functools
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import suppress

__all__ = [
    "globals_in",
    "imports_in",
    "names_in",
    "passed_on",
    "written_in",
]

#: So many steps of the bytecode may be between a function and its second argument.
_ARGUMENTS = 10
#: Modes of files that are written, methods that write to their path, and to an argument.
_MODES = {f"{mode}{kind}{plus}" for mode in "awx" for kind in ("", "b", "t") for plus in ("", "+")}
_WRITING = {"write_text", "write_bytes", "touch"}
_SAVING = {"save", "savez", "savez_compressed", "savetxt", "to_csv", "save_file"}


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code and the codes of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes_in(constant)


def names_in(code: types.CodeType) -> frozenset[str]:
    """Return all names of globals and attributes in a code and the functions in it."""
    return frozenset(name for part in _codes_in(code) for name in part.co_names)


def globals_in(code: types.CodeType) -> set[str]:
    """Return the names of the global variables that a code reads."""
    return {
        str(step.argval)
        for part in _codes_in(code)
        for step in dis.get_instructions(part)
        if step.opname
        in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_GLOBALS")
    }


def imports_in(code: types.CodeType, package: str | None) -> set[tuple[str, str]]:
    """Return modules that import statements name, each with the local variable that it gets."""
    found = set()
    for part in _codes_in(code):
        steps = list(dis.get_instructions(part))
        for i, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                dots, origin = "." * int(steps[i - 2].argval or 0), str(step.argval)
                with suppress(ImportError):
                    origin = importlib.util.resolve_name(dots + origin, package)
                found.add((origin, _variable_of(steps, i + 1)))
                # Each name may be a module of the package.
                for name in steps[i - 1].argval or ():
                    if f"{origin}.{name}" in sys.modules:
                        at = [n for n in range(i, len(steps)) if steps[n].argval == name]
                        found.add((f"{origin}.{name}", _variable_of(steps, at[0] + 1)))
    return found


def _variable_of(steps: list[dis.Instruction], at: int) -> str:
    return str(steps[at].argval) if steps[at].opname.startswith("STORE") else ""


def passed_on(code: types.CodeType) -> set[str]:
    """Return the variables that a code uses otherwise than for one of their attributes."""
    found: set[str] = set()
    for part in _codes_in(code):
        steps = list(dis.get_instructions(part))
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            loads = step.opname.startswith("LOAD_") and step.opname not in (
                "LOAD_CONST",
                "LOAD_ATTR",
            )
            reads = following is not None and following.opname in ("LOAD_ATTR", "LOAD_METHOD")
            if loads and isinstance(step.argval, tuple):  # two loads in one
                found |= set(step.argval[:1] if reads else step.argval)
            elif loads and not reads:
                found.add(str(step.argval))
    return found


def _opens(steps: list[dis.Instruction], at: int) -> bool:
    """Tell whether a text that may be a mode is an argument of a function that opens a file."""
    names = (str(step.argval) for step in steps[max(0, at - _ARGUMENTS) : at])
    return any("open" in name.lower() for name in names)


@functools.cache
def written_in(code: types.CodeType) -> frozenset[str]:
    """Return names of variables and attributes, and texts, of files that a code writes only."""
    found: set[str] = set()
    for part in _codes_in(code):
        steps = [s for s in dis.get_instructions(part) if s.opname[:5] in ("LOAD_", "CALL")]
        for i, step in enumerate(steps):
            before = [s for s in steps[max(0, i - 3) : i] if s.opname != "CALL"][-2:]
            if step.opname == "LOAD_CONST" and step.argval in _MODES and _opens(steps, i):
                if before and before[-1].argval == "open":  # a method of a path
                    before.pop()
                found |= {str(s.argval) for s in before[-1:]}
            elif step.opname in ("LOAD_METHOD", "LOAD_ATTR") and step.argval in _WRITING:
                found |= {str(s.argval) for s in before[-1:]}
            elif step.opname in ("LOAD_METHOD", "LOAD_ATTR") and step.argval in _SAVING:
                at = next((n for n in range(i, len(steps)) if steps[n].opname == "CALL"), i)
                found |= {str(s.argval) for s in steps[i + 1 : at]}
    return frozenset(found)
