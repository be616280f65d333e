"""Balanced accuracy of ensembles of small bags: the untouched defaults against logistic regression.

``python -m benchmarks.ensembles`` fits imbalanced-learn's ensembles, at their defaults, on rows of
the embedded digits. Their estimator is a ``CNN2DClassifier`` that knows the shape of the rows, or a
logistic regression. A seed draws the images, the split and the bags. Each finished fit is kept in
``--cache``, so an interrupted run continues.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from imblearn.ensemble import BalancedBaggingClassifier, EasyEnsembleClassifier
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.measuring import command_line, progress, write_report
from skimbal import CNN2DClassifier
from skimbal.datasets import load_imbalanced_digits

ENSEMBLES = {"EasyEnsemble": EasyEnsembleClassifier, "BalancedBagging": BalancedBaggingClassifier}
ALONE = "alone"


def logistic_regression(**params: Any) -> BaseEstimator:
    """Make a logistic regression of scaled pixels that converges."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, **params))


MEMBERS: dict[str, Callable[[], BaseEstimator]] = {
    "LogisticRegression": logistic_regression,
    "LogisticRegression, balanced weights": lambda: logistic_regression(class_weight="balanced"),
    "CNN2DClassifier(input_shape=(8, 8))": lambda: CNN2DClassifier(input_shape=(8, 8)),
}


def fit_one(ensemble: str, member: str, seed: int, n_members: int, cache: Path) -> dict[str, Any]:
    """Fit with one seed, or read the result that an earlier run kept."""
    file = cache / f"{ensemble}-{member.split('(')[0]}-{seed}-{n_members}.json"
    if file.exists():
        kept: dict[str, Any] = json.loads(file.read_text())
        return kept
    data = load_imbalanced_digits(random_state=seed)
    X, X_test = (part.reshape(len(part), -1) for part in (data.X_train, data.X_test))
    estimator = MEMBERS[member]()
    if ensemble == ALONE:
        names = [name for name in estimator.get_params() if name.endswith("random_state")]
        model = estimator.set_params(**dict.fromkeys(names, seed))
    else:
        model = ENSEMBLES[ensemble](n_estimators=n_members, estimator=estimator, random_state=seed)
    start = time.process_time()
    predicted = model.fit(X, data.y_train).predict(X_test)
    result = {
        "ensemble": ensemble,
        "member": member,
        "seed": seed,
        "balanced_accuracy": float(balanced_accuracy_score(data.y_test, predicted)),
        "cpu_seconds": time.process_time() - start,
    }
    if ensemble != ALONE and member.startswith("CNN"):
        bag = model.estimators_[0]
        result["steps_of_a_bag"] = bag[-1].n_steps_
        result["batch_size"] = bag[-1].batch_size_
    file.write_text(json.dumps(result))
    progress(f"{file.stem}: {result['balanced_accuracy']:.3f}, {result['cpu_seconds']:.0f} s")
    return result


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], (*ENSEMBLES, ALONE))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("ensembles-cache"))
    args: argparse.Namespace = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    n_members = 2 if args.quick else 10
    # All seeds of the quick members first, and one seed of the networks after the other.
    cases = [
        (ensemble, member, seed)
        for is_network in (False, True)
        for seed in range(1 if args.quick else args.seeds)
        for ensemble in args.cases
        for member in MEMBERS
        if member.startswith("CNN") is is_network
    ]
    runs = [fit_one(*case, n_members, args.cache) for case in cases]
    rows = []
    for ensemble in args.cases:
        for member in MEMBERS:
            of_case = [r for r in runs if (r["ensemble"], r["member"]) == (ensemble, member)]
            scores = np.array([run["balanced_accuracy"] for run in of_case])
            rows.append(
                [
                    ensemble,
                    f"``{member}``" if "(" in member else member,
                    f"{scores.mean():.3f}",
                    ", ".join(f"{score:.3f}" for score in scores),
                    f"{np.mean([run['cpu_seconds'] for run in of_case]):.0f}",
                ]
            )
    steps = {run["steps_of_a_bag"] for run in runs if "steps_of_a_bag" in run}
    notes = [
        "Embedded digits as rows of pixels: 518 training and 216 test rows, of whose three classes "
        "two have 8 % each. A seed draws the images, the split and the bags. Ensembles have "
        f"{n_members} members. All other parameters are defaults. A bag of the networks trained "
        f"for {' or '.join(f'{n:,}' for n in sorted(steps))} steps.",
        "Other work ran on the machine, so the seconds of CPU time are too large.",
    ]
    head = ["ensemble", "estimator", "balanced accuracy, mean", "of each seed", "CPU seconds"]
    write_report("ensembles", args, {"runs": runs}, [("Test split", head, rows)], notes)


if __name__ == "__main__":
    main()
