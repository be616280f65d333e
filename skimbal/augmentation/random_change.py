"""A random change: a draw for each image, and a function of images and draw."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from skimbal.augmentation.functions import Change, in_turn
from skimbal.exceptions import ParameterError
from skimbal.generators import generator_states, restore
from skimbal.transfer import send
from skimbal.typing import is_number

__all__ = [
    "OneOf",
    "RandomChange",
    "RandomOfSome",
    "alike",
    "changed",
    "check_bounds",
    "check_probability",
    "draws_by_form",
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

    def settle(self, like: Tensor, draw: Tensor) -> Change:
        """Settle, on the CPU, all that follows from the draw and from the form of the images.

        ``like`` has their dtype and spatial shape, and may have other rows or no memory.
        """
        raise NotImplementedError

    def settled(self, like: Tensor) -> Change:
        """Draw for images of the shape and dtype of ``like``, which may have no memory."""
        return self.settle(like, self.draw(like))

    def change(self, images: Tensor, draw: Tensor) -> Tensor:
        """Change the images by their draw, without any randomness."""
        return self.settle(images, draw)(images)

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

    def settle(self, like: Tensor, draw: Tensor) -> Change:
        """Settle the change of some of the images."""
        if not like.is_floating_point():
            raise TypeError(
                f"images for {type(self).__name__} must be in a floating dtype; got "
                f"{like.dtype}. Convert them first, with images.float()."
            )
        stays = draw.isnan()[..., None].flatten(1).any(1)
        if stays.all():
            return _NO_CHANGE
        if not stays.any():
            return self.settle_each(like, draw)
        rows = (~stays).nonzero()[:, 0]
        change = self.settle_each(like, draw[rows])

        def apply(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
            chosen, *others = tensors
            return images.index_copy(0, chosen, change.apply(images[chosen], others))

        return Change([rows, *change.tensors], apply)

    def settle_each(self, like: Tensor, draw: Tensor) -> Change:
        """Settle the change of images that are all changed, each by its parameters."""
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

    def settled(self, like: Tensor) -> Change:
        """Draw for images of the shape and dtype of ``like``, which may have no memory."""
        shares = [
            (rows, _settled(step, _form(like, len(rows), like.shape[2:])))
            for step, rows in self._shares(like)
        ]

        def apply(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
            result, start = images.clone(), 0
            for _, change in shares:
                end = start + 1 + len(change.tensors)
                chosen, *others = tensors[start:end]
                result[chosen] = change.apply(images[chosen], others)
                start = end
            return result

        return Change([t for rows, change in shares for t in (rows, *change.tensors)], apply)

    def forward(self, images: Tensor) -> Tensor:
        """Change images of shape (n, c, ...)."""
        if draws_by_form(self):
            return self.settled(images)(images)
        result = images.clone()
        for step, rows in self._shares(images):
            chosen = send(rows, images.device)
            result[chosen] = step(images[chosen])
        return result

    def _shares(self, images: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        """Draw a step for each image, and yield the steps with their rows."""
        chosen = torch.randint(len(self.steps), (len(images),))
        for number, step in enumerate(self.steps):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                yield step, rows


def draws_by_form(step: Callable[[Tensor], Tensor]) -> bool:
    """Tell whether a step draws by the shape and dtype of images alone, before it has them.

    A subclass of a user may look at the pixels.
    """
    if isinstance(step, OneOf):
        return type(step) is OneOf and all(map(draws_by_form, step.steps))
    is_own = type(step).__module__.startswith(f"{__package__}.")
    return type(step) is nn.Identity or (isinstance(step, RandomChange) and is_own)


def changed(steps: Iterable[Callable[[Tensor], Tensor]], images: Tensor) -> Tensor:
    """Change images by one step after the other, each image by its draws.

    The draws of neighbouring steps of this package are made first, in the order of the steps. They
    go to the device by one copy, for which the host does not wait.
    """
    settled: list[Change] = []
    like = images
    for step in steps:
        if draws_by_form(step):
            change = _settled(step, like)
            settled.append(change)
            if change.size is not None:
                like = _form(like, len(like), change.size)
        else:
            images = step(in_turn(*settled)(images))
            if not hasattr(images, "is_cuda"):  # no tensor, which the trial of a fit refuses
                return images
            like, settled = images, []
    return in_turn(*settled)(images)


def _settled(step: Callable[[Tensor], Tensor], like: Tensor) -> Change:
    return step.settled(like) if isinstance(step, RandomChange) else _NO_CHANGE


def _form(like: Tensor, n_rows: int, size: Sequence[int]) -> Tensor:
    """Return a tensor without memory in the place of images."""
    return torch.empty((n_rows, like.shape[1], *size), dtype=like.dtype, device="meta")


#: The change of images that all stay as they are.
_NO_CHANGE = Change([], lambda images, tensors: images)


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
