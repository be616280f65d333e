"""ONNX files compute the probabilities of the classifier, or are not written."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
from torch import nn

import skimbal.classifiers.exporting
import skimbal.export
from skimbal import CNN2DClassifier, CNN3DClassifier, Pretrained, SliceNet
from skimbal.exceptions import ExportError, ParameterError
from skimbal.generators import generator_states
from skimbal.images import ImageFiles
from skimbal.networks import BUILT_IN
from skimbal.networks.slices import POOLINGS
from tests.networks.pretrained_data import tiny_network

#: The promise of to_onnx: largest difference of a probability.
TOLERANCE = 1e-5
#: Keys of the metadata whose values are text, not JSON.
TEXTS = ("skimbal.n_tta", "skimbal.dtype", "skimbal.image_size")
RNG = np.random.default_rng


def images(shape=(1, 12, 12), dtype=np.uint8, n=8):
    return RNG(0).integers(0, 256, size=(n, *shape)).astype(dtype)


def fitted(X, y=None, **params):
    """Fit a classifier for an epoch, with a small network unless another is given."""
    dim = X.ndim - 2
    y = np.arange(len(X)) % 2 if y is None else y
    params = {"module": "small", "max_epochs": 1, "random_state": 0, **params}
    if params["module"] in ("small", "residual") and "net" not in params:
        params["net"] = {"module__width": 8, "module__n_stages": 1}
    return {2: CNN2DClassifier, 3: CNN3DClassifier}[dim](**params).fit(X, y)


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(path, X):
    (probabilities,) = session_of(path).run(None, {"images": X})
    return probabilities


def metadata_of(path):
    entries = session_of(path).get_modelmeta().custom_metadata_map
    return {
        key.removeprefix("skimbal."): value if key in TEXTS else json.loads(value)
        for key, value in entries.items()
    }


def assert_same(clf, path, X):
    for rows in (X, X[:1], X[:7]):
        np.testing.assert_allclose(run(path, rows), clf.predict_proba(rows), rtol=0, atol=TOLERANCE)


def code_of_page(number):
    """Return a block of Python of the page on the export."""
    page = (Path(__file__).parents[1] / "docs" / "export.rst").read_text("utf-8")
    blocks = re.findall(r"code-block:: python\n\n((?:    .*\n|\n)+)", page)
    return textwrap.dedent(blocks[number])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return a classifier with text as classes and a correction, its images and its file."""
    X, y = images(), np.array(["cat", "dog", "cat", "owl"] * 2)
    clf = fitted(X, y, sampler="uniform", logit_adjustment=1.0)
    path = str(tmp_path_factory.mktemp("onnx") / "model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.to_onnx(path)
    return clf, X, path


def test_the_file_predicts_raw_pixels_as_the_classifier_does(plain):
    clf, X, path = plain
    assert_same(clf, path, X)
    assert abs(clf.predict_proba(X) - clf.set_params(logit_adjustment=0).predict_proba(X)).max()
    clf.set_params(logit_adjustment=1.0)


def test_the_metadata_describe_the_file(plain):
    clf, _, path = plain
    found = metadata_of(path)
    assert found["format"] == 1
    assert found["classes"] == ["cat", "dog", "owl"]
    assert found["input"] == json.loads(json.dumps(clf.input_.to_dict()))
    assert found["class_prior"] == [0.5, 0.25, 0.25]
    np.testing.assert_allclose(found["effective_prior"], clf.effective_prior_)
    assert (found["n_tta"], found["logit_adjustment"], found["crop_size"]) == ("1", 1.0, None)
    assert (found["dtype"], found["image_size"]) == ("uint8", "any")
    assert found["versions"]["torch"] == torch.__version__
    names = ["skimbal", "torch", "numpy", "onnx", "onnxscript", "onnxruntime"]
    assert list(found["versions"]) == names
    assert found["check"]["difference_from_classifier"] <= TOLERANCE
    (entry,) = session_of(path).get_inputs()
    assert (entry.name, entry.type, entry.shape) == ("images", "tensor(uint8)", ["n", 1, "h", "w"])


def test_the_file_names_no_place_of_this_machine(plain):
    with open(plain[2], "rb") as file:
        data = file.read()
    for place in (os.path.dirname(torch.__file__), os.getcwd(), "stack_trace"):
        assert place.encode() not in data


def test_images_of_another_size_or_dtype(plain):
    _, X, path = plain
    assert metadata_of(path)["image_size"] == "any"
    assert run(path, images((1, 15, 9))).shape == (8, 3)
    with pytest.raises(Exception, match="Unexpected input data type"):
        run(path, X.astype(np.float32))
    with pytest.raises(Exception, match="invalid dimensions"):
        run(path, images((2, 12, 12)))


@pytest.fixture(scope="module")
def unexported():
    """Return a classifier of flipped images, whose export the tests replace."""
    return fitted(images(), augment="flip")


def assert_unchanged(tmp_path, error, clf, n_tta=1, match=None):
    """Check that an export fails, and leaves an older file and no other."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    with pytest.raises(error, match=match):
        clf.to_onnx(path, n_tta)
    assert path.read_bytes() == b"older"
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("n_tta", [0, 2, 1.5, True, None, "mirror", [1]])
def test_other_passes_are_refused(unexported, tmp_path, n_tta):
    match = "n_tta must be 1, 'flips' or 'auto'; got"
    assert_unchanged(tmp_path, ParameterError, unexported, n_tta, match)


def test_mirror_images_that_training_has_not_seen_are_refused(plain, tmp_path):
    assert_unchanged(tmp_path, ParameterError, plain[0], "flips", "mirrors no image")


def test_paths_that_cannot_be_written_are_refused_before_the_work(unexported, tmp_path):
    with pytest.raises(IsADirectoryError, match="path must be a file"):
        unexported.to_onnx(tmp_path)
    with pytest.raises(FileNotFoundError, match="path must be in a folder that exists"):
        unexported.to_onnx(tmp_path / "none" / "model.onnx")
    with pytest.raises(TypeError):
        unexported.to_onnx(3)
    assert not list(tmp_path.iterdir())


def test_an_unfitted_classifier_is_refused(tmp_path):
    assert_unchanged(tmp_path, NotFittedError, CNN2DClassifier())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(unexported, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    match = rf'to_onnx needs {package}, which is missing. Run pip install "{package}'
    assert_unchanged(tmp_path, ImportError, unexported, "flips", match)


def test_an_older_torch_is_refused(unexported, tmp_path, monkeypatch):
    monkeypatch.delattr(torch.export.Dim, "DYNAMIC")
    assert_unchanged(tmp_path, ImportError, unexported, "flips", "needs torch 2.6 or later")


class Named(nn.Module):
    """A linear layer on the means of the channels."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.linear = nn.Linear(in_channels, n_classes)

    def forward(self, x):
        return self.linear(x.flatten(2).mean(2))


class ByNumpy(Named):
    """Computes outside of torch."""

    def forward(self, x):
        return self.linear(torch.from_numpy(x.detach().numpy().mean((2, 3))))


class Branching(Named):
    """Takes another way for some images, for all images of the batch."""

    def forward(self, x):
        logits = super().forward(x)
        return logits if logits.sum() > 0 else 2 * logits


class WithLock(Named):
    """Has an attribute that cannot be copied."""

    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle a lock")


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (ByNumpy, r"got ByNumpy, and the exporter says: RuntimeError: .numpy\(\)"),
        (Branching, "got Branching, and the exporter says: GuardOnDataDependentSymNode"),
        (WithLock, "deepcopy can copy; got WithLock, and the copy says: TypeError: cannot pickle"),
    ],
)
def test_a_network_that_cannot_be_exported_is_refused(tmp_path, capfd, module, match):
    # In evaluation mode from the start, so that the fit does not need a gradient of numpy.
    clf = fitted(images(), module=module, max_epochs=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The network is not trained")
        assert_unchanged(tmp_path, ExportError, clf, match=match)
    assert capfd.readouterr() == ("", "")


def test_another_prediction_than_the_classifier_is_refused(plain, tmp_path, monkeypatch):
    clf, _, _ = plain

    def wrong(graph, images):
        found = skimbal.classifiers.exporting.softmax(graph.module(torch.from_numpy(images)))
        return skimbal.export.Export(None, True, 0.0, found.detach().numpy() + 2e-5, {})

    clf.set_params(logit_adjustment=0.0)
    monkeypatch.setattr(skimbal.classifiers.exporting, "export", wrong)
    assert_unchanged(tmp_path, ExportError, clf, match="a largest difference of 2.0e-05 on images")
    clf.set_params(logit_adjustment=1.0)


@pytest.mark.parametrize(
    ("of_classifier", "of_file", "match"),
    [
        ("auto", 1, "n_tta='auto', the mean over mirror images. Pass n_tta='flips'"),
        (3, 1, "n_tta=3, the mean over random passes. Pass n_tta='flips'"),
        (1, "flips", "n_tta=1. Set n_tta='flips'"),
        (3, "auto", "n_tta=3, the mean over random passes. Set n_tta='auto'"),
        ("auto", "flips", None),
        ("flips", "auto", None),
        (1, 1, None),
    ],
)
def test_other_passes_than_of_the_classifier_are_told(
    unexported, tmp_path, monkeypatch, of_classifier, of_file, match
):
    def stop(graph, images):
        assert list(graph.mirrored) == ([] if of_file == 1 else [0, 1])
        raise ExportError("Stop.")

    monkeypatch.setattr(skimbal.classifiers.exporting, "export", stop)
    monkeypatch.setattr(unexported, "n_tta", of_classifier)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert_unchanged(tmp_path, ExportError, unexported, of_file)
    assert [match in str(each.message) for each in found] == ([] if match is None else [True])
    assert [each.filename for each in found] == [__file__] * len(found)


def test_labels_without_a_form_in_json_are_refused(unexported, tmp_path, monkeypatch):
    dates = np.array(["2001-01-01", "2002-02-02"], dtype="datetime64[D]")
    monkeypatch.setattr(unexported, "classes_", dates)
    match = "classes_ must hold text, numbers or booleans"
    assert_unchanged(tmp_path, ExportError, unexported, "flips", match)


def test_another_process_needs_numpy_and_onnxruntime_only(plain, tmp_path):
    clf, X, path = plain
    code = (
        code_of_page(0)
        + "np.savez('found.npz', decisions=decisions, probabilities=probabilities)\n"
        + "import sys\nassert not {'torch', 'skimbal', 'sklearn'} & set(sys.modules)"
    )
    shutil.copy(path, tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", X[:, 0])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "found.npz")
    expected = clf.predict_proba(X)
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=TOLERANCE)
    assert found["decisions"].tolist() == clf.predict(X).tolist()
    np.save(tmp_path / "images.npy", X / 255)
    wrong = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert "images must be uint8 of shape [1, 12, 12]" in wrong.stderr


def settings():
    """Return settings of a process that an export may not change."""
    states = generator_states("cpu")
    return (
        (states.python, states.numpy[1].tolist(), states.numpy[2], states.torch.tolist()),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        [*warnings.filters],
        [logging.getLogger(name).level for name in ("torch", "torch.onnx", "onnxscript")],
    )


@pytest.mark.slow
def test_nothing_else_changes(tmp_path, capfd):
    X = images()
    clf = fitted(X, module=Named)
    clf.net_.module_.train()
    weights = {name: w.clone() for name, w in clf.net_.module_.state_dict().items()}
    expected, before = clf.predict_proba(X), settings()
    with torch.inference_mode():
        clf.to_onnx(tmp_path / "model.onnx")
    assert settings() == before
    assert capfd.readouterr() == ("", "")
    assert all(torch.equal(w, weights[name]) for name, w in clf.net_.module_.state_dict().items())
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert not clf.net_.module_._forward_hooks
    assert_same(clf, tmp_path / "model.onnx", X)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 9, 12, 10)], ids=["2D", "3D"])
@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "slices"])
def test_each_built_in_network_is_exported(tmp_path, name, shape):
    X = images(shape)
    net = {"module__width": 8} if name.startswith("resnet") else None
    clf = fitted(X, module=name, net=net)
    clf.to_onnx(tmp_path / "model.onnx")
    assert_same(clf, tmp_path / "model.onnx", X)
    assert metadata_of(tmp_path / "model.onnx")["image_size"] == "any"


@pytest.mark.slow
@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_of_slices_is_exported(tmp_path, pooling):
    X = images((1, 5, 10, 10))
    clf = fitted(X, module=SliceNet(Pretrained(tiny_network), pooling=pooling, neighbours=1))
    clf.to_onnx(tmp_path / "model.onnx")
    assert_same(clf, tmp_path / "model.onnx", X)
    found = metadata_of(tmp_path / "model.onnx")["image_size"]
    assert found == ("fixed" if pooling == "lstm" else "any")


@pytest.mark.slow
def test_mirror_images_crop_and_pixels_that_are_not_finite(tmp_path):
    X = images((3, 14, 13), np.float32)
    clf = fitted(X, augment="flip", crop_size=(10, 11), module="residual", n_tta="flips")
    clf.to_onnx(tmp_path / "model.onnx", "flips")
    assert_same(clf, tmp_path / "model.onnx", X)
    assert np.abs(run(tmp_path / "model.onnx", X) - clf.set_params(n_tta=1).predict_proba(X)).max()
    for value in (np.nan, np.inf, -np.inf):
        X[2, 1, 5, 5] = value
        is_nan = np.isnan(run(tmp_path / "model.onnx", X)).all(1)
        assert is_nan.tolist() == [False, False, True, *[False] * 5]
    # Larger images have the same window in their centre, and smaller ones are an error.
    wide = np.pad(images((3, 14, 13), np.float32), [(0, 0), (0, 0), (3, 3), (2, 2)])
    found = run(tmp_path / "model.onnx", wide)
    expected = clf.set_params(n_tta="flips").predict_proba(images((3, 14, 13), np.float32))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    with pytest.raises(Exception, match="out of data bounds"):
        run(tmp_path / "model.onnx", wide[:, :, :9])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float16, np.uint16, bool, ">i2"])
def test_pixels_of_any_dtype(tmp_path, dtype):
    X = images(dtype=dtype)
    y = np.array([True, False] * 4)
    clf = fitted(X, y, module=Named)
    clf.to_onnx(tmp_path / "model.onnx")
    X = X.astype(X.dtype.newbyteorder("="))
    assert_same(clf, tmp_path / "model.onnx", X)
    found = metadata_of(tmp_path / "model.onnx")
    assert (found["dtype"], found["classes"]) == (str(X.dtype), [False, True])


@pytest.mark.slow
def test_pixels_of_float64_that_float32_cannot_tell_apart(tmp_path):
    X = 1e9 + images(dtype=np.float64) / 256
    assert len(np.unique(X.astype(np.float32))) == 1
    clf = fitted(X, module=Named, lr=0.1)
    clf.to_onnx(tmp_path / "model.onnx")
    assert np.ptp(clf.predict_proba(X)[:, 0]) > 100 * TOLERANCE
    assert_same(clf, tmp_path / "model.onnx", X)


@pytest.mark.slow
def test_low_precision_is_told_with_its_difference(tmp_path):
    X = images(dtype=np.float32)
    clf = fitted(X, module=Named, dtype="bfloat16", lr=0.5)
    with pytest.warns(UserWarning, match=r"in float32, and this classifier in torch.bfloat16 on"):
        clf.to_onnx(tmp_path / "model.onnx")
    found = metadata_of(tmp_path / "model.onnx")["check"]
    assert found["difference_from_graph"] <= TOLERANCE < found["difference_from_classifier"] < 0.1


class Random(Named):
    """Drops features in predictions, too."""

    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class OneSize(Named):
    """Takes images of one size."""

    def __init__(self, in_channels, n_classes):
        super().__init__(12 * 12 * in_channels, n_classes)

    def forward(self, x):
        return self.linear(x.flatten(1))


class RoundsUp(Named):
    """Takes any size, and rounds in a way that the graph of ONNX does not."""

    def forward(self, x):
        half = -(-x.shape[3] // 2)
        return self.linear(x[..., :half].flatten(2).mean(2))


@pytest.mark.slow
def test_a_random_network_is_refused(tmp_path):
    clf, before = fitted(images(), module=Random), settings()
    assert_unchanged(tmp_path, ExportError, clf, match="Random, with a largest difference of")
    assert settings() == before


@pytest.mark.slow
@pytest.mark.parametrize("module", [OneSize, RoundsUp])
def test_the_size_is_fixed_where_the_graph_is_right_for_one_size(tmp_path, module):
    X = images()
    clf = fitted(X, module=module)
    clf.to_onnx(tmp_path / "model.onnx")
    assert_same(clf, tmp_path / "model.onnx", X)
    assert metadata_of(tmp_path / "model.onnx")["image_size"] == "fixed"
    with pytest.raises(Exception, match="invalid dimensions"):
        run(tmp_path / "model.onnx", images((1, 13, 13)))


@pytest.mark.slow
def test_a_loaded_classifier_of_files_is_exported(tmp_path, monkeypatch):
    pixels = images((14, 10))
    paths = [tmp_path / f"{i}.png" for i in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    files = ImageFiles(paths, size=(8, 8), intensity="full_range")
    clf = CNN2DClassifier(module="small", max_epochs=1, random_state=0)
    clf.fit(files, ["no", "yes"] * 4).save(tmp_path / "model.skimbal")
    loaded = skimbal.load(tmp_path / "model.skimbal")
    loaded.to_onnx(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    code = code_of_page(1).replace("new/", "")
    names = {}
    exec(compile(code, "export.rst", "exec"), names)
    expected = clf.predict_proba(files[1:3])
    np.testing.assert_allclose(names["probabilities"], expected, rtol=0, atol=TOLERANCE)
