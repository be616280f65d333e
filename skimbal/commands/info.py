"""``skimbal info``: the content of a data set."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from skimbal.commands.data import (
    add_data,
    folder_params,
    load_data,
    names_folder,
    refuse_options_of_files,
)
from skimbal.commands.models import model_card
from skimbal.commands.parser import Options, Parser, option
from skimbal.datasets import DataInspection, inspect_data, inspect_folder
from skimbal.signals import Signals

__all__ = ["run"]

_OPTIONS_OF_INFO: Options = {
    "quick": option(
        "--quick",
        "read the headers of files only, so that ranges, copies and damaged files stay unknown",
        action="store_true",
    ),
}


def run(argv: Sequence[str], signals: Signals) -> int:
    """Print the content of a data set, and the reasons to refuse or to doubt it."""
    parser = Parser(
        "skimbal info",
        "Show the content of a data set on one screen: the reasons to refuse it, copies and leaks, "
        "files by format, sizes, spacing, range, classes, groups. Nothing is fitted. Of a "
        "model, show the card.",
        epilog="The exit code is 0 if the data would be loaded, and 2 if they would be refused. "
        "Warnings do not change it.",
    )
    add_data(parser)
    parser.add_options(_OPTIONS_OF_INFO)
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
    print(text)
    return 0 if inspection.loads else 2


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
