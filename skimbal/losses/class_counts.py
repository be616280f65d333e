"""Vectors with an entry per class, made from the number of training rows of each class."""

import numpy as np

from skimbal.exceptions import ParameterError
from skimbal.typing import ArrayLike, is_number

__all__ = [
    "check_counts",
    "inverse_effective_number",
    "inverse_frequency",
    "log_prior",
    "relative_margins",
]


def inverse_frequency(class_counts: ArrayLike) -> np.ndarray:
    r"""Normalised inverse class frequency, :math:`w_k = s / (K t_k)`, :math:`s = \sum_k t_k`.

    Parameters
    ----------
    class_counts : array-like of shape (n_classes,)
        Number (or total weight) of rows per class, :math:`t`, in samples.

    Returns
    -------
    weight : ndarray of shape (n_classes,)
        Dimensionless, with mean 1 over the rows. A class without rows gets 0 and does not count
        towards :math:`K`.

    Raises
    ------
    ValueError
        If the counts are not one non-negative, finite number per class, or are all zero.

    Examples
    --------
    >>> from skimbal.losses import inverse_frequency
    >>> inverse_frequency([90, 10]).round(3).tolist()
    [0.556, 5.0]
    """
    counts = check_counts(class_counts)
    present = counts > 0
    weight = np.zeros_like(counts)
    weight[present] = counts.sum() / (present.sum() * counts[present])
    return weight


def inverse_effective_number(class_counts: ArrayLike, beta: float = 0.9999) -> np.ndarray:
    r"""Normalised inverse effective number of rows, :math:`w_k = a (1-\beta) / (1-\beta^{t_k})`.

    The effective number of :math:`t_k` rows, :math:`(1-\beta^{t_k}) / (1-\beta)`, saturates at
    :math:`1 / (1-\beta)`, as rows of a large class resemble one another (Cui et al., 2019).

    Parameters
    ----------
    class_counts : array-like of shape (n_classes,)
        Number (or total weight) of rows per class, :math:`t`, in samples.
    beta : float, default=0.9999
        Dimensionless, in [0, 1). 0 weighs all classes alike. Towards 1, the weights become the
        weights of :func:`inverse_frequency`.

    Returns
    -------
    weight : ndarray of shape (n_classes,)
        Dimensionless, with mean 1 over the rows, which fixes :math:`a`. A class without rows gets
        0. (In the paper, the weights have mean 1 over the classes. They are a multiple of these.)

    Raises
    ------
    ValueError
        If the counts are not one non-negative, finite number per class, or are all zero, or
        ``beta`` is not in [0, 1).

    References
    ----------
    Cui, Y., Jia, M., Lin, T.-Y., Song, Y. and Belongie, S. (2019). Class-balanced loss based on
    effective number of samples. CVPR.

    Examples
    --------
    >>> from skimbal.losses import inverse_effective_number
    >>> inverse_effective_number([90, 10]).round(3).tolist()
    [0.557, 4.99]
    """
    if not is_number(beta) or not 0 <= beta < 1:
        raise ParameterError("beta", "a number in [0, 1)", beta)
    counts = check_counts(class_counts)
    present = counts > 0
    weight = np.zeros_like(counts)
    with np.errstate(divide="ignore"):  # 0 to the power of a count is 0
        weight[present] = -1 / np.expm1(counts[present] * np.log(beta))
    normalised: np.ndarray = weight * (counts.sum() / (weight @ counts))
    return normalised


def log_prior(class_counts: ArrayLike) -> np.ndarray:
    r"""Logarithm of the class prior, :math:`\log (t_k / s)`, :math:`s = \sum_k t_k`.

    Parameters
    ----------
    class_counts : array-like of shape (n_classes,)
        Number (or total weight) of rows per class, :math:`t`, in samples, or their shares.

    Returns
    -------
    log_prior : ndarray of shape (n_classes,)
        Dimensionless, finite. A class without rows counts as the rarest one that has some.

    Raises
    ------
    ValueError
        If the counts are not one non-negative, finite number per class, or are all zero.

    Examples
    --------
    >>> from skimbal.losses import log_prior
    >>> log_prior([90, 10]).round(3).tolist()
    [-0.105, -2.303]
    """
    counts = check_counts(class_counts)
    result: np.ndarray = np.log(_fill_empty_classes(counts)) - np.log(counts.sum())
    return result


def _fill_empty_classes(counts: np.ndarray) -> np.ndarray:
    """Give classes without rows, of which partial_fit may see some, the count of the rarest."""
    return np.where(counts > 0, counts, counts[counts > 0].min())


def relative_margins(class_counts: ArrayLike) -> np.ndarray:
    """Compute margins in proportion to n^(-1/4), as in LDAM. The largest, of the rarest, is 1."""
    counts = _fill_empty_classes(check_counts(class_counts))
    relative: np.ndarray = (counts.min() / counts) ** 0.25
    return relative


def check_counts(class_counts: ArrayLike) -> np.ndarray:
    """Return the counts in float64, or refuse them."""
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise ParameterError(
            "class_counts",
            "one non-negative, finite number of rows per class, not all of them zero",
            class_counts,
        )
    return counts
