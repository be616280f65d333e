"""Data and their options."""

import re
from pathlib import Path

import numpy as np
import pytest

from skimbal.__main__ import main
from tests.commands.data import PAIR, check_refused


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--intensity", "window"], "--intensity must be None, 'stored'"),
        (["--intensity", "40"], "--intensity must be None, 'stored'"),
        (["--intensity", "240", "-160"], "the lower first; got (240.0, -160.0)"),
        (["--channel-axis", "5"], "--channel-axis must be an axis"),
    ],
)
def test_options_for_scale_axes_and_limits_are_checked(capsys, folder, table, option, words):
    assert words in check_refused(capsys, "compare", folder, *table, *option)


def test_scale_and_axes_of_files_are_options(capsys, class_folders):
    path = class_folders("", shape=(8, 8, 3))
    for intensity in (["full_range"], ["percentiles"], ["-10", "300"]):
        argv = ["info", path, "--channel-axis", "-1", "--intensity", *intensity]
        assert main([*argv, "--max-pixels", "192"]) == 0
        assert "used as   3 x 8 x 8, float32" in capsys.readouterr().out


def test_files_that_are_skipped_are_told_in_a_line(capsys, fits, folder, table):
    (Path(folder) / "03.npy").write_bytes(b"damaged")
    argv = ["compare", folder, *table, "--size", "8", *PAIR, "--cv", "2"]
    assert "03.npy" in (err := check_refused(capsys, *argv))
    assert "--on-error skip" in err
    assert main([*argv, "--on-error", "skip"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert (
        sum(line.startswith("skimbal: UserWarning: skipped 1 of 40 files") for line in lines) == 1
    )
    assert len(fits[0][1]) in (19, 20)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--size .*--resize"),
        (["--size", "8", "8", "8"], r"error: --size .*\(8, 8, 8\)"),
        (["--size", "8", "--spacing", "1"], "--resize"),
        (["--size", "0"], "--size: .* 1; got '0'"),
        (["--spacing", "x"], "--spacing: .* 0; got 'x'"),
        (["--size", "8", "--groups", "patient"], "--groups .*'patient'.*{folder}.*--labels"),
        (["--size", "8", "--label-column", "label"], "error: --label-column .*grade.*'label'"),
        (["--size", "8", "--split-column", "patient"], "--group-column must be another column"),
        (["--size", "8", "--splits", "a=b"], "--splits: must be none, or NAME=PART.*'a=b'"),
        (["--size", "8", "--spatial-axes", "2"], "--spatial-axes is for .npz files.*folder"),
        (["--size", "8", "--encoding", "utf-16"], "{folder}.*|--labels must be .*UTF-16"),
        (["--size", "8", "--split-column", "site"], "error: --split-column .*grade.*'site'"),
        (["--size", "8", "--test", "--splits", "none"], "{folder} .*test split"),
        (["--size", "8", "--splits", "none", "--crop-size", "9"], "error: --crop-size .*9"),
        (
            ["--size", "8", "--splits", "none", "--crop-size", "4", "4", "4"],
            r"error: --crop-size .*\(4, 4, 4\)",
        ),
        (["--augment", "mixupp"], "--augment: .*'mixupp'.*mixup"),
    ],
)
def test_wrong_arguments_for_folders(capsys, never, folder, table, argv, said):
    err = check_refused(capsys, "compare", folder, *table, *argv)
    assert re.search(said.replace("{folder}", re.escape(folder)), err)


def test_patients_on_both_sides_of_a_split_are_told_and_refused(capsys, never, folder, table):
    argv = ["compare", folder, *table, "--size", "8", "--split-column", "part", "--test"]
    with pytest.raises(SystemExit):
        main(argv)
    err = capsys.readouterr().err
    assert re.search("^skimbal: UserWarning: .*5 groups", err, re.MULTILINE)
    assert re.search("^skimbal: error: .*5 group", err, re.MULTILINE)


def test_folders_that_are_missing(capsys, never, folder, own):
    err = check_refused(capsys, "compare", folder, "--group-column", "patient")
    assert re.search("error: --group-column .*--labels", err)
    err = check_refused(capsys, "compare", own, "--size", "8")
    assert re.search(f"--size .*{re.escape(own)}", err)
    assert "error: absent/images: " in check_refused(capsys, "compare", "absent/images")
    assert f"'skimbal compare {folder}'" in check_refused(capsys, "--data", folder)


def test_names_of_data_sets_come_before_folders(capsys, never, monkeypatch, tmp_path):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["info", "digits"]) == 0
    assert "digits: 864 2D images" in capsys.readouterr().out
    assert "digits/: " in check_refused(capsys, "compare", "digits/")
    assert main(["info", "digits/"]) == 2
    assert "digits must hold images with labels" in capsys.readouterr().out


def test_samples_in_the_package_have_names(capsys, monkeypatch, tmp_path):
    (tmp_path / "vesselmnist3d_sample").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["info", "vesselmnist3d_sample"]) == 0
    assert "vesselmnist3d_sample: 540 3D images" in capsys.readouterr().out
    err = check_refused(capsys, "compare", "pneumoniamnist_sampel")
    assert "Did you mean pneumoniamnist_sample or" in err


def test_broken_file(capsys, tmp_path):
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK")
    assert f"error: --data {path} must be an npz file, " in check_refused(
        capsys, "--data", str(path)
    )


@pytest.mark.parametrize("argv", [["--data"], ["compare"], ["info"]])
@pytest.mark.parametrize(
    "change",
    [
        {"y": np.array([0.5, 1.0] * 4)},
        {"y": np.array(["a", None] * 4)},
        {"y": np.zeros(7)},
        {"z": np.zeros(8)},
        {"X": np.zeros((8, 9))},
        {"X_train": np.zeros((8, 9, 9))},
        {},
    ],
)
def test_errors_name_a_file_once(capsys, never, make_npz, argv, change):
    arrays = {"X": np.zeros((8, 9, 9)), "y": np.arange(8) % 2, **change}
    if "z" in change:
        del arrays["X"]
    path = make_npz(**arrays)
    if not change:
        data = bytearray(Path(path).read_bytes())
        data[len(data) // 3] ^= 255
        Path(path).write_bytes(data)
    err = check_refused(capsys, *argv, path)
    assert err.split("error: ", 1)[1].count(path) == 1


def test_files_without_a_test_split(capsys, never, own):
    for argv in (["--data", own], ["compare", own, "--test"]):
        assert f"{own} has no test split" in check_refused(capsys, *argv)


def test_one_class(capsys, never, make_npz):
    path = make_npz(X=np.zeros((4, 8, 8)), y=np.zeros(4, int))
    assert f"{path}: y must be labels of at least 2 classes" in check_refused(
        capsys, "compare", path
    )


@pytest.mark.parametrize(
    ("option", "shape"), [("--channel-axis -1", (4, 16, 16)), ("--spatial-axes 3", (16, 16, 4))]
)
def test_axes_of_a_file_that_are_not_clear(capsys, make_npz, rng, option, shape):
    y = np.array(["a", "b"] * 4)
    path = make_npz(X=rng.integers(0, 9, (8, 16, 16, 4), dtype=np.uint8), y=y)
    err = check_refused(capsys, "compare", path)
    assert "Pass --channel-axis -1 if channels come last, --channel-axis 0 if" in err
    assert "or --spatial-axes 3 for volumes" in err
    argv = ["compare", path, *option.split(), "--losses", "ce", "--sampler", "uniform"]
    assert main([*argv, "--module", "small", "--cv", "2", "--epochs", "1"]) == 0
    capsys.readouterr()
    assert main(["info", path, *option.split()]) == 0
    assert f"{len(shape) if shape[-1] == 4 else 2}D" in capsys.readouterr().out


def test_classes_of_a_file_are_its_labels(capsys, make_npz):
    path = make_npz(X=np.zeros((5, 8, 8), np.uint8), y=np.array([0, 0, 0, 10**12, 10**12]))
    assert main(["info", path]) == 0
    out = capsys.readouterr().out
    assert "1000000000000" in out
    assert "1.5 : 1" in out


def test_labels_that_a_table_spells_as_missing(capsys, fits, folder):
    table = Path(folder).parent / "labels.csv"
    table.write_text(table.read_text().replace("low", "none"))
    argv = ["compare", folder, "--labels", str(table), "--label-column", "grade", *PAIR]
    argv += ["--size", "8", "--cv", "2", "--splits", "none"]
    err = check_refused(capsys, *argv)
    assert "'none', which stands for a missing value" in err
    assert "pass --missing-values ''" in err
    assert main([*argv, "--missing-values", ""]) == 0
    assert set(fits[-1][2]) == {"none", "high"}
    capsys.readouterr()


def test_groups_on_both_sides(capsys, never, split):
    path = split(test=range(17, 37))
    argv = ["compare", path, "--test", "--groups", "site"]
    err = check_refused(capsys, *argv)
    assert re.search(f"error: {path}: groups_test .*3.*group", err)
    assert "such as 17" in err
    assert "no array test_site" in check_refused(
        capsys, *["compare", split(test_site=None), "--test", "--groups", "site"]
    )


def test_groups_that_are_not_there(capsys, never, own):
    err = check_refused(capsys, "compare", own, "--groups", "hospital")
    assert re.search("--groups .*hospital", err)
    assert "X, y, patient" in err


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("imgaes", "error: imgaes must be a folder, .* does not exist. Did you mean images?"),
        ("imgaes/", "error: imgaes/: there is no such folder. Did you mean images?"),
        ("images/sbu", "error: images/sbu: there is no such folder. Did you mean sub?"),
        ("splits.nzp", "Did you mean splits.npz?"),
        ("split.npz", "error: split.npz must be an npz file that exists.*Did you mean splits.npz?"),
        ("pneumoniamnst", "Did you mean pneumoniamnist?"),
        ("notes.txt", "error: notes.txt must be a folder or an .npz file; got another file"),
        ("mymnist", "error: mymnist is read as the name of a data set. .* write mymnist/"),
        ("chestmnist", "chestmnist: .*chestmnist"),
    ],
)
def test_mistyped_data(capsys, never, monkeypatch, tmp_path, split, data, said):
    split()
    (tmp_path / "images" / "sub").mkdir(parents=True)
    (tmp_path / "mymnist").mkdir()
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert re.search(said, check_refused(capsys, "compare", data))


def test_mistyped_folder_with_options_of_folders(capsys, never, folder):
    err = check_refused(capsys, "compare", folder[:-1], "--size", "8")
    assert "there is no folder" in err
    assert "Did you mean images?" in err


def test_table_beside_the_images(capsys, never, monkeypatch, folder, table, tmp_path):
    options = ["--label-column", "grade", "--size", "8"]
    beside = Path(folder) / "mine.csv"
    Path(table[1]).rename(beside)
    monkeypatch.chdir(tmp_path)
    assert main(["info", folder, "--labels", "mine.csv", *options]) == 0
    assert "low " in capsys.readouterr().out
    (tmp_path / "mine.csv").symlink_to(beside)  # the same file
    assert main(["info", folder, "--labels", "mine.csv", *options]) == 0
    capsys.readouterr()
    (tmp_path / "mine.csv").unlink()
    (tmp_path / "mine.csv").write_text(beside.read_text().replace("low", "minor"))
    for command in ("info", "compare"):
        err = check_refused(capsys, command, folder, "--labels", "mine.csv", *options)
        assert f"Give the whole path: {tmp_path / 'mine.csv'} or {beside}." in err
    assert main(["info", folder, "--labels", str(tmp_path / "mine.csv"), *options]) == 0
    assert "minor " in capsys.readouterr().out
