import csv
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import Bunch

from skimbal.datasets import (
    inspect_data,
    inspect_folder,
    load_image_folder,
    load_imbalanced_digits,
    load_npz,
)
from skimbal.exceptions import ParameterError


@pytest.fixture
def save(tmp_path, rng):
    """Return a function that saves a random picture, or a given one, below the folder `set`."""
    pillow = pytest.importorskip("PIL.Image")

    def save(name, pixels=None, shape=(8, 10, 3)):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8) if pixels is None else pixels
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(pixels).save(path)
        return pixels

    return save


@pytest.fixture
def folder(save, tmp_path):
    """A folder of six pictures of two classes that can be loaded."""
    for name in ("a/0", "a/1", "a/2", "a/3", "b/4", "b/5"):
        save(f"{name}.png")
    return tmp_path / "set"


@pytest.fixture
def split_folder(save, tmp_path):
    for part, n in (("train", 4), ("val", 2), ("test", 3)):
        for label in "ab":
            for i in range(n):
                save(f"{part}/{label}/{i}.png")
    return tmp_path / "set"


@pytest.fixture
def table(folder):
    """Return a function that writes a table with a row (path, label, patient, part) for each."""

    def write(rows):
        path = folder.parent / "table.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("path", "label", "patient", "part"), *rows])
        return {"labels": path, "group_column": "patient", "split_column": "part"}

    return write


def texts(findings):
    return [finding.text for finding in findings]


def found(findings, words):
    """Return the one finding whose text holds the words."""
    (one,) = [finding for finding in findings if words in finding.text]
    return one


def check_verdict(root, inspection, **params):
    """Check that the loader, and a read of all images, agree with the inspection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = load_image_folder(root, **params)
            for key in data:
                if key.startswith("X"):
                    np.asarray(data[key])
        except (ValueError, OSError):
            loads = False
        else:
            loads = True
    assert inspection.loads == loads


# ---- facts


def test_facts_of_a_folder(folder):
    inspection = inspect_folder(folder)
    assert inspection.loads
    assert inspection.refusals == inspection.warnings == inspection.copies == []
    assert inspection.formats == {"PNG": 6}
    assert inspection.sizes == {(8, 10): 6}
    assert inspection.channels == {3: 6}
    assert inspection.spacings == {None: 6}
    assert (inspection.n_images, inspection.ndim) == (6, 2)
    (kind,) = inspection.pixels
    pixels = np.asarray(load_image_folder(folder).X)
    assert (kind.dtype, kind.full_range, kind.unit) == ("uint8", (0, 255), None)
    assert (kind.n_images, kind.low, kind.high) == (6, pixels.min(), pixels.max())
    # All pixels of small images are in the sample.
    assert kind.percentiles == tuple(np.percentile(pixels, (1, 99)))
    assert kind.histogram == tuple(np.histogram(pixels, 40, (kind.low, kind.high))[0])
    assert inspection.card.counts == {"all": [4, 2]}
    assert inspection.card.image_shape == (3, 8, 10)


def test_arrays_and_files_have_the_same_facts(folder):
    data = load_image_folder(folder)
    of_files = inspect_data(data)
    of_arrays = inspect_data(Bunch(**{**data, "X": np.asarray(data.X)}))
    for name in ("sizes", "channels", "copies", "card", "refusals", "warnings", "ndim"):
        assert getattr(of_files, name) == getattr(of_arrays, name)
        assert getattr(of_files, name) == getattr(inspect_folder(folder), name)
    assert of_arrays.formats == {"array": 6}
    assert of_arrays.pixels[0].histogram == of_files.pixels[0].histogram


def test_text_labels_and_codes():
    X = np.random.default_rng(0).random((6, 4, 4))
    for y, names in (
        (np.array(["b", "a", "b", "b", "a", "b"]), ["a", "b"]),
        (np.array([1, 0, 1, 1, 0, 1]), ["a", "b"]),
        (np.array([7, 3, 7, 7, 3, 7]), ["a", "b"]),
    ):
        card = inspect_data(Bunch(X=X, y=y, target_names=names, ndim=2)).card
        assert (card.class_names, card.counts) == (["a", "b"], {"all": [2, 4]})


def test_digits_have_no_faults():
    inspection = inspect_data(load_imbalanced_digits())
    assert inspection.loads
    assert not inspection.warnings
    assert inspection.pixels[0].histogram[0] > 0
    assert len(inspection.pixels[0].histogram) == 17  # whole numbers from 0 to 16


def test_headers_only_read_no_pixels(folder):
    (folder / "a" / "0.png").write_bytes((folder / "a" / "0.png").read_bytes()[:80])
    assert inspect_folder(folder, headers_only=True).loads
    assert inspect_folder(folder, headers_only=True).pixels[0].low is None
    inspection = inspect_folder(folder)
    assert not inspection.loads
    assert list(inspection.unreadable) == ["a/0.png"]
    check_verdict(folder, inspection)


def test_spacing_and_units(tmp_path, rng):
    nibabel = pytest.importorskip("nibabel")
    for i, mm in enumerate([(1, 1, 2), (1, 1, 2.0000001), (1, 1, 3), (1, 2, 4), (1, 1, 5)]):
        image = nibabel.Nifti1Image(rng.random((5, 6, 7), np.float32), np.diag([*mm, 1]))
        path = tmp_path / "set" / ("a", "b")[i % 2] / f"{i}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.to_filename(path)
    inspection = inspect_folder(tmp_path / "set")
    assert inspection.spacings[1, 1, 2] == 2
    assert len(inspection.spacings) == 4
    assert "spacing   1 x 1 x 2 to 1 x 2 x 5 mm, 4 different" in str(inspection)


# ---- copies and leaks


def test_copies_of_all_kinds(save, folder, tmp_path):
    pixels = save("a/0.png")
    save("a/6.bmp", pixels)
    save("b/7.png", pixels)
    shutil.copy(folder / "a" / "1.png", folder / "a" / "8.png")
    inspection = inspect_folder(folder)
    assert inspection.loads
    assert inspection.copies == [("a/0.png", "a/6.bmp", "b/7.png"), ("a/1.png", "a/8.png")]
    assert found(inspection.warnings, "two or more classes").places == (
        "a/0.png = b/7.png = a/6.bmp",
    )
    one = found(inspection.warnings, "occurs more than once")
    assert one.text.startswith("1 other picture occurs more than once. A cross-validation")
    assert one.places == ("a/1.png = a/8.png",)


def test_leaks_between_parts(save, split_folder):
    assert inspect_folder(split_folder).warnings == []
    save("test/a/7.bmp", save("train/a/7.png"))
    save("val/b/8.png", save("train/b/8.png"))
    inspection = inspect_folder(split_folder)
    assert inspection.loads
    assert texts(inspection.warnings) == [
        "1 picture is in train and in test. Scores on test will be too high.",
        "1 picture is in train and in val. Scores on val will be too high.",
    ]
    assert inspection.warnings[0].places == ("train/a/7.png = test/a/7.bmp",)


def test_leaks_of_a_table(save, folder, table):
    save("a/3.png", save("a/0.png"))
    rows = [(f"{'aaaabb'[i]}/{i}.png", "xxyyxy"[i], f"p{i // 2}", "train") for i in range(4)]
    rows += [("b/4.png", "x", "p0", "test"), ("b/5.png", "y", "p9", "test")]
    params = table(rows)
    inspection = inspect_folder(folder, **params)
    assert found(inspection.warnings, "such as 'p0', is in train and in test").places == ("p0",)
    assert sum("is in train and in test. S" in text for text in texts(inspection.warnings)) == 1
    assert found(inspection.warnings, "two or more groups").places == (
        "a/0.png (p0) = a/3.png (p1)",
    )
    assert found(inspection.warnings, "two or more classes").places == (
        "a/0.png (x) = a/3.png (y)",
    )
    assert inspection.card.n_groups == {"train": 2, "test": 2}
    check_verdict(folder, inspection, **params)


def test_images_of_one_value_are_no_leak(save, split_folder):
    blank = np.zeros((8, 10, 3), np.uint8)
    save("train/a/8.png", blank)
    save("test/b/8.png", blank)
    (one,) = inspect_folder(split_folder).warnings
    assert one.text == "2 images have one value everywhere."
    assert set(one.places) == {"train/a/8.png", "test/b/8.png"}


def test_arrays_name_their_rows(rng):
    X = rng.random((4, 5, 5))
    data = Bunch(X_train=X, X_test=X[1:3], y_train=np.array([0, 1, 0, 1]), y_test=np.array([0, 1]))
    data.update(target_names=["a", "b"], ndim=2)
    inspection = inspect_data(data)
    assert inspection.copies == [("train row 1", "test row 0"), ("train row 2", "test row 1")]
    assert inspection.warnings[0].text.startswith("2 pictures are in train and in test.")


# ---- refusals


def test_all_reasons_are_listed(save, folder):
    save("a/6.png", shape=(9, 10, 3))
    save("a/7.png", shape=(8, 10))
    save("b/8.png", np.arange(80, dtype=np.uint16).reshape(8, 10))
    (folder / "a" / "9.png").write_bytes(b"")
    (folder / "b" / "10.png").write_bytes(b"no picture")
    (folder / "a" / "notes.txt").write_bytes(b"x")
    save("lost.png")
    inspection = inspect_folder(folder)
    check_verdict(folder, inspection)
    parameters = [getattr(finding.error, "parameter", None) for finding in inspection.refusals]
    assert parameters == [None, None, "channels", "intensity", "size"] or parameters == [
        *(None, None, "size", "channels", "intensity")
    ]
    unusable, unreadable = inspection.refusals[:2]
    assert unusable.text == "2 files or rows cannot be used."
    assert {place.partition(":")[0] for place in unusable.places} == {"lost.png", "a/notes.txt"}
    assert unreadable.text == "2 images cannot be read."
    assert set(inspection.unreadable) == {"a/9.png", "b/10.png"}
    assert str(folder) not in "".join(texts(inspection.refusals))


def test_one_remedy_after_the_other(save, folder):
    """Each reason that is left has been listed before, and with the last remedy it loads."""
    save("a/6.png", shape=(9, 10, 3))
    save("a/7.png", shape=(8, 10))
    save("b/8.png", np.arange(80, dtype=np.uint16).reshape(8, 10))
    remedies = {"channels": 1, "size": 8, "intensity": "full_range"}
    listed = {finding.error.parameter for finding in inspect_folder(folder).refusals}
    assert listed == set(remedies)
    params = {}
    for name, value in remedies.items():
        params[name] = value
        inspection = inspect_folder(folder, **params)
        assert {f.error.parameter for f in inspection.refusals} == set(remedies) - set(params)
        check_verdict(folder, inspection, **params)
    assert inspection.loads


def test_files_of_one_kind_are_refused_together(save, folder, tmp_path):
    for i in range(3):
        np.save(folder / "a" / f"{i}.npy", np.zeros((8, 10, 3), np.uint8))
    refusal = found(inspect_folder(folder).refusals, "channel_axis must be -1")
    assert refusal.places == ("a/0.npy", "a/1.npy", "a/2.npy")
    assert inspect_folder(folder, channel_axis=-1).loads is False  # pictures know their axes
    for path in [*folder.glob("*/*.png")]:
        path.unlink()
    for i in range(3):
        (folder / "b").mkdir(exist_ok=True)
        np.save(folder / "b" / f"{i}.npy", np.full((8, 10, 3), i, np.uint8))
    inspection = inspect_folder(folder, channel_axis=-1)
    assert inspection.loads
    assert inspection.sizes == {(8, 10): 6}
    assert inspection.channels == {3: 6}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(tmp_path, rng, value):
    for name in ("a/0", "a/1", "b/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image = rng.random((6, 6))
        image[2, 3] = value if name == "a/1" else 0.5
        np.save(tmp_path / name, image)
    inspection = inspect_folder(tmp_path)
    assert inspection.unreadable == {"a/1.npy": "NaN or infinity in 1 number"}
    check_verdict(tmp_path, inspection)
    inspection = inspect_folder(tmp_path, on_error="skip")
    assert inspection.loads
    assert inspection.n_images == 2


def test_skipped_files_are_warnings(save, folder):
    (folder / "a" / "9.png").write_bytes(b"")
    save("lost.png")
    save("b/7.png", save("a/7.png"))
    inspection = inspect_folder(folder, on_error="skip")
    assert inspection.loads
    assert texts(inspection.warnings) == [
        "Skipped: 1 file or row cannot be used.",
        "Skipped: 1 image cannot be read.",
        "1 picture has two or more classes.",
    ]
    assert inspection.n_images == 8
    assert "Loads. 1 file is skipped." in str(inspection)
    check_verdict(folder, inspection, on_error="skip")


def test_one_class_and_no_image(folder, tmp_path):
    shutil.rmtree(folder / "b")
    assert "two classes" in inspect_folder(folder).refusals[0].text
    (folder / "a" / "0.png").write_bytes(b"")
    assert "There must be two classes; got 'a' alone." in texts(inspect_folder(folder).refusals)
    (tmp_path / "empty").mkdir()
    inspection = inspect_folder(tmp_path / "empty")
    assert not inspection.loads
    assert "0 images of 0 classes" in str(inspection)


def test_wrong_arguments_are_errors(folder, table):
    with pytest.raises(FileNotFoundError, match="absent"):
        inspect_folder(folder / "absent")
    with pytest.raises(ParameterError, match="label_column"):
        inspect_folder(folder, **table([]), label_column="diagnosis")
    with pytest.raises(ParameterError, match="resize must be 'resample' or 'crop'"):
        inspect_folder(folder, resize="stretch")


# ---- doubts


def test_scales_that_differ(tmp_path, rng):
    for i, factor in enumerate([1, 1, 1, 100, 100, 100]):
        path = tmp_path / "ab"[i % 2] / f"{i}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, factor * rng.random((6, 6)))
    assert "different scales" in inspect_folder(tmp_path).warnings[0].text
    assert inspect_folder(tmp_path, intensity="percentiles").warnings == []
    # A dark picture of eight bits is not of another scale.
    for path in tmp_path.glob("*/*.npy"):
        darker = 1 if path.stem == "0" else 100
        np.save(path, rng.integers(0, 255, (6, 6), dtype=np.uint8) // np.uint8(darker))
    assert inspect_folder(tmp_path).warnings == []


def test_format_that_tells_the_class(save, tmp_path):
    for i in range(12):
        save(f"ill/{i}.png")
        save(f"well/{i}.bmp" if i else f"well/{i}.png")
    finding = found(inspect_folder(tmp_path / "set").warnings, "tell")
    assert "ill: format PNG in 100 % of its images and in 8 % of the others" in [
        place.replace("%", " %").replace("  ", " ") for place in finding.places
    ]


def test_part_without_a_class(save, split_folder):
    shutil.rmtree(split_folder / "val" / "b")
    (finding,) = inspect_folder(split_folder).warnings
    assert finding.text == "Val has no image of the classes 'b' of train."


def test_names_that_are_spelt_alike(save, folder, table):
    rows = [
        (f"{'aaaabb'[i]}/{i}.png", ("Benign", "benign")[i % 2], f"p{i}", "train") for i in range(6)
    ]
    (finding,) = inspect_folder(folder, **table(rows)).warnings
    assert finding.text.startswith("These classes are spelt nearly alike")
    save("lost.png")
    assert "nearly alike" in texts(inspect_folder(folder, **table(rows)).warnings)[0]


def test_classes_that_training_rows_lack(save, split_folder):
    save("test/c/0.png")
    refusals = inspect_folder(split_folder).refusals
    assert len(refusals) == 1
    assert "the classes of test must be classes of train" in refusals[0].text
    save("lost.png")
    assert len(inspect_folder(split_folder).refusals) == 2


def test_warnings_of_readers_are_listed(save, folder, monkeypatch):
    from skimbal.images import FORMATS, DecodedImage, Format

    def read(path, request):
        warnings.warn(f"odd header\nin {Path(path).suffix}", UserWarning, stacklevel=2)
        pixels = np.fromfile(path, np.uint8)[:64].reshape(8, 8)
        return DecodedImage(pixels, 2, doubt="the patient is unknown")

    monkeypatch.setitem(FORMATS, "raw", Format(read, (".raw",)))
    for path in folder.glob("*/*.png"):
        path.rename(path.with_suffix(".raw"))
    before = warnings.filters[:]
    inspection = inspect_folder(folder)
    assert warnings.filters == before
    assert texts(inspection.warnings) == [
        "6 images: the patient is unknown.",
        "A reader warns: odd header in .raw",
    ]


# ---- text


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("unicode", [True, False])
def test_text_fits_the_width(save, folder, width, unicode):
    name = "x" * 90
    save(f"b/{name}.png", save(f"a/{name}.png"))
    save(f"a/{name}9.png", shape=(9, 9, 3))
    (folder / "a" / ("é" * 40 + ".png")).write_bytes(b"")
    text = inspect_folder(folder).to_text(width=width, unicode=unicode)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii() != unicode
    assert text.index("REFUSED") < text.index("WARNING") < text.index("files  ")


def test_many_classes_fit_one_screen(tmp_path, rng):
    X = rng.random((300, 4, 4))
    y = np.repeat(np.arange(100), 3)
    y[:80] = 0
    data = Bunch(X=X, y=y, target_names=[str(k) for k in range(100)], ndim=2)
    lines = str(inspect_data(data)).splitlines()
    assert len(lines) < 40
    assert any("more classes)" in line for line in lines)
    assert any(line.startswith("0  ") for line in lines)


def test_names_cannot_move_the_cursor(folder):
    path = folder / "a" / "\x1b[2J\n.png"
    shutil.copy(folder / "a" / "0.png", path)
    text = str(inspect_folder(folder))
    assert r"\x1b[2J" in text
    assert "\x1b" not in text


# ---- real data


@pytest.mark.slow
def test_real_sets(data_dir):
    vessels = inspect_data(load_npz(data_dir / "vesselmnist3d" / "vesselmnist3d.npz"))
    assert vessels.loads
    assert vessels.sizes == {(28, 28, 28): 1908}
    root = data_dir / "nifti_hippocampus"
    params = {"labels": root / "labels.csv", "path_column": "file"}
    params["label_column"] = "low_volume_15pct"
    hippocampus = inspect_folder(root / "images", **params)
    assert [f.error.parameter for f in hippocampus.refusals] == ["size"]
    assert "different scales" in hippocampus.warnings[0].text
    with_size = inspect_folder(root / "images", **params, size=32, intensity="percentiles")
    assert with_size.loads
    assert with_size.spacings == {(1, 1, 1): 120}
    check_verdict(root / "images", with_size, **params, size=32, intensity="percentiles")
