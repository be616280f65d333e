"""A folder of fits: what is refused, and what a crash leaves."""

import json
from pathlib import Path

import pytest

from skimbal import CNN2DClassifier
from skimbal.study.fit_cache import FitCache
from tests.study.data import PAIR, compare, few_or_many, made_up, never


def test_folder_keeps_each_fit_at_once(tmp_path):
    cache = FitCache(tmp_path / "runs")
    assert cache.seed is None
    assert not (tmp_path / "runs").exists()
    assert cache.open({"seed": 3, "data": "x"}) == {}
    (fit,) = made_up({("ce", "uniform", None): [0.1]}).fits
    cache.append("first", fit)
    again = FitCache(tmp_path / "runs")
    assert again.seed == 3
    assert again.open({"seed": 3, "data": "x"}) == {"first": fit}
    with pytest.raises(ValueError, match=r"same study.*data \(x there, y now\)"):
        FitCache(tmp_path / "runs").open({"seed": 3, "data": "y"})


@few_or_many(losses=PAIR)
def test_half_a_line_of_a_crash_is_done_again(small, tmp_path, options):
    study = compare(*small, cache_dir=tmp_path, **options)
    path = tmp_path / "fits.jsonl"
    text = path.read_text()
    path.write_text(text[:-20])
    assert str(compare(*small, cache_dir=tmp_path, **options)) == str(study)
    assert [json.loads(line)[0] for line in path.read_text().splitlines()] == [
        json.loads(line)[0] for line in text.splitlines()
    ]


def test_foreign_and_damaged_folders_are_refused(small, tmp_path):
    estimator = CNN2DClassifier(module=never)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"cache_dir must be a new or empty folder.*foreign"):
        compare(*small, cache_dir=foreign, estimator=estimator)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NotADirectoryError, match=r"cache_dir must be a folder; got .*file"):
        compare(*small, cache_dir=file, estimator=estimator)
    with pytest.raises(NotADirectoryError, match="cache_dir must"):
        compare(*small, cache_dir=file / "runs", estimator=estimator)
    (foreign / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study.json is damaged"):
        compare(*small, cache_dir=foreign, estimator=estimator)


def test_an_unwritable_folder_is_refused(small, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"cache_dir must .*Permission denied"):
        compare(*small, cache_dir=tmp_path / "runs", estimator=CNN2DClassifier(module=never))


@few_or_many(losses=PAIR)
def test_a_damaged_line_is_named(small, tmp_path, options):
    compare(*small, cache_dir=tmp_path, **options)
    path = tmp_path / "fits.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "nonsense", *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"line 2 of .*fits.jsonl is damaged"):
        compare(*small, cache_dir=tmp_path, **options)
