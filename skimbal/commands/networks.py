"""The network that the arguments name, built in or pretrained, and its options."""

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from skimbal import CNN2DClassifier, Pretrained, SliceNet
from skimbal.commands.messages import warnings_as_lines
from skimbal.commands.options import COUNT, PER_AXIS
from skimbal.commands.parser import Options, Parser, count, meant_word, names, option, positive
from skimbal.exceptions import ParameterError
from skimbal.networks import BUILT_IN
from skimbal.networks.sources import LIBRARIES, SUFFIXES

__all__ = ["OF_PRETRAINED", "check_network", "network_of", "options_of_networks", "try_network"]


def _parts(text: str) -> str | list[str]:
    """Take the name of frozen parts, or patterns of names between commas."""
    return text if text in ("none", "backbone", "norm") else names(text)


def _file_of_weights(text: str) -> str:
    """Take the path of a file of weights, which other commands may have in another folder."""
    if not text.endswith(SUFFIXES):
        raise argparse.ArgumentTypeError(
            f"must be a file that ends in {', '.join(SUFFIXES)}; got {text!r}."
        )
    return os.path.abspath(text)


#: Parameters of Pretrained.
OF_PRETRAINED: Options = {
    "weights": option(
        "--weights",
        "file of weights for the network of --module, in place of the weights that its library "
        "downloads",
        type=_file_of_weights,
        metavar="FILE",
    ),
    "freeze": option(
        "--freeze",
        "parts of a pretrained network that training does not change: none, backbone (all but the "
        "new classifier), norm, or patterns of names such as conv1*,layer1.* (default: none)",
        type=_parts,
        metavar="PART",
    ),
    "unfreeze_at": option(
        "--unfreeze-at",
        "number of epochs after which training changes the frozen parts, too, or below 1 a share "
        "of the epochs",
        type=positive,
        metavar="X",
    ),
    "backbone_lr_factor": option(
        "--backbone-lr-factor",
        "learning rate of pretrained weights over the learning rate of the new classifier "
        "(default: 0.3)",
        type=positive,
        metavar="X",
    ),
    "layer_decay": option(
        "--layer-decay",
        "further factor of the learning rate for each layer towards the input, at most 1 "
        "(default: 1)",
        type=positive,
        metavar="X",
    ),
    "image_size": option(
        "--image-size",
        "size of the images in a pretrained network, in pixels. They are resized on the device "
        "(default: as they are read)",
        type=count,
        **PER_AXIS,
    ),
    "features_cache": option(
        "--features-cache",
        "folder for the features of --freeze backbone, which later fits read",
        type=Path,
        metavar="FOLDER",
    ),
}


def options_of_networks(clf: CNN2DClassifier) -> Options:
    """Return the options of the network, with the defaults that a classifier has."""
    return {
        "module": option(
            "--module",
            f"network: auto, {', '.join(BUILT_IN)}, or with weights of other images: "
            f"{_pretrained_ones()}. For volumes, a pretrained network reads each slice",
            type=_network,
            default=clf.module,
            metavar="NAME",
        ),
        "net__module__width": option(
            "--width", "channels of the network's first stage (default: by the network)", **COUNT
        ),
        **OF_PRETRAINED,
    }


def _pretrained_ones() -> str:
    libraries = [f"{prefix}NAME" for prefix in LIBRARIES if prefix != "hub:"]
    return f"{', '.join(libraries)}, hub:OWNER/NAME or a folder with config.json"


def _network(text: str) -> str:
    """Take the name of a network."""
    if text in ("auto", *BUILT_IN) or _is_pretrained(text):
        return text
    hint = meant_word("module", text, ("auto", *BUILT_IN))
    if text.endswith(SUFFIXES):
        hint = " Give a file as --weights, and the name of its network as --module."
    raise argparse.ArgumentTypeError(
        f"must be auto, {', '.join(BUILT_IN)}, {_pretrained_ones()}; got {text!r}.{hint}"
    )


def _is_pretrained(text: str) -> bool:
    return text not in BUILT_IN and (text.startswith(tuple(LIBRARIES)) or os.path.isdir(text))


def check_network(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse options of pretrained networks without one, and values that cannot be used."""
    if not _is_pretrained(args.module):
        for name, (text, _) in OF_PRETRAINED.items():
            if getattr(args, name) is not None:
                parser.error(
                    f"{text} needs a pretrained network, such as --module timm/resnet18; got "
                    f"--module {args.module}."
                )
        return
    if args.net__module__width is not None:
        parser.error(f"--width must be left out with --module {args.module}, which has its width.")
    spec = _pretrained(args)
    _try(parser, args, spec.check)


def network_of(args: argparse.Namespace, n_spatial: int) -> str | Pretrained | SliceNet:
    """Return the value of module= for images with so many spatial axes."""
    if not _is_pretrained(args.module):
        name: str = args.module
        return name
    return _pretrained(args) if n_spatial == 2 else SliceNet(_pretrained(args))


def _pretrained(args: argparse.Namespace) -> Pretrained:
    given = {name: getattr(args, name) for name in OF_PRETRAINED}
    weights = given.pop("weights")
    params = {name: value for name, value in given.items() if value is not None}
    if weights is None:
        return Pretrained(args.module, **params)
    return Pretrained(weights, architecture=args.module, **params)


def try_network(
    parser: Parser, args: argparse.Namespace, n_channels: int, shape: Sequence[int]
) -> None:
    """Load a pretrained network once, so that all that could fail does so before any fit."""
    if _is_pretrained(args.module):
        _try(parser, args, partial(_pretrained(args).build, n_channels, 2, shape[-2:]))


def _try(parser: Parser, args: argparse.Namespace, call: Callable[[], object]) -> None:
    """Call a method of a pretrained network, and refuse its error under the name of an option."""
    try:
        with warnings_as_lines(parser, UserWarning):
            call()
    except (ImportError, OSError, ValueError) as error:
        of_weights = args.weights is not None
        names = {"source": "--weights" if of_weights else "--module", "architecture": "--module"}
        if isinstance(error, ParameterError) and error.parameter in names:
            parser.error(parser.in_options(error.worded(names[error.parameter])))
        parser.refuse(error, f"--module {args.module}")
