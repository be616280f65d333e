"""The README's code runs as printed, and its two commands are where the checks look for them."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_every_python_block_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    namespace, printed = {}, []
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
        printed.append(capsys.readouterr().out)
    ten_lines, study, smote = printed
    accuracy, mcc = ten_lines.splitlines()
    assert float(accuracy.removeprefix("balanced accuracy ")) > 0.8
    assert float(mcc.removeprefix("MCC ")) > 0.7
    assert study.startswith("balanced accuracy of 4 configurations: stratified 3-fold")
    assert "balanced sampling, against ce: " in study
    assert float(smote) > 0.8
    assert not os.listdir(tmp_path)


def test_first_example_has_at_most_ten_lines():
    block = re.search(r"## In ten lines\n\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in block[1].splitlines() if line]) <= 10


def test_length():
    shown = re.sub(r"```.*?```|<!--.*?-->", "", README, flags=re.DOTALL)
    assert len(re.sub(r"\]\([^)]*\)", "]", shown).split()) <= 900


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]*)\)", README)
    assert len(links) > 10
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["main-command", "test-command"])
def test_set_up_commands_are_one_line_each(name):
    (command,) = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)```", README, flags=re.DOTALL)
    assert command.count("\n") == 1
    assert command.startswith("python3 -m venv .venv && ")
    assert "-c constraints.txt" in command
