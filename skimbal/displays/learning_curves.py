"""Losses and scores over the epochs of a fit."""

import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skimbal.displays._drawing import (
    BESIDE,
    COLORS,
    GREY,
    LINES,
    MARKERS,
    check_axes,
    check_known,
    new_axes,
    require_matplotlib,
)

__all__ = ["LearningCurvesDisplay"]

#: What skorch records of an epoch besides losses and scores.
_BOOKKEEPING = re.compile(r"epoch|dur|batches|event_.*|.*_batch_count|.*_best")
_LOSSES = ("train_loss", "valid_loss")


class LearningCurvesDisplay:
    """Losses and scores of each epoch of training.

    Losses and scores have different scales and get an axes each, the losses above the scores. It
    is recommended to use :meth:`from_estimator` or :meth:`from_history`. All parameters are stored
    as attributes.

    Parameters
    ----------
    epochs : ndarray of shape (n_epochs,)
        Numbers of the epochs, from 1.
    losses : dict of str to ndarray of shape (n_epochs,)
        ``"train_loss"`` and ``"valid_loss"`` as far as they were recorded, dimensionless; NaN in
        an epoch without.
    scores : dict of str to ndarray of shape (n_epochs,)
        Scores, dimensionless; NaN in an epoch without.
    best_epoch : int, default=None
        Number of the epoch with the lowest validation loss; None if it was not recorded.

    Attributes
    ----------
    axes_ : ndarray of shape (1,) or (2,) of matplotlib Axes
        Those of the losses and, where there are any, of the scores.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure
        The figure that holds them.
    lines_ : dict of str to matplotlib Line2D
        The curve of each loss and score.
    best_ : list of matplotlib Line2D
        The vertical line at the best epoch of each axes; empty without a best epoch.

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
        cls, estimator: Any, *, scores: Sequence[str] | None = None, ax: Any = None
    ) -> "LearningCurvesDisplay":
        """Draw the training of a fitted classifier.

        Parameters
        ----------
        estimator : estimator instance
            A fitted classifier of this package, a pipeline that ends in one, or a search whose
            best estimator is one of both.
        scores : sequence of str, default=None
            Names of the recorded scores to draw, none if empty; if None, all of them.
        ax : matplotlib Axes or array-like of two of them, default=None
            Where to draw: one axes for losses alone, else two. If None, a new figure.

        Returns
        -------
        display : LearningCurvesDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        TypeError
            If the estimator keeps no ``history_``.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If a score is not known, or the number of axes is wrong.
        """
        require_matplotlib("LearningCurvesDisplay.from_estimator")
        last = estimator
        while not hasattr(type(last), "history_") and not hasattr(last, "history_"):
            if hasattr(last, "steps"):
                last = last.steps[-1][1]
            elif hasattr(last, "best_estimator_"):
                last = last.best_estimator_
            elif hasattr(last, "refit"):
                raise NotFittedError(
                    f"{type(last).__name__} has no best_estimator_ whose training could be drawn; "
                    "call fit, with refit=True."
                )
            else:
                raise TypeError(
                    "estimator must be a fitted CNN2DClassifier or CNN3DClassifier, a pipeline "
                    "that ends in one, or a search whose best_estimator_ is one; "
                    f"{type(last).__name__} keeps no history_ of its training."
                )
        check_is_fitted(last)
        return cls.from_history(last.history_, scores=scores, ax=ax)

    @classmethod
    def from_history(
        cls,
        history: Sequence[Mapping[str, Any]],
        *,
        scores: Sequence[str] | None = None,
        ax: Any = None,
    ) -> "LearningCurvesDisplay":
        """Draw a history of skorch.

        Parameters
        ----------
        history : skorch.history.History or list of dict
            One mapping for each epoch, with ``"train_loss"`` and perhaps ``"valid_loss"``. Other
            numbers, such as those of ``EpochScoring``, are scores, but for the times, counts and
            events that skorch records.
        scores : sequence of str, default=None
            Names of the recorded scores to draw, none if empty; if None, all of them.
        ax : matplotlib Axes or array-like of two of them, default=None
            Where to draw: one axes for losses alone, else two. If None, a new figure.

        Returns
        -------
        display : LearningCurvesDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        TypeError
            If the history is no list of mappings.
        ValueError
            If there is no epoch or no loss, a score is not known, or the number of axes is wrong.
        """
        require_matplotlib("LearningCurvesDisplay.from_history")
        if not isinstance(history, Sequence) or not all(isinstance(e, Mapping) for e in history):
            raise TypeError(
                "history must be a skorch History or a list with a dict for each epoch, got "
                f"{type(history).__name__}."
            )
        if not history:
            raise ValueError("history holds no epoch; train for at least one.")
        curves: dict[str, np.ndarray] = {}
        for number, epoch in enumerate(history):
            for key, value in epoch.items():
                is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
                if is_number and not _BOOKKEEPING.fullmatch(key):
                    curves.setdefault(key, np.full(len(history), np.nan))[number] = float(value)
        losses = {name: curves.pop(name) for name in _LOSSES if name in curves}
        if not losses:
            raise ValueError(
                f"history holds neither train_loss nor valid_loss, only {sorted(history[0])}."
            )
        if scores is not None:
            if isinstance(scores, str):
                raise ValueError(
                    f"scores must be a list of names, got {scores!r}; use [{scores!r}]."
                )
            for score in scores:
                check_known("scores", score, curves)
            curves = {score: curves[score] for score in scores}
        epochs = np.array([epoch.get("epoch", i) for i, epoch in enumerate(history, start=1)])
        best_epoch = None
        valid_loss = losses.get("valid_loss")
        if (
            valid_loss is not None
            and np.isfinite(valid_loss).any()
            and any("valid_loss_best" in epoch for epoch in history)
        ):
            # The records say which epoch was the best so far of its call of fit or partial_fit;
            # the lowest is the best of all of them.
            best_epoch = int(epochs[np.nanargmin(valid_loss)])
        return cls(epochs, losses, curves, best_epoch=best_epoch).plot(ax=ax)

    def plot(self, ax: Any = None) -> "LearningCurvesDisplay":
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of two of them, default=None
            Where to draw: one axes for losses alone, else two. If None, a new figure. The legends
            stand to the right of the axes, for which a figure with ``layout="constrained"`` makes
            room.

        Returns
        -------
        self : LearningCurvesDisplay
            The same display, with the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        ValueError
            If the number of axes is wrong.
        """
        require_matplotlib("LearningCurvesDisplay.plot")
        from matplotlib.ticker import MaxNLocator

        panels = [("loss (dimensionless)", self.losses)]
        if self.scores:
            panels.append(("score (dimensionless)", self.scores))
        axes = check_axes(ax, len(panels), "losses and scores need an axes each")
        is_new = axes is None
        if axes is None:
            axes = new_axes(len(panels), 1, figsize=(7.0, 1.0 + 2.4 * len(panels)), sharex=True)
        self.lines_ = {}
        self.best_: list[Any] = []
        # A marker on each of many epochs would hide the lines.
        every = max(1, len(self.epochs) // 10)
        for panel, (label, curves) in zip(axes, panels, strict=True):
            for number, (name, values) in enumerate(curves.items()):
                (self.lines_[name],) = panel.plot(
                    self.epochs,
                    values,
                    color=COLORS[number % len(COLORS)],
                    linestyle=LINES[number % len(LINES)],
                    marker=MARKERS[number % len(MARKERS)],
                    markevery=every,
                    markersize=4,
                    label=name,
                )
            if self.best_epoch is not None:
                self.best_.append(
                    panel.axvline(
                        self.best_epoch,
                        color=GREY,
                        linewidth=1,
                        zorder=0,
                        label="" if self.best_ else f"lowest valid_loss\n(epoch {self.best_epoch})",
                    )
                )
            panel.set_ylabel(label)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.legend(**BESIDE)
        axes[0].set_title("Learning curves")
        # New axes share theirs.
        for panel in axes[-1:] if is_new else axes:
            panel.set_xlabel("epoch")
        self.axes_ = axes
        self.ax_ = axes[0]
        self.figure_ = axes[0].figure
        return self
