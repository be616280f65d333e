"""The commands of the command line.

Each takes its arguments and the signals of the program, and returns the exit code.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from skimbal.commands import compare, evaluate, export, fit, info, predict
from skimbal.signals import Signals

__all__ = ["COMMANDS", "Command"]

Command: TypeAlias = Callable[[Sequence[str], Signals], int]

#: The commands by name.
COMMANDS: dict[str, Command] = {
    "info": info.run,
    "compare": compare.run,
    "fit": fit.run,
    "evaluate": evaluate.run,
    "predict": predict.run,
    "export": export.run,
}
