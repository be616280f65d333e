"""Batch normalisation folded into convolutions."""

from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from skimbal.networks.layers import ACSConv3d, PaddedConv3d, WidenedConv2d

__all__ = ["fold_batch_norm"]


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Make batch normalisations part of the convolutions before them, for faster prediction.

    With fixed statistics, a batch normalisation scales and shifts each channel. A convolution can
    do the same with its weights and its bias.

    Parameters
    ----------
    network : Module
        In evaluation mode. It is not changed.

    Returns
    -------
    folded : Module
        The same function up to rounding. It shares all other parameters with ``network``. If
        nothing can be folded (no batch normalisation, hooks, control flow that depends on the
        input), it is ``network`` itself.

    Examples
    --------
    >>> import torch
    >>> from skimbal.networks import SmallCNN, fold_batch_norm
    >>> net = SmallCNN(1, 2, (28, 28), norm="batch").eval()
    >>> x = torch.rand(4, 1, 28, 28)
    >>> torch.allclose(net(x), fold_batch_norm(net)(x), atol=1e-5)
    True
    """
    modules = dict(network.named_modules())
    if not any(isinstance(module, _BATCH_NORMS) for module in modules.values()):
        return network
    # A graph would not call the hooks of the modules that it looks into.
    if any(module._forward_hooks or module._forward_pre_hooks for module in modules.values()):
        return network
    try:
        folded = fx.GraphModule(network, _BatchNormTracer().trace(network))
    except Exception:  # code of a network may raise anything when its input is symbolic
        return network
    calls = [node.target for node in folded.graph.nodes if node.op == "call_module"]
    for node in folded.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], _BATCH_NORMS):
            continue
        conv, norm = node.args[0], modules[node.target]
        if (
            conv.op == "call_module"
            and type(modules[conv.target]) in _CONVS
            and calls.count(conv.target) == calls.count(node.target) == len(conv.users) == 1
            and norm.running_mean is not None
        ):
            _replace(folded, conv.target, _folded(modules[conv.target], norm))
            _replace(folded, node.target, nn.Identity())
    return folded


def _folded(conv: Any, norm: Any) -> nn.Module:
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    # Not by deepcopy, which takes as long as the rest of the folding.
    folded: nn.Module = object.__new__(type(conv))
    folded.__dict__ = {**vars(conv), "_parameters": {"weight": weight, "bias": bias}}
    return folded


def _replace(network: nn.Module, target: str, module: nn.Module) -> None:
    parent, _, name = target.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


class _BatchNormTracer(fx.Tracer):
    """Does not trace modules without batch normalisation, so their code may be any code."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or not any(
            isinstance(module, _BATCH_NORMS) for module in m.modules()
        )


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: Convolutions that a batch normalisation can be folded into.
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, WidenedConv2d, PaddedConv3d, ACSConv3d)
