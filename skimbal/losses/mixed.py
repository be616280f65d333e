"""The module behind every loss name."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from skimbal.exceptions import ParameterError
from skimbal.losses.class_counts import check_counts
from skimbal.losses.modules import BatchLoss, accepts_weights
from skimbal.losses.terms import OPTIONS, TERMS, LossMix, factors_of, options_of, plain_ce
from skimbal.soft_metrics import (
    SetOptions,
    SetTerms,
    SumOverParts,
    accumulation_dtype,
    check_batch,
    set_terms,
)
from skimbal.typing import ArrayLike

__all__ = ["FocalLoss", "MixedLoss", "SoftF1Loss", "SoftMCCLoss"]


#: Fields of a term that make vectors of class counts.
_VECTORS = ("of_classes", "class_weight")


class MixedLoss(nn.Module):
    r"""The module behind every loss name: a weighted sum of terms over one softmax.

    Parameters
    ----------
    mix : LossMix
        Factors and options. Terms with factor 0 cost nothing.
    class_counts : array-like of shape (n_classes,), default=None
        Number (or total weight) of training rows per class, in samples. All terms need it but
        ``ce``, ``focal``, ``f1`` and ``mcc``.

    Attributes
    ----------
    factors : dict
        Factors above 0 by the name of their term.
    mix : LossMix
        Factors and options, checked.
    moving : Tensor of shape (3, n_classes) or None
        The moving sums of ``TP``, ``q`` and ``t``, in samples. None before the first batch.
    may_collapse : bool
        Whether the loss has no term that is a mean over rows, and so no direction on the plateau of
        constant predictions.
    uses_numpy : bool
        Whether numpy computes with the three vectors of a batch on the CPU, as its calls cost less
        than the calls of torch. If False, the CPU runs the operations of other devices.

    Raises
    ------
    ValueError
        If a factor is negative, not a finite number or above 1e18, if all are zero or below 1e-9,
        if a term is unknown, if an option is out of range, or if a term needs ``class_counts`` and
        they are missing.

    Notes
    -----
    A soft metric :math:`f` is a function of sums over all rows, and the mean of :math:`f` over
    small batches is not :math:`f` of the whole. With moving sums
    :math:`u \leftarrow e^{-n/h} u + v` of the vectors :math:`v` of batches of :math:`n` rows, the
    value is :math:`f(u)` and the gradient
    :math:`f'(u)\, \partial v / n`, in which sums divided by their total correct the bias of an
    average that began at 0. This is stochastic compositional gradient descent with its inner
    function tracked by a moving average (Wang et al., 2017). Only training mode moves the sums.
    In evaluation mode the value is the loss of the batch.

    See Also
    --------
    get_loss : Makes a loss from a name or an expression.

    References
    ----------
    Scholz, D. et al. (2024). Imbalance-aware loss functions improve medical image
    classification. MIDL, PMLR 250, 1341-1356.

    Wang, M., Fang, E. X. and Liu, H. (2017). Stochastic compositional gradient descent: algorithms
    for minimizing compositions of expected-value functions. Mathematical Programming 161, 419-449.

    Examples
    --------
    >>> import torch
    >>> from skimbal.losses import LossMix, MixedLoss
    >>> loss = MixedLoss(LossMix(ce=1, f1=1))
    >>> round(loss(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])).item(), 4)
    1.1931
    """

    moving: Tensor | None

    def __init__(self, mix: LossMix, class_counts: ArrayLike | None = None) -> None:
        super().__init__()
        self.factors = factors_of(mix)
        params: dict[str, Any] = {**self.factors, **options_of(mix)}
        self.mix = LossMix(**params)
        # The terms go where the module goes. A warm-up needs the cross-entropy.
        self._terms = {name: TERMS[name] for name in ("ce", *self.factors)}
        self._weighing = {name for name in self.factors if self._terms[name].class_weight}
        self._n_classes = self._register_class_vectors(class_counts)
        of_batch = [self._terms[name].row_loss is None for name in self.factors]
        self._is_of_batch, self.may_collapse = any(of_batch), all(of_batch)
        self._is_deferred = any(self._terms[name].is_deferred for name in self.factors)
        # A small batch costs as much as there are operations. This loss is a single one.
        self._is_plain = self.factors == {"ce": 1.0} and self._terms["ce"].row_loss is plain_ce
        self.uses_numpy = True
        self.register_buffer("moving", None, persistent=False)

    def _register_class_vectors(self, class_counts: ArrayLike | None) -> int | None:
        """Keep the vectors that terms make of class counts. Return the number of classes."""
        needing = [name for name in self.factors if self._terms[name].needs_counts]
        if not needing:
            return None
        if class_counts is None:
            raise ParameterError(
                "class_counts",
                "the number of training rows of each class, which the loss needs for "
                + " and ".join(map(repr, needing)),
                None,
                "Pass class_counts=[n_0, n_1, ...].",
            )
        counts = check_counts(class_counts)
        for name in needing:
            for kind in _VECTORS:
                make_vector = getattr(self._terms[name], kind)
                if make_vector is not None:
                    vector = torch.from_numpy(make_vector(self.mix, class_counts))
                    self.register_buffer(f"{kind}_{name}", vector, persistent=False)
        return len(counts)

    @property
    def class_vectors(self) -> dict[str, Tensor]:
        """Vectors that terms made of class counts, by their name, of shape (n_classes,)."""
        return self._vectors("of_classes_")

    @property
    def class_weights(self) -> dict[str, Tensor]:
        """Weights of the classes, by the name of their term, of shape (n_classes,)."""
        return self._vectors("class_weight_")

    def _vectors(self, prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): vector
            for name, vector in self.named_buffers()
            if name.startswith(prefix)
        }

    @property
    def name(self) -> str:
        """Expression of the loss, such as ``"ce + 0.5*mcc"``."""
        return " + ".join(
            name if factor == 1 else f"{factor:g}*{name}" for name, factor in self.factors.items()
        )

    @property
    def statistics(self) -> str:
        """Rows that the scores are computed from, ``"batch"`` or ``"moving"``."""
        return str(self.mix.statistics)

    @property
    def suffers_from_small_batches(self) -> bool:
        """Whether a batch without some class biases the loss."""
        return self._is_of_batch and self.statistics == "batch"

    @property
    def takes_weights(self) -> bool:
        """Whether ``forward`` takes ``sample_weight``, which a subclass may leave out."""
        return accepts_weights(self)

    def adds_up(self, weighted: bool) -> bool:
        """Tell whether the loss of a batch is the sum of the losses of its parts.

        Parameters
        ----------
        weighted : bool
            Whether the rows have weights.

        Returns
        -------
        adds_up : bool
            False for functions of the whole batch.
        """
        return not self._is_of_batch

    def ce_share(self, n_epochs: float, max_epochs: int) -> float:
        """Return the share of the cross-entropy in the warm-up of a loss that may collapse.

        Parameters
        ----------
        n_epochs : float
            Epochs of training so far.
        max_epochs : int
            Epochs of the whole training.

        Returns
        -------
        share : float
            In [0, 1], dimensionless, for ``forward``. 0 after the warm-up, and for losses that have
            none.
        """
        n_warmup = self.mix.warmup_epochs
        if not self.may_collapse or n_warmup == 0:
            return 0.0
        n_warmup = n_warmup * max_epochs if n_warmup < 1 else n_warmup
        return max(0.0, 1 - n_epochs / n_warmup)

    def epochs_before_weights(self, max_epochs: int) -> float:
        """Return the number of epochs before deferred weights of classes apply.

        Parameters
        ----------
        max_epochs : int
            Epochs of the whole training.

        Returns
        -------
        n_epochs : float
            0 for losses without such weights.
        """
        if not self._is_deferred:
            return 0.0
        start: float = self.mix.drw_start
        # Without the rounding error of the share: 0.8 of 5 epochs are 4.
        return round(start * max_epochs, 9) if start < 1 else start

    def carry_on_from(self, other: "BatchLoss") -> None:
        """Take over the moving sums of a loss that trained the same network before.

        Parameters
        ----------
        other : BatchLoss
            The loss of the training before.
        """
        self.moving = getattr(other, "moving", None)

    def extra_repr(self) -> str:
        """Return the expression of the loss and its options, as ``repr`` of the module shows it."""
        plain = LossMix().get_params(deep=False)
        options = {name: getattr(self.mix, name) for name in OPTIONS}
        changed = [f"{name}={value!r}" for name, value in options.items() if value != plain[name]]
        return ", ".join([self.name, *changed])

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
        """Compute the loss of a batch.

        Parameters
        ----------
        logits : Tensor of shape (n_samples, n_classes)
            Unnormalised log-probabilities in any floating dtype.
        target : Tensor of shape (n_samples,)
            Class numbers, int64.
        sample_weight : Tensor of shape (n_samples,), default=None
            Weights, dimensionless and not negative. Integer weights equal repeated rows.
        normalizer : float, default=None
            Divisor of the weighted sums of the terms that are a mean over rows (all but ``f1`` and
            ``mcc``), in samples: the total weight if None. A training loop whose weights have mean
            1 over the whole data set passes the number of rows, so that a batch of little weight
            says little.
        ce_share : float, default=0.0
            Share of a cross-entropy that takes the place of the whole loss, in [0, 1],
            dimensionless. It goes from 1 to 0 in a warm-up.
        defers : bool, default=False
            Whether deferred weights of classes do not apply yet.
        sum_over_parts : callable, default=None
            Where several processes hold a part of the batch each, which may be empty:
            ``f(tensor)`` returns the differentiable sum over all parts, and the attribute
            ``n_parts`` is their number. The means of value and gradient over the processes, as
            DistributedDataParallel computes them, are then the value and gradient of the whole
            batch. This costs one message with the three vectors. ``normalizer`` is the divisor of
            the whole batch, and its number of rows. None costs a second message.

        Returns
        -------
        loss : Tensor of shape ()
            Dimensionless, in float32 or better. A batch whose weights are all zero gives 0 for
            the per-row terms and 1 for each metric term, with zero gradient.

        Raises
        ------
        ValueError
            If the shapes do not fit together, ``target`` is not int64, or the logits are of
            another number of classes than ``class_counts``.
        """
        weight = check_batch(logits, target, sample_weight, may_be_empty=sum_over_parts is not None)
        if self._n_classes is not None and self._n_classes != logits.shape[1]:
            raise ValueError(
                f"class_counts must have a count for each of the {logits.shape[1]} classes of the "
                f"logits; got {self._n_classes} counts. Make the loss with as many counts."
            )
        # Once for all terms, so that half precision rounds the gradient of their sum only.
        logits = logits.to(accumulation_dtype(logits))
        n_rows, divisor = _count_rows(logits, weight, normalizer, sum_over_parts)
        if self._is_plain and sum_over_parts is None and weight is None and divisor == len(target):
            return cross_entropy(logits, target, label_smoothing=self.mix.label_smoothing)
        factors = self.factors
        if ce_share:
            factors = {name: (1 - ce_share) * factor for name, factor in factors.items()}
            factors = {"ce": factors.pop("ce", 0.0) + ce_share, **factors}
        of_rows = [name for name in factors if factors[name] and self._terms[name].row_loss]
        with_nll = any(self._terms[name].takes_nll for name in of_rows)
        loss, nll = None, None
        if self._is_of_batch:
            options = self._set_options(factors, with_nll, logits, n_rows, divisor, sum_over_parts)
            loss, nll = self._score_terms(logits, target, weight, options)
        elif with_nll:
            nll = cross_entropy(logits, target, reduction="none")  # (n,)
        if sum_over_parts is not None:
            # Each part has its share of the sum over the rows, and a mean must be the whole.
            divisor = divisor / sum_over_parts.n_parts
        for name in of_rows:
            row_loss = self._row_loss(name, logits, target, nll)
            if name in self._weighing and not (defers and self._terms[name].is_deferred):
                row_loss = row_loss * getattr(self, f"class_weight_{name}")[target].to(row_loss)
            term = _mean(row_loss, weight, divisor)
            term = term if factors[name] == 1 else factors[name] * term
            loss = term if loss is None else loss + term
        assert loss is not None
        return loss

    def _set_options(
        self,
        factors: Mapping[str, float],
        with_nll: bool,
        logits: Tensor,
        n_rows: float,
        divisor: Tensor | float,
        sum_over_parts: SumOverParts | None,
    ) -> SetOptions:
        formulas = {name: self._terms[name].formula for name in factors if factors[name]}
        scores = [(factors[name], of) for name, of in formulas.items() if of is not None]
        past, by = None, None
        if self.statistics == "moving" and self.training:
            past, by = self._past(logits, n_rows), divisor
        return SetOptions(scores, with_nll, past, by, sum_over_parts, self.uses_numpy)

    def _score_terms(
        self, logits: Tensor, target: Tensor, weight: Tensor | None, options: SetOptions
    ) -> tuple[Tensor, Tensor | None]:
        # The closed form is the gradient for the logits. Weights that are learnt need autograd.
        in_closed_form = weight is None or not weight.requires_grad
        compute: Any = SetTerms.apply if in_closed_form else set_terms
        loss, nll, sums = compute(logits, target, weight, options)
        if options.past is not None:
            self.moving = options.past + sums.detach()
        return loss, nll

    def _past(self, logits: Tensor, n_rows: float) -> Tensor:
        """Return the moving sums of past batches, as they count for a batch of so many rows."""
        if self.moving is None:
            # MPS has no float64.
            wide = torch.float32 if logits.device.type == "mps" else torch.float64
            return logits.new_zeros((3, logits.shape[1]), dtype=wide)
        if self.moving.shape[1] != logits.shape[1]:
            raise ValueError(
                f"logits must have {self.moving.shape[1]} classes, as the moving statistics have; "
                f"got {logits.shape[1]}. Use a new loss module for another problem."
            )
        return self.moving * math.exp(-n_rows / self.mix.horizon)

    def _row_loss(self, name: str, logits: Tensor, target: Tensor, nll: Tensor | None) -> Tensor:
        term = self._terms[name]
        assert term.row_loss is not None
        given: Any = nll if term.takes_nll else None
        vector: Any = getattr(self, f"of_classes_{name}") if term.of_classes else None
        loss: object = term.row_loss(logits, target, given, vector, self.mix)
        # Anything else could broadcast to a wrong mean.
        if not isinstance(loss, Tensor) or loss.shape != target.shape:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(
                f"the row_loss of {name!r} must return a tensor of shape (n_samples,), here "
                f"{tuple(target.shape)}; got {got}. Compute one number for each row. A row_loss "
                "that uses nll needs takes_nll=True."
            )
        return loss


def _count_rows(
    logits: Tensor,
    weight: Tensor | None,
    normalizer: float | None,
    sum_over_parts: SumOverParts | None,
) -> tuple[float, Tensor | float]:
    """Return the number of rows of the whole batch, and the divisor of sums over its rows."""
    if normalizer is not None:
        return normalizer, normalizer
    if sum_over_parts is None and weight is None:
        return len(logits), len(logits)
    if sum_over_parts is None:
        assert weight is not None
        n_rows, mass = float(len(logits)), weight.sum()
    else:
        ones = logits.new_ones(len(logits), dtype=accumulation_dtype(logits))
        counts = torch.stack((ones.sum(), (ones if weight is None else weight).sum()))
        counts = sum_over_parts(counts)
        n_rows, mass = counts[0].item(), counts[1]
    return n_rows, mass + (mass == 0)


def _mean(row_loss: Tensor, weight: Tensor | None, divisor: Tensor | float) -> Tensor:
    if weight is not None:
        return (row_loss * weight).sum() / divisor
    return row_loss.mean() if divisor == len(row_loss) else row_loss.sum() / divisor


class SoftMCCLoss(MixedLoss):
    """One minus the soft multi-class Matthews correlation coefficient of the batch.

    See :func:`mcc_score` for the formula. The value lies in [0, 2]. It is exactly 1, without
    gradient, where batch or prediction is of one class only.

    Examples
    --------
    >>> import torch
    >>> from skimbal.losses import SoftMCCLoss
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]], requires_grad=True)
    >>> loss = SoftMCCLoss()(logits, torch.tensor([0, 1, 0]))
    >>> loss.backward()
    >>> round(loss.item(), 3)
    0.345
    """

    def __init__(self) -> None:
        super().__init__(LossMix(mcc=1.0))


class SoftF1Loss(MixedLoss):
    """One minus the soft macro F1 score of the batch.

    See :func:`f1_score_macro` for the formula. The value lies in [0, 1]. Each class that the
    batch lacks adds 1 / n_classes.

    Examples
    --------
    >>> import torch
    >>> from skimbal.losses import SoftF1Loss
    >>> round(SoftF1Loss()(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])).item(), 3)
    0.5
    """

    def __init__(self) -> None:
        super().__init__(LossMix(f1=1.0))


class FocalLoss(MixedLoss):
    r"""Focal loss :math:`-(1 - p_t)^\gamma \log p_t`, averaged over the rows.

    Parameters
    ----------
    gamma : float, default=2.0
        Focusing exponent, dimensionless, at least 0. 0 gives cross-entropy.

    Raises
    ------
    ValueError
        If ``gamma`` is negative or not finite.

    References
    ----------
    Lin, T.-Y. et al. (2017). Focal loss for dense object detection. ICCV.

    Examples
    --------
    >>> import torch
    >>> from skimbal.losses import FocalLoss
    >>> round(FocalLoss(gamma=2.0)(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])).item(), 4)
    0.1733
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__(LossMix(focal=1.0, focal_gamma=gamma))
