"""Kill studies at random moments, and start several at once, on one folder of fits.

``python -m benchmarks.kill_study`` runs one or two processes on a new folder and kills one of them
or all by SIGKILL. A later process, or the surviving one, finishes the study. Its scores must be
those of a study that nobody has disturbed. A fit that was finished must stay, and must not be done
again. The second part starts several processes at the same time on a new folder.
"""

import json
import multiprocessing
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import LOG, LoggedClassifier
from benchmarks.measuring import PLAIN, command_line, parse, progress, write_report
from skimbal.datasets import load_imbalanced_digits
from skimbal.study import Fit, compare_losses
from skimbal.study.fit_cache import FitCache
from skimbal.study.sealed import DamagedError, read_sealed
from skimbal.study.sharing import share

LOSSES, SAMPLERS, N_FOLDS = ("ce", "ce+f1", "ce+mcc"), ("uniform", "balanced"), 3
N_FITS = len(LOSSES) * len(SAMPLERS) * N_FOLDS
#: Kills, starts of each number of processes, fits of a study that several processes start.
N_KILLS, N_STARTS, N_FAKES = 100, 50, 12
#: How processes start. Forked ones have imported all that a study needs, and know the packages.
FORK, SERVER = (multiprocessing.get_context(name) for name in ("fork", "forkserver"))
SERVER.set_forkserver_preload(["benchmarks.load", "torch._dynamo"])


def run_study(folder: Path) -> None:
    """Run the study in a process, and write its scores and what it warned of."""
    os.environ[LOG] = str(folder / "log")
    data = load_imbalanced_digits()
    rows = np.concatenate(
        [np.flatnonzero(data.y_train == k)[:n] for k, n in enumerate((60, 20, 20))]
    )
    options: dict[str, Any] = {**PLAIN, "net": {"module__width": 8}, "max_epochs": 1}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        study = compare_losses(
            data.X_train[rows],
            data.y_train[rows],
            losses=LOSSES,
            samplers=SAMPLERS,
            estimator=LoggedClassifier(batch_size=32, **options),
            cv=N_FOLDS,
            random_state=None,
            cache_dir=folder / "runs",
            verbose=0,
        )
    of_cache = [str(w.message) for w in caught if "cache_dir" in str(w.message)]
    scores = {
        score: [[*names, *values.tolist()] for names, values in study.scores(score).items()]
        for score in study.score_names
    }
    (folder / f"result-{os.getpid()}").write_text(json.dumps([scores, of_cache, study.seed]))


def started(folder: Path, context: Any) -> BaseProcess:
    process: BaseProcess = context.Process(target=run_study, args=(folder,))
    process.start()
    return process


def finished(folder: Path) -> dict[str, Any]:
    """Return the contents of the files of whole fits."""
    found = {}
    for path in (folder / "runs").glob("fit-*.json"):
        try:
            found[path.name] = read_sealed(str(path))["fit"]
        except DamagedError:
            continue
    return found


def logged(folder: Path) -> list[str]:
    """Return a line for each fit that was trained, with what tells it from others."""
    path = folder / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [" ".join(line.split()[1:]) for line in lines]


def name_of(fit: dict[str, Any]) -> str:
    return f"{fit['loss']} {fit['sampler']} {fit['seed']}"


def kill_once(
    folder: Path,
    seed: int | None,
    n: int,
    n_killed: int,
    moment: float,
    *,
    phase: str = "of the start",
    context: Any = SERVER,
) -> dict[str, Any]:
    """Kill processes of a study at a moment, and let a living one or a new one finish it."""
    folder.mkdir()
    if seed is not None:  # the seed of the undisturbed study, as if its first process had drawn it
        FitCache(folder / "runs").agree_on_seed(seed)
    processes = [started(folder, context) for _ in range(n)]
    while phase == "of the fits" and not (folder / "runs" / "study.json").exists():
        time.sleep(0.001)
    time.sleep(moment)
    for process in processes[:n_killed]:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
    for process in processes[:n_killed]:
        process.join()
    before, trained = finished(folder), logged(folder)
    was_killed = sum(process.exitcode == -signal.SIGKILL for process in processes[:n_killed])
    start = time.perf_counter()
    rest = processes[n_killed:] or [started(folder, context)]
    for process in rest:
        process.join()
    after, again = finished(folder), logged(folder)[len(trained) :]
    results = [json.loads(path.read_text()) for path in folder.glob("result-*")]
    done = {name_of(fit) for fit in before.values()}
    return {
        "processes": n,
        "killed": was_killed,
        "phase": phase,
        "moment, seconds": round(moment, 3),
        "finished before": len(before),
        "finished after": len(after),
        "lost": sum(after.get(name) != fit for name, fit in before.items()),
        "done twice": sum(name in done for name in again),
        "failed": sum(process.exitcode != 0 for process in rest),
        "warnings": sorted({text for _, texts, _ in results for text in texts}),
        "left over": len(list((folder / "runs").glob("claim-*"))),
        "seconds to finish": round(time.perf_counter() - start, 3),
        "scores": [scores for scores, _, _ in results],
        "seed": results[0][2] if results else None,
    }


def kill_many(n_kills: int, root: Path, context: Any = SERVER) -> dict[str, Any]:
    undisturbed = kill_once(root / "undisturbed", None, 1, 0, 0.0, context=context)
    (expected,), seed = undisturbed["scores"], undisturbed["seed"]
    times = [path.stat().st_mtime for path in (root / "undisturbed" / "runs").glob("*.json")]
    of_fits = max(times) - (root / "undisturbed" / "runs" / "study.json").stat().st_mtime
    of_start = undisturbed["seconds to finish"] - of_fits
    rng, trials = np.random.default_rng(0), []
    for number in range(n_kills):
        n, n_killed = [(1, 1), (2, 1), (2, 2)][number % 3]
        phase, longest = ("of the start", of_start) if number % 5 == 4 else ("of the fits", of_fits)
        moment = rng.uniform(0, longest / n)
        trial = kill_once(
            root / f"{number}", seed, n, n_killed, moment, phase=phase, context=context
        )
        trial["different tables"] = sum(scores != expected for scores in trial.pop("scores"))
        trials.append(trial)
        progress(f"kill {number + 1} of {n_kills}: {trial}")
    return {"seconds of the start": of_start, "seconds of the fits": of_fits, "trials": trials}


# Many starts ---------------------------------------------------------------------------------


def fake_fit(log: Path, key: str) -> Fit:
    with log.open("a") as stream:
        stream.write(f"{key}\n")
    time.sleep(0.005)
    fields = dict.fromkeys(
        ("repeat", "fold", "seed", "n_train", "n_test", "n_epochs", "n_steps"), 0
    )
    return Fit(
        loss=key, sampler="uniform", **fields, fit_time=0.0, score_time=0.0,
        scores={"f1_macro": len(key) / 7}, confusion_matrix=[[1]],
    )  # fmt: skip


def share_fakes(folder: Path, barrier: Barrier, number: int) -> None:
    """Share a study of fake fits with processes that start at the same time."""
    keys = [f"{i}" for i in range(N_FAKES)]
    barrier.wait()
    cache = FitCache(folder / "runs")
    seed = cache.agree_on_seed(number)
    fits = cache.open({"seed": seed}, keys)
    tasks = {key: partial(fake_fit, folder / "log", key) for key in keys if key not in fits}
    for outcome in share(tasks, cache, n_jobs=1, say=len):
        if outcome.fit is not None:
            fits[outcome.key] = outcome.fit
    table = {key: fits[key].to_dict() for key in keys}
    (folder / f"result-{number}").write_text(json.dumps([table, seed]))


def start_many(
    n_starts: int, n_processes: int, root: Path, context: Any = SERVER
) -> dict[str, Any]:
    """Start processes together, and count."""
    counts = dict.fromkeys(("refused", "fits done twice", "different tables", "left over"), 0)
    start = time.perf_counter()
    for number in range(n_starts):
        folder = root / f"{n_processes}-{number}"
        folder.mkdir()
        barrier = context.Barrier(n_processes)
        processes = [
            context.Process(target=share_fakes, args=(folder, barrier, i))
            for i in range(n_processes)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        tables = {path.read_text() for path in folder.glob("result-*")}
        counts["refused"] += sum(process.exitcode != 0 for process in processes)
        counts["fits done twice"] += len((folder / "log").read_text().splitlines()) - N_FAKES
        counts["different tables"] += len(tables) - 1
        counts["left over"] += len(list((folder / "runs").glob("[cs][lk]*-*")))
    return {"starts": n_starts, **counts, "seconds": time.perf_counter() - start}


def tables_of(results: dict[str, Any]) -> list[Any]:
    trials = results["kills"]["trials"]
    rows = []
    for title, chosen in (
        ("one process, killed, then another", [t for t in trials if t["processes"] == 1]),
        (
            "two processes, one killed",
            [t for t in trials if t["processes"] == 2 and t["killed"] < 2],
        ),
        ("two processes, both killed, then another", [t for t in trials if t["killed"] == 2]),
        ("all", trials),
    ):
        columns = ("killed", "finished before", "lost", "done twice", "different tables", "failed")
        sums = [sum(trial[name] for trial in chosen) for name in columns]
        n_warned = sum(len(trial["warnings"]) for trial in chosen)
        rows.append([title, *map(str, (len(chosen), *sums, n_warned))])
    heads = ("case", "studies", "processes killed", "fits finished before", "of them lost")
    heads += ("of them done again", "tables that differ", "studies that failed", "warnings")
    kills = (f"Studies of {N_FITS} fits, killed by SIGKILL at a random moment", heads, rows)
    names = ("starts", "refused", "fits done twice", "different tables")
    starts = [[n, *(str(of_n[name]) for name in names)] for n, of_n in results["starts"].items()]
    title = f"Processes that start at the same time on a new folder, {N_FAKES} quick fits"
    heads = ("processes", "starts", "processes refused", "fits done twice", "tables that differ")
    return [kills, (title, heads, starts)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line("Kill studies at random moments.")
    parser.add_argument("--kills", type=int, default=N_KILLS)
    args = parse(parser)
    n_kills, n_starts = (3, 2) if args.quick else (args.kills, N_STARTS)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "first").mkdir()
        run_study(root / "first")
        starts = {str(n): start_many(n_starts, n, root, FORK) for n in (2, 4)}
        progress(f"starts: {starts}")
        kills = kill_many(n_kills, root, FORK)
    results = {"starts": starts, "kills": kills}
    write_report(
        "kill_study", args, results, tables_of(results),
        notes=[
            "A fit that a killed process was at is not finished, and is done again. A fifth of the "
            "moments are before the first fit. The others are drawn uniformly from the time that "
            f"the fits take, {kills['seconds of the fits']:.1f} s in one process.",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
