"""The learning rate in the course of a fit."""

import math
from collections.abc import Callable

__all__ = ["SCHEDULES", "cosine", "one_cycle"]


def cosine(progress: float) -> float:
    r"""Anneal the learning rate along half a cosine.

    Parameters
    ----------
    progress : float
        Share of the steps of the fit that have been trained, in [0, 1], dimensionless.

    Returns
    -------
    factor : float
        :math:`(1 + \cos \pi p) / 2` for progress :math:`p`, from 1 to 0, dimensionless.

    References
    ----------
    Loshchilov, I. and Hutter, F. (2017). SGDR: Stochastic gradient descent with warm restarts.
    ICLR.

    Examples
    --------
    >>> from skimbal.training.schedules import cosine
    >>> [round(cosine(progress), 3) for progress in (0, 0.5, 1)]
    [1.0, 0.5, 0.0]
    """
    return (1 + math.cos(math.pi * progress)) / 2


def one_cycle(progress: float) -> float:
    """Warm up over the first quarter of the steps, and anneal over the others.

    Both parts are halves of a cosine, as in :class:`torch.optim.lr_scheduler.OneCycleLR`: from 1/25
    to 1, and from 1 to 1/250,000.

    Parameters
    ----------
    progress : float
        Share of the steps of the fit that have been trained, in [0, 1], dimensionless.

    Returns
    -------
    factor : float
        From 1/250,000 to 1, dimensionless.

    References
    ----------
    Smith, L. N. and Topin, N. (2019). Super-convergence: Very fast training of neural networks
    using large learning rates. Proc. SPIE 11006.

    Examples
    --------
    >>> from skimbal.training.schedules import one_cycle
    >>> [round(one_cycle(progress), 3) for progress in (0, 0.25, 0.625, 1)]
    [0.04, 1.0, 0.5, 0.0]
    """
    if progress < 0.25:
        return 1 - (1 - 1 / 25) * cosine(4 * progress)
    last = 1 / 250_000
    return last + (1 - last) * cosine((progress - 0.25) / 0.75)


#: Schedules that ``lr_schedule=`` knows by name: the factor of the learning rate as a function of
#: the share of the steps of the fit that have been trained, in [0, 1]. It is read when a fit begins
#: and at each epoch, so a row that is added is known to the classifiers.
SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "one_cycle": one_cycle}
