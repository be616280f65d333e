"""The F1 score of each class."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted

from skimbal.displays._drawing import (
    BESIDE,
    COLORS,
    MARKERS,
    check_axes,
    check_classes,
    check_generator,
    check_known,
    check_labels_of_rows,
    check_study,
    configuration_key,
    count_confusion,
    f1_scores,
    new_axes,
    require_matplotlib,
    width_of_text,
)

__all__ = ["ClassScoresDisplay"]


class ClassScoresDisplay:
    """F1 score of each class with its interval, for one or several configurations.

    It is recommended to use :meth:`from_estimator`, :meth:`from_predictions` or
    :meth:`from_study`. All parameters are stored as attributes.

    Parameters
    ----------
    scores : ndarray of shape (n_configurations, n_classes)
        F1 scores, in [0, 1]; NaN for a class that was neither present nor predicted.
    low, high : ndarray of shape (n_configurations, n_classes)
        Ends of the intervals, in [0, 1]; NaN where there is none.
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
        The figure that holds it.
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
        estimator: Any,
        X: Any,
        y: Any,
        *,
        labels: Any = None,
        display_labels: Any = None,
        n_bootstraps: int = 1000,
        confidence_level: float = 0.95,
        random_state: Any = None,
        name: str | None = None,
        ax: Any = None,
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
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
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
                "estimator must be a fitted classifier with predict, got "
                f"{type(estimator).__name__}."
            )
        check_is_fitted(estimator)
        y = check_labels_of_rows("y", y)
        check_consistent_length(X, y)
        if labels is None:
            labels = unique_labels(y, *([estimator.classes_] * hasattr(estimator, "classes_")))
        check_classes(labels, display_labels)
        _check_bootstrap(n_bootstraps, confidence_level)
        check_axes(ax, 1, "the scores need one axes")
        return cls.from_predictions(
            y,
            estimator.predict(X),
            labels=labels,
            display_labels=display_labels,
            n_bootstraps=n_bootstraps,
            confidence_level=confidence_level,
            random_state=random_state,
            name=name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        labels: Any = None,
        display_labels: Any = None,
        n_bootstraps: int = 1000,
        confidence_level: float = 0.95,
        random_state: Any = None,
        name: str | None = None,
        ax: Any = None,
    ) -> "ClassScoresDisplay":
        """Draw the F1 scores of predictions.

        The intervals are percentiles of a bootstrap over the rows, drawn class by class: each
        bootstrap sample has as many rows of a true class as there are, so that no rare class
        vanishes from it. They say how far the scores depend on these rows, not on the training.

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
        random_state : int, RandomState instance or None, default=None
            Seed of the bootstrap.
        name : str, default=None
            Name for the legend. If None, there is no legend.
        ax : matplotlib Axes, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display. A class without a row in ``y_true`` has no interval.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
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
        _check_bootstrap(n_bootstraps, confidence_level)
        check_axes(ax, 1, "the scores need one axes")
        rng = check_generator(random_state)
        confusion = count_confusion(y_true, y_pred, labels)  # (n_all, n_all)
        n_true = confusion.sum(axis=1)
        # Rows of one class that are drawn with replacement have multinomial counts.
        drawn = np.stack(
            [
                rng.multinomial(n, row / max(n, 1), size=n_bootstraps)
                for n, row in zip(n_true, confusion, strict=True)
            ],
            axis=1,
        )  # (n_bootstraps, n_all, n_all)
        tail = (1 - confidence_level) / 2
        low, high = np.quantile(f1_scores(drawn), [tail, 1 - tail], axis=0)  # (n_all,)
        for end in (low, high):
            end[n_true == 0] = np.nan
        chosen = slice(len(labels))
        display = cls(
            f1_scores(confusion)[np.newaxis, chosen],
            low[np.newaxis, chosen],
            high[np.newaxis, chosen],
            display_labels,
            names=None if name is None else [name],
            confidence_level=confidence_level,
        )
        return display.plot(ax=ax)

    @classmethod
    def from_study(
        cls,
        study: Any,
        configurations: Iterable[tuple[Any, Any]] | None = None,
        *,
        ax: Any = None,
    ) -> "ClassScoresDisplay":
        """Draw the F1 scores of configurations of a study, with its 95 % intervals.

        Parameters
        ----------
        study : fitted study
            A study of losses and samplers, with ``scoring``, ``score_names``, ``class_names``,
            ``greater_is_better``, ``estimates`` and ``differences``.
        configurations : sequence of (loss, sampler), default=None
            What is drawn, in this order. If None, for each sampler the reference of the study and
            the best loss by ``study.scoring``, six configurations at most.
        ax : matplotlib Axes, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        TypeError
            If the study is none.
        ValueError
            If a configuration is not part of the study, or the study has no F1 scores by class.
        """
        require_matplotlib("ClassScoresDisplay.from_study")
        check_study(study)
        score_names = [f"f1[{name}]" for name in study.class_names]
        for score in score_names:
            check_known("the study's scores of classes", score, study.score_names)
        known = {configuration_key(row.loss, row.sampler): row for row in study.estimates()}
        if configurations is None:
            chosen = _reference_and_best(study, known)
        else:
            chosen = [configuration_key(*pair) for pair in configurations]
        if not chosen:
            raise ValueError("configurations must hold at least one (loss, sampler), got none.")
        for pair in chosen:
            check_known("configurations", pair, known)
        check_axes(ax, 1, "the scores need one axes")
        by_class = [
            {configuration_key(row.loss, row.sampler): row for row in study.estimates(score)}
            for score in score_names
        ]
        mean, low, high = (
            np.array([[getattr(rows[pair], field) for rows in by_class] for pair in chosen])
            for field in ("mean", "low", "high")
        )
        names = [f"{loss}, {sampler}" for loss, sampler in chosen]
        return cls(mean, low, high, list(study.class_names), names=names).plot(ax=ax)

    def plot(self, ax: Any = None) -> "ClassScoresDisplay":
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
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        ValueError
            If more than one axes is given.
        """
        require_matplotlib("ClassScoresDisplay.plot")
        n_configurations, n_classes = self.scores.shape
        axes = check_axes(ax, 1, "the scores need one axes")
        if axes is None:
            height = 1.4 + n_classes * max(0.35, 0.2 + 0.15 * n_configurations)
            width = 4.2 + width_of_text(map(str, self.display_labels))
            if self.names is not None:
                width += 0.4 + width_of_text(self.names)
            axes = new_axes(1, 1, figsize=(width, height))
        ax = axes[0]
        self.points_, self.intervals_ = [], []
        for number in range(n_configurations):
            # Side by side within the row of a class, in the order of the legend from above.
            offset = (number - (n_configurations - 1) / 2) * 0.75 / n_configurations
            lines = np.arange(n_classes) + offset
            color = COLORS[number % len(COLORS)]
            self.intervals_.append(
                ax.hlines(lines, self.low[number], self.high[number], color=color, linewidth=1.5)
            )
            self.points_ += ax.plot(
                self.scores[number],
                lines,
                linestyle="none",
                marker=MARKERS[number % len(MARKERS)],
                color=color,
                label=None if self.names is None else self.names[number],
            )
        for edge in range(n_classes - 1):
            ax.axhline(edge + 0.5, color="0.85", linewidth=0.8, zorder=0)
        ax.set_yticks(range(n_classes), [str(label) for label in self.display_labels])
        ax.set_ylim(n_classes - 0.5, -0.5)
        ax.set_xlim(-0.02, 1.02)
        ax.tick_params(axis="y", length=0)
        ax.set_ylabel("class")
        ax.set_xlabel(f"F1 (dimensionless) with {100 * self.confidence_level:g} % interval")
        ax.set_title("F1 of each class")
        self.legend_ = None if self.names is None else ax.legend(**BESIDE)
        self.ax_ = ax
        self.figure_ = ax.figure
        return self


def _check_bootstrap(n_bootstraps: Any, confidence_level: Any) -> None:
    if isinstance(n_bootstraps, bool) or not hasattr(n_bootstraps, "__index__") or n_bootstraps < 1:
        raise ValueError(f"n_bootstraps must be an integer of at least 1, got {n_bootstraps!r}.")
    if not isinstance(confidence_level, Real) or not 0 < float(confidence_level) < 1:
        raise ValueError(
            f"confidence_level must lie between 0 and 1, both excluded, got {confidence_level!r}."
        )


def _reference_and_best(study: Any, known: Mapping[tuple[str, str], Any]) -> list[tuple[str, str]]:
    sign = 1 if study.greater_is_better(study.scoring) else -1
    references = {
        configuration_key(row.reference, row.sampler)[::-1]: None for row in study.differences()
    }  # (sampler, loss)
    chosen: list[tuple[str, str]] = []
    by_sampler: dict[str, list[Any]] = {}
    for row in known.values():
        by_sampler.setdefault(configuration_key(row.loss, row.sampler)[1], []).append(row)
    for sampler, rows in by_sampler.items():
        best = max(rows, key=lambda row: -np.inf if np.isnan(row.mean) else sign * row.mean)
        pairs = [(loss, other) for other, loss in references if other == sampler]
        chosen += dict.fromkeys([*pairs, configuration_key(best.loss, sampler)])
    return chosen[:6]
