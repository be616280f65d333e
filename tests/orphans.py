"""Processes that tests end, and those that these have started."""

import os
import subprocess
import time

__all__ = ["alive", "family", "wait_until"]


def processes():
    """Return parent, state and command of each process of this machine."""
    table = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(None, 3) for line in table.splitlines())
    return {int(pid): (int(parent), state, command) for pid, parent, state, command in rows}


def family(pid):
    """Return the workers that a process has started, without the trackers of their memory."""
    table = processes()
    found, new = set(), {pid}
    while new:
        new = {one for one, (parent, _, _) in table.items() if parent in new}
        found |= new
    return {one: table[one][2] for one in found if "resource_tracker" not in table[one][2]}


def alive(workers):
    """Return the workers that still run."""
    table = processes()
    return [
        pid
        for pid, command in workers.items()
        if pid in table and table[pid][2] == command and not table[pid][1].startswith("Z")
    ]


def wait_until(condition, seconds=60):
    """Wait for a condition, which has to come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain, in process {os.getpid()}"
        time.sleep(0.05)
