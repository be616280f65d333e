"""The contestants of the speed benchmarks: the same network, trained and applied by each library.

What is set up for a training (network, optimiser, trainer) is inside the clock for everyone. The
images of all but skimbal are standardised and, for the tuned loops and Keras, brought into their
layout before the clock starts; skimbal gets them raw, as a user has them.
"""

import importlib
import logging
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import ModuleType
from typing import Any
from unittest import mock

# Before keras is imported, which reads them then.
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_TORCH_DEVICE"] = "cpu"

import numpy as np
import skorch
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measuring import PLAIN, Timed, clocked
from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.networks import ResidualBlock, ResNet
from skimbal.sampling import BatchSampler

LR = 1e-3
#: Names of the contestants that several scripts speak of.
LIMIT, SKIMBAL = "tuned loop", "skimbal"
LIGHTNING, KERAS, TENSORFLOW = "Lightning", "Keras on torch", "Keras on TensorFlow"

#: Row numbers of each batch of each epoch.
Batches = Sequence[Sequence[np.ndarray]]


class PlainCNN(nn.Module):
    """Four times convolution, batch normalisation, ReLU and pooling; then a mean and a layer."""

    def __init__(self, in_channels: int, n_classes: int, ndim: int, width: int) -> None:
        super().__init__()
        conv, norm, pool = {
            2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d),
            3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d),
        }[ndim]
        layers: list[nn.Module] = []
        channels = in_channels
        for stage in range(4):
            out_channels = width * 2**stage
            layers += [conv(channels, out_channels, 3, padding=1, bias=False)]
            layers += [norm(out_channels), nn.ReLU(inplace=True), pool(2)]
            channels = out_channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(2).mean(2))


class Negligible(nn.Module):
    """A linear layer: what is left of a step is what the library spends on it."""

    def __init__(self, in_channels: int, n_classes: int, spatial_shape: Sequence[int]) -> None:
        super().__init__()
        self.classifier = nn.Linear(in_channels * int(np.prod(spatial_shape)), n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x.flatten(1))


@dataclass(frozen=True)
class Case:
    """A shape of images and a network, with as much training as takes a second or two."""

    shape: tuple[int, ...]  # (c, h, w) or (c, d, h, w)
    batch_size: int
    n_batches: int
    epochs: int
    network: str = "plain"
    width: int = 16
    n_classes: int = 3

    @property
    def ndim(self) -> int:
        return len(self.shape) - 1

    @property
    def n(self) -> int:
        return self.batch_size * self.n_batches

    def build(self, in_channels: int, n_classes: int) -> nn.Module:
        """Make the network, always with the same weights; the signature is that of a factory."""
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(0)
            if self.network == "plain":
                return PlainCNN(in_channels, n_classes, self.ndim, self.width)
            if self.network == "negligible":
                return Negligible(in_channels, n_classes, self.shape[1:])
            return ResNet(
                in_channels,
                n_classes,
                self.shape[1:],
                n_blocks=(2, 2, 2, 2),
                width=self.width,
                norm="batch",
            )


CASES = {
    "2D 28x28x3 b32": Case((3, 28, 28), 32, 30, 4),
    "2D 64x64x3 b32": Case((3, 64, 64), 32, 6, 4),
    "2D 128x128x3 b16": Case((3, 128, 128), 16, 3, 4),
    "3D 28x28x28x1 b16": Case((1, 28, 28, 28), 16, 6, 4, width=8),
    "3D 64x64x64x1 b4": Case((1, 64, 64, 64), 4, 3, 4, width=8),
    "resnet18 2D 64x64x3 b32": Case((3, 64, 64), 32, 6, 4, "resnet18"),
    "resnet18 3D 32x32x32x1 b8": Case((1, 32, 32, 32), 8, 4, 4, "resnet18"),
}


class Data:
    """Random images with labels, raw and as each contestant takes them."""

    def __init__(self, case: Case, dtype: type = np.float32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.case = case
        #: Raw, in units and with an offset that standardisation has to take away.
        self.X = 100 + 20 * rng.standard_normal((case.n, *case.shape), dtype=dtype)
        self.y = rng.integers(case.n_classes, size=case.n)
        axes = (0, *range(2, self.X.ndim))
        self.mean = self.X.mean(axes, dtype=np.float64, keepdims=True).astype(dtype)
        self.std = self.X.std(axes, dtype=np.float64, keepdims=True).astype(dtype)
        self.images = torch.from_numpy((self.X - self.mean) / self.std)
        #: The same with the channels innermost in memory and as the last axis: a selection of rows
        #: would not keep the strides of a tensor that only pretends to have them first.
        self.images_last = self.images.movedim(1, -1).contiguous()
        self.labels = torch.from_numpy(self.y)

    def network(self, *_: Any) -> nn.Module:
        """Make the network in the dtype of the images."""
        return self.case.build(self.case.shape[0], self.case.n_classes).to(self.images.dtype)


class GivenBatches:
    """A batch sampler for a DataLoader that repeats the batches of another training."""

    def __init__(self, batches: Batches) -> None:
        self._epochs = iter(batches)
        self._length = len(batches[0])

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in next(self._epochs))

    def __len__(self) -> int:
        return self._length


def channels_last(ndim: int) -> torch.memory_format:
    return torch.channels_last if ndim == 2 else torch.channels_last_3d


def loader(data: Data, batches: Batches | None) -> DataLoader:
    rows = TensorDataset(data.images, data.labels)
    if batches is not None:
        return DataLoader(rows, batch_sampler=GivenBatches(batches))
    return DataLoader(rows, batch_size=data.case.batch_size, shuffle=True)


# Training: each of these trains once. It returns a function that reads the loss of each step, so
# that reading it does not count, or None where the losses of single steps are not to be had.


def tuned_loop(
    data: Data,
    batches: Batches | None = None,
    *,
    contiguous: bool = False,
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Callable[[], Any]:
    """Train as fast as plain torch does; the limit that the others are compared with."""
    case, X, y = data.case, data.images if contiguous else data.images_last, data.labels
    network = data.network().train()
    if not contiguous:
        network.to(memory_format=channels_last(case.ndim))
    optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)
    losses = []
    for epoch in range(case.epochs):
        if batches is None:
            parts = torch.randperm(case.n).split(case.batch_size)
        else:
            parts = tuple(map(torch.from_numpy, batches[epoch]))
        for rows in parts:
            images = X.index_select(0, rows)
            if not contiguous:
                images = images.movedim(-1, 1)
            loss = criterion(network(images), y.index_select(0, rows))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    return lambda: torch.stack(losses).numpy()


def data_loader_loop(data: Data, batches: Batches | None = None) -> Callable[[], Any]:
    """Train in the loop that tutorials teach."""
    network = data.network()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    losses = []
    rows = loader(data, batches)
    network.train()
    for _ in range(data.case.epochs):
        for images, labels in rows:
            optimizer.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return lambda: losses


def train_skorch(data: Data, batches: Batches | None = None) -> Callable[[], Any]:
    options: dict[str, Any] = {"iterator_train__shuffle": True}
    if batches is not None:
        options = {"iterator_train": lambda dataset, batch_size: loader(data, batches)}
    net = skorch.NeuralNetClassifier(
        data.network,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=LR,
        max_epochs=data.case.epochs,
        batch_size=data.case.batch_size,
        train_split=None,
        verbose=0,
        **options,
    ).fit(data.images.numpy(), data.y)
    return lambda: np.ravel(net.history[:, "batches", :, "train_loss"])


def lightning_module(lightning: ModuleType, network: nn.Module) -> Any:
    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.losses: list[Tensor] = []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            images, labels = batch
            loss = F.cross_entropy(self.network(images), labels)
            self.losses.append(loss.detach())
            return loss

        def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.network(batch[0]).softmax(1)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LR)

    return Module()


def lightning_trainer(lightning: ModuleType, epochs: int) -> Any:
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def train_lightning(
    lightning: ModuleType, data: Data, batches: Batches | None = None
) -> Callable[[], Any]:
    module = lightning_module(lightning, data.network())
    lightning_trainer(lightning, data.case.epochs).fit(module, loader(data, batches))
    return lambda: torch.stack(module.losses).numpy()


def as_keras(keras: ModuleType, network: nn.Module, shape: Sequence[int]) -> Any:
    """Write a network in Keras layers, with channels last as is natural there, and its weights."""
    layers, ndim = keras.layers, len(shape) - 1
    weights: list[tuple[Any, list[Tensor]]] = []

    def layer(name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(layers, f"{name}{ndim}D")(*args, **kwargs)

    def padded(x: Any, padding: Any) -> Any:
        padding = (padding,) * ndim if isinstance(padding, int) else padding
        return layer("ZeroPadding", padding)(x) if any(padding) else x

    def add(module: nn.Module, x: Any) -> Any:
        if isinstance(module, nn.Sequential):
            for child in module:
                x = add(child, x)
        elif isinstance(module, ResidualBlock):
            x = layers.ReLU()(layers.Add()([add(module.body, x), add(module.shortcut, x)]))
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            same = set(module.stride) == {1}
            conv = layer(
                "Conv",
                module.out_channels,
                module.kernel_size,
                strides=module.stride,
                padding="same" if same else "valid",
                use_bias=False,
            )
            x = conv(x if same else padded(x, module.padding))
            weights.append((conv, [module.weight.permute(*range(2, ndim + 2), 1, 0)]))
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            norm = layers.BatchNormalization(momentum=0.9, epsilon=module.eps)
            x = norm(x)
            values = [module.weight, module.bias, module.running_mean, module.running_var]
            weights.append((norm, values))
        elif isinstance(module, nn.ReLU):
            x = layers.ReLU()(x)
        elif isinstance(module, nn.MaxPool2d | nn.MaxPool3d):
            # Behind a ReLU, a border of zeros does not change the largest value.
            pool = layer("MaxPooling", module.kernel_size, strides=module.stride)
            x = pool(padded(x, module.padding))
        elif not isinstance(module, nn.Identity):
            raise TypeError(f"no Keras layer is known for {module!r}")
        return x

    x = images = keras.Input((*shape[1:], shape[0]))
    for name, child in network.named_children():
        if name != "classifier":
            x = add(child, x)
    flat = layers.Flatten() if isinstance(network, Negligible) else layer("GlobalAveragePooling")
    linear: Any = network.classifier
    dense = layers.Dense(linear.out_features)
    model = keras.Model(images, dense(flat(x)))
    weights.append((dense, [linear.weight.T, linear.bias]))
    for keras_layer, values in weights:
        keras_layer.set_weights([value.detach().numpy() for value in values])
    return model


def compiled_keras(keras: ModuleType, data: Data) -> Any:
    model = as_keras(keras, data.network(), data.case.shape)
    model.compile(
        keras.optimizers.Adam(LR, epsilon=1e-8),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fit_keras(model: Any, data: Data) -> None:
    model.fit(
        data.images_last.numpy(),
        data.y,
        batch_size=data.case.batch_size,
        epochs=data.case.epochs,
        shuffle=True,
        verbose=0,
    )


def train_skimbal(data: Data, **options: Any) -> Any:
    """Fit as a user does: raw images in, all checks and the standardisation included."""
    classifier = CNN2DClassifier if data.case.ndim == 2 else CNN3DClassifier
    settings = {
        **PLAIN,
        "loss": "ce",
        "module": data.case.build,
        "lr": LR,
        "lr_schedule": None,
        "max_epochs": data.case.epochs,
        "batch_size": data.case.batch_size,
        "random_state": 0,
        **options,
    }
    return classifier(**settings).fit(data.X, data.y)


def import_peers() -> tuple[dict[str, Any], dict[str, str]]:
    """Import the libraries that are there; return the reasons why others are not."""
    found, missing = {}, {}
    for peer, get in (
        (LIGHTNING, partial(importlib.import_module, "lightning")),
        (KERAS, partial(importlib.import_module, "keras")),
        (TENSORFLOW, KerasOnTensorFlow),
    ):
        try:
            found[peer] = get()
        except ImportError as error:
            missing[peer] = str(error)
    if LIGHTNING in found:
        # It advises to use workers, a logger and more, once for each of its many trainers here.
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
    return found, missing


def training_contestants(
    data: Data, found: dict[str, Any]
) -> dict[str, Callable[..., Callable[[], Any] | None]]:
    """Return what trains once on the data, by name; all but skimbal and Keras take batches.

    Keras on TensorFlow makes its own data of the case, which are the same if their dtype and seed
    are the usual ones.
    """
    contestants: dict[str, Callable[..., Any]] = {
        LIMIT: lambda batches=None: tuned_loop(data, batches),
        "tuned loop, contiguous": lambda batches=None: tuned_loop(data, batches, contiguous=True),
        "DataLoader loop": lambda batches=None: data_loader_loop(data, batches),
        "skorch": lambda batches=None: train_skorch(data, batches),
    }
    if LIGHTNING in found:
        contestants[LIGHTNING] = lambda batches=None: train_lightning(
            found[LIGHTNING], data, batches
        )
    if KERAS in found:
        contestants[KERAS] = lambda: fit_keras(compiled_keras(found[KERAS], data), data)
    if TENSORFLOW in found:
        contestants[TENSORFLOW] = found[TENSORFLOW].training(data.case)
    contestants[SKIMBAL] = lambda: train_skimbal(data)
    return contestants


def skimbal_losses(data: Data) -> tuple[np.ndarray, Batches]:
    """Return the loss of each step of a fit of skimbal, and the batches that it was made of."""
    batches: list[list[np.ndarray]] = []
    draw = BatchSampler.__iter__

    def recording(self: BatchSampler) -> Iterator[np.ndarray]:
        batches.append([])
        for rows in draw(self):
            batches[-1].append(rows)
            yield rows

    with mock.patch.object(BatchSampler, "__iter__", recording):
        classifier = train_skimbal(data)
    return np.ravel(classifier.history_[:, "batches", :, "train_loss"]), batches


# Prediction: each of these makes a function from nothing to the probabilities of all images.


def fold(network: nn.Module) -> nn.Module:
    """Put each batch normalisation into the convolution before it; the network is changed."""
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return network


def torch_prediction(
    network: nn.Module, images: Tensor, block: int, ndim: int | None
) -> Callable[[], np.ndarray]:
    """Predict in blocks with plain torch; ``ndim`` axes with the channels last, or contiguous."""
    network.eval()
    if ndim is not None:
        network.to(memory_format=channels_last(ndim))

    def predict() -> np.ndarray:
        with torch.inference_mode():
            parts = images.split(block)
            if ndim is not None:
                parts = tuple(part.movedim(-1, 1) for part in parts)
            return torch.cat([network(part).softmax(1) for part in parts]).numpy()

    return predict


def skorch_prediction(
    network: nn.Module, images: Tensor, labels: np.ndarray, block: int
) -> Callable[[], np.ndarray]:
    net = skorch.NeuralNetClassifier(
        lambda: network,
        criterion=nn.CrossEntropyLoss,
        batch_size=block,
        train_split=None,
        verbose=0,
        classes=np.unique(labels),
    ).initialize()
    X = images.numpy()
    return lambda: net.predict_proba(X)


def lightning_prediction(
    lightning: ModuleType, network: nn.Module, images: Tensor, block: int
) -> Callable[[], np.ndarray]:
    module = lightning_module(lightning, network)
    trainer = lightning_trainer(lightning, 1)
    rows = DataLoader(TensorDataset(images), batch_size=block)
    return lambda: torch.cat(trainer.predict(module, rows)).numpy()


def keras_prediction(
    keras: ModuleType, network: nn.Module, shape: Sequence[int], images_last: Tensor, block: int
) -> Callable[[], np.ndarray]:
    logits = as_keras(keras, network, shape)
    model = keras.Model(logits.input, keras.layers.Softmax()(logits.output))
    X = images_last.numpy()
    return lambda: model.predict(X, batch_size=block, verbose=0)


class KerasOnTensorFlow:
    """Keras with its other backend, in a separate process: a process has one backend for good.

    The process stays for all rounds and waits while others take their turn. It clocks itself, as
    what it computes does not count as CPU time of the contestants' process.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(1, mp_context=context)
        self._call(_start_tensorflow)  # raises ImportError where a library is missing

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._executor.submit(function, *args).result()

    def training(self, case: Case) -> Callable[[], Timed]:
        return partial(self._call, _train_timed, case)

    def prediction(
        self, network: nn.Module, shape: Sequence[int], images_last: Tensor, block: int
    ) -> Callable[[], Timed]:
        """Make what predicts; the process keeps one network and its images, those of this call."""
        self._call(_prepare_prediction, network, shape, images_last.numpy(), block)
        return partial(self._call, _predict_timed)


# These run in the process of TensorFlow.


def _start_tensorflow() -> None:
    # In place of what this module has set, and before TensorFlow is imported, which reads the rest.
    os.environ.update(
        KERAS_BACKEND="tensorflow",
        TF_NUM_INTRAOP_THREADS="1",
        TF_NUM_INTEROP_THREADS="1",
        TF_CPP_MIN_LOG_LEVEL="2",
        CUDA_VISIBLE_DEVICES="",
    )
    importlib.import_module("keras")


@lru_cache(1)
def _set_up(case: Case) -> tuple[Any, Data]:
    data = Data(case)
    return compiled_keras(sys.modules["keras"], data), data


def _train_timed(case: Case) -> Timed:
    # The same model goes on training. A new one would be traced anew, which takes as long as some
    # of the trainings here and would be all that is seen of it.
    return clocked(partial(fit_keras, *_set_up(case)))


_predictions: list[Callable[[], np.ndarray]] = []


def _prepare_prediction(
    network: nn.Module, shape: Sequence[int], images_last: np.ndarray, block: int
) -> None:
    keras, images = sys.modules["keras"], torch.from_numpy(images_last)
    _predictions[:] = [keras_prediction(keras, network, shape, images, block)]


def _predict_timed() -> Timed:
    results: list[np.ndarray] = []
    times = clocked(lambda: results.append(_predictions[0]()))
    return replace(times, result=results[0])
