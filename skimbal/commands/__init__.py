"""The commands of the command line.

Each takes its arguments and the signals of the program, and returns the exit code.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TypeAlias

from skimbal.signals import Signals

__all__ = ["COMMANDS", "Command"]

Command: TypeAlias = Callable[[Sequence[str], Signals], int]


def _command(name: str) -> Command:
    """Return the command in the file of a name, which is imported when it runs."""

    def run(argv: Sequence[str], signals: Signals) -> int:
        code: int = import_module(f"{__name__}.{name}").run(argv, signals)
        return code

    return run


_NAMES = ("info", "compare", "fit", "evaluate", "predict", "export")
#: The commands by name.
COMMANDS: dict[str, Command] = {name: _command(name) for name in _NAMES}
