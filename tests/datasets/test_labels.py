"""Names of classes and groups: missing values, near duplicates, order."""

import warnings

import numpy as np
import pytest

from skimbal.datasets import inspect_data, inspect_folder, load_image_folder, load_npz
from skimbal.datasets.labels import Missing, near_duplicates, sorted_names
from skimbal.exceptions import ParameterError
from tests.datasets.test_folder import write_images

ALIKE = [
    ("0", "0.0", "00"),
    ("1", "1,0"),
    ("1", "1,000"),
    ("1000", "1,000"),
    ("1000", "1.000"),
    ("1000", "1 000"),
    ("1,5", "1.5"),
    ("-1", "\u22121"),
    ("1", "\uff11"),
    ("1", "1e0"),
    ("grade 1", "grade_1"),
    ("grade 1", "grade1"),
    ("grade 1", "Grade-1"),
    ("grade 1", "grade 01"),
    ("grade 1", "grade 1.0"),
    ("benign", "benign "),
    ("benign", "Benign."),
    ("benign", "b\u0435nign"),
    ("be\u0301nign", "b\u00e9nign"),
    ("non-small", "non\u2013small"),
    ("a\u00a0b", "a b"),
    ("p\u200b1", "p1"),
    ("stra\u00dfe", "STRASSE"),
    ("patient's", "patient\u2019s"),
    ("p001", "p1"),
]
DIFFERENT = [
    ("p1 1", "p11"),
    ("HER2+", "HER2-"),
    ("A+", "A"),
    ("10", "100"),
    ("e", "\u00e9"),
    ("1.5", "15"),
    ("900000000000207008", "900000000000207009"),
    ("1e999999999", "1"),
    ("grade 1.5", "grade 15"),
]


@pytest.mark.parametrize("names", ALIKE, ids=ascii)
def test_near_duplicates(names):
    (note,) = near_duplicates([*names, "other"], "classes")
    assert all(ascii(name) in note for name in names)
    assert "other" not in note


@pytest.mark.parametrize("names", DIFFERENT, ids=ascii)
def test_names_that_differ(names):
    assert near_duplicates(names, "classes") == []


DOUBTFUL = ["-", "---", "?", "??", "*", "\u2013", "unknown", "UNKNOWN", "Unk", "not_available"]
DOUBTFUL += ["n.d.", "unlabeled", "blank", "NA", "nan", "\uff1f", "NaN\u200b", "#N/A", "missing"]

DOUBTFUL += ["N.A", "na.", "n\\a", "k.A.", "missing/NA", "NA NA", "not recorded", "inf"]
DOUBTFUL += ["-nan(ind)", "fehlend", "\u4e0d\u660e", "void", "not assessed", "pending"]


@pytest.mark.parametrize("text", ["no", "n", "a", "k", "not", "N1", "Na+", "none", "NAD", "nana"])
def test_names_that_are_only_like_a_missing_value(text):
    assert Missing(None).doubts([text, "yes"], "classes") == []


@pytest.mark.parametrize("text", DOUBTFUL, ids=ascii)
def test_names_that_may_stand_for_a_missing_value(text):
    (note,) = Missing(None).doubts(["a", text, "b"], "classes")
    assert ascii(text) in note
    assert "'a'" not in note
    assert Missing([]).doubts(["a", text], "classes") == []


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["0", "1", "-1"], ["-1"]),
        (["0", "1", "-9"], ["-9"]),
        (["0", "1", "2", "99"], ["99"]),
        (["0", "1", "999"], ["999"]),
        (["0", "1", "-999.0"], ["-999.0"]),
        (["0", "1", "2", "77"], ["77"]),
        (["0", "1", "88.0"], ["88.0"]),
        (["p1", "p2", "-1"], ["-1"]),
        (["p1", "p2", "0"], ["0"]),
        (["p1", "p2", "999"], ["999"]),
        (["p1", "p2", "1"], []),
        (["0a", "0b", "0"], []),
        (["1", "2a", "2b"], []),
        (["-1", "1"], []),
        (["0", "1", "9"], []),
        (["97", "98", "99"], []),
        (["-2", "-1", "0"], []),
        (["0", "1", "1e999999999"], []),
        (["none", "a"], []),
        (["negative", "b+", "(a)"], []),
    ],
)
def test_codes_of_missing_values(names, found):
    notes = Missing(None).doubts(names, "classes")
    assert [name for name in names if any(ascii(name) in note for note in notes)] == found


@pytest.mark.parametrize("text", ["\uff2e\uff21", "\u200bNA", "n/A ", "#n/a", "\u00a0"])
def test_missing_values_in_any_form(text):
    assert text in Missing(None)


def test_numbers_in_names_are_in_order():
    assert sorted_names(["10", "2", "1,5"]) == ["1,5", "2", "10"]
    assert sorted_names(["grade 10", "grade 2", "a"]) == ["a", "grade 2", "grade 10"]
    assert sorted_names(["10", "2", "x", "9" * 5000]) == ["2", "10", "9" * 5000, "x"]


def test_folder_with_a_doubtful_name(tmp_path):
    root = write_images(tmp_path, ["a/1.npy", "b/2.npy", "unknown/3.npy"])
    with pytest.warns(UserWarning, match=r"classes may stand for a missing value.*'unknown'"):
        load_image_folder(root)
    (doubt,) = [f for f in inspect_folder(root).warnings if "missing value" in f.text]
    assert "'unknown'" in doubt.text
    for stated, names in (([], ["a", "b", "unknown"]), (["Unknown"], ["a", "b"])):
        with warnings.catch_warnings():
            warnings.simplefilter("error" if not stated else "ignore")
            data = load_image_folder(root, missing_values=stated, on_error="skip")
        assert data.target_names == names
        inspection = inspect_folder(root, missing_values=stated, on_error="skip")
        assert not any("may stand" in finding.text for finding in inspection.warnings)
    with pytest.raises(ValueError, match=r"3\.npy: an image without a label, as 'unknown'"):
        load_image_folder(root, missing_values=["unknown"])
    with pytest.raises(ParameterError, match="missing_values must be None or a collection"):
        load_image_folder(root, missing_values="unknown")


def test_table_with_doubtful_names(tmp_path):
    root = write_images(tmp_path, ["a.npy", "b.npy", "c.npy"])
    (root / "t.csv").write_text("path,label,patient\na.npy,x,p1\nb.npy,y,-\nc.npy,-,-\n")
    table = {"labels": root / "t.csv", "group_column": "patient"}
    with (
        pytest.warns(UserWarning, match=r"these classes may stand for a missing value.*'-'"),
        pytest.warns(UserWarning, match=r"these groups may stand for a missing value.*'-'"),
    ):
        load_image_folder(root, **table)
    texts = [finding.text for finding in inspect_folder(root, **table).warnings]
    assert sum("may stand for a missing value" in text for text in texts) == 2


def test_npz_with_doubtful_labels(tmp_path):
    X = np.random.default_rng(0).integers(0, 255, (6, 8, 8), dtype=np.uint8)
    for y in (np.array([0, 1, -9] * 2), np.array(["a", "b", "unknown"] * 2)):
        np.savez(tmp_path / "a.npz", X=X, y=y)
        name = str(y[2])
        with pytest.warns(UserWarning, match=rf"may stand for a missing value.*'{name}'"):
            data = load_npz(tmp_path / "a.npz")
        assert any(f"'{name}'" in finding.text for finding in inspect_data(data).warnings)
        data = load_npz(tmp_path / "a.npz", missing_values=[])
        assert inspect_data(data).warnings == []
