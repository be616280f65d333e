"""Errors about memory that is not enough, with the parameters that decide about it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from skimbal.classifiers.parameters import CNNClassifier
from skimbal.classifiers.rollback import let_go
from skimbal.classifiers.settings import Settings
from skimbal.training import TrainingNet, release_in_worker

__all__ = ["explained_in_prediction", "naming_memory"]

#: Words of torch for memory that is not there, which is a RuntimeError on the CPU.
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|unable to allocate|bad_alloc|out of memory",
    re.IGNORECASE,
)


class FittedClassifier(CNNClassifier, Protocol):
    """A classifier with its net."""

    net_: TrainingNet


@contextmanager
def naming_memory(estimator: CNNClassifier, settings: Settings, device: str) -> Iterator[None]:
    """Name the parameters of a fit that decide about memory in an error about memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        kind, others = _kind_and_others(error)
        raise kind(
            f"{reason}, with batch_size={settings.batch_size} and "
            f"micro_batch_size={estimator.micro_batch_size} on device={estimator.device!r}. A "
            "smaller micro_batch_size takes less memory and leaves the gradient of the whole batch "
            f"as it is. A smaller batch_size or crop_size takes less memory, too. {others}"
        ) from error
    finally:
        release_in_worker(device)


@contextmanager
def explained_in_prediction(estimator: FittedClassifier) -> Iterator[None]:
    """Name the size of a block in an error about the memory of a prediction."""
    net = estimator.net_
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        let_go(error)
        raise _kind_and_others(error)[0](
            f"{reason}, in a prediction on device={net.device!r}, for which batch_size and "
            "micro_batch_size do not count. Fewer rows at once take less memory: "
            "clf.net_.iterator_valid__batch_size = 1, or before a fit "
            "net={'iterator_valid__batch_size': 1}."
        ) from error


def _reason(error: Exception) -> str | None:
    """Return the words of an error about memory, or None for another error."""
    text = str(error)
    if not isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        if not _NO_MEMORY.search(text):
            return None
        text = text.rpartition("DefaultCPUAllocator: ")[2].partition(" Error code")[0]
    reason = text.partition(". GPU")[0].strip().rstrip(".")
    return f"{reason[0].upper()}{reason[1:]}" if reason else "There is not enough memory"


def _kind_and_others(error: Exception) -> tuple[type[Exception], str]:
    """Return the class of the error to raise, and further remedies."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return torch.cuda.OutOfMemoryError, (
            "So does dtype='bfloat16', or net={'iterator_train__memory_share': 0}, which keeps the "
            "images off the device."
        )
    return MemoryError, "Images can stay on the disk, as files or as a memory map."
