"""Imports between the modules of the package run one way, and importing it is cheap in needs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import skimbal

PACKAGE = Path(skimbal.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")

#: What a module may import from the package. "__init__" stands for the package's public names.
MAY_IMPORT = {
    "losses": set(),
    "sampling": set(),
    "networks": set(),
    "datasets": {"images"},
    "images": set(),
    "augmentation": set(),
    "displays": set(),
    "distributed": set(),
    "training": {"augmentation", "distributed", "losses", "sampling", "networks"},
    "classifiers": {
        "augmentation",
        "distributed",
        "images",
        "losses",
        "sampling",
        "networks",
        "training",
    },
    "report": {"displays"},
    "fit_cache": {"images"},
    "study": {"classifiers", "datasets", "displays", "fit_cache", "losses", "report", "sampling"},
    "__main__": {"__init__", "augmentation", "datasets", "images", "losses", "study"},
}
OPTIONAL = ("PIL", "jinja2", "matplotlib", "nibabel", "pandas", "pooch", "pydicom", "zarr")


def imports_of(source):
    """Return (module, name) for each import of the package, wherever in the source it stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root, _, rest = alias.name.partition(".")
                if root == "skimbal":
                    found.add((rest.partition(".")[0] or "__init__", None))
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(["skimbal"] * (node.level > 0) + [node.module] * bool(node.module))
            root, _, rest = origin.partition(".")
            if root == "skimbal":
                for alias in node.names:
                    if rest:
                        found.add((rest.partition(".")[0], alias.name))
                    elif alias.name in MODULES:
                        found.add((alias.name, None))
                    else:
                        found.add(("__init__", alias.name))
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import numpy, skimbal", {("__init__", None)}),
        ("import skimbal.losses as l", {("losses", None)}),
        ("from skimbal import losses, LossMix", {("losses", None), ("__init__", "LossMix")}),
        ("from skimbal.losses import get_loss", {("losses", "get_loss")}),
        ("from . import sampling", {("sampling", None)}),
        ("def f():\n    from .training import softmax", {("training", "softmax")}),
        ("from skimbalance import losses", set()),
    ],
)
def test_every_form_of_import_is_seen(source, expected):
    assert imports_of(source) == expected


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    assert module in MAY_IMPORT, "say in MAY_IMPORT which modules this one may import"
    found = {origin for origin, _ in imports_of((PACKAGE / f"{module}.py").read_text("utf-8"))}
    assert found <= MAY_IMPORT[module]


def test_command_line_uses_public_names_only():
    source = (PACKAGE / "__main__.py").read_text("utf-8")
    imports = imports_of(source)
    assert ("__init__", "CNN2DClassifier") in imports
    for origin, name in imports:
        public = "skimbal" if origin == "__init__" else f"skimbal.{origin}"
        assert name in importlib.import_module(public).__all__, (origin, name)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
            assert not node.attr.startswith("_") or node.attr.endswith("__"), ast.unparse(node)


def test_import_asks_for_nothing_optional():
    # scikit-learn takes pandas where it finds it: here it finds none, and neither does skimbal.
    script = f"""
import builtins, sys
for name in {OPTIONAL}:
    sys.modules[name] = None
asked, plain_import = [], builtins.__import__
def spy(name, globals=None, *args, **kwargs):
    if (globals or {{}}).get("__name__", "").partition(".")[0] == "skimbal":
        asked.append(name.partition(".")[0])
    return plain_import(name, globals, *args, **kwargs)
builtins.__import__ = spy
import skimbal, skimbal.__main__
print(*sorted(set(asked)))
print(*(name for name in {OPTIONAL} if sys.modules.get(name) is not None))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    asked, loaded = done.stdout.splitlines()
    assert {"numpy", "sklearn", "skorch", "torch"} <= set(asked.split())
    assert not set(asked.split()) & set(OPTIONAL)
    assert loaded == ""
