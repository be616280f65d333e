"""The order of images and weights in memory."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skimbal.exceptions import ParameterError
from skimbal.habits import advice_on_value
from skimbal.training.devices import device_type

__all__ = ["Layout", "keeps_channels_last", "lay_out_images"]

#: The layouts that ``net["memory_format"]`` names.
_NAMES = ("auto", "channels_last", "contiguous")
#: Memory format with the channels innermost, by the number of axes of a batch or of a weight.
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
#: Normalisations that some devices compute in the usual layout only.
_NORMS = {"group": (nn.GroupNorm,), "instance": (nn.InstanceNorm2d, nn.InstanceNorm3d)}


@dataclass(frozen=True)
class Layout:
    """The order of the images and the weights of a network in memory.

    Parameters
    ----------
    memory_format : {"auto", "channels_last", "contiguous"}, default="auto"
        ``"channels_last"`` has the channels innermost. ``"contiguous"`` has the voxels of a channel
        side by side. ``"auto"`` is ``"channels_last"`` on a CPU, and elsewhere unless the network
        has a group or instance normalisation whose output is in the usual layout.
    device : str, default="cpu"
        Where the network computes.
    of_weights : bool, default=True
        Whether the weights have the layout of the images. They are contiguous otherwise.

    Raises
    ------
    ParameterError
        If ``memory_format`` is unknown.
    """

    memory_format: str = "auto"
    device: str = "cpu"
    of_weights: bool = True

    def __post_init__(self) -> None:
        given = self.memory_format
        if not isinstance(given, str) or given not in _NAMES:
            names = ", ".join(map(repr, _NAMES))
            meant = advice_on_value("memory_format", given, _NAMES)
            raise ParameterError("memory_format", f"one of {names}", given, meant)

    def decide(self, network: nn.Module) -> str:
        """Return ``"channels_last"`` or ``"contiguous"`` for a network."""
        if self.memory_format != "auto":
            return self.memory_format
        if device_type(self.device) == "cpu":
            # Convolutions gain more than an instance normalisation loses.
            return "channels_last"
        for norm, kinds in _NORMS.items():
            has_some = any(isinstance(layer, kinds) for layer in network.modules())
            if has_some and not keeps_channels_last(norm, self.device):
                # Every normalisation would copy its input and its gradient to the usual layout, and
                # the next convolution would copy them back.
                return "contiguous"
        return "channels_last"

    def lay_out_weights(self, network: nn.Module, memory_format: str) -> None:
        """Put the weights of a network into a layout, in place."""
        innermost = self.of_weights and memory_format == "channels_last"
        for layer in network.modules():
            of_layer = [w for w in layer.parameters(recurse=False) if w.ndim in _CHANNELS_LAST]
            for weight in of_layer:
                order = _CHANNELS_LAST[weight.ndim] if innermost else torch.contiguous_format
                weight.data = weight.data.contiguous(memory_format=order)
            if of_layer and innermost and _contiguous not in layer._state_dict_hooks.values():
                layer._register_state_dict_hook(_contiguous)  # type: ignore[no-untyped-call]


def lay_out_images(images: Tensor, memory_format: str) -> Tensor:
    """Return images in a layout, which their strides name even if there is one channel."""
    innermost = memory_format == "channels_last"
    if images.shape[1] == 1:
        # Both layouts at once. Networks go by the strides, which must name the right layout.
        n, _, first, *others = images.stride()
        step = 1 if innermost else first * images.shape[2]
        images = images.as_strided(images.shape, (n, step, first, *others))
    order = _CHANNELS_LAST[images.ndim] if innermost else torch.contiguous_format
    return images.contiguous(memory_format=order)


@functools.cache
@torch.no_grad()
def keeps_channels_last(norm: str, device: str) -> bool:
    """Tell whether a normalisation, "group" or "instance", keeps its input's layout on a device.

    A trial tells it for the version of torch that is there. torch 2.13 makes the input of a group
    normalisation contiguous on CUDA, and later versions have a kernel for either layout.
    """
    for n_axes, order in _CHANNELS_LAST.items():
        x = torch.zeros([1] + [2] * (n_axes - 1), device=device).contiguous(memory_format=order)
        y = functional.group_norm(x, 1) if norm == "group" else functional.instance_norm(x)
        if not y.is_contiguous(memory_format=order):
            return False
    return True


def _contiguous(layer: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Put the weights of a layer into a state in the layout that safetensors takes."""
    for name, _ in layer.named_parameters(recurse=False):
        value = state.get(prefix + name)
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            state[prefix + name] = value.contiguous()
