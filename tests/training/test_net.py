"""The net inside: data sets, iterators, statistics, weighted losses, micro-batches, pickling."""

import copy
import gc
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from imblearn.under_sampling import RandomUnderSampler
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import skimbal
from skimbal.augmentation import RandomFlip, RandomGamma
from skimbal.images import ImageFiles
from skimbal.losses import ModuleLoss, get_loss
from skimbal.networks import SmallCNN
from skimbal.training import (
    BlockIterator,
    CosineSchedule,
    DeviceDataset,
    EpochProgress,
    ImageDataset,
    StandardizedModule,
    TrainingNet,
    TrainIterator,
    channel_statistics,
    isolated_random_state,
    softmax,
)
from skimbal.training import batches as batches_room
from skimbal.training import dataset as dataset_room

SPECS = ["ce", "wce", "f1", "mcc", "ce+mcc", "focal", "0.5*ce + f1 + 2*mcc", "la", "ldam+mcc"]


@pytest.fixture(autouse=True)
def _seeded():
    """Make what draws from torch's generator independent of the tests before."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        yield


class Recorder:
    """An array that keeps count of the rows that are read."""

    def __init__(self, array):
        self.array, self.read = array, []
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        self.read.extend(np.atleast_1d(rows).tolist())
        return self.array[rows]


def numbered_rows(n, shape=(1, 2, 2)):
    """Make images that hold their own row number."""
    return np.broadcast_to(np.arange(n).reshape(-1, *[1] * len(shape)), (n, *shape))


def draw(n=11, shape=(2, 6, 5), n_classes=3, weighted=True, seed=0, dtype=np.float64):
    """Draw images that know something of their labels, with weights whose mean is not 1."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    X = rng.normal(size=(n, *shape)) + 0.3 * y.reshape(-1, *[1] * len(shape))
    weight = rng.uniform(0.1, 3, size=n) if weighted else None
    return ImageDataset(X.astype(dtype), y, sample_weight=weight)


def make_net(data, loss="ce+mcc", *, factory=None, n_classes=3, seed=0, **options):
    """Make a net as the classifiers do, small and in float64."""
    if factory is None:
        factory = small_network(data)
    arguments = {
        "module__factory": factory,
        "module__in_channels": data.sample_shape[0],
        "module__n_classes": n_classes,
        "module__dtype": torch.float64,
        "criterion": get_loss(loss, class_counts=range(1, n_classes + 1)),
        "optimizer": torch.optim.SGD,
        "lr": 0.1,
        "batch_size": len(data),
        "predict_nonlinearity": softmax,
        "dataset": partial(ImageDataset, sample_shape=data.sample_shape),
        "train_split": None,
        "iterator_train": TrainIterator,
        "iterator_valid": BlockIterator,
        "classes": np.arange(n_classes),
        "verbose": 0,
    }
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return TrainingNet(StandardizedModule, **(arguments | options)).initialize()


def small_network(data, **options):
    options = {"width": 8, "n_stages": 1} | options
    return partial(SmallCNN, spatial_shape=data.sample_shape[1:], **options)


def all_rows(data):
    return data.batch(np.arange(len(data)))


def gradient_of(module):
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def step_by_hand(net, data, n_parts=1):
    """Compute loss and gradient of the whole data set from one graph over all parts."""
    module = copy.deepcopy(net.module_).train()
    X, y = all_rows(data)
    images, weight = (X["X"], X["sample_weight"]) if isinstance(X, dict) else (X, None)
    logits = torch.cat([module(part) for part in images.tensor_split(n_parts)])
    loss = net.criterion_(logits, y, sample_weight=weight, normalizer=len(y))
    loss.backward()
    return loss.detach(), gradient_of(module), dict(module.named_buffers())


def weights_of(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.module_.parameters()])


def relative_error(value, expected):
    return ((value - expected).abs().max() / expected.abs().max()).item()


def state_of(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# ---- ImageDataset

DTYPES = [
    ("?", torch.bool),
    ("u1", torch.uint8),
    ("i1", torch.int8),
    ("<u2", torch.uint16),
    (">u2", torch.uint16),
    ("<i2", torch.int16),
    (">i2", torch.int16),
    ("<u4", torch.uint32),
    (">i4", torch.int32),
    ("<u8", torch.uint64),
    (">i8", torch.int64),
    ("<f2", torch.float16),
    (">f2", torch.float16),
    ("<f4", torch.float32),
    (">f4", torch.float32),
    ("<f8", torch.float64),
    (">f8", torch.float64),
    ("g", torch.float64),
]


def awkward(X, form, folder):
    if form == "read-only":
        X.flags.writeable = False
    elif form == "Fortran":
        X = np.asfortranarray(X)
    elif form == "strided":
        X = np.repeat(X, 2, axis=-1)[..., ::2]
    elif form == "memmap":
        np.save(folder / "X.npy", X)
        X = np.load(folder / "X.npy", mmap_mode="r")
    return X


@pytest.mark.parametrize("form", ["plain", "read-only", "Fortran", "strided", "memmap"])
@pytest.mark.parametrize(("dtype", "expected"), DTYPES)
def test_batches_hold_the_right_values(dtype, expected, form, tmp_path, rng):
    dtype = np.dtype(dtype)
    low, high = (0, 2) if dtype.kind == "b" else (-100, 100)
    if dtype.kind == "u":
        low, high = 0, min(2**31, np.iinfo(dtype).max) + 1
    values = rng.integers(low, high, size=(7, 2, 3, 4)).astype(dtype)
    X = awkward(values.copy(), form, tmp_path)
    index = np.array([5, 0, 5, 3])
    for data, rows in [
        (ImageDataset(X), index),
        (ImageDataset(X, rows=np.arange(7)[::-1]), 6 - index),
        (ImageDataset(X).take(np.array([6, 5, 0, 3])), np.array([5, 0, 3])),
    ]:
        at = index if len(rows) == 4 else np.array([1, 2, 3])
        images, labels = data.batch(at)
        assert images.dtype == expected
        assert images.shape == (len(rows), 2, 3, 4)
        assert images.is_contiguous()
        assert images.numpy().tolist() == values[rows].tolist()
        assert labels.tolist() == [0] * len(rows)
        images.zero_()  # a copy, so writing is allowed and changes nothing
        assert np.array_equal(X, values)


@pytest.mark.parametrize("n_axes", [2, 3])
def test_rows_become_images(n_axes):
    shape = (2, 3, 4, 5)[: n_axes + 1]
    images = np.arange(3 * np.prod(shape)).reshape(3, *shape)
    data = ImageDataset(images.reshape(3, -1), sample_shape=list(shape))
    assert data.sample_shape == shape
    assert np.array_equal(data.batch(np.array([2, 1]))[0], images[[2, 1]])
    assert np.array_equal(data.X, images)
    assert np.array_equal(data.take(np.array([2])).X, images[[2]])


def test_nothing_is_read_before_a_batch():
    X = Recorder(np.arange(40, dtype=np.uint8).reshape(10, 4))
    data = ImageDataset(X, np.arange(10), sample_shape=(1, 2, 2))
    data = data.take(np.array([8, 3, 5])).reweighted(np.ones(3)).take(np.array([2, 0]))
    assert len(data) == 2
    assert data.dtype == np.uint8
    assert data.y.tolist() == [5, 8]
    assert data.sample_weight.tolist() == [1, 1]
    assert [rows.tolist() for rows in data.blocks()] == [[0, 1]]
    TrainIterator(data, 2)
    BlockIterator(data)
    assert X.read == []
    data.batch(np.array([1]))
    assert X.read == [8]


def test_a_batch_needs_no_more_memory_than_its_rows(tmp_path):
    X = np.lib.format.open_memmap(
        tmp_path / "X.npy", mode="w+", dtype=np.uint8, shape=(64, 1, 256, 256)
    )
    data = ImageDataset(X).take(np.arange(1, 64)).reweighted(np.ones(63))
    tracemalloc.start()
    try:
        batch = data.batch(np.array([3, 60]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert batch[0]["X"].dtype == torch.uint8
    assert peak < 3 * 2 * 256 * 256


def test_weights_and_labels_follow_their_rows():
    weight = np.arange(10) + 0.5
    data = ImageDataset(numbered_rows(10), np.arange(10) % 3, sample_weight=weight)
    part = data.take(np.array([7, 2, 4]))
    assert part.y.tolist() == [1, 2, 1]
    assert part.sample_weight.tolist() == [7.5, 2.5, 4.5]
    X, labels = part.batch(np.array([2, 0]))
    assert labels.tolist() == [1, 1]
    assert labels.dtype == torch.int64
    assert X["sample_weight"].tolist() == [4.5, 7.5]
    assert X["X"][:, 0, 0, 0].tolist() == [4, 7]

    again = part.reweighted(np.array([10.0, 20.0, 30.0]))
    assert again.sample_weight.tolist() == [10, 20, 30]
    assert again.take(np.array([2, 1])).sample_weight.tolist() == [30, 20]
    assert again.batch(np.array([1]))[0]["sample_weight"].tolist() == [20]
    assert again.X[:, 0, 0, 0].tolist() == [7, 2, 4]
    assert again.y.tolist() == part.y.tolist()
    assert part.sample_weight.tolist() == [7.5, 2.5, 4.5], "the first one keeps its weights"


@pytest.mark.parametrize("weighted", [False, True])
def test_loader_of_torch_gives_the_same_batches(weighted):
    data = draw(7, weighted=weighted).take(np.array([6, 1, 2, 5, 0]))
    assert len(data) == 5
    loaded = list(DataLoader(data, batch_size=3))
    for rows, (X, y) in zip([np.arange(3), np.arange(3, 5)], loaded, strict=True):
        expected_X, expected_y = data.batch(rows)
        assert torch.equal(y, expected_y)
        if weighted:
            assert X.keys() == expected_X.keys()
            assert all(torch.equal(X[key], expected_X[key]) for key in X)
        else:
            assert torch.equal(X, expected_X)


# ---- iterators


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
def test_uniform_length_gives_every_sampler_as_many_batches(sampler):
    y = np.array([0] * 20 + [1] * 5)
    data = ImageDataset(numbered_rows(25), y)
    iterator = TrainIterator(data, 4, sampler, uniform_length=True)
    epochs = [[y for _, y in iterator] for _ in range(6)]
    assert {len(batches) for batches in epochs} == {len(iterator)} == {7}


def test_uniform_length_goes_on_where_an_epoch_ended():
    # 40 balanced rows in ten batches of 4, but epochs of seven batches: a pass over the frequent
    # class ends in the second epoch, and repeats no row of it before.
    y = np.array([0] * 20 + [1] * 5)
    iterator = TrainIterator(ImageDataset(numbered_rows(25), y), 4, "balanced", uniform_length=True)
    rows = [X[:, 0, 0, 0].long() for _ in range(2) for X, _ in iterator]
    first_pass = torch.cat(rows[:10])
    assert sorted(first_pass[first_pass < 20].tolist()) == list(range(20))


def test_uniform_length_is_a_switch():
    with pytest.raises(ValueError, match="uniform_length must be True or False, got 'yes'"):
        TrainIterator(ImageDataset(numbered_rows(3)), 2, uniform_length="yes")


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
    monkeypatch.setattr(dataset_room, "_BLOCK_ELEMENTS", elements)
    rows = np.random.default_rng(0).permutation(n + 3)[:n]
    data = ImageDataset(numbered_rows(n + 3, shape), rows=rows)
    for batch_size in (None, 1):
        blocks = [X.flatten(1)[:, 0].tolist() for X, _ in BlockIterator(data, batch_size)]
        sizes = [len(block) for block in blocks]
        assert len(blocks) == n_blocks
        assert max(sizes) - min(sizes) <= 1
        assert [row for block in blocks for row in block] == rows.tolist()


# ---- DeviceDataset


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [dtype for dtype, _ in DTYPES])
def test_batches_put_together_on_a_device(dtype, weighted, monkeypatch):
    monkeypatch.setattr(dataset_room, "_BLOCK_ELEMENTS", 24)
    dtype = np.dtype(dtype)
    X = np.arange(9 * 6).reshape(9, 1, 2, 3).astype(dtype)
    if dtype.kind == "u":
        X[3] = np.iinfo(dtype).max
    weight = np.linspace(0, 1, 9) if weighted else None
    data = ImageDataset(X, np.arange(9), sample_weight=weight, rows=np.array([8, 1, 3, 3, 0]))
    index = np.array([2, 0, 2, 4])
    (images, labels), (expected, expected_labels) = (
        DeviceDataset(data, "cpu").batch(index),
        data.batch(index),
    )
    assert torch.equal(labels, expected_labels)
    if weighted:
        assert torch.equal(images["sample_weight"], expected["sample_weight"])
        images, expected = images["X"], expected["X"]
    assert images.dtype == expected.dtype
    assert np.array_equal(images.numpy(), expected.numpy())


@pytest.mark.parametrize(("free", "resident"), [(12 * 80, True), (12 * 80 - 1, False)])
def test_images_stay_on_a_device_that_has_room(free, resident, monkeypatch):
    data = draw(12, shape=(1, 5, 1), dtype=np.float64)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(
        batches_room, "DeviceDataset", lambda data, device: DeviceDataset(data, "cpu")
    )
    monkeypatch.setattr(batches_room, "_prefetched", lambda batches, device: iter(["sent"]))
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


@pytest.mark.parametrize("share", [-0.1, 1.1, None, "0.5", float("nan")])
def test_share_of_memory(share):
    with pytest.raises(ValueError, match=r"memory_share must be a number in \[0, 1\]"):
        TrainIterator(draw(), 4, memory_share=share)


# ---- channel_statistics


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
    for name, make in (
        ("iterator_train", partial(TrainIterator, data, 2)),
        ("iterator_valid", partial(BlockIterator, data)),
        ("iterator_train", partial(channel_statistics, data)),
    ):
        with pytest.raises(ValueError, match=f"{name}__num_workers must be an integer of at least"):
            make(num_workers=num_workers)


@pytest.mark.parametrize("elements", [7, 10**6])
def test_statistics_read_by_threads_are_the_same(elements, monkeypatch, rng):
    monkeypatch.setattr(dataset_room, "_BLOCK_ELEMENTS", elements)
    X = rng.normal(size=(30, 2, 3, 3))
    data = ImageDataset(X, sample_weight=rng.uniform(size=30))
    for one, other in zip(channel_statistics(data, 3), channel_statistics(data), strict=True):
        assert np.array_equal(one, other)


def reference_statistics(images, weight=None):
    pixels = images.astype(np.float64).swapaxes(0, 1).reshape(images.shape[1], -1)
    per_pixel = None
    if weight is not None:
        per_pixel = np.repeat(weight, images[0, 0].size)
    mean = np.average(pixels, axis=1, weights=per_pixel)
    deviation = pixels - mean[:, None]
    return mean, np.sqrt(np.average(deviation**2, axis=1, weights=per_pixel))


@pytest.mark.parametrize("elements", [1, 500, 2**20])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "i2", "f4", "f8", "?"])
@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 4, 3, 5)])
def test_statistics_equal_those_of_numpy(shape, dtype, weighted, elements, monkeypatch, rng):
    monkeypatch.setattr(dataset_room, "_BLOCK_ELEMENTS", elements)
    images = (rng.random((25, *shape)) * 200).astype(dtype)
    if dtype == "?":
        images = rng.random((25, *shape)) < 0.3
    weight = rng.exponential(size=25) if weighted else None
    rows = rng.permutation(25)[:20]
    data = ImageDataset(images.reshape(25, -1), sample_shape=shape, rows=rows)
    if weighted:
        data = data.reweighted(weight[rows])
    expected = reference_statistics(images[rows], weight[rows] if weighted else None)
    for value, reference in zip(channel_statistics(data), expected, strict=True):
        assert value.shape == (shape[0], *[1] * len(shape[1:]))
        assert value.dtype == np.float64
        np.testing.assert_allclose(value.ravel(), reference, rtol=1e-12)


@pytest.mark.parametrize("elements", [100, 2**20])
def test_integer_weights_equal_repeated_rows(elements, monkeypatch, rng):
    monkeypatch.setattr(dataset_room, "_BLOCK_ELEMENTS", elements)
    images, weight = rng.normal(5, 2, size=(15, 2, 4, 4)), rng.integers(0, 4, size=15)
    weight[:7] = 0  # whole blocks without weight
    weighted = channel_statistics(ImageDataset(images, sample_weight=weight))
    repeated = channel_statistics(ImageDataset(np.repeat(images, weight, axis=0)))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-12)
    scaled = channel_statistics(ImageDataset(images, sample_weight=weight * 1e-6))
    np.testing.assert_allclose(scaled, weighted, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3, 1e-300, 1e8 + 0.1])
@pytest.mark.parametrize("elements", [64, 2**20])
def test_constant_channels_have_deviation_one(value, elements, monkeypatch, rng):
    monkeypatch.setattr(dataset_room, "_BLOCK_ELEMENTS", elements)
    images = rng.normal(size=(300, 2, 8, 8))
    images[:, 1] = value
    for weight in (None, rng.random(300)):
        mean, std = channel_statistics(ImageDataset(images, sample_weight=weight))
        assert mean[1] == pytest.approx(value, rel=1e-12)
        assert std[1] == 1
        assert std[0] == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("elements", [128, 2**20])
def test_small_noise_on_a_large_offset(elements, monkeypatch, rng):
    monkeypatch.setattr(dataset_room, "_BLOCK_ELEMENTS", elements)
    images = 1e8 + rng.normal(scale=0.01, size=(200, 1, 8, 8))
    mean, std = channel_statistics(ImageDataset(images))
    exact = images - 1e8
    assert std[0] == pytest.approx(exact.std(), rel=1e-7)
    assert mean[0] - 1e8 == pytest.approx(exact.mean(), abs=1e-7)


# ---- StandardizedModule


class Eye(nn.Module):
    """Gives back what it gets, and keeps it."""

    def __init__(self, in_channels, n_classes, **options):
        super().__init__()
        self.options = (in_channels, n_classes, options)
        self.weight = nn.Parameter(torch.ones(n_classes))

    def forward(self, x):
        self.seen = x
        return x.flatten(1)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("source", [torch.uint8, torch.int16, torch.bool, torch.float16])
def test_images_are_converted_and_standardised(shape, dtype, source):
    images = torch.arange(2 * np.prod(shape)).reshape(2, *shape).to(source)
    before = images.clone()
    mean, std = np.array([1.0, 2.0, 30.0]), np.array([1.0, 0.5, 3.0])
    per_channel = (3, *[1] * (len(shape) - 1))
    mean, std = mean.reshape(per_channel), std.reshape(per_channel)
    module = StandardizedModule(Eye, 3, 2, dtype, mean, std, knob=1)
    assert module.network.options == (3, 2, {"knob": 1})
    assert {value.dtype for value in module.state_dict().values()} == {dtype}
    module(images)
    expected = (images.double().numpy() - mean) / std
    seen = module.network.seen
    assert seen.dtype == dtype
    assert seen.shape == images.shape
    layout = torch.channels_last if len(shape) == 3 else torch.channels_last_3d
    assert seen.is_contiguous(memory_format=layout)
    np.testing.assert_allclose(seen.numpy(), expected, rtol=4 * torch.finfo(dtype).eps)
    assert torch.equal(images, before)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 2)])
def test_images_that_need_no_conversion_are_not_changed(shape):
    layout = torch.channels_last if len(shape) == 3 else torch.channels_last_3d
    images = torch.randn(3, *shape, dtype=torch.float64).contiguous(memory_format=layout)
    before = images.clone()
    statistics = (np.full((2, *[1] * (len(shape) - 1)), value) for value in (5.0, 2.0))
    module = StandardizedModule(Eye, 2, 2, torch.float64, *statistics)
    module(images)
    assert torch.equal(images, before)
    assert torch.equal(module.network.seen, (before - 5) / 2)


def test_no_standardisation():
    images = torch.full((2, 1, 3, 3), 7, dtype=torch.uint8)
    module = StandardizedModule(Eye, 1, 2, torch.float32)
    module(images)
    assert torch.equal(module.network.seen, images.float())
    assert module.state_dict().keys() == {"network.weight"}


def test_standardised_training_images_have_mean_0_and_deviation_1(rng):
    images = rng.normal([[[3.0]], [[-50.0]]], [[[0.1]], [[20.0]]], size=(30, 2, 6, 6))
    module = StandardizedModule(Eye, 2, 2, torch.float64, *channel_statistics(ImageDataset(images)))
    module(torch.from_numpy(images))
    for channel in module.network.seen.unbind(1):
        assert channel.mean().item() == pytest.approx(0, abs=1e-12)
        assert channel.std(correction=0).item() == pytest.approx(1, rel=1e-12)


def test_factory_must_make_a_module():
    with pytest.raises(TypeError, match=r"must make a torch\.nn\.Module .*; got 'network'"):
        StandardizedModule(lambda in_channels, n_classes: "network", 1, 2, torch.float32)


def test_failing_factory_is_told_how_it_was_called():
    def factory(in_channels, n_classes, depth):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no") as error:
        StandardizedModule(factory, 3, 2, torch.float32, depth=7)
    (note,) = error.value.__notes__
    assert "f(3, 2, depth=7)" in note
    assert "factory" in note


# ---- isolated_random_state


def draw_from_all():
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def all_states():
    name, key, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), (name, key.tolist(), *rest), torch.get_rng_state().tolist()


def test_random_state_is_seeded_and_left_as_it_was():
    before = all_states()
    with isolated_random_state(3, "cpu"):
        first = draw_from_all()
        with isolated_random_state(3, "cpu"):
            assert draw_from_all() == first
        second = draw_from_all()
    assert all_states() == before
    with isolated_random_state(3, "cpu"):
        assert draw_from_all() == first
        assert draw_from_all() == second
    with isolated_random_state(4, "cpu"):
        assert not set(draw_from_all()) & set(first)
    assert all_states() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_random_state_is_left_as_it_was_after_errors(error):
    def fail():
        with isolated_random_state(2**32 - 1, "cpu"):
            draw_from_all()
            raise error

    before = all_states()
    with pytest.raises(error):
        fail()
    assert all_states() == before

    # The lock is free again, for other threads too.
    def enter():
        with isolated_random_state(1, "cpu"):
            pass

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert all_states() == before


def test_threads_take_turns():
    entered, leave, done = threading.Event(), threading.Event(), []

    def first():
        with isolated_random_state(1, "cpu"):
            entered.set()
            leave.wait(10)
            done.append(("first", draw_from_all()))

    def second():
        with isolated_random_state(2, "cpu"):
            done.append(("second", draw_from_all()))

    before = all_states()
    threads = [threading.Thread(target=first, daemon=True)]
    threads[0].start()
    assert entered.wait(10)
    threads.append(threading.Thread(target=second, daemon=True))
    threads[1].start()
    threads[1].join(0.2)
    waiting = threads[1].is_alive()
    leave.set()
    for thread in threads:
        thread.join(10)
    assert waiting
    expected = []
    for name, seed in [("first", 1), ("second", 2)]:
        with isolated_random_state(seed, "cpu"):
            expected.append((name, draw_from_all()))
    assert done == expected
    assert all_states() == before


def fit_isolated(seed):
    """Train with shuffled batches and dropout; return all that is random about it."""
    data = draw(24, weighted=False)
    with isolated_random_state(seed, "cpu"):
        net = make_net(data, factory=small_network(data, dropout=0.3), batch_size=6)
        net.train_epochs(data, None, 6)
        return state_of(net), net.history[:, "train_loss"], draw_from_all()


def test_fits_in_threads_equal_fits_in_turn():
    sequential = [fit_isolated(seed) for seed in (1, 2)]
    before = all_states()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with joblib.parallel_config("threading", n_jobs=2):
            threaded = joblib.Parallel()(joblib.delayed(fit_isolated)(seed) for seed in (1, 2))
    finally:
        sys.setswitchinterval(interval)
    for one, other in zip(sequential, threaded, strict=True):
        assert_same_state(one[0], other[0])
        assert one[1:] == other[1:]
    assert sequential[0][1] != sequential[1][1]
    assert all_states() == before


# ---- TrainingNet: weights


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_weights_reach_the_loss_divided_by_the_number_of_rows(micro_batch_size):
    data = draw()
    net = make_net(data, "ce", micro_batch_size=micro_batch_size)
    _, y = all_rows(data)
    rows = cross_entropy(net.forward(data), y, reduction="none")
    expected = (rows * torch.from_numpy(data.sample_weight)).sum() / len(data)
    assert abs(data.sample_weight.mean() - 1) > 0.1
    step = net.train_step_single(all_rows(data))
    assert step["loss"].item() == pytest.approx(expected.item(), rel=1e-12)
    net.train_epochs(data, None, 1)
    assert net.history[0, "train_loss"] == pytest.approx(expected.item(), rel=1e-12)


def test_light_batches_count_for_less():
    # Steps of plain gradient descent on the batches of an epoch add up to one on all rows, to
    # first order: had each batch its own divisor, they would not.
    data = draw(12)
    whole, halves = make_net(data, "ce", lr=1e-7), make_net(data, "ce", lr=1e-7, batch_size=6)
    before = weights_of(whole)
    steps = []
    for net in (whole, halves):
        net.train_epochs(data, None, 1)
        after = weights_of(net)
        steps.append(after - before)
    assert relative_error(steps[1], 2 * steps[0]) < 1e-5


@pytest.mark.parametrize("spec", SPECS)
def test_gradient_without_parts(spec):
    for weighted in (False, True):
        data = draw(weighted=weighted)
        net = make_net(data, spec)
        step = net.train_step_single(all_rows(data))
        loss, gradient, _ = step_by_hand(net, data)
        assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-14)
        assert relative_error(gradient_of(net.module_), gradient) <= 1e-12


class OwnLoss(nn.Module):
    """A loss of the user's, which takes weights but no divisor."""

    def forward(self, logits, target, sample_weight=None):
        self.got = sample_weight
        rows = cross_entropy(logits, target, reduction="none")
        return (rows if sample_weight is None else rows * sample_weight).mean()


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_losses_of_others(micro_batch_size):
    data = draw()
    net = make_net(data, criterion=ModuleLoss(OwnLoss()), micro_batch_size=micro_batch_size)
    net.train_step_single(all_rows(data))
    assert np.array_equal(net.criterion_.module.got, data.sample_weight)
    like_ours = make_net(data, "ce")
    like_ours.train_step_single(all_rows(data))
    error = relative_error(gradient_of(net.module_), gradient_of(like_ours.module_))
    assert error <= 1e-12

    plain = draw(weighted=False)
    net = make_net(plain, criterion=get_loss(nn.CrossEntropyLoss), micro_batch_size=micro_batch_size)
    net.train_epochs(plain, plain, 1)
    expected = cross_entropy(net.forward(plain), all_rows(plain)[1]).item()
    assert net.history[0, "valid_loss"] == pytest.approx(expected, rel=1e-12)


# ---- TrainingNet: micro-batches


@pytest.mark.parametrize("micro_batch_size", [1, 4, 10])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spec", SPECS)
def test_gradient_in_parts_is_that_of_the_batch(spec, weighted, micro_batch_size):
    data = draw(weighted=weighted)
    net = make_net(data, spec, micro_batch_size=micro_batch_size)
    step = net.train_step_single(all_rows(data))
    loss, gradient, _ = step_by_hand(net, data)
    assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(step["y_pred"], net.forward(data), rtol=1e-12, atol=1e-12)
    assert not step["loss"].requires_grad
    assert not step["y_pred"].requires_grad
    assert gradient.abs().max() > 1e-3
    assert relative_error(gradient_of(net.module_), gradient) <= 1e-12


@pytest.mark.parametrize("spec", ["f1", "mcc"])
def test_average_over_parts_is_something_else(spec):
    # What the test above would not see if the loss were a mean over rows.
    data = draw()
    net = make_net(data, spec)
    _, whole, _ = step_by_hand(net, data)
    parts = [step_by_hand(net, data.take(rows))[1] for rows in np.array_split(np.arange(11), 3)]
    assert relative_error(torch.stack(parts).mean(0), whole) > 0.05


@pytest.mark.parametrize("spec", SPECS)
def test_dropout_in_parts_is_the_same_in_both_passes(spec):
    data = draw()
    net = make_net(data, spec, factory=small_network(data, dropout=0.5), micro_batch_size=4)
    net.forward(data)  # leaves the network in evaluation mode, as validation does
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        step = net.train_step_single(all_rows(data))
        state_after = torch.get_rng_state()
        torch.manual_seed(7)
        loss, gradient, _ = step_by_hand(net, data, n_parts=3)
        assert torch.equal(torch.get_rng_state(), state_after)
        _, other, _ = step_by_hand(net, data, n_parts=3)
    assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(gradient_of(net.module_), gradient) <= 1e-12
    assert relative_error(other, gradient) > 1e-2, "other random numbers, another gradient"


def numpy_noise(images):
    return images + np.random.normal() + random.random()  # noqa: NPY002


@pytest.mark.parametrize("spec", ["ce", "ce+mcc"])
@pytest.mark.parametrize("crop_size", [None, (4, 3)])
@pytest.mark.parametrize("augmentation", [(), (RandomGamma(), RandomFlip()), (numpy_noise,)])
def test_images_are_the_same_in_both_passes(spec, crop_size, augmentation):
    data = draw()
    net = make_net(
        data,
        spec,
        factory=partial(SmallCNN, spatial_shape=crop_size or (6, 5), width=8, n_stages=1),
        micro_batch_size=4,
        augmentation=augmentation,
        module__crop_size=crop_size,
    )
    with isolated_random_state(7, "cpu"):
        step = net.train_step_single(all_rows(data))
        after = net.random_state()
    with isolated_random_state(7, "cpu"):
        X, y = all_rows(data)
        module = copy.deepcopy(net.module_).train()
        logits = torch.cat([module(net.augmented(part)) for part in X["X"].tensor_split(3)])
        loss = net.criterion_(logits, y, sample_weight=X["sample_weight"], normalizer=len(y))
        loss.backward()
        assert str(net.random_state()) == str(after)
    assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(gradient_of(net.module_), gradient_of(module)) <= 1e-12
    with isolated_random_state(8, "cpu"):
        other = net.train_step_single(all_rows(data))
    drawn = bool(augmentation) or crop_size is not None
    assert (abs(other["loss"].item() - loss.item()) > 1e-6) == drawn


def test_batch_normalisation_sees_each_part_once():
    data = draw()
    factory = small_network(data, norm="batch")
    net = make_net(data, factory=factory, micro_batch_size=4)
    before = dict(copy.deepcopy(net.module_).named_buffers())
    loss, gradient, buffers = step_by_hand(net, data, n_parts=3)
    step = net.train_step_single(all_rows(data))
    assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(gradient_of(net.module_), gradient) <= 1e-12
    after = dict(net.module_.named_buffers())
    assert any(name.endswith("num_batches_tracked") for name in after)
    assert_same_state(after, buffers)
    for name in after:
        if name.endswith("num_batches_tracked"):
            assert after[name] == 3
        else:
            assert not torch.equal(after[name], before[name])


@pytest.mark.parametrize("spec", ["mcc", "ce+f1", "ce", "wce+focal", "la+balanced_softmax+ldam"])
@pytest.mark.parametrize(("micro_batch_size", "largest"), [(None, 11), (4, 4), (11, 11), (64, 11)])
def test_training_holds_no_more_rows_than_allowed(micro_batch_size, largest, spec):
    data = draw()
    net = make_net(data, spec, micro_batch_size=micro_batch_size)
    sizes = []
    net.module_.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    net.train_epochs(data, None, 2)
    assert max(sizes) == largest
    # The first part is computed once, and a loss that adds up over rows needs no second pass.
    again = 0 if largest == 11 or spec not in ("mcc", "ce+f1") else 11 - 4
    assert sum(sizes) == 2 * (11 + again)


class RowMean(nn.Module):
    """A mean over rows that says so, or does not."""

    def __init__(self, mean_over_rows):
        super().__init__()
        self.mean_over_rows = mean_over_rows

    def forward(self, logits, target, sample_weight=None):
        rows = cross_entropy(logits, target, reduction="none")
        return (rows if sample_weight is None else rows * sample_weight).mean()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mean_over_rows", [False, True])
def test_a_module_that_is_a_mean_over_rows_takes_one_pass(mean_over_rows, weighted):
    data = draw(weighted=weighted)
    gradients, sizes = [], []
    for micro_batch_size in (None, 4):
        loss = ModuleLoss(RowMean(mean_over_rows))
        net = make_net(data, criterion=loss, micro_batch_size=micro_batch_size)
        net.module_.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
        step = net.train_step_single(data.batch(np.arange(11)))
        gradients.append([step["loss"].detach(), *(p.grad for p in net.module_.parameters())])
    # What a module does with weights nobody knows, so it is given all of them at once.
    assert sum(sizes) == 11 + (11 if mean_over_rows and not weighted else 11 + 7)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("sampler", [None, "balanced", "stratified"])
@pytest.mark.parametrize("spec", SPECS)
def test_training_in_parts_equals_training_in_one(spec, sampler, clipped):
    data = draw(21)
    options = {"batch_size": 7, "optimizer": torch.optim.Adam, "lr": 0.01}
    options["iterator_train__sampler"] = sampler
    # A norm that every gradient has, so that clipping parts would not be clipping the whole.
    options["callbacks"] = [("clip", GradientNormClipping(0.05))] if clipped else []
    whole = make_net(data, spec, **options)
    parts = make_net(data, spec, micro_batch_size=2, **options)
    for net in (whole, parts):
        with isolated_random_state(5, "cpu"):
            net.train_epochs(data, data, 7)  # 21 steps
    for (name, one), other in zip(state_of(whole).items(), state_of(parts).values(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-9, msg=name)
    for key in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(parts.history[:, key], whole.history[:, key], rtol=1e-7)
    assert whole.history[0, "train_loss"] != pytest.approx(whole.history[6, "train_loss"], rel=1e-3)


# ---- TrainingNet: validation


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("weighted", [False, True])
def test_validation_loss_is_that_of_all_rows_at_once(spec, weighted, monkeypatch):
    train, valid = draw(seed=1), draw(13, weighted=weighted, seed=2)
    monkeypatch.setattr(dataset_room, "_BLOCK_ELEMENTS", 4 * 60)
    net = make_net(train, spec)
    first_loss = step_by_hand(net, train)[0].item()
    net.train_epochs(train, valid, 2)
    weight = torch.from_numpy(valid.sample_weight) if weighted else None
    X, y = all_rows(valid)
    logits = net.infer(X)
    expected = net.criterion_(logits, y, sample_weight=weight, normalizer=13).item()
    assert net.history[-1, "valid_loss"] == pytest.approx(expected, rel=1e-12)
    blocks = [block for block in net.history[-1]["batches"] if "valid_loss" in block]
    assert [block["valid_batch_size"] for block in blocks] == [4, 3, 3, 3]
    assert net.history[0, "train_loss"] == pytest.approx(first_loss, rel=1e-12)
    if spec in ("f1", "mcc"):
        parts = np.array_split(np.arange(13), 4)
        losses = [
            net.criterion_(
                logits[part], y[part], sample_weight=None if weight is None else weight[part]
            ).item()
            for part in parts
        ]
        average = np.average(losses, weights=[4, 3, 3, 3])
        assert expected != pytest.approx(average, rel=1e-3), "the average of blocks"


def test_no_validation_rows():
    data = draw()
    net = make_net(data)
    net.train_epochs(data, None, 2)
    assert len(net.history) == 2
    assert "valid_loss" not in net.history[-1]


def test_validation_changes_neither_weights_nor_statistics():
    data = draw(21)
    states = []
    for valid in (None, draw(9, seed=3)):
        factory = small_network(data, norm="batch", dropout=0.5)
        with isolated_random_state(0, "cpu"):
            net = make_net(data, factory=factory, batch_size=7)
            net.train_epochs(data, valid, 2)
        states.append(state_of(net))
    assert_same_state(*states)


# ---- TrainingNet: prediction and precision


def test_prediction_in_blocks(monkeypatch):
    data = draw(13, weighted=False)
    net = make_net(data)
    at_once = net.forward(data)
    monkeypatch.setattr(dataset_room, "_BLOCK_ELEMENTS", 4 * 60)
    sizes = []
    net.module_.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    before = all_states()
    in_blocks = net.forward(data)
    assert all_states() == before, "prediction draws no random numbers"
    assert sizes == [4, 3, 3, 3]
    torch.testing.assert_close(in_blocks, at_once, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(net.predict_proba(data), at_once.softmax(1), rtol=1e-12)
    assert np.array_equal(net.predict(data), at_once.argmax(1))
    # Callbacks hand over arrays.
    assert np.array_equal(net.predict_proba(data.X), net.predict_proba(data))


@pytest.mark.parametrize("micro_batch_size", [None, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype, micro_batch_size):
    data = draw(dtype=np.float32)
    options = {"module__dtype": torch.float32, "micro_batch_size": micro_batch_size}
    net = make_net(data, autocast=dtype, **options)
    if dtype == torch.float16:
        # It begins so large that first steps overflow and are left out, until it has come down.
        assert net.scaler_.get_scale() == 2**16
        before = state_of(net)
        net.train_step(all_rows(data))
        assert_same_state(state_of(net), before)
        assert net.scaler_.get_scale() == 2**15
        net.scaler_.update(256.0)
        net.module_.zero_grad()
    inside = set()
    net.module_.network.classifier.register_forward_hook(
        lambda module, args, out: inside.add(out.dtype)
    )
    step = net.train_step_single(all_rows(data))
    assert inside == {dtype}
    assert step["y_pred"].dtype == step["loss"].dtype == torch.float32
    assert net.forward(data).dtype == torch.float32
    full = make_net(data, **options)
    full_step = full.train_step_single(all_rows(data))
    assert step["loss"].item() == pytest.approx(full_step["loss"].item(), rel=0.05)
    assert not torch.equal(step["y_pred"], full_step["y_pred"])
    assert relative_error(gradient_of(net.module_), gradient_of(full.module_)) < 0.1
    net.train_epochs(data, data, 2)
    losses = net.history[:, ("train_loss", "valid_loss")]
    assert np.isfinite(losses).all()
    assert {parameter.dtype for parameter in net.module_.parameters()} == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")


# ---- TrainingNet: pickling


class Mean(nn.Module):
    """A linear model of channel means."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.linear = nn.Linear(in_channels, n_classes)

    def forward(self, x):
        return self.linear(x.flatten(2).mean(2))


def cosine(n_epochs):
    return [("schedule", LRScheduler("CosineAnnealingLR", T_max=n_epochs))]


def round_trip(net, how):
    return pickle.loads(pickle.dumps(net)) if how == "pickle" else copy.deepcopy(net)


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_pickle_keeps_one_optimiser_and_goes_on(how):
    data = draw(21)
    options = {"optimizer": torch.optim.Adam, "lr": 0.01, "callbacks": cosine(6), "batch_size": 7}
    net = make_net(data, "wce+mcc", **options)
    with isolated_random_state(0, "cpu"):
        net.train_epochs(data, data, 3)
    other = round_trip(net, how)
    scheduler = dict(other.callbacks_)["schedule"].lr_scheduler_
    assert scheduler.optimizer is other.optimizer_
    assert other.optimizer_ is not net.optimizer_
    held = other.optimizer_.param_groups[0]["params"]
    assert [id(p) for p in held] == [id(p) for p in other.module_.parameters()]
    assert other.criterion_ is other.criterion, "a loss given as an instance is in it once"
    assert other.criterion_.class_vectors.keys() == {"wce"}
    assert torch.equal(*(n.criterion_.class_vectors["wce"] for n in (other, net)))
    assert other.history == net.history
    assert len(other.history) == 3
    assert_same_state(state_of(other), state_of(net))
    assert torch.equal(other.forward(data), net.forward(data))
    for trained in (net, other):
        with isolated_random_state(1, "cpu"):
            trained.train_epochs(data, data, 2)
    assert_same_state(state_of(other), state_of(net))
    assert other.history[:, "train_loss"] == net.history[:, "train_loss"]
    # Were the scheduler's optimiser another one, this rate would have stayed.
    rates = [n.optimizer_.param_groups[0]["lr"] for n in (net, other)]
    assert rates[0] == rates[1] < 0.005


def test_pickle_of_a_net_that_was_initialised_twice():
    data = draw()
    net = make_net(data, callbacks=cosine(2)).initialize()
    net.train_epochs(data, None, 1)
    other = round_trip(net, "pickle")
    assert dict(other.callbacks_)["schedule"].lr_scheduler_.optimizer is other.optimizer_


def test_pickle_holds_no_training_data():
    images = np.random.default_rng(0).random((40, 1, 100, 100))
    data = ImageDataset(images, np.arange(40) % 2, sample_weight=np.ones(40))
    train, valid = data.take(np.arange(30)), data.take(np.arange(30, 40))
    callbacks = [
        EpochScoring("accuracy", name="train_score", on_train=True, lower_is_better=False),
        EpochScoring("accuracy", name="valid_score", lower_is_better=False),
    ]
    net = make_net(train, factory=Mean, n_classes=2, callbacks=callbacks, batch_size=8)
    net.train_epochs(train, valid, 2)
    assert len(net.history[:, "valid_score"]) == 2
    size = len(pickle.dumps(net))
    assert size < images[0].nbytes, "less than one image"


@pytest.mark.cuda
def test_net_from_cuda_loads_where_there_is_none(tmp_path):
    data = draw(21)
    with isolated_random_state(0, "cuda"):
        net = make_net(
            data,
            "wce+mcc",  # a loss with a tensor of its own
            optimizer=torch.optim.Adam,
            callbacks=cosine(3),
            batch_size=7,
            micro_batch_size=3,
            device="cuda",
            module__mean=np.zeros(2),
            module__std=np.ones(2),
        )
        net.train_epochs(data, data, 2)
    assert {value.device.type for value in state_of(net).values()} == {"cuda"}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(net))
    np.save(tmp_path / "X.npy", data.X)
    script = """
import pathlib, pickle, sys
import numpy as np
import torch
assert not torch.cuda.is_available()
folder = pathlib.Path(sys.argv[1])
net = pickle.loads((folder / "net.pkl").read_bytes())
assert str(net.device) == "cpu", net.device
assert all(value.is_cpu for value in net.module_.state_dict().values())
moments = [value for state in net.optimizer_.state.values() for value in state.values()]
assert moments and all(value.is_cpu for value in moments)
assert net.criterion_.class_vectors["wce"].is_cpu
assert dict(net.callbacks_)["schedule"].lr_scheduler_.optimizer is net.optimizer_
assert len(net.history) == 2
np.save(folder / "proba.npy", net.predict_proba(np.load(folder / "X.npy")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(skimbal.__file__).parents[1],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = net.predict_proba(data)
    np.testing.assert_allclose(np.load(tmp_path / "proba.npy"), expected, rtol=1e-9)


@pytest.mark.cuda
def test_parts_on_cuda_use_the_same_random_numbers_twice():
    data = draw()
    cpu_before, cuda_before = all_states(), torch.cuda.get_rng_state()
    gradients = []
    for micro_batch_size in (4, None):
        factory = small_network(data, dropout=0.5)
        net = make_net(data, factory=factory, micro_batch_size=micro_batch_size, device="cuda")
        with isolated_random_state(7, "cuda"):
            if micro_batch_size is not None:
                net.train_step_single(all_rows(data))
                gradients.append(gradient_of(net.module_))
                continue
            X, y = all_rows(data)
            net.module_.train()
            logits = torch.cat([net.module_(part.cuda()) for part in X["X"].tensor_split(3)])
            weight = X["sample_weight"].cuda()
            net.criterion_(logits, y.cuda(), sample_weight=weight, normalizer=11).backward()
            gradients.append(gradient_of(net.module_))
    assert relative_error(*gradients) <= 1e-9
    assert all_states() == cpu_before
    assert torch.equal(torch.cuda.get_rng_state(), cuda_before)


# ---- TrainingNet: interrupts and progress


class Interrupt(Callback):
    """Ctrl-C at the end of the second epoch."""

    def __init__(self):
        self.ended = 0

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt

    def on_train_end(self, net, X=None, y=None, **kwargs):
        self.ended += 1
        self.got = X, y


def early_stopping(patience):
    # No loss falls by this share in one epoch.
    return EarlyStopping("train_loss", patience=patience, threshold=0.9, sink=lambda text: None)


@pytest.mark.parametrize("others", [[], [early_stopping(3)]])
def test_interrupt_reaches_the_caller(others):
    data = draw()
    interrupt = Interrupt()
    progress = EpochProgress(5)
    net = make_net(data, callbacks=[progress, interrupt, *others])
    before = all_states()
    with pytest.raises(KeyboardInterrupt), isolated_random_state(0, "cpu"):
        net.train_epochs(data, None, 5)
    assert all_states() == before
    assert interrupt.ended == 1
    assert interrupt.got[0] is data
    assert np.array_equal(interrupt.got[1], data.y)
    assert len(net.history) == 2
    assert progress.bar_.disable, "closed"


def test_early_stopping_is_no_interrupt():
    data = draw()
    interrupt = Interrupt()
    interrupt.on_epoch_end = lambda net, **kwargs: None
    net = make_net(data, callbacks=[EpochProgress(9), interrupt, early_stopping(3)])
    assert net.train_epochs(data, None, 9) is net
    assert len(net.history) == 4, "the first, and three that miss"
    assert interrupt.ended == 1
    net.train_epochs(data, None, 9)
    assert len(net.history) == 8, "a new run begins to count anew"


def test_schedule_ends_with_its_epochs():
    data = draw()
    callbacks = [("schedule", CosineSchedule("CosineAnnealingLR", T_max=4))]
    callbacks += [("progress", EpochProgress(4)), ("own", Interrupt())]
    net = make_net(data, lr=0.2, callbacks=callbacks)
    net.train_epochs(data, None, 1)
    (group,) = net.optimizer_.param_groups
    assert 0 < group["lr"] < 0.2
    net.end_schedule()
    assert group["lr"] == 0.2
    names = [name for name, _ in net.callbacks_]
    assert "schedule" not in names
    assert "progress" not in names
    assert {"own", "train_loss", "valid_loss"} <= set(names)
    for trained in (net, round_trip(net, "pickle")):
        dict(trained.callbacks_)["own"].on_epoch_end = lambda net, **kwargs: None
        trained.train_epochs(data, None, 2)
        assert trained.optimizer_.param_groups[0]["lr"] == 0.2
        assert trained.history[:, "epoch"] == [1, 2, 3]


def test_epochs_go_on():
    data = draw()
    net = make_net(data, lr=0.2)
    assert net.train_epochs(data, None, 3) is net
    net.train_epochs(data, None, 2)
    assert net.history[:, "epoch"] == [1, 2, 3, 4, 5]
    losses = net.history[:, "train_loss"]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("validate", [False, True])
def test_progress_bar(validate, capsys):
    data = draw()
    net = make_net(data, callbacks=[EpochProgress(2)])
    net.train_epochs(data, data if validate else None, 2)
    out, err = capsys.readouterr()
    assert out == ""
    last = err.rsplit("\r", 1)[-1]
    assert "2/2" in last
    assert f"train_loss={net.history[-1, 'train_loss']:.3g}" in last
    assert ("valid_loss" in last) == validate


def test_net_with_a_progress_bar_pickles_in_training_and_after(tmp_path):
    data = draw()
    checkpoint = Checkpoint(monitor=None, f_params=None, f_optimizer=None, f_criterion=None)
    checkpoint.set_params(f_history=None, f_pickle=str(tmp_path / "net.pkl"))
    net = make_net(data, callbacks=[EpochProgress(2), checkpoint])
    net.train_epochs(data, None, 2)
    saved = pickle.loads((tmp_path / "net.pkl").read_bytes())
    again = round_trip(net, "pickle")
    for other in (saved, again):
        assert_same_state(state_of(other), state_of(net))
        other.train_epochs(data, None, 1)
        assert len(other.history) == 3
