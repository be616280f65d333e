"""Images behind a column of keys, in meta-estimators that take tables of numbers only."""

import hashlib
import pickle

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.semi_supervised import SelfTrainingClassifier

from skimbal import CNN2DClassifier, KeyedClassifier
from skimbal.exceptions import ParameterError
from skimbal.images import ImageArray, ImageFiles


def flat(images):
    return np.asarray(images).reshape(len(images), -1)


def forest():
    """Make a quick classifier of images, which tells their exact pixels apart."""
    trees = RandomForestClassifier(5, bootstrap=False, random_state=0)
    return make_pipeline(FunctionTransformer(flat), trees)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return images of three classes, their paths and labels."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (30, 6, 6), dtype=np.uint8)
    paths = [str(folder / f"{i}.npy") for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        np.save(path, image)
    return images, paths, np.arange(30) % 3


def test_keys_stand_for_their_images(data):
    images, paths, y = data
    keyed = KeyedClassifier(forest(), paths)
    assert keyed.keys.shape == (30, 1)
    assert keyed.keys.dtype == np.int64
    order = np.random.default_rng(1).permutation(30)
    keyed.fit(keyed.keys[order], y[order])
    # The forest knows each training image by heart, so a wrong image would show.
    np.testing.assert_array_equal(keyed.predict(keyed.keys), y)
    np.testing.assert_array_equal(keyed.predict(keyed.keys[order].astype(float)), y[order])
    expected = forest().fit(images[order], y[order]).predict_proba(images)
    np.testing.assert_array_equal(keyed.predict_proba(keyed.keys), expected)
    # MAPIE would try the classifier on zeros.
    assert not hasattr(keyed, "n_features_in_")
    assert keyed.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "meta",
    [OneVsOneClassifier, SelfTrainingClassifier, lambda c: BaggingClassifier(c, 3, random_state=0)],
)
def test_estimators_of_tables_take_them(data, meta):
    _, paths, y = data
    keyed = KeyedClassifier(forest(), paths)
    known = np.where(np.arange(30) % 7 == 0, -1, y) if meta is SelfTrainingClassifier else y
    model = meta(keyed).fit(keyed.keys, known)
    assert (model.predict(keyed.keys) == y).mean() > 0.8


def test_cnn_on_keys_is_the_cnn_on_files(data):
    _, paths, y = data
    clf = CNN2DClassifier(module="small", max_epochs=1, random_state=0)
    keyed = KeyedClassifier(clf, ImageFiles(paths, size=8))
    keyed.fit(keyed.keys, y, sample_weight=np.ones(30))
    assert keyed.estimator_.input_shape_ == (1, 8, 8)
    expected = clone(clf).fit(ImageFiles(paths, size=8), y).predict_proba(paths)
    np.testing.assert_allclose(keyed.predict_proba(keyed.keys), expected, atol=1e-6)
    # New images need no keys.
    np.testing.assert_allclose(keyed.predict_proba(paths[:3]), expected[:3], atol=1e-6)
    np.testing.assert_allclose(keyed.predict_log_proba(paths[3]), np.log(expected[3:4]), atol=1e-5)
    assert keyed.decision_function(keyed.keys).shape == (30, 3)
    assert len(keyed.transform(keyed.keys)) == 30


def test_weights_are_rows_for_an_estimator_without_weights(data):
    _, paths, y = data
    keyed = KeyedClassifier(forest(), paths)
    weight = np.arange(30) % 4
    keyed.fit(keyed.keys, y, sample_weight=weight)
    repeated = clone(keyed).fit(np.repeat(keyed.keys, weight, axis=0), np.repeat(y, weight))
    expected = repeated.predict_proba(keyed.keys)
    np.testing.assert_array_equal(keyed.predict_proba(keyed.keys), expected)
    with pytest.raises(ValueError, match=r"must be whole numbers .* takes no weights"):
        keyed.fit(keyed.keys, y, sample_weight=weight / 2)


def test_other_numbers_are_refused(data):
    _, paths, y = data
    keyed = KeyedClassifier(forest(), paths[:20]).fit(
        KeyedClassifier(forest(), paths).keys[:20], y[:20]
    )
    others = KeyedClassifier(forest(), paths).keys
    np.testing.assert_array_equal(others[:20], keyed.keys)
    for wrong in (others[15:], keyed.keys + 1, np.arange(20)[:, None], keyed.keys.astype("f4")):
        with pytest.raises(ValueError, match=r"X must hold keys of the images .* row [05],"):
            keyed.predict(wrong)
    with pytest.raises(ValueError, match="X must hold keys"):
        keyed.predict(np.full((1, 1), np.nan))
    resampled, labels = SMOTE(random_state=0).fit_resample(keyed.keys[:17], [0] * 10 + [1] * 7)
    with pytest.raises(ValueError, match="such as SMOTE"):
        keyed.fit(resampled, labels)


def test_labels_of_other_rows_are_refused(data):
    _, paths, y = data
    keyed = KeyedClassifier(forest(), paths)
    for n, labels in ((len(y) - 1, y), (len(y), y[:-1])):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            keyed.fit(keyed.keys[:n], labels)
    for weight in (-1.0, np.nan, 0.5):
        piped = KeyedClassifier(forest(), paths)
        with pytest.raises(ValueError, match=rf"whole numbers.*\[{weight}\]"):
            piped.fit(keyed.keys, y, np.full(len(y), weight))


def test_fit_takes_keys_only(data):
    images, paths, y = data
    for wrong in (images, paths, np.array(paths)[:, None]):
        with pytest.raises(ValueError, match=r"X must be a column of keys, .* attribute keys"):
            KeyedClassifier(forest(), paths).fit(wrong, y)


def test_pixels_in_memory_are_refused_with_the_way_for_rows(data):
    images, _, _ = data
    for given in (images, ImageArray(images), images.tolist()):
        with pytest.raises(ParameterError, match=r"images must be ImageFiles, .* input_shape="):
            _ = KeyedClassifier(forest(), given).keys


def test_pickles_and_clones_hold_no_pixels(data, tmp_path):
    images, paths, y = data
    np.save(tmp_path / "all.npy", np.tile(images, (1, 20, 20)))
    mapped = np.load(tmp_path / "all.npy", mmap_mode="r")
    for given in (ImageArray(mapped), ImageArray(mapped)[::-1], paths):
        keyed = KeyedClassifier(DummyClassifier(), given)
        keyed.fit(keyed.keys, y)
        assert len(pickle.dumps(keyed)) < 20_000
        back = pickle.loads(pickle.dumps(keyed))
        np.testing.assert_array_equal(back.predict(keyed.keys), keyed.predict(keyed.keys))
        cloned = clone(keyed)
        assert cloned.images is given
        np.testing.assert_array_equal(cloned.keys, keyed.keys)


def test_keys_of_an_array_on_the_disk_follow_the_pixels(data, tmp_path):
    images, _, y = data
    np.save(tmp_path / "all.npy", images)
    mapped = np.load(tmp_path / "all.npy", mmap_mode="r")
    with pytest.raises(ParameterError, match="an ImageArray around a memory map"):
        _ = KeyedClassifier(forest(), mapped).keys
    keyed = KeyedClassifier(forest(), ImageArray(mapped))
    keyed.fit(keyed.keys, y)
    np.testing.assert_array_equal(keyed.predict(keyed.keys[::-1]), y[::-1])
    np.save(tmp_path / "other.npy", images[::-1])
    mapped = np.load(tmp_path / "other.npy", mmap_mode="r")
    other = KeyedClassifier(forest(), ImageArray(mapped))
    np.testing.assert_array_equal(other.keys, keyed.keys[::-1])


def test_clones_read_no_headers_again_and_other_images_are_known(data, monkeypatch):
    _, paths, y = data
    calls, blake2b = [], hashlib.blake2b
    monkeypatch.setattr(
        hashlib, "blake2b", lambda data, **size: calls.append(data) or blake2b(data, **size)
    )
    keyed = KeyedClassifier(DummyClassifier(), paths[:20])
    grid = {"estimator__strategy": ["prior", "uniform"]}
    search = GridSearchCV(keyed, grid, cv=2).fit(keyed.keys, y[:20])
    assert len(calls) == 20
    best = search.best_estimator_.set_params(images=paths[10:])
    assert len(best.predict(KeyedClassifier(DummyClassifier(), paths[10:]).keys)) == 20


def test_equal_checksums_are_refused(data, monkeypatch):
    _, paths, _ = data
    same = hashlib.blake2b(b"", digest_size=8)
    monkeypatch.setattr(hashlib, "blake2b", lambda data, **size: same)
    with pytest.raises(ValueError, match="images must have distinct checksums"):
        _ = KeyedClassifier(forest(), paths).keys


def test_methods_are_those_of_the_estimator(data):
    _, paths, _ = data
    keyed = KeyedClassifier(DummyClassifier(), paths)
    assert hasattr(keyed, "predict_proba")
    assert not hasattr(keyed, "decision_function")
    assert not hasattr(keyed, "transform")
