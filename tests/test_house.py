"""Files, classes, functions, the constructor and the use of Any have bounds."""

import ast
import inspect
from pathlib import Path

import pytest

import skimbal
from benchmarks import house

PACKAGE = Path(skimbal.__file__).parent
HOUSE = house.sources(PACKAGE)
#: Largest number of lines of code (no blank lines, comments and docstrings).
MOST_LINES = {"file": 600, "class": 300, "function": 40}
#: Functions that may be longer, with the reason.
LONGER: dict[str, str] = {}


@pytest.mark.parametrize("kind", MOST_LINES)
def test_sizes_are_bounded(kind):
    measured = {"file": house.files, "class": house.classes, "function": house.functions}[kind]
    sizes = {definition.place: definition.n_lines for definition in measured(HOUSE)}
    too_long = {place: n for place, n in sizes.items() if n > MOST_LINES[kind]}
    assert set(too_long) <= set(LONGER), too_long
    if kind == "function":
        assert set(LONGER) <= set(too_long), "these exceptions are not needed any more"


def test_lines_of_code_leave_out_blanks_comments_and_docstrings(tmp_path):
    text = '"""File."""\n\n# Why.\nclass A:\n    """Class."""\n\n    def f(self, x: Any, y: int):\n'
    text += (
        '        """Do it."""\n        # Why.\n        z = """\n        text"""\n        return z\n'
    )
    (tmp_path / "a.py").write_text(text)
    measured = house.sources(tmp_path)
    assert [d.n_lines for d in house.files(measured)] == [5]
    assert [(d.place, d.n_lines) for d in house.classes(measured)] == [("a.py: A", 5)]
    assert [(d.place, d.n_lines) for d in house.functions(measured)] == [("a.py: A.f", 3)]
    assert house.any_parameters(measured) == (["a.py:7 A.f(x)"], 2)


def test_few_parameters_are_of_any_type():
    found, n_all = house.any_parameters(HOUSE)
    assert n_all > 1000
    assert len(found) <= 0.05 * n_all, found


def test_constructor_has_at_most_28_parameters():
    for classifier in (skimbal.CNN2DClassifier, skimbal.CNN3DClassifier):
        assert len(inspect.signature(classifier).parameters) <= 28


TESTS = Path(__file__).parent
#: Underscored names of other packages, and protocols of scikit-learn and IPython.
NOT_OURS = {
    "_compiled_call_impl",
    "_get_font",
    "_n_features_out",
    "_repr_html_",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_exit",
    "___needs_generation_tag_patch",
    "_convolution_pointwise",
}


def private_names(source):
    """Return the underscored names that a test reads from an object or patches by its name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skimbal"):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "setitem")):
            texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
            found.update(str(text).rpartition(".")[2] for text in texts)
    return {name for name in found if name.startswith("_") and not name.endswith("__")}


def test_private_names_are_seen():
    source = "clf._net.a\nfrom skimbal.losses import _x\npatch.setattr('skimbal.losses._y', 1)"
    assert private_names(source) == {"_net", "_x", "_y"}


def names_torch(file):
    """Tell whether a file replaces private functions of torch, as the rehearsal does."""
    return file.startswith("rehearsal/") and "/test_" not in file


FILES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py"))


@pytest.mark.parametrize("file", [file for file in FILES if not names_torch(file)])
def test_tests_reach_for_no_private_name(file):
    assert private_names((TESTS / file).read_text("utf-8")) <= NOT_OURS
