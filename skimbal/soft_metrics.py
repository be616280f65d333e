"""The statistic of the soft metrics, three vectors with one entry per class, and their scores."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "SetTerms",
    "accumulation_dtype",
    "check_batch",
    "f1_score_macro",
    "mcc_score",
    "set_terms",
    "soft_confusion",
    "sum_over_processes",
]


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
    shares, _ = _shares(tp, predicted, true.to(accumulation_dtype(true)))
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
    shares, _ = _shares(tp, predicted, true.to(accumulation_dtype(true)))
    score: Tensor = _f1(*shares, torch.finfo(shares[0].dtype).eps)[0]
    return score


def check_batch(
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
    return sample_weight.to(accumulation_dtype(logits))


def _is_on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """Give the dtype to sum up in: float32, or float64 where the input has it."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _probabilities(
    logits: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute p, of shape (n, K), that of the targets, (n,), and the predicted mass, (K,)."""
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
    # By way of the largest one, whose logarithm is never that of 0.
    top, at = logits.max(1, keepdim=True)
    gap = top.to(p.dtype) - logits.gather(1, target[:, None]).to(p.dtype)
    return (gap - p.gather(1, at).log())[:, 0]


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


def set_terms(
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
        vectors = sum_over_processes(vectors, process_group)
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
        return sum_over_processes(of_total, ctx.process_group), None


def sum_over_processes(part: Tensor, process_group: Any) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(part, process_group)  # type: ignore[no-untyped-call]
    return total


class SetTerms(torch.autograd.Function):
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
            loss, nll, _ = set_terms(logits, target, weight, *ctx.arguments)
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
