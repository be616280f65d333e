"""Networks with weights from libraries, the Hugging Face hub, files and functions."""

import copy
import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from skimbal.exceptions import ParameterError, import_optional
from skimbal.typing import PathLike

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LIBRARIES",
    "SUFFIXES",
    "NetworkSource",
    "SourcedNetwork",
    "check_source",
    "load_architecture",
    "load_network",
]

#: Mean and standard deviation of the channels of ImageNet, for pixels in [0, 1].
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Endings of files of weights.
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

#: A name such as ``"timm/resnet18"``, the path of a file or folder, or a function without
#: arguments that returns a network.
NetworkSource: TypeAlias = PathLike | Callable[[], nn.Module]
#: Size of images along each spatial axis, in pixels.
Size: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class SourcedNetwork:
    """A network as its source has it.

    Parameters
    ----------
    network : torch.nn.Module
        With its own classifier.
    mean, std : sequence of float
        Of each channel that the network takes, for pixels in [0, 1].
    size : tuple of int or None, default=None
        The only size of images that the network takes, in pixels, or None if it takes many.
    state : mapping of str to Tensor, default=None
        Weights that the network does not have yet.
    architecture : str, default=None
        A name of timm or torchvision by which :func:`load_architecture` makes the same network with
        other weights. None for the network of a function.
    """

    network: nn.Module
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    size: Size | None = None
    state: Mapping[str, Tensor] | None = None
    architecture: str | None = None


def check_source(source: NetworkSource, architecture: str | Callable[[], nn.Module] | None) -> None:
    """Refuse sources that cannot be read, without an import of a library."""
    if _is_file(source):
        if not Path(str(source)).is_file():
            raise ParameterError("source", "a file that exists", str(source))
        if not _is_factory(architecture) and not _library_of(architecture):
            raise ParameterError(
                "architecture",
                f"a name that begins with {_prefixes()}, or a function without arguments that "
                "returns the network, with a file of weights",
                architecture,
                "The file has weights only.",
            )
        return
    if architecture is not None:
        raise ParameterError(
            "architecture", "None with this source, which brings its network", architecture
        )
    if not (_is_factory(source) or _is_folder(source) or _library_of(source)):
        raise ParameterError(
            "source",
            f"a name that begins with {_prefixes()} or 'hub:', a folder with config.json, a file "
            f"that ends in {', '.join(SUFFIXES)}, or a function without arguments that returns a "
            "network",
            source,
            *(["Wrap the network in a function."] if isinstance(source, nn.Module) else []),
        )


def load_network(
    source: NetworkSource,
    architecture: str | Callable[[], nn.Module] | None = None,
    image_size: Size | None = None,
) -> SourcedNetwork:
    """Return a network with its weights, downloaded if they are not in the cache of their library.

    Parameters
    ----------
    source : str, path or callable
        As for :class:`~skimbal.Pretrained`.
    architecture : str or callable, default=None
        The network of a file of weights.
    image_size : tuple of int, default=None
        Size of the images, in pixels, for networks that are made for one size.
    """
    if _is_file(source):
        path, state = str(source), _read_weights(Path(str(source)))
        found = _make(architecture, image_size, with_weights=False)
        return replace(found, state=_plain(state, path))
    return _make(source, image_size, with_weights=True)


def load_architecture(name: str, image_size: Size | None = None) -> SourcedNetwork:
    """Return a network by the ``architecture`` of a :class:`SourcedNetwork`, without weights.

    Names of repositories and folders are refused, as their settings would be read.
    """
    if not name.startswith(("timm/", "torchvision/")):
        raise ParameterError("architecture", "a name of timm or torchvision", name)
    return _make(name, image_size, with_weights=False)


def _make(source: Any, image_size: Size | None, with_weights: bool) -> SourcedNetwork:
    if _is_factory(source):
        return _call(source)
    if _is_folder(source):
        return _load_timm_repository(f"local-dir:{source}", image_size)
    prefix = _library_of(source)
    assert prefix is not None
    return LIBRARIES[prefix](source.removeprefix(prefix), image_size, with_weights)


def _call(factory: Callable[[], nn.Module]) -> SourcedNetwork:
    network = factory()
    if not isinstance(network, nn.Module):
        raise TypeError(
            "source must be a function that returns a torch.nn.Module when it is called without "
            f"arguments; got {network!r} from {factory!r}."
        )
    # A function may return the same network each time, which training would change.
    network = copy.deepcopy(network)
    facts = getattr(network, "pretrained_cfg", None) or {}
    mean, std = facts.get("mean", IMAGENET_MEAN), facts.get("std", IMAGENET_STD)
    return SourcedNetwork(network, mean, std)


def _load_timm(name: str, image_size: Size | None, with_weights: bool) -> SourcedNetwork:
    timm = import_optional("timm", "Pretrained", "pretrained")
    known = set(timm.list_pretrained() if with_weights else timm.list_models())
    plain = {full.partition(".")[0] for full in known}
    if name not in known | plain:
        raise _unknown("timm/", name, known if "." in name else plain)
    facts = timm.get_pretrained_cfg(name)
    if with_weights and facts.url and not facts.hf_hub_id:
        # timm would not compare the file with the checksum in its name.
        _downloaded(facts.url)
    return _create_timm(timm, name, image_size, with_weights)


def _load_timm_repository(
    name: str, image_size: Size | None, with_weights: bool = True
) -> SourcedNetwork:
    timm = import_optional("timm", "Pretrained", "pretrained")
    name = name if name.startswith("local-dir:") else f"hf-hub:{name}"
    return _create_timm(timm, name, image_size, with_weights)


def _create_timm(
    timm: ModuleType, name: str, image_size: Size | None, with_weights: bool
) -> SourcedNetwork:
    def create(**options: object) -> nn.Module:
        try:
            network: nn.Module = timm.create_model(name, pretrained=with_weights, **options)
        except OSError as error:
            raise _not_at_hand(timm, name, error) from error
        return network

    network = create()
    facts: Mapping[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    size = tuple(facts["input_size"][1:]) if facts.get("fixed_input_size") else None
    if size is not None and image_size not in (None, size):
        network, size = create(img_size=image_size), image_size
    architecture = f"timm/{facts.get('architecture') or name.partition('.')[0]}"
    return SourcedNetwork(network, facts["mean"], facts["std"], size, architecture=architecture)


def _not_at_hand(timm: ModuleType, name: str, error: Exception) -> FileNotFoundError:
    constants = import_optional("huggingface_hub.constants", "Pretrained", "pretrained")
    if name.startswith("local-dir:"):
        folder = name.removeprefix("local-dir:")
        return FileNotFoundError(
            f"source must be a folder with config.json and model.safetensors in the layout of "
            f"timm's repositories; got {folder!r} ({error})."
        )
    repository = name.removeprefix("hf-hub:")
    if not name.startswith("hf-hub:"):
        repository = timm.get_pretrained_cfg(name).hf_hub_id
    folder = os.path.join(constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}")
    return FileNotFoundError(
        f"the weights of {repository} are not at {folder}, and they could not be downloaded "
        f"({type(error).__name__}). Run `hf download {repository}` on a machine with access to "
        "the Hugging Face hub, and copy the folder there. Or put config.json and "
        "model.safetensors of the repository into a folder, and pass the folder as source."
    )


def _load_torchvision(name: str, image_size: Size | None, with_weights: bool) -> SourcedNetwork:
    models = import_optional("torchvision.models", "Pretrained", "pretrained", "torchvision")
    base, _, tag = name.partition(".")
    known = models.list_models(module=models)
    if base not in known:
        raise _unknown("torchvision/", name, known)
    weights = models.get_model_weights(base)
    if tag and tag not in weights.__members__:
        raise _unknown("torchvision/", name, [f"{base}.{known}" for known in weights.__members__])
    chosen = weights[tag] if tag else weights.DEFAULT
    if with_weights:
        _downloaded(chosen.url)
    # The builders of Inception prepare their networks for published weights only if they load them.
    inception = base in ("googlenet", "inception_v3") and not with_weights
    options = {"transform_input": True, "init_weights": False} if inception else {}
    network = models.get_model(
        base, weights=chosen if with_weights else None, progress=False, **options
    )
    preset, fixed = chosen.transforms(), getattr(network, "image_size", None)
    size = fixed and (fixed, fixed)
    architecture = f"torchvision/{base}"
    return SourcedNetwork(network, preset.mean, preset.std, size, architecture=architecture)


def _downloaded(url: str) -> None:
    """Download a file into the cache of torch.hub, with its checksum, unless it is there."""
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            prefix = path.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(url, str(path), prefix, progress=False)
    except OSError as error:
        raise FileNotFoundError(
            f"the weights are not at {path}, and they could not be downloaded ({error}). Download "
            f"{url} on a machine with access to it, and copy the file there."
        ) from error


def _read_weights(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            reader = import_optional("safetensors.torch", "Pretrained", "pretrained", "safetensors")
            return reader.load_file(str(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise
    except Exception as error:
        raise ParameterError(
            "source", "a file of weights", str(path), f"It cannot be read: {error}"
        ) from error


def _plain(state: Any, path: str) -> Mapping[str, Tensor]:
    """Return the weights in a checkpoint, by their names in the network."""
    for name in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(isinstance(w, Tensor) for w in state.values()):
        raise ParameterError(
            "source",
            "a file with a dict of tensors, or with such a dict under 'state_dict' or 'model'",
            path,
        )
    # DistributedDataParallel puts this before each name.
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


#: Libraries by the prefix of their names: called as ``f(name, image_size, with_weights)``.
LIBRARIES: dict[str, Callable[[str, Size | None, bool], SourcedNetwork]] = {
    "timm/": _load_timm,
    "torchvision/": _load_torchvision,
    "hub:": _load_timm_repository,
}


def _prefixes() -> str:
    return " or ".join(repr(prefix) for prefix in LIBRARIES if prefix != "hub:")


def _library_of(source: object) -> str | None:
    """Return the prefix of a name."""
    if isinstance(source, str):
        return next((prefix for prefix in LIBRARIES if source.startswith(prefix)), None)
    return None


def _is_factory(source: object) -> bool:
    return callable(source) and not isinstance(source, nn.Module)


def _is_file(source: object) -> bool:
    return (
        isinstance(source, str | os.PathLike)
        and not _library_of(source)
        and str(source).endswith(SUFFIXES)
    )


def _is_folder(source: object) -> bool:
    return (
        isinstance(source, str | os.PathLike) and not _library_of(source) and Path(source).is_dir()
    )


def _unknown(prefix: str, name: str, known: Iterable[str]) -> ParameterError:
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"Near names are {', '.join(prefix + other for other in near)}." if near else ""
    return ParameterError("source", "the name of a network with weights", prefix + name, hint)
