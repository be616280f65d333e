"""Configurations of a study with their intervals."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from skimbal.displays._drawing import (
    BESIDE,
    COLORS,
    GREY,
    MARKERS,
    check_axes,
    check_known,
    check_study,
    configuration_key,
    new_axes,
    require_matplotlib,
    width_of_text,
)

__all__ = ["LossStudyDisplay"]


class LossStudyDisplay:
    """Losses by score with 95 % intervals, compared at the same sampling.

    One row for each configuration, grouped by sampling, the best on top: uniform, uniform with
    class weights (a loss with the term ``"wce"``), balanced, and any other. A vertical line
    through a group marks the loss that the study compares with. It is recommended to use
    :meth:`from_study`. All parameters are stored as attributes.

    Parameters
    ----------
    estimates : list of named tuples
        One for each configuration, with ``loss``, ``sampler``, ``mean``, and the ends of its
        interval, ``low`` and ``high``, all in the units of the score; NaN where there is none.
    differences : list of named tuples
        Paired differences to the reference at the same sampler, with ``loss``, ``sampler``,
        ``reference`` (the loss compared with), ``mean``, ``low``, ``high`` in the units of the
        score, and ``p_value``.
    score_name : str, default="score"
        Name of the score.
    greater_is_better : bool, default=True
        Whether a high score is a good one.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure that holds it.
    points_ : dict of (str, str) to matplotlib Line2D
        The marker of each (loss, sampling).
    intervals_ : dict of (str, str) to matplotlib Line2D
        The interval of each (loss, sampling).
    references_ : list of matplotlib Line2D
        The line at the reference of each group, or the line at zero.
    legend_ : matplotlib Legend
        The legend.

    See Also
    --------
    ClassScoresDisplay : Scores of each class.

    References
    ----------
    Scholz, D. et al. (2024). Imbalance-aware loss functions improve medical image
    classification. MIDL, PMLR 250, 1341-1356: Table 1.

    Examples
    --------
    >>> from types import SimpleNamespace as Row
    >>> from skimbal.displays import LossStudyDisplay
    >>> estimates = [
    ...     Row(loss="ce", sampler="balanced", mean=0.5, low=0.4, high=0.6),
    ...     Row(loss="ce+mcc", sampler="balanced", mean=0.6, low=0.5, high=0.7),
    ... ]
    >>> differences = [
    ...     Row(loss="ce+mcc", sampler="balanced", reference="ce",
    ...         mean=0.1, low=-0.1, high=0.3, p_value=0.2)
    ... ]
    >>> display = LossStudyDisplay(estimates, differences, score_name="MCC").plot()
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['balanced', 'ce+mcc', 'ce']
    """

    def __init__(
        self,
        estimates: Sequence[Any],
        differences: Sequence[Any],
        *,
        score_name: str = "score",
        greater_is_better: bool = True,
    ) -> None:
        self.estimates = estimates
        self.differences = differences
        self.score_name = score_name
        self.greater_is_better = greater_is_better

    @classmethod
    def from_study(
        cls, study: Any, *, scoring: str | None = None, kind: str = "scores", ax: Any = None
    ) -> "LossStudyDisplay":
        """Draw a fitted study of losses and samplers.

        Parameters
        ----------
        study : fitted study
            A study of losses and samplers, with ``scoring``, ``score_names``,
            ``greater_is_better``, ``estimates`` and ``differences``.
        scoring : str, default=None
            Name of the score; if None, the one that ranks in the study.
        kind : {"scores", "differences"}, default="scores"
            Whether to draw the scores, or their paired differences to the reference.
        ax : matplotlib Axes, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : LossStudyDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        TypeError
            If the study is none.
        ValueError
            If the score or the kind is not known, or differences are asked for where there are
            none.
        """
        require_matplotlib("LossStudyDisplay.from_study")
        check_study(study)
        check_known("kind", kind, ("scores", "differences"))
        scoring = study.scoring if scoring is None else scoring
        check_known("scoring", scoring, study.score_names)
        check_axes(ax, 1, "the study needs one axes")
        display = cls(
            study.estimates(scoring),
            study.differences(scoring),
            score_name=scoring,
            greater_is_better=bool(study.greater_is_better(scoring)),
        )
        return display.plot(kind=kind, ax=ax)

    def plot(self, kind: str = "scores", *, ax: Any = None) -> "LossStudyDisplay":
        """Draw the scores or their differences.

        Parameters
        ----------
        kind : {"scores", "differences"}, default="scores"
            Whether to draw the scores, or their paired differences to the reference at the same
            sampling, with a filled marker where the p-value is below 0.05.
        ax : matplotlib Axes, default=None
            Where to draw. If None, a new figure. The legend stands to the right of the axes, for
            which a figure with ``layout="constrained"`` makes room.

        Returns
        -------
        self : LossStudyDisplay
            The same display, with the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        ValueError
            If the kind is not known, or there is nothing of that kind.
        """
        require_matplotlib("LossStudyDisplay.plot")
        check_known("kind", kind, ("scores", "differences"))
        rows = self.estimates
        if kind == "differences":
            rows = [row for row in self.differences if str(row.loss) != str(row.reference)]
        if not rows:
            raise ValueError(
                f"there is nothing to draw for kind={kind!r}; differences need a second loss at "
                "the same sampler."
            )
        groups = self._group(rows)
        axes = check_axes(ax, 1, "the study needs one axes")
        n_lines = len(rows) + len(groups)
        if axes is None:
            width = 5.6 + width_of_text([*groups, *(str(row.loss) for row in rows)])
            axes = new_axes(1, 1, figsize=(width, 1.2 + 0.26 * n_lines))
        ax = axes[0]

        self.points_, self.intervals_, self.references_ = {}, {}, []
        ticks, position = [], 0
        styles = list(self._group(self.estimates))
        for sampling, members in groups.items():
            # Both kinds of picture give a group the same colour.
            number = styles.index(sampling)
            ticks.append(sampling)
            for line, row in enumerate(members, start=position + 1):
                color = COLORS[number % len(COLORS)]
                significant = kind == "scores" or row.p_value < 0.05
                key = (str(row.loss), sampling)
                (self.intervals_[key],) = ax.plot(
                    [row.low, row.high], [line, line], linestyle="-", color=color
                )
                (self.points_[key],) = ax.plot(
                    row.mean,
                    line,
                    linestyle="none",
                    marker=MARKERS[number % len(MARKERS)],
                    markersize=7,
                    color=color,
                    markerfacecolor=color if significant else "white",
                )
                ticks.append(str(row.loss))
            if kind == "scores":
                for mean in self._reference_means(members):
                    self.references_ += ax.plot(
                        [mean, mean],
                        [position + 0.5, position + len(members) + 0.5],
                        color=GREY,
                        linestyle="--",
                        zorder=1,
                    )
            position += 1 + len(members)
        score = self.score_name.replace("_", " ")
        references = ", ".join(sorted({str(row.reference) for row in self.differences}))
        if kind == "scores":
            better = "higher" if self.greater_is_better else "lower"
            ax.set_xlabel(f"{score} ({better} is better)\nmean and 95 % interval")
            ax.set_title(f"{score} at matched sampling")
            named = {f"reference ({references})\nat the same sampling": self.references_[:1]}
        else:
            self.references_ = [ax.axvline(0, color=GREY, linestyle="--", zorder=1)]
            better = "right" if self.greater_is_better else "left"
            ax.set_xlabel(f"difference in {score} ({better} is better)\nmean and 95 % interval")
            ax.set_title(f"difference to {references} at matched sampling")
            named = {
                f"no difference\nto {references}": self.references_,
                "p < 0.05": _markers_alone(filled=True),
                "p ≥ 0.05\nor unknown": _markers_alone(filled=False),
            }
        handles = [(handle, name) for name, artists in named.items() for handle in artists]
        ax.set_yticks(range(n_lines), ticks)
        ax.set_ylim(n_lines - 0.5, -0.6)
        ax.tick_params(axis="y", length=0)
        heading = 0
        for members in groups.values():
            ax.get_yticklabels()[heading].set_fontweight("bold")
            if heading:
                ax.axhline(heading - 0.5, color="0.85", linewidth=0.8, zorder=0)
            heading += 1 + len(members)
        self.legend_ = ax.legend(
            [handle for handle, _ in handles],
            [name for _, name in handles],
            **BESIDE,
        )
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _group(self, rows: Sequence[Any]) -> dict[str, list[Any]]:
        """Sort by sampling, then from the best to the worst."""
        groups: dict[str, list[Any]] = {}
        for row in rows:
            groups.setdefault(_sampling(row.loss, row.sampler), []).append(row)
        sign = -1 if self.greater_is_better else 1
        order = {"uniform": 0, "uniform + weights": 1, "balanced": 2}
        return {
            sampling: sorted(
                groups[sampling],
                key=lambda row: (bool(np.isnan(row.mean)), sign * row.mean),
            )
            for sampling in sorted(groups, key=lambda sampling: order.get(sampling, len(order)))
        }

    def _reference_means(self, members: Sequence[Any]) -> list[float]:
        """Return the scores that the members of a group are compared with."""
        means = {configuration_key(row.loss, row.sampler): row.mean for row in self.estimates}
        of_group = {configuration_key(row.loss, row.sampler) for row in members}
        return sorted(
            {
                float(means[configuration_key(row.reference, row.sampler)])
                for row in self.differences
                if configuration_key(row.loss, row.sampler) in of_group
            }
        )


def _markers_alone(filled: bool) -> list[Any]:
    """Make a handle for the legend that belongs to no group."""
    from matplotlib.lines import Line2D

    face = GREY if filled else "white"
    return [Line2D([], [], color=GREY, marker="o", linestyle="none", markerfacecolor=face)]


def _sampling(loss: Any, sampler: Any) -> str:
    """Name the sampling as the paper does, which counts weights in the loss as one of its own."""
    name, sampler = configuration_key(loss, sampler)
    has_weights = re.search(r"\bwce\b", name) is not None
    return "uniform + weights" if sampler == "uniform" and has_weights else sampler
