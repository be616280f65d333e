"""Features in two dimensions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted

from skimbal.displays._drawing import (
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
from skimbal.exceptions import ParameterError
from skimbal.typing import ArrayLike, ImagesLike, RandomState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.legend import Legend

__all__ = ["EmbeddingDisplay"]

_AXES_EACH = "Each panel needs its own axes."


class _FeatureClassifier(Protocol):
    """A fitted classifier that computes features."""

    def transform(self, X: ImagesLike, /) -> np.ndarray:
        """Compute the features of each row."""

    def predict(self, X: ImagesLike, /) -> np.ndarray:
        """Predict the class of each row."""


class _Embedder(Protocol):
    """A transformer of scikit-learn."""

    def get_params(self) -> Mapping[str, object]:
        """Return the parameters."""

    def set_params(self, *, random_state: RandomState) -> object:
        """Set the seed."""

    def fit_transform(self, X: np.ndarray, /) -> ArrayLike:
        """Compute the coordinates of each row."""


_Estimators: TypeAlias = (
    _FeatureClassifier | Mapping[str, _FeatureClassifier] | Sequence[_FeatureClassifier]
)


class EmbeddingDisplay:
    """Features of the last layer but one, embedded in the plane and coloured by class.

    Different networks have different feature spaces, so each classifier has its own embedding and
    panel. Distances and directions can be compared within a panel only. Use :meth:`from_estimator`
    or :meth:`from_features` to make a display. All parameters are stored as attributes. Every
    method that draws raises ``ImportError`` without matplotlib: ``pip install matplotlib``.

    Parameters
    ----------
    embeddings : list of ndarray of shape (n_samples, 2)
        Coordinates for each panel, in arbitrary units.
    y_true : ndarray of shape (n_samples,)
        True labels.
    class_scores : list of ndarray of shape (n_classes,)
        F1 score of each class for each panel, in [0, 1], NaN for a class that was neither present
        nor predicted.
    labels : ndarray of shape (n_classes,)
        The labels in the order of the scores.
    display_labels : list of str, default=None
        Names of the classes in the same order. If None, the labels.
    names : list of str, default=None
        Titles of the panels. If None, the panels have no titles.
    method_name : str, default="embedding"
        Name of the method, for the labels of the axes.

    Attributes
    ----------
    axes_ : ndarray of shape (n_panels,) of matplotlib Axes
        The axes of each panel.
    ax_ : matplotlib Axes
        The axes of the first panel.
    figure_ : matplotlib Figure
        The figure of the axes.
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

    axes_: np.ndarray
    ax_: "Axes"
    figure_: AnyFigure
    points_: "list[list[PathCollection]]"
    legends_: "list[Legend]"

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
        estimator: _Estimators,
        X: ImagesLike,
        y: ArrayLike,
        *,
        method: str | _Embedder = "tsne",
        random_state: RandomState = None,
        labels: ArrayLike | None = None,
        display_labels: Iterable[object] | None = None,
        ax: AxesLike = None,
    ) -> "EmbeddingDisplay":
        """Embed the features that one or several fitted classifiers compute from images.

        Parameters
        ----------
        estimator : estimator, mapping of str to estimator, or sequence of estimators
            Fitted classifiers with ``transform`` and ``predict``, or pipelines that end in a
            classifier. The keys of a mapping are the titles of the panels. Without a mapping, the
            titles are the names of the Python classes.
        X : array-like of shape (n_samples, ...)
            Images as the classifiers take them.
        y : array-like of shape (n_samples,)
            True labels.
        method : {"tsne", "pca"} or transformer, default="tsne"
            Method of the embedding. t-SNE starts from a PCA, with a perplexity of 30 or a third of
            the other samples if this is less. ``"pca"`` takes the two first principal components.
            A transformer must have a ``fit_transform`` that returns two columns. Each panel uses a
            clone of it.
        random_state : int, RandomState instance or None, default=None
            Seed of the method, for the same picture in each call.
        labels : array-like of shape (n_classes,), default=None
            Labels of the classes, in the order of the legend. If None, all that the classifiers
            know or ``y`` contains, sorted.
        display_labels : array-like of shape (n_classes,), default=None
            Names of the classes in the same order. If None, the labels.
        ax : matplotlib Axes or array-like of n_panels Axes, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : EmbeddingDisplay
            The drawn display.

        Raises
        ------
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
                        f"mapping of names to classifiers, or a list of classifiers; got {panel!r}."
                        f" It has no {needed}."
                    )
            check_is_fitted(panel)
        y = check_labels_of_rows("y", y)
        check_consistent_length(X, y)
        if labels is None:
            labels = unique_labels(
                y, *(getattr(panel, "classes_", y) for panel in estimators.values())
            )
        check_classes(labels, display_labels)
        _make_method(method, random_state, len(y))
        check_axes(ax, len(estimators), _AXES_EACH)
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
        features: ArrayLike | Mapping[str, ArrayLike],
        y_true: ArrayLike,
        y_pred: ArrayLike | Mapping[str, ArrayLike],
        *,
        method: str | _Embedder = "tsne",
        random_state: RandomState = None,
        labels: ArrayLike | None = None,
        display_labels: Iterable[object] | None = None,
        ax: AxesLike = None,
    ) -> "EmbeddingDisplay":
        """Embed features that exist already.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_features), or mapping of str to array-like
            Features, dimensionless. A mapping makes a panel for each key. The key is the title.
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples,), or mapping of str to array-like
            Predicted labels. It must be a mapping with the same keys if ``features`` is a mapping.
        method : {"tsne", "pca"} or transformer, default="tsne"
            Method of the embedding, see :meth:`from_estimator`. If all rows of a panel have the
            same features, ``"tsne"`` and ``"pca"`` put them at one point.
        random_state : int, RandomState instance or None, default=None
            Seed of the method, for the same picture in each call.
        labels : array-like of shape (n_classes,), default=None
            Labels of the classes, in the order of the legend. If None, all that occur, sorted.
        display_labels : array-like of shape (n_classes,), default=None
            Names of the classes in the same order. If None, the labels.
        ax : matplotlib Axes or array-like of n_panels Axes, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : EmbeddingDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If ``method`` cannot embed.
        ValueError
            If lengths or keys differ, there are too few samples or features for the method, the
            labels do not fit, or the number of axes is wrong.
        """
        require_matplotlib("EmbeddingDisplay.from_features")
        panels, predictions = _check_panels(features, y_pred)
        y_true = check_labels_of_rows("y_true", y_true)
        for name in panels:
            check_consistent_length(panels[name], y_true, predictions[name])
        if labels is None:
            labels = unique_labels(y_true, *predictions.values())
        labels, display_labels = check_classes(labels, display_labels)
        check_axes(ax, len(panels), _AXES_EACH)
        method_name, embedder = _make_method(method, random_state, len(y_true))
        for panel in panels.values():
            if isinstance(method, str) and panel.shape[1] < 2:
                raise ParameterError(
                    "features",
                    f"an array of at least 2 columns for method={method!r}",
                    panel.shape,
                )
        display = cls(
            [_embed(panel, embedder, isinstance(method, str)) for panel in panels.values()],
            y_true,
            [
                f1_scores(count_confusion(y_true, prediction, labels))[: len(labels)]
                for prediction in predictions.values()
            ],
            labels,
            display_labels=display_labels,
            names=list(panels) if isinstance(features, Mapping) else None,
            method_name=method_name,
        )
        return display.plot(ax=ax)

    def plot(self, ax: AxesLike = None) -> "EmbeddingDisplay":
        """Draw the embeddings.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of n_panels Axes, default=None
            Where to draw. If None, a new figure with up to three panels in a row. The legends are
            below the axes. A figure with ``layout="constrained"`` makes room for them.

        Returns
        -------
        self : EmbeddingDisplay
            The same display, with the artists as attributes.

        Raises
        ------
        ValueError
            If the number of axes is wrong.
        """
        require_matplotlib("EmbeddingDisplay.plot")
        classes = self.labels if self.display_labels is None else self.display_labels
        texts = [
            [f"{name}, F1 {_short(f1)}" for name, f1 in zip(classes, scores, strict=True)]
            for scores in self.class_scores
        ]
        width = width_of_text(text for panel in texts for text in panel)
        n_columns = 2 if len(classes) > 4 and width < 1.5 else 1
        axes = check_axes(ax, len(self.embeddings), _AXES_EACH)
        if axes is None:
            axes = self._new_axes(width, legend_rows=-(-len(classes) // n_columns))
        self.points_, self.legends_ = [], []
        for panel, embedding, names in zip(axes, self.embeddings, texts, strict=True):
            self.points_.append(self._draw_points(panel, embedding, names))
            self.legends_.append(_draw_legend(panel, n_columns))
        if self.names is not None:
            for panel, name in zip(axes, self.names, strict=True):
                panel.set_title(name)
        for panel in axes:
            show_names_as_they_are(panel)
        self.axes_ = axes
        self.ax_ = axes[0]
        self.figure_ = axes[0].figure
        return self

    def _new_axes(self, text_width: float, legend_rows: int) -> np.ndarray:
        """Make the axes of a new figure, with room for the legends in inches."""
        n_panels = len(self.embeddings)
        n_columns = min(n_panels, 3)
        n_rows = -(-n_panels // n_columns)
        width = max(3.6, 0.6 + text_width)
        height = 3.7 + 0.2 * legend_rows
        axes = new_axes(n_rows, n_columns, figsize=(width * n_columns, height * n_rows))
        for unused in axes[n_panels:]:
            unused.remove()
        return axes[:n_panels]

    def _draw_points(
        self, panel: "Axes", embedding: np.ndarray, names: Sequence[str]
    ) -> "list[PathCollection]":
        """Draw the points of each class, the rare classes on top."""
        counts = np.array([np.count_nonzero(self.y_true == label) for label in self.labels])
        depth = np.argsort(np.argsort(-counts, kind="stable"))
        size = float(np.clip(4000 / len(self.y_true), 8, 28))
        points = []
        for k, label in enumerate(self.labels):
            rows = self.y_true == label
            points.append(
                panel.scatter(
                    embedding[rows, 0],
                    embedding[rows, 1],
                    s=size,
                    color=color_of(k),
                    marker=marker_of(k),
                    edgecolor="black",
                    linewidth=0.05 * size**0.5,
                    zorder=2 + depth[k] / len(depth),
                    label=names[k],
                )
            )
        # Distances have a meaning, coordinates do not.
        panel.set_aspect("equal", adjustable="datalim")
        panel.set(
            xticks=[],
            yticks=[],
            xlabel=f"{self.method_name} 1 (arbitrary units)",
            ylabel=f"{self.method_name} 2 (arbitrary units)",
        )
        return points


def _draw_legend(panel: "Axes", n_columns: int) -> "Legend":
    """Draw the legend below the label of the axis, for axes of any height."""
    from matplotlib.collections import PathCollection
    from matplotlib.transforms import ScaledTranslation

    below = ScaledTranslation(0, -24 / 72, panel.figure.dpi_scale_trans)
    legend = panel.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=panel.transAxes + below,
        borderaxespad=0,
        ncols=n_columns,
        frameon=False,
        fontsize="small",
    )
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([28.0])
    return legend


def _short(f1: float) -> str:
    return "undefined" if np.isnan(f1) else f"{f1:.2f}".removeprefix("0")


def _name_panels(estimator: _Estimators) -> dict[str, _FeatureClassifier]:
    """Name each classifier. In a list, the names are class names, with numbers if they repeat."""
    if isinstance(estimator, Mapping):
        panels = {str(name): panel for name, panel in estimator.items()}
    elif isinstance(estimator, Sequence):
        kinds = [type(panel).__name__ for panel in estimator]
        panels = {
            f"{kind} {kinds[:i].count(kind) + 1}" if kinds.count(kind) > 1 else kind: panel
            for i, (kind, panel) in enumerate(zip(kinds, estimator, strict=True))
        }
    else:
        panels = {type(estimator).__name__: estimator}
    if not panels:
        raise ParameterError("estimator", "at least one classifier", estimator)
    return panels


def _check_panels(
    features: ArrayLike | Mapping[str, ArrayLike], y_pred: ArrayLike | Mapping[str, ArrayLike]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return features and predictions by the name of the panel, "" if it has no name."""
    if not isinstance(features, Mapping) and not isinstance(y_pred, Mapping):
        features, y_pred = {"": features}, {"": y_pred}
    if (
        not isinstance(features, Mapping)
        or not isinstance(y_pred, Mapping)
        or features.keys() != y_pred.keys()
    ):
        raise ValueError(
            "features and y_pred must both be arrays, or both be mappings with the same keys; got "
            f"{_describe(features)} and {_describe(y_pred)}."
        )
    if not features:
        raise ParameterError("features", "an array, or a mapping of at least one panel", features)
    return (
        {
            name: check_array(panel, dtype=np.float64, input_name="features")
            for name, panel in features.items()
        },
        {name: check_labels_of_rows("y_pred", panel) for name, panel in y_pred.items()},
    )


def _describe(panels: object) -> str:
    return f"the keys {list(panels)}" if isinstance(panels, Mapping) else "an array"


def _make_method(
    method: str | _Embedder, random_state: RandomState, n_samples: int
) -> tuple[str, _Embedder]:
    """Return the name of the method of embedding, and a transformer to clone."""
    if isinstance(method, str):
        return _make_built_in(method, random_state, n_samples)
    if isinstance(method, type) or not hasattr(method, "fit_transform"):
        raise TypeError(
            "method must be 'tsne', 'pca' or an instance of a transformer with fit_transform; got "
            f"{method!r}."
        )
    embedder: _Embedder = clone(method)
    if random_state is not None:
        if "random_state" not in embedder.get_params():
            raise ParameterError(
                "random_state",
                f"None, because {type(embedder).__name__} has no such parameter",
                random_state,
            )
        embedder.set_params(random_state=random_state)
    return type(embedder).__name__, embedder


def _make_built_in(method: str, random_state: RandomState, n_samples: int) -> tuple[str, _Embedder]:
    # Both import much, which only this method needs.
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    least = {"tsne": 4, "pca": 2}
    check_known("method", method, least)
    if n_samples < least[method]:
        raise ParameterError(
            "method", f"a method for {n_samples} samples", method, f"It needs {least[method]}."
        )
    rng = check_generator(random_state)
    if method == "pca":
        return "PCA", PCA(n_components=2, random_state=rng)
    # The neighbourhoods have three times as many samples as the perplexity.
    perplexity = min(30.0, (n_samples - 1) / 3)
    return "t-SNE", TSNE(init="pca", perplexity=perplexity, random_state=rng)


def _embed(features: np.ndarray, embedder: _Embedder, is_built_in: bool) -> np.ndarray:
    if is_built_in and not np.ptp(features, axis=0).any():
        # A collapsed network: both methods would divide by a spread of 0.
        return np.zeros((len(features), 2))
    embedding = np.asarray(clone(embedder).fit_transform(features))
    if embedding.shape != (len(features), 2):
        raise ValueError(
            f"method must return an array of shape {(len(features), 2)}; got {embedding.shape} "
            f"from {embedder!r}. Set n_components=2."
        )
    return embedding
