"""The time that a fit takes to write its state, against the time of its epochs.

``python -m benchmarks.resuming`` trains the defaults on data sets of ``SKIMBAL_DATA`` for some
epochs, and writes the state after each of them.
"""

import tempfile
import time
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.measuring import command_line, in_fresh_process, parse, progress, write_report
from benchmarks.medmnist import load
from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.callbacks import Resume
from skimbal.training import Resumption

CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "PneumoniaMNIST, defaults": ("pneumoniamnist_full", CNN2DClassifier, {}),
    "VesselMNIST3D, defaults": ("vesselmnist3d", CNN3DClassifier, {}),
    "PneumoniaMNIST, resnet18": ("pneumoniamnist_full", CNN2DClassifier, {"module": "resnet18"}),
}
N_EPOCHS = 4


def measure(case: str, quick: bool) -> dict[str, Any]:
    """Fit with a state after each epoch, and return times in seconds and the size of a file."""
    name, classifier, params = CASES[case]
    data = load(name)
    n_rows = 200 if quick else len(data.y_train)
    writes, sizes, write = [], [], Resumption.epoch_ended

    def timed(self: Resumption, net: Any) -> None:
        start = time.perf_counter()
        write(self, net)
        writes.append(time.perf_counter() - start)
        sizes.append(self.path.stat().st_size)

    timing = mock.patch.object(Resumption, "epoch_ended", timed)
    with tempfile.TemporaryDirectory() as folder, timing:
        callbacks = [Resume(folder, seconds=0)]
        clf = classifier(callbacks=callbacks, max_epochs=N_EPOCHS, random_state=0, **params)
        clf.fit(data.X_train[:n_rows], data.y_train[:n_rows])
    # The last epoch is not written.
    return {"write": writes[:-1], "epoch": list(clf.history_[:, "dur"]), "bytes": sizes[-1]}


def main() -> None:
    args = parse(command_line(__doc__.splitlines()[0], CASES))
    results, rows = {}, []
    for case in args.cases:
        progress(case)
        results[case] = found = in_fresh_process(measure, case, args.quick)
        write, epoch = (float(np.median(found[name])) for name in ("write", "epoch"))
        size, share = found["bytes"] / 2**20, 100 * write / epoch
        rows.append([case, f"{epoch:.2f}", f"{1000 * write:.0f}", f"{size:.1f}", f"{share:.2f}"])
    head = ["fit", "epoch, s", "write, ms", "file, MiB", "write, % of the epoch"]
    title = f"medians of {N_EPOCHS} epochs, with a state after each epoch"
    notes = ["The file is on the disk when a write has ended (fsync)."]
    write_report("resuming", args, results, [(title, head, rows)], notes)


if __name__ == "__main__":
    main()
