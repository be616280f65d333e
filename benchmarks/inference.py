"""Time of predicting probabilities, against plain torch with folded normalisation.

``python -m benchmarks.inference`` fits skimbal's classifier, carries its weights to the other
contestants, shows that all give the same probabilities, and lets them predict in turn.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from benchmarks.measuring import (
    Timed,
    command_line,
    in_fresh_process,
    interleaved,
    parse,
    picture_of_ratios,
    progress,
    ratio_text,
    write_report,
)
from benchmarks.peers import (
    CASES,
    KERAS,
    LIGHTNING,
    SKIMBAL,
    TENSORFLOW,
    Case,
    Data,
    fold,
    import_peers,
    keras_prediction,
    lightning_prediction,
    skorch_prediction,
    torch_prediction,
    train_skimbal,
)

LIMIT = "folded limit"
#: Block sizes that the limit is tried with, in samples, and blocks of the largest to predict.
BLOCKS = {
    "2D 28x28x3 b32": ((64, 256, 1024), 4),
    "2D 64x64x3 b32": ((16, 64, 256), 4),
    "2D 128x128x3 b16": ((4, 16, 64), 4),
    "3D 28x28x28x1 b16": ((8, 32, 128), 4),
    "3D 64x64x64x1 b4": ((1, 4, 16), 2),
    "resnet18 2D 64x64x3 b32": ((16, 64, 256), 4),
    "resnet18 3D 32x32x32x1 b8": ((4, 16, 64), 4),
}
#: Probabilities may differ by this, absolute: float32 and the order of sums.
TOLERANCE = 1e-5


def trained(case: Case) -> tuple[object, dict, Data]:
    """Fit a classifier for a few steps; return it, the weights of its network, and its data."""
    built: list[nn.Module] = []

    def factory(in_channels: int, n_classes: int) -> nn.Module:
        built.append(case.build(in_channels, n_classes))
        return built[-1]

    data = Data(replace(case, n_batches=4, epochs=2))
    classifier = train_skimbal(data, module=factory)
    return classifier, built[-1].state_dict(), data


def contestants_for(
    case: Case, n: int, found: dict
) -> tuple[Callable[[int], Callable], Callable[[int], dict[str, Callable]]]:
    """Return what makes the limit, and what makes all contestants, for a size of block."""
    classifier, weights, data = trained(case)
    X = 100 + 20 * np.random.default_rng(1).standard_normal((n, *case.shape), dtype=np.float32)
    images = torch.from_numpy((X - data.mean) / data.std)
    images_last = images.movedim(1, -1).contiguous()

    def network() -> nn.Module:
        network = data.network()
        network.load_state_dict(weights)
        return network.eval()

    def limit(block: int) -> Callable:
        return torch_prediction(fold(network()), images_last, block, case.ndim)

    def everyone(block: int) -> dict[str, Callable]:
        contestants = {
            LIMIT: limit(block),
            "torch, not folded": torch_prediction(network(), images_last, block, case.ndim),
            "torch, contiguous": torch_prediction(network(), images, block, None),
            "skorch": skorch_prediction(network(), images, data.y, block),
        }
        if LIGHTNING in found:
            contestants[LIGHTNING] = lightning_prediction(
                found[LIGHTNING], network(), images, block
            )
        if KERAS in found:
            contestants[KERAS] = keras_prediction(
                found[KERAS], network(), case.shape, images_last, block
            )
        if TENSORFLOW in found:
            contestants[TENSORFLOW] = found[TENSORFLOW].prediction(
                network(), case.shape, images_last, block
            )
        contestants[SKIMBAL] = lambda: classifier.predict_proba(X)
        return contestants

    return limit, everyone


def measure_case(name: str, rounds: int, quick: bool) -> tuple[dict, dict, dict, dict[str, str]]:
    """Return times, blocks, differences and missing peers, in a process for this case alone.

    What earlier cases leave on the heap would decide how much of the time goes to getting memory.
    """
    found, missing = import_peers()
    sizes, repeats = BLOCKS[name]
    n = sizes[-2] * 2 if quick else sizes[-1] * repeats
    limit, everyone = contestants_for(CASES[name], n, found)
    trials = interleaved(
        {str(size): limit(size) for size in sizes}, min(3, rounds), reference=str(sizes[0])
    )
    seconds = {size: trials[str(size)]["cpu_seconds"][1] for size in sizes}
    best = min(seconds, key=seconds.get)
    contestants = everyone(best)
    expected, differences = contestants[LIMIT](), {}
    for other, predict in contestants.items():
        if other != LIMIT:
            found_by_other = predict()
            if isinstance(found_by_other, Timed):
                found_by_other = found_by_other.result
            differences[other] = float(np.abs(found_by_other - expected).max())
    times = interleaved(contestants, rounds, reference=LIMIT)
    return times, {"samples": n, "tried": seconds, "chosen": best}, differences, missing


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], CASES, rounds=7)
    args = parse(parser)
    times, blocks, differences, missing = {}, {}, {}, {}
    for name in args.cases:
        progress(name)
        times[name], blocks[name], differences[name], missing = in_fresh_process(
            measure_case, name, args.rounds, args.quick
        )

    names = list(times[args.cases[0]])
    largest = {other: max(differences[case][other] for case in differences) for other in names[1:]}
    tables = [
        (
            f"CPU time of predict_proba, ratio to the {LIMIT}: median (quartiles)",
            ["contestant", *args.cases],
            [[name, *(ratio_text(times[case][name]["ratio"]) for case in times)] for name in names]
            + [
                [f"{name}, wall time"]
                + [ratio_text(times[case][name]["wall_ratio"]) for case in times]
                for name in names
                if name == TENSORFLOW
            ]
            + [
                [f"{LIMIT}, in microseconds a sample"]
                + [
                    f"{1e6 * times[case][LIMIT]['cpu_seconds'][1] / blocks[case]['samples']:.0f}"
                    for case in times
                ],
                ["block of the limit, in samples"]
                + [
                    f"{of['chosen']} of {', '.join(map(str, of['tried']))}"
                    for of in blocks.values()
                ],
            ],
        ),
        (
            f"Largest difference of a probability to that of the {LIMIT}",
            ["contestant", "difference", "equal"],
            [
                [other, f"{difference:.1e}", "yes" if difference <= TOLERANCE else "NO"]
                for other, difference in largest.items()
            ],
        ),
    ]
    notes = [
        f"Process CPU time of one thread, {args.rounds} interleaved rounds, each case in a "
        "separate process. "
        f"The {LIMIT}: channels last, inference mode, normalisation put into the "
        "convolutions, the best of three sizes of blocks, which all but skimbal take over; its "
        "images are standardised and in their layout before the clock starts, skimbal gets raw "
        "arrays and checks them.",
        f"{TENSORFLOW} runs and is clocked in a separate process, which takes its turn with the "
        "others.",
        f"Probabilities count as equal up to {TOLERANCE:g}, absolute.",
    ]
    label = f"CPU time of predict_proba, divided by that of the {LIMIT} (no unit)"
    figure = picture_of_ratios(times, [SKIMBAL, *names[1:-1]], label, goal=1.1)
    write_report(
        "inference",
        args,
        {"times": times, "blocks": blocks, "differences": differences, "tolerance": TOLERANCE},
        tables,
        notes,
        missing,
        figure,
    )


if __name__ == "__main__":
    main()
