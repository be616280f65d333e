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


def lines_of_code(page):
    """Return the lines of Python and commands of a page, without the output of programs."""
    start = r"^( *)(?:\.\. code-block:: (?:python|bash)|(?!\.\. )\S.*::|::)\n\n"
    for match in re.finditer(start, page, re.MULTILINE):
        indent = f"{match[1]}    "
        block = re.match(rf"(?:{indent}.*\n|\n)*", page[match.end() :])[0]
        if ">>>" not in block:
            yield from (line.removeprefix(indent) for line in block.splitlines())


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.rst")), ids=lambda path: path.stem)
def test_lines_of_code_fit_a_window_of_1300_pixels(path):
    lines = lines_of_code(path.read_text("utf-8"))
    assert [line for line in lines if len(line) > 89] == []


def test_a_long_line_of_code_is_found():
    long = f"clf.fit({'X' * 90})"
    for page in (f"A text::\n\n    {long}\n", f"::\n\n    {long}\n\nText.\n"):
        assert long in list(lines_of_code(page))
    page = f"    .. code-block:: python\n\n        {long}\n\n    Text.\n"
    assert list(lines_of_code(page)) == [long, ""]
