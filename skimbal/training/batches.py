"""Iterators over the batches of an epoch and the blocks of a prediction."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skimbal.sampling import BatchSampler, SamplerSpec, count_batches
from skimbal.training import processes as distributed
from skimbal.training.dataset import DeviceDataset, ImageDataset
from skimbal.training.random_state import is_cuda

__all__ = ["BlockIterator", "TrainIterator", "count_workers", "read_ahead"]


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
        Labels that the encoded ones stand for, which a sampling strategy may name.
    memory_share : float, default=0.5
        Share of the free memory of a CUDA device that the images may take, in [0, 1].
    uniform_length : bool, default=False
        Whether an epoch has as many batches as one that takes each row once, whatever the sampler:
        the next one goes on where it ended. Samplers can then be compared at equal numbers of
        steps, and at equal learning rates.
    num_workers : int, default=None
        Threads that read whole batches ahead, one each and one more; they come in the same order
        and end with the iterator. 0 reads a batch when it is asked for. If None, as many as torch
        has, but 4 at most, for images that have to be read and decoded, and 0 for arrays. Channel
        statistics are read by as many.

    Raises
    ------
    ValueError
        If ``memory_share`` is not in [0, 1], ``uniform_length`` is neither True nor False, or
        ``num_workers`` is no integer of at least 0.

    Notes
    -----
    The draws are seeded from torch's generator, as those of a DataLoader are.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        sampler: SamplerSpec = "uniform",
        classes: np.ndarray | None = None,
        memory_share: float = 0.5,
        uniform_length: bool = False,
        num_workers: int | None = None,
    ) -> None:
        if not isinstance(uniform_length, bool | np.bool_):
            raise ValueError(
                f"iterator_train__uniform_length must be True or False, got {uniform_length!r}."
            )
        if not isinstance(memory_share, int | float) or not 0 <= memory_share <= 1:
            raise ValueError(
                f"iterator_train__memory_share must be a number in [0, 1], got {memory_share!r}."
            )
        self.dataset = dataset
        self.device = "cpu"
        self.memory_share = memory_share
        self.num_workers = count_workers("iterator_train", num_workers, dataset)
        self._y = dataset.y
        self._n_classes = len(np.unique(self._y))
        y = self._y if classes is None else classes[self._y]
        seed = int(torch.randint(2**31 - 1, ()))
        self.batches = BatchSampler(y, batch_size, sampler, random_state=seed)
        self._n_batches = count_batches(len(y), batch_size) if uniform_length else len(self.batches)
        # Without end, so that what an epoch has left is not lost.
        self._rows = itertools.chain.from_iterable(itertools.repeat(self.batches))
        #: Batches of the last epoch that lacked a class, and those that held one class only.
        self.n_incomplete = self.n_of_one_class = 0
        self.resident: DeviceDataset | None = None
        #: Whether each process takes its own images of a batch, with the labels of all.
        self.shared = False

    def to(self, device: str) -> None:
        """Say where the batches are wanted.

        To a CUDA device all images are copied at once if they fit; otherwise each batch is copied
        while the one before trains.

        Parameters
        ----------
        device : str
            A device of torch.
        """
        self.device = device
        if is_cuda(device):
            free, _ = torch.cuda.mem_get_info(device)
            if self.dataset.nbytes <= self.memory_share * free:
                self.resident = DeviceDataset(self.dataset, device)

    def __len__(self) -> int:
        return self._n_batches

    def _counted(self) -> Iterator[np.ndarray]:
        self.n_incomplete = self.n_of_one_class = 0
        for rows in itertools.islice(self._rows, self._n_batches):
            n_present = int(np.count_nonzero(np.bincount(self._y[rows])))
            self.n_incomplete += n_present < self._n_classes
            self.n_of_one_class += n_present == 1
            yield rows

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        take: Callable[[np.ndarray], Any] = (self.resident or self.dataset).batch
        if self.shared:
            take = self._own_part(take)
        if self.resident is not None:
            return map(take, self._counted())
        batches = read_ahead(take, self._counted(), self.num_workers)
        return _prefetched(batches, self.device) if is_cuda(self.device) else batches

    def _own_part(self, take: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
        def part(rows: np.ndarray) -> tuple[Any, Tensor]:
            return take(rows[distributed.own_rows(len(rows))])[0], torch.from_numpy(self._y[rows])

        return part


class BlockIterator:
    """Iterator over all rows in order, in blocks that suit the network.

    Parameters
    ----------
    dataset : ImageDataset
        The rows to predict.
    batch_size : int, default=None
        Not used: what a gradient needs says nothing about prediction.
    num_workers : int, default=None
        Threads that read blocks ahead, as for :class:`TrainIterator`.

    Raises
    ------
    ValueError
        If ``num_workers`` is no integer of at least 0.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int | None = None,
        num_workers: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.num_workers = count_workers("iterator_valid", num_workers, dataset)
        self.device = "cpu"
        #: Largest number of rows in a block, in samples; by the size of the images if None.
        self.block_size: int | None = None

    def to(self, device: str) -> None:
        """Say where the blocks are wanted; to CUDA one is copied while another is computed with.

        Parameters
        ----------
        device : str
            A device of torch.
        """
        self.device = device

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        rows = self.dataset.blocks(self.block_size)
        blocks = read_ahead(self.dataset.batch, rows, self.num_workers)
        return _prefetched(blocks, self.device) if is_cuda(self.device) else blocks


def count_workers(iterator: str, num_workers: Any, dataset: ImageDataset) -> int:
    if num_workers is None:
        # Where processes share the cores, each has its part of the threads.
        return min(4, torch.get_num_threads()) if dataset.has_files else 0
    is_integer = isinstance(num_workers, int | np.integer) and not isinstance(num_workers, bool)
    if not is_integer or num_workers < 0:
        raise ValueError(
            f"{iterator}__num_workers must be an integer of at least 0, or None; got "
            f"{num_workers!r}."
        )
    return int(num_workers)


def read_ahead(
    take: Callable[[np.ndarray], Any], rows: Iterable[np.ndarray], num_workers: int
) -> Iterator[Any]:
    """Take the rows of each batch, in order, in threads that are ahead of who uses them."""
    if not num_workers:
        yield from map(take, rows)
        return
    pending: deque[Future[Any]] = deque()
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="skimbal-reader")
    try:
        # Here the rows are drawn, so that what is drawn does not depend on the threads.
        for index in rows:
            pending.append(pool.submit(take, index))
            if len(pending) > num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prefetched(batches: Iterator[tuple[Any, Tensor]], device: str) -> Iterator[tuple[Any, Tensor]]:
    """Copy each batch to a CUDA device while the one before is computed with."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(batch: tuple[Any, Tensor]) -> tuple[Any, Tensor]:
        X, y = batch
        with torch.cuda.stream(stream):
            if isinstance(X, Mapping):
                return {name: _sent(value, device) for name, value in X.items()}, _sent(y, device)
            return _sent(X, device), _sent(y, device)

    def received(batch: tuple[Any, Tensor]) -> tuple[Any, Tensor]:
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        X, y = batch
        for tensor in (*(X.values() if isinstance(X, Mapping) else [X]), y):
            # Its memory is not to be used again before this stream is done with it.
            tensor.record_stream(current)
        return batch

    ahead = None
    for batch in batches:
        sent = send(batch)
        if ahead is not None:
            yield received(ahead)
        ahead = sent
    if ahead is not None:
        yield received(ahead)


def _sent(tensor: Tensor, device: str) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)
