"""The data sets of MedMNIST, found on disk or downloaded."""

import functools
import hashlib
import http.server
import os
import sys
import threading

import numpy as np
import pytest

from skimbal.datasets import load_medmnist, medmnist
from tests.datasets.data import KEYS, check_one_line, make_arrays


@pytest.fixture
def breastmnist(monkeypatch, make_npz):
    """A small file, with the facts about breastmnist changed so that it is the official one."""
    path = make_npz("breastmnist.npz", **make_arrays())
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    facts = {"classes": ["malignant", "benign", "other"], "md5": {"28": md5, "64": md5}}
    monkeypatch.setitem(medmnist.DATA_SETS, "breastmnist", facts)
    monkeypatch.delenv("SKIMBAL_DATA", raising=False)
    return path


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A web server in the place of Zenodo; the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(medmnist, "URL", f"http://127.0.0.1:{httpd.server_port}")
        yield folder
        httpd.shutdown()


@pytest.mark.parametrize("size", [28, pytest.param(64, marks=pytest.mark.slow)])
def test_medmnist_official_files(data_dir, size):
    data = load_medmnist("vesselmnist3d", size, download=False)
    assert set(data) == KEYS
    assert data.ndim == 3
    assert data.X_train.shape == (1335, size, size, size)
    assert data.target_names == ["vessel", "aneurysm"]
    assert data.license == "CC BY 4.0"
    np.testing.assert_array_equal(np.bincount(data.y_test), [339, 43])


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("chestmnist", 28, "name.*'chestmnist'.*multi-label"),
        ("mnist", 28, "name.*adrenalmnist3d, bloodmnist.*'mnist'"),
        ("organmnist3d", 128, "size.*28 or 64 for organmnist3d.*128"),
        ("bloodmnist", 32, "size.*28 or 64 or 128 or 224 for bloodmnist.*32"),
    ],
)
def test_medmnist_unknown_set_or_size(name, size, message):
    with pytest.raises(ValueError, match=message):
        load_medmnist(name, size)


@pytest.mark.parametrize("folder", [".", "breastmnist"])
def test_medmnist_is_found_in_a_listed_folder_or_just_below(
    monkeypatch, breastmnist, tmp_path, folder
):
    listed = tmp_path / "second"
    (listed / folder).mkdir(parents=True)
    breastmnist.rename(listed / folder / "breastmnist.npz")
    monkeypatch.setenv("SKIMBAL_DATA", f"{tmp_path / 'absent'}{os.pathsep}{listed}")
    data = load_medmnist("breastmnist", download=False)
    assert data.target_names == ["malignant", "benign", "other"]
    assert data.name == "breastmnist"
    assert data.filename == str(listed / folder / "breastmnist.npz")


def test_medmnist_sizes_other_than_28_are_named_in_the_file(breastmnist):
    breastmnist.rename(breastmnist.with_name("breastmnist_64.npz"))
    data = load_medmnist("breastmnist", 64, data_home=breastmnist.parent, download=False)
    assert data.name == "breastmnist_64"
    assert data.filename.endswith("breastmnist_64.npz")


def test_medmnist_table_has_names_and_checksums():
    assert len(medmnist.DATA_SETS) == 17
    for name, facts in medmnist.DATA_SETS.items():
        sizes = ["28", "64"] if name.endswith("3d") else ["28", "64", "128", "224"]
        assert list(facts["md5"]) == sizes
        assert all(len(bytes.fromhex(md5)) == 16 for md5 in facts["md5"].values())
        assert len(set(facts["classes"])) == len(facts["classes"]) > 1


@pytest.mark.parametrize("listed", [True, False])
def test_medmnist_refuses_another_file(monkeypatch, breastmnist, make_npz, listed):
    make_npz("breastmnist.npz", **make_arrays((4, 4)))
    got = hashlib.md5(breastmnist.read_bytes()).hexdigest()
    expected = medmnist.DATA_SETS["breastmnist"]["md5"]["28"]
    if listed:
        monkeypatch.setenv("SKIMBAL_DATA", str(breastmnist.parent))
    with pytest.raises(ValueError, match="load_npz") as error:
        load_medmnist("breastmnist", data_home=None if listed else breastmnist.parent)
    check_one_line(error, f"md5 sum {expected}", f"got {got}", str(breastmnist))


def test_medmnist_downloads_once(breastmnist, server, tmp_path):
    served = breastmnist.rename(server / "breastmnist.npz")
    cache = tmp_path / "new" / "cache"
    data = load_medmnist("breastmnist", data_home=cache)
    served.unlink()
    again = load_medmnist("breastmnist", data_home=cache)
    np.testing.assert_array_equal(data.X_test, again.X_test)


def test_medmnist_default_cache(monkeypatch, breastmnist, server, tmp_path):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "caches" / project)
    breastmnist.rename(server / "breastmnist.npz")
    load_medmnist("breastmnist")
    assert (tmp_path / "caches" / "skimbal" / "breastmnist.npz").is_file()


def test_medmnist_download_of_another_file(breastmnist, server, tmp_path):
    (server / "breastmnist.npz").write_bytes(b"not what Zenodo holds")
    cache = tmp_path / "cache"
    with pytest.raises(OSError, match="cannot download") as error:
        load_medmnist("breastmnist", data_home=cache)
    check_one_line(error, medmnist.DATA_SETS["breastmnist"]["md5"]["28"])
    assert not (cache / "breastmnist.npz").exists()


def test_medmnist_offline_says_which_file_to_put_where(monkeypatch, breastmnist, tmp_path):
    # Nothing listens on the discard port, so the connection is refused at once.
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(medmnist, "URL", "http://127.0.0.1:9")
    cache = tmp_path / "cache"
    with pytest.raises(OSError, match="cannot download") as error:
        load_medmnist("breastmnist", data_home=cache)
    check_one_line(error, "/breastmnist.npz", str(cache), "SKIMBAL_DATA", "ConnectionError")


def test_medmnist_without_download_writes_nothing(breastmnist, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(FileNotFoundError) as error:
        load_medmnist("breastmnist", data_home=cache, download=False)
    check_one_line(error, str(cache), "zenodo.org", "download=True")
    assert not cache.exists()


def test_medmnist_without_pooch(monkeypatch, breastmnist, tmp_path):
    monkeypatch.setitem(sys.modules, "pooch", None)
    for data_home in (None, tmp_path / "cache"):
        with pytest.raises(ImportError) as error:
            load_medmnist("breastmnist", data_home=data_home)
        check_one_line(error, 'pip install "pooch')
    load_medmnist("breastmnist", data_home=tmp_path)
