"""Attributes that are of another type, or do not fit each other, are refused by name."""

import numpy as np
import pytest

import skimbal
from skimbal import CNN2DClassifier
from skimbal.exceptions import ModelFileError
from skimbal.images import ImageFiles
from skimbal.model_file import read_model_file, write_model_file

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 200, (16, 8, 8), dtype=np.uint8)
LABELS = np.array(["benign", "malignant"])[np.arange(16) % 2]


def fit(X=IMAGES):
    clf = CNN2DClassifier(module="small", max_epochs=0, random_state=0)
    return clf.fit(X, LABELS)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The file of a model of files."""
    root = tmp_path_factory.mktemp("model")
    for i, image in enumerate(IMAGES):
        np.save(root / f"{i}.npy", image)
    clf = fit(ImageFiles([root / f"{i}.npy" for i in range(16)]))
    clf.save(root / "model.skimbal")
    return root / "model.skimbal"


def at(*keys):
    """Return a function that sets an entry of a description."""

    def put(model, value):
        for key in keys[:-1]:
            model = model[key]
        model[keys[-1]] = value

    return put


ATTRIBUTES, INPUT = ("attributes",), ("attributes", "input")
FILES, PIXELS = (*INPUT, "files"), (*INPUT, "pixels")


@pytest.mark.parametrize(
    ("put", "value", "words"),
    [
        (at(*ATTRIBUTES, "classes"), ["a", "b"], "classes_ must be an array of 2 different labels"),
        (at(*ATTRIBUTES, "classes", "$array", 2), ["a", "a"], "2 different labels; got .*'a', 'a'"),
        (at(*ATTRIBUTES, "classes", "$array", 2, 0), 1, "something else"),
        (
            at(*ATTRIBUTES, "input_shape"),
            {"$tuple": [1, 8, 9]},
            r"input_shape_ must be \(1, 8, 8\)",
        ),
        (at(*ATTRIBUTES, "input_shape"), "text", "input_shape_ must be"),
        (at(*ATTRIBUTES, "n_features_in"), 65, "n_features_in_ must be 64; got 65"),
        (at(*ATTRIBUTES, "feature_names_in"), ["a"], "feature_names_in_ must be None or 64 names"),
        (at(*ATTRIBUTES, "class_mass", "$array", 2), [-1, 1], "weights of the classes must be 2"),
        (at(*ATTRIBUTES, "rows_seen", "$tuple", 1), None, "rows that the loss has seen must be"),
        (at(*ATTRIBUTES, "seed"), "0", "the seed must be"),
        (at(*ATTRIBUTES, "epochs_before"), {"$float": "inf"}, "the epochs before must be"),
        (at(*ATTRIBUTES, "known_tau"), "1", "the tau of the loss must be"),
        (at(*INPUT, "axes"), ["h", "d"], "input_ must be a form of images of .*'w'.*got .*'d'"),
        (at(*INPUT, "are_images"), 1, "are_images must be True or False"),
        (at(*INPUT, "scale"), 255, "scale must be text"),
        (at(*PIXELS, "least"), [0.0, 0.0], "as many as channels"),
        (at(*PIXELS, "n_levels"), "16", "must be numbers"),
        (at(*FILES, "functions"), ["callback"], "functions must be some of reader, transform"),
        (at(*FILES, "options", "cache"), "/tmp", "options must be a dict with the keys size"),
        (at(*FILES, "options", "resize"), "melt", "resize must be"),
        (at(*FILES, "options", "dtype"), "text", "dtype must be"),
        (at("parameters", "n_tta"), 0, "n_tta must be"),
        (at("parameters", "logit_adjustment"), "much", "logit_adjustment must be"),
        (at("parameters", "max_epochs"), "x", "max_epochs must be"),
        (at("parameters", "lr_schedule"), 3, "lr_schedule must be"),
        (at("parameters", "lr_schedule"), "two_cycles", "lr_schedule must be .*'two_cycles'"),
        (
            at("blueprint", "sample_shape"),
            [1, 8, 8],
            "shape of an image must be .*channels and h, w",
        ),
        (at("net", "activation_bytes"), "1", "values of another type: activation_bytes"),
        (at("net", "augmentation"), ["flip"], "values of another type: augmentation"),
        (at("network", "passed_again"), 1, "network that is passed again is no text"),
        (at("net", "n_features"), {"$other": ["object", "CenterCrop", {"size": 2}]}, "n_features"),
    ],
)
def test_a_value_of_another_type_is_named(put, value, words, path, tmp_path):
    file = read_model_file(path)
    put(file.model, value)
    write_model_file(tmp_path / "model", file)
    with pytest.raises(ModelFileError, match=f"(?s){words}"):
        skimbal.load(tmp_path / "model")


def test_a_parameter_that_is_missing_is_not_its_default(path, tmp_path):
    file = read_model_file(path)
    del file.model["parameters"]["n_tta"]
    write_model_file(tmp_path / "model", file)
    with pytest.raises(ModelFileError, match="there is no value of n_tta"):
        skimbal.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("classes_", ["a", "b"], "classes_ must be an array of 2 different labels"),
        ("classes_", np.array(["a", "b", "c"]), "classes_ must be"),
        ("n_tta", 0, "n_tta must be"),
        ("logit_adjustment", -1, "logit_adjustment must be"),
        ("loss", "flux", "loss must be"),
        ("optimizer", "flux", "optimizer must be"),
        ("net", {"module__width": 3}, "net must be"),
        ("net", {"module__depth": 3}, "net must be"),
        ("net", {"optimizer__flux": 3}, "net must be .*flux"),
        ("net", {"flux": 3}, "net must be .*flux"),
    ],
)
def test_nothing_is_saved_that_could_not_be_loaded(name, value, words, tmp_path):
    clf = fit()
    setattr(clf, name, value)
    with pytest.raises(ValueError, match=words):
        clf.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_other_names_of_the_classes_are_saved(tmp_path):
    clf = fit()
    clf.classes_ = np.array(["z", "a"])
    clf.save(tmp_path / "model")
    assert skimbal.load(tmp_path / "model").classes_.tolist() == ["z", "a"]
