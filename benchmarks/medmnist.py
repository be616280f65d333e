"""Losses on real medical images: VesselMNIST3D and two PneumoniaMNIST sets, official splits.

Run as ``python -m benchmarks.medmnist``. Every fit that is done is kept in ``--cache`` and not
repeated, so an interrupted run goes on where it stopped. Nothing is chosen by looking at the test
split: the best configuration and the decision threshold come from the validation split.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

# Before torch: a second thread on a busy core makes everything slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import imblearn
import numpy as np
import sklearn
import skorch
import torch
from joblib import Parallel, delayed
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    matthews_corrcoef,
    roc_auc_score,
    roc_curve,
)
from torch import Tensor, nn

import skimbal
from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix
from skimbal.datasets import load_medmnist, load_npz
from skimbal.networks import SmallCNN

RESULTS = Path(__file__).parent / "results"
DATA_SETS = {
    # name: (epochs in an hour on two cores, epochs without that limit)
    "vesselmnist3d": (30, 100),
    "pneumoniamnist_full": (10, 50),
    "pneumoniamnist_9to1": (10, 50),
}
# (loss, sampler, batch size): each loss against "ce" at the same sampling and batch size.
CONFIGURATIONS = [
    ("ce", None, 32),
    ("ce+f1", None, 32),
    ("ce+mcc", None, 32),
    ("ce", "balanced", 32),
    ("ce+f1", "balanced", 32),
    ("ce+mcc", "balanced", 32),
    ("ce", None, 10),
    ("mcc", None, 10),
]
SCORES = ["auc", "ap", "balanced_accuracy", "balanced_accuracy_tuned", "f1_macro", "mcc"]


class FlippedInTraining(nn.Module):
    """A network whose training images are mirrored at random along each axis.

    The committed results have the flips that are drawn here. ``augment="flip"`` draws others.
    """

    def __init__(self, in_channels: int, n_classes: int, spatial_shape: tuple, flip: bool) -> None:
        super().__init__()
        self.network = SmallCNN(in_channels, n_classes, spatial_shape)
        self.flip = flip

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.flip:
            for axis in range(2, x.ndim):
                mirrored = torch.rand(len(x)) < 0.5
                x[mirrored] = x[mirrored].flip(axis)
        return self.network(x)


def load(name: str):
    """Load a data set; the PneumoniaMNIST sets are re-builds, hence files of their own."""
    if name == "vesselmnist3d":
        return load_medmnist(name)
    folder = Path(os.environ["SKIMBAL_DATA"]) / "pneumoniamnist"
    file = {
        "pneumoniamnist_full": "pneumoniamnist_full_rebuilt.npz",
        "pneumoniamnist_9to1": "pneumoniamnist_imb9to1_varun19424.npz",
    }[name]
    return load_npz(folder / file)


def evaluate(y: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    predicted = probability > 0.5
    return {
        "auc": roc_auc_score(y, probability),
        "ap": average_precision_score(y, probability),
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "balanced_accuracy_tuned": balanced_accuracy_score(y, probability >= threshold),
        "f1_macro": f1_score(y, predicted, average="macro"),
        "mcc": matthews_corrcoef(y, predicted),
        "share_predicted_1": float(predicted.mean()),
    }


def fit_one(name, loss, sampler, batch_size, seed, epochs, device, cache: Path) -> dict:
    """Fit one configuration with one seed, or read what an earlier run kept."""
    key = f"{name}-{loss}-{sampler}-{batch_size}-{epochs}-{seed}.json"
    if (cache / key).exists():
        return json.loads((cache / key).read_text())
    torch.set_num_threads(1)
    data = load(name)
    y = data.y_train
    if sampler == "balanced":
        # A balanced epoch repeats the rare class. The same number of steps for all, so that no
        # configuration buys its score with longer training.
        epochs = max(1, round(epochs * len(y) / (2 * np.bincount(y).max())))
    in_3d = data.ndim == 3
    classifier = (CNN3DClassifier if in_3d else CNN2DClassifier)(
        loss=LossMix.from_expression(loss, warmup_epochs=0),  # as it was proposed
        sampler=sampler,
        augment=None,
        module=FlippedInTraining,
        # A mirrored chest is not a chest, but a mirrored vessel is a vessel.
        net={"module__spatial_shape": data.X_train.shape[-data.ndim :], "module__flip": in_3d},
        optimizer="adam",
        lr=1e-3,
        lr_schedule="cosine",
        max_epochs=epochs,
        batch_size=batch_size,
        device=device,
        random_state=seed,
    )
    start = time.process_time()
    classifier.fit(data.X_train, y)
    seconds = time.process_time() - start
    validation = classifier.predict_proba(data.X_val)[:, 1]
    # Youden's threshold on the validation split maximises balanced accuracy there.
    false_positive, true_positive, thresholds = roc_curve(data.y_val, validation)
    threshold = thresholds[np.argmax(true_positive - false_positive)]
    test = classifier.predict_proba(data.X_test)[:, 1]
    result = {
        "data": name,
        "loss": loss,
        "sampler": sampler or "uniform",
        "batch_size": batch_size,
        "seed": seed,
        "epochs": epochs,
        "cpu_seconds": round(seconds, 1),
        "validation": evaluate(data.y_val, validation, threshold),
        "test": evaluate(data.y_test, test, threshold),
    }
    (cache / key).write_text(json.dumps(result))
    print(f"{key}: test AUC {result['test']['auc']:.3f}, {seconds:.0f} s", file=sys.stderr)
    return result


def summarise(results: list[dict]) -> list[dict]:
    """Mean and spread over seeds for each configuration, and the difference to ce beside it."""
    rows = []
    groups: dict[tuple, list[dict]] = {}
    for result in results:
        key = tuple(result[k] for k in ("data", "sampler", "batch_size", "loss"))
        groups.setdefault(key, []).append(result)
    for (data, sampler, batch_size, loss), runs in groups.items():
        runs.sort(key=lambda run: run["seed"])
        reference = groups.get((data, sampler, batch_size, "ce"), [])
        row = {"data": data, "sampler": sampler, "batch_size": batch_size, "loss": loss}
        row["seeds"] = len(runs)
        row["collapsed"] = sum(run["test"]["share_predicted_1"] in (0.0, 1.0) for run in runs)
        for split in ("validation", "test"):
            for score in SCORES:
                values = np.array([run[split][score] for run in runs])
                row[f"{split}_{score}"] = [values.mean(), values.std(ddof=1)]
                if split == "test" and loss != "ce" and len(reference) == len(runs):
                    gain = values - [run[split][score] for run in reference]
                    row[f"gain_{score}"] = [gain.mean(), gain.std(ddof=1)]
        rows.append(row)
    return rows


def report(rows: list[dict], machine: dict) -> str:
    """Write the table as reStructuredText, for people and for the documentation."""

    def cell(value):
        return "" if value is None else f"{value[0]:.3f} ± {value[1]:.3f}"

    columns = ["auc", "balanced_accuracy", "balanced_accuracy_tuned", "f1_macro", "mcc"]
    heads = ["AUC", "balanced accuracy", "the same, threshold tuned", "macro F1", "MCC"]
    text = []
    for name in DATA_SETS:
        mine = [row for row in rows if row["data"] == name]
        if not mine:
            continue
        best = max(mine, key=lambda row: row["validation_auc"][0])
        text += [f".. list-table:: {name}, test split, {mine[0]['seeds']} seeds, mean ± std"]
        text += ["   :header-rows: 1", ""]
        head = ["sampler", "batch", "loss", *heads, "balanced accuracy - ce", "collapsed"]
        lines = [head]
        for row in mine:
            mark = " (*)" if row is best else ""
            lines.append(
                [row["sampler"], str(row["batch_size"]), row["loss"] + mark]
                + [cell(row[f"test_{score}"]) for score in columns]
                + [cell(row.get("gain_balanced_accuracy")), f"{row['collapsed']}/{row['seeds']}"]
            )
        for line in lines:
            text += [f"   {'*' if i == 0 else ' '} - {entry}" for i, entry in enumerate(line)]
        text += ["", f"(*) best mean AUC on validation: {cell(best['validation_auc'])}.", ""]
    text += ["Machine: " + "; ".join(f"{key} {value}" for key, value in machine.items()) + ".", ""]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time, one thread each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="as many epochs as it takes")
    parser.add_argument("--cache", type=Path, default=Path("medmnist-cache"))
    parser.add_argument("--output", type=Path, default=RESULTS / "medmnist.json")
    args = parser.parse_args()
    if "SKIMBAL_DATA" not in os.environ:
        parser.error("set SKIMBAL_DATA to the folder that holds the MedMNIST files")
    args.cache.mkdir(parents=True, exist_ok=True)
    results = Parallel(n_jobs=args.jobs)(
        delayed(fit_one)(
            name, *configuration, seed, DATA_SETS[name][args.full], args.device, args.cache
        )
        for seed in range(args.seeds)
        for name in args.data
        for configuration in CONFIGURATIONS
    )
    machine = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
        "device": args.device,
        "jobs": args.jobs,
        "threads a job": 1,
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (skimbal, torch, skorch, sklearn, imblearn, np)},
        "cpu minutes in fits": round(sum(run["cpu_seconds"] for run in results) / 60),
    }
    rows = summarise(results)
    args.output.write_text(
        json.dumps({"machine": machine, "rows": rows, "runs": results}, indent=1)
    )
    args.output.with_suffix(".rst").write_text(report(rows, machine))
    print(report(rows, machine))


if __name__ == "__main__":
    main()
