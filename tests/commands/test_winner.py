"""The commands and the lines of Python at the end of a comparison, run as they are printed."""

import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import skimbal
from skimbal.__main__ import main
from skimbal.commands.classifier import DEFAULTS, options_of_classifiers
from skimbal.commands.data import add_data
from skimbal.commands.options import OF_FILES, OF_FOLDERS
from skimbal.commands.parser import Parser, as_typed, in_shell
from tests.commands.data import images

ROOT = Path(__file__).parents[2]
QUICK = ("--losses", "ce,ce+0.5*mcc", "--samplers", "balanced", "--cv", "2", "--epochs", "1")
SMALL = ("--module", "small", "--augment", "none")


def compare(capsys, *argv):
    """Run a comparison, and return its output and the commands at the end of it."""
    assert main(["compare", *argv]) == 0
    out, _ = capsys.readouterr()
    *_, last = out.split("\n\n")
    head, *commands = last.splitlines()
    assert head.startswith("Train the best configuration. ")
    assert all(line.startswith("  skimbal ") for line in commands)
    return out, [line.strip() for line in commands]


def options_of(command):
    """Return the words of a command by the option before them."""
    found = {"": []}
    name = ""
    for word in shlex.split(command):
        if word.startswith("--"):
            name, sign, value = word.partition("=")
            found[name] = [value] if sign else []
        else:
            found[name].append(word)
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "--x"),
        (7, "--x 7"),
        ((32, 48.5), "--x 32 48.5"),
        ("p", "--x p"),
        ("-p q", "--x='-p q'"),
        ("it's", "--x 'it'\"'\"'s'"),
        ("", "--x ''"),
        (["", "NA"], "--x ,NA"),
        ({"a": "train", "b c": None}, "--x 'a=train,b c=none'"),
        ({}, "--x none"),
        (-1, "--x -1"),
    ],
)
def test_options_are_typed_as_the_parser_reads_them(value, text):
    assert as_typed("--x", value) == text


#: A value of each option of data and of classifiers that is not its default.
VALUES = {
    "groups": "it's a -group",
    "n_spatial": 3,
    "channel_axis": -1,
    "missing_values": ["", "n/a", "don't know"],
    "max_pixels": 1000,
    "labels": Path("/a b/labels.csv"),
    "path_column": "-path",
    "label_column": "Grad (1-3)",
    "group_column": "Fälle",
    "split_column": "$part",
    "splits": {"fold 1": "train", "b=c": "test", "rest": None},
    "encoding": "cp1252",
    "size": (32, 48, 48),
    "resize": "crop",
    "spacing": (3.0, 1.5, 1.5),
    "channels": 3,
    "intensity": (-160.0, 240.0),
    "cache": "/a b/cache",
    "on_error": "skip",
    "max_epochs": 7,
    "epoch_length": "uniform",
    "batch_size": 8,
    "lr": 1e-05,
    "lr_schedule": "none",
    "optimizer": "SGD",
    "net__optimizer__weight_decay": 0.01,
    "class_weight": "balanced",
    "logit_adjustment": 1.5,
    "augment": "none",
    "crop_size": (6, 8),
    "n_tta": "flips",
    "standardize": "no",
    "module": "resnet18",
    "net__module__width": 8,
    "weights": "/a b/own.safetensors",
    "freeze": ["conv1*", "layer1.*"],
    "unfreeze_at": 0.2,
    "backbone_lr_factor": 0.1,
    "layer_decay": 0.8,
    "image_size": (96, 128),
    "features_cache": Path("/a b/features"),
    "micro_batch_size": 4,
    "device": "cuda:1",
    "dtype": "float64",
}


def test_the_parser_reads_every_option_as_it_is_typed():
    parser = Parser("skimbal fit", "")
    add_data(parser)
    of_classifiers = options_of_classifiers(DEFAULTS)
    parser.add_options(of_classifiers)
    options = {**OF_FILES, **OF_FOLDERS, **of_classifiers}
    assert set(VALUES) == set(options)
    for name, value in VALUES.items():
        typed = as_typed(options[name][0].split()[0], value)
        args = vars(parser.parse_args(["data", *shlex.split(typed)]))
        assert args[name] == value, typed
        assert options[name][1].get("default") != value


@pytest.mark.parametrize(
    "name", ["plain", "", "a b", "$(x) `y` \\ \"'", "a\nb\tc", "ü", "\udcff.png"]
)
def test_a_shell_reads_a_quoted_word_as_it_was(name):
    command = f"printf '%s' {in_shell(name)}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert done.stdout == os.fsencode(name)
    assert in_shell(name).isprintable()


def test_the_summary_ends_with_the_commands(capsys, fits, split, monkeypatch):
    path = split()
    monkeypatch.chdir(Path(path).parent)
    options = ["--lr", "0.01", "--batch-size", "8", "--width", "8", "--n-tta", "2"]
    argv = [*QUICK, "--seed", "3", "--groups", "site", *options, *SMALL]
    out, (fit, evaluate) = compare(capsys, Path(path).name, *argv)
    assert "The 20 test rows of the data had no part in the study and can confirm" in out
    assert options_of(fit) == {
        "": ["skimbal", "fit", path],
        "--groups": ["site"],
        "--loss": [options_of(fit)["--loss"][0]],
        "--sampler": ["balanced"],
        "--epochs": ["1"],
        "--epoch-length": ["uniform"],
        "--lr": ["0.01"],
        "--batch-size": ["8"],
        "--augment": ["none"],
        "--n-tta": ["2"],
        "--module": ["small"],
        "--width": ["8"],
        "--seed": ["3"],
        "--output": ["model.skimbal"],
    }
    assert options_of(fit)["--loss"][0] in ("ce", "ce+0.5*mcc")
    assert evaluate == f"skimbal evaluate model.skimbal {path} --groups site"


def test_validation_rows_confirm_a_choice_of_the_test_rows(capsys, fits, split):
    _, (fit, evaluate) = compare(capsys, split(), *QUICK[:4], "--test")
    assert "--parts train " in fit
    assert evaluate.endswith(" --parts val")
    _, commands = compare(capsys, split(val_images=None, val_labels=None), *QUICK[:4], "--test")
    assert len(commands) == 1
    assert "--parts" not in commands[0]


def test_data_without_unseen_rows_have_no_command_that_judges(capsys, fits, own):
    out, commands = compare(capsys, own, *QUICK)
    assert len(commands) == 1
    assert commands[0].startswith(f"skimbal fit {own} --loss ")
    assert "none of them can confirm its choice. Score the classifier on new images." in out


def test_tables_have_absolute_paths(capsys, fits, folder, table, monkeypatch):
    monkeypatch.chdir(Path(folder).parent)
    of_table = ["--labels", "labels.csv", *table[2:], "--split-column", "part"]
    argv = ["images", *of_table, "--size", "8", "10", "--image-cache", "kept", "--on-error", "skip"]
    _, (fit, evaluate) = compare(capsys, *argv, *QUICK[:6])
    words = options_of(fit)
    assert words[""][2] == folder
    assert words["--labels"] == [str(Path(folder).parent / "labels.csv")]
    assert words["--image-cache"] == [str(Path(folder).parent / "kept")]
    assert words["--size"] == ["8", "10"]
    assert not {"--size", "--image-cache"} & set(options_of(evaluate))
    assert options_of(evaluate)["--group-column"] == ["patient"]


def run_as_printed(capsys, folder, monkeypatch, *argv, score="balanced accuracy"):
    """Run a comparison, its commands and its lines of Python, and compare the two models."""
    _, commands = compare(capsys, *argv, *QUICK, *SMALL, "--html", str(folder / "study.html"))
    page = (folder / "study.html").read_text("utf-8")
    blocks = [html.unescape(text) for text in re.findall(r"<pre><code>([\s\S]*?)</code>", page)]
    assert blocks[0].splitlines() == commands
    (folder / "by command").mkdir()
    monkeypatch.chdir(folder / "by command")
    shown = ""
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
        shown = capsys.readouterr().out
    (folder / "by Python").mkdir()
    monkeypatch.chdir(folder / "by Python")
    names = {}
    exec(blocks[1], names)
    ours, theirs = (skimbal.load(folder / f"by {way}" / "model.skimbal") for way in WAYS)
    new = names["X_test"] if "X_test" in names else names["X"]
    np.testing.assert_allclose(ours.predict_proba(new), theirs.predict_proba(new), atol=1e-6)
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    assert ours.get_params() == theirs.get_params()
    said = capsys.readouterr().out
    if len(commands) == 2:
        assert said.startswith(f"{score} of {len(names['y_test'])} unseen rows: ")
        # After a line about the rows, the command shows the evaluation of the lines of Python.
        assert said.split("\n", 1)[1].split("seed")[0] == shown.split("\n", 1)[1].split("seed")[0]
        assert (folder / "by command" / "evaluation.html").is_file()
    return commands, names


WAYS = ("command", "Python")


@pytest.fixture
def patients(rng):
    """Arrays of three parts with patients, each of one class unless they are mixed."""

    def make(mixed=False):
        arrays = {}
        for part, n in (("train", 24), ("val", 16), ("test", 20)):
            y = (np.arange(n) // 2 % 2) if not mixed else np.arange(n) % 2
            arrays[f"{part}_images"], arrays[f"{part}_labels"] = images(y, rng), y
            arrays[f"{part}_who"] = np.array([f"{part}{i // 2}" for i in range(n)])
        return arrays

    return make


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
def test_commands_and_lines_of_files_with_patients(capsys, tmp_path, monkeypatch, patients, mixed):
    (tmp_path / 'it\'s a "study"').mkdir()
    path = tmp_path / 'it\'s a "study"' / "my $file.npz"
    np.savez(path, **patients(mixed))
    commands, _ = run_as_printed(
        capsys, tmp_path, monkeypatch, str(path), "--groups", "who", "--seed", "5"
    )
    assert ("--pool none" in commands[1]) == mixed


@pytest.mark.slow
def test_commands_and_lines_of_digits(capsys, tmp_path, monkeypatch):
    commands, names = run_as_printed(capsys, tmp_path, monkeypatch, "digits")
    assert commands[0].startswith("skimbal fit digits ")
    assert names["clf"].classes_.tolist() == ["eight", "nine", "other"]


@pytest.mark.slow
def test_commands_and_lines_of_class_folders(capsys, tmp_path, monkeypatch, class_folders):
    root = Path(class_folders("train", "test", n=8))
    root = root.rename(root.with_name("it's mine"))
    monkeypatch.chdir(tmp_path)
    argv = ["it's mine", "--size", "10", "6", "--image-cache", "memory"]
    _, names = run_as_printed(capsys, tmp_path, monkeypatch, *argv)
    assert names["X"].shape == (16, 10, 6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* groups, such as 'p")
def test_commands_and_lines_of_tables(capsys, tmp_path, monkeypatch, folder, table):
    argv = [folder, *table, "--split-column", "part", "--size", "8"]
    run_as_printed(capsys, tmp_path, monkeypatch, *argv)


@pytest.mark.slow
def test_commands_and_lines_without_unseen_rows(capsys, tmp_path, monkeypatch, own):
    commands, names = run_as_printed(capsys, tmp_path, monkeypatch, own, "--groups", "patient")
    assert len(commands) == 1
    assert "score" not in names


@pytest.mark.slow
def test_commands_and_lines_of_nifti_files(capsys, tmp_path, monkeypatch, data_dir):
    root = data_dir / "nifti_hippocampus"
    header, *rows = (root / "labels.csv").read_text("utf-8").split()
    lines = [f"{row},{['train', 'test'][i % 3 == 0]}" for i, row in enumerate(rows)]
    (tmp_path / "labels.csv").write_text("\n".join([f"{header},part", *lines]))
    argv = [str(root / "images"), "--labels", str(tmp_path / "labels.csv"), "--path-column", "file"]
    argv += ["--label-column", "low_volume_15pct", "--split-column", "part"]
    argv += ["--size", "12", "16", "12", "--intensity", "percentiles"]
    _, names = run_as_printed(capsys, tmp_path, monkeypatch, *argv)
    assert names["X"].shape == (80, 12, 16, 12)


@pytest.mark.slow
def test_a_shell_runs_the_commands_and_python_the_lines(capsys, tmp_path, patients):
    np.savez(tmp_path / "it's mine.npz", **patients())
    argv = [str(tmp_path / "it's mine.npz"), "--groups", "who"]
    _, commands = compare(capsys, *argv, *QUICK, *SMALL)
    python = shlex.quote(sys.executable)
    program = "\n".join(["set -e", f'skimbal() {{ {python} -m skimbal "$@"; }}', *commands])
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "10 patients" in done.stdout
    assert (tmp_path / "elsewhere" / "model.skimbal").is_file()
