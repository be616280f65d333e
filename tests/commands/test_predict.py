"""skimbal predict."""

import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import skimbal
from skimbal import CNN2DClassifier
from skimbal.__main__ import main
from skimbal.images import ImageFiles
from tests.commands.data import check_refused, images, read_csv

CLASSES = ["benign", 'malignant, "bad"']


def write_images(folder, rng, names, shape=(8, 8)):
    for i, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 100, shape, dtype=np.uint8) + np.uint8(100 * (i % 2))
        np.save(path, image)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A model of files, which were read with a size."""
    root, rng = tmp_path_factory.mktemp("training"), np.random.default_rng(0)
    names = [f"{i}.npy" for i in range(12)]
    write_images(root, rng, names, (10, 9))
    X = ImageFiles([root / name for name in names], size=(8, 8))
    clf = CNN2DClassifier(module="small", max_epochs=1, random_state=0)
    clf.fit(X, np.array(CLASSES)[np.arange(12) % 2]).save(root / "model.skimbal")
    return str(root / "model.skimbal")


@pytest.fixture(scope="module")
def of_arrays(tmp_path_factory):
    """A model of arrays."""
    path = tmp_path_factory.mktemp("arrays") / "model.skimbal"
    y = np.arange(12) % 2
    X = images(y, np.random.default_rng(0))
    CNN2DClassifier(module="small", max_epochs=1, random_state=0).fit(X, y).save(path)
    return str(path)


@pytest.fixture
def new(tmp_path, rng):
    """A folder of new images, without labels."""
    write_images(tmp_path / "new", rng, ["b.npy", "a.npy", "visit 2/ü, c.npy"])
    return str(tmp_path / "new")


def test_predict_writes_a_row_for_each_file(capsys, fitted, new, tmp_path):
    path = tmp_path / "predictions.csv"
    assert main(["predict", fitted, new, "--output", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{path} holds 3 rows: ")
    assert err == ""  # no bar without a terminal
    rows = read_csv(path)
    assert list(rows[0]) == ["file", "decision", "error", *CLASSES]
    names = ["a.npy", "b.npy", "visit 2/ü, c.npy"]
    assert [row["file"] for row in rows] == names
    clf = skimbal.load(fitted)
    expected = clf.predict_proba([os.path.join(new, name) for name in names])
    for row, proba in zip(rows, expected, strict=True):
        assert [float(row[name]) for name in CLASSES] == proba.tolist()
        assert row["decision"] == CLASSES[proba.argmax()]
        assert row["error"] == ""


def test_predict_prints_the_same_table(capsys, monkeypatch, fitted, new, tmp_path):
    path = tmp_path / "predictions.csv"
    assert main(["predict", fitted, new, "--output", str(path)]) == 0
    capsys.readouterr()
    assert main(["predict", fitted, new]) == 0
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")


def test_predict_files(capsys, monkeypatch, fitted, new):
    monkeypatch.chdir(new)
    assert main(["predict", fitted, "b.npy", "visit 2", "a.npy", "a.npy"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["file"] for row in rows] == ["a.npy", "b.npy", "visit 2/ü, c.npy"]


def test_predict_needs_no_option_of_reading(capsys, fitted, new, rng):
    write_images(new, rng, ["wide.npy"], (9, 17))
    assert main(["predict", fitted, new]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert rows[-1]["file"] == "wide.npy"
    assert rows[-1]["decision"] in CLASSES
    assert "--size" in check_refused(capsys, "predict", fitted, new, "--size", "8")


def test_files_that_cannot_be_used_have_a_row_with_the_reason(
    capsys, monkeypatch, fitted, new, rng, tmp_path
):
    monkeypatch.setattr("skimbal.commands.predict.BLOCK", 4)
    alone = tmp_path / "alone.csv"
    write_images(new, rng, [f"d{i}.npy" for i in range(6)])
    assert main(["predict", fitted, new, "--output", str(alone)]) == 0
    good = {row["file"]: row for row in read_csv(alone)}
    (Path(new) / "damaged.npy").write_bytes(b"damaged")
    (Path(new) / "empty.npy").touch()
    write_images(new, rng, ["colour.npy"], (3, 8, 8))
    np.save(Path(new) / "nan.npy", np.full((8, 8), np.nan))
    np.save(Path(new) / "wide.npy", np.ones((8, 8), dtype=np.uint16))
    path = tmp_path / "predictions.csv"
    capsys.readouterr()
    assert main(["predict", fitted, new, "--output", str(path)]) == 1
    out, err = capsys.readouterr()
    rows = read_csv(path)
    failed = [row for row in rows if row["error"]]
    assert [row["file"] for row in failed] == [
        "colour.npy",
        "damaged.npy",
        "empty.npy",
        "nan.npy",
        "wide.npy",
    ]
    for row in failed:
        assert [row["decision"], *(row[name] for name in CLASSES)] == ["", "", ""]
        assert f"skimbal: {row['file']}: {row['error']}\n" in err
        assert "on_error" not in row["error"]
    assert "5 images of 14 could not be used" in err
    assert "holds 14 rows" in out
    for row in rows:
        if not row["error"]:
            for name in CLASSES:
                expected = float(good[row["file"]][name])
                assert float(row[name]) == pytest.approx(expected, abs=1e-5)


def test_predict_no_file_of_which_can_be_used(capsys, fitted, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.npy").write_bytes(b"damaged")
    path = tmp_path / "predictions.csv"
    assert main(["predict", fitted, str(tmp_path / "new"), "--output", str(path)]) == 1
    assert "holds 1 row: no decision." in capsys.readouterr().out
    assert len(read_csv(path)) == 1


def test_predict_arrays(capsys, of_arrays, make_npz, rng):
    X = images(np.arange(6) % 2, rng)
    path = make_npz("new.npz", images=X)
    assert main(["predict", of_arrays, path]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["file"] for row in rows] == list("012345")
    expected = skimbal.load(of_arrays).predict_proba(X)
    assert [float(row["1"]) for row in rows] == expected[:, 1].tolist()
    assert {row["decision"] for row in rows} <= {"0", "1"}
    path = make_npz("parts.npz", train_images=X[:4], test_images=X[4:], test_labels=np.zeros(2))
    assert main(["predict", of_arrays, path]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["file"] for row in rows] == [*(f"train/{i}" for i in range(4)), "test/0", "test/1"]
    assert "images must be numbers" in check_refused(
        capsys, "predict", of_arrays, make_npz("one.npz", images=np.zeros(3))
    )


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": np.zeros((2, 9, 9), np.uint8)}, "shape (1, 9, 9), channels first"),
        ({"images": np.zeros((2, 3, 8, 8), np.uint8)}, "shape (3, 8, 8), channels first"),
        ({"labels": np.zeros(2)}, "must hold one set of images"),
        ({"images": np.zeros((2, 8, 8)), "X": np.zeros((2, 8, 8))}, "must hold one set of images"),
    ],
)
def test_arrays_that_do_not_fit(capsys, of_arrays, make_npz, arrays, said):
    path = make_npz("new.npz", **arrays)
    err = check_refused(capsys, "predict", of_arrays, path)
    assert said in err
    assert err.count(path) == 1


def test_new_images_that_are_not_there(capsys, fitted, new, tmp_path):
    err = check_refused(capsys, "predict", fitted, new[:-1])
    assert f"error: {new[:-1]} does not exist. Did you mean new?" in err
    (tmp_path / "empty").mkdir()
    err = check_refused(capsys, "predict", fitted, str(tmp_path / "empty"))
    assert f"{tmp_path / 'empty'} must hold images" in err
    assert "NEW" in check_refused(capsys, "predict", fitted)


@pytest.mark.parametrize("command", ["predict", "export", "info"])
def test_files_that_are_not_models(capsys, fitted, new, tmp_path, command):
    more = {"predict": [new], "evaluate": [new], "export": ["--output", str(tmp_path / "o")]}
    path = tmp_path / "model.skimbal"
    whole = Path(fitted).read_bytes()
    cases = {
        "empty": b"",
        "cut": whole[:-100],
        "damaged": whole[:-100] + bytes(100),
        "another program": b"\x89PNG and so on",
        "version": whole.replace(b'"format_version":"1"', b'"format_version":"9"', 1),
    }
    for said, data in cases.items():
        path.write_bytes(data)
        err = check_refused(capsys, command, str(path), *more.get(command, []))
        assert f"error: {path} is not a model that can be used. " in err
        assert err.count(str(path)) == 1
        assert said in err or said == "another program"
    if command != "info":
        err = check_refused(capsys, command, str(path)[:-1], *more.get(command, []))
        assert f"error: {path}"[:-1] + " does not exist. Did you mean model.skimbal?" in err
        err = check_refused(capsys, command, new, *more.get(command, []))
        assert f"error: {new} cannot be read: Is a directory" in err


def test_predict_checks_its_output_first(capsys, tmp_path):
    path = tmp_path / "mine"
    path.write_text("mine", encoding="utf-8")
    err = check_refused(capsys, "predict", "absent", "new", "--output", str(path))
    assert "File exists" in err
    assert path.read_text(encoding="utf-8") == "mine"


def test_predict_that_is_interrupted_writes_nothing(capsys, monkeypatch, fitted, new, tmp_path):
    monkeypatch.setattr(
        CNN2DClassifier, "predict_proba", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    argv = ["predict", fitted, new, "--output", str(tmp_path / "p.csv")]
    assert main(argv) == 143
    assert capsys.readouterr().err == "skimbal: The run ended early, so no file was written.\n"
    assert not any(path.suffix == ".csv" or path.is_file() for path in tmp_path.iterdir())


def test_predict_to_a_disk_that_is_full(capsys, monkeypatch, fitted, new, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    argv = ["predict", fitted, new, "--output", str(tmp_path / "p.csv")]
    assert main(argv) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_info_of_a_model_is_its_card(capsys, fitted):
    assert main(["info", fitted]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# Model card: CNN2DClassifier")
    assert "benign" in out
