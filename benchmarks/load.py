"""Time, memory and open files where there is much of something.

``python -m benchmarks.load`` reads 100,000 files, tells 1,000 classes apart, searches 200
candidates and lets eight processes share the cache of one study. Each case runs in a process of
its own, with its workers.
"""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV

from benchmarks.measuring import PLAIN, command_line, in_fresh_process, parse, progress
from benchmarks.measuring import write_report as write
from benchmarks.memory import Peak, in_mib, tree, tree_memory, tree_seconds
from skimbal import CNN2DClassifier
from skimbal.datasets import load_image_folder, load_imbalanced_digits
from skimbal.study import compare_losses

N_FILES, N_CLASSES, N_CANDIDATES, N_PROCESSES = 100_000, 1_000, 200, 8
#: With --quick all of these are divided by it.
QUICK = 50
#: The environment variable that names a file with a line for each fit of a study.
LOG = "SKIMBAL_BENCHMARK_FITS"
SECONDS_BETWEEN_LOOKS = 0.25
LOSSES = ("ce", "wce", "focal", "f1", "mcc", "ce+f1", "ce+mcc", "la")


class LoggedClassifier(CNN2DClassifier):
    """A classifier that writes a line for each fit."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Any:
        """Fit, and say so."""
        super().fit(X, y, sample_weight, groups)
        with Path(os.environ[LOG]).open("a") as stream:
            stream.write(f"{os.getpid()} {self.loss} {self.sampler} {self.random_state}\n")
        return self


def small_classifier(**options: Any) -> CNN2DClassifier:
    options = {"max_epochs": 1, "batch_size": 64, "random_state": 0, **options}
    return CNN2DClassifier(**{**PLAIN, "net": {"module__width": 8}, **options})


def open_files() -> int:
    """Count the open files of this process and its children."""
    total = 0
    for process in tree():
        try:
            total += process.num_fds()
        except psutil.Error:  # it has just ended
            continue
    return total


class Watch:
    """Seconds, memory and open files of this process and its children in the parts of a case."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {}

    def run(self, name: str, part: Callable[[], Any]) -> Any:
        """Run a part, and keep its figures."""
        memory, wall, seconds = tree_memory(), time.perf_counter(), tree_seconds()
        with (
            Peak(tree_memory, SECONDS_BETWEEN_LOOKS) as peak,
            Peak(open_files, SECONDS_BETWEEN_LOOKS) as files,
        ):
            result = part()
        self.parts[name] = {
            "wall seconds": time.perf_counter() - wall,
            "cpu seconds": tree_seconds() - seconds - peak.seconds - files.seconds,
            "memory before, bytes": memory,
            "peak bytes": peak.value,
            "memory after, bytes": tree_memory(),
            "open files": files.value,
        }
        return result


def measure_files(divisor: int) -> dict[str, Any]:
    """Load a folder of many PNG files, fit an epoch, and predict all."""
    from PIL import Image

    n = N_FILES // divisor
    rng, watch = np.random.default_rng(0), Watch()
    with tempfile.TemporaryDirectory() as folder:
        for k, name in enumerate(("common", "rare")):
            (Path(folder) / name).mkdir()
            for i in range(n // 10 if k else n - n // 10):
                pixels = rng.integers(60 * k, 180 + 60 * k, (28, 28), dtype=np.uint8)
                Image.fromarray(pixels).save(Path(folder) / name / f"{i:06}.png")
        data = watch.run("load_image_folder", lambda: load_image_folder(folder))
        clf = small_classifier()
        watch.run("fit, one epoch", lambda: clf.fit(data.X, data.y))
        watch.run("predict_proba", lambda: clf.predict_proba(data.X))
    return {"size": f"{n:,} PNG files of 28 x 28", "parts": watch.parts}


def measure_classes(divisor: int) -> dict[str, Any]:
    """Fit an epoch on many classes, plainly and with the defaults of loss and sampler."""
    n_classes = N_CLASSES // divisor
    n = 20 * n_classes
    rng, watch = np.random.default_rng(0), Watch()
    X = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    y = np.arange(n) % n_classes
    # More classes than rows in a batch deserve the advice that they get. Here they are the point.
    warnings.filterwarnings("ignore", category=UserWarning)
    for title, options in (
        ("fit, one epoch, ce+mcc, uniform", {}),
        ("fit, one epoch, ce, balanced", {"loss": "ce", "sampler": "balanced"}),
    ):
        clf = small_classifier(**options)
        watch.run(title, lambda clf=clf: clf.fit(X, y))
    watch.run("predict_proba", lambda: clf.predict_proba(X))
    return {"size": f"{n_classes:,} classes, {n:,} images of 28 x 28", "parts": watch.parts}


def measure_search(divisor: int) -> dict[str, Any]:
    """Search many candidates with two workers, in quarters that show whether memory grows."""
    n = N_CANDIDATES // divisor
    data, watch = load_imbalanced_digits(), Watch()
    candidates = [{"lr": [float(lr)]} for lr in np.geomspace(1e-4, 1e-2, n)]
    try:
        for i, quarter in enumerate(np.array_split(np.arange(n), 4), 1):
            grid = [candidates[j] for j in quarter]
            search = GridSearchCV(
                small_classifier(), grid, cv=2, n_jobs=2, refit=False, error_score="raise"
            )
            name = f"quarter {i} of the candidates"
            watch.run(name, lambda search=search: search.fit(data.X_train, data.y_train))
    finally:
        get_reusable_executor().shutdown()
    size = f"{n} candidates, two folds, {len(data.y_train):,} images of 8 x 8, n_jobs=2"
    return {"size": size, "parts": watch.parts}


def share_study(cache: str) -> None:
    """Run the study that several processes share, and print a line for its table."""
    warnings.simplefilter("ignore")
    data = load_imbalanced_digits()
    study = compare_losses(
        data.X_train,
        data.y_train,
        losses=list(LOSSES),
        samplers=["uniform"],
        estimator=LoggedClassifier(max_epochs=2, batch_size=64),
        cv=5,
        random_state=0,
        cache_dir=cache,
        verbose=0,
    )
    print({name: scores.tolist() for name, scores in study.scores().items()})


def measure_cache(divisor: int) -> dict[str, Any]:
    """Let processes share the cache of a study, and compare with one process."""
    n = N_PROCESSES if divisor == 1 else 2
    watch, tables, n_fits = Watch(), {}, {}
    with tempfile.TemporaryDirectory() as folder:

        def run(n_processes: int) -> None:
            log = Path(folder) / f"fits-{n_processes}"
            command = [sys.executable, "-m", "benchmarks.load", "--share"]
            command += [f"{folder}/cache-{n_processes}"]
            environment = {**os.environ, LOG: str(log)}
            started = [
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
                for _ in range(n_processes)
            ]
            tables[n_processes] = {process.communicate()[0] for process in started}
            if any(process.returncode for process in started):
                raise RuntimeError(f"a process of {n_processes} failed")
            n_fits[n_processes] = len(log.read_text().splitlines())

        for n_processes in (1, n):
            plural = "" if n_processes == 1 else "es"
            watch.run(f"{n_processes} process{plural}", lambda k=n_processes: run(k))
    return {
        "size": f"a study of {len(LOSSES)} losses, five folds, {n} processes on one cache",
        "parts": watch.parts,
        "fits": n_fits,
        "equal tables": len(set.union(*tables.values())) == 1,
    }


CASES: dict[str, Callable[[int], dict[str, Any]]] = {
    "files": measure_files,
    "classes": measure_classes,
    "search": measure_search,
    "cache": measure_cache,
}


def row_of(name: str, part: dict[str, float]) -> list[str]:
    return [
        name,
        f"{part['wall seconds']:.1f}",
        f"{part['cpu seconds']:.1f}",
        in_mib(part["memory before, bytes"]),
        in_mib(part["peak bytes"]),
        in_mib(part["memory after, bytes"]),
        f"{part['open files']:.0f}",
    ]


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> None:
    if arguments[:1] == ("--share",):
        share_study(arguments[1])
        return
    args = parse(command_line(__doc__.splitlines()[0], CASES))
    head = ["part", "wall time, s", "CPU time, s", "memory before, MiB", "peak, MiB"]
    head += ["after, MiB", "open files at most"]
    results, tables, notes = {}, [], []
    for case in args.cases:
        progress(case)
        results[case] = found = in_fresh_process(CASES[case], QUICK if args.quick else 1)
        rows = [row_of(name, part) for name, part in found["parts"].items()]
        tables.append((found["size"], head, rows))
        if "fits" in found:
            counts = ", ".join(f"{n} by {k}" for k, n in found["fits"].items())
            equal = "equal" if found["equal tables"] else "DIFFERENT"
            notes.append(
                f"Fits that were made, by the number of processes: {counts}. Tables: {equal}."
            )
    notes.append(
        "Memory: anonymous and shared memory of the process and its workers, each page counted "
        "once. Each process has one thread of torch."
    )
    write("load", args, results, tables, notes)


if __name__ == "__main__":
    main()
