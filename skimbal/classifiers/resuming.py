"""Fits that go on from a file: which fits are the same."""

import inspect
from collections.abc import Iterator
from typing import Any, Protocol

from skimbal.augmentation import RECIPES
from skimbal.callbacks import Resume
from skimbal.classifiers.assembly import NewNet
from skimbal.classifiers.inputs import Rows
from skimbal.classifiers.parameters import CNNClassifier
from skimbal.exceptions import ParameterError
from skimbal.fingerprints import (
    PACKAGES,
    UndescribedError,
    code_digest,
    describe_images,
    digest,
    package_version,
)
from skimbal.losses import TERMS
from skimbal.networks import BUILT_IN
from skimbal.networks.slices import POOLINGS
from skimbal.sampling import STRATEGIES
from skimbal.training import (
    LOGGERS,
    OPTIMIZERS,
    SCHEDULES,
    Processes,
    Resumption,
    device_type,
)
from skimbal.typing import RandomState

__all__ = ["TABLES", "prepare_resumption"]

#: Parameters that change no result of a fit, or that have a description of their own.
_APART = {"callbacks", "device", "random_state", "verbose", "warm_start"}
#: Tables whose rows parameters may name. A user may add rows, or put another row in place of one.
TABLES: tuple[dict[str, Any], ...] = (
    *(TERMS, STRATEGIES, BUILT_IN, RECIPES, SCHEDULES, OPTIMIZERS, POOLINGS),
)


class ResumableClassifier(CNNClassifier, Protocol):
    """A classifier, as far as its parameters decide about a fit."""

    random_state: RandomState

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters."""


def prepare_resumption(
    estimator: ResumableClassifier,
    whole: bool,
    rows: Rows,
    start: NewNet,
    seed: int,
    device: str,
    processes: Processes,
) -> tuple[int, Resumption | None]:
    """Look for the state of an interrupted fit of the same estimator to the same rows.

    Returns the seed of the fit, and its file if there is a Resume among the callbacks.
    """
    resume = _find_resume(estimator, whole)
    if resume is None:
        return seed, None
    is_seed_fixed = start.previous is not None or estimator.random_state is not None
    try:
        known_seed = seed if is_seed_fixed else None
        key = _key(estimator, rows, start, known_seed, device, processes)
    except UndescribedError as error:
        raise ParameterError(
            "callbacks",
            f"a list without Resume if {error}",
            resume,
            "A file outlives the program, and an edited part of the fit must be noticed.",
        ) from error
    of_file = resume.folder, key, seed, is_seed_fixed, resume.seconds
    resumption = Resumption(*of_file, processes, bool(estimator.verbose))
    return resumption.seed, resumption


def _find_resume(estimator: ResumableClassifier, whole: bool) -> Resume | None:
    found = [(n, cb) for n, cb in _named(estimator.callbacks) if isinstance(cb, Resume)]
    if not found:
        return None
    name, resume = found[0]
    if len(found) > 1:
        raise ParameterError("callbacks", "a list with one Resume at most", estimator.callbacks)
    if not whole:
        raise ParameterError(
            "callbacks",
            "a list without Resume for partial_fit",
            estimator.callbacks,
            "partial_fit trains one epoch, after which the estimator itself can be saved.",
        )
    path = f"callbacks__{name or 'Resume'}__"
    if any(option.startswith(path) for option in estimator.net or ()):
        raise ParameterError("net", f"a dict without {path}...", estimator.net, "Set Resume anew.")
    resume.check()
    return resume


def _key(
    estimator: ResumableClassifier,
    rows: Rows,
    start: NewNet,
    seed: int | None,
    device: str,
    processes: Processes,
) -> str:
    """Return a checksum of everything that decides about a fit."""
    params = {n: v for n, v in estimator.get_params(deep=False).items() if n not in _APART}
    data = rows.data
    facts = {
        "data": describe_images(data.source),
        "rows": digest(data.rows, data.y, rows.labels, data.sample_weight, rows.group_of_row),
        "shape": data.sample_shape,
        "seed": seed,
        "processes": processes.n_processes,
        "device": device_type(device),
        "versions": [package_version(package) for package in sorted(PACKAGES)],
    }
    values = {"estimator": type(estimator), **params, "tables": TABLES}
    values["callbacks"] = list(_described_callbacks(estimator))
    if start.previous is not None:
        weights = start.previous.module_.state_dict().values()
        facts["weights"] = digest(*(tensor.numpy(force=True) for tensor in weights))
        facts["epochs"] = start.n_epochs
    parts = [code_digest(facts, "the data")]
    parts += [code_digest(value, name) for name, value in values.items()]
    return code_digest(parts, "the fit")


def _named(callbacks: object) -> Iterator[tuple[str, Any]]:
    for entry in callbacks or ():  # type: ignore[attr-defined]
        yield entry if isinstance(entry, tuple) else ("", entry)


def _described_callbacks(
    estimator: ResumableClassifier,
) -> Iterator[tuple[str, object, dict[str, object]]]:
    """Yield the class and parameters of each callback that results may depend on.

    Other attributes are the state of the callback, which a fit changes. So are parameters that
    ``net`` sets, which is described by itself.
    """
    for name, callback in _named(estimator.callbacks):
        if isinstance(callback, type):
            yield name, callback, {}
        elif not isinstance(callback, Resume) and type(callback) not in LOGGERS:
            path = f"callbacks__{name or type(callback).__name__}__"
            is_set = [option.removeprefix(path) for option in estimator.net or ()]
            names = {*inspect.signature(type(callback)).parameters, "kwargs"}.difference(is_set)
            yield name, type(callback), {n: v for n, v in vars(callback).items() if n in names}
