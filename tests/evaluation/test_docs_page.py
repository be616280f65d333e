"""The code of the page on evaluation runs."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.rst").read_text("utf-8")


@pytest.mark.slow
def test_the_first_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = re.search(r":: python\n\n((?:    .*\n|\n)+)", PAGE)[1]
    code = re.sub("^    ", "", code, flags=re.MULTILINE).replace("=8", "=3, module='small'")
    exec(compile(code, "evaluation.rst", "exec"), {})
    assert "By class (images)" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "scores.csv"]
