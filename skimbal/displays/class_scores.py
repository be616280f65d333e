"""The F1 score of each class."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted

from skimbal.displays._drawing import (
    BESIDE,
    AnyFigure,
    AxesLike,
    check_axes,
    check_classes,
    check_generator,
    check_known,
    check_labels_of_rows,
    color_of,
    count_confusion,
    f1_scores,
    marker_of,
    new_axes,
    require_matplotlib,
    show_names_as_they_are,
    width_of_text,
)
from skimbal.displays._study import Estimate, Pair, Study, check_study, pair_of, rows_by_pair
from skimbal.exceptions import ParameterError
from skimbal.typing import ArrayLike, ImagesLike, RandomState, is_integer, is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

__all__ = ["ClassScoresDisplay"]

_ONE_AXES = "The scores need one axes."
#: Most configurations that are drawn unless they are named.
_MOST = 6
#: Least share of the bootstrap samples that must hold a class with an interval. Two rows of a class
#: are absent from 13.5 % of the samples, and three from 5 %.
_LEAST_SHARE = 0.9


class _Predictor(Protocol):
    """A fitted classifier."""

    def predict(self, X: ImagesLike, /) -> np.ndarray:
        """Predict the class of each row."""


class ClassScoresDisplay:
    """F1 score of each class with its interval, for one or several configurations.

    Use :meth:`from_estimator`, :meth:`from_predictions` or :meth:`from_study` to make a display.
    All parameters are stored as attributes. Every method that draws raises ``ImportError`` without
    matplotlib: ``pip install matplotlib``.

    Parameters
    ----------
    scores : ndarray of shape (n_configurations, n_classes)
        F1 scores, in [0, 1], NaN for a class that was neither present nor predicted.
    low, high : ndarray of shape (n_configurations, n_classes)
        Ends of the intervals, in [0, 1], NaN for a class without an interval.
    display_labels : sequence of str
        Names of the classes.
    names : sequence of str, default=None
        Names of the configurations, for the legend. If None, there is no legend.
    confidence_level : float, default=0.95
        Confidence level of the intervals, dimensionless.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure of the axes.
    points_ : list of matplotlib Line2D
        The markers of each configuration.
    intervals_ : list of matplotlib LineCollection
        The intervals of each configuration.
    legend_ : matplotlib Legend or None
        The legend, if the configurations have names.

    See Also
    --------
    EmbeddingDisplay : The features behind the scores.
    LossStudyDisplay : Configurations by one score.

    Examples
    --------
    >>> from skimbal.displays import ClassScoresDisplay
    >>> y_true = ["healthy"] * 6 + ["ill"] * 2
    >>> y_pred = ["healthy"] * 5 + ["ill"] * 3
    >>> display = ClassScoresDisplay.from_predictions(y_true, y_pred, random_state=0)
    >>> display.scores.round(2).tolist()
    [[0.91, 0.8]]
    """

    ax_: "Axes"
    figure_: AnyFigure
    points_: "list[Line2D]"
    intervals_: "list[LineCollection]"
    legend_: "Legend | None"

    def __init__(
        self,
        scores: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        display_labels: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        confidence_level: float = 0.95,
    ) -> None:
        self.scores = scores
        self.low = low
        self.high = high
        self.display_labels = display_labels
        self.names = names
        self.confidence_level = confidence_level

    @classmethod
    def from_estimator(
        cls,
        estimator: _Predictor,
        X: ImagesLike,
        y: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        display_labels: Iterable[object] | None = None,
        n_bootstraps: int = 1000,
        confidence_level: float = 0.95,
        stratify: bool = False,
        random_state: RandomState = None,
        name: str | None = None,
        ax: AxesLike = None,
    ) -> "ClassScoresDisplay":
        """Draw the F1 scores of a fitted classifier.

        Parameters
        ----------
        estimator : estimator instance
            A fitted classifier.
        X : array-like of shape (n_samples, ...)
            Images as the classifier takes them.
        y : array-like of shape (n_samples,)
            True labels.
        labels : array-like of shape (n_classes,), default=None
            Labels whose scores are drawn, in this order. If None, all that the classifier knows or
            ``y`` holds, sorted.
        display_labels : array-like of shape (n_classes,), default=None
            Names of the classes in the same order. If None, the labels.
        n_bootstraps : int, default=1000
            Number of bootstrap samples, see :meth:`from_predictions`.
        confidence_level : float, default=0.95
            Confidence level of the intervals, dimensionless, in (0, 1).
        stratify : bool, default=False
            Whether each bootstrap sample has as many rows of each class as there are, for rows
            whose numbers of each class were chosen, as in :func:`skimbal.evaluation.evaluate`.
        random_state : int, RandomState instance or None, default=None
            Seed of the bootstrap.
        name : str, default=None
            Name for the legend. If None, there is no legend.
        ax : matplotlib Axes, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If the estimator has no ``predict``.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If X and y differ in length, or another parameter cannot be used.
        """
        require_matplotlib("ClassScoresDisplay.from_estimator")
        if not hasattr(estimator, "predict"):
            raise TypeError(
                f"estimator must be a fitted classifier with predict; got {estimator!r}."
            )
        check_is_fitted(estimator)
        y = check_labels_of_rows("y", y)
        check_consistent_length(X, y)
        if labels is None:
            labels = unique_labels(y, getattr(estimator, "classes_", y))
        check_classes(labels, display_labels)
        _check_bootstrap(n_bootstraps, confidence_level, stratify)
        check_axes(ax, 1, _ONE_AXES)
        return cls.from_predictions(
            y,
            estimator.predict(X),
            labels=labels,
            display_labels=display_labels,
            n_bootstraps=n_bootstraps,
            confidence_level=confidence_level,
            stratify=stratify,
            random_state=random_state,
            name=name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        display_labels: Iterable[object] | None = None,
        n_bootstraps: int = 1000,
        confidence_level: float = 0.95,
        stratify: bool = False,
        random_state: RandomState = None,
        name: str | None = None,
        ax: AxesLike = None,
    ) -> "ClassScoresDisplay":
        """Draw the F1 scores of predictions.

        The intervals are percentiles of a bootstrap over the rows. A sample without a row of a
        class is left out for the class. A class that is absent from more than 10 % of the samples
        has no interval. The intervals say how far the scores depend on these rows, not on the
        training.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples,)
            Predicted labels.
        labels : array-like of shape (n_classes,), default=None
            Labels whose scores are drawn, in this order. If None, all that occur, sorted.
        display_labels : array-like of shape (n_classes,), default=None
            Names of the classes in the same order. If None, the labels.
        n_bootstraps : int, default=1000
            Number of bootstrap samples.
        confidence_level : float, default=0.95
            Confidence level of the intervals, dimensionless, in (0, 1).
        stratify : bool, default=False
            Whether each bootstrap sample has as many rows of each class as there are, for rows
            whose numbers of each class were chosen, as in :func:`skimbal.evaluation.evaluate`.
        random_state : int, RandomState instance or None, default=None
            Seed of the bootstrap.
        name : str, default=None
            Name for the legend. If None, there is no legend.
        ax : matplotlib Axes, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display. A class without a row in ``y_true``, or with one or two of many, has
            no interval.

        Raises
        ------
        ValueError
            If the lengths differ, or a parameter cannot be used.

        References
        ----------
        Efron, B. and Tibshirani, R. J. (1993). An Introduction to the Bootstrap, chapter 13.
        Chapman & Hall.
        """
        require_matplotlib("ClassScoresDisplay.from_predictions")
        y_true = check_labels_of_rows("y_true", y_true)
        y_pred = check_labels_of_rows("y_pred", y_pred)
        check_consistent_length(y_true, y_pred)
        if labels is None:
            labels = unique_labels(y_true, y_pred)
        labels, display_labels = check_classes(labels, display_labels)
        _check_bootstrap(n_bootstraps, confidence_level, stratify)
        check_axes(ax, 1, _ONE_AXES)
        confusion = count_confusion(y_true, y_pred, labels)  # (n_all, n_all)
        rng = check_generator(random_state)
        drawn = _draw_confusions(confusion, n_bootstraps, stratify, rng)
        ends = _find_ends(drawn, confidence_level)  # (2, n_all)
        chosen = slice(len(labels))
        low, high = ends[:, np.newaxis, chosen]
        display = cls(
            f1_scores(confusion)[np.newaxis, chosen],
            low,
            high,
            display_labels,
            names=None if name is None else [name],
            confidence_level=confidence_level,
        )
        return display.plot(ax=ax)

    @classmethod
    def from_study(
        cls,
        study: Study,
        configurations: Iterable[tuple[str, str | None]] | None = None,
        *,
        ax: AxesLike = None,
    ) -> "ClassScoresDisplay":
        """Draw the F1 scores of configurations of a study, with its 95 % intervals.

        Parameters
        ----------
        study : fitted study
            A study of losses and samplers, such as :class:`skimbal.study.LossStudy`.
        configurations : sequence of (loss, sampler), default=None
            The configurations in the order of the legend. If None, the reference of the study and
            the best loss by ``study.scoring`` for each sampler, six configurations at most.
        ax : matplotlib Axes, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If the study is not a study, or ``ax`` is not an axes.
        ValueError
            If a configuration is not part of the study, or the study has no F1 scores by class.
        """
        require_matplotlib("ClassScoresDisplay.from_study")
        check_study(study)
        score_of = study.class_scores()
        for score in score_of.values():
            check_known("class_scores", score, study.score_names)
        known = rows_by_pair(study.estimates())
        if configurations is None:
            chosen = _reference_and_best(study, known)
        else:
            chosen = [pair_of(*pair) for pair in configurations]
        if not chosen:
            raise ParameterError("configurations", "at least one (loss, sampler)", chosen)
        for pair in chosen:
            check_known("configurations", pair, known)
        check_axes(ax, 1, _ONE_AXES)
        by_class = [rows_by_pair(study.estimates(score)) for score in score_of.values()]
        mean, low, high = (
            np.array([[getattr(rows[pair], field) for rows in by_class] for pair in chosen])
            for field in ("mean", "low", "high")
        )
        names = [f"{loss}, {sampler}" for loss, sampler in chosen]
        return cls(mean, low, high, list(score_of), names=names).plot(ax=ax)

    def plot(self, ax: AxesLike = None) -> "ClassScoresDisplay":
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. If None, a new figure. The legend stands to the right of the axes, for
            which a figure with ``layout="constrained"`` makes room.

        Returns
        -------
        self : ClassScoresDisplay
            The same display, with the artists as attributes.

        Raises
        ------
        ValueError
            If more than one axes is given.
        """
        require_matplotlib("ClassScoresDisplay.plot")
        panel = self._make_axes(ax)
        self._draw_scores(panel)
        n_classes = len(self.display_labels)
        for edge in range(n_classes - 1):
            panel.axhline(edge + 0.5, color="0.85", linewidth=0.8, zorder=0)
        panel.set_yticks(range(n_classes), [str(label) for label in self.display_labels])
        panel.set_ylim(n_classes - 0.5, -0.5)
        panel.set_xlim(-0.02, 1.02)
        panel.tick_params(axis="y", length=0)
        panel.set_ylabel("class")
        panel.set_xlabel(f"F1 (dimensionless) with {100 * self.confidence_level:g} % interval")
        panel.set_title("F1 of each class")
        self.legend_ = None if self.names is None else panel.legend(**BESIDE)
        show_names_as_they_are(panel)
        self.ax_ = panel
        self.figure_ = panel.figure
        return self

    def _make_axes(self, ax: AxesLike) -> "Axes":
        axes = check_axes(ax, 1, _ONE_AXES)
        if axes is None:
            n_configurations, n_classes = self.scores.shape
            height = 1.4 + n_classes * max(0.35, 0.2 + 0.15 * n_configurations)
            width = 4.2 + width_of_text(map(str, self.display_labels))
            if self.names is not None:
                width += 0.4 + width_of_text(self.names)
            axes = new_axes(1, 1, figsize=(width, height))
        panel: Axes = axes[0]
        return panel

    def _draw_scores(self, panel: "Axes") -> None:
        """Draw a marker and an interval for each class of each configuration."""
        n_configurations, n_classes = self.scores.shape
        self.points_, self.intervals_ = [], []
        for number in range(n_configurations):
            # The configurations are below each other within the row of a class, as in the legend.
            offset = (number - (n_configurations - 1) / 2) * 0.75 / n_configurations
            lines = np.arange(n_classes) + offset
            color = color_of(number)
            self.intervals_.append(
                panel.hlines(lines, self.low[number], self.high[number], color=color, linewidth=1.5)
            )
            self.points_ += panel.plot(
                self.scores[number],
                lines,
                linestyle="none",
                marker=marker_of(number),
                color=color,
                label=None if self.names is None else self.names[number],
            )


def _check_bootstrap(n_bootstraps: object, confidence_level: object, stratify: object) -> None:
    if not is_integer(n_bootstraps) or n_bootstraps < 1:
        raise ParameterError("n_bootstraps", "an integer of at least 1", n_bootstraps)
    if not is_number(confidence_level) or not 0 < confidence_level < 1:
        raise ParameterError(
            "confidence_level", "a number between 0 and 1, both excluded", confidence_level
        )
    if not isinstance(stratify, bool | np.bool_):
        raise ParameterError("stratify", "True or False", stratify)


def _draw_confusions(
    confusion: np.ndarray, n_bootstraps: int, stratify: object, rng: np.random.RandomState
) -> np.ndarray:
    """Return confusion matrices of bootstrap samples, of shape (n_bootstraps, n_all, n_all)."""
    # Rows that are drawn with replacement have multinomial counts.
    if not stratify:
        n = confusion.sum()
        drawn: np.ndarray = rng.multinomial(n, confusion.ravel() / n, size=n_bootstraps)
        return drawn.reshape(n_bootstraps, *confusion.shape)
    of_classes = [
        rng.multinomial(row.sum(), row / max(row.sum(), 1), n_bootstraps) for row in confusion
    ]
    return np.stack(of_classes, axis=1)


def _find_ends(drawn: np.ndarray, confidence_level: float) -> np.ndarray:
    """Return the ends of the intervals of F1, of shape (2, n_all), NaN where a class is rare."""
    tail = (1 - confidence_level) / 2
    is_present = drawn.sum(axis=2) > 0
    scores = f1_scores(drawn)
    ends = np.full((2, drawn.shape[1]), np.nan)
    for number in np.flatnonzero(is_present.mean(axis=0) >= _LEAST_SHARE):
        ends[:, number] = np.quantile(scores[is_present[:, number], number], [tail, 1 - tail])
    return ends


def _reference_and_best(study: Study, known: Mapping[Pair, Estimate]) -> list[Pair]:
    """Choose the references and the best loss of each sampler."""
    sign = 1 if study.greater_is_better(study.scoring) else -1
    references = dict.fromkeys(pair_of(row.reference, row.sampler) for row in study.differences())
    chosen: list[Pair] = []
    for sampler in dict.fromkeys(sampler for _, sampler in known):
        of_sampler = {pair: row.mean for pair, row in known.items() if pair[1] == sampler}
        best, _ = max(
            of_sampler.items(),
            key=lambda item: -np.inf if np.isnan(item[1]) else sign * item[1],
        )
        chosen += dict.fromkeys([*(pair for pair in references if pair[1] == sampler), best])
    return chosen[:_MOST]
