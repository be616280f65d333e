"""The parser of the command line, and the values of its options."""

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from skimbal.exceptions import ParameterError

__all__ = [
    "OneOrSeveral",
    "Options",
    "Parser",
    "count",
    "count_or_auto",
    "jobs",
    "names",
    "number_or_word",
    "one_line",
    "positive",
    "seed",
]

#: Names of parameters of the library, each with its options and the settings of argparse.
Options: TypeAlias = Mapping[str, tuple[str, Mapping[str, Any]]]


class Parser(argparse.ArgumentParser):
    """A parser that ends with an error of one line, and names options in errors of the library."""

    def __init__(
        self, prog: str, description: str, *, usage: str | None = None, epilog: str | None = None
    ) -> None:
        super().__init__(prog, usage, description, epilog)
        self._option_of: dict[str, str] = {}

    def add_options(self, options: Options, title: str | None = None) -> None:
        """Add options that are called as parameters of the library."""
        group = self if title is None else self.add_argument_group(title)
        for parameter, (text, settings) in options.items():
            names = text.split()
            group.add_argument(*names, dest=parameter, **settings)
            for name in (parameter, *(name.lstrip("-").replace("-", "_") for name in names)):
                self._option_of[name] = names[0]

    def error(self, message: str) -> NoReturn:
        """End with code 2 and the message."""
        self.exit(2, f"skimbal: error: {one_line(message)}\n")

    def refuse(self, error: Exception, about: str) -> NoReturn:
        """End with code 2 and an error of the library, which is about an option or about data."""
        self.error(self.worded(error, f"{about}: "))

    def worded(self, error: Exception, about: str = "") -> str:
        """Return the message of an error of the library, with options in place of parameters."""
        parameter = error.parameter if isinstance(error, ParameterError) else ""
        if isinstance(error, ParameterError) and parameter in self._option_of:
            message = error.worded(self._option_of[parameter])
        else:
            message = f"{about}{error}"
        # The remedy may name other parameters. Without "=", a name such as size is a word.
        words = {word.strip("(,.;") for word in message.replace("=", "= ").split()}
        named = [
            f"{name} is {option}"
            for name, option in self._option_of.items()
            if f"{name}=" in words or ("_" in name and name in words)
        ]
        return f"{message} Here, {' and '.join(named)}." if named else message


class OneOrSeveral(argparse.Action):
    """Store one number for all axes as it is, and several as a tuple."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the values."""
        numbers = tuple(values or ())
        setattr(namespace, self.dest, numbers[0] if len(numbers) == 1 else numbers)


def count(text: str) -> int:
    """Take a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}.")
    return int(text)


def count_or_auto(text: str) -> int | str:
    """Take a count, or the word auto."""
    return text if text == "auto" else count(text)


def jobs(text: str) -> int:
    """Take a count, or -1 for all processors."""
    return -1 if text == "-1" else count(text)


def seed(text: str) -> int:
    """Take a seed of numpy's generators."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0 to 2^32 - 1; got {text!r}."
        )
    return int(text)


def positive(text: str) -> float:
    """Take a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0; got {text!r}.")
    return value


def names(text: str) -> list[str]:
    """Take names between commas."""
    return text.split(",")


def number_or_word(text: str) -> float | str:
    """Take a number for a number, and all else for the name of a rule."""
    try:
        return float(text)
    except ValueError:
        return text


def one_line(message: object) -> str:
    """Return a message without line breaks."""
    return " ".join(str(message).split())
