"""Compare losses and samplers on images: ``python -m skimbal``, or ``skimbal``."""

import argparse
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skimbal import CNN2DClassifier, CNN3DClassifier, CollapseWarning, LossMix, __version__
from skimbal.augmentation import RECIPES
from skimbal.classifiers.parameters import check_crop_size, check_parameters
from skimbal.datasets import (
    DataInspection,
    inspect_data,
    inspect_folder,
    load_image_folder,
    load_imbalanced_digits,
    load_medmnist,
    load_npz,
)
from skimbal.datasets.splits import SPLITS
from skimbal.exceptions import ParameterError, import_optional
from skimbal.images import ImageArray, concatenate, guess_axes
from skimbal.losses import get_loss
from skimbal.networks import BUILT_IN
from skimbal.options import (
    COUNT,
    CSV_FILE,
    OF_ARRAYS,
    OF_DATA,
    OF_FILES,
    OF_FOLDERS,
    OF_GROUPS,
    PER_AXIS,
    Options,
    Parser,
    auto_or,
    count,
    jobs,
    names,
    one_line,
    option,
    positive,
    seed,
)
from skimbal.progress import Bar
from skimbal.sampling import STRATEGIES, check_sampler
from skimbal.signals import Signals, as_interruptions, code_of
from skimbal.study import PAPER_LOSSES, LossStudy, compare_losses
from skimbal.study.scores import SCORES
from skimbal.wording import agree, plural


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments. None takes the arguments of the process.

    Returns
    -------
    int
        Exit code: 0, 1 if a fit or the writing of a result fails, 128 and the number of the signal
        after Ctrl-C (130), SIGTERM (143) or SIGHUP (129), or 141 if the output is closed before its
        end. 2 if ``skimbal info`` lists reasons to refuse the data.
        Any other refusal before a fit raises ``SystemExit`` with 2 instead. ``--help`` and
        ``--version`` raise it with 0.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with as_interruptions() as signals:
            commands: dict[str, Callable[[Sequence[str]], int]] = {
                "compare": partial(_compare, signals),
                "info": _info,
            }
            is_named = bool(argv) and argv[0] in commands
            command = commands[argv.pop(0)] if is_named else partial(_default, signals)
            code = command(argv)
            sys.stdout.flush()
        return signals.code or code
    except KeyboardInterrupt as interrupt:
        return code_of(interrupt)
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it. Python flushes the rest at its end,
        # which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


# The three forms -----------------------------------------------------------------------------


def _default(signals: Signals, argv: Sequence[str]) -> int:
    """Fit the losses of the paper as they were proposed, and judge them on the test split."""
    parser = Parser(
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
    return _run(parser, args.data, compare, signals, note=note, csv=args.output)


def _compare(signals: Signals, argv: Sequence[str]) -> int:
    """Run a study on the data of the user."""
    parser = Parser(
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
    options = {**_options_of_study(), **_COPIES}
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
    return _run(parser, args.data, compare, signals, note=note, csv=args.csv, html=args.html)


def _info(argv: Sequence[str]) -> int:
    """Print the content of a data set, and the reasons to refuse or to doubt it."""
    parser = Parser(
        "skimbal info",
        "Show the content of a data set on one screen: the reasons to refuse it, copies and leaks, "
        "files by format, sizes, spacing, range, classes, groups. Nothing is fitted.",
        epilog="The exit code is 0 if the data would be loaded, and 2 if they would be refused. "
        "Warnings do not change it.",
    )
    _add_data(parser)
    parser.add_options(_OPTIONS_OF_INFO)
    args = parser.parse_args(argv)
    if _names_folder(args.data):
        inspection = _inspect_folder(parser, args)
    else:
        inspection = inspect_data(_load(parser, args), headers_only=args.quick)
    root = f"{os.path.abspath(args.data)}{os.sep}"
    text = inspection.to_text(
        width=min(100, shutil.get_terminal_size().columns),
        unicode=_can_print("\u2588"),
        word=lambda error: parser.worded(error).replace(root, ""),
    )
    print(text)
    return 0 if inspection.loads else 2


def _inspect_folder(parser: Parser, args: argparse.Namespace) -> DataInspection:
    _refuse_options_of_files(parser, args)
    try:
        return inspect_folder(args.data, headers_only=args.quick, verbose=1, **_folder_params(args))
    except (ImportError, OSError, ValueError) as error:
        parser.refuse(error, args.data, args.data)


def _can_print(text: str) -> bool:
    """Tell whether the encoding of the standard output has the characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


# Options -------------------------------------------------------------------------------------


#: The classifier, of whose parameters the options have the defaults.
_DEFAULTS = CNN2DClassifier()
#: A classifier for the command without a name, whose many fits must end in two minutes.
_PLAIN = CNN2DClassifier(module="small", augment=None, max_epochs=8, batch_size=64)
#: Settings that several options have.
_AUTO = {"type": partial(auto_or, count), "metavar": "N|auto"}
_RATE = {"type": partial(auto_or, positive), "metavar": "X|auto"}

_INTERRUPT = "Ctrl-C, SIGTERM and SIGHUP end it and print the finished part."
_DATA = (
    "digits (8 x 8, in scikit-learn), a MedMNIST name such as pneumoniamnist or vesselmnist3d_64 "
    "(downloaded unless it is in a folder of the environment variable SKIMBAL_DATA), or an .npz "
    "file"
)
_OPTIONS_OF_INFO: Options = {
    "quick": option(
        "--quick",
        "read the headers of files only, so that ranges, copies and damaged files stay unknown",
        action="store_true",
    ),
}
#: Parameter of compare_losses.
_COPIES: Options = {
    "check_copies": option(
        "--no-copy-check",
        "do not look for images that occur more than once, for which all images are read once",
        action="store_false",
    ),
}
#: Options that only a study has.
_OF_STUDY: Options = {
    "lr": option("--lr", "learning rate", default=_DEFAULTS.lr, **_RATE),
    "html": option(
        "--html",
        "new file for a report with pictures and code. It needs pip install 'skimbal[study]'",
        type=Path,
        metavar="FILE.html",
    ),
    "csv": option("--csv", "new file for all scores, unrounded", **CSV_FILE),
}
#: Parameters of the classifiers that have an option.
_CLASSIFIER = ("augment", "batch_size", "crop_size", "device", "lr", "max_epochs", "module")


def _add_data(parser: Parser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        help=f"{_DATA}. The file has the arrays train_images, train_labels and the same for val "
        "and test, or without splits: images and labels, or X and y. Or a folder of image files "
        "(PNG, JPEG, TIFF, NIfTI, DICOM, npy, ...) with a folder for each class, or any folder "
        "with --labels",
    )
    parser.add_options({**OF_GROUPS, **OF_DATA, **OF_ARRAYS})
    parser.add_options(OF_FOLDERS, "folders of image files")
    parser.set_defaults(data_option="")


def _options_of_default() -> Options:
    return {
        "data": option(
            "--data", f"{_DATA} in the form of MedMNIST", default="digits", metavar="NAME|FILE.npz"
        ),
        "n_repeats": option("--seeds", "fits of each configuration", default=3, **COUNT),
        "output": option(
            "--output",
            "new file for the table, unrounded. An existing file is not overwritten",
            **CSV_FILE,
        ),
    }


def _options_of_configurations(losses: str) -> Options:
    return {
        "losses": option(
            "--loss --losses",
            f"such as wce or ce+0.5*mcc. Repeat the option for more (default: {losses})",
            action="extend",
            type=names,
            metavar="LOSS[,LOSS...]",
        ),
        "samplers": option(
            "--sampler --samplers",
            f"of {', '.join(STRATEGIES)}. Repeat the option for more (default: uniform, balanced)",
            action="extend",
            type=names,
            metavar="SAMPLER[,SAMPLER...]",
        ),
    }


def _options_of_study() -> Options:
    return {
        "cv": option("--cv", "number of stratified folds (default: 5)", **COUNT),
        "n_repeats": option(
            "--repeats",
            "number of times that the folds are drawn. With --test, number of seeds",
            default=1,
            **COUNT,
        ),
        "test": option(
            "--test",
            "fit on the training rows and judge on the test rows, instead of a cross-validation",
            action="store_true",
        ),
        "baseline": option(
            "--baseline",
            "loss that all others are compared with (default: ce, and wce for losses "
            "that add a term to wce)",
            metavar="LOSS",
        ),
        "scoring": option(
            "--scoring",
            f"score that ranks: {', '.join(SCORES)}, f1[CLASS] or a scorer of scikit-learn",
            default="balanced_accuracy",
            metavar="NAME",
        ),
        "n_jobs": option(
            "--jobs", "fits at a time, -1 for all processors (default: 1)", type=jobs, metavar="N"
        ),
        "random_state": option(
            "--seed", "of folds, weights and batches", type=seed, default=0, metavar="N"
        ),
        "cache_dir": option(
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
        "device": option("--device", "cpu, cuda, cuda:1, auto, ...", default=_DEFAULTS.device),
    }


# Checks before any work ----------------------------------------------------------------------


def _check_choices(parser: Parser, args: argparse.Namespace) -> None:
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


def _check_report(parser: Parser, path: Path | None) -> None:
    for name in () if path is None else ("jinja2", "matplotlib"):
        try:
            import_optional(name, "--html", "study")
        except ImportError as error:
            parser.error(str(error))


def _check_output(parser: Parser, option: str, path: Path | None) -> None:
    if path is None:
        return
    try:
        path.touch(exist_ok=False)
        path.unlink()
    except OSError as error:
        expected = "a new file in a folder that exists and can be written to"
        parser.error(str(ParameterError(option, expected, str(path), f"{error.strerror}.")))


# Data ----------------------------------------------------------------------------------------


def _load(parser: Parser, args: argparse.Namespace) -> Bunch:
    """Load the data that the arguments name."""
    data, about = args.data, f"{args.data_option}{args.data}"
    if _names_folder(data):
        if args.data_option:
            parser.error(f"{about} is a folder. Use 'skimbal compare {data}'.")
        return _load_folder(parser, args)
    for name in _given(args, OF_FOLDERS):
        option = OF_FOLDERS[name][0]
        parser.error(f"{option} is for folders of image files, but there is no folder {data}.")
    if data.endswith(".npz"):
        try:
            return load_npz(data, groups=args.groups, **_given(args, {**OF_ARRAYS, **OF_DATA}))
        except (OSError, ValueError) as error:
            of_groups = "" if args.groups is None else f" --groups {args.groups}"
            parser.refuse(error, f"{about}{of_groups}", data)
    for name in _given(args, OF_FILES):
        parser.error(
            f"{OF_FILES[name][0]} is for .npz files; got {getattr(args, name)!r}, but {data} is "
            "not such a file."
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
    return _given(args, {**OF_FOLDERS, **OF_DATA})


def _given(args: argparse.Namespace, options: Options) -> dict[str, Any]:
    """Return the parameters whose options were given."""
    given = {name: getattr(args, name, None) for name in options}
    return {name: value for name, value in given.items() if value is not None}


def _refuse_options_of_files(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse options of .npz files for a folder."""
    for name in _given(args, {**OF_GROUPS, **OF_ARRAYS}):
        remedy = "Give --labels FILE.csv --group-column NAME." if name == "groups" else ""
        parser.error(
            f"{OF_FILES[name][0]} is for .npz files; got {getattr(args, name)!r}, but {args.data} "
            f"is a folder. {remedy}"
        )


def _load_folder(parser: Parser, args: argparse.Namespace) -> Bunch:
    _refuse_options_of_files(parser, args)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = partial(_show_once, set(), parser)
            data = load_image_folder(args.data, **_folder_params(args))
    except (ImportError, OSError, ValueError) as error:
        parser.refuse(error, args.data, args.data)
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
    if data.target_names == [str(label) for label in data.classes.tolist()]:
        return y
    return np.asarray(np.array(data.target_names)[np.searchsorted(data.classes, y)])


def _joined(data: Bunch, key: str, splits: Sequence[str]) -> np.ndarray | ImageArray:
    arrays = [data[f"{key}_{split}"] for split in splits]
    files = all(isinstance(array, ImageArray) for array in arrays)
    return concatenate(arrays) if files else np.concatenate(arrays)


def _rows(parser: Parser, args: argparse.Namespace, data: Bunch) -> tuple[dict[str, Any], str]:
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
    is_alone = "val" not in n
    note = f" of {plural(n['train'], 'training row') if is_alone else n['train']}"
    note += "" if is_alone else f" training and {plural(n['val'], 'validation row')}"
    if "test" in n:
        note += f" (the {plural(n['test'], 'test row')} {agree(n['test'], 'is', 'are')} untouched)"
    return rows, note


def _rows_of_test(
    parser: Parser, args: argparse.Namespace, data: Bunch
) -> tuple[dict[str, Any], str]:
    groups = data.get("groups_train")
    if groups is not None and data.groups_test is None:
        parser.error(
            f"--groups {args.groups}: {args.data} has no array test_{args.groups}, so groups on "
            "both sides could not be found. Add the array, or leave out --groups or --test."
        )
    note = f"; {len(data.y_train)} training and {plural(len(data.y_test), 'test row')}"
    if "X_val" in data:
        n = len(data.y_val)
        note += f" (the {plural(n, 'validation row')} {agree(n, 'is', 'are')} not used)"
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
    parser: Parser, args: argparse.Namespace, data: Bunch
) -> CNN2DClassifier | CNN3DClassifier:
    classifier = CNN2DClassifier if data.ndim == 2 else CNN3DClassifier
    shape = data["X_train" if _parts(data) else "X"].shape[1:]
    # Files know their axes. Of an array, the user has said that few slices are not channels.
    is_stated = any(getattr(args, name, None) is not None for name in ("n_spatial", "channel_axis"))
    is_unclear = data.ndim == 3 and (is_stated or guess_axes((1, *shape)).surely_channels_last)
    input_shape = shape if is_unclear and not _is_folder(data) else None
    estimator = classifier(input_shape=input_shape, **_params(args))
    try:
        check_crop_size(estimator, (1, *shape[-data.ndim :]))
    except ValueError as error:
        parser.refuse(error, args.data, args.data)
    return estimator


def _as_proposed(losses: Sequence[str]) -> Sequence[str] | dict[str, LossMix]:
    """Return the losses by their names, without the warm-up that the paper does not have."""
    if len(set(losses)) < len(losses):
        return losses  # which the study refuses
    return {name: LossMix.from_expression(name, warmup_epochs=0) for name in losses}


# The study -----------------------------------------------------------------------------------


def _run(
    parser: Parser,
    data: str,
    compare: Callable[[], LossStudy],
    signals: Signals,
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
            warnings.showwarning = partial(_show_once, set(), parser)
            study = compare()
        signals.postpone()
    except (Exception, KeyboardInterrupt) as error:
        signals.postpone()
        if not hasattr(error, "study"):
            if not isinstance(error, OSError | ValueError):
                raise
            parser.refuse(error, data, data)
        study, code = error.study, 1
        if isinstance(error, KeyboardInterrupt):
            code = code_of(error)
        else:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            print(f"skimbal: error: {kind}{one_line(error)}", file=sys.stderr)
        for remark in getattr(error, "__notes__", ()):
            print(f"skimbal: {one_line(remark)}", file=sys.stderr)
    if not study.fits:
        if code:
            print("skimbal: The run ended before its first fit was finished.", file=sys.stderr)
        return code
    study.splitting += note
    # First of all the files: the reader of the output may be gone.
    for path, write in ((csv, study.to_csv), (html, study.to_html)):
        try:
            if path is not None:
                write(path)
                if code:
                    _say_incomplete(path)
        except OSError as error:
            print(f"skimbal: error: {path}: {one_line(error)}", file=sys.stderr)
            code = code or 1
    print(study.summary())
    return code


def _say_incomplete(path: Path) -> None:
    """Say that a file has a part of the study, as the same command refuses to overwrite it."""
    print(
        f"skimbal: {path} has the finished fits only. Remove or rename it before you run the same "
        "command again.",
        file=sys.stderr,
    )


def _show_once(
    shown: set[object],
    parser: Parser,
    message: Warning | str,
    category: type[Warning],
    *_: object,
) -> None:
    """Show a warning as a line above the progress bar unless it is in `shown`."""
    # The advice on collapse differs from loss to loss. The first is enough.
    key = category if issubclass(category, CollapseWarning) else str(message)
    if key not in shown:
        shown.add(key)
        text = parser.in_options(one_line(message))
        Bar.write(f"skimbal: {category.__name__}: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
