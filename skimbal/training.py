"""The skorch net inside the classifiers: whole batches, weighted losses, micro-batches, precision.

It lives in encoded labels (0 to ``n_classes - 1``) and in arrays that have been checked.
"""

import difflib
import io
import itertools
import math
import pickle
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import skorch
import torch
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    MlflowLogger,
    NeptuneLogger,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    TrainEndCheckpoint,
    WandbLogger,
)
from skorch.dataset import Dataset, unpack_data
from skorch.utils import get_map_location, to_tensor
from torch import Tensor, nn
from tqdm.auto import tqdm

from skimbal import distributed
from skimbal.augmentation import CenterCrop, RandomCrop
from skimbal.losses import MixedLoss
from skimbal.networks import fold_batch_norm
from skimbal.sampling import BatchSampler

__all__ = [
    "BlockIterator",
    "CosineSchedule",
    "DeviceDataset",
    "EpochProgress",
    "ImageDataset",
    "ImageNet",
    "IncompleteBatches",
    "StandardizedModule",
    "TrainIterator",
    "can_be_fused",
    "channel_statistics",
    "isolated_random_state",
    "softmax",
]

#: Memory format of a batch, by its number of axes.
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
#: Integers of the same size that torch indexes on any device.
_SIGNED = {
    torch.uint16: torch.int16,
    torch.uint32: torch.int32,
    torch.uint64: torch.int64,
}
#: Numbers in a block of images that are read, so that one of volumes is no larger.
_BLOCK_ELEMENTS = 2**19
#: Least and greatest size of the largest output of a layer for a block that is predicted, in bytes.
#: On a CPU it is to stay in the cache, unless many weights have to be read for each block, and
#: below the 32 MiB that glibc returns to the kernel each time.
_ACTIVATION_BYTES = {"cpu": (2**22, 2**24), "cuda": (2**28, 2**28)}

#: Optimizers whose step makes do with one gradient, so that they need no closure to compute more.
_ONE_GRADIENT_A_STEP = {
    optimizer
    for optimizer in vars(torch.optim).values()
    if isinstance(optimizer, type)
    and issubclass(optimizer, torch.optim.Optimizer)
    and optimizer is not torch.optim.LBFGS
}

# Random states are global to the process, so fits in threads must take turns to be repeatable.
_RANDOM_STATE_LOCK = threading.RLock()


class ImageDataset(Dataset):  # type: ignore[misc]
    """Rows of an array as images, given out in whole batches.

    Nothing is read or copied before a batch is asked for: ``X`` may be a memory map or read-only,
    and keeps its dtype.

    Parameters
    ----------
    X : ndarray or ImageArray of shape (n_rows, ...)
        Images, or images as rows.
    y : ndarray of shape (n_rows,), default=None
        Encoded labels, int64; zeros if None.
    sample_weight : ndarray of shape (n_rows,), default=None
        Weights, dimensionless.
    sample_shape : tuple of int, default=None
        Shape of an image, (c, h, w) or (c, d, h, w); that of a row of ``X`` if None.
    rows : ndarray of int, default=None
        Rows of ``X`` that belong to the data set, all if None.
    """

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray | None = None,
        *,
        sample_weight: np.ndarray | None = None,
        sample_shape: Sequence[int] | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self._X, self._sample_weight = X, sample_weight
        self._y = np.zeros(len(X), dtype=np.int64) if y is None else y
        self.sample_shape = tuple(X.shape[1:] if sample_shape is None else sample_shape)
        self.rows = np.arange(len(X)) if rows is None else rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the images."""
        return self._X.dtype

    @property
    def has_files(self) -> bool:
        """Whether images are read from files and decoded, for which a batch would wait."""
        return bool(getattr(self._X, "has_files", False))

    @property
    def X(self) -> np.ndarray:
        """Copy of the images of this data set, for callbacks that ask for all of them at once."""
        return np.asarray(self._X[self.rows]).reshape(-1, *self.sample_shape)

    @property
    def y(self) -> np.ndarray:
        """Encoded labels of this data set."""
        return self._y[self.rows]

    @property
    def sample_weight(self) -> np.ndarray | None:
        """Weights of this data set."""
        return None if self._sample_weight is None else self._sample_weight[self.rows]

    def take(self, index: np.ndarray) -> "ImageDataset":
        """Return the data set of some of the rows, without a copy of the images."""
        return ImageDataset(
            self._X,
            self._y,
            sample_weight=self._sample_weight,
            sample_shape=self.sample_shape,
            rows=self.rows[index],
        )

    def reweighted(self, sample_weight: np.ndarray) -> "ImageDataset":
        """Return the same rows with other weights, one for each of them."""
        weight = np.zeros(len(self._X))
        weight[self.rows] = sample_weight
        return ImageDataset(
            self._X,
            self._y,
            sample_weight=weight,
            sample_shape=self.sample_shape,
            rows=self.rows,
        )

    def batch(self, index: np.ndarray) -> tuple[Any, Tensor]:
        """Return (images, labels) of some rows; images come in a dict where rows have weights."""
        rows = self.rows[index]
        images = _tensor(np.asarray(self._X[rows])).reshape(len(rows), *self.sample_shape)
        labels = torch.from_numpy(self._y[rows])
        if self._sample_weight is None:
            return images, labels
        return {"X": images, "sample_weight": torch.from_numpy(self._sample_weight[rows])}, labels

    @property
    def nbytes(self) -> int:
        """Size of the images of this data set, in bytes."""
        n_bytes: int = len(self) * math.prod(self.sample_shape) * self.dtype.itemsize
        return n_bytes

    def blocks(self, block_size: int | None = None) -> Iterator[np.ndarray]:
        """Cut the rows, in order, into blocks of nearly equal size, moderate if none is given."""
        if block_size is None:
            block_size = max(2, min(1024, _BLOCK_ELEMENTS // math.prod(self.sample_shape)))
        yield from np.array_split(np.arange(len(self)), -(-len(self) // block_size))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Any, Tensor]:
        X, y = self.batch(np.asarray([i]))
        X = {key: value[0] for key, value in X.items()} if isinstance(X, Mapping) else X[0]
        return X, y[0]


class DeviceDataset:
    """The rows of a data set in the memory of a device, where batches are put together.

    Parameters
    ----------
    dataset : ImageDataset
        The rows.
    device : str
        Where to copy them.
    """

    def __init__(self, dataset: ImageDataset, device: str) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._dtype = torch.float32
        start = 0
        for rows in dataset.blocks():
            X, y = dataset.batch(rows)
            block = {**(X if isinstance(X, Mapping) else {"X": X}), "y": y}
            for name, tensor in block.items():
                # Torch indexes no unsigned integers but bytes everywhere; the bits are the same.
                bits = tensor.view(_SIGNED.get(tensor.dtype, tensor.dtype))
                if start == 0:
                    shape = (len(dataset), *tensor.shape[1:])
                    self._tensors[name] = torch.empty(shape, dtype=bits.dtype, device=device)
                self._tensors[name][start : start + len(rows)] = bits
                if name == "X":
                    self._dtype = tensor.dtype
            start += len(rows)

    def batch(self, index: np.ndarray) -> tuple[Any, Tensor]:
        """Return what :meth:`ImageDataset.batch` returns, on the device."""
        rows = torch.from_numpy(index).to(self._tensors["y"].device, non_blocking=True)
        batch = {name: tensor.index_select(0, rows) for name, tensor in self._tensors.items()}
        y = batch.pop("y")
        batch["X"] = batch["X"].view(self._dtype)
        return (batch if len(batch) > 1 else batch["X"]), y


class TrainIterator:
    """Iterator over the whole batches that a :class:`~skimbal.sampling.BatchSampler` draws.

    Parameters
    ----------
    dataset : ImageDataset
        The training rows.
    batch_size : int
        Largest number of rows in a batch, in samples.
    sampler : None, str or sampler object, default=None
        As for :class:`~skimbal.sampling.BatchSampler`.
    classes : ndarray of shape (n_classes,), default=None
        Labels that the encoded ones stand for, which a sampling strategy may name.
    memory_share : float, default=0.5
        Share of the free memory of a CUDA device that the images may take, in [0, 1].
    uniform_length : bool, default=False
        Whether an epoch has as many batches as one that takes each row once, whatever the sampler:
        the next one goes on where it ended. Samplers can then be compared at equal numbers of
        steps, and at equal learning rates.
    num_workers : int, default=None
        Threads that read whole batches ahead, one each and one more; they come in the same order
        and end with the iterator. 0 reads a batch when it is asked for. If None, as many as torch
        has, but 4 at most, for images that have to be read and decoded, and 0 for arrays. Channel
        statistics are read by as many.

    Raises
    ------
    ValueError
        If ``memory_share`` is not in [0, 1], ``uniform_length`` is neither True nor False, or
        ``num_workers`` is no integer of at least 0.

    Notes
    -----
    The draws are seeded from torch's generator, as those of a DataLoader are.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        sampler: Any = None,
        classes: np.ndarray | None = None,
        memory_share: float = 0.5,
        uniform_length: bool = False,
        num_workers: int | None = None,
    ) -> None:
        if not isinstance(uniform_length, bool | np.bool_):
            raise ValueError(
                f"iterator_train__uniform_length must be True or False, got {uniform_length!r}."
            )
        if not isinstance(memory_share, int | float) or not 0 <= memory_share <= 1:
            raise ValueError(
                f"iterator_train__memory_share must be a number in [0, 1], got {memory_share!r}."
            )
        self.dataset = dataset
        self.device = "cpu"
        self.memory_share = memory_share
        self.num_workers = _count_workers("iterator_train", num_workers, dataset)
        self._y = dataset.y
        self._n_classes = len(np.unique(self._y))
        y = self._y if classes is None else classes[self._y]
        seed = int(torch.randint(2**31 - 1, ()))
        self.batches = BatchSampler(y, batch_size, sampler, random_state=seed)
        self._n_batches = len(BatchSampler(y, batch_size) if uniform_length else self.batches)
        # Without end, so that what an epoch has left is not lost.
        self._rows = itertools.chain.from_iterable(itertools.repeat(self.batches))
        #: Batches of the last epoch that lacked a class, and those that held one class only.
        self.n_incomplete = self.n_of_one_class = 0
        self.resident: DeviceDataset | None = None
        #: Whether each process takes its own images of a batch, with the labels of all.
        self.shared = False

    def to(self, device: str) -> None:
        """Say where the batches are wanted.

        To a CUDA device all images are copied at once if they fit; otherwise each batch is copied
        while the one before trains.

        Parameters
        ----------
        device : str
            A device of torch.
        """
        self.device = device
        if _is_cuda(device):
            free, _ = torch.cuda.mem_get_info(device)
            if self.dataset.nbytes <= self.memory_share * free:
                self.resident = DeviceDataset(self.dataset, device)

    def __len__(self) -> int:
        return self._n_batches

    def _counted(self) -> Iterator[np.ndarray]:
        self.n_incomplete = self.n_of_one_class = 0
        for rows in itertools.islice(self._rows, self._n_batches):
            n_present = int(np.count_nonzero(np.bincount(self._y[rows])))
            self.n_incomplete += n_present < self._n_classes
            self.n_of_one_class += n_present == 1
            yield rows

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        take: Callable[[np.ndarray], Any] = (self.resident or self.dataset).batch
        if self.shared:
            take = self._own_part(take)
        if self.resident is not None:
            return map(take, self._counted())
        batches = _read_ahead(take, self._counted(), self.num_workers)
        return _prefetched(batches, self.device) if _is_cuda(self.device) else batches

    def _own_part(self, take: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
        def part(rows: np.ndarray) -> tuple[Any, Tensor]:
            return take(rows[distributed.own_rows(len(rows))])[0], torch.from_numpy(self._y[rows])

        return part


class BlockIterator:
    """Iterator over all rows in order, in blocks that suit the network.

    Parameters
    ----------
    dataset : ImageDataset
        The rows to predict.
    batch_size : int, default=None
        Not used: what a gradient needs says nothing about prediction.
    num_workers : int, default=None
        Threads that read blocks ahead, as for :class:`TrainIterator`.

    Raises
    ------
    ValueError
        If ``num_workers`` is no integer of at least 0.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int | None = None,
        num_workers: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.num_workers = _count_workers("iterator_valid", num_workers, dataset)
        self.device = "cpu"
        #: Largest number of rows in a block, in samples; by the size of the images if None.
        self.block_size: int | None = None

    def to(self, device: str) -> None:
        """Say where the blocks are wanted; to CUDA one is copied while another is computed with.

        Parameters
        ----------
        device : str
            A device of torch.
        """
        self.device = device

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        rows = self.dataset.blocks(self.block_size)
        blocks = _read_ahead(self.dataset.batch, rows, self.num_workers)
        return _prefetched(blocks, self.device) if _is_cuda(self.device) else blocks


class StandardizedModule(nn.Module):
    """A network behind the conversion and standardisation of its input.

    Parameters
    ----------
    factory : callable
        ``factory(in_channels, n_classes, **kwargs)`` makes the network.
    in_channels, n_classes : int
        Number of channels and of classes.
    dtype : torch.dtype
        Of the parameters and the input.
    mean, std : ndarray of shape (in_channels, 1, 1) or (in_channels, 1, 1, 1), default=None
        In units of the images; no standardisation if None.
    channels_last : bool, default=True
        Whether the weights have the channels innermost in memory, as the images have.
    crop_size : tuple of int, default=None
        Size of the window in the centre that the network sees, in voxels; all of an image if None.
    **kwargs : dict
        Passed on to ``factory``.
    """

    def __init__(
        self,
        factory: Callable[..., nn.Module],
        in_channels: int,
        n_classes: int,
        dtype: torch.dtype,
        mean: np.ndarray | None = None,
        std: np.ndarray | None = None,
        channels_last: bool = True,
        crop_size: tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        try:
            self.network = factory(in_channels, n_classes, **kwargs)
        except Exception as error:
            options = "".join(f", {name}={value!r}" for name, value in kwargs.items())
            error.add_note(
                f"module={factory!r} was called as f({in_channels}, {n_classes}{options}), with "
                "the numbers of channels and classes and the module__ options of net, to build a "
                "torch.nn.Module."
            )
            raise
        if not isinstance(self.network, nn.Module):
            raise TypeError(
                "module must make a torch.nn.Module when called as f(in_channels, n_classes); got "
                f"{self.network!r}."
            )
        self.dtype, self.crop_size = dtype, crop_size
        self.mean: Tensor | None
        self.std: Tensor | None
        self.register_buffer("mean", None if mean is None else torch.from_numpy(mean))
        self.register_buffer("std", None if std is None else torch.from_numpy(std))
        self.to(dtype)
        # Convolution and pooling are faster with the channels innermost, in the weights as well
        # as in the images.
        for parameter in self.parameters():
            if channels_last and parameter.ndim in _CHANNELS_LAST:
                parameter.data = parameter.data.contiguous(
                    memory_format=_CHANNELS_LAST[parameter.ndim]
                )

    def forward(self, X: Tensor) -> Tensor:
        """Compute the logits of a batch of images of any dtype.

        Parameters
        ----------
        X : Tensor of shape (n_samples, in_channels, *spatial)
            Images.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Unnormalised log-probabilities, dimensionless.
        """
        logits: Tensor = self.network(self.prepare(X))
        return logits

    def prepare(self, X: Tensor) -> Tensor:
        """Crop, convert and standardise a batch of images.

        Parameters
        ----------
        X : Tensor of shape (n_samples, in_channels, *spatial)
            Images.

        Returns
        -------
        X : Tensor of shape (n_samples, in_channels, *spatial)
            In units of the standard deviation, channels innermost in memory.
        """
        if self.crop_size is not None:
            X = CenterCrop(self.crop_size)(X)  # all of an image that has been cropped already
        X = X.to(self.dtype)
        if self.mean is not None and self.std is not None:
            # Before the layout changes: the loop over the pixels of a channel is the longer one.
            X = (X - self.mean).div_(self.std)
        if X.shape[1] == 1:
            # Both layouts at once. Networks go by the strides, so these have to name the right one.
            n, _, *spatial = X.stride()
            X = X.as_strided(X.shape, (n, 1, *spatial))
        return X.contiguous(memory_format=_CHANNELS_LAST[X.ndim])


class CosineSchedule(LRScheduler):  # type: ignore[misc]
    """Cosine annealing of the learning rate over the epochs of one ``fit``."""


class EpochProgress(Callback):  # type: ignore[misc]
    """A progress bar over the epochs, with the latest losses.

    Parameters
    ----------
    total : int
        Number of epochs.
    """

    def __init__(self, total: int) -> None:
        self.total = total

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=self.total, unit="epoch")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        losses = {name: net.history[-1].get(name) for name in ("train_loss", "valid_loss")}
        self.bar_.set_postfix({name: f"{v:.3g}" for name, v in losses.items() if v is not None})
        self.bar_.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.bar_.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the bar: its lock and its stream do not pickle."""
        return {name: value for name, value in vars(self).items() if name != "bar_"}


class IncompleteBatches(Callback):  # type: ignore[misc]
    """Says after the first epoch if many batches lacked a class that the loss needs."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Look at what the epoch has recorded."""
        if len(net.history) > 1 or "incomplete_batch_count" not in net.history[-1]:
            return
        share = net.history[-1, "incomplete_batch_count"] / net.history[-1, "train_batch_count"]
        if share > 0.05:
            tqdm.write(  # next to a progress bar, if there is one
                f"{share:.0%} of the batches lacked a class, which the loss "
                f"'{net.criterion_.extra_repr()}' suffers from. What helps: a larger batch_size "
                "(with micro_batch_size if memory is short); loss_statistics='moving'; for a loss "
                "without 'ce', ce_warmup_epochs."
            )


#: Callbacks that write files or lines: with several processes the first one's are enough.
_WRITERS = (
    Checkpoint,
    TrainEndCheckpoint,
    EpochProgress,
    IncompleteBatches,
    PrintLog,
    ProgressBar,
    MlflowLogger,
    NeptuneLogger,
    SacredLogger,
    TensorBoard,
    WandbLogger,
)


class ImageNet(skorch.NeuralNetClassifier):  # type: ignore[misc]
    """skorch's classifier, trained on a pair of data sets that has been split already.

    Parameters
    ----------
    module : callable
        Makes the network.
    micro_batch_size : int, default=None
        Rows that are in memory at once, in samples; all of the batch if None.
    ce_warmup_epochs : float, default=0
        Epochs over which a cross-entropy gives way to a loss that could collapse without one.
    autocast : torch.dtype, default=None
        Low precision to compute the network in; the loss stays in float32.
    compiled : bool, default=False
        Whether the network is compiled when :meth:`compile_module` is called.
    feature_layer : str, default=None
        Name of the layer of the network whose input :meth:`features_of_rows` computes; the last
        linear layer that runs if None.
    augmentation : tuple of torch.nn.Module, default=()
        What changes the images of a batch in training, one after the other, after a random crop if
        the module crops.
    **kwargs : dict
        As for :class:`skorch.NeuralNetClassifier`.
    """

    verbose: int
    history: Any

    def __init__(
        self,
        module: Any,
        *args: Any,
        micro_batch_size: int | None = None,
        ce_warmup_epochs: float = 0,
        autocast: torch.dtype | None = None,
        compiled: bool = False,
        feature_layer: str | None = None,
        augmentation: tuple[nn.Module, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(module, *args, **kwargs)
        self.micro_batch_size = micro_batch_size
        self.ce_warmup_epochs = ce_warmup_epochs
        self.autocast = autocast
        self.compiled = compiled
        self.feature_layer = feature_layer
        # Not a part of module_: its tensors are no weights, and functions would not be pickled.
        self.augmentation = augmentation

    def compile_module(self) -> None:
        """Let torch compile the network when it is first called, where that is asked for."""
        if self.compiled:
            # In place: the names of the weights stay, and copies and pickles are not compiled.
            self.module_.compile(**self.get_params_for("compile"))

    def initialize(self) -> "ImageNet":
        """Initialise all components."""
        super().initialize()
        # A scheduler holds the optimiser. Pickled in one piece they keep being one optimiser. The
        # names are prefixes: a criterion and callbacks given as instances are used as they are,
        # so without the underscore the same tensors would be pickled for their device elsewhere.
        self.cuda_dependent_attributes_: list[str] = [
            *(name for name in self.cuda_dependent_attributes_ if name != "criterion_"),
            "criterion",
            "callbacks",
            "scaler",
        ]
        #: Size of the largest output of a layer for one row, in bytes.
        self.activation_bytes_: int | None = None
        #: Name of the layer whose input the features are, and their number if they are rows.
        self.feature_layer_: str | None = None
        self.n_features_: int | None = None
        #: Epochs that were trained before the history begins, and share of the present one.
        self.epochs_before_, self.progress_ = 0, 0.0
        #: Whether several processes train this net at present.
        self.together_ = False
        #: Keeps small gradients of float16 from becoming zero.
        self.scaler_: torch.amp.GradScaler | None = None
        if self.autocast is torch.float16:
            self.scaler_ = torch.amp.GradScaler(torch.device(self.device).type)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, with all that holds tensors in one piece that torch can move."""
        state = dict(vars(self))
        prefixes = tuple(self.cuda_dependent_attributes_)
        if self.augmentation and _pickles(self.augmentation):
            # If not, this is for a copy: there is none to be loaded on another machine.
            prefixes += ("augmentation",)
        with_tensors = {name: state.pop(name) for name in vars(self) if name.startswith(prefixes)}
        blob = io.BytesIO()
        torch.save(with_tensors, blob)
        return {**state, "with_tensors": blob.getvalue()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, on the CPU where the device of old is missing."""
        state = dict(state)
        location = get_map_location(state["device"])
        state["device"] = self._check_device(state["device"], location)
        blob = io.BytesIO(state.pop("with_tensors"))
        # Who unpickles the net trusts it already. (Older skorch leaves it to torch's default, which
        # newer torch has turned around.)
        state.update(torch.load(blob, map_location=location, weights_only=False))
        self.__dict__.update(state)

    def train_epochs(
        self,
        train: ImageDataset,
        valid: ImageDataset | None,
        epochs: int,
        together: bool = False,
    ) -> "ImageNet":
        """Train for some epochs; unlike ``fit``, let an interrupt through to the caller.

        Parameters
        ----------
        train, valid : ImageDataset
            The rows, the same in all processes; ``valid`` may be None.
        epochs : int
            Their number.
        together : bool, default=False
            Whether all processes of torch's default group train this net.
        """
        verbose = self.verbose
        self.together_ = together
        if together and distributed.rank() > 0:
            self.verbose = 0
        try:
            return self._train_epochs(train, valid, epochs)
        finally:
            self.together_, self.verbose = False, verbose

    def _train_epochs(
        self, train: ImageDataset, valid: ImageDataset | None, epochs: int
    ) -> "ImageNet":
        if self.scaler_ is not None:
            # An interrupt may have left the old one in the middle of a step.
            scale = self.scaler_.get_scale()
            device = torch.device(self.device).type
            self.scaler_ = torch.amp.GradScaler(device, init_scale=scale)
        self.stops_early_ = False
        self.notify("on_train_begin", X=train, y=train.y)
        self._take_over()
        try:
            self.fit_loop((train, valid), epochs=epochs)
        except KeyboardInterrupt:
            # With several processes it is what all have agreed on that counts.
            if not (self.stops_early_ if self.together_ else self._says_stop()):
                raise
        finally:
            self.notify("on_train_end", X=train, y=train.y)
        self._take_over()
        return self

    def _says_stop(self) -> bool:
        """Tell whether a KeyboardInterrupt is how EarlyStopping says that it is time."""
        return any(
            isinstance(callback, EarlyStopping) and callback.misses_ == callback.patience
            for _, callback in self.callbacks_
        )

    def _take_over(self) -> None:
        """Take over what the first process has, where a callback may have loaded a checkpoint."""
        if not self.together_:
            return
        parts = {"module": self.module_.state_dict(), "optimizer": self.optimizer_.state_dict()}
        first = distributed.from_first({**parts, "history": self.history}, self.device)
        if distributed.rank() > 0:
            self.module_.load_state_dict(first["module"])
            self.optimizer_.load_state_dict(first["optimizer"])
            self.history = first["history"]

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the callbacks; where several processes train, an end of one is an end of all."""
        if not self.together_:
            super().notify(method_name, **cb_kwargs)
            return
        is_first = distributed.rank() == 0
        interrupt: KeyboardInterrupt | None = None
        try:
            getattr(self, method_name)(self, **cb_kwargs)
            for _, callback in self.callbacks_:
                if is_first or not isinstance(callback, _WRITERS):
                    getattr(callback, method_name)(self, **cb_kwargs)
        except KeyboardInterrupt as error:
            if method_name != "on_epoch_end":
                raise
            interrupt = error
        if method_name == "on_epoch_end":
            reason = 0 if interrupt is None else 1 if self._says_stop() else 2
            reason = distributed.largest(reason, self.device)
            self.stops_early_ = reason == 1
            if reason:
                raise interrupt or KeyboardInterrupt

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Record the size of the whole batch, of which this process may have a part."""
        if training and self.together_:
            self.history.record_batch("train_batch_size", len(batch[1]))

    def end_schedule(self) -> None:
        """Drop what spans the epochs of one ``fit``; go back to the learning rate before it."""
        kept: list[tuple[str, Any]] = []
        for name, callback in vars(self)["callbacks_"]:
            if isinstance(callback, CosineSchedule):
                for group in self.optimizer_.param_groups:
                    group["lr"] = group["initial_lr"]
            elif not isinstance(callback, EpochProgress):
                kept.append((name, callback))
        self.callbacks_ = kept

    def check_data(self, X: Any, y: Any = None) -> None:
        """Trust the classifier, which has checked the data."""

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Return the pair that the classifier has split."""
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the iterator over the batches, which knows the device if it is one of ours."""
        iterator = super().get_iterator(dataset, training=training)
        if isinstance(iterator, TrainIterator | BlockIterator):
            iterator.to(self.device)
        if isinstance(iterator, BlockIterator):
            iterator.block_size = self.block_size
        if training and self.together_:
            # The batches have drawn their seed, the same everywhere. What a network draws is to
            # differ from one process to the next.
            iterator.shared = True
            _seed_torch(int(torch.randint(2**31 - 1, ())) + distributed.rank(), self.device)
        return iterator

    def check_feature_layer(self) -> None:
        """Refuse a name that no layer of the network has."""
        names = dict(self.module_.network.named_modules(remove_duplicate=False))
        if self.feature_layer is not None and self.feature_layer not in names:
            near = difflib.get_close_matches(self.feature_layer, names, n=5, cutoff=0.5)
            hint = f"Near names are {near}" if near else f"The last layers are {[*names][-5:]}"
            raise ValueError(
                f"feature_layer={self.feature_layer!r} is no layer of the network. {hint}; all of "
                "them are the names in named_modules() of the network that module makes."
            )

    def try_out(self, images: Tensor) -> Any:
        """Compute the logits of a single row; learn what it takes in memory, and its features."""
        sizes: list[int] = []
        network, wanted = self.module_.network, self.feature_layer
        names = {layer: name for name, layer in network.named_modules()}
        if wanted is not None:
            names = {network.get_submodule(wanted): wanted}

        def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            sizes.extend(x.nbytes for x in (*inputs, output) if isinstance(x, Tensor))
            if module in names and (wanted is not None or isinstance(module, nn.Linear)):
                # The last call is the one that counts, as the features of a block are its input.
                self.feature_layer_, self.n_features_ = names[module], None
                first = inputs[0] if inputs else None
                if isinstance(first, Tensor) and first.ndim > 0 and len(first) == 1:
                    self.n_features_ = first.numel()

        handles = [layer.register_forward_hook(note) for layer in self.module_.modules()]
        self._set_training(False)
        try:
            with torch.no_grad():
                logits = self.infer(images)
        finally:
            for handle in handles:
                handle.remove()
        self.activation_bytes_ = max(sizes)
        return logits

    def count_features(self) -> int:
        """Return the number of features of a row, or say why it has none."""
        if self.feature_layer_ is None and self.feature_layer is None:
            raise ValueError(
                "the network runs no torch.nn.Linear, whose input would be the features; name a "
                "layer in feature_layer, and fit again."
            )
        if self.n_features_ is None:
            name = self.feature_layer if self.feature_layer_ is None else self.feature_layer_
            found = "does not run" if self.feature_layer_ is None else "gets something else"
            raise ValueError(
                f"the input of the layer {name!r} is to be the features, a tensor with one entry "
                f"along its first axis for each row, but in a prediction this layer {found}; name "
                "another one in feature_layer, and fit again."
            )
        return self.n_features_

    @property
    def block_size(self) -> int | None:
        """Number of rows to predict at once, in samples; not known before :meth:`try_out`."""
        if self.activation_bytes_ is None:
            return None
        kind = torch.device(self.device).type
        least, greatest = _ACTIVATION_BYTES.get(kind, _ACTIVATION_BYTES["cpu"])
        weights = sum(parameter.nbytes for parameter in self.module_.parameters())
        n_rows: int = min(greatest, max(least, 4 * weights)) // self.activation_bytes_
        # Not one: torch convolves a single volume on a single thread three times as slowly.
        return max(2, min(1024, n_rows))

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        """Compute the logits of a batch, in float32 or better."""
        if isinstance(x, Mapping):
            x = x["X"]
        if self.module_.training and self.augments:
            # Here, so that it is neither compiled nor computed in low precision.
            x = self.augmented(x)
        with self._precision():
            if isinstance(x, Tensor):  # skorch would look for the many kinds that a batch might be
                x = x.to(self.device)
                if self.compiled:
                    # Code for images of any size, which the compiler would make of the second size
                    # in a process, is not what it can make for this layout.
                    torch._dynamo.mark_static(x, list(range(1, x.ndim)))
                logits: Tensor = self.module_(x, **fit_params)
            else:
                logits = super().infer(x, **fit_params)
        if isinstance(logits, Tensor) and self.autocast is not None:
            logits = logits.float()
        return logits

    @property
    def augments(self) -> bool:
        """Whether the images of training are others than those of the data set."""
        return len(self.augmentation) > 0 or self.module_.crop_size is not None

    @torch.no_grad()
    def augmented(self, images: Any) -> Any:
        """Draw crops of some images, and change them, as in training."""
        dtype, crop_size = self.module_.dtype, self.module_.crop_size
        # A copy, as a callable of the user's may change it in place.
        images = to_tensor(images, device=self.device).to(dtype, copy=crop_size is None)
        if crop_size is not None:
            images = RandomCrop(crop_size)(images)
        for step in self.augmentation:
            images = step(images)
        return images

    def predict_rows(
        self, dataset: ImageDataset, function: Callable[[Tensor], Tensor], n_passes: int = 1
    ) -> np.ndarray:
        """Compute a function of the logits of each row.

        Parameters
        ----------
        dataset : ImageDataset
            The rows.
        function : callable
            Of the logits of a block, of shape (n_rows, n_classes); its result has as many rows.
        n_passes : int, default=1
            The first one sees the images as they are, others augmented ones. The logits of several
            are the logarithm of the mean of their probabilities.

        Returns
        -------
        result : ndarray of shape (n_samples, ...)
            Nothing else is as large as the data set.
        """
        self._set_training(False)
        # To fold takes as long as it saves in some blocks.
        pays = n_passes * len(dataset) > 4 * (self.block_size or len(dataset))
        with torch.inference_mode():
            infer = self._fast_infer() if pays else self.infer
        if n_passes == 1:
            return self._in_blocks(dataset, lambda x: function(infer(x)))

        def mean_of_passes(x: Any) -> Tensor:
            x = x["X"] if isinstance(x, Mapping) else x
            passes = [infer(x), *(infer(self.augmented(x)) for _ in range(n_passes - 1))]
            log_proba = torch.stack(passes).log_softmax(-1)  # (n_passes, n_rows, n_classes)
            return log_proba.logsumexp(0) - math.log(n_passes)

        return self._in_blocks(dataset, lambda x: function(mean_of_passes(x)))

    def features_of_rows(self, dataset: ImageDataset) -> np.ndarray:
        """Compute the input of the feature layer for each row.

        Parameters
        ----------
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
        self.count_features()
        assert self.feature_layer_ is not None
        self._set_training(False)
        network, thread = self.module_.network, threading.get_ident()
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if threading.get_ident() == thread:  # and not for a prediction in another one
                # A copy, since what comes after may compute in its place.
                kept[:] = [inputs[0].reshape(len(inputs[0]), -1).clone()]

        # Not by way of a compiled module, whose code knows no hook that comes later.
        infer = self._infer_with(network)

        def features(x: Any) -> Tensor:
            kept.clear()
            infer(x)
            if not kept:
                raise ValueError(
                    f"the layer {self.feature_layer_!r}, whose input is the features, did not run "
                    "for some rows; name another one in feature_layer, and fit again."
                )
            return kept[0].to(torch.promote_types(kept[0].dtype, torch.float32))

        with network.get_submodule(self.feature_layer_).register_forward_pre_hook(keep):
            return self._in_blocks(dataset, features)

    def _in_blocks(self, dataset: ImageDataset, compute: Callable[[Any], Tensor]) -> np.ndarray:
        """Compute something of the images of each block, and join the results in one array."""
        iterator = self.get_iterator(dataset, training=False)
        result, start = None, 0
        with torch.inference_mode():
            for batch in iterator:
                block = compute(unpack_data(batch)[0])
                if result is None:
                    # It stays on the device, which would else have to wait after each block.
                    result = block.new_empty((len(dataset), *block.shape[1:]))
                result[start : start + len(block)] = block
                start += len(block)
        if result is None or start != len(dataset):
            raise ValueError(
                f"iterator_valid gave {start} rows to predict of {len(dataset)}; it must give all "
                "of them in order (drop_last=False, shuffle=False)."
            )
        return result.numpy(force=True)

    def _fast_infer(self) -> Callable[[Any], Tensor]:
        """Return what computes logits with batch normalisation folded, where that can be done."""
        network = self.module_.network
        folded = network if self.compiled else fold_batch_norm(network)
        return self.infer if folded is network else self._infer_with(folded)

    def _infer_with(self, network: nn.Module) -> Callable[[Any], Tensor]:
        """Return what computes logits with a network, behind the same preparation of images."""
        module = self.module_

        def infer(x: Any) -> Tensor:
            with self._precision():
                logits: Tensor = network(module.prepare(to_tensor(x, device=self.device)))
            return logits if self.autocast is None else logits.float()

        return infer

    def get_loss(
        self, y_pred: Tensor, y_true: Tensor, X: Any = None, training: bool = False
    ) -> Any:
        """Compute the loss, with the weights that come with the images."""
        return self._share_of_loss(y_pred, y_true, X, len(y_true), training)

    def _share_of_loss(
        self, y_pred: Tensor, y_true: Tensor, X: Any, n_rows: int, training: bool
    ) -> Any:
        """Compute what some rows add to the loss of a batch of ``n_rows``, often all of them."""
        criterion = self.criterion_
        y_true = y_true.to(y_pred.device)
        together = training and self.together_
        weights: dict[str, Any] = {}
        if isinstance(X, Mapping):
            weights["sample_weight"] = X["sample_weight"].to(y_pred)
        if not isinstance(criterion, MixedLoss):
            if len(y_true) == 0:
                return y_pred.sum()
            loss = criterion(y_pred, y_true, **weights)
            # What the mean over the processes makes the sum of all shares.
            share = len(y_true) / n_rows * (distributed.n_processes() if together else 1)
            return loss if share == 1 else loss * share
        if together:
            weights["process_group"] = torch.distributed.group.WORLD
        if training and self.ce_warmup_epochs and criterion.may_collapse:
            n_epochs = self.epochs_before_ + len(self.history) - 1 + self.progress_
            weights["ce_share"] = max(0.0, 1 - n_epochs / self.ce_warmup_epochs)
        # Weights have mean 1 over the training rows: a batch of light rows counts for less.
        return criterion(y_pred, y_true, **weights, normalizer=n_rows)

    def _adds_up(self, X: Any) -> bool:
        """Tell whether the loss of a batch is the sum of what its parts add to it."""
        if isinstance(self.criterion_, MixedLoss):
            return not self.criterion_.needs_every_class
        # A module of the user's may say so, but then does not say what it does with weights.
        return getattr(self.criterion_, "mean_over_rows", False) and not isinstance(X, Mapping)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Compute the gradient of a batch in training mode."""
        self._set_training(True)
        step = self._backward(batch, **fit_params)
        if self.together_:
            # Callbacks score it with the labels of the whole batch.
            step["y_pred"] = distributed.whole(step["y_pred"].detach(), len(batch[1]))
        return step

    def validation_step(self, batch: Any, **fit_params: Any) -> Any:
        """Compute logits and loss of a block, of which each process computes its part."""
        if not self.together_:
            return super().validation_step(batch, **fit_params)
        X, y = unpack_data(batch)
        images = (X["X"] if isinstance(X, Mapping) else X)[distributed.own_rows(len(y))]
        self._set_training(False)
        with torch.no_grad():
            part = self.infer(images, **fit_params) if len(images) else self._no_logits()
            y_pred = distributed.whole(part, len(y))
            return {"loss": self.get_loss(y_pred, y, X=X), "y_pred": y_pred}

    def _backward(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Compute the gradient of a batch, in parts if the batch is larger than they may be."""
        X, y = unpack_data(batch)
        n_rows = len(y)
        if self.together_:
            y = y[distributed.own_rows(n_rows)]
        # By their number of rows processes may take different paths here. Each path sends the
        # same messages: one from within a loss of sets, which is called once, then the gradients.
        if self.micro_batch_size is None or len(y) <= self.micro_batch_size:
            y_pred = self.infer(X, **fit_params) if len(y) else self._no_logits()
            loss = self._share_of_loss(y_pred, y, X, n_rows, training=True)
            self._scaled(loss).backward()
        else:
            n_parts = -(-len(y) // self.micro_batch_size)
            in_parts = self._backward_in_one_pass if self._adds_up(X) else self._backward_in_two
            loss, y_pred = in_parts(X, y, n_rows, n_parts, **fit_params)
        if self.together_:
            parameters = [p for _, p in self.get_all_learnable_params() if p.requires_grad]
            loss = distributed.average_gradients(parameters, loss)
        self._unscale()
        return {"loss": loss, "y_pred": y_pred}

    def _no_logits(self) -> Tensor:
        """Return the logits of no rows, for a process that has none: not every network can."""
        dtype = torch.promote_types(self.module_.dtype, torch.float32)
        shape = (0, len(self.classes))
        return torch.zeros(shape, dtype=dtype, device=self.device, requires_grad=True)

    def _backward_in_one_pass(
        self, X: Any, y: Tensor, n_rows: int, n_parts: int, **fit_params: Any
    ) -> tuple[Tensor, Tensor]:
        losses, logits = [], []
        for part, labels in zip(_split(X, n_parts), y.tensor_split(n_parts), strict=True):
            y_pred = self.infer(part, **fit_params)
            loss = self._share_of_loss(y_pred, labels, part, n_rows, training=True)
            self._scaled(loss).backward()
            losses.append(loss.detach())
            logits.append(y_pred.detach())
        return torch.stack(losses).sum(), torch.cat(logits)

    def _backward_in_two(
        self, X: Any, y: Tensor, n_rows: int, n_parts: int, **fit_params: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute all logits, the gradient by them, and then carry it back part by part.

        The loss is a function of the whole batch, so averaging the losses of the parts would
        minimise something else. The graph of the first part is kept; all others are computed again.
        """
        first, *others = _split(X, n_parts)
        y_first = self.infer(first, **fit_params)
        kept = {name: buffer.clone() for name, buffer in self.module_.named_buffers()}
        states, logits = [], [y_first.detach()]
        with torch.no_grad():
            for part in others:
                states.append(self.random_state())
                logits.append(self.infer(part, **fit_params))
            # Running statistics are to see each part once. (By way of data, as the graph that is
            # kept would take it for a change of what it was computed with.)
            for name, buffer in self.module_.named_buffers():
                buffer.data.copy_(kept[name])
        y_pred = torch.cat(logits).requires_grad_()
        loss = self._share_of_loss(y_pred, y, X, n_rows, training=True)
        self._scaled(loss).backward()
        assert y_pred.grad is not None
        gradient, *gradients = y_pred.grad.tensor_split(n_parts)
        torch.autograd.backward(y_first, gradient)
        for part, state, gradient in zip(others, states, gradients, strict=True):
            self.random_state(state)
            torch.autograd.backward(self.infer(part, **fit_params), gradient)
        return loss.detach(), y_pred.detach()

    def _scaled(self, loss: Any) -> Any:
        return loss if self.scaler_ is None else self.scaler_.scale(loss)

    def _unscale(self) -> None:
        """Bring the gradients back to their size, before a callback clips them."""
        if self.scaler_ is not None:
            self.scaler_.unscale_(self.optimizer_)

    def _step_optimizer(self, step_fn: Callable[[], Any] | None) -> None:
        if self.scaler_ is None:
            super()._step_optimizer(step_fn)
            return
        if step_fn is not None:
            step_fn()
        # No step where a gradient has overflown.
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run an epoch; the validation loss is that of all validation rows at once."""
        if training:
            watched = self._watched(iterator)
            try:
                if self._only_epochs_matter():
                    self._run_training_epoch(watched, prefix, **fit_params)
                else:
                    super().run_single_epoch(watched, True, prefix, step_fn, **fit_params)
            finally:
                if isinstance(iterator, TrainIterator):
                    self.history.record("incomplete_batch_count", iterator.n_incomplete)
                    self.history.record("one_class_batch_count", iterator.n_of_one_class)
            if self.together_:
                distributed.share_buffers(self.module_)
            return
        if iterator is None:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            return
        logits, labels, weights = [], [], []

        def step_and_keep(batch: Any, **fit_params: Any) -> Any:
            step = step_fn(batch, **fit_params)
            X, y = unpack_data(batch)
            logits.append(step["y_pred"])
            labels.append(y)
            if isinstance(X, Mapping):
                weights.append(X["sample_weight"])
            return step

        super().run_single_epoch(iterator, training, prefix, step_and_keep, **fit_params)
        X = {"sample_weight": torch.cat(weights)} if weights else None
        with torch.no_grad():
            loss = self.get_loss(torch.cat(logits), torch.cat(labels), X=X).item()
        # skorch averages over blocks, which is not the loss where it is a function of the set.
        for block in self.history[-1]["batches"]:
            if f"{prefix}_loss" in block:
                block[f"{prefix}_loss"] = loss

    def _watched(self, iterator: Any) -> Iterator[Any]:
        """Yield the batches of an epoch, and keep account of how far it is."""
        n_batches = len(iterator) if hasattr(iterator, "__len__") else 0
        for i, batch in enumerate(iterator):
            # Half, where nobody knows.
            self.progress_ = min(i / n_batches, 1.0) if n_batches else 0.5
            yield batch

    def _only_epochs_matter(self) -> bool:
        """Tell whether nobody looks at single batches, nor changes how they are trained on."""
        return (
            type(self).train_step is skorch.NeuralNet.train_step
            and type(self).train_step_single is ImageNet.train_step_single
            and not {"train_step", "train_step_single"} & set(vars(self))
            # Others may evaluate the gradient several times in a step, as LBFGS does.
            and type(self.optimizer_) in _ONE_GRADIENT_A_STEP
            and not any(_follows_batches(callback) for _, callback in self.callbacks_)
        )

    def _run_training_epoch(self, iterator: Any, prefix: str, **fit_params: Any) -> None:
        """Train as skorch does, but do once what it does for each batch.

        The losses stay on the device until the epoch has ended: to read one waits for all that
        has been asked of the device before.
        """
        self._set_training(True)
        groups = self.optimizer_.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        losses, sizes = [], []
        try:
            for batch in iterator:
                for parameter in parameters:
                    parameter.grad = None
                step = self._backward(batch, **fit_params)
                self._step_optimizer(None)
                losses.append(step["loss"].detach())
                sizes.append(len(batch[1]))
        finally:  # an interrupt loses no batch of the history
            values = torch.stack(losses).tolist() if losses else []
            self.history[-1]["batches"] += [
                {f"{prefix}_loss": loss, f"{prefix}_batch_size": size}
                for loss, size in zip(values, sizes, strict=True)
            ]
        self.history.record(f"{prefix}_batch_count", len(sizes))

    def _precision(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=self.autocast)

    def random_state(self, state: tuple[Any, ...] | None = None) -> Any:
        """Return the state of the generators of python, numpy and torch, or go back to one."""
        if state is None:
            cuda_state = torch.cuda.get_rng_state(self.device) if _is_cuda(self.device) else None
            python_and_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
            return *python_and_numpy, torch.get_rng_state(), cuda_state
        python_state, numpy_state, torch_state, cuda_state = state
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state, self.device)
        return None


def can_be_fused(optimizer: type[torch.optim.Optimizer], device: str) -> bool:
    """Tell whether torch has a kernel that updates all parameters at once."""
    fused = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
    return optimizer in fused and torch.device(device).type in ("cpu", "cuda")


@np.errstate(over="ignore", invalid="ignore")
def channel_statistics(
    dataset: ImageDataset, num_workers: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted mean and standard deviation of each channel, block by block.

    Parameters
    ----------
    dataset : ImageDataset
        The training rows.
    num_workers : int, default=None
        Threads that read blocks ahead, as for :class:`TrainIterator`.

    Returns
    -------
    mean, std : ndarray of shape (n_channels, 1, 1) or (n_channels, 1, 1, 1)
        In units of the images, float64, with an axis for each of an image. A constant channel has
        the standard deviation 1, so that dividing by it changes nothing.
    """
    n_workers = _count_workers("iterator_train", num_workers, dataset)
    weight, mean, scatter = 0.0, np.zeros(1), np.zeros(1)
    for X, labels in _read_ahead(dataset.batch, dataset.blocks(), n_workers):
        w = np.ones(len(labels))
        if isinstance(X, Mapping):
            X, w = X["X"], X["sample_weight"].numpy()
        pixels = X.numpy().reshape(len(labels), dataset.sample_shape[0], -1).astype(np.float64)
        block_weight = w.sum() * pixels.shape[2]
        if block_weight == 0:
            continue
        block_mean = np.einsum("n,ncp->c", w, pixels) / block_weight
        pixels -= block_mean[:, None]
        block_scatter = np.einsum("n,ncp,ncp->c", w, pixels, pixels)
        # Chan, Golub and LeVeque (1983): parts combine without the cancellation of E[x^2]-E[x]^2.
        total = weight + block_weight
        shift = block_mean - mean
        scatter = scatter + block_scatter + shift**2 * (weight * block_weight / total)
        mean = mean + shift * (block_weight / total)
        weight = total
    std = np.sqrt(scatter / weight)
    # What rounding leaves of a constant channel is no spread.
    std[std <= 1e-12 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)] = 1.0
    per_channel = (-1, *[1] * (len(dataset.sample_shape) - 1))
    return mean.reshape(per_channel), std.reshape(per_channel)


def softmax(logits: Tensor) -> Tensor:
    """Turn logits into probabilities, of shape (n_samples, n_classes)."""
    return logits.softmax(-1)


@contextmanager
def isolated_random_state(seed: int, device: str) -> Iterator[None]:
    """Seed python, numpy and torch within the block, and leave all of them as they were.

    Parameters
    ----------
    seed : int
        In [0, 2**32).
    device : str
        Whose generator is seeded besides that of the CPU.
    """
    on_cuda = torch.device(device).type == "cuda"
    with _RANDOM_STATE_LOCK, torch.random.fork_rng([device] if on_cuda else []):
        python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            _seed_torch(seed, device)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def _seed_torch(seed: int, device: str) -> None:
    torch.default_generator.manual_seed(seed)
    if _is_cuda(device):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _pickles(thing: Any) -> bool:
    try:
        torch.save(thing, io.BytesIO())
    except (AttributeError, TypeError, pickle.PicklingError):
        return False
    return True


def _split(X: Any, n_parts: int) -> list[Any]:
    if not isinstance(X, Mapping):
        return list(X.tensor_split(n_parts))
    parts = zip(*(value.tensor_split(n_parts) for value in X.values()), strict=True)
    return [dict(zip(X, part, strict=True)) for part in parts]


def _is_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"


def _count_workers(iterator: str, num_workers: Any, dataset: ImageDataset) -> int:
    if num_workers is None:
        # Where processes share the cores, each has its part of the threads.
        return min(4, torch.get_num_threads()) if dataset.has_files else 0
    is_integer = isinstance(num_workers, int | np.integer) and not isinstance(num_workers, bool)
    if not is_integer or num_workers < 0:
        raise ValueError(
            f"{iterator}__num_workers must be an integer of at least 0, or None; got "
            f"{num_workers!r}."
        )
    return int(num_workers)


def _read_ahead(
    take: Callable[[np.ndarray], Any], rows: Iterable[np.ndarray], num_workers: int
) -> Iterator[Any]:
    """Take the rows of each batch, in order, in threads that are ahead of who uses them."""
    if not num_workers:
        yield from map(take, rows)
        return
    pending: deque[Future[Any]] = deque()
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="skimbal-reader")
    try:
        # Here the rows are drawn, so that what is drawn does not depend on the threads.
        for index in rows:
            pending.append(pool.submit(take, index))
            if len(pending) > num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prefetched(batches: Iterator[tuple[Any, Tensor]], device: str) -> Iterator[tuple[Any, Tensor]]:
    """Copy each batch to a CUDA device while the one before is computed with."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(batch: tuple[Any, Tensor]) -> tuple[Any, Tensor]:
        X, y = batch
        with torch.cuda.stream(stream):
            if isinstance(X, Mapping):
                return {name: _sent(value, device) for name, value in X.items()}, _sent(y, device)
            return _sent(X, device), _sent(y, device)

    def received(batch: tuple[Any, Tensor]) -> tuple[Any, Tensor]:
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        X, y = batch
        for tensor in (*(X.values() if isinstance(X, Mapping) else [X]), y):
            # Its memory is not to be used again before this stream is done with it.
            tensor.record_stream(current)
        return batch

    ahead = None
    for batch in batches:
        sent = send(batch)
        if ahead is not None:
            yield received(ahead)
        ahead = sent
    if ahead is not None:
        yield received(ahead)


def _sent(tensor: Tensor, device: str) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


def _follows_batches(callback: Callback) -> bool:
    """Tell whether a callback has something to do at single batches of training."""
    if isinstance(callback, LRScheduler) and callback.step_every != "batch":
        unused = [LRScheduler.on_batch_end]
    elif isinstance(callback, EpochScoring) and not (callback.use_caching and callback.on_train):
        unused = [EpochScoring.on_batch_end]
    else:
        unused = []
    return any(
        name in vars(callback)
        or getattr(type(callback), name) not in (getattr(Callback, name), *unused)
        for name in ("on_batch_begin", "on_batch_end", "on_grad_computed")
    )


def _tensor(array: np.ndarray) -> Tensor:
    """Wrap a batch that is already a copy, in a dtype that torch computes with."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))
