"""Images that have been read, kept in memory or in a folder."""

import builtins
import copy
import errno
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skimbal.exceptions import ParameterError
from skimbal.images import FORMATS, DecodedImage, Format, ImageFiles
from skimbal.images import cache as caches
from skimbal.images.geometry import ImageSpec
from tests.images.data import cut, draw_files, save_series


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


def die_at_third_entry(folder, die, os_write=os.write):
    def write(handle, data):
        if len(os.listdir(folder)) == 3 and len(data) > 1000:
            os_write(handle, data[:1000])
            die()
        return os_write(handle, data)

    return write


def test_an_entry_that_is_not_complete_is_not_an_entry(tmp_path, monkeypatch):
    paths, values, _ = draw_files(tmp_path, 3, shape=(64, 64))
    folder = tmp_path / "cache"

    def interrupt():
        raise KeyboardInterrupt

    X = ImageFiles(paths, cache=folder)
    with monkeypatch.context() as context:
        context.setattr(os, "write", die_at_third_entry(folder, interrupt))
        context.setattr(os, "unlink", lambda path: None)  # as a killed program cleans up nothing
        with pytest.raises(KeyboardInterrupt):
            np.asarray(X)
    check_entries_of_a_killed_program(folder, paths, values)


def test_an_interrupted_program_leaves_no_unfinished_entry(tmp_path, monkeypatch):
    paths, _, _ = draw_files(tmp_path, 2)

    def interrupt(handle, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupt)
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
from tests.images.test_cache import die_at_third_entry
os.write = die_at_third_entry(sys.argv[1], lambda: os._exit(9))
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


# What an entry needs to be believed


@pytest.fixture
def one_entry(tmp_path):
    """An image with an entry, of more than one block of the checksum, and its expected pixels."""
    paths, values, _ = draw_files(tmp_path, 2, shape=(300, 300))
    X = ImageFiles(paths, cache=tmp_path / "cache")
    assert_array_equal(X[0], values[0])
    (entry,) = (tmp_path / "cache").iterdir()
    assert_array_equal(np.load(entry), values[0])  # a file that numpy reads as well
    return X, entry, values


def is_trusted(X, entry):
    """Tell whether the first image comes from its entry."""
    spec = ImageSpec(None, "resample", None, None, None)
    cache = caches.FolderCache(str(entry.parent), 2**30, spec)
    return cache.get(caches.FileState.of(X.paths[0])) is not None


@pytest.mark.slow
def test_a_flipped_bit_is_noticed(one_entry):
    X, entry, values = one_entry
    data = entry.read_bytes()
    assert is_trusted(X, entry)
    rng = np.random.default_rng(0)
    places = [*range(128), *rng.integers(128, len(data), 300).tolist(), len(data) - 1]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        entry.write_bytes(damaged)
        assert not is_trusted(X, entry), place
    assert_array_equal(X[0], values[0])
    assert is_trusted(X, entry)


def damages(data, other):
    """Return damaged contents of an entry by their names."""
    pixels = np.frombuffer(data[128:], np.uint8).reshape(300, 300)
    swapped, moved = pixels.copy(), pixels.copy()
    swapped[[1, 2]] = swapped[[2, 1]]
    words = moved.reshape(-1)[:80000].view(np.uint64)
    words[[5, 1029]] = words[[1029, 5]]  # of one column of the checksum
    return {
        "empty": b"",
        "header only": data[:128],
        "half a header": data[:60],
        "truncated": data[: len(data) // 2],
        "one byte short": data[:-1],
        "one byte more": data + b"0",
        "zeros": bytes(len(data)),
        "zeros at the end": data[:4096] + bytes(len(data) - 4096),
        "zeros in a block": data[:4096] + bytes(4096) + data[8192:],
        "rows swapped": data[:128] + swapped.tobytes(),
        "words swapped": data[:128] + moved.tobytes(),
        "pixels of another image": data[:128] + other[128:],
        "another image": other,
        "text": b"PNG" * 30000,
        "other shape": data[:128].replace(b"(300, 300)", b"(100, 900)") + data[128:],
        "other dtype": data[:128].replace(b"|u1", b"|i1") + data[128:],
        "objects": data[:128].replace(b"|u1", b"|O8") + data[128:],
        "huge": data[:128].replace(b"(300, 300)", b"(999999999)") + data[128:],
    }


def test_an_entry_that_is_not_as_it_was_written_is_made_again(one_entry, tmp_path):
    X, entry, values = one_entry
    data = entry.read_bytes()
    X[1]
    (other,) = set((tmp_path / "cache").iterdir()) - {entry}
    for name, damaged in damages(data, other.read_bytes()).items():
        assert damaged != data
        entry.write_bytes(damaged)
        assert not is_trusted(X, entry), name
        assert_array_equal(X[0], values[0])
        assert is_trusted(X, entry), name
    np.save(entry, values[1])  # of another program, or of an earlier version
    assert_array_equal(X[0], values[0])
    np.save(entry, np.array([print] * 5, dtype=object), allow_pickle=True)
    assert_array_equal(X[0], values[0])
    entry.unlink()
    os.mkfifo(entry)
    assert not is_trusted(X, entry)
    assert_array_equal(X[0], values[0])
    assert is_trusted(X, entry)


def test_a_folder_in_the_place_of_an_entry_does_no_harm(one_entry):
    X, entry, values = one_entry
    entry.unlink()
    entry.mkdir()
    with pytest.warns(UserWarning, match="cache="):
        assert_array_equal(X[0], values[0])
    assert_array_equal(X, values)


def counting_reader(log):
    """Return a reader that writes each path that it reads to a file."""

    def read(path, log=str(log)):
        with open(log, "a") as file:
            file.write(f"{path}\n")
        return np.load(path)

    return read


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_file_that_changes_at_once_is_read_again(where, tmp_path):
    path, log = tmp_path / "a.npy", tmp_path / "log"
    np.save(path, np.zeros((8, 8)))
    X = ImageFiles(
        [path], reader=counting_reader(log), cache="memory" if where == "memory" else tmp_path / "c"
    )
    for i in range(100):  # faster than the clock of the file system
        with path.open("r+b") as file:
            file.seek(128)
            file.write(np.full((8, 8), float(i)).tobytes())
        assert X[0].max() == i
        assert X[0].max() == i
    n_read = len(log.read_text().splitlines())
    assert n_read <= 101


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_young_file_is_read_once(where, tmp_path, monkeypatch):
    path, log = tmp_path / "a.npy", tmp_path / "log"
    np.save(path, np.ones((8, 8)))
    X = ImageFiles(
        [path], reader=counting_reader(log), cache="memory" if where == "memory" else tmp_path / "c"
    )
    for _ in range(3):
        assert X[0].max() == 1
    monkeypatch.setattr(caches, "CLOCK_STEP", -1.0)  # later
    digests = []
    monkeypatch.setattr(
        caches,
        "content_digest",
        lambda path, digest=caches.content_digest: (digests.append(path), digest(path))[1],
    )
    for _ in range(3):
        assert X[0].max() == 1
    assert len(digests) == 1  # from now on the time of the last change is enough
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("where", ["memory", "folder"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_copy_with_size_and_time_of_the_file_is_noticed(where, is_late, tmp_path, monkeypatch):
    one, two, link = tmp_path / "one.npy", tmp_path / "two.npy", tmp_path / "link.npy"
    for path, value in ((one, 1.0), (two, 2.0)):
        np.save(path, np.full((8, 8), value))
        os.utime(path, (1000, 1000))
    link.symlink_to(one)
    if is_late:
        monkeypatch.setattr(caches, "CLOCK_STEP", -1.0)
    X = ImageFiles([link, one], cache="memory" if where == "memory" else tmp_path / "c")
    assert np.asarray(X)[:, 0, 0].tolist() == [1, 1]
    link.unlink()
    link.symlink_to(two)
    assert np.asarray(X)[:, 0, 0].tolist() == [2, 1]
    time.sleep(0.02)  # the times of the status have steps
    one.write_bytes(two.read_bytes())  # as cp -p
    os.utime(one, (1000, 1000))
    assert np.asarray(X)[:, 0, 0].tolist() == [2, 2]
    new = tmp_path / "new.npy"
    np.save(new, np.full((8, 8), 3.0))
    os.utime(new, (1000, 1000))
    new.replace(one)  # as rsync -t
    assert np.asarray(X)[:, 0, 0].tolist() == [2, 3]


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_change_within_a_folder_is_noticed(where, tmp_path):
    series = save_series(tmp_path / "series", [0.0, 1.0, 2.0])
    # A link that leads back, and a link that leads nowhere.
    (series / "back").symlink_to(series, target_is_directory=True)
    X = ImageFiles([series], cache="memory" if where == "memory" else tmp_path / "c")
    before = X[0]
    assert_array_equal(X[0], before)
    files = sorted(path for path in series.iterdir() if path.is_file())
    for old, new in ((files[0], files[1]),):
        status = old.stat()
        data = old.read_bytes()
        at = data.rindex(b"\x00\x00" * 100)
        old.write_bytes(data[:at] + b"\x07\x00" * 100 + data[at + 200 :])
        os.utime(old, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert new.exists()
    assert (X[0] != before).any()
    assert_array_equal(X, ImageFiles([series]))


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((8, 8)))

    def read(path):
        image = np.load(path)
        with open(path, "r+b") as file:
            file.seek(128)
            file.write(np.full((8, 8), 7.0).tobytes())
        return image

    X = ImageFiles([path], reader=read, cache="memory")
    assert X[0].max() == 7


def test_every_field_of_a_spec_is_in_the_key(tmp_path):
    spec = ImageSpec(4, "crop", None, None, None)
    np.save(tmp_path / "a.npy", np.zeros((8, 8)))
    state = caches.FileState.of(str(tmp_path / "a.npy"))
    keys = {caches.FolderCache(str(tmp_path), 1, spec).key(state)}
    for field in fields(spec):
        value = np.load if field.name == "reader" else 999
        keys.add(
            caches.FolderCache(str(tmp_path), 1, replace(spec, **{field.name: value})).key(state)
        )
    assert len(keys) == 1 + len(fields(spec))


def test_an_edited_reader_has_entries_of_its_own(tmp_path):
    paths, values, _ = draw_files(tmp_path, 3, dtype=np.float64)
    log = tmp_path / "log"
    log.touch()
    source = (
        "import numpy as np\nFACTOR = 1\ndef scale(x):\n    return x * FACTOR\n"
        "def read(path):\n    with open({log!r}, 'a') as file:\n        file.write('x')\n"
        "    return scale(np.load(path))\n"
    ).replace("{log!r}", repr(str(log)))

    def run(source):
        space = {"__name__": "mine"}
        exec(source, space)
        log.write_text("")
        images = np.asarray(ImageFiles(paths, reader=space["read"], cache=tmp_path / "cache"))
        return images, len(log.read_text())

    images, n_read = run(source)
    assert (images == values).all()
    assert n_read == 3
    for before, after in (("FACTOR = 1", "FACTOR = 100"), ("x * FACTOR", "x * 100")):
        images, n_read = run(source.replace(before, after))
        assert (images == 100 * values).all()
        assert n_read == 3
    images, n_read = run(source.replace("def read", "# Reads.\ndef read"))
    assert (images == values).all()
    assert n_read == 1  # the first is always read


def test_other_versions_have_entries_of_their_own(tmp_path, monkeypatch):
    import PIL

    paths, _, _ = draw_files(tmp_path, 1)
    for version, n_entries in ((PIL.__version__, 1), (PIL.__version__, 1), ("0.1", 2)):
        monkeypatch.setattr(PIL, "__version__", version)
        np.asarray(ImageFiles(paths, cache=tmp_path / "cache"))
        assert len(list((tmp_path / "cache").iterdir())) == n_entries


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_another_row_of_formats_has_entries_of_its_own(where, tmp_path, monkeypatch):
    paths, values, _ = draw_files(tmp_path, 2)
    X = ImageFiles(paths, cache="memory" if where == "memory" else tmp_path / "cache")
    assert_array_equal(X, values)

    def inverted(path, request):
        return DecodedImage(255 - np.load(path), full_range=(0, 255))

    monkeypatch.setitem(FORMATS, "npy", Format(inverted, (".npy",)))
    assert_array_equal(X, 255 - values)
    if where == "folder":
        handle = (i for i in "a")
        monkeypatch.setitem(FORMATS, "odd", Format(lambda path, request: next(handle), (".odd",)))
        with pytest.raises(ParameterError, match=r"cache must be.*'handle'.*FORMATS\['odd'\]"):
            ImageFiles(paths, cache=tmp_path / "cache")


def test_readers_that_cannot_be_described_are_refused(tmp_path):
    paths, _, _ = draw_files(tmp_path, 1)
    lines = (line for line in "abc")
    with pytest.raises(
        ParameterError, match=r"cache must be 'memory'.*variable 'lines' of the rea"
    ):
        ImageFiles(paths, reader=lambda path: next(lines), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    images = {"a": np.zeros((4, 4))}
    with pytest.raises(ParameterError, match=r"cache must be 'memory'.*not files, such as 'a'"):
        ImageFiles(["a"], reader=images.__getitem__, cache=tmp_path / "cache")
    with pytest.raises(ParameterError, match="cache must be"):
        ImageFiles(paths, cache=b"cache")


# Images in memory


def test_a_kept_image_cannot_be_changed(tmp_path):
    paths, values, _ = draw_files(tmp_path, 4)
    buffer = np.zeros((8, 8), np.uint8)
    given = []

    def read(path):
        buffer[...] = np.load(path)  # one array for all
        given.append(buffer)
        return buffer

    X = ImageFiles(paths, reader=read, cache="memory")
    for _ in range(2):
        assert_array_equal(X, values)
    buffer[...] = 9
    assert_array_equal(X, values)
    assert len(given) == 4
    state, image = caches.FileState.of(str(paths[0])), values[0].copy()
    cache = caches.MemoryCache(2**20)
    cache.put(state, image)
    image[...] = 0  # it is still the caller's
    kept = cache.get(state)
    assert_array_equal(kept, values[0])
    with pytest.raises(ValueError, match="WRITEABLE"):
        kept.setflags(write=True)
    with pytest.raises(ValueError, match="read-only"):
        kept[...] = 0

    def in_place(image):
        image += 1
        return image

    X = ImageFiles(paths, cache="memory", transform=in_place)
    for _ in range(2):
        assert_array_equal(X, values + 1)


def test_a_part_of_a_large_array_does_not_hold_the_array(tmp_path):
    paths, _, _ = draw_files(tmp_path, 1)
    state, cache = caches.FileState.of(str(paths[0])), caches.MemoryCache(2**20)
    cache.put(state, np.zeros((50, 8, 8))[3])
    kept = cache.get(state)
    while isinstance(kept, np.ndarray) and kept.base is not None:
        kept = kept.base
    assert len(kept) == 8 * 8 * 8


def test_memory_is_bounded_under_threads(tmp_path):
    paths, values, _ = draw_files(tmp_path, 24)
    states = [caches.FileState.of(str(path)) for path in paths]
    cache = caches.MemoryCache(10 * 64)
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(500):
            row = int(rng.integers(24))
            image = cache.get(states[row])
            wrong.append(image is not None and not np.array_equal(image, values[row]))
            cache.put(states[row], values[row])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    most = sum(cache.get(state) is not None for state in states)
    assert not any(wrong)
    assert most == 10


# A folder that cannot be written


@contextmanager
def one_warning(match="cache="):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == 1, texts
    assert match in texts[0]


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path):
    paths, values, _ = draw_files(tmp_path, 6)
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "cache", tmp_path / ("a" * 300), "/proc/cache", "bad\0name"):
        with one_warning(f"cache={os.path.abspath(folder)!r} cannot be written"):
            X = ImageFiles(paths, cache=folder)
            for _ in range(3):
                assert_array_equal(X, values)
            assert_array_equal(pickle.loads(pickle.dumps(X)), values)


@pytest.mark.parametrize("what", ["deleted", "file", "link"])
def test_a_folder_that_goes_away_is_one_warning(what, tmp_path):
    paths, values, _ = draw_files(tmp_path, 6)
    folder = tmp_path / "cache"
    X = ImageFiles(paths, cache=folder)
    assert_array_equal(X[:3], values[:3])
    folder.rename(tmp_path / "gone")
    if what == "file":
        folder.touch()
    if what == "link":
        folder.symlink_to(tmp_path / "nowhere")
    with one_warning(f"cache={str(folder)!r} cannot be written"):
        for _ in range(3):
            assert_array_equal(X, values)


class FaultyFile:
    """A file of which calls fail."""

    def __init__(self, file, tick):
        self._file, self._tick = file, tick

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()
        if error[0] is None:
            self._tick()  # a network drive writes when a file is closed

    def __getattr__(self, name):
        def call(*args):
            self._tick()
            return getattr(self._file, name)(*args)

        return getattr(self._file, name) if name == "fileno" else call


class Faults:
    """Calls about a folder, of which one fails, or all from one on."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.n, self.fail_at, self.error, self.lasts = str(folder), 0, -1, 0, False
        monkeypatch.setattr(caches, "open", self._open, raising=False)
        for name in ("open", "write", "replace", "unlink", "scandir", "utime", "makedirs", "fstat"):
            monkeypatch.setattr(os, name, self._faulty(getattr(os, name)))

    def _tick(self):
        self.n += 1
        if self.n == self.fail_at or (self.lasts and self.n > self.fail_at >= 0):
            raise OSError(self.error, os.strerror(self.error), self.folder)

    def _faulty(self, function):
        def call(path, *args, **options):
            if isinstance(path, int) or str(path).startswith(self.folder):
                self._tick()
            return function(path, *args, **options)

        return call

    def _open(self, path, *args, **options):
        if not str(path).startswith(self.folder):
            return builtins.open(path, *args, **options)
        self._tick()
        return FaultyFile(builtins.open(path, *args, **options), self._tick)


ERRORS = ("ENOSPC", "EROFS", "ESTALE", "EACCES", "EIO", "EDQUOT")


def check_every_fault(tmp_path, monkeypatch, errors, lasts):
    """Let each call about the folder fail in turn, in a program that makes, reads and evicts."""
    paths, values, _ = draw_files(tmp_path, 5)
    n_warned, n_tried, set_time = 0, 0, os.utime
    for name in errors:
        for lasting in lasts:
            fail_at = 1
            while True:
                folder = tmp_path / f"{name}{lasting}{fail_at}"
                with monkeypatch.context() as context, warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    faults = Faults(folder, context)
                    context.setattr(caches, "MARK_STEP", -1.0)
                    faults.fail_at, faults.error = fail_at, getattr(errno, name)
                    faults.lasts = lasting
                    X = ImageFiles(paths, cache=folder, cache_bytes=4 * 192)
                    for _ in range(2):
                        assert_array_equal(X, values)
                    for entry in os.listdir(folder) if folder.is_dir() else ():
                        set_time(folder / entry, (0, 0))
                    X = ImageFiles(paths[::-1], cache=folder, cache_bytes=3 * 192)
                    for _ in range(2):
                        assert_array_equal(X, values[::-1])
                    n_calls = faults.n
                texts = [str(warning.message) for warning in told]
                assert len(texts) <= 2, texts  # of two arrays
                assert all(f"cache={str(folder)!r} cannot be written" in text for text in texts)
                # What is left is right.
                assert_array_equal(ImageFiles(paths, cache=folder), values)
                n_warned, n_tried, fail_at = n_warned + bool(texts), n_tried + 1, fail_at + 1
                if n_calls < fail_at:
                    break
    return n_warned, n_tried


@pytest.mark.slow
def test_every_call_may_fail(tmp_path, monkeypatch):
    n_warned, n_tried = check_every_fault(tmp_path, monkeypatch, ["ENOSPC"], [True])
    assert n_tried > 50
    assert n_warned > 0.3 * n_tried


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("lasting", [False, True])
def test_every_call_may_fail_in_every_way(tmp_path, monkeypatch, error, lasting):
    n_warned, n_tried = check_every_fault(tmp_path, monkeypatch, [error], [lasting])
    assert n_tried > 50
    assert n_warned > 0.2 * n_tried


def test_a_folder_that_is_only_read_is_used(tmp_path, monkeypatch):
    paths, values, _ = draw_files(tmp_path, 3)
    folder, log = tmp_path / "cache", tmp_path / "log"
    reader = counting_reader(log)
    assert_array_equal(ImageFiles(paths, reader=reader, cache=folder), values)
    n_read = len(log.read_text().splitlines())

    def refuse(path, *args, **options):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "unlink", refuse)

    def open_to_read(path, flags, *mode, os_open=os.open):
        return refuse(path) if flags & os.O_CREAT else os_open(path, flags, *mode)

    monkeypatch.setattr(os, "open", open_to_read)
    with one_warning("Read-only file system"):
        X = ImageFiles(paths, reader=reader, cache=folder)
        for _ in range(2):
            assert_array_equal(X, values)
    assert len(log.read_text().splitlines()) == n_read + 1  # the first is always read


def test_a_full_folder_is_not_listed_for_every_image(tmp_path, monkeypatch):
    paths, values, _ = draw_files(tmp_path, 24)
    listed = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(path), scan(path))[1])
    X = ImageFiles(paths, cache=tmp_path / "cache", cache_bytes=10 * 192)
    for _ in range(5):
        assert_array_equal(X, values)
    assert len(listed) < 24
    assert sum(entry.stat().st_size for entry in (tmp_path / "cache").iterdir()) == 10 * 192


# Processes


needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs os.fork"
)


def in_fork(function):
    """Run a function in a forked process, and return the exit status."""
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(function()))
    process.start()
    process.join(60)
    process.kill()
    return process.exitcode


@needs_fork
@pytest.mark.filterwarnings("ignore:This process")
def test_forked_processes_warn_once_together(tmp_path):
    paths, values, _ = draw_files(tmp_path, 6)
    folder = tmp_path / "cache"
    X = ImageFiles(paths, cache=folder)
    folder.rmdir()

    def read():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            right = np.array_equal(X, values)
        return 10 * (not right) + len(told)

    assert [in_fork(read) for _ in range(3)] == [1, 0, 0]
    assert read() == 0


@needs_fork
@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_process_may_fork_while_an_image_is_put(where, tmp_path):
    paths, values, _ = draw_files(tmp_path, 1)
    spec = ImageSpec(None, "resample", None, None, None)
    cache = caches.make_cache("memory" if where == "memory" else tmp_path / "cache", 2**20, spec)
    state = caches.FileState.of(str(paths[0]))

    def put():
        cache.put(state, values[0])
        return int(not np.array_equal(cache.get(state), values[0]))

    with cache.lock:
        assert in_fork(put) == 0
    assert put() == 0
    assert_array_equal(copy.deepcopy(ImageFiles(paths, cache=tmp_path / "other")), values)


HAMMER = """
import os, sys, time
import numpy as np
from skimbal.images import ImageFiles, cache
folder, n_bytes, seconds, seed, size, *paths = sys.argv[1:]
cache.SCAN_STEP = 0.0
values = np.stack([np.load(path) for path in paths])
rng = np.random.default_rng(int(seed))
end = time.time() + float(seconds)
most = 0
print("ready", flush=True)
while time.time() < end:
    X = ImageFiles(paths, cache=folder, cache_bytes=int(n_bytes), size=int(size), resize="crop")
    for row in rng.permutation(len(paths)):
        edge = int(size) // 2
        assert (X[int(row)] == values[row, 32 - edge : 32 + edge, 32 - edge : 32 + edge]).all()
    with os.scandir(folder) as found:
        sizes = []
        for entry in found:
            try:
                sizes.append(entry.stat().st_size)
            except FileNotFoundError:
                pass
    most = max(most, sum(sizes))
print(most, flush=True)
"""


def start_hammer(folder, n_bytes, seconds, seed, size, paths):
    arguments = [folder, n_bytes, seconds, seed, size, *paths]
    return subprocess.Popen(
        [sys.executable, "-W", "error::UserWarning", "-c", HAMMER, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_share_a_small_folder(tmp_path):
    paths, _, _ = draw_files(tmp_path, 24, shape=(64, 64))
    limit = 8 * (64 * 64 + 128)
    running = [
        start_hammer(tmp_path / "cache", limit, 8, seed, size, paths)
        for seed, size in ((0, 64), (1, 64), (2, 32))
    ]
    for process in running:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        # Each process may write one image that the others have not counted.
        assert int(out.split()[-1]) <= limit + 3 * (64 * 64 + 128)
    assert not list((tmp_path / "cache").glob("skimbal-part-*"))


@pytest.mark.slow
def test_a_program_that_is_killed_at_any_moment_leaves_only_right_entries(tmp_path):
    paths, values, _ = draw_files(tmp_path, 24, shape=(64, 64))
    folder = tmp_path / "cache"
    rng = np.random.default_rng(0)
    for seed in range(6):
        process = start_hammer(folder, 12 * (64 * 64 + 128), 60, seed, 64, paths)
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):
            time.sleep(float(rng.uniform(0, 0.1)))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        X = ImageFiles(paths, cache=folder, size=64, resize="crop")
        assert_array_equal(X, values)
        for entry in folder.glob("*.npy"):
            assert np.load(entry).shape == (64, 64)
