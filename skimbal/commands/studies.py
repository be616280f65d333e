"""Studies of the command line: their configurations, and the output of their results."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from skimbal import CollapseWarning
from skimbal.commands.messages import print_error, print_remarks, warnings_as_lines
from skimbal.commands.parser import Options, Parser, names, one_line, option
from skimbal.sampling import STRATEGIES
from skimbal.signals import Signals, code_of
from skimbal.study import LossStudy
from skimbal.study.code import confirm_in_words

__all__ = ["INTERRUPT", "options_of_configurations", "run_study"]

INTERRUPT = "Ctrl-C, SIGTERM and SIGHUP end it and print the finished part."


def options_of_configurations(losses: str) -> Options:
    """Return the options of losses and samplers, with the default losses in words."""
    return {
        "losses": option(
            "--loss --losses",
            f"such as wce or ce+0.5*mcc. Repeat the option for more (default: {losses})",
            action="extend",
            type=names,
            metavar="LOSS[,LOSS...]",
        ),
        "samplers": option(
            "--sampler --samplers",
            f"of {', '.join(STRATEGIES)}. Repeat the option for more (default: uniform, balanced)",
            action="extend",
            type=names,
            metavar="SAMPLER[,SAMPLER...]",
        ),
    }


def run_study(
    parser: Parser,
    data: str,
    compare: Callable[[], LossStudy],
    signals: Signals,
    *,
    note: str,
    csv: Path | None,
    html: Path | None = None,
    commands: Callable[[LossStudy], list[str]] | None = None,
) -> int:
    """Print and write a study, or its finished part if an exception ends it early."""
    code = 0
    try:
        with warnings_as_lines(parser, CollapseWarning):
            study = compare()
        signals.postpone()
    except (Exception, KeyboardInterrupt) as error:
        signals.postpone()
        if not hasattr(error, "study"):
            if not isinstance(error, OSError | ValueError):
                raise
            parser.refuse(error, data, data)
        study, code = error.study, 1
        if isinstance(error, KeyboardInterrupt):
            code = code_of(error)
        else:
            print_error(error)
        print_remarks(error)
    if not study.fits:
        if code:
            print("skimbal: The run ended before its first fit was finished.", file=sys.stderr)
        return code
    study.splitting += note
    of_winner = [] if commands is None else commands(study)
    # First of all the files: the reader of the output may be gone.
    for path, write in ((csv, study.to_csv), (html, partial(study.to_html, commands=of_winner))):
        try:
            if path is not None:
                write(path)
                if code:
                    _say_incomplete(path)
        except OSError as error:
            print(f"skimbal: error: {path}: {one_line(error)}", file=sys.stderr)
            code = code or 1
    print(study.summary())
    if of_winner:
        print(f"\nTrain the best configuration. {confirm_in_words(study)}")
        print(*(f"  {command}" for command in of_winner), sep="\n")
    return code


def _say_incomplete(path: Path) -> None:
    """Say that a file has a part of the study, as the same command refuses to overwrite it."""
    print(
        f"skimbal: {path} has the finished fits only. Remove or rename it before you run the same "
        "command again.",
        file=sys.stderr,
    )
