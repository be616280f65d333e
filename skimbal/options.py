"""Values of the options of the command line."""

import argparse
import math
from collections.abc import Sequence
from typing import Any

from skimbal.datasets.splits import SPLITS

__all__ = [
    "OneOrSeveral",
    "count",
    "count_or_auto",
    "jobs",
    "names",
    "number_or_word",
    "positive",
    "seed",
    "split_names",
]


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


def split_names(text: str) -> dict[str, str | None]:
    """Take a part for each name, as in "fold1=train,extra=none", or none for no names."""
    if text == "none":
        return {}
    pairs = [pair.rpartition("=") for pair in names(text)]
    if not all(name and part in (*SPLITS, "none") for name, _, part in pairs):
        raise argparse.ArgumentTypeError(
            f"must be none, or NAME=PART with the parts {', '.join(SPLITS)} or none; got {text!r}."
        )
    return {name: None if part == "none" else part for name, _, part in pairs}
