"""Edits of a program that trains networks, each with the right answer of a cache of its fits.

An edit changes the program, its data, its files or its settings. Then a study must fit anew, or it
may go on with the fits that it has.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["EDITS", "PRELUDE", "Edit"]

#: The beginning of every program.
PRELUDE = """
import os, sys
import functools
from pathlib import Path
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from skimbal import CNN2DClassifier, LossMix, NDSampler
from skimbal.study import compare_losses

HERE = os.environ.get("EDITS_FOLDER", ".")
X = np.random.default_rng(0).integers(0, 200, (24, 8, 8), dtype=np.uint8)
y = np.arange(24) % 3

def linear(c, k, width=8, scale=1.0):
    body = [nn.Linear(64 * c, width), nn.ReLU(), nn.Linear(width, k)]
    return nn.Sequential(nn.Flatten(), Scale(scale), *body)

class Scale(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale
    def forward(self, x):
        return x * self.scale

def clf(module=linear, **params):
    options = dict(max_epochs=2, batch_size=8, augment=None, optimizer="sgd", lr=0.01)
    options |= dict(lr_schedule=None, loss="ce", sampler="uniform", module=module)
    return CNN2DClassifier(**{**options, **params})

def study(cache_dir=None, **options):
    rows = [(np.arange(12), np.arange(12, 24))]
    chosen = dict(losses=["ce"], samplers=["uniform"], cv=rows, random_state=0, verbose=0)
    chosen |= dict(X=X, y=y, cache_dir=cache_dir, check_copies=False, **options)
    chosen |= STUDY
    chosen.setdefault("estimator", clf())
    images, labels = chosen.pop("X"), chosen.pop("y")
    return compare_losses(images, labels, **chosen)

STUDY = {}
"""


@dataclass(frozen=True)
class Edit:
    """An edit of a program.

    Parameters
    ----------
    name : str
        What is edited.
    source : str
        The program, after the prelude.
    before, after : str
        The edit of the program, or of a file.
    how : str, default="edit"
        ``"edit"`` loads the edited program anew, ``"reload"`` reloads its module, ``"cell"`` runs
        it in a notebook. ``"run"`` executes ``after`` in the program that runs, and ``before`` at
        the end. ``"process"`` starts two processes, and ``after`` is their difference.
    file : str, default="lab.py"
        The file that is edited.
    files : dict, default={}
        Further files, by their names.
    is_other : bool, default=True
        Whether the result is of other code, data or settings.
    shows : bool, default=True
        Whether the scores of this small study show it.
    group : str
        Kind of the edit.
    """

    name: str
    source: str
    before: str
    after: str
    group: str
    how: Literal["edit", "reload", "cell", "run", "process"] = "edit"
    file: str = "lab.py"
    files: tuple[tuple[str, str], ...] = ()
    is_other: bool = True
    shows: bool = True


FUNCTIONS = """
import math
WIDTH = 8
SIZES = [8, 4]
FACTORS = {"first": 1.0, "rest": [2.0]}
ARRAY = np.array([1.0, 2.0])

def twice(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return Times(function(*args, **kwargs), 2)
    return inner

class Times(nn.Module):
    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor
    def forward(self, x):
        return self.net(x) * self.factor

def depth():
    return SIZES[1]

def width(extra=0, *, more=0):
    return WIDTH + extra + more + depth()

def make(factor, array):
    weights = torch.tensor(array, dtype=torch.float32)
    def build(c, k):
        return Times(linear(c, k, width()), factor * float(weights.sum()) * FACTORS["rest"][0])
    return build

build = make(0.5, ARRAY)
shrink = lambda x: x * 0.5

@twice
def net(c, k):
    return Times(build(c, k), shrink(ARRAY[0]))

STUDY = {"estimator": clf(net)}
"""
PARTIAL = """
def wide(extra, c, k, *, scale=1.0):
    return linear(c, k, 8 + extra, scale)
STUDY = {"estimator": clf(functools.partial(wide, 2, scale=0.5))}
"""
CLASSES = """
import enum
from dataclasses import dataclass, field, fields

class Mode(enum.Enum):
    FAST = 1
    EXACT = 2

@dataclass
class Config:
    width: int = 6
    scale: float = field(default=0.5, metadata={"unit": 2.0})
    extra: list = field(default_factory=lambda: [1.0])
    def factor(self):
        return self.scale * sum(f.metadata.get("unit", 1) for f in fields(self)) * self.extra[0]

class Registered:
    gains = {}
    def __init_subclass__(cls, gain=1.0, **kwargs):
        super().__init_subclass__(**kwargs)
        Registered.gains[cls.__name__] = gain * 1.0

class Meta(type):
    def __call__(cls, *args, **kwargs):
        made = super().__call__(*args, **kwargs)
        made.bonus = 1.0
        return made

class Shift:
    def shift(self, x):
        return x + 0.25

class Base(nn.Module):
    gain = 1.5
    def head(self, x):
        return self.last(x) * self.gain

class Net(Shift, Base, Registered, metaclass=Meta, gain=1.25):
    class Inner:
        power = 1.0
    def __init__(self, c, k, config=Config()):
        super().__init__()
        self.config = config
        self.first = nn.Linear(64 * c, config.width)
        self.last = nn.Linear(config.width, k)
    @property
    def slope(self):
        return 0.1
    @staticmethod
    def half(x):
        return x / 2
    @classmethod
    def gained(cls):
        return cls.gains[cls.__name__]
    def forward(self, x):
        x = F.leaky_relu(self.first(x.flatten(1)), self.slope)
        x = self.head(self.half(self.shift(x))) * self.gained() * self.config.factor()
        return x ** self.Inner.power * self.bonus * MODE.value

MODE = Mode.FAST
STUDY = {"estimator": clf(Net)}
"""
STATE = """
class Factory:
    def __init__(self, width, table):
        self.width, self.table = width, table
    def __call__(self, c, k):
        return linear(c, k, self.width, self.table["scale"])
    def build(self, c, k):
        return self(c, k)

class Slotted:
    __slots__ = ("width",)
    def __init__(self, width):
        self.width = width
    def build(self, c, k):
        return linear(c, k, self.width)

STUDY = {"estimator": clf(Factory(6, {"scale": 0.5}))}
"""
USER_MODULES = (
    ("tools.py", "from tables import *\ndef scale(x):\n    return x * FACTOR\nUNUSED = 1\n"),
    ("tables.py", "FACTOR = 2.0\nGAIN = 3.0\ndef gain():\n    return GAIN\n"),
    ("pack/__init__.py", ""),
    ("pack/sub.py", "from . import base\ndef power(x):\n    return base.START + x\n"),
    ("pack/base.py", "START = 1.0\n"),
)
MODULES = """
import tools
from tables import *
from pack.sub import power

def apply(lab, x):
    return lab.scale(x)

def net(c, k):
    import tables as late
    return linear(c, k, 6, apply(tools, 0.1) * gain() * power(0.5) * late.GAIN)

STUDY = {"estimator": clf(net)}
"""
TORCH = """
def made():
    torch.manual_seed(0)
    net = linear(1, 3)
    net[1].offset = 0.0
    net[1].register_buffer("shift", torch.zeros(1), persistent=False)
    return net

def halve(module, args, output):
    return output * 0.5

NET = made()
TABLE = torch.tensor([1.0, 2.0])

class Holder(nn.Module):
    def __init__(self, c, k):
        super().__init__()
        import copy
        self.net = copy.deepcopy(NET)
    def forward(self, x):
        return self.net(x) * TABLE[0] + self.net[1].shift + self.net[1].offset

STUDY = {"estimator": clf(Holder)}
"""
SETTINGS = """
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback, GradientNormClipping

class Decay(Callback):
    def __init__(self, rate=0.5):
        self.rate = rate
    def on_epoch_begin(self, net, **kwargs):
        for group in net.optimizer_.param_groups:
            group["lr"] *= self.rate * 1.0

class Drop(RandomUnderSampler):
    def _fit_resample(self, X, y, **params):
        X, y = super()._fit_resample(X, y, **params)
        self.sample_indices_ = self.sample_indices_[:: 1 + 0]
        return X[:: 1 + 0], y[:: 1 + 0]

def change(images):
    return images * 0.5

def scaled(X):
    return X / 2

def built(c, k, scale=1.0, table=None):
    table = table or {"a": 2, "b": 3}
    return linear(c, k, list(table.values())[0] * 4, scale)

class Loss(nn.Module):
    def forward(self, logits, target):
        return F.cross_entropy(logits, target) * 1.0

def score(estimator, X, y):
    return -float(np.log(estimator.predict_proba(X)[np.arange(len(y)), y]).mean()) * 1.0

CLASS_WEIGHT = {0: 1.0, 1: 2.0, 2: 1.0}
NET = {"module__scale": 0.5, "module__table": {"a": 2, "b": 3}}
CALLBACKS = [("decay", Decay()), ("clip", GradientNormClipping(0.5))]
ESTIMATOR = clf(
    built, class_weight=CLASS_WEIGHT, net=NET, callbacks=CALLBACKS, augment=change, lr=0.02
)
PIPELINE = make_pipeline(FunctionTransformer(scaled), ESTIMATOR)
STUDY = {"estimator": PIPELINE, "scoring": score, "samplers": [RandomOverSampler()]}
"""
LOSSES = """
STUDY = {"losses": {"mine": Loss()}, "estimator": clf(), "samplers": {"drop": Drop()}}
"""
TABLES = """
from skimbal.losses import TERMS, Term
from skimbal.training import SCHEDULES
from skimbal.networks import BUILT_IN, SmallCNN

def recall(tp, predicted, true):
    return (tp / (true + (true == 0))).mean() * 1.0

def falling(progress):
    return 1 - 0.5 * progress

def residual(in_channels, n_classes, spatial_shape):
    return SmallCNN(in_channels, n_classes, spatial_shape=spatial_shape, width=9)

TERMS["edited_recall"] = Term(score=recall)
SCHEDULES["edited_fall"] = falling
KEPT = BUILT_IN["residual"]
BUILT_IN["residual"] = residual
ESTIMATOR = clf("auto", lr_schedule="edited_fall")
STUDY = {"losses": ["ce+edited_recall"], "baseline": "ce+edited_recall", "estimator": ESTIMATOR}
STUDY.pop("baseline")
"""
FILES = """
from skimbal.images import ImageFiles

def save():
    folder = Path(HERE, "images")
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:02}.npy" for i in range(len(X))]
    for path, image in zip(paths, X):
        if not path.exists():
            np.save(path, image)
            os.utime(path, ns=(10**18, 10**18))
    return paths

def read(path):
    return np.load(path) * np.uint8(1)

def flipped(image):
    return image[..., ::-1] * 1.0

OPTIONS = {}
STUDY = {"X": ImageFiles(save(), **OPTIONS)}
"""
OVERWRITE = """
for i in range(12):
    path = Path(HERE, "images", f"{i:02}.npy")
    np.save(path, X[i] // 2)
    os.utime(path, ns=(10**18, 10**18))
STUDY = {"X": ImageFiles(save(), **OPTIONS)}
"""
MEMMAP = """
PATH = os.path.join(HERE, "images.dat")
if not os.path.exists(PATH):
    X.tofile(PATH)
STUDY = {"X": np.memmap(PATH, np.uint8, "r", shape=X.shape)}
"""
WEIGHTS = """
FOLDER = os.path.join(HERE, "weights")
os.makedirs(FOLDER, exist_ok=True)
PATH = os.path.join(FOLDER, "first.pt")
LOG = os.path.join(HERE, "log.txt")

def save(path, scale):
    torch.manual_seed(0)
    net = linear(1, 3)
    for weight in net.parameters():
        weight.data *= scale
    torch.save(net.state_dict(), path)

for name in ("first.pt", "second.pt"):
    if not os.path.exists(os.path.join(FOLDER, name)):
        save(os.path.join(FOLDER, name), 1.0)

def net(c, k):
    made = linear(c, k)
    made.load_state_dict(torch.load(PATH, weights_only=True))
    return made

def joined(c, k):
    made = linear(c, k)
    made.load_state_dict(torch.load(os.path.join(FOLDER, "second.pt"), weights_only=True))
    return made

def beside(c, k):
    made = linear(c, k)
    path = Path(__file__).parent / "weights" / "first.pt"
    made.load_state_dict(torch.load(path, weights_only=True))
    return made

def logged(c, k):
    with open(LOG, "a") as file:
        file.write("built\\n")
    return linear(c, k)

STUDY = {"estimator": clf(net)}
"""
ENVIRONMENT = """
def net(c, k):
    return linear(c, k, 6, float(os.environ.get("EDITS_SCALE", "1.0")))
STUDY = {"estimator": clf(net)}
"""
PLAIN = """
STUDY = {"estimator": clf(linear)}
"""


#: The end of a program whose network is the function ``net``.
_END = '\nSTUDY = {"estimator": clf(net)}\n'
#: Reads the width of the network from a file of a package.
_PACKAGE = (("pack/__init__.py", ""), ("pack/width.json", '{"width": 8}'))
_HUB = """
import torch
from torch import nn
def tiny(c=1, k=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * c, 8), nn.ReLU(), nn.Linear(8, k))
"""
#: Programs that find the width of their network in a file, by a folder and a name that stand apart.
_READERS = {
    "a helper gets folder and name": """
def read(folder, name):
    return json.loads(Path(folder, name).read_text())["width"]
FOLDER, NAME = os.path.join(HERE, "pack"), "width.json"
def net(c, k):
    return linear(c, k, read(FOLDER, NAME))
""",
    "the folder is an attribute of a class": """
class Reader:
    home = Path(HERE, "pack")
    def __call__(self, c, k):
        return linear(c, k, json.loads((self.home / "width.json").read_text())["width"])
net = Reader()
""",
    "the folder is an attribute of an object": """
class Reader:
    def __init__(self, home):
        self.home = home
    def __call__(self, c, k):
        return linear(c, k, json.loads(Path(self.home, "width.json").read_text())["width"])
net = Reader(os.path.join(HERE, "pack"))
""",
    "the folder is an argument of a partial": """
def make(home, c, k):
    return linear(c, k, json.loads(Path(home, "width.json").read_text())["width"])
net = functools.partial(make, os.path.join(HERE, "pack"))
""",
    "the folder is an entry of a dict": """
PLACES = {"home": os.path.join(HERE, "pack")}
def net(c, k):
    return linear(c, k, json.loads(Path(PLACES["home"], "width.json").read_text())["width"])
""",
    "a file of an imported package": """
from importlib import resources
def net(c, k):
    text = resources.files("pack").joinpath("width.json").read_text()
    return linear(c, k, json.loads(text)["width"])
""",
    "a file that pkgutil reads": """
import pkgutil
def net(c, k):
    return linear(c, k, json.loads(pkgutil.get_data("pack", "width.json"))["width"])
""",
}
#: Programs whose network has the width 88, which the edit makes 44.
_FINDERS = {
    "a cached property": """
class Net:
    @functools.cached_property
    def width(self):
        return 88
    def __call__(self, c, k):
        return linear(c, k, self.width)
net = Net()
""",
    "a function by the type of its argument": """
@functools.singledispatch
def width(x):
    return 160
@width.register
def _(x: int):
    return 88
def net(c, k):
    return linear(c, k, width(c))
""",
    "a class that its base registers": """
TABLE = {}
class Base:
    def __init_subclass__(cls, key=None):
        TABLE[key] = cls
class Narrow(Base, key="narrow"):
    width = 88
def net(c, k):
    return linear(c, k, TABLE["narrow"].width)
""",
    "a class in a weak registry": """
import weakref
TABLE = weakref.WeakValueDictionary()
class Narrow:
    width = 88
TABLE["narrow"] = Narrow
def net(c, k):
    return linear(c, k, TABLE["narrow"].width)
""",
    "a function that a decorator registers": """
TABLE = {}
def listed(function):
    TABLE[function.__name__] = function
    return function
@listed
def narrow(c, k):
    return linear(c, k, 88)
def net(c, k):
    return TABLE["narrow"](c, k)
""",
    "a variable that a neighbour sets": """
def make():
    width = 160
    def choose(value):
        nonlocal width
        width = value
    def net(c, k):
        return linear(c, k, width)
    return net, choose
net, choose = make()
choose(88)
""",
    "a descriptor": """
class Width:
    def __get__(self, owner, kind):
        return 88
class Net:
    width = Width()
    def __call__(self, c, k):
        return linear(c, k, self.width)
net = Net()
""",
}
#: Programs that find the width of their network in the environment.
_ENVIRONMENTS = {
    "a helper gets the name of a variable": """
def read(name):
    return os.environ.get(name, "8")
def net(c, k):
    return linear(c, k, int(read("LAB_WIDTH")))
""",
    "a global has the name of a variable": """
NAME = "LAB_WIDTH"
def net(c, k):
    return linear(c, k, int(os.environ.get(NAME, "8")))
""",
    "an attribute has the name of a variable": """
from os import environ as e
class Net:
    key = "LAB_WIDTH"
    def __call__(self, c, k):
        return linear(c, k, int(e.get(self.key, "8")))
net = Net()
""",
}
#: Changes of PyTorch while the program runs: a name, the change, and its end.
_PATCHES = (
    ("a method of another class of torch", "nn.ReLU.forward = nn.Tanh.forward"),
    ("a method of an object", "F.relu = Double().relu"),
    ("a function with a memory", "F.relu = functools.lru_cache(maxsize=0)(Double().relu)"),
    ("a hook of all modules", "HOOK = on_forward(lambda module, inputs, output: output * 0.5)"),
    ("a hook of all optimizers", "HOOK = on_step(lambda optimizer, *_: raise_rate(optimizer))"),
)
_PATCHED = """
from torch.nn.modules.module import register_module_forward_hook as on_forward
from torch.optim.optimizer import register_optimizer_step_pre_hook as on_step

KEPT, RELU = nn.ReLU.forward, F.relu

class Double:
    def relu(self, x, inplace=False):
        return 2 * x

def raise_rate(optimizer):
    for group in optimizer.param_groups:
        group["lr"] = 0.5

def restore():
    nn.ReLU.forward, F.relu = KEPT, RELU
    globals()["HOOK"].remove() if "HOOK" in globals() else None
"""


def _found_by_trial() -> list[Edit]:
    """Return edits that an earlier description of code did not see."""
    wide, narrow = '{"width": 8}', '{"width": 4}'
    found = [
        Edit(
            name,
            f"import json\n{source}{_END}",
            f"Path(HERE, 'pack', 'width.json').write_text({wide!r})",
            f"Path(HERE, 'pack', 'width.json').write_text({narrow!r})",
            "files",
            how="run",
            files=_PACKAGE,
        )
        for name, source in _READERS.items()
    ]
    found += [
        Edit(
            "code of a folder of torch.hub",
            "def net(c, k):\n"
            "    return torch.hub.load(Path(HERE, 'hub'), 'tiny', source='local', c=c, k=k)" + _END,
            "",
            "path = Path(HERE, 'hub', 'hubconf.py')\n"
            "path.write_text(path.read_text().replace('ReLU', 'Tanh'))",
            "files",
            how="run",
            files=(("hub/hubconf.py", _HUB),),
        )
    ]
    found += [
        Edit(name, source + _END, "88", "44", "functions" if "function" in name else "classes")
        for name, source in _FINDERS.items()
    ]
    found += [
        Edit(name, source + _END, "", "environment LAB_WIDTH=4", "processes", how="process")
        for name, source in _ENVIRONMENTS.items()
    ]
    found += [
        Edit(name, _PATCHED, "restore()", change, "while it runs", how="run")
        for name, change in _PATCHES
    ]
    filled = (
        "@functools.lru_cache\ndef width(c):\n    return 8\n"
        "def net(c, k):\n    return linear(c, k, width(c))"
    )
    logged = (
        "import logging\nLOG = logging.getLogger('lab')\n"
        "def net(c, k):\n    LOG.debug('made')\n    return linear(c, k)"
    )
    found += [
        Edit(
            "the memory of a function",
            filled + _END,
            "",
            "width(7)",
            "harmless",
            how="run",
            is_other=False,
        ),
        Edit(
            "a logger in another process",
            logged + _END,
            "",
            "environment OTHER=1",
            "harmless",
            how="process",
            is_other=False,
        ),
    ]
    return found


def _edits() -> list[Edit]:
    def of(group: str, source: str, *rows: tuple[str, str, str], **more: object) -> list[Edit]:
        return [Edit(n, source, b, a, group, **more) for n, b, a in rows]  # type: ignore[arg-type]

    same: dict[str, object] = {"is_other": False}
    found = of(
        "functions",
        FUNCTIONS,
        ("a number in a function", "x * 0.5", "x * 0.25"),
        ("an operator", "WIDTH + extra", "WIDTH - extra + 1"),
        ("a global number", "WIDTH = 8", "WIDTH = 9"),
        ("a global list that a helper of a helper reads", "[8, 4]", "[8, 5]"),
        ("a list in a global dict", '"rest": [2.0]', '"rest": [3.0]'),
        ("a global array", "np.array([1.0, 2.0])", "np.array([1.0, 3.0])"),
        ("a variable of a closure", "make(0.5,", "make(0.75,"),
        ("an array in a closure", "float(weights.sum())", "float(weights.sum() + 1)"),
        ("a default argument", "extra=0,", "extra=1,"),
        ("a default argument by keyword", "more=0)", "more=1)"),
        ("the code of a decorator", "**kwargs), 2)", "**kwargs), 3)"),
        ("a decorator is removed", "@twice\ndef net", "def net"),
        ("the body of a helper", "return SIZES[1]", "return SIZES[0]"),
        ("a helper is replaced", "return WIDTH + extra", "return math.isqrt(WIDTH) + extra"),
    )
    found += of(
        "functions",
        PARTIAL,
        ("an argument of a partial", "wide, 2,", "wide, 3,"),
        ("a keyword of a partial", "2, scale=0.5", "2, scale=0.25"),
        ("the function of a partial", "8 + extra", "9 + extra"),
    )
    found += of(
        "classes",
        CLASSES,
        ("forward", "self.bonus * MODE", "self.bonus * 2 * MODE"),
        ("a method of a base", "self.last(x) * self.gain", "self.last(x) + self.gain"),
        ("a method of a mixin", "x + 0.25", "x + 0.5"),
        ("an attribute of a base", "gain = 1.5", "gain = 2.5"),
        ("another base", "class Net(Shift, ", "class Net(type('S', (Shift,), {'gain': 9.0}), "),
        ("a property", "return 0.1", "return 0.3"),
        ("a static method", "x / 2", "x / 4"),
        ("a class method", "cls.gains[cls.__name__]", "cls.gains[cls.__name__] * 2"),
        ("a metaclass", "made.bonus = 1.0", "made.bonus = 2.0"),
        ("__init_subclass__", "gain * 1.0", "gain * 2.0"),
        ("an argument of a class statement", "gain=1.25)", "gain=1.75)"),
        ("a nested class", "power = 1.0", "power = 2.0"),
        ("the value of a member of an enumeration", "FAST = 1", "FAST = 3"),
        ("another member of an enumeration", "MODE = Mode.FAST", "MODE = Mode.EXACT"),
        ("a default of a dataclass", "width: int = 6", "width: int = 7"),
        ("metadata of a dataclass", '{"unit": 2.0}', '{"unit": 3.0}'),
        ("a default factory of a dataclass", "lambda: [1.0]", "lambda: [2.0]"),
    )
    found += of(
        "objects",
        STATE,
        ("an attribute of a factory", "Factory(6,", "Factory(7,"),
        ("a dict in a factory", '{"scale": 0.5}', '{"scale": 0.25}'),
        ("the class of a factory", "self.width, self.table[", "self.width + 1, self.table["),
        ("a bound method", "clf(Factory(6, {", "clf(Factory(7, {"),
    )
    found += of(
        "objects",
        STATE + '\nSTUDY = {"estimator": clf(Slotted(6).build)}\n',
        ("an object with slots", "Slotted(6)", "Slotted(7)"),
    )
    for name, file, before, after in (
        ("a module of the user that is an argument", "tools.py", "x * FACTOR", "x / FACTOR"),
        ("a global of a module that a star imports", "tables.py", "FACTOR = 2.0", "FACTOR = 4.0"),
        ("a global that is read under two names", "tables.py", "GAIN = 3.0", "GAIN = 1.0"),
        ("a function of a package", "pack/sub.py", "START + x", "START - x"),
        ("a relative import", "pack/base.py", "START = 1.0", "START = 2.0"),
    ):
        found += of("modules", MODULES, (name, before, after), file=file, files=USER_MODULES)
    found += of(
        "torch",
        TORCH,
        ("the weights of a module", "NET = made()", "NET = made(); NET[2].weight.data *= 2"),
        ("one weight", "NET = made()", "NET = made(); NET[2].weight.data[0, 0] += 1"),
        ("a buffer that is not saved", "torch.zeros(1), pers", "torch.ones(1), pers"),
        ("an attribute of a module", "offset = 0.0", "offset = 0.5"),
        ("a frozen weight", "NET = made()", "NET = made(); NET[2].weight.requires_grad_(False)"),
        ("a hook", "NET = made()", "NET = made(); NET[2].register_forward_hook(halve)"),
        (
            "a parametrization",
            "NET = made()",
            "NET = made(); nn.utils.parametrizations.spectral_norm(NET[2])",
        ),
        ("a tensor", "tensor([1.0, 2.0])", "tensor([1.5, 2.0])"),
    )
    found += of(
        "settings",
        SETTINGS,
        ("lr", "lr=0.02", "lr=0.03"),
        ("a weight of a class", "1: 2.0,", "1: 3.0,"),
        ("an entry of net", '"module__scale": 0.5', '"module__scale": 0.25'),
        ("the order of a dict in net", '{"a": 2, "b": 3}}', '{"b": 3, "a": 2}}'),
        ("a parameter of a callback", "Decay()", "Decay(0.25)"),
        ("the code of a callback", "self.rate * 1.0", "self.rate * 2.0"),
        ("a parameter of a callback of skorch", "Clipping(0.5)", "Clipping(0.01)"),
        ("the code of an augmentation", "images * 0.5", "images * 0.25"),
        ("the function of a step of a pipeline", "X / 2", "X ** 2"),
        ("the code of a scorer", ".mean()) * 1.0", ".mean()) * 2.0"),
        ("the sampler", "RandomOverSampler()]", "RandomUnderSampler()]"),
    )
    found += of(
        "settings",
        SETTINGS + LOSSES,
        ("the code of a loss", "target) * 1.0", "target) * 2.0"),
        ("the code of a sampler", "1 + 0", "1 + 1"),
        ("a parameter of a sampler", "Drop()", "Drop(replacement=True)"),
    )
    found += of(
        "settings",
        TABLES,
        ("a row of the table of terms", "mean() * 1.0", "mean() * 3.0"),
        ("a row of the table of schedules", "1 - 0.5", "1 - 0.9"),
        ("a network that 'auto' chooses", "width=9", "width=7"),
    )
    found += of(
        "data",
        PLAIN,
        ("one pixel", 'STUDY = {"e', 'X[0, 0, 0] ^= 1; STUDY = {"e'),
        ("the dtype", 'STUDY = {"e', 'X = X.astype(np.float64) / 2; STUDY = {"e'),
        ("one label", 'STUDY = {"e', 'y[0] = 1; STUDY = {"e'),
        ("the order of rows", 'STUDY = {"e', 'X, y = X[::-1] + 0, y[::-1] + 0; STUDY = {"e'),
        ("the split", 'STUDY = {"e', 'STUDY = {"cv": [(np.arange(11), np.arange(12, 24))], "e'),
        ("the seed", 'STUDY = {"e', 'STUDY = {"random_state": 1, "e'),
    )
    found += [
        Edit(
            "groups",
            PLAIN,
            'STUDY = {"e',
            'STUDY = {"groups": np.arange(24), "e',
            "data",
            shows=False,
        )
    ]
    found += of(
        "files",
        FILES.replace("OPTIONS = {}", 'OPTIONS = {"reader": read, "transform": flipped}'),
        ("the code of a reader", "np.uint8(1)", "np.uint8(3)"),
        ("the code of a transform", "::-1] * 1.0", "::-1] ** 2.0"),
        ("a transform is removed", ', "transform": flipped', ""),
    )
    found += of("files", FILES, ("images of the same size and time", "", OVERWRITE), how="run")
    found += of(
        "files",
        FILES,
        ("intensity", "OPTIONS = {}", 'OPTIONS = {"intensity": "percentiles"}'),
        shows=True,
    )
    found += of(
        "files",
        MEMMAP,
        ("the file of a memmap", "", "(X // 2).tofile(PATH)"),
        how="run",
    )
    for name, function, path in (
        ("weights in a file", "net", "PATH"),
        ("weights in a file of a folder", "joined", "os.path.join(FOLDER, 'second.pt')"),
        ("weights beside the program", "beside", "PATH"),
    ):
        source = WEIGHTS.replace("clf(net)", f"clf({function})")
        found += of("files", source, (name, "", f"save({path}, 2.0)"), how="run")
    found += of(
        "while it runs",
        FUNCTIONS,
        ("a global is changed", "", "WIDTH = 16"),
        ("an array is changed", "", "ARRAY[0] = 5"),
        ("a function is replaced", "", "width = lambda: 5"),
        ("a default is changed", "", "width.__defaults__ = (3,)"),
        ("a method of the user is replaced", "", "Times.forward = lambda s, x: s.net(x) * 3"),
        (
            "a function of torch is replaced",
            "F.relu = relu",
            "relu = F.relu; F.relu = lambda x, inplace=False: relu(x) * 2",
        ),
        (
            "a method of torch is replaced",
            "nn.Linear.forward = forward",
            "forward = nn.Linear.forward\n"
            "nn.Linear.forward = lambda self, x: F.linear(x, self.weight, self.bias) * 2",
        ),
        (
            "an optimizer of torch is replaced",
            "torch.optim.SGD.step = step",
            "step = torch.optim.SGD.step\n"
            "torch.optim.SGD.step = lambda self, closure=None: closure() if closure else None",
        ),
    )
    # Each of them runs in the program of the first study.
    found = [
        Edit(**{**vars(edit), "how": "run"}) if edit.group == "while it runs" else edit
        for edit in found
    ]
    found += of(
        "while it runs",
        FUNCTIONS,
        ("a module is reloaded", "WIDTH = 8", "WIDTH = 16"),
        ("a function of a reloaded module", "x * 0.5", "x * 0.25"),
        how="reload",
    )
    found += of(
        "notebook",
        CLASSES,
        ("a class is defined again", "self.bonus * MODE", "self.bonus * 2 * MODE"),
        ("a base is defined again", "gain = 1.5", "gain = 2.5"),
        how="cell",
    )
    found += of(
        "notebook", FUNCTIONS, ("a function is defined again", "x * 0.5", "x * 0.25"), how="cell"
    )
    found += of(
        "processes",
        ENVIRONMENT,
        ("an environment variable", "", "environment EDITS_SCALE=0.5"),
        how="process",
    )
    found += of(
        "while it runs",
        "\nclass Drawn(Scale):\n    def forward(self, x):\n"
        "        return x * torch.tensor(1 / 3) + torch.zeros(1)\n"
        "STUDY = {'estimator': clf(lambda c, k: nn.Sequential(Drawn(1.0), *linear(c, k)))}\n",
        (
            "the default dtype",
            "torch.set_default_dtype(torch.float32)",
            "torch.set_default_dtype(torch.float64)",
        ),
        how="run",
        shows=False,
    )
    found += of(
        "harmless",
        FUNCTIONS,
        ("a comment", "WIDTH = 8\n", "WIDTH = 8  # of the layer\n"),
        ("a docstring", "def depth():\n", 'def depth():\n    """Return the depth."""\n'),
        ("line breaks", "make(0.5, ARRAY)", "make(\n    0.5,\n    ARRAY,\n)"),
        ("a name of a local variable", "weights", "loads"),
        ("type hints", "def depth():", "def depth() -> int:"),
        ("a function that nothing uses", "def depth", "def unused():\n    return 1\n\ndef depth"),
        ("a global that nothing uses", "WIDTH = 8", "UNUSED = 1\nWIDTH = 8"),
        ("an import that nothing uses", "import math", "import math\nimport colorsys"),
        (
            "the order of functions",
            "shrink = lambda x: x * 0.5\n",
            "shrink = lambda x: (x * 0.5)\n\n",
        ),
        ("a variable in between", "return SIZES[1]", "size = SIZES[1]\n    return size"),
        **same,
    )
    found += of(
        "harmless",
        CLASSES,
        ("a docstring of a class", "class Shift:\n", 'class Shift:\n    """Shifts."""\n'),
        ("a class that nothing uses", "class Shift:", "class Unused:\n    pass\n\nclass Shift:"),
        (
            "a method that nothing uses",
            "    def shift(",
            "    def unused(self):\n        pass\n    def shift(",
        ),
        **same,
    )
    found += of(
        "harmless",
        SETTINGS,
        ("the order of class_weight", "{0: 1.0, 1: 2.0, 2: 1.0}", "{2: 1.0, 0: 1.0, 1: 2.0}"),
        (
            "the order of net",
            '{"module__scale": 0.5, "module__table": {"a": 2, "b": 3}}',
            '{"module__table": {"a": 2, "b": 3}, "module__scale": 0.5}',
        ),
        ("verbose", "augment=change,", "augment=change, verbose=0,"),
        **same,
    )
    found += of(
        "harmless",
        MODULES,
        ("a global of a module that nothing uses", "UNUSED = 1", "UNUSED = 2"),
        file="tools.py",
        files=USER_MODULES,
        **same,
    )
    found += of(
        "harmless",
        WEIGHTS.replace("clf(net)", "clf(logged)"),
        ("a log that the network writes", "", "with open(LOG, 'a') as file: file.write('edited')"),
        how="run",
        **same,
    )
    found += of(
        "harmless",
        FILES,
        ("times of the images", "", "[os.utime(path) for path in save()]"),
        how="run",
        **same,
    )
    found += of("harmless", FUNCTIONS, ("a reload without an edit", "", ""), how="reload", **same)
    found += of("harmless", CLASSES, ("a cell that runs again", "", ""), how="cell", **same)
    found += of(
        "harmless",
        FUNCTIONS,
        ("another process", "", "nothing"),
        ("another order of sets", "", "environment PYTHONHASHSEED=7"),
        ("another folder of work", "", "work"),
        ("another folder of the program", "", "folder"),
        ("the time of the program", "", "touch"),
        how="process",
        **same,
    )
    found += of(
        "harmless", FILES, ("another folder of the images", "", "folder"), how="process", **same
    )
    return found


EDITS = _edits() + _found_by_trial()
