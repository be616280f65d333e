"""Weights of convolutions in the order in memory in which a CPU computes with them."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["WeightsState", "layers_of", "prepack"]

#: Multiplications of a 2D convolution for one image below which oneDNN takes longer to start than
#: the kernel that torch chooses for one image takes to compute.
_LEAST_WORK = 2_000_000
#: Differences that come from another order of sums in float32, relative and absolute.
_ROUNDING = {"rtol": 1e-3, "atol": 1e-4}

_Convolution: TypeAlias = nn.Conv2d | nn.Conv3d


def prepack(network: nn.Module, images: Tensor) -> nn.Module:
    """Copy a network for predictions of images like some images on a CPU.

    torch brings the weights of a convolution into the order of oneDNN in each call. That takes
    longer than the convolution itself where there are many weights and few pixels. For a single
    volume torch does not call oneDNN at all. The copy holds weights in that order already.

    Parameters
    ----------
    network : Module
        In evaluation mode. It is not changed.
    images : Tensor of shape (n_samples, n_channels, *spatial)
        Some images, as the network gets them. The order is best for images of this size, and right
        for images of any size.

    Returns
    -------
    packed : Module
        The same function up to rounding. It shares all parameters with ``network``, and holds a
        second copy of the weights of its convolutions. If nothing can be packed (another device,
        another dtype, hooks, TorchScript, or a network that gives another result for the same
        images), it is ``network`` itself.

    Examples
    --------
    >>> import torch
    >>> from skimbal.networks import SmallCNN
    >>> from skimbal.networks.prepacking import prepack
    >>> net, x = SmallCNN(1, 2, (12, 12, 12)).eval(), torch.rand(1, 1, 12, 12, 12)
    >>> with torch.inference_mode():
    ...     torch.allclose(net(x), prepack(net, x)(x), atol=1e-5)
    True
    """
    if not _can_pack(network, images):
        return network
    packed = _copied(network, {})
    with torch.inference_mode():
        sizes: dict[_Convolution, torch.Size] = {}
        expected = _watched(packed, images, sizes)
        try:
            for conv, size in sizes.items():
                vars(conv)["forward"] = _packed_forward(conv, size)
            found = packed(images)
        except RuntimeError:  # a torch whose functions for its own compiler are others
            return network
        if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
            return network
        # Also false for a network that draws random numbers.
        is_equal = torch.allclose(found, expected, equal_nan=True, **_ROUNDING)
    return packed if is_equal else network


class WeightsState:
    """What changes when the weights, the layers, the mode or the hooks of a network change.

    It takes microseconds, where a checksum of all weights would take as long as a prediction.

    Parameters
    ----------
    network : Module
        On a CPU.
    """

    def __init__(self, network: nn.Module) -> None:
        # Held, as a number of a layer that is gone may be the number of another layer.
        self._held, self._facts = _facts_of(network)
        tensors = [thing for thing in self._held if isinstance(thing, Tensor) and thing.numel()]
        self._views = [x.detach().numpy() for x in tensors if _is_dense(x)]
        self._ends = self._find_ends()

    def is_of(self, network: nn.Module) -> bool:
        """Tell whether a network is the same with the same weights."""
        return self._facts == _facts_of(network)[1] and self._ends == self._find_ends()

    def _find_ends(self) -> list[object]:
        # A change by way of ``.data`` leaves the version of a tensor as it is.
        return [(view.item(0), view.item(view.size - 1)) for view in self._views]


def _facts_of(network: nn.Module) -> tuple[list[object], list[object]]:
    """Return the modules and tensors of a network, and their identity, version and mode."""
    held: list[object] = []
    facts: list[object] = []
    for module in layers_of(network):
        held.append(module)
        hooks = len(module._forward_hooks), len(module._forward_pre_hooks)
        facts += (id(module), module.training, hooks, vars(module).get("forward"))
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                held.append(tensor)
                version = None if tensor.is_inference() else tensor._version
                facts += (id(tensor), version, tensor.data_ptr() if _is_dense(tensor) else None)
    return held, facts


def _is_dense(tensor: Tensor) -> bool:
    """Tell whether a tensor is an array of floats, as are all weights that a copy is made of."""
    return tensor.layout == torch.strided and tensor.dtype in (torch.float32, torch.float64)


def layers_of(network: nn.Module) -> Iterator[nn.Module]:
    """Yield all layers as ``network.modules()`` does, in a fraction of the time.

    A layer that is part of several others comes several times.
    """
    stack = [network]
    while stack:
        layer = stack.pop()
        yield layer
        stack += [child for child in layer._modules.values() if child is not None]


def _can_pack(network: nn.Module, images: Tensor) -> bool:
    operations, onednn = torch.ops.mkldnn, torch.backends.mkldnn
    layers = [*layers_of(network)]
    return (
        images.device.type == "cpu"
        and images.dtype == torch.float32
        and onednn.is_available()  # type: ignore[no-untyped-call]
        and bool(onednn.enabled)
        and hasattr(operations, "_convolution_pointwise")
        and hasattr(operations, "_reorder_convolution_weight")
        and any(_is_plain(layer) for layer in layers)
        # Its layers are objects of another language.
        and not any(isinstance(layer, torch.jit.ScriptModule) for layer in layers)
        # A hook sees the layers, and not their copies.
        and not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    )


def _is_plain(module: nn.Module) -> bool:
    """Tell whether a module is a convolution of torch, and computes as such."""
    return (
        type(module) in (nn.Conv2d, nn.Conv3d)
        and "forward" not in vars(module)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module.weight.dtype == torch.float32
    )


def _copied(layer: nn.Module, copies: dict[int, nn.Module]) -> nn.Module:
    """Copy a layer and all layers in it, with the same weights, in a fraction of a deepcopy's time.

    What else a layer holds, such as a function, belongs to the layer that it is copied from.
    """
    if id(layer) not in copies:
        copy: nn.Module = object.__new__(type(layer))
        copies[id(layer)] = copy
        copy.__dict__ = dict(vars(layer))
        # A hook of the copy must not be called by the layer.
        for name in ("_forward_hooks", "_forward_pre_hooks"):
            copy.__dict__[name] = OrderedDict()
        copy.__dict__["_modules"] = {
            name: None if child is None else _copied(child, copies)
            for name, child in layer._modules.items()
        }
    return copies[id(layer)]


def _watched(network: nn.Module, images: Tensor, sizes: dict[_Convolution, torch.Size]) -> object:
    """Call a network, and note the size of the input of each convolution."""

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _Convolution)
        sizes.setdefault(module, inputs[0].shape)

    convolutions = [layer for layer in layers_of(network) if _is_plain(layer)]
    handles = [module.register_forward_pre_hook(note) for module in convolutions]
    try:
        return network(images)
    finally:
        for handle in handles:
            handle.remove()


def _packed_forward(conv: _Convolution, size: torch.Size) -> Callable[[Tensor], Tensor]:
    """Return the function of a convolution with weights in the order of oneDNN."""
    geometry = [list(numbers) for numbers in (conv.padding, conv.stride, conv.dilation)]
    weight = torch.ops.mkldnn._reorder_convolution_weight(
        conv.weight.contiguous(), *geometry, conv.groups, list(size)
    )
    n_voxels = torch.Size(size[2:]).numel() / torch.Size(conv.stride).numel()
    of_torch = type(conv).forward
    is_short = len(size) == 4 and conv.weight.numel() * n_voxels < _LEAST_WORK

    def forward(x: Tensor) -> Tensor:
        if is_short and len(x) == 1:
            return of_torch(conv, x)  # type: ignore[arg-type]
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, conv.bias, *geometry, conv.groups, "none", [], ""
        )
        return result

    return forward
