"""Warnings and errors on the standard error, a line for each."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from skimbal import CollapseWarning
from skimbal.commands.parser import Parser, one_line
from skimbal.progress import Bar

__all__ = ["print_error", "print_remarks", "warnings_as_lines"]


@contextmanager
def warnings_as_lines(parser: Parser, always: type[Warning] = Warning) -> Iterator[None]:
    """Show each warning once, as a line with options in place of parameters.

    ``always`` is a class of warnings that no filter hides.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", always)
        warnings.showwarning = partial(_show_once, set(), parser)
        yield


def print_error(error: Exception | str) -> None:
    """Print an error that does not end the program at once."""
    is_plain = isinstance(error, str | ValueError)
    kind = "" if is_plain else f"{type(error).__name__}: "
    print(f"skimbal: error: {kind}{one_line(error)}", file=sys.stderr)


def print_remarks(error: BaseException) -> None:
    """Print the remarks on an error."""
    for remark in getattr(error, "__notes__", ()):
        print(f"skimbal: {one_line(remark)}", file=sys.stderr)


def _show_once(
    shown: set[object],
    parser: Parser,
    message: Warning | str,
    category: type[Warning],
    *_: object,
) -> None:
    """Show a warning as a line above the progress bar unless it is in `shown`."""
    # The advice on collapse differs from loss to loss. The first is enough.
    key = category if issubclass(category, CollapseWarning) else str(message)
    if key not in shown:
        shown.add(key)
        text = parser.in_options(one_line(message))
        Bar.write(f"skimbal: {category.__name__}: {text}", file=sys.stderr)
