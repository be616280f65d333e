"""Arrays, keys and checks that the tests of data sets share."""

import numpy as np

SPLITS = ("train", "val", "test")


KEYS = {f"{kind}_{split}" for kind in "Xy" for split in SPLITS} | {
    "classes",
    "target_names",
    "ndim",
    "name",
    "filename",
    "origin",
    "DESCR",
    "license",
    "citation",
}


def make_arrays(shape=(6, 5), **replaced):
    rng = np.random.default_rng(0)
    arrays = {}
    for split in SPLITS:
        arrays[f"{split}_images"] = rng.integers(0, 256, (8, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array([[0], [1], [2], [1]] * 2, dtype=np.uint8)
    arrays.update(replaced)
    return {key: array for key, array in arrays.items() if array is not None}


def check_one_line(error, *parts):
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text
