"""Small pretrained networks that the tests write, in the layouts of their sources."""

import json

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

NAME = "test_resnet"  # 0.5 M weights


def tiny_network(n_outputs=10, in_channels=3):
    """A network with batch statistics, dropout and a classifier, the same in each call."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = nn.Sequential()
        network.add_module("stem", nn.Conv2d(in_channels, 8, 3, padding=1, bias=False))
        network.add_module("norm", nn.BatchNorm2d(8))
        block = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2), nn.BatchNorm2d(12))
        network.add_module("block", nn.Sequential(block, nn.ReLU(), nn.Dropout(0.5)))
        network.add_module("pool", nn.AdaptiveAvgPool2d(1))
        network.add_module("flatten", nn.Flatten())
        network.add_module("fc", nn.Linear(12, n_outputs))
        for norm in (network.norm, network.block[0][2]):
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return network


def write_repository(folder, network, **facts):
    """Write a network of timm in the layout of its repositories on the hub."""
    folder.mkdir(parents=True)
    config = {**network.pretrained_cfg, **facts}
    for name in ("hf_hub_id", "url", "source", "file"):
        config.pop(name, None)
    text = {"architecture": NAME, "num_classes": 1000, "pretrained_cfg": config}
    (folder / "config.json").write_text(json.dumps(text))
    save_file(network.state_dict(), folder / "model.safetensors")


def images(n=12, channels=None, size=10, dtype=np.uint8, seed=0):
    shape = (n, size, size) if channels is None else (n, channels, size, size)
    X = np.random.default_rng(seed).integers(0, 256, shape)
    return X.astype(dtype)
