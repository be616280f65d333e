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
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import estimator_checks_generator as sklearn_checks

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.decoupling import DecoupledClassifier

CLASSIFIERS = (CNN2DClassifier, CNN3DClassifier)
#: "balanced_softmax" is not among them: it computes what "la" does, with its default strength.
LOSSES = ("ce+mcc", "ce", "wce", "focal", "f1", "ce+f1", "mcc", "la", "ldam")
#: Losses that differ from one of the above in the weights of the rows only.
WEIGHTED_LOSSES = ("cb", "cb_focal", "drw", "ldam_drw")
#: Parameters of DecoupledClassifier by the name of the head.
HEADS: dict[str, dict] = {
    "crt": {"max_epochs": 60, "lr": 0.03},
    "lws": {"head": "lws", "max_epochs": 20, "lr": 0.03},
    "tau": {"head": "tau", "tau": 0.5},
    "ncm": {"head": "ncm"},
    "LogisticRegression": {"head": LogisticRegression(max_iter=1000)},
}
#: A check that sets folds, which "ncm" and a given tau refuse, and then asks for features, which
#: several networks do not share.
WITH_FOLDS = "check_sample_weight_equivalence_on_dense_data"
#: A check that asks for right decisions between two imbalanced classes, which "lws" and "tau"
#: hardly move.
OF_TWO_CLASSES = "check_classifiers_with_encoded_labels"
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


def behind_head(head: str) -> DecoupledClassifier:
    """Return a small classifier with a head."""
    return DecoupledClassifier(CNN2DClassifier(**QUICK), **HEADS[head])


def fails_by_design(head: str, name: str) -> bool:
    """Tell whether a head cannot pass a check, for a reason that the page states."""
    return name == WITH_FOLDS or (head in ("lws", "tau") and name == OF_TWO_CLASSES)


def run(*estimators) -> dict[str, list[str]]:
    """Run the checks for some estimators; return the outcomes for each check."""
    outcomes: dict[str, list[str]] = {}
    for estimator in estimators:
        for library, name, check in checks(estimator):
            outcome = "pass"
            try:
                check()
            except Exception as error:
                outcome = f"FAIL: {type(error).__name__}"
            outcomes.setdefault(f"{library}: {name}", []).append(outcome)
    return outcomes


def run_head(head: str) -> dict[str, list[str]]:
    """Run the checks for a head. A failure that the page explains is a failure by design."""
    found = run(behind_head(head))
    for name, outcomes in found.items():
        if fails_by_design(head, name.partition(": ")[2]):
            found[name] = ["see above" if one != "pass" else one for one in outcomes]
    return found


def _table(results: dict[str, dict[str, list[str]]]) -> list[str]:
    """Write a table with a column for each loss or head."""
    columns, names = list(results), list(next(iter(results.values())))
    table = [["check", *(f"``{column}``" for column in columns)]]
    for name in names:
        cells = [" / ".join(sorted(set(results[column][name]))) for column in columns]
        table.append([f"``{name}``", *cells])
    head = [".. list-table::", "   :header-rows: 1", ""]
    return head + [
        f"   {'*' if i == 0 else ' '} - {cell}" for row in table for i, cell in enumerate(row)
    ]


def _count(results: dict[str, dict[str, list[str]]]) -> str:
    found = [one for of in results.values() for outcomes in of.values() for one in outcomes]
    return f"{found.count('pass')} of {len(found)} runs pass."


def page(
    results: dict[str, dict[str, list[str]]],
    weighted: dict[str, dict[str, list[str]]],
    heads: dict[str, dict[str, list[str]]],
) -> str:
    """Write the outcomes as a page of the documentation."""
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
        *_table(results),
        "",
        _count(results),
        "",
        "Class-balanced and deferred weights",
        "-----------------------------------",
        "",
        "These losses differ from a loss above in the weights of the rows. Their checks ran for",
        "both classifiers with the smaller network and fewer epochs. Such a fit may predict one",
        "class, so ``ConvergenceWarning`` was not an error.",
        "",
        *_table(weighted),
        "",
        _count(weighted),
        "",
        "Heads",
        "-----",
        "",
        "The heads of :class:`~skimbal.decoupling.DecoupledClassifier` behind the smaller",
        ":class:`~skimbal.CNN2DClassifier`, in the same way.",
        "",
        f"- ``{WITH_FOLDS}`` sets ``cv`` to folds and then calls",
        "  ``transform``, which several networks cannot answer with one set of features. ``ncm``",
        "  and a given ``tau`` refuse folds. Without ``transform``, ``crt`` and ``lws`` pass it.",
        f"- ``{OF_TWO_CLASSES}`` asks for right decisions between two",
        "  imbalanced classes, which ``lws`` and ``tau`` hardly move.",
        "",
        *_table(heads),
        "",
        _count(heads),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    results = {loss: run(*(kind(loss=loss) for kind in CLASSIFIERS)) for loss in LOSSES}
    warnings.simplefilter("ignore", ConvergenceWarning)
    weighted = {
        loss: run(*(kind(loss=loss, **QUICK) for kind in CLASSIFIERS)) for loss in WEIGHTED_LOSSES
    }
    PAGE.write_text(page(results, weighted, {head: run_head(head) for head in HEADS}))


if __name__ == "__main__":
    main()
