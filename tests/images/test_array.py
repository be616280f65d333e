"""A selection of the images of an array, read on demand."""

import os
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split

from skimbal.images import ImageArray, ImageFiles
from skimbal.typing import OnDemandImages
from tests.images.data import draw
from tests.plain import plain


def stored(kind, values, folder):
    if kind == "memory":
        return values
    if kind == "memory map":
        np.save(folder / "values.npy", values)
        return np.load(folder / "values.npy", mmap_mode="r")
    if kind == "zarr":
        array = zarr.create_array(
            folder / "values.zarr", shape=values.shape, chunks=(7, *values.shape[1:]), dtype="u1"
        )
        array[:] = values
        return zarr.open_array(folder / "values.zarr", mode="r")
    with h5py.File(folder / "values.h5", "w") as file:
        file["values"] = values
    return h5py.File(folder / "values.h5")["values"]


KINDS = pytest.mark.parametrize("kind", ["memory", "memory map", "zarr", "h5py"])


@KINDS
def test_selections_are_those_of_an_array(kind, tmp_path):
    values, _ = draw()
    images = ImageArray(stored(kind, values, tmp_path))
    assert (images.shape, images.ndim, images.dtype, len(images)) == ((40, 6, 6), 3, np.uint8, 40)
    mask = np.arange(40) % 3 == 1
    for index in [
        slice(3, 20, 4),
        slice(None, None, -1),
        [5, 5, 0, 39, -1],
        np.array([7]),
        mask,
        np.array([], dtype=int),
        (np.array([2, 1]), ...),
    ]:
        selected = images[index]
        assert isinstance(selected, ImageArray)
        expected = values[index]
        assert selected.shape == expected.shape
        assert np.array_equal(np.asarray(selected), expected)
    assert np.array_equal(np.asarray(images[::2][[3, 1]]), values[[6, 2]])
    assert np.array_equal(images[np.int64(4)], values[4])
    assert np.array_equal(np.asarray(images, dtype=np.float32), values.astype(np.float32))
    assert [image.sum() for image in images] == values.sum((1, 2)).tolist()


def test_images_on_demand_are_told_from_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    selection, files = ImageArray(draw()[0])[:3], ImageFiles([tmp_path / "a.npy"])
    assert all(isinstance(images, OnDemandImages) for images in (selection, files))
    assert not isinstance(draw()[0], OnDemandImages)
    assert (selection.has_files, selection.n_spatial, selection.fingerprint()) == (
        False,
        None,
        None,
    )
    assert (files.has_files, files.n_spatial) == (True, 2)
    assert files.fingerprint()["shape"] == (1, 4, 4)


class Counting:
    """An array that counts what is read of it."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.rows = values, values.shape, values.dtype, []

    def __getitem__(self, rows):
        self.rows.append(rows)
        return self.values[rows]


def test_each_image_is_read_once_and_in_order():
    counting = Counting(draw()[0])
    images = ImageArray(counting)
    train, test = train_test_split(images, random_state=0)
    assert counting.rows == []
    np.asarray(train[[3, 0, 3, 1]])
    (rows,) = counting.rows
    assert (np.diff(rows) > 0).all()
    assert len(rows) == 3
    assert len(train) + len(test) == 40


@pytest.mark.parametrize("array", [[1, 2], np.float64(3), None, "images"])
def test_sources_that_are_not_arrays(array):
    with pytest.raises(TypeError, match=rf"array.*shape.*{type(array).__name__}"):
        ImageArray(array)


def test_indices_of_less_than_an_image():
    images = ImageArray(draw()[0])
    with pytest.raises(IndexError, match=r"whole images.*\(0, 1\)"):
        images[0, 1]
    with pytest.raises(IndexError, match="out of bounds"):
        images[40]
    with pytest.raises(ValueError, match=r"^copy must be .*got False"):
        np.asarray(images, copy=False)


@KINDS
@pytest.mark.parametrize("wrap", [True, False])
def test_classifiers_give_what_they_give_of_the_array(kind, wrap, tmp_path):
    values, y = draw()
    X = stored(kind, values, tmp_path)
    X = ImageArray(X) if wrap else X

    def make():
        return plain(
            max_epochs=2, batch_size=16, random_state=0, train_split=0.25, sampler="balanced"
        )

    expected = make().fit(values, y)
    clf = make().fit(X, y)
    assert np.array_equal(clf.predict_proba(X), expected.predict_proba(values))
    assert clf.history_[:, "valid_loss"] == expected.history_[:, "valid_loss"]
    assert clf.score(X, y) == expected.score(values, y)
    if kind != "h5py":  # an open file belongs to its process
        again = pickle.loads(pickle.dumps(X))
        assert np.array_equal(clf.predict_proba(again), clf.predict_proba(values))


def test_searches_select_rows_only():
    values, y = draw()
    counting = Counting(values)
    clf = plain(max_epochs=1, batch_size=8, random_state=0, standardize=False)
    scores = cross_val_score(clf, ImageArray(counting), y, cv=2)
    assert max(len(np.atleast_1d(rows)) for rows in counting.rows) <= 20
    assert np.array_equal(scores, cross_val_score(clf, values, y, cv=2))
    search = GridSearchCV(clf, {"loss": ["ce", "mcc"]}, cv=2).fit(ImageArray(values), y)
    assert search.predict(ImageArray(values)).shape == (40,)


def test_another_process_gets_the_name_of_a_mapped_file(tmp_path):
    values, _ = draw()
    X = ImageArray(stored("memory map", values, tmp_path))
    assert len(pickle.dumps(X[:20])) < len(pickle.dumps(values[:20]))
    data = pickle.dumps(X[[30, 2, 2]])
    stored("memory map", values[::-1], tmp_path)
    assert np.array_equal(pickle.loads(data), values[[9, 37, 37]])


@pytest.mark.slow
def test_workers_share_a_memory_map(tmp_path):
    values, y = draw()
    X = ImageArray(stored("memory map", values, tmp_path))
    clf = plain(max_epochs=1, batch_size=8, random_state=0)
    two = cross_val_score(clf, X, y, cv=2, n_jobs=2)
    assert np.array_equal(two, cross_val_score(clf, values, y, cv=2))


def test_bad_images():
    values, y = draw()
    clf = plain(max_epochs=1)
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        clf.fit(ImageArray(values)[:0], y[:0])
    with pytest.raises(ValueError, match="takes X of shape"):
        clf.fit(ImageArray(np.zeros((40, 1, 1, 2, 2))), y)
    bad = values.astype(np.float32)
    bad[7, 2, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        clf.fit(ImageArray(bad), y)
    with pytest.raises(ValueError, match="real numbers"):
        clf.fit(ImageArray(values.astype(complex)), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.fit(ImageArray(values), y[:-1])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc of Linux")
@pytest.mark.parametrize("kind", ["memory map", "zarr"])
def test_memory_does_not_grow_with_the_number_of_volumes(kind, tmp_path):
    code = """
import sys, threading, time
import numpy as np, torch, zarr
from skimbal import CNN3DClassifier
torch.set_num_threads(1)

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

def train(X):
    y = np.arange(X.shape[0]) % 2
    clf = CNN3DClassifier(module="small", augment=None, max_epochs=1, batch_size=4, random_state=0)
    clf.set_params(net={"module__width": 4}).fit(X, y).predict_proba(X)

def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.002)

path = sys.argv[1]
X = zarr.open_array(path, mode="r") if path.endswith("zarr") else np.load(path, mmap_mode="r")
train(np.zeros((8, *X.shape[1:]), np.float32))
before = peak = anonymous()
threading.Thread(target=watch, daemon=True).start()
train(X)
print(peak - before)
"""
    rng = np.random.default_rng(0)
    growth = {}
    for n in (40, 160):
        path = tmp_path / f"{n}.{'zarr' if kind == 'zarr' else 'npy'}"
        shape = (n, 64, 64, 64)
        if kind == "zarr":
            X = zarr.create_array(path, shape=shape, chunks=(1, 64, 64, 64), dtype="f4")
        else:
            X = np.lib.format.open_memmap(path, "w+", "f4", shape)
        for i in range(n):
            X[i] = rng.normal(size=shape[1:])
        run = [sys.executable, "-c", code, str(path)]
        # glibc keeps freed blocks below a threshold that moves. With a fixed one, the blocks in use
        # are the resident ones.
        blocks = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        done = subprocess.run(
            run, check=True, capture_output=True, text=True, env={**os.environ, **blocks}
        )
        growth[n] = float(done.stdout)
    # 160 volumes are 160 MB.
    assert growth[160] < 50
    assert growth[160] < growth[40] + 15
