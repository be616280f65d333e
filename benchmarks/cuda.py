"""What CUDA is expected to do, tried on a GPU in about 25 minutes.

``python -m benchmarks.cuda`` runs ten rows, each with its expectation, and says which ones held.
``python -m benchmarks.cuda --rehearsal`` tries the rows on pretended devices, for their logic:
sizes are small, and the times are times of the CPU that say nothing about a GPU.
"""

import copy
import gc
import os
import re
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from benchmarks.measuring import PLAIN, RESULTS, command_line, parse, progress, write_report
from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.networks import BUILT_IN
from tests import rehearsal

ROOT = Path(__file__).parents[1]
SENT = {"iterator_train__memory_share": 0.0}
CLASSIFIERS = {2: CNN2DClassifier, 3: CNN3DClassifier}
ORDERS = {2: torch.channels_last, 3: torch.channels_last_3d}
NOT_RUN = "not run"


@dataclass(frozen=True)
class Sizes:
    """The sizes of the rows."""

    tests: tuple[str, ...]
    side: dict[int, int]  # of images, by their number of axes
    n: int
    batch_size: int
    width: int
    steps: int
    large: int  # side of the images whose copies take as long as a step
    fits: int


ON_GPU = Sizes(("tests",), {2: 128, 3: 48}, 2048, 64, 24, 30, 512, 20)
SMALL = Sizes(("tests/training/test_gradient.py",), {2: 12, 3: 8}, 48, 16, 4, 2, 16, 3)


@dataclass(frozen=True)
class Found:
    """What a row expected and measured."""

    what: str
    expected: str
    measured: str
    held: bool | None  # None where it was not run


def images(sizes: Sizes, ndim: int = 2, side: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that a bright corner tells apart."""
    side = sizes.side[ndim] if side is None else side
    y = np.arange(sizes.n) % 3 % 2
    X = np.random.default_rng(0).standard_normal((sizes.n, *[side] * ndim), dtype=np.float32)
    X[(y == 1, *[slice(side // 2)] * ndim)] += 1
    return X, y


def classifier(sizes: Sizes, ndim: int = 2, **params: object):
    base = {**PLAIN, "max_epochs": 1, "batch_size": sizes.batch_size, "random_state": 0}
    return CLASSIFIERS[ndim](**{**base, "device": "cuda", **params})


def seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """Return the wall time of a run on the device; the first run is not counted."""
    run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def run_tests(*arguments: str, **environment: str) -> tuple[str, bool]:
    """Run pytest; return the line of its summary, and whether all tests passed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.rehearsal", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    summary = re.findall(r"^.*\b(?:passed|failed|error)\b.* in .*$", done.stdout, re.MULTILINE)
    return (summary or [done.stderr.strip()[-200:]])[-1].strip("= "), done.returncode == 0


def tests_pass(sizes: Sizes) -> Iterator[Found]:
    summary, passed = run_tests("-m", "cuda", *sizes.tests)
    yield Found("tests marked cuda", "all pass", summary, passed)


def fits_agree(sizes: Sizes) -> Iterator[Found]:
    if sizes is SMALL:
        yield Found("fits without TF32", "equal to the CPU", NOT_RUN, None)
        return
    for name, value in {"without": "0", "with": "1"}.items():
        arguments = ("-m", "cuda", "tests/rehearsal/test_fits.py")
        summary, passed = run_tests(*arguments, NVIDIA_TF32_OVERRIDE=value)
        expected = "equal to the CPU" if name == "without" else "rounding of TF32 may fail some"
        yield Found(f"fits {name} TF32", expected, summary, passed or name == "with")


def network_of(name: str, sizes: Sizes, ndim: int, norm: str) -> nn.Module:
    shape = [sizes.side[ndim]] * ndim
    return BUILT_IN[name](1, 2, shape, width=sizes.width, norm=norm).cuda()


def step_time(network: nn.Module, X: torch.Tensor, dtype: torch.dtype, steps: int) -> float:
    """Return the time of a training step without an optimizer."""

    def step() -> None:
        with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
            loss = network(X).square().mean()
        loss.backward()

    return seconds(step, steps)


def layouts(sizes: Sizes) -> Iterator[Found]:
    """Time both layouts, and compare the faster one with the layout of a fit."""
    for name, ndim in (("small", 2), ("small", 3), ("resnet18", 2)):
        X, y = images(sizes, ndim)
        for norm in ("group", "batch"):
            params = {"module__norm": norm, "module__width": sizes.width}
            clf = classifier(sizes, ndim, module=name, net=params).fit(X, y)
            last = is_channels_last(clf.net_.module_, ndim)
            first = torch.from_numpy(X[: sizes.batch_size, None]).cuda()
            for dtype in (torch.float32, torch.bfloat16):
                times = {}
                for order in (torch.contiguous_format, ORDERS[ndim]):
                    network = network_of(name, sizes, ndim, norm).to(memory_format=order)
                    batch = first.contiguous(memory_format=order)
                    times[order] = step_time(network, batch, dtype, sizes.steps)
                ratio = times[ORDERS[ndim]] / times[torch.contiguous_format]
                yield Found(
                    f"{name} {ndim}D, {norm}, {str(dtype).removeprefix('torch.')}",
                    f"channels-{'last' if last else 'first'} is the faster layout",
                    f"channels-last / channels-first {ratio:.2f}",
                    ratio <= 1.03 if last else ratio >= 0.97,
                )


def is_channels_last(module: nn.Module, ndim: int) -> bool:
    """Tell whether the weights of a fitted network have their channels innermost."""
    weights = [p for p in module.parameters() if p.ndim == ndim + 2]
    return any(
        w.is_contiguous(memory_format=ORDERS[ndim]) and not w.is_contiguous() for w in weights
    )


MODES: dict[str, dict[str, object]] = {
    "plain": {},
    "sent": {"net": SENT},
    "augmented": {"augment": "paper"},
    "float16": {"dtype": "float16"},
    "in parts": {"micro_batch_size": 8},
}


def waits(sizes: Sizes) -> Iterator[Found]:
    """Count the waits of a step: epochs of many and of few steps differ by those only."""
    X, y = images(sizes)
    for name, params in MODES.items():
        clf = classifier(sizes, **copy.deepcopy(params)).fit(X, y)
        counts, steps = [], []
        for rows in (slice(None, None, 2), slice(None)):
            with rehearsal.account("wait") as events:
                clf.partial_fit(X[rows], y[rows])
            counts.append(events.count("wait"))
            steps.append(clf.history_[-1, "train_batch_count"])
        per_step = (counts[1] - counts[0]) / (steps[1] - steps[0])
        yield Found(
            f"waits of a step, {name}", "0", f"{per_step:.2f}, in all {counts[1]}", per_step <= 0
        )


def prefetching(sizes: Sizes) -> Iterator[Found]:
    """Compare an epoch on images that are sent with computing alone and copying alone."""
    few = Sizes(**{**vars(sizes), "n": min(sizes.n, 512)})
    X, y = images(few, side=sizes.large)
    times = {}
    for name, net in {"resident": {"iterator_train__memory_share": 1.0}, "sent": SENT}.items():
        net = {**net, "module__width": sizes.width}
        clf = classifier(sizes, net=net).fit(X, y)
        times[name] = seconds(lambda clf=clf: clf.partial_fit(X, y))
    pinned = torch.from_numpy(X).pin_memory()
    times["copies"] = seconds(lambda: pinned.to("cuda", non_blocking=True))
    limit = max(times["resident"], times["copies"])
    yield Found(
        "copies overlap with computing",
        "an epoch takes at most 1.15 of the longer of both",
        f"{times['sent'] / limit:.2f} of it (copies / computing "
        f"{times['copies'] / times['resident']:.2f})",
        times["sent"] <= 1.15 * limit,
    )


def tuned_loop(sizes: Sizes, X: np.ndarray, y: np.ndarray, epochs: int, dtype: str, order: object):
    """Return a training by a loop in plain torch, whose images are on the device beforehand."""
    images_there = torch.from_numpy(X[:, None]).cuda().contiguous(memory_format=order)
    labels = torch.from_numpy(y).cuda()
    low = torch.bfloat16 if dtype == "bfloat16" else torch.float32

    def train() -> None:
        network = network_of("small", sizes, X.ndim - 1, "group").to(memory_format=order)
        optimizer = torch.optim.Adam(network.parameters(), fused=True)
        for _ in range(epochs):
            rows = torch.randperm(len(X), device="cuda").split(sizes.batch_size)
            for batch in rows:
                optimizer.zero_grad()
                with torch.autocast("cuda", dtype=low, enabled=low != torch.float32):
                    logits = network(images_there[batch])
                nn.functional.cross_entropy(logits.float(), labels[batch]).backward()
                optimizer.step()

    return train


def against_a_loop(sizes: Sizes) -> Iterator[Found]:
    X, y = images(sizes)
    epochs = 5 if sizes is ON_GPU else 1
    for dtype in ("float32", "bfloat16"):
        loops = [
            seconds(tuned_loop(sizes, X, y, epochs, dtype, order), 3)
            for order in (torch.contiguous_format, torch.channels_last)
        ]
        for name, share in {"resident": 1.0, "sent": 0.0}.items():
            net = {"module__width": sizes.width, "iterator_train__memory_share": share}
            clf = classifier(sizes, net=net, dtype=dtype, loss="ce", max_epochs=epochs)
            ratio = seconds(lambda clf=clf: clf.fit(X, y), 3) / min(loops)
            yield Found(
                f"fit against a tuned loop, {name}, {dtype}",
                "at most 1.05 times the time of the loop",
                f"{ratio:.2f}",
                ratio <= 1.05,
            )


def emptied(run: Callable[[], object]) -> Callable[[], None]:
    def then_empty() -> None:
        run()
        torch.cuda.empty_cache()

    return then_empty


def short_calls(sizes: Sizes) -> Iterator[Found]:
    """Compare short calls with the same calls and an emptied cache."""
    X, y = images(sizes)
    clf = classifier(sizes, net={"module__width": sizes.width}).fit(X, y)
    few = slice(sizes.batch_size * 2)
    calls: dict[str, Callable[[], object]] = {
        "predict of one row": lambda: clf.predict(X[:1]),
        "short fits": lambda: classifier(sizes).fit(X[few], y[few]),
    }
    for name, call in calls.items():
        n = sizes.fits * (5 if name.startswith("predict") else 1)
        ratio = seconds(call, n) / seconds(emptied(call), n)
        yield Found(
            name, "faster than with an emptied cache", f"{ratio:.2f} of its time", ratio < 1
        )


def memory_is_flat(sizes: Sizes) -> Iterator[Found]:
    X, y = images(sizes)
    held = []
    for _ in range(3):
        search = GridSearchCV(classifier(sizes), {"lr": [1e-3, 1e-2]}, cv=2, refit=False)
        search.fit(X, y)
        gc.collect()
        held.append(torch.cuda.memory_allocated())
    measured = f"{', '.join(f'{bytes_ / 2**20:.1f}' for bytes_ in held)} MiB"
    yield Found("memory after searches", "the same after each", measured, len(set(held)) == 1)
    yield out_of_memory(sizes, X, y)


def out_of_memory(sizes: Sizes, X: np.ndarray, y: np.ndarray) -> Found:
    """Let a fit run out of memory, hold its error as a notebook does, and fit again."""
    total = torch.cuda.mem_get_info()[1]
    used = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    error, measured, held = None, "no error came", False
    torch.cuda.set_per_process_memory_fraction((used + 2 * X.nbytes) / total)
    try:
        classifier(sizes, batch_size=len(X), net={"module__width": 64 * sizes.width}).fit(X, y)
    except Exception as caught:
        error = caught
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    if error is not None:
        left = torch.cuda.memory_allocated() - used
        classifier(sizes).fit(X, y)
        measured = f"{type(error).__name__}, {max(0, left) / 2**20:.1f} MiB held by the error"
        held = left < X.nbytes
    return Found("a fit after an out-of-memory error", "little is held, it fits", measured, held)


def compiled(sizes: Sizes) -> Iterator[Found]:
    X, y = images(sizes)
    if sizes is SMALL:
        yield Found("compiled networks", "equal to eager", NOT_RUN, None)
        return
    params = {"train_split": 0.25, "micro_batch_size": sizes.batch_size // 2}
    expected = classifier(sizes, **params).fit(X, y).predict_proba(X)
    for mode in ("default", "reduce-overhead"):
        net = {"compile__mode": mode}
        try:
            found = classifier(sizes, compile=True, net=net, **params).fit(X, y).predict_proba(X)
            difference = float(np.abs(found - expected).max())
            measured, held = f"{difference:.1e} from eager", difference < 0.05
        except ValueError as error:
            measured, held = f"refused: {str(error)[:100]}", mode != "default"
        yield Found(f"compiled, {mode}", "equal to eager, or refused by name", measured, held)


def half_precision(sizes: Sizes) -> Iterator[Found]:
    X, y = images(sizes)
    epochs = max(2, 200 // (sizes.n // sizes.batch_size)) if sizes is ON_GPU else 3
    losses, skipped = {}, 0
    for dtype in ("float32", "float16"):
        clf = classifier(sizes, dtype=dtype, max_epochs=epochs).fit(X, y)
        losses[dtype] = clf.history_[-1, "train_loss"]
        asked = sum(clf.history_[:, "train_batch_count"])
        steps = [int(state["step"]) for state in clf.net_.optimizer_.state.values()]
        skipped = asked - max(steps)
    yield Found("steps that float16 skips", "at most 5", f"{skipped} of {asked}", skipped <= 5)
    difference = abs(losses["float16"] - losses["float32"])
    yield Found(
        "loss in float16", "within 0.1 of float32", f"{difference:.3f} from it", difference <= 0.1
    )
    scores = cross_val_score(classifier(sizes), X, y, cv=2, n_jobs=2, error_score="raise")
    yield Found("two workers on one GPU", "both fit", f"{len(scores)} fits", len(scores) == 2)


ROWS: dict[str, Callable[[Sizes], Iterator[Found]]] = {
    "tests": tests_pass,
    "fits": fits_agree,
    "layouts": layouts,
    "waits": waits,
    "prefetching": prefetching,
    "loop": against_a_loop,
    "short": short_calls,
    "memory": memory_is_flat,
    "compile": compiled,
    "float16": half_precision,
}


def run_row(name: str, sizes: Sizes) -> list[dict[str, object]]:
    """Run a row; an error is a result, too, and the rows after it still run."""
    start, found = time.perf_counter(), []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found += ROWS[name](sizes)
    except Exception:
        measured = traceback.format_exc(limit=-3).strip().replace("\n", " ")
        progress(measured)
        found.append(Found(name, "no error", measured[-300:], False))
    took = (time.perf_counter() - start) / len(found)
    return [
        # Comparisons of numpy's numbers are no words of JSON.
        {**vars(one), "held": None if one.held is None else bool(one.held), "seconds": took}
        for one in found
    ]


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], ROWS)
    parser.add_argument("--rehearsal", action="store_true", help="try the rows without a GPU")
    args = parse(parser)
    if args.rehearsal and not torch.cuda.is_available():
        rehearsal.start_again("benchmarks.cuda")
    if args.rehearsal and not rehearsal.is_pretended():
        parser.error("there is a CUDA device here; leave out --rehearsal")
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --rehearsal tries the rows without one")
    if args.rehearsal and args.output == RESULTS:
        parser.error("a rehearsal is not a result; pass another folder as --output")
    args.quick = args.quick or args.rehearsal
    results = []
    for name in args.cases:
        progress(name)
        results += run_row(name, SMALL if args.quick else ON_GPU)
    words = {True: "yes", False: "NO", None: NOT_RUN}
    head = ["what", "expected", "measured", "held", "seconds"]
    rows = [
        [r["what"], r["expected"], r["measured"], words[r["held"]], f"{r['seconds']:.1f}"]
        for r in results
    ]
    device = torch.cuda.get_device_name()
    notes = [f"Device: {device}."]
    if args.rehearsal:
        notes.append("A rehearsal on pretended devices: times are times of the CPU.")
    write_report("cuda", args, {"device": device, "rows": results}, [("CUDA", head, rows)], notes)


if __name__ == "__main__":
    main()
