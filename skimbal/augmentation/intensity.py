"""Random changes of intensities."""

from collections.abc import Sequence

import torch
from torch import Tensor

from skimbal.augmentation.functions import Change, settle_blur, settle_gamma, settle_sigmoid
from skimbal.augmentation.random_change import RandomOfSome, check_bounds
from skimbal.exceptions import ParameterError
from skimbal.typing import is_number

__all__ = ["RandomGamma", "RandomGaussianBlur", "RandomSigmoidContrast"]


class _RandomIntensity(RandomOfSome):
    """Change the intensities of each image with some probability, by a number from a range."""

    #: Name of the range, and whether its values must be greater than 0.
    _name: str
    _positive: bool

    def __init__(self, bounds: Sequence[float], p: float) -> None:
        super().__init__(p)
        self.bounds = check_bounds(self._name, bounds, self._positive)

    def draw_each(self, images: Tensor) -> Tensor:
        """Draw a parameter for each image, of shape (n,)."""
        low, high = self.bounds
        return torch.rand(len(images), dtype=torch.float64) * (high - low) + low

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"{self._name}={self.bounds}, p={self.p}"


class RandomGamma(_RandomIntensity):
    """Raise the intensities of images to a random power.

    The images are changed by :func:`~skimbal.augmentation.adjust_gamma`.

    Parameters
    ----------
    gamma : (float, float), default=(0.5, 1.5)
        Range of the power, dimensionless, positive. It is drawn uniformly for each image.
    p : float, default=0.5
        Probability to change an image, in [0, 1].

    Raises
    ------
    ParameterError
        If ``gamma`` is not a range of positive numbers, or ``p`` is not a number in [0, 1].

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomGamma
    >>> RandomGamma(gamma=(2, 2), p=1)(torch.tensor([[[0.0, 0.5, 1.0]]]))
    tensor([[[0.0000, 0.2500, 1.0000]]])
    """

    _name, _positive = "gamma", True

    def __init__(self, gamma: Sequence[float] = (0.5, 1.5), p: float = 0.5) -> None:
        super().__init__(gamma, p)

    def settle_each(self, like: Tensor, draw: Tensor) -> Change:
        """Settle the change of every image, each by its parameter."""
        return settle_gamma(like, draw)


class RandomGaussianBlur(_RandomIntensity):
    """Blur images by a Gaussian of random width.

    The images are changed by :func:`~skimbal.augmentation.gaussian_blur`.

    Parameters
    ----------
    sigma : (float, float), default=(0, 1.5)
        Range of the standard deviation, in voxels, at least 0. It is drawn uniformly for each
        image.
    p : float, default=0.5
        Probability to blur an image, in [0, 1].

    Raises
    ------
    ParameterError
        If ``sigma`` is not a range of numbers from 0, or ``p`` is not a number in [0, 1].

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomGaussianBlur
    >>> RandomGaussianBlur(sigma=(1, 1), p=1)(torch.eye(3)[None, None]).diagonal(0, 2, 3)
    tensor([[[0.5024, 0.3417, 0.5024]]])
    """

    _name, _positive = "sigma", False

    def __init__(self, sigma: Sequence[float] = (0, 1.5), p: float = 0.5) -> None:
        super().__init__(sigma, p)

    def settle_each(self, like: Tensor, draw: Tensor) -> Change:
        """Settle the change of every image, each by its parameter."""
        return settle_blur(like, draw)


class RandomSigmoidContrast(_RandomIntensity):
    """Raise the contrast of images by a sigmoid of random gain.

    The images are changed by :func:`~skimbal.augmentation.adjust_sigmoid`.

    Parameters
    ----------
    gain : (float, float), default=(5, 10)
        Range of the gain, dimensionless, positive. It is drawn uniformly for each image.
    cutoff : float, default=0.5
        Centre of the sigmoid, as a share of the range of the intensities.
    p : float, default=0.5
        Probability to change an image, in [0, 1].

    Raises
    ------
    ParameterError
        If ``gain`` is not a range of positive numbers, ``cutoff`` is not a finite number, or ``p``
        is not a number in [0, 1].

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomSigmoidContrast
    >>> RandomSigmoidContrast(gain=(10, 10), p=1)(torch.tensor([[[0.0, 0.3, 1.0]]]))
    tensor([[[0.0067, 0.1192, 0.9933]]])
    """

    _name, _positive = "gain", True

    def __init__(
        self, gain: Sequence[float] = (5, 10), cutoff: float = 0.5, p: float = 0.5
    ) -> None:
        super().__init__(gain, p)
        if not is_number(cutoff):
            raise ParameterError("cutoff", "a finite number", cutoff)
        self.cutoff = cutoff

    def settle_each(self, like: Tensor, draw: Tensor) -> Change:
        """Settle the change of every image, each by its parameter."""
        return settle_sigmoid(like, draw, self.cutoff)

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"gain={self.bounds}, cutoff={self.cutoff}, p={self.p}"
