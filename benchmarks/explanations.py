"""Share of the maps of explanations whose maximum lies inside a planted lesion.

``python -m benchmarks.explanations`` fits the default network to noise with a dark block, and with
a bright block in one of the classes, in 2D and 3D with three seeds. It explains right predictions
by each method, and by Grad-CAM of each layer, with trained and with random weights. It also fits
networks with both normalisations to larger images, and networks of slices to volumes. With
``--cases`` it measures some of them, and keeps the results of the others.
"""

import json
import warnings
from collections import defaultdict

import numpy as np
import torch

from benchmarks.measuring import Table, command_line, parse, progress, write_report
from skimbal import CNN2DClassifier, CNN3DClassifier, SliceNet
from skimbal.explanation import METHODS, explain, find_layer

#: Classifier, size of images and lesions, number of training images and of lesions to explain.
CASES = {
    "28 x 28": (CNN2DClassifier, (28, 28), 6, 200, 20),
    "14 x 14 x 14": (CNN3DClassifier, (14, 14, 14), 5, 100, 10),
}
LAYERS = ("stem.0", "stem.1", "stem.2", "stages.0", "stages.1", "stages.2")
#: Lesions to explain with random weights, and draws of the weights.
N_RANDOM, DRAWS = 5, 3

#: Size of images and lesions, number of training images and of lesions to explain, epochs.
LARGE = ((48, 48), 10, 400, 12, 12)
VOLUMES = ((10, 16, 16), 5, 240, 12, 20)
#: The networks, by norm, that are fitted to large images, and their parameters.
NETWORKS = {
    f"{module}, width {width}, {norm} norm": {
        "module": module,
        "net": {"module__norm": norm, "module__width": width},
    }
    for module, width in [
        ("small", 24),
        ("residual", 8),
        ("residual", 16),
        ("resnet18", 8),
        ("resnet18", 16),
    ]
    for norm in ("group", "batch")
}
SLICES = {
    f'SliceNet("small", pooling="{pooling}")': {"module": SliceNet("small", pooling=pooling)}
    for pooling in ("attention", "max")
}
EARLY = ("stem", "stages.0", "stages.1")


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
            maps = explain(clf, X[:n_maps], target=1, **option)
            shares[name].append(share_inside(maps, inside))
    return dict(shares)


def share_inside(maps: np.ndarray, inside: np.ndarray) -> float:
    """Return the share of maps whose maximum lies inside a lesion."""
    return float(inside[np.arange(len(maps)), maps.reshape(len(maps), -1).argmax(1)].mean())


def measure_network(network: str, seed: int) -> dict[str, object]:
    """Return the accuracy of a fit, the layer by the rule, and shares of hits."""
    in_planes = network in NETWORKS
    shape, size, n, n_lesions, max_epochs = LARGE if in_planes else VOLUMES
    classifier = CNN2DClassifier if in_planes else CNN3DClassifier
    params = NETWORKS[network] if in_planes else SLICES[network]
    params = {"max_epochs": max_epochs, "batch_size": 20, "augment": None, **params}
    clf = classifier(**params, random_state=seed).fit(*lesions(n, shape, size, seed)[:2])
    X, y, inside = lesions(2 * n_lesions, shape, size, 100 + seed)
    is_right = clf.predict(X) == y
    right = (y == 1) & is_right
    X, inside = X[right], inside[right].reshape(right.sum(), -1)
    options = {method: {"method": method} for method in METHODS}
    if in_planes and params["module"] != "small":
        options |= {layer: {"layer": layer} for layer in EARLY}
    found: dict[str, object] = {"accuracy": float(is_right.mean()), "layer": find_layer(clf)}
    for name, option in options.items():
        found[name] = share_inside(explain(clf, X, target=1, **option), inside)
    return found


def table_of_layers(case: str, found: dict[str, list[list[float]]]) -> Table:
    """Make the table of the default network: methods and layers, trained and random weights."""
    head = ["method, or layer of Grad-CAM", "trained, each fit", "random weights, mean and range"]
    rows = []
    for name, fits in found.items():
        random = np.array(fits)[:, 1:]
        trained = ", ".join(f"{fit[0]:.2f}" for fit in fits)
        rows.append(
            [name, trained, f"{random.mean():.2f} ({random.min():.2f} to {random.max():.2f})"]
        )
    return f"Share of maxima inside the lesion, images of {case}", head, rows


def table_of_networks(results: dict[str, dict[str, list]]) -> Table:
    """Make the table of the other networks: methods and layers, each fit."""
    names = ("accuracy", *METHODS, *EARLY)
    head = ["network", "layer by the rule", *names]
    rows = [
        [
            network,
            ", ".join(dict.fromkeys(found["layer"])),
            *(", ".join(f"{share:.2f}" for share in found.get(name, [])) for name in names),
        ]
        for network, found in results.items()
    ]
    size = " x ".join(map(str, LARGE[0]))
    volume = " x ".join(map(str, VOLUMES[0]))
    title = (
        f"Share of maxima inside the lesion, images of {size}, and volumes of {volume} in slices"
    )
    return f"{title}. Each number is a fit", head, rows


def main() -> None:
    # What they say of a layer is measured here.
    warnings.filterwarnings("ignore", "The maps by 'gradcam' at the layer")
    args = parse(command_line(__doc__.splitlines()[0], [*CASES, *NETWORKS, *SLICES]))
    path = args.output / "explanations.json"
    kept = json.loads(path.read_text())["results"] if path.exists() else {}
    results: dict[str, dict[str, list]] = {}
    for case in (*CASES, *NETWORKS, *SLICES):
        if case not in args.cases:
            results |= {case: kept[case]} if case in kept else {}
            continue
        measure = measure_case if case in CASES else measure_network
        results[case] = defaultdict(list)
        for seed in range(1 if args.quick else 3):
            progress(f"{case}, seed {seed}")
            for name, found in measure(case, seed).items():
                results[case][name].append(found)
    tables = [table_of_layers(case, found) for case, found in results.items() if case in CASES]
    others = {case: found for case, found in results.items() if case not in CASES}
    write_report("explanations", args, results, [*tables, table_of_networks(others)])


if __name__ == "__main__":
    main()
