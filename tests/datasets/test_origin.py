from pathlib import Path

import numpy as np
import pytest

import skimbal.datasets
from skimbal.datasets import Origin, load_image_folder, load_imbalanced_digits, load_npz


def again(origin):
    """Load by the code of an origin."""
    return eval(origin.code(), vars(skimbal.datasets).copy())


@pytest.fixture
def npz(tmp_path, rng):
    path = tmp_path / "it's mine.npz"
    X, y = rng.integers(0, 99, (8, 3, 6, 6), dtype=np.uint8), np.array([0, 1] * 4)
    np.savez(path, X=X, y=y, patient=np.arange(8) // 2)
    return path


def test_code_of_a_file_loads_the_same_rows_in_any_folder(npz, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = load_npz(npz.name, groups="patient", n_spatial=3, missing_values=["x"])
    assert data.origin.named == {"groups": "patient", "n_spatial": 3, "missing_values": ["x"]}
    monkeypatch.chdir("/")
    other = again(data.origin)
    assert np.array_equal(other.X, data.X)
    assert np.array_equal(other.groups, data.groups)
    assert other.ndim == 3


def test_code_of_a_folder_has_its_options_and_absolute_paths(tmp_path, monkeypatch, rng):
    for i in range(6):
        image = rng.normal(size=(9, 8 + i % 2)).astype("float32")
        (tmp_path / "images").mkdir(exist_ok=True)
        np.save(tmp_path / "images" / f"{i}.npy", image)
    rows = [f"{i}.npy,{'ab'[i % 2]},p{i // 2}" for i in range(6)]
    Path(tmp_path / "my table.csv").write_text("\n".join(["file,grade,patient", *rows]))
    monkeypatch.chdir(tmp_path)
    data = load_image_folder(
        "images",
        labels="my table.csv",
        path_column="file",
        label_column="grade",
        group_column="patient",
        size=(6, 6),
        dtype=np.float32,
        cache="kept",
        on_error="skip",
        spacing=None,
    )
    assert data.origin.positional == (str(tmp_path / "images"),)
    assert data.origin.named["cache"] == str(tmp_path / "kept")
    assert set(data.origin.named) == {
        "labels",
        "path_column",
        "label_column",
        "group_column",
        "size",
        "dtype",
        "cache",
        "on_error",
    }
    monkeypatch.chdir("/")
    other = again(data.origin)
    assert other.X.paths == data.X.paths
    assert other.X.dtype == np.float32
    assert np.array_equal(np.asarray(other.X), np.asarray(data.X))
    assert np.array_equal(other.groups, data.groups)
    assert max(map(len, data.origin.code().split("\n"))) < 100 + len(str(tmp_path))


def test_digits_that_no_call_draws_again_have_no_origin():
    assert load_imbalanced_digits(random_state=None).origin is None
    assert load_imbalanced_digits(random_state=np.random.RandomState(0)).origin is None
    digits = load_imbalanced_digits(random_state=np.int64(3))
    assert np.array_equal(
        eval(digits.origin.code(), {"np": np, **vars(skimbal.datasets)}).y_test, digits.y_test
    )


def test_lines_are_short_where_they_can_be():
    origin = Origin("load_npz", ("/data/" + "x" * 70 + ".npz",), {"groups": "p", "n_spatial": 3})
    assert origin.code().split("\n")[1:] == [
        f"    '/data/{'x' * 70}.npz',",
        "    groups='p',",
        "    n_spatial=3,",
        ")",
    ]
