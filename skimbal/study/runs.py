"""The fits of a study."""

import json
import time
import warnings
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn import config_context
from sklearn.utils import _safe_indexing
from tqdm.auto import tqdm

from skimbal.study.fit_cache import FitCache, describe, describe_images, digest
from skimbal.study.plan import Configuration, Split, final_step, groups_argument, with_params
from skimbal.study.results import LossStudy, package_versions
from skimbal.study.scores import SCORES, score_model

__all__ = ["run_fits", "study_fingerprint"]


def run_fits(
    study: "LossStudy",
    splits: list[Split],
    data: tuple[Any, ...],
    scorer: Any,
    cache: "FitCache | None",
    done: dict[str, dict[str, Any]],
    n_jobs: int | None,
    verbose: int,
) -> None:
    """Fit what is not done yet; add each fit to the study, and to the cache, as it is finished."""
    todo = []
    for split in splits:
        for configuration in study.configurations:
            key = _key(configuration, split, study.scoring)
            if key in done:
                study.fits.append(done[key])
            else:
                todo.append((key, configuration, split))
    bar = tqdm(
        total=len(splits) * len(study.configurations),
        initial=len(study.fits),
        unit="fit",
        disable=not verbose,
    )
    results = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(_fit)(key, study.estimator, configuration, split, data, study.classes, scorer)
        for key, configuration, split in todo
    )
    shown: set[tuple[str, str]] = set()
    try:
        with bar:
            for key, fit, caught in results:
                if cache is not None:
                    cache.append(key, fit)
                study.fits.append(fit)
                bar.set_postfix_str(f"{fit['loss']}, {fit['sampler']}")
                bar.update()
                for category, text in caught:
                    if (category.__name__, text) not in shown:
                        shown.add((category.__name__, text))
                        warnings.warn(text, category, stacklevel=3)
    except BaseException as error:
        error.study = study  # type: ignore[attr-defined]
        if cache is not None:
            error.add_note(
                f"Finished fits, {len(study.fits)} of them, are in {cache.folder}; the same call "
                "goes on there."
            )
        raise
    finally:
        order = {(c.loss, c.sampler): i for i, c in enumerate(study.configurations)}
        study.fits.sort(key=lambda f: (order[f["loss"], f["sampler"]], f["repeat"], f["fold"]))


def _key(configuration: Configuration, split: Split, scoring: str) -> str:
    parts = (
        configuration.loss,
        configuration.sampler,
        describe(configuration.params),
        split.repeat,
        split.fold,
        # Other scores are there anyway.
        scoring if scoring not in SCORES and not scoring.startswith("f1[") else None,
    )
    return json.dumps(parts)


def _fit(
    key: str,
    estimator: Any,
    configuration: Configuration,
    split: Split,
    data: tuple[Any, ...],
    classes: np.ndarray,
    scorer: Any,
) -> tuple[str, dict[str, Any], list[tuple[type[Warning], str]]]:
    """Fit and score one configuration on one split; return the record and what it warned of."""
    X, y, groups, X_test, y_test = data
    rarest = int(np.argmin(np.bincount(np.searchsorted(classes, y))))
    if split.train is not None:
        X_test, y_test = _safe_indexing(X, split.test), y[split.test]
        X, y = _safe_indexing(X, split.train), y[split.train]
        groups = None if groups is None else groups[split.train]
    model = with_params(estimator, configuration.params, split.seed)
    classifier = final_step(model)
    if "iterator_train" not in (classifier.net or {}):
        classifier.set_params(net__iterator_train__epoch_length="uniform")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        # A pipeline is told which step the groups are for, which metadata routing has no words for.
        with config_context(enable_metadata_routing=False):
            model.fit(X, y, **groups_argument(model, groups))
        fitted = time.perf_counter()
        scores, confusion = score_model(model, X_test, y_test, classes, rarest, scorer)
    fit = {
        "loss": configuration.loss,
        "sampler": configuration.sampler,
        "repeat": split.repeat,
        "fold": split.fold,
        "seed": split.seed,
        "n_train": len(y),
        "n_test": len(y_test),
        "n_epochs": final_step(model).n_epochs_,
        "n_steps": int(sum(final_step(model).history_[:, "train_batch_count"])),
        "fit_time": round(fitted - start, 3),
        "score_time": round(time.perf_counter() - fitted, 3),
        "scores": scores,
        "confusion_matrix": confusion,
    }
    return key, fit, [(warning.category, str(warning.message)) for warning in caught]


def study_fingerprint(
    X: Any,
    y: np.ndarray,
    groups: np.ndarray | None,
    X_test: Any,
    y_test: np.ndarray | None,
    estimator: Any,
    splits: list[Split],
    seed: int,
) -> dict[str, Any]:
    """Return what has to be the same for fits to belong together; readable, as errors show it."""
    # Those of later repeats follow from the seed, and their number may grow.
    folds = [rows for split in splits if split.repeat == 0 for rows in (split.train, split.test)]
    return {
        "seed": seed,
        "data": {"X": describe_images(X), "y": digest(y), "groups": digest(groups)},
        "test set": {"X": describe_images(X_test), "y": digest(y_test)},
        "folds": digest(*folds),
        # What the configurations and the study set themselves is no part of it.
        "estimator": describe(with_params(estimator, {"loss": "ce", "sampler": None}, 0)),
        "versions": package_versions(),
    }
