"""The command line as a whole: help, exit codes, arguments."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skimbal.__main__ import main
from skimbal.augmentation import RECIPES
from skimbal.commands import COMMANDS
from skimbal.losses import TERMS
from skimbal.networks import BUILT_IN
from skimbal.sampling import STRATEGIES
from tests.commands.data import PAIR, check_refused, table_of

ROOT = Path(__file__).parents[2]
OPTIONAL = (
    "PIL",
    "jinja2",
    "matplotlib",
    "nibabel",
    "pandas",
    "pooch",
    "pydicom",
    "tifffile",
    "zarr",
)


def test_interrupt_while_loading(capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("skimbal.commands.data.load_imbalanced_digits", interrupt)
    assert main(["info", "digits"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--loss", "hinge"], "error: --loss .*hinge"),
        (["--loss", "ce+-1*mcc"], "error: --loss .*-1"),
        (["--sampler", "none"], "error: --sampler .*'balanced', 'stratified', 'weighted'.*'none'"),
        (["--seeds", "0"], "--seeds: .* 1; got '0'"),
        (["--epochs", "-1"], "--epochs: .* 1; got '-1'"),
        (["--batch-size", "0"], "--batch-size: must be auto or .* 1; got '0'"),
        (["--batch-size", "2.5"], "--batch-size: .*'2.5'"),
        (["--module", "vgg"], "--module: .*resnet18.*'vgg'"),
        (["--data", "cifar"], "--data cifar .*pneumoniamnist.*'cifar'"),
        (["--data", "vesselmnist3d_128"], "--data vesselmnist3d_128: .*28.*64.*128"),
        (["--data", "absent.npz"], "error: --data absent.npz must be an npz file that exists"),
        (["--device", "abacus"], "error: --device .*'abacus'"),
        (["info", ""], "must not be empty"),
        (["predict", "model", "new", ""], "NEW must not be empty"),
        # An index that no machine has, so that the test says the same on machines with CUDA.
        (["--device", "cuda:99"], "error: --device .*'cuda:99'"),
        (["--output", "absent/table.csv"], "error: --output .*'absent/table.csv'"),
        (["--frobnicate"], "--frobnicate"),
        (["comapre"], "command .*info, compare.*'comapre'. Did you mean compare"),
        (["compare"], "DATA"),
        (["info"], "DATA"),
        (["compare", "absent.npz"], "error: absent.npz must be an npz file that exists"),
        (
            ["info", "absent.npz", "--groups", "site"],
            "error: absent.npz must be an npz file that exists",
        ),
        (["compare", "digits", "--groups", "site"], "--groups .*'site'.*digits"),
        (["compare", "digits", "--losses", "ce,hinge"], "error: --loss .*hinge"),
        (["compare", "digits", "--losses", "ce,"], "error: --loss .*''"),
        (["compare", "digits", "--samplers", "uniform,x"], "error: --sampler .*'x'"),
        (["compare", "digits", "--baseline", "x"], "error: --baseline .*ce.*'x'"),
        (["compare", "digits", "--scoring", "x"], "error: --scoring .*balanced_accuracy.*'x'"),
        (["compare", "digits", "--scoring", "f1"], "error: --scoring .*eight.*'f1'"),
        (["compare", "digits", "--device", "cuda:99"], "error: --device .*'cuda:99'"),
        (["compare", "digits", "--cv", "1"], "error: --cv .*2.* got 1"),
        (["compare", "digits", "--cv", "55"], "error: --cv .*54.*eight.*55"),
        (["compare", "digits", "--cv", "3", "--test"], "--cv .*--test"),
        (["compare", "digits", "--repeats", "0"], "--repeats: .* 1; got '0'"),
        (["compare", "digits", "--jobs", "0"], "--jobs: .* 1; got '0'"),
        (["compare", "digits", "--lr", "0"], "--lr: must be auto or .* 0; got '0'"),
        (["compare", "digits", "--lr", "fast"], "--lr: .*'fast'"),
        (["compare", "digits", "--seed", "-1"], "--seed"),
        (["compare", "digits", "--seed", str(2**32)], "--seed: .*4294967296"),
        (["compare", "digits", "--csv", "absent/t.csv"], "error: --csv .*'absent/t.csv'"),
        (["compare", "digits", "--html", "absent/t.html"], "error: --html .*'absent/t.html'"),
        (["compare", "digits", "--html", "new.x", "--csv", "./new.x"], "--html .*--csv .*new.x"),
    ],
)
def test_wrong_arguments(capsys, never, argv, said):
    assert re.search(said, check_refused(capsys, *argv))


def test_rows_that_a_user_added_to_the_tables_are_known(capsys, monkeypatch, own):
    monkeypatch.setitem(STRATEGIES, "as they come", STRATEGIES["uniform"])
    monkeypatch.setitem(RECIPES, "mirror", RECIPES["flip"])
    monkeypatch.setitem(BUILT_IN, "tiny", BUILT_IN["small"])
    monkeypatch.setitem(TERMS, "soft", TERMS["mcc"])
    argv = ["--losses", "ce+soft", "--samplers", "as they come", "--augment", "mirror"]
    argv += ["--module", "tiny", "--epochs", "1", "--cv", "2"]
    assert main(["compare", own, *argv]) == 0
    assert [row[0] for row in table_of(capsys.readouterr().out)] == ["ce+soft"]
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    shown = capsys.readouterr().out
    for name in ("as they come", "mirror", "tiny"):
        assert name in " ".join(shown.split())


@pytest.mark.parametrize(
    "argv",
    [("--output",), ("compare", "digits", "--csv"), ("compare", "digits", "--html")],
)
def test_output_is_never_overwritten(capsys, never, tmp_path, argv):
    path = tmp_path / "mine"
    path.write_text("mine", encoding="utf-8")
    err = check_refused(capsys, *argv, str(path))
    assert re.search(f"error: {argv[-1]} .*{re.escape(str(path))}.*File exists", err)
    assert path.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--help"], [*COMMANDS, "skimbal info DATA", "--seeds", "Ctrl-C"]),
        (["compare", "--help"], ["DATA", "--groups", "X|auto", "default: auto", "Ctrl-C"]),
        (["info", "--help"], ["DATA", "--groups", "Nothing is fitted"]),
        (["--version"], ["skimbal "]),
    ],
)
def test_help_and_version(capsys, argv, said):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in said:
        assert words in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: skimbal {command} " in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_option_is_documented(capsys, command):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    documented = (ROOT / "docs" / "command_line.rst").read_text(encoding="utf-8")
    assert {option for option in options if option not in documented} <= {"--version"}


@pytest.mark.slow
def test_documented_commands_run(
    capsys, fits, monkeypatch, own, split, folder, class_folders, tmp_path
):
    monkeypatch.chdir(tmp_path)
    Path(class_folders("train", "test", n=6)).rename("scans")
    sites = {f"{name}_patient": np.arange(20) + start for name, start in (("train", 0), ("val", 9))}
    split(**sites, test_patient=np.arange(50, 70))
    lines = [
        line.strip()
        for page in ("README.md", "docs/command_line.rst")
        for line in (ROOT / page).read_text("utf-8").replace("\\\n", " ").splitlines()
        # Weights of timm are downloaded.
        if re.match(r"\s*skimbal( compare| info| -|$)", line) and "timm/" not in line
    ]
    assert len(lines) == 14
    for line in dict.fromkeys(lines):
        assert main(shlex.split(line, comments=True)[1:]) == 0, capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("first", "images", "labels.csv", "my.npz", "report.html", "runs"),
        *("scans", "scores.csv", "splits.npz", "study.html", "table.csv"),
    ]


@pytest.mark.slow
def test_import_and_compare_need_no_extra(own, tmp_path):
    argv = ["compare", own, *PAIR, "--cv", "2", "--epochs", "1", "--csv", str(tmp_path / "t.csv")]
    # As if they were not installed: scikit-learn and torch look for them, each in its own way.
    script = f"""
import builtins, sys
from importlib.machinery import PathFinder
class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in {OPTIONAL}
        return None if absent else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
asked, plain_import = [], builtins.__import__
def spy(name, globals=None, *args, **kwargs):
    if (globals or {{}}).get("__name__", "").partition(".")[0] == "skimbal":
        asked.append(name.partition(".")[0])
    return plain_import(name, globals, *args, **kwargs)
builtins.__import__ = spy
from skimbal.__main__ import main
builtins.__import__ = plain_import
print(*sorted(set(asked)))
sys.exit(main({argv!r}))
"""
    done = subprocess.run(
        # An epoch may end in one class.
        [sys.executable, "-W", "error", "-W", "ignore:The network predicted one", "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    asked, _, out = done.stdout.partition("\n")
    assert {"numpy", "sklearn", "skorch", "torch"} <= set(asked.split())
    assert not set(asked.split()) & set(OPTIONAL)
    assert "ce+mcc" in out
    assert (tmp_path / "t.csv").is_file()


@pytest.fixture
def closed_pipe():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        yield stream


def test_names_that_are_not_text_are_printed_by_numbers(capsys, monkeypatch):
    monkeypatch.setitem(COMMANDS, "info", lambda argv, signals: print("caf\udce9") or 0)
    assert main(["info"]) == 0
    assert capsys.readouterr().out == "caf\\udce9\n"
    assert sys.stdout.errors == "strict"


def test_streams_that_the_program_does_not_have(capsys, monkeypatch):
    def command(argv, signals):
        print("result")
        print("message", file=sys.stderr)
        return 3

    monkeypatch.setitem(COMMANDS, "info", command)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        assert main(["info"]) == 3
    assert capsys.readouterr() == ("result\n", "")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert main(["info"]) == 3
    assert capsys.readouterr() == ("", "message\n")


def test_output_that_is_closed_early_is_not_an_error(capsys, monkeypatch, closed_pipe):
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", closed_pipe)
        assert main(["info", "digits"]) == 141
        # Python flushes the rest at its end.
        print("the rest", flush=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_output_that_is_closed_early_is_not_an_error_of_the_program(closed_pipe):
    done = subprocess.run(
        [sys.executable, "-m", "skimbal", "info", "digits"],
        cwd=ROOT,
        stdout=closed_pipe,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, b"")
