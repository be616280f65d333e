"""Compare losses and samplers on images: ``python -m skimbal``, or ``skimbal``."""

import argparse
import functools
import importlib
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from sklearn.utils import Bunch
from tqdm import tqdm

from skimbal import CNN2DClassifier, CNN3DClassifier, CollapseWarning, __version__
from skimbal.augmentation import RECIPES, CenterCrop
from skimbal.datasets import (
    DataCard,
    load_image_folder,
    load_imbalanced_digits,
    load_medmnist,
    load_npz,
)
from skimbal.exceptions import ParameterError
from skimbal.images import ImageArray, concatenate
from skimbal.losses import LossMix, get_loss
from skimbal.networks import BUILT_IN
from skimbal.sampling import STRATEGIES
from skimbal.study import LossStudy, compare_losses

_LOSSES = ("ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc")
_DATA = (
    "digits (8 x 8, in scikit-learn), a MedMNIST name such as pneumoniamnist or vesselmnist3d_64 "
    "(downloaded unless it is in a folder that SKIMBAL_DATA names), or an .npz file"
)
# Options for folders, and the parameters of load_image_folder that they set.
_OF_FOLDERS = {
    "labels": "--labels",
    "path_column": "--path-column",
    "label_column": "--label-column",
    "group_column": "--group-column",
    "split_column": "--split-column",
    "size": "--size",
    "resize": "--resize",
    "spacing": "--spacing",
    "channels": "--channels",
    "cache": "--image-cache",
    "on_error": "--on-error",
}
_INTERRUPT = "Ctrl-C prints what is done so far."

# What errors of compare_losses call its parameters, and the options that set them.
_OPTIONS = {
    "baseline": "--baseline",
    "cache_dir": "--cache",
    "cv": "--cv",
    "n_repeats": "--repeats",
    "random_state": "--seed",
    "scoring": "--scoring",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"skimbal: error: {_one_line(message)}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0, 1 if a fit or the writing of a result fails, 130 after Ctrl-C, or 141 if
        nobody reads the output to its end. What is refused before any fit raises ``SystemExit``
        instead with 2, and ``--help`` and ``--version`` with 0.
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
        # Who reads the output, such as head, has seen enough; what python flushes at its end is to
        # go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


# The three forms -----------------------------------------------------------------------------


def _default(argv: Sequence[str]) -> int:
    """Fit the losses of the paper as they were proposed, and judge them on the test split."""
    parser = _Parser(
        prog="skimbal",
        usage="skimbal [options]\n       skimbal compare DATA [options]\n       skimbal info DATA",
        description="Without a command: fit a small CNN on the training split with several losses "
        "at several samplings, each as it was proposed and without a warm-up, and compare their "
        "scores on the test split. The validation split is not used.",
        epilog="Commands, each with a --help of its own: 'skimbal compare DATA' finds the loss for "
        "your data, by cross-validation or on the test split, with intervals and a report; "
        f"'skimbal info DATA' shows what a data set holds and fits nothing. {_INTERRUPT}",
    )
    parser.add_argument(
        "--data",
        default="digits",
        metavar="NAME|FILE.npz",
        help=f"{_DATA} of MedMNIST's form (default: %(default)s)",
    )
    _add_configurations(parser, losses=", ".join(_LOSSES))
    parser.add_argument(
        "--seeds", type=_count, default=3, metavar="N", help="fits of each (default: %(default)s)"
    )
    _add_classifier(parser, max_epochs=8)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.csv",
        help="new file for the table, unrounded; a file that exists is never overwritten",
    )
    parser.add_argument("--version", action="version", version=f"skimbal {__version__}")
    parser.set_defaults(test=True)
    if argv and not argv[0].startswith("-"):
        parser.error(f"unknown command {argv[0]!r}: expected compare, info or an option")
    args = parser.parse_args(argv)
    _check_output(parser, "--output", args.output)
    _check_device(parser, args.device)
    data = _load(parser, args, "--data ")
    rows, note = _rows(parser, args, data)
    return _run(
        parser,
        args.data,
        functools.partial(
            compare_losses,
            **rows,
            losses=_as_proposed(args.losses or _LOSSES),
            samplers=args.samplers,
            estimator=_estimator(parser, args, data),
            n_repeats=args.seeds,
            random_state=0,
        ),
        note=note,
        csv=args.output,
    )


def _as_proposed(losses: Sequence[str]) -> Sequence[str] | dict[str, LossMix]:
    """Give losses no warm-up, under their names."""
    if len(set(losses)) < len(losses):
        return losses  # which the study refuses
    return {name: LossMix.from_expression(name, warmup_epochs=0) for name in losses}


def _compare(argv: Sequence[str]) -> int:
    """Run a study on data of one's own."""
    parser = _Parser(
        prog="skimbal compare",
        description="Find the loss for your data. Every loss is fitted with every sampler on the "
        "same rows, from the same initial weights, for the same number of gradient steps, and is "
        "compared with a reference at the same sampler. By default the training and validation "
        "rows are cross-validated together and the test rows stay untouched.",
        epilog=f"{_INTERRUPT} With --cache, the same command goes on where it stopped. The result "
        "goes to the standard output, progress and warnings to the standard error.",
    )
    add = parser.add_argument
    _add_data(parser)
    _add_configurations(parser, losses="the 9 of the paper; the weighted ones with uniform only")
    add("--cv", type=_count, metavar="N", help="number of stratified folds (default: 5)")
    add(
        "--repeats",
        type=_count,
        default=1,
        metavar="N",
        help="how often the folds are drawn anew; with --test, number of seeds "
        "(default: %(default)s)",
    )
    add(
        "--test",
        action="store_true",
        help="fit on the training rows and judge on the test rows, instead of a cross-validation",
    )
    add(
        "--baseline",
        metavar="LOSS",
        help="loss that all others are compared with (default: ce, and wce for what adds to wce)",
    )
    add(
        "--scoring",
        default="balanced_accuracy",
        metavar="NAME",
        help="score that ranks: balanced_accuracy, f1_macro, matthews_corrcoef, roc_auc_ovr, "
        "average_precision_rarest, log_loss, brier_score, f1[CLASS] or a scorer of scikit-learn "
        "(default: %(default)s)",
    )
    _add_classifier(parser, max_epochs=CNN2DClassifier().max_epochs)
    add(
        "--lr",
        type=_positive,
        default=CNN2DClassifier().lr,
        metavar="X",
        help="learning rate (default: %(default)s)",
    )
    add(
        "--jobs", type=_jobs, metavar="N", help="fits at a time, -1 for all processors (default: 1)"
    )
    add(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="of folds, weights and batches (default: %(default)s)",
    )
    add(
        "--html",
        type=Path,
        metavar="FILE.html",
        help="new file for a report with pictures and code; needs pip install 'skimbal[study]'",
    )
    add("--csv", type=Path, metavar="FILE.csv", help="new file for all scores, unrounded")
    add(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="folder that keeps every finished fit, new or of an earlier run on the same data",
    )
    args = parser.parse_args(argv)
    if args.test and args.cv is not None:
        parser.error("--cv divides the rows, but --test has its own test rows: give one of the two")
    if args.html is not None:
        _check_report(parser)
    _check_output(parser, "--html", args.html)
    _check_output(parser, "--csv", args.csv)
    if args.html is not None and args.html == args.csv:
        parser.error(f"--html and --csv are both {args.csv}: give two files")
    _check_device(parser, args.device)
    data = _load(parser, args)
    rows, note = _rows(parser, args, data)
    return _run(
        parser,
        args.data,
        functools.partial(
            compare_losses,
            **rows,
            losses=args.losses,
            samplers=args.samplers,
            estimator=_estimator(parser, args, data).set_params(lr=args.lr),
            cv=args.cv,
            scoring=args.scoring,
            baseline=args.baseline,
            n_repeats=args.repeats,
            n_jobs=args.jobs,
            random_state=args.seed,
            cache_dir=args.cache,
        ),
        note=note,
        csv=args.csv,
        html=args.html,
    )


def _info(argv: Sequence[str]) -> int:
    """Print what a data set holds."""
    parser = _Parser(
        prog="skimbal info",
        description="Show what a data set holds: images of each class in each split, their shape "
        "and number type, the size of the file or the number of files. Nothing is fitted.",
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


# Options -------------------------------------------------------------------------------------


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        help=f"{_DATA} with the arrays train_images, train_labels and so on for val and test, or "
        "without splits: images and labels, or X and y; or a folder of image files (PNG, JPEG, "
        "TIFF, NIfTI, DICOM, npy, ...) that holds a folder for each class, or any with --labels",
    )
    parser.add_argument(
        "--groups",
        metavar="NAME",
        help="array of the .npz file that says to which group, such as a patient, each image "
        "belongs; train_NAME, val_NAME and test_NAME in a file with splits",
    )
    add = parser.add_argument_group("folders of image files").add_argument
    add("--labels", type=Path, metavar="FILE.csv", help="table with a row for each image")
    for what, default in (("path", "path"), ("label", "label"), ("group", None), ("split", None)):
        of_default = f" (default: {default})" if default else ""
        add(
            f"--{what}-column",
            metavar="NAME",
            help={
                "path": "its column of paths, relative to the folder",
                "label": "its column of classes",
                "group": "its column of groups, such as patients, of which none is on both sides",
                "split": "its column that says train, val or test",
            }[what]
            + of_default,
        )
    add(
        "--size",
        nargs="+",
        type=_count,
        metavar="N",
        help="bring all images to this size, in pixels: one number for all axes, or one for each",
    )
    add(
        "--resize",
        choices=("resample", "crop"),
        help="how: by interpolation, or by cutting out the centre (default: resample)",
    )
    add(
        "--spacing",
        nargs="+",
        type=_positive,
        metavar="MM",
        help="resample NIfTI and DICOM to this distance of voxels, for all axes or each; with "
        "--size it needs --resize crop",
    )
    add("--channels", type=_count, metavar="N", help="convert pictures: 1 is grey, 3 RGB, 4 RGBA")
    add(
        "--image-cache",
        metavar="memory|FOLDER",
        help="where to keep images that have been read, so that an epoch need not read them again",
    )
    add(
        "--on-error",
        choices=("raise", "skip"),
        help="whether what cannot be read, or has no label, ends the command or is left out "
        "(default: raise)",
    )


def _add_configurations(parser: argparse.ArgumentParser, *, losses: str) -> None:
    parser.add_argument(
        "--loss",
        "--losses",
        dest="losses",
        action="extend",
        type=_losses,
        metavar="LOSS[,LOSS...]",
        help=f"such as wce or ce+0.5*mcc; can be given again for more (default: {losses})",
    )
    parser.add_argument(
        "--sampler",
        "--samplers",
        dest="samplers",
        action="extend",
        type=_samplers,
        metavar="SAMPLER[,SAMPLER...]",
        help=f"of {', '.join(STRATEGIES)}; can be given again (default: uniform, balanced)",
    )


def _add_classifier(parser: argparse.ArgumentParser, *, max_epochs: int) -> None:
    add = parser.add_argument
    add("--epochs", type=_count, default=max_epochs, metavar="N", help="default: %(default)s")
    add("--batch-size", type=_count, default=64, metavar="N", help="default: %(default)s")
    add(
        "--module",
        choices=tuple(BUILT_IN),
        default="small",
        help="network (default: %(default)s)",
    )
    add(
        "--augment",
        choices=tuple(RECIPES),
        help="change the training images in every epoch, such as by flips, or by the recipe of the "
        "paper (default: not at all)",
    )
    add(
        "--crop-size",
        nargs="+",
        type=_count,
        metavar="N",
        help="train on random windows of this size, for all axes or each, and judge on the centre",
    )
    add("--device", default="cpu", help="cpu, cuda, cuda:1, auto, ... (default: %(default)s)")


def _losses(text: str) -> list[str]:
    try:
        for loss in text.split(","):
            # Any counts will do: they are there for wce, whose weights come from the data later.
            get_loss(loss, class_counts=[1, 1])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.split(",")


def _samplers(text: str) -> list[str]:
    for sampler in text.split(","):
        if sampler not in STRATEGIES:
            raise argparse.ArgumentTypeError(
                f"expected {', '.join(map(repr, STRATEGIES))}, got {sampler!r}"
            )
    return text.split(",")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _jobs(text: str) -> int:
    return -1 if text == "-1" else _count(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to 2^32 - 1, got {text!r}"
        )
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _check_report(parser: argparse.ArgumentParser) -> None:
    for name in ("jinja2", "matplotlib"):
        try:
            importlib.import_module(name)
        except ImportError:
            parser.error(f'--html needs {name}, which is missing: pip install "skimbal[study]"')


def _check_output(parser: argparse.ArgumentParser, option: str, output: Path | None) -> None:
    if output is None:
        return
    try:
        output.touch(exist_ok=False)
        output.unlink()
    except OSError as error:
        parser.error(
            f"{option} {output}: {error.strerror}; expected a new file in a folder that exists "
            "and can be written to"
        )


def _check_device(parser: argparse.ArgumentParser, device: str) -> None:
    try:
        torch.empty(0, device=None if device == "auto" else device)
    # torch raises AssertionError where it was built without CUDA.
    except (AssertionError, RuntimeError) as error:
        parser.error(f"--device {device} cannot be used here: {str(error).splitlines()[0]}")


# Data ----------------------------------------------------------------------------------------


def _load(parser: argparse.ArgumentParser, args: argparse.Namespace, option: str = "") -> Bunch:
    data, groups = args.data, getattr(args, "groups", None)
    if _names_folder(data):
        if option:
            parser.error(f"{option}{data}: it is a folder, which 'skimbal compare {data}' takes")
        return _load_folder(parser, args)
    given = [_OF_FOLDERS[name] for name in _folder_options(args)]
    if given:
        parser.error(f"{given[0]} is for folders of image files, but there is no folder {data}")
    try:
        if data.endswith(".npz"):
            return load_npz(data, groups=groups)
        if groups is not None:
            parser.error(
                f"--groups {groups}: {data} has no groups; they are an array of an .npz file"
            )
        if data == "digits":
            return load_imbalanced_digits()
        if Path(data).name != data:
            parser.error(f"{option}{data}: there is no such folder")
        name, _, size = data.partition("_")
        return load_medmnist(name, int(size)) if size.isdecimal() else load_medmnist(data)
    except (ImportError, OSError, ValueError) as error:
        of_groups = "" if groups is None else f" --groups {groups}"
        parser.error(f"{option}{data}{of_groups}: {error}")


def _names_folder(data: str) -> bool:
    """Tell whether a folder is meant; what may be a name of a data set is one."""
    return Path(data).is_dir() and not re.fullmatch(r"digits|\w+mnist(3d)?(_\d+)?", data)


def _folder_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of load_image_folder that were given."""
    given = {
        name: getattr(args, option.removeprefix("--").replace("-", "_"), None)
        for name, option in _OF_FOLDERS.items()
    }
    for name in ("size", "spacing"):
        given[name] = _of_axes(given[name])
    return {name: value for name, value in given.items() if value is not None}


def _of_axes(numbers: list[Any] | None) -> Any:
    """Return one number for all axes as it is, and several as a tuple."""
    return numbers[0] if numbers is not None and len(numbers) == 1 else numbers and tuple(numbers)


def _load_folder(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Bunch:
    options = _folder_options(args)
    if args.groups is not None:
        parser.error(
            f"--groups {args.groups} is an array of an .npz file, but {args.data} is a folder: "
            "give --labels FILE.csv --group-column NAME"
        )
    columns = [_OF_FOLDERS[name] for name in options if name.endswith("_column")]
    if columns and args.labels is None:
        parser.error(f"{columns[0]} is a column of a table: give it as --labels FILE.csv")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = functools.partial(_show_once, set())
            data = load_image_folder(args.data, **options)
    except ParameterError as error:
        name = _OF_FOLDERS.get(error.parameter, error.parameter)
        parser.error(f"{args.data}: {error.worded(name)}")
    except (ImportError, OSError, ValueError) as error:
        # Names with "=" and a value, and those that are no words of their own.
        message = re.sub(
            rf"(?<!\S)({'|'.join(_OF_FOLDERS)})=(?:'(\w+)'|\(([^()]*)\))?(?=\W|$)",
            lambda m: " ".join(
                [_OF_FOLDERS[m[1]], m[2] or "", (m[3] or "").replace(",", "")]
            ).strip(),
            str(error),
        )
        message = re.sub(r"\b(\w+_column)\b", lambda m: _OF_FOLDERS.get(m[1], m[1]), message)
        parser.error(f"{args.data}: {message}")
    parts = [key.removeprefix("X_") for key in data if key.startswith("X_")]
    if parts and (set(parts) - {"train", "val", "test"} or "train" not in parts):
        parser.error(
            f"{args.data}: its parts are {', '.join(map(repr, parts))}; expected train and, if "
            "there are any, val and test"
        )
    return data


def _is_folder(data: Bunch) -> bool:
    return data.filename is not None and Path(data.filename).is_dir()


def _parts(data: Bunch) -> list[str]:
    """Return the names of the splits that there are."""
    return [split for split in ("train", "val", "test") if f"X_{split}" in data]


def _joined(arrays: list[Any]) -> Any:
    files = all(isinstance(array, ImageArray) for array in arrays)
    return concatenate(arrays) if files else np.concatenate(arrays)


def _named(data: Bunch, y: np.ndarray) -> np.ndarray:
    """Return class names for class numbers, where the classes have names."""
    if data.target_names == [str(k) for k in range(len(data.target_names))]:
        return y
    return np.asarray(np.array(data.target_names)[y])


def _rows(
    parser: argparse.ArgumentParser, args: argparse.Namespace, data: Bunch
) -> tuple[dict[str, Any], str]:
    """Return what compare_losses is to divide or judge on, and a note on what it leaves out."""
    parts = _parts(data)
    if args.test and "test" not in parts:
        parser.error(
            f"{args.data} has no test split to judge on: 'skimbal compare {args.data}' without "
            "--test cross-validates its rows"
        )
    if not parts:
        rows = {"X": data.X, "y": _named(data, data.y), "groups": data.get("groups")}
        return rows, ""
    n = {split: len(data[f"y_{split}"]) for split in parts}
    groups = data.get("groups_train")
    if not args.test:
        used = [split for split in parts if split != "test"]
        keys = ["X", "y", *([] if groups is None else ["groups"])]
        rows = {key: _joined([data[f"{key}_{split}"] for split in used]) for key in keys}
        note = f" of {n['train']} training"
        note += f" and {n['val']} validation rows" if "val" in n else " rows"
        note += f" (the {n['test']} test rows are untouched)" if "test" in n else ""
        return {**rows, "y": _named(data, rows["y"])}, note
    if groups is not None and data.groups_test is None:
        parser.error(
            f"--groups {args.groups}: {args.data} has no array test_{args.groups}, so that "
            "groups on both sides could not be found; add it, or leave out --groups or --test"
        )
    note = f"; {n['train']} training and {n['test']} test rows"
    note += f" (the {n['val']} validation rows are not used)" if "val" in n else ""
    return {
        "X": data.X_train,
        "y": _named(data, data.y_train),
        "groups": groups,
        "X_test": data.X_test,
        "y_test": _named(data, data.y_test),
        "groups_test": data.get("groups_test"),
    }, note


def _estimator(parser: argparse.ArgumentParser, args: argparse.Namespace, data: Bunch) -> Any:
    classifier = CNN2DClassifier if data.ndim == 2 else CNN3DClassifier
    shape = data["X_train" if _parts(data) else "X"].shape[1:]
    crop_size = _of_axes(args.crop_size)
    if crop_size is not None:
        try:
            CenterCrop(crop_size)(torch.empty(1, 1, *shape[-data.ndim :], device="meta"))
        except ValueError as error:
            parser.error(f"--crop-size {' '.join(map(str, args.crop_size))}: {error}")
    return classifier(
        augment=args.augment,
        crop_size=crop_size,
        # Files know their axes: a volume of few slices is not one with channels last.
        input_shape=shape if _is_folder(data) and data.ndim == 3 else None,
        module=args.module,
        max_epochs=args.epochs,
        batch_size=args.batch_size,
        device=args.device,
    )


# The study -----------------------------------------------------------------------------------


def _run(
    parser: argparse.ArgumentParser,
    data: str,
    compare: Callable[[], LossStudy],
    *,
    note: str = "",
    csv: Path | None = None,
    html: Path | None = None,
) -> int:
    """Print and write a study, or what is done of it when something ends it early."""
    code = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", CollapseWarning)
            warnings.showwarning = functools.partial(_show_once, set())
            study = compare()
    except (Exception, KeyboardInterrupt) as error:
        if not hasattr(error, "study"):
            if not isinstance(error, OSError | ValueError):
                raise
            _refuse(parser, data, str(error))
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


def _refuse(parser: argparse.ArgumentParser, data: str, message: str) -> NoReturn:
    """End with code 2 and the message, in the words of the command line."""
    # Words of their own only, not the parts of a path.
    pattern = rf"(?<!\S)({'|'.join(_OPTIONS)})(=|(?=[\s:.]))"
    worded = re.sub(pattern, lambda match: _OPTIONS[match[1]] + " " * bool(match[2]), message)
    parser.error(worded if worded.startswith("--") else f"{data}: {worded}")


def _show_once(
    shown: set[object], message: Warning | str, category: type[Warning], *_: Any, **__: Any
) -> None:
    """Show a warning as a line above the progress bar unless it is in `shown`."""
    # The text of the advice on collapse differs from loss to loss: once is enough all the same.
    key = category if issubclass(category, CollapseWarning) else str(message)
    if key not in shown:
        shown.add(key)
        tqdm.write(f"skimbal: {category.__name__}: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


if __name__ == "__main__":
    sys.exit(main())
