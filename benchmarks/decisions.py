"""Risks and decisions of three imbalanced classes, after balanced training: which step does what.

``python -m benchmarks.decisions``. One part of the rows trains a network on balanced batches, one
calibrates and tunes, one gives the scores. ``digits`` are scikit-learn's digits with noise: 0 to 7,
8 and 9. ``x-rays`` are PneumoniaMNIST (from the folder that ``SKIMBAL_DATA`` names) as normal, with
pneumonia, and blurred here, such as by motion.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from joblib import Parallel, delayed
from scipy.ndimage import uniform_filter1d
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss
from sklearn.model_selection import train_test_split

from benchmarks.measuring import command_line, parse, progress, write_report
from skimbal import CNN2DClassifier
from skimbal.datasets import load_npz
from skimbal.thresholds import (
    CostMatrixClassifier,
    PriorCorrectedClassifier,
    TunedOffsetsClassifierCV,
    mean_cost,
)

#: Costs by true class and decision: the first class is the frequent one.
COSTS = np.array([[0, 1, 1], [10, 0, 2], [10, 2, 0]])
SMALL = {"module": "small", "lr": 3e-3}


def digits(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy digits of three classes, of which two are rare."""
    data = load_digits()
    y = np.maximum(data.target - 7, 0)
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(y == k))[:n] for k, n in enumerate((1400, 120, 80))]
    )
    images = data.images[rows] + rng.normal(scale=5, size=(len(rows), 8, 8))
    return images.astype(np.float32), y[rows]


def x_rays(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return X-rays of three classes: normal, pneumonia and blurred."""
    folder = Path(os.environ["SKIMBAL_DATA"]) / "pneumoniamnist"
    data = load_npz(folder / "pneumoniamnist_full_rebuilt.npz")
    X = np.concatenate([data.X_train, data.X_val, data.X_test])
    y = np.concatenate([data.y_train, data.y_val, data.y_test]).ravel()
    normal, ill = (rng.permutation(np.flatnonzero(y == k)) for k in (0, 1))
    # Blurred images are other images, of both kinds, as they are in the population.
    clear = np.concatenate([normal[:1300], ill[:180]])
    blurred = X[np.concatenate([normal[1300:1400], ill[180:194]])].astype(np.float32)
    blurred = uniform_filter1d(blurred, 3, axis=1).round().astype(X.dtype)
    labels = np.concatenate([np.zeros(1300, int), np.ones(180, int), np.full(len(blurred), 2)])
    return np.concatenate([X[clear], blurred]), labels


@dataclass(frozen=True)
class Case:
    """A data set and the length of its training, in epochs of the frequent class."""

    load: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
    epochs: int
    augment: str | None


CASES = {
    "digits": Case(digits, 6, "light"),
    "digits, known by heart": Case(digits, 30, None),
    "x-rays": Case(x_rays, 6, "light"),
}


def calibrate(model: Any, X: np.ndarray, y: np.ndarray, method: str) -> Any:
    """Calibrate a fitted model."""
    return CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(X, y)


def to_labels(model: Any, X: np.ndarray, y: np.ndarray, training_prior: str) -> Any:
    """Move the probabilities to the prior of the calibration rows."""
    corrected = PriorCorrectedClassifier(FrozenEstimator(model), training_prior=training_prior)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The class .* has a share")
        return corrected.fit(X, y)


def tuned(model: Any, X: np.ndarray, y: np.ndarray, scoring: Any) -> Any:
    """Tune offsets on the calibration rows."""
    options = {"scoring": scoring, "cv": "prefit", "refit": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The offsets do not help")
        return TunedOffsetsClassifierCV(model, **options).fit(X, y)


def models_of(
    case: Case, epochs: int, seed: int, X: Any, y: Any, X_cal: Any, y_cal: Any
) -> dict[str, Any]:
    """Return the probabilities to compare, by name."""
    options = {**SMALL, "augment": case.augment, "max_epochs": epochs, "random_state": seed}
    balanced = CNN2DClassifier(sampler="balanced", epoch_length="uniform", **options).fit(X, y)
    uniform = CNN2DClassifier(sampler="uniform", **options).fit(X, y)
    models = {"balanced batches": balanced}
    for method in ("sigmoid", "isotonic", "temperature"):
        models[method] = calibrate(balanced, X_cal, y_cal, method)
    for first, model in (("", balanced), ("temperature, ", models["temperature"])):
        models[f"{first}prior"] = to_labels(model, X_cal, y_cal, "auto")
        models[f"{first}prior estimated"] = to_labels(model, X_cal, y_cal, "estimated")
    corrected = models["prior estimated"]
    models["prior estimated, temperature"] = calibrate(corrected, X_cal, y_cal, "temperature")
    models["uniform batches"] = uniform
    models["uniform batches, temperature"] = calibrate(uniform, X_cal, y_cal, "temperature")
    return models


def scores_of(model: Any, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the scores of decisions."""
    predicted = model.predict(X)
    return {
        "balanced accuracy": balanced_accuracy_score(y, predicted),
        "macro F1": f1_score(y, predicted, average="macro"),
        "cost": mean_cost(y, predicted, cost_matrix=COSTS, labels=[0, 1, 2]),
    }


def measure(name: str, seed: int, quick: bool) -> dict[str, dict[str, dict[str, float]]]:
    """Return the scores of risks and of decisions on one split."""
    progress(f"{name}, seed {seed}")
    case = CASES[name]
    X, y = case.load(np.random.default_rng(seed))
    X_train, X_rest, y_train, y_rest = train_test_split(
        X, y, train_size=0.5, stratify=y, random_state=seed
    )
    X_cal, X_test, y_cal, y_test = train_test_split(
        X_rest, y_rest, train_size=0.5, stratify=y_rest, random_state=seed
    )
    epochs = 1 if quick else case.epochs
    models = models_of(case, epochs, seed, X_train, y_train, X_cal, y_cal)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for probabilities, model in models.items():
        proba = model.predict_proba(X_test)
        # Sums of float32 are not 1 to the precision that scikit-learn asks for.
        proba = proba / proba.sum(1, keepdims=True)
        decisions = {
            "most probable class": model,
            "costs": CostMatrixClassifier(model, cost_matrix=COSTS),
            "offsets for balanced accuracy": tuned(model, X_cal, y_cal, "balanced_accuracy"),
            "offsets for macro F1": tuned(model, X_cal, y_cal, "f1_macro"),
            "offsets for costs": tuned(model, X_cal, y_cal, COSTS),
        }
        with warnings.catch_warnings():
            # Costs without a correction of the prior are a row of the table.
            warnings.filterwarnings("ignore", message="The training rows have the class shares")
            found[probabilities] = {
                how: scores_of(one, X_test, y_test) for how, one in decisions.items()
            }
        found[probabilities]["risks"] = {
            "log loss": log_loss(y_test, proba, labels=[0, 1, 2]),
            "rare classes": float(proba[:, 1:].sum(1).mean()),
            "rows of rare classes": float((y_test > 0).mean()),
        }
    return found


def summary(runs: list[dict[str, Any]], name: str, how: str, score: str) -> str:
    """Return mean and standard deviation over the seeds."""
    values = [run[name][how][score] for run in runs]
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def tables_of(case: str, runs: list[dict[str, Any]]) -> list[Any]:
    """Return the table of risks and the table of decisions."""
    names = list(runs[0])
    share = np.mean([run[names[0]]["risks"]["rows of rare classes"] for run in runs])
    risks = [
        [
            name,
            summary(runs, name, "most probable class", "balanced accuracy"),
            summary(runs, name, "risks", "log loss"),
            summary(runs, name, "risks", "rare classes"),
        ]
        for name in names
    ]
    head = (
        "probabilities",
        "balanced accuracy of the most probable class",
        "log loss (natural logarithm)",
        f"mean probability of the rare classes (share {share:.3f})",
    )
    decisions = [
        [
            name,
            summary(runs, name, "offsets for balanced accuracy", "balanced accuracy"),
            summary(runs, name, "most probable class", "macro F1"),
            summary(runs, name, "offsets for macro F1", "macro F1"),
            summary(runs, name, "most probable class", "cost"),
            summary(runs, name, "costs", "cost"),
            summary(runs, name, "offsets for costs", "cost"),
        ]
        for name in names
    ]
    decision_head = (
        "probabilities",
        "balanced accuracy, offsets for it",
        "macro F1",
        "macro F1, offsets for it",
        "cost",
        "cost, CostMatrixClassifier",
        "cost, offsets for it",
    )
    return [
        (f"Risks: {case}", head, risks),
        (f"Decisions: {case}", decision_head, decisions),
    ]


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], CASES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="fits at the same time")
    args = parse(parser)
    n_seeds = 2 if args.quick else args.seeds
    runs = [(name, seed) for seed in range(n_seeds) for name in args.cases]
    found = Parallel(n_jobs=args.jobs)(delayed(measure)(*run, args.quick) for run in runs)
    results: dict[str, Any] = {
        name: [one for run, one in zip(runs, found, strict=True) if run[0] == name]
        for name in args.cases
    }
    tables = [table for name, of_case in results.items() for table in tables_of(name, of_case)]
    notes = [
        f"Mean and standard deviation over {n_seeds} seeds, each with its split, rows and weights: "
        "half of the rows train, a quarter calibrates and tunes, a quarter gives the scores. "
        "``prior`` moves the probabilities to the shares of the calibration rows, from the prior "
        "that the sampler tells, or from an *estimated* one, as these rows tell it. "
        "A cost is the mean of a row: 10 for a rare row that is called frequent, 2 for the "
        "wrong rare class, 1 for a false alarm. Names tell the steps after the training, in their "
        "order. Balanced and uniform batches train for the same number of steps.",
        "x-rays: the third class is made here of other X-rays by a moving average of three pixels.",
    ]
    write_report("decisions", args, {"runs": results}, tables, notes)


if __name__ == "__main__":
    main()
