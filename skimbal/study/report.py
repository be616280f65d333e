"""A study as one HTML file that is complete in itself: no network, no scripts, no other files."""

import ast
import base64
import io
import math
import os
import platform
import re
import secrets
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

from skimbal.displays import ClassScoresDisplay, LossStudyDisplay

__all__ = ["write_report"]

#: Longest line of a name in a picture, in characters. Tables have names in full.
_LINE = 28
#: Most classes in a table: with more, a line would not fit on a printed page.
_MOST_CLASSES = 8


def write_report(study: Any, path: str | os.PathLike[str]) -> None:
    """Write a study as one HTML file with tables, pictures and code.

    The file loads nothing from elsewhere and runs no scripts. The same study gives the same file,
    but for the date of the day.

    Parameters
    ----------
    study : skimbal.study.LossStudy
        A study with at least one finished fit.
    path : str or path-like
        The file. One that exists is replaced when the new one is complete, and stays if writing
        fails.

    Raises
    ------
    ImportError
        If jinja2 or matplotlib is missing: ``pip install "skimbal[study]"``.
    OSError
        If the path is a folder, its folder does not exist, or no file can be written there.
    ValueError
        If no fit is finished.

    Examples
    --------
    >>> import os, tempfile
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> from skimbal.study.report import write_report
    >>> from skimbal.study import compare_losses
    >>> data = load_imbalanced_digits()
    >>> study = compare_losses(
    ...     data.X_train, data.y_train, losses=["ce", "ce+mcc"], samplers=["uniform"],
    ...     estimator=CNN2DClassifier(max_epochs=1), cv=2, random_state=0, verbose=0,
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(study, os.path.join(folder, "report.html"))
    ...     os.listdir(folder)
    ['report.html']
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"a report needs jinja2 and matplotlib, and {error.name} is missing: "
            'pip install "skimbal[study]"'
        ) from error
    if not study.fits:
        raise ValueError("no fit of this study is finished, so there is nothing to report yet.")
    with _replacing(path) as stream:
        environment = jinja2.Environment(
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        template = files("skimbal.study").joinpath("report.html.jinja").read_text("utf-8")
        stream.write(environment.from_string(template).render(_context(study)))


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a new file beside the path, which takes its place if all goes well."""
    target = Path(os.path.realpath(path))  # a link stays one
    name = f"path={os.fspath(path)!r}"
    if os.path.isdir(target):  # that of pathlib raises where a name is too long
        raise IsADirectoryError(f"{name} is a folder; give the name of a file in it.")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{name} cannot be written, as there is no folder {str(target.parent)!r}; make it "
            "first, or give another path."
        )
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        stream = part.open("x", encoding="utf-8", newline="\n")
    except OSError as error:
        raise type(error)(
            f"{name} cannot be written ({error.strerror}); give a path in a folder where files can "
            "be made."
        ) from error
    try:
        with stream:
            yield stream
        part.replace(target)
    except BaseException:
        part.unlink()
        raise


def _context(study: Any) -> dict[str, Any]:
    """Return what the template shows."""
    ranking = study.table()
    score = ranking[0][2]
    names = [f"f1[{name}]" for name in study.class_names]
    others = [name for name in study.score_names if name not in (*names, study.scoring)]
    other_table = study.scores_table(others)
    lower = [
        title
        for title, name in zip(other_table[0][2:], others, strict=True)
        if not study.greater_is_better(name)
    ]
    best = study.best
    has_intervals = any(estimate.n_fits > 1 for estimate in study.estimates())
    n_comparisons = len(study.differences())
    return {
        "score": score,
        "score_title": score[:1].upper() + score[1:],
        "description": study.describe(),
        "conclusions": study.conclusions(),
        "data": study.data,
        "ranking": _without_empty_columns(ranking),
        "ranking_caption": _ranking_caption(study, has_intervals, n_comparisons),
        "others": other_table,
        "lower_is_better": " and ".join(lower),
        "by_class": list(_class_tables(study, names)),
        "best": (best.loss, best.sampler),
        "code": _code(study, best.loss, best.sampler),
        "facts": _facts(study),
        "has_intervals": has_intervals,
        "has_test_set": study.has_test_set,
        "n_comparisons": n_comparisons,
        "pictures": _pictures(study),
        "versions": study.versions,
        "machine": f"Python {platform.python_version()}, {platform.platform()}",
        "today": date.today().isoformat(),
    }


def _ranking_caption(study: Any, has_intervals: bool, n_comparisons: int) -> str:
    better = "Higher" if study.greater_is_better(study.scoring) else "Lower"
    sentences = [f"{better} is better."]
    if has_intervals:
        sentences.append("Mean ± standard deviation over fits, with the 95 % interval of the mean.")
    if n_comparisons:
        sentences.append("Differences are to the reference at the same sampling, on the same rows.")
    return " ".join(sentences)


def _without_empty_columns(rows: list[list[str]]) -> list[list[str]]:
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [list(row) for row in zip(*columns, strict=True)]


def _class_tables(study: Any, names: list[str]) -> Iterator[list[list[str]]]:
    """Yield tables of the F1 of each class, all of about as many classes."""
    n_tables = math.ceil(len(names) / _MOST_CLASSES)
    for numbers in np.array_split(np.arange(len(names)), n_tables):
        rows = study.scores_table([names[k] for k in numbers])
        yield [[*rows[0][:2], *(study.class_names[k] for k in numbers)], *rows[1:]]


def _facts(study: Any) -> list[tuple[str, str]]:
    """Return what has to be known to repeat the study."""

    def span(field: str) -> str:
        values = [fit[field] for fit in study.fits]
        low, high = min(values), max(values)
        return f"{low}" if low == high else f"{low} to {high}"

    n_planned = len(study.configurations) * study.n_splits
    seconds = sum(fit["fit_time"] + fit["score_time"] for fit in study.fits)
    return [
        ("Choice of the test rows", study.splitting),
        ("Seed", str(study.seed)),
        ("Fits", f"{len(study.fits)} of {n_planned}, {study.n_splits} for each configuration"),
        ("Training rows of a fit", span("n_train")),
        ("Test rows of a fit", span("n_test")),
        ("Epochs of a fit", span("n_epochs")),
        ("Gradient steps of a fit", span("n_steps")),
        ("Time of the fits", f"{_duration(seconds)}, added up"),
        ("Versions", ", ".join(f"{name} {number}" for name, number in study.versions.items())),
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _code(study: Any, loss: str, sampler: str) -> str:
    """Return code that makes the estimator of a configuration, with the imports that it needs."""
    text = re.sub(r" at 0x[0-9a-f]+", "", study.code(loss, sampler))
    (params,) = [c.params for c in study.configurations if (c.loss, c.sampler) == (loss, sampler)]
    types = {kind.__name__: kind for kind in _types((study.estimator, params))}
    comments = []
    try:
        tree = ast.parse(text)
    except SyntaxError:
        names = [name for name in types if re.search(rf"\b{re.escape(name)}\(", text)]
        holes = dict.fromkeys(re.findall(r"<[^<>]*(?:<[^<>]*>[^<>]*)*>", text))
        comments.append(f"Fill in what is no code: {', '.join(holes) or 'some of the arguments'}.")
    else:
        names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    if re.search(r", \.\.\.[\])}]", text):
        comments.append("Fill in what ... stands for: more than is shown.")
    imports: dict[str, set[str]] = {}
    lines = []
    for name in sorted(set(names)):
        if name in types and hasattr(types[name], "state_dict"):
            comments.append(f"Check the arguments of {name}: a torch module does not show all.")
        module = _NUMBERS.get(name) or _public_module(types.get(name))
        if name == "np":
            lines.append("import numpy as np")
        elif module is not None:
            imports.setdefault(module, set()).add(name)
        else:
            comments.append(f"Import or define {name}.")
    lines += [f"from {module} import {', '.join(sorted(imports[module]))}" for module in imports]
    prefix = "clf = "
    code = [*(f"# {comment}" for comment in comments), *sorted(lines), ""]
    code.append(prefix + textwrap.indent(text, " " * len(prefix))[len(prefix) :])
    if params["sampler"] is not None and not _has_iterator(study, params):
        name = "net__iterator_train__epoch_length"
        if hasattr(study.estimator, "steps"):
            name = f"{study.estimator.steps[-1][0]}__{name}"
        code += [
            "# As in the study: epochs as long as without a sampler.",
            f"clf.set_params({name}='uniform')",
        ]
    return "\n".join(code)


#: Names that the repr of numbers and arrays uses.
_NUMBERS = {"array": "numpy", "inf": "math", "nan": "math"}


def _types(value: Any) -> Iterator[type]:
    """Yield the types of all that an estimator is made of."""
    if isinstance(value, type):
        yield value
        return
    yield type(value)
    children: Iterable[Any] = ()
    if hasattr(value, "get_params"):
        children = value.get_params(deep=False).values()
    elif isinstance(value, Mapping):
        children = value.values()
    elif isinstance(value, list | tuple | set):
        children = value
    for child in children:
        yield from _types(child)


def _public_module(kind: type | None) -> str | None:
    """Return the shortest name of a public module that holds a class."""
    parts = [] if kind is None else kind.__module__.split(".")
    for n in range(1, len(parts) + 1):
        if parts[n - 1].startswith("_"):
            break
        module = ".".join(parts[:n])
        if kind is not None and getattr(sys.modules.get(module), kind.__name__, None) is kind:
            return module
    return None


def _has_iterator(study: Any, params: Mapping[str, Any]) -> bool:
    """Tell whether the user chose how batches are made, which the study then leaves alone."""
    estimator = study.estimator
    classifier = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return (
        "iterator_train" in (params.get("net", classifier.net) or {})
        or "net__iterator_train" in params
    )


def _pictures(study: Any) -> dict[str, dict[str, Any] | None]:
    """Draw all pictures, with what they show in words."""
    estimates, differences = study.estimates(), study.differences()
    texts = [text for e in estimates for text in (e.loss, e.sampler)]

    def size(rows: Any) -> tuple[float, float]:
        # A line for each configuration, and one for each sampling with and without weights.
        n_groups = len({(row.sampler, "wce" in row.loss) for row in rows})
        return 7.0, 1.4 + 0.28 * (len(rows) + n_groups)

    def scores(ax: Any) -> None:
        LossStudyDisplay.from_study(study, kind="scores", ax=ax)

    def gains(ax: Any) -> None:
        LossStudyDisplay.from_study(study, kind="differences", ax=ax)

    def classes(ax: Any) -> None:
        ClassScoresDisplay.from_study(study, ax=ax)

    best = study.best
    matrix = study.confusion_matrix(best.loss, best.sampler)
    n_classes = len(matrix)
    side = 0.75 * n_classes + 1.2
    with _style():
        return {
            "scores": _picture(scores, size(estimates), texts, _alt_of_scores(study), 1),
            "differences": _picture(gains, size(differences), texts, _alt_of_differences(study), 1)
            if differences
            else None,
            "classes": _picture(
                classes, (7.0, 1.4 + 0.75 * n_classes), study.class_names, _alt_of_classes(study)
            ),
            "confusion": _picture(
                lambda ax: _draw_confusion(matrix, study.class_names, ax),
                (side, side),
                study.class_names,
                _alt_of_confusion(study.class_names, matrix),
            ),
        }


@contextmanager
def _style() -> Iterator[None]:
    """Draw in one style, whatever that of the user is, and leave the user's as it is."""
    import matplotlib
    from matplotlib import style

    fonts: Any = {key: matplotlib.rcParams[key] for key in ("font.family", "font.sans-serif")}
    with matplotlib.rc_context():
        style.use("default")
        matplotlib.rcParams.update(
            {
                **fonts,  # those of the user may have the letters of the class names
                "svg.hashsalt": "skimbal",  # the same names of parts each time
                "svg.fonttype": "path",
                "text.parse_math": False,  # a $ in a name is a $
            }
        )
        yield


def _picture(
    draw: Callable[[Any], None],
    size: tuple[float, float],
    names: Iterable[str],
    alt: str,
    n_lines: int = 3,
) -> dict[str, Any]:
    """Draw on axes of a new figure, of a size in inches that grows with the names on its axes.

    The names may take ``n_lines`` lines each.
    """
    from matplotlib.figure import Figure

    # Not of pyplot, which would show it and count it among the open ones.
    figure = Figure(layout="constrained")
    ax = figure.add_subplot()
    draw(ax)
    for axis in (ax.xaxis, ax.yaxis):
        texts = [label.get_text() for label in axis.get_ticklabels()]
        if any(len(text) > _LINE for text in texts):
            axis.set_ticks(axis.get_ticklocs(), [_fitted(text, n_lines) for text in texts])
    legend = ax.get_legend()
    for text in [] if legend is None else legend.get_texts():
        lines = text.get_text().split("\n")
        text.set_text("\n".join(_fitted(line, 3) for line in lines))
    width = size[0] + 0.085 * min(_LINE, max(map(len, names)))
    figure.set_size_inches(width, size[1])
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Creator": None, "Date": None})
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return {
        "uri": f"data:image/svg+xml;base64,{data}",
        "width": round(96 * width),
        "height": round(96 * size[1]),
        "alt": alt,
    }


def _fitted(text: str, n_lines: int) -> str:
    """Break a name into lines, without its middle if it is too long: names often differ at ends."""
    longest = n_lines * _LINE
    if len(text) > longest:
        end = longest // 3
        text = f"{text[: longest - end - 1]}…{text[-end:]}"
    return text if n_lines == 1 else "\n".join(textwrap.wrap(text, _LINE)[:4])


def _draw_confusion(matrix: np.ndarray, names: list[str], ax: Any) -> None:
    # Coloured by counts, rare classes would be pale whatever becomes of them.
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


def _alt_of_scores(study: Any) -> str:
    score = study.table()[0][2]
    sign = 1 if study.greater_is_better(study.scoring) else -1
    sentences = [f"Points with intervals: mean {score} of each loss, by sampling."]
    for sampler in dict.fromkeys(c.sampler for c in study.configurations):
        rows = [e for e in study.estimates() if e.sampler == sampler]
        if rows:
            rows.sort(key=lambda e: -sign * e.mean)
            parts = [f"{e.loss} {_with_interval(e.mean, e.low, e.high)}" for e in rows]
            sentences.append(f"With {sampler} sampling, from best to worst: {', '.join(parts)}.")
    return " ".join(sentences)


def _alt_of_differences(study: Any) -> str:
    score = study.table()[0][2]
    parts = [
        f"{d.loss} less {d.reference} with {d.sampler} sampling "
        f"{_with_interval(d.mean, d.low, d.high, '+')}"
        for d in study.differences()
    ]
    return f"Points with intervals around zero: differences in {score}. {'; '.join(parts)}."


def _alt_of_classes(study: Any) -> str:
    best = study.best
    parts = []
    for name in study.class_names:
        (row,) = [
            e
            for e in study.estimates(f"f1[{name}]")
            if (e.loss, e.sampler) == (best.loss, best.sampler)
        ]
        parts.append(f"{name} {_with_interval(row.mean, row.low, row.high)}")
    return (
        "Points with intervals: F1 of each class. "
        f"Of {best.loss} with {best.sampler} sampling: {', '.join(parts)}."
    )


def _alt_of_confusion(names: list[str], matrix: np.ndarray) -> str:
    parts = []
    for k, name in enumerate(names):
        part = f"{name} {matrix[k, k]} of {matrix[k].sum()}"
        mistakes = np.where(np.arange(len(names)) == k, 0, matrix[k])
        if mistakes.any():
            most = int(mistakes.argmax())
            part += f", {mistakes[most]} taken for {names[most]}"
        parts.append(part)
    return f"Confusion matrix. Test rows predicted right: {'; '.join(parts)}."


def _with_interval(mean: float, low: float, high: float, sign: str = "") -> str:
    text = format(mean, f"{sign}.3f")
    return text if math.isnan(low) else f"{text} [{low:{sign}.3f}, {high:{sign}.3f}]"
