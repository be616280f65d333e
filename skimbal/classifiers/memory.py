"""Errors about memory that is not enough, with the parameters that decide about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from skimbal.classifiers.parameters import CNNClassifier, is_auto
from skimbal.classifiers.settings import Settings
from skimbal.training import (
    Place,
    TrainingNet,
    are_short_of_memory,
    is_cuda,
    place_of,
    release_memory,
)

__all__ = ["explained_in_prediction", "naming_memory"]


class FittedClassifier(CNNClassifier, Protocol):
    """A classifier with its net."""

    net_: TrainingNet


@contextmanager
def naming_memory(estimator: CNNClassifier, settings: Settings, device: str) -> Iterator[None]:
    """Name the parameters of a fit that decide about memory in an error about memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not are_short_of_memory(error):
            raise
        advice = "This was not in a training step, so a smaller micro_batch_size would not help."
        if place_of(error) is Place.STEP:
            advice = _advice_for_step(estimator)
        raise _kind(error)(
            f"{_reason(error)}, with batch_size={settings.batch_size} and "
            f"micro_batch_size={estimator.micro_batch_size!r} on device={estimator.device!r}. "
            f"{advice} {_other_advice(estimator, device)}"
        ) from error
    finally:
        release_memory(device)


@contextmanager
def explained_in_prediction(estimator: FittedClassifier) -> Iterator[None]:
    """Name the remedies in an error about the memory of a prediction."""
    net = estimator.net_
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not are_short_of_memory(error):
            raise
        if place_of(error) is Place.BLOCK:
            advice = "A single row did not fit. Free memory that other programs and tensors hold"
            advice += _on_the_cpu(net.device)
        else:
            advice = (
                "Fewer rows at once take less memory: clf.net_.iterator_valid__batch_size = 1, or "
                "before a fit net={'iterator_valid__batch_size': 1}."
            )
        raise _kind(error)(
            f"{_reason(error)}, in a prediction on device={net.device!r}, for which batch_size and "
            f"micro_batch_size do not count. {advice}"
        ) from error
    finally:
        release_memory(net.device)


def _on_the_cpu(device: str) -> str:
    if torch.device(device).type == "cpu":
        return "."
    return ", or predict on the CPU: clf.save(path), then skimbal.load(path, device='cpu')."


def _advice_for_step(estimator: CNNClassifier) -> str:
    """Return the advice about the rows of a batch."""
    if is_auto(estimator.micro_batch_size):
        return "A training step on a single row took more memory than there is."
    if estimator.micro_batch_size == 1:
        return "micro_batch_size=1 is the least."
    return (
        "A smaller micro_batch_size takes less memory and leaves the gradient of the whole batch "
        "as it is. micro_batch_size='auto' finds a size that fits."
    )


def _other_advice(estimator: CNNClassifier, device: str) -> str:
    """Return the remedies that help everywhere in a fit."""
    remedies = "A smaller crop_size or network takes less memory, too."
    if not is_cuda(device):
        return f"{remedies} Images can stay on the disk, as files or as a memory map."
    low = "" if estimator.dtype in ("bfloat16", "float16") else "dtype='bfloat16', or "
    return (
        f"{remedies} So does {low}net={{'iterator_train__memory_share': 0}}, which keeps the "
        "images off the device."
    )


def _reason(error: Exception) -> str:
    """Return the words of an error about memory."""
    text = str(error)
    if not isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        text = text.rpartition("DefaultCPUAllocator: ")[2].partition(" Error code")[0]
    reason = text.partition(". GPU")[0].strip().rstrip(".")
    return f"{reason[0].upper()}{reason[1:]}" if reason else "There is not enough memory"


def _kind(error: Exception) -> type[Exception]:
    """Return the class of the error to raise."""
    is_of_cuda = isinstance(error, torch.cuda.OutOfMemoryError)
    return torch.cuda.OutOfMemoryError if is_of_cuda else MemoryError
