"""Tests of the memory that a training step takes."""

import numpy as np
import pytest
import torch
from torch import nn

from skimbal import CNN2DClassifier, CNN3DClassifier, SliceNet
from skimbal.exceptions import ParameterError
from skimbal.memory import estimate_memory, memory_of_machine, peak_of_step


def small(**params):
    return CNN2DClassifier(**{"module": "small", "batch_size": 16, **params})


def test_the_peak_counts_what_lives_at_once():
    def step():
        a = torch.ones(1000)
        b = a + 1
        del a
        view = b.view(10, 100)
        return view.exp_().sum()

    assert peak_of_step(step) == 8000
    assert peak_of_step(lambda: torch.ones(1000, device="meta") * 2) == 8000


def test_a_trace_without_data_equals_a_step():
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten())

    def step(device):
        net = network.to(device)
        net.zero_grad(set_to_none=True)
        net(torch.zeros(16, 1, 24, 24, device=device)).sum().backward()

    peaks = [peak_of_step(lambda device=device: step(device)) for device in ("cpu", "meta")]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.2)


def test_the_estimate_is_the_peak_of_a_step_of_the_fitted_network():
    clf = small(augment=None, max_epochs=0).fit(np.zeros((32, 24, 24), np.float32), [0, 1] * 16)
    network = clf.net_.module_.train()
    images, labels = np.zeros((16, 1, 24, 24), np.uint8), torch.zeros(16, dtype=torch.long)

    def step():
        logits = network(torch.tensor(images))
        torch.autograd.backward(nn.functional.cross_entropy(logits, labels))

    estimate = estimate_memory(clf, (24, 24))
    expected = peak_of_step(step) - estimate.gradients
    assert estimate.activations == pytest.approx(expected, rel=0.05)
    assert estimate.total > estimate.activations


def test_it_grows_with_rows_and_voxels_and_not_with_the_data():
    base = estimate_memory(small(), (32, 32))
    assert estimate_memory(small(batch_size=64), (32, 32)).activations == pytest.approx(
        4 * base.activations, rel=0.1
    )
    assert estimate_memory(small(), (64, 64)).activations == pytest.approx(
        4 * base.activations, rel=0.1
    )
    half = estimate_memory(small(micro_batch_size=8), (32, 32))
    assert half.activations == pytest.approx(base.activations / 2, rel=0.1)
    assert (half.batch_size, half.rows_at_once, half.weights) == (16, 8, base.weights)
    assert "16 images, 8 at once" in str(half)
    # Batches are read whole, and mixed whole.
    assert half.images == base.images == 2 * 16 * 32 * 32
    mixed = estimate_memory(small(micro_batch_size=8, augment=["light", "mixup"]), (32, 32))
    assert mixed.images == half.images + 4 * 16 * 32 * 32
    cropped = estimate_memory(small(crop_size=16), (32, 32))
    assert cropped.activations < 0.4 * base.activations
    low = estimate_memory(small(dtype="bfloat16"), (32, 32))
    # And a copy of the weights.
    assert low.activations == (base.activations // 2) + base.weights // 2


def test_images_in_float64_make_a_network_in_float64():
    base = estimate_memory(small(), (32, 32))
    assert estimate_memory(small(), (32, 32), image_dtype=np.uint8) == base
    double = estimate_memory(small(), (32, 32), image_dtype=np.float64)
    assert double.weights == pytest.approx(2 * base.weights, rel=0.01)
    assert double.optimizer == pytest.approx(2 * base.optimizer, rel=0.01)
    assert double.activations == pytest.approx(2 * base.activations, rel=0.1)
    assert double.images == 8 * base.images
    given = estimate_memory(small(dtype="float64"), (32, 32))
    assert (given.weights, given.activations) == (double.weights, double.activations)
    single = estimate_memory(small(dtype="float32"), (32, 32), image_dtype=">f8")
    assert (single.weights, single.images) == (base.weights, double.images)
    for dtype in ("text", object, "datetime64[s]"):
        with pytest.raises(ParameterError, match="image_dtype must be None or a dtype of numbers"):
            estimate_memory(small(), (32, 32), image_dtype=dtype)


def test_auto_counts_as_the_whole_batch():
    found = estimate_memory(small(micro_batch_size="auto"), (32, 32))
    assert found == estimate_memory(small(), (32, 32))


@pytest.mark.parametrize(
    ("params", "times"),
    [
        ({}, 2),
        ({"optimizer": "sgd"}, 0),
        ({"optimizer": "sgd", "net": {"optimizer__momentum": 0.9}}, 1),
        ({"optimizer": "rmsprop"}, 1),
    ],
)
def test_the_state_of_the_optimizer_counts(params, times):
    estimate = estimate_memory(small(**params), (8, 8))
    assert estimate.gradients == pytest.approx(estimate.weights, rel=0.01)
    assert estimate.optimizer == pytest.approx(times * estimate.gradients, rel=0.01)


def test_options_of_the_network_and_its_kind_count():
    few = estimate_memory(small(net={"module__width": 8}), (16, 16))
    assert few.weights < 0.2 * estimate_memory(small(net={"module__width": 32}), (16, 16)).weights
    volumes = CNN3DClassifier(module=SliceNet("small"), batch_size=2)
    assert estimate_memory(volumes, (8, 8, 8)).total > 0


class Deciding(nn.Module):
    """A network that cannot be traced without data."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
        self.body(torch.zeros(1, 1, 16, 16))

    def forward(self, x):
        return self.body(x) if x.mean().item() < 1e9 else self.body(-x)


def test_a_network_that_cannot_be_traced_is_run_on_few_images():
    traced = estimate_memory(small(module=lambda c, k: Deciding().body), (16, 16))
    run = estimate_memory(small(module=lambda c, k: Deciding()), (16, 16))
    assert run.activations == pytest.approx(traced.activations, rel=0.3)


def test_nothing_is_changed():
    clf, state = small(), torch.random.get_rng_state()
    estimate_memory(clf, (8, 8), 3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not hasattr(clf, "net_")


@pytest.mark.parametrize(
    ("shape", "n_classes", "match"),
    [
        ((8,), 2, "shape must be"),
        ((8, 8, 8, 8), 2, "shape must be"),
        ((8, 0), 2, "shape must be"),
        ((8, 8), 1, "n_classes must be"),
    ],
)
def test_other_shapes_are_refused(shape, n_classes, match):
    with pytest.raises(ParameterError, match=match):
        estimate_memory(small(), shape, n_classes)
    with pytest.raises(ParameterError, match="optimizer"):
        estimate_memory(small(optimizer="adamw3"), (8, 8))


def test_the_memory_of_the_machine_is_known_on_linux():
    assert memory_of_machine() > 2**28
