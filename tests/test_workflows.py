"""What the guide describes, from the images that come with the package to a score.

The examples of the gallery do more of the same, and are run by the build of the documentation.
"""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.callbacks import EarlyStopping, EpochScoring

import skimbal
from skimbal import CNN3DClassifier, LossMix, NDSampler
from skimbal.__main__ import main
from skimbal.augmentation import RandomGamma
from skimbal.datasets import load_image_folder, load_imbalanced_digits
from skimbal.evaluation import evaluate
from skimbal.images import ImageArray
from skimbal.study import compare_losses
from tests.plain import plain

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data():
    return load_imbalanced_digits()


def test_moving_statistics_of_small_batches(data):
    loss = LossMix(ce=1, mcc=1, statistics="moving")
    clf = plain(loss=loss, batch_size=4, max_epochs=2).fit(data.X_train, data.y_train)
    epoch = clf.history_[-1]
    assert 0 < epoch["incomplete_batch_count"] < epoch["train_batch_count"]


def test_study(data):
    study = compare_losses(
        data.X_train,
        data.y_train,
        losses=["ce", "wce", "ce+mcc"],
        samplers=["uniform", "balanced"],
        estimator=plain(max_epochs=5),
        cv=3,
        random_state=0,
    )
    assert str(study).startswith("balanced accuracy of 6 configurations: stratified 3-fold")
    assert "balanced sampling, against ce: " in str(study)


def test_augmentation(data):
    augment = ["flip", RandomGamma()]
    clf = plain(augment=augment, crop_size=7, n_tta=4, random_state=0)
    clf.set_params(max_epochs=2).fit(data.X_train, data.y_train)
    assert clf.predict_proba(data.X_test).shape == (216, 3)


def test_search_over_a_factor(data):
    search = GridSearchCV(
        plain(loss=LossMix(ce=1, mcc=1), max_epochs=10, random_state=0),
        {"loss__mcc": [0, 0.5, 1]},
        scoring="balanced_accuracy",
        cv=3,
    )
    search.fit(data.X_train, data.y_train)
    assert search.best_params_["loss__mcc"] in (0, 0.5, 1)
    assert search.best_score_ > 0.7


def test_smote_of_rows(data):
    rows = data.X_train.reshape(len(data.X_train), -1).astype("float32")
    clf = plain(input_shape=(8, 8), max_epochs=10, random_state=0)
    pipeline = make_pipeline(SMOTE(random_state=0), clf).fit(rows, data.y_train)
    assert pipeline.predict(data.X_test.reshape(len(data.X_test), -1)).shape == (216,)


def test_smote_of_images(data):
    clf = plain(max_epochs=10, random_state=0)
    pipeline = make_pipeline(NDSampler(SMOTE(random_state=0)), clf)
    assert pipeline.fit(data.X_train, data.y_train).score(data.X_test, data.y_test) > 0.8


def test_features(data):
    cnn = plain(max_epochs=10, random_state=0)
    pipeline = make_pipeline(cnn, PCA(16), LogisticRegression())
    pipeline.fit(data.X_train, data.y_train)
    assert pipeline[0].transform(data.X_test).shape == (216, 384)
    assert pipeline.score(data.X_test, data.y_test) > 0.8


def test_callbacks_and_options_of_the_net(data):
    clf = plain(
        train_split=0.2,
        callbacks=[
            ("score", EpochScoring("balanced_accuracy", lower_is_better=False)),
            ("stop", EarlyStopping(monitor="balanced_accuracy", lower_is_better=False, patience=5)),
        ],
        random_state=0,
    ).set_params(net__optimizer__weight_decay=1e-4, net__callbacks__stop__patience=8)
    clf.fit(data.X_train, data.y_train)
    assert clf.n_epochs_ <= 30
    assert clf.history_[-1]["balanced_accuracy"] > 0.3


def test_a_larger_network_on_any_device(data):
    clf = plain(module="resnet18", device="auto", max_epochs=1, random_state=0)
    clf.set_params(net__module__width=16).fit(data.X_train, data.y_train)
    assert clf.predict_proba(data.X_test).shape == (216, 3)


def test_folder_of_files(data, tmp_path):
    for i, (image, label) in enumerate(zip(data.X_train, data.y_train, strict=True)):
        (tmp_path / "scans" / str(label)).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "scans" / str(label) / f"{i}.npy", image)
    scans = load_image_folder(tmp_path / "scans")
    plain(max_epochs=2, random_state=0).fit(scans.X, scans.y)
    assert str(scans.card).startswith("images of shape (8, 8), uint8\n")


def test_array_on_a_disk(data, tmp_path):
    np.save(tmp_path / "images.npy", data.X_train)
    X = ImageArray(np.load(tmp_path / "images.npy", mmap_mode="r"))
    clf = plain(max_epochs=2, random_state=0)
    assert cross_val_score(clf, X, data.y_train, cv=2).shape == (2,)


def run(folder, *argv):
    """Run the command line in another process, in a working directory of its own."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "skimbal", *map(str, argv)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_predictions(path, classes):
    """Return the file names, decisions and probabilities of a table of predictions."""
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["file", "decision", "error", *classes]
    assert not any(row["error"] for row in rows)
    proba = np.array([[float(row[name]) for name in classes] for row in rows])
    return [row["file"] for row in rows], [row["decision"] for row in rows], proba


def test_volumes_from_nifti_files_to_predictions(data_dir, tmp_path):
    root = data_dir / "nifti_hippocampus"
    with (root / "labels.csv").open(newline="") as stream:
        listed = sorted(csv.DictReader(stream), key=lambda row: row["low_volume_15pct"])
    table = tmp_path / "table.csv"
    lines = [
        f"{row['file']},{['usual', 'small'][int(row['low_volume_15pct'])]},"
        f"p{i // 2},{'test' if i // 2 % 3 == 0 else 'train'}"
        for i, row in enumerate(listed)
    ]
    table.write_text("\n".join(["path,label,patient,part", *lines]))
    data = load_image_folder(
        root / "images",
        labels=table,
        group_column="patient",
        split_column="part",
        size=(16, 24, 16),
        intensity="percentiles",
        cache="memory",
    )
    clf = plain(CNN3DClassifier, loss="ce", sampler="balanced", max_epochs=2, random_state=0)
    clf.fit(data.X_train, data.y_train)
    result = evaluate(clf, data.X_test, data.y_test, groups=data.groups_test, random_state=0)
    assert (len(result.images.y_true), len(result.patients.y_true)) == (40, 20)
    clf.save(tmp_path / "model.skimbal", scores={"balanced accuracy": 0.5})

    new = tmp_path / "next month"
    new.mkdir()
    for path in data.X_test.paths[:7]:
        shutil.copy(path, new)
    elsewhere = tmp_path / "another folder"
    run(elsewhere, "predict", tmp_path / "model.skimbal", new, "--output", "predictions.csv")
    files, decisions, proba = read_predictions(elsewhere / "predictions.csv", ["small", "usual"])
    assert files == sorted(Path(path).name for path in data.X_test.paths[:7])
    expected = skimbal.load(tmp_path / "model.skimbal").predict_proba([new / f for f in files])
    np.testing.assert_allclose(proba, expected, atol=1e-6)
    order = [[Path(path).name for path in data.X_test.paths].index(name) for name in files]
    np.testing.assert_allclose(proba, clf.predict_proba(data.X_test[order]), atol=1e-5)
    assert decisions == clf.classes_[proba.argmax(1)].tolist()


def test_pictures_from_png_files_to_predictions(data_dir, tmp_path, rng, monkeypatch, capsys):
    file = np.load(data_dir / "pneumoniamnist" / "pneumoniamnist_imb9to1_varun19424.npz")
    lines = ["path,label,patient,part"]
    (tmp_path / "scans").mkdir()
    for part, n in (("train", 200), ("test", 80)):
        rows = rng.permutation(len(file[f"{part}_labels"]))[:n]
        pairs = zip(file[f"{part}_images"][rows], file[f"{part}_labels"][rows, 0], strict=True)
        for i, (image, label) in enumerate(pairs):
            Image.fromarray(image).save(tmp_path / "scans" / f"{part}{i:03}.png")
            name = ["normal", "pneumonia"][label]
            lines.append(f"{part}{i:03}.png,{name},{part}-{name}-{i // 2},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    of_data = [str(tmp_path / "scans"), "--labels", str(tmp_path / "labels.csv")]
    of_data += ["--group-column", "patient", "--split-column", "part"]
    options = ["--loss", "ce", "--sampler", "balanced", "--epochs", "2", "--module", "small"]
    options += ["--augment", "none", "--seed", "3", "--size", "28", "--output", "model.skimbal"]
    elsewhere = tmp_path / "another folder"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["fit", *of_data, *options]) == 0
    assert main(["evaluate", "model.skimbal", *of_data, "--csv", "scores.csv"]) == 0
    assert "patients" in capsys.readouterr().out
    assert "pneumonia" in Path("scores.csv").read_text("utf-8")
    run(elsewhere, "predict", "model.skimbal", tmp_path / "scans", "--output", "predictions.csv")

    clf = skimbal.load(elsewhere / "model.skimbal", device="cpu")
    files, decisions, proba = read_predictions(elsewhere / "predictions.csv", clf.classes_.tolist())
    assert len(files) == 280
    paths = [tmp_path / "scans" / name for name in files]
    np.testing.assert_allclose(proba, clf.predict_proba(paths), atol=1e-6)
    assert decisions == clf.predict(paths).tolist()
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_allclose(proba, clf.predict_proba(pixels), atol=1e-5)
