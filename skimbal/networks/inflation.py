"""Networks of volumes that begin with the weights of networks of 2D images."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from skimbal.exceptions import ParameterError
from skimbal.networks.layers import ACSConv3d

__all__ = ["inflate"]

#: Parts of the ResNets of torchvision, and their names here. Stages and blocks become one number.
_TORCHVISION = {
    "conv1": "stem.0",
    "bn1": "stem.1",
    "fc": "classifier",
    "block.conv1": "body.0",
    "block.bn1": "body.1",
    "block.conv2": "body.3",
    "block.bn2": "body.4",
    "block.downsample.0": "shortcut.0",
    "block.downsample.1": "shortcut.1",
}
_BLOCK = re.compile(r"(layer\d+\.\d+)\.(.+)")


def inflate(
    weights: nn.Module | Mapping[str, Tensor], network: nn.Module, how: str = "i3d"
) -> nn.Module:
    """Start a network of volumes from the weights of a network of 2D images.

    The two networks have the same layers. Two built-in networks have the same layers if they are
    made with the same options, one for images of two spatial axes and one for volumes.

    Parameters
    ----------
    weights : Module or dict of str to Tensor
        The network of 2D images, or its ``state_dict()``. The names of the layers in ResNet-18 and
        ResNet-34 of torchvision are known, too: their twins are :class:`ResNet` with
        ``norm="batch"``.
    network : Module
        The network of volumes. It is changed in place.
    how : {"i3d", "acs"}, default="i3d"
        ``"i3d"`` repeats each kernel along the first axis of the volume, and divides it by the
        number of repetitions (Carreira and Zisserman, 2017). A volume that repeats one slice then
        has the features of this slice, except near the ends of the axis, where zeros pad the
        volume. ``"acs"`` makes each convolution an :class:`ACSConv3d`, in which each kernel sees
        two of the three axes (Yang et al., 2021). The network then has as many weights as the
        network of 2D images.

    Returns
    -------
    network : Module
        The network that was given. A linear layer that ``weights`` lacks or has in another shape,
        as for other classes, keeps its values. If ``network`` takes one channel, it takes the sum
        of the kernels over the channels, as a grey image in three equal channels would have the
        same features. If ``weights`` take one channel, each channel takes its share of the kernels.

    Raises
    ------
    ParameterError
        If ``how`` is unknown, or ``weights`` and ``network`` have different layers. The error
        names the layers.

    References
    ----------
    Carreira, J. and Zisserman, A. (2017). Quo vadis, action recognition? A new model and the
    Kinetics dataset. CVPR.

    Yang, J. et al. (2021). Reinventing 2D convolutions for 3D images. IEEE Journal of Biomedical
    and Health Informatics 25, 3009-3018. arXiv:1911.10477.

    Examples
    --------
    A classifier takes a function that makes the network:

    >>> import numpy as np
    >>> from skimbal import CNN3DClassifier
    >>> from skimbal.networks import ResNet, inflate
    >>> trained = ResNet(3, 10, (32, 32), n_blocks=(1, 1), width=8)
    >>> def inflated(in_channels, n_classes):
    ...     network = ResNet(in_channels, n_classes, (12, 12, 12), n_blocks=(1, 1), width=8)
    ...     return inflate(trained, network, how="acs")
    >>> X, y = np.random.default_rng(0).random((8, 12, 12, 12), np.float32), [0, 1] * 4
    >>> CNN3DClassifier(module=inflated, max_epochs=1).fit(X, y).predict(X).shape
    (8,)
    """
    if how not in ("i3d", "acs"):
        raise ParameterError("how", "'i3d' or 'acs'", how)
    if not _convolutions(network):
        raise ParameterError("network", "a network of volumes, with Conv3d layers", network)
    state = weights.state_dict() if isinstance(weights, nn.Module) else dict(weights)
    fitting = _fitting(_with_our_names(state), network, how)
    if how == "acs":
        for name, layer in _convolutions(network).items():
            if max(layer.kernel_size) > 1:
                channels, size = (layer.in_channels, layer.out_channels), layer.kernel_size[0]
                flat = ACSConv3d(*channels, size, layer.stride, bias=layer.bias is not None)
                parent, _, last = name.rpartition(".")
                setattr(network.get_submodule(parent), last, flat.to(layer.weight))
    own = network.state_dict()
    with torch.no_grad():
        for name, value in fitting.items():
            if value.ndim == own[name].ndim - 1:
                depth = own[name].shape[2]
                value = value[:, :, None].expand(-1, -1, depth, -1, -1) / depth
            own[name].copy_(value)
    return network


def _convolutions(network: nn.Module) -> dict[str, nn.Conv3d]:
    modules = network.named_modules()
    return {name: layer for name, layer in modules if isinstance(layer, nn.Conv3d)}


def _with_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the layers of a ResNet of torchvision."""
    blocks: dict[str, int] = {}
    for name in state:
        if match := _BLOCK.match(name):
            blocks.setdefault(match[1], len(blocks))

    def renamed(name: str) -> str:
        match = _BLOCK.match(name)
        layer, _, entry = f"block.{match[2]}".rpartition(".") if match else name.rpartition(".")
        stage = f"stages.{blocks[match[1]]}." if match else ""
        return f"{stage}{_TORCHVISION.get(layer, layer)}.{entry}"

    return {renamed(name): value for name, value in state.items()} if blocks else dict(state)


def _fitting(state: dict[str, Tensor], network: nn.Module, how: str) -> dict[str, Tensor]:
    """Return the entries of 2D weights that the network takes, or name those that do not fit."""
    convs, own = _convolutions(network), network.state_dict()
    linear = {name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    fitting: dict[str, Tensor] = {}
    wrong: list[str] = []
    for name, here in own.items():
        layer, value, shape = name.rpartition(".")[0], state.get(name), here.shape
        if value is None:
            wrong += [] if layer in linear else [f"{name} (only in network)"]
            continue
        if layer in convs and here.ndim == 5:
            value = _with_channels(value, here.shape[1])
            # All planes of a kernel of "acs" must have the same shape.
            is_cube = how == "i3d" or len(set(here.shape[2:])) == 1
            shape = torch.Size([*here.shape[:2], *here.shape[3:]]) if is_cube else here.shape
        if value.shape == shape:
            fitting[name] = value
        elif layer not in linear:
            wrong.append(f"{name} {tuple(state[name].shape)} for {tuple(here.shape)}")
    wrong += [f"{name} (only in weights)" for name in state if name not in own]
    if wrong:
        rest = [f"and {len(wrong) - 5} more"] if len(wrong) > 5 else []
        raise ParameterError(
            "weights",
            "weights of a network of 2D images with the layers of network",
            ", ".join(wrong[:5] + rest),
            "Make network with the same options, such as width, n_blocks and norm. A volume with "
            "an axis of one voxel has other kernels.",
        )
    return fitting


def _with_channels(kernels: Tensor, in_channels: int) -> Tensor:
    """Sum kernels for images of one channel, or share kernels of one channel out."""
    if in_channels == 1:
        return kernels.sum(1, keepdim=True)
    if kernels.ndim > 1 and kernels.shape[1] == 1:
        return kernels.expand(-1, in_channels, *kernels.shape[2:]) / in_channels
    return kernels
