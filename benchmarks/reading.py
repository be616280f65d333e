"""How fast image files are read, how long training waits for them, and in how much memory.

``python -m benchmarks.reading`` writes its files into a temporary folder, of which it needs about
2 GB. They are read again and again, so they come from the memory of the operating system: what is
measured is decoding, not a disk.
"""

import io
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import tifffile
import zarr
from PIL import Image
from torch import nn

from benchmarks.measuring import (
    PLAIN,
    command_line,
    in_fresh_process,
    interleaved,
    memory_in_use,
    parse,
    progress,
    ratio_text,
    write_report,
)
from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.images import ImageFiles
from skimbal.training import ImageDataset, TrainIterator

#: Of the files whose reading is timed: number, and shape of an image.
TIMED = {
    "PNG": (200, (512, 512)),
    "TIFF": (200, (512, 512)),
    "NIfTI": (40, (96, 96, 96)),
}
#: Ends of the names of the files.
_SUFFIXES = {"PNG": ".png", "TIFF": ".tif", "NIfTI": ".nii.gz"}
WORKERS = (0, 1, 2)
BATCH_SIZE = 10
N_FILES = 20_000
FILE_SHAPE = (320, 320)
VOLUME_SHAPE = (128, 128, 128)
LIMIT = 1.5 * 2**30


def blocks(rng: np.random.Generator, shape: tuple[int, ...], noise: int = 8) -> np.ndarray:
    """Draw an image that compresses like one of tissue: blocks of a grey with a little noise."""
    coarse = rng.integers(40, 200, [n // 16 for n in shape])
    fine = np.kron(coarse, np.ones((16,) * len(shape), int))
    return (fine + rng.integers(0, noise, shape)).astype(np.uint8)


def write(kind: str, folder: Path, n: int, shape: tuple[int, ...]) -> list[str]:
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{i}{_SUFFIXES[kind]}") for i in range(n)]
    for path in paths:
        if kind == "TIFF":  # as scanners and ImageJ write them, pixels in strips
            tifffile.imwrite(path, blocks(rng, shape), compression="zlib")
        elif kind == "PNG":
            Image.fromarray(blocks(rng, shape)).save(path)
        else:
            nibabel.save(nibabel.Nifti1Image(blocks(rng, shape), np.eye(4)), path)
    return paths


def plain_loop(library: str, paths: list[str]) -> Callable[[], None]:
    """Open each file with pillow, tifffile or nibabel, and make an array of it."""

    def read() -> None:
        for path in paths:
            if library == "tifffile":
                tifffile.imread(path)
            elif library == "pillow":
                with Image.open(path) as picture:
                    np.asarray(picture)
            else:
                np.asarray(nibabel.load(path).dataobj)

    return read


def batches(X: ImageFiles, num_workers: int = 0) -> Callable[[], None]:
    def read() -> None:
        data = ImageDataset(X, np.arange(len(X)) % 2)
        for _ in TrainIterator(data, BATCH_SIZE, num_workers=num_workers):
            pass

    return read


def without_isal(read: Callable[[], None]) -> Callable[[], None]:
    """Let zlib inflate .nii.gz, as it does where isal is not installed."""

    def read_by_zlib() -> None:
        with mock.patch.dict(sys.modules, {"isal.isal_zlib": None}):
            read()

    return read_by_zlib


def reading(kind: str, paths: list[str], cache: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Time a pass over all files by each way, in turns."""
    X = ImageFiles(paths)
    half = tuple(n // 2 for n in X.shape[1:])
    contestants = {
        "plain loop": plain_loop("nibabel" if kind == "NIfTI" else "pillow", paths),
        **({"plain loop of tifffile": plain_loop("tifffile", paths)} if kind == "TIFF" else {}),
        **{f"batches, num_workers={n}": batches(X, n) for n in WORKERS},
        **({"batches, without isal": without_isal(batches(X))} if kind == "NIfTI" else {}),
        "resampled to half the size": batches(ImageFiles(paths, size=half)),
        "cache in memory": batches(ImageFiles(paths, cache="memory")),
        "cache in a folder": batches(ImageFiles(paths, cache=cache)),
        "headers alone": lambda: ImageFiles(paths) and None,
    }
    return interleaved(contestants, rounds, reference="plain loop")


class WaitingIterator(TrainIterator):
    """A TrainIterator that measures how long its user waits for a batch."""

    waited = 0.0

    def __iter__(self) -> Iterator[Any]:
        iterator = super().__iter__()
        while True:
            start = time.perf_counter()
            batch = next(iterator, None)
            WaitingIterator.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch


def waiting(kind: str, paths: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Measure the share of an epoch that training waits for files, for each number of threads."""
    whole = ImageFiles(paths).shape[1:]
    X = ImageFiles(paths, size=tuple(n // 4 for n in whole), dtype="float32")
    y = np.arange(len(paths)) % 2
    make = CNN3DClassifier if kind == "NIfTI" else CNN2DClassifier
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for n in WORKERS:
            WaitingIterator.waited = 0.0
            net = {"iterator_train": WaitingIterator, "iterator_train__num_workers": n}
            clf = make(
                **PLAIN,
                max_epochs=1,
                batch_size=BATCH_SIZE,
                standardize=False,
                net={"module__width": 16, **net},
            )
            clf.fit(X, y)
            found.setdefault(str(n), []).append((WaitingIterator.waited, clf.history_[-1, "dur"]))
    return {
        n: {
            "epoch seconds": float(np.median([epoch for _, epoch in times])),
            "share waited": float(np.median([waited / epoch for waited, epoch in times])),
        }
        for n, times in found.items()
    }


def averages(in_channels: int, n_classes: int, n_axes: int) -> nn.Module:
    """Make a network that takes no time, so that reading is all there is."""
    pool = nn.AdaptiveAvgPool2d(4) if n_axes == 2 else nn.AdaptiveAvgPool3d(4)
    return nn.Sequential(pool, nn.Flatten(), nn.Linear(in_channels * 4**n_axes, n_classes))


def network_2d(in_channels: int, n_classes: int) -> nn.Module:
    return averages(in_channels, n_classes, 2)


def network_3d(in_channels: int, n_classes: int) -> nn.Module:
    return averages(in_channels, n_classes, 3)


def fit_on_files(folder: str, n: int) -> dict[str, float]:
    """Write files, then fit and predict on them; in a separate process."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(100):  # to draw and encode each anew would take longer than all else
        stream = io.BytesIO()
        Image.fromarray(blocks(rng, FILE_SHAPE, noise=1)).save(stream, "PNG")
        contents.append(stream.getvalue())
    paths = [Path(folder, f"{i}.png") for i in range(n)]
    for i, path in enumerate(paths):
        path.write_bytes(contents[i % 100])
    before, start = memory_in_use("VmRSS"), time.perf_counter()
    X = ImageFiles(paths)
    header_seconds = time.perf_counter() - start
    return {"header seconds": header_seconds, **fitted(CNN2DClassifier, network_2d, X, before)}


def fit_on_zarr(folder: str, gib: float) -> dict[str, float]:
    """Write an array of volumes, then fit and predict on it; in a separate process."""
    n = max(8, round(gib * 2**30 / np.prod(VOLUME_SHAPE)))
    X = zarr.create_array(
        Path(folder, "X.zarr"), shape=(n, *VOLUME_SHAPE), chunks=(1, *VOLUME_SHAPE), dtype="u1"
    )
    ramp = np.broadcast_to(np.arange(128, dtype=np.uint8), VOLUME_SHAPE)
    for i in range(n):  # which compresses to next to nothing
        X[i] = ramp + np.uint8(i % 100)
    return fitted(CNN3DClassifier, network_3d, X, memory_in_use("VmRSS"))


def fitted(make: Any, network: Any, X: Any, before: int) -> dict[str, float]:
    y = np.arange(X.shape[0]) % 2
    start = time.perf_counter()
    params = {**PLAIN, "module": network, "max_epochs": 1, "batch_size": 16, "random_state": 0}
    clf = make(**params).fit(X, y)
    seconds = time.perf_counter() - start
    clf.predict(X)
    return {
        "images": X.shape[0],
        "decoded bytes": float(np.prod(X.shape, dtype=float) * np.dtype(X.dtype).itemsize),
        "fit seconds": seconds,
        "fit and predict seconds": time.perf_counter() - start,
        "resident before bytes": before,
        "resident peak bytes": memory_in_use("VmHWM"),
    }


def main() -> None:
    parser = command_line(__doc__.splitlines()[0], [*TIMED, "many files", "zarr"], rounds=5)
    parser.add_argument("--files", type=int, help=f"of the fit on many; default {N_FILES:,}")
    parser.add_argument("--zarr-gib", type=float, help="size of the zarr array, in GiB; default 8")
    parser.add_argument("--disturbed", action="store_true", help="say that other work was running")
    args = parse(parser)
    n_files = args.files or (200 if args.quick else N_FILES)
    gib = args.zarr_gib or (0.05 if args.quick else 8)
    results: dict[str, Any] = {"reading": {}, "waiting": {}, "memory": {}}
    tables = []
    for kind in [case for case in args.cases if case in TIMED]:
        n, shape = TIMED[kind]
        n = 20 if args.quick else n
        with tempfile.TemporaryDirectory() as folder:
            progress(f"{kind}: {n} files")
            paths = write(kind, Path(folder), n, shape)
            times = reading(kind, paths, str(Path(folder, "cache")), args.rounds)
            waits = waiting(kind, paths, args.rounds)
        results["reading"][kind], results["waiting"][kind] = times, waits
        size = " x ".join(map(str, shape))
        rows = [
            [name, f"{n / of['wall_seconds'][1]:,.0f}", ratio_text(of["wall_ratio"])]
            for name, of in times.items()
        ]
        head = ["", "files a second", "time, ratio to the plain loop"]
        tables.append((f"{kind}: {n} files of {size}, uint8", head, rows))
        rows = [
            [name, f"{of['epoch seconds']:.2f}", f"{of['share waited']:.0%}".replace("%", " %")]
            for name, of in waits.items()
        ]
        head = ["num_workers", "epoch, s", "of it waiting for files"]
        tables.append((f"{kind}: an epoch in batches of {BATCH_SIZE}", head, rows))
    for case, fit, size in (("many files", fit_on_files, n_files), ("zarr", fit_on_zarr, gib)):
        if case not in args.cases:
            continue
        progress(f"{case}: {size}")
        folder = tempfile.mkdtemp()
        try:
            results["memory"][case] = in_fresh_process(fit, folder, size)
        finally:
            shutil.rmtree(folder)
    rows = [
        [
            case,
            f"{of['images']:,.0f}",
            f"{of['decoded bytes'] / 2**30:.2f}",
            f"{of['fit seconds']:.0f}",
            f"{of['resident before bytes'] / 2**20:.0f}",
            f"{of['resident peak bytes'] / 2**20:.0f}",
            "yes" if of["resident peak bytes"] < LIMIT else "NO",
        ]
        for case, of in results["memory"].items()
    ]
    head = ["", "images", "decoded, GiB", "fit, s", "resident before, MiB", "peak, MiB"]
    tables.append(("Larger than memory", [*head, "below 1.5 GiB"], rows))
    notes = [
        "Medians of the rounds, with the quartiles of the ratios. The ways take turns. All files "
        "are in the memory of the operating system. The plain loop opens each file with pillow or "
        "nibabel and makes an array of it, without a check. The TIFF files are compressed by "
        "deflate. skimbal reads them with tifffile, and the plain loop with pillow. Batches of "
        ".nii.gz are inflated by isal, or without it by zlib, and the checksum is compared.",
        "An epoch trains the built-in network with width 16 on images that are resampled to a "
        "quarter of their size along each axis, with one thread of torch.",
        "Other work was running on the machine, which disturbs the times, above all the times "
        "of several threads." * args.disturbed,
        "Larger than memory: one epoch and the prediction of all images, in a separate process, "
        "with a network that only averages, so that reading is the work. The peak counts the whole "
        "process, python and torch included. Of the many files 100 differ in content.",
    ]
    write_report("reading", args, results, tables, [note for note in notes if note])


if __name__ == "__main__":
    main()
