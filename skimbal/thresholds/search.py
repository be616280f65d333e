"""Offsets of the scores of classes that maximise a metric: line searches over all breakpoints."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["Fold", "Found", "Gauge", "mean_score", "normalised", "search", "starts_of"]

#: Scores that differ by less are equal: sums of weights round.
_TIE = 1e-10
#: Relative width of the narrowest interval between breakpoints.
_WIDTH = 1e-9
#: Sweeps over the classes after which a search from one start ends.
_MOST_SWEEPS = 30


class Gauge(Protocol):
    """A metric of the predictions of a fold."""

    @property
    def most_candidates(self) -> int | None:
        """Largest number of values of one offset that a line search tries, or None for all."""

    def at(self, predicted: np.ndarray) -> float:
        """Return the score of predictions, given as numbers of classes."""

    def along(
        self, before: np.ndarray, order: np.ndarray, k: int, counts: np.ndarray
    ) -> np.ndarray:
        """Return the score for each number of rows that are turned to class ``k``, in an order."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows that were not trained on: scores of shape (n_rows, n_classes), and their metric."""

    scores: np.ndarray
    gauge: Gauge

    def at(self, offsets: np.ndarray) -> float:
        """Return the score of the decisions with these offsets."""
        return self.gauge.at(np.argmax(self.scores + offsets, axis=1))


class Found(NamedTuple):
    """Offsets, and their mean score over the folds."""

    offsets: np.ndarray
    score: float


class _Line(NamedTuple):
    """The mean score between the breakpoints of one offset."""

    lower: np.ndarray
    upper: np.ndarray
    scores: np.ndarray


def mean_score(folds: Sequence[Fold], offsets: np.ndarray) -> float:
    """Return the mean over the folds."""
    return float(np.mean([fold.at(offsets) for fold in folds]))


def normalised(offsets: np.ndarray, reference: int) -> np.ndarray:
    """Subtract the offset of one class, as a constant changes no decision."""
    moved: np.ndarray = offsets - offsets[reference]
    return moved + 0.0  # no -0.0


def search(
    folds: Sequence[Fold], order: Sequence[int], starts: Sequence[np.ndarray], n_probes: int = 0
) -> tuple[Found, list[Found]]:
    """Return the best offsets, and the ends of the searches.

    The last class of ``order`` is the class whose offset is 0 in the end. ``n_probes`` is about the
    number of line searches that look for better pairs of offsets from the best end.
    """
    zero = np.zeros(len(order))
    without = Found(zero, mean_score(folds, zero))
    ends = [_climb(folds, order, start) for start in starts]
    if n_probes and len(order) > 2:
        ends.append(_probed(folds, order, max(ends, key=lambda end: end.score), n_probes))
    best = max(found.score for found in ends)
    candidates = [
        without,
        *(_centred(folds, order, end) for end in ends if end.score >= best - _TIE),
    ]
    best = max(found.score for found in candidates)
    equal = [found for found in candidates if found.score >= best - _TIE]
    return min(equal, key=lambda found: float(np.abs(found.offsets).sum())), ends


def starts_of(prior: np.ndarray, n_random: int) -> Iterator[np.ndarray]:
    """Yield zeros, the offsets that balance the prior, and random ones."""
    balancing = np.log(prior.max()) - np.log(prior)
    yield np.zeros(len(prior))
    if len(prior) == 2:  # one line holds all decisions
        return
    yield balancing
    # Noise by rank of the prior, so that the order of the classes does not matter.
    rank = np.argsort(np.argsort(-prior, kind="stable"))
    rng = np.random.default_rng(0)
    for _ in range(n_random):
        share, noise = rng.uniform(0, 1.5), rng.normal(size=len(prior))
        yield share * balancing + noise[rank]


def _climb(folds: Sequence[Fold], order: Sequence[int], start: np.ndarray) -> Found:
    """Improve one offset after the other until none improves."""
    offsets, score = start.copy(), mean_score(folds, start)
    n_still = 0
    for turn in range(_MOST_SWEEPS * len(order)):
        k = order[turn % len(order)]
        line = _line(folds, offsets, k)
        n_still += 1
        if line.scores.max() > score + _TIE:
            score = float(line.scores.max())
            offsets[k] = _nearest_to_zero(line, score)
            n_still = 1
        if n_still >= len(order):
            break
    offsets = normalised(offsets, order[-1])
    return Found(offsets, score)


def _probed(folds: Sequence[Fold], order: Sequence[int], found: Found, n_probes: int) -> Found:
    """Look for two offsets that improve together: one at a lower score, and the best other one."""
    n_values = n_probes // (len(order) * (len(order) - 1))
    for k in order:
        line = _line(folds, found.offsets, k)
        for i in np.argsort(-line.scores, kind="stable")[:n_values]:
            trial = found.offsets.copy()
            trial[k] = _middle(line.lower[i], line.upper[i])
            lines = {other: _line(folds, trial, other) for other in order if other != k}
            other = max(lines, key=lambda name: lines[name].scores.max())
            score = float(lines[other].scores.max())
            if score > found.score + _TIE:
                trial[other] = _nearest_to_zero(lines[other], score)
                # Higher than all before, so this ends.
                better = _climb(folds, order, trial)
                is_higher = better.score > found.score + _TIE
                return _probed(folds, order, better, n_probes) if is_higher else found
    return found


def _centred(folds: Sequence[Fold], order: Sequence[int], found: Found) -> Found:
    """Move each offset to 0 if nothing is lost, and otherwise to the middle of its plateau."""
    offsets, score = found.offsets.copy(), found.score
    for k in order[:-1]:
        line = _line(folds, offsets, k)
        if line.scores.max() < score - _TIE:  # the search stood on a breakpoint
            continue
        score = max(score, float(line.scores.max()))
        offsets[k] = _nearest_to_zero(line, score)
    return Found(offsets, mean_score(folds, offsets))


def _line(folds: Sequence[Fold], offsets: np.ndarray, k: int) -> _Line:
    """Return the mean score for every value of the offset of a class."""
    parts = [_breakpoints(fold, offsets, k) for fold in folds]
    values = np.sort(np.concatenate([points for _, _, points in parts]))
    values = values[np.isfinite(values)]
    lower, upper = _intervals(values)
    most = min((fold.gauge.most_candidates or len(lower) for fold in folds), default=len(lower))
    if len(lower) > most:
        # The interval of the present value stays, so that a search never loses its score.
        kept = np.linspace(0, len(lower) - 1, most).round().astype(int)
        kept = np.union1d(kept, np.searchsorted(upper, offsets[k]).clip(max=len(lower) - 1))
        lower, upper = lower[kept], upper[kept]
    total = np.zeros(len(lower))
    for fold, (before, order, points) in zip(folds, parts, strict=True):
        counts = np.searchsorted(points, lower, side="right")
        total += fold.gauge.along(before, order, k, counts)
    return _Line(lower, upper, total / len(folds))


def _breakpoints(
    fold: Fold, offsets: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the best other class of each row, and the offsets at which rows turn to class k."""
    others = fold.scores + offsets
    others[:, k] = -np.inf
    rival = np.argmax(others, axis=1)
    with np.errstate(invalid="ignore"):
        points = others[np.arange(len(rival)), rival] - fold.scores[:, k]
    order = np.argsort(points, kind="stable")
    return rival, order, points[order]


def _intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the intervals between sorted numbers, without those of no width."""
    if not len(values):
        return np.array([-np.inf]), np.array([np.inf])
    is_gap = np.diff(values) > _WIDTH * np.maximum(1, np.abs(values[1:]))
    lower = np.concatenate([[-np.inf], values[:-1][is_gap], values[-1:]])
    upper = np.concatenate([values[:1], values[1:][is_gap], [np.inf]])
    return lower, upper


def _nearest_to_zero(line: _Line, score: float) -> float:
    """Return 0 or the middle of the plateau with this score that is the nearest to 0."""
    is_best = line.scores >= score - _TIE
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_best.astype(int), [0]])))
    first, last = edges[::2], edges[1::2] - 1
    lower, upper = line.lower[first], line.upper[last]
    distance = np.maximum(0, np.maximum(lower, -upper))
    nearest = int(np.argmin(distance))
    low, high = float(lower[nearest]), float(upper[nearest])
    if low < -_WIDTH and high > _WIDTH:
        return 0.0
    return _middle(low, high)


def _middle(low: float, high: float) -> float:
    """Return the middle of an interval, or a number beyond its only bound."""
    if not np.isfinite(low):
        return high - 1 if np.isfinite(high) else 0.0
    return (low + high) / 2 if np.isfinite(high) else low + 1
