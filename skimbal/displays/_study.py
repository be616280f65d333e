"""The parts of a study that the displays read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

__all__ = [
    "Configuration",
    "Difference",
    "Estimate",
    "Pair",
    "Study",
    "check_study",
    "pair_of",
    "rows_by_pair",
]

#: Names of the loss and of the sampler of a configuration.
Pair: TypeAlias = tuple[str, str]


class Configuration(Protocol):
    """A loss and a sampler."""

    @property
    def loss(self) -> str:
        """Name of the loss."""

    @property
    def sampler(self) -> str:
        """Name of the sampler."""

    @property
    def sampling(self) -> str:
        """Name of the sampling. Class weights are part of it."""


class Estimate(Protocol):
    """Mean and interval of a score."""

    @property
    def loss(self) -> str:
        """Name of the loss."""

    @property
    def sampler(self) -> str:
        """Name of the sampler."""

    @property
    def mean(self) -> float:
        """Mean over the fits."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


class Difference(Estimate, Protocol):
    """Mean and interval of a paired difference."""

    @property
    def reference(self) -> str:
        """Name of the loss that is subtracted."""

    @property
    def p_value(self) -> float:
        """P-value of no difference."""


class Study(Protocol):
    """A fitted study of losses and samplers."""

    @property
    def scoring(self) -> str:
        """Name of the score that ranks."""

    @property
    def score_names(self) -> Sequence[str]:
        """Names of all scores."""

    def class_scores(self) -> Mapping[str, str]:
        """Map the name of each class to the name of its F1 score."""

    @property
    def configurations(self) -> Sequence[Configuration]:
        """All losses and samplers, finished or not."""

    def title(self, score: str | None = None) -> str:
        """Return the words for a score."""

    def greater_is_better(self, score: str) -> bool:
        """Tell whether a high score is good."""

    def estimates(self, score: str | None = None) -> Sequence[Estimate]:
        """Return the mean of a score for each configuration."""

    def differences(self, score: str | None = None) -> Sequence[Difference]:
        """Return the differences to the references."""


_NEEDED = (
    *("scoring", "score_names", "class_scores", "configurations"),
    *("title", "greater_is_better", "estimates", "differences"),
)


def check_study(study: object) -> None:
    for name in _NEEDED:
        if not hasattr(study, name):
            raise TypeError(
                f"study must be a fitted study of losses and samplers; got {study!r}. It has no "
                f"{name}."
            )


def pair_of(loss: object, sampler: object) -> Pair:
    return str(loss), "uniform" if sampler is None else str(sampler)


def rows_by_pair(rows: Iterable[Estimate]) -> dict[Pair, Estimate]:
    return {pair_of(row.loss, row.sampler): row for row in rows}
