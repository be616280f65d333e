"""The network that Pretrained makes: channels, pixels, sizes, heads, frozen parts, rates."""

import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from torch import nn

from skimbal import Pretrained
from skimbal.exceptions import ParameterError
from skimbal.networks import (
    LearningRateFactors,
    PixelRange,
    SplitNetwork,
    Unfreezable,
    fold_batch_norm,
)
from tests.networks.pretrained_data import NAME, tiny_network

UINT8 = PixelRange(0.0, 255.0, is_uint8=True)


def build(in_channels=1, n_classes=2, shape=(10, 10), pixels=UINT8, source=tiny_network, **params):
    torch.manual_seed(1)
    return Pretrained(source, **params).build(in_channels, n_classes, shape, pixels).eval()


def pixels_of(n=4, channels=1, size=10):
    return torch.randint(256, (n, channels, size, size)).float()


def frozen_names(network):
    return {name for name, w in network.backbone.named_parameters() if not w.requires_grad}


@pytest.mark.parametrize("in_channels", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("shape", [(10, 10), (9, 12)])
def test_repeated_grey_images_have_equal_outputs(in_channels, shape):
    grey = torch.randint(256, (4, 1, *shape)).float()
    reference = tiny_network().eval()
    reference.fc = nn.Identity()
    colour = grey.expand(-1, 3, -1, -1) / 255
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
    network = build(in_channels, shape=shape)
    with torch.no_grad():
        expected = reference((colour - mean) / std)
        found = network.features(grey.expand(-1, in_channels, -1, -1))
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_channels", [1, 2, 4])
def test_each_channel_has_an_effect(in_channels):
    network, x = build(in_channels), pixels_of(1, in_channels).requires_grad_()
    network(x).sum().backward()
    assert (x.grad.abs().amax((0, 2, 3)) > 0).all()


def test_a_network_of_one_channel_takes_more():
    def grey():
        return tiny_network(in_channels=1)

    network = build(3, source=grey, mean=[0.5], std=[0.5])
    x = pixels_of(4)
    alone = build(1, source=grey, mean=[0.5], std=[0.5])
    with torch.no_grad():
        expected = alone.features(x)
        assert_allclose(network.features(x.expand(-1, 3, -1, -1)), expected, rtol=1e-4, atol=1e-5)


def test_pixels_are_brought_to_the_range_of_the_network():
    x = pixels_of()
    with torch.no_grad():
        expected = build().features(x)
        for low, high in ((-1000.0, 3000.0), (0.0, 1.0), (0.0, 65535.0)):
            scaled = x / 255 * (high - low) + low
            found = build(pixels=PixelRange(low, high)).features(scaled)
            assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        constant = build(pixels=PixelRange(7.0, 7.0)).features(torch.full_like(x, 7.0))
    assert constant.isfinite().all()


def test_mean_and_std_replace_the_numbers_of_the_source():
    x = pixels_of()
    with torch.no_grad():
        own = build(mean=[0.1, 0.2, 0.3], std=[1, 2, 3]).prepare(x)
    expected = (x / 255 - torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / torch.tensor(
        [1.0, 2.0, 3.0]
    ).reshape(3, 1, 1)
    assert_allclose(own, expected, rtol=1e-5, atol=1e-6)

    def with_numbers():
        network = tiny_network()
        network.pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        return network

    assert_allclose(build(source=with_numbers).prepare(x)[:, :1], x / 255, rtol=1e-6)


def test_images_are_resized_with_antialiasing():
    x = pixels_of(size=40)
    expected = nn.functional.interpolate(x, (8, 6), mode="bilinear", antialias=True)
    plain, resized = build(shape=(8, 6)), build(shape=(40, 40), image_size=(8, 6))
    with torch.no_grad():
        assert_allclose(resized.features(x), plain.features(expected), rtol=1e-4, atol=1e-5)
    assert build(image_size=8).prepare(x).shape == (4, 3, 8, 8)


def in_a_block():
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1))
    network.add_module("top", nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(6, 9)))
    return network


def with_a_convolution():
    classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(6, 9, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), classifier, nn.Flatten())


def without_a_classifier():
    # The last layer is no classifier, although it is a 1 x 1 convolution before a normalisation.
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 6, 1), nn.BatchNorm2d(6))


@pytest.mark.parametrize("source", [in_a_block, with_a_convolution, without_a_classifier])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_classifier_is_replaced_whatever_its_name(source, n_classes):
    network = build(n_classes=n_classes, source=source)
    assert (network.head.in_features, network.head.out_features) == (6, n_classes)
    x = pixels_of()
    assert network(x).shape == (4, n_classes)
    assert_allclose(network(x).detach(), network.head(network.features(x)).detach())
    if source is with_a_convolution:
        assert isinstance(network.backbone[2][1], nn.Identity)


def test_timm_knows_its_classifiers():
    timm = pytest.importorskip("timm")
    for name in (NAME, "test_efficientnet", "test_convnext", "test_byobnet"):
        network = build(shape=(64, 64), source=lambda name=name: timm.create_model(name))
        assert network(pixels_of(2, size=64)).shape == (2, 2)


@pytest.mark.parametrize("name", ["googlenet", "swin_t", "vit_b_16", "densenet121", "vgg11"])
@pytest.mark.slow
def test_torchvision_networks(name, tmp_path):
    models = pytest.importorskip("torchvision.models")
    size = 224 if name == "vit_b_16" else 64
    options = {"init_weights": False} if name == "googlenet" else {}
    path = tmp_path / "weights.pt"
    torch.save(models.get_model(name, weights=None, **options).state_dict(), path)
    network = build(
        shape=(28, 28), image_size=size, source=path, architecture=f"torchvision/{name}"
    )
    assert network.train()(pixels_of(2, size=28)).shape == (2, 2)


@pytest.mark.parametrize("freeze", ["none", "backbone", "norm", ["stem*"], ["block"]])
def test_frozen_parts(freeze):
    network = build(freeze=freeze).train()
    expected = {
        "none": set(),
        "backbone": {name for name, _ in network.backbone.named_parameters()},
        "norm": {f"{norm}.{part}" for norm in ("norm", "block.0.2") for part in ("weight", "bias")},
        "['stem*']": {"stem.weight"},
        "['block']": {n for n, _ in network.backbone.named_parameters() if "block" in n},
    }[str(freeze)]
    assert frozen_names(network) == expected
    assert network.head.weight.requires_grad
    # Batch statistics are frozen in any case, and dropout where the weights around it are.
    before = copy.deepcopy(network.state_dict())
    network(pixels_of(8))
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert network.training
    assert network.backbone.block[2].training == (freeze not in ("backbone", ["block"]))
    assert network.freezes_backbone == (freeze == "backbone")


def test_unfreezing_leaves_batch_statistics_alone():
    network = build(freeze="backbone", unfreeze_at=2).train()
    assert not network.freezes_backbone
    x = pixels_of(8)
    frozen = network.eval()(x)
    network.train().unfreeze()
    assert frozen_names(network) == set()
    assert network.backbone.block[2].training
    before = copy.deepcopy(network.state_dict())
    network(x)
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert torch.equal(network.eval()(x), frozen)


def test_parts_that_a_function_has_frozen_stay_frozen():
    def partly():
        network = tiny_network()
        network.stem.requires_grad_(False)
        return network

    assert frozen_names(build(source=partly)) == {"stem.weight"}


def test_learning_rates_fall_with_the_depth():
    network = build(layer_decay=0.5, backbone_lr_factor=0.2)
    factors = network.learning_rate_factors()
    assert set(factors) == {f"backbone.{n}" for n, _ in network.backbone.named_parameters()}
    found = [factors[f"backbone.{n}"] for n in ("block.0.1.weight", "norm.bias", "stem.weight")]
    assert_allclose(found, [0.2, 0.1, 0.05])
    assert set(build().learning_rate_factors().values()) == {0.3}


def test_layers_are_blocks():
    timm = pytest.importorskip("timm")
    network = build(shape=(64, 64), source=lambda: timm.create_model(NAME), layer_decay=0.5)
    factors = network.learning_rate_factors()
    blocks = {}
    for name, factor in factors.items():
        if ".layer" in name:
            blocks.setdefault(".".join(name.split(".")[1:3]), set()).add(factor)
    assert all(len(rates) == 1 for rates in blocks.values())
    rates = [rate for of_block in blocks.values() for rate in of_block]
    assert_allclose(np.divide(rates[1:], rates[:-1]), 2)
    assert max(rates) == 0.3


def test_the_network_offers_what_training_asks_for():
    network = build()
    assert isinstance(network, SplitNetwork)
    assert isinstance(network, LearningRateFactors)
    assert isinstance(network, Unfreezable)
    # Networks of torchvision have parts of these names that do not make up the network.
    assert not isinstance(nn.ModuleDict({"features": nn.Linear(1, 1)}), SplitNetwork)


def test_copies_freeze_their_own_parts():
    for again in (
        copy.deepcopy(build(freeze="backbone")),
        pickle.loads(pickle.dumps(build(freeze="backbone"))),
    ):
        assert not again.train().backbone.training
        again.unfreeze()
        assert again.train().backbone.block[2].training


def test_batch_statistics_can_be_folded():
    network = build()
    folded = fold_batch_norm(network)
    assert folded is not network
    x = pixels_of()
    with torch.no_grad():
        assert_allclose(folded(x), network(x), rtol=1e-4, atol=1e-5)


def test_parameters_are_parameters():
    spec = Pretrained(tiny_network, freeze=["stem*"], layer_decay=0.7)
    assert clone(spec).get_params() == spec.get_params()
    assert spec.fine_tunes
    assert spec.set_params(freeze="backbone").freezes_backbone
    assert not spec.fine_tunes
    assert not spec.set_params(unfreeze_at=1).freezes_backbone
    assert spec.fine_tunes
    assert spec.normalizes_input
    assert spec.needs_pixel_range


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"freeze": "all"}, "freeze must be 'none', 'backbone', 'norm' or a list of patterns"),
        ({"freeze": []}, "freeze must be"),
        ({"freeze": None}, "freeze must be"),
        ({"freeze": ["*"]}, "To train the new classifier only, set freeze='backbone'"),
        ({"freeze": ["stm*"]}, "Some names are stem.weight"),
        ({"unfreeze_at": 1}, "unfreeze_at must be None with freeze='none'"),
        ({"freeze": "backbone", "unfreeze_at": 0}, "unfreeze_at must be a number above 0"),
        ({"layer_decay": 1.5}, "layer_decay must be a number above 0 and at most 1"),
        ({"backbone_lr_factor": 0}, "backbone_lr_factor must be a number above 0"),
        ({"image_size": 0}, "image_size must be a positive integer"),
        ({"image_size": (8, 8, 8)}, "image_size must be a positive integer"),
        ({"image_size": 2}, "image_size must be a size of images that the network takes"),
        ({"mean": 0.5}, "mean must be a number for each channel"),
        ({"std": [1, 0, 1]}, "std must be a number for each channel"),
        ({"std": [1, 1]}, "std must be 3 numbers"),
        ({"mean": [0.5], "std": [1]}, "mean must be 3 numbers, one for each channel"),
        ({"freeze": "backbone", "features_cache": 3}, "features_cache must be a path or None"),
        ({"features_cache": "here"}, "features_cache must be None unless freeze='backbone'"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused_by_name(params, words):
    with pytest.raises(ParameterError) as error:
        build(**params)
    assert words in str(error.value)


def test_volumes_are_refused():
    with pytest.raises(ParameterError, match="two spatial axes"):
        build(shape=(8, 8, 8))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (nn.Flatten, "layers that have weights"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(2)), "n_features"),
    ],
)
def test_networks_that_give_no_features_are_refused(source, words):
    with pytest.raises((ParameterError, TypeError), match=words):
        build(source=source)


def test_more_channels_need_a_convolution_at_the_start():
    def grouped():
        return nn.Sequential(
            nn.Conv2d(3, 3, 3, groups=3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(3, 4),
        )

    build(1, source=grouped)
    with pytest.raises(ParameterError, match="begins with a convolution, for images of 4 channels"):
        build(4, source=grouped)


def test_networks_without_normalisation_have_none_to_freeze():
    with pytest.raises(ParameterError, match="'none' or 'backbone' without such layers"):
        build(source=in_a_block, freeze="norm")
