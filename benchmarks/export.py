"""Time of onnxruntime and OpenVINO on exported classifiers, against predict_proba on the CPU.

``python -m benchmarks.export`` fits each built-in network to noise, writes its ONNX file, shows
that all give the same probabilities, and lets them predict in turn, one and 64 images at a time.
The network itself, called by torch on images that are standardised already, shows what checks and
prepared weights cost and save. OpenVINO is a contestant where it is installed.
"""

import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
import torch

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
    **{f"{name} 2D": (name, (64, 64)) for name in ("small", "residual", "resnet18", "resnet34")},
    **{f"{name} 3D": (name, (28, 28, 28)) for name in ("small", "residual", "slices")},
    **{f"{name} 3D": (name, (32, 32, 32)) for name in ("resnet18", "resnet34")},
}
#: Images in a call, and calls in a round.
BATCHES = {1: 20, 64: 1}
REFERENCE, NETWORK = "predict_proba", "network in torch"
RUNTIME, OPENVINO = "onnxruntime", "OpenVINO"


def classifier(name: str, size: tuple[int, ...]) -> tuple[object, np.ndarray]:
    """Fit a classifier for two steps, and return it with images."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, size=(max(BATCHES), 1, *size), dtype=np.uint8)
    make = CNN2DClassifier if len(size) == 2 else CNN3DClassifier
    y = np.arange(len(X)) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = make(module=name, n_tta=1, max_epochs=1, batch_size=32, random_state=0)
        clf.fit(X[:32], y[:32])
    return clf, X


def repeated(run: Callable[[np.ndarray], object], X: np.ndarray, times: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(times):
            run(X)

    return call


def by_onnxruntime(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def by_openvino(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path, "CPU", {**options, "PERFORMANCE_HINT": "LATENCY"})
    return lambda images: model([images])[0]


def by_torch(clf: object) -> Callable[[np.ndarray], object]:
    module = clf.net_.module_.eval()

    def run(images: np.ndarray) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(images)).softmax(1)

    return run


def runtimes(path: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the runtimes that are installed, with a loaded file."""
    found = {RUNTIME: by_onnxruntime(path)}
    with suppress(ImportError):
        found[OPENVINO] = by_openvino(path)
    return found


def measure_case(case: str, rounds: int, quick: bool) -> dict:
    """Return times for each size of batch, the largest difference, and the size of the file."""
    clf, X = classifier(*CASES[case])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        clf.to_onnx(path)
        n_bytes = path.stat().st_size
        others = runtimes(path)
    proba = clf.predict_proba(X)
    difference = max(float(np.abs(run(X) - proba).max()) for run in others.values())
    times = {}
    for n, n_calls in BATCHES.items():
        n_calls = 1 if quick else n_calls
        everyone = {REFERENCE: clf.predict_proba, NETWORK: by_torch(clf), **others}
        contestants = {name: repeated(run, X[:n], n_calls) for name, run in everyone.items()}
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

    names = [REFERENCE, NETWORK, RUNTIME, OPENVINO]

    def cells(of: dict, n: str) -> list[str]:
        batch = of["batches"][n]
        found = [name for name in names if name in batch["milliseconds"]]
        milliseconds = {name: f"{batch['milliseconds'][name]:.2f}" for name in found}
        ratios = {name: ratio_text(batch["times"][name]["ratio"]) for name in found}
        return [
            n,
            *(milliseconds.get(name, "not installed") for name in names),
            *(ratios.get(name, "not installed") for name in names[2:]),
            f"{of['bytes'] / 1e6:.1f}",
            f"{of['difference']:.0e}",
        ]

    tables = [
        (
            f"CPU time for an image in milliseconds, and ratio to {REFERENCE}: median (quartiles)",
            [
                "network",
                "images in a call",
                *names,
                *(f"{name}, ratio" for name in names[2:]),
                "file, MB",
                "largest difference",
            ],
            [[case, *cells(of, n)] for case, of in results.items() for n in of["batches"]],
        )
    ]
    notes = [
        f"Process CPU time of one thread, {args.rounds} interleaved rounds, each network in a "
        "separate process, with images of 64 x 64 pixels, 28 x 28 x 28 or, for the ResNets, 32 x "
        "32 x 32 voxels, uint8. A time is for one image, in calls of one image and of 64 images. "
        "predict_proba checks its input, the others do not. One pass (n_tta=1). Other programs ran "
        "on the machine at the same time, so times are longer than on an idle machine.",
    ]
    write_report("export", args, results, tables, notes)


if __name__ == "__main__":
    main()
