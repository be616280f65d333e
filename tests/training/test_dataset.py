"""Rows of an array as images, given out in whole batches."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from skimbal.training import BlockIterator, DeviceDataset, ImageDataset, TrainIterator
from tests.training.data import DTYPES, draw, numbered_rows


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
        images, labels = batch = data.batch(at)
        assert (batch.images is images, batch.labels is labels, batch.weight) == (True, True, None)
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
    assert batch.images.dtype == torch.uint8
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
    assert part.batch(np.array([2, 0])).weight.tolist() == [4.5, 7.5]

    again = part.reweighted(np.array([10.0, 20.0, 30.0]))
    assert again.sample_weight.tolist() == [10, 20, 30]
    assert again.take(np.array([2, 1])).sample_weight.tolist() == [30, 20]
    assert again.batch(np.array([1])).weight.tolist() == [20]
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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [dtype for dtype, _ in DTYPES])
def test_batches_put_together_on_a_device(dtype, weighted, monkeypatch):
    monkeypatch.setattr(ImageDataset, "block_elements", 24)
    dtype = np.dtype(dtype)
    X = np.arange(9 * 6).reshape(9, 1, 2, 3).astype(dtype)
    if dtype.kind == "u":
        X[3] = np.iinfo(dtype).max
    weight = np.linspace(0, 1, 9) if weighted else None
    data = ImageDataset(X, np.arange(9), sample_weight=weight, rows=np.array([8, 1, 3, 3, 0]))
    index = np.array([2, 0, 2, 4])
    batch, expected = DeviceDataset(data, "cpu").batch(index), data.batch(index)
    assert len(batch.tensors) == len(expected.tensors) == 2 + weighted
    for tensor, other in zip(batch.tensors, expected.tensors, strict=True):
        assert tensor.dtype == other.dtype
        assert np.array_equal(tensor.numpy(), other.numpy())
