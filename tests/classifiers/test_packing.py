"""Classifiers come back from a file as they were: predictions, parameters, attributes."""

import warnings

import numpy as np
import pytest
import torch
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from sklearn.model_selection import StratifiedKFold
from skorch.callbacks import EpochScoring
from torch import nn

import skimbal
from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, SliceNet, augmentation
from skimbal.classifiers.parameters import NotKept
from skimbal.exceptions import ParameterError
from skimbal.losses import FocalLoss, SoftMCCLoss
from skimbal.persistence import read_card

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 200, (24, 8, 8), dtype=np.uint8)
VOLUMES = RNG.integers(0, 200, (12, 6, 8, 8), dtype=np.uint8)
METHODS = ("predict_proba", "predict_log_proba", "decision_function", "predict", "transform")

# Two epochs of a tiny network may end in one class.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fit(n_axes=2, X=None, y=None, **params):
    kind = CNN2DClassifier if n_axes == 2 else CNN3DClassifier
    X = (IMAGES if n_axes == 2 else VOLUMES) if X is None else X
    y = np.arange(len(X)) % 3 if y is None else y
    params = {"module": "small", "max_epochs": 1, "random_state": 0, "batch_size": 8, **params}
    return kind(**params).fit(X, y), X


def saved(clf, tmp_path, **options):
    path = tmp_path / "model.skimbal"
    clf.save(path)
    return skimbal.load(path, **options)


def assert_equal_predictions(first, second, X, methods=METHODS):
    for method in methods:
        expected, found = getattr(first, method)(X), getattr(second, method)(X)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=method)


def assert_same_layout(first, second):
    for (name, weight), (other_name, other) in zip(
        first.net_.module_.state_dict(keep_vars=True).items(),
        second.net_.module_.state_dict(keep_vars=True).items(),
        strict=True,
    ):
        assert (name, weight.stride(), weight.dtype) == (other_name, other.stride(), other.dtype)
        assert weight.requires_grad == other.requires_grad


def check(clf, X, tmp_path, **options):
    loaded = saved(clf, tmp_path, **options)
    assert_equal_predictions(clf, loaded, X)
    assert_same_layout(clf, loaded)
    assert repr(loaded.get_params()) == repr(clf.get_params())
    return loaded


def test_everything_that_a_fit_leaves_comes_back(tmp_path):
    clf, X = fit(max_epochs=2, train_split=0.3, class_weight={0: 1.0, 1: 2.0, 2: 0.5})
    loaded = check(clf, X, tmp_path)
    for name in ("classes_", "input_shape_", "n_features_in_", "input_", "class_prior_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(clf, name))
    assert (loaded.n_epochs_, loaded.n_steps_) == (2, clf.n_steps_)
    assert (loaded.lr_, loaded.batch_size_) == (clf.lr_, clf.batch_size_)
    for name in ("train_loss", "valid_loss", "dur", "event_lr"):
        assert loaded.history_[:, name] == clf.history_[:, name]
    assert loaded.get_feature_names_out().tolist() == clf.get_feature_names_out().tolist()
    assert {*vars(clf)} - {*vars(loaded)} == set()


@pytest.mark.parametrize(
    ("n_axes", "module", "net"),
    [
        (2, "small", {}),
        (2, "residual", {"module__width": 4}),
        (3, "small", {}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (2, "resnet18", {"module__width": 4}),
                (2, "resnet34", {"module__width": 4, "module__norm": "batch"}),
                (2, "resnet18", {"module__width": 4, "module__norm": "batch"}),
                (3, "residual", {"module__width": 4}),
                (3, "resnet18", {"module__width": 4}),
                (3, "slices", {"module__pooling": "max"}),
            )
        ),
    ],
)
def test_built_in_networks(n_axes, module, net, tmp_path):
    clf, X = fit(n_axes, module=module, net=net)
    check(clf, X, tmp_path)


@pytest.mark.parametrize("pooling", ["attention", "max", "mean", "lstm"])
def test_networks_of_slices(pooling, tmp_path):
    module = SliceNet(pooling=pooling, neighbours=1, options={"width": 4})
    clf, X = fit(3, module=module)
    loaded = check(clf, X, tmp_path)
    if pooling != "lstm":
        assert_equal_predictions(clf, loaded, X, ["slice_weights"])


@pytest.mark.parametrize(
    "labels",
    [
        ["benign", "Ä|\n", "malignant"],
        [1000, -1, 2**62],
        [True, False],
        [0.0, 1.0, 7.0],
        [np.int8(3), np.int8(4)],
        np.array(["a", "b", "c"], dtype="<U20"),
        np.array(["a", "b", "c"], dtype=object),
    ],
    ids=["text", "ints", "bools", "floats", "int8", "wide", "objects"],
)
def test_labels_keep_their_dtype(labels, tmp_path):
    labels = np.asarray(labels)
    clf, X = fit(y=labels[np.arange(len(IMAGES)) % len(labels)])
    loaded = saved(clf, tmp_path)
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert loaded.predict(X).tolist() == clf.predict(X).tolist()


@pytest.mark.parametrize(
    "params",
    [
        {"augment": "flip"},
        {"augment": "light", "n_tta": 3},
        {"augment": [augmentation.RandomFlip(axes=[-1]), "paper"], "crop_size": 6},
        {"crop_size": (6, 7), "n_tta": 2, "augment": None},
        {"logit_adjustment": 0.7, "sampler": "uniform"},
        {"dtype": "float64"},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
        {"standardize": False},
        {"feature_layer": "0"},
        {"optimizer": "lbfgs", "augment": None},
        {"loss": LossMix(ce=1, mcc=0.5, statistics="moving")},
        {"loss": FocalLoss(3.0), "sampler": RandomOverSampler(random_state=1)},
        {"loss": SoftMCCLoss, "sampler": RandomUnderSampler(sampling_strategy={0: 3, 1: 3, 2: 3})},
        {"loss": "ldam", "optimizer": torch.optim.SGD, "lr": 0.01, "lr_schedule": None},
        {"net": {"optimizer__weight_decay": 1e-3, "module__norm": "batch"}, "verbose": False},
        {"net": {"optimizer__param_groups": [("network.*", {"lr": 1e-3})]}},
        {"random_state": np.int64(3), "batch_size": np.int32(8), "lr": np.float32(1e-3)},
        {"max_epochs": 0},
    ],
    ids=lambda params: ",".join(params),
)
@pytest.mark.filterwarnings("ignore:loss=:skimbal.CollapseWarning")
@pytest.mark.filterwarnings("ignore:The classifier:UserWarning")
def test_parameters_come_back(params, tmp_path):
    if params.get("feature_layer"):
        params["feature_layer"] = "features.0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clf, X = fit(**params)
        check(clf, X, tmp_path)


# Values that a file cannot hold -------------------------------------------------------------------


class OwnLoss(nn.Module):
    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits, target)


def own_change(images):
    return images.flip(2)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("loss", OwnLoss(), "OwnLoss"),
        ("loss", nn.CrossEntropyLoss(label_smoothing=0.1), "CrossEntropyLoss"),
        ("callbacks", [EpochScoring("accuracy")], "EpochScoring"),
        ("augment", own_change, "own_change"),
        ("augment", [own_change, "flip"], "own_change"),
        ("train_split", StratifiedKFold(3), "StratifiedKFold"),
        ("random_state", np.random.RandomState(0), "RandomState"),
        ("net", {"iterator_train__num_workers": 0, "optimizer__own": own_change}, "own_change"),
        ("optimizer", type("OwnAdam", (torch.optim.Adam,), {}), "OwnAdam"),
    ],
)
def test_a_value_that_is_not_kept_is_named_and_asked_for(name, value, words, tmp_path):
    if name == "net":
        clf, X = fit()
        clf.set_params(net=value)
    else:
        clf, X = fit(**{name: value})
    path = tmp_path / "model.skimbal"
    parameter = "net__optimizer__own" if name == "net" else name
    with pytest.warns(UserWarning, match=f"does not hold {parameter} .*{words}"):
        clf.save(path)
    loaded = skimbal.load(path)
    assert f"- {parameter} (" in read_card(path)
    assert_equal_predictions(clf, loaded, X)
    y = np.arange(len(X)) % 3
    before = loaded.predict_proba(X)
    for train in (loaded.fit, loaded.partial_fit):
        with pytest.raises(ParameterError, match=f"^{parameter} must be .*set anew.*{words}"):
            train(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), before)
    with pytest.warns(UserWarning, match=words):
        loaded.save(path)  # once more
    assert isinstance(skimbal.load(path).get_params().get(parameter), NotKept)
    loaded.set_params(**{name: CNN2DClassifier().get_params()[name]}).fit(X, y)
