"""The tables of the installation page agree with the package's metadata."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "installation.rst").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def table(first_cell):
    """Return the rows of the table whose header begins with a cell."""
    rows = PAGE.partition(f"* - {first_cell}\n")[2].partition("\n\n")[0].split("* - ")[1:]
    return {cells[0].strip(): cells[1:] for cells in (re.split(r"\n\s+- ", row) for row in rows)}


def test_every_extra_is_described():
    described = {name for row in table("Extra") for name in re.findall(r"``(\w+)``", row)}
    assert described == set(PROJECT["optional-dependencies"])


def test_an_extra_brings_the_stated_packages():
    for row, cells in table("Extra").items():
        (extra, *more) = re.findall(r"``(\w+)``", row)
        if more or extra in ("clients", "docs"):  # a choice of the packages
            continue
        needed = PROJECT["optional-dependencies"][extra]
        names = {re.match(r"[\w-]+", requirement)[0] for requirement in needed} - {"torch"}
        assert set(re.split(r",\s+", cells[0].strip())) == names, extra


def test_supported_and_tested_versions():
    tested = dict(
        re.findall(r"^([\w-]+)==(\d+\.\d+)", (ROOT / "constraints.txt").read_text(), re.M)
    )
    lowest = dict(
        re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in PROJECT["dependencies"]
    )
    rows = table("Package")
    assert rows.pop("Python")[0].strip() == "3.11 to 3.13"
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    for name, (supported, version) in rows.items():
        assert supported.startswith(lowest[name.lower()] + " "), name
        if name != "imbalanced-learn":
            assert version.startswith(tested[name.lower()]), name
