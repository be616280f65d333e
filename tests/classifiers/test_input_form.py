"""A fitted classifier knows its input: paths, folders, other ways of reading, other numbers."""

import json
import pickle
import re
import warnings

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch.utils.data import DataLoader

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.exceptions import InputWarning, UnreadableFileError
from skimbal.images import DecodedImage, ImageFiles, InputForm, list_images
from skimbal.images.geometry import ImageSpec
from tests.classifiers.data import CLASSIFIERS, NDIdentity, caught, tiny
from tests.images.dicom_data import save_slices

N, SIZE = 8, 12
LABELS = ["cat", "dog"] * (N // 2)
OUTPUTS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")


def numbers(n=N, seed=0, shape=(SIZE, SIZE)):
    """Return pictures in bytes, each from black to white."""
    X = np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)
    X[(slice(None), *[0] * len(shape))], X[(slice(None), *[1] * len(shape))] = 0, 255
    return X


def save(folder, X, names=None):
    """Save pictures as PNG, and return their paths."""
    paths = [folder / f"{name}.png" for name in names or range(len(X))]
    for path, pixels in zip(paths, X, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return [str(path) for path in paths]


def fitted(X, y=None, cls=CNN2DClassifier, **params):
    return tiny(cls, **params).fit(X, LABELS[: len(X)] if y is None else y)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """Files of a fit."""
    return save(tmp_path_factory.mktemp("old"), numbers())


@pytest.fixture(scope="module")
def of_files(old):
    """A classifier that was fitted to them, and came back from a pickle."""
    return pickle.loads(pickle.dumps(fitted(ImageFiles(old, size=SIZE))))


@pytest.fixture(scope="module")
def of_bytes():
    return fitted(numbers())


@pytest.fixture(scope="module")
def of_fractions():
    return fitted(numbers() / np.float32(255))


@pytest.fixture
def new(tmp_path):
    """A folder of new files, some of them in folders."""
    save(tmp_path / "new", numbers(3, 1), ["b", "a", "visit/c"])
    (tmp_path / "new" / "notes.txt").write_text("seen by two readers")
    return tmp_path / "new"


def silent(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


# Paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_method_takes_a_path_a_list_and_a_folder(of_files, new, output):
    method = getattr(of_files, output)
    paths = list_images(new)
    assert [path.split("/")[-1] for path in paths] == ["a.png", "b.png", "c.png"]
    expected = method(np.stack([np.asarray(Image.open(path)) for path in paths]))
    for given in (new, str(new), paths, tuple(paths), np.array(paths), pd.Series(paths)):
        assert_array_equal(silent(lambda X=given: method(X)), expected)
    for i, path in enumerate(paths):
        assert_array_equal(method(path), method([path]))
        np.testing.assert_allclose(method(path), expected[i : i + 1], rtol=1e-4) if (
            expected.dtype.kind == "f"
        ) else assert_array_equal(method(path), expected[i : i + 1])


def test_score_and_partial_fit_take_a_folder(of_files, new):
    y = of_files.predict(new)
    assert set(y) <= {"cat", "dog"}
    assert of_files.score(new, y) == 1
    assert of_files.score(list_images(new)[0], y[:1]) == 1
    clf = pickle.loads(pickle.dumps(of_files))
    clf.partial_fit(new, y)
    assert clf.input_ == of_files.input_


def test_pipelines_and_clones_take_paths(of_files, old, new):
    X = ImageFiles(old, size=SIZE)
    model = make_pipeline(NDIdentity(), clone(of_files)).fit(X, LABELS)
    assert_array_equal(model.predict_proba(new), of_files.predict_proba(new))
    frame = clone(of_files).set_output(transform="pandas").fit(X, LABELS).transform(new)
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 3


def test_bare_rows_and_a_fit_take_no_single_path(tmp_path, refused):
    refused(lambda: tiny().fit(str(tmp_path), [0, 1]), "list of paths", error=TypeError)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: p / "nwe", FileNotFoundError, r"nwe does not exist"),
        (lambda p: [p / "nwe.png"], FileNotFoundError, r"nwe\.png does not exist"),
        (lambda p: (p / "empty").mkdir() or p / "empty", ValueError, "empty must hold images"),
        (lambda p: p / "new" / "notes.txt", ValueError, r"cannot read .*notes\.txt"),
        (lambda p: [p / "new"], ValueError, "a folder must be an image of DICOM or zarr"),
    ],
)
def test_paths_without_an_image_are_refused_by_name(of_files, new, tmp_path, make, error, words):
    with pytest.raises(error, match=words):
        of_files.predict(make(tmp_path))


def test_a_folder_of_classes_is_refused_by_name(of_files, tmp_path):
    save(tmp_path, numbers(3), ["cat/1", "dog/2", "other/3"])
    with pytest.raises(ValueError, match=r"folders named like classes: 'cat', 'dog'.*list_images"):
        of_files.predict(tmp_path)
    assert len(of_files.predict(list_images(tmp_path))) == 3
    save(tmp_path / "test", numbers(1), ["dog/9"])
    with pytest.raises(ValueError, match="folders named like classes: 'dog'"):
        of_files.predict(tmp_path / "test")


def test_folders_may_be_called_by_numbers(tmp_path):
    clf = fitted(numbers(6), [0, 1, 2] * 2)
    save(tmp_path, numbers(3), ["1/a", "2/a", "3/a"])
    assert len(clf.predict(tmp_path)) == 3
    (tmp_path / "3" / "a.png").unlink()
    with pytest.raises(ValueError, match="folders named like classes: '1', '2'"):
        clf.predict(tmp_path)


def test_functions_are_not_kept(old, new):
    clf = pickle.loads(pickle.dumps(fitted(ImageFiles(old, transform=np.negative))))
    assert clf.input_.files.functions == ("transform",)
    for given in (new, str(new / "a.png"), [new / "a.png"]):
        with pytest.raises(ValueError, match="must be ImageFiles with the transform= of the fit"):
            clf.predict(given)
    assert len(clf.predict(ImageFiles(list_images(new), transform=np.negative))) == 3
    with pytest.raises(ValueError, match="transform=None here and transform=a function at"):
        clf.predict(ImageFiles(list_images(new)))


def slices(folder, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 999, (SIZE, SIZE, SIZE)).astype(np.uint16)
    save_slices(folder, range(SIZE), pixels=pixels)
    return folder


def test_a_series_is_one_volume_and_for_flat_images_several(tmp_path):
    series = [slices(tmp_path / "old" / str(i), seed=i) for i in range(4)]
    clf = fitted(series, cls=CNN3DClassifier)
    new = slices(tmp_path / "new" / "9", seed=9)
    assert len(clf.predict(new)) == len(clf.predict(new.parent)) == 1
    assert_array_equal(clf.predict_proba(new), clf.predict_proba([new]))
    files = list_images(series[0], n_spatial=2)
    flat = fitted(files[:N])
    assert len(flat.predict(new)) == SIZE
    with pytest.raises(ValueError, match=r"files of DICOM in one folder.*n_spatial=2 or n_spa"):
        list_images(new)


# One image -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "channels"), [(c, k) for c in CLASSIFIERS for k in (None, 1, 2, 3)]
)
def test_a_single_image_is_refused_with_the_remedy(cls, channels):
    spatial = (8, 9) if cls is CNN2DClassifier else (6, 7, 8)
    shape = spatial if channels is None else (channels, *spatial)
    X = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    clf = tiny(cls, max_epochs=0).fit(X, [0, 1] * 3)
    expected = clf.transform(X[:1])
    images = [X[0].reshape(spatial)] if channels in (None, 1) else [X[0]]
    images += [np.moveaxis(X[0], 0, -1)] if channels is not None else []
    for image in images:
        for given in (image, torch.from_numpy(image), image.tolist()):
            with pytest.raises(ValueError, match=r"single image.*np\.newaxis\]") as error:
                clf.transform(given)
        remedy = str(error.value).split(". Use ")[1].split("]")[0] + "]"
        assert_array_equal(clf.transform(eval(remedy, {"X": image, "np": np})), expected)


def test_a_row_of_pixels_is_no_single_image():
    X = numbers().reshape(N, -1)
    clf = tiny(input_shape=(SIZE, SIZE)).fit(X, LABELS)
    assert len(clf.predict(X[:1])) == 1
    with pytest.raises(ValueError, match=r"single image. Use X\[np.newaxis\]"):
        clf.predict(X[0].reshape(SIZE, SIZE))
    with pytest.raises(ValueError, match="X has 5 features, but CNN2DClassifier is expecting 144"):
        clf.predict(np.zeros((3, 5)))


# Another way of reading ----------------------------------------------------------------------

LARGE = {"shape": (2 * SIZE, 2 * SIZE)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": SIZE, "resize": "crop"}, "resize='crop' here and resize='resample' at the fit"),
        ({"size": SIZE, "intensity": "full_range"}, "intensity='full_range' here and .*=None at"),
        ({"size": SIZE, "intensity": (0, 9)}, r"intensity=\(0.0, 9.0\) here"),
        ({"size": SIZE, "channels": 3}, "channels=3 here and channels=None at the fit"),
        ({"size": SIZE, "dtype": "uint8"}, "dtype='uint8' here and dtype=None at the fit"),
        ({"size": SIZE, "transform": np.abs}, "transform=a function here and transform=None"),
        ({"size": SIZE, "reader": lambda p: np.asarray(Image.open(p))}, "reader=a function here"),
        ({"size": 5}, r"size=5 here and size=12 at the fit"),
        ({}, r"size=None here and size=12 at the fit"),
        (
            {"size": (SIZE, SIZE), "resize": "crop", "intensity": "percentiles"},
            r"resize='crop' here and .* fit; intensity='percentiles' here",
        ),
    ],
)
def test_another_way_of_reading_is_refused_by_name(of_files, tmp_path, options, words):
    paths = save(tmp_path, numbers(2, 3, **LARGE))
    X = ImageFiles(paths, **options)
    for output in ("predict", "transform"):
        with pytest.raises(ValueError, match=rf"read as the files of the fit.*{words}"):
            getattr(of_files, output)(X)


@pytest.mark.parametrize(
    "options",
    [
        {"size": SIZE},
        {"size": (SIZE, SIZE)},
        {"size": np.array([SIZE, SIZE])},
        {},
        {"size": SIZE, "resize": "crop"},
        {"size": SIZE, "channels": 1},
        {"size": SIZE, "intensity": "stored"},
        {"size": SIZE, "dtype": "float32"},
        {"size": SIZE, "dtype": "uint8"},
        {"size": SIZE, "cache": "memory", "max_pixels": 10**6},
    ],
)
def test_another_spelling_of_the_same_reading_is_taken(of_files, new, options):
    paths = list_images(new)
    expected = of_files.predict_proba(paths)
    given = silent(lambda: of_files.predict_proba(ImageFiles(paths, **options)))
    np.testing.assert_allclose(given, expected, rtol=1e-6)


def test_a_dtype_of_the_fit_is_kept(old, tmp_path):
    clf = fitted(ImageFiles(old, size=5, dtype="uint8"))
    paths = save(tmp_path, numbers(2, 3))
    expected = clf.predict_proba(ImageFiles(paths, size=5, dtype="uint8"))
    assert_array_equal(clf.predict_proba(paths), expected)
    with pytest.raises(ValueError, match="dtype=None here and dtype='uint8' at the fit"):
        clf.predict(ImageFiles(paths, size=5))


def test_colours_are_read_as_at_the_fit(tmp_path):
    old = save(tmp_path / "old", numbers(shape=(SIZE, SIZE, 3)))
    clf = fitted(ImageFiles(old, channels=3))
    coloured = save(tmp_path / "rgb", numbers(2, 1, shape=(SIZE, SIZE, 3)))
    grey = save(tmp_path / "grey", numbers(2, 1))
    silent(lambda: clf.predict(ImageFiles(coloured)))
    assert len(clf.predict(grey)) == 2
    assert len(clf.predict(ImageFiles(grey, channels=3))) == 2
    with pytest.raises(ValueError, match="channels=None here and channels=3 at the fit"):
        clf.predict(ImageFiles(grey))
    as_stored = fitted(ImageFiles(old))
    assert_array_equal(
        as_stored.predict_proba(ImageFiles(coloured, channels=3)), as_stored.predict_proba(coloured)
    )
    with pytest.raises(ValueError, match="channels=3 here and channels=None at the fit"):
        as_stored.predict(ImageFiles(grey, channels=3))


def test_splits_and_the_validation_set_are_read_alike(old):
    X = ImageFiles(old, size=SIZE)
    silent_scores = cross_val_score(tiny(max_epochs=1), X, LABELS, cv=2, error_score="raise")
    assert len(silent_scores) == 2
    other = ImageFiles(old, size=SIZE, intensity="full_range")
    split = predefined_split(Dataset(other, LABELS, length=N))
    with pytest.raises(ValueError, match="intensity='full_range' here"):
        fitted(X, train_split=split)
    with pytest.raises(ValueError, match="intensity='full_range' here"):
        fitted(X).partial_fit(other, LABELS)


def test_arrays_carry_no_reading(of_bytes, of_files, new):
    paths = list_images(new)
    X = np.asarray(ImageFiles(paths))
    for clf in (of_bytes, of_files):
        silent(lambda clf=clf: clf.predict(X))
    for options in ({}, {"size": SIZE}, {"size": SIZE, "resize": "crop"}):
        silent(lambda o=options: of_bytes.predict(ImageFiles(paths, **o)))
    with pytest.warns(UserWarning, match=r"3 images \(.*a\.png, .*\): numbers from 0 to 1 "):
        of_bytes.predict(ImageFiles(paths, intensity="full_range"))


# New files of another kind -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(SIZE, SIZE + 1), (SIZE, SIZE, 3)])
def test_files_of_another_size_or_channels_are_named(old, tmp_path, shape):
    clf = fitted(ImageFiles(old))
    (path,) = save(tmp_path, numbers(1, shape=shape), ["x"])
    for given in (path, [path], [old[0], path], tmp_path):
        with pytest.raises(ValueError, match=r"x\.png"):
            clf.predict(given)


def volumes(folder, n, spacing=1.0, seed=0, name="v"):
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(n):
        voxels = np.random.default_rng(seed + i).normal(100, 30, (6, 7, 8)).astype(np.float32)
        path = folder / f"{name}{i}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([spacing, spacing, spacing, 1])), path)
        paths.append(str(path))
    return paths


def test_voxels_of_another_size_are_named(tmp_path):
    old = volumes(tmp_path / "old", 4)
    clf = fitted(old, cls=CNN3DClassifier)
    assert clf.input_.files.spacings == ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    silent(lambda: clf.predict(volumes(tmp_path / "near", 1, 1.3)))
    thick = volumes(tmp_path / "thick", 1, 2.0)
    words = r"v0\.nii\.gz: voxels of 2 x 2 x 2 mm, and .* of 1 x 1 x 1 mm\. .*spacing="
    (warning,) = caught(lambda: clf.predict(thick), UserWarning)
    assert re.search(words, str(warning.message))
    assert warning.filename == __file__
    resized = fitted(ImageFiles(old, size=6), cls=CNN3DClassifier)
    silent(lambda: resized.predict(thick))


def test_another_unit_or_range_of_files_is_named(tmp_path, old):
    clf = fitted(old)
    paths = save(tmp_path, numbers(2).astype(np.uint16) * 257)
    (warning,) = caught(lambda: clf.predict(paths), UserWarning)
    assert "): the file holds numbers from 0 to 65535, and" in str(warning.message)
    assert warning.message.names == paths
    assert warning.filename == __file__

    def read(unit):
        return lambda path: DecodedImage(np.asarray(Image.open(path)), 2, unit=unit)

    clf = fitted(ImageFiles(old, reader=read("HU")))
    with pytest.warns(UserWarning, match="holds numbers in SUV, and .* to numbers in HU"):
        clf.predict(ImageFiles(old, reader=read("SUV")))


def test_another_modality_is_named(tmp_path):
    kinds = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
    pixels = [*np.random.default_rng(0).integers(0, 999, (4, 6, 7)).astype(np.int16)]
    for kind, number in kinds.items():
        save_slices(tmp_path / kind, range(4), pixels=pixels, Modality=kind, SOPClassUID=number)
    clf = fitted(list_images(tmp_path / "CT", n_spatial=2))
    mr = list_images(tmp_path / "MR", n_spatial=2)
    with pytest.warns(
        UserWarning, match=rf"{mr[0]}.*: the file holds .*was fitted to numbers in HU"
    ):
        clf.predict(tmp_path / "MR")


# Numbers of another range --------------------------------------------------------------------


def far(call):
    found = [w for w in caught(call, UserWarning) if "far from" in str(w.message)]
    assert all(w.filename == __file__ for w in found)
    return [str(w.message) for w in found]


@pytest.mark.parametrize("output", OUTPUTS)
def test_numbers_of_another_scale_are_a_warning_at_the_line(of_bytes, of_fractions, output):
    X = numbers(4, 1)
    (words,) = far(lambda: getattr(of_bytes, output)(X / 255))
    assert words.startswith("4 images (image 0 of X, image 1 of X, image 2 of X, ...): numbers")
    assert "numbers from 0 to 1 are far from" in words
    assert "that CNN2DClassifier was fitted to, 0 to 255." in words
    (words,) = far(lambda: getattr(of_fractions, output)(X))
    assert "numbers from 0 to 255 are far from" in words
    assert "0 to 1." in words


@pytest.mark.parametrize(
    "change",
    [
        lambda X: X,
        lambda X: X.astype(np.float64),
        lambda X: X.astype(np.int64),
        lambda X: X // 40,
        lambda X: X * 0.1,
        lambda X: 255 - X,
        lambda X: torch.from_numpy(X),
        lambda X: X[:, None],
    ],
)
def test_numbers_of_the_same_scale_are_no_warning(of_bytes, change):
    silent(lambda: of_bytes.predict(change(numbers(4, 1))))


@pytest.mark.parametrize("standardize", [True, False])
def test_the_numbers_are_known_without_standardisation(standardize):
    X = numbers(40)
    X[5, 3, 3], X[6:] = 255, X[6:] // 2
    clf = fitted(X, LABELS * 5, standardize=standardize)
    pixels = clf.input_.pixels
    assert pixels.least == (0,)
    assert pixels.greatest == (255,)
    assert 100 < pixels.high[0] < 255
    assert far(lambda: clf.predict(X[:2] / 255))


def test_rows_without_weight_do_not_count():
    X = numbers(N).astype(np.float32)
    X[0] = 1e4
    weight = [0] + [1] * (N - 1)
    clf = tiny().fit(X, LABELS, sample_weight=weight)
    assert clf.input_.pixels.greatest == (255,)


def test_bare_rows_are_not_compared():
    X = numbers().reshape(N, -1)
    clf = fitted(X)
    assert clf.input_.pixels is None
    silent(lambda: clf.predict(X / 255))
    shaped = fitted(X, input_shape=(SIZE, SIZE))
    assert far(lambda: shaped.predict(X / 255))


def test_further_fits_keep_the_numbers_and_compare(of_bytes):
    clf = pickle.loads(pickle.dumps(of_bytes))
    X = numbers(N, 5) / 255
    assert far(lambda: clf.partial_fit(X, LABELS))
    assert clf.input_ == of_bytes.input_
    assert far(lambda: clf.set_params(warm_start=True).fit(X, LABELS))
    assert clf.input_ == of_bytes.input_
    silent_form = clf.set_params(warm_start=False).fit(X, LABELS).input_
    assert silent_form.pixels.greatest == (1,)


def test_files_are_read_once(of_files, new, monkeypatch):
    read, original = [], ImageSpec.image

    def image(spec, path):
        read.append(path)
        return original(spec, path)

    monkeypatch.setattr(ImageSpec, "image", image)
    of_files.predict(new)
    assert sorted(read) == list_images(new)


def test_rows_that_other_iterators_read_are_compared():
    net = {"iterator_valid": DataLoader, "iterator_valid__batch_size": 4, "module__width": 4}
    clf = fitted(numbers(), net=net)
    assert far(lambda: clf.predict(numbers(4, 1) / 255))


def test_the_input_survives_json(of_files, of_bytes):
    for clf in (of_files, of_bytes):
        values = json.loads(json.dumps(clf.input_.to_dict()))
        assert InputForm.from_dict(values) == clf.input_
    assert of_files.input_.files.options["size"] == SIZE
    assert of_files.input_.axes == ("h", "w")
    assert of_bytes.input_.files is None


def test_a_black_image_is_told_once_with_the_number_and_names(tmp_path, of_files):
    X = numbers(5, seed=1)
    X[:4] = 0
    paths = save(tmp_path, X)
    with pytest.warns(InputWarning) as caught:
        of_files.predict(paths)
    (warning,) = [one.message for one in caught]
    assert warning.names == paths[:4]
    assert f"4 images ({paths[0]}, {paths[1]}, {paths[2]}, ...): no contrast" in str(warning)
    assert caught[0].filename == __file__


def test_a_row_of_zeros_is_predicted_as_other_packages_try_it():
    X = numbers(6)
    clf = tiny(input_shape=X.shape[1:]).fit(X.reshape(6, -1), [0, 1] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.predict(np.zeros((1, X[0].size)))


def test_an_unreadable_file_has_advice_that_fits_a_prediction(tmp_path, of_files):
    (path,) = save(tmp_path, numbers(1))
    with open(path, "r+b") as file:
        file.truncate(60)
    with pytest.raises(UnreadableFileError, match="leave it out of X") as caught:
        of_files.predict([path])
    assert "on_error" not in str(caught.value)
    with pytest.raises(UnreadableFileError, match="on_error='skip'"):
        of_files.predict(ImageFiles([path]))


def test_files_of_other_channels_name_the_remedy(tmp_path, of_files):
    path = tmp_path / "colour.png"
    Image.fromarray(numbers(1, shape=(SIZE, SIZE, 3))[0]).save(path)
    with pytest.raises(ValueError, match=r"fit with channels=1 \(in 'skimbal fit', --channels 1\)"):
        of_files.predict([path])


@pytest.mark.parametrize(("X", "text"), [(b"x.png", "not bytes"), ([b"x.png"], "not bytes")])
def test_paths_as_bytes_are_refused_by_name(of_files, X, text):
    with pytest.raises(TypeError, match=text):
        of_files.predict(X)


@pytest.mark.parametrize("X", ["", [""]])
def test_an_empty_path_is_not_the_current_folder(of_files, X):
    with pytest.raises(ValueError, match="empty text"):
        of_files.predict(X)


def test_a_folder_for_a_fit_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"images of the fit.*load_image_folder"):
        tiny(CNN2DClassifier).fit(str(tmp_path), LABELS)
