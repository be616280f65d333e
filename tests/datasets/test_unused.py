"""Columns and arrays that look like groups and are not used."""

import warnings

import numpy as np
import pytest

from skimbal.datasets import load_image_folder, load_npz
from skimbal.datasets.unused import looks_like_groups, unused_groups

N = 24
PAIRS = [f"p{i // 2:02}" for i in range(N)]


@pytest.mark.parametrize(
    "name", ["patient", "patient_id", "PatientID", "patientid", "subject", "case", "ID"]
)
def test_names_of_patients(name):
    assert looks_like_groups(name)
    assert unused_groups({name: PAIRS, "other": PAIRS}) == [name]


@pytest.mark.parametrize("name", ["label", "path", "casein", "grade", "side"])
def test_other_names(name):
    assert not looks_like_groups(name)


def test_values_that_repeat_as_patients_do_are_told_under_any_name():
    assert unused_groups({"code": PAIRS}) == ["code"]
    assert unused_groups({"code": [2000 + i // 2 for i in range(N)]}) == ["code"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("patient", [f"p{i}" for i in range(N)]),  # one image each
        ("patient", ["p"] * N),
        ("side", ["left", "right"] * (N // 2)),
        ("age", [40 + i // 2 for i in range(N)]),
        ("dose", [f"{i // 2}.5" for i in range(N)]),
        ("nx", [30 + i // 2 for i in range(N)]),
    ],
)
def test_columns_that_are_no_groups(name, values):
    assert unused_groups({name: values}) == []


@pytest.fixture
def folder(tmp_path):
    """A folder with a table that has patients and a split."""
    rows = ["path,label,patient,phase"]
    for i, patient in enumerate(PAIRS):
        np.save(tmp_path / f"{i}.npy", np.eye(8) * i)
        part = "train" if i < N // 2 else "test"
        rows.append(f"{i}.npy,{'ab'[i % 2]},{patient},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def test_the_column_of_a_table_is_named_with_its_parameter(folder):
    table = folder / "labels.csv"
    with pytest.warns(UserWarning, match=r"column 'patient' is not used.*group_column='patient'"):
        data = load_image_folder(folder, labels=table, split_column="phase")
    assert data.unused_groups == ["patient"]
    with pytest.warns(UserWarning, match=r"column 'phase' of the table.*split_column='phase'"):
        load_image_folder(folder, labels=table, group_column="patient")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image_folder(folder, labels=table, group_column="patient", split_column="phase")


@pytest.mark.parametrize(
    "names",
    [("X", "y", "patient"), ("train_images", "train_labels", "train_patient")],
)
@pytest.mark.parametrize("dtype", [str, object])
def test_the_array_of_a_file_is_named_with_its_parameter(tmp_path, names, dtype):
    arrays = zip(
        names, (np.zeros((N, 8, 8)), np.arange(N) % 2, np.array(PAIRS, dtype)), strict=True
    )
    path = tmp_path / "my.npz"
    np.savez(path, **dict(arrays))
    with pytest.warns(UserWarning, match=r"array 'patient' is not used.*groups='patient'"):
        data = load_npz(path)
    assert data.unused_groups == ["patient"]
