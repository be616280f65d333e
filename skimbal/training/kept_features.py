"""Features of frozen networks, computed once before training, and kept in memory or on disk."""

import hashlib
import tokenize
import zipfile
import zlib
from collections.abc import Container
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from skimbal.atomic import remove_leftovers, replacing
from skimbal.exceptions import ParameterError, warn_caller
from skimbal.fingerprints import UndescribedError, code_digest, installed_version
from skimbal.networks import SplitNetwork
from skimbal.training.batches import BlockIterator, TrainIterator
from skimbal.training.dataset import ImageDataset
from skimbal.training.devices import device_type
from skimbal.training.epoch import EpochNet, only_epochs_matter
from skimbal.training.forward import infer_with
from skimbal.training.prediction import PredictingNet, in_blocks
from skimbal.training.surroundings import float32_on_cuda
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
        and not net.mixing_
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
    key = _key(net, dataset, folder)
    path = Path(folder, f"{key}.npz")
    features = _read(path, key)
    if features is not None and len(features) == len(dataset):
        # Two rows show changes that no key knows, such as another library for convolutions.
        probe = in_blocks(net, dataset.take(np.arange(min(2, len(dataset)))), compute)
        known, near = features[: len(probe)], 1e-3 * np.abs(probe).max()
        if known.shape == probe.shape and np.allclose(known, probe, rtol=1e-3, atol=near):
            return features
    features = in_blocks(net, dataset, compute)
    _write(path, key, features)
    return features


def _has_fixed_features(net: KeepingNet) -> bool:
    network = net.module_.network
    return isinstance(network, SplitNetwork) and network.freezes_backbone


def _folder(net: KeepingNet) -> PathLike | None:
    folder: PathLike | None = getattr(net.module_.network, "features_cache", None)
    return folder


def _key(net: KeepingNet, dataset: ImageDataset, folder: PathLike) -> str:
    """Return a checksum of everything that the features depend on."""
    module = net.module_
    machine = (
        device_type(net.device),
        float32_on_cuda(),
    )
    settings = module.dtype, net.autocast, module.crop_size, machine
    versions = installed_version(__file__), installed_version(torch.__file__)
    code = _code_of(module.network, folder)
    total = hashlib.sha256(repr((versions, settings, module.network, code)).encode())
    fixed = {name: weight for name, weight in module.named_parameters() if not weight.requires_grad}
    for name, tensor in (*fixed.items(), *module.named_buffers()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().numpy(force=True).tobytes())
    total.update(f"{dataset.dtype} {len(dataset)} {dataset.sample_shape}".encode())
    # Readers and transforms have made these pixels, so their code needs no checksum.
    for rows in dataset.blocks():
        total.update(dataset.batch(rows).images.numpy().tobytes())
    return total.hexdigest()


def _code_of(network: nn.Module, folder: PathLike) -> str:
    """Return a checksum of the code of a network without its head, and of all but its weights."""
    head = network.head if isinstance(network.head, nn.Module) else None
    ignored = set() if head is None else {id(part) for part in head.modules()}
    parts = {
        name: part
        for name, part in network.named_modules(remove_duplicate=False)
        if id(part) not in ignored
    }
    known = {id(part) for part in network.modules()}
    described = {name: (type(part), _own_state(part, known)) for name, part in parts.items()}
    try:
        return code_digest(described, "the network")
    except UndescribedError as error:
        raise ParameterError(
            "features_cache",
            f"None if {error}",
            str(folder),
            "A folder outlives the program, and features of edited code must be noticed.",
        ) from error


def _own_state(part: nn.Module, known: Container[int]) -> dict[str, object]:
    """Return the attributes of a module that its weights and its parts do not show."""
    own = {name: v for name, v in vars(part).items() if not _is_apart(name, v, known)}
    # The keys of hooks are numbers that count all hooks of a program.
    return {
        n: list(v.values()) if "_hooks" in n and isinstance(v, dict) else v for n, v in own.items()
    }


def _is_apart(name: str, value: object, known: Container[int]) -> bool:
    """Tell whether an attribute of a module is described elsewhere, or changes no feature."""
    if name in ("_modules", "_parameters", "_buffers", "training", "features_cache"):
        return True
    items = value if isinstance(value, list | tuple) else [value]
    return bool(items) and all(id(item) in known for item in items)


def _read(path: Path, key: str) -> np.ndarray | None:
    """Return the features of a file, or None if there is none that can be trusted."""
    try:
        # The archive has a checksum of its contents, which zipfile compares.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            features: np.ndarray = archive["features"]
            if str(archive["key"]) != key:
                raise ValueError("it is the file of other features")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, *_UNREADABLE) as error:  # broken, or of another program
        _warn(path, "cannot be read", error, "The features are computed anew.")
        return None
    return features


def _write(path: Path, key: str, features: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        # The archive has a checksum, so a file that a failure of power cuts off is noticed.
        with replacing(path, durable=False) as stream:
            np.savez(stream, features=features, key=key)
    except OSError as error:
        remedy = "The program goes on without it. Make room, or give another folder."
        _warn(path.parent, "cannot be written", error, remedy)


def _warn(path: Path, fault: str, error: Exception, outcome: str) -> None:
    reason = getattr(error, "strerror", None) or str(error)
    warn_caller(
        f"features_cache: {str(path)!r} {fault} ({type(error).__name__}: {reason}). {outcome}"
    )
