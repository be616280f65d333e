"""Time and memory of the metric losses, forward and backward, against torch's cross-entropy.

``python -m benchmarks.losses`` also tells what share of a training step the MCC loss takes. Large
logits spend most of their time in the kernel, which clears each block of memory that the allocator
gives back and asks for again; so they are timed with the allocator as it is, and with one that
keeps its blocks, where only the computation is left.
"""

import ctypes
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import (
    STYLES,
    command_line,
    in_fresh_process,
    interleaved,
    memory_in_use,
    new_figure,
    parse,
    progress,
    quartiles,
    tick_plainly,
    write_report,
)
from benchmarks.peers import CASES, Data, tuned_loop
from skimbal.losses import SoftF1Loss, SoftMCCLoss, get_loss

CROSS_ENTROPY = "F.cross_entropy"
LOSSES: dict[str, Callable[[], Callable[[Tensor, Tensor], Tensor]]] = {
    CROSS_ENTROPY: lambda: F.cross_entropy,
    "mcc": SoftMCCLoss,
    "f1": SoftF1Loss,
    "ce+mcc": partial(get_loss, "ce+mcc"),
    "ce+f1": partial(get_loss, "ce+f1"),
}
#: (samples, classes) of the logits, and calls in a row so that a clock sees them.
SIZES = {
    "32x5": (32, 5, 500),
    "1024x5": (1024, 5, 200),
    "65536x5": (65536, 5, 10),
    "65536x100": (65536, 100, 5),
    "65536x1000": (65536, 1000, 1),
}
ALLOCATORS = ("allocator as it is", "allocator keeps its blocks")
#: Numbers of two settings in glibc's malloc.h: from what size on a block goes back to the kernel.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MEMORY_SIZES = ("65536x100", "65536x1000")
STEP_CASE = "2D 28x28x3 b32"


def batch(n: int, k: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, k, generator=generator).requires_grad_()
    return logits, torch.randint(k, (n,), generator=generator)


def forward_and_backward(name: str, n: int, k: int, calls: int) -> Callable[[], None]:
    logits, target = batch(n, k)
    loss = LOSSES[name]()

    def run() -> None:
        for _ in range(calls):
            logits.grad = None
            loss(logits, target).backward()

    return run


def keep_blocks() -> bool:
    """Let glibc keep what is freed in this process; tell whether that was possible."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(setting, 2**31 - 1) for setting in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)
    )


def measure_times(size: str, rounds: int, quick: bool, keep: bool) -> dict | None:
    """Time all losses in this process, which no other size has been in."""
    if keep and not keep_blocks():
        return None
    n, k, calls = SIZES[size]
    calls = max(1, calls // 10) if quick else calls
    times = interleaved(
        {name: forward_and_backward(name, n, k, calls) for name in LOSSES},
        rounds,
        reference=CROSS_ENTROPY,
    )
    for of_loss in times.values():
        of_loss["microseconds a call"] = 1e6 * of_loss["cpu_seconds"][1] / calls
    return times


def peak_memory(name: str, n: int, k: int) -> float:
    """Return the memory that a call takes beyond logits and target, in units of the logits."""
    forward_and_backward(name, 8, 2, 1)()  # what torch loads or keeps at first use is not counted
    run = forward_and_backward(name, n, k, 1)
    before = memory_in_use("VmRSS")
    run()
    return (memory_in_use("VmHWM") - before) / (4 * n * k)


def share_of_step(rounds: int, quick: bool) -> dict:
    """Measure the MCC loss on its own against a whole step of training with it."""
    case = CASES[STEP_CASE]
    data = Data(replace(case, n_batches=4, epochs=1) if quick else case)
    steps = data.case.n_batches * data.case.epochs
    train = "training with mcc"
    times = interleaved(
        {
            train: partial(tuned_loop, data, criterion=SoftMCCLoss()),
            "mcc alone": forward_and_backward("mcc", case.batch_size, case.n_classes, steps),
        },
        rounds,
        reference=train,
    )
    return {
        "share": times["mcc alone"]["ratio"],
        "microseconds a step": quartiles(
            1e6 / steps * np.array(times[train]["rounds"]["cpu_seconds"])
        ),
    }


def main() -> None:
    args = parse(command_line(__doc__.splitlines()[0], SIZES, rounds=15))
    times: dict[str, dict[str, dict]] = {}
    missing = {}
    for allocator in ALLOCATORS:
        of_allocator = {}
        for size in args.cases:
            progress(f"{size}, {allocator}")
            keep = allocator == ALLOCATORS[1]
            measured = in_fresh_process(measure_times, size, args.rounds, args.quick, keep)
            if measured is None:
                missing[allocator] = "the C library is not glibc"
                break
            of_allocator[size] = measured
        else:
            times[allocator] = of_allocator
    memory: dict[str, dict[str, float]] = {}
    for size in (size for size in MEMORY_SIZES if size in args.cases):
        progress(f"memory, {size}")
        n, k, _ = SIZES[size]
        memory[size] = {name: in_fresh_process(peak_memory, name, n, k) for name in LOSSES}
    progress("share of a step")
    share = share_of_step(args.rounds, args.quick)

    tables = [
        *(
            (
                f"CPU time of forward and backward, ratio of the median to that of "
                f"{CROSS_ENTROPY}, {allocator}",
                ["loss", *of_size],
                [
                    [name, *(f"{of_size[size][name]['ratio_of_medians']:.2f}" for size in of_size)]
                    for name in LOSSES
                ]
                + [
                    [f"{CROSS_ENTROPY}, in microseconds"]
                    + [
                        f"{of_size[size][CROSS_ENTROPY]['microseconds a call']:.0f}"
                        for size in of_size
                    ]
                ],
            )
            for allocator, of_size in times.items()
        ),
        (
            "Share of a training step",
            ["case", "share of the MCC loss", "step in microseconds"],
            [
                [
                    STEP_CASE,
                    f"{100 * share['share'][1]:.1f} %",
                    f"{share['microseconds a step'][1]:.0f}",
                ]
            ],
        ),
    ]
    if memory:
        tables.append(
            (
                "Peak memory beyond logits and target, in units of the logits",
                ["loss", *memory],
                [[name, *(f"{memory[size][name]:.2f}" for size in memory)] for name in LOSSES],
            )
        )
    notes = [
        f"Float32 logits of n x K. Process CPU time of one thread, {args.rounds} interleaved "
        "rounds, each size in a separate process. Memory: high water of the resident set "
        "(VmHWM) of a fresh process for each figure, less its resident set before the call; "
        "nothing is sampled. The gradient, one unit, is part of it.",
    ]
    figure, axes = new_figure(2 if memory else 1, size=(12, 4.5))
    for i, name in enumerate(LOSSES):
        colour, marker = STYLES[i]
        for of_size, line in zip(times.values(), ("-", ":"), strict=False):
            axes[0, 0].plot(
                list(of_size),
                [of_size[size][name]["ratio_of_medians"] for size in of_size],
                line,
                color=colour,
                marker=marker,
                fillstyle="full" if line == "-" else "none",
                label=name if line == "-" else None,
            )
        if memory:
            places = np.arange(len(memory)) + (i - (len(LOSSES) - 1) / 2) * 0.15
            bars = [memory[size][name] for size in memory]
            axes[0, 1].bar(places, bars, width=0.13, color=colour)
            for place, bar in zip(places, bars, strict=True):
                # The name in the bar, as colours alone do not tell bars apart in grey.
                axes[0, 1].annotate(
                    name, (place, bar / 2), rotation=90, ha="center", va="center", color="white"
                )
    axes[0, 0].plot([], [], ":", color="#777777", label=ALLOCATORS[1])
    axes[0, 0].set_yscale("log")
    tick_plainly(axes[0, 0].yaxis, (1, 1.5, 2, 3, 5, 7))
    axes[0, 0].set_ylabel(f"CPU time divided by that of {CROSS_ENTROPY} (no unit)")
    axes[0, 0].set_xlabel("logits, samples x classes")
    axes[0, 0].legend(frameon=False)
    if memory:
        axes[0, 1].set_ylabel("peak memory, in units of the logits")
        axes[0, 1].set_xlabel("logits, samples x classes")
        axes[0, 1].set_xticks(range(len(memory)), list(memory))
    for axis in axes.flat:
        axis.grid(axis="y", color="#dddddd", linewidth=0.5)
        axis.set_axisbelow(True)
    results = {"times": times, "memory": memory, "step": share}
    write_report("losses", args, results, tables, notes, missing, figure)


if __name__ == "__main__":
    main()
