"""The losses that have names, and mixes of them."""

import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, SupportsFloat, TypeAlias

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import cross_entropy

from skimbal.exceptions import ParameterError
from skimbal.habits import advice_on_term, advice_on_value
from skimbal.losses.class_counts import (
    inverse_effective_number,
    inverse_frequency,
    log_prior,
    relative_margins,
)
from skimbal.soft_metrics import ClosedForm, Score, by_autograd, f1_closed_form, mcc_closed_form
from skimbal.typing import ArrayLike, is_number

__all__ = [
    "LARGEST_FACTOR",
    "OPTIONS",
    "TERMS",
    "LossMix",
    "Term",
    "factors_of",
    "options_of",
    "plain_ce",
]


#: A function of a mix and the number of rows of each class to an array of shape (n_classes,).
OfClasses: TypeAlias = Callable[["LossMix", ArrayLike], np.ndarray]


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
        :class:`~skimbal.LossMix`, whose options the term may use.
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
    class_weight : callable, default=None
        ``f(mix, class_counts)`` returns the weights of the classes, an array of shape (n_classes,),
        by which the loss of each row is multiplied. A loss with such a term needs
        ``class_counts``. A study shows the losses with this term as a group of their own, and
        compares a loss that adds a term with the plain one.
    is_deferred : bool, default=False
        Whether ``class_weight`` applies to the last part of the training only, which begins at
        ``drw_start`` of the :class:`~skimbal.LossMix`.
    takes_nll : bool, default=False
        Whether ``row_loss`` uses ``nll``. If False, it gets None.

    Raises
    ------
    TypeError
        If not exactly one of ``row_loss``, ``score`` and ``closed_form`` is given, if there is a
        ``class_weight`` without a ``row_loss``, or if no ``class_weight`` is there to be deferred.

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
    of_classes: OfClasses | None = None
    class_weight: OfClasses | None = None
    is_deferred: bool = False
    takes_nll: bool = False

    def __post_init__(self) -> None:
        """Refuse a term that is nothing, or two things."""
        given = [name for name in ("row_loss", "score", "closed_form") if getattr(self, name)]
        if len(given) != 1:
            raise TypeError(
                "a Term must have exactly one of row_loss, score and closed_form; got "
                f"{' and '.join(given) or 'none of them'}. Write Term(score=f), for example."
            )
        if self.class_weight is not None and self.row_loss is None:
            raise TypeError(
                "a Term with class_weight must have a row_loss, whose rows it weighs; got a score "
                "of the batch. Leave class_weight out."
            )
        if self.is_deferred and self.class_weight is None:
            raise TypeError(
                "a Term with is_deferred must have a class_weight; got none. Give it one, or leave "
                "is_deferred out."
            )

    @property
    def formula(self) -> ClosedForm | None:
        """The score with its derivatives, None for a mean over rows."""
        return by_autograd(self.score) if self.score is not None else self.closed_form

    @property
    def needs_counts(self) -> bool:
        """Whether the term depends on the number of rows of each class."""
        return self.of_classes is not None or self.class_weight is not None


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
    cb : float, default=0.0
        Factor of the class-balanced cross-entropy, weighted by the inverse effective number of rows
        (see :func:`~skimbal.losses.inverse_effective_number`).
    cb_focal : float, default=0.0
        Factor of the class-balanced focal loss, with the weights of ``cb``.
    drw : float, default=0.0
        Factor of the cross-entropy with deferred re-weighting: plain until ``drw_start``, and with
        the weights of ``cb`` from there on.
    ldam_drw : float, default=0.0
        Factor of ``ldam`` with deferred re-weighting.
    focal_gamma : float, default=2.0
        Focusing exponent of the focal loss, dimensionless, at least 0. 0 gives cross-entropy.
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over the classes, in [0, 1). It applies to
        ``ce``, ``wce``, ``cb`` and ``drw``. All other terms compare with hard labels.
    la_tau : float, default=1.0
        Strength of the adjustment of ``la``, dimensionless, at least 0. 0 gives cross-entropy.
    ldam_margin : float, default=0.5
        Margin of ``ldam`` and ``ldam_drw`` for the rarest class, the largest one, in units of the
        logits (dimensionless), at least 0. 0 gives cross-entropy.
    cb_beta : float, default=0.9999
        The :math:`\beta` of the effective number of rows, for ``cb``, ``cb_focal``, ``drw`` and
        ``ldam_drw``, dimensionless, in [0, 1). 0 weighs all classes alike. Towards 1, the weights
        become the weights of ``wce``.
    drw_start : float, default=0.8
        Epochs before ``drw`` and ``ldam_drw`` weigh classes. A number below 1 is a share of
        ``max_epochs``: 0.8 are the 160 of 200 epochs of the paper. Epochs of earlier calls of
        ``partial_fit``, or of ``fit`` with ``warm_start``, count. The loss of validation rows has
        the weights in every epoch, so that its values can be compared.
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

    ``cb`` and ``cb_focal`` multiply the loss of a row by
    :math:`w_y = a (1-\beta) / (1-\beta^{n_y})` (Cui et al., 2019), where :math:`a` makes the mean
    over the training rows 1. ``drw`` and ``ldam_drw`` are plain ``ce`` and ``ldam`` at first, and
    have these weights in the last part of the training (Cao et al., 2019).

    In the paper of ``ldam`` the last layer has normalised features and weights, and its cosines
    less the margin are multiplied by :math:`s = 30`. Here the logits are not scaled.
    A network whose logits are :math:`s` times a cosine has the loss of the paper where
    ``ldam_margin`` is :math:`s` times the margin of the paper.

    A class without training rows counts as the rarest one that has some.

    References
    ----------
    Cao, K., Wei, C., Gaidon, A., Arechiga, N. and Ma, T. (2019). Learning imbalanced datasets with
    label-distribution-aware margin loss. NeurIPS.

    Cui, Y., Jia, M., Lin, T.-Y., Song, Y. and Belongie, S. (2019). Class-balanced loss based on
    effective number of samples. CVPR.

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
        cb: float = 0.0,
        cb_focal: float = 0.0,
        drw: float = 0.0,
        ldam_drw: float = 0.0,
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
        la_tau: float = 1.0,
        ldam_margin: float = 0.5,
        cb_beta: float = 0.9999,
        drw_start: float = 0.8,
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
        self.cb = cb
        self.cb_focal = cb_focal
        self.drw = drw
        self.ldam_drw = ldam_drw
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
        self.la_tau = la_tau
        self.ldam_margin = ldam_margin
        self.cb_beta = cb_beta
        self.drw_start = drw_start
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


# The terms ---------------------------------------------------------------------------------------


def plain_ce(
    logits: Tensor, target: Tensor, nll: Tensor, of_classes: Tensor, mix: LossMix
) -> Tensor:
    """Compute the cross-entropy with smooth labels."""
    if not mix.label_smoothing:
        return nll
    # The mean over the classes of -log p. All classes have the same logarithm of a sum.
    uniform = nll + logits.gather(1, target[:, None])[:, 0] - logits.mean(1)
    return torch.lerp(nll, uniform, mix.label_smoothing)


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
    return mix.ldam_margin * relative_margins(class_counts)


def _effective_number_vector(mix: LossMix, class_counts: ArrayLike) -> np.ndarray:
    return inverse_effective_number(class_counts, mix.cb_beta)


#: The terms by name. A row that is added here is a term of expressions and of :class:`LossMix`.
TERMS: dict[str, Term] = {
    "ce": Term(row_loss=plain_ce, takes_nll=True),
    "wce": Term(row_loss=plain_ce, takes_nll=True, class_weight=_inverse_frequency_vector),
    "focal": Term(row_loss=_focal, takes_nll=True),
    "f1": Term(closed_form=f1_closed_form),
    "mcc": Term(closed_form=mcc_closed_form),
    "la": Term(row_loss=_la, of_classes=_log_prior_vector),
    "balanced_softmax": Term(row_loss=_balanced_softmax, of_classes=_log_prior_vector),
    "ldam": Term(row_loss=_ldam, of_classes=_margin_vector),
    "cb": Term(row_loss=plain_ce, takes_nll=True, class_weight=_effective_number_vector),
    "cb_focal": Term(row_loss=_focal, takes_nll=True, class_weight=_effective_number_vector),
    "drw": Term(
        row_loss=plain_ce,
        takes_nll=True,
        class_weight=_effective_number_vector,
        is_deferred=True,
    ),
    "ldam_drw": Term(
        row_loss=_ldam,
        of_classes=_margin_vector,
        class_weight=_effective_number_vector,
        is_deferred=True,
    ),
}


# Expressions and checks --------------------------------------------------------------------------


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
            rest = expression[position:]
            advice = advice_on_value("loss", rest)  # such as cross-entropy
            raise ParameterError(
                "loss",
                f"an expression of terms from {rest!r} on",
                expression,
                f"{advice}{' ' if advice else ''}{_known_terms()}",
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
    meant = advice_on_term(name, TERMS, OPTIONS)
    return f"There is no term {name!r}. {meant}{_known_terms()} {_ADD_EVERYWHERE}"


#: Largest factor of a term, strength or margin. The square of a gradient must fit into float32.
LARGEST_FACTOR = 1e18
#: The least that the largest factor of a mix may be, beside the constant 1e-8 of Adam.
_LEAST_FACTOR = 1e-9
#: Parameters of terms of LossMix, numbers of at least 0, and all parameters that are not factors.
_OF_TERMS = ("focal_gamma", "label_smoothing", "la_tau", "ldam_margin", "cb_beta", "drw_start")
#: Those of them that must be below 1.
_SHARES = ("label_smoothing", "cb_beta")
OPTIONS = (*_OF_TERMS, "statistics", "horizon", "warmup_epochs")


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
            or name in (*OPTIONS, "self")
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


def factors_of(mix: LossMix) -> dict[str, float]:
    """Check the factors of a mix. Return the factors above 0, in the order of the table."""
    _check_terms()
    given = {k: v for k, v in mix.get_params(deep=False).items() if k not in OPTIONS}
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


def options_of(mix: LossMix) -> dict[str, Any]:
    """Check the other parameters of a mix."""
    options: dict[str, Any] = {name: _number(name, getattr(mix, name)) for name in _OF_TERMS}
    for name in _SHARES:
        if options[name] >= 1:
            raise ParameterError(name, "a number in [0, 1)", getattr(mix, name))
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
