"""Every test draws without a screen, and leaves global state unchanged."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def global_state():
    """Every test draws without a screen, and leaves matplotlib's and numpy's state as it was."""
    plt.switch_backend("agg")
    plt.close("all")
    parameters = matplotlib.rcParams.copy()
    generator = np.random.get_state()  # noqa: NPY002
    yield
    plt.close("all")
    assert matplotlib.rcParams == parameters
    np.testing.assert_equal(np.random.get_state(), generator)  # noqa: NPY002


@pytest.fixture
def images(rng):
    y = np.repeat(["other", "eight", "nine"], [40, 12, 8])
    X = rng.normal(size=(60, 4, 4))
    X[y == "eight", :2] += 1.0
    X[y == "nine", 2:] += 1.0
    return X, y
