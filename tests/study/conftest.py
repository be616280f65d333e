"""Data that the tests of studies share."""

import numpy as np
import pytest

from skimbal.datasets import load_imbalanced_digits
from skimbal.study import compare_losses
from tests.plain import plain


@pytest.fixture(scope="session")
def digits():
    return load_imbalanced_digits()


@pytest.fixture(scope="session")
def small(digits):
    """Few images of three classes: 60, 20 and 20."""
    rows = np.concatenate(
        [np.flatnonzero(digits.y_train == k)[:n] for k, n in enumerate((60, 20, 20))]
    )
    return digits.X_train[rows], digits.y_train[rows]


@pytest.fixture(scope="session", params=["small", pytest.param("digits", marks=pytest.mark.slow)])
def study(request, digits, small):
    """Real fits on few images, with labels that are text."""
    is_small = request.param == "small"
    X, y = small if is_small else (digits.X_train, digits.y_train)
    return compare_losses(
        X,
        np.array(digits.target_names)[y],
        losses=["ce", "ce+mcc"],
        samplers=["balanced"] if is_small else None,
        estimator=plain(max_epochs=2),
        cv=2,
        random_state=0,
        verbose=0,
    )
