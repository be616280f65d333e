"""Time from the start of Python to the package, to its command line and to a first fit.

``python -m benchmarks.startup`` starts processes in turn, and reads their CPU time from the system.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.measuring import command_line, parse, progress, quartiles, write_report

REFERENCE = "import torch, sklearn"
IMPORTS: dict[str, Sequence[str]] = {
    REFERENCE: ["-c", REFERENCE],
    "import skimbal": ["-c", "import skimbal"],
    "from skimbal import CNN2DClassifier": ["-c", "from skimbal import CNN2DClassifier"],
    "skimbal --help": ["-m", "skimbal", "--help"],
    "skimbal fit --help": ["-m", "skimbal", "fit", "--help"],
}
#: The data of the first fit, and a network as small as the smallest built-in network.
DATA = """
import numpy as np
rng = np.random.default_rng(0)
X = rng.integers(0, 255, size=(100, 28, 28), dtype=np.uint8)
y = np.arange(100) % 5 == 0
"""
LOOP = f"""
import torch, sklearn
{DATA}
from skimbal.networks import SmallCNN
torch.set_num_threads(1)
net = SmallCNN(1, 2, (28, 28))
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, fused=True)
images = torch.from_numpy((X - X.mean()) / X.std()).float()[:, None]
labels = torch.from_numpy(y.astype(np.int64))
for epoch in range(10):
    for rows in torch.randperm(100).split(32):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
        optimizer.step()
"""
FIT = f"""
{DATA}
from skimbal import CNN2DClassifier
CNN2DClassifier(module="small", loss="ce", sampler="uniform", augment=None, max_epochs=10,
                batch_size=32, random_state=0).fit(X, y)
"""
FITS: dict[str, Sequence[str]] = {
    "loop in torch": ["-W", "ignore", "-c", LOOP],
    "first fit of CNN2DClassifier": ["-W", "ignore", "-c", FIT],
}


def seconds(arguments: Sequence[str]) -> float:
    """Run Python, and return the CPU time of the process, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(commands: dict[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Return the times of each command, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for name, arguments in commands.items():
            times[name].append(seconds(arguments))
    return times


def rows_of(times: dict[str, list[float]]) -> list[list[str]]:
    """Return a row of text for each command, with its ratio to the first."""
    reference = np.array(next(iter(times.values())))
    rows = []
    for name, found in times.items():
        low, middle, high = quartiles(np.array(found) / reference)
        rows.append([name, f"{np.median(found):.2f}", f"{middle:.2f} ({low:.2f}-{high:.2f})"])
    return rows


def main() -> None:
    args = parse(command_line(__doc__.splitlines()[0], rounds=9))
    times = {"imports": measure(IMPORTS, args.rounds), "fits": measure(FITS, args.rounds)}
    head = ["command", "CPU time, s", "ratio: median (quartiles)"]
    tables = [
        (f"Imports, and ratio to '{REFERENCE}'", head, rows_of(times["imports"])),
        ("Ten epochs on 100 images in a new process", head, rows_of(times["fits"])),
    ]
    notes = [
        f"CPU time of a new process from start to end, {args.rounds} rounds, files in the cache of "
        "the system. The loop imports torch and scikit-learn, and the network from skimbal.",
    ]
    write_report("startup", args, times, tables, notes)


if __name__ == "__main__":
    main()
