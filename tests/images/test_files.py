"""Images that are read from files when a batch asks for them."""

import os
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline
from numpy.testing import assert_array_equal
from pydicom.data import get_testdata_file
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split

from skimbal import CNN2DClassifier, CNN3DClassifier, NDSampler
from skimbal.exceptions import ParameterError
from skimbal.images import ImageFiles
from tests.images.data import cut, dicom, draw_files, save_nifti, save_picture
from tests.plain import plain


@pytest.fixture
def nifti_paths(tmp_path, rng):
    paths = [str(tmp_path / f"{i}.nii.gz") for i in range(3)]
    for path in paths:
        voxels = rng.normal(size=(6, 7, 8)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 1, 2, 1])), path)
    return paths


# MONAI makes all its readers, and says which of them lack a library.
@pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning")
def test_readers_of_monai(nifti_paths):
    from monai import transforms

    load = transforms.LoadImage(image_only=True, ensure_channel_first=True)
    X = ImageFiles(nifti_paths, reader=load)
    assert X.shape == (3, 1, 6, 7, 8)
    assert_array_equal(np.asarray(X)[:, 0], ImageFiles(nifti_paths))


def test_subjects_of_torchio(nifti_paths, tmp_path):
    import torchio

    for sequence, path in zip(("t1", "t2"), nifti_paths, strict=False):
        torchio.ScalarImage(path).save(tmp_path / f"{sequence}.mha")

    def read_subject(folder):
        subject = torchio.Subject(
            t1=torchio.ScalarImage(f"{folder}/t1.mha"), t2=torchio.ScalarImage(f"{folder}/t2.mha")
        )
        subject = torchio.ToCanonical()(subject)
        return torch.cat([subject.t1.data, subject.t2.data]), subject.t1.spacing

    X = ImageFiles([tmp_path], reader=read_subject)
    assert_array_equal(np.asarray(X)[0], ImageFiles(nifti_paths[:2]))
    spaced = ImageFiles([tmp_path], reader=read_subject, spacing=1, size=12, resize="crop")
    assert np.asarray(spaced).shape == (1, 2, 12, 12, 12)


def test_own_reader(tmp_path):
    names = ["2", "0", "1"]
    stack = torch.arange(3 * 4 * 4, dtype=torch.float32).reshape(3, 1, 4, 4)
    X = ImageFiles(names, reader=lambda name: stack[int(name)])
    assert_array_equal(X, stack[[2, 0, 1]])
    assert X.paths == names
    resized = ImageFiles(
        names,
        reader=lambda name: (stack[int(name)], (1, 3)),
        spacing=(1, 1),
        size=(4, 6),
        resize="crop",
    )
    assert resized.shape == (3, 1, 4, 6)
    # Without headers, shapes that differ are found when they are read.
    uneven = ImageFiles(names, reader=lambda name: np.zeros((int(name) + 1, 5)))
    with pytest.raises(ValueError, match=r"size.*2 has \(3, 5\), 0 has \(1, 5\).*None"):
        np.asarray(uneven)
    with pytest.raises(ValueError, match="cannot read 2: 'no such patient'"):
        ImageFiles(names, reader=fails)
    with pytest.raises(ValueError, match=r"cannot read 2: .*real numbers; got <U1"):
        ImageFiles(names, reader=list)


def fails(path):
    raise KeyError("no such patient")


def test_shapes_and_dtypes_in_common(tmp_path):
    for i, (shape, dtype) in enumerate([((4, 4), "u1"), ((4, 4), "i2"), ((4, 5), "f4")]):
        np.save(tmp_path / f"{i}.npy", np.full(shape, 7, dtype))
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    X = ImageFiles(paths[:2], intensity="stored")
    assert X.dtype == np.int16
    assert np.asarray(X).dtype == np.int16
    with pytest.raises(ValueError, match=r"size.*0\.npy has \(4, 4\), .*2\.npy has \(4, 5\).*None"):
        ImageFiles(paths, intensity="stored")
    options = {"size": (4, 4), "intensity": "stored"}
    assert ImageFiles(paths, **options, resize="crop").dtype == np.float32
    X = ImageFiles(paths, **options, dtype="uint8")
    assert np.asarray(X).dtype == np.uint8
    assert (np.asarray(X) == 7).all()


def test_transform(tmp_path):
    paths, values, _ = draw_files(tmp_path, 4)

    def brighten(image):
        image += 1  # in place
        return np.stack([image, image.astype(np.float64)])

    X = ImageFiles(paths, transform=brighten, cache="memory")
    for _ in range(2):
        assert_array_equal(X, np.repeat(values[:, None] + 1.0, 2, axis=1))
    with pytest.raises(ValueError, match=r"transform.*0\.npy.*<U3"):
        ImageFiles(paths, transform=lambda image: np.array(["abc"]))
    with pytest.raises(ValueError, match=r"transform.*0\.npy.*NaN"):
        ImageFiles(paths, transform=lambda image: image * np.nan)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size.*integers.* 0\\."),
        ({"size": (8,)}, r"size.*\(8,\)"),
        ({"size": (8, 0)}, r"size.*\(8, 0\)"),
        ({"size": (8, 2.5)}, r"size.*\(8, 2\.5\)"),
        ({"spacing": (1, -1)}, r"spacing.* mm.*\(1, -1\)"),
        ({"spacing": (1, np.inf)}, r"spacing.*\(1, inf\)"),
        ({"size": (8, 8), "spacing": (1, 1)}, "resize.*'crop'.*'resample'"),
        (
            {"size": (8, 8), "spacing": (1, 1, 1), "resize": "crop"},
            r"size.*spacing, \(1\.0, 1\.0, 1\.0\).*\(8, 8\)",
        ),
        ({"resize": "stretch"}, "resize.*'stretch'"),
        ({"channels": 0}, r"channels.* 0\."),
        ({"channels": True}, "channels.*True"),
        ({"dtype": "U3"}, "dtype.*'U3'"),
        ({"dtype": "decimal"}, "dtype.*'decimal'"),
        ({"transform": 3}, r"transform.* 3\."),
        ({"reader": "nibabel"}, "reader.*'nibabel'"),
        ({"cache": 3}, r"cache .* 3\."),
        ({"cache_bytes": -1}, "cache_bytes.* -1"),
        ({"on_error": "ignore"}, "on_error.*'ignore'"),
        ({"spacing": (1, 1)}, r"spacing.*0\.npy.*\(1\.0, 1\.0\)"),
        ({"size": (8, 8, 8)}, r"size.*2 spatial axes.*0\.npy has shape \(8, 8\).*\(8, 8, 8\)"),
    ],
)
def test_bad_options(options, message, tmp_path):
    paths, _, _ = draw_files(tmp_path, 2)
    with pytest.raises(ParameterError, match=message) as error:
        ImageFiles(paths, **options)
    assert message.startswith(error.value.parameter)


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ([], ValueError, r"paths.*\[\]"),
        ("scan.png", TypeError, "paths.*'scan.png'"),
        (Path("scan.png"), TypeError, "paths.*scan.png"),
        (["a.png", 3], TypeError, "paths.*int at index 1"),
        ([b"a.png"], TypeError, "paths.*bytes at index 0"),
        (np.array([["a.png"]]), ValueError, r"paths.*\(1, 1\)"),
    ],
)
def test_bad_paths(paths, error, message):
    with pytest.raises(error, match=message):
        ImageFiles(paths)


def spoil(folder, kind):
    """Write a file of a kind that cannot be used."""
    path = (
        folder
        / {
            "link": "a.png",
            "text": "a.png",
            "empty": "a.nii.gz",
            "extension": "a.xyz",
            "missing": "a.npy",
            "cut nifti": "a.nii",
            "cut array": "a.npy",
            "objects": "a.npy",
            "text in nifti": "a.nii.gz",
            "text in dicom": "a.dcm",
            "plan": "plan.dcm",
            "entries": "a.npz",
            "escape": "a.npz",
            "no zip": "a.npz",
            "complex": "a.npy",
            "one axis": "a.npy",
            "folder": "a",
            "complex nifti": "a.nii",
        }[kind]
    )
    if kind == "link":
        path.symlink_to(folder / "elsewhere.png")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "cut nifti":
        save_nifti(path, np.zeros((9, 9, 9), np.float32))
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "complex nifti":
        save_nifti(path, np.zeros((3, 3, 3), np.complex64))
    elif kind == "cut array":
        np.save(path, np.zeros((9, 9)))
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "objects":
        np.save(path, np.array([[1, "a"]], dtype=object))
    elif kind == "complex":
        np.save(path, np.zeros((3, 3), complex))
    elif kind == "one axis":
        np.save(path, np.zeros(3))
    elif kind == "entries":
        np.savez(path, a=np.zeros((3, 3)), b=np.zeros((3, 3)))
    elif kind == "escape":
        np.savez(folder / "b.npz", np.zeros((3, 3)))
        with zipfile.ZipFile(folder / "b.npz") as good, zipfile.ZipFile(path, "w") as bad:
            bad.writestr("../../evil.npy", good.read("arr_0.npy"))
    elif kind == "plan":
        shutil.copy(get_testdata_file("rtplan.dcm", download=False), path)
    elif kind != "missing":
        path.write_text("this is text")
    return path


BAD = {
    "missing": (FileNotFoundError, "a.npy does not exist"),
    "link": (FileNotFoundError, "a.png is a link to .*elsewhere.png"),
    "empty": (ValueError, "a.nii.gz: the file is empty"),
    "text": (ValueError, "a.png: cannot identify image file"),
    "text in nifti": (ValueError, "cannot read .*a.nii.gz: "),
    "text in dicom": (ValueError, "cannot read .*a.dcm: "),
    "extension": (ValueError, r"a.xyz: .* extensions \.png, .*\.npz or DICOM; got 'a.xyz'"),
    "cut nifti": (ValueError, "a.nii: .* 3268 bytes.* 3267"),
    "cut array": (ValueError, "cannot read .*a.npy: "),
    "objects": (ValueError, "cannot read .*a.npy: "),
    "complex": (ValueError, "a.npy: .*real numbers; got complex128"),
    "complex nifti": (ValueError, "a.nii: .*real numbers; got complex64"),
    "one axis": (ValueError, r"a.npy: .*2 or 3 spatial axes.*\(3,\)"),
    "entries": (ValueError, "a.npz: .*one array; got 2: a.npy, b.npy"),
    "escape": (ValueError, "a.npz: .*'../../evil.npy'"),
    "no zip": (ValueError, "cannot read .*a.npz: "),
    "plan": (ValueError, "plan.dcm: it is a DICOM file without an image"),
    "folder": (ValueError, "a folder must be an image of DICOM or zarr; got 0 files"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_named_before_training(kind, tmp_path):
    (tmp_path / "good").mkdir()
    good, values, _ = draw_files(tmp_path / "good", 3)
    bad = spoil(tmp_path, kind)
    paths = [good[0], bad, *good[1:]]
    error, message = BAD[kind]
    with pytest.raises(error, match=message):
        ImageFiles(paths)
    with pytest.warns(UserWarning, match=f"skipped 1 of 4 files, the first .*{message}"):
        X = ImageFiles(paths, on_error="skip")
    assert_array_equal(X, values)
    assert X.kept.tolist() == [0, 2, 3]
    assert X[[2, 1]].kept.tolist() == [3, 2]
    assert X[[2, 1]].paths == [str(good[2]), str(good[1])]


def spoil_pixels(folder, kind):
    rng = np.random.default_rng(0)
    if kind == "dicom":
        path = folder / "a.dcm"
        shutil.copy(get_testdata_file("MR_truncated.dcm", download=False), path)
        return path, dicom("MR_small.dcm").pixel_array
    if kind in ("nan", "gz"):
        values = rng.normal(size=(8, 8, 8)).astype(np.float32)
        path = save_nifti(folder / "a.nii.gz", values)
        if kind == "gz":
            cut(path)
        else:
            bad = values.copy()
            bad[3, 3, 3] = np.nan
            save_nifti(path, bad)
        return path, values
    values = rng.integers(0, 256, (64, 64), dtype=np.uint8)
    path = save_picture(folder / f"a.{kind}", values)
    cut(path)
    return path, values


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "gz", "nan", "dicom"])
def test_damage_that_headers_do_not_show(kind, tmp_path):
    bad, values = spoil_pixels(tmp_path, kind)
    np.save(tmp_path / "good.npy", values)
    paths = [tmp_path / "good.npy", bad]
    # A DICOM file states the range of its numbers, and an array does not.
    options = {"intensity": "stored"} if kind == "dicom" else {}
    if kind not in ("tif",):  # its header is at the end
        X = ImageFiles(paths, **options)
        with pytest.raises(ValueError, match=f"cannot read .*{bad.name}: "):
            np.asarray(X)
        make = CNN2DClassifier if values.ndim == 2 else CNN3DClassifier
        clf = make(max_epochs=1, net={"module__width": 4})
        with pytest.raises(ValueError, match=f"cannot read .*{bad.name}: "):
            clf.fit(X, [0, 1])
        assert not hasattr(clf, "net_")
    with pytest.warns(UserWarning, match=f"skipped 1 of 2 files.*{bad.name}"):
        X = ImageFiles(paths, on_error="skip")
    assert_array_equal(X, values[None])


def test_nothing_left():
    with pytest.raises(ValueError, match=r"none of the 2 files.*/nowhere/a.png"):
        ImageFiles(["/nowhere/a.png", "/nowhere/b.png"], on_error="skip")


def test_images_of_another_number_of_axes_than_the_classifier(tmp_path):
    paths, _, y = draw_files(tmp_path, 4)
    with pytest.raises(ValueError, match=r"takes X of shape.*The first image is .*0\.npy"):
        CNN3DClassifier().fit(ImageFiles(paths), y)


def test_selections_of_files(tmp_path):
    paths, values, _ = draw_files(tmp_path)
    X = ImageFiles(paths)
    mask = np.arange(24) % 3 == 1
    for index in (
        slice(3, 20, 4),
        slice(None, None, -1),
        [5, 5, 0, -1],
        mask,
        (np.array([2]), ...),
    ):
        selected = X[index]
        assert isinstance(selected, ImageFiles)
        assert selected.shape == values[index].shape
        assert_array_equal(selected, values[index])
        again = pickle.loads(pickle.dumps(selected))
        assert_array_equal(again, values[index])
        assert again.paths == selected.paths
        assert_array_equal(again.kept, np.arange(24)[index[0] if type(index) is tuple else index])
    assert_array_equal(X[4], values[4])
    assert len(pickle.dumps(X[:2])) < len(pickle.dumps(X)) / 3
    for cache in ("memory", tmp_path / "cache"):
        cached = pickle.loads(pickle.dumps(ImageFiles(paths, cache=cache)))
        assert_array_equal(cached, values)


def test_files_in_place_of_arrays(tmp_path):
    paths, values, y = draw_files(tmp_path)
    X = ImageFiles(paths)
    clf = plain(max_epochs=2, batch_size=8, random_state=0, sampler="balanced", train_split=0.25)
    expected = clf.fit(values, y).predict_proba(values)
    assert_array_equal(clf.fit(X, y).predict_proba(X), expected)
    train, test = train_test_split(X, random_state=0, stratify=y)
    assert isinstance(train, ImageFiles)
    assert len(train) + len(test) == 24
    clf.set_params(train_split=None)
    assert_array_equal(cross_val_score(clf, X, y, cv=2), cross_val_score(clf, values, y, cv=2))
    search = GridSearchCV(clf, {"loss": ["ce", "mcc"]}, cv=2).fit(X, y)
    assert search.predict(X).shape == (24,)


@pytest.mark.slow
def test_workers_read_files(tmp_path):
    paths, values, y = draw_files(tmp_path)
    clf = plain(max_epochs=2, batch_size=8, random_state=0, sampler="balanced")
    two = cross_val_score(clf, ImageFiles(paths), y, cv=2, n_jobs=2)
    assert_array_equal(two, cross_val_score(clf, values, y, cv=2))


def test_samplers_that_select_read_no_files(tmp_path, monkeypatch):
    paths, values, y = draw_files(tmp_path)
    y = (np.arange(24) < 6).astype(int)
    X = ImageFiles(paths)
    with monkeypatch.context() as context:
        context.setattr(np, "load", None)
        selected, labels = NDSampler(RandomOverSampler(random_state=0)).fit_resample(X, y)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            NDSampler(RandomOverSampler()).fit_resample(X, y[:-1])
    assert isinstance(selected, ImageFiles)
    expected, expected_labels = NDSampler(RandomOverSampler(random_state=0)).fit_resample(values, y)
    assert_array_equal(selected, expected)
    assert_array_equal(labels, expected_labels)
    made, _ = NDSampler(SMOTE(random_state=0)).fit_resample(X, y)
    assert_array_equal(made, NDSampler(SMOTE(random_state=0)).fit_resample(values, y)[0])
    pipeline = make_pipeline(
        NDSampler(RandomOverSampler(random_state=0)), plain(max_epochs=1, random_state=0)
    )
    assert pipeline.fit(X, y).predict(X).shape == (24,)


def test_fingerprint_tells_files_apart_by_their_contents(tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.npy" for i in range(4)]
    for i, path in enumerate(paths):
        np.save(path, np.full((6, 6), i, dtype=np.uint8))
    X = ImageFiles(paths)
    monkeypatch.setattr(ImageFiles, "__array__", lambda *args, **kwargs: pytest.fail("decoded"))
    first = X.fingerprint()
    assert first == ImageFiles(paths).fingerprint() == pickle.loads(pickle.dumps(X)).fingerprint()
    assert X[[1, 2]].fingerprint() == ImageFiles(paths[1:3]).fingerprint()
    monkeypatch.chdir(tmp_path)
    assert ImageFiles([path.name for path in paths]).fingerprint() == first
    others = [X[[1, 0, 2, 3]], X[[0, 1, 2, 2]], X[:3], ImageFiles(paths, dtype="float32")]
    others += [ImageFiles(paths, size=6), ImageFiles(paths, channels=1)]
    others += [ImageFiles(paths, transform=np.flip)]
    (tmp_path / "moved").mkdir()
    for path in paths:
        shutil.copy(path, tmp_path / "moved")
    os.utime(paths[0], ns=(1, 1))
    moved = ImageFiles([tmp_path / "moved" / path.name for path in paths])
    assert first == ImageFiles(paths).fingerprint() == moved.fingerprint()
    status = os.stat(paths[0])
    np.save(paths[0], np.full((6, 6), 9, dtype=np.uint8))
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(paths[0]).st_size == status.st_size
    found = [first, ImageFiles(paths).fingerprint(), *(other.fingerprint() for other in others)]
    assert all(one != other for i, one in enumerate(found) for other in found[:i])


@pytest.mark.parametrize(
    ("dtypes", "n_kinds"),
    [(("int8", "int16"), 2), (("int16", "float32"), 2), (("int8", "int32", "float64"), 3)]
    + [(("int16", "int32"), 1), (("float32", "float64"), 1)],
)
def test_numbers_of_several_kinds_without_a_range_are_a_warning(tmp_path, dtypes, n_kinds):
    paths = [tmp_path / f"{dtype}.npy" for dtype in dtypes]
    for path, dtype in zip(paths, dtypes, strict=True):
        np.save(path, np.zeros((8, 9), dtype))
    for intensity in (None, "stored"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ImageFiles(paths, intensity=intensity)
        assert len(caught) == (n_kinds > 1 and intensity is None)
        assert all(str(w.message).count(".npy") == n_kinds for w in caught)
