"""The order of images and weights in memory."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import skimbal
from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.exceptions import ParameterError
from skimbal.networks import BUILT_IN, Pretrained
from skimbal.training import Layout, StandardizedModule, layout

INNERMOST = {4: torch.channels_last, 5: torch.channels_last_3d}
FORMATS = ("channels_last", "contiguous")
CONVOLUTIONAL = ("small", "residual", "resnet18")
NORMS = {
    "group": nn.GroupNorm(1, 2),
    "instance": nn.InstanceNorm3d(2),
    "batch": nn.BatchNorm2d(2),
    "layer": nn.LayerNorm(2),
}


class OnDevice(StandardizedModule):
    """A network that asks for the layout of a device, and stays on the CPU."""

    def __init__(self, *args, memory_format="auto", device="cpu", **kwargs):
        super().__init__(*args, layout=Layout(memory_format, device), **kwargs)


def in_order(tensor, memory_format):
    """Tell whether a tensor has an order and no other, or too few axes or channels to have one."""
    if tensor.ndim < 4 or tensor.shape[1] == 1 or tensor[0, 0].numel() == 1:
        return True
    if memory_format == "channels_last":
        return tensor.is_contiguous(memory_format=INNERMOST[tensor.ndim])
    return tensor.is_contiguous()


def changes_of_layout(module, images):
    """Return the layers whose output, gradient or weight has another layout than the images.

    The gradient that comes from the last pooling is contiguous in any network.
    """
    found = []

    def look(name, tensor, what):
        if not in_order(tensor, module.memory_format):
            found.append((name, what, tensor.stride()))

    def follow(name):
        def hook(layer, inputs, output):
            look(name, output, "output")
            if module.memory_format == "contiguous" and output.requires_grad:
                output.register_hook(lambda gradient: look(name, gradient, "gradient"))

        return hook

    handles = [
        layer.register_forward_hook(follow(name))
        for name, layer in module.network.named_modules()
        if not list(layer.children()) and not isinstance(layer, nn.Identity)
    ]
    logits = module(images)
    nn.functional.cross_entropy(logits, torch.zeros_like(logits[:, 0], dtype=torch.long)).backward()
    for handle in handles:
        handle.remove()
    found += [(n, "weight", w.stride()) for n, w in module.network.named_parameters()
              if not in_order(w, module.memory_format)]  # fmt: skip
    return found


def make(name, shape, **options):
    torch.manual_seed(0)
    dtype = options.pop("dtype", torch.float32)
    return OnDevice(BUILT_IN[name], 1, 2, dtype, spatial_shape=shape, width=16, **options)


@pytest.mark.parametrize("shape", [(8, 8), pytest.param((12, 12, 12), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_no_layer_changes_a_contiguous_layout(name, shape):
    images = torch.randn(4, 1, *shape)
    assert changes_of_layout(make(name, shape, memory_format="contiguous"), images) == []


def test_no_layer_of_images_changes_the_layout():
    assert changes_of_layout(make("small", (8, 8)), torch.randn(4, 1, 8, 8)) == []


def test_the_other_layout_of_a_kernel_is_noticed():
    module = make("small", (16, 16))
    module.network.features[2].body[1].register_forward_hook(lambda *args: args[-1].contiguous())
    assert changes_of_layout(module, torch.randn(4, 1, 16, 16))


@pytest.mark.parametrize("shape", [(8, 8), pytest.param((12, 12, 12), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["small", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_both_layouts_are_one_function_with_one_state(name, shape):
    images, double = torch.randn(4, 1, *shape), torch.float64
    one, other = (make(name, shape, memory_format=one, dtype=double) for one in FORMATS)
    assert [*one.state_dict()] == [*other.state_dict()]
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(images), other(images), rtol=1e-10, atol=1e-10)
    for module in (one, other):
        module(images).logsumexp(1).sum().backward()
    for (key, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-10, msg=key)


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_strides_name_the_layout(memory_format, n_channels):
    seen = []

    def factory(in_channels, n_classes):
        net = nn.Sequential(nn.Conv2d(in_channels, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 6, 2))
        net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        return net

    module = OnDevice(factory, n_channels, 2, torch.float32, memory_format=memory_format)
    batch = torch.randn(5, n_channels, 6, 8)
    for images in (batch, batch.to(memory_format=torch.channels_last), batch.flip(0)[:, :, :, :]):
        module(images)
    for x in seen:
        assert x.shape == batch.shape
        assert x.stride()[1:] == (
            (1, 8 * n_channels, n_channels) if memory_format == "channels_last" else (48, 8, 1)
        )


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_auto_follows_the_kernels_of_the_device(norm, kept, monkeypatch):
    layout.keeps_channels_last.cache_clear()

    def normalise(x, *args):
        assert x.device.type == "meta"
        return x.clone() if kept else x.contiguous()

    for function in ("group_norm", "instance_norm"):
        monkeypatch.setattr(layout.functional, function, normalise)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), NORMS[norm])
    lost = not kept and norm in ("group", "instance")
    assert Layout(device="meta").decide(network) == FORMATS[lost]
    assert Layout(device="cpu").decide(network) == "channels_last"
    for memory_format in FORMATS:
        assert Layout(memory_format, "meta").decide(network) == memory_format
    layout.keeps_channels_last.cache_clear()


def test_a_group_normalisation_on_the_cpu_keeps_its_layout():
    assert layout.keeps_channels_last("group", "cpu")
    assert not layout.keeps_channels_last("instance", "cpu")


def test_weights_of_a_factory_become_contiguous():
    def factory(in_channels, n_classes):
        return BUILT_IN["small"](in_channels, n_classes, spatial_shape=(8, 8)).to(
            memory_format=torch.channels_last
        )

    module = OnDevice(factory, 1, 2, torch.float32, memory_format="contiguous")
    assert all(weight.is_contiguous() for weight in module.parameters())


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("NHWC", "Did you mean 'channels_last'?"),
        ("channel_last", "Did you mean 'channels_last'?"),
        (torch.channels_last_3d, "Did you mean 'channels_last'?"),
        ("channels_first", "Did you mean 'contiguous'?"),
        (torch.contiguous_format, "Did you mean 'contiguous'?"),
        (None, "Did you mean 'auto'?"),
        (3, "got 3"),
        (["auto"], "got ['auto']"),
    ],
)
def test_an_unknown_layout_is_refused(given, advice):
    X, y = np.zeros((8, 8, 8), np.float32), [0, 1] * 4
    with pytest.raises(ParameterError, match=r"^net__memory_format must be one of 'auto'") as error:
        CNN2DClassifier(net={"memory_format": given}).fit(X, y)
    assert advice in str(error.value)


@pytest.mark.parametrize("name", ["memory_fromat", "channels_last", "layout"])
def test_another_name_is_refused(name):
    X, y = np.zeros((8, 8, 8), np.float32), [0, 1] * 4
    with pytest.raises(ParameterError, match=r"^net must be .* Did you mean 'memory_format'\?"):
        CNN2DClassifier(net={name: "contiguous"}).fit(X, y)


def images_of(ndim):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, *[8] * ndim)), np.arange(24) % 2
    X[(y == 1, *[slice(4)] * ndim)] += 1
    return X, y


def classifier(cls, memory_format, **params):
    net = {"module__width": 8, "memory_format": memory_format, **params.pop("net", {})}
    fixed = {"module": "small", "dtype": "float64", "max_epochs": 2, "batch_size": 8}
    return cls(**{**fixed, "random_state": 0, "net": net, **params})


@pytest.mark.slow
@pytest.mark.parametrize("cls", [CNN2DClassifier, CNN3DClassifier])
def test_a_fit_is_the_same_in_both_layouts(cls, tmp_path):
    X, y = images_of(len(cls.spatial_axes))
    fits = [classifier(cls, memory_format).fit(X, y) for memory_format in FORMATS]
    results = [clf.predict_proba(X) for clf in fits]
    np.testing.assert_allclose(*results, rtol=1e-6)
    for clf, memory_format, expected in zip(fits, FORMATS, results, strict=True):
        assert clf.net_.module_.memory_format == memory_format
        clf.save(tmp_path / "model.skimbal")
        for again in (
            skimbal.load(tmp_path / "model.skimbal"),
            pickle.loads(pickle.dumps(clf)),
        ):
            assert again.net_.module_.memory_format == memory_format
            assert np.array_equal(again.predict_proba(X), expected)
        clf.partial_fit(X, y)
        assert clf.net_.module_.memory_format == memory_format


def test_an_optimizer_that_views_gradients_takes_contiguous_weights():
    X, y = images_of(2)
    net = {"optimizer__max_iter": 2}
    clf = classifier(CNN2DClassifier, "contiguous", optimizer="lbfgs", net=net).fit(X, y)
    assert all(weight.is_contiguous() for weight in clf.net_.module_.parameters())
    with pytest.raises(ParameterError, match=r"'auto' or 'contiguous' with 'lbfgs'"):
        classifier(CNN2DClassifier, "channels_last", optimizer="lbfgs", net=net).fit(X, y)


class Norm2d(nn.Module):
    """A backbone with a group normalisation."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(in_channels, 4, 3), nn.GroupNorm(2, 4)
        self.fc = nn.Linear(4, n_classes)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_pretrained_network_keeps_the_layout(in_channels, memory_format):
    spec = Pretrained(lambda: Norm2d(3, 2), mean=[0.5] * 3, std=[0.2] * 3)

    def factory(in_channels, n_classes):
        return spec.build(in_channels, n_classes, (8, 8), skimbal.networks.PixelRange(0, 1, False))

    module = OnDevice(factory, in_channels, 2, torch.float32, memory_format=memory_format)
    assert changes_of_layout(module, torch.rand(4, in_channels, 8, 8)) == []


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(16, 16), (12, 12, 12)])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_no_layer_changes_the_layout_on_cuda(name, shape):
    module = make(name, shape, device="cuda").to("cuda")
    assert changes_of_layout(module, torch.randn(4, 1, *shape, device="cuda")) == []


@pytest.mark.cuda
@pytest.mark.parametrize("cls", [CNN2DClassifier, CNN3DClassifier])
@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_a_step_and_a_prediction_copy_to_no_other_layout(cls, name, account):
    X, y = images_of(len(cls.spatial_axes))
    # A strided convolution of less than 16 channels copies its weights, which are few numbers.
    params = {"module": name, "device": "cuda", "dtype": "auto", "net": {"module__width": 16}}
    with account("layout") as events:
        clf = classifier(cls, "auto", **params).fit(X, y)
        clf.predict(X)
    assert clf.net_.module_.memory_format == "contiguous"
    assert events.count() <= 2, events  # the trial of the kernel
    with account("layout") as events:
        classifier(cls, "channels_last", **params).fit(X, y)
    assert events.count() > 6 * 10  # of 6 steps
