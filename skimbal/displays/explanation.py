"""Maps of the places that a classifier decides by, over the images."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_consistent_length

from skimbal.displays._drawing import (
    AnyFigure,
    AxesLike,
    check_axes,
    check_classes,
    check_labels_of_rows,
    new_axes,
    require_matplotlib,
)
from skimbal.exceptions import ParameterError
from skimbal.explanation import explain, images_of
from skimbal.typing import ArrayLike, Classifier, ImagesLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.image import AxesImage

__all__ = ["ExplanationDisplay"]

#: More images make a figure that nobody can read.
_MOST_IMAGES = 20
#: The numbers of the maps in words, by method.
_UNITS = {
    "gradcam": "Grad-CAM (no unit)",
    "integrated_gradients": "integrated gradient (log-odds)",
    "occlusion": "loss by occlusion (log-odds)",
}
#: Names of the axes that remain in the planes across each axis of a volume.
_PLANES = {"d": ("h", "w"), "h": ("d", "w"), "w": ("d", "h")}


class ExplanationDisplay:
    """Images, and over them the places that speak for a class.

    An image has two panels: the image alone, and under its map. A volume has a panel for each of
    the three planes through the voxel with the largest number of the map. Each image has a scale
    of its own, since the maps of two images cannot be compared by their colours. A solid line
    surrounds the places above half of the largest number, and a dashed line the places below minus
    half of it. Use :meth:`from_estimator` to make a display. All parameters are stored as
    attributes. Every method that draws raises ``ImportError`` without matplotlib:
    ``pip install captum matplotlib``.

    Parameters
    ----------
    images : ndarray of shape (n_samples, n_channels, [d,] h, w)
        Images in any unit. Three channels are drawn as colours, and the mean of any other number.
    maps : ndarray of shape (n_samples, [d,] h, w)
        Numbers from :func:`~skimbal.explanation.explain`.
    targets : sequence of str
        Name of the class that each map explains.
    titles : sequence of str, default=None
        Text above each image. If None, the class that is explained.
    unit : str, default="map"
        The numbers of the maps in words, beside the colour bars.

    Attributes
    ----------
    axes_ : ndarray of shape (n_samples, 2 or 3) of matplotlib Axes
        The panels of each image.
    ax_ : matplotlib Axes
        The first panel.
    figure_ : matplotlib Figure
        The figure of the panels.
    overlays_ : list of list of matplotlib AxesImage
        The maps in the panels of each image.
    colorbars_ : list of matplotlib Colorbar
        The scale of each image.

    See Also
    --------
    skimbal.explanation.explain : The maps as arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.displays import ExplanationDisplay
    >>> images = np.random.default_rng(0).normal(size=(1, 1, 8, 8))
    >>> maps = np.zeros((1, 8, 8))
    >>> maps[0, 2:4, 5] = 1.5
    >>> display = ExplanationDisplay(images, maps, ["ill"]).plot()
    >>> display.axes_.shape, display.ax_.get_title(loc="left")
    ((1, 2), 'ill')
    """

    axes_: np.ndarray
    ax_: "Axes"
    figure_: AnyFigure
    overlays_: "list[list[AxesImage]]"
    colorbars_: "list[Colorbar]"

    def __init__(
        self,
        images: np.ndarray,
        maps: np.ndarray,
        targets: Sequence[str],
        *,
        titles: Sequence[str] | None = None,
        unit: str = "map",
    ) -> None:
        self.images = images
        self.maps = maps
        self.targets = targets
        self.titles = titles
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Classifier,
        X: ImagesLike,
        *,
        y: ArrayLike | None = None,
        method: str = "gradcam",
        target: object = None,
        display_labels: Iterable[object] | None = None,
        layer: str | None = None,
        baseline: float | ArrayLike | None = None,
        tolerance: float = 0.05,
        window: int | Sequence[int] | None = None,
        ax: AxesLike = None,
    ) -> "ExplanationDisplay":
        """Explain the predictions for some images, and draw them.

        Parameters
        ----------
        estimator : CNN2DClassifier, CNN3DClassifier or Pipeline
            A fitted classifier, or a pipeline that ends in one.
        X : array-like of shape (n_samples, ...)
            1 to 20 images, rows or files, as the classifier takes them.
        y : array-like of shape (n_samples,), default=None
            True labels, for the titles.
        method : {"gradcam", "integrated_gradients", "occlusion"}, default="gradcam"
            See :func:`~skimbal.explanation.explain`.
        target : label or array-like of shape (n_samples,), default=None
            The class to explain, or a class for each image. If None, the predicted class.
        display_labels : array-like of shape (n_classes,), default=None
            Names of the classes in the order of ``classes_``. If None, the labels.
        layer : str, default=None
            See :func:`~skimbal.explanation.explain`, also for the next three.
        baseline : float or array-like of shape (n_channels,), default=None
            In units of the images.
        tolerance : float, default=0.05
            Share of the log-odds that integrated gradients may miss, in (0, 1).
        window : int or tuple of int, default=None
            Size of the window of an occlusion, in voxels.
        ax : matplotlib Axes or array-like of Axes, default=None
            Where to draw: two for each image, or three for each volume. If None, a new figure.

        Returns
        -------
        display : ExplanationDisplay
            The drawn display.

        Raises
        ------
        ImportError
            Without matplotlib or captum.
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        TypeError
            If the estimator is not a classifier of this package.
        ValueError
            If a parameter or X cannot be used, X and y differ in length, or the number of axes is
            wrong.

        Examples
        --------
        >>> from skimbal import CNN2DClassifier
        >>> from skimbal.datasets import load_imbalanced_digits
        >>> from skimbal.displays import ExplanationDisplay
        >>> data = load_imbalanced_digits()
        >>> clf = CNN2DClassifier(max_epochs=1, random_state=0).fit(data.X_train, data.y_train)
        >>> display = ExplanationDisplay.from_estimator(clf, data.X_test[:2], y=data.y_test[:2])
        >>> len(display.axes_)
        2
        """
        require_matplotlib("ExplanationDisplay.from_estimator")
        images = images_of(estimator, X)
        if len(images) > _MOST_IMAGES:
            remedy = "skimbal.explanation.explain returns the maps of any number of images."
            raise ParameterError("X", f"at most {_MOST_IMAGES} images", len(images), remedy)
        labels, names = check_classes(estimator.classes_, display_labels)
        name_of = dict(zip(labels.tolist(), names, strict=True))
        if y is not None:
            y = check_labels_of_rows("y", y)
            check_consistent_length(images, y)
        check_axes(ax, len(images) * _n_panels(images), _axes_needed(images))
        predicted, proba = estimator.predict(X).tolist(), estimator.predict_proba(X)
        maps = explain(
            estimator,
            X,
            method=method,
            target=predicted if target is None else target,
            layer=layer,
            baseline=baseline,
            tolerance=tolerance,
            window=window,
        )
        explained = np.asarray(predicted if target is None else target)
        rows = [labels.tolist().index(k) for k in np.broadcast_to(explained, len(images)).tolist()]
        titles = [
            f"{'' if y is None else f'true {name_of.get(y[i].item(), y[i])}, '}predicted "
            f"{name_of[predicted[i]]}\nmap for {names[k]}, probability {_rounded(proba[i, k])}"
            for i, k in enumerate(rows)
        ]
        display = cls(
            images,
            maps,
            [names[k] for k in rows],
            titles=titles,
            unit=_UNITS[method],
        )
        return display.plot(ax=ax)

    def plot(self, ax: AxesLike = None) -> "ExplanationDisplay":
        """Draw the images and their maps.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Where to draw: two for each image, or three for each volume. If None, a new figure. A
            figure with ``layout="constrained"`` makes room for the colour bars.

        Returns
        -------
        self : ExplanationDisplay
            The same display, with the artists as attributes.

        Raises
        ------
        ValueError
            If the number of axes is wrong, or images and maps have different shapes.
        """
        require_matplotlib("ExplanationDisplay.plot")
        n, n_panels = len(self.images), _n_panels(self.images)
        shape = (n, *self.images.shape[2:])
        if self.maps.shape != shape:
            raise ParameterError("maps", f"an array of shape {shape}, as images", self.maps.shape)
        axes = check_axes(ax, n * n_panels, _axes_needed(self.images))
        if axes is None:
            axes = new_axes(n, n_panels, figsize=(2.6 * n_panels + 1.2, 2.9 * n))
        self.axes_ = axes.reshape(n, n_panels)
        self.ax_, self.figure_ = axes[0], axes[0].figure
        self.overlays_, self.colorbars_ = [], []
        for i, row in enumerate(self.axes_):
            draw = _draw_image if n_panels == 2 else _draw_volume
            scale = _Scale(self.maps[i])
            self.overlays_.append(draw(row, _as_picture(self.images[i]), self.maps[i], scale))
            bar = self.figure_.colorbar(scale.mappable, ax=list(row), label=self.unit, shrink=0.85)
            self.colorbars_.append(bar)
            title = self.targets[i] if self.titles is None else self.titles[i]
            row[0].set_title(title, loc="left", fontsize="medium", parse_math=False)
        return self


class _Scale:
    """Colours of a map: from 0 if no number is below 0, and otherwise symmetric around 0."""

    def __init__(self, numbers: np.ndarray) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        #: Largest number, without its sign.
        self.most = float(np.abs(numbers).max()) or 1.0
        is_signed = numbers.min() < 0
        self.norm = Normalize(-self.most if is_signed else 0.0, self.most)
        self.mappable = ScalarMappable(self.norm, "PuOr_r" if is_signed else "YlOrBr")

    def draw(self, panel: "Axes", numbers: np.ndarray) -> "AxesImage":
        """Draw a plane of the map: strong where it is far from 0, with lines at half the most."""
        overlay = panel.imshow(
            numbers,
            cmap=self.mappable.cmap,
            norm=self.norm,
            alpha=np.clip(0.85 * np.abs(numbers) / self.most, 0, 1) ** 0.7,
        )
        half = self.most / 2
        for level, style in ((-half, "--"), (half, "-")):
            if min(numbers.shape) > 1 and numbers.min() < level < numbers.max():
                # White under black, so that a line is seen on any image.
                for color, width in (("white", 2.4), ("black", 1.0)):
                    panel.contour(
                        numbers, [level], colors=color, linewidths=width, linestyles=style
                    )
        return overlay


def _draw_image(
    row: np.ndarray, picture: np.ndarray, numbers: np.ndarray, scale: _Scale
) -> "list[AxesImage]":
    for panel in row:
        _show(panel, picture, _window(picture))
        panel.set(xticks=[], yticks=[])
    return [scale.draw(row[1], numbers)]


def _draw_volume(
    row: np.ndarray, picture: np.ndarray, numbers: np.ndarray, scale: _Scale
) -> "list[AxesImage]":
    """Draw the planes through the voxel of the largest number."""
    place = np.unravel_index(np.abs(numbers).argmax(), numbers.shape)
    window, overlays = _window(picture), []
    for axis, (panel, (name, others)) in enumerate(zip(row, _PLANES.items(), strict=True)):
        plane: list[Any] = [slice(None)] * 3
        plane[axis] = place[axis]
        _show(panel, picture[tuple(plane)], window)
        overlays.append(scale.draw(panel, numbers[tuple(plane)]))
        panel.set(xticks=[], yticks=[], ylabel=others[0])
        panel.set_xlabel(f"{others[1]}   ({name} = {place[axis]})")
    return overlays


def _show(panel: "Axes", picture: np.ndarray, window: tuple[float, float]) -> None:
    low, high = window
    if picture.ndim - 2:  # colours
        picture = np.clip((picture - low) / (high - low), 0, 1)
    panel.imshow(picture, cmap="gray", vmin=low, vmax=high)


def _window(picture: np.ndarray) -> tuple[float, float]:
    """Return the numbers that are black and white, of which few extreme pixels do not decide."""
    low, high = np.percentile(picture, [0.5, 99.5])
    return float(low), float(high if high > low else low + 1)


def _as_picture(image: np.ndarray) -> np.ndarray:
    """Return an image of shape (c, [d,] h, w) with colours last, or in grey."""
    numbers = image.astype(np.float64)
    return np.moveaxis(numbers, 0, -1) if len(image) == 3 else numbers.mean(0)


def _n_panels(images: np.ndarray) -> int:
    return 3 if images.ndim == 5 else 2


def _axes_needed(images: np.ndarray) -> str:
    n_panels = _n_panels(images)
    return f"Each of the {len(images)} images needs {n_panels} axes."


def _rounded(probability: float) -> str:
    """Write a probability, without the claim that it is exactly 0 or 1."""
    if probability < 0.001:
        return "< 0.001"
    return "> 0.999" if probability > 0.999 else f"{probability:.3f}"
