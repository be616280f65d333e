"""Fits that several workers and processes share."""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

import torch.distributed as dist
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from skimbal.exceptions import ParameterError
from skimbal.study.fit_cache import FitCache
from skimbal.study.scores import Fit
from skimbal.typing import Classifier

__all__ = ["Caught", "Outcome", "check_alone", "recorded", "share"]

#: Makes a fit, in this process or a worker.
_Task: TypeAlias = Callable[[], Fit]
#: Warnings, with their categories.
Caught: TypeAlias = list[tuple[type[Warning], str]]


_Result = TypeVar("_Result")


class Outcome(NamedTuple):
    """The result of a turn: a fit, or None if another process is at it, and warnings."""

    key: str
    fit: Fit | None
    caught: Caught


def share(
    tasks: Mapping[str, _Task],
    cache: FitCache | None,
    *,
    n_jobs: int | None,
    say: Callable[[str], None],
) -> Generator[Outcome, None, None]:
    """Make fits, or take them from the cache if other processes have made them.

    Parameters
    ----------
    tasks : dict of str to callable
        A function that makes each fit, by the keys of the cache.
    cache : FitCache or None
        Where the processes share, if they do.
    n_jobs : int or None
        Number of workers, as in joblib.
    say : callable
        Is called with a line when only fits of other processes are left.

    Yields
    ------
    outcome : Outcome
        Each fit once, and the warnings of a turn without a fit.
    """
    left = dict(tasks)
    try:
        while left:
            turns = _make_parallel(n_jobs)(
                delayed(_take_turn)(key, task, cache) for key, task in list(left.items())
            )
            try:
                for outcome in turns:
                    if outcome.fit is not None:
                        del left[outcome.key]
                    yield outcome
            finally:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # joblib warns of results that nobody takes
                    turns.close()
            if left and cache is not None:
                cache.wait(list(left), say)
    except BaseException:
        if cache is not None:
            cache.give_back()
        raise


def check_alone(classifier: Classifier, cache: FitCache) -> None:
    """Refuse a cache for processes that train one network, as each would claim other fits."""
    n_processes = int(os.environ.get("WORLD_SIZE", 1))
    if dist.is_available() and dist.is_initialized():
        n_processes = dist.get_world_size()
    if n_processes > 1 and classifier.get_params(deep=False)["distributed"]:
        raise ParameterError(
            "cache_dir",
            f"None with distributed=True in {n_processes} processes",
            str(cache.folder),
            "Set distributed=False. The processes then share the fits of the folder.",
        )


def _make_parallel(n_jobs: int | None) -> Parallel:
    """Make the loop of joblib, and leave the start method of multiprocessing open if it is open."""
    backend, _ = get_active_backend()
    if not backend.supports_return_generator:
        raise ParameterError(
            "n_jobs",
            "used with a backend of joblib that returns results one by one",
            f"parallel_config(backend={type(backend).__name__})",
            'Use backend="loky" or backend="threading".',
        )
    is_open = multiprocessing.get_start_method(allow_none=True) is None
    # A batch of fits that others are at would grow, and then hold several long fits.
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)
    if is_open:
        multiprocessing.set_start_method(None, force=True)
    return parallel


def recorded(function: Callable[[], _Result]) -> tuple[_Result, Caught]:
    """Return a result, and the warnings on the way to it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function()
    return result, [(warning.category, str(warning.message)) for warning in caught]


def _take_turn(key: str, task: _Task, cache: FitCache | None) -> Outcome:
    fit, caught = recorded(lambda: _found_or_made(key, task, cache))
    return Outcome(key, fit, caught)


def _found_or_made(key: str, task: _Task, cache: FitCache | None) -> Fit | None:
    if cache is None:
        return task()
    found = cache.read(key)
    if found is not None:
        return found
    with cache.claim(key) as is_ours:
        if not is_ours:
            return None
        found = cache.read(key)  # another process may have finished it before the claim
        return cache.write(key, task()) if found is None else found
