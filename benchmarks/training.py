"""Time of a whole training, against a tuned loop of plain torch and other libraries.

``python -m benchmarks.training`` trains the same network on the same images with each contestant
in turn, and shows that they compute the same: given the same batches, each has the losses of
skimbal. It ends with what a step costs that has next to nothing to compute.
"""

from dataclasses import replace

import numpy as np

from benchmarks.measuring import (
    command_line,
    in_fresh_process,
    interleaved,
    parse,
    picture_of_ratios,
    progress,
    quartiles,
    ratio_text,
    write_report,
)
from benchmarks.peers import (
    CASES,
    KERAS,
    LIMIT,
    SKIMBAL,
    TENSORFLOW,
    Case,
    Data,
    import_peers,
    skimbal_losses,
    training_contestants,
)

#: Steps of the comparison of losses.
CHECKED_EPOCHS, CHECKED_BATCHES = 3, 2
#: What rounding may do to the losses, relative. In float64, over all steps: far above its rounding,
#: far below any difference of method. In float32 layouts round differently, and training makes a
#: small difference grow; so the first loss alone, which comes of one forward pass.
FLOAT64_TOLERANCE, FLOAT32_TOLERANCE = 1e-9, 1e-5
NEGLIGIBLE = Case((1, 4, 4), 32, 200, 5, "negligible")
LARGER_BATCH = 256


def compare_losses(case: Case, found: dict) -> dict:
    """Return the largest relative difference of the losses to those of skimbal, by contestant."""
    case = replace(case, n_batches=CHECKED_BATCHES, epochs=CHECKED_EPOCHS)
    result: dict = {}
    for dtype in (np.float64, np.float32):
        data = Data(case, dtype)
        expected, batches = skimbal_losses(data)
        for name, train in training_contestants(data, found).items():
            if name not in (SKIMBAL, KERAS, TENSORFLOW):
                difference = np.abs(np.asarray(train(batches)()) / expected - 1)
                of_contestant = result.setdefault(name, {"steps": len(expected)})
                if dtype is np.float64:
                    of_contestant["float64"] = float(difference.max())
                else:
                    of_contestant["float32, first step"] = float(difference[0])
                    of_contestant["float32"] = float(difference.max())
    for of_contestant in result.values():
        of_contestant["equal"] = (
            of_contestant["float64"] <= FLOAT64_TOLERANCE
            and of_contestant["float32, first step"] <= FLOAT32_TOLERANCE
        )
    return result


def measure_case(name: str, rounds: int, quick: bool) -> tuple[dict, dict, dict[str, str]]:
    """Return times, differences of losses and missing peers, in a process for this case alone.

    What earlier cases leave on the heap would decide how much of the time goes to getting memory.
    """
    found, missing = import_peers()
    case = replace(CASES[name], n_batches=2, epochs=1) if quick else CASES[name]
    times = interleaved(training_contestants(Data(case), found), rounds, reference=LIMIT)
    return times, compare_losses(case, found), missing


def fixed_excess(rounds: int, quick: bool) -> dict:
    """Measure the time of a step over that of the tuned loop where there is little to compute."""
    found, _ = import_peers()
    result = {}
    for batch_size in (NEGLIGIBLE.batch_size, LARGER_BATCH):
        case = replace(NEGLIGIBLE, batch_size=batch_size, epochs=1 if quick else NEGLIGIBLE.epochs)
        data = Data(case)
        times = interleaved(training_contestants(data, found), rounds, reference=LIMIT)
        steps = case.n_batches * case.epochs
        limit = np.array(times[LIMIT]["rounds"]["cpu_seconds"])
        result[f"batch of {batch_size}"] = {
            name: {
                "microseconds a step": quartiles(1e6 / steps * np.array(seconds)),
                "excess in microseconds": quartiles(1e6 / steps * (seconds - limit)),
            }
            for name, of_contestant in times.items()
            for seconds in [np.array(of_contestant["rounds"]["cpu_seconds"])]
        }
    return result


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], CASES, rounds=7)
    args = parse(parser)
    times, losses, missing = {}, {}, {}
    for name in args.cases:
        progress(name)
        times[name], losses[name], missing = in_fresh_process(
            measure_case, name, args.rounds, args.quick
        )
    progress("fixed excess")
    excess = in_fresh_process(fixed_excess, args.rounds, args.quick)

    names = list(times[args.cases[0]])
    small, large = excess.values()
    tables = [
        (
            f"CPU time of a training, ratio to the {LIMIT}: median (quartiles)",
            ["contestant", *args.cases],
            [[name, *(ratio_text(times[case][name]["ratio"]) for case in times)] for name in names]
            + [
                [f"{name}, wall time"]
                + [ratio_text(times[case][name]["wall_ratio"]) for case in times]
                for name in names
                if name == TENSORFLOW
            ]
            + [
                [f"{LIMIT}, in seconds"]
                + [f"{times[case][LIMIT]['cpu_seconds'][1]:.2f}" for case in times]
            ],
        ),
        (
            f"Time of a step with next to nothing to compute, over that of the {LIMIT}, in "
            "microseconds: median (quartiles)",
            ["contestant", *excess],
            [
                [name]
                + [
                    "{1:.0f} ({0:.0f} to {2:.0f})".format(*of_size[name]["excess in microseconds"])
                    for of_size in (small, large)
                ]
                for name in names
            ],
        ),
        (
            "Largest relative difference of the losses to those of skimbal, given the same batches "
            f"({CHECKED_EPOCHS * CHECKED_BATCHES} steps)",
            ["contestant", "float64", "float32, first step", "float32, all steps", "equal"],
            [
                [name]
                + [
                    f"{max(losses[case][name][kind] for case in losses):.1e}"
                    for kind in ("float64", "float32, first step", "float32")
                ]
                + ["yes" if all(losses[case][name]["equal"] for case in losses) else "NO"]
                for name in losses[args.cases[0]]
            ],
        ),
    ]
    notes = [
        f"Process CPU time of one thread, {args.rounds} interleaved rounds, each case in a "
        "separate process. "
        f"The {LIMIT} has its images standardised and in their layout before the clock "
        "starts; skimbal gets raw arrays and does all its checks within the clock.",
        f"{TENSORFLOW} runs and is clocked in a separate process, which takes its turn with the "
        "others. It alone has its set-up before the clock starts: to build and trace the network "
        "takes it about a second.",
        f"Losses count as equal up to {FLOAT64_TOLERANCE:g} in float64 over all steps, and up to "
        f"{FLOAT32_TOLERANCE:g} in float32 at the first step: layouts sum up in different order, "
        "and training makes the difference grow. Keras draws its own batches and is not compared.",
    ]
    label = f"CPU time of a training, divided by that of the {LIMIT} (no unit)"
    figure = picture_of_ratios(times, [SKIMBAL, *names[1:-1]], label, goal=1.05)
    write_report(
        "training",
        args,
        {"times": times, "losses": losses, "excess": excess},
        tables,
        notes,
        missing,
        figure,
    )


if __name__ == "__main__":
    main()
