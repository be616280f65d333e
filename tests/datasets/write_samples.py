"""Writes the samples of MedMNIST that the package holds.

``SKIMBAL_DATA=FOLDER python -m tests.datasets.write_samples`` reads two files in sub-folders of
FOLDER and writes ``skimbal/datasets/medmnist-samples``. Each part has the first images of
each class in the same part of the file, in the order of the file, without images whose pixels an
earlier image has.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

import skimbal.datasets

SAMPLES = Path(skimbal.datasets.__file__).parent / "medmnist-samples"
#: Parts in the order of their choice: a copy of a test image leaves the training part.
ORDER = ("test", "val", "train")


class Source(NamedTuple):
    """A file, its md5 sum, and the number of images of each class that are taken from a part."""

    file: str
    md5: str
    counts: dict[str, tuple[int, int]]


SOURCES = {
    "pneumoniamnist": Source(
        "pneumoniamnist_full_rebuilt.npz",
        "238a40f8f78b9a61dfdd21e86aac35f9",
        {"train": (45, 225), "val": (15, 75), "test": (30, 150)},
    ),
    "vesselmnist3d": Source(
        "vesselmnist3d.npz",
        "b41fd4f7e7e2feedddb201585ecafa1b",
        {"train": (240, 30), "val": (80, 10), "test": (160, 20)},
    ),
}


def first_rows(images, labels, counts, seen):
    """Return the first row numbers of each class, and add the pixels of their images to seen."""
    left, rows = list(counts), []
    for row, (image, label) in enumerate(zip(images, labels.ravel(), strict=True)):
        if left[label] and image.tobytes() not in seen:
            seen.add(image.tobytes())
            left[label] -= 1
            rows.append(row)
    if any(left):
        raise ValueError(f"the file has too few images: {left} of each class are missing")
    return np.array(rows)


def draw(name, folder):
    """Return the arrays of a sample: images, labels and the row numbers in the file."""
    source = SOURCES[name]
    (path,) = Path(folder).glob(f"*/{source.file}")
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if md5 != source.md5:
        raise ValueError(f"{path} must have the md5 sum {source.md5}; got {md5}")
    seen, arrays = set(), {}
    with np.load(path) as file:
        for part in ORDER:
            images, labels = file[f"{part}_images"], file[f"{part}_labels"]
            rows = first_rows(images, labels, source.counts[part], seen)
            arrays |= {
                f"{part}_images": images[rows],
                f"{part}_labels": labels[rows],
                f"{part}_rows": rows.astype(np.uint16),
            }
    return arrays


if __name__ == "__main__":
    for name in SOURCES:
        path = SAMPLES / f"{name}.npz"
        np.savez_compressed(path, **draw(name, os.environ["SKIMBAL_DATA"]))
        print(f"{path}: {path.stat().st_size:,} bytes")
