"""Features in two dimensions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted

from skimbal.displays._drawing import (
    COLORS,
    MARKERS,
    check_axes,
    check_classes,
    check_generator,
    check_known,
    check_labels_of_rows,
    count_confusion,
    f1_scores,
    new_axes,
    require_matplotlib,
    width_of_text,
)

__all__ = ["EmbeddingDisplay"]


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
        require_matplotlib("EmbeddingDisplay.from_estimator")
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
        y = check_labels_of_rows("y", y)
        check_consistent_length(X, y)
        if labels is None:
            known = [panel.classes_ for panel in estimators.values() if hasattr(panel, "classes_")]
            labels = unique_labels(y, *known)
        check_classes(labels, display_labels)
        _make_method(method, random_state, len(y))
        check_axes(ax, len(estimators), "each classifier needs an axes")
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
        require_matplotlib("EmbeddingDisplay.from_features")
        named = isinstance(features, Mapping)
        if named != isinstance(y_pred, Mapping) or (named and features.keys() != y_pred.keys()):
            raise ValueError(
                "features and y_pred must both be arrays, or both be mappings with the same keys."
            )
        if named and not features:
            raise ValueError("features must hold at least one panel, got an empty mapping.")
        panels = features if named else {"": features}
        predictions = y_pred if named else {"": y_pred}
        y_true = check_labels_of_rows("y_true", y_true)
        predictions = {
            name: check_labels_of_rows("y_pred", panel) for name, panel in predictions.items()
        }
        panels = {
            name: check_array(panel, dtype=np.float64, input_name="features")
            for name, panel in panels.items()
        }
        for name in panels:
            check_consistent_length(panels[name], y_true, predictions[name])
        if labels is None:
            labels = unique_labels(y_true, *predictions.values())
        labels, display_labels = check_classes(labels, display_labels)
        check_axes(ax, len(panels), "each panel needs an axes")
        method_name, embed = _make_method(method, random_state, len(y_true))
        for panel in panels.values():
            if isinstance(method, str) and panel.shape[1] < 2:
                raise ValueError(
                    f"method={method!r} needs at least 2 features, got {panel.shape[1]}."
                )
        class_scores = [
            f1_scores(count_confusion(y_true, prediction, labels))[: len(labels)]
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
        require_matplotlib("EmbeddingDisplay.plot")
        from matplotlib.transforms import ScaledTranslation

        n_panels = len(self.embeddings)
        classes = self.labels if self.display_labels is None else self.display_labels
        texts = [
            [f"{name}, F1 {_short(f1)}" for name, f1 in zip(classes, scores, strict=True)]
            for scores in self.class_scores
        ]
        width = width_of_text(text for panel in texts for text in panel)
        n_legend_columns = 2 if len(classes) > 4 and width < 1.5 else 1
        axes = check_axes(ax, n_panels, "each panel needs an axes")
        if axes is None:
            n_columns = min(n_panels, 3)
            n_rows = -(-n_panels // n_columns)
            legend = 0.2 * -(-len(classes) // n_legend_columns)
            width = max(3.6, 0.6 + width)
            axes = new_axes(n_rows, n_columns, figsize=(width * n_columns, (3.7 + legend) * n_rows))
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
                        color=COLORS[k % len(COLORS)],
                        marker=MARKERS[k % len(MARKERS)],
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
        check_known("method", method, ("tsne", "pca"))
        least = {"tsne": 4, "pca": 2}[method]
        if n_samples < least:
            raise ValueError(f"method={method!r} needs at least {least} samples, got {n_samples}.")
        rng = check_generator(random_state)
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
