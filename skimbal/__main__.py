"""Compare losses and samplers on images: ``python -m skimbal``, or ``skimbal``."""

import argparse
import functools
import importlib
import math
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
from skimbal.datasets import DataCard, load_imbalanced_digits, load_medmnist, load_npz
from skimbal.losses import get_loss
from skimbal.study import LossStudy, compare_losses

_LOSSES = ("ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc")
_SAMPLERS = ("uniform", "balanced", "stratified", "weighted")
_DATA = (
    "digits (8 x 8, in scikit-learn), a MedMNIST name such as pneumoniamnist or vesselmnist3d_64 "
    "(downloaded unless it is in a folder that SKIMBAL_DATA names), or an .npz file"
)
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
        Exit code: 0, 1 if a fit or the writing of a result fails, or 130 after Ctrl-C. What is
        refused before any fit raises ``SystemExit`` instead with 2, and ``--help`` and
        ``--version`` with 0.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[Sequence[str]], int]] = {"compare": _compare, "info": _info}
    try:
        if argv and argv[0] in commands:
            return commands[argv[0]](argv[1:])
        return _default(argv)
    except KeyboardInterrupt:
        return 130


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
    parser.set_defaults(test=True, groups=None)
    if argv and not argv[0].startswith("-"):
        parser.error(f"unknown command {argv[0]!r}: expected compare, info or an option")
    args = parser.parse_args(argv)
    _check_output(parser, "--output", args.output)
    _check_device(parser, args.device)
    data = _load(parser, "--data ", args.data)
    rows, note = _rows(parser, args, data)
    return _run(
        parser,
        args.data,
        functools.partial(
            compare_losses,
            **rows,
            losses=args.losses or _LOSSES,
            samplers=args.samplers,
            estimator=_estimator(args, data).set_params(ce_warmup_epochs=0),
            n_repeats=args.seeds,
            random_state=0,
        ),
        note=note,
        csv=args.output,
    )


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
    data = _load(parser, "", args.data, args.groups)
    rows, note = _rows(parser, args, data)
    return _run(
        parser,
        args.data,
        functools.partial(
            compare_losses,
            **rows,
            losses=args.losses,
            samplers=args.samplers,
            estimator=_estimator(args, data).set_params(lr=args.lr),
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
        "and number type, the size of the file. Nothing is fitted.",
    )
    _add_data(parser)
    args = parser.parse_args(argv)
    data = _load(parser, "", args.data, args.groups)
    ends = {"all": ""} if "X" in data else {s: f"_{s}" for s in ("train", "val", "test")}
    groups = {split: data.get(f"groups{end}") for split, end in ends.items()}
    groups = {split: array for split, array in groups.items() if array is not None}
    X = data["X" + next(iter(ends.values()))]
    print(f"{data.name}: {data.ndim}D images; license {data.license}")
    if data.filename is not None:
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
    if "test" in groups:
        shared = np.intersect1d(np.concatenate([groups["train"], groups["val"]]), groups["test"])
        print(f"groups of the test rows that are in training or validation rows: {len(shared)}")
    return 0


# Options -------------------------------------------------------------------------------------


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        help=f"{_DATA} with the arrays train_images, train_labels and so on for val and test, or "
        "without splits: images and labels, or X and y",
    )
    parser.add_argument(
        "--groups",
        metavar="NAME",
        help="array of the .npz file that says to which group, such as a patient, each image "
        "belongs; train_NAME, val_NAME and test_NAME in a file with splits",
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
        help=f"of {', '.join(_SAMPLERS)}; can be given again for more (default: uniform, balanced)",
    )


def _add_classifier(parser: argparse.ArgumentParser, *, max_epochs: int) -> None:
    add = parser.add_argument
    add("--epochs", type=_count, default=max_epochs, metavar="N", help="default: %(default)s")
    add("--batch-size", type=_count, default=64, metavar="N", help="default: %(default)s")
    add(
        "--module",
        choices=("small", "resnet18", "resnet34"),
        default="small",
        help="network (default: %(default)s)",
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
        if sampler not in _SAMPLERS:
            raise argparse.ArgumentTypeError(
                f"expected {', '.join(map(repr, _SAMPLERS))}, got {sampler!r}"
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


def _load(
    parser: argparse.ArgumentParser, option: str, data: str, groups: str | None = None
) -> Bunch:
    try:
        if data.endswith(".npz"):
            return load_npz(data, groups=groups)
        if groups is not None:
            parser.error(
                f"--groups {groups}: {data} has no groups; they are an array of an .npz file"
            )
        if data == "digits":
            return load_imbalanced_digits()
        name, _, size = data.partition("_")
        return load_medmnist(name, int(size)) if size.isdecimal() else load_medmnist(data)
    except (ImportError, OSError, ValueError) as error:
        of_groups = "" if groups is None else f" --groups {groups}"
        parser.error(f"{option}{data}{of_groups}: {error}")


def _named(data: Bunch, y: np.ndarray) -> np.ndarray:
    """Return class names for class numbers, where the classes have names."""
    if data.target_names == [str(k) for k in range(len(data.target_names))]:
        return y
    return np.asarray(np.array(data.target_names)[y])


def _rows(
    parser: argparse.ArgumentParser, args: argparse.Namespace, data: Bunch
) -> tuple[dict[str, Any], str]:
    """Return what compare_losses is to divide or judge on, and a note on what it leaves out."""
    if "X" in data:
        if args.test:
            parser.error(
                f"{args.data} has no test split to judge on: 'skimbal compare {args.data}' without "
                "--test cross-validates its rows"
            )
        rows = {"X": data.X, "y": _named(data, data.y), "groups": data.get("groups")}
        return rows, ""
    if not args.test:
        rows = {
            key: np.concatenate([data[f"{key}_train"], data[f"{key}_val"]])
            for key in ("X", "y", *(["groups"] if args.groups else []))
        }
        return {**rows, "y": _named(data, rows["y"])}, (
            f" of {len(data.y_train)} training and {len(data.y_val)} validation rows "
            f"(the {len(data.y_test)} test rows are untouched)"
        )
    groups = data.get("groups_train")
    if groups is not None:
        if data.groups_test is None:
            parser.error(
                f"--groups {args.groups}: {args.data} has no array test_{args.groups}, so that "
                "groups on both sides could not be found; add it, or leave out --groups or --test"
            )
        shared = np.intersect1d(groups, data.groups_test)
        if len(shared):
            parser.error(
                f"--groups {args.groups}: {len(shared)} group(s) are in the training and the test "
                f"rows of {args.data}, such as {shared[0]}; divide it by group, or leave out --test"
            )
    return {
        "X": data.X_train,
        "y": _named(data, data.y_train),
        "groups": groups,
        "X_test": data.X_test,
        "y_test": _named(data, data.y_test),
    }, (
        f"; {len(data.y_train)} training and {len(data.y_test)} test rows (the {len(data.y_val)} "
        "validation rows are not used)"
    )


def _estimator(args: argparse.Namespace, data: Bunch) -> Any:
    classifier = CNN2DClassifier if data.ndim == 2 else CNN3DClassifier
    return classifier(
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
