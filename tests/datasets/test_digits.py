"""The embedded data set."""

import numpy as np
import pytest

from skimbal.datasets import load_imbalanced_digits
from tests.datasets.data import KEYS, SPLITS


def test_digits_have_the_stated_classes_and_counts():
    digits = load_imbalanced_digits()
    assert set(digits) == KEYS
    assert digits.target_names == ["other", "eight", "nine"]
    assert digits.ndim == 2
    assert digits.filename is None
    counts = {"train": [432, 43, 43], "val": [108, 11, 11], "test": [180, 18, 18]}
    for split, count in counts.items():
        X, y = digits[f"X_{split}"], digits[f"y_{split}"]
        assert X.shape == (sum(count), 8, 8)
        assert X.dtype == np.uint8
        assert X.max() == 16
        assert y.dtype == np.int64
        np.testing.assert_array_equal(np.bincount(y), count)
        assert str(count) in digits.DESCR


def test_digits_depend_on_random_state_only():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (load_imbalanced_digits(random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_array_equal(one.X_train, same.X_train)
    np.testing.assert_array_equal(one.y_test, same.y_test)
    assert not np.array_equal(one.X_train, other.X_train)


def test_digits_of_one_split_are_in_no_other():
    digits = load_imbalanced_digits()
    seen = [{image.tobytes() for image in digits[f"X_{split}"]} for split in SPLITS]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 864


def test_digits_imbalance():
    for imbalance, rare in ((5, 144), (36, 20)):
        digits = load_imbalanced_digits(imbalance=imbalance)
        y = np.concatenate([digits[f"y_{split}"] for split in SPLITS])
        np.testing.assert_array_equal(np.bincount(y), [720, rare, rare])
    for imbalance in (4.9, 37, np.nan):
        with pytest.raises(ValueError, match=rf"imbalance.*5 to 36.*{imbalance}"):
            load_imbalanced_digits(imbalance=imbalance)
