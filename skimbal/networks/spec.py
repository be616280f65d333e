"""Networks as objects with parameters, and the methods by which a network helps its training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skimbal.habits import refuse_unknown_params

__all__ = [
    "LearningRateFactors",
    "ModuleSpec",
    "NetworkSpec",
    "PixelRange",
    "SplitNetwork",
    "Unfreezable",
]


@dataclass(frozen=True)
class PixelRange:
    """The range of the pixels of the training rows, in units of the images.

    Parameters
    ----------
    low, high : float
        Least and greatest value. 0 and 255 if ``is_uint8``.
    is_uint8 : bool, default=False
        Whether the images are unsigned integers of eight bits.

    Examples
    --------
    >>> from skimbal.networks import PixelRange
    >>> PixelRange(-1000.0, 3000.0)
    PixelRange(low=-1000.0, high=3000.0, is_uint8=False)
    """

    low: float
    high: float
    is_uint8: bool = False


class NetworkSpec(BaseEstimator):  # type: ignore[misc]
    """A description of a network, with parameters that a search can set.

    The base class of :class:`~skimbal.Pretrained`. ``module=`` of the classifiers takes an instance
    of a subclass. ``get_params``, ``set_params`` and ``clone`` work as in scikit-learn, so a search
    sets a parameter as ``module__width``. The attributes ``normalizes_input`` (the network
    normalises its input itself), ``needs_pixel_range`` (``build`` uses the range of the training
    rows), ``freezes_backbone`` (only the head is trained, for the whole fit) and ``fine_tunes``
    (training starts from pretrained weights and changes them) are False unless a subclass overrides
    them.

    Examples
    --------
    >>> from torch import nn
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.networks import NetworkSpec
    >>> class Pooled(NetworkSpec):
    ...     def __init__(self, size=2):
    ...         self.size = size
    ...
    ...     def build(self, in_channels, n_classes, spatial_shape, pixels=None):
    ...         pool = nn.AdaptiveAvgPool2d(self.size)
    ...         return nn.Sequential(pool, nn.Flatten(), nn.Linear(in_channels * 4, n_classes))
    >>> CNN2DClassifier(module=Pooled()).get_params()["module__size"]
    2
    """

    normalizes_input: bool = False
    needs_pixel_range: bool = False
    freezes_backbone: bool = False
    fine_tunes: bool = False

    def set_params(self, **params: object) -> Self:
        """Set parameters.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : NetworkSpec
            The same object.

        Raises
        ------
        ValueError
            If a name is unknown. The message has the name that it may mean.
        """
        refuse_unknown_params(self, params, self._get_param_names())
        super().set_params(**params)
        return self

    def check(self) -> None:
        """Refuse parameters that cannot work, before data are read.

        Raises
        ------
        ParameterError
            With the name of the parameter.
        """

    def build(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        pixels: PixelRange | None = None,
    ) -> nn.Module:
        """Make the network.

        Parameters
        ----------
        in_channels, n_classes : int
            Number of channels of the images and of outputs.
        spatial_shape : sequence of int
            Size of the images along each spatial axis, in voxels: (h, w) or (d, h, w).
        pixels : PixelRange, default=None
            Range of the training rows. None unless ``needs_pixel_range`` is True.

        Returns
        -------
        network : torch.nn.Module
            It maps images of shape (n_samples, in_channels, ...) to logits of shape (n_samples,
            n_classes).
        """
        raise NotImplementedError(f"{type(self).__name__} must define build.")

    def describe(self, network: nn.Module) -> Mapping[str, Any]:
        """Return the facts that :meth:`rebuild` needs of a network that :meth:`build` has made.

        Parameters
        ----------
        network : torch.nn.Module
            The network.

        Returns
        -------
        facts : dict
            Numbers, texts and lists. Empty unless a subclass overrides it.
        """
        return {}

    def rebuild(
        self,
        in_channels: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        facts: Mapping[str, Any],
    ) -> nn.Module:
        """Make a network for weights that are at hand, such as the weights of a saved model.

        Parameters
        ----------
        in_channels, n_classes, spatial_shape
            As for :meth:`build`.
        facts : dict
            The result of :meth:`describe`.

        Returns
        -------
        network : torch.nn.Module
            The network of :meth:`build`, with other weights. A subclass whose :meth:`build` loads
            weights overrides this method, so that nothing is downloaded.
        """
        return self.build(in_channels, n_classes, spatial_shape, PixelRange(0.0, 1.0))


#: Values of ``module=``: the name of a row of the table, a description, or a factory
#: ``f(in_channels, n_classes)``.
ModuleSpec: TypeAlias = str | NetworkSpec | Callable[..., nn.Module]


@runtime_checkable
class SplitNetwork(Protocol):
    """A network in two parts: ``forward(x)`` equals ``head(features(x))``.

    If ``freezes_backbone`` is True, only the head is trained, and the features of an image are the
    same in every epoch. Training then computes them once where nothing changes the images.
    """

    freezes_backbone: bool

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of images, with one entry along the first axis for each image."""

    def head(self, features: Tensor) -> Tensor:
        """Compute the logits of features, of shape (n_samples, n_classes)."""


@runtime_checkable
class LearningRateFactors(Protocol):
    """A network whose parameters have different learning rates."""

    def learning_rate_factors(self) -> Mapping[str, float]:
        """Return factors of the learning rate by the names of parameters. The rest has 1."""


@runtime_checkable
class Unfreezable(Protocol):
    """A network with frozen parts that training unfreezes.

    ``unfreeze_at`` is a number of epochs from the start, or below 1 a share of the epochs. None
    keeps the parts frozen.
    """

    unfreeze_at: float | None

    def unfreeze(self) -> None:
        """Let training change the frozen parts."""
