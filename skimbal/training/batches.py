"""Iterators over the batches of an epoch and the blocks of a prediction."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from skimbal.exceptions import ParameterError
from skimbal.sampling import BatchSampler, SamplerSpec, count_batches
from skimbal.training.dataset import Batch, DeviceDataset, ImageDataset
from skimbal.training.devices import is_cuda
from skimbal.training.processes import Alone, Processes
from skimbal.typing import is_integer, is_number

__all__ = [
    "BlockIterator",
    "TrainIterator",
    "batches_in_epoch",
    "closed_at_end",
    "count_workers",
    "prefetched",
    "read_ahead",
]

_Taken = TypeVar("_Taken")


class TrainIterator:
    """Iterator over the whole batches that a :class:`~skimbal.sampling.BatchSampler` draws.

    Parameters
    ----------
    dataset : ImageDataset
        The training rows.
    batch_size : int
        Largest number of rows in a batch, in samples.
    sampler : str, sampler object or None, default="uniform"
        As for :class:`~skimbal.sampling.BatchSampler`.
    classes : ndarray of shape (n_classes,), default=None
        Labels that the encoded labels stand for, which a sampling strategy may name.
    memory_share : float, default=0.5
        Share of the free memory of a CUDA device that the images may take, in [0, 1]. Images that
        take more are sent batch by batch. Processes that share a device each measure the memory
        that the others have left, before and after the copy.
    epoch_length : None, int or "uniform", default=None
        Batches in an epoch. If None, the sampler decides. ``"uniform"`` gives as many batches as
        uniform sampling, so that samplers are compared at equal numbers of steps and equal learning
        rates. An epoch goes on where the last epoch ended.
    num_workers : int, default=None
        Threads that read whole batches ahead, one each and one more. The batches come in the same
        order, and the threads end with the iterator. 0 reads a batch when it is asked for. If None,
        as many as torch has, but 4 at most, for images in files, and 0 for arrays. As many threads
        read for the channel statistics.

    Raises
    ------
    ValueError
        If ``memory_share`` is not in [0, 1], ``epoch_length`` is not None, ``"uniform"`` or an
        integer of at least 1, or ``num_workers`` is not an integer of at least 0.

    Notes
    -----
    The draws are seeded from torch's generator, like the draws of a DataLoader.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        sampler: SamplerSpec = "uniform",
        classes: np.ndarray | None = None,
        memory_share: float = 0.5,
        epoch_length: int | str | None = None,
        num_workers: int | None = None,
    ) -> None:
        if not is_number(memory_share) or not 0 <= memory_share <= 1:
            raise ParameterError("memory_share", "a number in [0, 1]", memory_share)
        self.dataset = dataset
        self.device = "cpu"
        self.memory_share = memory_share
        self.num_workers = count_workers(num_workers, dataset)
        self._y = dataset.y
        self._n_classes = len(np.unique(self._y))
        y = self._y if classes is None else classes[self._y]
        seed = int(torch.randint(2**31 - 1, ()))
        self.batches = BatchSampler(y, batch_size, sampler, random_state=seed)
        self._n_batches = _count_batches(epoch_length, self.batches)
        #: State of the generator before the present epoch of the sampler, and batches since.
        self._began, self._n_taken = self.batches.generator.bit_generator.state, 0
        # A generator that refers to this iterator would keep the images until garbage collection.
        self._rows: Iterator[np.ndarray] = iter(())
        #: Batches of the last epoch that lacked a class, and batches that held one class only.
        self.n_incomplete = self.n_of_one_class = 0
        self.resident: DeviceDataset | None = None
        #: Processes that share the batches. Each takes its images, with the labels of all rows.
        self.processes: Processes = Alone()

    def to(self, device: str) -> None:
        """Set where the batches are wanted.

        All images are copied to a CUDA device at once if they fit, also into the memory that other
        processes leave meanwhile. Otherwise each batch is copied while the batch before trains.

        Parameters
        ----------
        device : str
            A device of torch.
        """
        self.device = device
        self.resident = _kept(self.dataset, device, self.memory_share)

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[Batch]:
        take: Callable[[np.ndarray], Batch] = (self.resident or self.dataset).batch
        if self.processes.n_processes > 1:
            take = self._own_part(take)
        if self.resident is not None:
            return map(take, self._counted())
        batches = read_ahead(take, self._counted(), self.num_workers)
        return prefetched(batches, self.device) if is_cuda(self.device) else batches

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the draws: the state of their generator, and the batches since."""
        return {"generator": self._began, "n_taken": self._n_taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a place that :meth:`state_dict` returned.

        Parameters
        ----------
        state : dict
            Of an iterator over the same rows.
        """
        self.batches.generator.bit_generator.state = self._began = state["generator"]
        self._n_taken, self._rows = 0, iter(())
        for _ in range(state["n_taken"]):
            self._take()

    def _take(self) -> np.ndarray:
        """Return the next batch. An epoch of the sampler follows the other, so no rows are lost."""
        rows = next(self._rows, None)
        if rows is None:
            self._began, self._n_taken = self.batches.generator.bit_generator.state, 0
            self._rows = iter(self.batches)
            rows = next(self._rows)
        self._n_taken += 1
        return rows

    def _counted(self) -> Iterator[np.ndarray]:
        self.n_incomplete = self.n_of_one_class = 0
        for _ in range(self._n_batches):
            rows = self._take()
            n_present = int(np.count_nonzero(np.bincount(self._y[rows])))
            self.n_incomplete += n_present < self._n_classes
            self.n_of_one_class += n_present == 1
            yield rows

    def _own_part(self, take: Callable[[np.ndarray], Batch]) -> Callable[[np.ndarray], Batch]:
        def part(rows: np.ndarray) -> Batch:
            own = take(rows[self.processes.own_rows(len(rows))])
            return Batch.of(own.images, torch.from_numpy(self._y[rows]), own.weight)

        return part


class BlockIterator:
    """Iterator over all rows in order, in blocks that suit the network.

    Parameters
    ----------
    dataset : ImageDataset
        The rows to predict.
    batch_size : int, default=None
        Largest number of rows in a block, in samples. By the size of the images if None. The net
        sets it by the memory that the network takes, unless ``iterator_valid__batch_size`` is set.
    num_workers : int, default=None
        Threads that read blocks ahead, as for :class:`TrainIterator`.

    Raises
    ------
    ValueError
        If ``batch_size`` is not an integer of at least 1, or ``num_workers`` is not an integer of
        at least 0.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int | None = None,
        num_workers: int | None = None,
    ) -> None:
        if batch_size is not None and (not is_integer(batch_size) or batch_size < 1):
            raise ParameterError("batch_size", "None or an integer of at least 1", batch_size)
        self.dataset, self.batch_size = dataset, batch_size
        self.num_workers = count_workers(num_workers, dataset)
        self.device = "cpu"
        self.resident: DeviceDataset | None = None
        self._may_keep = True

    def keep(self, memory_share: float) -> None:
        """Copy all rows to a CUDA device at once, if they fit, as they are asked for repeatedly.

        Parameters
        ----------
        memory_share : float
            Share of the free memory of the device that the images may take, in [0, 1]. The first
            call decides.
        """
        if self._may_keep:
            self.resident = _kept(self.dataset, self.device, memory_share)
        self._may_keep = False

    def to(self, device: str) -> None:
        """Set where the blocks are wanted.

        To a CUDA device, a block is copied while the block before is computed with.

        Parameters
        ----------
        device : str
            A device of torch.
        """
        self.device = device

    def __iter__(self) -> Iterator[Batch]:
        rows = self.dataset.blocks(self.batch_size)
        if self.resident is not None:
            return map(self.resident.batch, rows)
        blocks = read_ahead(self.dataset.batch, rows, self.num_workers)
        return prefetched(blocks, self.device) if is_cuda(self.device) else blocks


def _kept(dataset: ImageDataset, device: str, memory_share: float) -> DeviceDataset | None:
    """Copy the rows to a CUDA device, if their images fit in a share of its free memory."""
    if not is_cuda(device):
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if dataset.nbytes > memory_share * free:
        return None
    try:
        resident = DeviceDataset(dataset, device)
    except torch.cuda.OutOfMemoryError:
        return None
    # Workers of a search measure at the same time, and then copy at the same time.
    left, _ = torch.cuda.mem_get_info(device)
    return resident if dataset.nbytes <= memory_share * (left + dataset.nbytes) else None


def batches_in_epoch(
    y: np.ndarray, batch_size: int, sampler: SamplerSpec, epoch_length: int | str | None
) -> int:
    """Return the number of batches in an epoch of a :class:`TrainIterator`."""
    if isinstance(getattr(sampler, "random_state", None), np.random.RandomState):
        sampler = clone(sampler)  # with a copy of the generator, whose state is not to change
    return _count_batches(epoch_length, BatchSampler(y, batch_size, sampler, random_state=0))


def _count_batches(epoch_length: int | str | None, batches: BatchSampler) -> int:
    """Return the number of batches in an epoch."""
    if epoch_length is None:
        return len(batches)
    if isinstance(epoch_length, str) and epoch_length == "uniform":
        return count_batches(len(batches.y), batches.batch_size)
    if not is_integer(epoch_length) or epoch_length < 1:
        raise ParameterError(
            "epoch_length",
            "None, 'uniform' or an integer of at least 1",
            epoch_length,
            "It is the number of batches in an epoch.",
        )
    return int(epoch_length)


def count_workers(num_workers: int | None, dataset: ImageDataset) -> int:
    """Return the number of threads that read ahead, which None leaves to the kind of images."""
    if num_workers is None:
        # Where processes share the cores, each has its part of the threads.
        return min(4, torch.get_num_threads()) if dataset.has_files else 0
    if not is_integer(num_workers) or num_workers < 0:
        raise ParameterError("num_workers", "None or an integer of at least 0", num_workers)
    return int(num_workers)


@contextmanager
def closed_at_end(items: Iterable[_Taken]) -> Iterator[Iterator[_Taken]]:
    """Iterate within a block, and end a generator with the block, and so the threads that it holds.

    The traceback of an error holds a generator that is not closed, as long as somebody holds it.
    """
    iterator = iter(items)
    try:
        yield iterator
    finally:
        if isinstance(iterator, Generator):
            iterator.close()


def read_ahead(
    take: Callable[[np.ndarray], _Taken], rows: Iterable[np.ndarray], num_workers: int
) -> Iterator[_Taken]:
    """Take the rows of each batch, in order, in threads that are ahead of the consumer."""
    if not num_workers:
        yield from map(take, rows)
        return
    pending: deque[Future[_Taken]] = deque()
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="skimbal-reader")
    try:
        # The rows are drawn here, so that the draws do not depend on the threads.
        for index in rows:
            pending.append(pool.submit(take, index))
            if len(pending) > num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def prefetched(batches: Iterator[Batch], device: str) -> Iterator[Batch]:
    """Copy each batch to a CUDA device while the batch before is computed with."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def sent(tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(device, non_blocking=True)

    def send(batch: Batch) -> Batch:
        with torch.cuda.stream(stream):
            return batch.map_tensors(sent)

    def receive(batch: Batch) -> Batch:
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        for tensor in batch.tensors:
            # Its memory must not be used again before this stream is done with it.
            tensor.record_stream(current)
        return batch

    ahead = None
    for batch in batches:
        sending = send(batch)
        if ahead is not None:
            yield receive(ahead)
        ahead = sending
    if ahead is not None:
        yield receive(ahead)
