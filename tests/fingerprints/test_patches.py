"""Functions that a program puts into installed packages are found."""

import functools

import numpy as np
import sklearn.utils
import torch
from torch import nn
from torch._dynamo.mutation_guard import install_generation_tagging_init
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from skimbal.fingerprints import code_digest, describe, patches
from skimbal.fingerprints.patches import edited_attributes


class Relu:
    def __call__(self, x, inplace=False):
        return x


class Layer(nn.Linear):
    pass


def double(self, x):
    return 2 * functional.linear(x, self.weight, self.bias)


def test_a_program_without_patches_has_none():
    assert dict(patches()) == {}


def test_the_counter_of_compiled_networks_is_no_patch(monkeypatch):
    for name in ("__init__", "__setstate__"):  # restored at the end
        monkeypatch.setattr(nn.Module, name, vars(nn.Module)[name])
    monkeypatch.setattr(nn.Module, "___needs_generation_tag_patch", True, raising=False)
    install_generation_tagging_init()
    assert nn.Module.__init__.__module__ == "torch._dynamo.mutation_guard"
    assert dict(patches()) == {}


def test_the_step_that_torch_wraps_is_no_patch(monkeypatch):
    # Of a class that inherits it, as in the first fit of a process.
    monkeypatch.delattr(torch.optim.Adam.step, "hooked", raising=False)
    monkeypatch.setattr(torch.optim.AdamW, "step", torch.optim.Adam.step)
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    assert "step" in vars(torch.optim.AdamW)
    assert dict(patches()) == {}


def test_functions_methods_objects_and_classes_are_found(monkeypatch):
    monkeypatch.setattr(nn.Linear, "forward", double)
    monkeypatch.setattr(nn.Conv2d, "extra_repr", property(double))
    monkeypatch.setattr(functional, "relu", Relu())
    monkeypatch.setattr(functional, "gelu", functools.partial(double, 1))
    monkeypatch.setattr(nn, "Linear", Layer)
    monkeypatch.setattr(np, "load", lambda path: 1)
    monkeypatch.setattr(sklearn.utils, "shuffle", np.sin)  # of an installed package
    assert set(dict(patches())) == {
        "torch.nn.modules.linear.Linear.forward",
        "torch.nn.modules.conv.Conv2d.extra_repr",
        "torch.nn.functional.relu",
        "torch.nn.functional.gelu",
        "torch.nn.Linear",
        "numpy.load",
    }


def test_a_class_of_a_package_counts_with_its_patches(monkeypatch):
    def net(x):
        return nn.Linear(1, 1)(x)

    before = code_digest(net, "net"), describe(nn.Linear), describe(torch.optim.SGD)
    assert edited_attributes(nn.Linear) == []
    monkeypatch.setattr(nn.Linear, "forward", double)
    assert [name for name, _ in edited_attributes(nn.Linear)] == ["forward"]
    assert code_digest(net, "net") != before[0]
    assert describe(nn.Linear) != before[1]
    assert describe(torch.optim.SGD) == before[2]


class Relus:
    def relu(self, x, inplace=False):
        return x


def test_functions_of_a_package_in_the_place_of_others_are_found(monkeypatch):
    monkeypatch.setattr(nn.ReLU, "forward", nn.Tanh.forward)
    monkeypatch.setattr(functional, "relu", functional.softplus)
    monkeypatch.setattr(nn.BatchNorm1d, "forward", nn.Identity.forward, raising=False)
    monkeypatch.setattr(nn, "GELU", nn.SiLU)
    monkeypatch.setattr(functional, "silu", Relus().relu)
    monkeypatch.setattr(functional, "hardtanh", functools.lru_cache(lambda x: x))
    found = dict(patches())
    assert set(found) == {
        "torch.nn.modules.activation.ReLU.forward",
        "torch.nn.functional.relu",
        "torch.nn.functional.silu",
        "torch.nn.functional.hardtanh",
        "torch.nn.modules.batchnorm.BatchNorm1d.forward",
        "torch.nn.GELU",
    }
    assert all(code_digest(value, name) for name, value in found.items())


def test_hooks_of_all_modules_and_optimizers_are_found():
    handles = [
        register_module_forward_hook(double),
        register_optimizer_step_pre_hook(double),
    ]
    try:
        assert set(dict(patches())) == {
            "torch.nn.modules.module._global_forward_hooks",
            "torch.optim.optimizer._global_optimizer_pre_hooks",
        }
    finally:
        for handle in handles:
            handle.remove()
    assert dict(patches()) == {}
