"""Networks from libraries, repositories, files and functions, and words for those that fail."""

import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from skimbal import Pretrained
from skimbal.exceptions import ParameterError
from skimbal.networks.sources import IMAGENET_MEAN, check_source, load_network
from tests.networks.pretrained_data import NAME, tiny_network, write_repository

timm = pytest.importorskip("timm")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Empty caches, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def download(url, path, *args, **kwargs):
        raise OSError(f"no route to {url}")

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    return tmp_path


def cached_repository(folder, name, network):
    """Write a repository where huggingface_hub keeps what it has downloaded."""
    root = folder / "hub" / f"models--{name.replace('/', '--')}"
    write_repository(root / "snapshots" / ("0" * 40), network, mean=[0.1, 0.2, 0.3])
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)
    return root


def assert_same_weights(network, other):
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


@pytest.mark.parametrize("source", [f"timm/{NAME}", f"timm/{NAME}.r160_in1k", "hub:timm/other"])
def test_the_cache_of_the_hub_is_read(source, offline):
    network = timm.create_model(NAME)
    owned = "timm/other" if source.startswith("hub:") else f"timm/{NAME}.r160_in1k"
    cached_repository(offline, owned, network)
    found = load_network(source)
    assert_same_weights(found.network, network)
    assert found.size is None
    # The library knows the numbers of its own names. Those of a repository are in its file.
    own = (0.1, 0.2, 0.3) if source.startswith("hub:") else (0.5, 0.5, 0.5)
    assert tuple(found.mean) == own


def test_a_folder_in_the_layout_of_the_hub(tmp_path):
    network = timm.create_model(NAME)
    write_repository(tmp_path / "mine", network, std=[0.4, 0.5, 0.6])
    for source in (tmp_path / "mine", str(tmp_path / "mine")):
        found = load_network(source)
        assert_same_weights(found.network, network)
        assert tuple(found.std) == (0.4, 0.5, 0.6)


def test_a_transformer_of_one_size_is_made_for_another(tmp_path):
    network = timm.create_model("test_vit")
    write_repository(tmp_path / "vit", network, architecture="test_vit")
    text = (tmp_path / "vit" / "config.json").read_text().replace(NAME, "test_vit")
    (tmp_path / "vit" / "config.json").write_text(text)
    assert load_network(tmp_path / "vit").size == (160, 160)
    found = load_network(tmp_path / "vit", image_size=(64, 64))
    assert found.size == (64, 64)
    found.network(torch.zeros(1, 3, 64, 64))
    built = Pretrained(tmp_path / "vit", image_size=64).build(1, 2, (28, 28))
    assert built(torch.zeros(2, 1, 28, 28)).shape == (2, 2)


def test_the_cache_of_torchvision_is_read(offline):
    models = pytest.importorskip("torchvision.models")
    network = models.get_model("squeezenet1_1")
    folder = offline / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    url = models.get_model_weights("squeezenet1_1").DEFAULT.url
    torch.save(network.state_dict(), folder / url.rpartition("/")[2])
    for name in ("squeezenet1_1", "squeezenet1_1.IMAGENET1K_V1"):
        found = load_network(f"torchvision/{name}")
        assert_same_weights(found.network, network)
        assert tuple(found.mean) == IMAGENET_MEAN
    # The classifier is a convolution there.
    built = Pretrained("torchvision/squeezenet1_1", freeze="backbone").build(1, 2, (64, 64))
    assert built.head.in_features == 512
    assert built(torch.rand(2, 1, 64, 64)).shape == (2, 2)


@pytest.mark.parametrize(
    ("source", "place", "remedy"),
    [
        (f"timm/{NAME}", "models--timm--test_resnet.r160_in1k", "hf download timm/test_resnet"),
        ("hub:me/mine", "models--me--mine", "hf download me/mine"),
        ("torchvision/resnet18", "resnet18-f37072fd.pth", "https://download.pytorch.org/models/"),
    ],
)
def test_without_a_network_the_error_says_where_the_file_belongs(source, place, remedy, offline):
    with pytest.raises(FileNotFoundError) as error:
        load_network(source)
    assert place in str(error.value)
    assert str(offline) in str(error.value)
    assert remedy in str(error.value)


def test_a_download_is_compared_with_its_checksum(offline, monkeypatch):
    asked = []

    def download(url, path, prefix, progress):
        asked.append((url.rpartition("/")[2], prefix))
        raise RuntimeError('invalid hash value (expected "f37072fd", got "0")')

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    with pytest.raises(RuntimeError, match="invalid hash"):
        load_network("torchvision/resnet18")
    with pytest.raises(RuntimeError, match="invalid hash"):
        load_network("timm/legacy_xception")
    assert asked == [("resnet18-f37072fd.pth", "f37072fd"), ("xception-43020ad28.pth", "43020ad28")]


@pytest.mark.parametrize(
    ("source", "near"),
    [
        ("timm/resnet10", "timm/resnet10t"),
        ("torchvision/resnet_18", "torchvision/resnet18"),
        ("torchvision/resnet18.IMAGENET1K_V2", "torchvision/resnet18.IMAGENET1K_V1"),
    ],
)
def test_unknown_names_list_near_names(source, near):
    with pytest.raises(ParameterError, match=near):
        load_network(source)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_a_file_of_weights(suffix, key, tmp_path):
    network, path = tiny_network(), tmp_path / f"mine{suffix}"
    nn.init.ones_(network.stem.weight)
    state = {f"module.{name}": weight for name, weight in network.state_dict().items()}
    if suffix == ".pt":
        torch.save(state if key is None else {key: state, "epoch": 3}, path)
    else:
        save_file(state, path)
    found = Pretrained(path, architecture=tiny_network).build(3, 2, (8, 8))
    assert (found.backbone.stem.weight == 1).all()


def test_a_file_of_another_classifier_fits(tmp_path):
    path = str(tmp_path / "mine.pt")
    torch.save(tiny_network(n_outputs=3).state_dict(), path)
    Pretrained(path, architecture=tiny_network).build(3, 2, (8, 8))
    state = tiny_network().state_dict()
    torch.save({name: w for name, w in state.items() if not name.startswith("fc")}, path)
    Pretrained(path, architecture=tiny_network).build(3, 2, (8, 8))


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = str(tmp_path / "mine.pt")
    state = tiny_network().state_dict()
    del state["norm.bias"]
    state["extra.weight"] = torch.zeros(3)
    state["stem.weight"] = torch.zeros(8, 3, 5, 5)
    torch.save(state, path)
    with pytest.raises(ParameterError) as error:
        Pretrained(path, architecture=tiny_network).build(3, 2, (8, 8))
    for words in (
        "1 missing (norm.bias)",
        "1 not in the network (extra.weight)",
        "stem.weight (8, 3, 5, 5) for (8, 3, 3, 3)",
    ):
        assert words in str(error.value)


def test_a_file_that_is_not_weights(tmp_path):
    (tmp_path / "noise.pt").write_bytes(b"noise")
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(tiny_network(), tmp_path / "whole.pt")  # code, which is not loaded
    for name in ("noise.pt", "noise.safetensors", "list.pt", "whole.pt"):
        with pytest.raises(ParameterError, match="source must be a file"):
            load_network(tmp_path / name, tiny_network)


@pytest.mark.parametrize(
    ("source", "architecture", "words"),
    [
        ("resnet18", None, "'timm/' or 'torchvision/' or 'hub:'"),
        ("no_such_file.pt", tiny_network, "a file that exists"),
        (__file__.replace(".py", ".pt"), None, "a file that exists"),
        (tiny_network, "timm/resnet18", "architecture must be None"),
        (tiny_network(), None, "Wrap the network in a function"),
        (3, None, "source must be a name"),
    ],
    ids=str,
)
def test_other_sources_are_refused(source, architecture, words):
    with pytest.raises(ParameterError, match=words):
        check_source(source, architecture)


def test_a_file_needs_an_architecture(tmp_path):
    path = tmp_path / "mine.pt"
    path.touch()
    with pytest.raises(ParameterError, match="architecture must be a name that begins"):
        check_source(path, None)
    check_source(path, "timm/resnet18")


def test_a_function_must_return_a_network():
    with pytest.raises(TypeError, match=r"must be a function that returns a torch.nn.Module"):
        load_network(lambda: 3)


def test_a_network_that_a_function_returns_twice_is_not_changed():
    network = tiny_network()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    found = load_network(lambda: network).network
    nn.init.zeros_(found.stem.weight)
    assert torch.equal(network.stem.weight, before["stem.weight"])


@pytest.mark.parametrize(
    ("source", "module", "package"),
    [
        ("timm/resnet18", "timm", "timm"),
        ("hub:me/mine", "timm", "timm"),
        ("torchvision/resnet18", "torchvision.models", "torchvision"),
    ],
)
def test_a_missing_library_is_named(source, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{package}, which is missing.*install "{package}'):
        load_network(source)


def test_a_folder_without_the_files_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"with config.json and model.safetensors"):
        load_network(Path(tmp_path))
