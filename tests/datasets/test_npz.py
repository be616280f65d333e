"""Files of arrays with their labels."""

import tracemalloc
import zipfile

import numpy as np
import pytest

from skimbal.datasets import load_npz
from skimbal.exceptions import ParameterError
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
    flat = {f"{split}_labels": np.arange(8) for split in SPLITS}
    data = load_npz(str(make_npz(**make_arrays(**flat))))
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
    assert data.target_names == ["0", "2"]
    assert data.classes.tolist() == [0, 2]
    assert "'all': [4, 4]" in data.DESCR


@pytest.mark.parametrize(
    "names", [("X", "y", "images", "labels"), ("X", "y", "X_train", "y_train")]
)
def test_npz_with_several_sets_of_images_is_refused(make_npz, names):
    images, labels = np.zeros((2, 6, 5)), np.array([0, 1])
    arrays = {name: labels if name[0] in "yl" else images for name in names}
    with pytest.raises(ValueError, match="one set of images") as error:
        load_npz(make_npz(**arrays))
    check_one_line(error, *names[:4], "beside", "some.npz")
    with pytest.raises(ValueError, match=r"train_images, train_labels beside X, y"):
        load_npz(make_npz(**make_arrays(), X=images, y=labels))


@pytest.mark.parametrize(
    ("strange", "names"),
    [
        ("valid", ("valid_images", "valid_labels")),
        ("extra", ("extra_images", "extra_labels")),
        ("validation", ("validation_images",)),
    ],
)
def test_npz_with_parts_of_other_names_is_refused(make_npz, strange, names):
    arrays = {name: np.zeros((2, 6, 5)) if "images" in name else np.array([0, 1]) for name in names}
    with pytest.raises(ValueError, match=f"train, val, test; got {strange}_images.* too. Rename"):
        load_npz(make_npz(**make_arrays(), **arrays))


def test_npz_class_names_stay_text(make_npz):
    rare = np.array([["naevus"]] * 6 + [["melanoma"]] * 2)
    labels = {f"{split}_labels": rare for split in SPLITS}
    labels["test_labels"] = rare.astype("S")
    data = load_npz(make_npz(**make_arrays(**labels)))
    assert data.target_names == data.classes.tolist() == ["melanoma", "naevus"]
    for split in SPLITS:
        assert data[f"y_{split}"].tolist() == ["naevus"] * 6 + ["melanoma"] * 2


CODES = {
    "ids of a terminology": ([0] * 5 + [10**12] * 3, np.int64, None),
    "18 digits": ([900000000000207008, 900000000000207009] * 4, np.int64, None),
    "uint64": (np.array([7, 2**64 - 1] * 4, np.uint64), np.uint64, None),
    "small uint64": (np.array([7, 9] * 4, np.uint64), np.int64, None),
    "from 1": ([1, 2] * 4, np.int64, None),
    "bytes": (np.array([0, 255] * 4, np.uint8), np.int64, None),
    "negative": ([-1, 1] * 4, np.int64, None),
    "whole floats": ([3.0, 1.0] * 4, np.int64, ["1", "3"]),
    "truth values": ([True, False] * 4, np.int64, ["0", "1"]),
}


@pytest.mark.parametrize("kind", CODES)
def test_npz_classes_are_the_labels_that_occur(make_npz, kind):
    codes, dtype, names = CODES[kind]
    data = load_npz(make_npz(X=np.zeros((8, 6, 5)), y=codes))
    assert data.y.dtype == dtype
    np.testing.assert_array_equal(data.y, codes)
    np.testing.assert_array_equal(data.classes, np.unique(codes))
    expected = [str(code) for code in np.unique(codes).tolist()]
    assert data.target_names == (names or expected)
    assert len(data.DESCR) < 400


def test_npz_codes_of_several_dtypes_are_exact(make_npz):
    big = 2**53 + 1
    labels = {
        "train_labels": np.array([big, big + 1, big + 2] * 2 + [big] * 2, np.uint64),
        "val_labels": np.array([big, big + 1] * 4),
        "test_labels": np.array([big + 2] * 8),
    }
    with pytest.warns(UserWarning, match="has no image of the classes"):
        data = load_npz(make_npz(**make_arrays(**labels)))
    assert data.classes.tolist() == [big, big + 1, big + 2]
    assert data.y_test.tolist() == [big + 2] * 8


AXES = {
    # shape, options: shape that is loaded, number of spatial axes
    ((64, 64, 4), (("channel_axis", -1),)): ((4, 64, 64), 2),
    ((64, 64, 2), (("channel_axis", 2),)): ((2, 64, 64), 2),
    ((5, 64, 64), (("channel_axis", 0),)): ((5, 64, 64), 2),
    ((64, 64, 4), (("n_spatial", 3),)): ((64, 64, 4), 3),
    ((3, 64, 64), (("n_spatial", 3),)): ((3, 64, 64), 3),
    ((9, 8, 7, 2), (("channel_axis", -1),)): ((2, 9, 8, 7), 3),
    ((1, 9, 8, 7), (("channel_axis", 0), ("n_spatial", 3))): ((1, 9, 8, 7), 3),
    ((6, 5, 3), (("n_spatial", 2),)): ((3, 6, 5), 2),
    ((4, 6, 7), ()): ((4, 6, 7), 3),
}


@pytest.mark.parametrize(("shape", "options"), AXES)
def test_npz_axes_that_the_user_states(make_npz, rng, shape, options):
    X = rng.integers(0, 9, (2, *shape))
    data = load_npz(make_npz(X=X, y=[0, 1]), **dict(options))
    assert ((data.X.shape[1:]), data.ndim) == AXES[shape, options]
    axis = dict(options).get("channel_axis", -1)
    moved = X if data.X.shape == X.shape else np.moveaxis(X, axis if axis < 0 else axis + 1, 1)
    np.testing.assert_array_equal(data.X, moved)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        *(((64, 64, c), {}, "channels or slices.*channel_axis=-1") for c in (2, 4, 5)),
        *(((c, 64, 64), {}, "channels or slices.*n_spatial=3") for c in (2, 4, 5)),
        ((8, 8, 4), {}, "channels or slices.*channel_axis=-1"),
        ((64, 64, 7), {"n_spatial": 2}, "axis of channels that is stated"),
        ((9, 8, 7, 2), {}, "axis of channels that is stated"),
        ((6, 5), {"channel_axis": -1}, "channel_axis must be an axis"),
        ((6, 5), {"n_spatial": 3}, "n_spatial must be possible"),
        ((6, 5, 3), {"channel_axis": -1, "n_spatial": 3}, "n_spatial must be possible"),
        ((6, 5, 3), {"channel_axis": 3}, "channel_axis must be an axis"),
        ((6, 5, 3), {"channel_axis": "last"}, "channel_axis must be .*'last'"),
        ((6, 5, 3), {"n_spatial": 4}, "n_spatial must be None, 2 or 3; got 4"),
    ],
)
def test_npz_axes_are_never_guessed(make_npz, shape, options, words):
    with pytest.raises(ValueError, match=words):
        load_npz(make_npz(X=np.zeros((2, *shape)), y=[0, 1]), **options)


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val"), ("train",)])
@pytest.mark.parametrize("form", ["{}_images {}_labels", "X_{0} y_{0}", "x_{0} y_{0}"])
def test_npz_parts_may_be_missing(make_npz, rng, parts, form):
    X = rng.integers(0, 9, (3, 4, 6, 5))
    arrays = {}
    for part, images in zip(parts, X, strict=False):
        names = form.format(part, part).split()
        arrays |= {names[0]: images, names[1]: [0, 1, 1, 0]}
    data = load_npz(make_npz(**arrays))
    assert [key for key in data if key.startswith("X")] == [f"X_{part}" for part in parts]
    np.testing.assert_array_equal(data.X_train, X[0])


@pytest.mark.parametrize("text", ["nan", "NA", "", "None", " "])
def test_npz_text_that_is_missing(make_npz, text):
    arrays = {"X": np.zeros((4, 6, 5)), "y": np.array(["a", "b", text, "a"])}
    arrays["site"] = np.array(["p", text, "q", "p"])
    with pytest.raises(ValueError, match=r"labels must be .* 1 image, the first .* number 2"):
        load_npz(make_npz(**arrays))
    arrays["y"] = np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"groups must be .*none missing.* number 1"):
        load_npz(make_npz(**arrays), groups="site")
    if text.strip():
        data = load_npz(make_npz(**arrays), groups="site", missing_values=[])
        assert data.groups.tolist() == ["p", text, "q", "p"]


def test_npz_names_that_are_spelt_nearly_alike(make_npz):
    arrays = {"X": np.zeros((4, 6, 5)), "y": np.array(["Benign", "benign", "b", "b"])}
    arrays["site"] = np.array(["7", "7.0", "q", "Q"])
    with (
        pytest.warns(UserWarning, match="'Benign' and 'benign'"),
        pytest.warns(UserWarning, match="'7' and '7.0', 'Q' and 'q'"),
    ):
        load_npz(make_npz(**arrays), groups="site")


def test_npz_groups(make_npz):
    of_rows = {"train_site": np.arange(8)[:, None], "val_site": np.arange(8) // 4}
    with_test = make_npz("with.npz", **make_arrays(), **of_rows, test_site=np.array([90, 91] * 4))
    data = load_npz(with_test, groups="site")
    assert set(data) == KEYS | {"groups_train", "groups_val", "groups_test"}
    np.testing.assert_array_equal(data.groups_train, np.arange(8))
    np.testing.assert_array_equal(data.groups_val, [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(data.groups_test, [90, 91] * 4)
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
        (np.array([1, np.nan, 2]), ["missing", "got nan for 1 image,", "number 1"]),
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
        check_one_line(error, f"{path} must be an npz file that exists")


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


def npy(shape, descr, data=b""):
    """Write the bytes of an array whose header states anything."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


LARGE = {
    "large": ("images", (2**20, 2**20, 4), "|u1", str(2**42)),
    "larger": ("images", (2**40, 2**40, 2**40), "|u1", str(2**120)),
    "many labels": ("labels", (2**40,), "<i8", str(2**40)),
    "long text": ("labels", (2, 2**20), "<U100000", str(2**21 * 10**5)),
}


@pytest.mark.parametrize("kind", LARGE)
def test_npz_sizes_are_checked_before_memory_is_taken(tmp_path, kind):
    name, shape, descr, needed = LARGE[kind]
    good = {"images": npy((2, 4, 4), "|u1", bytes(32)), "labels": npy((2,), "|u1", b"\0\1")}
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in {**good, name: npy(shape, descr)}.items():
            archive.writestr(f"{entry}.npy", data)
    tracemalloc.start()
    try:
        with pytest.raises(ParameterError, match=rf"a\.npz, whose array {name} has") as error:
            load_npz(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert error.value.parameter == "max_pixels"
    assert f"at least {needed} for" in str(error.value)


def test_npz_limit_can_be_raised(make_npz):
    path = make_npz(X=np.zeros((4, 6, 5)), y=np.array([0, 1, 0, 1]), more=np.zeros(1000))
    assert load_npz(path, max_pixels=120).X.shape == (4, 6, 5)  # other arrays are not read
    with pytest.raises(ParameterError, match=r"max_pixels must be at least 120 for .*; got 119\."):
        load_npz(path, max_pixels=119)
    for value in (0, -1, 1.5, "many", True, None):
        with pytest.raises(ParameterError, match="max_pixels must be a positive integer"):
            load_npz(path, max_pixels=value)


def test_npz_inflates_no_more_than_its_headers_state(tmp_path):
    good = npy((2, 4, 4), "|u1", bytes(32))
    labels = npy((2,), "|u1", b"\0\1")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", good + bytes(2**28))
        archive.writestr("y.npy", labels)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a\.npz.*'X\.npy' holds more than one array"):
            load_npz(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "b.npz", "w", method) as archive:
            archive.writestr("X.npy", good)
            archive.writestr("y.npy", labels)
        with pytest.raises(ValueError, match=r"b\.npz.*stored or deflated"):
            load_npz(tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["../X.npy", "/X.npy", "a\\X.npy"])
def test_npz_entries_stay_in_their_folder(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(name, npy((2, 4, 4), "|u1", bytes(32)))
    with pytest.raises(ValueError, match=r"a\.npz.*leads out of its folder"):
        load_npz(tmp_path / "a.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_npz_with_two_arrays_of_one_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for value in (b"\0", b"\1"):
            archive.writestr("X.npy", npy((2, 4, 4), "|u1", value * 32))
        archive.writestr("y.npy", npy((2,), "|u1", b"\0\1"))
    with pytest.raises(ValueError, match=r"a\.npz.*different names; got 'X\.npy' twice"):
        load_npz(tmp_path / "a.npz")


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
        ({"test_labels": np.array([0.0, np.nan] * 4)}, ["test", "missing", "got nan for 4"]),
        ({"test_labels": np.full(8, 2.0**60)}, ["test", "class numbers"]),
        ({"test_labels": np.array(5)}, ["test", "shape ()"]),
        ({"test_labels": np.full(8, -1)}, ["the classes of test must be", "0, 1, 2; got -1 too"]),
        ({"test_labels": np.array([-1, 2**64 - 1] * 4, dtype=object)}, ["plain arrays"]),
        ({"train_site": np.array(["a"] * 8), "val_site": np.arange(8)}, ["text in all", "both"]),
        ({"test_images": np.zeros((8, 6, 5))}, ["one dtype", "'test': 'float64'"]),
        ({"test_labels": np.full(8, "a")}, ["numbers or text in all splits; got both"]),
    ],
)
def test_npz_of_another_form(make_npz, replaced, parts):
    path = make_npz(**make_arrays(**replaced))
    with pytest.raises(ValueError, match=r"some\.npz") as error:
        load_npz(path, groups="site" if "val_site" in replaced else None)
    check_one_line(error, *parts)


def test_npz_real_images(data_dir):
    data = load_npz(data_dir / "pneumoniamnist" / "pneumoniamnist_full_rebuilt.npz")
    assert data.X_train.shape == (4708, 28, 28)
    np.testing.assert_array_equal(np.bincount(data.y_test), [234, 390])
