"""Losses and scores over the epochs of a fit."""

import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skimbal.displays._drawing import (
    BESIDE,
    GREY,
    AnyFigure,
    AxesLike,
    check_axes,
    check_known,
    color_of,
    line_of,
    marker_of,
    new_axes,
    require_matplotlib,
    show_names_as_they_are,
)
from skimbal.exceptions import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["LearningCurvesDisplay"]

#: Records of skorch that are neither losses nor scores.
_BOOKKEEPING = re.compile(
    r"epoch|dur|batches|event_.*|.*_batch_count|predicted_class_count|skipped_step_count|.*_best"
)
_LOSSES = ("train_loss", "valid_loss")


class LearningCurvesDisplay:
    """Losses and scores of each epoch of training.

    Losses and scores have different scales and different axes, the losses above the scores. Use
    :meth:`from_estimator` or :meth:`from_history` to make a display. All parameters are stored as
    attributes. Every method that draws raises ``ImportError`` without matplotlib:
    ``pip install matplotlib``.

    Parameters
    ----------
    epochs : ndarray of shape (n_epochs,)
        Numbers of the epochs, from 1.
    losses : dict of str to ndarray of shape (n_epochs,)
        ``"train_loss"`` and ``"valid_loss"`` if they were recorded, dimensionless, NaN in an epoch
        without the loss.
    scores : dict of str to ndarray of shape (n_epochs,)
        Scores, dimensionless, NaN in an epoch without the score.
    best_epoch : int, default=None
        Number of the epoch with the lowest validation loss. None if it was not recorded.

    Attributes
    ----------
    axes_ : ndarray of shape (1,) or (2,) of matplotlib Axes
        The axes of the losses, and the axes of the scores if there are scores.
    ax_ : matplotlib Axes
        The axes of the losses.
    figure_ : matplotlib Figure
        The figure of the axes.
    lines_ : dict of str to matplotlib Line2D
        The curve of each loss and score.
    best_ : list of matplotlib Line2D
        The vertical line at the best epoch in each axes, empty without a best epoch.

    See Also
    --------
    ClassScoresDisplay : Scores of each class after training.

    Examples
    --------
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> from skimbal.displays import LearningCurvesDisplay
    >>> data = load_imbalanced_digits()
    >>> clf = CNN2DClassifier(max_epochs=3, train_split=0.2, random_state=0)
    >>> clf.fit(data.X_train, data.y_train)
    CNN2DClassifier(max_epochs=3, random_state=0, train_split=0.2)
    >>> display = LearningCurvesDisplay.from_estimator(clf)
    >>> list(display.lines_)
    ['train_loss', 'valid_loss', 'valid_acc']
    """

    axes_: np.ndarray
    ax_: "Axes"
    figure_: AnyFigure
    lines_: "dict[str, Line2D]"
    best_: "list[Line2D]"

    def __init__(
        self,
        epochs: np.ndarray,
        losses: dict[str, np.ndarray],
        scores: dict[str, np.ndarray],
        *,
        best_epoch: int | None = None,
    ) -> None:
        self.epochs = epochs
        self.losses = losses
        self.scores = scores
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(
        cls, estimator: object, *, scores: Sequence[str] | None = None, ax: AxesLike = None
    ) -> "LearningCurvesDisplay":
        """Draw the training of a fitted classifier.

        Parameters
        ----------
        estimator : estimator instance
            A fitted classifier of this package, a pipeline that ends in a classifier, or a search
            whose best estimator is such a classifier or pipeline.
        scores : sequence of str, default=None
            Names of the recorded scores to draw. If None, all of them.
        ax : matplotlib Axes or array-like of two Axes, default=None
            Where to draw: one axes for losses alone, else two. If None, a new figure.

        Returns
        -------
        display : LearningCurvesDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If the estimator keeps no ``history_``.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If a score is not known, or the number of axes is wrong.
        """
        require_matplotlib("LearningCurvesDisplay.from_estimator")
        last = _trained_part(estimator)
        check_is_fitted(last)
        return cls.from_history(last.history_, scores=scores, ax=ax)

    @classmethod
    def from_history(
        cls,
        history: Sequence[Mapping[str, object]],
        *,
        scores: Sequence[str] | None = None,
        ax: AxesLike = None,
    ) -> "LearningCurvesDisplay":
        """Draw a history of skorch.

        Parameters
        ----------
        history : skorch.history.History or list of dict
            One mapping for each epoch, with ``"train_loss"`` and perhaps ``"valid_loss"``. Other
            numbers, such as the records of ``EpochScoring``, are scores. The times, counts and
            events that skorch records are left out.
        scores : sequence of str, default=None
            Names of the recorded scores to draw. If None, all of them.
        ax : matplotlib Axes or array-like of two Axes, default=None
            Where to draw: one axes for losses alone, else two. If None, a new figure.

        Returns
        -------
        display : LearningCurvesDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If the history is not a list of mappings.
        ValueError
            If there is no epoch or no loss, a score is not known, or the number of axes is wrong.
        """
        require_matplotlib("LearningCurvesDisplay.from_history")
        curves = _curves_of(history)
        losses = {name: curves.pop(name) for name in _LOSSES if name in curves}
        if not losses:
            raise ParameterError(
                "history", f"a record of {' or '.join(_LOSSES)}", sorted(history[0])
            )
        if isinstance(scores, str):
            raise ParameterError("scores", "a list of names", scores, f"Use [{scores!r}].")
        if scores is not None:
            for score in scores:
                check_known("scores", score, curves)
            curves = {score: curves[score] for score in scores}
        epochs = np.array([epoch.get("epoch", i) for i, epoch in enumerate(history, start=1)])
        best_epoch = None
        valid_loss = losses.get("valid_loss", np.array([np.nan]))
        if np.isfinite(valid_loss).any() and any("valid_loss_best" in epoch for epoch in history):
            best_epoch = int(epochs[np.nanargmin(valid_loss)])
        return cls(epochs, losses, curves, best_epoch=best_epoch).plot(ax=ax)

    def plot(self, ax: AxesLike = None) -> "LearningCurvesDisplay":
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of two Axes, default=None
            Where to draw: one axes for losses alone, else two. If None, a new figure. The legends
            are to the right of the axes. A figure with ``layout="constrained"`` makes room for
            them.

        Returns
        -------
        self : LearningCurvesDisplay
            The same display, with the artists as attributes.

        Raises
        ------
        ValueError
            If the number of axes is wrong.
        """
        require_matplotlib("LearningCurvesDisplay.plot")
        from matplotlib.ticker import MaxNLocator

        panels = {"loss (dimensionless)": self.losses}
        if self.scores:
            panels["score (dimensionless)"] = self.scores
        axes = check_axes(ax, len(panels), "Losses and scores need an axes each.")
        is_new = axes is None
        if axes is None:
            axes = new_axes(len(panels), 1, figsize=(7.0, 1.0 + 2.4 * len(panels)), sharex=True)
        self.lines_, self.best_ = {}, []
        for panel, (label, curves) in zip(axes, panels.items(), strict=True):
            self._draw_curves(panel, curves)
            panel.set_ylabel(label)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.legend(**BESIDE)
            show_names_as_they_are(panel)
        axes[0].set_title("Learning curves")
        # New axes share the label of the last.
        for panel in axes[-1:] if is_new else axes:
            panel.set_xlabel("epoch")
        self.axes_ = axes
        self.ax_ = axes[0]
        self.figure_ = axes[0].figure
        return self

    def _draw_curves(self, panel: "Axes", curves: Mapping[str, np.ndarray]) -> None:
        """Draw the curves of one axes, and a line at the best epoch."""
        # A marker on each of many epochs would hide the lines.
        every = max(1, len(self.epochs) // 10)
        for number, (name, values) in enumerate(curves.items()):
            (self.lines_[name],) = panel.plot(
                self.epochs,
                values,
                color=color_of(number),
                linestyle=line_of(number),
                marker=marker_of(number),
                markevery=every,
                markersize=4,
                label=name,
            )
        if self.best_epoch is not None:
            label = "" if self.best_ else f"lowest valid_loss\n(epoch {self.best_epoch})"
            self.best_.append(
                panel.axvline(self.best_epoch, color=GREY, linewidth=1, zorder=0, label=label)
            )


def _trained_part(estimator: object) -> Any:
    """Return the estimator that keeps a history: the last step, or the best of a search."""
    while not hasattr(type(estimator), "history_") and not hasattr(estimator, "history_"):
        if hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "refit"):
            raise NotFittedError(
                f"estimator must be a fitted search with refit=True; got {estimator!r}, which has "
                "no best_estimator_. Call fit."
            )
        else:
            raise TypeError(
                "estimator must be a fitted CNN2DClassifier or CNN3DClassifier, a pipeline that "
                "ends in a classifier, or a search whose best_estimator_ is a classifier; got "
                f"{estimator!r}, which keeps no history_ of its training."
            )
    return estimator


def _curves_of(history: Sequence[Mapping[str, object]]) -> dict[str, np.ndarray]:
    """Collect the numbers of all epochs by name, NaN in an epoch without the number."""
    if not isinstance(history, Sequence) or not all(isinstance(e, Mapping) for e in history):
        raise TypeError(
            "history must be a skorch History or a list with a dict for each epoch; got "
            f"{history!r}."
        )
    if not history:
        raise ParameterError("history", "a list of at least one epoch", history)
    curves: dict[str, np.ndarray] = {}
    for number, epoch in enumerate(history):
        for key, value in epoch.items():
            is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
            if is_number and not _BOOKKEEPING.fullmatch(key):
                curves.setdefault(key, np.full(len(history), np.nan))[number] = value
    return curves
