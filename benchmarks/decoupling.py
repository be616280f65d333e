"""Heads behind the features of a network: which of them helps, and does it matter what it has seen?

``python -m benchmarks.decoupling``. A network is trained on batches as they come, and each head of
:class:`~skimbal.decoupling.DecoupledClassifier` learns from the rows of the network, from a
held-out share of 0.3 behind a network of the other rows, or from the held-out rows of three folds.
``digits`` are scikit-learn's digits with noise: 0 to 7, 8 and 9. ``pneumonia`` is PneumoniaMNIST
with nine normal images for each ill one (from the folder that ``SKIMBAL_DATA`` names).
"""

import argparse
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from imblearn.over_sampling import SMOTE
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.measuring import command_line, parse, progress, write_report
from skimbal import CNN2DClassifier
from skimbal.datasets import load_npz
from skimbal.decoupling import DecoupledClassifier

Data = tuple[np.ndarray, np.ndarray]
#: Epochs of the networks. The last network has learnt its rows by heart.
CASES: dict[str, dict[str, Any]] = {
    "digits": {"max_epochs": 12},
    "digits, by heart": {"max_epochs": 30, "augment": None},
    "pneumonia": {"max_epochs": 12},
}


def digits(seed: int) -> tuple[Data, Data]:
    """Return noisy digits of three classes, of which two are rare, in training and test rows."""
    rng, data = np.random.default_rng(seed), load_digits()
    y = np.maximum(data.target - 7, 0)
    images = (data.images + rng.normal(scale=5, size=data.images.shape)).astype(np.float32)
    rows, others = train_test_split(np.arange(len(y)), test_size=0.5, stratify=y, random_state=seed)
    kept = [rows[y[rows] == k][:n] for k, n in enumerate((630, 40, 30))]
    rows = np.concatenate(kept)
    return (images[rows], y[rows]), (images[others], y[others])


def pneumonia(seed: int) -> tuple[Data, Data]:
    """Return 600 training rows, of which 60 are ill, and the test rows."""
    folder = Path(os.environ["SKIMBAL_DATA"]) / "pneumoniamnist"
    data = load_npz(folder / "pneumoniamnist_full_rebuilt.npz")
    y, rng = data.y_train.ravel(), np.random.default_rng(seed)
    kept = [rng.permutation(np.flatnonzero(y == k))[:n] for k, n in enumerate((540, 60))]
    rows = np.concatenate(kept)
    return (data.X_train[rows], y[rows]), (data.X_test, data.y_test.ravel())


def behind(network: Any, seed: int, **options: Any) -> DecoupledClassifier:
    """Return a head behind a network that is fitted."""
    return DecoupledClassifier(FrozenEstimator(network), random_state=seed, **options)


def heads(seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the heads by their names."""
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    weighted = LogisticRegression(class_weight="balanced", max_iter=2000)
    yield "cRT", {"max_epochs": 20}
    yield "LWS", {"head": "lws", "max_epochs": 20}
    yield "tau = 1", {"head": "tau", "tau": 1.0}
    yield "NCM", {"head": "ncm"}
    yield "logistic regression", {"head": regression}
    yield "logistic regression, balanced", {"head": make_pipeline(StandardScaler(), weighted)}
    smote = SMOTE(random_state=seed)
    yield "SMOTE, logistic regression", {"head": regression, "sampler": smote}


def measure(name: str, seed: int, epochs: int | None) -> dict[str, float]:
    """Return the balanced accuracy of each method on the test rows of one seed."""
    (X, y), (X_test, y_test) = pneumonia(seed) if name == "pneumonia" else digits(seed)
    options = {"module": "small", "random_state": seed, **CASES[name]}
    options["max_epochs"] = epochs or options["max_epochs"]
    uniform = CNN2DClassifier(sampler="uniform", **options)

    def score(model: Any) -> float:
        return float(balanced_accuracy_score(y_test, model.predict(X_test)))

    whole = CNN2DClassifier(sampler="uniform", **options).fit(X, y)
    balanced = CNN2DClassifier(sampler="balanced", epoch_length="uniform", **options).fit(X, y)
    found = {"uniform batches": score(whole), "balanced batches": score(balanced)}
    rows, others = train_test_split(np.arange(len(y)), test_size=0.3, stratify=y, random_state=seed)
    part = CNN2DClassifier(sampler="uniform", **options).fit(X[rows], y[rows])
    folds = list(StratifiedKFold(3, shuffle=True, random_state=seed).split(X, y))
    networks = [uniform.__sklearn_clone__().fit(X[train], y[train]) for train, _ in folds]
    for head, head_options in heads(seed):
        found[f"{head}: same rows"] = score(behind(whole, seed, **head_options).fit(X, y))
        model = behind(part, seed, **head_options).fit(X[others], y[others])
        found[f"{head}: share of 0.3"] = score(model)
        if head in ("LWS", "tau = 1", "NCM"):
            continue
        proba = [
            behind(network, seed, **head_options).fit(X[rest], y[rest]).predict_proba(X_test)
            for network, (_, rest) in zip(networks, folds, strict=True)
        ]
        mean = np.mean(proba, axis=0).argmax(axis=1)
        found[f"{head}: three folds"] = float(balanced_accuracy_score(y_test, mean))
    model = behind(part, seed, head="tau").fit(X[others], y[others])
    found["tau chosen: share of 0.3"] = score(model)
    model = behind(whole, seed, max_epochs=20, augment="light").fit(X, y)
    found["cRT, augmented: same rows"] = score(model)
    whole.set_params(logit_adjustment=1.0)
    found["uniform batches, logit_adjustment=1"] = score(whole)
    # The plain networks of the folds, to tell the heads from the mean of three networks.
    mean = np.mean([network.predict_proba(X_test) for network in networks], axis=0).argmax(axis=1)
    found["uniform batches, mean of three networks"] = float(balanced_accuracy_score(y_test, mean))
    return found


def main() -> None:
    parser: argparse.ArgumentParser = command_line(str(__doc__), CASES)
    parser.add_argument("--seeds", type=int, default=3)
    args = parse(parser)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", message="No tau changes")
    results: dict[str, dict[str, list[float]]] = {}
    start = time.process_time()
    for name in args.cases:
        of_case = results.setdefault(name, {})
        for seed in range(1 if args.quick else args.seeds):
            for method, value in measure(name, seed, 2 if args.quick else None).items():
                of_case.setdefault(method, []).append(value)
            progress(f"{name}, seed {seed}: {time.process_time() - start:.0f} CPU s")
    methods = list(next(iter(results.values())))
    table = [
        [
            method,
            *(
                f"{np.mean(r[method]):.3f} ({min(r[method]):.3f}-{max(r[method]):.3f})"
                for r in results.values()
            ),
        ]
        for method in methods
    ]
    notes = [
        "Balanced accuracy of the test rows: mean (least-greatest) over the seeds. "
        f"{time.process_time() - start:.0f} CPU seconds in all."
    ]
    write_report(
        "decoupling", args, results, [("Balanced accuracy", ["method", *results], table)], notes
    )


if __name__ == "__main__":
    main()
