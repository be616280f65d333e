"""The classifier that the arguments name, and its options."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from sklearn.utils import Bunch

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.augmentation import RECIPES
from skimbal.classifiers.parameters import check_crop_size, check_parameters
from skimbal.commands.data import is_folder, parts_of
from skimbal.commands.options import PER_AXIS
from skimbal.commands.parser import Options, Parser, auto_or, count, option, positive
from skimbal.images import guess_axes
from skimbal.losses import get_loss
from skimbal.networks import BUILT_IN
from skimbal.sampling import check_sampler

__all__ = ["DEFAULTS", "LR", "check_choices", "make_estimator", "options_of_classifiers"]

#: The classifier, of whose parameters the options have the defaults.
DEFAULTS = CNN2DClassifier()
#: Settings that several options have.
_AUTO = {"type": partial(auto_or, count), "metavar": "N|auto"}
_RATE = {"type": partial(auto_or, positive), "metavar": "X|auto"}
#: Parameters of the classifiers that have an option.
_CLASSIFIER = ("augment", "batch_size", "crop_size", "device", "lr", "max_epochs", "module")
LR: Options = {"lr": option("--lr", "learning rate", default=DEFAULTS.lr, **_RATE)}


def options_of_classifiers(clf: CNN2DClassifier) -> Options:
    """Return the options of parameters, with the defaults that a classifier has."""
    names = ("auto", *BUILT_IN)
    return {
        "max_epochs": option("--epochs", "epochs of a fit", default=clf.max_epochs, **_AUTO),
        "batch_size": option("--batch-size", "images of a batch", default=clf.batch_size, **_AUTO),
        "module": option("--module", "network", choices=names, default=clf.module),
        "augment": option(
            "--augment",
            "recipe that changes the training images in every epoch, such as random flips, or all "
            "steps of the paper",
            choices=("none", "auto", *RECIPES),
            default=clf.augment or "none",
        ),
        "crop_size": option(
            "--crop-size",
            "train on random windows of this size, for all axes or each, and judge on the centre",
            type=int,
            **PER_AXIS,
        ),
        "device": option("--device", "cpu, cuda, cuda:1, auto, ...", default=DEFAULTS.device),
    }


def check_choices(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse losses, samplers and parameters of the classifier that no data could suit."""
    # The class counts and labels of the data come later, and any will do here.
    checks: dict[str, Callable[[], object]] = {
        **{f"--loss {loss}": partial(get_loss, loss, [1, 1]) for loss in args.losses or ()},
        **{f"--sampler {s}": partial(check_sampler, s, [0, 1]) for s in args.samplers or ()},
        parser.prog: partial(check_parameters, CNN2DClassifier(**_params(args))),
    }
    for about, check in checks.items():
        try:
            check()
        except ValueError as error:
            parser.refuse(error, about)


def _params(args: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of the classifier."""
    augment = None if args.augment == "none" else args.augment
    return {n: getattr(args, n) for n in _CLASSIFIER if n in args} | {"augment": augment}


def make_estimator(
    parser: Parser, args: argparse.Namespace, data: Bunch
) -> CNN2DClassifier | CNN3DClassifier:
    """Return the classifier for the data."""
    classifier = CNN2DClassifier if data.ndim == 2 else CNN3DClassifier
    shape = data["X_train" if parts_of(data) else "X"].shape[1:]
    # Files know their axes. Of an array, the user has said that few slices are not channels.
    is_stated = any(getattr(args, name, None) is not None for name in ("n_spatial", "channel_axis"))
    is_unclear = data.ndim == 3 and (is_stated or guess_axes((1, *shape)).surely_channels_last)
    input_shape = shape if is_unclear and not is_folder(data) else None
    estimator = classifier(input_shape=input_shape, **_params(args))
    try:
        check_crop_size(estimator, (1, *shape[-data.ndim :]))
    except ValueError as error:
        parser.refuse(error, args.data, args.data)
    return estimator
