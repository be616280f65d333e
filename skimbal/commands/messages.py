"""Warnings and errors on the standard error, a line for each."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from skimbal import CollapseWarning
from skimbal.commands.parser import Parser, one_line
from skimbal.exceptions import InputWarning
from skimbal.progress import Bar
from skimbal.wording import agree, plural

__all__ = ["print_error", "print_remarks", "warnings_as_lines"]

#: Letters of the remedy at the end of a warning, which tell the kinds of warnings apart.
_REMEDY = 60


@contextmanager
def warnings_as_lines(parser: Parser, always: type[Warning] = Warning) -> Iterator[None]:
    """Show each warning once, as a line with options in place of parameters.

    ``always`` is a class of warnings that no filter hides.
    """
    shown: Counter[object] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("always", always)
        warnings.showwarning = partial(_show_once, shown, parser)
        try:
            yield
        finally:
            n_more = sum(n - 1 for key, n in shown.items() if isinstance(key, tuple))
            if n_more:
                verb = agree(n_more, "says", "say")
                more = f"{plural(n_more, 'more warning')} {verb} the same of other images."
                Bar.write(f"skimbal: {InputWarning.__name__}: {more}", file=sys.stderr)


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
    shown: Counter[object],
    parser: Parser,
    message: Warning | str,
    category: type[Warning],
    *_: object,
) -> None:
    """Show a warning as a line above the progress bar unless it is in `shown`."""
    key = _key(str(message), category)
    if not shown[key]:
        text = parser.in_options(one_line(message))
        Bar.write(f"skimbal: {category.__name__}: {text}", file=sys.stderr)
    shown[key] += 1


def _key(text: str, category: type[Warning]) -> object:
    """Return what warnings have in common of which the first is enough."""
    # The advice on collapse differs from loss to loss.
    if issubclass(category, CollapseWarning):
        return category
    # Each block of files has other names and numbers, and the remedy is at the end.
    return (category, text[-_REMEDY:]) if issubclass(category, InputWarning) else text
