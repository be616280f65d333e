"""The size, spacing and channels that images are brought to."""

import pytest

from skimbal.images import guess_axes


@pytest.mark.parametrize(
    ("shape", "n_spatial", "last", "surely_last"),
    [
        ((5, 784), 2, False, False),
        ((5, 28, 28), 2, False, False),
        ((5, 28, 3), 2, False, True),
        ((5, 1, 28, 28), 2, False, False),
        ((5, 3, 28, 28), 2, False, False),
        ((5, 4, 28, 28), 3, False, False),
        ((5, 28, 28, 28), 3, False, False),
        ((5, 28, 28, 1), 3, True, True),
        ((5, 28, 28, 3), 3, True, True),
        ((5, 28, 28, 4), 3, False, True),
        ((5, 28, 4, 3), 3, True, False),
        ((5, 3, 28, 3), 2, True, False),
        ((5, 1, 28, 28, 28), 3, False, False),
        ((5, 28, 28, 28, 3), 3, False, True),
    ],
)
def test_axes_are_guessed(shape, n_spatial, last, surely_last):
    assert guess_axes(shape) == (n_spatial, last, surely_last)
