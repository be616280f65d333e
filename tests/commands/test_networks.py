"""Pretrained networks on the command line."""

import re
import shlex
import sys

import numpy as np
import pytest
import timm
from huggingface_hub import constants
from safetensors.torch import save_file

import skimbal
from skimbal import Pretrained, SliceNet
from skimbal.__main__ import main
from skimbal.datasets import load_npz
from tests.commands.data import check_refused, images
from tests.commands.test_winner import compare
from tests.networks.pretrained_data import NAME, write_repository

SHORT = ("--epochs", "1", "--epoch-length", "1")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with the weights of a small network of timm."""
    path = tmp_path_factory.mktemp("weights") / "own weights.safetensors"
    save_file(timm.create_model(NAME).state_dict(), path)
    return str(path)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Empty caches of weights, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def download(url, *_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", download)


def test_fit_a_pretrained_network(capsys, own, tmp_path, weights):
    path = tmp_path / "model.skimbal"
    argv = ["--module", f"timm/{NAME}", "--weights", weights, "--freeze", "backbone"]
    argv += ["--image-size", "16", "--backbone-lr-factor", "0.5", "--layer-decay", "0.9"]
    assert main(["fit", own, *argv, *SHORT, "--output", str(path)]) == 0
    assert f"network    timm/{NAME}, 1 epoch of 1 step\n" in capsys.readouterr().out
    clf = skimbal.load(path)
    given = {"architecture": f"timm/{NAME}", "freeze": "backbone", "image_size": 16}
    given |= {"source": weights, "backbone_lr_factor": 0.5, "layer_decay": 0.9}
    assert given.items() <= clf.module.get_params().items()
    # The backbone has the weights of the file, as it was frozen.
    expected = Pretrained(weights, architecture=f"timm/{NAME}").build(1, 2, (8, 8)).backbone
    for name, weight in expected.state_dict().items():
        np.testing.assert_array_equal(clf.net_.module_.network.backbone.state_dict()[name], weight)
    table = tmp_path / "predictions.csv"
    assert main(["predict", str(path), own, "--output", str(table)]) == 0
    found = np.genfromtxt(table, delimiter=",", skip_header=1)[:, 3:]
    X = load_npz(own, groups="patient").X
    np.testing.assert_allclose(found, clf.predict_proba(X), atol=1e-6)


@pytest.mark.slow
def test_a_study_of_a_pretrained_network_and_its_commands(
    capsys, monkeypatch, split, tmp_path, weights
):
    argv = ["--module", f"timm/{NAME}", "--weights", weights, "--freeze", "conv1*,bn1*"]
    argv += ["--unfreeze-at", "0.5", "--losses", "ce", "--samplers", "uniform", "--cv", "2"]
    _, commands = compare(capsys, split(), *argv, "--epochs", "2")
    words = f"--module timm/{NAME} --weights '{weights}' --freeze 'conv1*,bn1*' --unfreeze-at 0.5"
    assert words in commands[0]
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
    assert skimbal.load("model.skimbal").module.freeze == ["conv1*", "bn1*"]


@pytest.mark.slow
def test_volumes_are_read_slice_by_slice(capsys, make_npz, rng, tmp_path, weights):
    y = np.array([0, 0, 1, 0] * 4)
    own = make_npz(X=np.repeat(images(y, rng)[:, None], 6, axis=1), y=y)
    path = tmp_path / "model.skimbal"
    argv = ["--module", f"timm/{NAME}", "--weights", weights, "--freeze", "backbone"]
    argv += ["--image-size", "16", "24", "--spatial-axes", "3"]
    assert main(["fit", own, *argv, *SHORT, "--output", str(path)]) == 0
    assert f"timm/{NAME} on each slice, 1 epoch" in capsys.readouterr().out
    module = skimbal.load(path).module
    assert isinstance(module, SliceNet)
    assert module.backbone.image_size == (16, 24)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--module", "timm/resnet_18"], "--module must be .*'timm/resnet_18'.*timm/resnet18"),
        (["--module", "torchvision/resnet19"], "--module must be .*torchvision/resnet18"),
        (["--module", "resnet19"], "--module: must be auto, small.*timm/NAME.*mean resnet18"),
        (["--module", "own.pt"], "--module: must be.*a file as --weights"),
        (["--freeze", "backbone"], "--freeze needs a pretrained .*timm/resnet18; got --module aut"),
        (["--module", "small", "--image-size", "9"], "--image-size needs a pretrained"),
        (["--module", f"timm/{NAME}", "--width", "4"], "--width must be left out with --module"),
        (["--module", f"timm/{NAME}", "--weights", "w.zip"], "--weights: must be a file that ends"),
        (
            ["--module", f"timm/{NAME}", "--weights", "absent.pt"],
            "--weights must be a file that",
        ),
        (["--module", f"timm/{NAME}", "--layer-decay", "2"], "--layer-decay must be .*at most 1"),
        (["--module", f"timm/{NAME}", "--unfreeze-at", "2"], "--unfreeze-at .*--freeze backbone"),
        (["--module", f"timm/{NAME}", "--standardize", "yes"], "--standardize must be 'auto'"),
        (["--module", f"timm/{NAME}", "--features-cache", "f"], "--features-cache .*--freeze back"),
    ],
)
def test_options_are_refused_by_name(capsys, never, offline, argv, said, tmp_path):
    err = check_refused(capsys, "fit", "digits", *argv, "--output", str(tmp_path / "m.skimbal"))
    assert re.search(said, err), err


@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "compare"])
def test_patterns_and_weights_are_tried_before_any_fit(capsys, never, command, tmp_path, weights):
    argv = [command, "digits", "--module", f"timm/{NAME}", "--weights", weights]
    argv += ["--output", str(tmp_path / "m.skimbal")] if command == "fit" else []
    err = check_refused(capsys, *argv, "--freeze", "layr1*")
    assert "error: --freeze must be patterns that match names in the network; got 'layr1*'" in err
    other = ["--module", "torchvision/resnet18" if command == "fit" else "timm/test_vit"]
    err = check_refused(capsys, *argv, *other)
    assert "error: --weights must be a file whose weights fit the architecture" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"timm/{NAME}", "the weights of timm/test_resnet.r160_in1k are not at"),
        ("torchvision/resnet18", "resnet18-f37072fd.pth, and they could not be downloaded"),
    ],
)
def test_offline(capsys, never, offline, name, said, tmp_path):
    err = check_refused(
        capsys, "fit", "digits", "--module", name, "--output", str(tmp_path / "m.skimbal")
    )
    assert f"error: --module {name}: the weights" in err
    assert said in err


def test_a_missing_package(capsys, never, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    argv = ["--module", "timm/resnet18", "--output", str(tmp_path / "m.skimbal")]
    err = check_refused(capsys, "fit", "digits", *argv)
    assert "error: --module timm/resnet18: " in err
    assert 'Run pip install "timm' in err


@pytest.mark.slow
def test_a_folder_in_the_layout_of_the_hub(capsys, own, tmp_path):
    write_repository(tmp_path / "mine", timm.create_model(NAME))
    path = tmp_path / "model.skimbal"
    argv = ["fit", own, "--module", str(tmp_path / "mine"), *SHORT, "--output", str(path)]
    assert main(argv) == 0
    assert skimbal.load(path).module.source == str(tmp_path / "mine")
