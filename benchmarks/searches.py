"""Time and memory of a search of 24 fits on the backends of joblib, with one and with two workers.

``python -m benchmarks.searches``, in an environment with the extra ``clients``. Each search runs in
a fresh process. A thread samples the memory of the process and of all that it has started. A worker
is a process that has loaded torch. Each finished search is kept in ``--cache``, so an interrupted
run continues.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psutil
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit

from benchmarks.measuring import command_line, in_fresh_process, progress, write_report
from skimbal import CNN2DClassifier
from skimbal.images import ImageArray

SERIAL, THREADING, LOKY, DASK, RAY = "serial", "threading", "loky", "dask", "ray"
IN_MEMORY, MAPPED = "array in memory", "ImageArray of a memory map"
#: Backend, number of workers and kind of the images.
CASES = [
    (SERIAL, 1, IN_MEMORY),
    *((name, n, IN_MEMORY) for name in (THREADING, LOKY, DASK, RAY) for n in (1, 2)),
    *((name, 2, MAPPED) for name in (LOKY, DASK, RAY)),
]
SIDE = 128
MB = 2**20


@contextmanager
def started(backend: str, n_workers: int) -> Iterator[None]:
    """Start workers, and make joblib use them."""
    if backend == DASK:
        from distributed import Client, LocalCluster

        size = {"n_workers": n_workers, "threads_per_worker": 1}
        nodes = LocalCluster(dashboard_address=None, **size)
        try:
            with Client(nodes, timeout=600), joblib.parallel_config("dask"):
                yield
        finally:
            with suppress(TimeoutError):  # The search is over. A busy machine ends workers late.
                nodes.close()
    elif backend == RAY:
        import ray
        from ray.util.joblib import register_ray

        ray.init(
            num_cpus=n_workers,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=512 * MB,
        )
        register_ray()
        try:
            with joblib.parallel_config("ray"):
                yield
        finally:
            ray.shutdown()
    else:
        with joblib.parallel_config("threading" if backend == SERIAL else backend):
            yield
        if backend == LOKY:  # This process would wait five minutes for its idle workers.
            joblib.externals.loky.get_reusable_executor().shutdown(kill_workers=True)


class Sampler(threading.Thread):
    """Looks for the largest memory of each process that has loaded torch."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.main = psutil.Process()
        self.peaks: dict[int, dict[str, int]] = {}
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            for process in (self.main, *self.main.children(recursive=True)):
                try:
                    if "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
                        continue
                    memory = process.memory_full_info()
                except (psutil.Error, OSError):  # it has just ended
                    continue
                peak = self.peaks.setdefault(process.pid, {"rss": 0, "pss": 0, "uss": 0})
                for name in peak:
                    peak[name] = max(peak[name], getattr(memory, name))


def search(backend: str, n_workers: int, kind: str, n_images: int, folder: str) -> dict[str, Any]:
    """Search in this process, whose memory has not been used yet."""
    file = os.path.join(folder, "images.npy")
    X = ImageArray(np.load(file, mmap_mode="r")) if kind == MAPPED else np.load(file)
    y = np.arange(n_images) % 5 == 0
    clf = CNN2DClassifier(
        module="small",
        augment=None,
        crop_size=16,  # quick steps on large images
        max_epochs=1,
        epoch_length=300,
        random_state=0,
    )
    grid = {"lr": np.geomspace(1e-4, 1e-2, 8).tolist()}
    # Each fit copies most rows, and scores few of them.
    cv = StratifiedShuffleSplit(3, train_size=0.9, test_size=50, random_state=0)
    sampler = Sampler()
    sampler.start()
    start = time.perf_counter()
    with started(backend, n_workers):
        ready = time.perf_counter()
        # joblib runs a single job in this process. Two jobs take turns on a single worker of dask.
        n_jobs = {SERIAL: None, DASK: 2}.get(backend, n_workers)
        found = GridSearchCV(clf, grid, cv=cv, n_jobs=n_jobs, refit=False).fit(X, y)
        seconds = time.perf_counter() - ready
    sampler.ended.set()
    sampler.join()
    main = sampler.peaks.pop(os.getpid())
    workers = list(sampler.peaks.values()) or [main]
    return {
        "start_seconds": ready - start,
        "search_seconds": seconds,
        "scores": found.cv_results_["mean_test_score"].tolist(),
        "main": main,
        "workers": workers,
    }


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], sorted({name for name, *_ in CASES}))
    parser.add_argument("--cache", type=Path, default=Path("searches-cache"))
    args: argparse.Namespace = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    n_images = 400 if args.quick else 4000
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 200, (n_images, SIDE, SIDE), dtype=np.uint8)
        np.save(os.path.join(folder, "images.npy"), images)
        size = images.nbytes / MB
        del images
        for backend, n_workers, kind in CASES:
            if backend not in args.cases:
                continue
            kept = args.cache / f"{backend}-{n_workers}-{kind.split()[0]}-{n_images}.json"
            if not kept.exists():
                result = in_fresh_process(search, backend, n_workers, kind, n_images, folder)
                kept.write_text(json.dumps(result))
                progress(f"{backend} {n_workers} {kind}: {result['search_seconds']:.0f} s")
            result = json.loads(kept.read_text())
            runs.append({"backend": backend, "n": n_workers, "images": kind, **result})
    rows = [
        [
            run["backend"],
            str(run["n"]),
            run["images"],
            f"{run['start_seconds']:.0f} + {run['search_seconds']:.0f}",
            f"{max(worker['pss'] for worker in run['workers']) / MB:.0f}",
            f"{max(worker['rss'] for worker in run['workers']) / MB:.0f}",
            f"{run['main']['pss'] / MB:.0f}",
        ]
        for run in runs
    ]
    for kind in (IN_MEMORY, MAPPED):
        scores = {str(run["scores"]) for run in runs if run["images"] == kind}
        progress(f"{kind}: {len(scores)} different lists of scores")
    notes = [
        f"24 fits (8 learning rates, 3 splits) to 90 % of {n_images} images of {SIDE} x {SIDE} "
        f"bytes, {size:.0f} MB together. A fit has 300 steps on windows of 16 x 16, and scores 50 "
        "images. Each worker has one torch thread.",
        "Seconds are the start of a cluster and the search. The workers of loky start in the "
        "search. joblib runs a single job of threading, loky or ray in the main process. PSS "
        "counts a page that several processes share in equal parts, RSS counts it in each.",
        "One run of each, on a machine with two cores on which other programs ran, so only large "
        "differences of the seconds mean anything. The memory does not depend on them.",
    ]
    head = ["backend", "workers", "images", "seconds", "worker, PSS MB", "worker, RSS MB", "main"]
    write_report("searches", args, {"runs": runs}, [("A search of 24 fits", head, rows)], notes)


if __name__ == "__main__":
    main()
