"""What the project sets itself as goals of speed and memory, and what was measured.

``python -m benchmarks.goals`` reads the results of the other benchmarks, makes three small
measurements of its own, and prints a line for each goal. A goal that is missed is no error.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from joblib import Parallel, delayed
from tabulate import tabulate
from torch import Tensor

from benchmarks.measuring import PLAIN, RESULTS, SMOKE, interleaved, machine, progress, quartiles
from benchmarks.micro_batches import ACCUMULATION, TWO_PASSES
from benchmarks.peers import KERAS, LIGHTNING, LIMIT, SKIMBAL, TENSORFLOW
from skimbal import CNN2DClassifier
from skimbal.losses import get_loss
from skimbal.sampling import BatchSampler
from skimbal.training.processes import SumOverProcesses

METRIC_LOSSES = ("mcc", "f1", "ce+mcc", "ce+f1")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

#: What was measured, as text, and whether the goal is met; None where nothing was measured, a text
#: where a part was not.
Line = tuple[str, bool | str | None]


class Results:
    """The results of the other benchmarks, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.quick: list[str] = []

    def __getitem__(self, name: str) -> dict:
        report = json.loads((self._folder / f"{name}.json").read_text())
        if report["quick"] and name not in self.quick:
            self.quick.append(name)
        return report["results"]


def plain(cases: dict) -> dict:
    """Keep the five shapes that the goals speak of."""
    return {case: value for case, value in cases.items() if not case.startswith("resnet")}


def worst(values: dict[str, float], unit: str = "") -> str:
    """Name the largest value and where it is."""
    case = max(values, key=values.get)
    return f"{values[case]:.2f}{unit} at worst ({case})"


def training(results: Results) -> Line:
    ratios = {
        case: of_case[SKIMBAL]["ratio"][1]
        for case, of_case in plain(results["training"]["times"]).items()
    }
    incomplete = "" if len(ratios) == 5 else f"; {len(ratios)} of 5 shapes"
    return worst(ratios) + incomplete, len(ratios) == 5 and max(ratios.values()) <= 1.05


def excess(results: Results) -> Line:
    small, large = results["training"]["excess"].items()
    per_step = [of_size[SKIMBAL]["excess in microseconds"][1] for _, of_size in (small, large)]
    samples = int(large[0].split()[-1]) - int(small[0].split()[-1])
    per_sample = 1000 * (per_step[1] - per_step[0]) / samples
    return (
        f"{per_step[0]:.0f} µs; {per_sample:.0f} ns a sample of 16 pixels, its copy included",
        per_step[0] <= 60,
    )


def speedups_over(peer: str, results: Results, kind: str = "cpu_seconds") -> dict[str, float]:
    """Return the median ratio of the times of a peer to those of skimbal, for each plain case."""
    speedups = {}
    for case, of_case in plain(results["training"]["times"]).items():
        if peer in of_case:
            theirs, ours = (of_case[name]["rounds"][kind] for name in (peer, SKIMBAL))
            speedups[case] = quartiles(np.divide(theirs, ours))[1]
    return speedups


def against_peers(results: Results) -> Line:
    """Compare the rounds of the peers with those of skimbal."""
    text, passed = [], True
    for peer, in_2d, in_3d in (("skorch", 1.45, 1.6), (LIGHTNING, 1.45, 1.6), (KERAS, 2.8, 2.8)):
        speedups = speedups_over(peer, results)
        if not speedups:
            text.append(f"{peer}: missing")
            passed = False
            continue
        for axes, least in (("2D", in_2d), ("3D", in_3d)):
            mine = [value for case, value in speedups.items() if case.startswith(axes)]
            if mine:
                text.append(f"{peer} in {axes} {min(mine):.2f} to {max(mine):.2f}")
                passed = passed and min(mine) >= least
            else:
                passed = False
    both = [speedups_over(TENSORFLOW, results, kind) for kind in ("cpu_seconds", "wall_seconds")]
    if not both[0]:
        text.append(f"{TENSORFLOW}: missing")
        return "; ".join(text), passed and "pass in part"
    shown = ", ".join(
        f"{cpu:.2f} ({wall:.2f})" for cpu, wall in zip(*(of.values() for of in both), strict=True)
    )
    text.append(f"{TENSORFLOW}, in CPU (wall) time of each shape: {shown}")
    ahead = len(both[0]) == 5 and min(min(of.values()) for of in both) > 1
    return "; ".join(text), passed and ahead


def prediction(results: Results) -> Line:
    ratios = {
        case: of_case[SKIMBAL]["ratio"][1]
        for case, of_case in results["inference"]["times"].items()
    }
    return worst(ratios), max(ratios.values()) <= 1.10


def losses(results: Results) -> Line:
    found = results["losses"]
    limits = {"65536x5": 1.3, "65536x100": 1.0, "65536x1000": 1.0}
    text, passed = [], True
    for size, limit in limits.items():
        of_loss = {
            loss: [times[size][loss]["ratio_of_medians"] for times in found["times"].values()]
            for loss in ("mcc", "f1")
        }
        shown = (" or ".join(f"{ratio:.2f}" for ratio in ratios) for ratios in of_loss.values())
        text.append(f"{size}: {', '.join(shown)}")
        passed = passed and max(map(max, of_loss.values())) <= limit
    share = 100 * found["step"]["share"][1]
    memory = max(of_size[loss] for of_size in found["memory"].values() for loss in ("mcc", "f1"))
    return (
        f"MCC, F1 (with the allocator as it is or keeping its blocks) at {'; '.join(text)}; "
        f"{share:.1f} % of a step; memory {memory:.2f} n K",
        passed and share <= 3 and memory <= 2.1,
    )


def batches() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield batches that loss functions stumble over, in float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(n: int, k: int) -> Tensor:
        return torch.randn(n, k, generator=generator, dtype=torch.float64)

    def labels(n: int, k: int) -> Tensor:
        return torch.randint(k, (n,), generator=generator)

    for n, k in ((2, 2), (32, 5), (1024, 10), (65536, 3)):
        yield f"random, {n} x {k}", normal(n, k), labels(n, k)
    yield "a single row", normal(1, 3), labels(1, 3)
    yield "rows of one class", normal(32, 5), torch.full((32,), 2)
    yield "a class is absent", normal(32, 5), labels(32, 4)
    yield "equal logits", torch.zeros(32, 5, dtype=torch.float64), labels(32, 5)
    target = labels(32, 5)
    hot = torch.nn.functional.one_hot(target, 5).double()
    # Within float16, whose largest number is 65504.
    yield "saturated and right", 6e4 * hot, target
    yield "saturated and wrong", -6e4 * hot, target
    yield "saturated on one class", 6e4 * hot[:1].repeat(32, 1), target


def gradient(name: str, logits: Tensor, target: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    logits = logits.detach().to(dtype, copy=True).requires_grad_()
    loss = get_loss(name)(logits, target)
    loss.backward()
    return loss.detach(), logits.grad


def robustness(_: Results) -> Line:
    """Look for NaN in every dtype, and compare float32 gradients with those of float64."""
    broken, error = [], 0.0
    for case, logits, target in batches():
        for name in METRIC_LOSSES:
            for dtype in DTYPES:
                value, grad = gradient(name, logits, target, dtype)
                if not (value.isfinite() and grad.isfinite().all()):
                    broken.append(f"{name}, {case}, {dtype}")
            if case.startswith("random"):
                # The same numbers, so that what differs is the computation.
                rounded = logits.float().double()
                exact = gradient(name, rounded, target, torch.float64)[1]
                single = gradient(name, rounded, target, torch.float32)[1]
                error = max(error, float((single - exact).abs().max() / exact.abs().max()))
    text = f"not finite: {'; '.join(broken) if broken else 'none'}; gradient error {error:.1e}"
    return text, not broken and error <= 1e-6


def shared_gradient(rank: int, n_processes: int, file: str) -> None:
    """Keep the gradient of this process's uneven part of a batch, and what it has sent."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=n_processes)
    sent: list[int] = []
    send = dist.all_reduce

    def counting(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        sent.append(tensor.numel())
        return send(tensor, *args, **kwargs)

    _, logits, target = next(case for case in batches() if case[0] == "random, 1024 x 10")
    weight = 0.1 + torch.arange(len(target)) % 7
    cuts = [0, 600, 1000, 1024] if n_processes == 3 else [0, 1000, 1024]
    part = slice(cuts[rank], cuts[rank + 1])
    found = []
    with mock.patch.object(dist, "all_reduce", counting):
        for name in METRIC_LOSSES:
            leaf = logits[part].clone().requires_grad_()
            loss = get_loss(name)(
                leaf,
                target[part],
                weight[part],
                normalizer=len(target),
                sum_over_parts=SumOverProcesses(n_processes),
            )
            # Their mean is that of the whole batch.
            found.append(torch.autograd.grad(loss, leaf)[0] / n_processes)
    torch.save(((part.start, part.stop), torch.stack(found), sent), f"{file}.{rank}")
    dist.barrier()
    dist.destroy_process_group()


def several_processes(_: Results) -> Line:
    """Compare the gradients of shards with that of the whole batch, and count what was sent."""
    _, logits, target = next(case for case in batches() if case[0] == "random, 1024 x 10")
    weight, error, n_sent = 0.1 + torch.arange(len(target)) % 7, 0.0, set()
    for n_processes in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/meeting"
            torch.multiprocessing.spawn(shared_gradient, (n_processes, file), n_processes)
            parts = [torch.load(f"{file}.{rank}") for rank in range(n_processes)]
        for i, name in enumerate(METRIC_LOSSES):
            leaf = logits.clone().requires_grad_()
            get_loss(name)(leaf, target, weight, normalizer=len(target)).backward()
            for (start, stop), found, sent in parts:
                exact = leaf.grad[start:stop]
                difference = (found[i] - exact).abs().max() / leaf.grad.abs().max()
                error = max(error, float(difference))
                n_sent |= set(sent)
                assert len(sent) == len(METRIC_LOSSES), "one message a batch"
    k = logits.shape[1]
    return (
        f"error {error:.1e} with 2 and 3 processes, uneven shards and weights; one message of "
        f"{', '.join(map(str, n_sent))} numbers for {k} classes",
        error <= 1e-12 and n_sent == {3 * k},
    )


def search(results: Results) -> Line:
    found = results["memory"]["search"]
    lazy = found.get("ImageArray of a memory map", {})
    measured = {jobs: of_jobs for jobs, of_jobs in lazy.items() if "extra bytes" in of_jobs}
    if len(measured) < 2:
        refused = "; ".join(of_jobs["refused"] for of_jobs in lazy.values() if "refused" in of_jobs)
        return refused or "lazily indexed X: missing, as skimbal has no ImageArray", False
    per_worker = max(of["extra bytes"] / int(jobs) for jobs, of in measured.items()) / 1e6
    cpu = measured["2"]["seconds"] / measured["1"]["seconds"]
    return (
        f"{per_worker:.0f} MB a worker; warm loky {cpu:.2f}x CPU",
        per_worker <= 150 and cpu <= 1.2,
    )


def out_of_core(results: Results) -> Line:
    text, passed = [], True
    for kind, sizes in results["memory"]["fit"].items():
        n = max(sizes, key=int)
        ways, batch = sizes[n]["ways"], sizes[n]["batch bytes as float32"]
        mapped, stock, own = (ways[way] for way in ("memory map", "skorch, in memory", "in memory"))
        if any("refused" in way for way in (mapped, stock, own)):
            return f"{kind}: refused", False
        time = mapped["fit seconds"] / stock["fit seconds"]
        text.append(
            f"{kind}: {mapped['extra bytes'] / 1e6:.0f} MB (two batches "
            f"{2 * batch / 1e6:.1f} MB), {time:.2f}x the time"
        )
        passed = passed and mapped["extra bytes"] <= 2 * batch + 50e6 and time <= 1
        if "uint8" in kind:
            as_float = 4 * sizes[n]["file bytes"]
            text.append(
                f"uint8 in memory: {own['extra bytes'] / 1e6:.0f} MB, as float it would take "
                f"{as_float / 1e6:.0f} MB"
            )
            passed = passed and own["extra bytes"] < as_float
    return "; ".join(text), passed


def threads_in_a_fit(seed: int) -> int:
    """Return the threads that torch may use once a classifier has been fitted here."""
    X = np.random.default_rng(seed).integers(256, size=(8, 8, 8), dtype=np.uint8)
    CNN2DClassifier(**PLAIN, max_epochs=1, random_state=seed).fit(X, np.arange(8) % 2)
    return torch.get_num_threads()


def balanced_batches(_: Results) -> Line:
    """Time an epoch of balanced batches, and count the threads of two jobs."""
    y = (np.random.default_rng(0).random(100_000) < 0.1).astype(int)
    sampler = BatchSampler(y, 64, "balanced", random_state=0)
    draw = interleaved({"draw": lambda: list(sampler)}, 7, reference="draw")["draw"]
    milliseconds, n_drawn = 1e3 * draw["cpu_seconds"][1], sum(map(len, sampler))
    n_jobs, cores = 2, os.cpu_count() or 1
    with mock.patch.dict(os.environ):
        # The workers are to find what they find for users, who may not have set it.
        del os.environ["OMP_NUM_THREADS"]
        threads = sum(Parallel(n_jobs)(delayed(threads_in_a_fit)(seed) for seed in range(n_jobs)))
    return (
        f"{milliseconds:.1f} ms an epoch of {n_drawn:,} rows in batches of 64 (two classes, 9 to "
        f"1), {1e5 * milliseconds / n_drawn:.1f} ms for 100,000 rows drawn; "
        f"{threads} threads in {n_jobs} jobs on {cores} cores",
        milliseconds <= 5 and threads <= n_jobs * cores,
    )


def two_passes(results: Results) -> Line:
    found = results["micro_batches"]
    error = max(of_loss[TWO_PASSES]["error"] for of_loss in found["gradients"].values())
    ratio = found["times"][TWO_PASSES]["ratio"][1]
    memory = found["memory"][TWO_PASSES] / found["memory"][ACCUMULATION]
    return (
        f"error {error:.1e}; {ratio:.2f}x the time and {memory:.2f}x the memory of accumulation",
        error <= 1e-12 and ratio <= 1.5 and memory <= 1.25,
    )


def no_device(_: Results) -> Line:
    if torch.cuda.is_available():
        return "not measured: no benchmark for CUDA yet", None
    return "not measured: no CUDA device", None


GOALS: dict[int, tuple[str, Callable[[Results], Line]]] = {
    1: (f"fit at most 1.05x the {LIMIT} on all five shapes", training),
    2: (f"at most 60 µs a step over the {LIMIT}, no cost a sample beyond the copy", excess),
    3: (
        "at least 1.45x (2D) and 1.6x (3D) faster than skorch and Lightning, 2.8x than Keras on "
        "torch, ahead of Keras on TensorFlow",
        against_peers,
    ),
    4: ("predict_proba at most 1.10x the folded limit", prediction),
    5: (
        "MCC and F1 at most 1.0x cross-entropy for n K of a million and more, 1.3x at 65536 x 5, "
        "3 % of a step; memory at most 2.1 n K",
        losses,
    ),
    6: ("no NaN in any dtype or degenerate batch; float32 gradient error at most 1e-6", robustness),
    7: (
        "set losses in two passes: gradient error at most 1e-12, 1.5x the time of accumulation and "
        "1.25x its memory",
        two_passes,
    ),
    8: (
        "set losses over several devices: gradient error at most 1e-12, one message of 3 K numbers "
        "a batch",
        several_processes,
    ),
    9: (
        "grid search: at most 150 MB a worker over its imports for lazily indexed X; warm loky at "
        "most 1.2x CPU",
        search,
    ),
    10: (
        "out of core: at most two batches + 50 MB of anonymous memory, no slower than skorch in "
        "memory; uint8 never held as float",
        out_of_core,
    ),
    11: (
        "balanced batches for 100,000 labels in at most 5 ms; never more threads than jobs x cores",
        balanced_batches,
    ),
    12: ("on CUDA within 1.05x of the tuned loop", no_device),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result files")
    args = parser.parse_args()
    results = Results(args.output)
    rows = []
    for number, (goal, measure) in GOALS.items():
        progress(f"goal {number}")
        try:
            text, passed = measure(results)
        except FileNotFoundError as error:
            text, passed = f"missing: {Path(error.filename).name}", None
        except KeyError as error:
            text, passed = f"incomplete: a result has no {error}", None
        verdict = {True: "pass", False: "MISS", None: "-"}.get(passed, passed)
        rows.append([str(number), goal, text, verdict])
    head = ["#", "goal", "measured", ""]
    lines = [".. list-table:: Goals of speed and memory", "   :header-rows: 1"]
    lines += ["   :widths: 4 40 46 10", ""]
    for row in (head, *rows):
        lines += [f"   {' ' if i else '*'} - {cell}".rstrip() for i, cell in enumerate(row)]
    notes = [f"{SMOKE} This concerns: {', '.join(results.quick)}."] if results.quick else []
    notes.append(
        "Goals 6, 8 and 11 are measured here, on this machine: "
        + "; ".join(f"{key} {value}" for key, value in machine().items())
        + ". The others come from the result files, which describe their machines."
    )
    for note in notes:
        lines += ["", note]
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "goals.rst").write_text("\n".join(lines) + "\n")
    print(tabulate(rows, head, maxcolwidths=[None, 40, 50, None], disable_numparse=True))
    print("\n" + "\n".join(notes))


if __name__ == "__main__":
    main()
