"""Versions and checksums of packages and source files."""

import base64
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import os
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = [
    "installed_version",
    "is_extension",
    "package_version",
    "source_digest",
    "version_of_module",
]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_STANDARD_LIBRARY = os.path.dirname(os.path.abspath(os.__file__))
#: Files may be written so long after the table of the files, in seconds.
_INSTALLING = 1.0


def is_extension(module: types.ModuleType) -> bool:
    """Tell whether a module is compiled code."""
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    return str(getattr(module, "__file__", "")).endswith(suffixes)


def version_of_module(module: types.ModuleType | None) -> str | None:
    """Return the version of an installed module, or None for a module of the user."""
    if module is None or module.__name__ == "__main__":
        return None
    file = getattr(module, "__file__", None)
    if file is None:
        root = module.__name__.partition(".")[0]
        is_python = root in sys.stdlib_module_names or root in sys.builtin_module_names
        # A folder without __init__.py has no code.
        paths = [] if is_python else list(getattr(module, "__path__", ()))
        above = module.__name__.rpartition(".")[0]
        if not paths and not is_python and above:  # compiled code makes it, such as torch._C._nn
            return version_of_module(sys.modules.get(above))
        return sys.version if is_python else installed_version(paths[0] if paths else None)
    return installed_version(file)


@functools.cache
def installed_version(file: str | None) -> str | None:
    """Return facts that change when the package of a file is installed anew.

    Parameters
    ----------
    file : str
        A file of Python, of an installed package, or of the user.

    Returns
    -------
    version : str
        Version and checksums, or None for a file that belongs to no installed package.
    """
    if file is None:
        return None
    if file in ("built-in", "frozen"):
        return sys.version
    path = os.path.abspath(file)
    if path.startswith(_PACKAGE + os.sep):
        return package_version(os.path.basename(_PACKAGE))
    parts = Path(path).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            after = len(parts) - parts[::-1].index(folder)
            return package_version(parts[after].partition(".")[0])
    return sys.version if path.startswith(_STANDARD_LIBRARY + os.sep) else None


@functools.cache
def package_version(root: str) -> str:
    """Return version and checksums of the distributions that installed a package.

    Parameters
    ----------
    root : str
        Name of the package in an import.

    Returns
    -------
    version : str
        Names, versions and checksums.
    """
    if root == os.path.basename(_PACKAGE):
        return source_digest(_PACKAGE)
    texts = []
    for name in _distributions_of(root):
        distribution = importlib.metadata.distribution(name)
        # Each line of code files. Other lines depend on the program that installed the package.
        record = (distribution.read_text("RECORD") or "").splitlines()
        suffixes = (".py", *importlib.machinery.EXTENSION_SUFFIXES)
        code = sorted(line for line in record if line.split(",")[0].endswith(suffixes))
        code += _edited_since(str(distribution.locate_file("")), record)
        total = hashlib.blake2b("\n".join(code).encode(), digest_size=8).hexdigest()
        texts.append(f"{name} {distribution.version} {total}")
    return ", ".join(texts) or f"{root} {getattr(sys.modules.get(root), '__version__', 'unknown')}"


def _edited_since(root: str, record: Iterable[str]) -> list[str]:
    """Return the paths and checksums of code that was edited after its installation."""
    suffixes = (".py", *importlib.machinery.EXTENSION_SUFFIXES)
    lines = [line.rsplit(",", 2) for line in record if line.count(",") >= 2]
    # The table of files is written last.
    tables = [name for name, *_ in lines if name.endswith(".dist-info/RECORD")]
    installed = max((_time_of(os.path.join(root, name)) for name in tables), default=0.0)
    edited = []
    for name, checksum, _ in lines:
        path = os.path.join(root, name)
        if name.endswith(suffixes) and _time_of(path) > installed + _INSTALLING:
            digest = hashlib.sha256(Path(path).read_bytes()).digest()
            found = "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
            if found != checksum:
                edited.append(f"{name} {found}")
    return edited


def _time_of(path: str) -> float:
    """Return the time of the last change of a file, or 0 if there is no file."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _distributions_of(root: str) -> list[str]:
    """Return the names of the distributions that install a package."""
    try:  # most have its name, and the table of all takes half a second
        importlib.metadata.distribution(root)
    except importlib.metadata.PackageNotFoundError:
        return sorted(set(_packages().get(root, ())))
    return [root]


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def source_digest(path: str) -> str:
    """Return a checksum of a file, or of the Python files in a folder.

    Parameters
    ----------
    path : str
        The file or folder.

    Returns
    -------
    digest : str
        Hexadecimal digits.
    """
    total = hashlib.blake2b(digest_size=16)
    files = [Path(path)] if os.path.isfile(path) else sorted(Path(path).rglob("*.py"))
    for file in files:
        data = file.read_bytes()
        total.update(f"{file.relative_to(path)} {len(data)} ".encode() + data)
    return total.hexdigest()
