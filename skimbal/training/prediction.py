"""Logits and features of many rows."""

import difflib
import itertools
import math
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from skorch.dataset import unpack_data
from skorch.utils import to_tensor
from torch import Tensor, nn

from skimbal.augmentation import CenterCrop, alike
from skimbal.exceptions import NonFinitePredictionError, ParameterError
from skimbal.training.batches import closed_at_end
from skimbal.training.dataset import Batch, BatchImages, ImageDataset
from skimbal.training.devices import device_type
from skimbal.training.divergence import broken_weights, trace_of
from skimbal.training.forward import Net, Step, augmented, fast_inference, infer_with
from skimbal.training.memory import compute_in_parts
from skimbal.training.random_state import seed_all
from skimbal.training.surroundings import cuda_settings

__all__ = [
    "PredictingNet",
    "block_size",
    "check_feature_layer",
    "count_features",
    "features_of_rows",
    "in_blocks",
    "mirror_passes",
    "predict_rows",
    "random_passes",
    "rows_in_block",
    "slice_weights_of_rows",
    "try_out",
]

#: Least and greatest size of the largest output of a layer for a block that is predicted, in bytes.
#: On a CPU the output must fit in the cache, unless each block reads many weights, and it must be
#: smaller than the 32 MiB that glibc returns to the kernel each time.
_ACTIVATION_BYTES = {"cpu": (2**22, 2**24), "cuda": (2**28, 2**28)}


#: A change of the images of a block in a pass of a prediction.
Change: TypeAlias = Callable[[Tensor], Tensor]


class PredictingNet(Net, Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that predict many rows."""

    feature_layer: str | None
    tf32: bool | None
    cudnn_benchmark: bool | None
    activation_bytes_: int | None
    weight_bytes_: int | None
    feature_layer_: str | None
    n_features_: int | None

    def set_training(self, training: bool) -> None:
        """Set the network to training or evaluation mode."""

    def get_iterator(
        self, dataset: ImageDataset, training: bool = False
    ) -> Iterable[tuple[BatchImages, Tensor]]:
        """Return an iterator over the blocks of a data set."""

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Return the parameters of a part of the net."""


def check_feature_layer(net: PredictingNet) -> None:
    """Refuse a name that no layer of the network has."""
    names = dict(net.module_.network.named_modules(remove_duplicate=False))
    if net.feature_layer is not None and net.feature_layer not in names:
        near = difflib.get_close_matches(net.feature_layer, names, n=5, cutoff=0.5)
        hint = f"Near names are {near}" if near else f"The last layers are {[*names][-5:]}"
        raise ParameterError(
            "feature_layer",
            "None or the name of a layer of the network",
            net.feature_layer,
            f"{hint}. All names are in named_modules() of the network that module makes.",
        )


def try_out(net: PredictingNet, images: Tensor) -> Any:
    """Compute the logits of a single row, and learn its memory and features in the network."""
    sizes: list[int] = []
    network, wanted = net.module_.network, net.feature_layer
    names = {layer: name for name, layer in network.named_modules()}
    if wanted is not None:
        names = {network.get_submodule(wanted): wanted}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        sizes.extend(x.nbytes for x in (*inputs, output) if isinstance(x, Tensor))
        if module in names and (wanted is not None or isinstance(module, nn.Linear)):
            # The last call counts, as the features of a block are its input.
            net.feature_layer_, net.n_features_ = names[module], None
            first = inputs[0] if inputs else None
            if isinstance(first, Tensor) and first.ndim > 0 and len(first) == 1:
                net.n_features_ = first.numel()

    handles = [layer.register_forward_hook(note) for layer in net.module_.modules()]
    net.set_training(False)
    try:
        with torch.no_grad():
            logits = net.infer(images)
    finally:
        for handle in handles:
            handle.remove()
    net.activation_bytes_ = max(sizes)
    return logits


def count_features(net: PredictingNet) -> int:
    """Return the number of features of a row, or refuse a layer that gives no features."""
    if net.feature_layer_ is None and net.feature_layer is None:
        raise ValueError(
            "feature_layer must name a layer if the network runs no torch.nn.Linear; got None. "
            "Name a layer, and fit again."
        )
    if net.n_features_ is None:
        name = net.feature_layer if net.feature_layer_ is None else net.feature_layer_
        found = "does not run" if net.feature_layer_ is None else "gets something else"
        raise ValueError(
            "feature_layer must be a layer whose input is a tensor with one entry along its first "
            f"axis for each row; got {name!r}, which {found} in a prediction. Name another layer, "
            "and fit again."
        )
    return net.n_features_


def block_size(net: PredictingNet) -> int | None:
    """Return the largest number of rows that are predicted at once, if it is known.

    It is ``iterator_valid__batch_size`` if that is set. For skorch -1 means all rows. Otherwise it
    follows from the memory that a row takes, which :func:`try_out` finds.
    """
    given: int | None = net.get_params_for("iterator_valid").get("batch_size")
    if given == -1:
        return None
    if given is not None or net.activation_bytes_ is None:
        return given
    if net.weight_bytes_ is None:
        net.weight_bytes_ = sum(parameter.nbytes for parameter in net.module_.parameters())
    return rows_in_block(net.activation_bytes_, net.weight_bytes_, net.device)


def rows_in_block(activation_bytes: int, weight_bytes: int, device: str) -> int:
    """Return the number of rows that are predicted fastest at once.

    Parameters
    ----------
    activation_bytes : int
        Size of the largest output of a layer for one row.
    weight_bytes : int
        Size of all weights.
    device : str
        Where the network predicts.
    """
    least, greatest = _ACTIVATION_BYTES.get(device_type(device), _ACTIVATION_BYTES["cpu"])
    n_rows = min(greatest, max(least, 4 * weight_bytes)) // activation_bytes
    # On a CPU not one: torch convolves a single volume on a single thread three times as slowly.
    fewest = 2 if device_type(device) == "cpu" else 1
    return max(fewest, min(1024, n_rows))


def predict_rows(
    net: PredictingNet,
    dataset: ImageDataset,
    function: Callable[[Tensor], Tensor],
    changes: Sequence[Change] = (),
) -> np.ndarray:
    """Compute a function of the logits of each row.

    Parameters
    ----------
    net : TrainingNet
        The net.
    dataset : ImageDataset
        The rows.
    function : callable
        Of the logits of a block, of shape (n_rows, n_classes). Its result has as many rows.
    changes : sequence of callable, default=()
        The changes of the images in further passes. The first pass sees the images as they are. The
        logits of several passes are the logarithm of the mean of their probabilities.

    Returns
    -------
    result : ndarray of shape (n_samples, ...)
        Nothing else is as large as the data set.
    """
    net.set_training(False)
    # To fold takes as long as it saves in some blocks.
    pays = (1 + len(changes)) * len(dataset) > 4 * (block_size(net) or len(dataset))
    with torch.inference_mode():
        infer = fast_inference(net, dataset.sample_shape, pays)
    if not changes:
        return in_blocks(net, dataset, infer, function)

    def mean_of_passes(images: Tensor) -> Tensor:
        others = (infer(change(images)) for change in changes)
        log_proba = torch.stack([infer(images), *others]).log_softmax(-1)  # (n_passes, n_rows, K)
        return log_proba.logsumexp(0) - math.log(len(log_proba))

    return in_blocks(net, dataset, mean_of_passes, function)


def random_passes(net: PredictingNet, seeds: Iterable[int]) -> list[Change]:
    """Return the changes of training, each drawn once for all images of all blocks."""

    def all_alike(steps: Sequence[Step], images: Tensor) -> Tensor:
        for step in steps:
            images = alike(step, images)
        return images

    def change(seed: int, images: Tensor) -> Tensor:
        seed_all(seed, net.device)
        return augmented(net, images, all_alike)

    return [partial(change, seed) for seed in seeds]


def mirror_passes(net: PredictingNet, axes: Collection[int]) -> list[Change]:
    """Return all mirror images over some spatial axes, except the images as they are."""

    def mirrored(chosen: tuple[int, ...], images: Tensor) -> Tensor:
        images = to_tensor(images, device=net.device).to(net.module_.dtype)
        if net.module_.crop_size is not None:
            images = CenterCrop(net.module_.crop_size)(images)
        return images.flip([2 + axis for axis in chosen])

    sizes = range(1, 1 + len(axes))
    choices = (itertools.combinations(sorted(axes), size) for size in sizes)
    return [partial(mirrored, chosen) for chosen in itertools.chain.from_iterable(choices)]


def features_of_rows(net: PredictingNet, dataset: ImageDataset) -> np.ndarray:
    """Compute the input of the feature layer for each row.

    Parameters
    ----------
    net : TrainingNet
        The net.
    dataset : ImageDataset
        The rows.

    Returns
    -------
    features : ndarray of shape (n_samples, n_features)
        In float32 or better.

    Raises
    ------
    ValueError
        If there is no such layer, or its input has no rows.
    """
    count_features(net)
    assert net.feature_layer_ is not None
    net.set_training(False)
    network, thread = net.module_.network, threading.get_ident()
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if threading.get_ident() == thread:  # and not for a prediction in another thread
            # A copy, since later layers may compute in its place.
            kept[:] = [inputs[0].reshape(len(inputs[0]), -1).clone()]

    # Not by way of a compiled module, whose code knows no hook that comes later.
    infer = infer_with(net, network)

    def features(images: Tensor) -> Tensor:
        kept.clear()
        infer(images)
        if not kept:
            raise ValueError(
                "feature_layer must be a layer that runs for all rows; got "
                f"{net.feature_layer_!r}, which did not run for some rows. Name another layer, and "
                "fit again."
            )
        return kept[0].to(torch.promote_types(kept[0].dtype, torch.float32))

    with network.get_submodule(net.feature_layer_).register_forward_pre_hook(keep):
        return in_blocks(net, dataset, features)


def slice_weights_of_rows(net: PredictingNet, dataset: ImageDataset) -> np.ndarray:
    """Compute the weights of the slices of each row, of shape (n_samples, n_slices)."""
    net.set_training(False)
    network: Any = net.module_.network
    return in_blocks(net, dataset, infer_with(net, network.slice_weights))


def in_blocks(
    net: PredictingNet,
    dataset: ImageDataset,
    compute: Callable[[Tensor], Tensor],
    function: Callable[[Tensor], Tensor] | None = None,
) -> np.ndarray:
    """Compute something of the images of each block, and join the results in one array.

    A block for which memory does not suffice is halved, and so are the blocks after it. Refuse rows
    of which the result is not finite, even if a ``function`` of it would hide that.
    """
    result, traces, start, at_once = None, None, 0, len(dataset)
    iterator = net.get_iterator(dataset, training=False)
    settings = cuda_settings(net.tf32, net.cudnn_benchmark)
    with torch.inference_mode(), settings, closed_at_end(iterator) as pairs:
        for pair in pairs:
            images = Batch(unpack_data(pair)).images
            computed, at_once = compute_in_parts(compute, images, at_once, net.device)
            block = computed if function is None else function(computed)
            trace = trace_of(computed)
            if block is not computed and block.is_floating_point():
                trace = trace + trace_of(block)
            if images.dtype.itemsize >= 4:  # narrower numbers stay within the range of any dtype
                trace = trace + _trace_of_input(net, images)
            if result is None or traces is None:
                # They stay on the device, which would else have to wait after each block.
                result = block.new_empty((len(dataset), *block.shape[1:]))
                traces = trace.new_empty(len(dataset))
            result[start : start + len(block)] = block
            traces[start : start + len(block)] = trace
            start += len(block)
    if result is None or traces is None or start != len(dataset):
        raise ValueError(
            f"iterator_valid must give all {len(dataset)} rows to predict, in order; got {start} "
            "rows. Set drop_last=False and shuffle=False."
        )
    is_bad = np.isnan(traces.numpy(force=True))
    if is_bad.any():
        raise _not_finite(net, dataset, np.flatnonzero(is_bad))
    return result.numpy(force=True)


def _trace_of_input(net: PredictingNet, images: Tensor) -> Tensor:
    """Return NaN for rows with a pixel that overflows, which an activation may hide."""
    prepared = net.module_.prepare(to_tensor(images, device=net.device))
    return trace_of(prepared if net.autocast is None else prepared.to(net.autocast))


def _not_finite(
    net: PredictingNet, dataset: ImageDataset, rows: np.ndarray
) -> NonFinitePredictionError:
    """Return the error about rows whose prediction is not finite, with its likely cause."""
    others = f" and {len(rows) - 1} other rows" if len(rows) > 1 else ""
    found = f"The network gives NaN or infinity for row {rows[0]}{others}."
    weights = broken_weights(net.module_)
    if weights:
        cause = (
            f"{weights}, as after a training that diverged. Fit again with a smaller lr, or with "
            "clipped gradients."
        )
    else:
        pixels = dataset.batch(rows[:1]).images.double()
        dtype = net.module_.dtype if net.autocast is None else net.autocast
        cause = (
            f"The pixels of row {rows[0]} are from {pixels.min():g} to {pixels.max():g}, and "
            f"numbers that the network computes of them in {dtype} are not finite. Look at this "
            "image, scale X down, or fit with a wider dtype."
        )
    return NonFinitePredictionError(f"{found} {cause}", rows.tolist())
