"""What the speed and memory benchmarks share: the clock, the machine, fresh processes, reports.

Machines differ and drift, so contestants take turns in one process, and what counts is the ratio
of two times of the same round.
"""

import argparse
import gc
import importlib.metadata
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from threadpoolctl import threadpool_limits

# With a second thread, process CPU time would count waiting as work. The variable is for processes
# that are started from here; in this one, numpy and torch may have been imported before.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
threadpool_limits(1)

RESULTS = Path(__file__).parent / "results"
#: Parameters of the classifiers, for measurements that are not about the defaults.
PLAIN = {
    "loss": "ce+mcc",
    "sampler": "uniform",
    "augment": None,
    "module": "small",
    "optimizer": "adam",
    "lr": 1e-3,
    "lr_schedule": "cosine",
}
SMOKE = (
    "Smoke run (--quick): sizes are cut down, so the figures show that it runs and nothing else."
)
#: Okabe and Ito's colours, without the yellow, each with a marker that tells it apart in grey.
STYLES = [
    ("#D55E00", "o"),
    ("#0072B2", "s"),
    ("#009E73", "^"),
    ("#000000", "D"),
    ("#CC79A7", "v"),
    ("#56B4E9", "P"),
    ("#E69F00", "X"),
    ("#777777", "*"),
]
_PACKAGES = (
    "skimbal",
    "torch",
    "numpy",
    "skorch",
    "scikit-learn",
    "imbalanced-learn",
    "lightning",
    "keras",
    "tensorflow-cpu",
    "onnxruntime",
    "zarr",
    "pillow",
    "nibabel",
)

#: A title, the heads of the columns and the rows, as text.
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


def command_line(
    description: str, cases: Iterable[str] = (), rounds: int | None = None
) -> argparse.ArgumentParser:
    """Make a parser with the options that the benchmarks have in common."""
    parser = argparse.ArgumentParser(description=description)
    if rounds is not None:
        parser.add_argument("--rounds", type=int, help=f"default {rounds}; 2 with --quick")
        parser.set_defaults(full_rounds=rounds)
    cases = list(cases)
    if cases:
        parser.add_argument("--cases", nargs="+", choices=cases, default=cases, metavar="CASE")
        parser.epilog = "cases: " + ", ".join(cases)
    parser.add_argument("--quick", action="store_true", help="a smoke run: small sizes, no figures")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result files")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    args = parser.parse_args()
    if "full_rounds" in args and args.rounds is None:
        args.rounds = 2 if args.quick else args.full_rounds
    return args


def machine() -> dict[str, Any]:
    """Describe what the figures depend on besides the code."""
    processor = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} x {processor or platform.machine()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
        **versions,
        "torch threads": torch.get_num_threads(),
    }


def quartiles(values: Sequence[float] | np.ndarray) -> list[float]:
    """Return lower quartile, median and upper quartile."""
    return [float(value) for value in np.percentile(values, [25, 50, 75])]


@dataclass(frozen=True)
class Timed:
    """The times of one run; a contestant that works in another process returns them itself."""

    cpu_seconds: float
    wall_seconds: float
    result: Any = None


def clocked(run: Callable[[], Any]) -> Timed:
    """Run once by the clock of this process, or take the times that the run returns."""
    gc.collect()  # nobody pays for the rubbish of another
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    result = run()
    if isinstance(result, Timed):
        return result
    del result  # to free it is part of the run
    cpu_seconds = time.process_time() - cpu_start
    return Timed(cpu_seconds, time.perf_counter() - wall_start)


def interleaved(
    contestants: dict[str, Callable[[], Any]], rounds: int, warmup: int = 1, *, reference: str
) -> dict[str, dict[str, Any]]:
    """Run A B C A B C ..., and compare each with the reference of the same round.

    Returns, for each contestant, the quartiles of process CPU time and wall time in seconds, those
    of the ratios of its CPU time and wall time to those of the reference, the ratio of the two
    medians of CPU time, and the single times. A contestant that returns `Timed` clocks itself.
    """
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(warmup + rounds):
        for name, run in contestants.items():
            times = clocked(run)
            if i >= warmup:
                cpu[name].append(times.cpu_seconds)
                wall[name].append(times.wall_seconds)
    return {
        name: {
            "cpu_seconds": quartiles(cpu[name]),
            "wall_seconds": quartiles(wall[name]),
            "ratio": quartiles(np.divide(cpu[name], cpu[reference])),
            "wall_ratio": quartiles(np.divide(wall[name], wall[reference])),
            "ratio_of_medians": float(np.median(cpu[name]) / np.median(cpu[reference])),
            "rounds": {"cpu_seconds": cpu[name], "wall_seconds": wall[name]},
        }
        for name in contestants
    }


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of a module in a new interpreter, which has no memory of its own yet."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *args).result()


def memory_in_use(field: str) -> int:
    """Read a figure of this process from the kernel, in bytes, such as RssAnon, VmRSS or VmHWM.

    VmHWM is the high water of VmRSS. The same figure of ``getrusage`` is no use here: a child
    process inherits that of its parent.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"the kernel does not tell {field} of a process")


def ratio_text(quartiles: Sequence[float]) -> str:
    low, median, high = quartiles
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def write_report(
    name: str,
    args: argparse.Namespace,
    results: dict[str, Any],
    tables: Sequence[Table],
    notes: Sequence[str] = (),
    missing: dict[str, str] | None = None,
    figure: Any = None,
) -> None:
    """Write NAME.json, NAME.rst and NAME.png, and print the tables."""
    missing = missing or {}
    notes = [
        *([SMOKE] if args.quick else []),
        *notes,
        *(f"Missing: {peer} ({reason})." for peer, reason in missing.items()),
    ]
    described = machine()
    report = {
        "quick": args.quick,
        "rounds": getattr(args, "rounds", None),
        "machine": described,
        "missing": missing,
        "results": results,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / name
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    machine_line = "Machine: " + "; ".join(f"{key} {value}" for key, value in described.items())
    text = []
    for title, head, rows in tables:
        text += [f".. list-table:: {title}", "   :header-rows: 1", ""]
        for row in (head, *rows):
            text += [f"   {' ' if i else '*'} - {cell}".rstrip() for i, cell in enumerate(row)]
        text.append("")
    for note in (*notes, machine_line + "."):
        text += [note, ""]
    # A column that goes on begins below the star of the first.
    text = [
        line.replace("   - ", "     - ", 1) if line.startswith("   -") else line for line in text
    ]
    path.with_suffix(".rst").write_text("\n".join(text))
    if figure is not None:
        figure.savefig(path.with_suffix(".png"), dpi=150)
    for title, head, rows in tables:
        print(f"\n{title}\n{tabulate(rows, head, disable_numparse=True)}")
    print()
    for note in (*notes, machine_line + "."):
        print(note)


def new_figure(n_columns: int = 1, n_rows: int = 1, size: tuple[float, float] = (8, 6)) -> Any:
    """Make a figure and its axes; the picture is drawn without a display."""
    # Here, as fresh processes import this module as well and need no pictures.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False)


def tick_plainly(axis: Any, steps: Sequence[float] = (1, 2, 5)) -> None:
    """Put plain numbers at some steps of each decade of a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=steps, numticks=50))
    axis.set_major_formatter(lambda value, position: f"{value:,g}")
    axis.set_minor_locator(NullLocator())


def draw_ratios(
    axes: Any, ratios: dict[str, dict[str, Sequence[float]]], label: str, marks: Sequence[float]
) -> None:
    """Draw for each case, from top to bottom, the ratio of each contestant and its quartiles."""
    names = list(dict.fromkeys(name for of_case in ratios.values() for name in of_case))
    for i, name in enumerate(names):
        colour, marker = STYLES[i % len(STYLES)]
        rows = [row for row, of_case in enumerate(ratios.values()) if name in of_case]
        low, median, high = np.array([list(ratios.values())[row][name] for row in rows]).T
        # A little below one another, so that equal contestants do not hide each other.
        heights = np.array(rows) + 0.6 * (i / max(1, len(names) - 1) - 0.5)
        axes.errorbar(
            median,
            heights,
            xerr=[median - low, high - median],
            fmt=marker,
            color=colour,
            label=name,
            markersize=6,
            linewidth=1,
        )
    for mark in marks:
        axes.axvline(mark, color="#777777", linewidth=0.8, linestyle="-" if mark == 1 else ":")
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.set_ylim(len(ratios) - 0.5, -0.5)
    axes.set_xscale("log")
    tick_plainly(axes.xaxis, (1, 1.5, 2, 3, 5, 7))
    axes.set_xlabel(label)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)


def picture_of_ratios(
    times: dict[str, dict[str, dict[str, Any]]], names: Sequence[str], label: str, goal: float
) -> Any:
    """Draw the ratios of contestants in each case, with lines at the reference and the goal."""
    figure, axes = new_figure(size=(9, 1.5 + 0.9 * len(times)))
    ratios = {
        case: {name: of_case[name]["ratio"] for name in names} for case, of_case in times.items()
    }
    draw_ratios(axes[0, 0], ratios, label, marks=(1, goal))
    axes[0, 0].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
