"""Warnings and errors on the standard error, a line for each."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from skimbal import CollapseWarning
from skimbal.commands.parser import Parser, one_line
from skimbal.exceptions import InputWarning
from skimbal.progress import Bar

__all__ = ["print_error", "print_remarks", "warnings_as_lines"]

#: Letters of the remedy at the end of a warning, which tell the kinds of warnings apart.
_REMEDY = 60


@contextmanager
def warnings_as_lines(parser: Parser, always: type[Warning] = Warning) -> Iterator[None]:
    """Show each warning once, as a line with options in place of parameters.

    ``always`` is a class of warnings that no filter hides.
    """
    shown: set[object] = set()
    of_images: dict[object, InputWarning] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("always", always)
        warnings.showwarning = partial(_show_once, shown, of_images, parser)
        try:
            yield
        finally:
            # Files come in blocks, and their number is known at the end.
            for warning in of_images.values():
                names = list(dict.fromkeys(warning.names))
                _show(parser, InputWarning(warning.words, names), InputWarning)


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
    of_images: dict[object, InputWarning],
    parser: Parser,
    message: Warning | str,
    category: type[Warning],
    *_: object,
) -> None:
    """Show a warning as a line unless it is in `shown`, or collect the images that it is about."""
    if isinstance(message, InputWarning) and message.names:
        # Each block of files has other numbers, and the remedy is at the end.
        first = of_images.setdefault(message.words[-_REMEDY:], message)
        if first is not message:
            first.names += message.names
        return
    # The advice on collapse differs from loss to loss.
    key = category if issubclass(category, CollapseWarning) else str(message)
    if key not in shown:
        shown.add(key)
        _show(parser, message, category)


def _show(parser: Parser, message: Warning | str, category: type[Warning]) -> None:
    """Show a warning above the progress bar."""
    text = parser.in_options(one_line(message))
    Bar.write(f"skimbal: {category.__name__}: {text}", file=sys.stderr)
