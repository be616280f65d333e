"""Images that have been read, kept in memory or in a folder."""

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skimbal.images import ImageFiles
from tests.images.data import cut, draw_files


class Reader:
    """Reads arrays and counts how often."""

    def __init__(self):
        self.paths = []

    def __call__(self, path):
        self.paths.append(path)
        return np.load(path)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_cached_images_are_read_once(where, tmp_path, monkeypatch):
    paths, values, _ = draw_files(tmp_path, 6)
    read = []
    load = np.load
    monkeypatch.setattr(
        np, "load", lambda path, **options: (read.append(str(path)), load(path, **options))[1]
    )
    X = ImageFiles(paths, cache="memory" if where == "memory" else tmp_path / "cache")
    for _ in range(3):
        read.clear()
        assert_array_equal(X[[1, 3]], values[[1, 3]])
        again = [path for path in read if Path(path).parent == tmp_path]
    assert again == []
    # A file that changes is read again.
    np.save(paths[1], values[0])
    os.utime(paths[1], ns=(1, 1))
    assert_array_equal(X[[1, 3]], values[[0, 3]])
    X[1][...] = 0  # the reader may do with its image what it likes
    assert_array_equal(X[[1, 3]], values[[0, 3]])


def test_memory_of_a_cache_is_bounded(tmp_path):
    paths, _, _ = draw_files(tmp_path, 6)
    reader = Reader()
    X = ImageFiles(paths, reader=reader, cache="memory", cache_bytes=3 * 64)
    for _ in range(4):
        np.asarray(X)
    # Three of them stay, whatever else is asked for.
    counts = [reader.paths.count(str(path)) for path in paths]
    assert sorted(counts) == [1, 1, 1, 4, 4, 4]


def test_folder_of_a_cache_is_bounded(tmp_path):
    paths, values, _ = draw_files(tmp_path, 6)
    size = paths[0].stat().st_size
    folder = tmp_path / "cache"

    def entries():
        return {entry.name: entry.stat().st_mtime_ns for entry in folder.glob("*.npy")}

    X = ImageFiles(paths[:4], cache=folder, cache_bytes=3 * size)
    for _ in range(2):
        assert_array_equal(X, values[:4])
    first = entries()
    assert len(first) == 3
    # What no program uses any more gives way to another one's.
    for entry in folder.glob("*.npy"):
        os.utime(entry, (0, 0))
    X = ImageFiles(paths[4:], cache=folder, cache_bytes=3 * size)
    assert_array_equal(X, values[4:])
    assert len(entries()) == 3
    assert len(set(entries()) & set(first)) == 1


def test_a_cache_removes_no_file_of_others(tmp_path):
    paths, values, _ = draw_files(tmp_path, 2)
    folder = tmp_path / "cache"
    folder.mkdir()
    mine = [folder / name for name in ("scan.npy", "notes.tmp", "skimbal.npy")]
    for path in mine:
        with path.open("wb") as file:
            np.save(file, np.zeros((64, 64)))
        os.utime(path, (0, 0))  # long ago
    X = ImageFiles(paths, cache=folder, cache_bytes=paths[0].stat().st_size)
    assert_array_equal(X, values)
    assert all(path.exists() for path in mine)


def test_names_that_are_not_files_have_a_fingerprint_and_a_cache():
    images = {"a": np.zeros((4, 4)), "b": np.ones((4, 4))}
    X = ImageFiles(list(images), reader=images.__getitem__, cache="memory")
    assert_array_equal(X, [images["a"], images["b"]])
    assert X.fingerprint()["files"] != X[::-1].fingerprint()["files"]


def test_options_have_entries_of_their_own(tmp_path):
    paths, _, _ = draw_files(tmp_path, 2)
    folder = tmp_path / "cache"
    for size in ((4, 4), (5, 5), None):
        for resize in ("resample", "crop"):
            X = ImageFiles(paths, cache=folder, size=size, resize=resize)
            expected = ImageFiles(paths, size=size, resize=resize)
            assert_array_equal(X, expected)
            assert_array_equal(X, expected)
    with pytest.raises(ValueError, match=r"reader.*<lambda>"):
        ImageFiles(paths, cache=folder, reader=lambda path: np.load(path))
    assert_array_equal(
        ImageFiles(paths, cache=folder, reader=partial(np.load, mmap_mode="r")), ImageFiles(paths)
    )


def test_damaged_entries_are_made_again_and_never_unpickled(tmp_path):
    paths, values, _ = draw_files(tmp_path, 3)
    folder = tmp_path / "cache"
    X = ImageFiles(paths, cache=folder)
    np.asarray(X)
    one, two, three = sorted(folder.glob("*.npy"))
    cut(one)
    two.write_bytes(b"")
    np.save(three, np.array([print], dtype=object))
    assert_array_equal(X, values)
    for entry in (one, two, three):
        assert np.load(entry).shape == (8, 8)


def check_entries_of_a_killed_program(folder, paths, values):
    """Check a cache in which the third of three entries was not completed."""
    assert len(list(folder.glob("*.npy"))) == 2
    (left,) = folder.glob("skimbal-part-*")
    for entry in folder.glob("*.npy"):
        assert np.load(entry).shape == (64, 64)
    os.utime(left, (0, 0))  # long ago
    assert_array_equal(ImageFiles(paths, cache=folder), values)
    assert len(list(folder.glob("*.npy"))) == 3
    assert not left.exists()


def test_an_entry_that_is_not_complete_is_not_an_entry(tmp_path, monkeypatch):
    paths, values, _ = draw_files(tmp_path, 3, shape=(64, 64))
    folder = tmp_path / "cache"
    save = np.save

    def die(file, array, **options):
        if len(os.listdir(folder)) == 3:
            file.write(array.tobytes()[:1000])
            raise KeyboardInterrupt
        save(file, array, **options)

    with monkeypatch.context() as context:
        context.setattr(np, "save", die)
        context.setattr(os, "unlink", lambda path: None)  # as a killed program cleans up nothing
        with pytest.raises(KeyboardInterrupt):
            np.asarray(ImageFiles(paths, cache=folder))
    check_entries_of_a_killed_program(folder, paths, values)


def test_an_interrupted_program_leaves_no_unfinished_entry(tmp_path, monkeypatch):
    paths, _, _ = draw_files(tmp_path, 2)

    def interrupt(file, array, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        np.asarray(ImageFiles(paths, cache=tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_a_killed_program_leaves_no_half_written_entry(tmp_path):
    paths, values, _ = draw_files(tmp_path, 3, shape=(64, 64))
    folder = tmp_path / "cache"
    code = """
import os, sys
import numpy as np
from skimbal.images import ImageFiles
save = np.save
def die(file, array, **options):
    if len(os.listdir(sys.argv[1])) == 3:
        file.write(array.tobytes()[:1000])
        file.flush()
        os._exit(9)
    save(file, array, **options)
np.save = die
np.asarray(ImageFiles(sys.argv[2:], cache=sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-c", code, folder, *paths], check=False)
    assert done.returncode == 9
    check_entries_of_a_killed_program(folder, paths, values)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_threads_share_a_cache(where, tmp_path):
    paths, values, _ = draw_files(tmp_path, 12)
    X = ImageFiles(paths, cache="memory" if where == "memory" else tmp_path / "cache")
    wrong = []

    def read():
        for _ in range(5):
            wrong.append(not np.array_equal(X, values))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 20
    assert not any(wrong)
