"""Imports run one way between rooms and files, and every imported package is declared."""

import ast
import importlib
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import skimbal

PACKAGE = Path(skimbal.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

#: Rooms by floor, the ground first, each with the rooms that it may import. A room is a folder or
#: a file of the package; "__init__" stands for the public names of the package.
MAY_IMPORT: dict[str, set[str]] = {
    room: set()
    for room in ("exceptions", "generators", "progress", "signals", "transfer", "typing", "wording")
}
MAY_IMPORT["habits"] = set()
MAY_IMPORT["atomic"] = {"typing"}
MAY_IMPORT["fingerprints"] = {"exceptions", "typing"}
GROUND = set(MAY_IMPORT)
MAY_IMPORT["soft_metrics"] = GROUND
MAY_IMPORT["losses"] = GROUND | {"soft_metrics"}
MAY_IMPORT["model_file"] = GROUND
for leaf in ("sampling", "augmentation", "networks", "images", "thresholds"):
    MAY_IMPORT[leaf] = GROUND
MAY_IMPORT["datasets"] = GROUND | {"images"}
MAY_IMPORT["training"] = GROUND | {"losses", "sampling", "augmentation", "networks"}
MAY_IMPORT["callbacks"] = GROUND | {"training"}
MAY_IMPORT["export"] = GROUND | {"training"}
MAY_IMPORT["classifiers"] = MAY_IMPORT["training"] | {
    "images",
    "training",
    "callbacks",
    "export",
    "model_file",
}
MAY_IMPORT["persistence"] = MAY_IMPORT["classifiers"] | {"classifiers"}
MAY_IMPORT["memory"] = MAY_IMPORT["classifiers"] | {"classifiers"}
MAY_IMPORT["explanation"] = MAY_IMPORT["classifiers"] | {"classifiers"}
MAY_IMPORT["decoupling"] = MAY_IMPORT["classifiers"] | {"classifiers", "thresholds"}
MAY_IMPORT["displays"] = GROUND | {"explanation"}
MAY_IMPORT["reports"] = GROUND
MAY_IMPORT["study"] = MAY_IMPORT["classifiers"] | {
    "classifiers",
    "datasets",
    "displays",
    "reports",
}
MAY_IMPORT["evaluation"] = MAY_IMPORT["study"] | {"study", "thresholds"}
MAY_IMPORT["__init__"] = MAY_IMPORT["study"] | {
    "evaluation",
    "explanation",
    "memory",
    "persistence",
    "study",
}
MAY_IMPORT["commands"] = MAY_IMPORT["study"] - {"callbacks", "displays"}
MAY_IMPORT["commands"] |= {"__init__", "evaluation", "memory", "persistence", "study"}
MAY_IMPORT["__main__"] = {"commands", "signals"}


def room_of(file):
    """Return the room of a file of the package."""
    return file.partition("/")[0].removesuffix(".py")


def module_of(file):
    name = "skimbal." + file.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imports_of(source, file="__main__.py"):
    """Return (file, name) for each import of the package, wherever in the source it stands.

    The name is None where a module is imported and nothing of it.
    """
    package = (
        module_of(file) if file.endswith("__init__.py") else module_of(file).rpartition(".")[0]
    )
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "skimbal":
                    found.add((MODULES[alias.name], None))
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*above, *([origin] if origin else [])])
            if origin.partition(".")[0] == "skimbal":
                for alias in node.names:
                    module = f"{origin}.{alias.name}"
                    is_module = module in MODULES
                    found.add(
                        (MODULES[module], None) if is_module else (MODULES[origin], alias.name)
                    )
    return found


def read(file):
    return (PACKAGE / file).read_text("utf-8")


ARROWS = {file: imports_of(read(file), file) for file in FILES}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import numpy, skimbal", {("__init__.py", None)}),
        ("import skimbal.losses as l", {("losses/__init__.py", None)}),
        (
            "from skimbal import losses, LossMix",
            {("losses/__init__.py", None), ("__init__.py", "LossMix")},
        ),
        ("from skimbal.losses import get_loss", {("losses/__init__.py", "get_loss")}),
        ("from . import sampling", {("sampling.py", None)}),
        (
            "def f():\n    from .training.forward import softmax",
            {("training/forward.py", "softmax")},
        ),
        ("from skimbal.training import forward", {("training/forward.py", None)}),
        ("from skimbalance import losses", set()),
    ],
)
def test_every_form_of_import_is_seen(source, expected):
    assert imports_of(source) == expected


def test_relative_imports_are_seen_from_their_folder():
    expected = {("training/forward.py", "softmax"), ("losses/__init__.py", None)}
    source = "from .forward import softmax\nfrom .. import losses"
    assert imports_of(source, "training/net.py") == expected


@pytest.mark.parametrize("file", FILES)
def test_no_arrow_runs_up(file):
    room = room_of(file)
    assert room in MAY_IMPORT, "say in MAY_IMPORT which rooms this one may import"
    found = {room_of(origin) for origin, _ in ARROWS[file]} - {room}
    assert found <= MAY_IMPORT[room]


def test_a_room_imports_lower_floors_only():
    order = list(MAY_IMPORT)
    for room, below in MAY_IMPORT.items():
        if room not in ("__main__", "__init__"):
            assert all(order.index(other) < order.index(room) for other in below), room


def circles(arrows):
    """Return the files that can be reached from themselves."""

    def reached(file, seen):
        for other in arrows[file] - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    return sorted(file for file in arrows if file in reached(file, set()))


def test_files_have_no_circle():
    # The names that a folder hands out are for other rooms: its own files import one another.
    arrows = {
        file: {origin for origin, _ in found if origin != "__init__.py"} - {file}
        for file, found in ARROWS.items()
        if file not in ("__init__.py", "__main__.py")
    }
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circles(arrows) == []


def is_private(name):
    return name is not None and name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("file", FILES)
def test_no_private_name_is_imported(file):
    """Neither an underscored name, nor anything of an underscored file of another folder."""
    for origin, name in ARROWS[file]:
        assert not is_private(name), f"{origin}: {name}"
        in_folder = "/" in origin and room_of(origin) == room_of(file)
        assert in_folder or not is_private(Path(origin).stem), origin


@pytest.mark.parametrize("file", FILES)
def test_no_private_attribute_of_an_import_is_read(file):
    tree = ast.parse(read(file))
    modules = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            root = ast.unparse(node.value).partition(".")[0]
            allowed = {"torch"}  # torch._dynamo has no public door for marks of shapes
            is_public = ast.unparse(node) == "os._exit"
            assert is_public or root not in modules - allowed, ast.unparse(node)


def test_command_line_uses_public_names_only():
    of_commands = [file for file in FILES if room_of(file) in ("__main__", "commands")]
    assert any(("__init__.py", "CNN2DClassifier") in ARROWS[file] for file in of_commands)
    for file in of_commands:
        for origin, name in ARROWS[file]:
            if name is not None:
                assert name in importlib.import_module(module_of(origin)).__all__, (origin, name)
        for node in ast.walk(ast.parse(read(file))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
                assert not is_private(node.attr), ast.unparse(node)


def test_folders_hand_out_their_public_names():
    for file in FILES:
        if file.endswith("/__init__.py"):
            module = importlib.import_module(module_of(file))
            assert module.__doc__, file
            for name in module.__all__:
                assert not is_private(name), (file, name)
                assert hasattr(module, name), (file, name)


def packages_of(source):
    """Return the packages that are imported, mapped to whether a module needs them to load."""
    found = {}

    def walk(node, at_import):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "import_optional", "import_reader")
        ):
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        for name in names:
            root = name.partition(".")[0]
            found[root] = found.get(root, False) or at_import
        inside = isinstance(node, ast.FunctionDef | ast.Lambda)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.iter_child_nodes(node):
            walk(child, at_import and not inside and not for_types)

    walk(ast.parse(source), True)
    return {
        root: needed
        for root, needed in found.items()
        if root not in sys.stdlib_module_names and root != "skimbal"
    }


def test_every_form_of_a_package_is_seen():
    source = (
        "import os, numpy as np\n"
        "from torch.nn import functional\n"
        "if TYPE_CHECKING:\n    from matplotlib.axes import Axes\n"
        "def f():\n    import pandas\n    importlib.import_module('PIL.Image')\n"
    )
    expected = {"numpy": True, "torch": True, "matplotlib": False, "pandas": False, "PIL": False}
    assert packages_of(source) == expected


def test_every_imported_package_is_declared():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]

    def names(requirements):
        return {re.match(r"[\w.-]+", text)[0].lower() for text in requirements}

    required = names(project["dependencies"])
    of_users = (
        "data",
        "distributed",
        "explain",
        "io",
        "onnx",
        "plot",
        "pretrained",
        "study",
    )
    extras = set().union(*(names(project["optional-dependencies"][extra]) for extra in of_users))
    distributions = packages_distributions()
    for file in FILES:
        for root, needed in packages_of(read(file)).items():
            possible = {name.lower() for name in distributions.get(root, [root])}
            assert possible & (required if needed else required | extras), (file, root)
