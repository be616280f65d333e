"""``skimbal fit``: one classifier, from data to the file of a model."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.commands.classifier import (
    DEFAULTS,
    check_choices,
    make_estimator,
    options_of_classifiers,
)
from skimbal.commands.data import add_data, load_data
from skimbal.commands.messages import print_error, print_remarks, warnings_as_lines
from skimbal.commands.outputs import check_output
from skimbal.commands.parser import Options, Parser, in_shell, option, positive, seed
from skimbal.commands.predict import COLUMNS
from skimbal.commands.rows import choose_parts, count_rows, option_of_parts, parts_of, take_rows
from skimbal.commands.winner import evaluation_command
from skimbal.datasets.copies import image_numbers
from skimbal.datasets.splits import split_key
from skimbal.sampling import STRATEGIES
from skimbal.signals import Signals
from skimbal.study.source import are_mixed
from skimbal.wording import plural

__all__ = ["run"]

_OPTIONS: Options = {
    "output": option(
        "--output",
        "new file for the model",
        type=Path,
        required=True,
        metavar="MODEL.skimbal",
    ),
    "loss": option("--loss", "such as wce or ce+0.5*mcc", default=DEFAULTS.loss, metavar="LOSS"),
    "sampler": option(
        "--sampler",
        f"auto, {', '.join(STRATEGIES)}",
        default=DEFAULTS.sampler,
        metavar="SAMPLER",
    ),
    "random_state": option("--seed", "of weights and batches", type=seed, default=0, metavar="N"),
    **option_of_parts("that train, of train, val and test (default: all but test)"),
    "train_split": option(
        "--train-split",
        "share of the rows that do not train and show the validation loss, whole groups of them "
        "where groups are given (default: all rows train)",
        type=positive,
        metavar="SHARE",
    ),
    "description": option("--description", "text for the card of the model", metavar="TEXT"),
    "license": option("--license", "text for the card of the model", metavar="TEXT"),
}


def run(argv: Sequence[str], signals: Signals) -> int:
    """Train a classifier and write it to a file."""
    parser = Parser(
        "skimbal fit",
        "Train one classifier and write it to a file, with all that a prediction needs: how images "
        "are read, the names of the classes, the weights. The training and validation rows of data "
        "with a split train, and the test rows stay untouched.",
        epilog="Ctrl-C, SIGTERM and SIGHUP end the fit without a file. The summary is printed to "
        "the standard output, progress and warnings to the standard error.",
    )
    add_data(parser)
    parser.add_options(_OPTIONS)
    parser.add_options(options_of_classifiers(DEFAULTS), "the classifier")
    args = parser.parse_args(argv)
    check_output(parser, "--output", args.output)
    args.losses, args.samplers = [args.loss], [args.sampler]
    check_choices(parser, args)
    data = load_data(parser, args)
    parts = choose_parts(parser, args, data, ("train", "val"))
    rows = {name: of for name, of in take_rows(data, parts).items() if of is not None}
    _check_classes(parser, args, rows["y"])
    clf = make_estimator(parser, args, data).set_params(
        **{name: getattr(args, name) for name in ("loss", "sampler", "random_state", "train_split")}
    )
    if not _fit(parser, args, signals, clf, rows):
        return 1
    numbers = np.unique(image_numbers(rows["X"]))
    clf.net_.image_numbers_ = numbers[numbers > 0]
    try:
        clf.save(args.output, description=args.description, license=args.license)
    except (OSError, ValueError) as error:
        print_error(f"{args.output}: {error}")
        return 1
    print(_summary(args, clf, data, parts, rows["y"]))
    return 0


def _check_classes(parser: Parser, args: argparse.Namespace, y: np.ndarray) -> None:
    """Refuse classes that are called as the other columns of predictions."""
    names = {str(label) for label in np.unique(y).tolist()}
    for name in COLUMNS:
        if name in names:
            parser.error(
                f"{args.data}: a class must not be called {name!r}, as the predictions have a "
                "column of this name. Rename the class."
            )


def _fit(
    parser: Parser,
    args: argparse.Namespace,
    signals: Signals,
    clf: CNN2DClassifier | CNN3DClassifier,
    rows: dict[str, Any],
) -> bool:
    """Train, or say why that failed. An error before the training ends the program."""
    clf.set_params(verbose=1)
    try:
        with warnings_as_lines(parser, UserWarning), redirect_stdout(sys.stderr):
            clf.fit(**rows)
        signals.postpone()
    except KeyboardInterrupt:
        print("skimbal: The fit ended early, so no file was written.", file=sys.stderr)
        raise
    except Exception as error:
        has_begun = hasattr(clf, "net_")
        if not has_begun and not isinstance(error, ImportError | OSError | ValueError):
            raise
        if not has_begun:
            parser.refuse(error, args.data, args.data)
        print_error(error)
        print_remarks(error)
        print("skimbal: No file was written.", file=sys.stderr)
        return False
    clf.set_params(verbose=0)
    return True


def _summary(
    args: argparse.Namespace,
    clf: CNN2DClassifier | CNN3DClassifier,
    data: Bunch,
    parts: Sequence[str],
    y: np.ndarray,
) -> str:
    """Return the classes, the input, the training and the next command."""
    classes, counts = np.unique(y, return_counts=True)
    width = max(len(str(label)) for label in (*classes.tolist(), "network"))
    form, last, used = clf.input_, clf.history_[-1], clf.net_.blueprint_
    seconds = sum(row.get("dur", 0.0) for row in clf.history_)
    lines = [
        ("rows", count_rows(data, parts)),
        *(
            (str(label), f"{n:,} ({n / len(y):.0%})")
            for label, n in zip(classes.tolist(), counts.tolist(), strict=True)
        ),
        ("input", f"{' x '.join(map(str, form.shape))}, {form.dtype}"),
        ("loss", f"{args.loss}, sampler {used.sampler}, seed {args.random_state}"),
        ("network", f"{used.module}, {_training(clf)}"),
        ("time", f"{seconds:.0f} s on {clf.net_.device}"),
    ]
    if "valid_loss" in last:
        lines.append(("valid_loss", f"{last['valid_loss']:.4g} after the last epoch"))
    body = [f"{name:<{width}}  {words}" for name, words in lines]
    return "\n".join(
        [f"{args.output} holds the model.", *body, "", *_next_commands(args, data, parts)]
    )


def _training(clf: CNN2DClassifier | CNN3DClassifier) -> str:
    """Return the number of epochs, and of the steps of each, in words."""
    n_epochs, n_steps = clf.n_epochs_, clf.n_steps_
    each = f" of {plural(n_steps // n_epochs, 'step')}"
    in_all = f" ({plural(n_steps, 'step')} in all)" if n_epochs > 1 else ""
    return f"{plural(n_epochs, 'epoch')}{each}{in_all}"


def _next_commands(args: argparse.Namespace, data: Bunch, parts: Sequence[str]) -> list[str]:
    """Return the commands that judge and use the model."""
    model = str(args.output)
    lines = []
    unseen = [part for part in reversed(parts_of(data)) if part not in parts]
    if unseen:
        groups = data.get(split_key("groups", unseen[0]))
        has_mixed = groups is not None and are_mixed(groups, data[split_key("y", unseen[0])])
        more = {
            "--parts": unseen[0] if unseen[0] != "test" else "",
            "--pool": "none" if has_mixed else "",
            "--html": "report.html",
        }
        lines.append(f"Judge it:  {evaluation_command(model, args.data, vars(args), more)}")
    else:
        lines.append(
            "Judge it:  on other images with labels, as no row is left that it has not seen"
        )
    lines.append(f"Use it:    skimbal predict {in_shell(model)} NEW --output predictions.csv")
    return lines
