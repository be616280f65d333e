"""``skimbal info``: the content of a data set."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.commands.classifier import DEFAULTS, options_of_classifiers
from skimbal.commands.data import (
    add_data,
    folder_params,
    given,
    load_data,
    names_folder,
    refuse_options_of_files,
)
from skimbal.commands.models import model_card
from skimbal.commands.parser import Options, Parser, option
from skimbal.datasets import DataInspection, inspect_data, inspect_folder
from skimbal.memory import estimate_memory, memory_of_machine
from skimbal.signals import Signals
from skimbal.wording import memory_in_words

__all__ = ["run"]

_OPTIONS_OF_INFO: Options = {
    "quick": option(
        "--quick",
        "read the headers of files only, so that ranges, copies and damaged files stay unknown",
        action="store_true",
    ),
}
#: Parameters of the classifiers that decide about the memory of a training step.
_OPTIONS_OF_MEMORY: Options = {
    name: setting
    for name, setting in options_of_classifiers(DEFAULTS).items()
    if name
    in (
        *("batch_size", "micro_batch_size", "crop_size", "module", "net__module__width"),
        *("optimizer", "dtype"),
    )
}


def run(argv: Sequence[str], signals: Signals) -> int:
    """Print the content of a data set, and the reasons to refuse or to doubt it."""
    parser = Parser(
        "skimbal info",
        "Show the content of a data set on one screen: the reasons to refuse it, copies and leaks, "
        "files by format, sizes, spacing, range, classes, groups, and the memory that a training "
        "step takes. Nothing is fitted. Of a "
        "model, show the card.",
        epilog="The exit code is 0 if the data would be loaded, and 2 if they would be refused. "
        "Warnings do not change it.",
    )
    add_data(parser)
    parser.add_options(_OPTIONS_OF_INFO)
    parser.add_options(_OPTIONS_OF_MEMORY, "memory of a training step")
    args = parser.parse_args(argv)
    if os.path.isfile(args.data) and not args.data.endswith(".npz"):
        print(model_card(parser, args.data))
        return 0
    if names_folder(args.data):
        inspection = _inspect_folder(parser, args)
    else:
        inspection = inspect_data(load_data(parser, args, is_quiet=True), headers_only=args.quick)
    root = f"{os.path.abspath(args.data)}{os.sep}"
    text = inspection.to_text(
        width=min(100, shutil.get_terminal_size().columns),
        unicode=_can_print("\u2588"),
        word=lambda error: parser.worded(error).replace(root, ""),
    )
    memory = _memory(parser, args, inspection) if inspection.loads else ""
    facts, blank, classes = text.rpartition("\n\n")
    print(f"{facts}\n{memory}{blank}{classes}" if memory else text)
    return 0 if inspection.loads else 2


def _memory(parser: Parser, args: argparse.Namespace, inspection: DataInspection) -> str:
    """Return a line with the memory of a training step, and warn if the machine lacks it."""
    card, n_axes = inspection.card, inspection.ndim
    if card is None or n_axes is None or len(card.image_shape) not in (n_axes, n_axes + 1):
        return ""
    clf = (CNN2DClassifier if n_axes == 2 else CNN3DClassifier)()
    about_images = card.image_shape, max(2, len(card.class_names)), card.dtype or None
    try:
        clf.set_params(**given(args, _OPTIONS_OF_MEMORY))
        estimate = estimate_memory(clf, *about_images)
    except ValueError as error:
        parser.refuse(error, parser.prog)
    memory = memory_of_machine()
    if memory is not None and estimate.total > memory:
        n_rows = estimate.rows_at_once
        fitting = estimate
        while fitting.total > memory and n_rows > 1:
            n_rows = -(-n_rows // 2)
            fitting = estimate_memory(clf.set_params(micro_batch_size=n_rows), *about_images)
        remedy = "Give a smaller --crop-size or network."
        if fitting.total <= memory:
            remedy = (
                f"Give --micro-batch-size {n_rows}, with which it takes about "
                f"{memory_in_words(fitting.total)}, or a smaller --batch-size or --crop-size."
            )
        print(
            f"skimbal: UserWarning: a training step takes about {estimate}, and this machine has "
            f"{memory_in_words(memory)}. {remedy}",
            file=sys.stderr,
        )
    return f"memory    about {str(estimate).partition(':')[0]}"


def _inspect_folder(parser: Parser, args: argparse.Namespace) -> DataInspection:
    refuse_options_of_files(parser, args)
    try:
        return inspect_folder(
            args.data, headers_only=args.quick, verbose=1, **folder_params(parser, args)
        )
    except (ImportError, OSError, ValueError) as error:
        parser.refuse(error, args.data, args.data)


def _can_print(text: str) -> bool:
    """Tell whether the encoding of the standard output has the characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
