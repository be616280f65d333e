import warnings

import numpy as np
import pytest

from skimbal import CNN2DClassifier
from skimbal.images import ImageFiles
from skimbal.study import compare_losses

FAST = {
    "losses": ["ce"],
    "samplers": ["uniform"],
    "estimator": CNN2DClassifier(module="small", max_epochs=1, augment=None),
    "random_state": 0,
    "verbose": 0,
}


@pytest.fixture
def data(rng):
    X = rng.integers(0, 255, (24, 8, 8), dtype=np.uint8)
    return X, np.arange(24) % 2


def said(X, y, **options):
    """Return the sentences that a study warns of, which are also its first conclusions."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study = compare_losses(X, y, **FAST, **options)
    sentences = [str(w.message) for w in caught if "picture" in str(w.message)]
    assert sentences == study.leaks
    n = len(sentences)
    assert study.conclusions()[:n] == [f"Warning: {sentence}" for sentence in sentences]
    assert not any("Warning" in line for line in study.conclusions()[n:])
    return sentences


def test_copies_in_training_and_test_rows(data):
    X, y = data
    assert said(X[:16], y[:16], X_test=X[16:], y_test=y[16:]) == []
    X[17] = X[3]
    assert said(X[:16], y[:16], X_test=X[16:], y_test=y[16:]) == [
        "1 picture is in training and test rows, so all scores may be too high: row 3 = test row 1."
    ]
    # The same numbers in another dtype.
    assert said(X[:16], y[:16], X_test=X[16:].astype(np.float32), y_test=y[16:])
    assert not said(X[:16], y[:16], X_test=X[16:], y_test=y[16:], check_copies=False)


def test_copies_on_two_sides_of_a_fold(data):
    X, y = data
    X[2] = X[0]
    (first,) = said(X, y, cv=[(np.arange(1, 24), np.array([0, 1, 3]))])
    assert first.endswith("row 0 = row 2.")
    # Both copies in the training rows, or one of them in no row.
    assert said(X, y, cv=[(np.arange(0, 20), np.arange(20, 24))]) == []
    assert said(X, y, cv=[(np.arange(1, 20), np.arange(20, 24))]) == []


def test_copies_of_two_classes_and_groups(data):
    X, y = data
    X[1] = X[0]
    folds = [(np.arange(20), np.arange(20, 24))]
    (sentence,) = said(X, y, cv=folds)
    assert sentence.startswith("1 picture is in more than one class, so at least one of the labels")
    X[1], X[2] = X[3], X[0]
    (sentence,) = said(X, y, groups=np.arange(24) // 2, cv=folds)
    assert sentence == (
        "2 pictures are in more than one group, so the groups do not keep the copies together: "
        "row 0 = row 2, row 1 = row 3."
    )
    assert said(X, y, groups=np.arange(24) // 4, cv=folds) == []


def test_blank_images_are_not_copies(data):
    X, y = data
    X[[0, 2, 20]] = 0
    assert said(X[:16], y[:16], X_test=X[16:], y_test=y[16:]) == []


def test_files_of_two_formats(data, tmp_path):
    image = pytest.importorskip("PIL.Image")
    X, y = data
    X[20] = X[4]
    paths = [tmp_path / f"{i}.{'bmp' if i == 20 else 'png'}" for i in range(24)]
    for path, pixels in zip(paths, X, strict=True):
        image.fromarray(pixels).save(path)
    files = ImageFiles(paths)
    (first,) = said(files[:16], y[:16], X_test=files[16:], y_test=y[16:])
    assert f"{tmp_path.name}/4.png = {tmp_path.name}/20.bmp" in first


@pytest.mark.filterwarnings("ignore:1 picture")
def test_report_begins_with_the_leak(data, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    X, y = data
    X[17] = X[3]
    study = compare_losses(X[:16], y[:16], X_test=X[16:], y_test=y[16:], **FAST)
    study.to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    start = text.index('id="conclusions"')
    assert "1 picture is in training and test rows" in text[start : start + 200]
