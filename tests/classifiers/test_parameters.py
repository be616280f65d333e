"""Parameters, alone and together."""

import copy
import shutil

import numpy as np
import pytest
import torch
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import NearMiss
from sklearn.utils import get_tags
from skorch.callbacks import (
    Checkpoint,
    EarlyStopping,
)
from torch import nn
from torch.utils.data import DataLoader

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, NDSampler
from skimbal.losses import SoftMCCLoss
from tests.cases import quick_and_all
from tests.classifiers.data import CLASSIFIERS, FACTORY, N, Y, images, noise, small, tiny


def test_parameters_of_prediction_that_the_fit_does_not_allow():
    X, y = images()
    clf = small().fit(X, y)
    with pytest.raises(ValueError, match=r"n_tta must be 'auto' or 1 .* got 3"):
        clf.set_params(n_tta=3, augment="flip").predict(X)
    clf.fit(X, y).predict(X)
    with pytest.raises(ValueError, match=r"n_tta must be .* got 1\.5"):
        clf.set_params(n_tta=1.5).predict(X)
    with pytest.raises(ValueError, match=r"crop_size must be None.* got 4"):
        clf.set_params(n_tta=1, crop_size=4).partial_fit(X, y)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["float32", "float64"]),
        ({"dtype": "float32"}, ["float32"]),
        ({"dtype": "float64"}, ["float64"]),
        ({"dtype": "bfloat16"}, ["float32"]),
        ({"device": "cuda"}, ["float32"]),
    ],
    ids=str,
)
def test_tags_say_which_dtypes_are_kept(params, expected):
    assert get_tags(small(**params)).transformer_tags.preserves_dtype == expected


def test_compilation_without_a_compiler(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    X, y = images()
    with pytest.raises(ValueError, match=r"compile must be .*C\+\+ compiler.* got True"):
        small(compile=True).fit(X, y)


def test_precision_that_a_device_has_not(monkeypatch):
    empty = torch.empty

    def empty_without_float64(*args, dtype=None, **kwargs):
        if dtype == torch.float64:
            raise TypeError("the device has no float64")
        return empty(*args, dtype=dtype, **kwargs)

    monkeypatch.setattr(torch, "empty", empty_without_float64)
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda device: False)
    X, y = images()
    for dtype in ("float64", "bfloat16", "float16"):
        with pytest.raises(ValueError, match=f"dtype must be 'auto', 'float32' on.*got '{dtype}'"):
            small(dtype=dtype).fit(X, y)
    small(max_epochs=1).fit(X, y)


class Odd(nn.Module):
    """Losses that have no gradient by the logits alone."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.own = nn.Parameter(torch.ones(()))

    def forward(self, logits, target, sample_weight=None):
        if self.how == "needs more":
            raise TypeError("the images are missing")
        return {
            "counts": (logits.argmax(1) == target).double().mean(),
            "rows": (logits - 1).sum(1),
            "number": 1.0,
            "own": self.own * 2,
        }[self.how]


def test_bfloat16_of_volumes_on_the_cpu_is_refused(refused):
    X = np.zeros((N, 6, 6, 6), dtype=np.uint8)
    refused(
        lambda: tiny(CNN3DClassifier, dtype="bfloat16").fit(X, Y),
        "dtype must be ",
        "got 'bfloat16'",
    )


def one_output(in_channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(1))


def no_logits(in_channels, n_classes):
    class Network(nn.Linear):
        def forward(self, x):
            return {"logits": x}

    return Network(1, 1)


def nan_outputs(in_channels, n_classes):
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes))

    def spoil(module, args, output):
        return output * np.nan

    network.register_forward_hook(spoil)
    return network


class Unused(nn.Module):
    """Has a layer that does not run, and one whose input has no row for each sample."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.spare, self.turned = nn.Linear(2, 2), nn.Identity()
        self.classifier = nn.Linear(36 if in_channels == 1 else 0, n_classes)

    def forward(self, x):
        x = self.turned(x.flatten(1)[:, :36].T).T
        return self.classifier(x)


class OwnLBFGS(torch.optim.LBFGS):
    pass


TERMS = "ce, wce, focal, f1, mcc, la, balanced_softmax, ldam, cb, cb_focal, drw, ldam_drw"


def refuses(name, *values):
    """Return the cases of one parameter: the message names it and shows the value."""
    return [({name: value}, [f"{name} must be ", f"got {value!r}"]) for value in values]


def refuses_option(name, value=1):
    """Return the case of one option of the net."""
    return {"net": {name: value}}, ["net must be ", f"got {name!r}"]


BAD_PARAMS = [
    *(
        ({"loss": loss}, ["loss must be ", f"got {loss!r}", TERMS])
        for loss in ("mse", "CE", "", "ce-mcc", LossMix())
    ),
    ({"loss": "0*ce"}, ["loss must be ", "got LossMix()"]),
    ({"loss": LossMix(ce=np.nan)}, ["ce must be a finite number of at least 0", "nan"]),
    *refuses("sampler", "smote", True, RandomOverSampler),
    ({"sampler": "smote"}, ["sampler must be 'auto', one of 'uniform', ", "got 'smote'"]),
    *refuses("augment", "lihgt", 3),
    ({"augment": "lihgt"}, ["augment must be 'auto', None, 'light', ", "got 'lihgt'"]),
    ({"augment": ["flip", "auto"]}, ["augment must be None, 'light', ", "got 'auto'"]),
    *(
        ({name: "x"}, [f"{name} must be 'auto'", "got 'x'"])
        for name in ("batch_size", "lr", "max_epochs", "module", "n_tta", "standardize")
    ),
    ({"sampler": NDSampler(RandomOverSampler())}, ["sampler must be ", "NDSampler"]),
    ({"sampler": SMOTE()}, ["must be 'auto' or a", "got SMOTE()", "(NDSampler(SMOTE()), ...)"]),
    ({"sampler": NearMiss()}, ["sampler must", "got NearMiss()", "(NDSampler(NearMiss()), ...)"]),
    *refuses("epoch_length", 0, -1, 2.5, True, "long"),
    *refuses("standardize", "yes", None),
    *refuses("warm_start", "yes", None),
    ({"module": "resnet50"}, ["module must be 'auto', 'small', 'residual', ", "got 'resnet50'"]),
    ({"module": nn.Linear(2, 2)}, ["must be 'auto', 'small'", "Linear", FACTORY, "in a function"]),
    *refuses("module", None, 18, ["small"]),
    ({"optimizer": "adamm"}, ["optimizer must be ", "'adam'", "'adamm'"]),
    ({"optimizer": torch.optim.SGD([torch.ones(1)])}, ["optimizer must be ", "SGD"]),
    *refuses("optimizer", torch.optim.Optimizer, nn.Linear, None),
    *refuses("device", "gpu", "", None, -1, 3.5, "meta", ["cpu"]),
    *refuses("dtype", "half", None, torch.float32, ["float32"]),
    *(
        ({"optimizer": optimizer, name: value}, [f"{name} must be {words}", repr(value)])
        for optimizer in ("lbfgs", OwnLBFGS)
        for name, value, words in (
            ("dtype", "float16", "'auto', "),
            ("augment", "flip", "'auto' or None with this optimizer"),
            ("crop_size", 4, "None with this optimizer"),
        )
    ),
    *refuses("compile", "yes", None),
    *refuses("distributed", "yes", None),
    *refuses("feature_layer", 3, nn.Linear),
    ({"feature_layer": "clasifier"}, ["feature_layer", "'clasifier'", "'classifier'"]),
    ({"feature_layer": "xyzzy"}, ["feature_layer", "'xyzzy'", "'dropout', 'classifier'"]),
    (
        {"module": Unused, "net": None, "feature_layer": "spare"},
        ["feature_layer must", "got 'spare'", "does not run"],
    ),
    (
        {"module": Unused, "net": None, "feature_layer": "turned"},
        ["feature_layer must", "got 'turned'", "a tensor with one entry", "gets something else"],
    ),
    *refuses("lr_schedule", "linear", 0.1),
    *refuses("lr", np.nan, -1e-3, 0, np.inf, "0.1", "Auto", None, True, [0.1]),
    *(
        case
        for name in ("batch_size", "max_epochs", "micro_batch_size", "n_tta")
        for case in refuses(name, -3, 1.5, 2.0, True, "32", np.nan)
    ),
    *(case for name in ("batch_size", "micro_batch_size", "n_tta") for case in refuses(name, 0)),
    *refuses("batch_size", None),
    *refuses("micro_batch_size", "half", "Auto"),
    *refuses("max_epochs", None),
    *refuses("n_tta", None, 3),
    (
        {"micro_batch_size": 9, "batch_size": 8},
        ["micro_batch_size must be ", "batch_size=8", "got 9"],
    ),
    *(
        ({"loss": LossMix(mcc=1, **{name: value})}, [f"{name} must be", f"got {value!r}"])
        for name, value in (("statistics", "global"), ("horizon", 0), ("warmup_epochs", -1))
    ),
    (
        {"loss": LossMix(mcc=1, statistics="moving"), "optimizer": "lbfgs"},
        ["statistics must be ", "got 'moving'"],
    ),
    *refuses("logit_adjustment", -1, np.nan, np.inf, "1", None, True, [1]),
    ({"loss": LossMix(la=1, la_tau=-1)}, ["la_tau must be", "got -1"]),
    *(
        ({"loss": loss, "micro_batch_size": size}, [f"size={size!r}", "logits alone", *words])
        for loss, words in (
            (Odd("needs more"), ["got Odd, which failed in a trial", "missing"]),
            (Odd("counts"), ["Odd, which gave shape ()"]),
            (Odd("rows"), ["Odd, which gave shape (", "scalar"]),
            (Odd("number"), ["Odd, which gave 1.0"]),
            (Odd("own"), ["got Odd, which does not depend on them"]),
        )
        for size in (2, "auto")
    ),
    *refuses("verbose", -1, 1.0, "1", None),
    *refuses("random_state", "seed", -1, 2**32, 1.5, [0], np.random.default_rng),
    ({"class_weight": "even"}, ["class_weight", "dict", "'balanced'", "None", "'even'"]),
    ({"class_weight": [1, 2]}, ["class_weight", "dict", "'balanced'", "None", "[1, 2]"]),
    ({"class_weight": {7: 1.0}}, ["[0, 1]", "not in class_weight"]),
    *refuses(
        "class_weight",
        {0: -1, 1: 1},
        {0: np.nan},
        {0: np.inf},
        {0: 0, 1: 0},
        {0: "heavy", 1: 1},
    ),
    *refuses("net", "adam", [("lr", 1)]),
    ({"net": {1: 2}}, ["net must be ", "got 1"]),
    *map(
        refuses_option,
        ("lr", "batch_size", "criterion", "module", "device", "callbacks", "classes")
        + ("train_split", "max_epochs", "optimizer", "micro_batch_size", "feature_layer")
        + ("leraning_rate", "module__n_classes", "module__factory", "module__mean")
        + ("iterator_train__sampler", "iterator_train__classes", "iterator_train__epoch_length"),
    ),
    ({"net": {"iterator_train__batch_size": 4}}, ["net must be ", "parameter batch_size"]),
    ({"net": {"optimizer__lr": 1e-3}}, ["net must be ", "got 'optimizer__lr'", "parameter lr"]),
    ({"net": {"optimizer__weight_decay": -1}}, ["weight_decay", "-1"]),
    ({"net": {"module__width": 0}}, ["width", "got 0", "width=0"]),
    refuses_option("callbacks__stop__patience", 2),
    *(
        ({"net": {"iterator_train": DataLoader}, name: value}, [words, repr(value)])
        for name, value, words in (
            ("sampler", "balanced", "sampler must be 'auto' or 'uniform' with net"),
            ("epoch_length", 3, "epoch_length must be None with net"),
        )
    ),
    ({"callbacks": EarlyStopping()}, ["callbacks must be ", "EarlyStopping"]),
    ({"callbacks": {"stop": EarlyStopping()}}, ["callbacks must be ", "stop"]),
    ({"callbacks": ["stop"]}, ["callbacks must be ", "entry 'stop'"]),
    ({"callbacks": [("stop",)]}, ["callbacks must be ", "entry ('stop',)"]),
    *(
        ({"callbacks": [callback]}, ["train_split must be ", name, "'valid_loss", "got None"])
        for name, callback in (
            ("EarlyStopping", EarlyStopping()),
            ("EarlyStopping", ("stop", EarlyStopping())),
            ("EarlyStopping", EarlyStopping),
            ("Checkpoint", Checkpoint(monitor="valid_loss_best")),
        )
    ),
    ({"module": one_output, "net": None}, ["(n_samples, n_classes), here (1, 2)", "shape (1, 1)"]),
    ({"module": no_logits, "net": None}, ["(n_samples, n_classes)", "got <class 'dict'>", FACTORY]),
    ({"module": nan_outputs, "net": None}, ["got NaN for the first", "nan_outputs"]),
]  # fmt: skip
FOR_IMAGES, FOR_VOLUMES = (CNN2DClassifier, BAD_PARAMS), (CNN3DClassifier, BAD_PARAMS[::10])


@pytest.mark.parametrize(
    ("cls", "params", "fragments"),
    quick_and_all(
        [(cls, *case) for cls, cases in (FOR_IMAGES, FOR_VOLUMES) for case in cases],
        [(cls, *case) for cls in CLASSIFIERS for case in BAD_PARAMS],
    ),
    ids=lambda value: str(value)[:60],
)
def test_bad_parameters(refused, cls, params, fragments):
    clf = tiny(cls, **copy.deepcopy(params))  # the constructor takes them all
    refused(lambda: clf.fit(noise(cls), Y), *fragments)
    refused(lambda: clf.partial_fit(noise(cls), Y, classes=[0, 1]), *fragments)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_bad_parameters_of_the_wrong_type(refused, cls):
    X = noise(cls)

    def fit(**params):
        return lambda: tiny(cls, **params).fit(X, Y)

    for loss in (None, 3, ["ce"], LossMix, print):
        refused(
            fit(loss=loss), TERMS, "a LossMix", "Module class", f"got {loss!r}", error=TypeError
        )
    option = "got an unexpected keyword argument 'widht'"
    refused(fit(net={"module__widht": 8}), option, "SmallCNN", "widht=8", error=TypeError)
    refused(fit(net={"optimizer__momemtum": 1}), "unexpected", "'momemtum'", error=TypeError)


@pytest.mark.parametrize("name", ["warm_start", "device"])
def test_arrays_where_a_word_is_expected(refused, name):
    clf = tiny(**{name: np.ones(2)})
    refused(lambda: clf.fit(noise(), Y), f"{name} must be ", f"got {np.ones(2)!r}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda"), 0], ids=str)
def test_cuda_where_there_is_none(refused, device):
    refused(
        lambda: tiny(device=device).fit(noise(), Y),
        "device must be 'cpu', 'auto'",
        f"got {device!r}",
        "0 CUDA device(s)",
    )


@pytest.mark.parametrize("device", ["cpu", "auto", "cpu:0", torch.device("cpu")], ids=str)
def test_devices_that_are_there(device):
    clf = tiny(device=device).fit(noise(), Y)
    assert isinstance(clf.net_.device, str)
    assert clf.predict(noise()).shape == (N,)


def test_loss_factor_of_a_loss_without_factors():
    for loss in ("ce+mcc", SoftMCCLoss(), nn.CrossEntropyLoss):
        with pytest.raises(ValueError, match=r"(?s)loss must be .*loss__mcc.*LossMix\(ce=1"):
            tiny(loss=loss).set_params(loss__mcc=0.5)
    with pytest.raises(ValueError, match=r"loss must be .* loss__mcc; got 'ce'"):
        tiny(loss=LossMix(ce=1)).set_params(loss="ce", loss__mcc=1)
    with pytest.raises(ValueError, match=r"'mc' of LossMix.*Did you mean mcc"):
        tiny(loss=LossMix(ce=1)).set_params(loss__mc=1)
    clf = tiny(loss="ce").set_params(loss=LossMix(ce=1), loss__mcc=0.5)
    assert clf.loss.get_params()["mcc"] == 0.5
    with pytest.raises(ValueError, match=r"(?s)Invalid parameter 'los'.*'loss'"):
        clf.set_params(los="ce")


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_logit_adjustment_is_checked_where_it_is_read(method):
    clf = tiny().fit(noise(), Y).set_params(logit_adjustment=-1)
    with pytest.raises(ValueError, match=r"logit_adjustment must be .* got -1"):
        getattr(clf, method)(noise())
