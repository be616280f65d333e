"""Compare losses and samplers on images: ``python -m skimbal``, or ``skimbal``."""

import argparse
import math
import os
import re
import sys
import warnings
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
from sklearn.utils import Bunch
from tqdm import tqdm

from skimbal import CNN2DClassifier, CNN3DClassifier, CollapseWarning, LossMix, __version__
from skimbal.augmentation import RECIPES
from skimbal.classifiers.parameters import check_crop_size, check_parameters
from skimbal.datasets import (
    DataCard,
    load_image_folder,
    load_imbalanced_digits,
    load_medmnist,
    load_npz,
)
from skimbal.datasets.npz import SPLITS
from skimbal.exceptions import ParameterError, import_optional
from skimbal.images import ImageArray, concatenate
from skimbal.losses import get_loss
from skimbal.networks import BUILT_IN
from skimbal.sampling import STRATEGIES, check_sampler
from skimbal.study import PAPER_LOSSES, LossStudy, compare_losses
from skimbal.study.scores import SCORES

#: Names of parameters of the library, each with its options and the settings of argparse.
Options: TypeAlias = Mapping[str, tuple[str, Mapping[str, Any]]]


class _Parser(argparse.ArgumentParser):
    """A parser that ends with an error of one line, and names options in errors of the library."""

    def __init__(
        self, prog: str, description: str, *, usage: str | None = None, epilog: str | None = None
    ) -> None:
        super().__init__(prog, usage, description, epilog)
        self._option_of: dict[str, str] = {}

    def add_options(self, options: Options, title: str | None = None) -> None:
        """Add options that are called as parameters of the library."""
        group = self if title is None else self.add_argument_group(title)
        for parameter, (text, settings) in options.items():
            names = text.split()
            group.add_argument(*names, dest=parameter, **settings)
            for name in (parameter, *(name.lstrip("-").replace("-", "_") for name in names)):
                self._option_of[name] = names[0]

    def error(self, message: str) -> NoReturn:
        """End with code 2 and the message."""
        self.exit(2, f"skimbal: error: {_one_line(message)}\n")

    def refuse(self, error: Exception, about: str) -> NoReturn:
        """End with code 2 and an error of the library, which is about an option or about data."""
        parameter = error.parameter if isinstance(error, ParameterError) else ""
        if isinstance(error, ParameterError) and parameter in self._option_of:
            message = error.worded(self._option_of[parameter])
        else:
            message = f"{about}: {error}"
        # The remedy may name other parameters. Without "=", a name such as size is a word.
        words = {word.strip("(,.;") for word in message.replace("=", "= ").split()}
        named = [
            f"{name} is {option}"
            for name, option in self._option_of.items()
            if f"{name}=" in words or ("_" in name and name in words)
        ]
        self.error(f"{message} Here, {' and '.join(named)}." if named else message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments. None takes the arguments of the process.

    Returns
    -------
    int
        Exit code: 0, 1 if a fit or the writing of a result fails, 130 after Ctrl-C, or 141 if the
        output is closed before its end. A refusal before any fit raises ``SystemExit`` with 2
        instead. ``--help`` and ``--version`` raise it with 0.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[Sequence[str]], int]] = {"compare": _compare, "info": _info}
    try:
        command = commands[argv.pop(0)] if argv and argv[0] in commands else _default
        code = command(argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it. Python flushes the rest at its end,
        # which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


# The three forms -----------------------------------------------------------------------------


def _default(argv: Sequence[str]) -> int:
    """Fit the losses of the paper as they were proposed, and judge them on the test split."""
    parser = _Parser(
        "skimbal",
        "Without a command: fit a small CNN on the training split with several losses at several "
        "samplings, each as it was proposed and without a warm-up, and compare their scores on the "
        "test split. The validation split is not used.",
        usage="skimbal [options]\n       skimbal compare DATA [options]\n       skimbal info DATA",
        epilog="Each command has its own --help. 'skimbal compare DATA' finds the loss for your "
        "data, by cross-validation or on the test split, with intervals and a report. "
        f"'skimbal info DATA' lists the content of a data set and fits nothing. {_INTERRUPT}",
    )
    parser.add_options(_options_of_default())
    parser.add_options(_options_of_configurations(", ".join(PAPER_LOSSES)))
    parser.add_options(_options_of_classifiers(_PLAIN))
    parser.add_argument("--version", action="version", version=f"skimbal {__version__}")
    parser.set_defaults(test=True, data_option="--data ", groups=None)
    if argv and not argv[0].startswith("-"):
        parser.error(f"the command must be compare, info or an option; got {argv[0]!r}.")
    args = parser.parse_args(argv)
    _check_output(parser, "--output", args.output)
    _check_choices(parser, args)
    data = _load(parser, args)
    rows, note = _rows(parser, args, data)
    compare = partial(
        compare_losses,
        **rows,
        losses=_as_proposed(args.losses or PAPER_LOSSES),
        samplers=args.samplers,
        estimator=_estimator(parser, args, data),
        n_repeats=args.n_repeats,
        random_state=0,
    )
    return _run(parser, args.data, compare, note=note, csv=args.output)


def _compare(argv: Sequence[str]) -> int:
    """Run a study on the data of the user."""
    parser = _Parser(
        "skimbal compare",
        "Find the loss for your data. Every loss is fitted with every sampler on the same rows, "
        "from the same initial weights, for the same number of gradient steps, and is compared "
        "with a reference at the same sampler. By default the training and validation rows are "
        "cross-validated together and the test rows stay untouched.",
        epilog=f"{_INTERRUPT} With --cache, the same command continues where it stopped. The "
        "result is printed to the standard output, progress and warnings to the standard error.",
    )
    _add_data(parser)
    parser.add_options(
        _options_of_configurations(
            "the 9 losses of the paper, of which the weighted losses have uniform sampling only"
        )
    )
    options = _options_of_study()
    parser.add_options(options)
    parser.add_options(_options_of_classifiers(_DEFAULTS))
    parser.add_options(_OF_STUDY)
    args = parser.parse_args(argv)
    if args.test and args.cv is not None:
        parser.error("--cv divides the rows, but --test has its own test rows. Give one of them.")
    _check_report(parser, args.html)
    _check_output(parser, "--html", args.html)
    _check_output(parser, "--csv", args.csv)
    if args.html is not None and args.html == args.csv:
        parser.error(f"--html and --csv must be two files; got {args.csv} for both.")
    _check_choices(parser, args)
    data = _load(parser, args)
    rows, note = _rows(parser, args, data)
    compare = partial(
        compare_losses,
        **rows,
        losses=args.losses,
        samplers=args.samplers,
        estimator=_estimator(parser, args, data),
        **{name: getattr(args, name) for name in options if name != "test"},
    )
    return _run(parser, args.data, compare, note=note, csv=args.csv, html=args.html)


def _info(argv: Sequence[str]) -> int:
    """Print the content of a data set."""
    parser = _Parser(
        "skimbal info",
        "List the content of a data set: images of each class in each split, their shape and "
        "number type, the size of the file or the number of files. Nothing is fitted.",
    )
    _add_data(parser)
    args = parser.parse_args(argv)
    data = _load(parser, args)
    ends = {"all": ""} if "X" in data else {s: f"_{s}" for s in _parts(data)}
    groups = {split: data.get(f"groups{end}") for split, end in ends.items()}
    groups = {split: array for split, array in groups.items() if array is not None}
    X = data["X" + next(iter(ends.values()))]
    print(f"{data.name}: {data.ndim}D images; license {data.license}")
    if _is_folder(data):
        n_files = sum(len(data[f"y{end}"]) for end in ends.values())
        print(f"folder {data.filename}, {n_files:,} images")
    elif data.filename is not None:
        print(f"file {data.filename}, {Path(data.filename).stat().st_size:,} bytes")
    print(
        DataCard.from_labels(
            {split: data[f"y{end}"] for split, end in ends.items()},
            image_shape=X.shape[1:],
            dtype=str(X.dtype),
            groups=groups or None,
            class_names=data.target_names,
        )
    )
    others = [array for split, array in groups.items() if split != "test"]
    if "test" in groups and others:
        shared = np.intersect1d(np.concatenate(others), groups["test"])
        print(f"groups of the test rows that are in training or validation rows: {len(shared)}")
    return 0


# Values of options ---------------------------------------------------------------------------


class _PerAxis(argparse.Action):
    """Store one number for all axes as it is, and several as a tuple."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        numbers = tuple(values or ())
        setattr(namespace, self.dest, numbers[0] if len(numbers) == 1 else numbers)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}.")
    return int(text)


def _jobs(text: str) -> int:
    return -1 if text == "-1" else _count(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise ArgumentTypeError(f"must be a whole number from 0 to 2^32 - 1; got {text!r}.")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"must be a number above 0; got {text!r}.")
    return value


def _auto_or(number: Callable[[str], float], text: str) -> float | str:
    """Return a number, or the word auto."""
    try:
        return text if text == "auto" else number(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(str(error).replace("must be", "must be auto or", 1)) from None


def _names(text: str) -> list[str]:
    return text.split(",")


# Options -------------------------------------------------------------------------------------


def _option(names: str, words: str, **settings: object) -> tuple[str, Mapping[str, Any]]:
    """Return the names of an option, and its settings for argparse with the words for --help."""
    if "default" in settings:
        words = f"{words} (default: %(default)s)"
    return names, {"help": words, **settings}


#: The classifier, of whose parameters the options have the defaults.
_DEFAULTS = CNN2DClassifier()
#: A classifier for the command without a name, whose many fits must end in two minutes.
_PLAIN = CNN2DClassifier(module="small", augment=None, max_epochs=8, batch_size=64)
#: Settings that several options have.
_N = {"type": _count, "metavar": "N"}
_AUTO = {"type": partial(_auto_or, _count), "metavar": "N|auto"}
_RATE = {"type": partial(_auto_or, _positive), "metavar": "X|auto"}
_PER_AXIS = {"nargs": "+", "action": _PerAxis, "metavar": "N"}
_FILE = {"type": Path, "metavar": "FILE.csv"}

_INTERRUPT = "Ctrl-C prints the finished part."
_DATA = (
    "digits (8 x 8, in scikit-learn), a MedMNIST name such as pneumoniamnist or vesselmnist3d_64 "
    "(downloaded unless it is in a folder of the environment variable SKIMBAL_DATA), or an .npz "
    "file"
)
_GROUPS: Options = {
    "groups": _option(
        "--groups",
        "array of the .npz file with the group of each image, such as a patient. A "
        "file with splits has train_NAME, val_NAME and test_NAME",
        metavar="NAME",
    ),
}
#: Parameters of load_image_folder.
_FOLDER: Options = {
    "labels": _option("--labels", "table with a row for each image", **_FILE),
    "path_column": _option(
        "--path-column", "column of paths, relative to the folder (default: path)", metavar="NAME"
    ),
    "label_column": _option("--label-column", "column of classes (default: label)", metavar="NAME"),
    "group_column": _option(
        "--group-column",
        "column of groups, such as patients. No group is on both sides of a split",
        metavar="NAME",
    ),
    "split_column": _option("--split-column", "column with train, val or test", metavar="NAME"),
    "size": _option(
        "--size",
        "size of all images, in pixels: one number for all axes, or a number for each",
        type=_count,
        **_PER_AXIS,
    ),
    "resize": _option(
        "--resize",
        "interpolate, or crop to the centre (default: resample)",
        choices=("resample", "crop"),
    ),
    "spacing": _option(
        "--spacing",
        "resample NIfTI and DICOM to this voxel spacing, for all axes or each. With "
        "--size, it needs --resize crop",
        type=_positive,
        **_PER_AXIS | {"metavar": "MM"},
    ),
    "channels": _option("--channels", "convert pictures: 1 is grey, 3 RGB, 4 RGBA", **_N),
    "cache": _option(
        "--image-cache",
        "keep images after the first epoch, so that they are read once",
        metavar="memory|FOLDER",
    ),
    "on_error": _option(
        "--on-error",
        "end at a file that cannot be read or has no label, or skip it (default: raise)",
        choices=("raise", "skip"),
    ),
}
#: Options that only a study has.
_OF_STUDY: Options = {
    "lr": _option("--lr", "learning rate", default=_DEFAULTS.lr, **_RATE),
    "html": _option(
        "--html",
        "new file for a report with pictures and code. It needs pip install 'skimbal[study]'",
        type=Path,
        metavar="FILE.html",
    ),
    "csv": _option("--csv", "new file for all scores, unrounded", **_FILE),
}
#: Parameters of the classifiers that have an option.
_CLASSIFIER = ("augment", "batch_size", "crop_size", "device", "lr", "max_epochs", "module")


def _add_data(parser: _Parser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        help=f"{_DATA}. The file has the arrays train_images, train_labels and the same for val "
        "and test, or without splits: images and labels, or X and y. Or a folder of image files "
        "(PNG, JPEG, TIFF, NIfTI, DICOM, npy, ...) with a folder for each class, or any folder "
        "with --labels",
    )
    parser.add_options(_GROUPS)
    parser.add_options(_FOLDER, "folders of image files")
    parser.set_defaults(data_option="")


def _options_of_default() -> Options:
    return {
        "data": _option(
            "--data", f"{_DATA} in the form of MedMNIST", default="digits", metavar="NAME|FILE.npz"
        ),
        "n_repeats": _option("--seeds", "fits of each configuration", default=3, **_N),
        "output": _option(
            "--output",
            "new file for the table, unrounded. An existing file is not overwritten",
            **_FILE,
        ),
    }


def _options_of_configurations(losses: str) -> Options:
    return {
        "losses": _option(
            "--loss --losses",
            f"such as wce or ce+0.5*mcc. Repeat the option for more (default: {losses})",
            action="extend",
            type=_names,
            metavar="LOSS[,LOSS...]",
        ),
        "samplers": _option(
            "--sampler --samplers",
            f"of {', '.join(STRATEGIES)}. Repeat the option for more (default: uniform, balanced)",
            action="extend",
            type=_names,
            metavar="SAMPLER[,SAMPLER...]",
        ),
    }


def _options_of_study() -> Options:
    return {
        "cv": _option("--cv", "number of stratified folds (default: 5)", **_N),
        "n_repeats": _option(
            "--repeats",
            "number of times that the folds are drawn. With --test, number of seeds",
            default=1,
            **_N,
        ),
        "test": _option(
            "--test",
            "fit on the training rows and judge on the test rows, instead of a cross-validation",
            action="store_true",
        ),
        "baseline": _option(
            "--baseline",
            "loss that all others are compared with (default: ce, and wce for losses "
            "that add a term to wce)",
            metavar="LOSS",
        ),
        "scoring": _option(
            "--scoring",
            f"score that ranks: {', '.join(SCORES)}, f1[CLASS] or a scorer of scikit-learn",
            default="balanced_accuracy",
            metavar="NAME",
        ),
        "n_jobs": _option(
            "--jobs", "fits at a time, -1 for all processors (default: 1)", type=_jobs, metavar="N"
        ),
        "random_state": _option(
            "--seed", "of folds, weights and batches", type=_seed, default=0, metavar="N"
        ),
        "cache_dir": _option(
            "--cache",
            "folder that keeps every finished fit. It is new, or of an earlier run on "
            "the same data",
            type=Path,
            metavar="FOLDER",
        ),
    }


def _options_of_classifiers(clf: CNN2DClassifier) -> Options:
    names = ("auto", *BUILT_IN)
    return {
        "max_epochs": _option("--epochs", "epochs of a fit", default=clf.max_epochs, **_AUTO),
        "batch_size": _option("--batch-size", "images of a batch", default=clf.batch_size, **_AUTO),
        "module": _option("--module", "network", choices=names, default=clf.module),
        "augment": _option(
            "--augment",
            "recipe that changes the training images in every epoch, such as random flips, or all "
            "steps of the paper",
            choices=("none", "auto", *RECIPES),
            default=clf.augment or "none",
        ),
        "crop_size": _option(
            "--crop-size",
            "train on random windows of this size, for all axes or each, and judge on the centre",
            type=int,
            **_PER_AXIS,
        ),
        "device": _option("--device", "cpu, cuda, cuda:1, auto, ...", default=_DEFAULTS.device),
    }


# Checks before any work ----------------------------------------------------------------------


def _check_choices(parser: _Parser, args: argparse.Namespace) -> None:
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


def _check_report(parser: _Parser, path: Path | None) -> None:
    for name in () if path is None else ("jinja2", "matplotlib"):
        try:
            import_optional(name, "--html", "study")
        except ImportError as error:
            parser.error(str(error))


def _check_output(parser: _Parser, option: str, path: Path | None) -> None:
    if path is None:
        return
    try:
        path.touch(exist_ok=False)
        path.unlink()
    except OSError as error:
        expected = "a new file in a folder that exists and can be written to"
        parser.error(str(ParameterError(option, expected, str(path), f"{error.strerror}.")))


# Data ----------------------------------------------------------------------------------------


def _load(parser: _Parser, args: argparse.Namespace) -> Bunch:
    """Load the data that the arguments name."""
    data, about = args.data, f"{args.data_option}{args.data}"
    if _names_folder(data):
        if args.data_option:
            parser.error(f"{about} is a folder. Use 'skimbal compare {data}'.")
        return _load_folder(parser, args)
    given = [_FOLDER[name][0] for name in _folder_params(args)]
    if given:
        parser.error(f"{given[0]} is for folders of image files, but there is no folder {data}.")
    if data.endswith(".npz"):
        try:
            return load_npz(data, groups=args.groups)
        except (OSError, ValueError) as error:
            of_groups = "" if args.groups is None else f" --groups {args.groups}"
            parser.refuse(error, f"{about}{of_groups}")
    if args.groups is not None:
        parser.error(
            f"--groups must be an array of an .npz file; got {args.groups!r}, but {data} is not "
            "such a file and has no groups."
        )
    if data == "digits":
        return load_imbalanced_digits()
    if Path(data).name != data:
        parser.error(f"{about}: there is no such folder.")
    name, _, size = data.partition("_")
    try:
        return load_medmnist(name, int(size)) if size.isdecimal() else load_medmnist(data)
    except (ImportError, OSError, ValueError) as error:
        # The parameters of the loader are parts of the name, not options.
        parser.error(f"{about}: {error}")


def _names_folder(data: str) -> bool:
    """Tell whether the text names a folder. The names of data sets come first."""
    return Path(data).is_dir() and not re.fullmatch(r"digits|\w+mnist(3d)?(_\d+)?", data)


def _folder_params(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of load_image_folder that were given."""
    given = {name: getattr(args, name, None) for name in _FOLDER}
    return {name: value for name, value in given.items() if value is not None}


def _load_folder(parser: _Parser, args: argparse.Namespace) -> Bunch:
    if args.groups is not None:
        parser.error(
            f"--groups must be an array of an .npz file; got {args.groups!r}, but {args.data} is a "
            "folder. Give --labels FILE.csv --group-column NAME."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = partial(_show_once, set())
            data = load_image_folder(args.data, **_folder_params(args))
    except (ImportError, OSError, ValueError) as error:
        parser.refuse(error, args.data)
    parts = [key.removeprefix("X_") for key in data if key.startswith("X_")]
    if parts and (set(parts) - set(SPLITS) or "train" not in parts):
        parser.error(
            f"{args.data}: the parts must be train and perhaps val and test; got "
            f"{', '.join(map(repr, parts))}."
        )
    return data


def _is_folder(data: Bunch) -> bool:
    return data.filename is not None and Path(data.filename).is_dir()


def _parts(data: Bunch) -> list[str]:
    """Return the names of the splits that there are."""
    return [split for split in SPLITS if f"X_{split}" in data]


def _with_class_names(data: Bunch, y: np.ndarray) -> np.ndarray:
    """Return class names for class numbers, where the classes have names."""
    if data.target_names == [str(k) for k in range(len(data.target_names))]:
        return y
    return np.asarray(np.array(data.target_names)[y])


def _joined(data: Bunch, key: str, splits: Sequence[str]) -> np.ndarray | ImageArray:
    arrays = [data[f"{key}_{split}"] for split in splits]
    files = all(isinstance(array, ImageArray) for array in arrays)
    return concatenate(arrays) if files else np.concatenate(arrays)


def _rows(parser: _Parser, args: argparse.Namespace, data: Bunch) -> tuple[dict[str, Any], str]:
    """Return the rows that compare_losses divides or judges on, and a note on the other rows."""
    parts = _parts(data)
    if args.test and "test" not in parts:
        parser.error(
            f"{args.data} has no test split to judge on. Without --test, "
            f"'skimbal compare {args.data}' cross-validates its rows."
        )
    if not parts:
        return {"X": data.X, "y": _with_class_names(data, data.y), "groups": data.get("groups")}, ""
    if args.test:
        return _rows_of_test(parser, args, data)
    n = {split: len(data[f"y_{split}"]) for split in parts}
    used = [split for split in parts if split != "test"]
    rows = {
        "X": _joined(data, "X", used),
        "y": _with_class_names(data, np.concatenate([data[f"y_{split}"] for split in used])),
    }
    if data.get("groups_train") is not None:
        rows["groups"] = np.concatenate([data[f"groups_{split}"] for split in used])
    note = f" of {n['train']} training"
    note += f" and {n['val']} validation rows" if "val" in n else " rows"
    note += f" (the {n['test']} test rows are untouched)" if "test" in n else ""
    return rows, note


def _rows_of_test(
    parser: _Parser, args: argparse.Namespace, data: Bunch
) -> tuple[dict[str, Any], str]:
    groups = data.get("groups_train")
    if groups is not None and data.groups_test is None:
        parser.error(
            f"--groups {args.groups}: {args.data} has no array test_{args.groups}, so groups on "
            "both sides could not be found. Add the array, or leave out --groups or --test."
        )
    note = f"; {len(data.y_train)} training and {len(data.y_test)} test rows"
    if "X_val" in data:
        note += f" (the {len(data.y_val)} validation rows are not used)"
    return {
        "X": data.X_train,
        "y": _with_class_names(data, data.y_train),
        "groups": groups,
        "X_test": data.X_test,
        "y_test": _with_class_names(data, data.y_test),
        "groups_test": data.get("groups_test"),
    }, note


def _params(args: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of the classifier."""
    augment = None if args.augment == "none" else args.augment
    return {n: getattr(args, n) for n in _CLASSIFIER if n in args} | {"augment": augment}


def _estimator(
    parser: _Parser, args: argparse.Namespace, data: Bunch
) -> CNN2DClassifier | CNN3DClassifier:
    classifier = CNN2DClassifier if data.ndim == 2 else CNN3DClassifier
    shape = data["X_train" if _parts(data) else "X"].shape[1:]
    # Files know their axes: a volume of few slices does not have its channels last.
    input_shape = shape if _is_folder(data) and data.ndim == 3 else None
    estimator = classifier(input_shape=input_shape, **_params(args))
    try:
        check_crop_size(estimator, (1, *shape[-data.ndim :]))
    except ValueError as error:
        parser.refuse(error, args.data)
    return estimator


def _as_proposed(losses: Sequence[str]) -> Sequence[str] | dict[str, LossMix]:
    """Return the losses by their names, without the warm-up that the paper does not have."""
    if len(set(losses)) < len(losses):
        return losses  # which the study refuses
    return {name: LossMix.from_expression(name, warmup_epochs=0) for name in losses}


# The study -----------------------------------------------------------------------------------


def _run(
    parser: _Parser,
    data: str,
    compare: Callable[[], LossStudy],
    *,
    note: str,
    csv: Path | None,
    html: Path | None = None,
) -> int:
    """Print and write a study, or its finished part if an exception ends it early."""
    code = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", CollapseWarning)
            warnings.showwarning = partial(_show_once, set())
            study = compare()
    except (Exception, KeyboardInterrupt) as error:
        if not hasattr(error, "study"):
            if not isinstance(error, OSError | ValueError):
                raise
            parser.refuse(error, data)
        study, code = error.study, 130
        if not isinstance(error, KeyboardInterrupt):
            code = 1
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            print(f"skimbal: error: {kind}{_one_line(error)}", file=sys.stderr)
        for remark in getattr(error, "__notes__", ()):
            print(f"skimbal: {_one_line(remark)}", file=sys.stderr)
    if not study.fits:
        return code
    study.splitting += note
    print(study.summary())
    for path, write in ((csv, study.to_csv), (html, study.to_html)):
        try:
            if path is not None:
                write(path)
        except OSError as error:
            print(f"skimbal: error: {path}: {_one_line(error)}", file=sys.stderr)
            code = code or 1
    return code


def _show_once(
    shown: set[object], message: Warning | str, category: type[Warning], *_: object
) -> None:
    """Show a warning as a line above the progress bar unless it is in `shown`."""
    # The advice on collapse differs from loss to loss. The first is enough.
    key = category if issubclass(category, CollapseWarning) else str(message)
    if key not in shown:
        shown.add(key)
        tqdm.write(f"skimbal: {category.__name__}: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


if __name__ == "__main__":
    sys.exit(main())
