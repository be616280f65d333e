"""The memory that training takes, estimated before it begins."""

import copy
import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from sklearn.base import clone
from skorch.utils import params_for
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skimbal.augmentation import divide_steps, get_augmentation
from skimbal.classifiers import CNN2DClassifier, CNN3DClassifier
from skimbal.classifiers.assembly import dtypes_of_network, make_factory
from skimbal.classifiers.inputs import Rows
from skimbal.classifiers.machine import check_device, check_machine
from skimbal.classifiers.parameters import (
    DTYPES,
    LOW_PRECISION,
    check_crop_size,
    find_optimizer,
)
from skimbal.classifiers.settings import Settings, resolve
from skimbal.exceptions import ParameterError
from skimbal.losses import get_loss
from skimbal.networks import PixelRange
from skimbal.training import (
    Blueprint,
    ImageDataset,
    Layout,
    StandardizedModule,
    isolated_random_state,
)
from skimbal.typing import is_integer
from skimbal.wording import memory_in_words

__all__ = ["MemoryEstimate", "estimate_memory", "memory_of_machine", "peak_of_step"]


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory of a training step, in bytes.

    Parameters
    ----------
    weights : int
        Weights and buffers of the network.
    gradients : int
        Gradients of the weights that training changes.
    optimizer : int
        State of the optimizer, such as the two moments of AdamW.
    images : int
        A whole batch of images, the batch that is read ahead, and the mixed images of a batch.
    activations : int
        Intermediate results at their largest, between the forward and the backward pass.
    batch_size : int
        Rows in a batch.
    rows_at_once : int
        Rows in memory at once: ``micro_batch_size``, or the whole batch.

    Examples
    --------
    >>> from skimbal.memory import MemoryEstimate
    >>> estimate = MemoryEstimate(10**6, 10**6, 2 * 10**6, 10**5, 9 * 10**7, 32, 32)
    >>> print(estimate)
    94 MB for a training step of 32 images: 90 MB of activations, 4 MB of weights and optimizer
    """

    weights: int
    gradients: int
    optimizer: int
    images: int
    activations: int
    batch_size: int
    rows_at_once: int

    @property
    def total(self) -> int:
        """The sum of all parts, in bytes."""
        of_weights = self.weights + self.gradients + self.optimizer
        return of_weights + self.images + self.activations

    def __str__(self) -> str:
        """Return a line of text."""
        of_weights = self.weights + self.gradients + self.optimizer
        parts = ""
        if self.rows_at_once < self.batch_size:
            parts = f", {self.rows_at_once} at once"
        total, activations, others = map(
            memory_in_words, (self.total, self.activations, of_weights)
        )
        return (
            f"{total} for a training step of {self.batch_size} images{parts}: {activations} of "
            f"activations, {others} of weights and optimizer"
        )


def estimate_memory(
    estimator: CNN2DClassifier | CNN3DClassifier,
    shape: Sequence[int],
    n_classes: int = 2,
    image_dtype: DTypeLike | None = None,
) -> MemoryEstimate:
    """Estimate the memory that a training step of a classifier takes, without training.

    The network is built, and one step of it is traced on tensors without data, so the estimate
    takes about as long as building the network. A network that cannot be traced so is run on two
    random images, from which the memory of a batch follows.

    Parameters
    ----------
    estimator : CNN2DClassifier or CNN3DClassifier
        The classifier, which stays as it is. It need not be fitted.
    shape : sequence of int
        Shape of an image in voxels, ([d,] h, w) or (n_channels, [d,] h, w), such as
        ``X.shape[1:]``.
    n_classes : int, default=2
        Number of classes.
    image_dtype : dtype, default=None
        Of the images, such as ``X.dtype``. ``dtype="auto"`` makes a network in float64 of images in
        float64 on the CPU, which takes twice the memory. None is one byte for a pixel.

    Returns
    -------
    estimate : MemoryEstimate
        In bytes. ``estimate.total`` is the memory beyond the memory of the process and of the
        images before the fit. It was 0.55 to 0.96 of the peak that was measured on a CPU for ten
        networks (``benchmarks/results/batch_memory.rst``). A CUDA device holds all images in
        addition, if they take at most half of its free memory.

    Raises
    ------
    ParameterError
        If a parameter of the classifier cannot be used, ``shape`` is not a shape of its images, or
        ``image_dtype`` is not a dtype of numbers.

    Notes
    -----
    Workspaces of convolutions and memory that the allocator keeps are not part of the estimate.
    ``micro_batch_size="auto"`` counts as the whole batch, with which training begins.
    In bfloat16 and float16 the activations count half. A pretrained network is built with its
    weights, as in a fit.

    Examples
    --------
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.memory import estimate_memory
    >>> clf = CNN2DClassifier(module="small")
    >>> small, large = (estimate_memory(clf, (size, size)).activations for size in (32, 64))
    >>> 3.5 < large / small < 4.5
    True
    """
    clf = clone(estimator)
    check_machine(clf)
    shape = _shape_of_image(clf, shape)
    if not is_integer(n_classes) or n_classes < 2:
        raise ParameterError("n_classes", "an integer of at least 2", n_classes)
    crop_size = check_crop_size(clf, shape)
    y = np.arange(4 * n_classes) % n_classes
    pixel = np.zeros((), _dtype_of_images(image_dtype))
    images = np.broadcast_to(pixel, (len(y), *shape))  # takes no memory
    rows = Rows(ImageDataset(images, y, sample_shape=shape), np.arange(n_classes))
    settings = resolve(clf, get_loss(clf.loss, rows.class_mass), rows, crop_size)
    given, dtype = clf.micro_batch_size, _dtype_of_network(clf, pixel.dtype)
    at_once = settings.batch_size if isinstance(given, str | None) else given
    at_once = min(settings.batch_size, at_once)
    dtype_bytes = DTYPES[dtype].itemsize
    with isolated_random_state(0, "cpu"):
        module = _module(clf, settings, shape, n_classes, crop_size, dtype)
        weights, trained = _bytes_of(module)
        activations = _activations(module, (at_once, *shape), trained)
    if clf.dtype in LOW_PRECISION:
        # Autocast keeps the weights in float32, beside a copy in low precision.
        activations = activations // 2 + weights // 2
    return MemoryEstimate(
        weights=weights,
        gradients=trained,
        optimizer=round(trained * _state_per_weight(clf)),
        images=_bytes_of_images(clf, settings, shape, crop_size, (pixel.nbytes, dtype_bytes)),
        activations=activations,
        batch_size=settings.batch_size,
        rows_at_once=at_once,
    )


def memory_of_machine() -> int | None:
    """Return the memory of this machine, or of the container that it runs this process in.

    Returns
    -------
    memory : int or None
        In bytes. None where the system does not tell.

    Examples
    --------
    >>> from skimbal.memory import memory_of_machine
    >>> memory = memory_of_machine()
    >>> memory is None or memory > 10**8
    True
    """
    if not hasattr(os, "sysconf"):
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError):
            limit = Path("/sys/fs/cgroup", name).read_text("ascii").strip()
            if limit.isdecimal():
                memory = min(memory, int(limit))
    return memory


def peak_of_step(step: Callable[[], object]) -> int:
    """Return the most memory that the tensors of a computation take at once, in bytes.

    Parameters
    ----------
    step : callable
        A computation of torch, on any device. Without data (``device="meta"``) it costs no time.

    Returns
    -------
    peak : int
        In bytes, of the tensors that the computation makes. Tensors that exist before do not count.

    Examples
    --------
    >>> import torch
    >>> from skimbal.memory import peak_of_step
    >>> peak_of_step(lambda: torch.ones(1000).exp().sum())
    8000
    """
    with _LiveTensors() as live:
        step()
    peak: int = live.peak
    return peak


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the memory of the tensors that are made and not yet freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Compute, and note the storages of the result that are new."""
        given = [t.untyped_storage() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        before = {id(storage) for storage in given}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and id(leaf.untyped_storage()) not in before:
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, n_bytes = id(storage), storage.nbytes()
        if key in self._known:
            return

        def forget(reference: object) -> None:
            self.live -= n_bytes
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self.live += n_bytes
        self.peak = max(self.peak, self.live)


def _shape_of_image(
    clf: CNN2DClassifier | CNN3DClassifier, shape: Sequence[int]
) -> tuple[int, ...]:
    n_axes = len(clf.spatial_axes)
    if len(shape) not in (n_axes, n_axes + 1) or not all(is_integer(n) and n > 0 for n in shape):
        axes = ", ".join(clf.spatial_axes)
        raise ParameterError(
            "shape", f"({axes}) or (n_channels, {axes}) in positive integers", shape
        )
    sizes = tuple(int(size) for size in shape)
    return sizes if len(sizes) == n_axes + 1 else (1, *sizes)


def _dtype_of_images(given: DTypeLike | None) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(np.uint8 if given is None else given)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "buif":
        raise ParameterError("image_dtype", "None or a dtype of numbers", given, "Pass X.dtype.")
    return dtype


def _dtype_of_network(clf: CNN2DClassifier | CNN3DClassifier, image_dtype: np.dtype[Any]) -> str:
    """Return the dtype of the weights, as a fit chooses it."""
    device = check_device(clf.device)
    return dtypes_of_network(clf.dtype, image_dtype, device)[0]


def _module(
    clf: CNN2DClassifier | CNN3DClassifier,
    settings: Settings,
    shape: tuple[int, ...],
    n_classes: int,
    crop_size: tuple[int, ...] | None,
    dtype: str,
) -> StandardizedModule:
    """Return the network as a fit makes it."""
    blueprint = Blueprint(
        module=settings.module,
        sampler=None,
        epoch_length=None,
        pixels=PixelRange(0, 255, True),
        sample_shape=shape,
        n_classes=n_classes,
        crop_size=crop_size,
        dtype=dtype,
        autocast=None,
        channels_last=True,
        feature_layer=None,
        lr=1.0,
        lr_schedule=None,
        max_epochs=1,
        batch_size=settings.batch_size,
        micro_batch_size=None,
        compiled=False,
    )
    options: dict[str, Any] = dict(clf.net or {})
    ones = np.ones((shape[0], *[1] * (len(shape) - 1)), dtype)
    mean, std = (ones, ones) if settings.standardize else (None, None)
    return StandardizedModule(
        make_factory(blueprint),
        shape[0],
        n_classes,
        DTYPES[dtype],
        mean,
        std,
        layout=Layout(options.get("memory_format", "auto")),
        crop_size=crop_size,
        **params_for("module", options),
    ).train()


def _bytes_of_images(
    clf: CNN2DClassifier | CNN3DClassifier,
    settings: Settings,
    shape: tuple[int, ...],
    crop_size: tuple[int, ...] | None,
    pixel_bytes: tuple[int, int],
) -> int:
    """Return the bytes of two batches as they are read, and of a batch that is mixed.

    ``pixel_bytes`` are the bytes of a pixel that is read, and of a pixel in the network.
    """
    n_read = settings.batch_size * math.prod(shape)
    _, mixing = divide_steps(get_augmentation(settings.augment, len(clf.spatial_axes)) or ())
    n_mixed = settings.batch_size * math.prod((shape[0], *(crop_size or shape[1:])))
    return 2 * n_read * pixel_bytes[0] + (n_mixed * pixel_bytes[1] if mixing else 0)


def _bytes_of(module: nn.Module) -> tuple[int, int]:
    """Return the memory of all weights and buffers, and of the weights that training changes."""
    weights = [*module.parameters(), *module.buffers()]
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    return sum(w.nbytes for w in weights), sum(w.nbytes for w in trained)


def _activations(module: StandardizedModule, shape: tuple[int, ...], gradients: int) -> int:
    """Return the most memory of a step beside weights and gradients."""
    try:
        traced = copy.deepcopy(module).to("meta")
        peak = peak_of_step(lambda: _step(traced, shape, "meta"))
    except (RuntimeError, NotImplementedError, TypeError):  # such as of a value that decides
        few = min(2, shape[0])
        at_least = peak_of_step(lambda: _step(module, (few, *shape[1:]), "cpu"))
        return max(0, at_least - gradients) * shape[0] // few
    return max(0, peak - gradients)


def _step(module: nn.Module, shape: tuple[int, ...], device: str) -> None:
    """Compute the gradient of a batch."""
    labels = torch.zeros(shape[0], dtype=torch.long, device=device)
    with torch.enable_grad():
        logits = module(torch.zeros(shape, dtype=torch.uint8, device=device))
        torch.autograd.backward(nn.functional.cross_entropy(logits, labels))


def _state_per_weight(clf: CNN2DClassifier | CNN3DClassifier) -> float:
    """Return the size of the state of the optimizer, as a multiple of the size of the weights."""
    given = params_for("optimizer", clf.net or {})
    given.pop("param_groups", None)
    weight = nn.Parameter(torch.ones(32, 32))
    make: Any = find_optimizer(clf.optimizer)
    optimizer = make([weight], lr=1e-3, **given)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = (weight**2).sum()
        torch.autograd.backward(value)
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    state = [t for t in tree_leaves(optimizer.state_dict()["state"]) if isinstance(t, Tensor)]
    return sum(tensor.nbytes for tensor in state) / weight.nbytes
