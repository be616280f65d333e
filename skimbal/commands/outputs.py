"""Checks of the files that a command writes, before any work."""

from pathlib import Path

from skimbal.commands.parser import Parser
from skimbal.exceptions import ParameterError
from skimbal.reports import require_packages

__all__ = ["check_output", "check_report"]


def check_output(parser: Parser, option: str, path: Path | None) -> None:
    """Refuse a file that exists, or that cannot be written."""
    if path is None:
        return
    try:
        path.touch(exist_ok=False)
        path.unlink()
    except OSError as error:
        expected = "a new file in a folder that exists and can be written to"
        parser.error(str(ParameterError(option, expected, str(path), f"{error.strerror}.")))


def check_report(parser: Parser, path: Path | None) -> None:
    """Refuse a report whose libraries are missing."""
    try:
        if path is not None:
            require_packages("--html")
    except ImportError as error:
        parser.error(str(error))
