"""Random changes to whole batches of images on their device, with a draw for each image.

Every operation has two parts: a draw, and a function of images and draw without any randomness. The
CPU makes the draw, so that it is the same for every device.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from skimbal.exceptions import ParameterError
from skimbal.typing import ArrayLike, is_integer, is_number

__all__ = [
    "RECIPES",
    "AugmentSpec",
    "CenterCrop",
    "PerSample",
    "RandomCrop",
    "RandomFlip",
    "RandomGamma",
    "RandomGaussianBlur",
    "RandomSigmoidContrast",
    "adjust_gamma",
    "adjust_sigmoid",
    "crop",
    "flip",
    "gaussian_blur",
    "get_augmentation",
]


AugmentStep: TypeAlias = str | Callable[[Tensor], Any]
#: Values of ``augment=``: a name of :data:`~skimbal.augmentation.RECIPES`, a callable that maps a
#: batch of images to another, a list of these, or None.
AugmentSpec: TypeAlias = AugmentStep | Sequence[AugmentStep] | None


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror each image along its own choice of spatial axes.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in any dtype.
    flipped : bool Tensor of shape (n, n_spatial_axes)
        Which axes of which images to mirror.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        The images, in a new tensor.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import flip
    >>> flip(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([[True, False]]))
    tensor([[[[3, 4],
              [1, 2]]]])
    """
    images = images.clone()
    for axis, chosen in enumerate(flipped.unbind(1), start=2):
        if chosen.any():
            rows = chosen.nonzero()[:, 0].to(images.device)
            images[rows] = images[rows].flip(axis)
    return images


def adjust_gamma(images: Tensor, gamma: Tensor) -> Tensor:
    r"""Raise the intensities to a power, within the range of each channel of each image.

    An intensity :math:`x` in a channel of an image whose values go from :math:`a` to :math:`b`
    becomes :math:`a + (b - a) \left(\frac{x - a}{b - a}\right)^\gamma`. A constant channel stays as
    it is.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in a floating dtype and any unit.
    gamma : Tensor of shape (n,)
        Power for each image, dimensionless, positive: below 1 brightens, above 1 darkens.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        In the unit of the images, with the same range.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import adjust_gamma
    >>> adjust_gamma(torch.tensor([[[0.0, 5.0, 10.0]]]), torch.tensor([2.0]))
    tensor([[[ 0.0000,  2.5000, 10.0000]]])
    """
    low, extent = _range(images)
    # Rounding may leave a value a little below the lowest one, and its powers are not numbers.
    unit = ((images - low) / _not_zero(extent)).clamp_(0, 1)
    return unit.pow_(_per_image(gamma, images)).mul_(extent).add_(low)


def adjust_sigmoid(images: Tensor, gain: Tensor, cutoff: float = 0.5) -> Tensor:
    r"""Raise the contrast by a sigmoid, within the range of each channel of each image.

    An intensity :math:`x` in a channel of an image whose values go from :math:`a` to :math:`b`
    becomes :math:`a + (b - a) / (1 + \exp(g (u - \frac{x - a}{b - a})))`, with gain :math:`g` and
    cutoff :math:`u`. A constant channel stays as it is.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in a floating dtype and any unit.
    gain : Tensor of shape (n,)
        Steepness for each image, dimensionless.
    cutoff : float, default=0.5
        Centre of the sigmoid, as a share of the range.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        In the unit of the images. The lowest and the highest value move towards each other.

    References
    ----------
    Braun, G. J. and Fairchild, M. D. (1999). Image lightness rescaling using sigmoidal contrast
    enhancement functions. Journal of Electronic Imaging 8(4), 380-393.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import adjust_sigmoid
    >>> adjust_sigmoid(torch.tensor([[[0.0, 5.0, 10.0]]]), torch.tensor([10.0]))
    tensor([[[0.0669, 5.0000, 9.9331]]])
    """
    low, extent = _range(images)
    steepness = _per_image(gain, images)
    unit = ((images - low) / _not_zero(extent)).sub_(cutoff).mul_(steepness).sigmoid_()
    return unit.mul_(extent).add_(low)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur images by Gaussians, each with its width, along all spatial axes.

    The result is the same as of ``scipy.ndimage.gaussian_filter`` with its defaults: the kernel
    ends at four standard deviations, and an image is mirrored at its edges.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in a floating dtype and any unit.
    sigma : Tensor of shape (n,)
        Standard deviation for each image, in voxels, at least 0.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        In the unit of the images.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import gaussian_blur
    >>> gaussian_blur(torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]]), torch.tensor([0.5]))
    tensor([[[2.6387e-04, 1.0645e-01, 7.8657e-01, 1.0645e-01, 2.6387e-04]]])
    """
    kernels = _gaussian_kernels(sigma).to(images.dtype).to(images.device)
    radius = kernels.shape[1] // 2
    weights = kernels.reshape(*kernels.shape, *[1] * (images.ndim - 1)).unbind(1)
    for axis, size in enumerate(images.shape[2:], start=2):
        place = torch.arange(-radius, size + radius, device=images.device) % (2 * size)
        # The padding modes of torch do not repeat the voxel at the edge.
        padded = images.index_select(axis, torch.minimum(place, 2 * size - 1 - place))
        # A sum of shifted images: convolution by as many kernels as there are images is slower.
        images = padded.narrow(axis, 0, size) * weights[0]
        for tap, weight in enumerate(weights[1:], start=1):
            images.addcmul_(padded.narrow(axis, tap, size), weight)
    return images


def crop(images: Tensor, start: Tensor, size: Sequence[int]) -> Tensor:
    """Cut a window out of each image, each at its own place.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in a dtype that torch indexes.
    start : int64 Tensor of shape (n, n_spatial_axes)
        First voxel of the window along each axis.
    size : sequence of int
        Size of the window along each axis, in voxels.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        The windows, of the given size.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import crop
    >>> crop(torch.arange(6).reshape(1, 1, 6), torch.tensor([[3]]), [2])
    tensor([[[3, 4]]])
    """
    windows = images
    for axis, length in enumerate(size, start=2):
        windows = windows.unfold(axis, length, 1)  # a view: (n, c, *places, *size)
    rows = torch.arange(len(images), device=images.device)
    places: list[Any] = [place.to(images.device) for place in start.unbind(1)]
    return windows[(rows, slice(None), *places)]


class RandomFlip(nn.Module):
    """Mirror images at random, along each axis by itself.

    Parameters
    ----------
    axes : sequence of int, default=None
        Spatial axes, from 0, or from -1 backwards. If None, all spatial axes.
    p : float, default=0.5
        Probability to mirror an image along an axis, in [0, 1].

    Raises
    ------
    ParameterError
        If ``axes`` is not a list of integers, or ``p`` is not a number in [0, 1].

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomFlip
    >>> RandomFlip(axes=[-1], p=1)(torch.tensor([[[1, 2, 3]]]))
    tensor([[[3, 2, 1]]])
    """

    def __init__(self, axes: Sequence[int] | None = None, p: float = 0.5) -> None:
        super().__init__()
        if axes is not None and not (
            isinstance(axes, list | tuple) and all(is_integer(axis) for axis in axes)
        ):
            raise ParameterError("axes", "None or a list of integers", axes)
        self.axes = None if axes is None else tuple(axes)
        self.p = _probability(p)

    def draw(self, images: Tensor) -> Tensor:
        """Draw which axes of which images are mirrored, of shape (n, n_spatial_axes)."""
        n_axes = images.ndim - 2
        axes = range(n_axes) if self.axes is None else self.axes
        if not all(-n_axes <= axis < n_axes for axis in axes):
            raise ParameterError(
                "axes",
                f"spatial axes of the images, from {-n_axes} to {n_axes - 1}",
                self.axes,
                f"The images have shape {tuple(images.shape)}.",
            )
        wanted = torch.zeros(n_axes, dtype=torch.bool)
        wanted[list(axes)] = True
        return (torch.rand(len(images), n_axes) < self.p) & wanted

    def forward(self, images: Tensor) -> Tensor:
        """Mirror images of shape (n, c, ...)."""
        return flip(images, self.draw(images))

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"axes={self.axes}, p={self.p}"


class _RandomIntensity(nn.Module):
    """Change the intensities of each image with some probability, by a number from a range."""

    #: Name of the range, and whether its values must be greater than 0.
    _name: str
    _positive: bool

    def __init__(self, bounds: Sequence[float], p: float) -> None:
        super().__init__()
        self.bounds = _bounds(self._name, bounds, self._positive)
        self.p = _probability(p)

    def draw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the numbers of the images to change, and a parameter for each of these images."""
        rows = (torch.rand(len(images)) < self.p).nonzero()[:, 0]
        low, high = self.bounds
        # One for each image, so that later draws do not depend on the number of changed images.
        parameter = torch.rand(len(images), dtype=torch.float64) * (high - low) + low
        return rows, parameter[rows]

    def change(self, images: Tensor, parameter: Tensor) -> Tensor:
        """Change every one of these images, each by its parameter."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Change some of the images of shape (n, c, ...), in a floating dtype."""
        if not images.is_floating_point():
            raise TypeError(
                f"images for {type(self).__name__} must be in a floating dtype; got "
                f"{images.dtype}. Convert them first, with images.float()."
            )
        rows, parameter = self.draw(images)
        if len(rows) == 0:
            return images
        rows = rows.to(images.device)
        return images.index_copy(0, rows, self.change(images[rows], parameter))

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

    def change(self, images: Tensor, parameter: Tensor) -> Tensor:
        """Change every one of these images, each by its parameter."""
        return adjust_gamma(images, parameter)


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

    def change(self, images: Tensor, parameter: Tensor) -> Tensor:
        """Change every one of these images, each by its parameter."""
        return gaussian_blur(images, parameter)


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

    def change(self, images: Tensor, parameter: Tensor) -> Tensor:
        """Change every one of these images, each by its parameter."""
        return adjust_sigmoid(images, parameter, self.cutoff)

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"gain={self.bounds}, cutoff={self.cutoff}, p={self.p}"


class RandomCrop(nn.Module):
    """Cut a window out of each image, at a random place.

    Parameters
    ----------
    size : int or sequence of int
        Size of the window, in voxels, along every or along each axis.

    Raises
    ------
    ParameterError
        If ``size`` is not made of positive integers, or does not fit the images.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import RandomCrop
    >>> RandomCrop(24)(torch.zeros(5, 1, 32, 28)).shape
    torch.Size([5, 1, 24, 24])
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__()
        self.size = _crop_size(size)

    def draw(self, images: Tensor) -> Tensor:
        """Draw the first voxel of each window, of shape (n, n_spatial_axes)."""
        room = torch.tensor(_room(images, self.size))
        start = (torch.rand(len(images), len(room), dtype=torch.float64) * (room + 1)).long()
        return torch.minimum(start, room)  # rounding may give the end itself

    def forward(self, images: Tensor) -> Tensor:
        """Cut windows out of images of shape (n, c, ...)."""
        start = self.draw(images)
        return crop(images, start, _each_axis(self.size, start.shape[1]))

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"size={self.size}"


class CenterCrop(nn.Module):
    """Cut the window in the centre out of each image, without a copy.

    Parameters
    ----------
    size : int or sequence of int
        Size of the window, in voxels, along every or along each axis. If the centre lies between
        two voxels, the window begins at the first.

    Raises
    ------
    ParameterError
        If ``size`` is not made of positive integers, or does not fit the images.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import CenterCrop
    >>> CenterCrop(2)(torch.arange(5).reshape(1, 1, 5))
    tensor([[[1, 2]]])
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__()
        self.size = _crop_size(size)

    def forward(self, images: Tensor) -> Tensor:
        """Cut windows out of images of shape (n, c, ...)."""
        sizes = _each_axis(self.size, images.ndim - 2)
        for axis, (room, size) in enumerate(
            zip(_room(images, self.size), sizes, strict=True), start=2
        ):
            images = images.narrow(axis, room // 2, size)
        return images

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"size={self.size}"


class PerSample(nn.Module):
    """Apply a transform to one image after the other.

    Transforms of TorchIO and MONAI need this. The images are copied to the memory of the CPU, in
    which such transforms compute.

    Parameters
    ----------
    transform : callable
        Maps an image of shape (c, ...) to an image of the same shape, as a tensor or an array.

    Raises
    ------
    ParameterError
        If ``transform`` is not callable.

    Notes
    -----
    A transform that draws from the global generators of torch, numpy or Python is repeatable as it
    is. A transform with a method ``set_random_state(seed)``, as in MONAI, is seeded from torch's
    generator for each batch.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import PerSample
    >>> PerSample(lambda image: image.rot90(2, (1, 2)))(torch.arange(4).reshape(1, 1, 2, 2))
    tensor([[[[3, 2],
              [1, 0]]]])
    """

    def __init__(self, transform: Callable[[Tensor], ArrayLike]) -> None:
        super().__init__()
        if not callable(transform):
            raise ParameterError("transform", "callable with an image", transform)
        self.transform = transform

    def forward(self, images: Tensor) -> Tensor:
        """Transform images of shape (n, c, ...) one by one."""
        if hasattr(self.transform, "set_random_state"):
            self.transform.set_random_state(seed=int(torch.randint(2**31 - 1, ())))
        changed = [torch.as_tensor(self.transform(image)) for image in images.cpu()]
        # MONAI returns tensors of a subclass with metadata. These tensors are plain.
        return torch.stack([image.as_subclass(Tensor) for image in changed]).to(images)

    def extra_repr(self) -> str:
        """Return the transform, unless it is a module, which torch shows."""
        return "" if isinstance(self.transform, nn.Module) else repr(self.transform)


class _Function(nn.Module):
    """A callable among modules."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(images)

    def extra_repr(self) -> str:
        return repr(self.function)


def _flips(n_axes: int) -> list[nn.Module]:
    return [RandomFlip()]


def _paper(n_axes: int) -> list[nn.Module]:
    return [
        RandomGamma(),
        RandomGaussianBlur() if n_axes == 3 else RandomSigmoidContrast(),
        RandomFlip(),
    ]


#: Recipes that ``augment=`` knows by name: functions that map the number of spatial axes to another
#: value of ``augment=``, such as a list of modules. It is read when an augmentation is made, so a
#: row that is added is known to the classifiers, to studies and to the command line.
RECIPES: dict[str, Callable[[int], AugmentSpec]] = {"flip": _flips, "paper": _paper}


def get_augmentation(spec: AugmentSpec, n_axes: int) -> nn.Sequential | None:
    """Make a module that augments batches.

    Parameters
    ----------
    spec : None, str, callable, or list of str and callables
        Names are rows of :data:`~skimbal.augmentation.RECIPES`. ``"flip"`` mirrors along every axis
        with probability 0.5. ``"paper"`` is the recipe of Scholz et al. (2024), each step with
        probability 0.5: gamma from 0.5 to 1.5, then Gaussian blur with a standard deviation of up
        to 1.5 voxels (volumes) or sigmoid contrast with a gain from 5 to 10 (2D images), then
        flips along every axis. Callables, modules of torch among them, map a floating tensor of
        shape (n, c, ...) to a tensor of the same shape and dtype. The module holds copies of them.
        The entries of a list follow one another.
    n_axes : int
        Number of spatial axes.

    Returns
    -------
    augmentation : torch.nn.Sequential or None
        None if there is nothing to do.

    Raises
    ------
    ParameterError
        If ``spec`` is anything else. The error calls it ``augment``.

    References
    ----------
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
                f"Make an instance of {step.__name__}." if isinstance(step, type) else "",
            )


def _range(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest value and the range of each channel of each image."""
    axes = tuple(range(2, images.ndim))
    low = images.amin(axes, keepdim=True)
    return low, images.amax(axes, keepdim=True).sub_(low)


def _not_zero(extent: Tensor) -> Tensor:
    return torch.where(extent > 0, extent, 1)


def _per_image(parameter: Tensor, images: Tensor) -> Tensor:
    return parameter.to(images.dtype).to(images.device).reshape(-1, *[1] * (images.ndim - 1))


def _gaussian_kernels(sigma: Tensor) -> Tensor:
    """Return a kernel for each image, all with the taps of the widest, in float64."""
    sigma = sigma.cpu().double()[:, None]
    radius = (4 * sigma + 0.5).floor()
    tap = torch.arange(-int(radius.max()), int(radius.max()) + 1)
    # A width of zero has only the tap in the middle, so any divisor does.
    kernels = (-0.5 * (tap / torch.where(sigma > 0, sigma, 1)) ** 2).exp() * (tap.abs() <= radius)
    return kernels / kernels.sum(1, keepdim=True)


def _room(images: Tensor, size: int | tuple[int, ...]) -> list[int]:
    """Return by how much images exceed a window along each axis."""
    shape = images.shape[2:]
    room = [have - want for have, want in zip(shape, _each_axis(size, len(shape)), strict=True)]
    if min(room) < 0:
        raise ParameterError("size", f"at most the size {tuple(shape)} of the images", size)
    return room


def _each_axis(size: int | tuple[int, ...], n_axes: int) -> tuple[int, ...]:
    sizes = (size,) * n_axes if isinstance(size, int) else size
    if len(sizes) != n_axes:
        raise ParameterError(
            "size", f"one number, or one for each of the {n_axes} spatial axes of the images", size
        )
    return sizes


def _crop_size(size: int | Sequence[int]) -> int | tuple[int, ...]:
    if is_integer(size) and size > 0:
        return int(size)
    if isinstance(size, list | tuple) and size and all(is_integer(n) and n > 0 for n in size):
        return tuple(map(int, size))
    raise ParameterError("size", "a positive integer or a list of positive integers", size)


def _bounds(name: str, bounds: Sequence[float], positive: bool) -> tuple[float, float]:
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


def _probability(p: float) -> float:
    if not is_number(p) or not 0 <= p <= 1:
        raise ParameterError("p", "a number in [0, 1]", p)
    return float(p)
