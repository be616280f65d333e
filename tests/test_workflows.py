"""What the guide describes, from the images that come with the package to a score.

The examples of the gallery do more of the same, and are run by the build of the documentation.
"""

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.callbacks import EarlyStopping, EpochScoring

from skimbal import LossMix, NDSampler
from skimbal.augmentation import RandomGamma
from skimbal.datasets import load_image_folder, load_imbalanced_digits
from skimbal.images import ImageArray
from skimbal.study import compare_losses
from tests.plain import plain

pytestmark = pytest.mark.slow


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
