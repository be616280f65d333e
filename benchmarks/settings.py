"""What settings do to the speed of training: precision, batch size, threads, compiler, allocator.

Each setting trains in processes of its own, in turn with the default, and what counts is the time
of an epoch: the first one, which compiles and warms up, is told apart.
"""

import os
import time
import warnings
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback

from benchmarks.measuring import (
    PLAIN,
    command_line,
    draw_ratios,
    in_fresh_process,
    new_figure,
    parse,
    progress,
    quartiles,
    ratio_text,
    write_report,
)
from skimbal import CNN2DClassifier, CNN3DClassifier

DEFAULT = "default"
#: Classifier, shape of an image, number of images and batch size.
CASES = {
    "2D 64x64x3": (CNN2DClassifier, (3, 64, 64), 512, 32),
    "3D 64x64x64x1": (CNN3DClassifier, (1, 64, 64, 64), 16, 4),
}
KEEP_BLOCKS = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
#: Parameters of the classifier, variables of the environment, number of threads.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, str], int]] = {
    DEFAULT: ({}, {}, 1),
    "loss='ce'": ({"loss": "ce"}, {}, 1),
    "dtype='float64'": ({"dtype": "float64"}, {}, 1),
    "dtype='bfloat16'": ({"dtype": "bfloat16"}, {}, 1),
    "dtype='float16'": ({"dtype": "float16"}, {}, 1),
    "compile=True": ({"compile": True}, {}, 1),
    "two threads": ({}, {}, 2),
    "four times the batch_size": ({"batch_size": 4}, {}, 1),
    "a quarter of the batch_size": ({"batch_size": 0.25}, {}, 1),
    "micro_batch_size of a quarter": ({"micro_batch_size": 0.25}, {}, 1),
    "malloc keeps its blocks": ({}, KEEP_BLOCKS, 1),
    "huge pages for tensors": ({}, {"THP_MEM_ALLOC_ENABLE": "1"}, 1),
}


class Clock(Callback):
    """Take the time of each epoch."""

    def on_epoch_begin(self, net, **kwargs):
        self.start_ = time.process_time(), time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        cpu, wall = self.start_
        times = time.process_time() - cpu, time.perf_counter() - wall
        self.times_ = [*getattr(self, "times_", []), times]


def epochs(case: str, params: dict[str, Any], n_threads: int, quick: bool) -> list[list[float]]:
    """Return (CPU, wall) seconds of each epoch of a fit."""
    torch.set_num_threads(n_threads)
    warnings.simplefilter("ignore")  # torch's compiler warns of its own code
    make, shape, n, batch_size = CASES[case]
    n = n // 4 if quick else n
    params = dict(params)
    for name in ("batch_size", "micro_batch_size"):
        if name in params:
            params[name] = max(1, int(params[name] * batch_size))
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n, *shape), dtype=np.float32), np.arange(n) % 3
    options = {"batch_size": batch_size, "max_epochs": 2 if quick else 3, "random_state": 0}
    clf = make(**{**PLAIN, **options, "callbacks": [("clock", Clock())], **params}).fit(X, y)
    return [list(times) for times in dict(clf.net_.callbacks_)["clock"].times_]


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], CASES, rounds=3)
    args = parse(parser)
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for case in args.cases:
        # Refused for volumes on the CPU.
        left_out = "dtype='bfloat16'" if case.startswith("3D") else None
        times: dict[str, list[list[list[float]]]] = {n: [] for n in SETTINGS if n != left_out}
        for i in range(args.rounds):
            for name in times:
                params, variables, n_threads = SETTINGS[name]
                progress(f"{case}, {name}, round {i + 1}")
                # glibc and torch read them when a process begins.
                os.environ.update(variables)
                try:
                    run = in_fresh_process(epochs, case, params, n_threads, args.quick)
                finally:
                    for variable in variables:
                        del os.environ[variable]
                times[name].append(run)
        # The median of the epochs after the first, by round: (rounds, CPU and wall).
        later = {name: np.median(np.array(runs)[:, 1:], axis=1) for name, runs in times.items()}
        results[case] = {
            name: {
                "cpu_ratio": quartiles(seconds[:, 0] / later[DEFAULT][:, 0]),
                "wall_ratio": quartiles(seconds[:, 1] / later[DEFAULT][:, 1]),
                "epoch_seconds": quartiles(seconds[:, 1]),
                "first_epoch_seconds": quartiles(np.array(times[name])[:, 0, 1]),
            }
            for name, seconds in later.items()
        }
    tables = [
        (
            f"{case}, time of an epoch, ratio to the default: median (quartiles)",
            ["setting", "CPU time", "wall time", "first epoch, s", "later epochs, s"],
            [
                [
                    f"``{name}``" if "=" in name else name,
                    ratio_text(of_setting["cpu_ratio"]),
                    ratio_text(of_setting["wall_ratio"]),
                    f"{of_setting['first_epoch_seconds'][1]:.2f}",
                    f"{of_setting['epoch_seconds'][1]:.2f}",
                ]
                for name, of_setting in of_case.items()
            ],
        )
        for case, of_case in results.items()
    ]
    notes = [
        "The default: network 'small', loss 'ce+mcc', float32, one thread, batches of "
        + " and ".join(f"{batch_size} ({case})" for case, (*_, batch_size) in CASES.items())
        + f". {args.rounds} rounds, every fit in a separate process. Malloc keeps its blocks by "
        + " ".join(f"{name}={value}" for name, value in KEEP_BLOCKS.items())
        + "; huge pages are asked for with THP_MEM_ALLOC_ENABLE=1.",
    ]
    figure, axes = new_figure(len(results), size=(6 * len(results), 5))
    for column, (case, of_case) in enumerate(results.items()):
        ratios = {
            name: {
                "CPU time": of_setting["cpu_ratio"],
                "wall time": of_setting["wall_ratio"],
            }
            for name, of_setting in of_case.items()
        }
        draw_ratios(axes[0, column], ratios, "time of an epoch, ratio to the default", [1])
        axes[0, column].set_title(case)
        axes[0, column].legend(frameon=False)
    write_report("settings", args, results, tables, notes, figure=figure)


if __name__ == "__main__":
    main()
