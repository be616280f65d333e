"""The interface of a loss for training, and modules of other packages that get it."""

import inspect
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from skimbal.soft_metrics import SumOverParts

__all__ = ["BatchLoss", "ModuleLoss", "accepts_weights"]


class BatchLoss(Protocol):
    """The interface of a loss for training, see :class:`~skimbal.losses.MixedLoss`."""

    @property
    def factors(self) -> Mapping[str, float]:
        """Factors of the terms, empty if the loss is not made of terms."""

    @property
    def may_collapse(self) -> bool:
        """Whether constant predictions are a plateau of the loss."""

    @property
    def name(self) -> str:
        """Name for messages."""

    @property
    def statistics(self) -> str:
        """``"moving"`` if each call in training counts the batch."""

    @property
    def suffers_from_small_batches(self) -> bool:
        """Whether a batch without some class biases the loss."""

    @property
    def takes_weights(self) -> bool:
        """Whether the loss takes ``sample_weight``."""

    def adds_up(self, weighted: bool) -> bool:
        """Tell whether the loss of a batch is the sum of the losses of its parts."""

    def ce_share(self, n_epochs: float, max_epochs: int) -> float:
        """Return the share of the cross-entropy in a warm-up."""

    def epochs_before_weights(self, max_epochs: int) -> float:
        """Return the number of epochs before deferred weights of classes apply."""

    def carry_on_from(self, other: "BatchLoss") -> None:
        """Take over the state of a loss that trained the same network before."""

    def __call__(
        self,
        logits: Tensor,
        target: Tensor,
        sample_weight: Tensor | None = None,
        *,
        normalizer: float | None = None,
        ce_share: float = 0.0,
        defers: bool = False,
        sum_over_parts: SumOverParts | None = None,
    ) -> Tensor:
        """Compute the loss of a batch, or the share of some rows."""


class ModuleLoss(nn.Module):
    """A module of another package with the interface of the losses of this package.

    Parameters
    ----------
    module : torch.nn.Module
        Maps (logits, target) to a scalar. With an attribute ``mean_over_rows = True`` it says that
        this is a mean over the rows, so that parts of a batch add up. If its ``forward`` takes
        ``sample_weight``, of shape (n_samples,), the classifiers accept weights.

    Attributes
    ----------
    module : torch.nn.Module
        As given.

    Examples
    --------
    >>> from torch import nn
    >>> from skimbal.losses import ModuleLoss
    >>> ModuleLoss(nn.CrossEntropyLoss()).adds_up(weighted=False)
    False
    """

    factors: Mapping[str, float] = {}
    statistics = "batch"
    suffers_from_small_batches = False
    may_collapse = False

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    @property
    def name(self) -> str:
        """Name of the class of the module."""
        return type(self.module).__name__

    @property
    def takes_weights(self) -> bool:
        """Whether the module takes ``sample_weight``."""
        return accepts_weights(self.module)

    def adds_up(self, weighted: bool) -> bool:
        """Tell whether the loss of a batch is the sum of the losses of its parts.

        Parameters
        ----------
        weighted : bool
            Whether the rows have weights. A module does not say which number divides their sum.

        Returns
        -------
        adds_up : bool
            Whether the module says that it is a mean over rows, and there are no weights.
        """
        return bool(getattr(self.module, "mean_over_rows", False)) and not weighted

    def ce_share(self, n_epochs: float, max_epochs: int) -> float:
        """Return 0, as such a loss has no warm-up.

        Parameters
        ----------
        n_epochs : float
            Epochs of training so far.
        max_epochs : int
            Epochs of the whole training.

        Returns
        -------
        share : float
            0.0.
        """
        return 0.0

    def epochs_before_weights(self, max_epochs: int) -> float:
        """Return 0, as such a loss has no deferred weights.

        Parameters
        ----------
        max_epochs : int
            Epochs of the whole training.

        Returns
        -------
        n_epochs : float
            0.0.
        """
        return 0.0

    def carry_on_from(self, other: "BatchLoss") -> None:
        """Begin anew, as nothing is known of the state of the module.

        Parameters
        ----------
        other : BatchLoss
            The loss of the training before.
        """

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        sample_weight: Tensor | None = None,
        *,
        normalizer: float | None = None,
        ce_share: float = 0.0,
        defers: bool = False,
        sum_over_parts: SumOverParts | None = None,
    ) -> Tensor:
        """Compute the share of some rows in the loss of a batch.

        Parameters
        ----------
        logits, target, sample_weight
            As for :meth:`MixedLoss.forward`. Weights are passed on if there are any.
        normalizer : float, default=None
            Number of rows of the whole batch. If None, the given rows are the whole batch.
        ce_share, defers
            Not used.
        sum_over_parts : callable, default=None
            As for :meth:`MixedLoss.forward`. Only the number of parts is used.

        Returns
        -------
        loss : Tensor of shape ()
            The loss of the module times the share of these rows.
        """
        if len(target) == 0:
            return logits.sum()
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        loss: Tensor = self.module(logits, target, **weights)
        share = 1.0 if normalizer is None else len(target) / normalizer
        if sum_over_parts is not None:  # a mean over the parts makes of it the sum of all shares
            share = share * sum_over_parts.n_parts
        return loss if share == 1 else loss * share


def accepts_weights(module: nn.Module) -> bool:
    """Tell whether the forward of a module takes ``sample_weight``."""
    return "sample_weight" in inspect.signature(module.forward).parameters
