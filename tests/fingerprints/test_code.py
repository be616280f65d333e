"""Edits of code that change results change its checksum. Other edits do not, as a rule."""

import functools
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from skimbal.fingerprints import UndescribedError, code_digest


def load(source, **modules):
    """Run the source of a module of the user, beside other modules of the user."""
    for name, text in modules.items():
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(text, f"{name}.py", "exec"), vars(module))
    module = types.ModuleType("edited")
    sys.modules["edited"] = module
    exec(compile(source, "edited.py", "exec"), vars(module))
    return module


@pytest.fixture(autouse=True)
def forget_modules():
    yield
    for name in ("edited", "helpers", "constants"):
        sys.modules.pop(name, None)


PLAIN = """
import numpy as np
from functools import lru_cache, partial

SCALE = 2.0
TABLE = np.array([1.0, 2.0])

def helper(x, power=2):
    return x ** power

def reader(x):
    return helper(x) * SCALE + TABLE[0]
"""
CLASS = """
class Base:
    offset = 1.0
    def shift(self, x):
        return x + self.offset

class Reader(Base):
    factor = 3.0
    def __init__(self, window=(0, 80)):
        self.window = window
    def __call__(self, x):
        return super().shift(x) * self.factor + self.window[1] + self.width
    @property
    def width(self):
        return self.window[1] - self.window[0]
    @staticmethod
    def half(x):
        return x / 2
    @classmethod
    def make(cls):
        return cls((0, 40))

reader = Reader()
"""
CLOSURE = """
from contextlib import contextmanager
from functools import wraps, lru_cache, partial, singledispatch

def twice(function):
    @wraps(function)
    def inner(*args, **kwargs):
        return 2 * function(*args, **kwargs)
    return inner

def make(factor):
    def inner(x):
        return x * factor
    return inner

@lru_cache
def slow(x):
    return x + 1

@singledispatch
def general(x):
    return slow(x)

@general.register
def _(x: float):
    return x + 5

@contextmanager
def held(x):
    yield x + 2

@twice
def decorated(x):
    with held(x) as y:
        x = y
    return make(3)(x) + slow(x)

scaled = make(3)
first = partial(lambda a, b: a - b, 5)

def reader(x):
    return decorated(x) + scaled(x) + first(x) + general(x)
"""
MODULES = """
import helpers
from helpers import scale

def reader(x):
    import constants
    from constants import OFFSET
    return helpers.shift(scale(x)) + constants.FACTOR + OFFSET
"""
PASSED_ON = """
import os
import helpers

def call(module, x):
    return module.scale(x)

def reader(x):
    import constants as values
    return call(helpers, x) + total(values) + getattr(helpers, "sh" + "ift")(x)

def total(*modules):
    return sum(module.FACTOR + module.OFFSET for module in modules)
"""
HELPERS = """
import constants as c
UNUSED = 0
def shift(x):
    return x + c.SHIFT
def scale(x):
    return 2 * x
def unused(x):
    return x
"""
CONSTANTS = "SHIFT = 1.0\nFACTOR = 4.0\nOFFSET = 7\nUNUSED = 0\n"
FLOW = """
import enum
from dataclasses import dataclass, field

class Mode(enum.Enum):
    FAST = 1
    EXACT = 2

@dataclass
class Window:
    low: float = 0.0
    high: float = 80.0
    extra: list = field(default_factory=lambda: [1])

NAMES = {"a": 1, "b": [1, 2]}
CHOSEN = {"ct", "mr"}
MODE = Mode.FAST
WINDOW = Window()

def reader(x, *, power=2, **more):
    total = 0
    for i in range(3):
        total += i if x > 0 else -i
    try:
        total += NAMES["b"][1] / (x - x)
    except ZeroDivisionError:
        total += 10
    if MODE is Mode.FAST and "ct" in CHOSEN:
        total += [k * 2 for k in (1, 2)][1]
    return total + x ** power + WINDOW.high + Window().extra[0] + reader.bonus

reader.bonus = 1
"""
#: Edits that change a result: a source, a part of it, and the part after the edit.
EDITS = [
    (PLAIN, "SCALE = 2.0", "SCALE = 3.0"),
    (PLAIN, "SCALE = 2.0", "SCALE = -2.0"),
    (PLAIN, "[1.0, 2.0]", "[1.5, 2.0]"),
    (PLAIN, "x ** power", "x ** power + 1"),
    (PLAIN, "power=2", "power=3"),
    (PLAIN, "* SCALE", "/ SCALE"),
    (PLAIN, "TABLE[0]", "TABLE[1]"),
    (PLAIN, "TABLE[0]", "TABLE[-1]"),
    (PLAIN, "helper(x) * SCALE", "SCALE"),
    (PLAIN, "+ TABLE[0]", "- TABLE[0]"),
    (PLAIN, "helper(x)", "np.sin(x)"),
    (PLAIN, "def reader(x):\n", "def reader(x):\n    x = np.floor(x)\n"),
    (PLAIN, "def helper(x, power=2)", "def helper(power, x=2)"),
    (PLAIN, "helper(x)", "(lambda y: y + 1)(x)"),
    (CLASS, "offset = 1.0", "offset = 2.0"),
    (CLASS, "x + self.offset", "x - self.offset"),
    (CLASS, "factor = 3.0", "factor = 4.0"),
    (CLASS, "window=(0, 80)", "window=(0, 90)"),
    (CLASS, "Reader()", "Reader((0, 100))"),
    (CLASS, "super().shift(x)", "self.half(x)"),
    (CLASS, "self.window[1] - self.window[0]", "self.window[1] + 1"),
    (CLASS, "reader = Reader()", "reader = Reader.make()"),
    (CLASS, "reader = Reader()", "reader = Reader().shift"),
    (CLASS, "class Reader(Base):", "class Reader(type('Other', (Base,), {'offset': 9.0})):"),
    (CLASS, "    factor = 3.0\n", "    factor = 3.0\n    offset = 2.0\n"),
    (CLASS, "reader = Reader()", "reader = Reader()\nBase.shift = lambda self, x: 1"),
    (CLASS, "    @property\n    def width", "    width = 1\n    def wide"),
    (CLASS, "    @staticmethod\n    def half(x)", "    def __call__(self, x, *, y=0)"),
    (CLASS, "reader = Reader()", "reader = Reader()\nBase.offset = 8.0"),
    (CLASS, "reader = Reader()", "reader = Reader()\nreader.factor = 8.0"),
    (CLOSURE, "2 * function", "3 * function"),
    (CLOSURE, "x * factor", "x - factor"),
    (CLOSURE, "scaled = make(3)", "scaled = make(4)"),
    (CLOSURE, "make(3)(x)", "make(5)(x)"),
    (CLOSURE, "return x + 1", "return x + 2"),
    (CLOSURE, "yield x + 2", "yield x + 3"),
    (CLOSURE, "return x + 5", "return x + 6"),
    (CLOSURE, "@twice\ndef decorated", "def decorated"),
    (CLOSURE, "lambda a, b: a - b, 5", "lambda a, b: a - b, 6"),
    (CLOSURE, "lambda a, b: a - b, 5", "lambda a, b: b - a, 5"),
    (CLOSURE, "lambda a, b: a - b, 5", "lambda b, a: a - b, 5"),
    (FLOW, "range(3)", "range(4)"),
    (FLOW, "x > 0", "x > 5"),
    (FLOW, "i if x", "2 * i if x"),
    (FLOW, "total += 10", "total += 11"),
    (FLOW, "MODE = Mode.FAST", "MODE = Mode.EXACT"),
    (FLOW, '{"ct", "mr"}', '{"pet", "mr"}'),
    (FLOW, '"ct" in', '"pet" in'),
    (FLOW, "k * 2", "k * 3"),
    (FLOW, "power=2", "power=1"),
    (FLOW, "Window()\n", "Window(high=40.0)\n"),
    (FLOW, "high: float = 80.0", "high: float = 60.0"),
    (FLOW, "lambda: [1]", "lambda: [2]"),
    (FLOW, "reader.bonus = 1", "reader.bonus = 2"),
    (
        FLOW,
        "except ZeroDivisionError:",
        "except (ZeroDivisionError, KeyError):\n        total += 1",
    ),
]
#: Edits of the modules that a module uses.
EDITS_OF_MODULES = [
    ("helpers", "x + c.SHIFT", "x - c.SHIFT"),
    ("helpers", "2 * x", "3 * x"),
    ("constants", "SHIFT = 1.0", "SHIFT = 2.0"),
    ("constants", "FACTOR = 4.0", "FACTOR = 5.0"),
    ("constants", "OFFSET = 7", "OFFSET = 8"),
]
#: Edits that change no result: a source, a part of it, the part after, whether it is seen.
HARMLESS = [
    (PLAIN, "SCALE = 2.0\n", "SCALE = 2.0  # millimetres\n\n\n", False),
    (PLAIN, "def reader(x):\n", "def reader(x):\n    # of the scanner\n", False),
    (PLAIN, "def reader(x):\n", 'def reader(x):\n    """Read an image."""\n', False),
    (PLAIN, "helper(x) * SCALE", "(\n        helper(x)\n        * SCALE\n    )", False),
    (PLAIN, "def helper(x, power=2):\n", "def helper(x: float, power: int = 2) -> float:\n", False),
    (PLAIN, "def reader", "def unused():\n    return 1\n\ndef reader", False),
    (PLAIN, "    return helper(x) *", "    value = helper(x)\n    return value *", True),
    (CLASS, "class Reader(Base):\n", 'class Reader(Base):\n    """Reads."""\n', False),
    (CLASS, "window=(0, 80)", "window=(0,80,)", False),
    (FLOW, "total", "result", False),
    (FLOW, "for i in range(3):\n        total += i if x > 0 else -i",
     "for number in range(3):\n        total += number if x > 0 else -number", False),
    (FLOW, "[k * 2 for k in", "[item * 2 for item in", False),
    (FLOW, '{"ct", "mr"}', '{"mr", "ct"}', False),
    (CLOSURE, "def make(factor)", "def make(factor, /)", True),
    (CLASS, "    factor = 3.0\n", "    note = 0\n    factor = 3.0\n", True),
]  # fmt: skip


def digest_and_result(source, **modules):
    module = load(source, **modules)
    return code_digest(module.reader, "reader"), repr(module.reader(1.5))


@pytest.mark.parametrize(("source", "before", "after"), EDITS)
def test_an_edit_that_changes_results_changes_the_digest(source, before, after):
    assert source.count(before) >= 1
    digest, result = digest_and_result(source)
    assert digest == digest_and_result(source)[0]
    edited, other = digest_and_result(source.replace(before, after))
    assert result != other or "except" in before, "this edit changes nothing"
    assert digest != edited


@pytest.mark.parametrize(("module", "before", "after"), EDITS_OF_MODULES)
def test_an_edit_of_a_module_that_is_used_changes_the_digest(module, before, after):
    modules = {"constants": CONSTANTS, "helpers": HELPERS}
    digest, result = digest_and_result(MODULES, **modules)
    assert (digest, result) == digest_and_result(MODULES, **modules)
    assert modules[module].count(before) == 1
    modules[module] = modules[module].replace(before, after)
    edited, other = digest_and_result(MODULES, **modules)
    assert result != other
    assert digest != edited
    # An attribute that nobody names does not count.
    modules = {"constants": CONSTANTS, "helpers": HELPERS}
    modules[module] = modules[module].replace("UNUSED = 0", "UNUSED = 1").replace("return x\n", "0")
    assert digest_and_result(MODULES, **modules) == (digest, result)


@pytest.mark.parametrize(("module", "before", "after"), EDITS_OF_MODULES)
def test_an_edit_of_a_module_that_is_an_argument_changes_the_digest(module, before, after):
    modules = {"constants": CONSTANTS, "helpers": HELPERS}
    digest, result = digest_and_result(PASSED_ON, **modules)
    modules[module] = modules[module].replace(before, after)
    edited, other = digest_and_result(PASSED_ON, **modules)
    assert result != other
    assert digest != edited


def test_environment_variables_that_are_named_count(monkeypatch):
    module = load(
        "import os\ndef reader(x):\n    return os.environ.get('SKIMBAL_TEST_SCALE', 'PATH')"
    )
    digests = []
    for value in ("1", "1", "2"):
        monkeypatch.setenv("SKIMBAL_TEST_SCALE", value)
        digests.append(code_digest(module.reader, "reader"))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("source", "before", "after", "is_seen"), HARMLESS)
def test_comments_line_breaks_and_local_names_do_not_count(source, before, after, is_seen):
    assert before in source
    digest, result = digest_and_result(source)
    edited, other = digest_and_result(source.replace(before, after))
    assert result == other
    assert (digest != edited) == is_seen


def test_most_harmless_edits_are_not_seen():
    assert sum(is_seen for *_, is_seen in HARMLESS) <= 0.2 * len(HARMLESS)


@pytest.mark.parametrize(
    "source",
    [
        "NAME = 'SKIMBAL_TEST_SCALE'\ndef reader(x):\n    return os.environ.get(NAME)",
        "def reader(x, name='SKIMBAL_TEST_SCALE'):\n    return os.environ[name]",
        "def read(name):\n    return os.getenv(name)\n"
        "def reader(x):\n    return read('SKIMBAL_TEST_SCALE')",
        "class R:\n    name = 'SKIMBAL_TEST_SCALE'\n    def __call__(self, x):\n"
        "        return os.environ[self.name]\nreader = R()",
    ],
)
def test_environment_variables_count_wherever_they_are_named(monkeypatch, source):
    module = load(f"import os\n{source}")
    found = set()
    for value in ("1", "2", None):
        if value is None:
            monkeypatch.delenv("SKIMBAL_TEST_SCALE")
        else:
            monkeypatch.setenv("SKIMBAL_TEST_SCALE", value)
        found.add(code_digest(module.reader, "reader"))
    assert len(found) == 3


@pytest.mark.parametrize("name", ["F.gelu", "F.softplus", "torch.special.expit", "torch.fft.fft"])
def test_functions_in_modules_that_compiled_code_makes_are_described(name):
    source = f"import torch\nfrom torch.nn import functional as F\nf = {name}\n"
    module = load(source + "def reader(x, act=f):\n    return f(x)")
    assert code_digest(module.reader, "reader") != code_digest(load(source).f, "f")
    other = load(source.replace(name, "F.elu_") + "def reader(x, act=f):\n    return f(x)")
    assert code_digest(module.reader, "reader") != code_digest(other.reader, "reader")


def test_classes_that_a_weak_registry_holds_count():
    source = (
        "import weakref\nTABLE = weakref.{kind}()\nclass A:\n    width = {width}\n{put}\n"
        "def reader(x):\n    return TABLE"
    )
    puts = {"WeakValueDictionary": "TABLE['a'] = A", "WeakSet": "TABLE.add(A)"}
    for kind, put in puts.items():
        texts = [source.format(kind=kind, width=width, put=put) for width in (8, 4, 8)]
        first, second, third = (code_digest(load(text).reader, "reader") for text in texts)
        assert first != second
        assert first == third


def test_the_environment_under_another_name_counts(monkeypatch):
    module = load("from os import environ as e\ndef reader(x):\n    return e['SKIMBAL_TEST_SCALE']")
    digests = []
    for name, value in (("SCALE", "1"), ("SCALE", "2"), ("OTHER", "3")):
        monkeypatch.setenv(f"SKIMBAL_TEST_{name}", value)
        digests.append(code_digest(module.reader, "reader"))
    assert digests[0] != digests[1] == digests[2]


def test_arguments_of_the_program_that_code_reads_count(monkeypatch):
    module = load("import sys\ndef reader(x):\n    return sys.argv[1]")
    digests = set()
    for value in ("1", "2"):
        monkeypatch.setattr(sys, "argv", ["program", value])
        digests.add(code_digest(module.reader, "reader"))
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("name", "read"), [("__doc__", '"""{}"""'), ("__annotations__", ""), ("x", "")]
)
def test_docstrings_and_annotations_count_if_code_reads_them(name, read):
    source = (
        f"def f(x: 'A'):\n    {read.format('A') or 'pass'}\ndef reader(x):\n    return f.{name}\n"
    )
    digests = [code_digest(load(source.replace("A", a)).reader, "reader") for a in "AB"]
    assert (digests[0] != digests[1]) == (name != "x")


def test_chains_of_functions_may_be_long():
    lines = [f"def f{i}(x):\n    return f{i + 1}(x)" for i in range(2000)]
    source = "\n".join([*lines, "def f2000(x):\n    return x * 2", "reader = f0"])
    digest = code_digest(load(source).reader, "reader")
    assert digest != code_digest(load(source.replace("x * 2", "x * 3")).reader, "reader")


def test_values_that_change_while_a_program_runs_count():
    module = load(PLAIN)
    digests = {code_digest(module.reader, "reader")}
    module.TABLE[0] = 5
    digests.add(code_digest(module.reader, "reader"))
    module.SCALE = 3
    digests.add(code_digest(module.reader, "reader"))
    module.helper.__defaults__ = (7,)
    digests.add(code_digest(module.reader, "reader"))
    module.helper = len
    digests.add(code_digest(module.reader, "reader"))
    module.sin = np.sin
    module.reader.__code__ = (lambda x: x).__code__
    digests.add(code_digest(module.reader, "reader"))
    assert len(digests) == 6


def test_a_patched_function_of_a_package_counts(monkeypatch):
    module = load("import numpy as np\ndef reader(x):\n    return np.load(x)\n")
    digest = code_digest(module.reader, "reader")
    monkeypatch.setattr(np, "load", lambda path: 1)
    assert code_digest(module.reader, "reader") != digest


class Net(torch.nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.layer = torch.nn.Linear(width, 1)


def pairs_of_values():
    weights = Net(), Net()
    weights[1].load_state_dict(weights[0].state_dict())
    weights[1].layer.weight.data[0, 0] += 1e-3
    return [
        (1, 1.0), (1, True), (0.0, -0.0), ("1", 1), (b"a", "a"), ((1, 2), [1, 2]), ([1], [[1]]),
        (["ab", "c"], ["a", "bc"]), ({"a": 1}, {"a": 2}), ({"a": 1}, {"b": 1}), ({1, 2}, {1, 3}),
        (np.arange(3), np.arange(3.0)), (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.array(["a", None], object), np.array(["b", None], object)),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0])),
        (np.float32(1), np.float64(1)), (np.sin, np.cos), (np.load, np.save), (len, sum),
        (torch.zeros(2), torch.ones(2)), (torch.zeros(2), torch.zeros(2, dtype=torch.float16)),
        (torch.zeros(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
        (torch.float32, torch.float16), (torch.nn.Linear(1, 1), torch.nn.Linear(2, 1)), weights,
        (functools.partial(max, 1), functools.partial(max, 2)), ("a".join, "b".join),
        ({"a": 1}.get, {"a": 2}.get), (range(3), range(4)), (slice(1), slice(2)),
        (np.random.default_rng(0), np.random.default_rng(1)),
        (np.dtype("u1"), np.dtype("u2")), (int, float), (np, torch), (Net, torch.nn.Linear),
    ]  # fmt: skip


@pytest.mark.parametrize("n", range(len(pairs_of_values())))
def test_different_values_have_different_digests(n):
    first, second = pairs_of_values()[n]
    assert code_digest(first, "it") == code_digest(first, "it")
    assert code_digest(first, "it") != code_digest(second, "it")


UNDESCRIBED = {
    "file": (
        "import io\nfile = io.TextIOWrapper(io.BytesIO())\n"
        "def reader(x):\n    return file.read()",
        r"global 'file' of",
    ),
    "eval": ("def reader(x):\n    return eval('x')", r"global 'eval' of the reader .*by text"),
    "exec": ("def reader(x):\n    exec('x')", r"global 'exec'"),
    "globals": ("def reader(x):\n    return globals()['a']", r"global 'globals'"),
    "modules": (
        "import sys\ndef reader(x):\n    return sys.modules['a'].f(x)",
        r"global 'sys' of the reader .*by text",
    ),
    "import": (
        "import importlib\ndef reader(x):\n    return importlib.import_module(x)",
        "imports a module by text",
    ),
    "name": ("import pkgutil as p\ndef reader(x):\n    return p.resolve_name(x)", "by text"),
    "place": ("import pydoc\ndef reader(x):\n    return pydoc.locate(x)", "by text"),
    "built-in": (
        "import builtins\ndef reader(x):\n    return builtins.eval(x)",
        "global 'builtins' of the reader .*by text",
    ),
    "subclasses": (
        "class Base: pass\ndef reader(x):\n    return Base.__subclasses__()",
        "classes that no code names",
    ),
    "generator": ("one = (i for i in 'a')\ndef reader(x):\n    return next(one)", "global 'one'"),
    "ufunc": (
        "import numpy as np\nf = np.frompyfunc(lambda x: x, 1, 1)\ndef reader(x):\n    return f(x)",
        r"global 'f'.*ufunc",
    ),
    "attribute": (
        "import threading\nclass R:\n    def __init__(self):\n"
        "        self.mine = threading.local()\n"
        "    def __call__(self, x):\n        return self.mine\nreader = R()",
        r"'mine' of the reader cannot be described: _thread._local",
    ),
    "closure": (
        "def make():\n    lines = (i for i in 'a')\n    return lambda x: next(lines)\n"
        "reader = make()",
        r"variable 'lines' of the reader",
    ),
    "called": (
        "db = (i for i in 'a')\ndef f():\n    return db\n"
        "def reader(x):\n    return f()",
        r"global 'db' of global 'f' of the reader",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNDESCRIBED)
def test_parts_that_cannot_be_described_are_named(kind):
    source, message = UNDESCRIBED[kind]
    module = load(source)
    with pytest.raises(UndescribedError, match=message):
        code_digest(module.reader, "the reader")


def test_loggers_locks_and_recursion_are_described():
    source = (
        "import logging, threading, re, pathlib, os\n"
        "log, lock = logging.getLogger('a'), threading.RLock()\n"
        "pattern, folder = re.compile('a'), pathlib.Path('b')\n"
        "def reader(x):\n"
        "    with lock:\n        log.info('x')\n"
        "    return x if x == 0 or pattern or folder or os.path.join('a') else reader(x - 1)\n"
    )
    digest = code_digest(load(source).reader, "reader")
    assert digest == code_digest(load(source).reader, "reader")
    assert digest != code_digest(load(source.replace("'b'", "'c'")).reader, "reader")
    assert digest != code_digest(load(source.replace("compile('a'", "compile('b'")).reader, "r")
    knot = []
    knot.append(knot)
    assert code_digest(knot, "it") != code_digest([[]], "it")
    deep = []
    for _ in range(10**4):
        deep = [deep]
    with pytest.raises(UndescribedError, match="it is nested too deeply"):
        code_digest(deep, "it")


@pytest.mark.slow
def test_digests_are_the_same_in_every_process(tmp_path):
    (tmp_path / "edited.py").write_text("\n".join([PLAIN, FLOW, "lock = 1"]))
    code = (
        "import edited; from skimbal.fingerprints import code_digest\n"
        "print(code_digest([edited.reader, edited.Window, {'a', 'b', 'c'}, edited.np.load], 'x'))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{os.getcwd()}:{tmp_path}"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
