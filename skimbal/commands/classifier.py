"""The classifier that the arguments name, and its options."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from sklearn.utils import Bunch

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.augmentation import RECIPES
from skimbal.classifiers.machine import check_machine
from skimbal.classifiers.parameters import check_crop_size
from skimbal.commands.data import is_folder
from skimbal.commands.networks import (
    OF_PRETRAINED,
    check_network,
    network_of,
    options_of_networks,
    try_network,
)
from skimbal.commands.options import PER_AXIS
from skimbal.commands.parser import Options, Parser, auto_or, count, not_negative, option, positive
from skimbal.commands.rows import parts_of
from skimbal.datasets.splits import split_key
from skimbal.exceptions import ParameterError
from skimbal.images import guess_axes
from skimbal.losses import get_loss
from skimbal.sampling import check_sampler
from skimbal.training import SCHEDULES

__all__ = ["DEFAULTS", "check_choices", "make_estimator", "options_of_classifiers"]

#: The classifier, of whose parameters the options have the defaults.
DEFAULTS = CNN2DClassifier()
#: Settings that several options have.
_AUTO = {"type": partial(auto_or, count), "metavar": "N|auto"}
_RATE = {"type": partial(auto_or, positive), "metavar": "X|auto"}
#: Words of options for values of parameters.
_VALUES = {"none": None, "yes": True, "no": False}


def options_of_classifiers(clf: CNN2DClassifier) -> Options:
    """Return the options of parameters, with the defaults that a classifier has."""
    return {
        **_options_of_training(clf),
        **_options_of_images(clf),
        **options_of_networks(clf),
        **_options_of_machine(clf),
    }


def _options_of_training(clf: CNN2DClassifier) -> Options:
    return {
        "max_epochs": option("--epochs", "epochs of a fit", default=clf.max_epochs, **_AUTO),
        "epoch_length": option(
            "--epoch-length",
            "batches of an epoch, or as many as uniform sampling gives (default: by the sampler)",
            type=partial(auto_or, count, words=("uniform",)),
            metavar="N|uniform",
        ),
        "batch_size": option("--batch-size", "images of a batch", default=clf.batch_size, **_AUTO),
        "lr": option("--lr", "learning rate", default=clf.lr, **_RATE),
        "lr_schedule": option(
            "--lr-schedule",
            "learning rate at each step",
            choices=(*SCHEDULES, "none"),
            default=clf.lr_schedule or "none",
        ),
        "optimizer": option(
            "--optimizer", "name in torch.optim", default=clf.optimizer, metavar="NAME"
        ),
        "net__optimizer__weight_decay": option(
            "--weight-decay",
            "weight decay of the optimizer (default: of its class)",
            type=not_negative,
            metavar="X",
        ),
        "class_weight": option(
            "--class-weight",
            "weights of the classes in the loss",
            choices=("none", "balanced"),
            default="none",
        ),
        "logit_adjustment": option(
            "--logit-adjustment",
            "strength of a correction for class frequency at prediction. Give it with --sampler "
            "uniform, as two corrections are one too many",
            type=not_negative,
            default=clf.logit_adjustment,
            metavar="X",
        ),
    }


def _options_of_images(clf: CNN2DClassifier) -> Options:
    return {
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
        "n_tta": option(
            "--n-tta",
            "passes over each image in a prediction: a number, or flips for all mirror images "
            "that --augment drew",
            type=partial(auto_or, count, words=("auto", "flips")),
            default=clf.n_tta,
            metavar="N|flips|auto",
        ),
        "standardize": option(
            "--standardize",
            "subtract the mean of the training images and divide by their standard deviation",
            choices=("auto", "yes", "no"),
            default=clf.standardize,
        ),
    }


def _options_of_machine(clf: CNN2DClassifier) -> Options:
    return {
        "micro_batch_size": option(
            "--micro-batch-size",
            "images in memory at once, or auto, which halves them each time that a step runs out "
            "of memory. The gradient stays the gradient of the whole batch (default: the whole "
            "batch)",
            **_AUTO,
        ),
        "device": option("--device", "cpu, cuda, cuda:1, auto, ...", default=clf.device),
        "dtype": option(
            "--dtype",
            "precision of the network",
            choices=("auto", "float32", "float64", "bfloat16", "float16"),
            default=clf.dtype,
        ),
    }


def check_choices(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse losses, samplers and parameters of the classifier that no data could suit."""
    check_network(parser, args)
    # The class counts and labels of the data come later, and any will do here.
    samplers = [name for name in args.samplers or () if name != DEFAULTS.sampler]
    checks: dict[str, Callable[[], object]] = {
        **{f"--loss {loss}": partial(get_loss, loss, [1, 1]) for loss in args.losses or ()},
        **{f"--sampler {s}": partial(check_sampler, s, [0, 1]) for s in samplers},
        parser.prog: partial(check_machine, CNN2DClassifier().set_params(**_params(args, 2))),
    }
    for about, check in checks.items():
        try:
            check()
        except ValueError as error:
            refused = error
            # Only a single fit has a parameter of this name. A study has samplers.
            if (
                hasattr(args, "sampler")
                and isinstance(error, ParameterError)
                and error.parameter == "sampler"
            ):
                words = f"'auto', {error.expected}"
                refused = ParameterError("sampler", words, error.got, error.remedy)
            parser.refuse(refused, about)


def _params(args: argparse.Namespace, n_spatial: int) -> dict[str, Any]:
    """Return the parameters of the classifier that options give."""
    names = options_of_classifiers(DEFAULTS).keys() - OF_PRETRAINED.keys()
    given = {name: getattr(args, name) for name in names}
    given["module"] = network_of(args, n_spatial)
    return {
        name: _VALUES.get(value, value) if isinstance(value, str) else value
        for name, value in given.items()
        if value is not None
    }


def make_estimator(
    parser: Parser, args: argparse.Namespace, data: Bunch
) -> CNN2DClassifier | CNN3DClassifier:
    """Return the classifier for the data."""
    classifier = CNN2DClassifier if data.ndim == 2 else CNN3DClassifier
    shape = data[split_key("X", parts_of(data)[0])].shape[1:]
    # Files know their axes. Of an array, the user has said that few slices are not channels.
    is_stated = any(getattr(args, name, None) is not None for name in ("n_spatial", "channel_axis"))
    is_unclear = data.ndim == 3 and (is_stated or guess_axes((1, *shape)).surely_channels_last)
    input_shape = shape if is_unclear and not is_folder(data) else None
    estimator = classifier(input_shape=input_shape).set_params(**_params(args, data.ndim))
    spatial_shape = shape[-data.ndim :]
    try:
        check_crop_size(estimator, (1, *spatial_shape))
    except ValueError as error:
        parser.refuse(error, args.data, args.data)
    try_network(parser, args, shape[0] if len(shape) > data.ndim else 1, spatial_shape)
    return estimator
