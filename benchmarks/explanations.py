"""Share of the maps of explanations whose maximum lies inside a planted lesion.

``python -m benchmarks.explanations`` fits the default network to noise with a dark block, and with
a bright block in one of the classes, in 2D and 3D with three seeds. It explains right predictions
by each method, and by Grad-CAM of each layer, with trained and with random weights.
"""

from collections import defaultdict

import numpy as np
import torch

from benchmarks.measuring import command_line, parse, progress, write_report
from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.explanation import METHODS, explain

#: Classifier, size of images and lesions, number of training images and of lesions to explain.
CASES = {
    "28 x 28": (CNN2DClassifier, (28, 28), 6, 200, 20),
    "14 x 14 x 14": (CNN3DClassifier, (14, 14, 14), 5, 100, 10),
}
LAYERS = ("stem.0", "stem.1", "stem.2", "stages.0", "stages.1", "stages.2")
#: Lesions to explain with random weights, and draws of the weights.
N_RANDOM, DRAWS = 5, 3


def lesions(n: int, shape: tuple[int, ...], size: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return images, classes and a mask of the lesions."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, *shape)).astype(np.float32), np.arange(n) % 2
    inside = np.zeros(X.shape, dtype=bool)
    for i in range(n):
        dark, bright = ([rng.integers(0, axis - size + 1) for axis in shape] for _ in range(2))
        X[(i, *(slice(first, first + size) for first in dark))] -= 3
        if y[i]:
            place = (i, *(slice(first, first + size) for first in bright))
            inside[place] = True
            X[place] = 3 + rng.normal(size=X[place].shape)
    return X, y, inside


def redraw(clf: CNN2DClassifier | CNN3DClassifier, seed: int) -> None:
    torch.manual_seed(seed)
    for layer in clf.net_.module_.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()


def measure_case(case: str, seed: int) -> dict[str, list[float]]:
    """Return the shares of hits by method or layer, one with trained weights, others random."""
    classifier, shape, size, n, n_lesions = CASES[case]
    params = {"module": "residual", "max_epochs": 15, "batch_size": 20, "augment": None}
    clf = classifier(**params, random_state=seed).fit(*lesions(n, shape, size, seed)[:2])
    X, y, inside = lesions(2 * n_lesions, shape, size, 100 + seed)
    right = (y == 1) & (clf.predict(X) == y)
    X, inside = X[right], inside[right].reshape(right.sum(), -1)
    options = {method: {"method": method} for method in METHODS}
    options |= {layer: {"layer": layer} for layer in LAYERS}
    shares = defaultdict(list)
    for draw in range(-1, DRAWS):
        if draw >= 0:
            redraw(clf, draw)
        n_maps = len(X) if draw < 0 else N_RANDOM
        for name, option in options.items():
            maps = explain(clf, X[:n_maps], target=1, **option).reshape(n_maps, -1)
            shares[name].append(float(inside[np.arange(n_maps), maps.argmax(1)].mean()))
    return dict(shares)


def main() -> None:
    args = parse(command_line(__doc__.splitlines()[0], CASES))
    results: dict[str, dict[str, list[list[float]]]] = {}
    for case in args.cases:
        results[case] = defaultdict(list)
        for seed in range(1 if args.quick else 3):
            progress(f"{case}, seed {seed}")
            for name, shares in measure_case(case, seed).items():
                results[case][name].append(shares)
    head = ["method, or layer of Grad-CAM", "trained, each fit", "random weights, mean and range"]
    tables = []
    for case, found in results.items():
        rows = []
        for name, fits in found.items():
            random = np.array(fits)[:, 1:]
            trained = ", ".join(f"{fit[0]:.2f}" for fit in fits)
            rows.append(
                [name, trained, f"{random.mean():.2f} ({random.min():.2f} to {random.max():.2f})"]
            )
        tables.append((f"Share of maxima inside the lesion, images of {case}", head, rows))
    write_report("explanations", args, results, tables)


if __name__ == "__main__":
    main()
