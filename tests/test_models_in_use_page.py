"""The commands and the Python code of the page on models in use run, on small images."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skimbal.__main__ import main

PAGE = (Path(__file__).parents[1] / "docs" / "models_in_use.rst").read_text("utf-8")
QUICK = {
    "compare": ["--epochs", "1", "--cv", "2", "--module", "small", "--augment", "none"],
    "CNN2DClassifier(max_epochs=20)": "CNN2DClassifier(max_epochs=1, module='small', augment=None)",
}


def blocks(language):
    """Return the blocks of code of a language, in the order of the page."""
    found = re.findall(rf"code-block:: {language}\n\n((?:    .*\n|\n)+)", PAGE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).replace("\\\n", "") for block in found]


@pytest.fixture
def scans(tmp_path, monkeypatch, rng):
    """Pictures in the folders of the page, of which the lesions are brighter."""
    monkeypatch.chdir(tmp_path)
    for folder, n in (("train/lesion", 8), ("train/normal", 16), ("test/lesion", 4)):
        write(Path("scans", folder), rng, n, folder.endswith("lesion"))
    write(Path("scans", "test", "normal"), rng, 8, False)
    write(Path("new"), rng, 3, True)


def write(folder, rng, n, is_bright):
    folder.mkdir(parents=True)
    for i in range(n):
        pixels = rng.integers(0, 128, (36, 40), dtype=np.uint8) + np.uint8(100 * is_bright)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
# After one epoch another loss may win on another processor, and some have no known risks.
@pytest.mark.filterwarnings("ignore:The probabilities may not be risks:UserWarning")
def test_python_of_the_page_runs_in_one_program(scans, capsys):
    names = {"__name__": "page"}
    for block in blocks("python"):
        for large, small in QUICK.items():
            block = block.replace(large, small) if isinstance(small, str) else block
        exec(compile(block, "models_in_use.rst", "exec"), names)
    assert names["proba"].shape == (3, 2)
    assert set(names["decisions"]) <= {"lesion", "normal"}
    assert Path("report.html").is_file()
    assert Path("model.onnx").is_file()
    assert "X_test = data.X_test" in capsys.readouterr().out


@pytest.mark.slow
def test_commands_of_the_page_run(scans, capsys):
    comparison, prediction = blocks("bash")
    assert main([*shlex.split(comparison)[1:], *QUICK["compare"]]) == 0
    out = capsys.readouterr().out
    printed = [line.strip() for line in out.splitlines() if line.startswith("  skimbal ")]
    for command in (*printed, prediction):
        assert main(shlex.split(command)[1:]) == 0
    rows = Path("predictions.csv").read_text("utf-8").splitlines()
    assert rows[0] == "file,decision,error,lesion,normal"
    assert [row.partition(",")[0] for row in rows[1:]] == ["000.png", "001.png", "002.png"]
    assert Path("evaluation.html").is_file()
