"""Whether damaged files and odd data sets are read rightly or refused by name, for hours.

Each input is a small valid file with a few changes, a random table or a random tree of folders, and
has a number, so that any run can make it again. The inputs are read in a child process with a limit
of memory, so that a crash of a library, a hang and a lack of memory are findings too. The folder of
the results gets each input that something else follows than a right array, right labels, or an
error with the name of the file.
"""

import argparse
import collections
import json
import multiprocessing
import multiprocessing.synchronize
import os
import re
import resource
import shutil
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from skimbal.images import FORMATS
from tests.fuzzing.data_sets import MAKERS, Files
from tests.fuzzing.oracle import Finding, Inputs, check, write

#: Bytes that a child may take beyond what python and the libraries take.
MEMORY = 2**30
#: Wall-clock time without an answer, after which a child is ended.
HANG_SECONDS = 60.0
#: Inputs after which a new child takes over.
INPUTS_OF_CHILD = 20_000


def limit_memory() -> None:
    """Limit what this process may map."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def work(names: list[str], seed: int, start: int, folder: str, pipe: Any) -> None:
    """Try one input after another, and tell the number before and the outcome after each."""
    inputs = Inputs(names, seed)
    for name, units in inputs.units.items():  # the libraries are imported before the limit
        for unit in units:
            try_input(name, {**unit}, {}, Path(folder))
    for number in range(start, start + len(names)):
        try_input(*inputs(number), Path(folder))
    limit_memory()
    threading.stack_size(2**20)
    for number in range(start, start + INPUTS_OF_CHILD):
        name, unit, options = inputs(number)
        pipe.send((number, name, None))
        pipe.send((number, name, try_input(name, unit, options, Path(folder))))


def try_input(name: str, unit: Files, options: dict[str, Any], folder: Path) -> str:
    """Return "read", "refused", or a description of a finding."""
    shutil.rmtree(folder)
    folder.mkdir()
    try:
        path = write(unit, folder, name)
    except OSError:  # names that a file system does not allow
        return "refused"
    try:
        return check(path, name, options)
    except Finding as finding:
        cause = finding.__cause__
        trace = "".join(traceback.format_exception(cause)) if cause else ""
        return f"{finding}\n{options}\n{trace}"


class Run:
    """The counts and findings of a run, and the folder that keeps them."""

    def __init__(self, names: list[str], seed: int, output: Path) -> None:
        self.inputs, self.output = Inputs(names, seed), output
        self.names, self.seed = names, seed
        self.counts: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )
        self.kinds: collections.Counter[str] = collections.Counter()
        output.mkdir(parents=True, exist_ok=True)

    def add(self, number: int, name: str, outcome: str) -> None:
        is_finding = outcome not in ("read", "refused")
        self.counts[name]["findings" if is_finding else outcome] += 1
        if not is_finding:
            return
        # One kind: the same words, whatever the numbers and paths in them.
        first = outcome.splitlines()[0]
        kind = re.sub(r"'.*'|<.*>|/\S+|\d[\d.e+-]*", "#", f"{name}: {first}")[:200]
        self.kinds[kind] += 1
        if self.kinds[kind] > 3:
            return
        print(f"{number} {name}: {first[:300]}", flush=True)
        where = self.output / f"{name}-{number}"
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        write(self.inputs(number)[1], where, name)
        (where / "finding.txt").write_text(f"seed {self.seed}, input {number}\n{outcome}\n")

    def save(self, seconds: float) -> None:
        result = {
            "seed": self.seed,
            "seconds": round(seconds),
            "inputs": {name: dict(counts) for name, counts in sorted(self.counts.items())},
            "kinds": dict(self.kinds.most_common()),
        }
        (self.output / "summary.json").write_text(json.dumps(result, indent=1) + "\n")
        for name, counts in result["inputs"].items():
            print(f"{name:6}", "  ".join(f"{key} {n:,}" for key, n in sorted(counts.items())))
        for kind, n in result["kinds"].items():
            print(f"{n:6} x {kind}")


def fuzz(names: list[str], seed: int, minutes: float, output: Path) -> Run:
    """Try inputs in child processes until the time is over."""
    run, number, begin = Run(names, seed, output), 0, time.monotonic()
    end = begin + 60 * minutes
    context = multiprocessing.get_context("spawn")
    os.environ["MALLOC_ARENA_MAX"] = "2"  # a thread would map 64 MiB of the limit of a child
    while time.monotonic() < end:
        folder = tempfile.mkdtemp(prefix="fuzz_")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=work, args=(names, seed, number, folder, sender))
        child.start()
        sender.close()
        doing: tuple[int, str] | None = None
        try:
            while time.monotonic() < end:
                if not receiver.poll(HANG_SECONDS):
                    outcome = "no answer: it hangs"
                    break
                number, name, outcome = receiver.recv()
                doing = (number, name) if outcome is None else None
                if outcome is not None:
                    run.add(number, name, outcome)
                    number += 1
            else:
                doing = None
        except EOFError:
            child.join()
            outcome = f"the interpreter ended with code {child.exitcode}"
        child.kill()
        child.join()
        shutil.rmtree(folder, ignore_errors=True)
        if doing is not None:
            run.add(*doing, outcome)
            number += 1
        elif number == 0:
            raise RuntimeError(f"the child process did not begin: {outcome}")
    run.save(time.monotonic() - begin)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    kinds = [*FORMATS, *MAKERS]
    parser.add_argument("--formats", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--seed", type=int, default=0, help="another one is other inputs")
    parser.add_argument("--output", type=Path, required=True, help="folder of the findings")
    args = parser.parse_args()
    fuzz(args.formats, args.seed, args.minutes, args.output)


if __name__ == "__main__":
    main()
