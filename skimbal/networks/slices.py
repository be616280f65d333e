"""Networks of 2D images on the slices of a volume."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from sklearn.utils.metaestimators import available_if
from torch import Tensor, fx, nn

from skimbal.exceptions import ParameterError
from skimbal.habits import explains_names
from skimbal.networks.built_in import BUILT_IN
from skimbal.networks.spec import LearningRateFactors, NetworkSpec, PixelRange, Unfreezable
from skimbal.typing import PathLike, is_integer

__all__ = ["POOLINGS", "SliceNet", "SlicedNetwork"]


class SliceNet(NetworkSpec):
    """A network of 2D images on each slice of a volume, and a pooling of the slices.

    The backbone computes features of every slice, the pooling makes one row of features of them,
    and a linear layer classifies it. All slices share the weights of the backbone.

    Parameters
    ----------
    backbone : str, NetworkSpec or callable, default="small"
        The network of 2D images: a name of :data:`~skimbal.networks.BUILT_IN`, a
        :class:`~skimbal.Pretrained`, or a factory ``f(in_channels, n_classes)``. Its last
        :class:`torch.nn.Linear` is removed. A search reaches the parameters of a
        :class:`~skimbal.Pretrained` as ``module__backbone__freeze``.
    axis : {0, 1, 2}, default=0
        The spatial axis to cut along: 0 for d, 1 for h, 2 for w.
    pooling : {"attention", "max", "mean", "lstm"}, default="attention"
        How the features of the slices become one row. ``"attention"`` is a weighted mean, whose
        weights are a function of the features (gated attention, Ilse et al., 2018). ``"max"`` and
        ``"mean"`` act on each feature. These three do not depend on the order of the slices.
        ``"lstm"`` joins the last states of two LSTMs, which read the slices in both directions.
    neighbours : int, default=0
        Slices before and after each slice that the backbone sees as further channels, in voxels.
        1 gives the three channels that networks of photographs expect from images of one channel.
        The first and the last slice are repeated at the ends.
    adapter : int, default=None
        Width of the bottleneck of the adapters, in channels. An adapter follows each convolution
        (other than depthwise ones) and each linear layer of a frozen backbone: it adds a small
        trained network of its output to its output (Houlsby et al., 2019), and starts at zero. If
        None, there are no adapters.
    options : dict, default=None
        Options of a backbone that is given by name, such as ``{"width": 32}``.

    Raises
    ------
    ParameterError
        From :meth:`check` or :meth:`build`, if a parameter does not fit, or the images are not
        volumes.

    See Also
    --------
    skimbal.Pretrained : Pretrained networks, which may be a backbone.
    skimbal.networks.inflate : 2D weights for a network of volumes.

    References
    ----------
    Ilse, M., Tomczak, J. M. and Welling, M. (2018). Attention-based deep multiple instance
    learning. ICML.

    Houlsby, N. et al. (2019). Parameter-efficient transfer learning for NLP. ICML.

    Liu, H. et al. (2025). Revisiting 2D foundation models for scalable 3D medical image
    classification. arXiv:2512.12887.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal import CNN3DClassifier, SliceNet
    >>> X, y = np.random.default_rng(0).random((8, 6, 12, 12), np.float32), [0, 1] * 4
    >>> X[1::2, 2] += 1
    >>> clf = CNN3DClassifier(module=SliceNet(pooling="max"), max_epochs=1).fit(X, y)
    >>> clf.slice_weights(X).shape
    (8, 6)
    """

    @explains_names
    def __init__(
        self,
        backbone: str | NetworkSpec | Callable[..., nn.Module] = "small",
        axis: int = 0,
        pooling: str = "attention",
        neighbours: int = 0,
        adapter: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.backbone = backbone
        self.axis = axis
        self.pooling = pooling
        self.neighbours = neighbours
        self.adapter = adapter
        self.options = options

    @property
    def normalizes_input(self) -> bool:  # type: ignore[override]
        """Whether the backbone normalises its input itself."""
        return isinstance(self.backbone, NetworkSpec) and self.backbone.normalizes_input

    @property
    def needs_pixel_range(self) -> bool:  # type: ignore[override]
        """Whether the backbone uses the range of the training rows."""
        return isinstance(self.backbone, NetworkSpec) and self.backbone.needs_pixel_range

    @property
    def freezes_backbone(self) -> bool:  # type: ignore[override]
        """Whether no weight before the pooling is trained."""
        return self._backbone_is_frozen() and self.adapter is None

    @property
    def fine_tunes(self) -> bool:  # type: ignore[override]
        """Whether training changes a pretrained backbone, by its weights or by adapters."""
        if not isinstance(self.backbone, NetworkSpec):
            return False
        return self.backbone.fine_tunes or self.adapter is not None

    def _backbone_is_frozen(self) -> bool:
        return isinstance(self.backbone, NetworkSpec) and self.backbone.freezes_backbone

    def check(self) -> None:
        """Refuse parameters that cannot work, before data are read.

        Raises
        ------
        ParameterError
            With the name of the parameter.
        """
        if not is_integer(self.axis) or self.axis not in range(3):
            raise ParameterError("axis", "0, 1 or 2, for d, h or w", self.axis)
        if not isinstance(self.pooling, str) or self.pooling not in POOLINGS:
            names = ", ".join(map(repr, POOLINGS))
            near = _near(self.pooling, POOLINGS)
            raise ParameterError("pooling", f"one of {names}", self.pooling, near)
        if not is_integer(self.neighbours) or self.neighbours < 0:
            raise ParameterError("neighbours", "an integer of at least 0", self.neighbours)
        self._check_backbone()
        if self.adapter is not None:
            if not is_integer(self.adapter) or self.adapter < 1:
                raise ParameterError("adapter", "None or an integer of at least 1", self.adapter)
            if not self._backbone_is_frozen():
                raise ParameterError(
                    "adapter",
                    "None with a backbone that is trained",
                    self.adapter,
                    "Freeze the backbone, as in Pretrained(..., freeze='backbone').",
                )

    def _check_backbone(self) -> None:
        backbone = self.backbone
        if isinstance(backbone, NetworkSpec):
            try:
                backbone.check()
            except ParameterError as error:
                raise error.within("backbone") from None
        elif (
            backbone not in BUILT_IN
            if isinstance(backbone, str)
            else isinstance(backbone, nn.Module) or not callable(backbone)
        ):
            names = ", ".join(map(repr, BUILT_IN))
            raise ParameterError(
                "backbone",
                f"{names}, a NetworkSpec or a factory f(in_channels, n_classes)",
                backbone,
                _near(backbone, BUILT_IN),
            )
        if not isinstance(self.options, Mapping | None):
            raise ParameterError("options", "a dict or None", self.options)
        if self.options and not isinstance(backbone, str):
            raise ParameterError(
                "options", "None unless backbone is a name", self.options, "Set them in backbone."
            )
        if self.options and isinstance(backbone, str):
            _check_options(self.options, backbone)

    def build(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        pixels: PixelRange | None = None,
    ) -> nn.Module:
        """Make the network, and try the backbone on one empty slice.

        Parameters
        ----------
        in_channels, n_classes : int
            Number of channels of the volumes and of outputs.
        spatial_shape : sequence of int
            Size of the volumes in voxels: (d, h, w).
        pixels : PixelRange, default=None
            Range of the training rows, for the backbone.

        Returns
        -------
        network : SlicedNetwork
            It maps volumes of shape (n_samples, in_channels, d, h, w) to logits of shape
            (n_samples, n_classes).
        """
        self.check()
        make = functools.partial(self._build_backbone, pixels=pixels)
        return self._built_around(make, in_channels, n_classes, spatial_shape)

    def describe(self, network: nn.Module) -> Mapping[str, Any]:
        """Return the facts that :meth:`rebuild` needs of a network that :meth:`build` has made.

        Parameters
        ----------
        network : SlicedNetwork
            The network.

        Returns
        -------
        facts : dict
            The facts of the backbone.
        """
        assert isinstance(network, SlicedNetwork)
        if isinstance(self.backbone, NetworkSpec):
            return self.backbone.describe(network.backbone)
        return {}

    def rebuild(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        facts: Mapping[str, Any],
    ) -> nn.Module:
        """Make the network for weights that are at hand. Nothing is downloaded.

        Parameters
        ----------
        in_channels, n_classes, spatial_shape
            As for :meth:`build`.
        facts : dict
            The result of :meth:`describe`.

        Returns
        -------
        network : SlicedNetwork
            The network of :meth:`build`, with other weights.
        """

        def make(shape: tuple[int, ...], n_classes: int) -> nn.Module:
            if isinstance(self.backbone, NetworkSpec):
                return self.backbone.rebuild(shape[0], n_classes, shape[1:], facts)
            return self._build_backbone(shape, n_classes, None)

        return self._built_around(make, in_channels, n_classes, spatial_shape)

    def _built_around(
        self,
        make: Callable[[tuple[int, ...], int], nn.Module],
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
    ) -> nn.Module:
        """Make the network around the backbone for slices of a shape."""
        if len(spatial_shape) != 3:
            raise ValueError(
                f"module must be a network of images with {len(spatial_shape)} spatial axes; got "
                f"{self!r}, which cuts volumes into slices. Use its backbone as the module."
            )
        in_plane = tuple(size for axis, size in enumerate(spatial_shape) if axis != self.axis)
        n_slices = spatial_shape[self.axis]
        if self.neighbours >= n_slices:
            raise ParameterError(
                "neighbours", f"less than the {n_slices} slices of a volume", self.neighbours
            )
        shape = (in_channels * (2 * self.neighbours + 1), *in_plane)
        backbone = make(shape, n_classes)
        try:
            pool = POOLINGS[self.pooling](_remove_head(backbone, shape))
        except Exception as error:
            raise ParameterError(
                "backbone",
                f"a network of 2D images, here of shape {shape}, that ends in a torch.nn.Linear",
                self.backbone,
                f"A trial with one empty slice gave: {error}",
            ) from error
        if self.adapter is not None:
            _add_adapters(backbone, self.adapter)
        network = SlicedNetwork(
            backbone, pool, n_classes, axis=self.axis, neighbours=self.neighbours
        )
        network.freezes_backbone = self.freezes_backbone
        return network

    def _build_backbone(
        self, shape: tuple[int, ...], n_classes: int, pixels: PixelRange | None
    ) -> nn.Module:
        in_channels, *spatial_shape = shape
        if isinstance(self.backbone, NetworkSpec):
            try:
                return self.backbone.build(in_channels, n_classes, spatial_shape, pixels)
            except ParameterError as error:
                raise error.within("backbone") from None
        if isinstance(self.backbone, str):
            make = BUILT_IN[self.backbone]
            options = self.options or {}
            try:
                return make(in_channels, n_classes, spatial_shape=tuple(spatial_shape), **options)
            except ParameterError as error:
                if error.parameter not in options:
                    raise
                raise error.within("options") from None
        return self.backbone(in_channels, n_classes)


class SlicedNetwork(nn.Module):
    """The network that :class:`SliceNet` describes.

    Parameters
    ----------
    backbone : Module
        Maps slices of shape (n_slices, n_channels, height, width) to features of shape (n_slices,
        n_features).
    pool : Module
        Maps features of shape (n_samples, n_slices, n_features) to (n_samples, pool.n_features).
    n_classes : int
        Number of outputs.
    axis, neighbours : int
        As in :class:`SliceNet`.
    """

    def __init__(
        self, backbone: nn.Module, pool: "Pooling", n_classes: int, *, axis: int, neighbours: int
    ) -> None:
        super().__init__()
        self.backbone, self.pool = backbone, pool
        self.classifier = nn.Linear(pool.n_features, n_classes)
        self.axis, self.neighbours = axis, neighbours
        self.freezes_backbone = False

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of a batch of volumes of shape (n, in_channels, d, h, w)."""
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of each slice, of shape (n_samples, n_slices, n_features)."""
        features: Tensor = self.backbone(_cut(x, self.axis, self.neighbours))
        return features.view(x.shape[0], -1, features.shape[1])

    def head(self, features: Tensor) -> Tensor:
        """Compute the logits of the features of slices."""
        logits: Tensor = self.classifier(self.pool(features))
        return logits

    @available_if(lambda self: isinstance(self.pool, WeightedPooling))  # type: ignore[untyped-decorator]
    def slice_weights(self, x: Tensor) -> Tensor:
        """Compute the weight of each slice, of shape (n_samples, n_slices), with sum 1."""
        assert isinstance(self.pool, WeightedPooling)
        return self.pool.weights(self.features(x))

    def extra_repr(self) -> str:
        """Describe the parameters that no layer shows."""
        return f"axis={self.axis}, neighbours={self.neighbours}"

    def learning_rate_factors(self) -> dict[str, float]:
        """Return the factors of the backbone."""
        if not isinstance(self.backbone, LearningRateFactors):
            return {}
        factors = self.backbone.learning_rate_factors()
        return {f"backbone.{name}": factor for name, factor in factors.items()}

    @property
    def unfreeze_at(self) -> float | None:
        """The time at which the backbone is unfrozen."""
        return self.backbone.unfreeze_at if isinstance(self.backbone, Unfreezable) else None

    @property
    def features_cache(self) -> PathLike | None:
        """The folder for the features of the backbone."""
        folder: PathLike | None = getattr(self.backbone, "features_cache", None)
        return folder if self.freezes_backbone else None

    def unfreeze(self) -> None:
        """Let training change the frozen parts of the backbone."""
        if isinstance(self.backbone, Unfreezable):
            self.backbone.unfreeze()


@fx.wrap
def _cut(x: Tensor, axis: int, neighbours: int) -> Tensor:
    """Return all slices of volumes as images, in the layout of the volumes.

    Volumes with the channels innermost are not copied if axis is 0. The graph of a network does not
    look in here, where the strides decide.
    """
    innermost = x.stride(1) == 1
    slices = x.movedim(2 + axis, 1)  # (n, n_slices, c, height, width)
    if innermost:
        slices = slices.movedim(2, -1)
    if neighbours:
        n_slices, before = slices.shape[1], [slices[:, :1]] * neighbours
        padded = torch.cat([*before, slices, *[slices[:, -1:]] * neighbours], 1)
        windows = [padded[:, i : i + n_slices] for i in range(2 * neighbours + 1)]
        slices = torch.cat(windows, -1 if innermost else 2)
    images = slices.flatten(0, 1)
    return images.movedim(-1, 1) if innermost else images


class Pooling(nn.Module):
    """Makes one row of the features of slices, of shape (n_samples, n_slices, n_features)."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        #: Number of features of the row.
        self.n_features = n_features


class WeightedPooling(Pooling):
    """A pooling with a weight of each slice. Here, the row is the weighted mean of the slices."""

    def forward(self, features: Tensor) -> Tensor:
        """Make one row of the features of slices."""
        return (self.weights(features).unsqueeze(1) @ features).squeeze(1)

    def weights(self, features: Tensor) -> Tensor:
        """Compute the weights, of shape (n_samples, n_slices)."""
        raise NotImplementedError


class _Attention(WeightedPooling):
    """Gated attention of Ilse et al. (2018).

    It has 32 hidden units instead of 128, which are faster and were no worse in a trial.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.content, self.gate = nn.Linear(n_features, 32), nn.Linear(n_features, 32)
        self.score = nn.Linear(32, 1)

    def weights(self, features: Tensor) -> Tensor:
        hidden = self.content(features).tanh() * self.gate(features).sigmoid()
        scores: Tensor = self.score(hidden)
        return scores.squeeze(-1).softmax(1)


class _Mean(WeightedPooling):
    """Equal weights."""

    def weights(self, features: Tensor) -> Tensor:
        return torch.full_like(features[..., 0], 1 / features.shape[1])


class _Max(WeightedPooling):
    """The largest value of each feature. The weights are the shares of features that slices win."""

    def forward(self, features: Tensor) -> Tensor:
        return features.amax(1)

    def weights(self, features: Tensor) -> Tensor:
        wins = (features == features.amax(1, keepdim=True)).to(features.dtype)
        # Slices of equal values share the feature.
        return (wins / wins.sum(1, keepdim=True)).mean(-1)


class _LSTM(Pooling):
    """The last states of LSTMs in both directions. A slice has no weight of its own in them."""

    def __init__(self, n_features: int) -> None:
        super().__init__(2 * 128)
        self.lstm = nn.LSTM(n_features, 128, batch_first=True, bidirectional=True)

    def forward(self, features: Tensor) -> Tensor:
        last: Tensor = self.lstm(features)[1][0]  # (2, n_samples, 128)
        return last.transpose(0, 1).flatten(1)


#: The poolings of :class:`SliceNet` by name: called with the number of features.
POOLINGS: dict[str, type[Pooling]] = {
    "attention": _Attention,
    "max": _Max,
    "mean": _Mean,
    "lstm": _LSTM,
}


def _slices(
    in_channels: int, n_classes: int, spatial_shape: Sequence[int], **options: Any
) -> nn.Module:
    """Make the network of a SliceNet with these options."""
    return SliceNet(**options).build(in_channels, n_classes, spatial_shape)


# Here, as a backbone may be a row of the table.
BUILT_IN["slices"] = _slices


def _check_options(options: Mapping[str, object], backbone: str) -> None:
    """Refuse options that the network of this name does not have."""
    parameters = inspect.signature(BUILT_IN[backbone]).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    # The first two are the numbers of channels and classes.
    names = [name for name in [*parameters][2:] if name != "spatial_shape"]
    for option in options:
        if option not in names:
            raise ParameterError(
                "options",
                f"a dict whose keys are options of {backbone!r}: {', '.join(names)}",
                option,
                _near(option, names),
            )


def _near(name: object, table: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), table, n=3, cutoff=0.5)
    return f"Near names are {near}." if near else ""


def _remove_head(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Replace the last linear layer that runs by nothing, and return its number of inputs."""
    last: list[str] = []
    linear = {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear)}

    def note(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: last.append(name)

    hooks = [layer.register_forward_hook(note(name)) for name, layer in linear.items()]
    is_training = network.training
    network.eval()
    image = torch.zeros(1, *shape, dtype=next(network.parameters(), torch.empty(0)).dtype)
    with torch.no_grad():
        network(image)
        for hook in hooks:
            hook.remove()
        if not last:
            raise ValueError("no torch.nn.Linear ran.")
        _replace(network, last[-1], nn.Identity())
        features = tuple(network(image).shape)
    network.train(is_training)
    if features != (1, linear[last[-1]].in_features):
        raise ValueError(f"features of shape {features} without {last[-1]!r}.")
    return features[1]


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer)


class _Adapter(nn.Module):
    """A frozen layer, and a bottleneck that adds to its output."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, width: int) -> None:
        super().__init__()
        self.layer = layer
        if isinstance(layer, nn.Conv2d):
            self.down: nn.Module = nn.Conv2d(layer.out_channels, width, 1)
            self.up: nn.Module = nn.Conv2d(width, layer.out_channels, 1)
        else:
            self.down = nn.Linear(layer.out_features, width)
            self.up = nn.Linear(width, layer.out_features)
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        changed: Tensor = y + self.up(self.down(y).relu())
        return changed


def _add_adapters(network: nn.Module, width: int) -> None:
    """Put an adapter behind each convolution, other than depthwise, and each linear layer."""
    layers = {
        name: layer
        for name, layer in network.named_modules()
        # Subclasses of Linear belong to layers that use the weights without a call.
        if (isinstance(layer, nn.Conv2d) and layer.groups == 1) or type(layer) is nn.Linear
    }
    for name, layer in layers.items():
        _replace(network, name, _Adapter(layer, width))
