"""The embedded data set."""

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch, check_random_state

from skimbal.datasets.arrays import Part
from skimbal.datasets.bunch import make_bunch
from skimbal.datasets.origin import Origin
from skimbal.datasets.splits import SPLITS
from skimbal.exceptions import ParameterError
from skimbal.typing import RandomState, is_integer

__all__ = ["load_imbalanced_digits"]


def load_imbalanced_digits(*, imbalance: float = 10.0, random_state: RandomState = 0) -> Bunch:
    """Load handwritten digits with two rare classes, without a file and without a network.

    The 8 x 8 images of :func:`sklearn.datasets.load_digits` become three classes, and the last
    two are thinned:

    ===== ========= ============== ==== ===== === ====
    class name      digits         all  train val test
    ===== ========= ============== ==== ===== === ====
    0     ``other`` 0 to 7         720  432   108 180
    1     ``eight`` 8              72   43    11  18
    2     ``nine``  9              72   43    11  18
    ===== ========= ============== ==== ===== === ====

    These are the counts for ``imbalance=10``. Each class is split 60 / 15 / 25 % at random, so the
    same writers are in all three parts. One image is 6 % of a rare class of the test part. Use
    this set to try things, not to draw conclusions.

    Parameters
    ----------
    imbalance : float, default=10.0
        Images of class 0 for each image of class 1 and of class 2, from 5 to 36.
    random_state : int, RandomState instance or None, default=0
        Draws the images and the split.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are listed in :mod:`skimbal.datasets`. ``X_*`` is uint8, 0 to 16, of shape
        (n, 8, 8).

    Raises
    ------
    ValueError
        If `imbalance` is outside 5 to 36.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> digits = load_imbalanced_digits()
    >>> digits.X_train.shape, digits.X_train.dtype
    ((518, 8, 8), dtype('uint8'))
    >>> digits.target_names, np.bincount(digits.y_train)
    (['other', 'eight', 'nine'], array([432,  43,  43]))
    """
    if not 5 <= imbalance <= 36:
        raise ParameterError("imbalance", "a number from 5 to 36", imbalance)
    rng = check_random_state(random_state)
    # The module imports the loaders of all data sets, which would make `import skimbal` slower.
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = np.maximum(digits.target - 7, 0)
    parts: dict[str, list[npt.NDArray[np.int64]]] = {split: [] for split in SPLITS}
    for label, count in enumerate((720, round(720 / imbalance), round(720 / imbalance))):
        rows = rng.permutation(np.flatnonzero(labels == label))[:count]
        cuts = [round(0.6 * count), round(0.75 * count)]
        for split, part in zip(SPLITS, np.split(rows, cuts), strict=True):
            parts[split].append(part)
    images = digits.images.astype(np.uint8)
    found: dict[str, Part] = {}
    for split in SPLITS:
        rows = rng.permutation(np.concatenate(parts[split]))
        found[split] = Part(images[rows], labels[rows], None, 2)
    return make_bunch(
        found,
        name="digits",
        filename=None,
        classes=np.arange(3),
        target_names=["other", "eight", "nine"],
        source=f"scikit-learn's load_digits, digits 8 and 9 thinned to 1 in {imbalance:g}",
        license="CC BY 4.0",
        citation="Alpaydin E., Kaynak C., Optical Recognition of Handwritten Digits, UCI Machine "
        "Learning Repository (1998), doi:10.24432/C50P49",
        # A generator that has drawn numbers draws others in another call.
        origin=Origin.of_call(
            load_imbalanced_digits, imbalance=imbalance, random_state=random_state
        )
        if is_integer(random_state)
        else None,
    )
