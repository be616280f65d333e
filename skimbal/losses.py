"""Losses for imbalanced classes, from cross-entropy to soft F1 and soft MCC.

Each name of a loss is a row of the table :data:`TERMS`. The soft metrics are functions of one
statistic, three vectors with one entry per class (:func:`soft_confusion`): the true positive mass
``TP``, the predicted mass ``q`` and the true mass ``t``. A score is a short function of them, and
a loss is one minus the score. The vectors of micro-batches and of devices add up to the vectors of
the whole batch.
"""

import copy
import inspect
import keyword
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, SupportsFloat, TypeAlias

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from skimbal.exceptions import CollapseWarning, ParameterError
from skimbal.habits import advice_on_term
from skimbal.soft_metrics import (
    ClosedForm,
    Score,
    SetOptions,
    SetTerms,
    SumOverParts,
    accumulation_dtype,
    by_autograd,
    check_batch,
    f1_closed_form,
    f1_score_macro,
    mcc_closed_form,
    mcc_score,
    set_terms,
    soft_confusion,
)
from skimbal.typing import ArrayLike, is_number

__all__ = [
    "LARGEST_FACTOR",
    "TERMS",
    "BatchLoss",
    "CollapseWarning",
    "FocalLoss",
    "LossMix",
    "LossSpec",
    "MixedLoss",
    "ModuleLoss",
    "SoftF1Loss",
    "SoftMCCLoss",
    "SumOverParts",
    "Term",
    "f1_score_macro",
    "get_loss",
    "inverse_frequency",
    "log_prior",
    "mcc_score",
    "soft_confusion",
]


class RowLoss(Protocol):
    """A loss of each row, see :class:`Term`."""

    def __call__(
        self,
        logits: Tensor,
        target: Tensor,
        nll: Tensor,
        of_classes: Tensor,
        mix: "LossMix",
        /,
    ) -> Tensor:
        """Return a tensor of shape (n_samples,)."""


@dataclass(frozen=True)
class Term:
    """A loss that has a name: a row of :data:`~skimbal.losses.TERMS`.

    A term is the mean over the rows of a ``row_loss``, or one minus a ``score`` of the whole batch.

    Parameters
    ----------
    row_loss : callable, default=None
        ``f(logits, target, nll, of_classes, mix)`` returns the loss of each row, a tensor of shape
        (n_samples,). The logits are in float32 or better. ``nll`` is -log p of the target of each
        row, ``of_classes`` the vector of the parameter of this name, and ``mix`` the
        :class:`LossMix`, whose options the term may use.
    score : callable, default=None
        ``f(tp, predicted, true)`` returns a score of the batch, a tensor of shape (). The arguments
        are the vectors of :func:`soft_confusion` divided by the total mass, of shape (n_classes,),
        dimensionless. Autograd differentiates the score by these vectors only, so it costs the same
        for any number of rows. A class that the batch lacks has zeros in the vectors. Guard a
        division by them.
    closed_form : callable, default=None
        A score with its derivatives, which saves autograd. ``f(tp, predicted, true, eps)`` returns
        the score and a function, which returns the derivatives by ``tp`` and by ``predicted``. The
        arguments are numpy arrays on the CPU and tensors elsewhere. ``eps`` is the resolution of
        the probabilities.
    of_classes : callable, default=None
        ``f(mix, class_counts)`` returns an array of shape (n_classes,) for ``row_loss``. A loss
        with such a term needs ``class_counts``.
    takes_nll : bool, default=False
        Whether ``row_loss`` uses ``nll``. If False, it gets None.
    weighs_classes : bool, default=False
        Whether rows count by the weight of their class. A study then shows the losses with this
        term as a group of their own, and compares a loss that adds a term with the plain one.

    Raises
    ------
    TypeError
        If not exactly one of ``row_loss``, ``score`` and ``closed_form`` is given.

    Examples
    --------
    Soft macro recall:

    >>> from skimbal.losses import TERMS, Term, get_loss
    >>> def recall(tp, predicted, true):
    ...     return (tp / (true + (true == 0))).mean()
    >>> TERMS["recall"] = Term(score=recall)
    >>> get_loss("ce + 0.5*recall")
    MixedLoss(ce + 0.5*recall)
    >>> del TERMS["recall"]
    """

    row_loss: RowLoss | None = None
    score: Score | None = None
    closed_form: ClosedForm | None = None
    of_classes: Callable[["LossMix", ArrayLike], np.ndarray] | None = None
    takes_nll: bool = False
    weighs_classes: bool = False

    def __post_init__(self) -> None:
        """Refuse a term that is nothing, or two things."""
        given = [name for name in ("row_loss", "score", "closed_form") if getattr(self, name)]
        if len(given) != 1:
            raise TypeError(
                "a Term must have exactly one of row_loss, score and closed_form; got "
                f"{' and '.join(given) or 'none of them'}. Write Term(score=f), for example."
            )

    @property
    def formula(self) -> ClosedForm | None:
        """The score with its derivatives, None for a mean over rows."""
        return by_autograd(self.score) if self.score is not None else self.closed_form


class LossMix(BaseEstimator):  # type: ignore[misc]
    r"""A weighted sum of losses whose factors are parameters.

    An expression such as ``"ce + 0.5*mcc"`` with ``get_params``, so that a search can set each
    factor: ``{"loss__mcc": [0, 0.25, 0.5, 1]}``. The sum is plain, as in Scholz et al. (2024).
    The values are checked when the mix is used, as scikit-learn does.

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
        Focusing exponent of the focal loss, dimensionless, at least 0. 0 gives cross-entropy.
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over the classes, in [0, 1). It applies to
        ``ce`` and ``wce``. All other terms compare with hard labels.
    la_tau : float, default=1.0
        Strength of the adjustment of ``la``, dimensionless, at least 0. 0 gives cross-entropy.
    ldam_margin : float, default=0.5
        Margin of ``ldam`` for the rarest class, the largest one, in units of the logits
        (dimensionless), at least 0. 0 gives cross-entropy.
    statistics : {"batch", "moving"}, default="batch"
        Rows that ``f1`` and ``mcc`` are computed from: the rows of the batch, as in the paper, or
        the rows of the batches so far by exponential moving sums, for batches that are too small to
        hold every class (see :class:`~skimbal.losses.MixedLoss`).
    horizon : float, default=512
        Memory of the moving sums, in samples. A batch that was followed by so many rows counts 1/e
        of the present batch. ``"batch"`` does not use it.
    warmup_epochs : float, default=0.5
        Epochs over which a loss that may collapse, such as ``f1`` and ``mcc`` alone, takes over
        from a cross-entropy step by step. A number below 1 is a share of ``max_epochs``. 0 gives
        the loss of the paper, which tends to collapse to one class. Losses with a term that is a
        mean over rows have no warm-up.
    **factors : float
        Factors of terms that were added to :data:`skimbal.losses.TERMS`.

    Raises
    ------
    TypeError
        If a keyword is neither a parameter nor a term.

    Notes
    -----
    With logits :math:`z`, the target :math:`y`, :math:`n_k` training rows of class :math:`k` and
    their shares :math:`\pi_k`, three terms are cross-entropies of other logits:

    - ``la`` of :math:`z_k + \tau \log \pi_k` (Menon et al., 2021).
    - ``balanced_softmax`` of :math:`z_k + \log n_k` (Ren et al., 2020), which is ``la`` with
      :math:`\tau = 1`, as a constant does not change a softmax.
    - ``ldam`` of :math:`z_k - \Delta_k [k = y]` with :math:`\Delta_k = C / n_k^{1/4}` (Cao et
      al., 2019) and :math:`C` such that the largest margin is ``ldam_margin``.

    In the paper of ``ldam`` the last layer has normalised features and weights, and its cosines
    less the margin are multiplied by :math:`s = 30`. Here the logits are not scaled.
    A network whose logits are :math:`s` times a cosine has the loss of the paper where
    ``ldam_margin`` is :math:`s` times the margin of the paper. The re-weighting that the paper
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
        statistics: str = "batch",
        horizon: float = 512,
        warmup_epochs: float = 0.5,
        **factors: float,
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
        self.statistics = statistics
        self.horizon = horizon
        self.warmup_epochs = warmup_epochs
        if factors:
            _check_terms()
        for name, factor in factors.items():
            if name not in TERMS:
                raise TypeError(f"LossMix has no parameter {name!r}. {_unknown_term(name)}")
            setattr(self, name, factor)

    @classmethod
    def from_expression(cls, expression: str, **options: float | str) -> Self:
        """Make a mix from an expression.

        Parameters
        ----------
        expression : str
            A term, or a sum of terms with optional factors, such as ``"ce + 0.5*mcc"``.
        **options : dict
            Parameters other than factors, such as ``statistics="moving"``.

        Returns
        -------
        mix : LossMix
            The mix.

        Raises
        ------
        ValueError
            If the expression is malformed, or a term is unknown or named twice.

        Examples
        --------
        >>> from skimbal import LossMix
        >>> LossMix.from_expression("ce + 0.5*mcc", statistics="moving")
        LossMix(ce=1.0, mcc=0.5, statistics='moving')
        """
        params: dict[str, Any] = {**_parse(expression), **options}
        return cls(**params)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the factors of all terms that were added to the table, and not only
            the factors that were set.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        params: dict[str, Any] = super().get_params(deep)
        is_set = [name for name in vars(self) if not name.startswith("_")]
        for name in (*is_set, *(TERMS if deep else ())):
            params.setdefault(name, getattr(self, name, 0.0))
        return params

    def set_params(self, **params: float | str) -> Self:
        """Set parameters.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : LossMix
            The same mix.

        Raises
        ------
        ValueError
            If a name is neither a parameter nor a term.
        """
        if unknown := set(params) - set(self.get_params()):
            name = min(unknown)
            raise ValueError(f"Invalid parameter {name!r} of LossMix. {_unknown_term(name)}")
        super().set_params(**params)
        return self


class MixedLoss(nn.Module):
    r"""The module behind every loss name: a weighted sum of terms over one softmax.

    Parameters
    ----------
    mix : LossMix
        Factors and options. Terms with factor 0 cost nothing.
    class_counts : array-like of shape (n_classes,), default=None
        Number (or total weight) of training rows per class, in samples. ``wce``, ``la``,
        ``balanced_softmax`` and ``ldam`` need it.

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
        self.factors = _factors(mix)
        params: dict[str, Any] = {**self.factors, **_options(mix)}
        self.mix = LossMix(**params)
        # The terms go where the module goes. A warm-up needs the cross-entropy.
        self._terms = {name: TERMS[name] for name in ("ce", *self.factors)}
        self._n_classes = self._register_class_vectors(class_counts)
        of_batch = [self._terms[name].row_loss is None for name in self.factors]
        self._is_of_batch, self.may_collapse = any(of_batch), all(of_batch)
        # A small batch costs as much as there are operations. This loss is a single one.
        self._is_plain = self.factors == {"ce": 1.0} and self._terms["ce"].row_loss is _ce
        self.uses_numpy = True
        self.register_buffer("moving", None, persistent=False)

    def _register_class_vectors(self, class_counts: ArrayLike | None) -> int | None:
        """Keep the vectors that terms make of class counts. Return the number of classes."""
        needing = [name for name in self.factors if self._terms[name].of_classes is not None]
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
        counts = _check_counts(class_counts)
        for name in needing:
            make_vector = self._terms[name].of_classes
            assert make_vector is not None
            vector = torch.from_numpy(make_vector(self.mix, class_counts))
            self.register_buffer(f"of_classes_{name}", vector, persistent=False)
        return len(counts)

    @property
    def class_vectors(self) -> dict[str, Tensor]:
        """Vectors made from class counts by the name of their term, of shape (n_classes,)."""
        prefix = "of_classes_"
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
        return _takes_weights(self)

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
        options = {name: getattr(self.mix, name) for name in _OPTIONS}
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
        n_rows, divisor = _count_rows(logits, weight, normalizer, sum_over_parts)
        if self._is_plain and sum_over_parts is None and weight is None and divisor == len(target):
            wide = logits.to(accumulation_dtype(logits))
            return cross_entropy(wide, target, label_smoothing=self.mix.label_smoothing)
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
            wide = logits.to(accumulation_dtype(logits))
            nll = cross_entropy(wide, target, reduction="none")  # (n,)
        if sum_over_parts is not None:
            # Each part has its share of the sum over the rows, and a mean must be the whole.
            divisor = divisor / sum_over_parts.n_parts
        for name in of_rows:
            row_loss = self._row_loss(name, logits, target, nll)
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
        # Once for each term, so that half precision rounds the gradient of each term by itself.
        wide = logits.to(accumulation_dtype(logits))
        loss: object = term.row_loss(wide, target, given, vector, self.mix)
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
        return (len(logits) if sum_over_parts is None else normalizer), normalizer
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


# The terms ---------------------------------------------------------------------------------------


def _ce(logits: Tensor, target: Tensor, nll: Tensor, of_classes: Tensor, mix: LossMix) -> Tensor:
    """Compute the cross-entropy with smooth labels."""
    if not mix.label_smoothing:
        return nll
    # The mean over the classes of -log p. All classes have the same logarithm of a sum.
    uniform = nll + logits.gather(1, target[:, None])[:, 0] - logits.mean(1)
    return torch.lerp(nll, uniform, mix.label_smoothing)


def _wce(logits: Tensor, target: Tensor, nll: Tensor, of_classes: Tensor, mix: LossMix) -> Tensor:
    """Compute the cross-entropy weighted by class."""
    return _ce(logits, target, nll, of_classes, mix) * of_classes[target].to(nll)


def _focal(logits: Tensor, target: Tensor, nll: Tensor, of_classes: Tensor, mix: LossMix) -> Tensor:
    """Compute the focal loss."""
    # 1 - p_t without cancellation. The clamp keeps the derivative of a fractional power finite at
    # p_t = 1, where the focal loss itself is 0.
    miss = (-torch.expm1(-nll)).clamp_min(torch.finfo(nll.dtype).tiny)
    return miss**mix.focal_gamma * nll


def _la(logits: Tensor, target: Tensor, nll: Tensor, of_classes: Tensor, mix: LossMix) -> Tensor:
    """Compute the cross-entropy of logits plus a multiple of the log prior."""
    shifted = logits + mix.la_tau * of_classes.to(logits)
    return cross_entropy(shifted, target, reduction="none")


def _balanced_softmax(
    logits: Tensor, target: Tensor, nll: Tensor, of_classes: Tensor, mix: LossMix
) -> Tensor:
    """Compute the cross-entropy of logits plus the log prior."""
    # The term has log n_k instead of the logarithm of the share, which differs by a constant.
    return cross_entropy(logits + of_classes.to(logits), target, reduction="none")


def _ldam(logits: Tensor, target: Tensor, nll: Tensor, of_classes: Tensor, mix: LossMix) -> Tensor:
    """Compute the cross-entropy of logits less a margin at the target."""
    at = target[:, None]
    shifted = logits.scatter_add(1, at, -of_classes.to(logits)[at])
    return cross_entropy(shifted, target, reduction="none")


def _inverse_frequency_vector(mix: LossMix, class_counts: ArrayLike) -> np.ndarray:
    return inverse_frequency(class_counts)


def _log_prior_vector(mix: LossMix, class_counts: ArrayLike) -> np.ndarray:
    return log_prior(class_counts)


def _margin_vector(mix: LossMix, class_counts: ArrayLike) -> np.ndarray:
    """Compute the margins of LDAM, the largest one for the rarest class."""
    counts = _fill_empty_classes(_check_counts(class_counts))
    relative: np.ndarray = (counts.min() / counts) ** 0.25
    return mix.ldam_margin * relative


#: The terms by name. A row that is added here is a term of expressions and of :class:`LossMix`.
TERMS: dict[str, Term] = {
    "ce": Term(row_loss=_ce, takes_nll=True),
    "wce": Term(
        row_loss=_wce, takes_nll=True, of_classes=_inverse_frequency_vector, weighs_classes=True
    ),
    "focal": Term(row_loss=_focal, takes_nll=True),
    "f1": Term(closed_form=f1_closed_form),
    "mcc": Term(closed_form=mcc_closed_form),
    "la": Term(row_loss=_la, of_classes=_log_prior_vector),
    "balanced_softmax": Term(row_loss=_balanced_softmax, of_classes=_log_prior_vector),
    "ldam": Term(row_loss=_ldam, of_classes=_margin_vector),
}


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
        return _takes_weights(self.module)

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
        sum_over_parts: SumOverParts | None = None,
    ) -> Tensor:
        """Compute the share of some rows in the loss of a batch.

        Parameters
        ----------
        logits, target, sample_weight
            As for :meth:`MixedLoss.forward`. Weights are passed on if there are any.
        normalizer : float, default=None
            Number of rows of the whole batch. If None, the given rows are the whole batch.
        ce_share : float, default=0.0
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
        sum_over_parts: SumOverParts | None = None,
    ) -> Tensor:
        """Compute the loss of a batch, or the share of some rows."""


#: Values of ``loss=``: a name or an expression, a mix, a module or its class.
LossSpec: TypeAlias = str | LossMix | nn.Module | type[nn.Module]


def get_loss(spec: LossSpec, class_counts: ArrayLike | None = None) -> MixedLoss | ModuleLoss:
    """Make a loss module from a value of the parameter ``loss`` of the classifiers.

    Parameters
    ----------
    spec : str, LossMix, Module or Module class
        A name (``"ce"``, ``"wce"``, ``"focal"``, ``"f1"``, ``"mcc"``, ``"la"``,
        ``"balanced_softmax"``, ``"ldam"``), an expression of terms joined by ``+``, each with an
        optional factor (``"ce + 0.5*mcc"``), a :class:`LossMix`, a module that maps
        (logits, target) to a scalar (it is deep-copied), or its class.
        :data:`~skimbal.losses.TERMS` has all names.
    class_counts : array-like of shape (n_classes,), default=None
        Number (or total weight) of training rows per class, in samples. ``"wce"``, ``"la"``,
        ``"balanced_softmax"`` and ``"ldam"`` need it.

    Returns
    -------
    loss : MixedLoss or ModuleLoss
        A :class:`~skimbal.losses.ModuleLoss` around modules that are not a :class:`MixedLoss`.

    Raises
    ------
    ValueError
        If a term is unknown or named twice, the expression is malformed, a factor is negative, not
        finite or above 1e18, all factors are zero or below 1e-9, an option is out of range, or
        class counts are missing.
    TypeError
        If ``spec`` has another type.

    Examples
    --------
    >>> from skimbal.losses import get_loss
    >>> get_loss("ce + 0.5*mcc")
    MixedLoss(ce + 0.5*mcc)
    """
    if isinstance(spec, str):
        return MixedLoss(LossMix.from_expression(spec), class_counts)
    if isinstance(spec, LossMix):
        return MixedLoss(spec, class_counts)  # type: ignore[arg-type]
    module: object = spec
    if isinstance(spec, type) and issubclass(spec, nn.Module):
        try:
            module = spec()
        except TypeError as error:
            raise TypeError(
                f"loss must be a class that needs no arguments, or an instance; got {spec!r} "
                f"({error})."
            ) from error
    if isinstance(module, nn.Module):
        module = copy.deepcopy(module)
        return module if isinstance(module, MixedLoss | ModuleLoss) else ModuleLoss(module)
    raise TypeError(
        f"loss must be a name or expression of {', '.join(TERMS)} (such as 'ce+mcc'), a LossMix, "
        f"or a torch.nn.Module class or instance; got {spec!r}."
    )


def _takes_weights(module: nn.Module) -> bool:
    return "sample_weight" in inspect.signature(module.forward).parameters


def inverse_frequency(class_counts: ArrayLike) -> np.ndarray:
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


def log_prior(class_counts: ArrayLike) -> np.ndarray:
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
    result: np.ndarray = np.log(_fill_empty_classes(counts)) - np.log(counts.sum())
    return result


def _fill_empty_classes(counts: np.ndarray) -> np.ndarray:
    """Give classes without rows, of which partial_fit may see some, the count of the rarest."""
    return np.where(counts > 0, counts, counts[counts > 0].min())


def _check_counts(class_counts: ArrayLike) -> np.ndarray:
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise ParameterError(
            "class_counts",
            "one non-negative, finite number of rows per class, not all of them zero",
            class_counts,
        )
    return counts


def _parse(expression: str) -> dict[str, float]:
    """Read the factors of an expression."""
    _check_terms()
    # A "+" belongs to a factor only as the sign of its exponent, as in 1e+3.
    factor_pattern = r"(?P<factor>[\d.][^*+\s]*(?:(?<=[eE])\+\d+)?|[^*+\s]+)"
    term = re.compile(rf"\s*(?:{factor_pattern}\s*\*\s*)?(?P<name>[A-Za-z_]\w*)\s*(?:\+|$)")
    factors: dict[str, float] = {}
    position = 0
    # A trailing "+" leaves nothing to match, and is as malformed as an empty expression.
    while position < len(expression) or not factors or expression.rstrip().endswith("+"):
        match = term.match(expression, position)
        if match is None:
            raise ParameterError(
                "loss",
                f"an expression of terms from {expression[position:]!r} on",
                expression,
                _known_terms(),
            )
        name, factor = match["name"], match["factor"]
        if name not in TERMS:
            raise ParameterError("loss", "a sum of known terms", expression, _unknown_term(name))
        if name in factors:
            raise ParameterError(
                "loss",
                f"a sum that names {name!r} once",
                expression,
                f"Write one term with the sum of the factors, such as '2*{name}'.",
            )
        try:
            factors[name] = 1.0 if factor is None else float(factor)
        except ValueError:
            raise ParameterError(
                "loss",
                f"a sum in which the factor {factor!r} of {name!r} is a number",
                expression,
                _known_terms(),
            ) from None
        position = match.end()
    return factors


_ADD_EVERYWHERE = (
    "Add your terms to skimbal.losses.TERMS in every process, in a module that the workers import."
)


def _known_terms() -> str:
    return f"Known terms: {', '.join(TERMS)}. An expression joins them, as in 'ce + 0.5*mcc'."


def _unknown_term(name: str) -> str:
    meant = advice_on_term(name, TERMS, _OPTIONS)
    return f"There is no term {name!r}. {meant}{_known_terms()} {_ADD_EVERYWHERE}"


#: Largest factor of a term, strength or margin. The square of a gradient must fit into float32.
LARGEST_FACTOR = 1e18
#: The least that the largest factor of a mix may be, beside the constant 1e-8 of Adam.
_LEAST_FACTOR = 1e-9
#: Parameters of terms of LossMix, numbers of at least 0, and all parameters that are not factors.
_OF_TERMS = ("focal_gamma", "label_smoothing", "la_tau", "ldam_margin")
_OPTIONS = (*_OF_TERMS, "statistics", "horizon", "warmup_epochs")


def _check_terms() -> None:
    """Refuse a table whose rows a mix cannot take as keywords, or that lacks the cross-entropy."""
    for name, term in TERMS.items():
        if not isinstance(term, Term):
            raise TypeError(
                f"TERMS[{name!r}] must be a skimbal.losses.Term; got {term!r}. Write "
                "Term(score=f), for example."
            )
        is_word = isinstance(name, str) and name.isascii() and name.isidentifier()
        if (
            not is_word
            or keyword.iskeyword(name)
            or name.startswith("_")
            or "__" in name
            or name in (*_OPTIONS, "self")
            or hasattr(LossMix, name)
        ):
            raise ParameterError(
                "TERMS",
                "a dict whose keys can be keywords of LossMix beside its own parameters and "
                "methods, without a double underscore and without an underscore at the start",
                name,
                "Give the term another name, such as 'recall'.",
            )
    if "ce" not in TERMS:
        raise ParameterError(
            "TERMS", "a dict with 'ce', which a warm-up needs", list(TERMS), "Put 'ce' back."
        )


def _factors(mix: LossMix) -> dict[str, float]:
    """Check the factors of a mix. Return the factors above 0, in the order of the table."""
    _check_terms()
    given = {k: v for k, v in mix.get_params(deep=False).items() if k not in _OPTIONS}
    for name in given:
        if name not in TERMS and given[name]:
            raise ParameterError("loss", "a mix of known terms", mix, _unknown_term(name))
    factors = {name: _number(name, given.get(name, 0.0)) for name in TERMS}
    if max(factors.values()) < _LEAST_FACTOR:
        raise ParameterError(
            "loss",
            f"a mix with a factor above 0, at least {_LEAST_FACTOR:g}, as nothing trains otherwise",
            mix,
            f"Give at least one of {', '.join(TERMS)} a factor, as in LossMix(ce=1, mcc=1).",
        )
    return {name: factor for name, factor in factors.items() if factor}


def _options(mix: LossMix) -> dict[str, Any]:
    """Check the other parameters of a mix."""
    options: dict[str, Any] = {name: _number(name, getattr(mix, name)) for name in _OF_TERMS}
    if options["label_smoothing"] >= 1:
        raise ParameterError("label_smoothing", "a number in [0, 1)", mix.label_smoothing)
    statistics = mix.statistics
    if not isinstance(statistics, str) or statistics not in ("batch", "moving"):
        raise ParameterError("statistics", "'batch' or 'moving'", statistics)
    if not is_number(mix.horizon) or mix.horizon <= 0:
        raise ParameterError("horizon", "a positive, finite number of samples", mix.horizon)
    if not is_number(mix.warmup_epochs) or mix.warmup_epochs < 0:
        raise ParameterError(
            "warmup_epochs", "a finite number of epochs, at least 0", mix.warmup_epochs
        )
    return {
        **options,
        "statistics": statistics,
        "horizon": float(mix.horizon),
        "warmup_epochs": float(mix.warmup_epochs),
    }


def _number(name: str, value: object) -> float:
    """Check a number of at least 0. Text that looks like a number is a mistake."""
    try:
        result = float(value) if isinstance(value, SupportsFloat) else float("nan")
    except (TypeError, ValueError):
        result = float("nan")
    if not 0 <= result <= LARGEST_FACTOR:
        expected = f"a finite number of at least 0 and at most {LARGEST_FACTOR:g}"
        raise ParameterError(name, expected, value)
    return result
