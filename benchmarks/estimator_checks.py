"""Run the estimator checks of scikit-learn and imbalanced-learn, and write the results down.

``python -m benchmarks.estimator_checks`` runs every check for each classifier and loss, as the
tests do, and writes the page ``docs/estimator_checks.rst``.
"""

import os

# Read by scipy when it is first imported; without it one check would skip itself.
os.environ["SCIPY_ARRAY_API"] = "1"

import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import imblearn
import numpy as np
import sklearn
import skorch
import torch
from imblearn.utils.estimator_checks import estimator_checks_generator as imblearn_checks
from sklearn.utils.estimator_checks import estimator_checks_generator as sklearn_checks

from skimbal import CNN2DClassifier, CNN3DClassifier

CLASSIFIERS = (CNN2DClassifier, CNN3DClassifier)
#: "balanced_softmax" is not among them: it computes what "la" does, with its default strength.
LOSSES = ("ce+mcc", "ce", "wce", "focal", "f1", "ce+f1", "mcc", "la", "ldam")
#: The same checks run, in a fraction of the time.
QUICK = {"net": {"module__width": 4}, "max_epochs": 10, "lr": 1e-2}
PAGE = Path(__file__).parents[1] / "docs" / "estimator_checks.rst"


def seeded(check: Callable, estimator, seed: int) -> None:
    """Run a check with one seed for all that it leaves to chance."""
    np.random.seed(seed)  # noqa: NPY002 - imbalanced-learn's checks draw from the global state
    check(estimator.set_params(random_state=seed))


def checks(estimator) -> Iterator[tuple[str, str, Callable[[], None]]]:
    """Yield the library, the name and the call of each check that applies to an estimator."""
    for library, generator in (
        ("scikit-learn", sklearn_checks),
        ("imbalanced-learn", imblearn_checks),
    ):
        for instance, check in generator(estimator):
            name = getattr(check, "func", check).__name__
            keywords = getattr(check, "keywords", {})
            if keywords:
                name += "(" + ", ".join(f"{k}={v}" for k, v in keywords.items()) + ")"
            yield library, name, functools.partial(seeded, check, instance, seed=0)


def run(loss: str) -> dict[str, list[str]]:
    """Run the checks with one loss; return the outcomes for each, one per classifier."""
    outcomes: dict[str, list[str]] = {}
    for classifier in CLASSIFIERS:
        for library, name, check in checks(classifier(loss=loss)):
            outcome = "pass"
            try:
                check()
            except Exception as error:
                outcome = f"FAIL: {type(error).__name__}"
            outcomes.setdefault(f"{library}: {name}", []).append(outcome)
    return outcomes


def page(results: dict[str, dict[str, list[str]]]) -> str:
    """Write the outcomes as a page of the documentation."""
    names = list(results[LOSSES[0]])
    versions = ", ".join(
        f"{m.__name__} {m.__version__}" for m in (sklearn, imblearn, skorch, torch)
    )
    lines = [
        "Estimator checks",
        "================",
        "",
        "This page lists every check of scikit-learn and imbalanced-learn for a classifier that is",
        "also a transformer. The checks ran with warnings as errors and ``SCIPY_ARRAY_API=1``, for",
        ":class:`~skimbal.CNN2DClassifier` and :class:`~skimbal.CNN3DClassifier` with each loss.",
        "None is skipped. ``python -m benchmarks.estimator_checks`` writes this page, and the",
        "tests run the same checks. Tests that are not marked as slow run them with a smaller",
        "network and fewer epochs.",
        "",
        f"Versions: {versions}.",
        "",
        "A pure MCC loss passes because of its warm-up. With ``warmup_epochs=0`` it fails",
        "``check_class_weight_classifiers``. This check weights one class 10 million times as much",
        "as the other and expects nearly all predictions in the first class, but any separation of",
        "the training rows has the correlation 1 with any weights. The loss also collapses with",
        "some seeds of ``check_classifiers_with_encoded_labels``, which imbalanced-learn does not",
        "seed.",
        "",
        "Results",
        "-------",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    table = [["check", *(f"``{loss}``" for loss in LOSSES)]]
    for name in names:
        row = [f"``{name}``"]
        for loss in LOSSES:
            outcomes = results[loss][name]
            row.append(" / ".join(sorted(set(outcomes))))
        table.append(row)
    for row in table:
        lines += [f"   {'*' if i == 0 else ' '} - {entry}" for i, entry in enumerate(row)]
    passed = sum(o == "pass" for r in results.values() for outcomes in r.values() for o in outcomes)
    total = sum(len(outcomes) for r in results.values() for outcomes in r.values())
    lines += ["", f"{passed} of {total} runs pass.", ""]
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    results = {}
    for loss in LOSSES:
        results[loss] = run(loss)
        print(loss, {o for outcomes in results[loss].values() for o in outcomes}, flush=True)
    PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
