"""A random change: a draw for each image, and a function of images and draw."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from skimbal.exceptions import ParameterError
from skimbal.generators import generator_states, restore
from skimbal.typing import is_number

__all__ = [
    "OneOf",
    "RandomChange",
    "RandomOfSome",
    "alike",
    "check_bounds",
    "check_probability",
    "mirrored_axes",
]


class RandomChange(nn.Module):
    """A random change of images of shape (n, c, ...), each by its draw."""

    def mirrored_axes(self, n_axes: int) -> set[int]:
        """Return the spatial axes along which images may be mirrored, from 0."""
        return set()

    def draw(self, images: Tensor) -> Tensor:
        """Draw the parameters of each image, on the CPU. The first axis of the draw is n."""
        raise NotImplementedError

    def change(self, images: Tensor, draw: Tensor) -> Tensor:
        """Change the images by their draw, without any randomness."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Change images of shape (n, c, ...)."""
        return self.change(images, self.draw(images))


class RandomOfSome(RandomChange):
    """A random change of images in a floating dtype, each with some probability."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = check_probability(p)

    def draw(self, images: Tensor) -> Tensor:
        """Draw the parameters of each image: NaN if the image stays as it is."""
        chosen = torch.rand(len(images), dtype=torch.float32) < self.p
        # For all images, so that later draws do not depend on the number of changed images.
        draw = self.draw_each(images)
        draw[~chosen] = torch.nan
        return draw

    def draw_each(self, images: Tensor) -> Tensor:
        """Draw the parameters of each image as if all images were changed, in float64."""
        raise NotImplementedError

    def change(self, images: Tensor, draw: Tensor) -> Tensor:
        """Change some of the images."""
        if not images.is_floating_point():
            raise TypeError(
                f"images for {type(self).__name__} must be in a floating dtype; got "
                f"{images.dtype}. Convert them first, with images.float()."
            )
        stays = draw.isnan()[..., None].flatten(1).any(1)
        if stays.all():
            return images
        if not stays.any():
            return self.change_each(images, draw)
        rows = (~stays).nonzero()[:, 0]
        on_device = rows.to(images.device)
        return images.index_copy(0, on_device, self.change_each(images[on_device], draw[rows]))

    def change_each(self, images: Tensor, draw: Tensor) -> Tensor:
        """Change every one of these images, each by its parameters."""
        raise NotImplementedError


class OneOf(RandomChange):
    """Change each image by one of several modules, drawn for each image by itself.

    Parameters
    ----------
    steps : sequence of torch.nn.Module
        Modules that map a batch of images to a batch of the same shape and dtype. All have the same
        probability. :class:`torch.nn.Identity` leaves an image as it is.

    Raises
    ------
    ParameterError
        If ``steps`` is not a list of modules.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skimbal.augmentation import OneOf, RandomFlip
    >>> images = torch.tensor([[[1, 2]]]).expand(100, 1, 2)
    >>> OneOf([nn.Identity(), RandomFlip(p=1)])(images).unique(dim=0)
    tensor([[[1, 2]],
    <BLANKLINE>
            [[2, 1]]])
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        if not (
            isinstance(steps, list | tuple)
            and steps
            and all(isinstance(step, nn.Module) for step in steps)
        ):
            raise ParameterError("steps", "a list of modules", steps)
        self.steps = nn.ModuleList(steps)

    def mirrored_axes(self, n_axes: int) -> set[int]:
        """Return the spatial axes along which a module may mirror."""
        return mirrored_axes(self.steps, n_axes)

    def forward(self, images: Tensor) -> Tensor:
        """Change images of shape (n, c, ...)."""
        chosen, result = torch.randint(len(self.steps), (len(images),)), images.clone()
        for number, step in enumerate(self.steps):
            rows = (chosen == number).nonzero()[:, 0].to(images.device)
            if len(rows):
                result[rows] = step(images[rows])
        return result


def alike(step: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply one random change to all images: the draw for a single image, for each of them.

    The change of an image depends neither on the other images nor on their number.

    Parameters
    ----------
    step : callable
        A module of ``skimbal.augmentation``, whose draw is the same on every device, or another
        callable that maps a batch of images to a batch. Another callable gets one image after the
        other, with the generators of torch, numpy and Python in the same state before each.
    images : Tensor of shape (n, c, ...)
        Images.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        Changed images. The generators are in the state after a single image.

    Raises
    ------
    ValueError
        If another callable makes two images of the first image from the same generators.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomCrop, alike
    >>> images = torch.arange(9).expand(100, 1, 9)
    >>> len(alike(RandomCrop(3), images).unique(dim=0))
    1
    """
    if type(step) is nn.Sequential:
        for part in step:
            images = alike(part, images)
        return images
    # A subclass may do more in its forward than to draw and to change.
    if isinstance(step, RandomChange) and type(step).forward is RandomChange.forward:
        draw = step.draw(images[:1])
        return step.change(images, draw.expand(len(images), *draw.shape[1:]))
    states, changed = generator_states(images.device), []
    # A copy, as a callable may change the image in its place.
    first = step(images[:1].clone())
    for row in range(len(images)):
        restore(states, images.device)
        changed.append(step(images[row : row + 1]))
    if len(changed) and not torch.allclose(first, changed[0], rtol=1e-3, equal_nan=True):
        raise ValueError(
            "augment must make the same image from the same state of the generators of torch, "
            f"numpy and python in several passes; got two images of one from {step!r}. Let it draw "
            "from these generators, or set n_tta=1."
        )
    return torch.cat(changed)


def mirrored_axes(steps: Iterable[object], n_axes: int) -> set[int]:
    """Find the spatial axes along which an augmentation mirrors images.

    Parameters
    ----------
    steps : iterable
        Modules, such as the result of :func:`~skimbal.augmentation.get_augmentation`. Only modules
        of ``skimbal.augmentation`` count, also within a :class:`torch.nn.Sequential`.
    n_axes : int
        Number of spatial axes.

    Returns
    -------
    axes : set of int
        Axes, from 0.

    Examples
    --------
    >>> from skimbal.augmentation import RandomFlip, RandomGamma, mirrored_axes
    >>> mirrored_axes([RandomGamma(), RandomFlip(axes=[-1])], n_axes=3)
    {2}
    """
    axes: set[int] = set()
    for step in steps:
        if isinstance(step, RandomChange):
            axes |= step.mirrored_axes(n_axes)
        elif type(step) is nn.Sequential:
            axes |= mirrored_axes(step, n_axes)
    return axes


def check_bounds(name: str, bounds: Sequence[float], positive: bool) -> tuple[float, float]:
    """Check the range of a parameter."""
    if (
        not isinstance(bounds, list | tuple)
        or len(bounds) != 2
        or not all(map(is_number, bounds))
        or not 0 <= bounds[0] <= bounds[1]
        or (positive and bounds[0] == 0)
    ):
        least = "above 0" if positive else "of at least 0"
        raise ParameterError(name, f"a pair (lowest, highest) of finite numbers {least}", bounds)
    return float(bounds[0]), float(bounds[1])


def check_probability(p: float) -> float:
    """Check a probability."""
    if not is_number(p) or not 0 <= p <= 1:
        raise ParameterError("p", "a number in [0, 1]", p)
    return float(p)
