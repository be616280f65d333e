"""Share of test sets whose intervals hold the truth, by the kind of test set and of bootstrap.

``python -m benchmarks.intervals`` draws test sets of 500 images, 10 % of them ill, and evaluates
each with ``stratify=False`` and with ``stratify=True``. In a cohort the number of ill images is
chance. In a case-control set it is 50. The decision value of an image is normal, around 2 for ill
images and around 0 for healthy images, so the truth of each score is known.
"""

import numpy as np
from scipy.stats import norm

from benchmarks.measuring import command_line, parse, progress, write_report
from skimbal.evaluation import Evaluation, OperatingPoint, evaluate_predictions

N, SHARE, DISTANCE, N_BOOTSTRAPS = 500, 0.1, 2.0, 500
CASES = ("cohort", "case-control set")
SCORES = ("precision", "sensitivity", "f1", "roc_auc", "npv")
AT_THRESHOLD = ("sensitivity", "specificity", "precision", "npv")


def truths(threshold: float) -> dict[str, float]:
    """Return the scores of the ill class in the population, taken from a decision value on."""
    sensitivity, alarms = norm.sf(threshold - DISTANCE), norm.sf(threshold)
    hits, taken = SHARE * sensitivity, SHARE * sensitivity + (1 - SHARE) * alarms
    return {
        "sensitivity": sensitivity,
        "specificity": 1 - alarms,
        "precision": hits / taken,
        "npv": (1 - SHARE) * (1 - alarms) / (1 - taken),
        "f1": 2 * hits / (SHARE + taken),
        "roc_auc": norm.cdf(DISTANCE / np.sqrt(2)),
    }


def draw(case: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and probabilities, of which half is a decision value of 1."""
    is_ill = rng.random(N) < SHARE if case == "cohort" else np.arange(N) < SHARE * N
    p = norm.cdf(rng.normal(DISTANCE * is_ill) - 1)
    return is_ill.astype(int), np.column_stack([1 - p, p])


def holds(found: Evaluation) -> dict[str, bool]:
    """Tell which intervals hold the truth."""
    truth, held = truths(1.0), {}
    for score in SCORES:
        row = found.find(score, "1")
        held[score] = row.low <= truth[score] <= row.high
    point: OperatingPoint = found.operating_points[2]  # the ill class at a sensitivity of 0.9
    truth = truths(1 + norm.ppf(point.threshold))
    for score in AT_THRESHOLD:
        low, high = point.intervals[score]
        held[f"{score} at the threshold"] = low <= truth[score] <= high
    return held


def main() -> None:
    args = parse(command_line(__doc__.splitlines()[0], CASES))
    n_sets = 10 if args.quick else 1000
    results: dict[str, dict[str, dict[str, float]]] = {}
    for case in args.cases:
        rng = np.random.default_rng(0)
        held: dict[str, list[dict[str, bool]]] = {"False": [], "True": []}
        for number in range(n_sets):
            if number % 50 == 0:
                progress(f"{case}, {number} of {n_sets}")
            y, proba = draw(case, rng)
            for stratify, rows in held.items():
                found = evaluate_predictions(
                    y,
                    proba,
                    [0, 1],
                    n_bootstraps=N_BOOTSTRAPS,
                    stratify=stratify == "True",
                    random_state=number,
                )
                rows.append(holds(found))
        results[case] = {
            stratify: {score: float(np.mean([row[score] for row in rows])) for score in rows[0]}
            for stratify, rows in held.items()
        }
    head = ["score of the ill class"]
    head += [f"{case}, stratify={stratify}" for case in results for stratify in ("False", "True")]
    columns = [found for of_case in results.values() for found in of_case.values()]
    rows = [
        [score, *(f"{100 * column[score]:.1f} %" for column in columns)] for score in columns[0]
    ]
    title = f"Share of {n_sets} test sets whose 95 % interval holds the truth"
    write_report("intervals", args, results, [(title, head, rows)])


if __name__ == "__main__":
    main()
