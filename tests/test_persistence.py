"""Loading and the card through the public names, pickles of other libraries, earlier versions."""

import copy
import io
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pytest
import safetensors.torch
import skops.io
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Checkpoint, EpochScoring, TrainEndCheckpoint
from torch import nn

import skimbal
from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix
from skimbal.persistence import load, read_card
from tests.models.write import MODELS

RNG = np.random.default_rng(0)
X = RNG.integers(0, 200, (24, 8, 8), dtype=np.uint8)
Y = np.array(["benign", "malignant", "none"])[np.arange(24) % 3]
OURS = "skimbal.classifiers.base.CNN2DClassifier"

# Two epochs of a tiny network may end in one class.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fit(**params):
    params = {"module": "small", "max_epochs": 1, "random_state": 0, **params}
    return CNN2DClassifier(**params).fit(X, Y)


def dense(in_channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, n_classes))


def test_load_is_a_public_name(tmp_path):
    clf = fit()
    clf.save(str(tmp_path / "model"))
    assert skimbal.load is load
    loaded = skimbal.load(tmp_path / "model")
    assert type(loaded) is CNN2DClassifier
    np.testing.assert_array_equal(loaded.predict(X), clf.predict(X))
    assert read_card(tmp_path / "model").startswith("# Model card: CNN2DClassifier\n")
    for path in (3, None, b"model"):
        with pytest.raises(TypeError):
            load(path)


def test_a_file_that_exists_is_replaced(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"something else")
    fit().save(path, description="new")
    assert "new" in read_card(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_models_of_earlier_versions_predict_the_same(name):
    for path in Path(__file__).parent.glob(f"models/{name}-*.skimbal"):
        expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
        *_, images = MODELS[name]()
        clf = load(path)
        assert clf.classes_.tolist() == expected["classes"]
        np.testing.assert_allclose(
            clf.predict_proba(images), expected["probabilities"], rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            clf.history_[:, "train_loss"], expected["train_loss"], rtol=1e-12
        )
        assert repr(clf) == expected["repr"]
        assert "License: CC0-1.0" in read_card(path)


def test_each_kind_of_model_has_a_file():
    files = {path.stem.partition("-")[0] for path in Path(__file__).parent.glob("models/*.skimbal")}
    assert files == set(MODELS)


# Pickles and their relatives ----------------------------------------------------------------------


def by_pickle(clf):
    return pickle.loads(pickle.dumps(clf))


def by_cloudpickle(clf):
    return pickle.loads(cloudpickle.dumps(clf))


def by_skops(clf):
    data = skops.io.dumps(clf)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


def by_joblib(clf, **options):
    file = io.BytesIO()
    joblib.dump(clf, file, **options)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize(
    "there_and_back",
    [by_pickle, copy.copy, copy.deepcopy, by_cloudpickle, by_joblib, by_skops],
    ids=lambda function: function.__name__,
)
def test_every_format_keeps_predictions_and_training(there_and_back):
    for clf in (fit(loss=LossMix(ce=1, f1=1), augment="flip"), fit(module=dense)):
        other = there_and_back(clf)
        assert_same(clf, other)
        other.partial_fit(X, Y)
        bare = there_and_back(CNN2DClassifier(**clf.get_params(deep=False)))
        assert repr(bare.get_params()) == repr(clf.get_params())
        assert not hasattr(bare, "net_")


def params_of(clf):
    """Return the parameters as text, without the addresses of objects."""
    return re.sub(r" at 0x\w+", "", repr(clf.get_params()))


def assert_same(clf, other):
    assert other is not clf
    assert params_of(other) == params_of(clf)
    np.testing.assert_array_equal(other.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(other.transform(X), clf.transform(X))
    assert [weight.stride() for weight in other.net_.module_.parameters()] == [
        weight.stride() for weight in clf.net_.module_.parameters()
    ]


@pytest.mark.slow
def test_joblib_compresses_and_maps_files(tmp_path):
    clf = fit(dtype="float64")
    assert_same(clf, by_joblib(clf, compress=3))
    for mode in (None, "r", "r+", "c"):
        joblib.dump(clf, tmp_path / "model.joblib")
        loaded = joblib.load(tmp_path / "model.joblib", mmap_mode=mode)
        assert_same(clf, loaded)
        loaded.partial_fit(X, Y)


def test_a_lambda_goes_with_cloudpickle_only():
    clf = fit(module=lambda c, k: dense(c, k))
    assert_same(clf, by_cloudpickle(clf))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(clf)


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    ("params", "trusted"),
    [
        ({}, set()),
        ({"loss": LossMix(ce=1, mcc=1), "augment": "paper", "dtype": "float16"}, set()),
        ({"module": dense}, {f"{__name__}.dense"}),
    ],
)
def test_skops_has_one_class_to_trust(params, trusted, fitted):
    clf = fit(**params) if fitted else CNN2DClassifier(**params)
    data = skops.io.dumps(clf)
    assert set(skops.io.get_untrusted_types(data=data)) == {OURS} | trusted
    # No pickle is hidden in it, which would run the code of anybody.
    assert b"torch._utils" not in data
    assert b"pickle" not in data
    loaded = skops.io.loads(data, trusted=[OURS, *trusted])
    assert repr(loaded) == repr(clf)
    if fitted:
        assert_same(clf, loaded)
    with pytest.raises(skops.io.exceptions.UntrustedTypesFoundException):
        skops.io.loads(data, trusted=[])


def test_skops_takes_pipelines_and_objects():
    clf = fit(callbacks=[EpochScoring("accuracy", name="acc")])
    pipeline = make_pipeline(FunctionTransformer(), clf)
    data = skops.io.dumps(pipeline)
    types = skops.io.get_untrusted_types(data=data)
    assert "skorch.callbacks.scoring.EpochScoring" in types
    loaded = skops.io.loads(data, trusted=types)
    assert_same(clf, loaded[-1])
    assert loaded[-1].callbacks[0].name == "acc"


@pytest.mark.slow
def test_mlflow_logs_and_loads_every_format(tmp_path):
    clf = fit()
    clf.save(tmp_path / "model.skimbal")
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "proba.npy", clf.predict_proba(X))
    (tmp_path / "elsewhere").mkdir()
    script = """
import sys
import mlflow, mlflow.sklearn
import numpy as np
import torch
import skimbal
torch.set_num_threads(1)
clf, X = skimbal.load("../model.skimbal"), np.load("../X.npy")
assert np.array_equal(clf.predict_proba(X), np.load("../proba.npy"))
mlflow.set_tracking_uri("file:./runs")
for form in ("pickle", "cloudpickle", "skops"):
    trusted = {"skops_trusted_types": sys.argv[1:]} if form == "skops" else {}
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            clf, name="model", serialization_format=form, pip_requirements=[], **trusted
        )
    loaded = mlflow.sklearn.load_model(logged.model_uri)
    assert np.array_equal(loaded.predict_proba(X), clf.predict_proba(X)), form
    served = mlflow.pyfunc.load_model(logged.model_uri)
    assert (served.predict(X) == clf.predict(X)).all(), form
"""
    # In a process of its own, as mlflow changes loggers and warnings of the whole process.
    done = subprocess.run(
        [sys.executable, "-c", script, OURS],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(skimbal.__file__).parents[1]),
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",
            "MLFLOW_ALLOW_FILE_STORE": "true",
        },
    )
    assert done.returncode == 0, done.stderr


# Weights in safetensors ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Checkpoint, TrainEndCheckpoint])
def test_checkpoints_of_skorch_write_safetensors(kind, tmp_path):
    options = {"monitor": None} if kind is Checkpoint else {}
    checkpoint = kind(dirname=tmp_path, use_safetensors=True, f_optimizer=None, **options)
    clf = fit(callbacks=[checkpoint], module="residual")
    path = next(tmp_path.glob("*params.pt"))
    found = safetensors.torch.load_file(path)
    assert found.keys() == clf.net_.module_.state_dict().keys()
    expected = clf.predict_proba(X)
    strides = [weight.stride() for weight in clf.net_.module_.parameters()]
    with torch.no_grad():
        for weight in clf.net_.module_.parameters():
            weight.mul_(2)
    clf.net_.load_params(f_params=path, use_safetensors=True)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert [weight.stride() for weight in clf.net_.module_.parameters()] == strides


def test_weights_go_to_safetensors_by_any_way(tmp_path):
    volumes = RNG.integers(0, 200, (12, 6, 8, 8), dtype=np.uint8)
    params = {"module": "small", "max_epochs": 1, "random_state": 0}
    for clf in (fit(module="residual"), CNN3DClassifier(**params).fit(volumes, Y[:12])):
        path, module = tmp_path / "weights.safetensors", clf.net_.module_
        safetensors.torch.save_file(module.state_dict(), path)
        safetensors.torch.save_file(module.network.state_dict(), path)
        safetensors.torch.save_model(module, str(path))
        clf.net_.save_params(f_params=path, use_safetensors=True)
        for name, weight in safetensors.torch.load_file(path).items():
            assert torch.equal(weight, module.state_dict(keep_vars=True)[name])
