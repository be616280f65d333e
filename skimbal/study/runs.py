"""The fits of a study."""

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from sklearn import config_context

from skimbal.classifiers.machine import check_device
from skimbal.classifiers.resuming import TABLES
from skimbal.classifiers.settings import BARE_ROWS, FINE_TUNING, IMAGES
from skimbal.exceptions import warn_caller
from skimbal.fingerprints import (
    PACKAGES,
    code_digest,
    describe,
    describe_images,
    digest,
    identity,
    package_version,
    patches,
    text_digest,
)
from skimbal.images import FORMATS, ImageFiles
from skimbal.images.cache import decoder_versions
from skimbal.progress import Bar
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
from skimbal.study.sharing import Caught, Outcome, recorded, share
from skimbal.training import device_type
from skimbal.typing import Classifier

__all__ = ["run_fits"]

#: Tables to which a user may add rows. Worker processes need these rows.
_TABLES = (*TABLES, FORMATS)


def run_fits(
    study: LossStudy,
    splits: list[Split],
    data: StudyData,
    scorers: Mapping[str, Scorer],
    *,
    cache: FitCache | None,
    n_jobs: int | None,
    verbose: int | bool,
) -> None:
    """Run the fits that are not done yet. Add each finished fit to the study and the cache."""
    shown: set[tuple[str, str]] = set()
    done: dict[str, Fit] = {}
    told: Caught = []
    pairs = [(split, configuration) for split in splits for configuration in study.configurations]
    keys = [str(number) for number in range(len(pairs))]
    if cache is not None:
        with naming_cache_dir(cache):
            keys = _keys(splits, study.configurations, scorers)
            fingerprint = _study_fingerprint(data, study.estimator, splits, study.seed)
        done, told = recorded(lambda: cache.open(fingerprint, keys))
    tasks = {
        key: partial(_fit, study.estimator, configuration, split, data, scorers, _TABLES)
        for key, (split, configuration) in zip(keys, pairs, strict=True)
        if key not in done
    }
    study.fits += done.values()
    bar = Bar(total=study.n_planned, initial=len(done), unit="fit", disable=not verbose)
    outcomes = share(tasks, cache, n_jobs=n_jobs, say=partial(_say, bar))
    try:
        with bar, closing(outcomes):
            for _, fit, caught in chain([Outcome("", None, told)], outcomes):
                if fit is not None:
                    study.fits.append(fit)
                    bar.set_postfix_str(f"{fit.loss}, {fit.sampler}")
                    bar.update()
                for category, text in caught:
                    if (category.__name__, text) not in shown:
                        shown.add((category.__name__, text))
                        warn_caller(text, category)
    except BaseException as error:
        error.study = study  # type: ignore[attr-defined]
        if cache is not None and (n_kept := cache.count(keys)):
            error.add_note(
                f"Finished fits, {n_kept} of them, are in {cache.folder}. The same call goes on "
                "there."
            )
        raise
    finally:
        order = {(c.loss, c.sampler): i for i, c in enumerate(study.configurations)}
        study.fits.sort(key=lambda fit: (order[fit.loss, fit.sampler], fit.repeat, fit.fold))


def _say(bar: Bar, text: str) -> None:
    """Write a line above a progress bar, if there is one."""
    if not bar.disable:
        bar.write(text, file=sys.stderr)


def _keys(
    splits: Sequence[Split], configurations: Sequence[Configuration], scorers: Mapping[str, Scorer]
) -> list[str]:
    """Return the key of each fit, split by split. A description takes long, and is made once."""
    described = [(c, describe(c.params)) for c in configurations]
    firsts = [
        (c.loss, c.sampler, identity(params), _describe_rows(params)) for c, params in described
    ]
    # Every fit has all other scores.
    last = [(name, identity(describe(scorer))) for name, scorer in scorers.items()]
    keys = []
    for split in splits:
        of_split = (split.repeat, split.fold, split.seed, digest(split.train, split.test))
        keys += [json.dumps((*first, of_split, last)) for first in firsts]
    return keys


def _describe_rows(description: object) -> dict[str, str]:
    """Describe the rows of tables that parameters name. A user may put another row in their place.

    The names of rows are words of texts, such as ``"ce+0.5*recall"``, and of a ``LossMix``.
    """
    words = set(re.findall(r"\w+", json.dumps(description)))
    if "auto" in words:
        words |= set(re.findall(r"\w+", repr((IMAGES, FINE_TUNING, BARE_ROWS))))
    return {
        word: identity(describe(table[word]))
        for table in _TABLES
        for word in sorted(words & set(table))
    }


def _fit(
    estimator: Classifier,
    configuration: Configuration,
    split: Split,
    data: StudyData,
    scorers: Mapping[str, Scorer],
    tables: Sequence[dict[str, Any]],
) -> Fit:
    """Fit and score one configuration on one split."""
    for table, entries in zip(_TABLES, tables, strict=True):
        table.update(entries)
    classes, rarest = data.classes, int(np.argmin(data.counts))
    rows = data.of(split)
    assert rows.y_test is not None
    model = with_params(estimator, configuration.params, split.seed)
    start = time.perf_counter()
    # The groups are an argument of one named step, which metadata routing cannot express.
    with config_context(enable_metadata_routing=False):
        model.fit(rows.X, rows.y, **groups_argument(model, rows.groups))
    fitted = time.perf_counter()
    scores, confusion = judge(model, rows.X_test, rows.y_test, classes, rarest, scorers)
    classifier = final_step(model)
    return Fit(
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


def _study_fingerprint(
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
    """Describe the settings of the process: defaults, kinds of numbers and of the device."""
    return {
        "values of auto": text_digest(repr((IMAGES, FINE_TUNING, BARE_ROWS))),
        "default dtype": str(torch.get_default_dtype()),
        "precision of float32": torch.get_float32_matmul_precision(),
        "device": device_type(check_device(classifier.get_params(deep=False)["device"])),
    }
