"""Features of frozen networks, computed once before training, and kept in memory or on disk."""

import hashlib
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from skimbal.atomic import replacing
from skimbal.networks import SplitNetwork
from skimbal.training.batches import BlockIterator, TrainIterator
from skimbal.training.dataset import ImageDataset
from skimbal.training.devices import device_type
from skimbal.training.epoch import EpochNet, only_epochs_matter
from skimbal.training.forward import infer_with
from skimbal.training.prediction import PredictingNet, in_blocks
from skimbal.typing import PathLike

__all__ = ["are_kept", "are_on_disk", "as_features", "features_of"]


#: Errors of numpy and zipfile for a file that is damaged or of another program.
_UNREADABLE = (
    *(ValueError, EOFError, KeyError, TypeError, SyntaxError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


class KeepingNet(PredictingNet, EpochNet, Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that keep features."""

    augments: bool
    iterator_train: object
    iterator_valid: object


def are_kept(net: KeepingNet) -> bool:
    """Tell whether each epoch would compute the same features, and nobody looks at the images."""
    return (
        _has_fixed_features(net)
        and not net.augments
        and net.iterator_train is TrainIterator
        and net.iterator_valid is BlockIterator
        and only_epochs_matter(net)
    )


def are_on_disk(net: KeepingNet) -> bool:
    """Tell whether the features that ``transform`` gives are kept in a folder."""
    network = net.module_.network
    return (
        _has_fixed_features(net)
        and _folder(net) is not None
        and net.feature_layer_ is not None
        and network.get_submodule(net.feature_layer_) is network.head
    )


def as_features(net: KeepingNet, dataset: ImageDataset) -> ImageDataset:
    """Return the same rows with features in place of images."""
    return ImageDataset(features_of(net, dataset), dataset.y, sample_weight=dataset.sample_weight)


def features_of(net: KeepingNet, dataset: ImageDataset) -> np.ndarray:
    """Compute the features of each row, or read them if a folder has them."""
    net.set_training(False)
    infer = infer_with(net, net.module_.network.features)  # type: ignore[arg-type]

    def compute(images: Tensor) -> Tensor:
        features = infer(images)
        return features.to(torch.promote_types(features.dtype, torch.float32))

    folder = _folder(net)
    if folder is None:
        return in_blocks(net, dataset, compute)
    _make(Path(folder))
    path = Path(folder, f"{_key(net, dataset)}.npz")
    features = _read(path)
    if features is not None and len(features) == len(dataset):
        # The key does not know the code of the network, which two rows show.
        probe = in_blocks(net, dataset.take(np.arange(min(2, len(dataset)))), compute)
        known, near = features[: len(probe)], 1e-3 * np.abs(probe).max()
        if known.shape == probe.shape and np.allclose(known, probe, rtol=1e-3, atol=near):
            return features
    features = in_blocks(net, dataset, compute)
    _write(path, features)
    return features


def _has_fixed_features(net: KeepingNet) -> bool:
    network = net.module_.network
    return isinstance(network, SplitNetwork) and network.freezes_backbone


def _folder(net: KeepingNet) -> PathLike | None:
    folder: PathLike | None = getattr(net.module_.network, "features_cache", None)
    return folder


def _key(net: KeepingNet, dataset: ImageDataset) -> str:
    """Return a checksum of everything that the features depend on."""
    module = net.module_
    settings = module.dtype, net.autocast, module.crop_size, device_type(net.device)
    total = hashlib.sha256(repr((torch.__version__, settings, module.network)).encode())
    fixed = {name: weight for name, weight in module.named_parameters() if not weight.requires_grad}
    for name, tensor in (*fixed.items(), *module.named_buffers()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().numpy(force=True).tobytes())
    total.update(f"{dataset.dtype} {len(dataset)} {dataset.sample_shape}".encode())
    for rows in dataset.blocks():
        total.update(dataset.batch(rows).images.numpy().tobytes())
    return total.hexdigest()


def _read(path: Path) -> np.ndarray | None:
    try:
        # The archive has a checksum of its contents, which zipfile compares.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            features: np.ndarray = archive["features"]
    except (OSError, *_UNREADABLE):  # absent, broken, or of another program
        return None
    return features


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"features_cache must be a folder that can be made; got {str(folder)!r} ({error}). "
            "Give another folder."
        ) from error


def _write(path: Path, features: np.ndarray) -> None:
    # The archive has a checksum, so a file that a failure of power cuts off is noticed.
    with replacing(path, durable=False) as stream:
        np.savez(stream, features=features)
