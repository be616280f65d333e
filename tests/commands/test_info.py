"""skimbal info."""

import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from skimbal.__main__ import main


def test_info_of_a_file(capsys, never, own):
    assert main(["info", own, "--groups", "patient"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "my: 40 2D images of 2 classes"
    assert " ".join(lines[1:3]).startswith(f"file {own}, {os.path.getsize(own):,} bytes")
    assert "Loads. All images can be read." in lines
    assert (
        lines[-5:]
        == [
            "class                      all",
            "benign                     30 (75 %)",
            "malignant                  10 (25 %)",
            "all                        40",
            "largest to smallest class  3.0 : 1",
            "groups                     20",
        ][-5:]
    )


def test_info_of_splits(capsys, never, split):
    path = split(train=np.arange(20), val=np.arange(20, 40), test=np.arange(15, 35) // 2)
    assert main(["info", path, "--groups", "site"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].split() == ["groups", "20", "20", "11"]
    # Sites 7 to 17, all of which are training rows.
    assert "groups, such as '10', are in train and in test." in out
    assert main(["info", split(test_site=None), "--groups", "site"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].split() == ["groups", "20", "20", "0"]
    assert "WARNING" not in out


def test_info_of_a_folder(capsys, never, folder, table):
    argv = ["info", folder, *table, "--split-column", "part", "--size", "8"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "images: 40 2D images of 2 classes"
    assert "size      8 x 8 (20), 10 x 10 (20)" in lines
    assert "used as   8 x 8, float32" in lines
    assert re.search("- 5 groups, such as 'p.', are in train and in test\\.", out)
    assert lines[-1].split() == ["groups", "10", "5", "5"]
    assert err == ""  # no bar without a terminal


def test_info_of_a_folder_that_is_refused(capsys, never, folder, table):
    (Path(folder) / "03.npy").write_bytes(b"damaged")
    (Path(folder) / "lost.npy").write_bytes((Path(folder) / "02.npy").read_bytes())
    assert main(["info", folder, *table]) == 2
    out = capsys.readouterr().out
    assert "REFUSED, for 3 reasons" in out
    assert "lost.npy: an image without a label" in out
    assert "03.npy: " in out
    assert "--size must be given for images of different shapes (00.npy has" in out
    assert "by --resize resample or --resize crop." in " ".join(out.split())
    assert main(["info", folder, *table, "--on-error", "skip", "--size", "8"]) == 0
    out = capsys.readouterr().out
    assert "Loads. 1 file is skipped." in out
    assert "lost.npy: an image without a label" in out


def test_info_words_warnings_in_options(capsys, tmp_path):
    for i, name in enumerate("aabb"):
        (tmp_path / name).mkdir(exist_ok=True)
        np.save(tmp_path / name / f"{i}.npy", np.full((8, 8), 10.0 ** (2 * i)) + np.eye(8))
    assert main(["info", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "may have different scales" in out
    assert "For files, --intensity brings them to one scale" in out


def test_info_of_headers_only(capsys, never, folder, table):
    whole = (Path(folder) / "03.npy").read_bytes()
    with warnings.catch_warnings(action="error"):
        assert main(["info", folder, *table, "--size", "8", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "Loads. Pixels were not read." in out
    assert "copies" not in out
    (Path(folder) / "03.npy").write_bytes(whole[:20])
    assert main(["info", folder, *table, "--size", "8", "--quick"]) == 2


def test_info_of_the_digits(capsys, never):
    assert main(["info", "digits"]) == 0
    out = capsys.readouterr().out
    assert "license   CC BY 4.0" in out
    assert "eight                      43 (8 %)    11 (8 %)    18 (8 %)" in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_info_suits_the_output(monkeypatch, class_folders, tmp_path, encoding):
    root = Path(class_folders(""))
    image = np.load(root / "benign" / "0.npy")
    np.save(root / "benign" / "caf\xe9\x1b[31m.npy", image)
    with (tmp_path / "out.txt").open("w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["info", str(root)]) == 0
    text = (tmp_path / "out.txt").read_bytes().decode(encoding)
    assert max(map(len, text.splitlines())) <= 80
    assert r"\x1b[31m.npy" in text
    assert ("caf\xe9" in text) == (encoding == "utf-8")
    assert text.isascii() == (encoding != "utf-8")


def memory_of(capsys, *argv):
    assert main(["info", "digits", *argv]) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in out.splitlines() if line.startswith("memory ")]
    return line, err


@pytest.mark.slow
def test_memory_of_a_training_step(capsys, monkeypatch):
    line, err = memory_of(capsys)
    assert re.fullmatch(r"memory    about \d MB for a training step of 32 images", line)
    assert not err
    argv = ["--batch-size", "64", "--micro-batch-size", "8", "--module", "resnet18"]
    line, _ = memory_of(capsys, *argv)
    assert re.fullmatch(r"memory    about 1\d\d MB for a .* step of 64 images, 8 at once", line)
    monkeypatch.setattr("skimbal.commands.info.memory_of_machine", lambda: 10**7)
    _, err = memory_of(capsys, *argv)
    assert "UserWarning: a training step takes about" in err
    assert "10 MB. Give a smaller --crop-size or network." in err
    argv = ["--batch-size", "512", "--micro-batch-size", "auto", "--module", "small"]
    line, _ = memory_of(capsys, *argv)
    memory = int(re.search(r"about (\d+) MB", line)[1]) * 7 * 10**5
    monkeypatch.setattr("skimbal.commands.info.memory_of_machine", lambda: memory)
    _, err = memory_of(capsys, *argv)
    size = int(re.search(r"Give --micro-batch-size (\d+), with which it takes about", err)[1])
    assert size in (256, 128, 64, 32, 16)
    line, err = memory_of(capsys, *argv[:2], "--micro-batch-size", str(size), *argv[4:])
    assert f"512 images, {size} at once" in line
    assert not err
