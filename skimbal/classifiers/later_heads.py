"""The knowledge of a fitted classifier about later changes of its last layer alone."""

from typing import Any, Protocol

from skimbal.classifiers.card import training_facts
from skimbal.classifiers.prior import RowsSeen
from skimbal.training import TrainingNet
from skimbal.typing import RandomState, is_number

__all__ = ["adopt_head", "adopt_training", "forget_prior"]


class TrainedClassifier(Protocol):
    """The parts of a fitted classifier that tell of its training."""

    random_state: RandomState
    net_: TrainingNet
    _seen: RowsSeen


def adopt_head(estimator: TrainedClassifier, facts: dict[str, Any]) -> None:
    """Let a classifier know of a last layer that others have made, by facts about it."""
    plain = {name: v if is_number(v) else str(v) for name, v in facts.items()}
    estimator.net_.head_trainings_ += (plain,)


def adopt_training(estimator: TrainedClassifier, trainer: TrainedClassifier, method: str) -> None:
    """Let a classifier know of the training of its last layer by another classifier."""
    facts = training_facts(trainer.net_, 0, trainer.random_state)
    adopt_head(estimator, {"method": method, **facts})
    estimator._seen = trainer._seen


def forget_prior(estimator: TrainedClassifier, reason: str) -> None:
    """Let a classifier know that its probabilities refer to no known prior."""
    estimator._seen = estimator._seen._replace(predicted=reason)
