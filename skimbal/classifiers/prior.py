"""The prior of the training rows, and the prior that the probabilities of a network refer to."""

import numpy as np
from torch import nn

from skimbal.classifiers.inputs import Rows
from skimbal.classifiers.parameters import CNNClassifier
from skimbal.classifiers.settings import Settings
from skimbal.losses import MixedLoss, ModuleLoss, log_prior
from skimbal.sampling import Strategy
from skimbal.training import TrainingNet

__all__ = ["KnowsPrior", "rows_seen"]

#: Terms whose minimum gives the probabilities of the rows, weighted by class.
_OF_ROWS = {"ce", "wce"}
#: Terms whose minimum gives the probabilities of the rows divided by a power of the prior.
_ADJUSTED = {"la", "balanced_softmax"}


class KnowsPrior:
    """A classifier that knows the shares of the classes in training."""

    net_: TrainingNet
    logit_adjustment: float
    #: Weight of each class over all calls of partial_fit, in samples.
    _class_mass: np.ndarray
    #: The same of the rows that the loss has seen, or the reason why it is not known.
    _seen: np.ndarray | str

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
        seen = getattr(self, "_seen", "The classifier is not fitted, or by an earlier version.")
        if isinstance(seen, str):
            raise AttributeError(seen)
        shares = _through_loss(seen, self.net_.criterion_)
        if self.logit_adjustment:
            shares = shares / np.exp(self.logit_adjustment * log_prior(self.class_prior_))
        prior: np.ndarray = shares / shares.sum()
        return prior


def rows_seen(
    estimator: CNNClassifier,
    settings: Settings,
    strategy: Strategy,
    train: Rows,
    whole: bool,
) -> np.ndarray | str:
    """Return the weight of each class in the rows of an epoch, and of the calls before."""
    before = None if whole else getattr(estimator, "_seen", None)
    if "iterator_train" in (estimator.net or {}):
        return "net['iterator_train'] makes the batches, whose shares of the classes are not known."
    counts = np.bincount(train.data.y, minlength=len(train.labels))
    present = np.flatnonzero(counts)
    drawn = np.zeros(len(counts))
    if strategy.equal_shares:
        drawn[present] = counts.sum() / len(present)
    else:
        order = np.argsort(train.data.y, kind="stable")
        classes = np.split(order, np.cumsum(counts[present])[:-1])
        rows = strategy.draw(classes, np.random.default_rng(0))
        drawn = np.bincount(train.data.y[rows], minlength=len(counts)).astype(float)
    mass: np.ndarray = drawn * train.class_mass / np.maximum(counts, 1)
    if isinstance(before, str):
        return before
    return mass if before is None else mass + before


def _through_loss(seen: np.ndarray, loss: MixedLoss | ModuleLoss) -> np.ndarray:
    """Return the shares that the minimum of the loss on these rows predicts."""
    is_balanced = np.ptp(seen) <= 1e-6 * seen.max()
    if isinstance(loss, ModuleLoss):
        module = loss.module
        if type(module) is nn.CrossEntropyLoss:
            of_class = module.weight
            return seen if of_class is None else seen * of_class.detach().cpu().double().numpy()
        raise AttributeError(f"The effect of the loss {loss.name} on the classes is not known.")
    terms = set(loss.factors)
    vectors = {
        name: vector.detach().cpu().double().numpy() for name, vector in loss.class_vectors.items()
    }
    if terms <= _OF_ROWS:
        weight = sum(factor * vectors.get(name, 1.0) for name, factor in loss.factors.items())
        return seen * weight
    if len(terms) == 1 and terms <= _ADJUSTED:
        (name,) = terms
        tau = loss.mix.la_tau if name == "la" else 1.0
        return seen / np.exp(tau * vectors[name])
    if is_balanced and not vectors:
        return seen
    raise AttributeError(
        f"The loss {loss.name} has no minimum with known probabilities for classes that are not "
        "equally common."
    )
