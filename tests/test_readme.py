"""The README's code runs as printed, and its two commands are where the checks look for them."""

import os
import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_python_block_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    namespace, printed = {}, []
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
        printed.append(capsys.readouterr().out)
    ten_lines, moving, study, augmented, search, rows, nd, *others = printed
    features, callbacks, gpu, files, memory = others
    accuracy, mcc = ten_lines.splitlines()
    assert float(accuracy.removeprefix("balanced accuracy ")) > 0.8
    assert float(mcc.removeprefix("MCC ")) > 0.7
    n_incomplete, n_batches = map(int, moving.split(" of "))
    assert 0 < n_incomplete < n_batches
    assert augmented == "(216, 3)\n"
    assert study.startswith("balanced accuracy of 6 configurations: stratified 3-fold")
    assert "balanced sampling, against ce: " in study
    assert search.startswith("{'loss__mcc': ")
    assert rows == "(216,)\n"
    assert float(nd) > 0.8
    shape, score = features.rsplit(" ", 1)
    assert shape == "(216, 384)"
    assert float(score) > 0.8
    assert callbacks == "True True\n"
    assert gpu == "(216, 3)\n"
    assert files.startswith("images of shape (8, 8), uint8\n")
    assert memory == "(2,)\n"
    assert sorted(os.listdir(tmp_path)) == ["images.npy", "scans"]


def test_first_example_has_at_most_ten_lines():
    block = re.search(r"## In ten lines\n\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in block[1].splitlines() if line]) <= 10


@pytest.mark.parametrize("name", ["main-command", "test-command"])
def test_set_up_commands_are_one_line_each(name):
    (command,) = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)```", README, flags=re.DOTALL)
    assert command.count("\n") == 1
    assert command.startswith("python3 -m venv .venv && ")
    assert "-c constraints.txt" in command
