"""Networks of 2D images on the slices of a volume."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from skimbal import CNN2DClassifier, CNN3DClassifier, Pretrained, SliceNet
from skimbal.exceptions import ParameterError
from skimbal.networks import BUILT_IN, NetworkSpec, ResidualCNN, fold_batch_norm
from tests.networks.data import draw_images
from tests.networks.pretrained_data import tiny_network

SHAPE = (6, 12, 10)
POOLINGS = ["attention", "max", "mean", "lstm"]


class FrozenCNN(NetworkSpec):
    """A frozen network that normalises its input."""

    normalizes_input = True
    freezes_backbone = True

    def __init__(self, width=8):
        self.width = width

    def build(self, in_channels, n_classes, spatial_shape, pixels=None):
        torch.manual_seed(5)
        options = {"width": self.width, "zero_init_residual": False}
        net = ResidualCNN(in_channels, n_classes, spatial_shape, **options)
        return net.requires_grad_(False)


def in_2d(in_channels, n_classes):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4, n_classes),
    )


def build(in_channels=1, n_classes=3, shape=SHAPE, **options):
    torch.manual_seed(0)
    return SliceNet(**options).build(in_channels, n_classes, shape)


def reference(net, image, axis, neighbours):
    """Compute the features slice by slice."""
    slices = image.unbind(axis + 1)
    rows = []
    for i in range(len(slices)):
        window = [
            slices[min(max(j, 0), len(slices) - 1)]
            for j in range(i - neighbours, i + neighbours + 1)
        ]
        rows.append(net.backbone(torch.cat(window)[None])[0])
    return torch.stack(rows)


@pytest.mark.parametrize("neighbours", [0, 2])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("backbone", ["small", "residual", in_2d])
def test_features_are_of_slices(backbone, axis, neighbours):
    net = build(2, backbone=backbone, axis=axis, neighbours=neighbours).double().eval()
    images = draw_images(3, 2, *SHAPE, dtype=torch.float64)
    expected = torch.stack([reference(net, image, axis, neighbours) for image in images])
    assert expected.shape[:2] == (3, SHAPE[axis])
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        features = net.features(images.contiguous(memory_format=layout))
        torch.testing.assert_close(features, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(net(images), net.head(net.features(images)))


@pytest.mark.parametrize("in_channels", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_have_the_channels_innermost(axis, in_channels):
    net, seen = build(in_channels, axis=axis), []
    net.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = draw_images(2, *SHAPE, in_channels).movedim(-1, 1)
    net(images)
    _, c, _, width = seen[0].shape
    assert seen[0].stride()[1:] == (1, width * c, c)
    assert (seen[0].data_ptr() == images.data_ptr()) == (axis == 0)


@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_contiguous_volumes_are_contiguous(axis, neighbours):
    for in_channels in (1, 2):
        net, seen = build(in_channels, axis=axis, neighbours=neighbours), []
        net.backbone.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
        net(draw_images(2, in_channels, *SHAPE))
        assert seen[0].is_contiguous()
        assert seen[0].stride(1) != 1


@pytest.mark.parametrize("pooling", POOLINGS)
def test_poolings_train(pooling):
    net = build(pooling=pooling)
    logits = net(draw_images(4, 1, *SHAPE))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_attention_is_the_weighted_mean():
    net = build(pooling="attention").double()
    features = draw_images(3, 6, net.pool.n_features, dtype=torch.float64)
    weights = net.pool.weights(features)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64))
    expected = (weights[..., None] * features).sum(1)
    torch.testing.assert_close(net.pool(features), expected)
    # Ilse et al. (2018), equation 9.
    pool = net.pool
    hidden = torch.tanh(features @ pool.content.weight.T + pool.content.bias)
    hidden = hidden * torch.sigmoid(features @ pool.gate.weight.T + pool.gate.bias)
    scores = torch.exp(hidden @ pool.score.weight[0] + pool.score.bias)
    torch.testing.assert_close(weights, scores / scores.sum(1, keepdim=True))


def test_weights_of_max_are_shares_of_features():
    net = build(pooling="max")
    features = torch.tensor([[[1.0, 0, 0, 0], [0, 2, 3, 0]], [[1, 1, 1, 1], [0, 0, 0, 0]]])
    expected = torch.tensor([[0.375, 0.625], [1, 0]])  # of the last feature, each slice has a half
    torch.testing.assert_close(net.pool.weights(features), expected)
    assert torch.equal(net.pool(features), torch.tensor([[1.0, 2, 3, 0], [1, 1, 1, 1]]))


def test_weights_of_mean_are_equal():
    net = build(pooling="mean")
    weights = net.slice_weights(draw_images(2, 1, *SHAPE))
    torch.testing.assert_close(weights, torch.full((2, 6), 1 / 6))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_only_an_lstm_sees_the_order_of_the_slices(pooling):
    net = build(pooling=pooling).double()
    images = draw_images(2, 1, *SHAPE, dtype=torch.float64)
    assert torch.allclose(net(images), net(images.flip(2))) == (pooling != "lstm")


def test_batch_normalisation_of_a_backbone_is_folded():
    net = build(backbone=in_2d, neighbours=1).eval()
    folded, images = fold_batch_norm(net), draw_images(2, 1, *SHAPE)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(images), net(images))


def test_adapters_begin_as_nothing_and_are_all_that_trains_in_the_backbone():
    images = draw_images(4, 1, *SHAPE)
    plain = build(backbone=FrozenCNN(), pooling="mean")
    adapted = build(backbone=FrozenCNN(), pooling="mean", adapter=2)
    assert torch.equal(plain.features(images), adapted.features(images))
    assert plain.freezes_backbone
    assert not adapted.freezes_backbone
    trained = {name for name, p in plain.named_parameters() if p.requires_grad}
    assert trained == {"classifier.weight", "classifier.bias"}
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad} - trained
    assert trained
    assert all(name.rpartition(".")[0].endswith(("down", "up")) for name in trained)
    optimizer = torch.optim.Adam(adapted.parameters(), 1e-2)
    before = {name: p.clone() for name, p in adapted.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(adapted(images), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    for name, parameter in adapted.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name
    assert not torch.allclose(plain.features(images), adapted.features(images))


class WithFactors(nn.Module):
    unfreeze_at = 2.5

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(120, 4), nn.Linear(4, 3))

    def forward(self, x):
        return self.layers(x)

    def learning_rate_factors(self):
        return {"layers.1.weight": 0.1}

    def unfreeze(self):
        self.requires_grad_(True)


@pytest.mark.parametrize(
    ("backbone", "adapter", "expected"),
    [
        ("small", None, False),
        (WithFactors, None, False),
        (Pretrained(WithFactors), None, True),
        (Pretrained(WithFactors, freeze="norm"), None, True),
        (Pretrained(WithFactors, freeze="backbone"), None, False),
        (Pretrained(WithFactors, freeze="backbone"), 2, True),
        (Pretrained(WithFactors, freeze="backbone", unfreeze_at=1), None, True),
    ],
)
def test_the_backbone_tells_whether_training_fine_tunes(backbone, adapter, expected):
    assert SliceNet(backbone, adapter=adapter).fine_tunes == expected


def test_the_backbone_decides_about_its_learning_rates_and_its_unfreezing():
    net = build(backbone=lambda in_channels, n_classes: WithFactors().requires_grad_(False))
    assert net.learning_rate_factors() == {"backbone.layers.1.weight": 0.1}
    assert net.unfreeze_at == 2.5
    assert not net.get_parameter("backbone.layers.1.weight").requires_grad
    net.unfreeze()
    assert all(parameter.requires_grad for parameter in net.parameters())
    other = build()
    assert (other.learning_rate_factors(), other.unfreeze_at) == ({}, None)


@pytest.fixture(scope="module")
def volumes():
    """Volumes with a bright slice if they are of the rare class."""
    rng = np.random.default_rng(0)
    X, y = rng.random((24, *SHAPE), np.float32), np.array([0, 0, 1] * 8)
    X[y == 1, 4, 2:9] += 2
    return X, y


@pytest.mark.parametrize("pooling", ["attention", "max", "mean"])
def test_slice_weights_of_a_classifier(volumes, pooling):
    X, y = volumes
    clf = CNN3DClassifier("ce", module=SliceNet(pooling=pooling), max_epochs=8)
    clf.set_params(batch_size=8, random_state=0)
    assert not hasattr(clf, "slice_weights")
    weights = clf.fit(X, y).slice_weights(X)
    assert weights.shape == (24, 6)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(clf.slice_weights(X[:5]), weights[:5], rtol=1e-4)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.slice_weights(X), weights)
    if pooling != "mean":
        assert (weights[y == 1].argmax(1) == 4).all()


def test_other_networks_have_no_slice_weights(volumes):
    for module in ("small", SliceNet(pooling="lstm")):
        clf = CNN3DClassifier("ce", module=module, max_epochs=1).fit(*volumes)
        assert not hasattr(clf, "slice_weights")
        with pytest.raises(AttributeError, match="slice_weights"):
            clf.slice_weights(volumes[0])


def test_row_of_the_table(volumes):
    X, y = volumes
    options = {"module__pooling": "max", "module__backbone": "residual"}
    by_name = CNN3DClassifier("ce", module="slices", net=options, max_epochs=1, random_state=0)
    spec = SliceNet("residual", pooling="max")
    by_spec = CNN3DClassifier("ce", module=spec, max_epochs=1, random_state=0)
    expected = by_spec.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(by_name.fit(X, y).predict_proba(X), expected)
    assert by_spec.transform(X).shape == (24, by_spec.net_.module_.network.classifier.in_features)


def test_options_of_a_description_are_not_set_through_the_net(volumes):
    clf = CNN3DClassifier(module=SliceNet(), net={"module__axis": 1}, max_epochs=1)
    with pytest.raises(ParameterError, match=r"net must be .*got 'module__axis'.*the SliceNet"):
        clf.fit(*volumes)


def test_nested_parameters_can_be_searched(volumes):
    clf = CNN3DClassifier("ce", module=SliceNet(FrozenCNN()), standardize=False, max_epochs=1)
    grid = {"module__pooling": ["max", "mean"], "module__backbone__width": [4, 8]}
    search = GridSearchCV(clf, grid, cv=2).fit(*volumes)
    assert len(search.cv_results_["params"]) == 4
    spec = SliceNet(FrozenCNN(4), adapter=3)
    assert clone(spec).get_params()["backbone__width"] == 4
    assert spec.normalizes_input
    assert not spec.freezes_backbone
    assert spec.set_params(adapter=None).freezes_backbone


@pytest.mark.parametrize("loss", ["ce", "ce+mcc"])
def test_micro_batches_are_exact(volumes, loss):
    X, y = volumes
    proba = [
        CNN3DClassifier(
            loss,
            module="slices",
            augment=None,
            max_epochs=2,
            batch_size=12,
            micro_batch_size=size,
            dtype="float64",
            random_state=0,
        )
        .fit(X, y)
        .predict_proba(X)
        for size in (None, 5)
    ]
    np.testing.assert_allclose(proba[0], proba[1], rtol=1e-8)


class Counting(nn.Sequential):
    """Counts the slices that the backbone sees."""

    n_seen = 0

    def forward(self, x):
        Counting.n_seen += len(x)
        return super().forward(x)


def counting():
    return Counting(*tiny_network())


def fit_frozen(X, y, **options):
    spec = SliceNet(Pretrained(counting, freeze="backbone"), neighbours=1)
    spec.set_params(**{name: options.pop(name) for name in [*options] if name in spec.get_params()})
    clf = CNN3DClassifier("ce", module=spec, standardize=False, augment=None, random_state=0)
    return clf.set_params(max_epochs=5, batch_size=8, lr=1e-2, **options).fit(X, y)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_of_slices_are_computed_once(volumes, pooling):
    Counting.n_seen = 0
    clf = fit_frozen(*volumes, pooling=pooling)
    trials = Counting.n_seen - 24 * 6
    assert 0 < trials < 24
    # A callback that follows the batches sees the images, so the features are not kept.
    every_time = fit_frozen(*volumes, pooling=pooling, callbacks=[FollowsBatches()])
    assert Counting.n_seen > 5 * 24 * 6
    X = volumes[0]
    np.testing.assert_allclose(
        clf.predict_proba(X), every_time.predict_proba(X), rtol=1e-4, atol=1e-5
    )


class FollowsBatches(Callback):
    def on_batch_end(self, net, **kwargs):
        pass


def test_frozen_parts_stay_with_adapters(volumes):
    clf = fit_frozen(*volumes, adapter=2)
    state = clf.net_.module_.network.backbone.backbone.state_dict()
    ups = [value for name, value in state.items() if name.endswith("up.weight")]
    assert len(ups) == 2
    assert all(value.abs().max() > 0 for value in ups)
    frozen = [value for name, value in state.items() if not {"up", "down"} & {*name.split(".")}]
    *start, _, _ = tiny_network().state_dict().values()  # and the old classifier
    for value, expected in zip(frozen, start, strict=True):
        assert torch.equal(value, expected)


def test_rows_of_a_frozen_network_without_training(volumes):
    X, y = volumes
    clf = CNN3DClassifier(
        module=SliceNet(Pretrained(counting, freeze="backbone"), pooling="mean"),
        standardize=False,
        max_epochs=1,
        random_state=0,
    )
    features = clf.fit(X, y).transform(X)
    network = clf.net_.module_.network
    expected = network.features(torch.from_numpy(X)[:, None]).mean(1)
    np.testing.assert_allclose(features, expected.detach(), rtol=1e-4, atol=1e-5)


def test_memory_of_a_row_counts_all_its_slices(volumes):
    X, y = volumes
    sizes = []
    for volume in (X, np.concatenate([X] * 3, 1)):
        clf = CNN3DClassifier("ce", module=SliceNet(), max_epochs=1).fit(volume, y)
        sizes.append(clf.net_.activation_bytes_)
    assert sizes[1] == 3 * sizes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": 3}, r"axis must be 0, 1 or 2.*got 3"),
        ({"axis": -1}, r"axis must be 0, 1 or 2.*got -1"),
        ({"axis": "d"}, r"axis must be 0, 1 or 2.*got 'd'"),
        ({"pooling": "atention"}, r"pooling must be .*'lstm'; got 'atention'. .*'attention'"),
        ({"pooling": None}, r"pooling must be .*got None"),
        ({"neighbours": -1}, r"neighbours must be an integer of at least 0; got -1"),
        ({"neighbours": 6}, r"neighbours must be less than the 6 slices.*got 6"),
        ({"axis": 2, "neighbours": 10}, r"neighbours must be less than the 10 slices.*got 10"),
        ({"adapter": 0, "backbone": FrozenCNN()}, r"adapter must be .*got 0"),
        ({"adapter": 4}, r"adapter must be None .*trained; got 4. Freeze"),
        ({"backbone": "residuel"}, r"backbone must be .*got 'residuel'. .*'residual'"),
        ({"backbone": nn.Flatten()}, r"backbone must be .*got Flatten"),
        ({"options": 3}, r"options must be a dict or None; got 3"),
        ({"backbone": in_2d, "options": {"width": 4}}, r"options must be None .*got \{'width'"),
        ({"options": {"widht": 4}}, r"options must be .* 'small': width, .*'widht'. .*\['width'"),
        ({"backbone": "resnet18", "options": {"n_clases": 4}}, r"options must be .* 'resnet18': "),
        ({"options": {"n_classes": 4}}, r"options must be .*got 'n_classes'"),
        ({"options": {"in_channels": 4}}, r"options must be .*got 'in_channels'"),
        ({"options": {"spatial_shape": (9, 9)}}, r"options must be .*got 'spatial_shape'"),
        ({"options": {1: 2}}, r"options must be .*got 1"),
        ({"options": {"width": 0}}, r"options__width must be .*got 0"),
        (
            {"backbone": lambda c, k: nn.Sequential(nn.Flatten(), nn.Linear(7, k))},
            r"backbone must be a network of 2D images, here of shape \(1, 12, 10\).*120 and 7x3",
        ),
        ({"backbone": lambda c, k: nn.Flatten()}, r"backbone must be .*no torch.nn.Linear ran"),
        ({"backbone": lambda c, k: nn.Linear(10, k)}, r"backbone must be .*"),
        ({"backbone": Pretrained(tiny_network, freeze="all")}, r"backbone__freeze must be "),
        ({"backbone": Pretrained(tiny_network), "adapter": 4}, r"adapter must be None .*trained"),
        ({"backbone": Pretrained(tiny_network, image_size=2)}, r"backbone__image_size must be "),
    ],
)
def test_parameters_that_do_not_fit(options, message):
    with pytest.raises(ParameterError, match=f"^{message}"):
        build(**options)


def test_a_row_of_the_table_has_its_own_options(monkeypatch):
    def flat(channels, classes, spatial_shape, hidden=3):
        hidden = nn.Linear(channels * np.prod(spatial_shape), hidden)
        return nn.Sequential(nn.Flatten(), hidden, nn.Linear(hidden.out_features, classes))

    monkeypatch.setitem(BUILT_IN, "flat", flat)
    assert build(backbone="flat", options={"hidden": 5}).pool.n_features == 5
    with pytest.raises(ParameterError, match=r"options must be .* of 'flat': hidden; got 'width'"):
        build(backbone="flat", options={"width": 5})
    monkeypatch.setitem(BUILT_IN, "any", lambda c, k, **options: flat(c, k, **options))
    assert build(backbone="any", options={"hidden": 5}).pool.n_features == 5


def test_the_classifier_names_the_nested_parameter(volumes):
    X, y = volumes
    with pytest.raises(ParameterError, match=r"^module__axis must be 0, 1 or 2"):
        CNN3DClassifier(module=SliceNet(axis=7)).fit("not read", None)
    with pytest.raises(ParameterError, match=r"^module__options must be .*got 'widht'"):
        CNN3DClassifier(module=SliceNet(options={"widht": 4})).fit("not read", None)
    with pytest.raises(ParameterError, match=r"^module__neighbours must be less than the 6"):
        CNN3DClassifier(module=SliceNet(neighbours=6)).fit(X, y)
    late = Pretrained(tiny_network, freeze="backbone", unfreeze_at=3)
    with pytest.raises(ParameterError, match=r"^module__backbone__unfreeze_at must be .*got 3"):
        CNN3DClassifier(module=SliceNet(late), max_epochs=3).fit(X, y)
    for module in ("slices", SliceNet()):
        with pytest.raises(ValueError, match=r"^module must be a network .*2 spatial.*SliceNet"):
            CNN2DClassifier(module=module).fit(X[:, 0], y)
