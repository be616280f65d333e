"""Whether two commits train the same weights and predict the same numbers, bit for bit.

``python -m benchmarks.equality BEFORE [AFTER]`` fits a set of configurations (each loss, sampler
and dtype, micro-batches, moving statistics, augmentation, warm start, partial fit, files, ...) with
the package of each commit, in processes of their own, and compares checksums of weights,
probabilities, features and training losses. A commit is a revision of git or a folder with a
checkout; without AFTER, it is the working tree. The configurations are written for the interface
of the working tree. Older commits have some parameters elsewhere, which ``_translated`` knows.
"""

import argparse
import contextlib
import hashlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", help="revision or folder")
    parser.add_argument("after", nargs="?", default=str(ROOT), help="default: the working tree")
    parser.add_argument("--only", default="", metavar="TEXT", help="configurations that hold it")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="checksums of both")
    args = parser.parse_args()
    before, after = (_checksums(name, args.only) for name in (args.before, args.after))
    differing = [name for name in after if before.get(name) != after[name]]
    for name in after:
        verdict = "differs" if name in differing else "equal"
        if name in differing:
            pairs = {k: (before.get(name, {}).get(k), v) for k, v in after[name].items()}
            verdict += ": " + ", ".join(k for k, (a, b) in pairs.items() if a != b)
        print(f"{name:50} {verdict}")
    print(f"{len(after) - len(differing)} of {len(after)} configurations are equal bit for bit.")
    if args.output is not None:
        args.output.write_text(json.dumps({"before": before, "after": after}, indent=1) + "\n")
    return int(bool(differing))


def _checksums(revision: str, only: str) -> dict[str, dict[str, str]]:
    """Run the configurations with the package of a commit."""
    with contextlib.ExitStack() as stack:
        folder = Path(revision)
        if not (folder / "skimbal").is_dir():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            archive = subprocess.run(
                ["git", "-C", ROOT, "archive", revision, "skimbal"], check=True, capture_output=True
            )
            subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        done = subprocess.run(
            [sys.executable, __file__, "--run", only],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": "1"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        result: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
        return result


#: Parameters whose defaults follow the data or were others in older commits.
_PINNED = {
    "loss": "ce+mcc",
    "sampler": "uniform",
    "augment": None,
    "n_tta": 1,
    "standardize": True,
    "module": "small",
    "optimizer": "adam",
    "lr": 1e-3,
    "lr_schedule": None,
    "max_epochs": 3,
    "batch_size": 16,
    "random_state": 0,
}


# In the process of one commit ------------------------------------------------------------------


def _data(ndim: int = 2, n_classes: int = 3, dtype: str = "uint8", n: int = 60) -> Any:
    """Make images of imbalanced classes, each with a bright spot of its class."""
    import numpy as np

    rng = np.random.default_rng(0)
    shape = {2: (14, 14), 3: (8, 10, 9)}[ndim]
    y = np.repeat(np.arange(n_classes), [n - 9 * (n_classes - 1), *[9] * (n_classes - 1)])
    X = rng.integers(0, 180, size=(n, *shape)).astype("float64")
    for k in range(n_classes):
        X[y == k, ..., 2 + 2 * k : 5 + 2 * k, 3:6] += 60
    order = rng.permutation(n)
    return X[order].astype(dtype), y[order]


def _configurations() -> dict[str, dict[str, Any]]:
    """Return parameters of the classifier by the name of the configuration.

    Keys that begin with an underscore say what to do with it.
    """
    import torch
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler
    from torch import nn

    class OwnLoss(nn.Module):
        mean_over_rows = True

        def forward(self, logits: Any, target: Any) -> Any:
            return nn.functional.cross_entropy(logits, target)

    losses = ["ce", "wce", "focal", "f1", "mcc", "la", "balanced_softmax", "ldam"]
    losses += ["ce+mcc", "ce+f1", "wce+mcc", "0.3*focal+2*f1+0.7*mcc", "f1+mcc"]
    samplers = ["balanced", "stratified", "weighted"]
    configurations: dict[str, dict[str, Any]] = {}
    for loss in losses:
        configurations[f"loss {loss}"] = {"loss": loss}
        configurations[f"loss {loss}, two classes"] = {"loss": loss, "_data": {"n_classes": 2}}
        configurations[f"loss {loss}, weights"] = {"loss": loss, "_weights": True}
    for loss in ("ce+mcc", "mcc", "focal"):
        configurations[f"micro-batches {loss}"] = {"loss": loss, "micro_batch_size": 5}
        configurations[f"moving statistics {loss}"] = {"loss": loss, "statistics": "moving"}
        configurations[f"no warm-up {loss}"] = {"loss": loss, "warmup_epochs": 0}
        configurations[f"3D {loss}"] = {"loss": loss, "_data": {"ndim": 3}}
    configurations["label smoothing"] = {"loss": "wce", "_mix": {"label_smoothing": 0.1}}
    configurations["micro-batches and moving statistics"] = {
        "statistics": "moving",
        "horizon": 40,
        "micro_batch_size": 4,
        "batch_size": 12,
    }
    for sampler in samplers:
        configurations[f"sampler {sampler}"] = {"sampler": sampler}
        configurations[f"sampler {sampler}, equal length"] = {
            "sampler": sampler,
            "epoch_length": "uniform",
        }
    configurations["sampler RandomOverSampler"] = {"sampler": RandomOverSampler(random_state=3)}
    configurations["sampler RandomUnderSampler"] = {"sampler": RandomUnderSampler()}
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        configurations[f"dtype {dtype}"] = {"dtype": dtype}
    for dtype in ("float64", "float16", "int16", "bool", ">f4"):
        configurations[f"images of {dtype}"] = {"_data": {"dtype": dtype}}
    configurations |= {
        "foreign loss": {"loss": OwnLoss},
        "foreign loss in micro-batches": {"loss": OwnLoss(), "micro_batch_size": 5},
        "foreign loss of torch": {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
        "class weights": {"class_weight": "balanced"},
        "logit adjustment": {"loss": "ce", "logit_adjustment": 1.0},
        "flip": {"augment": "flip"},
        "recipe of the paper": {"augment": "paper"},
        "recipe of the paper in 3D": {"augment": "paper", "_data": {"ndim": 3}},
        "crop and n_tta": {"augment": "flip", "crop_size": 9, "n_tta": 3},
        "augmented micro-batches": {"augment": "flip", "micro_batch_size": 5, "loss": "mcc"},
        "no standardisation": {"standardize": False, "_data": {"dtype": "float32"}},
        "warm start": {"warm_start": True, "_fits": 2},
        "warm start mcc": {"warm_start": True, "_fits": 2, "loss": "mcc"},
        "partial fit": {"_partial": 3},
        "partial fit, moving statistics": {"_partial": 3, "statistics": "moving"},
        "validation rows": {"train_split": 0.25},
        "validation rows by group": {"train_split": 0.25, "_groups": True},
        "adam with weight decay": {"net": {"optimizer__weight_decay": 0.01}},
        "sgd, constant rate": {"optimizer": "sgd", "lr": 0.01, "lr_schedule": None},
        "adamw": {"optimizer": torch.optim.AdamW},
        "lbfgs": {"optimizer": "lbfgs", "lr": 0.1, "loss": "ce"},
        "gradient clipping": {"_clip": True},
        "files": {"_files": True},
        "files, two readers": {"_files": True, "net": {"iterator_train__num_workers": 2}},
        "rows": {"_rows": True, "input_shape": (14, 14)},
        "resnet18": {"module": "resnet18", "net": {"module__width": 8}},
        "resnet18 in 3D": {
            "module": "resnet18",
            "net": {"module__width": 4},
            "_data": {"ndim": 3},
        },
        "features of a layer": {"feature_layer": "classifier"},
        "a pipeline with a sampler": {"_pipeline": True},
        "a study": {"_study": True},
    }
    return configurations


def _translated(classifier: type, params: dict[str, Any]) -> dict[str, Any]:
    """Name parameters of the loss as the package of this process does."""
    known = inspect.signature(classifier).parameters
    params = {name: value for name, value in params.items() if not name.startswith("_")}
    of_loss = {
        name: params.pop(name)
        for name in ("statistics", "horizon", "warmup_epochs")
        if name in params
    }
    if "ce_warmup_epochs" in known:  # parameters of the classifier until they became the loss's
        names = {"warmup_epochs": "ce_warmup_epochs"}
        params |= {names.get(name, f"loss_{name}"): value for name, value in of_loss.items()}
    elif of_loss:
        from skimbal import LossMix

        params["loss"] = LossMix.from_expression(params.get("loss", "ce+mcc"), **of_loss)
    if "epoch_length" in params and "epoch_length" not in known:
        del params["epoch_length"]
        params["net"] = {**params.get("net", {}), "iterator_train__uniform_length": True}
    return params


def _run(name: str, config: dict[str, Any], folder: Path) -> dict[str, str]:
    import numpy as np
    import torch
    from skorch.callbacks import GradientNormClipping

    from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, NDSampler

    of_data = config.get("_data", {})
    X, y = _data(**of_data)
    classifier = CNN3DClassifier if of_data.get("ndim") == 3 else CNN2DClassifier
    params = _translated(classifier, _PINNED | config)
    if "_mix" in config:
        params["loss"] = LossMix(**{params["loss"]: 1}, **config["_mix"])
    if config.get("_clip"):
        params["callbacks"] = [GradientNormClipping(0.5)]
    clf = classifier(**params)
    if config.get("_study"):
        return _study(clf, X, y)
    given: dict[str, Any] = {}
    if config.get("_weights"):
        given["sample_weight"] = np.random.default_rng(1).integers(0, 4, len(y))
    if config.get("_groups"):
        given["groups"] = np.arange(len(y)) // 2
    if config.get("_rows"):
        X = X.reshape(len(X), -1)
    if config.get("_files"):
        from skimbal.images import ImageFiles

        paths = [folder / f"{i}.npy" for i in range(len(X))]
        for path, image in zip(paths, X, strict=True):
            np.save(path, image)
        X = ImageFiles(paths)
    model: Any = clf
    if config.get("_pipeline"):
        from imblearn.over_sampling import SMOTE
        from imblearn.pipeline import make_pipeline

        model = make_pipeline(NDSampler(SMOTE(random_state=0)), clf)
    for i in range(config.get("_partial", 0)):
        rows = np.arange(len(y)) % 3 != i
        model.partial_fit(X[rows], y[rows], classes=np.unique(y))
    for _ in range(config.get("_fits", 0 if "_partial" in config else 1)):
        model.fit(X, y, **given)
    clf = model[-1] if config.get("_pipeline") else model
    weights = [tensor.detach() for tensor in clf.net_.module_.state_dict().values()]
    history = [
        [epoch.get(key) for key in ("train_loss", "valid_loss")] for epoch in clf.history_.to_list()
    ]
    return {
        "weights": _digest(*[tensor.float().numpy() for tensor in weights]),
        "probabilities": _digest(model.predict_proba(X)),
        "decisions": _digest(model.decision_function(X)),
        "features": _digest(clf.transform(X)),
        "losses": _digest(np.array(history, dtype=np.float64)),
        "generator": _digest(torch.get_rng_state().numpy()),
    }


def _study(clf: Any, X: Any, y: Any) -> dict[str, str]:
    from skimbal.study import compare_losses

    study = compare_losses(
        X,
        y,
        losses=["ce", "wce", "ce+mcc", "wce+f1"],
        samplers=["uniform", "balanced"],
        estimator=clf.set_params(max_epochs=1),
        cv=2,
        n_repeats=2,
        random_state=0,
        verbose=0,
    )
    rows = [(e.loss, e.sampler, e.mean, e.low) for e in study.estimates("log_loss")]
    gains = [(d.loss, d.reference, d.mean, d.p_value) for d in study.differences()]
    return {
        "estimates": hashlib.sha256(repr(rows).encode()).hexdigest()[:16],
        "differences": hashlib.sha256(repr(gains).encode()).hexdigest()[:16],
    }


def _digest(*arrays: Any) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape} {array.dtype}".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:16]


def _run_all(only: str) -> None:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    results: dict[str, dict[str, str]] = {}
    for name, config in _configurations().items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                results[name] = _run(name, config, Path(folder))
            except Exception as error:
                results[name] = {"error": f"{type(error).__name__}: {error}"}
                print(f"{name}: {results[name]['error']}", file=sys.stderr)
    print(json.dumps(results))


if __name__ == "__main__":
    if "--run" in sys.argv:
        _run_all(sys.argv[sys.argv.index("--run") + 1])
    else:
        sys.exit(main())
