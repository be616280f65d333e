"""Networks with weights that were trained on other images."""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skimbal.exceptions import ParameterError
from skimbal.habits import explains_names
from skimbal.networks.sources import (
    NetworkSource,
    SourcedNetwork,
    check_source,
    load_architecture,
    load_network,
)
from skimbal.networks.spec import NetworkSpec, PixelRange
from skimbal.typing import PathLike, is_integer, is_number

__all__ = ["Pretrained", "PretrainedNetwork"]

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_NORMS = (*_BATCH_NORMS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
#: Names of frozen parts that ``freeze`` knows.
_PARTS = ("none", "backbone", "norm")


class Pretrained(NetworkSpec):
    """A 2D network with weights that were trained on other images, for ``module=``.

    The network takes images of any number of channels and any range of pixels. It normalises them
    itself, so the classifier does not standardise them. Its classifier is replaced by a linear
    layer for the classes of the fit.

    Parameters
    ----------
    source : str, path or callable
        ``"timm/NAME"`` or ``"torchvision/NAME"`` (the names of these libraries, such as
        ``"timm/resnet18.a1_in1k"``), ``"hub:OWNER/NAME"`` (a repository of the Hugging Face hub in
        the layout of timm), a folder with the files of such a repository, a file of weights
        (``.safetensors``, or a dict of tensors in ``.pt``), or a function without arguments that
        returns a network with its weights. A fit loads the network. It downloads the weights only
        if they are not in the cache of their library yet.
    architecture : str or callable, default=None
        The network of a file of weights: a name of timm or torchvision as above, or a function
        without arguments. None for all other sources.
    freeze : {"none", "backbone", "norm"} or list of str, default="none"
        Parts that training does not change: nothing, all but the new classifier, the normalisation
        layers, or the parts whose names in the network match a pattern, such as
        ``["conv1*", "layer1.*"]``. Dropout in frozen parts is off. Batch statistics never change,
        also with ``"none"``.
    unfreeze_at : float, default=None
        Number of epochs after which training changes the frozen parts, too, or below 1 a share of
        the epochs. None keeps the parts frozen.
    backbone_lr_factor : float, default=0.3
        Learning rate of the backbone over the learning rate of the new classifier, dimensionless.
    layer_decay : float, default=1.0
        Further factor of the learning rate for each layer below the last, dimensionless, above 0
        and at most 1. A layer is an entry of the outermost list of layers, such as a block of a
        ResNet or of a transformer.
    image_size : int or (int, int), default=None
        Size of the images that the network sees, in pixels. They are resized on the device by
        linear interpolation with antialiasing. None keeps their size, unless the network takes a
        single size.
    mean, std : sequence of float, default=None
        Mean and standard deviation of each channel, for pixels in [0, 1]. None for the numbers of
        the source, and ImageNet's for a function.
    features_cache : str or path, default=None
        Folder for the features of images, which later fits and ``transform`` read. Only for
        ``freeze="backbone"`` without ``unfreeze_at``. Features of other code, weights, images or
        settings have other names, so a folder may hold the features of many data sets. A folder
        that cannot be written and a damaged file are warnings. None keeps the features in memory
        during a fit.

    Raises
    ------
    ParameterError
        When a classifier is fitted, if a parameter cannot be used, the source is unknown, its
        weights do not fit the network, the images are too small for the network, or
        ``features_cache`` is given and the code of the network cannot be described.
    ImportError
        If the source needs timm, torchvision or safetensors, and they are not installed. The extra
        ``pretrained`` installs them.
    FileNotFoundError
        If the weights are not in the cache and cannot be downloaded.

    Notes
    -----
    Pixels of unsigned integers of eight bits are divided by 255. All others are brought to [0, 1]
    by the least and the greatest pixel of the training rows. Images with fewer channels than the
    network takes repeat their channels: a grey image becomes a grey colour image. For images with
    more channels, the weights of the first convolution are repeated and divided. In both cases the
    outputs for repeated grey images are the outputs of the network for grey colour images.

    If ``freeze="backbone"`` and nothing changes the images (``augment=None``, ``crop_size=None``),
    a fit computes the features once, before the first epoch.

    Where training changes the pretrained weights, ``lr="auto"`` of the classifiers is lower, and
    ``max_epochs="auto"`` is a shorter budget.

    References
    ----------
    Howard, J. and Ruder, S. (2018). Universal language model fine-tuning for text classification.
    ACL. (Gradual unfreezing, and learning rates by layer.)

    Examples
    --------
    Weights of ImageNet, once as fixed features for a logistic regression and once for fine-tuning:

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skimbal import CNN2DClassifier, Pretrained
    >>> frozen = Pretrained("timm/resnet18", freeze="backbone", image_size=96)
    >>> features = CNN2DClassifier(module=frozen, max_epochs=0)
    >>> pipeline = make_pipeline(features, LogisticRegression())
    >>> tuned = CNN2DClassifier(module=Pretrained("timm/resnet18", unfreeze_at=0.3))
    >>> tuned.set_params(module__freeze="backbone").get_params()["module__unfreeze_at"]
    0.3
    """

    normalizes_input = True
    needs_pixel_range = True

    @explains_names
    def __init__(
        self,
        source: NetworkSource,
        *,
        architecture: str | Callable[[], nn.Module] | None = None,
        freeze: str | Sequence[str] = "none",
        unfreeze_at: float | None = None,
        backbone_lr_factor: float = 0.3,
        layer_decay: float = 1.0,
        image_size: int | tuple[int, int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        features_cache: PathLike | None = None,
    ) -> None:
        self.source = source
        self.architecture = architecture
        self.freeze = freeze
        self.unfreeze_at = unfreeze_at
        self.backbone_lr_factor = backbone_lr_factor
        self.layer_decay = layer_decay
        self.image_size = image_size
        self.mean = mean
        self.std = std
        self.features_cache = features_cache

    @property
    def freezes_backbone(self) -> bool:  # type: ignore[override]
        """Whether only the new classifier is trained, for the whole fit."""
        return self.freeze == "backbone" and self.unfreeze_at is None

    @property
    def fine_tunes(self) -> bool:  # type: ignore[override]
        """Whether training changes the pretrained weights, at once or after some epochs."""
        return not self.freezes_backbone

    def check(self) -> None:
        """Refuse parameters that cannot work, before data are read.

        Raises
        ------
        ParameterError
            With the name of the parameter.
        """
        check_source(self.source, self.architecture)
        is_list = isinstance(self.freeze, list | tuple) and len(self.freeze) > 0
        if self.freeze not in _PARTS and not (
            is_list and all(isinstance(pattern, str) for pattern in self.freeze)
        ):
            raise ParameterError(
                "freeze", f"{', '.join(map(repr, _PARTS))} or a list of patterns", self.freeze
            )
        if self.unfreeze_at is not None:
            if not is_number(self.unfreeze_at) or self.unfreeze_at <= 0:
                raise ParameterError("unfreeze_at", "a number above 0 or None", self.unfreeze_at)
            if self.freeze == "none":
                remedy = "Nothing is frozen. Set freeze='backbone', or unfreeze_at=None."
                raise ParameterError(
                    "unfreeze_at", "None with freeze='none'", self.unfreeze_at, remedy
                )
        for name, most in (("backbone_lr_factor", None), ("layer_decay", 1)):
            value = getattr(self, name)
            if not is_number(value) or value <= 0 or (most is not None and value > most):
                bounds = "above 0" if most is None else f"above 0 and at most {most}"
                raise ParameterError(name, f"a number {bounds}", value)
        self._check_size_and_cache()

    def _check_size_and_cache(self) -> None:
        sizes = self._size()
        if sizes is not None and not (
            len(sizes) == 2 and all(is_integer(size) and size > 0 for size in sizes)
        ):
            raise ParameterError(
                "image_size", "a positive integer, two of them or None", self.image_size
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and not (
                isinstance(values, list | tuple)
                and values
                and all(is_number(value) and (name == "mean" or value > 0) for value in values)
            ):
                raise ParameterError(name, "a number for each channel of the network", values)
        if not isinstance(self.features_cache, str | os.PathLike | None):
            raise ParameterError("features_cache", "a path or None", self.features_cache)
        if self.features_cache is not None and not self.freezes_backbone:
            raise ParameterError(
                "features_cache",
                "None unless freeze='backbone' and unfreeze_at=None",
                self.features_cache,
                "Training changes the features.",
            )

    def _size(self) -> tuple[int, ...] | None:
        size: Any = self.image_size
        if size is None:
            return None
        return tuple(size) if isinstance(size, list | tuple) else (size, size)

    def build(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        pixels: PixelRange | None = None,
    ) -> "PretrainedNetwork":
        """Load the network, and fit it to the images.

        Parameters
        ----------
        in_channels, n_classes : int
            Number of channels of the images and of outputs.
        spatial_shape : sequence of int
            Size of the images, in pixels: (h, w).
        pixels : PixelRange, default=None
            Range of the training rows. [0, 1] if None.

        Returns
        -------
        network : PretrainedNetwork
            It maps images in their own units to logits.
        """
        self.check()
        if len(spatial_shape) != 2:
            raise ParameterError(
                "source",
                "a network for images with two spatial axes, which these volumes do not have",
                self.source,
                "For volumes, skimbal.SliceNet(Pretrained(...)) runs it on each slice.",
            )
        loaded = load_network(self.source, self.architecture, self._size())
        return self._fitted_to(loaded, in_channels, n_classes, spatial_shape, pixels)

    def describe(self, network: nn.Module) -> Mapping[str, Any]:
        """Return the facts that :meth:`rebuild` needs of a network that :meth:`build` has made.

        Parameters
        ----------
        network : PretrainedNetwork
            The network.

        Returns
        -------
        facts : dict
            ``"architecture"``: a name of timm or torchvision, or None for a function. ``"mean"``
            and ``"std"``: for pixels in [0, 1]. ``"size"``: of the images, in pixels, or None.
        """
        assert isinstance(network, PretrainedNetwork)
        return network.facts

    def rebuild(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        facts: Mapping[str, Any],
    ) -> "PretrainedNetwork":
        """Make the network for weights that are at hand. Nothing is downloaded.

        Parameters
        ----------
        in_channels, n_classes, spatial_shape
            As for :meth:`build`.
        facts : dict
            The result of :meth:`describe`.

        Returns
        -------
        network : PretrainedNetwork
            The network of :meth:`build`, with random weights.
        """
        size = facts["size"] and tuple(facts["size"])
        made = load_architecture(facts["architecture"], size)
        made = replace(made, mean=facts["mean"], std=facts["std"], size=size)
        network = self._fitted_to(made, in_channels, n_classes, spatial_shape, None)
        network.features_cache = None  # a folder of the machine where the network was trained
        return network

    def _fitted_to(
        self,
        loaded: SourcedNetwork,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        pixels: PixelRange | None,
    ) -> "PretrainedNetwork":
        if loaded.size is not None and self._size() not in (None, loaded.size):
            raise ParameterError(
                "image_size", f"{loaded.size}, the size of this network", self.image_size
            )
        size = self._size() or loaded.size
        mean = loaded.mean if self.mean is None else self.mean
        std = loaded.std if self.std is None else self.std
        if len(mean) != len(std):
            raise ParameterError("std", f"{len(mean)} numbers, as many as mean has", std)
        backbone = loaded.network.eval().float()
        probe = torch.zeros(1, len(mean), *(size or spatial_shape))
        n_features, first = _remove_classifier(backbone, probe, loaded, self.source)
        if in_channels > len(mean):
            _widen(first, in_channels)
        prepare = InputPreparation(in_channels, mean, std, size, pixels or PixelRange(0.0, 1.0))
        network = PretrainedNetwork(prepare, backbone, nn.Linear(n_features, n_classes))
        network.unfreeze_at, network.features_cache = self.unfreeze_at, self.features_cache
        network.freezes_backbone = self.freezes_backbone
        network.facts = {
            "architecture": loaded.architecture,
            "mean": [float(number) for number in mean],
            "std": [float(number) for number in std],
            "size": size and [int(number) for number in size],
        }
        network.set_factors(self.backbone_lr_factor, self.layer_decay)
        network.freeze(self.freeze)
        return network


class PretrainedNetwork(nn.Module):
    """The network that :class:`~skimbal.Pretrained` makes.

    Parameters
    ----------
    prepare : torch.nn.Module
        Turns images into the input of ``backbone``.
    backbone : torch.nn.Module
        Maps its input to features, of shape (n_samples, n_features) or with spatial axes, over
        which the mean is taken.
    head : torch.nn.Linear
        Maps features to logits.

    Examples
    --------
    >>> from torch import nn
    >>> from skimbal import Pretrained
    >>> def factory():
    ...     conv = nn.Conv2d(3, 8, 3)
    ...     return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1000))
    >>> Pretrained(factory).build(1, 2, (28, 28)).head
    Linear(in_features=8, out_features=2, bias=True)
    """

    freezes_backbone: bool = False
    unfreeze_at: float | None = None
    features_cache: PathLike | None = None
    #: The facts by which :class:`~skimbal.Pretrained` makes the network once more.
    facts: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, prepare: nn.Module, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.prepare, self.backbone, self.head = prepare, backbone, head
        self.pool = MeanOverPixels()
        #: Modules that stay in evaluation mode: at least those with batch statistics.
        self._frozen = _with_statistics(backbone)
        #: Factors of the learning rate by the names of the weights.
        self._factors: dict[str, float] = {}

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of images.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, h, w)
            Images, in their own units.

        Returns
        -------
        features : Tensor of shape (n_samples, n_features)
            Dimensionless.
        """
        features: Tensor = self.pool(self.backbone(self.prepare(x)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of images.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, h, w)
            Images, in their own units.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Unnormalised log-probabilities, dimensionless.
        """
        logits: Tensor = self.head(self.features(x))
        return logits

    def freeze(self, parts: str | Sequence[str]) -> None:
        """Freeze parts of the backbone, as ``freeze`` of :class:`~skimbal.Pretrained` describes.

        Parameters
        ----------
        parts : str or list of str
            ``"none"``, ``"backbone"``, ``"norm"`` or patterns of names.
        """
        names = dict(self.backbone.named_parameters())
        if parts == "norm":
            norms = [module for module in self.backbone.modules() if isinstance(module, _NORMS)]
            frozen = [weight for norm in norms for weight in norm.parameters()]
            if not norms:
                raise ParameterError("freeze", "'none' or 'backbone' without such layers", parts)
        else:
            patterns = {"none": [], "backbone": ["*"]}.get(str(parts), parts)
            frozen = [weight for pattern in patterns for weight in _matching(pattern, names)]
        for weight in frozen:
            weight.requires_grad_(False)
        if parts not in _PARTS and not any(w.requires_grad for w in names.values()):
            raise ParameterError(
                "freeze",
                "patterns that leave a part of the backbone to training",
                parts,
                "To train the new classifier only, set freeze='backbone'.",
            )
        self._frozen += _frozen_parts(self.backbone)

    def unfreeze(self) -> None:
        """Let training change all weights. Batch statistics stay as they are."""
        self.backbone.requires_grad_(True)
        self._frozen = _with_statistics(self.backbone)
        self.train(self.training)

    def train(self, mode: bool = True) -> "PretrainedNetwork":
        """Set training or evaluation mode. Frozen parts stay in evaluation mode.

        Parameters
        ----------
        mode : bool, default=True
            Whether to set training mode.

        Returns
        -------
        self : PretrainedNetwork
            The network.
        """
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def set_factors(self, backbone_lr_factor: float, layer_decay: float) -> None:
        """Set the learning rate of each weight of the backbone, relative to the new classifier.

        Parameters
        ----------
        backbone_lr_factor, layer_decay : float
            As for :class:`~skimbal.Pretrained`.
        """
        layer_of = {
            name: _layer(self.backbone, name) for name, _ in self.backbone.named_parameters()
        }
        layers = list(dict.fromkeys(layer_of.values()))  # from the input to the output
        self._factors = {
            f"backbone.{name}": backbone_lr_factor
            * layer_decay ** (len(layers) - 1 - layers.index(layer))
            for name, layer in layer_of.items()
        }

    def learning_rate_factors(self) -> Mapping[str, float]:
        """Return factors of the learning rate by the names of the parameters.

        Returns
        -------
        factors : dict of str to float
            Dimensionless. Parameters without an entry have the factor 1.
        """
        return self._factors


class InputPreparation(nn.Module):
    """Resizes images, brings them to the range of the network, and repeats their channels."""

    def __init__(
        self,
        in_channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        size: tuple[int, ...] | None,
        pixels: PixelRange,
    ) -> None:
        super().__init__()
        self.size = size
        n_channels = len(mean)
        #: Channel of the image for each channel of the network, if the image has fewer.
        self.channels = (
            [k % in_channels for k in range(n_channels)] if in_channels < n_channels else None
        )
        # In one step: to [0, 1], and then by the mean and the standard deviation.
        width = (pixels.high - pixels.low) or 1.0
        repeated = [k % n_channels for k in range(max(in_channels, n_channels))]
        low, high = torch.tensor(list(mean)), torch.tensor(list(std))
        shift, scale = pixels.low + low * width, high * width
        self.register_buffer("shift", shift[repeated].reshape(-1, 1, 1))
        self.register_buffer("scale", scale[repeated].reshape(-1, 1, 1))
        self.shift: Tensor
        self.scale: Tensor

    def extra_repr(self) -> str:
        """Describe the parts that are not tensors."""
        return f"size={self.size}, channels={self.channels}"

    def forward(self, x: Tensor) -> Tensor:
        """Prepare a batch of images, in their layout."""
        innermost = x.stride(1) == 1
        if self.size is not None and x.shape[2:] != self.size:
            x = functional.interpolate(x, self.size, mode="bilinear", antialias=True)
        if self.channels is not None:
            x = x.expand(-1, len(self.channels), -1, -1) if x.shape[1] == 1 else x[:, self.channels]
        # A new tensor, which may be changed.
        order = torch.channels_last if innermost else torch.contiguous_format
        return ((x - self.shift) / self.scale).contiguous(memory_format=order)


class MeanOverPixels(nn.Module):
    """Mean over the spatial axes, if there are any."""

    def forward(self, x: Tensor) -> Tensor:
        """Return features of shape (n_samples, n_features)."""
        return x.flatten(2).mean(2) if x.ndim > 2 else x


def _check_channels(network: nn.Module, n_channels: int) -> None:
    """Refuse a mean for another number of channels than the first convolution takes."""
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is not None and first.in_channels != n_channels:
        raise ParameterError(
            "mean",
            f"{first.in_channels} numbers, one for each channel of the network",
            f"{n_channels} numbers",
            "Set mean and std for pixels in [0, 1].",
        )


def _remove_classifier(
    network: nn.Module, probe: Tensor, loaded: SourcedNetwork, source: object
) -> tuple[int, nn.Module]:
    """Let a network give features, and load its weights.

    Returns the number of features and the first layer.
    """
    names = set(network.state_dict())
    # The second classifiers of Inception are of use in training from scratch only.
    for second in ("aux1", "aux2", "AuxLogits"):
        if hasattr(network, second):
            setattr(network, second, None)
            network.aux_logits = False  # type: ignore[assignment]
    reset = getattr(network, "reset_classifier", None)
    if reset is not None:  # timm knows the classifiers of its networks
        reset(0)
    else:
        name, last = _layers_that_run(network, probe)[0][-1]
        if isinstance(last, nn.Linear) or (
            isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1)
        ):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())
    if loaded.state is not None:
        _load_weights(network, loaded.state, names - set(network.state_dict()), source)
    layers, features = _layers_that_run(network, probe)
    if not isinstance(features, Tensor) or features.ndim not in (2, 4):
        raise TypeError(
            "source must make a network whose output is a tensor of shape (n_samples, n_features); "
            f"got {getattr(features, 'shape', type(features))} from {source!r}."
        )
    return features.shape[1], layers[0][1]


def _layers_that_run(network: nn.Module, probe: Tensor) -> tuple[list[tuple[str, nn.Module]], Any]:
    """Return the layers with weights in the order in which they run, and the output."""
    ran: list[tuple[str, nn.Module]] = []

    def note(name: str, module: nn.Module) -> Callable[..., None]:
        return lambda *args: ran.append((name, module))

    handles = [
        module.register_forward_hook(note(name, module))
        for name, module in network.named_modules()
        if name and any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            output = network(probe)
    except Exception as error:
        _check_channels(network, probe.shape[1])
        raise ParameterError(
            "image_size",
            "a size of images that the network takes",
            tuple(probe.shape[2:]),
            f"A trial with an image of {probe.shape[1]} channels failed: {error}",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise ParameterError("source", "a network with layers that have weights", type(network))
    return ran, output


def _load_weights(
    network: nn.Module, state: Mapping[str, Tensor], classifier: set[str], source: object
) -> None:
    """Load weights, or say which of them do not fit. The old classifier may differ."""
    here = network.state_dict()
    missing = [n for n in here if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in here and name not in classifier]
    other = [
        f"{name} {tuple(state[name].shape)} for {tuple(here[name].shape)}"
        for name in here
        if name in state and state[name].shape != here[name].shape
    ]
    faults = {"missing": missing, "not in the network": unknown, "of another shape": other}
    found = [
        f"{len(names)} {fault} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for fault, names in faults.items()
        if names
    ]
    if found:
        raise ParameterError(
            "source",
            "a file whose weights fit the architecture",
            str(source),
            f"Weights are {'; '.join(found)}.",
        )
    network.load_state_dict({name: state[name] for name in here if name in state}, strict=False)


def _widen(layer: nn.Module, in_channels: int) -> None:
    """Repeat the weights of the first convolution, each divided by the number of its copies."""
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1:
        raise ParameterError(
            "source",
            f"a network that begins with a convolution, for images of {in_channels} channels",
            type(layer).__name__,
        )
    sources = torch.arange(in_channels) % layer.in_channels
    copies = sources.bincount()[sources].reshape(1, -1, 1, 1)
    layer.weight = nn.Parameter(layer.weight.detach()[:, sources] / copies)
    layer.in_channels = in_channels


def _matching(pattern: str, weights: Mapping[str, nn.Parameter]) -> Iterator[nn.Parameter]:
    """Yield the weights whose names, or names of modules around them, match a pattern."""
    found = False
    for name, weight in weights.items():
        parts = name.split(".")
        around = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
        if any(fnmatchcase(part, pattern) for part in around):
            found = True
            yield weight
    if not found:
        near = difflib.get_close_matches(pattern, weights, n=5, cutoff=0.4) or [*weights][:5]
        raise ParameterError(
            "freeze",
            "patterns that match names in the network",
            pattern,
            f"Some names are {', '.join(near)}.",
        )


def _with_statistics(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, _BATCH_NORMS)]


def _frozen_parts(module: nn.Module) -> list[nn.Module]:
    """Return the largest modules whose weights are all frozen."""
    weights = list(module.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        return [module]
    return [part for child in module.children() for part in _frozen_parts(child)]


def _layer(network: nn.Module, name: str) -> str:
    """Return the layer of a weight: the outermost entry of a list of layers, or the top module."""
    parts, module = name.split("."), network
    for i, part in enumerate(parts[:-1]):
        if isinstance(module, nn.Sequential | nn.ModuleList):
            return ".".join(parts[: i + 1])
        module = module.get_submodule(part)
    return parts[0]
