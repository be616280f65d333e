"""Does the cache of a study notice edits, and only those that count? A table of edits says.

Each edit is made between two calls of ``compare_losses`` with one ``cache_dir``. A false hit is a
fit of other code, data or settings that is given back. A false miss is a fit that is done again, or
a folder that is refused, though nothing that counts has changed. Two calls without a cache show
whether the edit changes the scores.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning

from benchmarks.edits import EDITS, PRELUDE, Edit
from benchmarks.measuring import command_line, parse, progress, write_report
from skimbal.exceptions import ParameterError

__all__ = ["Outcome", "judge"]

_LAB = "lab"
_SCRIPT = """
import json, sys, lab
from skimbal.exceptions import ParameterError
try:
    study = lab.study(sys.argv[1] or None)
except ParameterError as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps([fit.to_dict() for fit in study.fits]))
"""


@dataclass(frozen=True)
class Outcome:
    """The second of two calls.

    Parameters
    ----------
    is_hit : bool
        Whether it gave the fits of the first call back.
    words : str
        The error if it refused the folder.
    differs : bool
        Whether calls without a cache have other scores, if they were made.
    """

    is_hit: bool
    words: str = ""
    differs: bool | None = None


def judge(edit: Edit, with_truth: bool = False) -> Outcome:
    """Make an edit between two calls.

    Parameters
    ----------
    edit : Edit
        A row of the table.
    with_truth : bool, default=False
        Whether both programs also run without a cache.

    Returns
    -------
    outcome : Outcome
        The second call.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "program")
        for name, text in (*edit.files, ("lab.py", PRELUDE + edit.source)):
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        run = _in_processes if edit.how == "process" else _in_this_process
        outcome = run(edit, home, str(Path(folder, "cache")), with_truth)
        return replace(outcome, words=outcome.words.replace(folder + os.sep, ""))


def _in_this_process(edit: Edit, home: Path, cache: str, with_truth: bool) -> Outcome:
    with _visible(home), torch.random.fork_rng(), warnings.catch_warnings():
        # Fits of two epochs may learn little.
        warnings.simplefilter("ignore", ConvergenceWarning)
        lab = _cell(edit.source, None) if edit.how == "cell" else _load()
        first = _run(lab.study, cache)
        truth = [_run(lab.study, None)] if with_truth else []
        try:
            lab = _edit(edit, home, lab)
            second = _run(lab.study, cache)
            truth += [_run(lab.study, None)] if with_truth else []
        finally:
            if edit.how == "run":
                exec(edit.before, vars(lab))
    return _compare(first, second, truth)


def _edit(edit: Edit, home: Path, lab: types.ModuleType) -> types.ModuleType:
    path = home / edit.file
    text = path.read_text()
    if edit.how == "run":
        exec(edit.after, vars(lab))
        return lab
    if edit.before not in text:
        raise ValueError(f"{edit.name}: {edit.before!r} is not in {edit.file}")
    path.write_text(text.replace(edit.before, edit.after))
    if edit.how == "reload":
        importlib.invalidate_caches()
        return importlib.reload(lab)
    if edit.how == "cell":
        return _cell(edit.source.replace(edit.before, edit.after), lab)
    return _load()


def _cell(source: str, lab: types.ModuleType | None) -> types.ModuleType:
    """Run the program as a cell of a notebook, in which classes are of ``__main__``."""
    if lab is None:
        lab = types.ModuleType("__main__")
        exec(compile(PRELUDE, "<cell 1>", "exec"), vars(lab))
    exec(compile(source, "<cell 2>", "exec"), vars(lab))
    return lab


def _load() -> types.ModuleType:
    _forget()
    importlib.invalidate_caches()
    return importlib.import_module(_LAB)


def _forget() -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] in (_LAB, "tools", "tables", "pack"):
            del sys.modules[name]


@contextmanager
def _visible(home: Path) -> Iterator[None]:
    """Put the folder of the program on the path, and leave all as it was."""
    keeps = sys.dont_write_bytecode
    tables = _tables()
    sys.path.insert(0, str(home))
    os.environ["EDITS_FOLDER"] = str(home)
    # Two edits within a second would have one compiled file.
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = keeps
        sys.path.remove(str(home))
        del os.environ["EDITS_FOLDER"]
        _forget()
        for table, rows in tables:
            table.clear()
            table.update(rows)


def _tables() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    from skimbal.losses import TERMS
    from skimbal.networks import BUILT_IN
    from skimbal.training import SCHEDULES

    tables: list[dict[str, Any]] = [TERMS, BUILT_IN, SCHEDULES]
    return [(table, dict(table)) for table in tables]


def _run(study: Callable[..., Any], cache: str | None) -> list[dict[str, Any]] | str:
    try:
        return [fit.to_dict() for fit in study(cache).fits]
    except ParameterError as error:
        if error.parameter != "cache_dir":
            raise
        return str(error)


def _in_processes(edit: Edit, home: Path, cache: str, with_truth: bool) -> Outcome:
    work = home
    variables: dict[str, str] = {}
    first = _in_process(home, work, cache, variables)
    truth = [_in_process(home, work, "", variables)] if with_truth else []
    kind, _, what = edit.after.partition(" ")
    if kind == "environment":
        name, _, value = what.partition("=")
        variables[name] = value
    elif kind == "work":
        work = Path(cache).parent
    elif kind == "folder":
        shutil.move(home, home.with_name("moved"))
        home = work = home.with_name("moved")
    elif kind == "touch":
        os.utime(home / "lab.py")
    second = _in_process(home, work, cache, variables)
    truth += [_in_process(home, work, "", variables)] if with_truth else []
    return _compare(first, second, truth)


def _in_process(home: Path, work: Path, cache: str, variables: dict[str, str]) -> Any:
    paths = os.pathsep.join([str(home), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": paths, "EDITS_FOLDER": str(home), **variables}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, cache],
        cwd=work,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _compare(first: Any, second: Any, truth: list[Any]) -> Outcome:
    assert not isinstance(first, str), first
    if truth:
        scores = [[fit["scores"] for fit in fits] for fits in truth]
        differs = scores[0] != scores[1]
    # The times of two fits differ.
    return Outcome(
        first == second, second if isinstance(second, str) else "", differs if truth else None
    )


def main() -> None:
    parser = command_line(str(__doc__).splitlines()[0])
    args = parse(parser)
    edits = [edit for edit in EDITS if edit.how != "process"] if args.quick else EDITS
    results = []
    for edit in edits:
        outcome = judge(edit, with_truth=True)
        verdict = "right"
        if outcome.is_hit and edit.is_other:
            verdict = "FALSE HIT"
        elif not outcome.is_hit and not edit.is_other:
            verdict = "false miss"
        if outcome.differs != (edit.is_other and edit.shows):
            verdict += " (scores do not tell)" if edit.is_other else " (SCORES DIFFER)"
        progress(f"{edit.group}: {edit.name}: {verdict} {outcome.words}")
        results.append({**vars(edit), "verdict": verdict, **vars(outcome)})
    _report(args, results)


def _report(args: Any, results: list[dict[str, Any]]) -> None:
    rows = []
    for group in dict.fromkeys(row["group"] for row in results):
        of_group = [row for row in results if row["group"] == group]
        hits = sum(row["verdict"].startswith("FALSE") for row in of_group)
        misses = sum(row["verdict"].startswith("false") for row in of_group)
        refused = sum(bool(row["words"]) for row in of_group)
        fitted = sum(not row["is_hit"] and not row["words"] for row in of_group)
        rows.append([group, *map(str, (len(of_group), refused, fitted, hits, misses))])
    rows.append(["all", *(str(sum(int(row[i]) for row in rows)) for i in range(1, 6))])
    head = ["kind of edit", "edits", "refused", "fitted anew", "false hits", "false misses"]
    missed = [row["name"] for row in results if row["verdict"].startswith("false")]
    notes = [f"False misses: {'; '.join(missed)}."] if missed else []
    kept = ("name", "group", "how", "before", "after", "is_other", "verdict", "words")
    write_report(
        "cache_edits",
        args,
        {"edits": [{name: row[name] for name in kept} for row in results]},
        [("Edits between two calls with one cache_dir", head, rows)],
        notes,
    )


if __name__ == "__main__":
    main()
