"""skimbal predict."""

import csv
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import skimbal
from skimbal import CNN2DClassifier
from skimbal.__main__ import main
from skimbal.images import ImageFiles
from tests.commands.data import check_refused, images, read_csv

ROOT = Path(__file__).parents[2]
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
    assert out.startswith(f"{path} holds 3 rows. Decisions: ")
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


def test_a_closed_output_is_an_error(capsys, monkeypatch, fitted, new):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        with pytest.raises(SystemExit) as end:
            main(["predict", fitted, new])
    assert end.value.code == 2
    assert "the standard output is closed. Give --output" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_behind_the_output_is_named(fitted, new):
    with open("/dev/full", "w") as full:
        argv = [sys.executable, "-m", "skimbal", "predict", fitted, new]
        ended = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert ended.returncode == 1
    assert ended.stderr == "skimbal: error: OSError: [Errno 28] No space left on device\n"


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
    assert "holds 1 row. Decisions: none." in capsys.readouterr().out
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


def test_numbers_that_are_far_from_those_of_the_fit_are_told(
    capsys, monkeypatch, of_arrays, make_npz, rng
):
    monkeypatch.setattr("skimbal.commands.predict.BLOCK", 4)
    X = images(np.arange(12) % 2, rng) / 255
    path = make_npz("new.npz", images=X)
    assert main(["predict", of_arrays, path]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 13
    lines = [line for line in err.splitlines() if line.startswith("skimbal: InputWarning: ")]
    assert len(lines) == 1
    assert "12 images (image 0 of X, image 1 of X, image 2 of X, ...): numbers" in lines[0]


def test_a_warning_about_numbers_is_not_repeated_for_each_block(
    capsys, monkeypatch, of_arrays, new, rng
):
    monkeypatch.setattr("skimbal.commands.predict.BLOCK", 4)
    for i in range(12):
        np.save(Path(new) / f"{i:02}.npy", rng.random((8, 8)))
    for name in ("a.npy", "b.npy", "visit 2/ü, c.npy"):
        (Path(new) / name).unlink()
    assert main(["predict", of_arrays, new]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "InputWarning" in line]
    assert lines[0].startswith("skimbal: InputWarning: 12 images (")
    assert lines[0].count(".npy") == 3
    assert lines[1:] == []


def test_rows_of_an_array_that_cannot_be_used(capsys, of_arrays, make_npz, rng):
    X = images(np.arange(9) % 2, rng).astype(np.float32)
    X[4, 2, 2] = np.nan
    assert main(["predict", of_arrays, make_npz("new.npz", images=X)]) == 1
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["file"] for row in rows if row["error"]] == ["4"]
    assert rows[4]["error"].startswith("Input X contains NaN. It is in 1 pixel of image ")
    assert f"skimbal: 4: {rows[4]['error']}\n" in err


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


@pytest.mark.parametrize(
    ("model", "remedy"),
    [("of_arrays", "numpy.savez(path, images=array)"), ("fitted", "write a file for each")],
)
def test_an_array_of_several_images_in_a_file_is_told(capsys, request, model, remedy, tmp_path):
    stack, one = tmp_path / "new.npy", tmp_path / "one.npy"
    X = images(np.arange(5) % 2, np.random.default_rng(0))
    np.save(stack, X)
    np.save(one, X[0])
    assert main(["predict", request.getfixturevalue(model), str(stack), str(one)]) == 1
    table = capsys.readouterr().out
    assert "A file .npy is one image. If it holds 5 images, write" in table
    assert remedy in table
    assert table.count("\n") == 3


def test_a_table_of_images_is_no_image(capsys, fitted, new, tmp_path):
    table = tmp_path / "New.CSV"
    table.write_text("path\na.npy\n", encoding="utf-8")
    for argv in ([str(table)], [new, str(table)]):
        err = check_refused(capsys, "predict", fitted, *argv)
        assert f"NEW must be images; got {table}, a table. Give the folder" in err
        assert f"'skimbal evaluate {fitted} FOLDER --labels {table}'." in err


def test_new_images_that_are_not_there(capsys, fitted, new, tmp_path):
    err = check_refused(capsys, "predict", fitted, new[:-1])
    assert f"error: {new[:-1]} does not exist. Did you mean new?" in err
    (tmp_path / "empty").mkdir()
    err = check_refused(capsys, "predict", fitted, str(tmp_path / "empty"))
    assert f"{tmp_path / 'empty'} must hold images" in err
    assert "NEW" in check_refused(capsys, "predict", fitted)


@pytest.mark.parametrize("command", ["predict", "evaluate", "export", "info"])
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


def test_models_whose_classes_are_called_as_columns(capsys, new, tmp_path):
    y = np.array(["error", "none"])[np.arange(12) % 2]
    X = images(np.arange(12) % 2, np.random.default_rng(0))
    path = tmp_path / "m.skimbal"
    CNN2DClassifier(module="small", max_epochs=1, random_state=0).fit(X, y).save(path)
    err = check_refused(capsys, "predict", str(path), new)
    assert f"error: {path} has a class called 'error'" in err


def test_models_of_files_that_a_function_read(capsys, fitted, new, tmp_path):
    folder = Path(fitted).parent
    X = ImageFiles(sorted(folder.glob("*.npy")), size=(8, 8), transform=np.negative)
    path = tmp_path / "m.skimbal"
    clf = CNN2DClassifier(module="small", max_epochs=1, random_state=0)
    clf.fit(X, np.arange(12) % 2).save(path)
    for command in ("predict", "evaluate"):
        err = check_refused(capsys, command, str(path), new)
        assert f"error: {path} was fitted to files with the transform= of a program" in err


def test_devices_that_are_not_there(capsys, fitted, new):
    for command in ("predict", "evaluate"):
        err = check_refused(capsys, command, fitted, new, "--device", "cuda:99")
        assert "error: --device must be" in err


def test_names_that_are_not_text(capsys, fitted, tmp_path, rng):
    write_images(tmp_path / "new", rng, ["a\nb.npy", '"q".npy'])
    raw = os.fsencode(tmp_path / "new") + b"/caf\xe9.npy"
    Path(tmp_path / "new" / '"q".npy').rename(os.fsdecode(raw))
    path = tmp_path / "predictions.csv"
    assert main(["predict", fitted, str(tmp_path / "new"), "--output", str(path)]) == 0
    assert [row["file"] for row in read_csv(path)] == ["a\nb.npy", r"caf\udce9.npy"]
    capsys.readouterr()


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


@pytest.fixture(scope="module")
def pneumonia(data_dir):
    """Arrays of chest radiographs, with their labels."""
    path = data_dir / "pneumoniamnist" / "pneumoniamnist_imb9to1_varun19424.npz"
    with np.load(path) as data:
        rows = np.random.default_rng(0).permutation(len(data["train_labels"]))[:240]
        return data["train_images"][rows], data["train_labels"][rows, 0]


def run(argv, folder):
    """Run the program in a folder, and return the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "skimbal", *argv],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.slow
def test_pictures_with_a_table_beside_them_in_other_processes(pneumonia, tmp_path):
    pictures, elsewhere = tmp_path / "xrays", tmp_path / "elsewhere"
    pictures.mkdir()
    elsewhere.mkdir()
    lines = ["path,finding,patient"]
    for i, (image, label) in enumerate(zip(*pneumonia, strict=True)):
        Image.fromarray(image).save(pictures / f"{i:03}.png")
        lines.append(f"{i:03}.png,{('normal', 'pneumonia')[label]},p{i // 2}")
    (pictures / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    argv = ["--labels", "labels.csv", "--label-column", "finding", "--size", "24", "--epochs", "4"]
    argv += ["--group-column", "patient", "--train-split", "0.2", "--module", "small"]
    done = run(["fit", "xrays", *argv, "--output", "model.skimbal"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "after the last epoch" in done.stdout
    (pictures / "020.png").write_bytes((pictures / "021.png").read_bytes()[:200])
    argv = ["predict", "../model.skimbal", "../xrays", "--output", "predictions.csv"]
    done = run(argv, elsewhere)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("skimbal: 020.png: image file is truncated")
    rows = read_csv(elsewhere / "predictions.csv")
    assert [row["file"] for row in rows] == [f"{i:03}.png" for i in range(240)]
    assert {row["decision"] for row in rows} == {"normal", "pneumonia", ""}
    known = np.array(
        [
            row["decision"] == ("normal", "pneumonia")[k]
            for row, k in zip(rows, pneumonia[1], strict=True)
        ]
    )
    assert known.mean() > 0.5
    for row in rows:
        if row["decision"]:
            total = float(row["normal"]) + float(row["pneumonia"])
            assert total == pytest.approx(1, abs=1e-6)
    again = run(argv, elsewhere)
    assert again.returncode == 2
    assert "File exists" in again.stderr


@pytest.mark.slow
def test_signal_in_a_real_fit(tmp_path):
    argv = [sys.executable, "-m", "skimbal", "fit", "digits", "--output", "model.skimbal"]
    with subprocess.Popen(
        argv,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert "CNN2DClassifier" in process.stderr.readline()  # the training begins
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "skimbal: The fit ended early, so no file was written." in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_reader_of_predictions_that_ends_early(fitted, tmp_path, rng):
    write_images(tmp_path / "new", rng, [f"{i}.npy" for i in range(300)])
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m skimbal predict {shlex.quote(fitted)} new | head -1; "
        'echo "${PIPESTATUS[0]}"',
        shell=True,
        executable="/bin/bash",
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    header, code = done.stdout.splitlines()
    assert header.startswith("file,decision,error,")
    assert code in ("0", "141")
    assert done.stderr == ""


def test_black_images_are_told_in_one_line_with_their_number(capsys, monkeypatch, of_arrays, new):
    monkeypatch.setattr("skimbal.commands.predict.BLOCK", 2)
    for i in range(5):
        np.save(Path(new) / f"{i}.npy", np.zeros((8, 8), np.uint8))
    assert main(["predict", of_arrays, new]) == 0
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "InputWarning" in one]
    assert "5 images (" in line
    assert "/0.npy, " in line
    assert "no contrast" in line


def test_the_name_of_a_data_set_is_refused_with_the_command_that_takes_it(capsys, of_arrays):
    error = check_refused(capsys, "predict", of_arrays, "pneumoniamnist")
    assert f"'skimbal evaluate {of_arrays} pneumoniamnist'" in error
