"""A pytest plugin: an account of the whole run, printed at its end."""

import pytest

from . import account, pretend

pretend()


#: The account of the run, and its events.
RUN = pytest.StashKey()


def pytest_sessionstart(session):
    run = account()
    session.config.stash[RUN] = run, run.__enter__()


def pytest_terminal_summary(terminalreporter, config):
    run, events = config.stash[RUN]
    run.__exit__(None, None, None)
    terminalreporter.section("events on the pretended devices")
    terminalreporter.write_line(str(events))
