"""Statistics of channels, and the module that standardises."""

import copy
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from skimbal.training import ImageDataset, Layout, StandardizedModule, channel_statistics


@pytest.mark.parametrize("elements", [7, 10**6])
def test_statistics_read_by_threads_are_the_same(elements, monkeypatch, rng):
    monkeypatch.setattr(ImageDataset, "block_elements", elements)
    X = rng.normal(size=(30, 2, 3, 3))
    data = ImageDataset(X, sample_weight=rng.uniform(size=30))
    for one, other in zip(channel_statistics(data, 3), channel_statistics(data), strict=True):
        assert np.array_equal(one, other)


def reference_statistics(images, weight=None):
    pixels = images.astype(np.float64).swapaxes(0, 1).reshape(images.shape[1], -1)
    per_pixel = None
    if weight is not None:
        per_pixel = np.repeat(weight, images[0, 0].size)
    mean = np.average(pixels, axis=1, weights=per_pixel)
    deviation = pixels - mean[:, None]
    return mean, np.sqrt(np.average(deviation**2, axis=1, weights=per_pixel))


@pytest.mark.parametrize("elements", [1, 500, 2**20])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "i2", "f4", "f8", "?"])
@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 4, 3, 5)])
def test_statistics_equal_those_of_numpy(shape, dtype, weighted, elements, monkeypatch, rng):
    monkeypatch.setattr(ImageDataset, "block_elements", elements)
    images = (rng.random((25, *shape)) * 200).astype(dtype)
    if dtype == "?":
        images = rng.random((25, *shape)) < 0.3
    weight = rng.exponential(size=25) if weighted else None
    rows = rng.permutation(25)[:20]
    data = ImageDataset(images.reshape(25, -1), sample_shape=shape, rows=rows)
    if weighted:
        data = data.reweighted(weight[rows])
    expected = reference_statistics(images[rows], weight[rows] if weighted else None)
    for value, reference in zip(channel_statistics(data), expected, strict=True):
        assert value.shape == (shape[0], *[1] * len(shape[1:]))
        assert value.dtype == np.float64
        np.testing.assert_allclose(value.ravel(), reference, rtol=1e-12)


@pytest.mark.parametrize("elements", [100, 2**20])
def test_integer_weights_equal_repeated_rows(elements, monkeypatch, rng):
    monkeypatch.setattr(ImageDataset, "block_elements", elements)
    images, weight = rng.normal(5, 2, size=(15, 2, 4, 4)), rng.integers(0, 4, size=15)
    weight[:7] = 0  # whole blocks without weight
    weighted = channel_statistics(ImageDataset(images, sample_weight=weight))
    repeated = channel_statistics(ImageDataset(np.repeat(images, weight, axis=0)))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-12)
    scaled = channel_statistics(ImageDataset(images, sample_weight=weight * 1e-6))
    np.testing.assert_allclose(scaled, weighted, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3, 1e-300, 1e8 + 0.1])
@pytest.mark.parametrize("elements", [64, 2**20])
def test_constant_channels_have_deviation_one(value, elements, monkeypatch, rng):
    monkeypatch.setattr(ImageDataset, "block_elements", elements)
    images = rng.normal(size=(300, 2, 8, 8))
    images[:, 1] = value
    for weight in (None, rng.random(300)):
        mean, std = channel_statistics(ImageDataset(images, sample_weight=weight))
        assert mean[1] == pytest.approx(value, rel=1e-12)
        assert std[1] == 1
        assert std[0] == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("elements", [128, 2**20])
def test_small_noise_on_a_large_offset(elements, monkeypatch, rng):
    monkeypatch.setattr(ImageDataset, "block_elements", elements)
    images = 1e8 + rng.normal(scale=0.01, size=(200, 1, 8, 8))
    mean, std = channel_statistics(ImageDataset(images))
    exact = images - 1e8
    assert std[0] == pytest.approx(exact.std(), rel=1e-7)
    assert mean[0] - 1e8 == pytest.approx(exact.mean(), abs=1e-7)


class Eye(nn.Module):
    """Gives back what it gets, and keeps it."""

    def __init__(self, in_channels, n_classes, **options):
        super().__init__()
        self.options = (in_channels, n_classes, options)
        self.weight = nn.Parameter(torch.ones(n_classes))

    def forward(self, x):
        self.seen = x
        return x.flatten(1)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("source", [torch.uint8, torch.int16, torch.bool, torch.float16])
def test_images_are_converted_and_standardised(shape, dtype, source):
    images = torch.arange(2 * np.prod(shape)).reshape(2, *shape).to(source)
    before = images.clone()
    mean, std = np.array([1.0, 2.0, 30.0]), np.array([1.0, 0.5, 3.0])
    per_channel = (3, *[1] * (len(shape) - 1))
    mean, std = mean.reshape(per_channel), std.reshape(per_channel)
    module = StandardizedModule(Eye, 3, 2, dtype, mean, std, knob=1)
    assert module.network.options == (3, 2, {"knob": 1})
    assert {value.dtype for value in module.state_dict().values()} == {dtype}
    module(images)
    expected = (images.double().numpy() - mean) / std
    seen = module.network.seen
    assert seen.dtype == dtype
    assert seen.shape == images.shape
    layout = torch.channels_last if len(shape) == 3 else torch.channels_last_3d
    assert seen.is_contiguous(memory_format=layout)
    np.testing.assert_allclose(seen.numpy(), expected, rtol=4 * torch.finfo(dtype).eps)
    assert torch.equal(images, before)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 2)])
def test_images_that_need_no_conversion_are_not_changed(shape):
    layout = torch.channels_last if len(shape) == 3 else torch.channels_last_3d
    images = torch.randn(3, *shape, dtype=torch.float64).contiguous(memory_format=layout)
    before = images.clone()
    statistics = (np.full((2, *[1] * (len(shape) - 1)), value) for value in (5.0, 2.0))
    module = StandardizedModule(Eye, 2, 2, torch.float64, *statistics)
    module(images)
    assert torch.equal(images, before)
    assert torch.equal(module.network.seen, (before - 5) / 2)


def test_no_standardisation():
    images = torch.full((2, 1, 3, 3), 7, dtype=torch.uint8)
    module = StandardizedModule(Eye, 1, 2, torch.float32)
    module(images)
    assert torch.equal(module.network.seen, images.float())
    assert module.state_dict().keys() == {"network.weight"}


def test_standardised_training_images_have_mean_0_and_deviation_1(rng):
    images = rng.normal([[[3.0]], [[-50.0]]], [[[0.1]], [[20.0]]], size=(30, 2, 6, 6))
    module = StandardizedModule(Eye, 2, 2, torch.float64, *channel_statistics(ImageDataset(images)))
    module(torch.from_numpy(images))
    for channel in module.network.seen.unbind(1):
        assert channel.mean().item() == pytest.approx(0, abs=1e-12)
        assert channel.std(correction=0).item() == pytest.approx(1, rel=1e-12)


def test_factory_must_make_a_module():
    with pytest.raises(TypeError, match=r"must make a torch\.nn\.Module .*; got 'network'"):
        StandardizedModule(lambda in_channels, n_classes: "network", 1, 2, torch.float32)


def test_failing_factory_is_told_how_it_was_called():
    def factory(in_channels, n_classes, depth):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no") as error:
        StandardizedModule(factory, 3, 2, torch.float32, depth=7)
    (note,) = error.value.__notes__
    assert "f(3, 2, depth=7)" in note
    assert "factory" in note


def test_a_state_is_contiguous_and_the_weights_keep_their_layout(tmp_path):
    def factory(in_channels, n_classes):
        inner = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4))
        return nn.Sequential(inner, nn.Flatten(), nn.Linear(4 * 36, n_classes))

    module = StandardizedModule(factory, 3, 2, torch.float32)
    strides = [weight.stride() for weight in module.parameters()]
    for part in (module, module.network, module.network[0], module.network[0][0]):
        state = part.state_dict()
        assert all(value.is_contiguous() for value in state.values())
        safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
        kept = part.state_dict(keep_vars=True)
        assert {name: id(kept[name]) for name, _ in part.named_parameters()} == {
            name: id(weight) for name, weight in part.named_parameters()
        }
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
    module.load_state_dict(before)
    assert [weight.stride() for weight in module.parameters()] == strides
    assert all(torch.equal(w, before[name]) for name, w in module.named_parameters())
    # A network that is made once more has the hook once.
    again = StandardizedModule(lambda *args: module.network, 3, 2, torch.float32)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(again.network)))
    assert copied.state_dict()["0.0.weight"].is_contiguous()
    plain = StandardizedModule(factory, 3, 2, torch.float32, layout=Layout(of_weights=False))
    assert plain.state_dict()["network.0.0.weight"].data_ptr() in [
        weight.data_ptr() for weight in plain.parameters()
    ]
