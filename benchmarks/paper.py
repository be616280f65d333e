"""The paper's 15 configurations on real medical images, at equal steps and matched sampling.

Run as ``python -m benchmarks.paper``. The recipe is that of Scholz et al. (2024) as far as two
cores allow: Adam with 1e-3 and cosine annealing, batches of 50, intensities in [0, 1], flips and
gamma with p = 0.5 each, and the pure losses without a warm-up. Every fit that is done is kept in
``--cache`` and not repeated, so the run may be cut into pieces. The official test split is scored
once for each fit, and nothing is chosen by it; the validation split is not used.
"""

import argparse
import json
import os
from pathlib import Path

# Before torch: a second thread on a busy core makes everything slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from benchmarks.measuring import machine
from benchmarks.medmnist import load
from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix
from skimbal.networks import BUILT_IN
from skimbal.study import LossStudy, compare_losses

RESULTS = Path(__file__).parent / "results"
#: Network, options and epochs within the limit of 90 minutes on two cores, and without it; axes
#: of an image that may be mirrored (a mirrored vessel is a vessel, a chest has no upside down).
DATA_SETS = {
    "vesselmnist3d": (("small", {}, 20), ("resnet34", {"width": 32}, 100), (2, 3, 4)),
    "pneumoniamnist_9to1": (
        ("resnet34", {"width": 32}, 8),
        ("resnet34", {"width": 32}, 50),
        (3,),
    ),
    "pneumoniamnist_full": (
        ("small", {}, 12),
        ("resnet34", {"width": 32}, 50),
        (3,),
    ),
}
SCORES = {
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
    "matthews_corrcoef": "MCC",
    "roc_auc_ovr": "AUC",
    "average_precision_rarest": "AP of the rarest class",
    "log_loss": "log-loss",
    "brier_score": "Brier score",
}


class Augmented(nn.Module):
    """A network whose training images are mirrored and given another gamma at random.

    Parameters
    ----------
    in_channels, n_classes : int
        Number of channels and of classes.
    network : {"small", "resnet18", "resnet34"}
        The network.
    flips : tuple of int
        Axes of a batch along which images may be mirrored.
    **options : dict
        Options of the network.
    """

    def __init__(self, in_channels: int, n_classes: int, network: str, flips, **options) -> None:
        super().__init__()
        self.network = BUILT_IN[network](in_channels, n_classes, **options)
        self.flips = flips

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of images with values from 0 to 255."""
        x = x / 255
        if self.training:
            per_image = (len(x), *[1] * (x.ndim - 1))
            gamma = torch.rand(per_image, device=x.device) + 0.5
            x = torch.where(torch.rand(per_image, device=x.device) < 0.5, x**gamma, x)
            for axis in self.flips:
                x = torch.where(torch.rand(per_image, device=x.device) < 0.5, x.flip(axis), x)
        return self.network(x)


class WithoutWarmUp:
    """Trains with the losses of the paper, which have no warm-up."""

    def fit(self, X, y, *args, **kwargs):
        """Fit, with a loss that has a name."""
        self.set_params(loss=LossMix.from_expression(self.loss, warmup_epochs=0))
        return super().fit(X, y, *args, **kwargs)


class AsProposed2D(WithoutWarmUp, CNN2DClassifier):
    """For images."""


class AsProposed3D(WithoutWarmUp, CNN3DClassifier):
    """For volumes."""


def make_classifier(name: str, data, args: argparse.Namespace):
    """Make the classifier of the recipe, without loss and sampler."""
    scaled, full, flips = DATA_SETS[name]
    network, options, epochs = full if args.full else scaled
    options = {"network": network, "flips": flips, **options}
    options["spatial_shape"] = data.X_train.shape[-data.ndim :]
    return (AsProposed3D if data.ndim == 3 else AsProposed2D)(
        augment=None,
        module=Augmented,
        net={f"module__{option}": value for option, value in options.items()},
        standardize=False,
        optimizer="adam",
        lr=1e-3,
        lr_schedule="cosine",
        batch_size=50,
        max_epochs=epochs,
        device=args.device,
    )


def study(name: str, args: argparse.Namespace) -> LossStudy:
    """Fit and score the 15 configurations on a data set, or read what the cache has."""
    data = load(name)
    classifier = make_classifier(name, data, args)
    return compare_losses(
        data.X_train,
        data.y_train,
        X_test=data.X_test,
        y_test=data.y_test,
        estimator=classifier,
        n_repeats=args.seeds,
        n_jobs=args.jobs,
        random_state=0,
        cache_dir=args.cache / name,
    )


def rows(study: LossStudy) -> list[dict]:
    """Return the numbers of each configuration."""
    result = []
    for estimate in study.estimates():
        names = estimate.loss, estimate.sampler
        row = {"loss": estimate.loss, "sampler": estimate.sampler, "seeds": estimate.n_fits}
        for score in study.score_names:
            mine = next(e for e in study.estimates(score) if (e.loss, e.sampler) == names)
            row[score] = [mine.mean, mine.std]
            gain = [d for d in study.differences(score) if (d.loss, d.sampler) == names]
            for d in gain:
                row["reference"] = d.reference
                row[f"gain_{score}"] = [d.mean, d.low, d.high, d.p_value]
        matrix = study.confusion_matrix(*names)
        fits = [fit for fit in study.fits if (fit.loss, fit.sampler) == names]
        row["collapsed"] = sum(
            sum(sum(column) > 0 for column in zip(*fit.confusion_matrix, strict=True)) == 1
            for fit in fits
        )
        row["confusion_matrix"] = matrix.tolist()
        row["steps"] = sorted({fit.n_steps for fit in fits})
        result.append(row)
    return result


def report(results: dict[str, dict], described: dict) -> str:
    """Write the tables as reStructuredText, for people and for the documentation."""
    text = []
    for name, result in results.items():
        of_classes = {
            score: f"F1 of class {score[3:-1]}"
            for score in result["rows"][0]
            if score.startswith("f1[")
        }
        scores = {**SCORES, **of_classes}
        first = ["balanced_accuracy", "f1_macro", "matthews_corrcoef", "roc_auc_ovr"]
        others = [score for score in scores if score not in first]
        head = [*map(scores.get, first), "balanced accuracy minus reference", "p"]
        main = [["sampler", "loss", *head, "lost"]]
        further = [["sampler", "loss", *map(scores.get, others)]]
        for row in result["rows"]:
            names = [row["sampler"], row["loss"]]
            cell = {score: f"{row[score][0]:.3f} ± {row[score][1]:.3f}" for score in scores}
            gain = ["", ""]
            if "reference" in row:
                mean, low, high, p = row["gain_balanced_accuracy"]
                gain = [f"{row['reference']}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]", f"{p:.2g}"]
            lost = f"{row['collapsed']}/{row['seeds']}"
            main.append([*names, *(cell[score] for score in first), *gain, lost])
            further.append([*names, *(cell[score] for score in others)])
        for title, lines in ((result["recipe"], main), ("further scores", further)):
            text += [f".. list-table:: {name}, test split, mean ± std over seeds: {title}"]
            text += ["   :header-rows: 1", ""]
            for line in lines:
                text += [f"   {'*' if i == 0 else ' '} - {entry}" for i, entry in enumerate(line)]
            text += [""]
    text += [
        "Differences are to the reference at the same sampler, seed by seed, with their 95 % "
        "interval; p-values of the paired t-test over seeds, adjusted by Holm's method for the 13 "
        "comparisons of a data set. Lost: fits that predict a single class.",
        "",
        "Machine: " + "; ".join(f"{key} {value}" for key, value in described.items()) + ".",
        "",
    ]
    return "\n".join(text)


def draw(studies: dict[str, LossStudy], path: Path) -> None:
    """Draw the scores of the configurations, and their differences to the reference."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from skimbal.displays import LossStudyDisplay

    for kind in ("scores", "differences"):
        figure, axes = plt.subplots(
            1, len(studies), figsize=(6 * len(studies), 6), layout="constrained", squeeze=False
        )
        for ax, (name, done) in zip(axes[0], studies.items(), strict=True):
            LossStudyDisplay.from_study(done, ax=ax, kind=kind)
            ax.set_title(name)
        figure.savefig(path.with_name(f"{path.stem}_{kind}.png"), dpi=100)
        plt.close(figure)


def draw_embeddings(name: str, args: argparse.Namespace, path: Path) -> None:
    """Draw the paper's figure: t-SNE of the features of the test rows, a panel for each loss."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from skimbal.displays import EmbeddingDisplay

    data = load(name)
    fitted = {}
    for loss in ("ce", "ce+f1", "ce+mcc", "focal", "f1", "mcc"):
        classifier = make_classifier(name, data, args).set_params(loss=loss, random_state=0)
        fitted[loss] = classifier.fit(data.X_train, data.y_train)
    figure, axes = plt.subplots(2, 3, figsize=(12, 8.5), layout="constrained")
    EmbeddingDisplay.from_estimator(
        fitted,
        data.X_test,
        data.y_test,
        random_state=0,
        display_labels=data.target_names,
        ax=axes.ravel(),
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Run what is not in the cache yet, and write the result files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time, one thread each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="as many epochs as it takes")
    parser.add_argument("--cache", type=Path, default=Path("paper-cache"))
    parser.add_argument("--output", type=Path, default=RESULTS / "paper.json")
    parser.add_argument("--fits-only", action="store_true", help="fill the cache, write nothing")
    parser.add_argument(
        "--embeddings",
        action="store_true",
        help="only fit six losses again and draw their features",
    )
    args = parser.parse_args()
    if "SKIMBAL_DATA" not in os.environ:
        parser.error("set SKIMBAL_DATA to the folder that holds the MedMNIST files")
    if args.embeddings:
        draw_embeddings(args.data[0], args, args.output.with_name("paper_embeddings.png"))
        return
    studies = {name: study(name, args) for name in args.data}
    if args.fits_only:
        return
    results = {}
    for name, done in studies.items():
        network, options, epochs = DATA_SETS[name][args.full]
        width = f", width {options['width']}" if options else ""
        recipe = f"{network}{width}, {epochs} epochs of {done.fits[0].n_steps // epochs} steps"
        results[name] = {
            "recipe": recipe,
            "counts": done.data.counts,
            "rows": rows(done),
            "fits": [fit.to_dict() for fit in done.fits],
        }
    minutes = sum(fit.fit_time for done in studies.values() for fit in done.fits) / 60
    described = {**machine(), "device": args.device, "minutes in fits": round(minutes)}
    args.output.write_text(json.dumps({"machine": described, **results}, indent=1))
    args.output.with_suffix(".rst").write_text(report(results, described))
    draw(studies, args.output)
    print(report(results, described))


if __name__ == "__main__":
    main()
