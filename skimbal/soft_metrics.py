"""The statistic of the soft metrics, three vectors with one entry per class, and their scores.

A score is a function of a few lines. :class:`SetTerms` makes losses of scores, with a gradient in
closed form.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ClosedForm",
    "Score",
    "SetOptions",
    "SetTerms",
    "SoftConfusion",
    "SumOverParts",
    "accumulation_dtype",
    "by_autograd",
    "check_batch",
    "f1_closed_form",
    "f1_score_macro",
    "mcc_closed_form",
    "mcc_score",
    "set_terms",
    "soft_confusion",
]

#: A vector or number of the statistic: of numpy on the CPU, of torch elsewhere.
V = TypeVar("V", Tensor, np.ndarray)


class Score(Protocol):
    """A score of the three vectors, divided by the total mass, written for torch."""

    def __call__(self, tp: Tensor, predicted: Tensor, true: Tensor, /) -> Tensor:
        """Return the score, of shape ()."""


class ClosedForm(Protocol):
    """A score with its derivatives.

    The arguments are the three vectors, divided by the total mass, and the resolution of the
    probabilities. The result is the score, and a function that computes its derivatives by the
    shares of TP and of the predicted mass. These may lack a number that is the same for all
    classes, which has no effect on a softmax.
    """

    def __call__(
        self, tp: V, predicted: V, true: V, eps: float, /
    ) -> tuple[V, Callable[[], tuple[V, V]]]:
        """Return the score and its derivatives."""


class SumOverParts(Protocol):
    """The sum of a tensor over all parts of a batch, such as the rows of several processes."""

    @property
    def n_parts(self) -> int:
        """Number of parts, of which some may be empty."""

    def __call__(self, part: Tensor, /) -> Tensor:
        """Return the sum, with a gradient for the sum of the losses of all parts."""


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
        Weights, dimensionless and not negative. ``None`` gives each row the weight 1.

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
    weight = check_batch(logits, target, sample_weight)
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
        is not defined. As in :func:`sklearn.metrics.matthews_corrcoef` it is then 0, and so is
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
    shares, _ = _shares(tp, predicted, true.to(accumulation_dtype(true)))
    return mcc_closed_form(*shares, torch.finfo(shares[0].dtype).eps)[0]


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
    shares, _ = _shares(tp, predicted, true.to(accumulation_dtype(true)))
    return f1_closed_form(*shares, torch.finfo(shares[0].dtype).eps)[0]


def check_batch(
    logits: Tensor, target: Tensor, sample_weight: Tensor | None, *, may_be_empty: bool = False
) -> Tensor | None:
    """Check shapes and dtypes, which needs no wait for a device. Return the weights, wide."""
    is_empty = len(logits) == 0 and not may_be_empty
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
    return sample_weight.to(accumulation_dtype(logits))


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of sums: float32, or float64 where the input has it."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _probabilities(
    logits: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute p, of shape (n, K), p of the targets, (n,), and the predicted mass, (K,)."""
    p = logits.softmax(1, dtype=accumulation_dtype(logits))
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
    # By way of the largest probability, which is never 0.
    top, at = logits.max(1, keepdim=True)
    gap = top.to(p.dtype) - logits.gather(1, target[:, None]).to(p.dtype)
    return (gap - p.gather(1, at).log())[:, 0]


def _shares(tp: V, predicted: V, true: V) -> tuple[tuple[V, V, V], V]:
    """Divide by the total, which keeps every later step in range at any batch size."""
    total = true.sum()
    total = total + (total == 0)
    return (tp / total, predicted / total, true / total), total


def f1_closed_form(tp: V, predicted: V, true: V, eps: float) -> tuple[V, Callable[[], tuple[V, V]]]:
    """Compute the macro F1 score, see :class:`ClosedForm`."""
    mass = predicted + true
    mass = mass + (mass == 0)

    def derivatives() -> tuple[V, V]:
        by_tp = 2 / (len(tp) * mass)
        return by_tp, -by_tp * tp / mass

    return (2 * tp / mass).mean(), derivatives


def mcc_closed_form(
    tp: V, predicted: V, true: V, eps: float
) -> tuple[V, Callable[[], tuple[V, V]]]:
    """Compute the Matthews correlation coefficient, see :class:`ClosedForm`."""
    covariance = (tp - predicted * true).sum()
    true_variance = _variance(true)
    variance = _variance(predicted) * true_variance
    # The covariance is known to about one unit in the last place. Below some hundred of them a
    # quotient would be noise, so the damping begins there. In float32 it takes about 1e-4 of a
    # perfect score where a class has one row in 1000, in float64 nothing.
    root = (variance + (256 * eps) ** 2) ** -0.5 * (variance > 0)

    def derivatives() -> tuple[V, V]:
        # The derivative of the variance is 2 (1 - p_k). Less the one of the largest share, it is 0
        # there, so that near a single class the small numbers are not lost among large ones.
        largest = predicted[predicted.argmax().reshape(1)]
        by_variance = covariance * root**3 * true_variance
        return 0 * tp + root, -(true * root + by_variance * (largest - predicted))

    return covariance * root, derivatives


def _variance(share: V) -> V:
    """Compute sum_k p_k (1 - p_k) without cancellation near a single class."""
    # One minus the largest share would cancel: there, the sum of the others takes its place.
    keep = 0 * share + 1
    keep[share.argmax().reshape(1)] = 0
    others = keep * share
    rest = others.sum()
    variance: V = rest * (2 - rest) - (others * others).sum()
    return variance


def by_autograd(score: Score) -> ClosedForm:
    """Give a score the form of a score that knows its derivatives."""
    name = getattr(score, "__name__", repr(score))

    def value_of(tp: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        value = score(tp, predicted, true)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(
                f"the score {name} must return a tensor of one number; got {got}. Average over "
                "the classes, such as by .mean()."
            )
        return value.reshape(())

    def with_derivatives(tp: Any, predicted: Any, true: Any, eps: float) -> Any:
        vectors = [torch.as_tensor(vector) for vector in (tp, predicted, true)]

        def derivatives() -> tuple[Tensor, ...]:
            with torch.inference_mode(False), torch.enable_grad():
                leaves = [vector.detach().clone() for vector in vectors]
                by = [leaf.requires_grad_() for leaf in leaves[:2]]
                value = value_of(*leaves)
                if not value.requires_grad:
                    raise TypeError(
                        f"the score {name} must be a differentiable function of tp and predicted; "
                        "got a constant. Compute it with operations of torch."
                    )
                return torch.autograd.grad(value, by, materialize_grads=True)

        return value_of(*vectors), derivatives

    return with_derivatives


class SetOptions(NamedTuple):
    """Options of :class:`SetTerms`.

    Parameters
    ----------
    scores : list of (float, ClosedForm)
        Factors and scores. The loss is the weighted sum of one minus each score.
    with_nll : bool
        Whether -log p of the target of each row is asked for, too.
    past : Tensor of shape (3, n_classes) or None
        Sums of past batches. The scores are then functions of the past and the present, and the
        gradient is divided by ``divisor`` instead of the mass of all.
    divisor : Tensor, float or None
        Mass of the present batch, in samples, if there is a past.
    sum_over_parts : SumOverParts or None
        The sum over all parts of a batch.
    uses_numpy : bool
        Whether numpy computes with the vectors of a batch on the CPU.
    """

    scores: list[tuple[float, ClosedForm]]
    with_nll: bool = False
    past: Tensor | None = None
    divisor: Tensor | float | None = None
    sum_over_parts: SumOverParts | None = None
    uses_numpy: bool = True


def set_terms(
    logits: Tensor, target: Tensor, weight: Tensor | None, options: SetOptions
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Compute the terms of scores, -log p of the target if it is asked for, and the vectors."""
    p, p_target, predicted = _probabilities(logits, target, weight)
    vectors = torch.stack(_confusion(p_target, predicted, target, weight))
    if options.sum_over_parts is not None:
        vectors = options.sum_over_parts(vectors)
    shares, total = _shares(*(vectors if options.past is None else options.past + vectors))
    eps = torch.finfo(p.dtype).eps
    loss = p.new_zeros(())
    for factor, score in options.scores:
        loss = loss + factor * (1 - score(*shares, eps)[0])
    if options.divisor is not None:
        loss = loss.detach() + (loss - loss.detach()) * (total.detach() / options.divisor)
    return loss.to(p.dtype), _nll(logits, target, p) if options.with_nll else None, vectors


class _Context(Protocol):
    """The context that torch passes to a function with its own gradient."""

    saved_tensors: tuple[Any, ...]
    options: SetOptions

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...

    def mark_non_differentiable(self, *tensors: Tensor) -> None: ...


class SetTerms(torch.autograd.Function):
    """:func:`set_terms` with a gradient in closed form, which keeps the probabilities alone."""

    @staticmethod
    def forward(
        ctx: _Context,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        options: SetOptions,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Compute the terms, and their derivatives by the vectors."""
        p, p_target, predicted = _probabilities(logits, target, weight)
        in_numpy = options.uses_numpy and p.device.type == "cpu"
        vectors: Any
        if in_numpy:
            vectors = _numpy_confusion(p_target, predicted, target, weight)
        else:
            vectors = _confusion(p_target, predicted, target, weight)
        sums = None
        if options.past is not None or options.sum_over_parts is not None:
            sums, vectors = _sum_up(vectors, in_numpy, options)
            ctx.mark_non_differentiable(sums)
        loss, by_tp, by_predicted = _value_and_derivatives(vectors, p, in_numpy, options)
        ctx.save_for_backward(logits, target, weight, p, p_target, by_tp, by_predicted)
        ctx.options = options
        return loss, _nll(logits, target, p) if options.with_nll else None, sums

    @staticmethod
    def backward(
        ctx: _Context, of_loss: Tensor, of_nll: Tensor | None, of_sums: Tensor | None
    ) -> tuple[Tensor, None, None, None]:
        """Compute the gradient for the logits."""
        logits, target, weight, p, p_target, by_tp, by_predicted = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            loss, nll, _ = set_terms(logits, target, weight, ctx.options)
            # Not the gradient of a product: of_nll is itself a function of the logits.
            pairs = [(loss, of_loss)] if ctx.options.scores else []
            if nll is not None and of_nll is not None:
                pairs.append((nll, of_nll))
            outputs, by = zip(*pairs, strict=True)
            (gradient,) = torch.autograd.grad(outputs, logits, by, create_graph=True)
            return gradient, None, None, None
        # dL/dp_ik = w_i (A_k [y_i = k] + B_k), and the softmax subtracts from each row its mean
        # under p.
        by_predicted = by_predicted * of_loss
        hit = p_target * (by_tp * of_loss)[target]
        device = p.device.type
        is_low = torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if is_low else nullcontext():
            shift = -hit - p @ by_predicted
        if weight is not None:
            hit, shift = hit * weight, shift * weight
        if of_nll is not None:  # dL/dz_ik = (p_ik - [y_i = k]) times its own
            hit, shift = hit - of_nll, shift + of_nll
        if weight is None:
            gradient = shift[:, None] + by_predicted
        else:
            gradient = (weight[:, None] * by_predicted).add_(shift[:, None])
        gradient.mul_(p).scatter_add_(1, target[:, None], hit[:, None])
        return gradient.to(logits.dtype), None, None, None


def _numpy_confusion(
    p_target: Tensor, predicted: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[np.ndarray, ...]:
    """Compute the three vectors in numpy, whose calls cost less than torch's."""
    hits, rows = p_target, None
    if weight is not None:
        hits, rows = p_target * weight, weight.numpy()
    labels, n_classes = target.numpy(), len(predicted)
    tp, true = (np.bincount(labels, r, n_classes) for r in (hits.numpy(), rows))
    return tp, predicted.double().numpy(), true.astype(np.float64)


def _sum_up(vectors: Any, in_numpy: bool, options: SetOptions) -> tuple[Tensor, Any]:
    """Return the vectors of all parts of the batch, and the same with the past."""
    sums = torch.from_numpy(np.stack(vectors)) if in_numpy else torch.stack(vectors)
    if options.sum_over_parts is not None:
        sums = options.sum_over_parts(sums)
    vectors = sums if options.past is None else options.past + sums
    return sums, vectors.numpy() if in_numpy else vectors


def _value_and_derivatives(
    vectors: Any, p: Tensor, in_numpy: bool, options: SetOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the loss, and its derivatives by TP and by the predicted mass of this part."""
    shares, total = _shares(*vectors)
    divisor = options.divisor
    if divisor is not None:
        total = divisor.numpy() if in_numpy and isinstance(divisor, Tensor) else divisor
    if options.sum_over_parts is not None:  # all parts have this loss, and a mean makes one of it
        total = total / options.sum_over_parts.n_parts
    eps = torch.finfo(p.dtype).eps
    by_tp: Any = 0 * vectors[0]
    by_predicted, loss = by_tp, by_tp.sum()
    for factor, score_of in options.scores:
        score, derivatives = score_of(*shares, eps)
        of_tp, of_predicted = derivatives()
        if in_numpy:  # a score by autograd is torch's
            score, of_tp, of_predicted = map(np.asarray, (score, of_tp, of_predicted))
        loss = loss + factor * (1 - score)
        scale = -factor / total
        by_tp, by_predicted = by_tp + scale * of_tp, by_predicted + scale * of_predicted
    if in_numpy:  # in one piece, as each way from numpy to torch has its price
        packed = np.concatenate(([loss], by_tp, by_predicted))
        values = torch.from_numpy(packed.astype(p.numpy().dtype))
        n_classes = len(by_tp)
        return values[0], values[1 : 1 + n_classes], values[1 + n_classes :]
    return loss.to(p.dtype), by_tp.to(p.dtype), by_predicted.to(p.dtype)
