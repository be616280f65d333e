"""Explanations: which places of an image a fitted classifier decides by."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skimbal.classifiers.base import BaseCNNClassifier
from skimbal.classifiers.inputs import check_images
from skimbal.exceptions import (
    NonFinitePredictionError,
    ParameterError,
    import_optional,
    warn_caller,
)
from skimbal.losses import log_prior
from skimbal.networks.residual import ResidualCNN
from skimbal.networks.slices import SlicedNetwork
from skimbal.networks.small import SmallCNN
from skimbal.training import ImageDataset, isolated_random_state, trainable_torch
from skimbal.typing import ArrayLike, Classifier, ImagesLike, is_integer, is_number

__all__ = ["explain", "find_layer", "images_of"]

#: Least number of voxels along an axis of the layer of Grad-CAM. A quarter of the image is enough.
_LEAST_GRID = 7
#: Gradients in each part of the path of integrated gradients, and the most parts.
_N_STEPS, _MOST_PARTS = 8, 64
#: Windows of an occlusion along an axis, by the number of axes.
_WINDOW = {2: 6, 3: 5}
#: Normalisations behind which every place depends on all places of its image.
_OVER_PLACES = (nn.GroupNorm, nn.InstanceNorm2d, nn.InstanceNorm3d)
#: Networks of which benchmarks/explanations.py shows that Grad-CAM before these finds lesions.
_FIND_LESIONS = (ResidualCNN, SmallCNN)


def explain(
    clf: Classifier,
    X: ImagesLike,
    *,
    method: str = "gradcam",
    target: object = None,
    layer: str | None = None,
    baseline: float | ArrayLike | None = None,
    tolerance: float = 0.05,
    window: int | Sequence[int] | None = None,
) -> np.ndarray:
    r"""Compute how much each place of an image speaks for a class.

    The maps explain the log-odds of the class, :math:`\log p / (1 - p)` in natural logarithms, of
    the probability :math:`p` that ``predict_proba`` gives with ``n_tta=1``. A map shows the
    evidence that the network uses, and not whether it should.

    Parameters
    ----------
    clf : CNN2DClassifier, CNN3DClassifier or Pipeline
        A fitted classifier, or a pipeline that ends in one.
    X : array-like of shape (n_samples, ...)
        Images, rows or files, as ``clf.predict`` takes them.
    method : {"gradcam", "integrated_gradients", "occlusion"}, default="gradcam"
        ``"gradcam"`` (Selvaraju et al., 2017) weighs the channels of a layer by the mean of their
        gradient. Its maps are at least 0, coarse, and have no scale that two images share.
        ``"integrated_gradients"`` (Sundararajan et al., 2017) sums the gradient of the pixels
        from a baseline to the image. The sum of a map is the log-odds of the image less the
        log-odds of the baseline. ``"occlusion"`` (Zeiler and Fergus, 2014) puts the baseline in a
        window that slides over the image. A map holds the log-odds that are lost, as the mean
        over the windows on a place. The maps of the last two are positive where the image speaks
        for the class and negative where it speaks against it, in units of the log-odds.
    target : label or array-like of shape (n_samples,), default=None
        The class to explain, or a class for each image, as in ``clf.classes_``. If None, the
        class that ``clf.predict`` gives.
    layer : str, default=None
        Layer for ``"gradcam"``, by its name in ``named_modules()`` of ``clf.net_.module_.network``.
        If None, see :func:`find_layer`.
    baseline : float or array-like of shape (n_channels,), default=None
        The pixels of an image without a message, in units of the images, for the other two
        methods. If None, the mean of the training pixels of each channel if ``clf`` standardises
        images, and otherwise the least training pixel of each channel.
    tolerance : float, default=0.05
        Share of the difference in log-odds, or of 1 if that is more, that the sum of a map of
        ``"integrated_gradients"`` may miss, in (0, 1). The path from the baseline to the image
        is cut into up to 64 parts until the parts together miss no more.
    window : int or tuple of int, default=None
        Size of the window of ``"occlusion"``, in voxels, along every or along each axis. It moves
        by half its size. If None, a sixth of an image, or a fifth of a volume.

    Returns
    -------
    maps : ndarray of shape (n_samples, [d,] h, w)
        One number for each pixel or voxel, in float32, or in float64 if the network computes in
        float64. The channels are summed. Pixels outside ``crop_size``, which the network does not
        see, have 0.

    Raises
    ------
    ImportError
        Without captum: ``pip install captum matplotlib``.
    sklearn.exceptions.NotFittedError
        If ``clf`` is not fitted.
    TypeError
        If ``clf`` is not a classifier of this package.
    ValueError
        If a parameter or X cannot be used, ``target`` is not a class of ``clf``, or ``"gradcam"``
        finds no layer.
    NonFinitePredictionError
        If a map is not finite.

    Warns
    -----
    UserWarning
        If the sum of a map of ``"integrated_gradients"`` misses more than the tolerance. If
        ``"gradcam"`` is unreliable: at a layer behind a group or instance normalisation, and at a
        layer before one in other networks than ``"residual"`` and ``"small"``, such as
        ``"resnet18"``.

    See Also
    --------
    skimbal.displays.ExplanationDisplay : Pictures of the maps.

    Notes
    -----
    Dropout is off, and frozen layers are explained as all others. A network in low precision
    (``dtype="bfloat16"``) is explained in float32. Hooks that other packages have left for the
    backward pass, and changes in place, are off for the time of the call. The classifier is as
    before after it.

    References
    ----------
    Selvaraju, R. R. et al. (2017). Grad-CAM: visual explanations from deep networks via
    gradient-based localization. ICCV.

    Sundararajan, M., Taly, A. and Yan, Q. (2017). Axiomatic attribution for deep networks. ICML.

    Zeiler, M. D. and Fergus, R. (2014). Visualizing and understanding convolutional networks.
    ECCV.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.explanation import explain
    >>> X = np.random.default_rng(0).normal(size=(20, 12, 12)).astype("float32")
    >>> y = np.array(["healthy", "ill"] * 10)
    >>> X[y == "ill", 2:6, 2:6] += 2
    >>> clf = CNN2DClassifier(max_epochs=2, random_state=0).fit(X, y)
    >>> explain(clf, X[:3], target="ill").shape
    (3, 12, 12)
    """
    cnn, X = _seen_by_classifier(clf, X)
    _check_method(method)
    import_optional("captum.attr", "explain", "explain", "captum")
    images, shape = check_images(cnn, X, reset=False)
    settings = _Settings(layer, baseline, tolerance, window)
    device = cnn.net_.device
    with trainable_torch(), isolated_random_state(0, device), _quiet(cnn.net_.module_):
        targets = _targets(cnn, X if target is None else None, len(images), target)
        data = ImageDataset(images, targets, sample_shape=shape)
        compute, n_rows = METHODS[method](_Subject.of(cnn), settings)
        blocks = [_in_whole_image(cnn, compute, data, rows) for rows in data.blocks(max(1, n_rows))]
    maps = np.concatenate(blocks)
    bad = np.flatnonzero(~np.isfinite(maps.reshape(len(maps), -1)).all(1))
    if len(bad):
        raise NonFinitePredictionError(
            f"The explanation of row {bad[0]} by {method!r} holds NaN or infinity. Look at the "
            "predictions for this image, and fit with a wider dtype.",
            bad.tolist(),
        )
    return maps


def images_of(clf: Classifier, X: ImagesLike) -> np.ndarray:
    """Return images as they reach a classifier, in their units, before it standardises them.

    Parameters
    ----------
    clf : CNN2DClassifier, CNN3DClassifier or Pipeline
        A fitted classifier, or a pipeline that ends in one. Samplers, which have no effect on
        predictions, are skipped.
    X : array-like of shape (n_samples, ...)
        Images, rows or files, as ``clf.predict`` takes them.

    Returns
    -------
    images : ndarray of shape (n_samples, n_channels, [d,] h, w)
        In memory, of the dtype of the images.

    Raises
    ------
    TypeError
        If there is no classifier of this package.
    sklearn.exceptions.NotFittedError
        If the classifier is not fitted.
    ValueError
        If X cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.explanation import images_of
    >>> X = np.random.default_rng(0).normal(size=(12, 64))
    >>> clf = CNN2DClassifier(max_epochs=0, input_shape=(8, 8)).fit(X, [0, 1] * 6)
    >>> images_of(clf, X[:2]).shape
    (2, 1, 8, 8)
    """
    cnn, X = _seen_by_classifier(clf, X)
    images, shape = check_images(cnn, X, reset=False)
    return ImageDataset(images, sample_shape=shape).X


def find_layer(clf: BaseCNNClassifier) -> str:
    """Return the name of the layer that ``"gradcam"`` takes if none is named.

    It is the last layer that keeps places apart: its output has the channels first, it is as large
    as the output of the convolution before it, and along each axis it has at least 7 voxels or a
    quarter of the voxels of the image. All that the network knows of the image goes through it. A
    group or instance normalisation comes after it, since behind these each place depends on all
    places. It runs once in a prediction, and no layer of tokens, such as in a transformer, runs
    after it. In a network of slices (:class:`~skimbal.SliceNet`) it is a layer of the backbone.

    A network with batch normalisation has such a layer near its end, and a network with group
    normalisation, as the built-in networks are by default, at its beginning.

    Parameters
    ----------
    clf : CNN2DClassifier or CNN3DClassifier
        A fitted classifier.

    Returns
    -------
    name : str
        Its name in ``named_modules()`` of ``clf.net_.module_.network``.

    Raises
    ------
    ValueError
        If there is no such layer.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.explanation import find_layer
    >>> X = np.random.default_rng(0).normal(size=(12, 28, 28))
    >>> find_layer(CNN2DClassifier(max_epochs=0).fit(X, [0, 1] * 6))
    'stem.0'
    """
    check_is_fitted(clf, "net_")
    with trainable_torch(), isolated_random_state(0, clf.net_.device), _quiet(clf.net_.module_):
        return _Subject.of(clf).layer(None).name


def _seen_by_classifier(clf: Classifier, X: ImagesLike) -> tuple[BaseCNNClassifier, ImagesLike]:
    """Return the classifier at the end of a pipeline, and the images that reach it."""
    found: Any = clf
    if isinstance(clf, Pipeline):
        check_is_fitted(clf)
        found = clf.steps[-1][1]
        for _, step in clf.steps[:-1]:
            if step is not None and step != "passthrough" and not hasattr(step, "fit_resample"):
                X = step.transform(X)
    if not isinstance(found, BaseCNNClassifier):
        names = ("best_estimator_", "estimator_", "estimator")
        inner = [name for name in names if hasattr(found, name)]
        raise TypeError(
            "clf must be a CNN2DClassifier, a CNN3DClassifier or a pipeline that ends in one; got "
            f"{type(found).__name__}." + (f" Pass its {inner[0]}." if inner else "")
        )
    check_is_fitted(found, "net_")
    return found, X


# What is explained ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Settings:
    """The parameters of the methods."""

    layer: str | None
    baseline: float | ArrayLike | None
    tolerance: float
    window: int | Sequence[int] | None


@dataclass(frozen=True)
class _Layer:
    """A layer, and where the centres of its voxels are in its input, along each axis."""

    name: str
    module: nn.Module
    n_voxels: tuple[int, ...]
    steps: tuple[float, ...]
    starts: tuple[float, ...]
    #: Type of the first normalisation over places, if any, and whether the layer is behind it.
    mixed_by: str | None
    is_mixed: bool


@dataclass(frozen=True)
class _Subject:
    """A network as a function from the images that it gets, standardised, to log-odds."""

    module: Any
    shape: tuple[int, ...]
    shift: Tensor
    device: str
    block_size: int
    least: Tensor | None

    @classmethod
    def of(cls, clf: BaseCNNClassifier) -> "_Subject":
        """Return the network of a fitted classifier."""
        net = clf.net_
        channels, *spatial = clf.input_shape_
        module: Any = net.module_
        shift = float(clf.logit_adjustment) * log_prior(clf.class_prior_)
        pixels = clf.input_.pixels
        return cls(
            module=module,
            shape=(channels, *(module.crop_size or spatial)),
            shift=torch.as_tensor(shift, device=net.device, dtype=module.dtype),
            device=net.device,
            block_size=net.block_size or 16,
            least=None if pixels is None else torch.tensor(pixels.least),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the log-odds of each class, of shape (n_rows, n_classes)."""
        logits: Tensor = self.module.network(images) - self.shift
        n_classes = logits.shape[1]
        itself = torch.eye(n_classes, dtype=torch.bool, device=logits.device)
        others = logits.unsqueeze(1).masked_fill(itself, -math.inf).logsumexp(2)
        return logits - others

    def images(self, data: ImageDataset, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return some images as the network gets them, and their targets."""
        batch = data.batch(rows)
        return self.module.prepare(batch.images.to(self.device)), batch.labels.to(self.device)

    def constant(self, baseline: float | ArrayLike | None) -> Tensor:
        """Return an image of the baseline, of shape (1, n_channels, ...)."""
        n_channels = self.shape[0]
        if baseline is not None:
            values = np.asarray(baseline)
            if (
                values.dtype.kind not in "iuf"
                or values.shape not in ((), (n_channels,))
                or not np.isfinite(values).all()
            ):
                raise ParameterError(
                    "baseline", f"None, a number or {n_channels} numbers, one a channel", baseline
                )
            of_channels = torch.as_tensor(np.array(values, dtype=np.float64))
        elif self.module.mean is not None:
            of_channels = self.module.mean
        elif self.least is not None:
            of_channels = self.least
        else:
            raise ParameterError(
                "baseline",
                "a number or a number for each channel after a fit that has not looked at pixels",
                baseline,
            )
        column = of_channels.to(self.device, self.module.dtype).reshape(
            -1, *[1] * (len(self.shape) - 1)
        )
        image: Tensor = self.module.prepare(column.expand(1, *self.shape))
        return image

    def empty(self) -> Tensor:
        """Return a batch of one image of zeros."""
        return torch.zeros(1, *self.shape, dtype=self.module.dtype, device=self.device)

    def layer(self, name: str | None) -> _Layer:
        """Return a layer by its name, or by the rule of :func:`find_layer`."""
        watch = _run_and_watch(self)
        return _last_sensible(self, watch) if name is None else watch.named(name)


def _targets(
    clf: BaseCNNClassifier, X: ImagesLike | None, n_rows: int, target: object
) -> np.ndarray:
    """Return the number of the class of each row."""
    labels = clf.predict(X) if X is not None else np.asarray(target)
    number = {label: k for k, label in enumerate(clf.classes_.tolist())}
    if labels.shape not in ((), (n_rows,)):
        raise ParameterError("target", f"a label, or {n_rows} labels, one a row", target)
    wrong = [label for label in np.ravel(labels).tolist() if label not in number]
    if wrong:
        raise ParameterError(
            "target", f"among the classes {', '.join(map(repr, number))}", wrong[0]
        )
    numbers = np.array([number[label] for label in np.ravel(labels).tolist()], dtype=np.int64)
    return np.broadcast_to(numbers, n_rows).copy() if labels.shape == () else numbers


@contextmanager
def _quiet(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode, without backward hooks and changes in place, and restore all of it.

    Backward hooks of other packages change gradients. Behind them, changes in place are an error.
    """
    layers: list[Any] = list(module.modules())
    hooks = ("_backward_hooks", "_backward_pre_hooks")
    before = [
        (
            layer,
            {
                name: vars(layer)[name]
                for name in ("training", "inplace", *hooks)
                if name in vars(layer)
            },
        )
        for layer in layers
    ]
    try:
        module.eval()
        for layer, state in before:
            for name in hooks:
                if name in state:
                    vars(layer)[name] = type(state[name])()
            if state.get("inplace") is True:
                layer.inplace = False
        yield
    finally:
        for layer, state in before:
            vars(layer).update(state)


def _in_whole_image(
    clf: BaseCNNClassifier, compute: "_Compute", data: ImageDataset, rows: np.ndarray
) -> np.ndarray:
    """Compute the maps of some rows, with 0 around the part that the network sees."""
    maps = compute(data, rows).numpy(force=True)
    whole = data.sample_shape[1:]
    if maps.shape[1:] == whole:
        return maps
    result = np.zeros((len(rows), *whole), dtype=maps.dtype)
    crop = clf.net_.module_.crop_size
    inside = tuple(
        slice((size - part) // 2, (size - part) // 2 + part)
        for size, part in zip(whole, crop, strict=True)
    )
    result[(slice(None), *inside)] = maps
    return result


# The layer of Grad-CAM -----------------------------------------------------------------------

#: Distance of the centres of voxels and place of the first centre along each axis, in pixels.
_Grid: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]


class _Watch:
    """The outputs of the layers of a network for one image, in the order in which they end."""

    def __init__(self, n_axes: int, image: tuple[int, ...]) -> None:
        self.n_axes, self.image = n_axes, image
        self.outputs: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}
        self.counts: dict[str, int] = {}
        #: Names of layers that keep places apart, in order.
        self.sensible: list[str] = []
        #: Steps and starts by the size of an output.
        self.grids: dict[tuple[int, ...], _Grid] = {image: ((1.0,) * n_axes, (0.0,) * n_axes)}
        self._convolved: tuple[int, ...] | None = None
        #: Type of the first normalisation over places, and the names of the layers behind it.
        self.mixed_by: str | None = None
        self.mixed: set[str] = set()

    def note(self, name: str, layer: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        """Note the output of a layer."""
        self.counts[name] = self.counts.get(name, 0) + 1
        if not isinstance(output, Tensor):
            return
        size = tuple(output.shape[2:])
        self.outputs[name] = layer, size
        if isinstance(layer, nn.Linear) and output.ndim == 3 and output.shape[1] > 1:
            self.sensible.clear()  # tokens
        if self.mixed_by is None and _is_over_places(layer):
            self.mixed_by = type(layer).__name__
        if self.mixed_by is not None:
            self.mixed.add(name)
        if output.ndim != 2 + self.n_axes:
            return
        if next(layer.children(), None) is None:
            if inputs and isinstance(inputs[0], Tensor):
                self._note_grid(layer, tuple(inputs[0].shape[2:]), size)
            if "conv" in type(layer).__name__.lower():
                self._convolved = size
        enough = [min(_LEAST_GRID, math.ceil(pixels / 4)) for pixels in self.image]
        if (
            self.mixed_by is None
            and size == self._convolved
            and all(np.greater_equal(size, enough))
        ):
            self.sensible.append(name)

    def _note_grid(self, layer: nn.Module, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        if before in self.grids and len(before) == len(after) and after not in self.grids:
            self.grids[after] = _grid_behind(layer, before, after, self.grids[before])

    def named(self, name: str) -> "_Layer":
        """Return a layer by its name, or say why it cannot be used."""
        names = [other for other, (_, size) in self.outputs.items() if len(size) == self.n_axes]
        if name not in names:
            raise ParameterError(
                "layer",
                f"the name of a layer whose output has {self.n_axes} spatial axes",
                name,
                f"The last ones are {', '.join(names[-5:])}." if names else "There is none.",
            )
        if self.counts[name] > 1:
            raise ParameterError(
                "layer",
                "the name of a layer that runs once in a prediction",
                name,
                f"It runs {self.counts[name]} times. Name the block around it.",
            )
        module, size = self.outputs[name]
        grid = self.grids.get(size, _stretched(self.image, size))
        return _Layer(name, module, size, *grid, self.mixed_by, name in self.mixed)


def _is_over_places(layer: nn.Module) -> bool:
    return isinstance(layer, _OVER_PLACES) or (
        isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) > 1
    )


def _run_and_watch(subject: _Subject) -> _Watch:
    """Run the network on an empty image, and watch its layers, or the layers of its backbone."""
    network, image, prefix = subject.module.network, subject.shape[1:], ""
    if isinstance(network, SlicedNetwork):
        image = tuple(size for axis, size in enumerate(image) if axis != network.axis)
        prefix = "backbone."
    watch = _Watch(len(image), image)

    def noting(name: str) -> Callable[..., None]:
        return lambda layer, inputs, output: watch.note(name, layer, inputs, output)

    handles = [
        layer.register_forward_hook(noting(name))
        for name, layer in network.named_modules()
        if name and name.startswith(prefix)
    ]
    try:
        with torch.no_grad():
            subject(subject.empty())
    finally:
        for handle in handles:
            handle.remove()
    return watch


def _last_sensible(subject: _Subject, watch: _Watch) -> _Layer:
    """Return the last layer that keeps places apart and that everything goes through."""
    for name in reversed(watch.sensible):
        if watch.counts[name] == 1 and _is_passed_by_all(subject, watch.outputs[name][0]):
            return watch.named(name)
    raise ParameterError(
        "layer",
        f"a name, as {type(subject.module.network).__name__} has no layer that keeps the places of "
        "an image apart, such as a transformer",
        None,
        "The methods 'integrated_gradients' and 'occlusion' need no layer.",
    )


def _is_passed_by_all(subject: _Subject, layer: nn.Module) -> bool:
    """Tell whether the logits depend on the image by way of this layer alone."""
    image = subject.empty().requires_grad_()
    seen: list[Tensor] = []

    def cut(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    with layer.register_forward_hook(cut):
        logits = subject(image).sum()
    if not logits.requires_grad:
        return False
    past_and_through = torch.autograd.grad(logits, [image, seen[-1]], allow_unused=True)
    return [gradient is None for gradient in past_and_through] == [True, False]


def _stretched(before: Sequence[int], after: Sequence[int]) -> _Grid:
    """Return steps and starts of voxels that share the input evenly."""
    steps = tuple(large / small for large, small in zip(before, after, strict=True))
    return steps, tuple((step - 1) / 2 for step in steps)


def _grid_behind(
    layer: nn.Module, before: tuple[int, ...], after: tuple[int, ...], grid: _Grid
) -> _Grid:
    """Return steps and starts behind a layer: a window that moves, or else an even share."""
    steps, starts = _stretched(before, after)
    window = _window_of(layer, len(before))
    if window is not None and all(
        abs((size + 2 * pad - far) // step + 1 - found) <= 1
        for size, found, (step, pad, far) in zip(before, after, window, strict=True)
    ):
        steps = tuple(float(step) for step, _, _ in window)
        starts = tuple((far - 1) / 2 - pad for _, pad, far in window)
    return (
        tuple(outer * step for outer, step in zip(grid[0], steps, strict=True)),
        tuple(
            first + outer * start
            for first, outer, start in zip(grid[1], grid[0], starts, strict=True)
        ),
    )


def _window_of(layer: Any, n_axes: int) -> list[tuple[int, int, int]] | None:
    """Return step, padding and extent of the window of a convolution or pooling."""
    numbers = []
    for name in ("stride", "padding", "kernel_size", "dilation"):
        value = getattr(layer, name, 1 if name == "dilation" else None)
        values = (value,) * n_axes if is_integer(value) else value
        if not isinstance(values, tuple) or len(values) != n_axes:
            return None
        numbers.append(values)
    return [
        (step, pad, dilation * (size - 1) + 1)
        for step, pad, size, dilation in zip(*numbers, strict=True)
    ]


def _enlarged(maps: Tensor, layer: _Layer, image: Sequence[int]) -> Tensor:
    """Interpolate maps between the centres of their voxels, linearly along each axis."""
    axes = zip(image, layer.n_voxels, layer.steps, layer.starts, strict=True)
    for axis, (n_pixels, n_voxels, step, start) in enumerate(axes, start=1):
        places = (np.arange(n_pixels) - start) / step
        shares = [np.interp(places, range(n_voxels), unit) for unit in np.eye(n_voxels)]
        weights = torch.as_tensor(np.array(shares), dtype=maps.dtype, device=maps.device)
        maps = torch.tensordot(maps, weights, ([axis], [0])).movedim(-1, axis)
    return maps


# The methods ---------------------------------------------------------------------------------

_Compute: TypeAlias = Callable[[ImageDataset, np.ndarray], Tensor]


def _gradcam(subject: _Subject, settings: _Settings) -> tuple[_Compute, int]:
    """Return a function of images, and the number of rows that it takes at once."""
    from captum.attr import LayerGradCam

    layer = subject.layer(settings.layer)
    method = LayerGradCam(subject, layer.module)
    network = subject.module.network
    image = subject.shape[1:]
    _warn_of_mixed_places(network, layer)

    def compute(data: ImageDataset, rows: np.ndarray) -> Tensor:
        images, targets = subject.images(data, rows)
        maps = method.attribute(images, targets, relu_attributions=True).detach().squeeze(1)
        if not isinstance(network, SlicedNetwork):
            return _enlarged(maps, layer, image)
        in_plane = [size for axis, size in enumerate(image) if axis != network.axis]
        slices = _enlarged(maps, layer, in_plane)  # (n_rows * n_slices, ...)
        return slices.reshape(len(rows), -1, *in_plane).movedim(1, 1 + network.axis)

    return compute, max(1, subject.block_size // 2)


def _warn_of_mixed_places(network: nn.Module, layer: _Layer) -> None:
    """Warn of a normalisation over places by which the map may miss what the network looks at."""
    inner = network.backbone if isinstance(network, SlicedNetwork) else network
    if layer.is_mixed or (layer.mixed_by is not None and not isinstance(inner, _FIND_LESIONS)):
        warn_caller(
            f"The maps by 'gradcam' at the layer {layer.name!r} are unreliable: it is "
            f"{'behind' if layer.is_mixed else 'before'} {layer.mixed_by}, which normalises over "
            "all places of an image. Use method='integrated_gradients' or method='occlusion'."
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of the path from the baseline to an image, and the log-odds that its map misses."""

    missed: float
    start: float
    end: float
    maps: Tensor

    @property
    def middle(self) -> float:
        """Where to cut it: behind normalisations, a millionth of a contrast is nearly all of it."""
        return math.sqrt(self.start * self.end) if self.start else self.end / 1000


def _integrated_gradients(subject: _Subject, settings: _Settings) -> tuple[_Compute, int]:
    """Return a function of images, and the number of rows that it takes at once."""
    from captum.attr import IntegratedGradients

    tolerance = settings.tolerance
    if not is_number(tolerance) or not 0 < tolerance < 1:
        raise ParameterError("tolerance", "a number in (0, 1)", tolerance)
    method, baseline = IntegratedGradients(subject), subject.constant(settings.baseline)

    def compute(data: ImageDataset, rows: np.ndarray) -> Tensor:
        image, target = subject.images(data, rows)

        def at(place: float) -> Tensor:
            return torch.lerp(baseline, image, place)

        @cache
        def log_odds(place: float) -> float:
            with torch.no_grad():
                return float(subject(at(place))[0, target])

        def part(start: float, end: float) -> _Part:
            maps: Tensor = method.attribute(at(end), at(start), target, n_steps=_N_STEPS).detach()
            missed = abs(float(maps.sum()) - log_odds(end) + log_odds(start))
            return _Part(missed, start, end, maps)

        gained = log_odds(1.0) - log_odds(0.0)
        allowed = tolerance * max(abs(gained), 1.0)
        parts = [part(0.0, 1.0)]
        while sum(each.missed for each in parts) > allowed and len(parts) < _MOST_PARTS:
            worst = max(parts, key=lambda each: each.missed)
            parts.remove(worst)
            parts += [part(worst.start, worst.middle), part(worst.middle, worst.end)]
        maps = torch.stack([each.maps for each in parts]).sum(0)
        missed = abs(float(maps.sum()) - gained)
        if not missed <= allowed:
            _warn_of_incomplete(data.name_of(rows[0]), missed, gained)
        return maps.sum(1)

    # One row, as the rows of a block would decide how finely the path of each other is cut.
    return compute, 1


def _warn_of_incomplete(name: str, missed: float, gained: float) -> None:
    warn_caller(
        f"The map of {name} by 'integrated_gradients' misses {missed:.2g} of the difference of "
        f"{gained:.2g} in log-odds between the image and the baseline. Look at the map by "
        "'occlusion' too, or set another baseline."
    )


def _occlusion(subject: _Subject, settings: _Settings) -> tuple[_Compute, int]:
    """Return a function of images, and the number of rows that it takes at once."""
    from captum.attr import Occlusion

    n_channels, *image = subject.shape
    window = _window(settings.window, image)
    steps = tuple(round(size / 2) or 1 for size in window)
    method, baseline = Occlusion(subject), subject.constant(settings.baseline)

    def compute(data: ImageDataset, rows: np.ndarray) -> Tensor:
        images, targets = subject.images(data, rows)
        with torch.no_grad():
            maps: Tensor = method.attribute(
                images,
                (n_channels, *window),
                strides=(n_channels, *steps),
                baselines=baseline,
                target=targets,
                perturbations_per_eval=max(1, subject.block_size // len(rows)),
            )
        return maps.mean(1)  # the same in all channels, which the window covers

    return compute, max(1, subject.block_size // 8)


def _window(window: object, image: Sequence[int]) -> tuple[int, ...]:
    """Return the size of the window of an occlusion along each axis."""
    if window is None:
        return tuple(math.ceil(size / _WINDOW[len(image)]) for size in image)
    sizes: object = (window,) * len(image) if is_integer(window) else window
    if (
        not isinstance(sizes, list | tuple)
        or len(sizes) != len(image)
        or not all(
            is_integer(size) and 0 < size <= most for size, most in zip(sizes, image, strict=True)
        )
    ):
        raise ParameterError(
            "window", f"None, an integer or {len(image)} integers from 1 to {tuple(image)}", window
        )
    return tuple(int(size) for size in sizes)


#: The methods of :func:`explain` by name.
METHODS: dict[str, Callable[[_Subject, _Settings], tuple[_Compute, int]]] = {
    "gradcam": _gradcam,
    "integrated_gradients": _integrated_gradients,
    "occlusion": _occlusion,
}


def _check_method(method: object) -> None:
    if not isinstance(method, str) or method not in METHODS:
        raise ParameterError("method", f"one of {', '.join(map(repr, METHODS))}", method)
