"""``skimbal predict``: a table with the decision and the probabilities for each new image."""

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np

from skimbal.atomic import replacing
from skimbal.commands.messages import print_error, warnings_as_lines
from skimbal.commands.models import DEVICE, Model, add_model, load_model
from skimbal.commands.new_images import NewImages, add_new, find_new_images, read_new
from skimbal.commands.outputs import check_output
from skimbal.commands.parser import Options, Parser, one_line, option
from skimbal.progress import Bar
from skimbal.signals import Signals
from skimbal.wording import plural

__all__ = ["COLUMNS", "run"]

#: Columns before the probabilities, each of which has the name of its class.
COLUMNS = ("file", "decision", "error")
#: Files that are read together.
BLOCK = 256
#: Errors that are about an image.
_OF_IMAGES = (ArithmeticError, ImportError, MemoryError, OSError, ValueError)
_OPTIONS: Options = {
    "output": option(
        "--output",
        "new file for the table (default: the standard output)",
        type=Path,
        metavar="FILE.csv",
    ),
    **DEVICE,
}


def run(argv: Sequence[str], signals: Signals) -> int:
    """Predict new images and write a row for each."""
    parser = Parser(
        "skimbal predict",
        "Predict the class of new images. The table has a row for each file, with the columns "
        "file, decision, error, and then a column for each class with its probability.",
        epilog="Images are read as the images of the fit were. A file that cannot be used has a "
        "row with the reason in the column error, without a decision and probabilities, and the "
        "exit code is 1.",
    )
    add_model(parser)
    add_new(parser)
    parser.add_options(_OPTIONS)
    args = parser.parse_args(argv)
    check_output(parser, "--output", args.output)
    if args.output is None and sys.stdout is None:
        parser.error("the standard output is closed. Give --output FILE.csv.")
    clf = load_model(parser, args)
    _check_classes(parser, args, clf)
    with warnings_as_lines(parser, UserWarning):
        new = find_new_images(parser, args, clf)
        try:
            counts = _write_table(args, clf, new)
        except BrokenPipeError:
            raise
        except (OSError, RuntimeError) as error:
            print_error(error)
            return 1
        except KeyboardInterrupt:
            if args.output is not None:
                print("skimbal: The run ended early, so no file was written.", file=sys.stderr)
            raise
    return _summarise(args, counts)


def _check_classes(parser: Parser, args: argparse.Namespace, clf: Model) -> None:
    """Refuse a model whose table would have two columns of one name."""
    names = {str(label) for label in clf.classes_.tolist()}
    for column in sorted(names.intersection(COLUMNS)):
        parser.error(
            f"{args.model} has a class called {column!r}, as a column of the table is called. Use "
            "it in Python, or fit it with another name of the class."
        )


def _summarise(args: argparse.Namespace, counts: Counter[str | None]) -> int:
    """Print the number of each decision and of errors, and return the exit code."""
    n_rows, n_failed = counts.total(), counts.pop(None, 0)
    if args.output is not None:
        words = ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items()))
        print(f"{args.output} holds {plural(n_rows, 'row')}. Decisions: {words or 'none'}.")
    if n_failed:
        print(
            f"skimbal: {plural(n_failed, 'image')} of {n_rows:,} could not be used. The column "
            "error has the reasons.",
            file=sys.stderr,
        )
    return 1 if n_failed else 0


def _write_table(args: argparse.Namespace, clf: Model, new: NewImages) -> Counter[str | None]:
    """Write the table, and return the number of each decision. None is the number of errors."""
    if args.output is None:
        with _as_text(sys.stdout.buffer) as stream:
            return _write_rows(stream, clf, new)
    with replacing(args.output) as file, _as_text(file) as stream:
        return _write_rows(stream, clf, new)


@contextmanager
def _as_text(binary: IO[bytes]) -> Iterator[TextIO]:
    """Write text in UTF-8 to a stream of bytes, which stays open."""
    # The name of a file may have bytes that no text has.
    stream = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="")
    try:
        yield stream
    finally:
        stream.detach()


def _write_rows(stream: TextIO, clf: Model, new: NewImages) -> Counter[str | None]:
    counts: Counter[str | None] = Counter()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*COLUMNS, *map(str, clf.classes_.tolist())])
    # Without a terminal, the bar is not shown.
    # An array is one block, as warnings have the numbers of its rows.
    size = BLOCK if isinstance(new.images, list) else len(new.names)
    with Bar(total=len(new.names), unit="image", disable=None) as bar:
        for start in range(0, len(new.names), size):
            names = new.names[start : start + size]
            found = _predict(clf, new.images[start : start + size])
            for name, proba in zip(names, found, strict=True):
                decision = _write_row(writer, clf, name, proba)
                counts[decision] += 1
            bar.update(len(names))
    return counts


def _write_row(writer: Any, clf: Model, name: str, proba: np.ndarray | Exception) -> str | None:
    """Write the row of an image, and return its decision."""
    if isinstance(proba, Exception):
        reason = _reason(proba)
        Bar.write(f"skimbal: {one_line(name)}: {reason}", file=sys.stderr)
        writer.writerow([name, "", reason, *[""] * len(clf.classes_)])
        return None
    decision = str(clf.classes_[proba.argmax()])
    writer.writerow([name, decision, "", *map(repr, proba.astype(float).tolist())])
    return decision


def _reason(error: Exception) -> str:
    """Return the reason against a file, without its name and the advice for training."""
    is_wrapped = str(error).startswith("cannot read ") and error.__cause__ is not None
    reason = str(error.__cause__ if is_wrapped else error) or type(error).__name__
    # scikit-learn names other estimators on the lines below.
    return one_line(reason.partition("\nCNN")[0])


def _predict(clf: Model, images: list[str] | np.ndarray) -> list[np.ndarray | Exception]:
    """Return the probabilities for each image, or the error about it."""
    try:
        return list(clf.predict_proba(read_new(clf, images)))
    except _OF_IMAGES as error:
        if len(images) == 1:
            return [error]
    # Halves, so that few images are read again because of one that cannot be used.
    half = len(images) // 2
    return [*_predict(clf, images[:half]), *_predict(clf, images[half:])]
