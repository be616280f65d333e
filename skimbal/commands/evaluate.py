"""``skimbal evaluate``: the scores of a model on images with labels."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skimbal.commands.data import add_test_data, is_folder, load_data
from skimbal.commands.messages import print_error, warnings_as_lines
from skimbal.commands.models import DEVICE, Model, add_model, load_model, reading_of
from skimbal.commands.options import COUNT, CSV_FILE
from skimbal.commands.outputs import check_output, check_report
from skimbal.commands.parser import Options, Parser, option, seed
from skimbal.commands.rows import choose_parts, count_rows, option_of_parts, parts_of, take_rows
from skimbal.datasets.copies import image_numbers
from skimbal.datasets.splits import split_key
from skimbal.evaluation import Evaluation, evaluate
from skimbal.signals import Signals
from skimbal.wording import agree, plural

__all__ = ["run"]

_OPTIONS: Options = {
    **option_of_parts("that are judged, of train, val and test (default: test)"),
    "html": option(
        "--html",
        "new file for a report with pictures. It needs pip install jinja2 matplotlib",
        type=Path,
        metavar="FILE.html",
    ),
    "csv": option("--csv", "new file for all scores, unrounded", **CSV_FILE),
    "pool": option(
        "--pool",
        "probabilities of a patient from the images of the patient, where groups are given. none "
        "leaves out the scores of patients",
        choices=("mean", "max", "none"),
        default="mean",
    ),
    "n_bootstraps": option("--bootstraps", "samples of the intervals", default=1000, **COUNT),
    "stratify": option(
        "--stratify",
        "keep the number of images (or patients) of each class in the samples of the intervals, "
        "for test sets whose numbers of each class were chosen, such as cases and controls",
        action="store_true",
    ),
    "random_state": option("--seed", "of the intervals", type=seed, default=0, metavar="N"),
    **DEVICE,
}


def run(argv: Sequence[str], signals: Signals) -> int:
    """Judge a model on images with labels."""
    parser = Parser(
        "skimbal evaluate",
        "Judge a model on images that it has not seen: scores of each class with intervals, for "
        "images and, where groups are given, for patients. Of data with a split, the test rows "
        "are judged.",
        epilog="Images are read as the images of the fit were, so options such as --size are not "
        "options here. The result is printed to the standard output, progress and warnings to the "
        "standard error.",
    )
    add_model(parser)
    add_test_data(parser)
    parser.add_options(_OPTIONS)
    args = parser.parse_args(argv)
    check_report(parser, args.html)
    check_output(parser, "--html", args.html)
    check_output(parser, "--csv", args.csv)
    if args.html is not None and args.html == args.csv:
        parser.error(f"--html and --csv must be two files; got {args.csv} for both.")
    clf = load_model(parser, args)
    data = load_data(parser, args, reading_of(parser, args, clf))
    parts = _choose(parser, args, data)
    rows = _take(parser, args, clf, data, parts)
    result = _evaluate(parser, args, clf, rows)
    # A report that is found again says of which model and of which rows it is.
    result.facts[:0] = [("Model", args.model), ("Rows", f"{args.data}: {count_rows(data, parts)}")]
    notes = [*_doubt_groups(data, parts), *_doubt_rows(args, clf, rows), *result.notes]
    result.notes[:] = [_in_options(parser, args, data, note) for note in notes]
    signals.postpone()
    code = 0
    # First of all the files: the reader of the output may be gone.
    for path, write in ((args.csv, result.to_csv), (args.html, result.to_html)):
        try:
            if path is not None:
                write(path)
        except OSError as error:
            print_error(f"{path}: {error}")
            code = 1
    print(f"{args.data}: {count_rows(data, parts)}")
    print(result.summary())
    return code


def _in_options(parser: Parser, args: argparse.Namespace, data: Bunch, note: str) -> str:
    """Return a note with the options that these data have in place of parameters."""
    of_groups = " Pass groups=."
    if is_folder(data):
        option = "--group-column NAME" if args.labels is not None else "--labels and --group-column"
        return parser.in_options(note.replace(of_groups, f" Give {option}."))
    if args.data.endswith(".npz"):
        return parser.in_options(note.replace(of_groups, " Give --groups NAME."))
    return parser.in_options(note.replace(of_groups, ""))


def _choose(parser: Parser, args: argparse.Namespace, data: Bunch) -> list[str]:
    parts = choose_parts(parser, args, data, ("test",))
    if not parts:
        parser.error(
            f"{args.data} has no test rows; got {', '.join(parts_of(data))}. Name other rows that "
            "the model has not seen with --parts."
        )
    return parts


def _take(
    parser: Parser, args: argparse.Namespace, clf: Model, data: Bunch, parts: Sequence[str]
) -> dict[str, Any]:
    """Return the rows that are judged, with the labels as the model has them."""
    rows = take_rows(data, parts, named=clf.classes_.dtype.kind == "U")
    if args.groups is not None and rows["groups"] is None:
        parser.error(
            f"--groups {args.groups}: {args.data} has no array of this name for "
            f"{' and '.join(parts)}. Add the array, or leave out --groups."
        )
    return rows


def _doubt_groups(data: Bunch, parts: Sequence[str]) -> list[str]:
    """Say which patients are in the other parts, too, which most likely trained the model."""
    judged, others = (
        {group for part in some for group in _groups_of(data, part)}
        for some in (parts, [part for part in parts_of(data) if part not in parts])
    )
    shared = sorted(map(str, judged & others))
    if not shared:
        return []
    n = len(shared)
    return [
        f"{plural(n, 'group')}, such as {shared[0]!r}, {agree(n, 'has', 'have')} rows in other "
        "parts of the data, too. If these parts trained the model, the scores are too high."
    ]


def _groups_of(data: Bunch, part: str) -> list[object]:
    groups = data.get(split_key("groups", part))
    return [] if groups is None else np.asarray(groups).tolist()


def _doubt_rows(args: argparse.Namespace, clf: Model, rows: dict[str, Any]) -> list[str]:
    """Say that rows are images of the fit, or may be if the model does not know its images."""
    y, known = rows["y"], clf.net_.image_numbers_
    if known is not None:
        n = int(np.isin(image_numbers(rows["X"]), known).sum())
        words = (
            f"{n:,} of {plural(len(y), 'image')} {agree(n, 'is', 'are')} among the images that "
            f"{args.model} was fitted to, so the scores are too high."
        )
        return [words] if n else []
    counts = np.array([np.count_nonzero(y == label) for label in clf.classes_])
    # Classes of equal size often have equal shares in other rows, too.
    if len(set(counts.tolist())) == 1 or not np.allclose(
        counts / len(y), clf.class_prior_, atol=1e-9
    ):
        return []
    return [
        f"The classes have the very shares of the rows that trained {args.model}. If these rows "
        "are among them, the scores are too high."
    ]


def _evaluate(
    parser: Parser, args: argparse.Namespace, clf: Model, rows: dict[str, Any]
) -> Evaluation:
    try:
        with warnings_as_lines(parser, UserWarning):
            return evaluate(
                clf,
                **rows,
                pool=None if args.pool == "none" else args.pool,
                n_bootstraps=args.n_bootstraps,
                stratify=args.stratify,
                random_state=args.random_state,
            )
    except (ImportError, OSError, ValueError) as error:
        parser.refuse(error, args.data, args.data)
