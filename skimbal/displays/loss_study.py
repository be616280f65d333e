"""Configurations of a study with their intervals."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from skimbal.displays._drawing import (
    BESIDE,
    GREY,
    AnyFigure,
    AxesLike,
    check_axes,
    check_known,
    color_of,
    marker_of,
    new_axes,
    require_matplotlib,
    show_names_as_they_are,
    width_of_text,
)
from skimbal.displays._study import (
    Difference,
    Estimate,
    Pair,
    Study,
    check_study,
    pair_of,
    rows_by_pair,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

__all__ = ["LossStudyDisplay"]

_Row = TypeVar("_Row", bound=Estimate)

_KINDS = ("scores", "differences")
_ONE_AXES = "The study needs one axes."
#: Headings that come first.
_ORDER = {"uniform": 0, "uniform + weights": 1, "balanced": 2}


class LossStudyDisplay:
    """Losses by score with 95 % intervals, compared at the same sampling.

    The picture has a row for each configuration, with the best on top. The rows are grouped by
    sampling: uniform, uniform with class weights in the loss, balanced, and any other. A vertical
    line through a group marks the score of the reference. Use :meth:`from_study` to make a display.
    All parameters are stored as attributes. Every method that draws raises ``ImportError`` without
    matplotlib: ``pip install matplotlib``.

    Parameters
    ----------
    estimates : list of named tuples
        One for each configuration, with ``loss``, ``sampler``, ``mean``, and the ends of its
        interval, ``low`` and ``high``, all in the units of the score. The ends are NaN without an
        interval.
    differences : list of named tuples
        Paired differences to the reference at the same sampler, with ``loss``, ``sampler``,
        ``reference`` (name of the loss that is subtracted), ``mean``, ``low``, ``high`` in the
        units of the score, and ``p_value``.
    samplings : mapping of (loss, sampler) to str, default=None
        The sampling of each configuration, which names its group. If None, the sampler.
    score_name : str, default="score"
        Name of the score.
    greater_is_better : bool, default=True
        Whether a high score is a good score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure of the axes.
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

    ax_: "Axes"
    figure_: AnyFigure
    points_: "dict[Pair, Line2D]"
    intervals_: "dict[Pair, Line2D]"
    references_: "list[Line2D]"
    legend_: "Legend"

    def __init__(
        self,
        estimates: Sequence[Estimate],
        differences: Sequence[Difference],
        *,
        samplings: Mapping[tuple[str, str], str] | None = None,
        score_name: str = "score",
        greater_is_better: bool = True,
    ) -> None:
        self.estimates = estimates
        self.differences = differences
        self.samplings = samplings
        self.score_name = score_name
        self.greater_is_better = greater_is_better

    @classmethod
    def from_study(
        cls,
        study: Study,
        *,
        scoring: str | None = None,
        kind: str = "scores",
        ax: AxesLike = None,
    ) -> "LossStudyDisplay":
        """Draw a fitted study of losses and samplers.

        Parameters
        ----------
        study : fitted study
            A study of losses and samplers, such as :class:`skimbal.study.LossStudy`.
        scoring : str, default=None
            Name of the score. If None, the score that ranks in the study.
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
        TypeError
            If the study is not a study, or ``ax`` is not an axes.
        ValueError
            If the score or the kind is not known, or the study has no differences to draw.
        """
        require_matplotlib("LossStudyDisplay.from_study")
        check_study(study)
        check_known("kind", kind, _KINDS)
        scoring = study.scoring if scoring is None else scoring
        check_known("scoring", scoring, study.score_names)
        check_axes(ax, 1, _ONE_AXES)
        display = cls(
            study.estimates(scoring),
            study.differences(scoring),
            samplings={(c.loss, c.sampler): c.sampling for c in study.configurations},
            score_name=study.title(scoring),
            greater_is_better=bool(study.greater_is_better(scoring)),
        )
        return display.plot(kind=kind, ax=ax)

    def plot(self, kind: str = "scores", *, ax: AxesLike = None) -> "LossStudyDisplay":
        """Draw the scores or their differences.

        Parameters
        ----------
        kind : {"scores", "differences"}, default="scores"
            Whether to draw the scores, or their paired differences to the reference at the same
            sampling. The marker of a difference is filled where the p-value is below 0.05.
        ax : matplotlib Axes, default=None
            Where to draw. If None, a new figure. The legend is to the right of the axes. A figure
            with ``layout="constrained"`` makes room for it.

        Returns
        -------
        self : LossStudyDisplay
            The same display, with the artists as attributes.

        Raises
        ------
        TypeError
            If ``ax`` is not an axes.
        ValueError
            If the kind is not known, or there is nothing of that kind.
        """
        require_matplotlib("LossStudyDisplay.plot")
        check_known("kind", kind, _KINDS)
        self.points_, self.intervals_, self.references_ = {}, {}, []
        if kind == "scores":
            return self._plot_scores(ax)
        return self._plot_differences(ax)

    def _plot_scores(self, ax: AxesLike) -> "LossStudyDisplay":
        _check_rows("scores", self.estimates)
        groups = self._group(self.estimates)
        panel = self._make_axes(groups, ax)
        self._draw_rows(panel, groups, filled=set(map(_pair, self.estimates)))
        means = rows_by_pair(self.estimates)
        start = 0.5
        for members in groups.values():
            of_group = set(map(_pair, members))
            references = {
                means[pair_of(row.reference, row.sampler)].mean
                for row in self.differences
                if _pair(row) in of_group
            }
            for mean in sorted(references):
                self.references_ += panel.plot(
                    [mean, mean],
                    [start, start + len(members)],
                    color=GREY,
                    linestyle="--",
                    zorder=1,
                )
            start += 1 + len(members)
        better = "higher" if self.greater_is_better else "lower"
        panel.set_xlabel(f"{self.score_name} ({better} is better)\nmean and 95 % interval")
        panel.set_title(f"{self.score_name} at matched sampling")
        name = f"reference ({self._name_references()})\nat the same sampling"
        return self._finish(panel, [(line, name) for line in self.references_[:1]])

    def _plot_differences(self, ax: AxesLike) -> "LossStudyDisplay":
        rows = [row for row in self.differences if str(row.loss) != str(row.reference)]
        _check_rows("differences", rows)
        groups = self._group(rows)
        panel = self._make_axes(groups, ax)
        self._draw_rows(panel, groups, filled={_pair(row) for row in rows if row.p_value < 0.05})
        zero = panel.axvline(0, color=GREY, linestyle="--", zorder=1)
        self.references_ = [zero]
        references = self._name_references()
        better = "right" if self.greater_is_better else "left"
        panel.set_xlabel(
            f"difference in {self.score_name} ({better} is better)\nmean and 95 % interval"
        )
        panel.set_title(f"difference to {references} at matched sampling")
        named = [(zero, f"no difference\nto {references}")]
        named += [
            (_marker_alone(GREY), "p < 0.05"),
            (_marker_alone("white"), "p ≥ 0.05\nor unknown"),
        ]
        return self._finish(panel, named)

    def _group(self, rows: Iterable[_Row]) -> dict[str, list[_Row]]:
        """Sort by sampling, then from the best to the worst."""
        samplings = self.samplings or {}
        groups: dict[str, list[_Row]] = {}
        for row in rows:
            pair = _pair(row)
            groups.setdefault(samplings.get(pair, pair[1]), []).append(row)
        sign = -1 if self.greater_is_better else 1
        return {
            sampling: sorted(
                groups[sampling], key=lambda row: (bool(np.isnan(row.mean)), sign * row.mean)
            )
            for sampling in sorted(groups, key=lambda sampling: _ORDER.get(sampling, len(_ORDER)))
        }

    def _make_axes(self, groups: dict[str, list[_Row]], ax: AxesLike) -> "Axes":
        """Return the axes, with the names of the groups and their members as ticks."""
        ticks = [
            text
            for sampling, members in groups.items()
            for text in (sampling, *(str(row.loss) for row in members))
        ]
        axes = check_axes(ax, 1, _ONE_AXES)
        if axes is None:
            size = (5.6 + width_of_text(ticks), 1.2 + 0.26 * len(ticks))
            axes = new_axes(1, 1, figsize=size)
        panel: Axes = axes[0]
        panel.set_yticks(range(len(ticks)), ticks)
        panel.set_ylim(len(ticks) - 0.5, -0.6)
        panel.tick_params(axis="y", length=0)
        heading = 0
        for members in groups.values():
            panel.get_yticklabels()[heading].set_fontweight("bold")
            if heading:
                panel.axhline(heading - 0.5, color="0.85", linewidth=0.8, zorder=0)
            heading += 1 + len(members)
        return panel

    def _draw_rows(
        self, panel: "Axes", groups: dict[str, list[_Row]], filled: Collection[Pair]
    ) -> None:
        """Draw a marker and an interval for each row below the heading of its group."""
        # A group has the same colour in both kinds of picture.
        numbers = {sampling: number for number, sampling in enumerate(self._group(self.estimates))}
        heading = 0
        for sampling, members in groups.items():
            color = color_of(numbers[sampling])
            for line, row in enumerate(members, start=heading + 1):
                key = (str(row.loss), sampling)
                (self.intervals_[key],) = panel.plot(
                    [row.low, row.high], [line, line], linestyle="-", color=color
                )
                (self.points_[key],) = panel.plot(
                    row.mean,
                    line,
                    linestyle="none",
                    marker=marker_of(numbers[sampling]),
                    markersize=7,
                    color=color,
                    markerfacecolor=color if _pair(row) in filled else "white",
                )
            heading += 1 + len(members)

    def _name_references(self) -> str:
        return ", ".join(sorted({str(row.reference) for row in self.differences}))

    def _finish(self, panel: "Axes", named: "Sequence[tuple[Line2D, str]]") -> "LossStudyDisplay":
        """Draw the legend and store the artists."""
        self.legend_ = panel.legend(
            [line for line, _ in named], [name for _, name in named], **BESIDE
        )
        show_names_as_they_are(panel)
        self.ax_ = panel
        self.figure_ = panel.figure
        return self


def _check_rows(kind: str, rows: Sequence[Estimate]) -> None:
    if not rows:
        raise ValueError(
            f"kind must be a kind of rows that the study has; got {kind!r}, and there is no such "
            "row. Differences need a second loss with the same sampler."
        )


def _pair(row: Estimate) -> Pair:
    return pair_of(row.loss, row.sampler)


def _marker_alone(face: str) -> "Line2D":
    """Make a handle for the legend that belongs to no group."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=GREY, marker="o", linestyle="none", markerfacecolor=face)
