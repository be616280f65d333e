"""Learning rates by layer, frozen parts in training, and features that are computed once."""

import itertools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback, EpochScoring, Freezer
from torch import nn
from torch.utils.data import DataLoader

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, Pretrained
from skimbal.exceptions import ParameterError
from skimbal.training import kept_features
from skimbal.training.fine_tuning import gradients_into_group_norms
from skimbal.training.prediction import in_blocks
from tests.networks.pretrained_data import images, tiny_network

Y = np.arange(12) % 2


class CountingNetwork(nn.Sequential):
    """Count the images that the backbone sees."""

    n_seen = 0

    def forward(self, x):
        CountingNetwork.n_seen += len(x)
        return super().forward(x)


def counting():
    return CountingNetwork(*tiny_network())


def fitted(X, y=Y, fit=None, source=tiny_network, **params):
    spec = {n: params.pop(n) for n in [*params] if n in Pretrained(source).get_params()}
    options = {
        **{"max_epochs": 3, "batch_size": 4, "random_state": 0, "augment": None, "loss": "ce"},
        **{"lr": 1e-2, **params},
    }
    clf = CNN2DClassifier(module=Pretrained(source, **spec), **options)
    return clf.fit(X, y, **(fit or {}))


def weights(clf):
    return {name: w.clone() for name, w in clf.net_.module_.network.state_dict().items()}


def callback(clf, name):
    """Return the callback that has followed the fit."""
    return dict(clf.net_.callbacks_)[name]


def epochs_with_changes(clf_params, **spec):
    """Return, for each epoch, whether the first convolution changed."""

    class Watch(Callback):
        def on_train_begin(self, net, **kwargs):
            self.before, self.changed = self.stem(net), []

        def on_epoch_end(self, net, **kwargs):
            self.changed.append(not torch.equal(self.stem(net), self.before))
            self.before = self.stem(net)

        def stem(self, net):
            return net.module_.network.backbone.stem.weight.detach().clone()

    clf = fitted(images(), callbacks=[("watch", Watch())], **clf_params, **spec)
    return callback(clf, "watch").changed


@pytest.mark.parametrize(
    ("unfreeze_at", "expected"), [(None, [0, 0, 0, 0]), (1, [0, 1, 1, 1]), (0.5, [0, 0, 1, 1])]
)
def test_the_head_trains_first(unfreeze_at, expected):
    changed = epochs_with_changes({"max_epochs": 4}, freeze="backbone", unfreeze_at=unfreeze_at)
    assert changed == [bool(e) for e in expected]


def test_epochs_of_earlier_calls_count():
    X = images()
    clf = fitted(X, freeze="backbone", unfreeze_at=3, max_epochs=4)
    clf.set_params(warm_start=True, max_epochs=1)
    before = weights(clf)
    clf.fit(X, Y)
    assert not torch.equal(weights(clf)["backbone.stem.weight"], before["backbone.stem.weight"])

    clf = CNN2DClassifier(module=clf.module, augment=None, random_state=0)
    stems = [
        weights(clf.partial_fit(X, Y, classes=[0, 1]))["backbone.stem.weight"] for _ in range(5)
    ]
    changed = [not torch.equal(a, b) for a, b in itertools.pairwise(stems)]
    assert changed == [False, False, True, True]


# The last epoch is number 2, and begins before 2.5 epochs and before 90 % of the three epochs.
@pytest.mark.parametrize("unfreeze_at", [3, 7, 2.5, 0.9])
def test_a_fit_that_ends_before_it_unfreezes_is_refused(unfreeze_at):
    with pytest.raises(ParameterError, match=r"module__unfreeze_at .* the last of the 3 epochs"):
        fitted(images(), freeze="backbone", unfreeze_at=unfreeze_at, max_epochs=3)


def test_an_optimizer_with_one_rate_for_all_layers():
    params = {"freeze": "backbone", "optimizer": "lbfgs", "lr": 1, "max_epochs": 1}
    with pytest.raises(ParameterError, match=r"optimizer must be .* its own learning rate"):
        fitted(images(), **params)
    assert fitted(images(), backbone_lr_factor=1, **params).n_steps_ == 3


def test_rates_by_layer_reach_the_optimizer():
    clf = fitted(images(), backbone_lr_factor=0.5, layer_decay=0.1, lr=1e-2, lr_schedule=None)
    network = clf.net_.module_.network
    rates = {
        id(w): group["lr"] for group in clf.net_.optimizer_.param_groups for w in group["params"]
    }
    assert set(rates) == {id(weight) for weight in network.parameters()}
    assert rates[id(network.head.weight)] == 1e-2
    assert_allclose(rates[id(network.backbone.block[0][1].weight)], 5e-3)
    assert_allclose(rates[id(network.backbone.stem.weight)], 5e-5)


def test_a_schedule_scales_each_rate():
    class Rates(Callback):
        def on_train_begin(self, net, **kwargs):
            self.seen = []

        def on_epoch_end(self, net, **kwargs):
            self.seen.append([group["lr"] for group in net.optimizer_.param_groups])

    clf = fitted(images(), lr_schedule="cosine", callbacks=[("rates", Rates())])
    seen = np.array(callback(clf, "rates").seen)
    assert seen.shape == (3, 2)
    assert_allclose(seen[:-1].min(1) / seen[:-1].max(1), 0.3, rtol=1e-6)
    assert (np.diff(seen[:, 0]) < 0).all()


def test_two_ways_to_set_rates_are_refused():
    net = {"optimizer__param_groups": [("network.head*", {"lr": 1e-2})]}
    with pytest.raises(ParameterError, match="net must be a dict without optimizer__param_groups"):
        fitted(images(), net=net)
    fitted(images(), net=net, backbone_lr_factor=1.0)


def test_a_network_that_is_frozen_wholly_is_refused():
    with pytest.raises(ParameterError, match="all of whose weights are frozen"):
        fitted(images(), callbacks=[Freezer("*")])


# Kept features ---------------------------------------------------------------------------------

KEPT = [
    {},
    {"dtype": "float64"},
    {"dtype": "bfloat16"},
    {"sampler": "balanced", "class_weight": "balanced"},
    {"loss": "ce+mcc", "micro_batch_size": 2},
    {"loss": LossMix(ce=1, mcc=1, statistics="moving")},
    {"train_split": 0.25},
    {"fit": {"sample_weight": np.arange(12)}},
]


@pytest.mark.parametrize("params", KEPT, ids=str)
def test_kept_features_give_the_same_fit(params):
    X = images()
    CountingNetwork.n_seen = 0
    kept = fitted(X, freeze="backbone", source=counting, max_epochs=6, **params)
    n_kept = CountingNetwork.n_seen

    class Looks(Callback):
        """Keeps nothing, but it sees the batches, so they must hold images."""

        def on_batch_begin(self, net, batch, **kwargs):
            assert batch[0]["X"].ndim == 4 if isinstance(batch[0], dict) else batch[0].ndim == 4

    CountingNetwork.n_seen = 0
    anew = fitted(
        X, freeze="backbone", source=counting, max_epochs=6, callbacks=[Looks()], **params
    )
    assert n_kept <= 12 + 6 < 6 * 9 <= CountingNetwork.n_seen
    near = {"rtol": 1e-3, "atol": 1e-4} if params.get("dtype") != "bfloat16" else {"atol": 2e-2}
    for name, weight in weights(kept).items():
        assert_allclose(weight, weights(anew)[name], err_msg=name, **near)
    assert_allclose(kept.predict_proba(X), anew.predict_proba(X), **near)
    for name in ("train_loss", *(["valid_loss"] if "train_split" in params else [])):
        assert_allclose(kept.history_[:, name], anew.history_[:, name], **near)


@pytest.mark.parametrize(
    "params",
    [
        {"augment": "flip"},
        {"crop_size": 8},
        {"unfreeze_at": 2},
        {"freeze": "norm"},
        {"freeze": "none"},
        {"net": {"iterator_train": DataLoader}},
    ],
    ids=str,
)
def test_images_that_change_are_seen_in_every_epoch(params):
    CountingNetwork.n_seen = 0
    fitted(images(), **{"freeze": "backbone", "source": counting, "max_epochs": 6, **params})
    assert CountingNetwork.n_seen >= 6 * 12


@pytest.fixture
def seen(monkeypatch):
    """Count the images whose features are computed, without a trace in the code of a network."""
    numbers = []

    def count(net, dataset, function):
        numbers.append(len(dataset))
        return in_blocks(net, dataset, function)

    monkeypatch.setattr(kept_features, "in_blocks", count)
    return numbers


def test_features_on_disk_are_read_again(tmp_path, seen):
    X, folder = images(n=40), tmp_path / "features"
    y = np.arange(40) % 2
    cached = {"freeze": "backbone", "features_cache": folder, "max_epochs": 1}
    first = fitted(X, y, **cached)
    assert len(list(folder.iterdir())) == 1
    seen.clear()
    again = fitted(X, y, lr=1e-3, **cached)
    features = again.transform(X)
    assert sum(seen) <= 4, "two rows for each set of features"
    assert_array_equal(features, first.transform(X))
    assert_allclose(features, fitted(X, y, freeze="backbone").transform(X), rtol=1e-5, atol=1e-6)
    assert again.predict_proba(X).shape == (40, 2)


def other_weights():
    network = tiny_network()
    with torch.no_grad():
        network.stem.weight[0, 0, 0, 0] += 1e-3
    return network


class OtherCode(nn.Sequential):
    """The same layers and weights in another function."""

    def forward(self, x):
        return super().forward(-x)


class SameCode(nn.Sequential):
    pass


def same_code():
    return SameCode(*tiny_network())


def other_code():
    network = OtherCode(*tiny_network())
    network.__class__.__name__ = "SameCode"  # so that only the function differs
    return network


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"X": images(seed=1)}),
        ({}, {"X": images().astype(np.float32)}),
        ({}, {"X": images()[::-1]}),
        ({}, {"source": other_weights}),
        ({}, {"image_size": 8}),
        ({}, {"mean": [0.5] * 3}),
        ({}, {"dtype": "float64"}),
        ({}, {"dtype": "bfloat16"}),
        ({"source": same_code}, {"source": other_code}),
    ],
    ids=["images", "dtype", "order", "weights", "size", "mean", "float64", "bfloat16", "code"],
)
def test_features_of_something_else_are_never_read(one, other, tmp_path):
    def features(X=None, **params):
        X = images() if X is None else X
        clf = fitted(X, freeze="backbone", max_epochs=1, **params)
        return clf.transform(X)

    features(features_cache=tmp_path, **one)
    # dtypes of a network do not mix in one array, so they are compared as they are
    found, expected = features(features_cache=tmp_path, **other), features(**other)
    assert found.dtype == expected.dtype
    assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


#: Values that code reads, which differ by more than two rows of images show.
SHIFT = 0.0
MINE = """
import torch
from torch import nn

def shift(x):
    # Images with a bright corner alone are shifted.
    return torch.where(x[:, :1, :1, :1] > 2.0, x + {shift}, x)

class Base(nn.Sequential):
    def forward(self, x):
        return super().forward(shift(x))

class Net(Base):
    pass
"""


def rare_images():
    """Return images of which the first two, that a probe sees, are as before the edit."""
    X = images()
    X[:, 0, 0], X[-1, 0, 0] = 0, 255
    return X


def edited_network(shift, way):
    """Return a source whose code, global, closure, attribute or hook holds a number."""
    space = {"__name__": "mine"}
    if way == "source":
        exec(MINE.format(shift=shift), space)  # as a module that was edited and loaded anew
        return lambda: space["Net"](*tiny_network())

    def changed(x):
        return torch.where(x[:, :1, :1, :1] > 2.0, x + shift, x)

    class OfClosure(nn.Sequential):
        def forward(self, x):
            return super().forward(changed(x))

    class OfGlobal(nn.Sequential):
        def forward(self, x):
            return super().forward(torch.where(x[:, :1, :1, :1] > 2.0, x + SHIFT, x))

    class OfAttribute(nn.Sequential):
        def forward(self, x):
            return super().forward(torch.where(x[:, :1, :1, :1] > 2.0, x + self.shift, x))

    def source():
        network = tiny_network()
        if way == "hook":
            network.register_forward_pre_hook(lambda module, args: (changed(args[0]),))
            return network
        kind = {"closure": OfClosure, "global": OfGlobal, "attribute": OfAttribute}[way]
        found = kind(*network)
        found.shift = torch.tensor(shift) if way == "attribute" else None
        return found

    return source


@pytest.mark.parametrize("way", ["source", "closure", "global", "attribute", "hook"])
def test_features_of_edited_code_are_never_read(way, tmp_path, monkeypatch):
    X, params = rare_images(), {"freeze": "backbone", "max_epochs": 0}

    def features(shift, **options):
        monkeypatch.setitem(globals(), "SHIFT", shift)
        return fitted(X, source=edited_network(shift, way), **params, **options).transform(X)

    features(0.0, features_cache=tmp_path)
    found, expected = features(5.0, features_cache=tmp_path), features(5.0)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 2
    assert_allclose(features(0.0, features_cache=tmp_path), features(0.0), rtol=1e-5, atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 2, "the same code is found again"
    assert not np.allclose(expected[-1], features(0.0)[-1])


def test_a_network_that_cannot_be_described_is_refused(tmp_path):
    class OfText(nn.Sequential):
        def forward(self, x):
            return super().forward(eval("2 * x"))

    params = {"freeze": "backbone", "source": lambda: OfText(*tiny_network()), "max_epochs": 0}
    with pytest.raises(ParameterError, match=r"features_cache must be None if .* cannot be descr"):
        fitted(images(), features_cache=tmp_path, **params)
    fitted(images(), **params)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:200],
        lambda whole: whole[:500] + bytes(8) + whole[508:],  # among the features
        lambda whole: bytes(4) + whole[4:],
        lambda whole: whole.replace(b"'shape': (", b"'shape': ((", 1),
        lambda whole: b"no archive",
    ],
    ids=["empty", "short", "features", "version", "header", "text"],
)
def test_a_damaged_file_is_written_anew(damage, tmp_path):
    params = {"freeze": "backbone", "features_cache": tmp_path, "max_epochs": 1}
    expected = fitted(images(), **params).transform(images())
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    with pytest.warns(UserWarning, match=r"features_cache: .* cannot be read .* computed anew"):
        clf = fitted(images(), **params)
    assert_array_equal(clf.transform(images()), expected)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert os.path.getsize(path) == len(whole)


def test_an_array_in_place_of_the_archive_is_written_over(tmp_path):
    params = {"freeze": "backbone", "features_cache": tmp_path, "max_epochs": 1}
    expected = fitted(images(), **params).transform(images())
    (path,) = tmp_path.iterdir()
    with open(path, "wb") as stream:
        np.save(stream, np.zeros((12, 12), np.float32))
    with pytest.warns(UserWarning, match="features_cache: .* cannot be read"):
        clf = fitted(images(), **params)
    assert_array_equal(clf.transform(images()), expected)


def test_a_file_under_the_name_of_another_is_not_read(tmp_path):
    params = {"freeze": "backbone", "features_cache": tmp_path, "max_epochs": 0}
    X = rare_images()
    fitted(X, **params).transform(X)
    (path,) = tmp_path.iterdir()
    X[-1] += 1
    expected = fitted(X, **params).transform(X)
    (other,) = set(tmp_path.iterdir()) - {path}
    path.replace(other)
    with pytest.warns(UserWarning, match="it is the file of other features"):
        assert_array_equal(fitted(X, **params).transform(X), expected)


def test_callbacks_may_predict_the_images_whose_features_are_kept():
    class Predict(Callback):
        def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
            self.shapes = dataset_train.X.shape, net.predict_proba(dataset_valid.X).shape

    scoring = EpochScoring("accuracy", use_caching=False, name="accuracy")
    callbacks = [scoring, ("predict", Predict())]
    CountingNetwork.n_seen = 0
    clf = fitted(
        images(), freeze="backbone", source=counting, callbacks=callbacks, train_split=1 / 3
    )
    assert clf.history_[-1, "accuracy"] in (0, 0.25, 0.5, 0.75, 1)
    assert callback(clf, "predict").shapes == ((8, 1, 10, 10), (4, 2))
    # Once for the features, and twice an epoch for the callbacks. Trials see a few more.
    assert CountingNetwork.n_seen < 12 + 3 * 2 * 4 + 8


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path):
    (tmp_path / "file").touch()
    params = {"freeze": "backbone", "max_epochs": 0}
    expected = fitted(images(), **params).transform(images())
    with pytest.warns(UserWarning, match="features_cache: .*file' cannot be written") as caught:
        clf = fitted(images(), features_cache=tmp_path / "file", **params)
    assert {warning.filename for warning in caught} == {__file__}
    with pytest.warns(UserWarning, match="features_cache: .*file' cannot be written"):
        found = clf.transform(images())
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "")])
def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch, error):
    expected = fitted(images(), freeze="backbone", max_epochs=0).transform(images())

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(np, "savez", fail)
    params = {"freeze": "backbone", "features_cache": tmp_path, "max_epochs": 0}
    with pytest.warns(UserWarning, match="cannot be written .* goes on without it"):
        found = fitted(images(), **params).transform(images())
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert list(tmp_path.iterdir()) == []


def write_features(folder, seed):
    X = images(seed=seed % 2)
    return fitted(X, freeze="backbone", features_cache=folder, max_epochs=0).transform(X)


@pytest.mark.slow
def test_processes_that_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as pool:
        jobs = [pool.submit(write_features, tmp_path, seed) for seed in range(4)]
        found = [job.result() for job in jobs]
    for seed in range(4):
        assert_allclose(found[seed], write_features(tmp_path, seed), rtol=1e-5, atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_frozen_group_norm_gets_no_gradient():
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.GroupNorm(2, 4)).requires_grad_(False)
    with gradients_into_group_norms(network):
        assert not network(torch.ones(1, 1, 2, 2)).requires_grad


class NormFirst(nn.Sequential):
    """A network that normalises the images by groups."""

    def __init__(self, in_channels, n_classes):
        norm = nn.GroupNorm(1, in_channels)
        super().__init__(norm, nn.Flatten(), nn.Linear(64 * in_channels, n_classes))


# torch ends the process if the input of a group normalisation has no gradient.
@pytest.mark.parametrize("options", [{}, {"micro_batch_size": 3}, {"loss": "mcc"}])
@pytest.mark.parametrize(
    ("make", "module", "frozen", "shape"),
    [
        (CNN2DClassifier, "residual", "*stem.0*", (8, 8)),
        (CNN2DClassifier, "residual", "*0*", (10, 10)),
        (CNN2DClassifier, "small", "*weight", (8, 8)),
        (CNN3DClassifier, "residual", "*stem.0*", (8, 8, 8)),
        (CNN2DClassifier, NormFirst, None, (2, 8, 8)),
    ],
)
def test_group_norms_behind_frozen_layers_train(make, module, frozen, shape, options):
    X = np.random.default_rng(0).normal(size=(12, *shape)).astype(np.float32)
    callbacks = None if frozen is None else [Freezer(frozen)]
    clf = make(module=module, callbacks=callbacks, max_epochs=1, batch_size=6, random_state=0)
    clf.set_params(**options).fit(X, Y)
    assert not any(part._forward_pre_hooks for part in clf.net_.module_.network.modules())
    assert np.isfinite(clf.predict_proba(X)).all()
