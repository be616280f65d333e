"""Pictures as scikit-learn Display objects: learning curves, features, studies, class scores."""

import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix
from sklearn.utils import (
    assert_all_finite,
    check_array,
    check_consistent_length,
    check_random_state,
    column_or_1d,
)
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted

__all__ = ["ClassScoresDisplay", "EmbeddingDisplay", "LearningCurvesDisplay", "LossStudyDisplay"]

#: The colours of Okabe and Ito, which colour-blind readers can tell apart; the pale ones last.
_COLORS = (
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # blue, vermilion, green, purple
    + ("#000000", "#E69F00", "#56B4E9", "#F0E442")  # black, orange, sky blue, yellow
)
#: Markers and lines tell the same apart in grey. Their numbers differ from that of the colours, so
#: that a colour comes back with another marker.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">")
_LINES = ("-", "--", "-.", ":", (0, (7, 1.5, 1, 1.5, 1, 1.5)))
_GREY = "0.45"
#: Legends stand where no data is.
_BESIDE: dict[str, Any] = {
    "loc": "upper left",
    "bbox_to_anchor": (1.01, 1),
    "borderaxespad": 0,
    "frameon": False,
}

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
        _require_matplotlib("LearningCurvesDisplay.from_estimator")
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
        _require_matplotlib("LearningCurvesDisplay.from_history")
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
                _check_known("scores", score, curves)
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
        _require_matplotlib("LearningCurvesDisplay.plot")
        from matplotlib.ticker import MaxNLocator

        panels = [("loss (dimensionless)", self.losses)]
        if self.scores:
            panels.append(("score (dimensionless)", self.scores))
        axes = _check_axes(ax, len(panels), "losses and scores need an axes each")
        is_new = axes is None
        if axes is None:
            axes = _new_axes(len(panels), 1, figsize=(7.0, 1.0 + 2.4 * len(panels)), sharex=True)
        self.lines_ = {}
        self.best_: list[Any] = []
        # A marker on each of many epochs would hide the lines.
        every = max(1, len(self.epochs) // 10)
        for panel, (label, curves) in zip(axes, panels, strict=True):
            for number, (name, values) in enumerate(curves.items()):
                (self.lines_[name],) = panel.plot(
                    self.epochs,
                    values,
                    color=_COLORS[number % len(_COLORS)],
                    linestyle=_LINES[number % len(_LINES)],
                    marker=_MARKERS[number % len(_MARKERS)],
                    markevery=every,
                    markersize=4,
                    label=name,
                )
            if self.best_epoch is not None:
                self.best_.append(
                    panel.axvline(
                        self.best_epoch,
                        color=_GREY,
                        linewidth=1,
                        zorder=0,
                        label="" if self.best_ else f"lowest valid_loss\n(epoch {self.best_epoch})",
                    )
                )
            panel.set_ylabel(label)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.legend(**_BESIDE)
        axes[0].set_title("Learning curves")
        # New axes share theirs.
        for panel in axes[-1:] if is_new else axes:
            panel.set_xlabel("epoch")
        self.axes_ = axes
        self.ax_ = axes[0]
        self.figure_ = axes[0].figure
        return self


class EmbeddingDisplay:
    """Features of the last layer but one, embedded in the plane and coloured by class.

    The features of different networks live in different spaces, so each classifier has an
    embedding and a panel of its own: distances and directions can be compared within a panel only.
    It is recommended to use :meth:`from_estimator` or :meth:`from_features`. All parameters are
    stored as attributes.

    Parameters
    ----------
    embeddings : list of ndarray of shape (n_samples, 2)
        Coordinates for each panel, in arbitrary units.
    y_true : ndarray of shape (n_samples,)
        True labels.
    class_scores : list of ndarray of shape (n_classes,)
        F1 score of each class for each panel, in [0, 1]; NaN for a class that was neither present
        nor predicted.
    labels : ndarray of shape (n_classes,)
        The labels in the order of the scores.
    display_labels : list of str, default=None
        Names of the classes in the same order; if None, the labels.
    names : list of str, default=None
        Titles of the panels; if None, they have none.
    method_name : str, default="embedding"
        Name of the method, for the labels of the axes.

    Attributes
    ----------
    axes_ : ndarray of shape (n_panels,) of matplotlib Axes
        The axes of each panel.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure
        The figure that holds them.
    points_ : list of list of matplotlib PathCollection
        The points of each class in each panel.
    legends_ : list of matplotlib Legend
        The legend of each panel, with the F1 score of each class.

    See Also
    --------
    ClassScoresDisplay : The F1 scores of the classes with intervals.

    References
    ----------
    Scholz, D. et al. (2024). Imbalance-aware loss functions improve medical image
    classification. MIDL, PMLR 250, 1341-1356: the figure of t-SNE embeddings.

    van der Maaten, L. and Hinton, G. (2008). Visualizing data using t-SNE. Journal of Machine
    Learning Research 9, 2579-2605.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.displays import EmbeddingDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_true = np.repeat([0, 1], [30, 10])
    >>> features = rng.normal(size=(40, 16)) + 3 * y_true[:, np.newaxis]
    >>> display = EmbeddingDisplay.from_features(
    ...     features, y_true, y_true, method="pca", display_labels=["healthy", "ill"]
    ... )
    >>> [text.get_text() for text in display.legends_[0].get_texts()]
    ['healthy, F1 1.00', 'ill, F1 1.00']
    """

    def __init__(
        self,
        embeddings: list[np.ndarray],
        y_true: np.ndarray,
        class_scores: list[np.ndarray],
        labels: np.ndarray,
        *,
        display_labels: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        method_name: str = "embedding",
    ) -> None:
        self.embeddings = embeddings
        self.y_true = y_true
        self.class_scores = class_scores
        self.labels = labels
        self.display_labels = display_labels
        self.names = names
        self.method_name = method_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        method: Any = "tsne",
        random_state: Any = None,
        labels: Any = None,
        display_labels: Any = None,
        ax: Any = None,
    ) -> "EmbeddingDisplay":
        """Embed the features that one or several fitted classifiers compute from images.

        Parameters
        ----------
        estimator : estimator instance, mapping of str to one, or sequence of them
            Fitted classifiers with ``transform`` and ``predict``, or pipelines that end in one.
            The keys of a mapping are the titles of the panels; else they are class names.
        X : array-like of shape (n_samples, ...)
            Images as the classifiers take them.
        y : array-like of shape (n_samples,)
            True labels.
        method : {"tsne", "pca"} or transformer, default="tsne"
            What embeds: t-SNE, started from a PCA, with a perplexity of 30 or a third of the other
            samples if that is less; the two first principal components; or any transformer with
            ``fit_transform`` to two columns, of which each panel uses a clone.
        random_state : int, RandomState instance or None, default=None
            Seed of the method, for the same picture in each call.
        labels : array-like of shape (n_classes,), default=None
            Labels of the classes, in the order of the legend. If None, all that the classifiers
            know or ``y`` holds, sorted.
        display_labels : array-like of shape (n_classes,), default=None
            Names of the classes in the same order. If None, the labels.
        ax : matplotlib Axes or array-like of n_panels of them, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : EmbeddingDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        TypeError
            If a classifier has no ``transform`` or no ``predict``, or ``method`` cannot embed.
        sklearn.exceptions.NotFittedError
            If a classifier is not fitted.
        ValueError
            If X and y differ in length, there are too few samples for the method, the labels do
            not fit, or the number of axes is wrong.
        """
        _require_matplotlib("EmbeddingDisplay.from_estimator")
        estimators = _name_panels(estimator)
        for panel in estimators.values():
            for needed in ("transform", "predict"):
                if not hasattr(panel, needed):
                    raise TypeError(
                        "estimator must be a fitted classifier with transform and predict, a "
                        f"mapping of names to such, or a list of them; {type(panel).__name__} has "
                        f"no {needed}."
                    )
            check_is_fitted(panel)
        y = _check_labels_of_rows("y", y)
        check_consistent_length(X, y)
        if labels is None:
            known = [panel.classes_ for panel in estimators.values() if hasattr(panel, "classes_")]
            labels = unique_labels(y, *known)
        _check_classes(labels, display_labels)
        _make_method(method, random_state, len(y))
        _check_axes(ax, len(estimators), "each classifier needs an axes")
        return cls.from_features(
            {name: panel.transform(X) for name, panel in estimators.items()},
            y,
            {name: panel.predict(X) for name, panel in estimators.items()},
            method=method,
            random_state=random_state,
            labels=labels,
            display_labels=display_labels,
            ax=ax,
        )

    @classmethod
    def from_features(
        cls,
        features: Any,
        y_true: Any,
        y_pred: Any,
        *,
        method: Any = "tsne",
        random_state: Any = None,
        labels: Any = None,
        display_labels: Any = None,
        ax: Any = None,
    ) -> "EmbeddingDisplay":
        """Embed features that exist already.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_features), or mapping of str to such
            Features, dimensionless. A mapping makes a panel for each key, titled by it.
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples,), or mapping of str to such
            Predicted labels; a mapping with the same keys if ``features`` is one.
        method : {"tsne", "pca"} or transformer, default="tsne"
            What embeds, see :meth:`from_estimator`. Where all rows of a panel have the same
            features, ``"tsne"`` and ``"pca"`` put them at one point.
        random_state : int, RandomState instance or None, default=None
            Seed of the method, for the same picture in each call.
        labels : array-like of shape (n_classes,), default=None
            Labels of the classes, in the order of the legend. If None, all that occur, sorted.
        display_labels : array-like of shape (n_classes,), default=None
            Names of the classes in the same order. If None, the labels.
        ax : matplotlib Axes or array-like of n_panels of them, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : EmbeddingDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        TypeError
            If ``method`` cannot embed.
        ValueError
            If lengths or keys differ, there are too few samples or features for the method, the
            labels do not fit, or the number of axes is wrong.
        """
        _require_matplotlib("EmbeddingDisplay.from_features")
        named = isinstance(features, Mapping)
        if named != isinstance(y_pred, Mapping) or (named and features.keys() != y_pred.keys()):
            raise ValueError(
                "features and y_pred must both be arrays, or both be mappings with the same keys."
            )
        if named and not features:
            raise ValueError("features must hold at least one panel, got an empty mapping.")
        panels = features if named else {"": features}
        predictions = y_pred if named else {"": y_pred}
        y_true = _check_labels_of_rows("y_true", y_true)
        predictions = {
            name: _check_labels_of_rows("y_pred", panel) for name, panel in predictions.items()
        }
        panels = {
            name: check_array(panel, dtype=np.float64, input_name="features")
            for name, panel in panels.items()
        }
        for name in panels:
            check_consistent_length(panels[name], y_true, predictions[name])
        if labels is None:
            labels = unique_labels(y_true, *predictions.values())
        labels, display_labels = _check_classes(labels, display_labels)
        _check_axes(ax, len(panels), "each panel needs an axes")
        method_name, embed = _make_method(method, random_state, len(y_true))
        for panel in panels.values():
            if isinstance(method, str) and panel.shape[1] < 2:
                raise ValueError(
                    f"method={method!r} needs at least 2 features, got {panel.shape[1]}."
                )
        class_scores = [
            _f1_scores(_confusion(y_true, prediction, labels))[: len(labels)]
            for prediction in predictions.values()
        ]
        embeddings = []
        for panel in panels.values():
            if isinstance(method, str) and not np.ptp(panel, axis=0).any():
                # A network that collapsed; both methods would divide by a spread of 0.
                embeddings.append(np.zeros((len(panel), 2)))
                continue
            embedding = np.asarray(clone(embed).fit_transform(panel))
            if embedding.shape != (len(panel), 2):
                raise ValueError(
                    f"method must give 2 columns, but {type(embed).__name__} gave shape "
                    f"{embedding.shape} for {len(panel)} samples; set n_components=2."
                )
            embeddings.append(embedding)
        display = cls(
            embeddings,
            y_true,
            class_scores,
            labels,
            display_labels=display_labels,
            names=list(panels) if named else None,
            method_name=method_name,
        )
        return display.plot(ax=ax)

    def plot(self, ax: Any = None) -> "EmbeddingDisplay":
        """Draw the embeddings.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of n_panels of them, default=None
            Where to draw. If None, a new figure with up to three panels in a row. The legends
            stand below the axes, for which a figure with ``layout="constrained"`` makes room.

        Returns
        -------
        self : EmbeddingDisplay
            The same display, with the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        ValueError
            If the number of axes is wrong.
        """
        _require_matplotlib("EmbeddingDisplay.plot")
        from matplotlib.transforms import ScaledTranslation

        n_panels = len(self.embeddings)
        classes = self.labels if self.display_labels is None else self.display_labels
        texts = [
            [f"{name}, F1 {_short(f1)}" for name, f1 in zip(classes, scores, strict=True)]
            for scores in self.class_scores
        ]
        width = _width_of_text(text for panel in texts for text in panel)
        n_legend_columns = 2 if len(classes) > 4 and width < 1.5 else 1
        axes = _check_axes(ax, n_panels, "each panel needs an axes")
        if axes is None:
            n_columns = min(n_panels, 3)
            n_rows = -(-n_panels // n_columns)
            legend = 0.2 * -(-len(classes) // n_legend_columns)
            width = max(3.6, 0.6 + width)
            axes = _new_axes(
                n_rows, n_columns, figsize=(width * n_columns, (3.7 + legend) * n_rows)
            )
            for unused in axes[n_panels:]:
                unused.remove()
            axes = axes[:n_panels]
        # The rare classes are those that one looks for: they lie on top.
        counts = np.array([np.count_nonzero(self.y_true == label) for label in self.labels])
        depth = np.argsort(np.argsort(-counts, kind="stable"))
        size = float(np.clip(4000 / len(self.y_true), 8, 28))
        self.points_, self.legends_ = [], []
        for number, (panel, embedding) in enumerate(zip(axes, self.embeddings, strict=True)):
            points = []
            for k, label in enumerate(self.labels):
                rows = self.y_true == label
                points.append(
                    panel.scatter(
                        embedding[rows, 0],
                        embedding[rows, 1],
                        s=size,
                        color=_COLORS[k % len(_COLORS)],
                        marker=_MARKERS[k % len(_MARKERS)],
                        edgecolor="black",
                        linewidth=0.05 * size**0.5,
                        zorder=2 + depth[k] / len(depth),
                        label=texts[number][k],
                    )
                )
            # Distances mean something, coordinates do not.
            panel.set_aspect("equal", adjustable="datalim")
            panel.set(
                xticks=[],
                yticks=[],
                xlabel=f"{self.method_name} 1 (arbitrary units)",
                ylabel=f"{self.method_name} 2 (arbitrary units)",
            )
            if self.names is not None:
                panel.set_title(self.names[number])
            legend = panel.legend(
                loc="upper center",
                bbox_to_anchor=(0.5, 0),
                # Below the label, however high the panel is.
                bbox_transform=panel.transAxes
                + ScaledTranslation(0, -24 / 72, panel.figure.dpi_scale_trans),
                borderaxespad=0,
                ncols=n_legend_columns,
                frameon=False,
                fontsize="small",
            )
            for handle in legend.legend_handles:
                handle.set_sizes([28.0])
            self.points_.append(points)
            self.legends_.append(legend)
        self.axes_ = axes
        self.ax_ = axes[0]
        self.figure_ = axes[0].figure
        return self


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
        _require_matplotlib("LossStudyDisplay.from_study")
        _check_study(study)
        _check_known("kind", kind, ("scores", "differences"))
        scoring = study.scoring if scoring is None else scoring
        _check_known("scoring", scoring, study.score_names)
        _check_axes(ax, 1, "the study needs one axes")
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
        _require_matplotlib("LossStudyDisplay.plot")
        _check_known("kind", kind, ("scores", "differences"))
        rows = self.estimates
        if kind == "differences":
            rows = [row for row in self.differences if str(row.loss) != str(row.reference)]
        if not rows:
            raise ValueError(
                f"there is nothing to draw for kind={kind!r}; differences need a second loss at "
                "the same sampler."
            )
        groups = self._group(rows)
        axes = _check_axes(ax, 1, "the study needs one axes")
        n_lines = len(rows) + len(groups)
        if axes is None:
            width = 5.6 + _width_of_text([*groups, *(str(row.loss) for row in rows)])
            axes = _new_axes(1, 1, figsize=(width, 1.2 + 0.26 * n_lines))
        ax = axes[0]

        self.points_, self.intervals_, self.references_ = {}, {}, []
        ticks, position = [], 0
        styles = list(self._group(self.estimates))
        for sampling, members in groups.items():
            # Both kinds of picture give a group the same colour.
            number = styles.index(sampling)
            ticks.append(sampling)
            for line, row in enumerate(members, start=position + 1):
                color = _COLORS[number % len(_COLORS)]
                significant = kind == "scores" or row.p_value < 0.05
                key = (str(row.loss), sampling)
                (self.intervals_[key],) = ax.plot(
                    [row.low, row.high], [line, line], linestyle="-", color=color
                )
                (self.points_[key],) = ax.plot(
                    row.mean,
                    line,
                    linestyle="none",
                    marker=_MARKERS[number % len(_MARKERS)],
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
                        color=_GREY,
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
            self.references_ = [ax.axvline(0, color=_GREY, linestyle="--", zorder=1)]
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
            **_BESIDE,
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
        means = {_key(row.loss, row.sampler): row.mean for row in self.estimates}
        of_group = {_key(row.loss, row.sampler) for row in members}
        return sorted(
            {
                float(means[_key(row.reference, row.sampler)])
                for row in self.differences
                if _key(row.loss, row.sampler) in of_group
            }
        )


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
        _require_matplotlib("ClassScoresDisplay.from_estimator")
        if not hasattr(estimator, "predict"):
            raise TypeError(
                "estimator must be a fitted classifier with predict, got "
                f"{type(estimator).__name__}."
            )
        check_is_fitted(estimator)
        y = _check_labels_of_rows("y", y)
        check_consistent_length(X, y)
        if labels is None:
            labels = unique_labels(y, *([estimator.classes_] * hasattr(estimator, "classes_")))
        _check_classes(labels, display_labels)
        _check_bootstrap(n_bootstraps, confidence_level)
        _check_axes(ax, 1, "the scores need one axes")
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
        _require_matplotlib("ClassScoresDisplay.from_predictions")
        y_true = _check_labels_of_rows("y_true", y_true)
        y_pred = _check_labels_of_rows("y_pred", y_pred)
        check_consistent_length(y_true, y_pred)
        if labels is None:
            labels = unique_labels(y_true, y_pred)
        labels, display_labels = _check_classes(labels, display_labels)
        _check_bootstrap(n_bootstraps, confidence_level)
        _check_axes(ax, 1, "the scores need one axes")
        rng = _generator(random_state)
        confusion = _confusion(y_true, y_pred, labels)  # (n_all, n_all)
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
        low, high = np.quantile(_f1_scores(drawn), [tail, 1 - tail], axis=0)  # (n_all,)
        for end in (low, high):
            end[n_true == 0] = np.nan
        chosen = slice(len(labels))
        display = cls(
            _f1_scores(confusion)[np.newaxis, chosen],
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
        _require_matplotlib("ClassScoresDisplay.from_study")
        _check_study(study)
        score_names = [f"f1[{name}]" for name in study.class_names]
        for score in score_names:
            _check_known("the study's scores of classes", score, study.score_names)
        known = {_key(row.loss, row.sampler): row for row in study.estimates()}
        if configurations is None:
            chosen = _reference_and_best(study, known)
        else:
            chosen = [_key(*pair) for pair in configurations]
        if not chosen:
            raise ValueError("configurations must hold at least one (loss, sampler), got none.")
        for pair in chosen:
            _check_known("configurations", pair, known)
        _check_axes(ax, 1, "the scores need one axes")
        by_class = [
            {_key(row.loss, row.sampler): row for row in study.estimates(score)}
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
        _require_matplotlib("ClassScoresDisplay.plot")
        n_configurations, n_classes = self.scores.shape
        axes = _check_axes(ax, 1, "the scores need one axes")
        if axes is None:
            height = 1.4 + n_classes * max(0.35, 0.2 + 0.15 * n_configurations)
            width = 4.2 + _width_of_text(map(str, self.display_labels))
            if self.names is not None:
                width += 0.4 + _width_of_text(self.names)
            axes = _new_axes(1, 1, figsize=(width, height))
        ax = axes[0]
        self.points_, self.intervals_ = [], []
        for number in range(n_configurations):
            # Side by side within the row of a class, in the order of the legend from above.
            offset = (number - (n_configurations - 1) / 2) * 0.75 / n_configurations
            lines = np.arange(n_classes) + offset
            color = _COLORS[number % len(_COLORS)]
            self.intervals_.append(
                ax.hlines(lines, self.low[number], self.high[number], color=color, linewidth=1.5)
            )
            self.points_ += ax.plot(
                self.scores[number],
                lines,
                linestyle="none",
                marker=_MARKERS[number % len(_MARKERS)],
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
        self.legend_ = None if self.names is None else ax.legend(**_BESIDE)
        self.ax_ = ax
        self.figure_ = ax.figure
        return self


def _require_matplotlib(caller: str) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{caller} draws with matplotlib, which is missing: pip install "skimbal[plot]"'
        ) from error


def _new_axes(n_rows: int, n_columns: int, **options: Any) -> np.ndarray:
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(n_rows, n_columns, squeeze=False, layout="constrained", **options)
    flat: np.ndarray = axes.ravel()
    return flat


def _width_of_text(texts: Iterable[str]) -> float:
    """Estimate the width of the longest text, in inches."""
    from matplotlib import rcParams

    # A character is about 0.6 of the font size wide, which is in points.
    return max(map(len, texts), default=0) * 0.6 * float(rcParams["font.size"]) / 72


def _check_axes(ax: Any, n: int, why: str) -> np.ndarray | None:
    """Return the given axes as an array of n, or None if new ones are to be made."""
    from matplotlib.axes import Axes

    if ax is None:
        return None
    axes = np.ravel(np.asarray(ax, dtype=object))
    for item in axes:
        if not isinstance(item, Axes):
            raise TypeError(f"ax must hold matplotlib Axes, got {type(item).__name__}.")
    if len(axes) != n:
        raise ValueError(f"ax must hold {n} axes, got {len(axes)}: {why}.")
    return axes


def _markers_alone(filled: bool) -> list[Any]:
    """Make a handle for the legend that belongs to no group."""
    from matplotlib.lines import Line2D

    face = _GREY if filled else "white"
    return [Line2D([], [], color=_GREY, marker="o", linestyle="none", markerfacecolor=face)]


def _check_known(name: str, value: Any, known: Iterable[Any]) -> None:
    known = list(known)
    if value not in known:
        raise ValueError(f"{name}: {value!r} is not known; known are {known}.")


def _check_study(study: Any) -> None:
    needed = ("scoring", "score_names", "class_names", "greater_is_better", "estimates")
    for name in (*needed, "differences"):
        if not hasattr(study, name):
            raise TypeError(
                f"study must be a fitted study of losses and samplers; {type(study).__name__} has "
                f"no {name}."
            )


def _check_labels_of_rows(name: str, y: Any) -> np.ndarray:
    labels: np.ndarray = column_or_1d(y)
    if len(labels) == 0:
        raise ValueError(f"{name} must hold at least one label, got none.")
    assert_all_finite(labels, input_name=name)
    check_classification_targets(labels)
    return labels


def _check_classes(labels: Any, display_labels: Any) -> tuple[np.ndarray, list[str]]:
    """Return distinct labels and a name for each."""
    labels = column_or_1d(labels)
    if len(labels) == 0 or len(np.unique(labels)) < len(labels):
        raise ValueError(f"labels must hold distinct labels, got {labels.tolist()}.")
    names = [str(label) for label in (labels if display_labels is None else display_labels)]
    if len(names) != len(labels):
        raise ValueError(
            f"display_labels must name each of the {len(labels)} classes {labels.tolist()}, got "
            f"{len(names)} names."
        )
    return labels, names


def _check_bootstrap(n_bootstraps: Any, confidence_level: Any) -> None:
    if isinstance(n_bootstraps, bool) or not hasattr(n_bootstraps, "__index__") or n_bootstraps < 1:
        raise ValueError(f"n_bootstraps must be an integer of at least 1, got {n_bootstraps!r}.")
    if not isinstance(confidence_level, Real) or not 0 < float(confidence_level) < 1:
        raise ValueError(
            f"confidence_level must lie between 0 and 1, both excluded, got {confidence_level!r}."
        )


def _generator(random_state: Any) -> np.random.RandomState:
    """Return a generator of its own for None: the global one stays as it is."""
    if random_state is None:
        return np.random.RandomState()
    generator: np.random.RandomState = check_random_state(random_state)
    return generator


def _confusion(y_true: np.ndarray, y_pred: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count (true, predicted) pairs: first the labels asked for, then all others that occur."""
    occurring = unique_labels(labels, y_true, y_pred)
    others = occurring[~np.isin(occurring, labels)]
    counts: np.ndarray = confusion_matrix(y_true, y_pred, labels=np.concatenate([labels, others]))
    return counts


def _f1_scores(confusion: np.ndarray) -> np.ndarray:
    """Compute 2 TP / (true + predicted) from counts of shape (..., n, n), NaN for 0 / 0."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    mass = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    scores: np.ndarray = np.divide(2 * hits, mass, out=np.full(mass.shape, np.nan), where=mass > 0)
    return scores


def _short(f1: float) -> str:
    return "undefined" if np.isnan(f1) else f"{f1:.2f}".removeprefix("0")


def _name_panels(estimator: Any) -> dict[str, Any]:
    """Name each of the classifiers; those of a list by class, and by number if there are more."""
    if isinstance(estimator, Mapping):
        panels = {str(name): panel for name, panel in estimator.items()}
    elif isinstance(estimator, list | tuple):
        kinds = [type(panel).__name__ for panel in estimator]
        panels = {
            f"{kind} {kinds[:i].count(kind) + 1}" if kinds.count(kind) > 1 else kind: panel
            for i, (kind, panel) in enumerate(zip(kinds, estimator, strict=True))
        }
    else:
        panels = {type(estimator).__name__: estimator}
    if not panels:
        raise ValueError("estimator must hold at least one classifier, got none.")
    return panels


def _make_method(method: Any, random_state: Any, n_samples: int) -> tuple[str, Any]:
    """Return the name of the method of embedding, and a transformer to clone."""
    if isinstance(method, str):
        _check_known("method", method, ("tsne", "pca"))
        least = {"tsne": 4, "pca": 2}[method]
        if n_samples < least:
            raise ValueError(f"method={method!r} needs at least {least} samples, got {n_samples}.")
        rng = _generator(random_state)
        if method == "pca":
            return "PCA", PCA(n_components=2, random_state=rng)
        # Its neighbourhoods reach as far as three times the perplexity.
        perplexity = min(30.0, (n_samples - 1) / 3)
        return "t-SNE", TSNE(init="pca", perplexity=perplexity, random_state=rng)
    if isinstance(method, type) or not hasattr(method, "fit_transform"):
        raise TypeError(
            "method must be 'tsne', 'pca' or an instance of a transformer with fit_transform, got "
            f"{method!r}."
        )
    method = clone(method)
    if random_state is not None:
        if "random_state" not in method.get_params():
            raise ValueError(
                f"random_state={random_state!r} was given, but {type(method).__name__} has no "
                "such parameter; leave it out."
            )
        method.set_params(random_state=random_state)
    return type(method).__name__, method


def _key(loss: Any, sampler: Any) -> tuple[str, str]:
    return str(loss), "uniform" if sampler is None else str(sampler)


def _sampling(loss: Any, sampler: Any) -> str:
    """Name the sampling as the paper does, which counts weights in the loss as one of its own."""
    name, sampler = _key(loss, sampler)
    has_weights = re.search(r"\bwce\b", name) is not None
    return "uniform + weights" if sampler == "uniform" and has_weights else sampler


def _reference_and_best(study: Any, known: Mapping[tuple[str, str], Any]) -> list[tuple[str, str]]:
    sign = 1 if study.greater_is_better(study.scoring) else -1
    references = {
        _key(row.reference, row.sampler)[::-1]: None for row in study.differences()
    }  # (sampler, loss)
    chosen: list[tuple[str, str]] = []
    by_sampler: dict[str, list[Any]] = {}
    for row in known.values():
        by_sampler.setdefault(_key(row.loss, row.sampler)[1], []).append(row)
    for sampler, rows in by_sampler.items():
        best = max(rows, key=lambda row: -np.inf if np.isnan(row.mean) else sign * row.mean)
        pairs = [(loss, other) for other, loss in references if other == sampler]
        chosen += dict.fromkeys([*pairs, _key(best.loss, sampler)])
    return chosen[:6]
