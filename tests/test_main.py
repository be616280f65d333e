import csv
import os
import subprocess
import sys
import warnings
from typing import ClassVar

import numpy as np
import pytest

from skimbal import CollapseWarning
from skimbal.__main__ import main
from skimbal.datasets import load_imbalanced_digits, load_npz

QUICK = ("--epochs", "1", "--seeds", "1", "--sampler", "uniform")


class StubClassifier:
    """Knows the labels of the digits, and errs on as many as `wrong` says."""

    wrong: ClassVar = {"ce": (20, 10, 15), "ce+mcc": (10, 5, 5), "ce+f1": (0, 30, 0)}

    def __init__(self, **parameters):
        self.parameters = parameters

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if self.parameters["loss"] in ("f1", "mcc"):
            warnings.warn(f"{self.parameters['loss']}\ncollapses", CollapseWarning, stacklevel=2)
        return self

    def predict(self, X):
        y = load_imbalanced_digits().y_test.copy()
        seed = self.parameters["random_state"]
        wrong = self.wrong.get(self.parameters["loss"], (50,) * 3)[seed]
        rows = np.flatnonzero(y == 0)[:wrong]
        y[rows] = 1
        return y

    def predict_proba(self, X):
        return np.eye(3)[self.predict(X)]


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr("skimbal.__main__.CNN2DClassifier", StubClassifier)


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C in the third fit."""
    fits = []

    class Interrupted(StubClassifier):
        def fit(self, X, y):
            fits.append(self)
            if len(fits) == 3:
                raise KeyboardInterrupt
            return super().fit(X, y)

    monkeypatch.setattr("skimbal.__main__.CNN2DClassifier", Interrupted)


def check_refused(capsys, *argv):
    """Check that the arguments end the program with code 2, and return the one line it says."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert err.startswith("skimbal: error: ")
    assert err.count("\n") == 1
    return err


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


# ---- the table


def test_real_fits(capsys):
    assert main([*QUICK, "--loss", "ce", "--loss", "ce+mcc"]) == 0
    out, err = capsys.readouterr()
    header, *rows, verdict = out.splitlines()
    for column in ("balanced accuracy", "macro F1", "MCC", "AUC", "F1 other", "F1 eight"):
        assert column in header
    assert [row.split()[:3] for row in rows] == [["ce", "uniform", "1"], ["ce+mcc", "uniform", "1"]]
    assert verdict.startswith("best: ")
    assert "2/2" in err


def test_real_volumes(capsys, data_dir, tmp_path):
    data = load_npz(data_dir / "vesselmnist3d" / "vesselmnist3d.npz")
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = data[f"X_{split}"][::10, ::2, ::2, ::2]
        arrays[f"{split}_labels"] = data[f"y_{split}"][::10]
    np.savez(tmp_path / "vessels.npz", **arrays)
    assert main([*QUICK, "--loss", "ce", "--data", str(tmp_path / "vessels.npz")]) == 0
    assert "F1 0" in capsys.readouterr().out


def test_table_and_csv_hold_mean_and_spread(capsys, stub, tmp_path):
    output = tmp_path / "table.csv"
    assert main(["--loss", "ce", "--loss", "ce+mcc", "--output", str(output)]) == 0
    _, *rows, _ = capsys.readouterr().out.splitlines()
    assert [row.split()[:3] for row in rows] == [
        [loss, sampler, "3"] for sampler in ("uniform", "balanced") for loss in ("ce", "ce+mcc")
    ]
    with output.open(newline="", encoding="utf-8") as stream:
        first, *_ = table = list(csv.DictReader(stream))
    assert len(table) == 4
    # 15 of the 180 rows of one of three classes are wrong on average.
    assert float(first["balanced accuracy mean"]) == pytest.approx(1 - 15 / 180 / 3)
    assert float(first["balanced accuracy std"]) == pytest.approx(5 / 180 / 3)
    assert float(first["F1 nine mean"]) == 1
    assert "0.972 ± 0.009" in rows[0]


# ---- the verdict


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["ce", "ce+mcc"], "ce+mcc with uniform sampling, balanced accuracy 0.988 ± 0.005; against "
         "plain ce with uniform sampling +0.015 ± 0.005 over 3 paired seeds, beyond the spread"),
        (["ce", "ce+f1"], "+0.009 ± 0.040 over 3 paired seeds, within the spread"),
        (["ce", "focal"], "best: ce with uniform sampling, balanced accuracy 0.972 ± 0.009: no"),
        (["ce+f1"], "plain ce was not fitted with uniform sampling"),
    ],
)  # fmt: skip
def test_verdict(capsys, stub, argv, said):
    assert main(["--sampler", "uniform", *(f"--loss={loss}" for loss in argv)]) == 0
    assert said in last_line(capsys)


def test_verdict_of_one_seed(capsys, stub):
    assert main(["--seeds", "1", "--loss", "ce", "--loss", "ce+mcc"]) == 0
    assert "+0.019 (one seed, so there is no spread" in last_line(capsys)


# ---- what goes wrong


def test_collapse_warning_is_one_line_once(capsys, stub):
    assert main(["--loss", "f1", "--loss", "mcc"]) == 0
    err = capsys.readouterr().err
    assert err.count("CollapseWarning") == 1
    assert "skimbal: CollapseWarning: f1 collapses\n" in err


def test_interrupt_keeps_what_is_done(capsys, interrupted, tmp_path):
    output = tmp_path / "table.csv"
    argv = ["--seeds", "2", "--loss", "ce", "--loss", "ce+mcc", "--output", str(output)]
    assert main(argv) == 130
    _, row, verdict = capsys.readouterr().out.splitlines()
    assert row.split()[:3] == ["ce", "uniform", "2"]
    assert verdict.startswith("best: ce")
    assert len(output.read_text(encoding="utf-8").splitlines()) == 2


def test_interrupt_in_the_first_fit(capsys, monkeypatch, tmp_path):
    def interrupt(self, X, y):
        raise KeyboardInterrupt

    monkeypatch.setattr("skimbal.__main__.CNN2DClassifier.fit", interrupt)
    output = tmp_path / "table.csv"
    assert main(["--output", str(output)]) == 130
    assert capsys.readouterr().out == ""
    assert not output.exists()


def test_rows_the_classifier_refuses(capsys, tmp_path):
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.zeros((4, 8, 8), np.uint8)
        arrays[f"{split}_labels"] = np.zeros(4, np.uint8)
    np.savez(tmp_path / "one.npz", **arrays)
    assert main([*QUICK, "--data", str(tmp_path / "one.npz")]) == 1
    assert "skimbal: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--loss", "hinge"], "unknown term 'hinge'"),
        (["--loss", "ce+-1*mcc"], "--loss"),
        (["--sampler", "none"], "'uniform', 'balanced', 'stratified', 'weighted'"),
        (["--seeds", "0"], "--seeds: expected a whole number from 1, got '0'"),
        (["--epochs", "-1"], "--epochs"),
        (["--batch-size", "2.5"], "--batch-size"),
        (["--module", "vgg"], "resnet18"),
        (["--data", "cifar"], "--data cifar: unknown MedMNIST data set"),
        (["--data", "vesselmnist3d_128"], "sizes 28, 64, got 128"),
        (["--data", "absent.npz"], "no such file"),
        (["--device", "abacus"], "--device abacus cannot be used here"),
        (["--output", "absent/table.csv"], "--output absent"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_arguments(capsys, argv, said):
    assert said in check_refused(capsys, *argv)


def test_broken_file(capsys, tmp_path):
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK")
    assert "cut short" in check_refused(capsys, "--data", str(path))


def test_output_is_never_overwritten(capsys, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("mine", encoding="utf-8")
    assert "exists" in check_refused(capsys, "--output", str(path))
    assert path.read_text(encoding="utf-8") == "mine"


def test_cuda_where_there_is_none(capsys, monkeypatch):
    # An index that no machine has, so that the test says the same on machines with CUDA.
    assert "cannot be used here" in check_refused(capsys, "--device", "cuda:99")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(capsys, option):
    with pytest.raises(SystemExit) as stop:
        main([option])
    assert stop.value.code == 0
    assert "skimbal" in capsys.readouterr().out


@pytest.mark.slow
def test_default_run_takes_less_than_two_minutes():
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    # Processor time, which on one thread is what a clock shows where nothing else runs.
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "skimbal"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    after = os.times()
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 120
    assert len(done.stdout.splitlines()) == 1 + 12 + 1
