"""Folders of image files with their labels."""

import os
import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import classification_report

from skimbal.datasets import inspect_data, inspect_folder, load_image_folder
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
    assert data.y.dtype.kind == "U"
    assert data.y.tolist() == ["a", "b", "b", "b"]
    assert data.classes.tolist() == data.target_names
    assert data.skipped == {}
    assert np.asarray(data.X)[:, 0, 0].tolist() == [2, 0, 3, 1]
    assert "groups" not in data
    assert (data.ndim, data.name, data.filename) == (2, "set", str(root))
    assert data.card.counts == {"all": [1, 3]}
    assert data.card.image_shape == (4, 4)
    assert str(data.card) in data.DESCR
    assert load_image_folder(root, size=(6, 6), dtype="uint8").X.shape == (4, 6, 6)


@pytest.mark.parametrize("names", [["0", "10", "9"], ["10.0", "2.0"], ["-1", "1", "a", "é"]])
def test_target_names_have_the_order_of_scikit_learn(tmp_path, names):
    root = write_images(tmp_path, [f"{name}/{k}.npy" for k, name in enumerate(names)])
    data = load_image_folder(root)
    assert data.target_names == data.classes.tolist() == np.unique(data.y).tolist()
    # One image of each class, of which the last is taken for the first.
    y_pred = np.where(data.y == data.classes[-1], data.classes[0], data.y)
    report = classification_report(
        data.y, y_pred, target_names=data.target_names, output_dict=True, zero_division=0
    )
    assert [report[name]["recall"] for name in names] == [1.0] * (len(names) - 1) + [0.0]


@pytest.mark.parametrize("names", [["0", "9", "10"], ["2.0", "10.0"]])
def test_cards_count_numbered_classes_by_number(tmp_path, names):
    paths = [f"{name}/{i}.npy" for k, name in enumerate(names) for i in range(k + 1)]
    root = write_images(tmp_path, paths)
    data = load_image_folder(root)
    for card in (data.card, inspect_data(data).card, inspect_folder(root).card):
        assert card.class_names == names
        assert card.counts == {"all": list(range(1, len(names) + 1))}


def test_folders_of_splits(tmp_path):
    names = ["train/a/1.npy", "train/b/2.npy", "test/a/3.npy", "test/b/5.npy", "val/b/4.npy"]
    root = write_images(tmp_path, names)
    with pytest.warns(UserWarning, match="val has no image of the classes 'a' of train"):
        data = load_image_folder(root)
    assert data.target_names == ["a", "b"]
    assert {name: data[f"y_{name}"].tolist() for name in SPLITS} == {
        "train": ["a", "b"],
        "val": ["b"],
        "test": ["a", "b"],
    }
    assert np.asarray(data.X_train)[:, 0, 0].tolist() == [0, 1]
    assert list(data.card.counts.items()) == [("train", [1, 1]), ("val", [0, 1]), ("test", [1, 1])]


def test_tables(tmp_path):
    root = write_images(tmp_path, [f"{i}.npy" for i in range(5)])
    table = write_table(
        root,
        "3.npy,healthy,p1,train",
        f"{root / '1.npy'},ill,p2,test",
        '0.npy,"healthy",p1,train',
        "sub/../2.npy,ill,p3,train",
        "4.npy,healthy,p2,test",
    )
    data = load_image_folder(
        root, labels=table, group_column="patient", split_column="part", channels=1
    )
    assert "X" not in data
    assert np.asarray(data.X_train)[:, 0, 0, 0].tolist() == [3, 0, 2]
    assert np.asarray(data.X_test)[:, 0, 0, 0].tolist() == [1, 4]
    assert data.y_train.tolist() == ["healthy", "healthy", "ill"]
    assert data.groups_train.tolist() == ["p1", "p1", "p3"]
    assert data.card.n_groups == {"train": 2, "test": 1}
    assert data.card.counts == {"train": [2, 1], "test": [1, 1]}
    with pytest.warns(UserWarning, match="the column 'part' of the table holds test, train"):
        data = load_image_folder(root, labels=table, group_column="patient")
    assert data.y.tolist() == ["healthy", "ill", "healthy", "ill", "healthy"]
    assert np.asarray(data.X)[:, 0, 0].tolist() == [3, 1, 0, 2, 4]
    assert data.groups.tolist() == ["p1", "p2", "p1", "p3", "p2"]
    assert data.card.n_groups == {"all": 3}
    plain = load_image_folder(
        root, labels=table, label_column="part", path_column="path", group_column="patient"
    )
    assert plain.target_names == ["test", "train"]


def test_the_parent_of_the_images_with_a_table_beside_them(tmp_path):
    write_images(tmp_path, ["images/1.npy", "images/2.npy"])
    table = write_table(tmp_path, "1.npy,a,p,", "2.npy,b,q,")
    inner = tmp_path / "images"
    with pytest.raises(ValueError, match=re.escape(f"Pass {inner} with labels={str(table)!r}")):
        load_image_folder(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"It is in {inner}, so give this folder")):
        load_image_folder(tmp_path, labels=table)
    assert load_image_folder(inner, labels=table).y.tolist() == ["a", "b"]


def test_table_with_a_mark_of_its_encoding(tmp_path):
    root = write_images(tmp_path, ["a.npy", "b.npy"])
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        (root / "labels.csv").write_text("path,label\na.npy,é\nb.npy,e\n", encoding=encoding)
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
    with pytest.warns(UserWarning, match=rf"skipped 1 file or row.*{name.rstrip('/')}: {message}"):
        data = load_image_folder(root, on_error="skip")
    assert data.y.tolist() == data.target_names == ["a", "b"]
    (place,) = data.skipped
    assert place == str(root / name.rstrip("/"))
    assert data.skipped[place].startswith(message)


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
    assert data.y.tolist() == ["ill", "healthy"]
    assert len(data.skipped) == 1


def test_damaged_images_are_dropped_with_their_labels(tmp_path):
    root = write_images(tmp_path, ["0.npy", "1.npy", "2.npy", "3.npy"])
    (root / "1.npy").write_bytes(b"no array")
    table = write_table(
        root, "0.npy,x,p0,train", "1.npy,y,p1,test", "2.npy,x,p2,test", "3.npy,z,p3,train"
    )
    options = {"labels": table, "group_column": "patient", "split_column": "part"}
    with pytest.raises(ValueError, match=r"cannot read .*1\.npy"):
        load_image_folder(root, **options)
    with (
        pytest.warns(UserWarning, match="skipped 1 of 4 files"),
        pytest.warns(UserWarning, match="test has no image of the classes 'z'"),
    ):
        data = load_image_folder(root, on_error="skip", **options)
    assert data.target_names == ["x", "z"]
    assert (data.y_train.tolist(), data.y_test.tolist()) == (["x", "z"], ["x"])
    assert data.groups_train.tolist() == ["p0", "p3"]
    assert np.asarray(data.X_train)[:, 0, 0].tolist() == [0, 3]
    assert np.asarray(data.X_test)[:, 0, 0].tolist() == [2]
    (place,) = data.skipped
    assert place == str(root / "1.npy")
    assert "1.npy" in data.skipped[place]


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
    table = write_table(root, "a/1.npy,x", "a/../a/1.npy,y", head="path,label")
    with pytest.raises(
        ValueError, match=r"line 2: .*1\.npy is the same file.*line 3.*another label"
    ):
        load_image_folder(root, labels=table)
    table.write_bytes(b"path,label\na,\xff\n")
    with pytest.raises(ParameterError, match=r"^labels.*UTF-8.*labels\.csv"):
        load_image_folder(root, labels=table)
    table.write_text('path,label\n"a,b\n')
    with pytest.raises(ParameterError, match=r"^labels.*UTF-8.*labels\.csv"):
        load_image_folder(root, labels=table)


# ---- folders that look like a split


def tree(*tops, inner=("glioma", "none")):
    return [f"{top}/{name}/{top}.npy" for top in tops for name in inner]


UNDERSTOOD = {
    "Kaggle": (("Training", "Testing"), ("train", "test")),
    "capital": (("Train", "Test"), ("train", "test")),
    "shouting": (("TRAIN", "VAL", "TEST"), SPLITS),
    "valid": (("train", "valid", "test"), SPLITS),
    "validation": (("training", "validation", "testing"), SPLITS),
    "short": (("tr", "va", "te"), SPLITS),
    "dev": (("train", "dev", "test"), SPLITS),
    "sets": (("train_set", "test_set"), ("train", "test")),
    "one word": (("trainset", "ValidationSet", "testset"), SPLITS),
    "images": (("images_train", "images-val"), ("train", "val")),
    "nnU-Net": (("imagesTr", "imagesTs"), ("train", "test")),
    "COCO": (("train2017", "val2017"), ("train", "val")),
    "holdout": (("train", "holdout"), ("train", "test")),
    "Spanish": (("Entrenamiento", "Validación", "Prueba"), SPLITS),
    "Portuguese": (("treino", "validacao", "teste"), SPLITS),
    "German": (("Trainingsdaten", "Testdaten"), ("train", "test")),
    "French": (("apprentissage", "validation", "test"), SPLITS),
    "Chinese": (("训练集", "验证集", "测试集"), SPLITS),
    "Japanese": (("学習", "検証", "テスト"), SPLITS),
    "Korean": (("학습", "검증", "테스트"), SPLITS),
    "Russian": (("обучение", "тест"), ("train", "test")),
    "train alone": (("train",), ("train",)),
}


@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_usual_spellings_of_a_split(kind, tmp_path):
    tops, parts = UNDERSTOOD[kind]
    data = load_image_folder(write_images(tmp_path, tree(*tops)))
    assert data.target_names == ["glioma", "none"]
    assert [key for key in data if key.startswith("X")] == [f"X_{part}" for part in parts]
    for top, part in zip(tops, parts, strict=True):
        assert data[f"y_{part}"].tolist() == ["glioma", "none"]
        assert {os.path.basename(path) for path in data[f"X_{part}"].paths} == {f"{top}.npy"}


def test_splits_below_the_classes(tmp_path):
    names = ["glioma/Training/1.npy", "none/Training/2.npy", "glioma/Testing/p/3.npy"]
    data = load_image_folder(write_images(tmp_path, [*names, "none/Testing/4.npy"]))
    assert data.y_train.tolist() == data.y_test.tolist() == data.target_names
    assert np.asarray(data.X_train)[:, 0, 0].tolist() == [0, 1]
    assert data.target_names == ["glioma", "none"]


REFUSED = {
    "one more folder": (tree("train", "test", "extra"), "'extra'.*'extra': None"),
    "one part twice": (tree("train", "Train", "test"), "'Train', 'train'.*all mean train"),
    "parts in numbers": (tree("train1", "train2", "test"), "'train1', 'train2'.*all mean train"),
    "an unclear part": (tree("train", "eval"), "'train'.*beside 'eval'"),
    "unclear parts": (tree("train_A", "test_A"), "'test_A', 'train_A'.*unknown parts"),
    "slips of the fingers": (tree("trian", "tset"), "'trian', 'tset'.*unknown parts"),
    "folds": (tree("fold1", "fold_2"), "'fold1', 'fold_2'.*unknown parts"),
    "imagesTr beside extra": (tree("imagesTr", "extra"), "'imagesTr'.*beside 'extra'"),
    "train beside bus": (["train/1.npy", "bus/2.npy"], "'train'.*'bus'"),
    "no classes": (["train/1.npy", "test/2.npy"], "folders of classes.*labels="),
    "two folders around": (["x/y/train/a/1.npy", "x/y/test/a/2.npy"], r"Pass .*x/y if it holds"),
    "classes in a folder": (["data/a/1.npy", "data/b/2.npy"], "'data' alone. Pass .*data if it"),
    "a folder around": (["data/train/a/1.npy", "data/test/a/2.npy"], "Pass .*data in place of"),
    "splits of some classes": (["a/train/1.npy", "b/2.npy", "b/x/3.npy"], "'train'|looks? like"),
    "below patients": (["a/p/train/1.npy", "b/p/test/2.npy", "a/p/test/3.npy"], "like a split"),
    "splits within splits": (["train/train/a/1.npy", "test/test/a/2.npy"], "like a split"),
    "classes below sites": (tree("x/train", "y/train"), "'glioma'|'none'"),
    "images and masks": (["images/1.npy", "masks/2.npy"], "kinds of files"),
    "image and gt": (["image/1.npy", "gt/2.npy"], "kinds of files"),
    "masks in a class": (
        ["a/img/1.npy", "a/seg/1.npy", "b/img/2.npy", "b/seg/2.npy"],
        "a must hold images of a class; got 'img', 'seg'",
    ),
    "YOLO": (["images/train/1.npy", "labels/train/2.npy"], "kinds of files"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_trees_that_may_be_splits_are_refused(kind, tmp_path):
    names, words = REFUSED[kind]
    root = write_images(tmp_path, names)
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match=words) as error:
            load_image_folder(root, on_error=on_error)
        assert str(root) in str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        ["test_tube/1.npy", "cup/2.npy"],
        ["TR/1.npy", "MR/2.npy"],
        ["Tr/1.npy", "tr_severe/2.npy"],
        ["detrained/1.npy", "trained/2.npy"],
        ["invalid/1.npy", "good/2.npy"],
        ["a/p1/1.npy", "b/p1/1.npy"],
        ["rain/1.npy", "rest/2.npy"],
        ["benign/train-001.npy", "malignant/test-001.npy"],
        ["a/train-1.npy", "a/test_2.npy", "b/train.3.npy"],
        ["with_mask/with_mask_1.npy", "without_mask/without_mask_1.npy"],
    ],
)
def test_classes_that_are_not_a_split(names, tmp_path):
    data = load_image_folder(write_images(tmp_path, names))
    assert data.target_names == sorted({name.split("/")[0] for name in names})
    assert "X" in data


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("benign (1).npy", "benign (1)_mask.npy"),
        ("benign (1).npy", "benign (1)_mask_1.npy"),
        ("p7.npy", "p7-Segmentation.npy"),
        ("scan.x.npy", "scan.x.seg.npy"),
    ],
)
def test_masks_beside_images_are_no_images(image, mask, tmp_path):
    root = write_images(tmp_path, [f"a/{image}", f"a/{mask}", "b/1.npy", "b/2_mask.npy"])
    with pytest.raises(ValueError, match=re.escape(f"{mask}: a file that is called the mask of")):
        load_image_folder(root)
    with pytest.warns(UserWarning, match="skipped 1 file") as caught:
        data = load_image_folder(root, on_error="skip")
    assert caught[0].filename == __file__
    assert list(data.skipped) == [str(root / "a" / mask)]
    assert data.y.tolist() == ["a", "b", "b"]


def test_groups_on_both_sides_of_a_split_are_told(tmp_path):
    root = write_images(tmp_path, [f"{i}.npy" for i in range(6)])
    rows = [f"{i}.npy,{'ab'[i % 2]},p{i % 4},{'train' if i < 4 else 'test'}" for i in range(6)]
    table = write_table(root, *rows)
    columns = {"labels": table, "group_column": "patient"}
    with pytest.warns(UserWarning, match="2 groups, such as 'p0', are in train and in") as caught:
        load_image_folder(root, split_column="part", **columns)
    assert caught[0].filename == __file__


def test_a_pipe_is_not_waited_for(tmp_path):
    root = write_images(tmp_path, ["a/1.npy", "b/2.npy"])
    os.mkfifo(root / "a" / "pipe")
    with pytest.raises(ValueError, match="pipe: a file that is not an image"):
        load_image_folder(root)


def test_folders_with_the_same_folders_are_told(tmp_path):
    root = write_images(tmp_path, tree("internal", "external"))
    with pytest.warns(UserWarning, match=r"taken for classes, .*'glioma', 'none'.*splits="):
        data = load_image_folder(root)
    assert data.target_names == ["external", "internal"]
    assert load_image_folder(root, splits={}).target_names == ["external", "internal"]


def test_proposals_of_parts(tmp_path):
    root = write_images(tmp_path, tree("chest_train", "chest_test"))
    with pytest.raises(
        ValueError, match=r"splits=\{'chest_test': 'test', 'chest_train': 'train'\}"
    ):
        load_image_folder(root)


def test_a_part_without_an_image(tmp_path):
    root = write_images(tmp_path, tree("train", "test"))
    (root / "val").mkdir()
    with pytest.raises(ValueError, match="val: the folder of a part without an image"):
        load_image_folder(root)


def test_splits_that_the_user_names(tmp_path):
    root = write_images(tmp_path, ["train/1.npy", "bus/2.npy"])
    data = load_image_folder(root, splits={})
    assert (data.target_names, data.y.tolist()) == (["bus", "train"], ["bus", "train"])
    root = write_images(tmp_path / "b", tree("hospital1", "hospital2", "extra"))
    splits = {"hospital1": "train", "hospital2": "test", "extra": None}
    data = load_image_folder(root, splits=splits)
    assert data.y_train.tolist() == data.y_test.tolist() == ["glioma", "none"]
    assert not [path for path in (*data.X_train.paths, *data.X_test.paths) if "extra" in path]
    data = load_image_folder(root, splits=splits | {"hospital2": "train"})
    assert data.y_train.tolist() == ["glioma", "none"] * 2
    with pytest.raises(ParameterError, match=r"^splits must be .*'extra'.*not named"):
        load_image_folder(root, splits={"hospital1": "train", "hospital2": "test"})
    with pytest.raises(ParameterError, match=r"^splits must be .*\['hospital'\]"):
        load_image_folder(root, splits={"hospital": "train", "hospital1": "test"})
    with pytest.raises(ParameterError, match=r"^splits must be .*'training'"):
        load_image_folder(root, splits={"hospital1": "training"})
    root = write_images(tmp_path / "c", tree("x", "y", inner=("one", "two")))
    data = load_image_folder(root, splits={"one": "train", "two": "test"})
    assert data.y_train.tolist() == data.y_test.tolist() == ["x", "y"]


def test_classes_of_the_test_part_are_classes_of_train(tmp_path):
    root = write_images(tmp_path, tree("train", inner="ab") + tree("test", inner="abC"))
    with pytest.raises(ValueError, match=r"classes of test must be .* 'a', 'b'; got 'C' too"):
        load_image_folder(root)


# ---- links, and files of operating systems


def test_links_to_folders_are_followed_once(tmp_path):
    pool = write_images(tmp_path / "pool", ["1.npy", "deep/2.npy"])
    root = write_images(tmp_path / "set", ["b/3.npy"])
    (root / "a").symlink_to(pool)
    (pool / "loop").symlink_to(pool)
    (root / "b" / "up").symlink_to(root)
    data = load_image_folder(root)
    assert data.y.tolist() == ["a", "a", "b"]
    (root / "c").symlink_to(pool / "deep")
    with pytest.raises(ValueError, match=r"2\.npy: the same file as in .*another label"):
        load_image_folder(root)
    with pytest.warns(UserWarning, match="skipped 2 files or rows"):
        data = load_image_folder(root, on_error="skip")
    assert data.y.tolist() == ["a", "b"]
    (root / "c").unlink()
    (root / "c").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="c: a link that leads nowhere"):
        load_image_folder(root)


def test_files_of_operating_systems_are_left_out(tmp_path):
    names = ["a/1.npy", "b c é/2.npy", "__MACOSX/a/._1.npy", "a/.ipynb_checkpoints/1.npy"]
    root = write_images(tmp_path, [*names, "a/@eaDir/1.npy", ".hidden/4.npy"])
    for name in ("a/Thumbs.db", "a/desktop.ini", ".DS_Store", "a/.DS_Store"):
        (root / name).write_bytes(b"0")
    for options in ({}, {"reader": np.load}):
        data = load_image_folder(root, **options)
        assert data.target_names == ["a", "b c é"]
        assert data.y.tolist() == ["a", "b c é"]


def test_classes_that_are_spelt_nearly_alike(tmp_path):
    root = write_images(tmp_path, ["Benign/1.npy", "benign/2.npy", "0/3.npy", "0.0/4.npy"])
    with pytest.warns(UserWarning, match=r"nearly alike.*'0' and '0.0', 'Benign' and 'benign'"):
        data = load_image_folder(root)
    assert len(data.target_names) == 4


# ---- random trees

SPLIT_NAMES = ["train", "Training", "test", "TEST", "val", "valid", "imagesTr", "test_set"]
FOLDERS = st.sampled_from(
    [*SPLIT_NAMES, "a", "b", "c d", "none", "é", "1", "10.0", ".h", "tr", "x"]
)
TREES = st.lists(
    st.tuples(
        st.lists(FOLDERS, min_size=0, max_size=3), st.sampled_from(["1.npy", "2.npy", "n.txt"])
    ),
    min_size=2,
    max_size=8,
)


@given(tree=TREES, on_error=st.sampled_from(["raise", "skip"]))
def test_random_trees_give_labels_of_their_paths_or_an_error(tmp_path_factory, tree, on_error):
    root = tmp_path_factory.mktemp("tree")
    for folders, name in tree:
        path = root.joinpath(*folders, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.zeros((2, 2))) if name.endswith("npy") else path.touch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = load_image_folder(root, on_error=on_error)
        except ValueError as error:
            message = str(error)
            assert str(root) in message
            return
    assert not {name.lower() for name in data.target_names} & {name.lower() for name in SPLIT_NAMES}
    seen = set()
    for key in [key for key in data if key == "X" or key.startswith("X_")]:
        part = key[2:]
        for path, label in zip(data[key].paths, data[f"y_{part}" if part else "y"], strict=True):
            folders = os.path.relpath(path, root).split(os.sep)[:-1]
            seen.add(path)
            assert label in folders[: 2 if part else 1]
            # No folder of a split is passed by.
            assert bool(part) == bool(set(folders) & set(SPLIT_NAMES))
            if part:
                (name,) = {name for name in folders[:2] if name in SPLIT_NAMES} or {"tr"}
                assert name.lower().replace("images", "")[:2] == part[:2]
    visible = [p for p in root.rglob("*.npy") if ".h" not in p.parts]
    skipped = {str(p) for p in visible if any(str(p) == place for place in data.skipped)}
    assert seen | skipped == {str(p) for p in visible}
    assert on_error == "skip" or not data.skipped
