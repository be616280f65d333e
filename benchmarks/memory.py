"""Memory of training and prediction where the images are in memory, in a file, or lazily read.

``python -m benchmarks.memory`` counts anonymous memory, as a memory map's share of the file cache
is given back when it is needed. Each figure comes from a process of its own.
"""

import importlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import skorch
import torch
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV
from torch import nn

from benchmarks.measuring import (
    PLAIN,
    STYLES,
    command_line,
    in_fresh_process,
    memory_in_use,
    new_figure,
    parse,
    progress,
    write_report,
)
from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.networks import SmallCNN

WIDTH = 8
#: Name: shape, dtype, batch size, and two numbers of images to tell a constant from growth.
IMAGES = {
    "volumes of 64 x 64 x 64, float32": ((64, 64, 64), np.float32, 4, (48, 192)),
    "images of 28 x 28, uint8": ((28, 28), np.uint8, 64, (10_000, 40_000)),
}
WAYS = ("skorch, in memory", "in memory", "memory map", "zarr")
SEARCH_WAYS = ("in memory", "memory map", "ImageArray of a memory map")
#: Volumes of the search: 400 MB of float32.
SEARCH_SHAPE, SEARCH_N = (64, 64, 64), 400
SECONDS_BETWEEN_SAMPLES = 0.003
#: The kernel needs milliseconds to go through the memory of a process tree.
SECONDS_BETWEEN_TREES = 0.05


class Peak:
    """The largest value of a figure while a block runs, sampled by a thread."""

    def __init__(self, figure: Callable[[], int], interval: float) -> None:
        self._figure, self._interval = figure, interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._done.wait(self._interval):
            self.value = max(self.value, self._figure())
        #: CPU time that the sampling itself took.
        self.seconds = time.thread_time()

    def __enter__(self) -> "Peak":
        self.value = self._figure()
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()


def open_images(way: str, folder: Path) -> Any:
    """Open the images of a folder; an ImportError or the like says why that cannot be."""
    if way.endswith("in memory"):
        return np.load(folder / "X.npy")
    if way == "zarr":
        zarr = importlib.import_module("zarr")
        return zarr.open_array(folder / "X.zarr", mode="r")
    mapped = np.load(folder / "X.npy", mmap_mode="r")
    if way == "memory map":
        return mapped
    return importlib.import_module("skimbal.images").ImageArray(mapped)


def write_images(
    folder: Path, shape: tuple[int, ...], dtype: type, n: int, zarr_too: bool
) -> np.ndarray:
    """Write random images, block by block; return the labels."""
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", dtype, (n, *shape))
    stores = [X]
    if zarr_too:
        zarr = importlib.import_module("zarr")
        # A volume a chunk, or as many images as a volume has voxels.
        chunk = max(1, min(64, 64**3 // int(np.prod(shape))))
        stores.append(
            zarr.create_array(
                folder / "X.zarr", shape=X.shape, chunks=(chunk, *shape), dtype=np.dtype(dtype)
            )
        )
    size = max(1, 2**22 // int(np.prod(shape)))
    for start in range(0, n, size):
        block = rng.integers(256, size=(min(size, n - start), *shape)).astype(dtype)
        for store in stores:
            store[start : start + len(block)] = block
    X.flush()
    return rng.integers(2, size=n)


def classifier(ndim: int, batch_size: int, width: int = WIDTH, **options: Any) -> Any:
    make = CNN2DClassifier if ndim == 2 else CNN3DClassifier
    settings = {"loss": "ce", "lr_schedule": None, "max_epochs": 1, "random_state": 0}
    settings |= {"net": {"module__width": width}, "batch_size": batch_size}
    return make(**{**PLAIN, **settings, **options})


def skorch_net(shape: tuple[int, ...], batch_size: int) -> Any:
    """Make the same network for stock skorch, as its documentation does."""
    return skorch.NeuralNetClassifier(
        SmallCNN,
        module__in_channels=1,
        module__n_classes=2,
        module__spatial_shape=shape,
        module__width=WIDTH,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=1,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def refusal(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def measure_fit(
    way: str, folder: Path, y: np.ndarray, shape: tuple[int, ...], batch_size: int
) -> dict[str, Any]:
    """Fit one epoch and predict all images in this process; return bytes and seconds."""
    by_skorch = way.startswith("skorch")

    def make(shape: tuple[int, ...]) -> Any:
        return skorch_net(shape, batch_size) if by_skorch else classifier(len(shape), batch_size)

    # What python and torch load at first use is not the cost of these images.
    tiny = (4, *[8] * len(shape))
    make(tiny[1:]).fit(
        np.zeros((4, 1, *tiny[1:]) if by_skorch else tiny, np.float32), np.arange(4) % 2
    )
    if way == "zarr":
        importlib.import_module("zarr")
    model = make(shape)
    empty = memory_in_use("RssAnon")
    try:
        X = open_images(way, folder)
        if by_skorch:  # it takes float32 with a channel axis
            X = X.astype(np.float32)[:, None]
        before = memory_in_use("RssAnon")
        start = time.process_time()
        with Peak(lambda: memory_in_use("RssAnon"), SECONDS_BETWEEN_SAMPLES) as peak:
            model.fit(X, y)
            fitted = time.process_time() - start
            model.predict_proba(X)
    except Exception as error:  # what is refused, and with what message, is a result
        return {"refused": refusal(error)}
    return {
        "X bytes": before - empty,
        "extra bytes": peak.value - before,
        "fit seconds": fitted,
        "seconds": time.process_time() - start - peak.seconds,
    }


def tree() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def tree_memory() -> int:
    """Sum up the memory of this process and its children that the kernel cannot take back.

    Anonymous and shared memory, each page counted once (PSS). joblib puts large arrays for its
    workers into shared memory, so these count as well; pages of files do not.
    """
    total = 0
    for process in tree():
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        kept = (line for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
        total += sum(int(line.split()[1]) for line in kept) * 1024
    return total


def tree_seconds() -> float:
    """Sum up the CPU time of this process and its children, of those that have ended, too."""
    return sum(sum(process.cpu_times()[:4]) for process in tree())


def measure_search(way: str, folder: Path, y: np.ndarray, n_jobs: int) -> dict[str, Any]:
    """Search over two learning rates in this process; return bytes and seconds."""
    search = GridSearchCV(
        classifier(len(SEARCH_SHAPE), 4, width=4),
        {"lr": [1e-3, 3e-3]},
        cv=2,
        refit=False,
        n_jobs=n_jobs,
        error_score="raise",
    )
    # The workers start and import now, and are still warm for the search that counts.
    search.fit(np.zeros((8, 8, 8, 8), np.float32), np.arange(8) % 2)
    before, start = tree_memory(), tree_seconds()
    try:
        X = open_images(way, folder)
        with Peak(tree_memory, SECONDS_BETWEEN_TREES) as peak:
            search.fit(X, y)
        return {
            "imports bytes": before,
            "extra bytes": peak.value - before,
            "seconds": tree_seconds() - start - peak.seconds,
        }
    except Exception as error:  # as above
        return {"refused": refusal(error)}
    finally:
        # This process would wait for its workers at its end, and they for minutes for more work.
        get_reusable_executor().shutdown()


def in_mib(value: float) -> str:
    return f"{value / 2**20:.0f}"


def fits(args: Any, missing: dict[str, str]) -> tuple[dict, tuple]:
    """Measure fit and predict_proba for each way, kind of images and number of them."""
    results: dict[str, dict] = {}
    rows = []
    for kind, (shape, dtype, batch_size, sizes) in IMAGES.items():
        results[kind] = {}
        for n in sizes:
            n = n // 8 if args.quick else n
            batch_bytes = batch_size * int(np.prod(shape)) * 4
            of_size: dict[str, Any] = {"batch bytes as float32": batch_bytes, "ways": {}}
            results[kind][str(n)] = of_size
            runs: dict[str, list[dict]] = {way: [] for way in WAYS if way not in missing}
            with tempfile.TemporaryDirectory() as folder:
                y = write_images(Path(folder), shape, dtype, n, zarr_too="zarr" not in missing)
                of_size["file bytes"] = (Path(folder) / "X.npy").stat().st_size
                for i in range(args.rounds):
                    for way, of_way in runs.items():
                        progress(f"{kind}, {n:,}, {way}, round {i + 1}")
                        of_way.append(
                            in_fresh_process(measure_fit, way, Path(folder), y, shape, batch_size)
                        )
            for way, of_way in runs.items():
                refused = [run["refused"] for run in of_way if "refused" in run]
                if refused:
                    of_size["ways"][way] = {"refused": refused[0]}
                    rows.append([kind, f"{n:,}", way, "refused", refused[0], "", ""])
                    continue
                best = {
                    "X bytes": max(run["X bytes"] for run in of_way),
                    "extra bytes": max(run["extra bytes"] for run in of_way),
                    "fit seconds": float(np.median([run["fit seconds"] for run in of_way])),
                    "seconds": float(np.median([run["seconds"] for run in of_way])),
                    "rounds": of_way,
                }
                of_size["ways"][way] = best
                rows.append(
                    [
                        kind,
                        f"{n:,}",
                        way,
                        in_mib(best["X bytes"]),
                        in_mib(best["extra bytes"]),
                        in_mib(2 * batch_bytes),
                        f"{1e6 * best['seconds'] / n:,.0f}",
                    ]
                )
    head = ["images", "number", "X", "X in memory, MiB", "peak above, MiB"]
    head += ["two batches as float32, MiB", "CPU time, µs an image"]
    return results, ("Anonymous memory of fit (one epoch) and predict_proba", head, rows)


def searches(args: Any, missing: dict[str, str]) -> tuple[dict, tuple]:
    """Measure a grid search for each way and number of jobs."""
    results: dict[str, dict] = {}
    rows = []
    n = SEARCH_N // 8 if args.quick else SEARCH_N
    with tempfile.TemporaryDirectory() as folder:
        y = write_images(Path(folder), SEARCH_SHAPE, np.float32, n, zarr_too=False)
        size = os.path.getsize(Path(folder) / "X.npy")
        for way in SEARCH_WAYS:
            if way in missing:
                continue
            results[way] = {}
            for n_jobs in (1, 2):
                progress(f"search, {way}, n_jobs={n_jobs}")
                of_way = in_fresh_process(measure_search, way, Path(folder), y, n_jobs)
                results[way][str(n_jobs)] = of_way
                if "refused" in of_way:
                    rows.append([way, str(n_jobs), "refused", of_way["refused"], "", ""])
                    continue
                extra = of_way["extra bytes"]
                rows.append(
                    [way, str(n_jobs), in_mib(of_way["imports bytes"]), in_mib(extra)]
                    + [in_mib(extra / n_jobs), f"{of_way['seconds']:.1f}"]
                )
    head = ["X", "n_jobs", "imports, MiB", "peak above, MiB", "the same a job", "CPU time, s"]
    title = f"Memory of a GridSearchCV of 4 fits on {n} volumes ({size / 1e6:.0f} MB), process tree"
    return results, (title, head, rows)


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], ("fit", "search"), rounds=3)
    args = parse(parser)
    missing = {}
    for way, module in (("zarr", "zarr"), (SEARCH_WAYS[2], "skimbal.images")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            missing[way] = str(error)
    results, tables = {}, []
    for part, measure in (("fit", fits), ("search", searches)):
        if part in args.cases:
            results[part], table = measure(args, missing)
            tables.append(table)
    notes = [
        f"Network 'small' of width {WIDTH} (4 in the search). First table: anonymous memory "
        "(RssAnon), sampled every 3 ms by a thread, above the memory after imports and a first "
        f"tiny fit; the largest of {args.rounds} rounds, CPU time their median. Second table: "
        "anonymous and shared memory of the process tree (PSS, without pages of files), "
        "sampled every 50 ms, above the memory after a tiny search.",
    ]
    write_report("memory", args, results, tables, notes, missing, draw(results))


def draw(results: dict) -> Any:
    """Draw the extra memory against the size of the files, and the peaks of the search."""
    figure, axes = new_figure(len(results), size=(5.5 * len(results), 4.5))
    panels = dict(zip(results, axes[0], strict=True))
    if "fit" in results:
        axis = panels["fit"]
        filled = ("full", "none")  # markers: volumes filled, images hollow
        for kind, fill in zip(results["fit"], filled, strict=True):
            for way, (colour, marker) in zip(WAYS, STYLES, strict=False):
                points = [
                    (of_size["file bytes"] / 2**20, of_size["ways"][way]["extra bytes"] / 2**20)
                    for of_size in results["fit"][kind].values()
                    if "extra bytes" in of_size["ways"].get(way, {})
                ]
                if points:
                    axis.plot(
                        *zip(*points, strict=True),
                        color=colour,
                        marker=marker,
                        fillstyle=fill,
                        linestyle="-" if fill == "full" else "--",
                        label=f"{way}, {kind.split(' of ')[0]}",
                    )
        axis.set_xlabel("size of all images, MiB")
        axis.set_ylabel("peak of anonymous memory above X, MiB")
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False, fontsize=8)
    if "search" in results:
        axis = panels["search"]
        for i, n_jobs in enumerate(("1", "2")):
            bars = [
                (place + 0.4 * i - 0.2, of_way[n_jobs]["extra bytes"] / 2**20)
                for place, of_way in enumerate(results["search"].values())
                if "extra bytes" in of_way[n_jobs]
            ]
            axis.bar(
                [place for place, _ in bars],
                [height for _, height in bars],
                width=0.36,
                color=STYLES[i][0],
                hatch="/" * 2 * i,
                edgecolor="white",
                label=f"n_jobs={n_jobs}",
            )
        names = [way.replace(" of ", "\nof ") for way in results["search"]]
        axis.set_xticks(range(len(names)), names)
        axis.set_xlabel("X of the grid search")
        axis.set_ylabel("peak of the process tree over imports, MiB")
        axis.legend(frameon=False)
    for axis in panels.values():
        axis.grid(axis="y", color="#dddddd", linewidth=0.5)
        axis.set_axisbelow(True)
    return figure


if __name__ == "__main__":
    main()
