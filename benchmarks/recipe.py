"""Time of the untouched defaults, against a plain loop of torch that trains by the same recipe.

``python -m benchmarks.recipe``. The loop has the network, the balanced batches, the augmentation,
the schedule and the number of steps of the defaults, written as plainly and as fast as we can.
"""

import math
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import (
    command_line,
    in_fresh_process,
    interleaved,
    parse,
    progress,
    ratio_text,
    write_report,
)
from benchmarks.peers import channels_last
from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.networks import ResidualCNN

LOOP, SKIMBAL = "plain loop", "skimbal"
LR = 3e-3
DEGREES, SCALE, TRANSLATE = 10.0, 0.1, 0.08


@dataclass(frozen=True)
class Case:
    """Images with a rare class, and the batches of the defaults."""

    shape: tuple[int, ...]
    batch_size: int
    n: int
    epochs: int

    @property
    def n_axes(self) -> int:
        return len(self.shape)


CASES = {
    "2D 28x28 b32": Case((28, 28), 32, 960, 3),
    "2D 64x64 b32": Case((64, 64), 32, 480, 2),
    "3D 28x28x28 b16": Case((28, 28, 28), 16, 160, 2),
}


class Data:
    """Random images whose rare class is one in five."""

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(0)
        self.case = case
        self.X = rng.integers(0, 200, (case.n, *case.shape), dtype=np.uint8)
        self.y = (np.arange(case.n) % 5 == 0).astype(np.int64)


def balanced_batches(
    y: np.ndarray, batch_size: int, n_steps: int, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Draw batches with equal portions of each class, each class in an order that repeats."""
    of_class = [np.flatnonzero(y == k) for k in range(y.max() + 1)]
    share = batch_size // len(of_class)
    orders = [
        np.concatenate([rng.permutation(rows) for _ in range(-(-share * n_steps // len(rows)))])
        for rows in of_class
    ]
    for step in range(n_steps):
        part = slice(step * share, (step + 1) * share)
        yield torch.from_numpy(np.concatenate([order[part] for order in orders]))


def moved(images: Tensor) -> Tensor:
    """Rotate, zoom and shift each image of a cube or a square by its own draw."""
    n, n_axes = len(images), images.ndim - 2
    matrix = torch.eye(n_axes).expand(n, n_axes, n_axes)
    for i in range(n_axes):
        for j in range(i + 1, n_axes):
            angle = (torch.rand(n) * 2 - 1) * math.radians(DEGREES)
            turn = torch.eye(n_axes).repeat(n, 1, 1)
            turn[:, i, i] = turn[:, j, j] = angle.cos()
            turn[:, j, i] = angle.sin()
            turn[:, i, j] = -turn[:, j, i]
            matrix = matrix @ turn
    matrix = matrix * (1 + (torch.rand(n, 1, 1) * 2 - 1) * SCALE)
    shift = (torch.rand(n, n_axes, 1) * 2 - 1) * 2 * TRANSLATE
    grid = F.affine_grid(torch.cat([matrix, shift], 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def with_other_gamma(images: Tensor) -> Tensor:
    """Raise half of the images to a power, within their range."""
    rows = (torch.rand(len(images)) < 0.5).nonzero()[:, 0]
    one_each = (-1, *[1] * (images.ndim - 1))
    chosen = images[rows]
    axes = tuple(range(2, images.ndim))
    low = chosen.amin(axes, keepdim=True)
    extent = (chosen.amax(axes, keepdim=True) - low).clamp_(min=1e-6)
    power = (torch.rand(len(rows)) + 0.5).reshape(one_each)
    images[rows] = ((chosen - low) / extent).pow_(power).mul_(extent).add_(low)
    return images


def one_cycle(progress: float) -> float:
    """Warm up over a quarter of the steps, and anneal over the others, by cosines."""
    if progress < 0.25:
        return 0.04 + 0.48 * (1 - math.cos(4 * math.pi * progress))
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.25) / 0.75))


def plain_loop(data: Data, n_steps: int) -> None:
    """Train by the recipe of the defaults."""
    case = data.case
    torch.manual_seed(0)
    network = ResidualCNN(1, 2, case.shape).to(memory_format=channels_last(case.n_axes)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, fused=True)
    X, y = torch.from_numpy(data.X)[:, None], torch.from_numpy(data.y)
    mean, std = float(data.X.mean()), float(data.X.std())
    losses = []
    rng = np.random.default_rng(0)
    for step, rows in enumerate(balanced_batches(data.y, case.batch_size, n_steps, rng)):
        optimizer.param_groups[0]["lr"] = LR * one_cycle(step / n_steps)
        images = with_other_gamma(moved(X.index_select(0, rows).float()))
        images = ((images - mean) / std).contiguous(memory_format=channels_last(case.n_axes))
        loss = F.cross_entropy(network(images), y.index_select(0, rows))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    torch.stack(losses).tolist()


def fit_defaults(data: Data) -> Any:
    """Fit the untouched defaults, but for the number of epochs, which only repeats the same."""
    classifier = CNN2DClassifier if data.case.n_axes == 2 else CNN3DClassifier
    return classifier(max_epochs=data.case.epochs, random_state=0).fit(data.X, data.y)


def measure_case(name: str, rounds: int, quick: bool) -> dict[str, dict[str, Any]]:
    """Return the times of one case, in a process of its own."""
    case = replace(CASES[name], n=CASES[name].n // 5, epochs=1) if quick else CASES[name]
    data = Data(case)
    clf = fit_defaults(data)
    if clf.batch_size_ != case.batch_size:
        raise ValueError(f"the defaults have batches of {clf.batch_size_}; got {case}.")
    contestants: dict[str, Callable[[], Any]] = {
        LOOP: lambda: plain_loop(data, clf.n_steps_),
        SKIMBAL: lambda: fit_defaults(data),
    }
    return interleaved(contestants, rounds, reference=LOOP)


def table(times: dict[str, dict[str, dict[str, Any]]]) -> Sequence[Sequence[str]]:
    return [
        [
            case,
            ratio_text(of_case[SKIMBAL]["ratio"]),
            f"{of_case[LOOP]['cpu_seconds'][1]:.2f}",
        ]
        for case, of_case in times.items()
    ]


def main() -> None:
    args = parse(command_line(__doc__.splitlines()[0], CASES, rounds=7))
    times = {}
    for name in args.cases:
        progress(name)
        times[name] = in_fresh_process(measure_case, name, args.rounds, args.quick)
    head = ("images", "skimbal / plain loop: median (quartiles)", "plain loop, seconds")
    notes = [
        f"Process CPU time of one thread, {args.rounds} interleaved rounds, each case in a "
        "separate process. skimbal checks its input, computes the channel statistics and keeps a "
        "history within the clock. The loop makes its grids with torch's affine_grid, which takes "
        "longer than the function of skimbal, above all for volumes.",
    ]
    title = (
        "CPU time of a fit with the untouched defaults, ratio to a plain loop of the same recipe"
    )
    write_report("recipe", args, {"times": times}, [(title, head, table(times))], notes)


if __name__ == "__main__":
    main()
