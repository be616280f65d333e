"""Metric losses with small batches: statistics of the batch or moving ones, and warm-up.

``python -m benchmarks.small_batches`` trains on VesselMNIST3D (volumes averaged to 14 x 14 x 14)
and on a set of five classes made of scikit-learn's digits, and counts over seeds how often a class
is never predicted. Every fit that is done is kept in ``--cache`` and not repeated, so an
interrupted run goes on where it stopped. ``--full`` takes the volumes as they are, a larger network
and more epochs, for a GPU. Nothing is chosen here, so the scores are those of the test split.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, matthews_corrcoef

from benchmarks.measuring import (
    PLAIN,
    STYLES,
    command_line,
    new_figure,
    progress,
    tick_plainly,
    write_report,
)
from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix
from skimbal.datasets import load_medmnist

VESSEL, DIGITS = "VesselMNIST3D, 2 classes", "digits, 5 classes"
#: Learning rate, epochs and width of the network, in short and with --full.
SETTINGS = {VESSEL: ((1e-3, 8, 8), (1e-3, 40, 24)), DIGITS: ((3e-3, 15, 8), (3e-3, 40, 24))}
BATCH_SIZES = (2, 4, 8, 16, 50, 64)
PURE, MIXES = ("mcc", "f1"), ("ce+mcc", "ce+f1")
STATISTICS = ("batch", "moving")
#: (loss, warmup_epochs); mixes have no warm-up.
LOSSES = [*((loss, 0.5) for loss in (*MIXES, *PURE)), *((loss, 0) for loss in PURE)]


def five_classes() -> tuple[np.ndarray, ...]:
    """Make five classes of noisy digits, with 60, 20, 10, 6 and 4 % of 480 training rows."""
    digits = load_digits()
    y = np.array([0, 0, 0, 0, 1, 1, 1, 2, 3, 4])[digits.target]
    rng = np.random.default_rng(0)
    X = digits.images + rng.normal(scale=3.0, size=digits.images.shape)
    train = np.concatenate(
        [
            rng.permutation(np.flatnonzero(y == label))[:n]
            for label, n in enumerate((288, 96, 48, 29, 19))
        ]
    )
    test = np.setdiff1d(np.arange(len(y)), train)
    return X[train].astype(np.float32), y[train], X[test].astype(np.float32), y[test]


def load(name: str, full: bool) -> tuple[np.ndarray, ...]:
    """Return training images and labels, and those of the test split."""
    if name == DIGITS:
        return five_classes()
    data = load_medmnist("vesselmnist3d")

    def smaller(X: np.ndarray) -> np.ndarray:
        if full:
            return X
        n, *shape = X.shape
        halves = np.ravel([(size // 2, 2) for size in shape])
        return X.reshape(n, *halves).mean((2, 4, 6), dtype=np.float32)

    return smaller(data.X_train), data.y_train, smaller(data.X_test), data.y_test


def fit_one(
    name: str, loss: str, warmup: float, statistics: str, batch_size: int, seed: int, args: Any
) -> dict[str, Any]:
    """Fit with one seed, or read what an earlier run kept."""
    lr, epochs, width = SETTINGS[name][args.full]
    key = f"{name}-{loss}-{warmup}-{statistics}-{batch_size}-{seed}-{lr}-{epochs}-{width}"
    file = args.cache / f"{key}.json"
    if file.exists():
        return json.loads(file.read_text())
    torch.set_num_threads(1)
    X, y, X_test, y_test = load(name, args.full)
    classifier = (CNN3DClassifier if X.ndim == 4 else CNN2DClassifier)(
        **{
            **PLAIN,
            "loss": LossMix.from_expression(loss, statistics=statistics, warmup_epochs=warmup),
            "lr": lr,
        },
        max_epochs=epochs,
        batch_size=batch_size,
        device=args.device,
        random_state=seed,
        net={"module__width": width},
    )
    start = time.process_time()
    classifier.fit(X, y)
    seconds = time.process_time() - start
    predicted = classifier.predict(X_test)
    history = classifier.history_
    result = {
        "data": name,
        "loss": loss,
        "warmup_epochs": warmup,
        "statistics": statistics,
        "batch_size": batch_size,
        "seed": seed,
        "balanced_accuracy": balanced_accuracy_score(y_test, predicted),
        "mcc": matthews_corrcoef(y_test, predicted),
        "classes_never_predicted": len(np.setdiff1d(y_test, predicted)),
        "batches_without_a_class": float(
            np.divide(history[:, "incomplete_batch_count"], history[:, "train_batch_count"]).mean()
        ),
        "cpu_seconds": seconds,
    }
    file.write_text(json.dumps(result))
    progress(f"{key}: {result['balanced_accuracy']:.3f}, {seconds:.0f} s")
    return result


def label(loss: str, warmup: float) -> str:
    return loss if warmup or loss in MIXES else f"{loss}, no warm-up"


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, dict[int, dict]]]]:
    """Return what the seeds have in common: data -> loss -> statistics -> batch size."""
    cells: dict[tuple, list[dict]] = {}
    for run in runs:
        loss = label(run["loss"], run["warmup_epochs"])
        key = run["data"], loss, run["statistics"], run["batch_size"]
        cells.setdefault(key, []).append(run)
    summary: dict = {}
    for (data, loss, statistics, batch_size), of_cell in cells.items():
        of_loss = summary.setdefault(data, {}).setdefault(loss, {}).setdefault(statistics, {})
        of_loss[batch_size] = {
            "seeds": len(of_cell),
            "collapsed": sum(run["classes_never_predicted"] > 0 for run in of_cell),
            "batches_without_a_class": of_cell[0]["batches_without_a_class"],
        }
        for score in ("balanced_accuracy", "mcc"):
            values = [run[score] for run in of_cell]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            of_loss[batch_size][score] = [float(np.mean(values)), spread]
    return summary


def table(name: str, summary: dict, score: str) -> tuple[str, list[str], list[list[str]]]:
    title = f"{name}: {score.replace('_', ' ').replace('mcc', 'MCC')} on the test split"
    rows = []
    for loss, of_loss in summary.items():
        for statistics, cells in of_loss.items():
            row = [loss, statistics]
            for batch_size in BATCH_SIZES:
                cell = cells.get(batch_size)
                if cell is None:
                    row.append("")
                    continue
                mean, spread = cell[score]
                lost = f", {cell['collapsed']} of {cell['seeds']} collapsed"
                row.append(f"{mean:.3f} ± {spread:.3f}{lost if cell['collapsed'] else ''}")
            rows.append(row)
    return title, ["loss", "statistics", *map(str, BATCH_SIZES)], rows


def draw(summary: dict) -> Any:
    """Draw balanced accuracy against batch size, hollow where a seed has collapsed."""
    columns = {
        "statistics of the batch": ("batch", [label(loss, w) for loss, w in LOSSES if w]),
        "moving statistics": ("moving", [label(loss, w) for loss, w in LOSSES if w]),
        "pure losses without warm-up": (None, [label(loss, w) for loss, w in LOSSES if not w]),
    }
    figure, axes = new_figure(len(columns), len(summary), size=(13, 4 * len(summary)))
    for row, (name, of_data) in zip(axes, summary.items(), strict=True):
        every = [
            of["balanced_accuracy"]
            for x in of_data.values()
            for c in x.values()
            for of in c.values()
        ]
        means, spreads = np.array(every).T
        limits = (means - spreads).min() - 0.02, (means + spreads).max() + 0.02
        for axis, (title, (statistics, losses)) in zip(row, columns.items(), strict=True):
            lines = [
                (f"{loss}, {kind}" if statistics is None else loss, of_data[loss][kind])
                for loss in losses
                for kind in ([statistics] if statistics else STATISTICS)
                if kind in of_data.get(loss, {})
            ]
            for i, (text, cells) in enumerate(lines):
                colour, marker = STYLES[i if statistics else i + len(MIXES) + len(PURE) - 1]
                sizes = list(cells)
                means, spreads = np.array([cells[n]["balanced_accuracy"] for n in sizes]).T
                places = np.array(sizes) * 1.04 ** (i - 1.5)  # so that none hides another
                axis.errorbar(places, means, spreads, color=colour, linewidth=1, label=text)
                for place, mean, n in zip(places, means, sizes, strict=True):
                    face = "white" if cells[n]["collapsed"] else colour
                    axis.plot(place, mean, marker, color=colour, markerfacecolor=face)
            axis.set_xscale("log")
            tick_plainly(axis.xaxis)
            axis.set_xticks(BATCH_SIZES)
            axis.set_title(f"{name.split(',')[0]}: {title}", fontsize=10)
            axis.set_xlabel("batch size, in samples")
            axis.set_ylabel("balanced accuracy, mean and spread")
            axis.set_ylim(limits)
            axis.grid(axis="y", color="#dddddd", linewidth=0.5)
            axis.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], SETTINGS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time, one thread each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="the real thing, for a GPU")
    parser.add_argument("--cache", type=Path, default=Path("small-batches-cache"))
    args: argparse.Namespace = parser.parse_args()
    if VESSEL in args.cases and "SKIMBAL_DATA" not in os.environ:
        parser.error("set SKIMBAL_DATA to the folder that holds the MedMNIST files")
    args.cache.mkdir(parents=True, exist_ok=True)
    sizes = (16, 50) if args.quick else BATCH_SIZES
    runs = Parallel(n_jobs=args.jobs)(
        delayed(fit_one)(name, loss, warmup, statistics, batch_size, seed, args)
        for seed in range(1 if args.quick else args.seeds)
        for name in args.cases
        for loss, warmup in LOSSES
        for statistics in STATISTICS
        for batch_size in sizes
    )
    summary = summarise(runs)
    notes = [
        f"{args.seeds} seeds for weights and batches; mean ± standard deviation. A fit has "
        "collapsed if it never predicts a class of the test split. All batch sizes take the same "
        "number of epochs, hence more steps where batches are smaller: compare within a column. "
        "Uniform sampling; pure losses have a warm-up over half of the epochs unless it says "
        "otherwise.",
        "Settings: "
        + "; ".join(
            "{}: lr {}, {} epochs, width {}".format(name, *SETTINGS[name][args.full])
            for name in args.cases
        )
        + f"; device {args.device}; "
        f"{sum(run['cpu_seconds'] for run in runs) / 60:.0f} CPU minutes in fits.",
    ]
    tables = [
        table(name, summary[name], score)
        for name in summary
        for score in ("balanced_accuracy", "mcc")
    ]
    results = {"summary": summary, "runs": runs}
    write_report("small_batches", args, results, tables, notes, figure=draw(summary))


if __name__ == "__main__":
    main()
