"""Text that fits a terminal: bars, shortened names, wrapped lists."""

import textwrap
from collections.abc import Sequence
from functools import partial

__all__ = ["draw_bars", "format_number", "listed", "printable", "trim_rows"]

_BARS = {True: " ▁▂▃▄▅▆▇█", False: " .:-=+*#@"}
#: Places that are shown of a finding, and their lines.
_N_PLACES, _N_LINES = 3, 3
#: Most frequent and rarest classes that a long table shows.
_N_FIRST, _N_LAST = 8, 4


def draw_bars(counts: Sequence[int], *, unicode: bool) -> str:
    """Draw a histogram as a line. The heights are square roots of the counts."""
    levels, most = _BARS[unicode], max(counts)
    # A bin with a single number is seen.
    heights = [0 if n == 0 else max(1, round(8 * (n / most) ** 0.5)) for n in counts]
    return "".join(levels[height] for height in heights)


def format_number(value: float) -> str:
    """Write a number with the digits that matter, and whole numbers in full."""
    if 1000 <= abs(value) < 1e12 or (abs(value) < 1000 and value == int(value)):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def printable(text: str, *, unicode: bool) -> str:
    """Return a line of text without characters that move the cursor or that a terminal lacks."""
    seen = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return seen if unicode else seen.encode("ascii", "backslashreplace").decode("ascii")


def listed(text: str, places: Sequence[str], *, width: int, mark: str) -> list[str]:
    """Wrap a sentence behind a mark, and list some of the places that it is about."""
    indent = " " * len(mark)
    wrap = partial(textwrap.wrap, width=width, break_on_hyphens=False)
    lines = wrap(text, initial_indent=mark, subsequent_indent=indent)
    for place in places[:_N_PLACES]:
        lines += wrap(
            place,
            initial_indent=f"{indent}  ",
            subsequent_indent=f"{indent}    ",
            max_lines=_N_LINES,
            placeholder=" ...",
        )
    n_more = len(places) - _N_PLACES
    return [*lines, f"{indent}  and {n_more:,} more"] if n_more > 0 else lines


def trim_rows(rows: list[list[str]], totals: Sequence[int]) -> list[list[str]]:
    """Keep the most frequent and the rarest classes of a long table, whose last rows are sums."""
    k = len(totals)
    if k <= _N_FIRST + _N_LAST + 1:
        return rows
    order = sorted(range(k), key=lambda i: -totals[i])
    gap = [f"({k - _N_FIRST - _N_LAST} more classes)", *[""] * (len(rows[0]) - 1)]
    first, last = ([rows[1 + i] for i in some] for some in (order[:_N_FIRST], order[-_N_LAST:]))
    return [rows[0], *first, gap, *last, *rows[1 + k :]]
