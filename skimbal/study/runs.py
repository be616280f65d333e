"""The fits of a study."""

import json
import multiprocessing
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn import config_context

from skimbal.augmentation import RECIPES
from skimbal.classifiers.parameters import check_device
from skimbal.classifiers.settings import BARE_ROWS, FINE_TUNING, IMAGES
from skimbal.fingerprints import (
    PACKAGES,
    code_digest,
    describe,
    describe_images,
    digest,
    package_version,
    patches,
    text_digest,
)
from skimbal.images import FORMATS, ImageFiles
from skimbal.images.cache import decoder_versions
from skimbal.losses import TERMS
from skimbal.networks import BUILT_IN
from skimbal.networks.slices import POOLINGS
from skimbal.progress import Bar
from skimbal.sampling import STRATEGIES
from skimbal.study.fit_cache import FitCache, naming_cache_dir
from skimbal.study.plan import (
    Configuration,
    Split,
    StudyData,
    final_step,
    groups_argument,
    with_params,
)
from skimbal.study.results import LossStudy, package_versions
from skimbal.study.scores import Fit, Scorer, judge
from skimbal.training import OPTIMIZERS, SCHEDULES, device_type
from skimbal.typing import Classifier

__all__ = ["run_fits", "study_fingerprint"]

#: Tables to which a user may add rows. Worker processes need these rows.
_TABLES: tuple[dict[str, Any], ...] = (
    *(TERMS, STRATEGIES, BUILT_IN, RECIPES, FORMATS, SCHEDULES, OPTIMIZERS, POOLINGS),
)


def run_fits(
    study: LossStudy,
    splits: list[Split],
    data: StudyData,
    scorers: Mapping[str, Scorer],
    *,
    cache: FitCache | None,
    done: Mapping[str, Fit],
    n_jobs: int | None,
    verbose: int | bool,
) -> None:
    """Run the fits that are not done yet. Add each finished fit to the study and the cache."""
    todo = []
    for split in splits:
        for configuration in study.configurations:
            key = ""
            if cache is not None:
                with naming_cache_dir(cache.folder):
                    key = _key(configuration, split, scorers)
            if key in done:
                study.fits.append(done[key])
            else:
                todo.append((key, configuration, split))
    bar = Bar(total=study.n_planned, initial=len(study.fits), unit="fit", disable=not verbose)
    results = _make_parallel(n_jobs)(
        delayed(_fit)(key, study.estimator, configuration, split, data, scorers, _TABLES)
        for key, configuration, split in todo
    )
    shown: set[tuple[str, str]] = set()
    try:
        with bar:
            for key, fit, caught in results:
                if cache is not None:
                    cache.append(key, fit)
                study.fits.append(fit)
                bar.set_postfix_str(f"{fit.loss}, {fit.sampler}")
                bar.update()
                for category, text in caught:
                    if (category.__name__, text) not in shown:
                        shown.add((category.__name__, text))
                        warnings.warn(text, category, stacklevel=3)
    except BaseException as error:
        error.study = study  # type: ignore[attr-defined]
        if cache is not None:
            error.add_note(
                f"Finished fits, {len(study.fits)} of them, are in {cache.folder}. The same call "
                "goes on there."
            )
        raise
    finally:
        order = {(c.loss, c.sampler): i for i, c in enumerate(study.configurations)}
        study.fits.sort(key=lambda fit: (order[fit.loss, fit.sampler], fit.repeat, fit.fold))


def _make_parallel(n_jobs: int | None) -> Parallel:
    """Make the loop of joblib, and leave the start method of multiprocessing open if it is open."""
    is_open = multiprocessing.get_start_method(allow_none=True) is None
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    if is_open:
        multiprocessing.set_start_method(None, force=True)
    return parallel


def _key(configuration: Configuration, split: Split, scorers: Mapping[str, Scorer]) -> str:
    params = describe(configuration.params)
    parts = (
        configuration.loss,
        configuration.sampler,
        _text_digest_of(params),
        _describe_rows(params),
        (split.repeat, split.fold, split.seed, digest(split.train, split.test)),
        # Every fit has all other scores.
        [(name, _text_digest_of(describe(scorer))) for name, scorer in scorers.items()],
    )
    return json.dumps(parts)


def _text_digest_of(description: object) -> str:
    return text_digest(json.dumps(description, sort_keys=True))


def _describe_rows(description: object) -> dict[str, str]:
    """Describe the rows of tables that parameters name. A user may put another row in their place.

    The names of rows are words of texts, such as ``"ce+0.5*recall"``, and of a ``LossMix``.
    """
    words = set(re.findall(r"\w+", json.dumps(description)))
    if "auto" in words:
        words |= set(re.findall(r"\w+", repr((IMAGES, FINE_TUNING, BARE_ROWS))))
    return {
        word: _text_digest_of(describe(table[word]))
        for table in _TABLES
        for word in sorted(words & set(table))
    }


def _fit(
    key: str,
    estimator: Classifier,
    configuration: Configuration,
    split: Split,
    data: StudyData,
    scorers: Mapping[str, Scorer],
    tables: Sequence[dict[str, Any]],
) -> tuple[str, Fit, list[tuple[type[Warning], str]]]:
    """Fit and score one configuration on one split. Return the fit and its warnings."""
    for table, entries in zip(_TABLES, tables, strict=True):
        table.update(entries)
    classes, rarest = data.classes, int(np.argmin(data.counts))
    rows = data.of(split)
    assert rows.y_test is not None
    model = with_params(estimator, configuration.params, split.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        # The groups are an argument of one named step, which metadata routing cannot express.
        with config_context(enable_metadata_routing=False):
            model.fit(rows.X, rows.y, **groups_argument(model, rows.groups))
        fitted = time.perf_counter()
        scores, confusion = judge(model, rows.X_test, rows.y_test, classes, rarest, scorers)
    classifier = final_step(model)
    fit = Fit(
        loss=configuration.loss,
        sampler=configuration.sampler,
        repeat=split.repeat,
        fold=split.fold,
        seed=split.seed,
        n_train=len(rows.y),
        n_test=len(rows.y_test),
        n_epochs=classifier.n_epochs_,
        n_steps=classifier.n_steps_,
        fit_time=round(fitted - start, 3),
        score_time=round(time.perf_counter() - fitted, 3),
        scores=scores,
        confusion_matrix=confusion,
    )
    return key, fit, [(warning.category, str(warning.message)) for warning in caught]


def study_fingerprint(
    data: StudyData, estimator: Classifier, splits: list[Split], seed: int
) -> dict[str, Any]:
    """Describe a study. Fits belong together if the descriptions are equal. Errors show them."""
    # The folds of later repeats follow from the seed, and their number may grow.
    folds = [rows for split in splits if split.repeat == 0 for rows in (split.train, split.test)]
    # The study and its configurations set the loss, the sampler and the seed.
    described = describe(
        with_params(estimator, {"loss": "ce", "sampler": "uniform"}, 0), "estimator"
    )
    reads_files = isinstance(data.X, ImageFiles) or isinstance(data.X_test, ImageFiles)
    return {
        "seed": seed,
        "data": {
            "X": describe_images(data.X),
            "y": digest(data.y),
            "groups": digest(data.groups),
        },
        "test set": {"X": describe_images(data.X_test), "y": digest(data.y_test)},
        "folds": digest(*folds),
        "estimator": described,
        "rows of tables": _describe_rows(described),
        "formats": describe(FORMATS) if reads_files else None,
        "settings": _describe_settings(final_step(estimator)),
        "versions": package_versions(),
        "code": {name: package_version(name) for name in sorted(PACKAGES)},
        "patches": {name: code_digest(value, name) for name, value in patches()},
        "decoders": decoder_versions() if reads_files else None,
    }


def _describe_settings(classifier: Classifier) -> dict[str, str]:
    """Describe the settings of the process: kinds of numbers and of the device."""
    return {
        "default dtype": str(torch.get_default_dtype()),
        "precision of float32": torch.get_float32_matmul_precision(),
        "device": device_type(check_device(classifier.get_params(deep=False)["device"])),
    }
