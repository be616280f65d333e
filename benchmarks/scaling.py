"""How time and memory of skimbal grow with the number of images, their size and the classes.

``python -m benchmarks.scaling`` fits one epoch and predicts all images, each time in a process of
its own.
"""

import time
import warnings

import numpy as np

from benchmarks.measuring import (
    PLAIN,
    STYLES,
    command_line,
    in_fresh_process,
    memory_in_use,
    new_figure,
    parse,
    progress,
    tick_plainly,
    write_report,
)
from skimbal import CNN2DClassifier, CNN3DClassifier

#: For each series: the unit along the axis, and (number on the axis, n, shape, classes, batch).
SERIES = {
    "samples": (
        "images of 28 x 28, uint8",
        [(n, n, (28, 28), 2, 64) for n in (1_000, 3_000, 10_000, 30_000, 100_000)],
    ),
    "volume": (
        "edge of a volume, in voxels",
        [(edge, 32, (edge,) * 3, 2, 4) for edge in (16, 32, 48, 64, 96)],
    ),
    "classes": (
        "classes, at 4,000 images of 28 x 28",
        [(k, 4_000, (28, 28), k, 64) for k in (2, 10, 100, 1_000)],
    ),
}
#: What --quick leaves of each series.
QUICK_POINTS = 2
WIDTH = 8


def measure(n: int, shape: tuple[int, ...], n_classes: int, batch_size: int) -> dict[str, float]:
    """Fit one epoch and predict, in this process; return seconds and bytes."""
    rng = np.random.default_rng(0)
    make = CNN2DClassifier if len(shape) == 2 else CNN3DClassifier
    # More classes than rows in a batch deserve the advice that they get; here they are the point.
    warnings.filterwarnings("ignore", message="batch_size=", category=UserWarning)

    def classifier():
        return make(
            **PLAIN,
            net={"module__width": WIDTH},
            max_epochs=1,
            batch_size=batch_size,
            random_state=0,
        )

    def images(n: int) -> np.ndarray:
        # A block at a time: the random numbers themselves are not to set the high water.
        X = np.empty((n, *shape), np.uint8)
        for block in np.array_split(X, max(1, X.size // 2**22)):
            block[...] = rng.integers(256, size=block.shape, dtype=np.uint8)
        return X

    # What python and torch load at first use is not the cost of these images.
    small = images(4)
    classifier().fit(small, [0, 1, 0, 1]).predict_proba(small)
    X, y = images(n), np.arange(n) % n_classes
    before = memory_in_use("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = classifier().fit(X, y)
    fit_seconds = time.process_time() - cpu
    cpu = time.process_time()
    fitted.predict_proba(X)
    return {
        "fit seconds": fit_seconds,
        "predict seconds": time.process_time() - cpu,
        "wall seconds": time.perf_counter() - wall,
        "X bytes": X.nbytes,
        "peak bytes over data": memory_in_use("VmHWM") - before,
    }


def main() -> None:
    args = parse(command_line(__doc__.splitlines()[0], SERIES))
    results: dict[str, dict] = {}
    tables = []
    figure, axes = new_figure(len(args.cases), 2, size=(4 * len(args.cases), 6))
    for column, series in enumerate(args.cases):
        unit, points = SERIES[series]
        results[series] = {}
        for at, n, shape, n_classes, batch_size in points[: QUICK_POINTS if args.quick else None]:
            progress(f"{series}: {at}")
            measured = in_fresh_process(measure, n, shape, n_classes, batch_size)
            results[series][str(at)] = {"samples": n, **measured}
        positions = [int(at) for at in results[series]]
        of_points = list(results[series].values())
        fit = [1e6 * point["fit seconds"] / point["samples"] for point in of_points]
        predict = [1e6 * point["predict seconds"] / point["samples"] for point in of_points]
        peak = [point["peak bytes over data"] / 2**20 for point in of_points]
        own = [point["X bytes"] / 2**20 for point in of_points]
        tables.append(
            (
                f"{series}: {unit}",
                ["", "fit, µs a sample", "predict, µs a sample", "peak, MiB", "X itself, MiB"],
                [
                    [f"{at:,}", f"{a:.0f}", f"{b:.0f}", f"{c:.1f}", f"{d:.1f}"]
                    for at, a, b, c, d in zip(positions, fit, predict, peak, own, strict=True)
                ],
            )
        )
        for row, lines, label in (
            (0, {"fit, one epoch": fit, "predict_proba": predict}, "CPU time, µs a sample"),
            (1, {"peak over data": peak, "X itself": own}, "memory, MiB"),
        ):
            for (name, values), (colour, marker) in zip(lines.items(), STYLES, strict=False):
                axes[row, column].loglog(positions, values, color=colour, marker=marker, label=name)
            axes[row, column].set_xlabel(unit)
            axes[row, column].set_ylabel(label)
            axes[row, column].grid(color="#dddddd", linewidth=0.5)
            tick_plainly(axes[row, column].yaxis)
            axes[row, column].set_xticks(positions, [f"{at:,}" for at in positions])
            axes[row, column].tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axes[row, column].legend(frameon=False)
    notes = [
        f"Network 'small' of width {WIDTH}, default loss, one epoch, batches of 64 (volumes: 32 "
        "volumes in batches of 4). Process CPU time of one thread, one run for each line in a "
        "separate process. Peak: high water of the resident set (VmHWM) less the resident set "
        "after imports, creation of the data and a first tiny fit.",
    ]
    write_report("scaling", args, results, tables, notes, figure=figure)


if __name__ == "__main__":
    main()
