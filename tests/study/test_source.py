import pickle

import numpy as np
import pytest

from skimbal.datasets import load_image_folder, load_imbalanced_digits, load_npz
from skimbal.exceptions import ParameterError
from skimbal.images import concatenate
from skimbal.study.code import confirm_in_words
from skimbal.study.plan import check_data
from skimbal.study.source import find_source
from tests.study.data import compare


def named(data, y):
    return np.array(data.target_names)[y]


def unseen(source):
    return [(part.name, part.n_rows) for part in source.unseen]


def find(bunch, *rows, **more):
    return find_source(bunch, check_data(*rows, **more))


def test_parts_are_found_by_their_rows(digits):
    source = find(digits, digits.X_train, digits.y_train)
    assert (source.parts, unseen(source)) == (("train",), [("test", 216), ("val", 130)])
    assert not source.has_names
    X = np.concatenate([digits.X_train, digits.X_val])
    y = np.concatenate([digits.y_train, digits.y_val])
    source = find(digits, X, named(digits, y))
    assert (source.parts, unseen(source)) == (("train", "val"), [("test", 216)])
    assert source.has_names
    assert pickle.loads(pickle.dumps(source)) == source


def test_a_test_set_that_chose_is_not_unseen(digits):
    rows = {"X_test": digits.X_test, "y_test": digits.y_test}
    source = find(digits, digits.X_train, digits.y_train, **rows)
    assert (source.parts, unseen(source)) == (("train",), [("val", 130)])


def test_other_rows_are_refused(digits):
    changed = digits.X_train.copy()
    changed[7, 3, 3] += 1
    cases = [
        (digits.X_train / 16, digits.y_train),
        (changed, digits.y_train),
        (digits.X_train[::-1], digits.y_train[::-1]),
        (digits.X_train[:-1], digits.y_train[:-1]),
        (digits.X_train, np.where(np.arange(518) == 4, 1, digits.y_train)),
    ]
    for rows in cases:
        with pytest.raises(ParameterError, match="without these rows of X, y"):
            find(digits, *rows)
    with pytest.raises(ParameterError, match="these rows of X_test, y_test"):
        find(
            digits, digits.X_train, digits.y_train, X_test=changed[:99], y_test=digits.y_train[:99]
        )
    with pytest.raises(ParameterError, match="source must be the data set"):
        find({"X": 1}, digits.X_train, digits.y_train)


def test_data_without_an_origin_have_no_source():
    digits = load_imbalanced_digits(random_state=None)
    assert find(digits, digits.X_train, digits.y_train) is None


@pytest.fixture
def folder(tmp_path, rng):
    for i in range(24):
        folder = tmp_path / ["train", "val", "test"][i // 8] / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{i}.npy", rng.integers(0, 99, (6, 6), dtype=np.uint8))
    return tmp_path


def test_files_count_by_their_paths_and_options(folder):
    data = load_image_folder(folder)
    X = concatenate([data.X_train, data.X_val])
    source = find(data, X, np.concatenate([data.y_train, data.y_val]))
    assert (source.parts, unseen(source), source.has_files) == (
        ("train", "val"),
        [("test", 8)],
        True,
    )
    with pytest.raises(ParameterError, match="source must"):
        find(load_image_folder(folder, size=4), data.X_train, data.y_train)
    with pytest.raises(ParameterError, match="source must"):
        find(data, np.asarray(data.X_train), data.y_train)


def test_bare_files_know_their_options(folder):
    data = load_image_folder(folder, size=4)
    source = find(None, data.X_train, data.y_train)
    assert source.parts == source.unseen == ()
    assert source.origin.code() == "ImageFiles(size=4)"
    assert find(None, np.asarray(data.X_train), data.y_train) is None


def test_a_study_refuses_a_source_before_any_fit(digits, small):
    with pytest.raises(ParameterError, match="source must"):
        compare(*small, source=digits)


def test_groups_of_the_data_set_are_told_from_others(folder, tmp_path_factory):
    rows = [f"{split}/{c}/{i}.npy,{c},{split},p{i // 2}" for i, split, c in listed()]
    table = tmp_path_factory.mktemp("table") / "table.csv"
    table.write_text("\n".join(["path,label,split,patient", *rows]))
    data = load_image_folder(folder, labels=table, group_column="patient", split_column="split")
    ours = find(data, data.X_train, data.y_train, data.groups_train)
    assert ours.has_groups
    assert [part.has_groups for part in ours.unseen] == [True, True]
    assert [part.has_mixed_groups for part in ours.unseen] == [True, True]
    assert not find(data, data.X_train, data.y_train, np.arange(8)).has_groups
    assert not find(data, data.X_train, data.y_train).has_groups


def listed():
    return [(i, ["train", "val", "test"][i // 8], "ab"[i % 2]) for i in range(24)]


def test_groups_of_unseen_rows_that_the_study_has_seen_are_counted(tmp_path, rng):
    arrays = {}
    for part, groups in (("train", "aabbccdd"), ("test", "ddcceeff")):
        arrays[f"{part}_images"] = rng.integers(0, 99, (8, 6, 6), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.repeat([0, 1, 0, 1], 2)
        arrays[f"{part}_who"] = np.array(list(groups))
    np.savez(tmp_path / "my.npz", **arrays)
    data = load_npz(tmp_path / "my.npz", groups="who")
    study = compare(data.X_train, data.y_train, source=data, check_copies=False)
    assert study.source.unseen[0].n_shared == 2
    words = confirm_in_words(study)
    assert words.startswith(
        "Warning: 2 groups of the 8 test rows of the data have rows in the study"
    )
    assert study.code("ce", "uniform").startswith(f"# {words}\n")
