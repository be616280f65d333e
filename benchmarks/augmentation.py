"""Augmentation of whole batches against the same operations one image at a time.

``python -m benchmarks.augmentation`` applies affine maps, gamma, Gaussian blur, sigmoid contrast,
flips, the light recipe and the recipe of the paper to 64 images of 3 x 64 x 64 and to 16 volumes of
48 x 48 x 48: as batches, one image after the other with the same modules, and one after the other
with numpy and scipy. It also takes the share that the recipes have of a training step of the small
network.
"""

import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from benchmarks.measuring import (
    command_line,
    draw_ratios,
    interleaved,
    new_figure,
    parse,
    progress,
    ratio_text,
    write_report,
)
from skimbal.augmentation import (
    RandomAffine,
    RandomFlip,
    RandomGamma,
    RandomGaussianBlur,
    RandomSigmoidContrast,
    get_augmentation,
)
from skimbal.losses import get_loss
from skimbal.networks import SmallCNN
from skimbal.training import ImageDataset, StandardizedModule, TrainingNet, TrainIterator

BATCHED, LOOP, SCIPY = "skimbal, batched", "skimbal, one by one", "numpy and scipy, one by one"
KORNIA, MONAI = "kornia, batched", "MONAI, one by one"
#: In a round.
N_BATCHES, N_STEPS = 4, 4
PLAIN = "step"
AUGMENTED = {f'with augment="{name}"': name for name in ("light", "paper")}
SHAPES = {"2D": (64, 3, 64, 64), "3D": (16, 1, 48, 48, 48)}
QUICK = {"2D": (8, 3, 16, 16), "3D": (4, 1, 12, 12, 12)}
OPERATIONS = {
    "flip": RandomFlip,
    "affine": lambda: RandomAffine(p=0.5),
    "gamma": RandomGamma,
    "blur": RandomGaussianBlur,
    "sigmoid contrast": RandomSigmoidContrast,
}


def case(operation: str, n_axes: int) -> nn.Module:
    if operation in AUGMENTED.values():
        return get_augmentation(operation, n_axes)
    return OPERATIONS[operation]()


def one_by_one(module: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda images: torch.cat([module(image[None]) for image in images])


def with_scipy(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the same operations, with draws alike, on arrays."""
    rng = np.random.default_rng(0)
    steps = list(module) if isinstance(module, nn.Sequential) else [module]

    def change(image: np.ndarray, step: nn.Module) -> np.ndarray:
        axes = tuple(range(1, image.ndim))
        if isinstance(step, RandomFlip):
            return np.flip(image, [axis for axis in axes if rng.random() < step.p])
        if rng.random() >= step.p:
            return image
        if isinstance(step, RandomAffine):
            draw = step.draw_each(torch.from_numpy(image[None]))[0].numpy()
            linear, centre = draw[:, :-1], (np.array(image.shape[1:]) - 1) / 2
            offset = centre + draw[:, -1] - linear @ centre
            return np.stack(
                [
                    ndimage.affine_transform(channel, linear, offset, order=1, mode="nearest")
                    for channel in image
                ]
            )
        parameter = rng.uniform(*step.bounds)
        if isinstance(step, RandomGaussianBlur):
            return ndimage.gaussian_filter(image, parameter, axes=axes)
        low, high = image.min(axes, keepdims=True), image.max(axes, keepdims=True)
        unit = (image - low) / (high - low)
        if isinstance(step, RandomGamma):
            unit **= np.float32(parameter)
        else:
            unit = 1 / (1 + np.exp(np.float32(parameter) * (np.float32(step.cutoff) - unit)))
        return low + unit * (high - low)

    def run(images: Tensor) -> Tensor:
        result = []
        for image in images.numpy():
            for step in steps:
                image = change(image, step)
            result.append(image)
        return torch.from_numpy(np.stack(result))

    return run


def with_kornia(operation: str, n_axes: int) -> Callable[[Tensor], Tensor]:
    augmentation = importlib.import_module("kornia.augmentation")
    if operation == "flip":
        names = ["RandomVerticalFlip", "RandomHorizontalFlip", "RandomDepthicalFlip"][:n_axes]
        made = [getattr(augmentation, name + "3D" * (n_axes == 3))(p=0.5) for name in names]
        return augmentation.AugmentationSequential(*made, data_keys=["input"])
    if operation == "affine" and n_axes == 2:
        return augmentation.RandomAffine(10, (0.08,) * 2, (0.9, 1.1), padding_mode="border", p=0.5)
    if operation == "affine":
        return augmentation.RandomAffine3D((10,) * 3, (0.08,) * 3, (0.9, 1.1), p=0.5)
    if operation == "gamma" and n_axes == 2:
        return augmentation.RandomGamma(gamma=(0.5, 1.5), gain=(1.0, 1.0), p=0.5)
    if operation == "blur" and n_axes == 2:
        return augmentation.RandomGaussianBlur((13, 13), (0.1, 1.5), p=0.5)
    raise NotImplementedError(f"{operation} in {n_axes}D")


def with_monai(operation: str, size: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    transforms, n_axes = importlib.import_module("monai.transforms"), len(size)
    affine = transforms.RandAffine(
        prob=0.5,
        rotate_range=[np.deg2rad(10)] * (3 if n_axes == 3 else 1),
        translate_range=[0.08 * n for n in size],
        scale_range=[0.1] * n_axes,
        padding_mode="border",
    )
    flips = [transforms.RandFlip(prob=0.5, spatial_axis=axis) for axis in range(n_axes)]
    gamma = transforms.RandAdjustContrast(prob=0.5, gamma=(0.5, 1.5))
    sigma = {f"sigma_{axis}": (0, 1.5) for axis in "xyz"[:n_axes]}
    blur = transforms.RandGaussianSmooth(prob=0.5, **sigma)
    steps = {
        "flip": flips,
        "affine": [affine],
        "gamma": [gamma],
        "blur": [blur],
        "paper": [gamma, blur, *flips],
    }
    if operation not in steps or (operation == "paper" and n_axes == 2):
        raise NotImplementedError(f"{operation} in {n_axes}D")
    compose = transforms.Compose(steps[operation])
    return lambda images: torch.stack([compose(image) for image in images])


def contestants(operation: str, shape: tuple[int, ...]) -> tuple[dict, list[str]]:
    n_axes = len(shape) - 2
    images = torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32))
    module = case(operation, n_axes)
    functions = {BATCHED: module, LOOP: one_by_one(module), SCIPY: with_scipy(module)}
    missing = []
    peers = {
        KORNIA: lambda: with_kornia(operation, n_axes),
        MONAI: lambda: with_monai(operation, shape[2:]),
    }
    for name, make in peers.items():
        try:
            functions[name] = make()
        except ImportError:
            missing.append(name)
        except NotImplementedError:
            pass
    # Several batches a time, so that all sets of draws are about equally long.
    return {
        name: lambda function=function: [function(images) for _ in range(N_BATCHES)]
        for name, function in functions.items()
    }, missing


def time_operation(operation: str, shape: tuple[int, ...], rounds: int) -> dict:
    torch.manual_seed(0)
    runs, missing = contestants(operation, shape)
    return {"times": interleaved(runs, rounds, reference=BATCHED), "missing": missing}


def time_step(shape: tuple[int, ...], rounds: int) -> dict:
    """Take the time of a step of the small network, and of steps that augment before it."""
    n, n_channels, *spatial = shape
    rng = np.random.default_rng(0)
    rows = ImageDataset(rng.integers(0, 256, shape, dtype=np.uint8), np.arange(n) % 2)

    def run(augmentation: tuple[nn.Module, ...]) -> Callable[[], Any]:
        torch.manual_seed(0)
        net = TrainingNet(
            StandardizedModule,
            module__factory=lambda c, k: SmallCNN(c, k, spatial),
            module__in_channels=n_channels,
            module__n_classes=2,
            module__dtype=torch.float32,
            module__mean=np.full((n_channels, *[1] * len(spatial)), 127.5),
            module__std=np.full((n_channels, *[1] * len(spatial)), 74.0),
            criterion=get_loss("ce+mcc"),
            optimizer=torch.optim.Adam,
            optimizer__fused=True,
            augmentation=augmentation,
            batch_size=n,
            iterator_train=TrainIterator,
            train_split=None,
            classes=np.arange(2),
            verbose=0,
        ).initialize()
        batch = rows.batch(np.arange(n))

        def step() -> None:
            net.history.new_epoch()
            for _ in range(N_STEPS):
                net.train_step(batch)

        return step

    steps = {PLAIN: run(())}
    for name, recipe in AUGMENTED.items():
        steps[name] = run(tuple(get_augmentation(recipe, len(spatial))))
    return interleaved(steps, rounds, reference=PLAIN)


def main() -> None:
    args = parse(command_line(__doc__.splitlines()[0], rounds=7))
    shapes = QUICK if args.quick else SHAPES
    results: dict[str, Any] = {"operations": {}, "step": {}}
    missing: dict[str, str] = {}
    for name, shape in shapes.items():
        for operation in (*OPERATIONS, *AUGMENTED.values()):
            progress(f"{operation} in {name}")
            timed = time_operation(operation, shape, args.rounds)
            results["operations"][f"{operation}, {name}"] = timed["times"]
            missing.update(dict.fromkeys(timed["missing"], "not installed"))
        progress(f"training step in {name}")
        results["step"][name] = time_step(shape, args.rounds)

    sizes = {name: f"{s[0]} of {' x '.join(map(str, s[1:]))}" for name, s in shapes.items()}
    peers = list(dict.fromkeys(n for times in results["operations"].values() for n in times))
    tables = [
        (
            "CPU time for a batch (" + ", ".join(f"{k}: {v}" for k, v in sizes.items()) + ")",
            ["operation", f"{BATCHED}, milliseconds", *(f"{peer}, ratio" for peer in peers[1:])],
            [
                [
                    operation,
                    f"{times[BATCHED]['cpu_seconds'][1] / N_BATCHES * 1e3:.1f}",
                    *(
                        ratio_text(times[peer]["ratio"]) if peer in times else "-"
                        for peer in peers[1:]
                    ),
                ]
                for operation, times in results["operations"].items()
            ],
        ),
        (
            "CPU time of a training step of the small network, with ce+mcc",
            ["images", "step, milliseconds", *(f"{name}, ratio" for name in AUGMENTED)],
            [
                [
                    f"{name}: {sizes[name]}",
                    f"{times[PLAIN]['cpu_seconds'][1] / N_STEPS * 1e3:.1f}",
                    *(ratio_text(times[augmented]["ratio"]) for augmented in AUGMENTED),
                ]
                for name, times in results["step"].items()
            ],
        ),
    ]
    notes = [
        f"Process CPU time of one thread, {args.rounds} interleaved rounds of {N_BATCHES} batches "
        f"or {N_STEPS} steps: median (quartiles). Ratios are to the batched operations, or to the "
        "step without augmentation, of the same round. Every operation changes an image with "
        "probability 0.5, flips do so along every axis, and the affine map of the light recipe "
        "changes every image. The peers are the nearest operation that "
        "they have and do not compute the same: other edges, other ranges, kernels of another "
        "width.",
    ]
    versions = [
        f"{peer} {importlib.metadata.version(peer.lower())}"
        for peer in ("kornia", "MONAI")
        if any(name.startswith(peer) for name in peers)
    ]
    if versions:
        notes.append(f"Peers: {', '.join(versions)}.")
    figure, axes = new_figure(size=(9, 6))
    ratios = {
        operation: {name: times[name]["ratio"] for name in times if name != BATCHED}
        for operation, times in results["operations"].items()
    }
    draw_ratios(axes[0, 0], ratios, f"CPU time divided by that of {BATCHED} (no unit)", marks=(1,))
    axes[0, 0].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    write_report("augmentation", args, results, tables, notes, missing, figure)


if __name__ == "__main__":
    main()
