import functools
import hashlib
import http.server
import os
import sys
import threading

import numpy as np
import pytest

from skimbal.datasets import (
    DataCard,
    load_image_folder,
    load_imbalanced_digits,
    load_medmnist,
    load_npz,
    medmnist,
)
from skimbal.images import ImageFiles

SPLITS = ("train", "val", "test")
KEYS = {f"{kind}_{split}" for kind in "Xy" for split in SPLITS} | {
    "target_names",
    "ndim",
    "name",
    "filename",
    "DESCR",
    "license",
    "citation",
}


def make_arrays(shape=(6, 5), **replaced):
    rng = np.random.default_rng(0)
    arrays = {}
    for split in SPLITS:
        arrays[f"{split}_images"] = rng.integers(0, 256, (8, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array([[0], [1], [2], [1]] * 2, dtype=np.uint8)
    arrays.update(replaced)
    return {key: array for key, array in arrays.items() if array is not None}


@pytest.fixture
def make_npz(tmp_path):
    def make(name="some.npz", **arrays):
        np.savez_compressed(tmp_path / name, **arrays)
        return tmp_path / name

    return make


@pytest.fixture
def breastmnist(monkeypatch, make_npz):
    """A small file, with the facts about breastmnist changed so that it is the official one."""
    path = make_npz("breastmnist.npz", **make_arrays())
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(medmnist._MEDMNIST, "breastmnist", ("malignant; benign; other", md5))
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
        monkeypatch.setattr(medmnist, "_ZENODO", f"http://127.0.0.1:{httpd.server_port}")
        yield folder
        httpd.shutdown()


def check_one_line(error, *parts):
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


# ---- embedded digits


def test_digits_have_the_stated_classes_and_counts():
    digits = load_imbalanced_digits()
    assert set(digits) == KEYS
    assert digits.target_names == ["other", "eight", "nine"]
    assert digits.ndim == 2
    assert digits.filename is None
    counts = {"train": [432, 43, 43], "val": [108, 11, 11], "test": [180, 18, 18]}
    for split, count in counts.items():
        X, y = digits[f"X_{split}"], digits[f"y_{split}"]
        assert X.shape == (sum(count), 8, 8)
        assert X.dtype == np.uint8
        assert X.max() == 16
        assert y.dtype == np.int64
        np.testing.assert_array_equal(np.bincount(y), count)
        assert str(count) in digits.DESCR


def test_digits_depend_on_random_state_only():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (load_imbalanced_digits(random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_array_equal(one.X_train, same.X_train)
    np.testing.assert_array_equal(one.y_test, same.y_test)
    assert not np.array_equal(one.X_train, other.X_train)


def test_digits_of_one_split_are_in_no_other():
    digits = load_imbalanced_digits()
    seen = [{image.tobytes() for image in digits[f"X_{split}"]} for split in SPLITS]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 864


def test_digits_imbalance():
    for imbalance, rare in ((5, 144), (36, 20)):
        digits = load_imbalanced_digits(imbalance=imbalance)
        y = np.concatenate([digits[f"y_{split}"] for split in SPLITS])
        np.testing.assert_array_equal(np.bincount(y), [720, rare, rare])
    for imbalance in (4.9, 37, np.nan):
        with pytest.raises(ValueError, match="from 5 to 36, got"):
            load_imbalanced_digits(imbalance=imbalance)


# ---- files of MedMNIST's form


@pytest.mark.parametrize(
    ("shape", "loaded", "ndim"),
    [
        ((6, 5), (6, 5), 2),
        ((6, 5, 3), (3, 6, 5), 2),
        ((6, 5, 1), (1, 6, 5), 2),
        ((3, 6, 5), (3, 6, 5), 2),
        ((7, 6, 5), (7, 6, 5), 3),
    ],
)
def test_npz_shapes(make_npz, shape, loaded, ndim):
    arrays = make_arrays(shape)
    data = load_npz(make_npz(**arrays))
    assert set(data) == KEYS
    assert data.ndim == ndim
    assert data.name == "some"
    assert data.filename.endswith("some.npz")
    assert data.target_names == ["0", "1", "2"]
    for split in SPLITS:
        X, images = data[f"X_{split}"], arrays[f"{split}_images"]
        assert X.shape == (8, *loaded)
        assert X.dtype == np.uint8
        assert X.flags.c_contiguous
        np.testing.assert_array_equal(X, images if shape == loaded else np.moveaxis(images, -1, 1))
        np.testing.assert_array_equal(data[f"y_{split}"], arrays[f"{split}_labels"].ravel())


def test_npz_takes_flat_labels_and_str_paths(make_npz):
    path = make_npz(**make_arrays(val_labels=np.arange(8)))
    data = load_npz(str(path))
    np.testing.assert_array_equal(data.y_val, np.arange(8))
    assert data.target_names == [str(k) for k in range(8)]


@pytest.mark.parametrize("keys", [("images", "labels"), ("X", "y")])
def test_npz_without_splits(make_npz, rng, keys):
    images = rng.integers(0, 256, (8, 5, 4, 3), dtype=np.uint8)
    labels = [[0], [2], [2], [0]] * 2
    data = load_npz(make_npz(**dict(zip(keys, (images, labels), strict=True)), other=np.arange(3)))
    assert set(data) == {key for key in KEYS if key[:2] not in ("X_", "y_")} | {"X", "y"}
    np.testing.assert_array_equal(data.X, np.moveaxis(images, -1, 1))
    np.testing.assert_array_equal(data.y, [0, 2, 2, 0] * 2)
    assert data.y.dtype == np.int64
    assert data.target_names == ["0", "1", "2"]
    assert "'all': [4, 0, 4]" in data.DESCR


def test_npz_with_splits_wins_over_other_arrays(make_npz):
    data = load_npz(make_npz(**make_arrays(), X=np.zeros((2, 6, 5)), y=np.zeros(2, int)))
    assert set(data) == KEYS


def test_npz_class_names_are_numbered_over_all_splits(make_npz):
    rare = np.array([["naevus"]] * 6 + [["melanoma"]] * 2)
    names = {"val_labels": rare, "test_labels": rare, "train_labels": np.array(["naevus"] * 8)}
    data = load_npz(make_npz(**make_arrays(**names)))
    assert data.target_names == ["melanoma", "naevus"]
    np.testing.assert_array_equal(data.y_train, np.ones(8))
    np.testing.assert_array_equal(data.y_test, [1] * 6 + [0] * 2)


def test_npz_groups(make_npz):
    of_rows = {"train_site": np.arange(8)[:, None], "val_site": np.arange(8) // 4}
    with_test = make_npz("with.npz", **make_arrays(), **of_rows, test_site=np.array(["a", "b"] * 4))
    data = load_npz(with_test, groups="site")
    assert set(data) == KEYS | {"groups_train", "groups_val", "groups_test"}
    np.testing.assert_array_equal(data.groups_train, np.arange(8))
    np.testing.assert_array_equal(data.groups_val, [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(data.groups_test, ["a", "b"] * 4)
    assert (
        load_npz(make_npz("no.npz", **make_arrays(), **of_rows), groups="site").groups_test is None
    )
    own = make_npz(X=np.zeros((3, 6, 5)), y=np.array([0, 1, 1]), site=np.array([5.0, 5.0, 6.0]))
    np.testing.assert_array_equal(load_npz(own, groups="site").groups, [5, 5, 6])


@pytest.mark.parametrize(
    ("groups", "parts"),
    [
        (None, ["all rows", "'site'; the file holds X, y"]),
        (np.arange(4), ["one entry for each of 3 images", "(4,)"]),
        (np.zeros((3, 2)), ["(3, 2)"]),
        (np.array([1, np.nan, 2]), ["missing", "float64 with NaN"]),
        (np.zeros(3, complex), ["numbers or text", "complex128"]),
    ],
)
def test_npz_groups_of_another_form(make_npz, groups, parts):
    arrays = {"X": np.zeros((3, 6, 5)), "y": np.array([0, 1, 1])}
    path = make_npz(**arrays) if groups is None else make_npz(**arrays, site=groups)
    with pytest.raises(ValueError, match=r"some\.npz") as error:
        load_npz(path, groups="site")
    check_one_line(error, *parts)


def test_npz_of_no_known_form(make_npz):
    with pytest.raises(ValueError, match=r"some\.npz") as error:
        load_npz(make_npz(data=np.zeros((3, 6, 5)), labels=np.zeros(3, int)))
    check_one_line(error, "images and labels, or X and y", "train_images", "it holds data, labels")


def test_npz_missing_file(tmp_path):
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(FileNotFoundError) as error:
            load_npz(path)
        check_one_line(error, str(path), "no such file")


@pytest.mark.parametrize("kept", [0, 100, -30])
def test_npz_cut_short(make_npz, kept):
    path = make_npz(**make_arrays())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="cut short") as error:
        load_npz(path)
    check_one_line(error, str(path), "get it again")


def test_npz_damaged_in_any_byte_is_one_clear_error(make_npz, rng):
    path = make_npz(**make_arrays())
    whole = path.read_bytes()
    messages = []
    for place in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[place] ^= 0x5A
        path.write_bytes(damaged)
        try:
            load_npz(path)  # time stamps and the like may change without harm
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_npz_never_unpickles(make_npz):
    path = make_npz(**make_arrays(train_labels=np.array([[0]] * 8, dtype=object)))
    with pytest.raises(ValueError, match="plain arrays") as error:
        load_npz(path)
    check_one_line(error, "allow_pickle=False")


@pytest.mark.parametrize(
    ("replaced", "parts"),
    [
        ({"val_labels": None, "test_images": None}, ["missing: val_labels, test_images"]),
        ({"train_labels": np.zeros((8, 14), int)}, ["train", "(8, 14)", "multi-label"]),
        ({"train_labels": np.zeros((7, 1), int)}, ["train", "got 7 and 8"]),
        ({"val_images": np.zeros((0, 6, 5), np.uint8)}, ["val", "at least one", "(0, 6, 5)"]),
        ({"val_images": np.zeros((8, 6, 4), np.uint8)}, ["one shape", "(6, 4)"]),
        ({"test_images": np.zeros((8, 30), np.uint8)}, ["test", "(n, h, w)", "(8, 30)"]),
        ({"test_images": np.full((8, 6, 5), "a")}, ["test", "numbers", "<U1"]),
        ({"test_labels": np.full((8, 1), 0.5)}, ["test", "class numbers", "float64"]),
        ({"test_labels": np.full((8, 1), -1)}, ["test", "class numbers from 0"]),
        ({"test_labels": np.full(8, "a")}, ["numbers or as text in all splits, got both"]),
    ],
)
def test_npz_of_another_form(make_npz, replaced, parts):
    path = make_npz(**make_arrays(**replaced))
    with pytest.raises(ValueError, match=r"some\.npz") as error:
        load_npz(path)
    check_one_line(error, *parts)


def test_npz_real_images(data_dir):
    data = load_npz(data_dir / "pneumoniamnist" / "pneumoniamnist_full_rebuilt.npz")
    assert data.X_train.shape == (4708, 28, 28)
    np.testing.assert_array_equal(np.bincount(data.y_test), [234, 390])


# ---- MedMNIST


@pytest.mark.parametrize("size", [28, 64])
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
        ("chestmnist", 28, "multi-label is not supported"),
        ("mnist", 28, "'mnist': expected one of adrenalmnist3d, bloodmnist"),
        ("organmnist3d", 128, "sizes 28, 64, got 128"),
        ("bloodmnist", 32, "sizes 28, 64, 128, 224, got 32"),
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


@pytest.mark.parametrize("listed", [True, False])
def test_medmnist_refuses_another_file(monkeypatch, breastmnist, make_npz, listed):
    make_npz("breastmnist.npz", **make_arrays((4, 4)))
    got = hashlib.md5(breastmnist.read_bytes()).hexdigest()
    expected = medmnist._MEDMNIST["breastmnist"][1]
    if listed:
        monkeypatch.setenv("SKIMBAL_DATA", str(breastmnist.parent))
    with pytest.raises(ValueError, match="load_npz") as error:
        load_medmnist("breastmnist", data_home=None if listed else breastmnist.parent)
    check_one_line(error, f"expected md5 {expected}", f"got {got}", str(breastmnist))


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
    check_one_line(error, medmnist._MEDMNIST["breastmnist"][1])
    assert not (cache / "breastmnist.npz").exists()


def test_medmnist_offline_says_which_file_to_put_where(monkeypatch, breastmnist, tmp_path):
    # Nothing listens on the discard port, so the connection is refused at once.
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(medmnist, "_ZENODO", "http://127.0.0.1:9")
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
        check_one_line(error, 'pip install "skimbal[data]"')
    load_medmnist("breastmnist", data_home=tmp_path)


def test_data_card_counts_each_split():
    card = DataCard.from_labels(
        {"train": ["b", "a", "a", "a"], "test": ["a"]},
        image_shape=(1, 2, 3),
        dtype="uint8",
        groups={"train": [1, 1, 2, 3]},
    )
    assert card.class_names == ["a", "b"]
    assert card.counts == {"train": [3, 1], "test": [1, 0]}
    assert (card.imbalance("train"), card.imbalance("test")) == (3, float("inf"))
    assert card.table() == [
        ["class", "train", "test"],
        ["a", "3 (75 %)", "1 (100 %)"],
        ["b", "1 (25 %)", "0 (0 %)"],
        ["all", "4", "1"],
        ["largest to smallest class", "3.0 : 1", "inf : 1"],
        ["groups", "3", ""],
    ]
    assert str(card).startswith("images of shape (1, 2, 3), uint8\nclass ")


def test_data_card_names_the_classes_of_a_bunch():
    digits = load_imbalanced_digits()
    card = DataCard.from_labels(
        {"train": digits.y_train},
        image_shape=digits.X_train.shape[1:],
        dtype=str(digits.X_train.dtype),
        class_names=digits.target_names,
    )
    assert card.table()[1] == ["other", "432 (83 %)"]
    assert card.n_groups is None


def write_images(root, names, value=None):
    """Write an image for each name, which holds its place in the list."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, np.full((4, 4), i, dtype=np.uint8))
    return root


def write_table(root, *lines, head="path,label,patient,part"):
    table = root / "labels.csv"
    table.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return table


def test_folders_of_classes(tmp_path):
    names = ["b/1.npy", "b/deep/2.npy", "a/3.npy", "b/4.npy"]
    root = write_images(tmp_path / "set", names)
    (root / "README.txt").write_text("notes beside the classes")
    data = load_image_folder(root)
    assert isinstance(data.X, ImageFiles)
    assert data.target_names == ["a", "b"]
    assert data.y.dtype == np.int64
    assert data.y.tolist() == [0, 1, 1, 1]
    assert np.asarray(data.X)[:, 0, 0].tolist() == [2, 0, 3, 1]
    assert "groups" not in data
    assert (data.ndim, data.name, data.filename) == (2, "set", str(root))
    assert data.card.counts == {"all": [1, 3]}
    assert data.card.image_shape == (4, 4)
    assert str(data.card) in data.DESCR
    assert load_image_folder(root, size=(6, 6), dtype="uint8").X.shape == (4, 6, 6)


def test_numbered_classes_are_in_order_of_their_numbers(tmp_path):
    root = write_images(tmp_path, ["10/a.npy", "9/b.npy", "0/c.npy"])
    assert load_image_folder(root).target_names == ["0", "9", "10"]


def test_folders_of_splits(tmp_path):
    names = ["train/a/1.npy", "train/b/2.npy", "test/a/3.npy", "val/b/4.npy"]
    data = load_image_folder(write_images(tmp_path, names))
    assert data.target_names == ["a", "b"]
    assert {name: data[f"y_{name}"].tolist() for name in SPLITS} == {
        "train": [0, 1],
        "val": [1],
        "test": [0],
    }
    assert np.asarray(data.X_train)[:, 0, 0].tolist() == [0, 1]
    assert data.card.counts == {"train": [1, 1], "val": [0, 1], "test": [1, 0]}
    # Classes that happen to be named alike are classes.
    data = load_image_folder(write_images(tmp_path / "c", ["train/1.npy", "bus/2.npy"]))
    assert data.target_names == ["bus", "train"]
    assert "X" in data


def test_tables(tmp_path):
    root = write_images(tmp_path, [f"{i}.npy" for i in range(5)])
    table = write_table(
        root,
        "3.npy,healthy,p1,train",
        f"{root / '1.npy'},ill,p2,test",
        '0.npy,"healthy",p1,train',
        "sub/../2.npy,ill,p3,train",
        "4.npy,ill,p2,test",
    )
    data = load_image_folder(
        root, labels=table, group_column="patient", split_column="part", channels=1
    )
    assert "X" not in data
    assert np.asarray(data.X_train)[:, 0, 0, 0].tolist() == [3, 0, 2]
    assert np.asarray(data.X_test)[:, 0, 0, 0].tolist() == [1, 4]
    assert data.y_train.tolist() == [0, 0, 1]
    assert data.groups_train.tolist() == ["p1", "p1", "p3"]
    assert data.card.n_groups == {"train": 2, "test": 1}
    assert data.card.counts == {"train": [2, 1], "test": [0, 2]}
    data = load_image_folder(root, labels=table, group_column="patient")
    assert data.y.tolist() == [0, 1, 0, 1, 1]
    assert np.asarray(data.X)[:, 0, 0].tolist() == [3, 1, 0, 2, 4]
    assert data.groups.tolist() == ["p1", "p2", "p1", "p3", "p2"]
    assert data.card.n_groups == {"all": 3}
    plain = load_image_folder(root, labels=table, label_column="part", path_column="path")
    assert plain.target_names == ["test", "train"]


def test_table_with_a_mark_of_its_encoding(tmp_path):
    root = write_images(tmp_path, ["a.npy", "b.npy"])
    (root / "labels.csv").write_text("path,label\na.npy,é\nb.npy,e\n", encoding="utf-8-sig")
    assert load_image_folder(root, labels=root / "labels.csv").target_names == ["e", "é"]


def test_own_reader_of_folders(tmp_path):
    root = write_images(tmp_path, ["a/1.npy", "b/2.npy"])
    for name in ("a/3.own", "b/4.own"):
        (root / name).write_text("7")
    data = load_image_folder(root, reader=lambda path: np.full((2, 2), path.endswith("own")))
    assert np.asarray(data.X)[:, 0, 0].tolist() == [False, True, False, True]


FOLDER_MISTAKES = {
    "an image beside the classes": ("5.npy", "an image without a label"),
    "no image": ("a/notes.txt", "a file that is no image, by its extension"),
    "an empty class": ("c/", "the folder of a class without an image"),
}


@pytest.mark.parametrize("mistake", FOLDER_MISTAKES)
def test_mistakes_in_folders(mistake, tmp_path):
    name, message = FOLDER_MISTAKES[mistake]
    root = write_images(tmp_path, ["a/1.npy", "b/2.npy"])
    if name.endswith(".npy"):
        write_images(root, [name])
    elif name.endswith("/"):
        (root / name).mkdir()
    else:
        (root / name).touch()
    with pytest.raises(ValueError, match=rf"{name.rstrip('/')}: {message}.*In all 1 such"):
        load_image_folder(root)
    with pytest.warns(
        UserWarning, match=rf"skipped 1 files or rows.*{name.rstrip('/')}: {message}"
    ):
        data = load_image_folder(root, on_error="skip")
    assert data.y.tolist() == [0, 1]
    assert data.target_names == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c.npy,ill", "line 4: a label without an image, as .*c.npy is not there"),
        ("a2.npy,", "line 4: the column 'label' is empty"),
        (",ill", "line 4: the column 'path' is empty"),
        (None, "a2.npy: an image without a label, as .*labels.csv does not list it"),
    ],
)
def test_mistakes_in_tables(line, message, tmp_path):
    root = write_images(
        tmp_path, ["a.npy", "b.npy", "a2.npy"][: 3 if line in (None, "a2.npy,") else 2]
    )
    table = write_table(
        root, "a.npy,ill", "b.npy,healthy", *([line] if line else []), head="path,label"
    )
    with pytest.raises(ValueError, match=message):
        load_image_folder(root, labels=table)
    with pytest.warns(UserWarning, match=message):
        data = load_image_folder(root, labels=table, on_error="skip")
    assert data.y.tolist() == [1, 0]


def test_damaged_images_are_dropped_with_their_labels(tmp_path):
    root = write_images(tmp_path, ["0.npy", "1.npy", "2.npy", "3.npy"])
    (root / "1.npy").write_bytes(b"no array")
    table = write_table(
        root, "0.npy,x,p0,train", "1.npy,y,p1,test", "2.npy,z,p2,test", "3.npy,x,p3,train"
    )
    options = {"labels": table, "group_column": "patient", "split_column": "part"}
    with pytest.raises(ValueError, match=r"cannot read .*1\.npy"):
        load_image_folder(root, **options)
    with pytest.warns(UserWarning, match="skipped 1 of 4 files"):
        data = load_image_folder(root, on_error="skip", **options)
    assert data.target_names == ["x", "z"]
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([0, 0], [1])
    assert data.groups_train.tolist() == ["p0", "p3"]
    assert np.asarray(data.X_train)[:, 0, 0].tolist() == [0, 3]
    assert np.asarray(data.X_test)[:, 0, 0].tolist() == [2]


def test_what_is_no_image_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder at .*nowhere"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there are no images in"):
        load_image_folder(tmp_path)
    root = write_images(tmp_path / "one", ["a/1.npy"])
    with pytest.raises(ValueError, match="has one class, 'a'"):
        load_image_folder(root)
    with pytest.raises(ValueError, match="on_error must be"):
        load_image_folder(root, on_error="warn")
    with pytest.raises(ValueError, match="pass it as labels="):
        load_image_folder(root, group_column="patient")
    with pytest.raises(FileNotFoundError, match=r"expected a csv file at .*nowhere\.csv"):
        load_image_folder(root, labels=root / "nowhere.csv")
    table = write_table(root, "a/1.npy,x")
    with pytest.raises(ValueError, match="no column 'file'; its columns are 'path', 'label'"):
        load_image_folder(root, labels=table, path_column="file")
    table = write_table(root, "a/1.npy,x", "a/../a/1.npy,y")
    with pytest.raises(ValueError, match=r"lists .*1\.npy more than once"):
        load_image_folder(root, labels=table)
    table.write_bytes(b"path,label\na,\xff\n")
    with pytest.raises(ValueError, match="as a csv file in UTF-8"):
        load_image_folder(root, labels=table)
    table.write_text('path,label\n"a,b\n')
    with pytest.raises(ValueError, match="as a csv file in UTF-8"):
        load_image_folder(root, labels=table)
