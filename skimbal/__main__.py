"""The command line: ``python -m skimbal``, or ``skimbal``."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from skimbal.commands import COMMANDS, default
from skimbal.signals import as_interruptions, code_of

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments. None takes the arguments of the process.

    Returns
    -------
    int
        Exit code: 0, 1 if a fit or the writing of a result fails, 128 and the number of the signal
        after Ctrl-C (130), SIGTERM (143) or SIGHUP (129), or 141 if the output is closed before its
        end. 2 if ``skimbal info`` lists reasons to refuse the data.
        Any other refusal before a fit raises ``SystemExit`` with 2 instead. ``--help`` and
        ``--version`` raise it with 0.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with _writing_any_text(), as_interruptions() as signals:
            is_named = bool(argv) and argv[0] in COMMANDS
            command = COMMANDS[argv.pop(0)] if is_named else default.run
            code = command(argv, signals)
            if sys.stdout is not None and not sys.stdout.closed:  # as by a full disk
                sys.stdout.flush()
        return signals.code or code
    except KeyboardInterrupt as interrupt:
        return code_of(interrupt)
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it. Python flushes the rest at its end,
        # which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


@contextmanager
def _writing_any_text() -> Iterator[None]:
    """Write names that the encoding of the output lacks, such as bytes of files, by numbers."""
    strict = [
        stream
        for stream in (sys.stdout, sys.stderr)
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict"
    ]
    before = sys.stderr
    if sys.stderr is None:  # it was closed, and a message would go among the results
        sys.stderr = io.StringIO()
    for stream in strict:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        sys.stderr = before
        for stream in strict:
            if not stream.closed:
                stream.reconfigure(errors="strict")


if __name__ == "__main__":
    sys.exit(main())
