"""Class weights, margins and mixtures of images on two imbalanced sets, at equal steps.

Run as ``python -m benchmarks.methods``. Every row trains the same network for the same number of
steps from the same initial weights. The test rows are scored, and nothing is chosen by them. Each
finished fit is kept in ``--cache``, so an interrupted run continues.
"""

import argparse
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from benchmarks.measuring import command_line, parse, progress, write_report
from skimbal import CNN2DClassifier
from skimbal.datasets import load_imbalanced_digits, load_npz
from skimbal.wording import plural

#: Parameters of the classifier by the names of the rows.
ROWS: dict[str, dict[str, Any]] = {
    "ERM": {"loss": "ce"},
    "RS": {"loss": "ce", "sampler": "balanced"},
    "RW": {"loss": "wce"},
    "CB": {"loss": "cb"},
    "DRW": {"loss": "drw"},
    "LDAM": {"loss": "ldam"},
    "LDAM-DRW": {"loss": "ldam_drw"},
    "balanced softmax": {"loss": "balanced_softmax"},
    "mixup": {"loss": "ce", "augment": "mixup"},
    "mixup-DRW": {"loss": "drw", "augment": "mixup"},
    "Remix-DRW": {"loss": "drw", "augment": "remix"},
    "MAMix-DRW": {"loss": "drw", "augment": "mamix"},
}
#: The same for all rows.
COMMON: dict[str, Any] = {
    "module": "small",
    "augment": None,
    "sampler": "uniform",
    "epoch_length": "uniform",
    "batch_size": 64,
}
SCORES = ("balanced accuracy", "F1 of the rarest class", "AUC")


def _digits() -> tuple[Any, int]:
    return load_imbalanced_digits(), 30


def _pneumonia() -> tuple[Any, int]:
    folder = Path(os.environ["SKIMBAL_DATA"]) / "pneumoniamnist"
    return load_npz(folder / "pneumoniamnist_imb9to1_varun19424.npz"), 12


#: Functions that return a data set and the number of epochs.
CASES: dict[str, Callable[[], tuple[Any, int]]] = {
    "digits": _digits,
    "PneumoniaMNIST 9:1": _pneumonia,
}


def measure(data: Any, params: dict[str, Any], epochs: int, seed: int) -> dict[str, float]:
    """Fit a row and score the test rows."""
    clf = CNN2DClassifier(max_epochs=epochs, random_state=seed, **(COMMON | params))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        clf.fit(data.X_train, data.y_train)
    proba = clf.predict_proba(data.X_test)
    predicted = clf.classes_[proba.argmax(1)]
    y, labels = data.y_test, clf.classes_
    rarest = labels[np.argmin([np.sum(data.y_train == label) for label in labels])]
    binary = len(labels) == 2
    auc = roc_auc_score(y, proba[:, 1] if binary else proba, multi_class="ovr", labels=labels)
    f1 = f1_score(y == rarest, predicted == rarest)
    return dict(zip(SCORES, (balanced_accuracy_score(y, predicted), f1, auc), strict=True))


def run(case: str, args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Fit every row with every seed, or read the result that an earlier run kept."""
    data, epochs = CASES[case]()
    epochs = 1 if args.quick else epochs
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ROWS}
    # All rows of a seed first, so that an interrupted run compares equal seeds.
    for seed in range(1 if args.quick else args.seeds):
        stem = f"{case.replace(':', '-')}-{{}}-{seed}-{epochs}.json"
        files = {name: args.cache / stem.format(name) for name in ROWS}
        if args.finished and not all(file.exists() for file in files.values()):
            break
        for name, file in files.items():
            if not file.exists():
                file.write_text(json.dumps(measure(data, ROWS[name], epochs, seed)))
                progress(f"{file.stem}: {file.read_text()}")
            found[name].append(json.loads(file.read_text()))
    return found


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], CASES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("methods-cache"))
    parser.add_argument(
        "--finished", action="store_true", help="write the seeds of which all rows are kept"
    )
    args = parse(parser)
    args.cache.mkdir(parents=True, exist_ok=True)
    results = {case: run(case, args) for case in args.cases}
    tables = []
    for case, found in results.items():
        rows = []
        for name, of_seeds in found.items():
            values = np.array([[one[score] for score in SCORES] for one in of_seeds])
            cells = [f"{mean:.3f}" for mean in values.mean(0)]
            if len(values) > 1:
                spread = values.std(0, ddof=1)
                cells = [f"{cell} ± {s:.3f}" for cell, s in zip(cells, spread, strict=True)]
            params = ", ".join(f"{k}={v!r}" for k, v in ROWS[name].items())
            rows.append([name, f"``{params}``", *cells])
        n_seeds = len(next(iter(found.values())))
        title = f"{case}, {CASES[case]()[1]} epochs, {plural(n_seeds, 'seed')}"
        tables.append((title, ("method", "parameters", *SCORES), rows))
    notes = [
        "Mean and standard deviation over the seeds of weights and batches, on one "
        "split. All rows of a table have the same network (``small``), batches of 64, and the same "
        "number of steps. ``sampler='uniform'`` and no augmentation where nothing else is said. "
        "Options have their defaults. No row was tuned.",
    ]
    write_report("methods", args, results, tables, notes)


if __name__ == "__main__":
    main()
