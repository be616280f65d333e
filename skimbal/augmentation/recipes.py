"""The recipes that classifiers know by name."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from skimbal.augmentation.geometry import RandomAffine, RandomFlip, RandomSymmetry
from skimbal.augmentation.intensity import (
    RandomGamma,
    RandomGaussianBlur,
    RandomSigmoidContrast,
)
from skimbal.augmentation.mixing import MAMix, Mixup, Remix, divide_steps
from skimbal.augmentation.random_change import OneOf
from skimbal.augmentation.windows import RandomErasing
from skimbal.exceptions import ParameterError
from skimbal.habits import advice_on_value

__all__ = ["RECIPES", "AugmentSpec", "get_augmentation"]

AugmentStep: TypeAlias = str | Callable[[Tensor], Any]
#: Values of ``augment=``: a name of :data:`~skimbal.augmentation.RECIPES`, a callable that maps a
#: batch of images to another, a list of these, or None.
AugmentSpec: TypeAlias = AugmentStep | Sequence[AugmentStep] | None


class _Function(nn.Module):
    """A callable among modules."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(images)

    def extra_repr(self) -> str:
        return repr(self.function)


def _light(n_axes: int) -> list[nn.Module]:
    return [RandomAffine(), RandomGamma()]


def _strong(n_axes: int) -> list[nn.Module]:
    return [
        RandomAffine(degrees=20, translate=0.15, scale=(0.8, 1.25)),
        RandomGamma(),
        RandomGaussianBlur(sigma=(0, 1)),
        RandomErasing(),
    ]


def _symmetries(n_axes: int) -> list[nn.Module]:
    return [RandomSymmetry()]


def _trivial(n_axes: int) -> list[nn.Module]:
    return [
        OneOf(
            [
                nn.Identity(),
                RandomAffine(degrees=30, translate=0, scale=(1, 1)),
                RandomAffine(degrees=0, translate=0.3, scale=(1, 1)),
                RandomAffine(degrees=0, translate=0, scale=(0.7, 1.4)),
                RandomGamma(gamma=(0.4, 2), p=1),
                RandomSigmoidContrast(p=1),
                RandomGaussianBlur(p=1),
                RandomErasing(p=1),
            ]
        )
    ]


def _flips(n_axes: int) -> list[nn.Module]:
    return [RandomFlip()]


def _paper(n_axes: int) -> list[nn.Module]:
    return [
        RandomGamma(),
        RandomGaussianBlur() if n_axes == 3 else RandomSigmoidContrast(),
        RandomFlip(),
    ]


def _mixup(n_axes: int) -> list[nn.Module]:
    return [Mixup()]


def _remix(n_axes: int) -> list[nn.Module]:
    return [Remix()]


def _mamix(n_axes: int) -> list[nn.Module]:
    return [MAMix()]


#: Recipes that ``augment=`` knows by name: functions that map the number of spatial axes to another
#: value of ``augment=``, such as a list of modules. It is read when an augmentation is made, so a
#: row that is added is known to the classifiers, to studies and to the command line.
RECIPES: dict[str, Callable[[int], AugmentSpec]] = {
    "light": _light,
    "strong": _strong,
    "trivial": _trivial,
    "flip": _flips,
    "symmetries": _symmetries,
    "paper": _paper,
    "mixup": _mixup,
    "remix": _remix,
    "mamix": _mamix,
}


def get_augmentation(spec: AugmentSpec, n_axes: int) -> nn.Sequential | None:
    """Make a module that augments batches.

    Parameters
    ----------
    spec : None, str, callable, or list of str and callables
        Names are rows of :data:`~skimbal.augmentation.RECIPES`:

        - ``"light"``: rotations of up to 10 degrees, shifts of up to 8 % and scales from 0.9 to 1.1
          (:class:`~skimbal.augmentation.RandomAffine`), then gamma from 0.5 to 1.5 with
          probability 0.5. No mirror images, which may swap left and right.
        - ``"strong"``: rotations of up to 20 degrees, shifts of up to 15 % and scales from 0.8 to
          1.25, then gamma as above, Gaussian blur with a standard deviation of up to one voxel and
          an erased box, each with probability 0.5. No mirror images.
        - ``"trivial"``: in the manner of Müller and Hutter (2021), each image gets one of eight
          changes, of random strength: none, a rotation of up to 30 degrees, a shift of up to 30 %,
          a scale from 0.7 to 1.4, gamma from 0.4 to 2, sigmoid contrast with a gain from 5 to 10,
          Gaussian blur with a standard deviation of up to 1.5 voxels, or an erased box. No mirror
          images.
        - ``"flip"``: mirrors along every axis with probability 0.5.
        - ``"symmetries"``: all turns by 90 degrees and mirror images, of which a square has 8 and a
          cube 48.
        - ``"paper"``: the recipe of Scholz et al. (2024), each step with probability 0.5: gamma
          from 0.5 to 1.5, then Gaussian blur with a standard deviation of up to 1.5 voxels
          (volumes) or sigmoid contrast with a gain from 5 to 10 (2D images), then flips along every
          axis.
        - ``"mixup"``: mixes each image, and its label, with another one of the batch
          (:class:`~skimbal.augmentation.Mixup`).
        - ``"remix"``: the same, and gives the label to the class that is far rarer
          (:class:`~skimbal.augmentation.Remix`).
        - ``"mamix"``: the same, and mixes labels by the margins of the classes
          (:class:`~skimbal.augmentation.MAMix`).

        Callables, modules of torch among them, map a floating tensor of shape (n, c, ...) to a
        tensor of the same shape and dtype. The module holds copies of them. The entries of a list
        follow one another. The last entry alone may mix images, as in ``["light", "mixup"]``.
    n_axes : int
        Number of spatial axes.

    Returns
    -------
    augmentation : torch.nn.Sequential or None
        None if there is nothing to do. A mix of images, which is its last step then, needs labels
        and is called by itself (see :func:`~skimbal.augmentation.divide_steps`).

    Raises
    ------
    ParameterError
        If ``spec`` is anything else, or mixes images in another place. The error calls it
        ``augment``.

    References
    ----------
    Müller, S. G. and Hutter, F. (2021). TrivialAugment: tuning-free yet state-of-the-art data
    augmentation. ICCV, 774-782.

    Scholz, D. et al. (2024). Imbalance-aware loss functions improve medical image
    classification. MIDL, PMLR 250, 1341-1356.

    Examples
    --------
    >>> from skimbal.augmentation import get_augmentation
    >>> get_augmentation("paper", n_axes=3)
    Sequential(
      (0): RandomGamma(gamma=(0.5, 1.5), p=0.5)
      (1): RandomGaussianBlur(sigma=(0.0, 1.5), p=0.5)
      (2): RandomFlip(axes=None, p=0.5)
    )
    """
    steps = list(_steps(spec, n_axes))
    divide_steps(steps)
    return nn.Sequential(*steps) if steps else None


def _steps(spec: object, n_axes: int) -> Iterator[nn.Module]:
    """Yield a module for each step."""
    if spec is None:
        return
    for step in spec if isinstance(spec, list | tuple) else [spec]:
        if isinstance(step, str) and step in RECIPES:
            yield from _steps(RECIPES[step](n_axes), n_axes)
        elif isinstance(step, nn.Module):
            yield copy.deepcopy(step).train()
        elif callable(step) and not isinstance(step, type):
            yield _Function(copy.deepcopy(step))
        else:
            raise ParameterError(
                "augment",
                f"None, {', '.join(map(repr, RECIPES))}, a callable that maps a tensor of shape "
                "(n, c, ...) to another, or a list of these",
                step,
                f"Make an instance of {step.__name__}."
                if isinstance(step, type)
                else advice_on_value("augment", step, RECIPES),
            )
