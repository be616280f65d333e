"""The parts that reports share."""

import configparser
from pathlib import Path

import pytest

import skimbal
from skimbal.reports import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.04, "1.0 s"), (119, "119.0 s"), (150, "2 min"), (7170, "2 h 0 min"), (9000, "2 h 30 min")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_files_beside_the_modules_are_packed():
    """Every file that is no module is named in setup.cfg, and nothing else is."""
    root = Path(skimbal.__file__).parent
    settings = configparser.ConfigParser()
    settings.read(root.parent / "setup.cfg")
    packed = [
        path
        for package, names in settings["options.package_data"].items()
        for name in names.split(", ")
        for path in (root.parent / package.replace(".", "/")).glob(name)
    ]
    others = {p for p in root.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert sorted(packed) == sorted(others)
