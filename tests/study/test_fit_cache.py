"""A folder of fits that is foreign, damaged or gone. For faults of the drive, see test_sharing."""

import errno
import json
import os
import re
import shutil
import warnings

import numpy as np
import pytest

from skimbal import CNN2DClassifier
from skimbal.exceptions import ParameterError
from skimbal.study.fit_cache import FitCache
from skimbal.study.sealed import read_sealed, seal
from tests.study.data import PAIR, compare, few_or_many, fit_of, never

STUDY = {"seed": 3, "data": "x"}


def opened(folder, keys=("a", "b"), study=STUDY):
    cache = FitCache(folder)
    return cache, cache.open(study, keys)


def filled(folder, keys=("a", "b")):
    cache, _ = opened(folder, keys)
    for key in keys:
        assert cache.write(key, fit_of(key)) == fit_of(key)
    return sorted(folder.glob("fit-*"))


def file_of(folder, key):
    (path,) = [path for path in folder.glob("fit-*") if read_sealed(path)["key"] == key]
    return path


@pytest.fixture
def caught():
    """The texts of warnings."""
    texts = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *args, **kwargs: texts.append(str(message))
        yield texts


def test_folder_keeps_each_fit_at_once(tmp_path):
    folder = tmp_path / "runs"
    cache = FitCache(folder)
    assert cache.seed is None
    assert not folder.exists()
    assert cache.open(STUDY, ["first"]) == {}
    assert cache.read("first") is None
    cache.write("first", fit_of("first"))
    again, done = opened(folder, ["first", "second"])
    assert again.seed == 3
    assert done == {"first": fit_of("first")}
    with pytest.raises(ValueError, match=r"same study.*data \(x there, y now\)"):
        opened(folder, study={"seed": 3, "data": "y"})


def test_a_score_that_is_nan_comes_back(tmp_path):
    fit = fit_of("a")
    fit.scores["log_loss"] = float("nan")
    cache, _ = opened(tmp_path)
    cache.write("a", fit)
    assert np.isnan(opened(tmp_path)[1]["a"].scores["log_loss"])


def test_the_first_of_two_equal_fits_is_kept(tmp_path):
    (file, _) = filled(tmp_path)
    before = file.read_bytes()
    cache, done = opened(tmp_path)
    slower = {key: fit.to_dict() | {"fit_time": 9.0} for key, fit in done.items()}
    for key, fields in slower.items():
        assert cache.write(key, type(done[key])(**fields)) == done[key]
    assert file.read_bytes() == before


def test_seeds_are_agreed_on(tmp_path):
    folder = tmp_path / "new" / "runs"
    assert FitCache(folder).agree_on_seed(5) == 5
    assert FitCache(folder).agree_on_seed(6) == 5
    (folder / "seed.json").write_bytes(b"5")
    assert FitCache(folder).agree_on_seed(7) == 7
    assert FitCache(folder).agree_on_seed(8) == 7
    opened(folder)
    assert FitCache(folder).agree_on_seed(9) == 3  # of the description


# Damage


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def emptied(path):
    path.write_bytes(b"")


def another_digit(path):
    text = path.read_text()
    number = re.search(r'"f1_macro": 0\.\d', text)
    digit = (int(number[0][-1]) + 1) % 10
    path.write_text(text[: number.end() - 1] + str(digit) + text[number.end() :])


def nan_score(path):
    path.write_text(re.sub(r'"f1_macro": [0-9.]+', '"f1_macro": NaN', path.read_text()))


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def latin_1(path):
    path.write_bytes(path.read_bytes().replace(b"uniform", b"unif\xf6rm"))


def nested(path):
    path.write_text("[" * 100_000)


def without_a_key(path):
    fields = read_sealed(path)
    del fields["fit"]["scores"]
    path.write_bytes(seal(fields))


def other_types(path):
    path.write_bytes(seal({"key": read_sealed(path)["key"], "fit": [1]}))


def folder(path):
    path.unlink()
    path.mkdir()
    (path / "thesis.tex").write_text("precious")


def huge(path):
    os.truncate(path, 2**33)


def unreadable(path):
    path.unlink()
    path.symlink_to(path)


def of_another_fit(path):
    path.write_bytes(seal({"key": "of another study", "fit": fit_of("a").to_dict()}))


DAMAGE = [
    *(cut, emptied, another_digit, nan_score, flipped, latin_1, nested, without_a_key),
    *(other_types, folder, huge, unreadable, of_another_fit),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_fit_is_one_warning_and_is_done_again(tmp_path, damage, caught):
    filled(tmp_path)
    path = file_of(tmp_path, "a")
    damage(path)
    cache, done = opened(tmp_path)
    assert done == {"b": fit_of("b")}
    assert cache.read("a") is None
    assert cache.write("a", fit_of("a")) == fit_of("a")
    assert len(caught) == 1
    assert "a file is damaged, and its fit is done again" in caught[0]
    assert str(path) in caught[0]
    assert opened(tmp_path)[1] == {"a": fit_of("a"), "b": fit_of("b")}
    assert len(caught) == 1
    if damage is folder:  # nothing of the user's is removed
        assert [p.read_text() for p in tmp_path.glob("*/thesis.tex")] == ["precious"]


def test_damage_by_the_drive_is_noticed(tmp_path, caught, monkeypatch):
    filled(tmp_path)
    real = os.open

    def refuse(path, flags, *args):
        if "fit-" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *args)

    monkeypatch.setattr(os, "open", refuse)
    assert opened(tmp_path)[1] == {}
    assert len(caught) == 1
    assert re.search(r"2 files are damaged, and their fits are done again: .*Permission", caught[0])


def test_many_damaged_files_are_one_warning(tmp_path, caught):
    keys = [f"{i}" for i in range(9)]
    for path in filled(tmp_path, keys):
        flipped(path)
    assert opened(tmp_path, keys)[1] == {}
    assert len(caught) == 1
    assert re.search(r"9 files are damaged.* and 4 more", caught[0])


def test_a_file_that_is_damaged_later_is_a_warning_as_well(tmp_path, caught):
    filled(tmp_path)
    cache, _ = opened(tmp_path)
    flipped(file_of(tmp_path, "a"))
    assert cache.read("a") is None
    assert cache.read("a") is None
    assert len(caught) == 1


@pytest.mark.parametrize("damage", [cut, emptied, flipped, nested, folder, huge, unreadable])
@pytest.mark.parametrize("n_fits", [0, 2])
def test_a_damaged_description_is_written_again(tmp_path, damage, n_fits, caught):
    keys = ["a", "b"]
    opened(tmp_path)
    filled(tmp_path, keys[:n_fits])
    path = tmp_path / "study.json"
    before = path.read_bytes()
    damage(path)
    if n_fits == 0 and damage not in (cut, emptied, flipped, huge):
        # It may be of another program.
        with pytest.raises(
            ParameterError, match=r"cache_dir must be a folder whose study is known"
        ):
            opened(tmp_path)
        return
    _, done = opened(tmp_path)
    assert done == {key: fit_of(key) for key in keys[:n_fits]}
    assert len(caught) == 1
    assert re.search(r"study.json is damaged \(.*\)\. .*written again\. No fit is lost", caught[0])
    assert path.read_bytes() == before
    opened(tmp_path)
    assert len(caught) == 1


def test_a_missing_description_is_written_again(tmp_path, caught):
    filled(tmp_path)
    (tmp_path / "study.json").unlink()
    assert len(opened(tmp_path)[1]) == 2
    assert len(caught) == 1
    assert "study.json is missing" in caught[0]


@pytest.mark.parametrize("damage", [cut, os.unlink])
def test_fits_of_an_unknown_study_are_refused(tmp_path, damage):
    filled(tmp_path)
    damage(tmp_path / "study.json")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ParameterError, match="its fits are not of the study that these arguments"):
        opened(tmp_path, study={"seed": 4, "data": "x"})
    # Without a seed, the study cannot be described.
    with pytest.raises(ParameterError, match="the random_state of the study is needed"):
        FitCache(tmp_path).agree_on_seed(1)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_fit_under_the_name_of_another_is_noticed(tmp_path, caught):
    filled(tmp_path)
    a, b = (file_of(tmp_path, key) for key in "ab")
    shutil.copy(a, b)
    assert opened(tmp_path)[1] == {"a": fit_of("a")}
    assert "it is the file of another fit" in caught[0]


def test_fits_of_another_study_are_not_seen(tmp_path):
    filled(tmp_path / "one")
    opened(tmp_path / "two", study={"seed": 4, "data": "x"})
    for path in (tmp_path / "one").glob("fit-*"):
        shutil.copy(path, tmp_path / "two")
    assert opened(tmp_path / "two", study={"seed": 4, "data": "x"})[1] == {}


# Folders


def test_foreign_folders_are_refused(small, tmp_path):
    estimator = CNN2DClassifier(module=never)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name, named in (("fits.jsonl", "fits.jsonl"), ("a.tex", "a.tex"), ("study.json", "a.tex")):
        (foreign / name).write_text("precious")
        with pytest.raises(
            ParameterError, match=rf"cache_dir must be a new or empty folder.*foreign.*{named}"
        ):
            compare(*small, cache_dir=foreign, estimator=estimator)
    assert [path.read_text() for path in foreign.iterdir()] == ["precious"] * 3
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "runs"):
        with pytest.raises(NotADirectoryError, match=r"cache_dir must be a folder .*file"):
            compare(*small, cache_dir=folder, estimator=estimator)
    for value in (5, b"runs", "a\0b"):
        with pytest.raises(ParameterError, match="cache_dir must be a folder or None; got"):
            compare(*small, cache_dir=value, estimator=estimator)


def test_files_of_a_process_that_starts_at_the_same_time_are_not_foreign(tmp_path):
    for name in ("skimbal-part-0-1-2-3", "seed.json", "claim-0123456789abcdef.json", ".nfs0001"):
        (tmp_path / name).write_bytes(b"")
    assert opened(tmp_path)[1] == {}


@pytest.mark.parametrize("name", ["mkdir", "listdir", "open"])
def test_an_unwritable_folder_is_refused(small, tmp_path, monkeypatch, name):
    real = getattr(os, name)

    def refuse(path, *args, **kwargs):
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *args, **kwargs)

    folder = tmp_path / "runs"
    if name != "mkdir":
        folder.mkdir()
    monkeypatch.setattr(os, name, refuse)
    with pytest.raises(
        (PermissionError, ParameterError), match=r"cache_dir must .*Permission denied"
    ):
        compare(*small, cache_dir=folder, estimator=CNN2DClassifier(module=never))


@few_or_many(losses=PAIR)
@pytest.mark.parametrize("how", ["deleted", "read-only"])
def test_a_folder_that_goes_away_ends_nothing(small, tmp_path, monkeypatch, how, options):
    expected = str(compare(*small, **options))
    folder, calls = tmp_path / "runs", []

    def scorer(estimator, X, y):
        calls.append(1)
        if len(calls) == 1 and how == "deleted":
            shutil.rmtree(folder)
        if len(calls) == 1 and how == "read-only":
            monkeypatch.setattr(os, "open", refuse)
        return 0.5

    def refuse(path, flags, *args, real=os.open):
        if flags & os.O_CREAT and str(path).startswith(str(folder)):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *args)

    with pytest.warns(UserWarning, match="cache_dir=.*runs' cannot be written") as caught:
        study = compare(*small, cache_dir=folder, scoring=scorer, **options)
    assert len(caught) == 1
    assert caught[0].filename.endswith("data.py")
    assert study.scores("log_loss").keys() == compare(*small, **options).scores("log_loss").keys()
    assert str(compare(*small, **options)) == expected
    assert len(study.fits) == study.n_planned


def test_a_finished_study_is_read_from_a_drive_that_cannot_be_written(small, tmp_path, monkeypatch):
    expected = compare(*small, cache_dir=tmp_path)

    def refuse(path, flags, *args, real=os.open):
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *args)

    monkeypatch.setattr(os, "open", refuse)
    assert compare(*small, cache_dir=tmp_path).fits == expected.fits


@few_or_many(losses=PAIR)
def test_damage_and_its_repair_in_a_study(small, tmp_path, options):
    study = compare(*small, cache_dir=tmp_path, **options)
    first = sorted(tmp_path.glob("fit-*"))[0]
    another_digit_of_a_study(first)
    with pytest.warns(UserWarning, match=f"cache_dir: a file is damaged.*{first.name}") as caught:
        again = compare(*small, cache_dir=tmp_path, **options)
    assert len(caught) == 1
    assert str(again) == str(study)
    assert compare(*small, cache_dir=tmp_path, **options).fits == again.fits


def another_digit_of_a_study(path):
    text = path.read_text()
    at = text.index('"log_loss": ') + 14
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


def test_without_a_seed_processes_of_a_new_folder_have_one(small, tmp_path):
    """The second starts before the first has written its description."""
    first = FitCache(tmp_path)
    seed = first.agree_on_seed(11)
    second = compare(*small, random_state=None, cache_dir=tmp_path)
    assert second.seed == seed == 11
    assert json.loads((tmp_path / "study.json").read_text())["seed"] == 11
