"""The memory of a training step: the estimate before the fit, and the peak of the fit.

``python -m benchmarks.batch_memory`` fits each case for a few steps in a process of its own. The
measured number is the highest resident memory of the fit less the resident memory before it.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import (
    command_line,
    in_fresh_process,
    memory_in_use,
    parse,
    progress,
    write_report,
)
from skimbal import CNN2DClassifier, CNN3DClassifier, Pretrained, SliceNet
from skimbal.memory import estimate_memory

MIB = 2**20
#: Parameters of the classifier, shape of an image, rows in a batch.
CASES: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "small, 64 x 64": ({"module": "small"}, (1, 64, 64), 64),
    "small, 224 x 224": ({"module": "small"}, (1, 224, 224), 32),
    "residual, 224 x 224": ({}, (1, 224, 224), 32),
    "resnet18, 3 x 128 x 128": ({"module": "resnet18"}, (3, 128, 128), 32),
    "resnet18, SGD, 4 at once": (
        {"module": "resnet18", "optimizer": "sgd", "micro_batch_size": 4},
        (3, 128, 128),
        32,
    ),
    "residual, 32^3": ({}, (1, 32, 32, 32), 16),
    "residual, 64^3": ({}, (1, 64, 64, 64), 16),
    "resnet18, 32^3": ({"module": "resnet18"}, (1, 32, 32, 32), 16),
    "SliceNet of small, 64^3": ({"module": SliceNet("small")}, (1, 64, 64, 64), 8),
    "Pretrained EfficientNet-Lite0, 128 x 128": ({"module": "lite0"}, (3, 128, 128), 32),
}


def lite0() -> Any:
    """Make EfficientNet-Lite0 without weights."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def classifier(params: dict[str, Any], shape: tuple[int, ...], batch_size: int) -> Any:
    params = dict(params)
    if params.get("module") == "lite0":
        params["module"] = Pretrained(lite0)
    cls = CNN2DClassifier if len(shape) == 3 else CNN3DClassifier
    options = {"sampler": "uniform", "max_epochs": 1, "random_state": 0, "lr": 1e-4}
    return cls(batch_size=batch_size, **options, **params)


def fit_random(clf: Any, shape: tuple[int, ...], n_rows: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (n_rows, *shape), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.fit(images, np.arange(n_rows) % 2)


def measure(case: str, divisor: int) -> dict[str, float]:
    """Estimate the memory of a case, and fit it. Runs in a fresh process."""
    params, shape, batch_size = CASES[case]
    batch_size = max(4, batch_size // divisor)
    estimate = estimate_memory(classifier(params, shape, batch_size), shape)
    # What a first fit loads and keeps is not the memory of the step.
    fit_random(
        classifier({"module": "small"}, (shape[0], *[8] * (len(shape) - 1)), 4),
        (shape[0], *[8] * (len(shape) - 1)),
        8,
    )
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = memory_in_use("VmRSS")
    fit_random(classifier(params, shape, batch_size), shape, 3 * batch_size)
    peak = memory_in_use("VmHWM") - before
    return {
        "batch_size": batch_size,
        "estimate": estimate.total,
        "activations": estimate.activations,
        "measured": peak,
        "images": 3 * batch_size * int(np.prod(shape)),
    }


def row(case: str, result: dict[str, float]) -> Sequence[str]:
    measured = result["measured"] - result["images"]
    return [
        case,
        f"{result['batch_size']:.0f}",
        f"{result['estimate'] / MIB:.0f}",
        f"{measured / MIB:.0f}",
        f"{result['estimate'] / measured:.2f}",
    ]


def main() -> None:
    """Measure the cases, and write the report."""
    args = parse(command_line(__doc__, CASES))
    results = {}
    for case in args.cases:
        progress(case)
        results[case] = in_fresh_process(measure, case, 4 if args.quick else 1)
    head = ["network and images", "rows in a batch", "estimate, MiB", "measured, MiB", "ratio"]
    notes = [
        "Measured: the highest resident memory of a fit of three steps, less the resident memory "
        "before it and the images of the data set. Ratio: estimate by measured."
    ]
    rows = [row(case, result) for case, result in results.items()]
    write_report("batch_memory", args, results, [("Memory of a training step", head, rows)], notes)


if __name__ == "__main__":
    main()
