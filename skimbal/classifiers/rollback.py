"""An estimator after an error: as it was before, and without the memory of the call that failed."""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["let_go", "rolled_back_on_error"]

#: The errors that say that memory is not enough.
_NO_MEMORY = (MemoryError, torch.cuda.OutOfMemoryError)


@contextmanager
def rolled_back_on_error(estimator: object) -> Iterator[None]:
    """Leave the estimator as it was if there is an error before a new network trains.

    So it is if memory was not enough in the first epoch. A smaller fit finds the memory free, even
    if somebody keeps the error, as a notebook does.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException as error:
        # No variable here is a net: the traceback keeps this frame.
        lacks_memory, is_old = isinstance(error, _NO_MEMORY), _is_as_before(estimator, before)
        if lacks_memory and not is_old and _is_in_first_epoch(estimator):
            _dismantle(estimator)
            is_old = True
        if is_old:
            estimator.__dict__.clear()
            estimator.__dict__.update(before)
        if lacks_memory:
            _drop_gradients(estimator)
            let_go(error)
        raise


def let_go(error: BaseException) -> None:
    """Free the memory that an error holds by the local variables of the calls that it ended.

    A debugger does not show these variables any more.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    gc.collect()
    torch.cuda.empty_cache()


def _is_as_before(estimator: object, before: dict[str, Any]) -> bool:
    """Tell whether the estimator has the net that it had before, if any."""
    return vars(estimator).get("net_") is before.get("net_")


def _is_in_first_epoch(estimator: object) -> bool:
    """Tell whether the net has no whole epoch, so that nothing is lost with it."""
    return len(vars(estimator)["net_"].history) < 2


def _dismantle(estimator: object) -> None:
    """Take apart a net that nobody can use, as functions of ended frames may hold it."""
    for name in ("module_", "criterion_", "optimizer_"):
        vars(vars(estimator)["net_"]).pop(name, None)


def _drop_gradients(estimator: object) -> None:
    """Free the gradients of a step that has failed."""
    net = vars(estimator).get("net_")
    for parameter in () if net is None else net.module_.parameters():
        parameter.grad = None
