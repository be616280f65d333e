"""Gradients of a whole batch in the memory of a part of it, against plain accumulation.

``python -m benchmarks.micro_batches`` computes the gradient of 64 volumes of 64 x 64 x 64 as a
whole, in micro-batches of 4 by the net's two passes, and by the accumulation of the losses of the
parts. It shows time, peak of anonymous memory, and how far each gradient is from the true one.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measuring import (
    STYLES,
    command_line,
    in_fresh_process,
    interleaved,
    memory_in_use,
    new_figure,
    parse,
    progress,
    ratio_text,
    write_report,
)
from skimbal.losses import get_loss
from skimbal.networks import SmallCNN
from skimbal.training import ImageDataset, StandardizedModule, TrainingNet, TrainIterator

WHOLE, TWO_PASSES, ACCUMULATION = "whole batch", "two passes", "accumulation"
WAYS = (WHOLE, TWO_PASSES, ACCUMULATION)
LOSSES = ("ce", "wce+focal", "mcc", "f1", "ce+mcc", "ce+f1")


def data(n: int, size: int, dtype: type) -> ImageDataset:
    rng = np.random.default_rng(0)
    y = rng.choice(3, p=(0.7, 0.2, 0.1), size=n)
    X = rng.standard_normal((n, 1, size, size, size), dtype=np.float32) + y.reshape(-1, 1, 1, 1, 1)
    return ImageDataset(X.astype(dtype), y)


def make_net(rows: ImageDataset, loss: str, micro_batch_size: int | None, norm: str) -> TrainingNet:
    """Make the net as the classifiers do, always with the same weights, with dropout."""

    def factory(in_channels: int, n_classes: int) -> nn.Module:
        shape = rows.sample_shape[1:]
        return SmallCNN(in_channels, n_classes, shape, width=8, dropout=0.3, norm=norm)

    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        net = TrainingNet(
            StandardizedModule,
            module__factory=factory,
            module__in_channels=1,
            module__n_classes=3,
            module__dtype=torch.float64 if rows.dtype == np.float64 else torch.float32,
            criterion=get_loss(loss, class_counts=[7, 2, 1]),
            optimizer=torch.optim.Adam,
            batch_size=len(rows),
            micro_batch_size=micro_batch_size,
            iterator_train=TrainIterator,
            train_split=None,
            classes=np.arange(3),
            verbose=0,
        ).initialize()
    net.history.new_epoch()
    return net


def step(rows: ImageDataset, loss: str, way: str, m: int, norm: str = "group") -> Callable[[], Any]:
    """Return what computes the gradient once, always with the same dropout, and gives it back."""
    net = make_net(rows, loss, m if way == TWO_PASSES else None, norm)
    n = len(rows)

    def run() -> list[Tensor]:
        net.optimizer_.zero_grad()
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(1)
            X, y = rows.batch(np.arange(n))
            if way != ACCUMULATION:
                net.train_step_single((X, y))
            else:
                net.module_.train()
                for images, labels in zip(X.split(m), y.split(m), strict=True):
                    loss = net.criterion_(net.infer(images), labels) * (len(labels) / n)
                    loss.backward()
        return [parameter.grad for parameter in net.module_.parameters()]

    return run


def peak(way: str, n: int, size: int, m: int) -> int:
    """Return the peak of anonymous memory of a step above what was there before it, in bytes."""
    rows = data(n, size, np.float32)
    small = data(2 * m, 8, np.float32)
    step(small, "ce+mcc", way, m)()  # what torch loads at first use is not counted
    run = step(rows, "ce+mcc", way, m)
    before, highest, done = memory_in_use("RssAnon"), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            highest[0] = max(highest[0], memory_in_use("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return highest[0] - before


def times(n: int, size: int, m: int, rounds: int) -> dict:
    rows = data(n, size, np.float32)
    steps = {way: step(rows, "ce+mcc", way, m) for way in WAYS}
    return interleaved(steps, rounds, reference=ACCUMULATION)


def compare(n: int, m: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return error and cosine to the gradient of the whole batch, in float64 on small volumes."""
    rows, result = data(n, 12, np.float64), {}
    for loss in LOSSES:
        exact = whole_in_parts(rows, loss, m)
        for way in (TWO_PASSES, ACCUMULATION):
            found = torch.cat([grad.flatten() for grad in step(rows, loss, way, m)()])
            result.setdefault(loss, {})[way] = {
                "error": float((found - exact).norm() / exact.norm()),
                "cosine": float(found @ exact / found.norm() / exact.norm()),
            }
    return result


def whole_in_parts(rows: ImageDataset, loss: str, m: int) -> Tensor:
    """Compute the gradient of the whole batch by one graph over the forward passes of its parts.

    Dropout draws for one part after the other, so a single forward pass would drop other features.
    """
    net, n = make_net(rows, loss, None, "group"), len(rows)
    net.module_.train()
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(1)
        parts = [rows.batch(part) for part in np.array_split(np.arange(n), n // m)]
        logits = torch.cat([net.infer(X) for X, _ in parts])
        net.criterion_(logits, torch.cat([y for _, y in parts]), normalizer=n).backward()
    return torch.cat([parameter.grad.flatten() for parameter in net.module_.parameters()])


def main() -> None:
    args = parse(command_line(__doc__.splitlines()[0], rounds=7))
    n, size, m = (16, 16, 4) if args.quick else (64, 64, 4)
    progress("gradients")
    gradients = in_fresh_process(compare, n, m)
    progress("memory")
    memory = {way: in_fresh_process(peak, way, n, size, m) for way in WAYS}
    progress("times")
    timed = in_fresh_process(times, n, size, m, args.rounds)

    tables = [
        (
            f"A step on {n} volumes of {size} x {size} x {size} with ce+mcc, micro-batches of {m}",
            ["way", f"CPU time, ratio to {ACCUMULATION}", "seconds", "peak memory, MiB"],
            [
                [
                    way,
                    ratio_text(timed[way]["ratio"]),
                    f"{timed[way]['cpu_seconds'][1]:.2f}",
                    f"{memory[way] / 2**20:.0f}",
                ]
                for way in WAYS
            ],
        ),
        (
            "Gradient against that of the whole batch, float64, group normalisation and dropout",
            ["loss", *(f"{way}, {what}" for way in WAYS[1:] for what in ("error", "cosine"))],
            [
                [loss]
                + [
                    f"{of_loss[way]['error']:.1e}" if what == "error" else f"{cosine:.3f}"
                    for way in WAYS[1:]
                    for cosine in [of_loss[way]["cosine"]]
                    for what in ("error", "cosine")
                ]
                for loss, of_loss in gradients.items()
            ],
        ),
    ]
    notes = [
        f"Process CPU time of one thread, {args.rounds} interleaved rounds: median (quartiles). "
        "Memory: highest anonymous resident memory of a fresh process, read every 2 ms, above that "
        f"before the step. The batch itself is in all of them, {n * size**3 * 4 / 2**20:.0f} MiB "
        "(accumulation that reads each part by itself would do without it). Error: norm of the "
        "difference divided by the norm. Losses that add up over rows take one pass and are exact "
        "either way.",
    ]
    figure, axes = new_figure(2, size=(10, 4))
    places = np.arange(len(WAYS))
    ratios = np.array([timed[way]["ratio"] for way in WAYS]).T
    axes[0, 0].bar(places, ratios[1], color=[colour for colour, _ in STYLES[:3]])
    spread = [ratios[1] - ratios[0], ratios[2] - ratios[1]]
    axes[0, 0].errorbar(places, ratios[1], spread, fmt="none", ecolor="black")
    axes[0, 0].set_ylabel(f"CPU time divided by that of {ACCUMULATION} (no unit)")
    axes[0, 1].bar(
        places, [memory[way] / 2**20 for way in WAYS], color=[colour for colour, _ in STYLES[:3]]
    )
    axes[0, 1].set_ylabel("peak memory of a step, MiB")
    for axis in axes.flat:
        axis.set_xticks(places, WAYS)
        axis.grid(axis="y", color="#dddddd", linewidth=0.5)
        axis.set_axisbelow(True)
    results = {"times": timed, "memory": memory, "gradients": gradients}
    write_report("micro_batches", args, results, tables, notes, figure=figure)


if __name__ == "__main__":
    main()
