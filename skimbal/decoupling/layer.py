"""The last layer of a fitted network: where it is, its weights, and its training alone."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from skimbal.augmentation import AugmentSpec
from skimbal.classifiers.base import BaseCNNClassifier
from skimbal.classifiers.later_heads import adopt_training
from skimbal.classifiers.ranges import rows_to_predict
from skimbal.exceptions import ParameterError
from skimbal.networks import NetworkSpec, PixelRange
from skimbal.sampling import SamplerSpec
from skimbal.training import TrainingNet, infer_with, plain_torch
from skimbal.typing import ArrayLike, ImagesLike

__all__ = ["ScaledHead", "Training", "check_last_layer", "set_weights", "train_head", "weights_of"]

#: Parameters of the classifier that trains a head. The others are as in the given classifier.
_OF_HEAD: dict[str, object] = {
    "loss": "ce",
    "logit_adjustment": 0.0,
    "epoch_length": None,
    "n_tta": 1,
    "train_split": None,
    "standardize": False,
    "feature_layer": None,
    "optimizer": "adamw",
    "lr_schedule": "one_cycle",
    "callbacks": None,
    "warm_start": False,
    "compile": False,
}


def check_last_layer(estimator: BaseCNNClassifier, X: ImagesLike) -> None:
    """Refuse a network whose logits are not the output of the linear layer behind the features."""
    net = estimator.net_
    layer = _find(net)
    outputs: list[Tensor] = []
    found = "has no torch.nn.Linear" if layer is None else f"runs {net.feature_layer_!r}"
    # A subclass, such as a layer with a parametrization, may compute something else.
    if type(layer) is nn.Linear:
        handle = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            with handle, plain_torch(), torch.no_grad(), rows_to_predict(estimator, X) as rows:
                net.set_training(False)
                images = rows.batch(np.arange(min(2, len(rows)))).images
                logits = infer_with(net, net.module_.network)(images)
        finally:
            net.set_training(False)
        last = [output for output in outputs if output.shape == logits.shape]
        if len(outputs) == 1 and last and torch.equal(last[0].to(logits.dtype), logits):
            return
        found += ", whose output is not the logits"
    raise ParameterError(
        "head",
        "a classifier of scikit-learn for a network that does not end in a torch.nn.Linear",
        found if layer is None else f"a network that {found}",
        "Then feature_layer names the layer whose input is the features. 'crt', 'lws' and 'tau' "
        "change the weights of a last torch.nn.Linear, whose output must be the logits.",
    )


def _find(net: TrainingNet) -> nn.Module | None:
    if net.feature_layer_ is None:
        return None
    layer: nn.Module = net.module_.network.get_submodule(net.feature_layer_)
    return layer


def weights_of(estimator: BaseCNNClassifier) -> tuple[np.ndarray, np.ndarray | None]:
    """Return weights of shape (n_classes, n_features) and biases of the last layer."""
    layer: Any = _find(estimator.net_)
    weight, bias = layer.weight.detach(), layer.bias
    # A copy: numpy shares the memory of a tensor in float64.
    biases = None if bias is None else bias.detach().double().numpy(force=True).copy()
    return weight.double().numpy(force=True).copy(), biases


def set_weights(estimator: BaseCNNClassifier, weight: np.ndarray, bias: np.ndarray | None) -> None:
    """Set the weights of the last layer in place. Without biases the old ones become 0."""
    layer: Any = _find(estimator.net_)
    _fill(layer, weight, bias)


@torch.no_grad()
def _fill(layer: nn.Linear, weight: np.ndarray, bias: np.ndarray | None) -> None:
    layer.weight.copy_(torch.from_numpy(weight))
    if layer.bias is not None:  # which torch does not declare
        layer.bias.copy_(torch.zeros(len(weight)) if bias is None else torch.from_numpy(bias))


class ScaledHead(nn.Module):
    """A layer with fixed weights, whose logits have a learnable scale for each class.

    Parameters
    ----------
    layer : torch.nn.Linear
        Gets the weights.
    weight, bias : ndarray
        As :func:`weights_of` gives them.
    """

    def __init__(self, layer: nn.Linear, weight: np.ndarray, bias: np.ndarray | None) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        _fill(self.layer, weight, bias)
        self.scale = nn.Parameter(torch.ones(layer.out_features))

    def forward(self, features: Tensor) -> Tensor:
        """Compute the scaled logits of features."""
        logits: Tensor = self.layer(features) * self.scale
        return logits


class FrozenNetwork(nn.Module):
    """A fitted network with another head, which alone is trained.

    Parameters
    ----------
    body : torch.nn.Module
        Maps images to features. It stays in evaluation mode, so its batch statistics are fixed.
    head : torch.nn.Module
        Maps features to logits.
    """

    freezes_backbone = True

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body.requires_grad_(False), head

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of images."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of images."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def train(self, mode: bool = True) -> "FrozenNetwork":
        """Set the head to training or evaluation mode."""
        super().train(mode)
        self.body.eval()
        return self


class FrozenSpec(NetworkSpec):
    """The network of a fitted classifier, behind which a new head is trained.

    Parameters
    ----------
    body, make_head : torch.nn.Module, callable
        As for :class:`FrozenNetwork`, and a function without arguments that makes the head.
    """

    normalizes_input = True
    freezes_backbone = True

    def __init__(self, body: nn.Module, make_head: Callable[[], nn.Module]) -> None:
        self.body, self.make_head = body, make_head

    def build(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        pixels: PixelRange | None = None,
    ) -> nn.Module:
        """Put the head behind the network."""
        return FrozenNetwork(self.body, self.make_head())


@dataclass(frozen=True, eq=False)
class Training:
    """The training of a head: rows, batches, changes of the images, and further parameters."""

    X: ImagesLike
    y: ArrayLike
    sample_weight: ArrayLike | None
    sampler: SamplerSpec
    augment: AugmentSpec
    #: Parameters of the classifier that trains.
    parameters: Mapping[str, object]
    weight_decay: float = 0.01

    def options(self, estimator: BaseCNNClassifier) -> dict[str, object]:
        """Return the parameters that depend on the classifier or on others."""
        blueprint, net = estimator.net_.blueprint_, estimator.net or {}
        # Batches that are drawn would treat repeated rows and weights as different things.
        by_weight = self.sampler == "auto" and not estimator.input_.are_images
        sampler = self.sampler
        if sampler == "auto":
            sampler = "uniform" if by_weight else "balanced"
        of_batches = () if "iterator_train" in net else ("iterator_train__",)
        options = {name: value for name, value in net.items() if name.startswith(of_batches)}
        return {
            "sampler": sampler,
            "class_weight": "balanced" if by_weight else None,
            "augment": self.augment,
            # Without changes of the images, the features of their centres are computed once.
            "crop_size": None if self.augment is None else estimator.crop_size,
            "dtype": blueprint.autocast or blueprint.dtype,
            "net": {**options, "optimizer__weight_decay": self.weight_decay},
            **self.parameters,
        }


def train_head(
    estimator: BaseCNNClassifier,
    make_head: Callable[[], nn.Module],
    training: Training,
    method: str,
) -> nn.Module:
    """Train a head on the features of a network, and return it.

    The classifier then knows this training, and the prior of the rows that the head has seen.
    """
    net = estimator.net_
    body = deepcopy(net.module_)
    parent, _, name = f"network.{net.feature_layer_}".rpartition(".")
    setattr(body.get_submodule(parent), name, nn.Identity())
    with rows_to_predict(estimator, training.X) as rows:  # as the network has read its rows
        images, shape = rows.source, rows.sample_shape
    are_rows = images.ndim == 2 and estimator.input_shape is None
    trainer = clone(estimator).set_params(
        **_OF_HEAD,
        module=FrozenSpec(body, make_head),
        input_shape=None if are_rows else shape,
    )
    trainer.set_params(**training.options(estimator))
    trainer.fit(images, training.y, training.sample_weight)
    adopt_training(estimator, trainer, method)
    head: nn.Module = trainer.net_.module_.network.head
    return head
