"""Files of arrays with their labels."""

import numpy as np
import pytest

from skimbal.datasets import load_npz
from tests.datasets.data import KEYS, SPLITS, check_one_line, make_arrays


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
        (None, ["groups must be", "holds X, y; got 'site'", "all rows"]),
        (np.arange(4), ["one entry for each of 3 images", "got shape (4,)"]),
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
    check_one_line(error, "images and labels, or X and y", "train_images", "got data, labels")


def test_npz_missing_file(tmp_path):
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(FileNotFoundError) as error:
            load_npz(path)
        check_one_line(error, "path must", str(path))


@pytest.mark.parametrize("kept", [0, 100, -30])
def test_npz_cut_short(make_npz, kept):
    path = make_npz(**make_arrays())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="cut short") as error:
        load_npz(path)
    check_one_line(error, str(path), "Get it again")


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
        ({"val_labels": None, "test_images": None}, ["got none for val_labels, test_images"]),
        ({"train_labels": np.zeros((8, 14), int)}, ["train", "(8, 14)", "Multi-label"]),
        ({"train_labels": np.zeros((7, 1), int)}, ["train", "8 images; got 7"]),
        ({"val_images": np.zeros((0, 6, 5), np.uint8)}, ["val", "at least one", "(0, 6, 5)"]),
        ({"val_images": np.zeros((8, 6, 4), np.uint8)}, ["one shape", "(6, 4)"]),
        ({"test_images": np.zeros((8, 30), np.uint8)}, ["test", "(n, h, w)", "(8, 30)"]),
        ({"test_images": np.full((8, 6, 5), "a")}, ["test", "numbers", "<U1"]),
        ({"test_labels": np.full((8, 1), 0.5)}, ["test", "class numbers", "float64"]),
        ({"test_labels": np.full((8, 1), -1)}, ["test", "class numbers from 0"]),
        ({"test_labels": np.full(8, "a")}, ["numbers or text in all splits; got both"]),
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
