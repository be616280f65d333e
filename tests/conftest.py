"""One torch thread, and scipy's array API switched on before anything imports scipy."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"

import shutil
import signal
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch.utils._python_dispatch import TorchDispatchMode

from tests import rehearsal

torch.set_num_threads(1)

# A shell lets programs in its background ignore Ctrl-C, and their processes would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Beside a CPU build of torch, torchvision fails at import: this file of it registers the shapes of
# compiled operators that are missing there. Networks need none of them.
name = "torchvision._meta_registrations"
sys.modules.setdefault(name, types.ModuleType(name))

# The same examples in every run, and none of them written to disk. `--hypothesis-profile=thorough`
# asks for many.
for name, n_examples in {"quick": 25, "thorough": 250}.items():
    settings.register_profile(
        name, max_examples=n_examples, deadline=None, derandomize=True, database=None
    )
settings.load_profile("quick")


def pytest_ignore_collect(collection_path, config):
    """Leave out the tests that need the packages of the extra ``clients``, unless named."""
    is_named = any("test_clients" in argument for argument in config.args)
    return True if collection_path.name == "test_clients.py" and not is_named else None


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        remedy = rehearsal.obstacle() or "`python -m tests.rehearsal -m cuda` pretends one"
        skip = pytest.mark.skip(reason=f"needs a CUDA device ({remedy})")
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def data_dir():
    """The folder of real images that SKIMBAL_DATA names."""
    if "SKIMBAL_DATA" not in os.environ:
        pytest.skip("set SKIMBAL_DATA to a folder with the MedMNIST files to run this test")
    return Path(os.environ["SKIMBAL_DATA"])


class Recorder(TorchDispatchMode):
    """Collects the names of the torch operations that run within it, gradients included."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def account():
    """Count waits, copies and races of CUDA: the function `tests.rehearsal.account`."""

    def open_account(*kinds, **within):
        if not rehearsal.can_count(*kinds):
            pytest.skip("needs a CUDA device that is pretended (python -m tests.rehearsal)")
        return rehearsal.account(*kinds, **within)

    return open_account


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    with sync_playwright() as session:
        browser = session.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a report without a network; no request and no complaint is let pass."""
    contexts, complaints = [], []

    def visit(path):
        contexts.append(browser.new_context(offline=True, viewport={"width": 1200, "height": 900}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:")) or complaints.append(request.url)
            ),
        )
        page.goto(path.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not complaints
