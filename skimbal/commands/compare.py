"""``skimbal compare``: a study on the data of the user."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from skimbal.commands.classifier import (
    DEFAULTS,
    check_choices,
    make_estimator,
    options_of_classifiers,
)
from skimbal.commands.data import add_data, load_data
from skimbal.commands.options import COUNT, CSV_FILE
from skimbal.commands.outputs import check_output, check_report
from skimbal.commands.parser import Options, Parser, jobs, option, seed
from skimbal.commands.rows import rows_of_study
from skimbal.commands.studies import INTERRUPT, options_of_configurations, run_study
from skimbal.commands.winner import winner_commands
from skimbal.signals import Signals
from skimbal.study import compare_losses
from skimbal.study.scores import SCORES

__all__ = ["run"]

#: Parameter of compare_losses.
_COPIES: Options = {
    "check_copies": option(
        "--no-copy-check",
        "do not look for images that occur more than once, for which all images are read once",
        action="store_false",
    ),
}
#: Options that only a study has.
_OF_STUDY: Options = {
    "html": option(
        "--html",
        "new file for a report with pictures and code. It needs pip install jinja2 matplotlib",
        type=Path,
        metavar="FILE.html",
    ),
    "csv": option("--csv", "new file for all scores, unrounded", **CSV_FILE),
}


def run(argv: Sequence[str], signals: Signals) -> int:
    """Run a study on the data of the user."""
    parser = Parser(
        "skimbal compare",
        "Find the loss for your data. Every loss is fitted with every sampler on the same rows, "
        "from the same initial weights, for the same number of gradient steps, and is compared "
        "with a reference at the same sampler. By default the training and validation rows are "
        "cross-validated together and the test rows stay untouched.",
        epilog=f"{INTERRUPT} With --cache, the same command continues where it stopped. The "
        "result is printed to the standard output, progress and warnings to the standard error.",
    )
    add_data(parser)
    parser.add_options(
        options_of_configurations(
            "the 9 losses of the paper, of which the weighted losses have uniform sampling only"
        )
    )
    options = {**_options_of_study(), **_COPIES}
    parser.add_options(options)
    parser.add_options(options_of_classifiers(DEFAULTS))
    parser.add_options(_OF_STUDY)
    args = parser.parse_args(argv)
    _check(parser, args)
    check_choices(parser, args)
    data = load_data(parser, args)
    rows, note = rows_of_study(parser, args, data)
    study = partial(
        compare_losses,
        **rows,
        losses=args.losses,
        samplers=args.samplers,
        estimator=make_estimator(parser, args, data),
        source=data,
        **{name: getattr(args, name) for name in options if name != "test"},
    )
    files = {"csv": args.csv, "html": args.html}
    commands = partial(winner_commands, args)
    return run_study(parser, args.data, study, signals, note=note, commands=commands, **files)


def _check(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse options that contradict each other, and files that cannot be written."""
    if args.test and args.cv is not None:
        parser.error("--cv divides the rows, but --test has its own test rows. Give one of them.")
    check_report(parser, args.html)
    check_output(parser, "--html", args.html)
    check_output(parser, "--csv", args.csv)
    if args.html is not None and args.html == args.csv:
        parser.error(f"--html and --csv must be two files; got {args.csv} for both.")


def _options_of_study() -> Options:
    return {
        "cv": option("--cv", "number of stratified folds (default: 5)", **COUNT),
        "n_repeats": option(
            "--repeats",
            "number of times that the folds are drawn. With --test, number of seeds",
            default=1,
            **COUNT,
        ),
        "test": option(
            "--test",
            "fit on the training rows and judge on the test rows, instead of a cross-validation",
            action="store_true",
        ),
        "baseline": option(
            "--baseline",
            "loss that all others are compared with (default: ce, and wce for losses "
            "that add a term to wce)",
            metavar="LOSS",
        ),
        "scoring": option(
            "--scoring",
            f"score that ranks: {', '.join(SCORES)}, f1[CLASS] or a scorer of scikit-learn",
            default="balanced_accuracy",
            metavar="NAME",
        ),
        "n_jobs": option(
            "--jobs", "fits at a time, -1 for all processors (default: 1)", type=jobs, metavar="N"
        ),
        "random_state": option(
            "--seed", "of folds, weights and batches", type=seed, default=0, metavar="N"
        ),
        "cache_dir": option(
            "--cache",
            "folder that keeps every finished fit. It is new, or of an earlier run on "
            "the same data",
            type=Path,
            metavar="FOLDER",
        ),
    }
