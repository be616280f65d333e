"""Iterators over the batches of an epoch and the blocks of a prediction."""

import gc
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from imblearn.under_sampling import RandomUnderSampler

from skimbal.exceptions import ParameterError
from skimbal.images import ImageFiles
from skimbal.training import (
    BlockIterator,
    DeviceDataset,
    ImageDataset,
    TrainIterator,
    channel_statistics,
)
from skimbal.training import batches as batches_room
from tests.training.data import all_states, draw, make_net, numbered_rows


@pytest.mark.parametrize("n", [2, 10, 23, 24, 25])
def test_training_covers_each_row_once_an_epoch(n):
    y = np.arange(n) % 2
    iterator = TrainIterator(ImageDataset(numbered_rows(n), y), 8)
    epochs = []
    for _ in range(3):
        batches = [(X[:, 0, 0, 0].numpy(), labels.numpy()) for X, labels in iterator]
        sizes = [len(rows) for rows, _ in batches]
        assert len(batches) == len(iterator) == -(-n // 8)
        assert max(sizes) - min(sizes) <= 1
        for rows, labels in batches:
            assert np.array_equal(labels, y[rows])
        assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(n))
        epochs.append([rows.tolist() for rows, _ in batches])
    if n > 8:
        assert len({str(epoch) for epoch in epochs}) == 3


def test_training_stays_within_its_rows():
    data = ImageDataset(numbered_rows(20), np.arange(20) % 2).take(np.arange(5, 15))
    for sampler, times in [(None, 1), ("stratified", 1), ("balanced", 1)]:
        batches = [X[:, 0, 0, 0].numpy() for X, _ in TrainIterator(data, 4, sampler)]
        assert sorted(np.concatenate(batches)) == sorted(list(range(5, 15)) * times)


def test_batches_are_seeded_by_torch_alone():
    def epoch():
        return [X[:, 0, 0, 0].tolist() for X, _ in TrainIterator(data, 8)]

    data = ImageDataset(numbered_rows(64))
    before = all_states()
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        first = epoch()
        torch.manual_seed(1)
        assert epoch() == first
        assert epoch() != first
    assert all_states() == before


@pytest.mark.parametrize(
    "sampler", [None, "balanced", "stratified", "weighted", RandomUnderSampler()]
)
@pytest.mark.parametrize(
    ("epoch_length", "n_batches"), [("uniform", 7), (3, 3), (np.int64(29), 29)]
)
def test_every_sampler_gives_as_many_batches_as_asked_for(sampler, epoch_length, n_batches):
    y = np.array([0] * 20 + [1] * 5)
    data = ImageDataset(numbered_rows(25), y)
    iterator = TrainIterator(data, 4, sampler, epoch_length=epoch_length)
    epochs = [[y for _, y in iterator] for _ in range(6)]
    assert {len(batches) for batches in epochs} == {len(iterator)} == {n_batches}


@pytest.mark.parametrize("epoch_length", ["uniform", 3, 11])
def test_an_epoch_goes_on_where_the_last_ended(epoch_length):
    # 40 balanced rows in ten batches of 4, but epochs of another length: a pass over the frequent
    # class ends in a later epoch or within one, and repeats no row of it before.
    y = np.array([0] * 20 + [1] * 5)
    data = ImageDataset(numbered_rows(25), y)
    iterator = TrainIterator(data, 4, "balanced", epoch_length=epoch_length)
    rows = [X[:, 0, 0, 0].long() for _ in range(4) for X, _ in iterator]
    first_pass = torch.cat(rows[:10])
    assert sorted(first_pass[first_pass < 20].tolist()) == list(range(20))


@pytest.mark.parametrize("length", ["yes", 0, -1, 1.5, True])
def test_length_of_an_epoch(length):
    with pytest.raises(ParameterError, match=f"epoch_length.*{length!r}"):
        TrainIterator(ImageDataset(numbered_rows(3)), 2, epoch_length=length)


def test_sampler_sees_the_labels_of_the_user():
    labels = np.array(["benign", "malignant", "other"])
    data = ImageDataset(numbered_rows(30), np.arange(30) % 3)
    sampler = RandomUnderSampler(sampling_strategy={"benign": 2, "malignant": 5, "other": 4})
    iterator = TrainIterator(data, 100, sampler, classes=labels)
    ((_, y),) = iterator
    assert np.bincount(y).tolist() == [2, 5, 4]


@pytest.mark.parametrize(
    ("n", "shape", "elements", "n_blocks"),
    [
        (11, (1, 2, 2), 16, 3),  # at most 4 rows
        (12, (1, 2, 2), 16, 3),
        (13, (1, 2, 2), 16, 4),
        (3, (2, 3, 4), 23, 2),  # an image is larger than a block, which has two all the same
        (5, (2, 2, 2, 2), 32, 3),
        (2049, (1, 1, 1), 2**20, 3),  # never more than 1024 rows
        (1, (1, 2, 2), 16, 1),
    ],
)
def test_blocks_cover_all_rows_in_order(n, shape, elements, n_blocks, monkeypatch):
    monkeypatch.setattr(ImageDataset, "block_elements", elements)
    rows = np.random.default_rng(0).permutation(n + 3)[:n]
    data = ImageDataset(numbered_rows(n + 3, shape), rows=rows)
    for batch_size, expected in ((None, n_blocks), (2, -(-n // 2))):
        blocks = [X.flatten(1)[:, 0].tolist() for X, _ in BlockIterator(data, batch_size)]
        sizes = [len(block) for block in blocks]
        assert len(blocks) == expected
        assert max(sizes) - min(sizes) <= 1
        assert [row for block in blocks for row in block] == rows.tolist()


@pytest.mark.parametrize(("free", "resident"), [(12 * 80, True), (12 * 80 - 1, False)])
def test_images_stay_on_a_device_that_has_room(free, resident, monkeypatch):
    data = draw(12, shape=(1, 5, 1), dtype=np.float64)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(
        batches_room, "DeviceDataset", lambda data, device: DeviceDataset(data, "cpu")
    )
    monkeypatch.setattr(batches_room, "prefetched", lambda batches, device: iter(["sent"]))
    iterator = TrainIterator(data, 4)
    batches = list(iterator)
    iterator.to("cuda")
    assert (iterator.resident is None) == (not resident)
    iterator = TrainIterator(data, 4, memory_share=1.0)
    iterator.to("cuda")
    if resident:
        assert [len(y) for _, y in iterator] == [len(y) for _, y in batches]
    iterator = TrainIterator(data, 4, memory_share=0)
    iterator.to("cuda")
    assert list(iterator) == ["sent"]


class Fills:
    """A device that other processes fill while images are copied."""

    def __init__(self, free, left, error=None):
        self.free, self.left, self.error = free, left, error

    def measure(self, device):
        return self.free, 10**9

    def copy(self, data, device):
        self.free = self.left
        if self.error is not None:
            raise self.error
        return DeviceDataset(data, "cpu")


@pytest.mark.parametrize(
    ("left", "error", "resident"),
    [
        (480, None, True),
        (479, None, False),  # another process took as much at the same time
        (0, torch.OutOfMemoryError("CUDA out of memory."), False),
    ],
)
def test_processes_that_measure_at_once_leave_memory_for_each_other(
    left, error, resident, monkeypatch
):
    data = draw(12, shape=(1, 5, 1), weighted=False, dtype=np.float64)
    assert data.nbytes == 480
    device = Fills(2 * data.nbytes, left, error)
    monkeypatch.setattr(torch.cuda, "mem_get_info", device.measure)
    monkeypatch.setattr(batches_room, "DeviceDataset", device.copy)
    iterator = TrainIterator(data, 4)
    iterator.to("cuda")
    assert (iterator.resident is not None) == resident


@pytest.mark.parametrize("share", [-0.1, 1.1, None, "0.5", float("nan")])
def test_share_of_memory(share):
    with pytest.raises(ParameterError, match=f"memory_share.*{share!r}"):
        TrainIterator(draw(), 4, memory_share=share)


class Slow:
    """An array whose rows take the longer the smaller their number is, and one cannot be read."""

    def __init__(self, array, bad=None):
        self.array, self.bad = array, bad
        self.shape, self.dtype = array.shape, array.dtype
        self.threads = set()

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        self.threads.add(threading.current_thread())
        if self.bad in rows:
            raise OSError(f"row {self.bad} cannot be read")
        time.sleep(0.002 * (len(self) - min(rows)) / len(self))
        return self.array[rows]


def readers():
    return [t for t in threading.enumerate() if t.name.startswith("skimbal-reader")]


@pytest.mark.parametrize("num_workers", [1, 2, 5, 50])
def test_threads_read_ahead_in_order(num_workers):
    def read(num_workers, n_epochs=2):
        torch.manual_seed(3)
        array = Slow(numbered_rows(40))
        data = ImageDataset(array, np.arange(40) % 2)
        train = TrainIterator(data, 6, sampler="balanced", num_workers=num_workers)
        valid = BlockIterator(data, num_workers=num_workers)
        valid.block_size = 7
        batches = [b for _ in range(n_epochs) for it in (train, valid) for b in it]
        counts = train.n_incomplete, train.n_of_one_class
        return array, batches, counts, torch.random.get_rng_state()

    here, expected, counts, state = read(0)
    array, batches, same_counts, same_state = read(num_workers)
    assert here.threads == {threading.main_thread()}
    assert threading.main_thread() not in array.threads
    assert counts == same_counts
    assert torch.equal(state, same_state)
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch[0], other[0])
        assert torch.equal(batch[1], other[1])
    assert not readers()


def test_threads_are_no_more_than_their_number_ahead():
    drawn = []
    rows = (drawn.append(i) or np.array([i]) for i in range(20))
    batches = batches_room.read_ahead(lambda index: index, rows, 3)
    for i in range(20):
        assert next(batches).tolist() == [i]
        assert len(drawn) <= i + 4
    assert next(batches, None) is None


@pytest.mark.parametrize("iterator", ["train", "valid", "statistics"])
def test_errors_of_threads_come_through(iterator):
    data = ImageDataset(Slow(numbered_rows(40), bad=33), np.arange(40) % 2)
    read = {
        "train": lambda: list(TrainIterator(data, 4, num_workers=2)),
        "valid": lambda: list(BlockIterator(data, num_workers=2)),
        "statistics": lambda: channel_statistics(data, num_workers=2),
    }
    with pytest.raises(OSError, match="row 33 cannot be read"):
        read[iterator]()
    gc.collect()
    assert not readers()


def test_threads_end_with_the_iterator():
    data = ImageDataset(Slow(numbered_rows(400)), np.arange(400) % 2)
    batches = iter(TrainIterator(data, 4, num_workers=3))
    next(batches)
    assert readers()
    batches.close()
    assert not readers()


def test_threads_read_files_ahead_and_no_arrays(tmp_path):
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", np.full((6, 6), i, dtype=np.uint8))
    files = ImageFiles(sorted(tmp_path.glob("*.npy")))
    y = np.arange(4) % 2
    for X, expected in ((files, min(4, torch.get_num_threads())), (np.asarray(files), 0)):
        data = ImageDataset(X, y, sample_shape=(1, 6, 6))
        assert TrainIterator(data, 2).num_workers == expected
        assert BlockIterator(data).num_workers == expected
        assert TrainIterator(data, 2, num_workers=3).num_workers == 3


@pytest.mark.parametrize("num_workers", [-1, 1.5, True, "2"])
def test_number_of_threads(num_workers):
    data = ImageDataset(numbered_rows(4), np.arange(4) % 2)
    for make in (
        partial(TrainIterator, data, 2),
        partial(BlockIterator, data),
        partial(channel_statistics, data),
    ):
        with pytest.raises(ParameterError, match=f"^num_workers.*{num_workers!r}"):
            make(num_workers=num_workers)


@pytest.mark.parametrize("name", ["iterator_train", "iterator_valid"])
def test_the_net_names_the_iterator_of_a_parameter(name):
    data = draw()
    net = make_net(data, **{f"{name}__num_workers": -1})
    with pytest.raises(ParameterError, match=f"^{name}__num_workers.*-1"):
        net.train_epochs(data, data, 1)
