"""The command line without a command."""

import os
import subprocess
import sys

import numpy as np
import pytest

from skimbal.__main__ import main
from skimbal.datasets import load_npz
from tests.commands.data import QUICK, read_csv, table_of


def test_real_fits(capsys):
    assert main([*QUICK, "--loss", "ce", "--loss", "ce+mcc"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        "balanced accuracy of 2 configurations: fixed test set, 1 seed; 518 training and 216 test "
        "rows (the 130 validation rows are not used), 1 fit each, seed 0.\n"
    )
    for column in ("balanced accuracy", "macro F1", "MCC", "AUC", "f1[other]", "f1[eight]"):
        assert column in out
    assert [row[:2] for row in table_of(out)] == [["ce", "uniform"], ["ce+mcc", "uniform"]]
    assert "one fit each, so there is no spread" in out
    assert "2/2" in err


def test_real_volumes(capsys, data_dir, tmp_path):
    data = load_npz(data_dir / "vesselmnist3d" / "vesselmnist3d.npz")
    arrays = {}
    for name in ("train", "val", "test"):
        arrays[f"{name}_images"] = data[f"X_{name}"][::10, ::2, ::2, ::2]
        arrays[f"{name}_labels"] = data[f"y_{name}"][::10]
    np.savez(tmp_path / "vessels.npz", **arrays)
    assert main([*QUICK, "--loss", "ce", "--data", str(tmp_path / "vessels.npz")]) == 0
    assert "f1[0]" in capsys.readouterr().out


def test_default_run_compares_the_losses_as_they_were_proposed(capsys, fits):
    assert main([]) == 0
    pairs = [row[:2] for row in table_of(capsys.readouterr().out)]
    losses = ["ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc"]
    assert pairs == [[loss, sampler] for sampler in ("uniform", "balanced") for loss in losses]
    assert len(fits) == 12 * 3
    for classifier, X, _ in fits:
        assert classifier.loss.warmup_epochs == 0
        assert classifier.max_epochs == 8
        assert len(X) == 518


def test_table_and_csv_hold_the_same_numbers(capsys, fits, tmp_path):
    output = tmp_path / "table.csv"
    assert main(["--loss", "ce", "--loss", "ce+mcc", "--output", str(output)]) == 0
    rows = table_of(capsys.readouterr().out)
    table = read_csv(output)
    assert [(row["loss"], row["sampler"], row["n_fits"]) for row in table] == [
        (loss, sampler, "3") for sampler in ("uniform", "balanced") for loss in ("ce", "ce+mcc")
    ]
    for printed, row in zip(rows, table, strict=True):
        assert printed[2] == f"{float(row['mean_balanced_accuracy']):.3f}"
        assert printed[4] == f"{float(row['std_balanced_accuracy']):.3f}"
    assert [row["reference"] for row in table] == ["", "ce", "", "ce"]
    assert 0 <= float(table[0]["mean_f1[nine]"]) <= 1


def test_collapse_warning_is_one_line_once(capsys, fits):
    assert main(["--loss", "f1", "--loss", "mcc"]) == 0
    err = capsys.readouterr().err
    assert err.count("CollapseWarning") == 1
    assert "skimbal: CollapseWarning: f1 collapses\n" in err


def test_interrupt_keeps_what_is_done(capsys, ended, tmp_path):
    output = tmp_path / "table.csv"
    ended(KeyboardInterrupt())
    argv = ["--seeds", "2", "--loss", "ce", "--loss", "ce+mcc", "--output", str(output)]
    assert main(argv) == 130
    out = capsys.readouterr().out
    assert [row[:2] for row in table_of(out)] == [["ce", "uniform"], ["ce+mcc", "uniform"]]
    assert "Not complete: 2 of 8 fits are done." in out
    assert [row["n_fits"] for row in read_csv(output)] == ["1", "1"]


def test_interrupt_in_the_first_fit(capsys, ended, tmp_path):
    ended(KeyboardInterrupt(), at=1)
    output = tmp_path / "table.csv"
    assert main(["--output", str(output)]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert "skimbal: The run ended before its first fit was finished.\n" in err
    assert not output.exists()


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
    assert len(table_of(done.stdout)) == 12
