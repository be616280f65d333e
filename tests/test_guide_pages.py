"""The code of the pages of the guide runs, page by page, on images of the package."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = (
    "arrays",
    "augmentation",
    "defaults",
    "losses",
    "networks",
    "patients",
    "prediction",
    "reproducibility",
    "sampling",
    "training",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
# A few epochs of a small network may well predict one class.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_code_of_the_page_runs(name, capsys):
    page = (DOCS / f"{name}.rst").read_text("utf-8")
    blocks = re.findall(r"code-block:: python\n\n((?:    .*\n|\n)+)", page)
    code = "".join(re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks)
    assert "load_" in code
    exec(compile(code, f"{name}.rst", "exec"), {"__name__": "page"})
    if name == "reproducibility":
        assert capsys.readouterr().out == "True\n"
