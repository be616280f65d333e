"""The worst errors as pictures, and the facts of classifiers."""

import os

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.evaluation import evaluate, evaluate_predictions
from skimbal.evaluation.models import describe_model, find_cnn
from skimbal.evaluation.worst import make_view
from skimbal.images import ImageFiles


@pytest.fixture(scope="module")
def images():
    """Twelve images whose first pixel is the brightest and tells the row."""
    X = np.random.default_rng(0).integers(100, size=(12, 8, 6), dtype=np.uint8)
    X[:, 0, 0] = 200 + np.arange(12)
    return X


@pytest.fixture(scope="module")
def clf(images):
    return CNN2DClassifier(module="small", max_epochs=0, random_state=0).fit(images, [0, 1] * 6)


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "new"
    folder.mkdir()
    for row, image in enumerate(images):
        np.save(folder / f"{row:02d}.npy", image)
    return [str(folder / f"{row:02d}.npy") for row in range(12)]


def wrong_of(clf, images):
    """Return labels of which all are wrong."""
    return 1 - clf.predict(images)


def test_the_surest_errors_come_first():
    proba = np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.2, 0.8]])
    found = evaluate_predictions(
        [1, 0, 0, 1, 0], proba, [0, 1], groups=list("abcde"), n_bootstraps=0
    )
    assert [error.row for error in found.worst] == [1, 2, 4, 0]
    first = found.worst[0]
    assert (first.true, first.predicted, first.patient, first.file) == ("0", "1", "b", "")
    assert (first.probability, first.probability_of_true) == (0.9, 0.1)
    assert first.view is None


def test_pictures_are_those_of_the_rows(clf, images, paths):
    y = wrong_of(clf, images)
    arrays = [images, images[:, None], list(images)]
    folder, on_disk = os.path.dirname(paths[0]), ImageFiles(paths)
    of_files = CNN2DClassifier(module="small", max_epochs=0, random_state=0)
    of_files.fit(on_disk, [0, 1] * 6)
    for X in [*arrays, on_disk, paths, pd.DataFrame({"path": paths}), folder]:
        found = evaluate(of_files, X, y, n_bootstraps=0)
        assert len(found.worst) == 12
        for error in found.worst:
            np.testing.assert_array_equal(error.view, make_view(images[error.row][None]))
            has_file = not any(X is array for array in arrays)
            assert error.file == (os.path.join("new", f"{error.row:02d}.npy") if has_file else "")


def test_a_folder_needs_a_label_for_each_image(paths, images):
    clf = CNN2DClassifier(module="small", max_epochs=0, random_state=0)
    clf.fit(ImageFiles(paths), [0, 1] * 6)
    with pytest.raises(ValueError, match=r"y must have a label for each image; got 11 .* 12 im"):
        evaluate(clf, os.path.dirname(paths[0]), [0] * 11)


def test_images_of_other_classifiers_are_shown(images, paths):
    y = np.arange(12) % 2
    proba = np.eye(2)[1 - y]
    for X in (images, paths):
        found = evaluate_predictions(y, proba, [0, 1], X=X, n_bootstraps=0)
        np.testing.assert_array_equal(found.worst[3].view, make_view(images[3][None]))
    rows = evaluate_predictions(y, proba, [0, 1], X=images.reshape(12, -1), n_bootstraps=0)
    assert rows.worst[0].view is None
    last = evaluate_predictions(y, proba, [0, 1], X=np.stack([images] * 3, -1), n_bootstraps=0)
    assert last.worst[0].view.shape == (8, 6, 3)


def test_rows_of_pixels_have_the_shape_of_the_fit(images):
    rows = images.reshape(12, -1)
    clf = CNN2DClassifier(module="small", max_epochs=0, input_shape=(8, 6), random_state=0)
    found = evaluate(clf.fit(rows, [0, 1] * 6), rows, wrong_of(clf, rows), n_bootstraps=0)
    error = found.worst[0]
    np.testing.assert_array_equal(error.view, make_view(images[error.row][None]))


def test_volumes_have_three_middle_planes():
    volume = np.arange(4 * 6 * 8, dtype=np.float32).reshape(1, 4, 6, 8)
    view = make_view(volume)
    assert view.dtype == np.uint8
    assert view.shape == (6, 8 + 2 + 8 + 2 + 6)
    assert (view[:, 8:10] == 255).all()
    np.testing.assert_array_equal(np.argsort(view[:6, :8], axis=None)[:1], [0])
    clf = CNN3DClassifier(module="small", max_epochs=0, random_state=0)
    X = np.random.default_rng(0).normal(size=(6, 8, 8, 8))
    clf.fit(X, [0, 1] * 3)
    found = evaluate(clf, X, wrong_of(clf, X), n_bootstraps=0)
    assert found.worst[0].view.shape == (8, 28)


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (np.zeros((1, 5, 5)), (5, 5)),
        (np.full((1, 5, 5), 7, np.uint8), (5, 5)),
        (np.random.default_rng(0).normal(size=(3, 5, 7)), (5, 7, 3)),
        (np.random.default_rng(0).normal(size=(4, 5, 7)), (5, 7)),
        (np.ones((1, 1, 1), bool), (1, 1)),
        (np.ones((1, 700, 3), np.int16), (233, 1)),
        (np.ones((1, 3000, 2)), (300, 2)),
        (np.random.default_rng(0).normal(size=(2, 3, 5, 7)), (5, 7 + 2 + 7 + 2 + 5)),
    ],
)
def test_any_image_has_a_view(image, shape):
    view = make_view(image)
    assert view.shape == shape
    assert view.dtype == np.uint8


def test_colours_of_eight_bits_stay():
    image = np.random.default_rng(0).integers(50, 90, size=(3, 4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(make_view(image), np.moveaxis(image, 0, -1))


def test_facts_of_the_classifier(clf, images):
    facts = dict(describe_model(clf))
    assert facts["Classifier"].startswith("CNN2DClassifier(")
    assert facts["Input"] == "1 × 8 × 6 (channels, h, w), uint8"
    assert clf.class_count_.tolist() == [6, 6]
    assert facts["Classes in training"] == "0 6 (50.0 %), 1 6 (50.0 %)"
    assert facts["Loss"] == str(clf.loss)
    assert facts["Training"] == "0 epochs, 0 steps"
    assert describe_model(None) == []
    assert list(dict(describe_model(LogisticRegression()))) == ["Classifier"]


def test_the_inner_classifier_is_found(clf, images):
    assert find_cnn(clf) is clf
    assert find_cnn(make_pipeline("passthrough", clf)) is clf
    calibrated = CalibratedClassifierCV(FrozenEstimator(clf)).fit(images, [0, 1] * 6)
    assert find_cnn(calibrated) is clf
    assert dict(describe_model(calibrated))["Inner classifier"].startswith("CNN2DClassifier(")
    assert find_cnn(LogisticRegression()) is None
