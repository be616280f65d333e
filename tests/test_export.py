"""ONNX files compute the probabilities of the classifier, or are not written."""

import json
import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from skimbal import CNN2DClassifier, CNN3DClassifier

#: The promise of to_onnx: largest difference of a probability.
TOLERANCE = 1e-5
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
        key.removeprefix("skimbal."): value if key == "skimbal.image_size" else json.loads(value)
        for key, value in entries.items()
    }


def assert_same(clf, path, X):
    for rows in (X, X[:1], X[:7]):
        np.testing.assert_allclose(run(path, rows), clf.predict_proba(rows), rtol=0, atol=TOLERANCE)


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
    assert (found["n_tta"], found["logit_adjustment"], found["crop_size"]) == (1, 1.0, None)
    assert found["versions"]["torch"] == torch.__version__
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


def test_another_process_needs_numpy_and_onnxruntime_only(plain, tmp_path):
    clf, X, path = plain
    np.save(tmp_path / "X.npy", X)
    code = f"""
        import sys
        import numpy, onnxruntime
        session = onnxruntime.InferenceSession({path!r}, providers=["CPUExecutionProvider"])
        X = numpy.load({str(tmp_path / "X.npy")!r})
        numpy.save({str(tmp_path / "P.npy")!r}, session.run(None, {{"images": X}})[0])
        assert not {{"torch", "skimbal", "sklearn"}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "P.npy")
    np.testing.assert_allclose(found, clf.predict_proba(X), rtol=0, atol=TOLERANCE)
