"""Mixtures of two images, whose labels are mixed, too."""

from collections.abc import Iterable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skimbal.exceptions import ParameterError
from skimbal.transfer import send
from skimbal.typing import ArrayLike, is_number

__all__ = ["MAMix", "MixDraw", "Mixup", "Remix", "divide_steps"]


class MixDraw(NamedTuple):
    """The pairs of a batch, and the shares of their first images and labels.

    Parameters
    ----------
    partner : Tensor of shape (n,)
        Row of the second image of each pair, int64, beside the labels. Row ``i`` has the first
        image.
    image_share : float
        Share of the first image in each mixed image, in [0, 1], dimensionless.
    label_share : Tensor of shape (n,)
        Share of the label of the first image, in [0, 1], dimensionless, beside the labels, in
        float64.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import Mixup
    >>> draw = Mixup().draw(torch.tensor([0, 0, 1, 1]))
    >>> sorted(draw.partner.tolist()), bool(0 <= draw.image_share <= 1)
    ([0, 1, 2, 3], True)
    """

    partner: Tensor
    image_share: float
    label_share: Tensor


class Mixup(nn.Module):
    r"""Mix each image of a batch with another one, and their labels by the same share.

    As the last entry of ``augment=``, it takes the images as the other entries have changed them.
    The loss of a mixed image is :math:`\lambda \ell(y_i) + (1 - \lambda) \ell(y_j)`.

    Parameters
    ----------
    alpha : float, default=1.0
        Parameter of the distribution Beta(alpha, alpha) of the share :math:`\lambda`,
        dimensionless, above 0. All shares are equally likely for 1. Small values mix little.

    Raises
    ------
    ParameterError
        If ``alpha`` is not a finite number above 0.

    Notes
    -----
    A mixed image is :math:`\lambda x_i + (1 - \lambda) x_j`, where :math:`j` is from a random
    permutation of the batch. As in the code of the authors, one :math:`\lambda` is drawn for each
    batch. Each image keeps the weight of its row: the part of its label counts by it.

    References
    ----------
    Zhang, H., Cisse, M., Dauphin, Y. N. and Lopez-Paz, D. (2018). mixup: Beyond empirical risk
    minimization. ICLR.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import Mixup
    >>> images, labels = torch.eye(4).reshape(4, 1, 2, 2), torch.tensor([0, 0, 1, 1])
    >>> mixed, pairs, shares = Mixup(alpha=0.4)(images, labels)
    >>> mixed.shape, pairs.shape, shares.sum(1).tolist()
    (torch.Size([4, 1, 2, 2]), torch.Size([4, 2]), [1.0, 1.0, 1.0, 1.0])
    """

    #: Whether a mixed image has more of the label of the rarer class than of its image.
    corrects_classes: ClassVar[bool] = False

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if not is_number(alpha) or alpha <= 0:
            raise ParameterError("alpha", "a finite number above 0", alpha)
        self.alpha = float(alpha)

    def count_classes(self, class_counts: ArrayLike) -> None:
        """Learn the number of training rows of each class, which this mix does not use."""

    def label_share(self, image_share: float, first: Tensor, second: Tensor) -> Tensor:
        """Return the share of the first label of each pair, of shape (n,), in float64."""
        return torch.full(first.shape, image_share, dtype=torch.float64, device=first.device)

    def draw(self, labels: Tensor) -> MixDraw:
        """Draw pairs and their shares from the generator of torch on the CPU."""
        # The Beta distribution of torch gives 0.5 where both of its gamma variates underflow, which
        # is the strongest mix for the smallest alpha. numpy gives 0 or 1 there.
        rng = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        image_share = float(rng.beta(self.alpha, self.alpha))
        partner = send(torch.randperm(len(labels)), labels.device)
        shares = self.label_share(image_share, labels, labels[partner])
        return MixDraw(partner, image_share, shares)

    def change(self, images: Tensor, draw: MixDraw) -> Tensor:
        """Mix images of shape (n, c, ...) by a draw, without any randomness."""
        others = images[send(draw.partner, images.device)]  # labels may be on the CPU
        return others.lerp_(images, draw.image_share)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mix images of shape (n, c, ...) and labels of shape (n,).

        Returns the mixed images, the two labels of each image, of shape (n, 2), and the shares of
        these labels, of shape (n, 2).
        """
        draw = self.draw(labels)
        pairs = torch.stack([labels, labels[draw.partner]], 1)
        shares = torch.stack([draw.label_share, 1 - draw.label_share], 1)
        return self.change(images, draw), pairs, shares.to(images)

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"alpha={self.alpha}"


class _CountingMix(Mixup):
    """A mix whose labels depend on the number of training rows of each class."""

    corrects_classes = True

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)
        self.class_counts: Tensor | None = None

    def count_classes(self, class_counts: ArrayLike) -> None:
        """Learn the number of training rows of each class, as a classifier says it."""
        counts = np.asarray(class_counts, dtype=np.float64)
        is_known = counts.ndim == 1 and np.isfinite(counts).all() and (counts >= 0).all()
        if not is_known or not counts.any():
            raise ParameterError(
                "class_counts", "a number of training rows for each class", class_counts
            )
        # A class without rows, of which partial_fit may see some, counts as the rarest.
        self.class_counts = torch.from_numpy(np.where(counts > 0, counts, counts[counts > 0].min()))

    def label_share(self, image_share: float, first: Tensor, second: Tensor) -> Tensor:
        """Return the share of the first label of each pair, of shape (n,), in float64."""
        if self.class_counts is None:
            raise RuntimeError(
                f"{type(self).__name__} must know the number of training rows of each class; got "
                "none. Call count_classes([n_0, n_1, ...]). A classifier does it in fit."
            )
        # The counts go to the labels, as to read labels of a device would wait for them.
        counts = send(self.class_counts, first.device)
        return self.share_by_counts(image_share, counts[first], counts[second])

    def share_by_counts(self, image_share: float, first: Tensor, second: Tensor) -> Tensor:
        """Return the share of the first label of pairs of classes with these counts."""
        raise NotImplementedError


class Remix(_CountingMix):
    r"""Mix images as ``Mixup`` does, and give the whole label to a class that is far rarer.

    With a share :math:`\lambda` of image :math:`i` in the mixed image, and :math:`n_i` training
    rows of its class, the share of its label is

    - 0 if :math:`n_i / n_j \ge \kappa` and :math:`\lambda < \tau`,
    - 1 if :math:`n_i / n_j \le 1 / \kappa` and :math:`1 - \lambda < \tau`,
    - :math:`\lambda` otherwise.

    Parameters
    ----------
    alpha : float, default=1.0
        As for :class:`~skimbal.augmentation.Mixup`.
    kappa : float, default=3.0
        Ratio of the numbers of training rows from which on a class is far rarer, dimensionless, at
        least 1.
    tau : float, default=0.5
        Largest share of the image of the common class whose label is left out, in [0, 1],
        dimensionless. 0 gives :class:`~skimbal.augmentation.Mixup`.

    Raises
    ------
    ParameterError
        If a parameter is out of range.

    References
    ----------
    Chou, H.-P., Chang, S.-C., Pan, J.-Y., Wei, W. and Juan, D.-C. (2020). Remix: Rebalanced mixup.
    ECCV Workshops.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import Remix
    >>> remix = Remix()
    >>> remix.count_classes([90, 10])
    >>> remix.label_share(0.4, torch.tensor([0, 1, 0]), torch.tensor([1, 0, 0])).tolist()
    [0.0, 0.4, 0.4]
    """

    def __init__(self, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5) -> None:
        super().__init__(alpha)
        if not is_number(kappa) or kappa < 1:
            raise ParameterError("kappa", "a finite number of at least 1", kappa)
        if not is_number(tau) or not 0 <= tau <= 1:
            raise ParameterError("tau", "a number in [0, 1]", tau)
        self.kappa, self.tau = float(kappa), float(tau)

    def share_by_counts(self, image_share: float, first: Tensor, second: Tensor) -> Tensor:
        """Return the share of the first label of pairs of classes with these counts."""
        share = torch.full(first.shape, image_share, dtype=torch.float64, device=first.device)
        # Where both cases hold, for classes of one size with kappa=1, the first one counts.
        if 1 - image_share < self.tau:
            share.masked_fill_(second >= self.kappa * first, 1)
        if image_share < self.tau:
            share.masked_fill_(first >= self.kappa * second, 0)
        return share

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"alpha={self.alpha}, kappa={self.kappa}, tau={self.tau}"


class MAMix(_CountingMix):
    r"""Mix images as ``Mixup`` does, and labels by the margins of the classes.

    Margin-aware mixup: two labels have equal shares where the mixed image is on the boundary
    between the margins :math:`\gamma_k = n_k^{-1/4}` of their classes, which are larger for rare
    classes. With a share :math:`\lambda` of image :math:`i` and
    :math:`b = \gamma_j / (\gamma_i + \gamma_j)`, the share of label :math:`i` is
    :math:`\lambda / 2b` for :math:`\lambda < b`, and :math:`1 - (1 - \lambda) / 2(1 - b)`
    otherwise.

    Parameters
    ----------
    alpha : float, default=1.0
        As for :class:`~skimbal.augmentation.Mixup`.

    Raises
    ------
    ParameterError
        If ``alpha`` is not a finite number above 0.

    References
    ----------
    Cheng, W.-C., Mai, T.-H. and Lin, H.-T. (2022). From SMOTE to mixup for deep imbalanced
    classification. TAAI.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import MAMix
    >>> mix = MAMix()
    >>> mix.count_classes([160, 10])
    >>> mix.label_share(2 / 3, torch.tensor([0, 1]), torch.tensor([1, 0])).round(decimals=3)
    tensor([0.5000, 0.7500], dtype=torch.float64)
    """

    def share_by_counts(self, image_share: float, first: Tensor, second: Tensor) -> Tensor:
        """Return the share of the first label of pairs of classes with these counts."""
        first, second = first**-0.25, second**-0.25
        boundary = second / (first + second)
        low, high = 0.5 * image_share / boundary, 1 - 0.5 * (1 - image_share) / (1 - boundary)
        return torch.where(image_share < boundary, low, high)


def divide_steps(steps: Iterable[nn.Module]) -> tuple[tuple[nn.Module, ...], tuple[Mixup, ...]]:
    """Divide the steps of an augmentation into changes of single images and a mix of images.

    Parameters
    ----------
    steps : iterable of torch.nn.Module
        Such as the result of :func:`~skimbal.augmentation.get_augmentation`.

    Returns
    -------
    changes : tuple of torch.nn.Module
        Steps that change each image by itself.
    mixes : tuple of Mixup
        The last step, if it mixes images, or an empty tuple.

    Raises
    ------
    ParameterError
        If a mix is not the last step, or a part of another one. The error calls it ``augment``.

    Examples
    --------
    >>> from skimbal.augmentation import Mixup, RandomFlip, divide_steps
    >>> divide_steps([RandomFlip(), Mixup()])
    ((RandomFlip(axes=None, p=0.5),), (Mixup(alpha=1.0),))
    """
    changes = tuple(steps)
    mixes = tuple(step for step in changes[-1:] if isinstance(step, Mixup))
    changes = changes[: len(changes) - len(mixes)]
    misplaced = [part for step in changes for part in step.modules() if isinstance(part, Mixup)]
    if misplaced:
        raise ParameterError(
            "augment",
            "a list whose last entry alone mixes images",
            misplaced[0],
            "A mix combines images that the other entries have changed. Write "
            "augment=['light', 'mixup'].",
        )
    return changes, mixes
