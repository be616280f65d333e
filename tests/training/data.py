"""Data sets, nets and comparisons that the tests of training share."""

import copy
import pickle
import random
import signal
from functools import partial

import numpy as np
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

from skimbal.losses import LossMix, get_loss
from skimbal.networks import SmallCNN
from skimbal.training import (
    BlockIterator,
    ImageDataset,
    StandardizedModule,
    TrainingNet,
    TrainIterator,
    softmax,
)

SPECS = ["ce", "wce", "f1", "mcc", "ce+mcc", "focal", "0.5*ce + f1 + 2*mcc", "la", "ldam+mcc"]


def numbered_rows(n, shape=(1, 2, 2)):
    """Make images that hold their own row number."""
    return np.broadcast_to(np.arange(n).reshape(-1, *[1] * len(shape)), (n, *shape))


def draw(n=11, shape=(2, 6, 5), n_classes=3, weighted=True, seed=0, dtype=np.float64):
    """Draw images that know something of their labels, with weights whose mean is not 1."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    X = rng.normal(size=(n, *shape)) + 0.3 * y.reshape(-1, *[1] * len(shape))
    weight = rng.uniform(0.1, 3, size=n) if weighted else None
    return ImageDataset(X.astype(dtype), y, sample_weight=weight)


def make_net(data, loss="ce+mcc", *, factory=None, n_classes=3, seed=0, **options):
    """Make a net as the classifiers do, small and in float64."""
    if factory is None:
        factory = small_network(data)
    mix = LossMix.from_expression(loss, warmup_epochs=0)
    arguments = {
        "module__factory": factory,
        "module__in_channels": data.sample_shape[0],
        "module__n_classes": n_classes,
        "module__dtype": torch.float64,
        "criterion": get_loss(mix, class_counts=range(1, n_classes + 1)),
        "optimizer": torch.optim.SGD,
        "lr": 0.1,
        "batch_size": len(data),
        "predict_nonlinearity": softmax,
        "dataset": partial(ImageDataset, sample_shape=data.sample_shape),
        "train_split": None,
        "iterator_train": TrainIterator,
        "iterator_valid": BlockIterator,
        "classes": np.arange(n_classes),
        "verbose": 0,
    }
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return TrainingNet(StandardizedModule, **(arguments | options)).initialize()


def small_network(data, **options):
    options = {"width": 8, "n_stages": 1} | options
    return partial(SmallCNN, spatial_shape=data.sample_shape[1:], **options)


def all_rows(data):
    return data.batch(np.arange(len(data)))


def gradient_of(module):
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def step_by_hand(net, data, n_parts=1):
    """Compute loss and gradient of the whole data set from one graph over all parts."""
    module = copy.deepcopy(net.module_).train()
    batch = all_rows(data)
    logits = torch.cat([module(part) for part in batch.images.tensor_split(n_parts)])
    loss = net.criterion_(logits, batch.labels, batch.weight, normalizer=len(data))
    loss.backward()
    return loss.detach(), gradient_of(module), dict(module.named_buffers())


def weights_of(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.module_.parameters()])


def relative_error(value, expected):
    return ((value - expected).abs().max() / expected.abs().max()).item()


def state_of(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def draw_from_all():
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def all_states():
    name, key, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), (name, key.tolist(), *rest), torch.get_rng_state().tolist()


def early_stopping(patience):
    # No loss falls by this share in one epoch.
    return EarlyStopping("train_loss", patience=patience, threshold=0.9, sink=lambda text: None)


class Interrupt(Callback):
    """Ctrl-C at the end of the second epoch, or an end by the callback itself."""

    def __init__(self, by_signal=True):
        self.ended, self.by_signal = 0, by_signal

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            if not self.by_signal:
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)

    def on_train_end(self, net, X=None, y=None, **kwargs):
        self.ended += 1
        self.got = X, y


def round_trip(net, how):
    return pickle.loads(pickle.dumps(net)) if how == "pickle" else copy.deepcopy(net)


def cosine(n_epochs):
    return [("schedule", LRScheduler("CosineAnnealingLR", T_max=n_epochs))]


DTYPES = [
    ("?", torch.bool),
    ("u1", torch.uint8),
    ("i1", torch.int8),
    ("<u2", torch.uint16),
    (">u2", torch.uint16),
    ("<i2", torch.int16),
    (">i2", torch.int16),
    ("<u4", torch.uint32),
    (">i4", torch.int32),
    ("<u8", torch.uint64),
    (">i8", torch.int64),
    ("<f2", torch.float16),
    (">f2", torch.float16),
    ("<f4", torch.float32),
    (">f4", torch.float32),
    ("<f8", torch.float64),
    (">f8", torch.float64),
    ("g", torch.float64),
]
