"""skimbal fit."""

import os
import re
import signal

import numpy as np
import pytest

import skimbal
from skimbal import CNN2DClassifier
from skimbal.__main__ import main
from skimbal.datasets import load_npz
from skimbal.persistence import read_card
from tests.commands.data import TINY, check_refused, images


def test_fit_writes_a_model(capsys, own, tmp_path):
    path = tmp_path / "model.skimbal"
    argv = ["fit", own, *TINY, "--loss", "ce+mcc", "--sampler", "stratified", "--seed", "3"]
    assert main([*argv, "--output", str(path), "--description", "Moles", "--license", "MIT"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{path} holds the model.\n")
    for words in ("40 rows", "30 (75%)", "10 (25%)", "1 x 8 x 8, uint8", "1 epoch of", "cpu"):
        assert words in out
    assert f"skimbal predict {path} NEW --output predictions.csv" in out
    assert "Judge it:  on other images with labels" in out
    assert "1/1" in err
    clf = skimbal.load(path)
    steps = f"small, 1 epoch of {clf.n_steps_} steps\n"
    assert steps in out
    assert clf.classes_.tolist() == ["benign", "malignant"]
    expected = {"loss": "ce+mcc", "sampler": "stratified", "random_state": 3, "verbose": 0}
    assert {name: getattr(clf, name) for name in expected} == expected
    card = read_card(path)
    assert "Moles" in card
    assert "MIT" in card


def test_the_summary_says_what_auto_is(capsys, own, tmp_path):
    path = tmp_path / "model.skimbal"
    argv = ["fit", own, "--epochs", "2", "--epoch-length", "3", "--width", "4"]
    assert main([*argv, "--output", str(path)]) == 0
    out = capsys.readouterr().out
    assert "ce, sampler balanced, seed 0\n" in out
    assert "residual, 2 epochs of 3 steps (6 steps in all)\n" in out


def test_fit_is_the_fit_of_python(capsys, own, tmp_path):
    path = tmp_path / "model.skimbal"
    assert main(["fit", own, *TINY, "--batch-size", "8", "--output", str(path)]) == 0
    out = capsys.readouterr().out
    assert "sampler balanced, seed 0\n" in out  # the one that was used, not "auto"
    data = load_npz(own, groups="patient")
    clf = CNN2DClassifier(module="small", max_epochs=1, batch_size=8, random_state=0)
    expected = clf.fit(data.X, data.y).predict_proba(data.X)
    np.testing.assert_array_equal(skimbal.load(path).predict_proba(data.X), expected)
    capsys.readouterr()


def test_fit_takes_every_option_of_the_classifiers(capsys, own, tmp_path):
    path = tmp_path / "model.skimbal"
    argv = ["--width", "4", "--micro-batch-size", "4", "--n-tta", "2", "--standardize", "no"]
    argv += ["--dtype", "float64", "--optimizer", "sgd", "--lr-schedule", "none", "--lr", "0.01"]
    argv += ["--logit-adjustment", "0", "--class-weight", "balanced", "--epoch-length", "2"]
    argv += ["--weight-decay", "0.1", "--augment", "flip", "--crop-size", "6", "--sampler"]
    argv += ["uniform", "--module", "small", "--epochs", "1", "--train-split", "0.25"]
    assert main(["fit", own, *argv, "--output", str(path)]) == 0
    assert "valid_loss" in capsys.readouterr().out
    clf = skimbal.load(path)
    expected = {
        "micro_batch_size": 4,
        "n_tta": 2,
        "standardize": False,
        "dtype": "float64",
        "optimizer": "sgd",
        "lr_schedule": None,
        "lr": 0.01,
        "logit_adjustment": 0.0,
        "class_weight": "balanced",
        "epoch_length": 2,
        "augment": "flip",
        "crop_size": 6,
        "train_split": 0.25,
        "net": {"module__width": 4, "optimizer__weight_decay": 0.1},
    }
    assert {name: getattr(clf, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("parts", "said", "n"),
    [
        ([], "20 training and 20 validation rows (the 20 test rows are untouched)", 40),
        (["--parts", "train"], "20 training rows (the 20 validation rows and the 20 test rows", 20),
        (["--parts", "test,val,train"], "20 training and 20 validation and 20 test rows\n", 60),
    ],
)
def test_fit_trains_on_the_parts_that_are_named(
    capsys, monkeypatch, split, tmp_path, parts, said, n
):
    fitted = []
    fit = CNN2DClassifier.fit

    def spy(self, X, y, groups=None):
        fitted.append((len(X), groups))
        return fit(self, X, y, groups=groups)

    monkeypatch.setattr(CNN2DClassifier, "fit", spy)
    path = tmp_path / "model.skimbal"
    argv = [*TINY, *parts, "--groups", "site", "--output", str(path)]
    assert main(["fit", split(), *argv]) == 0
    out = capsys.readouterr().out
    assert said in out
    assert fitted[0][0] == len(fitted[0][1]) == n
    commands = [line for line in out.splitlines() if "skimbal evaluate" in line]
    assert len(commands) == (n < 60)
    if commands:
        assert "--groups site" in commands[0]
        assert "--parts" not in commands[0]


def test_fit_names_classes_that_have_names(capsys, tmp_path):
    path = tmp_path / "model.skimbal"
    argv = ["--module", "small", "--epochs", "1", "--epoch-length", "2"]
    assert main(["fit", "digits", *argv, "--output", str(path)]) == 0
    assert skimbal.load(path).classes_.tolist() == ["eight", "nine", "other"]
    assert f"skimbal evaluate {path} digits --html" in capsys.readouterr().out


def test_fit_a_folder_keeps_how_images_are_read(capsys, folder, table, tmp_path):
    path = tmp_path / "model.skimbal"
    argv = ["--size", "8", "--resize", "crop", "--intensity", "0", "300", *TINY]
    argv += ["--split-column", "part", "--output", str(path)]
    assert main(["fit", folder, *table[:4], *argv]) == 0
    out = capsys.readouterr().out
    options = skimbal.load(path).input_.files.options
    assert (options["size"], options["resize"], options["intensity"]) == (8, "crop", [0.0, 300.0])
    judge = next(line for line in out.splitlines() if "skimbal evaluate" in line)
    assert "--label-column grade --split-column part --html" in judge
    assert "--size" not in judge


@pytest.mark.parametrize("name", ["file", "decision", "error"])
def test_fit_refuses_classes_called_as_columns(capsys, never, make_npz, rng, tmp_path, name):
    y = np.array([0, 1] * 4)
    path = make_npz(X=images(y, rng), y=np.array(["other", name])[y])
    err = check_refused(capsys, "fit", path, "--output", str(tmp_path / "m.skimbal"))
    assert f"must not be called {name!r}" in err
    assert path in err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--output"),
        (["--output", "absent/m.skimbal"], "--output .*'absent/m.skimbal'"),
        (["--output", "m", "--loss", "hinge"], "error: --loss .*hinge"),
        (["--output", "m", "--loss", "ce,wce"], "error: --loss .*ce,wce"),
        (["--output", "m", "--sampler", "none"], "error: --sampler must be 'auto', .*'none'"),
        (["--output", "m", "--optimizer", "adamm"], "error: --optimizer .*'adamm'"),
        (["--output", "m", "--n-tta", "flops"], "--n-tta: must be auto, flips or .*'flops'"),
        (["--output", "m", "--width", "0"], "--width: .* 1; got '0'"),
        (["--output", "m", "--logit-adjustment", "-1"], "--logit-adjustment"),
        (["--output", "m", "--train-split", "1.5"], "error: --train-split .*1.5"),
        (["--output", "m", "--parts", "train,tset"], "--parts must be of train, val, test.*'tset'"),
        (["--output", "m", "--micro-batchsize", "2"], "Did you mean --micro-batch-size"),
        (["--output", "m", "--micro-batch-size", "0"], "--micro-batch-size: must be auto or .*'0'"),
        (["--output", "m", "--device", "cuda:99"], "error: --device .*'cuda:99'"),
    ],
)
def test_fit_refuses_before_any_work(capsys, monkeypatch, tmp_path, argv, said):
    monkeypatch.chdir(tmp_path)
    assert re.search(said, check_refused(capsys, "fit", "digits", *argv))
    assert not os.listdir(tmp_path)


def test_fit_never_overwrites(capsys, never, tmp_path):
    path = tmp_path / "mine"
    path.write_text("mine", encoding="utf-8")
    assert "File exists" in check_refused(capsys, "fit", "digits", "--output", str(path))
    assert path.read_text(encoding="utf-8") == "mine"


def test_fit_that_diverges_writes_nothing(capsys, own, tmp_path):
    argv = [*TINY, "--lr", "1e30", "--epochs", "3", "--output", str(tmp_path / "m.skimbal")]
    assert main(["fit", own, *argv]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "skimbal: error: DivergenceError: The training diverged" in err
    assert err.endswith("skimbal: No file was written.\n")
    assert not (tmp_path / "m.skimbal").exists()


def test_fit_that_is_interrupted_writes_nothing(capsys, monkeypatch, own, tmp_path):
    monkeypatch.setattr(
        CNN2DClassifier, "fit", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    assert main(["fit", own, *TINY, "--output", str(tmp_path / "m.skimbal")]) == 143
    assert capsys.readouterr().err.endswith(
        "skimbal: The fit ended early, so no file was written.\n"
    )
    assert not (tmp_path / "m.skimbal").exists()


def test_fit_whose_file_cannot_be_written(capsys, monkeypatch, own, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    fit = CNN2DClassifier.fit

    def fit_and_remove(self, X, y):
        fit(self, X, y)
        results.rmdir()
        return self

    monkeypatch.setattr(CNN2DClassifier, "fit", fit_and_remove)
    assert main(["fit", own, *TINY, "--output", str(results / "m.skimbal")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"skimbal: error: {results / 'm.skimbal'}: " in err


def test_fit_keeps_the_standard_output_clean(capsys, monkeypatch, own, tmp_path):
    def chatty(self, X, y):
        print("about the fit")
        return fit(self, X, y)

    fit = CNN2DClassifier.fit
    monkeypatch.setattr(CNN2DClassifier, "fit", chatty)
    assert main(["fit", own, *TINY, "--output", str(tmp_path / "m.skimbal")]) == 0
    out, err = capsys.readouterr()
    assert "about the fit" in err
    assert "about the fit" not in out
