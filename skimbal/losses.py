"""Losses for imbalanced classes, from cross-entropy to soft F1 and soft MCC.

The soft metrics rest on one statistic, three vectors with one entry per class
(:func:`soft_confusion`): the true positive mass ``TP``, the predicted mass ``q`` and the true mass
``t``.  A score is a short function of them, a loss is one minus the score, and whatever splits a
batch (micro-batches, devices) has only these vectors to add up.
"""

import copy
import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

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


class CollapseWarning(UserWarning):
    """A pure metric loss was asked for, which is known to collapse to one class.

    Every constant prediction is a plateau of soft MCC, and nearly one of soft F1: there, these
    losses give the network no direction.  Scholz et al. (2024) report the collapse (balanced
    accuracy at chance for MCC with batches of 10) and the mixes with cross-entropy that avoid it.

    Examples
    --------
    >>> import warnings
    >>> from skimbal import CollapseWarning
    >>> warnings.simplefilter("ignore", CollapseWarning)
    """


class SoftConfusion(NamedTuple):
    """The statistic of all soft metrics: three vectors of shape (n_classes,), in samples."""

    tp: Tensor
    predicted: Tensor
    true: Tensor


def soft_confusion(
    logits: Tensor, target: Tensor, sample_weight: Tensor | None = None
) -> SoftConfusion:
    r"""Sum up a batch in three vectors with one entry per class.

    With :math:`p = \mathrm{softmax}(z)`, one-hot targets :math:`y` and weights :math:`w`,

    .. math:: TP_k = \sum_i w_i y_{ik} p_{ik}, \quad q_k = \sum_i w_i p_{ik}, \quad
              t_k = \sum_i w_i y_{ik}.

    The vectors of the parts of a batch add up to the vectors of the batch.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Unnormalised log-probabilities, dimensionless, in any floating dtype.
    target : Tensor of shape (n_samples,)
        Class numbers from 0 to ``n_classes - 1``, int64.
    sample_weight : Tensor of shape (n_samples,), default=None
        Weights, dimensionless and not negative; ``None`` gives each row the weight 1.

    Returns
    -------
    tp, predicted, true : Tensor of shape (n_classes,)
        Weighted counts, in samples, in float32 or better. ``true`` has no gradient for ``logits``.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or ``target`` is not int64.

    Examples
    --------
    >>> import torch
    >>> from skimbal.losses import soft_confusion
    >>> logits = torch.tensor([[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0]])
    >>> tp, predicted, true = soft_confusion(logits, torch.tensor([0, 1, 1]))
    >>> [v.round().tolist() for v in (tp, predicted, true)]
    [[1.0, 1.0], [2.0, 1.0], [1.0, 2.0]]
    """
    weight = _check_batch(logits, target, sample_weight)
    _, p_target, predicted = _probabilities(logits, target, weight)
    return _confusion(p_target, predicted, target, weight)


def mcc_score(tp: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    r"""Soft multi-class Matthews correlation coefficient (Gorodkin's :math:`R_K`).

    With shares :math:`\bar p = q / s`, :math:`\bar y = t / s`, :math:`s = \sum_k t_k`,

    .. math:: \mathrm{MCC} = \frac{\sum_k TP_k / s - \sum_k \bar p_k \bar y_k}
              {\sqrt{\sum_k \bar p_k (1 - \bar p_k)\, \sum_k \bar y_k (1 - \bar y_k)}}.

    Parameters
    ----------
    tp, predicted, true : Tensor of shape (n_classes,)
        As :func:`soft_confusion` returns them, in samples.

    Returns
    -------
    score : Tensor of shape ()
        Dimensionless, in [-1, 1]. Where prediction or truth is of one class only, the coefficient
        is not defined; as in :func:`sklearn.metrics.matthews_corrcoef` it is then 0, and so is
        its gradient.

    References
    ----------
    Gorodkin, J. (2004). Comparing two K-category assignments by a K-category correlation
    coefficient. Computational Biology and Chemistry 28, 367-374.

    Examples
    --------
    >>> import torch
    >>> from skimbal.losses import mcc_score
    >>> perfect = torch.tensor([90.0, 10.0])
    >>> round(mcc_score(perfect, perfect, perfect).item(), 4)
    1.0
    """
    shares, _ = _shares(tp, predicted, true.to(_wide(true)))
    score: Tensor = _mcc(*shares, torch.finfo(shares[0].dtype).eps)[0]
    return score


def f1_score_macro(tp: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    r"""Soft macro F1 score, :math:`\frac{1}{K} \sum_k 2\,TP_k / (q_k + t_k)`.

    Parameters
    ----------
    tp, predicted, true : Tensor of shape (n_classes,)
        As :func:`soft_confusion` returns them, in samples.

    Returns
    -------
    score : Tensor of shape ()
        Dimensionless, in [0, 1]. The mean is over all ``n_classes``: a class that the batch lacks
        scores 0, as in :func:`sklearn.metrics.f1_score` with ``labels=range(n_classes)`` and
        ``zero_division=0``, and has no gradient.

    Examples
    --------
    >>> import torch
    >>> from skimbal.losses import f1_score_macro
    >>> perfect = torch.tensor([90.0, 10.0])
    >>> f1_score_macro(perfect, perfect, perfect).item()
    1.0
    """
    shares, _ = _shares(tp, predicted, true.to(_wide(true)))
    score: Tensor = _f1(*shares, torch.finfo(shares[0].dtype).eps)[0]
    return score


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
        weight = _check_batch(logits, target, sample_weight, process_group)
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
                ones = logits.new_ones(len(target), dtype=_wide(logits))
                counts = torch.stack((ones.sum(), (ones if weight is None else weight).sum()))
                counts = _sum_over_processes(counts, process_group)
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
            wide = logits.to(_wide(logits))
            return cross_entropy(wide, target, label_smoothing=self.label_smoothing)
        of_rows = [name for name in _ROW_TERMS if factors.get(name)]
        with_nll = not _NLL_TERMS.isdisjoint(of_rows)
        loss: Any = None
        nll: Tensor | None = None
        if self.needs_every_class:
            of_set = (factors.get("f1", 0.0), factors.get("mcc", 0.0))
            # Its gradient in closed form is one for the logits.
            in_closed_form = weight is None or not weight.requires_grad
            set_terms: Any = _SetTerms.apply if in_closed_form else _set_terms
            past, by = None, None
            if self.statistics == "moving" and self.training:
                past, by = self._past(logits, n_rows), divisor
            given = (logits, target, weight, of_set, with_nll, past, by, process_group)
            loss, nll, sums = set_terms(*given)
            if past is not None:
                self.moving = past + sums.detach()
        elif with_nll:
            nll = cross_entropy(logits.to(_wide(logits)), target, reduction="none")  # (n,)
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
            z = logits.to(_wide(logits))
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


def _check_batch(
    logits: Tensor, target: Tensor, sample_weight: Tensor | None, process_group: Any = None
) -> Tensor | None:
    """Check what can be checked without waiting for a device; return the weights, wide."""
    is_empty = len(logits) == 0 and process_group is None  # other processes may have rows
    if logits.ndim != 2 or not logits.is_floating_point() or is_empty:
        raise ValueError(
            "logits must be floating point and of shape (n_samples, n_classes) with at least one "
            f"sample; got shape {tuple(logits.shape)} and {logits.dtype}."
        )
    if target.shape != logits.shape[:1] or target.dtype != torch.int64:
        raise ValueError(
            f"target must hold {len(logits)} class numbers of dtype torch.int64, one for each row "
            f"of the logits; got shape {tuple(target.shape)} and {target.dtype}."
        )
    if sample_weight is None:
        return None
    if sample_weight.shape != target.shape:
        raise ValueError(
            f"sample_weight must hold {len(logits)} weights, one for each row of the logits; got "
            f"shape {tuple(sample_weight.shape)}."
        )
    return sample_weight.to(_wide(logits))


def _is_on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _wide(tensor: Tensor) -> torch.dtype:
    """Give the dtype to sum up in: float32, or float64 where the input has it."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _probabilities(
    logits: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute p, of shape (n, K), that of the targets, (n,), and the predicted mass, (K,)."""
    p = logits.softmax(1, dtype=_wide(logits))
    predicted = p.sum(0) if weight is None else (p * weight[:, None]).sum(0)
    return p, p.gather(1, target[:, None])[:, 0], predicted


def _confusion(
    p_target: Tensor, predicted: Tensor, target: Tensor, weight: Tensor | None
) -> SoftConfusion:
    weight = torch.ones_like(p_target) if weight is None else weight
    rows = torch.stack((p_target * weight, weight))
    # These two sums run row by row. In float32 their rounding would grow with the batch, until a
    # constant prediction no longer scored 0. MPS has no float64.
    wide = rows.dtype if rows.device.type == "mps" else torch.float64
    sums = rows.new_zeros((2, len(predicted)), dtype=wide).index_add(1, target, rows.to(wide))
    tp, true = sums.to(rows.dtype)
    return SoftConfusion(tp, predicted, true if weight.requires_grad else true.detach())


def _nll(logits: Tensor, target: Tensor, p: Tensor) -> Tensor:
    """Compute -log p of the target from probabilities that may have underflowed."""
    # By way of the largest one, whose logarithm is never that of 0.
    top, at = logits.max(1, keepdim=True)
    gap = top.to(p.dtype) - logits.gather(1, target[:, None]).to(p.dtype)
    return (gap - p.gather(1, at).log())[:, 0]


# What follows from the three vectors is written for torch and numpy alike: on the few numbers of a
# CPU batch numpy is several times faster.


def _shares(tp: Any, predicted: Any, true: Any) -> tuple[tuple[Any, Any, Any], Any]:
    """Divide by the total, which keeps every later step in range whatever the batch size."""
    total = true.sum()
    total = total + (total == 0)
    return (tp / total, predicted / total, true / total), total


#: A score, and what computes its derivatives by the shares of TP and of the predicted mass, up to
#: a number that is the same for all classes: it has no effect on a softmax.
_Score = tuple[Any, Callable[[], tuple[Any, Any]]]


def _f1(tp: Any, predicted: Any, true: Any, eps: float) -> _Score:
    mass = predicted + true
    mass = mass + (mass == 0)

    def derivatives() -> tuple[Any, Any]:
        by_tp = 2 / (len(tp) * mass)
        return by_tp, -by_tp * tp / mass

    return (2 * tp / mass).mean(), derivatives


def _mcc(tp: Any, predicted: Any, true: Any, eps: float) -> _Score:
    covariance = (tp - predicted * true).sum()
    true_variance = _variance(true)
    variance = _variance(predicted) * true_variance
    # The covariance is known to about one unit in the last place; below some hundred of them a
    # quotient would be noise, so the damping begins there. In float32 it takes about 1e-4 of a
    # perfect score where a class has one row in 1000, in float64 nothing.
    root = (variance + (256 * eps) ** 2) ** -0.5 * (variance > 0)

    def derivatives() -> tuple[Any, Any]:
        # That of the variance is 2 (1 - p_k). Less the one of the largest share, it is 0 there, so
        # that near a single class the small numbers are not lost among large ones.
        largest = predicted[predicted.argmax().reshape(1)]
        by_variance = covariance * root**3 * true_variance
        return 0 * tp + root, -(true * root + by_variance * (largest - predicted))

    return covariance * root, derivatives


def _variance(share: Any) -> Any:
    """Compute sum_k p_k (1 - p_k) without cancellation near a single class."""
    # One minus the largest share would cancel: there, the sum of the others takes its place.
    keep = 0 * share + 1
    keep[share.argmax().reshape(1)] = 0
    others = keep * share
    rest = others.sum()
    return rest * (2 - rest) - (others * others).sum()


def _weighted_scores(
    factors: tuple[float, float], shares: tuple[Any, Any, Any], dtype: torch.dtype
) -> list[tuple[float, Any, Callable[[], tuple[Any, Any]]]]:
    """Compute the scores that have a factor, each with its factor and its derivatives."""
    eps = torch.finfo(dtype).eps
    pairs = zip(factors, (_f1, _mcc), strict=True)
    return [(factor, *score_of(*shares, eps)) for factor, score_of in pairs if factor]


def _set_terms(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    factors: tuple[float, float],
    with_nll: bool,
    past: Tensor | None,
    divisor: Tensor | float | None,
    process_group: Any,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Compute the terms of F1 and MCC, -log p of the target if it is asked for, and the vectors.

    With sums of ``past`` batches the scores are those of all, and their gradient is divided by
    ``divisor`` instead of the mass of all.
    """
    p, p_target, predicted = _probabilities(logits, target, weight)
    vectors = torch.stack(_confusion(p_target, predicted, target, weight))
    if process_group is not None:
        vectors = _sum_over_processes(vectors, process_group)
    shares, total = _shares(*(vectors if past is None else past + vectors))
    scores = _weighted_scores(factors, shares, p.dtype)
    loss = sum((factor * (1 - score) for factor, score, _ in scores), start=p.new_zeros(()))
    if divisor is not None:
        loss = loss.detach() + (loss - loss.detach()) * (total.detach() / divisor)
    return loss.to(p.dtype), _nll(logits, target, p) if with_nll else None, vectors


class _SumOverProcesses(torch.autograd.Function):
    """The sum of what each process has; the gradient is that of the sum of all their losses."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, process_group: Any) -> Tensor:
        ctx.process_group = process_group
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=process_group)
        return total

    @staticmethod
    def backward(ctx: Any, of_total: Tensor) -> Any:
        return _sum_over_processes(of_total, ctx.process_group), None


def _sum_over_processes(part: Tensor, process_group: Any) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(part, process_group)  # type: ignore[no-untyped-call]
    return total


class _SetTerms(torch.autograd.Function):
    """The same, with a gradient in closed form that keeps the probabilities and no more."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        factors: tuple[float, float],
        with_nll: bool,
        past: Tensor | None,
        divisor: Tensor | float | None,
        process_group: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        p, p_target, predicted = _probabilities(logits, target, weight)
        vectors: Any
        if on_cpu := _is_on_cpu(p):
            labels, hits, rows = target.numpy(), p_target, None
            if weight is not None:
                hits, rows = p_target * weight, weight.numpy()
            tp, true = (np.bincount(labels, r, len(predicted)) for r in (hits.numpy(), rows))
            vectors = tp, predicted.double().numpy(), true.astype(np.float64)
        else:
            vectors = _confusion(p_target, predicted, target, weight)
        sums = None
        if past is not None or process_group is not None:
            sums = torch.from_numpy(np.stack(vectors)) if on_cpu else torch.stack(vectors)
            if process_group is not None:
                dist.all_reduce(sums, group=process_group)
            vectors = sums if past is None else past + sums
            vectors = vectors.numpy() if on_cpu else vectors
            ctx.mark_non_differentiable(sums)
        shares, total = _shares(*vectors)
        if divisor is not None:
            total = divisor.numpy() if on_cpu and isinstance(divisor, Tensor) else divisor
        if process_group is not None:  # all processes have this loss, and a mean makes one of it
            total = total / process_group.size()
        by_tp: Any = 0 * vectors[0]
        by_predicted, loss = by_tp, by_tp.sum()
        for factor, score, derivatives in _weighted_scores(factors, shares, p.dtype):
            loss = loss + factor * (1 - score)
            of_tp, of_predicted = derivatives()
            scale = -factor / total
            by_tp, by_predicted = by_tp + scale * of_tp, by_predicted + scale * of_predicted
        if on_cpu:  # in one piece, as each way from numpy to torch has its price
            packed = np.concatenate(([loss], by_tp, by_predicted)).astype(p.numpy().dtype)
            values = torch.from_numpy(packed)
            loss, by_tp, by_predicted = values[0], values[1 : 1 + len(tp)], values[1 + len(tp) :]
        by_tp, by_predicted = by_tp.to(p.dtype), by_predicted.to(p.dtype)
        ctx.save_for_backward(logits, target, weight, p, p_target, by_tp, by_predicted)
        ctx.arguments = factors, with_nll, past, divisor, process_group
        return loss.to(p.dtype), _nll(logits, target, p) if with_nll else None, sums

    @staticmethod
    def backward(ctx: Any, of_loss: Tensor, of_nll: Tensor | None, _: Any) -> Any:
        logits, target, weight, p, p_target, by_tp, by_predicted = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants a second derivative
            loss, nll, _ = _set_terms(logits, target, weight, *ctx.arguments)
            # Not the gradient of a product: of_nll is itself a function of the logits.
            outputs, by = ([loss], [of_loss]) if nll is None else ([loss, nll], [of_loss, of_nll])
            (gradient,) = torch.autograd.grad(outputs, logits, by, create_graph=True)
            return gradient, *[None] * 7
        # dL/dp_ik = w_i (A_k [y_i = k] + B_k), and the softmax subtracts from each row its mean
        # under p.
        by_predicted = by_predicted * of_loss
        pull = p_target * (by_tp * of_loss)[target]
        device = p.device.type
        is_low = torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if is_low else nullcontext():
            shift = -pull - p @ by_predicted
        if weight is not None:
            pull, shift = pull * weight, shift * weight
        if of_nll is not None:  # dL/dz_ik = (p_ik - [y_i = k]) times its own
            pull, shift = pull - of_nll, shift + of_nll
        if weight is None:
            gradient = shift[:, None] + by_predicted
        else:
            gradient = (weight[:, None] * by_predicted).add_(shift[:, None])
        gradient.mul_(p).scatter_add_(1, target[:, None], pull[:, None])
        return gradient.to(logits.dtype), *[None] * 7
