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


def test_templates_are_packed():
    """Every file of a folder that is no module is named in setup.cfg."""
    root = Path(skimbal.__file__).parent
    settings = configparser.ConfigParser()
    settings.read(root.parent / "setup.cfg")
    packed = {
        name: set(names.split(", ")) for name, names in settings["options.package_data"].items()
    }
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            package = ".".join(path.parent.relative_to(root.parent).parts)
            found.setdefault(package, set()).add(path.name)
    assert found == packed
