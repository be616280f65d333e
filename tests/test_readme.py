"""The README's code runs as printed, and its two commands are where the checks look for them."""

import os
import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_python_block_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 9
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out.splitlines()
    assert float(printed[0].removeprefix("balanced accuracy ")) > 0.8
    assert float(printed[1].removeprefix("MCC ")) > 0.7
    n_incomplete, n_batches = map(int, printed[2].split(" of "))
    assert 0 < n_incomplete < n_batches
    assert printed[3].startswith("{'loss__mcc': ")
    assert printed[4] == "(216,)"
    assert float(printed[5]) > 0.8
    shape, score = printed[6].rsplit(" ", 1)
    assert shape == "(216, 384)"
    assert float(score) > 0.8
    assert printed[7] == "True True"
    assert printed[8] == "(216, 3)"
    assert printed[9] == "(2,)"
    assert os.listdir(tmp_path) == ["images.npy"]


def test_first_example_has_at_most_ten_lines():
    block = re.search(r"## In ten lines\n\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in block[1].splitlines() if line]) <= 10


@pytest.mark.parametrize("name", ["main-command", "test-command"])
def test_set_up_commands_are_one_line_each(name):
    (command,) = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)```", README, flags=re.DOTALL)
    assert command.count("\n") == 1
    assert command.startswith("python3 -m venv .venv && ")
    assert "-c constraints.txt" in command
