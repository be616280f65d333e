"""Folders of image files with their labels."""

import re

import numpy as np
import pytest

from skimbal.datasets import load_image_folder
from skimbal.exceptions import ParameterError
from skimbal.images import ImageFiles
from tests.datasets.data import SPLITS


def write_images(root, names, value=None):
    """Write an image for each name, which holds its place in the list."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, np.full((4, 4), i, dtype=np.uint8))
    return root


def write_table(root, *lines, head="path,label,patient,part"):
    table = root / "labels.csv"
    table.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return table


def test_folders_of_classes(tmp_path):
    names = ["b/1.npy", "b/deep/2.npy", "a/3.npy", "b/4.npy"]
    root = write_images(tmp_path / "set", names)
    (root / "README.txt").write_text("notes beside the classes")
    data = load_image_folder(root)
    assert isinstance(data.X, ImageFiles)
    assert data.target_names == ["a", "b"]
    assert data.y.dtype == np.int64
    assert data.y.tolist() == [0, 1, 1, 1]
    assert np.asarray(data.X)[:, 0, 0].tolist() == [2, 0, 3, 1]
    assert "groups" not in data
    assert (data.ndim, data.name, data.filename) == (2, "set", str(root))
    assert data.card.counts == {"all": [1, 3]}
    assert data.card.image_shape == (4, 4)
    assert str(data.card) in data.DESCR
    assert load_image_folder(root, size=(6, 6), dtype="uint8").X.shape == (4, 6, 6)


def test_numbered_classes_are_in_order_of_their_numbers(tmp_path):
    root = write_images(tmp_path, ["10/a.npy", "9/b.npy", "0/c.npy"])
    assert load_image_folder(root).target_names == ["0", "9", "10"]


def test_folders_of_splits(tmp_path):
    names = ["train/a/1.npy", "train/b/2.npy", "test/a/3.npy", "val/b/4.npy"]
    data = load_image_folder(write_images(tmp_path, names))
    assert data.target_names == ["a", "b"]
    assert {name: data[f"y_{name}"].tolist() for name in SPLITS} == {
        "train": [0, 1],
        "val": [1],
        "test": [0],
    }
    assert np.asarray(data.X_train)[:, 0, 0].tolist() == [0, 1]
    assert data.card.counts == {"train": [1, 1], "val": [0, 1], "test": [1, 0]}
    # Classes that happen to be named alike are classes.
    data = load_image_folder(write_images(tmp_path / "c", ["train/1.npy", "bus/2.npy"]))
    assert data.target_names == ["bus", "train"]
    assert "X" in data


def test_tables(tmp_path):
    root = write_images(tmp_path, [f"{i}.npy" for i in range(5)])
    table = write_table(
        root,
        "3.npy,healthy,p1,train",
        f"{root / '1.npy'},ill,p2,test",
        '0.npy,"healthy",p1,train',
        "sub/../2.npy,ill,p3,train",
        "4.npy,ill,p2,test",
    )
    data = load_image_folder(
        root, labels=table, group_column="patient", split_column="part", channels=1
    )
    assert "X" not in data
    assert np.asarray(data.X_train)[:, 0, 0, 0].tolist() == [3, 0, 2]
    assert np.asarray(data.X_test)[:, 0, 0, 0].tolist() == [1, 4]
    assert data.y_train.tolist() == [0, 0, 1]
    assert data.groups_train.tolist() == ["p1", "p1", "p3"]
    assert data.card.n_groups == {"train": 2, "test": 1}
    assert data.card.counts == {"train": [2, 1], "test": [0, 2]}
    data = load_image_folder(root, labels=table, group_column="patient")
    assert data.y.tolist() == [0, 1, 0, 1, 1]
    assert np.asarray(data.X)[:, 0, 0].tolist() == [3, 1, 0, 2, 4]
    assert data.groups.tolist() == ["p1", "p2", "p1", "p3", "p2"]
    assert data.card.n_groups == {"all": 3}
    plain = load_image_folder(root, labels=table, label_column="part", path_column="path")
    assert plain.target_names == ["test", "train"]


def test_table_with_a_mark_of_its_encoding(tmp_path):
    root = write_images(tmp_path, ["a.npy", "b.npy"])
    (root / "labels.csv").write_text("path,label\na.npy,é\nb.npy,e\n", encoding="utf-8-sig")
    assert load_image_folder(root, labels=root / "labels.csv").target_names == ["e", "é"]


def test_own_reader_of_folders(tmp_path):
    root = write_images(tmp_path, ["a/1.npy", "b/2.npy"])
    for name in ("a/3.own", "b/4.own"):
        (root / name).write_text("7")
    data = load_image_folder(root, reader=lambda path: np.full((2, 2), path.endswith("own")))
    assert np.asarray(data.X)[:, 0, 0].tolist() == [False, True, False, True]


FOLDER_MISTAKES = {
    "an image beside the classes": ("5.npy", "an image without a label"),
    "no image": ("a/notes.txt", "a file that is not an image, by its extension"),
    "an empty class": ("c/", "the folder of a class without an image"),
}


@pytest.mark.parametrize("mistake", FOLDER_MISTAKES)
def test_mistakes_in_folders(mistake, tmp_path):
    name, message = FOLDER_MISTAKES[mistake]
    root = write_images(tmp_path, ["a/1.npy", "b/2.npy"])
    if name.endswith(".npy"):
        write_images(root, [name])
    elif name.endswith("/"):
        (root / name).mkdir()
    else:
        (root / name).touch()
    with pytest.raises(ValueError, match=rf"{name.rstrip('/')}: {message}.*In all 1 such"):
        load_image_folder(root)
    with pytest.warns(
        UserWarning, match=rf"skipped 1 files or rows.*{name.rstrip('/')}: {message}"
    ):
        data = load_image_folder(root, on_error="skip")
    assert data.y.tolist() == [0, 1]
    assert data.target_names == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c.npy,ill", "line 4: a label without an image, as .*c.npy does not exist"),
        ("a2.npy,", "line 4: the column 'label' is empty"),
        (",ill", "line 4: the column 'path' is empty"),
        (None, "a2.npy: an image without a label, as .*labels.csv does not list it"),
    ],
)
def test_mistakes_in_tables(line, message, tmp_path):
    root = write_images(
        tmp_path, ["a.npy", "b.npy", "a2.npy"][: 3 if line in (None, "a2.npy,") else 2]
    )
    table = write_table(
        root, "a.npy,ill", "b.npy,healthy", *([line] if line else []), head="path,label"
    )
    with pytest.raises(ValueError, match=message):
        load_image_folder(root, labels=table)
    with pytest.warns(UserWarning, match=message):
        data = load_image_folder(root, labels=table, on_error="skip")
    assert data.y.tolist() == [1, 0]


def test_damaged_images_are_dropped_with_their_labels(tmp_path):
    root = write_images(tmp_path, ["0.npy", "1.npy", "2.npy", "3.npy"])
    (root / "1.npy").write_bytes(b"no array")
    table = write_table(
        root, "0.npy,x,p0,train", "1.npy,y,p1,test", "2.npy,z,p2,test", "3.npy,x,p3,train"
    )
    options = {"labels": table, "group_column": "patient", "split_column": "part"}
    with pytest.raises(ValueError, match=r"cannot read .*1\.npy"):
        load_image_folder(root, **options)
    with pytest.warns(UserWarning, match="skipped 1 of 4 files"):
        data = load_image_folder(root, on_error="skip", **options)
    assert data.target_names == ["x", "z"]
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([0, 0], [1])
    assert data.groups_train.tolist() == ["p0", "p3"]
    assert np.asarray(data.X_train)[:, 0, 0].tolist() == [0, 3]
    assert np.asarray(data.X_test)[:, 0, 0].tolist() == [2]


def test_folders_and_tables_that_cannot_be_used(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^root must be .*nowhere"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))} .*got none"):
        load_image_folder(tmp_path)
    root = write_images(tmp_path / "one", ["a/1.npy"])
    with pytest.raises(ValueError, match=r"two classes.*'a'"):
        load_image_folder(root)
    with pytest.raises(ParameterError, match=r"^on_error.*'warn'"):
        load_image_folder(root, on_error="warn")
    with pytest.raises(ParameterError, match=r"^group_column.*None.*'patient'"):
        load_image_folder(root, group_column="patient")
    with pytest.raises(FileNotFoundError, match=r"^labels must be .*nowhere\.csv"):
        load_image_folder(root, labels=root / "nowhere.csv")
    table = write_table(root, "a/1.npy,x")
    with pytest.raises(ParameterError, match=r"^path_column.*'path', 'label'.*'file'"):
        load_image_folder(root, labels=table, path_column="file")
    table = write_table(root, "a/1.npy,x", "a/../a/1.npy,y")
    with pytest.raises(ValueError, match=r"one row for each image.*1\.npy"):
        load_image_folder(root, labels=table)
    table.write_bytes(b"path,label\na,\xff\n")
    with pytest.raises(ParameterError, match=r"^labels.*UTF-8.*labels\.csv"):
        load_image_folder(root, labels=table)
    table.write_text('path,label\n"a,b\n')
    with pytest.raises(ParameterError, match=r"^labels.*UTF-8.*labels\.csv"):
        load_image_folder(root, labels=table)
