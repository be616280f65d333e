"""Compare losses and samplers on one data set: ``python -m skimbal``, or ``skimbal``."""

import argparse
import csv
import functools
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from sklearn.metrics import f1_score, matthews_corrcoef, recall_score, roc_auc_score
from sklearn.utils import Bunch
from tqdm import tqdm

from skimbal import CNN2DClassifier, CNN3DClassifier, CollapseWarning, __version__
from skimbal.datasets import load_imbalanced_digits, load_medmnist, load_npz
from skimbal.losses import get_loss

_LOSSES = ("ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc")
_SAMPLERS = ("uniform", "balanced", "stratified", "weighted")

# (sampler, loss) -> one dict of scores for each seed that is done.
_Results = dict[tuple[str, str], list[dict[str, float]]]


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
        Exit code: 0, 1 if a classifier refuses the data, or 130 after Ctrl-C. Wrong arguments
        raise ``SystemExit`` instead with 2, and ``--help`` and ``--version`` with 0.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    _check_output(parser, args.output)
    _check_device(parser, args.device)
    try:
        data = _load(args.data)
    except (ImportError, OSError, ValueError) as error:
        parser.error(f"--data {args.data}: {error}")
    except KeyboardInterrupt:
        return 130
    results: _Results = {}
    code = 0
    try:
        _fit_all(args, data, results)
    except KeyboardInterrupt:
        code = 130
    except ValueError as error:
        # A classifier refuses the data, such as a training split of one class.
        print(f"skimbal: error: {_one_line(error)}", file=sys.stderr)
        code = 1
    finally:
        # Whatever ends the fits, such as too little memory, those that are done are not lost.
        if results:
            print(_table(results))
            if args.output is not None:
                _write(results, args.output)
            print(_verdict(results))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="skimbal",
        description="Fit a small CNN with several losses at several samplings, and print the mean "
        "± standard deviation over seeds of its scores on the test split. The validation split is "
        "not used.",
        epilog="The last line compares the row of highest balanced accuracy with plain ce at the "
        "same sampling, seed by seed: a mean difference up to one standard deviation of the "
        "differences is called 'within the spread'. That row was chosen on the test split too, so "
        "a part of its lead is luck. Ctrl-C prints what is done so far.",
    )
    add = parser.add_argument
    add(
        "--data",
        default="digits",
        metavar="NAME|FILE.npz",
        help="digits (8 x 8, in scikit-learn), a MedMNIST name such as pneumoniamnist or "
        "vesselmnist3d_64 (downloaded unless it is in a folder that SKIMBAL_DATA names), or an "
        ".npz file of MedMNIST's form (default: %(default)s)",
    )
    add(
        "--loss",
        action="append",
        type=_loss,
        help="loss such as wce or ce+0.5*mcc; give it again for more "
        f"(default: {', '.join(_LOSSES)})",
    )
    add(
        "--sampler",
        action="append",
        choices=_SAMPLERS,
        help="give it again for more (default: uniform, balanced)",
    )
    add("--seeds", type=_count, default=3, metavar="N", help="fits of each (default: %(default)s)")
    add("--epochs", type=_count, default=8, metavar="N", help="default: %(default)s")
    add("--batch-size", type=_count, default=64, metavar="N", help="default: %(default)s")
    add(
        "--module",
        choices=("small", "resnet18", "resnet34"),
        default="small",
        help="default: %(default)s",
    )
    add("--device", default="cpu", help="cpu, cuda, cuda:1, auto, ... (default: %(default)s)")
    add(
        "--output",
        type=Path,
        metavar="FILE.csv",
        help="new file for the table, unrounded; a file that exists is never overwritten",
    )
    add("--version", action="version", version=f"skimbal {__version__}")
    return parser


def _loss(text: str) -> str:
    try:
        # Any counts will do: they are there for wce, whose weights come from the data later.
        get_loss(text, class_counts=[1, 1])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _check_output(parser: argparse.ArgumentParser, output: Path | None) -> None:
    if output is None:
        return
    try:
        output.touch(exist_ok=False)
        output.unlink()
    except OSError as error:
        parser.error(
            f"--output {output}: {error.strerror}; expected a new file in a folder that exists "
            "and can be written to"
        )


def _check_device(parser: argparse.ArgumentParser, device: str) -> None:
    try:
        torch.empty(0, device=None if device == "auto" else device)
    # torch raises AssertionError where it was built without CUDA.
    except (AssertionError, RuntimeError) as error:
        parser.error(f"--device {device} cannot be used here: {str(error).splitlines()[0]}")


def _load(data: str) -> Bunch:
    if data == "digits":
        return load_imbalanced_digits()
    if data.endswith(".npz"):
        return load_npz(data)
    name, _, size = data.partition("_")
    return load_medmnist(name, int(size)) if size.isdecimal() else load_medmnist(data)


def _fit_all(args: argparse.Namespace, data: Bunch, results: _Results) -> None:
    """Add the scores of each fit to `results` as soon as it is done."""
    configurations = [
        (sampler, loss)
        for sampler in dict.fromkeys(args.sampler or ("uniform", "balanced"))
        for loss in dict.fromkeys(args.loss or _LOSSES)
    ]
    classifier = CNN2DClassifier if data.ndim == 2 else CNN3DClassifier
    progress = tqdm(total=len(configurations) * args.seeds, unit="fit")
    with progress, warnings.catch_warnings():
        warnings.simplefilter("always", CollapseWarning)
        warnings.showwarning = functools.partial(_show_once, set())
        for sampler, loss in configurations:
            for seed in range(args.seeds):
                progress.set_postfix_str(f"{loss}, {sampler}, seed {seed}")
                model = classifier(
                    loss=loss,
                    ce_warmup_epochs=0,  # the losses as they were proposed
                    sampler=None if sampler == "uniform" else sampler,
                    module=args.module,
                    max_epochs=args.epochs,
                    batch_size=args.batch_size,
                    device=args.device,
                    random_state=seed,
                ).fit(data.X_train, data.y_train)
                results.setdefault((sampler, loss), []).append(_scores(model, data))
                progress.update()


def _show_once(
    shown: set[object], message: Warning | str, category: type[Warning], *_: Any, **__: Any
) -> None:
    """Show a warning as a line above the progress bar unless it is in `shown`."""
    # The text of the advice on collapse differs from loss to loss: once is enough all the same.
    key = category if issubclass(category, CollapseWarning) else str(message)
    if key not in shown:
        shown.add(key)
        tqdm.write(f"skimbal: {category.__name__}: {_one_line(message)}", file=sys.stderr)


def _scores(model: Any, data: Bunch) -> dict[str, float]:
    """Return the scores on the test split by their names in the table."""
    y, labels = data.y_test, range(len(data.target_names))
    predicted = model.predict(data.X_test)
    # A class that the training rows lack has no column in predict_proba.
    probability = np.zeros((len(y), len(labels)))
    probability[:, model.classes_] = model.predict_proba(data.X_test)
    present = np.unique(y)
    f1 = f1_score(y, predicted, labels=labels, average=None, zero_division=0)
    auc = [roc_auc_score(y == k, probability[:, k]) for k in ([1] if len(labels) == 2 else present)]
    return {
        # Balanced accuracy, by a function that does not warn of classes that the test rows lack.
        "balanced accuracy": recall_score(y, predicted, labels=present, average="macro"),
        "macro F1": f1.mean(),
        "MCC": matthews_corrcoef(y, predicted),
        "AUC": np.mean(auc),
    } | {f"F1 {name}": f1[k] for k, name in enumerate(data.target_names)}


def _mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation; that of one value is NaN."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _show(mean: float, std: float, sign: str = "") -> str:
    return f"{mean:{sign}.3f}" + ("" if np.isnan(std) else f" ± {std:.3f}")


def _table(results: _Results) -> str:
    rows = [["loss", "sampler", "seeds", *next(iter(results.values()))[0]]]
    for (sampler, loss), fits in results.items():
        cells = [_show(*_mean_std([fit[name] for fit in fits])) for name in fits[0]]
        rows.append([loss, sampler, str(len(fits)), *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _write(results: _Results, output: Path) -> None:
    names = list(next(iter(results.values()))[0])
    with output.open("x", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["loss", "sampler", "seeds"]
            + [f"{name} {of}" for name in names for of in ("mean", "std")]
        )
        for (sampler, loss), fits in results.items():
            cells = [value for name in names for value in _mean_std([fit[name] for fit in fits])]
            writer.writerow([loss, sampler, len(fits), *cells])


def _verdict(results: _Results) -> str:
    """Say which configuration was best, and whether its lead on plain ce exceeds the spread."""
    accuracy = {
        configuration: [fit["balanced accuracy"] for fit in fits]
        for configuration, fits in results.items()
    }
    sampler, loss = best = max(accuracy, key=lambda configuration: np.mean(accuracy[configuration]))
    line = (
        f"best: {loss} with {sampler} sampling, balanced accuracy "
        f"{_show(*_mean_std(accuracy[best]))}"
    )
    if loss == "ce":
        return f"{line}: no other loss is above it"
    if (sampler, "ce") not in results:
        return f"{line}; plain ce was not fitted with {sampler} sampling, so there is no comparison"
    # The seeds of a configuration are always 0, 1, ..., so equal places are pairs.
    pairs = zip(accuracy[best], accuracy[sampler, "ce"], strict=False)
    differences = [ours - ce for ours, ce in pairs]
    mean, std = _mean_std(differences)
    line += f"; against plain ce with {sampler} sampling {_show(mean, std, '+')}"
    if len(differences) == 1:
        return f"{line} (one seed, so there is no spread to set it against)"
    where = "beyond" if mean > std else "within"
    return f"{line} over {len(differences)} paired seeds, {where} the spread"


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


if __name__ == "__main__":
    sys.exit(main())
