"""Losses for imbalanced classes, from cross-entropy to soft F1 and soft MCC.

The soft metrics rest on one statistic, three vectors with one entry per class
(:func:`soft_confusion`): the true positive mass ``TP``, the predicted mass ``q`` and the true mass
``t``.  A score is a short function of them, a loss is one minus the score, and whatever splits a
batch (micro-batches, devices) has only these vectors to add up.
"""

import copy
import math
import re
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from skimbal.exceptions import CollapseWarning
from skimbal.soft_metrics import (
    SetTerms,
    accumulation_dtype,
    check_batch,
    f1_score_macro,
    mcc_score,
    set_terms,
    soft_confusion,
    sum_over_processes,
)

__all__ = [
    "CollapseWarning",
    "FocalLoss",
    "LossMix",
    "MixedLoss",
    "SoftF1Loss",
    "SoftMCCLoss",
    "f1_score_macro",
    "get_loss",
    "inverse_frequency",
    "log_prior",
    "mcc_score",
    "soft_confusion",
]

#: Terms that are a mean over rows: those of -log p of the target, and cross-entropies of logits
#: that are moved by what is known of the classes.
_NLL_TERMS = frozenset(("ce", "wce", "focal"))
_SHIFT_TERMS = ("la", "balanced_softmax", "ldam")
_ROW_TERMS = ("ce", "wce", "focal", *_SHIFT_TERMS)
#: Terms that are a function of the whole batch.
_SET_TERMS = ("f1", "mcc")
_TERMS = ("ce", "wce", "focal", *_SET_TERMS, *_SHIFT_TERMS)
_NEED_COUNTS = ("wce", *_SHIFT_TERMS)


class LossMix(BaseEstimator):  # type: ignore[misc]
    r"""A weighted sum of losses whose factors are parameters.

    The same thing as an expression such as ``"ce + 0.5*mcc"``, but with ``get_params``, so that a
    search reaches each factor: ``{"loss__mcc": [0, 0.25, 0.5, 1]}``.  A plain sum, as in Scholz
    et al. (2024); the values are checked when the mix is used, as scikit-learn does.

    Parameters
    ----------
    ce : float, default=0.0
        Factor of the cross-entropy, dimensionless.
    wce : float, default=0.0
        Factor of the cross-entropy weighted by normalised inverse class frequency.
    focal : float, default=0.0
        Factor of the focal loss.
    f1 : float, default=0.0
        Factor of the soft macro F1 loss.
    mcc : float, default=0.0
        Factor of the soft multi-class MCC loss.
    la : float, default=0.0
        Factor of the logit-adjusted cross-entropy (see Notes).
    balanced_softmax : float, default=0.0
        Factor of the balanced softmax loss, which is ``la`` with ``la_tau=1``.
    ldam : float, default=0.0
        Factor of the label-distribution-aware margin loss (see Notes).
    focal_gamma : float, default=2.0
        Focusing exponent of the focal loss, dimensionless, at least 0; 0 gives cross-entropy.
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over the classes, in [0, 1). It applies to
        ``ce`` and ``wce``; all other terms compare with hard labels.
    la_tau : float, default=1.0
        Strength of the adjustment of ``la``, dimensionless, at least 0; 0 gives cross-entropy.
    ldam_margin : float, default=0.5
        Largest margin of ``ldam``, that of the rarest class, in units of the logits
        (dimensionless), at least 0; 0 gives cross-entropy.

    Notes
    -----
    With logits :math:`z`, the target :math:`y`, :math:`n_k` training rows of class :math:`k` and
    their shares :math:`\pi_k`, three terms are cross-entropies of other logits:

    - ``la`` of :math:`z_k + \tau \log \pi_k` (Menon et al., 2021);
    - ``balanced_softmax`` of :math:`z_k + \log n_k` (Ren et al., 2020), which is ``la`` with
      :math:`\tau = 1`, as a softmax does not see a constant;
    - ``ldam`` of :math:`z_k - \Delta_k [k = y]` with :math:`\Delta_k = C / n_k^{1/4}` (Cao et
      al., 2019) and :math:`C` such that the largest margin is ``ldam_margin``.

    In the paper of ``ldam`` the last layer has normalised features and weights, and its cosines
    less the margin are multiplied by :math:`s = 30`. Here the logits are those of the network as
    it is. A network whose logits are :math:`s` times a cosine has the loss of the paper where
    ``ldam_margin`` is :math:`s` times the margin of the paper.  The re-weighting that the paper
    defers to late epochs is not part of the term.

    A class without training rows counts as the rarest one that has some.

    References
    ----------
    Cao, K., Wei, C., Gaidon, A., Arechiga, N. and Ma, T. (2019). Learning imbalanced datasets with
    label-distribution-aware margin loss. NeurIPS.

    Menon, A. K. et al. (2021). Long-tail learning via logit adjustment. ICLR.

    Ren, J. et al. (2020). Balanced meta-softmax for long-tailed visual recognition. NeurIPS.

    Examples
    --------
    >>> from sklearn.base import clone
    >>> from skimbal import LossMix
    >>> mix = LossMix(ce=1, mcc=0.5)
    >>> mix
    LossMix(ce=1, mcc=0.5)
    >>> clone(mix).set_params(mcc=1).get_params()["mcc"]
    1
    """

    def __init__(
        self,
        ce: float = 0.0,
        wce: float = 0.0,
        focal: float = 0.0,
        f1: float = 0.0,
        mcc: float = 0.0,
        *,
        la: float = 0.0,
        balanced_softmax: float = 0.0,
        ldam: float = 0.0,
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
        la_tau: float = 1.0,
        ldam_margin: float = 0.5,
    ) -> None:
        self.ce = ce
        self.wce = wce
        self.focal = focal
        self.f1 = f1
        self.mcc = mcc
        self.la = la
        self.balanced_softmax = balanced_softmax
        self.ldam = ldam
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
        self.la_tau = la_tau
        self.ldam_margin = ldam_margin


class MixedLoss(nn.Module):
    r"""The module behind every loss name: a weighted sum of terms over one softmax.

    Parameters
    ----------
    mix : LossMix
        The factors; terms with factor 0 cost nothing.
    class_counts : array-like of shape (n_classes,), default=None
        Number (or total weight) of training rows per class, in samples; needed for ``wce``,
        ``la``, ``balanced_softmax`` and ``ldam``.
    statistics : {"batch", "moving"}, default="batch"
        What ``f1`` and ``mcc`` are functions of: the three vectors of the batch, as in the paper,
        or their exponential moving sums over the batches so far, this one included (see Notes).
    horizon : float, default=512
        Memory of the moving sums, in samples: a batch that was followed by so many rows counts
        1/e of the present one. Not used by ``"batch"``.

    Attributes
    ----------
    moving : Tensor of shape (3, n_classes) or None
        The moving sums of ``TP``, ``q`` and ``t``, in samples. None before the first batch.

    Raises
    ------
    ValueError
        If a factor is negative, not a finite number, or all are zero; if ``focal_gamma``,
        ``label_smoothing``, ``la_tau`` or ``ldam_margin`` is out of range; if a term needs
        ``class_counts`` and there are none; if ``statistics`` is unknown or ``horizon`` is not a
        positive number.

    Notes
    -----
    A soft metric :math:`f` is a function of sums over all rows, and the mean of :math:`f` over
    small batches is not :math:`f` of the whole. With moving sums
    :math:`u \leftarrow e^{-n/h} u + v` of the vectors :math:`v` of batches of :math:`n` rows, the
    value is :math:`f(u)` and the gradient
    :math:`f'(u)\, \partial v / n`, in which sums divided by their total correct the bias of an
    average that began at 0. This is stochastic compositional gradient descent with its inner
    function tracked by a moving average (Wang et al., 2017). Only training mode moves the sums;
    in evaluation mode the value is that of the batch.

    See Also
    --------
    get_loss : Makes one from a name or an expression.

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

    class_weight: Tensor | None
    log_prior: Tensor | None
    margin: Tensor | None
    moving: Tensor | None

    def __init__(
        self,
        mix: LossMix,
        class_counts: Any = None,
        *,
        statistics: str = "batch",
        horizon: float = 512,
    ) -> None:
        super().__init__()
        self.factors = _check_mix(mix)
        check_statistics(statistics, horizon)
        self.statistics, self.horizon = statistics, float(horizon)
        self.focal_gamma = float(mix.focal_gamma)
        self.label_smoothing = float(mix.label_smoothing)
        self.la_tau = float(mix.la_tau)
        self._n_classes: int | None = None
        of_classes: dict[str, np.ndarray] = {}
        if needing := [name for name in _NEED_COUNTS if name in self.factors]:
            if class_counts is None:
                raise ValueError(
                    f"the loss has {', '.join(map(repr, needing))}, which needs class_counts, the "
                    "number of training rows of each class; got None. Pass "
                    "class_counts=[n_0, n_1, ...]."
                )
            self._n_classes = len(_check_counts(class_counts))
        if "wce" in self.factors:
            of_classes["class_weight"] = inverse_frequency(class_counts)
        if "la" in self.factors or "balanced_softmax" in self.factors:
            of_classes["log_prior"] = log_prior(class_counts)
        if "ldam" in self.factors:
            of_classes["margin"] = float(mix.ldam_margin) * _relative_margins(class_counts)
        for name in ("class_weight", "log_prior", "margin"):
            value = torch.from_numpy(of_classes[name]) if name in of_classes else None
            self.register_buffer(name, value, persistent=False)
        #: Whether a term is a function of the whole batch and suffers when a class is absent.
        self.needs_every_class = any(name in self.factors for name in _SET_TERMS)
        #: Whether no per-row term is there to leave the plateau of constant predictions.
        self.may_collapse = not any(name in self.factors for name in _ROW_TERMS)
        self._is_plain = self.factors == {"ce": 1.0}
        self.register_buffer("moving", None, persistent=False)

    @property
    def suffers_from_small_batches(self) -> bool:
        """Whether a batch without some class biases the loss."""
        return self.needs_every_class and self.statistics == "batch"

    def extra_repr(self) -> str:
        """Return the expression of the loss, as ``repr`` of the module shows it."""
        return " + ".join(
            name if factor == 1 else f"{factor:g}*{name}" for name, factor in self.factors.items()
        )

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        sample_weight: Tensor | None = None,
        *,
        normalizer: float | None = None,
        ce_share: float = 0.0,
        process_group: Any = None,
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
            What the weighted sums of the terms that are a mean over rows (all but ``f1`` and
            ``mcc``) are divided by, in samples: the total weight if None. A training loop whose
            weights have mean 1 over the whole data set passes the number of rows, so that a batch
            of little weight says little.
        ce_share : float, default=0.0
            Share of a cross-entropy that stands in for the whole loss, in [0, 1], dimensionless:
            for a warm-up, which goes from 1 to 0.
        process_group : torch.distributed.ProcessGroup, default=None
            Processes that hold a part of the batch each, which may be empty. The means of value
            and gradient over the processes, such as DistributedDataParallel takes, are those of
            the whole batch, for one all-reduce of the three vectors. ``normalizer`` is then that
            of the whole batch, and its number of rows; None costs a second all-reduce.

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
        weight = check_batch(logits, target, sample_weight, process_group)
        if self._n_classes is not None and self._n_classes != logits.shape[1]:
            raise ValueError(
                f"class_counts had {self._n_classes} classes, but the logits have "
                f"{logits.shape[1]}; make the loss with one count for each class."
            )
        n_rows: float = len(target)
        divisor: Tensor | float = n_rows if normalizer is None else normalizer
        if normalizer is None and weight is not None:
            divisor = weight.sum()
        if process_group is not None:
            if normalizer is None:
                ones = logits.new_ones(len(target), dtype=accumulation_dtype(logits))
                counts = torch.stack((ones.sum(), (ones if weight is None else weight).sum()))
                counts = sum_over_processes(counts, process_group)
                n_rows, divisor = counts[0].item(), counts[1]
            else:
                n_rows = normalizer
        if isinstance(divisor, Tensor):
            divisor = divisor + (divisor == 0)
        factors = self.factors
        if ce_share:
            factors = {name: (1 - ce_share) * factor for name, factor in factors.items()}
            factors["ce"] = factors.get("ce", 0.0) + ce_share
        is_mean = process_group is None and weight is None and divisor == len(target)
        if self._is_plain and is_mean:
            # A small batch costs as much as there are operations; this is a single one.
            wide = logits.to(accumulation_dtype(logits))
            return cross_entropy(wide, target, label_smoothing=self.label_smoothing)
        of_rows = [name for name in _ROW_TERMS if factors.get(name)]
        with_nll = not _NLL_TERMS.isdisjoint(of_rows)
        loss: Any = None
        nll: Tensor | None = None
        if self.needs_every_class:
            of_set = (factors.get("f1", 0.0), factors.get("mcc", 0.0))
            # Its gradient in closed form is one for the logits.
            in_closed_form = weight is None or not weight.requires_grad
            compute: Any = SetTerms.apply if in_closed_form else set_terms
            past, by = None, None
            if self.statistics == "moving" and self.training:
                past, by = self._past(logits, n_rows), divisor
            given = (logits, target, weight, of_set, with_nll, past, by, process_group)
            loss, nll, sums = compute(*given)
            if past is not None:
                self.moving = past + sums.detach()
        elif with_nll:
            nll = cross_entropy(
                logits.to(accumulation_dtype(logits)), target, reduction="none"
            )  # (n,)
        if of_rows:
            if process_group is not None:
                # Each process has a part of the sum over the rows, and a mean is to be the whole.
                divisor = divisor / process_group.size()
            for name in of_rows:
                row_loss = self._row_loss(name, nll, logits, target)
                if weight is not None:
                    term = (row_loss * weight).sum() / divisor
                elif divisor == len(target):
                    term = row_loss.mean()
                else:
                    term = row_loss.sum() / divisor
                term = term if factors[name] == 1 else factors[name] * term
                loss = term if loss is None else loss + term
        total: Tensor = loss
        return total

    def _past(self, logits: Tensor, n_rows: float) -> Tensor:
        """Return what the moving sums leave of the batches before one of so many rows."""
        if self.moving is None:
            # MPS has no float64.
            wide = torch.float32 if logits.device.type == "mps" else torch.float64
            return logits.new_zeros((3, logits.shape[1]), dtype=wide)
        if self.moving.shape[1] != logits.shape[1]:
            raise ValueError(
                f"the moving statistics are of {self.moving.shape[1]} classes, but the logits have "
                f"{logits.shape[1]}; use a new loss module for another problem."
            )
        return self.moving * math.exp(-n_rows / self.horizon)

    def _row_loss(self, name: str, nll: Tensor | None, logits: Tensor, target: Tensor) -> Tensor:
        """Compute a term for each row, (n,); ``nll`` is needed for those of ``_NLL_TERMS``."""
        if name in _SHIFT_TERMS:
            z = logits.to(accumulation_dtype(logits))
            if name == "ldam":
                assert self.margin is not None
                at = target[:, None]
                z = z.scatter_add(1, at, -self.margin.to(z)[at])
            else:
                assert self.log_prior is not None
                # Balanced softmax has log n_k instead of the logarithm of the share, which differs
                # by a constant.
                z = z + (self.la_tau if name == "la" else 1.0) * self.log_prior.to(z)
            return cross_entropy(z, target, reduction="none")
        assert nll is not None
        if name == "focal":
            # 1 - p_t without cancellation. The clamp keeps the derivative of a fractional power
            # finite at p_t = 1, where the focal loss itself is 0.
            miss = (-torch.expm1(-nll)).clamp_min(torch.finfo(nll.dtype).tiny)
            return miss**self.focal_gamma * nll
        if self.label_smoothing:
            # The mean over the classes of -log p. All classes have the same logarithm of a sum.
            z = logits.to(nll)
            uniform = nll + z.gather(1, target[:, None])[:, 0] - z.mean(1)
            nll = torch.lerp(nll, uniform, self.label_smoothing)
        if name == "wce":
            assert self.class_weight is not None
            nll = nll * self.class_weight[target].to(nll)
        return nll


class SoftMCCLoss(MixedLoss):
    """One minus the soft multi-class Matthews correlation coefficient of the batch.

    See :func:`mcc_score` for the formula. The value lies in [0, 2]; it is exactly 1, without
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

    See :func:`f1_score_macro` for the formula. The value lies in [0, 1]; each class that the
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
        Focusing exponent, dimensionless, at least 0; 0 gives cross-entropy.

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


def get_loss(
    spec: "str | LossMix | nn.Module | type[nn.Module]",
    class_counts: Any = None,
    *,
    statistics: str = "batch",
    horizon: float = 512,
) -> nn.Module:
    """Make a loss module from what ``loss=`` of the classifiers accepts.

    Parameters
    ----------
    spec : str, LossMix, Module or Module class
        A name (``"ce"``, ``"wce"``, ``"focal"``, ``"f1"``, ``"mcc"``, ``"la"``,
        ``"balanced_softmax"``, ``"ldam"``), an expression of terms joined by ``+``, each with an
        optional factor (``"ce + 0.5*mcc"``), a :class:`LossMix`, a module that maps
        (logits, target) to a scalar (it is deep-copied), or its class.
    class_counts : array-like of shape (n_classes,), default=None
        Number (or total weight) of training rows per class, in samples; needed for ``"wce"``,
        ``"la"``, ``"balanced_softmax"`` and ``"ldam"``.
    statistics : {"batch", "moving"}, default="batch"
        As for :class:`MixedLoss`.
    horizon : float, default=512
        As for :class:`MixedLoss`, in samples.

    Returns
    -------
    loss : torch.nn.Module
        A :class:`MixedLoss` for names, expressions and mixes.

    Raises
    ------
    ValueError
        If a term is unknown or named twice, the expression is malformed, a factor is negative or
        not finite, all factors are zero, or class counts are missing; if a module that is no
        :class:`MixedLoss` is to have moving statistics.
    TypeError
        If ``spec`` is none of the above.

    Examples
    --------
    >>> from skimbal.losses import get_loss
    >>> get_loss("ce + 0.5*mcc")
    MixedLoss(ce + 0.5*mcc)
    """
    if isinstance(spec, nn.Module) or (isinstance(spec, type) and issubclass(spec, nn.Module)):
        check_statistics(statistics, horizon)
        module: Any = spec() if isinstance(spec, type) else copy.deepcopy(spec)
        if statistics == "moving":
            if not isinstance(module, MixedLoss):
                raise ValueError(
                    "loss_statistics='moving' is for the losses of this package, whose statistic "
                    f"is known; the loss is a {type(module).__name__}. Use loss_statistics='batch'."
                )
            module.statistics, module.horizon = statistics, float(horizon)
        loss: nn.Module = module
        return loss
    options: dict[str, Any] = {"statistics": statistics, "horizon": horizon}
    if isinstance(spec, str):
        return MixedLoss(_parse(spec), class_counts, **options)
    if isinstance(spec, LossMix):
        return MixedLoss(spec, class_counts, **options)  # type: ignore[arg-type]
    raise TypeError(
        f"loss must be a name or expression of {', '.join(_TERMS)} (such as 'ce+mcc'), a LossMix, "
        f"or a torch.nn.Module class or instance; got {spec!r}."
    )


def inverse_frequency(class_counts: Any) -> np.ndarray:
    r"""Normalised inverse class frequency, :math:`w_k = s / (K t_k)`, :math:`s = \sum_k t_k`.

    Parameters
    ----------
    class_counts : array-like of shape (n_classes,)
        Number (or total weight) of rows per class, :math:`t`, in samples.

    Returns
    -------
    weight : ndarray of shape (n_classes,)
        Dimensionless, with mean 1 over the rows. A class without rows gets 0 and does not count
        towards :math:`K`.

    Raises
    ------
    ValueError
        If the counts are not one non-negative, finite number per class, or are all zero.

    Examples
    --------
    >>> from skimbal.losses import inverse_frequency
    >>> inverse_frequency([90, 10]).round(3).tolist()
    [0.556, 5.0]
    """
    counts = _check_counts(class_counts)
    present = counts > 0
    weight = np.zeros_like(counts)
    weight[present] = counts.sum() / (present.sum() * counts[present])
    return weight


def log_prior(class_counts: Any) -> np.ndarray:
    r"""Logarithm of the class prior, :math:`\log (t_k / s)`, :math:`s = \sum_k t_k`.

    Parameters
    ----------
    class_counts : array-like of shape (n_classes,)
        Number (or total weight) of rows per class, :math:`t`, in samples, or their shares.

    Returns
    -------
    log_prior : ndarray of shape (n_classes,)
        Dimensionless, finite. A class without rows counts as the rarest one that has some.

    Raises
    ------
    ValueError
        If the counts are not one non-negative, finite number per class, or are all zero.

    Examples
    --------
    >>> from skimbal.losses import log_prior
    >>> log_prior([90, 10]).round(3).tolist()
    [-0.105, -2.303]
    """
    counts = _check_counts(class_counts)
    result: np.ndarray = np.log(_filled(counts)) - np.log(counts.sum())
    return result


def _relative_margins(class_counts: Any) -> np.ndarray:
    """Compute the margins of LDAM as shares of the largest one."""
    counts = _filled(_check_counts(class_counts))
    margins: np.ndarray = (counts.min() / counts) ** 0.25
    return margins


def _filled(counts: np.ndarray) -> np.ndarray:
    """Give classes without rows, of which partial_fit may see some, those of the rarest class."""
    return np.where(counts > 0, counts, counts[counts > 0].min())


def _check_counts(class_counts: Any) -> np.ndarray:
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise ValueError(
            "class_counts must hold one non-negative, finite number of rows per class, not all of "
            f"them zero; got {class_counts!r}."
        )
    return counts


def _parse(expression: str) -> LossMix:
    # A "+" belongs to a factor only as the sign of its exponent, as in 1e+3.
    factor_pattern = r"(?P<factor>[\d.][^*+\s]*(?:(?<=[eE])\+\d+)?|[^*+\s]+)"
    term = re.compile(rf"\s*(?:{factor_pattern}\s*\*\s*)?(?P<name>[A-Za-z_]\w*)\s*(?:\+|$)")
    known = f"Known terms: {', '.join(_TERMS)}; an expression joins them, as in 'ce + 0.5*mcc'."
    factors: dict[str, float] = {}
    position = 0
    # A trailing "+" leaves nothing to match, and is as malformed as an empty expression.
    while position < len(expression) or not factors or expression.rstrip().endswith("+"):
        match = term.match(expression, position)
        if match is None:
            raise ValueError(
                f"cannot read the loss {expression!r} from {expression[position:]!r} on. {known}"
            )
        name, factor = match["name"], match["factor"]
        if name not in _TERMS:
            raise ValueError(f"unknown term {name!r} in the loss {expression!r}. {known}")
        if name in factors:
            raise ValueError(
                f"the loss {expression!r} names {name!r} twice; write one term with the sum of "
                f"the factors, such as '2*{name}'."
            )
        try:
            factors[name] = 1.0 if factor is None else float(factor)
        except ValueError:
            raise ValueError(
                f"the factor {factor!r} of {name!r} in the loss {expression!r} is not a number. "
                f"{known}"
            ) from None
        position = match.end()
    return LossMix(**factors)


def _check_mix(mix: LossMix) -> dict[str, float]:
    def number(name: str) -> float:
        value = getattr(mix, name)
        try:
            # Text that looks like a number is a mistake here, not a number.
            result = float("nan") if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            result = float("nan")
        if not np.isfinite(result) or result < 0:
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}.")
        return result

    for name in ("focal_gamma", "la_tau", "ldam_margin"):
        number(name)
    if number("label_smoothing") >= 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {mix.label_smoothing!r}.")
    factors = {name: number(name) for name in _TERMS}
    if not any(factors.values()):
        raise ValueError(
            "all factors of the loss are zero, so there is nothing to minimise; give at least one "
            f"of {', '.join(_TERMS)} a positive factor, as in LossMix(ce=1, mcc=1)."
        )
    return {name: factor for name, factor in factors.items() if factor}


def check_statistics(statistics: Any, horizon: Any) -> None:
    """Refuse statistics that are unknown, or a horizon that is no positive number of samples."""
    if not isinstance(statistics, str) or statistics not in ("batch", "moving"):
        raise ValueError(f"loss_statistics must be 'batch' or 'moving', got {statistics!r}.")
    is_number = isinstance(horizon, Real) and not isinstance(horizon, bool)
    if not is_number or not 0 < horizon < float("inf"):
        raise ValueError(
            f"loss_horizon must be a positive, finite number of samples, got {horizon!r}."
        )
