"""The prior of the training rows, and the prior that the probabilities of a network refer to."""

from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from skimbal.augmentation import Mixup
from skimbal.classifiers.assembly import Plan
from skimbal.classifiers.inputs import Rows
from skimbal.classifiers.parameters import CNNClassifier
from skimbal.losses import TERMS, MixedLoss, ModuleLoss, log_prior
from skimbal.sampling import Strategy

__all__ = ["KnowsPrior", "RowsSeen", "rows_seen"]

#: Terms whose minimum gives the probabilities of the rows, weighted by class.
_OF_ROWS = {"ce", "wce", "cb"}
#: Terms whose minimum gives the probabilities of the rows divided by a power of the prior.
_ADJUSTED = {"la", "balanced_softmax"}


class RowsSeen(NamedTuple):
    """The classes that a loss has seen, each part an array with an entry per class or a reason."""

    #: Weight of the rows over all calls of partial_fit, in samples.
    mass: np.ndarray | str
    #: The same as far as the minimum of the loss tells of it.
    predicted: np.ndarray | str


class KnowsPrior:
    """A classifier that knows the shares of the classes in training."""

    logit_adjustment: float
    #: Weight of each class over all calls of partial_fit, in samples.
    _class_mass: np.ndarray
    _seen: RowsSeen

    @property
    def class_count_(self) -> np.ndarray:
        """Number of training rows of each class, by weight, in samples."""
        return self._class_mass.copy()

    @property
    def class_prior_(self) -> np.ndarray:
        """Share of each class in the training rows, by weight, with sum 1."""
        mass = self._class_mass
        prior: np.ndarray = mass / mass.sum()
        return prior

    @property
    def effective_prior_(self) -> np.ndarray:
        """Shares of the classes that ``predict_proba`` refers to, with sum 1.

        Raises
        ------
        AttributeError
            If sampler or loss do not tell.
        """
        if not hasattr(self, "_seen"):
            raise AttributeError("The classifier is not fitted.")
        shares = self._seen.predicted
        if isinstance(shares, str):
            raise AttributeError(shares)
        if self.logit_adjustment:
            shares = shares / np.exp(self.logit_adjustment * log_prior(self.class_prior_))
        prior: np.ndarray = shares / shares.sum()
        return prior


def rows_seen(
    estimator: CNNClassifier, strategy: Strategy, plan: Plan, mixing: tuple[Mixup, ...]
) -> RowsSeen:
    """Return the rows of an epoch, and of the calls before, as the loss sees them."""
    mass = _drawn(estimator, strategy, plan.train)
    before = None if plan.is_whole else getattr(estimator, "_seen", None)
    if before is not None:
        known = isinstance(mass, np.ndarray) and isinstance(before.mass, np.ndarray)
        mass = mass + before.mass if known else before.mass
    if isinstance(mass, str):
        return RowsSeen(mass, mass)
    if any(mix.corrects_classes for mix in mixing):
        return RowsSeen(
            mass,
            f"{mixing[0]} gives mixed images more of the label of a rare class than of its image, "
            "which is not a shift of the prior.",
        )
    return RowsSeen(mass, _through_loss(mass, plan.loss, strategy.equal_portions))


def _drawn(estimator: CNNClassifier, strategy: Strategy, train: Rows) -> np.ndarray | str:
    """Return the weight of each class in the rows of an epoch."""
    if "iterator_train" in (estimator.net or {}):
        return "net['iterator_train'] makes the batches, whose shares of the classes are not known."
    counts = np.bincount(train.data.y, minlength=len(train.labels))
    present = np.flatnonzero(counts)
    rows = np.zeros(len(counts))
    if strategy.equal_shares:
        rows[present] = counts.sum() / len(present)
    else:
        order = np.argsort(train.data.y, kind="stable")
        classes = np.split(order, np.cumsum(counts[present])[:-1])
        drawn = strategy.draw(classes, np.random.default_rng(0))
        rows += np.bincount(train.data.y[drawn], minlength=len(counts))
    mass: np.ndarray = rows * train.class_mass / np.maximum(counts, 1)
    return mass


def _through_loss(
    seen: np.ndarray, loss: MixedLoss | ModuleLoss, equal_portions: bool
) -> np.ndarray | str:
    """Return the shares that the minimum of the loss on these rows predicts."""
    if isinstance(loss, ModuleLoss):
        return _through_module(seen, loss, equal_portions)
    terms = set(loss.factors)
    vectors, weights = _in_numpy(loss.class_vectors), _in_numpy(loss.class_weights)
    if terms <= _OF_ROWS:
        weight = sum(factor * weights.get(name, 1.0) for name, factor in loss.factors.items())
        return _unless_smoothed(seen * weight, loss.mix.label_smoothing)
    if len(terms) == 1 and terms <= _ADJUSTED:
        (name,) = terms
        tau = loss.mix.la_tau if name == "la" else 1.0
        return seen / np.exp(tau * vectors[name])
    if _is_balanced(seen) and not vectors and not weights:
        return seen
    if any(TERMS[name].is_deferred for name in terms):
        return (
            f"The loss {loss.name} weighs the classes late in the training, so the probabilities "
            "refer neither to the training rows nor to rows with these weights."
        )
    return (
        f"The loss {loss.name} has no minimum with known probabilities for classes that are not "
        "equally common."
    )


def _in_numpy(vectors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: vector.detach().cpu().double().numpy() for name, vector in vectors.items()}


def _through_module(seen: np.ndarray, loss: ModuleLoss, equal_portions: bool) -> np.ndarray | str:
    """Return the shares that the minimum of a module predicts."""
    module = loss.module
    if type(module) is not nn.CrossEntropyLoss:
        return f"The effect of the loss {loss.name} on the classes is not known."
    if module.weight is None:
        return _unless_smoothed(seen, module.label_smoothing)
    weight = module.weight.detach().cpu().double().numpy()
    if module.reduction == "mean" and np.ptp(weight) and not equal_portions:
        return (
            f"The loss {loss.name} divides by the weights of each batch, so that a batch without a "
            "rare class counts for more. The loss 'ce' with class_weight has no such effect."
        )
    return _unless_smoothed(seen * weight, module.label_smoothing)


def _unless_smoothed(shares: np.ndarray, label_smoothing: float) -> np.ndarray | str:
    """Return the shares, unless smooth labels make the rare classes more probable."""
    if label_smoothing and not _is_balanced(shares):
        return (
            f"Labels that are smoothed by {label_smoothing:g} raise the probabilities of rare "
            "classes, which is not a shift of the prior."
        )
    return shares


def _is_balanced(shares: np.ndarray) -> bool:
    return bool(np.ptp(shares) <= 1e-6 * shares.max())
