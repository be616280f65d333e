"""Pictures of a page, each with its content in words."""

import base64
import io
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Picture",
    "describe_confusion_matrix",
    "draw_confusion_matrix",
    "make_picture",
    "picture_style",
    "shorten_name",
]

#: Longest line of a name in a picture, in characters. Tables have names in full.
_LINE = 28


class Picture(NamedTuple):
    """A picture of a page, with its content in words.

    Parameters
    ----------
    uri : str
        The picture as a data URI.
    width, height : int
        Size in CSS pixels.
    alt : str
        The numbers of the picture in words.
    """

    uri: str
    width: int
    height: int
    alt: str


@contextmanager
def picture_style() -> Iterator[None]:
    """Draw in the default style of matplotlib, and restore the style of the user."""
    import matplotlib
    from matplotlib import style

    fonts: Any = {key: matplotlib.rcParams[key] for key in ("font.family", "font.sans-serif")}
    with matplotlib.rc_context(), _fonts_closed():
        style.use("default")
        matplotlib.rcParams.update(
            {
                **fonts,  # the fonts of the user may have the letters of the class names
                "svg.hashsalt": "skimbal",  # the same names of parts each time
                "svg.fonttype": "path",
                "text.parse_math": False,  # a $ in a name is a $
            }
        )
        yield


@contextmanager
def _fonts_closed() -> Iterator[None]:
    """Close the font files that drawing opens, which matplotlib keeps open for the next drawing."""
    from matplotlib import font_manager

    try:
        yield
    finally:
        # Without this cache there is nothing to close. Fonts that are in use stay open.
        cache = getattr(font_manager, "_get_font", None)
        if cache is not None:
            cache.cache_clear()


def make_picture(
    draw: Callable[["Axes"], object],
    size: tuple[float, float],
    names: Iterable[str],
    alt: str,
    n_lines: int = 3,
) -> Picture:
    """Draw on axes of a new figure, of a size in inches that grows with the names on its axes.

    The names may take ``n_lines`` lines each.
    """
    from matplotlib.figure import Figure

    # pyplot would show the figure and count it among the open figures.
    figure = Figure(layout="constrained")
    ax = figure.add_subplot()
    draw(ax)
    for axis in (ax.xaxis, ax.yaxis):
        texts = [label.get_text() for label in axis.get_ticklabels()]
        if any(len(text) > _LINE for text in texts):
            axis.set_ticks(axis.get_ticklocs(), [shorten_name(text, n_lines) for text in texts])
    legend = ax.get_legend()
    for text in [] if legend is None else legend.get_texts():
        lines = text.get_text().split("\n")
        text.set_text("\n".join(shorten_name(line) for line in lines))
    width = size[0] + 0.085 * min(_LINE, max(map(len, names)))
    figure.set_size_inches(width, size[1])
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Creator": None, "Date": None})
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    uri = f"data:image/svg+xml;base64,{data}"
    return Picture(uri, round(96 * width), round(96 * size[1]), alt)


def shorten_name(text: str, n_lines: int = 3) -> str:
    """Break a name into lines of 28 characters. Long names lose their middle.

    Parameters
    ----------
    text : str
        The name. Names often differ at their ends.
    n_lines : int, default=3
        Number of lines for which there is room.

    Returns
    -------
    text : str
        The name with line breaks, and with an ellipsis for a middle that was left out.
    """
    longest = n_lines * _LINE
    if len(text) > longest:
        end = longest // 3
        text = f"{text[: longest - end - 1]}…{text[-end:]}"
    return text if n_lines == 1 else "\n".join(textwrap.wrap(text, _LINE)[:4])


def draw_confusion_matrix(matrix: np.ndarray, names: list[str], ax: "Axes") -> None:
    """Draw counts and shares of the true class.

    Parameters
    ----------
    matrix : ndarray of shape (n_classes, n_classes)
        Counts of rows, in samples, true classes by row.
    names : list of str
        Names of the classes.
    ax : matplotlib Axes
        Where to draw.
    """
    # In a picture of counts, rare classes would always be pale.
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    display = ConfusionMatrixDisplay(shares, display_labels=names)
    display.plot(
        ax=ax,
        cmap="Blues",
        colorbar=False,
        im_kw={"vmin": 0, "vmax": 1},
        text_kw={"fontsize": 9},
        xticks_rotation="horizontal" if max(map(len, names)) <= 8 else "vertical",
    )
    for place, text in np.ndenumerate(display.text_):
        text.set_text(f"{matrix[place]}\n{100 * shares[place]:.0f} %")
        text.set_color("white" if shares[place] > 0.5 else "black")
    ax.set(xlabel="predicted class", ylabel="true class")


def describe_confusion_matrix(matrix: np.ndarray, names: list[str], rows: str) -> str:
    """Write the numbers of a confusion matrix: right rows, and the most frequent mistake.

    Parameters
    ----------
    matrix : ndarray of shape (n_classes, n_classes)
        Counts of rows, in samples, true classes by row.
    names : list of str
        Names of the classes.
    rows : str
        Kind of the rows, such as ``"Test rows"``.

    Returns
    -------
    text : str
        Two sentences.
    """
    parts = []
    for k, name in enumerate(names):
        part = f"{name} {matrix[k, k]} of {matrix[k].sum()}"
        mistakes = np.where(np.arange(len(names)) == k, 0, matrix[k])
        if mistakes.any():
            most = int(mistakes.argmax())
            part += f", {mistakes[most]} taken for {names[most]}"
        parts.append(part)
    return f"Confusion matrix. {rows} predicted right: {'; '.join(parts)}."
