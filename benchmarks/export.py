"""Time of onnxruntime on exported classifiers, against predict_proba on the CPU.

``python -m benchmarks.export`` fits each built-in network to noise, writes its ONNX file, shows
that both give the same probabilities, and lets them predict in turn, one and 64 images at a time.
"""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.measuring import (
    command_line,
    in_fresh_process,
    interleaved,
    parse,
    progress,
    ratio_text,
    write_report,
)
from skimbal import CNN2DClassifier, CNN3DClassifier

#: Network and size of the images.
CASES = {
    **{f"{name} 2D": (name, (28, 28)) for name in ("small", "residual", "resnet18", "resnet34")},
    **{
        f"{name} 3D": (name, (28, 28, 28))
        for name in ("small", "residual", "resnet18", "resnet34", "slices")
    },
}
#: Images in a call, and calls in a round.
BATCHES = {1: 20, 64: 1}
REFERENCE, RUNTIME = "predict_proba", "onnxruntime"


def classifier(name: str, size: tuple[int, ...]) -> tuple[object, np.ndarray]:
    """Fit a classifier for two steps, and return it with images."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, size=(max(BATCHES), 1, *size), dtype=np.uint8)
    make = CNN2DClassifier if len(size) == 2 else CNN3DClassifier
    y = np.arange(len(X)) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = make(module=name, max_epochs=1, batch_size=32, random_state=0).fit(X[:32], y[:32])
    return clf, X


def repeated(run: Callable[[np.ndarray], object], X: np.ndarray, times: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(times):
            run(X)

    return call


def measure_case(case: str, rounds: int, quick: bool) -> dict:
    """Return times for each size of batch, the largest difference, and the size of the file."""
    clf, X = classifier(*CASES[case])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        clf.to_onnx(path)
        n_bytes = path.stat().st_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def by_runtime(images: np.ndarray) -> np.ndarray:
        return session.run(None, {"images": images})[0]

    difference = float(np.abs(by_runtime(X) - clf.predict_proba(X)).max())
    times = {}
    for n, n_calls in BATCHES.items():
        n_calls = 1 if quick else n_calls
        contestants = {
            REFERENCE: repeated(clf.predict_proba, X[:n], n_calls),
            RUNTIME: repeated(by_runtime, X[:n], n_calls),
        }
        found = interleaved(contestants, rounds, reference=REFERENCE)
        milliseconds = {
            name: 1000 * of["cpu_seconds"][1] / (n * n_calls) for name, of in found.items()
        }
        times[str(n)] = {"times": found, "milliseconds": milliseconds}
    return {"batches": times, "difference": difference, "bytes": n_bytes}


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], CASES, rounds=7)
    args = parse(parser)
    results = {}
    for case in args.cases:
        progress(case)
        results[case] = in_fresh_process(measure_case, case, args.rounds, args.quick)

    def cells(of: dict, n: str) -> list[str]:
        milliseconds = of["batches"][n]["milliseconds"]
        return [
            n,
            f"{milliseconds[REFERENCE]:.2f}",
            f"{milliseconds[RUNTIME]:.2f}",
            ratio_text(of["batches"][n]["times"][RUNTIME]["ratio"]),
            f"{of['bytes'] / 1e6:.1f}",
            f"{of['difference']:.0e}",
        ]

    tables = [
        (
            f"CPU time for an image, and ratio of {RUNTIME} to {REFERENCE}: median (quartiles)",
            [
                "network",
                "images in a call",
                f"{REFERENCE}, ms",
                f"{RUNTIME}, ms",
                "ratio",
                "file, MB",
                "largest difference",
            ],
            [[case, *cells(of, n)] for case, of in results.items() for n in of["batches"]],
        )
    ]
    notes = [
        f"Process CPU time of one thread, {args.rounds} interleaved rounds, each network in a "
        "separate process, with images of 28 voxels along each axis, uint8. A time is for one "
        "image, in calls of one image and of 64 images. predict_proba checks its input, "
        "onnxruntime does not. Other programs ran on the machine at the same time, so the times "
        "in milliseconds are longer than on an idle machine.",
    ]
    write_report("export", args, results, tables, notes)


if __name__ == "__main__":
    main()
