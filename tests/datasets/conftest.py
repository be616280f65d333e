"""Files of arrays."""

import numpy as np
import pytest


@pytest.fixture
def make_npz(tmp_path):
    def make(name="some.npz", **arrays):
        np.savez_compressed(tmp_path / name, **arrays)
        return tmp_path / name

    return make
